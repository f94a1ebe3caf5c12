//! What `scontrol` shows of the cluster itself: nodes, the partition, what programs look up in its configuration.

use std::collections::BTreeMap;

use phalanx::WorkerView;
use phalanx_protocol::{Amount, Resources};

use super::super::nodes::{NodeState, PARTITION, mebibytes, node_list};
use super::super::{Complaint, home, nodes};
use super::{Layout, Sheet};
use crate::batch::array::ARRAY_ID_MAX;
use crate::process::runtime;
use crate::ui::print_line;
use phalanx_protocol::hostlist;

/// How long `squeue` shows a job that has ended, in seconds (Slurm's MinJobAge).
pub(in crate::slurm) const MIN_JOB_AGE_SECONDS: u64 = 300;

/// All workers.
fn workers() -> Result<Vec<WorkerView>, Complaint> {
    runtime()?.block_on(async {
        let cluster = home::connected().await?;
        let workers = cluster.client.workers().await?;
        cluster.client.close().await;
        Ok(workers)
    })
}

pub(super) fn ping() -> Result<u8, Complaint> {
    workers()?;
    print_line("Slurmctld(primary) is UP")?;
    Ok(0)
}

/// `show node [LIST]`.
pub(super) fn nodes(rest: &[&str], layout: Layout) -> Result<u8, Complaint> {
    let workers = workers()?;
    let wanted = hostlist::expand(&rest.join(",")).map_err(|error| Complaint::new(error.to_string()))?;
    let unknown = wanted
        .iter()
        .find(|name| !workers.iter().any(|worker| worker.name == **name));
    if let Some(name) = unknown {
        return Err(Complaint::new(format!(
            "Node {name} not found; sinfo lists those that there are"
        )));
    }
    let shown = workers
        .iter()
        .filter(|worker| wanted.is_empty() || wanted.contains(&worker.name));
    for worker in shown {
        print_line(&layout.render(&node_sheet(worker)))?;
    }
    Ok(0)
}

fn node_sheet(worker: &WorkerView) -> Sheet {
    let WorkerView {
        name, capacity, free, ..
    } = worker;
    let used = used(worker);
    let null = || "(null)".to_owned();
    let address = worker
        .address
        .rsplit_once(':')
        .map_or(worker.address.as_str(), |(host, _)| host);
    vec![
        vec![
            ("NodeName", name.clone()),
            ("Arch", std::env::consts::ARCH.to_owned()),
            ("CoresPerSocket", capacity.cpus.to_string()),
        ],
        vec![
            ("CPUAlloc", used.cpus.to_string()),
            ("CPUEfctv", capacity.cpus.to_string()),
            ("CPUTot", capacity.cpus.to_string()),
            ("CPULoad", "N/A".to_owned()),
        ],
        vec![("AvailableFeatures", null())],
        vec![("ActiveFeatures", null())],
        vec![("Gres", nodes::gres(&capacity.named).unwrap_or_else(null))],
        vec![
            ("NodeAddr", address.to_owned()),
            ("NodeHostName", name.clone()),
            (
                "Version",
                concat!("phalanx-", env!("CARGO_PKG_VERSION")).to_owned(),
            ),
        ],
        vec![
            ("RealMemory", mebibytes(capacity.memory_bytes).to_string()),
            ("AllocMem", mebibytes(used.memory_bytes).to_string()),
            ("FreeMem", mebibytes(free.memory_bytes).to_string()),
            ("Sockets", "1".to_owned()),
            ("Boards", "1".to_owned()),
        ],
        vec![
            ("State", state_text(worker)),
            ("ThreadsPerCore", "1".to_owned()),
            ("TmpDisk", "0".to_owned()),
            ("Weight", "1".to_owned()),
            ("Owner", "N/A".to_owned()),
            ("MCS_label", "N/A".to_owned()),
        ],
        vec![("Partitions", PARTITION.to_owned())],
        vec![("CfgTRES", tres(capacity, None))],
        vec![(
            "AllocTRES",
            if worker.jobs.is_empty() {
                String::new()
            } else {
                tres(&used, None)
            },
        )],
    ]
}

/// What jobs hold of a worker.
fn used(worker: &WorkerView) -> Resources {
    let WorkerView { capacity, free, .. } = worker;
    let named: BTreeMap<String, Amount> = capacity
        .named
        .iter()
        .map(|(name, count)| {
            let free = free.named.get(name).copied().unwrap_or_default();
            (name.clone(), count.saturating_sub(free))
        })
        .collect();
    Resources {
        cpus: capacity.cpus.saturating_sub(free.cpus),
        memory_bytes: capacity.memory_bytes.saturating_sub(free.memory_bytes),
        named,
    }
}

/// `MIXED+DRAIN`: what it does, and whether it was told to leave.
fn state_text(worker: &WorkerView) -> String {
    let working = WorkerView {
        draining: false,
        ..worker.clone()
    };
    let state = NodeState::of(&working).name().to_ascii_uppercase();
    match worker.draining {
        true => format!("{state}+DRAIN"),
        false => state,
    }
}

/// `cpu=8,mem=16000M,node=2,billing=8,gres/gpu=2`.
fn tres(resources: &Resources, nodes: Option<usize>) -> String {
    let Resources {
        cpus,
        memory_bytes,
        named,
    } = resources;
    let mut texts = vec![
        format!("cpu={cpus}"),
        format!("mem={}M", mebibytes(*memory_bytes)),
    ];
    texts.extend(nodes.map(|count| format!("node={count}")));
    texts.push(format!("billing={cpus}"));
    texts.extend(named.iter().map(|(name, count)| format!("gres/{name}={count}")));
    texts.join(",")
}

