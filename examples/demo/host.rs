//! The host country. It holds the machine, its disk and its bus, speaks to the TPM in raw commands past all of our software,
//! and may have coerced officials. Each attempt says what refused it.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use chancery::{
    hardware::{CustodyTpm, EmbassyKeys, EmbassyTpm, MachineTpm, Order, TpmError},
    protocol::{
        charter::{Charter, CharterError, VerifiedCharter},
        contribution::OfferRefusal,
        dataset_version::VerifiedVersion,
        facts::CustodyFacts,
        gathering::{NotQuorate, Refusal as NotCounted},
        group::Point,
        offer::{Offer, Opening, SignedOffer},
        quorum::Position,
        slot::SealedFor,
        statement::{SignedStatement, Statement, StatementParts},
        tpm::{
            approval::{ApprovalRequest, CommandHash, TpmApproval, TpmNonce},
            custody::CustodyPlan,
            ladder::LadderError,
            object::OfficialKey,
            policy::{Policy, PolicyStep},
        },
        wire::Document,
    },
};
use hsm_sim::{BootProfile, Bus, Rule};
use p256::ecdsa::Signature;

use crate::{
    embassy::{Ceremony, Embassy, address},
    narrator::Refusal,
    network::{Network, free_port},
    people::{EXPIRY_MAX_SECONDS, Person},
    raw::{Auth, Refused, Session, Tpm},
};

/// Where the embassy keeps its storage root key.
const STORAGE_ROOT: u32 = 0x8100_0001;
const START_AUTH_SESSION: u32 = 0x176;

/// Whether something was refused, and for the reason that the story claims: any other error would prove nothing.
fn refused_as<E: std::fmt::Display>(error: E, expected: impl FnOnce(&E) -> bool) -> anyhow::Result<E> {
    if expected(&error) { Ok(error) } else { bail!("refused for another reason: {error}") }
}

pub type Attempt = anyhow::Result<Result<Refusal, String>>;

