//! The embassy: what `chancery serve` runs.
//!
//! Trusts its TPM and its store as far as each proves itself; nobody who connects, beyond the role that home certified.
