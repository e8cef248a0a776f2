//! Officials at the command line: what they were given, what they are shown, what they sign, and everything that is refused
//! before anything is signed. The embassy's side is played here, with its identity key at hand, so that it can lie.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "cli_official/adopting.rs"]
mod adopting;
#[path = "cli_official/forgetful.rs"]
mod forgetful;
#[path = "cli_official/lying.rs"]
mod lying;
#[path = "cli_official/served.rs"]
mod served;
#[path = "support/server.rs"]
mod server;
mod support;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use chancery::{
    client::official::{Carried, Directory, Load, Memory, Settings, TokenSettings},
    keys::{
        disk::{self, Replace},
        file::{Cost, KeyFile, KeyKind, Lock, PrivateKey, ShareOf},
    },
    protocol::{
        card::OfficialCard,
        certificate::{Role, UnixTime},
        charter::{
            Charter, CharterCustody, CharterDataset, CharterEmbassy, CharterMachine, CharterOfficial, CharterOwner,
            CharterParts, CharterWitness, HardwareClass, QuorumRule, SignedCharter, Signer, VerifiedCharter,
        },
        contribution::{CheckedOffer, Review},
        dataset::DatasetSeed,
        dataset_version::{CharteredDataset, DatasetVersionRecord, UnsignedVersion, VerifiedVersion},
        facts::CustodyFacts,
        gathering::Gathering,
        group::Point,
        hash::Hash,
        hybrid::HybridSecretKey,
        ids::{
            AgentName, DatasetName, DatasetVersion, EmbassyName, Generation, OfficialName, OwnerName, QuorumKind,
            SubjectName, WitnessName,
        },
        offer::{Offer, Opening, SignedOffer},
        paragraph::Purpose,
        partial::{PreparedQuorum, Receipt},
        quorum::{Position, Threshold},
        recipient::RecipientCard,
        secret::{SecretScalar, SecretVec},
        slot::{SealedFor, SeenPoints},
        statement::{DatasetAt, LeaseTerms, Mode, Resets, SignedStatement, Statement, StatementParts},
        tpm::{approval::TpmNonce, custody::CustodyHandles, nv::NvHandle, pcr::PcrSelection},
        wire::Document,
    },
};
use rand_core::{OsRng, RngCore};
use support::{HOUR, Home, Key, dealt, identity, now, request};
use tempfile::TempDir;

const PASSPHRASE: &str = "four geese over the harbour";
const NAMES: [&str; 5] = ["anna", "boris", "clara", "david", "eva"];

struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// Runs `chancery official ...` with a secret as the first line of standard input.
fn run_with(folder: &Path, secret: &str, arguments: &[&str], environment: &[(&str, &Path)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    command.arg("official").args(arguments).current_dir(folder).envs(environment.iter().copied());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("chancery starts");
    // A command that needs no secret may end before it is read.
    let _ = child.stdin.take().unwrap().write_all(format!("{secret}\n").as_bytes());
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let shown = secret.len() >= 8 && (out.contains(secret) || err.contains(secret));
    assert!(!shown, "a secret was shown:\n{out}{err}");
    assert!(!err.contains("panicked"), "{err}");
    Ran { code: output.status.code().unwrap(), out, err }
}

fn fine(ran: Ran) -> String {
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    ran.out
}

/// A refusal is one or two lines on standard error.
fn refused(ran: &Ran) -> &str {
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.err.starts_with("chancery: ") && ran.err.lines().count() <= 2, "{}", ran.err);
    &ran.err
}

fn cheap() -> Cost {
    Cost::new(19 * 1024, 2, 1).unwrap()
}

fn secret(text: &str) -> SecretVec {
    SecretVec::new(text.as_bytes().to_vec())
}

/// An official of the test's network, whose keys the test knows.
struct Official {
    name: OfficialName,
    position: Position,
    identity: Key,
    hybrid: HybridSecretKey,
    dkg: Key,
    connection: Key,
    shares: Option<(SecretScalar, SecretScalar)>,
}

/// Key files as `official init` makes them, but cheap to open.
fn keep_keys(directory: &Path, name: &str, [identity, dkg, connection]: [&Key; 3], hybrid: &HybridSecretKey) {
    let (name, phrase) = (SubjectName::new(name).unwrap(), secret(PASSPHRASE));
    let lock = Lock::Passphrase(&phrase, cheap());
    let store = |file: &str, kind: KeyKind, key: &PrivateKey| {
        let made = KeyFile::lock(kind, name.clone(), key, lock, &mut OsRng).unwrap();
        disk::store(&directory.join(file), &made, Replace::No).unwrap();
    };
    let scalar = |key: &Key| PrivateKey::Scalar(SecretScalar::from_bytes(&key.secret().to_bytes()).unwrap());
    store("identity.key", KeyKind::Identity, &scalar(identity));
    store("dkg.key", KeyKind::Dkg, &scalar(dkg));
    store("connection.key", KeyKind::Connection, &scalar(connection));
    let seed = chancery::protocol::secret::Secret::from_slice(hybrid.seed().expose()).unwrap();
    store("hybrid.key", KeyKind::Hybrid, &PrivateKey::Hybrid(HybridSecretKey::from_seed(seed)));
}

