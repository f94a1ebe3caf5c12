use super::super::envelope::{Envelope, Kind, Wanted};
use super::super::fast_box::SLOTS;
use super::super::matching::LANE_MESSAGES_MAX;
use super::super::payload::{FEW_BYTES_MAX, Lent, Payload};
use super::*;

const SEAT: usize = 1;
const CONTEXT: Context = Context::new(0, Kind::PointToPoint);

fn message(number: u64) -> Message {
    Message {
        envelope: Envelope {
            context: CONTEXT,
            source: SEAT as u32,
            tag: number % 2,
            sender: SEAT as u32,
        },
        payload: Payload::numbers(&[number]),
    }
}

fn number_in(message: Message) -> u64 {
    message.payload.into_vec().unwrap()[0]
}

fn wanted(tag: Option<u64>) -> Wanted {
    tag.map_or(Wanted::Any, Wanted::One)
}

fn pattern(tag: Option<u64>) -> Pattern {
    Pattern {
        context: CONTEXT,
        source: None,
        tag: wanted(tag),
    }
}

/// What that one rank sends.
const PATTERN_OF_ONE: Pattern = Pattern {
    context: CONTEXT,
    source: Some(SEAT as u32),
    tag: Wanted::Any,
};

fn receive(mailbox: &Mailbox, tag: Option<u64>) -> Option<u64> {
    match mailbox.receive(pattern(tag), Needs::One(SEAT as u32), |_| None) {
        Receive::Now(taken) => Some(number_in(taken.message)),
        Receive::Posted(ticket) => {
            mailbox.matching().cancel(ticket);
            None
        }
        Receive::Never(trouble) => panic!("{trouble:?}"),
    }
}

fn mailbox() -> Mailbox {
    let mailbox = Mailbox::new(2, true);
    mailbox.bell().adopt();
    mailbox
}

#[test]
fn messages_keep_their_order_through_the_fast_box_and_beside_it() {
    let mailbox = mailbox();
    let total = 5 * SLOTS as u64 + 3;
    for number in 0..total {
        mailbox.hand(SEAT, message(number)).unwrap();
    }
    let received: Vec<u64> = std::iter::from_fn(|| receive(&mailbox, None)).collect();
    assert_eq!(received, (0..total).collect::<Vec<_>>());
}

#[test]
fn a_receive_takes_what_it_asks_for_out_of_what_was_left() {
    let mailbox = mailbox();
    for number in 0..6 {
        mailbox.hand(SEAT, message(number)).unwrap();
    }
    let order = [Some(1), None, None, Some(0), None, None, None].map(|tag| receive(&mailbox, tag));
    assert_eq!(
        order,
        [Some(1), Some(0), Some(2), Some(4), Some(3), Some(5), None]
    );
}

#[test]
fn a_wait_is_over_when_what_it_waits_for_was_left() {
    let mailbox = mailbox();
    let Receive::Posted(ticket) = mailbox.receive(pattern(Some(1)), Needs::One(SEAT as u32), |_| None) else {
        panic!("there is nothing yet");
    };
    let heard = mailbox.bell().rings();
    std::thread::scope(|scope| {
        // the first is not what it waits for
        scope.spawn(|| (0..2).for_each(|number| mailbox.hand(SEAT, message(number)).unwrap()));
        mailbox.wait(heard);
    });
    let outcome = mailbox.outcome(ticket, |_| None).unwrap().unwrap();
    assert_eq!(number_in(outcome), 1);
}

#[test]
fn whoever_looks_for_any_message_is_rung_for_what_is_left() {
    let mailbox = mailbox();
    mailbox.set_probing(true);
    let heard = mailbox.bell().rings();
    mailbox.hand(SEAT, message(0)).unwrap();
    mailbox.wait(heard);
    let seen = mailbox.peek(&pattern(None), &Needs::One(SEAT as u32), |_| None);
    assert_eq!(seen.unwrap().map(|status| status.length), Some(Some(1)));
}

