//! One country for all runs: officials with shares, an embassy with T, two datasets with slots, a recipient with a certificate.
//! Made once from one seed; what changes in a run stands elsewhere.

use std::sync::OnceLock;

use chancery::{
    keys::{
        IdentitySigner, MemorySigner,
        issue::{self, IssuerName, Request},
    },
    protocol::{
        certificate::{HomeAuthority, Identity, Role, TrustDomain, UnixTime},
        charter::Country,
        dataset::DatasetSeed,
        dataset_version::{CharteredDataset, UnsignedVersion, VerifiedVersion},
        facts::{CustodyFacts, CustodyFactsParts, MachineFacts, OfficialFacts, QuorumFacts},
        group::Point,
        hash::Hash,
        hybrid::HybridSecretKey,
        ids::{
            CharterAt, CharterId, DatasetName, DatasetVersion, EmbassyName, Generation, OfficialName, OwnerName,
            SubjectName,
        },
        partial::PreparedQuorum,
        quorum::{Position, Threshold},
        quorum_key::QuorumKey,
        recipient::{Recipient, RecipientCard},
        secret::SecretScalar,
        slot::{SealedFor, VerifiedSlot},
        tpm::{custody::CustodyHandles, nv::NvHandle, pcr::PcrSelection},
    },
};
use p256::{NonZeroScalar, Scalar, ecdsa::SigningKey};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

/// How many must agree.
pub const K: u8 = 3;
/// How many officials there are. The last two are in the host's pay: one less than it takes.
pub const N: u8 = 5;
/// The first official who is in the host's pay, counted from 1.
pub const FIRST_HOSTILE: u8 = 4;
/// The longest that an approval is good for.
pub const EXPIRY_MAX: u32 = 600;
/// When every run begins.
pub const NOON: UnixTime = UnixTime(1_800_014_400);

const NAMES: [&str; 5] = ["anna", "boris", "clara", "david", "eva"];

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
    pub quorum: PreparedQuorum,
    pub embassy: SigningKey,
    pub custody_key: SecretScalar,
    pub versions: Vec<VerifiedVersion>,
    pub seeds: Vec<DatasetSeed>,
    pub ministry: HybridSecretKey,
    pub card: RecipientCard,
    pub recipient: Recipient,
}

/// The one world of this process.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

impl World {
    fn new() -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let (key, shares) = deal(Threshold::new(K, N).unwrap(), &mut rng);
        let (recovery, _) = deal(Threshold::new(4, N).unwrap(), &mut rng);
        let people: Vec<Person> = shares
            .into_iter()
            .zip(NAMES)
            .zip(1..)
            .map(|((share, name), place)| Person {
                name: OfficialName::new(name).unwrap(),
                position: Position::new(place).unwrap(),
                identity: SigningKey::random(&mut rng),
                hybrid: HybridSecretKey::random(&mut rng),
                share,
            })
            .collect();
        let members: Vec<OfficialFacts> = people
            .iter()
            .map(|person| OfficialFacts {
                name: person.name.clone(),
                identity: Point::of_key(person.identity.verifying_key()),
                hybrid: person.hybrid.public().clone(),
            })
            .collect();
        let mut public = || Point::mul_generator(SecretScalar::random(&mut rng).expose());
        let (storage_root, attestation_key) = (public(), public());
        let (embassy, custody_key) = (SigningKey::random(&mut rng), SecretScalar::random(&mut rng));
        let handle = |at| NvHandle::new(at).unwrap();
        let facts = CustodyFacts::new(CustodyFactsParts {
            charter: CharterId(Hash([1; 32])),
            in_force: CharterAt { version: 2, hash: Hash([2; 32]) },
            embassy: EmbassyName::new("luxembourg").unwrap(),
            generation: Generation::FIRST,
            unseal: QuorumFacts { key: key.clone(), members: members.clone() },
            recovery: QuorumFacts { key: recovery, members },
            amend: Threshold::new(K, N).unwrap(),
            expiry_max_seconds: EXPIRY_MAX,
            machine: MachineFacts {
                platform: PcrSelection::new(&[0, 4, 7]).unwrap(),
                handles: CustodyHandles {
                    counter: handle(0x0180_0010),
                    register: handle(0x0180_0011),
                    charter_pin: handle(0x0180_0012),
                },
                counter_first: 1,
                storage_root,
                attestation_key,
                custody_key: Point::mul_generator(custody_key.expose()),
                identity_key: Point::of_key(embassy.verifying_key()),
            },
            others: vec![],
        })
        .unwrap();
        let (mut versions, mut seeds) = (Vec::new(), Vec::new());
        let (owner_key, owner) = (SigningKey::random(&mut rng), OwnerName::new("land-board").unwrap());
        for name in ["land-register", "police-files"] {
            let (dataset, seed) = (DatasetName::new(name).unwrap(), DatasetSeed::random(&mut rng));
            let chartered = CharteredDataset {
                charter: facts.charter(),
                owner: owner.clone(),
                owner_key: *owner_key.verifying_key(),
                dataset: dataset.clone(),
            };
            let version =
                UnsignedVersion::create(&seed, owner.clone(), dataset, DatasetVersion::FIRST, facts.sealing_keys());
            let signed = version.unwrap().sign(&owner_key).unwrap().verify_signature(&chartered).unwrap();
            versions.push(signed.verify_slots(facts.sealing_keys()).unwrap());
            seeds.push(seed);
        }
        let quorum = PreparedQuorum::new(&key);
        let (ministry, card, recipient) = ministry(&mut rng);
        Self { people, facts, quorum, embassy, custody_key, versions, seeds, ministry, card, recipient }
    }

    /// The slot of a dataset for the embassy.
    pub fn slot(&self, dataset: usize) -> &VerifiedSlot {
        self.versions[dataset].slot(&SealedFor::Embassy(self.facts.embassy().clone())).unwrap()
    }

    /// The version that a slot is of.
    pub fn version_of(&self, slot: &VerifiedSlot) -> &VerifiedVersion {
        let name = &slot.context().dataset().dataset;
        self.versions.iter().find(|version| version.description().dataset == *name).unwrap()
    }

    pub fn seed_of(&self, dataset: &DatasetName) -> &DatasetSeed {
        let at = self.versions.iter().position(|version| version.description().dataset == *dataset);
        &self.seeds[at.unwrap()]
    }
}

