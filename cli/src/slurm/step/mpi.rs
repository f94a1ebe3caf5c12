//! What MPI libraries need to find the other ranks: each rank inherits a socket on which it asks (PMI-1).

use std::os::fd::{AsRawFd, OwnedFd};

use phalanx_pmi::{Event, Exchange, Layout, OpenMpi, Server};
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::process::Command;
use tokio::sync::mpsc;

pub(super) use phalanx_pmi::Departure;

use super::Program;
use crate::slurm::Complaint;

/// The exchange of a step's ranks.
pub(super) struct Mpi {
    /// Serves until it is dropped.
    _server: Server,
    /// By rank; taken when it starts.
    ends: Vec<Option<OwnedFd>>,
    departures: mpsc::UnboundedReceiver<Departure>,
    open_mpi: Option<OpenMpi>,
    /// By which the start of the step is known.
    pub(super) name: String,
}

impl Mpi {
    /// Given the node of each rank.
    pub(super) fn start(job: u64, programs: &[Program], node_of: Vec<u32>) -> Result<Self, Complaint> {
        let sections: Vec<u32> = programs.iter().map(|program| program.section).collect();
        // libraries name their shared memory after it
        let name = format!("phalanx-{job}-{}", std::process::id());
        let exchange = Exchange::new(&name, &Layout { node_of }, &sections);
        // at most two for each rank
        let (tell, departures) = mpsc::unbounded_channel();
        let (server, connected) = Server::start(exchange, move |event| {
            if let Event::Departed(departure) = event {
                // nobody listens once the step is over
                let _ = tell.send(departure);
            }
        })
        .map_err(|error| Complaint::new(format!("cannot connect the tasks with each other: {error}")))?;
        Ok(Self {
            _server: server,
            ends: connected.ends.into_iter().map(Some).collect(),
            departures,
            // a number, and another one for each step of this node
            open_mpi: OpenMpi::find(&name, std::process::id()),
            name,
        })
    }

    /// Tells a rank who it is, the how many-th of how many on its node too.
    pub(super) fn tell(&self, rank: u32, (local, locals): (u32, usize), command: &mut Command) {
        command.env("PMI_RANK", rank.to_string());
        command.env("PMI_SIZE", self.ends.len().to_string());
        command.env("PMI_SPAWNED", "0");
        // by which programs choose their gpus under MPICH's own launcher
        command.env("MPI_LOCALRANKID", local.to_string());
        command.env("MPI_LOCALNRANKS", locals.to_string());
        // Intel MPI asks for a library otherwise
        command.env("I_MPI_PMI", "pmi1");
    }

    /// The end of a rank that is started elsewhere.
    pub(super) fn take(&mut self, rank: u32) -> Option<OwnedFd> {
        self.ends.get_mut(rank as usize).and_then(Option::take)
    }

    /// Gives a rank its end of the socket, which is to be dropped as soon as it has started: nothing else may be started
    /// before.
    pub(super) fn give(&mut self, rank: u32, command: &mut Command) -> Result<Option<OwnedFd>, Complaint> {
        let Some(end) = self.ends.get_mut(rank as usize).and_then(Option::take) else {
            return Ok(None);
        };
        fcntl_setfd(&end, FdFlags::empty())
            .map_err(|error| Complaint::new(format!("cannot give task {rank} its socket: {error}")))?;
        command.env("PMI_FD", end.as_raw_fd().to_string());
        if let Some(open_mpi) = &self.open_mpi {
            command.envs(open_mpi.variables());
        }
        Ok(Some(end))
    }

    /// The next rank that leaves in a way that concerns the others. Cancel safe.
    pub(super) async fn departed(&mut self) -> Departure {
        match self.departures.recv().await {
            Some(departure) => departure,
            // the server has ended, and with it all news
            None => std::future::pending().await,
        }
    }
}
