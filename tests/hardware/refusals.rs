//! What is refused, by whom it is said to be, and what the error says to do; and that nothing good is lost by it.

use std::{thread::sleep, time::Duration};

use chancery::{
    hardware::{
        ApprovalRefusal, CustodyTpm, EmbassyKeys, EmbassyTpm, HierarchyAuth, MachineTpm, Order, Outcome,
        RefusedApproval, Remedy, TpmError,
    },
    protocol::{
        secret::{Secret, SecretVec, SharedPoint},
        tpm::approval::ApprovalRequest,
        wire::Document,
    },
};
use hsm_sim::{Rule, Side, command as cc};
use rand_core::OsRng;

use crate::rig::{EXPIRY_MAX, People, Rig, address, approved, known_point, plan, position, provision, run};

#[test]
fn a_bad_approval_is_refused_by_name_and_the_good_ones_still_count() {
    let rig = Rig::new();
    let tpm = rig.open();
    let (r, point) = known_point();
    let mut earlier = tpm.begin(&[Order::Decapsulate(point)]).unwrap().pop().unwrap();
    rig.people.approve(&mut earlier, &[1, 2, 3]);
    let mut command = tpm.begin(&[Order::Decapsulate(point)]).unwrap().pop().unwrap();
    let request = *command.request();
    assert_eq!(request.command, rig.zgen(&point), "officials compute the same hash from the charter");
    rig.people.approve(&mut command, &[1, 2]);

    let strangers = People::new(5);
    let other_point = ApprovalRequest { command: rig.zgen(&known_point().1), ..request };
    let of_another_register =
        ApprovalRequest { policy_ref: *rig.custody().register.policy.ladder().unwrap().policy_ref(), ..request };
    for (what, approval, refusal) in [
        ("the same official twice", rig.people.sign(2, &request, 600), ApprovalRefusal::Repeated),
        ("replayed from an earlier ceremony", rig.people.sign(3, earlier.request(), 600), ApprovalRefusal::Signature),
        ("for another point", rig.people.sign(3, &other_point, 600), ApprovalRefusal::OtherCommand),
        ("for another purpose", rig.people.sign(3, &of_another_register, 600), ApprovalRefusal::Signature),
        ("by nobody of this quorum", strangers.sign(3, &request, 600), ApprovalRefusal::Signature),
        ("valid for too long", rig.people.sign(3, &request, EXPIRY_MAX + 1), ApprovalRefusal::Expiry),
    ] {
        let official = approval.position();
        let refused = command.approve(approval, EXPIRY_MAX);
        assert_eq!(refused, Err(RefusedApproval { official, refusal }), "{what}");
    }
    let third = rig.people.sign(3, &request, 600).encode_at(9);
    let refused = command.approve(third, EXPIRY_MAX).unwrap_err();
    assert_eq!((refused.official, refused.refusal), (position(9), ApprovalRefusal::NoSuchOfficial));
    let refused = command.approve(rig.people.sign(3, &request, 600).encode_at(4), EXPIRY_MAX).unwrap_err();
    assert_eq!((refused.official, refused.refusal), (position(4), ApprovalRefusal::Signature));

    let two = tpm.finish(&mut command).unwrap_err();
    assert_eq!(two, TpmError::TooFewApprovals { needed: 3, valid: 2, refused: vec![] });
    assert_eq!(two.remedy(), Remedy::OtherApprovals);
    rig.people.approve(&mut command, &[5]);
    let expected = || Outcome::Shared(SharedPoint::take(&mut rig.t().mul(r.expose())));
    assert_eq!(tpm.finish(&mut command), Ok(expected()));
    assert_eq!(tpm.finish(&mut command), Err(TpmError::SessionLost), "what was approved runs once");
    assert_eq!(tpm.finish(&mut earlier), Ok(expected()), "other ceremonies are not touched");
}

/// Approvals under another place than their signer's.
trait AtPlace {
    fn encode_at(&self, place: u8) -> Self;
}

