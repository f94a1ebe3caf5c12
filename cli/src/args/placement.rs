//! Gpus, and what else is said of where tasks run: which cpus, and beside whom.

mod alternative;

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use phalanx_protocol::resources::GPU;
use phalanx_protocol::{Amount, Pin, Request, Sharing, WorkerChoice};

pub(crate) use self::alternative::Alternative;
use super::values::NamedResource;
use phalanx_protocol::hostlist::{self, HostListError};

/// Where tasks run.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct PlacementArguments {
    /// Gpus that each task needs, of any type or of one
    ///
    /// Each task is told which are its own (CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES, PHALANX_GPUS); no other has them. A
    /// part of one is shared: --gpus 0.25 lets four tasks run on each. `phalanx workers` shows the types.
    /// Unit: gpus. Default: none. Examples: --gpus 2, --gpus a100:1, --gpus 0.5
    #[arg(long, value_name = "[TYPE:]N", value_delimiter = ',')]
    pub(crate) gpus: Vec<GpuCount>,

    /// What a task may need instead where the first is not to be had
    ///
    /// `cpus` and `memory` are as with --cpus and --memory unless they are given; gpus and other resources are none. Each worker
    /// runs all tasks of the job in the first way that it has enough for when it is empty. May be repeated, in order of preference.
    /// Default: none. Examples: --gpus 1 --or cpus=16, --gpus a100:1 --or gpus=2 --or cpus=16,memory=64G
    #[arg(long, value_name = "NAME=VALUE,..")]
    pub(crate) or: Vec<Alternative>,

    /// Run on these workers only
    ///
    /// By their names, as `phalanx workers` shows them; with brackets for several. Where none of them has joined the job waits
    /// until one does. Default: any. Examples: --on n1, --on n[1-4,7] --on big
    #[arg(long, value_name = "NAMES")]
    pub(crate) on: Vec<WorkerNames>,

    /// Run on none of these workers
    ///
    /// By their names, as --on. Default: any will do. Example: --not-on n[5-6]
    #[arg(long, value_name = "NAMES")]
    pub(crate) not_on: Vec<WorkerNames>,

    /// Keep each task to cpus of its own
    ///
    /// compact: near each other and near the next task's, hardware threads of a core together. spread: on the NUMA node where
    /// few others run, a core's second thread last. Either way on one node if they fit there.
    /// Default: none, the system moves tasks as it sees fit. Example: --cpus 4 --pin compact
    #[arg(long, value_name = "HOW", default_value = "none")]
    pub(crate) pin: PinArgument,

    /// Run on workers that no other job uses meanwhile
    ///
    /// With =task, each task has a worker for itself. Waits until a worker is empty; where none ever is, give the job a higher
    /// --priority. Default: workers are shared. Examples: --exclusive, --exclusive=task
    #[arg(long, value_name = "WHOSE", num_args = 0..=1, require_equals = true, default_missing_value = "job")]
    pub(crate) exclusive: Option<ExclusiveArgument>,
}

/// Which cpus a task runs on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PinArgument {
    #[default]
    None,
    Compact,
    Spread,
}

/// Who has a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExclusiveArgument {
    Job,
    Task,
}

impl PlacementArguments {
    /// The workers that the job may run on.
    pub(crate) fn choice(&self) -> WorkerChoice {
        let names = |lists: &[WorkerNames]| lists.iter().flat_map(|list| list.0.clone()).collect();
        WorkerChoice {
            only: names(&self.on),
            never: names(&self.not_on),
            ..WorkerChoice::default()
        }
    }

    /// Adds what is said to what each task needs.
    pub(crate) fn apply(&self, request: &mut Request) {
        for gpus in &self.gpus {
            request.add(&gpus.name(), gpus.amount);
        }
        request.pin = match self.pin {
            PinArgument::None => Pin::None,
            PinArgument::Compact => Pin::Compact,
            PinArgument::Spread => Pin::Spread,
        };
        request.sharing = match self.exclusive {
            None => Sharing::Anybody,
            Some(ExclusiveArgument::Job) => Sharing::OwnJob,
            Some(ExclusiveArgument::Task) => Sharing::Nobody,
        };
    }
}

/// Names of workers, written as a list of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerNames(pub(crate) Vec<String>);

impl FromStr for WorkerNames {
    type Err = HostListError;

    fn from_str(text: &str) -> Result<Self, HostListError> {
        hostlist::expand(text).map(Self)
    }
}

/// So many gpus, of any type or of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GpuCount {
    pub(crate) kind: Option<String>,
    pub(crate) amount: Amount,
}

/// Why a text is no count of gpus; clap puts the text and the option before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GpuCountError {
    #[error("gpus are written N, TYPE:N or TYPE, as in 2, a100:1 or 0.5")]
    Form,
    #[error("a worker has whole gpus: tasks may ask for parts of them")]
    Part,
}

impl GpuCount {
    /// The name of the resource: `gpu`, `gpu:a100`.
    pub(crate) fn name(&self) -> String {
        match &self.kind {
            Some(kind) => format!("{GPU}:{kind}"),
            None => GPU.to_owned(),
        }
    }

