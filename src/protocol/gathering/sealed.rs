//! The embassy's side of a release: it counts what it can check, and passes on the rest sealed. The adoption of a charter is
//! counted by the same code: there is nothing sealed in it at all.
//!
//! Halves are sealed to the recipient, so the embassy judges signatures and approvals alone: enough for the TPM, which asks k
//! officials. Whether the halves are right, the recipient finds out; so more than k may contribute, and a wrong half costs a
//! name and not the release (protocol.md §10.4).

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::{
    contribution::{CheckedOffer, Contribution},
    facts::CustodyFacts,
    gathering::{GatheringError, Members, NotQuorate, Refusal, check_approvals, members, sender},
    ids::{CharterAt, OfficialName},
    partial::Receipt,
    quorum::Position,
    slot::VerifiedSlot,
    tpm::approval::TpmApproval,
};

/// Contributions to one offer of a release, or of an adoption.
#[derive(Debug)]
pub struct SealedGathering {
    checked: CheckedOffer,
    members: Members,
    need: u8,
    accepted: BTreeMap<Position, Contribution>,
    culprits: BTreeSet<OfficialName>,
}

impl SealedGathering {
    /// Opens a gathering for an offer that passed the same checks the officials make.
    ///
    /// # Errors
    /// [`GatheringError`] where `facts` are of another network, embassy or generation than the offer.
    pub fn new(checked: CheckedOffer, facts: &CustodyFacts) -> Result<Self, GatheringError> {
        let statement = checked.offer().statement();
        if (statement.charter(), statement.embassy(), statement.generation())
            != (facts.charter(), facts.embassy(), facts.generation())
        {
            return Err(GatheringError::Another { what: "facts" });
        }
        let (members, need) = (members(facts), checked.threshold().k());
        Ok(Self { checked, members, need, accepted: BTreeMap::new(), culprits: BTreeSet::new() })
    }

    /// The offer that is contributed to.
    pub const fn checked(&self) -> &CheckedOffer {
        &self.checked
    }

    /// Checks what can be checked of a contribution and counts it, also beyond k.
    ///
    /// # Errors
    /// [`Refusal`]; it changes nothing, but that a culprit is remembered.
    pub fn receive(&mut self, contribution: &Contribution) -> Result<Receipt, Refusal> {
        let outcome = self.check_and_count(contribution);
        if let Err(refusal) = &outcome {
            self.culprits.extend(refusal.culprit().cloned());
        }
        outcome
    }

    fn check_and_count(&mut self, contribution: &Contribution) -> Result<Receipt, Refusal> {
        let (official, identity) = sender(&self.checked, &self.members, contribution)?;
        if let Some(earlier) = self.accepted.get(&contribution.position()) {
            let same = earlier == contribution;
            return if same { Ok(Receipt::AlreadyAccepted) } else { Err(Refusal::Repeated { official }) };
        }
        check_approvals(&self.checked, contribution, &official, &identity)?;
        if contribution.is_sealed() && self.checked.offer().ceremony_key().is_none() {
            return Err(Refusal::Unasked { official });
        }
        self.accepted.insert(contribution.position(), contribution.clone());
        Ok(Receipt::Accepted { have: self.have(), need: self.need })
    }

    /// Takes back what an official contributed, where the TPM would not have its approval; `false` where nothing is counted.
    pub fn set_aside(&mut self, position: Position) -> bool {
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

    /// What goes to the recipient, in order of position.
    pub fn contributions(&self) -> impl Iterator<Item = &Contribution> {
        self.accepted.values()
    }

    /// What the TPM takes, once k are there.
    ///
    /// # Errors
    /// [`NotQuorate::NotEnough`] before k.
    pub fn quorate(&self) -> Result<Agreed, NotQuorate> {
        if self.have() < self.need {
            let missing = self.members.iter().map(|(name, _)| name);
            let missing = missing.filter(|name| self.contributors().all(|there| there != *name)).cloned().collect();
            return Err(NotQuorate::NotEnough { have: self.have(), need: self.need, missing });
        }
        if let Some(adoption) = self.checked.offer().statement().mode().adoption() {
            let approvals = self.given().flat_map(Contribution::approvals).cloned().collect();
            return Ok(Agreed::Adoption(AdoptionQuorate { charter: adoption.charter, approvals }));
        }
        let openings = self.checked.slots().iter().enumerate().map(|(index, slot)| SealedOpening {
            slot: slot.clone(),
            approvals: self.given().filter_map(|sent| sent.approvals().get(index).cloned()).collect(),
        });
        Ok(Agreed::Release(SealedQuorate { openings: openings.collect() }))
    }

    /// What the TPM is given: the first k, so that the roll can say whose they were.
    fn given(&self) -> impl Iterator<Item = &Contribution> {
        self.accepted.values().take(usize::from(self.need))
    }

    fn have(&self) -> u8 {
        // One for each of at most 32 officials.
        u8::try_from(self.accepted.len()).unwrap_or(u8::MAX)
    }
}

/// What k officials or more agreed to.
#[derive(Debug)]
pub enum Agreed {
    /// The TPM's half for a recipient.
    Release(SealedQuorate),
    /// A charter for the charter pin.
    Adoption(AdoptionQuorate),
}

/// The token that k officials or more approved: what the TPM's policy takes, and no half of anything.
#[derive(Debug)]
pub struct SealedQuorate {
    openings: Vec<SealedOpening>,
}

impl SealedQuorate {
    /// One per dataset, in the statement's order.
    pub fn into_openings(self) -> Vec<SealedOpening> {
        self.openings
    }
}

/// The token that as many officials as amend approved this charter's hash for the charter pin.
#[derive(Debug)]
pub struct AdoptionQuorate {
    charter: CharterAt,
    approvals: Vec<TpmApproval>,
}

impl AdoptionQuorate {
    /// What is adopted.
    pub const fn charter(&self) -> &CharterAt {
        &self.charter
    }

    /// As many approvals as amend or more, in order of position.
    pub fn approvals(&self) -> &[TpmApproval] {
        &self.approvals
    }
}

/// The approvals for one slot's point.
#[derive(Debug)]
pub struct SealedOpening {
    slot: VerifiedSlot,
    approvals: Vec<TpmApproval>,
}

impl SealedOpening {
    /// The slot.
    pub const fn slot(&self) -> &VerifiedSlot {
        &self.slot
    }

    /// k approvals or more, in order of position.
    pub fn approvals(&self) -> &[TpmApproval] {
        &self.approvals
    }
}