impl AtPlace for chancery::protocol::tpm::approval::TpmApproval {
    fn encode_at(&self, place: u8) -> Self {
        use chancery::protocol::wire::{Reader, Wire, Writer};
        let mut out = Writer::new();
        self.write(&mut out);
        let mut bytes = out.finish();
        bytes[0] = place;
        Self::read(&mut Reader::new(&bytes)).unwrap()
    }
}

#[test]
fn an_expired_approval_is_named_and_another_official_takes_its_place_in_the_same_session() {
    let rig = Rig::new();
    let tpm = rig.open();
    let (r, point) = known_point();
    let mut commands = tpm.begin(&[Order::Decapsulate(point); 2]).unwrap();
    for command in &mut commands {
        let request = *command.request();
        command.approve(rig.people.sign(1, &request, 1), EXPIRY_MAX).unwrap();
        rig.people.approve(command, &[2, 3]);
    }
    let mut spare = commands.pop().unwrap();
    let mut short = commands.pop().unwrap();
    rig.people.approve(&mut spare, &[4]);
    sleep(Duration::from_millis(1_200));

    let refused = tpm.finish(&mut short).unwrap_err();
    let expired = RefusedApproval { official: position(1), refusal: ApprovalRefusal::Expired };
    assert_eq!(refused, TpmError::TooFewApprovals { needed: 3, valid: 2, refused: vec![expired] });
    assert_eq!((refused.remedy(), refused.culprits()), (Remedy::OtherApprovals, vec![position(1)]));
    assert_eq!(short.standing().good, 2, "the expired one no longer counts");
    rig.people.approve(&mut short, &[5]);
    let expected = || Ok(Outcome::Shared(SharedPoint::take(&mut rig.t().mul(r.expose()))));
    assert_eq!(tpm.finish(&mut short), expected());
    // With a spare approval at hand nobody need be asked.
    assert_eq!(tpm.finish(&mut spare), expected());
    assert!(rig.litter().is_empty());
}

#[test]
fn an_approval_that_only_the_tpm_refuses_is_named_and_removed() {
    let rig = Rig::new();
    let tpm = rig.open();
    let (r, point) = known_point();
    let mut command = tpm.begin(&[Order::Decapsulate(point)]).unwrap().pop().unwrap();
    rig.people.approve(&mut command, &[1, 2, 3]);
    // The host spoils the second official's signature on its way to the TPM.
    let planned = rig.bus().plan(Rule::on(cc::POLICY_SIGNED).nth(2).flip_bit(Side::Command, usize::MAX, 0));
    let refused = tpm.finish(&mut command).unwrap_err();
    assert_eq!(planned.acted(), 1);
    rig.bus().clear_plan();
    let by_tpm = RefusedApproval { official: position(2), refusal: ApprovalRefusal::ByTpm };
    assert_eq!(refused, TpmError::TooFewApprovals { needed: 3, valid: 2, refused: vec![by_tpm] });
    // That was the bus, so the same official's approval serves again.
    rig.people.approve(&mut command, &[2]);
    let expected = Outcome::Shared(SharedPoint::take(&mut rig.t().mul(r.expose())));
    assert_eq!(tpm.finish(&mut command), Ok(expected));
}

