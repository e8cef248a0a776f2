//! What participants say to each other, as it stands on the wire (protocol.md §4).
//!
//! Each message holds the specification's bytes and is signed whole with the sender's static key, which the specification
//! leaves to the application: so the relay can withhold a message but not change one, and what is wrong inside a signed
//! message is its sender's doing. Nothing here is believed until a phase has accepted it.

use rand_core::{CryptoRng, RngCore};

use crate::protocol::{
    dkg::{
        session::{Member, NONCE_BYTES, Session, Terms},
        sharing::Dealt,
        suite::{Signature, ZeroNonce},
    },
    hash::Hash,
    ids::Attempt,
    label::Label,
    quorum::{MAX_OFFICIALS, Position},
    secret::SecretScalar,
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// The longest round 1 message of the specification that is taken: 32 officials need 2,946 bytes, and a cheater's excess
/// should still be readable enough to blame it.
pub const MAX_BODY_BYTES: usize = 4096;

/// Before round 1: one participant's randomness for the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contribution {
    /// Who contributes.
    pub from: Position,
    /// For which try.
    pub attempt: Attempt,
    /// 32 random bytes.
    pub nonce: [u8; NONCE_BYTES],
    /// The static key's signature over all that and the terms.
    pub signature: Signature,
}

impl Contribution {
    /// Draws and signs one.
    ///
    /// # Errors
    /// [`ZeroNonce`], never in practice.
    pub fn new(member: &Member, attempt: Attempt, rng: &mut (impl RngCore + CryptoRng)) -> Result<Self, ZeroNonce> {
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let from = member.position();
        let signature = Signature::sign(member.secret(), &Self::signed(member.terms(), attempt, from, &nonce))?;
        Ok(Self { from, attempt, nonce, signature })
    }

    /// Whether the official it names signed it, under these terms.
    pub fn is_authentic(&self, terms: &Terms) -> bool {
        let signed = Self::signed(terms, self.attempt, self.from, &self.nonce);
        terms.static_key(self.from).is_ok_and(|key| self.signature.verify(key, &signed))
    }

    fn signed(terms: &Terms, attempt: Attempt, from: Position, nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
        let mut out = Writer::new();
        out.label(Label::DKG_CONTRIBUTION).value(terms).value(&attempt).value(&from).raw(nonce);
        out.finish()
    }
}

impl Wire for Contribution {
    fn write(&self, out: &mut Writer) {
        out.value(&self.from).value(&self.attempt).raw(&self.nonce).value(&self.signature);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            from: input.value()?,
            attempt: input.value()?,
            nonce: input.array("contribution")?,
            signature: input.value()?,
        })
    }
}

impl Document for Contribution {
    const LABEL: Label = Label::DKG_CONTRIBUTION;
    const MAX_BYTES: usize = 256;
}

/// Round 1: `msg_{1|i}`, proof of the ephemeral key, and signature over both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message1 {
    /// Who deals.
    pub from: Position,
    /// The specification's bytes.
    pub body: Vec<u8>,
    /// Signature of the ephemeral key over the body: whoever deals knows e, so a recipient that shows its agreed points to
    /// a judge shows nothing that the dealer could not compute (see `evidence`).
    pub ephemeral_proof: Signature,
    /// Signature of the static key over everything.
    pub signature: Signature,
}

impl Message1 {
    /// Signs what was dealt.
    ///
    /// # Errors
    /// [`ZeroNonce`], never in practice.
    pub fn new(
        session: &Session,
        from: Position,
        secret: &SecretScalar,
        dealt: &Dealt,
        ephemeral: &SecretScalar,
    ) -> Result<Self, ZeroNonce> {
        Self::sign(session, from, secret, dealt.encode(), ephemeral)
    }

    /// Signs any body at all.
    ///
    /// # Errors
    /// [`ZeroNonce`], never in practice.
    pub fn sign(
        session: &Session,
        from: Position,
        secret: &SecretScalar,
        body: Vec<u8>,
        ephemeral: &SecretScalar,
    ) -> Result<Self, ZeroNonce> {
        let ephemeral_proof = Signature::sign(ephemeral, &Self::signed(session, from, &body, None))?;
        let signature = Signature::sign(secret, &Self::signed(session, from, &body, Some(&ephemeral_proof)))?;
        Ok(Self { from, body, ephemeral_proof, signature })
    }

