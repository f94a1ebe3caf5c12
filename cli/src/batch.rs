//! The text of batch scripts and of the options that go with them, turned into plain values, and job lists into text.
//!
//! Slurm's words, since that is what scripts are written in; `pbs` reads the second dialect into the same settings. Pure:
//! no file, environment variable or clock is read here, and nothing is printed; whoever calls gives texts and is given
//! values, warnings and errors, each with its place.
//!
//! Reading order: [`settings`] (what a script asks for) and [`merge`] (how it is put together), [`directives`],
//! [`pbs`] and [`environment`] (where it says so), [`options`] and [`getopt`] (the words), [`meaning`] (what each does), then
//! one file for each kind of value; [`states`] and [`lists`] (jobs as text).

pub(crate) mod array;
pub(crate) mod begin;
pub(crate) mod dependency;
pub(crate) mod directives;
pub(crate) mod environment;
pub(crate) mod getopt;
pub(crate) mod ids;
pub(crate) mod lists;
pub(crate) mod meaning;
pub(crate) mod memory;
pub(crate) mod merge;
pub(crate) mod options;
pub(crate) mod pbs;
pub(crate) mod programs;
pub(crate) mod settings;
pub(crate) mod states;
pub(crate) mod time;
pub(crate) mod values;
