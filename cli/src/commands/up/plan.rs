//! Which processes there are to be, and what each gets of this machine.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use phalanx_protocol::Resources;
use phalanx_transport::ClusterDirectory;

use super::member::{Kind, Label, Member};
use crate::args::daemon::UpArguments;
use crate::args::placement::MachinePart;
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
                .map(|resource| (resource.name.clone(), resource.amount))
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
    fn member(&self, kind: Kind, name: String, arguments: Vec<OsString>) -> Member {
        let mut all: Vec<OsString> = ["--output", "json", "--cluster"].map(OsString::from).to_vec();
        all.push(self.directory.root.clone().into());
        all.extend(arguments);
        all.extend(["--with-parent".into(), std::process::id().to_string().into()]);
        Member {
            label: Label { kind, name },
            program: self.program.clone(),
            arguments: all,
            listen: None,
        }
    }

    /// The first has the machine's name, as the only one of a machine has it.
    pub(super) fn schedulers(&self) -> Vec<Member> {
        let machine = machine_name();
        let scheduler = |index: u32| {
            let name = match index {
                0 => machine.clone(),
                _ => format!("{machine}-{}", index + 1),
            };
            let arguments = ["scheduler", "--name", &name].map(OsString::from).to_vec();
            Member {
                listen: Some(listen_of(self.arguments.listen, index)),
                ..self.member(Kind::Scheduler, name, arguments)
            }
        };
        (0..self.arguments.schedulers.max(1)).map(scheduler).collect()
    }

    /// The workers, who begin with these schedulers: addresses separated by commas.
    pub(super) fn workers(&self, schedulers: &str) -> Vec<Member> {
        let machine = machine_name();
        let worker = |(index, share): (usize, &Resources)| {
            let name = format!("{machine}-{}", index + 1);
            let (cpus, memory) = (share.cpus.to_string(), share.memory_bytes.to_string());
            let mut arguments: Vec<OsString> = [
                "worker",
                "--scheduler",
                schedulers,
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
            for (resource, amount) in &share.named {
                arguments.extend(["--resource".into(), format!("{resource}={amount}").into()]);
            }
            for gpus in self.arguments.gpus.iter().flatten() {
                arguments.extend(["--gpus".into(), gpus.to_string().into()]);
            }
            let part = MachinePart {
                index,
                count: self.share.len(),
            };
            arguments.extend(["--part".into(), part.to_string().into()]);
            self.member(Kind::Worker, name, arguments)
        };
        self.share.iter().enumerate().map(worker).collect()
    }
}

/// Where one of several schedulers listens: at any port if it may be any, else each at the next one.
fn listen_of(mut first: SocketAddr, index: u32) -> String {
    let port = u32::from(first.port());
    if port > 0 {
        first.set_port(u16::try_from(port + index).unwrap_or_default());
    }
    first.to_string()
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
            gpus: None,
            resources: vec![],
            schedulers: 1,
            listen: "127.0.0.1:0".parse().unwrap(),
            detach: false,
            in_background: false,
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
    fn schedulers_listen_at_ports_in_a_row() {
        let at = |address: &str, index| listen_of(address.parse().unwrap(), index);
        assert_eq!(at("0.0.0.0:7878", 2), "0.0.0.0:7880");
        assert_eq!(at("127.0.0.1:0", 2), "127.0.0.1:0");
        assert_eq!(at("127.0.0.1:65535", 1), "127.0.0.1:0");
    }

    #[test]
    fn what_is_asked_for_each_worker_is_given() {
        let arguments = UpArguments {
            cpus: Some(5),
            memory: Some(1 << 20),
            resources: vec![NamedResource {
                name: "gpu".to_owned(),
                amount: 2.into(),
            }],
            ..arguments(2)
        };
        for one in share(&machine(), &arguments) {
            assert_eq!(
                (one.cpus, one.memory_bytes, one.named["gpu"]),
                (5, 1 << 20, 2.into())
            );
        }
    }
}
