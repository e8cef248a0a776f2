//! The official's side of an opening: check the offer, then contribute to exactly what was checked (protocol.md §10.3).
//!
//! The embassy's offer is not trusted. [`CheckedOffer`] exists only where the offer is signed by the embassy's identity key,
//! fits the facts that home signed, and every slot in it is one of a dataset version that the data owner signed and whose
//! proof holds; where a charter is adopted, it is the one in force. Every hash that an official signs is computed here, from the
//! facts and the slot or the charter, never taken from the offer.

use p256::ecdsa::Signature;
use rand_core::{CryptoRng, RngCore};

use crate::protocol::{
    certificate::UnixTime,
    dataset_version::VerifiedVersion,
    facts::CustodyFacts,
    group::Point,
    hash::Hash,
    hybrid::{self, HybridError, HybridPublicKey, HybridSecretKey},
    ids::{CharterAt, DatasetName, DatasetVersion},
    label::Label,
    offer::{Offer, OfferError, SignedOffer},
    partial::{DecapsulateError, MAX_POINTS, PartialDecapsulation, decapsulate},
    quorum::{Position, QuorumError, Threshold},
    recipient::Recipient,
    secret::{Secret, SecretScalar, SecretVec},
    signer::{DigestSigner, SignError, low, read_signature, signed_by},
    slot::{PointSeen, SealedFor, SeenPoints, ShareError, VerifiedSlot},
    statement::StatementError,
    tpm::{
        approval::{ApprovalError, ApprovalRequest, CommandHash, Expiry, TpmApproval},
        policy::{PolicyRef, Purpose},
    },
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// The longest sealed part of a contribution: 8 partials, 8 shares, and HPKE's overhead.
const MAX_SEALED_BYTES: usize = 2048;
/// Capacity for the halves in clear, so that writing them never moves them.
const HALVES_BYTES: usize = 1024;

/// Why an official's machine refuses an offer. Nothing was contributed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferRefusal {
    /// The offer contradicts itself or is not signed by the embassy.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// The offer is for another charter, embassy or generation than the facts.
    #[error(
        "the offer is for another {what} than the one you hold facts of. Do not contribute; ask home which is current"
    )]
    Another {
        /// Charter, embassy or generation.
        what: &'static str,
    },
    /// The statement was not signed by who is said to have opened it, or its time is not now.
    #[error("the statement: {0}")]
    Statement(#[from] StatementError),
    /// A release to somebody whose card was not judged, or did not hold.
    #[error(
        "nobody at home certified the recipient of this release, as far as is known here. Do not contribute; ask home"
    )]
    Recipient,
    /// It adopts another charter than the one in force.
    #[error(
        "the statement adopts charter {adopts}, and in force here is {in_force}. Do not contribute; whoever has the older \
         one takes the newer one first, then open a ceremony for that"
    )]
    NotInForce {
        /// The one in the statement.
        adopts: Box<CharterAt>,
        /// The one in the facts.
        in_force: Box<CharterAt>,
    },
    /// The TPM's command for the charter pin cannot be put together.
    #[error(transparent)]
    Command(#[from] ApprovalError),
    /// The official has no signed record of a dataset in the statement.
    #[error(
        "no signed record of dataset {dataset} version {version}, sealed for this generation, is at hand. Ask its data owner for it"
    )]
    NoRecord {
        /// Which dataset.
        dataset: DatasetName,
        /// Which version.
        version: DatasetVersion,
    },
    /// The offer shows another slot than the one its data owner signed.
    #[error(
        "the slot offered for dataset {dataset} is not the one its data owner signed: another dataset's point may be \
         hidden behind that name. Do not contribute; tell the others"
    )]
    OtherSlot {
        /// The name it was shown under.
        dataset: DatasetName,
    },
    /// The slot's point was seen in another slot before.
    #[error(
        "the point of dataset {dataset}'s slot was seen in another slot before. Do not contribute; tell the data owner"
    )]
    PointSeen {
        /// Which dataset.
        dataset: DatasetName,
        /// Where it was seen.
        seen: PointSeen,
    },
}

/// What a reader knows apart from the offer, and checks it against.
#[derive(Clone, Copy, Debug)]
pub struct Review<'a> {
    /// The facts of the reader's own charter in force.
    pub facts: &'a CustodyFacts,
    /// The dataset versions that data owners signed.
    pub versions: &'a [VerifiedVersion],
    /// The reader's own clock.
    pub now: UnixTime,
    /// The judgement of the recipient's card. Without one a release is refused; a lease needs none.
    pub recipient: Option<&'a Recipient>,
}

