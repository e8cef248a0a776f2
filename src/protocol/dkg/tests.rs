//! Stories of DKGs: honest ones, and each way to cheat with who is blamed for it.

use super::{
    blame::{Culprit, Fault, Refusal},
    certificate::{Certificate, CertificateError, RecoveryData, RecoveryError},
    evidence::{Evidence, EvidenceError},
    gathering::Gathering,
    message::{Contribution, Message1, Message3},
    phase::{Certified, Reason, Round1, Round2},
    session::{Member, Session, Terms, TermsError},
    sharing::{self, Dealt, MIN_CIPHERTEXT_BYTES, Malformed, Setting, ShareFault},
    suite::{self, Route, Signature},
    transcript::{RecoverError, Transcript, TranscriptError},
    xaes,
};
use crate::protocol::{
    group::{Point, lagrange_at_zero},
    hash::Hash,
    ids::{Attempt, CharterId, Generation, QuorumKind},
    quorum::{Position, Threshold},
    secret::SecretScalar,
    wire::Document,
};
use p256::ProjectivePoint;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use zeroize::Zeroizing;

const CHEAT: usize = 1;

/// Officials with their keys, who all behave as the test says.
struct World {
    terms: Terms,
    secrets: Vec<SecretScalar>,
    rng: ChaCha20Rng,
}

fn place(number: u8) -> Position {
    Position::new(number).unwrap()
}

fn copy(secret: &SecretScalar) -> SecretScalar {
    SecretScalar::from_bytes(&secret.to_bytes()).unwrap()
}

impl World {
    fn new(k: u8, n: u8) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let secrets: Vec<SecretScalar> = (0..n).map(|_| SecretScalar::random(&mut rng)).collect();
        let keys = secrets.iter().map(|secret| Point::mul_generator(secret.expose())).collect();
        let charter = CharterId(Hash::of_bytes(b"the founding charter"));
        let terms =
            Terms::new(charter, QuorumKind::Unseal, Generation::FIRST, Threshold::new(k, n).unwrap(), keys).unwrap();
        Self { terms, secrets, rng }
    }

    fn member(&self, index: usize) -> Member {
        Member::new(self.terms.clone(), copy(&self.secrets[index])).unwrap()
    }

    fn gather(&mut self, attempt: Attempt) -> (Vec<Gathering>, Vec<Contribution>) {
        let members: Vec<Member> = (0..self.secrets.len()).map(|index| self.member(index)).collect();
        let (mut phases, contributions): (Vec<_>, Vec<_>) =
            members.into_iter().map(|member| Gathering::start(member, attempt, &mut self.rng).unwrap()).unzip();
        for (index, phase) in phases.iter_mut().enumerate() {
            for (from, contribution) in contributions.iter().enumerate() {
                if from != index {
                    phase.accept(contribution).unwrap();
                }
            }
        }
        (phases, contributions)
    }

    fn deal(&mut self, attempt: Attempt) -> (Vec<Round1>, Vec<Message1>) {
        let (phases, _) = self.gather(attempt);
        phases.into_iter().map(|phase| phase.complete(&mut self.rng).unwrap()).unzip()
    }

    fn certify(&mut self, attempt: Attempt) -> (Vec<Round2>, Vec<Message3>) {
        let (phases, messages) = self.deal(attempt);
        certify(phases, &messages)
    }

    fn finish(&mut self, attempt: Attempt) -> Vec<Certified> {
        let (phases, messages) = self.certify(attempt);
        finish(phases, &messages)
    }

    fn setting<'a>(&'a self, session: &'a Session, index: usize) -> Setting<'a> {
        Setting {
            threshold: self.terms.threshold(),
            static_keys: self.terms.static_keys(),
            context: session.context().as_bytes(),
            own: place(u8::try_from(index + 1).unwrap()),
            secret: &self.secrets[index],
        }
    }

    /// What the cheat deals before it is changed.
    fn dealt(&mut self, session: &Session) -> (Dealt, SecretScalar) {
        let mut rng = ChaCha20Rng::seed_from_u64(11);
        sharing::deal(&self.setting(session, CHEAT), &mut rng, |_| &[]).unwrap()
    }

    fn signed(&self, session: &Session, body: Vec<u8>, ephemeral: &SecretScalar) -> Message1 {
        Message1::sign(session, place(2), &self.secrets[CHEAT], body, ephemeral).unwrap()
    }
}

