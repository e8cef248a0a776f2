//! A network at the command line: home, three officials, a data owner and a witness, with their files in one directory.
//!
//! Keys are made here, with the cheapest stretching there is, so that a story costs no minutes; everything else is done by the
//! built binary.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use chancery::{
    keys::{
        disk::{self, Replace},
        file::{Cost, KeyFile, KeyKind, PrivateKey},
    },
    protocol::{
        card::OfficialCard,
        charter::{CharterMachine, CharterOfficial, SignedCharter},
        dataset::{DatasetKey, DatasetSeed},
        dataset_version::UnsignedVersion,
        dkg::{Certified, Gathering, Member, Terms},
        group::Point,
        hybrid::HybridSecretKey,
        ids::{
            Attempt, DatasetName, DatasetVersion, EmbassyName, Generation, OfficialName, OwnerName, QuorumKind,
            SubjectName,
        },
        secret::{Secret, SecretScalar, SecretVec},
        wire::Document,
    },
};
use p256::ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use tempfile::TempDir;

pub const PASSPHRASE: &str = "four geese over the harbour";
pub const NAMES: [&str; 3] = ["anna", "boris", "clara"];

pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs the command in a folder, with the passphrase as the first line of standard input. What it remembers stays in there.
pub fn run(folder: &Path, arguments: &str) -> Ran {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    run_with(folder, &arguments, format!("{PASSPHRASE}\n").as_bytes())
}

pub fn run_with(folder: &Path, arguments: &[&str], input: &[u8]) -> Ran {
    let (code, out, err) = run_bytes(folder, arguments, input);
    Ran { code, out: String::from_utf8(out).expect("text"), err }
}

/// The same, where what comes out is no text.
pub fn run_bytes(folder: &Path, arguments: &[&str], input: &[u8]) -> (i32, Vec<u8>, String) {
    run_in(folder, arguments, input, &[])
}

/// The same, with a token's configuration.
pub fn run_in(
    folder: &Path,
    arguments: &[&str],
    input: &[u8],
    environment: &[(&str, &Path)],
) -> (i32, Vec<u8>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_chancery"))
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(folder)
        .env("XDG_STATE_HOME", folder.join("state"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("chancery starts");
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // The command may stop reading early, or never begin.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap()
    });
    let err = String::from_utf8(output.stderr).expect("text");
    assert!(!err.contains("panicked") && !err.contains(PASSPHRASE), "{err}");
    (output.status.code().expect("ended by itself"), output.stdout, err)
}

pub fn fine(ran: Ran) -> String {
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    ran.out
}

/// Refused, whatever was shown before, in two lines at most.
pub fn refused(ran: Ran, words: &[&str]) -> String {
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.err.starts_with("chancery: ") && ran.err.lines().count() <= 2, "{}", ran.err);
    assert!(words.iter().all(|word| ran.err.contains(word)), "{:?} does not say {words:?}", ran.err);
    ran.err
}

