//! Takes a process that has ended off the system's list, and learns what it and all that it has waited for have used.
//!
//! The system counts as memory of a process also what it had before it became another program: that of this host, some MiB.
#![expect(
    unsafe_code,
    reason = "no safe wrapper tells what a process has used when it is waited for"
)]

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::Pid;

/// What a process has used, with its children that it waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) user_micros: u64,
    pub(super) system_micros: u64,
    /// The most that one process had resident, in KiB.
    pub(super) rss_kib: u64,
}

impl Used {
    /// The more of two counts, either of which may have left something out.
    pub(super) fn or_more(self, other: Self) -> Self {
        let time = |used: &Self| used.user_micros.saturating_add(used.system_micros);
        let longer = if time(&other) > time(&self) { other } else { self };
        Self {
            rss_kib: self.rss_kib.max(other.rss_kib),
            ..longer
        }
    }
}

/// Waits for the end of a child, whose number means nothing from then on.
///
/// # Errors
/// It is no child, or was reaped by somebody else.
pub(super) fn reap(child: Pid) -> io::Result<(ExitStatus, Used)> {
    let mut status: c_int = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to room for what the system writes there, which lives until the call is over.
        let reaped = unsafe {
            libc::wait4(
                child.as_raw_nonzero().get(),
                &raw mut status,
                0,
                usage.as_mut_ptr(),
            )
        };
        if reaped >= 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: it consists of numbers, all of which were set to zero before the system wrote any.
    let usage = unsafe { usage.assume_init() };
    let used = Used {
        user_micros: micros(usage.ru_utime),
        system_micros: micros(usage.ru_stime),
        rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
    };
    Ok((ExitStatus::from_raw(status), used))
}

fn micros(time: libc::timeval) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(micros)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_a_process_and_its_children_used_is_told_when_it_is_reaped() {
        // the child of the shell is the one that works and takes 48 MiB
        let script = "head -c 48M /dev/zero | tail -c 48M | cksum >/dev/null; exit 3";
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let (status, used) = reap(pid).unwrap();
        assert_eq!(status.code(), Some(3));
        assert!(used.rss_kib >= 48 << 10, "{used:?}");
        assert!(used.user_micros + used.system_micros > 10_000, "{used:?}");
        assert!(child.wait().is_err(), "it is gone");
    }
}
