//! What an entry shows in each column of `squeue` and `sacct`.

use std::collections::BTreeMap;
use std::time::Duration;

use phalanx_protocol::command::{element_number, facts};
use phalanx_protocol::pattern::{PatternValues, expand};
use phalanx_protocol::record::Outcome;
use phalanx_protocol::{UsageSum, WorkerChoice, WorkerId, hostlist};

use super::clock;
use super::entry::{Entry, Part, Waits};
use super::nodes::{gres, node_names};
use super::people::{Person, person};
use crate::batch::lists::{Field, Row};
use crate::batch::memory::{MemoryUnit, show_memory};
use crate::batch::states::JobState;
use crate::batch::time::{TimeLimit, cpu_clock, full_clock, full_limit, short_clock, short_limit};

/// Whose list it is: what is absent, and times, look different in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Squeue,
    Sacct,
}

/// What entries share.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) manner: Manner,
    /// Milliseconds since 1970.
    pub(super) now: u64,
    /// The names of workers.
    pub(super) nodes: BTreeMap<WorkerId, String>,
    /// The workers on which jobs of several tasks run.
    pub(super) nodes_of: BTreeMap<phalanx::JobId, String>,
    /// The job whose turn is next.
    pub(super) first: Option<phalanx::JobId>,
    /// Users that were looked up.
    pub(super) people: BTreeMap<String, Person>,
    /// In which memory is shown; else in the one that leaves a whole number.
    pub(super) unit: Option<MemoryUnit>,
}

impl Scene {
    /// A user's numbers.
    pub(super) fn person(&self, name: &str) -> Person {
        self.people.get(name).cloned().unwrap_or_else(|| person(name))
    }

    /// Where an entry runs or has run; empty if that is not known.
    pub(super) fn node_list(&self, entry: &Entry<'_>) -> String {
        if !entry.members.is_empty() {
            return hostlist::compress(&self.members(entry));
        }
        match (entry.worker, entry.state) {
            (Some(worker), _) => self.nodes.get(&worker).cloned().unwrap_or_default(),
            (None, JobState::Running | JobState::Completing) => {
                self.nodes_of.get(&entry.view.job).cloned().unwrap_or_default()
            }
            (None, _) => String::new(),
        }
    }

    /// The names of an entry's nodes, if these are several.
    pub(super) fn members(&self, entry: &Entry<'_>) -> Vec<String> {
        let members = entry.members.iter();
        let mut names: Vec<String> = members
            .filter_map(|worker| self.nodes.get(worker).cloned())
            .collect();
        names.sort_by(|a, b| hostlist::order(a).cmp(&hostlist::order(b)));
        names
    }

    /// The node of an entry's script.
    pub(super) fn first_node(&self, entry: &Entry<'_>) -> String {
        let first = entry.worker.filter(|_| !entry.members.is_empty());
        match first.and_then(|worker| self.nodes.get(&worker)) {
            Some(name) => name.clone(),
            None => self.node_list(entry),
        }
    }

    fn show_memory(&self, bytes: u64) -> String {
        self.unit
            .map_or_else(|| show_memory(bytes), |unit| unit.show(bytes))
    }

    /// Whether a job waits for workers to join.
    fn is_elsewhere(&self, choice: &WorkerChoice) -> bool {
        let is_here = |name: &String| self.nodes.values().any(|node| node == name);
        let nobody = || !self.nodes.values().any(|node| choice.admits(node));
        !choice.is_free() && (nobody() || !choice.all_of.iter().all(is_here))
    }

