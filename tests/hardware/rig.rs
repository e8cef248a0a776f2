//! A machine with a provisioned TPM, its officials' keys, and what the officials' and the auditor's side computes by itself.

use std::time::Duration;

use chancery::{
    hardware::{
        CustodyTpm, EmbassyKeys, EmbassyTpm, Foundation, HierarchyAuth, HierarchyAuths, Order, Outcome, ParkedCommand,
        Standing, TpmAddress, TpmError,
    },
    protocol::{
        group::Point,
        hash::Hash,
        ids::{CharterId, EmbassyName, Generation},
        quorum::{Position, Threshold},
        secret::{Secret, SecretScalar, SecretVec, SharedPoint},
        tpm::{
            approval::{ApprovalRequest, CommandHash, Expiry, TpmApproval},
            custody::{Custody, CustodyHandles, CustodyPlan},
            nv::NvHandle,
            pcr::{PcrSelection, RegisterContent},
        },
        wire::Document,
    },
};
use hsm_sim::{BootProfile, Bus, Machine, Rack, command as cc};
use p256::ecdsa::SigningKey;
use rand_core::OsRng;

/// The longest an approval is valid in these tests.
pub(crate) const EXPIRY_MAX: u32 = 600;

pub(crate) struct Rig {
    pub(crate) rack: Rack,
    pub(crate) machine: Machine,
    pub(crate) people: People,
    pub(crate) plan: CustodyPlan,
    pub(crate) profile: BootProfile,
    pub(crate) foundation: Foundation,
    pub(crate) auths: HierarchyAuths,
    pub(crate) roll_seed: Secret<32>,
    pub(crate) keys: EmbassyKeys,
}

/// The officials' identity keys.
pub(crate) struct People(Vec<SigningKey>);

impl People {
    pub(crate) fn new(count: u8) -> Self {
        Self((0..count).map(|_| SigningKey::random(&mut OsRng)).collect())
    }

    pub(crate) fn points(&self) -> Vec<Point> {
        let point = |key: &SigningKey| Point::decode(key.verifying_key().to_encoded_point(true).as_bytes()).unwrap();
        self.0.iter().map(point).collect()
    }

    /// What the official at this place sends for a request.
    pub(crate) fn sign(&self, place: u8, request: &ApprovalRequest, seconds: u32) -> TpmApproval {
        let expiry = Expiry::new(seconds, u32::MAX).unwrap();
        request.sign(position(place), expiry, &self.0[usize::from(place) - 1]).unwrap()
    }

    pub(crate) fn approve(&self, command: &mut ParkedCommand, places: &[u8]) -> Standing {
        for place in places {
            command.approve(self.sign(*place, command.request(), EXPIRY_MAX), EXPIRY_MAX).unwrap();
        }
        command.standing()
    }
}

pub(crate) fn position(place: u8) -> Position {
    Position::new(place).unwrap()
}

/// A scalar that nobody but the test knows, and its point.
pub(crate) fn known_point() -> (SecretScalar, Point) {
    let scalar = SecretScalar::random(&mut OsRng);
    let point = Point::mul_generator(scalar.expose());
    (scalar, point)
}

pub(crate) fn address(machine: &Machine) -> TpmAddress {
    let mut address = TpmAddress::new(&machine.tcti());
    address.limits.command = Duration::from_secs(10);
    address
}

/// The same with deadlines that a test can wait for.
pub(crate) fn hasty(machine: &Machine) -> TpmAddress {
    let mut address = TpmAddress::new(&machine.tcti());
    address.limits.command = Duration::from_millis(300);
    address.limits.call = Duration::from_secs(5);
    address.limits.pause_min = Duration::from_millis(10);
    address.limits.pause_max = Duration::from_millis(50);
    address
}

pub(crate) fn plan(people: &People, k: u8, generation: Generation) -> CustodyPlan {
    let officials = people.points();
    let threshold = Threshold::new(k, u8::try_from(officials.len()).unwrap()).unwrap();
    let base = 0x0180_0010 + generation.get() * 4;
    CustodyPlan {
        charter: CharterId(Hash::of_bytes(b"the charter of these tests")),
        embassy: EmbassyName::new("luxembourg").unwrap(),
        generation,
        officials,
        unseal: threshold,
        amend: threshold,
        platform: PcrSelection::new(&[0, 2, 4, 7, 11, 12]).unwrap(),
        handles: CustodyHandles {
            counter: NvHandle::new(base).unwrap(),
            register: NvHandle::new(base + 1).unwrap(),
            charter_pin: NvHandle::new(base + 2).unwrap(),
        },
    }
}

/// The register's content for a boot state, as an official's machine computes it from the values it is shown.
pub(crate) fn approved(plan: &CustodyPlan, profile: &BootProfile) -> RegisterContent {
    let expected = profile.expected_pcrs();
    let values = plan.platform.pcrs().map(|pcr| (pcr, expected.sha256[usize::from(pcr)])).collect();
    RegisterContent::of(plan.platform, &values).unwrap()
}

/// The authorizations that a machine is delivered with.
pub(crate) fn delivered(machine: &Machine) -> HierarchyAuths {
    let auth = |bytes: &[u8]| HierarchyAuth::new(SecretVec::new(bytes.to_vec())).unwrap();
    HierarchyAuths {
        owner: auth(machine.owner_authorization()),
        endorsement: HierarchyAuth::empty(),
        lockout: auth(machine.lockout_authorization()),
    }
}

