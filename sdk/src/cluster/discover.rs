//! Which cluster is meant, and where its schedulers are: the environment, the cluster directory, the member cards.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use phalanx_storage::members::addresses_at;
use phalanx_transport::ClusterDirectory;
use phalanx_transport::directory::DIRECTORY_VARIABLE;

use crate::error::ClusterError;

/// Says where schedulers are: `host:port`, several separated by commas.
pub(crate) const SCHEDULER_VARIABLE: &str = "PHALANX_SCHEDULER";

/// What the environment says about the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Environment {
    directory: Option<PathBuf>,
    schedulers: Option<String>,
}

impl Environment {
    pub(super) fn of_this_process() -> Self {
        Self::read(|variable| std::env::var_os(variable))
    }

    /// Empty variables count as absent.
    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        Self {
            directory: set(DIRECTORY_VARIABLE).map(PathBuf::from),
            schedulers: set(SCHEDULER_VARIABLE).map(|text| text.to_string_lossy().into_owned()),
        }
    }

    /// Whether somebody said which cluster is meant.
    pub(super) fn is_explicit(&self) -> bool {
        self.directory.is_some() || self.schedulers.is_some()
    }

    /// The cluster directory.
    pub(super) fn root(&self) -> Result<PathBuf, ClusterError> {
        match &self.directory {
            Some(directory) => Ok(directory.clone()),
            None => Ok(ClusterDirectory::default_root()?),
        }
    }

    /// Where the cluster's schedulers are; at least one address.
    pub(super) fn addresses(&self, directory: &ClusterDirectory) -> Result<Vec<SocketAddr>, ClusterError> {
        let told: Vec<String> = match &self.schedulers {
            Some(list) => list.split(',').map(|text| text.trim().to_owned()).collect(),
            None => directory.config.schedulers.clone(),
        };
        if !told.is_empty() {
            return resolve(&told);
        }
        let addresses = resolve(&addresses_at(&directory.storage_path()))?;
        match addresses.is_empty() {
            true => Err(ClusterError::NoScheduler {
                root: directory.root.clone(),
            }),
            false => Ok(addresses),
        }
    }
}

/// All addresses of all hosts. Blocks while names are looked up.
fn resolve(texts: &[String]) -> Result<Vec<SocketAddr>, ClusterError> {
    let mut addresses = Vec::new();
    for text in texts {
        let found = text.to_socket_addrs().map_err(|cause| ClusterError::BadAddress {
            text: text.clone(),
            cause,
        })?;
        for address in found {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use phalanx_storage::members::{Card, ProcessMark};
    use phalanx_storage::{Directory, Members};
    use phalanx_transport::NewCluster;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    fn lab(schedulers: &[&str]) -> (tempfile::TempDir, ClusterDirectory) {
        let temporary = tempfile::tempdir().unwrap();
        let new = NewCluster {
            schedulers: schedulers.iter().map(|&text| text.to_owned()).collect(),
            ..NewCluster::default()
        };
        let directory = ClusterDirectory::create(&temporary.path().join("lab"), &new).unwrap();
        (temporary, directory)
    }

    #[test]
    fn the_environment_goes_before_the_directory() {
        let (_temporary, directory) = lab(&["127.0.0.1:1"]);
        let told = environment(&[("PHALANX_SCHEDULER", "127.0.0.1:2, 127.0.0.1:3")]);
        let expected: Vec<SocketAddr> = vec!["127.0.0.1:2".parse().unwrap(), "127.0.0.1:3".parse().unwrap()];
        assert_eq!(told.addresses(&directory).unwrap(), expected);
        let silent = environment(&[("PHALANX_SCHEDULER", ""), ("PHALANX_CLUSTER", "")]);
        assert!(told.is_explicit() && !silent.is_explicit());
        assert_eq!(
            silent.addresses(&directory).unwrap(),
            ["127.0.0.1:1".parse().unwrap()]
        );
    }

    #[test]
    fn without_addresses_the_member_cards_tell() {
        let (_temporary, directory) = lab(&[]);
        let silent = environment(&[]);
        let error = silent.addresses(&directory).unwrap_err();
        assert!(matches!(error, ClusterError::NoScheduler { .. }));
        assert!(
            !directory.storage_path().exists(),
            "looking for cards must not create storage"
        );
        let members = Members::new(Arc::new(Directory::open(directory.storage_path()).unwrap()));
        let mut card = Card {
            name: "s1".to_owned(),
            addresses: vec!["127.0.0.1:4".to_owned()],
            counter: 0,
            process: ProcessMark::of_this_process(),
            term: None,
            is_candidate: false,
        };
        members.beat(&mut card).unwrap();
        assert_eq!(
            silent.addresses(&directory).unwrap(),
            ["127.0.0.1:4".parse().unwrap()]
        );
    }

    #[test]
    fn a_bad_address_is_named() {
        let (_temporary, directory) = lab(&[]);
        let error = environment(&[("PHALANX_SCHEDULER", "nonsense")])
            .addresses(&directory)
            .unwrap_err();
        assert_eq!(error.to_string(), "`nonsense` is not the address of a scheduler");
        assert!(error.hint().unwrap().contains("host:port"));
    }
}
