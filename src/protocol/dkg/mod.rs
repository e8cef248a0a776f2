//! COCKTAIL-DKG v0.2.1 (c2sp.org/cocktail-dkg): a quorum makes its key together, through a relay that nobody trusts.
//!
//! `suite`, `xaes`, `sharing` and `transcript` are the specification's computations, byte for byte. `session`, `message`,
//! `gathering`, `phase`, `blame`, `evidence` and `certificate` are how chancery runs them (protocol.md §4): static keys from
//! the charter, messages signed so that blame is right, ciphertexts bound to the transcript so that shares can be rebuilt.
//! The one secret a participant brings is its static key; no one ever holds the quorum's.

pub mod blame;
pub mod certificate;
pub mod evidence;
pub mod gathering;
pub mod message;
pub mod observer;
pub mod phase;
pub mod session;
pub mod sharing;
pub mod suite;
pub mod transcript;
pub mod xaes;

#[cfg(test)]
mod tests;

pub use blame::{Culprit, Fault, Refusal};
pub use certificate::{Certificate, CertificateError, RecoveryData, RecoveryError};
pub use evidence::{Evidence, EvidenceError};
pub use gathering::Gathering;
pub use message::{Contribution, Message1, Message3};
pub use observer::Observer;
pub use phase::{Certified, Reason, Round1, Round2, Unfinished};
pub use session::{Member, Session, Terms, TermsError};
