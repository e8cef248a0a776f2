//! The embassy's TPM: custody that the quorum opens, keys that the approved machine uses.
//!
//! [`EmbassyTpm`] is the one way to it. Behind stands one thread that owns the device, a bounded queue and a deadline: the
//! TPM software stack itself would wait for ever. The bus belongs to the host, so nothing a TPM answers is believed unless
//! an HMAC or a signature covers it, and an error is never evidence. What each object is and what opens it is the
//! protocol's ([`crate::protocol::tpm::custody`]); here it is made and run (protocol.md §9).

mod ceremony;
mod convert;
mod device;
mod embassy;
mod error;
mod line;
mod machine;
pub mod memory;
mod owner;
mod policy;
mod provision;
mod quiet;
mod state;
mod watch;

pub use ceremony::{MAX_COMMANDS, MAX_PARKED, Order, Outcome, ParkedCommand, Standing};
pub use embassy::{CustodyTpm, EmbassyTpm, MachineTpm, TpmAddress};
pub use error::{ApprovalRefusal, RefusedApproval, Remedy, TpmError};
pub use machine::Clock;
pub use owner::Limits;
pub use provision::{HierarchyAuth, HierarchyAuths};
pub use state::{Attestation, Birth, EmbassyKeys, Foundation, SealedObject};
