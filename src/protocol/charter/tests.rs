//! A charter that contradicts itself is refused at the right place; a chain holds exactly where it was signed.

use super::*;
use crate::protocol::{
    hybrid::{HybridPublicKey, HybridSecretKey},
    ids::{Generation, OwnerName, WitnessName},
    quorum_key::{QuorumKey, tests::dealt},
    secret::SecretScalar,
    tpm::{custody::CustodyHandles, nv::NvHandle, pcr::PcrSelection},
};
use p256::ecdsa::SigningKey;
use rand_core::OsRng;

const NAMES: [&str; 5] = ["anna", "boris", "clara", "david", "eva"];

struct World {
    home: SigningKey,
    identities: Vec<SigningKey>,
    parts: CharterParts,
}

fn public(key: &SigningKey) -> Point {
    Point::decode(key.verifying_key().to_encoded_point(true).as_bytes()).unwrap()
}

fn key() -> Point {
    Point::mul_generator(SecretScalar::random(&mut OsRng).expose())
}

fn embassy(name: &str) -> CharterEmbassy {
    let handle = |at| NvHandle::new(at).unwrap();
    CharterEmbassy {
        name: EmbassyName::new(name).unwrap(),
        class: HardwareClass::Discrete,
        leases: false,
        platform: PcrSelection::new(&[0, 4, 7]).unwrap(),
        handles: CustodyHandles {
            counter: handle(0x0180_0010),
            register: handle(0x0180_0011),
            charter_pin: handle(0x0180_0012),
        },
    }
}

fn world() -> World {
    let home = SigningKey::random(&mut OsRng);
    let identities: Vec<SigningKey> = NAMES.iter().map(|_| SigningKey::random(&mut OsRng)).collect();
    let officials = NAMES.iter().zip(&identities).map(|(name, identity)| CharterOfficial {
        name: OfficialName::new(name).unwrap(),
        identity: public(identity),
        hybrid: HybridSecretKey::random(&mut OsRng).public().clone(),
        dkg: key(),
    });
    let officials: Vec<CharterOfficial> = officials.collect();
    let members: Vec<OfficialName> = officials.iter().map(|official| official.name.clone()).collect();
    let owner = OwnerName::new("land-board").unwrap();
    let parts = CharterParts {
        version: 1,
        founding: None,
        previous: None,
        country: Country::new("EE").unwrap(),
        home: public(&home),
        officials,
        unseal: QuorumRule { threshold: Threshold::new(3, 5).unwrap(), members: members.clone() },
        amend_k: 3,
        recovery: QuorumRule { threshold: Threshold::new(4, 5).unwrap(), members },
        expiry_max_seconds: 600,
        heartbeat_seconds: 300,
        embassies: vec![embassy("luxembourg")],
        owners: vec![CharterOwner { name: owner.clone(), key: key() }],
        datasets: vec![CharterDataset { name: DatasetName::new("land-register").unwrap(), owner }],
        witnesses: vec![CharterWitness { name: WitnessName::new("tallinn").unwrap(), key: key() }],
        policy: Hash([3; 32]),
        custody: None,
    };
    World { home, identities, parts }
}

impl World {
    fn founding(&self) -> VerifiedCharter {
        let mut signed = SignedCharter::unsigned(Charter::new(self.parts.clone()).unwrap());
        signed.sign(Signer::Home, &self.home).unwrap();
        signed.found(self.parts.country, &self.parts.home).unwrap()
    }

    fn custody(&self) -> CharterCustody {
        CharterCustody {
            generation: Generation::FIRST,
            unseal: dealt(self.parts.unseal.threshold).0,
            unseal_certificate: Hash([4; 32]),
            recovery: dealt(self.parts.recovery.threshold).0,
            recovery_certificate: Hash([5; 32]),
            machines: vec![CharterMachine {
                embassy: EmbassyName::new("luxembourg").unwrap(),
                counter_first: 1,
                storage_root: key(),
                attestation_key: key(),
                custody_key: key(),
                identity_key: key(),
            }],
        }
    }

