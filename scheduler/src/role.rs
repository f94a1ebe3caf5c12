//! When this scheduler leads and when it stands by: one loop, for as long as the process lives.
//!
//! A standby watches the cards ([`crate::roster`]) and a connection to the leader ([`crate::contact`]). When nobody seems to lead it tries, on a thread for that, while sessions
//! go on being answered here. A leader goes back to standing by when its journal says that it is deposed or that its lead has
//! expired, or when another one's card shows a higher term: one that slept through its deposition and has nothing to append
//! would not find out otherwise. Whatever it did in between changes nothing, because the journal took none of it.

use std::net::SocketAddr;
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use phalanx_protocol::Term;
use phalanx_storage::AcquireError;
use phalanx_transport::Dialer;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::config::{EndError, StartError};
use crate::contact;
use crate::driver::{Driver, LeadEnd, error_text};
use crate::event::{EVENT_QUEUE_MAX, REQUEST_QUEUE_MAX};
use crate::lead::{Ground, Lead};
use crate::roster::{Roster, Watcher};
use crate::session::{Context, Role};

/// How much later than the one before it each standby tries, so that they do not depose each other in turn.
const RANK_DELAY: Duration = Duration::from_millis(150);
/// The longest such delay, however many there are.
const RANK_DELAY_MAX: Duration = Duration::from_secs(2);
/// Pause after an attempt that failed; it doubles from there.
const RETRY_MIN: Duration = Duration::from_millis(300);
/// The longest pause between attempts.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long a scheduler that was just started tries again on storage that fails, before whoever started it is told.
const START_PATIENCE: Duration = Duration::from_secs(3);

/// Whether this scheduler leads, for whoever started it.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    term: Mutex<Option<Term>>,
    changed: Condvar,
}

