//! The public half of a quorum: its key Y, and one verification share Y_i per official.
//!
//! Comes out of the DKG, stands in the charter, and is what partial decapsulations are verified against. A value of this
//! type is consistent: all verification shares lie on one polynomial of degree k-1 whose value at 0 is Y.

use p256::{ProjectivePoint, Scalar};

use crate::protocol::{
    group::{Point, lagrange_at_zero},
    label::Label,
    quorum::{MAX_OFFICIALS, Position, QuorumError, Threshold},
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// Why a set of points is not a quorum's public half.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuorumKeyError {
    /// The number of shares is not n.
    #[error("{found} verification shares for a quorum of {n}")]
    Count {
        /// The shares found.
        found: usize,
        /// The number of officials.
        n: u8,
    },
    /// Two officials have one share.
    #[error("{first} and {second} have the same verification share")]
    Repeated {
        /// One official.
        first: Position,
        /// The other.
        second: Position,
    },
    /// The shares do not belong to the key.
    #[error("the verification shares do not lie on one polynomial through the quorum's key; first seen at {at}")]
    Inconsistent {
        /// The first official whose share does not fit those before.
        at: Position,
    },
    /// A place that does not exist.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
}

/// A quorum's public half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumKey {
    threshold: Threshold,
    key: Point,
    shares: Vec<Point>,
}

impl QuorumKey {
    /// Checks and takes the key Y and the verification shares in order of position.
    ///
    /// # Errors
    /// [`QuorumKeyError`] where they are not n distinct shares of one polynomial of degree k-1 through Y.
    pub fn new(threshold: Threshold, key: Point, shares: Vec<Point>) -> Result<Self, QuorumKeyError> {
        if shares.len() != usize::from(threshold.n()) {
            return Err(QuorumKeyError::Count { found: shares.len(), n: threshold.n() });
        }
        let places: Vec<Position> = threshold.positions().collect();
        let own: Vec<(Position, &Point)> = places.iter().copied().zip(&shares).collect();
        for (index, (second, point)) in own.iter().enumerate() {
            // With k = 1 the polynomial is constant, and everyone holds the same share.
            if threshold.k() == 1 {
                break;
            }
            if let Some((first, _)) = own.iter().take(index).find(|(_, earlier)| earlier == point) {
                return Err(QuorumKeyError::Repeated { first: *first, second: *second });
            }
        }
        // k points fix the polynomial. Each window of k neighbours must give the same value at 0 as the one before;
        // windows overlap in k-1 points, so together they fix every share.
        let k = usize::from(threshold.k());
        for window in own.windows(k) {
            let members: Vec<Position> = window.iter().map(|(place, _)| *place).collect();
            let at_zero: ProjectivePoint = window
                .iter()
                .map(|(place, point)| point.projective() * lagrange_at_zero(*place, &members).unwrap_or(Scalar::ZERO))
                .sum();
            if at_zero != key.projective() {
                let at = members.last().copied().or(places.first().copied());
                return Err(
                    at.map_or(QuorumKeyError::Quorum(QuorumError::Empty), |at| QuorumKeyError::Inconsistent { at })
                );
            }
        }
        Ok(Self { threshold, key, shares })
    }

    /// k of n.
    pub const fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// Y.
    pub const fn key(&self) -> &Point {
        &self.key
    }

    /// Every verification share, in order of position.
    pub fn shares(&self) -> &[Point] {
        &self.shares
    }

    /// Y_i.
    ///
    /// # Errors
    /// [`QuorumError::NoSuchOfficial`] for a place this quorum does not have.
    pub fn share(&self, position: Position) -> Result<&Point, QuorumError> {
        self.shares
            .get(position.index())
            .ok_or(QuorumError::NoSuchOfficial { position: position.get(), n: self.threshold.n() })
    }
}

impl Wire for QuorumKey {
    fn write(&self, out: &mut Writer) {
        out.value(&self.threshold).value(&self.key).list(&self.shares);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (threshold, key) = (input.value()?, input.value()?);
        let shares = input.list(usize::from(MAX_OFFICIALS), "verification shares")?;
        Self::new(threshold, key, shares)
            .map_err(|_| WireError::Invalid { field: "quorum key", reason: "the shares do not belong to the key" })
    }
}

impl Document for QuorumKey {
    const LABEL: Label = Label::QUORUM_KEY;
    const MAX_BYTES: usize = 2048;
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::protocol::secret::SecretScalar;
    use p256::NonZeroScalar;
    use rand_core::OsRng;

    /// A quorum made by a dealer, which only a test may do: real shares come from the DKG.
    pub(crate) fn dealt(threshold: Threshold) -> (QuorumKey, Vec<SecretScalar>) {
        let coefficients: Vec<Scalar> = (0..threshold.k()).map(|_| *NonZeroScalar::random(&mut OsRng)).collect();
        let at = |x: Scalar| coefficients.iter().rev().fold(Scalar::ZERO, |sum, c| sum * x + c);
        let secrets: Vec<SecretScalar> = threshold
            .positions()
            .map(|place| SecretScalar::new(NonZeroScalar::new(at(place.scalar())).unwrap()))
            .collect();
        let shares = secrets.iter().map(|s| Point::mul_generator(s.expose())).collect();
        let key = Point::mul_generator(&NonZeroScalar::new(coefficients[0]).unwrap());
        (QuorumKey::new(threshold, key, shares).unwrap(), secrets)
    }

    #[test]
    fn only_shares_of_the_key_are_taken() {
        for (k, n) in [(1, 2), (2, 3), (3, 5), (5, 5)] {
            let threshold = Threshold::new(k, n).unwrap();
            let (good, _) = dealt(threshold);
            assert_eq!(QuorumKey::decode(&good.encode()).unwrap(), good);
            let stranger = Point::mul_generator(SecretScalar::random(&mut OsRng).expose());
            assert!(QuorumKey::new(threshold, stranger, good.shares.clone()).is_err(), "another key");
            for at in 0..good.shares.len() {
                let mut shares = good.shares.clone();
                shares[at] = stranger;
                let error = QuorumKey::new(threshold, good.key, shares).unwrap_err();
                assert!(matches!(error, QuorumKeyError::Inconsistent { .. }), "{error}");
            }
            if k > 1 {
                let mut shares = good.shares.clone();
                shares[1] = shares[0];
                assert!(matches!(QuorumKey::new(threshold, good.key, shares), Err(QuorumKeyError::Repeated { .. })));
            }
            assert!(matches!(QuorumKey::new(threshold, good.key, vec![]), Err(QuorumKeyError::Count { .. })));
        }
    }
}
