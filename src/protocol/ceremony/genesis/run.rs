//! One quorum's key generation as the relay keeps it: attempts one after the other, who was convicted, and who confirmed
//! (protocol.md §19.3).
//!
//! The first good message of each official stays; a second one is refused and, where its sender signed both, shown as
//! evidence. An attempt is given up by a member's request or where evidence shows that nobody can finish it; the next one
//! begins. Nothing of a finished one is given up once every member has confirmed its copy.

use std::collections::BTreeSet;

use crate::protocol::{
    charter::{Charter, CharterError, QuorumRule},
    dkg::{
        Contribution, Evidence, EvidenceError, Fault, Message1, Message3, Observer, RecoveryData, RecoveryError,
        Refusal, Terms, TermsError, observer::Missing, observer::NotTaken,
    },
    hash::Hash,
    ids::{Attempt, Generation, OfficialName, QuorumKind},
    quorum::Position,
    quorum_key::QuorumKey,
    wire::Document,
};

/// How many attempts one official can end: by asking, and again by cheating. A bound on what one of them can make others do.
pub const MAX_ENDED: usize = 64;

/// Why a quorum's terms cannot be had from a charter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoTerms {
    /// The charter.
    #[error(transparent)]
    Charter(#[from] CharterError),
    /// The keys.
    #[error(transparent)]
    Terms(#[from] TermsError),
}

/// Why a key generation did not take a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunRefusal {
    /// Judged and refused; evidence, where there is some, is for the board.
    #[error("{0}")]
    Message(NotTaken),
    /// The message is of another attempt.
    #[error("this is of attempt {found}; attempt {open} is open. Read the board and answer that one")]
    OtherAttempt {
        /// Of the message.
        found: Attempt,
        /// The open one.
        open: Attempt,
    },
    /// The key was made.
    #[error("the {0} quorum's key is made. A lost share comes back from recovery data: `chancery official rebuild`")]
    Made(QuorumKind),
    /// It was not made yet.
    #[error("the {0} quorum's key is not made yet; there is nothing to confirm")]
    NotMade(QuorumKind),
    /// The confirmation is of something else.
    #[error("what is confirmed is not what this key generation came to; read the board again")]
    OtherCopy,
    /// No member.
    #[error("{0} is no member of the {1} quorum")]
    Stranger(OfficialName, QuorumKind),
    /// The evidence does not convince.
    #[error("the evidence does not convince: {0}")]
    Evidence(#[from] EvidenceError),
    /// The recovery data is not whole.
    #[error("this copy is not taken: {0}")]
    Recovery(#[from] RecoveryError),
    /// One official has given up too many attempts.
    #[error(
        "{0} has ended {MAX_ENDED} attempts; the others have to ask for the next, or home founds the network without {0}"
    )]
    TooOften(OfficialName),
    /// The attempts have run out, which nobody lives to see.
    #[error("there are no more attempts to number")]
    NoMore,
}

/// A message that changed nothing because it stood there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It counts.
    New,
    /// It was known.
    Known,
}

/// Somebody whose own signed messages show a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conviction {
    /// Who.
    pub official: OfficialName,
    /// In which attempt.
    pub attempt: Attempt,
    /// What the evidence shows.
    pub fault: Fault,
}

/// One quorum's key generation.
#[derive(Clone, Debug)]
pub struct Run {
    kind: QuorumKind,
    rule: QuorumRule,
    observer: Observer,
    made: Option<Made>,
    convictions: Vec<Conviction>,
    /// Who asked for another attempt, each time.
    asked: Vec<OfficialName>,
}

/// What a finished key generation came to.
#[derive(Clone, Debug)]
pub struct Made {
    /// The public half.
    pub key: QuorumKey,
    /// From which shares are rebuilt.
    pub recovery: RecoveryData,
    /// Hash of the certificate.
    pub certificate_hash: Hash,
    /// Hash of the recovery data.
    pub recovery_hash: Hash,
    confirmed: BTreeSet<Position>,
}

impl Made {
    fn new(key: QuorumKey, recovery: RecoveryData) -> Self {
        Self {
            key,
            certificate_hash: Hash::of_bytes(&recovery.certificate().encode()),
            recovery_hash: Hash::of_bytes(&recovery.encode()),
            recovery,
            confirmed: BTreeSet::new(),
        }
    }
}

