//! chancery: key custody and attestation for data embassies.
//!
//! [`protocol`] holds what everyone must agree on and does no IO; [`hardware`] drives the embassy's TPM. The arrow of
//! dependencies is protocol → hardware → cli; `docs/ARCHITECTURE.md` shows it whole.

#[cfg(feature = "hardware")]
pub mod hardware;
pub mod protocol;