/// A share, locked by the passphrase or for a token.
fn keep_share(directory: &Path, name: &str, of: ShareOf, share: SecretScalar, token: Option<&Point>) {
    let phrase = secret(PASSPHRASE);
    let lock = token.map_or(Lock::Passphrase(&phrase, cheap()), Lock::Token);
    let file = KeyFile::lock_share(of, SubjectName::new(name).unwrap(), share, lock, &mut OsRng).unwrap();
    let path = directory.join(format!("share-{}-{}.key", of.quorum, of.generation));
    disk::store(&path, &file, Replace::No).unwrap();
}

/// A network on paper: everything but the machine.
struct Network {
    folder: TempDir,
    home: Home,
    officials: Vec<Official>,
    owner: Key,
    /// The embassy's identity key, which only a TPM should have.
    embassy: Key,
    chain: Vec<SignedCharter>,
    charter: VerifiedCharter,
    seeds: Vec<DatasetSeed>,
}

impl Network {
    fn new() -> Self {
        Self::of(|_| {})
    }

    /// Made by a dealer, after a change to the charter.
    fn of(change: impl FnOnce(&mut CharterParts)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new("EE");
        let (unseal, recovery) = (Threshold::new(3, 5).unwrap(), Threshold::new(4, 5).unwrap());
        let ((unseal_key, shares), (recovery_key, recovery_shares)) = (dealt(unseal), dealt(recovery));
        let officials: Vec<Official> = shares
            .into_iter()
            .zip(recovery_shares)
            .zip(unseal.positions().zip(NAMES))
            .map(|(shares, (position, name))| Official {
                name: OfficialName::new(name).unwrap(),
                position,
                identity: Key::new(),
                hybrid: HybridSecretKey::random(&mut OsRng),
                dkg: Key::new(),
                connection: Key::new(),
                shares: Some(shares),
            })
            .collect();
        let chartered: Vec<CharterOfficial> = officials
            .iter()
            .map(|official| CharterOfficial {
                name: official.name.clone(),
                identity: official.identity.point(),
                hybrid: official.hybrid.public().clone(),
                dkg: official.dkg.point(),
            })
            .collect();
        let (owner, embassy) = (Key::new(), Key::new());
        let members: Vec<OfficialName> = officials.iter().map(|official| official.name.clone()).collect();
        let owner_name = OwnerName::new("land-board").unwrap();
        let handle = |offset: u32| NvHandle::new(0x0180_0010 + offset).unwrap();
        let mut founding = CharterParts {
            version: 1,
            founding: None,
            previous: None,
            country: home.name.country,
            home: home.key.point(),
            officials: chartered,
            unseal: QuorumRule { threshold: unseal, members: members.clone() },
            amend_k: 3,
            recovery: QuorumRule { threshold: recovery, members },
            expiry_max_seconds: 600,
            embassies: vec![CharterEmbassy {
                name: EmbassyName::new("luxembourg").unwrap(),
                class: HardwareClass::Firmware,
                leases: true,
                platform: PcrSelection::new(&[0, 2, 4, 7]).unwrap(),
                handles: CustodyHandles { counter: handle(0), register: handle(1), charter_pin: handle(2) },
            }],
            owners: vec![CharterOwner { name: owner_name.clone(), key: owner.point() }],
            datasets: ["land-register", "police-files"]
                .map(|name| CharterDataset { name: DatasetName::new(name).unwrap(), owner: owner_name.clone() })
                .to_vec(),
            witnesses: vec![CharterWitness { name: WitnessName::new("geneva").unwrap(), key: Key::new().point() }],
            heartbeat_seconds: 300,
            policy: Hash::of_bytes(b"policy"),
            custody: None,
        };
        change(&mut founding);
        let mut first = SignedCharter::unsigned(Charter::new(founding.clone()).unwrap());
        first.sign(Signer::Home, &home.key.signing).unwrap();
        let founded = first.clone().found(home.name.country, &home.key.point()).unwrap();
        let custody = CharterCustody {
            generation: Generation::FIRST,
            unseal: unseal_key,
            unseal_certificate: Hash::of_bytes(b"dealt"),
            recovery: recovery_key,
            recovery_certificate: Hash::of_bytes(b"dealt"),
            machines: vec![CharterMachine {
                embassy: EmbassyName::new("luxembourg").unwrap(),
                counter_first: 1,
                storage_root: Key::new().point(),
                attestation_key: Key::new().point(),
                custody_key: Key::new().point(),
                identity_key: embassy.point(),
            }],
        };
        let completed = CharterParts {
            version: 2,
            founding: Some(founded.id()),
            previous: Some(founded.hash()),
            custody: Some(custody),
            ..founding
        };
        let mut second = SignedCharter::unsigned(Charter::new(completed).unwrap());
        second.sign(Signer::Home, &home.key.signing).unwrap();
        // Officials whose keys the charter has from elsewhere are not among the signers.
        let known = |official: &&Official| {
            let named = founded.charter().official(&official.name).unwrap();
            named.identity == official.identity.point()
        };
        for official in officials.iter().filter(known).take(3) {
            second.sign(Signer::Official(official.name.clone()), &official.identity.signing).unwrap();
        }
        let charter = second.clone().succeed(&founded).unwrap();
        let seeds = (0..2).map(|_| DatasetSeed::random(&mut OsRng)).collect();
        Self { folder, home, officials, owner, embassy, chain: vec![first, second], charter, seeds }
    }

