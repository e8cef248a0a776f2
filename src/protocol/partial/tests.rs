//! Stories of ceremonies, and the vectors of RFC 9497.

use p256::{NonZeroScalar, Scalar};
use proptest::prelude::*;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use rand_core::OsRng;

use super::*;
use crate::protocol::{quorum::Threshold, quorum_key::tests::dealt, secret::SharedPoint};

/// A quorum, its shares, an offer, and the points the offer asks to open.
struct Ceremony {
    key: QuorumKey,
    prepared: PreparedQuorum,
    shares: Vec<SecretScalar>,
    offer: Hash,
    points: Vec<Point>,
    exponents: Vec<NonZeroScalar>,
}

impl Ceremony {
    fn new(k: u8, n: u8, points: usize) -> Self {
        let (key, shares) = dealt(Threshold::new(k, n).unwrap());
        let exponents: Vec<NonZeroScalar> = (0..points).map(|_| NonZeroScalar::random(&mut OsRng)).collect();
        let points = exponents.iter().map(Point::mul_generator).collect();
        let prepared = PreparedQuorum::new(&key);
        Self { key, prepared, shares, offer: Hash::of_bytes(b"the offer"), points, exponents }
    }

    fn combiner(&self) -> Combiner {
        Combiner::new(&self.prepared, self.offer, &self.points).unwrap()
    }

    fn by(&self, official: u8) -> PartialDecapsulation {
        self.answer(official, &self.offer, &self.points).unwrap()
    }

    fn answer(&self, official: u8, offer: &Hash, points: &[Point]) -> Result<PartialDecapsulation, DecapsulateError> {
        let share = &self.shares[usize::from(official) - 1];
        decapsulate(share, &self.key, place(official), offer, points, &mut OsRng)
    }

    /// Z_j = r_j·Y for C_j = r_j·G: what must come out, computed without any share.
    fn assert_open(&self, shared: &[SharedPoint]) {
        assert_eq!(shared.len(), self.points.len());
        for (z, r) in shared.iter().zip(&self.exponents) {
            assert_eq!(*z.expose(), self.key.key().mul(r));
            assert_eq!(z.x().expose(), &self.key.key().mul(r).xy().0);
        }
    }
}

fn place(official: u8) -> Position {
    Position::new(official).unwrap()
}

fn scalar(hex: &str) -> NonZeroScalar {
    NonZeroScalar::try_from(hex::decode(hex).unwrap().as_slice()).unwrap()
}

