//! Evidence about an embassy's machine, read without trust in who sent it.

pub mod eventlog;
