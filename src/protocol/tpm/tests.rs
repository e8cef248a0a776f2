//! The ladder against a session model of its own, and the rules of approvals.

use std::collections::BTreeSet;

use p256::{NonZeroScalar, ecdsa::SigningKey};
use sha2::{Digest, Sha256};

use super::{
    approval::{ApprovalError, ApprovalRequest, CommandHash, Expiry, TpmApproval, TpmNonce},
    custody::{Custody, CustodyHandles, CustodyPlan},
    ladder::{Ladder, LadderError},
    nv::{NvHandle, NvHandleError},
    object::{KeyTemplate, ObjectError, OfficialKey},
    pcr::PcrSelection,
    policy::{PolicyDigest, PolicyRef, PolicyStep, Purpose},
};
use crate::protocol::{
    group::Point,
    hash::Hash,
    ids::{CharterId, EmbassyName, Generation},
    quorum::{Position, QuorumError, Threshold},
    wire::{Reader, Wire, Writer},
};

/// Official i's key, the same in every run.
fn key(i: u8) -> SigningKey {
    SigningKey::from_slice(&[i; 32]).unwrap()
}

fn point(key: &SigningKey) -> Point {
    let encoded = key.verifying_key().to_encoded_point(true);
    Point::decode(encoded.as_bytes()).unwrap()
}

fn officials(n: u8) -> Vec<Point> {
    (1..=n).map(|i| point(&key(i))).collect()
}

fn plan(k: u8, n: u8) -> CustodyPlan {
    CustodyPlan {
        charter: CharterId(Hash([7; 32])),
        embassy: EmbassyName::new("luxembourg").unwrap(),
        generation: Generation::FIRST,
        officials: officials(n),
        unseal: Threshold::new(k, n).unwrap(),
        amend: Threshold::new(n, n).unwrap(),
        platform: PcrSelection::new(&[0, 2, 4, 7, 11]).unwrap(),
        handles: CustodyHandles {
            counter: NvHandle::new(0x0180_0010).unwrap(),
            register: NvHandle::new(0x0180_0011).unwrap(),
            charter_pin: NvHandle::new(0x0180_0012).unwrap(),
        },
    }
}

fn policy_ref(purpose: Purpose) -> PolicyRef {
    plan(1, 1).policy_ref(purpose)
}

/// A TPM's policy session, as little of it as the ladder needs, written from the specification and not from `policy.rs`.
struct Session([u8; 32]);

impl Session {
    fn signed(&mut self, name: &[u8], policy_ref: &[u8]) {
        let inner = Sha256::new().chain_update(self.0).chain_update([0, 0, 1, 0x60]).chain_update(name).finalize();
        self.0 = Sha256::new().chain_update(inner).chain_update(policy_ref).finalize().into();
    }

    fn or(&mut self, branches: &[PolicyDigest; 2]) -> bool {
        if !branches.iter().any(|branch| branch.as_bytes() == &self.0) {
            return false;
        }
        let mut hash = Sha256::new().chain_update([0; 32]).chain_update([0, 0, 1, 0x71]);
        branches.iter().for_each(|branch| hash.update(branch.as_bytes()));
        self.0 = hash.finalize().into();
        true
    }

    fn run(&mut self, step: &PolicyStep) -> bool {
        match step {
            PolicyStep::Signed { key, policy_ref, .. } => {
                self.signed(key.name().as_bytes(), policy_ref.as_bytes());
                true
            }
            PolicyStep::Or { branches } => self.or(branches),
            other => panic!("a ladder has no {other:?}"),
        }
    }
}

fn subsets(n: u8, size: usize) -> Vec<Vec<Position>> {
    (0u32..1 << n)
        .filter(|bits| bits.count_ones() as usize == size)
        .map(|bits| (1..=n).filter(|i| bits & (1 << (i - 1)) != 0).map(|i| Position::new(i).unwrap()).collect())
        .collect()
}

fn every_small_ladder() -> impl Iterator<Item = (u8, u8, Ladder)> {
    (1..=6u8).flat_map(|n| (1..=n).map(move |k| (k, n))).map(|(k, n)| {
        let base = PolicyDigest::authorize_nv(OfficialKey::new(point(&key(200))).name());
        let threshold = Threshold::new(k, n).unwrap();
        (k, n, Ladder::new(base, threshold, &officials(n), policy_ref(Purpose::Unseal)).unwrap())
    })
}

