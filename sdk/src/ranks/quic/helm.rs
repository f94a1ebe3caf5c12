//! Who runs a host's network: its rank while that waits, on the rank's own thread, and else the *keeper*, a thread that is there
//! for it. Knows nothing of messages.
//!
//! To wake another thread costs more than to send a message. So the rank that waits takes the *helm*: it runs the network's
//! tasks until it is rung for, the socket wakes it, and nobody else has to be woken for what comes to it. When it has
//! something to send it takes the helm for a moment. Progress does not depend on that: if the rank has not taken the helm for a
//! while the keeper does, and stays until the rank waits.
//!
//! Where a host has several ranks the keeper always has the helm: they would hand it to each other with every message, and that is
//! what it is to spare.

use std::fmt;
use std::future::poll_fn;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, Runtime};
use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::ranks::bell::Bell;
use crate::ranks::gang::Network;

/// The keeper takes the helm when the rank has not had it between two looks, which are so far apart. Ranks of fine grain compute
/// for less between two messages.
const LOOK_INTERVAL: Duration = Duration::from_micros(250);
/// For how long a rank that has the helm looks at the socket before it lets that wake it: about as long as an answer takes that
/// is on its way. It has a core to itself then, unless others are on this machine, to whom it yields.
const LOOKING_MAX: Duration = Duration::from_micros(50);
/// How often a rank takes the helm to send before it waits. Beyond that it is better off to leave the work to the keeper, and to
/// go on.
const PUSHES_MAX: u32 = 4;

/// See the module's documentation.
pub(super) struct Helm {
    /// Whoever holds this has the helm. None before the network's beginning and after its end.
    runtime: Mutex<Option<Runtime>>,
    /// The host has one rank.
    is_shared: AtomicBool,
    /// The rank has the helm.
    rank_steers: AtomicBool,
    /// How often the rank has left it.
    turns: AtomicU32,
    /// How often it took it to send since it waited.
    pushes: AtomicU32,
    keeper: OnceLock<Thread>,
    /// The keeper has the helm.
    keeper_steers: AtomicBool,
    /// The rank wants the helm, which the keeper has.
    is_wanted: AtomicBool,
    /// Tells the keeper of that.
    relief: Notify,
    /// The keeper is to take the helm now.
    hurry: AtomicBool,
    /// The keeper does not look again before the rank has left the helm, which it has had for long.
    keeper_sleeps: AtomicBool,
}

impl fmt::Debug for Helm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Helm(rank steers: {:?})", self.rank_steers)
    }
}

impl Helm {
    pub(super) fn new() -> Self {
        Helm {
            runtime: Mutex::default(),
            is_shared: AtomicBool::new(false),
            rank_steers: AtomicBool::new(false),
            turns: AtomicU32::new(0),
            pushes: AtomicU32::new(0),
            keeper: OnceLock::new(),
            keeper_steers: AtomicBool::new(false),
            is_wanted: AtomicBool::new(false),
            relief: Notify::new(),
            hurry: AtomicBool::new(false),
            keeper_sleeps: AtomicBool::new(false),
        }
    }

    /// Lets the rank take the helm, which is the only one of its host.
    pub(super) fn share(&self) {
        self.is_shared.store(true, Ordering::SeqCst);
    }

