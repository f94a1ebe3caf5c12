//! Who may use how much of this worker, and invariant SLOT: what all hosts may be using never exceeds the capacity.
//!
//! Every kernel host that serves a job has a seat: the slots that the scheduler wants for it, those the host was told,
//! and those it may really be using. A lowering counts only once the host confirms it, since its tasks run on until
//! then; a raise waits for the room that others' confirmed lowerings leave. So two schedulers, or one that changed its
//! mind, can't oversubscribe the node. At most one change per host is unconfirmed: a late confirmation can then never
//! be taken for that of a newer change. Pure: the caller sends what the methods return.

use std::collections::BTreeMap;

use phalanx_protocol::{Request, Resources};

use crate::agent::HostId;

/// The slots of this worker.
#[derive(Debug)]
pub(crate) struct Ledger {
    capacity: Resources,
    seats: BTreeMap<HostId, Seat>,
}

#[derive(Debug)]
struct Seat {
    request: Request,
    wanted: u32,
    told: u32,
    /// The host has said that it can run no more than this.
    able: u32,
    /// At most this many tasks run in the host, whatever it has read of what it was told.
    used: u32,
    /// The host has not yet answered the last change.
    unconfirmed: bool,
    /// The host is closing its job: it is told nothing more and keeps what it uses until it has.
    closing: bool,
}

/// A change that a host must be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tell {
    /// The host.
    pub(crate) host: HostId,
    /// How many tasks it may run at a time.
    pub(crate) slots: u32,
}

impl Seat {
    fn reserved(&self) -> u32 {
        self.told.max(self.used)
    }

    fn due(&self) -> u32 {
        self.wanted.min(self.able)
    }

    fn may_change(&self) -> bool {
        !self.unconfirmed && !self.closing
    }

    fn tell(&mut self, slots: u32) {
        self.told = slots;
        self.used = self.used.max(slots);
        self.unconfirmed = true;
    }
}

impl Ledger {
    /// An empty ledger of a worker with that capacity.
    pub(crate) fn new(capacity: Resources) -> Self {
        Self {
            capacity,
            seats: BTreeMap::new(),
        }
    }

    /// Gives a host a seat, without slots, for tasks that need `request` each.
    pub(crate) fn opened(&mut self, host: HostId, request: Request) {
        let seat = Seat {
            request,
            wanted: 0,
            told: 0,
            able: u32::MAX,
            used: 0,
            unconfirmed: false,
            closing: false,
        };
        let before = self.seats.insert(host, seat);
        debug_assert!(before.is_none(), "a host serves one job at a time");
    }

    /// Notes how many slots the scheduler wants for the host's job.
    pub(crate) fn set_wanted(&mut self, host: HostId, slots: u32) -> Vec<Tell> {
        if let Some(seat) = self.seats.get_mut(&host) {
            seat.wanted = slots;
        }
        self.settle()
    }

    /// Notes a host's word that it runs at most `slots` tasks from now on.
    pub(crate) fn confirmed(&mut self, host: HostId, slots: u32) -> Vec<Tell> {
        if let Some(seat) = self.seats.get_mut(&host) {
            // more than it was told is a lowering that is half done; fewer is all that it can do
            if slots < seat.told {
                (seat.told, seat.able) = (slots, slots);
            }
            seat.used = seat.used.min(slots);
            seat.unconfirmed &= slots != seat.told;
        }
        self.settle()
    }

    /// Notes that a host was told to close its job: it keeps what it uses until [`Ledger::closed`].
    pub(crate) fn closing(&mut self, host: HostId) {
        if let Some(seat) = self.seats.get_mut(&host) {
            seat.closing = true;
        }
    }

    /// Frees the seat of a host that closed its job, or died.
    pub(crate) fn closed(&mut self, host: HostId) -> Vec<Tell> {
        self.seats.remove(&host);
        self.settle()
    }

    /// Asserts invariant SLOT.
    ///
    /// # Panics
    /// If it does not hold.
    pub(crate) fn check(&self) {
        let _ = self.free();
    }

    /// What no seat may be using; taking the reservations away asserts SLOT.
    fn free(&self) -> Resources {
        let mut free = self.capacity.clone();
        self.seats
            .values()
            .for_each(|seat| free.take(&seat.request, seat.reserved()));
        free
    }

