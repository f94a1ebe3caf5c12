//! The steps of the scripts that run here: their launchers ask for cpus at a socket, and wait there for their turn
//! ([`phalanx_protocol::step`] has what is said, [`ledger`] decides).
//!
//! One thread serves the launchers of all scripts of the job. A script is known here from before it is started until it has
//! ended.

mod ledger;
mod stock;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use phalanx_protocol::codec;
use phalanx_protocol::step::{
    FromStep, STEP_ANSWER_BYTES_MAX, STEP_REQUEST_BYTES_MAX, STEPS_MAX, StepGrant, StepReach, StepRefusal,
    StepRequest, ToStep,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, getrlimit};

use self::ledger::Ledger;
pub(super) use self::ledger::NodeStock;
use super::wake::Wake;
use crate::host::lock;

/// Bytes of the length before each frame.
const LENGTH_BYTES: usize = 4;
/// Bytes that are read at a time.
const READ_BYTES: usize = 16 << 10;

/// Ends the ranks that a step of a task has left behind.
type EndRanks = Box<dyn Fn(u64, u32) + Send>;
/// Starts a program on another node for whoever has connected there.
type Reach = Box<dyn Fn(StepReach, UnixStream) + Send>;

/// The socket, and the scripts whose launchers ask there.
#[derive(Debug)]
pub(super) struct Steps {
    socket: PathBuf,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// By task.
    ledgers: Mutex<BTreeMap<u64, Ledger>>,
    /// Raised when nobody is to be served any more.
    over: Wake,
}

impl Steps {
    /// Begins to listen in a new folder of `scratch` that nobody else may enter. `end_ranks` is called with the task and the
    /// step of a launcher that has died before its ranks; `reach` with what is to run on another node.
    ///
    /// # Errors
    /// If the socket or the thread that serves it cannot be made.
    pub(super) fn open(scratch: &Path, end_ranks: EndRanks, reach: Reach) -> io::Result<Self> {
        let folder = scratch.join("steps");
        DirBuilder::new().mode(0o700).create(&folder)?;
        let socket = folder.join("socket");
        let opened = File::open(&folder)?;
        // the name of a socket has few bytes; that of the open folder is short
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/socket", opened.as_raw_fd()))?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            ledgers: Mutex::default(),
            over: Wake::new()?,
        });
        let server = Server {
            listener,
            most: room(),
            is_full: false,
            shared: Arc::clone(&shared),
            end_ranks,
            reach,
            launchers: BTreeMap::new(),
            next_id: 0,
        };
        let builder = std::thread::Builder::new().name("steps".to_owned());
        Ok(Self {
            socket,
            shared,
            serving: Some(builder.spawn(|| server.serve())?),
        })
    }

    /// Where launchers ask.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A task's script is about to start, with what its job has on these nodes.
    pub(super) fn begin(&self, task: u64, nodes: Vec<NodeStock>) {
        lock(&self.shared.ledgers).insert(task, Ledger::new(nodes));
    }

    /// It has ended: its launchers get nothing any more.
    pub(super) fn end(&self, task: u64) {
        lock(&self.shared.ledgers).remove(&task);
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.shared.over.raise();
        if let Some(serving) = self.serving.take() {
            // it has nothing to say
            let _ = serving.join();
        }
    }
}

/// How many launchers may be connected at a time: they must leave files for the tasks.
fn room() -> usize {
    let files = getrlimit(Resource::Nofile).current;
    let half = files.map(|files| usize::try_from(files / 2).unwrap_or(STEPS_MAX));
    half.unwrap_or(STEPS_MAX).clamp(1, STEPS_MAX)
}

/// Whoever has connected.
#[derive(Debug)]
struct Launcher {
    stream: UnixStream,
    /// What was read of a frame.
    inbox: Vec<u8>,
    /// For which task it has asked.
    task: Option<u64>,
    is_done: bool,
}

