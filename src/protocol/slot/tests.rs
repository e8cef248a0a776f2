//! Who opens a slot, what is refused before anybody works with one, and that whoever opens one makes all of them again.

use p256::{
    NistP256, NonZeroScalar, Scalar,
    elliptic_curve::{
        PrimeField,
        hash2curve::{ExpandMsgXmd, GroupDigest},
    },
};
use proptest::prelude::*;
use sha2::Sha256;

use super::{
    kek::CIPHERTEXT_BYTES,
    proof::{Proof, SECOND_GENERATOR, Statement},
    seal::seal_any,
    *,
};
use crate::protocol::{
    dataset::DatasetSeed,
    group::lagrange_at_zero,
    hybrid::{self, ENCAPSULATED_BYTES, HybridPublicKey, HybridSecretKey, ML_KEM_KEY_BYTES},
    ids::{CharterId, DatasetName, DatasetVersion, EmbassyName, Generation, OwnerName},
    quorum::{Position, QuorumError, Threshold},
    secret::{Secret, SecretScalar, SharedPoint},
};

/// Bytes of one sealed share: commitment, encapsulation, ciphertext and tag.
const SHARE_BYTES: usize = 32 + ENCAPSULATED_BYTES + 48;

/// 32 bytes that are the same on every run.
pub(in crate::protocol) fn fixed(name: &str) -> Secret<32> {
    Secret::take(&mut Hash::of_bytes(name.as_bytes()).0)
}

pub(in crate::protocol) fn exponent(name: &str) -> SecretScalar {
    SecretScalar::from_bytes(&fixed(name)).unwrap()
}

fn times(point: &Point, secret: &SecretScalar) -> SharedPoint {
    SharedPoint::take(&mut point.mul(secret.expose()))
}

fn public(secret: &SecretScalar) -> Point {
    Point::mul_generator(secret.expose())
}

fn negated(point: &Point) -> Point {
    Point::new(-point.projective()).unwrap()
}

fn place(number: u8) -> Position {
    Position::new(number).unwrap()
}

/// A quorum whose whole secret one place knows, which only a test may do: the DKG's own tests split it.
pub(in crate::protocol) struct TestQuorum {
    pub(in crate::protocol) secret: SecretScalar,
    pub(in crate::protocol) hybrid: Vec<HybridSecretKey>,
    pub(in crate::protocol) public: SlotQuorum,
}

pub(in crate::protocol) fn quorum(name: &str, k: u8, n: u8) -> TestQuorum {
    let secret = exponent(name);
    let hybrid: Vec<_> =
        (1..=n).map(|at| HybridSecretKey::from_seed(fixed(&format!("{name} official {at}")))).collect();
    let keys = hybrid.iter().map(|key| key.public().clone()).collect();
    let public = SlotQuorum::new(Threshold::new(k, n).unwrap(), public(&secret), keys).unwrap();
    TestQuorum { secret, hybrid, public }
}

impl TestQuorum {
    fn shares(&self, slot: &VerifiedSlot, places: &[u8]) -> Vec<WShare> {
        let open = |at: &u8| slot.open_share(place(*at), &self.hybrid[usize::from(*at) - 1]).unwrap();
        places.iter().map(open).collect()
    }

    fn w(&self, slot: &VerifiedSlot, places: &[u8]) -> W {
        slot.combine_shares(&self.shares(slot, places)).unwrap()
    }

    pub(in crate::protocol) fn open(
        &self,
        slot: &VerifiedSlot,
        places: &[u8],
        custody_key: Option<&SecretScalar>,
    ) -> Result<OpenedSeed, OpenError> {
        let z_t = custody_key.map(|secret| times(slot.point(), secret));
        slot.open(&times(slot.point(), &self.secret), z_t.as_ref(), &self.w(slot, places))
    }
}

/// Two embassies, an unseal quorum and a recovery quorum, and the land register's first key.
pub(in crate::protocol) struct World {
    pub(in crate::protocol) unseal: TestQuorum,
    pub(in crate::protocol) recovery: TestQuorum,
    pub(in crate::protocol) canberra: SecretScalar,
    pub(in crate::protocol) luxembourg: SecretScalar,
    pub(in crate::protocol) keys: SealingKeys,
    pub(in crate::protocol) seed: DatasetSeed,
    pub(in crate::protocol) description: DatasetDescription,
}

pub(in crate::protocol) fn embassy(name: &str) -> EmbassyName {
    EmbassyName::new(name).unwrap()
}

pub(in crate::protocol) fn world(unseal: (u8, u8), recovery: (u8, u8)) -> World {
    let (unseal, recovery) = (quorum("unseal", unseal.0, unseal.1), quorum("recovery", recovery.0, recovery.1));
    let (canberra, luxembourg) = (exponent("canberra"), exponent("luxembourg"));
    let charter = CharterId(Hash([1; 32]));
    let embassies = vec![(embassy("luxembourg"), public(&luxembourg)), (embassy("canberra"), public(&canberra))];
    let keys = SealingKeys::new(charter, Generation::FIRST, unseal.public.clone(), recovery.public.clone(), embassies)
        .unwrap();
    let seed = DatasetSeed::new(fixed("land register, version 1"));
    let description = DatasetDescription {
        charter,
        owner: OwnerName::new("land-board").unwrap(),
        dataset: DatasetName::new("land-register").unwrap(),
        version: DatasetVersion::FIRST,
        recipient: seed.key().recipient(),
    };
    World { unseal, recovery, canberra, luxembourg, keys, seed, description }
}

