//! From what a host says ended to a report: at once when the results are small, else after they are in a file.

use std::time::{Duration, Instant};

use phalanx_protocol::limits::MESSAGE_BYTES_MAX;
use phalanx_protocol::message::host::Progress;
use phalanx_protocol::message::worker::Report;
use phalanx_protocol::{IndexRange, JobId};

use super::job::{Job, Write};
use super::{Agent, Effect, Opening, ResultWrite, WRITE_PAUSE_MAX, WRITE_PAUSE_MIN};
use crate::progress;

impl Agent {
    /// Takes in what a host finished; says whether it can be reported at all.
    pub(super) fn progressed(&mut self, id: JobId, told: Progress, effects: &mut Vec<Effect>) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            return true;
        };
        if job.unreported.portions.is_empty() && progress::is_inline(&told) && progress::is_portion(&told) {
            let report = report(id, job, told, None);
            self.outbox.add(report);
            return true;
        }
        let bytes = progress::result_bytes(&told);
        let portions = progress::split(told);
        if !portions.iter().all(progress::is_portion) {
            return false;
        }
        self.outbox.waits(bytes);
        portions
            .into_iter()
            .for_each(|portion| job.unreported.push(portion));
        self.report_or_write(id, effects);
        true
    }

    /// Makes reports from the front of what is unreported, up to the first portion that needs a file.
    fn report_or_write(&mut self, id: JobId, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        while job.unreported.write.is_none() {
            // results of tasks that nobody was granted are kept by nobody: they need no file
            let needs_no_file =
                |portion: &mut Progress| progress::is_inline(portion) || portion.done.is_empty();
            match job.unreported.portions.pop_front_if(needs_no_file) {
                Some(portion) => {
                    self.outbox.waited(progress::result_bytes(&portion));
                    let report = report(id, job, portion, None);
                    self.outbox.add(report);
                }
                None => {
                    write_front(id, job, None, effects);
                    break;
                }
            }
        }
    }

    pub(super) fn written(
        &mut self,
        now: Instant,
        id: JobId,
        opening: Opening,
        name: Option<String>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.opening == opening) else {
            return;
        };
        let Some(Write::InFlight { failed_pause }) = job.unreported.write.take() else {
            return;
        };
        let Some(name) = name else {
            let pause = failed_pause.map_or(WRITE_PAUSE_MIN, |pause: Duration| {
                (pause * 2).min(WRITE_PAUSE_MAX)
            });
            job.unreported.write = Some(Write::Retry {
                at: now + pause,
                pause,
            });
            return;
        };
        if let Some(portion) = job.unreported.portions.pop_front() {
            self.outbox.waited(progress::result_bytes(&portion));
            let report = report(id, job, portion, Some(&name));
            self.outbox.add(report);
        }
        self.report_or_write(id, effects);
    }

    /// Writes again what failed, if it is time.
    pub(super) fn write_due(&mut self, now: Instant, id: JobId, effects: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match job.unreported.write {
            Some(Write::Retry { at, pause }) if at <= now => write_front(id, job, Some(pause), effects),
            Some(Write::Retry { .. } | Write::InFlight { .. }) | None => {}
        }
    }
}

fn write_front(id: JobId, job: &mut Job, failed_pause: Option<Duration>, effects: &mut Vec<Effect>) {
    let Some(portion) = job.unreported.portions.front() else {
        return;
    };
    let Some(&(grant, _)) = portion.done.first() else {
        return;
    };
    let (range, portion) = (progress::file_range(portion), portion.clone());
    job.unreported.write = Some(Write::InFlight { failed_pause });
    effects.push(Effect::Write(ResultWrite {
        job: id,
        opening: job.opening,
        grant,
        range,
        portion,
    }));
}

/// Turns a portion into a report: from now on the outbox answers for its tasks, and the grants hold them no more.
fn report(id: JobId, job: &mut Job, portion: Progress, file: Option<&str>) -> Report {
    let Progress {
        done,
        failed,
        results,
        busy_nanos,
        usage,
        backlog,
    } = portion;
    let mut held = Vec::with_capacity(done.len());
    for (grant, ranges) in done {
        let released = job.release(grant, &ranges);
        if released != ranges {
            tracing::debug!(job = %id, %grant, "a host reported tasks that it does not hold, or in an odd order");
        }
        if !released.is_empty() {
            held.push((grant, released));
        }
    }
    let mut failures = Vec::with_capacity(failed.len());
    for (grant, mut failed) in failed {
        failed.retain_mut(|failure| {
            let index = IndexRange::new(failure.index, failure.index.saturating_add(1));
            cut(&mut failure.message);
            !job.release(grant, &[index]).is_empty()
        });
        if !failed.is_empty() {
            failures.push((grant, failed));
        }
    }
    let results = progress::blocks(results, file, &held);
    Report {
        number: 0,
        job: id,
        done: held,
        failed: failures,
        results,
        busy_nanos,
        usage,
        backlog,
    }
}

/// Cuts a text to what a message may hold: hosts run what users wrote.
pub(super) fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
}
