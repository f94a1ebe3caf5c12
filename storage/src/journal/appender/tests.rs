use super::*;
use crate::cluster::ClusterId;

const LOG: LogId = LogId {
    cluster: ClusterId([7; 16]),
    shard: 0,
};
const TERM: u64 = 17;
/// The first slot where a pipeline may form.
const FREE: u64 = TERM + PIPELINE_DEPTH_MAX - 1;

/// Performs nothing and writes everything down: `+s` a create, `+s*n` its n-th repeat, `=q` an acknowledgement, `!t` a
/// stand-down, `!silent` and `!collected s` the two ways to expire.
struct Transcript {
    now: Moment,
    appender: Appender,
    ops: Vec<Op>,
    creates: Vec<(u64, Bytes)>,
}

fn begin(next_slot: u64) -> Transcript {
    let leadership = Leadership {
        log: LOG,
        term: Term(TERM),
        next_slot,
        nonces: Nonces::new(5),
        resumed: false,
        snapshot: None,
        records: Vec::new(),
        damage: Vec::new(),
        sure_since: Moment::default(),
    };
    Transcript {
        now: Moment::default(),
        appender: Appender::new(&leadership, 2),
        ops: Vec::new(),
        creates: Vec::new(),
    }
}

impl Transcript {
    fn append(&mut self, sequence: u64) -> String {
        self.append_bytes(sequence, sequence.to_le_bytes().to_vec())
    }

    fn append_bytes(&mut self, sequence: u64, record: Vec<u8>) -> String {
        self.appender.push(sequence, record.into()).unwrap();
        self.appender.dispatch(self.now, &mut self.ops);
        self.told()
    }

    fn settle(&mut self, slot: u64, outcome: Outcome) -> String {
        self.appender.settle(slot, outcome, self.now, &mut self.ops);
        self.told()
    }

    /// Lets that many seconds pass.
    fn pass(&mut self, seconds: u64) -> String {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.appender.tick(self.now, &mut self.ops);
        self.told()
    }

    fn created(&mut self, slot: u64) -> String {
        self.settle(slot, Outcome::Created)
    }

    fn taken(&mut self, slot: u64, term: u64) -> String {
        self.settle(
            slot,
            Outcome::Taken {
                term: Term(term),
                nonce: 999,
            },
        )
    }

    fn told(&mut self) -> String {
        let mut told = Vec::new();
        for op in self.ops.drain(..) {
            told.push(match op {
                Op::Create {
                    slot,
                    object,
                    attempt,
                } => {
                    self.creates.push((slot, object));
                    if attempt == 0 {
                        format!("+{slot}")
                    } else {
                        format!("+{slot}*{attempt}")
                    }
                }
                Op::Acknowledge {
                    upto_sequence,
                    places,
                } => {
                    assert_eq!(places.last().unwrap().0, upto_sequence);
                    format!("={upto_sequence}")
                }
                Op::StandDown { term } => format!("!{term}"),
                Op::Expire(Expiry::Silent) => "!silent".to_owned(),
                Op::Expire(Expiry::Collected { slot }) => format!("!collected {slot}"),
            });
        }
        told.join(" ")
    }

    /// The sequence numbers in the newest create of a slot.
    fn holds(&self, slot: u64) -> Vec<u64> {
        let (_, object) = self
            .creates
            .iter()
            .rfind(|(created, _)| *created == slot)
            .unwrap();
        let slot = crate::slot::decode(object.clone(), LOG, slot).unwrap();
        let number = |record: &Bytes| u64::from_le_bytes(record[..8].try_into().unwrap());
        slot.records.iter().map(|(_, record)| number(record)).collect()
    }
}

#[test]
fn one_record_goes_out_at_once_and_is_acknowledged_when_created() {
    let mut t = begin(FREE);
    assert_eq!(t.append(1), "+24");
    assert_eq!(t.created(24), "=1");
}

#[test]
fn records_collect_while_the_pipeline_is_full() {
    let mut t = begin(FREE);
    assert_eq!(t.append(1), "+24");
    assert_eq!(t.append(2), "+25");
    assert_eq!(t.append(3), "");
    assert_eq!(t.append(4), "");
    assert_eq!(t.created(24), "=1 +26");
    assert_eq!(t.holds(26), [3, 4]);
}

#[test]
fn acknowledgements_come_in_slot_order() {
    let mut t = begin(FREE);
    t.append(1);
    t.append(2);
    assert_eq!(t.created(25), "");
    assert_eq!(t.created(24), "=2");
}

#[test]
fn a_slow_slot_keeps_the_pipeline_from_running_ahead() {
    let mut t = begin(FREE);
    t.append(1);
    t.append(2);
    t.append(3);
    // 25 is done, but 26 would lie two slots beyond the unsettled 24
    assert_eq!(t.created(25), "");
    assert_eq!(t.created(24), "=2 +26");
}

