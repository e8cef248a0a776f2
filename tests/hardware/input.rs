//! Stored state and requests that are not what they should be: a clear error, never a panic, and nothing lost by it.

use chancery::{
    hardware::{CustodyTpm, EmbassyKeys, EmbassyTpm, Foundation, MAX_COMMANDS, MachineTpm, Order, Remedy, TpmError},
    protocol::{quorum::Threshold, tpm::nv::NvHandle, wire::Document},
};

use crate::rig::{People, Rig, address, known_point};

#[test]
fn altered_or_cut_state_is_refused_with_a_reason() {
    let rig = Rig::new();
    let open = |foundation: Foundation, keys: &EmbassyKeys| {
        EmbassyTpm::open(&address(&rig.machine), foundation, rig.plan.clone(), Some(keys)).map(|_| ())
    };
    let stored = rig.keys.encode();
    for length in 0..stored.len() {
        EmbassyKeys::decode(&stored[..length]).unwrap_err();
    }
    let mut opened = 0;
    for at in (0..stored.len()).step_by(13) {
        let mut altered = stored.clone();
        altered[at] ^= 0x11;
        let Ok(keys) = EmbassyKeys::decode(&altered) else { continue };
        match open(rig.foundation, &keys) {
            Err(error) => {
                let typed = matches!(error, TpmError::ObjectChanged { .. });
                assert!(typed && error.remedy() == Remedy::Examine, "byte {at}: {error:?}");
            }
            // Only what the next attestation will ask the TPM about: ticket and hierarchy of a birth.
            Ok(()) => opened += 1,
        }
    }
    let tickets = 2 * (4 + 4 + rig.keys.custody_birth.ticket_digest.len());
    assert!(opened <= tickets / 13 + 2, "{opened} altered states opened");

    let foundation = rig.foundation.encode();
    for at in 0..foundation.len() {
        Foundation::decode(&foundation[..at]).unwrap_err();
        let mut altered = foundation.clone();
        altered[at] ^= 0x11;
        if let Ok(other) = Foundation::decode(&altered) {
            let error = open(other, &rig.keys).unwrap_err();
            let typed = matches!(error, TpmError::AnotherTpm { .. } | TpmError::ObjectChanged { .. });
            assert!(typed, "byte {at}: {error:?}");
        }
    }
    rig.decapsulates(&rig.open(), &[1, 2, 3]);
    assert!(rig.litter().is_empty());
}

#[test]
fn a_plan_that_is_not_the_charters_opens_nothing() {
    let rig = Rig::new();
    let mut plans = Vec::new();
    let mut change = |name: &'static str, change: &dyn Fn(&mut chancery::protocol::tpm::custody::CustodyPlan)| {
        let mut plan = rig.plan.clone();
        change(&mut plan);
        plans.push((name, plan));
    };
    change("two of five", &|plan| plan.unseal = Threshold::new(2, 5).unwrap());
    change("other officials", &|plan| plan.officials = People::new(5).points());
    change("another order of officials", &|plan| plan.officials.swap(0, 4));
    change("fewer officials than places", &|plan| plan.officials.truncate(4));
    change("no officials", &|plan| plan.officials.clear());
    change("one key twice", &|plan| plan.officials[1] = plan.officials[0]);
    change("another register", &|plan| plan.handles.register = NvHandle::new(0x0180_0777).unwrap());
    change("another generation", &|plan| plan.generation = plan.generation.next().unwrap());
    for (name, plan) in plans {
        let error = EmbassyTpm::open(&address(&rig.machine), rig.foundation, plan, Some(&rig.keys)).map(|_| ());
        let error = error.unwrap_err();
        assert!(matches!(error, TpmError::ObjectChanged { .. } | TpmError::Request(_)), "{name}: {error:?}");
    }
}

#[test]
fn requests_out_of_bounds_or_out_of_order_are_refused_before_the_tpm_hears_of_them() {
    let rig = Rig::new();
    let tpm = rig.open();
    rig.bus().forget_recording();
    let order = Order::Decapsulate(known_point().1);
    for orders in [vec![], vec![order; MAX_COMMANDS + 1]] {
        assert!(matches!(tpm.begin(&orders), Err(TpmError::Request(_))), "{} orders", orders.len());
    }
    assert_eq!(tpm.begin(&[order; MAX_COMMANDS]).unwrap().len(), MAX_COMMANDS);

    let mut bare = EmbassyTpm::open(&address(&rig.machine), rig.foundation, rig.plan.clone(), None).unwrap();
    assert!(matches!(bare.begin(&[order]), Err(TpmError::Order(_))));
    assert!(matches!(bare.sign_as_embassy(&[1; 32]), Err(TpmError::Order(_))));
    assert!(matches!(bare.roll_seed(), Err(TpmError::Order(_))));
    assert!(matches!(bare.make_keys(&rig.roll_seed), Err(TpmError::Order(_))));

    // Keys before the quorum wrote register and charter pin would name what is not there.
    let mut next = rig.plan.clone();
    next.generation = next.generation.next().unwrap();
    next.handles = crate::rig::plan(&rig.people, 3, next.generation).handles;
    let mut tpm = EmbassyTpm::open(&address(&rig.machine), rig.foundation, next, None).unwrap();
    assert!(matches!(tpm.generation_counter(), Err(TpmError::ObjectChanged { .. })));
    tpm.define_counter(&rig.auths.owner).unwrap();
    tpm.define_counter(&rig.auths.owner).unwrap();
    assert_eq!(tpm.generation_counter(), Ok(None));
    assert!(matches!(tpm.define_registers(&rig.auths.owner), Err(TpmError::Order(_))));
    crate::rig::run(&tpm, &rig.people, &[1, 2, 3], Order::MoveGeneration).unwrap();
    tpm.define_registers(&rig.auths.owner).unwrap();
    assert!(matches!(tpm.make_keys(&rig.roll_seed), Err(TpmError::Order(_))));
}
