//! Fast boxes: what one rank leaves for another of its process without its lock and without its help.
//!
//! A ring of a few slots for each two ranks and direction. Sender and receiver each have a counter of their own. A message is one cache
//! line, which says itself which message it is, and the receiver writes nothing there: so it goes from one core to the other once. A few
//! numbers lie in the lines behind it. Where messages come one after the other, the receiver fetches lines ahead and says only now and
//! then how far it is. The same thing goes by this name in MPICH
//! (Nemesis: Buntinas, Mercier, Gropp, "Design and evaluation of Nemesis", CCGrid 2006); that the slots themselves say whether they
//! are full is from FastForward (Giacomoni, Moseley, Vachharajani, PPoPP 2008).

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::envelope::Envelope;
use super::matching::Message;
use super::payload::{FEW_BYTES_MAX, Payload};

/// Messages that it holds: enough for a sender to run ahead a little, few enough to stay in a core's cache.
pub(super) const SLOTS: usize = 32;
/// Messages after which the receiver says that it has taken them, if there are more.
const TOLD_AFTER: usize = SLOTS / 4;
/// Messages taken in a row from which on lines are fetched ahead.
const STREAM: usize = 5;
/// How many messages ahead: about as many as are taken while one line comes from another core.
const AHEAD: usize = 4;

/// Messages from one rank to another that the receiver has not looked at.
#[derive(Default)]
pub(super) struct FastBox {
    slots: [Slot; SLOTS],
    sender: SenderSide,
    receiver: ReceiverSide,
}

// pairs of cache lines: cores that fetch ahead take two at a time
#[repr(C, align(128))]
struct Slot {
    /// The number of the message that was put here last, from 1.
    number: AtomicUsize,
    message: UnsafeCell<MaybeUninit<Message>>,
    /// The bytes of numbers that are [beside](Payload::Beside) the message.
    beside: UnsafeCell<[u8; FEW_BYTES_MAX]>,
}

const _: () = assert!(size_of::<AtomicUsize>() + size_of::<Message>() <= 64);

impl Default for Slot {
    fn default() -> Self {
        Slot {
            number: AtomicUsize::new(0),
            message: UnsafeCell::new(MaybeUninit::uninit()),
            beside: UnsafeCell::new([0; FEW_BYTES_MAX]),
        }
    }
}

#[derive(Default)]
#[repr(align(128))]
struct SenderSide {
    /// How many were put.
    put: AtomicUsize,
    /// How many of them were taken, as far as it has looked.
    taken: AtomicUsize,
}

#[derive(Default)]
#[repr(align(128))]
struct ReceiverSide {
    /// How many the sender knows to be taken.
    told: AtomicUsize,
    /// How many were taken.
    taken: AtomicUsize,
    /// How many of them since there was none.
    in_a_row: AtomicUsize,
}

impl FastBox {
    /// Whether [`FastBox::put`] has room. If so, all is seen here that the receiver did before it last made some. For the sender's
    /// thread alone.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        let put = self.sender.put.load(Ordering::Relaxed);
        if put - self.sender.taken.load(Ordering::Relaxed) < SLOTS {
            return true;
        }
        let taken = self.receiver.told.load(Ordering::Acquire);
        self.sender.taken.store(taken, Ordering::Relaxed);
        put - taken < SLOTS
    }

    /// Whether [`FastBox::take`] would find something.
    #[inline]
    pub(super) fn has_mail(&self) -> bool {
        let taken = self.receiver.taken.load(Ordering::Relaxed);
        self.slots[taken % SLOTS].number.load(Ordering::Acquire) > taken
    }
}

#[expect(
    unsafe_code,
    reason = "a lock would be one more exchange of cache lines, and cost as much as the rest"
)]
mod handover {
    use super::*;

    // SAFETY: messages go from thread to thread, and nothing else is reached through a reference from several; the counters
    // say whose turn a slot is.
    unsafe impl Sync for FastBox {}

