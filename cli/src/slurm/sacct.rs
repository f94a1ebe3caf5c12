//! `sacct`: jobs of some time, also those that ended long ago, as far as the scheduler remembers them.

use clap::{ArgAction, Parser};
use phalanx::JobView;

use super::clock;
use super::entry::{Entry, Grouping};
use super::gather::{Gathered, Selection, gather, is_user};
use super::row::{Line, Manner, Scene, Step};
use super::words::parts;
use super::{Complaint, Name, print_all, words};
use crate::batch::begin::Begin;
use crate::batch::ids::JobWord;
use crate::batch::lists::{Format, SACCT_DEFAULT, sacct_names};
use crate::batch::memory::MemoryUnit;
use crate::batch::states::{JobState, parse_states};
use crate::process::runtime;
use crate::ui::print_line;

/// What `--brief` and `--long` show.
const BRIEF: &str = "JobID,State,ExitCode";
const LONG: &str =
    "JobID,JobIDRaw,JobName,Partition,MaxRSS,NTasks,AllocCPUS,Elapsed,State,ExitCode,ReqMem,AllocTRES";

/// Lists jobs, also those that have ended
#[derive(Debug, Parser)]
#[command(
    name = "sacct",
    version,
    args_override_self = true,
    infer_long_args = true,
    max_term_width = 100
)]
struct Arguments {
    /// Jobs alone, without their steps
    #[arg(short = 'X', long)]
    allocations: bool,

    /// No lines of headers
    #[arg(short = 'n', long)]
    noheader: bool,

    /// Columns separated by |, also behind the last
    #[arg(short = 'p', long)]
    parsable: bool,

    /// Columns separated by |
    #[arg(short = 'P', long)]
    parsable2: bool,

    /// What separates columns instead of |
    #[arg(long, value_name = "TEXT", default_value = "|", allow_hyphen_values = true)]
    delimiter: String,

    /// Columns, as in JobID%20,State
    #[arg(short = 'o', long, value_name = "NAMES", env = "SACCT_FORMAT")]
    format: Option<String>,

    /// The columns JobID, State and ExitCode
    #[arg(short = 'b', long)]
    brief: bool,

    /// More columns
    #[arg(short = 'l', long)]
    long: bool,

    /// Lists the names of columns
    #[arg(short = 'e', long)]
    helpformat: bool,

    /// These jobs, elements or steps: 42,43_1,44.batch
    #[arg(short = 'j', long, alias = "job", value_name = "IDS")]
    jobs: Vec<String>,

    /// Jobs of these users
    #[arg(short = 'u', long, alias = "user", value_name = "NAMES")]
    uid: Vec<String>,

    /// Jobs of all users
    #[arg(short = 'a', long)]
    allusers: bool,

    /// Jobs with these names
    #[arg(long, value_name = "NAMES")]
    name: Vec<String>,

    /// Jobs in these states, by long or short names
    #[arg(short = 's', long, value_name = "STATES")]
    state: Vec<String>,

    /// Jobs of these partitions
    #[arg(short = 'r', long, value_name = "NAMES")]
    partition: Vec<String>,

    /// Jobs of these accounts
    #[arg(short = 'A', long, alias = "account", value_name = "NAMES")]
    accounts: Vec<String>,

    /// Jobs of these qualities of service
    #[arg(short = 'q', long, value_name = "NAMES")]
    qos: Vec<String>,

    /// Jobs on these nodes
    #[arg(short = 'N', long, value_name = "LIST")]
    nodelist: Vec<String>,

    /// Jobs that had not ended then: 2027-01-31T16:00, 16:00, now-2days. Default: today at 00:00; of named jobs: any
    #[arg(short = 'S', long, value_name = "TIME", env = "SLURM_SACCT_STARTTIME")]
    starttime: Option<String>,

    /// Jobs that were submitted before
    #[arg(short = 'E', long, value_name = "TIME", default_value = "now")]
    endtime: String,

    /// Each element of an array that waits on a line of its own
    #[arg(long)]
    array: bool,

    /// Accepted; a job is listed once however often it ran
    #[arg(short = 'D', long)]
    duplicates: bool,

    /// Accepted; there is one cluster
    #[arg(short = 'M', long, value_name = "NAMES", env = "SLURM_CLUSTERS")]
    clusters: Option<String>,

    /// Accepted; there is one cluster
    #[arg(short = 'L', long)]
    allclusters: bool,

    /// Shows memory in this unit: K, M, G, T or P. Default: the one that leaves a whole number
    #[arg(long, value_name = "UNIT")]
    units: Option<String>,

    /// Accepted; memory is shown in the unit that leaves a whole number
    #[arg(long)]
    noconvert: bool,

    /// Accepted
    #[arg(short = 'T', long)]
    truncate: bool,

    /// Accepted
    #[arg(short = 'v', long, action = ArgAction::Count)]
    verbose: u8,
}

/// What is to be listed.
struct Wanted {
    selection: Selection,
    states: Vec<JobState>,
    users: Vec<String>,
    all_users: bool,
    names: Vec<String>,
    partitions: Vec<String>,
    accounts: Vec<String>,
    qos: Vec<String>,
    nodes: Vec<String>,
    /// Milliseconds since 1970.
    from: u64,
    until: u64,
}

