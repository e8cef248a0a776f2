//! chancery: key custody and attestation for data embassies.
//!
//! [`protocol`] holds what everyone must agree on and does no IO; [`hardware`] drives the embassy's TPM; [`keys`] holds
//! private keys of people, in files and on tokens. The arrow of dependencies is protocol → hardware | keys → cli;
//! `docs/ARCHITECTURE.md` shows it whole.

#[cfg(feature = "hardware")]
pub mod hardware;
#[cfg(feature = "tools")]
pub mod keys;
pub mod protocol;
