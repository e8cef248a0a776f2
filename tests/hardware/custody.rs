//! The custody loop at the level of the TPM, and what every object is when one asks the TPM itself.

use chancery::{
    hardware::{ApprovalRefusal, CustodyTpm, HierarchyAuth, MachineTpm, Order, Outcome, Remedy, TpmError},
    protocol::{hash::Hash, secret::SecretVec, tpm::pcr::PcrValues, wire::Document},
};
use hsm_sim::command::{self as cc, ENDORSEMENT, LOCKOUT, OWNER};
use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use sha2::{Digest, Sha256};

use crate::{
    raw,
    rig::{EXPIRY_MAX, Rig, approved, known_point, run},
};

const STORAGE_ROOT: u32 = 0x8100_0001;
const ATTESTATION: u32 = 0x8100_0002;

#[test]
fn three_of_five_open_what_was_sealed_and_only_on_the_approved_machine() {
    let mut rig = Rig::new();
    let tpm = rig.open();
    // Sealed without the TPM: r·T is what its half must come to.
    rig.decapsulates(&tpm, &[1, 2, 3]);
    rig.decapsulates(&tpm, &[5, 3, 1]);
    rig.decapsulates(&tpm, &[4, 5, 2, 1]);

    let digest = *Hash::of_bytes(b"an offer").as_bytes();
    let signature = Signature::from_slice(&tpm.sign_as_embassy(&digest).unwrap()).unwrap();
    let identity = VerifyingKey::from_affine(*tpm.identity_point().unwrap().affine()).unwrap();
    identity.verify_prehash(&digest, &signature).unwrap();
    assert_eq!(tpm.roll_seed().unwrap(), rig.roll_seed);

    let expected = rig.profile.expected_pcrs();
    let values: PcrValues = rig.plan.platform.pcrs().map(|pcr| (pcr, expected.sha256[usize::from(pcr)])).collect();
    assert_eq!(tpm.read_pcrs(rig.plan.platform).unwrap(), values);
    assert_eq!(tpm.register_content().unwrap(), approved(&rig.plan, &rig.profile).as_bytes());

    let other = rig.profile.clone().with_kernel(b"a kernel of the host's own");
    rig.machine.reboot(&other).unwrap();
    let (_, point) = known_point();
    for refused in [
        tpm.sign_as_embassy(&digest).unwrap_err(),
        tpm.roll_seed().unwrap_err(),
        run(&tpm, &rig.people, &[1, 2, 3], Order::Decapsulate(point)).unwrap_err(),
    ] {
        assert_eq!(refused, TpmError::PlatformRefused);
        assert_eq!(refused.remedy(), Remedy::Examine);
    }

    rig.machine.reboot(&rig.profile).unwrap();
    tpm.sign_as_embassy(&digest).unwrap();
    assert_eq!(tpm.roll_seed().unwrap(), rig.roll_seed);
    rig.decapsulates(&tpm, &[2, 4, 5]);
}

#[test]
fn the_charter_pin_moves_for_the_amend_quorum_alone_and_its_approvals_move_nothing_else() {
    let rig = Rig::new();
    let tpm = rig.open();
    let (second, third) = (Hash::of_bytes(b"the second charter"), Hash::of_bytes(b"the third charter"));
    assert_eq!(tpm.charter_pin(), Ok(rig.plan.charter.0));
    let two = run(&tpm, &rig.people, &[1, 2], Order::WriteCharterPin(second));
    assert!(matches!(two, Err(TpmError::TooFewApprovals { needed: 3, valid: 2, .. })), "{two:?}");

    let register = approved(&rig.plan, &rig.profile.clone().with_kernel(b"a kernel of the host's own"));
    let orders = [
        Order::WriteCharterPin(second),
        Order::WriteCharterPin(third),
        Order::WriteRegister(register),
        Order::MoveGeneration,
    ];
    let [mut pin, others @ ..] = <[_; 4]>::try_from(tpm.begin(&orders).unwrap()).unwrap();
    rig.people.approve(&mut pin, &[1, 3, 5]);
    for mut other in others {
        for place in [1, 3, 5] {
            let refused = other.approve(rig.people.sign(place, pin.request(), EXPIRY_MAX), EXPIRY_MAX).unwrap_err();
            assert_eq!(refused.refusal, ApprovalRefusal::OtherCommand, "{:?}", other.order());
        }
    }
    assert_eq!(tpm.finish(&mut pin), Ok(Outcome::Done));
    assert_eq!(tpm.charter_pin(), Ok(second));
    assert_eq!(tpm.register_content().unwrap(), approved(&rig.plan, &rig.profile).as_bytes());
    // Spent: the same approvals write nothing again.
    assert!(matches!(tpm.finish(&mut pin), Err(TpmError::SessionLost)));
    assert_eq!(run(&tpm, &rig.people, &[2, 4, 5], Order::WriteCharterPin(third)), Ok(Outcome::Done));
    assert_eq!(tpm.charter_pin(), Ok(third));
}