    /// The same, said as another resource.
    fn of_resource(resource: &NamedResource) -> Option<Self> {
        let kind = match resource.name.strip_prefix(GPU)? {
            "" => None,
            rest => Some(rest.strip_prefix(':')?.to_owned()),
        };
        Some(Self {
            kind,
            amount: resource.amount,
        })
    }
}

impl FromStr for GpuCount {
    type Err = GpuCountError;

    fn from_str(text: &str) -> Result<Self, GpuCountError> {
        let (kind, amount) = match text.trim().split_once(':') {
            Some((kind, amount)) => (Some(kind), amount.parse().ok()),
            None => match text.trim().parse() {
                Ok(amount) => (None, Some(amount)),
                Err(_) => (Some(text.trim()), Some(Amount::ONE)),
            },
        };
        // what begins like a number is one that is not written right
        let is_kind = |kind: &str| {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
            kind.starts_with(|letter: char| letter.is_ascii_alphabetic()) && kind.chars().all(plain)
        };
        match amount {
            Some(amount) if kind.is_none_or(is_kind) => Ok(Self {
                kind: kind.map(str::to_ascii_lowercase),
                amount,
            }),
            _ => Err(GpuCountError::Form),
        }
    }
}

impl fmt::Display for GpuCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Some(kind) => write!(f, "{kind}:{}", self.amount),
            None => write!(f, "{}", self.amount),
        }
    }
}

/// How many gpus of each type, or of any.
pub(crate) type Offered = Vec<(Option<String>, usize)>;

/// The gpus that a worker is to offer, by type: those of `--gpus`, and resources that are called so; none if nobody says.
///
/// # Errors
/// If a part of one is to be offered.
pub(crate) fn offered_gpus(
    gpus: Option<&[GpuCount]>,
    resources: &[NamedResource],
) -> Result<Option<Offered>, GpuCountError> {
    let named = resources.iter().filter_map(GpuCount::of_resource);
    let all: Vec<GpuCount> = gpus.into_iter().flatten().cloned().chain(named).collect();
    if gpus.is_none() && all.is_empty() {
        return Ok(None);
    }
    let count = |gpus: GpuCount| match gpus.amount.is_whole() {
        true => Ok((
            gpus.kind,
            usize::try_from(gpus.amount.wholes()).unwrap_or(usize::MAX),
        )),
        false => Err(GpuCountError::Part),
    };
    all.into_iter().map(count).collect::<Result<_, _>>().map(Some)
}

/// Whether a resource is gpus, which are more than a number.
pub(crate) fn is_gpus(resource: &NamedResource) -> bool {
    GpuCount::of_resource(resource).is_some()
}

/// Which part of the machine is a worker's, from 0, and how many parts there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MachinePart {
    pub(crate) index: usize,
    pub(crate) count: usize,
}

impl FromStr for MachinePart {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once('/').and_then(|(index, count)| {
            let (index, count) = (index.parse().ok()?, count.parse().ok()?);
            (index < count).then_some(Self { index, count })
        });
        numbers.ok_or("a part is written INDEX/COUNT, as in 0/2")
    }
}

impl fmt::Display for MachinePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus(text: &str) -> Result<GpuCount, GpuCountError> {
        text.parse()
    }

    #[test]
    fn gpus_are_counted_with_or_without_a_type() {
        for (text, name, amount) in [
            ("2", "gpu", "2"),
            ("0.25", "gpu", "0.25"),
            ("A100:4", "gpu:a100", "4"),
            ("rtx_3090", "gpu:rtx_3090", "1"),
        ] {
            let read = gpus(text).unwrap();
            assert_eq!(
                (read.name().as_str(), read.amount.to_string().as_str()),
                (name, amount)
            );
            assert_eq!(gpus(&read.to_string()), Ok(read));
        }
        for text in [
            "", "-1", "1.5.2", "a100:", ":2", "a100:x", "2x", "a b:1", "0.00001",
        ] {
            assert_eq!(gpus(text), Err(GpuCountError::Form), "{text}");
        }
    }

    #[test]
    fn a_worker_offers_whole_gpus_under_either_name() {
        let resources = |text: &str| vec![text.parse::<NamedResource>().unwrap()];
        assert_eq!(offered_gpus(None, &resources("disk=1")), Ok(None));
        assert_eq!(
            offered_gpus(Some(&[gpus("0").unwrap()]), &[]),
            Ok(Some(vec![(None, 0)]))
        );
        assert_eq!(
            offered_gpus(Some(&[gpus("2").unwrap()]), &resources("gpu:a100=1")),
            Ok(Some(vec![(None, 2), (Some("a100".to_owned()), 1)]))
        );
        assert_eq!(
            offered_gpus(None, &resources("gpu=0.5")),
            Err(GpuCountError::Part)
        );
        assert!(!is_gpus(&"gpus=1".parse().unwrap()));
    }

    #[test]
    fn a_part_is_one_of_those_there_are() {
        assert_eq!("1/2".parse(), Ok(MachinePart { index: 1, count: 2 }));
        for text in ["2/2", "0/0", "1", "-1/2"] {
            assert!(text.parse::<MachinePart>().is_err(), "{text}");
        }
    }
}
