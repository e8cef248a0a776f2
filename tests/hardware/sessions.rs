//! Parked sessions: many at once, given back, lost by a reset, left behind by a process that ended.

use chancery::{
    hardware::{CustodyTpm, MAX_COMMANDS, MAX_PARKED, MachineTpm, Order, Outcome, Remedy, TpmError},
    protocol::secret::SharedPoint,
};
use hsm_sim::{Rule, command as cc};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};

use crate::rig::{Rig, address, approved, known_point, run};

#[test]
fn twenty_ceremonies_wait_at_once_and_end_in_any_order() {
    let rig = Rig::new();
    let tpm = rig.open();
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let (r, point) = known_point();
        let mut command = tpm.begin(&[Order::Decapsulate(point)]).unwrap().pop().unwrap();
        rig.people.approve(&mut command, &[1, 2, 3]);
        waiting.push((r, command));
    }
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    while !waiting.is_empty() {
        let (r, mut command) = waiting.swap_remove(rng.next_u32() as usize % waiting.len());
        let expected = SharedPoint::take(&mut rig.t().mul(r.expose()));
        assert_eq!(tpm.finish(&mut command), Ok(Outcome::Shared(expected)));
    }
    assert!(rig.litter().is_empty());
}

#[test]
fn no_more_is_parked_than_the_tpm_can_hold_and_dropping_gives_back() {
    let rig = Rig::new();
    let tpm = rig.open();
    let orders = [Order::Decapsulate(known_point().1); MAX_COMMANDS];
    let mut waiting: Vec<_> = (0..MAX_PARKED / MAX_COMMANDS)
        .map(|_| tpm.begin(&orders).map_err(|error| error.to_string()).unwrap())
        .collect();
    let refused = tpm.begin(&orders[..1]).unwrap_err();
    assert_eq!(refused, TpmError::TooManyParked { parked: MAX_PARKED });
    assert_eq!(refused.remedy(), Remedy::Retry);
    // Unattended work goes on beside them.
    tpm.sign_as_embassy(&[1; 32]).unwrap();
    drop(waiting[0].split_off(1));
    let refused = tpm.begin(&orders).unwrap_err();
    assert_eq!(refused, TpmError::TooManyParked { parked: MAX_PARKED }, "one place was short");
    tpm.clock().unwrap();
    assert_eq!(rig.litter().len(), MAX_PARKED - 7, "what had begun of it was given back");
    drop(waiting);
    tpm.clock().unwrap();
    assert!(rig.litter().len() <= 1);
}

#[test]
fn failed_operations_leave_nothing_in_the_tpm() {
    let mut rig = Rig::new();
    let tpm = rig.open();
    rig.machine.reboot(&rig.profile.clone().with_kernel(b"another")).unwrap();
    let content = approved(&rig.plan, &rig.profile);
    for _ in 0..5 {
        tpm.sign_as_embassy(&[1; 32]).unwrap_err();
        tpm.roll_seed().unwrap_err();
        run(&tpm, &rig.people, &[1, 2, 3], Order::Decapsulate(known_point().1)).unwrap_err();
        run(&tpm, &rig.people, &[1, 2], Order::WriteRegister(content)).unwrap_err();
        drop(tpm.begin(&[Order::WriteRegister(content), Order::MoveGeneration]).unwrap());
        let mut spoiled = rig.keys.clone();
        *spoiled.custody.private.last_mut().unwrap() ^= 1;
        let opened = chancery::hardware::EmbassyTpm::open(
            &address(&rig.machine),
            rig.foundation,
            rig.plan.clone(),
            Some(&spoiled),
        );
        assert!(matches!(opened.map(|_| ()), Err(TpmError::ObjectChanged { .. })));
    }
    tpm.clock().unwrap();
    assert_eq!(rig.litter(), Vec::<u32>::new());
}

#[test]
fn a_tpm_reset_voids_what_was_approved_and_fresh_approvals_serve() {
    let mut rig = Rig::new();
    let tpm = rig.open();
    let (_, point) = known_point();
    for orderly in [true, false] {
        let mut command = tpm.begin(&[Order::Decapsulate(point)]).unwrap().pop().unwrap();
        rig.people.approve(&mut command, &[1, 2, 3]);
        let before = tpm.clock().unwrap();
        if orderly {
            rig.machine.reboot(&rig.profile).unwrap();
        } else {
            rig.machine.tpm_reset(&rig.profile).unwrap();
        }
        let lost = tpm.finish(&mut command).unwrap_err();
        assert_eq!((lost.remedy(), lost), (Remedy::FreshApprovals, TpmError::SessionLost));
        assert_eq!(tpm.clock().unwrap().reset_count, before.reset_count + 1);
        rig.decapsulates(&tpm, &[1, 2, 3]);
        drop(command);
        tpm.clock().unwrap();
        assert!(rig.litter().is_empty());
    }
}

