//! What is to be ended, of all that there is. Pure.

use phalanx::JobView;
use phalanx_protocol::command::facts;
use phalanx_protocol::{JobId, RangeSet};

use super::super::elements;
use super::super::entry::{Entry, Grouping, Part, array};
use super::super::gather::{Gathered, Selection, is_user};
use super::super::row::{Manner, Scene};
use crate::batch::ids::{JobPart, JobWord};
use crate::batch::states::JobState;
use phalanx_protocol::hostlist;

/// Which jobs are meant.
#[derive(Debug, Default)]
pub(in crate::slurm) struct Wanted {
    pub(in crate::slurm) selection: Selection,
    pub(in crate::slurm) users: Vec<String>,
    pub(in crate::slurm) me: bool,
    pub(in crate::slurm) names: Vec<String>,
    pub(in crate::slurm) states: Vec<JobState>,
    pub(in crate::slurm) partitions: Vec<String>,
    pub(in crate::slurm) accounts: Vec<String>,
    pub(in crate::slurm) qos: Vec<String>,
    pub(in crate::slurm) nodes: Vec<String>,
}

/// A job, or tasks of one, to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::slurm) struct End {
    pub(in crate::slurm) job: JobId,
    /// None: all of it.
    pub(in crate::slurm) tasks: Option<RangeSet>,
    /// What people know it by.
    pub(in crate::slurm) text: String,
    pub(in crate::slurm) name: String,
    pub(in crate::slurm) partition: String,
    /// It is a script, submitted by a command of Slurm's or of PBS.
    pub(in crate::slurm) has_shell: bool,
    /// Only this of it is meant.
    pub(in crate::slurm) step: Option<NamedStep>,
}

/// A step of a job that was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::slurm) enum NamedStep {
    /// The batch shell.
    Batch,
    /// What `srun` has started.
    Number(u32),
}

impl NamedStep {
    fn read(text: &str) -> Option<Self> {
        match text {
            "batch" => Some(Self::Batch),
            number => number.parse().ok().map(Self::Number),
        }
    }
}

/// What is to be done, and what can't be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::slurm) struct Plan {
    pub(in crate::slurm) ends: Vec<End>,
    /// What was named and is not there, and why not.
    pub(in crate::slurm) refused: Vec<(JobWord, &'static str)>,
    /// What was named and is over.
    pub(in crate::slurm) over: Vec<JobWord>,
}

impl Wanted {
    /// Whether nothing was said at all.
    pub(in crate::slurm) fn is_nothing(&self) -> bool {
        let lists = [
            &self.users,
            &self.names,
            &self.partitions,
            &self.accounts,
            &self.qos,
            &self.nodes,
        ];
        self.selection.is_empty()
            && !self.me
            && self.states.is_empty()
            && lists.iter().all(|list| list.is_empty())
    }

    /// Whether anything of a job may be meant. Of jobs that are not named, those of others are only if their users are.
    pub(in crate::slurm) fn has_job(&self, view: &JobView, user: &str) -> bool {
        let is_theirs = match (self.me, self.users.is_empty()) {
            (true, _) => view.user == user,
            (false, true) => !self.selection.is_empty() || view.user == user,
            (false, false) => is_user(view, &self.users, user),
        };
        let is_named = self.names.is_empty() || self.names.contains(&view.name);
        view.outcome.is_none() && is_theirs && is_named && self.selection.has_job(view)
    }

    fn has(&self, scene: &Scene, entry: &Entry<'_>) -> bool {
        let is_of = |wanted: &[String], text: &str| wanted.is_empty() || wanted.iter().any(|one| one == text);
        let list = scene.node_list(entry);
        let nodes = || hostlist::expand(&list).unwrap_or_default();
        !entry.state.has_ended()
            && (self.states.is_empty() || self.states.contains(&entry.state))
            && is_of(&self.partitions, entry.partition())
            && is_of(&self.accounts, entry.fact("account").unwrap_or_default())
            && is_of(&self.qos, entry.fact("qos").unwrap_or("normal"))
            && (self.nodes.is_empty() || nodes().iter().any(|node| self.nodes.contains(node)))
    }
}

