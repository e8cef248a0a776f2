//! The host on the bus. Whatever it does to commands and answers ends in an error or in the right result, in bounded time, and
//! a fresh ceremony works afterwards; and what it records holds no secret.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use chancery::{
    hardware::{Clock, CustodyTpm, EmbassyTpm, MachineTpm, Order, Outcome, ParkedCommand, Remedy, TpmError},
    protocol::{group::Point, secret::SharedPoint},
};
use hsm_sim::{Answer, Exchange, Leg, Loss, Origin, Rule, Side, command as cc};
use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};

use crate::rig::{Rig, hasty, known_point, run};

/// The most a corrupted ceremony may take: two calls that end at their deadline, on a busy machine.
const BOUND: Duration = Duration::from_secs(4);

/// One whole ceremony, and the commands that it sent.
fn commands_of_a_ceremony(rig: &Rig, tpm: &EmbassyTpm) -> Vec<(u32, usize, usize)> {
    rig.bus().forget_recording();
    rig.decapsulates(tpm, &[1, 2, 4]);
    let recording = rig.bus().recording();
    let legs =
        |leg| recording.frames().iter().filter(move |frame| frame.origin == Origin::Software && frame.leg == leg);
    let answers: Vec<usize> = legs(Leg::ToSoftware).map(|frame| frame.bytes.len()).collect();
    let commands: Vec<(u32, usize)> =
        legs(Leg::FromSoftware).map(|frame| (cc::code_of(&frame.bytes).unwrap(), frame.bytes.len())).collect();
    assert_eq!(commands.len(), answers.len());
    commands.into_iter().zip(answers).map(|((code, length), answer)| (code, length, answer)).collect()
}

/// Runs a ceremony while the rule is in force, then others without.
fn corrupted(rig: &Rig, tpm: &EmbassyTpm, what: &str, rule: Rule) -> Result<(), TpmError> {
    let planned = rig.bus().plan(rule.times(1));
    let start = Instant::now();
    let (r, point) = known_point();
    let expected = Outcome::Shared(SharedPoint::take(&mut rig.t().mul(r.expose())));
    let outcome = run(tpm, &rig.people, &[1, 2, 4], Order::Decapsulate(point));
    assert!(start.elapsed() < BOUND, "{what}: took {:?}", start.elapsed());
    rig.bus().clear_plan();
    assert!(planned.matched() > 0, "{what}: the attack did not take place");
    let outcome = match outcome {
        Ok(outcome) => {
            assert_eq!(outcome, expected, "{what}: a wrong result");
            Ok(())
        }
        Err(error) => Err(error),
    };
    // The line may have been lost in the last moment, by a flush, or the TPM's slots be full of what a forged answer said was
    // flushed: one more call then finds it, and the next works.
    for attempt in 0.. {
        let (r, point) = known_point();
        match run(tpm, &rig.people, &[1, 2, 4], Order::Decapsulate(point)) {
            Ok(outcome) => {
                assert_eq!(outcome, Outcome::Shared(SharedPoint::take(&mut rig.t().mul(r.expose()))), "after {what}");
                break;
            }
            Err(TpmError::Gone { retry_after, .. }) if attempt < 2 => std::thread::sleep(retry_after),
            Err(TpmError::NotNow { .. }) if attempt < 2 => {}
            Err(error) => panic!("after {what} ({outcome:?}): a fresh ceremony ends in {error:?}"),
        }
    }
    outcome
}

fn at(index: usize) -> Rule {
    Rule::any().nth(u64::try_from(index).unwrap() + 1)
}

