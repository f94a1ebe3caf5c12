use super::*;

const JOB: JobId = JobId(4);

fn attempt(number: u64) -> GrantId {
    GrantId {
        term: Term(9),
        number,
    }
}

struct Fixture {
    folder: tempfile::TempDir,
    outputs: Outputs,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let outputs = Outputs::new(folder.path().to_owned());
        Self { folder, outputs }
    }

    fn lane(&self, number: u64) -> OutputLane {
        OutputLane::create(self.folder.path(), JOB, attempt(number), 0).unwrap()
    }

    fn read(&self, start: u64, end: u64, had: OutputPosition, bytes_max: u64) -> OutputPage {
        let query = query(start, end, had, bytes_max);
        self.outputs.read(&query, |_| true).unwrap()
    }

    fn text(&self, start: u64, end: u64) -> String {
        let page = self.read(start, end, OutputPosition::default(), u64::MAX);
        page.pieces.iter().map(shown).collect()
    }
}

fn query(start: u64, end: u64, had: OutputPosition, bytes_max: u64) -> OutputQuery {
    OutputQuery {
        job: JOB,
        tasks: IndexRange::new(start, end),
        had,
        bytes_max,
    }
}

fn shown(piece: &OutputPiece) -> String {
    let stream = if piece.is_error { "!" } else { ":" };
    format!("{}{stream}{} ", piece.task, String::from_utf8_lossy(&piece.bytes))
}

fn write(lane: &mut OutputLane, task: u64, number: u64, output: &str, error: &str) {
    lane.begin(task, attempt(number)).unwrap();
    let (mut out, mut err) = lane.files();
    out.write_all(output.as_bytes()).unwrap();
    err.write_all(error.as_bytes()).unwrap();
}

#[test]
fn what_each_task_wrote_is_found_in_whatever_lane_it_is() {
    let fixture = Fixture::new();
    let (mut first, mut second) = (fixture.lane(1), fixture.lane(2));
    for (task, number) in [(0, 1), (2, 2), (1, 1)] {
        let lane = if number == 1 { &mut first } else { &mut second };
        write(lane, task, number, &format!("out{task}"), &format!("err{task}"));
        lane.end(task, attempt(number), true).unwrap();
        lane.take_unsynced().unwrap().sync().unwrap();
    }
    assert_eq!(fixture.text(0, 9), "0:out0 0!err0 1:out1 1!err1 2:out2 2!err2 ");
    assert_eq!(fixture.text(1, 2), "1:out1 1!err1 ");
    let nothing = fixture.read(5, 9, OutputPosition::default(), 100);
    assert_eq!((nothing.next, nothing.has_ended), (9, false));
}

#[test]
fn what_is_being_made_durable_does_not_hold_up_its_lane_and_files_that_have_not_grown_are_left_out() {
    let fixture = Fixture::new();
    let mut lane = fixture.lane(1);
    assert!(lane.take_unsynced().is_none());
    write(&mut lane, 0, 1, "out", "");
    lane.end(0, attempt(1), true).unwrap();
    let first = lane.take_unsynced().unwrap();
    assert!(lane.take_unsynced().is_none(), "somebody is at it");
    write(&mut lane, 1, 2, "", "err");
    lane.end(1, attempt(2), true).unwrap();
    first.sync().unwrap();
    let second = lane.take_unsynced().unwrap();
    second.sync().unwrap();
    assert_eq!(
        [&first, &second].map(|unsynced| (unsynced.has_output, unsynced.has_error)),
        [(true, false), (false, true)]
    );
    // what a task has written that has not ended is not promised
    write(&mut lane, 2, 3, "more", "");
    assert!(!lane.take_unsynced().unwrap().has_output);
    lane.end(2, attempt(3), true).unwrap();
    assert!(lane.take_unsynced().unwrap().has_output);
}

#[test]
fn a_task_that_still_writes_is_followed_from_where_the_reader_is() {
    let fixture = Fixture::new();
    let mut lane = fixture.lane(1);
    write(&mut lane, 3, 1, "one ", "");
    let page = fixture.read(3, 9, OutputPosition::default(), u64::MAX);
    assert_eq!((page.next, page.has_ended, page.position.output), (3, false, 4));
    lane.files().0.write_all(b"two").unwrap();
    lane.end(3, attempt(1), true).unwrap();
    let page = fixture.read(3, 9, page.position, u64::MAX);
    assert_eq!(page.pieces.iter().map(shown).collect::<String>(), "3:two ");
    assert_eq!((page.next, page.has_ended), (9, true));
}

#[test]
fn only_the_latest_attempt_counts_and_is_read_from_its_beginning() {
    let fixture = Fixture::new();
    let (mut first, mut second) = (fixture.lane(1), fixture.lane(2));
    write(&mut first, 0, 1, "given up", "");
    let page = fixture.read(0, 1, OutputPosition::default(), u64::MAX);
    write(&mut second, 0, 2, "again", "");
    second.end(0, attempt(2), true).unwrap();
    // a zombie that ends late changes nothing
    first.end(0, attempt(1), true).unwrap();
    let page = fixture.read(0, 1, page.position, u64::MAX);
    assert_eq!(page.pieces.iter().map(shown).collect::<String>(), "0:again ");
    assert_eq!(page.position.attempt, Some(attempt(2)));
}

