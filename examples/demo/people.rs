//! What the host country gets of people: the keys of officials whom it coerced.
//!
//! They come out of the officials' own directories, with their passphrase. What follows happens in one process, past
//! chancery's programs, as an opponent would do it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use chancery::{
    client::official::{Directory, Means},
    keys::{
        disk,
        file::{KeyKind, ShareOf, Unlock},
    },
    protocol::{
        contribution::{CheckedOffer, Contribution, Official, Review},
        dataset_version::VerifiedVersion,
        facts::CustodyFacts,
        group::Point,
        hash::Hash,
        hybrid::{self, HybridSecretKey},
        ids::{OfficialName, QuorumKind},
        label::Label,
        offer::SignedOffer,
        quorum::Position,
        secret::{SecretScalar, SecretVec},
        slot::SeenPoints,
        tpm::approval::{ApprovalRequest, Expiry, TpmApproval},
        wire::{Document, Writer},
    },
};
use p256::ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner};
use rand_core::OsRng;

use crate::network::PASSPHRASE;

/// Ten minutes: the longest an approval is good for in this charter.
pub const EXPIRY_MAX_SECONDS: u32 = 600;

/// A directory that belongs to one role.
pub struct Room(PathBuf);

impl Room {
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub fn read(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let path = self.0.join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

/// One official's keys, in the hands of whoever coerced the official to give them away.
pub struct Person {
    pub name: OfficialName,
    pub position: Position,
    pub identity: SigningKey,
    pub hybrid: HybridSecretKey,
    share: SecretScalar,
    seen: SeenPoints,
}

impl Person {
    /// Opens the key files in an official's directory.
    pub fn coerced(directory: &Path, facts: &CustodyFacts) -> anyhow::Result<Self> {
        let opened = Directory::open(directory)?;
        let name = opened.name().clone();
        let position = facts.unseal().position_of(&name).context("a place in the unseal quorum")?;
        let passphrase = SecretVec::new(PASSPHRASE.as_bytes().to_vec());
        let identity = disk::load(&directory.join("identity.key"))?;
        let identity = identity.unlock_scalar(KeyKind::Identity, Unlock::Passphrase(&passphrase))?;
        let keys = opened.keys(Means::Passphrase(passphrase));
        let of =
            ShareOf { charter: facts.charter(), quorum: QuorumKind::Unseal, generation: facts.generation(), position };
        Ok(Self {
            name,
            position,
            identity: SigningKey::from(*identity.expose()),
            hybrid: keys.hybrid()?,
            share: keys.share(&of)?,
            seen: SeenPoints::new(),
        })
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
        let official =
            Official { position: self.position, identity: &self.identity, hybrid: &self.hybrid, share: &self.share };
        Ok(checked.contribute(facts, &official, EXPIRY_MAX_SECONDS, &mut OsRng)?)
    }

    /// What a client made for cheating sends: signed by this official, with nothing of use encrypted inside.
    pub fn spoil(&self, honest: &Contribution, offer: &SignedOffer) -> anyhow::Result<Contribution> {
        let hash = *honest.offer();
        let key = offer.unverified().ceremony_key().context("a ceremony key")?;
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

/// What an official brings to a recovery: place, hybrid key, share.
pub fn recovery(directory: &Path, facts: &CustodyFacts) -> anyhow::Result<(Position, HybridSecretKey, SecretScalar)> {
    let opened = Directory::open(directory)?;
    let position = facts.recovery().position_of(opened.name()).context("a place in the recovery quorum")?;
    let of =
        ShareOf { charter: facts.charter(), quorum: QuorumKind::Recovery, generation: facts.generation(), position };
    let keys = opened.keys(Means::Passphrase(SecretVec::new(PASSPHRASE.as_bytes().to_vec())));
    Ok((position, keys.hybrid()?, keys.share(&of)?))
}

/// The public half of a signing key.
pub fn point_of(key: &SigningKey) -> anyhow::Result<Point> {
    Ok(Point::decode(key.verifying_key().to_encoded_point(true).as_bytes())?)
}