#[test]
fn flipped_bits_end_in_an_error_or_in_the_right_result() {
    let rig = Rig::new();
    let tpm = rig.try_open(&hasty(&rig.machine)).unwrap();
    let commands = commands_of_a_ceremony(&rig, &tpm);
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let mut tally = [0; 2];
    let mut remedies = std::collections::BTreeMap::<String, u32>::new();
    for (index, (code, command, answer)) in commands.iter().enumerate() {
        for (side, length) in [(Side::Command, *command), (Side::Response, *answer)] {
            // The header now and then: half of what it holds is a length, and each costs a deadline.
            let ranges = [0..10, 10..length, 10..length];
            for range in ranges.into_iter().skip(usize::from(index % 3 != 0)) {
                let offset = range.start + rng.next_u32() as usize % (range.len().max(1));
                let bit = (rng.next_u32() % 8) as u8;
                let what = format!("bit {bit} of byte {offset} of {length}, {side:?} {index} ({code:#x})");
                let outcome = corrupted(&rig, &tpm, &what, at(index).flip_bit(side, offset, bit));
                tally[usize::from(outcome.is_err())] += 1;
                if let Err(error) = outcome {
                    *remedies.entry(format!("{:?}", error.remedy())).or_default() += 1;
                    assert!(!error.to_string().contains("home"), "{what}: nobody at home can mend this: {error}");
                }
            }
        }
    }
    println!("{} commands; {} right results, {} errors {remedies:?}", commands.len(), tally[0], tally[1]);
    assert!(tally[1] > tally[0]);
    tpm.clock().unwrap();
    assert!(rig.litter().is_empty());
}

#[test]
fn cut_repeated_replayed_and_lost_frames_end_in_an_error_or_in_the_right_result() {
    let rig = Rig::new();
    let tpm = rig.try_open(&hasty(&rig.machine)).unwrap();
    let commands = commands_of_a_ceremony(&rig, &tpm);
    let mut errors = 0;
    for (index, (code, command, answer)) in commands.iter().enumerate() {
        let rules = [
            ("the command cut in half", at(index).truncate_command(command / 2)),
            ("the answer cut by a byte", at(index).truncate_response(answer - 1, Loss::Closed)),
            ("the answer cut in its header", at(index).truncate_response(7, Loss::Closed)),
            ("the command sent twice", at(index).duplicate()),
            ("the last answer to such a command again", at(index).replay_last()),
            ("the answer lost", at(index).drop_response(Loss::Closed)),
            ("no answer", at(index).drop_command(Loss::Silent)),
            ("a success without content", at(index).replay(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0])),
            ("an answer of 64 KiB", at(index).substitute(Side::Response, |_| huge())),
        ];
        // Each rule at every third command, and each command under a third of the rules.
        for (what, rule) in rules.into_iter().skip(index % 3).step_by(3) {
            let what = format!("{what}, command {index} ({code:#x})");
            errors += u32::from(corrupted(&rig, &tpm, &what, rule).is_err());
        }
    }
    println!("{} commands, {errors} errors", commands.len());
    tpm.clock().unwrap();
    assert!(rig.litter().is_empty());
}

fn huge() -> Vec<u8> {
    let mut bytes = vec![0; 65_536];
    bytes[..6].copy_from_slice(&[0x80, 1, 0, 1, 0, 0]);
    bytes
}

#[test]
fn spoiled_answers_to_unattended_work_are_errors_or_right() {
    let rig = Rig::new();
    let tpm = rig.try_open(&hasty(&rig.machine)).unwrap();
    let (clock, pcrs) = (tpm.clock().unwrap(), tpm.read_pcrs(rig.plan.platform).unwrap());
    let key = VerifyingKey::from_affine(*tpm.identity_point().unwrap().affine()).unwrap();
    let start = Instant::now();
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    for code in [cc::READ_CLOCK, cc::PCR_READ, cc::UNSEAL, cc::SIGN, cc::NV_READ] {
        for _ in 0..12 {
            let random = rng.next_u32() as usize;
            // Behind the header, and anywhere in the answer, however long it is.
            let spoil = move |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                let offset = 10 + random % (bytes.len() - 10);
                bytes[offset] ^= 8;
                bytes
            };
            let planned = rig.bus().plan(Rule::on(code).times(1).substitute(Side::Response, spoil));
            let wrong = match code {
                cc::READ_CLOCK => tpm.clock().is_ok_and(|now| {
                    let passed = u64::try_from(start.elapsed().as_millis()).unwrap() + 1000;
                    let may_be = clock.milliseconds..=clock.milliseconds + passed;
                    let counts = |clock: &Clock| (clock.reset_count, clock.restart_count, clock.safe);
                    counts(&now) != counts(&clock) || !may_be.contains(&now.milliseconds)
                }),
                cc::PCR_READ => tpm.read_pcrs(rig.plan.platform).is_ok_and(|now| now != pcrs),
                cc::UNSEAL => tpm.roll_seed().is_ok_and(|seed| seed != rig.roll_seed),
                cc::NV_READ => tpm.generation_counter().is_ok_and(|now| now != Some(rig.keys.counter_first)),
                // What is signed is verified before it is given out.
                _ => tpm.sign_as_embassy(&[1; 32]).is_ok_and(|signature| {
                    Signature::from_slice(&signature).and_then(|it| key.verify_prehash(&[1; 32], &it)).is_err()
                }),
            };
            assert!(!wrong, "byte number {random} (modulo its length) of the answer to {code:#x}");
            assert_eq!(planned.acted(), 1);
            rig.bus().clear_plan();
            while let Err(TpmError::Gone { retry_after, .. }) = tpm.clock() {
                std::thread::sleep(retry_after);
            }
        }
    }
}

