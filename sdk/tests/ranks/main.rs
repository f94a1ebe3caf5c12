//! What ranks may rely on, checked from outside: on one node and across pretended ones, with ranks that dawdle at random.

mod collectives;
mod communicators;
mod failures;
mod gangs;
mod hosts;
mod matching;
mod messages;
mod properties;
mod respawning;
