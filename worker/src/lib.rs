//! The Phalanx worker: the agent on a node. It joins a scheduler, is the last judge of what runs on its slots, starts
//! kernel hosts, forwards grants to them, and keeps what they finished until that is durable.
//!
//! It knows no kernel and no client, and it never depends on the SDK: a kernel host is any program that speaks
//! `phalanx_protocol::message::host` on the socket it is given.
//!
//! One thread, one runtime, one task that owns all state. Reading order: `capacity`, `gpus` and `topology` (what there
//! is), `ledger` (who uses which slots, invariant SLOT) and `stock` (which gpus and cpus), `outbox` (reports until they are durable, invariant KEEP), `progress` and `inputs` (what reports and
//! grants are made of), `agent` (every decision, without I/O), then the edge that carries its effects out:
//! `driver`, `session` (the scheduler), `hosts` (processes), `preparation` (programs and inputs from shared
//! storage). `worker` is the outside.

mod agent;
mod capacity;
mod driver;
mod equipment;
mod gpus;
mod hosts;
mod inputs;
mod ledger;
mod outbox;
mod preparation;
mod progress;
mod session;
mod stock;
mod topology;
mod worker;

pub use capacity::detect_capacity;
pub use equipment::Equipment;
pub use hosts::cgroup::leaf::CgroupLeaf;
pub use worker::{AddressSource, NotReady, RunningWorker, StartError, Worker, WorkerConfig, WorkerError};