#[test]
fn the_slots_right_behind_the_fence_are_written_one_at_a_time() {
    let mut t = begin(TERM);
    assert_eq!(t.append(1), "+17");
    assert_eq!(t.append(2), "");
    for slot in TERM..FREE - 1 {
        let sequence = slot - TERM + 1;
        assert_eq!(t.created(slot), format!("={sequence} +{}", slot + 1));
        assert_eq!(t.append(sequence + 2), "");
    }
    assert_eq!(t.created(FREE - 1), "=7 +24");
    assert_eq!(t.append(9), "+25");
}

#[test]
fn a_void_slot_is_reissued_later_and_nothing_overtakes_it() {
    let mut t = begin(TERM);
    t.append(1);
    t.append(2);
    assert_eq!(t.taken(17, 5), "+18");
    assert_eq!(t.holds(18), [1]);
    assert_eq!(t.taken(18, 6), "+19");
    assert_eq!(t.created(19), "=1 +20");
    assert_eq!(t.holds(20), [2]);
}

#[test]
fn a_void_slot_where_none_can_be_makes_the_leader_stand_down() {
    let mut t = begin(FREE);
    t.append(1);
    t.append(2);
    assert_eq!(t.taken(24, 5), "!t5");
}

#[test]
fn an_unknown_outcome_is_repeated_with_the_same_bytes() {
    let mut t = begin(FREE);
    t.append(1);
    assert_eq!(t.settle(24, Outcome::Unknown), "+24*1");
    assert_eq!(t.settle(24, Outcome::Unknown), "+24*2");
    assert!(t.creates.iter().all(|create| *create == t.creates[0]));
    assert_eq!(t.created(24), "=1");
}

#[test]
fn a_slot_taken_by_ones_own_nonce_is_committed() {
    let mut t = begin(FREE);
    t.append(1);
    t.settle(24, Outcome::Unknown);
    let nonce = Nonces::new(5).draw();
    assert_eq!(
        t.settle(
            24,
            Outcome::Taken {
                term: Term(TERM),
                nonce
            }
        ),
        "=1"
    );
}

#[test]
fn a_higher_term_deposes_at_once_and_for_ever() {
    let mut t = begin(FREE);
    t.append(1);
    t.append(2);
    t.append(3);
    assert_eq!(t.taken(25, 40), "!t40");
    assert_eq!(t.created(24), "");
    assert_eq!(t.settle(25, Outcome::Unknown), "");
    assert_eq!(
        t.appender.push(4, Bytes::new()),
        Err(AppendError::Deposed { term: Term(40) })
    );
    assert_eq!(t.appender.bytes_waiting(), 0);
}

#[test]
fn the_same_term_with_another_nonce_deposes() {
    let mut t = begin(FREE);
    t.append(1);
    assert_eq!(t.taken(24, TERM), "!t17");
}

#[test]
fn an_outcome_told_twice_counts_once() {
    let mut t = begin(FREE);
    t.append(1);
    t.append(2);
    assert_eq!(t.created(25), "");
    assert_eq!(t.created(25), "");
    assert_eq!(t.created(24), "=2");
    assert_eq!(t.created(24), "");
}

#[test]
fn slots_are_closed_at_a_mebibyte_unless_one_record_is_larger() {
    let mut t = begin(FREE);
    let record = |sequence: u64, bytes: usize| {
        let mut record = sequence.to_le_bytes().to_vec();
        record.resize(bytes, 0);
        record
    };
    t.append(1);
    t.append(2);
    t.append_bytes(3, record(3, 600_000));
    t.append_bytes(4, record(4, 600_000));
    t.append_bytes(5, record(5, 3 << 20));
    t.append(6);
    t.created(24);
    assert_eq!(t.holds(26), [3]);
    t.created(25);
    assert_eq!(t.holds(27), [4]);
    t.created(26);
    assert_eq!(t.holds(28), [5]);
    t.created(27);
    assert_eq!(t.holds(29), [6]);
}