    /// The completed charter as a draft.
    fn successor(&self, last: &VerifiedCharter) -> CharterParts {
        CharterParts {
            version: last.charter().parts().version + 1,
            founding: Some(last.id()),
            previous: Some(last.hash()),
            custody: Some(self.custody()),
            ..last.charter().parts().clone()
        }
    }

    fn signed(&self, parts: CharterParts, home: bool, officials: &[usize], recovery: &[usize]) -> SignedCharter {
        let mut signed = SignedCharter::unsigned(Charter::new(parts).unwrap());
        if home {
            signed.sign(Signer::Home, &self.home).unwrap();
        }
        for at in officials {
            signed.sign(Signer::Official(OfficialName::new(NAMES[*at]).unwrap()), &self.identities[*at]).unwrap();
        }
        for at in recovery {
            signed.sign(Signer::Recovery(OfficialName::new(NAMES[*at]).unwrap()), &self.identities[*at]).unwrap();
        }
        signed
    }

    fn refused(&self, change: impl FnOnce(&mut CharterParts)) -> CharterError {
        let mut parts = self.parts.clone();
        change(&mut parts);
        Charter::new(parts).unwrap_err()
    }
}

#[test]
fn a_charter_reads_back_and_every_change_of_it_is_refused_or_unsigned() {
    let world = world();
    let founding = world.founding();
    let bytes = founding.signed().encode();
    assert_eq!(SignedCharter::decode(&bytes).unwrap(), *founding.signed());
    for at in (0..bytes.len()).filter(|at| *at < 120 || at % 61 == 0 || *at > bytes.len() - 80) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let Ok(changed) = SignedCharter::decode(&changed) else { continue };
        assert!(changed.found(world.parts.country, &world.parts.home).is_err(), "byte {at}");
    }
}

