//! Workers: they join, get lost, come back, and say what they cannot do.

use phalanx_protocol::message::worker::ToWorker;
use phalanx_protocol::record::{FailureCause, Outcome};
use phalanx_protocol::{Feeding, GrantId, IndexRange, JobId, JobSpec, SubmissionId, Term, WorkerId};
use phalanx_scheduler_core::{Effect, Input};

use crate::story::{Granted, Revoked, Story, held, kernel_job, node};

const SECOND: u64 = 1_000_000_000;

fn whole(tasks: u64) -> JobSpec {
    JobSpec {
        feeding: Feeding::Static,
        ..kernel_job(tasks)
    }
}

#[test]
fn a_worker_is_welcomed_told_of_the_job_given_slots_and_then_granted_tasks() {
    let mut story = Story::new();
    let job = story.submit(kernel_job(10));
    let w1 = story.worker(2);
    let told: Vec<&ToWorker> = story
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { worker, message } if *worker == w1 => Some(message),
            _ => None,
        })
        .collect();
    assert!(matches!(told[0], ToWorker::Welcome { term: Term(1), .. }));
    assert!(matches!(told[1], ToWorker::Open { .. }));
    assert_eq!(told[2], &ToWorker::SetSlots { job, slots: 2 });
    assert!(matches!(told[3], ToWorker::Grant { .. }));
}

#[test]
fn lost_worker_requeues_only_what_was_not_reported() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(100));
    let grant = story.grant(w1, job).grant;
    story.report(w1, job, vec![(grant, vec![0..30])], SECOND);
    story.lose(w1);
    let w2 = story.worker(1);
    assert_eq!(story.grants(w2), [30..100]);
}

#[test]
fn a_lost_worker_feeds_those_that_were_idle() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(2), story.worker(2));
    let job = story.submit(kernel_job(4));
    story.finish(w2, job, 3 * SECOND);
    assert_eq!(story.held(w2), 0);
    story.lose(w1);
    assert_eq!(story.grants(w2), [0..2]);
}

#[test]
fn a_worker_that_comes_back_goes_on_with_what_it_holds() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(1), Vec::new());
    let job = story.submit(whole(100));
    let granted = story.grant(w1, job);
    let grants_before = story.grant_count();
    let still = Granted {
        range: 20..100,
        ..granted.clone()
    };
    assert_eq!(story.join(1, Some(w1), node(1), vec![held(&still)]), w1);
    assert_eq!(story.slots(w1, job), 1);
    assert_eq!(story.grant_count(), grants_before, "it has enough to do");
    story.report(w1, job, vec![(granted.grant, vec![0..100])], SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn what_a_worker_that_comes_back_has_forgotten_goes_to_idle_ones_at_once() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(2), Vec::new());
    let job = story.submit(kernel_job(2));
    let higher = story.submit(JobSpec {
        priority: 1,
        ..kernel_job(1000)
    });
    assert_eq!(story.slots(w1, job), 0);
    story.mail(w1).revokes.clear();
    let w2 = story.worker(1000);
    assert_eq!(story.slots(w2, higher), 998);
    // its tasks of `job` had started; now the process lost them
    story.join(1, Some(w1), node(2), Vec::new());
    let everywhere: u64 = [w1, w2]
        .map(|worker| story.slots(worker, job).into())
        .iter()
        .sum::<u64>();
    assert!(everywhere > 0);
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn pieces_of_one_grant_are_all_taken_up_again() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(1), Vec::new());
    let job = story.submit(whole(100));
    let granted = story.grant(w1, job);
    let pieces = [0..10, 50..100].map(|range| {
        held(&Granted {
            range,
            ..granted.clone()
        })
    });
    story.join(1, Some(w1), node(1), pieces.to_vec());
    let w2 = story.worker(1);
    assert_eq!(story.grants(w2), [10..50], "only what nobody holds is granted");
}