impl World {
    /// Canberra's, Luxembourg's, and that of recovery.
    fn contexts(&self) -> [SlotContext; 3] {
        self.keys.contexts(&self.description).unwrap().try_into().unwrap()
    }

    fn sealed(&self, context: &SlotContext) -> VerifiedSlot {
        seal(&self.seed, context).unwrap().verify(context).unwrap()
    }
}

/// A slot that holds another dataset's seed, as a data owner in error could make it; its proof holds.
pub(in crate::protocol) fn sealed_with_another_seed(context: &SlotContext) -> Slot {
    seal_any(&DatasetSeed::new(fixed("some other register")), context).unwrap()
}

/// A slot that holds `r`'s point, these shares and this ciphertext; whoever knows r can prove any of it.
pub(in crate::protocol) fn proven(context: &SlotContext, r: &SecretScalar, model: &Slot) -> Slot {
    let (c, c_prime) = (public(r), SECOND_GENERATOR.mul(r.expose()));
    let mut slot = Slot { c, c_prime, ..model.clone() };
    slot.proof = Proof::new(r, &exponent("a nonce"), &slot.statement(context.id())).unwrap();
    slot
}

fn reread(bytes: &[u8]) -> Result<Slot, WireError> {
    Slot::decode(bytes)
}

/// Where the fields of an encoded slot begin, from protocol.md §6.6.
const C: usize = 1 + 16;
const C_PRIME: usize = C + 33;
const CHALLENGE: usize = C_PRIME + 33;
const RESPONSE: usize = CHALLENGE + 32;
const SHARES: usize = RESPONSE + 32 + 2;

fn with(slot: &Slot, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut changed = slot.encode();
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    changed
}

// Who opens.

#[test]
fn any_k_officials_and_the_embassy_open_and_k_less_one_do_not() {
    for (k, n, groups) in [
        (2, 3, &[&[1, 2][..], &[3, 1], &[2, 3], &[1, 2, 3]][..]),
        (3, 5, &[&[1, 2, 3], &[5, 3, 1], &[4, 2, 5], &[5, 4, 3, 2, 1]]),
        (1, 2, &[&[1], &[2], &[2, 1]]),
        (3, 3, &[&[1, 2, 3], &[3, 1, 2]]),
        (1, 1, &[&[1]]),
    ] {
        let world = world((k, n), (1, 1));
        let slot = world.sealed(&world.contexts()[1]);
        for places in groups {
            let opened = world.unseal.open(&slot, places, Some(&world.luxembourg)).unwrap();
            assert_eq!(opened.compare([&slot]).unwrap().expose(), world.seed.expose(), "{k} of {n}: {places:?}");
        }
        let few: Vec<u8> = (1..k).collect();
        assert_eq!(
            slot.combine_shares(&world.unseal.shares(&slot, &few)),
            Err(CombineError::TooFew { have: usize::from(k) - 1, need: k })
        );
    }
}

#[test]
fn the_recovery_quorum_opens_alone_and_an_embassys_slot_does_not_open_without_it() {
    let world = world((1, 2), (2, 3));
    let [_, luxembourg, recovery] = world.contexts();
    let slot = world.sealed(&recovery);
    let opened = world.recovery.open(&slot, &[3, 1], None).unwrap();
    assert_eq!(opened.compare([&slot]).unwrap().expose(), world.seed.expose());
    let with_embassy = world.recovery.open(&slot, &[3, 1], Some(&world.luxembourg));
    assert_eq!(with_embassy.unwrap_err(), OpenError::TakesNoEmbassy);
    let slot = world.sealed(&luxembourg);
    assert_eq!(world.unseal.open(&slot, &[1], None).unwrap_err(), OpenError::NeedsEmbassy);
}

