//! How much may be under way between two hosts: the sender's account of what is not received yet, and the receiver's of what it
//! has still to say about that. No lock, thread or clock.
//!
//! Two bounds hold. A *lane* (one rank to another, in one context) has at most [`LANE_MESSAGES_MAX`] messages that are not
//! received, and at most [`LANE_BYTES_MAX`] bytes before the last of them: its sender waits then. A *host* holds at most
//! [`WINDOW_BYTES`] of another's unreceived messages; what is sent beyond that is only announced, however small, and its
//! bytes stay with the sender. So whoever does not receive costs its own host little, and its neighbours nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::wire::{EAGER_BYTES_MAX, Lane, Load, RETURNS_PER_FRAME_MAX};
use crate::ranks::matching::LANE_MESSAGES_MAX;

/// Bytes of a lane's messages that are not received, from which on its sender waits.
pub(super) const LANE_BYTES_MAX: u64 = 64 << 20;
/// Bytes that one host holds of another's messages that are not received and were not asked for.
pub(super) const WINDOW_BYTES: u64 = 16 << 20;
/// What a message counts besides its bytes, towards [`LANE_BYTES_MAX`]: what it takes to keep an empty one.
const MESSAGE_BYTES: u64 = 256;
/// The part of a bound that the receiver lets come together before it says what was received.
const RETURNED_PART: u64 = 4;

/// What becomes of a message that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is sent.
    Eager,
    /// It is announced.
    Announced,
    /// It has to wait; nobody has asked the other side to hurry yet.
    Refused,
    /// It has to wait, as others of its lane do.
    RefusedAgain,
}

/// Something that a peer must not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Breach {
    /// It received more than was sent.
    #[error("it says that it received more than it was sent")]
    Overdrawn,
    /// It sent more unasked than it may.
    #[error("it sent more unasked than {WINDOW_BYTES} bytes")]
    Flooded,
}

#[derive(Debug, Default)]
struct Open {
    load: Load,
    /// Somebody waits for room.
    refused: bool,
}

impl Open {
    fn is_full(&self) -> bool {
        let Load { messages, bytes, .. } = self.load;
        messages >= LANE_MESSAGES_MAX as u64 || bytes + messages * MESSAGE_BYTES >= LANE_BYTES_MAX
    }
}

/// What was sent to one host and not received there.
#[derive(Debug, Default)]
pub(super) struct Account {
    lanes: BTreeMap<Lane, Open>,
    eager_bytes: u64,
}

impl Account {
    /// Counts a message of so many bytes, unless it has to wait.
    pub(super) fn admit(&mut self, lane: Lane, bytes: usize) -> Admission {
        let open = self.lanes.entry(lane).or_default();
        if open.is_full() {
            return match std::mem::replace(&mut open.refused, true) {
                true => Admission::RefusedAgain,
                false => Admission::Refused,
            };
        }
        let fits = bytes <= EAGER_BYTES_MAX && self.eager_bytes + bytes as u64 <= WINDOW_BYTES;
        let load = Load::one(bytes, fits);
        open.load.add(load);
        self.eager_bytes += load.eager_bytes;
        match fits {
            true => Admission::Eager,
            false => Admission::Announced,
        }
    }

    /// Notes what was received, and says whether somebody waits for that.
    ///
    /// # Errors
    /// [`Breach::Overdrawn`].
    pub(super) fn returned(&mut self, lane: Lane, load: Load) -> Result<bool, Breach> {
        let open = self.lanes.get_mut(&lane).ok_or(Breach::Overdrawn)?;
        open.load = open.load.less(load).ok_or(Breach::Overdrawn)?;
        self.eager_bytes -= load.eager_bytes;
        let waiting = std::mem::take(&mut open.refused);
        if open.load == Load::default() {
            self.lanes.remove(&lane);
        }
        Ok(waiting)
    }
}

/// What was received from one host, and not said to it yet.
#[derive(Debug, Default)]
pub(super) struct Returns {
    lanes: BTreeMap<Lane, Load>,
    /// What all lanes' loads come to.
    eager_bytes: u64,
    /// Bytes that were sent without being asked for, and are not said to be received.
    held_bytes: u64,
    /// Lanes in which somebody there waits.
    pressing: BTreeSet<Lane>,
}

impl Returns {
    /// Notes that a message has come which nobody asked for.
    ///
    /// # Errors
    /// [`Breach::Flooded`].
    pub(super) fn came(&mut self, bytes: usize) -> Result<(), Breach> {
        self.held_bytes += bytes as u64;
        match self.held_bytes <= WINDOW_BYTES {
            true => Ok(()),
            false => Err(Breach::Flooded),
        }
    }

