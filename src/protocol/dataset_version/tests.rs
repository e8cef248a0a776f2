//! The data owner's record: whose it must be, what it must hold, and who finds out that the owner sealed something else.

use p256::{
    AffinePoint, Scalar,
    ecdsa::signature::hazmat::PrehashSigner,
    elliptic_curve::{PrimeField, ops::Reduce, point::AffineCoordinates},
};

use p256::ecdsa::SigningKey;

use super::*;
use crate::protocol::{
    group::Point,
    ids::EmbassyName,
    secret::SecretScalar,
    slot::{
        SlotContext, SlotQuorum,
        tests::{self as slots, World, embassy, exponent, fixed, proven, sealed_with_another_seed},
    },
};

fn signing_key(name: &str) -> SigningKey {
    SigningKey::from(*exponent(name).expose())
}

fn chartered(world: &World) -> CharteredDataset {
    CharteredDataset {
        charter: world.description.charter,
        owner: world.description.owner.clone(),
        owner_key: *signing_key("land board").verifying_key(),
        dataset: world.description.dataset.clone(),
    }
}

fn created(world: &World, seed: &DatasetSeed, version: DatasetVersion) -> UnsignedVersion {
    let DatasetDescription { owner, dataset, .. } = world.description.clone();
    UnsignedVersion::create(seed, owner, dataset, version, &world.keys).unwrap()
}

fn unsigned(world: &World) -> UnsignedVersion {
    created(world, &world.seed, DatasetVersion::FIRST)
}

/// The record with its body changed, and signed by the owner all the same.
fn signed_with(world: &World, change: impl FnOnce(&mut Body)) -> SignedVersion {
    let mut unsigned = unsigned(world);
    change(&mut unsigned.0);
    let expected = CharteredDataset { charter: unsigned.0.description.charter, ..chartered(world) };
    unsigned.sign(&signing_key("land board")).unwrap().verify_signature(&expected).unwrap()
}

fn verified(world: &World) -> VerifiedVersion {
    signed_with(world, |_| ()).verify_slots(&world.keys).unwrap()
}

fn context(world: &World, index: usize) -> SlotContext {
    world.keys.contexts(&world.description).unwrap().remove(index)
}

fn at(name: &str) -> SealedFor {
    SealedFor::Embassy(embassy(name))
}

// The signature.

#[test]
fn a_record_reads_back_and_shows_what_it_was_made_for() {
    let world = slots::world((2, 3), (3, 3));
    let version = verified(&world);
    let read = DatasetVersionRecord::decode(&version.record().encode()).unwrap();
    assert_eq!(read, *version.record());
    assert_eq!(read.verify_signature(&chartered(&world)).unwrap().verify_slots(&world.keys).unwrap(), version);
    assert_eq!(*version.description(), world.description);
    let order: Vec<SealedFor> = version.slots().iter().map(|slot| slot.context().kind().sealed_for()).collect();
    assert_eq!(order, [at("canberra"), at("luxembourg"), SealedFor::Recovery]);
    for sealed_for in order {
        assert_eq!(version.slot(&sealed_for).unwrap().context().kind().sealed_for(), sealed_for);
    }
    assert_eq!(version.slot(&at("oslo")), None);
}

