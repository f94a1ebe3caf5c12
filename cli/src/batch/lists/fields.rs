//! The fields of a job that lists can show, by each command's names for them.

/// Something that can be shown of a job, or of an element of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Field {
    Account,
    AllocCpus,
    ArrayJobId,
    ArrayTaskId,
    AverageCpu,
    AverageRss,
    Cluster,
    Command,
    Comment,
    Constraints,
    CpuTime,
    CpuTimeSeconds,
    Cpus,
    CpusPerTask,
    Dependency,
    Elapsed,
    ElapsedSeconds,
    Eligible,
    End,
    ExecHost,
    ExitCode,
    Gres,
    Group,
    GroupId,
    /// With the element: `12_3`, `12_[4-9]`.
    JobId,
    /// One job's alone.
    JobIdRaw,
    Licenses,
    MaxRss,
    MemoryAsked,
    Name,
    Nice,
    NodeCount,
    NodeList,
    NodesAsked,
    OverSubscribe,
    Partition,
    Priority,
    Qos,
    Reason,
    /// The nodes of a job that runs, the reason of one that waits.
    ReasonOrNodes,
    Reservation,
    Restarts,
    Start,
    State,
    StateShort,
    Stderr,
    Stdin,
    Stdout,
    Submit,
    SubmitLine,
    SystemCpu,
    Tasks,
    TimeLeft,
    TimeLimit,
    TimeLimitMinutes,
    TotalCpu,
    Tres,
    User,
    UserCpu,
    UserId,
    Wckey,
    WorkDir,
}

/// Letters of `squeue -o`, with their fields and headers.
const LETTERS: &[(char, Field, &str)] = &[
    ('a', Field::Account, "ACCOUNT"),
    ('A', Field::JobIdRaw, "JOBID"),
    ('b', Field::Gres, "TRES_PER_NODE"),
    ('B', Field::ExecHost, "EXEC_HOST"),
    ('c', Field::CpusPerTask, "MIN_CPUS"),
    ('C', Field::Cpus, "CPUS"),
    ('D', Field::NodeCount, "NODES"),
    ('e', Field::End, "END_TIME"),
    ('E', Field::Dependency, "DEPENDENCY"),
    ('f', Field::Constraints, "FEATURES"),
    ('F', Field::ArrayJobId, "ARRAY_JOB_ID"),
    ('g', Field::Group, "GROUP"),
    ('G', Field::GroupId, "GROUP"),
    ('h', Field::OverSubscribe, "OVER_SUBSCRIBE"),
    ('i', Field::JobId, "JOBID"),
    ('j', Field::Name, "NAME"),
    ('k', Field::Comment, "COMMENT"),
    ('K', Field::ArrayTaskId, "ARRAY_TASK_ID"),
    ('l', Field::TimeLimit, "TIME_LIMIT"),
    ('L', Field::TimeLeft, "TIME_LEFT"),
    ('m', Field::MemoryAsked, "MIN_MEMORY"),
    ('M', Field::Elapsed, "TIME"),
    ('n', Field::NodesAsked, "REQ_NODES"),
    ('N', Field::NodeList, "NODELIST"),
    ('o', Field::Command, "COMMAND"),
    ('p', Field::Priority, "PRIORITY"),
    ('P', Field::Partition, "PARTITION"),
    ('q', Field::Qos, "QOS"),
    ('Q', Field::Priority, "PRIORITY"),
    ('r', Field::Reason, "REASON"),
    ('R', Field::ReasonOrNodes, "NODELIST(REASON)"),
    ('S', Field::Start, "START_TIME"),
    ('t', Field::StateShort, "ST"),
    ('T', Field::State, "STATE"),
    ('u', Field::User, "USER"),
    ('U', Field::UserId, "USER"),
    ('v', Field::Reservation, "RESERVATION"),
    ('V', Field::Submit, "SUBMIT_TIME"),
    ('w', Field::Wckey, "WCKEY"),
    ('W', Field::Licenses, "LICENSES"),
    ('y', Field::Nice, "NICE"),
    ('Z', Field::WorkDir, "WORK_DIR"),
];

