//! The other nodes of the job, as `sbcast` sees them: each has a process that receives ([`super::receiver`]).

use std::fmt::Display;

use bytes::Bytes;
use phalanx_protocol::command::INDEX_VARIABLE;
use tokio::net::UnixStream;

use super::copy::Order;
use super::receiver::{FromReceiver, RECEIVER, ToReceiver};
use crate::slurm::Complaint;
use crate::slurm::step::words::{hear, say};
use crate::slurm::step::{connect, number};

/// What is said when a node is gone.
const LOST: &str = "its node is lost, or the process there that receives was ended";

/// One of the other nodes.
#[derive(Debug)]
pub(super) struct FarNode {
    name: String,
    socket: UnixStream,
    takes_bytes: bool,
    /// Why nothing comes of it there.
    failure: Option<String>,
}

impl FarNode {
    /// Has a receiver started on the node at that position in the job.
    pub(super) fn start(position: u32, name: &str) -> Result<Self, Complaint> {
        let task = number(INDEX_VARIABLE).unwrap_or_default();
        let complain =
            |error: &dyn Display| Complaint::new(format!("{name}: nothing can receive it there: {error}"));
        // what is copied has an absolute name
        let socket = connect(task, position, RECEIVER, "/".as_ref()).map_err(|error| complain(&error))?;
        let socket = socket
            .set_nonblocking(true)
            .and_then(|()| UnixStream::from_std(socket))
            .map_err(|error| complain(&error))?;
        Ok(Self::new(name, socket))
    }

    pub(super) fn new(name: &str, socket: UnixStream) -> Self {
        Self {
            name: name.to_owned(),
            socket,
            takes_bytes: true,
            failure: None,
        }
    }
}

/// All of them. Each step is done with all that have not failed; who has is told of at the end.
#[derive(Debug, Default)]
pub(super) struct FarNodes {
    pub(super) nodes: Vec<FarNode>,
}

impl FarNodes {
    /// Says what is to be copied.
    pub(super) async fn begin(&mut self, order: &Order) {
        self.say(&ToReceiver::Begin(order.clone()), |_| true).await;
        self.hear().await;
    }

    /// Sends the next bytes to those that take them; the slowest sets the pace.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        if self.nodes.iter().any(|node| node.takes_bytes) {
            let said = ToReceiver::Bytes(Bytes::copy_from_slice(bytes));
            self.say(&said, |node| node.takes_bytes).await;
        }
    }

    /// Waits until all have all.
    pub(super) async fn end(&mut self) {
        self.say(&ToReceiver::End, |_| true).await;
        self.hear().await;
    }

    /// Has all put it in its place.
    pub(super) async fn place(&mut self) {
        self.say(&ToReceiver::Place, |_| true).await;
        self.hear().await;
    }

    /// Leaves nothing of it anywhere.
    pub(super) async fn abandon(&mut self) {
        self.say(&ToReceiver::Abandon, |_| true).await;
        for node in &mut self.nodes {
            // to its end: it has cleared up then
            while let Ok(Some(_)) = hear::<FromReceiver>(&mut node.socket).await {}
        }
    }

    /// What has failed, a line for each node.
    pub(super) fn failures(&self) -> Vec<String> {
        let line = |node: &FarNode| Some(format!("{}: {}", node.name, node.failure.as_ref()?));
        self.nodes.iter().filter_map(line).collect()
    }

    async fn say(&mut self, said: &ToReceiver, is_meant: impl Fn(&FarNode) -> bool) {
        for node in &mut self.nodes {
            if node.failure.is_none() && is_meant(node) && say(&mut node.socket, said).await.is_err() {
                // it may have said why
                node.hear().await;
                node.failure.get_or_insert_with(|| LOST.to_owned());
            }
        }
    }

    async fn hear(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.failure.is_none()) {
            node.hear().await;
        }
    }
}

impl FarNode {
    async fn hear(&mut self) {
        match hear(&mut self.socket).await {
            Ok(Some(FromReceiver::Begun { takes_bytes })) => self.takes_bytes = takes_bytes,
            Ok(Some(FromReceiver::Ready | FromReceiver::Placed)) => {}
            Ok(Some(FromReceiver::Failed(error))) => self.failure = Some(error.to_string()),
            Ok(None) | Err(_) => self.failure = Some(LOST.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use super::super::receiver::serve;
    use super::*;

    fn order(destination: &Path) -> Order {
        Order {
            destination: Bytes::copy_from_slice(destination.as_os_str().as_bytes()),
            name: Bytes::from_static(b"name"),
            token: "1".to_owned(),
            force: false,
            mode: 0o644,
            kept: None,
        }
    }

    /// A node of that name whose receiver runs here.
    fn node(name: &str) -> FarNode {
        let (near, far) = UnixStream::pair().unwrap();
        tokio::spawn(serve(far));
        FarNode::new(name, near)
    }

    async fn send(nodes: &mut FarNodes, order: &Order) -> Vec<String> {
        nodes.begin(order).await;
        nodes.send(b"some ").await;
        nodes.send(b"bytes").await;
        nodes.end().await;
        nodes.failures()
    }

    #[tokio::test]
    async fn nodes_that_share_a_folder_get_a_file_once_and_all_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("to");
        let mut nodes = FarNodes {
            nodes: vec![node("a"), node("b")],
        };
        assert_eq!(send(&mut nodes, &order(&to)).await, [""; 0]);
        let takes_bytes: Vec<bool> = nodes.nodes.iter().map(|node| node.takes_bytes).collect();
        assert_eq!(takes_bytes.iter().filter(|&&takes| takes).count(), 1);
        assert!(!to.exists());
        nodes.place().await;
        assert_eq!(nodes.failures(), [""; 0]);
        assert_eq!(std::fs::read_to_string(to).unwrap(), "some bytes");
    }

    #[tokio::test]
    async fn what_fails_on_a_node_is_told_with_its_name_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        std::fs::write(&taken, "").unwrap();
        let (near, _) = UnixStream::pair().unwrap();
        let mut nodes = FarNodes {
            nodes: vec![node("a"), FarNode::new("b", near)],
        };
        let failures = send(&mut nodes, &order(&taken)).await;
        let there = taken.display();
        assert_eq!(
            failures,
            [
                format!("a: `{there}` is there already; --force replaces it"),
                format!("b: {LOST}")
            ]
        );
        let mut nodes = FarNodes {
            nodes: vec![node("a")],
        };
        assert_eq!(send(&mut nodes, &order(&folder.path().join("to"))).await, [""; 0]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        nodes.abandon().await;
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
