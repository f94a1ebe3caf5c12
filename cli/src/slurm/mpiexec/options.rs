//! The options of `mpiexec` and `mpirun`, those of MPICH's and Intel's Hydra and of Open MPI 4's, by name; and the help.

use std::fmt::Write;

/// Columns before what an option does.
const NAME_COLUMNS: usize = 44;
/// Columns of the names of options that change nothing.
const LINE_COLUMNS: usize = 96;

/// An option.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Its names, without the hyphens, of which there may be one or two.
    names: &'static [&'static str],
    /// What its values are called.
    pub(super) values: &'static [&'static str],
    pub(super) meaning: Meaning,
    /// What it does.
    text: &'static str,
}

/// What an option says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Ranks,
    RanksPerNode,
    /// The same, which also says how many ranks there are.
    RanksOfEachNode,
    OneOnEachNode,
    CpusPerRank,
    /// The machines of one program.
    Host,
    /// Those of all of them.
    Hosts,
    HostFile,
    Cyclic,
    MapBy,
    BindTo,
    Variable(Reach),
    PassNamed(Reach),
    PassNone(Reach),
    PassAll(Reach),
    /// A variable that is passed on, or set.
    Export,
    Component(Reach),
    SearchPath,
    Directory,
    Label,
    TimeLimit,
    Input,
    /// The words are in a file.
    Configuration,
    Help,
    Version,
    Nothing,
    /// It is not done here, for this reason.
    Refused(&'static str),
}

/// Whom an option concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The program that it is in front of.
    This,
    /// And all that follow.
    All,
}

const fn known(
    names: &'static [&'static str],
    values: &'static [&'static str],
    meaning: Meaning,
    text: &'static str,
) -> Known {
    Known {
        names,
        values,
        meaning,
        text,
    }
}

const BY_SHELL: &str = "write `> FILE`, or start it by `phalanx run --ranks N --stdout FILE`";
const FAILS_TOGETHER: &str = "if one rank fails, all are ended; see `phalanx run --retries`";
const NO_DEBUGGER: &str = "ranks have no terminal; attach to their processes";

/// All options.
#[rustfmt::skip]
const OPTIONS: [Known; 35] = [
    known(&["n", "np", "c"], &["N"], Meaning::Ranks, "so many ranks; 1 if nothing is said"),
    known(&["ppn", "perhost", "grr"], &["N"], Meaning::RanksPerNode, "so many ranks on each worker"),
    known(&["npernode", "N"], &["N"], Meaning::RanksOfEachNode, "so many ranks on each worker"),
    known(&["pernode"], &[], Meaning::OneOnEachNode, "one rank on each worker"),
    known(&["cpus-per-proc", "cpus-per-rank"], &["N"], Meaning::CpusPerRank, "so many cpus for each rank; 1 if nothing is said"),
    known(&["hosts"], &["A,B:2"], Meaning::Hosts, "on as many workers as hosts are named; the cluster says which"),
    known(&["host", "H"], &["A,B:2"], Meaning::Host, "the same, for one program"),
    known(&["f", "hostfile", "machinefile", "machine", "default-hostfile"], &["FILE"], Meaning::HostFile, "as -hosts says, a host a line"),
    known(&["rr", "bynode"], &[], Meaning::Cyclic, "rank after rank on worker after worker"),
    known(&["map-by"], &["HOW"], Meaning::MapBy, "node: the same; ppr:N:node: N on each; slot; :PE=N: N cpus each"),
    known(&["bind-to"], &["WHAT"], Meaning::BindTo, "keep each rank to cpus of its own, unless it is `none`"),
    known(&["env"], &["NAME", "VALUE"], Meaning::Variable(Reach::This), "set a variable for one program"),
    known(&["genv"], &["NAME", "VALUE"], Meaning::Variable(Reach::All), "set a variable for all programs"),
    known(&["envlist"], &["A,B"], Meaning::PassNamed(Reach::This), "pass on these variables only, to one program"),
    known(&["genvlist"], &["A,B"], Meaning::PassNamed(Reach::All), "the same, to all programs"),
    known(&["envnone"], &[], Meaning::PassNone(Reach::This), "pass on no variables, to one program"),
    known(&["genvnone"], &[], Meaning::PassNone(Reach::All), "the same, to all programs"),
    known(&["envall"], &[], Meaning::PassAll(Reach::This), "pass on all variables, as if nothing is said"),
    known(&["genvall"], &[], Meaning::PassAll(Reach::All), "the same, to all programs"),
    known(&["x"], &["NAME[=VALUE]"], Meaning::Export, "pass on or set a variable for one program"),
    known(&["mca"], &["NAME", "VALUE"], Meaning::Component(Reach::This), "set a parameter of Open MPI's"),
    known(&["gmca"], &["NAME", "VALUE"], Meaning::Component(Reach::All), "the same, for all programs"),
    known(&["path"], &["DIRS"], Meaning::SearchPath, "look for the program there first"),
    known(&["wdir", "wd", "dir"], &["DIR"], Meaning::Directory, "start in that directory"),
    known(&["l", "prepend-rank", "tag-output"], &[], Meaning::Label, "begin each line of output with the number of its rank"),
    known(&["timeout"], &["SECONDS"], Meaning::TimeLimit, "end all ranks after that time; MPIEXEC_TIMEOUT if nothing is said"),
    known(&["stdin"], &["RANK"], Meaning::Input, "who reads what mpiexec is given: 0 (if nothing is said) or none"),
    known(&["configfile", "app"], &["FILE"], Meaning::Configuration, "read all of this from a file, a program a line; the only option"),
    known(&["h", "help"], &[], Meaning::Help, "print this"),
    known(&["V", "version"], &[], Meaning::Version, "print the version"),
    known(&["output-filename", "outfile-pattern", "errfile-pattern", "outfile", "errfile"], &["FILE"], Meaning::Refused(BY_SHELL), ""),
    known(&["merge-stderr-to-stdout"], &[], Meaning::Refused("write `2>&1`"), ""),
    known(&["disable-auto-cleanup", "enable-recovery", "continuous"], &[], Meaning::Refused(FAILS_TOGETHER), ""),
    known(&["debug", "debugger", "tv", "xterm", "gdb"], &[], Meaning::Refused(NO_DEBUGGER), ""),
    known(&["rf", "rankfile"], &["FILE"], Meaning::Refused("say which ranks share a node by -hosts A:2,B:2"), ""),
];

