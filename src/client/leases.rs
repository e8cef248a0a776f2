//! What an embassy says of its leases and of the beats they live on. Hearsay but for what is signed: whoever acts checks that.

use serde::{Deserialize, Serialize};

/// `GET /v1/leases/{id}`, and one of `GET /v1/leases`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct LeaseView {
    /// The lease's id, which is its ceremony's.
    pub id: String,
    /// `live`, `suspended` or `ended`.
    pub state: String,
    /// What that means, and why.
    pub why: String,
    /// What it is for, as its opener put it; none for a lease of an earlier start.
    pub purpose: Option<String>,
    /// Which dataset keys.
    pub datasets: Vec<LeasedDataset>,
    /// The agents that it names.
    pub agents: Vec<String>,
    /// When it began, by the embassy's wall clock, in seconds since 1970.
    pub began_at: i64,
    /// How long it was approved for, in seconds.
    pub duration_seconds: u32,
    /// How much of that is left, by a clock that nobody can set.
    pub seconds_left: u64,
    /// How many unwraps were approved.
    pub unwraps: u64,
    /// How many were made; after a crash, how many there can have been.
    pub used: u64,
}

/// A dataset in a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct LeasedDataset {
    /// The dataset.
    pub name: String,
    /// The version of its key.
    pub version: u32,
}

/// `GET /v1/leases`: those that live, and the last that ended since the embassy was started or before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct LeaseList {
    /// Those that you may watch.
    pub leases: Vec<LeaseView>,
}

/// `GET /v1/beat`: what the witness who asks is to answer. Each question replaces the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct BeatQuestion {
    /// The network: the founding charter's hash.
    pub charter: String,
    /// Who asks.
    pub embassy: String,
    /// 32 bytes in hexadecimal.
    pub nonce: String,
    /// H: a lease is suspended after so many seconds without a beat, and wiped after twice as many.
    pub heartbeat_seconds: u64,
}

/// `POST /v1/beat`: how things stand after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct BeatTaken {
    /// How many leases stand, live or suspended.
    pub leases: u64,
    /// For how many seconds they stay live without another beat.
    pub good_for_seconds: u64,
}
