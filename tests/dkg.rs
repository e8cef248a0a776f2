//! The DKG among honest officials, one who may cheat, and a relay that does what it likes.
//!
//! Two invariants, for whatever plan proptest draws. **Agreement**: honest officials never finish with different keys.
//! **Blame**: a refusal names only the cheat or the relay, and evidence against the cheat convinces a judge who has only the
//! charter. And what goes wrong ends nothing: without a cheat everyone finishes once the relay delivers, and with one
//! another attempt succeeds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{collections::BTreeMap, fmt::Debug};

use chancery::protocol::{
    dkg::{
        Certificate, Certified, Contribution, Culprit, Evidence, Gathering, Member, Message1, Message3, RecoveryData,
        Refusal, Round1, Round2, Session, Terms,
        session::ciphertexts_hash,
        sharing::{self, Dealt, MIN_CIPHERTEXT_BYTES, Setting},
        suite::Signature,
        transcript::Transcript,
    },
    group::Point,
    hash::Hash,
    ids::{Attempt, CharterId, Generation, QuorumKind},
    quorum::{Position, Threshold},
    secret::SecretScalar,
    wire::Document,
};
use proptest::prelude::*;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

/// What the relay does with one message on its way to one official. What it leaves out of the plan, it drops; the plan's
/// order is the order of arrival.
#[derive(Clone, Copy, Debug)]
enum Act {
    Deliver,
    Alter { at: u16, bit: u8 },
    Replay,
    Relabel,
}

#[derive(Clone, Copy, Debug)]
struct Delivery {
    from: u8,
    to: u8,
    act: Act,
}

/// What the cheat does in round 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dealing {
    Fair,
    NoPossession,
    NoEphemeral,
    /// One official gets a share that is none: does not decrypt, is no number, or is on another polynomial.
    BadShare(u8),
    OtherDegree {
        more: bool,
    },
    Rubbish,
    OnePerRecipient,
}

/// What the cheat does in round 3. Fairly, it certifies to each official whatever that official holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certifying {
    Fair,
    BadSignature,
    OtherDigests,
    Both,
}

#[derive(Clone, Copy, Debug)]
struct Cheat {
    place: u8,
    two_contributions: bool,
    dealing: Dealing,
    /// Sends a fair message after the bad one.
    mends: bool,
    certifying: Certifying,
}

#[derive(Clone, Debug)]
struct Plan {
    k: u8,
    n: u8,
    cheat: Option<Cheat>,
    rounds: [Vec<Delivery>; 3],
    /// In the end the relay delivers everything to everyone.
    gives_in: bool,
}

fn deliveries() -> impl Strategy<Value = Vec<Delivery>> {
    let act = prop_oneof![
        4 => Just(Act::Deliver),
        2 => (any::<u16>(), 0u8..8).prop_map(|(at, bit)| Act::Alter { at, bit }),
        1 => Just(Act::Replay),
        1 => Just(Act::Relabel),
    ];
    let one = (any::<u8>(), any::<u8>(), act).prop_map(|(from, to, act)| Delivery { from, to, act });
    proptest::collection::vec(one, 0..10)
}

fn plans() -> impl Strategy<Value = Plan> {
    let dealing = prop_oneof![
        2 => Just(Dealing::Fair),
        1 => Just(Dealing::NoPossession),
        1 => Just(Dealing::NoEphemeral),
        2 => (0u8..3).prop_map(Dealing::BadShare),
        1 => any::<bool>().prop_map(|more| Dealing::OtherDegree { more }),
        1 => Just(Dealing::Rubbish),
        2 => Just(Dealing::OnePerRecipient),
    ];
    let certifying = prop_oneof![
        3 => Just(Certifying::Fair),
        1 => Just(Certifying::BadSignature),
        1 => Just(Certifying::OtherDigests),
        1 => Just(Certifying::Both),
    ];
    let cheat = (any::<u8>(), proptest::bool::weighted(0.15), dealing, any::<bool>(), certifying).prop_map(
        |(place, two_contributions, dealing, mends, certifying)| Cheat {
            place,
            two_contributions,
            dealing,
            mends,
            certifying,
        },
    );
    let size = prop_oneof![1 => Just((2, 2)), 4 => Just((2, 3)), 1 => Just((3, 4))];
    (size, proptest::option::weighted(0.75, cheat), [deliveries(), deliveries(), deliveries()], any::<bool>()).prop_map(
        |((k, n), cheat, rounds, gives_in)| {
            let cheat = cheat.map(|cheat| Cheat { place: cheat.place % n + 1, ..cheat });
            Plan { k, n, cheat, rounds, gives_in }
        },
    )
}

