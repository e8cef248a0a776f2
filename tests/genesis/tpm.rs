//! A TPM in software, as strict about sessions, approvals and its counter as one: what it signs, its attestation key signs.

use chancery::protocol::{
    ceremony::genesis::{Board, Event, GenesisResult, Ground, ProvisioningOffer, Stage, Trouble, result::BornKey},
    group::Point,
    hash::Hash,
    ids::EmbassyName,
    quorum::Position,
    secret::SecretScalar,
    tpm::{
        approval::{TpmApproval, TpmNonce},
        name::Name,
        pcr::PcrValues,
    },
    wire::Writer,
};
use p256::ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner};
use rand_chacha::ChaCha20Rng;
use rand_core::{OsRng, RngCore};

use crate::people::Network;

pub(crate) struct SoftTpm {
    ground: Ground,
    storage_root: Point,
    attestation: SigningKey,
    /// Before its first move a counter has no value.
    counter: Option<u64>,
    moves: u32,
    written: [bool; 2],
    sessions: Option<ProvisioningOffer>,
    keys: (SecretScalar, SecretScalar),
}

pub(crate) fn nonce(rng: &mut ChaCha20Rng) -> TpmNonce {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    TpmNonce::from_bytes(&bytes).unwrap()
}

fn fresh() -> TpmNonce {
    let mut bytes = [0; 32];
    OsRng.fill_bytes(&mut bytes);
    TpmNonce::from_bytes(&bytes).unwrap()
}

impl SoftTpm {
    pub(crate) fn new(network: &Network, embassy: &EmbassyName) -> Self {
        Self {
            ground: Ground::new(network.founding.charter(), embassy).unwrap(),
            storage_root: Point::mul_generator(SecretScalar::random(&mut OsRng).expose()),
            attestation: SigningKey::random(&mut OsRng),
            counter: None,
            moves: 0,
            written: [false; 2],
            sessions: None,
            keys: (SecretScalar::random(&mut OsRng), SecretScalar::random(&mut OsRng)),
        }
    }

    pub(crate) fn moves(&self) -> u32 {
        self.moves
    }

    pub(crate) fn restart(&mut self) {
        self.sessions = None;
    }

    fn pcrs(&self) -> PcrValues {
        self.ground.plan.platform.pcrs().map(|pcr| (pcr, [pcr; 32])).collect()
    }

    pub(crate) fn offer(&mut self, number: u32, registers: bool) -> Event {
        if if registers { self.written == [true; 2] } else { self.counter.is_some() } {
            return Event::Ordered;
        }
        let (stage, nonces) = match registers {
            false => (Stage::Counter, vec![fresh()]),
            true => {
                let [register_written, pin_written] = self.written;
                let counter_first = self.counter.unwrap();
                (
                    Stage::Registers { counter_first, pcrs: self.pcrs(), register_written, pin_written },
                    vec![fresh(), fresh()],
                )
            }
        };
        let offer = ProvisioningOffer {
            charter: self.ground.plan.charter,
            embassy: self.ground.plan.embassy.clone(),
            generation: self.ground.plan.generation,
            number,
            storage_root: self.storage_root,
            attestation_key: Point::of_key(self.attestation.verifying_key()),
            stage,
            nonces,
        };
        self.sessions = Some(offer.clone());
        Event::Offered(Box::new(offer))
    }

    pub(crate) fn order(&mut self, approvals: &[Vec<TpmApproval>], refuse: bool, forget: bool) -> Event {
        if forget {
            self.sessions = None;
        }
        let Some(offer) = self.sessions.clone() else {
            return Event::NotOrdered(Trouble::FreshApprovals { why: "the sessions are gone".to_owned() });
        };
        let checked = offer.clone().check(&self.ground).unwrap();
        if refuse {
            let first = approvals[0][0].position();
            return Event::NotOrdered(Trouble::Refused(vec![(first, "expired".to_owned())]));
        }
        for (request, given) in checked.requests().iter().zip(approvals) {
            let mut places: Vec<Position> = given.iter().map(TpmApproval::position).collect();
            places.dedup();
            assert!(places.len() >= usize::from(self.ground.amend().k()), "k different officials");
            for approval in given {
                let key = self.ground.plan.officials[approval.position().index()];
                approval.verify(request, &key, self.ground.expiry_max_seconds).unwrap();
            }
        }
        self.sessions = None;
        match offer.stage {
            Stage::Counter => {
                self.counter = Some(41);
                self.moves += 1;
            }
            Stage::Registers { .. } => self.written = [true; 2],
        }
        Event::Ordered
    }

    pub(crate) fn make_keys(&self, board: &Board) -> GenesisResult {
        let counter_first = self.counter.unwrap();
        let custody = self.ground.plan.custody(counter_first).unwrap();
        let [t, identity] = [&self.keys.0, &self.keys.1].map(|key| Point::mul_generator(key.expose()));
        let certificate = |kind| board.run(kind).made().unwrap().recovery.certificate().clone();
        GenesisResult {
            charter: self.ground.plan.charter,
            under: board.charter().hash(),
            embassy: board.embassy().clone(),
            generation: self.ground.plan.generation,
            certificates: Some((
                certificate(chancery::protocol::ids::QuorumKind::Unseal),
                certificate(chancery::protocol::ids::QuorumKind::Recovery),
            )),
            storage_root: self.storage_root,
            attestation_key: Point::of_key(self.attestation.verifying_key()),
            counter_first,
            pcrs: self.pcrs(),
            custody_key: self.born(t, custody.custody_key.public.name(&t)),
            identity_key: self.born(identity, custody.identity_key.public.name(&identity)),
        }
    }

    fn born(&self, point: Point, name: Name) -> BornKey {
        let mut out = Writer::new();
        out.u32(0xff54_4347).u16(0x801A).u16(0).u16(0).raw(&[0; 25]);
        out.u16(34).raw(name.as_bytes()).u16(32).raw(&[9; 32]);
        let statement = out.finish();
        let signature: Signature = self.attestation.sign_prehash(Hash::of_bytes(&statement).as_bytes()).unwrap();
        BornKey { point, statement, signature: signature.to_bytes().into() }
    }
}
