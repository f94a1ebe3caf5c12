//! Limits of processes (`setrlimit`).

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::capture::resource;

/// The limits of a job's tasks that are not those of this process.
#[derive(Debug)]
pub(super) struct Changes(Vec<(Resource, Rlimit)>);

impl Changes {
    /// What has to be changed to have `wanted`: see [`phalanx_protocol::CommandPlan::limits`].
    pub(super) fn to(wanted: &[(u32, u64, u64)]) -> Self {
        Self(wanted.iter().filter_map(|&wanted| change(wanted)).collect())
    }

    /// Whether there is nothing to be changed.
    pub(super) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Limits what a process may use.
    pub(super) fn apply(&self, command: &mut Command) {
        apply(command, self.0.clone());
    }
}

/// The limit to be set; `None` if it is so already, or no limit that is known.
fn change((number, soft, hard): (u32, u64, u64)) -> Option<(Resource, Rlimit)> {
    let resource = resource(number)?;
    let some = |limit: u64| (limit != u64::MAX).then_some(limit);
    let now = getrlimit(resource);
    // no more than this process may have can be given
    let least = |left: Option<u64>, right: Option<u64>| left.into_iter().chain(right).min();
    let maximum = least(some(hard), now.maximum);
    let wanted = Rlimit {
        current: least(some(soft), maximum),
        maximum,
    };
    (wanted != now).then_some((resource, wanted))
}

#[expect(
    unsafe_code,
    reason = "limits belong to the process that is started, and are set before its program begins"
)]
fn apply(command: &mut Command, changes: Vec<(Resource, Rlimit)>) {
    let set = move || {
        for (resource, limit) in &changes {
            setrlimit(*resource, *limit)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made: no memory is allocated, no lock is taken.
    unsafe {
        command.pre_exec(set);
    }
}
