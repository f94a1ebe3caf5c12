//! Bugs on purpose: a simulator that does not find them would not find others either.

use phalanx_scheduler_core::{Core, PlantedBug};
use phalanx_sim::{Limits, run_with};

/// Which invariant's name the first violation within a few seeds carries.
fn found(make_core: fn(phalanx_protocol::Term) -> Core) -> String {
    std::panic::set_hook(Box::new(|_| {}));
    for seed in 0..60 {
        if let Err(panic) = std::panic::catch_unwind(|| run_with(seed, &Limits::default(), make_core)) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            return text.unwrap_or_default();
        }
    }
    "nothing".to_owned()
}

#[test]
fn an_acknowledgement_before_durability_is_found() {
    let found = found(|term| Core::with_bug(term, PlantedBug::AcknowledgesAtOnce));
    assert!(found.contains("KEEP"), "found {found}");
}

#[test]
fn a_returned_range_that_stays_in_its_grant_is_found() {
    let found = found(|term| Core::with_bug(term, PlantedBug::KeepsReturnedRange));
    assert!(found.contains("ONCE"), "found {found}");
}

#[test]
fn a_lost_worker_whose_tasks_do_not_wait_again_is_found() {
    let found = found(|term| Core::with_bug(term, PlantedBug::ForgetsLostTasks));
    assert!(found.contains("ONCE") || found.contains("LIVE"), "found {found}");
}

#[test]
fn a_repeated_report_that_counts_twice_is_found() {
    let found = found(|term| Core::with_bug(term, PlantedBug::CountsRepetitions));
    assert!(found.contains("ONCE"), "found {found}");
}