fn rng(name: &str) -> ChaCha20Rng {
    let mut seed = [0; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    ChaCha20Rng::from_seed(seed)
}

/// A secret that is the same each time it is asked for.
pub fn secret(name: &str) -> SecretScalar {
    SecretScalar::random(&mut rng(name))
}

pub fn point(name: &str) -> Point {
    Point::mul_generator(secret(name).expose())
}

/// An official's hybrid key.
pub fn hybrid(name: &str) -> HybridSecretKey {
    HybridSecretKey::from_seed(Secret::random(&mut rng(&format!("{name} hybrid"))))
}

/// A key file under [`PASSPHRASE`].
pub fn store_key(path: &Path, kind: KeyKind, name: &str, key: &PrivateKey) {
    let passphrase = SecretVec::new(PASSPHRASE.as_bytes().to_vec());
    let name = SubjectName::new(name).unwrap();
    let cost = Cost::new(19 * 1024, 2, 1).unwrap();
    let file = KeyFile::seal(kind, name, key, &passphrase, cost, &mut rng("salt")).unwrap();
    disk::store(path, &file, Replace::Yes).unwrap();
}

/// A bare public key, as other tools write it.
pub fn store_public(path: &Path, key: &Point) {
    let head = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
    std::fs::write(path, [head, key.encode_uncompressed().to_vec()].concat()).unwrap();
}

/// An official's keys and card, below a directory of the official's name.
pub fn store_official(folder: &Path, name: &str) {
    let at = folder.join(name);
    std::fs::create_dir_all(&at).unwrap();
    let (identity, dkg) = (format!("{name} identity"), format!("{name} dkg"));
    let hybrid = hybrid(name);
    let official = CharterOfficial {
        name: OfficialName::new(name).unwrap(),
        identity: point(&identity),
        hybrid: hybrid.public().clone(),
        dkg: point(&dkg),
    };
    let signer = SigningKey::from(*secret(&identity).expose());
    let signature: Signature = signer.sign_prehash(OfficialCard::digest(&official).as_bytes()).unwrap();
    std::fs::write(at.join("card.bin"), OfficialCard::new(official, signature).unwrap().encode()).unwrap();
    store_key(&at.join("identity.key"), KeyKind::Identity, name, &PrivateKey::Scalar(secret(&identity)));
}

/// A draft of the network; `leases` at its embassy.
pub fn draft() -> String {
    let mut text = String::from(
        "country = \"EE\"\nhome = \"home/home.crt\"\n\
         policy = \"1111111111111111111111111111111111111111111111111111111111111111\"\n\
         expiry_max_seconds = 600\nheartbeat_seconds = 300\n\
         [unseal]\nk = 2\nmembers = [\"anna\", \"boris\", \"clara\"]\n[amend]\nk = 2\n\
         [recovery]\nk = 3\nmembers = [\"anna\", \"boris\", \"clara\"]\n",
    );
    for name in NAMES {
        text.push_str(&format!("[[official]]\nname = \"{name}\"\ncard = \"{name}/card.bin\"\n"));
    }
    text.push_str(
        "[[embassy]]\nname = \"luxembourg\"\nclass = \"firmware\"\nleases = true\nplatform_pcrs = [0, 7]\n\
         nv_counter = 0x01800010\nnv_register = 0x01800011\nnv_charter_pin = 0x01800012\n\
         [[owner]]\nname = \"land-board\"\nkey = \"land-board.pub\"\n\
         [[dataset]]\nname = \"land-register\"\nowner = \"land-board\"\n\
         [[witness]]\nname = \"tallinn\"\nkey = \"tallinn.pub\"\n",
    );
    text
}

/// Everybody's keys, home's certificate, and the draft; no charter yet.
pub fn people() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fine(run(
        at,
        "home init --name registrar --country EE --trust-domain registers.example --key init.key --dir home \
         --passphrase-fd 0",
    ));
    for name in NAMES {
        store_official(at, name);
    }
    for name in ["land-board", "tallinn"] {
        store_public(&at.join(format!("{name}.pub")), &point(name));
    }
    store_key(&at.join("owner.key"), KeyKind::DataOwner, "land-board", &PrivateKey::Scalar(secret("land-board")));
    std::fs::write(at.join("draft.toml"), draft()).unwrap();
    folder
}

/// What a person is shown, and confirms.
pub fn hash_of(at: &Path, charter: &str) -> String {
    SignedCharter::decode(&std::fs::read(at.join(charter)).unwrap()).unwrap().unverified().hash().to_string()
}

/// Signs `charter` into `to`.
pub fn sign(at: &Path, charter: &str, capacity: &str, to: &str, more: &str) -> Ran {
    let confirm = hash_of(at, charter).chars().take(12).collect::<String>();
    let key = match capacity.split_once(':') {
        Some((_, name)) => format!("{name}/identity.key"),
        None => "init.key".to_owned(),
    };
    run(
        at,
        &format!(
            "home charter sign {charter} --as {capacity} --home home/home.crt --key {key} --confirm {confirm} --out {to} \
             --passphrase-fd 0 {more}"
        ),
    )
}

pub const CHAIN: &str = "--home home/home.crt --charters charters";

/// The network with its founding charter in force.
pub fn founded() -> TempDir {
    founded_with(|_| ())
}

/// The same, where something was changed before.
pub fn founded_with(change: impl FnOnce(&Path)) -> TempDir {
    let folder = people();
    let at = folder.path();
    change(at);
    fine(run(at, "home charter new --draft draft.toml --out founding.charter"));
    fine(sign(at, "founding.charter", "home", "signed.charter", ""));
    fine(run(at, &format!("home charter verify signed.charter --add {CHAIN}")));
    folder
}

