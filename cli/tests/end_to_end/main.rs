//! The command as people use it: real processes, a real cluster on this machine, a real kernel program.
//!
//! [`up`] starts `phalanx up` in a folder of its own and stops it, also when a test fails; [`command`] runs a command
//! to its end. The stories are in the other files, by what they are about.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why"
)]

mod callers;
mod cgroups;
mod chaos;
mod choosing;
mod clusters;
mod command;
mod commands;
mod corpus;
mod desk;
mod failures;
mod far_files;
mod far_steps;
mod gangs;
mod gpu_steps;
mod inspection;
mod interrupts;
mod job_files;
mod jobs;
mod live;
mod logs;
mod losses;
mod members;
mod mistakes;
mod mpi;
mod mpi_programs;
mod mpiexec;
mod pbs;
mod resources;
mod several_nodes;
mod slurm;
mod slurm_lists;
mod slurm_tools;
mod steps;
mod storage;
mod takeover;
mod up;
mod wide_gangs;
