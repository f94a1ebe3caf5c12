//! Whether a submission can be at all, as far as that is seen without knowing the cluster.

use serde::{Deserialize, Serialize};

use super::{JobSpec, Payload, Work};
use crate::amount::Amount;
use crate::choice::CHOICE_BYTES_MAX;
use crate::command::{self, CommandWork};
use crate::dependency::{self, Condition};
use crate::gang::{GangError, OnLoss, Shape};
use crate::limits;
use crate::resources::Request;

/// Why a job spec is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SpecError {
    /// More tasks than a job may have.
    #[error("a job has at most {} tasks, this one has {tasks}", limits::TASKS_MAX)]
    TooManyTasks {
        /// How many were asked for.
        tasks: u64,
    },
    /// A name is empty, too long or has control characters.
    #[error(
        "the {what} name is empty, longer than {} bytes, or has control characters",
        limits::NAME_BYTES_MAX
    )]
    BadName {
        /// Of the job, a kernel, a resource.
        what: String,
    },
    /// More kinds of resources than a job may ask for.
    #[error(
        "a task asks for {count} named resources, more than {}",
        limits::RESOURCES_NAMED_MAX
    )]
    TooManyResources {
        /// How many were asked for.
        count: usize,
    },
    /// Gpus that nobody can give.
    #[error(
        "a task gets whole gpus or a part of one, and has those of a type among all it asks for; not {amount}"
    )]
    UndividableGpus {
        /// What cannot be given.
        amount: Amount,
    },
    /// A task that needs no cpu.
    #[error("each task needs at least 1 cpu")]
    NoCpus,
    /// More alternatives than a job may have.
    #[error(
        "a task may need {count} other things instead, more than {}",
        limits::ALTERNATIVES_MAX
    )]
    TooManyAlternatives {
        /// How many there are.
        count: usize,
    },
    /// Alternatives that differ in more than in what they need.
    #[error("what a task may need instead shares its worker and is pinned as what it needs first")]
    UnlikeAlternatives,
    /// A limit that no task could keep.
    #[error("the {what} is 0, so that no task could ever succeed")]
    ZeroLimit {
        /// Which limit.
        what: String,
    },
    /// Parameters that should have been a blob.
    #[error(
        "inline parameters take {bytes} bytes, more than {}",
        limits::PARAMETERS_INLINE_BYTES_MAX
    )]
    ParametersTooLarge {
        /// Their length.
        bytes: usize,
    },
    /// The numbers of an array are not those of its tasks.
    #[error("the numbers of the array are not ascending, or not as many as its {tasks} tasks")]
    BadArray {
        /// How many tasks there are.
        tasks: u64,
    },
    /// A dependency without, or with too many, conditions.
    #[error(
        "a job waits for 1 to {} conditions, this one for {count}",
        dependency::CONDITIONS_MAX
    )]
    BadDependency {
        /// How many there are.
        count: usize,
    },
    /// A command that says too much about itself.
    #[error(
        "the command's text or facts are empty or too long: at most {} facts of {} bytes",
        command::FACTS_MAX,
        command::FACT_BYTES_MAX
    )]
    BadCommand,
    /// More names of workers than a job may have.
    #[error(
        "the names of the workers that it may or may not run on take {bytes} bytes, more than {CHOICE_BYTES_MAX}"
    )]
    TooManyWorkers {
        /// Their length.
        bytes: usize,
    },
    /// A worker that is to be used and not to be used.
    #[error("it is to run on worker {worker:?} and is not allowed to")]
    ContradictingWorkers {
        /// Which.
        worker: String,
    },
    /// Tasks that run wherever there is room are to be on several workers.
    #[error("only the ranks of a gang can be demanded to be on each of several workers")]
    NoGangOnWorkers,
    /// Fewer nodes than workers that are all to be used.
    #[error("it is to be on each of {workers} workers, and has ranks on {nodes} nodes at most")]
    TooFewForWorkers {
        /// How many are to be used.
        workers: usize,
        /// How many can be.
        nodes: u64,
    },
    /// A gang that cannot be.
    #[error(transparent)]
    Gang(#[from] GangError),
}

