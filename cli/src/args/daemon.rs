//! What the long-running roles take, and the command that prepares them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use phalanx_protocol::WorkerId;

use super::placement::{GpuCount, MachinePart};
use super::values::{NamedResource, parse_endless_time, parse_scheduler_name, parse_size, parse_time};

/// The port of a scheduler, unless told otherwise.
const LISTEN_DEFAULT: &str = "0.0.0.0:7878";

#[derive(Debug, clap::Args)]
pub(crate) struct InitArguments {
    /// Directory to make
    ///
    /// Default: that of --cluster, else ~/.phalanx. Example: /srv/lab
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,

    /// Shared storage: a directory that every node sees
    ///
    /// A relative path begins at the cluster directory. Default: storage. Example: --storage /nfs/phalanx
    #[arg(long, value_name = "PATH")]
    pub(crate) storage: Option<PathBuf>,

    /// Where the schedulers will be, host:port
    ///
    /// Several are separated by commas. Default: none; programs then look on the storage for who is running.
    /// Example: --schedulers head1:7878,head2:7878
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub(crate) schedulers: Vec<String>,

    /// Users who get a credential, by login name
    ///
    /// Several are separated by commas. Default: you. Example: --users ada,grace
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) users: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SchedulerArguments {
    /// Where to listen for workers and clients
    ///
    /// Port 0 takes any free one. Example: --listen 10.0.0.1:7878
    #[arg(long, value_name = "ADDR", default_value = LISTEN_DEFAULT)]
    pub(crate) listen: SocketAddr,

    /// Its name among the cluster's schedulers
    ///
    /// Letters, digits, - and _. Default: the machine's name. Example: --name head1
    #[arg(long, value_name = "NAME", value_parser = parse_scheduler_name)]
    pub(crate) name: Option<String>,

    /// How long the leader may be silent before this one takes over
    ///
    /// Unit: ms, s, m or h. Too short a time costs needless takeovers, never a result. Example: --takeover-after 5s
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_time)]
    pub(crate) takeover_after: Duration,

    /// How long a worker may be silent before others run what it holds
    ///
    /// Unit: ms, s, m or h; 1 s to 1 h. Workers are told. Too short a time costs work that is done twice, never a result; a
    /// worker whose process died is noticed at once whatever this says. Example: --worker-timeout 10s
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_time)]
    pub(crate) worker_timeout: Duration,

    /// Start on what is left when the beginning of the journal is lost
    ///
    /// Without it a scheduler does not start on a journal whose old log was deleted and whose snapshots are all damaged or gone:
    /// a copy of the storage may still have one. With it, all that was recorded before what is left is given up. Start with it
    /// once, and without it again.
    /// Example: phalanx scheduler --accept-loss
    #[arg(long)]
    pub(crate) accept_loss: bool,

    #[command(flatten)]
    pub(crate) parent: ParentArguments,
}

