//! Gpus and cpus that tasks have to themselves.

use bytes::Bytes;
use phalanx_protocol::command::Dialect;
use phalanx_protocol::message::host::{FromHost, HostCommand, Place, ToHost};
use phalanx_protocol::{Gpu, GpuVendor};

use super::{Shop, command, eventually, shell};

fn place(number: u32, vendor: GpuVendor, ids: &[&str]) -> Place {
    let gpu = |id: &&str| Gpu {
        vendor,
        id: (*id).to_owned(),
        kind: None,
    };
    Place {
        number,
        cpus: Vec::new(),
        gpus: ids.iter().map(gpu).collect(),
    }
}

/// What a task of that dialect finds of gpus in its environment, in order of names.
fn variables(dialect: Dialect, place: Place) -> String {
    let mut plan = shell("env | grep -E 'VISIBLE|DEVICE|GPU' | sort | tr '\\n' ' '");
    plan.dialect = dialect;
    for (name, value) in [("CUDA_VISIBLE_DEVICES", "9"), ("HIP_VISIBLE_DEVICES", "9")] {
        plan.environment.push((Bytes::from(name), Bytes::from(value)));
    }
    let mut shop = Shop::placed(&plan, command(), vec![place]);
    shop.driver.grant(1, 0..1);
    shop.driver.await_ended(1);
    shop.printed(0)
}

#[test]
fn a_task_is_told_its_gpus_by_the_variables_of_their_maker() {
    assert_eq!(
        variables(Dialect::Phalanx, place(1, GpuVendor::Nvidia, &["2", "5"])),
        "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=2,5 PHALANX_GPUS=2,5 "
    );
    assert_eq!(
        variables(Dialect::Phalanx, place(1, GpuVendor::Amd, &["2", "5"])),
        "HIP_VISIBLE_DEVICES=0,1 PHALANX_GPUS=2,5 ROCR_VISIBLE_DEVICES=2,5 "
    );
    let slurm = variables(Dialect::Slurm, place(1, GpuVendor::Unknown, &["3"]));
    assert_eq!(
        slurm,
        "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=3 HIP_VISIBLE_DEVICES=0 PHALANX_GPUS=3 \
         ROCR_VISIBLE_DEVICES=3 SLURM_GPUS_ON_NODE=1 SLURM_JOB_GPUS=3 SLURM_STEP_GPUS=3 "
    );
}

#[test]
fn a_task_without_gpus_sees_none_of_a_worker_that_gives_them_out() {
    let plan =
        shell("echo [${CUDA_VISIBLE_DEVICES-unset}] [${ROCR_VISIBLE_DEVICES-unset}] [${PHALANX_GPUS-unset}]");
    let seen = |worker_has_gpus| {
        let command = HostCommand {
            worker_has_gpus,
            ..command()
        };
        Shop::run(&plan, command).printed(0)
    };
    assert_eq!(seen(true), "[] [] [unset]\n");
    assert_eq!(seen(false), "[unset] [unset] [unset]\n");
}

#[test]
fn tasks_at_the_same_time_have_different_gpus_and_the_next_one_has_that_of_who_ended() {
    let folder = tempfile::tempdir().unwrap();
    // each says what it has and goes on until it is allowed to end
    let text = format!(
        "cd '{}'; echo $PHALANX_GPUS > has.$PHALANX_TASK_INDEX; mv has.$PHALANX_TASK_INDEX at.$PHALANX_TASK_INDEX
        while ! test -e end.$PHALANX_TASK_INDEX; do sleep 0.01; done",
        folder.path().display()
    );
    let nvidia = |number, id| place(number, GpuVendor::Nvidia, &[id]);
    let places = vec![nvidia(1, "0"), nvidia(2, "1")];
    let mut shop = Shop::placed(&shell(&text), command(), places);
    let has = |task: u64| {
        let path = folder.path().join(format!("at.{task}"));
        eventually("a task has begun", || path.exists());
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    };
    let end = |task: u64| std::fs::write(folder.path().join(format!("end.{task}")), "").unwrap();
    shop.driver.grant(1, 0..3);
    let (first, second) = (has(0), has(1));
    let mut both = [first.clone(), second.clone()];
    both.sort();
    assert_eq!(both, ["0", "1"]);
    end(1);
    assert_eq!(has(2), second);
    // whichever ends gives its place up
    shop.driver.send(&ToHost::SetSlots(1));
    end(2);
    let number = second.parse::<u32>().unwrap() + 1;
    assert_eq!(shop.driver.receive_other(), FromHost::GaveUp(vec![number]));
    assert_eq!(shop.driver.receive_other(), FromHost::Slots(1));
    end(0);
    shop.driver.grant(2, 3..4);
    assert_eq!(has(3), first);
    end(3);
    shop.driver.await_ended(4);
}

/// The cpus that this test may use.
fn allowed() -> Vec<u32> {
    let mask = rustix::thread::sched_getaffinity(None).unwrap();
    (0..1024).filter(|&cpu| mask.is_set(cpu as usize)).collect()
}

#[test]
fn a_pinned_task_runs_on_its_cpus_and_the_next_jobs_tasks_on_any() {
    let plan = shell("grep Cpus_allowed_list /proc/self/status | cut -f 2");
    let allowed = allowed();
    let mine = *allowed.last().unwrap();
    let pinned = Place {
        number: 1,
        cpus: vec![mine],
        gpus: Vec::new(),
    };
    let mut shop = Shop::placed(&plan, command(), vec![pinned]);
    shop.driver.grant(1, 0..1);
    shop.driver.await_ended(1);
    assert_eq!(shop.printed(0), format!("{mine}\n"));
    shop.driver.close();
    shop.reopen(&plan, command());
    shop.driver.grant(2, 1..2);
    shop.driver.await_ended(2);
    let all = std::fs::read_to_string("/proc/self/status").unwrap();
    let all = all
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
    assert_eq!(shop.printed(1).trim(), all.unwrap());
}