fn certify(mut phases: Vec<Round1>, messages: &[Message1]) -> (Vec<Round2>, Vec<Message3>) {
    for phase in &mut phases {
        for from in phase.missing() {
            phase.accept(&messages[from.index()]).unwrap();
        }
    }
    phases.into_iter().map(|phase| phase.complete().unwrap()).unzip()
}

fn finish(mut phases: Vec<Round2>, messages: &[Message3]) -> Vec<Certified> {
    for phase in &mut phases {
        for from in phase.missing() {
            phase.accept(&messages[from.index()]).unwrap();
        }
    }
    phases.into_iter().map(|phase| phase.complete().unwrap()).collect()
}

/// The refusal names the cheat, says what it did, and carries evidence that convinces a judge who has the charter only.
fn assert_blamed(refusal: &Refusal, fault: Fault, terms: &Terms) {
    let Refusal::Cheated { official, fault: found, evidence } = refusal else {
        panic!("expected {fault:?}, found {refusal:?}");
    };
    assert_eq!((*official, *found), (place(2), fault));
    assert_eq!(refusal.culprits(), [Culprit::Official(place(2))]);
    let read = Evidence::decode(&evidence.encode()).unwrap();
    assert_eq!(read.verify(terms), Ok((place(2), fault)));
}

#[test]
fn every_size_of_quorum_agrees_and_recovers() {
    for (k, n) in [(1, 1), (1, 2), (2, 2), (2, 3), (3, 5), (4, 4)] {
        let mut world = World::new(k, n);
        let certified = world.finish(Attempt::FIRST);
        let key = &certified[0].key;
        for (index, own) in certified.iter().enumerate() {
            assert_eq!(&own.key, key);
            assert_eq!(own.recovery, certified[0].recovery);
            let position = place(u8::try_from(index + 1).unwrap());
            assert_eq!(key.share(position), Ok(&Point::mul_generator(own.share.expose())));
            let data = RecoveryData::decode(&own.recovery.encode()).unwrap();
            assert_eq!(data.certificate().verify(&world.terms).as_ref(), Ok(key));
            let (found, share, public) = data.recover(&world.terms, own.member.secret()).unwrap();
            assert_eq!((found, &public), (position, key));
            assert!(share == own.share);
        }
        // Any k together hold Y: checked on points, so that not even this test adds up shares.
        let members: Vec<Position> = world.terms.threshold().positions().skip(usize::from(n - k)).collect();
        let sum: ProjectivePoint = members
            .iter()
            .map(|own| key.share(*own).unwrap().projective() * lagrange_at_zero(*own, &members).unwrap())
            .sum();
        assert_eq!(sum, key.key().projective());
    }
}

#[test]
fn documents_read_back_and_refuse_every_changed_byte() {
    let mut world = World::new(2, 3);
    let (_, contributions) = world.gather(Attempt::FIRST);
    let (mut phases, messages) = world.deal(Attempt::FIRST);
    let session = phases[0].session().clone();
    let contribution = contributions[CHEAT].encode();
    assert_eq!(Contribution::decode(&contribution).unwrap(), contributions[CHEAT]);
    for at in 0..contribution.len() {
        let mut bad = contribution.clone();
        bad[at] ^= 1;
        assert!(Contribution::decode(&bad).is_err() || !Contribution::decode(&bad).unwrap().is_authentic(&world.terms));
    }
    let message = messages[CHEAT].encode();
    assert_eq!(Message1::decode(&message).unwrap(), messages[CHEAT]);
    for at in 0..message.len() {
        let mut bad = message.clone();
        bad[at] ^= 1;
        let Ok(bad) = Message1::decode(&bad) else { continue };
        let refusal = phases[0].accept(&bad).unwrap_err();
        assert_eq!(refusal.culprits(), [Culprit::Relay], "byte {at}: {refusal}");
    }
    let (_, certifications) = certify(phases, &messages);
    let certification = certifications[CHEAT].encode();
    assert_eq!(Message3::decode(&certification).unwrap(), certifications[CHEAT]);
    for at in 0..certification.len() {
        let mut bad = certification.clone();
        bad[at] ^= 1;
        assert!(Message3::decode(&bad).is_err() || !Message3::decode(&bad).unwrap().is_authentic(&session));
    }
}

