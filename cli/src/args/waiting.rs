//! What a job waits for before anything of it starts: other jobs, a time, somebody's leave.

use crate::batch::begin::Begin;
use phalanx_protocol::JobId;
use phalanx_protocol::dependency::{Condition, Dependency, Ending, Joined, Never};

/// What a job waits for.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Waiting")]
pub(crate) struct WaitingArguments {
    /// Start once these jobs have started
    ///
    /// Or are over. Ids are separated by commas or given by repeating the option; of all these options all must hold, or one with `--any-of`.
    /// Example: --after 41
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(crate) after: Vec<JobId>,

    /// Start once these jobs are over, one way or the other
    ///
    /// Example: --afterany 41,42
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(crate) afterany: Vec<JobId>,

    /// Start once all tasks of these jobs have succeeded
    ///
    /// Example: --afterok 41
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(crate) afterok: Vec<JobId>,

    /// Start once these jobs have failed
    ///
    /// Or were cancelled: not all of their tasks have succeeded. Example: --afternotok 41
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(crate) afternotok: Vec<JobId>,

    /// Start each task once the same task of these jobs has succeeded
    ///
    /// Tasks of the same position: the first of an array after the first of the other. Example: --aftercorr 41
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(crate) aftercorr: Vec<JobId>,

    /// Start once no earlier job of yours with the same name is left
    ///
    /// Example: --singleton --name nightly
    #[arg(long)]
    pub(crate) singleton: bool,

    /// Start once one of what the job waits for has come to pass
    ///
    /// Default: all of it has to. Example: --afterok 41 --afterany 42 --any-of
    #[arg(long)]
    pub(crate) any_of: bool,

    /// Cancel the job once what it waits for cannot come to pass
    ///
    /// Default: it stays, since a job that has failed may be run again (`phalanx retry`). Example: --afterok 41 --cancel-if-never
    #[arg(long)]
    pub(crate) cancel_if_never: bool,

    /// Start nothing before a time
    ///
    /// A time of day, a date, both, or a time from now, as the clock of this machine shows it.
    /// Examples: --begin 16:00, --begin tomorrow, --begin 2026-12-24T08:00, --begin now+2hours
    #[arg(long, value_name = "TIME", value_parser = Begin::parse)]
    pub(crate) begin: Option<Begin>,

    /// Start nothing until somebody releases the job
    ///
    /// `phalanx release ID` does. Example: phalanx submit --hold ./job.sh
    #[arg(long)]
    pub(crate) hold: bool,
}

/// How a job stands to another one that it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Relation {
    After,
    AfterAny,
    AfterOk,
    AfterNotOk,
    AfterCorresponding,
}

impl Relation {
    pub(crate) const ALL: [Self; 5] = [
        Self::After,
        Self::AfterAny,
        Self::AfterOk,
        Self::AfterNotOk,
        Self::AfterCorresponding,
    ];

    /// The option's name, also that of the key in a job file.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::After => "after",
            Self::AfterAny => "afterany",
            Self::AfterOk => "afterok",
            Self::AfterNotOk => "afternotok",
            Self::AfterCorresponding => "aftercorr",
        }
    }

    /// How a job with this condition stands to the one that it is about.
    pub(crate) fn of(condition: &Condition) -> Option<Self> {
        match condition {
            Condition::After { .. } => Some(Self::After),
            Condition::AfterAny(_) => Some(Self::AfterAny),
            Condition::AfterOk(_) => Some(Self::AfterOk),
            Condition::AfterNotOk(_) => Some(Self::AfterNotOk),
            Condition::AfterCorresponding(_) => Some(Self::AfterCorresponding),
            Condition::AfterElement { ending, .. } => Some(match ending {
                Ending::Any => Self::AfterAny,
                Ending::Ok => Self::AfterOk,
                Ending::NotOk => Self::AfterNotOk,
            }),
            Condition::Singleton => None,
        }
    }

    /// The condition on a job.
    pub(crate) fn to(self, job: JobId) -> Condition {
        match self {
            Self::After => Condition::After { job, delay_millis: 0 },
            Self::AfterAny => Condition::AfterAny(job),
            Self::AfterOk => Condition::AfterOk(job),
            Self::AfterNotOk => Condition::AfterNotOk(job),
            Self::AfterCorresponding => Condition::AfterCorresponding(job),
        }
    }
}

/// A condition as options name it: `afterok 12`.
pub(crate) fn condition_text(condition: &Condition) -> String {
    if let (Some(relation), Condition::AfterElement { job, element, .. }) =
        (Relation::of(condition), condition)
    {
        return format!("{} {job}_{element}", relation.word());
    }
    match (Relation::of(condition), condition.job()) {
        (Some(relation), Some(job)) => format!("{} {job}", relation.word()),
        (_, _) => "singleton".to_owned(),
    }
}

impl WaitingArguments {
    /// What the job waits for, and for what is known by now of jobs that are submitted with it.
    pub(crate) fn dependency(&self, others: &[Condition]) -> Option<Dependency> {
        let named = Relation::ALL.into_iter().flat_map(|relation| {
            let jobs = self.jobs(relation).iter();
            jobs.map(move |&job| relation.to(job))
        });
        let singleton = self.singleton.then_some(Condition::Singleton);
        let conditions: Vec<Condition> = named.chain(singleton).chain(others.iter().copied()).collect();
        let never = match self.cancel_if_never {
            true => Never::Cancel,
            false => Never::Stay,
        };
        (!conditions.is_empty()).then_some(Dependency {
            joined: match self.any_of {
                true => Joined::Any,
                false => Joined::All,
            },
            conditions,
            never,
        })
    }

    /// The jobs that stand to it in this way.
    pub(crate) fn jobs(&self, relation: Relation) -> &[JobId] {
        match relation {
            Relation::After => &self.after,
            Relation::AfterAny => &self.afterany,
            Relation::AfterOk => &self.afterok,
            Relation::AfterNotOk => &self.afternotok,
            Relation::AfterCorresponding => &self.aftercorr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_named_has_to_come_to_pass_unless_one_is_said_to_be_enough() {
        let mut waiting = WaitingArguments {
            afterok: vec![JobId(41)],
            afterany: vec![JobId(42)],
            ..WaitingArguments::default()
        };
        let joined = |waiting: &WaitingArguments| waiting.dependency(&[]).unwrap().joined;
        assert_eq!(joined(&waiting), Joined::All);
        waiting.any_of = true;
        assert_eq!(joined(&waiting), Joined::Any);
        assert_eq!(waiting.dependency(&[]).unwrap().conditions.len(), 2);
        let nothing = WaitingArguments {
            any_of: true,
            ..WaitingArguments::default()
        };
        assert_eq!(nothing.dependency(&[]), None);
    }
}
