//! A genesis among honest officials, one who may cheat, machines that stop at any moment, and a relay that loses, repeats and
//! alters what it carries.
//!
//! Three invariants, for whatever plan proptest draws. **Agreement**: honest officials keep shares of one key, and k of them
//! open what is sealed to it. **Blame**: nobody honest is convicted, and whoever cheated is. **Honest work ends well**: once
//! the relay delivers, the network is founded, whatever was said before; and reading the board again gives the state again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "genesis/people.rs"]
mod people;
#[cfg(feature = "service")]
#[path = "genesis/served.rs"]
mod served;
#[path = "genesis/tpm.rs"]
mod tpm;

use chancery::protocol::{
    ceremony::genesis::{
        Event, Genesis, Message, Out, Post, Refusal, Reply, Said, Signed, Stage, Step, complete, participant::Advice,
        participant::Do,
    },
    certificate::UnixTime,
    charter::{SignedCharter, Signer},
    group::lagrange_at_zero,
    ids::{Attempt, EmbassyName, OfficialName, QuorumKind},
    paragraph::Reason,
    quorum::Position,
    roll::{Act, Entry},
    secret::SecretScalar,
    wire::Document,
};
use p256::{ProjectivePoint, Scalar};
use people::{EMBASSIES, Network, Person};
use proptest::prelude::*;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use tpm::SoftTpm;

/// What happens in one moment of a plan. Officials are drawn by a number, modulo how many there are.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// An official's machine looks and does what comes next; of what it sends, one message.
    Looks { who: u8, then: Fate },
    /// It gives the attempt up.
    Again { who: u8, recovery: bool },
    /// The embassy's service starts again from what it saved.
    RelayRestarts,
    /// The offer goes stale.
    Expires,
    /// The TPM will refuse the first approval it is given next.
    TpmRefuses,
    /// The TPM will lose its sessions next.
    TpmForgets,
    /// Something said before is said again.
    Replays { which: u16 },
}

/// What becomes of a message on its way, and of the machine that sent it.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Arrives,
    Lost,
    Twice,
    Altered {
        at: u16,
        bit: u8,
    },
    /// Power fails after the journal was saved and before anything was sent.
    CrashBeforeSending,
    /// Power fails before anything was saved.
    CrashBeforeSaving,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Arrives),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Twice),
        1 => (any::<u16>(), 0..8u8).prop_map(|(at, bit)| Fate::Altered { at, bit }),
        1 => Just(Fate::CrashBeforeSending),
        1 => Just(Fate::CrashBeforeSaving),
    ]
}

fn moment() -> impl Strategy<Value = Moment> {
    prop_oneof![
        16 => (any::<u8>(), fate()).prop_map(|(who, then)| Moment::Looks { who, then }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(who, recovery)| Moment::Again { who, recovery }),
        1 => Just(Moment::RelayRestarts),
        1 => Just(Moment::Expires),
        1 => Just(Moment::TpmRefuses),
        1 => Just(Moment::TpmForgets),
        1 => any::<u16>().prop_map(|which| Moment::Replays { which }),
    ]
}

/// What the cheat, where there is one, does in its first attempts; later it plays by the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cheat {
    /// Nobody cheats.
    No,
    /// A share for the official after it does not open.
    BadShare,
    /// Two contributions.
    TwoContributions,
    /// Two round 1 messages.
    TwoPolynomials,
}

/// The relay with its TPM, and everything said so far.
struct Relay {
    genesis: Option<Genesis>,
    posts: Vec<Vec<u8>>,
    heard: Vec<(OfficialName, Message)>,
    tpm: SoftTpm,
    refuse_next: bool,
    forget_next: bool,
    founded: bool,
    roll: Vec<Entry>,
}

impl Relay {
    fn new(network: &Network, embassy: &str) -> Self {
        let name = EmbassyName::new(embassy).unwrap();
        let genesis = Genesis::new(network.founding.clone(), &name).unwrap();
        let tpm = SoftTpm::new(network, &name);
        let mut relay = Self {
            genesis: None,
            posts: vec![],
            heard: vec![],
            tpm,
            refuse_next: false,
            forget_next: false,
            founded: false,
            roll: vec![],
        };
        relay.go(genesis.wake());
        relay
    }

