//! The ranks of a step that are on other nodes than its launcher: who starts them, what they read and write, and what they are told.

use phalanx_protocol::command::INDEX_VARIABLE;
use phalanx_protocol::step::PASSED_ON;
use tokio::signal::unix::Signal;
use tokio::task::JoinSet;

use super::course::{Course, Living};
use super::far::{Far, FarEnds, FarStart, OUTPOST, Say, connect, order};
use super::input::{Broadcast, Reader};
use super::layout::StepNode;
use super::mpi::Mpi;
use super::words::{RankOrder, ToFar};
use super::{Step, number, streams};
use crate::slurm::Complaint;

impl Step {
    /// Has the ranks on other nodes started; who keeps them there.
    pub(super) fn start_far(
        &self,
        mpi: &mut Mpi,
        course: &mut Course,
        copying: &mut JoinSet<()>,
        broadcast: &mut Broadcast,
    ) -> Result<Vec<Far>, Complaint> {
        let others = || self.layout.nodes.iter().filter(|node| node.position > 0);
        let task = number(INDEX_VARIABLE).unwrap_or_default();
        // before anything runs that would have to be ended if there is no way there
        let reach = |node: &StepNode| connect(task, node.position, OUTPOST, &std::env::current_dir()?);
        let sockets: Result<Vec<_>, _> = others().map(reach).collect();
        let sockets = sockets.map_err(|error| self.complain(&error))?;
        let mut fars = Vec::new();
        for (node, socket) in others().zip(sockets) {
            let (mut starts, mut streams) = (Vec::new(), Vec::new());
            for &rank in &node.ranks {
                let program = &self.programs[rank as usize];
                let command = self.command(rank, program, mpi)?;
                let (file, reads) = self.far_input(rank)?;
                let cpus = self.bound(rank).map(<[u32]>::to_vec);
                starts.push(FarStart {
                    order: RankOrder {
                        gpus: self.gpus(rank),
                        ..order(rank, &command, reads, cpus)
                    },
                    pmi: mpi.take(rank),
                });
                streams.push((file, self.far_sinks(rank)?));
            }
            let names = (mpi.name.clone(), std::process::id());
            let started = Far::start(socket, starts, names);
            let (far, ends) =
                started.map_err(|error| Complaint::new(format!("cannot talk to {}: {error}", node.name)))?;
            fars.push(far);
            for ((&rank, end), (file, sinks)) in node.ranks.iter().zip(ends).zip(streams) {
                let FarEnds {
                    rank: living,
                    input,
                    output,
                    errors,
                } = end;
                self.copy_far(rank, [output, errors], sinks, copying);
                match (input, file) {
                    (Some(input), Some(file)) => drop(tokio::spawn(streams::send_file(file, input))),
                    (Some(input), None) => broadcast.add(Reader::There(input)),
                    (None, _) => {}
                }
                course.watch(rank, Living::There(living));
            }
        }
        Ok(fars)
    }
}

/// Passes on what this process is told to the ranks on other nodes.
pub(super) fn pass_on(told: Vec<Signal>, fars: &[Far]) -> JoinSet<()> {
    let mut passing = JoinSet::new();
    for (number, mut signal) in PASSED_ON.into_iter().zip(told) {
        let nodes: Vec<Say> = fars.iter().map(|far| far.say.clone()).collect();
        passing.spawn(async move {
            while signal.recv().await.is_some() {
                for say in &nodes {
                    // one that is gone has no ranks any more
                    let _ = say.send(ToFar::Signal(number));
                }
            }
        });
    }
    passing
}
