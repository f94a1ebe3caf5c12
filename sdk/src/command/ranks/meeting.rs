//! The barriers of a gang's exchange, where its ranks are on several nodes: when all ranks of this node are in, the nodes tell
//! each other what was put since the last one, and only then any rank goes on. A node is one member of the gang's link.

use std::io;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread;

use phalanx_pmi::{Entry, Gate};

use crate::host::gang_link::GangLink;
use crate::host::lock;
use crate::ranks::{CommError, Communicator};

/// Meets the other nodes on a thread of its own, at each of the barriers that this node's ranks have entered, until there are
/// no more. `fail` is told why ranks wait in vain.
///
/// # Errors
/// No threads are left.
pub(super) fn begin(
    link: Arc<GangLink>,
    nodes: u32,
    barriers: Receiver<Vec<Entry>>,
    gate: Gate,
    fail: impl Fn(String) + Send + Sync + 'static,
) -> io::Result<()> {
    let meet = move || match link.join((0..nodes).collect()) {
        Ok(gang) => {
            let barriers = Mutex::new(barriers);
            gang.run(|node| {
                let met = pass_all(node, &lock(&barriers), &gate);
                met.unwrap_or_else(|error| fail(error.to_string()));
            });
        }
        // a program that asks for no exchange runs without
        Err(error) => drop(barriers.recv().map(|_| fail(error.to_string()))),
    };
    thread::Builder::new().name("gang-pmi".to_owned()).spawn(meet)?;
    Ok(())
}

/// Lets ranks of this node out of their barriers, one after the other.
fn pass_all(node: &Communicator, barriers: &Receiver<Vec<Entry>>, gate: &Gate) -> Result<(), CommError> {
    while let Ok(own) = barriers.recv() {
        let of_all = node.all_gather(own)?;
        gate.open(of_all.concat());
    }
    Ok(())
}
