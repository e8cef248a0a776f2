//! The combiner: takes officials' halves as they come, checks each at once, and opens the points when k are there.
//!
//! It trusts no sender. A bad, repeated or late message is refused with its sender's name, and the ceremony goes on as if it
//! had not come (protocol.md §5.4). Variable time throughout: what it computes with is public to whoever runs it.

use std::{collections::BTreeSet, sync::Arc};

use p256::Scalar;

use crate::protocol::{
    group::{Point, lagrange_at_zero, multiply::Doubles},
    hash::Hash,
    partial::{PartialDecapsulation, PointsError, check_points, context, proof},
    quorum::Position,
    quorum_key::QuorumKey,
    secret::SharedPoint,
};

/// A quorum's public half with tables for checking proofs, 25 KB per official. Made once per generation; clones share it.
#[derive(Clone, Debug)]
pub struct PreparedQuorum(Arc<Prepared>);

#[derive(Debug)]
struct Prepared {
    key: QuorumKey,
    shares: Vec<Doubles>,
}

impl PreparedQuorum {
    /// 256 doublings per official.
    pub fn new(key: &QuorumKey) -> Self {
        let shares = key.shares().iter().copied().map(Doubles::new).collect();
        Self(Arc::new(Prepared { key: key.clone(), shares }))
    }

    /// The quorum's public half.
    pub fn key(&self) -> &QuorumKey {
        &self.0.key
    }
}

/// What became of a message that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Right and new; it counts.
    Accepted {
        /// How many officials' halves are there now.
        have: u8,
        /// How many it takes.
        need: u8,
    },
    /// The very same message had been accepted before; nothing changed.
    AlreadyAccepted,
}

/// Why a message was refused. The ceremony stands where it stood; wait for others, or ask this official again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartialError {
    /// The proof does not hold for this official, this offer and these points.
    #[error(
        "{culprit} sent a wrong half: its proof does not hold for this offer. Ask for it again, or go on with another"
    )]
    BadProof {
        /// Whose message it was.
        culprit: Position,
    },
    /// It does not answer as many points as were asked.
    #[error(
        "{culprit} answered {found} points where the offer has {expected}. Ask for it again, or go on with another"
    )]
    WrongCount {
        /// Whose message it was.
        culprit: Position,
        /// Points answered.
        found: usize,
        /// Points in the ceremony.
        expected: usize,
    },
    /// This official's halves are there already; no official counts twice.
    #[error("{by} has sent its halves before, and counts once. Nothing to do")]
    Repeated {
        /// Who sent again.
        by: Position,
    },
    /// k others were faster.
    #[error("{by} came late: {need} officials' halves are there already. Nothing to do")]
    Late {
        /// Who was late.
        by: Position,
        /// How many it took.
        need: u8,
    },
    /// The quorum has no such official.
    #[error("{position} does not exist: this quorum has {n}")]
    NoSuchOfficial {
        /// The place claimed.
        position: Position,
        /// The number of officials.
        n: u8,
    },
}

impl PartialError {
    /// The official whose message was wrong; `None` where the message was merely superfluous, or nobody's.
    pub const fn culprit(&self) -> Option<Position> {
        match self {
            Self::BadProof { culprit } | Self::WrongCount { culprit, .. } => Some(*culprit),
            Self::Repeated { .. } | Self::Late { .. } | Self::NoSuchOfficial { .. } => None,
        }
    }
}

/// Why the points are not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CombineError {
    /// Fewer than k.
    #[error("{have} of {need} officials' halves are there. Any {} of these can still send theirs: {}",
        need.saturating_sub(*have), list(missing))]
    NotEnough {
        /// Officials whose halves were accepted.
        have: u8,
        /// How many it takes.
        need: u8,
        /// The officials from whom none was accepted.
        missing: Vec<Position>,
    },
    /// The result is no point. A proof has been forged, or memory is broken.
    #[error(
        "the accepted halves do not combine, though every proof held: distrust this machine, and repeat on another"
    )]
    Unsound,
}