#[test]
fn of_a_task_that_is_done_the_attempt_counts_that_has_succeeded() {
    let fixture = Fixture::new();
    let mut lanes = [1, 2, 3].map(|number| fixture.lane(number));
    let page = |is_done: bool| {
        let query = query(0, 1, OutputPosition::default(), u64::MAX);
        let page = fixture.outputs.read(&query, |_| is_done).unwrap();
        (page.pieces.iter().map(shown).collect::<String>(), page.has_ended)
    };
    write(&mut lanes[0], 0, 1, "whole", "");
    lanes[0].end(0, attempt(1), true).unwrap();
    // its worker was taken for lost, so it was begun again, until that worker was heard
    write(&mut lanes[1], 0, 2, "half", "");
    assert_eq!(page(true), ("0:whole ".to_owned(), true));
    assert_eq!(page(false), ("0:half ".to_owned(), false));
    lanes[1].end(0, attempt(2), false).unwrap();
    assert_eq!(page(true), ("0:whole ".to_owned(), true));
    assert_eq!(page(false), ("0:half ".to_owned(), true));
    write(&mut lanes[2], 0, 3, "once more", "");
    lanes[2].end(0, attempt(3), true).unwrap();
    assert_eq!(page(true), ("0:once more ".to_owned(), true));
}

#[test]
fn who_has_followed_an_attempt_gets_the_rest_of_it_before_the_next() {
    let fixture = Fixture::new();
    let (mut first, mut second) = (fixture.lane(1), fixture.lane(2));
    write(&mut first, 0, 1, "one ", "");
    let page = fixture.read(0, 1, OutputPosition::default(), u64::MAX);
    first.files().0.write_all(b"fails").unwrap();
    first.end(0, attempt(1), true).unwrap();
    write(&mut second, 0, 2, "again", "");
    second.end(0, attempt(2), true).unwrap();
    let rest = fixture.read(0, 1, page.position, u64::MAX);
    assert_eq!(rest.pieces.iter().map(shown).collect::<String>(), "0:fails ");
    assert_eq!((rest.next, rest.has_ended), (0, false));
    let next = fixture.read(0, 1, rest.position, u64::MAX);
    assert_eq!(next.pieces.iter().map(shown).collect::<String>(), "0:again ");
    assert_eq!((next.next, next.has_ended), (1, true));
    assert_eq!(fixture.text(0, 1), "0:again ");
}

#[test]
fn pages_are_as_small_as_asked_for_and_miss_nothing() {
    let fixture = Fixture::new();
    let mut lane = fixture.lane(1);
    for task in 0..5 {
        write(&mut lane, task, 1, "abcdefg", "xyz");
        lane.end(task, attempt(1), true).unwrap();
    }
    let (mut next, mut had, mut seen) = (0, OutputPosition::default(), vec![String::new(); 5]);
    while next < 5 {
        let page = fixture.read(next, 5, had, 4);
        assert!(page.pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>() <= 4);
        for piece in &page.pieces {
            seen[piece.task as usize] += &String::from_utf8_lossy(&piece.bytes);
        }
        (next, had) = (page.next, page.position);
    }
    assert!(seen.iter().all(|text| text == "abcdefgxyz"), "{seen:?}");
}

#[test]
fn the_first_task_of_a_further_page_is_read_from_its_beginning() {
    let fixture = Fixture::new();
    let mut lane = fixture.lane(1);
    for task in [PAGE_TASKS_MAX - 1, PAGE_TASKS_MAX] {
        write(&mut lane, task, 1, "abcdefg", "");
        lane.end(task, attempt(1), true).unwrap();
    }
    let end = PAGE_TASKS_MAX + 1;
    let first = fixture.read(0, end, OutputPosition::default(), u64::MAX);
    assert_eq!((first.next, first.pieces.len()), (PAGE_TASKS_MAX, 1));
    let second = fixture.read(first.next, end, first.position, u64::MAX);
    assert_eq!(&*second.pieces[0].bytes, b"abcdefg");
}

#[test]
fn a_torn_or_damaged_record_hides_no_other() {
    let fixture = Fixture::new();
    let mut lane = fixture.lane(1);
    write(&mut lane, 0, 1, "zero", "");
    lane.end(0, attempt(1), true).unwrap();
    (&lane.files.index).write_all(&[7; RECORD_BYTES]).unwrap();
    write(&mut lane, 1, 1, "one", "");
    lane.end(1, attempt(1), true).unwrap();
    (&lane.files.index).write_all(b"torn").unwrap();
    assert_eq!(fixture.text(0, 9), "0:zero 1:one ");
}