#[test]
fn contradictions_are_refused_at_their_place() {
    let world = world();
    let says = |error: CharterError, words: &[&str]| {
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text} does not say {words:?}");
    };
    says(world.refused(|parts| parts.version = 0), &["version 0"]);
    says(world.refused(|parts| parts.version = 2), &["version 2"]);
    says(world.refused(|parts| parts.previous = Some(Hash([0; 32]))), &["version 1"]);
    says(world.refused(|parts| parts.officials.clear()), &["officials", "none"]);
    says(world.refused(|parts| parts.officials[1].name = parts.officials[0].name.clone()), &["anna", "name"]);
    says(
        world.refused(|parts| parts.officials[1].identity = parts.officials[0].identity),
        &["anna", "boris", "identity key"],
    );
    says(world.refused(|parts| parts.officials[4].dkg = parts.officials[2].dkg), &["clara", "eva", "DKG static key"]);
    says(
        world.refused(|parts| parts.officials[4].hybrid = parts.officials[2].hybrid.clone()),
        &["clara", "eva", "hybrid key"],
    );
    // Half a key is enough to open with.
    let half = |mixed: &mut [u8], other: &[u8], at: std::ops::Range<usize>| {
        mixed[at.clone()].copy_from_slice(&other[at]);
        HybridPublicKey::decode(mixed).unwrap()
    };
    for at in [0..1184, 1184..1249] {
        says(
            world.refused(|parts| {
                let other = parts.officials[2].hybrid.encode();
                parts.officials[4].hybrid = half(&mut parts.officials[4].hybrid.encode(), &other, at);
            }),
            &["clara", "eva", "hybrid key"],
        );
    }
    says(
        world.refused(|parts| parts.officials[3].dkg = *parts.officials[0].hybrid.point()),
        &["hybrid key of anna", "DKG static key of david"],
    );
    says(
        world.refused(|parts| parts.officials[3].dkg = parts.officials[0].identity),
        &["identity key of anna", "DKG static key of david"],
    );
    says(world.refused(|parts| parts.owners[0].key = parts.home), &["home authority's key", "land-board"]);
    says(world.refused(|parts| drop(parts.unseal.members.pop())), &["unseal quorum", "4 officials", "3 of 5"]);
    says(
        world.refused(|parts| parts.recovery.members[1] = parts.recovery.members[0].clone()),
        &["recovery quorum", "anna"],
    );
    says(
        world.refused(|parts| parts.unseal.members[0] = OfficialName::new("mallory").unwrap()),
        &["unseal quorum", "mallory", "unknown"],
    );
    for amend_k in [0, 6] {
        says(world.refused(|parts| parts.amend_k = amend_k), &["amend"]);
    }
    // Two coerced officials of a quorum of three would approve the host's kernel.
    says(world.refused(|parts| parts.amend_k = 2), &["amend", "2", "below", "3"]);
    says(
        world.refused(|parts| parts.recovery.threshold = Threshold::new(2, 5).unwrap()),
        &["recovery quorum", "2", "below", "3"],
    );
    for seconds in [0, 1 << 31] {
        says(world.refused(|parts| parts.expiry_max_seconds = seconds), &["expiry"]);
    }
    for seconds in [0, HEARTBEAT_SECONDS_MAX + 1, u32::MAX] {
        says(world.refused(|parts| parts.heartbeat_seconds = seconds), &["heartbeat", &seconds.to_string()]);
    }
    says(world.refused(|parts| parts.witnesses.push(parts.witnesses[0].clone())), &["witnesses", "tallinn", "name"]);
    says(
        world.refused(|parts| {
            parts.witnesses = (0..=MAX_WITNESSES)
                .map(|at| CharterWitness { name: WitnessName::new(&format!("w{at}")).unwrap(), key: key() })
                .collect();
        }),
        &["witnesses", "17", "16"],
    );
    says(
        world.refused(|parts| parts.witnesses[0].key = parts.owners[0].key),
        &["land-board", "witness tallinn", "one key"],
    );
    // A lease that nobody keeps alive would outlive a cut line.
    says(
        world.refused(|parts| {
            parts.embassies[0].leases = true;
            parts.witnesses.clear();
        }),
        &["embassy luxembourg", "no witness"],
    );
    let mut parts = world.parts.clone();
    parts.witnesses.clear();
    assert!(Charter::new(parts).is_ok(), "release needs no witness");
    says(world.refused(|parts| parts.embassies.clear()), &["embassies", "none"]);
    says(world.refused(|parts| parts.embassies.push(embassy("luxembourg"))), &["embassies", "luxembourg"]);
    says(
        world.refused(|parts| parts.embassies[0].handles.register = parts.embassies[0].handles.counter),
        &["NV indices", "luxembourg"],
    );
    says(
        world.refused(|parts| parts.embassies[0].platform = PcrSelection::new(&[7, 16]).unwrap()),
        &["luxembourg", "PCR 16"],
    );
    says(
        world.refused(|parts| parts.embassies[0].platform = PcrSelection::new(&[7, 20]).unwrap()),
        &["luxembourg", "PCR 20"],
    );
    says(
        world.refused(|parts| parts.datasets[0].owner = OwnerName::new("nobody").unwrap()),
        &["land-register", "nobody", "unknown"],
    );
    says(world.refused(|parts| parts.datasets.push(parts.datasets[0].clone())), &["datasets", "land-register"]);
    says(world.refused(|parts| parts.owners.push(parts.owners[0].clone())), &["data owners", "land-board"]);

    let custody = |change: &dyn Fn(&mut CharterCustody)| {
        let mut custody = world.custody();
        change(&mut custody);
        world.refused(|parts| parts.custody = Some(custody))
    };
    let unknown = EmbassyName::new("atlantis").unwrap();
    says(custody(&|custody| custody.machines[0].embassy = unknown.clone()), &["atlantis", "unknown"]);
    says(custody(&|custody| custody.machines.clear()), &["custody", "none"]);
    says(custody(&|custody| custody.machines.push(custody.machines[0].clone())), &["luxembourg"]);
    says(
        custody(&|custody| custody.unseal = dealt(Threshold::new(2, 5).unwrap()).0),
        &["unseal quorum", "2 of 5", "3 of 5"],
    );
    says(custody(&|custody| custody.machines[0].custody_key = *custody.unseal.key()), &["one key"]);
}