impl JobSpec {
    /// Checks everything that needs no knowledge of the cluster.
    ///
    /// # Errors
    /// The first [`SpecError`] found.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.tasks > limits::TASKS_MAX {
            return Err(SpecError::TooManyTasks { tasks: self.tasks });
        }
        check_name("job", &self.name)?;
        match &self.work {
            Work::Kernel(work) => check_name("kernel", &work.kernel)?,
            Work::Command(work) => check_command(work, self.tasks)?,
        }
        self.check_requests()?;
        self.check_limits()?;
        self.check_gang()?;
        self.check_workers()?;
        if let Some(dependency) = &self.dependency {
            let count = dependency.conditions.len();
            if count == 0 || count > dependency::CONDITIONS_MAX {
                return Err(SpecError::BadDependency { count });
            }
        }
        match self.work.parameters() {
            Payload::Inline(bytes) if bytes.len() > limits::PARAMETERS_INLINE_BYTES_MAX => {
                Err(SpecError::ParametersTooLarge { bytes: bytes.len() })
            }
            Payload::Inline(_) | Payload::Blob(_) => Ok(()),
        }
    }

    fn check_requests(&self) -> Result<(), SpecError> {
        let count = self.alternatives.len();
        if count > limits::ALTERNATIVES_MAX {
            return Err(SpecError::TooManyAlternatives { count });
        }
        let company = |request: &Request| (request.pin, request.sharing);
        if self
            .requests()
            .any(|request| company(request) != company(&self.request))
        {
            return Err(SpecError::UnlikeAlternatives);
        }
        self.requests().try_for_each(check_request)
    }

    /// Whether tasks wait for their counterparts in another job.
    fn waits_by_task(&self) -> bool {
        let dependency = self.dependency.iter();
        let mut conditions = dependency.flat_map(|dependency| &dependency.conditions);
        conditions.any(|condition| matches!(condition, Condition::AfterCorresponding(_)))
    }

    fn check_gang(&self) -> Result<(), GangError> {
        let Some(gang) = &self.gang else {
            return Ok(());
        };
        gang.check(self.tasks)?;
        let goes_on = match gang.on_loss {
            OnLoss::Fail | OnLoss::Restart => false,
            OnLoss::Shrink | OnLoss::Respawn => true,
        };
        if goes_on && self.work.is_command() {
            return Err(GangError::CannotGoOn);
        }
        if gang.is_led() && !self.work.is_command() {
            return Err(GangError::LedKernels);
        }
        let unfit = [
            ("a number of tasks at a time", self.slots_max.is_some()),
            ("running tasks twice", self.idempotent),
            ("an alternative to what each needs", !self.alternatives.is_empty()),
            ("merging results", self.work.reduces()),
            ("waiting task by task", self.waits_by_task()),
        ];
        match unfit.into_iter().find(|(_, is_asked)| *is_asked) {
            Some((what, _)) => Err(GangError::NotForRanks {
                what: what.to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn check_workers(&self) -> Result<(), SpecError> {
        let mut names = self.choice.names();
        names.try_for_each(|name| check_name("worker", name))?;
        let bytes = self.choice.names().map(String::len).sum();
        if bytes > CHOICE_BYTES_MAX {
            return Err(SpecError::TooManyWorkers { bytes });
        }
        if let Some(worker) = self.choice.contradiction().cloned() {
            return Err(SpecError::ContradictingWorkers { worker });
        }
        let workers = self.choice.all_of.len();
        let nodes = match self.gang.as_ref().map(|gang| gang.shape(self.tasks)) {
            None if workers == 0 => return Ok(()),
            None => return Err(SpecError::NoGangOnWorkers),
            Some(Shape::Any) => self.tasks,
            Some(Shape::Nodes(counts)) => counts.len() as u64,
        };
        match workers as u64 > nodes {
            true => Err(SpecError::TooFewForWorkers { workers, nodes }),
            false => Ok(()),
        }
    }

    fn check_limits(&self) -> Result<(), SpecError> {
        let limits = [
            ("time limit of each task", self.task_time_limit_millis),
            ("time limit of the job", self.time_limit_millis),
            ("crash limit", Some(self.retries.crash_limit.into())),
            ("limit of lost workers", self.retries.lost_limit.map(u64::from)),
            ("number of tasks at a time", self.slots_max.map(u64::from)),
        ];
        match limits.into_iter().find(|(_, limit)| *limit == Some(0)) {
            Some((what, _)) => Err(SpecError::ZeroLimit {
                what: what.to_owned(),
            }),
            None => Ok(()),
        }
    }
}

fn check_request(request: &Request) -> Result<(), SpecError> {
    let count = request.named.len();
    if count > limits::RESOURCES_NAMED_MAX {
        return Err(SpecError::TooManyResources { count });
    }
    let mut names = request.named.keys();
    names.try_for_each(|name| check_name("resource", name))?;
    if let Some(amount) = request.undividable() {
        return Err(SpecError::UndividableGpus { amount });
    }
    match request.cpus {
        0 => Err(SpecError::NoCpus),
        _ => Ok(()),
    }
}

fn check_command(work: &CommandWork, tasks: u64) -> Result<(), SpecError> {
    let fits = |text: &String| text.len() <= command::FACT_BYTES_MAX;
    let facts_fit = work.facts.len() <= command::FACTS_MAX
        && work.facts.iter().all(|(name, value)| fits(name) && fits(value));
    if work.command.is_empty() || !fits(&work.command) || !facts_fit {
        return Err(SpecError::BadCommand);
    }
    match &work.array {
        Some(array) if !array.is_valid() || array.count() != tasks => Err(SpecError::BadArray { tasks }),
        Some(_) | None => Ok(()),
    }
}

fn check_name(what: &str, name: &str) -> Result<(), SpecError> {
    let bad = name.is_empty() || name.len() > limits::NAME_BYTES_MAX || name.chars().any(char::is_control);
    if bad {
        Err(SpecError::BadName {
            what: what.to_owned(),
        })
    } else {
        Ok(())
    }
}