    fn genesis(&self) -> &Genesis {
        self.genesis.as_ref().unwrap()
    }

    /// Saves, then does.
    fn go(&mut self, step: Step) {
        self.posts.extend(step.posts.iter().map(Document::encode));
        for (by, act) in &step.entries {
            let entry = Entry { at: UnixTime(1_800_000_000), by: by.clone(), act: act.clone() };
            assert_eq!(Entry::decode(&entry.encode()).unwrap(), entry, "entries read back");
            self.roll.push(entry);
        }
        self.genesis = Some(step.next);
        for out in step.outbox {
            let event = match out {
                Out::Offer { number, registers } => self.tpm.offer(number, registers),
                Out::Order { approvals } => {
                    let (refuse, forget) = (self.refuse_next, self.forget_next);
                    (self.refuse_next, self.forget_next) = (false, false);
                    self.tpm.order(&approvals, refuse, forget)
                }
                Out::MakeKeys => Event::Born(Box::new(self.tpm.make_keys(self.genesis.as_ref().unwrap().board()))),
                Out::Founded => {
                    self.founded = true;
                    continue;
                }
            };
            self.event(event);
        }
    }

    fn event(&mut self, event: Event) -> Reply {
        let (step, reply) = self.genesis.take().unwrap().on(event);
        self.go(step);
        reply
    }

    fn hear(&mut self, from: &OfficialName, message: Message) -> Reply {
        self.heard.push((from.clone(), message.clone()));
        self.event(Event::Said { from: from.clone(), message })
    }

    fn board(&self) -> Vec<Post> {
        self.posts.iter().map(|bytes| Post::decode(bytes).unwrap()).collect()
    }

    fn restart(&mut self, network: &Network) {
        self.tpm.restart();
        let embassy = self.genesis().board().embassy().clone();
        let (genesis, passed_over) = Genesis::read(network.founding.clone(), &embassy, &self.board()).unwrap();
        assert_eq!(passed_over, 0, "an honest relay's own board holds");
        self.go(genesis.wake());
    }
}

/// One look of one official's machine. What it would send comes back, for the relay to hear or not.
fn look(network: &Network, person: &mut Person, relay: &Relay, fate: Fate, rng: &mut ChaCha20Rng) -> Vec<Message> {
    let embassy = relay.genesis().board().embassy();
    // The official reads the board itself, from where its machine read it last.
    let (genesis, at) = match person.read.take() {
        Some((genesis, at)) if genesis.board().embassy() == embassy => (genesis, at),
        _ => (Genesis::new(network.founding.clone(), embassy).unwrap(), 0),
    };
    let posts: Vec<Post> = relay.posts[at..].iter().map(|bytes| Post::decode(bytes).unwrap()).collect();
    let (genesis, passed_over) = genesis.follow(&posts);
    assert_eq!(passed_over, 0);
    if !matches!(fate, Fate::CrashBeforeSaving | Fate::CrashBeforeSending) {
        person.read = Some((genesis.clone(), relay.posts.len()));
    }
    let before = person.disk.clone();
    let (acts, advice) = person.advance(&genesis, rng);
    let mut sent = Vec::new();
    for act in acts {
        match act {
            Do::Save(journal) => {
                if matches!(fate, Fate::CrashBeforeSaving) {
                    person.disk = before;
                    return Vec::new();
                }
                person.disk.journal = journal.encode();
            }
            Do::Keep(kept) => {
                assert_eq!(person.name, *genesis.board().run(kept.kind).name_of(kept.position).unwrap());
                person.disk.kept.insert(kept.kind, (kept.share.to_bytes().expose().to_vec(), kept.recovery.encode()));
            }
            Do::Send(message) => sent.push(message),
            Do::SendCopy(kind) => {
                let bytes = &person.disk.kept[&kind].1;
                sent.push(Message::Recovery(kind, Box::new(Document::decode(bytes).unwrap())));
            }
        }
    }
    if matches!(fate, Fate::CrashBeforeSending) {
        return Vec::new();
    }
    match advice {
        Advice::Approve(offer) => sent.push(person.approve(&genesis, &offer)),
        Advice::Sign(signature) => sent.push(person.sign(&genesis, &signature.candidate)),
        Advice::Stuck { kind, why, .. } => sent.push(person.again(&genesis, kind, &why)),
        Advice::Wait | Advice::Founded => {}
    }
    sent
}

