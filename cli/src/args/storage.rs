//! What can be asked of the shared storage itself.

use std::path::PathBuf;

use clap::Subcommand;
use phalanx_protocol::JobId;

#[derive(Debug, clap::Args)]
pub(crate) struct StorageArguments {
    #[command(subcommand)]
    pub(crate) command: StorageCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StorageCommand {
    /// Verify every length and checksum
    ///
    /// Reads the log, snapshots, programs and inputs through, says what is there, and names each damaged or missing
    /// object with what it costs and what to do. The exit code is 70 if there is any.
    /// Example: phalanx storage check
    Check(StorageCheckArguments),

    /// Print what the log says
    ///
    /// One line per record, in order. Nothing is printed of records that a snapshot has taken the place of.
    /// Example: phalanx storage dump --job 42
    Dump(StorageDumpArguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct StorageCheckArguments {
    #[command(flatten)]
    pub(crate) place: StoragePlace,
}

/// Which storage.
#[derive(Debug, clap::Args)]
pub(crate) struct StoragePlace {
    /// The storage's directory
    ///
    /// Default: the storage of the cluster that --cluster names. Example: /nfs/phalanx
    #[arg(value_name = "PATH")]
    pub(crate) storage: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StorageDumpArguments {
    #[command(flatten)]
    pub(crate) place: StoragePlace,

    /// Print records of this job only
    ///
    /// Default: of all jobs, and slots without records too. Example: --job 42
    #[arg(long, value_name = "ID")]
    pub(crate) job: Option<JobId>,

    /// Begin at this slot of the log
    ///
    /// Unit: slots. Default: the first that is there. Example: --from-slot 4096
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) from_slot: u64,

    /// The shard whose log it is
    ///
    /// Example: --shard 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) shard: u32,
}
