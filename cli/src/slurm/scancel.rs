//! `scancel`: ends jobs and elements of arrays, or sends what runs of them a signal: those that are named or all that are meant.

pub(super) mod plan;

use std::io::{BufRead, Write};

use clap::{ArgAction, Parser};
use phalanx::ClientError;
use phalanx_protocol::command::{Recipients, TaskSignal};
use phalanx_protocol::message::client::Refusal;

use super::gather::{Selection, gather};
use super::words::parts;
use super::{Complaint, Name, say, words};
use crate::batch::states::{JobState, parse_states};
use crate::batch::values::signal_number;
use crate::cluster::Connected;
use crate::process::runtime;
use crate::ui::error::chain;
use plan::{End, NamedStep, Wanted, plan};

/// The signal that ends a job.
const KILL: i32 = 9;

/// Ends jobs, or sends them signals
#[derive(Debug, Parser)]
#[command(
    name = "scancel",
    version,
    args_override_self = true,
    infer_long_args = true,
    max_term_width = 100
)]
struct Arguments {
    /// Jobs, elements of arrays and steps: 42 43_1 44_[1-3] 45.0
    #[arg(value_name = "ID")]
    ids: Vec<String>,

    /// Jobs of this user
    #[arg(short = 'u', long, value_name = "NAME", env = "SCANCEL_USER")]
    user: Vec<String>,

    /// One's own jobs
    #[arg(long)]
    me: bool,

    /// Jobs with this name
    #[arg(
        short = 'n',
        long,
        visible_alias = "jobname",
        value_name = "NAME",
        env = "SCANCEL_NAME"
    )]
    name: Vec<String>,

    /// Jobs in this state: PENDING, RUNNING
    #[arg(short = 't', long, value_name = "STATE", env = "SCANCEL_STATE")]
    state: Vec<String>,

    /// Jobs of this partition
    #[arg(short = 'p', long, value_name = "NAME", env = "SCANCEL_PARTITION")]
    partition: Vec<String>,

    /// Jobs of this account
    #[arg(short = 'A', long, value_name = "NAME", env = "SCANCEL_ACCOUNT")]
    account: Vec<String>,

    /// Jobs of this quality of service
    #[arg(short = 'q', long, value_name = "NAME", env = "SCANCEL_QOS")]
    qos: Vec<String>,

    /// Jobs on these nodes
    #[arg(short = 'w', long, value_name = "LIST")]
    nodelist: Vec<String>,

    /// Asks before each job
    #[arg(short = 'i', long)]
    interactive: bool,

    /// Sends a signal to what runs instead: NAME or number; KILL ends the job as ever
    #[arg(short = 's', long, value_name = "NAME")]
    signal: Option<String>,

    /// The signal goes to the batch shell, and not to what it has started
    #[arg(short = 'b', long)]
    batch: bool,

    /// The signal goes to the batch shell, too
    #[arg(short = 'f', long)]
    full: bool,

    /// Accepted
    #[arg(short = 'H', long)]
    hurry: bool,

    /// Says nothing about what cannot be ended
    #[arg(short = 'Q', long)]
    quiet: bool,

    /// Says also what was over already
    #[arg(short = 'v', long, action = ArgAction::Count)]
    verbose: u8,

    /// Accepted; there is one cluster
    #[arg(short = 'M', long, value_name = "NAMES", env = "SLURM_CLUSTERS")]
    clusters: Option<String>,

    /// Accepted
    #[arg(long)]
    ctld: bool,
}

impl Arguments {
    /// What is to be ended.
    fn wanted(&self) -> Result<Wanted, Complaint> {
        let all = |lists: &[String]| parts(lists).map(str::to_owned).collect::<Vec<_>>();
        let states = all(&self.state);
        let states: Vec<JobState> = match states.is_empty() {
            true => Vec::new(),
            false => parse_states(&states.join(",")).map_err(|error| Complaint::new(error.to_string()))?,
        };
        let nodes = phalanx_protocol::hostlist::expand(&self.nodelist.join(","))
            .map_err(|error| Complaint::new(error.to_string()))?;
        let wanted = Wanted {
            selection: Selection::read(&self.ids)?,
            users: all(&self.user),
            me: self.me,
            names: all(&self.name),
            states,
            partitions: all(&self.partition),
            accounts: all(&self.account),
            qos: all(&self.qos),
            nodes,
        };
        match wanted.is_nothing() {
            true => Err(Complaint::new(
                "No job identification provided: name a job, as in scancel 42, or say which are meant, as in scancel --me",
            )),
            false => Ok(wanted),
        }
    }

    /// What is done to them.
    fn deed(&self) -> Result<Deed, Complaint> {
        let number = self.signal.as_deref().map(signal_number).transpose();
        let number = number.map_err(|error| Complaint::new(format!("--signal: {error}")))?;
        Ok(match number {
            None | Some(KILL) => Deed::End,
            Some(number) => Deed::Signal {
                number,
                to: match (self.batch, self.full) {
                    (true, _) => To::Shell,
                    (false, true) => To::All,
                    (false, false) => To::Steps,
                },
            },
        })
    }
}

/// What is done to jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    End,
    Signal { number: i32, to: To },
}

/// Who of a job gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// The batch shell alone.
    Shell,
    /// What it has started.
    Steps,
    /// Both.
    All,
}

