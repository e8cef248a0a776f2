//! Boot event logs of real machines.