#[test]
fn every_one_of_the_three_parts_must_be_the_right_one() {
    let world = world((2, 2), (2, 2));
    let contexts = world.contexts();
    let [canberra, luxembourg, recovery] = contexts.each_ref().map(|context| world.sealed(context));
    let (z_y, z_t) = (times(luxembourg.point(), &world.unseal.secret), times(luxembourg.point(), &world.luxembourg));
    let w = world.unseal.w(&luxembourg, &[1, 2]);
    assert!(luxembourg.open(&z_y, Some(&z_t), &w).is_ok());
    let refused = |z_y: &SharedPoint, z_t: &SharedPoint, w: &W| {
        assert_eq!(luxembourg.open(z_y, Some(z_t), w).unwrap_err(), OpenError::DoesNotOpen);
    };
    refused(&z_y, &times(luxembourg.point(), &world.canberra), &w);
    refused(&times(luxembourg.point(), &world.recovery.secret), &z_t, &w);
    refused(&z_t, &z_y, &w);
    refused(&z_y, &z_t, &world.unseal.w(&canberra, &[1, 2]));
    refused(&z_y, &z_t, &world.recovery.w(&recovery, &[1, 2]));
    // The right keys on the point of another slot.
    refused(&times(canberra.point(), &world.unseal.secret), &times(canberra.point(), &world.luxembourg), &w);
    let right = times(recovery.point(), &world.recovery.secret);
    assert_eq!(recovery.open(&right, None, &w).unwrap_err(), OpenError::DoesNotOpen, "w of another slot");
    let z_y = times(recovery.point(), &world.unseal.secret);
    let opened = recovery.open(&z_y, None, &world.recovery.w(&recovery, &[1, 2]));
    assert_eq!(opened.unwrap_err(), OpenError::DoesNotOpen, "the unseal quorum on the recovery slot");
}

// What is refused before anybody works with a slot.

#[test]
fn every_changed_byte_of_a_slot_is_refused() {
    let world = world((2, 2), (1, 1));
    let context = &world.contexts()[1];
    let bytes = world.sealed(context).slot().encode();
    assert_eq!(bytes.len(), SHARES + 2 * SHARE_BYTES + CIPHERTEXT_BYTES);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let Ok(slot) = reread(&changed) else { continue };
        assert_eq!(slot.verify(context), Err(SlotError::Proof), "byte {at}");
    }
    for end in [0, 1, C, SHARES, SHARES + SHARE_BYTES, bytes.len() - 1] {
        assert!(reread(&bytes[..end]).is_err(), "cut at {end}");
    }
    assert_eq!(reread(&[&bytes[..], &[0]].concat()), Err(WireError::Trailing { count: 1 }));
}

/// The context with one thing in it changed, each in turn.
fn other_contexts(world: &World, context: &SlotContext) -> Vec<(&'static str, SlotContext)> {
    let (dataset, generation) = (context.dataset(), context.generation());
    let (kind, quorum) = (context.kind(), context.quorum());
    let new = |dataset, generation, kind: &SlotKind, quorum: &SlotQuorum| {
        SlotContext::new(dataset, generation, kind.clone(), quorum.clone()).unwrap()
    };
    let described = |change: fn(&mut DatasetDescription)| {
        let mut dataset = dataset.clone();
        change(&mut dataset);
        new(dataset, generation, kind, quorum)
    };
    let of_kind = |kind: &SlotKind| new(dataset.clone(), generation, kind, quorum);
    let of_quorum = |threshold: (u8, u8), key: &Point, officials: Vec<HybridPublicKey>| {
        let quorum = SlotQuorum::new(Threshold::new(threshold.0, threshold.1).unwrap(), *key, officials).unwrap();
        new(dataset.clone(), generation, kind, &quorum)
    };
    let custody_key = public(&world.luxembourg);
    let officials = || quorum.officials().to_vec();
    let (mut replaced, mut swapped) = (officials(), officials());
    replaced[1] = HybridSecretKey::from_seed(fixed("a stranger")).public().clone();
    swapped.swap(0, 1);
    vec![
        ("charter", described(|it| it.charter = CharterId(Hash([2; 32])))),
        ("owner", described(|it| it.owner = OwnerName::new("tax-board").unwrap())),
        ("dataset", described(|it| it.dataset = DatasetName::new("tax-register").unwrap())),
        ("version", described(|it| it.version = it.version.next().unwrap())),
        ("recipient", described(|it| it.recipient = DatasetSeed::new(fixed("x")).key().recipient())),
        ("generation", new(dataset.clone(), generation.next().unwrap(), kind, quorum)),
        ("kind", of_kind(&SlotKind::Recovery)),
        ("embassy", of_kind(&SlotKind::Embassy { embassy: embassy("canberra"), custody_key })),
        ("T", {
            let custody_key = public(&world.canberra);
            of_kind(&SlotKind::Embassy { embassy: embassy("luxembourg"), custody_key })
        }),
        ("Y", of_quorum((2, 3), &public(&exponent("another quorum")), officials())),
        ("k", of_quorum((3, 3), quorum.key(), officials())),
        ("one hybrid key", of_quorum((2, 3), quorum.key(), replaced)),
        ("order of hybrid keys", of_quorum((2, 3), quorum.key(), swapped)),
    ]
}

#[test]
fn a_slot_is_good_in_its_own_context_and_no_other() {
    let world = world((2, 3), (1, 1));
    let context = &world.contexts()[1];
    let slot = seal(&world.seed, context).unwrap();
    assert!(slot.verify(context).is_ok());
    let others = other_contexts(&world, context);
    for (what, other) in &others {
        assert_ne!(other.id(), context.id(), "{what}");
        assert_eq!(slot.verify(other), Err(SlotError::Proof), "{what}");
        assert_eq!(SlotContext::decode(&other.encode()).unwrap(), *other, "{what}");
    }
    let mut officials = context.quorum().officials().to_vec();
    officials.pop();
    let fewer = SlotQuorum::new(Threshold::new(2, 2).unwrap(), *context.quorum().key(), officials).unwrap();
    let fewer = SlotContext::new(world.description.clone(), Generation::FIRST, context.kind().clone(), fewer).unwrap();
    assert_eq!(slot.verify(&fewer), Err(SlotError::Shares { found: 3, n: 2 }));
    let mut none = slot;
    none.shares.clear();
    assert_eq!(reread(&none.encode()).unwrap().verify(context), Err(SlotError::Shares { found: 0, n: 3 }));
}

