//! Bugs on purpose: a simulator that does not find them would not find others either.

use phalanx_scheduler_core::{Core, PlantedBug};
use phalanx_sim::{Climate, Limits, MakeCore, Planted, run_with};

/// Seeds within which a bug must be found.
const SEEDS_MAX: u64 = 1000;
/// Events after which a seed has not found it: nearly all are over before.
const STEPS_MAX: u64 = 30_000;

/// The first violation must be of one of the invariants.
#[track_caller]
fn check(climate: Climate, make_core: Option<MakeCore>, planted: Planted, invariants: &[&str]) {
    std::panic::set_hook(Box::new(|_| {}));
    let limits = Limits {
        climate,
        steps_max: STEPS_MAX,
    };
    for seed in 0..SEEDS_MAX {
        let run = || run_with(seed, &limits, make_core, planted);
        let Err(panic) = std::panic::catch_unwind(run) else {
            continue;
        };
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let found = text.unwrap_or_default();
        drop(std::panic::take_hook());
        let named = invariants.iter().any(|name| found.contains(name));
        assert!(named, "found, with seed {seed}: {found}");
        return;
    }
    drop(std::panic::take_hook());
    panic!("not found within {SEEDS_MAX} seeds");
}

#[track_caller]
fn core_with(make_core: MakeCore, invariants: &[&str]) {
    check(Climate::Any, Some(make_core), Planted::Nothing, invariants);
}

#[track_caller]
fn cluster_with(planted: Planted, climate: Climate, invariants: &[&str]) {
    check(climate, None, planted, invariants);
}

#[test]
fn an_acknowledgement_before_durability_is_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::AcknowledgesAtOnce),
        &["KEEP"],
    );
}

#[test]
fn a_command_that_starts_before_its_job_is_durable_is_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::GrantsUnrecorded),
        &["KEEP"],
    );
}

#[test]
fn a_returned_range_that_stays_in_its_grant_is_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::KeepsReturnedRange),
        &["ONCE"],
    );
}

#[test]
fn a_lost_worker_whose_tasks_do_not_wait_again_is_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::ForgetsLostTasks),
        &["ONCE", "LIVE"],
    );
}

#[test]
fn a_gang_that_is_placed_in_part_is_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::PlacesPartOfGang),
        &["GANG"],
    );
}

#[test]
fn a_gang_that_goes_on_with_some_ranks_of_an_earlier_start_is_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::RestartsLostRanksAlone),
        &["GANG"],
    );
}

#[test]
fn ranks_that_start_again_alone_without_a_record_are_found() {
    core_with(|term| Core::with_bug(term, PlantedBug::ForgetsRespawn), &["GANG"]);
}

#[test]
fn ranks_that_are_lost_without_a_record_are_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::ForgetsLostRanks),
        &["ONCE", "LIVE"],
    );
}

#[test]
fn a_repeated_report_that_counts_twice_is_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::CountsRepetitions),
        &["ONCE"],
    );
}

#[test]
fn a_task_that_waits_though_its_twin_runs_is_found() {
    core_with(|term| Core::with_bug(term, PlantedBug::RequeuesTwins), &["ONCE"]);
}

#[test]
fn a_task_that_counts_for_both_of_its_twins_is_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::CountsBothTwins),
        &["ONCE"],
    );
}

#[test]
fn speculation_on_every_idle_slot_is_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::SpeculatesWithoutLimit),
        &["SLOT"],
    );
}

#[test]
fn a_core_snapshot_without_a_job_is_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::SnapshotLosesJob),
        &["KEEP"],
    );
}

#[test]
fn a_job_that_goes_on_without_some_of_its_tasks_is_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::ReopenForgetsTask),
        &["ONCE", "KEEP", "LIVE", "BLAME"],
    );
}

#[test]
fn cancelled_tasks_that_nobody_writes_down_are_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::ForgetsCancelledTasks),
        &["KEEP"],
    );
}

#[test]
fn cancelled_tasks_that_run_all_the_same_are_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::RunsCancelledTasks),
        &["ONCE"],
    );
}

#[test]
fn a_death_that_nobody_is_blamed_for_is_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::BlamesNobody),
        &["BLAME", "LIVE"],
    );
}

#[test]
fn suspects_that_run_together_are_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::SuspectsMingle),
        &["BLAME"],
    );
}

#[test]
fn tasks_that_are_run_again_without_end_are_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::RetriesForever),
        &["BLAME", "LIVE"],
    );
}

#[test]
fn a_drained_worker_that_keeps_what_it_has_not_started_is_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::DrainKeepsBacklog),
        &["LIVE"],
    );
}

#[test]
fn a_new_leader_that_awaits_no_workers_is_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::AwaitsNobody),
        &["ONCE", "GANG", "KEEP"],
    );
}

#[test]
fn a_job_that_starts_whatever_it_waits_for_is_found() {
    core_with(|term| Core::with_bug(term, PlantedBug::WaitsForNobody), &["GATE"]);
}

#[test]
fn a_job_that_gets_more_slots_than_it_allows_is_found() {
    core_with(
        |term| Core::with_bug(term, PlantedBug::ForgetsSlotsMax),
        &["SLOT"],
    );
}

#[test]
fn a_job_that_runs_where_it_may_not_is_found() {
    core_with(|term| Core::with_bug(term, PlantedBug::ForgetsChoice), &["SLOT"]);
}

#[test]
fn a_new_leader_that_reads_void_slots_is_found() {
    cluster_with(Planted::IgnoresVoidRule, Climate::Takeovers, &["TERM"]);
}

#[test]
fn a_new_leader_that_leaves_gaps_is_found() {
    cluster_with(Planted::ServesWithHoles, Climate::Takeovers, &["TERM"]);
}

#[test]
fn a_void_slot_that_is_taken_for_ones_own_is_found() {
    cluster_with(Planted::CountsVoidSlot, Climate::Takeovers, &["TERM"]);
}

#[test]
fn acknowledgements_out_of_slot_order_are_found() {
    cluster_with(Planted::AcknowledgesOutOfOrder, Climate::Takeovers, &["TERM"]);
}

#[test]
fn a_deposed_leader_that_goes_on_is_found() {
    cluster_with(Planted::NeverStandsDown, Climate::Takeovers, &["TERM"]);
}

#[test]
fn a_leader_that_sleeps_through_the_deletion_of_its_log_is_found() {
    cluster_with(Planted::SleepsUnguarded, Climate::Deletion, &["TERM"]);
}

#[test]
fn torn_objects_that_are_taken_for_whole_are_found() {
    cluster_with(Planted::SkipsChecksums, Climate::Takeovers, &["TERM", "KEEP"]);
}

#[test]
fn a_log_that_is_given_up_behind_a_torn_slot_is_found() {
    cluster_with(Planted::StopsAtTornSlot, Climate::Takeovers, &["TERM"]);
}

#[test]
fn a_snapshot_without_a_job_is_found() {
    cluster_with(Planted::SnapshotsForgetJob, Climate::Takeovers, &["KEEP"]);
}

#[test]
fn workers_that_obey_a_deposed_leader_are_found() {
    cluster_with(Planted::WorkersIgnoreTerms, Climate::Takeovers, &["TERM", "GANG"]);
}
