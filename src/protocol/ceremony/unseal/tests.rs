//! The adoption of a charter from statement to outcome without a TPM: whose approvals count, which do not, and what ends it.
//! Openings go through the same phases, and have their stories in `tests/cluster.rs`.

use rand_core::OsRng;

use super::*;
use crate::protocol::{
    ceremony::{Material, ResumeError},
    certificate::UnixTime,
    contribution::{CheckedOffer, ContributeError, Contribution, OfferRefusal, Review},
    facts::{CustodyFacts, CustodyFactsParts},
    gathering::{
        Refusal,
        tests::{NOON, World, world},
    },
    hash::Hash,
    hybrid::HybridSecretKey,
    notice,
    offer::{Offer, OfferError, Opening as OfOffer},
    quorum::Threshold,
    slot::SeenPoints,
    statement::{Mode, StatementError, StatementParts},
    tpm::{
        approval::{ApprovalError, ApprovalRequest, CommandHash, Expiry, TpmNonce},
        policy::{PolicyRef, Purpose},
    },
    wire::Document,
};

const PINNED: Hash = Hash([1; 32]);
const ADOPTED: CharterAt = CharterAt { version: 2, hash: Hash([2; 32]) };
const EXPIRY: u32 = 600;

/// Three of five unseal at this embassy; four amend it.
struct Story {
    world: World,
    facts: CustodyFacts,
}

fn story() -> Story {
    let world = world(&["land"]);
    let parts = CustodyFactsParts { amend: Threshold::new(4, 5).unwrap(), ..world.parts.clone() };
    Story { facts: CustodyFacts::new(parts).unwrap(), world }
}

/// What follows from an event.
struct After {
    step: Step<Unseal>,
    reply: Reply,
}

impl After {
    fn acts(&self) -> Vec<&'static str> {
        self.step.entries.iter().map(|entry| entry.act.name()).collect()
    }

    /// Whether the TPM is asked.
    fn asks(&self) -> bool {
        self.step.outbox.iter().any(|out| matches!(out, Out::Open { .. }))
    }
}

impl Story {
    fn parts(&self) -> StatementParts {
        let mode = Mode::Adoption(Adoption { charter: ADOPTED, pinned: PINNED });
        StatementParts { mode, datasets: Vec::new(), ..self.world.parts(&[]) }
    }

