//! How the rank ended that left the others of its gang behind. That it left is known before, by the end of its socket.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::host::lock;
use crate::kernel::runner::Failed;

/// What is known of the end of one rank; the first word counts.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    said: Mutex<Option<Option<Failed>>>,
    told: Condvar,
}

impl LastWords {
    /// It ended like that, or nobody will know how.
    pub(super) fn say(&self, end: Option<Failed>) {
        lock(&self.said).get_or_insert(end);
        self.told.notify_all();
    }

    /// Waits until it is known.
    pub(super) fn wait(&self) -> Option<Failed> {
        let said = self.told.wait_while(lock(&self.said), |said| said.is_none());
        said.ok()?.clone().flatten()
    }

    /// Waits until it is known, but no longer than `limit`.
    pub(super) fn wait_for(&self, limit: Duration) -> Option<Failed> {
        let said = self
            .told
            .wait_timeout_while(lock(&self.said), limit, |said| said.is_none());
        said.ok()?.0.clone().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use phalanx_protocol::record::FailureCause;

    use super::*;

    #[test]
    fn those_who_wait_for_the_end_of_a_rank_hear_the_first_word_of_it() {
        let words = Arc::<LastWords>::default();
        assert_eq!(words.wait_for(Duration::ZERO), None, "nothing is said yet");
        let waits = [(); 3].map(|()| {
            let words = Arc::clone(&words);
            thread::spawn(move || words.wait())
        });
        let killed = Some((FailureCause::Signal(9), "SIGKILL".to_owned()));
        words.say(killed.clone());
        words.say(None);
        for wait in waits {
            assert_eq!(wait.join().unwrap(), killed);
        }
        assert_eq!(words.wait_for(Duration::ZERO), killed);
    }
}