type By<T> = BTreeMap<Position, T>;

struct World {
    terms: Terms,
    secrets: By<SecretScalar>,
    rng: ChaCha20Rng,
    cheat: Option<(Position, Cheat)>,
}

fn place(number: u8) -> Position {
    Position::new(number).unwrap()
}

fn copy(secret: &SecretScalar) -> SecretScalar {
    SecretScalar::from_bytes(&secret.to_bytes()).unwrap()
}

impl World {
    fn new(plan: &Plan) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let threshold = Threshold::new(plan.k, plan.n).unwrap();
        let secrets: By<_> = threshold.positions().map(|own| (own, SecretScalar::random(&mut rng))).collect();
        let keys = secrets.values().map(|secret| Point::mul_generator(secret.expose())).collect();
        let charter = CharterId(Hash::of_bytes(b"charter"));
        let terms = Terms::new(charter, QuorumKind::Unseal, Generation::FIRST, threshold, keys).unwrap();
        Self { terms, secrets, rng, cheat: plan.cheat.map(|cheat| (place(cheat.place), cheat)) }
    }

    fn member(&self, own: Position) -> Member {
        Member::new(self.terms.clone(), copy(&self.secrets[&own])).unwrap()
    }

    /// The blame invariant.
    fn judge(&self, refusal: &Refusal, relay_is_faithful: bool) {
        let cheat = self.cheat.map(|(own, _)| own);
        for culprit in refusal.culprits() {
            match culprit {
                Culprit::Official(own) => assert_eq!(Some(own), cheat, "an honest official was blamed: {refusal}"),
                Culprit::Relay => assert!(!relay_is_faithful, "a faithful relay was blamed: {refusal}"),
            }
        }
        if !refusal.suspects().is_empty() {
            assert!(refusal.suspects().iter().any(|own| Some(*own) == cheat), "only honest ones suspected: {refusal}");
        }
        if let Refusal::Cheated { official, fault, evidence } = refusal {
            let evidence = Evidence::decode(&evidence.encode()).unwrap();
            assert_eq!(evidence.verify(&self.terms), Ok((*official, *fault)));
        }
    }

    fn dealt(&self, session: &Session, own: Position, seed: u64) -> (Dealt, SecretScalar) {
        let setting = Setting {
            threshold: self.terms.threshold(),
            static_keys: self.terms.static_keys(),
            context: session.context().as_bytes(),
            own,
            secret: &self.secrets[&own],
        };
        sharing::deal(&setting, &mut ChaCha20Rng::seed_from_u64(seed), |_| &[]).unwrap()
    }

    /// What the cheat sends to one official in round 1.
    fn cheating_deal(&self, own: Position, cheat: Cheat, session: &Session, to: Position) -> Vec<Message1> {
        let honest_seed = 100;
        let seed = if cheat.dealing == Dealing::OnePerRecipient { u64::from(to.get()) } else { honest_seed };
        let (mut dealt, mut ephemeral) = self.dealt(session, own, seed);
        let mut body = None;
        let victim = self.secrets.keys().find(|victim| **victim != own).unwrap();
        match cheat.dealing {
            Dealing::Fair | Dealing::OnePerRecipient => {}
            Dealing::NoPossession => dealt.proof = Signature([7; 65]),
            Dealing::NoEphemeral => ephemeral = SecretScalar::random(&mut ChaCha20Rng::seed_from_u64(9)),
            Dealing::BadShare(kind) => {
                let (other, _) = self.dealt(session, own, seed);
                let ciphertext = &mut dealt.ciphertexts[victim.index()];
                match kind {
                    0 => ciphertext[0] ^= 1,
                    1 => ciphertext.fill(0),
                    // Another's share: right key agreement, wrong recipient.
                    _ => *ciphertext = other.ciphertexts[own.index()].clone(),
                }
            }
            Dealing::OtherDegree { more: true } => dealt.commitment.push(Point::GENERATOR),
            Dealing::OtherDegree { more: false } => dealt.commitment.truncate(1),
            Dealing::Rubbish => body = Some(vec![4; 77]),
        }
        let sign = |body, ephemeral: &SecretScalar| {
            Message1::sign(session, own, &self.secrets[&own], body, ephemeral).unwrap()
        };
        let mut out = vec![sign(body.unwrap_or_else(|| dealt.encode()), &ephemeral)];
        if cheat.mends {
            let (fair, ephemeral) = self.dealt(session, own, honest_seed);
            out.push(sign(fair.encode(), &ephemeral));
        }
        out
    }

    /// What the cheat sends to one official in round 3: fairly, a certification of exactly that official's view.
    fn cheating_certification(&self, own: Position, cheat: Cheat, victim: &Round2) -> Vec<Message3> {
        let session = victim.session();
        let threshold = self.terms.threshold();
        let all: Vec<Dealt> = victim
            .accepted()
            .iter()
            .map(|message| Dealt::parse(&message.body, threshold, MIN_CIPHERTEXT_BYTES).unwrap())
            .collect();
        let bundles: Vec<Vec<u8>> =
            all.iter().map(|dealt| sharing::bundle(dealt.ciphertexts.iter().map(Vec::as_slice))).collect();
        let extension = session.extension(&ciphertexts_hash(bundles.iter().map(Vec::as_slice)));
        let (context, keys) = (session.context().as_bytes(), self.terms.static_keys());
        let transcript =
            Transcript::new(context, threshold, keys, &all.iter().collect::<Vec<_>>(), extension.as_bytes()).encode();
        let digests: Vec<Hash> = victim.accepted().iter().map(Message1::digest).collect();
        let secret = &self.secrets[&own];
        let other = vec![Hash::of_bytes(b"other"); digests.len()];
        let fair = Signature::sign(secret, &transcript).unwrap();
        let bad = Signature::sign(secret, b"another transcript").unwrap();
        let sign = |digests, certified| Message3::sign(session, own, secret, digests, certified).unwrap();
        match cheat.certifying {
            Certifying::Fair => vec![sign(digests, fair)],
            Certifying::BadSignature => vec![sign(digests, bad)],
            Certifying::OtherDigests => vec![sign(other, bad)],
            Certifying::Both => vec![sign(digests, fair), sign(other, bad)],
        }
    }
}