/// A quorum made by a dealer, which only a test may do.
fn deal(threshold: Threshold, rng: &mut ChaCha20Rng) -> (QuorumKey, Vec<SecretScalar>) {
    let coefficients: Vec<Scalar> = (0..threshold.k()).map(|_| *NonZeroScalar::random(&mut *rng)).collect();
    let at = |x: Scalar| coefficients.iter().rev().fold(Scalar::ZERO, |sum, c| sum * x + c);
    let secrets: Vec<SecretScalar> =
        threshold.positions().map(|place| SecretScalar::new(NonZeroScalar::new(at(place.scalar())).unwrap())).collect();
    let shares = secrets.iter().map(|share| Point::mul_generator(share.expose())).collect();
    let key = Point::mul_generator(&NonZeroScalar::new(coefficients[0]).unwrap());
    (QuorumKey::new(threshold, key, shares).unwrap(), secrets)
}

/// The recipient of releases: a data owner with home's certificate.
fn ministry(rng: &mut ChaCha20Rng) -> (HybridSecretKey, RecipientCard, Recipient) {
    let identity = |role, name: &str| Identity {
        trust_domain: TrustDomain::new("registers.example").unwrap(),
        role,
        name: SubjectName::new(name).unwrap(),
    };
    let country = Country::new("EE").unwrap();
    let year = 365 * 24 * 3600;
    let request = |identity, key: &MemorySigner| Request {
        identity,
        key: *key.public(),
        not_before: UnixTime(NOON.0 - year),
        not_after: UnixTime(NOON.0 + year),
        places: vec![],
    };
    let (home, own) = (MemorySigner::new(&SecretScalar::random(rng)), MemorySigner::new(&SecretScalar::random(rng)));
    let name = IssuerName { country, identity: identity(Role::Home, "registrar") };
    let root = issue::certificate(&name, &home, &request(name.identity.clone(), &home), rng).unwrap();
    let authority = HomeAuthority::read(&root, country, home.public()).unwrap();
    let list = issue::revocation_list(&name, &home, 1, &[], UnixTime(NOON.0 - year), UnixTime(NOON.0 + year));
    let revocations = authority.revocations(&list.unwrap()).unwrap();
    let leaf = issue::certificate(&name, &home, &request(identity(Role::DataOwner, "ministry"), &own), rng).unwrap();
    let hybrid = HybridSecretKey::random(rng);
    let card = RecipientCard::sign(SubjectName::new("ministry").unwrap(), leaf, hybrid.public().clone(), &own).unwrap();
    let recipient = card.verify(&authority, &revocations, NOON).unwrap();
    (hybrid, card, recipient)
}
