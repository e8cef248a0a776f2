//! How every tool speaks to an embassy: one HTTP client over mTLS, and the shapes of what is sent and answered.
//!
//! The embassy is not trusted. The connection proves which machine answers; what it says is checked by whoever acts on it.

pub mod api;