/// The embassy's own program over a disk from before the last charter came: without the store, which has it, the directory is
/// as it was.
pub fn old_disk(network: &Network, embassy: &str, tcti: &str) -> Attempt {
    for file in ["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"] {
        match std::fs::remove_file(network.room(embassy).join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let mut service =
        network.start(embassy, &format!("serve --dir . --listen 127.0.0.1:{} --tcti {tcti}", free_port()?), &[])?;
    let expected = "The disk was put back to an older state";
    match service.says(expected, Duration::from_secs(30)) {
        Ok(said) => {
            let line = said.lines().find(|line| line.contains(expected)).unwrap_or_default();
            Ok(Ok(line.trim().to_owned()))
        }
        Err(_) if service.heard().contains("ready ") => {
            Ok(Err("an embassy that serves under the old charter".to_owned()))
        }
        Err(error) => Err(error),
    }
}

/// What a TPM's response code means.
fn says(Refused(code): &Refused) -> String {
    // Part 2 §6.6: format-one codes carry a handle, session or parameter number beside the error.
    let name = match if code & 0x80 == 0 { *code } else { code & 0xBF } {
        0x84 => "TPM_RC_VALUE: the session has not come to any digest that this policy allows here",
        0x8E => "TPM_RC_AUTH_FAIL: wrong authorization",
        0x9B => "TPM_RC_SIGNATURE: this signature is not for this session",
        0x9D => "TPM_RC_POLICY_FAIL: the policy is not satisfied for this command",
        0x9F => "TPM_RC_INTEGRITY: this blob was not made by this TPM",
        0xA2 => "TPM_RC_BAD_AUTH: wrong authorization",
        0x126 => "TPM_RC_POLICY: the compared value is another",
        0x12F => "TPM_RC_AUTH_UNAVAILABLE: this object takes a policy, no password",
        0x149 => "TPM_RC_NV_AUTHORIZATION: nobody is authorized so",
        _ => "another refusal",
    };
    format!("the TPM, {code:#05x} {name}")
}

/// The host's own driver: raw commands on the bus, with chancery's stored blobs.
pub struct Driver<'a> {
    bus: &'a Bus,
    keys: &'a EmbassyKeys,
    policy: &'a Policy,
}

impl<'a> Driver<'a> {
    pub fn new(embassy: &'a Embassy, keys: &'a EmbassyKeys, facts: &'a CustodyFacts) -> Self {
        Self { bus: embassy.machine.bus(), keys, policy: &facts.custody().custody_key.policy }
    }

    fn tpm(&self) -> Tpm<'a> {
        Tpm(self.bus)
    }

    /// Runs T's policy, then the decapsulation of `point`. `sign` gives the approval to show at each rung, or none.
    pub fn decapsulate(
        &self,
        point: &Point,
        approvers: &[Position],
        sign: impl FnMut(Position, &OfficialKey, &Session) -> anyhow::Result<Option<(OfficialKey, TpmApproval)>>,
    ) -> anyhow::Result<Result<Vec<u8>, String>> {
        let tpm = self.tpm();
        let session = tpm.start(false);
        let outcome = self.climb(&tpm, &session, point, approvers, sign);
        tpm.flush(session.handle);
        outcome
    }

    fn climb(
        &self,
        tpm: &Tpm<'_>,
        session: &Session,
        point: &Point,
        approvers: &[Position],
        mut sign: impl FnMut(Position, &OfficialKey, &Session) -> anyhow::Result<Option<(OfficialKey, TpmApproval)>>,
    ) -> anyhow::Result<Result<Vec<u8>, String>> {
        let mut refusals = Vec::new();
        for step in self.policy.steps(approvers)? {
            let answer = match &step {
                PolicyStep::ApprovedPlatform { selection, register } => tpm
                    .policy_pcr(session, &[], *selection)
                    .and_then(|()| tpm.policy_authorize_nv(session, register.handle.get())),
                PolicyStep::CounterEquals { counter, value } => {
                    tpm.policy_nv_equals(session, counter.handle.get(), *value)
                }
                PolicyStep::Signed { position, key, policy_ref } => match sign(*position, key, session)? {
                    Some((key, approval)) => tpm.policy_signed(session, &key, &approval, policy_ref),
                    None => Ok(()),
                },
                PolicyStep::Or { branches } => tpm.policy_or(session, branches),
            };
            if let Err(refused) = answer {
                let at = match step {
                    PolicyStep::ApprovedPlatform { .. } => "at the platform register",
                    PolicyStep::CounterEquals { .. } => "at the generation counter",
                    PolicyStep::Signed { .. } => "at an official's signature",
                    PolicyStep::Or { .. } => "at a rung of the ladder",
                };
                refusals.push(format!("{at}: {}", says(&refused)));
            }
        }
        // Whatever was refused on the way: the command itself is what counts.
        let (custody, _) = match tpm.load(STORAGE_ROOT, &self.keys.custody.private, &self.keys.custody.public) {
            Ok(loaded) => loaded,
            Err(refused) => {
                refusals.push(format!("at loading T: {}", says(&refused)));
                return Ok(Err(refusals.join("\n")));
            }
        };
        let answer = tpm.ecdh_zgen(custody, Auth::Policy(session.handle), point);
        tpm.flush(custody);
        Ok(answer.map_err(|refused| {
            refusals.push(format!("at the decapsulation: {}", says(&refused)));
            refusals.join("\n")
        }))
    }
}

fn attempted(outcome: Result<Vec<u8>, String>, gained: &str) -> Result<Refusal, String> {
    match outcome {
        Ok(_) => Err(gained.to_owned()),
        Err(refusal) => Ok(refusal),
    }
}

