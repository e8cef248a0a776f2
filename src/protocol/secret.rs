//! The secret types, all of them, and how work on them leaves no trace on the stack.
//!
//! A secret is boxed (so that moving it leaves no copy behind), wiped when dropped, redacted when printed, compared in
//! constant time, never `Clone`, never serialized. Reading one is always spelled `expose`, so that a search for that word
//! finds every place where secret bytes leave their box.

use rand_core::{CryptoRng, RngCore};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::protocol::group::Point;

/// `N` secret bytes.
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// All zero, to be filled through [`Secret::expose_mut`].
    pub fn zeroed() -> Self {
        Self(Box::new([0; N]))
    }

    /// Takes the bytes and wipes the place they came from.
    pub fn take(from: &mut [u8; N]) -> Self {
        let mut out = Self::zeroed();
        out.0.copy_from_slice(from);
        from.zeroize();
        out
    }

    /// Copies a slice of exactly `N` bytes; `None` for any other length. The caller wipes the source.
    pub fn from_slice(from: &[u8]) -> Option<Self> {
        let mut out = Self::zeroed();
        if from.len() != N {
            return None;
        }
        out.0.copy_from_slice(from);
        Some(out)
    }

    /// Fresh random bytes.
    pub fn random(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        let mut out = Self::zeroed();
        rng.fill_bytes(out.expose_mut());
        out
    }

    /// The bytes. They must not outlive this value in any other place that is not wiped.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// The bytes, to be filled.
    pub fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> ZeroizeOnDrop for Secret<N> {}

impl<const N: usize> std::fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret<{N}>(redacted)")
    }
}

impl<const N: usize> ConstantTimeEq for Secret<N> {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        self.0.as_slice().ct_eq(other.0.as_slice())
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl<const N: usize> Eq for Secret<N> {}

/// A secret byte string whose length is public.
pub struct SecretVec(Vec<u8>);

impl SecretVec {
    /// Takes the bytes. Give the vector its final capacity before secrets go in: growing would leave copies behind.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for SecretVec {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for SecretVec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretVec({} bytes, redacted)", self.0.len())
    }
}

/// A secret exponent of P-256, never zero: a share, a static key, a nonce.
pub struct SecretScalar(Box<p256::NonZeroScalar>);

impl SecretScalar {
    /// Boxes a scalar.
    pub fn new(scalar: p256::NonZeroScalar) -> Self {
        Self(Box::new(scalar))
    }

    /// A fresh random scalar.
    pub fn random(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        Self::new(p256::NonZeroScalar::random(rng))
    }

    /// Reads 32 big-endian bytes; `None` for zero and for values not below the group order.
    pub fn from_bytes(bytes: &Secret<32>) -> Option<Self> {
        Option::from(p256::NonZeroScalar::from_repr((*bytes.expose()).into())).map(Self::new)
    }

    /// The 32 big-endian bytes.
    pub fn to_bytes(&self) -> Secret<32> {
        let mut bytes: [u8; 32] = self.0.to_bytes().into();
        Secret::take(&mut bytes)
    }

    /// The scalar.
    pub fn expose(&self) -> &p256::NonZeroScalar {
        &self.0
    }
}

impl Drop for SecretScalar {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for SecretScalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretScalar(redacted)")
    }
}

impl PartialEq for SecretScalar {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretScalar {}

/// A secret summand of a share: what one dealer's polynomial gives at one place. Unlike a share it may be zero.
pub struct ShareSummand(Box<p256::Scalar>);

impl ShareSummand {
    /// Boxes a scalar. The caller wipes the source.
    pub fn new(scalar: p256::Scalar) -> Self {
        Self(Box::new(scalar))
    }

    /// The scalar.
    pub fn expose(&self) -> &p256::Scalar {
        &self.0
    }

    /// Adds up summands in constant time; `None` where the sum is zero.
    pub fn sum<'a>(summands: impl Iterator<Item = &'a Self>) -> Option<SecretScalar> {
        let mut sum = summands.fold(p256::Scalar::ZERO, |sum, summand| sum + *summand.0);
        let share = Option::from(p256::NonZeroScalar::new(sum)).map(SecretScalar::new);
        sum.zeroize();
        share
    }
}

impl Drop for ShareSummand {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for ShareSummand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShareSummand(redacted)")
    }
}

/// A point that a quorum decapsulated, Z = x·C: what a slot's key is derived from.
pub struct SharedPoint(Box<Point>);

impl SharedPoint {
    /// Takes the point and wipes the place it came from.
    pub fn take(from: &mut Point) -> Self {
        let boxed = Self(Box::new(*from));
        from.zeroize();
        boxed
    }

    /// The point.
    pub fn expose(&self) -> &Point {
        &self.0
    }

    /// The x coordinate, 32 bytes big-endian.
    pub fn x(&self) -> Secret<32> {
        self.0.secret_x()
    }
}

impl Drop for SharedPoint {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for SharedPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedPoint(redacted)")
    }
}

impl PartialEq for SharedPoint {
    fn eq(&self, other: &Self) -> bool {
        self.0.affine().ct_eq(other.0.affine()).into()
    }
}

impl Eq for SharedPoint {}

/// How much of a stack [`without_trace`] overwrites: more than the deepest work on secrets takes, also in a build without
/// optimization and in the TPM software stack.
const BURNED_BYTES: usize = 192 * 1024;

/// Runs work on secrets and then overwrites the stack that it used: moves of values, and libraries in C, leave copies there
/// that no destructor sees. What `work` returns must not hold secrets but in their boxes.
pub fn without_trace<R>(work: impl FnOnce() -> R) -> R {
    without_trace_of::<BURNED_BYTES, R>(work)
}

/// [`without_trace`] for work that is known to use no more than `BYTES` of the stack.
pub fn without_trace_of<const BYTES: usize, R>(work: impl FnOnce() -> R) -> R {
    let done = apart(work);
    burn::<BYTES>();
    done
}

/// A frame of its own, below which [`burn`] begins as well.
#[inline(never)]
fn apart<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[inline(never)]
fn burn<const BYTES: usize>() {
    let mut stack = [0_u8; BYTES];
    // Nobody may conclude that the zeros are never read.
    std::hint::black_box(&mut stack);
}
