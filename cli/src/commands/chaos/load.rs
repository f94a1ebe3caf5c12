//! What the cluster is busy with while it is disturbed: users of several kinds, each on a thread of its own, who submit
//! jobs again and again, compare every result with that of an undisturbed run, and remember what they were promised.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use phalanx::{Cluster, JobId, JobView, Retries};

use super::kernels::{chaos_digest, chaos_relay, chaos_remnant, chaos_ring, digest, ring_sum};
use super::shell::{ELEMENTS, Shell};

/// What each task takes, in milliseconds.
const TASK_MILLIS: u64 = 10;
/// Tasks in each job of those who want all results: some seconds of work.
const TASKS: u64 = 1_000;
/// The pause between jobs of a single task.
const SINGLE_PAUSE: Duration = Duration::from_millis(200);
/// Ranks of a gang, each on another worker, and of one that goes on without those that it loses, if there is room.
const RANKS: u32 = 2;
const RANKS_WIDE: u32 = 3;
/// How often they pass a number on.
const ROUNDS: u64 = 50;
/// Hosts of ranks that may be killed: the ranks are not to blame.
const CRASH_LIMIT: u32 = 1_000;
/// Findings that are kept; one is enough to fail.
const FINDINGS_MAX: usize = 20;

/// What was seen so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Jobs that were acknowledged, and how many tasks each has.
    pub(super) jobs: Vec<(JobId, u64)>,
    /// Gangs all of whose ranks returned what they must.
    pub(super) gangs: u64,
    /// Those of them that had lost ranks before.
    pub(super) gangs_hit: u64,
    /// Commands whose output and files were those that they must leave.
    pub(super) commands: u64,
    /// Results that were compared.
    pub(super) results: u64,
    /// The longest time that a user waited for the next result.
    pub(super) longest_wait: Duration,
    /// What was wrong.
    pub(super) findings: Vec<String>,
}

/// The same job while nothing goes wrong.
#[derive(Debug)]
pub(super) struct Undisturbed {
    /// How long it took, from its submission to its last result.
    pub(super) took: Duration,
    values: Vec<u64>,
}

impl Undisturbed {
    /// Runs it to its end.
    ///
    /// # Errors
    /// Says what went wrong by itself, also if the results are not those that a call in this process returns.
    pub(super) fn run(cluster: &Cluster) -> Result<Self, String> {
        let started = Instant::now();
        let map = cluster.map::<chaos_digest>(0..TASKS).parameters(&TASK_MILLIS);
        let values = map
            .name("undisturbed")
            .collect()
            .map_err(|error| of("undisturbed", &error))?;
        match values.iter().copied().eq((0..TASKS).map(digest)) {
            true => Ok(Self {
                took: started.elapsed(),
                values,
            }),
            false => Err("the results of the undisturbed run are wrong".to_owned()),
        }
    }

    /// The bytes of a task's result.
    fn bytes(&self, index: u64) -> Option<[u8; 8]> {
        let index = usize::try_from(index).ok()?;
        self.values.get(index).map(|value| value.to_le_bytes())
    }
}

/// The users.
#[derive(Debug)]
pub(super) struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What a user does again and again; the error says what was wrong.
type Habit = fn(&mut User) -> Result<(), String>;

/// What a user works with.
struct User {
    cluster: Cluster,
    undisturbed: Arc<Undisturbed>,
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    shell: Shell,
    /// How many the cluster has.
    workers: usize,
    /// How often it has done what it does.
    turns: u64,
    last: Instant,
}

impl Load {
    /// Lets users work on a cluster of that many workers. One of them has gangs, if there is room.
    ///
    /// # Errors
    /// When the system has no threads left.
    pub(super) fn start(
        cluster: &Cluster,
        workers: usize,
        undisturbed: &Arc<Undisturbed>,
        shell: &Shell,
    ) -> std::io::Result<Self> {
        let mut load = Self {
            tally: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let habits: [(&str, Habit); 5] = [
            ("in order", User::in_order),
            ("merged", User::merged),
            ("single", User::single),
            ("commands", User::commands),
            ("ranks", User::ranks),
        ];
        let without_gangs = habits.len() - 1;
        let n_habits = if workers < RANKS as usize {
            without_gangs
        } else {
            habits.len()
        };
        for (name, habit) in habits.into_iter().take(n_habits) {
            let mut user = User {
                cluster: cluster.clone(),
                undisturbed: Arc::clone(undisturbed),
                tally: Arc::clone(&load.tally),
                stop: Arc::clone(&load.stop),
                shell: shell.clone(),
                workers,
                turns: 0,
                last: Instant::now(),
            };
            let run = move || {
                while !user.stop.load(Ordering::Relaxed) {
                    if let Err(finding) = habit(&mut user) {
                        user.find(format!("{name}: {finding}"));
                        return;
                    }
                    user.turns += 1;
                }
            };
            let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
            load.threads.push(thread);
        }
        Ok(load)
    }

    /// What was seen so far.
    pub(super) fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Asks the users to end with the job that they wait for now; says whether all have.
    pub(super) fn is_over(&self) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.iter().all(JoinHandle::is_finished)
    }
}