/// What a coerced official's key signs: anything, for the host's own session.
fn coerced(person: &Person, session: &Session, facts: &CustodyFacts, point: &Point) -> anyhow::Result<TpmApproval> {
    let ladder = facts.custody().custody_key.policy.ladder().context("T's policy has a ladder")?;
    let request = ApprovalRequest {
        nonce: TpmNonce::from_bytes(&session.nonce)?,
        command: CommandHash::ecdh_zgen(&facts.custody_key_name(), point),
        policy_ref: *ladder.policy_ref(),
    };
    person.approve(&request)
}

fn places(people: &[Person]) -> Vec<Position> {
    people.iter().map(|person| person.position).collect()
}

fn by_place(people: &[Person], position: Position) -> anyhow::Result<&Person> {
    people.iter().find(|person| person.position == position).context("an official of this quorum")
}

/// The control: with a whole quorum coerced, on the approved machine, the host's driver does get a half. So what is refused
/// below is refused by the TPM, and not by a fault of the driver.
pub fn control(driver: &Driver<'_>, people: &[Person], facts: &CustodyFacts, point: &Point) -> anyhow::Result<Vec<u8>> {
    driver
        .decapsulate(point, &places(&people[..3]), |position, key, session| {
            Ok(Some((*key, coerced(by_place(people, position)?, session, facts, point)?)))
        })?
        .map_err(|refusal| anyhow!("{refusal}"))
}

pub fn two_officials(
    driver: &Driver<'_>,
    people: &[Person],
    facts: &CustodyFacts,
    point: &Point,
    ceremony: &Ceremony,
) -> Attempt {
    let missing = people[2].position;
    let outcome = driver.decapsulate(point, &places(&people[..3]), |position, key, session| {
        if position == missing {
            return Ok(None);
        }
        Ok(Some((*key, coerced(by_place(people, position)?, session, facts, point)?)))
    })?;
    let Err(waiting) = ceremony.gathering.quorate() else {
        return Ok(Err("two contributions made a quorum".to_owned()));
    };
    let waiting = refused_as(waiting, |error| matches!(error, NotQuorate::NotEnough { have: 2, .. }))?;
    Ok(attempted(outcome, "two officials' approvals decapsulated")
        .map(|tpm| format!("the gathering: {waiting}\n{tpm}")))
}

pub fn one_twice(
    driver: &Driver<'_>,
    people: &[Person],
    facts: &CustodyFacts,
    point: &Point,
    ceremony: &mut Ceremony,
    again: &chancery::protocol::contribution::Contribution,
) -> Attempt {
    let twice = &people[0];
    let outcome = driver.decapsulate(point, &places(&people[..3]), |position, key, session| {
        // The first official signs on the second's rung as well.
        let (person, key) = if position == people[1].position {
            (twice, OfficialKey::new(crate::people::point_of(&twice.identity)?))
        } else {
            (by_place(people, position)?, *key)
        };
        Ok(Some((key, coerced(person, session, facts, point)?)))
    })?;
    let Err(repeated) = ceremony.receive(again) else {
        return Ok(Err("a second contribution of one official was counted".to_owned()));
    };
    let repeated = refused_as(repeated, |error| matches!(error, NotCounted::Repeated { .. }))?;
    Ok(attempted(outcome, "one official on two rungs decapsulated")
        .map(|tpm| format!("the gathering: {repeated}\n{tpm}")))
}

pub fn replayed(driver: &Driver<'_>, embassy: &Embassy, recorded: &[TpmApproval], point: &Point) -> Attempt {
    let approvers: Vec<Position> = recorded.iter().map(TpmApproval::position).collect();
    let outcome = driver.decapsulate(point, &approvers, |position, key, _| {
        let approval = recorded.iter().find(|approval| approval.position() == position);
        Ok(approval.map(|approval| (*key, approval.clone())))
    })?;
    let mut parked = embassy.tpm.begin(&[Order::Decapsulate(*point)])?;
    let command = parked.first_mut().context("a parked command")?;
    for approval in recorded {
        match command.approve(approval.clone(), EXPIRY_MAX_SECONDS) {
            Ok(_) => return Ok(Err("a recorded approval was taken for a new session".to_owned())),
            Err(refused) if approval.position() == approvers[0] => println!("      (chancery itself: {refused})"),
            Err(_) => {}
        }
    }
    Ok(attempted(outcome, "recorded approvals decapsulated again"))
}

