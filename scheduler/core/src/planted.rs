//! Bugs on purpose, so that the simulator's tests can see it find them. Without the feature `planted-bugs`, which no
//! product enables, there are none.

/// A bug that a core can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "planted-bugs"),
    expect(unreachable_pub, reason = "only asked for, never planted")
)]
pub enum PlantedBug {
    /// Reports are acknowledged before they are durable.
    AcknowledgesAtOnce,
    /// Commands start before their job is durable.
    GrantsUnrecorded,
    /// What a worker gave back waits again, and stays in its grant.
    KeepsReturnedRange,
    /// What a lost worker held does not wait again.
    ForgetsLostTasks,
    /// A report that comes twice is counted twice.
    CountsRepetitions,
    /// A snapshot lacks its first job.
    SnapshotLosesJob,
    /// A job is reopened without the last range of its tasks.
    ReopenForgetsTask,
    /// That tasks are cancelled is answered, and not written down.
    ForgetsCancelledTasks,
    /// Tasks that are cancelled wait to be run all the same.
    RunsCancelledTasks,
    /// Nobody is blamed for the death of a kernel host.
    BlamesNobody,
    /// Tasks that fail are run again without end.
    RetriesForever,
    /// What a lost worker held waits again, though a twin of it runs elsewhere.
    RequeuesTwins,
    /// A task that two workers ran ends twice.
    CountsBothTwins,
    /// As much is run twice as there are idle slots for.
    SpeculatesWithoutLimit,
    /// Tasks in whose company a kernel host died run among others again.
    SuspectsMingle,
    /// A worker that is to leave keeps what it has not started.
    DrainKeepsBacklog,
    /// A job starts whatever it waits for.
    WaitsForNobody,
    /// A job gets as many slots as there are, whatever it allows.
    ForgetsSlotsMax,
    /// A job gets slots of any worker, whichever it may run on.
    ForgetsChoice,
    /// A new leader grants what the workers of the last one still run.
    AwaitsNobody,
    /// A gang gets what slots there are.
    PlacesPartOfGang,
    /// Of a gang that loses ranks only those start again.
    RestartsLostRanksAlone,
    /// Lost ranks of a gang start again while the others run on, and it is not written down that what ran of them is void.
    ForgetsRespawn,
    /// A gang goes on without the ranks that it loses, and that they are lost is not written down.
    ForgetsLostRanks,
}

/// The bug that a core has, if any.
#[derive(Debug, Default)]
pub(crate) struct Planted {
    #[cfg(feature = "planted-bugs")]
    bug: Option<PlantedBug>,
}

impl Planted {
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn is(&self, bug: PlantedBug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(feature = "planted-bugs"))]
    pub(crate) const fn is(&self, _: PlantedBug) -> bool {
        false
    }
}

#[cfg(feature = "planted-bugs")]
impl crate::core::Core {
    /// A core that is wrong.
    pub fn with_bug(term: phalanx_protocol::Term, bug: PlantedBug) -> Self {
        let mut core = Self::new(term);
        core.planted.bug = Some(bug);
        core
    }
}
