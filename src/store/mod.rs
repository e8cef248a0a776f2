//! What must outlive the process: records that change by compare-and-swap, and the roll's entries.
//!
//! The disk is the host's. What stands here is sealed or public; what it says is checked when it is read.
