//! Officials with disks of their own, one of whom may cheat, and the founding charter that names them.

use std::collections::BTreeMap;

use chancery::protocol::{
    ceremony::genesis::{
        CheckedOffer, Genesis, Message,
        participant::{Advice, Do, Journal, Participant},
    },
    charter::{
        Charter, CharterEmbassy, CharterOfficial, CharterParts, Country, HardwareClass, QuorumRule, SignedCharter,
        Signer, VerifiedCharter,
    },
    dkg::{
        Contribution, Member, Message1,
        sharing::{self, Setting},
    },
    group::Point,
    hash::Hash,
    hybrid::HybridSecretKey,
    ids::{EmbassyName, OfficialName, QuorumKind},
    paragraph::Reason,
    quorum::Threshold,
    secret::SecretScalar,
    tpm::{custody::CustodyHandles, nv::NvHandle, pcr::PcrSelection},
    wire::Document,
};
use p256::ecdsa::SigningKey;
use rand_chacha::ChaCha20Rng;

pub(crate) const EMBASSIES: [&str; 2] = ["luxembourg", "geneva"];
const NAMES: [&str; 5] = ["anna", "boris", "clara", "david", "eva"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cheats {
    No,
    BadShare,
    TwoContributions,
    TwoPolynomials,
}

/// What survives a power failure.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) journal: Vec<u8>,
    pub(crate) kept: BTreeMap<QuorumKind, (Vec<u8>, Vec<u8>)>,
}

pub(crate) struct Person {
    pub(crate) name: OfficialName,
    pub(crate) identity: SigningKey,
    pub(crate) dkg: SecretScalar,
    pub(crate) disk: Disk,
    pub(crate) cheats: Cheats,
    /// The board as the running machine has read it.
    pub(crate) read: Option<(Genesis, usize)>,
}

fn secret(key: &SecretScalar) -> SecretScalar {
    SecretScalar::from_bytes(&key.to_bytes()).unwrap()
}

impl Person {
    pub(crate) fn clone_for_look(&self) -> Self {
        Self {
            name: self.name.clone(),
            identity: self.identity.clone(),
            dkg: secret(&self.dkg),
            disk: self.disk.clone(),
            cheats: Cheats::No,
            read: None,
        }
    }

    fn participant(&self, genesis: &Genesis) -> Participant<'_> {
        let journal = Journal::decode(&self.disk.journal).unwrap();
        Participant::new(genesis.board(), self.name.clone(), &self.dkg, journal).unwrap()
    }

    /// A look; the cheat's machine adds what it likes.
    pub(crate) fn advance(&mut self, genesis: &Genesis, rng: &mut ChaCha20Rng) -> (Vec<Do>, Advice) {
        let (mut acts, advice) = self.participant(genesis).advance(genesis, &self.identity, &[], rng).unwrap();
        if self.cheats == Cheats::No {
            return (acts, advice);
        }
        let kind = QuorumKind::Unseal;
        let run = genesis.board().run(kind);
        let member = Member::new(run.terms().clone(), secret(&self.dkg)).unwrap();
        match (self.cheats, run.observer().session()) {
            (Cheats::TwoContributions, None)
                if acts.iter().any(|act| matches!(act, Do::Send(Message::Contribution(QuorumKind::Unseal, _)))) =>
            {
                let second = Contribution::new(&member, run.attempt(), rng).unwrap();
                acts.push(Do::Send(Message::Contribution(kind, second)));
                self.cheats = Cheats::No;
            }
            (Cheats::BadShare | Cheats::TwoPolynomials, Some(session)) => {
                let place =
                    acts.iter().position(|act| matches!(act, Do::Send(Message::Round1(QuorumKind::Unseal, ..))));
                let Some(place) = place else { return (acts, advice) };
                let setting = Setting {
                    threshold: run.terms().threshold(),
                    static_keys: run.terms().static_keys(),
                    context: session.context().as_bytes(),
                    own: member.position(),
                    secret: member.secret(),
                };
                let (mut dealt, ephemeral) = sharing::deal(&setting, rng, |_| &[]).unwrap();
                let last = dealt.ciphertexts.len() - 1;
                if self.cheats == Cheats::BadShare {
                    dealt.ciphertexts[last][0] ^= 1;
                }
                let message = Message1::new(session, member.position(), member.secret(), &dealt, &ephemeral).unwrap();
                let message = Do::Send(Message::Round1(kind, run.attempt(), Box::new(message)));
                if self.cheats == Cheats::BadShare {
                    acts[place] = message;
                } else {
                    acts.push(message);
                }
                self.cheats = Cheats::No;
            }
            _ => {}
        }
        (acts, advice)
    }

    pub(crate) fn approve(&self, genesis: &Genesis, offer: &CheckedOffer) -> Message {
        self.participant(genesis).approve(genesis.board(), offer, &self.identity).unwrap()
    }

    pub(crate) fn sign(&self, genesis: &Genesis, candidate: &SignedCharter) -> Message {
        self.participant(genesis).sign(candidate, &self.identity).unwrap()
    }

    pub(crate) fn again(&self, genesis: &Genesis, kind: QuorumKind, why: &str) -> Message {
        self.participant(genesis).again(genesis.board(), kind, Reason::of(why), &self.identity).unwrap()
    }
}