pub fn moved_to_another_point(
    driver: &Driver<'_>,
    people: &[Person],
    facts: &CustodyFacts,
    approved: &Point,
    other: &Point,
) -> Attempt {
    // All k officials sign for one point; the host asks for another.
    let outcome = driver.decapsulate(other, &places(&people[..3]), |position, key, session| {
        Ok(Some((*key, coerced(by_place(people, position)?, session, facts, approved)?)))
    })?;
    Ok(attempted(outcome, "approvals for one point decapsulated another"))
}

pub fn key_on_two_rungs(facts: &CustodyFacts, founding: &VerifiedCharter, plan: &CustodyPlan) -> Attempt {
    let mut parts = founding.charter().parts().clone();
    let first = parts.officials.first().context("a first official")?.identity;
    if let Some(second) = parts.officials.get_mut(1) {
        second.identity = first;
    }
    let mut plan = plan.clone();
    if let Some(second) = plan.officials.get_mut(1) {
        *second = first;
    }
    match (Charter::new(parts), plan.custody(facts.machine().counter_first)) {
        (Err(charter @ CharterError::Shared { .. }), Err(ladder @ LadderError::OneKeyTwice { .. })) => {
            Ok(Ok(format!("the charter: {charter}\nthe ladder: {ladder}")))
        }
        _ => Ok(Err("a policy with one key on two rungs was computed".to_owned())),
    }
}

pub fn own_nonce(embassy: &Embassy, point: &Point) -> Attempt {
    let planned = embassy.machine.bus().plan(Rule::on(START_AUTH_SESSION).times(1).act(|exchange| {
        // A session of the host's own, unsalted, whose keys it knows; its nonce goes into the embassy's answer.
        let mut own = 0x8001_u16.to_be_bytes().to_vec();
        let body: Vec<u8> = [
            &0x4000_0007_u32.to_be_bytes()[..],
            &0x4000_0007_u32.to_be_bytes(),
            &[0, 32],
            &[7; 32],
            &[0, 0],
            &[1],
            &[0, 0x10],
            &[0, 0x0B],
        ]
        .concat();
        own.extend(u32::try_from(body.len() + 10).unwrap_or(0).to_be_bytes());
        own.extend(START_AUTH_SESSION.to_be_bytes());
        own.extend(body);
        let hosts = exchange.inject(&own)?;
        let mut answer = exchange.forward()?;
        if let (Some(target), Some(nonce)) = (answer.get_mut(16..48), hosts.get(16..48)) {
            target.copy_from_slice(nonce);
        }
        Ok(hsm_sim::Answer::bytes(answer))
    }));
    let outcome = embassy.tpm.begin(&[Order::Decapsulate(*point)]);
    embassy.machine.bus().clear_plan();
    if planned.acted() == 0 {
        bail!("the host never came between");
    }
    match outcome {
        Ok(_) => Ok(Err("an offer with the host's nonce would have gone to the officials".to_owned())),
        Err(error) => {
            let error = refused_as(error, |error| matches!(error, TpmError::Altered { .. }))?;
            embassy.tpm.begin(&[Order::Decapsulate(*point)]).context("nor without anybody between")?;
            Ok(Ok(format!("the embassy, before any offer: {error}")))
        }
    }
}