#[test]
fn a_message_that_was_left_before_its_sender_ended_is_received() {
    let mailbox = mailbox();
    let Receive::Posted(ticket) = mailbox.receive(pattern(None), Needs::One(SEAT as u32), |_| None) else {
        panic!("there is nothing yet");
    };
    mailbox.hand(SEAT, message(7)).unwrap();
    mailbox.sweep(|_, _| Some(Trouble::Revoked));
    let outcome = mailbox.outcome(ticket, |_| None).unwrap().unwrap();
    assert_eq!(number_in(outcome), 7);
}

#[test]
fn a_lane_never_holds_more_than_it_may_and_opens_again() {
    let mailbox = mailbox();
    let mut sent = 0;
    // of the owner's looks at odd moments, none lets in too much
    let mut fill = |mailbox: &Mailbox| {
        loop {
            if sent % 5 == 0 {
                assert!(!mailbox.matching().is_revoked(CONTEXT));
            }
            match mailbox.hand(SEAT, message(sent)) {
                Ok(()) => sent += 1,
                Err(refused) => {
                    assert_eq!(number_in(refused), sent);
                    return sent;
                }
            }
        }
    };
    assert_eq!(fill(&mailbox), LANE_MESSAGES_MAX as u64);
    let received: Vec<u64> = std::iter::from_fn(|| receive(&mailbox, None)).collect();
    assert_eq!(received, (0..LANE_MESSAGES_MAX as u64).collect::<Vec<_>>());
    assert_eq!(fill(&mailbox), 2 * LANE_MESSAGES_MAX as u64);
}

#[test]
fn a_lane_that_was_filled_while_its_owner_slept_holds_no_more_than_it_may() {
    let mailbox = mailbox();
    let heard = mailbox.bell().rings();
    let task = &mut std::task::Context::from_waker(std::task::Waker::noop());
    assert!(mailbox.bell().poll(heard, task).is_pending());
    for number in 1..LANE_MESSAGES_MAX as u64 {
        mailbox.hand(SEAT, message(number)).unwrap();
    }
    mailbox.bell().awake();
    mailbox.hand(SEAT, message(0)).unwrap();
    assert!(mailbox.hand(SEAT, message(0)).is_err());
}

#[test]
fn whoever_listens_hears_of_a_message_that_came_another_way() {
    let mailbox = mailbox();
    let heard = mailbox.bell().rings();
    mailbox.deliver(message(0)).unwrap();
    assert_ne!(
        mailbox.bell().rings(),
        heard,
        "it has posted nothing, and does not sleep"
    );
}

#[test]
fn whoever_waits_for_the_lock_of_an_owner_that_listens_gets_it() {
    let mailbox = mailbox();
    let received = std::thread::scope(|scope| {
        scope.spawn(|| mailbox.deliver(message(3)).unwrap());
        std::iter::from_fn(|| Some(mailbox.receive_listening(&pattern(None), || None)))
            .find_map(|received| received)
    });
    assert_eq!(number_in(message_of(received.unwrap().unwrap())), 3);
}

fn message_of(heard: Heard<'_>) -> Message {
    match heard {
        Heard::Left(left) => left.take(),
        Heard::Taken(taken) => taken.message,
    }
}

#[test]
fn what_lies_in_a_box_is_heard_after_what_came_before_it() {
    let mailbox = mailbox();
    let hear = |tag| {
        let pattern = Pattern {
            tag: wanted(tag),
            ..PATTERN_OF_ONE
        };
        let heard = mailbox.receive_listening(&pattern, || None)?.unwrap();
        let in_place = matches!(heard, Heard::Left(_));
        Some((number_in(message_of(heard)), in_place))
    };
    for number in 1..=3 {
        mailbox.hand(SEAT, message(number)).unwrap();
    }
    assert_eq!(hear(Some(0)), Some((2, false)), "1 lies before it");
    assert_eq!(hear(Some(1)), Some((1, false)), "it was brought in");
    assert_eq!(hear(None), Some((3, true)));
    assert_eq!(hear(None), None);
}

