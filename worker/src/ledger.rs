//! Who may use how much of this worker, and invariant SLOT: what all hosts may be using never exceeds the capacity.
//!
//! Every kernel host that serves a job has a seat: the slots that the scheduler wants for it, those the host was told,
//! and those it may really be using. A lowering counts only once the host confirms it, since its tasks run on until
//! then; a raise waits for the room that others' confirmed lowerings leave. So two schedulers, or one that changed its
//! mind, can't oversubscribe the node. At most one change per host is unconfirmed: a late confirmation can then never
//! be taken for that of a newer change. Who shares this worker with nobody gets slots only while nobody else has any, and
//! keeps others from theirs. Slots of tasks that have gpus or cpus to themselves come with places ([`crate::stock`]); the
//! host says which it has given up before it confirms a lowering. Pure: the caller sends what the methods return.

use std::collections::BTreeMap;

use phalanx_protocol::message::host::Place;
use phalanx_protocol::{Request, Resources, Sharing};

use crate::agent::HostId;
use crate::equipment::Equipment;
use crate::stock::Stock;

/// The slots of this worker.
#[derive(Debug)]
pub(crate) struct Ledger {
    capacity: Resources,
    stock: Stock,
    seats: BTreeMap<HostId, Seat>,
}

#[derive(Debug)]
struct Seat {
    request: Request,
    /// What its tasks have to themselves, a place for each slot that it uses, if they do.
    places: Vec<Place>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tell {
    /// The host.
    pub(crate) host: HostId,
    /// How many tasks it may run at a time.
    pub(crate) slots: u32,
    /// New places for them.
    pub(crate) places: Vec<Place>,
}

impl Seat {
    fn reserved(&self) -> u32 {
        self.told.max(self.used)
    }

    fn due(&self) -> u32 {
        let most = match self.request.sharing {
            Sharing::Anybody | Sharing::OwnJob => u32::MAX,
            Sharing::Nobody => 1,
        };
        self.wanted.min(self.able).min(most)
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
    pub(crate) fn new(capacity: Resources, equipment: Equipment) -> Self {
        Self {
            stock: Stock::new(&capacity, equipment),
            capacity,
            seats: BTreeMap::new(),
        }
    }

    /// Gives a host a seat, without slots, for tasks that need `request` each.
    pub(crate) fn opened(&mut self, host: HostId, request: Request) {
        let seat = Seat {
            request,
            places: Vec::new(),
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

    /// Notes a host's word that it runs nothing in these places any more.
    pub(crate) fn gave_up(&mut self, host: HostId, places: &[u32]) {
        if let Some(seat) = self.seats.get_mut(&host) {
            let given_up = |place: &mut Place| places.contains(&place.number);
            for place in seat.places.extract_if(.., given_up) {
                self.stock.give(&place, &seat.request);
            }
        }
    }

    /// Whether any gpus belong to this worker.
    pub(crate) fn has_gpus(&self) -> bool {
        self.stock.has_gpus()
    }

    /// Notes that a host was told to close its job: it keeps what it uses until [`Ledger::closed`].
    pub(crate) fn closing(&mut self, host: HostId) {
        if let Some(seat) = self.seats.get_mut(&host) {
            seat.closing = true;
        }
    }

    /// Frees the seat of a host that closed its job, or died.
    pub(crate) fn closed(&mut self, host: HostId) -> Vec<Tell> {
        if let Some(seat) = self.seats.remove(&host) {
            for place in &seat.places {
                self.stock.give(place, &seat.request);
            }
        }
        self.settle()
    }

    /// Asserts invariant SLOT.
    ///
    /// # Panics
    /// If it does not hold.
    pub(crate) fn check(&self) {
        let _ = self.free();
        let mut in_use = self.seats.iter().filter(|(_, seat)| seat.reserved() > 0);
        assert!(
            in_use.all(|(&host, _)| self.is_admitted(host)),
            "SLOT: a job that shares its worker with no other has company"
        );
    }

    /// Whether a host's job may have slots beside those that others use.
    fn is_admitted(&self, host: HostId) -> bool {
        let Some(seat) = self.seats.get(&host) else {
            return false;
        };
        let others = self.seats.iter().filter(|(other, _)| **other != host);
        let mut others = others.filter(|(_, other)| other.reserved() > 0);
        match seat.request.sharing {
            Sharing::Anybody => others.all(|(_, other)| other.request.sharing == Sharing::Anybody),
            Sharing::OwnJob | Sharing::Nobody => others.next().is_none(),
        }
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
                    places: Vec::new(),
                });
            }
        }
        let mut free = self.free();
        let rising =
            |(&host, seat): (&HostId, &Seat)| (seat.may_change() && seat.due() > seat.told).then_some(host);
        let rising: Vec<HostId> = self.seats.iter().filter_map(rising).collect();
        for host in rising {
            if self.is_admitted(host) {
                tells.extend(self.raise(host, &mut free));
            }
        }
        tells
    }

