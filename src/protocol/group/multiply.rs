//! Multiplication of points that are multiplied more than once: the doublings are paid once per point.
//!
//! [`Doubles`] adds up public multiples in variable time. [`Comb`] multiplies by secret exponents in constant time: what it
//! reads and in which order never depends on the exponent. Neither holds anything that depends on a secret exponent.
//! Sources: A. C. Yao, "On the evaluation of powers" (1976), with the signed windows of Hankerson, Menezes, Vanstone, "Guide
//! to Elliptic Curve Cryptography", algorithm 3.35; M. Hamburg, "Fast and compact elliptic-curve cryptography" (2012), §3.3,
//! for combs whose digits are only 1 and -1. Arithmetic is the crate p256's complete formulas.

use std::sync::LazyLock;

use p256::{
    ProjectivePoint, Scalar, U256,
    elliptic_curve::{PrimeField, group::Group},
};
use subtle::{Choice, ConditionallyNegatable, ConditionallySelectable, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

use crate::protocol::group::Point;

/// Width of a signed window: digits are odd, from -15 to 15. 4 and 6 cost the same within two additions.
const WINDOW: u32 = 5;
/// The odd digits' absolute values: 1, 3 .. 15.
const BUCKETS: usize = 1 << (WINDOW - 2);
/// A carry out of an exponent's highest window can reach bit 256.
const DOUBLES: usize = 257;

/// Every double of a point, 2^i·P for i from 0 to 256; 25 KB. Wiped when dropped, as P may be an official's half.
pub struct Doubles {
    point: Point,
    doubles: Vec<ProjectivePoint>,
}

impl Doubles {
    /// 256 doublings.
    pub fn new(point: Point) -> Self {
        let mut doubles = Vec::with_capacity(DOUBLES);
        doubles.extend(std::iter::successors(Some(point.projective()), |last| Some(last.double())).take(DOUBLES));
        Self { point, doubles }
    }

    /// The doubles of G.
    pub fn generator() -> &'static Self {
        static DOUBLES_OF_G: LazyLock<Doubles> = LazyLock::new(|| Doubles::new(Point::GENERATOR));
        &DOUBLES_OF_G
    }

    /// The point itself, P.
    pub const fn point(&self) -> &Point {
        &self.point
    }

    /// Σ scalar·P, about 43 additions per term and 17 at the end. **Variable time**: scalars must be public.
    pub fn sum_vartime<'a>(terms: impl IntoIterator<Item = (Scalar, &'a Self)>) -> ProjectivePoint {
        // Bucket j collects every double that is to be counted 2j+1 times.
        let mut buckets: [Option<ProjectivePoint>; BUCKETS] = [None; BUCKETS];
        for (scalar, base) in terms {
            for (bit, digit) in signed_windows(&scalar) {
                let Some(double) = base.doubles.get(bit) else { continue };
                let Some(bucket) = buckets.get_mut(usize::from(digit.unsigned_abs() / 2)) else { continue };
                let term = if digit < 0 { -*double } else { *double };
                *bucket = Some(bucket.map_or(term, |sum| sum + term));
            }
        }
        // Σ (2j+1)·b_j = 2·Σ j·b_j + Σ b_j, and Σ j·b_j is the sum of the running sums from the last bucket to the first but one.
        let (mut running, mut weighted) = (ProjectivePoint::IDENTITY, ProjectivePoint::IDENTITY);
        for (index, bucket) in buckets.iter().enumerate().rev() {
            running += bucket.unwrap_or(ProjectivePoint::IDENTITY);
            if index > 0 {
                weighted += running;
            }
        }
        weighted.double() + running
    }
}

impl Drop for Doubles {
    fn drop(&mut self) {
        self.doubles.zeroize();
        self.point.zeroize();
    }
}

impl std::fmt::Debug for Doubles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Doubles(..)")
    }
}

/// The scalar as Σ digit·2^bit with odd digits from -15 to 15, at least five bits apart. Variable time.
fn signed_windows(scalar: &Scalar) -> impl Iterator<Item = (usize, i8)> {
    let mut rest = U256::from(scalar);
    let mut bit = 0;
    std::iter::from_fn(move || {
        if rest == U256::ZERO {
            return None;
        }
        let zeros = rest.trailing_zeros_vartime();
        rest = rest.shr_vartime(zeros);
        bit += zeros;
        let low = rest.as_words().first().map_or(0, |word| word & ((1 << WINDOW) - 1));
        // A window above 16 stands for itself less 32: the difference is carried into the bits above. The exponent is below
        // the group order, 2^256 - 2^224 and less, so the carry never leaves the 256 bits.
        let digit = i8::try_from(low).unwrap_or_default();
        if digit < 1 << (WINDOW - 1) {
            rest = rest.wrapping_sub(&U256::from(low));
            Some((bit, digit))
        } else {
            rest = rest.wrapping_add(&U256::from((1 << WINDOW) - low));
            Some((bit, digit - (1 << WINDOW)))
        }
    })
}