fn carry(relay: &mut Relay, from: &OfficialName, message: Message, fate: Fate) {
    match fate {
        Fate::Lost | Fate::CrashBeforeSaving | Fate::CrashBeforeSending => {}
        Fate::Arrives => {
            let what = message.what();
            let reply = relay.hear(from, message);
            // What was answered meanwhile, or superseded, is refused; nothing else of an honest machine is.
            if let Reply::Refused(refusal) = reply {
                let text = refusal.to_string();
                let fair = text.contains("attempt")
                    || text.contains("not open any more")
                    || text.contains("has answered")
                    || text.contains("is not what this genesis waits for")
                    || text.contains("is at fault")
                    || text.contains("quorum's key is made")
                    || text.contains("not what this key generation came to")
                    || text.contains("not made yet")
                    || text.contains("has ended");
                assert!(fair, "{from}: {what}: {text}");
            }
        }
        Fate::Twice => {
            relay.hear(from, message.clone());
            let before = relay.posts.len();
            // An approval that the TPM refused at once may be given again; all else that is repeated changes nothing.
            let approval = matches!(&message, Message::Signed(signed) if matches!(signed.said, Said::Approved { .. }));
            relay.hear(from, message);
            assert!(approval || relay.posts.len() == before, "a repeated message changes nothing");
        }
        Fate::Altered { at, bit } => {
            let mut bytes = message.encode();
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= 1 << bit;
            // What still reads is refused, or it changes who is said to have brought it and nothing else.
            if let Ok(altered) = Message::decode(&bytes) {
                let (posts, status) = (relay.posts.len(), relay.genesis().status());
                if let Reply::Refused(_) = relay.hear(from, altered) {
                    assert_eq!((relay.posts.len(), relay.genesis().status()), (posts, status), "{}", message.what());
                }
            }
        }
    }
}

/// Home's part: as soon as there is a result, a completed charter with home's signature.
fn home(network: &Network, relay: &mut Relay, others: &[&Genesis]) {
    let Genesis::Completing(phase) = relay.genesis() else { return };
    if !phase.candidates().is_empty() {
        return;
    }
    let mut results = vec![phase.result().clone()];
    for other in others {
        let Genesis::Completing(phase) = other else { return };
        results.push(phase.result().clone());
    }
    let mut signed = SignedCharter::unsigned(complete(&network.founding, &results).unwrap());
    signed.sign(Signer::Home, &network.home).unwrap();
    let from = network.people[0].name.clone();
    assert!(matches!(relay.hear(&from, Message::Charter(Box::new(signed))), Reply::Accepted));
}

/// From here on everything arrives.
fn to_the_end(network: &mut Network, relay: &mut Relay, rng: &mut ChaCha20Rng) {
    for _ in 0..60 {
        if relay.founded {
            return;
        }
        relay.event(Event::Poked);
        home(network, relay, &[]);
        for index in 0..network.people.len() {
            let mut person = network.take(index);
            for message in look(network, &mut person, relay, Fate::Arrives, rng) {
                carry(relay, &person.name.clone(), message, Fate::Arrives);
            }
            network.put(index, person);
        }
    }
    panic!("the network was not founded: {:?}", relay.genesis().status());
}

fn agreement(network: &Network, relay: &Relay) {
    for kind in [QuorumKind::Unseal, QuorumKind::Recovery] {
        let run = relay.genesis().board().run(kind);
        let made = run.made().unwrap();
        let mut shares = Vec::new();
        for person in &network.people {
            let (share, recovery) = &person.disk.kept[&kind];
            assert_eq!(*recovery, made.recovery.encode(), "{}: one certificate for all", person.name);
            let share =
                SecretScalar::from_bytes(&chancery::protocol::secret::Secret::from_slice(share).unwrap()).unwrap();
            shares.push((run.place_of(&person.name).unwrap(), share));
        }
        let k = usize::from(run.terms().threshold().k());
        for quorum in shares.windows(k) {
            let places: Vec<Position> = quorum.iter().map(|(place, _)| *place).collect();
            let secret: Scalar =
                quorum.iter().map(|(place, share)| lagrange_at_zero(*place, &places).unwrap() * **share.expose()).sum();
            assert_eq!(ProjectivePoint::GENERATOR * secret, made.key.key().projective(), "any k open");
        }
    }
}

