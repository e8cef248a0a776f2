//! An official's part in a genesis: what to save, what to send, and what to ask the person (protocol.md §19.6).
//!
//! A [`Participant`] looks at a board that it has read itself, and at its own [`Journal`], and says what comes next. It keeps
//! nothing else, so going on after an interruption is the same as going on. Every own message of a key generation is in the
//! journal before it is sent: there is never a second one in its place, whatever the embassy shows.

use rand_core::{CryptoRng, RngCore};

use crate::protocol::{
    ceremony::genesis::{Board, Genesis, Message, Run, Said, Signed, provisioning::CheckedOffer, run::Made},
    charter::{ChainError, CharterMachine, SignedCharter, Signer},
    dkg::{
        self, Contribution, Gathering, Member, Message1, Message3, Reason as PhaseReason, RecoveryData, Refusal, Round1,
    },
    hash::Hash,
    ids::{Attempt, CharterId, EmbassyName, OfficialName, QuorumKind},
    label::Label,
    paragraph::Reason,
    quorum::Position,
    quorum_key::QuorumKey,
    secret::SecretScalar,
    signer::{DigestSigner, SignError, low},
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// Both quorums, in the order in which they are worked on.
pub const KINDS: [QuorumKind; 2] = [QuorumKind::Unseal, QuorumKind::Recovery];

/// Why an official's machine cannot go on by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParticipantError {
    /// The journal is another official's, or of another network.
    #[error("the journal is of {found}, not of {expected} in this network; use the directory that belongs to it")]
    OtherJournal {
        /// Whose it is.
        found: OfficialName,
        /// Whose it should be.
        expected: OfficialName,
    },
    /// The DKG static key is not the charter's.
    #[error("this DKG key is not the one that the charter has for {0}")]
    OtherKey(OfficialName),
    /// The identity key did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The protocol failed in a way that it never does in practice.
    #[error("{0}. Ask for another attempt")]
    Phase(String),
    /// The charter is not what was made.
    #[error("do not sign this charter: {0}. Tell home and the other officials")]
    Charter(String),
    /// The charter cannot follow.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// What an official has said in the open attempt of one quorum, and the share it keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    contribution: Option<Contribution>,
    round1: Option<Message1>,
    round3: Option<Message3>,
    kept: Option<(Attempt, Hash)>,
}

impl Own {
    /// The last attempt this official took part in.
    pub fn attempt(&self) -> Option<Attempt> {
        self.contribution.as_ref().map(|contribution| contribution.attempt)
    }

    /// The attempt and certificate of the share that is kept.
    pub const fn kept(&self) -> Option<(Attempt, Hash)> {
        self.kept
    }
}

impl Wire for Own {
    fn write(&self, out: &mut Writer) {
        fn option<T: Wire>(out: &mut Writer, value: Option<&T>) {
            out.u8(u8::from(value.is_some()));
            value.into_iter().for_each(|value| {
                out.value(value);
            });
        }
        option(out, self.contribution.as_ref());
        option(out, self.round1.as_ref());
        option(out, self.round3.as_ref());
        out.u8(u8::from(self.kept.is_some()));
        if let Some((attempt, certificate)) = &self.kept {
            out.value(attempt).value(certificate);
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        fn option<T: Wire>(input: &mut Reader<'_>) -> Result<Option<T>, WireError> {
            match input.u8("presence")? {
                0 => Ok(None),
                1 => input.value().map(Some),
                _ => Err(WireError::Invalid { field: "presence", reason: "neither absent (0) nor present (1)" }),
            }
        }
        let (contribution, round1, round3) = (option(input)?, option(input)?, option(input)?);
        let kept = match input.u8("presence")? {
            0 => None,
            1 => Some((input.value()?, input.value()?)),
            _ => return Err(WireError::Invalid { field: "presence", reason: "neither absent (0) nor present (1)" }),
        };
        Ok(Self { contribution, round1, round3, kept })
    }
}

/// What an official keeps to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    charter: CharterId,
    official: OfficialName,
    unseal: Own,
    recovery: Own,
}

impl Journal {
    /// Nothing was said yet.
    pub fn new(charter: CharterId, official: OfficialName) -> Self {
        Self { charter, official, unseal: Own::default(), recovery: Own::default() }
    }

    /// Whose it is.
    pub const fn official(&self) -> &OfficialName {
        &self.official
    }