/// An offer that passed every check. Contributions are made to nothing else.
#[derive(Debug)]
pub struct CheckedOffer {
    offer: Offer,
    hash: Hash,
    slots: Vec<VerifiedSlot>,
    requests: Vec<ApprovalRequest>,
    threshold: Threshold,
    expiry_max_seconds: u32,
}

impl CheckedOffer {
    /// Checks an offer against what the reader knows from elsewhere. `seen` is what this official keeps over the years; the
    /// slots' points are noted in it.
    ///
    /// # Errors
    /// [`OfferRefusal`]: do not contribute.
    pub fn check(signed: &SignedOffer, review: &Review<'_>, seen: &mut SeenPoints) -> Result<Self, OfferRefusal> {
        let Review { facts, versions, now, recipient } = *review;
        let offer = signed.verify(facts.embassy(), &facts.machine().identity_key)?;
        let statement = offer.statement();
        for (same, what) in [
            (statement.charter() == facts.charter(), "charter"),
            (statement.embassy() == facts.embassy(), "embassy"),
            (statement.generation() == facts.generation(), "generation"),
        ] {
            if !same {
                return Err(OfferRefusal::Another { what });
            }
        }

        offer.signed_statement().verify(facts)?.check_time(now)?;
        let judged = |card| recipient.is_some_and(|recipient| recipient.is_of(card));
        if statement.mode().recipient().is_some_and(|card| !judged(card)) {
            return Err(OfferRefusal::Recipient);
        }

        let (slots, requests) = match statement.mode().adoption() {
            Some(adoption) => (Vec::new(), adopt(offer, facts, &adoption.charter)?),
            None => open(offer, facts, versions, seen)?,
        };
        let threshold = statement.mode().threshold(facts);
        let (offer, hash) = (offer.clone(), offer.hash());
        Ok(Self { offer, hash, slots, requests, threshold, expiry_max_seconds: facts.expiry_max_seconds() })
    }

    /// The offer.
    pub const fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Its hash, which every contribution names.
    pub const fn hash(&self) -> &Hash {
        &self.hash
    }

    /// The slots to open, in the statement's order.
    pub fn slots(&self) -> &[VerifiedSlot] {
        &self.slots
    }

    /// What the TPM will ask of each approval, in the statement's order.
    pub fn requests(&self) -> &[ApprovalRequest] {
        &self.requests
    }

    /// The longest an approval may be valid, in seconds.
    pub const fn expiry_max_seconds(&self) -> u32 {
        self.expiry_max_seconds
    }

    /// How many officials it takes.
    pub const fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// The slots' points, in the statement's order.
    pub fn points(&self) -> Vec<Point> {
        self.slots.iter().map(|slot| *slot.point()).collect()
    }
}

/// What a lease or release asks of the TPM: T times the point of each slot.
fn open(
    offer: &Offer,
    facts: &CustodyFacts,
    versions: &[VerifiedVersion],
    seen: &mut SeenPoints,
) -> Result<(Vec<VerifiedSlot>, Vec<ApprovalRequest>), OfferRefusal> {
    let policy_ref = PolicyRef::new(Purpose::Unseal, facts.charter(), facts.embassy(), facts.generation());
    let custody_key = facts.custody_key_name();
    let here = SealedFor::Embassy(facts.embassy().clone());
    let (mut slots, mut requests) = (Vec::new(), Vec::new());
    for (at, opening) in offer.statement().datasets().iter().zip(offer.openings()) {
        // A version is sealed again in each generation: records of earlier ones may be at hand beside the current.
        let slot = versions
            .iter()
            .filter(|version| {
                let signed = version.description();
                (signed.charter, &signed.dataset, signed.version) == (facts.charter(), &at.dataset, at.version)
            })
            .filter_map(|version| version.slot(&here))
            .find(|slot| slot.context().generation() == facts.generation())
            .ok_or_else(|| OfferRefusal::NoRecord { dataset: at.dataset.clone(), version: at.version })?;
        // protocol.md §10.3: the slot is the signed one, not the one shown.
        if slot.id() != opening.subject {
            return Err(OfferRefusal::OtherSlot { dataset: at.dataset.clone() });
        }
        seen.note(slot).map_err(|seen| OfferRefusal::PointSeen { dataset: at.dataset.clone(), seen })?;
        requests.push(ApprovalRequest {
            nonce: opening.nonce,
            command: CommandHash::ecdh_zgen(&custody_key, slot.point()),
            policy_ref,
        });
        slots.push(slot.clone());
    }
    Ok((slots, requests))
}

