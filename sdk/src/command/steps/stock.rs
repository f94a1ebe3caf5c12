//! The cpus and gpus that the steps of a task's script share, as far as they are known.

use phalanx_protocol::Sharing;
use phalanx_protocol::message::host::{HostCommand, Place};
use phalanx_protocol::resources::GPU;
use rustix::thread::{CpuSet, sched_getaffinity};

use super::NodeStock;

/// Gpus of another node that are counted.
const GPUS_MAX: usize = 1024;

impl NodeStock {
    /// What a task has that runs here.
    pub(in crate::command) fn of_task(command: &HostCommand, place: Option<&Place>) -> Self {
        let pinned = place.map(|place| place.cpus.clone()).unwrap_or_default();
        let (count, known) = match command.request.sharing {
            Sharing::Anybody | Sharing::OwnJob => (command.request.cpus, pinned),
            // all of its worker, which may have them all
            Sharing::Nobody if pinned.is_empty() => (command.worker_cpus, own_cpus()),
            Sharing::Nobody => (command.worker_cpus, pinned),
        };
        let gpus = place.map_or(&[][..], |place| &place.gpus);
        let kinds = gpus.iter().map(|gpu| gpu.kind.clone());
        Self::new(count, known, kinds.collect())
    }

    /// What a task has that runs on another node, where nobody says which cpus and gpus these are.
    pub(in crate::command) fn elsewhere(command: &HostCommand) -> Self {
        let gpus = command.request.named.get(GPU).map_or(0, |gpus| gpus.wholes());
        let gpus = usize::try_from(gpus).unwrap_or_default().min(GPUS_MAX);
        Self::new(command.request.cpus, Vec::new(), vec![None; gpus])
    }

    /// So many, and which if those that are known are as many.
    fn new(count: u32, mut known: Vec<u32>, gpus: Vec<Option<String>>) -> Self {
        if known.len() != count as usize {
            known.clear();
        }
        Self {
            count: count.max(1),
            numbers: known,
            gpus,
        }
    }
}

/// The cpus that this process may use, ascending.
fn own_cpus() -> Vec<u32> {
    let Ok(set) = sched_getaffinity(None) else {
        return Vec::new();
    };
    let numbers = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu));
    numbers.filter_map(|cpu| u32::try_from(cpu).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use bytes::Bytes;
    use phalanx_protocol::Request;
    use phalanx_protocol::message::host::HostParameters;

    use super::*;

    fn command(cpus: u32, sharing: Sharing, worker_cpus: u32) -> HostCommand {
        HostCommand {
            plan: HostParameters::Inline(Bytes::new()),
            array: None,
            user: String::new(),
            worker: String::new(),
            request: Request {
                cpus,
                sharing,
                ..Request::default()
            },
            worker_cpus,
            worker_has_gpus: false,
            task_time_limit_millis: None,
            scratch: PathBuf::new(),
        }
    }

    fn place(cpus: &[u32]) -> Place {
        Place {
            number: 1,
            cpus: cpus.to_vec(),
            gpus: Vec::new(),
        }
    }

    #[test]
    fn cpus_are_known_if_the_task_was_told_as_many_as_it_has() {
        let of = |command: &HostCommand, cpus: &[u32]| {
            let found = NodeStock::of_task(command, Some(&place(cpus)));
            (found.count, found.numbers)
        };
        let shared = command(2, Sharing::Anybody, 8);
        assert_eq!(of(&shared, &[4, 6]), (2, vec![4, 6]));
        assert_eq!(of(&shared, &[]), (2, vec![]));
        // of a worker that offers more than there are
        assert_eq!(of(&shared, &[4]), (2, vec![]));
    }

    #[test]
    fn a_task_without_neighbours_has_all_cpus_of_its_worker() {
        let own = own_cpus();
        let count = own.len() as u32;
        let all = NodeStock::of_task(&command(1, Sharing::Nobody, count), None);
        assert_eq!((all.count, all.numbers), (count, own));
        let part = NodeStock::of_task(&command(1, Sharing::Nobody, count + 1), None);
        assert_eq!((part.count, part.numbers), (count + 1, vec![]));
    }
}
