//! What a batch script needs on each of its nodes, as a request of our own: cpus for all ranks there, memory, gpus, pinning, company.

use std::collections::BTreeSet;

use phalanx_protocol::resources::GPU;
use phalanx_protocol::{Amount, Pin, Request, Sharing, WorkerChoice};

use super::spec::Shape;
use crate::batch::settings::{BatchSettings, Memory};
use crate::batch::values::{Exclusive, Gres};

/// What the script needs, and what of it is recorded only, as sentences.
pub(super) fn request(settings: &BatchSettings, shape: Shape) -> (Request, Vec<String>) {
    let mut unmet = Vec::new();
    let gpus = gpus(settings, shape);
    let memory_bytes = match settings.memory {
        Some(Memory::PerNode(bytes)) => bytes,
        Some(Memory::PerCpu(bytes)) => bytes.saturating_mul(shape.cpus_per_node().into()),
        Some(Memory::PerGpu(bytes)) => bytes.saturating_mul(count(&gpus)),
        Some(Memory::WholeNode) | None => 0,
    };
    let mut request = Request {
        cpus: shape.cpus_per_node().max(1),
        memory_bytes,
        pin: pin(settings, &mut unmet),
        sharing: match settings.exclusive {
            // each element of an array is a job of its own
            Some(Exclusive::Job) => Sharing::Nobody,
            Some(Exclusive::User) => {
                unmet.push("--exclusive=user is recorded only: others may run on the same node".to_owned());
                Sharing::Anybody
            }
            None => Sharing::Anybody,
        },
        ..Request::default()
    };
    for gres in gpus.iter().filter(|gres| gres.count > 0) {
        let name = match &gres.kind {
            Some(kind) => format!("{GPU}:{}", kind.to_ascii_lowercase()),
            None => GPU.to_owned(),
        };
        request.add(&name, gres.count.into());
    }
    (request, unmet)
}

/// What it asks for beside gpus, which counts where a worker offers it.
pub(super) fn resources(settings: &BatchSettings) -> Vec<(String, Amount)> {
    let asked = settings.gres.iter().filter(|gres| gres.count > 0);
    let named = asked.map(|gres| {
        let name = match &gres.kind {
            Some(kind) => format!("{}:{kind}", gres.name),
            None => gres.name.clone(),
        };
        (name, Amount::from(gres.count))
    });
    named.collect()
}

/// The nodes that the job may have: of a list of enough nodes any, of a shorter one all, and others beside.
pub(super) fn choice(settings: &BatchSettings, shape: Shape) -> WorkerChoice {
    let listed: BTreeSet<String> = settings.nodelist.iter().cloned().collect();
    let (only, all_of) = match listed.len() < shape.nodes as usize {
        true => (BTreeSet::new(), listed),
        false => (listed, BTreeSet::new()),
    };
    WorkerChoice {
        only,
        all_of,
        never: settings.exclude.iter().cloned().collect(),
    }
}

/// The gpus of each of its nodes, in whichever way it asks for most.
pub(super) fn gpus(settings: &BatchSettings, shape: Shape) -> Vec<Gres> {
    let of_rank = settings.gpus_per_task.iter().map(|gres| Gres {
        count: gres.count.saturating_mul(shape.ranks_per_node().into()),
        ..gres.clone()
    });
    let of_job = settings.gpus.iter().map(|gres| Gres {
        count: gres.count.div_ceil(shape.nodes.into()),
        ..gres.clone()
    });
    let ways = [
        of_job.collect(),
        settings.gpus_per_node.clone(),
        of_rank.collect(),
    ];
    ways.into_iter()
        .max_by_key(|gpus| count(gpus))
        .unwrap_or_default()
}

fn count(gpus: &[Gres]) -> u64 {
    gpus.iter().map(|gres| gres.count).sum()
}