#[test]
fn points_and_exponents_that_are_none_are_not_read() {
    let world = world((1, 1), (1, 1));
    let slot = seal(&world.seed, &world.contexts()[2]).unwrap();
    // No y belongs to x = 1 on P-256.
    let mut off_curve = [0; 33];
    (off_curve[0], off_curve[32]) = (2, 1);
    assert!(Point::decode(&off_curve).is_err());
    let mut beyond_the_field = [0xff; 33];
    beyond_the_field[0] = 2;
    for at in [C, C_PRIME] {
        for bad in [[0; 33], off_curve, beyond_the_field] {
            assert!(matches!(reread(&with(&slot, at, &bad)), Err(WireError::Invalid { field: "point", .. })));
        }
        for tag in [0, 1, 4, 5, 6] {
            assert!(reread(&with(&slot, at, &[tag])).is_err(), "tag {tag}");
        }
    }
    // The group order.
    let order: Vec<u8> = (-Scalar::ONE).to_repr().iter().copied().collect();
    let order = [&order[..31], &[order[31] + 1]].concat();
    for at in [CHALLENGE, RESPONSE] {
        assert!(matches!(reread(&with(&slot, at, &order)), Err(WireError::Invalid { .. })));
        assert!(matches!(reread(&with(&slot, at, &[0xff; 32])), Err(WireError::Invalid { .. })));
    }
    assert!(matches!(reread(&with(&slot, SHARES - 2, &[0, 33])), Err(WireError::TooLong { bound: 32, .. })));
}

#[test]
fn a_proof_of_zeros_proves_nothing() {
    let world = world((1, 1), (1, 1));
    let context = &world.contexts()[2];
    let slot = seal(&world.seed, context).unwrap();
    let both = [0; 64];
    for (at, zeros) in [(CHALLENGE, &both[..32]), (RESPONSE, &both[..32]), (CHALLENGE, &both[..])] {
        assert_eq!(reread(&with(&slot, at, zeros)).unwrap().verify(context), Err(SlotError::Proof));
    }
}

// The proof.

#[test]
fn the_second_generator_is_the_hash_of_its_label() {
    // From an implementation of RFC 9380 that is not the one used here, which gives the vectors of appendix J.1.1.
    let known = "0283dd522ed781f04a395f0441560f1fb892d7977e8bb457b1dc26256b16acd801";
    assert_eq!(hex::encode(SECOND_GENERATOR.encode()), known);
    assert_ne!(SECOND_GENERATOR.xy().0, Point::GENERATOR.xy().0);
}

/// protocol.md §6.3 once more, with the commitments in the order given.
fn prove(r: &Scalar, nonce: &SecretScalar, statement: &Statement<'_>, swap: bool) -> [u8; 64] {
    let (mut w1, mut w2) = (public(nonce), SECOND_GENERATOR.mul(nonce.expose()));
    if swap {
        std::mem::swap(&mut w1, &mut w2);
    }
    let mut input = vec![26];
    input.extend_from_slice(b"chancery/v1/slot/challenge");
    input.extend_from_slice(statement.hash().as_bytes());
    input.extend_from_slice(&w1.encode());
    input.extend_from_slice(&w2.encode());
    let e = NistP256::hash_to_scalar::<ExpandMsgXmd<Sha256>>(&[&input], &[b"chancery/v1/slot/challenge"]).unwrap();
    let z = **nonce.expose() + e * r;
    [<[u8; 32]>::from(e.to_repr()), z.to_repr().into()].concat().try_into().unwrap()
}

#[test]
fn only_who_knows_one_exponent_for_both_points_proves() {
    let world = world((1, 2), (1, 1));
    let context = &world.contexts()[1];
    let honest = seal(&world.seed, context).unwrap();
    let (r, other, nonce) = (exponent("r"), exponent("another r"), exponent("nonce"));
    let slot = |c: Point, c_prime: Point| Slot { c, c_prime, ..honest.clone() };
    let proves = |slot: &Slot, r: &SecretScalar, swap| {
        let proof = prove(r.expose(), &nonce, &slot.statement(context.id()), swap);
        reread(&with(slot, CHALLENGE, &proof)).unwrap().verify(context).is_ok()
    };
    let good = slot(public(&r), SECOND_GENERATOR.mul(r.expose()));
    assert!(proves(&good, &r, false));
    assert!(!proves(&good, &r, true), "commitments in the other order");
    assert!(!proves(&good, &other, false), "another exponent");
    // Different exponents, or the same generator for both.
    for bad in [
        slot(public(&r), SECOND_GENERATOR.mul(other.expose())),
        slot(public(&r), public(&r)),
        slot(SECOND_GENERATOR.mul(r.expose()), public(&r)),
        slot(public(&r), negated(&SECOND_GENERATOR.mul(r.expose()))),
    ] {
        assert!(!proves(&bad, &r, false) && !proves(&bad, &other, false) && !proves(&bad, &r, true));
    }
    // Somebody else's point, of which the forger does not know the exponent.
    for stolen in [*context.quorum().key(), honest.c, negated(&honest.c)] {
        assert!(!proves(&slot(stolen, honest.c_prime), &r, false));
        assert!(!proves(&slot(stolen, SECOND_GENERATOR.mul(r.expose())), &r, false));
    }
}

