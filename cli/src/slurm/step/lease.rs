//! The cpus of a step: asked for at the socket of its script's host, waited for there, and given back at its end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use phalanx_protocol::codec;
use phalanx_protocol::step::{
    FromStep, STEP_ANSWER_BYTES_MAX, STEP_REQUEST_BYTES_MAX, STEPS_VARIABLE, StepGrant, StepReach,
    StepRefusal, StepRequest, ToStep,
};

/// Why a step has no cpus.
#[derive(Debug, thiserror::Error)]
pub(in crate::slurm) enum LeaseError {
    /// The job has none for it.
    #[error(transparent)]
    Refused(#[from] StepRefusal),
    /// They were not free in time.
    #[error("other steps had its cpus for longer than it was to wait")]
    Late,
    /// Whoever gives them does not answer.
    #[error("the cpus of the job cannot be asked for")]
    Failed(#[from] io::Error),
}

/// What a step has until this is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    stream: UnixStream,
    grant: StepGrant,
}

impl Lease {
    /// Asks for cpus where there is somebody to ask, and waits for them: no longer than for `patience`, if that is said. Says
    /// so when it has to wait.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub(super) fn ask(
        request: &StepRequest,
        patience: Option<Duration>,
        waits: impl FnOnce(),
    ) -> Result<Option<Self>, LeaseError> {
        let Some(socket) = std::env::var_os(STEPS_VARIABLE) else {
            // what salloc has started is on no node
            return Ok(None);
        };
        Self::ask_at(Path::new(&socket), request, patience, waits).map(Some)
    }

    fn ask_at(
        socket: &Path,
        request: &StepRequest,
        patience: Option<Duration>,
        waits: impl FnOnce(),
    ) -> Result<Self, LeaseError> {
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut stream = connect(socket)?;
        say(&mut stream, &FromStep::Request(request.clone()))?;
        let mut waits = Some(waits);
        loop {
            match hear(&mut stream, deadline)? {
                Some(ToStep::Granted(grant)) => return Ok(Self { stream, grant }),
                Some(ToStep::Refused(refusal)) => return Err(refusal.into()),
                Some(ToStep::Reached) => {}
                Some(ToStep::Waiting) => {
                    if let Some(waits) = waits.take() {
                        waits();
                    }
                }
                None => return Err(LeaseError::Late),
            }
        }
    }

    /// What it has.
    pub(super) fn grant(&self) -> &StepGrant {
        &self.grant
    }

    /// Gives the cpus back; all ranks have ended.
    pub(super) fn done(mut self) {
        // if nobody hears it, nobody wants them
        let _ = say(&mut self.stream, &FromStep::Done);
    }
}

/// Has a program started on another node; what connects with it.
///
/// # Errors
/// [`LeaseError`].
pub(super) fn reach(request: &StepReach) -> Result<UnixStream, LeaseError> {
    let socket = std::env::var_os(STEPS_VARIABLE).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let mut stream = connect(Path::new(&socket))?;
    say(&mut stream, &FromStep::Reach(Box::new(request.clone())))?;
    loop {
        match hear(&mut stream, None)? {
            Some(ToStep::Reached) => return Ok(stream),
            Some(ToStep::Refused(refusal)) => return Err(refusal.into()),
            Some(ToStep::Waiting | ToStep::Granted(_)) | None => {}
        }
    }
}

/// Connects to a socket whose name may be longer than the system takes: by its folder, once that is open.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return UnixStream::connect(socket);
    };
    let folder = File::open(folder)?;
    let near = format!("/proc/self/fd/{}", folder.as_raw_fd());
    UnixStream::connect(Path::new(&near).join(name))
}

