//! Clients: they submit, cancel, and ask again until they are answered.

use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_scheduler_core::{Input, RequestId};

use crate::cluster::Cluster;
use crate::event::Event;

/// How long a client waits for an answer before it asks again, in microseconds.
const CLIENT_TIMEOUT_MICROS: u64 = 2_000_000;

/// What a client waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    Submit(usize),
    Cancel(usize),
}

impl Cluster {
    pub(crate) fn ask(&mut self, asked: Asked) -> RequestId {
        self.requests_made += 1;
        self.requests.insert(RequestId(self.requests_made), asked);
        RequestId(self.requests_made)
    }

    pub(crate) fn submit(&mut self, number: usize) {
        if self.invariants.live.jobs[number].is_some() {
            return;
        }
        self.agenda.after(CLIENT_TIMEOUT_MICROS, Event::Submit(number));
        let request = self.ask(Asked::Submit(number));
        let plan = &self.load[number];
        let (user, spec) = (plan.user.clone(), Box::new(plan.spec.clone()));
        self.tell(Input::Submitted { request, user, spec });
    }

    pub(crate) fn cancel(&mut self, number: usize) {
        let Some(job) = self.invariants.live.jobs[number] else {
            return self.agenda.after(500_000, Event::Cancel(number));
        };
        let over = self
            .invariants
            .ledger
            .jobs
            .get(&job)
            .is_some_and(|entry| entry.outcome.is_some());
        if !over {
            self.agenda.after(CLIENT_TIMEOUT_MICROS, Event::Cancel(number));
        }
        let request = self.ask(Asked::Cancel(number));
        let user = self.load[number].user.clone();
        self.tell(Input::CancelRequested {
            request,
            user,
            admin: false,
            job,
        });
    }

    pub(crate) fn answer(&mut self, request: RequestId, reply: Reply) {
        let (keep, ledger) = (&self.invariants.keep, &self.invariants.ledger);
        match self.requests.get(&request) {
            Some(&Asked::Submit(number)) => keep.submitted(self.load[number].spec.submission, &reply, ledger),
            Some(&Asked::Cancel(number)) => {
                let job =
                    self.invariants.live.jobs[number].expect("a job is cancelled after it was accepted");
                keep.cancelled(job, &reply, ledger);
            }
            None => panic!("an answer without a request, or the second one: {reply:?}"),
        }
        let micros = self.dice.within(self.weather.delay.clone());
        if !self.requests.contains_key(&request) {
            return;
        }
        self.agenda.after(micros, Event::Answered(request, reply));
    }

    pub(crate) fn answered(&mut self, request: RequestId, reply: &Reply) {
        let Some(Asked::Submit(number)) = self.requests.remove(&request) else {
            return;
        };
        if let Reply::Submitted(job) = reply {
            let before = self.invariants.live.jobs[number].replace(*job);
            assert!(
                before.is_none_or(|before| before == *job),
                "ONCE: plan {number} has two jobs"
            );
            self.is_over |= self.invariants.live.all_ended(&self.invariants.ledger);
            return;
        }
        // asked again later; a worker that is large enough may still join
        let passes = matches!(
            reply,
            Reply::Refused(Refusal::Storage { .. } | Refusal::TooLarge { .. })
        );
        assert!(passes, "plan {number} is answered {reply:?}");
    }

    /// Nothing has gone wrong for a long time: everything must have ended, but for what no worker can run.
    pub(crate) fn patience_ends(&mut self) {
        let refused_everywhere = |plan: usize| {
            let request = &self.load[plan].spec.request;
            let nodes = self.weather.nodes.iter().enumerate();
            let mut fitting = nodes.filter(|(_, node)| node.capacity.slots(request) > 0);
            fitting.all(|(place, _)| self.weather.cannot_run(place, plan))
        };
        self.invariants
            .live
            .patience_ended(&self.invariants.ledger, refused_everywhere);
        self.is_over = true;
    }
}
