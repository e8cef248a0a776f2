//! What `protocol::tpm` computes without a TPM against what a TPM (swtpm) computes, and refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

#[path = "policy/raw.rs"]
mod raw;

use chancery::protocol::{
    evidence::eventlog::{Bank, EventLog},
    group::Point,
    hash::Hash,
    ids::{CharterId, EmbassyName, Generation},
    quorum::{Position, Threshold},
    secret::SecretScalar,
    tpm::{
        approval::{ApprovalRequest, CommandHash, Expiry, TpmNonce},
        custody::{Custody, CustodyHandles, CustodyPlan, Guarded},
        ladder::Ladder,
        nv::NvHandle,
        object::KeyTemplate,
        pcr::{PcrSelection, RegisterContent},
        policy::{Policy, PolicyDigest, PolicyRef, PolicyStep, Purpose},
    },
};
use hsm_sim::{BootProfile, Machine, Rack};
use p256::ecdsa::SigningKey;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{OsRng, RngCore, SeedableRng};
use raw::{Answer, Auth, ENDORSEMENT, OWNER, Refused, Session, Tpm};

const MINUTES_10: u32 = 600;

fn machine() -> (Machine, Rack) {
    let rack = Rack::temporary().unwrap();
    let mut machine = rack.machine("lux-1").unwrap();
    machine.power_on(&BootProfile::default()).unwrap();
    (machine, rack)
}

fn point(key: &SigningKey) -> Point {
    Point::decode(key.verifying_key().to_encoded_point(true).as_bytes()).unwrap()
}

fn keys(rng: &mut ChaCha20Rng, n: u8) -> Vec<SigningKey> {
    (0..n).map(|_| SigningKey::random(rng)).collect()
}

fn plan(keys: &[SigningKey], k: u8) -> CustodyPlan {
    let n = u8::try_from(keys.len()).unwrap();
    CustodyPlan {
        charter: CharterId(Hash([7; 32])),
        embassy: EmbassyName::new("luxembourg").unwrap(),
        generation: Generation::FIRST,
        officials: keys.iter().map(point).collect(),
        unseal: Threshold::new(k, n).unwrap(),
        amend: Threshold::new(n, n).unwrap(),
        platform: PcrSelection::new(&[0, 2, 4, 7, 11, 12]).unwrap(),
        handles: CustodyHandles {
            counter: NvHandle::new(0x0180_0010).unwrap(),
            register: NvHandle::new(0x0180_0011).unwrap(),
            charter_pin: NvHandle::new(0x0180_0012).unwrap(),
        },
    }
}

/// Officials who sign whatever they are asked.
struct Officials<'a> {
    tpm: &'a Tpm<'a>,
    keys: &'a [SigningKey],
    command: CommandHash,
    policy_ref: PolicyRef,
}

impl Officials<'_> {
    /// Runs one step. `signer` signs in the place of the official whom a `Signed` names.
    fn run(&self, session: &Session, step: &PolicyStep, signer: Option<Position>) -> Answer<()> {
        match step {
            PolicyStep::ApprovedPlatform { selection, register } => {
                self.tpm.policy_pcr(session, &[], *selection)?;
                self.tpm.policy_authorize_nv(session, register.handle.get())
            }
            PolicyStep::CounterEquals { counter, value } => {
                self.tpm.policy_nv_equals(session, counter.handle.get(), *value)
            }
            PolicyStep::Signed { position, key, policy_ref } => {
                let nonce = TpmNonce::from_bytes(&session.nonce).unwrap();
                let request = ApprovalRequest { nonce, command: self.command, policy_ref: self.policy_ref };
                let expiry = Expiry::new(MINUTES_10, MINUTES_10).unwrap();
                let own = &self.keys[signer.unwrap_or(*position).index()];
                let approval = request.sign(*position, expiry, own).unwrap();
                let key =
                    if signer.is_some() { &chancery::protocol::tpm::object::OfficialKey::new(point(own)) } else { key };
                self.tpm.policy_signed(session, key, &approval, policy_ref)
            }
            PolicyStep::Or { branches } => self.tpm.policy_or(session, branches),
        }
    }

    /// A fresh session that ran the whole policy.
    fn session(&self, policy: &Policy, approvers: &[Position]) -> Answer<Session> {
        let session = self.tpm.start(false);
        for step in policy.steps(approvers).unwrap() {
            if let Err(refused) = self.run(&session, &step, None) {
                self.tpm.flush(session.handle);
                return Err(refused);
            }
        }
        assert_eq!(self.tpm.digest(&session), policy.digest().as_bytes());
        Ok(session)
    }

    /// Runs the policy, then what it is for, and flushes.
    fn under<T>(&self, policy: &Policy, approvers: &[Position], act: impl FnOnce(Auth<'_>) -> Answer<T>) -> Answer<T> {
        let session = self.session(policy, approvers)?;
        let answer = act(Auth::Policy(session.handle));
        self.tpm.flush(session.handle);
        answer
    }
}