#[test]
fn a_register_write_approves_another_boot_state_and_withdraws_the_old_one() {
    let mut rig = Rig::new();
    let tpm = rig.open();
    let next = rig.profile.clone().with_kernel(b"next year's kernel");
    run(&tpm, &rig.people, &[1, 4, 5], Order::WriteRegister(approved(&rig.plan, &next))).unwrap();
    assert_eq!(tpm.sign_as_embassy(&[1; 32]), Err(TpmError::PlatformRefused));
    rig.machine.reboot(&next).unwrap();
    tpm.sign_as_embassy(&[1; 32]).unwrap();
    rig.decapsulates(&tpm, &[1, 2, 3]);
}

/// Reads one TPM2B after another.
fn sized(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let [high, low, rest @ ..] = bytes {
        let (head, tail) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        out.push(head.to_vec());
        bytes = tail;
    }
    out
}

/// TPM2_ReadPublic: public area, Name, qualified Name.
fn read_public(rig: &Rig, handle: u32) -> [Vec<u8>; 3] {
    let response = rig.bus().transact(&cc::command(0x173, &[handle], None, &[])).unwrap();
    sized(cc::parameters("TPM2_ReadPublic", &response, false).unwrap()).try_into().unwrap()
}

fn name_of(area: &[u8]) -> Vec<u8> {
    [&[0, 0x0B], Sha256::digest(area).as_slice()].concat()
}

/// The public area of an ECC key, spelled out: the test's own words, not chancery's template.
fn ecc_area(attributes: u32, policy: &[u8], scheme: &[u8], unique: &[u8]) -> Vec<u8> {
    let size = u16::try_from(policy.len()).unwrap().to_be_bytes();
    [&[0, 0x23, 0, 0x0B], &attributes.to_be_bytes()[..], &size, policy, scheme, &[0, 3, 0, 0x10], unique].concat()
}

const NO_SYMMETRIC_ECDH_SHA256: [u8; 6] = [0, 0x10, 0, 0x19, 0, 0x0B];
const NO_SYMMETRIC_ECDSA_SHA256: [u8; 6] = [0, 0x10, 0, 0x18, 0, 0x0B];
const AES_128_CFB_NO_SCHEME: [u8; 8] = [0, 6, 0, 128, 0, 0x43, 0, 0x10];