    /// Why an entry waits, or how it ended.
    pub(super) fn reason(&self, entry: &Entry<'_>) -> &'static str {
        let waits = match self.first.is_none_or(|first| first == entry.view.job) {
            _ if self.is_elsewhere(&entry.view.choice) => Waits::Elsewhere,
            true => Waits::First,
            false => Waits::Behind,
        };
        entry.reason(self.now, waits)
    }

    /// A file of an entry's: the pattern of its submission, filled in.
    pub(super) fn file(&self, entry: &Entry<'_>, pattern: &str) -> String {
        let job = entry.view.job;
        let (element, number) = match &entry.part {
            Part::Element { number, index, .. } => (Some(*number), element_number(job, *index)),
            // its elements have files, each its own
            Part::Waiting(_) => return in_directory(entry, pattern),
            Part::Whole => (None, job.0),
        };
        let node = self.first_node(entry);
        let name = expand(
            pattern,
            &PatternValues {
                job,
                number,
                element,
                step: None,
                name: &entry.view.name,
                user: &entry.view.user,
                node: &node,
                node_index: 0,
                rank: 0,
            },
        );
        in_directory(entry, &name)
    }

    /// Where standard output goes.
    pub(super) fn stdout(&self, entry: &Entry<'_>) -> Option<String> {
        Some(self.file(entry, entry.fact(facts::OUTPUT)?))
    }

    /// Where standard error goes.
    pub(super) fn stderr(&self, entry: &Entry<'_>) -> Option<String> {
        let pattern = entry.fact(facts::ERROR).or(entry.fact(facts::OUTPUT))?;
        Some(self.file(entry, pattern))
    }

    /// Where standard input comes from.
    pub(super) fn stdin(&self, entry: &Entry<'_>) -> String {
        entry
            .fact(facts::INPUT)
            .map_or_else(|| "/dev/null".to_owned(), |pattern| self.file(entry, pattern))
    }
}

/// A name as it is meant in the job's working directory.
fn in_directory(entry: &Entry<'_>, name: &str) -> String {
    let directory = entry.fact(facts::DIRECTORY).unwrap_or_default();
    std::path::Path::new(directory).join(name).display().to_string()
}

/// All cpu time of what was used.
pub(super) fn cpu_used(used: &UsageSum) -> Duration {
    Duration::from_micros(used.user_micros.saturating_add(used.system_micros))
}

/// A step of an entry, as `sacct` lists it below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The job itself.
    None,
    /// The batch script.
    Batch,
}

/// What a step doesn't show, since only its job was asked.
const OF_JOBS_ALONE: [Field; 17] = [
    Field::Comment,
    Field::Constraints,
    Field::Group,
    Field::GroupId,
    Field::MemoryAsked,
    Field::Partition,
    Field::Priority,
    Field::Qos,
    Field::SubmitLine,
    Field::TimeLimit,
    Field::TimeLimitMinutes,
    Field::User,
    Field::UserId,
    Field::Waited,
    Field::WaitedCpu,
    Field::WaitedCpuSeconds,
    Field::WorkDir,
];

/// An entry, and all that is needed to show it.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) scene: &'a Scene,
    pub(super) entry: &'a Entry<'a>,
    pub(super) step: Step,
}

