//! `qstat`: jobs as PBS lists them: a table, or all that is known of each, as text or JSON.

mod sheet;

use clap::{ArgAction, Parser};
use phalanx::JobView;
use serde_json::{Map, Value};

use super::super::entry::{Entry, Grouping, Part, array};
use super::super::gather::{Gathered, Selection, gather, is_user};
use super::super::nodes::PARTITION;
use super::super::row::{Manner, Scene};
use super::super::words::{self, parts};
use super::super::{Complaint, Name, clock, print_all};
use super::{SERVER, job_word, name};
use crate::batch::states::JobState;
use crate::batch::time::full_clock;
use crate::process::runtime;
use crate::ui::{print_line, say_line};

/// PBS's code for a job that is not there.
const UNKNOWN_JOB: u8 = 153;

/// Lists jobs
#[derive(Debug, Parser)]
#[command(
    name = "qstat",
    version,
    disable_help_flag = true,
    args_override_self = true,
    max_term_width = 100
)]
struct Arguments {
    /// Jobs, queues, or @SERVER; default: all jobs that wait or run
    #[arg(value_name = "JOB|QUEUE")]
    things: Vec<String>,

    /// All that is known of each job
    #[arg(short = 'f')]
    full: bool,

    /// The form of what -f prints: json, or text (dsv is not there)
    #[arg(short = 'F', value_name = "FORM")]
    form: Option<String>,

    /// Also jobs that have ended
    #[arg(short = 'x')]
    history: bool,

    /// Only jobs that have ended
    #[arg(short = 'H')]
    ended: bool,

    /// Each element of an array
    #[arg(short = 't')]
    elements: bool,

    /// Jobs of these users
    #[arg(short = 'u', value_name = "NAMES")]
    user: Vec<String>,

    /// Only jobs that run
    #[arg(short = 'r')]
    running: bool,

    /// Only jobs that wait
    #[arg(short = 'i')]
    idle: bool,

    /// The server
    #[arg(short = 'B')]
    server: bool,

    /// The queues
    #[arg(short = 'Q', visible_short_alias = 'q')]
    queues: bool,

    /// Accepted
    #[arg(short = 'a')]
    all: bool,

    /// Accepted
    #[arg(short = 'n')]
    nodes: bool,

    /// Accepted
    #[arg(short = 's')]
    comments: bool,

    /// Accepted
    #[arg(short = 'w')]
    wide: bool,

    /// Accepted: what is long is not cut into lines
    #[arg(short = '1')]
    one_line: bool,

    /// Prints this help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// What is to be listed.
struct Wanted {
    selection: Selection,
    queues: Vec<String>,
    users: Vec<String>,
    waits: bool,
    runs: bool,
    ended: bool,
}

impl Wanted {
    fn new(arguments: &Arguments) -> Result<Self, Complaint> {
        let mut jobs = Vec::new();
        let mut queues = Vec::new();
        for thing in &arguments.things {
            match thing.chars().next() {
                // all jobs of the one server
                Some('@') | None => {}
                Some(letter) if letter.is_ascii_digit() => jobs.push(job_word(thing)?),
                Some(_) => queues.push(thing.split('@').next().unwrap_or_default().to_owned()),
            }
        }
        Ok(Self {
            // what is named is told also if it is over: else nobody would know how it ended
            ended: arguments.history || arguments.ended || !jobs.is_empty(),
            selection: Selection::of(jobs),
            queues,
            users: parts(&arguments.user).map(str::to_owned).collect(),
            waits: !arguments.ended && !arguments.running,
            runs: !arguments.ended && !arguments.idle,
        })
    }

    fn has_job(&self, view: &JobView, user: &str) -> bool {
        let is_theirs = self.users.is_empty() || is_user(view, &self.users, user);
        is_theirs && (self.ended || view.outcome.is_none()) && self.selection.has_job(view)
    }

