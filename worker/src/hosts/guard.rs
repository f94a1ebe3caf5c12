//! Whether a host keeps the limits of its job: how long each task may take, and how much memory its slots may use.
//!
//! It decides from what it is shown, at the moments that it asks for; who looks and who kills is its host's task. A slot
//! that shows the same index at every look since some moment has run that task since then: one index is never run
//! twice in a row by a host. So a task is found out at most one interval late, and never early.

use std::time::{Duration, Instant};

use phalanx_protocol::message::host::{BOARD_IDLE, ToHost};
use phalanx_protocol::record::FailureCause;
use phalanx_protocol::resources::format_bytes;

use super::board;
use crate::agent::{Death, Limits};

/// How often memory is looked at.
const MEMORY_INTERVAL: Duration = Duration::from_millis(200);
/// The shortest and the longest time between two looks at how long tasks have run; a tenth of their limit otherwise.
const TIME_INTERVAL_MIN: Duration = Duration::from_millis(10);
const TIME_INTERVAL_MAX: Duration = Duration::from_millis(500);
/// A warning that comes later than that before the limit is of no use.
const WARNING_MIN: Duration = Duration::from_millis(50);

/// What follows from a look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing.
    Fine,
    /// A task is about to run too long: it should save what it has.
    Warn,
    /// The host is to be killed, and that is then how it died.
    Over(Death),
}

/// The limits of the open job, and what was seen of it.
#[derive(Debug, Default)]
pub(super) struct Guard {
    limits: Limits,
    /// The most slots that the host has had: what tasks have freed, a process mostly keeps.
    slots_max: u32,
    /// By slot.
    seen: Vec<Seen>,
    next_look: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    index: u64,
    since: Instant,
    warned: bool,
}

impl Guard {
    /// Watches a job with these limits, from now on.
    pub(super) fn watch(&mut self, now: Instant, limits: Limits) {
        self.limits = limits;
        self.seen.clear();
        self.next_look = self.interval().map(|interval| now + interval);
    }

    /// Notes what the host is told: how many slots it has, and when its job ends and with it the limits.
    pub(super) fn told(&mut self, message: &ToHost) {
        match message {
            ToHost::SetSlots(slots) => self.slots_max = self.slots_max.max(*slots),
            ToHost::Close => {
                *self = Self {
                    slots_max: self.slots_max,
                    ..Self::default()
                }
            }
            ToHost::Open { .. }
            | ToHost::AddPlaces(_)
            | ToHost::Grant { .. }
            | ToHost::Revoke { .. }
            | ToHost::Stop { .. }
            | ToHost::Signal { .. }
            | ToHost::Gang(_)
            | ToHost::GangWaits { .. }
            | ToHost::GangAddresses { .. }
            | ToHost::Pause(_)
            | ToHost::CheckpointNow => {}
        }
    }

    /// When to look next.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Slots to be looked at.
    pub(super) fn slots(&self) -> usize {
        self.slots_max as usize
    }

    /// What all slots together may use, if that is limited.
    pub(super) fn allowed_bytes(&self) -> Option<u64> {
        let all = self.limits.memory_bytes.saturating_mul(self.slots_max.into());
        (all > 0).then_some(all)
    }

    /// The death of a host that used so much, with those to blame that ran; none if memory is not limited.
    pub(super) fn over_memory(&self, used_bytes: u64, blamed: Vec<u64>) -> Option<Death> {
        let (used, allowed) = (format_bytes(used_bytes), format_bytes(self.allowed_bytes()?));
        Some(Death {
            how: format!("used {used} of {allowed}"),
            by_itself: false,
            cause: FailureCause::Memory,
            blamed,
        })
    }

    /// Judges what there is to be seen: the board's lines, and the memory in use if that matters and is known.
    pub(super) fn look(&mut self, now: Instant, lines: &[u64], used_bytes: Option<u64>) -> Finding {
        self.next_look = self.interval().map(|interval| now + interval);
        let over = used_bytes.filter(|&used| self.allowed_bytes().is_some_and(|allowed| used > allowed));
        if let Some(death) = over.and_then(|used| self.over_memory(used, board::running(lines))) {
            return Finding::Over(death);
        }
        match self.limits.task_time {
            Some(limit) => self.look_at_times(now, lines, limit),
            None => Finding::Fine,
        }
    }

    fn look_at_times(&mut self, now: Instant, lines: &[u64], limit: Duration) -> Finding {
        let warning = (limit * 4 / 5).min(limit.saturating_sub(WARNING_MIN));
        let new = |index| Seen {
            index,
            since: now,
            warned: false,
        };
        self.seen.resize(lines.len(), new(BOARD_IDLE));
        let (mut over, mut warn) = (Vec::new(), false);
        for (seen, &index) in self.seen.iter_mut().zip(lines) {
            if seen.index != index {
                *seen = new(index);
            } else if index != BOARD_IDLE {
                let ran = now - seen.since;
                if ran > limit {
                    over.push(index);
                } else if ran >= warning && !seen.warned {
                    seen.warned = true;
                    warn = true;
                }
            }
        }
        if !over.is_empty() {
            return Finding::Over(Death {
                how: format!("ran longer than {}", duration_text(limit)),
                by_itself: false,
                cause: FailureCause::TimeLimit,
                blamed: board::running(&over),
            });
        }
        if warn { Finding::Warn } else { Finding::Fine }
    }

