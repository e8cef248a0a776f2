//! Datasets at the command line: made by their owner, believed by nobody without the owner's signature, sealed to and opened.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "the network's helpers serve other tests too"
)]

mod cli {
    pub mod embassy;
    pub mod network;
}

use std::{
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
};

use chancery::{
    client::unwrap::{FileKeyText, UnwrapRequest, Unwrapped, UnwrappedKey},
    keys::{
        disk,
        file::{KeyKind, PrivateKey},
    },
    protocol::{
        dataset::{DatasetKey, DatasetSeed, Recipient, StanzaError},
        dataset_version::DatasetVersionRecord,
        secret::Secret,
        wire::Document,
    },
};
use cli::{
    embassy::{self, Answer, Embassy},
    network::{
        CHAIN, PASSPHRASE, Ran, completed, completed_with, enrol, fine, founded, known_record, refused, run, run_bytes,
        run_in, secret, store_key,
    },
};
use tempfile::TempDir;

const RECORD: &str = "land.1.bin";

fn create(at: &Path, more: &str, to: &str) -> Ran {
    run(at, &format!("dataset create land-register {CHAIN} --key owner.key --passphrase-fd 0 --out {to} {more}"))
}

fn record(at: &Path, file: &str) -> DatasetVersionRecord {
    DatasetVersionRecord::decode(&std::fs::read(at.join(file)).unwrap()).unwrap()
}

#[test]
fn an_owner_makes_versions_that_only_increase() {
    let folder = completed();
    let at = folder.path();
    let said = fine(run(at, &format!("dataset list {CHAIN}")));
    assert_eq!(said, "land-register  of land-board  no version seen here\n");
    let said = fine(create(at, "", RECORD));
    assert!(said.contains("version 1, generation 1") && said.contains("The seed was wiped"), "{said}");
    assert!(said.contains("slot for embassy luxembourg") && said.contains("slot for the recovery quorum"), "{said}");
    assert_eq!(record(at, RECORD).unverified().version.get(), 1);
    let said = fine(run(at, &format!("dataset show {RECORD} {CHAIN}")));
    assert!(said.contains("Verified: the owner's signature, every slot's proof"), "{said}");

    // The next one is the next; a lower one is not made, a higher one is.
    fine(create(at, "", "land.2.bin"));
    refused(create(at, "--version 2", "x.bin"), &["version 2 of land-register is not above version 2"]);
    fine(create(at, "--version 7", "land.7.bin"));
    fine(create(at, "", "land.8.bin"));
    let versions = ["land.2.bin", "land.7.bin", "land.8.bin"].map(|file| record(at, file).unverified().version.get());
    assert_eq!(versions, [2, 7, 8]);
    let recipients: std::collections::BTreeSet<String> = [RECORD, "land.2.bin", "land.7.bin", "land.8.bin"]
        .map(|file| record(at, file).unverified().recipient.to_string())
        .into();
    assert_eq!(recipients.len(), 4, "each version has a seed of its own");
    let said = fine(run(at, &format!("dataset list {CHAIN}")));
    assert!(said.contains("version 8 seen"), "{said}");
    // Neither a file that is there nor a key that is not the owner's.
    refused(create(at, "", RECORD), &[RECORD, "Choose another name"]);
    refused(
        run(at, &format!("dataset create land-register {CHAIN} --key init.key --passphrase-fd 0 --out x.bin")),
        &["a home authority's key", "a data owner's key is needed"],
    );
    store_key(&at.join("other.key"), KeyKind::DataOwner, "land-board", &PrivateKey::Scalar(secret("mallory")));
    refused(
        run(at, &format!("dataset create land-register {CHAIN} --key other.key --passphrase-fd 0 --out x.bin")),
        &["not the key of the data owner land-board"],
    );
    refused(
        run(at, &format!("dataset create tax-register {CHAIN} --key owner.key --passphrase-fd 0 --out x.bin")),
        &["has no dataset tax-register"],
    );
    assert!(!at.join("x.bin").exists());
    let left: Vec<_> = std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");
}

