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
    /// The node on which that was.
    MaxRssNode,
    /// The task of a step that used most.
    MaxRssTask,
    MemoryAsked,
    MinimumCpu,
    Name,
    Nice,
    NodeCount,
    NodeList,
    NodesAsked,
    NodesExcluded,
    /// What nobody here counts or knows.
    Nothing,
    OverSubscribe,
    Partition,
    Priority,
    Qos,
    /// What was said with that option, if anything.
    Recorded(&'static str),
    Reason,
    /// The nodes of a job that runs, the reason of one that waits.
    ReasonOrNodes,
    Requeue,
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
    Suspended,
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
    Waited,
    WaitedCpu,
    WaitedCpuSeconds,
    WaitedSeconds,
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
    ('d', Field::Recorded("tmp"), "MIN_TMP_DISK"),
    ('e', Field::End, "END_TIME"),
    ('E', Field::Dependency, "DEPENDENCY"),
    ('f', Field::Constraints, "FEATURES"),
    ('F', Field::ArrayJobId, "ARRAY_JOB_ID"),
    ('g', Field::Group, "GROUP"),
    ('G', Field::GroupId, "GROUP"),
    ('h', Field::OverSubscribe, "OVER_SUBSCRIBE"),
    ('H', Field::Recorded("sockets-per-node"), "SOCKETS_PER_NODE"),
    ('i', Field::JobId, "JOBID"),
    ('I', Field::Recorded("cores-per-socket"), "CORES_PER_SOCKET"),
    ('j', Field::Name, "NAME"),
    ('J', Field::Recorded("threads-per-core"), "THREADS_PER_CORE"),
    ('k', Field::Comment, "COMMENT"),
    ('K', Field::ArrayTaskId, "ARRAY_TASK_ID"),
    ('l', Field::TimeLimit, "TIME_LIMIT"),
    ('L', Field::TimeLeft, "TIME_LEFT"),
    ('m', Field::MemoryAsked, "MIN_MEMORY"),
    ('M', Field::Elapsed, "TIME"),
    ('n', Field::NodesAsked, "REQ_NODES"),
    ('N', Field::NodeList, "NODELIST"),
    ('o', Field::Command, "COMMAND"),
    ('O', Field::Recorded("contiguous"), "CONTIGUOUS"),
    ('p', Field::Priority, "PRIORITY"),
    ('P', Field::Partition, "PARTITION"),
    ('q', Field::Qos, "QOS"),
    ('Q', Field::Priority, "PRIORITY"),
    ('r', Field::Reason, "REASON"),
    ('R', Field::ReasonOrNodes, "NODELIST(REASON)"),
    ('S', Field::Start, "START_TIME"),
    ('s', Field::Nothing, "SELECT_JOBINFO"),
    ('t', Field::StateShort, "ST"),
    ('T', Field::State, "STATE"),
    ('u', Field::User, "USER"),
    ('U', Field::UserId, "USER"),
    ('v', Field::Reservation, "RESERVATION"),
    ('V', Field::Submit, "SUBMIT_TIME"),
    ('w', Field::Wckey, "WCKEY"),
    ('W', Field::Licenses, "LICENSES"),
    ('x', Field::NodesExcluded, "EXC_NODES"),
    ('X', Field::Recorded("core-spec"), "CORE_SPEC"),
    ('y', Field::Nice, "NICE"),
    ('Y', Field::Nothing, "SCHEDNODES"),
    ('z', Field::Recorded("extra-node-info"), "S:C:T"),
    ('Z', Field::WorkDir, "WORK_DIR"),
];