/// One round's traffic: who sends what to whom, and the same round of an earlier attempt for replays.
struct Traffic<M> {
    sent: BTreeMap<(Position, Position), Vec<M>>,
    old: By<M>,
}

impl<M: Document + Clone + PartialEq + Debug> Traffic<M> {
    /// Lets the relay do as planned, and checks every refusal.
    fn run<P>(
        &self,
        world: &World,
        plan: &[Delivery],
        gives_in: bool,
        phases: &mut By<P>,
        accept: impl Fn(&mut P, &M) -> Result<(), Refusal>,
    ) {
        let n = world.terms.threshold().n();
        let at = |number: u8| place(number % n + 1);
        for delivery in plan {
            let (from, to) = (at(delivery.from), at(delivery.to));
            let (Some(phase), Some(messages)) = (phases.get_mut(&to), self.sent.get(&(from, to))) else { continue };
            for message in messages {
                let bytes = match delivery.act {
                    Act::Deliver => message.encode(),
                    Act::Replay => self.old[&from].encode(),
                    Act::Alter { at, bit } => {
                        let mut bytes = message.encode();
                        let at = usize::from(at) % bytes.len();
                        bytes[at] ^= 1 << bit;
                        bytes
                    }
                    Act::Relabel => {
                        let mut bytes = message.encode();
                        let at = M::LABEL.as_bytes().len() + 1;
                        bytes[at] = bytes[at] % n + 1;
                        bytes
                    }
                };
                // Bytes that do not decode are refused at the door.
                let Ok(received) = M::decode(&bytes) else { continue };
                let changed = received != *message;
                match accept(phase, &received) {
                    Ok(()) => assert!(!changed, "a changed or replayed message was accepted"),
                    Err(refusal) => world.judge(&refusal, !changed),
                }
            }
        }
        if gives_in {
            for ((_, to), messages) in &self.sent {
                let Some(phase) = phases.get_mut(to) else { continue };
                for message in messages {
                    if let Err(refusal) = accept(phase, message) {
                        world.judge(&refusal, true);
                    }
                }
            }
        }
    }
}

