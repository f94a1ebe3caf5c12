//! The variables that a script gets from its submission.

use std::collections::BTreeMap;

use bytes::Bytes;
use phalanx::Surroundings;
use phalanx_storage::ProcessMark;

use super::super::nodes::PARTITION;
use super::super::{Complaint, home, needs};
use super::shape::{Shape, by_node};
use crate::batch::settings::{BatchSettings, Memory};
use crate::batch::values::Gres;

/// The variables that a job gets when nothing else of its submission is to be passed on.
const KEPT_VARIABLES: [&str; 8] = [
    "HOME", "USER", "LOGNAME", "SHELL", "PATH", "TMPDIR", "LANG", "TERM",
];

/// The variables that the script gets, apart from those that only its worker knows.
pub(super) fn environment(
    settings: &BatchSettings,
    found: &Surroundings,
    name: &str,
    shape: Shape,
    submitted_in: &str,
) -> Result<Vec<(Bytes, Bytes)>, Complaint> {
    let export = settings.export.as_ref();
    let passes_all = export.is_none_or(|export| export.all);
    let is_passed =
        |name: &Bytes| passes_all || KEPT_VARIABLES.iter().any(|kept| kept.as_bytes() == &name[..]);
    let mut variables: BTreeMap<Bytes, Bytes> = found
        .environment
        .iter()
        .filter(|(name, _)| is_passed(name))
        .cloned()
        .collect();
    // what this job is submitted from may be a job itself
    variables.retain(|name, _| !name.starts_with(b"SLURM_") && !name.starts_with(b"PHALANX_"));
    for (name, value) in export.map_or(&[][..], |export| &export.named) {
        let name = Bytes::copy_from_slice(name.as_bytes());
        let now = found
            .environment
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.clone());
        let value = value
            .as_ref()
            .map(|value| Bytes::copy_from_slice(value.as_bytes()))
            .or(now);
        if let Some(value) = value {
            variables.insert(name, value);
        }
    }
    let mut set = |name: &str, value: String| {
        variables.insert(Bytes::copy_from_slice(name.as_bytes()), Bytes::from(value));
    };
    set("PHALANX_CLUSTER", home::directory()?);
    set("SLURM_JOB_NAME", name.to_owned());
    set("SLURM_SUBMIT_DIR", submitted_in.to_owned());
    set("SLURM_SUBMIT_HOST", ProcessMark::of_this_process().host);
    set("SLURM_CLUSTER_NAME", "phalanx".to_owned());
    set(
        "SLURM_JOB_PARTITION",
        settings.partition.clone().unwrap_or_else(|| PARTITION.to_owned()),
    );
    for name in ["SLURM_JOB_NUM_NODES", "SLURM_NNODES"] {
        set(name, shape.nodes.to_string());
    }
    set("SLURM_TASKS_PER_NODE", by_node(shape.ranks_by_node()));
    // as under Slurm they are there if somebody has said how many, so that a step may say it too
    if settings.ntasks.or(settings.ntasks_per_node).is_some() {
        for name in ["SLURM_NTASKS", "SLURM_NPROCS"] {
            set(name, shape.ranks.to_string());
        }
    }
    set("ENVIRONMENT", "BATCH".to_owned());
    let cpus = std::iter::repeat_n(shape.cpus_per_node(), shape.nodes as usize);
    set("SLURM_JOB_CPUS_PER_NODE", by_node(cpus));
    set("SLURM_JOB_UID", rustix::process::getuid().as_raw().to_string());
    set("SLURM_JOB_GID", rustix::process::getgid().as_raw().to_string());
    if let Some(cpus) = settings.cpus_per_task {
        set("SLURM_CPUS_PER_TASK", cpus.to_string());
    }
    if let Some(per_node) = settings.ntasks_per_node {
        set("SLURM_NTASKS_PER_NODE", per_node.to_string());
    }
    match settings.memory {
        Some(Memory::PerNode(bytes)) => set("SLURM_MEM_PER_NODE", mebibytes(bytes)),
        Some(Memory::PerCpu(bytes)) => set("SLURM_MEM_PER_CPU", mebibytes(bytes)),
        Some(Memory::PerGpu(bytes)) => set("SLURM_MEM_PER_GPU", mebibytes(bytes)),
        Some(Memory::WholeNode) | None => {}
    }
    let counted = |gpus: &[Gres]| gpus.iter().map(|gres| gres.count).sum::<u64>().to_string();
    for (name, gpus) in [
        ("SLURM_GPUS", &settings.gpus),
        ("SLURM_GPUS_PER_NODE", &settings.gpus_per_node),
        ("SLURM_GPUS_PER_TASK", &settings.gpus_per_task),
    ] {
        if !gpus.is_empty() {
            set(name, counted(gpus));
        }
    }
    let gpus = needs::gpus(settings, shape);
    if !gpus.is_empty() {
        set("SLURM_GPUS_ON_NODE", counted(&gpus));
    }
    for (variable, option) in [
        ("SLURM_JOB_ACCOUNT", "account"),
        ("SLURM_JOB_QOS", "qos"),
        ("SLURM_JOB_RESERVATION", "reservation"),
    ] {
        if let Some(value) = settings.recorded(option) {
            set(variable, value.to_owned());
        }
    }
    let awaited = settings.dependency.iter();
    awaited.for_each(|dependency| set("SLURM_JOB_DEPENDENCY", dependency.to_string()));
    if let Some(user) = std::env::var_os("USER") {
        set("SLURM_JOB_USER", user.to_string_lossy().into_owned());
    }
    if settings.pbs {
        for (name, value) in pbs_variables(settings, found, shape, submitted_in) {
            set(name, value);
        }
    }
    Ok(variables.into_iter().collect())
}

/// What a script that speaks PBS finds of its submission.
fn pbs_variables(
    settings: &BatchSettings,
    found: &Surroundings,
    shape: Shape,
    submitted_in: &str,
) -> Vec<(&'static str, String)> {
    let partition = settings.partition.as_deref().unwrap_or(PARTITION);
    let mut variables = vec![
        ("PBS_ENVIRONMENT", "PBS_BATCH".to_owned()),
        ("PBS_O_WORKDIR", submitted_in.to_owned()),
        ("PBS_O_HOST", ProcessMark::of_this_process().host),
        ("PBS_O_QUEUE", partition.to_owned()),
        ("PBS_QUEUE", partition.to_owned()),
        ("PBS_NUM_NODES", shape.nodes.to_string()),
        ("PBS_NUM_PPN", shape.cpus_per_node().to_string()),
        (
            "PBS_NP",
            shape.cpus_per_node().saturating_mul(shape.nodes).to_string(),
        ),
        ("NCPUS", shape.cpus_per_node().to_string()),
    ];
    for (name, of_submission) in [
        ("PBS_O_HOME", "HOME"),
        ("PBS_O_PATH", "PATH"),
        ("PBS_O_LOGNAME", "USER"),
        ("PBS_O_SHELL", "SHELL"),
        ("PBS_O_LANG", "LANG"),
    ] {
        let mut known = found.environment.iter();
        if let Some((_, value)) = known.find(|(known, _)| &known[..] == of_submission.as_bytes()) {
            variables.push((name, String::from_utf8_lossy(value).into_owned()));
        }
    }
    variables
}

fn mebibytes(bytes: u64) -> String {
    (bytes >> 20).to_string()
}