#[test]
fn a_malformed_polynomial_is_blamed_on_its_dealer_and_the_right_one_still_counts() {
    let mut world = World::new(2, 3);
    let (mut phases, messages) = world.deal(Attempt::FIRST);
    let session = phases[0].session().clone();
    let (dealt, ephemeral) = world.dealt(&session);
    let good = dealt.encode();
    let with = |change: &dyn Fn(&mut Dealt)| {
        let mut bad = dealt.clone();
        change(&mut bad);
        bad.encode()
    };
    let zeros = |at: usize| {
        let mut bad = good.clone();
        bad[at..at + 33].fill(0);
        bad
    };
    let frames = 2 * 33 + 65 + 33;
    let mut length = good.clone();
    length[frames..frames + 8].fill(0xff);
    let cases: Vec<(Vec<u8>, Malformed)> = vec![
        (with(&|bad| bad.commitment.push(Point::GENERATOR)), Malformed::CommitmentCount { found: 3, expected: 2 }),
        (with(&|bad| bad.commitment.truncate(1)), Malformed::CommitmentCount { found: 1, expected: 2 }),
        (with(&|bad| bad.commitment.clear()), Malformed::CommitmentCount { found: 0, expected: 2 }),
        (good[..good.len() - 1].to_vec(), Malformed::Truncated),
        (Vec::new(), Malformed::Truncated),
        ([&good[..], &[0]].concat(), Malformed::Trailing(1)),
        (zeros(0), Malformed::Point(0)),
        (zeros(33), Malformed::Point(1)),
        (zeros(2 * 33 + 65), Malformed::Point(2)),
        (length, Malformed::CiphertextLength(place(1))),
        (with(&|bad| bad.ciphertexts[1].push(0)), Malformed::CiphertextLength(place(2))),
        (with(&|bad| bad.ciphertexts[2].truncate(MIN_CIPHERTEXT_BYTES - 1)), Malformed::CiphertextLength(place(3))),
    ];
    for (body, malformed) in cases {
        let refusal = phases[0].accept(&world.signed(&session, body, &ephemeral)).unwrap_err();
        assert_blamed(&refusal, Fault::Malformed(malformed), &world.terms);
    }
    let (phases, certifications) = certify(phases, &messages);
    finish(phases, &certifications);
}

#[test]
fn missing_proofs_are_blamed_on_the_dealer() {
    let mut world = World::new(2, 3);
    let (mut phases, messages) = world.deal(Attempt::FIRST);
    let session = phases[0].session().clone();
    let (dealt, ephemeral) = world.dealt(&session);

    // A key of which the dealer only knows the public half, such as another's.
    let other = SecretScalar::random(&mut world.rng);
    let refusal = phases[0].accept(&world.signed(&session, dealt.encode(), &other)).unwrap_err();
    assert_blamed(&refusal, Fault::EphemeralKey, &world.terms);

    let mut rogue = dealt.clone();
    rogue.commitment[0] = Point::GENERATOR;
    let refusal = phases[0].accept(&world.signed(&session, rogue.encode(), &ephemeral)).unwrap_err();
    assert_blamed(&refusal, Fault::Possession, &world.terms);

    // Another's whole message under the own name: its ephemeral key is not the copier's.
    let copied = world.signed(&session, messages[2].body.clone(), &ephemeral);
    let refusal = phases[0].accept(&copied).unwrap_err();
    assert_blamed(&refusal, Fault::EphemeralKey, &world.terms);

    certify(phases, &messages);
}

