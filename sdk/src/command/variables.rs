//! The variables of a task: those of its submission, and what it wants to know of itself.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use phalanx_protocol::command::{Dialect, INDEX_VARIABLE, element_number};
use phalanx_protocol::message::host::{HOST_MARK_VARIABLE, HostCommand, Place};
use phalanx_protocol::{CommandPlan, Gpu, GpuVendor, JobId, Sharing};

use super::Attempt;
use super::program::{Environment, Program};

/// The gpus that CUDA's and AMD's libraries see.
const CUDA: &str = "CUDA_VISIBLE_DEVICES";
const ROCR: &str = "ROCR_VISIBLE_DEVICES";
const HIP: &str = "HIP_VISIBLE_DEVICES";

/// What all tasks of a job have.
#[derive(Debug)]
pub(super) struct Variables {
    job: JobId,
    worker: String,
    dialect: Dialect,
    common: Environment,
    worker_has_gpus: bool,
    time_limit: Option<Duration>,
}

impl Variables {
    pub(super) fn new(job: JobId, command: &HostCommand, plan: &CommandPlan) -> Self {
        let mut common = Environment::default();
        for (name, value) in &plan.environment {
            common.set(OsStr::from_bytes(name), OsStr::from_bytes(value));
        }
        let mut set = |name: &str, value: String| common.set(name, value);
        let request = &command.request;
        set("PHALANX_JOB_ID", job.to_string());
        set("PHALANX_JOB_NAME", plan.name.clone());
        set("PHALANX_WORKER", command.worker.clone());
        set("PHALANX_CPUS", request.cpus.to_string());
        if request.memory_bytes > 0 {
            set("PHALANX_MEMORY_BYTES", request.memory_bytes.to_string());
        }
        let array = command.array.as_ref();
        match plan.dialect {
            Dialect::Phalanx => {}
            Dialect::Slurm | Dialect::Pbs => {
                for name in [
                    "SLURMD_NODENAME",
                    "SLURM_JOB_NODELIST",
                    "SLURM_NODELIST",
                    "SLURM_TOPOLOGY_ADDR",
                ] {
                    set(name, command.worker.clone());
                }
                for name in ["SLURM_NODEID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_GTIDS"] {
                    set(name, "0".to_owned());
                }
                let cpus = match request.sharing {
                    Sharing::Anybody | Sharing::OwnJob => request.cpus,
                    Sharing::Nobody => command.worker_cpus,
                };
                set("SLURM_CPUS_ON_NODE", cpus.to_string());
                if let Some(array) = array {
                    let (first, last) = array.bounds();
                    set("SLURM_ARRAY_JOB_ID", job.to_string());
                    set("SLURM_ARRAY_TASK_COUNT", array.count().to_string());
                    set("SLURM_ARRAY_TASK_MIN", first.to_string());
                    set("SLURM_ARRAY_TASK_MAX", last.to_string());
                    set("SLURM_ARRAY_TASK_STEP", array.step().to_string());
                }
            }
        }
        match plan.dialect {
            Dialect::Phalanx | Dialect::Slurm => {}
            Dialect::Pbs => {
                set("PBS_JOBNAME", plan.name.clone());
                set("PBS_NODENUM", "0".to_owned());
                set("PBS_TASKNUM", "1".to_owned());
            }
        }
        if let Some(mark) = std::env::var_os(HOST_MARK_VARIABLE) {
            common.set(HOST_MARK_VARIABLE, mark);
        }
        Self {
            job,
            worker: command.worker.clone(),
            dialect: plan.dialect,
            common,
            worker_has_gpus: command.worker_has_gpus,
            time_limit: command.task_time_limit_millis.map(Duration::from_millis),
        }
    }