#[test]
fn every_object_is_exactly_what_the_design_says_when_the_tpm_is_asked() {
    let rig = Rig::new();
    let custody = rig.custody();
    let tpm = raw::Tpm(rig.bus());
    let fixed = 1 << 1 | 1 << 4; // fixedTPM, fixedParent
    let born_here = 1 << 5; // sensitiveDataOrigin
    let policy_only = 1 << 7; // adminWithPolicy, and no userWithAuth
    let no_da = 1 << 10;
    let (user, restricted, decrypt, sign) = (1 << 6, 1 << 16, 1 << 17, 1 << 18);

    let load = |object: &chancery::hardware::SealedObject| {
        let (handle, name) = tpm.load(STORAGE_ROOT, &object.private, &object.public).unwrap();
        let [area, read, _] = read_public(&rig, handle);
        tpm.flush(handle);
        assert_eq!((&area, &read), (&object.public, &name));
        assert_eq!(name, name_of(&area));
        area
    };
    let t = load(&rig.keys.custody);
    let unique = t[t.len() - 68..].to_vec();
    let attributes = fixed | born_here | policy_only | no_da | decrypt;
    let policy = custody.custody_key.policy.digest().as_bytes();
    assert_eq!(t, ecc_area(attributes, policy, &NO_SYMMETRIC_ECDH_SHA256, &unique));

    let identity = load(&rig.keys.identity);
    let unique = identity[identity.len() - 68..].to_vec();
    let machine = custody.identity_key.policy.digest().as_bytes();
    let attributes = fixed | born_here | policy_only | no_da | sign;
    assert_eq!(identity, ecc_area(attributes, machine, &NO_SYMMETRIC_ECDSA_SHA256, &unique));

    let roll = load(&rig.keys.roll);
    let attributes: u32 = fixed | policy_only | no_da;
    let head = [&[0, 8, 0, 0x0B], &attributes.to_be_bytes()[..], &[0, 32], machine, &[0, 0x10, 0, 32]].concat();
    assert_eq!((roll.strip_prefix(head.as_slice()).unwrap().len(), roll.len()), (32, head.len() + 32));

    // The storage root under the owner, the attestation key under the endorsement hierarchy: a qualified Name says which.
    for (handle, hierarchy, point, attributes, scheme) in [
        (STORAGE_ROOT, OWNER, rig.foundation.storage_root, restricted | decrypt, AES_128_CFB_NO_SCHEME.as_slice()),
        (ATTESTATION, ENDORSEMENT, rig.foundation.attestation, restricted | sign, &NO_SYMMETRIC_ECDSA_SHA256),
    ] {
        let [area, name, qualified] = read_public(&rig, handle);
        let (x, y) = point.xy();
        let unique = [&[0, 32], &x[..], &[0, 32], &y[..]].concat();
        assert_eq!(area, ecc_area(fixed | born_here | user | no_da | attributes, &[], scheme, &unique));
        assert_eq!(name, name_of(&area));
        assert_eq!(qualified, name_of(&[&hierarchy.to_be_bytes()[..], &name].concat()));
    }

    // POLICYWRITE AUTHREAD NO_DA WRITTEN, and for the counter its kind.
    let (guarded, counter) = (0x2204_0008u32, 0x2204_0018u32);
    for (public, attributes, size) in
        [(&custody.register, guarded, 34u16), (&custody.charter_pin, guarded, 32), (&custody.counter, counter, 8)]
    {
        let handle = public.public.handle().get();
        let response = rig.bus().transact(&cc::nv_read_public(handle)).unwrap();
        let [area, name] = sized(cc::parameters("TPM2_NV_ReadPublic", &response, false).unwrap()).try_into().unwrap();
        let policy = public.policy.digest().as_bytes();
        let size = size.to_be_bytes();
        let expected =
            [&handle.to_be_bytes()[..], &[0, 0x0B], &attributes.to_be_bytes(), &[0, 32], policy, &size].concat();
        assert_eq!(area, expected);
        assert_eq!(name, name_of(&area));
        assert_eq!(name, public.public.name().as_bytes());
    }
    assert_eq!(tpm.nv_read(custody.counter.public.handle().get(), 8), custody.counter_first.to_be_bytes());
    assert_eq!(tpm.nv_read(custody.charter_pin.public.handle().get(), 32), rig.plan.charter.0.as_bytes());
    let content = approved(&rig.plan, &rig.profile);
    assert_eq!(tpm.nv_read(custody.register.public.handle().get(), 34), content.as_bytes());

    // Creation, attested by the attestation key: TPM_GENERATED, TPM_ST_ATTEST_CREATION, and the object's Name.
    let attestation = VerifyingKey::from_affine(*rig.foundation.attestation.affine()).unwrap();
    let births = [(&rig.keys.custody_birth.certified, &t), (&rig.keys.identity_birth.certified, &identity)];
    for (attested, area) in births {
        assert!(attested.statement.starts_with(b"\xffTCG\x80\x1a"));
        assert!(attested.statement.windows(34).any(|window| window == name_of(area)));
        let signature = Signature::from_slice(&attested.signature).unwrap();
        attestation.verify_prehash(&Sha256::digest(&attested.statement), &signature).unwrap();
    }
}

#[test]
fn hierarchy_authorizations_are_homes_alone() {
    let rig = Rig::new();
    let stored = [rig.foundation.encode(), rig.keys.encode()].concat();
    let secrets = [
        rig.auths.owner.expose(),
        rig.auths.endorsement.expose(),
        rig.auths.lockout.expose(),
        rig.roll_seed.expose().as_slice(),
    ];
    for secret in secrets {
        assert_eq!(secret.len(), 32);
        assert!(!stored.windows(32).any(|window| window == secret), "a secret stands in the embassy's stored state");
    }
    let code = |hierarchy, old: &[u8], new: &[u8]| {
        let response = rig.bus().transact(&cc::hierarchy_change_auth(hierarchy, old, new)).unwrap();
        cc::response_code_of(&response).unwrap()
    };
    for (hierarchy, old, new) in [
        (OWNER, rig.machine.owner_authorization(), rig.auths.owner.expose()),
        (ENDORSEMENT, &[], rig.auths.endorsement.expose()),
        // Last: one wrong try bars the lockout authorization for a day.
        (LOCKOUT, rig.machine.lockout_authorization(), rig.auths.lockout.expose()),
    ] {
        assert_eq!(code(hierarchy, new, new), cc::SUCCESS, "home's authorization works");
        // TPM_RC_BAD_AUTH where the hierarchy is not under dictionary-attack protection, TPM_RC_AUTH_FAIL where it is.
        assert!([0x9A2, 0x98E].contains(&code(hierarchy, old, old)), "the authorization of delivery is refused");
    }

    let tpm = rig.open();
    let wrong = HierarchyAuth::new(SecretVec::new(vec![7; 32])).unwrap();
    let mut next = rig.plan.clone();
    next.generation = next.generation.next().unwrap();
    next.handles.counter = chancery::protocol::tpm::nv::NvHandle::new(0x0180_0100).unwrap();
    drop(tpm);
    let tpm = chancery::hardware::EmbassyTpm::open(&crate::rig::address(&rig.machine), rig.foundation, next, None);
    let refused = tpm.unwrap().define_counter(&wrong).unwrap_err();
    assert_eq!(refused, TpmError::Unauthorized { during: "NV_DefineSpace" });
    assert_eq!(refused.remedy(), Remedy::Examine);
}