    fn interval(&self) -> Option<Duration> {
        let time = self.limits.task_time;
        let time = time.map(|limit| (limit / 10).clamp(TIME_INTERVAL_MIN, TIME_INTERVAL_MAX));
        let memory = (self.limits.memory_bytes > 0).then_some(MEMORY_INTERVAL);
        time.into_iter().chain(memory).min()
    }
}

/// `500 ms`, `1.5 s`, `10 min`, `2 h`.
fn duration_text(duration: Duration) -> String {
    let (millis, seconds) = (duration.as_millis(), duration.as_secs());
    if millis < 1000 {
        format!("{millis} ms")
    } else if millis % 1000 != 0 {
        format!("{} s", duration.as_secs_f64())
    } else if seconds % 3600 == 0 {
        format!("{} h", seconds / 3600)
    } else if seconds % 60 == 0 {
        format!("{} min", seconds / 60)
    } else {
        format!("{seconds} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: u64 = BOARD_IDLE;

    fn guard(limits: Limits) -> (Guard, Instant) {
        let (mut guard, now) = (Guard::default(), Instant::now());
        guard.watch(now, limits);
        guard.told(&ToHost::SetSlots(2));
        (guard, now)
    }

    fn seconds(task_time: u64) -> Limits {
        Limits {
            task_time: Some(Duration::from_secs(task_time)),
            memory_bytes: 0,
        }
    }

    #[test]
    fn a_task_over_its_time_is_warned_and_then_blamed_alone() {
        let (mut guard, start) = guard(seconds(5));
        let mut look =
            |millis, lines: [u64; 2]| guard.look(start + Duration::from_millis(millis), &lines, None);
        assert_eq!(look(500, [7, 8]), Finding::Fine);
        assert_eq!(look(1000, [7, IDLE]), Finding::Fine);
        assert_eq!(look(4000, [7, 9]), Finding::Fine);
        assert_eq!(look(4500, [7, 9]), Finding::Warn);
        assert_eq!(look(5000, [7, 9]), Finding::Fine, "one warning is enough");
        // its time counts from when it was first seen
        assert_eq!(look(5500, [7, 9]), Finding::Fine);
        let death = Death {
            how: "ran longer than 5 s".into(),
            by_itself: false,
            cause: FailureCause::TimeLimit,
            blamed: vec![7],
        };
        assert_eq!(look(5501, [7, 9]), Finding::Over(death));
    }

    #[test]
    fn the_next_job_on_a_host_is_not_charged_with_the_time_of_the_last() {
        let (mut guard, start) = guard(seconds(1));
        guard.look(start, &[0], None);
        guard.told(&ToHost::Close);
        assert_eq!(guard.next_look(), None);
        let later = start + Duration::from_secs(10);
        guard.watch(later, seconds(1));
        guard.told(&ToHost::SetSlots(1));
        assert_eq!(guard.look(later, &[0], None), Finding::Fine);
    }

    #[test]
    fn looks_are_a_tenth_of_the_limit_apart_within_reason() {
        let interval = |limit: Duration| {
            let (guard, now) = guard(Limits {
                task_time: Some(limit),
                memory_bytes: 0,
            });
            guard.next_look().unwrap() - now
        };
        assert_eq!(interval(Duration::from_millis(1)), Duration::from_millis(10));
        assert_eq!(interval(Duration::from_secs(2)), Duration::from_millis(200));
        assert_eq!(interval(Duration::from_secs(7200)), Duration::from_millis(500));
    }

    #[test]
    fn memory_is_counted_over_all_slots_that_the_host_has_had() {
        let (mut guard, now) = guard(Limits {
            task_time: None,
            memory_bytes: 1 << 30,
        });
        let over = (2 << 30) + (1 << 29);
        assert_eq!(guard.look(now, &[3, IDLE], Some(2 << 30)), Finding::Fine);
        let death = Death {
            how: "used 2.5 GiB of 2 GiB".into(),
            by_itself: false,
            cause: FailureCause::Memory,
            blamed: vec![3],
        };
        assert_eq!(guard.look(now, &[3, IDLE], Some(over)), Finding::Over(death));
        guard.told(&ToHost::SetSlots(3));
        assert_eq!(guard.look(now, &[3, IDLE, IDLE], Some(over)), Finding::Fine);
        guard.told(&ToHost::SetSlots(1));
        assert_eq!(guard.look(now, &[3, IDLE, IDLE], Some(over)), Finding::Fine);
    }

    #[test]
    fn durations_read_as_people_write_them() {
        let text = |millis| duration_text(Duration::from_millis(millis));
        let texts = [
            text(500),
            text(1500),
            text(90_000),
            text(600_000),
            text(7_200_000),
        ];
        assert_eq!(texts, ["500 ms", "1.5 s", "90 s", "10 min", "2 h"]);
    }
}
