//! Hosts that run commands.

mod endings;
mod failures;
mod places;
mod surroundings;

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use phalanx_protocol::command::{Action, ArrayIds, ArrayPart, Dialect, Output, TaskInput};
use phalanx_protocol::message::client::{OutputPosition, OutputQuery};
use phalanx_protocol::message::host::{FromHost, HostCommand, HostParameters, HostWork, Place, ToHost};
use phalanx_protocol::record::TaskFailure;
use phalanx_protocol::{CommandPlan, JobId, Request, codec};
use phalanx_storage::Outputs;

use crate::driver::Driver;

/// How long a test waits for what should be so at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host keeps the orphans of its process and sets its umask, so that there is one at a time.
static ONE_HOST: Mutex<()> = Mutex::new(());

/// A host of commands, and folders for what its tasks do.
pub(crate) struct Shop {
    pub(crate) driver: Driver,
    folder: tempfile::TempDir,
    _guard: MutexGuard<'static, ()>,
}

fn bytes(words: &[&str]) -> Vec<Bytes> {
    words
        .iter()
        .map(|word| Bytes::copy_from_slice(word.as_bytes()))
        .collect()
}

/// The plan of a program with its arguments.
pub(crate) fn program(words: &[&str]) -> CommandPlan {
    let path = Bytes::from_static(b"/usr/local/bin:/usr/bin:/bin");
    CommandPlan {
        name: "test".to_owned(),
        action: Action::Program(bytes(words)),
        placeholders: true,
        environment: vec![(Bytes::from_static(b"PATH"), path)],
        directory: Bytes::from_static(b"/"),
        umask: None,
        limits: Vec::new(),
        input: TaskInput::Empty,
        output: Output::Packed,
        dialect: Dialect::Phalanx,
        warning: None,
        grace_millis: 100,
    }
}

/// The plan of some lines of shell.
pub(crate) fn shell(text: &str) -> CommandPlan {
    program(&["sh", "-c", text])
}

/// What a host is told of a job of one process.
pub(crate) fn command() -> HostCommand {
    HostCommand {
        plan: HostParameters::Inline(Bytes::new()),
        array: None,
        user: "someone".to_owned(),
        worker: "node".to_owned(),
        request: Request::default(),
        worker_cpus: 8,
        worker_has_gpus: false,
        task_time_limit_millis: None,
        scratch: PathBuf::new(),
    }
}

/// The numbers of an array: `first`, `first + 1`, ...
pub(crate) fn array(first: u64, count: u64) -> Option<ArrayIds> {
    ArrayIds::new(vec![ArrayPart {
        first,
        count,
        step: 1,
    }])
}

impl Shop {
    /// A host that runs `plan` with two slots.
    pub(crate) fn open(plan: &CommandPlan, command: HostCommand) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), plan, command)
    }

    /// A host that runs `plan` with a slot for each of these places.
    pub(crate) fn placed(plan: &CommandPlan, command: HostCommand, places: Vec<Place>) -> Self {
        let mut shop = Self::without_slots(tempfile::tempdir().unwrap(), plan, command);
        let slots = places.len() as u32;
        shop.driver.send(&ToHost::AddPlaces(places));
        shop.driver.set_slots(slots);
        shop
    }

    /// [`Self::open`] where the plan names files of a folder.
    pub(crate) fn in_folder(folder: tempfile::TempDir, plan: &CommandPlan, command: HostCommand) -> Self {
        let mut shop = Self::without_slots(folder, plan, command);
        shop.driver.set_slots(2);
        shop
    }

    fn without_slots(folder: tempfile::TempDir, plan: &CommandPlan, command: HostCommand) -> Self {
        let guard = ONE_HOST.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut shop = Self {
            driver: Driver::start(),
            folder,
            _guard: guard,
        };
        shop.begin(plan, command);
        shop
    }

    fn begin(&mut self, plan: &CommandPlan, command: HostCommand) {
        let command = HostCommand {
            plan: HostParameters::Inline(codec::encode(plan).into()),
            scratch: self.folder.path().join("scratch"),
            ..command
        };
        let storage = self.folder.path().join("storage");
        self.driver
            .open_work(HostWork::Command(Box::new(command)), 1, storage);
        assert_eq!(self.driver.receive(), FromHost::Ready);
    }

    /// Runs another job's `plan` on the same host, with two slots, once the last one is closed.
    pub(crate) fn reopen(&mut self, plan: &CommandPlan, command: HostCommand) {
        self.begin(plan, command);
        self.driver.set_slots(2);
    }

    /// Runs one task of `plan` to its end.
    pub(crate) fn run(plan: &CommandPlan, command: HostCommand) -> Self {
        let mut shop = Self::open(plan, command);
        shop.driver.grant(1, 0..1);
        shop.driver.await_ended(1);
        shop
    }

    /// What a task has printed; an error is in angle brackets.
    pub(crate) fn printed(&self, task: u64) -> String {
        let query = OutputQuery {
            job: JobId(1),
            tasks: (task..task + 1).into(),
            had: OutputPosition::default(),
            bytes_max: u64::MAX,
        };
        let page = Outputs::new(self.folder.path().join("storage"))
            .read(&query, |_| false)
            .unwrap();
        let pieces = page.pieces.iter();
        pieces
            .map(|piece| {
                let text = String::from_utf8_lossy(&piece.bytes).into_owned();
                if piece.is_error { format!("<{text}>") } else { text }
            })
            .collect()
    }

    /// How a task failed.
    pub(crate) fn failure(&self, task: u64) -> &TaskFailure {
        self.driver
            .ended
            .failed
            .get(&task)
            .unwrap_or_else(|| panic!("task {task} printed {} and ended well", self.printed(task)))
    }
}

/// Waits until it is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::yield_now();
    }
}

/// The numbers that a file has, one a line.
pub(crate) fn numbers(path: &std::path::Path) -> Vec<u32> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Whether a process is there and does something.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.as_bytes().first().copied());
    state
        .flatten()
        .is_some_and(|state| state != b'Z' && state != b'X')
}
