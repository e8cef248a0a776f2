//! The group: points and exponents of P-256 (FIPS 186-5, SEC 2), as the protocol uses them.
//!
//! A [`Point`] is on the curve and is not the identity; there is no way to hold another. Arithmetic is the crate p256's;
//! [`multiply`] arranges it so that many multiplications of one point cost less than one by one.

pub mod multiply;

use p256::{
    AffinePoint, EncodedPoint, NonZeroScalar, ProjectivePoint, Scalar,
    elliptic_curve::{
        PrimeField,
        ops::Invert,
        sec1::{FromEncodedPoint, ToEncodedPoint},
    },
};
use zeroize::Zeroize;

use crate::protocol::{
    quorum::{MAX_OFFICIALS, Position},
    secret::Secret,
    wire::{Reader, Wire, WireError, Writer},
};

/// Length of a point on the wire: SEC 1 compressed.
pub const POINT_BYTES: usize = 33;

/// Why bytes are not a point that the protocol accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a point of P-256 other than the identity, in SEC 1 compressed form")]
pub struct PointError;

/// A point of P-256 that is not the identity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Point(AffinePoint);

impl Point {
    /// The group's generator G.
    pub const GENERATOR: Self = Self(AffinePoint::GENERATOR);

    /// # Errors
    /// [`PointError`] for the identity.
    pub fn new(point: ProjectivePoint) -> Result<Self, PointError> {
        let affine = point.to_affine();
        if bool::from(affine.is_identity()) { Err(PointError) } else { Ok(Self(affine)) }
    }

    /// Reads the 33 bytes of [`Point::encode`].
    ///
    /// # Errors
    /// [`PointError`] for anything else, the identity's encodings included.
    pub fn decode(bytes: &[u8]) -> Result<Self, PointError> {
        if bytes.len() != POINT_BYTES {
            return Err(PointError);
        }
        let encoded = EncodedPoint::from_bytes(bytes).map_err(|_| PointError)?;
        Option::from(AffinePoint::from_encoded_point(&encoded)).map(Self).ok_or(PointError)
    }

    /// Builds the point from its affine coordinates, big-endian.
    ///
    /// # Errors
    /// [`PointError`] where they are not on the curve.
    pub fn from_xy(x: &[u8; 32], y: &[u8; 32]) -> Result<Self, PointError> {
        let encoded = EncodedPoint::from_affine_coordinates(x.into(), y.into(), false);
        Option::from(AffinePoint::from_encoded_point(&encoded)).map(Self).ok_or(PointError)
    }

    /// The point that an ECDSA key is.
    pub fn of_key(key: &p256::ecdsa::VerifyingKey) -> Self {
        // A verifying key is never the identity.
        Self(*key.as_affine())
    }

    /// SEC 1 compressed form.
    pub fn encode(&self) -> [u8; POINT_BYTES] {
        let mut out = [0; POINT_BYTES];
        // A point that is not the identity always has 33 bytes; fixed by the type's invariant.
        out.copy_from_slice(self.0.to_encoded_point(true).as_bytes());
        out
    }

    /// SEC 1 uncompressed form: 0x04, x, y.
    pub fn encode_uncompressed(&self) -> [u8; 65] {
        let mut out = [0; 65];
        out.copy_from_slice(self.0.to_encoded_point(false).as_bytes());
        out
    }

    /// The affine coordinates, big-endian, each padded to 32 bytes.
    pub fn xy(&self) -> ([u8; 32], [u8; 32]) {
        let encoded = self.0.to_encoded_point(false);
        let coordinate = |c: Option<&p256::FieldBytes>| c.map(|c| (*c).into()).unwrap_or_default();
        (coordinate(encoded.x()), coordinate(encoded.y()))
    }

    /// The x coordinate as a secret, for shared points.
    pub fn secret_x(&self) -> Secret<32> {
        let (mut x, _) = self.xy();
        Secret::take(&mut x)
    }

    /// Whether the points are equal or opposite. Both have one x then, and whoever raises one to a secret has raised the
    /// other: where keys or slots must differ, they must differ in more than the sign. Variable time, for public points.
    pub fn equals_up_to_sign(&self, other: &Self) -> bool {
        self.xy().0 == other.xy().0
    }

    /// The point as p256's affine type.
    pub const fn affine(&self) -> &AffinePoint {
        &self.0
    }

    /// The point as p256's projective type.
    pub fn projective(&self) -> ProjectivePoint {
        self.0.into()
    }

    /// `scalar · self`, in constant time. Never the identity, because the group has prime order.
    pub fn mul(&self, scalar: &NonZeroScalar) -> Self {
        Self((self.projective() * **scalar).to_affine())
    }