#[test]
fn what_was_granted_to_others_meanwhile_is_taken_back_from_the_one_who_returns() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(1), Vec::new());
    let job = story.submit(whole(100));
    let granted = story.grant(w1, job);
    story.lose(w1);
    let w2 = story.worker(1);
    assert_eq!(story.grants(w2), [0..100]);
    story.join(1, Some(w1), node(1), vec![held(&granted)]);
    let stale = Revoked {
        job,
        grant: granted.grant,
        count: 100,
    };
    assert!(story.revokes(w1).contains(&stale), "it does not run for nothing");
    story.returned(w1, stale, IndexRange::new(1, 100));
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn what_others_reported_of_a_grant_does_not_shield_its_rest_from_a_revoke() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let low = story.submit(whole(100));
    let lost = story.grant(w1, low);
    story.lose(w1);
    let w2 = story.worker(1);
    // w2 has 0..100 and has not started; w1 did the second half, and says so late
    story.report(w1, low, vec![(lost.grant, vec![50..100])], SECOND);
    story.submit(JobSpec {
        priority: 1,
        ..kernel_job(1)
    });
    assert_eq!(story.slots(w2, low), 0);
    assert_eq!(story.revokes(w2)[0].count, 100, "w2 still believes in all of it");
}

#[test]
fn held_grants_of_a_job_that_got_no_slots_are_taken_back() {
    let mut story = Story::new();
    let low = story.inherit("ada", JobId(1), whole(100));
    let high = story.submit(JobSpec {
        priority: 1,
        ..kernel_job(1000)
    });
    let old = Granted {
        job: low,
        grant: GrantId {
            term: Term(0),
            number: 1,
        },
        range: 0..100,
    };
    let w1 = story.join(1, Some(WorkerId(1)), node(4), vec![held(&old)]);
    assert_eq!((story.slots(w1, low), story.slots(w1, high)), (0, 4));
    assert_eq!(
        story.mail(w1).slots.get(&low),
        Some(&0),
        "it must be told: it runs them with its old slots"
    );
    assert_eq!(
        story.revokes(w1),
        [Revoked {
            job: low,
            grant: old.grant,
            count: 100
        }]
    );
}

#[test]
fn after_a_restart_a_worker_keeps_the_job_that_it_holds_grants_of() {
    let mut story = Story::new();
    let first = story.inherit("ada", JobId(1), kernel_job(1000));
    // between two plans a second job comes, and both workers join
    story.step_micros = 0;
    let second = story.inherit(
        "bob",
        JobId(2),
        JobSpec {
            submission: SubmissionId(2),
            ..kernel_job(1000)
        },
    );
    let grant = |job, number| Granted {
        job,
        grant: GrantId {
            term: Term(0),
            number,
        },
        range: 0..4,
    };
    let w1 = story.join(1, Some(WorkerId(1)), node(4), vec![held(&grant(second, 1))]);
    let w2 = story.join(2, Some(WorkerId(2)), node(4), vec![held(&grant(first, 2))]);
    story.step_micros = 1000;
    story.tell(Input::Ticked);
    assert_eq!((story.slots(w1, first), story.slots(w1, second)), (0, 4));
    assert_eq!((story.slots(w2, first), story.slots(w2, second)), (4, 0));
}

#[test]
fn a_late_return_after_the_worker_was_lost_changes_nothing() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(whole(100));
    let granted = story.grant(w1, job);
    let w2 = story.worker(1);
    let revoke = story.revokes(w1)[0];
    story.lose(w1);
    assert_eq!(story.grants(w2), [0..100]);
    story.returned(w1, revoke, IndexRange::new(50, 100));
    story.returned(
        w2,
        Revoked {
            grant: granted.grant,
            ..revoke
        },
        IndexRange::new(50, 100),
    );
    assert_eq!(story.grants(w2), [0..100]);
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_held_grant_that_was_never_made_does_not_clash_with_later_ones() {
    let mut story = Story::new();
    let job = story.submit(kernel_job(100));
    let invented = |number| Granted {
        job,
        grant: GrantId {
            term: Term(1),
            number,
        },
        range: 0..50,
    };
    let w1 = story.join(
        1,
        None,
        node(1),
        (1..20).map(|number| held(&invented(number))).collect(),
    );
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.view(job).done, 100);
    assert_eq!(story.slots(w1, job), 0);
}

#[test]
fn a_worker_with_an_absurd_id_does_not_stop_others_from_joining() {
    let mut story = Story::new();
    story.join(1, Some(WorkerId(u64::MAX)), node(1), Vec::new());
    story.join(2, Some(WorkerId(u64::MAX - 1)), node(1), Vec::new());
    story.worker(1);
    assert_eq!(story.core.workers().len(), 3);
}

#[test]
fn an_id_that_another_process_has_is_not_given_away() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(1), Vec::new());
    assert_ne!(story.join(2, Some(w1), node(1), Vec::new()), w1);
    assert_eq!(story.core.workers().len(), 2);
}