fn base() -> PolicyDigest {
    PolicyDigest::authorize_nv(OfficialKey::new(point(&key(200))).name())
}

/// D(i, j) as protocol.md §8.1 writes it, by plain recursion; `None` where it does not exist.
fn rung(ladder: &Ladder, i: usize, j: usize) -> Option<[u8; 32]> {
    if j == 0 {
        return Some(*base().as_bytes());
    }
    if j > i {
        return None;
    }
    let signed = rung(ladder, i - 1, j - 1).map(|below| {
        let mut session = Session(below);
        session.signed(ladder.keys()[i - 1].name().as_bytes(), ladder.policy_ref().as_bytes());
        session.0
    });
    match (rung(ladder, i - 1, j), signed) {
        (Some(skipped), Some(signed)) => {
            let hash = Sha256::new().chain_update([0; 32]).chain_update([0, 0, 1, 0x71]);
            Some(hash.chain_update(skipped).chain_update(signed).finalize().into())
        }
        (skipped, signed) => skipped.or(signed),
    }
}

#[test]
fn the_top_of_a_ladder_is_the_recursion_s() {
    for (k, n, ladder) in every_small_ladder() {
        let top = rung(&ladder, usize::from(n), usize::from(k)).unwrap();
        assert_eq!(ladder.digest().as_bytes(), &top, "{k} of {n}");
    }
}

#[test]
fn every_quorum_of_up_to_six_reaches_the_top_by_its_path() {
    for (k, n, ladder) in every_small_ladder() {
        for quorum in subsets(n, usize::from(k)) {
            let mut session = Session(*base().as_bytes());
            let steps = ladder.path(&quorum).unwrap();
            for step in &steps {
                assert!(session.run(step), "{k} of {n}, {quorum:?}: the TPM refuses {step:?}");
            }
            assert_eq!(&session.0, ladder.digest().as_bytes(), "{k} of {n}, {quorum:?}");
            let signed = steps.iter().filter(|step| matches!(step, PolicyStep::Signed { .. })).count();
            assert_eq!(signed, usize::from(k));
            assert!(steps.len() - signed <= usize::from(n));
        }
    }
}

#[test]
fn fewer_than_k_never_reach_the_top_however_often_and_in_whatever_order_they_sign() {
    for (k, n, ladder) in every_small_ladder() {
        // Everything an attacker could use: all ORs of all paths, and all digests that any step knows. A session that
        // leaves these digests never comes back, short of a collision.
        let mut ors = Vec::new();
        let mut known: BTreeSet<[u8; 32]> = BTreeSet::from([*base().as_bytes(), *ladder.digest().as_bytes()]);
        for quorum in subsets(n, usize::from(k)) {
            let mut session = Session(*base().as_bytes());
            for step in ladder.path(&quorum).unwrap() {
                session.run(&step);
                known.insert(session.0);
                if let PolicyStep::Or { branches } = step {
                    known.extend(branches.iter().map(|branch| *branch.as_bytes()));
                    ors.push(branches);
                }
            }
        }
        let reach = |signers: &[Position]| {
            let mut reached = BTreeSet::from([*base().as_bytes()]);
            let mut todo = vec![*base().as_bytes()];
            while let Some(digest) = todo.pop() {
                let signed = signers.iter().map(|position| {
                    let mut session = Session(digest);
                    let name = *ladder.keys()[position.index()].name();
                    session.signed(name.as_bytes(), ladder.policy_ref().as_bytes());
                    session.0
                });
                let joined = ors.iter().filter_map(|branches| {
                    let mut session = Session(digest);
                    session.or(branches).then_some(session.0)
                });
                let next: Vec<[u8; 32]> =
                    signed.chain(joined).filter(|d| known.contains(d) && !reached.contains(d)).collect();
                for digest in next {
                    if reached.insert(digest) {
                        todo.push(digest);
                    }
                }
            }
            reached.contains(ladder.digest().as_bytes())
        };
        for few in subsets(n, usize::from(k) - 1) {
            assert!(!reach(&few), "{k} of {n}: {few:?} alone reach the top");
        }
        for quorum in subsets(n, usize::from(k)) {
            assert!(reach(&quorum), "{k} of {n}: the search misses {quorum:?}, so it shows nothing");
        }
    }
}

#[test]
fn five_of_nine_takes_at_most_fourteen_commands() {
    let threshold = Threshold::new(5, 9).unwrap();
    let ladder = Ladder::new(PolicyDigest::ZERO, threshold, &officials(9), policy_ref(Purpose::Unseal)).unwrap();
    let longest = subsets(9, 5).iter().map(|quorum| ladder.path(quorum).unwrap().len()).max();
    assert!(longest <= Some(14), "{longest:?}");
}