#[test]
fn an_owner_whose_key_was_born_on_a_token_signs_there() {
    let token = hsm_sim::Token::temporary("owner-card").unwrap();
    let environment = [("SOFTHSM2_CONF", token.configuration())];
    let place = format!("--module {} --token owner-card --token-key owner", token.module().display());
    let on_token = |at: &Path, arguments: &str, input: &str| {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let (code, out, err) = run_in(at, &arguments, input.as_bytes(), &environment);
        Ran { code, out: String::from_utf8(out).unwrap(), err }
    };
    let folder = completed_with(|at| {
        // The passphrase comes from the first descriptor and the PIN from the second; both are files here.
        std::fs::write(at.join("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
        let script = format!(
            "exec \"$0\" keys data-owner land-board --dir owner {place} --passphrase-fd 7 --pin-fd 0 7<passphrase"
        );
        let mut child = std::process::Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_chancery")])
            .current_dir(at)
            .envs(environment)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(token.pin().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(!at.join("owner/owner.key").exists(), "the key is on the token");
        std::fs::copy(at.join("owner/owner.pub"), at.join("land-board.pub")).unwrap();
    });
    let at = folder.path();
    let signed_there = format!("dataset create land-register {CHAIN} {place} --pin-fd 0 --out {RECORD}");
    refused(on_token(at, &signed_there, "0000\n"), &["the PIN is wrong"]);
    assert!(!at.join(RECORD).exists());
    fine(on_token(at, &signed_there, token.pin()));
    fine(run(at, &format!("dataset show {RECORD} {CHAIN}")));
    // The key that stands in a file is not the owner's any more.
    refused(create(at, "", "x.bin"), &["not the key of the data owner land-board"]);
}

#[test]
fn there_are_no_datasets_before_custody() {
    let folder = founded();
    let at = folder.path();
    refused(create(at, "", RECORD), &["names no quorum's and no embassy's keys yet", "complete the charter first"]);
}

#[test]
fn recipients_are_printed_once_the_owner_is_believed_and_never_of_a_lower_version() {
    let folder = completed();
    let at = folder.path();
    known_record(at, 1, 1, "land-board", "one.bin");
    let key = known_record(at, 2, 2, "land-board", "two.bin");
    known_record(at, 2, 3, "land-board", "twice.bin");
    known_record(at, 3, 4, "mallory", "forged.bin");
    let recipients = |files: &str| run(at, &format!("dataset recipients {files} {CHAIN}"));
    let said = fine(recipients("two.bin"));
    assert_eq!(said, format!("# land-register, version 2\n{}\n", key.recipient()));
    // What stock age reads.
    assert!(said.lines().nth(1).unwrap().parse::<age::tagpq::Recipient>().is_ok());
    refused(recipients("one.bin"), &["version 1 was offered, and version 2 was seen before", "Encrypt nothing"]);
    refused(recipients("twice.bin"), &["seen before with another recipient"]);
    refused(recipients("forged.bin"), &["forged.bin is refused", "not signed by data owner land-board"]);
    // All or none.
    let ran = recipients("two.bin forged.bin");
    assert_eq!(ran.out, "");
    refused(ran, &["forged.bin"]);
    let mut altered = std::fs::read(at.join("two.bin")).unwrap();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    std::fs::write(at.join("altered.bin"), altered).unwrap();
    refused(recipients("altered.bin"), &["altered.bin"]);
}

fn decrypt(file: &[u8], key: &DatasetKey) -> Vec<u8> {
    let mut plain = Vec::new();
    let decryptor = age::Decryptor::new(file).unwrap();
    decryptor.decrypt(std::iter::once(key as &dyn age::Identity)).unwrap().read_to_end(&mut plain).unwrap();
    plain
}

fn encrypt(recipients: &[&Recipient], plain: &[u8]) -> Vec<u8> {
    let recipients: Vec<age::tagpq::Recipient> = recipients.iter().map(|r| r.to_string().parse().unwrap()).collect();
    let encryptor = age::Encryptor::with_recipients(recipients.iter().map(|r| r as &dyn age::Recipient)).unwrap();
    let mut file = Vec::new();
    let mut writer = encryptor.wrap_output(&mut file).unwrap();
    writer.write_all(plain).unwrap();
    writer.finish().unwrap();
    file
}

fn register(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn what_is_sealed_stock_age_opens_with_the_datasets_key() {
    let folder = completed();
    let at = folder.path();
    known_record(at, 1, 1, "land-board", "one.bin");
    let key = known_record(at, 2, 2, "land-board", "two.bin");
    let seal = |more: &str, input: &[u8]| {
        let arguments: Vec<&str> = more.split_whitespace().collect();
        run_bytes(at, &[&["seal"], arguments.as_slice()].concat(), input)
    };
    let by_dataset = format!("--dataset land-register --record two.bin {CHAIN}");
    for length in [0, 1, 65_535, 65_536, 65_537, 200_000] {
        let (code, file, err) = seal(&by_dataset, &register(length));
        assert_eq!((code, err.as_str()), (0, ""), "{length}");
        assert_eq!(decrypt(&file, &key), register(length));
    }
    // From a file to a file that only its owner reads.
    std::fs::write(at.join("plain"), register(1000)).unwrap();
    let (code, out, err) = seal(&format!("plain --out sealed.age {by_dataset}"), b"");
    assert_eq!((code, out.as_slice(), err.as_str()), (0, &b""[..], ""));
    assert_eq!(decrypt(&std::fs::read(at.join("sealed.age")).unwrap(), &key), register(1000));
    assert_eq!(std::fs::metadata(at.join("sealed.age")).unwrap().permissions().mode() & 0o777, 0o600);
    // By recipients that were verified elsewhere: no network is needed.
    let other = DatasetSeed::new(Secret::from_slice(&[9; 32]).unwrap()).key();
    let (code, file, _) =
        seal(&format!("--recipient {} --recipient {}", key.recipient(), other.recipient()), b"for both");
    assert_eq!(code, 0);
    assert_eq!((decrypt(&file, &key), decrypt(&file, &other)), (b"for both".to_vec(), b"for both".to_vec()));

    let fails = |more: &str, words: &[&str]| {
        let (code, out, err) = seal(more, b"secret");
        assert_eq!(out, b"", "nothing is written: {more}");
        refused(Ran { code, out: String::new(), err }, words);
    };
    fails(&format!("--dataset land-register --record one.bin {CHAIN}"), &["version 2 was seen before"]);
    fails(&format!("--dataset tax-register --record two.bin {CHAIN}"), &["a record of land-register"]);
    fails(&format!("--out sealed.age {by_dataset}"), &["sealed.age", "Choose another name"]);
    fails(&format!("nowhere {by_dataset}"), &["nowhere cannot be read"]);
    known_record(at, 3, 4, "mallory", "forged.bin");
    fails(&format!("--dataset land-register --record forged.bin {CHAIN}"), &["not signed by data owner land-board"]);
    let (code, _, err) = seal("--recipient age1tagpq1nothing", b"");
    assert!(code == 2 && err.contains("2015 characters"), "{err}");
}

/// The network with an agent's directory, and an embassy that holds a dataset's key.
struct Leased {
    folder: TempDir,
    embassy: Embassy,
    key: Arc<DatasetKey>,
}

const LEASE: &str = "5b0c5b0c5b0c5b0c5b0c5b0c5b0c5b0c5b0c5b0c5b0c5b0c5b0c5b0c5b0c5b0c";

fn unwraps(key: &DatasetKey, body: &str) -> (u16, String) {
    let request: UnwrapRequest = serde_json::from_str(body).unwrap();
    let keys = request.stanzas.iter().map(|stanza| match key.unwrap(&stanza.read().unwrap().unwrap()) {
        Ok(key) => UnwrappedKey { file_key: key.map(FileKeyText), refused: None },
        Err(error @ StanzaError::DoesNotOpen) => UnwrappedKey { file_key: None, refused: Some(error.to_string()) },
        Err(error) => panic!("{error}"),
    });
    (200, serde_json::to_string(&Unwrapped { keys: keys.collect() }).unwrap())
}

fn leased(answer: impl Fn(Arc<DatasetKey>) -> Answer) -> Leased {
    let folder = completed();
    let at = folder.path();
    enrol(at, "agent", "replicator");
    let key = Arc::new(known_record(at, 1, 1, "land-board", "one.bin"));
    let embassy = embassy::start(&at.join("luxembourg.crt"), answer(Arc::clone(&key)));
    Leased { folder, embassy, key }
}

impl Leased {
    fn open(&self, input: &str, more: &str) -> (i32, Vec<u8>, String) {
        let arguments = format!(
            "open {input} --dir replicator --embassy luxembourg --server {} --lease {LEASE} --dataset land-register \
             --connection-fd 0 {more}",
            self.embassy.url
        );
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        run_bytes(self.folder.path(), &arguments, format!("{PASSPHRASE}\n").as_bytes())
    }

    fn fails(&self, input: &str, words: &[&str]) {
        let (code, _, err) = self.open(input, "--out opened");
        refused(Ran { code, out: String::new(), err }, words);
        let left: Vec<String> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        assert!(!left.iter().any(|name| name == "opened" || name.ends_with(".part")), "{left:?}");
    }
}

#[test]
fn what_stock_age_sealed_opens_under_a_lease_as_a_whole_or_not_at_all() {
    let leased = leased(|key| Box::new(move |_, body| unwraps(&key, body)));
    let at = leased.folder.path();
    let recipient = leased.key.recipient();
    for length in [0, 1, 65_536, 65_537, 200_000] {
        std::fs::write(at.join("sealed.age"), encrypt(&[&recipient], &register(length))).unwrap();
        let (code, out, err) = leased.open("sealed.age", "");
        assert_eq!((code, err.as_str()), (0, ""), "{length}");
        assert_eq!(out, register(length));
    }
    let (path, body) = leased.embassy.asked.lock().unwrap().last().unwrap().clone();
    assert_eq!(path, format!("/v1/leases/{LEASE}/unwrap"));
    assert!(body.contains("\"dataset\":\"land-register\"") && body.contains("mlkem768p256tag"), "{body}");
    // To a file, armoured or not, and for other datasets too.
    let other = DatasetSeed::new(Secret::from_slice(&[9; 32]).unwrap()).key().recipient();
    let file = encrypt(&[&other, &recipient], &register(70_000));
    std::fs::write(at.join("sealed.age"), &file).unwrap();
    let (code, out, err) = leased.open("sealed.age", "--out plain");
    assert_eq!((code, out.as_slice(), err.as_str()), (0, &b""[..], ""));
    assert_eq!(std::fs::read(at.join("plain")).unwrap(), register(70_000));
    assert_eq!(std::fs::metadata(at.join("plain")).unwrap().permissions().mode() & 0o777, 0o600);
    let mut armoured = Vec::new();
    let mut writer = age::armor::ArmoredWriter::wrap_output(&mut armoured, age::armor::Format::AsciiArmor).unwrap();
    writer.write_all(&file).unwrap();
    writer.finish().unwrap();
    std::fs::write(at.join("armoured.age"), armoured).unwrap();
    let (code, out, _) = leased.open("armoured.age", "");
    assert_eq!((code, out), (0, register(70_000)));
    // What chancery seals, chancery opens.
    fine(run(at, "seal plain --dataset land-register --record one.bin --dir replicator --out ours.age"));
    let (code, out, _) = leased.open("ours.age", "");
    assert_eq!((code, out), (0, register(70_000)));

    // Every way in which a file is not what was sealed.
    let put = |bytes: &[u8]| std::fs::write(at.join("bad.age"), bytes).unwrap();
    let end = file.len();
    let asked = || leased.embassy.asked.lock().unwrap().len();
    put(&file[..end - 1]);
    leased.fails("bad.age", &["bad.age was altered or is cut off"]);
    put(&file[..end - 5000]);
    leased.fails("bad.age", &["bad.age was altered or is cut off"]);
    // The second chunk's bytes: the first is authentic, and no file is left all the same.
    let mut changed = file.clone();
    changed[end - 10] ^= 1;
    put(&changed);
    leased.fails("bad.age", &["was altered or is cut off", "No file was left behind"]);
    let (code, out, _) = leased.open("bad.age", "");
    assert!(code == 1 && register(70_000).starts_with(&out) && out.len() == 65_536, "{} bytes", out.len());
    let mut changed = file.clone();
    changed[end - 70_000] ^= 1;
    put(&changed);
    let (code, out, _) = leased.open("bad.age", "");
    assert_eq!((code, out.len()), (1, 0), "no byte of a chunk that is not authentic");
    leased.fails("bad.age", &["was altered"]);
    // Its header: altered, of another kind, without an end.
    let before = asked();
    let mac = file.windows(4).position(|bytes| bytes == b"--- ").unwrap() + 4;
    let mut changed = file.clone();
    changed[mac] = if changed[mac] == b'A' { b'B' } else { b'A' };
    put(&changed);
    leased.fails("bad.age", &["header was altered"]);
    assert!(asked() > before);
    let before = asked();
    put(b"not an age file at all\n");
    leased.fails("bad.age", &["not a file in the age format"]);
    put(&[b"age-encryption.org/v1\n".as_slice(), &b"-> X25519 aaaa\n".repeat(60_000)].concat());
    leased.fails("bad.age", &["its header has no end"]);
    put(&[b"age-encryption.org/v1\n-> X25519 ".as_slice(), &b"a".repeat(100_000)].concat());
    leased.fails("bad.age", &["its header has no end"]);
    put(&[b"-----BEGIN AGE ENCRYPTED FILE-----\n".as_slice(), &b"a".repeat(100_000)].concat());
    leased.fails("bad.age", &["a line without an end"]);
    assert_eq!(asked(), before, "the embassy is not asked about what is no age file");
    put(&encrypt(&[&other], b"for others"));
    leased.fails("bad.age", &["not encrypted to land-register"]);
    let many: Vec<&Recipient> = std::iter::repeat_n(&other, 17).collect();
    put(&encrypt(&many, b"for many others"));
    leased.fails("bad.age", &["more than 16 datasets"]);
}

#[test]
fn an_embassy_that_refuses_or_lies_opens_nothing() {
    let leased = leased(|key| {
        Box::new(move |_, body| {
            let refusal = |code: &str, status: u16| {
                let text = serde_json::json!({
                    "type": format!("urn:chancery:problem:{code}"), "code": code, "title": "the lease has ended",
                    "detail": "the lease has ended: anna stopped it", "who_can_act": "officials",
                    "what_next": "ask for another unseal", "status": status,
                });
                (status, text.to_string())
            };
            // Which way it fails is said by how many stanzas' bytes there are: each test file is of another length.
            let request: UnwrapRequest = serde_json::from_str(body).unwrap();
            let stanza = request.stanzas[0].read().unwrap().unwrap();
            match key.unwrap(&stanza) {
                Ok(Some(_)) => refusal("lease-ended", 409),
                // Another dataset's stanza: a liar gives a key all the same.
                _ => {
                    let wrong = chancery::protocol::dataset::FileKey::new(Secret::from_slice(&[7; 16]).unwrap());
                    let keys = vec![UnwrappedKey { file_key: Some(FileKeyText(wrong)), refused: None }];
                    (200, serde_json::to_string(&Unwrapped { keys }).unwrap())
                }
            }
        })
    });
    let at = leased.folder.path();
    std::fs::write(at.join("sealed.age"), encrypt(&[&leased.key.recipient()], b"register")).unwrap();
    leased.fails("sealed.age", &["luxembourg refused", "anna stopped it", "ask for another unseal"]);
    let other = DatasetSeed::new(Secret::from_slice(&[9; 32]).unwrap()).key().recipient();
    std::fs::write(at.join("lied.age"), encrypt(&[&other], b"register")).unwrap();
    leased.fails("lied.age", &["does not open with its key"]);

    // Somebody else's machine: home certified another key for luxembourg than the charter names.
    let stranger =
        embassy::start_as(&at.join("luxembourg.crt"), "another identity", Box::new(|_, _| (200, String::new())));
    let arguments = format!(
        "open sealed.age --dir replicator --embassy luxembourg --server {} --lease {LEASE} --dataset land-register \
         --connection-fd 0",
        stranger.url
    );
    refused(run(at, &arguments), &["is not taken for the embassy luxembourg", "Nothing was sent"]);
    assert!(stranger.asked.lock().unwrap().is_empty());
    // No embassy of the charter, and no list of revoked certificates.
    refused(run(at, &arguments.replace("--embassy luxembourg", "--embassy atlantis")), &["has no embassy atlantis"]);
    std::fs::remove_file(at.join("replicator/home.crl")).unwrap();
    refused(run(at, &arguments), &["home.crl", "Ask home"]);
}

#[test]
fn every_role_gets_the_keys_of_its_own_use() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (role, files) in [
        ("agent", &["connection.key", "connection.pub", "hybrid.key"][..]),
        ("auditor", &["connection.key", "connection.pub"]),
        ("data-owner", &["connection.key", "connection.pub", "hybrid.key", "owner.key", "owner.pub"]),
        ("witness", &["connection.key", "connection.pub", "witness.key", "witness.pub"]),
    ] {
        let said = fine(run(at, &format!("keys {role} somebody --dir {role} --passphrase-fd 0")));
        let mut found: Vec<String> = std::fs::read_dir(at.join(role))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        found.sort();
        assert_eq!(found, files, "{role}");
        assert_eq!(said.contains("for the charter"), files.len() > 3 || role == "witness", "{said}");
        for key in files.iter().filter(|file| file.ends_with(".key")) {
            let kind = disk::load(&at.join(role).join(key)).unwrap().kind();
            let expected = match *key {
                "connection.key" => KeyKind::Connection,
                "hybrid.key" => KeyKind::Hybrid,
                "owner.key" => KeyKind::DataOwner,
                _ => KeyKind::Identity,
            };
            assert_eq!(kind, expected, "{role} {key}");
        }
        refused(
            run(at, &format!("keys {role} somebody --dir {role} --passphrase-fd 0")),
            &["may hold the only copy of a key"],
        );
    }
}
