//! Many numbers that are received while they are being sent: one rank copies them out of its buffer part by part, the other into
//! its own, each on its core. Few parts go back and forth and stay in the caches, where a copy of all would not.

use std::any::TypeId;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use super::{Moved, Numbers, NumbersOf, Payload, Plain};

/// From so many bytes on it is worth it.
const FLOW_BYTES_MIN: usize = 512 << 10;

/// Bytes of a part.
const PART_BYTES: usize = 128 << 10;

/// Parts that a rank keeps for its next messages.
const PARTS_KEPT: usize = 8;

/// How often a receiver looks for the next part before it goes to sleep: for longer than it takes to copy one.
const LOOKS: usize = 2_000;

type Part = Vec<u8>;

/// Parts of a rank that it may use again.
pub(in crate::ranks) struct Parts {
    emptied: Receiver<Part>,
    returning: SyncSender<Part>,
}

impl Parts {
    pub(in crate::ranks) fn new() -> Self {
        let (returning, emptied) = sync_channel(PARTS_KEPT);
        Parts { emptied, returning }
    }

    /// A message of these numbers, and what is to [pour](Pouring::pour) them once it is sent. None if they are too few.
    pub(in crate::ranks) fn flow<'a, E: Plain>(&'a self, numbers: &'a [E]) -> Option<(Payload, Pouring<'a>)> {
        let bytes: &[u8] = bytemuck::cast_slice(numbers);
        if bytes.len() < FLOW_BYTES_MIN {
            return None;
        }
        let (sending, parts) = channel();
        let flow = Flow {
            numbers: E::NUMBERS,
            length_bytes: bytes.len(),
            parts,
            returning: self.returning.clone(),
        };
        let pouring = Pouring {
            bytes,
            parts: sending,
            emptied: &self.emptied,
        };
        Some((Payload::Moved(Box::new(flow)), pouring))
    }
}

/// The sender's end.
pub(in crate::ranks) struct Pouring<'a> {
    bytes: &'a [u8],
    parts: Sender<Part>,
    emptied: &'a Receiver<Part>,
}

/// The receiver's end.
pub(super) struct Flow {
    numbers: &'static Numbers,
    length_bytes: usize,
    parts: Receiver<Part>,
    returning: SyncSender<Part>,
}

impl Pouring<'_> {
    /// Does not wait for the receiver: what that has no time for lies there until it has.
    pub(in crate::ranks) fn pour(self) {
        for bytes in self.bytes.chunks(PART_BYTES) {
            let mut part = self.emptied.try_recv().unwrap_or_default();
            part.clear();
            part.extend_from_slice(bytes);
            if self.parts.send(part).is_err() {
                // nobody wants them any more
                return;
            }
        }
    }
}

impl Flow {
    pub(super) fn is_of<E: Plain>(&self) -> bool {
        self.numbers.id == TypeId::of::<E>()
    }

    /// Copies all bytes to `room`, which has just their length.
    pub(super) fn copy_into(self, room: &mut [u8]) {
        let mut rest = room;
        while !rest.is_empty() {
            let part = self.next();
            let (front, behind) = std::mem::take(&mut rest).split_at_mut(part.len());
            front.copy_from_slice(&part);
            rest = behind;
            // there may be enough of them, or nobody who sends any more
            let _ = self.returning.try_send(part);
        }
    }

    /// Waits for the next part.
    fn next(&self) -> Part {
        for _ in 0..LOOKS {
            match self.parts.try_recv() {
                Ok(part) => return part,
                Err(_) => std::hint::spin_loop(),
            }
        }
        self.parts
            .recv()
            .expect("who has begun to pour goes on to the end")
    }
}

impl Moved for Flow {
    fn name(&self) -> &'static str {
        (self.numbers.name)()
    }

    fn length(&self) -> Option<usize> {
        self.length_bytes.checked_div(self.numbers.bytes)
    }

    fn gathered(self: Box<Self>) -> Box<dyn Moved> {
        (self.numbers.gather)(*self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than a rank keeps parts for, and no whole number of parts.
    const LENGTH: u64 = (PART_BYTES * (PARTS_KEPT + 2) / 8) as u64 + 1;

    fn numbers() -> Vec<u64> {
        (0..LENGTH).collect()
    }

    #[test]
    fn parts_are_used_again_and_few_are_kept() {
        let parts = Parts::new();
        let numbers = numbers();
        for _ in 0..3 {
            let (payload, pouring) = parts.flow(&numbers).unwrap();
            pouring.pour();
            let mut buffer = vec![0; numbers.len()];
            assert_eq!(payload.copy_into(&mut buffer).unwrap(), numbers.len());
            assert_eq!(buffer, numbers);
        }
        assert_eq!(parts.emptied.try_iter().count(), PARTS_KEPT);
    }

    #[test]
    fn a_receiver_may_come_before_during_and_after() {
        let parts = Parts::new();
        let numbers = numbers();
        std::thread::scope(|scope| {
            let (payload, pouring) = parts.flow(&numbers).unwrap();
            let receiver = scope.spawn(|| payload.into_vec::<u64>().unwrap());
            pouring.pour();
            assert_eq!(receiver.join().unwrap(), numbers);
        });
        let (payload, pouring) = parts.flow(&numbers).unwrap();
        assert_eq!(payload.length(), Some(numbers.len()));
        pouring.pour();
        assert_eq!(payload.into_value::<Vec<u64>>().unwrap(), numbers);
    }

    #[test]
    fn nobody_need_receive_it() {
        let parts = Parts::new();
        let numbers = numbers();
        let (payload, pouring) = parts.flow(&numbers).unwrap();
        drop(payload);
        pouring.pour();
        assert!(parts.flow(&numbers[..100]).is_none());
    }
}