    /// Whoever had it may have panicked: the runtime is in order between the steps of its tasks.
    fn take(&self) -> MutexGuard<'_, Option<Runtime>> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_take(&self) -> Option<MutexGuard<'_, Option<Runtime>>> {
        match self.runtime.try_lock() {
            Ok(taken) => Some(taken),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Runs `network`, and all that it spawns, to its end. This thread is the keeper.
    ///
    /// # Panics
    /// If it does.
    pub(super) fn keep(&self, runtime: Runtime, network: impl Future<Output = ()> + Send + 'static) {
        let _ = self.keeper.set(thread::current());
        let mut network = runtime.spawn(network);
        let mut helm = self.take();
        *helm = Some(runtime);
        let ended = loop {
            let Some(runtime) = &*helm else { return };
            self.keeper_steers.store(true, Ordering::SeqCst);
            let steered = runtime.block_on(async {
                tokio::select! {
                    ended = &mut network => Some(ended),
                    () = self.relief.notified() => None,
                }
            });
            if let Some(ended) = steered {
                break ended;
            }
            self.keeper_steers.store(false, Ordering::SeqCst);
            drop(helm);
            helm = self.watch();
        };
        // what is left of it ends here
        drop(helm.take());
        drop(helm);
        // it was not aborted, so this is a panic: pass it on
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            resume_unwind(panic);
        }
    }

    /// The helm, as soon as the rank leaves it alone.
    fn watch(&self) -> MutexGuard<'_, Option<Runtime>> {
        let mut turns = self.turns.load(Ordering::SeqCst);
        loop {
            thread::park_timeout(LOOK_INTERVAL);
            let before = std::mem::replace(&mut turns, self.turns.load(Ordering::SeqCst));
            let is_left = before == turns && !self.rank_steers.load(Ordering::SeqCst);
            if (self.hurry.swap(false, Ordering::SeqCst) || is_left)
                && !self.is_wanted.load(Ordering::SeqCst)
                && let Some(helm) = self.try_take()
            {
                return helm;
            }
            if before == turns {
                self.keeper_sleeps.store(true, Ordering::SeqCst);
                if self.rank_steers.load(Ordering::SeqCst) && self.turns.load(Ordering::SeqCst) == turns {
                    thread::park();
                }
                self.keeper_sleeps.store(false, Ordering::SeqCst);
            }
        }
    }

    fn wake_keeper(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.unpark();
        }
    }

    /// Runs the network as the rank until `done` is.
    fn steer(&self, helm: MutexGuard<'_, Option<Runtime>>, done: impl Future<Output = ()>) {
        let Some(runtime) = &*helm else { return };
        self.rank_steers.store(true, Ordering::SeqCst);
        runtime.block_on(done);
        drop(helm);
        self.turns.fetch_add(1, Ordering::SeqCst);
        self.rank_steers.store(false, Ordering::SeqCst);
        if self.keeper_sleeps.load(Ordering::SeqCst) && self.keeper_sleeps.swap(false, Ordering::SeqCst) {
            self.wake_keeper();
        }
    }

    /// Whether this thread may take the helm. Who is inside a runtime of its own cannot run another one.
    fn may_take(&self) -> bool {
        self.is_shared.load(Ordering::Relaxed) && Handle::try_current().is_err()
    }

    /// Rings for the task that sends, and runs it. For ranks' threads.
    pub(super) fn push(&self, posted: &Notify) {
        if self.may_take() && self.pushes.fetch_add(1, Ordering::Relaxed) < PUSHES_MAX {
            if let Some(helm) = self.try_take().filter(|helm| helm.is_some()) {
                let sent = async {
                    posted.notify_one();
                    yield_now().await;
                };
                return self.steer(helm, sent);
            }
            posted.notify_one();
        } else {
            posted.notify_one();
            let is_idle =
                self.is_shared.load(Ordering::Relaxed) && !self.keeper_steers.load(Ordering::SeqCst);
            if is_idle && !self.hurry.swap(true, Ordering::SeqCst) {
                self.wake_keeper();
            }
        }
    }
}

