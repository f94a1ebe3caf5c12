//! Numbers out of measurements.

use std::time::{Duration, Instant};

use phalanx::Communicator;
use phalanx::ranks::CommError;

/// How often [`together`] measures.
const RUNS: usize = 5;

/// Clock ticks per second of the kernel's accounting, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// The middle one.
///
/// # Panics
/// If there is none.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// The value below which `percent` of the values lie.
///
/// # Panics
/// If there is none.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = (sorted.len() - 1) as f64 * percent / 100.0;
    sorted[position.round() as usize]
}

/// The median time of an operation, in seconds, that all ranks do together, so many times in a row.
///
/// # Errors
/// The operation's.
pub fn together(
    comm: &Communicator,
    times_each: usize,
    mut operation: impl FnMut(&Communicator) -> Result<(), CommError>,
) -> Result<f64, CommError> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        comm.barrier()?;
        let start = Instant::now();
        for _ in 0..times_each {
            operation(comm)?;
        }
        times.push(start.elapsed().as_secs_f64() / times_each as f64);
    }
    Ok(median(&times))
}

/// Processor time that this process's threads have used whose names begin with one of `names`.
pub fn seconds_of_threads(names: &[&str]) -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return 0.0;
    };
    let stats = threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    let ticks = stats.filter_map(|stat| {
        let (head, fields) = stat.rsplit_once(')')?;
        let name = head.split_once('(')?.1.to_owned();
        let mut fields = fields.split_ascii_whitespace().skip(11);
        let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        names
            .iter()
            .any(|wanted| name.starts_with(wanted))
            .then_some(user + system)
    });
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

/// A time as people read it.
pub fn seconds_text(seconds: f64) -> String {
    let time = Duration::from_secs_f64(seconds);
    match time.as_nanos() {
        0..1_000 => format!("{:.0} ns", seconds * 1e9),
        1_000..1_000_000 => format!("{:.1} us", seconds * 1e6),
        1_000_000..1_000_000_000 => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(
            (median(&[3.0, 1.0, 2.0]), percentile(&[1.0, 2.0, 3.0], 99.0)),
            (2.0, 3.0)
        );
    }

    #[test]
    fn this_thread_has_a_name_and_uses_time() {
        assert_eq!(seconds_of_threads(&["no such thread"]), 0.0);
        assert!(seconds_of_threads(&[""]) >= 0.0);
    }

    #[test]
    fn times_have_their_unit() {
        assert_eq!(
            (seconds_text(2e-6), seconds_text(0.5)),
            ("2.0 us".to_owned(), "500.00 ms".to_owned())
        );
    }
}