#[test]
fn every_changed_byte_of_a_record_is_refused() {
    let world = slots::world((1, 1), (1, 1));
    // Two slots are as good as three here.
    let bytes = signed_with(&world, |body| drop(body.slots.remove(0))).record().encode();
    let digest = DatasetVersionRecord::decode(&bytes).unwrap().body.digest();
    let expected = chartered(&world);
    let mut by_signature = 0;
    for index in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[index] ^= 1 << (index % 8);
        let Ok(record) = DatasetVersionRecord::decode(&changed) else { continue };
        let signature = index >= bytes.len() - 64;
        assert_eq!(record.body.digest() == digest, signature, "byte {index}");
        // Another digest is not signed; every eighth signature is tried all the same.
        if !signature && index % 8 != 0 {
            continue;
        }
        match record.verify_signature(&expected) {
            Err(VersionError::Signature { .. }) => by_signature += 1,
            Err(VersionError::Another { .. }) => {}
            other => panic!("byte {index}: {other:?}"),
        }
    }
    assert!(by_signature > bytes.len() / 16, "most bytes are nobody's but the signature's to protect: {by_signature}");
    for end in [0, 1, 28, 1000, bytes.len() - 64, bytes.len() - 1] {
        assert!(DatasetVersionRecord::decode(&bytes[..end]).is_err(), "cut at {end}");
    }
    assert!(DatasetVersionRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn only_the_signature_with_low_s_is_read_and_a_token_may_give_either() {
    let world = slots::world((1, 1), (1, 1));
    let owner = signing_key("land board");
    let low: Signature = owner.sign_prehash(unsigned(&world).digest().as_bytes()).unwrap();
    let low = low.normalize_s().unwrap_or(low);
    let high = Signature::from_scalars(low.r().to_bytes(), (-*low.s()).to_bytes()).unwrap();
    assert!(owner.verifying_key().verify_prehash(unsigned(&world).digest().as_bytes(), &high).is_ok());
    let record = unsigned(&world).signed(&low, owner.verifying_key()).unwrap();
    assert_eq!(unsigned(&world).signed(&high, owner.verifying_key()).unwrap(), record);
    assert_eq!(unsigned(&world).sign(&owner).unwrap(), record, "RFC 6979 gives the same");
    let mut bytes = record.encode();
    let s = bytes.len() - 32;
    bytes[s..].copy_from_slice(&high.s().to_bytes());
    let refused = DatasetVersionRecord::decode(&bytes).unwrap_err();
    assert!(matches!(refused, WireError::Invalid { reason: "s is not the low one", .. }));
    // Zeros and the group order are no signature.
    for from in [s - 32, s] {
        for bad in [[0; 32], [0xff; 32]] {
            let mut bytes = record.encode();
            bytes[from..from + 32].copy_from_slice(&bad);
            assert!(matches!(DatasetVersionRecord::decode(&bytes), Err(WireError::Invalid { .. })));
        }
    }
}

#[test]
fn a_signature_made_elsewhere_is_checked_before_there_is_a_record() {
    let world = slots::world((1, 1), (1, 1));
    let (owner, other) = (signing_key("land board"), signing_key("tax board"));
    let digest = unsigned(&world).digest();
    let by_other: Signature = other.sign_prehash(digest.as_bytes()).unwrap();
    let of_other: Signature = owner.sign_prehash(Hash([0; 32]).as_bytes()).unwrap();
    for wrong in [by_other, of_other] {
        assert_eq!(unsigned(&world).signed(&wrong, owner.verifying_key()), Err(CreateError::Signature));
    }
    // A record by the other's key is one of the other's; the charter says whose it must be.
    let record = unsigned(&world).signed(&by_other, other.verifying_key()).unwrap();
    let refused = record.verify_signature(&chartered(&world));
    assert_eq!(refused, Err(VersionError::Signature { owner: world.description.owner }));
}

#[test]
fn a_signature_that_fits_some_digest_does_not_fit_this_record() {
    // Anyone can choose (r, s) first and compute a digest and for it a valid signature under a known key; the digest is not
    // theirs to choose here.
    let world = slots::world((1, 1), (1, 1));
    let owner = signing_key("land board");
    let (u, v) = (exponent("u"), exponent("v"));
    let point = (Point::GENERATOR.projective() * **u.expose()
        + Point::decode(owner.verifying_key().to_encoded_point(true).as_bytes()).unwrap().projective() * **v.expose())
    .to_affine();
    let r = <Scalar as Reduce<p256::U256>>::reduce_bytes(&AffinePoint::x(&point));
    let s = r * v.expose().invert().unwrap();
    let digest = s * **u.expose();
    let forged = Signature::from_scalars(r.to_repr(), s.to_repr()).unwrap();
    assert!(owner.verifying_key().verify_prehash(&digest.to_repr(), &forged).is_ok());
    assert_eq!(unsigned(&world).signed(&forged, owner.verifying_key()), Err(CreateError::Signature));
}

#[test]
fn a_record_is_of_the_dataset_asked_for() {
    let world = slots::world((1, 1), (1, 1));
    let record = verified(&world).record().clone();
    let expected = chartered(&world);
    let cases = [
        (CharteredDataset { charter: CharterId(Hash([2; 32])), ..expected.clone() }, "charter"),
        (CharteredDataset { owner: OwnerName::new("tax-board").unwrap(), ..expected.clone() }, "data owner"),
        (CharteredDataset { dataset: DatasetName::new("tax-register").unwrap(), ..expected.clone() }, "dataset"),
    ];
    for (asked, what) in cases {
        assert_eq!(record.clone().verify_signature(&asked), Err(VersionError::Another { what }));
    }
    let owner_key = *signing_key("tax board").verifying_key();
    let refused = record.verify_signature(&CharteredDataset { owner_key, ..expected });
    assert_eq!(refused, Err(VersionError::Signature { owner: world.description.owner }));
}

// The slots.

#[test]
fn a_record_sealed_to_other_keys_than_the_readers_is_refused() {
    let world = slots::world((1, 1), (1, 1));
    let record = signed_with(&world, |_| ());
    let keys = |charter, generation, unseal: &SlotQuorum, recovery: &SlotQuorum, embassies: &[(&str, &str)]| {
        let public = |(name, key): &(&str, &str)| (embassy(name), Point::mul_generator(exponent(key).expose()));
        let embassies: Vec<(EmbassyName, Point)> = embassies.iter().map(public).collect();
        SealingKeys::new(charter, generation, unseal.clone(), recovery.clone(), embassies).unwrap()
    };
    let (charter, first) = (world.description.charter, Generation::FIRST);
    let (unseal, recovery) = (&world.unseal.public, &world.recovery.public);
    let both = [("canberra", "canberra"), ("luxembourg", "luxembourg")];
    let refused = |keys: SealingKeys| record.clone().verify_slots(&keys).unwrap_err();
    assert_eq!(keys(charter, first, unseal, recovery, &both), world.keys);
    assert_eq!(
        refused(keys(CharterId(Hash([2; 32])), first, unseal, recovery, &both)),
        VersionError::Another { what: "charter" }
    );
    let second = first.next().unwrap();
    assert_eq!(
        refused(keys(charter, second, unseal, recovery, &both)),
        VersionError::Generation { found: first, expected: second }
    );
    let at_fault = |sealed_for| VersionError::Slot { sealed_for, error: SlotError::Proof };
    let stranger = slots::quorum("stranger", 1, 1).public;
    assert_eq!(refused(keys(charter, first, &stranger, recovery, &both)), at_fault(at("canberra")));
    assert_eq!(refused(keys(charter, first, unseal, &stranger, &both)), at_fault(SealedFor::Recovery));
    let swapped = [("canberra", "canberra"), ("luxembourg", "a new machine")];
    assert_eq!(refused(keys(charter, first, unseal, recovery, &swapped)), at_fault(at("luxembourg")));
    // One embassy more, one less, another.
    for (embassies, missing) in [
        (&[both[0], both[1], ("oslo", "oslo")][..], at("oslo")),
        (&[("athens", "athens"), both[0], both[1]], at("athens")),
        (&[both[0]], SealedFor::Recovery),
        (&[both[0], ("oslo", "oslo")], at("oslo")),
    ] {
        let error = refused(keys(charter, first, unseal, recovery, embassies));
        assert_eq!(error, VersionError::Slots { sealed_for: missing });
    }
}

#[test]
fn no_slot_is_missing_extra_or_in_anothers_place() {
    let world = slots::world((1, 1), (1, 1));
    let refused = |change: fn(&mut Body)| signed_with(&world, change).verify_slots(&world.keys).unwrap_err();
    let slots = |sealed_for| VersionError::Slots { sealed_for };
    assert_eq!(refused(|body| drop(body.slots.remove(0))), slots(at("canberra")));
    assert_eq!(refused(|body| drop(body.slots.remove(1))), slots(at("luxembourg")));
    assert_eq!(refused(|body| drop(body.slots.pop())), slots(SealedFor::Recovery));
    assert_eq!(refused(|body| body.slots.clear()), slots(at("canberra")));
    assert_eq!(
        refused(|body| {
            let slot = body.slots[0].1.clone();
            body.slots.insert(2, (at("oslo"), slot));
        }),
        slots(SealedFor::Recovery)
    );
    // Beyond the last one, where no reader of bytes would let it stand.
    assert_eq!(refused(|body| body.slots.push((at("oslo"), body.slots[0].1.clone()))), slots(at("oslo")));
    // Each under the other's name.
    let swapped = refused(|body| {
        let (first, second) = (body.slots[0].1.clone(), body.slots[1].1.clone());
        (body.slots[0].1, body.slots[1].1) = (second, first);
    });
    assert_eq!(swapped, VersionError::Slot { sealed_for: at("canberra"), error: SlotError::Proof });
}

#[test]
fn the_record_itself_has_its_slots_in_order_and_each_once() {
    let world = slots::world((1, 1), (1, 1));
    let changes: [fn(&mut Body); 3] = [
        |body| body.slots.swap(0, 1),
        |body| body.slots.swap(1, 2),
        |body| body.slots.insert(0, body.slots[0].clone()),
    ];
    for change in changes {
        let bytes = signed_with(&world, change).record().encode();
        let refused = DatasetVersionRecord::decode(&bytes).unwrap_err();
        assert!(matches!(refused, WireError::Invalid { field: "slots", .. }), "{refused}");
    }
}

#[test]
fn a_description_changed_and_signed_again_does_not_fit_the_slots() {
    let world = slots::world((1, 1), (1, 1));
    let refused = |change: fn(&mut Body)| signed_with(&world, change).verify_slots(&world.keys).unwrap_err();
    let proof = VersionError::Slot { sealed_for: at("canberra"), error: SlotError::Proof };
    assert_eq!(refused(|body| body.description.version = DatasetVersion::new(2).unwrap()), proof);
    let stolen = |body: &mut Body| body.description.recipient = DatasetSeed::new(fixed("the host's")).key().recipient();
    assert_eq!(refused(stolen), proof);
    let other_charter = |body: &mut Body| body.description.charter = CharterId(Hash([2; 32]));
    assert_eq!(refused(other_charter), VersionError::Another { what: "charter" });
    let second = DatasetVersion::new(2).unwrap().get();
    let generation = Generation::new(second).unwrap();
    let next = |body: &mut Body| body.generation = body.generation.next().unwrap();
    assert_eq!(refused(next), VersionError::Generation { found: generation, expected: Generation::FIRST });
}

#[test]
fn no_two_slots_have_one_point_whatever_its_sign() {
    let world = slots::world((1, 1), (1, 1));
    let (first, second) = (at("canberra"), SealedFor::Recovery);
    let r = exponent("r");
    let minus_r = SecretScalar::new(-*r.expose());
    for other in [&r, &minus_r] {
        let signed = signed_with(&world, |body| {
            body.slots[0].1 = proven(&context(&world, 0), &r, &body.slots[0].1);
            body.slots[2].1 = proven(&context(&world, 2), other, &body.slots[2].1);
        });
        let refused = signed.verify_slots(&world.keys).unwrap_err();
        assert_eq!(refused, VersionError::RepeatedPoint { first: first.clone(), second: second.clone() });
    }
}

#[test]
fn a_record_has_at_most_seventeen_slots_and_the_largest_is_read() {
    let world = slots::world((1, 1), (1, 1));
    let mut body = unsigned(&world).0;
    let long = |count: u8| format!("{}{count:02}", "x".repeat(61));
    body.description.owner = OwnerName::new(&long(0)).unwrap();
    body.description.dataset = DatasetName::new(&long(0)).unwrap();
    // A slot with 32 shares, put together from bytes: 17 before the point, 130 to the count, 2 and then the shares.
    let small = body.slots[0].1.encode();
    let (head, shares, end) = (&small[..147], &small[149..small.len() - 48], &small[small.len() - 48..]);
    let slot = Slot::decode(&[head, &[0, 32], &shares.repeat(32), end].concat()).unwrap();
    let slots = |embassies: u8| {
        let mut slots: Vec<(SealedFor, Slot)> = (0..embassies).map(|it| (at(&long(it)), slot.clone())).collect();
        slots.push((SealedFor::Recovery, slot.clone()));
        slots
    };
    let owner = signing_key("land board");
    let record = UnsignedVersion(Body { slots: slots(16), ..body.clone() }).sign(&owner).unwrap();
    assert_eq!(DatasetVersionRecord::decode(&record.encode()).unwrap(), record);
    let record = UnsignedVersion(Body { slots: slots(17), ..body }).sign(&owner).unwrap();
    let refused = DatasetVersionRecord::decode(&record.encode());
    assert!(matches!(refused, Err(WireError::TooLong { .. })), "{refused:?}");
    // With slots of one official the document is short enough, and the count alone is over its bound.
    let few = unsigned(&world).0;
    let slot = few.slots[0].1.clone();
    let many = (0..18).map(|it| (at(&long(it)), slot.clone())).collect();
    let record = UnsignedVersion(Body { slots: many, ..few }).sign(&owner).unwrap();
    let refused = DatasetVersionRecord::decode(&record.encode());
    assert_eq!(refused, Err(WireError::TooLong { field: "slots", length: 18, bound: 17 }));
}

// Opening, and what the data owner did.

#[test]
fn whoever_opens_one_slot_has_compared_all_of_them() {
    let world = slots::world((2, 3), (3, 3));
    let version = verified(&world);
    let opened = [
        world.unseal.open(&version.slots()[0], &[3, 1], Some(&world.canberra)),
        world.unseal.open(&version.slots()[1], &[1, 2], Some(&world.luxembourg)),
        world.recovery.open(&version.slots()[2], &[1, 2, 3], None),
    ];
    for opened in opened {
        assert_eq!(version.compare(opened.unwrap()).unwrap().expose(), world.seed.expose());
    }
}

#[test]
fn an_owner_who_sealed_something_else_under_a_slot_is_found_before_it_is_needed() {
    let world = slots::world((1, 2), (1, 1));
    for (wrong, open_with) in [(vec![2], 0), (vec![1, 2], 0), (vec![0], 2)] {
        let signed = signed_with(&world, |body| {
            for index in &wrong {
                body.slots[*index].1 = sealed_with_another_seed(&context(&world, *index));
            }
        });
        // Nothing public shows it.
        let version = signed.verify_slots(&world.keys).unwrap();
        let opened = match open_with {
            0 => world.unseal.open(&version.slots()[0], &[2], Some(&world.canberra)),
            _ => world.recovery.open(&version.slots()[2], &[1], None),
        };
        let Err(CompareError::Mismatch(mismatch)) = version.compare(opened.unwrap()) else { panic!("{wrong:?}") };
        let names = [at("canberra"), at("luxembourg"), SealedFor::Recovery];
        let differing: Vec<SealedFor> = wrong.iter().map(|index| names[*index].clone()).collect();
        assert_eq!(mismatch.differing(), differing);
        for name in &differing {
            assert!(mismatch.to_string().contains(&name.to_string()), "{mismatch}");
        }
        // The data would otherwise be lost, so the seed can still be had.
        assert_eq!(mismatch.into_seed().expose(), world.seed.expose());
    }
}

#[test]
fn coins_that_are_not_the_seeds_are_found_too() {
    // The right seed, opening as it should, under another r: a slot that nobody could make again.
    let world = slots::world((1, 1), (1, 1));
    let signed = signed_with(&world, |body| {
        body.slots[2].1 = proven(&context(&world, 2), &exponent("the owner's own r"), &body.slots[2].1);
    });
    let version = signed.verify_slots(&world.keys).unwrap();
    let opened = world.unseal.open(&version.slots()[0], &[1], Some(&world.canberra)).unwrap();
    let Err(CompareError::Mismatch(mismatch)) = version.compare(opened) else { panic!("not found") };
    assert_eq!(mismatch.differing(), [SealedFor::Recovery]);
}

#[test]
fn a_seed_is_compared_with_the_version_it_came_from() {
    let world = slots::world((1, 1), (1, 1));
    let second = created(&world, &DatasetSeed::new(fixed("version 2")), DatasetVersion::new(2).unwrap());
    let second = second.sign(&signing_key("land board")).unwrap().verify_signature(&chartered(&world)).unwrap();
    let second = second.verify_slots(&world.keys).unwrap();
    let opened = world.unseal.open(&verified(&world).slots()[0], &[1], Some(&world.canberra)).unwrap();
    assert!(matches!(second.compare(opened), Err(CompareError::AnotherVersion)));
}

// Versions seen before.

#[test]
fn an_agent_never_goes_back_to_an_older_version() {
    let world = slots::world((1, 1), (1, 1));
    let offered = |seed: &str, version: u32| {
        let unsigned = created(&world, &DatasetSeed::new(fixed(seed)), DatasetVersion::new(version).unwrap());
        unsigned.sign(&signing_key("land board")).unwrap().verify_signature(&chartered(&world)).unwrap()
    };
    let (first, second) = (offered("first", 1), offered("second", 2));
    let seen = SeenVersion::check_not_lower(None, &first).unwrap();
    assert_eq!((seen.version, &seen.recipient), (DatasetVersion::FIRST, &first.description().recipient));
    assert_eq!(SeenVersion::check_not_lower(Some(&seen), &first).unwrap(), seen, "the same once more");
    let seen = SeenVersion::check_not_lower(Some(&seen), &second).unwrap();
    let version = DatasetVersion::new(2).unwrap();
    assert_eq!(
        SeenVersion::check_not_lower(Some(&seen), &first),
        Err(VersionError::Lower { seen: version, offered: DatasetVersion::FIRST })
    );
    assert_eq!(
        SeenVersion::check_not_lower(Some(&seen), &offered("another second", 2)),
        Err(VersionError::TwoRecipients { version })
    );
    assert!(SeenVersion::check_not_lower(Some(&seen), &offered("ninth", 9)).is_ok(), "an agent may miss some");
    // What was seen of one register says nothing about another.
    let tax = SeenVersion { dataset: DatasetName::new("tax-register").unwrap(), ..seen.clone() };
    let another = |what| Err(VersionError::Another { what });
    assert_eq!(SeenVersion::check_not_lower(Some(&tax), &second), another("dataset"));
    let elsewhere = SeenVersion { charter: CharterId(Hash([2; 32])), ..seen };
    assert_eq!(SeenVersion::check_not_lower(Some(&elsewhere), &second), another("charter"));
}

#[test]
fn nothing_prints_a_secret() {
    let world = slots::world((1, 1), (1, 1));
    let printed = format!("{:?} {:?}", unsigned(&world), verified(&world));
    for written in [hex::encode(world.seed.expose()), format!("{:?}", world.seed.expose())] {
        assert!(!printed.contains(&written[1..20]), "{written}");
    }
}