impl Line<'_> {
    /// A time, or what the list shows for none.
    fn moment(&self, millis: Option<u64>) -> Option<String> {
        match (millis, self.scene.manner) {
            (Some(millis), _) => Some(clock::show(millis)),
            (None, Manner::Squeue) => None,
            (None, Manner::Sacct) => Some("Unknown".to_owned()),
        }
    }

    fn start(&self) -> Option<String> {
        let entry = self.entry;
        let begin = entry.view.begin_unix_millis;
        let planned =
            begin.filter(|_| entry.state == JobState::Pending && self.scene.manner == Manner::Squeue);
        self.moment(entry.started.or(planned))
    }

    fn end(&self) -> Option<String> {
        let entry = self.entry;
        let latest = entry.started.zip(entry.time_limit()).map(|(started, limit)| {
            started.saturating_add(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
        });
        let planned = latest.filter(|_| self.scene.manner == Manner::Squeue);
        match entry.state.has_ended() {
            true => self.moment(entry.ended),
            false => self.moment(planned),
        }
    }

    fn elapsed(&self) -> Option<Duration> {
        self.entry.elapsed(self.scene.now)
    }

    fn clock(&self, time: Duration) -> String {
        match self.scene.manner {
            Manner::Squeue => short_clock(time),
            Manner::Sacct => full_clock(time),
        }
    }

    fn limit(&self) -> TimeLimit {
        self.entry
            .time_limit()
            .map_or(TimeLimit::Unlimited, TimeLimit::Limited)
    }

    fn limit_text(&self) -> String {
        match self.scene.manner {
            Manner::Squeue => short_limit(self.limit()),
            Manner::Sacct => full_limit(self.limit()),
        }
    }

    fn time_left(&self) -> String {
        match self.entry.time_limit() {
            None => "UNLIMITED".to_owned(),
            Some(limit) => short_clock(limit.saturating_sub(self.elapsed().unwrap_or_default())),
        }
    }

    fn state(&self) -> String {
        let entry = self.entry;
        match (&entry.view.outcome, entry.state, self.scene.manner, self.step) {
            (Some(Outcome::Cancelled { by }), JobState::Cancelled, Manner::Sacct, Step::None) => {
                format!("{} by {}", entry.state, self.scene.person(by).uid)
            }
            (_, state, _, _) => state.name().to_owned(),
        }
    }

    fn nodes(&self) -> Option<String> {
        let list = self.scene.node_list(self.entry);
        match (list.is_empty(), self.scene.manner) {
            (false, _) => Some(list),
            (true, Manner::Squeue) => Some(String::new()),
            (true, Manner::Sacct) => Some("None assigned".to_owned()),
        }
    }

    /// What was said of it and changes nothing.
    fn recorded(&self, name: &str) -> Option<String> {
        self.entry.fact(name).map(str::to_owned).or_else(|| self.null())
    }

    /// What stands for something that nobody said.
    fn null(&self) -> Option<String> {
        (self.scene.manner == Manner::Squeue).then(|| "(null)".to_owned())
    }

    fn tres(&self) -> String {
        let request = &self.entry.view.request;
        let mut texts = vec![format!("billing={0},cpu={0}", self.entry.cpus())];
        if let Some(list) = gres(&request.named) {
            texts.extend(
                list.split(',')
                    .filter_map(|part| part.rsplit_once(':'))
                    .map(|(name, count)| format!("gres/{name}={count}")),
            );
        }
        if request.memory_bytes > 0 {
            let bytes = request.memory_bytes.saturating_mul(self.entry.nodes());
            texts.push(format!("mem={}", self.scene.show_memory(bytes)));
        }
        texts.push(format!("node={}", self.entry.nodes()));
        texts.join(",")
    }

    fn id(&self) -> String {
        match self.step {
            Step::None => self.entry.id(),
            Step::Batch => format!("{}.batch", self.entry.id()),
        }
    }

    fn raw_id(&self) -> String {
        match (self.scene.manner, &self.entry.part) {
            (Manner::Squeue, _) => self.entry.number().to_string(),
            // those that read it know elements by these names, and have nothing but what sbatch printed to tell a job by
            (Manner::Sacct, Part::Element { .. } | Part::Whole) => self.id(),
            (Manner::Sacct, Part::Waiting(_)) => self.entry.view.job.to_string(),
        }
    }

    fn allocated_cpus(&self) -> u64 {
        match self.entry.state == JobState::Pending {
            true => 0,
            false => self.entry.cpus(),
        }
    }

    /// What a step has used: of a job whose script is a step, that one's line says it.
    fn step_used(&self) -> Option<UsageSum> {
        let is_said_below = self.step == Step::None && self.entry.is_batch();
        self.entry.used.filter(|_| !is_said_below)
    }

    /// The same if it is of one task, whose place is known.
    fn used_by_one(&self) -> Option<UsageSum> {
        self.step_used().filter(|used| used.tasks == 1)
    }

    fn show_memory_used(&self, kib: u64) -> String {
        match (kib, self.scene.unit) {
            (0, _) => "0".to_owned(),
            (kib, None) => format!("{kib}K"),
            (kib, Some(unit)) => unit.show(kib.saturating_mul(1024)),
        }
    }

    /// How long it could have run and did not.
    fn waited(&self) -> Option<Duration> {
        let view = self.entry.view;
        let began = match (self.entry.started, self.entry.state.has_ended()) {
            (Some(started), _) => started,
            (None, true) => self.entry.ended?,
            (None, false) => self.scene.now,
        };
        let eligible = view
            .submitted_unix_millis
            .max(view.begin_unix_millis.unwrap_or(0));
        Some(Duration::from_millis(began.saturating_sub(eligible)))
    }

    fn waited_cpu(&self) -> Option<Duration> {
        let cpus = u32::try_from(self.entry.cpus()).unwrap_or(u32::MAX);
        self.waited().map(|time| time.saturating_mul(cpus))
    }

    fn cpu_time(&self) -> Option<Duration> {
        let cpus = u32::try_from(self.allocated_cpus()).unwrap_or(u32::MAX);
        self.elapsed().map(|time| time.saturating_mul(cpus))
    }
}