/// How the script's cpus are chosen: one thread of each core first is as near to a core without its second thread as there is.
fn pin(settings: &BatchSettings, unmet: &mut Vec<String>) -> Pin {
    let bind = settings
        .step
        .cpu_bind
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let mut words = bind
        .split(',')
        .filter(|word| !["", "v", "verbose", "q", "quiet"].contains(word));
    // a list goes on to the end
    let is_list = |word: &&str| word.starts_with("map_") || word.starts_with("mask_");
    let word = words.clone().find(is_list).or_else(|| words.next_back());
    let word = word.map(|word| word.split([':', '=']).next().unwrap_or_default());
    match word {
        Some("none" | "no") => return Pin::None,
        Some("cores" | "threads" | "sockets" | "ldoms" | "rank" | "rank_ldom") => return Pin::Compact,
        // its step binds its ranks so
        Some("map_cpu" | "mask_cpu") => return Pin::None,
        Some(other) => {
            unmet.push(format!(
                "--cpu-bind={other} is recorded only: the system chooses the cpus"
            ));
        }
        None => {}
    }
    match settings.recorded("hint") {
        Some("nomultithread" | "compute_bound") => Pin::Spread,
        Some(_) | None => Pin::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(ranks: u32, cpus_per_rank: u32) -> Shape {
        Shape {
            nodes: 1,
            ranks,
            cpus_per_rank,
        }
    }

    fn gres(kind: Option<&str>, count: u64) -> Gres {
        Gres {
            name: "gpu".to_owned(),
            kind: kind.map(str::to_owned),
            count,
        }
    }

    #[test]
    fn gpus_are_asked_for_by_type_and_for_all_ranks() {
        let settings = BatchSettings {
            gpus_per_task: vec![gres(Some("A100"), 1), gres(None, 1)],
            memory: Some(Memory::PerGpu(1 << 30)),
            ..BatchSettings::default()
        };
        let (request, unmet) = request(&settings, shape(2, 4));
        assert_eq!(
            (request.to_string().as_str(), unmet.len()),
            ("8 cpus, 4 GiB, 4 gpu, 2 gpu:a100", 0)
        );
        let none = BatchSettings {
            gpus: vec![gres(None, 0)],
            ..BatchSettings::default()
        };
        assert!(self::request(&none, shape(1, 1)).0.named.is_empty());
    }

    #[test]
    fn each_of_several_nodes_has_what_its_ranks_need() {
        let settings = BatchSettings {
            gpus: vec![gres(None, 3)],
            memory: Some(Memory::PerCpu(1 << 30)),
            ..BatchSettings::default()
        };
        let on_two = Shape {
            nodes: 2,
            ..shape(3, 2)
        };
        let (request, _) = request(&settings, on_two);
        assert_eq!(request.to_string(), "4 cpus, 4 GiB, 2 gpu");
    }

    #[test]
    fn of_a_list_of_nodes_as_many_are_used_as_the_job_has() {
        let nodelist = ["n1", "n2"].map(str::to_owned).to_vec();
        let settings = BatchSettings {
            nodelist: nodelist.clone(),
            exclude: vec!["n9".to_owned()],
            ..BatchSettings::default()
        };
        let of = |nodes| {
            choice(
                &settings,
                Shape {
                    nodes,
                    ..shape(nodes, 1)
                },
            )
        };
        let listed: BTreeSet<String> = nodelist.into_iter().collect();
        for nodes in [1, 2] {
            let choice = of(nodes);
            assert_eq!((&choice.only, choice.all_of.len()), (&listed, 0), "{nodes}");
            assert!(choice.never.contains("n9"));
        }
        let choice = of(3);
        assert_eq!((choice.only.len(), &choice.all_of), (0, &listed));
    }

    #[test]
    fn an_exclusive_script_has_a_worker_for_itself() {
        let exclusive = |exclusive| {
            let settings = BatchSettings {
                exclusive: Some(exclusive),
                ..BatchSettings::default()
            };
            let (request, unmet) = request(&settings, shape(1, 1));
            (request.sharing, unmet.len())
        };
        assert_eq!(exclusive(Exclusive::Job), (Sharing::Nobody, 0));
        assert_eq!(exclusive(Exclusive::User), (Sharing::Anybody, 1));
    }

    #[test]
    fn binding_and_hints_become_pinning_as_far_as_there_is_any() {
        let pinned = |bind: Option<&str>, hint: Option<&str>| {
            let mut settings = BatchSettings {
                recorded: hint
                    .map(|hint| ("hint".to_owned(), hint.to_owned()))
                    .into_iter()
                    .collect(),
                ..BatchSettings::default()
            };
            settings.step.cpu_bind = bind.map(str::to_owned);
            let (request, unmet) = request(&settings, shape(1, 1));
            (request.pin, unmet.len())
        };
        assert_eq!(pinned(None, None), (Pin::None, 0));
        assert_eq!(pinned(Some("verbose,cores"), None), (Pin::Compact, 0));
        assert_eq!(pinned(Some("none"), Some("nomultithread")), (Pin::None, 0));
        assert_eq!(pinned(None, Some("nomultithread")), (Pin::Spread, 0));
        assert_eq!(pinned(Some("map_cpu:0,4"), None), (Pin::None, 0));
        assert_eq!(pinned(Some("map_ldom:0"), None).1, 1);
    }
}