#[test]
fn ladders_are_what_the_tpm_computes_and_no_others_climb_them() {
    let (machine, _rack) = machine();
    let tpm = Tpm(machine.bus());
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    let cases = (1u8..=9).prop_flat_map(|n| (Just(n), 1..=n, any::<u64>()));
    proptest!(config, |((n, k, seed) in cases)| {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let keys = keys(&mut rng, n);
        let threshold = Threshold::new(k, n).unwrap();
        let selection = PcrSelection::new(&[u8::try_from(seed % 24).unwrap()]).unwrap();
        let mut values = [0; 32];
        rng.fill_bytes(&mut values);
        let base = PolicyDigest::ZERO.pcr(selection, &values);
        let policy_ref = plan(&keys, k).policy_ref(Purpose::Unseal);
        let points: Vec<Point> = keys.iter().map(point).collect();
        let ladder = Ladder::new(base, threshold, &points, policy_ref).unwrap();

        let mut order: Vec<Position> = threshold.positions().collect();
        for i in (1..order.len()).rev() {
            order.swap(i, (rng.next_u32() as usize) % (i + 1));
        }
        let quorum = &order[..usize::from(k)];
        let command = CommandHash::nv_increment(ladder.keys()[0].name());
        let officials = Officials { tpm: &tpm, keys: &keys, command, policy_ref };
        let steps = ladder.path(quorum).unwrap();

        // The TPM's own computation, in a trial from the same base.
        let trial = tpm.start(true);
        tpm.policy_pcr(&trial, &values, selection).unwrap();
        prop_assert_eq!(tpm.digest(&trial), base.as_bytes());
        for step in &steps {
            officials.run(&trial, step, None).unwrap();
        }
        prop_assert_eq!(tpm.digest(&trial), ladder.digest().as_bytes());
        tpm.flush(trial.handle);

        // For real, from an empty base.
        let ladder = Ladder::new(PolicyDigest::ZERO, threshold, &points, policy_ref).unwrap();
        let steps = ladder.path(quorum).unwrap();
        let climb = |without: Option<Position>, instead: Option<Position>| {
            let session = tpm.start(false);
            let mut refused = None;
            for step in &steps {
                let cheats = matches!(step, PolicyStep::Signed { position, .. } if Some(*position) == without);
                if cheats && instead.is_none() {
                    continue;
                }
                if let Err(Refused(code)) = officials.run(&session, step, instead.filter(|_| cheats)) {
                    refused = Some(code);
                    break;
                }
            }
            let digest = tpm.digest(&session);
            tpm.flush(session.handle);
            (refused, digest)
        };
        prop_assert_eq!(climb(None, None), (None, ladder.digest().as_bytes().to_vec()));
        for missing in quorum {
            // k-1 sign; then another of the quorum signs a second time for the missing one.
            prop_assert_ne!(climb(Some(*missing), None).1, ladder.digest().as_bytes());
            if let Some(twice) = quorum.iter().find(|other| *other != missing) {
                prop_assert_ne!(climb(Some(*missing), Some(*twice)).1, ladder.digest().as_bytes());
            }
        }
        for key in ladder.keys() {
            let (handle, name) = tpm.load_external(key);
            tpm.flush(handle);
            prop_assert_eq!(name, key.name().as_bytes());
        }
    });
}

