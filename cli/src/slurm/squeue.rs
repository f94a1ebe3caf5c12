//! `squeue`: jobs that wait or run, and for a while those that have ended.

use clap::{ArgAction, Parser};
use phalanx::JobView;

use super::entry::{Entry, Grouping};
use super::gather::{Gathered, Selection, gather, is_user};
use super::row::{Line, Manner, Scene, Step};
use super::scontrol::MIN_JOB_AGE_SECONDS;
use super::words::parts;
use super::{Complaint, Name, clock, print_all, words};
use crate::batch::lists::{Format, Row, SQUEUE_DEFAULT, SQUEUE_LONG, letter_field};
use crate::batch::states::{JobState, parse_states};
use crate::process::runtime;
use crate::ui::print_line;

/// What `--start` shows.
const START_FORMAT: &str = "%.18i %.9P %.8j %.8u %.2t %.19S %.6D %R";

/// Lists jobs that wait or run
#[derive(Debug, Parser)]
#[command(
    name = "squeue",
    version,
    disable_help_flag = true,
    args_override_self = true,
    infer_long_args = true,
    max_term_width = 100
)]
struct Arguments {
    /// Columns by letters, as in '%.18i %t'
    #[arg(
        short = 'o',
        long,
        value_name = "FORMAT",
        env = "SQUEUE_FORMAT",
        allow_hyphen_values = true
    )]
    format: Option<String>,

    /// Columns by names, as in JobID:12,State
    #[arg(short = 'O', long = "Format", value_name = "NAMES", env = "SQUEUE_FORMAT2")]
    names: Option<String>,

    /// No line of headers
    #[arg(short = 'h', long)]
    noheader: bool,

    /// Jobs in these states, by long or short names; all: those too that have ended a while ago
    #[arg(short = 't', long, value_name = "STATES", env = "SQUEUE_STATES")]
    states: Vec<String>,

    /// Jobs of these users
    #[arg(
        short = 'u',
        long,
        alias = "users",
        value_name = "NAMES",
        env = "SQUEUE_USERS"
    )]
    user: Vec<String>,

    /// One's own jobs
    #[arg(long)]
    me: bool,

    /// These jobs or elements: 42,43_1
    #[arg(short = 'j', long, alias = "job", value_name = "IDS")]
    jobs: Option<Option<String>>,

    /// Jobs with these names
    #[arg(
        short = 'n',
        long,
        alias = "names",
        value_name = "NAMES",
        env = "SQUEUE_NAMES"
    )]
    name: Vec<String>,

    /// Jobs of these partitions
    #[arg(short = 'p', long, value_name = "NAMES", env = "SQUEUE_PARTITION")]
    partition: Vec<String>,

    /// Jobs of these accounts
    #[arg(short = 'A', long, value_name = "NAMES", env = "SQUEUE_ACCOUNT")]
    account: Vec<String>,

    /// Jobs of these qualities of service
    #[arg(short = 'q', long, value_name = "NAMES", env = "SQUEUE_QOS")]
    qos: Vec<String>,

    /// Jobs on these nodes
    #[arg(short = 'w', long, value_name = "LIST")]
    nodelist: Vec<String>,

    /// Each element of an array on a line of its own, also those that wait
    #[arg(short = 'r', long)]
    array: bool,

    /// More columns
    #[arg(short = 'l', long)]
    long: bool,

    /// When those that wait are to start, as far as that is known
    #[arg(long)]
    start: bool,

    /// Order of the lines, by letters, as in -t,i
    #[arg(
        short = 'S',
        long,
        value_name = "LETTERS",
        env = "SQUEUE_SORT",
        allow_hyphen_values = true
    )]
    sort: Option<String>,

    /// Accepted; there is one cluster
    #[arg(short = 'M', long, value_name = "NAMES", env = "SLURM_CLUSTERS")]
    clusters: Option<String>,

    /// Accepted; all jobs are seen by all
    #[arg(short = 'a', long)]
    all: bool,

    /// Accepted
    #[arg(short = 'v', long, action = ArgAction::Count)]
    verbose: u8,

    /// Prints this help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// What is to be listed.
struct Wanted {
    selection: Selection,
    /// None: those that have not ended.
    states: Option<Vec<JobState>>,
    users: Vec<String>,
    me: bool,
    names: Vec<String>,
    partitions: Vec<String>,
    accounts: Vec<String>,
    qos: Vec<String>,
    nodes: Vec<String>,
}

impl Wanted {
    fn new(arguments: &Arguments) -> Result<Self, Complaint> {
        let all = |lists: &[String]| parts(lists).map(str::to_owned).collect::<Vec<_>>();
        let states = all(&arguments.states);
        let states = match states.is_empty() {
            true => None,
            false => {
                Some(parse_states(&states.join(",")).map_err(|error| Complaint::new(error.to_string()))?)
            }
        };
        let jobs: Vec<&String> = arguments.jobs.iter().flatten().collect();
        let nodes = phalanx_protocol::hostlist::expand(&arguments.nodelist.join(","))
            .map_err(|error| Complaint::new(error.to_string()))?;
        Ok(Self {
            selection: Selection::read(&jobs)?,
            states,
            users: all(&arguments.user),
            me: arguments.me,
            names: all(&arguments.name),
            partitions: all(&arguments.partition),
            accounts: all(&arguments.account),
            qos: all(&arguments.qos),
            nodes,
        })
    }