#[test]
fn a_worker_that_cannot_run_a_job_is_left_out() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(1), story.worker(1));
    let job = story.submit(kernel_job(10));
    story.tell(Input::CannotRun {
        worker: w1,
        job,
        reason: "no space left".into(),
        fatal: false,
    });
    story.mail(w1).grants.clear();
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
    assert_eq!(story.held(w1) + story.held(w2), 0);
}

#[test]
fn a_job_that_no_worker_can_run_is_broken_with_the_last_reason() {
    let mut story = Story::new();
    let (w1, w2) = (story.worker(1), story.worker(1));
    let job = story.submit(kernel_job(10));
    story.tell(Input::CannotRun {
        worker: w1,
        job,
        reason: "no space left".into(),
        fatal: false,
    });
    story.tell(Input::CannotRun {
        worker: w2,
        job,
        reason: "no space either".into(),
        fatal: false,
    });
    assert_eq!(
        story.outcome(job),
        Some(Outcome::Broken {
            reason: "no space either".into()
        })
    );
}

#[test]
fn a_fatal_obstacle_breaks_the_job_at_once() {
    let mut story = Story::new();
    let (w1, _) = (story.worker(1), story.worker(1));
    let job = story.submit(kernel_job(10));
    story.tell(Input::CannotRun {
        worker: w1,
        job,
        reason: "no such kernel".into(),
        fatal: true,
    });
    assert_eq!(
        story.outcome(job),
        Some(Outcome::Broken {
            reason: "no such kernel".into()
        })
    );
}

#[test]
fn a_lost_host_is_replaced_and_its_tasks_run_again() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(kernel_job(2));
    story.mail(w1).grants.clear();
    story.tell(Input::HostLost {
        worker: w1,
        job,
        blamed: Vec::new(),
        cause: FailureCause::Crash,
        how: "signal 11 (SIGSEGV)".into(),
    });
    assert_eq!(story.grants(w1), [0..1]);
    story.run_to_the_end(job, SECOND);
    assert_eq!(story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn a_job_whose_hosts_die_four_times_in_a_row_is_broken() {
    let mut story = Story::new();
    let w1 = story.worker(1);
    let job = story.submit(kernel_job(10));
    let die = |story: &mut Story| {
        story.mail(w1).grants.clear();
        story.tell(Input::HostLost {
            worker: w1,
            job,
            blamed: Vec::new(),
            cause: FailureCause::Crash,
            how: "signal 9".into(),
        });
    };
    (0..3).for_each(|_| die(&mut story));
    assert_eq!(story.outcome(job), None);
    story.finish(w1, job, 3 * SECOND);
    (0..3).for_each(|_| die(&mut story));
    assert_eq!(
        story.outcome(job),
        None,
        "a task that ended in between starts the count anew"
    );
    die(&mut story);
    let reason = "its kernel host died 4 times in a row: signal 9".into();
    assert_eq!(story.outcome(job), Some(Outcome::Broken { reason }));
}

#[test]
fn a_job_that_ended_is_closed_on_a_worker_that_comes_back_only_when_its_end_is_durable() {
    let mut story = Story::new();
    let w1 = story.join(1, None, node(1), Vec::new());
    let job = story.submit(whole(100));
    let granted = story.grant(w1, job);
    story.storage_slows_down();
    story.cancel_as("ada", false, job);
    story.join(1, Some(w1), node(1), vec![held(&granted)]);
    let close = Effect::Send {
        worker: w1,
        message: ToWorker::Close { job },
    };
    assert!(!story.effects.contains(&close));
    story.storage_catches_up();
    assert!(story.effects.contains(&close));
}

#[test]
fn a_job_that_nobody_knows_any_more_is_closed_on_a_worker_that_comes_back() {
    let mut story = Story::new();
    let unknown = Granted {
        job: JobId(9),
        grant: GrantId {
            term: Term(0),
            number: 1,
        },
        range: 0..4,
    };
    let w1 = story.join(
        1,
        Some(WorkerId(3)),
        node(1),
        vec![held(&unknown), held(&unknown)],
    );
    let close = Effect::Send {
        worker: w1,
        message: ToWorker::Close { job: JobId(9) },
    };
    assert_eq!(story.effects.iter().filter(|&effect| *effect == close).count(), 1);
}