/// Encrypts any bytes to one recipient, as the cheat can.
fn encrypt(
    world: &World,
    session: &Session,
    dealt: &Dealt,
    ephemeral: &SecretScalar,
    to: usize,
    text: &[u8],
) -> Vec<u8> {
    let recipient = &world.terms.static_keys()[to];
    let route = Route {
        ephemeral: &dealt.ephemeral,
        sender: &world.terms.static_keys()[CHEAT],
        recipient,
        context: session.context().as_bytes(),
    };
    let fixed = suite::agree(&world.secrets[CHEAT], recipient);
    let (key, nonce) = suite::share_key(&suite::agree(ephemeral, recipient), &fixed, &route);
    xaes::seal(&key, &nonce, Zeroizing::new(text.to_vec()))
}

#[test]
fn a_bad_share_is_blamed_by_its_recipient_and_any_judge_agrees() {
    let mut world = World::new(2, 3);
    let (mut phases, messages) = world.deal(Attempt::FIRST);
    let session = phases[0].session().clone();
    let (dealt, ephemeral) = world.dealt(&session);
    let cases = [
        (vec![7; MIN_CIPHERTEXT_BYTES], ShareFault::Undecryptable),
        (encrypt(&world, &session, &dealt, &ephemeral, 0, &[0xff; 32]), ShareFault::NotCanonical),
        (encrypt(&world, &session, &dealt, &ephemeral, 0, &[1; 32]), ShareFault::NotCommitted),
        (encrypt(&world, &session, &dealt, &ephemeral, 0, &[0; 32]), ShareFault::NotCommitted),
        (dealt.ciphertexts[2].clone(), ShareFault::Undecryptable),
    ];
    for (ciphertext, fault) in cases {
        let mut bad = dealt.clone();
        bad.ciphertexts[0] = ciphertext;
        let message = world.signed(&session, bad.encode(), &ephemeral);
        let refusal = phases[0].accept(&message).unwrap_err();
        assert_blamed(&refusal, Fault::Share { recipient: place(1), fault }, &world.terms);
        if phases[2].missing().contains(&place(2)) {
            phases[2].accept(&message).expect("who got a good share has no complaint");
        }
    }
    // It cannot finish either: the others never certify what it accepted.
    phases[2].accept(&messages[0]).unwrap();
    let (_, misled) = phases.pop().unwrap().complete().unwrap();
    phases[0].accept(&messages[1]).unwrap();
    phases[0].accept(&messages[2]).unwrap();
    let (mut first, _) = phases.swap_remove(0).complete().unwrap();
    assert_eq!(first.accept(&misled), Err(Refusal::Disagreement { from: place(3), about: vec![place(2)] }));
}

#[test]
fn a_recipient_cannot_frame_an_honest_dealer() {
    let mut world = World::new(2, 3);
    let (phases, messages) = world.deal(Attempt::FIRST);
    let session = phases[0].session().clone();
    let honest = &messages[2];
    let dealt = Dealt::parse(&honest.body, world.terms.threshold(), MIN_CIPHERTEXT_BYTES).unwrap();
    let setting = world.setting(&session, CHEAT);

    let claim = Evidence::share(&session, &setting, honest, &dealt);
    assert_eq!(claim.verify(&world.terms), Err(EvidenceError::NothingWrong(place(3))));
    let claim = Evidence::message(&session, honest);
    assert_eq!(claim.verify(&world.terms), Err(EvidenceError::NothingWrong(place(3))));
    let claim = Evidence::messages(&session, honest, honest);
    assert_eq!(claim.verify(&world.terms), Err(EvidenceError::NothingWrong(place(3))));

    // Points made with another key than the recipient's do not open the share, and prove nothing.
    let other = SecretScalar::random(&mut ChaCha20Rng::seed_from_u64(1));
    let claim = Evidence::share(&session, &Setting { secret: &other, ..setting }, honest, &dealt);
    assert_eq!(claim.verify(&world.terms), Err(EvidenceError::Proof));

    // Words put in its mouth.
    let mut forged = honest.clone();
    forged.body[0] ^= 1;
    for claim in [Evidence::message(&session, &forged), Evidence::messages(&session, honest, &forged)] {
        assert_eq!(claim.verify(&world.terms), Err(EvidenceError::NotSigned(place(3))));
    }

    // Changed on the way to the judge: refused, or about nobody but an official that really signed.
    let (cheating, ephemeral) = world.dealt(&session);
    let guilty = {
        let mut bad = cheating.clone();
        bad.ciphertexts[0] = vec![0; MIN_CIPHERTEXT_BYTES];
        let message = world.signed(&session, bad.encode(), &ephemeral);
        Evidence::share(&session, &world.setting(&session, 0), &message, &bad).encode()
    };
    let fault = Fault::Share { recipient: place(1), fault: ShareFault::Undecryptable };
    assert_eq!(Evidence::decode(&guilty).unwrap().verify(&world.terms), Ok((place(2), fault)));
    for at in (0..guilty.len()).step_by(3) {
        let mut changed = guilty.clone();
        changed[at] ^= 1;
        let verdict = Evidence::decode(&changed).ok().map(|evidence| evidence.verify(&world.terms));
        assert!(!matches!(verdict, Some(Ok(_))), "byte {at}: {verdict:?}");
    }
}

