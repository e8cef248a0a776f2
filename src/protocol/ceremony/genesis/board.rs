//! The board of a genesis: what was said and done, in order, and the two key generations as far as it tells of them
//! (protocol.md §19.1).

use crate::protocol::{
    ceremony::genesis::{
        Message, Refusal, Said, Signed,
        provisioning::{Ground, ProvisioningOffer},
        result::GenesisResult,
        run::{NoTerms, Run, RunRefusal, Taken},
    },
    charter::{CharterError, SignedCharter, VerifiedCharter},
    dkg::{self, Evidence, observer::NotTaken},
    group::Point,
    hash::Hash,
    ids::{EmbassyName, OfficialName, QuorumKind},
    label::Label,
    paragraph::Reason,
    quorum::{MAX_OFFICIALS, Position},
    roll::Act,
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// The most posts: hundreds of attempts of 32 officials, and a bound on what a hostile one can fill.
pub(super) const MAX_POSTS: u32 = 65_536;

/// Why there can be no genesis under a charter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    /// The embassy is in custody already.
    #[error("embassy {0} has its keys in this charter; there is nothing to found")]
    Founded(EmbassyName),
    /// The charter.
    #[error(transparent)]
    Charter(#[from] CharterError),
    /// The quorums.
    #[error(transparent)]
    Terms(#[from] NoTerms),
}

/// One entry of the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Post {
    /// Somebody said something.
    Message {
        /// Who brought it.
        from: OfficialName,
        /// What.
        message: Box<Message>,
    },
    /// The embassy offers sessions of its TPM.
    Offer(Box<ProvisioningOffer>),
    /// The TPM did what the open offer says; or, without one, was found past this step.
    Ordered,
    /// The TPM refused these officials' approvals, or what it was given could not be used: their places are free again.
    Refused {
        /// Whose.
        places: Vec<Position>,
        /// What it said.
        why: Reason,
    },
    /// The keys are made.
    Result(Box<GenesisResult>),
}

impl Wire for Post {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Message { from, message } => out.u8(1).value(from).value(&**message),
            Self::Offer(offer) => out.u8(2).value(&**offer),
            Self::Ordered => out.u8(3),
            Self::Result(result) => out.u8(4).value(&**result),
            Self::Refused { places, why } => out.u8(5).list(places).value(why),
        };
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match input.u8("post")? {
            1 => Self::Message { from: input.value()?, message: Box::new(input.value()?) },
            2 => Self::Offer(Box::new(input.value()?)),
            3 => Self::Ordered,
            4 => Self::Result(Box::new(input.value()?)),
            5 => Self::Refused { places: input.list(usize::from(MAX_OFFICIALS), "places")?, why: input.value()? },
            _ => return Err(WireError::Invalid { field: "post", reason: "not 1 to 5" }),
        })
    }
}

impl Document for Post {
    const LABEL: Label = Label::GENESIS_POST;
    const MAX_BYTES: usize = SignedCharter::MAX_BYTES + 512;
}

/// What a message changed.
#[derive(Debug)]
pub(super) struct Effect {
    pub(super) taken: Taken,
    pub(super) acts: Vec<Act>,
}

/// A refused message, and the evidence that it is, where it is.
pub(super) type Refused = (Refusal, Option<(QuorumKind, Box<Evidence>)>);

/// What every phase knows.
#[derive(Clone, Debug)]
pub struct Board {
    last: VerifiedCharter,
    ground: Ground,
    first: EmbassyName,
    keys_chartered: bool,
    unseal: Run,
    recovery: Run,
    pub(super) posts: u32,
}