#[test]
fn a_path_is_for_exactly_k_different_members() {
    let ladder =
        Ladder::new(base(), Threshold::new(3, 5).unwrap(), &officials(5), policy_ref(Purpose::Unseal)).unwrap();
    let at = |places: &[u8]| places.iter().map(|place| Position::new(*place).unwrap()).collect::<Vec<_>>();
    assert_eq!(ladder.path(&at(&[4, 1, 5])), ladder.path(&at(&[1, 4, 5])));
    assert_eq!(ladder.path(&[]), Err(LadderError::Approvers { found: 0, k: 3 }));
    assert_eq!(ladder.path(&at(&[1, 2])), Err(LadderError::Approvers { found: 2, k: 3 }));
    assert_eq!(ladder.path(&at(&[1, 2, 3, 4])), Err(LadderError::Approvers { found: 4, k: 3 }));
    let twice = LadderError::ApproverTwice { position: Position::new(2).unwrap() };
    assert_eq!(ladder.path(&at(&[1, 2, 2])), Err(twice));
    let stranger = LadderError::Quorum(QuorumError::NoSuchOfficial { position: 6, n: 5 });
    assert_eq!(ladder.path(&at(&[1, 2, 6])), Err(stranger));
    let machine = plan(3, 5).custody(1).unwrap().identity_key.policy;
    assert_eq!(machine.steps(&at(&[1])), Err(LadderError::NobodyAsked { found: 1 }));
    assert_eq!(machine.steps(&[]).unwrap().len(), 1);
}

#[test]
fn no_ladder_without_n_different_keys() {
    let ladder = |points: &[Point]| {
        Ladder::new(base(), Threshold::new(2, 3).unwrap(), points, policy_ref(Purpose::Unseal)).map(|_| ())
    };
    assert_eq!(ladder(&officials(3)), Ok(()));
    assert_eq!(ladder(&[]), Err(LadderError::Count { found: 0, n: 3 }));
    assert_eq!(ladder(&officials(4)), Err(LadderError::Count { found: 4, n: 3 }));
    let (first, second) = (Position::new(1).unwrap(), Position::new(3).unwrap());
    let mut points = officials(3);
    points[2] = points[0];
    assert_eq!(ladder(&points), Err(LadderError::OneKeyTwice { first, second }));
    points[2] = Point::new(-points[0].projective()).unwrap();
    assert_eq!(ladder(&points), Err(LadderError::OneKeyTwice { first, second }));
}