#[test]
fn an_honest_slots_point_cannot_be_carried_into_another_context() {
    let world = world((1, 2), (1, 1));
    let [canberra, luxembourg, _] = world.contexts();
    let honest = seal(&world.seed, &canberra).unwrap();
    assert_eq!(honest.verify(&luxembourg), Err(SlotError::Proof), "relabelled");
    // The whole slot, and its points with everything else made for the other context.
    let made = sealed_with_another_seed(&luxembourg);
    let moved = Slot { c: honest.c, c_prime: honest.c_prime, ..made.clone() };
    let with_old_proof = Slot { proof: honest.proof, ..moved.clone() };
    for forged in [honest, moved, with_old_proof] {
        assert_eq!(forged.verify(&luxembourg), Err(SlotError::Proof));
        let guessed = prove(exponent("guess").expose(), &exponent("n"), &forged.statement(luxembourg.id()), false);
        assert_eq!(reread(&with(&forged, CHALLENGE, &guessed)).unwrap().verify(&luxembourg), Err(SlotError::Proof));
    }
    assert!(made.verify(&luxembourg).is_ok());
}

#[test]
fn sealed_shares_in_each_others_place_are_refused() {
    let world = world((2, 3), (1, 1));
    let context = &world.contexts()[1];
    let mut slot = seal(&world.seed, context).unwrap();
    slot.shares.swap(0, 2);
    assert_eq!(slot.verify(context), Err(SlotError::Proof));
    // The data owner, who knows r, can prove it; then each official finds it.
    let slot = proven(context, &exponent("r"), &slot).verify(context).unwrap();
    for at in [1, 3] {
        let refused = slot.open_share(place(at), &world.unseal.hybrid[usize::from(at) - 1]);
        assert_eq!(refused, Err(ShareError::SealedWrongly { position: place(at) }));
        assert_eq!(refused.unwrap_err().culprit(), None);
    }
}

// Contexts that cannot be.

#[test]
fn no_two_officials_have_half_a_hybrid_key_in_common() {
    let [one, two] = ["one", "two"].map(|name| HybridSecretKey::from_seed(fixed(name)).public().clone());
    let spliced = |ml_kem: &HybridPublicKey, point: &[u8]| {
        let mut bytes = ml_kem.encode();
        bytes[ML_KEM_KEY_BYTES..].copy_from_slice(point);
        HybridPublicKey::decode(&bytes).unwrap()
    };
    let threshold = Threshold::new(1, 2).unwrap();
    let y = public(&exponent("y"));
    let repeated = Err(ContextError::Repeated { first: place(1), second: place(2) });
    assert!(SlotQuorum::new(threshold, y, vec![one.clone(), two.clone()]).is_ok());
    for second in [
        one.clone(),
        spliced(&one, &two.point().encode_uncompressed()),
        spliced(&two, &one.point().encode_uncompressed()),
        // Whoever multiplies by x multiplies by -x.
        spliced(&two, &negated(one.point()).encode_uncompressed()),
    ] {
        assert_eq!(SlotQuorum::new(threshold, y, vec![one.clone(), second]), repeated);
    }
    for keys in [vec![], vec![one.clone()], vec![one, two.clone(), two]] {
        let found = keys.len();
        assert_eq!(SlotQuorum::new(threshold, y, keys), Err(ContextError::Officials { found, n: 2 }));
    }
}

