//! A whole network for tests: home with its certificates, officials with shares, data owners, a witness, and embassies on
//! simulated hardware, each with the directory that `chancery serve` starts from. One call makes it.
#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]

pub mod kernel;
pub mod memory;
pub mod net;
pub mod people;

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use chancery::{
    hardware::{
        CustodyTpm, EmbassyKeys, EmbassyTpm, Foundation, HierarchyAuth, HierarchyAuths, Order, Outcome, TpmAddress,
    },
    keys::{
        IdentitySigner, MemorySigner,
        issue::{self, IssuerName, Request},
    },
    protocol::{
        certificate::{HomeAuthority, Identity, Revocations, Role, Serial, TrustDomain, UnixTime},
        charter::{
            Charter, CharterCustody, CharterDataset, CharterEmbassy, CharterMachine, CharterOfficial, CharterOwner,
            CharterParts, CharterWitness, Country, HardwareClass, QuorumRule, SignedCharter, Signer, VerifiedCharter,
        },
        dataset::DatasetSeed,
        dataset_version::{CharteredDataset, DatasetVersionRecord, UnsignedVersion, VerifiedVersion},
        facts::CustodyFacts,
        group::Point,
        hash::Hash,
        hybrid::HybridSecretKey,
        ids::{
            DatasetName, DatasetVersion, EmbassyName, Generation, OfficialName, OwnerName, SubjectName, WitnessName,
        },
        quorum::{Position, Threshold},
        quorum_key::QuorumKey,
        secret::{Secret, SecretScalar, SecretVec},
        tpm::{
            approval::Expiry,
            custody::{CustodyHandles, CustodyPlan},
            nv::NvHandle,
            pcr::{PcrSelection, RegisterContent},
        },
        wire::Document,
    },
};
use hsm_sim::{BootProfile, Machine, Rack};
use p256::{NonZeroScalar, Scalar, ecdsa::SigningKey};
use rand_core::OsRng;
use tempfile::TempDir;

/// The longest an approval is valid in these networks.
pub const EXPIRY_MAX: u32 = 600;
pub const HOUR: i64 = 3600;
pub const YEAR: i64 = 365 * 24 * HOUR;
pub const DATASETS: [&str; 2] = ["land-register", "police-files"];
pub const OWNER: &str = "land-board";
pub const WITNESS: &str = "geneva";
const NAMES: [&str; 9] = ["anna", "boris", "clara", "david", "eva", "frida", "georg", "hanna", "ivan"];

/// Now, by this machine's clock.
pub fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixTime(i64::try_from(since.as_secs()).unwrap())
}

/// Somebody's P-256 key, in both forms that tests want.
pub struct Key {
    secret: SecretScalar,
    pub signing: SigningKey,
    pub signer: MemorySigner,
}

impl Key {
    pub fn new() -> Self {
        Self::from_secret(SecretScalar::random(&mut OsRng))
    }

    /// The same key once more.
    pub fn of(other: &Self) -> Self {
        Self::from_secret(SecretScalar::from_bytes(&other.secret.to_bytes()).unwrap())
    }

    pub fn from_secret(secret: SecretScalar) -> Self {
        let signing = SigningKey::from(*secret.expose());
        let signer = MemorySigner::new(&secret);
        Self { secret, signing, signer }
    }

    pub fn point(&self) -> Point {
        *self.signer.public()
    }

    pub const fn secret(&self) -> &SecretScalar {
        &self.secret
    }

    /// PKCS #8, as TLS libraries take it.
    pub fn pkcs8(&self) -> Vec<u8> {
        // RFC 5958 and RFC 5915 around 32 bytes of secret and 65 of public key.
        let head = hex::decode("308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420").unwrap();
        let middle = hex::decode("a144034200").unwrap();
        [&head[..], &self.signing.to_bytes(), &middle, &self.point().encode_uncompressed()].concat()
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}

/// An official with everything it keeps.
pub struct Official {
    pub name: OfficialName,
    pub position: Position,
    pub identity: Key,
    pub hybrid: HybridSecretKey,
    pub dkg: Key,
    /// The share of the unseal quorum.
    pub share: SecretScalar,
    /// The share of the recovery quorum.
    pub recovery: SecretScalar,
}

/// The home authority with its certificate.
pub struct Home {
    pub key: Key,
    pub name: IssuerName,
    pub root: Vec<u8>,
}

impl Home {
    pub fn new(country: &str) -> Self {
        let key = Key::new();
        let country = Country::new(country).unwrap();
        let name = IssuerName { country, identity: identity(Role::Home, "registrar") };
        let root = request(name.identity.clone(), key.point());
        let root = issue::certificate(&name, &key.signer, &root, &mut OsRng).unwrap();
        Self { key, name, root }
    }

