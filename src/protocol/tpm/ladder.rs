//! The quorum ladder: a policy that any k of n officials reach by signing, in n rungs instead of one branch per subset.
//!
//! protocol.md §8.1. Officials stand in a fixed order. D(i, j) is the digest of a session after the first i officials were
//! asked and j of them signed. D(i, 0) is the base; otherwise D(i, j) is the PolicyOR of D(i-1, j), where official i was
//! skipped, and S_i(D(i-1, j-1)), where official i signed, if both exist, and the one that exists if not. The policy is
//! D(n, k). A set of approvers fixes the path: at most k PolicySigned and n PolicyOR.

use std::collections::BTreeSet;

use crate::protocol::{
    group::Point,
    quorum::{Position, QuorumError, Threshold},
    tpm::{
        object::OfficialKey,
        policy::{PolicyDigest, PolicyRef, PolicyStep},
    },
};

/// Why there is no such ladder, or no such way up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LadderError {
    /// The threshold cannot be, or an approver is no member.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    /// The number of keys is not n.
    #[error("{found} officials' keys for a quorum of {n}")]
    Count {
        /// The keys found.
        found: usize,
        /// The number of officials.
        n: u8,
    },
    /// One key on two rungs: its holder would count twice.
    #[error("{first} and {second} have one key (or one the negative of the other), so one person would count twice")]
    OneKeyTwice {
        /// One official.
        first: Position,
        /// The other.
        second: Position,
    },
    /// Too few approvers, or more than are used.
    #[error("{found} officials approve; this ladder takes exactly {k}")]
    Approvers {
        /// The approvers given.
        found: usize,
        /// The threshold.
        k: u8,
    },
    /// An approver is named twice.
    #[error("{position} is named twice among those who approve, and counts once")]
    ApproverTwice {
        /// The official.
        position: Position,
    },
    /// Approvers were given for a policy that has no ladder.
    #[error("this object's policy asks no officials, but {found} are given")]
    NobodyAsked {
        /// The approvers given.
        found: usize,
    },
}

/// A ladder over a base digest, with every rung's digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    threshold: Threshold,
    keys: Vec<OfficialKey>,
    policy_ref: PolicyRef,
    /// Row i holds D(i, 0) to D(i, min(i, k)).
    rungs: Vec<Vec<PolicyDigest>>,
    digest: PolicyDigest,
}

impl Ladder {
    /// Computes the ladder of these officials, in order of position, on top of `base`.
    ///
    /// # Errors
    /// [`LadderError`] unless there are n keys of n different holders. 1 ≤ k ≤ n holds by [`Threshold`].
    pub fn new(
        base: PolicyDigest,
        threshold: Threshold,
        officials: &[Point],
        policy_ref: PolicyRef,
    ) -> Result<Self, LadderError> {
        let (k, n) = (usize::from(threshold.k()), threshold.n());
        if officials.len() != usize::from(n) {
            return Err(LadderError::Count { found: officials.len(), n });
        }
        let places: Vec<(Position, &Point)> = threshold.positions().zip(officials).collect();
        for (index, (second, point)) in places.iter().enumerate() {
            // Same x: the same key or its negative, which whoever knows the one knows too.
            let twin = places.iter().take(index).find(|(_, earlier)| earlier.xy().0 == point.xy().0);
            if let Some((first, _)) = twin {
                return Err(LadderError::OneKeyTwice { first: *first, second: *second });
            }
        }

        let keys: Vec<OfficialKey> = officials.iter().map(|point| OfficialKey::new(*point)).collect();
        let mut rungs = vec![vec![base]];
        for key in &keys {
            let below = rungs.last().map(Vec::as_slice).unwrap_or_default();
            // protocol.md §8.1: the skip branch first.
            let signed = below.iter().map(|digest| digest.signed(key.name(), &policy_ref));
            let skipped = below.iter().skip(1).map(Some).chain(std::iter::repeat(None));
            let climbed = signed.zip(skipped).map(|(signed, skipped)| match skipped {
                Some(skipped) => PolicyDigest::or(&[*skipped, signed]),
                None => signed,
            });
            let rung = std::iter::once(base).chain(climbed).take(k.saturating_add(1)).collect();
            rungs.push(rung);
        }
        // Row n has entries 0 to k, because k ≤ n.
        let digest = rungs.last().and_then(|top| top.get(k)).copied();
        let digest = digest.ok_or(QuorumError::ThresholdAboveMembers { k: threshold.k(), n })?;
        Ok(Self { threshold, keys, policy_ref, rungs, digest })
    }

    /// D(n, k).
    pub const fn digest(&self) -> &PolicyDigest {
        &self.digest
    }

    /// k of n.
    pub const fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// Every official's key, in order of position.
    pub fn keys(&self) -> &[OfficialKey] {
        &self.keys
    }

    /// The policyRef that every approval carries.
    pub const fn policy_ref(&self) -> &PolicyRef {
        &self.policy_ref
    }

    /// What a session at the base runs to reach the top when these officials sign: [`PolicyStep::Signed`] and
    /// [`PolicyStep::Or`] only.
    ///
    /// # Errors
    /// [`LadderError`] unless exactly k distinct officials of this quorum are given, in any order.
    pub fn path(&self, approvers: &[Position]) -> Result<Vec<PolicyStep>, LadderError> {
        let mut approving = BTreeSet::new();
        for &position in approvers {
            self.threshold.check(position)?;
            if !approving.insert(position) {
                return Err(LadderError::ApproverTwice { position });
            }
        }
        if approving.len() != usize::from(self.threshold.k()) {
            return Err(LadderError::Approvers { found: approving.len(), k: self.threshold.k() });
        }

        let mut steps = Vec::new();
        let mut signatures = 0usize;
        for ((position, key), below) in self.threshold.positions().zip(&self.keys).zip(&self.rungs) {
            if approving.contains(&position) {
                steps.push(PolicyStep::Signed { position, key: *key, policy_ref: self.policy_ref });
                signatures = signatures.saturating_add(1);
            }
            let skipped = below.get(signatures);
            let signed = signatures.checked_sub(1).and_then(|fewer| below.get(fewer));
            if let (Some(skipped), Some(signed)) = (skipped, signed) {
                let branches = [*skipped, signed.signed(key.name(), &self.policy_ref)];
                steps.push(PolicyStep::Or { branches });
            }
        }
        Ok(steps)
    }
}
