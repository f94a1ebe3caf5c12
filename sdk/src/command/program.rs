//! A program that is to be started: its words, variables, directory and streams.
//!
//! Short tasks cost little more than their start, so it is made of what the system takes as it is: variables that all tasks
//! of a job have are written once, and files are lent. [`std::process::Command`] sorts, copies and closes for each start
//! anew; it is left to do so where something has to be done between fork and exec: limits, a control group, and a variable
//! with the program's own number.

use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::LazyLock;

use rustix::process::Pid;

use super::cgroup::Cgroup;
use super::{own_pid, rlimits};

/// A variable as the system wants it, `NAME=value`.
#[derive(Debug, Clone)]
struct Variable {
    text: CString,
    /// Bytes of the name.
    name: usize,
}

impl Variable {
    /// `None` if it has a zero byte.
    fn new(name: &[u8], value: &[u8]) -> Option<Self> {
        let text = CString::new([name, b"=", value].concat()).ok()?;
        Some(Self {
            text,
            name: name.len(),
        })
    }

    fn name(&self) -> &[u8] {
        &self.text.as_bytes()[..self.name]
    }

    fn value(&self) -> &[u8] {
        &self.text.as_bytes()[self.name + 1..]
    }
}

/// Variables of many programs.
#[derive(Debug, Default)]
pub(super) struct Environment {
    variables: Vec<Variable>,
    /// One of them cannot be a variable.
    has_zero: bool,
}

impl Environment {
    /// Sets a variable, whatever it was before.
    pub(super) fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        let (name, value) = (name.as_ref().as_bytes(), value.as_ref().as_bytes());
        self.variables.retain(|variable| variable.name() != name);
        let variable = Variable::new(name, value);
        self.has_zero |= variable.is_none();
        self.variables.extend(variable);
    }
}

/// A program, ready to be started.
#[derive(Debug)]
pub(super) struct Program<'a> {
    /// Its path, and its arguments.
    words: Vec<CString>,
    directory: CString,
    common: Option<&'a Environment>,
    /// Variables that it has beside or instead of those.
    own: Environment,
    /// Names of variables that it does not have.
    unset: Vec<&'static str>,
    /// The variable in which it finds the number of its process.
    pid_name: Option<&'static str>,
    /// What it reads, writes, and writes its errors to; those of this process if absent.
    streams: Option<[BorrowedFd<'a>; 3]>,
    /// One of its words cannot be one.
    has_zero: bool,
}

impl<'a> Program<'a> {
    /// A program without arguments and variables. `path` is absolute.
    pub(super) fn new(path: impl AsRef<OsStr>, directory: impl AsRef<OsStr>) -> Self {
        let directory = CString::new(directory.as_ref().as_bytes());
        let mut program = Self {
            words: Vec::new(),
            has_zero: directory.is_err(),
            directory: directory.unwrap_or_default(),
            common: None,
            own: Environment::default(),
            unset: Vec::new(),
            pid_name: None,
            streams: None,
        };
        program.arg(path);
        program
    }

    /// Adds an argument.
    pub(super) fn arg(&mut self, word: impl AsRef<OsStr>) {
        let word = CString::new(word.as_ref().as_bytes());
        self.has_zero |= word.is_err();
        self.words.extend(word);
    }

    /// Gives it these variables, unless it has its own.
    pub(super) fn share(&mut self, common: &'a Environment) {
        self.common = Some(common);
    }