    fn has(&self, entry: &Entry<'_>) -> bool {
        let is_wanted = match (entry.state.has_ended(), entry.state == JobState::Pending) {
            (true, _) => self.ended,
            (false, true) => self.waits,
            (false, false) => self.runs,
        };
        is_wanted && (self.queues.is_empty() || self.queues.iter().any(|queue| queue == entry.partition()))
    }
}

pub(in crate::slurm) fn run(words: &[String]) -> Result<u8, Complaint> {
    let Some(arguments) = words::read::<Arguments>(Name::Qstat, words)? else {
        return Ok(0);
    };
    let is_json = match arguments.form.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("default" | "text") => false,
        Some("json") => true,
        Some(form) => return Err(Complaint::new(format!("-F {form}: this is json"))),
    };
    let wanted = Wanted::new(&arguments)?;
    let gathered = runtime()?.block_on(async {
        let (gathered, cluster) = gather(|view, user, _| wanted.has_job(view, user)).await?;
        cluster.client.close().await;
        Ok::<_, Complaint>(gathered)
    })?;
    if arguments.server || arguments.queues {
        return totals(&arguments, &gathered);
    }
    let mut code = 0;
    for word in wanted.selection.words() {
        if !gathered.jobs.iter().any(|view| view.job == word.job) {
            code = UNKNOWN_JOB;
            say_line(&format!("qstat: Unknown Job Id {word}.{SERVER}"));
        }
    }
    let entries = entries(&arguments, &wanted, &gathered);
    let scene = gathered.scene(Manner::Sacct);
    match (arguments.full, is_json) {
        (_, true) => print_line(&json(&scene, &entries).to_string())?,
        (true, false) => print_all(entries.iter().map(|entry| full(&scene, entry)))?,
        (false, false) => table(&scene, &entries)?,
    }
    Ok(code)
}

/// An array is one entry, unless its elements are named or asked for.
fn entries<'a>(arguments: &Arguments, wanted: &Wanted, gathered: &'a Gathered) -> Vec<Entry<'a>> {
    let jobs = gathered
        .jobs
        .iter()
        .filter(|view| wanted.has_job(view, &gathered.user));
    let of_job = |view: &'a JobView| -> Vec<Entry<'a>> {
        let is_named_in_parts = wanted
            .selection
            .words()
            .iter()
            .any(|word| word.job == view.job && word.part != crate::batch::ids::JobPart::Whole);
        match array(view).is_some() && !arguments.elements && !is_named_in_parts {
            true => super::super::entry::entries(view, &[], Grouping::Together),
            false => gathered.entries(view, Grouping::OneByOne),
        }
    };
    jobs.flat_map(of_job)
        .filter_map(|entry| wanted.selection.part_of(entry))
        .filter(|entry| wanted.has(entry))
        .collect()
}

/// PBS's letter for what an entry is doing.
fn letter(entry: &Entry<'_>, now_millis: u64) -> char {
    let is_array = array(entry.view).is_some() && entry.part == Part::Whole;
    let is_element = matches!(entry.part, Part::Element { .. });
    match entry.state {
        JobState::Pending if is_array && entry.view.done + entry.view.failed > 0 => 'B',
        JobState::Pending if entry.view.held => 'H',
        JobState::Pending if entry.view.never || !entry.view.waits_for.is_empty() => 'H',
        JobState::Pending
            if entry
                .view
                .begin_unix_millis
                .is_some_and(|begin| begin > now_millis) =>
        {
            'W'
        }
        JobState::Pending | JobState::Requeued | JobState::Configuring => 'Q',
        JobState::Running if is_array => 'B',
        JobState::Running => 'R',
        JobState::Completing => 'E',
        JobState::Suspended | JobState::Stopped => 'S',
        JobState::Completed
        | JobState::Failed
        | JobState::Cancelled
        | JobState::Timeout
        | JobState::OutOfMemory
        | JobState::NodeFail
        | JobState::BootFail
        | JobState::Deadline
        | JobState::Preempted => match is_element && entry.view.outcome.is_none() {
            true => 'X',
            false => 'F',
        },
    }
}

