//! The kernel host: the process on a worker in which one job's kernels run.
//!
//! The story: a worker starts the user's program with a socket as its standard input and the variable
//! [`HOST_FD_VARIABLE`]. The main thread reads what the worker wants ([`serve`]) and changes the shared [`state`]. Each
//! [`slot`] is a rayon pool whose loop claims tasks from the front of a grant's [`cursor`], as many at a time as its
//! [`pace`] says, and runs them by the kernel's own runner; the [`board`] shows which one each slot is at. What they leave is [`flush`]ed by whoever has a reason: a
//! slot that finds nothing to do, one that has much, or the timer; as [`progress`] messages, through the [`socket`].
//!
//! The host never outlives its worker: at the end of the stream the process ends, whatever its tasks do.

use std::ffi::OsStr;
use std::io::{self, BufReader};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use phalanx_protocol::message::host::{
    FromHost, HOST_BOARD_VARIABLE, HOST_FD_VARIABLE, HOST_SLOTS_MAX, HostGang, HostParameters, HostWork,
    PROTOCOL_VERSION, Place, ToHost,
};
use phalanx_protocol::{Encoding, IndexRange, codec};
use rayon::ThreadPool;
use rustix::process::Signal;

use self::board::Lines;
use self::gang_link::GangLink;
use self::grants::{GRANTS_MAX, Grant};
use self::socket::{Outbox, frame};
use self::state::{Host, Job};
use crate::command::Commands;
use crate::kernel::KernelEntry;
use crate::kernel::runner::{Runner, Stop};

pub(crate) mod board;
mod cursor;
mod flush;
pub(crate) mod gang_link;
mod grants;
pub(crate) mod inputs;
mod pace;
pub(crate) mod panics;
mod pinning;
mod places;
mod progress;
mod slot;
mod socket;
mod state;
pub(crate) mod stops;