    /// Lowers at once, then raises the oldest hosts first as far as there is room.
    fn settle(&mut self) -> Vec<Tell> {
        let mut tells = Vec::new();
        for (&host, seat) in &mut self.seats {
            if seat.may_change() && seat.due() < seat.told {
                seat.tell(seat.due());
                tells.push(Tell {
                    host,
                    slots: seat.told,
                });
            }
        }
        let mut free = self.free();
        for (&host, seat) in &mut self.seats {
            if !seat.may_change() || seat.due() <= seat.told {
                continue;
            }
            let raise = (seat.due() - seat.told).min(free.slots(&seat.request));
            if raise > 0 {
                free.take(&seat.request, raise);
                seat.tell(seat.told + raise);
                tells.push(Tell {
                    host,
                    slots: seat.told,
                });
            }
        }
        tells
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const A: HostId = HostId(1);
    const B: HostId = HostId(2);

    fn ledger(cpus: u32) -> Ledger {
        let mut ledger = Ledger::new(Resources {
            cpus,
            ..Resources::default()
        });
        ledger.opened(A, Request::default());
        ledger.opened(B, Request::default());
        ledger
    }

    fn tell(host: HostId, slots: u32) -> Tell {
        Tell { host, slots }
    }

    #[test]
    fn a_raise_waits_until_the_other_hosts_lowering_is_confirmed() {
        let mut ledger = ledger(4);
        assert_eq!(ledger.set_wanted(A, 4), [tell(A, 4)]);
        assert_eq!(ledger.confirmed(A, 4), []);
        assert_eq!(ledger.set_wanted(B, 3), []);
        assert_eq!(ledger.set_wanted(A, 1), [tell(A, 1)]);
        assert_eq!(ledger.confirmed(A, 2), [tell(B, 2)]);
        assert_eq!(ledger.confirmed(A, 1), []);
        // one change at a time: the rest of the raise follows the confirmation of its first part
        assert_eq!(ledger.confirmed(B, 2), [tell(B, 3)]);
    }

    #[test]
    fn a_closing_host_keeps_its_slots_until_it_has_closed() {
        let mut ledger = ledger(2);
        assert_eq!(ledger.set_wanted(A, 2), [tell(A, 2)]);
        ledger.closing(A);
        assert_eq!(ledger.set_wanted(B, 2), []);
        assert_eq!(ledger.confirmed(A, 2), []);
        assert_eq!(ledger.closed(A), [tell(B, 2)]);
    }

    #[test]
    fn more_than_the_worker_has_is_never_given() {
        let mut ledger = ledger(2);
        assert_eq!(ledger.set_wanted(A, 100), [tell(A, 2)]);
        assert_eq!(ledger.set_wanted(B, 1), []);
    }

    #[test]
    fn what_a_host_cannot_run_goes_to_others_and_is_not_asked_of_it_again() {
        let mut ledger = ledger(4);
        assert_eq!(ledger.set_wanted(A, 4), [tell(A, 4)]);
        assert_eq!(ledger.set_wanted(B, 4), []);
        assert_eq!(ledger.confirmed(A, 1), [tell(B, 3)]);
        assert_eq!(ledger.set_wanted(A, 3), []);
    }

    /// A host as it really behaves: it reads what it was told in order, and its tasks end when they like.
    #[derive(Default)]
    struct RealHost {
        unread: VecDeque<u32>,
        limit: u32,
        running: u32,
        answers: VecDeque<u32>,
        owes: bool,
    }

    impl RealHost {
        fn step(&mut self, tasks_end: u32) {
            if let Some(limit) = self.unread.pop_front() {
                self.limit = limit;
                self.owes = true;
            }
            self.running = self.running.saturating_sub(tasks_end).max(self.limit);
            if self.owes && self.running == self.limit {
                self.answers.push_back(self.limit);
                self.owes = false;
            }
        }
    }

    proptest! {
        #[test]
        fn slot_holds_whatever_is_wanted_and_in_whatever_order_hosts_answer(
            steps in prop::collection::vec((0u8..4, 0usize..3, 0u32..9), 1..200)
        ) {
            let mut ledger = Ledger::new(Resources { cpus: 8, ..Resources::default() });
            let request = |index: usize| Request { cpus: index as u32 + 1, ..Request::default() };
            let mut hosts: Vec<RealHost> = Vec::new();
            for index in 0..3 {
                ledger.opened(HostId(index as u64), request(index));
                hosts.push(RealHost::default());
            }
            for (step, index, number) in steps {
                let host = HostId(index as u64);
                let tells = match step {
                    0 => ledger.set_wanted(host, number),
                    1 => { hosts[index].step(number); Vec::new() }
                    2 => match hosts[index].answers.pop_front() {
                        Some(slots) => ledger.confirmed(host, slots),
                        None => Vec::new(),
                    },
                    _ => {
                        let mut tells = ledger.closed(host);
                        hosts[index] = RealHost::default();
                        ledger.opened(host, request(index));
                        tells.retain(|tell| tell.host != host);
                        tells
                    }
                };
                for tell in tells {
                    hosts[tell.host.0 as usize].unread.push_back(tell.slots);
                }
                ledger.check();
                let used: u32 = hosts.iter().zip(1..).map(|(host, cpus)| host.running * cpus).sum();
                prop_assert!(used <= 8, "SLOT: {used} cpus are in use");
            }
            // once all hosts answer and end their tasks, what is wanted is what they have, as far as there is room
            for _ in 0..30 {
                for index in 0..3 {
                    hosts[index].step(9);
                    while let Some(slots) = hosts[index].answers.pop_front() {
                        for tell in ledger.confirmed(HostId(index as u64), slots) {
                            hosts[tell.host.0 as usize].unread.push_back(tell.slots);
                        }
                    }
                }
            }
            let free = ledger.free();
            for seat in ledger.seats.values() {
                prop_assert!(seat.told == seat.wanted || free.slots(&seat.request) == 0);
            }
        }
    }
}
