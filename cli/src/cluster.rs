//! Which cluster is meant, where its schedulers are, and the connection to one: for every command that asks something.
//!
//! The command line goes before the environment (clap sees to that), both before the cluster directory, and that before
//! the member cards on the cluster's storage.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use phalanx::{Client, ClientError, ClientOptions};
use phalanx_protocol::exit::ExitCode;
use phalanx_protocol::message::client::Refusal;
use phalanx_storage::members::addresses_at;
use phalanx_transport::{ClusterDirectory, ConnectError, Credential, DirectoryError, Role};

use crate::args::GlobalArguments;
use crate::ui::error::CliError;

const UP_HINT: &str =
    "`phalanx up` starts a cluster on this machine; --cluster DIR or PHALANX_CLUSTER names another one";

/// The cluster that is meant.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) directory: ClusterDirectory,
    /// Addresses from the command line or the environment.
    told: Vec<String>,
}

/// Where addresses came from, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Told,
    Config,
    Cards,
}

/// The cluster directory, whether it exists or not.
pub(crate) fn root(global: &GlobalArguments) -> Result<PathBuf, CliError> {
    let root = match &global.cluster {
        Some(root) if !root.as_os_str().is_empty() => root.clone(),
        Some(_) | None => ClusterDirectory::default_root()?,
    };
    // what is told about it is to hold in other folders too
    Ok(std::path::absolute(&root).unwrap_or(root))
}

impl Site {
    /// Reads the cluster directory.
    pub(crate) fn open(global: &GlobalArguments) -> Result<Self, CliError> {
        let directory = ClusterDirectory::open(&root(global)?)?;
        let told = global.scheduler.iter().map(|text| text.trim().to_owned());
        Ok(Self {
            directory,
            told: told.filter(|text| !text.is_empty()).collect(),
        })
    }

    /// A role's credential.
    pub(crate) fn credential(&self, role: Role) -> Result<Credential, CliError> {
        Ok(self.directory.credential(role)?)
    }