#[test]
fn no_two_keys_that_should_be_apart_are_one() {
    let world = world((1, 1), (1, 1));
    let (y, recovery) = (*world.unseal.public.key(), *world.recovery.public.key());
    let keys = |unseal: &SlotQuorum, embassies: Vec<(EmbassyName, Point)>| {
        let (charter, recovery) = (world.description.charter, world.recovery.public.clone());
        SealingKeys::new(charter, Generation::FIRST, unseal.clone(), recovery, embassies)
    };
    let unseal = &world.unseal.public;
    let (a, b) = (public(&exponent("a")), public(&exponent("b")));
    let two = |first: (&str, Point), second: (&str, Point)| {
        keys(unseal, vec![(embassy(first.0), first.1), (embassy(second.0), second.1)])
    };
    assert!(two(("b", b), ("a", a)).is_ok());
    let repeated =
        |first: &str, second: &str| Err(SealingKeysError::Repeated { first: embassy(first), second: embassy(second) });
    assert_eq!(two(("a", a), ("a", b)), repeated("a", "a"));
    assert_eq!(two(("b", a), ("a", a)), repeated("a", "b"));
    assert_eq!(two(("b", a), ("a", negated(&a))), repeated("a", "b"));
    for key in [y, negated(&y), recovery, negated(&recovery)] {
        let refused = Err(SealingKeysError::CustodyKeyIsQuorumKey { embassy: embassy("b") });
        assert_eq!(two(("a", a), ("b", key)), refused);
    }
    for key in [y, negated(&y)] {
        let kind = SlotKind::Embassy { embassy: embassy("a"), custody_key: key };
        let context = SlotContext::new(world.description.clone(), Generation::FIRST, kind, unseal.clone());
        assert_eq!(context, Err(ContextError::CustodyKeyIsQuorumKey));
    }
    for key in [recovery, negated(&recovery)] {
        let unseal = SlotQuorum::new(unseal.threshold(), key, unseal.officials().to_vec()).unwrap();
        assert_eq!(keys(&unseal, vec![(embassy("a"), a)]), Err(SealingKeysError::SameQuorumKey));
    }
    assert_eq!(keys(unseal, vec![]), Err(SealingKeysError::Embassies { found: 0 }));
    let many = |count: usize| {
        (0..count).map(|at| (embassy(&format!("e{at}")), public(&exponent(&format!("t{at}"))))).collect()
    };
    assert!(keys(unseal, many(MAX_EMBASSIES)).is_ok());
    assert_eq!(keys(unseal, many(17)), Err(SealingKeysError::Embassies { found: 17 }));
}

// Everything comes from the seed.

#[test]
fn sealing_twice_gives_the_same_bytes_and_any_other_input_gives_others() {
    let world = world((2, 3), (1, 1));
    let context = &world.contexts()[1];
    let slot = seal(&world.seed, context).unwrap();
    assert_eq!(seal(&world.seed, context).unwrap().encode(), slot.encode());
    let mut others: Vec<(&str, Slot)> = vec![("seed", sealed_with_another_seed(context))];
    for (what, other) in other_contexts(&world, context) {
        others.push((what, seal_any(&world.seed, &other).unwrap()));
    }
    for (what, other) in others {
        assert!(other.c != slot.c && other.c_prime != slot.c_prime && other.proof != slot.proof, "{what}");
        assert!(other.ciphertext != slot.ciphertext, "{what}");
        assert!(other.shares.iter().zip(&slot.shares).all(|(one, another)| one != another), "{what}");
    }
}

#[test]
fn a_seed_is_sealed_for_its_own_recipient_only() {
    let world = world((1, 1), (1, 1));
    let context = &world.contexts()[1];
    assert_eq!(seal(&DatasetSeed::new(fixed("another")), context), Err(SealError::Recipient));
    let slot = sealed_with_another_seed(context).verify(context).unwrap();
    let opened = world.unseal.open(&slot, &[1], Some(&world.luxembourg));
    assert_eq!(opened.unwrap_err(), OpenError::Recipient, "found at the opening too");
}

#[test]
fn the_derivation_has_not_changed() {
    // Every stored slot is made again from its seed when it is opened. If one of these bytes changes, none that was stored
    // before compares equal any more: then the suite's name and the labels must change with it, and old slots need the
    // old derivation for as long as they live.
    let world = world((2, 3), (3, 3));
    let hashes = world.contexts().map(|context| {
        let slot = world.sealed(&context);
        (Hash::of_bytes(&slot.slot().encode()).to_string(), context.id().to_string())
    });
    let pinned = [
        (
            "2b8b3b43c68888163e72d2a6118286b06170e86b903a31a407f6858923030082",
            "fca4f6bbcba3f9c165ef6a73b16126ca1c9f7053d5ec164ac5f959a0ab9ba031",
        ),
        (
            "4c58ec166af3efcf958afa2f4aac62abae1b6fee1d7530122f6263d39af85e44",
            "c227f99fc5f8a6205a6e47937238364ac95415e56b74311b9960f1430eac34a2",
        ),
        (
            "957c63eb19a1d8d9422878b85d12e4787303e77d54a14dd8f6aa79af3de9922d",
            "9842227cee29ef4bda89131e1db892f0e879fd7f42471642566e1a40a744eb37",
        ),
    ]
    .map(|(slot, context)| (slot.to_owned(), context.to_owned()));
    assert_eq!(hashes, pinned);
}

// Shares of w.