/// RFC 9497, appendix A.3.2: blinded elements, evaluation elements, ProofRandomScalar, Proof.
#[test]
fn the_rfcs_own_proofs_are_made_and_accepted() {
    let context = b"OPRFV1-\x01-P256-SHA256";
    let share = SecretScalar::new(scalar("ca5d94c8807817669a51b196c34c1b7f8442fde4334a7121ae4736364312fca6"));
    let public = Point::mul_generator(share.expose());
    assert_eq!(hex::encode(public.encode()), "03e17e70604bcabe198882c0a1f27a92441e774224ed9c702e51dd17038b102462");
    type Vector = (&'static [&'static str], &'static [&'static str], &'static str, &'static str);
    let vectors: [Vector; 3] = [
        (
            &["02dd05901038bb31a6fae01828fd8d0e49e35a486b5c5d4b4994013648c01277da"],
            &["0209f33cab60cf8fe69239b0afbcfcd261af4c1c5632624f2e9ba29b90ae83e4a2"],
            "f9db001266677f62c095021db018cd8cbb55941d4073698ce45c405d1348b7b1",
            "e7c2b3c5c954c035949f1f74e6bce2ed539a3be267d1481e9ddb178533df4c26\
             64f69d065c604a4fd953e100b856ad83804eb3845189babfa5a702090d6fc5fa",
        ),
        (
            &["03cd0f033e791c4d79dfa9c6ed750f2ac009ec46cd4195ca6fd3800d1e9b887dbd"],
            &["030d2985865c693bf7af47ba4d3a3813176576383d19aff003ef7b0784a0d83cf1"],
            "f9db001266677f62c095021db018cd8cbb55941d4073698ce45c405d1348b7b1",
            "2787d729c57e3d9512d3aa9e8708ad226bc48e0f1750b0767aaff73482c44b8d\
             2873d74ec88aebd3504961acea16790a05c542d9fbff4fe269a77510db00abab",
        ),
        (
            &[
                "02dd05901038bb31a6fae01828fd8d0e49e35a486b5c5d4b4994013648c01277da",
                "03462e9ae64cae5b83ba98a6b360d942266389ac369b923eb3d557213b1922f8ab",
            ],
            &[
                "0209f33cab60cf8fe69239b0afbcfcd261af4c1c5632624f2e9ba29b90ae83e4a2",
                "02bb24f4d838414aef052a8f044a6771230ca69c0a5677540fff738dd31bb69771",
            ],
            "350e8040f828bf6ceca27405420cdf3d63cb3aef005f40ba51943c8026877963",
            "bdcc351707d02a72ce49511c7db990566d29d6153ad6f8982fad2b435d6ce4d6\
             0da1e6b3fa740811bde34dd4fe0aa1b5fe6600d0440c9ddee95ea7fad7a60cf2",
        ),
    ];
    for (blinded, evaluated, random, expected) in vectors {
        let read = |list: &[&str]| -> Vec<Doubles> {
            list.iter().map(|hex| Doubles::new(Point::decode(&hex::decode(hex).unwrap()).unwrap())).collect()
        };
        let (bases, outputs) = (read(blinded), read(evaluated));
        let combs: Vec<Comb> = bases.iter().map(Comb::new).collect();
        for (comb, output) in combs.iter().zip(&outputs) {
            assert_eq!(Point::new(comb.mul(share.expose())).unwrap(), *output.point(), "EvaluationElement");
        }
        let partials: Vec<Point> = outputs.iter().map(|output| *output.point()).collect();
        let nonce = SecretScalar::new(scalar(random));
        let proof = proof::generate(context, &share, &public, &bases, &combs, &partials, &nonce).unwrap();
        let mut bytes = Writer::new();
        proof.write(&mut bytes);
        assert_eq!(hex::encode(bytes.finish()), expected, "Proof");
        let public = Doubles::new(public);
        assert!(proof::verify(context, &public, &bases, &outputs, &proof));
        assert!(!proof::verify(b"OPRFV1-\x02-P256-SHA256", &public, &bases, &outputs, &proof), "another context");
        assert!(!proof::verify(context, &public, &outputs, &bases, &proof), "points and answers exchanged");
        assert!(!proof::verify(context, &public, &bases, &[], &proof), "no answer");
    }
}

#[test]
fn every_set_of_k_officials_in_any_order_opens_the_points() {
    for (k, n, points) in [(1, 1, 1), (1, 3, 2), (2, 3, 1), (3, 5, 2), (4, 4, 1)] {
        let ceremony = Ceremony::new(k, n, points);
        let messages: Vec<PartialDecapsulation> = (1..=n).map(|official| ceremony.by(official)).collect();
        for set in (0_u32..1 << n).filter(|set| set.count_ones() == u32::from(k)) {
            let mut chosen: Vec<&PartialDecapsulation> =
                messages.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1).map(|(_, message)| message).collect();
            if set % 2 == 1 {
                chosen.reverse();
            }
            let mut combiner = ceremony.combiner();
            for (index, message) in chosen.into_iter().enumerate() {
                assert!(combiner.combine().is_err());
                let have = u8::try_from(index + 1).unwrap();
                assert_eq!(combiner.receive(message.clone()), Ok(Receipt::Accepted { have, need: k }));
            }
            ceremony.assert_open(&combiner.combine().unwrap());
            assert_eq!(combiner.culprits().count(), 0);
        }
    }
}

