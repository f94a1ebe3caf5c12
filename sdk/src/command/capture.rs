//! What a process finds around it when a job is submitted, so that its tasks find the same.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use rustix::process::{Resource, getrlimit};

/// Resources whose limits are passed on, by the system's number.
const RESOURCES: [Resource; 10] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
];

/// The resource that the system gives that number.
pub(super) fn resource(number: u32) -> Option<Resource> {
    RESOURCES.get(number as usize).copied()
}

/// Environment, working directory, umask and limits of this process, in the form in which a
/// [`phalanx_protocol::CommandPlan`] has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// All variables, in no particular order.
    pub environment: Vec<(Bytes, Bytes)>,
    /// The working directory, absolute.
    pub directory: Bytes,
    /// Permissions that new files do not get.
    pub umask: Option<u32>,
    /// Resource, soft limit, hard limit; `u64::MAX` for none.
    pub limits: Vec<(u32, u64, u64)>,
}

impl Surroundings {
    /// Those of this process now.
    ///
    /// # Errors
    /// If the working directory is gone.
    pub fn capture() -> io::Result<Self> {
        let bytes = |text: &std::ffi::OsStr| Bytes::copy_from_slice(text.as_bytes());
        let environment = std::env::vars_os().map(|(name, value)| (bytes(&name), bytes(&value)));
        let limits = (0..).zip(RESOURCES).map(|(number, resource)| {
            let limit = getrlimit(resource);
            (
                number,
                limit.current.unwrap_or(u64::MAX),
                limit.maximum.unwrap_or(u64::MAX),
            )
        });
        Ok(Self {
            environment: environment.collect(),
            directory: bytes(std::env::current_dir()?.as_os_str()),
            umask: umask(),
            limits: limits.collect(),
        })
    }
}

/// Read where it can be read without changing it.
fn umask() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(line.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_around_this_process_is_captured() {
        let found = Surroundings::capture().unwrap();
        let path = found.environment.iter().find(|(name, _)| &name[..] == b"PATH");
        assert_eq!(
            path.map(|(_, value)| value.to_vec()),
            std::env::var_os("PATH").map(|path| path.as_bytes().to_vec())
        );
        assert_eq!(
            &found.directory[..],
            std::env::current_dir().unwrap().as_os_str().as_bytes()
        );
        assert!(found.umask.is_some_and(|mask| mask <= 0o777));
        assert_eq!(found.limits.len(), RESOURCES.len());
    }
}