/// What an adoption asks of the TPM: the charter's hash into the charter pin, which has been written before (protocol.md §10.6).
fn adopt(offer: &Offer, facts: &CustodyFacts, charter: &CharterAt) -> Result<Vec<ApprovalRequest>, OfferRefusal> {
    let in_force = facts.in_force();
    if charter != in_force {
        return Err(OfferRefusal::NotInForce { adopts: Box::new(*charter), in_force: Box::new(*in_force) });
    }
    let policy_ref = PolicyRef::new(Purpose::Amend, facts.charter(), facts.embassy(), facts.generation());
    let pin = facts.custody().charter_pin.public.name();
    let command = CommandHash::nv_write(&pin, in_force.hash.as_bytes())?;
    // The offer has one opening: `Offer::new` saw to it.
    Ok(offer.openings().iter().map(|opening| ApprovalRequest { nonce: opening.nonce, command, policy_ref }).collect())
}

/// What an official holds. Borrowed: a ceremony keeps none of it.
pub struct Official<'a> {
    /// The place in the unseal quorum.
    pub position: Position,
    /// Signs approvals and contributions.
    pub identity: &'a dyn DigestSigner,
    /// Opens the official's shares of w.
    pub hybrid: &'a HybridSecretKey,
    /// The DKG share x_i.
    pub share: &'a SecretScalar,
}

impl std::fmt::Debug for Official<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Official({}, redacted)", self.position)
    }
}

