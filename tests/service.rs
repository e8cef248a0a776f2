//! The embassy's API: who is let in, what each role may do, and what becomes of requests that are not as they should be.
//! First without a network, then over real TLS on simulated hardware.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "service/adoption.rs"]
mod adoption;
#[path = "service/ceremony.rs"]
mod ceremony;
#[path = "service/description.rs"]
mod description;
#[path = "service/gate.rs"]
mod gate;
#[path = "service/handshake.rs"]
mod handshake;
#[path = "service/leases.rs"]
mod leases;
#[path = "service/process.rs"]
mod process;
mod support;
#[path = "service/trouble.rs"]
mod trouble;