    fn context(&self) -> Context<'_> {
        Context { facts: &self.facts, quorum: &self.world.quorum, versions: &[], recipient: None, now: NOON }
    }

    fn admission(&self) -> Admission<'static> {
        Admission { resets: self.parts().acknowledged, leases: false, pinned: PINNED, open: &[] }
    }

    fn opened(&self) -> Unseal {
        Unseal::open(self.world.signed(self.parts()), &self.context(), &self.admission()).unwrap().next
    }

    fn offer(&self, attempt: u32) -> SignedOffer {
        let opening = OfOffer { subject: ADOPTED.hash, nonce: nonce(attempt) };
        let offer = Offer::new(self.world.signed(self.parts()), attempt, None, vec![opening]).unwrap();
        SignedOffer::sign(offer, &self.world.embassy).unwrap()
    }

    fn offered(&self, unseal: Unseal, attempt: u32) -> After {
        self.feed(unseal, Event::Offered { offer: Box::new(self.offer(attempt)), key: None })
    }

    fn collecting(&self) -> Unseal {
        let after = self.offered(self.opened(), 1);
        assert_eq!(after.acts(), ["offer made"]);
        after.step.next
    }

    fn feed(&self, unseal: Unseal, event: Event) -> After {
        let (step, reply) = unseal.on(event, &self.context());
        After { step, reply }
    }

    fn check(&self, offer: &SignedOffer) -> Result<CheckedOffer, OfferRefusal> {
        let review = Review { facts: &self.facts, versions: &[], now: NOON, recipient: None };
        CheckedOffer::check(offer, &review, &mut SeenPoints::new())
    }

    /// What an official's own machine sends.
    fn approval(&self, who: usize, expiry: u32) -> Contribution {
        let (person, checked) = (&self.world.people[who], self.check(&self.offer(1)).unwrap());
        checked.approve(&self.facts, person.position, &person.identity, expiry).unwrap()
    }

    /// What an official who signs something else sends.
    fn other(&self, who: usize, command: CommandHash, purpose: Purpose, sealed: Vec<u8>) -> Contribution {
        let person = &self.world.people[who];
        let facts = &self.facts;
        let policy_ref = PolicyRef::new(purpose, facts.charter(), facts.embassy(), facts.generation());
        let request = ApprovalRequest { nonce: nonce(1), command, policy_ref };
        let expiry = Expiry::new(EXPIRY, EXPIRY).unwrap();
        let approval = request.sign(person.position, expiry, &person.identity).unwrap();
        let hash = *self.check(&self.offer(1)).unwrap().hash();
        Contribution::sign(person.position, hash, vec![approval], sealed, &person.identity).unwrap()
    }

    /// The command that is approved, computed as a reader of the specification would.
    fn command(&self, content: &Hash) -> CommandHash {
        CommandHash::nv_write(&self.facts.custody().charter_pin.public.name(), content.as_bytes()).unwrap()
    }

    fn denial(&self, who: usize, unseal: &Unseal) -> Denial {
        let name = self.facts.unseal().members[who].name.clone();
        let reason = Reason::new("nobody told me").unwrap();
        Denial::sign(unseal.id(), name, reason, &self.world.people[who].identity).unwrap()
    }

    fn stop(&self, who: usize, unseal: &Unseal) -> Stop {
        let name = self.facts.unseal().members[who].name.clone();
        let reason = Reason::new("too early").unwrap();
        notice::Stop::sign(unseal.id(), name, reason, &self.world.people[who].identity).unwrap()
    }

    /// Four have approved, and the TPM is asked.
    fn asked(&self) -> Unseal {
        let mut unseal = self.collecting();
        for who in 0..4 {
            unseal = self.feed(unseal, Event::Contribution(Box::new(self.approval(who, EXPIRY)))).step.next;
        }
        assert!(matches!(unseal, Unseal::Opening(_)));
        unseal
    }
}

fn nonce(attempt: u32) -> TpmNonce {
    TpmNonce::from_bytes(&[u8::try_from(attempt).unwrap(); 32]).unwrap()
}