/// The terms of a charter's quorum.
///
/// # Errors
/// [`NoTerms`], which a consistent charter excludes.
pub fn terms(charter: &Charter, kind: QuorumKind, generation: Generation) -> Result<Terms, NoTerms> {
    let rule = rule(charter, kind);
    Ok(Terms::new(charter.id(), kind, generation, rule.threshold, charter.static_keys(rule)?)?)
}

pub(super) const fn rule(charter: &Charter, kind: QuorumKind) -> &QuorumRule {
    match kind {
        QuorumKind::Unseal => &charter.parts().unseal,
        QuorumKind::Recovery => &charter.parts().recovery,
    }
}

impl Run {
    /// Nobody has said anything.
    ///
    /// # Errors
    /// [`NoTerms`], which a consistent charter excludes.
    pub fn new(charter: &Charter, kind: QuorumKind, generation: Generation) -> Result<Self, NoTerms> {
        let observer = Observer::new(terms(charter, kind, generation)?, Attempt::FIRST);
        Ok(Self {
            kind,
            rule: rule(charter, kind).clone(),
            observer,
            made: None,
            convictions: Vec::new(),
            asked: Vec::new(),
        })
    }

    /// Which quorum.
    pub const fn kind(&self) -> QuorumKind {
        self.kind
    }

    /// What the charter says.
    pub const fn terms(&self) -> &Terms {
        self.observer.terms()
    }

    /// The open attempt.
    pub const fn attempt(&self) -> Attempt {
        self.observer.attempt()
    }

    /// The open attempt, as far as it has come.
    pub const fn observer(&self) -> &Observer {
        &self.observer
    }

    /// What it came to.
    pub const fn made(&self) -> Option<&Made> {
        self.made.as_ref()
    }

    /// Who was convicted.
    pub fn convictions(&self) -> &[Conviction] {
        &self.convictions
    }

    /// The place of an official in this quorum.
    pub fn place_of(&self, name: &OfficialName) -> Option<Position> {
        let mut places = self.rule.threshold.positions().zip(&self.rule.members);
        places.find(|(_, member)| *member == name).map(|(place, _)| place)
    }

    /// The official at a place.
    pub fn name_of(&self, position: Position) -> Option<&OfficialName> {
        self.rule.members.get(position.index())
    }

    /// The members who have not confirmed; `None` before there is something to confirm.
    pub fn unconfirmed(&self) -> Option<Vec<&OfficialName>> {
        let made = self.made.as_ref()?;
        let places = self.rule.threshold.positions().zip(&self.rule.members);
        Some(places.filter(|(place, _)| !made.confirmed.contains(place)).map(|(_, name)| name).collect())
    }

    /// Whether the key is made and every member has confirmed its copy: only then it is relied on.
    pub fn is_confirmed(&self) -> bool {
        self.unconfirmed().is_some_and(|missing| missing.is_empty())
    }

    /// What the open attempt waits for, and for whom.
    pub fn missing(&self) -> (&'static str, Vec<&OfficialName>) {
        let missing = self.observer.missing();
        let what = match missing {
            Missing::Contributions(_) => "contributions",
            Missing::Round1(_) => "dealt polynomials",
            Missing::Round3(_) => "certifications",
            Missing::Nobody => "nothing",
        };
        (what, missing.who().into_iter().filter_map(|place| self.name_of(place)).collect())
    }

    /// Takes a contribution.
    ///
    /// # Errors
    /// [`RunRefusal`].
    pub fn contribution(&mut self, message: &Contribution) -> Result<Taken, RunRefusal> {
        self.speak(message.attempt, |observer| observer.contribution(message))
    }

    /// Takes a round 1 message.
    ///
    /// # Errors
    /// [`RunRefusal`].
    pub fn round1(&mut self, attempt: Attempt, message: &Message1) -> Result<Taken, RunRefusal> {
        self.speak(attempt, |observer| observer.message1(message))
    }

    /// Takes a certification. With the last one the key is made.
    ///
    /// # Errors
    /// [`RunRefusal`].
    pub fn round3(&mut self, attempt: Attempt, message: &Message3) -> Result<Taken, RunRefusal> {
        let taken = self.speak(attempt, |observer| observer.message3(message))?;
        if self.made.is_none() {
            self.made = self.observer.finished().map(|(key, recovery)| Made::new(key, recovery));
        }
        Ok(taken)
    }