#[test]
fn ladders_differ_in_everything_they_stand_for() {
    let digest = |base, k, points: &[Point], policy_ref| {
        Ladder::new(base, Threshold::new(k, 3).unwrap(), points, policy_ref).unwrap().digest().to_owned()
    };
    let mut swapped = officials(3);
    swapped.swap(0, 1);
    let other_place = PolicyRef::new(
        Purpose::Unseal,
        CharterId(Hash([7; 32])),
        &EmbassyName::new("geneva").unwrap(),
        Generation::FIRST,
    );
    let other_charter = PolicyRef::new(
        Purpose::Unseal,
        CharterId(Hash([8; 32])),
        &EmbassyName::new("luxembourg").unwrap(),
        Generation::FIRST,
    );
    let other_generation = PolicyRef::new(
        Purpose::Unseal,
        CharterId(Hash([7; 32])),
        &EmbassyName::new("luxembourg").unwrap(),
        Generation::new(2).unwrap(),
    );
    let all = [
        digest(base(), 2, &officials(3), policy_ref(Purpose::Unseal)),
        digest(PolicyDigest::ZERO, 2, &officials(3), policy_ref(Purpose::Unseal)),
        digest(base(), 1, &officials(3), policy_ref(Purpose::Unseal)),
        digest(base(), 3, &officials(3), policy_ref(Purpose::Unseal)),
        digest(base(), 2, &swapped, policy_ref(Purpose::Unseal)),
        digest(base(), 2, &officials(3), policy_ref(Purpose::Amend)),
        digest(base(), 2, &officials(3), other_place),
        digest(base(), 2, &officials(3), other_charter),
        digest(base(), 2, &officials(3), other_generation),
    ];
    let distinct: BTreeSet<&[u8; 32]> = all.iter().map(PolicyDigest::as_bytes).collect();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn every_policy_s_steps_lead_to_its_digest() {
    let Custody { counter, register, charter_pin, custody_key, identity_key, roll_key, .. } =
        plan(2, 3).custody(42).unwrap();
    let all: Vec<Position> = Threshold::new(3, 3).unwrap().positions().collect();
    let two = &all[..2];
    let policies = [
        (&counter.policy, &all[..]),
        (&register.policy, &all),
        (&charter_pin.policy, &all),
        (&custody_key.policy, two),
        (&identity_key.policy, &[]),
        (&roll_key.policy, &[]),
    ];
    for (policy, approvers) in policies {
        let steps = policy.steps(approvers).unwrap();
        let end = steps.iter().try_fold(PolicyDigest::ZERO, |digest, step| step.apply(digest));
        assert_eq!(end, Some(*policy.digest()));
    }
    let kinds: Vec<u8> = custody_key
        .policy
        .steps(two)
        .unwrap()
        .iter()
        .map(|step| match step {
            PolicyStep::ApprovedPlatform { .. } => b'P',
            PolicyStep::CounterEquals { .. } => b'C',
            PolicyStep::Signed { .. } => b'S',
            PolicyStep::Or { .. } => b'O',
        })
        .collect();
    assert!(kinds.starts_with(b"PCS"), "AuthorizeNV stands before every signature: {kinds:?}");
    assert_ne!(register.public.name(), register.public.name_before_first_write());
    assert_ne!(register.public.name(), charter_pin.public.name());
    assert_ne!(plan(2, 3).custody(43).unwrap().custody_key.policy.digest(), custody_key.policy.digest());
}

#[test]
fn attributes_are_exactly_those_of_the_design() {
    let custody = plan(2, 3).custody(42).unwrap();
    // TPMA_OBJECT, Part 2 table 35, written out: T, identity, roll, AK, storage root.
    assert_eq!(custody.custody_key.public.attributes(), 0x0002_04B2);
    assert_eq!(custody.identity_key.public.attributes(), 0x0004_04B2);
    assert_eq!(custody.roll_key.public.attributes(), 0x0000_0492);
    assert_eq!(KeyTemplate::ATTESTATION.attributes(), 0x0005_0472);
    assert_eq!(KeyTemplate::STORAGE_ROOT.attributes(), 0x0003_0472);
    // TPMA_NV: POLICYWRITE, AUTHREAD, NO_DA; the counter's type besides.
    assert_eq!(custody.register.public.attributes(), 0x0204_0008);
    assert_eq!(custody.charter_pin.public.attributes(), 0x0204_0008);
    assert_eq!(custody.counter.public.attributes(), 0x0204_0018);
    assert_eq!(NvHandle::new(0x01C0_0002), Err(NvHandleError { handle: 0x01C0_0002 }));
}

#[test]
fn only_the_template_itself_is_taken_from_a_tpm() {
    let template = plan(2, 3).custody(42).unwrap().custody_key.public;
    let t = point(&key(9));
    let area = template.marshal_with(&t);
    assert_eq!(template.accept(&area), Ok((t, template.name(&t))));
    let point_starts = area.len() - 68;
    for at in 0..area.len() {
        let mut other = area.clone();
        other[at] ^= 1;
        let expected = if at < point_starts { ObjectError::NotTheTemplate { at } } else { ObjectError::NoPoint };
        assert_eq!(template.accept(&other), Err(expected), "byte {at}");
        assert!(template.accept(&area[..at]).is_err(), "cut at {at}");
    }
    let mut longer = area;
    longer.push(0);
    assert_eq!(template.accept(&longer), Err(ObjectError::NoPoint));
    assert!(template.accept(&template.marshal()).is_err(), "the empty unique part");
}

fn request() -> ApprovalRequest {
    let custody = plan(2, 3).custody(42).unwrap();
    let name = custody.custody_key.public.name(&point(&key(9)));
    ApprovalRequest {
        nonce: TpmNonce::from_bytes(&[3; 32]).unwrap(),
        command: CommandHash::ecdh_zgen(&name, &point(&key(10))),
        policy_ref: policy_ref(Purpose::Unseal),
    }
}

#[test]
fn an_approval_is_good_for_one_session_command_purpose_expiry_and_signer() {
    let position = Position::new(1).unwrap();
    let request = request();
    let approval = request.sign(position, Expiry::new(600, 3600).unwrap(), &key(1)).unwrap();
    let own = point(&key(1));
    assert_eq!(approval.verify(&request, &own, 3600), Ok(()));

    let refused = Err(ApprovalError::Signature { position });
    assert_eq!(approval.verify(&request, &point(&key(2)), 3600), refused);
    let other_session = ApprovalRequest { nonce: TpmNonce::from_bytes(&[4; 32]).unwrap(), ..request };
    assert_eq!(approval.verify(&other_session, &own, 3600), refused);
    let other_purpose = ApprovalRequest { policy_ref: policy_ref(Purpose::Amend), ..request };
    assert_eq!(approval.verify(&other_purpose, &own, 3600), refused);
    let other_command = ApprovalRequest { command: CommandHash::nv_increment(OfficialKey::new(own).name()), ..request };
    assert_eq!(approval.verify(&other_command, &own, 3600), Err(ApprovalError::OtherCommand { position }));
    let late = Err(ApprovalError::Expiry { seconds: 600, maximum: 599 });
    assert_eq!(approval.verify(&request, &own, 599), late);
}

#[test]
fn an_approval_on_the_wire_is_bounded_and_every_changed_byte_is_refused() {
    let position = Position::new(1).unwrap();
    let request = request();
    let approval = request.sign(position, Expiry::new(600, 3600).unwrap(), &key(1)).unwrap();
    let mut out = Writer::new();
    approval.write(&mut out);
    let bytes = out.finish();
    assert_eq!(TpmApproval::read(&mut Reader::new(&bytes)).unwrap(), approval);
    for at in 1..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 1;
        let read = TpmApproval::read(&mut Reader::new(&other));
        assert!(read.is_err() || read.unwrap().verify(&request, &point(&key(1)), 3600).is_err(), "byte {at}");
    }
    for cut in 0..bytes.len() {
        assert!(TpmApproval::read(&mut Reader::new(&bytes[..cut])).is_err());
    }
    let mut for_ever = bytes;
    for_ever[33..37].copy_from_slice(&[0; 4]);
    assert!(TpmApproval::read(&mut Reader::new(&for_ever)).is_err(), "no expiry");
    for_ever[33..37].copy_from_slice(&(-600i32).to_be_bytes());
    assert!(TpmApproval::read(&mut Reader::new(&for_ever)).is_err(), "negative: a ticket");
}