/// Provisions everything of one generation as the charter describes it, under the quorum's real signatures.
struct Provisioned<'a> {
    tpm: &'a Tpm<'a>,
    keys: &'a [SigningKey],
    plan: CustodyPlan,
    custody: Custody,
}

impl<'a> Provisioned<'a> {
    fn new(tpm: &'a Tpm<'a>, machine: &Machine, keys: &'a [SigningKey], k: u8) -> Self {
        let plan = plan(keys, k);
        let owner = machine.owner_authorization();
        let all: Vec<Position> = plan.amend.positions().collect();
        let Guarded { public, policy } = plan.counter().unwrap();
        let index = public.handle().get();
        tpm.nv_define(owner, &public).unwrap();
        assert_eq!(tpm.nv_name(index), public.name_before_first_write().as_bytes());
        let amend = |command| Officials { tpm, keys, command, policy_ref: plan.policy_ref(Purpose::Amend) };
        let first = amend(CommandHash::nv_increment(&public.name_before_first_write()));
        first.under(&policy, &all, |auth| tpm.nv_increment(index, auth)).unwrap();
        assert_eq!(tpm.nv_name(index), public.name().as_bytes());
        let value = u64::from_be_bytes(tpm.nv_read(index, 8).try_into().unwrap());

        let custody = plan.custody(value).unwrap();
        let content = register_content(machine, &plan);
        let writes = [(&custody.register, content.as_bytes().as_slice()), (&custody.charter_pin, &[9; 32])];
        for (Guarded { public, policy }, data) in writes {
            let index = public.handle().get();
            tpm.nv_define(owner, public).unwrap();
            assert_eq!(tpm.nv_name(index), public.name_before_first_write().as_bytes());
            let write = amend(CommandHash::nv_write(&public.name_before_first_write(), data).unwrap());
            write.under(policy, &all, |auth| tpm.nv_write(index, auth, data)).unwrap();
            assert_eq!(tpm.nv_name(index), public.name().as_bytes());
            assert_eq!(tpm.nv_read(index, public.size()), data);
        }
        Self { tpm, keys, plan, custody }
    }

    fn officials(&self, purpose: Purpose, command: CommandHash) -> Officials<'_> {
        Officials { tpm: self.tpm, keys: self.keys, command, policy_ref: self.plan.policy_ref(purpose) }
    }
}

/// What an official's client computes from the event log it is shown.
fn register_content(machine: &Machine, plan: &CustodyPlan) -> RegisterContent {
    let log = EventLog::parse(machine.event_log()).unwrap();
    let values = log.sha256_pcrs().into_iter().filter(|(pcr, _)| plan.platform.contains(*pcr)).collect();
    RegisterContent::of(plan.platform, &values).unwrap()
}