/// Why a host ended before its worker did.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The variable does not name standard input.
    #[error("{HOST_FD_VARIABLE} is `{0}`, but a worker passes its socket as 0, standard input")]
    Descriptor(String),
    /// The process could not be set up.
    #[error("this program could not become a kernel host")]
    Setup(#[source] io::Error),
    /// The worker's running board is no such thing.
    #[error("the running board that {HOST_BOARD_VARIABLE} names cannot be used")]
    Board(#[source] io::Error),
    /// The socket failed.
    #[error("the socket to the worker failed")]
    Socket(#[source] io::Error),
    /// A frame is no message.
    #[error("the worker sent something that is no message; is it another version?")]
    Malformed(#[source] codec::DecodeError),
    /// A message that makes no sense now.
    #[error("the worker broke the protocol: {0}")]
    Protocol(&'static str),
    /// Not even one slot could be started.
    #[error("no thread could be started")]
    Threads(#[source] rayon::ThreadPoolBuildError),
}

/// Locks; what a lock protects here is consistent between any two statements, so poisoning means nothing.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes this process a kernel host, until its worker is gone.
pub(crate) fn run_process(descriptor: &OsStr) -> Result<(), HostError> {
    if descriptor != "0" {
        return Err(HostError::Descriptor(descriptor.to_string_lossy().into_owned()));
    }
    let socket = take_standard_input().map_err(HostError::Setup)?;
    let board = match std::env::var_os(HOST_BOARD_VARIABLE) {
        Some(path) => Lines::open(path.as_ref()).map_err(HostError::Board)?,
        None => Lines::private(HOST_SLOTS_MAX),
    };
    serve_on(board, socket, &crate::kernel::KERNELS)
}

/// The socket that is standard input. Kernels find an empty standard input instead.
fn take_standard_input() -> io::Result<UnixStream> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.local_addr()?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(socket)
}

/// Serves a worker over `socket` until it closes its end.
///
/// # Errors
/// [`HostError`] if the worker says what makes no sense, or the socket fails.
pub fn serve(socket: UnixStream, kernels: &'static [KernelEntry]) -> Result<(), HostError> {
    serve_on(Lines::private(HOST_SLOTS_MAX), socket, kernels)
}

/// [`serve`] with a board on which the slots say what they run.
fn serve_on(board: Lines, socket: UnixStream, kernels: &'static [KernelEntry]) -> Result<(), HostError> {
    panics::install_hook();
    // whoever made the socket may have used it with an event loop
    socket.set_nonblocking(false).map_err(HostError::Setup)?;
    let writer = socket.try_clone().map_err(HostError::Setup)?;
    let host = Arc::new(Host::new(Outbox::new(writer), board));
    let timer = Arc::clone(&host);
    let started = std::thread::Builder::new()
        .name("progress".to_owned())
        .spawn(move || timer.run_timer());
    started.map_err(HostError::Setup)?;
    host.outbox.post(frame(&FromHost::Hello {
        version: PROTOCOL_VERSION,
    }));
    host.outbox.send();
    let mut desk = Desk {
        host,
        kernels,
        pools: Vec::new(),
        cpus: 1,
    };
    let ended = desk.read(&mut BufReader::with_capacity(1 << 16, socket));
    let job = desk.host.change(|state, _| {
        state.stop();
        state.job.clone()
    });
    if let Some(job) = job {
        job.runner.stop(Stop::AtOnce);
    }
    desk.host.wake_all();
    ended
}

/// Where the worker's messages arrive.
struct Desk {
    host: Arc<Host>,
    kernels: &'static [KernelEntry],
    /// One for each slot, of `cpus` threads.
    pools: Vec<ThreadPool>,
    cpus: usize,
}

impl Desk {
    fn read(&mut self, reader: &mut impl io::Read) -> Result<(), HostError> {
        loop {
            match socket::read_frame(reader) {
                Ok(Some(bytes)) => self.handle(codec::decode(&bytes).map_err(HostError::Malformed)?)?,
                Ok(None) => return Ok(()),
                // the worker died with something of ours unread
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(HostError::Socket(error)),
            }
        }
    }

    fn handle(&mut self, message: ToHost) -> Result<(), HostError> {
        match message {
            ToHost::Open {
                job,
                work,
                cpus,
                storage,
            } => {
                self.set_cpus(cpus as usize);
                let opened = match work {
                    HostWork::Kernel {
                        kernel,
                        parameters,
                        encoding,
                        reduce,
                    } => self.runner(&kernel, &parameters, encoding, reduce),
                    HostWork::Command(command) => Commands::open(job, *command, storage.clone()),
                };
                self.open(opened.map(|runner| Job::new(job, runner, storage)))
            }
            ToHost::SetSlots(slots) => self.set_slots(slots as usize),
            ToHost::AddPlaces(places) => self.add_places(places),
            ToHost::Grant {
                grant,
                range,
                inputs,
                restarts,
            } => self.grant(Grant::new(grant, range, inputs, restarts)),
            ToHost::Revoke { grant, count } => {
                self.host.change(|state, outbox| {
                    let mut given_back = state.grants.revoke(grant, count);
                    if given_back.is_empty() {
                        given_back.push(IndexRange::new(0, 0));
                    }
                    for range in given_back {
                        outbox.post(frame(&FromHost::Returned { grant, range }));
                    }
                });
                Ok(())
            }
            ToHost::Pause(paused) => {
                self.host.change(|state, _| state.paused = paused);
                Ok(())
            }
            ToHost::CheckpointNow => {
                if let Some(job) = self.host.look(|state| state.job.clone()) {
                    job.vault.call();
                }
                Ok(())
            }
            ToHost::Stop { grant, range } => {
                self.host.stop_tasks(grant, range);
                Ok(())
            }
            ToHost::Signal { grant, range, signal } => {
                if let Some(job) = self.host.look(|state| state.job.clone()) {
                    job.runner.signal(grant, range, signal);
                }
                Ok(())
            }
            ToHost::Gang(gang) => {
                self.begin_gang(*gang);
                Ok(())
            }
            ToHost::GangWaits { epoch } => {
                if let Some(job) = self.host.look(|state| state.job.clone()) {
                    job.runner.await_gang(epoch);
                }
                Ok(())
            }
            ToHost::GangAddresses { epoch, addresses } => {
                let job = self.host.look(|state| state.job.clone());
                let link = job.and_then(|job| lock(&job.gang).clone());
                if let Some(link) = link.filter(|link| link.epoch() == epoch) {
                    link.found(addresses);
                }
                Ok(())
            }
            ToHost::Close => {
                self.host.change(|state, _| state.begin_close());
                Ok(())
            }
        }
    }

    /// Lets the job know that a start of its gang begins, and the worker where this host listens to the others.
    fn begin_gang(&self, gang: HostGang) {
        let Some(job) = self.host.look(|state| state.job.clone()) else {
            return;
        };
        let link = GangLink::open(&gang).unwrap_or_else(|error| {
            tracing::warn!(%error, "the other nodes of a gang cannot be met");
            None
        });
        let link = link.map(Arc::new);
        if let Some(before) = std::mem::replace(&mut *lock(&job.gang), link.clone()) {
            before.abandon();
        }
        job.runner.begin_gang(gang, link.clone());
        if let Some(link) = link {
            self.host.change(|_, outbox| {
                outbox.post(frame(&FromHost::GangPort {
                    epoch: link.epoch(),
                    port: link.port(),
                }));
            });
        }
    }

    /// Readies a kernel; the error is a sentence for the user.
    fn runner(
        &self,
        kernel: &str,
        parameters: &HostParameters,
        encoding: Encoding,
        reduce: bool,
    ) -> Result<Box<dyn Runner>, String> {
        let kernels = self.kernels;
        let open = || {
            let parameters = match parameters {
                HostParameters::Inline(bytes) => Ok(bytes.clone()),
                HostParameters::File(path) => std::fs::read(path).map(Bytes::from),
            };
            let unreadable = |error| format!("the parameters of kernel `{kernel}` cannot be read: {error}");
            KernelEntry::open(
                kernels,
                kernel,
                &parameters.map_err(unreadable)?,
                encoding,
                reduce,
            )
        };
        catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|payload| {
            let message = panics::message(payload.as_ref());
            Err(format!(
                "reading the parameters of kernel `{kernel}` panicked: {message}"
            ))
        })
    }

    /// Answers whether the job can start.
    fn open(&self, opened: Result<Job, String>) -> Result<(), HostError> {
        self.host.change(|state, outbox| {
            if state.job.is_some() {
                return Err(HostError::Protocol(
                    "a job was opened before the last one was closed",
                ));
            }
            match opened {
                Ok(job) => {
                    state.job = Some(Arc::new(job));
                    outbox.post(frame(&FromHost::Ready));
                }
                Err(reason) => outbox.post(frame(&FromHost::Refused { reason })),
            }
            Ok(())
        })
    }

    /// Gives up the pools if the next job's tasks need others.
    fn set_cpus(&mut self, cpus: usize) {
        if self.cpus != cpus.max(1) {
            self.cpus = cpus.max(1);
            let slots = self.host.change(|state, _| std::mem::take(&mut state.slots));
            slots.iter().for_each(|slot| slot.retire());
            self.host.wake_all();
            self.pools.clear();
        }
    }

    /// Starts slots that are missing and says how many may run.
    fn set_slots(&mut self, slots: usize) -> Result<(), HostError> {
        let slots = slots.min(HOST_SLOTS_MAX);
        let mut limit = slots.min(self.pools.len());
        while self.pools.len() < slots {
            match slot::start(&self.host, self.pools.len(), self.cpus) {
                Ok((slot, pool)) => {
                    self.pools.push(pool);
                    self.host.change(|state, _| state.slots.push(slot));
                    limit += 1;
                }
                Err(error) if limit == 0 => return Err(HostError::Threads(error)),
                // fewer than asked for; the answer says how many
                Err(_) => break,
            }
        }
        self.host.change(|state, outbox| state.set_limit(limit, outbox));
        Ok(())
    }

    fn add_places(&mut self, places: Vec<Place>) -> Result<(), HostError> {
        self.host.change(|state, _| match state.is_open() {
            true if state.places.count() + places.len() > HOST_SLOTS_MAX => {
                Err(HostError::Protocol("more places than slots"))
            }
            true => {
                state.places.add(places);
                Ok(())
            }
            // they crossed a refusal or a close on the way
            false => Ok(()),
        })
    }

    fn grant(&mut self, grant: Option<Grant>) -> Result<(), HostError> {
        let Some(grant) = grant else {
            return Err(HostError::Protocol(
                "a grant has more tasks than a cursor can count",
            ));
        };
        self.host.change(|state, _| match state.is_open() {
            true if state.grants.count() >= GRANTS_MAX => Err(HostError::Protocol("too many grants wait")),
            true => {
                state.grants.push(grant);
                Ok(())
            }
            // it crossed a refusal or a close on the way
            false => Ok(()),
        })
    }
}