/// Why no contribution could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContributeError {
    /// The share does not give partial decapsulations for this quorum.
    #[error(transparent)]
    Decapsulate(#[from] DecapsulateError),
    /// The official's share of w does not open.
    #[error("your share of {dataset} does not open: {error}")]
    Share {
        /// Which dataset.
        dataset: DatasetName,
        /// Why.
        error: ShareError,
    },
    /// An approval cannot be signed.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    /// The ceremony key cannot be encrypted to.
    #[error(transparent)]
    Hybrid(#[from] HybridError),
    /// A share is needed for it.
    #[error("this ceremony opens datasets, and takes your share as well as your identity key")]
    NeedsShare,
    /// The identity key is another's, or an earlier one.
    #[error("this is not the identity key that the charter names for {position}; use the token or file of that place")]
    NotThatKey {
        /// The place.
        position: Position,
    },
    /// The identity key gave no signature.
    #[error("{0}. Nothing was sent; check the token or file and try again")]
    Sign(#[from] SignError),
    /// The quorum has no such official.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
}

impl CheckedOffer {
    /// Consents to an opening: approvals for the TPM, partial decapsulations with proof and the opened shares of w (both for
    /// the ceremony key alone), and a signature over all of it. To an adoption as [`CheckedOffer::approve`] does.
    ///
    /// # Errors
    /// [`ContributeError`]; nothing has left this machine then.
    pub fn contribute(
        &self,
        facts: &CustodyFacts,
        official: &Official<'_>,
        expiry_seconds: u32,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Contribution, ContributeError> {
        let position = official.position;
        let Some(key) = self.offer.ceremony_key() else {
            return self.approve(facts, position, official.identity, expiry_seconds);
        };
        let approvals = self.approvals(facts, position, official.identity, expiry_seconds)?;
        let partial = decapsulate(official.share, &facts.unseal().key, position, &self.hash, &self.points(), rng)?;
        let shares = self.slots.iter().map(|slot| {
            let dataset = &slot.context().dataset().dataset;
            let share = slot.open_share(position, official.hybrid);
            share
                .map(|share| share.to_bytes())
                .map_err(|error| ContributeError::Share { dataset: dataset.clone(), error })
        });
        let halves = Halves { partial, shares: shares.collect::<Result<_, _>>()? };
        let sealed = halves.seal(key, &self.hash, position, rng)?;
        Ok(Contribution::sign(position, self.hash, approvals, sealed, official.identity)?)
    }

    /// Consents to an adoption: an approval for the TPM and a signature over it. No share is needed, and nothing is sealed.
    ///
    /// # Errors
    /// [`ContributeError::NeedsShare`] where datasets are opened; nothing has left this machine then.
    pub fn approve(
        &self,
        facts: &CustodyFacts,
        position: Position,
        identity: &dyn DigestSigner,
        expiry_seconds: u32,
    ) -> Result<Contribution, ContributeError> {
        if self.offer.ceremony_key().is_some() {
            return Err(ContributeError::NeedsShare);
        }
        let approvals = self.approvals(facts, position, identity, expiry_seconds)?;
        Ok(Contribution::sign(position, self.hash, approvals, Vec::new(), identity)?)
    }

    fn approvals(
        &self,
        facts: &CustodyFacts,
        position: Position,
        identity: &dyn DigestSigner,
        expiry_seconds: u32,
    ) -> Result<Vec<TpmApproval>, ContributeError> {
        if identity.public_key() != facts.unseal().member(position)?.identity {
            return Err(ContributeError::NotThatKey { position });
        }
        let expiry = Expiry::new(expiry_seconds, self.expiry_max_seconds)?;
        let signed = self.requests.iter().map(|request| request.sign(position, expiry, identity));
        Ok(signed.collect::<Result<_, _>>()?)
    }
}

/// What one official sends: consent to one offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contribution {
    position: Position,
    offer: Hash,
    approvals: Vec<TpmApproval>,
    sealed: Vec<u8>,
    signature: Signature,
}

impl Contribution {
    pub(super) fn sign(
        position: Position,
        offer: Hash,
        approvals: Vec<TpmApproval>,
        sealed: Vec<u8>,
        identity: &dyn DigestSigner,
    ) -> Result<Self, SignError> {
        let digest = signed_digest(&offer, position, &approvals, &sealed);
        let signature = low(identity.sign_digest(&digest)?);
        Ok(Self { position, offer, approvals, sealed, signature })
    }

    /// Whose it claims to be.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Which offer it answers.
    pub const fn offer(&self) -> &Hash {
        &self.offer
    }

    /// The approvals for the TPM, one per slot; or the one for the charter pin.
    pub fn approvals(&self) -> &[TpmApproval] {
        &self.approvals
    }

    /// Whether it holds something encrypted.
    pub const fn is_sealed(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// Whether the official with this identity key sent exactly this.
    pub fn is_signed_by(&self, identity: &Point) -> bool {
        let digest = signed_digest(&self.offer, self.position, &self.approvals, &self.sealed);
        signed_by(identity, &digest, &self.signature)
    }
}

impl Wire for Contribution {
    fn write(&self, out: &mut Writer) {
        out.value(&self.position).value(&self.offer).list(&self.approvals).bytes(&self.sealed);
        out.raw(&self.signature.to_bytes());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (position, offer) = (input.value()?, input.value()?);
        let approvals = input.list(MAX_POINTS, "approvals")?;
        let sealed = input.bytes(MAX_SEALED_BYTES, "sealed halves")?.to_vec();
        let signature = read_signature(input)?;
        Ok(Self { position, offer, approvals, sealed, signature })
    }
}

impl Document for Contribution {
    const LABEL: Label = Label::CONTRIBUTION;
    const MAX_BYTES: usize = 4096;
}

/// What the ceremony key finds in a contribution.
pub(super) struct Halves {
    pub(super) partial: PartialDecapsulation,
    pub(super) shares: Vec<Secret<32>>,
}

impl Halves {
    pub(super) fn seal(
        &self,
        to: &HybridPublicKey,
        offer: &Hash,
        position: Position,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Vec<u8>, HybridError> {
        let mut plain = Writer::with_capacity(HALVES_BYTES);
        plain.label(Label::CONTRIBUTION_HALVES).value(&self.partial);
        for share in &self.shares {
            plain.raw(share.expose());
        }
        let plain = SecretVec::new(plain.finish());
        hybrid::seal(to, Label::CONTRIBUTION_SEAL, offer.as_bytes(), &sealed_aad(offer, position), plain.expose(), rng)
    }

    /// Opens the sealed part of a contribution to an offer with so many slots; `None` where it does not open or read.
    pub(super) fn open(contribution: &Contribution, slots: usize, key: &HybridSecretKey) -> Option<Self> {
        let Contribution { offer, position, sealed, .. } = contribution;
        let aad = sealed_aad(offer, *position);
        let plain = hybrid::open(key, Label::CONTRIBUTION_SEAL, offer.as_bytes(), &aad, sealed).ok()?;
        let mut input = Reader::new(plain.expose());
        input.label(Label::CONTRIBUTION_HALVES).ok()?;
        let partial = input.value().ok()?;
        let shares = (0..slots)
            .map(|_| input.raw(32, "share of w").ok().and_then(Secret::from_slice))
            .collect::<Option<Vec<_>>>()?;
        input.finish().ok()?;
        Some(Self { partial, shares })
    }
}

fn sealed_aad(offer: &Hash, position: Position) -> Vec<u8> {
    let mut aad = Writer::new();
    aad.value(offer).value(&position);
    aad.finish()
}

/// protocol.md §10.3: what the identity signature covers. The offer's hash covers the statement.
fn signed_digest(offer: &Hash, position: Position, approvals: &[TpmApproval], sealed: &[u8]) -> Hash {
    Hash::of(Label::CONTRIBUTION_SIGNATURE, |out| {
        out.value(offer).value(&position).list(approvals).bytes(sealed);
    })
}