pub fn relabelled(
    embassy: &Embassy,
    person: &mut Person,
    facts: &CustodyFacts,
    wanted: &VerifiedVersion,
    shown: &VerifiedVersion,
    ceremony: &Ceremony,
) -> Attempt {
    // The host even has the embassy's identity key sign: an offer for `shown`, with the slot of `wanted` behind it.
    let here = SealedFor::Embassy(facts.embassy().clone());
    let slot = wanted.slot(&here).context("a slot")?.id();
    let honest = ceremony.signed.unverified().statement().parts().clone();
    let datasets = vec![crate::embassy::at(shown)];
    // Opened by an official in good faith: the words are true, what stands behind them is not.
    let statement = Statement::new(StatementParts { datasets, opener: person.name.clone(), ..honest })?;
    let statement = SignedStatement::sign(statement, &person.identity)?;
    let nonce = ceremony.signed.unverified().openings().first().context("an opening")?.nonce;
    let offer = Offer::new(statement, 1, Some(ceremony.key.public().clone()), vec![Opening { subject: slot, nonce }])?;
    let signature = Signature::from_slice(&embassy.tpm.sign_as_embassy(offer.hash().as_bytes())?)?;
    let signed = SignedOffer::new(offer, signature);
    match person.review(&signed, facts, &[wanted.clone(), shown.clone()]) {
        Ok(_) => Ok(Err("an official would have decapsulated another dataset's point".to_owned())),
        Err(refusal) => {
            let other_slot =
                |error: &anyhow::Error| matches!(error.downcast_ref(), Some(OfferRefusal::OtherSlot { .. }));
            let refusal = refused_as(refusal, other_slot)?;
            // And the slot itself, relabelled, is not valid under the other name.
            let context = shown.slot(&here).context("a slot")?.context();
            let slot = wanted.slot(&here).context("a slot")?.slot();
            match slot.verify(context) {
                Ok(_) => Ok(Err("a relabelled slot verified".to_owned())),
                Err(error) => Ok(Ok(format!("{}'s machine: {refusal}\nthe slot's proof: {error}", person.name))),
            }
        }
    }
}

pub fn another_kernel(
    embassy: &mut Embassy,
    people: &[Person],
    facts: &CustodyFacts,
    keys: &EmbassyKeys,
    point: &Point,
    other: &BootProfile,
) -> Attempt {
    embassy.machine.reboot(other)?;
    let signed = embassy.tpm.sign_as_embassy(&[1; 32]);
    let driver = Driver::new(embassy, keys, facts);
    let outcome = driver.decapsulate(point, &places(&people[..3]), |position, key, session| {
        Ok(Some((*key, coerced(by_place(people, position)?, session, facts, point)?)))
    })?;
    let Err(error) = signed else {
        return Ok(Err("the identity key signed for another kernel".to_owned()));
    };
    let error = refused_as(error, |error| matches!(error, TpmError::PlatformRefused))?;
    Ok(attempted(outcome, "another kernel decapsulated").map(|tpm| format!("the identity key: {error}\n{tpm}")))
}

pub fn another_tpm(other: &hsm_sim::Machine, facts: &CustodyFacts, keys: &EmbassyKeys) -> Attempt {
    match EmbassyTpm::open_chartered(&address(other), facts, keys) {
        Ok(_) => Ok(Err("the disk's state opened on another TPM".to_owned())),
        Err(error) => {
            let error = refused_as(error, |error| matches!(error, TpmError::AnotherTpm { .. }))?;
            // Past our software: T's blob itself, under the other TPM's own storage root.
            let tpm = Tpm(other.bus());
            match tpm.load(STORAGE_ROOT, &keys.custody.private, &keys.custody.public) {
                Ok(_) => Ok(Err("T's blob loaded in another TPM".to_owned())),
                Err(refused) => Ok(Ok(format!("{error}\n{}", says(&refused)))),
            }
        }
    }
}

