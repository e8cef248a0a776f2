//! Leases: dataset keys in the embassy's memory, for named agents, a time and a number of unwraps (protocol.md §17).
//!
//! [`Leases`](keeper::Leases) is what routes and the driver of ceremonies use. Inside, `table.rs`, `account.rs` and `beats.rs`
//! are pure: time, freshness and what became durable are handed in. Keys lie in the arena, and `unwrap.rs` uses them there.

pub mod account;
pub mod beats;
pub mod clock;
mod compare;
mod entries;
pub mod error;
pub mod keeper;
pub mod once;
pub(in crate::service) mod routes;
pub mod rules;
pub mod table;
pub mod unwrap;

#[cfg(test)]
mod tests;
