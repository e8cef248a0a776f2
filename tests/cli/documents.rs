//! One document of every kind, made through the library as the protocol makes them.

use chancery::protocol::{
    certificate::UnixTime,
    charter::{
        Charter, CharterDataset, CharterEmbassy, CharterOfficial, CharterOwner, CharterParts, CharterWitness, Country,
        HardwareClass, QuorumRule, SignedCharter, Signer,
    },
    contribution::{CheckedOffer, Official, Review},
    dataset::DatasetSeed,
    dataset_version::{CharteredDataset, DatasetVersionRecord, UnsignedVersion, VerifiedVersion},
    dkg::{Certified, Contribution, Gathering, Member, Message1, Message3, Refusal, Terms},
    facts::{CustodyFacts, CustodyFactsParts, MachineFacts, OfficialFacts, QuorumFacts},
    group::Point,
    hash::Hash,
    hybrid::HybridSecretKey,
    ids::{
        AgentName, Attempt, CharterAt, CharterId, DatasetName, DatasetVersion, EmbassyName, Generation, OfficialName,
        OwnerName, QuorumKind, WitnessName,
    },
    offer::{Offer, Opening, SignedOffer},
    partial,
    quorum::Threshold,
    secret::SecretScalar,
    slot::{SealedFor, SeenPoints},
    statement::{DatasetAt, LeaseTerms, Mode, Purpose, Resets, SignedStatement, Statement, StatementParts},
    tpm::{approval::TpmNonce, custody::CustodyHandles, nv::NvHandle, pcr::PcrSelection},
    wire::Document,
};
use p256::ecdsa::SigningKey;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

/// A finished DKG of 2 of 3, and a message of each kind from it.
pub struct Quorum {
    pub contribution: Contribution,
    pub round1: Message1,
    pub round3: Message3,
    pub evidence: Vec<u8>,
    pub certified: Vec<Certified>,
    pub partial: Vec<u8>,
    /// x of each half in `partial`: what must not be shown.
    pub half: Point,
}

pub fn quorum() -> Quorum {
    certify(QuorumKind::Unseal, 7)
}

fn certify(kind: QuorumKind, seed: u64) -> Quorum {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let secrets: Vec<SecretScalar> = (0..3).map(|_| SecretScalar::random(&mut rng)).collect();
    let keys = secrets.iter().map(|secret| Point::mul_generator(secret.expose())).collect();
    let charter = CharterId(Hash::of_bytes(b"the founding charter"));
    let terms = Terms::new(charter, kind, Generation::FIRST, Threshold::new(2, 3).unwrap(), keys).unwrap();
    let members: Vec<Member> = secrets.into_iter().map(|secret| Member::new(terms.clone(), secret).unwrap()).collect();

    // The second official contributes twice, and is caught.
    let other = Contribution::new(&members[1], Attempt::FIRST, &mut rng).unwrap();
    let (mut phases, contributions): (Vec<Gathering>, Vec<Contribution>) =
        members.into_iter().map(|member| Gathering::start(member, Attempt::FIRST, &mut rng).unwrap()).unzip();
    for phase in &mut phases {
        for from in phase.missing() {
            phase.accept(&contributions[from.index()]).unwrap();
        }
    }
    let Err(Refusal::Cheated { evidence, .. }) = phases[0].accept(&other) else {
        panic!("two contributions are a fault")
    };

    let (mut phases, round1): (Vec<_>, Vec<Message1>) =
        phases.into_iter().map(|phase| phase.complete(&mut rng).unwrap()).unzip();
    for phase in &mut phases {
        for from in phase.missing() {
            phase.accept(&round1[from.index()]).unwrap();
        }
    }
    let (mut phases, round3): (Vec<_>, Vec<Message3>) =
        phases.into_iter().map(|phase| phase.complete().unwrap()).unzip();
    for phase in &mut phases {
        for from in phase.missing() {
            phase.accept(&round3[from.index()]).unwrap();
        }
    }
    let certified: Vec<Certified> = phases.into_iter().map(|phase| phase.complete().unwrap()).collect();

    let first = &certified[0];
    let point = Point::mul_generator(SecretScalar::random(&mut rng).expose());
    let offer = Hash::of_bytes(b"an offer");
    let position = first.member.position();
    let partial = partial::decapsulate(&first.share, &first.key, position, &offer, &[point], &mut rng).unwrap();
    Quorum {
        contribution: contributions[0].clone(),
        round1: round1[0].clone(),
        round3: round3[0].clone(),
        evidence: evidence.encode(),
        half: partial.partials()[0],
        partial: partial.encode(),
        certified,
    }
}