struct Server {
    listener: UnixListener,
    /// So many are let in.
    most: usize,
    /// No more are let in until one has left.
    is_full: bool,
    shared: Arc<Shared>,
    end_ranks: EndRanks,
    reach: Reach,
    /// In the order in which they came.
    launchers: BTreeMap<u64, Launcher>,
    next_id: u64,
}

/// A launcher has left, or says what cannot be understood.
#[derive(Debug)]
struct Gone;

impl Server {
    fn serve(mut self) {
        loop {
            let ids: Vec<u64> = self.launchers.keys().copied().collect();
            let mut events = vec![PollFd::from_borrowed_fd(self.shared.over.as_fd(), PollFlags::IN)];
            let streams = self.launchers.values().map(|launcher| &launcher.stream);
            events.extend(streams.map(|stream| PollFd::new(stream, PollFlags::IN)));
            if !self.is_full {
                events.push(PollFd::new(&self.listener, PollFlags::IN));
            }
            match poll(&mut events, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            let is_ready = |event: &PollFd<'_>| !event.revents().is_empty();
            if is_ready(&events[0]) {
                return;
            }
            let ready: Vec<u64> = ids
                .iter()
                .zip(&events[1..])
                .filter(|(_, event)| is_ready(event))
                .map(|(&id, _)| id)
                .collect();
            let has_new = !self.is_full && events.last().is_some_and(is_ready);
            for id in ready {
                if let Err(Gone) = self.hear(id) {
                    self.part(id);
                }
            }
            if has_new {
                self.accept();
            }
        }
    }

    /// Lets one in. Those that there is no room for wait at the door.
    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((stream, _)) => {
                let launcher = Launcher {
                    stream,
                    inbox: Vec::new(),
                    task: None,
                    is_done: false,
                };
                if launcher.stream.set_nonblocking(true).is_ok() {
                    self.launchers.insert(self.next_id, launcher);
                    self.next_id += 1;
                }
                self.is_full = self.launchers.len() >= self.most;
            }
            Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&error.kind()) => {
            }
            // too many files are open: some will be closed, if there are any
            Err(_) => self.is_full = !self.launchers.is_empty(),
        }
    }

    /// Reads what a launcher says.
    fn hear(&mut self, id: u64) -> Result<(), Gone> {
        // it may have left since
        let Some(launcher) = self.launchers.get_mut(&id) else {
            return Ok(());
        };
        let mut piece = [0; READ_BYTES];
        let is_over = match launcher.stream.read(&mut piece) {
            Ok(read) => {
                launcher.inbox.extend_from_slice(&piece[..read]);
                read == 0
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => true,
        };
        while let Some(said) = self
            .launchers
            .get_mut(&id)
            .map_or(Ok(None), Launcher::next_said)?
        {
            match said {
                FromStep::Request(request) => self.ask(id, request)?,
                FromStep::Reach(reach) => return self.hand_on(id, *reach),
                FromStep::Done => {
                    let launcher = self.launchers.get_mut(&id).ok_or(Gone)?;
                    launcher.is_done = true;
                }
            }
        }
        if is_over { Err(Gone) } else { Ok(()) }
    }

    fn ask(&mut self, id: u64, request: StepRequest) -> Result<(), Gone> {
        let launcher = self.launchers.get_mut(&id).ok_or(Gone)?;
        if launcher.task.is_some() {
            return Err(Gone);
        }
        let task = request.task;
        launcher.task = Some(task);
        let answer = match lock(&self.shared.ledgers).get_mut(&task) {
            Some(ledger) => ledger.ask(id, request),
            None => ToStep::Refused(StepRefusal::NoSuchTask(task)),
        };
        launcher.tell(&answer)
    }

    /// Gives a connection to whoever starts what it asks for elsewhere.
    fn hand_on(&mut self, id: u64, reach: StepReach) -> Result<(), Gone> {
        let launcher = self.launchers.get(&id).ok_or(Gone)?;
        // what follows is not said before the answer
        if launcher.task.is_some() || !launcher.inbox.is_empty() {
            return Err(Gone);
        }
        launcher.stream.set_nonblocking(false).map_err(|_| Gone)?;
        if let Some(launcher) = self.launchers.remove(&id) {
            self.is_full = false;
            (self.reach)(reach, launcher.stream);
        }
        Ok(())
    }

    /// Takes back what a launcher has, and gives it to whoever waits.
    fn part(&mut self, id: u64) {
        let mut leaving = vec![id];
        while let Some(id) = leaving.pop() {
            let Some(launcher) = self.launchers.remove(&id) else {
                continue;
            };
            self.is_full = false;
            let Some(task) = launcher.task else {
                continue;
            };
            let step = lock(&self.shared.ledgers)
                .get(&task)
                .and_then(|ledger| ledger.step(id));
            if let Some(step) = step.filter(|_| !launcher.is_done) {
                (self.end_ranks)(task, step);
            }
            for (next, grant) in self.release(task, id) {
                let launcher = self.launchers.get_mut(&next);
                let told = launcher.map_or(Err(Gone), |launcher| launcher.tell(&ToStep::Granted(grant)));
                if let Err(Gone) = told {
                    leaving.push(next);
                }
            }
        }
    }

    fn release(&self, task: u64, id: u64) -> Vec<(u64, StepGrant)> {
        // its task may have ended
        let mut ledgers = lock(&self.shared.ledgers);
        ledgers
            .get_mut(&task)
            .map_or_else(Vec::new, |ledger| ledger.release(id))
    }
}

