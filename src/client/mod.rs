//! How every tool speaks to an embassy: one HTTP client over mTLS, and the shapes of what is sent and answered.
//!
//! The embassy is not trusted. The connection proves which machine answers; what it says is checked by whoever acts on it.

mod alert;
pub mod api;
pub mod ceremonies;
mod error;
mod events;
pub mod genesis;
mod http;
pub mod leases;
pub mod official;
pub mod release;
mod tls;
mod trust;
pub mod unwrap;

use std::time::{SystemTime, UNIX_EPOCH};

pub use error::ClientError;
pub use events::{Event, Events};
pub use http::{Client, Repeat, Settings};
pub use tls::{Clock, Exchange, OwnIdentity};
pub use trust::{Distrust, Trust};

use crate::protocol::certificate::UnixTime;

/// The machine's clock. One before 1970 gives 0, and certificates that nobody accepts.
pub fn system_clock() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