fn run_plan(n: u8, cheat: Cheat, seed: u64, plan: &[Moment]) {
    let rng = &mut ChaCha20Rng::seed_from_u64(seed);
    let mut network = Network::new(n, &EMBASSIES[..1], rng);
    let mut relay = Relay::new(&network, EMBASSIES[0]);
    if cheat != Cheat::No {
        network.people[0].cheats = match cheat {
            Cheat::BadShare => people::Cheats::BadShare,
            Cheat::TwoContributions => people::Cheats::TwoContributions,
            Cheat::TwoPolynomials => people::Cheats::TwoPolynomials,
            Cheat::No => people::Cheats::No,
        };
    }
    for moment in plan {
        match *moment {
            Moment::Looks { who, then } => {
                let index = usize::from(who) % network.people.len();
                let mut person = network.take(index);
                for message in look(&network, &mut person, &relay, then, rng) {
                    carry(&mut relay, &person.name.clone(), message, then);
                }
                network.put(index, person);
            }
            Moment::Again { who, recovery } => {
                let person = &network.people[usize::from(who) % network.people.len()];
                let kind = if recovery { QuorumKind::Recovery } else { QuorumKind::Unseal };
                let message = person.again(relay.genesis(), kind, "we lost patience");
                let confirmed = relay.genesis().board().run(kind).is_confirmed();
                let reply = relay.hear(&person.name, message);
                assert_eq!(matches!(reply, Reply::Accepted), !confirmed, "nothing that all rely on is given up");
            }
            Moment::RelayRestarts => relay.restart(&network),
            Moment::Expires => drop(relay.event(Event::Expired)),
            Moment::TpmRefuses => relay.refuse_next = true,
            Moment::TpmForgets => relay.forget_next = true,
            Moment::Replays { which } => {
                if !relay.heard.is_empty() {
                    let (from, message) = relay.heard[usize::from(which) % relay.heard.len()].clone();
                    relay.hear(&from, message);
                }
            }
        }
        home(&network, &mut relay, &[]);
    }
    to_the_end(&mut network, &mut relay, rng);
    agreement(&network, &relay);
    let convicted: Vec<_> = [QuorumKind::Unseal, QuorumKind::Recovery]
        .into_iter()
        .flat_map(|kind| relay.genesis().board().run(kind).convictions().to_vec())
        .collect();
    assert!(convicted.iter().all(|conviction| conviction.official == network.people[0].name), "{convicted:?}");
    if plan.is_empty() {
        assert_eq!(convicted.is_empty(), cheat == Cheat::No, "{cheat:?}");
    }
    // Whoever reads the board comes to the same.
    let embassy = relay.genesis().board().embassy().clone();
    let (read, _) = Genesis::read(network.founding.clone(), &embassy, &relay.board()).unwrap();
    let (Genesis::Founded(read), Genesis::Founded(live)) = (&read, relay.genesis()) else { panic!("founded") };
    assert_eq!(read.charter(), live.charter());
    let told = |wanted: fn(&Act) -> bool| relay.roll.iter().filter(|entry| wanted(&entry.act)).count();
    assert_eq!(told(|act| matches!(act, Act::GenesisFounded { .. })), 1, "the outcome is in the roll");
    assert!(told(|act| matches!(act, Act::GenesisCertified { .. })) >= 2);
    assert_eq!(told(|act| matches!(act, Act::GenesisConvicted { .. })), convicted.len(), "and every conviction");
    assert_eq!(relay.tpm.moves(), 1, "the generation counter moved once, and never again");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_on_the_way_the_network_is_founded_and_only_a_cheat_is_blamed(
        n in 2..=4u8,
        cheat in prop_oneof![
            3 => Just(Cheat::No), 1 => Just(Cheat::BadShare), 1 => Just(Cheat::TwoContributions), 1 => Just(Cheat::TwoPolynomials)
        ],
        seed in any::<u64>(),
        plan in prop::collection::vec(moment(), 0..120),
    ) {
        run_plan(n, cheat, seed, &plan);
    }
}

#[test]
fn a_cheat_is_convicted_by_name_and_the_next_attempt_succeeds() {
    for cheat in [Cheat::BadShare, Cheat::TwoContributions, Cheat::TwoPolynomials] {
        run_plan(3, cheat, 3, &[]);
    }
}