/// What has to be ended for what is meant.
pub(in crate::slurm) fn plan(gathered: &Gathered, wanted: &Wanted) -> Plan {
    let scene = gathered.scene(Manner::Squeue);
    let mut plan = Plan::default();
    let mut accepted = Vec::new();
    for word in wanted.selection.words() {
        let view = gathered.jobs.iter().find(|view| view.job == word.job);
        match view {
            None => plan.refused.push((word.clone(), "Invalid job id specified")),
            Some(_)
                if word
                    .step
                    .as_deref()
                    .is_some_and(|step| NamedStep::read(step).is_none()) =>
            {
                plan.refused
                    .push((word.clone(), "a step is named by its number, or batch"));
            }
            Some(view) if !has_part(view, word) => {
                plan.refused.push((word.clone(), "Invalid job id specified"));
            }
            Some(view) if view.outcome.is_some() => plan.over.push(word.clone()),
            Some(_) => accepted.push(word.clone()),
        }
    }
    let (of_steps, of_jobs): (Vec<JobWord>, Vec<JobWord>) =
        accepted.into_iter().partition(|word| word.step.is_some());
    let ends = |selection: &Selection| -> Vec<End> {
        let is_meant = |view: &&JobView| wanted.has_job(view, &gathered.user) && selection.has_job(view);
        let views = gathered.jobs.iter().filter(is_meant);
        views
            .filter_map(|view| end(gathered, wanted, selection, &scene, view))
            .collect()
    };
    if !of_jobs.is_empty() || wanted.selection.is_empty() {
        plan.ends = ends(&Selection::of(of_jobs));
    }
    for word in of_steps {
        let (text, step) = (word.to_string(), word.step.as_deref().and_then(NamedStep::read));
        let of_step = ends(&Selection::of(vec![word]));
        plan.ends.extend(of_step.into_iter().map(|end| End {
            text: text.clone(),
            step,
            ..end
        }));
    }
    plan
}

/// Whether a job has the part that a word names.
fn has_part(view: &JobView, word: &JobWord) -> bool {
    match (&word.part, array(view)) {
        (JobPart::Whole, _) => true,
        (JobPart::Elements(wanted), Some(array)) => !elements::ranges(array, wanted).is_empty(),
        (JobPart::Position(position), Some(array)) => array.id(*position).is_some(),
        (JobPart::Elements(_) | JobPart::Position(_), None) => false,
    }
}

