//! Opening and closing jobs.

use phalanx_protocol::message::host::{FromHost, Place, ToHost};
use phalanx_protocol::{Encoding, Gpu, GpuVendor, codec};

use crate::driver::{Driver, GATE, use_gate};

#[track_caller]
fn refusal(driver: &mut Driver) -> String {
    let answer = driver.receive();
    let FromHost::Refused { reason } = answer else {
        panic!("{answer:?}");
    };
    reason
}

#[test]
fn an_unknown_kernel_is_refused_with_a_list_of_those_there_are() {
    let mut driver = Driver::start();
    driver.open("cube", vec![], Encoding::Bincode, false, 1);
    let reason = refusal(&mut driver);
    assert!(
        reason.starts_with("the program has no kernel `cube`; it has `brittle`, `bulky`,"),
        "{reason}"
    );
    assert!(reason.contains("`square`"), "{reason}");
    driver.open("square", vec![], Encoding::Bincode, false, 1);
    assert_eq!(driver.receive(), FromHost::Ready, "the host is still of use");
}

#[test]
fn wrong_parameters_are_refused() {
    let mut driver = Driver::start();
    driver.open("scale", codec::encode(&7u8), Encoding::Bincode, false, 1);
    let reason = refusal(&mut driver);
    assert!(
        reason.starts_with("the parameters of kernel `scale` are no f64"),
        "{reason}"
    );
    driver.open("scale", b"\"x\"".to_vec(), Encoding::Json, false, 1);
    assert!(refusal(&mut driver).contains("invalid type: string"));
    driver.open("square", vec![1, 2], Encoding::Bincode, false, 1);
    assert!(refusal(&mut driver).contains("2 bytes follow"));
}

#[test]
fn a_kernel_without_a_merge_function_cannot_reduce() {
    let mut driver = Driver::start();
    driver.open("brittle", vec![], Encoding::Bincode, true, 1);
    assert!(refusal(&mut driver).contains("no function to merge"));
}

#[test]
fn grants_that_cross_a_refusal_are_passed_over() {
    let mut driver = Driver::start();
    driver.open("cube", vec![], Encoding::Bincode, false, 1);
    driver.send(&ToHost::SetSlots(1));
    driver.grant(1, 0..10);
    refusal(&mut driver);
    assert_eq!(driver.receive(), FromHost::Slots(1));
    driver.close();
}

#[test]
fn one_host_serves_one_job_after_the_other() {
    let mut driver = Driver::ready("square", &(), false, 2);
    driver.grant(1, 0..1000);
    driver.await_ended(1000);
    driver.close();
    driver.ended = Default::default();
    driver.open("scale", codec::encode(&2.0f64), Encoding::Bincode, false, 1);
    assert_eq!(driver.receive(), FromHost::Ready);
    driver.open("scale", codec::encode(&2.0f64), Encoding::Bincode, false, 1);
    assert!(
        driver
            .hang_up()
            .unwrap_err()
            .to_string()
            .contains("before the last one was closed")
    );
}

#[test]
fn another_number_of_cpus_makes_other_pools() {
    let mut driver = Driver::start();
    for cpus in [1, 3, 2] {
        driver.open("parallel", vec![], Encoding::Bincode, false, cpus);
        assert_eq!(driver.receive(), FromHost::Ready);
        driver.set_slots(2);
        driver.grant(u64::from(cpus), 0..20);
        let values = driver.await_ended(20).values::<usize>();
        assert!(
            values.values().all(|&threads| threads == cpus as usize),
            "{values:?}"
        );
        driver.close();
        driver.ended = Default::default();
    }
}

#[test]
fn no_slots_run_before_the_worker_allows_them() {
    let mut driver = Driver::start();
    driver.open("square", vec![], Encoding::Bincode, false, 1);
    assert_eq!(driver.receive(), FromHost::Ready);
    driver.grant(1, 0..10);
    assert_eq!(driver.revoke(1, 4), (6..10).into());
    assert_eq!(driver.ended.count(), 0);
    driver.set_slots(1);
    driver.await_ended(6);
}

#[test]
fn closing_cancels_what_runs_and_drops_the_rest() {
    let _gate = use_gate();
    let mut driver = Driver::ready("gated", &(), false, 2);
    driver.grant(1, 0..1_000_000);
    GATE.await_waiting(2);
    driver.send(&ToHost::Close);
    assert_eq!(
        driver.receive(),
        FromHost::Closed,
        "with nothing of the job behind or before it"
    );
    GATE.await_waiting(0);
    driver.open("square", vec![], Encoding::Bincode, false, 1);
    assert_eq!(driver.receive(), FromHost::Ready);
    driver.set_slots(1);
    driver.grant(2, 0..3);
    assert_eq!(
        driver
            .await_ended(3)
            .values::<u64>()
            .into_values()
            .collect::<Vec<_>>(),
        [0, 1, 4]
    );
}

#[test]
fn the_host_ends_with_its_worker_even_while_tasks_run() {
    let _gate = use_gate();
    let mut driver = Driver::ready("gated", &(), false, 2);
    driver.grant(1, 0..100);
    GATE.await_waiting(2);
    driver.hang_up().unwrap();
    GATE.await_waiting(0);
}

#[test]
fn garbage_ends_the_host_with_a_reason() {
    use std::io::Write;
    let mut driver = Driver::start();
    driver.stream.write_all(&[3, 0, 0, 0, 250, 1, 2]).unwrap();
    let mut end = Vec::new();
    std::io::Read::read_to_end(&mut driver.stream, &mut end).unwrap();
    assert!(driver.hang_up().unwrap_err().to_string().contains("no message"));
}

#[test]
fn a_kernel_knows_its_gpus_and_all_its_threads_run_on_its_cpus() {
    let mask = rustix::thread::sched_getaffinity(None).unwrap();
    let allowed = (0..1024).find(|&cpu| mask.is_set(cpu)).unwrap();
    let gpu = Gpu {
        vendor: GpuVendor::Amd,
        id: "3".to_owned(),
        kind: None,
    };
    let mut driver = Driver::start();
    driver.open("whereabouts", vec![], Encoding::Bincode, false, 3);
    assert_eq!(driver.receive(), FromHost::Ready);
    driver.send(&ToHost::AddPlaces(vec![Place {
        number: 1,
        cpus: vec![allowed as u32],
        gpus: vec![gpu],
    }]));
    driver.set_slots(1);
    driver.grant(1, 0..1);
    let values = driver.await_ended(1).values::<(Vec<String>, Vec<u32>)>();
    assert_eq!(values[&0], (vec!["3".to_owned()], vec![1; 3]));
    driver.send(&ToHost::SetSlots(0));
    assert_eq!(driver.receive_other(), FromHost::GaveUp(vec![1]));
    assert_eq!(driver.receive_other(), FromHost::Slots(0));
}
