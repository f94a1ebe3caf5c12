//! Clients: they submit, cancel, and ask one scheduler after the other until they are answered.

use phalanx_protocol::message::client::{Refusal, Reply};
use phalanx_protocol::{JobId, RangeSet, WorkerId};
use phalanx_scheduler_core::{Input, RequestId};

use crate::cluster::Cluster;
use crate::event::{Event, Life};
use crate::invariants::Entry;
use crate::load::Plan;
use crate::network::Node;
use crate::scheduler::Role;
use crate::weather;
use crate::worker::Worker;

/// How long a client waits for an answer before it asks again, in microseconds.
const CLIENT_TIMEOUT_MICROS: u64 = 2_000_000;
/// After how long it looks again whether another job was accepted, in microseconds.
const CLIENT_SOON_MICROS: u64 = 500_000;

/// What a client waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    what: What,
    plan: usize,
    /// Of the scheduler that was asked.
    place: usize,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Submit,
    Cancel,
    CancelTasks,
    Retry,
    Hold(bool),
    Drain(WorkerId),
}

impl Cluster {
    fn ask(&mut self, what: What, plan: usize) {
        self.requests_made += 1;
        let request = RequestId(self.requests_made);
        // the next one is asked if this one does not answer
        let place = self.aims[plan];
        self.aims[plan] = (place + 1) % self.schedulers.len();
        self.requests.insert(request, Asked { what, plan, place });
        let (client, scheduler) = (Node::Client(plan), Node::Scheduler(place));
        if self
            .network
            .cut_until(client, scheduler, self.agenda.now)
            .is_none()
        {
            let micros = self.dice.within(self.weather.delay.clone());
            self.agenda.after(micros, Event::Requested(place, request));
        }
    }

    pub(crate) fn submit(&mut self, plan: usize) {
        let jobs = &self.invariants.live.jobs;
        if jobs[plan].is_some() {
            return;
        }
        let Plan { waits, spec, .. } = &mut self.load[plan];
        if waits.bonds.iter().any(|&(other, _)| jobs[other].is_none()) {
            return self.agenda.after(CLIENT_SOON_MICROS, Event::Submit(plan));
        }
        spec.dependency = waits.dependency(|other| jobs[other].expect("it was accepted"));
        self.agenda.after(CLIENT_TIMEOUT_MICROS, Event::Submit(plan));
        self.ask(What::Submit, plan);
    }

    pub(crate) fn cancel(&mut self, plan: usize) {
        let Some(job) = self.invariants.live.jobs[plan] else {
            return self.agenda.after(CLIENT_SOON_MICROS, Event::Cancel(plan));
        };
        let entry = self.invariants.ledger.jobs.get(&job);
        if entry.is_none_or(|entry| entry.outcome.is_none()) {
            self.agenda.after(CLIENT_TIMEOUT_MICROS, Event::Cancel(plan));
        }
        self.ask(What::Cancel, plan);
    }

    /// A client wants some tasks of its job to end, and asks until they have.
    pub(crate) fn cancel_tasks(&mut self, plan: usize) {
        let Some(job) = self.invariants.live.jobs[plan] else {
            return self.agenda.after(CLIENT_SOON_MICROS, Event::CancelTasks(plan));
        };
        let Some((_, tasks)) = &self.load[plan].tasks_cancelled else {
            return;
        };
        let have_ended = |entry: &Entry| {
            let all = tasks.iter().all(|range| entry.ended.contains_range(range));
            entry.outcome.is_some() || all
        };
        let entry = self.invariants.ledger.jobs.get(&job);
        if !entry.is_some_and(have_ended) {
            self.agenda.after(CLIENT_TIMEOUT_MICROS, Event::CancelTasks(plan));
            self.ask(What::CancelTasks, plan);
        }
    }

    /// A client whose job is over wants what failed to be run again, once.
    pub(crate) fn retry(&mut self, plan: usize) {
        if !self.retries_wanted.contains(&plan) {
            return;
        }
        self.agenda.after(CLIENT_TIMEOUT_MICROS, Event::Retry(plan));
        let job = self.invariants.live.jobs[plan];
        let entry = job.and_then(|job| self.invariants.ledger.jobs.get(&job));
        let early = self.load[plan].retried_early;
        let is_time = |entry: &Entry| {
            let failed = early && !entry.failed.is_empty();
            entry.outcome.is_some() || entry.reopened || failed
        };
        if entry.is_some_and(is_time) {
            self.ask(What::Retry, plan);
        }
    }