    /// Gives it a variable of its own.
    pub(super) fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        let name = name.as_ref();
        self.unset.retain(|unset| OsStr::new(unset) != name);
        self.own.set(name, value);
        self
    }

    /// Takes a variable from it.
    pub(super) fn env_remove(&mut self, name: &'static str) -> &mut Self {
        let own = &mut self.own.variables;
        own.retain(|variable| variable.name() != name.as_bytes());
        self.unset.push(name);
        self
    }

    /// Has it find the number of its process in a variable, which costs its start some time.
    pub(super) fn tell_pid(&mut self, name: &'static str) {
        self.pid_name = Some(name);
    }

    /// Gives it its input, its output, and where it writes its errors.
    pub(super) fn lend(&mut self, streams: [BorrowedFd<'a>; 3]) {
        self.streams = Some(streams);
    }

    /// Starts it as the leader of a process group of its own, in a control group if there is one. Nothing reaps it when it has
    /// ended.
    ///
    /// # Errors
    /// As the system says; and if a word or a variable has a zero byte.
    pub(super) fn start(&self, rlimits: &rlimits::Changes, cgroup: Option<&Cgroup>) -> io::Result<Pid> {
        let has_zero =
            self.has_zero || self.own.has_zero || self.common.is_some_and(|common| common.has_zero);
        if has_zero {
            let message = "a zero byte is in its words or variables";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let is_plain = rlimits.are_none() && cgroup.is_none() && self.pid_name.is_none();
        let number = match is_plain {
            true => spawn(self)?,
            false => self.fork(rlimits, cgroup)?,
        };
        Pid::from_raw(number).ok_or_else(|| io::Error::other("the system gave a process no number"))
    }

    /// Starts it by way of a copy of this process, which changes its limits and its control group, and notes its number, before it
    /// becomes the program.
    fn fork(&self, rlimits: &rlimits::Changes, cgroup: Option<&Cgroup>) -> io::Result<i32> {
        let text = |text: &CString| OsStr::from_bytes(text.as_bytes()).to_owned();
        let mut words = self.words.iter().map(text);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).current_dir(text(&self.directory)).env_clear();
        for variable in self.variables() {
            command.env(
                OsStr::from_bytes(variable.name()),
                OsStr::from_bytes(variable.value()),
            );
        }
        if let Some([input, output, error]) = self.streams {
            command.stdin(input.try_clone_to_owned()?);
            command.stdout(output.try_clone_to_owned()?);
            command.stderr(error.try_clone_to_owned()?);
        }
        command.process_group(0);
        rlimits.apply(&mut command);
        if let Some(cgroup) = cgroup {
            cgroup.enter(&mut command)?;
        }
        if let Some(name) = self.pid_name {
            let variables = self.variables().map(|variable| variable.text.clone());
            own_pid::tell(&mut command, name, variables.collect())?;
        }
        Ok(command.spawn()?.id().cast_signed())
    }

    fn variables(&self) -> impl Iterator<Item = &Variable> {
        let own = &self.own.variables;
        let is_own = |name: &[u8]| own.iter().any(|variable| variable.name() == name);
        let is_unset = |name: &[u8]| self.unset.iter().any(|unset| unset.as_bytes() == name);
        let common = self.common.into_iter().flat_map(|common| &common.variables);
        let rest = common.filter(move |variable| !is_own(variable.name()) && !is_unset(variable.name()));
        rest.chain(own)
    }
}

/// Starts a program by `posix_spawn`; the child's signals are as a program expects them.
#[expect(
    unsafe_code,
    reason = "the standard library starts programs only from variables that it has copied and sorted itself"
)]
fn spawn(program: &Program<'_>) -> io::Result<libc::pid_t> {
    let words: Vec<*mut libc::c_char> = pointers(program.words.iter());
    let variables = pointers(program.variables().map(|variable| &variable.text));
    let path = words.first().copied().unwrap_or(ptr::null_mut());
    let actions = Actions::new(program)?;
    let attributes = Attributes::new()?;
    let mut pid = 0;
    // SAFETY: all pointers are to texts that end with zero and live in `program`, both lists end with a null pointer, and
    // the system writes to none of them. Actions and attributes are initialised.
    check(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            path,
            actions.0.as_ptr(),
            attributes.0.as_ptr(),
            words.as_ptr(),
            variables.as_ptr(),
        )
    })?;
    Ok(pid)
}

/// Pointers to texts, and a null pointer behind them.
fn pointers<'t>(texts: impl Iterator<Item = &'t CString>) -> Vec<*mut libc::c_char> {
    texts
        .map(|text| text.as_ptr().cast_mut())
        .chain([ptr::null_mut()])
        .collect()
}