fn refusal(after: &After) -> &Refusal {
    match &after.reply {
        Reply::Refused(Refused::Contribution(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn fewer_than_the_amend_threshold_never_adopt_and_as_many_do() {
    let story = story();
    let mut unseal = story.collecting();
    assert_eq!((unseal.standing(&story.facts).need, unseal.standing(&story.facts).denials_that_end), (4, 2));
    // Three are enough to unseal, and not to amend; nobody counts twice, with the same approval or another.
    for who in [4, 1, 0] {
        let first = Box::new(story.approval(who, EXPIRY));
        let after = story.feed(unseal, Event::Contribution(first.clone()));
        assert!(matches!(after.reply, Reply::Accepted { need: 4, .. }) && !after.asks());
        let after = story.feed(after.step.next, Event::Contribution(first));
        assert_eq!((&after.reply, after.asks()), (&Reply::AlreadyAccepted, false));
        let after = story.feed(after.step.next, Event::Contribution(Box::new(story.approval(who, EXPIRY - 1))));
        assert!(matches!(refusal(&after), Refusal::Repeated { .. }) && !after.asks());
        let after = story.feed(after.step.next, Event::Tick);
        assert!(!after.asks());
        unseal = after.step.next;
    }
    assert_eq!(unseal.standing(&story.facts).contributed.len(), 3);
    let after = story.feed(unseal, Event::Contribution(Box::new(story.approval(2, EXPIRY))));
    assert_eq!(after.acts(), ["contributed", "opening"]);
    let material = after.step.outbox.iter().find_map(|out| match out {
        Out::Open { material, .. } => Some(material.as_ref()),
        _ => None,
    });
    let Some(Material::Adoption(quorate)) = material else { panic!("the TPM is not asked") };
    assert_eq!((quorate.charter(), quorate.approvals().len()), (&ADOPTED, 4));
    let command = story.command(&ADOPTED.hash);
    assert!(quorate.approvals().iter().all(|approval| approval.command() == command.as_bytes()));

    let after = story.feed(after.step.next, Event::Opened { attempt: 1 });
    assert_eq!(after.acts(), ["charter adopted", "ceremony ended"]);
    assert_eq!(after.step.next.outcome(), Some(&Outcome::Adopted));
    assert!(after.step.outbox.iter().all(|out| !matches!(out, Out::Revoke)));
    // The outcome outlives a restart.
    let record = UnsealRecord::decode(&after.step.next.record().encode()).unwrap();
    assert_eq!(record.outcome(), Some(&Outcome::Adopted));
}

#[test]
fn an_approval_of_another_hash_index_or_purpose_is_refused_and_its_sender_named() {
    let story = story();
    let custody = story.facts.custody();
    let write =
        |index: &crate::protocol::tpm::name::Name| CommandHash::nv_write(index, ADOPTED.hash.as_bytes()).unwrap();
    let right = story.command(&ADOPTED.hash);
    for (what, bad) in [
        ("another charter", story.other(1, story.command(&Hash([3; 32])), Purpose::Amend, vec![])),
        ("the charter pinned now", story.other(1, story.command(&PINNED), Purpose::Amend, vec![])),
        ("the register", story.other(1, write(&custody.register.public.name()), Purpose::Amend, vec![])),
        (
            "the first write",
            story.other(1, write(&custody.charter_pin.public.name_before_first_write()), Purpose::Amend, vec![]),
        ),
        (
            "the counter",
            story.other(1, CommandHash::nv_increment(&custody.counter.public.name()), Purpose::Amend, vec![]),
        ),
    ] {
        let after = story.feed(story.collecting(), Event::Contribution(Box::new(bad)));
        let reason = Some(ApprovalError::OtherCommand { position: story.world.people[1].position });
        assert!(matches!(refusal(&after), Refusal::Approval { reason: found, .. } if *found == reason), "{what}");
        assert_eq!(after.acts(), ["refused"], "{what}");
        // Who sent it may still approve what is asked.
        let after = story.feed(after.step.next, Event::Contribution(Box::new(story.approval(1, EXPIRY))));
        assert!(matches!(after.reply, Reply::Accepted { have: 1, .. }), "{what}");
    }
    let unseal_purpose = story.other(1, right, Purpose::Unseal, vec![]);
    let after = story.feed(story.collecting(), Event::Contribution(Box::new(unseal_purpose)));
    assert!(matches!(refusal(&after), Refusal::Approval { reason: Some(ApprovalError::Signature { .. }), .. }));
    // What is for the pin is not taken for the register by the TPM's side either: the request it verifies against differs.
    let approval = story.approval(0, EXPIRY).approvals()[0].clone();
    let checked = story.check(&story.offer(1)).unwrap();
    let register = ApprovalRequest { command: write(&custody.register.public.name()), ..checked.requests()[0] };
    let identity = story.facts.unseal().members[0].identity;
    assert!(approval.verify(&checked.requests()[0], &identity, EXPIRY).is_ok());
    assert!(matches!(approval.verify(&register, &identity, EXPIRY), Err(ApprovalError::OtherCommand { .. })));
    // Something sealed has no place here.
    let sealed = story.other(1, right, Purpose::Amend, vec![7]);
    let after = story.feed(story.collecting(), Event::Contribution(Box::new(sealed)));
    assert!(matches!(refusal(&after), Refusal::Unasked { .. }));
}

#[test]
fn denials_end_it_by_the_amend_threshold() {
    let story = story();
    let unseal = story.collecting();
    let (first, second) = (story.denial(0, &unseal), story.denial(3, &unseal));
    let after = story.feed(unseal, Event::Denial(first.clone()));
    assert!(after.reply == Reply::Taken && after.step.next.is_open());
    let after = story.feed(after.step.next, Event::Denial(first));
    assert!(after.reply == Reply::AlreadyAccepted && after.step.next.is_open());
    // Two of five against it: four for it cannot be reached any more.
    let after = story.feed(after.step.next, Event::Denial(second));
    assert!(matches!(after.step.next.outcome(), Some(Outcome::Denied { officials }) if officials.len() == 2));
}

#[test]
fn only_the_charter_in_force_is_admitted_and_only_after_the_one_that_is_pinned() {
    let story = story();
    let admit = |charter, pinned: Hash, found: Hash| {
        let mode = Mode::Adoption(Adoption { charter, pinned });
        let signed = story.world.signed(StatementParts { mode, ..story.parts() });
        let admission = Admission { pinned: found, ..story.admission() };
        Unseal::open(signed, &story.context(), &admission).map(drop)
    };
    let newer = CharterAt { version: 3, hash: Hash([3; 32]) };
    let forged = CharterAt { hash: Hash([4; 32]), ..ADOPTED };
    assert_eq!(admit(ADOPTED, PINNED, PINNED), Ok(()));
    for other in [newer, forged] {
        let refused = NotAdmitted::NotInForce { adopts: other, in_force: ADOPTED };
        assert_eq!(admit(other, PINNED, PINNED), Err(refused));
    }
    assert_eq!(admit(ADOPTED, PINNED, ADOPTED.hash), Err(NotAdmitted::Adopted { charter: ADOPTED }));
    let stated = Hash([5; 32]);
    assert_eq!(admit(ADOPTED, stated, PINNED), Err(NotAdmitted::Pinned { found: PINNED, stated }));
    // The statement itself: no datasets beside it, and something to adopt.
    let beside = StatementParts { datasets: story.world.parts(&[0]).datasets, ..story.parts() };
    assert_eq!(Statement::new(beside), Err(StatementError::DatasetsAdopted { found: 1 }));
    let mode = Mode::Adoption(Adoption { charter: ADOPTED, pinned: ADOPTED.hash });
    let nothing = Statement::new(StatementParts { mode, ..story.parts() });
    assert_eq!(nothing, Err(StatementError::PinnedAlready { charter: ADOPTED }));
}

#[test]
fn a_charter_that_is_no_longer_in_force_is_not_adopted_with_approvals_given_before() {
    let mut story = story();
    let mut unseal = story.collecting();
    let approvals: Vec<Contribution> = (0..4).map(|who| story.approval(who, EXPIRY)).collect();
    for approval in &approvals[..3] {
        unseal = story.feed(unseal, Event::Contribution(Box::new(approval.clone()))).step.next;
    }
    let parts = CustodyFactsParts { amend: story.facts.amend(), ..story.world.parts.clone() };
    let in_force = CharterAt { version: 3, hash: Hash([3; 32]) };
    story.facts = CustodyFacts::new(CustodyFactsParts { in_force, ..parts }).unwrap();
    let after = story.feed(unseal, Event::Contribution(Box::new(approvals[3].clone())));
    assert!(!after.asks());
    let standing = after.step.next.standing(&story.facts);
    assert!(standing.trouble.unwrap().to_string().contains("version 3"));
    // Nor do officials' machines take an offer for it.
    let refused = story.check(&story.offer(1)).unwrap_err();
    assert!(matches!(refused, OfferRefusal::NotInForce { .. }), "{refused}");
    // And no new offer is made of it.
    let after = story.offered(after.step.next, 2);
    assert!(matches!(after.step.next, Unseal::AwaitingOffer(_)));
    assert_eq!(after.acts(), ["no offer could be made"]);
}

#[test]
fn a_pin_that_was_moved_is_in_the_roll_whatever_became_of_the_ceremony() {
    let story = story();
    // Stopped while the TPM was asked: what it did cannot be taken back, and is said.
    let unseal = story.asked();
    let stop = story.stop(4, &unseal);
    let after = story.feed(unseal, Event::Stop(stop));
    assert!(matches!(after.step.next.outcome(), Some(Outcome::Stopped { .. })));
    let after = story.feed(after.step.next, Event::Opened { attempt: 1 });
    assert_eq!(after.acts(), ["charter adopted"]);
    assert!(after.step.outbox.iter().all(|out| !matches!(out, Out::Revoke)));
    assert!(matches!(after.step.next.outcome(), Some(Outcome::Stopped { .. })));
    // The answer was lost in a restart: fresh approvals are asked for, unless the TPM says that it is done.
    let record = UnsealRecord::decode(&story.asked().record().encode()).unwrap();
    let step = Unseal::resume(record, &story.context()).unwrap();
    assert!(matches!(&step.outbox[..], [.., Out::MakeOffer { attempt: 2, .. }, Out::Notify]), "{:?}", step.outbox);
    let after = story.feed(step.next, Event::Opened { attempt: 2 });
    assert_eq!(after.step.next.outcome(), Some(&Outcome::Adopted));
    // A statement in a record that is not its opener's goes nowhere.
    let mut forged = story.parts();
    forged.opener = OfficialName::new("boris").unwrap();
    let record = Unseal::AwaitingOffer(AwaitingOffer::asked(Case::new(
        Statement::new(forged.clone()).unwrap().id(),
        story.world.signed(forged),
    )));
    let resumed = Unseal::resume(record.record(), &story.context());
    assert!(matches!(resumed.map(drop), Err(ResumeError::Statement(StatementError::Signature { .. }))));
}

#[test]
fn every_change_of_a_byte_of_what_is_sent_is_refused() {
    let story = story();
    let changed = |bytes: &[u8], judge: &dyn Fn(&[u8]) -> bool, what: &str| {
        assert!(judge(bytes), "{what} itself");
        for at in 0..bytes.len() {
            for bit in [0x01, 0x80] {
                let mut other = bytes.to_vec();
                other[at] ^= bit;
                assert!(!judge(&other), "{what}, byte {at}");
            }
        }
        assert!(!judge(&bytes[..bytes.len() - 1]) && !judge(&[bytes, &[0]].concat()), "{what}, another length");
    };
    let signed = story.world.signed(story.parts());
    let verifies = |bytes: &[u8]| SignedStatement::decode(bytes).is_ok_and(|it| it.verify(&story.facts).is_ok());
    changed(&signed.encode(), &verifies, "statement");
    let checks = |bytes: &[u8]| SignedOffer::decode(bytes).is_ok_and(|it| story.check(&it).is_ok());
    changed(&story.offer(1).encode(), &checks, "offer");
    let counts = |bytes: &[u8]| {
        let Ok(contribution) = Contribution::decode(bytes) else { return false };
        let after = story.feed(story.collecting(), Event::Contribution(Box::new(contribution)));
        matches!(after.reply, Reply::Accepted { .. })
    };
    changed(&story.approval(2, EXPIRY).encode(), &counts, "contribution");
}

#[test]
fn an_offer_has_one_form_for_each_mode() {
    let story = story();
    let key = HybridSecretKey::random(&mut OsRng).public().clone();
    let of = |key, openings| Offer::new(story.world.signed(story.parts()), 1, key, openings).map(drop);
    let opening = |subject, byte: u8| OfOffer { subject, nonce: TpmNonce::from_bytes(&[byte; 32]).unwrap() };
    let right = || vec![opening(ADOPTED.hash, 1)];
    assert_eq!(of(None, right()), Ok(()));
    assert_eq!(of(Some(key), right()), Err(OfferError::CeremonyKey));
    assert_eq!(of(None, vec![opening(PINNED, 1)]), Err(OfferError::Charter));
    assert_eq!(of(None, vec![]), Err(OfferError::Openings { found: 0, expected: 1 }));
    let two = vec![opening(ADOPTED.hash, 1), opening(ADOPTED.hash, 2)];
    assert_eq!(of(None, two), Err(OfferError::Openings { found: 2, expected: 1 }));
    let lease = story.world.signed(story.world.parts(&[0]));
    assert_eq!(Offer::new(lease, 1, None, right()).map(drop), Err(OfferError::CeremonyKey));
    // Without a share nobody contributes to an opening.
    let checked = story.check(&story.offer(1)).unwrap();
    assert!(checked.points().is_empty() && checked.slots().is_empty());
    let person = &story.world.people[0];
    let stranger = checked.approve(&story.facts, story.world.people[1].position, &person.identity, EXPIRY);
    assert!(matches!(stranger, Err(ContributeError::NotThatKey { .. })));
    let late = UnixTime(NOON.0 + 7200);
    let review = Review { facts: &story.facts, versions: &[], now: late, recipient: None };
    let late = CheckedOffer::check(&story.offer(1), &review, &mut SeenPoints::new());
    assert!(matches!(late, Err(OfferRefusal::Statement(StatementError::Expired { .. }))));
}