/// What of a job is to be ended.
fn end(
    gathered: &Gathered,
    wanted: &Wanted,
    selection: &Selection,
    scene: &Scene,
    view: &JobView,
) -> Option<End> {
    let entries = gathered.entries(view, Grouping::Together);
    let active: Vec<Entry<'_>> = entries
        .into_iter()
        .filter(|entry| !entry.state.has_ended())
        .collect();
    let meant: Vec<Entry<'_>> = active
        .iter()
        .cloned()
        .filter_map(|entry| selection.part_of(entry))
        .filter(|entry| wanted.has(scene, entry))
        .collect();
    if meant.is_empty() {
        return None;
    }
    let is_all = active.len() == meant.len()
        && active
            .iter()
            .zip(&meant)
            .all(|(one, other)| one.part == other.part);
    let of_whole = |tasks, text| End {
        job: view.job,
        tasks,
        text,
        name: view.name.clone(),
        partition: meant[0].partition().to_owned(),
        has_shell: meant[0].fact(facts::PARTITION).is_some(),
        step: None,
    };
    let array = array(view).filter(|_| !is_all);
    let Some(array) = array else {
        return Some(of_whole(None, view.job.to_string()));
    };
    let mut tasks = RangeSet::new();
    for entry in &meant {
        match &entry.part {
            Part::Whole => tasks.insert(phalanx_protocol::IndexRange::new(0, view.tasks)),
            Part::Element { index, .. } => tasks.insert(phalanx_protocol::IndexRange::new(*index, index + 1)),
            Part::Waiting(spec) => {
                let ranges = elements::ranges(array, spec);
                ranges.into_iter().for_each(|range| tasks.insert(range));
            }
        }
    }
    let texts: Vec<String> = meant.iter().map(Entry::id).collect();
    Some(of_whole(Some(tasks), texts.join(",")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use phalanx_protocol::IndexRange;
    use phalanx_protocol::record::Outcome;
    use phalanx_protocol::view::TaskState;

    use super::*;
    use crate::slurm::entry::tests::{batch, tasks};

    /// Job 42, an array of ten: one has succeeded, two run; job 43, alone; job 44, over; job 45, of eve.
    fn gathered() -> Gathered {
        let job = |number, array| JobView {
            job: JobId(number),
            ..batch(array)
        };
        let mut jobs = vec![job(42, Some("0-9")), job(43, None), job(44, None), job(45, None)];
        jobs[2].outcome = Some(Outcome::Succeeded);
        jobs[3].user = "eve".to_owned();
        let told = vec![
            tasks(0, 1, TaskState::Succeeded),
            tasks(1, 3, TaskState::Running),
            tasks(3, 10, TaskState::Waiting),
        ];
        Gathered {
            jobs,
            tasks: BTreeMap::from([(JobId(42), told)]),
            workers: Vec::new(),
            user: "ada".to_owned(),
            now: 1_091_000,
        }
    }

    fn named(ids: &[&str]) -> Wanted {
        Wanted {
            selection: Selection::read(ids).unwrap(),
            ..Wanted::default()
        }
    }

    /// The ends as `42` or `42: 1, 3-9`.
    fn ends(wanted: &Wanted) -> Vec<String> {
        let plan = plan(&gathered(), wanted);
        let text = |end: &End| {
            let name = match end.step {
                Some(NamedStep::Number(_)) => end.text.clone(),
                Some(NamedStep::Batch) | None => end.job.to_string(),
            };
            let Some(tasks) = &end.tasks else {
                return name;
            };
            let ranges: Vec<String> = tasks.iter().map(|range: IndexRange| range.to_string()).collect();
            format!("{name}: {}", ranges.join(", "))
        };
        plan.ends.iter().map(text).collect()
    }

    #[test]
    fn what_is_named_is_ended_and_nothing_else() {
        for (ids, expected) in [
            (vec!["42"], vec!["42"]),
            (vec!["42", "43"], vec!["42", "43"]),
            (vec!["42_1"], vec!["42: 1"]),
            (vec!["42_[1,5-7]"], vec!["42: 1, 5-7"]),
            (vec!["4000000042"], vec!["42: 3"]),
            (vec!["42_0"], vec![]),
            (vec!["42_[1-9]"], vec!["42"]),
            (vec!["43.batch"], vec!["43"]),
            (vec!["43.0"], vec!["43.0"]),
            (vec!["42_1.0", "43"], vec!["43", "42_1.0: 1"]),
            (vec!["43.extern"], vec![]),
            (vec!["45"], vec!["45"]),
            (vec!["44"], vec![]),
        ] {
            assert_eq!(ends(&named(&ids)), expected, "{ids:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_and_what_is_over_is_no_error() {
        let plan = plan(&gathered(), &named(&["99", "42_77", "43_1", "43.extern", "44"]));
        let refused: Vec<String> = plan.refused.iter().map(|(word, _)| word.to_string()).collect();
        assert_eq!(refused, ["99", "42_77", "43_1", "43.extern"]);
        assert_eq!(plan.over, [JobWord::parse("44").unwrap()]);
        assert_eq!(plan.ends, []);
    }

    #[test]
    fn without_a_name_all_are_meant_of_whom_and_as_is_said() {
        let mine = Wanted {
            me: true,
            ..Wanted::default()
        };
        assert_eq!(ends(&mine), ["42", "43"]);
        let waiting = Wanted {
            states: vec![JobState::Pending],
            ..Wanted::default()
        };
        assert_eq!(ends(&waiting), ["42: 3-9", "43"]);
        let of_eve = Wanted {
            users: vec!["eve".to_owned()],
            ..Wanted::default()
        };
        assert_eq!(ends(&of_eve), ["45"]);
        let elsewhere = Wanted {
            partitions: vec!["long".to_owned()],
            ..Wanted::default()
        };
        assert_eq!(ends(&elsewhere), Vec::<String>::new());
        assert!(Wanted::default().is_nothing() && !mine.is_nothing());
    }
}
