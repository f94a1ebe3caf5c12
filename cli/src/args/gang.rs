//! What is said of a gang on the command line: how many ranks, on how many nodes, which where.

use std::str::FromStr;

use phalanx_protocol::gang::{Gang, OnLoss, RankMap};

/// Ranks that are started together.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Ranks")]
pub(crate) struct GangArguments {
    /// Run so many ranks of it together, as a gang
    ///
    /// They start when there is room for all of them, each with the --cpus and --memory of a task, on as few workers as have
    /// it, and MPI programs find each other (MPICH, Intel MPI, Open MPI 4). PHALANX_RANK and PHALANX_RANKS tell each who it is. If
    /// one fails, all are ended; if a worker is lost, all start again. With --kernel they run a #[phalanx::ranks] function, and what
    /// they return are the results. Default: no gang. Example: phalanx run --ranks 4 -- ./simulate
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["array", "each_line", "from_json", "at_most", "range", "inputs", "reduce"])]
    pub(crate) ranks: Option<u32>,

    /// Spread the ranks evenly over so many workers
    ///
    /// Default: as few as have room. Example: --ranks 8 --nodes 2
    #[arg(long, value_name = "N", requires = "ranks", value_parser = clap::value_parser!(u32).range(1..))]
    nodes: Option<u32>,

    /// Put so many ranks on each worker
    ///
    /// The last may have fewer; at most as many if --nodes says on how many. Default: as there is room. Example: --ranks 8 --ranks-per-node 4
    #[arg(long, value_name = "N", requires = "ranks", value_parser = clap::value_parser!(u32).range(1..))]
    ranks_per_node: Option<u32>,

    /// Which rank is on which worker
    ///
    /// block: the first ranks on the first worker. cyclic: rank after rank on worker after worker. Or the place of each rank,
    /// from 0, separated by commas. Default: block. Example: --ranks 4 --rank-map 0,1,1,0
    #[arg(long, value_name = "HOW", requires = "ranks")]
    rank_map: Option<RankMapArgument>,

    /// Begin each line of output with the number of its rank
    ///
    /// For `phalanx run`. Default: lines as they are. Example: phalanx run --ranks 4 --label -- ./simulate
    #[arg(long, requires = "ranks")]
    pub(crate) label: bool,

    /// What becomes of a gang that loses a worker
    ///
    /// restart: all ranks start again, as often as the retries allow. fail: the job has failed. For functions that provide for it
    /// (--kernel) also shrink: those that are left go on; respawn: the lost ones alone start again.
    /// Default: restart. Example: --ranks 4 --on-loss fail
    #[arg(long, value_name = "HOW", requires = "ranks", default_value = "restart")]
    on_loss: OnLossArgument,
}

/// What becomes of a gang that loses a rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum OnLossArgument {
    #[default]
    Restart,
    Fail,
    Shrink,
    Respawn,
}

/// Which rank is where, in words.
#[derive(Debug, Clone)]
struct RankMapArgument(RankMap);

impl FromStr for RankMapArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "block" => RankMap::Block,
            "cyclic" => RankMap::Cyclic,
            places => {
                let places = places.split(',').map(str::parse);
                let places = places.collect::<Result<Vec<u32>, _>>();
                RankMap::Explicit(places.map_err(|_| {
                    "not `block`, `cyclic` or the place of each rank, as in `0,1,1,0`".to_owned()
                })?)
            }
        }))
    }
}

impl GangArguments {
    /// Whether ranks that are left are to run on where others are lost.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(self.on_loss, OnLossArgument::Shrink | OnLossArgument::Respawn)
    }

    /// The gang that is asked for.
    pub(crate) fn gang(&self) -> Option<Box<Gang>> {
        let gang = Gang {
            ranks_per_node: self.ranks_per_node,
            nodes: self.nodes,
            map: self.rank_map.clone().map(|map| map.0).unwrap_or_default(),
            on_loss: match self.on_loss {
                OnLossArgument::Restart => OnLoss::Restart,
                OnLossArgument::Fail => OnLoss::Fail,
                OnLossArgument::Shrink => OnLoss::Shrink,
                OnLossArgument::Respawn => OnLoss::Respawn,
            },
        };
        self.ranks.map(|_| Box::new(gang))
    }
}