#[test]
fn the_relay_is_blamed_for_what_nobody_signed_and_for_replays() {
    let mut world = World::new(2, 3);
    let (_, old_contributions) = world.gather(Attempt::FIRST);
    let (_, old) = world.deal(Attempt::FIRST);
    let (_, old_certifications) = world.certify(Attempt::FIRST);
    let second = Attempt::new(2).unwrap();

    let members = [0, 1, 2].map(|index| world.member(index));
    let [mut gathering, ..] = members.map(|member| Gathering::start(member, second, &mut world.rng).unwrap().0);
    let refusal = gathering.accept(&old_contributions[1]).unwrap_err();
    assert!(matches!(refusal, Refusal::OtherAttempt { .. }));
    let relabelled = Contribution { attempt: second, ..old_contributions[1].clone() };
    let refusal = gathering.accept(&relabelled).unwrap_err();
    assert_eq!((refusal.culprits(), gathering.missing().len()), (vec![Culprit::Relay], 2));

    let (mut phases, messages) = world.deal(second);
    let refusal = phases[0].accept(&old[1]).unwrap_err();
    assert_eq!(refusal, Refusal::NotAuthentic { from: place(2) });
    assert_eq!(refusal.culprits(), [Culprit::Relay]);
    let nobody = Message1 { from: place(4), ..messages[1].clone() };
    assert!(matches!(phases[0].accept(&nobody), Err(Refusal::NoSuchOfficial(_))));
    let swapped = Message1 { from: place(3), ..messages[1].clone() };
    assert_eq!(phases[0].accept(&swapped), Err(Refusal::NotAuthentic { from: place(3) }));
    phases[0].accept(&messages[1]).unwrap();
    assert_eq!(phases[0].accept(&messages[1]), Err(Refusal::Repeated { from: place(2) }));
    assert_eq!(phases[0].accept(&messages[0]), Err(Refusal::Repeated { from: place(1) }), "its own, come back");

    let (mut phases, certifications) = certify(phases, &messages);
    assert_eq!(phases[0].accept(&old_certifications[1]), Err(Refusal::NotAuthentic { from: place(2) }));
    assert_eq!(phases[0].judge(&messages[1]), Refusal::Repeated { from: place(2) }, "late, and harmless");
    assert_eq!(phases[0].judge(&old[1]), Refusal::NotAuthentic { from: place(2) });
    phases[0].accept(&certifications[1]).unwrap();
    assert_eq!(phases[0].accept(&certifications[1]), Err(Refusal::Repeated { from: place(2) }));
    finish(phases, &certifications);
}

#[test]
fn a_split_view_never_ends_in_two_keys_and_its_maker_is_found() {
    let mut world = World::new(2, 3);
    let (mut phases, messages) = world.deal(Attempt::FIRST);
    let session = phases[0].session().clone();
    let (dealt, ephemeral) = world.dealt(&session);
    let other = world.signed(&session, dealt.encode(), &ephemeral);
    // Official 2 signs two polynomials; the relay shows one to official 1, the other to official 3.
    phases[0].accept(&messages[1]).unwrap();
    phases[0].accept(&messages[2]).unwrap();
    phases[2].accept(&messages[0]).unwrap();
    phases[2].accept(&other).unwrap();
    let third = phases.pop().unwrap();
    let first = phases.swap_remove(0);
    let ((mut first, _), (_, from_third)) = (first.complete().unwrap(), third.complete().unwrap());
    let refusal = first.accept(&from_third).unwrap_err();
    assert_eq!(refusal, Refusal::Disagreement { from: place(3), about: vec![place(2)] });
    assert_eq!((refusal.culprits(), refusal.suspects()), (vec![], vec![place(3), place(2)]));
    assert_blamed(&first.judge(&other), Fault::Equivocation, &world.terms);
    let unfinished = first.complete().unwrap_err();
    assert_eq!(unfinished.reason, Reason::Waiting(vec![place(2), place(3)]));
    // Nothing is lost: the key comes back for another attempt.
    assert_eq!(unfinished.phase.abandon().position(), place(1));
    world.finish(Attempt::new(2).unwrap());
}

