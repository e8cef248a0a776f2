//! A service opens the TPM that its charter names; what the host's disk says of that counts for nothing.

use chancery::{
    hardware::{EmbassyKeys, EmbassyTpm, MachineTpm, TpmError},
    protocol::{
        facts::{CustodyFacts, CustodyFactsParts, MachineFacts, OfficialFacts, QuorumFacts},
        group::Point,
        hash::Hash,
        hybrid::HybridSecretKey,
        ids::{CharterAt, OfficialName},
        quorum::Threshold,
        quorum_key::QuorumKey,
        secret::SecretScalar,
    },
};
use p256::{NonZeroScalar, Scalar};
use rand_core::OsRng;

use crate::rig::{Rig, address, known_point};

/// A quorum's public half by a dealer, which only a test may be.
fn dealt(threshold: Threshold) -> QuorumKey {
    let coefficients: Vec<Scalar> = (0..threshold.k()).map(|_| *NonZeroScalar::random(&mut OsRng)).collect();
    let point = |x: Scalar| {
        let value = coefficients.iter().rev().fold(Scalar::ZERO, |sum, coefficient| sum * x + coefficient);
        Point::mul_generator(SecretScalar::new(NonZeroScalar::new(value).unwrap()).expose())
    };
    let shares = threshold.positions().map(|place| point(place.scalar())).collect();
    QuorumKey::new(threshold, point(Scalar::ZERO), shares).unwrap()
}

fn facts(rig: &Rig, change: impl FnOnce(&mut MachineFacts)) -> CustodyFacts {
    let tpm = rig.open();
    let members: Vec<OfficialFacts> = rig
        .people
        .points()
        .into_iter()
        .enumerate()
        .map(|(at, identity)| OfficialFacts {
            name: OfficialName::new(&format!("official-{at}")).unwrap(),
            identity,
            hybrid: HybridSecretKey::random(&mut OsRng).public().clone(),
        })
        .collect();
    let mut machine = MachineFacts {
        platform: rig.plan.platform,
        handles: rig.plan.handles,
        counter_first: rig.keys.counter_first,
        storage_root: rig.foundation.storage_root,
        attestation_key: rig.foundation.attestation,
        custody_key: tpm.custody_point().unwrap(),
        identity_key: tpm.identity_point().unwrap(),
    };
    change(&mut machine);
    CustodyFacts::new(CustodyFactsParts {
        charter: rig.plan.charter,
        in_force: CharterAt { version: 2, hash: Hash([2; 32]) },
        embassy: rig.plan.embassy.clone(),
        generation: rig.plan.generation,
        unseal: QuorumFacts { key: dealt(rig.plan.unseal), members: members.clone() },
        recovery: QuorumFacts { key: dealt(rig.plan.unseal), members },
        amend: rig.plan.amend,
        expiry_max_seconds: 600,
        machine,
        others: vec![],
    })
    .unwrap()
}

#[test]
fn a_service_opens_what_the_charter_names_and_nothing_else() {
    let rig = Rig::new();
    let open = |facts: &CustodyFacts| EmbassyTpm::open_chartered(&address(&rig.machine), facts, &rig.keys);
    open(&facts(&rig, |_| ())).unwrap().sign_as_embassy(&[1; 32]).unwrap();

    // A TPM of the host's making, whose root the disk would vouch for.
    let another = open(&facts(&rig, |machine| machine.storage_root = known_point().1));
    assert!(matches!(another, Err(TpmError::AnotherTpm { .. })));
    for (object, changed) in [
        ("the custody key", facts(&rig, |machine| machine.custody_key = known_point().1)),
        ("the identity key", facts(&rig, |machine| machine.identity_key = known_point().1)),
        ("the generation counter's value", facts(&rig, |machine| machine.counter_first += 1)),
    ] {
        assert_eq!(open(&changed).err(), Some(TpmError::Unchartered { object }));
    }
    // The stored counter value follows the charter's: then the keys' policies are not those of this plan.
    let later = facts(&rig, |machine| machine.counter_first += 1);
    let keys = EmbassyKeys { counter_first: rig.keys.counter_first + 1, ..rig.keys.clone() };
    let opened = EmbassyTpm::open_chartered(&address(&rig.machine), &later, &keys);
    assert!(matches!(opened, Err(TpmError::ObjectChanged { .. })));
}
