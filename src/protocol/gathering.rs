//! The embassy's side of an opening: contributions are checked as they arrive, and at k give the one token that opens.
//!
//! Nobody who sends is trusted. Whatever is wrong with a contribution, it is refused and, where a signature proves who sent
//! it, attributed; the gathering stands as it stood and goes on (protocol.md §10.4). The same code runs for whoever combines,
//! the embassy in a lease or the recipient in a release.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::protocol::{
    contribution::{CheckedOffer, Contribution, Halves},
    dataset::DatasetSeed,
    dataset_version::VerifiedVersion,
    facts::CustodyFacts,
    group::Point,
    hash::Hash,
    hybrid::HybridSecretKey,
    ids::{DatasetName, OfficialName},
    partial::{CombineError, Combiner, PartialError, PointsError, PreparedQuorum, Receipt},
    quorum::{Position, QuorumError},
    secret::SharedPoint,
    slot::{self, CompareError, DatasetDescription, OpenError, ShareError, VerifiedSlot, W, WShare},
    statement::Statement,
    tpm::approval::{ApprovalError, TpmApproval},
    wire::Document,
};

/// Why a contribution was refused. The ceremony goes on; the text says who can act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It answers another offer: an earlier attempt's, or another ceremony's.
    #[error("this contribution answers another offer. Ask its sender to review the current one")]
    OtherOffer,
    /// The quorum has no such official.
    #[error(transparent)]
    NoSuchOfficial(#[from] QuorumError),
    /// The key it should open with is not the offer's, so nothing can be said of it.
    #[error(
        "this machine holds another ceremony key than its offer names, and can judge no contribution; nobody is to \
         blame. Make a new offer"
    )]
    CeremonyKey,
    /// The named official did not sign it, so nobody is to blame.
    #[error("this was not signed by {official}, in whose name it came; nobody is counted or blamed")]
    NotSigned {
        /// The official it claimed to be from.
        official: OfficialName,
    },
    /// Another contribution of the same official is counted already.
    #[error("{official} has contributed before, and counts once. Nothing to do")]
    Repeated {
        /// Who.
        official: OfficialName,
    },
    /// k were there before.
    #[error("{official} came late: {need} officials have contributed already. Nothing to do")]
    Late {
        /// Who.
        official: OfficialName,
        /// How many it took.
        need: u8,
    },
    /// An approval is missing, for another command or official, expired beyond the maximum, or not signed by the identity key.
    #[error("{official}'s approval {index} of {expected} will not do: {}", reason.as_ref().map_or_else(|| "there are not as many approvals as slots".to_owned(), ToString::to_string))]
    Approval {
        /// Who.
        official: OfficialName,
        /// Which, from 1.
        index: usize,
        /// How many there must be.
        expected: usize,
        /// What is wrong; `None` where it is missing or there are too many.
        reason: Option<ApprovalError>,
    },
    /// The sealed part does not open under the ceremony key, or does not read.
    #[error("what {official} encrypted to the ceremony key does not open. Ask {official} to contribute again")]
    Sealed {
        /// Who.
        official: OfficialName,
    },
    /// Something is encrypted where a charter is adopted, and nothing has to be.
    #[error(
        "{official} encrypted something, and to adopt a charter takes nothing of the kind. Ask {official} to approve again"
    )]
    Unasked {
        /// Who.
        official: OfficialName,
    },
    /// A share of w is not the one that was sealed to this official.
    #[error("{official} sent a wrong share for {dataset}. Ask again, or go on with another official")]
    Share {
        /// Who.
        official: OfficialName,
        /// Which dataset.
        dataset: DatasetName,
    },
    /// The share of w is the one that was sealed, and is none: the data owner made it so.
    #[error("the data owner sealed a wrong share of {dataset}; the data owner must make the dataset version anew")]
    SealedWrongly {
        /// Which dataset.
        dataset: DatasetName,
    },
    /// A partial decapsulation is wrong.
    #[error("{official} sent a wrong partial decapsulation: {reason}")]
    Partial {
        /// Who.
        official: OfficialName,
        /// What is wrong.
        reason: PartialError,
    },
}

