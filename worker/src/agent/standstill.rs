//! What a worker does that has stood still with its hosts: a machine that was suspended, or stopped processes.
//!
//! To its scheduler it was gone, and others have been given what it holds; but its hosts would go on with that at once. So a
//! worker that notices it has them start nothing more, gives its session up, in case it does not know yet that this has
//! ended, and joins again. The scheduler takes back what others have and then says how many slots each job has, and only
//! with that the job goes on. A worker that has merely lost its scheduler did not stand still, and goes on computing.

use std::time::{Duration, Instant};

use phalanx_protocol::JobId;
use phalanx_protocol::message::host::ToHost;

use super::{Agent, Effect, Input};

/// How often a worker that holds tasks looks at the clock.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a worker's standstill lasts at least, as long as no scheduler has said for how long it waits for a sign of it.
pub(super) const STANDSTILL: Duration = Duration::from_secs(3);

impl Agent {
    /// When this worker, if it holds tasks, has to look at the clock again.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.awake
            .filter(|_| self.holds_tasks())
            .map(|awake| awake + LOOK_EVERY)
    }

    pub(super) fn holds_tasks(&self) -> bool {
        self.jobs.values().any(|job| !job.grants.is_empty())
    }

    /// Looks at the clock before a fact is taken in.
    pub(super) fn notice_standstill(&mut self, now: Instant, input: &Input, effects: &mut Vec<Effect>) {
        let before = self.awake.replace(now);
        let still = before.map_or(Duration::ZERO, |before| now.saturating_duration_since(before));
        if still < self.standstill || !self.holds_tasks() {
            return;
        }
        tracing::warn!(
            ?still,
            "this worker stood still and starts nothing before it has joined again"
        );
        let goes_on = self.jobs.values_mut().filter(|job| !job.suspended);
        for job in goes_on {
            job.suspended = true;
            let host = job.open_host().filter(|_| !self.outbox.is_paused());
            effects.extend(host.map(|host| Effect::TellHost(host, ToHost::Pause(true))));
        }
        // slots that an old session tells do not count
        self.joined = false;
        match input {
            Input::Connected | Input::Disconnected => {}
            Input::Scheduler(_)
            | Input::Prepared { .. }
            | Input::HostStarted(_)
            | Input::HostFailed { .. }
            | Input::Host(..)
            | Input::HostDied { .. }
            | Input::Written { .. }
            | Input::Stopped { .. }
            | Input::Ticked => effects.push(Effect::EndSession),
        }
    }

    /// Lets a job go on whose slots a scheduler has just told that has welcomed this worker.
    pub(super) fn resume(&mut self, id: JobId, effects: &mut Vec<Effect>) {
        let suspended = self.jobs.get_mut(&id).filter(|job| job.suspended && self.joined);
        let Some(job) = suspended else { return };
        job.suspended = false;
        let host = job.open_host().filter(|_| !self.outbox.is_paused());
        effects.extend(host.map(|host| Effect::TellHost(host, ToHost::Pause(false))));
    }
}