    pub fn authority(&self) -> HomeAuthority {
        HomeAuthority::read(&self.root, self.name.country, &self.key.point()).unwrap()
    }

    /// Certifies what is asked.
    pub fn issue(&self, request: &Request) -> Vec<u8> {
        issue::certificate(&self.name, &self.key.signer, request, &mut OsRng).unwrap()
    }

    /// A revocation list, valid from an hour ago for a day.
    pub fn list(&self, number: u64, revoked: &[&[u8]]) -> Vec<u8> {
        self.list_until(number, revoked, UnixTime(now().0 + 24 * HOUR))
    }

    pub fn list_until(&self, number: u64, revoked: &[&[u8]], until: UnixTime) -> Vec<u8> {
        let home = self.authority();
        let from = UnixTime(now().0 - HOUR);
        let revoked: Vec<(Serial, UnixTime)> =
            revoked.iter().map(|certificate| (home.issued(certificate).unwrap(), from)).collect();
        issue::revocation_list(&self.name, &self.key.signer, number, &revoked, from, until).unwrap()
    }

    /// Somebody with a connection key of their own and a certificate.
    pub fn visitor(&self, role: Role, name: &str) -> Visitor {
        let key = Key::new();
        let certificate = self.issue(&request(identity(role, name), key.point()));
        Visitor { key, path: vec![certificate] }
    }
}

/// Whoever connects: a key and the path of certificates to present.
pub struct Visitor {
    pub key: Key,
    pub path: Vec<Vec<u8>>,
}

pub fn identity(role: Role, name: &str) -> Identity {
    Identity {
        trust_domain: TrustDomain::new("registers.example").unwrap(),
        role,
        name: SubjectName::new(name).unwrap(),
    }
}

/// A request for a year, from an hour ago.
pub fn request(identity: Identity, key: Point) -> Request {
    let from = now().0 - HOUR;
    let seconds = if identity.role == Role::Embassy { 20 * HOUR } else { YEAR };
    Request { identity, key, not_before: UnixTime(from), not_after: UnixTime(from + seconds), places: Vec::new() }
}

/// How a network is to be.
#[derive(Clone)]
pub struct Wish {
    pub k: u8,
    pub n: u8,
    /// How many amend; as many as unseal, where nothing else is wished.
    pub amend: Option<u8>,
    pub embassies: Vec<&'static str>,
    pub class: HardwareClass,
    pub leases: bool,
    pub heartbeat_seconds: u32,
    pub policy: Hash,
    /// The last official's keys, where they were made elsewhere (on a token); the test's own are not in the charter then.
    pub last: Option<CharterOfficial>,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            k: 3,
            n: 5,
            amend: None,
            embassies: vec!["luxembourg"],
            class: HardwareClass::Firmware,
            leases: true,
            heartbeat_seconds: 300,
            policy: policy_digest(),
            last: None,
        }
    }
}

/// The digest of the policy that chancery ships.
pub fn policy_digest() -> Hash {
    chancery::protocol::access::AccessText::embedded().digest()
}

/// One embassy: its machine, and the directory that its service starts from.
pub struct Site {
    pub name: EmbassyName,
    pub machine: Machine,
    pub profile: BootProfile,
    pub foundation: Foundation,
    pub auths: HierarchyAuths,
    pub keys: EmbassyKeys,
    /// The certificate of the embassy's own authority.
    pub authority: Vec<u8>,
    pub directory: PathBuf,
}

impl Site {
    pub fn address(&self) -> TpmAddress {
        address(&self.machine)
    }

    /// Opens the TPM as a service does.
    pub fn tpm(&self, facts: &CustodyFacts) -> EmbassyTpm {
        EmbassyTpm::open_chartered(&self.address(), facts, &self.keys).unwrap()
    }
}

/// A dataset with its seed, which at home would be gone by now.
pub struct Dataset {
    pub name: DatasetName,
    pub seed: DatasetSeed,
    pub record: Vec<u8>,
}

/// A network in force.
pub struct World {
    pub folder: TempDir,
    pub rack: Rack,
    pub home: Home,
    pub officials: Vec<Official>,
    pub owner: Key,
    pub witness: Key,
    pub datasets: Vec<Dataset>,
    pub sites: Vec<Site>,
    pub founding: SignedCharter,
    pub completed: SignedCharter,
    pub charter: VerifiedCharter,
    pub list: Vec<u8>,
}