#[test]
fn equivocation_is_shown_in_every_round() {
    let mut world = World::new(2, 3);
    let (mut gatherings, _) = world.gather(Attempt::FIRST);
    let another = Contribution::new(&world.member(CHEAT), Attempt::FIRST, &mut world.rng).unwrap();
    let refusal = gatherings[0].accept(&another).unwrap_err();
    assert_blamed(&refusal, Fault::Equivocation, &world.terms);

    let (mut phases, messages) = world.deal(Attempt::FIRST);
    assert_blamed(&phases[0].judge(&another), Fault::Equivocation, &world.terms);
    let late = phases[0].contributions()[1].clone();
    assert_eq!(phases[0].judge(&late), Refusal::Repeated { from: place(2) });
    let session = phases[0].session().clone();
    phases[0].accept(&messages[1]).unwrap();
    let (dealt, ephemeral) = world.dealt(&session);
    let refusal = phases[0].accept(&world.signed(&session, dealt.encode(), &ephemeral)).unwrap_err();
    assert_blamed(&refusal, Fault::Equivocation, &world.terms);

    let (mut phases, certifications) = certify(phases, &messages);
    phases[0].accept(&certifications[1]).unwrap();
    let digests = vec![Hash::of_bytes(b"another"); 3];
    let another =
        Message3::sign(&session, place(2), &world.secrets[CHEAT], digests, certifications[1].certified).unwrap();
    assert_blamed(&phases[0].accept(&another).unwrap_err(), Fault::Equivocation, &world.terms);
    finish(phases, &certifications);
}

#[test]
fn a_bad_certification_is_blamed_and_the_right_one_still_counts() {
    let mut world = World::new(2, 3);
    let (mut phases, certifications) = world.certify(Attempt::FIRST);
    let session = phases[0].session().clone();
    let digests = certifications[0].accepted.clone();
    let bad = Signature::sign(&world.secrets[CHEAT], b"another transcript").unwrap();
    let bad = Message3::sign(&session, place(2), &world.secrets[CHEAT], digests, bad).unwrap();
    assert_blamed(&phases[0].accept(&bad).unwrap_err(), Fault::Certification, &world.terms);
    let good = certifications[1].certified;
    for count in [0, 4] {
        let mut digests = certifications[0].accepted.clone();
        digests.resize(count, Hash::of_bytes(b"more"));
        let bad = Message3::sign(&session, place(2), &world.secrets[CHEAT], digests, good).unwrap();
        assert!(phases[2].accept(&bad).unwrap_err().culprits() == [Culprit::Official(place(2))]);
    }
    phases.truncate(1);
    let honest = finish(phases, &certifications);
    assert_eq!(honest.len(), 1);
    let claim = Evidence::certification(&session, &[], &certifications[2]);
    assert_eq!(claim.verify(&world.terms), Err(EvidenceError::Unrelated));
}

