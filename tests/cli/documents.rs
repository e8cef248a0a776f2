//! One document of every kind, made through the library as the protocol makes them.

use chancery::protocol::{
    dkg::{Certified, Contribution, Gathering, Member, Message1, Message3, Refusal, Terms},
    group::Point,
    hash::Hash,
    ids::{Attempt, CharterId, Generation, QuorumKind},
    partial,
    quorum::Threshold,
    secret::SecretScalar,
    wire::Document,
};
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
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let secrets: Vec<SecretScalar> = (0..3).map(|_| SecretScalar::random(&mut rng)).collect();
    let keys = secrets.iter().map(|secret| Point::mul_generator(secret.expose())).collect();
    let charter = CharterId(Hash::of_bytes(b"the founding charter"));
    let terms =
        Terms::new(charter, QuorumKind::Unseal, Generation::FIRST, Threshold::new(2, 3).unwrap(), keys).unwrap();
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