#[test]
fn a_wrong_share_names_who_sent_it_and_the_data_owner_who_sealed_it() {
    let world = world((2, 3), (1, 1));
    let context = &world.contexts()[1];
    let slot = world.sealed(context);
    let shares = world.unseal.shares(&slot, &[1, 2, 3]);
    for share in &shares {
        let position = share.position();
        assert_eq!(slot.take_share(position, &share.to_bytes()).unwrap(), *share);
        let mut bytes = share.to_bytes();
        bytes.expose_mut()[31] ^= 1;
        let refused = slot.take_share(position, &bytes).unwrap_err();
        assert_eq!((refused, refused.culprit()), (ShareError::Wrong { position }, Some(position)));
    }
    assert_eq!(slot.take_share(place(1), &shares[1].to_bytes()), Err(ShareError::Wrong { position: place(1) }));
    assert_eq!(slot.take_share(place(1), &Secret::zeroed()), Err(ShareError::Wrong { position: place(1) }));
    let stranger = QuorumError::NoSuchOfficial { position: 4, n: 3 };
    assert_eq!(slot.take_share(place(4), &shares[0].to_bytes()), Err(ShareError::Quorum(stranger)));
    assert_eq!(slot.open_share(place(4), &world.unseal.hybrid[0]), Err(ShareError::Quorum(stranger)));
    let not_that_key = Err(ShareError::NotThatKey { position: place(1) });
    assert_eq!(slot.open_share(place(1), &world.unseal.hybrid[1]), not_that_key);
}

#[test]
fn an_official_is_not_blamed_for_a_share_that_the_data_owner_sealed_wrongly() {
    let world = world((1, 1), (1, 1));
    let context = &world.contexts()[2];
    let (position, r) = (place(1), exponent("r"));
    let blamed = Err(ShareError::SealedWrongly { position });
    // Sealed and committed to as protocol.md §6.2 says, but not exponents.
    for bad in [[0; 32], [0xff; 32]] {
        let mut info = context.id().as_bytes().to_vec();
        info.push(1);
        let (to, aad) = (world.recovery.hybrid[0].public(), public(&r).encode());
        let sealed = hybrid::seal(to, Label::SLOT_SHARE, &info, &aad, &bad, &mut rand_core::OsRng).unwrap();
        let commitment = Hash::of(Label::SLOT_SHARE_COMMITMENT, |out| {
            out.raw(&info).raw(&bad);
        });
        let share = Reader::new(&[commitment.as_bytes(), &sealed[..]].concat()).value().unwrap();
        let mut slot = seal(&world.seed, context).unwrap();
        slot.shares = vec![share];
        let slot = proven(context, &r, &slot).verify(context).unwrap();
        assert_eq!(slot.open_share(position, &world.recovery.hybrid[0]), blamed);
        assert_eq!(slot.take_share(position, &Secret::from_slice(&bad).unwrap()), blamed);
    }
}

#[test]
fn shares_that_do_not_belong_together_do_not_combine() {
    let world = world((2, 3), (2, 3));
    let [canberra, luxembourg, _] = world.contexts().map(|context| world.sealed(&context));
    let shares = |slot: &VerifiedSlot, places: &[u8]| world.unseal.shares(slot, places);
    let mixed: Vec<WShare> = shares(&luxembourg, &[1]).into_iter().chain(shares(&canberra, &[2])).collect();
    assert_eq!(luxembourg.combine_shares(&mixed), Err(CombineError::Foreign { position: place(2) }));
    assert_eq!(canberra.combine_shares(&mixed), Err(CombineError::Foreign { position: place(1) }));
    let twice = shares(&luxembourg, &[3, 3]);
    assert_eq!(luxembourg.combine_shares(&twice), Err(CombineError::Repeated { position: place(3) }));
    assert_eq!(luxembourg.combine_shares(&[]), Err(CombineError::TooFew { have: 0, need: 2 }));
    // One share alone says nothing: what it gives by itself is not w.
    let one = shares(&luxembourg, &[2]);
    assert_ne!(one[0].to_bytes(), *world.unseal.w(&luxembourg, &[1, 3]).expose());
}

#[test]
fn a_w_of_zero_is_the_data_owners_doing() {
    let world = world((2, 2), (1, 1));
    let context = &world.contexts()[1];
    let mut slot = seal(&world.seed, context).unwrap();
    // The line through (1, 1) and (2, 2) is zero at zero.
    let values =
        [1, 2].map(|value: u64| SecretScalar::new(NonZeroScalar::new(Scalar::from(value)).unwrap()).to_bytes());
    slot.shares = (1..=2)
        .zip(&values)
        .map(|(at, value)| {
            let commitment = Hash::of(Label::SLOT_SHARE_COMMITMENT, |out| {
                out.value(&context.id()).value(&place(at)).raw(value.expose());
            });
            Reader::new(&[&commitment.as_bytes()[..], &[0; SHARE_BYTES - 32]].concat()).value().unwrap()
        })
        .collect();
    let slot = proven(context, &exponent("r"), &slot).verify(context).unwrap();
    let shares: Vec<WShare> =
        (1..=2).zip(&values).map(|(at, value)| slot.take_share(place(at), value).unwrap()).collect();
    assert_eq!(slot.combine_shares(&shares), Err(CombineError::Zero));
}