#[test]
fn a_quorum_of_twenty_of_thirty_two_opens_eight_points() {
    let ceremony = Ceremony::new(20, 32, MAX_POINTS);
    let mut combiner = ceremony.combiner();
    for official in (13..=32).rev() {
        combiner.receive(ceremony.by(official)).unwrap();
    }
    ceremony.assert_open(&combiner.combine().unwrap());
}

/// Goal: open two points of a 3-of-5 quorum. Official 2 sends everything that can be wrong before it sends what is right.
#[test]
fn no_bad_message_ends_a_ceremony() {
    let ceremony = Ceremony::new(3, 5, 2);
    let good = ceremony.by(2);
    let other_offer = Hash::of_bytes(b"another offer");
    let [first, second] = [ceremony.points[0], ceremony.points[1]];
    let from_2 = |partials: Vec<Point>, proof: Proof| PartialDecapsulation { position: place(2), partials, proof };
    let stranger = Point::mul_generator(&NonZeroScalar::random(&mut OsRng));
    let of_3 = ceremony.by(3);
    let bytes = |c: &Scalar, s: &Scalar| {
        let pair: [[u8; 32]; 2] = [c.to_bytes().into(), s.to_bytes().into()];
        Proof::read(&mut Reader::new(&pair.concat())).unwrap()
    };
    let proof_bytes = {
        let mut out = Writer::new();
        good.proof.write(&mut out);
        out.finish()
    };
    let [c, s] = [&proof_bytes[..32], &proof_bytes[32..]].map(|half| *scalar(&hex::encode(half)));
    let negated = |p: &Point| Point::new(-p.projective()).unwrap();

    let bad: Vec<(&str, PartialDecapsulation)> = vec![
        ("another official's halves and proof", from_2(of_3.partials.clone(), of_3.proof)),
        ("another official's halves", from_2(of_3.partials.clone(), good.proof)),
        ("one half replaced by a stranger's point", from_2(vec![good.partials[0], stranger], good.proof)),
        ("one half negated", from_2(vec![negated(&good.partials[0]), good.partials[1]], good.proof)),
        ("the ceremony's points themselves", from_2(vec![first, second], good.proof)),
        ("halves exchanged", from_2(vec![good.partials[1], good.partials[0]], good.proof)),
        ("halves for another offer", ceremony.answer(2, &other_offer, &ceremony.points).unwrap()),
        ("halves for the points in another order", ceremony.answer(2, &ceremony.offer, &[second, first]).unwrap()),
        ("halves for other points", ceremony.answer(2, &ceremony.offer, &[first, stranger]).unwrap()),
        ("challenge of zero", from_2(good.partials.clone(), bytes(&Scalar::ZERO, &s))),
        ("response of zero", from_2(good.partials.clone(), bytes(&c, &Scalar::ZERO))),
        ("both zero", from_2(good.partials.clone(), bytes(&Scalar::ZERO, &Scalar::ZERO))),
        ("challenge and response exchanged", from_2(good.partials.clone(), bytes(&s, &c))),
        ("response moved by one", from_2(good.partials.clone(), bytes(&c, &(s + Scalar::ONE)))),
    ];
    let mut combiner = ceremony.combiner();
    combiner.receive(ceremony.by(5)).unwrap();
    for (what, message) in bad {
        let refusal = combiner.receive(message).unwrap_err();
        assert_eq!(refusal, PartialError::BadProof { culprit: place(2) }, "{what}");
        assert_eq!(combiner.accepted().collect::<Vec<_>>(), [place(5)], "{what}");
    }
    for count in [1, 3] {
        let message = from_2(vec![good.partials[0]; count], good.proof);
        let refusal = PartialError::WrongCount { culprit: place(2), found: count, expected: 2 };
        assert_eq!(combiner.receive(message), Err(refusal));
    }
    let nobody = PartialDecapsulation { position: place(6), partials: good.partials.clone(), proof: good.proof };
    assert_eq!(combiner.receive(nobody), Err(PartialError::NoSuchOfficial { position: place(6), n: 5 }));

    // The same official now sends what is right, and then again: the same, and with a fresh proof.
    assert_eq!(combiner.receive(good.clone()), Ok(Receipt::Accepted { have: 2, need: 3 }));
    assert_eq!(combiner.receive(good.clone()), Ok(Receipt::AlreadyAccepted));
    assert_eq!(combiner.receive(ceremony.by(2)), Err(PartialError::Repeated { by: place(2) }));
    let NotEnough { have, need, missing } = not_enough(&combiner);
    assert_eq!((have, need, missing), (2, 3, vec![place(1), place(3), place(4)]));

    assert_eq!(combiner.receive(ceremony.by(4)), Ok(Receipt::Accepted { have: 3, need: 3 }));
    assert_eq!(combiner.receive(ceremony.by(1)), Err(PartialError::Late { by: place(1), need: 3 }));
    assert_eq!(combiner.receive(good), Ok(Receipt::AlreadyAccepted), "also when all are there");
    ceremony.assert_open(&combiner.combine().unwrap());
    ceremony.assert_open(&combiner.combine().unwrap());
    assert_eq!(combiner.culprits().collect::<Vec<_>>(), [place(2)]);
}