impl Network for Helm {
    fn wait(&self, bell: &Bell, heard: u32) {
        if !self.may_take() {
            return bell.wait(heard, || false);
        }
        self.pushes.store(0, Ordering::Relaxed);
        let helm = self.try_take().unwrap_or_else(|| {
            self.is_wanted.store(true, Ordering::SeqCst);
            self.relief.notify_one();
            let helm = self.take();
            self.is_wanted.store(false, Ordering::SeqCst);
            helm
        });
        if helm.is_none() {
            drop(helm);
            return bell.wait(heard, || false);
        }
        let begin = Instant::now();
        let rung = poll_fn(|task| {
            let rung = bell.poll(heard, task);
            if rung.is_pending() && begin.elapsed() < LOOKING_MAX {
                thread::yield_now();
                task.waker().wake_by_ref();
            }
            rung
        });
        self.steer(helm, rung);
        bell.awake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread::{JoinHandle, ThreadId};

    use tokio::runtime::Builder;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// A network that rings the bell whenever something is posted, and tells which thread it runs on then.
    struct Echo {
        helm: Arc<Helm>,
        bell: Arc<Bell>,
        posted: Arc<Notify>,
        ran: mpsc::Receiver<ThreadId>,
        end: Arc<Notify>,
        keeper: JoinHandle<()>,
    }

    impl Echo {
        /// With this thread as the rank.
        fn start() -> Self {
            let helm = Arc::new(Helm::new());
            helm.share();
            let bell = Arc::new(Bell::new(true));
            bell.adopt();
            let (posted, end) = (Arc::<Notify>::default(), Arc::<Notify>::default());
            let (runs, ran) = mpsc::channel();
            let (told, ended) = (Arc::clone(&posted), Arc::clone(&end));
            let rung = Arc::clone(&bell);
            let network = async move {
                loop {
                    tokio::select! {
                        () = told.notified() => {
                            runs.send(thread::current().id()).unwrap();
                            rung.ring();
                        }
                        () = ended.notified() => return,
                    }
                }
            };
            let kept = Arc::clone(&helm);
            let keeper = thread::spawn(move || kept.keep(runtime(), network));
            while !helm.keeper_steers.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            Echo {
                helm,
                bell,
                posted,
                ran,
                end,
                keeper,
            }
        }

        /// Posts something and waits for the ring: the thread that ran the network.
        fn turn(&self) -> ThreadId {
            let heard = self.bell.rings();
            self.helm.push(&self.posted);
            self.helm.wait(&self.bell, heard);
            self.ran.recv_timeout(PATIENCE).unwrap()
        }

        fn end(self) {
            self.end.notify_one();
            self.keeper.join().unwrap();
        }
    }

    #[test]
    fn a_rank_that_sends_and_waits_soon_runs_the_network_itself() {
        let echo = Echo::start();
        let own = thread::current().id();
        let begin = Instant::now();
        while echo.turn() != own {
            assert!(begin.elapsed() < PATIENCE, "the keeper does not let go");
        }
        echo.end();
    }

    #[test]
    fn the_network_goes_on_without_a_rank_that_waits() {
        let echo = Echo::start();
        for _ in 0..3 {
            echo.turn();
            echo.posted.notify_one();
            assert_eq!(echo.ran.recv_timeout(PATIENCE), Ok(echo.keeper.thread().id()));
        }
        echo.end();
    }

    #[test]
    fn what_a_rank_sends_in_a_row_leaves_without_it() {
        let echo = Echo::start();
        echo.turn();
        let keeper = echo.keeper.thread().id();
        let begin = Instant::now();
        while echo.ran.try_recv() != Ok(keeper) {
            assert!(begin.elapsed() < PATIENCE, "nobody but the rank sends");
            echo.helm.push(&echo.posted);
        }
        echo.end();
    }

    #[test]
    fn a_rank_that_waits_for_long_is_woken_and_so_is_the_keeper_after_it() {
        let echo = Echo::start();
        echo.turn();
        let posted = Arc::clone(&echo.posted);
        let heard = echo.bell.rings();
        let waits = Arc::clone(&echo.helm);
        let other = thread::spawn(move || {
            while !waits.keeper_sleeps.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            posted.notify_one();
        });
        echo.helm.wait(&echo.bell, heard);
        other.join().unwrap();
        assert_eq!(echo.ran.recv_timeout(PATIENCE), Ok(thread::current().id()));
        echo.posted.notify_one();
        assert_eq!(echo.ran.recv_timeout(PATIENCE), Ok(echo.keeper.thread().id()));
        echo.end();
    }

    #[test]
    fn a_rank_inside_a_runtime_of_its_own_lets_the_keeper_do_it() {
        let echo = Echo::start();
        let keeper = echo.keeper.thread().id();
        runtime().block_on(async {
            for _ in 0..3 {
                assert_eq!(echo.turn(), keeper);
            }
        });
        echo.end();
    }

    #[test]
    fn a_network_that_panics_ends_the_keeper_and_nobody_waits_in_it() {
        let helm = Helm::new();
        helm.share();
        let end = thread::scope(|scope| {
            let keep = || helm.keep(runtime(), async { panic!("broken") });
            scope.spawn(keep).join()
        });
        assert_eq!(end.unwrap_err().downcast_ref(), Some(&"broken"));
        let bell = Bell::new(true);
        bell.adopt();
        let heard = bell.rings();
        thread::scope(|scope| {
            scope.spawn(|| bell.ring());
            helm.wait(&bell, heard);
        });
    }
}