    /// Gives a task its variables, and no others.
    pub(super) fn set<'a>(
        &'a self,
        program: &mut Program<'a>,
        index: u64,
        number: Option<u64>,
        item: Option<&[u8]>,
        attempt: Attempt,
        restarts: u32,
    ) {
        let Self {
            job, dialect, common, ..
        } = self;
        program.share(common);
        program
            .env(INDEX_VARIABLE, index.to_string())
            .env("PHALANX_TASK_ID", format!("{job}.{index}"))
            .env("PHALANX_ATTEMPT", attempt.to_string())
            .env("PHALANX_RESTART_COUNT", restarts.to_string());
        if let Some(number) = number {
            program.env("PHALANX_ARRAY_TASK_ID", number.to_string());
        }
        if let Some(item) = item {
            program.env("PHALANX_ITEM", OsStr::from_bytes(item));
        }
        let own = match number {
            Some(_) => element_number(*job, index).to_string(),
            None => job.to_string(),
        };
        match dialect {
            Dialect::Phalanx => {}
            Dialect::Slurm | Dialect::Pbs => {
                program.env("SLURM_JOB_ID", &own).env("SLURM_JOBID", &own);
                program.tell_pid("SLURM_TASK_PID");
                if let Some(number) = number {
                    program.env("SLURM_ARRAY_TASK_ID", number.to_string());
                }
                let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                program.env("SLURM_JOB_START_TIME", began.as_secs().to_string());
                // that of the job in which this one was submitted is none of its own
                match self.time_limit.and_then(|limit| began.checked_add(limit)) {
                    Some(end) => program.env("SLURM_JOB_END_TIME", end.as_secs().to_string()),
                    None => program.env_remove("SLURM_JOB_END_TIME"),
                };
                if restarts > 0 {
                    program.env("SLURM_RESTART_COUNT", restarts.to_string());
                }
            }
        }
        match dialect {
            Dialect::Phalanx | Dialect::Slurm => {}
            Dialect::Pbs => {
                program.env("PBS_JOBID", own);
                if let Some(number) = number {
                    program
                        .env("PBS_ARRAY_INDEX", number.to_string())
                        .env("PBS_ARRAYID", number.to_string());
                }
            }
        }
    }
}

impl Variables {
    /// Tells a program of a step that is not on the node of its script what only its own node knows.
    pub(super) fn set_of_node(&self, program: &mut Program<'_>, task: u64) {
        program
            .env(INDEX_VARIABLE, task.to_string())
            .env("PHALANX_TASK_ID", format!("{}.{task}", self.job))
            .env("PHALANX_WORKER", &self.worker)
            .env("SLURMD_NODENAME", &self.worker)
            .env("SLURM_TOPOLOGY_ADDR", &self.worker);
        if let Some(mark) = std::env::var_os(HOST_MARK_VARIABLE) {
            program.env(HOST_MARK_VARIABLE, mark);
        }
    }

    /// Tells a task its gpus by the variables that their makers' libraries read, whatever these were at submission. A task
    /// without any sees none on a worker that gives them out.
    pub(super) fn set_place(&self, program: &mut Program<'_>, place: Option<&Place>) {
        let gpus = place.map_or(&[][..], |place| &place.gpus);
        if gpus.is_empty() {
            if self.worker_has_gpus {
                program.env(CUDA, "").env(ROCR, "").env_remove(HIP);
            }
            return;
        }
        let of = |vendor: GpuVendor| {
            let is_of = |gpu: &&Gpu| [vendor, GpuVendor::Unknown].contains(&gpu.vendor);
            let ids: Vec<&str> = gpus.iter().filter(is_of).map(|gpu| gpu.id.as_str()).collect();
            (!ids.is_empty()).then_some(ids)
        };
        let mut set = |name: &'static str, value: Option<String>| match value {
            Some(value) => drop(program.env(name, value)),
            None => drop(program.env_remove(name)),
        };
        set(CUDA, of(GpuVendor::Nvidia).map(|ids| ids.join(",")));
        // as workers count them
        set(
            "CUDA_DEVICE_ORDER",
            of(GpuVendor::Nvidia).map(|_| "PCI_BUS_ID".to_owned()),
        );
        let amd = of(GpuVendor::Amd);
        set(ROCR, amd.as_ref().map(|ids| ids.join(",")));
        // it counts what the other one leaves
        let counted = |ids: Vec<&str>| (0..ids.len()).map(|index| index.to_string()).collect::<Vec<_>>();
        set(HIP, amd.map(|ids| counted(ids).join(",")));
        let all: Vec<&str> = gpus.iter().map(|gpu| gpu.id.as_str()).collect();
        let (all, count) = (all.join(","), gpus.len().to_string());
        set("PHALANX_GPUS", Some(all.clone()));
        match self.dialect {
            Dialect::Phalanx | Dialect::Pbs => {}
            Dialect::Slurm => {
                set("SLURM_JOB_GPUS", Some(all.clone()));
                set("SLURM_STEP_GPUS", Some(all));
                set("SLURM_GPUS_ON_NODE", Some(count));
            }
        }
    }
}
