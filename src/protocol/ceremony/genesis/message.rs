//! What officials say in a genesis (protocol.md §19.2).
//!
//! What belongs to a key generation is signed with the static key, as §4 has it; recovery data carries all officials'
//! signatures, a charter those it has. The rest, [`Said`], is signed with the identity key. So it does not matter who hands
//! a message in, and a relay can withhold one but not make one.

use p256::ecdsa::Signature;

use crate::protocol::{
    charter::SignedCharter,
    dkg::{Contribution, Evidence, Message1, Message3, RecoveryData},
    group::Point,
    hash::Hash,
    ids::{Attempt, CharterId, OfficialName, QuorumKind},
    label::Label,
    paragraph::Reason,
    signer::{DigestSigner, SignError, low, read_signature, signed_by},
    tpm::approval::TpmApproval,
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// The most TPM commands of one offer: register and charter pin.
pub const MAX_ORDERS: usize = 2;

/// What an official says in a genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Randomness for a quorum's key generation.
    Contribution(QuorumKind, Contribution),
    /// A polynomial, dealt.
    Round1(QuorumKind, Attempt, Box<Message1>),
    /// A certification.
    Round3(QuorumKind, Attempt, Box<Message3>),
    /// That somebody cheated.
    Evidence(QuorumKind, Box<Evidence>),
    /// A finished key generation, from an official's copy.
    Recovery(QuorumKind, Box<RecoveryData>),
    /// What is signed with an identity key.
    Signed(Box<Signed>),
    /// The completed charter, with whatever signatures this copy has.
    Charter(Box<SignedCharter>),
}

impl Message {
    /// What it is, for people.
    pub const fn what(&self) -> &'static str {
        match self {
            Self::Contribution(..) => "a contribution",
            Self::Round1(..) => "a dealt polynomial",
            Self::Round3(..) => "a certification",
            Self::Evidence(..) => "evidence",
            Self::Recovery(..) => "recovery data",
            Self::Charter(_) => "a charter",
            Self::Signed(signed) => match signed.said {
                Said::Again { .. } => "a request for another attempt",
                Said::Confirmed { .. } => "a confirmation",
                Said::Approved { .. } => "an approval",
                Said::Objected { .. } => "an objection",
            },
        }
    }
}

impl Wire for Message {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Contribution(kind, message) => out.u8(1).value(kind).value(message),
            Self::Round1(kind, attempt, message) => out.u8(2).value(kind).value(attempt).value(&**message),
            Self::Round3(kind, attempt, message) => out.u8(3).value(kind).value(attempt).value(&**message),
            Self::Evidence(kind, evidence) => out.u8(4).value(kind).value(&**evidence),
            Self::Recovery(kind, recovery) => out.u8(5).value(kind).value(&**recovery),
            Self::Signed(signed) => out.u8(6).value(&**signed),
            Self::Charter(charter) => out.u8(7).value(&**charter),
        };
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match input.u8("message")? {
            1 => Self::Contribution(input.value()?, input.value()?),
            2 => Self::Round1(input.value()?, input.value()?, Box::new(input.value()?)),
            3 => Self::Round3(input.value()?, input.value()?, Box::new(input.value()?)),
            4 => Self::Evidence(input.value()?, Box::new(input.value()?)),
            5 => Self::Recovery(input.value()?, Box::new(input.value()?)),
            6 => Self::Signed(Box::new(input.value()?)),
            7 => Self::Charter(Box::new(input.value()?)),
            _ => return Err(WireError::Invalid { field: "message", reason: "not 1 to 7" }),
        })
    }
}

impl Document for Message {
    const LABEL: Label = Label::GENESIS_MESSAGE;
    const MAX_BYTES: usize = SignedCharter::MAX_BYTES + 64;
}

/// What an official says with its identity key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// This attempt goes nowhere: start another.
    Again {
        /// Of which quorum.
        kind: QuorumKind,
        /// The attempt to give up.
        attempt: Attempt,
        /// Why.
        reason: Reason,
    },
    /// I hold my share and my copy of the recovery data.
    Confirmed {
        /// Of which quorum.
        kind: QuorumKind,
        /// Hash of the certificate.
        certificate: Hash,
        /// Hash of the recovery data.
        recovery: Hash,
    },
    /// The TPM may do what this offer says.
    Approved {
        /// Hash of the offer.
        offer: Hash,
        /// One approval per order.
        approvals: Vec<TpmApproval>,
    },
    /// The TPM should not do what this offer says; shown to all.
    Objected {
        /// Hash of the offer.
        offer: Hash,
        /// Why.
        reason: Reason,
    },
}

impl Wire for Said {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Again { kind, attempt, reason } => out.u8(1).value(kind).value(attempt).value(reason),
            Self::Confirmed { kind, certificate, recovery } => out.u8(2).value(kind).value(certificate).value(recovery),
            Self::Approved { offer, approvals } => out.u8(3).value(offer).list(approvals),
            Self::Objected { offer, reason } => out.u8(4).value(offer).value(reason),
        };
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match input.u8("what is said")? {
            1 => Self::Again { kind: input.value()?, attempt: input.value()?, reason: input.value()? },
            2 => Self::Confirmed { kind: input.value()?, certificate: input.value()?, recovery: input.value()? },
            3 => Self::Approved { offer: input.value()?, approvals: input.list(MAX_ORDERS, "approvals")? },
            4 => Self::Objected { offer: input.value()?, reason: input.value()? },
            _ => return Err(WireError::Invalid { field: "what is said", reason: "not 1 to 4" }),
        })
    }
}

/// Something said, with its speaker's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Who says it.
    pub by: OfficialName,
    /// What.
    pub said: Said,
    signature: Signature,
}

impl Signed {
    /// Signs it.
    ///
    /// # Errors
    /// [`SignError`]; nothing was said then.
    pub fn new(charter: CharterId, by: OfficialName, said: Said, signer: &dyn DigestSigner) -> Result<Self, SignError> {
        let signature = low(signer.sign_digest(&digest(charter, &by, &said))?);
        Ok(Self { by, said, signature })
    }

    /// Whether the official it names said this, in this network.
    pub fn is_authentic(&self, charter: CharterId, identity: &Point) -> bool {
        signed_by(identity, &digest(charter, &self.by, &self.said), &self.signature)
    }
}

fn digest(charter: CharterId, by: &OfficialName, said: &Said) -> Hash {
    Hash::of(Label::GENESIS_SIGNATURE, |out| {
        out.value(&charter).value(by).value(said);
    })
}

impl Wire for Signed {
    fn write(&self, out: &mut Writer) {
        out.value(&self.by).value(&self.said).raw(&self.signature.to_bytes());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { by: input.value()?, said: input.value()?, signature: read_signature(input)? })
    }
}
