//! What officials answer, phase by phase: approvals and objections, and signatures on the completed charter.

use crate::protocol::{
    ceremony::genesis::{
        CheckedOffer, Genesis, Out, Refusal, Said, Signed,
        phase::{
            AwaitingKeys, AwaitingOffer, Collecting, Completing, Founded, MAX_CANDIDATES, Ordering, Turn, Unchanged,
            unchanged,
        },
        result::VerifiedResult,
        run::Taken,
    },
    charter::{ChainError, SignedCharter, Signer, VerifiedCharter},
    ids::OfficialName,
    paragraph::Reason,
    roll::Act,
};

impl AwaitingOffer {
    /// What went wrong last.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

impl Collecting {
    /// The open offer.
    pub const fn offer(&self) -> &CheckedOffer {
        &self.offer
    }

    /// Who has approved.
    pub fn approved(&self) -> impl Iterator<Item = &OfficialName> {
        self.approvals.values().map(|(name, _)| name)
    }

    /// Who objects, and why.
    pub fn objections(&self) -> impl Iterator<Item = (&OfficialName, &Reason)> {
        self.objections.iter()
    }

    /// What went wrong last.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(super) fn said(mut self, signed: &Signed) -> Result<Turn, Unchanged> {
        match self.judge(signed) {
            Err(refusal) => Err(unchanged(Genesis::Collecting(self), refusal)),
            Ok(Taken::Known) => Ok(Turn::known(Genesis::Collecting(self))),
            Ok(Taken::New) => {
                let (mut acts, mut outs) = (Vec::new(), Vec::new());
                let quorate = self.approvals.len() >= usize::from(self.board.ground().amend().k());
                let next = if quorate {
                    let officials = self.approved().cloned().collect();
                    acts.push(Act::GenesisOrdering { offer: *self.offer.hash(), officials });
                    outs.push(self.order());
                    Genesis::Ordering(Ordering { collected: self })
                } else {
                    Genesis::Collecting(self)
                };
                Ok(Turn { next, taken: Taken::New, acts, outs })
            }
        }
    }

    fn judge(&mut self, signed: &Signed) -> Result<Taken, Refusal> {
        self.board.authenticate(signed)?;
        let ground = self.board.ground();
        let approver = ground.approver(&signed.by);
        let (place, key) = approver.ok_or_else(|| Refusal::Stranger(signed.by.clone()))?;
        match &signed.said {
            Said::Approved { offer, .. } | Said::Objected { offer, .. } if offer != self.offer.hash() => {
                Err(Refusal::OtherOffer)
            }
            Said::Approved { approvals, .. } => match self.approvals.get(&place) {
                Some((_, before)) if before == approvals => Ok(Taken::Known),
                Some(_) => Err(Refusal::Answered(signed.by.clone())),
                None => {
                    self.offer.verify(ground, place, key, approvals)?;
                    self.approvals.insert(place, (signed.by.clone(), approvals.clone()));
                    // Who approves has thought better of it.
                    self.objections.remove(&signed.by);
                    Ok(Taken::New)
                }
            },
            Said::Objected { reason, .. } => match self.objections.get(&signed.by) {
                Some(before) if before == reason => Ok(Taken::Known),
                Some(_) => Err(Refusal::Answered(signed.by.clone())),
                None => {
                    self.objections.insert(signed.by.clone(), reason.clone());
                    Ok(Taken::New)
                }
            },
            Said::Again { .. } | Said::Confirmed { .. } => Ok(Taken::Known),
        }
    }

    pub(super) fn order(&self) -> Out {
        let commands = self.offer.requests().len();
        let approvals = (0..commands)
            .map(|index| self.approvals.values().filter_map(|(_, given)| given.get(index).cloned()).collect())
            .collect();
        Out::Order { approvals }
    }
}

impl Ordering {
    /// What is done, and by whose approval.
    pub const fn collected(&self) -> &Collecting {
        &self.collected
    }