impl Row for Line<'_> {
    fn text(&self, field: Field) -> Option<String> {
        let entry = self.entry;
        let view = entry.view;
        let user = || self.scene.person(&view.user);
        let show = |bytes| self.scene.show_memory(bytes);
        if self.step == Step::Batch {
            // a step has nothing of its own that only its job was asked
            if field == Field::Name {
                return Some("batch".to_owned());
            }
            if OF_JOBS_ALONE.contains(&field) || matches!(field, Field::Recorded(_)) {
                return None;
            }
        }
        Some(match field {
            Field::Account => return self.recorded(facts::ACCOUNT),
            Field::AllocCpus => self.allocated_cpus().to_string(),
            Field::ArrayJobId => match entry.array_task() {
                Some(_) => view.job.to_string(),
                None => return (self.scene.manner == Manner::Squeue).then(|| view.job.to_string()),
            },
            Field::ArrayTaskId => return entry.array_task(),
            Field::Cluster => super::nodes::PARTITION.to_owned(),
            Field::Command => entry.fact(facts::SCRIPT).unwrap_or(&view.kernel).to_owned(),
            Field::Comment => return self.recorded(facts::COMMENT),
            Field::Constraints => return self.recorded("constraint"),
            Field::CpuTime => full_clock(self.cpu_time()?),
            Field::CpuTimeSeconds => self.cpu_time()?.as_secs().to_string(),
            Field::Cpus => entry.cpus().to_string(),
            Field::CpusPerTask => entry.fact(facts::CPUS_PER_RANK).unwrap_or("1").to_owned(),
            Field::Dependency => match (entry.fact(facts::DEPENDENCY), view.waits_for.is_empty()) {
                (Some(dependency), false) => dependency.to_owned(),
                (_, _) => return self.null(),
            },
            Field::Elapsed => self.clock(self.elapsed()?),
            Field::ElapsedSeconds => self.elapsed()?.as_secs().to_string(),
            Field::Eligible => {
                let begin = view.begin_unix_millis.unwrap_or(0);
                return self.moment(Some(view.submitted_unix_millis.max(begin)));
            }
            Field::End => return self.end(),
            Field::ExecHost => match self.scene.node_list(entry) {
                list if list.is_empty() => "n/a".to_owned(),
                list => list,
            },
            Field::ExitCode => {
                let (code, signal) = entry.exit();
                format!("{code}:{signal}")
            }
            Field::Gres => match gres(&view.request.named) {
                Some(list) => list
                    .split(',')
                    .map(|part| format!("gres/{part}"))
                    .collect::<Vec<_>>()
                    .join(","),
                None => return None,
            },
            Field::Group => user().group,
            Field::GroupId => user().gid.to_string(),
            Field::JobId => self.id(),
            Field::JobIdRaw => self.raw_id(),
            Field::Licenses => return self.recorded("licenses"),
            Field::MaxRss => self.show_memory_used(self.step_used()?.rss_kib_max),
            Field::MaxRssNode => {
                self.used_by_one()?;
                self.scene.first_node(entry)
            }
            Field::MaxRssTask => {
                self.used_by_one()?;
                "0".to_owned()
            }
            // of one task it is the same; of many it is not kept
            Field::AverageRss => self.show_memory_used(self.used_by_one()?.rss_kib_max),
            Field::MinimumCpu => full_clock(cpu_used(&self.used_by_one()?)),
            Field::AverageCpu => {
                let used = self.step_used()?;
                let micros = used.user_micros.saturating_add(used.system_micros);
                full_clock(Duration::from_micros(micros / used.tasks.max(1)))
            }
            Field::SystemCpu => cpu_clock(Duration::from_micros(entry.used?.system_micros)),
            Field::TotalCpu => cpu_clock(cpu_used(&entry.used?)),
            Field::UserCpu => cpu_clock(Duration::from_micros(entry.used?.user_micros)),
            Field::MemoryAsked => show(view.request.memory_bytes),
            Field::Nothing => return None,
            Field::Name => view.name.clone(),
            Field::Nice => view.priority.saturating_neg().to_string(),
            Field::NodeCount => entry.nodes().to_string(),
            Field::NodeList => return self.nodes(),
            Field::NodesAsked => node_names(view.choice.wanted()),
            Field::NodesExcluded => node_names(&view.choice.never),
            Field::OverSubscribe => "OK".to_owned(),
            Field::Partition => entry.partition().to_owned(),
            Field::Priority => view.priority.to_string(),
            Field::Qos => self.entry.fact("qos").unwrap_or("normal").to_owned(),
            Field::Reason => self.scene.reason(entry).to_owned(),
            Field::ReasonOrNodes => match self.scene.node_list(entry) {
                list if list.is_empty() => format!("({})", self.scene.reason(entry)),
                list => list,
            },
            Field::Reservation => return self.recorded("reservation"),
            Field::Recorded(option) => return entry.fact(option).map(str::to_owned),
            Field::Requeue => entry.fact(facts::REQUEUE).unwrap_or("1").to_owned(),
            Field::Restarts => entry.restarts.to_string(),
            Field::Start => return self.start(),
            Field::State => self.state(),
            Field::StateShort => entry.state.short().to_owned(),
            Field::Stderr => return self.scene.stderr(entry),
            Field::Stdin => self.scene.stdin(entry),
            Field::Stdout => return self.scene.stdout(entry),
            Field::Submit => return self.moment(Some(view.submitted_unix_millis)),
            Field::SubmitLine => entry.fact(facts::SUBMIT_LINE).unwrap_or_default().to_owned(),
            // nothing is ever suspended
            Field::Suspended => full_clock(Duration::ZERO),
            Field::Tasks => entry.fact(facts::RANKS).unwrap_or("1").to_owned(),
            Field::TimeLeft => self.time_left(),
            Field::TimeLimit => self.limit_text(),
            Field::TimeLimitMinutes => match self.limit() {
                TimeLimit::Unlimited => "UNLIMITED".to_owned(),
                TimeLimit::Limited(time) => time.as_secs().div_ceil(60).to_string(),
            },
            Field::Tres => self.tres(),
            Field::User => view.user.clone(),
            Field::UserId => user().uid.to_string(),
            Field::Waited => full_clock(self.waited()?),
            Field::WaitedCpu => full_clock(self.waited_cpu()?),
            Field::WaitedCpuSeconds => self.waited_cpu()?.as_secs().to_string(),
            Field::WaitedSeconds => self.waited()?.as_secs().to_string(),
            Field::Wckey => return self.recorded("wckey"),
            Field::WorkDir => entry.fact(facts::DIRECTORY).unwrap_or_default().to_owned(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