#[test]
fn a_tpm_that_asks_to_wait_loses_no_approvals() {
    let rig = Rig::new();
    let tpm = rig.open();
    let (r, point) = known_point();
    let mut command = tpm.begin(&[Order::Decapsulate(point)]).unwrap().pop().unwrap();
    rig.people.approve(&mut command, &[1, 2, 3]);
    // TPM_RC_RETRY; TPM_RC_SESSION_MEMORY, which another program's sessions cause.
    for code in [0x922u32, 0x903] {
        let answer = [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat();
        for command_code in [cc::CONTEXT_LOAD, cc::LOAD, cc::LOAD_EXTERNAL, cc::POLICY_SIGNED, cc::ECDH_ZGEN] {
            rig.bus().plan(Rule::on(command_code).replay(answer.clone()));
            let refused = tpm.finish(&mut command).unwrap_err();
            rig.bus().clear_plan();
            assert!(matches!(refused, TpmError::NotNow { .. }), "{code:#x} at {command_code:#x}: {refused:?}");
            assert_eq!(refused.remedy(), Remedy::Retry);
        }
    }
    let expected = Outcome::Shared(SharedPoint::take(&mut rig.t().mul(r.expose())));
    assert_eq!(tpm.finish(&mut command), Ok(expected));
    assert!(rig.litter().is_empty());
}

#[test]
fn a_service_that_starts_again_sweeps_what_it_left_behind() {
    let rig = Rig::new();
    let before = rig.open();
    let (_, point) = known_point();
    let mut old = before.begin(&[Order::Decapsulate(point); 4]).unwrap();
    old.iter_mut().for_each(|command| {
        rig.people.approve(command, &[1, 2, 3]);
    });
    drop(before);
    assert_eq!(rig.litter().len(), 4);
    let after = rig.open();
    assert_eq!(rig.litter(), Vec::<u32>::new());

    // A command of the service before is nobody's here: no official is blamed, and no other command suffers.
    let (r, point) = known_point();
    let mut own = after.begin(&[Order::Decapsulate(point)]).unwrap().pop().unwrap();
    rig.people.approve(&mut own, &[1, 2, 3]);
    assert_eq!(after.finish(&mut old[0]), Err(TpmError::SessionLost));
    let expected = Outcome::Shared(SharedPoint::take(&mut rig.t().mul(r.expose())));
    assert_eq!(after.finish(&mut own), Ok(expected));
}

#[test]
fn two_services_on_one_tpm_disturb_each_other_but_never_come_to_a_wrong_result() {
    let rig = Rig::new();
    let (first, second) = (rig.open(), rig.open());
    let work = |tpm: &chancery::hardware::EmbassyTpm| {
        let mut done = 0;
        for _ in 0..12 {
            let (r, point) = known_point();
            match run(tpm, &rig.people, &[1, 2, 3], Order::Decapsulate(point)) {
                Ok(outcome) => {
                    assert_eq!(outcome, Outcome::Shared(SharedPoint::take(&mut rig.t().mul(r.expose()))));
                    done += 1;
                }
                Err(error) => println!("{error}"),
            }
        }
        done
    };
    let done: u32 = std::thread::scope(|scope| {
        let other = scope.spawn(|| work(&second));
        work(&first) + other.join().unwrap()
    });
    println!("{done} of 24 succeeded");
    drop(second);
    // Once alone, the first serves again: after the pause that its last failure may have left it in, and one sweep.
    let serves = || {
        let (r, point) = known_point();
        let outcome = run(&first, &rig.people, &[1, 2, 3], Order::Decapsulate(point));
        outcome.map(|outcome| assert_eq!(outcome, Outcome::Shared(SharedPoint::take(&mut rig.t().mul(r.expose())))))
    };
    let mut tries = 0;
    while let Err(error) = serves() {
        tries += 1;
        assert!(tries < 10, "it does not serve again: {error}");
        let pause = match error {
            TpmError::Gone { retry_after, .. } => retry_after,
            _ => std::time::Duration::from_millis(100),
        };
        std::thread::sleep(pause);
    }
    // What the two left between them, the next one sweeps out when it opens.
    drop(first);
    rig.decapsulates(&rig.open(), &[1, 2, 3]);
    assert_eq!(rig.litter(), Vec::<u32>::new());
}