impl User {
    /// A job whose results are wanted in the order of the tasks.
    fn in_order(&mut self) -> Result<(), String> {
        let map = self
            .cluster
            .map::<chaos_digest>(0..TASKS)
            .parameters(&TASK_MILLIS);
        let job = map.submit().map_err(|error| of("submit", &error))?;
        self.promised(job.id(), TASKS);
        let mut next = 0;
        for value in job.results() {
            let value = value.map_err(|error| format!("job {}: {error}", job.id()))?;
            if Some(value.to_le_bytes()) != self.undisturbed.bytes(next) {
                return Err(format!("job {}: the result of task {next} is wrong", job.id()));
            }
            next += 1;
            self.seen(1);
        }
        match next == TASKS {
            true => Ok(()),
            false => Err(format!("job {}: {next} of {TASKS} results came", job.id())),
        }
    }

    /// A job whose results are merged on the workers.
    fn merged(&mut self) -> Result<(), String> {
        let map = self
            .cluster
            .map::<chaos_digest>(0..TASKS)
            .parameters(&TASK_MILLIS);
        let sum = map.name("merged").reduce().map_err(|error| of("merge", &error))?;
        self.seen(TASKS);
        let values = self.undisturbed.values.iter().copied();
        let expected = values.fold(0, u64::wrapping_add);
        match sum == expected {
            true => Ok(()),
            false => Err(format!("the merged value is {sum}, and must be {expected}")),
        }
    }

    /// A job of one task.
    fn single(&mut self) -> Result<(), String> {
        let map = self.cluster.map::<chaos_digest>(7..8).parameters(&0);
        let job = map
            .name("single")
            .submit()
            .map_err(|error| of("submit", &error))?;
        self.promised(job.id(), 1);
        let values = job.collect().map_err(|error| of("single", &error))?;
        let bytes: Vec<_> = values.iter().map(|value| Some(value.to_le_bytes())).collect();
        if bytes != [self.undisturbed.bytes(7)] {
            return Err(format!("job {}: {values:?} is wrong", job.id()));
        }
        self.seen(1);
        thread::sleep(SINGLE_PAUSE);
        Ok(())
    }

    /// An array of shell commands, with files and output.
    fn commands(&mut self) -> Result<(), String> {
        let tally = Arc::clone(&self.tally);
        let promised = |job| lock(&tally).jobs.push((job, ELEMENTS));
        self.shell.array(self.turns, promised)?;
        self.seen(ELEMENTS);
        lock(&self.tally).commands += ELEMENTS;
        thread::sleep(SINGLE_PAUSE);
        Ok(())
    }

    /// A gang on several workers. By turns, it starts again as a whole whenever one of its ranks is lost, saves what it has and
    /// goes on with a replacement, or goes on with those that are left.
    fn ranks(&mut self) -> Result<(), String> {
        if self.turns % 3 == 2 {
            return self.remnant();
        }
        let retries = Retries {
            crash_limit: CRASH_LIMIT,
            ..Retries::default()
        };
        let parameters = (ROUNDS, TASK_MILLIS);
        let values = match self.turns % 3 {
            0 => {
                let ranks = self.cluster.ranks::<chaos_ring>(RANKS, &parameters);
                ranks.name("ranks").ranks_per_node(1).retries(retries).collect()
            }
            _ => {
                let ranks = self.cluster.ranks::<chaos_relay>(RANKS, &parameters);
                let ranks = ranks.name("relay").ranks_per_node(1).retries(retries);
                ranks.respawn_on_loss().collect()
            }
        };
        let values = values.map_err(|error| of("ranks", &error))?;
        let expected = ring_sum(RANKS.into(), ROUNDS);
        let (sums, epochs): (Vec<u64>, Vec<u32>) = values.iter().copied().unzip();
        if sums != [expected; RANKS as usize] {
            return Err(format!(
                "the ranks returned {values:?}, and must return {expected}"
            ));
        }
        self.seen(RANKS.into());
        self.had_gang(epochs.iter().any(|&epoch| epoch > 1));
        Ok(())
    }

