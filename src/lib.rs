//! chancery: key custody and attestation for data embassies.
//!
//! [`protocol`] holds what everyone must agree on and does no IO; [`hardware`] drives the embassy's TPM; [`keys`] holds
//! private keys of people, in files and on tokens; [`store`] keeps what must outlive the process; [`service`] is the embassy,
//! and [`client`] is how every tool speaks to it. The arrow of dependencies is protocol → hardware | store | keys → service →
//! cli, with client beside service; `docs/ARCHITECTURE.md` shows it whole.

#[cfg(feature = "tools")]
pub mod access;
#[cfg(feature = "tools")]
pub mod client;
#[cfg(feature = "hardware")]
pub mod hardware;
#[cfg(feature = "tools")]
pub mod keys;
pub mod protocol;
#[cfg(feature = "service")]
pub mod service;
#[cfg(feature = "service")]
pub mod store;
