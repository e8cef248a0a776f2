//! Leases: dataset keys in the embassy's memory, for named agents, a time and a number of unwraps.
pub mod unwrap;
