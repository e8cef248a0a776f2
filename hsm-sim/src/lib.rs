//! A rack of simulated hardware.
