//! GANG: the ranks of a gang are granted together, every one once, and again only after a record says that what ran before
//! does not count; a gang succeeds only if the ranks that ended were of one start.

use std::collections::BTreeMap;

use phalanx_protocol::{IndexRange, JobId, RangeSet, Term};

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
    /// The term in which each gang's ranks were last granted, and how often they had been requeued by then.
    granted: BTreeMap<JobId, (Term, u32)>,
}

impl Gangs {
    /// A leader grants ranks of a gang, in answer to one thing that happened. One that was deposed and has not noticed may grant
    /// what its successor has: workers do not obey it (TERM).
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
        let all = IndexRange::new(0, spec.tasks);
        assert!(
            ranks.contains_range(all),
            "GANG: only {ranks} of the {} ranks of job {job} are granted",
            spec.tasks
        );
        let before = self.granted.get(&job).copied();
        if before.is_some_and(|(granted_in, _)| term < granted_in) {
            return;
        }
        self.granted.insert(job, (term, *requeues));
        assert!(
            before.is_none_or(|(_, before)| before < *requeues),
            "GANG: job {job} starts again, and what ran before counts"
        );
    }
}