fn check(code: libc::c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// What the child does before it becomes the program.
struct Actions(Box<MaybeUninit<libc::posix_spawn_file_actions_t>>);

impl Actions {
    #[expect(unsafe_code, reason = "the standard library does not lend them")]
    fn new(program: &Program<'_>) -> io::Result<Self> {
        let mut actions = Box::new(MaybeUninit::uninit());
        // SAFETY: this initialises them.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        let mut actions = Self(actions);
        let streams = program.streams.iter().flatten().zip(0..);
        for (stream, number) in streams {
            let stream: RawFd = stream.as_raw_fd();
            // SAFETY: they are initialised.
            check(unsafe { libc::posix_spawn_file_actions_adddup2(actions.0.as_mut_ptr(), stream, number) })?;
        }
        // SAFETY: they are initialised, and the text, which is copied, ends with zero.
        check(unsafe {
            libc::posix_spawn_file_actions_addchdir_np(actions.0.as_mut_ptr(), program.directory.as_ptr())
        })?;
        Ok(actions)
    }
}

impl Drop for Actions {
    #[expect(unsafe_code, reason = "they are the system's")]
    fn drop(&mut self) {
        // SAFETY: they were initialised, and are not used any more.
        unsafe {
            libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr());
        }
    }
}

/// All signals but those that this process ignores because whoever started it did. The system's library asks for each signal
/// that is not named, and sets it then: naming those that nothing is to be done for saves a task some thirty calls.
static NOT_IGNORED: LazyLock<libc::sigset_t> = LazyLock::new(not_ignored);

#[expect(unsafe_code, reason = "the standard library knows nothing of signals")]
fn not_ignored() -> libc::sigset_t {
    let is_ignored = |signal| {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: this changes nothing, and writes what is the case unless it fails; the C library keeps a few for itself.
        let told = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } == 0;
        // SAFETY: it has been written.
        told && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
    };
    let mut signals = MaybeUninit::uninit();
    // SAFETY: the set is initialised first. A number that is no signal's is refused.
    unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        for signal in 1..=libc::SIGRTMAX() {
            // Rust's own start ignores this one
            let is_rusts = signal == libc::SIGPIPE;
            let is_fixed = signal == libc::SIGKILL || signal == libc::SIGSTOP;
            if is_rusts || (!is_fixed && !is_ignored(signal)) {
                libc::sigaddset(signals.as_mut_ptr(), signal);
            }
        }
        signals.assume_init()
    }
}

/// What else the child is: the leader of a group, with no signal blocked, and ended by a closed pipe, which this process ignores.
struct Attributes(Box<MaybeUninit<libc::posix_spawnattr_t>>);