    /// A client wants a job held, which it says once, or released, which it says as long as the job is not over: the other wish
    /// may come late.
    pub(crate) fn hold(&mut self, plan: usize, held: bool) {
        let Some(job) = self.invariants.live.jobs[plan] else {
            return self.agenda.after(CLIENT_SOON_MICROS, Event::Hold(plan, held));
        };
        let entry = self.invariants.ledger.jobs.get(&job);
        let is_over = entry.is_some_and(|entry| entry.outcome.is_some());
        if is_over && !self.retries_wanted.contains(&plan) {
            return;
        }
        if !held {
            self.load[plan].waits.released = true;
            self.agenda.after(CLIENT_TIMEOUT_MICROS, Event::Hold(plan, held));
        }
        self.ask(What::Hold(held), plan);
    }

    /// An operator wants a worker to leave, until it drains or is gone.
    pub(crate) fn drain(&mut self, life: Life) {
        let worker = &self.workers[life.0];
        let stays = worker.alive && worker.instance == life.1 && !worker.is_going();
        if let Some(id) = worker.id.filter(|_| stays) {
            self.agenda.after(CLIENT_TIMEOUT_MICROS, Event::Drain(life));
            self.ask(What::Drain(id), life.0 % self.load.len());
        }
    }

    /// A request reaches a scheduler.
    pub(crate) fn requested(&mut self, place: usize, request: RequestId) {
        let scheduler = &mut self.schedulers[place];
        if scheduler.paused_until > self.agenda.now && !scheduler.is_down() {
            return scheduler.held_up.push_back(Event::Requested(place, request));
        }
        let Some(&Asked { what, plan, .. }) = self.requests.get(&request) else {
            return;
        };
        match &mut scheduler.role {
            Role::Down => return,
            Role::Standby(_) => {
                let reply = Reply::Refused(Refusal::NotLeader { leader: Vec::new() });
                return self.send_answer(place, request, reply);
            }
            Role::Leader(leader) => drop(leader.requests.insert(request, false)),
        }
        let user = self.load[plan].user.clone();
        match what {
            What::Submit => {
                let spec = Box::new(self.load[plan].spec.clone());
                self.tell(place, Input::Submitted { request, user, spec });
            }
            What::Cancel => self.tell(
                place,
                Input::CancelRequested {
                    request,
                    user,
                    admin: false,
                    job: self.job_of(plan),
                },
            ),
            What::CancelTasks => {
                let tasks = self.load[plan].tasks_cancelled.clone();
                let tasks = tasks.map_or_else(RangeSet::new, |(_, tasks)| tasks);
                let job = self.job_of(plan);
                self.tell(
                    place,
                    Input::TaskCancelRequested {
                        request,
                        user,
                        admin: false,
                        job,
                        tasks,
                    },
                );
            }
            What::Retry => self.tell(
                place,
                Input::RetryRequested {
                    request,
                    user,
                    admin: false,
                    job: self.job_of(plan),
                },
            ),
            What::Hold(held) => self.tell(
                place,
                Input::HoldRequested {
                    request,
                    user,
                    admin: false,
                    job: self.job_of(plan),
                    held,
                },
            ),
            What::Drain(worker) => self.tell(
                place,
                Input::DrainRequested {
                    request,
                    worker,
                    allowed: true,
                },
            ),
        }
        self.refuse_waiting(place);
    }

    fn job_of(&self, plan: usize) -> JobId {
        self.invariants.live.jobs[plan].expect("only jobs that were accepted are asked about")
    }

    /// While storage fails nobody waits for it. What was asked for may still come to pass.
    pub(crate) fn refuse_waiting(&mut self, place: usize) {
        let Some(leader) = self.schedulers[place].leader_mut() else {
            return;
        };
        if !leader.journal.is_failing() {
            return;
        }
        let waiting = leader.requests.iter_mut().filter(|(_, refused)| !**refused);
        let waiting = waiting.map(|(&request, refused)| {
            *refused = true;
            request
        });
        let waiting: Vec<RequestId> = waiting.collect();
        let error = "input/output error".to_owned();
        for request in waiting {
            let reply = Reply::Refused(Refusal::Storage { error: error.clone() });
            self.send_answer(place, request, reply);
        }
    }