/// Names of `squeue -O`, with their fields and headers.
const NAMES: &[(&str, Field, &str)] = &[
    ("Account", Field::Account, "ACCOUNT"),
    ("AccrueTime", Field::Eligible, "ACCRUE_TIME"),
    ("admin_comment", Field::Nothing, "ADMIN_COMMENT"),
    ("AllocNodes", Field::NodeCount, "ALLOC_NODES"),
    ("AllocSID", Field::Nothing, "ALLOC_SID"),
    ("ArrayJobID", Field::ArrayJobId, "ARRAY_JOB_ID"),
    ("ArrayTaskID", Field::ArrayTaskId, "ARRAY_TASK_ID"),
    ("AssocID", Field::Nothing, "ASSOC_ID"),
    ("BatchHost", Field::ExecHost, "EXEC_HOST"),
    ("BoardsPerNode", Field::Nothing, "BOARDS_PER_NODE"),
    ("BurstBuffer", Field::Recorded("bb"), "BURST_BUFFER"),
    ("BurstBufferState", Field::Nothing, "BURST_BUFFER_STATE"),
    ("Cluster", Field::Cluster, "CLUSTER"),
    (
        "ClusterFeature",
        Field::Recorded("cluster-constraint"),
        "CLUSTER_FEATURES",
    ),
    ("Command", Field::Command, "COMMAND"),
    ("Comment", Field::Comment, "COMMENT"),
    ("Container", Field::Recorded("container"), "CONTAINER"),
    ("ContainerID", Field::Recorded("container-id"), "CONTAINER_ID"),
    ("Contiguous", Field::Recorded("contiguous"), "CONTIGUOUS"),
    ("Cores", Field::Recorded("cores-per-socket"), "CORES_PER_SOCKET"),
    ("CoreSpec", Field::Recorded("core-spec"), "CORE_SPEC"),
    ("CPUFreq", Field::Recorded("cpu-freq"), "CPU_FREQ"),
    ("cpus-per-task", Field::CpusPerTask, "CPUS_PER_TASK"),
    ("cpus-per-tres", Field::Nothing, "CPUS_PER_TRES"),
    ("Deadline", Field::Recorded("deadline"), "DEADLINE"),
    ("DelayBoot", Field::Recorded("delay-boot"), "DELAY_BOOT"),
    ("Dependency", Field::Dependency, "DEPENDENCY"),
    ("DerivedEC", Field::Nothing, "DERIVED_EC"),
    ("EligibleTime", Field::Eligible, "ELIGIBLE_TIME"),
    ("EndTime", Field::End, "END_TIME"),
    ("exit_code", Field::ExitCode, "EXIT_CODE"),
    ("Feature", Field::Constraints, "FEATURES"),
    ("Gres", Field::Gres, "TRES_PER_NODE"),
    ("GroupID", Field::GroupId, "GROUP"),
    ("GroupName", Field::Group, "GROUP"),
    ("JobArrayID", Field::JobId, "JOBID"),
    ("JobID", Field::JobIdRaw, "JOBID"),
    ("LastSchedEval", Field::Nothing, "LAST_SCHED_EVAL"),
    ("Licenses", Field::Licenses, "LICENSES"),
    ("MaxCPUs", Field::Cpus, "MAX_CPUS"),
    ("MaxNodes", Field::NodeCount, "MAX_NODES"),
    ("MCSLabel", Field::Recorded("mcs-label"), "MCS_LABEL"),
    ("mem-per-tres", Field::Nothing, "MEM_PER_TRES"),
    ("MinCPUs", Field::CpusPerTask, "MIN_CPUS"),
    ("MinMemory", Field::MemoryAsked, "MIN_MEMORY"),
    ("MinTime", Field::Recorded("time-min"), "TIME_MIN"),
    ("MinTmpDisk", Field::Recorded("tmp"), "MIN_TMP_DISK"),
    ("Name", Field::Name, "NAME"),
    ("Network", Field::Recorded("network"), "NETWORK"),
    ("Nice", Field::Nice, "NICE"),
    ("NodeList", Field::NodeList, "NODELIST"),
    ("NTPerBoard", Field::Nothing, "NTASKS_PER_BOARD"),
    ("NTPerCore", Field::Recorded("ntasks-per-core"), "NTASKS_PER_CORE"),
    ("NTPerNode", Field::Nothing, "NTASKS_PER_NODE"),
    (
        "NTPerSocket",
        Field::Recorded("ntasks-per-socket"),
        "NTASKS_PER_SOCKET",
    ),
    ("NumCPUs", Field::Cpus, "CPUS"),
    ("NumNodes", Field::NodeCount, "NODES"),
    ("NumTasks", Field::Tasks, "TASKS"),
    ("OverSubscribe", Field::OverSubscribe, "OVER_SUBSCRIBE"),
    ("Partition", Field::Partition, "PARTITION"),
    ("PendingTime", Field::WaitedSeconds, "PENDING_TIME"),
    ("PreemptTime", Field::Nothing, "PREEMPT_TIME"),
    ("Prefer", Field::Recorded("prefer"), "PREFER"),
    ("Priority", Field::Priority, "PRIORITY"),
    ("PriorityLong", Field::Priority, "PRIORITY"),
    ("Profile", Field::Recorded("profile"), "PROFILE"),
    ("QOS", Field::Qos, "QOS"),
    ("Reason", Field::Reason, "REASON"),
    ("ReasonList", Field::ReasonOrNodes, "NODELIST(REASON)"),
    ("Reboot", Field::Recorded("reboot"), "REBOOT"),
    ("ReqNodes", Field::NodesAsked, "REQ_NODES"),
    ("ReqSwitch", Field::Recorded("switches"), "REQ_SWITCH"),
    ("Requeue", Field::Requeue, "REQUEUE"),
    ("Reservation", Field::Reservation, "RESERVATION"),
    ("ResizeTime", Field::Nothing, "RESIZE_TIME"),
    ("RestartCnt", Field::Restarts, "RESTART_COUNT"),
    ("ResvPort", Field::Nothing, "RESV_PORT"),
    ("SchedNodes", Field::Nothing, "SCHEDNODES"),
    ("SCT", Field::Recorded("extra-node-info"), "S:C:T"),
    ("SelectJobInfo", Field::Nothing, "SELECT_JOBINFO"),
    ("Sockets", Field::Recorded("sockets-per-node"), "SOCKETS_PER_NODE"),
    ("SPerBoard", Field::Nothing, "SOCKETS_PER_BOARD"),
    ("StartTime", Field::Start, "START_TIME"),
    ("State", Field::State, "STATE"),
    ("StateCompact", Field::StateShort, "ST"),
    ("STDERR", Field::Stderr, "STDERR"),
    ("STDIN", Field::Stdin, "STDIN"),
    ("STDOUT", Field::Stdout, "STDOUT"),
    ("SubmitLine", Field::SubmitLine, "SUBMIT_LINE"),
    ("SubmitTime", Field::Submit, "SUBMIT_TIME"),
    ("system_comment", Field::Nothing, "SYSTEM_COMMENT"),
    ("Threads", Field::Recorded("threads-per-core"), "THREADS_PER_CORE"),
    ("TimeLeft", Field::TimeLeft, "TIME_LEFT"),
    ("TimeLimit", Field::TimeLimit, "TIME_LIMIT"),
    ("TimeUsed", Field::Elapsed, "TIME"),
    ("tres-alloc", Field::Tres, "TRES_ALLOC"),
    ("tres-bind", Field::Recorded("tres-bind"), "TRES_BIND"),
    ("tres-freq", Field::Recorded("gpu-freq"), "TRES_FREQ"),
    ("tres-per-job", Field::Nothing, "TRES_PER_JOB"),
    ("tres-per-node", Field::Gres, "TRES_PER_NODE"),
    (
        "tres-per-socket",
        Field::Recorded("gpus-per-socket"),
        "TRES_PER_SOCKET",
    ),
    ("tres-per-step", Field::Nothing, "TRES_PER_STEP"),
    ("tres-per-task", Field::Recorded("tres-per-task"), "TRES_PER_TASK"),
    ("UserID", Field::UserId, "USER"),
    ("UserName", Field::User, "USER"),
    ("Wait4Switch", Field::Nothing, "WAIT4SWITCH"),
    ("WCKey", Field::Wckey, "WCKEY"),
    ("WorkDir", Field::WorkDir, "WORK_DIR"),
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

/// The name of `squeue -O` that this one is part of, or that is part of it.
pub(super) fn nearest_squeue(name: &str) -> Option<&'static str> {
    nearest(name, NAMES.iter().map(|&(known, _, _)| known))
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
    }

    #[test]
    fn names_of_squeue_are_found_in_any_case() {
        assert_eq!(by_squeue_name("jobarrayid"), Some((Field::JobId, "JOBID")));
        assert_eq!(by_squeue_name("jobarray"), None);
    }
}