    fn facts(&self) -> CustodyFacts {
        self.charter.charter().facts(&EmbassyName::new("luxembourg").unwrap()).unwrap()
    }

    fn record(&self, index: usize, seed: &DatasetSeed) -> DatasetVersionRecord {
        let name = DatasetName::new(["land-register", "police-files"][index]).unwrap();
        let owner = OwnerName::new("land-board").unwrap();
        let keys = self.facts();
        UnsignedVersion::create(seed, owner, name, DatasetVersion::FIRST, keys.sealing_keys())
            .unwrap()
            .sign(&self.owner.signing)
            .unwrap()
    }

    fn version(&self, record: DatasetVersionRecord) -> VerifiedVersion {
        let chartered = CharteredDataset {
            charter: self.charter.id(),
            owner: OwnerName::new("land-board").unwrap(),
            owner_key: *self.owner.signing.verifying_key(),
            dataset: record.unverified().dataset.clone(),
        };
        record.verify_signature(&chartered).unwrap().verify_slots(self.facts().sealing_keys()).unwrap()
    }

    fn versions(&self) -> Vec<VerifiedVersion> {
        self.seeds.iter().enumerate().map(|(index, seed)| self.version(self.record(index, seed))).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// The files that home and data owners hand out.
    fn hand_out(&self) {
        self.write("home.crt", &self.home.root);
        self.write("home.crl", &self.home.list(7, &[]));
        for (charter, version) in self.chain.iter().zip(1..) {
            self.write(&format!("{version}.charter"), &charter.encode());
        }
        for (index, seed) in self.seeds.iter().enumerate() {
            self.write(&format!("{index}.record"), &self.record(index, seed).encode());
        }
        for official in &self.officials {
            let wanted = request(identity(Role::Official, official.name.as_str()), official.connection.point());
            self.write(&format!("{}.crt", official.name), &self.home.issue(&wanted));
        }
    }

    fn key_hash(&self) -> String {
        Hash::of_bytes(&self.home.key.point().encode()).to_string()
    }

    /// An official's directory with keys and shares, before home gave anything.
    fn lay_out(&mut self, index: usize) -> PathBuf {
        let shares = self.officials[index].shares.take();
        let official = &self.officials[index];
        let directory = self.path(official.name.as_str());
        std::fs::create_dir_all(&directory).unwrap();
        let settings = Settings { name: official.name.clone(), token: None, embassies: Vec::new() };
        Directory::begin(&directory, &settings).unwrap();
        let keys = [&official.identity, &official.dkg, &official.connection];
        keep_keys(&directory, official.name.as_str(), keys, &official.hybrid);
        let (unseal, recovery) = shares.unwrap();
        for (quorum, share) in [(QuorumKind::Unseal, unseal), (QuorumKind::Recovery, recovery)] {
            keep_share(&directory, official.name.as_str(), self.share_of(index, quorum), share, None);
        }
        directory
    }

    fn share_of(&self, index: usize, quorum: QuorumKind) -> ShareOf {
        let position = self.officials[index].position;
        ShareOf { charter: self.charter.id(), quorum, generation: Generation::FIRST, position }
    }

    /// The same, and all that home and data owners gave.
    fn ready(&mut self, index: usize) -> PathBuf {
        let directory = self.lay_out(index);
        self.hand_out();
        self.connect(NAMES[index]);
        directory
    }

    fn connect(&self, name: &str) {
        let (hash, certificate) = (self.key_hash(), format!("{name}.crt"));
        let said = fine(self.run(&[
            "connect",
            "--dir",
            name,
            "--home",
            "home.crt",
            "--key-hash",
            &hash,
            "--revocations",
            "home.crl",
            "--certificate",
            &certificate,
            "--charter",
            "1.charter",
            "--charter",
            "2.charter",
            "--dataset",
            "0.record",
            "--dataset",
            "1.record",
            "--embassy",
            "luxembourg=https://127.0.0.1:1",
        ]));
        assert!(
            said.contains("charter version 2 is in force here, signed by the home authority and anna, boris, clara")
        );
        assert!(said.contains("dataset land-register version 1: signed by land-board, and all its 2 slots hold"));
        assert!(said.ends_with("Nothing is missing. Next: `chancery official inbox`\n"), "{said}");
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run_with(self.folder.path(), PASSPHRASE, arguments, &[])
    }

    fn statement(&self) -> StatementParts {
        let at = |name: &str| DatasetAt { dataset: DatasetName::new(name).unwrap(), version: DatasetVersion::FIRST };
        let mut nonce = [0; 16];
        OsRng.fill_bytes(&mut nonce);
        StatementParts {
            charter: self.charter.id(),
            embassy: EmbassyName::new("luxembourg").unwrap(),
            generation: Generation::FIRST,
            purpose: Purpose::new("restore the land register after the flood").unwrap(),
            datasets: vec![at("land-register"), at("police-files")],
            mode: Mode::Lease(LeaseTerms {
                agents: vec![AgentName::new("restorer").unwrap()],
                duration_seconds: 8 * 3600,
                unwraps: 5000,
            }),
            opener: OfficialName::new("boris").unwrap(),
            opened_at: now(),
            expires_at: UnixTime(now().0 + HOUR),
            acknowledged: Resets { reset_count: 4, restart_count: 0 },
            nonce,
        }
    }

    fn signed(&self, parts: StatementParts) -> SignedStatement {
        SignedStatement::sign(Statement::new(parts).unwrap(), &self.officials[1].identity.signing).unwrap()
    }

    /// An offer as an honest embassy makes it.
    fn offer(&self, statement: SignedStatement, key: &HybridSecretKey) -> SignedOffer {
        self.offer_of(statement, key, &self.versions())
    }

    fn offer_of(&self, statement: SignedStatement, key: &HybridSecretKey, versions: &[VerifiedVersion]) -> SignedOffer {
        let here = SealedFor::Embassy(EmbassyName::new("luxembourg").unwrap());
        let openings = versions
            .iter()
            .map(|version| {
                let mut nonce = [0; 32];
                OsRng.fill_bytes(&mut nonce);
                Opening { subject: version.slot(&here).unwrap().id(), nonce: TpmNonce::from_bytes(&nonce).unwrap() }
            })
            .collect();
        let offer = Offer::new(statement, 1, Some(key.public().clone()), openings).unwrap();
        SignedOffer::sign(offer, &self.embassy.signing).unwrap()
    }

    /// An honest offer in a file, with the words of its statement.
    fn offered(&self) -> (SignedOffer, HybridSecretKey, String) {
        let key = HybridSecretKey::random(&mut OsRng);
        let offer = self.offer(self.signed(self.statement()), &key);
        self.write("offer.bin", &offer.encode());
        let words = offer.unverified().statement().words().to_string();
        (offer, key, words)
    }

    fn approve(&self, name: &str, words: &str, extra: &[&str]) -> Ran {
        let to = format!("{name}.approval");
        let arguments =
            [&["approve", "--dir", name, "--offline", "offer.bin", "--out", &to, "--yes-i-read", words][..], extra]
                .concat();
        self.run(&arguments)
    }
}

#[test]
fn an_official_takes_what_home_gave_and_nothing_else() {
    let mut network = Network::new();
    network.lay_out(0);
    network.hand_out();
    let says = |arguments: &[&str], words: &[&str]| {
        let ran = network.run(&[&["connect", "--dir", "anna"], arguments].concat());
        let err = refused(&ran);
        assert!(words.iter().all(|word| err.contains(word)), "{err} does not say {words:?}");
    };
    let status = fine(network.run(&["status", "--here", "--dir", "anna"]));
    assert!(status.contains("home authority") && status.contains("not known: `chancery official connect`"), "{status}");
    says(&["--revocations", "home.crl"], &["home.crt is not there", "official connect"]);
    let wrong = "0".repeat(64);
    says(&["--home", "home.crt", "--key-hash", &wrong], &["not the one you give", "in person", "Do not go on"]);
    let hash = network.key_hash();
    let said = fine(network.run(&["connect", "--dir", "anna", "--home", "home.crt", "--key-hash", &hash]));
    assert!(said.ends_with("Still missing: home's revocation list: --revocations FILE\n"), "{said}");

    let other = Home::new("EE");
    network.write("other.crl", &other.list(9, &[]));
    says(&["--revocations", "other.crl"], &["the revocation list is refused"]);
    fine(network.run(&["connect", "--dir", "anna", "--revocations", "home.crl"]));
    network.write("old.crl", &network.home.list(6, &[]));
    says(&["--revocations", "old.crl"], &["number 6", "7 was seen before"]);

    says(&["--certificate", "boris.crt"], &["a certificate of boris", "your connection.pub"]);
    let agent = network.home.issue(&request(identity(Role::Agent, "anna"), network.officials[0].connection.point()));
    network.write("agent.crt", &agent);
    says(&["--certificate", "agent.crt"], &["its role is agent", "official is needed"]);
    let stolen = network.home.issue(&request(identity(Role::Official, "anna"), network.officials[0].identity.point()));
    network.write("identity.crt", &stolen);
    says(&["--certificate", "identity.crt"], &["another key than your connection key"]);
    let foreign = other.issue(&request(identity(Role::Official, "anna"), network.officials[0].connection.point()));
    network.write("foreign.crt", &foreign);
    says(&["--certificate", "foreign.crt"], &["foreign.crt", "the certificate is refused"]);

    says(&["--charter", "2.charter"], &["version 2", "Do not go on"]);
    says(&["--dataset", "0.record"], &["no charter is known here yet"]);
    network.connect("anna");
    // What was seen is not unseen: the successor taken away, the predecessor is refused.
    std::fs::remove_file(network.path("anna/charters/000002.charter")).unwrap();
    let err = network.run(&["status", "--here", "--dir", "anna"]);
    assert!(refused(&err).contains("version 1 was offered, and version 2 was seen before"), "{}", err.err);
    // A forged record of the land register, signed by nobody.
    network.connect("anna");
    let mut forged = network.record(0, &network.seeds[0]).encode();
    *forged.last_mut().unwrap() ^= 1;
    network.write("forged.record", &forged);
    says(&["--dataset", "forged.record"], &["land-register"]);
    let status = fine(network.run(&["status", "--here", "--dir", "anna"]));
    assert!(status.contains("place 1; any 3 of 5 open, generation 1: your share is here"), "{status}");
    std::fs::remove_file(network.path("anna/share-unseal-1.key")).unwrap();
    let status = fine(network.run(&["status", "--here", "--dir", "anna"]));
    assert!(status.contains("YOUR SHARE IS NOT HERE"), "{status}");
}

#[test]
fn three_approvals_without_a_network_open_what_their_words_said() {
    let mut network = Network::new();
    for index in 0..3 {
        network.ready(index);
    }
    let (offer, key, words) = network.offered();
    let (facts, versions) = (network.facts(), network.versions());
    let review = Review { facts: &facts, versions: &versions, now: now(), recipient: None };
    let checked = CheckedOffer::check(&offer, &review, &mut SeenPoints::new()).unwrap();
    let quorum = PreparedQuorum::new(&facts.unseal().key);
    let mut gathering = Gathering::new(checked, &facts, &quorum).unwrap();
    for name in NAMES.iter().take(3) {
        let said = fine(network.approve(name, &words, &["--passphrase-fd", "0"]));
        for expected in [
            "restore the land register after the flood",
            "land-register, version 1",
            "police-files, version 1",
            "for agent                restorer",
            "lasts                    8 hours",
            "unwraps                  at most 5000",
            "opened by                boris",
            "TPM counts acknowledged  4 resets, 0 restarts",
            "this is the first statement that this machine sees of this embassy",
            "2 of 2 slots: the data owner's signature, the proof, and a point never seen in another slot",
            "NOT CHECKED",
            "Nothing was sent.",
            "official carry",
        ] {
            assert!(said.contains(expected), "{expected:?} is not in\n{said}");
        }
        assert!(said.contains(&format!("read aloud               {words}")), "{said}");
        let carried = Carried::decode(&std::fs::read(network.path(&format!("{name}.approval"))).unwrap()).unwrap();
        assert_eq!(carried.ceremony, offer.unverified().statement().id());
        let Load::Approval(contribution) = carried.load else { panic!("not an approval") };
        assert!(matches!(gathering.receive(&contribution, &key), Ok(Receipt::Accepted { .. })));
        let memory = Memory::decode(&std::fs::read(network.path(&format!("{name}/memory.bin"))).unwrap()).unwrap();
        assert_eq!(memory.points().unwrap().iter().count(), 2, "the points are on disk");
    }
    assert_eq!(gathering.quorate().unwrap().into_openings().len(), 2);
    let shown = run_plain(&network, &["inspect", "anna.approval"]);
    assert!(shown.contains("an approval of official 1") && shown.contains("luxembourg"), "{shown}");
    // A second one does not replace the first.
    let again = network.approve("anna", &words, &["--passphrase-fd", "0"]);
    assert!(refused(&again).contains("Choose another name"), "{}", again.err);
}

fn run_plain(network: &Network, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_chancery"))
        .args(arguments)
        .current_dir(network.folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Nothing was written, and the refusal says all of this.
fn approve_refused(network: &Network, words: &str, expected: &[&str]) {
    let ran = network.approve("anna", words, &["--passphrase-fd", "0"]);
    let err = refused(&ran);
    assert!(expected.iter().all(|word| err.contains(word)), "{err} does not say {expected:?}");
    assert!(!network.path("anna.approval").exists(), "something was written");
}

#[test]
fn nothing_is_signed_without_the_words_of_that_very_statement() {
    let mut network = Network::new();
    network.ready(0);
    let (_, _, words) = network.offered();
    let (_, _, other) = network.offered();
    approve_refused(&network, &words, &["not those of this statement", "Nothing was signed"]);
    let nine: Vec<&str> = other.split(' ').take(9).collect();
    approve_refused(&network, &nine.join(" "), &["not those of this statement"]);
    approve_refused(&network, "yes", &["not those of this statement"]);
    let to = ["approve", "--dir", "anna", "--offline", "offer.bin", "--out", "anna.approval", "--passphrase-fd", "0"];
    let nobody = network.run(&to);
    assert!(refused(&nobody).contains("nobody is at a terminal"), "{}", nobody.err);
    // The first four letters of each do.
    let cut: Vec<&str> = other.split(' ').map(|word| word.get(..4).unwrap_or(word)).collect();
    fine(network.approve("anna", &cut.join(" "), &["--passphrase-fd", "0"]));
}

#[test]
fn an_embassy_that_lies_gets_nothing_and_is_told_by_its_lie() {
    let mut network = Network::new();
    network.ready(0);
    let key = HybridSecretKey::random(&mut OsRng);
    let offer = |offer: &SignedOffer| {
        network.write("offer.bin", &offer.encode());
        offer.unverified().statement().words().to_string()
    };
    let honest = || network.signed(network.statement());

    // Signed by another key than the charter's.
    let forged = SignedOffer::sign(network.offer(honest(), &key).unverified().clone(), &Key::new().signing).unwrap();
    approve_refused(&network, &offer(&forged), &["not signed by the identity key of embassy luxembourg"]);
    // A statement that nobody opened.
    let parts = network.statement();
    let stranger = SignedStatement::sign(Statement::new(parts).unwrap(), &Key::new().signing).unwrap();
    approve_refused(&network, &offer(&network.offer(stranger, &key)), &["not signed by boris"]);
    // Late, and early.
    let late = StatementParts {
        opened_at: UnixTime(now().0 - 2 * HOUR),
        expires_at: UnixTime(now().0 - HOUR),
        ..network.statement()
    };
    approve_refused(&network, &offer(&network.offer(network.signed(late), &key)), &["it expired at"]);
    let early = StatementParts {
        opened_at: UnixTime(now().0 + HOUR),
        expires_at: UnixTime(now().0 + 2 * HOUR),
        ..network.statement()
    };
    approve_refused(&network, &offer(&network.offer(network.signed(early), &key)), &["compare the clocks"]);
    // Another slot behind the name: the seed of somebody else's register, which nobody signed.
    let other = DatasetSeed::random(&mut OsRng);
    let swapped = [network.version(network.record(0, &other)), network.version(network.record(1, &network.seeds[1]))];
    let swapped = network.offer_of(honest(), &key, &swapped);
    approve_refused(&network, &offer(&swapped), &["not the one its data owner signed", "tell the others"]);
    // A version that nobody has a record of.
    let unknown =
        DatasetAt { dataset: DatasetName::new("land-register").unwrap(), version: DatasetVersion::new(2).unwrap() };
    let unknown = StatementParts { datasets: vec![unknown], ..network.statement() };
    let unknown = network.offer_of(network.signed(unknown), &key, &network.versions()[..1]);
    approve_refused(&network, &offer(&unknown), &["no signed record of dataset land-register version 2"]);
    // Another network, and another generation.
    let elsewhere = StatementParts {
        charter: chancery::protocol::ids::CharterId(Hash::of_bytes(b"another network")),
        ..network.statement()
    };
    approve_refused(&network, &offer(&network.offer(network.signed(elsewhere), &key)), &["another charter"]);
    let next = StatementParts { generation: Generation::new(2).unwrap(), ..network.statement() };
    approve_refused(&network, &offer(&network.offer(network.signed(next), &key)), &["another generation"]);
    // A recipient whom home never certified, under a certificate of another home.
    let other = Home::new("EE");
    let thief = Key::new();
    let certificate = other.issue(&request(identity(Role::Official, "court"), thief.point()));
    let name = SubjectName::new("court").unwrap();
    let card = RecipientCard::sign(name, certificate, key.public().clone(), &thief.signing).unwrap();
    let release = StatementParts { mode: Mode::Release { recipient: Box::new(card) }, ..network.statement() };
    let release = network.offer(network.signed(release), &key);
    approve_refused(&network, &offer(&release), &["the recipient of this release is refused"]);
    // Not an offer at all.
    network.write("offer.bin", &network.chain[0].encode());
    approve_refused(&network, "x", &["says that it is an offer, but is refused"]);

    // The honest one after all that: nothing of it left a trace.
    fine(network.approve("anna", &offer(&network.offer(honest(), &key)), &["--passphrase-fd", "0"]));
}

#[test]
fn a_lease_where_the_charter_allows_none_is_not_put_before_anybody() {
    let mut network = Network::of(|parts| {
        parts.embassies[0].leases = false;
        parts.embassies[0].class = HardwareClass::Discrete;
    });
    network.ready(0);
    let (_, _, words) = network.offered();
    approve_refused(&network, &words, &["allows no lease on the hardware of luxembourg", "tell the others"]);
    // A release to somebody whom home certified is the way there.
    let (key, court) = (HybridSecretKey::random(&mut OsRng), Key::new());
    let certificate = network.home.issue(&request(identity(Role::Official, "court"), court.point()));
    let name = SubjectName::new("court").unwrap();
    let card = RecipientCard::sign(name, certificate, key.public().clone(), &court.signing).unwrap();
    let release = StatementParts { mode: Mode::Release { recipient: Box::new(card) }, ..network.statement() };
    let offer = network.offer(network.signed(release), &key);
    network.write("offer.bin", &offer.encode());
    let words = offer.unverified().statement().words().to_string();
    let said = fine(network.approve("anna", &words, &["--passphrase-fd", "0"]));
    assert!(said.contains("spiffe://registers.example/official/court, certified by home"), "{said}");
    assert!(said.contains("release: the keys go to the recipient; the embassy never has them"), "{said}");
}

#[test]
fn a_point_that_was_seen_in_another_slot_is_never_answered() {
    let mut network = Network::new();
    let directory = network.ready(0);
    let (_, _, words) = network.offered();
    let here = SealedFor::Embassy(EmbassyName::new("luxembourg").unwrap());
    let point = network.versions()[0].slot(&here).unwrap().point().xy().0;
    let mut opened = Directory::open(&directory).unwrap();
    opened
        .remember(|memory| {
            memory.keep_points(SeenPoints::restore([(point, Hash::of_bytes(b"an earlier slot"))]).unwrap());
            Ok(())
        })
        .unwrap();
    // While another command is at work there, nothing is.
    let busy = network.approve("anna", &words, &["--passphrase-fd", "0"]);
    assert!(refused(&busy).contains("another chancery is at work"), "{}", busy.err);
    drop(opened);
    approve_refused(&network, &words, &["was seen in another slot before", "tell the data owner"]);
    // A memory that was damaged does not count as an empty one.
    let path = network.path("anna/memory.bin");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 1);
    std::fs::write(&path, bytes).unwrap();
    approve_refused(&network, &words, &["memory.bin is damaged"]);
}

#[test]
fn every_rise_of_the_machines_counts_is_shown_before_consent() {
    let mut network = Network::new();
    network.ready(0);
    let key = HybridSecretKey::random(&mut OsRng);
    let approve = |resets: (u32, u32), number: usize| {
        let acknowledged = Resets { reset_count: resets.0, restart_count: resets.1 };
        let offer = network.offer(network.signed(StatementParts { acknowledged, ..network.statement() }), &key);
        network.write("offer.bin", &offer.encode());
        let words = offer.unverified().statement().words().to_string();
        let to = format!("{number}.approval");
        fine(network.run(&[
            "approve",
            "--dir",
            "anna",
            "--offline",
            "offer.bin",
            "--out",
            &to,
            "--yes-i-read",
            &words,
            "--passphrase-fd",
            "0",
        ]))
    };
    for (number, (resets, said)) in [
        ((4, 0), "this is the first statement"),
        ((4, 0), "none since the last statement you agreed to"),
        ((4, 2), "RESTARTED 2 times since the last statement you agreed to. Do you know why?"),
        ((5, 0), "RESET once, and restarted 0 times after that"),
        ((3, 0), "THE COUNTS WENT BACK from 5 resets, 0 restarts"),
    ]
    .into_iter()
    .enumerate()
    {
        let shown = approve(resets, number);
        assert!(shown.contains(said), "{said:?} is not in\n{shown}");
    }
}

#[test]
fn denials_and_stops_are_signed_without_a_network_too() {
    let mut network = Network::new();
    network.ready(0);
    let (offer, _, _) = network.offered();
    let (facts, id) = (network.facts(), offer.unverified().statement().id());
    let object = |what: &str| {
        let to = format!("anna.{what}");
        network.run(&[
            what,
            "--dir",
            "anna",
            "--offline",
            "offer.bin",
            "--out",
            &to,
            "--reason",
            "the registrar knows nothing of it",
            "--yes",
            "--passphrase-fd",
            "0",
        ])
    };
    for what in ["deny", "stop"] {
        let said = fine(object(what));
        assert!(said.contains("restore the land register") && said.contains("official carry"), "{said}");
        let carried = Carried::decode(&std::fs::read(network.path(&format!("anna.{what}"))).unwrap()).unwrap();
        assert_eq!(carried.ceremony, id);
        match carried.load {
            Load::Denial(denial) => assert_eq!(denial.verify(&id, &facts).unwrap(), network.officials[0].position),
            Load::Stop(stop) => assert_eq!(stop.verify(&id, &facts).unwrap().as_str(), "anna"),
            Load::Approval(_) => panic!("an approval"),
        }
    }
    let silent =
        ["deny", "--dir", "anna", "--offline", "offer.bin", "--out", "x", "--reason", "no", "--passphrase-fd", "0"];
    let silent = network.run(&silent);
    assert!(refused(&silent).contains("nobody is at a terminal to say yes"), "{}", silent.err);
    let hidden = network.run(&["deny", "--dir", "anna", "--reason", "a\u{202e}b", "--yes"]);
    assert_eq!(hidden.code, 2, "{}", hidden.err);
}

#[test]
fn a_wrong_passphrase_and_a_share_of_another_place_sign_nothing() {
    let mut network = Network::new();
    network.ready(0);
    let (_, _, words) = network.offered();
    let arguments = [
        "approve",
        "--dir",
        "anna",
        "--offline",
        "offer.bin",
        "--out",
        "anna.approval",
        "--yes-i-read",
        &words,
        "--passphrase-fd",
        "0",
    ];
    let wrong = run_with(network.folder.path(), "four geese over the town", &arguments, &[]);
    assert!(refused(&wrong).contains("the passphrase is wrong"), "{}", wrong.err);
    let (share, recovery) = (network.path("anna/share-unseal-1.key"), network.path("anna/share-recovery-1.key"));
    std::fs::rename(&share, network.path("kept")).unwrap();
    approve_refused(&network, &words, &["share-unseal-1.key is not there", "official rebuild"]);
    std::fs::copy(recovery, &share).unwrap();
    approve_refused(&network, &words, &["recovery quorum", "unseal quorum, generation 1 is needed"]);
    std::fs::remove_file(&share).unwrap();
    std::fs::rename(network.path("kept"), &share).unwrap();
    fine(network.approve("anna", &words, &["--passphrase-fd", "0"]));
}

/// The public half that `official init` left for home.
fn connection_key(directory: &Path) -> Point {
    let pem = std::fs::read_to_string(directory.join("connection.pub")).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    chancery::protocol::certificate::bare_key(&pem.contents).unwrap()
}

/// Anna with her identity on a token, and everything else locked by it.
fn on_a_token(token: &hsm_sim::Token) -> Network {
    let environment = [("SOFTHSM2_CONF", token.configuration())];
    let folder = tempfile::tempdir().unwrap();
    let module = token.module().display().to_string();
    let init = [
        "init",
        "anna",
        "--dir",
        "anna",
        "--module",
        &module,
        "--token",
        token.label(),
        "--token-key",
        "identity",
        "--pin-fd",
        "0",
    ];
    fine(run_with(folder.path(), token.pin(), &init, &environment));
    let card = OfficialCard::decode(&std::fs::read(folder.path().join("anna/card.bin")).unwrap()).unwrap();
    let mut network = Network::of(|parts| parts.officials[0] = card.official().clone());
    let (unseal, recovery) = network.officials[0].shares.take().unwrap();
    let made = network.path("anna");
    std::fs::rename(folder.path().join("anna"), &made).unwrap();
    // The share is locked by the public half of the token's second key, as it stands in the other files.
    let file = disk::load(&made.join("dkg.key")).unwrap();
    let key = *file.token_key().expect("locked by a token");
    for (quorum, share) in [(QuorumKind::Unseal, unseal), (QuorumKind::Recovery, recovery)] {
        keep_share(&made, "anna", network.share_of(0, quorum), share, Some(&key));
    }
    network.hand_out();
    let connection = connection_key(&made);
    network.write("anna.crt", &network.home.issue(&request(identity(Role::Official, "anna"), connection)));
    let hash = network.key_hash();
    let said = fine(network.run(&[
        "connect",
        "--dir",
        "anna",
        "--home",
        "home.crt",
        "--key-hash",
        &hash,
        "--revocations",
        "home.crl",
        "--certificate",
        "anna.crt",
        "--charter",
        "1.charter",
        "--charter",
        "2.charter",
        "--dataset",
        "0.record",
        "--dataset",
        "1.record",
    ]));
    assert!(said.contains("charter version 2 is in force here"), "{said}");
    network
}

#[test]
fn an_official_with_a_token_approves_with_its_pin_alone_and_every_fault_of_it_is_said() {
    let token = hsm_sim::Token::temporary("anna-card").unwrap();
    let network = on_a_token(&token);
    let environment = [("SOFTHSM2_CONF", token.configuration())];
    let (offer, key, words) = network.offered();
    let approve = |pin: &str, to: &str| {
        let arguments = [
            "approve",
            "--dir",
            "anna",
            "--offline",
            "offer.bin",
            "--out",
            to,
            "--yes-i-read",
            &words,
            "--pin-fd",
            "0",
        ];
        run_with(network.folder.path(), pin, &arguments, &environment)
    };
    let said = fine(approve(token.pin(), "anna.approval"));
    assert!(said.contains("Nothing was sent"), "{said}");
    let Load::Approval(contribution) =
        Carried::decode(&std::fs::read(network.path("anna.approval")).unwrap()).unwrap().load
    else {
        panic!("not an approval")
    };
    let (facts, versions) = (network.facts(), network.versions());
    let review = Review { facts: &facts, versions: &versions, now: now(), recipient: None };
    let checked = CheckedOffer::check(&offer, &review, &mut SeenPoints::new()).unwrap();
    let quorum = PreparedQuorum::new(&facts.unseal().key);
    let mut gathering = Gathering::new(checked, &facts, &quorum).unwrap();
    assert!(matches!(gathering.receive(&contribution, &key), Ok(Receipt::Accepted { .. })));

    let nothing = |ran: &Ran, expected: &[&str]| {
        let err = refused(ran);
        assert!(expected.iter().all(|word| err.contains(word)), "{err} does not say {expected:?}");
        assert!(!network.path("second.approval").exists(), "something was written");
    };
    nothing(&approve("000000", "second.approval"), &["the PIN is wrong"]);

    // A card that locks, and that is pulled after the first of three signatures.
    let faulty = token.faulty(3).unwrap();
    set_token(&network, |settings| settings.module = faulty.module().to_owned());
    nothing(&approve("000000", "second.approval"), &["the PIN is wrong", "counts wrong tries"]);
    nothing(&approve("000001", "second.approval"), &["ONE TRY IS LEFT"]);
    fine(approve(token.pin(), "third.approval"));
    faulty.pull_at_signature(2).unwrap();
    nothing(&approve(token.pin(), "second.approval"), &["the token was pulled", "Plug it in"]);
    faulty.pull_at_signature(0).unwrap();
    for pin in ["000000", "000001", "000002"] {
        nothing(&approve(pin, "second.approval"), &["the PIN is wrong"]);
    }
    nothing(&approve(token.pin(), "second.approval"), &["the PIN is locked", "PUK"]);

    // Another token, with keys of the same names.
    let other = hsm_sim::Token::temporary("anna-card").unwrap();
    let elsewhere = [("SOFTHSM2_CONF", other.configuration())];
    let module = other.module().display().to_string();
    let init = [
        "init",
        "anna",
        "--dir",
        "other",
        "--module",
        &module,
        "--token",
        "anna-card",
        "--token-key",
        "identity",
        "--pin-fd",
        "0",
    ];
    fine(run_with(network.folder.path(), other.pin(), &init, &elsewhere));
    set_token(&network, |settings| settings.module = other.module().to_owned());
    let arguments = [
        "approve",
        "--dir",
        "anna",
        "--offline",
        "offer.bin",
        "--out",
        "second.approval",
        "--yes-i-read",
        &words,
        "--pin-fd",
        "0",
    ];
    let ran = run_with(network.folder.path(), other.pin(), &arguments, &elsewhere);
    nothing(&ran, &["locked by a key on another token"]);
    // And no token at all.
    set_token(&network, |settings| settings.label = Some("lost-card".to_owned()));
    nothing(&approve(token.pin(), "second.approval"), &["no token has the label", "Plug it in"]);
}

fn set_token(network: &Network, change: impl FnOnce(&mut TokenSettings)) {
    let mut directory = Directory::open(&network.path("anna")).unwrap();
    let mut settings = directory.settings().clone();
    change(settings.token.as_mut().unwrap());
    directory.set(settings).unwrap();
}