#[test]
fn once_the_quorum_moves_the_counter_old_blobs_are_dead_and_the_next_generation_lives() {
    let rig = Rig::new();
    let backup = rig.keys.encode();
    let tpm = rig.open();
    rig.decapsulates(&tpm, &[1, 2, 3]);
    let mut begun = tpm.begin(&[Order::Decapsulate(known_point().1)]).unwrap().pop().unwrap();
    rig.people.approve(&mut begun, &[1, 2, 3]);
    assert_eq!(run(&tpm, &rig.people, &[2, 3, 4], Order::MoveGeneration), Ok(Outcome::Done));

    assert_eq!(tpm.finish(&mut begun), Err(TpmError::GenerationEnded), "also for what was approved before");
    let content = approved(&rig.plan, &rig.profile);
    let refused = run(&tpm, &rig.people, &[1, 2, 3], Order::WriteRegister(content)).unwrap_err();
    assert_eq!((refused.remedy(), refused), (Remedy::Examine, TpmError::GenerationEnded));

    let mut next = plan(&rig.people, 4, rig.plan.generation.next().unwrap());
    next.unseal = rig.plan.unseal;
    let mut second = EmbassyTpm::open(&address(&rig.machine), rig.foundation, next.clone(), None).unwrap();
    let seed = Secret::random(&mut OsRng);
    provision(&mut second, &rig.people, &next, &rig.profile, &rig.auths.owner, &seed);
    let (r, point) = known_point();
    let outcome = run(&second, &rig.people, &[3, 4, 5], Order::Decapsulate(point)).unwrap();
    let t = second.custody_point().unwrap();
    assert_eq!(outcome, Outcome::Shared(SharedPoint::take(&mut t.mul(r.expose()))));
    assert_eq!(second.roll_seed().unwrap(), seed);
    drop(second);

    // Restored from a backup, under the old plan: it loads, and no quorum can use it.
    let old = EmbassyKeys::decode(&backup).unwrap();
    let old = EmbassyTpm::open(&address(&rig.machine), rig.foundation, rig.plan.clone(), Some(&old)).unwrap();
    let outcome = run(&old, &rig.people, &[1, 2, 3, 4, 5], Order::Decapsulate(known_point().1));
    assert_eq!(outcome, Err(TpmError::GenerationEnded));
    drop(old);

    // Even home, with the owner authorization and a quorum, cannot bring the old value back by starting the counter anew.
    let index = rig.plan.handles.counter.get();
    let undefine = cc::command(cc::NV_UNDEFINE_SPACE, &[cc::OWNER, index], Some(rig.auths.owner.expose()), &[]);
    assert_eq!(cc::response_code_of(&rig.bus().transact(&undefine).unwrap()), Some(cc::SUCCESS));
    let anew = EmbassyTpm::open(&address(&rig.machine), rig.foundation, rig.plan.clone(), None).unwrap();
    anew.define_counter(&rig.auths.owner).unwrap();
    assert_eq!(anew.generation_counter(), Ok(None));
    assert_eq!(run(&anew, &rig.people, &[1, 2, 3], Order::MoveGeneration), Ok(Outcome::Done));
    assert!(anew.generation_counter().unwrap().unwrap() > rig.keys.counter_first + 1);
    let old = EmbassyKeys::decode(&backup).unwrap();
    let old = EmbassyTpm::open(&address(&rig.machine), rig.foundation, rig.plan.clone(), Some(&old)).unwrap();
    let outcome = run(&old, &rig.people, &[1, 2, 3], Order::Decapsulate(known_point().1));
    assert_eq!(outcome, Err(TpmError::GenerationEnded));
}

#[test]
fn a_refusal_leaves_the_line_as_good_as_it_was() {
    let rig = Rig::new();
    let mut next = rig.plan.clone();
    next.handles.counter = chancery::protocol::tpm::nv::NvHandle::new(0x0180_0100).unwrap();
    let tpm = EmbassyTpm::open(&address(&rig.machine), rig.foundation, next, None).unwrap();
    let wrong = HierarchyAuth::new(SecretVec::new(vec![7; 32])).unwrap();
    for _ in 0..3 {
        assert_eq!(tpm.define_counter(&wrong), Err(TpmError::Unauthorized { during: "NV_DefineSpace" }));
        tpm.clock().unwrap();
    }
}