#[test]
fn every_object_has_the_name_computed_and_opens_by_the_steps_computed() {
    let (mut machine, _rack) = machine();
    let bus = machine.bus().clone();
    let tpm = Tpm(&bus);
    let keys = keys(&mut ChaCha20Rng::seed_from_u64(7), 5);
    let all = Provisioned::new(&tpm, &machine, &keys, 3);
    let custody = &all.custody;

    let owner = machine.owner_authorization().to_vec();
    let (root, area, name) = tpm.create_primary(OWNER, &owner, &KeyTemplate::STORAGE_ROOT.marshal());
    assert_eq!(KeyTemplate::STORAGE_ROOT.accept(&area).unwrap().1.as_bytes(), &name[..]);
    let (ak, area, name) = tpm.create_primary(ENDORSEMENT, &[], &KeyTemplate::ATTESTATION.marshal());
    assert_eq!(KeyTemplate::ATTESTATION.accept(&area).unwrap().1.as_bytes(), &name[..]);
    tpm.flush(ak);
    let identity = custody.identity_key.public;
    let (handle, area, name) = tpm.create_and_load(root, &[], &identity.marshal());
    assert_eq!(identity.accept(&area).unwrap().1.as_bytes(), &name[..]);
    tpm.flush(handle);
    let (roll, area, name) = tpm.create_and_load(root, &[5; 32], &custody.roll_key.public.marshal());
    assert_eq!(custody.roll_key.public.accept(&area).unwrap().as_bytes(), &name[..]);
    let template = custody.custody_key.public;
    let (t, area, name) = tpm.create_and_load(root, &[], &template.marshal());
    let (t_point, t_name) = template.accept(&area).unwrap();
    assert_eq!(t_name.as_bytes(), &name[..]);
    tpm.flush(root);

    // The custody key computes for a quorum, and for exactly the point they signed for.
    let secret = SecretScalar::random(&mut OsRng);
    let c = Point::mul_generator(secret.expose());
    let quorum: Vec<Position> = [1, 3, 4].map(|place| Position::new(place).unwrap()).to_vec();
    let command = CommandHash::ecdh_zgen(&t_name, &c);
    let officials = all.officials(Purpose::Unseal, command);
    let policy = &custody.custody_key.policy;
    let z = officials.under(policy, &quorum, |auth| tpm.ecdh_zgen(t, auth, &c)).unwrap();
    assert_eq!(z, t_point.mul(secret.expose()).xy().0);
    let other = Point::mul_generator(SecretScalar::random(&mut OsRng).expose());
    assert!(officials.under(policy, &quorum, |auth| tpm.ecdh_zgen(t, auth, &other)).is_err(), "another point");
    assert!(tpm.ecdh_zgen(t, Auth::Password(&[]), &c).is_err(), "without the quorum");
    let wrong_purpose = all.officials(Purpose::Amend, command);
    assert!(wrong_purpose.session(policy, &quorum).is_err(), "signatures for another purpose");

    // The roll key opens on this machine in this state, for nobody's signature.
    let roll_policy = &custody.roll_key.policy;
    let nobody = all.officials(Purpose::Unseal, command);
    assert_eq!(nobody.under(roll_policy, &[], |auth| tpm.unseal(roll, auth)).unwrap(), [5; 32]);

    // In another state nothing opens.
    tpm.flush(t);
    tpm.flush(roll);
    machine.reboot(&BootProfile::default().with_kernel(b"the host country's kernel")).unwrap();
    assert!(nobody.session(roll_policy, &[]).is_err(), "another kernel");
    assert!(officials.session(policy, &quorum).is_err(), "another kernel");
    machine.reboot(&BootProfile::default()).unwrap();
    assert!(officials.session(policy, &quorum).map(|session| tpm.flush(session.handle)).is_ok());

    // The quorum ends the generation: the counter moves, and neither T nor the register's policy holds any more.
    let counter = &custody.counter;
    let end = all.officials(Purpose::Amend, CommandHash::nv_increment(&counter.public.name()));
    let everyone: Vec<Position> = all.plan.amend.positions().collect();
    end.under(&counter.policy, &everyone, |auth| tpm.nv_increment(counter.public.handle().get(), auth)).unwrap();
    assert!(officials.session(policy, &quorum).is_err(), "T outlived its generation");
    assert!(end.session(&custody.register.policy, &everyone).is_err(), "the register outlived its generation");
}

#[test]
fn the_simulated_machine_s_event_log_replays_to_its_tpm_s_pcrs() {
    let (mut machine, _rack) = machine();
    for profile in [BootProfile::default(), BootProfile::default().with_secure_boot(false).with_kernel(b"other")] {
        machine.reboot(&profile).unwrap();
        let log = EventLog::parse(machine.event_log()).unwrap();
        assert_eq!(log.banks().collect::<Vec<_>>(), [Bank::Sha256, Bank::Sha384]);
        for (bank, values) in log.replay() {
            for (pcr, value) in values {
                let response = machine.bus().transact(&hsm_sim::command::pcr_read(bank.algorithm().0, pcr)).unwrap();
                assert!(response.ends_with(&value), "{bank} PCR {pcr}");
            }
        }
    }
}
