//! Stories of a worker that stands still for a while.

use super::*;
use crate::agent::standstill::STANDSTILL;

/// A worker whose host runs a job of ten tasks.
fn busy() -> World {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    world.grant(J1, 1, range(0, 10));
    world
}

/// Time passes in which nothing happens here.
fn stand_still(world: &mut World, time: Duration) -> Vec<Effect> {
    world.now += time;
    world.hear(Input::Ticked)
}

fn pause(paused: bool) -> Effect {
    tell_host(H1, ToHost::Pause(paused))
}

#[test]
fn a_worker_that_stood_still_starts_nothing_until_it_has_joined_again_and_is_told_its_slots() {
    let mut world = busy();
    assert_eq!(
        stand_still(&mut world, STANDSTILL),
        [pause(true), Effect::EndSession]
    );
    // the old session's word for it is none
    assert_eq!(world.slots(J1, 2), []);
    world.hear(Input::Disconnected);
    assert_eq!(world.connect().len(), 1, "it says what it holds");
    let (job, grant) = (J1, grant(1));
    let revoke = ToWorker::Revoke { job, grant, count: 8 };
    let to_host = ToHost::Revoke { grant, count: 8 };
    assert_eq!(world.told(revoke), [tell_host(H1, to_host)]);
    assert_eq!(world.slots(J1, 2), [pause(false)]);
    assert_eq!(world.slots(J1, 2), [], "once");
}

#[test]
fn a_worker_stands_still_only_as_long_as_its_scheduler_waits_for_a_sign_of_it() {
    let mut world = busy();
    world.told(ToWorker::SilenceLimit { millis: 10_000 });
    assert_eq!(stand_still(&mut world, Duration::from_secs(9)), []);
    assert_eq!(
        stand_still(&mut world, Duration::from_secs(10)),
        [pause(true), Effect::EndSession]
    );
}

#[test]
fn a_worker_without_a_scheduler_goes_on_as_long_as_it_does_not_stand_still() {
    let mut world = busy();
    world.hear(Input::Disconnected);
    let end = world.now + 10 * STANDSTILL;
    while world.now < end {
        let due = world.agent.next_deadline().expect("it looks at the clock");
        assert!(due <= world.now + STANDSTILL / 4);
        let late = due - world.now + STANDSTILL / 2;
        let effects = stand_still(&mut world, late);
        assert_eq!(effects, [], "though it is late");
    }
}

#[test]
fn a_worker_that_holds_nothing_need_not_look_at_the_clock_and_never_stood_still() {
    let mut world = World::new();
    world.run(J1, 1, H1, 2);
    assert_eq!(world.agent.next_deadline(), None);
    assert_eq!(stand_still(&mut world, 10 * STANDSTILL), []);
}

#[test]
fn a_host_that_opens_a_suspended_job_starts_paused() {
    let mut world = World::new();
    world.open(J1, work());
    world.slots(J1, 1);
    world.grant(J1, 1, range(0, 10));
    assert_eq!(stand_still(&mut world, STANDSTILL), [Effect::EndSession]);
    world.hear(Input::Disconnected);
    world.prepared(J1, 1);
    let opened = world.hear(Input::HostStarted(H1));
    let paused = opened.iter().position(|effect| *effect == pause(true)).unwrap();
    let granted = grant_on(H1, 1, range(0, 10));
    assert!(paused < opened.iter().position(|effect| *effect == granted).unwrap());
    world.connect();
    assert_eq!(world.slots(J1, 1), [pause(false)]);
}

#[test]
fn a_job_goes_on_only_when_neither_a_standstill_nor_full_storage_holds_it_up() {
    let mut world = busy();
    let large = with_result(1, 0, 1, 1 << 17);
    world.host(H1, FromHost::Progress(large));
    let failed = Input::Written {
        job: J1,
        opening: Opening(1),
        name: None,
    };
    assert!(world.hear(failed) == [pause(true)]);
    assert_eq!(stand_still(&mut world, STANDSTILL)[0], Effect::EndSession);
    world.hear(Input::Disconnected);
    world.connect();
    assert_eq!(world.slots(J1, 2), [], "storage still fails");
    let name = Some("results/1".to_owned());
    let written = Input::Written {
        job: J1,
        opening: Opening(1),
        name,
    };
    assert!(world.hear(written) == [pause(false)]);
}