impl Board {
    /// An empty board for an embassy, under the charter in force.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn new(last: VerifiedCharter, embassy: &EmbassyName) -> Result<Self, BoardError> {
        let charter = last.charter();
        let custody = charter.parts().custody.as_ref();
        if custody.is_some_and(|custody| custody.machines.iter().any(|machine| machine.embassy == *embassy)) {
            return Err(BoardError::Founded(embassy.clone()));
        }
        let ground = Ground::new(charter, embassy)?;
        let generation = ground.plan.generation;
        let first = charter.parts().embassies.first().map_or_else(|| embassy.clone(), |first| first.name.clone());
        Ok(Self {
            unseal: Run::new(charter, QuorumKind::Unseal, generation)?,
            recovery: Run::new(charter, QuorumKind::Recovery, generation)?,
            keys_chartered: custody.is_some(),
            first,
            ground,
            last,
            posts: 0,
        })
    }

    /// The charter in force.
    pub const fn charter(&self) -> &VerifiedCharter {
        &self.last
    }

    /// The embassy.
    pub const fn embassy(&self) -> &EmbassyName {
        &self.ground.plan.embassy
    }

    /// What the charter says of this embassy's TPM.
    pub const fn ground(&self) -> &Ground {
        &self.ground
    }

    /// A quorum's key generation.
    pub const fn run(&self, kind: QuorumKind) -> &Run {
        match kind {
            QuorumKind::Unseal => &self.unseal,
            QuorumKind::Recovery => &self.recovery,
        }
    }

    const fn run_mut(&mut self, kind: QuorumKind) -> &mut Run {
        match kind {
            QuorumKind::Unseal => &mut self.unseal,
            QuorumKind::Recovery => &mut self.recovery,
        }
    }

    /// Whether the quorums' keys are made through this embassy: it is the charter's first one.
    pub fn makes_keys(&self) -> bool {
        self.first == *self.embassy()
    }

    /// Whether the charter in force names the quorums' keys.
    pub const fn keys_chartered(&self) -> bool {
        self.keys_chartered
    }

    /// Where the quorums' keys are made.
    pub const fn first(&self) -> &EmbassyName {
        &self.first
    }

    /// Whether the quorums' keys are there to go on with.
    pub fn has_keys(&self) -> bool {
        self.keys_chartered
            || [&self.unseal, &self.recovery].iter().all(|run| {
                // Where they were made elsewhere, it is there that everyone confirms.
                run.is_confirmed() || (!self.makes_keys() && run.made().is_some())
            })
    }

    /// The identity key of an official of either quorum.
    pub fn identity(&self, name: &OfficialName) -> Result<&Point, Refusal> {
        let member = self.unseal.place_of(name).or_else(|| self.recovery.place_of(name)).is_some();
        let official = self.last.charter().official(name).filter(|_| member);
        official.map(|official| &official.identity).ok_or_else(|| Refusal::Stranger(name.clone()))
    }

    /// Who said it, where it was really they.
    pub(super) fn authenticate(&self, signed: &Signed) -> Result<(), Refusal> {
        let identity = self.identity(&signed.by)?;
        if signed.is_authentic(self.ground.plan.charter, identity) {
            Ok(())
        } else {
            Err(Refusal::NotAuthentic { by: signed.by.clone() })
        }
    }

    /// Takes what belongs to the key generations. `None` where it does not.
    pub(super) fn take(&mut self, message: &Message) -> Option<Result<Effect, Refused>> {
        let kind = match message {
            Message::Contribution(kind, _)
            | Message::Round1(kind, ..)
            | Message::Round3(kind, ..)
            | Message::Evidence(kind, _)
            | Message::Recovery(kind, _) => *kind,
            Message::Signed(signed) => match &signed.said {
                Said::Again { kind, .. } | Said::Confirmed { kind, .. } => *kind,
                Said::Approved { .. } | Said::Objected { .. } => return None,
            },
            Message::Charter(_) => return None,
        };
        Some(self.take_of(kind, message))
    }

    fn take_of(&mut self, kind: QuorumKind, message: &Message) -> Result<Effect, Refused> {
        if self.keys_chartered {
            return Err((Refusal::KeysChartered, None));
        }
        let anywhere = matches!(message, Message::Recovery(..) | Message::Evidence(..))
            || matches!(message, Message::Signed(signed) if matches!(signed.said, Said::Confirmed { .. }));
        if !anywhere && !self.makes_keys() {
            return Err((Refusal::Elsewhere(self.first.clone()), None));
        }
        if let Message::Signed(signed) = message {
            self.authenticate(signed).map_err(|refusal| (refusal, None))?;
        }
        let made_before = self.run(kind).made().is_some();
        let run = self.run_mut(kind);
        let (mut acts, attempt) = (Vec::new(), run.attempt());
        let taken = match message {
            Message::Contribution(_, message) => run.contribution(message),
            Message::Round1(_, attempt, message) => run.round1(*attempt, message),
            Message::Round3(_, attempt, message) => run.round3(*attempt, message),
            Message::Recovery(_, recovery) => run.recovery(recovery),
            Message::Evidence(_, evidence) => run.evidence(evidence).map(|(taken, _)| taken),
            Message::Signed(signed) => match &signed.said {
                Said::Again { attempt, .. } => run.again(&signed.by, *attempt),
                Said::Confirmed { certificate, recovery, .. } => run.confirm(&signed.by, certificate, recovery),
                Said::Approved { .. } | Said::Objected { .. } => Ok(Taken::Known),
            },
            Message::Charter(_) => Ok(Taken::Known),
        };
        let taken = taken.map_err(|refusal| match refusal {
            RunRefusal::Message(NotTaken::Refused(dkg::Refusal::Cheated { official, fault, evidence })) => {
                let shown = Some((kind, evidence.clone()));
                let refused = NotTaken::Refused(dkg::Refusal::Cheated { official, fault, evidence });
                (RunRefusal::Message(refused).into(), shown)
            }
            other => (other.into(), None),
        })?;
        if taken == Taken::New {
            if let (Message::Evidence(..), Some(conviction)) = (message, run.convictions().last()) {
                acts.push(Act::GenesisConvicted {
                    culprit: conviction.official.clone(),
                    quorum: kind,
                    attempt: conviction.attempt,
                    why: Reason::of(&conviction.fault.to_string()),
                });
            }
            // A copy that was made elsewhere also moves the number on; then nothing was given up here.
            if run.attempt() != attempt && run.made().is_none() {
                let why = match message {
                    Message::Signed(signed) => match &signed.said {
                        Said::Again { reason, .. } => Reason::of(&format!("{} asks: {reason}", signed.by)),
                        _ => Reason::of("another attempt was asked for"),
                    },
                    _ => Reason::of("a share was shown that nobody can use"),
                };
                acts.push(Act::GenesisAttempt { quorum: kind, attempt: run.attempt(), why });
            }
            if let (false, Some(made)) = (made_before, run.made()) {
                acts.push(Act::GenesisCertified { quorum: kind, certificate: made.certificate_hash });
            }
        }
        Ok(Effect { taken, acts })
    }
}

/// The act of having said something.
pub(super) fn said(message: &Message) -> Act {
    Act::GenesisSaid { what: Reason::of(message.what()), message: Hash::of_bytes(&message.encode()) }
}
