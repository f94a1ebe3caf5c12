//! `phalanx init`: makes a cluster directory.

use std::path::{Path, absolute};

use phalanx_protocol::exit::ExitCode;
use phalanx_transport::{ClusterDirectory, NewCluster};

use crate::args::GlobalArguments;
use crate::args::daemon::InitArguments;
use crate::cluster::root;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document};
use crate::ui::error::CliError;

pub(super) fn run(global: &GlobalArguments, arguments: InitArguments, ui: Ui) -> Result<ExitCode, CliError> {
    let root = match arguments.directory {
        Some(directory) => directory,
        None => root(global)?,
    };
    arguments
        .schedulers
        .iter()
        .try_for_each(|text| check_address(text))?;
    let mut new = NewCluster {
        schedulers: arguments.schedulers,
        ..NewCluster::default()
    };
    if let Some(storage) = arguments.storage {
        new.storage = storage;
    }
    if !arguments.users.is_empty() {
        new.users = arguments.users;
    }
    let made = make(&root, &new)?;
    let content = Content::Cluster {
        directory: made.root.display().to_string(),
        id: &made.config.cluster,
        storage: made.storage_path().display().to_string(),
        schedulers: &made.config.schedulers,
    };
    ui.data(&Document::new(content), |_| text(&made, &new.users))?;
    Ok(ExitCode::Success)
}

/// Makes a cluster directory; what is told of it holds wherever it is read.
pub(super) fn make(root: &Path, new: &NewCluster) -> Result<ClusterDirectory, CliError> {
    let root = absolute(root).unwrap_or_else(|_| root.to_owned());
    Ok(ClusterDirectory::create(&root, new)?)
}

/// Names are not looked up here: the machine may not exist yet.
fn check_address(text: &str) -> Result<(), CliError> {
    let is_address = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    match is_address {
        true => Ok(()),
        false => Err(
            CliError::usage(format!("`{text}` is not the address of a scheduler"))
                .hint("give it as host:port, as in head1:7878"),
        ),
    }
}

fn text(made: &ClusterDirectory, users: &[String]) -> String {
    let root = made.root.display();
    let schedulers = match made.config.schedulers.as_slice() {
        [] => "found through the storage".to_owned(),
        some => some.join(", "),
    };
    format!(
        "made the cluster directory {root}\n  \
           cluster.toml  id {}\n                schedulers: {schedulers}\n                storage: {}\n  \
           ca.pem        the authority's certificate\n  \
           ca.key        the authority itself: whoever has it can join\n  \
           credentials/  scheduler, worker, admin, and of users: {}\n\
         \n\
         next, on this machine:  phalanx scheduler --cluster {root}\n\
         and on each node:       phalanx worker --cluster DIR\n\
         with cluster.toml and credentials/worker.pem copied to DIR\n",
        made.config.cluster,
        made.storage_path().display(),
        users.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::OutputForm;

    fn arguments(directory: &Path) -> InitArguments {
        InitArguments {
            directory: Some(directory.to_owned()),
            storage: Some("/nfs/lab".into()),
            schedulers: vec!["head:7878".to_owned()],
            users: vec!["ada".to_owned()],
        }
    }

    fn init(arguments: InitArguments) -> Result<ExitCode, CliError> {
        let global = GlobalArguments {
            cluster: None,
            scheduler: vec![],
            output: OutputForm::Human,
        };
        run(&global, arguments, Ui::new(OutputForm::Human))
    }

    #[test]
    fn a_directory_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("lab");
        assert_eq!(init(arguments(&root)), Ok(ExitCode::Success));
        let made = ClusterDirectory::open(&root).unwrap();
        assert_eq!(made.storage_path(), Path::new("/nfs/lab"));
        assert_eq!(made.config.schedulers, ["head:7878"]);
        let error = init(arguments(&root)).unwrap_err();
        assert_eq!(error.code(), ExitCode::Usage);
        assert_eq!(ClusterDirectory::open(&root).unwrap(), made);
    }

    #[test]
    fn an_address_without_a_port_is_refused_before_anything_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("lab");
        for text in ["head", "head:", ":7878", "head:0", "head:99999"] {
            let schedulers = vec![text.to_owned()];
            let error = init(InitArguments {
                schedulers,
                ..arguments(&root)
            });
            assert_eq!(error.unwrap_err().code(), ExitCode::Usage, "{text}");
        }
        assert!(!root.exists());
    }
}