#[test]
fn a_founding_charter_needs_home_and_the_right_country() {
    let world = world();
    let (country, home) = (world.parts.country, world.parts.home);
    let unsigned = || world.signed(world.parts.clone(), false, &[], &[]);
    assert!(matches!(unsigned().found(country, &home), Err(ChainError::Signature { signer: Signer::Home })));
    let signed = || world.signed(world.parts.clone(), true, &[], &[]);
    assert!(signed().found(country, &home).is_ok());
    let latvia = Country::new("LV").unwrap();
    assert!(matches!(signed().found(latvia, &home), Err(ChainError::Country { .. })));
    assert_eq!(signed().found(country, &key()), Err(ChainError::Home));
    // Signed by somebody else in home's name.
    let mut forged = unsigned();
    forged.sign(Signer::Home, &world.identities[0]).unwrap();
    assert!(matches!(forged.found(country, &home), Err(ChainError::Signature { .. })));
    // Home alone cannot hand custody to anybody: keys are made under a founding charter, never in it.
    let mut with_keys = world.parts.clone();
    with_keys.custody = Some(world.custody());
    assert!(Charter::new(with_keys).is_err(), "a founding charter names keys that no official has signed for");
    // Officials have no part in founding.
    let extra = world.signed(world.parts.clone(), true, &[0], &[]);
    assert!(matches!(extra.found(country, &home), Err(ChainError::Stranger { .. })));
}

#[test]
fn a_successor_needs_home_and_officials_or_the_recovery_quorum_alone() {
    let world = world();
    let founding = world.founding();
    let parts = world.successor(&founding);
    let try_with = |home, officials: &[usize], recovery: &[usize]| {
        world.signed(parts.clone(), home, officials, recovery).succeed(&founding)
    };
    for (home, officials, recovery) in [
        (false, &[][..], &[][..]),
        (true, &[], &[]),
        (true, &[0, 1], &[]),
        (false, &[0, 1, 2, 3, 4], &[]),
        (false, &[], &[0, 1, 2]),
        // Home and too few officials are not mended by too few of the recovery quorum.
        (true, &[0, 1], &[2, 3, 4]),
    ] {
        let refused = try_with(home, officials, recovery).unwrap_err();
        assert!(matches!(refused, ChainError::TooFew { .. }), "{refused}");
    }
    let by_home = try_with(true, &[1, 2, 4], &[]).unwrap();
    assert!(matches!(by_home.authority(), Authority::HomeAndOfficials(names) if names.len() == 3));
    let alone = try_with(false, &[], &[0, 1, 3, 4]).unwrap();
    assert!(alone.authority().to_string().contains("WITHOUT HOME"));
    assert_eq!(alone.id(), founding.id());

    // The completed charter gives the facts that everybody checks against.
    let embassy = EmbassyName::new("luxembourg").unwrap();
    assert!(matches!(founding.charter().facts(&embassy), Err(CharterError::NotCompleted { .. })));
    let facts = by_home.charter().facts(&embassy).unwrap();
    assert_eq!((facts.charter(), facts.unseal().members.len()), (founding.id(), 5));
}

#[test]
fn every_embassy_of_a_network_seals_and_checks_the_same_slots() {
    let world = world();
    let founding = world.founding();
    let mut parts = world.successor(&founding);
    parts.embassies.push(embassy("helsinki"));
    let helsinki = CharterMachine {
        embassy: EmbassyName::new("helsinki").unwrap(),
        counter_first: 1,
        storage_root: key(),
        attestation_key: key(),
        custody_key: key(),
        identity_key: key(),
    };
    parts.custody.as_mut().unwrap().machines.push(helsinki);
    let charter = Charter::new(parts).unwrap();
    let facts = |name| charter.facts(&EmbassyName::new(name).unwrap()).unwrap();
    let (luxembourg, helsinki) = (facts("luxembourg"), facts("helsinki"));
    assert_eq!(luxembourg.sealing_keys(), helsinki.sealing_keys());
}