impl World {
    /// 3 of 5 officials and one embassy.
    pub fn new() -> Self {
        Self::of(&Wish::default())
    }

    pub fn of(wish: &Wish) -> Self {
        let folder = tempfile::Builder::new().prefix("chancery-test-").tempdir().unwrap();
        let rack = Rack::open(&folder.path().join("rack")).unwrap();
        let home = Home::new("EE");
        let (unseal, recovery) = (threshold(wish.k, wish.n), threshold((wish.k + 1).min(wish.n), wish.n));
        let ((unseal_key, shares), (recovery_key, recovery_shares)) = (dealt(unseal), dealt(recovery));
        let officials: Vec<Official> = shares
            .into_iter()
            .zip(recovery_shares)
            .zip(unseal.positions().zip(NAMES))
            .map(|((share, recovery), (position, name))| Official {
                name: OfficialName::new(name).unwrap(),
                position,
                identity: Key::new(),
                hybrid: HybridSecretKey::random(&mut OsRng),
                dkg: Key::new(),
                share,
                recovery,
            })
            .collect();
        let (owner, witness) = (Key::new(), Key::new());
        let draft = draft(wish, &home, &officials, (&owner, &witness), (unseal, recovery));
        let mut founding = SignedCharter::unsigned(Charter::new(draft.clone()).unwrap());
        founding.sign(Signer::Home, &home.key.signing).unwrap();
        let founded = founding.clone().found(draft.country, &home.key.point()).unwrap();

        let mut sites = Vec::new();
        let mut machines = Vec::new();
        for described in &draft.embassies {
            let plan = CustodyPlan {
                charter: founded.id(),
                embassy: described.name.clone(),
                generation: Generation::FIRST,
                officials: draft.officials.iter().map(|official| official.identity).collect(),
                unseal,
                amend: founded.charter().amend().unwrap(),
                platform: described.platform,
                handles: described.handles,
            };
            let (site, machine) = provisioned(&rack, folder.path(), &home, &officials, &plan);
            sites.push(site);
            machines.push(machine);
        }
        let certificate = Hash::of_bytes(b"made by a dealer, which only a test may be");
        let custody = CharterCustody {
            generation: Generation::FIRST,
            unseal: unseal_key,
            unseal_certificate: certificate,
            recovery: recovery_key,
            recovery_certificate: certificate,
            machines,
        };
        let completed = CharterParts {
            version: 2,
            founding: Some(founded.id()),
            previous: Some(founded.hash()),
            custody: Some(custody),
            ..draft
        };
        let mut completed = SignedCharter::unsigned(Charter::new(completed).unwrap());
        sign(&mut completed, &home, officials.iter().take(usize::from(wish.amend.unwrap_or(wish.k))));
        let charter = completed.clone().succeed(&founded).unwrap();
        let facts = charter.charter().facts(&sites[0].name).unwrap();
        let datasets = DATASETS.iter().map(|name| dataset(&facts, &owner, name)).collect();
        let list = home.list(1, &[]);
        for site in &sites {
            lay_out(site, &home, &list, [&founding, &completed]);
        }
        Self { folder, rack, home, officials, owner, witness, datasets, sites, founding, completed, charter, list }
    }

    /// The first embassy.
    pub fn site(&self) -> &Site {
        &self.sites[0]
    }

    pub fn facts(&self) -> CustodyFacts {
        self.facts_of(&self.site().name)
    }

    pub fn facts_of(&self, embassy: &EmbassyName) -> CustodyFacts {
        self.charter.charter().facts(embassy).unwrap()
    }

    pub fn revocations(&self) -> Revocations {
        self.home.authority().revocations(&self.list).unwrap()
    }

    /// A dataset's first version, checked as everybody does.
    pub fn version(&self, index: usize) -> VerifiedVersion {
        let dataset = &self.datasets[index];
        verified(&self.facts(), &self.owner, dataset)
    }

    /// Takes a successor, as everybody in this world does from now on.
    pub fn succeed(&mut self, next: &SignedCharter) {
        self.charter = next.clone().succeed(&self.charter).unwrap();
    }

