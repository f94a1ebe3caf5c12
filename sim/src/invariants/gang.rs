//! GANG: the ranks of a gang are granted together, every one once, and again only after a record says that what ran before
//! does not count, of one that respawns those of which it says so; a gang succeeds only if the ranks that ended were of one start.

use std::collections::BTreeMap;

use phalanx_protocol::gang::OnLoss;
use phalanx_protocol::{IndexRange, JobId, JobSpec, RangeSet, Term};

use crate::invariants::{Entry, Ledger};
use crate::worker::port_of;

/// A worker is told where the hosts of a gang are.
pub(crate) fn met(epoch: u32, addresses: &[String]) {
    for (node, address) in (0..).zip(addresses) {
        let port = port_of(epoch, node);
        assert!(
            address.ends_with(&format!(":{port}")),
            "GANG: host {node} of epoch {epoch} is not at {address}"
        );
    }
}

#[derive(Debug, Default)]
pub(crate) struct Gangs {
    /// The term in which each gang's ranks were last granted, and how many requeues its leader knew of.
    granted: BTreeMap<JobId, (Term, usize)>,
}

impl Gangs {
    /// A leader grants ranks of a gang, in answer to one thing that happened: all of them, or of one that respawns those that were
    /// requeued since. One that was deposed and has not noticed may grant what its successor has: workers do not obey it (TERM).
    pub(crate) fn granted(&mut self, ledger: &Ledger, term: Term, job: JobId, ranges: &[IndexRange]) {
        let entry = ledger.jobs.get(&job);
        let Entry { spec, requeues, .. } =
            entry.expect("GANG: a gang starts before it is durable that there is one");
        let mut ranks = RangeSet::new();
        for &range in ranges {
            assert!(
                ranks.pieces(range).is_empty(),
                "GANG: {range} of job {job} is granted twice at once"
            );
            ranks.insert(range);
        }
        let before = self.granted.get(&job).copied();
        let known = requeues.iter().take_while(|(of, _)| *of <= term).count();
        let again = before.map_or(0, |(_, before)| before.min(known));
        let void = requeues[again..known].iter().flat_map(|(_, tasks)| tasks.iter());
        let all = RangeSet::from(IndexRange::new(0, spec.tasks));
        let wanted = match before {
            Some(_) if respawns(spec) => void.collect(),
            Some(_) | None => all,
        };
        assert!(
            ranks == wanted || before.is_some_and(|(granted_in, _)| term < granted_in),
            "GANG: only {ranks} of the ranks {wanted} of job {job} are granted",
        );
        if before.is_some_and(|(granted_in, _)| term < granted_in) {
            return;
        }
        self.granted.insert(job, (term, known));
        assert!(
            before.is_none_or(|(_, before)| before < known),
            "GANG: job {job} starts again, and what ran before counts"
        );
    }
}

/// Whether only those ranks of a gang start again that it loses.
fn respawns(spec: &JobSpec) -> bool {
    let gang = spec.gang.as_ref();
    gang.is_some_and(|gang| gang.on_loss == OnLoss::Respawn)
}