#[test]
fn nothing_that_binds_nothing_can_be_signed() {
    for length in [0, 1, 16, 31, 33, 64] {
        assert_eq!(TpmNonce::from_bytes(&vec![1; length]), Err(ApprovalError::Nonce { found: length }));
    }
    assert_eq!(Expiry::new(0, 600), Err(ApprovalError::Expiry { seconds: 0, maximum: 600 }));
    assert_eq!(Expiry::new(601, 600), Err(ApprovalError::Expiry { seconds: 601, maximum: 600 }));
    assert!(Expiry::new(1 << 31, u32::MAX).is_err());
    assert!(Expiry::new(600, 600).is_ok());
    let name = *OfficialKey::new(point(&key(1))).name();
    assert!(CommandHash::nv_write(&name, &[0; 65]).is_err());
}

#[test]
fn command_hashes_cover_everything_sent() {
    let (one, two) = (*OfficialKey::new(point(&key(1))).name(), *OfficialKey::new(point(&key(2))).name());
    let all = [
        CommandHash::ecdh_zgen(&one, &point(&key(3))),
        CommandHash::ecdh_zgen(&two, &point(&key(3))),
        CommandHash::ecdh_zgen(&one, &point(&key(4))),
        CommandHash::nv_write(&one, b"state").unwrap(),
        CommandHash::nv_write(&one, b"stat").unwrap(),
        CommandHash::nv_write(&two, b"state").unwrap(),
        CommandHash::nv_increment(&one),
        CommandHash::nv_increment(&two),
    ];
    assert_eq!(all.iter().map(CommandHash::as_bytes).collect::<BTreeSet<_>>().len(), all.len());
}

#[test]
fn coordinates_with_leading_zeros_stay_padded() {
    // A point whose x begins with a zero byte, found by counting: its Name is over 32 bytes of x all the same.
    let mut points = (1u64..).map(|i| Point::mul_generator(&NonZeroScalar::new(p256::Scalar::from(i)).unwrap()));
    let full = points.next().unwrap();
    let short = points.find(|point| point.xy().0[0] == 0).unwrap();
    assert_eq!(OfficialKey::new(short).marshal().len(), OfficialKey::new(full).marshal().len());
}
