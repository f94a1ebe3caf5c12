//! What this machine offers, unless the operator says otherwise.

use std::fs;
use std::path::{Path, PathBuf};

use phalanx_protocol::Resources;

/// The cpus and the memory that this process may use: processors of its affinity mask and cgroup quota, and the smaller
/// of the machine's memory and the limits of the control groups it is in.
pub fn detect_capacity() -> Resources {
    let cpus =
        std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| memory_total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups, Path::new("/sys/fs/cgroup"))
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(path).ok()?;
            memory_limit(&text)
        });
    let memory_bytes = machine.into_iter().chain(limits).min().unwrap_or(0);
    Resources {
        cpus,
        memory_bytes,
        ..Resources::default()
    }
}

/// Bytes of `MemTotal` in `/proc/meminfo`.
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The files that limit the memory of a process in the groups of `/proc/self/cgroup`, its own group's and all above it.
fn limit_files(groups: &str, root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (mount, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // inside a container the group may be named as the machine sees it and lie elsewhere: the mount is tried too
        let group = Path::new(group.trim_start_matches('/'));
        files.extend(group.ancestors().map(|above| mount.join(above).join(file)));
    }
    files
}

/// Bytes that a limit file allows; `None` for no limit.
fn memory_limit(text: &str) -> Option<u64> {
    // version 2 writes "max"; version 1 a number that no machine has, which the minimum passes over
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        assert_eq!(
            memory_total("Foo: 1 kB\nMemTotal:       16384 kB\nMemFree: 1 kB\n"),
            Some(16 << 20)
        );
        assert_eq!(memory_total("nonsense"), None);
    }

    #[test]
    fn both_versions_of_control_groups_are_asked_up_to_their_root() {
        let root = Path::new("/c");
        assert_eq!(
            limit_files("0::/a/b\n", root),
            ["/c/a/b/memory.max", "/c/a/memory.max", "/c/memory.max"].map(PathBuf::from)
        );
        assert_eq!(
            limit_files("3:cpu,cpuacct:/x\n2:memory:/x\nnonsense\n", root),
            [
                "/c/memory/x/memory.limit_in_bytes",
                "/c/memory/memory.limit_in_bytes"
            ]
            .map(PathBuf::from)
        );
    }

    #[test]
    fn no_limit_is_no_number() {
        assert_eq!(memory_limit("max\n"), None);
        assert_eq!(memory_limit("1048576\n"), Some(1 << 20));
    }

    #[test]
    fn this_machine_has_something() {
        let capacity = detect_capacity();
        assert!(capacity.cpus >= 1 && capacity.memory_bytes > 0, "{capacity}");
    }
}