    /// A gang that goes on with those that are left. Each says with how many others it got its result: if some had returned when
    /// one was lost, the rest were fewer.
    fn remnant(&mut self) -> Result<(), String> {
        let n_ranks = if self.workers < RANKS_WIDE as usize {
            RANKS
        } else {
            RANKS_WIDE
        };
        let retries = Retries {
            crash_limit: CRASH_LIMIT,
            ..Retries::default()
        };
        let ranks = self
            .cluster
            .ranks::<chaos_remnant>(n_ranks, &(ROUNDS, TASK_MILLIS));
        let ranks = ranks.name("remnant").ranks_per_node(1).retries(retries);
        let values = ranks.shrink_on_loss().collect_survivors();
        let values = values.map_err(|error| of("remnant", &error))?;
        let is_right = |&(_, (sum, left)): &(usize, (u64, u64))| {
            (1..=u64::from(n_ranks)).contains(&left) && sum == ring_sum(left, ROUNDS)
        };
        if values.is_empty() || !values.iter().all(is_right) {
            return Err(format!(
                "of {n_ranks} ranks those that were left returned {values:?}"
            ));
        }
        self.seen(values.len() as u64);
        let is_whole = |&(_, (_, left)): &(usize, (u64, u64))| left == u64::from(n_ranks);
        self.had_gang(values.len() < n_ranks as usize || !values.iter().all(is_whole));
        Ok(())
    }

    fn had_gang(&self, is_hit: bool) {
        let mut tally = lock(&self.tally);
        tally.gangs += 1;
        tally.gangs_hit += u64::from(is_hit);
    }

    fn promised(&mut self, job: JobId, tasks: u64) {
        lock(&self.tally).jobs.push((job, tasks));
    }

    fn seen(&mut self, results: u64) {
        let waited = self.last.elapsed();
        self.last = Instant::now();
        let mut tally = lock(&self.tally);
        tally.results += results;
        tally.longest_wait = tally.longest_wait.max(waited);
    }

    fn find(&self, finding: String) {
        let mut tally = lock(&self.tally);
        if tally.findings.len() < FINDINGS_MAX {
            tally.findings.push(finding);
        }
    }
}

/// What of the promises is not in the scheduler's own list, once everything is over.
pub(super) fn broken_promises(tally: &Tally, jobs: &[JobView]) -> Vec<String> {
    let broken = tally.jobs.iter().filter_map(|&(id, tasks)| {
        let Some(job) = jobs.iter().find(|job| job.job == id) else {
            return Some(format!("job {id} was acknowledged, and is lost"));
        };
        let is_whole = job.state() == "succeeded" && job.done == tasks && job.failed == 0;
        (!is_whole).then(|| {
            let (state, done) = (job.state(), job.done);
            format!(
                "job {id} is {state}: {done} of {tasks} tasks done, {} failed",
                job.failed
            )
        })
    });
    broken.take(FINDINGS_MAX).collect()
}

fn of(what: &str, error: &dyn std::error::Error) -> String {
    format!("{what}: {}", crate::ui::error::chain(error))
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::views::tests::job_view;
    use phalanx_protocol::record::Outcome;

    #[test]
    fn a_lost_job_and_one_that_is_not_whole_are_broken_promises() {
        let job = |id, outcome, done| JobView {
            job: JobId(id),
            outcome,
            tasks: 5,
            done,
            failed: 0,
            ..job_view()
        };
        let tally = Tally {
            jobs: [1, 2, 3, 4].map(|id| (JobId(id), 5)).to_vec(),
            ..Tally::default()
        };
        let jobs = [
            job(1, Some(Outcome::Succeeded), 5),
            job(2, Some(Outcome::Succeeded), 6),
            job(3, None, 5),
        ];
        assert_eq!(
            broken_promises(&tally, &jobs),
            [
                "job 2 is succeeded: 6 of 5 tasks done, 0 failed",
                "job 3 is running: 5 of 5 tasks done, 0 failed",
                "job 4 was acknowledged, and is lost",
            ]
        );
        assert_eq!(broken_promises(&Tally::default(), &jobs), Vec::<String>::new());
    }
}
