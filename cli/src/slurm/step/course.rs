//! How the ranks of a step are doing: each is waited for beside the others, and may be told to end.

use std::process::ExitStatus;

use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::far::{FarError, FarRank};

/// How the ranks are doing.
#[derive(Debug, Default)]
pub(super) struct Course {
    pub(super) waiting: JoinSet<Ended>,
    /// Tells ranks to end; but not this one.
    end: watch::Sender<Option<But>>,
    pub(super) highest: u8,
    /// How those did counts that were told to end.
    pub(super) counts_told: bool,
    /// Those that are left were told to end: how they do concerns nobody.
    pub(super) is_ending: bool,
}

/// The rank that is left alone when the others are told to end.
pub(super) type But = Option<u32>;

/// How a rank ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) rank: u32,
    pub(super) status: Result<ExitStatus, FarError>,
    pub(super) was_told: bool,
}

/// A rank that runs.
#[derive(Debug)]
pub(super) enum Living {
    Here(Child),
    There(FarRank),
}

impl Living {
    /// Waits for its end. Cancel safe.
    async fn wait(&mut self) -> Result<ExitStatus, FarError> {
        match self {
            Self::Here(child) => child.wait().await.map_err(|_| FarError::Lost),
            Self::There(rank) => rank.wait().await,
        }
    }

    /// It may just have ended.
    fn kill(&mut self) {
        match self {
            Self::Here(child) => drop(child.start_kill()),
            Self::There(rank) => rank.kill(),
        }
    }
}

impl Course {
    /// Waits for a rank beside the others.
    pub(super) fn watch(&mut self, rank: u32, mut living: Living) {
        let mut told = self.end.subscribe();
        self.waiting.spawn(async move {
            let is_meant = |end: &Option<But>| end.is_some_and(|but| but != Some(rank));
            let ended = tokio::select! {
                status = living.wait() => Some(status),
                // the sender lives as long as this
                _ = told.wait_for(is_meant) => None,
            };
            match ended {
                Some(status) => Ended {
                    rank,
                    status,
                    was_told: false,
                },
                None => {
                    living.kill();
                    Ended {
                        rank,
                        status: living.wait().await,
                        was_told: true,
                    }
                }
            }
        });
    }

    /// Ends all ranks but one.
    pub(super) fn end_others(&mut self, but: But) {
        self.is_ending = true;
        self.end.send_replace(Some(but));
    }
}
