//! The country of these runs as its officials know it: a network with a simulated TPM, in the form that the officials of
//! `tests/cluster` work with.

use chancery::protocol::{
    certificate::Role,
    dataset_version::VerifiedVersion,
    facts::CustodyFacts,
    hybrid::HybridSecretKey,
    ids::{OfficialName, SubjectName},
    quorum::Position,
    recipient::{Recipient, RecipientCard},
    secret::{Secret, SecretScalar},
};
use p256::ecdsa::SigningKey;
use rand_core::OsRng;

pub use crate::support::EXPIRY_MAX;
use crate::support::{self, now};

/// How many must agree.
pub const K: u8 = 3;
/// How many officials there are. The last two are in the host's pay: one less than it takes.
pub const N: u8 = 5;
/// The first official who is in the host's pay, counted from 1.
pub const FIRST_HOSTILE: u8 = 4;

/// An official, with everything that only this official has.
pub struct Person {
    pub name: OfficialName,
    pub position: Position,
    pub identity: SigningKey,
    pub hybrid: HybridSecretKey,
    pub share: SecretScalar,
}

impl Person {
    pub const fn is_honest(&self) -> bool {
        self.position.get() < FIRST_HOSTILE
    }
}

pub struct World {
    pub people: Vec<Person>,
    pub facts: CustodyFacts,
    pub versions: Vec<VerifiedVersion>,
    pub card: RecipientCard,
    pub recipient: Recipient,
}

impl World {
    pub fn of(network: &support::World) -> Self {
        let person = |official: &support::Official| Person {
            name: official.name.clone(),
            position: official.position,
            identity: official.identity.signing.clone(),
            hybrid: HybridSecretKey::from_seed(Secret::from_slice(official.hybrid.seed().expose()).unwrap()),
            share: SecretScalar::from_bytes(&official.share.to_bytes()).unwrap(),
        };
        let court = network.home.visitor(Role::Agent, "court");
        let (name, hybrid) = (SubjectName::new("court").unwrap(), HybridSecretKey::random(&mut OsRng));
        let card = RecipientCard::sign(name, court.path[0].clone(), hybrid.public().clone(), &court.key.signing);
        let card = card.unwrap();
        let recipient = card.verify(&network.home.authority(), &network.revocations(), now()).unwrap();
        Self {
            people: network.officials.iter().map(person).collect(),
            facts: network.facts(),
            versions: (0..network.datasets.len()).map(|index| network.version(index)).collect(),
            card,
            recipient,
        }
    }
}