/// Rows of a comb: how many bits of an exponent one entry stands for.
const TEETH: usize = 6;
/// Distance of the teeth in bits; 6 · 43 = 258 bits cover an exponent. Five or seven teeth cost the same within 3 %.
const COLUMNS: usize = 43;
/// The highest tooth's sign is taken out of the table.
const ENTRIES: usize = 1 << (TEETH - 1);

/// The 32 sums 2^215·P ± 2^172·P ± 2^129·P ± 2^86·P ± 2^43·P ± P; 3 KB.
pub struct Comb(Vec<ProjectivePoint>);

impl Comb {
    /// 36 additions.
    pub fn new(base: &Doubles) -> Self {
        let double = |bit: usize| base.doubles.get(bit).copied().unwrap_or(ProjectivePoint::IDENTITY);
        // Entry 0 has every lower tooth negative. Each further entry turns one more tooth t positive: + 2 · 2^(43 t)·P.
        let lowest = (0..TEETH - 1).fold(double((TEETH - 1) * COLUMNS), |sum, tooth| sum - double(tooth * COLUMNS));
        let mut entries = Vec::with_capacity(ENTRIES);
        entries.push(lowest);
        for tooth in 0..TEETH - 1 {
            let twice = double(tooth * COLUMNS + 1);
            let with_tooth: Vec<ProjectivePoint> = entries.iter().map(|entry| entry + &twice).collect();
            entries.extend(with_tooth);
        }
        Self(entries)
    }

    /// The comb of G.
    pub fn generator() -> &'static Self {
        static COMB_OF_G: LazyLock<Comb> = LazyLock::new(|| Comb::new(Doubles::generator()));
        &COMB_OF_G
    }

    /// scalar·P, in constant time.
    pub fn mul(&self, scalar: &Scalar) -> ProjectivePoint {
        Self::sum([(scalar, self)])
    }

    /// Σ scalar·P, in constant time: 43 doublings, and 43 additions per term.
    pub fn sum<'a>(terms: impl IntoIterator<Item = (&'a Scalar, &'a Self)>) -> ProjectivePoint {
        let terms: Vec<(Zeroizing<[u8; COLUMNS]>, &Self)> =
            terms.into_iter().map(|(scalar, comb)| (digits(scalar), comb)).collect();
        (0..COLUMNS).rev().fold(ProjectivePoint::IDENTITY, |sum, column| {
            terms.iter().fold(sum.double(), |sum, (digits, comb)| {
                // The column is public, and there is always one.
                sum + comb.signed_entry(digits.get(column).copied().unwrap_or_default())
            })
        })
    }

    /// Reads every entry and keeps one; the digit's sixth bit is the sign of the whole.
    fn signed_entry(&self, digit: u8) -> ProjectivePoint {
        let positive = digit >> (TEETH - 1);
        // Negating an entry turns every lower tooth too, so where the sum is to be negative the opposite entry is negated.
        let index = (digit ^ positive.wrapping_sub(1)) & (ENTRIES as u8 - 1);
        let mut found = ProjectivePoint::IDENTITY;
        for (at, entry) in (0..).zip(&self.0) {
            found.conditional_assign(entry, index.ct_eq(&at));
        }
        found.conditional_negate(!Choice::from(positive));
        found
    }
}

impl std::fmt::Debug for Comb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Comb(..)")
    }
}

