//! Jobs that are to run on some workers only, by their names.

use phalanx_protocol::job::SpecError;
use phalanx_protocol::message::client::Refusal;
use phalanx_protocol::view::Verdict;
use phalanx_protocol::{JobSpec, WorkerChoice};

use crate::gangs::{gang, on_nodes, verdict};
use crate::replaying::{REATTACHED, successor};
use crate::story::{Story, cpus, kernel_job, node};

fn choice(only: &[&str], all_of: &[&str], never: &[&str]) -> WorkerChoice {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    WorkerChoice {
        only: names(only),
        all_of: names(all_of),
        never: names(never),
    }
}

/// A job that is to run on these only.
fn only(names: &[&str], spec: JobSpec) -> JobSpec {
    JobSpec {
        choice: choice(names, &[], &[]),
        ..spec
    }
}

fn never(names: &[&str], spec: JobSpec) -> JobSpec {
    JobSpec {
        choice: choice(&[], &[], names),
        ..spec
    }
}

fn elsewhere(missing: &[&str]) -> Verdict {
    Verdict::Elsewhere {
        missing: missing.iter().map(|&name| name.to_owned()).collect(),
    }
}

#[test]
fn a_job_runs_on_the_named_workers_only_and_never_on_the_excluded() {
    let mut story = Story::new();
    let [n1, n2, n3] = ["n1", "n2", "n3"].map(|name| story.named(name, 4));
    let some = story.submit(only(&["n1", "n3"], kernel_job(100)));
    let slots = |story: &Story, job| [n1, n2, n3].map(|worker| story.slots(worker, job));
    assert_eq!(slots(&story, some), [4, 0, 4]);
    story.cancel_as("ada", false, some);
    let others = story.submit(never(&["n1", "n3"], kernel_job(100)));
    assert_eq!(slots(&story, others), [0, 4, 0]);
}

#[test]
fn what_a_lost_worker_ran_goes_to_another_that_will_do() {
    let mut story = Story::new();
    let [n1, n2, n3] = ["n1", "n2", "n3"].map(|name| story.named(name, 2));
    let job = story.submit(only(&["n1", "n3"], kernel_job(4)));
    assert_eq!((story.held(n1), story.held(n3)), (2, 2));
    story.lose(n3);
    assert_eq!((story.slots(n1, job), story.slots(n2, job)), (2, 0));
    story.lose(n1);
    assert_eq!(story.held(n2), 0);
    assert_eq!(verdict(&story, job), elsewhere(&["n1", "n3"]));
    let back = story.named("n3", 2);
    assert_eq!(story.held(back), 2);
}

#[test]
fn a_new_leader_keeps_to_the_choice() {
    let mut story = Story::new();
    story.named("n1", 2);
    let job = story.submit(only(&["n1"], kernel_job(8)));
    let mut after = successor(&story, story.records().len());
    let n2 = after.join_as("n2", 7, None, node(2), Vec::new());
    after.pass(REATTACHED);
    assert_eq!(
        (after.slots(n2, job), verdict(&after, job)),
        (0, elsewhere(&["n1"]))
    );
    let n1 = after.join_as("n1", 8, None, node(2), Vec::new());
    assert_eq!(after.slots(n1, job), 2);
}

#[test]
fn a_job_for_a_worker_that_has_not_joined_waits_and_says_so() {
    let mut story = Story::new();
    story.named("n1", 4);
    let later = story.submit(only(&["n7"], kernel_job(1)));
    assert_eq!(verdict(&story, later), elsewhere(&["n7"]));
    let nowhere = story.submit(never(&["n1"], kernel_job(1)));
    assert_eq!(verdict(&story, nowhere), elsewhere(&[]));
    // a small one is there, and a larger one may come
    let large = story.submit(only(
        &["n1", "n8"],
        JobSpec {
            request: cpus(8),
            ..kernel_job(1)
        },
    ));
    assert_eq!(verdict(&story, large), elsewhere(&["n8"]));
    let n8 = story.named("n8", 9);
    assert_eq!((story.slots(n8, large), story.slots(n8, nowhere)), (1, 1));
}

