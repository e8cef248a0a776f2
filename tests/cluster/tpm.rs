//! A model of the embassy's TPM, as strict as one: T answers in a parked session alone, for the one command that k distinct
//! officials signed with that session's nonce, before their approvals expire. It is told nothing of statements or ceremonies.

use std::collections::{BTreeMap, BTreeSet};

use chancery::protocol::{
    group::Point,
    quorum::Position,
    secret::SharedPoint,
    tpm::{
        approval::{CommandHash, TpmApproval, TpmNonce},
        policy::{PolicyRef, Purpose},
    },
    wire::Document,
};
use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use rand_chacha::{ChaCha20Rng, rand_core::RngCore};
use sha2::{Digest, Sha256};

use crate::world::{K, World};

/// One answer of T.
#[derive(Clone, Debug)]
pub struct Grant {
    pub nonce: [u8; 32],
    pub point: Point,
}

/// Why T did not answer.
#[derive(Debug)]
pub enum Fault {
    /// Not now.
    Busy,
    /// No such session, or no more.
    SessionLost,
    /// Fewer than k good approvals; those that were refused.
    TooFew(Vec<(Position, String)>),
}

pub struct Tpm<'w> {
    world: &'w World,
    parked: BTreeMap<[u8; 32], i64>,
    /// Everything T ever answered.
    pub grants: Vec<Grant>,
    /// How many of the next calls find it busy.
    pub busy: u8,
    pub resets: u32,
}

impl<'w> Tpm<'w> {
    pub const fn new(world: &'w World) -> Self {
        Self { world, parked: BTreeMap::new(), grants: Vec::new(), busy: 0, resets: 0 }
    }

    fn is_busy(&mut self) -> bool {
        let busy = self.busy > 0;
        self.busy = self.busy.saturating_sub(1);
        busy
    }

    pub fn park(&mut self, now: i64, rng: &mut ChaCha20Rng) -> Result<TpmNonce, Fault> {
        if self.is_busy() {
            return Err(Fault::Busy);
        }
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        self.parked.insert(nonce, now);
        Ok(TpmNonce::from_bytes(&nonce).unwrap())
    }

    pub fn forget(&mut self, nonces: &[TpmNonce]) {
        self.parked.retain(|nonce, _| nonces.iter().all(|gone| gone.as_bytes() != nonce));
    }

    pub fn forget_all(&mut self) {
        self.parked.clear();
    }

    pub fn reset(&mut self) {
        self.parked.clear();
        self.resets += 1;
    }

    /// The nonces of all sessions that are parked: what somebody at the bus knows.
    pub fn nonces(&self) -> Vec<TpmNonce> {
        self.parked.keys().map(|nonce| TpmNonce::from_bytes(nonce).unwrap()).collect()
    }

    /// T times the point.
    pub fn decapsulate(
        &mut self,
        nonce: &TpmNonce,
        point: &Point,
        approvals: &[TpmApproval],
        now: i64,
    ) -> Result<SharedPoint, Fault> {
        if self.is_busy() {
            return Err(Fault::Busy);
        }
        let Some(started) = self.parked.get(nonce.as_bytes()).copied() else { return Err(Fault::SessionLost) };
        let (mut good, mut refused) = (BTreeSet::new(), Vec::new());
        for approval in approvals {
            if good.len() == usize::from(K) {
                break;
            }
            match self.check(approval, nonce, point, now - started) {
                Ok(()) => drop(good.insert(approval.position())),
                Err(why) => refused.push((approval.position(), why.to_owned())),
            }
        }
        if good.len() < usize::from(K) {
            return Err(Fault::TooFew(refused));
        }
        self.parked.remove(nonce.as_bytes());
        self.grants.push(Grant { nonce: *nonce.as_bytes(), point: *point });
        let mut shared = point.mul(self.world.custody_key.expose());
        Ok(SharedPoint::take(&mut shared))
    }

    /// TPM2_PolicySigned with the key that the ladder has at this rung: aHash is computed here, from what the TPM knows.
    fn check(&self, approval: &TpmApproval, nonce: &TpmNonce, point: &Point, age: i64) -> Result<(), &'static str> {
        let facts = &self.world.facts;
        let command = CommandHash::ecdh_zgen(&facts.custody_key_name(), point);
        let purpose = PolicyRef::new(Purpose::Unseal, facts.charter(), facts.embassy(), facts.generation());
        let digest = Sha256::new()
            .chain_update(nonce.as_bytes())
            .chain_update(approval.expiration().to_be_bytes())
            .chain_update(command.as_bytes())
            .chain_update(purpose.as_bytes())
            .finalize();
        let key = &facts.unseal().member(approval.position()).map_err(|_| "no such rung")?.identity;
        let (r, s) = approval.r_s();
        let signature = Signature::from_scalars(r, s).map_err(|_| "no signature")?;
        VerifyingKey::from_affine(*key.affine())
            .unwrap()
            .verify_prehash(&digest, &signature)
            .map_err(|_| "the signature does not verify")?;
        if age > i64::from(approval.expiration()) { Err("it has expired") } else { Ok(()) }
    }
}

/// What stands on the disk, and whether the next commit fails.
#[derive(Default)]
pub struct Store {
    pub records: BTreeMap<String, Vec<u8>>,
    pub roll: Vec<chancery::protocol::roll::Entry>,
    /// Everything that was ever written, to be searched.
    pub written: Vec<Vec<u8>>,
    pub fails: u8,
}

/// The disk did not take it; nothing of it is there.
#[derive(Debug)]
pub struct CommitFailed;

impl Store {
    /// All or nothing.
    pub fn commit(
        &mut self,
        record: Option<(String, Vec<u8>)>,
        entries: &[chancery::protocol::roll::Entry],
    ) -> Result<(), CommitFailed> {
        if self.fails > 0 {
            self.fails -= 1;
            return Err(CommitFailed);
        }
        if let Some((key, bytes)) = record {
            self.written.push(bytes.clone());
            self.records.insert(key, bytes);
        }
        self.written.extend(entries.iter().map(Document::encode));
        self.roll.extend(entries.iter().cloned());
        Ok(())
    }
}