    impl FastBox {
        /// Leaves a message, and the bytes of what is beside it.
        ///
        /// # Safety
        /// Only ever called by one thread, which has just been told that there [is room](FastBox::has_room).
        #[inline]
        pub(in super::super) unsafe fn put(&self, message: Message, beside: &[u8]) {
            let put = self.sender.put.load(Ordering::Relaxed);
            let slot = &self.slots[put % SLOTS];
            // SAFETY: there is room, so what was in this slot was taken before, and the receiver does not look at it until it finds the
            // number that is stored below.
            unsafe {
                if !beside.is_empty() {
                    let room = &mut *slot.beside.get();
                    room[..beside.len()].copy_from_slice(beside);
                }
                (*slot.message.get()).write(message);
            }
            slot.number.store(put + 1, Ordering::Release);
            self.sender.put.store(put + 1, Ordering::Relaxed);
        }

        /// What stands on the oldest message.
        ///
        /// # Safety
        /// Only ever called by one thread at a time, such as by the holder of a lock.
        #[inline]
        pub(in super::super) unsafe fn head(&self) -> Option<&Envelope> {
            let taken = self.receiver.taken.load(Ordering::Relaxed);
            let slot = &self.slots[taken % SLOTS];
            if slot.number.load(Ordering::Acquire) <= taken {
                return None;
            }
            // SAFETY: the number says that the sender has written this message, and it writes no other here before it is told that
            // this one was taken.
            Some(unsafe { &(*slot.message.get()).assume_init_ref().envelope })
        }

        /// The oldest message.
        ///
        /// # Safety
        /// Like that of [`head`](FastBox::head).
        #[inline]
        pub(in super::super) unsafe fn take(&self) -> Option<Message> {
            let whole = |mut message: Message, bytes: &[u8; FEW_BYTES_MAX]| {
                if let Payload::Beside(said) = message.payload {
                    message.payload = said.with(bytes);
                }
                message
            };
            // SAFETY: as the caller says.
            unsafe { self.open(whole) }
        }

        /// What `open` makes of the oldest message and of the bytes beside it.
        ///
        /// # Safety
        /// Like that of [`head`](FastBox::head).
        #[inline]
        pub(in super::super) unsafe fn open<T>(
            &self,
            open: impl FnOnce(Message, &[u8; FEW_BYTES_MAX]) -> T,
        ) -> Option<T> {
            let taken = self.receiver.taken.load(Ordering::Relaxed);
            let slot = &self.slots[taken % SLOTS];
            if slot.number.load(Ordering::Acquire) <= taken {
                self.receiver.in_a_row.store(0, Ordering::Relaxed);
                self.receiver.told.store(taken, Ordering::Release);
                return None;
            }
            // SAFETY: the number says that the sender has written this message, and it writes no other here before it is told that
            // this one was taken; that it was read is noted before anything else happens.
            let message = unsafe { (*slot.message.get()).assume_init_read() };
            self.receiver.taken.store(taken + 1, Ordering::Relaxed);
            let in_a_row = self.receiver.in_a_row.load(Ordering::Relaxed) + 1;
            self.receiver.in_a_row.store(in_a_row, Ordering::Relaxed);
            if in_a_row >= STREAM {
                let ahead = &self.slots[(taken + AHEAD) % SLOTS];
                fetch_ahead(&ahead.number);
                if matches!(message.payload, Payload::Beside(_)) {
                    fetch_ahead(&ahead.beside);
                }
            }
            // SAFETY: as with the message.
            let opened = open(message, unsafe { &*slot.beside.get() });
            if (taken + 1).is_multiple_of(TOLD_AFTER) {
                self.receiver.told.store(taken + 1, Ordering::Release);
            }
            Some(opened)
        }
    }

    /// Has the cache line brought here that `place` is in, without waiting for it, where the core can be told to.
    #[inline]
    fn fetch_ahead<T>(place: &T) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: it changes nothing, whatever is there.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = place;
    }

    impl Drop for FastBox {
        fn drop(&mut self) {
            // SAFETY: nobody else has a reference any more.
            while unsafe { self.take() }.is_some() {}
        }
    }
}