/// Collects what the honest ones broadcast and what the cheat sends to each.
fn traffic<M: Clone>(
    world: &World,
    honest: &By<M>,
    cheating: impl Fn(Position, Cheat, Position) -> Vec<M>,
) -> BTreeMap<(Position, Position), Vec<M>> {
    let mut sent = BTreeMap::new();
    for to in world.secrets.keys() {
        for from in world.secrets.keys().filter(|from| *from != to) {
            let messages = match (world.cheat, honest.get(from)) {
                (_, Some(message)) => vec![message.clone()],
                (Some((own, cheat)), None) if own == *from => cheating(own, cheat, *to),
                _ => Vec::new(),
            };
            sent.insert((*from, *to), messages);
        }
    }
    sent
}

/// Everything an honest attempt says, for replays; and proof that such an attempt succeeds.
struct Honest {
    contributions: By<Contribution>,
    round1: By<Message1>,
    round3: By<Message3>,
}

fn honest_attempt(world: &mut World, attempt: Attempt) -> Honest {
    let members: Vec<Position> = world.secrets.keys().copied().collect();
    let mut said = Honest { contributions: By::new(), round1: By::new(), round3: By::new() };
    let mut gathering = By::new();
    for own in &members {
        let (phase, message) = Gathering::start(world.member(*own), attempt, &mut world.rng).unwrap();
        gathering.insert(*own, phase);
        said.contributions.insert(*own, message);
    }
    let mut round1 = By::new();
    for (own, mut phase) in gathering {
        phase.missing().iter().for_each(|from| phase.accept(&said.contributions[from]).unwrap());
        let (phase, message) = phase.complete(&mut world.rng).unwrap();
        round1.insert(own, phase);
        said.round1.insert(own, message);
    }
    let mut round2 = By::new();
    for (own, mut phase) in round1 {
        phase.missing().iter().for_each(|from| phase.accept(&said.round1[from]).unwrap());
        let (phase, message) = phase.complete().unwrap();
        round2.insert(own, phase);
        said.round3.insert(own, message);
    }
    let finished: Vec<Certified> = round2
        .into_values()
        .map(|mut phase| {
            phase.missing().iter().for_each(|from| phase.accept(&said.round3[from]).unwrap());
            phase.complete().unwrap()
        })
        .collect();
    assert!(finished.iter().all(|certified| certified.key == finished[0].key));
    said
}

