//! What a kernel is: a Rust function that the attribute [`macro@crate::kernel`] registered by name.
//!
//! The story: the attribute implements [`Kernel`] and adds a [`KernelEntry`] to [`KERNELS`]; a kernel host finds the
//! entry by name and opens a [`runner::Runner`] from it, which runs chunks of tasks and collects what they return.

use std::fmt::Display;

use linkme::distributed_slice;
use phalanx_protocol::Encoding;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::TaskContext;
use crate::ranks::Communicator;

pub(crate) mod collect;
pub(crate) mod output;
pub(crate) mod ranks;
pub(crate) mod reduce;
pub(crate) mod runner;

/// A function that tasks call; implemented by the attribute [`macro@crate::kernel`], not by hand.
pub trait Kernel: Copy + Send + Sync + 'static {
    /// What differs between tasks: an index (`u64`) or an item of a list.
    type Input: Serialize + DeserializeOwned + Send + 'static;
    /// What all tasks of a job share, sent once to each worker; `()` if the kernel takes none.
    type Parameters: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What a task that succeeds returns.
    type Output: Serialize + DeserializeOwned + Send + 'static;
    /// The name under which a job asks for it: the function's.
    const NAME: &'static str;

    /// Runs one task.
    ///
    /// # Errors
    /// The text of the error that the function returned.
    fn call(
        input: Self::Input,
        parameters: &Self::Parameters,
        context: &TaskContext,
    ) -> Result<Self::Output, String>;
}

/// A kernel with a function that merges two results, so that one value per range leaves a worker.
pub trait ReduceKernel: Kernel {
    /// Merges the results of two neighbouring ranges; must be associative, `left` covers the lower indices.
    fn merge(left: Self::Output, right: Self::Output) -> Self::Output;
}

/// A function that the ranks of a gang run together; implemented by the attribute [`macro@crate::ranks`], not by hand.
pub trait RankKernel: Copy + Send + Sync + 'static {
    /// What every rank is given; `()` if the function takes none.
    type Input: Serialize + DeserializeOwned + Send + 'static;
    /// What a rank that succeeds returns.
    type Output: Serialize + DeserializeOwned + Send + 'static;
    /// The name under which a job asks for it: the function's.
    const NAME: &'static str;

    /// Lives the life of one rank.
    ///
    /// # Errors
    /// The text of the error that the function returned.
    fn call(communicator: &Communicator, input: Self::Input) -> Result<Self::Output, String>;
}

/// What a fallible kernel returns: a `Result` whose error can be shown.
pub trait Fallible {
    /// What a task that succeeds returns.
    type Value;

    /// The value, or the error's text with its causes (`{:#}`).
    ///
    /// # Errors
    /// That text.
    fn into_value(self) -> Result<Self::Value, String>;
}

impl<T, E: Display> Fallible for Result<T, E> {
    type Value = T;

    #[inline]
    fn into_value(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:#}"))
    }
}

/// All kernels of this program, in no particular order.
#[distributed_slice]
pub static KERNELS: [KernelEntry];

/// A kernel as the host finds it.
#[derive(Debug, Clone, Copy)]
pub struct KernelEntry {
    name: &'static str,
    /// Its line in the section that lists the program's kernels; held here so that the linker keeps it.
    listing: &'static [u8],
    open: Open,
    open_reducing: Option<Open>,
}

/// Decodes a job's parameters.
type Open = fn(parameters: &[u8], encoding: Encoding) -> Result<Box<dyn runner::Runner>, String>;

impl KernelEntry {
    /// An entry for a kernel that only maps.
    pub const fn mapping<K: Kernel>(listing: &'static [u8]) -> Self {
        Self {
            name: K::NAME,
            listing,
            open: collect::open::<K>,
            open_reducing: None,
        }
    }

    /// An entry for a kernel that can merge results as well.
    pub const fn reducing<K: ReduceKernel>(listing: &'static [u8]) -> Self {
        Self {
            open_reducing: Some(reduce::open::<K>),
            ..Self::mapping::<K>(listing)
        }
    }

    /// An entry for a function that ranks run.
    pub const fn ranking<K: RankKernel>(listing: &'static [u8]) -> Self {
        Self {
            name: K::NAME,
            listing,
            open: ranks::open::<K>,
            open_reducing: None,
        }
    }

    /// The kernel's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its line for the section that lists the program's kernels.
    pub const fn listing(&self) -> &'static [u8] {
        self.listing
    }

    /// Finds a kernel by name and readies it for a job.
    ///
    /// # Errors
    /// A sentence for the user: no such kernel, two of that name, wrong parameters, no reduction.
    pub(crate) fn open(
        entries: &[Self],
        name: &str,
        parameters: &[u8],
        encoding: Encoding,
        reduce: bool,
    ) -> Result<Box<dyn runner::Runner>, String> {
        let mut named = entries.iter().filter(|entry| entry.name == name);
        let entry = named
            .next()
            .ok_or_else(|| format!("the program has no kernel `{name}`; {}", list(entries)))?;
        if named.next().is_some() {
            return Err(format!("the program has more than one kernel `{name}`"));
        }
        let open = match (reduce, entry.open_reducing) {
            (false, _) => entry.open,
            (true, Some(open)) => open,
            (true, None) => {
                return Err(format!(
                    "kernel `{name}` has no function to merge results: write #[phalanx::kernel(reduce = ..)]"
                ));
            }
        };
        open(parameters, encoding)
    }
}

fn list(entries: &[KernelEntry]) -> String {
    let mut names: Vec<String> = entries.iter().map(|entry| format!("`{}`", entry.name)).collect();
    names.sort();
    match names.as_slice() {
        [] => "it has none".to_owned(),
        [only] => format!("it has {only}"),
        [rest @ .., last] => format!("it has {} and {last}", rest.join(", ")),
    }
}