#[test]
fn a_chain_does_not_fork_skip_or_go_back() {
    let world = world();
    let founding = world.founding();
    let parts = world.successor(&founding);
    let second = world.signed(parts.clone(), true, &[0, 1, 2], &[]).succeed(&founding).unwrap();
    let full = |change: &dyn Fn(&mut CharterParts)| {
        let mut parts = parts.clone();
        change(&mut parts);
        world.signed(parts, true, &[0, 1, 2], &[])
    };
    assert!(matches!(full(&|parts| parts.version = 3).succeed(&founding), Err(ChainError::Gap { found: 3, last: 1 })));
    let fork = |result: Result<VerifiedCharter, ChainError>, expected: &str| {
        assert!(matches!(result, Err(ChainError::Fork { what }) if what == expected), "{expected}");
    };
    fork(full(&|parts| parts.previous = Some(Hash([9; 32]))).succeed(&founding), "predecessor");
    fork(full(&|parts| parts.founding = Some(CharterId(Hash([9; 32])))).succeed(&founding), "network");
    fork(full(&|parts| parts.country = Country::new("LV").unwrap()).succeed(&founding), "country");
    // One generation has one arrangement of members and machine, and none comes back.
    let third = |change: &dyn Fn(&mut CharterParts)| {
        let mut parts = CharterParts { version: 3, previous: Some(second.hash()), ..second.charter().parts().clone() };
        change(&mut parts);
        world.signed(parts, true, &[0, 1, 2], &[]).succeed(&second)
    };
    let next = |parts: &mut CharterParts| {
        let custody = parts.custody.as_mut().unwrap();
        custody.generation = custody.generation.next().unwrap();
    };
    type Change<'a> = &'a dyn Fn(&mut CharterParts);
    let changes: [Change<'_>; 4] = [
        &|parts| parts.custody.as_mut().unwrap().unseal = dealt(parts.unseal.threshold).0,
        &|parts| parts.custody.as_mut().unwrap().machines[0].custody_key = key(),
        &|parts| parts.officials[3].identity = key(),
        &|parts| parts.officials[3].hybrid = HybridSecretKey::random(&mut OsRng).public().clone(),
    ];
    for change in changes {
        fork(third(change), "custody in this generation");
        assert!(third(&|parts| (change(parts), next(parts)).1).is_ok());
    }
    let third = third(&next).unwrap();
    let mut back = third.charter().parts().clone();
    (back.version, back.previous) = (4, Some(third.hash()));
    back.custody.as_mut().unwrap().generation = Generation::FIRST;
    fork(world.signed(back, true, &[0, 1, 2], &[]).succeed(&third), "generation");

    // Nor does it through a charter in between that names no custody at all.
    let mut gap = CharterParts { custody: None, ..world.successor(&third) };
    gap.policy = Hash([6; 32]);
    let gap = world.signed(gap, true, &[0, 1, 2], &[]).succeed(&third).unwrap();
    let after_gap = |change: &dyn Fn(&mut CharterCustody)| {
        let mut custody = third.charter().parts().custody.clone().unwrap();
        change(&mut custody);
        let parts = CharterParts { custody: Some(custody), ..world.successor(&gap) };
        world.signed(parts, true, &[0, 1, 2], &[]).succeed(&gap)
    };
    fork(after_gap(&|custody| custody.generation = Generation::FIRST), "generation");
    fork(after_gap(&|custody| custody.machines[0].custody_key = key()), "custody in this generation");
    assert!(after_gap(&|_| ()).is_ok());
    // A signature is for one capacity and one charter.
    let mut moved = SignedCharter::unsigned(Charter::new(parts.clone()).unwrap());
    let other = world.signed(full(&|parts| parts.policy = Hash([8; 32])).unverified().parts().clone(), true, &[0], &[]);
    for (signer, signature) in other.signatures() {
        moved.add(signer.clone(), *signature);
    }
    assert!(matches!(moved.succeed(&founding), Err(ChainError::Signature { signer: Signer::Home })));
    // An official of nobody's quorum.
    let mut stranger = world.signed(parts.clone(), true, &[0, 1, 2], &[]);
    stranger.sign(Signer::Official(OfficialName::new("mallory").unwrap()), &world.identities[0]).unwrap();
    assert!(matches!(stranger.succeed(&founding), Err(ChainError::Stranger { .. })));

    let seen = CharterSeen::check(None, &second).unwrap();
    assert_eq!(CharterSeen::check(Some(&seen), &second), Ok(seen));
    assert!(matches!(CharterSeen::check(Some(&seen), &founding), Err(ChainError::Older { seen: 2, offered: 1 })));
    let another = full(&|parts| parts.policy = Hash([8; 32])).succeed(&founding).unwrap();
    assert!(matches!(CharterSeen::check(Some(&seen), &another), Err(ChainError::Older { seen: 2, offered: 2 })));

    let chain = VerifiedCharter::chain(
        world.parts.country,
        &world.parts.home,
        founding.signed().clone(),
        [second.signed().clone()],
    );
    assert_eq!(chain.unwrap(), second);
}