#[test]
fn a_job_that_none_of_its_workers_can_hold_is_refused_though_others_could() {
    let mut story = Story::new();
    story.named("n1", 4);
    story.named("big", 64);
    let spec = JobSpec {
        request: cpus(8),
        ..kernel_job(1)
    };
    let request = story.ask_to_submit("ada", only(&["n1"], spec));
    let Some(Refusal::TooLarge { largest, .. }) = story.refusal(request) else {
        panic!("refused as too large");
    };
    assert_eq!(largest, node(4));
}

#[test]
fn who_may_run_anywhere_leaves_a_worker_to_who_may_run_there_only() {
    let mut story = Story::new();
    let [n1, n2] = ["n1", "n2"].map(|name| story.named(name, 4));
    let free = story.submit_as("ada", kernel_job(1000));
    let bound = story.submit_as("bob", only(&["n1"], kernel_job(4)));
    assert_eq!((story.slots(n1, bound), story.slots(n2, free)), (4, 4));
    assert_eq!(story.slots(n1, free), 0);
}

#[test]
fn a_gang_is_placed_among_the_named_and_on_every_demanded_worker() {
    let mut story = Story::new();
    let [n1, n2, n3] = ["n1", "n2", "n3"].map(|name| story.named(name, 4));
    let slots = |story: &Story, job| [n1, n2, n3].map(|worker| story.slots(worker, job));
    let among = story.submit(only(&["n2", "n3"], on_nodes(4, 2)));
    assert_eq!(slots(&story, among), [0, 2, 2]);
    let demanding = |names: &[&str], spec| JobSpec {
        choice: choice(&[], names, &[]),
        ..spec
    };
    let on_all = story.submit(demanding(&["n1", "n3"], gang(3)));
    assert_eq!(slots(&story, on_all), [2, 0, 1]);
    let missing = story.submit(demanding(&["n1", "n9"], on_nodes(2, 2)));
    assert_eq!(slots(&story, missing), [0, 0, 0]);
    assert_eq!(verdict(&story, missing), elsewhere(&["n9"]));
    let n9 = story.named("n9", 1);
    assert_eq!((story.slots(n1, missing), story.slots(n9, missing)), (1, 1));
}

#[test]
fn a_gang_that_lost_a_demanded_worker_waits_for_it() {
    let mut story = Story::new();
    let [n1, n2] = ["n1", "n2"].map(|name| story.named(name, 4));
    let job = story.submit(JobSpec {
        choice: choice(&[], &["n2"], &[]),
        ..gang(2)
    });
    assert_eq!((story.slots(n1, job), story.slots(n2, job)), (0, 2));
    story.lose(n2);
    assert_eq!(
        (story.slots(n1, job), verdict(&story, job)),
        (0, elsewhere(&["n2"]))
    );
    let back = story.named("n2", 2);
    assert_eq!(story.slots(back, job), 2);
}

#[test]
fn choices_that_make_no_sense_are_refused() {
    let chosen = |choice, spec| JobSpec { choice, ..spec };
    let contradiction = chosen(choice(&[], &["n1"], &["n1"]), gang(1)).check();
    let worker = "n1".to_owned();
    assert_eq!(contradiction, Err(SpecError::ContradictingWorkers { worker }));
    let no_gang = chosen(choice(&[], &["n1"], &[]), kernel_job(1)).check();
    assert_eq!(no_gang, Err(SpecError::NoGangOnWorkers));
    let too_few = chosen(choice(&[], &["n1", "n2", "n3"], &[]), on_nodes(4, 2)).check();
    assert_eq!(too_few, Err(SpecError::TooFewForWorkers { workers: 3, nodes: 2 }));
    let long = "n".repeat(200);
    let names: Vec<String> = (0..400).map(|number| format!("{long}{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let much = never(&names, kernel_job(1)).check();
    assert!(matches!(much, Err(SpecError::TooManyWorkers { .. })), "{much:?}");
    let empty = never(&[""], kernel_job(1)).check();
    assert!(matches!(empty, Err(SpecError::BadName { .. })), "{empty:?}");
}
