//! The columns of `sacct`.

use super::fields::{Field, nearest};

/// A column of `sacct`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) header: &'static str,
    pub(super) field: Field,
    /// In letters; negative if the text stands on the left.
    pub(super) width: i32,
}

const fn column(header: &'static str, field: Field, width: i32) -> Column {
    Column { header, field, width }
}

/// The columns of `sacct`; their names are their headers.
const COLUMNS: &[Column] = &[
    column("Account", Field::Account, 10),
    column("AdminComment", Field::Nothing, 14),
    column("AllocCPUS", Field::AllocCpus, 10),
    column("AllocNodes", Field::NodeCount, 10),
    column("AllocTRES", Field::Tres, 10),
    column("AssocID", Field::Nothing, 7),
    column("AveCPU", Field::AverageCpu, 10),
    column("AveCPUFreq", Field::Nothing, 10),
    column("AveDiskRead", Field::Nothing, 14),
    column("AveDiskWrite", Field::Nothing, 14),
    column("AvePages", Field::Nothing, 10),
    column("AveRSS", Field::AverageRss, 10),
    column("AveVMSize", Field::Nothing, 10),
    column("BlockID", Field::Nothing, 16),
    column("Cluster", Field::Cluster, 10),
    column("Comment", Field::Comment, 14),
    column("Constraints", Field::Constraints, 19),
    column("ConsumedEnergy", Field::Nothing, 14),
    column("ConsumedEnergyRaw", Field::Nothing, 17),
    column("Container", Field::Recorded("container"), 16),
    column("CPUTime", Field::CpuTime, 10),
    column("CPUTimeRAW", Field::CpuTimeSeconds, 10),
    column("DBIndex", Field::Nothing, 10),
    column("DerivedExitCode", Field::Nothing, 15),
    column("Elapsed", Field::Elapsed, 10),
    column("ElapsedRaw", Field::ElapsedSeconds, 10),
    column("Eligible", Field::Eligible, 19),
    column("End", Field::End, 19),
    column("ExitCode", Field::ExitCode, 8),
    column("Extra", Field::Recorded("extra"), 16),
    column("FailedNode", Field::Nothing, 10),
    column("Flags", Field::Nothing, 20),
    column("GID", Field::GroupId, 6),
    column("Group", Field::Group, 9),
    column("JobID", Field::JobId, -12),
    column("JobIDRaw", Field::JobIdRaw, -12),
    column("JobName", Field::Name, 10),
    column("Layout", Field::Recorded("distribution"), 9),
    column("Licenses", Field::Licenses, 10),
    column("MaxDiskRead", Field::Nothing, 12),
    column("MaxDiskReadNode", Field::Nothing, 15),
    column("MaxDiskReadTask", Field::Nothing, 15),
    column("MaxDiskWrite", Field::Nothing, 12),
    column("MaxDiskWriteNode", Field::Nothing, 16),
    column("MaxDiskWriteTask", Field::Nothing, 16),
    column("MaxPages", Field::Nothing, 8),
    column("MaxPagesNode", Field::Nothing, 12),
    column("MaxPagesTask", Field::Nothing, 14),
    column("MaxRSS", Field::MaxRss, 10),
    column("MaxRSSNode", Field::MaxRssNode, 10),
    column("MaxRSSTask", Field::MaxRssTask, 10),
    column("MaxVMSize", Field::Nothing, 10),
    column("MaxVMSizeNode", Field::Nothing, 14),
    column("MaxVMSizeTask", Field::Nothing, 14),
    column("McsLabel", Field::Recorded("mcs-label"), 10),
    column("MinCPU", Field::MinimumCpu, 10),
    column("MinCPUNode", Field::MaxRssNode, 10),
    column("MinCPUTask", Field::MaxRssTask, 10),
    column("NCPUS", Field::AllocCpus, 10),
    column("NNodes", Field::NodeCount, 8),
    column("NodeList", Field::NodeList, 15),
    column("NTasks", Field::Tasks, 8),
    column("Partition", Field::Partition, 10),
    column("Planned", Field::Waited, 10),
    column("PlannedCPU", Field::WaitedCpu, 10),
    column("PlannedCPURAW", Field::WaitedCpuSeconds, 13),
    column("Priority", Field::Priority, 10),
    column("QOS", Field::Qos, 10),
    column("QOSRAW", Field::Nothing, 10),
    column("QOSREQ", Field::Qos, 10),
    column("Reason", Field::Reason, 22),
    column("ReqCPUFreq", Field::Nothing, 10),
    column("ReqCPUFreqGov", Field::Nothing, 13),
    column("ReqCPUFreqMax", Field::Nothing, 13),
    column("ReqCPUFreqMin", Field::Nothing, 13),
    column("ReqCPUS", Field::Cpus, 8),
    column("ReqMem", Field::MemoryAsked, 10),
    column("ReqNodes", Field::NodeCount, 8),
    column("ReqTRES", Field::Tres, 10),
    column("Reservation", Field::Reservation, 20),
    column("ReservationId", Field::Nothing, 15),
    column("Reserved", Field::Waited, 10),
    column("Restarts", Field::Restarts, 8),
    column("SLUID", Field::Nothing, 14),
    column("Start", Field::Start, 19),
    column("State", Field::State, 10),
    column("StdErr", Field::Stderr, 20),
    column("StdIn", Field::Stdin, 20),
    column("StdOut", Field::Stdout, 20),
    column("Submit", Field::Submit, 19),
    column("SubmitLine", Field::SubmitLine, 20),
    column("Suspended", Field::Suspended, 10),
    column("SystemComment", Field::Nothing, 14),
    column("SystemCPU", Field::SystemCpu, 10),
    column("Timelimit", Field::TimeLimit, 10),
    column("TimelimitRaw", Field::TimeLimitMinutes, 12),
    column("TotalCPU", Field::TotalCpu, 10),
    column("TRESUsageInAve", Field::Nothing, 16),
    column("TRESUsageInMax", Field::Nothing, 16),
    column("TRESUsageInMaxNode", Field::Nothing, 16),
    column("TRESUsageInMaxTask", Field::Nothing, 16),
    column("TRESUsageInMin", Field::Nothing, 16),
    column("TRESUsageInMinNode", Field::Nothing, 16),
    column("TRESUsageInMinTask", Field::Nothing, 16),
    column("TRESUsageInTot", Field::Nothing, 16),
    column("TRESUsageOutAve", Field::Nothing, 16),
    column("TRESUsageOutMax", Field::Nothing, 16),
    column("TRESUsageOutMaxNode", Field::Nothing, 16),
    column("TRESUsageOutMaxTask", Field::Nothing, 16),
    column("TRESUsageOutMin", Field::Nothing, 16),
    column("TRESUsageOutMinNode", Field::Nothing, 16),
    column("TRESUsageOutMinTask", Field::Nothing, 16),
    column("TRESUsageOutTot", Field::Nothing, 16),
    column("UID", Field::UserId, 6),
    column("User", Field::User, 9),
    column("UserCPU", Field::UserCpu, 10),
    column("WCKey", Field::Wckey, 10),
    column("WCKeyID", Field::Nothing, 8),
    column("WorkDir", Field::WorkDir, 20),
];