impl Refusal {
    /// The official who provably sent something wrong; `None` where nobody did or nobody can be blamed.
    pub const fn culprit(&self) -> Option<&OfficialName> {
        match self {
            Self::Approval { official, .. }
            | Self::Sealed { official }
            | Self::Unasked { official }
            | Self::Share { official, .. }
            | Self::Partial { official, .. } => Some(official),
            Self::OtherOffer
            | Self::CeremonyKey
            | Self::NoSuchOfficial(_)
            | Self::NotSigned { .. }
            | Self::SealedWrongly { .. }
            | Self::Repeated { .. }
            | Self::Late { .. } => None,
        }
    }
}

/// Why nothing opens yet, or ever with these contributions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotQuorate {
    /// Fewer than k.
    #[error("{have} of {need} officials have contributed. Any {} of these can still: {}", need.saturating_sub(*have), names(missing))]
    NotEnough {
        /// Officials counted.
        have: u8,
        /// How many it takes.
        need: u8,
        /// Who has not.
        missing: Vec<OfficialName>,
    },
    /// The accepted parts do not combine though each was checked.
    #[error("the contributions do not combine though each was checked: distrust this machine ({reason})")]
    Unsound {
        /// What failed.
        reason: CombineError,
    },
    /// The shares of w do not combine.
    #[error("the shares of w do not combine though each was checked ({reason})")]
    Shares {
        /// What failed.
        reason: slot::CombineError,
    },
}

fn names(officials: &[OfficialName]) -> String {
    officials.iter().map(OfficialName::as_str).collect::<Vec<_>>().join(", ")
}

/// Why no gathering can be opened. Nobody is to blame but the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GatheringError {
    /// The points are not a ceremony's, which a [`CheckedOffer`] has excluded.
    #[error(transparent)]
    Points(#[from] PointsError),
    /// Every right contribution would look wrong, and its sender guilty.
    #[error("the {what} at hand are not those that the offer was checked against; take the current generation's")]
    Another {
        /// Facts or verification shares.
        what: &'static str,
    },
}

/// A quorum's members, in order of position.
type Members = Vec<(OfficialName, Point)>;

fn members(facts: &CustodyFacts) -> Members {
    facts.unseal().members.iter().map(|member| (member.name.clone(), member.identity)).collect()
}

/// Who sent a contribution to this offer. Whatever else is wrong with it is that official's doing.
fn sender(
    checked: &CheckedOffer,
    members: &Members,
    contribution: &Contribution,
) -> Result<(OfficialName, Point), Refusal> {
    if contribution.offer() != checked.hash() {
        return Err(Refusal::OtherOffer);
    }
    let position = contribution.position();
    let n = u8::try_from(members.len()).unwrap_or(u8::MAX);
    let (official, identity) =
        members.get(position.index()).cloned().ok_or(QuorumError::NoSuchOfficial { position: position.get(), n })?;
    if contribution.is_signed_by(&identity) { Ok((official, identity)) } else { Err(Refusal::NotSigned { official }) }
}

/// Whether the TPM will take the sender's approvals.
fn check_approvals(
    checked: &CheckedOffer,
    contribution: &Contribution,
    official: &OfficialName,
    identity: &Point,
) -> Result<(), Refusal> {
    let expected = checked.requests().len();
    let refusal = |index: usize, reason| Refusal::Approval {
        official: official.clone(),
        index: index.saturating_add(1),
        expected,
        reason,
    };
    let found = contribution.approvals().len();
    if found != expected {
        return Err(refusal(found.min(expected), None));
    }
    for (index, (approval, request)) in contribution.approvals().iter().zip(checked.requests()).enumerate() {
        if approval.position() != contribution.position() {
            let position = approval.position();
            return Err(refusal(index, Some(ApprovalError::Signature { position })));
        }
        approval
            .verify(request, identity, checked.expiry_max_seconds())
            .map_err(|reason| refusal(index, Some(reason)))?;
    }
    Ok(())
}

/// Contributions to one offer.
#[derive(Debug)]
pub struct Gathering {
    checked: CheckedOffer,
    members: Members,
    combiner: Combiner,
    accepted: BTreeMap<Position, (Hash, Vec<TpmApproval>)>,
    shares: Vec<Vec<WShare>>,
    culprits: BTreeSet<OfficialName>,
}

