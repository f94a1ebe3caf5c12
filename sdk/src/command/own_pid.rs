//! Programs that find the number of their own process in a variable, as Slurm's do.
//!
//! Nobody knows the number before there is a process, so the copy of this process writes it into variables that lie ready, and
//! becomes the program itself.

use std::ffi::{CString, OsStr, OsString, c_char};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

/// Digits that a process's number has at the most.
const DIGITS_MAX: usize = 10;

/// A program as the system takes it.
struct Ready {
    /// Pointers into the texts below, and a null pointer behind them.
    words: Vec<*const c_char>,
    /// The same; the first is of `number`.
    variables: Vec<*const c_char>,
    /// The variable with room for the digits, and zeros.
    number: Vec<u8>,
    /// How long it is without the digits.
    name_bytes: usize,
    /// What the pointers are to.
    _texts: Vec<CString>,
}

#[expect(unsafe_code, reason = "pointers say nothing of who owns what they are to")]
// SAFETY: all that it points to is its own, and stays where it is when it moves.
unsafe impl Send for Ready {}
#[expect(unsafe_code, reason = "pointers say nothing of who owns what they are to")]
// SAFETY: what it points to is written only through a mutable reference to it.
unsafe impl Sync for Ready {}

impl Ready {
    fn new(command: &Command, name: &str, variables: Vec<CString>) -> io::Result<Self> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let mut texts = words
            .map(|word| CString::new(word.as_bytes()))
            .collect::<Result<Vec<_>, _>>()?;
        let n_words = texts.len();
        let prefix = [name.as_bytes(), b"="].concat();
        texts.extend(
            variables
                .into_iter()
                .filter(|text| !text.as_bytes().starts_with(&prefix)),
        );
        let name_bytes = prefix.len();
        let mut number = prefix;
        number.resize(name_bytes + DIGITS_MAX + 1, 0);
        let pointer = |text: &CString| text.as_ptr();
        let end = [ptr::null()];
        Ok(Self {
            words: texts[..n_words].iter().map(pointer).chain(end).collect(),
            variables: std::iter::once(number.as_ptr().cast())
                .chain(texts[n_words..].iter().map(pointer))
                .chain(end)
                .collect(),
            number,
            name_bytes,
            _texts: texts,
        })
    }

    /// Becomes the program; to be called between fork and exec.
    ///
    /// # Errors
    /// The system does not let it: else it does not return.
    #[expect(
        unsafe_code,
        reason = "the standard library takes no variables that lie ready"
    )]
    fn become_it(&mut self) -> io::Result<()> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        write_digits(pid.unsigned_abs(), &mut self.number[self.name_bytes..]);
        // so that what is to be written lies there whatever becomes of the vector
        self.variables[0] = self.number.as_ptr().cast();
        // SAFETY: this process has one thread by now, so that nobody else looks at its variables; all pointers are to texts
        // that end with zero and live in `self`, and both lists end with a null pointer.
        unsafe {
            libc::environ = self.variables.as_mut_ptr().cast();
            libc::execvp(self.words[0], self.words.as_ptr());
        }
        Err(io::Error::last_os_error())
    }
}

/// Writes a number, and a zero byte behind it.
fn write_digits(number: u32, place: &mut [u8]) {
    let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut rest = number;
    for digit in place[..digits].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    place[digits] = 0;
}

/// Has a program find the number of its process in the variable `name`, beside the variables `NAME=value` that are given, which
/// stand for all that `command` says of them. What else is to be done before it begins must have been said before.
///
/// # Errors
/// One of its words has a zero byte.
#[expect(
    unsafe_code,
    reason = "only the process itself knows its number before its program begins"
)]
pub(super) fn tell(command: &mut Command, name: &str, variables: Vec<CString>) -> io::Result<()> {
    let mut ready = Ready::new(command, name, variables)?;
    // SAFETY: between fork and exec only system calls are made: no memory is allocated, no lock is taken.
    unsafe {
        command.pre_exec(move || ready.become_it());
    }
    Ok(())
}

/// Has a program that inherits this process's variables find the number of its process in the variable `name`. What else is
/// to be done before it begins, and all its words and variables, must have been said before.
///
/// # Errors
/// One of its words or variables has a zero byte.
pub fn tell_own_pid(command: &mut Command, name: &str) -> io::Result<()> {
    let said: Vec<(&OsStr, Option<&OsStr>)> = command.get_envs().collect();
    let is_said = |name: &OsString| said.iter().any(|(said, _)| said == name);
    let inherited = std::env::vars_os().filter(|(name, _)| !is_said(name));
    let own = said
        .iter()
        .filter_map(|&(name, value)| Some((name.to_owned(), value?.to_owned())));
    let variables = inherited
        .chain(own)
        .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<Result<Vec<_>, _>>()?;
    tell(command, name, variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_as_people_write_it_with_a_zero_byte_behind_it() {
        for number in [0, 7, 10, 99, 4_194_304, u32::MAX] {
            let mut place = [b'x'; DIGITS_MAX + 1];
            write_digits(number, &mut place);
            let text = number.to_string();
            assert_eq!(&place[..text.len()], text.as_bytes());
            assert_eq!(place[text.len()], 0);
        }
    }

    #[test]
    fn a_program_finds_its_own_number_and_what_else_it_is_told() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $OWN $$ $TOLD ${HOME-none}; test -n \"$PATH\""]);
        command.env("TOLD", "a=b").env("OWN", "stale").env_remove("HOME");
        tell_own_pid(&mut command, "OWN").unwrap();
        // each start has its own
        for _ in 0..2 {
            let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
            let pid = child.id();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            assert_eq!(
                String::from_utf8(output.stdout).unwrap(),
                format!("{pid} {pid} a=b none\n")
            );
        }
    }

    #[test]
    fn it_is_looked_for_where_its_own_variable_says_and_missed_where_it_is_not() {
        let mut command = Command::new("sh");
        command.env("PATH", "/nowhere");
        tell_own_pid(&mut command, "OWN").unwrap();
        assert_eq!(command.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