    /// Notes that a message was received, and says whether it is time to tell.
    pub(super) fn add(&mut self, lane: Lane, load: Load) -> bool {
        let sum = self.lanes.entry(lane).or_default();
        sum.add(load);
        self.eager_bytes += load.eager_bytes;
        let much = |is: u64, max: u64| is >= max / RETURNED_PART;
        self.pressing.contains(&lane)
            || much(self.eager_bytes, WINDOW_BYTES)
            || much(sum.messages, LANE_MESSAGES_MAX as u64)
            || much(
                sum.bytes.saturating_add(sum.messages * MESSAGE_BYTES),
                LANE_BYTES_MAX,
            )
            || self.lanes.len() >= RETURNS_PER_FRAME_MAX
    }

    /// Notes that somebody there waits for room in a lane, and says whether there is something to tell.
    pub(super) fn press(&mut self, lane: Lane) -> bool {
        self.pressing.insert(lane);
        self.lanes.contains_key(&lane)
    }

    /// Takes what is to be told: at most [`RETURNS_PER_FRAME_MAX`] lanes.
    pub(super) fn take(&mut self) -> Vec<(Lane, Load)> {
        let mut told = Vec::new();
        while told.len() < RETURNS_PER_FRAME_MAX
            && let Some((lane, load)) = self.lanes.pop_first()
        {
            self.eager_bytes -= load.eager_bytes;
            self.held_bytes -= load.eager_bytes;
            self.pressing.remove(&lane);
            told.push((lane, load));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::envelope::{Context, Kind};

    fn lane(to: u32) -> Lane {
        let context = Context::new(0, Kind::PointToPoint);
        Lane {
            to,
            sender: 7,
            context,
        }
    }

    #[test]
    fn a_lane_waits_when_it_is_full_and_asks_once() {
        let mut account = Account::default();
        for _ in 0..LANE_MESSAGES_MAX {
            assert_eq!(account.admit(lane(0), 8), Admission::Eager);
        }
        assert_eq!(account.admit(lane(0), 8), Admission::Refused);
        assert_eq!(account.admit(lane(0), 8), Admission::RefusedAgain);
        assert_eq!(account.admit(lane(1), 8), Admission::Eager);
        assert_eq!(account.returned(lane(0), Load::one(8, true)), Ok(true));
        assert_eq!(account.admit(lane(0), 8), Admission::Eager);
        assert_eq!(account.admit(lane(0), 8), Admission::Refused);
    }

    #[test]
    fn a_message_of_any_size_is_taken_but_nothing_behind_too_many_bytes() {
        let mut account = Account::default();
        assert_eq!(account.admit(lane(0), 1 << 30), Admission::Announced);
        assert_eq!(account.admit(lane(0), 1), Admission::Refused);
        assert_eq!(account.returned(lane(0), Load::one(1 << 30, false)), Ok(true));
        assert_eq!(account.admit(lane(0), 1), Admission::Eager);
    }

    #[test]
    fn what_exceeds_the_window_is_announced_until_something_is_received() {
        let mut account = Account::default();
        let mut returns = Returns::default();
        let fitting = WINDOW_BYTES / EAGER_BYTES_MAX as u64;
        for to in 0..fitting as u32 {
            assert_eq!(account.admit(lane(to), EAGER_BYTES_MAX), Admission::Eager);
            returns.came(EAGER_BYTES_MAX).unwrap();
        }
        assert_eq!(account.admit(lane(0), 1), Admission::Announced);
        assert_eq!(returns.came(1), Err(Breach::Flooded));
        let load = Load::one(EAGER_BYTES_MAX, true);
        assert_eq!(account.returned(lane(1), load), Ok(false));
        assert_eq!(account.admit(lane(0), 1), Admission::Eager);
        assert_eq!(account.returned(lane(1), load), Err(Breach::Overdrawn));
    }

    #[test]
    fn little_is_told_later_and_at_once_if_somebody_waits_for_it() {
        let mut returns = Returns::default();
        let load = Load::one(8, false);
        assert!(!returns.add(lane(0), load));
        assert!(returns.press(lane(0)));
        assert_eq!(returns.take(), [(lane(0), load)]);
        assert!(!returns.add(lane(0), load), "whoever waited was told");
        assert!(!returns.press(lane(1)), "there is nothing to tell");
        assert!(!returns.add(lane(2), load));
        assert_eq!(returns.take(), [(lane(0), load), (lane(2), load)]);
        assert!(returns.add(lane(1), load), "this one still waits");
    }
}
