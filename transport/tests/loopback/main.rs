//! Real endpoints on loopback: who gets in, what they are told, and how sessions end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod cluster;
mod handshake;
mod killed;
mod reconnect;
mod session;