/// After an error, chancery looks whether the storage root key is still the pinned one. What it then is shown must not take
/// the pinned key's place: sessions would be salted for whoever showed it.
#[test]
fn a_storage_root_key_shown_after_an_error_never_replaces_the_pinned_one() {
    let rig = Rig::new();
    let tpm = rig.open();
    let hosts = known_point().1;
    let area = chancery::protocol::tpm::object::KeyTemplate::STORAGE_ROOT.marshal_with(&hosts);
    let name = chancery::protocol::tpm::object::KeyTemplate::STORAGE_ROOT.name(&hosts);
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let body = [sized(&area), sized(name.as_bytes()), sized(name.as_bytes())].concat();
    let mut answer = [0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
    answer.extend(&body);
    let length = u32::try_from(answer.len()).unwrap().to_be_bytes();
    answer[2..6].copy_from_slice(&length);

    rig.bus().plan(Rule::on(cc::START_AUTH_SESSION).times(1).replay(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x43]));
    let shown = rig.bus().plan(Rule::on(0x173).replay(answer));
    let refused = tpm.clock().unwrap_err();

    assert!(shown.acted() > 0 && matches!(refused, TpmError::AnotherTpm { .. }), "{refused}");
    rig.bus().clear_plan();
    // Salted for the host's key, the true TPM would not understand a word.
    tpm.clock().unwrap();
    rig.decapsulates(&tpm, &[1, 2, 3]);
}

#[test]
fn another_tpm_is_found_out_at_the_door_and_under_a_running_process() {
    let mut rig = Rig::new();
    let tpm = rig.open();
    let mut other = rig.rack.machine("elsewhere").unwrap();
    other.power_on(&rig.profile).unwrap();
    let refused = rig.try_open(&address(&other)).map(|_| ()).unwrap_err();
    assert!(matches!(&refused, TpmError::AnotherTpm { found, .. } if found == "absent"), "{refused}");
    assert_eq!(refused.remedy(), Remedy::Examine);
    // The other one gets a storage root key of its own, as any owner would give it.
    let auths = chancery::hardware::HierarchyAuths::random(&mut OsRng);
    EmbassyTpm::found(&address(&other), &crate::rig::delivered(&other), &auths).unwrap();
    assert!(matches!(rig.try_open(&address(&other)).map(|_| ()), Err(TpmError::AnotherTpm { .. })));

    let swap = |rig: &mut Rig, other: &mut hsm_sim::Machine| {
        rig.machine.power_off().unwrap();
        other.power_off().unwrap();
        rig.rack.swap_tpms(&mut rig.machine, other).unwrap();
        rig.machine.power_on(&rig.profile).unwrap();
        other.power_on(&rig.profile).unwrap();
    };
    swap(&mut rig, &mut other);
    let outcomes: Vec<TpmError> = (0..3)
        .map(|_| {
            let refused = tpm.sign_as_embassy(&[1; 32]).unwrap_err();
            if let TpmError::Gone { retry_after, .. } = refused {
                sleep(retry_after);
            }
            refused
        })
        .collect();
    assert!(matches!(outcomes.last(), Some(TpmError::AnotherTpm { .. })), "{outcomes:?}");
    swap(&mut rig, &mut other);
    sleep(Duration::from_millis(1_100)); // the pause after three failures
    rig.decapsulates(&tpm, &[1, 2, 3]);
}

#[test]
fn a_withdrawn_approval_never_reaches_the_tpm() {
    let rig = Rig::new();
    let tpm = rig.open();
    let (_, point) = known_point();
    let mut command = tpm.begin(&[Order::Decapsulate(point)]).unwrap().pop().unwrap();
    rig.people.approve(&mut command, &[1, 2, 3]);
    command.withdraw();
    assert_eq!(command.standing().good, 0);
    rig.people.approve(&mut command, &[3, 4, 5]);
    rig.bus().forget_recording();
    assert!(matches!(tpm.finish(&mut command), Ok(Outcome::Shared(_))));
    // The TPM is given the key of each official whose approval it checks.
    let recording = rig.bus().recording();
    let given = |place: usize| recording.contains(&rig.people.points()[place - 1].encode_uncompressed()[1..33]);
    assert_eq!([1, 2, 3, 4, 5].map(given), [false, false, true, true, true]);
}
