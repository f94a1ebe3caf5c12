//! What a scheduler that does not lead says: where the leader is.
//!
//! While nobody leads it says nothing yet: a takeover takes a moment, and peers who are sent away meanwhile would come back
//! late. They are held for a short time, and taken on if it is this scheduler that leads then.

use std::time::Duration;

use phalanx_protocol::Term;
use phalanx_protocol::limits::SCHEDULER_ADDRESSES_MAX;
use phalanx_protocol::message::client::Reply;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Context, Role};
use crate::roster::Roster;

/// How long a peer is held while nobody leads.
const HOLD_MAX: Duration = Duration::from_secs(5);
/// Bytes of addresses in the text of a close.
const TEXT_BYTES_MAX: usize = 500;

/// Knows what this scheduler is now, and who else there is. Each session has one.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    pub(crate) role: watch::Receiver<Role>,
    pub(crate) roster: watch::Receiver<Roster>,
    /// Where this scheduler can be reached.
    pub(crate) addresses: Vec<String>,
}

impl Desk {
    /// The leadership of this scheduler; waits a moment for one if nobody leads, else says where the leader is.
    pub(super) async fn leadership(&mut self) -> Result<Context, Vec<String>> {
        let (role, roster) = (&mut self.role, &mut self.roster);
        let known = async {
            tokio::select! {
                biased;
                _ = role.wait_for(|role| role.term().is_some()) => None,
                found = roster.wait_for(|roster| roster.leader.is_some()) => found.ok()?.leader.clone(),
            }
        };
        // whoever was held for long enough is told that nobody is known
        let leader = timeout(HOLD_MAX, known).await.ok().flatten();
        match &*self.role.borrow() {
            Role::Leader(context) => Ok(context.clone()),
            Role::Standby => Err(leader.unwrap_or_default()),
        }
    }

    /// Waits until this leadership is over.
    pub(super) async fn over(&mut self, term: Term) {
        // an error means that the scheduler stops
        let _ = self.role.wait_for(|role| role.term() != Some(term)).await;
    }

    /// Where the one is that leads, if it is another one and that is known.
    pub(super) fn leader(&self) -> Vec<String> {
        self.roster.borrow().leader.clone().unwrap_or_default()
    }

    /// Where the leader is, as the text of a close: addresses separated by commas, none cut.
    pub(super) fn leader_text(&self) -> String {
        joined(&self.leader())
    }

    /// Where the cluster's schedulers are.
    pub(super) fn schedulers(&self) -> Reply {
        let (roster, led) = (self.roster.borrow(), self.role.borrow().term());
        let leader = match led {
            Some(_) => self.addresses.clone(),
            None => roster.leader.clone().unwrap_or_default(),
        };
        let all = self.addresses.iter().chain(&roster.living);
        Reply::Schedulers {
            leader,
            all: all.take(SCHEDULER_ADDRESSES_MAX).cloned().collect(),
            term: led.unwrap_or(roster.term),
        }
    }
}

fn joined(addresses: &[String]) -> String {
    let mut text = String::new();
    for address in addresses {
        if text.len() + 1 + address.len() > TEXT_BYTES_MAX {
            break;
        }
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(address);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_cut() {
        let address = "10.0.0.1:7878".to_owned();
        assert_eq!(joined(&[]), "");
        assert_eq!(joined(&[address.clone(), "b:1".to_owned()]), "10.0.0.1:7878,b:1");
        let many = vec![address.clone(); 100];
        let text = joined(&many);
        assert!(text.len() <= TEXT_BYTES_MAX);
        assert!(text.split(',').all(|one| one == address));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_nobody_leads_is_held_and_then_sent_on() {
        let (_role, role) = watch::channel(Role::Standby);
        let (cards, roster) = watch::channel(Roster::default());
        let mut desk = Desk {
            role,
            roster,
            addresses: vec!["own:1".to_owned()],
        };
        let started = tokio::time::Instant::now();
        assert!(desk.leadership().await.is_err_and(|leader| leader.is_empty()));
        assert_eq!(started.elapsed(), HOLD_MAX);
        let told = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            cards.send_modify(|roster| roster.leader = Some(vec!["a:1".to_owned()]));
        };
        let (sent_on, ()) = tokio::join!(desk.leadership(), told);
        assert!(sent_on.is_err_and(|leader| leader == ["a:1"]));
        assert_eq!(started.elapsed(), HOLD_MAX + Duration::from_secs(1));
    }
}
