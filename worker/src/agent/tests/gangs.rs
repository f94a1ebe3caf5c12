//! Gangs on several nodes: what passes between the scheduler and a host of ranks here.

use phalanx_protocol::gang::{GangNode, Placement};
use phalanx_protocol::message::host::HostGang;

use super::*;

fn gang(epoch: u32) -> Placement {
    Placement {
        starting: RangeSet::new(),
        respawns: false,
        epoch,
        nodes: [8, 3]
            .map(|worker| GangNode {
                worker: WorkerId(worker),
                address: "10.0.0.1:7000".into(),
                name: format!("n{worker}"),
            })
            .to_vec(),
        node_of: vec![0, 0, 1],
        is_led: false,
    }
}

fn begins(epoch: u32) -> ToWorker {
    ToWorker::Gang {
        job: J1,
        placement: Box::new(gang(epoch)),
        credential: Some("pem".into()),
    }
}

#[test]
fn the_scheduler_is_told_where_the_host_of_a_gang_listens_and_each_new_one_again() {
    let mut world = World::new();
    world.run(J1, 1, H1, 1);
    let told = HostGang {
        placement: gang(2),
        node: 1,
        credential: Some("pem".into()),
    };
    let told = Effect::TellHost(H1, ToHost::Gang(Box::new(told)));
    assert_eq!(world.told(begins(2)), [told]);
    world.grant(J1, 1, range(2, 3));
    let listens = || {
        Effect::Tell(FromWorker::GangPort {
            job: J1,
            epoch: 2,
            node: 1,
            nodes: 2,
            port: 500,
        })
    };
    let port = |epoch| FromHost::GangPort { epoch, port: 500 };
    assert_eq!(world.host(H1, port(1)), [], "it is of an earlier epoch");
    assert_eq!(world.host(H1, port(2)), [listens()]);
    world.hear(Input::Disconnected);
    assert_eq!(world.host(H1, port(2)), [], "nobody hears it");
    world.hear(Input::Connected);
    let welcome = ToWorker::Welcome {
        worker: WorkerId(3),
        term: Term(2),
    };
    assert_eq!(world.told(welcome.clone()), [listens()]);
    world.told(begins(3));
    world.hear(Input::Disconnected);
    world.hear(Input::Connected);
    assert_eq!(world.told(welcome), [], "the host of epoch 3 does not listen yet");
}

#[test]
fn a_host_is_told_of_the_others_of_its_own_epoch_only() {
    let mut world = World::new();
    world.run(J1, 1, H1, 1);
    world.told(begins(2));
    let addresses = vec!["10.0.0.1:500".to_owned(), "10.0.0.2:501".to_owned()];
    let found = |epoch| ToWorker::GangAddresses {
        job: J1,
        epoch,
        addresses: addresses.clone(),
    };
    assert_eq!(world.told(found(1)), []);
    let told = ToHost::GangAddresses {
        epoch: 2,
        addresses: addresses.clone(),
    };
    assert_eq!(world.told(found(2)), [Effect::TellHost(H1, told)]);
}