/// TPM2_StartAuthSession as the host sends it: a policy session without a salt, so that the host knows its key.
fn hosts_session(exchange: &Exchange<'_>, symmetric: &[u8]) -> (u32, [u8; 32]) {
    let parameters = [&[0, 32], &[7; 32][..], &[0, 0], &[1], symmetric, &[0, 0x0B]].concat();
    let null = 0x4000_0007;
    let answer = exchange.inject(&cc::command(cc::START_AUTH_SESSION, &[null, null], None, &parameters)).unwrap();
    assert_eq!(cc::response_code_of(&answer), Some(cc::SUCCESS));
    let handle = u32::from_be_bytes(answer[10..14].try_into().unwrap());
    (handle, answer[16..48].try_into().unwrap())
}

#[test]
fn the_hosts_own_nonce_is_refused_before_an_offer_exists() {
    let rig = Rig::new();
    let tpm = rig.open();
    let planned = rig.bus().plan(Rule::on(cc::START_AUTH_SESSION).times(1).act(|exchange| {
        let (_, nonce) = hosts_session(exchange, &[0, 0x10]);
        let mut answer = exchange.forward()?;
        answer[16..48].copy_from_slice(&nonce);
        Ok(Answer::bytes(answer))
    }));
    let refused = tpm.begin(&[Order::Decapsulate(known_point().1)]).unwrap_err();
    assert_eq!(planned.acted(), 1);
    assert_eq!((refused.remedy(), refused), (Remedy::Retry, TpmError::Altered { during: "GetRandom" }));
    rig.bus().clear_plan();
    rig.decapsulates(&tpm, &[1, 2, 3]);
}

#[test]
fn a_host_that_relays_between_two_sessions_gets_no_offer_either() {
    let rig = Rig::new();
    let tpm = rig.open();
    // The embassy's session is never started; it talks to the host's, whose nonces are true ones of this TPM.
    let own = Arc::new(Mutex::new(0u32));
    let handle = Arc::clone(&own);
    let started = rig.bus().plan(Rule::on(cc::START_AUTH_SESSION).times(1).act(move |exchange| {
        let (session, nonce) = hosts_session(exchange, &[0, 6, 0, 128, 0, 0x43]);
        *handle.lock().unwrap() = session;
        let mut answer = vec![0x80, 1, 0, 0, 0, 48, 0, 0, 0, 0];
        answer.extend(session.to_be_bytes());
        answer.extend([0, 32]);
        answer.extend(nonce);
        Ok(Answer::bytes(answer))
    }));
    // An unsalted policy session takes an empty HMAC: that alone the host exchanges.
    let relayed = rig.bus().plan(Rule::on(cc::GET_RANDOM).times(1).act(move |exchange| {
        let command = exchange.command();
        let nonce = &command[20..52];
        let mut area = own.lock().unwrap().to_be_bytes().to_vec();
        area.extend([0, 32]);
        area.extend(nonce);
        area.extend([command[52], 0, 0]);
        let body =
            [&u32::try_from(area.len()).unwrap().to_be_bytes()[..], &area, &command[command.len() - 2..]].concat();
        let size = u32::try_from(body.len() + 10).unwrap().to_be_bytes();
        let forged = [&[0x80, 2][..], &size, &command[6..10], &body].concat();
        let mut answer = exchange.forward_as(&forged)?;
        assert_eq!(cc::response_code_of(&answer), Some(cc::SUCCESS), "the TPM takes the host's own session");
        // Its answer ends in an empty HMAC; the embassy expects 32 bytes, which only the salted key makes.
        assert!(answer.ends_with(&[0, 0]));
        let length = answer.len() - 2;
        answer.truncate(length);
        answer.extend([0, 32]);
        answer.extend([0x5A; 32]);
        let size = u32::try_from(answer.len()).unwrap().to_be_bytes();
        answer[2..6].copy_from_slice(&size);
        Ok(Answer::bytes(answer))
    }));
    let refused = tpm.begin(&[Order::Decapsulate(known_point().1)]).unwrap_err();
    assert_eq!((started.acted(), relayed.acted()), (1, 1));
    assert_eq!((refused.remedy(), refused), (Remedy::Retry, TpmError::Altered { during: "GetRandom" }));
    rig.bus().clear_plan();
    rig.decapsulates(&tpm, &[1, 2, 3]);
}