fn list(officials: &[Position]) -> String {
    officials.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// One ceremony's halves. 25 KB per point and per accepted half.
#[derive(Debug)]
pub struct Combiner {
    quorum: PreparedQuorum,
    offer: Hash,
    points: Vec<Doubles>,
    accepted: Vec<Accepted>,
    culprits: BTreeSet<Position>,
}

/// A message whose proof held.
#[derive(Debug)]
struct Accepted {
    message: PartialDecapsulation,
    halves: Vec<Doubles>,
}

impl Combiner {
    /// Opens a ceremony: the offer's hash and its points, in the offer's order.
    ///
    /// # Errors
    /// [`PointsError`] unless there are 1 to 8 points, no two the same.
    pub fn new(quorum: &PreparedQuorum, offer: Hash, points: &[Point]) -> Result<Self, PointsError> {
        check_points(points)?;
        Ok(Self {
            quorum: quorum.clone(),
            offer,
            points: points.iter().copied().map(Doubles::new).collect(),
            accepted: Vec::new(),
            culprits: BTreeSet::new(),
        })
    }

    /// Checks a message and counts it. The caller knows by a signature that the official at the message's position sent it;
    /// without one, anybody could have others named as culprits.
    ///
    /// # Errors
    /// [`PartialError`] for a message that is refused. It changes nothing, but that a culprit is remembered.
    pub fn receive(&mut self, message: PartialDecapsulation) -> Result<Receipt, PartialError> {
        let refusal = match self.check(&message) {
            Ok(Checked::Before) => return Ok(Receipt::AlreadyAccepted),
            Ok(Checked::New(halves)) => {
                self.accepted.push(Accepted { message, halves });
                return Ok(Receipt::Accepted { have: self.have(), need: self.need() });
            }
            Err(refusal) => refusal,
        };
        self.culprits.extend(refusal.culprit());
        Err(refusal)
    }

    fn check(&self, message: &PartialDecapsulation) -> Result<Checked, PartialError> {
        let by = message.position;
        let Some(public) = self.quorum.0.shares.get(by.index()) else {
            let n = self.quorum.key().threshold().n();
            return Err(PartialError::NoSuchOfficial { position: by, n });
        };
        if let Some(earlier) = self.accepted.iter().find(|earlier| earlier.message.position == by) {
            return if earlier.message == *message { Ok(Checked::Before) } else { Err(PartialError::Repeated { by }) };
        }
        if self.have() >= self.need() {
            return Err(PartialError::Late { by, need: self.need() });
        }
        let (found, expected) = (message.partials.len(), self.points.len());
        if found != expected {
            return Err(PartialError::WrongCount { culprit: by, found, expected });
        }
        // protocol.md §5.4: every proof is checked before any half is combined.
        let halves: Vec<Doubles> = message.partials.iter().copied().map(Doubles::new).collect();
        if !proof::verify(&context(&self.offer, by), public, &self.points, &halves, &message.proof) {
            return Err(PartialError::BadProof { culprit: by });
        }
        Ok(Checked::New(halves))
    }

    /// Forgets what was accepted of an official, who may send again; `false` where nothing was.
    pub fn set_aside(&mut self, position: Position) -> bool {
        let before = self.accepted.len();
        self.accepted.retain(|accepted| accepted.message.position != position);
        self.accepted.len() < before
    }

    /// The shared points Z_j = x·C_j, in the order of the ceremony's points: Σ λ_i·P_ij over the k officials who came first.
    ///
    /// # Errors
    /// [`CombineError::NotEnough`] before k halves are there; the ceremony goes on.
    pub fn combine(&self) -> Result<Vec<SharedPoint>, CombineError> {
        let (have, need) = (self.have(), self.need());
        if have < need {
            return Err(CombineError::NotEnough { have, need, missing: self.missing() });
        }
        let places: Vec<Position> = self.accepted.iter().map(|accepted| accepted.message.position).collect();
        let coefficients: Vec<Scalar> = places.iter().map_while(|place| lagrange_at_zero(*place, &places)).collect();
        if coefficients.len() != places.len() {
            return Err(CombineError::Unsound);
        }
        let combined = |index: usize| {
            let halves = self.accepted.iter().filter_map(|accepted| accepted.halves.get(index));
            let sum = Doubles::sum_vartime(coefficients.iter().copied().zip(halves));
            Point::new(sum).map(|mut shared| SharedPoint::take(&mut shared)).map_err(|_| CombineError::Unsound)
        };
        (0..self.points.len()).map(combined).collect()
    }

    /// Every official from whom a wrong message has come, also where a right one came later.
    pub fn culprits(&self) -> impl Iterator<Item = Position> {
        self.culprits.iter().copied()
    }

    /// The officials whose halves were accepted, in the order they came.
    pub fn accepted(&self) -> impl Iterator<Item = Position> {
        self.accepted.iter().map(|accepted| accepted.message.position)
    }

    /// The officials from whom nothing was accepted.
    pub fn missing(&self) -> Vec<Position> {
        let positions = self.quorum.key().threshold().positions();
        positions.filter(|place| !self.accepted().any(|accepted| accepted == *place)).collect()
    }

    fn have(&self) -> u8 {
        // Never more than k, of at most 32.
        u8::try_from(self.accepted.len()).unwrap_or(u8::MAX)
    }

    fn need(&self) -> u8 {
        self.quorum.key().threshold().k()
    }
}

/// What a message is, if it is not to be refused.
enum Checked {
    Before,
    New(Vec<Doubles>),
}