pub(crate) struct Network {
    pub(crate) home: SigningKey,
    pub(crate) people: Vec<Person>,
    pub(crate) founding: VerifiedCharter,
}

impl Network {
    pub(crate) fn new(n: u8, embassies: &[&str], rng: &mut ChaCha20Rng) -> Self {
        let home = SigningKey::random(rng);
        let keys: Vec<_> = NAMES[..usize::from(n)]
            .iter()
            .map(|name| {
                let name = OfficialName::new(name).unwrap();
                (name, SigningKey::random(rng), HybridSecretKey::random(rng), SecretScalar::random(rng))
            })
            .collect();
        let members: Vec<OfficialName> = keys.iter().map(|(name, ..)| name.clone()).collect();
        // The recovery quorum has another order and a higher threshold.
        let recovery: Vec<OfficialName> = members.iter().rev().cloned().collect();
        let handle = |at| NvHandle::new(at).unwrap();
        let parts = CharterParts {
            version: 1,
            founding: None,
            previous: None,
            country: Country::new("ZZ").unwrap(),
            home: Point::of_key(home.verifying_key()),
            officials: keys
                .iter()
                .map(|(name, identity, hybrid, dkg)| CharterOfficial {
                    name: name.clone(),
                    identity: Point::of_key(identity.verifying_key()),
                    hybrid: hybrid.public().clone(),
                    dkg: Point::mul_generator(dkg.expose()),
                })
                .collect(),
            unseal: QuorumRule { threshold: Threshold::new(2, n).unwrap(), members },
            amend_k: 2,
            recovery: QuorumRule { threshold: Threshold::new(n.min(3), n).unwrap(), members: recovery },
            expiry_max_seconds: 600,
            heartbeat_seconds: 300,
            embassies: embassies
                .iter()
                .map(|name| CharterEmbassy {
                    name: EmbassyName::new(name).unwrap(),
                    class: HardwareClass::Discrete,
                    leases: false,
                    platform: PcrSelection::new(&[0, 4, 7]).unwrap(),
                    handles: CustodyHandles {
                        counter: handle(0x0180_0010),
                        register: handle(0x0180_0011),
                        charter_pin: handle(0x0180_0012),
                    },
                })
                .collect(),
            owners: vec![],
            datasets: vec![],
            witnesses: vec![],
            policy: Hash([3; 32]),
            custody: None,
        };
        let (country, home_key) = (parts.country, parts.home);
        let mut signed = SignedCharter::unsigned(Charter::new(parts).unwrap());
        signed.sign(Signer::Home, &home).unwrap();
        let founding = signed.found(country, &home_key).unwrap();
        let people = keys
            .into_iter()
            .map(|(name, identity, _, dkg)| {
                let journal = Journal::new(founding.id(), name.clone()).encode();
                let disk = Disk { journal, kept: BTreeMap::new() };
                Person { name, identity, dkg, disk, cheats: Cheats::No, read: None }
            })
            .collect();
        Self { home, people, founding }
    }

    /// Takes somebody out, to act on the rest.
    pub(crate) fn take(&mut self, index: usize) -> Person {
        let stand_in = self.people[index].clone_for_look();
        std::mem::replace(&mut self.people[index], stand_in)
    }

    pub(crate) fn put(&mut self, index: usize, person: Person) {
        self.people[index] = person;
    }
}