#[test]
fn no_secret_crosses_the_bus_after_home() {
    let rig = Rig::new();
    let tpm = rig.open();
    assert_eq!(tpm.roll_seed().unwrap(), rig.roll_seed);
    tpm.sign_as_embassy(&[1; 32]).unwrap();
    let (r, point) = known_point();
    let mut commands: Vec<ParkedCommand> = tpm.begin(&[Order::Decapsulate(point); 2]).unwrap();
    rig.people.approve(&mut commands[0], &[1, 2, 3]);
    let z_t = rig.t().mul(r.expose());
    assert_eq!(tpm.finish(&mut commands[0]), Ok(Outcome::Shared(SharedPoint::take(&mut z_t.clone()))));
    rig.bus().plan(Rule::on(cc::ECDH_ZGEN).drop_response(Loss::Closed));
    rig.people.approve(&mut commands[1], &[3, 4, 5]);
    tpm.finish(&mut commands[1]).unwrap_err();

    let recording = rig.bus().recording();
    assert!(recording.commands(cc::NV_DEFINE_SPACE).count() == 3 && recording.commands(cc::CREATE).count() == 3);
    assert_eq!(recording.responses(cc::ECDH_ZGEN).count(), 2, "the halves did cross the bus");
    assert_eq!(recording.responses(cc::UNSEAL).count(), 1, "and the roll seed");
    let (x, y) = z_t.xy();
    for (what, secret) in [
        ("the x coordinate of the TPM's half", x.as_slice()),
        ("its y coordinate", &y),
        ("half of its x coordinate", &x[..16]),
        ("the roll seed", rig.roll_seed.expose()),
        ("the owner authorization", rig.auths.owner.expose()),
        ("the endorsement authorization", rig.auths.endorsement.expose()),
        ("the lockout authorization", rig.auths.lockout.expose()),
    ] {
        assert!(recording.find(secret).is_none(), "{what} was recorded");
    }
    // The search does find what crosses in clear.
    let in_clear = |point: &Point| point.xy().0;
    assert!(recording.contains(&in_clear(&point)), "the point that was asked");
    assert!(recording.contains(rig.plan.charter.0.as_bytes()), "the charter that was pinned");
}

#[test]
fn flushes_that_only_the_host_answers_fill_the_tpm_once_and_it_is_swept() {
    let rig = Rig::new();
    let tpm = rig.open();
    let forged = rig.bus().plan(Rule::on(cc::FLUSH_CONTEXT).replay(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0]));
    let full = (0..4).find_map(|_| tpm.sign_as_embassy(&[1; 32]).err()).unwrap();
    assert!(forged.acted() > 0 && matches!(full, TpmError::NotNow { .. }), "{full:?}");
    assert_eq!(full.remedy(), Remedy::Retry);
    rig.bus().clear_plan();
    rig.decapsulates(&tpm, &[1, 2, 3]);
    tpm.clock().unwrap();
    assert!(rig.litter().is_empty());
}
