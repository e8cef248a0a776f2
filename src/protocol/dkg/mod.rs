//! COCKTAIL-DKG: a quorum makes its key together, through a relay that nobody trusts (protocol.md §4).

pub mod sharing;
pub mod suite;
pub mod transcript;
pub mod xaes;
