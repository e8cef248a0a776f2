//! k of n: how many officials a quorum has, how many must agree, and each one's place.

use std::num::NonZeroU8;

use crate::protocol::wire::{Reader, Wire, WireError, Writer};

/// The most officials a quorum may have. The ladder's cost and every list in the protocol are bounded by it.
pub const MAX_OFFICIALS: u8 = 32;

/// Why a quorum cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuorumError {
    /// n = 0.
    #[error("a quorum needs at least one official")]
    Empty,
    /// k = 0.
    #[error("a quorum's threshold must be at least 1")]
    ZeroThreshold,
    /// k > n.
    #[error("a threshold of {k} can never be reached by {n} officials")]
    ThresholdAboveMembers {
        /// The threshold.
        k: u8,
        /// The number of officials.
        n: u8,
    },
    /// n is over the bound.
    #[error("{n} officials are too many: at most {MAX_OFFICIALS} are supported")]
    TooMany {
        /// The number of officials.
        n: usize,
    },
    /// A place outside 1..=n.
    #[error("official {position} does not exist: this quorum has {n}")]
    NoSuchOfficial {
        /// The place asked for.
        position: u8,
        /// The number of officials.
        n: u8,
    },
}

/// A threshold k out of n officials; 1 ≤ k ≤ n ≤ [`MAX_OFFICIALS`], always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Threshold {
    k: u8,
    n: u8,
}

impl Threshold {
    /// # Errors
    /// [`QuorumError`] unless 1 ≤ k ≤ n ≤ [`MAX_OFFICIALS`].
    pub const fn new(k: u8, n: u8) -> Result<Self, QuorumError> {
        if n == 0 {
            return Err(QuorumError::Empty);
        }
        if n > MAX_OFFICIALS {
            return Err(QuorumError::TooMany { n: n as usize });
        }
        if k == 0 {
            return Err(QuorumError::ZeroThreshold);
        }
        if k > n {
            return Err(QuorumError::ThresholdAboveMembers { k, n });
        }
        Ok(Self { k, n })
    }

    /// How many must agree.
    pub const fn k(self) -> u8 {
        self.k
    }

    /// How many there are.
    pub const fn n(self) -> u8 {
        self.n
    }

    /// How many denials make k approvals impossible: n - k + 1.
    pub const fn denials_that_end(self) -> u8 {
        self.n - self.k + 1
    }

    /// Every official's place, in order.
    pub fn positions(self) -> impl Iterator<Item = Position> {
        (1..=self.n).filter_map(NonZeroU8::new).map(Position)
    }

    /// # Errors
    /// [`QuorumError::NoSuchOfficial`] for a place that this quorum does not have.
    pub const fn check(self, position: Position) -> Result<(), QuorumError> {
        if position.0.get() <= self.n {
            Ok(())
        } else {
            Err(QuorumError::NoSuchOfficial { position: position.0.get(), n: self.n })
        }
    }
}

impl std::fmt::Display for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.k, self.n)
    }
}

impl Wire for Threshold {
    fn write(&self, out: &mut Writer) {
        out.u8(self.k).u8(self.n);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (k, n) = (input.u8("threshold")?, input.u8("threshold")?);
        Self::new(k, n)
            .map_err(|_| WireError::Invalid { field: "threshold", reason: "1 ≤ k ≤ n ≤ 32 does not hold" })
    }
}

/// An official's place in a quorum, counted from 1: DKG participant index, evaluation point and rung of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(NonZeroU8);

impl Position {
    /// `None` for 0 and above [`MAX_OFFICIALS`].
    pub const fn new(place: u8) -> Option<Self> {
        match NonZeroU8::new(place) {
            Some(place) if place.get() <= MAX_OFFICIALS => Some(Self(place)),
            _ => None,
        }
    }

    /// The place, from 1.
    pub const fn get(self) -> u8 {
        self.0.get()
    }

    /// The place as an index from 0.
    pub const fn index(self) -> usize {
        (self.0.get() - 1) as usize
    }

    /// The place as an exponent.
    pub fn scalar(self) -> p256::Scalar {
        p256::Scalar::from(u64::from(self.get()))
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "official {}", self.get())
    }
}

impl Wire for Position {
    fn write(&self, out: &mut Writer) {
        out.u8(self.get());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Self::new(input.u8("position")?).ok_or(WireError::Invalid { field: "position", reason: "not 1 to 32" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reachable_thresholds_exist() {
        assert_eq!(Threshold::new(0, 0), Err(QuorumError::Empty));
        assert_eq!(Threshold::new(0, 3), Err(QuorumError::ZeroThreshold));
        assert_eq!(Threshold::new(4, 3), Err(QuorumError::ThresholdAboveMembers { k: 4, n: 3 }));
        assert_eq!(Threshold::new(1, 33), Err(QuorumError::TooMany { n: 33 }));
        for n in 1..=MAX_OFFICIALS {
            for k in 1..=n {
                let threshold = Threshold::new(k, n).unwrap();
                assert_eq!(threshold.positions().count(), usize::from(n));
                assert!(threshold.check(Position::new(n).unwrap()).is_ok());
            }
        }
        let three_of_five = Threshold::new(3, 5).unwrap();
        assert_eq!(three_of_five.denials_that_end(), 3);
        assert!(three_of_five.check(Position::new(6).unwrap()).is_err());
        assert_eq!((Position::new(0), Position::new(33)), (None, None));
    }
}