impl To {
    /// The same of a task; without a batch shell its process is the step.
    fn recipients(self, has_shell: bool) -> Recipients {
        match (self, has_shell) {
            (Self::Shell, _) => Recipients::Leader,
            (Self::Steps, true) => Recipients::Others,
            (Self::Steps, false) | (Self::All, _) => Recipients::All,
        }
    }
}

pub(super) fn run(words: &[String]) -> Result<u8, Complaint> {
    let Some(arguments) = words::read::<Arguments>(Name::Scancel, words)? else {
        return Ok(0);
    };
    let deed = arguments.deed()?;
    let wanted = arguments.wanted()?;
    runtime()?.block_on(async {
        let (gathered, cluster) = gather(|view, user, _| wanted.has_job(view, user)).await?;
        let plan = plan(&gathered, &wanted);
        let mut code = 0;
        for (word, why) in &plan.refused {
            code = 1;
            if !arguments.quiet {
                say(
                    Name::Scancel,
                    "error",
                    &format!("Kill job error on job id {word}: {why}"),
                );
            }
        }
        if arguments.verbose > 0 {
            for word in &plan.over {
                let what =
                    format!("Kill job error on job id {word}: Job/step already completing or completed");
                say(Name::Scancel, "error", &what);
            }
        }
        for end in plan.ends {
            if arguments.interactive && !is_confirmed(&end)? {
                continue;
            }
            let done = match deed {
                Deed::End => carry_out(&cluster, &end).await,
                Deed::Signal { number, to } => {
                    let recipients = match end.step {
                        Some(NamedStep::Number(step)) => Recipients::Step(step),
                        Some(NamedStep::Batch) => To::Shell.recipients(end.has_shell),
                        None => to.recipients(end.has_shell),
                    };
                    let signal = TaskSignal { number, recipients };
                    send(&cluster, &end, signal, arguments.ids.is_empty()).await
                }
            };
            if let Err(why) = done {
                code = 1;
                if !arguments.quiet {
                    let what = format!("Kill job error on job id {}: {why}", end.text);
                    say(Name::Scancel, "error", &what);
                }
            }
        }
        cluster.client.close().await;
        Ok(code)
    })
}

/// Whether whoever asks says yes.
fn is_confirmed(end: &End) -> Result<bool, Complaint> {
    let failed = |error: std::io::Error| Complaint::new(format!("cannot ask: {error}"));
    let mut out = std::io::stderr();
    write!(
        out,
        "Cancel job_id={} name={} partition={} [y/n]? ",
        end.text, end.name, end.partition
    )
    .and_then(|()| out.flush())
    .map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

pub(super) async fn carry_out(cluster: &Connected, end: &End) -> Result<(), String> {
    if let Some(NamedStep::Number(step)) = end.step {
        let kill = TaskSignal {
            number: KILL,
            recipients: Recipients::Step(step),
        };
        return send(cluster, end, kill, false).await;
    }
    let done = match &end.tasks {
        None => cluster.client.cancel(end.job).await,
        Some(tasks) => {
            let cancelled = cluster.client.cancel_tasks(end.job, tasks.clone()).await;
            cancelled.map(|_| ())
        }
    };
    outcome(done)
}

/// Sends a signal to what runs of a job; `any` if not this very job was named, which may then wait.
async fn send(cluster: &Connected, end: &End, signal: TaskSignal, any: bool) -> Result<(), String> {
    match cluster.client.signal(end.job, end.tasks.clone(), signal).await {
        Err(ClientError::Refused(Refusal::NothingRuns { .. })) if any => Ok(()),
        Err(ClientError::Refused(Refusal::NothingRuns { .. })) => {
            Err("Job can not be altered now, try later: nothing of it runs".to_owned())
        }
        done => outcome(done),
    }
}

/// What is said of an answer.
fn outcome(done: Result<(), ClientError>) -> Result<(), String> {
    match done {
        // it was quicker
        Ok(()) | Err(ClientError::Refused(Refusal::Over(_))) => Ok(()),
        Err(ClientError::Refused(Refusal::NotYours { owner, .. })) => {
            Err(format!("Access/permission denied: it belongs to {owner}"))
        }
        Err(error) => Err(chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(words: &[&str]) -> Result<Deed, String> {
        let all = ["scancel", "42"].iter().chain(words);
        let arguments = Arguments::try_parse_from(all).unwrap();
        arguments.deed().map_err(|complaint| complaint.lines.concat())
    }

    #[test]
    fn only_kill_ends_a_job_and_options_say_who_gets_another_signal() {
        let signal = |number, to| Ok(Deed::Signal { number, to });
        for (words, expected) in [
            (&[][..], Ok(Deed::End)),
            (&["-s", "KILL"], Ok(Deed::End)),
            (&["--signal=9", "-b"], Ok(Deed::End)),
            (&["-s", "USR1"], signal(10, To::Steps)),
            (&["--signal=sigterm", "-b"], signal(15, To::Shell)),
            (&["-f", "-s", "12"], signal(12, To::All)),
        ] {
            assert_eq!(deed(words), expected, "{words:?}");
        }
        let wrong = deed(&["-s", "HELLO"]).unwrap_err();
        assert_eq!(
            wrong,
            "--signal: there is no signal `HELLO`; one is written USR1, SIGUSR1 or 10"
        );
    }

    #[test]
    fn what_is_no_batch_script_has_no_shell_that_a_signal_spares() {
        assert_eq!(To::Steps.recipients(true), Recipients::Others);
        assert_eq!(To::Steps.recipients(false), Recipients::All);
        assert_eq!(To::Shell.recipients(false), Recipients::Leader);
    }
}