#[test]
fn a_restart_goes_on_with_the_recorded_messages_and_with_no_others() {
    let mut world = World::new(2, 3);
    let (gatherings, contributions) = world.gather(Attempt::FIRST);
    let (phases, messages): (Vec<_>, Vec<_>) =
        gatherings.into_iter().map(|phase| phase.complete(&mut world.rng).unwrap()).unzip();
    let (mut phases, certifications) = certify(phases, &messages);

    // Official 1's machine lost everything but its key and the recorded documents.
    let mut gathering = Gathering::resume(world.member(0), contributions[0].clone()).unwrap();
    for contribution in &contributions[1..] {
        gathering.accept(contribution).unwrap();
    }
    let not_own = gathering.resume_round1(messages[1].clone()).unwrap_err();
    assert!(matches!(not_own.reason, Reason::Resume(Refusal::NotAuthentic { .. })));
    let (mut round1, _) = not_own.phase.resume_round1(messages[0].clone()).unwrap();
    round1.accept(&messages[1]).unwrap();
    let unfinished = round1.resume_round2(certifications[0].clone()).unwrap_err();
    assert_eq!(unfinished.reason, Reason::Waiting(vec![place(3)]));
    let mut round1 = *unfinished.phase;
    round1.accept(&messages[2]).unwrap();
    let (round2, again) = round1.resume_round2(certifications[0].clone()).unwrap();
    assert_eq!(again, certifications[0]);
    phases[0] = round2;
    finish(phases, &certifications);

    // With other polynomials than before, what it certified does not fit, and it makes no second certification.
    let mut gathering = Gathering::resume(world.member(0), contributions[0].clone()).unwrap();
    contributions[1..].iter().for_each(|contribution| gathering.accept(contribution).unwrap());
    let (mut round1, _) = gathering.resume_round1(messages[0].clone()).unwrap();
    let session = round1.session().clone();
    let (dealt, ephemeral) = world.dealt(&session);
    round1.accept(&world.signed(&session, dealt.encode(), &ephemeral)).unwrap();
    round1.accept(&messages[2]).unwrap();
    let refused = round1.resume_round2(certifications[0].clone()).unwrap_err();
    assert!(matches!(refused.reason, Reason::Resume(Refusal::Disagreement { .. })));
    assert!(Gathering::resume(world.member(0), contributions[1].clone()).is_err());
}

#[test]
fn only_distinct_keys_of_all_officials_are_terms() {
    let world = World::new(2, 3);
    let keys = world.terms.static_keys();
    let terms = |keys: Vec<Point>| {
        let threshold = world.terms.threshold();
        Terms::new(world.terms.charter(), QuorumKind::Recovery, Generation::FIRST, threshold, keys)
    };
    assert_eq!(terms(keys[..2].to_vec()), Err(TermsError::KeyCount { found: 2, n: 3 }));
    let repeated = Err(TermsError::RepeatedKey { first: place(1), second: place(3) });
    assert_eq!(terms(vec![keys[0], keys[1], keys[0]]), repeated);
    let stranger = SecretScalar::random(&mut ChaCha20Rng::seed_from_u64(3));
    assert_eq!(Member::new(world.terms.clone(), stranger).unwrap_err(), TermsError::NotAMember);
    let session = Session::new(world.terms.clone(), Attempt::FIRST, vec![[0; 32]; 4]);
    assert_eq!(session, Err(TermsError::ContributionCount { found: 4, n: 3 }));
}

#[test]
fn a_certificate_holds_for_its_quorum_only_and_altered_records_are_detected() {
    let mut world = World::new(2, 3);
    let certified = world.finish(Attempt::FIRST);
    let data = &certified[0].recovery;
    let keys = world.terms.static_keys().to_vec();
    let (charter, threshold) = (world.terms.charter(), world.terms.threshold());
    let other = |kind, generation, charter, keys| Terms::new(charter, kind, generation, threshold, keys).unwrap();
    let elsewhere = CharterId(Hash::of_bytes(b"another charter"));
    let second = Generation::new(2).unwrap();
    let mut reordered = keys.clone();
    reordered.swap(0, 1);
    for terms in [
        other(QuorumKind::Recovery, Generation::FIRST, charter, keys.clone()),
        other(QuorumKind::Unseal, second, charter, keys.clone()),
        other(QuorumKind::Unseal, Generation::FIRST, elsewhere, keys.clone()),
        other(QuorumKind::Unseal, Generation::FIRST, charter, reordered),
    ] {
        assert_eq!(data.certificate().verify(&terms), Err(CertificateError::OtherSession));
    }
    let stranger = SecretScalar::random(&mut world.rng);
    let refused = data.recover(&world.terms, &stranger).unwrap_err();
    assert_eq!(refused, RecoveryError::Recover(RecoverError::NotAParticipant));

    let bytes = data.encode();
    let mut altered = 0;
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        let Ok(bad) = RecoveryData::decode(&bad) else { continue };
        // Checking every byte takes minutes without optimization; the ciphertexts are at the end and cheap to tell.
        if at % 23 == 0 {
            let error = bad.verify(&world.terms).unwrap_err();
            altered += usize::from(error == RecoveryError::Altered);
        }
    }
    assert!(altered > 10, "{altered}");
}