#[test]
fn what_lies_in_a_box_goes_to_the_receive_that_was_posted_first() {
    let mailbox = mailbox();
    let needs = Needs::One(SEAT as u32);
    let Receive::Posted(ticket) = mailbox.receive(PATTERN_OF_ONE, needs, |_| None) else {
        panic!("nothing was sent");
    };
    mailbox.hand(SEAT, message(1)).unwrap();
    assert!(mailbox.receive_listening(&PATTERN_OF_ONE, || None).is_none());
    let outcome = mailbox.outcome(ticket, |_| None).unwrap();
    assert_eq!(number_in(outcome.unwrap()), 1);
}

#[test]
fn what_lies_in_a_box_is_not_heard_on_a_revoked_communicator() {
    let mailbox = mailbox();
    mailbox.hand(SEAT, message(1)).unwrap();
    mailbox.revoke(CONTEXT.communicator());
    let heard = mailbox.receive_listening(&PATTERN_OF_ONE, || None).unwrap();
    assert!(matches!(heard, Err(Trouble::Revoked)));
}

#[test]
fn a_full_fast_box_has_room_again_once_enough_is_taken() {
    let mailbox = mailbox();
    let three = [1.0, 2.0, 3.0];
    let leave = || mailbox.leave(SEAT, message(0).envelope, &Lent::of(&three).unwrap());
    assert!((0..SLOTS).all(|_| leave()));
    assert!(!leave());
    for _ in 0..SLOTS / 4 {
        let needs = Needs::One(SEAT as u32);
        let Receive::Now(taken) = mailbox.receive(PATTERN_OF_ONE, needs, |_| None) else {
            panic!("it was full");
        };
        assert_eq!(taken.message.payload.into_vec::<f64>().unwrap(), three);
    }
    assert!((0..SLOTS / 4).all(|_| leave()));
    assert!(!leave());
}

#[test]
fn a_few_numbers_that_are_left_are_what_they_were_among_others() {
    let mailbox = mailbox();
    let most = (FEW_BYTES_MAX / size_of::<u64>()) as u64;
    let lengths = || [0, 1, 2, 3, 8, 9, most].into_iter().chain(3..=8);
    let numbers = |length: u64| (length..2 * length).collect::<Vec<_>>();
    assert!(Lent::of(&numbers(most + 1)).is_none());
    for length in lengths() {
        mailbox.hand(SEAT, message(length)).unwrap();
        let lent = numbers(length);
        assert!(mailbox.leave(SEAT, message(0).envelope, &Lent::of(&lent).unwrap()));
    }
    for length in lengths() {
        assert_eq!(receive(&mailbox, None), Some(length));
        let needs = Needs::One(SEAT as u32);
        let Receive::Now(taken) = mailbox.receive(pattern(None), needs, |_| None) else {
            panic!("{length} numbers were left");
        };
        assert_eq!(taken.message.payload.length(), Some(length as usize));
        match length {
            5 => drop(taken.message.payload.into_vec::<f64>().unwrap_err()),
            _ => assert_eq!(taken.message.payload.into_vec::<u64>().unwrap(), numbers(length)),
        }
    }
}

#[test]
fn numbers_are_the_same_whichever_way_they_lie_in_a_box() {
    let mailbox = mailbox();
    let lengths = [0, 1, 2, 3, 8, 9, 24, 25, 40];
    for &length in &lengths {
        let numbers: Vec<u64> = (0..length).collect();
        let payload = Payload::numbers(&numbers);
        let envelope = message(0).envelope;
        mailbox.hand(SEAT, Message { envelope, payload }).unwrap();
    }
    for length in lengths {
        let needs = Needs::One(SEAT as u32);
        let Receive::Now(taken) = mailbox.receive(pattern(None), needs, |_| None) else {
            panic!("{length} numbers were left");
        };
        assert_eq!(taken.message.payload.length(), Some(length as usize));
        let numbers: Vec<u64> = taken.message.payload.into_vec().unwrap();
        assert_eq!(numbers, (0..length).collect::<Vec<_>>());
    }
}