/// What there is to do with workers besides being one.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum WorkerAction {
    /// Let a worker finish what runs, then leave
    ///
    /// It takes nothing more on, what it has not started runs elsewhere, and its tasks are told to save their state. Waits
    /// until it is gone, however long its tasks take.
    /// Example: phalanx worker drain w3
    Drain(DrainArguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct DrainArguments {
    /// The worker's id
    ///
    /// `phalanx workers` lists them. Example: w3
    #[arg(value_name = "ID")]
    pub(crate) worker: WorkerId,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct WorkerArguments {
    #[command(subcommand)]
    pub(crate) action: Option<WorkerAction>,

    /// Cpus to offer
    ///
    /// Unit: cpus. Default: those that this process may use. Example: --cpus 8
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cpus: Option<u32>,

    /// Memory to offer
    ///
    /// Unit: bytes, or with K, M, G, T (1024s). Default: what this process may use. Example: --memory 64G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<u64>,

    /// Gpus to offer, of any type or of one
    ///
    /// As many of those that the node's drivers show, or else numbered ones. 0 offers none.
    /// Unit: gpus. Default: all that CUDA_VISIBLE_DEVICES or ROCR_VISIBLE_DEVICES let this process use. Examples: --gpus 2,
    /// --gpus a100:2
    #[arg(long, value_name = "[TYPE:]N", value_delimiter = ',')]
    pub(crate) gpus: Option<Vec<GpuCount>>,

    /// Other resource to offer; may be repeated
    ///
    /// Any name; tasks ask for it by the same one, or for a part of one. Example: --resource licence=2
    #[arg(long = "resource", value_name = "NAME=N")]
    pub(crate) resources: Vec<NamedResource>,

    /// Its name, for people
    ///
    /// Default: the machine's name. Example: --name node7
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Directory where it keeps programs that it was sent
    ///
    /// One per worker, on a disk that may hold executables.
    /// Default: ~/.cache/phalanx/<cluster>/<name>. Example: --cache /local/phalanx
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,

    /// How long what runs may take to end when it is stopped
    ///
    /// Unit: seconds, or with ms, s, m, h. After that its tasks are killed and run elsewhere. Example: --grace 30s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_time)]
    pub(crate) grace: Duration,

    /// How long it looks for a scheduler when it holds nothing
    ///
    /// Unit: seconds, or with ms, s, m, h; `forever`. A worker that holds tasks, or results that no scheduler has acknowledged,
    /// goes on for as long as it does: only if the shared storage itself is gone for this time it ends. Example:
    /// --rejoin-for forever
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_endless_time)]
    pub(crate) rejoin_for: Duration,

    /// Which part of this machine's gpus and cpus its tasks may be told are theirs
    #[arg(long, value_name = "INDEX/COUNT", hide = true)]
    pub(crate) part: Option<MachinePart>,

    #[command(flatten)]
    pub(crate) parent: ParentArguments,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UpArguments {
    /// How many workers
    ///
    /// Unit: processes; one uses all cpus. Example: --workers 2
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) workers: u32,

    /// Cpus of each worker
    ///
    /// Unit: cpus. Default: this machine's, split evenly. Example: --cpus 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cpus: Option<u32>,

    /// Memory of each worker
    ///
    /// Unit: bytes, or with K, M, G, T (1024s). Default: this machine's, split evenly. Example: --memory 4G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<u64>,

    /// Gpus of each worker, of any type or of one
    ///
    /// Unit: gpus. Default: this machine's, split evenly. Examples: --gpus 1, --gpus a100:2
    #[arg(long, value_name = "[TYPE:]N", value_delimiter = ',')]
    pub(crate) gpus: Option<Vec<GpuCount>>,

    /// Other resource of each worker; may be repeated
    ///
    /// Example: --resource licence=1
    #[arg(long = "resource", value_name = "NAME=N")]
    pub(crate) resources: Vec<NamedResource>,

    /// How many schedulers; one leads, the others stand by
    ///
    /// Unit: processes. Example: --schedulers 2
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) schedulers: u32,

    /// Where the scheduler listens
    ///
    /// Port 0 takes any free one; programs find it through the storage. With several schedulers, the port is that of the
    /// first and the others take the ports behind it. Example: --listen 0.0.0.0:7878
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,

    /// Leave it running in the background
    ///
    /// Returns once it is up. What it logs is beside the cluster directory: ~/.phalanx.log. `phalanx down` ends it.
    /// Example: phalanx up --detach
    #[arg(long, short)]
    pub(crate) detach: bool,

    /// Be the cluster in the background
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub(crate) in_background: bool,
}

impl UpArguments {
    /// The words that say the same, but for --detach.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = vec![
            format!("--workers={}", self.workers),
            format!("--schedulers={}", self.schedulers),
            format!("--listen={}", self.listen),
        ];
        words.extend(self.cpus.map(|cpus| format!("--cpus={cpus}")));
        words.extend(self.memory.map(|bytes| format!("--memory={bytes}")));
        let gpus = self.gpus.iter().flatten();
        words.extend(gpus.map(|gpus| format!("--gpus={gpus}")));
        let resources = self.resources.iter();
        words.extend(resources.map(|one| format!("--resource={}={}", one.name, one.amount)));
        words
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct ChaosArguments {
    /// How long to disturb, in seconds
    ///
    /// Unit: s. Ending in order takes some more. Example: --seconds 30
    #[arg(long, value_name = "N", default_value_t = 60, conflicts_with = "minutes")]
    pub(crate) seconds: u64,

    /// How long to disturb, in minutes
    ///
    /// Unit: min. Example: --minutes 60
    #[arg(long, value_name = "N")]
    pub(crate) minutes: Option<u64>,

    /// Seed of the schedule
    ///
    /// The same seed disturbs at the same moments. Default: drawn at random, and printed. Example: --seed 4711
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// How many schedulers
    ///
    /// Unit: processes, of which one leads. Example: --schedulers 3
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub(crate) schedulers: u32,

    /// How many workers
    ///
    /// Unit: processes of one cpu each. Example: --workers 4
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) workers: u32,

    /// Also cut processes off, slow them down, lose packets
    ///
    /// In network namespaces of its own: needs root, `ip`, `tc` and `iptables`; says what it goes on without.
    /// Example: phalanx chaos --network
    #[arg(long)]
    pub(crate) network: bool,
}

impl ChaosArguments {
    /// How long to disturb.
    pub(crate) fn duration(&self) -> Duration {
        let seconds = self
            .minutes
            .map_or(self.seconds, |minutes| minutes.saturating_mul(60));
        Duration::from_secs(seconds)
    }
}

/// Ties a process to the `phalanx up` that started it.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ParentArguments {
    /// The process to end with.
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) with_parent: Option<u32>,
}
