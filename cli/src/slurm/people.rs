//! The numbers that the system's lists have for names of users and groups, as far as these are in files.

use std::path::Path;

/// A user as the system knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) group: String,
}

/// The user with this name; whoever asks, if nobody has it: credentials may have names of their own.
pub(super) fn person(name: &str) -> Person {
    let users = read("/etc/passwd");
    let own = || {
        (
            rustix::process::getuid().as_raw(),
            rustix::process::getgid().as_raw(),
        )
    };
    let (uid, gid) = numbers(&users, name).unwrap_or_else(own);
    let groups = read("/etc/group");
    Person {
        uid,
        gid,
        group: group(&groups, gid).map_or_else(|| gid.to_string(), str::to_owned),
    }
}

/// The name of a user with this number.
pub(super) fn name_of(uid: u32) -> Option<String> {
    let users = read("/etc/passwd");
    let mut lines = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = lines.find(|fields| fields.get(2).and_then(|text| text.parse().ok()) == Some(uid));
    found.and_then(|fields| fields.first().map(|&name| name.to_owned()))
}

/// Nothing, where there is no such list.
fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The numbers of a user and their group: `ada:x:1000:1001:..`.
fn numbers(users: &str, name: &str) -> Option<(u32, u32)> {
    let mut lines = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines.find(|fields| fields.first() == Some(&name))?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

/// The name of a group: `staff:x:1001:`.
fn group(groups: &str, gid: u32) -> Option<&str> {
    let mut lines = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines.find(|fields| fields.get(2).and_then(|text| text.parse().ok()) == Some(gid))?;
    fields.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_have_the_numbers_of_the_lists() {
        let users = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1001:Ada:/home/ada:/bin/sh\nbroken\n";
        assert_eq!(numbers(users, "ada"), Some((1000, 1001)));
        assert_eq!((numbers(users, "eve"), numbers(users, "broken")), (None, None));
        assert_eq!(group("root:x:0:\nstaff:x:1001:ada\n", 1001), Some("staff"));
        assert_eq!(name_of(0).as_deref(), Some("root"));
    }
}