struct NotEnough {
    have: u8,
    need: u8,
    missing: Vec<Position>,
}

fn not_enough(combiner: &Combiner) -> NotEnough {
    match combiner.combine() {
        Err(CombineError::NotEnough { have, need, missing }) => NotEnough { have, need, missing },
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_official_cannot_speak_for_another() {
    let ceremony = Ceremony::new(2, 3, 1);
    let mut message = ceremony.by(1);
    message.position = place(2);
    let mut combiner = ceremony.combiner();
    assert_eq!(combiner.receive(message), Err(PartialError::BadProof { culprit: place(2) }));
    // With k = 1 everybody has the same share; the proof still says who it was.
    let ceremony = Ceremony::new(1, 2, 1);
    let mut message = ceremony.by(1);
    message.position = place(2);
    assert_eq!(ceremony.combiner().receive(message), Err(PartialError::BadProof { culprit: place(2) }));
}

#[test]
fn an_official_with_a_wrong_share_is_told_so_before_anything_is_sent() {
    let ceremony = Ceremony::new(2, 3, 1);
    let share = &ceremony.shares[0];
    for (position, expected) in [
        (2, DecapsulateError::WrongShare { position: place(2) }),
        (4, DecapsulateError::Official(QuorumError::NoSuchOfficial { position: 4, n: 3 })),
    ] {
        let result = decapsulate(share, &ceremony.key, place(position), &ceremony.offer, &ceremony.points, &mut OsRng);
        assert_eq!(result, Err(expected));
    }
}

#[test]
fn points_are_one_to_eight_and_distinct_on_both_sides() {
    let ceremony = Ceremony::new(2, 3, MAX_POINTS + 1);
    let twice = vec![ceremony.points[0], ceremony.points[1], ceremony.points[0]];
    for (points, expected) in [
        (vec![], PointsError::Count { found: 0 }),
        (ceremony.points.clone(), PointsError::Count { found: 9 }),
        (twice, PointsError::Repeated { first: 1, second: 3 }),
    ] {
        let refused = ceremony.answer(1, &ceremony.offer, &points);
        assert_eq!(refused, Err(DecapsulateError::Points(expected)));
        assert_eq!(Combiner::new(&ceremony.prepared, ceremony.offer, &points).unwrap_err(), expected);
    }
}

#[test]
fn a_message_reads_back_and_every_changed_byte_is_refused() {
    let ceremony = Ceremony::new(2, 3, 2);
    let good = ceremony.by(1);
    let bytes = good.encode();
    assert_eq!(PartialDecapsulation::decode(&bytes).unwrap(), good);
    let mut combiner = ceremony.combiner();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        if let Ok(message) = PartialDecapsulation::decode(&changed) {
            assert!(combiner.receive(message).is_err(), "byte {at} changed, and nobody noticed");
        }
        assert!(PartialDecapsulation::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
    assert_eq!(combiner.accepted().count(), 0);
    combiner.receive(good).unwrap();
    combiner.receive(ceremony.by(3)).unwrap();
    ceremony.assert_open(&combiner.combine().unwrap());
}

#[test]
fn the_longest_message_fits_and_a_longer_one_is_refused() {
    let ceremony = Ceremony::new(2, 3, MAX_POINTS);
    let good = ceremony.by(1);
    let bytes = good.encode();
    assert_eq!(bytes.len(), PartialDecapsulation::MAX_BYTES);
    assert_eq!(PartialDecapsulation::decode(&bytes).unwrap(), good);
    for partials in [vec![], vec![ceremony.points[0]; 9]] {
        let message = PartialDecapsulation { position: place(1), partials, proof: good.proof };
        assert!(PartialDecapsulation::decode(&message.encode()).is_err());
    }
    // The identity has no encoding of 33 bytes, and exponents above the group order are none.
    let start = bytes.len() - Proof::BYTES;
    for (range, fill) in [(start - POINT_BYTES..start, 0x00), (start..start + 32, 0xff), (start + 32..start + 64, 0xff)]
    {
        let mut changed = bytes.clone();
        changed[range].fill(fill);
        assert!(PartialDecapsulation::decode(&changed).is_err());
    }
}

#[test]
fn a_generator_that_repeats_itself_gives_no_share_away() {
    let ceremony = Ceremony::new(2, 3, 1);
    let other = Hash::of_bytes(b"another offer");
    let answer = |offer: &Hash| {
        let mut stuck = ChaCha20Rng::seed_from_u64(7);
        decapsulate(&ceremony.shares[0], &ceremony.key, place(1), offer, &ceremony.points, &mut stuck).unwrap()
    };
    assert_eq!(answer(&ceremony.offer), answer(&ceremony.offer), "one input, one proof");
    // Had both proofs one nonce r, the share would be (s - s') / (c' - c).
    let exponents = |proof: Proof| {
        let mut out = Writer::new();
        proof.write(&mut out);
        let bytes = out.finish();
        [&bytes[..32], &bytes[32..]].map(|half| *scalar(&hex::encode(half)))
    };
    let [c, s] = exponents(answer(&ceremony.offer).proof);
    let [c2, s2] = exponents(answer(&other).proof);
    assert_ne!((c2 - c).invert().unwrap() * (s - s2), **ceremony.shares[0].expose());
    assert_ne!(ceremony.by(1).proof, ceremony.by(1).proof, "fresh randomness counts too");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Messages come in any order, any number of times, some spoilt; the ceremony opens exactly when k good ones came.
    #[test]
    fn any_order_with_any_spoilt_messages_opens_exactly_at_k(
        (k, n) in (1_u8..=5).prop_flat_map(|n| (1..=n, Just(n))),
        points in 1_usize..=3,
        sent in prop::collection::vec((1_u8..=6, any::<bool>()), 1..14),
    ) {
        let ceremony = Ceremony::new(k, n, points);
        let stranger = Point::mul_generator(&NonZeroScalar::random(&mut OsRng));
        let mut combiner = ceremony.combiner();
        let mut accepted = Vec::new();
        for (official, spoilt) in sent {
            if official > n {
                let mut message = ceremony.by(1);
                message.position = place(official);
                prop_assert_eq!(combiner.receive(message), Err(PartialError::NoSuchOfficial { position: place(official), n }));
                continue;
            }
            let mut message = ceremony.by(official);
            if spoilt {
                message.partials[points - 1] = stranger;
            }
            let before = accepted.len();
            let counts = !spoilt && before < usize::from(k) && !accepted.contains(&official);
            if counts {
                accepted.push(official);
            }
            prop_assert_eq!(combiner.receive(message).is_ok(), counts);
            prop_assert_eq!(combiner.combine().is_ok(), accepted.len() == usize::from(k));
        }
        for official in 1..=n {
            let _ = combiner.receive(ceremony.by(official));
        }
        ceremony.assert_open(&combiner.combine().unwrap());
    }
}