    /// Gives a host as many slots as there is room for.
    fn raise(&mut self, host: HostId, free: &mut Resources) -> Option<Tell> {
        let seat = self.seats.get_mut(&host)?;
        let mut raise = (seat.due() - seat.told).min(free.slots(&seat.request));
        let mut places = Vec::new();
        if seat.request.is_placed() {
            let take = |_| self.stock.take(&seat.request);
            places.extend((0..raise).map_while(take));
            raise = u32::try_from(places.len()).unwrap_or(raise);
        }
        if raise == 0 {
            return None;
        }
        free.take(&seat.request, raise);
        seat.tell(seat.told + raise);
        seat.places.extend(places.iter().cloned());
        Some(Tell {
            host,
            slots: seat.told,
            places,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const A: HostId = HostId(1);
    const B: HostId = HostId(2);

    fn new_ledger(cpus: u32, gpus: u64) -> Ledger {
        let mut capacity = Resources {
            cpus,
            ..Resources::default()
        };
        capacity.add("gpu", gpus.into());
        Ledger::new(capacity, Equipment::default())
    }

    fn ledger(cpus: u32) -> Ledger {
        let mut ledger = new_ledger(cpus, 0);
        ledger.opened(A, Request::default());
        ledger.opened(B, Request::default());
        ledger
    }

    fn tell(host: HostId, slots: u32) -> Tell {
        Tell {
            host,
            slots,
            places: Vec::new(),
        }
    }

    fn gpu(amount: &str) -> Request {
        let mut request = Request::default();
        request.add("gpu", amount.parse().unwrap());
        request
    }

    /// The one change, as the host, its slots and the numbers and gpus of its new places.
    fn places(tells: &[Tell]) -> (HostId, u32, Vec<(u32, String)>) {
        let [tell] = tells else { panic!("{tells:?}") };
        let place = |place: &Place| {
            let ids: Vec<&str> = place.gpus.iter().map(|gpu| gpu.id.as_str()).collect();
            (place.number, ids.join(","))
        };
        (tell.host, tell.slots, tell.places.iter().map(place).collect())
    }

    #[test]
    fn a_gpu_goes_to_another_host_only_when_the_one_that_has_it_gives_it_up() {
        let mut ledger = new_ledger(8, 2);
        ledger.opened(A, gpu("1"));
        ledger.opened(B, gpu("1"));
        let both = vec![(1, "0".to_owned()), (2, "1".to_owned())];
        assert_eq!(places(&ledger.set_wanted(A, 5)), (A, 2, both));
        ledger.confirmed(A, 2);
        assert_eq!(ledger.set_wanted(B, 1), []);
        assert_eq!(ledger.set_wanted(A, 1), [tell(A, 1)]);
        // its task in the other place goes on
        ledger.gave_up(A, &[1, 77]);
        assert_eq!(places(&ledger.confirmed(A, 1)), (B, 1, vec![(3, "0".to_owned())]));
        ledger.confirmed(B, 1);
        assert_eq!(ledger.set_wanted(B, 2), []);
        ledger.closing(A);
        assert_eq!(places(&ledger.closed(A)), (B, 2, vec![(4, "1".to_owned())]));
    }

    #[test]
    fn parts_that_fit_on_no_gpu_wait_though_their_sum_is_free() {
        let mut ledger = new_ledger(8, 2);
        ledger.opened(A, gpu("0.6"));
        ledger.opened(B, gpu("0.8"));
        let both = vec![(1, "0".to_owned()), (2, "1".to_owned())];
        assert_eq!(places(&ledger.set_wanted(A, 2)), (A, 2, both));
        ledger.confirmed(A, 2);
        assert_eq!(ledger.set_wanted(B, 1), []);
        assert_eq!(ledger.set_wanted(A, 1), [tell(A, 1)]);
        ledger.gave_up(A, &[2]);
        assert_eq!(places(&ledger.confirmed(A, 1)), (B, 1, vec![(3, "1".to_owned())]));
    }

    #[test]
    fn who_shares_with_no_other_job_waits_until_all_have_gone_and_keeps_them_out() {
        let alone = Request {
            sharing: Sharing::OwnJob,
            ..Request::default()
        };
        let mut ledger = ledger(4);
        let c = HostId(3);
        ledger.opened(c, alone);
        assert_eq!(ledger.set_wanted(A, 1), [tell(A, 1)]);
        ledger.confirmed(A, 1);
        assert_eq!(ledger.set_wanted(c, 2), []);
        assert_eq!(ledger.set_wanted(A, 0), [tell(A, 0)]);
        assert_eq!(ledger.confirmed(A, 0), [tell(c, 2)]);
        ledger.confirmed(c, 2);
        assert_eq!(ledger.set_wanted(B, 1), []);
        assert_eq!(ledger.set_wanted(c, 4), [tell(c, 4)]);
        ledger.closing(c);
        assert_eq!(ledger.closed(c), [tell(B, 1)]);
        ledger.check();
    }

    #[test]
    fn who_shares_with_nobody_runs_one_task_at_a_time() {
        let alone = Request {
            sharing: Sharing::Nobody,
            ..Request::default()
        };
        let mut ledger = new_ledger(4, 0);
        ledger.opened(A, alone);
        assert_eq!(ledger.set_wanted(A, 3), [tell(A, 1)]);
        assert_eq!(ledger.confirmed(A, 1), []);
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
            let mut ledger = new_ledger(8, 0);
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