impl Gathering {
    /// Opens a gathering for an offer that passed the same checks the officials make.
    ///
    /// # Errors
    /// [`GatheringError`] where `facts` or `quorum` are of another network, embassy or generation than the offer.
    pub fn new(checked: CheckedOffer, facts: &CustodyFacts, quorum: &PreparedQuorum) -> Result<Self, GatheringError> {
        let statement = checked.offer().statement();
        if (statement.charter(), statement.embassy(), statement.generation())
            != (facts.charter(), facts.embassy(), facts.generation())
        {
            return Err(GatheringError::Another { what: "facts" });
        }
        if quorum.key() != &facts.unseal().key {
            return Err(GatheringError::Another { what: "verification shares" });
        }
        let combiner = Combiner::new(quorum, *checked.hash(), &checked.points())?;
        let members = members(facts);
        let shares = checked.slots().iter().map(|_| Vec::new()).collect();
        Ok(Self { checked, members, combiner, accepted: BTreeMap::new(), shares, culprits: BTreeSet::new() })
    }

    /// The offer that is contributed to.
    pub const fn checked(&self) -> &CheckedOffer {
        &self.checked
    }

    /// Checks a contribution and counts it.
    ///
    /// # Errors
    /// [`Refusal`]; it changes nothing, but that a culprit is remembered.
    pub fn receive(&mut self, contribution: &Contribution, key: &HybridSecretKey) -> Result<Receipt, Refusal> {
        let outcome = self.check_and_count(contribution, key);
        if let Err(refusal) = &outcome {
            self.culprits.extend(refusal.culprit().cloned());
        }
        outcome
    }

    fn check_and_count(&mut self, contribution: &Contribution, key: &HybridSecretKey) -> Result<Receipt, Refusal> {
        if contribution.offer() != self.checked.hash() {
            return Err(Refusal::OtherOffer);
        }
        if Some(key.public()) != self.checked.offer().ceremony_key() {
            return Err(Refusal::CeremonyKey);
        }
        let position = contribution.position();
        let (official, identity) = sender(&self.checked, &self.members, contribution)?;
        let digest = Hash::of_bytes(&contribution.encode());
        if let Some((earlier, _)) = self.accepted.get(&position) {
            return if *earlier == digest { Ok(Receipt::AlreadyAccepted) } else { Err(Refusal::Repeated { official }) };
        }

        check_approvals(&self.checked, contribution, &official, &identity)?;
        let halves = Halves::open(contribution, self.shares.len(), key)
            .filter(|halves| halves.partial.position() == position)
            .ok_or_else(|| Refusal::Sealed { official: official.clone() })?;
        let mut shares = Vec::with_capacity(halves.shares.len());
        for (slot, bytes) in self.checked.slots().iter().zip(&halves.shares) {
            let dataset = &slot.context().dataset().dataset;
            let share = slot.take_share(position, bytes).map_err(|error| match error {
                ShareError::SealedWrongly { .. } => Refusal::SealedWrongly { dataset: dataset.clone() },
                _ => Refusal::Share { official: official.clone(), dataset: dataset.clone() },
            })?;
            shares.push(share);
        }
        let receipt = self.combiner.receive(halves.partial).map_err(|reason| match reason {
            PartialError::Late { need, .. } => Refusal::Late { official: official.clone(), need },
            reason => Refusal::Partial { official: official.clone(), reason },
        })?;
        self.accepted.insert(position, (digest, contribution.approvals().to_vec()));
        self.shares.iter_mut().zip(shares).for_each(|(of_slot, share)| of_slot.push(share));
        Ok(receipt)
    }

    /// Takes back what an official contributed, where the TPM would not have its approval although it verified here: most
    /// likely it expired while others were waited for. The same official with a fresh approval, or another, can take the
    /// place, in the same sessions. `false` where nothing of this official is counted.
    pub fn set_aside(&mut self, position: Position) -> bool {
        self.combiner.set_aside(position);
        self.shares.iter_mut().for_each(|of_slot| of_slot.retain(|share| share.position() != position));
        self.accepted.remove(&position).is_some()
    }

    /// Every official who provably sent something wrong, also where something right came later.
    pub fn culprits(&self) -> impl Iterator<Item = &OfficialName> {
        self.culprits.iter()
    }

    /// Who has contributed, in order of position.
    pub fn contributors(&self) -> impl Iterator<Item = &OfficialName> {
        self.accepted.keys().filter_map(|position| self.members.get(position.index())).map(|(name, _)| name)
    }

