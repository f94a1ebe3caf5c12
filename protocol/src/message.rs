//! Who tells whom what. A stream carries one kind of message each way; one variant is one frame.
//!
//! Three conversations: a client asks the scheduler ([`client`], one bidirectional stream per request), a worker and
//! the scheduler keep each other informed ([`worker`], one control and one report stream per session), a worker drives
//! the kernel host that it started ([`host`], one socket pair).

pub mod client;
pub mod host;
pub mod worker;
