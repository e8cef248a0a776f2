//! The embassy's TPM, on simulated hardware: what it does for a quorum, what it refuses, and what a host on the bus can do to
//! it. Each test has a rack of its own; nothing stands between chancery and the TPM but the host's interposer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

#[path = "hardware/bus.rs"]
mod bus;
#[path = "hardware/chartered.rs"]
mod chartered;
#[path = "hardware/custody.rs"]
mod custody;
#[path = "hardware/deadlines.rs"]
mod deadlines;
#[path = "hardware/input.rs"]
mod input;
#[path = "policy/raw.rs"]
#[allow(dead_code, unreachable_pub, reason = "the policy tests and the demonstration use more of it")]
mod raw;
#[path = "hardware/refusals.rs"]
mod refusals;
#[path = "hardware/rig.rs"]
mod rig;
#[path = "hardware/sessions.rs"]
mod sessions;