/// `show partition [NAME]`.
pub(super) fn partitions(rest: &[&str], layout: Layout) -> Result<u8, Complaint> {
    if let Some(name) = rest.iter().find(|name| **name != PARTITION) {
        return Err(Complaint::new(format!(
            "Partition {name} not found; there is one, {PARTITION}, which jobs of every partition run in"
        )));
    }
    print_line(&layout.render(&partition_sheet(&workers()?)))?;
    Ok(0)
}

fn partition_sheet(workers: &[WorkerView]) -> Sheet {
    let mut all = Resources::default();
    for worker in workers {
        all.cpus = all.cpus.saturating_add(worker.capacity.cpus);
        all.memory_bytes = all.memory_bytes.saturating_add(worker.capacity.memory_bytes);
        for (name, count) in &worker.capacity.named {
            let sum = all.named.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
    let text = str::to_owned;
    vec![
        vec![("PartitionName", text(PARTITION))],
        vec![
            ("AllowGroups", text("ALL")),
            ("AllowAccounts", text("ALL")),
            ("AllowQos", text("ALL")),
        ],
        vec![
            ("AllocNodes", text("ALL")),
            ("Default", text("YES")),
            ("QoS", text("N/A")),
        ],
        vec![
            ("DefaultTime", text("NONE")),
            ("DisableRootJobs", text("NO")),
            ("ExclusiveUser", text("NO")),
            ("GraceTime", text("0")),
            ("Hidden", text("NO")),
        ],
        vec![
            ("MaxNodes", text("UNLIMITED")),
            ("MaxTime", text("UNLIMITED")),
            ("MinNodes", text("1")),
            ("LLN", text("NO")),
            ("MaxCPUsPerNode", text("UNLIMITED")),
        ],
        vec![("Nodes", node_list(workers))],
        vec![
            ("PriorityJobFactor", text("1")),
            ("PriorityTier", text("1")),
            ("RootOnly", text("NO")),
            ("ReqResv", text("NO")),
            ("OverSubscribe", text("NO")),
        ],
        vec![("OverTimeLimit", text("NONE")), ("PreemptMode", text("OFF"))],
        vec![
            ("State", text("UP")),
            ("TotalCPUs", all.cpus.to_string()),
            ("TotalNodes", workers.len().to_string()),
            ("SelectTypeParameters", text("NONE")),
        ],
        vec![("JobDefaults", text("(null)"))],
        vec![
            ("DefMemPerNode", text("UNLIMITED")),
            ("MaxMemPerNode", text("UNLIMITED")),
        ],
        vec![("TRES", tres(&all, Some(workers.len())))],
    ]
}

/// `show config`: what is known to be looked up.
pub(super) fn config() -> Result<u8, Complaint> {
    let directory = home::directory()?;
    let settings = [
        ("AccountingStorageType", "accounting_storage/slurmdbd".to_owned()),
        ("ClusterName", PARTITION.to_owned()),
        ("KillWait", "30 sec".to_owned()),
        ("MaxArraySize", ARRAY_ID_MAX.to_string()),
        ("MinJobAge", format!("{MIN_JOB_AGE_SECONDS} sec")),
        ("SelectType", "select/cons_tres".to_owned()),
        ("SLURM_CONF", directory),
        (
            "SLURM_VERSION",
            concat!("phalanx ", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
    ];
    print_line(&format!(
        "Configuration data as of {}",
        super::super::clock::show(super::super::clock::now_millis())
    ))?;
    for (name, value) in settings {
        print_line(&format!("{name:<23} = {value}"))?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::views::tests::worker_view;

    #[test]
    fn a_node_shows_what_it_has_and_what_is_used() {
        let text = Layout::Lines.render(&node_sheet(&worker_view()));
        for line in [
            "NodeName=node7 Arch=",
            "CPUAlloc=2 CPUEfctv=8 CPUTot=8 ",
            "Gres=gpu:2\n",
            "NodeAddr=10.0.0.7 NodeHostName=node7 ",
            "RealMemory=16384 AllocMem=1024 FreeMem=15360 ",
            "State=MIXED ",
            "CfgTRES=cpu=8,mem=16384M,billing=8,gres/gpu=2\n",
            "AllocTRES=cpu=2,mem=1024M,billing=2,gres/gpu=1\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let leaving = WorkerView {
            draining: true,
            ..worker_view()
        };
        assert_eq!(state_text(&leaving), "MIXED+DRAIN");
    }

    /// As Snakemake reads it: lines of items without blanks, the first of which names the partition.
    #[test]
    fn the_partition_is_what_all_workers_are_together() {
        let other = WorkerView {
            name: "node8".to_owned(),
            ..worker_view()
        };
        let text = Layout::Lines.render(&partition_sheet(&[worker_view(), other]));
        assert!(text.starts_with("PartitionName=phalanx\n"), "{text}");
        let items: Vec<(&str, &str)> = text
            .split_whitespace()
            .filter_map(|item| item.split_once('='))
            .collect();
        let value = |key: &str| {
            items
                .iter()
                .find(|(known, _)| *known == key)
                .map(|(_, value)| *value)
        };
        assert_eq!(value("TotalCPUs"), Some("16"));
        assert_eq!(value("TotalNodes"), Some("2"));
        assert_eq!(value("Nodes"), Some("node[7-8]"));
        assert_eq!(
            value("TRES"),
            Some("cpu=16,mem=32768M,node=2,billing=16,gres/gpu=4")
        );
    }
}
