//! Open files that whoever started this process left to it: no task gets them.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// Standard input, output and error are given to each task anew.
const STANDARD: RawFd = 2;

/// Keeps every file that is open now from the processes that this one starts.
///
/// # Errors
/// The system does not say what is open.
pub(super) fn keep_to_itself() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|&number: &RawFd| number > STANDARD) {
            // one that another thread has closed meanwhile needs nothing
            let _ = mark(number);
        }
    }
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "files that nobody in this process owns are known by number alone"
)]
fn mark(number: RawFd) -> rustix::io::Result<()> {
    // SAFETY: neither call needs more of the number than that it is one; a flag of a file that was opened under it since
    // is one that all files of this program have anyway.
    let file = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(file, fcntl_getfd(file)? | FdFlags::CLOEXEC)
}