    pub(super) fn late(self, signed: &Signed) -> Result<Turn, Unchanged> {
        let known = matches!(&signed.said, Said::Approved { offer, .. } if offer == self.collected.offer.hash());
        let authentic = self.collected.board.authenticate(signed);
        let waiting = Genesis::Ordering(self);
        match authentic {
            Ok(()) if known => Ok(Turn::known(waiting)),
            Ok(()) => {
                let refusal = Refusal::NotNow { what: "this", waiting: waiting.waiting() };
                Err(unchanged(waiting, refusal))
            }
            Err(refusal) => Err(unchanged(waiting, refusal)),
        }
    }
}

impl AwaitingKeys {
    /// What went wrong last.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

impl Completing {
    /// What came of the genesis here.
    pub const fn result(&self) -> &VerifiedResult {
        &self.result
    }

    /// The charters that home has put up, with the signatures so far, each checked. The last is the newest.
    pub fn candidates(&self) -> &[SignedCharter] {
        &self.candidates
    }

    pub(super) fn charter(mut self, copy: &SignedCharter) -> Result<Turn, Unchanged> {
        match self.join(copy) {
            Err(refusal) => Err(unchanged(Genesis::Completing(self), refusal)),
            Ok(None) => Ok(Turn::known(Genesis::Completing(self))),
            Ok(Some(joined)) => match joined.succeed(self.board.charter()) {
                Ok(charter) => {
                    let (version, hash) = (charter.charter().parts().version, charter.hash());
                    let acts = vec![Act::GenesisFounded { version, charter: hash }];
                    let next = Genesis::Founded(Founded { board: self.board, charter: Box::new(charter) });
                    Ok(Turn { next, taken: Taken::New, acts, outs: vec![Out::Founded] })
                }
                // Every signature was checked when it was joined; there are only too few of them.
                Err(_) => {
                    let next = Genesis::Completing(self);
                    Ok(Turn { next, taken: Taken::New, acts: Vec::new(), outs: Vec::new() })
                }
            },
        }
    }

    /// Joins the signatures of a copy. `None` where it brings nothing new.
    fn join(&mut self, copy: &SignedCharter) -> Result<Option<SignedCharter>, Refusal> {
        let last = self.board.charter();
        let standing = copy.standing(last)?;
        let hash = copy.unverified().hash();
        if let Some(known) = self.candidates.iter_mut().find(|known| known.unverified().hash() == hash) {
            let new: Vec<_> =
                copy.signatures().filter(|(signer, _)| known.signers().all(|had| had != *signer)).collect();
            if new.is_empty() {
                return Ok(None);
            }
            new.into_iter().for_each(|(signer, signature)| known.add(signer.clone(), *signature));
            return Ok(Some(known.clone()));
        }
        if !standing.home {
            return Err(Refusal::WithoutHome);
        }
        self.result.agrees_with(copy.unverified()).map_err(Refusal::OtherCharter)?;
        if self.candidates.len() >= MAX_CANDIDATES {
            return Err(Refusal::OtherCharter("home has put up too many; it has to bring the last one signed by all"));
        }
        self.candidates.push(copy.clone());
        Ok(Some(copy.clone()))
    }

    /// Who has signed the newest candidate, and how many officials it takes.
    ///
    /// # Errors
    /// [`ChainError`], which the joining has excluded.
    pub fn signed(&self) -> Result<(Vec<OfficialName>, u8), ChainError> {
        let needed = self.board.charter().charter().parts().amend_k;
        match self.candidates.last() {
            Some(candidate) => Ok((candidate.standing(self.board.charter())?.officials, needed)),
            None => Ok((Vec::new(), needed)),
        }
    }

    /// Whether an official has signed the newest candidate.
    pub fn has_signed(&self, name: &OfficialName) -> bool {
        let signer = Signer::Official(name.clone());
        self.candidates.last().is_some_and(|candidate| candidate.signers().any(|had| *had == signer))
    }
}

impl Founded {
    /// The completed charter.
    pub const fn charter(&self) -> &VerifiedCharter {
        &self.charter
    }
}