/// What a ceremony in words that stand in no ASCII table is made of.
pub struct Ceremony {
    pub facts: CustodyFacts,
    pub statement: Statement,
    pub signed_statement: SignedStatement,
    pub offer: Offer,
    pub signed_offer: SignedOffer,
    pub contribution: Vec<u8>,
    pub version: DatasetVersionRecord,
    pub slot: Vec<u8>,
    pub context: Vec<u8>,
    /// The dataset's seed: what must not be shown.
    pub seed: DatasetSeed,
}

pub const PURPOSE: &str = "Kohus nõuab: taastame kinnistusraamatu \"pärast\" rünnakut";

fn public(key: &SigningKey) -> Point {
    Point::decode(key.verifying_key().to_encoded_point(true).as_bytes()).unwrap()
}

pub fn ceremony() -> Ceremony {
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let (unseal, recovery) = (certify(QuorumKind::Unseal, 7), certify(QuorumKind::Recovery, 8));
    let secrets: Vec<(SigningKey, HybridSecretKey)> =
        (0..3).map(|_| (SigningKey::random(&mut rng), HybridSecretKey::random(&mut rng))).collect();
    let members: Vec<OfficialFacts> = ["anna", "boris", "clara"]
        .iter()
        .zip(&secrets)
        .map(|(name, (identity, hybrid))| OfficialFacts {
            name: OfficialName::new(name).unwrap(),
            identity: public(identity),
            hybrid: hybrid.public().clone(),
        })
        .collect();
    let embassy = SigningKey::random(&mut rng);
    let handle = |at| NvHandle::new(at).unwrap();
    let facts = CustodyFacts::new(CustodyFactsParts {
        charter: CharterId(Hash::of_bytes(b"the founding charter")),
        in_force: CharterAt { version: 2, hash: Hash::of_bytes(b"the completed charter") },
        embassy: EmbassyName::new("luxembourg").unwrap(),
        generation: Generation::FIRST,
        unseal: QuorumFacts { key: unseal.certified[0].key.clone(), members: members.clone() },
        recovery: QuorumFacts { key: recovery.certified[0].key.clone(), members },
        amend: Threshold::new(2, 3).unwrap(),
        expiry_max_seconds: 600,
        machine: MachineFacts {
            platform: PcrSelection::new(&[0, 4, 7]).unwrap(),
            handles: CustodyHandles {
                counter: handle(0x0180_0010),
                register: handle(0x0180_0011),
                charter_pin: handle(0x0180_0012),
            },
            counter_first: 5,
            storage_root: Point::mul_generator(SecretScalar::random(&mut rng).expose()),
            attestation_key: Point::mul_generator(SecretScalar::random(&mut rng).expose()),
            custody_key: Point::mul_generator(SecretScalar::random(&mut rng).expose()),
            identity_key: public(&embassy),
        },
        others: vec![],
    })
    .unwrap();

    let (owner_key, owner) = (SigningKey::random(&mut rng), OwnerName::new("land-board").unwrap());
    let (dataset, seed) = (DatasetName::new("land-register").unwrap(), DatasetSeed::random(&mut rng));
    let custody = facts.sealing_keys();
    let version = UnsignedVersion::create(&seed, owner.clone(), dataset.clone(), DatasetVersion::FIRST, custody)
        .unwrap()
        .sign(&owner_key)
        .unwrap();
    let chartered = CharteredDataset {
        charter: facts.charter(),
        owner,
        owner_key: *owner_key.verifying_key(),
        dataset: dataset.clone(),
    };
    let verified: VerifiedVersion =
        version.clone().verify_signature(&chartered).unwrap().verify_slots(custody).unwrap();
    let slot = verified.slot(&SealedFor::Embassy(facts.embassy().clone())).unwrap();

    let statement = Statement::new(StatementParts {
        charter: facts.charter(),
        embassy: facts.embassy().clone(),
        generation: facts.generation(),
        purpose: Purpose::new(PURPOSE).unwrap(),
        datasets: vec![DatasetAt { dataset, version: DatasetVersion::FIRST }],
        mode: Mode::Lease(LeaseTerms {
            agents: vec![AgentName::new("replicator").unwrap()],
            duration_seconds: 5400,
            unwraps: 1000,
        }),
        opener: OfficialName::new("anna").unwrap(),
        opened_at: UnixTime(1_800_000_000),
        expires_at: UnixTime(1_800_086_400),
        acknowledged: Resets { reset_count: 3, restart_count: 0 },
        nonce: [7; 16],
    })
    .unwrap();
    let signed_statement = SignedStatement::sign(statement.clone(), &secrets[0].0).unwrap();
    let opening = Opening { subject: slot.id(), nonce: TpmNonce::from_bytes(&[0xc5; 32]).unwrap() };
    let ceremony_key = HybridSecretKey::random(&mut rng);
    let offer = Offer::new(signed_statement.clone(), 1, Some(ceremony_key.public().clone()), vec![opening]).unwrap();
    let signed_offer = SignedOffer::sign(offer.clone(), &embassy).unwrap();
    let versions = [verified.clone()];
    let review = Review { facts: &facts, versions: &versions, now: UnixTime(1_800_000_060), recipient: None };
    let checked = CheckedOffer::check(&signed_offer, &review, &mut SeenPoints::new()).unwrap();
    let (identity, hybrid) = &secrets[0];
    let certified = &unseal.certified[0];
    let official = Official { position: certified.member.position(), identity, hybrid, share: &certified.share };
    let contribution = checked.contribute(&facts, &official, 600, &mut rng).unwrap().encode();
    Ceremony {
        statement,
        signed_statement,
        offer,
        signed_offer,
        contribution,
        slot: slot.slot().encode(),
        context: slot.context().encode(),
        version,
        facts,
        seed,
    }
}