/// All columns.
pub(super) fn all() -> &'static [Column] {
    COLUMNS
}

/// The column of `sacct` with this name, in any case; the beginning of a name is enough, as it is for Slurm.
pub(super) fn by_name(name: &str) -> Option<Column> {
    let begins = |header: &str| {
        let start = header.get(..name.len());
        !name.is_empty() && start.is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    let exact = COLUMNS
        .iter()
        .find(|column| column.header.eq_ignore_ascii_case(name));
    exact
        .or_else(|| COLUMNS.iter().find(|column| begins(column.header)))
        .copied()
}

/// The names of all columns of `sacct`, four a line.
pub(super) fn names() -> String {
    let lines: Vec<String> = COLUMNS
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

/// The name of `sacct` that this one is part of, or that is part of it.
pub(super) fn nearest_name(name: &str) -> Option<&'static str> {
    nearest(name, COLUMNS.iter().map(|column| column.header))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_header_stands_for_two_columns() {
        let headers: BTreeSet<String> = COLUMNS
            .iter()
            .map(|column| column.header.to_lowercase())
            .collect();
        assert_eq!(headers.len(), COLUMNS.len());
    }

    #[test]
    fn names_are_found_in_any_case_and_by_their_beginnings() {
        for (name, header) in [
            ("jobid", "JobID"),
            ("JobIdRaw", "JobIDRaw"),
            ("elapsedr", "ElapsedRaw"),
            ("MaxR", "MaxRSS"),
        ] {
            assert_eq!(by_name(name).map(|column| column.header), Some(header), "{name}");
        }
        assert_eq!(by_name(""), None);
        assert_eq!(by_name("é"), None);
    }
}