/// Begins one order, lets these officials approve it, and finishes it.
pub(crate) fn run(tpm: &EmbassyTpm, people: &People, places: &[u8], order: Order) -> Result<Outcome, TpmError> {
    let mut command = tpm.begin(&[order])?.pop().unwrap();
    people.approve(&mut command, places);
    tpm.finish(&mut command)
}

/// Everything after `found`: counter, registers, keys.
pub(crate) fn provision(
    tpm: &mut EmbassyTpm,
    people: &People,
    plan: &CustodyPlan,
    profile: &BootProfile,
    owner: &HierarchyAuth,
    roll_seed: &Secret<32>,
) -> EmbassyKeys {
    let quorum: Vec<u8> = (1..=plan.amend.k()).collect();
    tpm.define_counter(owner).unwrap();
    assert_eq!(run(tpm, people, &quorum, Order::MoveGeneration), Ok(Outcome::Done));
    tpm.define_registers(owner).unwrap();
    let content = approved(plan, profile);
    assert_eq!(run(tpm, people, &quorum, Order::WriteRegister(content)), Ok(Outcome::Done));
    assert_eq!(run(tpm, people, &quorum, Order::WriteCharterPin(plan.charter.0)), Ok(Outcome::Done));
    tpm.make_keys(roll_seed).unwrap()
}

impl Rig {
    /// A machine whose TPM serves 3 of 5 officials.
    pub(crate) fn new() -> Self {
        Self::of(3, 5)
    }

    pub(crate) fn of(k: u8, n: u8) -> Self {
        let rack = Rack::temporary().unwrap();
        let mut machine = rack.machine("luxembourg").unwrap();
        let profile = BootProfile::default();
        machine.power_on(&profile).unwrap();
        let people = People::new(n);
        let plan = plan(&people, k, Generation::FIRST);
        let auths = HierarchyAuths::random(&mut OsRng);
        let foundation = EmbassyTpm::found(&address(&machine), &delivered(&machine), &auths).unwrap();
        // From here on the machine stands in the host's house.
        machine.bus().forget_recording();
        let mut tpm = EmbassyTpm::open(&address(&machine), foundation, plan.clone(), None).unwrap();
        let roll_seed = Secret::random(&mut OsRng);
        let keys = provision(&mut tpm, &people, &plan, &profile, &auths.owner, &roll_seed);
        Self { rack, machine, people, plan, profile, foundation, auths, roll_seed, keys }
    }

    /// Opens the TPM from the bytes that an embassy stores.
    pub(crate) fn try_open(&self, address: &TpmAddress) -> Result<EmbassyTpm, TpmError> {
        let foundation = Foundation::decode(&self.foundation.encode())?;
        let keys = EmbassyKeys::decode(&self.keys.encode())?;
        EmbassyTpm::open(address, foundation, self.plan.clone(), Some(&keys))
    }

    pub(crate) fn open(&self) -> EmbassyTpm {
        self.try_open(&address(&self.machine)).unwrap()
    }

    pub(crate) fn bus(&self) -> &Bus {
        self.machine.bus()
    }

    pub(crate) fn custody(&self) -> Custody {
        self.plan.custody(self.keys.counter_first).unwrap()
    }

    /// T's public point, from the stored public area.
    pub(crate) fn t(&self) -> Point {
        self.custody().custody_key.public.accept(&self.keys.custody.public).unwrap().0
    }

    /// One decapsulation by these officials, against the value that the test knows: r·T for C = r·G.
    pub(crate) fn decapsulates(&self, tpm: &EmbassyTpm, places: &[u8]) {
        let (r, point) = known_point();
        let outcome = run(tpm, &self.people, places, Order::Decapsulate(point));
        assert_eq!(outcome, Ok(Outcome::Shared(SharedPoint::take(&mut self.t().mul(r.expose())))));
    }

    /// The hash that officials compute of a decapsulation.
    pub(crate) fn zgen(&self, point: &Point) -> CommandHash {
        let custody = self.custody();
        let (_, name) = custody.custody_key.public.accept(&self.keys.custody.public).unwrap();
        CommandHash::ecdh_zgen(&name, point)
    }

    /// Sessions and transient objects in the TPM, as its own capability lists name them.
    pub(crate) fn litter(&self) -> Vec<u32> {
        [0x0200_0000, 0x0300_0000, 0x8000_0000].iter().flat_map(|first| handles(self.bus(), *first)).collect()
    }
}

/// TPM2_GetCapability(TPM_CAP_HANDLES) in raw bytes.
pub(crate) fn handles(bus: &Bus, first: u32) -> Vec<u32> {
    let parameters = [1u32.to_be_bytes(), first.to_be_bytes(), 254u32.to_be_bytes()].concat();
    let response = bus.transact(&cc::command(cc::GET_CAPABILITY, &[], None, &parameters)).unwrap();
    let body = cc::parameters("TPM2_GetCapability", &response, false).unwrap();
    // moreData, capability, count, handles.
    body[9..].chunks_exact(4).map(|handle| u32::from_be_bytes(handle.try_into().unwrap())).collect()
}