fn table(scene: &Scene, entries: &[Entry<'_>]) -> Result<(), Complaint> {
    if entries.is_empty() {
        return Ok(());
    }
    print_line("Job id            Name             User              Time Use S Queue")?;
    print_line("----------------  ---------------- ----------------  -------- - -----")?;
    print_all(entries.iter().map(|entry| row(scene, entry)))
}

fn row(scene: &Scene, entry: &Entry<'_>) -> String {
    let time = match entry.elapsed(scene.now) {
        Some(time) if !time.is_zero() => full_clock(time),
        Some(_) | None => "0".to_owned(),
    };
    let cut = |text: &str| text.chars().take(16).collect::<String>();
    format!(
        "{:<16}  {:<16} {:<16}  {time:>8} {} {}",
        name(entry),
        cut(&entry.view.name),
        cut(&entry.view.user),
        letter(entry, scene.now),
        entry.partition()
    )
}

/// `Job Id: 42.phalanx` and what is known, a line each.
fn full(scene: &Scene, entry: &Entry<'_>) -> String {
    let attributes = sheet::attributes(scene, entry);
    let lines: Vec<String> = attributes
        .iter()
        .map(|(name, value)| format!("    {name} = {value}\n"))
        .collect();
    format!("Job Id: {}\n{}", name(entry), lines.concat())
}

/// The document of `qstat -F json`: names with a point in them are objects.
fn json(scene: &Scene, entries: &[Entry<'_>]) -> Value {
    let mut jobs = Map::new();
    for entry in entries {
        let mut job = Map::new();
        for (attribute, text) in sheet::attributes(scene, entry) {
            let value = match text.parse::<i64>() {
                Ok(number) if attribute != "Job_Name" => Value::from(number),
                Ok(_) | Err(_) => Value::from(text),
            };
            match attribute.split_once('.') {
                Some((group, member)) => {
                    let group = job
                        .entry(group.to_owned())
                        .or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(group) = group {
                        group.insert(member.to_owned(), value);
                    }
                }
                None => drop(job.insert(attribute.to_owned(), value)),
            }
        }
        jobs.insert(name(entry), Value::Object(job));
    }
    let mut document = Map::new();
    document.insert("timestamp".to_owned(), Value::from(scene.now / 1000));
    let version = concat!("phalanx-", env!("CARGO_PKG_VERSION"));
    document.insert("pbs_version".to_owned(), Value::from(version));
    document.insert("pbs_server".to_owned(), Value::from(SERVER));
    document.insert("Jobs".to_owned(), Value::Object(jobs));
    Value::Object(document)
}

/// `qstat -B` and `qstat -Q`: how many jobs there are.
fn totals(arguments: &Arguments, gathered: &Gathered) -> Result<u8, Complaint> {
    let active = || gathered.jobs.iter().filter(|view| view.outcome.is_none());
    let (total, running) = (active().count(), active().filter(|view| view.slots > 0).count());
    let held = active().filter(|view| view.held).count();
    let queued = total - running - held.min(total - running);
    if arguments.server && arguments.full {
        print_line(&format!(
            "Server: {SERVER}\n    server_state = Active\n    total_jobs = {total}\n    default_queue = {PARTITION}\n    as_of = {}",
            clock::show_long(gathered.now)
        ))?;
        return Ok(0);
    }
    let (heading, name) = match arguments.server {
        true => (
            "Server             Max   Tot   Que   Run   Hld   Wat   Trn   Ext Status",
            SERVER,
        ),
        false => (
            "Queue              Max   Tot   Que   Run   Hld   Wat   Trn   Ext Status",
            PARTITION,
        ),
    };
    print_line(heading)?;
    print_line("---------------- ----- ----- ----- ----- ----- ----- ----- ----- -----------")?;
    print_line(&format!(
        "{name:<16} {:>5} {total:>5} {queued:>5} {running:>5} {held:>5} {:>5} {:>5} {:>5} Active",
        0, 0, 0, 0
    ))?;
    Ok(0)
}

#[cfg(test)]
mod tests;
