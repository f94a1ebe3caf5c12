//! A job's progress in one line on the terminal: done of total, rate, time left, failures, workers.
//!
//! The words are made by pure functions of a [`JobView`]; indicatif draws them, at most ten times a second, and not at
//! all where stderr is no terminal. With `NO_COLOR` set the bar is drawn without colours.

use std::time::Duration;

use indicatif::{ProgressDrawTarget, ProgressStyle};
use phalanx_protocol::view::JobView;

/// Drawings per second at the most.
const DRAWS_PER_SECOND: u8 = 10;
const COLOURED: &str = "{prefix} [{bar:30.cyan/dim}] {percent:>3}% {msg}";
const PLAIN: &str = "{prefix} [{bar:30}] {percent:>3}% {msg}";

/// A progress bar for one job, on stderr.
///
/// ```no_run
/// # async fn example(client: phalanx::Client, job: phalanx::JobId) -> Result<(), phalanx::ClientError> {
/// let mut bar = phalanx::ProgressBar::new();
/// let mut watch = client.watch(job);
/// while let Some(view) = watch.next().await? {
///     bar.update(&view);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ProgressBar {
    bar: indicatif::ProgressBar,
}

impl ProgressBar {
    /// A bar that shows nothing until its first update.
    pub fn new() -> Self {
        let is_coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self::on(ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND), is_coloured)
    }

    fn on(target: ProgressDrawTarget, is_coloured: bool) -> Self {
        let template = if is_coloured { COLOURED } else { PLAIN };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = indicatif::ProgressBar::with_draw_target(Some(0), target);
        bar.set_style(style.progress_chars("=> "));
        Self { bar }
    }

    /// Shows the job as it is; at its end the line stays.
    pub fn update(&mut self, job: &JobView) {
        self.bar.set_length(job.tasks);
        self.bar.set_position(job.done + job.failed + job.cancelled);
        self.bar.set_prefix(job.name.clone());
        self.bar.set_message(describe(job));
        if job.outcome.is_some() {
            self.bar.abandon();
        }
    }

    /// Prints a line above the bar; nothing if the bar is hidden.
    pub fn print_above(&self, line: &str) {
        self.bar.println(line);
    }

    /// Takes the bar off the terminal.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Default for ProgressBar {
    fn default() -> Self {
        Self::new()
    }
}

/// What stands beside the bar.
fn describe(job: &JobView) -> String {
    let ended = job.done + job.failed + job.cancelled;
    let mut text = format!("{ended}/{} tasks", job.tasks);
    if job.outcome.is_some() {
        let millis = job.finished_unix_millis.unwrap_or(job.submitted_unix_millis);
        let took = Duration::from_millis(millis.saturating_sub(job.submitted_unix_millis));
        text += &format!(", {} in {}", job.state(), format_time(took));
    } else if job.slots == 0 {
        text += ", waiting for workers";
    } else {
        if job.tasks_per_second > 0.0 {
            let left = job.tasks.saturating_sub(ended) as f64 / job.tasks_per_second;
            text += &format!(", {}/s", format_count(job.tasks_per_second));
            if let Ok(left) = Duration::try_from_secs_f64(left) {
                text += &format!(", {} left", format_time(left));
            }
        }
        text += &format!(
            ", {} worker{}",
            job.workers,
            if job.workers == 1 { "" } else { "s" }
        );
    }
    if job.failed > 0 {
        text += &format!(", {} failed", job.failed);
    }
    text
}

/// Three figures and a unit: `7.2`, `950`, `12.5 k`, `3.1 M`.
fn format_count(count: f64) -> String {
    let mut value = count;
    let mut unit = 0;
    const UNITS: [&str; 4] = ["", " k", " M", " G"];
    // 999.95 would be printed as 1000.0
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let text = format!("{value:.1}");
    format!("{}{}", text.strip_suffix(".0").unwrap_or(&text), UNITS[unit])
}

/// Two units: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `11 d 3 h`.
fn format_time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::record::Outcome;

    use super::*;
    use crate::client::fake::view;

    fn running() -> JobView {
        JobView {
            name: "primes".to_owned(),
            tasks: 10_000,
            done: 2_500,
            slots: 4,
            workers: 2,
            tasks_per_second: 1_250.0,
            ..view(1, 0)
        }
    }

    #[test]
    fn a_running_job_is_told_in_figures() {
        assert_eq!(
            describe(&running()),
            "2500/10000 tasks, 1.2 k/s, 6.0 s left, 2 workers"
        );
        let failing = JobView {
            failed: 3,
            workers: 1,
            tasks_per_second: 0.0,
            ..running()
        };
        assert_eq!(describe(&failing), "2503/10000 tasks, 1 worker, 3 failed");
        let waiting = JobView {
            slots: 0,
            ..running()
        };
        assert_eq!(describe(&waiting), "2500/10000 tasks, waiting for workers");
    }

    #[test]
    fn a_job_that_is_over_tells_how_and_how_long_it_took() {
        let over = JobView {
            done: 10_000,
            outcome: Some(Outcome::Succeeded),
            submitted_unix_millis: 1_000,
            finished_unix_millis: Some(201_000),
            ..running()
        };
        assert_eq!(describe(&over), "10000/10000 tasks, succeeded in 3 min 20 s");
    }

    #[test]
    fn figures_are_short() {
        let counts = [0.0, 7.25, 950.0, 999.96, 12_480.0, 3.1e6, 8.0e12].map(format_count);
        assert_eq!(counts, ["0", "7.2", "950", "1 k", "12.5 k", "3.1 M", "8000 G"]);
        let times = [0.44, 59.0, 60.0, 7500.0, 961_200.0]
            .map(|seconds| format_time(Duration::from_secs_f64(seconds)));
        assert_eq!(times, ["0.4 s", "59 s", "1 min 0 s", "2 h 5 min", "11 d 3 h"]);
    }

    #[test]
    fn both_templates_are_understood() {
        for template in [COLOURED, PLAIN] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn the_line_stays_at_the_end() {
        let mut bar = ProgressBar::on(ProgressDrawTarget::hidden(), false);
        bar.update(&running());
        assert_eq!((bar.bar.position(), bar.bar.is_finished()), (2_500, false));
        bar.update(&JobView {
            done: 10_000,
            outcome: Some(Outcome::Succeeded),
            ..running()
        });
        assert_eq!((bar.bar.position(), bar.bar.is_finished()), (10_000, true));
    }
}