/// A founding charter, signed by home.
pub fn founding_charter() -> SignedCharter {
    let mut rng = ChaCha20Rng::seed_from_u64(10);
    let home = SigningKey::random(&mut rng);
    let officials: Vec<CharterOfficial> = ["anna", "boris", "clara"]
        .iter()
        .map(|name| CharterOfficial {
            name: OfficialName::new(name).unwrap(),
            identity: public(&SigningKey::random(&mut rng)),
            hybrid: HybridSecretKey::random(&mut rng).public().clone(),
            dkg: public(&SigningKey::random(&mut rng)),
        })
        .collect();
    let members: Vec<OfficialName> = officials.iter().map(|official| official.name.clone()).collect();
    let owner = OwnerName::new("land-board").unwrap();
    let machine = ceremony().facts.machine().clone();
    let charter = Charter::new(CharterParts {
        version: 1,
        founding: None,
        previous: None,
        country: Country::new("EE").unwrap(),
        home: public(&home),
        officials,
        unseal: QuorumRule { threshold: Threshold::new(2, 3).unwrap(), members: members.clone() },
        amend_k: 2,
        recovery: QuorumRule { threshold: Threshold::new(3, 3).unwrap(), members },
        expiry_max_seconds: 600,
        heartbeat_seconds: 300,
        embassies: vec![CharterEmbassy {
            name: EmbassyName::new("luxembourg").unwrap(),
            class: HardwareClass::Discrete,
            leases: false,
            platform: machine.platform,
            handles: machine.handles,
        }],
        owners: vec![CharterOwner { name: owner.clone(), key: public(&SigningKey::random(&mut rng)) }],
        datasets: vec![CharterDataset { name: DatasetName::new("land-register").unwrap(), owner }],
        witnesses: vec![CharterWitness {
            name: WitnessName::new("tallinn").unwrap(),
            key: public(&SigningKey::random(&mut rng)),
        }],
        policy: Hash([3; 32]),
        custody: None,
    })
    .unwrap();
    let mut signed = SignedCharter::unsigned(charter);
    signed.sign(Signer::Home, &home).unwrap();
    signed
}
