//! `qdel`: ends jobs and elements of arrays.

use super::super::gather::{Selection, gather};
use super::super::scancel::carry_out;
use super::super::scancel::plan::{Wanted, plan};
use super::super::{Complaint, Name};
use super::job_word;
use crate::process::runtime;
use crate::ui::{print_line, say_line};

const USAGE: &str = "\
Usage: qdel [-W force|DELAY] [-p] [-x] JOB...

Ends jobs, and elements of arrays: qdel 42.phalanx 43[3].phalanx";

/// PBS's code for a job that is not there, and for one that is over.
const UNKNOWN_JOB: u8 = 153;
const IS_OVER: u8 = 35;
/// For whatever else.
const FAILED: u8 = 1;

pub(in crate::slurm) fn run(words: &[String]) -> Result<u8, Complaint> {
    let mut jobs = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "--version" => {
                print_line(USAGE)?;
                return Ok(0);
            }
            // how, and what is told to whom, is the same here
            "-W" | "-m" => drop(words.next()),
            "-p" | "-x" | "-Wforce" => {}
            option if option.starts_with('-') => {
                return Err(Complaint::new(format!("there is no option `{option}`; {USAGE}")));
            }
            job => jobs.push((job, job_word(job)?)),
        }
    }
    if jobs.is_empty() {
        return Err(Complaint::new("no job is named, as in qdel 42.phalanx"));
    }
    let wanted = Wanted {
        selection: Selection::of(jobs.iter().map(|(_, word)| word.clone()).collect()),
        ..Wanted::default()
    };
    runtime()?.block_on(async {
        let (gathered, cluster) = gather(|view, user, _| wanted.has_job(view, user)).await?;
        let plan = plan(&gathered, &wanted);
        let mut code = 0;
        for (text, word) in &jobs {
            if plan.refused.iter().any(|(refused, _)| refused == word) {
                code = UNKNOWN_JOB;
                say_line(&format!("{}: Unknown Job Id {text}", Name::Qdel.text()));
            } else if plan.over.contains(word) {
                code = IS_OVER;
                say_line(&format!("{}: Job has finished {text}", Name::Qdel.text()));
            }
        }
        for end in &plan.ends {
            if let Err(why) = carry_out(&cluster, end).await {
                code = FAILED;
                say_line(&format!("{}: {why} {}", Name::Qdel.text(), end.text));
            }
        }
        cluster.client.close().await;
        Ok(code)
    })
}