    /// Whether the official it names signed it, in this session.
    pub fn is_authentic(&self, session: &Session) -> bool {
        let signed = Self::signed(session, self.from, &self.body, Some(&self.ephemeral_proof));
        session.terms().static_key(self.from).is_ok_and(|key| self.signature.verify(key, &signed))
    }

    /// Whether the dealer knows the ephemeral key of `dealt`, the body of this message.
    pub fn proves_ephemeral(&self, session: &Session, dealt: &Dealt) -> bool {
        self.ephemeral_proof.verify(&dealt.ephemeral, &Self::signed(session, self.from, &self.body, None))
    }

    /// What round 3 names this message by. The signatures are not part of it: one body can carry several.
    pub fn digest(&self) -> Hash {
        Hash::of(Label::DKG_ROUND1, |out| {
            out.value(&self.from).bytes(&self.body);
        })
    }

    fn signed(session: &Session, from: Position, body: &[u8], ephemeral_proof: Option<&Signature>) -> Vec<u8> {
        let mut out = Writer::new();
        out.label(Label::DKG_ROUND1).value(session.context()).value(&from).bytes(body);
        match ephemeral_proof {
            None => out.u8(1),
            Some(proof) => out.u8(2).value(proof),
        };
        out.finish()
    }
}

impl Wire for Message1 {
    fn write(&self, out: &mut Writer) {
        out.value(&self.from).bytes(&self.body).value(&self.ephemeral_proof).value(&self.signature);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            from: input.value()?,
            body: input.bytes(MAX_BODY_BYTES, "round 1 message")?.to_vec(),
            ephemeral_proof: input.value()?,
            signature: input.value()?,
        })
    }
}

impl Document for Message1 {
    const LABEL: Label = Label::DKG_ROUND1;
    const MAX_BYTES: usize = MAX_BODY_BYTES + 256;
}

/// Round 3: `sig_i` on the transcript, and what the transcript was made of, so that disagreement can be traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message3 {
    /// Who certifies.
    pub from: Position,
    /// The digests of the round 1 messages the sender accepted, in order of position.
    pub accepted: Vec<Hash>,
    /// The specification's signature on the transcript.
    pub certified: Signature,
    /// Signature of the static key over everything.
    pub signature: Signature,
}

impl Message3 {
    /// Signs a transcript and the digests of the messages it came from.
    ///
    /// # Errors
    /// [`ZeroNonce`], never in practice.
    pub fn new(
        session: &Session,
        from: Position,
        secret: &SecretScalar,
        accepted: Vec<Hash>,
        transcript: &[u8],
    ) -> Result<Self, ZeroNonce> {
        Self::sign(session, from, secret, accepted, Signature::sign(secret, transcript)?)
    }

    /// Signs the message around any certification at all.
    ///
    /// # Errors
    /// [`ZeroNonce`], never in practice.
    pub fn sign(
        session: &Session,
        from: Position,
        secret: &SecretScalar,
        accepted: Vec<Hash>,
        certified: Signature,
    ) -> Result<Self, ZeroNonce> {
        let signature = Signature::sign(secret, &Self::signed(session, from, &accepted, &certified))?;
        Ok(Self { from, accepted, certified, signature })
    }

    /// Whether the official it names signed it, in this session.
    pub fn is_authentic(&self, session: &Session) -> bool {
        let signed = Self::signed(session, self.from, &self.accepted, &self.certified);
        session.terms().static_key(self.from).is_ok_and(|key| self.signature.verify(key, &signed))
    }

    fn signed(session: &Session, from: Position, accepted: &[Hash], certified: &Signature) -> Vec<u8> {
        let mut out = Writer::new();
        out.label(Label::DKG_ROUND3).value(session.context()).value(&from).list(accepted).value(certified);
        out.finish()
    }
}

impl Wire for Message3 {
    fn write(&self, out: &mut Writer) {
        out.value(&self.from).list(&self.accepted).value(&self.certified).value(&self.signature);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            from: input.value()?,
            accepted: input.list(usize::from(MAX_OFFICIALS), "digests")?,
            certified: input.value()?,
            signature: input.value()?,
        })
    }
}

impl Document for Message3 {
    const LABEL: Label = Label::DKG_ROUND3;
    const MAX_BYTES: usize = 1536;
}