    /// Combines, once k are there. The gathering itself stays, so a TPM that fails meanwhile loses nothing.
    ///
    /// # Errors
    /// [`NotQuorate::NotEnough`] before k.
    pub fn quorate(&self) -> Result<Quorate, NotQuorate> {
        let points = self.combiner.combine().map_err(|reason| match reason {
            CombineError::NotEnough { have, need, missing } => NotQuorate::NotEnough {
                have,
                need,
                missing: missing
                    .iter()
                    .filter_map(|position| self.members.get(position.index()))
                    .map(|(name, _)| name.clone())
                    .collect(),
            },
            reason => NotQuorate::Unsound { reason },
        })?;
        let statement = Arc::new(self.checked.offer().statement().clone());
        let officials: Arc<[OfficialName]> = self.contributors().cloned().collect();
        let mut openings = Vec::with_capacity(points.len());
        for (index, (z_y, (slot, shares))) in
            points.into_iter().zip(self.checked.slots().iter().zip(&self.shares)).enumerate()
        {
            let w = slot.combine_shares(shares).map_err(|reason| NotQuorate::Shares { reason })?;
            let approvals = self.accepted.values().filter_map(|(_, approvals)| approvals.get(index).cloned()).collect();
            openings.push(QuorateOpening {
                statement: Arc::clone(&statement),
                offer: *self.checked.hash(),
                officials: Arc::clone(&officials),
                slot: slot.clone(),
                approvals,
                z_y,
                w,
            });
        }
        Ok(Quorate { openings })
    }
}

/// The token that k officials agreed: what the TPM's policy takes, and the quorum's half of each slot.
#[derive(Debug)]
pub struct Quorate {
    openings: Vec<QuorateOpening>,
}

impl Quorate {
    /// One per dataset, in the statement's order; each is spent by opening.
    pub fn into_openings(self) -> Vec<QuorateOpening> {
        self.openings
    }
}

/// The quorum's half of one slot. Wiped when dropped.
#[derive(Debug)]
pub struct QuorateOpening {
    statement: Arc<Statement>,
    offer: Hash,
    officials: Arc<[OfficialName]>,
    slot: VerifiedSlot,
    approvals: Vec<TpmApproval>,
    z_y: SharedPoint,
    w: W,
}

/// Why a slot did not open though the quorum agreed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpeningError {
    /// The halves do not open the slot.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The seed does not give every slot of the version again.
    #[error(transparent)]
    Compare(#[from] CompareError),
}

impl QuorateOpening {
    /// The slot.
    pub const fn slot(&self) -> &VerifiedSlot {
        &self.slot
    }

    /// Exactly k approvals for the TPM's one command.
    pub fn approvals(&self) -> &[TpmApproval] {
        &self.approvals
    }

    /// Opens the slot with the TPM's half, derives every slot of the version again and compares (protocol.md §6).
    ///
    /// # Errors
    /// [`OpeningError`]: the halves are wrong, or the data owner sealed something else in another slot.
    pub fn open(self, z_t: &SharedPoint, version: &VerifiedVersion) -> Result<Opened, OpeningError> {
        let opened = self.slot.open(&self.z_y, Some(z_t), &self.w)?;
        let seed = version.compare(opened)?;
        let Self { statement, offer, officials, .. } = self;
        Ok(Opened { statement, offer, officials, dataset: version.description().clone(), seed })
    }
}

/// The token that k officials, and the embassy's TPM, opened this dataset for this statement: the seed, with what it may be
/// used for. Only [`QuorateOpening::open`] makes one.
#[derive(Debug)]
pub struct Opened {
    statement: Arc<Statement>,
    offer: Hash,
    officials: Arc<[OfficialName]>,
    dataset: DatasetDescription,
    seed: DatasetSeed,
}

impl Opened {
    /// What was agreed to.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The offer that was contributed to.
    pub const fn offer(&self) -> &Hash {
        &self.offer
    }

    /// Who agreed, in order of position.
    pub fn officials(&self) -> &[OfficialName] {
        &self.officials
    }

    /// Which key of which dataset.
    pub const fn dataset(&self) -> &DatasetDescription {
        &self.dataset
    }

    /// The seed, for its one use.
    pub fn into_seed(self) -> DatasetSeed {
        self.seed
    }
}

mod sealed;
#[cfg(test)]
pub(crate) mod tests;

pub use sealed::{AdoptionQuorate, Agreed, SealedGathering, SealedOpening, SealedQuorate};
