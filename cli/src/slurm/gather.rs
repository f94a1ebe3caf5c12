//! Asks the cluster for what Slurm's lists show: jobs, where their tasks are, who runs them.

use std::collections::BTreeMap;

use phalanx::{JobView, WorkerView};
use phalanx_protocol::view::TaskRange;
use phalanx_protocol::{IndexRange, JobId, RangeSet};

use super::clock::now_millis;
use super::elements;
use super::entry::{Entry, Grouping, Part, array, entries, node_count};
use super::nodes::node_list;
use super::people::person;
use super::row::{Manner, Scene};
use super::{Complaint, home};
use crate::batch::ids::{self, JobPart, JobWord};
use crate::cluster::Connected;

/// Jobs, and where the tasks of those are that were looked at.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) jobs: Vec<JobView>,
    pub(super) tasks: BTreeMap<JobId, Vec<TaskRange>>,
    pub(super) workers: Vec<WorkerView>,
    /// As whom the cluster knows whoever asks.
    pub(super) user: String,
    /// Milliseconds since 1970.
    pub(super) now: u64,
}

/// Connects and asks for all jobs, and for the tasks of those that `is_wanted`.
pub(super) async fn gather(
    is_wanted: impl Fn(&JobView, &str, u64) -> bool,
) -> Result<(Gathered, Connected), Complaint> {
    let cluster = home::connected().await?;
    let jobs = cluster.client.jobs().await?;
    let mut gathered = Gathered {
        jobs,
        tasks: BTreeMap::new(),
        workers: cluster.client.workers().await?,
        user: cluster.user.clone(),
        now: now_millis(),
    };
    for view in &gathered.jobs {
        let is_told_apart = view.tasks == 1 || array(view).is_some() || node_count(view) > 1;
        if is_told_apart && is_wanted(view, &gathered.user, gathered.now) {
            let tasks = tasks(&cluster, view).await?;
            gathered.tasks.insert(view.job, tasks);
        }
    }
    Ok((gathered, cluster))
}

/// Where all tasks of a job are.
async fn tasks(cluster: &Connected, view: &JobView) -> Result<Vec<TaskRange>, Complaint> {
    let mut all = Vec::new();
    let mut from = 0;
    while from < view.tasks {
        let page = cluster
            .client
            .tasks(view.job, IndexRange::new(from, view.tasks))
            .await?;
        all.extend(page.tasks);
        if page.next <= from {
            break;
        }
        from = page.next;
    }
    Ok(all)
}

impl Gathered {
    /// The entries of a job.
    pub(super) fn entries<'a>(&'a self, view: &'a JobView, grouping: Grouping) -> Vec<Entry<'a>> {
        let tasks = self.tasks.get(&view.job).map_or(&[][..], Vec::as_slice);
        entries(view, tasks, grouping)
    }

    /// What all entries share.
    pub(super) fn scene(&self, manner: Manner) -> Scene {
        let waiting = self.jobs.iter().filter(|view| {
            let waits_alone = !view.held && !view.never && view.waits_for.is_empty();
            view.outcome.is_none()
                && view.slots == 0
                && waits_alone
                && view.begin_unix_millis.is_none_or(|begin| begin <= self.now)
        });
        let first = waiting.min_by_key(|view| (std::cmp::Reverse(view.priority), view.job));
        let mut nodes_of = BTreeMap::new();
        for view in self.jobs.iter().filter(|view| view.slots > 0) {
            let held_by = self
                .workers
                .iter()
                .filter(|worker| worker.jobs.contains(&view.job));
            nodes_of.insert(view.job, node_list(held_by));
        }
        let mut people = BTreeMap::new();
        for view in &self.jobs {
            people
                .entry(view.user.clone())
                .or_insert_with(|| person(&view.user));
        }
        Scene {
            manner,
            now: self.now,
            nodes: self
                .workers
                .iter()
                .map(|worker| (worker.worker, worker.name.clone()))
                .collect(),
            nodes_of,
            first: first.map(|view| view.job),
            people,
            unit: None,
        }
    }
}

/// The jobs that a command was told to show or change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selection {
    words: Vec<JobWord>,
}

impl Selection {
    /// Reads lists of jobs.
    pub(super) fn read<S: AsRef<str>>(lists: &[S]) -> Result<Self, Complaint> {
        let words = lists.iter().flat_map(|list| ids::split(list.as_ref()));
        let words: Result<Vec<_>, _> = words.map(JobWord::parse).collect();
        match words {
            Ok(words) => Ok(Self { words }),
            Err(error) => Err(Complaint::new(error.to_string())),
        }
    }

    /// Those that the words name.
    pub(super) fn of(words: Vec<JobWord>) -> Self {
        Self { words }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub(super) fn words(&self) -> &[JobWord] {
        &self.words
    }

    /// Whether a job is among them, or a part of it; all are if none is named.
    pub(super) fn has_job(&self, view: &JobView) -> bool {
        self.is_empty() || self.words.iter().any(|word| word.job == view.job)
    }

    /// What of an entry is among them.
    pub(super) fn part_of<'a>(&self, entry: Entry<'a>) -> Option<Entry<'a>> {
        let own = || self.words.iter().filter(|word| word.job == entry.view.job);
        if self.is_empty() || own().any(|word| word.part == JobPart::Whole) {
            return Some(entry);
        }
        let array = array(entry.view)?;
        match &entry.part {
            Part::Whole => own().next().is_some().then_some(entry),
            Part::Element { index, number } => {
                let is_meant = own().any(|word| match &word.part {
                    JobPart::Whole => true,
                    JobPart::Elements(wanted) => wanted.contains(*number),
                    JobPart::Position(position) => position == index,
                });
                is_meant.then_some(entry)
            }
            Part::Waiting(waiting) => {
                let ids = waiting.ids();
                let mut meant = RangeSet::new();
                for word in own() {
                    let ranges = match &word.part {
                        JobPart::Whole => vec![IndexRange::new(0, ids.count())],
                        JobPart::Elements(wanted) => elements::ranges(&ids, wanted),
                        JobPart::Position(position) => {
                            let found = array.id(*position).and_then(|number| ids.index(number));
                            found.map(|at| IndexRange::new(at, at + 1)).into_iter().collect()
                        }
                    };
                    ranges.into_iter().for_each(|range| meant.insert(range));
                }
                let ranges: Vec<IndexRange> = meant.iter().collect();
                let spec = elements::spec(&ids, &ranges, entry.view.slots_max)?;
                let number = spec.first();
                let part = match spec.count() {
                    1 => Part::Element {
                        index: array.index(number)?,
                        number,
                    },
                    _ => Part::Waiting(spec),
                };
                Some(Entry { part, ..entry })
            }
        }
    }
}

/// Whether a user is among those that were named, by name or number; `me` stands for whoever asks.
pub(super) fn is_user(view: &JobView, named: &[String], own: &str) -> bool {
    named.iter().any(|name| {
        let is_own = || {
            let uid = rustix::process::getuid().as_raw();
            let login = std::env::var("USER").ok().or_else(|| super::people::name_of(uid));
            *name == uid.to_string() || login.as_ref() == Some(name)
        };
        *name == view.user
            || view.user == own && is_own()
            || name.parse::<u32>().is_ok() && *name == person(&view.user).uid.to_string()
    })
}