/// Names of `squeue -O`, with their fields and headers.
const NAMES: &[(&str, Field, &str)] = &[
    ("Account", Field::Account, "ACCOUNT"),
    ("ArrayJobID", Field::ArrayJobId, "ARRAY_JOB_ID"),
    ("ArrayTaskID", Field::ArrayTaskId, "ARRAY_TASK_ID"),
    ("BatchHost", Field::ExecHost, "EXEC_HOST"),
    ("Cluster", Field::Cluster, "CLUSTER"),
    ("Command", Field::Command, "COMMAND"),
    ("Comment", Field::Comment, "COMMENT"),
    ("cpus-per-task", Field::CpusPerTask, "CPUS_PER_TASK"),
    ("Dependency", Field::Dependency, "DEPENDENCY"),
    ("EligibleTime", Field::Eligible, "ELIGIBLE_TIME"),
    ("EndTime", Field::End, "END_TIME"),
    ("exit_code", Field::ExitCode, "EXIT_CODE"),
    ("Feature", Field::Constraints, "FEATURES"),
    ("Gres", Field::Gres, "TRES_PER_NODE"),
    ("GroupID", Field::GroupId, "GROUP"),
    ("GroupName", Field::Group, "GROUP"),
    ("JobArrayID", Field::JobId, "JOBID"),
    ("JobID", Field::JobIdRaw, "JOBID"),
    ("Licenses", Field::Licenses, "LICENSES"),
    ("MinCPUs", Field::CpusPerTask, "MIN_CPUS"),
    ("MinMemory", Field::MemoryAsked, "MIN_MEMORY"),
    ("Name", Field::Name, "NAME"),
    ("Nice", Field::Nice, "NICE"),
    ("NodeList", Field::NodeList, "NODELIST"),
    ("NumCPUs", Field::Cpus, "CPUS"),
    ("NumNodes", Field::NodeCount, "NODES"),
    ("NumTasks", Field::Tasks, "TASKS"),
    ("OverSubscribe", Field::OverSubscribe, "OVER_SUBSCRIBE"),
    ("Partition", Field::Partition, "PARTITION"),
    ("Priority", Field::Priority, "PRIORITY"),
    ("PriorityLong", Field::Priority, "PRIORITY"),
    ("QOS", Field::Qos, "QOS"),
    ("Reason", Field::Reason, "REASON"),
    ("ReasonList", Field::ReasonOrNodes, "NODELIST(REASON)"),
    ("ReqNodes", Field::NodesAsked, "REQ_NODES"),
    ("Reservation", Field::Reservation, "RESERVATION"),
    ("RestartCnt", Field::Restarts, "RESTART_COUNT"),
    ("StartTime", Field::Start, "START_TIME"),
    ("State", Field::State, "STATE"),
    ("StateCompact", Field::StateShort, "ST"),
    ("STDERR", Field::Stderr, "STDERR"),
    ("STDIN", Field::Stdin, "STDIN"),
    ("STDOUT", Field::Stdout, "STDOUT"),
    ("SubmitTime", Field::Submit, "SUBMIT_TIME"),
    ("TimeLeft", Field::TimeLeft, "TIME_LEFT"),
    ("TimeLimit", Field::TimeLimit, "TIME_LIMIT"),
    ("TimeUsed", Field::Elapsed, "TIME"),
    ("tres-alloc", Field::Tres, "TRES_ALLOC"),
    ("tres-per-node", Field::Gres, "TRES_PER_NODE"),
    ("UserID", Field::UserId, "USER"),
    ("UserName", Field::User, "USER"),
    ("WCKey", Field::Wckey, "WCKEY"),
    ("WorkDir", Field::WorkDir, "WORK_DIR"),
];

/// A column of `sacct`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AccountColumn {
    pub(super) header: &'static str,
    pub(super) field: Field,
    /// In letters; negative if the text stands on the left.
    pub(super) width: i32,
}

const fn account(header: &'static str, field: Field, width: i32) -> AccountColumn {
    AccountColumn { header, field, width }
}

/// The columns of `sacct`; their names are their headers.
const ACCOUNT_COLUMNS: &[AccountColumn] = &[
    account("Account", Field::Account, 10),
    account("AllocCPUS", Field::AllocCpus, 10),
    account("AllocNodes", Field::NodeCount, 10),
    account("AllocTRES", Field::Tres, 10),
    account("AveCPU", Field::AverageCpu, 10),
    account("AveRSS", Field::AverageRss, 10),
    account("Cluster", Field::Cluster, 10),
    account("Comment", Field::Comment, 14),
    account("Constraints", Field::Constraints, 19),
    account("CPUTime", Field::CpuTime, 10),
    account("CPUTimeRAW", Field::CpuTimeSeconds, 10),
    account("Elapsed", Field::Elapsed, 10),
    account("ElapsedRaw", Field::ElapsedSeconds, 10),
    account("Eligible", Field::Eligible, 19),
    account("End", Field::End, 19),
    account("ExitCode", Field::ExitCode, 8),
    account("GID", Field::GroupId, 6),
    account("Group", Field::Group, 9),
    account("JobID", Field::JobId, -12),
    account("JobIDRaw", Field::JobIdRaw, -12),
    account("JobName", Field::Name, 10),
    account("Licenses", Field::Licenses, 10),
    account("MaxRSS", Field::MaxRss, 10),
    account("NCPUS", Field::AllocCpus, 10),
    account("NNodes", Field::NodeCount, 8),
    account("NodeList", Field::NodeList, 15),
    account("NTasks", Field::Tasks, 8),
    account("Partition", Field::Partition, 10),
    account("Priority", Field::Priority, 10),
    account("QOS", Field::Qos, 10),
    account("Reason", Field::Reason, 22),
    account("ReqCPUS", Field::Cpus, 8),
    account("ReqMem", Field::MemoryAsked, 10),
    account("ReqNodes", Field::NodeCount, 8),
    account("ReqTRES", Field::Tres, 10),
    account("Reservation", Field::Reservation, 20),
    account("Restarts", Field::Restarts, 8),
    account("Start", Field::Start, 19),
    account("State", Field::State, 10),
    account("StdErr", Field::Stderr, 20),
    account("StdIn", Field::Stdin, 20),
    account("StdOut", Field::Stdout, 20),
    account("Submit", Field::Submit, 19),
    account("SubmitLine", Field::SubmitLine, 20),
    account("SystemCPU", Field::SystemCpu, 10),
    account("Timelimit", Field::TimeLimit, 10),
    account("TimelimitRaw", Field::TimeLimitMinutes, 12),
    account("TotalCPU", Field::TotalCpu, 10),
    account("UID", Field::UserId, 6),
    account("User", Field::User, 9),
    account("UserCPU", Field::UserCpu, 10),
    account("WCKey", Field::Wckey, 10),
    account("WorkDir", Field::WorkDir, 20),
];

