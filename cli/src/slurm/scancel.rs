//! `scancel`: ends jobs and elements of arrays, those that are named or all that are meant.

pub(super) mod plan;

use std::io::{BufRead, Write};

use clap::{ArgAction, Parser};
use phalanx::ClientError;
use phalanx_protocol::message::client::Refusal;
use phalanx_protocol::signal;

use super::gather::{Selection, gather};
use super::words::parts;
use super::{Complaint, Name, say, words};
use crate::batch::states::{JobState, parse_states};
use crate::cluster::Connected;
use crate::process::runtime;
use crate::ui::error::chain;
use plan::{End, Wanted, plan};

/// The signal that ends a job.
const KILL: i32 = 9;

/// Ends jobs
#[derive(Debug, Parser)]
#[command(
    name = "scancel",
    version,
    args_override_self = true,
    infer_long_args = true,
    max_term_width = 100
)]
struct Arguments {
    /// Jobs and elements of arrays: 42 43_1 44_[1-3]
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

    /// The signal that ends them: KILL
    #[arg(short = 's', long, value_name = "NAME")]
    signal: Option<String>,

    /// Accepted: what a script has started is ended with it
    #[arg(short = 'b', long)]
    batch: bool,

    /// Accepted: what a script has started is ended with it
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
        let nodes = crate::batch::hostlist::expand(&self.nodelist.join(","))
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

    /// Refuses what would not end them.
    fn check_signal(&self) -> Result<(), Complaint> {
        let Some(text) = &self.signal else {
            return Ok(());
        };
        let upper = text.to_ascii_uppercase();
        match signal::number(&upper).or_else(|| upper.parse().ok()) {
            Some(KILL) => Ok(()),
            Some(_) => Err(Complaint::new(format!(
                "--signal={text}: a job is ended here, and sent no other signal than KILL; sbatch --signal sends one before the time limit"
            ))),
            None => Err(Complaint::new(format!(
                "--signal={text}: there is no such signal; one is written KILL, SIGKILL or 9"
            ))),
        }
    }
}

pub(super) fn run(words: &[String]) -> Result<u8, Complaint> {
    let Some(arguments) = words::read::<Arguments>(Name::Scancel, words)? else {
        return Ok(0);
    };
    arguments.check_signal()?;
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
            if let Err(why) = carry_out(&cluster, &end).await {
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
    let done = match &end.tasks {
        None => cluster.client.cancel(end.job).await,
        Some(tasks) => {
            let cancelled = cluster.client.cancel_tasks(end.job, tasks.clone()).await;
            cancelled.map(|_| ())
        }
    };
    match done {
        // it was quicker
        Ok(()) | Err(ClientError::Refused(Refusal::Over(_))) => Ok(()),
        Err(ClientError::Refused(Refusal::NotYours { owner, .. })) => {
            Err(format!("Access/permission denied: it belongs to {owner}"))
        }
        Err(error) => Err(chain(&error)),
    }
}