    /// The charter's next version after a change, signed by home and as many officials as it takes.
    pub fn amended(&self, change: impl FnOnce(&mut CharterParts)) -> SignedCharter {
        let before = self.charter.charter().parts();
        let mut parts =
            CharterParts { version: before.version + 1, previous: Some(self.charter.hash()), ..before.clone() };
        change(&mut parts);
        let mut next = SignedCharter::unsigned(Charter::new(parts).unwrap());
        sign(&mut next, &self.home, self.officials.iter().take(usize::from(before.amend_k)));
        next
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

fn sign<'a>(charter: &mut SignedCharter, home: &Home, officials: impl Iterator<Item = &'a Official>) {
    charter.sign(Signer::Home, &home.key.signing).unwrap();
    for official in officials {
        charter.sign(Signer::Official(official.name.clone()), &official.identity.signing).unwrap();
    }
}

fn threshold(k: u8, n: u8) -> Threshold {
    Threshold::new(k, n).unwrap()
}

/// A quorum's key by a dealer, which only a test may be.
pub fn dealt(threshold: Threshold) -> (QuorumKey, Vec<SecretScalar>) {
    let coefficients: Vec<Scalar> = (0..threshold.k()).map(|_| *NonZeroScalar::random(&mut OsRng)).collect();
    let share = |x: Scalar| {
        let value = coefficients.iter().rev().fold(Scalar::ZERO, |sum, coefficient| sum * x + coefficient);
        SecretScalar::new(NonZeroScalar::new(value).unwrap())
    };
    let shares: Vec<SecretScalar> = threshold.positions().map(|place| share(place.scalar())).collect();
    let points = shares.iter().map(|share| Point::mul_generator(share.expose())).collect();
    let key = Point::mul_generator(share(Scalar::ZERO).expose());
    (QuorumKey::new(threshold, key, points).unwrap(), shares)
}

fn draft(
    wish: &Wish,
    home: &Home,
    officials: &[Official],
    (owner, witness): (&Key, &Key),
    (unseal, recovery): (Threshold, Threshold),
) -> CharterParts {
    let members: Vec<OfficialName> = officials.iter().map(|official| official.name.clone()).collect();
    let owner_name = OwnerName::new(OWNER).unwrap();
    let embassies = wish.embassies.iter().zip((0x0180_0010_u32..).step_by(4));
    CharterParts {
        version: 1,
        founding: None,
        previous: None,
        country: home.name.country,
        home: home.key.point(),
        officials: officials
            .iter()
            .map(|official| CharterOfficial {
                name: official.name.clone(),
                identity: official.identity.point(),
                hybrid: official.hybrid.public().clone(),
                dkg: official.dkg.point(),
            })
            .take(officials.len() - wish.last.iter().len())
            .chain(wish.last.clone())
            .collect(),
        unseal: QuorumRule { threshold: unseal, members: members.clone() },
        amend_k: wish.amend.unwrap_or(unseal.k()),
        recovery: QuorumRule { threshold: recovery, members },
        expiry_max_seconds: EXPIRY_MAX,
        embassies: embassies
            .map(|(name, base)| CharterEmbassy {
                name: EmbassyName::new(name).unwrap(),
                class: wish.class,
                leases: wish.leases,
                platform: PcrSelection::new(&[0, 2, 4, 7, 11, 12]).unwrap(),
                handles: CustodyHandles {
                    counter: NvHandle::new(base).unwrap(),
                    register: NvHandle::new(base + 1).unwrap(),
                    charter_pin: NvHandle::new(base + 2).unwrap(),
                },
            })
            .collect(),
        owners: vec![CharterOwner { name: owner_name.clone(), key: owner.point() }],
        datasets: DATASETS
            .iter()
            .map(|name| CharterDataset { name: DatasetName::new(name).unwrap(), owner: owner_name.clone() })
            .collect(),
        witnesses: vec![CharterWitness { name: WitnessName::new(WITNESS).unwrap(), key: witness.point() }],
        heartbeat_seconds: wish.heartbeat_seconds,
        policy: wish.policy,
        custody: None,
    }
}

/// A machine from delivery to keys.
fn provisioned(
    rack: &Rack,
    folder: &Path,
    home: &Home,
    officials: &[Official],
    plan: &CustodyPlan,
) -> (Site, CharterMachine) {
    let mut machine = rack.machine(plan.embassy.as_str()).unwrap();
    let profile = BootProfile::default();
    machine.power_on(&profile).unwrap();
    let auths = HierarchyAuths::random(&mut OsRng);
    let foundation = EmbassyTpm::found(&address(&machine), &delivered(&machine), &auths).unwrap();
    let mut tpm = EmbassyTpm::open(&address(&machine), foundation, plan.clone(), None).unwrap();
    tpm.define_counter(&auths.owner).unwrap();
    order(&tpm, officials, plan.amend.k(), Order::MoveGeneration);
    tpm.define_registers(&auths.owner).unwrap();
    order(&tpm, officials, plan.amend.k(), Order::WriteRegister(approved(plan, &profile)));
    order(&tpm, officials, plan.amend.k(), Order::WriteCharterPin(plan.charter.0));
    let keys = tpm.make_keys(&Secret::random(&mut OsRng)).unwrap();
    let (custody_key, identity_key) = (tpm.custody_point().unwrap(), tpm.identity_point().unwrap());
    let authority = home.issue(&request(identity(Role::EmbassyAuthority, plan.embassy.as_str()), identity_key));
    let chartered = CharterMachine {
        embassy: plan.embassy.clone(),
        counter_first: keys.counter_first,
        storage_root: foundation.storage_root,
        attestation_key: foundation.attestation,
        custody_key,
        identity_key,
    };
    let directory = folder.join(format!("embassy-{}", plan.embassy));
    let name = plan.embassy.clone();
    (Site { name, machine, profile, foundation, auths, keys, authority, directory }, chartered)
}

/// Lays out the directory of an embassy (docs/service.md).
fn lay_out(site: &Site, home: &Home, list: &[u8], charters: [&SignedCharter; 2]) {
    std::fs::create_dir_all(site.directory.join("charters")).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(site.directory.join(name), bytes).unwrap();
    for (charter, version) in charters.iter().zip(1..) {
        write(&format!("charters/{version:06}.charter"), &charter.encode());
    }
    write("keys.bin", &site.keys.encode());
    write("home.crt", &home.root);
    write("home.crl", list);
    write("embassy.crt", &site.authority);
    let config = format!("embassy = \"{}\"\ntcti = \"{}\"\nplaces = [\"localhost\"]\n", site.name, site.machine.tcti());
    write("chancery.toml", config.as_bytes());
}

/// The first k officials order something of the TPM.
fn order(tpm: &EmbassyTpm, officials: &[Official], k: u8, order: Order) {
    let mut command = tpm.begin(&[order]).unwrap().pop().unwrap();
    for official in officials.iter().take(usize::from(k)) {
        let expiry = Expiry::new(EXPIRY_MAX, EXPIRY_MAX).unwrap();
        let approval = command.request().sign(official.position, expiry, &official.identity.signing).unwrap();
        command.approve(approval, EXPIRY_MAX).unwrap();
    }
    assert_eq!(tpm.finish(&mut command), Ok(Outcome::Done));
}

/// The register's content for a boot state, as an official's machine computes it.
pub fn approved(plan: &CustodyPlan, profile: &BootProfile) -> RegisterContent {
    let expected = profile.expected_pcrs();
    let values = plan.platform.pcrs().map(|pcr| (pcr, expected.sha256[usize::from(pcr)])).collect();
    RegisterContent::of(plan.platform, &values).unwrap()
}

pub fn address(machine: &Machine) -> TpmAddress {
    let mut address = TpmAddress::new(&machine.tcti());
    address.limits.command = Duration::from_secs(10);
    address
}

/// The authorizations that a machine is delivered with.
pub fn delivered(machine: &Machine) -> HierarchyAuths {
    let auth = |bytes: &[u8]| HierarchyAuth::new(SecretVec::new(bytes.to_vec())).unwrap();
    HierarchyAuths {
        owner: auth(machine.owner_authorization()),
        endorsement: HierarchyAuth::empty(),
        lockout: auth(machine.lockout_authorization()),
    }
}

fn dataset(facts: &CustodyFacts, owner: &Key, name: &str) -> Dataset {
    let (seed, name) = (DatasetSeed::random(&mut OsRng), DatasetName::new(name).unwrap());
    let owner_name = OwnerName::new(OWNER).unwrap();
    let unsigned =
        UnsignedVersion::create(&seed, owner_name, name.clone(), DatasetVersion::FIRST, facts.sealing_keys()).unwrap();
    let record = unsigned.sign(&owner.signing).unwrap().encode();
    Dataset { name, seed, record }
}

fn verified(facts: &CustodyFacts, owner: &Key, dataset: &Dataset) -> VerifiedVersion {
    let chartered = CharteredDataset {
        charter: facts.charter(),
        owner: OwnerName::new(OWNER).unwrap(),
        owner_key: *owner.signing.verifying_key(),
        dataset: dataset.name.clone(),
    };
    let record = DatasetVersionRecord::decode(&dataset.record).unwrap();
    record.verify_signature(&chartered).unwrap().verify_slots(facts.sealing_keys()).unwrap()
}
