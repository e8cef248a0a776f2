//! A TPM that does not answer: nobody waits for ever, what comes too late is nobody's, and work goes on after the pause.

use std::{
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use chancery::{
    hardware::{CustodyTpm, EmbassyTpm, MachineTpm, Order, Outcome, Remedy, TpmAddress, TpmError},
    protocol::secret::SharedPoint,
};
use hsm_sim::{Answer, Latency, Loss, Rule, command as cc};

use crate::rig::{Rig, hasty, known_point, run};

/// The command limit of `hasty`, and what a busy machine may add.
const SOON: Duration = Duration::from_millis(1_500);

/// Waits out the pause that an error names.
fn pause(error: &TpmError) {
    if let TpmError::Gone { retry_after, .. } = error {
        sleep(*retry_after);
    }
}

#[test]
fn a_swallowed_command_or_answer_is_an_error_in_time_and_the_next_call_works() {
    let rig = Rig::new();
    let tpm = rig.try_open(&hasty(&rig.machine)).unwrap();
    for loss in [Loss::Silent, Loss::Closed] {
        for code in [cc::START_AUTH_SESSION, cc::GET_RANDOM, cc::CONTEXT_SAVE, cc::ECDH_ZGEN, cc::FLUSH_CONTEXT] {
            for rule in [Rule::on(code).drop_command(loss), Rule::on(code).drop_response(loss)] {
                let planned = rig.bus().plan(rule.times(1));
                let start = Instant::now();
                let (r, point) = known_point();
                match run(&tpm, &rig.people, &[1, 2, 3], Order::Decapsulate(point)) {
                    Err(error) => {
                        assert!(matches!(error, TpmError::Gone { .. }), "{loss:?} {code:#x}: {error:?}");
                        assert_eq!(error.remedy(), Remedy::Retry);
                        pause(&error);
                    }
                    // Only a flush may be lost without harm to the result.
                    Ok(outcome) => {
                        assert_eq!(code, cc::FLUSH_CONTEXT);
                        assert_eq!(outcome, Outcome::Shared(SharedPoint::take(&mut rig.t().mul(r.expose()))));
                    }
                }
                assert!(start.elapsed() < SOON, "{loss:?} {code:#x} took {:?}", start.elapsed());
                assert_eq!(planned.acted(), 1, "{loss:?} {code:#x}");
                rig.bus().clear_plan();
                // At most one more call finds the line lost.
                if let Err(error) = tpm.clock() {
                    pause(&error);
                }
                rig.decapsulates(&tpm, &[1, 2, 3]);
            }
        }
    }
    tpm.clock().unwrap();
    assert!(rig.litter().is_empty());
}

#[test]
fn approvals_survive_a_line_that_was_lost_before_the_session_was_loaded() {
    let rig = Rig::new();
    let tpm = rig.try_open(&hasty(&rig.machine)).unwrap();
    for loss in [Loss::Silent, Loss::Closed] {
        let (r, point) = known_point();
        let mut command = tpm.begin(&[Order::Decapsulate(point)]).unwrap().pop().unwrap();
        rig.people.approve(&mut command, &[1, 2, 3]);
        rig.bus().plan(Rule::on(cc::CONTEXT_LOAD).times(1).drop_command(loss));
        let error = tpm.finish(&mut command).unwrap_err();
        assert!(matches!(error, TpmError::Gone { during: "ContextLoad", started: true, .. }), "{error:?}");
        pause(&error);
        let expected = Outcome::Shared(SharedPoint::take(&mut rig.t().mul(r.expose())));
        assert_eq!(tpm.finish(&mut command), Ok(expected));
    }
}

#[test]
fn callers_behind_a_stuck_command_get_errors_too_and_one_too_many_is_told_to_retry() {
    let rig = Rig::new();
    let mut address = hasty(&rig.machine);
    address.limits.command = Duration::from_millis(600);
    address.limits.queue = 3;
    let tpm = rig.try_open(&address).unwrap();
    rig.bus().plan(Rule::on(cc::READ_CLOCK).drop_response(Loss::Silent));
    let start = Instant::now();
    scope(|scope| {
        let first = scope.spawn(|| tpm.clock());
        sleep(Duration::from_millis(150));
        let behind: Vec<_> = (0..3).map(|_| scope.spawn(|| tpm.sign_as_embassy(&[1; 32]))).collect();
        sleep(Duration::from_millis(100));
        let busy = tpm.roll_seed().unwrap_err();
        assert_eq!((busy.remedy(), busy), (Remedy::Retry, TpmError::Busy { waiting: 3 }));
        let stuck = first.join().unwrap().unwrap_err();
        assert!(matches!(stuck, TpmError::Gone { during: "ReadClock", started: true, .. }), "{stuck}");
        for caller in behind {
            let error = caller.join().unwrap().unwrap_err();
            assert!(matches!(error, TpmError::Gone { started: false, .. }), "{error}");
        }
    });
    assert!(start.elapsed() < 2 * SOON, "took {:?}", start.elapsed());
    rig.bus().clear_plan();
    sleep(address.limits.pause_max);
    rig.decapsulates(&tpm, &[1, 2, 3]);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn what_comes_too_late_is_nobodys_and_who_was_given_up_does_not_speak_again() {
    let rig = Rig::new();
    let tpm = rig.try_open(&hasty(&rig.machine)).unwrap();
    let late = Duration::from_millis(500);
    let before = descriptors();
    for code in [cc::READ_CLOCK, cc::START_AUTH_SESSION, cc::LOAD, cc::CONTEXT_LOAD, cc::ECDH_ZGEN] {
        let planned = rig.bus().plan(Rule::on(code).times(1).delay(late));
        let error = match code {
            cc::READ_CLOCK => tpm.clock().unwrap_err(),
            _ => run(&tpm, &rig.people, &[1, 2, 3], Order::Decapsulate(known_point().1)).unwrap_err(),
        };
        assert!(matches!(error, TpmError::Gone { .. }), "{code:#x}: {error:?}");
        assert_eq!(planned.acted(), 1);
        pause(&error);
        // The successor works while the late answer is under way, and after it came.
        rig.decapsulates(&tpm, &[1, 2, 3]);
        tpm.clock().unwrap();
        let spoken = rig.bus().recording().commands(cc::FLUSH_CONTEXT).count();
        sleep(late);
        assert_eq!(rig.bus().recording().commands(cc::FLUSH_CONTEXT).count(), spoken, "{code:#x}");
        rig.decapsulates(&tpm, &[1, 2, 3]);
        rig.bus().clear_plan();
    }
    // A device that only one may open would be barred for good by a descriptor that stays.
    assert!(descriptors() <= before + 2, "{} descriptors, {before} before", descriptors());
}

#[test]
fn an_embassy_opens_while_its_tpm_is_silent_and_finds_it_when_it_speaks() {
    let rig = Rig::new();
    let planned = rig.bus().plan(Rule::any().act(|_| Ok(Answer::lost(Loss::Silent))));
    let start = Instant::now();
    let error = rig.try_open(&hasty(&rig.machine)).map(|_| ()).unwrap_err();
    assert!(matches!(error, TpmError::Gone { started: false, .. }), "{error:?}");
    assert!(planned.acted() == 1 && start.elapsed() < SOON);
    rig.bus().clear_plan();
    rig.decapsulates(&rig.try_open(&hasty(&rig.machine)).unwrap(), &[1, 2, 3]);

    let nowhere = TpmAddress::new("swtpm:path=/nonexistent/socket");
    let error = EmbassyTpm::open(&nowhere, rig.foundation, rig.plan.clone(), None).map(|_| ()).unwrap_err();
    assert!(matches!(error, TpmError::Gone { during: "connecting", started: false, .. }), "{error:?}");
    let nothing = TpmAddress::new("a bus of some kind");
    let error = EmbassyTpm::open(&nothing, rig.foundation, rig.plan.clone(), None).map(|_| ()).unwrap_err();
    assert_eq!((error.remedy(), matches!(error, TpmError::Request(_))), (Remedy::Examine, true));
}

#[test]
fn a_discrete_tpm_is_slow_and_not_gone() {
    let rig = Rig::new();
    rig.bus().set_latency(Some(Latency::discrete_tpm()));
    let tpm = rig.try_open(&TpmAddress::new(&rig.machine.tcti())).unwrap();
    let start = Instant::now();
    rig.decapsulates(&tpm, &[1, 2, 3]);
    println!("3 of 5 on a discrete TPM: {:?}", start.elapsed());
    let start = Instant::now();
    tpm.sign_as_embassy(&[1; 32]).unwrap();
    println!("a signature on a discrete TPM: {:?}", start.elapsed());
}