fn say(stream: &mut UnixStream, said: &FromStep) -> io::Result<()> {
    let bytes = codec::encode(said);
    if bytes.len() > STEP_REQUEST_BYTES_MAX {
        let message = format!("its variables have more than {STEP_REQUEST_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    stream.write_all(&[&length.to_le_bytes()[..], &bytes].concat())
}

/// The next answer; none if there is none in time.
fn hear(stream: &mut UnixStream, deadline: Option<Instant>) -> io::Result<Option<ToStep>> {
    let mut length = [0; 4];
    if !read(stream, &mut length, deadline)? {
        return Ok(None);
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > STEP_ANSWER_BYTES_MAX {
        let message = format!("an answer of {length} bytes, at most {STEP_ANSWER_BYTES_MAX} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let mut bytes = vec![0; length];
    if !read(stream, &mut bytes, deadline)? {
        return Ok(None);
    }
    let answer = codec::decode(&bytes);
    answer
        .map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads so many bytes; says whether they came in time.
fn read(stream: &mut UnixStream, mut bytes: &mut [u8], deadline: Option<Instant>) -> io::Result<bool> {
    while !bytes.is_empty() {
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            stream.set_read_timeout(Some(left))?;
        }
        match stream.read(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => bytes = &mut bytes[read..],
            Err(error)
                if [
                    io::ErrorKind::WouldBlock,
                    io::ErrorKind::TimedOut,
                    io::ErrorKind::Interrupted,
                ]
                .contains(&error.kind()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use phalanx_protocol::step::{Extent, StepGpus};

    use super::*;

    fn request() -> StepRequest {
        StepRequest {
            task: 1,
            inside: None,
            ranks: 2,
            cpus_per_rank: 1,
            nodes_min: 1,
            ranks_per_node_max: 0,
            only: Vec::new(),
            gpus: StepGpus::default(),
            extent: Extent::Whole,
            overlap: false,
            immediate: false,
        }
    }

    fn frame(answer: &ToStep) -> Vec<u8> {
        let bytes = codec::encode(answer);
        [&(bytes.len() as u32).to_le_bytes()[..], &bytes].concat()
    }

    /// What becomes of a step that hears these bytes, with the number of times that it says to wait.
    fn asked(
        answers: &[u8],
        closes: bool,
        patience: Option<Duration>,
    ) -> (Result<StepGrant, LeaseError>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let opened = File::open(&deep).unwrap();
        let near = format!("/proc/self/fd/{}/socket", opened.as_raw_fd());
        let listener = UnixListener::bind(near).unwrap();
        std::thread::scope(|scope| {
            let host = scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(answers).unwrap();
                if closes {
                    stream.shutdown(std::net::Shutdown::Write).unwrap();
                }
                let mut said = Vec::new();
                stream.read_to_end(&mut said).unwrap();
                said
            });
            let mut waited = 0;
            let lease = Lease::ask_at(&deep.join("socket"), &request(), patience, || waited += 1);
            let granted = lease.map(|lease| {
                let grant = lease.grant().clone();
                lease.done();
                grant
            });
            let said = host.join().unwrap();
            let asked: FromStep = codec::decode_prefix(&said[4..]).unwrap().0;
            assert_eq!(asked, FromStep::Request(request()));
            (granted, waited)
        })
    }

    #[test]
    fn it_waits_for_its_turn_and_says_so_once() {
        let grant = StepGrant {
            step: 3,
            shares: Vec::new(),
            is_overcommitted: false,
        };
        let answers = [frame(&ToStep::Waiting), frame(&ToStep::Granted(grant.clone()))].concat();
        let (granted, waited) = asked(&answers, false, None);
        assert_eq!((granted.unwrap(), waited), (grant, 1));
    }

    #[test]
    fn whoever_is_in_a_hurry_gives_up() {
        let (granted, _) = asked(&frame(&ToStep::Waiting), false, Some(Duration::from_millis(20)));
        assert!(matches!(granted, Err(LeaseError::Late)));
    }

    #[test]
    fn answers_that_are_none_are_errors() {
        for answers in [&[][..], &[1, 0], &u32::MAX.to_le_bytes(), &[1, 0, 0, 0, 77]] {
            let (granted, _) = asked(answers, true, None);
            assert!(matches!(granted, Err(LeaseError::Failed(_))), "{answers:?}");
        }
        let (granted, _) = asked(&frame(&ToStep::Refused(StepRefusal::Busy)), true, None);
        assert!(matches!(granted, Err(LeaseError::Refused(StepRefusal::Busy))));
    }
}