#[test]
fn a_charter_is_shown_in_words_with_what_changed() {
    let world = world();
    let founding = world.founding();
    let mut parts = world.successor(&founding);
    parts.embassies[0].leases = true;
    let next = Charter::new(parts).unwrap();
    let text = next.to_string();
    for words in ["charter of EE, version 2", "3 of 5: anna, boris", "luxembourg  class discrete, leases allowed"] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    let changes = founding.charter().changes(&next);
    assert!(
        changes.iter().any(|line| line.starts_with("- luxembourg") && line.contains("release only")),
        "{changes:#?}"
    );
    assert!(changes.iter().any(|line| line.starts_with("+ unseal key")), "{changes:#?}");
    assert!(!changes.iter().any(|line| line.contains("anna")), "{changes:#?}");
}

#[test]
fn user_assigned_codes_are_no_countries() {
    for code in ["AA", "QM", "QZ", "XA", "XZ", "ZZ"] {
        assert!(Country::new(code).unwrap().is_user_assigned(), "{code}");
    }
    for code in ["EE", "LU", "QA", "ZW", "AD"] {
        assert!(!Country::new(code).unwrap().is_user_assigned(), "{code}");
    }
    for bad in ["", "E", "ee", "EST", "E1", "ÄÖ"] {
        assert!(Country::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn whatever_a_successor_changes_is_shown_to_who_signs_it() {
    let world = world();
    let mut parts = world.successor(&world.founding());
    parts.embassies.push(embassy("helsinki"));
    let mut custody = world.custody();
    custody.machines.push(CharterMachine {
        embassy: EmbassyName::new("helsinki").unwrap(),
        counter_first: 1,
        storage_root: key(),
        attestation_key: key(),
        custody_key: key(),
        identity_key: key(),
    });
    parts.custody = Some(custody);
    let before = Charter::new(parts.clone()).unwrap();
    fn machine(parts: &mut CharterParts, at: usize) -> &mut CharterMachine {
        &mut parts.custody.as_mut().unwrap().machines[at]
    }
    let another_polynomial = |key: &QuorumKey| {
        // The same Y with other shares: -1 times a polynomial's slope is another one through the same value at 0.
        let y = key.key().projective() + key.key().projective();
        let shares = key.shares().iter().map(|share| Point::new(y - share.projective()).unwrap()).collect();
        QuorumKey::new(key.threshold(), *key.key(), shares).unwrap()
    };
    type Change<'a> = &'a dyn Fn(&mut CharterParts);
    let changes: [(&str, &str, Change<'_>); 25] = [
        ("home", "home key", &|parts| parts.home = key()),
        ("a name", "fred", &|parts| {
            let fred = OfficialName::new("fred").unwrap();
            for members in [&mut parts.unseal.members, &mut parts.recovery.members] {
                members[1] = fred.clone();
            }
            parts.officials[1].name = fred;
        }),
        ("an identity key", "boris", &|parts| parts.officials[1].identity = key()),
        ("a hybrid key", "boris", &|parts| {
            parts.officials[1].hybrid = HybridSecretKey::random(&mut OsRng).public().clone();
        }),
        ("a DKG key", "boris", &|parts| parts.officials[1].dkg = key()),
        ("the order of a quorum", "unseal a dataset", &|parts| parts.unseal.members.swap(0, 1)),
        ("the amend threshold", "amend", &|parts| parts.amend_k = 4),
        ("the expiry", "601 s", &|parts| parts.expiry_max_seconds += 1),
        ("the heartbeat", "301 s", &|parts| parts.heartbeat_seconds += 1),
        ("a witness's key", "tallinn", &|parts| parts.witnesses[0].key = key()),
        ("a witness more", "riga", &|parts| {
            parts.witnesses.push(CharterWitness { name: WitnessName::new("riga").unwrap(), key: key() });
        }),
        ("the policy", "policy", &|parts| parts.policy = Hash([7; 32])),
        ("the class", "luxembourg", &|parts| parts.embassies[0].class = HardwareClass::Firmware),
        ("the PCRs", "luxembourg", &|parts| parts.embassies[0].platform = PcrSelection::new(&[7]).unwrap()),
        ("an NV index", "luxembourg", &|parts| {
            parts.embassies[0].handles.charter_pin = NvHandle::new(0x0180_0099).unwrap();
        }),
        ("a storage root", "luxembourg", &|parts| machine(parts, 0).storage_root = key()),
        ("an attestation key", "luxembourg", &|parts| machine(parts, 0).attestation_key = key()),
        ("a custody key", "luxembourg", &|parts| machine(parts, 0).custody_key = key()),
        ("two embassies' custody keys, exchanged", "luxembourg", &|parts| {
            let (one, other) = (machine(parts, 0).custody_key, machine(parts, 1).custody_key);
            (machine(parts, 0).custody_key, machine(parts, 1).custody_key) = (other, one);
            let (one, other) = (machine(parts, 0).identity_key, machine(parts, 1).identity_key);
            (machine(parts, 0).identity_key, machine(parts, 1).identity_key) = (other, one);
        }),
        ("the generation", "generation 2", &|parts| {
            let custody = parts.custody.as_mut().unwrap();
            custody.generation = custody.generation.next().unwrap();
        }),
        ("a quorum's shares under the same key", "unseal key", &|parts| {
            let custody = parts.custody.as_mut().unwrap();
            custody.unseal = another_polynomial(&custody.unseal);
        }),
        ("a certificate", "recovery key", &|parts| {
            parts.custody.as_mut().unwrap().recovery_certificate = Hash([8; 32]);
        }),
        ("an owner's key", "land-board", &|parts| parts.owners[0].key = key()),
        ("a dataset", "tax-register", &|parts| {
            let owner = parts.owners[0].name.clone();
            parts.datasets.push(CharterDataset { name: DatasetName::new("tax-register").unwrap(), owner });
        }),
        ("an embassy less", "helsinki", &|parts| {
            drop(parts.embassies.pop());
            drop(parts.custody.as_mut().unwrap().machines.pop());
        }),
    ];
    for (what, place, change) in changes {
        let mut parts = parts.clone();
        change(&mut parts);
        let shown = before.changes(&Charter::new(parts).unwrap());
        let said = shown.iter().any(|line| line.contains(place) && !line.contains("this one"));
        assert!(said, "{what} is changed, and what is shown says nothing of {place:?}: {shown:#?}");
    }
}
