//! The people of the home country: each has a directory of their own and keeps their own secrets.
//!
//! In this demonstration all of them live in one process, so that you can watch. Each official's secrets are in that
//! official's value alone; nothing but the documents of `chancery::protocol` passes between them.

use std::path::{Path, PathBuf};

use anyhow::Context;
use chancery::protocol::{
    charter::CharterOfficial,
    contribution::{CheckedOffer, Contribution, Official, Review},
    dataset_version::{CharteredDataset, DatasetVersionRecord, VerifiedVersion},
    facts::CustodyFacts,
    group::Point,
    hash::Hash,
    hybrid::{self, HybridSecretKey},
    ids::{DatasetName, OfficialName, OwnerName},
    label::Label,
    offer::SignedOffer,
    quorum::Position,
    secret::SecretScalar,
    slot::SeenPoints,
    tpm::approval::{ApprovalRequest, Expiry, TpmApproval},
    wire::{Document, Writer},
};
use p256::ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner};
use rand_core::OsRng;

use crate::genesis::Shares;

/// Ten minutes: the longest an approval is good for in this charter.
pub const EXPIRY_MAX_SECONDS: u32 = 600;

/// A directory that belongs to one role.
pub struct Room(PathBuf);

impl Room {
    pub fn new(under: &Path, name: &str) -> anyhow::Result<Self> {
        let path = under.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.path(name);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }

    pub fn read(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let path = self.path(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

/// One official.
pub struct Person {
    pub name: OfficialName,
    pub position: Position,
    pub identity: SigningKey,
    pub hybrid: HybridSecretKey,
    pub static_key: SecretScalar,
    pub unseal: Option<Shares>,
    pub recovery: Option<Shares>,
    pub room: Room,
    seen: SeenPoints,
}

impl Person {
    pub fn new(under: &Path, name: &str, position: Position) -> anyhow::Result<Self> {
        Ok(Self {
            name: OfficialName::new(name)?,
            position,
            identity: SigningKey::random(&mut OsRng),
            hybrid: HybridSecretKey::random(&mut OsRng),
            static_key: SecretScalar::random(&mut OsRng),
            unseal: None,
            recovery: None,
            room: Room::new(under, &format!("officials/{name}"))?,
            seen: SeenPoints::new(),
        })
    }

    pub fn chartered(&self) -> anyhow::Result<CharterOfficial> {
        Ok(CharterOfficial {
            name: self.name.clone(),
            identity: point_of(&self.identity)?,
            hybrid: self.hybrid.public().clone(),
            dkg: self.static_public(),
        })
    }

    pub fn static_public(&self) -> Point {
        Point::mul_generator(self.static_key.expose())
    }

    /// Checks an offer on the official's own machine, and consents.
    pub fn review_and_consent(
        &mut self,
        offer: &SignedOffer,
        facts: &CustodyFacts,
        versions: &[VerifiedVersion],
    ) -> anyhow::Result<Contribution> {
        let checked = self.review(offer, facts, versions)?;
        self.consent(&checked, facts)
    }

    pub fn review(
        &mut self,
        offer: &SignedOffer,
        facts: &CustodyFacts,
        versions: &[VerifiedVersion],
    ) -> anyhow::Result<CheckedOffer> {
        let review = Review { facts, versions, now: crate::embassy::now()?, recipient: None };
        Ok(CheckedOffer::check(offer, &review, &mut self.seen)?)
    }

    pub fn consent(&self, checked: &CheckedOffer, facts: &CustodyFacts) -> anyhow::Result<Contribution> {
        let official = Official {
            position: self.position,
            identity: &self.identity,
            hybrid: &self.hybrid,
            share: self.unseal.as_ref().context("this official has no share yet")?.secret(),
        };
        Ok(checked.contribute(facts, &official, EXPIRY_MAX_SECONDS, &mut OsRng)?)
    }

    /// What a client made for cheating sends: signed by this official, with nothing of use encrypted inside.
    pub fn spoil(&self, honest: &Contribution, offer: &SignedOffer) -> anyhow::Result<Contribution> {
        let hash = *honest.offer();
        let key = offer.unverified().ceremony_key();
        let sealed = hybrid::seal(key, Label::CONTRIBUTION_SEAL, hash.as_bytes(), b"", b"nothing of use", &mut OsRng)?;
        let covered = |out: &mut Writer, offer_first: bool| {
            // Signed: offer, position, ...; on the wire: position, offer, ...
            match offer_first {
                true => out.value(&hash).value(&self.position),
                false => out.value(&self.position).value(&hash),
            };
            out.list(honest.approvals()).bytes(&sealed);
        };
        let digest = Hash::of(Label::CONTRIBUTION_SIGNATURE, |out| covered(out, true));
        let signature: Signature = self.identity.sign_prehash(digest.as_bytes())?;
        let signature = signature.normalize_s().unwrap_or(signature);
        let mut bytes = Writer::new();
        bytes.label(Label::CONTRIBUTION);
        covered(&mut bytes, false);
        bytes.raw(&signature.to_bytes());
        Ok(Contribution::decode(&bytes.finish())?)
    }

    /// Signs for one TPM command that the official's own machine described.
    pub fn approve(&self, request: &ApprovalRequest) -> anyhow::Result<TpmApproval> {
        let expiry = Expiry::new(EXPIRY_MAX_SECONDS, EXPIRY_MAX_SECONDS)?;
        Ok(request.sign(self.position, expiry, &self.identity)?)
    }
}

/// The agency whose register it is.
pub struct Owner {
    pub name: OwnerName,
    pub key: SigningKey,
    pub room: Room,
}

impl Owner {
    pub fn new(under: &Path, name: &str) -> anyhow::Result<Self> {
        Ok(Self {
            name: OwnerName::new(name)?,
            key: SigningKey::random(&mut OsRng),
            room: Room::new(under, "data-owner")?,
        })
    }

    /// What the charter says of a dataset of this owner, against which everybody checks its records.
    pub fn chartered(&self, facts: &CustodyFacts, dataset: &DatasetName) -> CharteredDataset {
        CharteredDataset {
            charter: facts.charter(),
            owner: self.name.clone(),
            owner_key: *self.key.verifying_key(),
            dataset: dataset.clone(),
        }
    }

    /// What an official's, agent's or embassy's machine does with a record it was handed.
    pub fn verify(
        &self,
        facts: &CustodyFacts,
        record: DatasetVersionRecord,
        dataset: &DatasetName,
    ) -> anyhow::Result<VerifiedVersion> {
        let signed = record.verify_signature(&self.chartered(facts, dataset))?;
        Ok(signed.verify_slots(facts.sealing_keys())?)
    }
}

/// The public half of a signing key.
pub fn point_of(key: &SigningKey) -> anyhow::Result<Point> {
    Ok(Point::decode(key.verifying_key().to_encoded_point(true).as_bytes())?)
}