#[test]
fn every_k_officials_have_the_same_w() {
    let world = world((3, 5), (1, 1));
    let slot = world.sealed(&world.contexts()[0]);
    let w = world.unseal.w(&slot, &[1, 2, 3]);
    let shares = world.unseal.shares(&slot, &[1, 2, 3, 4, 5]);
    for chosen in (0_u32..32).filter(|bits| bits.count_ones() >= 2) {
        let places: Vec<u8> = (1..=5).filter(|at| chosen & (1 << (at - 1)) != 0).collect();
        if places.len() >= 3 {
            assert_eq!(world.unseal.w(&slot, &places), w, "{places:?}");
            continue;
        }
        // Two of them, joined as if they were enough, give something else.
        let members: Vec<Position> = places.iter().map(|at| place(*at)).collect();
        let value = |at: &u8| {
            let bytes = *shares[usize::from(*at) - 1].to_bytes().expose();
            lagrange_at_zero(place(*at), &members).unwrap() * Scalar::from_repr(bytes.into()).unwrap()
        };
        let sum = places.iter().map(value).fold(Scalar::ZERO, |sum, term| sum + term);
        assert_ne!(<[u8; 32]>::from(sum.to_repr()), *w.expose().expose(), "{places:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn k_of_n_in_any_order_open_for_every_k_and_n(
        (k, n) in (1_u8..=5).prop_flat_map(|n| (1..=n, Just(n))),
        order in Just([1_u8, 2, 3, 4, 5]).prop_shuffle(),
        recovery in any::<bool>(),
    ) {
        let places: Vec<u8> = order.into_iter().filter(|at| *at <= n).collect();
        let world = world((k, n), (k, n));
        let context = &world.contexts()[if recovery { 2 } else { 0 }];
        let slot = world.sealed(context);
        let quorum = if recovery { &world.recovery } else { &world.unseal };
        let custody_key = (!recovery).then_some(&world.canberra);
        let opened = quorum.open(&slot, &places[..usize::from(k)], custody_key).unwrap();
        let seed = opened.compare([&slot]).unwrap();
        prop_assert_eq!(seed.expose(), world.seed.expose());
        let few = quorum.shares(&slot, &places[..usize::from(k) - 1]);
        prop_assert_eq!(slot.combine_shares(&few), Err(CombineError::TooFew { have: few.len(), need: k }));
    }
}

// Points seen before.

#[test]
fn a_point_belongs_to_one_slot_for_ever() {
    let world = world((1, 1), (1, 1));
    let [canberra, luxembourg, _] = world.contexts();
    let r = exponent("r");
    let slot = |context: &SlotContext, r: &SecretScalar| {
        proven(context, r, &seal(&world.seed, context).unwrap()).verify(context).unwrap()
    };
    let first = slot(&canberra, &r);
    let mut seen = SeenPoints::new();
    seen.note(&first).unwrap();
    seen.note(&first).unwrap();
    seen.note(&slot(&luxembourg, &exponent("another r"))).unwrap();
    let refused = Err(PointSeen { earlier: first.id() });
    assert_eq!(seen.note(&slot(&luxembourg, &r)), refused);
    // A partial for C is one for -C.
    let minus_r = SecretScalar::new(-*r.expose());
    assert_eq!(seen.note(&slot(&luxembourg, &minus_r)), refused);
    assert_eq!(seen.note(&slot(&canberra, &minus_r)), refused);
    let stored: Vec<([u8; 32], Hash)> = seen.iter().collect();
    let mut again = SeenPoints::restore(stored.clone()).unwrap();
    assert_eq!(again, seen);
    assert_eq!(again.note(&slot(&luxembourg, &r)), refused);
    again.note(&first).unwrap();
    // A store that gives one point to two slots was altered, or two stores saw what nobody should have.
    let contradiction = [stored[0], stored[1], (stored[0].0, Hash([9; 32]))];
    assert_eq!(SeenPoints::restore(contradiction), Err(PointSeen { earlier: stored[0].1 }));
    assert_eq!(SeenPoints::restore([stored.clone(), stored].concat()).unwrap(), seen);
}

// Nothing prints a secret.

#[test]
fn nothing_prints_a_secret() {
    let world = world((1, 2), (1, 1));
    let context = &world.contexts()[1];
    let slot = world.sealed(context);
    let shares = world.unseal.shares(&slot, &[1, 2]);
    let w = slot.combine_shares(&shares).unwrap();
    let opened = world.unseal.open(&slot, &[1], Some(&world.luxembourg)).unwrap();
    let different = sealed_with_another_seed(context).verify(context).unwrap();
    let mismatch = world.unseal.open(&slot, &[1], Some(&world.luxembourg)).unwrap().compare([&different]).unwrap_err();
    let printed = format!("{slot:?} {context:?} {shares:?} {w:?} {opened:?} {mismatch:?} {mismatch} {:?}", world.keys);
    let secrets = [*world.seed.expose(), *w.expose().expose(), *shares[1].to_bytes().expose()];
    for secret in secrets.iter().chain(world.unseal.hybrid.iter().map(|key| key.seed().expose())) {
        for written in [hex::encode(secret), hex::encode_upper(secret), format!("{secret:?}")] {
            // A part of it would be too much already.
            assert!(!printed.contains(&written[1..20]), "{written}");
        }
    }
    assert_eq!(printed.matches("redacted").count(), 5, "two shares, w, the opened seed, the mismatch's seed");
}