    /// One quorum's part.
    pub const fn own(&self, kind: QuorumKind) -> &Own {
        match kind {
            QuorumKind::Unseal => &self.unseal,
            QuorumKind::Recovery => &self.recovery,
        }
    }

    const fn own_mut(&mut self, kind: QuorumKind) -> &mut Own {
        match kind {
            QuorumKind::Unseal => &mut self.unseal,
            QuorumKind::Recovery => &mut self.recovery,
        }
    }
}

impl Wire for Journal {
    fn write(&self, out: &mut Writer) {
        out.value(&self.charter).value(&self.official).value(&self.unseal).value(&self.recovery);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (charter, official) = (input.value()?, input.value()?);
        Ok(Self { charter, official, unseal: input.value()?, recovery: input.value()? })
    }
}

impl Document for Journal {
    const LABEL: Label = Label::GENESIS_JOURNAL;
    const MAX_BYTES: usize = 16 * 1024;
}

/// A share, and everything that belongs to it.
#[derive(Debug)]
pub struct Kept {
    /// Of which quorum.
    pub kind: QuorumKind,
    /// The official's place in it.
    pub position: Position,
    /// x_i.
    pub share: SecretScalar,
    /// Y and every Y_m.
    pub key: QuorumKey,
    /// From which every member rebuilds its share.
    pub recovery: RecoveryData,
}

/// What the official's machine does, strictly in the order given; the next only when the one before has worked.
#[derive(Debug)]
pub enum Do {
    /// Store the journal, durably.
    Save(Box<Journal>),
    /// Store the share and the recovery data, durably.
    Keep(Box<Kept>),
    /// Send this.
    Send(Message),
    /// Send the stored recovery data of this quorum: the embassy does not have the key.
    SendCopy(QuorumKind),
}

/// What the person is told, or asked.
#[derive(Debug)]
pub enum Advice {
    /// Nothing to do here; others are waited for.
    Wait,
    /// The open attempt goes nowhere from here.
    Stuck {
        /// Of which quorum.
        kind: QuorumKind,
        /// The open attempt.
        attempt: Attempt,
        /// Why.
        why: String,
    },
    /// Whether the TPM may do this.
    Approve(Box<CheckedOffer>),
    /// Whether to sign this charter.
    Sign(Box<Signature>),
    /// The completed charter is in force.
    Founded,
}

/// A completed charter, as it is put to an official.
#[derive(Debug)]
pub struct Signature {
    /// With home's signature and those of the officials so far.
    pub candidate: SignedCharter,
    /// What differs from the charter in force, in words.
    pub changes: Vec<String>,
    /// Embassies whose machines this official has not seen the genesis of.
    pub unseen: Vec<EmbassyName>,
}

/// One official.
#[derive(Debug)]
pub struct Participant<'a> {
    name: OfficialName,
    dkg: &'a SecretScalar,
    journal: Journal,
}

impl<'a> Participant<'a> {
    /// Takes up where the journal ends.
    ///
    /// # Errors
    /// [`ParticipantError::OtherJournal`], [`ParticipantError::OtherKey`].
    pub fn new(
        board: &Board,
        name: OfficialName,
        dkg: &'a SecretScalar,
        journal: Journal,
    ) -> Result<Self, ParticipantError> {
        let charter = board.charter();
        if journal.charter != charter.id() || journal.official != name {
            return Err(ParticipantError::OtherJournal { found: journal.official, expected: name });
        }
        let public = crate::protocol::group::Point::mul_generator(dkg.expose());
        if charter.charter().official(&name).is_none_or(|official| official.dkg != public) {
            return Err(ParticipantError::OtherKey(name));
        }
        Ok(Self { name, dkg, journal })
    }