    fn speak(
        &mut self,
        attempt: Attempt,
        take: impl FnOnce(&mut Observer) -> Result<(), NotTaken>,
    ) -> Result<Taken, RunRefusal> {
        let open = self.attempt();
        if attempt != open {
            return Err(RunRefusal::OtherAttempt { found: attempt, open });
        }
        match take(&mut self.observer) {
            Ok(()) => Ok(Taken::New),
            Err(NotTaken::Refused(Refusal::Repeated { .. })) => Ok(Taken::Known),
            Err(refused) => Err(RunRefusal::Message(refused)),
        }
    }

    /// Takes a finished key generation from an official's copy: so a relay that lost everything, or an embassy where no key
    /// was made, learns the keys.
    ///
    /// # Errors
    /// [`RunRefusal`].
    pub fn recovery(&mut self, recovery: &RecoveryData) -> Result<Taken, RunRefusal> {
        if let Some(made) = &self.made {
            return if made.recovery == *recovery { Ok(Taken::Known) } else { Err(RunRefusal::Made(self.kind)) };
        }
        let key = recovery.verify(self.terms())?;
        // An attempt number that was used is used: whoever took part in it must never be asked for it again.
        if recovery.certificate().attempt() > self.attempt() {
            self.observer = Observer::new(self.terms().clone(), recovery.certificate().attempt());
        }
        self.made = Some(Made::new(key, recovery.clone()));
        Ok(Taken::New)
    }

    /// Judges evidence. True where it ends the open attempt: a share that one official cannot use leaves everybody waiting.
    ///
    /// # Errors
    /// [`RunRefusal::Evidence`].
    pub fn evidence(&mut self, evidence: &Evidence) -> Result<(Taken, bool), RunRefusal> {
        let (position, fault) = evidence.verify(self.terms())?;
        let Some(official) = self.name_of(position).cloned() else {
            return Err(RunRefusal::Evidence(EvidenceError::Proof));
        };
        let conviction = Conviction { official, attempt: evidence.attempt(), fault };
        if self.convictions.contains(&conviction) {
            return Ok((Taken::Known, false));
        }
        let before = self.convictions.iter().filter(|earlier| earlier.official == conviction.official).count();
        let ends = matches!(fault, Fault::Share { .. })
            && conviction.attempt == self.attempt()
            && self.made.is_none()
            && before < MAX_ENDED;
        self.convictions.push(conviction);
        if ends {
            self.next()?;
        }
        Ok((Taken::New, ends))
    }

    /// Gives the open attempt up at a member's request.
    ///
    /// # Errors
    /// [`RunRefusal`].
    pub fn again(&mut self, by: &OfficialName, attempt: Attempt) -> Result<Taken, RunRefusal> {
        if self.place_of(by).is_none() {
            return Err(RunRefusal::Stranger(by.clone(), self.kind));
        }
        if self.is_confirmed() {
            return Err(RunRefusal::Made(self.kind));
        }
        if attempt != self.attempt() {
            return Err(RunRefusal::OtherAttempt { found: attempt, open: self.attempt() });
        }
        if self.asked.iter().filter(|asked| *asked == by).count() >= MAX_ENDED {
            return Err(RunRefusal::TooOften(by.clone()));
        }
        self.next()?;
        self.asked.push(by.clone());
        Ok(Taken::New)
    }

    /// Takes a member's word that its copy is stored.
    ///
    /// # Errors
    /// [`RunRefusal`].
    pub fn confirm(&mut self, by: &OfficialName, certificate: &Hash, recovery: &Hash) -> Result<Taken, RunRefusal> {
        let place = self.place_of(by).ok_or_else(|| RunRefusal::Stranger(by.clone(), self.kind))?;
        let made = self.made.as_mut().ok_or(RunRefusal::NotMade(self.kind))?;
        if (made.certificate_hash, made.recovery_hash) != (*certificate, *recovery) {
            return Err(RunRefusal::OtherCopy);
        }
        Ok(if made.confirmed.insert(place) { Taken::New } else { Taken::Known })
    }

    fn next(&mut self) -> Result<(), RunRefusal> {
        let next = self.attempt().next().ok_or(RunRefusal::NoMore)?;
        self.observer = Observer::new(self.terms().clone(), next);
        self.made = None;
        Ok(())
    }
}