impl Attributes {
    #[expect(unsafe_code, reason = "the standard library does not lend them")]
    fn new() -> io::Result<Self> {
        const FLAGS: libc::c_int =
            libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        let mut attributes = Box::new(MaybeUninit::uninit());
        let mut signals = MaybeUninit::uninit();
        // SAFETY: this initialises them.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        let mut attributes = Self(attributes);
        let these = attributes.0.as_mut_ptr();
        // SAFETY: the attributes are initialised, and so is the set of signals before it is read.
        unsafe {
            libc::sigemptyset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(these, signals.as_ptr()))?;
            check(libc::posix_spawnattr_setsigdefault(
                these,
                &raw const *NOT_IGNORED,
            ))?;
            check(libc::posix_spawnattr_setpgroup(these, 0))?;
            // they are a short's worth of bits
            check(libc::posix_spawnattr_setflags(these, FLAGS as libc::c_short))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    #[expect(unsafe_code, reason = "they are the system's")]
    fn drop(&mut self) {
        // SAFETY: they were initialised, and are not used any more.
        unsafe {
            libc::posix_spawnattr_destroy(self.0.as_mut_ptr());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    use rustix::process::{Resource, WaitOptions, getrlimit, waitpid};

    use super::*;

    /// What a shell says in which `script` runs, started in both ways.
    fn told(script: &str, prepare: impl Fn(&mut Program<'_>), common: &Environment) -> [String; 2] {
        let limit = getrlimit(Resource::Core);
        // another limit than this process has
        let soft = if limit.current == Some(0) { 1 } else { 0 };
        let changed = rlimits::Changes::to(&[(libc::RLIMIT_CORE, soft, u64::MAX)]);
        [rlimits::Changes::to(&[]), changed].map(|rlimits| {
            let folder = tempfile::tempdir().unwrap();
            let (input, path) = (File::open("/dev/null").unwrap(), folder.path().join("told"));
            let output = File::create(&path).unwrap();
            let mut program = Program::new("/bin/sh", "/");
            for word in ["-c", script, "sh", "a b", ""] {
                program.arg(word);
            }
            program.share(common);
            prepare(&mut program);
            program.lend([input.as_fd(), output.as_fd(), output.as_fd()]);
            let pid = program.start(&rlimits, None).unwrap();
            let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
            assert!(status.exited());
            fs::read_to_string(path).unwrap()
        })
    }

    #[test]
    fn a_program_has_its_words_and_its_directory_and_leads_a_group() {
        let script = r#"echo "$#,$1,$2,$PWD"; test "$(ps -o pgid= -p $$)" -eq $$ && echo leads"#;
        let told = told(script, |_| {}, &Environment::default());
        assert_eq!(told, ["2,a b,,/\nleads\n"; 2]);
    }

    #[test]
    fn a_variable_of_its_own_stands_for_that_of_all_and_one_that_was_taken_is_missing() {
        let mut common = Environment::default();
        for (name, value) in [("A", "1"), ("B", "2"), ("C", "3"), ("AB", "4"), ("A", "5")] {
            common.set(name, value);
        }
        let prepare = |program: &mut Program<'_>| {
            program
                .env("B", "own")
                .env("D", "x=y")
                .env_remove("C")
                .env("D", "z=y");
        };
        let told = told(
            "/usr/bin/env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= | sort",
            prepare,
            &common,
        );
        assert_eq!(told, ["A=5\nAB=4\nB=own\nD=z=y\n"; 2]);
    }

    #[test]
    fn a_program_finds_its_number_beside_its_other_variables() {
        let mut common = Environment::default();
        common.set("A", "1");
        common.set("OWN", "that of whoever submitted it");
        let prepare = |program: &mut Program<'_>| {
            program.env("B", "2");
            program.tell_pid("OWN");
        };
        let told = told(
            "test $OWN -eq $$ && /usr/bin/env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OWN= | sort",
            prepare,
            &common,
        );
        assert_eq!(told, ["A=1\nB=2\n"; 2]);
    }

    #[test]
    fn a_closed_pipe_ends_a_program_and_does_not_fail_its_writes() {
        // this process ignores that signal, and a shell that finds it ignored keeps it so
        let told = told(
            "sh -c 'kill -PIPE $$; echo ignored'; echo $?",
            |_| {},
            &Environment::default(),
        );
        assert_eq!(told, ["141\n"; 2]);
    }

    #[test]
    #[expect(unsafe_code, reason = "the standard library knows nothing of signals")]
    fn signals_that_this_process_was_started_to_ignore_are_left_as_they_are_and_no_others() {
        // SAFETY: nothing here uses the signal, and it does nothing by default either.
        unsafe { libc::signal(libc::SIGWINCH, libc::SIG_IGN) };
        let signals = not_ignored();
        // SAFETY: the set is initialised.
        let has = |signal| unsafe { libc::sigismember(&raw const signals, signal) } == 1;
        let number = |signal: &libc::c_int| has(*signal);
        // a shell that starts this in the background has it ignore SIGINT
        let some = [libc::SIGPIPE, libc::SIGTERM, libc::SIGUSR1];
        assert!(some.iter().all(number));
        assert!(![libc::SIGWINCH, libc::SIGKILL].iter().any(number));
    }

    #[test]
    fn a_zero_byte_and_a_program_that_is_not_there_are_errors() {
        let start = |program: Program<'_>| {
            let error = program.start(&rlimits::Changes::to(&[]), None).unwrap_err();
            error.kind()
        };
        let mut zero = Program::new("/bin/true", "/");
        zero.arg("a\0b");
        assert_eq!(start(zero), io::ErrorKind::InvalidInput);
        let mut zero = Program::new("/bin/true", "/");
        zero.env("A", "a\0b");
        assert_eq!(start(zero), io::ErrorKind::InvalidInput);
        assert_eq!(start(Program::new("/nowhere/true", "/")), io::ErrorKind::NotFound);
        assert_eq!(
            start(Program::new("/bin/true", "/nowhere")),
            io::ErrorKind::NotFound
        );
        assert_eq!(
            start(Program::new("/etc/passwd", "/")),
            io::ErrorKind::PermissionDenied
        );
    }
}