/// The field and header of a letter of `squeue -o`.
pub(super) fn by_letter(letter: char) -> Option<(Field, &'static str)> {
    let found = LETTERS.iter().find(|(known, _, _)| *known == letter);
    found.map(|&(_, field, header)| (field, header))
}

/// All letters that stand for something.
pub(super) fn letters() -> String {
    LETTERS.iter().map(|&(letter, _, _)| letter).collect()
}

/// The field and header of a name of `squeue -O`, in any case.
pub(super) fn by_squeue_name(name: &str) -> Option<(Field, &'static str)> {
    let found = NAMES
        .iter()
        .find(|(known, _, _)| known.eq_ignore_ascii_case(name));
    found.map(|&(_, field, header)| (field, header))
}

/// The column of `sacct` with this name, in any case; the beginning of a name is enough, as it is for Slurm.
pub(super) fn by_sacct_name(name: &str) -> Option<AccountColumn> {
    let begins = |header: &str| {
        let start = header.get(..name.len());
        !name.is_empty() && start.is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    let exact = ACCOUNT_COLUMNS
        .iter()
        .find(|column| column.header.eq_ignore_ascii_case(name));
    exact
        .or_else(|| ACCOUNT_COLUMNS.iter().find(|column| begins(column.header)))
        .copied()
}

/// The names of all columns of `sacct`, four a line.
pub(super) fn sacct_names() -> String {
    let lines: Vec<String> = ACCOUNT_COLUMNS
        .chunks(4)
        .map(|columns| {
            let cells: Vec<String> = columns
                .iter()
                .map(|column| format!("{:<18}", column.header))
                .collect();
            cells.concat().trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

/// The name of `squeue -O` that this one is part of, or that is part of it.
pub(super) fn nearest_squeue(name: &str) -> Option<&'static str> {
    nearest(name, NAMES.iter().map(|&(known, _, _)| known))
}

/// The name of `sacct` that this one is part of, or that is part of it.
pub(super) fn nearest_sacct(name: &str) -> Option<&'static str> {
    nearest(name, ACCOUNT_COLUMNS.iter().map(|column| column.header))
}

pub(super) fn nearest(name: &str, mut known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    known.find(|known| {
        let known = known.to_ascii_lowercase();
        name.len() >= 3 && (known.contains(&name) || name.contains(&known))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_name_stands_for_two_fields() {
        let letters: BTreeSet<char> = LETTERS.iter().map(|&(letter, _, _)| letter).collect();
        assert_eq!(letters.len(), LETTERS.len());
        let names: BTreeSet<String> = NAMES.iter().map(|(name, _, _)| name.to_lowercase()).collect();
        assert_eq!(names.len(), NAMES.len());
        let headers: BTreeSet<String> = ACCOUNT_COLUMNS
            .iter()
            .map(|column| column.header.to_lowercase())
            .collect();
        assert_eq!(headers.len(), ACCOUNT_COLUMNS.len());
    }

    #[test]
    fn names_are_found_in_any_case_and_sacct_takes_their_beginnings() {
        assert_eq!(by_squeue_name("jobarrayid"), Some((Field::JobId, "JOBID")));
        assert_eq!(by_squeue_name("jobarray"), None);
        for (name, header) in [
            ("jobid", "JobID"),
            ("JobIdRaw", "JobIDRaw"),
            ("elapsedr", "ElapsedRaw"),
            ("Max", "MaxRSS"),
        ] {
            assert_eq!(
                by_sacct_name(name).map(|column| column.header),
                Some(header),
                "{name}"
            );
        }
        assert_eq!(by_sacct_name(""), None);
        assert_eq!(by_sacct_name("é"), None);
    }
}