fn run(plan: &Plan) {
    let mut world = World::new(plan);
    let old = honest_attempt(&mut world, Attempt::FIRST);
    let attempt = Attempt::new(2).unwrap();
    let honest: Vec<Position> =
        world.secrets.keys().copied().filter(|own| world.cheat.is_none_or(|(cheat, _)| cheat != *own)).collect();

    // Contributions.
    let (mut phases, mut said) = (By::new(), By::new());
    for own in &honest {
        let (phase, message) = Gathering::start(world.member(*own), attempt, &mut world.rng).unwrap();
        phases.insert(*own, phase);
        said.insert(*own, message);
    }
    let sent = traffic(&world, &said, |own, cheat, to| {
        let seed = if cheat.two_contributions { u64::from(to.get()) } else { 0 };
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        vec![Contribution::new(&world.member(own), attempt, &mut rng).unwrap()]
    });
    let round = Traffic { sent, old: old.contributions };
    // Every later round is only reached when contributions arrive, so in the end they always do.
    round.run(&world, &plan.rounds[0], true, &mut phases, Gathering::accept);

    // Round 1.
    let (mut round1, mut said): (By<Round1>, By<_>) = (By::new(), By::new());
    for (own, phase) in phases {
        let (phase, message) = phase.complete(&mut world.rng).expect("all contributions arrived");
        round1.insert(own, phase);
        said.insert(own, message);
    }
    let sent = traffic(&world, &said, |own, cheat, to| match round1.get(&to) {
        Some(phase) => world.cheating_deal(own, cheat, phase.session(), to),
        None => Vec::new(),
    });
    let split = world.cheat.is_some_and(|(_, cheat)| cheat.two_contributions);
    let round = Traffic { sent, old: old.round1 };
    if split {
        // Under different contexts nobody's message is authentic to another, and the relay is named. When the officials
        // show each other their contributions, they find who signed two.
        let shown: Vec<Contribution> = round1.values().flat_map(|phase| phase.contributions().to_vec()).collect();
        let refusals: Vec<Refusal> =
            round1.values().flat_map(|phase| shown.iter().map(|contribution| phase.judge(contribution))).collect();
        refusals.iter().for_each(|refusal| world.judge(refusal, true));
        if honest.len() > 1 {
            assert!(refusals.iter().any(|refusal| matches!(refusal, Refusal::Cheated { .. })));
        }
        for ((_, to), messages) in &round.sent {
            let Some(phase) = round1.get_mut(to) else { continue };
            messages.iter().for_each(|message| {
                if let Err(refusal) = phase.accept(message) {
                    world.judge(&refusal, false);
                }
            });
        }
    } else {
        round.run(&world, &plan.rounds[1], plan.gives_in, &mut round1, Round1::accept);
    }

    // Round 3.
    let (mut round2, mut said): (By<Round2>, By<_>) = (By::new(), By::new());
    for (own, phase) in round1 {
        if let Ok((phase, message)) = phase.complete() {
            round2.insert(own, phase);
            said.insert(own, message);
        }
    }
    let sent = traffic(&world, &said, |own, cheat, to| match round2.get(&to) {
        Some(phase) => world.cheating_certification(own, cheat, phase),
        None => Vec::new(),
    });
    let round = Traffic { sent, old: old.round3 };
    round.run(&world, &plan.rounds[2], plan.gives_in, &mut round2, Round2::accept);

    // Agreement.
    let finished: Vec<Certified> = round2.into_values().filter_map(|phase| phase.complete().ok()).collect();
    for own in &finished {
        let first = &finished[0];
        assert_eq!(own.key, first.key, "two honest officials finished with different keys");
        assert_eq!(own.recovery, first.recovery);
        assert_eq!(own.recovery.certificate().verify(&world.terms).as_ref(), Ok(&own.key));
        let (_, share, key) = own.recovery.recover(&world.terms, own.member.secret()).unwrap();
        assert!(share == own.share && key == own.key);
    }
    // Success is always reached where nobody cheats and everything arrives.
    let fair = world.cheat.is_none_or(|(_, cheat)| {
        !cheat.two_contributions && cheat.dealing == Dealing::Fair && cheat.certifying == Certifying::Fair
    });
    if plan.gives_in && fair {
        assert_eq!(finished.len(), honest.len(), "nobody cheated and everything arrived");
    }
    if world.cheat.is_some() && !fair && finished.is_empty() {
        honest_attempt(&mut world, Attempt::new(3).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_make_a_decoder_panic(kind in 0usize..6, tail in proptest::collection::vec(any::<u8>(), 0..600)) {
        let labels = [
            Contribution::LABEL, Message1::LABEL, Message3::LABEL, Evidence::LABEL, Certificate::LABEL, RecoveryData::LABEL,
        ];
        let label = labels[kind].as_bytes();
        let bytes = [&[u8::try_from(label.len()).unwrap()], label, &tail].concat();
        // Each decodes to itself or not at all; the bytes without label go to the specification's own layouts.
        if let Ok(read) = Contribution::decode(&bytes) { prop_assert_eq!(read.encode(), &bytes[..]); }
        if let Ok(read) = Message1::decode(&bytes) { prop_assert_eq!(read.encode(), &bytes[..]); }
        if let Ok(read) = Message3::decode(&bytes) { prop_assert_eq!(read.encode(), &bytes[..]); }
        if let Ok(read) = Evidence::decode(&bytes) { prop_assert_eq!(read.encode(), &bytes[..]); }
        if let Ok(read) = Certificate::decode(&bytes) { prop_assert_eq!(read.encode(), &bytes[..]); }
        if let Ok(read) = RecoveryData::decode(&bytes) { prop_assert_eq!(read.encode(), &bytes[..]); }
        for threshold in [Threshold::new(1, 1).unwrap(), Threshold::new(2, 3).unwrap()] {
            if let Ok(read) = Dealt::parse(&tail, threshold, MIN_CIPHERTEXT_BYTES) { prop_assert_eq!(read.encode(), &tail[..]); }
            let _ = sharing::read_bundle(&tail, threshold);
        }
        if let Ok(read) = Transcript::parse(&tail) { prop_assert_eq!(read.encode(), &tail[..]); }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 64, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn honest_officials_never_disagree_and_blame_is_right(plan in plans()) {
        run(&plan);
    }
}
