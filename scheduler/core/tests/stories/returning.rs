//! Workers that come back: what they bring counts once, and what others do meanwhile is run by nobody in vain.

use std::ops::Range;

use phalanx_protocol::record::Outcome;
use phalanx_protocol::{Feeding, IndexRange, JobId, JobSpec, WorkerId};

use crate::story::{Granted, Revoked, Story, held, kernel_job, node};

const SECOND: u64 = 1_000_000_000;

/// A job of 100 tasks that a worker was given whole before it was lost, and another one after that.
struct Lost {
    story: Story,
    job: JobId,
    first: WorkerId,
    granted: Granted,
    second: WorkerId,
    other: Granted,
}

impl Lost {
    fn new() -> Self {
        let mut story = Story::new();
        let first = story.join(1, None, node(1), Vec::new());
        let job = story.submit(JobSpec {
            feeding: Feeding::Static,
            ..kernel_job(100)
        });
        let granted = story.grant(first, job);
        story.lose(first);
        let second = story.worker(1);
        let other = story.grant(second, job);
        assert_eq!((&granted.range, &other.range), (&(0..100), &(0..100)));
        Self {
            story,
            job,
            first,
            granted,
            second,
            other,
        }
    }

    /// The first worker comes back with that of its grant.
    fn comes_back(&mut self, range: Range<u64>) {
        let still = Granted {
            range,
            ..self.granted.clone()
        };
        self.story.join(1, Some(self.first), node(1), vec![held(&still)]);
    }

    /// The first worker says that it ended that of its old grant.
    fn brings(&mut self, range: Range<u64>) {
        let done = vec![(self.granted.grant, vec![range])];
        self.story.report(self.first, self.job, done, SECOND);
    }

    /// The second worker says that it ended that.
    fn others_end(&mut self, range: Range<u64>) {
        let done = vec![(self.other.grant, vec![range])];
        self.story.report(self.second, self.job, done, SECOND);
    }
}

#[test]
fn what_a_worker_brings_back_is_stopped_elsewhere_once_it_is_durable() {
    let mut lost = Lost::new();
    lost.comes_back(40..100);
    lost.story.storage_slows_down();
    lost.brings(0..40);
    assert_eq!(lost.story.stops(lost.second), []);
    lost.story.storage_catches_up();
    assert_eq!(
        lost.story.stops(lost.second),
        [0..40],
        "where it was granted again"
    );
    assert_eq!(lost.story.stops(lost.first), []);
    lost.story.stops_unstarted(lost.second);
    lost.others_end(40..100);
    lost.story.storage_catches_up();
    assert_eq!(lost.story.view(lost.job).done, 100);
    assert_eq!(lost.story.outcome(lost.job), Some(Outcome::Succeeded));
}

#[test]
fn a_run_that_is_stopped_in_vain_is_no_failure() {
    let mut lost = Lost::new();
    lost.comes_back(1..100);
    lost.brings(0..1);
    assert_eq!(lost.story.stops(lost.second), [0..1]);
    lost.story.stops_killed(lost.second);
    lost.others_end(1..100);
    let view = lost.story.view(lost.job);
    assert_eq!((view.done, view.failed), (100, 0));
    assert_eq!(view.outcome, Some(Outcome::Succeeded));
}

#[test]
fn what_others_have_ended_is_stopped_on_the_one_who_returns() {
    let mut lost = Lost::new();
    lost.others_end(0..30);
    lost.comes_back(0..100);
    assert_eq!(lost.story.stops(lost.first), [0..30]);
}

#[test]
fn what_others_have_ended_at_the_front_does_not_cost_the_rest() {
    let mut lost = Lost::new();
    lost.others_end(0..30);
    lost.story.mail(lost.second).grants.clear();
    lost.story.lose(lost.second);
    lost.comes_back(0..100);
    assert_eq!(lost.story.stops(lost.first), [0..30]);
    assert_eq!(lost.story.revokes(lost.first), []);
    let (first, grants) = (lost.first, lost.story.grant_count());
    lost.story.stops_unstarted(first);
    assert_eq!(lost.story.grant_count(), grants, "it goes on with what it has");
    lost.brings(30..100);
    assert_eq!(lost.story.outcome(lost.job), Some(Outcome::Succeeded));
}

#[test]
fn a_task_that_runs_twice_is_stopped_where_it_has_not_ended_first() {
    for returned_is_first in [true, false] {
        let mut lost = Lost::new();
        lost.comes_back(0..100);
        let stale = lost.story.revokes(lost.first)[0];
        assert_eq!(stale.count, 100);
        // the first of them runs already, and nobody knows who is further on
        lost.story.returned(lost.first, stale, IndexRange::new(1, 100));
        assert_eq!(
            (lost.story.stops(lost.first), lost.story.stops(lost.second)),
            (vec![], vec![])
        );
        match returned_is_first {
            true => lost.brings(0..1),
            false => lost.others_end(0..1),
        }
        let stops = (lost.story.stops(lost.first), lost.story.stops(lost.second));
        let expected = match returned_is_first {
            true => (vec![], vec![0..1]),
            false => (vec![0..1], vec![]),
        };
        assert_eq!(stops, expected, "{returned_is_first}");
        let loser = if returned_is_first {
            lost.second
        } else {
            lost.first
        };
        lost.story.stops_killed(loser);
        lost.others_end(1..100);
        assert_eq!(lost.story.stops(lost.first), [], "it had given them back");
        let view = lost.story.view(lost.job);
        assert_eq!(
            (view.done, view.failed, view.outcome),
            (100, 0, Some(Outcome::Succeeded))
        );
    }
}

#[test]
fn a_front_that_others_run_is_not_run_by_the_one_who_returns() {
    let mut lost = Lost::new();
    // the second one has given up the tail: it waits again, behind what it holds
    let high = lost.story.submit(JobSpec {
        priority: 1,
        ..kernel_job(1)
    });
    let revoke = lost.story.revokes(lost.second)[0];
    lost.story.returned(lost.second, revoke, IndexRange::new(50, 100));
    lost.comes_back(0..100);
    let job = lost.job;
    let all = Revoked {
        job,
        grant: lost.granted.grant,
        count: 100,
    };
    assert!(
        lost.story.revokes(lost.first).contains(&all),
        "{:?}",
        lost.story.revokes(lost.first)
    );
    lost.story.returned(lost.first, all, IndexRange::new(1, 100));
    lost.others_end(0..50);
    assert_eq!(lost.story.stops(lost.first), [0..1]);
    lost.story.run_to_the_end(high, SECOND);
    lost.story.run_to_the_end(job, SECOND);
    assert_eq!(lost.story.outcome(job), Some(Outcome::Succeeded));
}

#[test]
fn cancelling_stops_both_runs_of_what_runs_on_the_one_who_returned() {
    let mut lost = Lost::new();
    lost.comes_back(0..100);
    let stale = lost.story.revokes(lost.first)[0];
    lost.story.returned(lost.first, stale, IndexRange::new(1, 100));
    lost.story.cancel_tasks_as("ada", false, lost.job, &[0..1]);
    let stops = (lost.story.stops(lost.first), lost.story.stops(lost.second));
    assert_eq!(stops, (vec![0..1], vec![0..1]));
}
