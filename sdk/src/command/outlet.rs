//! Where the output of tasks goes: into a lane of its slot on shared storage, or into files of the user's.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use phalanx_protocol::command::{Output, TaskInput};
use phalanx_protocol::pattern::{PatternValues, expand};
use phalanx_protocol::{CommandPlan, GrantId, JobId};
use phalanx_storage::{OutputLane, StreamedInput, UnsyncedOutput};

use super::feeder::Feeder;
use crate::host::lock;

/// The three streams of a process.
pub(super) struct Streams {
    input: File,
    /// Writes to it as long as this is held.
    _feeder: Option<Feeder>,
    output: File,
    error: File,
}

impl Streams {
    /// What a process gets.
    pub(super) fn files(&self) -> [BorrowedFd<'_>; 3] {
        [&self.input, &self.output, &self.error].map(AsFd::as_fd)
    }

    /// Writes a line behind what a process that is over has written as its errors.
    pub(super) fn note(&self, line: &str) {
        // the task's failure says the same
        let _ = (&self.error).write_all(format!("{line}\n").as_bytes());
    }
}

/// What names of files may be made of.
pub(super) struct Names<'a> {
    pub(super) job: JobId,
    pub(super) index: u64,
    /// Its number in the array.
    pub(super) number: Option<u64>,
    pub(super) name: &'a str,
    pub(super) user: &'a str,
    pub(super) node: &'a str,
}

/// All outlets of a job: as many as tasks ran at a time.
pub(super) struct Outlets {
    job: JobId,
    storage: PathBuf,
    directory: PathBuf,
    /// What a process reads that has no input.
    nothing: File,
    free: Mutex<Vec<Outlet>>,
    /// All lanes, whether in use or not.
    lanes: Mutex<Vec<Lane>>,
}

type Lane = Arc<Mutex<OutputLane>>;

/// What one slot's tasks write to: its lane, once it has one.
#[derive(Default)]
pub(super) struct Outlet(Option<Lane>);

impl Outlets {
    /// # Errors
    /// If there is no `/dev/null`.
    pub(super) fn new(job: JobId, storage: PathBuf, plan: &CommandPlan) -> io::Result<Self> {
        Ok(Self {
            nothing: File::open("/dev/null")?,
            job,
            storage,
            directory: PathBuf::from(OsString::from_vec(plan.directory.to_vec())),
            free: Mutex::default(),
            lanes: Mutex::default(),
        })
    }

    /// An outlet that nobody uses.
    pub(super) fn take(&self) -> Outlet {
        lock(&self.free).pop().unwrap_or_default()
    }

    /// Takes back one that is not used any more.
    pub(super) fn give_back(&self, outlet: Outlet) {
        lock(&self.free).push(outlet);
    }

    /// Opens the streams of a task that is about to begin.
    ///
    /// # Errors
    /// A sentence that names what cannot be opened.
    pub(super) fn begin(
        &self,
        outlet: &mut Outlet,
        plan: &CommandPlan,
        names: &Names<'_>,
        task: u64,
        attempt: GrantId,
    ) -> Result<Streams, String> {
        let resolved = |pattern: &str| self.directory.join(names.expand(pattern));
        let mut feeder = None;
        let input = match &plan.input {
            TaskInput::File(pattern) => {
                let path = resolved(pattern);
                let file = File::open(&path);
                file.map_err(|error| format!("cannot read its input `{}`: {error}", path.display()))?
            }
            // of ranks, the first
            TaskInput::Streamed if task == 0 => {
                let started = Feeder::start(StreamedInput::new(&self.storage, self.job));
                let (started, file) =
                    started.map_err(|error| format!("its input cannot be handed to it: {error}"))?;
                feeder = Some(started);
                file
            }
            TaskInput::Empty | TaskInput::Streamed => self
                .nothing
                .try_clone()
                .map_err(|error| format!("its input cannot be shared: {error}"))?,
        };
        let (output, error) = match &plan.output {
            Output::Packed => self
                .packed(outlet, task, attempt)
                .map_err(|error| format!("its output cannot be kept on shared storage: {error}"))?,
            Output::Files {
                output,
                error,
                append,
            } => {
                let path = resolved(output);
                let file = open(&path, *append)?;
                let second = match error {
                    Some(error) if resolved(error) != path => open(&resolved(error), *append)?,
                    Some(_) | None => file
                        .try_clone()
                        .map_err(|error| format!("cannot share `{}`: {error}", path.display()))?,
                };
                (file, second)
            }
        };
        Ok(Streams {
            input,
            _feeder: feeder,
            output,
            error,
        })
    }

    fn packed(&self, outlet: &mut Outlet, task: u64, attempt: GrantId) -> io::Result<(File, File)> {
        let lane = match &outlet.0 {
            Some(lane) => lane,
            None => outlet.0.insert(self.new_lane(attempt)?),
        };
        let mut lane = lock(lane);
        lane.begin(task, attempt)?;
        let (output, error) = lane.files();
        Ok((output.try_clone()?, error.try_clone()?))
    }

    fn new_lane(&self, attempt: GrantId) -> io::Result<Lane> {
        let mut lanes = lock(&self.lanes);
        let lane = OutputLane::create(&self.storage, self.job, attempt, lanes.len())?;
        let lane = Arc::new(Mutex::new(lane));
        lanes.push(Arc::clone(&lane));
        Ok(lane)
    }

    /// Waits until everything in lanes is durable; what goes into the user's files is theirs. Tasks begin and end meanwhile.
    pub(super) fn sync(&self) -> io::Result<()> {
        let lanes = lock(&self.lanes).clone();
        let unsynced: Vec<UnsyncedOutput> = lanes
            .iter()
            .filter_map(|lane| lock(lane).take_unsynced())
            .collect();
        unsynced.iter().try_for_each(UnsyncedOutput::sync)
    }
}

impl Outlet {
    /// Notes that a task writes no more, and whether it has succeeded.
    pub(super) fn end(&self, task: u64, attempt: GrantId, succeeded: bool) -> io::Result<()> {
        match &self.0 {
            Some(lane) => lock(lane).end(task, attempt, succeeded),
            None => Ok(()),
        }
    }
}

impl Names<'_> {
    fn expand(&self, pattern: &str) -> String {
        expand(
            pattern,
            &PatternValues {
                job: self.job,
                number: match self.number {
                    Some(_) => phalanx_protocol::command::element_number(self.job, self.index),
                    None => self.job.0,
                },
                element: self.number,
                step: None,
                name: self.name,
                user: self.user,
                node: self.node,
                node_index: 0,
                rank: 0,
            },
        )
    }
}

/// Opens a file of the user's, with the folders that it lies in.
fn open(path: &Path, append: bool) -> Result<File, String> {
    let open = || {
        let mut options = File::options();
        // always at the end, so that what several processes write does not overwrite itself
        options.append(true).create(true);
        let file = options.open(path)?;
        if !append && file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        Ok(file)
    };
    let opened = open().or_else(|error: io::Error| {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        open()
    });
    opened.map_err(|error| format!("cannot write its output to `{}`: {error}", path.display()))
}