impl Wanted {
    fn new(arguments: &Arguments, now: u64) -> Result<Self, Complaint> {
        let all = |lists: &[String]| parts(lists).map(str::to_owned).collect::<Vec<_>>();
        let selection = Selection::read(&arguments.jobs)?;
        let states = all(&arguments.state);
        let states = match states.is_empty() {
            true => Vec::new(),
            false => parse_states(&states.join(",")).map_err(|error| Complaint::new(error.to_string()))?,
        };
        let from = match (&arguments.starttime, selection.is_empty()) {
            (Some(text), _) => moment("--starttime", text, now)?,
            (None, true) => moment("--starttime", "today", now)?,
            (None, false) => 0,
        };
        let nodes = phalanx_protocol::hostlist::expand(&arguments.nodelist.join(","))
            .map_err(|error| Complaint::new(error.to_string()))?;
        Ok(Self {
            all_users: arguments.allusers || !selection.is_empty(),
            selection,
            states,
            users: all(&arguments.uid),
            names: all(&arguments.name),
            partitions: all(&arguments.partition),
            accounts: all(&arguments.accounts),
            qos: all(&arguments.qos),
            nodes,
            from,
            // whatever has been submitted was so before now, also by a clock that is ahead of this one
            until: match arguments.endtime.trim().eq_ignore_ascii_case("now") {
                true => u64::MAX,
                false => moment("--endtime", &arguments.endtime, now)?,
            },
        })
    }

    /// Whether anything of a job may be listed.
    fn has_job(&self, view: &JobView, user: &str) -> bool {
        let is_then = view.finished_unix_millis.is_none_or(|end| end >= self.from)
            && view.submitted_unix_millis <= self.until;
        let is_theirs = match self.users.is_empty() {
            true => self.all_users || view.user == user,
            false => is_user(view, &self.users, user),
        };
        let is_named = self.names.is_empty() || self.names.contains(&view.name);
        is_then && is_theirs && is_named && self.selection.has_job(view)
    }

    fn has(&self, scene: &Scene, entry: &Entry<'_>) -> bool {
        let is_of = |wanted: &[String], text: &str| wanted.is_empty() || wanted.iter().any(|one| one == text);
        let list = scene.node_list(entry);
        let nodes = || phalanx_protocol::hostlist::expand(&list).unwrap_or_default();
        (self.states.is_empty() || self.states.contains(&entry.state))
            && is_of(&self.partitions, entry.partition())
            && is_of(&self.accounts, entry.fact("account").unwrap_or_default())
            && is_of(&self.qos, entry.fact("qos").unwrap_or("normal"))
            && (self.nodes.is_empty() || nodes().iter().any(|node| self.nodes.contains(node)))
    }

    /// The steps of an entry that are listed: all, or those that were named.
    fn steps(&self, entry: &Entry<'_>, allocations_only: bool) -> Vec<Step> {
        let has_batch = entry.is_batch() && entry.state != JobState::Pending && entry.started.is_some();
        let own: Vec<&JobWord> = self
            .selection
            .words()
            .iter()
            .filter(|word| word.job == entry.view.job)
            .collect();
        let named = |step: &str| own.iter().any(|word| word.step.as_deref() == Some(step));
        let is_whole = own.is_empty() || own.iter().any(|word| word.step.is_none());
        let mut steps = Vec::new();
        if is_whole {
            steps.push(Step::None);
        }
        if has_batch && !allocations_only && (is_whole || named("batch")) {
            steps.push(Step::Batch);
        }
        steps
    }
}

/// A time of the past, as people write it: `now-2days`, `2027-01-31T16:00`, `16:00`.
fn moment(option: &str, text: &str, now: u64) -> Result<u64, Complaint> {
    let text = text.trim();
    let wrong = |reason: String| Complaint::new(format!("{option}={text}: {reason}"));
    if let Some(ago) = text.to_ascii_lowercase().strip_prefix("now-") {
        let delay = Begin::parse(&format!("now+{ago}")).map_err(|_| {
            wrong("how long ago is written with a unit, as in now-2days or now-90minutes".to_owned())
        })?;
        let ahead = clock::last(delay, 0).unwrap_or_default();
        return Ok(now.saturating_sub(ahead));
    }
    let parsed = Begin::parse(text).map_err(|_| {
        wrong("a time is written 2027-01-31T16:00, 2027-01-31, 16:00, today, now or now-2days".to_owned())
    })?;
    clock::last(parsed, now).ok_or_else(|| wrong("no clock can show this time".to_owned()))
}

