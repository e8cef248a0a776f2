//! Ceremonies: what a quorum does together, as state machines without IO.

mod outcome;

pub use outcome::Outcome;