impl Standing {
    /// The term with which it leads.
    pub(crate) fn term(&self) -> Option<Term> {
        *self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it leads; `None` if it does not in that time.
    pub(crate) fn wait(&self, patience: Duration) -> Option<Term> {
        let deadline = Instant::now() + patience;
        let mut term = self.term.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if term.is_some() || left.is_zero() {
                return *term;
            }
            let woken = self.changed.wait_timeout(term, left);
            term = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn set(&self, now: Option<Term>) {
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = now;
        self.changed.notify_all();
    }
}

/// Tells whoever started this scheduler that it leads, stands by, or failed.
pub(crate) type Starter = std_mpsc::Sender<Result<SocketAddr, StartError>>;

/// What the loop needs.
pub(crate) struct Roles {
    pub(crate) ground: Ground,
    pub(crate) watcher: Watcher,
    pub(crate) dialer: Dialer,
    pub(crate) address: SocketAddr,
    /// What others can reach it by.
    pub(crate) advertised: Vec<String>,
    /// What its sessions go by.
    pub(crate) role: watch::Sender<Role>,
    pub(crate) standing: Arc<Standing>,
    /// Until it was told.
    pub(crate) starter: Option<Starter>,
}

impl Roles {
    /// Leads and stands by in turn until told to stop.
    ///
    /// # Errors
    /// [`EndError`] if it had to end.
    pub(crate) async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Result<(), EndError> {
        loop {
            let lead = tokio::select! {
                lead = self.stand_by() => lead,
                _ = stopped.wait_for(|&stop| stop) => return Ok(()),
            };
            let Some(lead) = lead else {
                // whoever started it knows why
                return Ok(());
            };
            match self.lead(lead, &stopped).await {
                Ok(()) => return Ok(()),
                Err(LeadEnd::Deposed { term }) => {
                    tracing::warn!(%term, "another scheduler leads; standing by");
                }
                Err(LeadEnd::Expired(expiry)) => {
                    tracing::warn!(reason = %expiry, "the lead has expired; standing by");
                }
                Err(LeadEnd::Failed(error)) => return Err(error),
            }
        }
    }

    /// Stands by until this scheduler has taken the lead; `None` if its first attempt failed, which ends it.
    async fn stand_by(&mut self) -> Option<Lead> {
        let mut roster = self.watcher.roster();
        let mut pause = RETRY_MIN;
        let begun = Instant::now();
        loop {
            let lost = self.wait_for_vacancy(&mut roster).await;
            let rank = roster.borrow().rank;
            sleep((RANK_DELAY * rank).min(RANK_DELAY_MAX)).await;
            // a card that was written meanwhile may not have been seen yet
            self.watcher.look().await;
            if !is_vacant(&roster.borrow(), lost) {
                continue;
            }
            let mut wait = RETRY_MIN;
            match self.attempt().await {
                Ok(lead) => return Some(lead),
                Err(StartError::Acquire {
                    source: AcquireError::StoodDown { term },
                    ..
                }) => tracing::info!(%term, "another scheduler was quicker"),
                Err(error) => {
                    let is_final = !error.may_pass() || begun.elapsed() >= START_PATIENCE;
                    if let Some(starter) = self.starter.take_if(|_| is_final) {
                        let _ = starter.send(Err(error));
                        return None;
                    }
                    tracing::error!(error = error_text(&error), "cannot take the lead; trying again");
                    wait = pause;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
            // who was quicker says so on its card
            let _ = timeout(wait, roster.changed()).await;
        }
    }

    /// Waits until nobody seems to lead or to be about to. Returns the term of the leader whose process is gone, if that is
    /// known although its card looks alive.
    async fn wait_for_vacancy(&mut self, roster: &mut watch::Receiver<Roster>) -> Option<Term> {
        loop {
            let now = roster.borrow_and_update().clone();
            if is_vacant(&now, None) {
                return None;
            }
            if let Some(starter) = self.starter.take() {
                tracing::info!(address = %self.address, "standing by");
                let _ = starter.send(Ok(self.address));
            }
            let Some(leader) = &now.leader else {
                // an error means that the watching thread has panicked: then every moment is as good
                let _ = roster.changed().await;
                continue;
            };
            let is_other = |roster: &Roster| roster.leader != now.leader || roster.term != now.term;
            tokio::select! {
                _ = roster.wait_for(is_other) => {}
                () = contact::lost(&self.dialer, leader) => {
                    tracing::info!(term = %now.term, "the leader's process is gone");
                    return Some(now.term);
                }
            }
        }
    }

    async fn attempt(&mut self) -> Result<Lead, StartError> {
        self.watcher.announce(None, true);
        let ground = self.ground.clone();
        let taken = match tokio::task::spawn_blocking(move || ground.take()).await {
            Ok(taken) => taken,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(StartError::System(std::io::Error::other(error))),
            },
        };
        let term = taken.as_ref().ok().map(|lead| lead.term);
        self.watcher.announce(term, false);
        taken
    }

    /// Leads until told to stop, or deposed.
    async fn lead(&mut self, lead: Lead, stopped: &watch::Receiver<bool>) -> Result<(), LeadEnd> {
        let (address, term, jobs) = (self.address, lead.term, lead.core.jobs().len());
        tracing::info!(%term, %address, jobs, "leading");
        let (events_sender, events) = mpsc::channel(EVENT_QUEUE_MAX);
        let (requests_sender, requests) = mpsc::channel(REQUEST_QUEUE_MAX);
        let senders = (events_sender, requests_sender);
        let store = Arc::clone(&self.ground.store);
        let context = Context::new(term, senders, store, self.ground.blobs.clone());
        self.role.send_replace(Role::Leader(context));
        self.standing.set(Some(term));
        if let Some(starter) = self.starter.take() {
            let _ = starter.send(Ok(address));
        }
        let mut roster = self.watcher.roster();
        let state = (lead.core, lead.feeds, lead.journal, lead.snapshots);
        let driver = Driver::new(
            state,
            self.advertised.clone(),
            self.watcher.roster(),
            self.ground.worker_timeout_millis,
        );
        let ended = tokio::select! {
            ended = driver.run((events, requests), lead.journaled, stopped.clone()) => ended,
            term = superseded(&mut roster, term) => Err(LeadEnd::Deposed { term }),
        };
        self.standing.set(None);
        self.watcher.announce(None, false);
        self.role.send_replace(Role::Standby);
        ended
    }
}

/// Waits for the card of a living leader with a higher term, and returns that.
async fn superseded(roster: &mut watch::Receiver<Roster>, term: Term) -> Term {
    let is_higher = |roster: &Roster| roster.leader.is_some() && roster.term > term;
    match roster.wait_for(is_higher).await {
        Ok(roster) => roster.term,
        // the watching thread has panicked; the journal tells as well, if later
        Err(_) => std::future::pending().await,
    }
}

/// Whether nobody leads, the leader of the term `lost` not counted, nor is about to.
fn is_vacant(roster: &Roster, lost: Option<Term>) -> bool {
    (roster.leader.is_none() || lost == Some(roster.term)) && !roster.has_candidate
}