#[test]
fn the_second_embassy_learns_the_keys_and_one_charter_names_both_machines() {
    let rng = &mut ChaCha20Rng::seed_from_u64(7);
    let mut network = Network::new(3, &EMBASSIES, rng);
    let mut first = Relay::new(&network, EMBASSIES[0]);
    let mut second = Relay::new(&network, EMBASSIES[1]);
    // Nothing is made at the second one before the first.
    let (genesis, _) = Genesis::read(network.founding.clone(), second.genesis().board().embassy(), &[]).unwrap();
    let mut person = network.take(0);
    let (acts, advice) = person.advance(&genesis, rng);
    assert!(acts.is_empty(), "{acts:?}");
    let Advice::Stuck { why, .. } = advice else { panic!("{advice:?}") };
    assert!(why.contains("made at embassy luxembourg"), "{why}");
    network.put(0, person);
    for _ in 0..12 {
        for index in 0..3 {
            for relay in [&mut first, &mut second] {
                let mut person = network.take(index);
                for message in look(&network, &mut person, relay, Fate::Arrives, rng) {
                    if !matches!(message, Message::Signed(ref signed) if matches!(signed.said, Said::Again { .. })) {
                        carry(relay, &person.name.clone(), message, Fate::Arrives);
                    }
                }
                network.put(index, person);
            }
        }
    }
    let other = second.genesis().clone();
    home(&network, &mut first, &[&other]);
    let Genesis::Completing(phase) = first.genesis() else { panic!("{:?}", first.genesis().status()) };
    let candidate = phase.candidates()[0].clone();
    assert_eq!(candidate.unverified().parts().custody.as_ref().unwrap().machines.len(), 2);
    // Who has not followed the other embassy's genesis is told so.
    let (acts, advice) = network.people[0].clone_for_look().advance(first.genesis(), rng);
    assert!(acts.is_empty(), "{acts:?}");
    let Advice::Sign(signature) = advice else { panic!("{advice:?}") };
    assert_eq!(signature.unseen, [EmbassyName::new(EMBASSIES[1]).unwrap()]);
    assert!(signature.changes.iter().any(|line| line.contains("unseal key")), "{:?}", signature.changes);
    to_the_end(&mut network, &mut first, rng);
    agreement(&network, &first);
    let Genesis::Founded(founded) = first.genesis() else { panic!("founded") };
    // The charter that was signed at the first embassy is in force at the second at once.
    let signed = founded.charter().signed().clone();
    let reply = second.hear(&network.people[2].name, Message::Charter(Box::new(signed)));
    assert!(matches!(reply, Reply::Accepted) && second.founded, "{reply:?}");
}

#[test]
fn an_official_signs_no_charter_with_a_key_or_machine_that_was_not_made_here() {
    let rng = &mut ChaCha20Rng::seed_from_u64(11);
    let mut network = Network::new(3, &EMBASSIES[..1], rng);
    let mut relay = Relay::new(&network, EMBASSIES[0]);
    for _ in 0..12 {
        for index in 0..3 {
            let mut person = network.take(index);
            for message in look(&network, &mut person, &relay, Fate::Arrives, rng) {
                carry(&mut relay, &person.name.clone(), message, Fate::Arrives);
            }
            network.put(index, person);
        }
    }
    let Genesis::Completing(phase) = relay.genesis() else { panic!("{:?}", relay.genesis().status()) };
    let good = complete(&network.founding, &[phase.result().clone()]).unwrap();
    let changed = |change: fn(&mut chancery::protocol::charter::CharterCustody, chancery::protocol::group::Point)| {
        let mut parts = good.parts().clone();
        let foreign =
            chancery::protocol::group::Point::mul_generator(SecretScalar::random(&mut rand_core::OsRng).expose());
        change(parts.custody.as_mut().unwrap(), foreign);
        SignedCharter::unsigned(chancery::protocol::charter::Charter::new(parts).unwrap())
    };
    let from = network.people[1].name.clone();
    let mut signed = |mut charter: SignedCharter| {
        charter.sign(Signer::Home, &network.home).unwrap();
        relay.hear(&from, Message::Charter(Box::new(charter)))
    };
    for (charter, expected) in [
        (
            changed(|custody, foreign| custody.machines[0].custody_key = foreign),
            "something else of this embassy's machine",
        ),
        (
            changed(|custody, foreign| custody.machines[0].attestation_key = foreign),
            "something else of this embassy's machine",
        ),
        (
            changed(|custody, _| std::mem::swap(&mut custody.unseal_certificate, &mut custody.recovery_certificate)),
            "unseal key",
        ),
    ] {
        let reply = signed(charter);
        let Reply::Refused(Refusal::OtherCharter(why)) = reply else { panic!("{reply:?}") };
        assert!(why.contains(expected), "{why}");
    }
    let reply = relay.hear(&from, Message::Charter(Box::new(SignedCharter::unsigned(good))));
    assert!(matches!(reply, Reply::Refused(Refusal::WithoutHome)), "{reply:?}");
}