/// The comb's digit for each column: six bits of h = (scalar + 2^258 - 1)/2 modulo the group order, 43 bits apart.
///
/// Then scalar = 2h - (2^258 - 1) = Σ (2·h_i - 1)·2^i: a bit 1 stands for 1, a bit 0 for -1, and no digit is ever 0.
fn digits(scalar: &Scalar) -> Zeroizing<[u8; COLUMNS]> {
    static ALL_ONES: LazyLock<Scalar> =
        LazyLock::new(|| Scalar::from(2_u64).pow_vartime(&[(TEETH * COLUMNS) as u64]) - Scalar::ONE);
    let half = Zeroizing::new((scalar + &*ALL_ONES) * Scalar::TWO_INV);
    let bytes = Zeroizing::new(<[u8; 32]>::from(half.to_bytes()));
    let mut digits = Zeroizing::new([0; COLUMNS]);
    for (column, digit) in digits.iter_mut().enumerate() {
        for tooth in 0..TEETH {
            let bit = tooth * COLUMNS + column;
            // Big-endian; bits 256 and 257 of a reduced exponent are 0. Only positions, which are public, are branched on.
            let value = bytes.iter().rev().nth(bit / 8).map_or(0, |byte| (byte >> (bit % 8)) & 1);
            *digit |= value << tooth;
        }
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Random exponents, and those at which a carry, a borrow or an empty window is likeliest.
    fn scalars() -> impl Strategy<Value = Scalar> {
        let power = |bit: u64| Scalar::from(2_u64).pow_vartime(&[bit]);
        prop_oneof![
            4 => any::<[u64; 4]>().prop_map(|words| {
                words.iter().fold(Scalar::ZERO, |sum, word| sum * Scalar::from(1_u64 << 32).square() + Scalar::from(*word))
            }),
            1 => (0_u64..40).prop_map(Scalar::from),
            1 => (0_u64..40).prop_map(|small| -Scalar::from(small)),
            1 => (0_u64..256).prop_map(power),
            1 => (0_u64..256).prop_map(move |bit| power(bit) - Scalar::ONE),
            1 => (0_u64..256, 0_u64..40).prop_map(move |(bit, small)| -power(bit) + Scalar::from(small)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn both_ways_give_what_plain_multiplication_gives(a in scalars(), b in scalars(), c in scalars()) {
            // A point that is sometimes G and sometimes the identity's neighbour.
            let p = Point::new(ProjectivePoint::GENERATOR * c).unwrap_or(Point::GENERATOR);
            let doubles = Doubles::new(p);
            let comb = Comb::new(&doubles);
            prop_assert_eq!(comb.mul(&a), p.projective() * a);
            prop_assert_eq!(Doubles::sum_vartime([(a, &doubles)]), p.projective() * a);
            let both = p.projective() * a + ProjectivePoint::GENERATOR * b;
            prop_assert_eq!(Comb::sum([(&a, &comb), (&b, Comb::generator())]), both);
            prop_assert_eq!(Doubles::sum_vartime([(a, &doubles), (b, Doubles::generator())]), both);
        }
    }

    #[test]
    fn the_exponents_at_the_ends_are_right() {
        let (doubles, comb) = (Doubles::generator(), Comb::generator());
        let ends = [Scalar::ZERO, Scalar::ONE, Scalar::from(2_u64), -Scalar::ONE, -Scalar::from(2_u64)];
        for end in ends {
            assert_eq!(comb.mul(&end), ProjectivePoint::GENERATOR * end);
            assert_eq!(Doubles::sum_vartime([(end, doubles)]), ProjectivePoint::GENERATOR * end);
        }
        assert_eq!(Doubles::sum_vartime([]), ProjectivePoint::IDENTITY);
        assert_eq!(Comb::sum([]), ProjectivePoint::IDENTITY);
        // Terms that cancel.
        assert_eq!(Comb::sum([(&ends[1], comb), (&ends[3], comb)]), ProjectivePoint::IDENTITY);
        assert_eq!(Doubles::sum_vartime([(ends[1], doubles), (ends[3], doubles)]), ProjectivePoint::IDENTITY);
    }

    #[test]
    fn no_entry_of_a_comb_is_the_identity_and_none_stands_twice() {
        let mut seen = std::collections::HashSet::new();
        for entry in &Comb::generator().0 {
            assert!(seen.insert(Point::new(*entry).unwrap().xy().0));
        }
        assert_eq!(seen.len(), ENTRIES);
    }

    #[test]
    fn signed_windows_are_odd_far_apart_and_add_up() {
        for scalar in [Scalar::ONE, -Scalar::ONE, Scalar::from(31_u64), -Scalar::from(17_u64), Scalar::from(u64::MAX)] {
            let windows: Vec<(usize, i8)> = signed_windows(&scalar).collect();
            assert!(windows.iter().all(|(bit, digit)| *bit < DOUBLES && digit % 2 != 0 && digit.abs() < 16));
            assert!(windows.windows(2).all(|pair| pair[1].0 >= pair[0].0 + 5));
            let value = windows.iter().fold(Scalar::ZERO, |sum, (bit, digit)| {
                let term =
                    Scalar::from(2_u64).pow_vartime(&[*bit as u64]) * Scalar::from(u64::from(digit.unsigned_abs()));
                if *digit < 0 { sum - term } else { sum + term }
            });
            assert_eq!(value, scalar);
        }
    }
}