/// Those that change nothing here: how ranks are started and what is told of it.
#[rustfmt::skip]
const WITHOUT_EFFECT: [&str; 32] = [
    "v", "verbose", "q", "quiet", "info", "print-all-exitcodes", "oversubscribe", "nooversubscribe",
    "allow-run-as-root", "report-bindings", "display-map", "display-allocation", "display-devel-map",
    "display-topo", "use-hwthread-cpus", "novm", "nolocal", "byslot", "bycore", "hetero-nodes", "noprefix",
    "do-not-resolve", "leave-session-attached", "disable-recovery", "disable-hostname-propagation",
    "enable-x", "disable-x", "show-progress", "order-nodes", "cleanup", "silent-abort", "ordered-output",
];

/// Those of them that have a value.
#[rustfmt::skip]
const WITH_VALUE_WITHOUT_EFFECT: [&str; 21] = [
    "launcher", "bootstrap", "launcher-exec", "bootstrap-exec", "rmk", "iface", "topolib", "membind", "demux",
    "nameserver", "usize", "localhost", "rank-by", "prefix", "personality", "report-uri", "report-pid", "am",
    "tune", "pmi-port", "launch-agent",
];

/// What a word that begins with a hyphen is; `None` if it is unknown here.
pub(super) fn find(word: &str) -> Option<(&'static [&'static str], Meaning)> {
    let name = word.strip_prefix("--").or(word.strip_prefix('-'))?;
    let found = OPTIONS.iter().find(|known| known.names.contains(&name));
    let quiet = |names: &[&str], values: &'static [&'static str]| {
        names.contains(&name).then_some((values, Meaning::Nothing))
    };
    found
        .map(|known| (known.values, known.meaning))
        .or_else(|| quiet(&WITHOUT_EFFECT, &[]))
        .or_else(|| quiet(&WITH_VALUE_WITHOUT_EFFECT, &["VALUE"]))
}

/// What `mpiexec --help` prints, without the end of its last line.
pub(super) fn help() -> String {
    let mut text = String::from(
        "Usage: mpiexec [OPTIONS..] PROGRAM [ARGUMENTS..] [: [OPTIONS..] PROGRAM [ARGUMENTS..]]..\n\n\
         Starts the ranks of an MPI program: inside a job on its cpus, elsewhere as a job of their own, on as many workers as it\n\
         takes. Example: mpiexec -n 4 ./solver\n",
    );
    for known in OPTIONS.iter().filter(|known| !known.text.is_empty()) {
        let names: Vec<String> = known.names.iter().map(|name| format!("-{name}")).collect();
        let name = [names.join(", "), known.values.join(" ")].join(" ");
        let gap = match name.len() < NAME_COLUMNS {
            true => " ".repeat(NAME_COLUMNS - name.len()),
            false => format!("\n  {:NAME_COLUMNS$}", ""),
        };
        // writing to a text does not fail
        let _ = write!(text, "\n  {name}{gap}{}", known.text);
    }
    text.push_str("\n\nAccepted; they change nothing here:\n");
    let mut row = String::from(" ");
    for name in WITHOUT_EFFECT.iter().chain(&WITH_VALUE_WITHOUT_EFFECT) {
        if row.len() + name.len() + 2 > LINE_COLUMNS {
            text.push_str(&std::mem::replace(&mut row, String::from(" ")));
            text.push('\n');
        }
        row.push_str(" -");
        row.push_str(name);
    }
    text + &row
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_name_has_one_meaning_and_the_help_no_wide_line() {
        let with_meaning = OPTIONS.iter().flat_map(|known| known.names);
        let mut seen = BTreeSet::new();
        for name in with_meaning
            .chain(&WITHOUT_EFFECT)
            .chain(&WITH_VALUE_WITHOUT_EFFECT)
        {
            assert!(seen.insert(name), "{name}");
        }
        let help = help();
        for line in help.lines() {
            assert!(line.len() <= 125, "{line}");
        }
        assert!(help.contains("  -l, -prepend-rank, -tag-output "), "{help}");
    }
}