#[test]
fn nobody_speaks_for_another_and_nobody_for_another_network() {
    let rng = &mut ChaCha20Rng::seed_from_u64(13);
    let (network, elsewhere) = (Network::new(3, &EMBASSIES[..1], rng), Network::new(3, &EMBASSIES[..1], rng));
    let mut relay = Relay::new(&network, EMBASSIES[0]);
    let said =
        || Said::Again { kind: QuorumKind::Unseal, attempt: Attempt::FIRST, reason: Reason::new("because").unwrap() };
    let (anna, boris) = (&network.people[0], &network.people[1]);
    let id = network.founding.id();
    for forged in [
        Signed::new(id, boris.name.clone(), said(), &anna.identity).unwrap(),
        Signed::new(elsewhere.founding.id(), anna.name.clone(), said(), &anna.identity).unwrap(),
        Signed::new(id, OfficialName::new("nobody").unwrap(), said(), &anna.identity).unwrap(),
    ] {
        let reply = relay.hear(&anna.name, Message::Signed(Box::new(forged)));
        assert!(matches!(reply, Reply::Refused(Refusal::NotAuthentic { .. } | Refusal::Stranger(_))), "{reply:?}");
    }
    assert!(relay.posts.is_empty());
    assert_eq!(relay.genesis().board().run(QuorumKind::Unseal).attempt(), Attempt::FIRST);
}

#[test]
fn an_approval_is_for_what_the_official_s_own_machine_computed() {
    let rng = &mut ChaCha20Rng::seed_from_u64(17);
    let mut network = Network::new(3, &EMBASSIES[..1], rng);
    let mut relay = Relay::new(&network, EMBASSIES[0]);
    for _ in 0..6 {
        for index in 0..3 {
            let mut person = network.take(index);
            for message in look(&network, &mut person, &relay, Fate::Arrives, rng) {
                if !matches!(message, Message::Signed(ref signed) if matches!(signed.said, Said::Approved { .. })) {
                    carry(&mut relay, &person.name.clone(), message, Fate::Arrives);
                }
            }
            network.put(index, person);
        }
    }
    let Genesis::Collecting(phase) = relay.genesis() else { panic!("{:?}", relay.genesis().status()) };
    let (ground, offer) = (relay.genesis().board().ground().clone(), phase.offer().clone());
    // The embassy shows another boot state with the same nonce: other approvals, of no use for what it has.
    let mut other = offer.offer().clone();
    other.stage = Stage::Registers {
        counter_first: 5,
        pcrs: ground.plan.platform.pcrs().map(|pcr| (pcr, [9; 32])).collect(),
        register_written: false,
        pin_written: false,
    };
    other.nonces.push(tpm::nonce(rng));
    let shown = other.clone().check(&ground).unwrap();
    assert!(shown.matter() != offer.matter());
    let person = &network.people[0];
    let reply = relay.hear(&person.name, person.approve(relay.genesis(), &shown));
    assert!(matches!(reply, Reply::Refused(Refusal::OtherOffer)), "{reply:?}");
    // One session for two commands, or another network's offer, is not answered at all.
    other.nonces = vec![other.nonces[0]; 2];
    assert!(other.clone().check(&ground).is_err());
    other.nonces.truncate(1);
    assert!(other.clone().check(&ground).is_err());
    let elsewhere = Network::new(3, &EMBASSIES[..1], rng);
    other.charter = elsewhere.founding.id();
    assert!(other.check(&ground).is_err());
}