#[test]
fn limits_are_answers() {
    let mut t = begin(FREE);
    let huge = Bytes::from(vec![0; RECORD_BYTES_MAX]);
    let too_large = Bytes::from(vec![0; RECORD_BYTES_MAX + 1]);
    let refused = t.appender.push(1, too_large).unwrap_err();
    assert_eq!(
        refused,
        AppendError::TooLarge {
            bytes: RECORD_BYTES_MAX + 1
        }
    );
    for sequence in 0..8 {
        t.appender.push(sequence, huge.clone()).unwrap();
    }
    let refused = t.appender.push(8, Bytes::from_static(b"x")).unwrap_err();
    assert_eq!(
        refused,
        AppendError::Backlog {
            bytes_waiting: WAITING_BYTES_MAX
        }
    );
    t.appender.dispatch(t.now, &mut t.ops);
    assert_eq!(
        t.appender.push(7, Bytes::new()),
        Err(AppendError::Sequence { sequence: 7, last: 7 })
    );
    t.appender.push(8, Bytes::from_static(b"x")).unwrap();
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let run = || {
        let mut t = begin(TERM);
        t.append(1);
        t.append(2);
        t.taken(17, 3);
        t.settle(18, Outcome::Unknown);
        t.created(18);
        t.creates
    };
    assert_eq!(run(), run());
}

#[test]
fn an_idle_leader_says_every_ten_seconds_that_it_is_there() {
    let mut t = begin(FREE);
    assert_eq!(t.pass(9), "");
    assert_eq!(t.appender.pause(t.now), Duration::from_millis(1001));
    assert_eq!(t.pass(1), "+24");
    assert_eq!(t.pass(10), "");
    assert_eq!(t.holds(24), [0_u64; 0]);
    let object = t.creates[0].1.clone();
    let slot = crate::slot::decode(object, LOG, 24).unwrap();
    assert_eq!(slot.head.kind, SlotKind::NoOp);
    assert_eq!(t.created(24), "");
    // ten seconds since the last create began are over already
    assert_eq!(t.pass(0), "+25");
    assert_eq!(t.created(25), "");
    assert_eq!(t.append(1), "+26");
    assert_eq!(t.created(26), "=1");
    assert_eq!(t.pass(9), "");
}

#[test]
fn a_leader_that_slept_acknowledges_nothing_more() {
    let mut t = begin(FREE);
    t.append(1);
    t.now = t.now.after(Duration::from_secs(31));
    // the create says that all is well, but a name may be free a second time
    assert_eq!(t.created(24), "!silent");
    assert_eq!(t.created(24), "");
    assert_eq!(
        t.appender.push(2, Bytes::new()),
        Err(AppendError::Expired(Expiry::Silent))
    );
}

#[test]
fn time_in_suspension_counts() {
    let mut t = begin(FREE);
    t.append(1);
    t.now.boot += Duration::from_secs(31);
    assert_eq!(t.created(24), "!silent");
}

#[test]
fn a_leader_that_waits_for_its_storage_too_long_expires_without_an_outcome() {
    let mut t = begin(FREE);
    t.append(1);
    assert_eq!(t.settle(24, Outcome::Unknown), "+24*1");
    assert_eq!(t.pass(30), "");
    assert_eq!(t.pass(1), "!silent");
}

#[test]
fn a_slot_settled_out_of_order_makes_nobody_surer() {
    let mut t = begin(FREE);
    t.append(1);
    t.pass(20);
    t.append(2);
    assert_eq!(t.created(25), "");
    t.now = t.now.after(Duration::from_secs(11));
    assert_eq!(t.created(24), "!silent");
}

#[test]
fn a_void_slot_makes_nobody_surer() {
    let mut t = begin(TERM);
    t.append(1);
    t.pass(20);
    assert_eq!(t.taken(17, 5), "+18");
    t.now = t.now.after(Duration::from_secs(11));
    assert_eq!(t.created(18), "!silent");
}

#[test]
fn a_leader_is_sure_as_of_the_start_of_its_create_not_of_its_end() {
    let mut t = begin(FREE);
    t.append(1);
    t.pass(29);
    assert_eq!(t.created(24), "=1");
    // sure as of 0, when the create began
    assert_eq!(t.pass(2), "!silent");
}

#[test]
fn the_attempt_that_made_the_slot_counts_and_the_first_where_that_is_not_known() {
    let made_by = |outcome: fn(u128) -> Outcome| {
        let mut t = begin(FREE);
        t.append(1);
        t.pass(20);
        t.settle(24, Outcome::Unknown);
        let outcome = outcome(Nonces::new(5).draw());
        assert_eq!(t.settle(24, outcome), "=1");
        t.pass(11)
    };
    // 20 s old, so it is merely time for an empty slot
    assert_eq!(made_by(|_| Outcome::Created), "+25");
    let own = |nonce| Outcome::Taken {
        term: Term(TERM),
        nonce,
    };
    assert_eq!(made_by(own), "!silent");
}

#[test]
fn a_marked_chunk_ends_the_lead() {
    let mut t = begin(FREE);
    t.append(1);
    t.append(2);
    assert_eq!(t.settle(25, Outcome::Collected), "!collected 25");
    assert_eq!(t.created(24), "");
}
