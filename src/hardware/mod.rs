//! The embassy hardware.