    /// A leader answers.
    pub(crate) fn answer(&mut self, place: usize, request: RequestId, reply: Reply) {
        let leader = self.schedulers[place].leader_mut();
        let refused = leader.and_then(|leader| leader.requests.remove(&request));
        let refused =
            refused.unwrap_or_else(|| panic!("an answer without a request, or the second one: {reply:?}"));
        let Asked { what, plan, .. } = self.requests[&request];
        let (keep, ledger) = (&self.invariants.keep, &self.invariants.ledger);
        match what {
            What::Submit => keep.submitted(self.load[plan].spec.submission, &reply, ledger),
            What::Cancel => keep.cancelled(self.job_of(plan), &reply, ledger),
            What::CancelTasks => {
                let tasks = self.load[plan].tasks_cancelled.as_ref();
                let tasks = tasks.map(|(_, tasks)| tasks);
                keep.tasks_cancelled(self.job_of(plan), tasks, &reply, ledger);
            }
            What::Retry => keep.reopened(self.job_of(plan), &reply, ledger),
            What::Hold(held) => keep.held(self.job_of(plan), held, &reply, ledger),
            What::Drain(_) => {}
        }
        if !refused {
            self.send_answer(place, request, reply);
        }
    }

    fn send_answer(&mut self, place: usize, request: RequestId, reply: Reply) {
        let client = Node::Client(self.requests[&request].plan);
        let scheduler = Node::Scheduler(place);
        let cut = self.network.cut_until(scheduler, client, self.agenda.now);
        if cut.is_none() {
            let micros = self.dice.within(self.weather.delay.clone());
            self.agenda
                .after(micros, Event::Answered(request, Box::new(reply)));
        }
    }

    pub(crate) fn answered(&mut self, request: RequestId, reply: &Reply) {
        let Asked { what, plan, place } = self.requests[&request];
        let refused = matches!(reply, Reply::Refused(Refusal::NotLeader { .. }));
        if !refused {
            self.aims[plan] = place;
        }
        match (what, reply) {
            (What::Submit, _) => {}
            (What::Retry, Reply::Reopened { .. } | Reply::Refused(Refusal::NothingToRetry { .. })) => {
                self.retries_wanted.remove(&plan);
                return;
            }
            (What::Cancel | What::CancelTasks | What::Retry | What::Hold(_) | What::Drain(_), _) => return,
        }
        if let Reply::Submitted(job) = reply {
            let before = self.invariants.live.jobs[plan].replace(*job);
            assert!(
                before.is_none_or(|before| before == *job),
                "ONCE: plan {plan} has two jobs"
            );
            return;
        }
        // asked again later; a worker that is large enough may still join, and a leader that was deposed does not know all jobs
        let passes = matches!(
            reply,
            Reply::Refused(
                Refusal::Storage { .. }
                    | Refusal::TooLarge { .. }
                    | Refusal::NotLeader { .. }
                    | Refusal::NoSuchDependency(_)
            )
        );
        assert!(passes, "plan {plan} is answered {reply:?}");
    }

    /// Nothing has gone wrong for a long time: everything must have ended, but for what no worker can run.
    pub(crate) fn patience_ends(&mut self) {
        let refused_everywhere = |plan: usize| {
            let spec = &self.load[plan].spec;
            let request = &spec.request;
            let nodes = self.weather.nodes.iter().enumerate();
            let mut nodes = nodes.filter(|(_, node)| spec.choice.admits(&node.name));
            if spec.gang.is_some() {
                let demanded = |node: &weather::Node| spec.choice.all_of.contains(&node.name);
                let unwilling = |place| self.weather.cannot_run(place, plan);
                if nodes
                    .clone()
                    .any(|(place, node)| demanded(node) && unwilling(place))
                {
                    return true;
                }
                let willing = nodes.filter(|&(place, _)| !unwilling(place));
                let each = spec.gang.as_ref().and_then(|gang| gang.ranks_per_node);
                let most = each.unwrap_or(u32::MAX);
                let slots = willing.map(|(_, node)| u64::from(node.capacity.slots(request).min(most)));
                return slots.sum::<u64>() < spec.tasks;
            }
            nodes.all(|(place, node)| {
                spec.slots_on(&node.capacity) == 0 || self.weather.cannot_run(place, plan)
            })
        };
        // those that wait for such a job do not end either
        let plans = self.load.iter().enumerate();
        let stuck = plans.fold(Vec::new(), |mut stuck: Vec<bool>, (plan, Plan { waits, .. })| {
            let mut others = waits.bonds.iter();
            let waits_for_one =
                others.any(|&(other, _)| stuck[other]) || (waits.alone && stuck.contains(&true));
            stuck.push(waits_for_one || refused_everywhere(plan));
            stuck
        });
        let going = self.workers.iter().position(Worker::is_going);
        assert!(going.is_none(), "LIVE: worker {going:?} is to leave and does not");
        self.invariants
            .live
            .patience_ended(&self.invariants.ledger, &stuck);
        self.gave_up = true;
    }
}
