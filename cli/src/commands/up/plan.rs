//! Which processes there are to be, and what each gets of this machine.

use std::ffi::OsString;
use std::path::PathBuf;

use phalanx_protocol::Resources;
use phalanx_transport::ClusterDirectory;

use super::member::{Member, Persistence};
use crate::args::daemon::UpArguments;
use crate::process::machine_name;

/// How long a worker's tasks have to end when the cluster stops: Ctrl-C should not take long.
const WORKER_GRACE: &str = "1s";

/// What each worker gets: this machine's cpus and memory split evenly, the first ones getting what remains.
pub(super) fn share(machine: &Resources, arguments: &UpArguments) -> Vec<Resources> {
    let workers = arguments.workers.max(1);
    (0..workers)
        .map(|index| Resources {
            cpus: arguments.cpus.unwrap_or_else(|| {
                let rest = u32::from(index < machine.cpus % workers);
                (machine.cpus / workers + rest).max(1)
            }),
            memory_bytes: arguments
                .memory
                .unwrap_or(machine.memory_bytes / u64::from(workers)),
            named: arguments
                .resources
                .iter()
                .map(|resource| (resource.name.clone(), resource.count))
                .collect(),
        })
        .collect()
}

/// Which processes there are to be.
pub(super) struct Plan<'a> {
    pub(super) program: PathBuf,
    pub(super) directory: ClusterDirectory,
    pub(super) share: Vec<Resources>,
    pub(super) arguments: &'a UpArguments,
}

impl Plan<'_> {
    fn member(&self, name: String, persistence: Persistence, arguments: Vec<OsString>) -> Member {
        let mut all: Vec<OsString> = ["--output", "json", "--cluster"].map(OsString::from).to_vec();
        all.push(self.directory.root.clone().into());
        all.extend(arguments);
        all.extend(["--with-parent".into(), std::process::id().to_string().into()]);
        Member {
            name,
            program: self.program.clone(),
            arguments: all,
            persistence,
        }
    }

    pub(super) fn scheduler(&self) -> Member {
        let listen = self.arguments.listen.to_string();
        let arguments = ["scheduler", "--name", &machine_name(), "--listen", &listen].map(OsString::from);
        self.member("scheduler".to_owned(), Persistence::Once, arguments.to_vec())
    }

    pub(super) fn workers(&self, scheduler: &str) -> Vec<Member> {
        let machine = machine_name();
        let worker = |(index, share): (usize, &Resources)| {
            let name = format!("{machine}-{}", index + 1);
            let (cpus, memory) = (share.cpus.to_string(), share.memory_bytes.to_string());
            let mut arguments: Vec<OsString> = [
                "worker",
                "--scheduler",
                scheduler,
                "--name",
                &name,
                "--cpus",
                &cpus,
                "--memory",
                &memory,
                "--grace",
                WORKER_GRACE,
            ]
            .map(OsString::from)
            .to_vec();
            arguments.extend([
                "--cache".into(),
                self.directory.root.join("cache").join(&name).into(),
            ]);
            for (resource, count) in &share.named {
                arguments.extend(["--resource".into(), format!("{resource}={count}").into()]);
            }
            self.member(name, Persistence::Restarted, arguments)
        };
        self.share.iter().enumerate().map(worker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::values::NamedResource;

    fn arguments(workers: u32) -> UpArguments {
        UpArguments {
            workers,
            cpus: None,
            memory: None,
            resources: vec![],
            listen: "127.0.0.1:0".parse().unwrap(),
        }
    }

    fn machine() -> Resources {
        Resources {
            cpus: 8,
            memory_bytes: 16 << 30,
            ..Resources::default()
        }
    }

    fn cpus(arguments: &UpArguments) -> Vec<u32> {
        share(&machine(), arguments).iter().map(|one| one.cpus).collect()
    }

    #[test]
    fn the_machine_is_split_evenly_and_nobody_gets_nothing() {
        assert_eq!(cpus(&arguments(1)), [8]);
        assert_eq!(cpus(&arguments(3)), [3, 3, 2]);
        assert_eq!(cpus(&arguments(9)), [1; 9]);
        assert_eq!(share(&machine(), &arguments(4))[3].memory_bytes, 4 << 30);
    }

    #[test]
    fn what_is_asked_for_each_worker_is_given() {
        let arguments = UpArguments {
            cpus: Some(5),
            memory: Some(1 << 20),
            resources: vec![NamedResource {
                name: "gpu".to_owned(),
                count: 2,
            }],
            ..arguments(2)
        };
        for one in share(&machine(), &arguments) {
            assert_eq!((one.cpus, one.memory_bytes, one.named["gpu"]), (5, 1 << 20, 2));
        }
    }
}
