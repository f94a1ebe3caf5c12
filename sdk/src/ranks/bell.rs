//! How a rank waits: it listens for a while, then sleeps until somebody rings. Knows nothing of messages.
//!
//! The count of rings makes it safe: whoever waits has read the count *before* looking for what it needs, and [`Bell::wait`]
//! returns as soon as the count is another. A ring between the look and the sleep is therefore never lost.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// For how long a rank listens before it sleeps, if there is a core for each rank: a few times what it takes to wake up.
const LISTENING_MAX: Duration = Duration::from_micros(20);
/// Looks at the count before the core is first offered to others, which may be the very ones that are to ring: about as
/// long as an answer takes that is on its way.
const LOOKS_BEFORE_YIELD: u32 = 300;
/// How often the core is offered where there are more ranks than cores: whoever is to ring is then likely to run before
/// this rank sleeps, and need not wake it.
const YIELDS_IF_CROWDED: u32 = 3;

/// One rank's bell: anybody rings it, its owner waits.
// whoever listens would else slow down those who write beside it
#[repr(align(128))]
pub(super) struct Bell {
    rings: AtomicU32,
    sleeping: AtomicBool,
    owner: OnceLock<Thread>,
    /// Wakes the owner while it runs a network's tasks instead of sleeping by itself.
    waker: Mutex<Option<Waker>>,
    core_each: bool,
}

impl Bell {
    /// A bell whose owner listens before it sleeps only if each rank has a core.
    pub(super) fn new(core_each: bool) -> Self {
        Bell {
            rings: AtomicU32::new(0),
            sleeping: AtomicBool::new(false),
            owner: OnceLock::new(),
            waker: Mutex::default(),
            core_each,
        }
    }

    /// Makes the current thread the one that waits. Only the first call counts.
    pub(super) fn adopt(&self) {
        let _ = self.owner.set(thread::current());
    }

    /// How often it has rung so far.
    pub(super) fn rings(&self) -> u32 {
        self.rings.load(Ordering::SeqCst)
    }

    /// Ends the owner's wait, or its next one that begins with an older count.
    pub(super) fn ring(&self) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst) && self.sleeping.swap(false, Ordering::SeqCst) {
            if let Some(waker) = &*self.waker() {
                waker.wake_by_ref();
            } else if let Some(owner) = self.owner.get() {
                owner.unpark();
            }
        }
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether the count is no longer `heard`; if it still is, the next ring wakes the task. For the owner's thread
    /// alone, which calls [`Bell::awake`] when it polls no more.
    pub(super) fn poll(&self, heard: u32, task: &Context<'_>) -> Poll<()> {
        if self.rings() != heard {
            return Poll::Ready(());
        }
        let mut waker = self.waker();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(task.waker())) {
            *waker = Some(task.waker().clone());
        }
        drop(waker);
        self.sleeping.store(true, Ordering::SeqCst);
        match self.rings() == heard {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }

    /// Ends what [`Bell::poll`] began.
    pub(super) fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
        *self.waker() = None;
    }

    /// Whether the owner may have to be woken. Whoever leaves something where the owner looks, asks this after a
    /// [fence](std::sync::atomic::fence).
    pub(super) fn is_asleep(&self) -> bool {
        self.sleeping.load(Ordering::SeqCst)
    }

    /// Returns once the count is no longer `heard`, or `news` holds. For the owner's thread alone.
    pub(super) fn wait(&self, heard: u32, news: impl Fn() -> bool) {
        let is_over = || self.rings() != heard || news();
        if self.listen(is_over) {
            return;
        }
        debug_assert_eq!(self.owner.get().map(Thread::id), Some(thread::current().id()));
        while !is_over() {
            self.sleeping.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if !is_over() {
                thread::park();
            }
        }
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Whether the owner listens for longer than others need to come to their turn.
    pub(super) fn listens(&self) -> bool {
        self.core_each
    }

    /// Whether the wait was over while the owner listened.
    pub(super) fn listen(&self, is_over: impl Fn() -> bool) -> bool {
        let mut yields_left = YIELDS_IF_CROWDED;
        let begin = if self.core_each {
            for _ in 0..LOOKS_BEFORE_YIELD {
                if is_over() {
                    return true;
                }
                std::hint::spin_loop();
            }
            Some(Instant::now())
        } else {
            None
        };
        loop {
            if is_over() {
                return true;
            }
            match begin {
                Some(begin) if begin.elapsed() < LISTENING_MAX => {}
                None if yields_left > 0 => yields_left -= 1,
                Some(_) | None => return false,
            }
            thread::yield_now();
        }
    }
}