    /// Where schedulers may be now; perhaps nowhere. Blocks while names are looked up.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>, CliError> {
        Ok(self.find_addresses()?.0)
    }

    fn find_addresses(&self) -> Result<(Vec<SocketAddr>, Origin), CliError> {
        let (texts, origin) = if !self.told.is_empty() {
            (self.told.clone(), Origin::Told)
        } else if !self.directory.config.schedulers.is_empty() {
            (self.directory.config.schedulers.clone(), Origin::Config)
        } else {
            (addresses_at(&self.directory.storage_path()), Origin::Cards)
        };
        Ok((resolve(&texts)?, origin))
    }

    /// Connects as the user, or the admin, whose credential is in the directory.
    pub(crate) async fn connect(&self, role: Role) -> Result<Connected, CliError> {
        let root = self.directory.root.display();
        let (addresses, origin) = self.find_addresses()?;
        if addresses.is_empty() {
            let what = format!("the cluster `{root}` is not running: its storage shows no scheduler");
            let storage = self.directory.storage_path();
            return Err(CliError::new(ExitCode::Unreachable, what)
                .detail(format!("looked for member cards in `{}`", storage.display()))
                .hint(UP_HINT));
        }
        let credential = self.credential(role)?;
        let user = credential.identity().name.clone();
        match Client::connect(&addresses, &credential, ClientOptions::default()).await {
            Ok(client) => Ok(Connected { client, user }),
            Err(ClientError::Connect(error)) => {
                Err(unreachable(&root.to_string(), &error, &addresses, origin))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A connection, and who asks on it.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) client: Client,
    pub(crate) user: String,
}

fn resolve(texts: &[String]) -> Result<Vec<SocketAddr>, CliError> {
    let mut addresses = Vec::new();
    for text in texts {
        let found = text.to_socket_addrs().map_err(|cause| {
            CliError::usage(format!("`{text}` is not the address of a scheduler: {cause}"))
                .hint("give it as host:port, as in head1:7878")
        })?;
        for address in found {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    Ok(addresses)
}

fn unreachable(root: &str, error: &ConnectError, addresses: &[SocketAddr], origin: Origin) -> CliError {
    let what = format!("no scheduler of the cluster `{root}` can be reached");
    let tried: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let origin = match origin {
        Origin::Told => "as --scheduler or PHALANX_SCHEDULER says",
        Origin::Config => "as its cluster.toml says",
        Origin::Cards => "as the cards on its storage say",
    };
    let told = CliError::new(ExitCode::Unreachable, what)
        .detail(format!("tried {}, {origin}", tried.join(", ")))
        .detail(crate::ui::error::chain(error));
    match error.is_permanent() {
        true => told.hint(error.hint()),
        false => told.hint(UP_HINT),
    }
}

impl From<DirectoryError> for CliError {
    fn from(error: DirectoryError) -> Self {
        match &error {
            DirectoryError::Absent { .. } => Self::from_chain(ExitCode::Unreachable, &error).hint(UP_HINT),
            DirectoryError::Exists { .. } => Self::from_chain(ExitCode::Usage, &error).hint(error.hint()),
            DirectoryError::Malformed { .. }
            | DirectoryError::BadId { .. }
            | DirectoryError::OtherCluster { .. }
            | DirectoryError::Identity(_)
            | DirectoryError::File { .. }
            | DirectoryError::NoRandomness
            | DirectoryError::NoHome => Self::from_chain(ExitCode::Unreachable, &error).hint(error.hint()),
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Refused(refusal) => of_refusal(refusal),
            ClientError::Connect(cause) => Self::from_chain(ExitCode::Unreachable, &error).hint(cause.hint()),
            ClientError::Lost { .. } => Self::from_chain(ExitCode::Unreachable, &error)
                .hint("what was asked may have been done: `phalanx jobs` tells once a scheduler answers"),
            ClientError::Credential(_) | ClientError::Ended(_) => {
                Self::from_chain(ExitCode::Unreachable, &error)
            }
            ClientError::File { .. } => Self::from_chain(ExitCode::Usage, &error),
            ClientError::Protocol(_) | ClientError::Stopped => Self::from_chain(ExitCode::Internal, &error),
        }
    }
}

fn of_refusal(refusal: &Refusal) -> CliError {
    let told = |code| CliError::from_chain(code, refusal);
    match refusal {
        Refusal::NoSuchJob(_) => {
            told(ExitCode::Usage).hint("`phalanx jobs --all` lists those that there are")
        }
        Refusal::NoSignals(_) => {
            told(ExitCode::Usage).hint("`phalanx cancel` ends it, as its kernels see by `is_cancelled`")
        }
        Refusal::NotYours { .. } => told(ExitCode::Unreachable).hint("its owner or an admin may do that"),
        Refusal::Spec(_) => told(ExitCode::Usage),
        Refusal::TooLarge { .. } => {
            let what = format!("the job cannot ever start: {refusal}");
            CliError::new(ExitCode::JobBroken, what)
                .hint("ask for less, or start a larger worker; `phalanx workers` lists what each has")
        }
        Refusal::Storage { .. } => told(ExitCode::Internal)
            .hint("free space or mend the storage; nothing that was acknowledged is lost"),
        Refusal::Full { .. } => told(ExitCode::Unreachable).hint("try again once other jobs have ended"),
        Refusal::Role { .. } | Refusal::NotLeader { .. } => told(ExitCode::Unreachable),
        Refusal::AdminOnly => told(ExitCode::Unreachable).hint("ask an admin of the cluster"),
        Refusal::NoSuchWorker(_) => {
            told(ExitCode::Usage).hint("`phalanx workers` lists those that there are")
        }
        Refusal::NothingToRetry { .. }
        | Refusal::Over(_)
        | Refusal::NoSuchDependency(_)
        | Refusal::NothingToRequeue { .. }
        | Refusal::NoSuchElement { .. }
        | Refusal::Unpaired { .. }
        | Refusal::NothingRuns { .. }
        | Refusal::NoSuchSignal(_)
        | Refusal::NoSuchTask { .. } => told(ExitCode::Usage),
        Refusal::BlobMissing(_) | Refusal::BlobDamaged(_) => {
            told(ExitCode::Internal).hint("try again; if it goes on, the storage loses files")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::OutputForm;
    use crate::ui::style::Style;
    use phalanx_protocol::{JobId, Request, Resources};
    use phalanx_transport::NewCluster;

    fn global(root: PathBuf, scheduler: &[&str]) -> GlobalArguments {
        GlobalArguments {
            cluster: Some(root),
            scheduler: scheduler.iter().map(|&text| text.to_owned()).collect(),
            output: OutputForm::Human,
        }
    }

    #[test]
    fn an_absent_directory_leads_to_phalanx_up() {
        let error = Site::open(&global("/does/not/exist".into(), &[])).unwrap_err();
        assert_eq!(
            error.render(Style::Plain),
            format!("error: there is no cluster directory `/does/not/exist`\n\nhint: {UP_HINT}\n")
        );
        assert_eq!(error.code(), ExitCode::Unreachable);
    }

    #[tokio::test]
    async fn a_cluster_that_does_not_run_is_told_with_where_it_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("lab");
        ClusterDirectory::create(&root, &NewCluster::default()).unwrap();
        let site = Site::open(&global(root.clone(), &[])).unwrap();
        let error = site.connect(Role::User).await.unwrap_err();
        let root = root.display();
        assert_eq!(
            error.render(Style::Plain),
            format!(
                "error: the cluster `{root}` is not running: its storage shows no scheduler\n  \
                 looked for member cards in `{root}/storage`\n\nhint: {UP_HINT}\n"
            )
        );
    }

    #[test]
    fn the_command_line_goes_before_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("lab");
        let new = NewCluster {
            schedulers: vec!["127.0.0.1:1".to_owned()],
            ..NewCluster::default()
        };
        ClusterDirectory::create(&root, &new).unwrap();
        let addresses = |told: &[&str]| Site::open(&global(root.clone(), told)).unwrap().addresses();
        assert_eq!(addresses(&[]).unwrap(), ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!(
            addresses(&["127.0.0.1:2", " "]).unwrap(),
            ["127.0.0.1:2".parse().unwrap()]
        );
        let error = addresses(&["nonsense"]).unwrap_err();
        assert_eq!(error.code(), ExitCode::Usage);
    }

    #[test]
    fn refusals_have_a_next_step_and_an_exit_code() {
        let refused = |refusal| CliError::from(ClientError::Refused(refusal));
        let error = refused(Refusal::NoSuchJob(JobId(9)));
        assert_eq!(
            error.render(Style::Plain),
            "error: there is no job 9\n\nhint: `phalanx jobs --all` lists those that there are\n"
        );
        let error = refused(Refusal::TooLarge {
            needs: vec![Request {
                cpus: 64,
                ..Request::default()
            }],
            largest: Resources {
                cpus: 48,
                ..Resources::default()
            },
        });
        assert_eq!(
            error.render(Style::Plain),
            "error: the job cannot ever start: each task needs 64 cpus, the largest worker has 48 cpus\n\n\
             hint: ask for less, or start a larger worker; `phalanx workers` lists what each has\n"
        );
        assert_eq!(error.code(), ExitCode::JobBroken);
    }
}