    /// The journal as it stands.
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What comes next. `seen` are machines whose genesis this official has followed at other embassies.
    ///
    /// # Errors
    /// [`ParticipantError`]; what was returned before stands.
    pub fn advance(
        &mut self,
        genesis: &Genesis,
        signer: &dyn DigestSigner,
        seen: &[CharterMachine],
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<(Vec<Do>, Advice), ParticipantError> {
        let board = genesis.board();
        let (mut acts, mut advice) = (Vec::new(), Advice::Wait);
        if !board.keys_chartered() {
            for kind in KINDS {
                if let Some(stuck) = self.keys(board, kind, signer, rng, &mut acts)? {
                    advice = stuck;
                }
            }
        }
        match genesis {
            Genesis::Collecting(phase) => {
                let approver = board.ground().approver(&self.name).is_some();
                let answered = phase.approved().chain(phase.objections().map(|(name, _)| name));
                if approver && answered.into_iter().all(|name| *name != self.name) {
                    advice = Advice::Approve(Box::new(phase.offer().clone()));
                }
            }
            Genesis::Completing(phase) => {
                let approver = board.ground().approver(&self.name).is_some();
                if let Some(candidate) = phase.candidates().last().filter(|_| approver && !phase.has_signed(&self.name))
                {
                    advice = Advice::Sign(Box::new(self.compare(genesis, candidate, seen)?));
                }
            }
            Genesis::Founded(_) => advice = Advice::Founded,
            _ => {}
        }
        Ok((acts, advice))
    }

    /// A request for another attempt.
    ///
    /// # Errors
    /// [`ParticipantError::Sign`].
    pub fn again(
        &self,
        board: &Board,
        kind: QuorumKind,
        reason: Reason,
        signer: &dyn DigestSigner,
    ) -> Result<Message, ParticipantError> {
        self.say(Said::Again { kind, attempt: board.run(kind).attempt(), reason }, signer)
    }

    /// The approval of an offer that the person agreed to.
    ///
    /// # Errors
    /// [`ParticipantError::Sign`].
    pub fn approve(
        &self,
        board: &Board,
        offer: &CheckedOffer,
        signer: &dyn DigestSigner,
    ) -> Result<Message, ParticipantError> {
        let ground = board.ground();
        let Some((place, _)) = ground.approver(&self.name) else {
            return Err(ParticipantError::OtherKey(self.name.clone()));
        };
        let approvals = offer.approve(ground, place, signer)?;
        self.say(Said::Approved { offer: *offer.hash(), approvals }, signer)
    }

    /// The objection of a person who did not agree.
    ///
    /// # Errors
    /// [`ParticipantError::Sign`].
    pub fn object(
        &self,
        offer: &CheckedOffer,
        reason: Reason,
        signer: &dyn DigestSigner,
    ) -> Result<Message, ParticipantError> {
        self.say(Said::Objected { offer: *offer.hash(), reason }, signer)
    }

    /// The signed charter, with this official's signature added.
    ///
    /// # Errors
    /// [`ParticipantError::Sign`].
    pub fn sign(&self, candidate: &SignedCharter, signer: &dyn DigestSigner) -> Result<Message, ParticipantError> {
        let (capacity, mut copy) = (Signer::Official(self.name.clone()), candidate.clone());
        let signature = signer.sign_digest(&copy.digest(&capacity))?;
        copy.add(capacity, low(signature));
        Ok(Message::Charter(Box::new(copy)))
    }

    fn say(&self, said: Said, signer: &dyn DigestSigner) -> Result<Message, ParticipantError> {
        Ok(Message::Signed(Box::new(Signed::new(self.journal.charter, self.name.clone(), said, signer)?)))
    }

    /// protocol.md §19.5: an official signs only a charter with the keys that it holds shares of, and the machine it saw.
    fn compare(
        &self,
        genesis: &Genesis,
        candidate: &SignedCharter,
        seen: &[CharterMachine],
    ) -> Result<Signature, ParticipantError> {
        let refused = |why: &str| ParticipantError::Charter(why.to_owned());
        let last = genesis.board().charter();
        candidate.standing(last)?;
        let completed = candidate.unverified();
        if let Genesis::Completing(phase) = genesis {
            phase.result().agrees_with(completed).map_err(refused)?;
        }
        let custody = completed.parts().custody.as_ref().ok_or_else(|| refused("it names no custody"))?;
        for (kind, certificate) in
            [(QuorumKind::Unseal, custody.unseal_certificate), (QuorumKind::Recovery, custody.recovery_certificate)]
        {
            // Who is in one quorum only has no share of the other.
            if self.journal.own(kind).kept.is_some_and(|(_, kept)| kept != certificate) {
                return Err(refused("it names another key than the one you hold a share of"));
            }
        }
        let here = genesis.board().embassy();
        let before = last.charter().parts().custody.as_ref();
        let known = |machine: &CharterMachine| {
            machine.embassy == *here
                || seen.contains(machine)
                || before.is_some_and(|custody| custody.machines.contains(machine))
        };
        let unseen = custody.machines.iter().filter(|machine| !known(machine));
        Ok(Signature {
            changes: last.charter().changes(completed),
            unseen: unseen.map(|machine| machine.embassy.clone()).collect(),
            candidate: candidate.clone(),
        })
    }

    /// One quorum's key generation.
    fn keys(
        &mut self,
        board: &Board,
        kind: QuorumKind,
        signer: &dyn DigestSigner,
        rng: &mut (impl RngCore + CryptoRng),
        acts: &mut Vec<Do>,
    ) -> Result<Option<Advice>, ParticipantError> {
        let run = board.run(kind);
        let Some(place) = run.place_of(&self.name) else { return Ok(None) };
        let attempt = run.attempt();
        let stuck = |why: String| Ok(Some(Advice::Stuck { kind, attempt, why }));
        if let Some(made) = run.made() {
            return self.finish(run, made, kind, signer, acts);
        }
        // The embassy has no key where this official holds a share of one: it lost its board, or is another embassy.
        if let Some((kept, _)) = self.journal.own(kind).kept
            && (kept >= attempt || !board.makes_keys())
        {
            acts.push(Do::SendCopy(kind));
            return Ok(None);
        }
        if !board.makes_keys() {
            return stuck(format!("this quorum's key is made at embassy {}; go there first", board.first()));
        }
        match self.journal.own(kind).attempt() {
            Some(own) if own > attempt => {
                return stuck(format!("you took part in attempt {own}, and the embassy shows attempt {attempt}"));
            }
            Some(own) if own == attempt => {}
            _ => return self.begin(run, place, kind, rng, acts),
        }
        let own = self.journal.own(kind).clone();
        let Some(contribution) = own.contribution.clone() else { return self.begin(run, place, kind, rng, acts) };
        match run.observer().contributions().find(|shown| shown.from == place) {
            Some(shown) if *shown == contribution => {}
            Some(_) => {
                return stuck(
                    "the board has another contribution of yours: do you take part from two machines?".into(),
                );
            }
            None => {
                acts.push(Do::Send(Message::Contribution(kind, contribution)));
                return Ok(None);
            }
        }
        let mut gathering = Gathering::resume(self.member(run)?, contribution).map_err(|stop| never(&stop.reason))?;
        for shown in run.observer().contributions().filter(|shown| shown.from != place) {
            // The observer took it by the same rules.
            gathering.accept(shown).map_err(|refusal| ParticipantError::Phase(refusal.to_string()))?;
        }
        if !gathering.missing().is_empty() {
            return Ok(None);
        }
        let round1 = match own.round1.clone() {
            None => {
                let (_, message) = gathering.complete(rng).map_err(|stop| never(&stop.reason))?;
                self.journal.own_mut(kind).round1 = Some(message.clone());
                acts.push(Do::Save(Box::new(self.journal.clone())));
                acts.push(Do::Send(Message::Round1(kind, attempt, Box::new(message))));
                return Ok(None);
            }
            Some(message) => match gathering.resume_round1(message) {
                Ok((round1, _)) => round1,
                Err(stop) if matches!(stop.reason, PhaseReason::Resume(_)) => {
                    return stuck("the embassy shows other contributions than before".to_owned());
                }
                Err(stop) => return Err(never(&stop.reason)),
            },
        };
        self.certify(run, place, kind, round1, own, acts)
    }

    fn begin(
        &mut self,
        run: &Run,
        place: Position,
        kind: QuorumKind,
        rng: &mut (impl RngCore + CryptoRng),
        acts: &mut Vec<Do>,
    ) -> Result<Option<Advice>, ParticipantError> {
        let attempt = run.attempt();
        if run.observer().contributions().any(|shown| shown.from == place) {
            let why = "you contributed to it, and this machine has no record of that".to_owned();
            return Ok(Some(Advice::Stuck { kind, attempt, why }));
        }
        let started = Gathering::start(self.member(run)?, attempt, rng);
        let (_, contribution) = started.map_err(|stop| never(&stop.reason))?;
        let own = self.journal.own_mut(kind);
        // A share of an earlier attempt stays kept until there is another.
        *own = Own { contribution: Some(contribution.clone()), kept: own.kept, ..Own::default() };
        acts.push(Do::Save(Box::new(self.journal.clone())));
        acts.push(Do::Send(Message::Contribution(kind, contribution)));
        Ok(None)
    }

    /// From everyone's polynomials to the certification.
    fn certify(
        &mut self,
        run: &Run,
        place: Position,
        kind: QuorumKind,
        mut round1: Round1,
        own: Own,
        acts: &mut Vec<Do>,
    ) -> Result<Option<Advice>, ParticipantError> {
        let attempt = run.attempt();
        if let Some(message) = own.round1.filter(|own| run.observer().round1().all(|shown| shown != own)) {
            acts.push(Do::Send(Message::Round1(kind, attempt, Box::new(message))));
            return Ok(None);
        }
        for shown in run.observer().round1().filter(|shown| shown.from != place) {
            match round1.accept(shown) {
                Ok(()) => {}
                // A share that only this official can see is bad: shown to all, and the attempt is over.
                Err(Refusal::Cheated { evidence, .. }) => {
                    acts.push(Do::Send(Message::Evidence(kind, evidence)));
                    return Ok(None);
                }
                Err(refusal) => {
                    return Ok(Some(Advice::Stuck { kind, attempt, why: refusal.to_string() }));
                }
            }
        }
        if !round1.missing().is_empty() {
            return Ok(None);
        }
        match own.round3 {
            None => {
                let (_, message) = round1.complete().map_err(|stop| never(&stop.reason))?;
                self.journal.own_mut(kind).round3 = Some(message.clone());
                acts.push(Do::Save(Box::new(self.journal.clone())));
                acts.push(Do::Send(Message::Round3(kind, attempt, Box::new(message))));
            }
            Some(message) => {
                if run.observer().round3().any(|shown| *shown == message) {
                    return Ok(None);
                }
                // Sent again only where it still fits what the embassy shows.
                match round1.resume_round2(message.clone()) {
                    Ok(_) => acts.push(Do::Send(Message::Round3(kind, attempt, Box::new(message)))),
                    Err(_) => {
                        let why = "the embassy shows other polynomials than those you certified".to_owned();
                        return Ok(Some(Advice::Stuck { kind, attempt, why }));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Takes the own share out of what all certified, keeps it, and says so.
    fn finish(
        &mut self,
        run: &Run,
        made: &Made,
        kind: QuorumKind,
        signer: &dyn DigestSigner,
        acts: &mut Vec<Do>,
    ) -> Result<Option<Advice>, ParticipantError> {
        let attempt = made.recovery.certificate().attempt();
        match self.journal.own(kind).kept {
            Some((_, kept)) if kept == made.certificate_hash => {}
            Some((kept, _)) if kept >= attempt => {
                let why = format!("you hold a share of attempt {kept}, and the embassy shows the key of another");
                return Ok(Some(Advice::Stuck { kind, attempt, why }));
            }
            _ => {
                // The certificate has this official's own signature, and it signs one transcript per session: so this is
                // what it certified, also where this machine forgot it.
                let recovered = made.recovery.recover(run.terms(), self.dkg);
                let (position, share, key) = recovered.map_err(|error| ParticipantError::Phase(error.to_string()))?;
                let kept = Kept { kind, position, share, key, recovery: made.recovery.clone() };
                acts.push(Do::Keep(Box::new(kept)));
                self.journal.own_mut(kind).kept = Some((attempt, made.certificate_hash));
                acts.push(Do::Save(Box::new(self.journal.clone())));
            }
        }
        if run.unconfirmed().is_some_and(|missing| missing.contains(&&self.name)) {
            let (certificate, recovery) = (made.certificate_hash, made.recovery_hash);
            acts.push(Do::Send(self.say(Said::Confirmed { kind, certificate, recovery }, signer)?));
        }
        Ok(None)
    }

    fn member(&self, run: &Run) -> Result<Member, ParticipantError> {
        let other = || ParticipantError::OtherKey(self.name.clone());
        let secret = SecretScalar::from_bytes(&self.dkg.to_bytes()).ok_or_else(other)?;
        Member::new(run.terms().clone(), secret).map_err(|_| other())
    }
}

fn never(reason: &dkg::Reason) -> ParticipantError {
    ParticipantError::Phase(reason.to_string())
}