impl Launcher {
    /// What it has said next, if all of it is here.
    fn next_said(&mut self) -> Result<Option<FromStep>, Gone> {
        let Some(length) = self.inbox.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > STEP_REQUEST_BYTES_MAX {
            return Err(Gone);
        }
        let end = LENGTH_BYTES + length;
        let Some(frame) = self.inbox.get(LENGTH_BYTES..end) else {
            return Ok(None);
        };
        let said = codec::decode(frame).map_err(|_| Gone)?;
        self.inbox.drain(..end);
        Ok(Some(said))
    }

    /// Tells it something. There is room for it: at most two answers are on their way.
    fn tell(&mut self, answer: &ToStep) -> Result<(), Gone> {
        tell(&self.stream, answer).map_err(|_| Gone)
    }
}

/// Answers a launcher.
///
/// # Errors
/// It has left, or the answer is too long.
pub(super) fn tell(mut stream: &UnixStream, answer: &ToStep) -> io::Result<()> {
    let bytes = codec::encode(answer);
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    if bytes.len() > STEP_ANSWER_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    stream.write_all(&[&length.to_le_bytes()[..], &bytes].concat())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use phalanx_protocol::step::{Extent, StepGpus};

    use super::*;

    const TASK: u64 = 7;
    const PATIENCE: Duration = Duration::from_secs(20);

    fn open(scratch: &Path) -> (Steps, mpsc::Receiver<(u64, u32)>) {
        let (ended, ends) = mpsc::channel();
        let end_ranks = move |task, step| ended.send((task, step)).unwrap();
        let steps = Steps::open(scratch, Box::new(end_ranks), Box::new(|_, _| {})).unwrap();
        steps.begin(
            TASK,
            vec![NodeStock {
                count: 1,
                numbers: vec![5],
                gpus: Vec::new(),
            }],
        );
        (steps, ends)
    }

    fn connect(steps: &Steps) -> UnixStream {
        let stream = UnixStream::connect(steps.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn say(mut stream: &UnixStream, said: &FromStep) {
        let bytes = codec::encode(said);
        stream.write_all(&(bytes.len() as u32).to_le_bytes()).unwrap();
        stream.write_all(&bytes).unwrap();
    }

    fn ask(stream: &UnixStream, task: u64) -> ToStep {
        let request = StepRequest {
            task,
            inside: None,
            ranks: 1,
            cpus_per_rank: 1,
            nodes_min: 1,
            ranks_per_node_max: 0,
            only: Vec::new(),
            gpus: StepGpus::default(),
            extent: Extent::Exact,
            overlap: false,
            immediate: false,
        };
        say(stream, &FromStep::Request(request));
        hear(stream).unwrap()
    }

    fn hear(mut stream: &UnixStream) -> io::Result<ToStep> {
        let mut length = [0; LENGTH_BYTES];
        stream.read_exact(&mut length)?;
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        stream.read_exact(&mut bytes)?;
        Ok(codec::decode(&bytes).unwrap())
    }

    #[track_caller]
    fn step(answer: &ToStep) -> u32 {
        match answer {
            ToStep::Granted(grant) => {
                assert_eq!(grant.shares[0].cpus, [5]);
                grant.step
            }
            ToStep::Waiting | ToStep::Refused(_) | ToStep::Reached => panic!("{answer:?}"),
        }
    }

    #[test]
    fn a_launcher_that_dies_loses_its_ranks_and_the_next_has_its_cpus() {
        let scratch = tempfile::tempdir().unwrap();
        let (steps, ends) = open(scratch.path());
        let [first, second, third] = [(); 3].map(|()| connect(&steps));
        assert_eq!(step(&ask(&first, TASK)), 0);
        assert_eq!(ask(&second, TASK), ToStep::Waiting);
        assert_eq!(ask(&third, TASK), ToStep::Waiting);
        drop(first);
        assert_eq!(step(&hear(&second).unwrap()), 1);
        assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), (TASK, 0));
        // one whose ranks have ended has nothing left
        say(&second, &FromStep::Done);
        drop(second);
        assert_eq!(step(&hear(&third).unwrap()), 2);
        drop(third);
        assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), (TASK, 2));
        drop(steps);
        assert!(ends.recv().is_err());
    }

    #[test]
    fn whoever_talks_nonsense_is_shown_the_door_and_nobody_else() {
        let scratch = tempfile::tempdir().unwrap();
        let (steps, _ends) = open(scratch.path());
        let running = connect(&steps);
        assert_eq!(step(&ask(&running, TASK)), 0);
        let longest = u32::MAX.to_le_bytes();
        for nonsense in [&longest[..], &[1, 0, 0, 0, 99]] {
            let mut stream = connect(&steps);
            stream.write_all(nonsense).unwrap();
            assert_eq!(hear(&stream).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        // nobody has two steps
        let twice = connect(&steps);
        assert_eq!(ask(&twice, TASK), ToStep::Waiting);
        say(&twice, &FromStep::Done);
        let stranger = connect(&steps);
        let refused = ToStep::Refused(StepRefusal::NoSuchTask(TASK + 1));
        assert_eq!(ask(&stranger, TASK + 1), refused);
        say(&running, &FromStep::Done);
        drop(running);
        assert_eq!(step(&hear(&twice).unwrap()), 1);
    }

    #[test]
    fn steps_of_a_script_that_has_ended_concern_nobody() {
        let scratch = tempfile::tempdir().unwrap();
        let (steps, ends) = open(scratch.path());
        let late = connect(&steps);
        assert_eq!(step(&ask(&late, TASK)), 0);
        steps.end(TASK);
        let again = vec![NodeStock {
            count: 1,
            numbers: vec![5],
            gpus: Vec::new(),
        }];
        steps.begin(TASK, again);
        drop(late);
        let next = connect(&steps);
        assert_eq!(step(&ask(&next, TASK)), 0);
        assert!(ends.try_recv().is_err());
    }

    #[test]
    fn a_socket_may_lie_deep_and_is_for_its_owner_only() {
        let scratch = tempfile::tempdir().unwrap();
        let deep = scratch.path().join("a".repeat(200));
        fs::create_dir(&deep).unwrap();
        let (steps, _ends) = open(&deep);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(steps.socket()), 0o600);
        assert_eq!(mode(steps.socket().parent().unwrap()), 0o700);
    }
}