    /// Whether anything of a job may be listed; how it ended so long ago is told by sacct alone.
    fn has_job(&self, view: &JobView, user: &str, now: u64) -> bool {
        let age_max = MIN_JOB_AGE_SECONDS * 1000;
        let is_recent = view
            .finished_unix_millis
            .is_none_or(|end| self.states.is_some() && now.saturating_sub(end) <= age_max);
        let is_theirs = match self.me {
            true => view.user == user,
            false => self.users.is_empty() || is_user(view, &self.users, user),
        };
        let is_named = self.names.is_empty() || self.names.contains(&view.name);
        is_recent && is_theirs && is_named && self.selection.has_job(view)
    }

    fn has(&self, scene: &Scene, entry: &Entry<'_>) -> bool {
        let is_of = |wanted: &[String], text: &str| wanted.is_empty() || wanted.iter().any(|one| one == text);
        let has_state = match &self.states {
            None => !entry.state.has_ended(),
            Some(states) => states.contains(&entry.state),
        };
        let list = scene.node_list(entry);
        let nodes = || phalanx_protocol::hostlist::expand(&list).unwrap_or_default();
        has_state
            && is_of(&self.partitions, entry.partition())
            && is_of(&self.accounts, entry.fact("account").unwrap_or_default())
            && is_of(&self.qos, entry.fact("qos").unwrap_or("normal"))
            && (self.nodes.is_empty() || nodes().iter().any(|node| self.nodes.contains(node)))
    }
}

pub(super) fn run(words: &[String]) -> Result<u8, Complaint> {
    let Some(arguments) = words::read::<Arguments>(Name::Squeue, words)? else {
        return Ok(0);
    };
    let wanted = Wanted::new(&arguments)?;
    let format = format(&arguments)?;
    let gathered = runtime()?.block_on(async {
        let (gathered, cluster) = gather(|view, user, now| wanted.has_job(view, user, now)).await?;
        cluster.client.close().await;
        Ok::<_, Complaint>(gathered)
    })?;
    refuse_unknown(&wanted, &gathered)?;
    if arguments.long && !arguments.noheader {
        print_line(&clock::show(gathered.now))?;
    }
    if !arguments.noheader {
        print_line(&format.header())?;
    }
    print(&arguments, &wanted, &gathered, &format)
}

fn format(arguments: &Arguments) -> Result<Format, Complaint> {
    let format = match (&arguments.names, &arguments.format) {
        (Some(names), _) => Format::squeue_names(names),
        (None, Some(letters)) => Format::squeue_letters(letters),
        (None, None) if arguments.start => Format::squeue_letters(START_FORMAT),
        (None, None) if arguments.long => Format::squeue_letters(SQUEUE_LONG),
        (None, None) => Format::squeue_letters(SQUEUE_DEFAULT),
    };
    format.map_err(|error| Complaint::new(error.to_string()))
}

/// One job that is asked for alone and not there is an error, as it is for Slurm; of several it is not.
fn refuse_unknown(wanted: &Wanted, gathered: &Gathered) -> Result<(), Complaint> {
    let [word] = wanted.selection.words() else {
        return Ok(());
    };
    let found = gathered.jobs.iter().any(|view| view.job == word.job);
    match found {
        true => Ok(()),
        false => Err(Complaint::new(format!(
            "Invalid job id specified: there is no job {word}; squeue --states=all lists those of the last minutes, sacct older ones"
        ))),
    }
}

fn print(
    arguments: &Arguments,
    wanted: &Wanted,
    gathered: &Gathered,
    format: &Format,
) -> Result<u8, Complaint> {
    let scene = gathered.scene(Manner::Squeue);
    let grouping = match arguments.array {
        true => Grouping::OneByOne,
        false => Grouping::Together,
    };
    let jobs = gathered
        .jobs
        .iter()
        .filter(|view| wanted.has_job(view, &gathered.user, gathered.now));
    let entries = jobs.flat_map(|view| gathered.entries(view, grouping));
    let mut entries: Vec<Entry<'_>> = entries
        .filter_map(|entry| wanted.selection.part_of(entry))
        .filter(|entry| wanted.has(&scene, entry) && (!arguments.start || entry.state == JobState::Pending))
        .collect();
    sort(&mut entries, arguments.sort.as_deref(), &scene)?;
    print_all(entries.iter().map(|entry| {
        format.render(&Line {
            scene: &scene,
            entry,
            step: Step::None,
        })
    }))?;
    Ok(0)
}

/// Those that wait first, by priority; else as the letters say.
fn sort(entries: &mut [Entry<'_>], letters: Option<&str>, scene: &Scene) -> Result<(), Complaint> {
    entries.sort_by_key(|entry| {
        (
            entry.state,
            std::cmp::Reverse(entry.view.priority),
            entry.view.job,
        )
    });
    let Some(letters) = letters else {
        return Ok(());
    };
    // the first letter counts most, so it sorts last
    let keys: Vec<&str> = letters
        .split(',')
        .map(str::trim)
        .filter(|key| !key.is_empty())
        .collect();
    for key in keys.into_iter().rev() {
        let (descends, letter) = match key.strip_prefix('-') {
            Some(letter) => (true, letter),
            None => (false, key.trim_start_matches('+')),
        };
        let field = letter.chars().next().and_then(letter_field).ok_or_else(|| {
            Complaint::new(format!(
                "--sort={letters}: `{key}` is no letter of a column, as in -t,i"
            ))
        })?;
        let text = |entry: &Entry<'_>| {
            let line = Line {
                scene,
                entry,
                step: Step::None,
            };
            let text = line.text(field).unwrap_or_default();
            // numbers by their size: 9 before 10
            (text.parse::<u64>().unwrap_or(u64::MAX), text)
        };
        match descends {
            true => entries.sort_by_cached_key(|entry| std::cmp::Reverse(text(entry))),
            false => entries.sort_by_cached_key(text),
        }
    }
    Ok(())
}