pub(super) fn run(words: &[String]) -> Result<u8, Complaint> {
    let Some(arguments) = words::read::<Arguments>(Name::Sacct, words)? else {
        return Ok(0);
    };
    if arguments.helpformat {
        print_line(&sacct_names())?;
        return Ok(0);
    }
    let wanted = Wanted::new(&arguments, clock::now_millis())?;
    let format = format(&arguments)?;
    let unit = unit(&arguments)?;
    let gathered = runtime()?.block_on(async {
        let (gathered, cluster) = gather(|view, user, _| wanted.has_job(view, user)).await?;
        cluster.client.close().await;
        Ok::<_, Complaint>(gathered)
    })?;
    if !arguments.noheader {
        print_line(&format.header())?;
    }
    let mut scene = gathered.scene(Manner::Sacct);
    scene.unit = unit;
    print(&arguments, &wanted, (&gathered, &scene), &format)
}

fn unit(arguments: &Arguments) -> Result<Option<MemoryUnit>, Complaint> {
    let Some(text) = &arguments.units else {
        return Ok(None);
    };
    let unit = MemoryUnit::parse(text);
    let wrong = || Complaint::new(format!("--units={text}: a unit is K, M, G, T or P"));
    unit.map(Some).ok_or_else(wrong)
}

fn format(arguments: &Arguments) -> Result<Format, Complaint> {
    let names = match &arguments.format {
        Some(names) => names.as_str(),
        None if arguments.brief => BRIEF,
        None if arguments.long => LONG,
        None => SACCT_DEFAULT,
    };
    let format = Format::sacct(names)
        .map_err(|error| Complaint::new(format!("{error}; sacct --helpformat lists those that there are")))?;
    Ok(match (arguments.parsable, arguments.parsable2) {
        (_, true) => format.delimited(&arguments.delimiter, false),
        (true, false) => format.delimited(&arguments.delimiter, true),
        (false, false) => format,
    })
}

fn print(
    arguments: &Arguments,
    wanted: &Wanted,
    (gathered, scene): (&Gathered, &Scene),
    format: &Format,
) -> Result<u8, Complaint> {
    let grouping = match arguments.array {
        true => Grouping::OneByOne,
        false => Grouping::Together,
    };
    let jobs = gathered
        .jobs
        .iter()
        .filter(|view| wanted.has_job(view, &gathered.user));
    let entries = jobs
        .flat_map(|view| gathered.entries(view, grouping))
        .filter_map(|entry| wanted.selection.part_of(entry))
        .filter(|entry| wanted.has(scene, entry));
    let lines = entries.flat_map(|entry| {
        let steps = wanted.steps(&entry, arguments.allocations);
        let line = |step| {
            let entry = &entry;
            format.render(&Line { scene, entry, step })
        };
        steps.into_iter().map(line).collect::<Vec<_>>()
    });
    print_all(lines)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_of_the_past() {
        let now = moment("-S", "2026-11-26T12:00:00", 0).unwrap();
        for (text, shown) in [
            ("now", "2026-11-26T12:00:00"),
            ("now-90minutes", "2026-11-26T10:30:00"),
            ("NOW-1hour", "2026-11-26T11:00:00"),
            ("2026-11-24T07:00", "2026-11-24T07:00:00"),
            ("16:00", "2026-11-25T16:00:00"),
            ("today", "2026-11-26T00:00:00"),
            ("11/26", "2026-11-26T00:00:00"),
            ("1126", "2026-11-26T00:00:00"),
        ] {
            let moment = moment("-S", text, now);
            assert_eq!(moment.map(clock::show).ok().as_deref(), Some(shown), "{text}");
        }
        assert_eq!(now - moment("-S", "now-2days", now).unwrap(), 2 * 86_400_000);
        for text in ["", "yesterday", "now-", "now-2fortnights", "2026-13-01"] {
            let complaint = moment("--starttime", text, now).unwrap_err();
            assert!(
                complaint.lines[0].starts_with(&format!("--starttime={text}: ")),
                "{complaint:?}"
            );
        }
    }

    #[test]
    fn a_job_that_a_clock_ahead_has_seen_is_listed() {
        for (words, until) in [
            ("-X", u64::MAX),
            ("-E now", u64::MAX),
            ("-E now-1hour", 6_400_000),
        ] {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            let arguments = words::read::<Arguments>(Name::Sacct, &words).unwrap().unwrap();
            assert_eq!(Wanted::new(&arguments, 10_000_000).unwrap().until, until);
        }
    }

    #[test]
    fn what_programs_say_is_understood() {
        for words in [
            "-X",
            "-X --noheader --format=jobid,state%20 --job 42,43",
            "-X --parsable2 --clusters all --noheader --format=JobIdRaw,State --starttime 2026-11-24T07:00 --endtime now --name x",
            "-o JobID,State,NodeList --parsable2 -j 42 -j 43",
            "-nu root -o Account%256",
            "--name=x --parsable2 --noheader --format=JobID,JobName,Comment,Elapsed,TotalCPU,NNodes,NCPUS,MaxRSS,ReqMem",
            "-j 42 -n -X -o nodelist%-256",
            "-j 42 --units=G -P -o jobid,maxrss,maxvmsize,averss,tresusageinmax,planned,derivedexitcode",
            "-j 42 --noconvert --format=ALL -P",
        ] {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            let arguments = words::read::<Arguments>(Name::Sacct, &words).unwrap().unwrap();
            Wanted::new(&arguments, 0).unwrap();
            format(&arguments).unwrap();
        }
    }
}