#[test]
fn a_transcript_reads_only_as_it_is_written() {
    let mut world = World::new(2, 3);
    let certified = world.finish(Attempt::FIRST);
    let bytes = certified[0].recovery.certificate().transcript();
    let agreed = Transcript::parse(bytes).unwrap();
    assert_eq!(agreed.encode(), bytes);
    for end in 0..bytes.len() {
        assert!(Transcript::parse(&bytes[..end]).is_err());
    }
    assert_eq!(Transcript::parse(&[bytes, &[0]].concat()), Err(TranscriptError::Trailing(1)));
    let changed = |at: usize, value: &[u8]| {
        let mut bad = bytes.to_vec();
        bad[at..at + value.len()].copy_from_slice(value);
        Transcript::parse(&bad)
    };
    let numbers = 8 + suite::ID.len() + 8 + 32;
    assert_eq!(changed(8, b"K"), Err(TranscriptError::Ciphersuite));
    assert_eq!(changed(0, &[0xff; 8]), Err(TranscriptError::TooLong));
    for (n, t) in [(0u32, 0u32), (3, 0), (3, 4), (33, 2), (1 << 16, 2), (u32::MAX, u32::MAX)] {
        let value = [n.to_le_bytes(), t.to_le_bytes()].concat();
        assert_eq!(changed(numbers, &value), Err(TranscriptError::Threshold), "{n}, {t}");
    }
    let keys = numbers + 8;
    assert_eq!(changed(keys, &[0; 33]), Err(TranscriptError::Point));
    let second = world.terms.static_keys()[1].encode();
    assert_eq!(changed(keys, &second), Err(TranscriptError::RepeatedKey));
}

#[test]
fn the_largest_quorum_s_documents_fit_their_bounds() {
    let world = World::new(1, 32);
    let keys = world.terms.static_keys().to_vec();
    let terms = {
        let threshold = Threshold::new(32, 32).unwrap();
        Terms::new(world.terms.charter(), QuorumKind::Recovery, Generation::FIRST, threshold, keys.clone()).unwrap()
    };
    let session = Session::new(terms.clone(), Attempt::FIRST, vec![[7; 32]; 32]).unwrap();
    let signature = Signature([7; 65]);
    let dealt = Dealt {
        commitment: keys.clone(),
        proof: signature,
        ephemeral: keys[0],
        ciphertexts: vec![vec![7; MIN_CIPHERTEXT_BYTES]; 32],
    };
    let message = world.signed(&session, dealt.encode(), &world.secrets[0]);
    assert_eq!(Message1::decode(&message.encode()).unwrap(), message);
    let digests = vec![message.digest(); 32];
    let certification = Message3::sign(&session, place(2), &world.secrets[CHEAT], digests, signature).unwrap();
    assert_eq!(Message3::decode(&certification.encode()).unwrap(), certification);
    let evidence = Evidence::certification(&session, &vec![message; 32], &certification);
    assert_eq!(Evidence::decode(&evidence.encode()).unwrap(), *evidence);
    let transcript =
        Transcript::new(session.context().as_bytes(), terms.threshold(), &keys, &[&dealt; 32], &[7; 32]).encode();
    let certificate = Certificate::new(&session, Hash::of_bytes(b"ciphertexts"), transcript, vec![signature; 32]);
    assert_eq!(Certificate::decode(&certificate.encode()).unwrap(), certificate);
    let bundle = sharing::bundle(dealt.ciphertexts.iter().map(Vec::as_slice));
    let data = RecoveryData::new(certificate, vec![bundle; 32]);
    assert_eq!(RecoveryData::decode(&data.encode()).unwrap(), data);
}