pub fn register_without_quorum(embassy: &Embassy, people: &[Person], facts: &CustodyFacts, content: &[u8]) -> Attempt {
    let tpm = Tpm(embassy.machine.bus());
    let register = &facts.custody().register;
    let index = register.public.handle().get();
    let before = embassy.tpm.register_content()?;
    let Err(password) = tpm.nv_write(index, Auth::Password(&[]), content) else {
        return Ok(Err("the register was written with no authorization".to_owned()));
    };
    let ladder = register.policy.ladder().context("the register's policy has a ladder")?;
    let write = |content: &[u8], signers: &[Person]| -> anyhow::Result<Result<(), Refused>> {
        let session = tpm.start(false);
        let request = ApprovalRequest {
            nonce: TpmNonce::from_bytes(&session.nonce)?,
            command: CommandHash::nv_write(&register.public.name(), content)?,
            policy_ref: *ladder.policy_ref(),
        };
        for step in register.policy.steps(&places(&people[..3]))? {
            let _ = match &step {
                PolicyStep::Signed { position, key, policy_ref } => match by_place(signers, *position) {
                    Ok(signer) => tpm.policy_signed(&session, key, &signer.approve(&request)?, policy_ref),
                    Err(_) => Ok(()),
                },
                PolicyStep::CounterEquals { counter, value } => {
                    tpm.policy_nv_equals(&session, counter.handle.get(), *value)
                }
                PolicyStep::Or { branches } => tpm.policy_or(&session, branches),
                PolicyStep::ApprovedPlatform { .. } => Ok(()),
            };
        }
        let written = tpm.nv_write(index, Auth::Policy(session.handle), content);
        tpm.flush(session.handle);
        Ok(written)
    };
    // The control: the same commands with three officials do write, here what stands there already.
    if let Err(refused) = write(&before, &people[..3])? {
        bail!("not even a quorum writes in this way: {}", says(&refused));
    }
    match write(content, &people[..2])? {
        Ok(()) => Ok(Err("two officials wrote the register".to_owned())),
        Err(_) if embassy.tpm.register_content()? != before => Ok(Err("the register changed".to_owned())),
        Err(two) => Ok(Ok(format!("with a password: {}\nwith two officials: {}", says(&password), says(&two)))),
    }
}

pub fn earlier_generation(
    embassy: &Embassy,
    people: &[Person],
    facts: &CustodyFacts,
    backup: &[u8],
    point: &Point,
) -> Attempt {
    let keys = EmbassyKeys::decode(backup)?;
    let software = EmbassyTpm::open_chartered(&address(&embassy.machine), facts, &keys);
    let said = match software {
        Ok(tpm) => {
            let mut parked = tpm.begin(&[Order::Decapsulate(*point)])?;
            let command = parked.first_mut().context("a parked command")?;
            let request = *command.request();
            for person in &people[..3] {
                command.approve(person.approve(&request)?, EXPIRY_MAX_SECONDS)?;
            }
            match tpm.finish(command) {
                Ok(_) => return Ok(Err("the earlier generation's T decapsulated".to_owned())),
                Err(error) => error,
            }
        }
        Err(error) => error,
    };
    let said = refused_as(said, |error| matches!(error, TpmError::GenerationEnded))?;
    let driver = Driver::new(embassy, &keys, facts);
    let outcome = driver.decapsulate(point, &places(&people[..3]), |position, key, session| {
        Ok(Some((*key, coerced(by_place(people, position)?, session, facts, point)?)))
    })?;
    Ok(attempted(outcome, "the earlier generation's T decapsulated").map(|tpm| format!("{said}\n{tpm}")))
}

/// A secret and what it is called.
pub type Named<'a> = (&'a str, Vec<u8>);

pub fn search_the_bus(bus: &Bus, secrets: &[Named<'_>], known: &Named<'_>) -> Attempt {
    let recording = bus.recording();
    if !recording.contains(&known.1) {
        bail!("the search does not find {}, which did cross the bus in clear", known.0);
    }
    let found: Vec<&str> =
        secrets.iter().filter(|(_, bytes)| recording.contains(bytes)).map(|(name, _)| *name).collect();
    if found.is_empty() {
        let names: Vec<&str> = secrets.iter().map(|(name, _)| *name).collect();
        Ok(Ok(format!(
            "{} bytes in {} frames hold none of: {} (and do hold {})",
            recording.total_bytes(),
            recording.frames().len(),
            names.join(", "),
            known.0
        )))
    } else {
        Ok(Err(format!("found on the bus: {}", found.join(", "))))
    }
}