/// Runs the key generation of one quorum under the founding charter; gives what each official keeps.
pub fn generate(at: &Path, kind: QuorumKind) -> Vec<Certified> {
    let founding = SignedCharter::decode(&std::fs::read(at.join("charters/0001.charter")).unwrap()).unwrap();
    let charter = founding.unverified();
    let rule = match kind {
        QuorumKind::Unseal => &charter.parts().unseal,
        QuorumKind::Recovery => &charter.parts().recovery,
    };
    let keys = charter.static_keys(rule).unwrap();
    let terms = Terms::new(charter.id(), kind, Generation::FIRST, rule.threshold, keys).unwrap();
    let mut rng = rng("key generation");
    let members = rule.members.iter().map(|name| Member::new(terms.clone(), secret(&format!("{name} dkg"))).unwrap());
    let (mut phases, messages): (Vec<_>, Vec<_>) =
        members.map(|member| Gathering::start(member, Attempt::FIRST, &mut rng).unwrap()).unzip();
    for phase in &mut phases {
        for from in phase.missing() {
            phase.accept(&messages[from.index()]).unwrap();
        }
    }
    let (mut phases, messages): (Vec<_>, Vec<_>) =
        phases.into_iter().map(|phase| phase.complete(&mut rng).unwrap()).unzip();
    for phase in &mut phases {
        for from in phase.missing() {
            phase.accept(&messages[from.index()]).unwrap();
        }
    }
    let (mut phases, messages): (Vec<_>, Vec<_>) = phases.into_iter().map(|phase| phase.complete().unwrap()).unzip();
    for phase in &mut phases {
        for from in phase.missing() {
            phase.accept(&messages[from.index()]).unwrap();
        }
    }
    phases.into_iter().map(|phase| phase.complete().unwrap()).collect()
}

/// Writes the certificates of both key generations and the keys of the embassy's TPM.
pub fn made(at: &Path) {
    for (kind, file) in [(QuorumKind::Unseal, "unseal.dkg"), (QuorumKind::Recovery, "recovery.dkg")] {
        std::fs::write(at.join(file), generate(at, kind)[0].recovery.certificate().encode()).unwrap();
    }
    let machine = CharterMachine {
        embassy: EmbassyName::new("luxembourg").unwrap(),
        counter_first: 1,
        storage_root: point("storage root"),
        attestation_key: point("attestation"),
        custody_key: point("custody"),
        identity_key: point("embassy identity"),
    };
    std::fs::write(at.join("luxembourg.machine"), machine.encode()).unwrap();
}

/// The network with custody: its completed charter is in force.
pub fn completed() -> TempDir {
    completed_with(|_| ())
}

/// The same, where something was changed before.
pub fn completed_with(change: impl FnOnce(&Path)) -> TempDir {
    let folder = founded_with(change);
    let at = folder.path();
    made(at);
    fine(run(
        at,
        &format!(
            "home charter complete {CHAIN} --unseal unseal.dkg --recovery recovery.dkg --machine luxembourg.machine --out \
             completed.charter"
        ),
    ));
    fine(sign(at, "completed.charter", "home", "by-home.charter", "--charters charters"));
    let certificates = "--charters charters --certificate unseal.dkg --certificate recovery.dkg";
    for name in ["anna", "clara"] {
        fine(sign(at, "completed.charter", &format!("official:{name}"), &format!("by-{name}.charter"), certificates));
    }
    fine(run(
        at,
        &format!("home charter join by-home.charter by-anna.charter by-clara.charter {CHAIN} --out second.charter"),
    ));
    fine(run(at, &format!("home charter verify second.charter --add {CHAIN}")));
    folder
}

/// A record as its owner makes one, of a seed that the test knows.
pub fn known_record(at: &Path, version: u32, seed: u8, signer: &str, to: &str) -> DatasetKey {
    let signed = SignedCharter::decode(&std::fs::read(at.join("charters/0002.charter")).unwrap()).unwrap();
    let facts = signed.unverified().facts(&EmbassyName::new("luxembourg").unwrap()).unwrap();
    let seed = DatasetSeed::new(Secret::from_slice(&[seed; 32]).unwrap());
    let (owner, dataset) = (OwnerName::new("land-board").unwrap(), DatasetName::new("land-register").unwrap());
    let version = DatasetVersion::new(version).unwrap();
    let unsigned = UnsignedVersion::create(&seed, owner, dataset, version, facts.sealing_keys()).unwrap();
    let record = unsigned.sign(&SigningKey::from(*secret(signer).expose())).unwrap();
    std::fs::write(at.join(to), record.encode()).unwrap();
    seed.key()
}

/// Enrols the embassy, and gives somebody a directory with keys, certificates and charters.
pub fn enrol(at: &Path, role: &str, name: &str) {
    if !at.join("luxembourg.crt").exists() {
        fine(run(
            at,
            "home enrol luxembourg --charters charters --key init.key --dir home --out luxembourg.crt --passphrase-fd 0",
        ));
    }
    let said = fine(run(at, &format!("keys {role} {name} --dir {name} --passphrase-fd 0")));
    assert!(said.contains("connection.pub"), "{said}");
    fine(run(
        at,
        &format!(
            "home issue {role} {name} --from {name}/connection.pub --key init.key --dir home --out {name}/connection.crt \
             --passphrase-fd 0"
        ),
    ));
    for file in ["home.crt", "home.crl"] {
        std::fs::copy(at.join("home").join(file), at.join(name).join(file)).unwrap();
    }
    std::os::unix::fs::symlink("../charters", at.join(name).join("charters")).unwrap();
}
