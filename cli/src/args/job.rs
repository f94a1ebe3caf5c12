//! What a job is made from on the command line: shared by `submit` and `run`.

use std::path::PathBuf;

use clap::ArgGroup;
use phalanx_protocol::{IndexRange, Request};

use super::values::{NamedResource, parse_range, parse_size};

/// A job.
#[derive(Debug, Clone, clap::Args)]
#[command(group = ArgGroup::new("tasks").args(["range", "inputs"]).required(true))]
pub(crate) struct SubmitArguments {
    /// Program that holds the kernel
    ///
    /// An executable built with the crate `phalanx`; the cluster gets a copy of it.
    /// Example: target/release/ep
    #[arg(value_name = "PROGRAM")]
    pub(crate) program: PathBuf,

    /// Kernel to call, by its function's name
    ///
    /// `phalanx kernels PROGRAM` lists them. Example: --kernel gaussians
    #[arg(long, short, value_name = "NAME")]
    pub(crate) kernel: String,

    /// Call it once for each number A, A+1, .., B-1
    ///
    /// For kernels that take a `u64`. Tasks are numbered from 0: task i gets the number A+i.
    /// Example: --range 0..1_000_000
    #[arg(long, short, value_name = "A..B", value_parser = parse_range)]
    pub(crate) range: Option<IndexRange>,

    /// Call it once for each line of a file
    ///
    /// Each line is one JSON value of the kernel's input type; line 1 is task 0.
    /// Example: --inputs sequences.jsonl
    #[arg(long, short, value_name = "FILE")]
    pub(crate) inputs: Option<PathBuf>,

    /// Parameters that all tasks share, as JSON or @FILE
    ///
    /// For kernels that take parameters. Examples: --parameters '{"width":800}', --parameters @scene.json
    #[arg(long, short, value_name = "JSON|@FILE")]
    pub(crate) parameters: Option<String>,

    /// Cpus that each task needs
    ///
    /// Unit: cpus; the kernel's rayon pool has as many threads. Example: --cpus 4
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cpus: u32,

    /// Memory that each task needs
    ///
    /// Unit: bytes, or with K, M, G, T (1024s). Default: none in particular. Example: --memory 2G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<u64>,

    /// Other resource that each task needs; may be repeated
    ///
    /// By the name that workers offer it under. Example: --resource gpu=1
    #[arg(long = "resource", value_name = "NAME=N")]
    pub(crate) resources: Vec<NamedResource>,

    /// Jobs with a higher priority go first
    ///
    /// Example: --priority 10
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i32,

    /// Name of the job, for people
    ///
    /// Default: the kernel's name. Example: --name nightly
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Stop the job once more tasks than this have failed
    ///
    /// Default: all tasks are run, however many fail. Example: --failures-max 0
    #[arg(long, value_name = "N")]
    pub(crate) failures_max: Option<u64>,

    /// Merge results on the workers: one value per range
    ///
    /// For kernels with #[phalanx::kernel(reduce = ..)]. The values of neighbouring tasks are merged where they were
    /// computed; what is left, a value for each of a few ranges, is printed as {"range":"0-99","value":..}. Merging
    /// those needs the program's own types: use the crate `phalanx` to get the one value.
    /// Example: phalanx run target/release/ep --kernel gaussians --range 0..256 --reduce
    #[arg(long)]
    pub(crate) reduce: bool,
}

impl SubmitArguments {
    /// What each task needs.
    pub(crate) fn request(&self) -> Request {
        Request {
            cpus: self.cpus,
            memory_bytes: self.memory.unwrap_or(0),
            named: self
                .resources
                .iter()
                .map(|resource| (resource.name.clone(), resource.count))
                .collect(),
        }
    }
}