    /// `scalar · G`, in constant time.
    pub fn mul_generator(scalar: &NonZeroScalar) -> Self {
        Self(multiply::Comb::generator().mul(scalar).to_affine())
    }
}

impl Zeroize for Point {
    /// Wipes the coordinates and leaves G, since a [`Point`] is never the identity.
    fn zeroize(&mut self) {
        self.0.zeroize();
        *self = Self::GENERATOR;
    }
}

impl std::fmt::Debug for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Point(")?;
        self.encode().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

impl std::hash::Hash for Point {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.encode().hash(state);
    }
}

impl Wire for Point {
    fn write(&self, out: &mut Writer) {
        out.raw(&self.encode());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Self::decode(input.raw(POINT_BYTES, "point")?)
            .map_err(|_| WireError::Invalid { field: "point", reason: "not a point of P-256 other than the identity" })
    }
}

/// Reads a public exponent, 32 bytes big-endian and below the group order.
///
/// # Errors
/// [`WireError`] for anything else.
pub fn read_scalar(input: &mut Reader<'_>, field: &'static str) -> Result<Scalar, WireError> {
    Option::from(Scalar::from_repr(input.array::<32>(field)?.into()))
        .ok_or(WireError::Invalid { field, reason: "not below the group order" })
}

/// The Lagrange coefficient at 0 of `own` among `all` places: Π j/(j - own) over the other places j.
///
/// `None` where `own` does not stand in `all`, or a place stands twice. Variable time; places are public.
pub fn lagrange_at_zero(own: Position, all: &[Position]) -> Option<Scalar> {
    // Both products are over distinct numbers from 1 to 32, so they stay below 32! < 2^118: no field arithmetic is needed.
    const { assert!(MAX_OFFICIALS <= 32) };
    let (mut numerator, mut denominator) = (1_i128, 1_i128);
    let mut seen = 0_u64;
    for place in all {
        let bit = 1_u64 << place.get();
        if seen & bit != 0 {
            return None;
        }
        seen |= bit;
        if *place != own {
            let (own, other) = (i128::from(own.get()), i128::from(place.get()));
            numerator = numerator.checked_mul(other)?;
            denominator = denominator.checked_mul(other - own)?;
        }
    }
    if seen & (1_u64 << own.get()) == 0 {
        return None;
    }
    let inverse: Scalar = Option::from(Scalar::from(denominator.unsigned_abs()).invert_vartime())?;
    let coefficient = Scalar::from(numerator.unsigned_abs()) * inverse;
    Some(if denominator < 0 { -coefficient } else { coefficient })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::quorum::Threshold;

    #[test]
    fn coefficients_recover_a_polynomials_value_at_zero() {
        let all: Vec<Position> = Threshold::new(32, 32).unwrap().positions().collect();
        let three = [all[4], all[0], all[31]];
        for places in [&all[..], &three, &all[7..8]] {
            // f(x) = 5 + x + x^2 + .. with one coefficient per place.
            let f = |x: Scalar| {
                let powers = std::iter::successors(Some(x), |power| Some(power * &x)).take(places.len() - 1);
                powers.fold(Scalar::from(5_u64), |sum, power| sum + power)
            };
            let coefficient = |place: &Position| lagrange_at_zero(*place, places).unwrap();
            let at_zero = places.iter().fold(Scalar::ZERO, |sum, place| sum + coefficient(place) * f(place.scalar()));
            assert_eq!(at_zero, Scalar::from(5_u64));
        }
        let [first, second, third] = [all[0], all[1], all[2]];
        assert_eq!(lagrange_at_zero(first, &[second, third]), None, "a stranger");
        assert_eq!(lagrange_at_zero(first, &[first, first, second]), None, "itself twice");
        assert_eq!(lagrange_at_zero(first, &[first, second, second]), None, "another twice");
        assert_eq!(lagrange_at_zero(first, &[]), None);
    }

    #[test]
    fn a_wiped_point_is_the_generator_and_the_identity_is_no_point() {
        let mut point = Point::mul_generator(&NonZeroScalar::new(Scalar::from(7_u64)).unwrap());
        let opposite = Point::new(-point.projective()).unwrap();
        assert!(point != opposite && point.equals_up_to_sign(&opposite) && point.equals_up_to_sign(&point));
        assert!(!point.equals_up_to_sign(&Point::GENERATOR));
        point.zeroize();
        assert_eq!(point, Point::GENERATOR);
        assert_eq!(Point::new(ProjectivePoint::IDENTITY), Err(PointError));
        assert_eq!(Point::new(point.projective() - point.projective()), Err(PointError));
    }
}
