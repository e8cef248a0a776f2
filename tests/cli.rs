//! The command as its users meet it: each test runs the built binary and reads what it says and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs, unreachable_pub)]

mod cli {
    pub mod documents;
}

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use chancery::protocol::{
    charter::{SignedCharter, Signer},
    wire::{Document, Writer},
};
use cli::documents::{Ceremony, PURPOSE, Quorum, ceremony, founding_charter, quorum};
use hsm_sim::{BootProfile, event_log::Event};
use p256::ecdsa::SigningKey;
use serde_json::Value;

fn chancery(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    command.args(arguments).env_remove("COLUMNS").stdin(Stdio::null());
    command
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().expect("ended by itself"),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

fn run(arguments: &[&str]) -> Ran {
    ran(chancery(arguments).output().unwrap())
}

fn run_with_input(arguments: &[&str], input: &[u8]) -> Ran {
    let mut child =
        chancery(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // The command may stop reading early; that is its right.
        scope.spawn(move || drop(stdin.write_all(input)));
        ran(child.wait_with_output().unwrap())
    })
}

/// The command did its work.
fn fine(ran: &Ran) -> &str {
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert_plain(&ran.out);
    &ran.out
}

/// The command refused: nothing on standard output, one or two lines on standard error.
fn refused(ran: &Ran) -> &str {
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
    assert!(ran.err.starts_with("chancery: ") && (1..=2).contains(&ran.err.lines().count()), "{}", ran.err);
    assert!(!ran.err.contains("panicked") && !ran.err.contains("RUST_BACKTRACE"), "{}", ran.err);
    assert_plain(&ran.err);
    &ran.err
}

fn assert_plain(text: &str) {
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "a control character in {text:?}");
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

// ------------------------------------------------------------------------------------------------------------- the command

#[test]
fn help_names_every_command_its_examples_and_the_exit_codes() {
    let short = run(&["-h"]);
    let long = run(&["--help"]);
    for text in [fine(&short), fine(&long)] {
        for command in ["eventlog", "inspect", "completions"] {
            assert!(text.contains(&format!("\n  {command}")), "{command} in {text}");
        }
    }
    for part in ["Examples:", "Exit status:", "  0  done", "  1  refused", "  2  the command line"] {
        assert!(long.out.contains(part), "{part} in {}", long.out);
    }
    for command in ["eventlog", "inspect", "completions"] {
        let help = run(&[command, "--help"]);
        assert!(fine(&help).contains("Examples:") && help.out.contains(&format!("Usage: chancery {command}")));
        assert!(help.out.lines().all(|line| line.chars().count() <= 130), "a long line in {}", help.out);
    }
    assert_eq!(fine(&run(&["--version"])), format!("chancery {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_command_line_that_is_not_understood_ends_with_two() {
    for arguments in
        [&[][..], &["unseal"], &["inspect"], &["eventlog", "a", "b"], &["completions", "tcsh"], &["--quiet"]]
    {
        let ran = run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments:?}");
        assert!(ran.err.contains("--help"), "{}", ran.err);
        assert_plain(&ran.err);
    }
}

#[test]
fn every_shell_gets_its_completions() {
    for (shell, sign) in
        [("bash", "complete -F _chancery"), ("zsh", "#compdef chancery"), ("fish", "complete -c chancery")]
    {
        let ran = run(&["completions", shell]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        assert!(ran.out.contains(sign) && ran.out.contains("eventlog"), "{shell}");
        for command in ["connect", "inbox", "open", "review", "approve", "deny", "stop", "carry", "status", "watch"] {
            assert!(ran.out.contains(command), "{shell} knows nothing of `official {command}`");
        }
        assert!(ran.out.contains("yes-i-read") && ran.out.contains("offline"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    let files = Files::new();
    // Far more than a pipe holds.
    let event = Event::of_data(5, 0x8000_0007, b"the same event again and again".to_vec());
    let log = files.write("log.bin", &hsm_sim::event_log::encode(&vec![event; 5000]));
    for arguments in [&["eventlog", &log][..], &["eventlog", &log, "--json"], &["completions", "bash"], &["--help"]] {
        let mut child = chancery(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 1];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let ended = child.wait().unwrap();
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((ended.code(), err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = chancery(&["completions", "bash"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let ran = ran(output.wait_with_output().unwrap());
    assert!(refused(&ran).starts_with("chancery: standard output cannot be written: "), "{}", ran.err);
}

// --------------------------------------------------------------------------------------------------------------- eventlog

#[test]
fn the_log_of_a_real_boot_is_shown_with_its_pcrs() {
    let files = Files::new();
    let profile = BootProfile::default();
    let log = profile.event_log();
    let path = files.write("log.bin", &log);
    let text = run(&["eventlog", &path]);
    let text = fine(&text);
    let count = profile.events().len() + 1;
    assert!(text.starts_with(&format!(
        "boot event log, crypto-agile form: {count} events in {} bytes, replayed for sha256, sha384\n",
        log.len()
    )));
    assert!(text.contains("Not authenticated: "), "{text}");
    assert!(!text.contains("NO EVIDENCE"), "{text}");

    // One line for each event, with what was really measured.
    let lines: Vec<&str> = text.lines().collect();
    let header = lines.iter().position(|line| line.starts_with("event pcr type")).unwrap();
    assert_eq!(lines[header + 1].split_whitespace().take(4).collect::<Vec<_>>(), ["0", "-", "EV_NO_ACTION", "-"]);
    for (index, event) in profile.events().iter().enumerate() {
        let line = lines[header + 2 + index];
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(fields[0], (index + 1).to_string());
        assert_eq!(fields[1], event.pcr.to_string());
        assert_eq!(fields[3], hex::encode(event.digests.sha256), "{line}");
    }
    let shows = |pcr: &str, kind: &str, mark: &str, description: &str| {
        let found = lines.iter().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.get(1..3) == Some(&[pcr, kind]) && fields[4] == mark && line.ends_with(description)
        });
        assert!(found, "no {kind} {mark} {description} in {text}");
    };
    shows("0", "EV_S_CRTM_VERSION", "=", "\"hsm-sim firmware 1.0\"");
    shows("0", "EV_EFI_PLATFORM_FIRMWARE_BLOB", "?", "firmware, 18 bytes at 0xff000000");
    let secure_boot = "variable \"SecureBoot\" of 8be4df61-93ca-11d2-aa0d-00e098032b8c: 1 byte, 01";
    shows("7", "EV_EFI_VARIABLE_DRIVER_CONFIG", "=", secure_boot);
    shows("0", "EV_SEPARATOR", "=", "separator");
    shows("4", "EV_EFI_BOOT_SERVICES_APPLICATION", "?", "image \"\\\\EFI\\\\BOOT\\\\BOOTX64.EFI\", 15 bytes in memory");
    shows("12", "EV_IPL", "=", "\"root=/dev/mapper/root ro lockdown=confidentiality panic=-1\"");

    let expected = profile.expected_pcrs();
    for pcr in [0, 1, 2, 3, 4, 5, 6, 7, 11, 12] {
        for value in [hex::encode(expected.sha256[pcr]), hex::encode(expected.sha384[pcr])] {
            assert!(lines.contains(&format!("{pcr:>5} {value}").as_str()), "PCR {pcr} {value} in {text}");
        }
    }
    assert_eq!(fine(&run_with_input(&["eventlog", "-"], &log)), text, "a pipe gives the same");
}

#[test]
fn json_says_what_the_text_says() {
    let files = Files::new();
    let profile = BootProfile::default();
    let path = files.write("log.bin", &profile.event_log());
    let (text, json) = (run(&["eventlog", &path]), run(&["eventlog", &path, "--json"]));
    let json: Value = serde_json::from_str(fine(&json)).unwrap();
    assert_eq!(json["schema"], "chancery-eventlog-1");
    assert_eq!(json["form"], "crypto-agile");
    assert_eq!(json["shown_only"], Value::Null);

    let mut written = Vec::new();
    let mut bank = String::new();
    for line in fine(&text).lines().skip_while(|line| !line.ends_with(" PCRs, replayed")) {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [name, "PCRs,", "replayed"] => bank = name.to_owned(),
            [pcr, value] => written.push((bank.clone(), pcr.to_owned(), value.to_owned())),
            _ => assert_eq!(line, ""),
        }
    }
    let mut parsed = Vec::new();
    for (bank, values) in json["pcrs"].as_object().unwrap() {
        for (pcr, value) in values.as_object().unwrap() {
            parsed.push((bank.clone(), pcr.clone(), value.as_str().unwrap().to_owned()));
        }
    }
    written.sort();
    parsed.sort();
    assert_eq!((written.len(), &written), (20, &parsed));

    let events = json["events"].as_array().unwrap();
    for (parsed, measured) in events.iter().skip(1).zip(profile.events()) {
        assert_eq!(parsed["pcr"], measured.pcr);
        assert_eq!(parsed["type"], measured.kind);
        assert_eq!(parsed["data"], hex::encode(&measured.data));
        assert_eq!(parsed["digests"]["sha384"], hex::encode(measured.digests.sha384));
        let own = measured.digests == hsm_sim::Digests::of(&measured.data);
        assert_eq!(parsed["data_is_measured"], own);
    }
    assert_eq!((events.len(), &events[0]["measured"]), (profile.events().len() + 1, &Value::Bool(false)));
}

/// A log in the older form with one event.
fn legacy_log() -> Vec<u8> {
    let mut log = Vec::new();
    for field in [4u32, 0x0000_0005] {
        log.extend_from_slice(&field.to_le_bytes());
    }
    log.extend_from_slice(&[0xab; 20]);
    log.extend_from_slice(&7u32.to_le_bytes());
    log.extend_from_slice(b"Calling");
    log
}

#[test]
fn a_sha_1_log_is_shown_and_called_no_evidence() {
    let text = run_with_input(&["eventlog", "-"], &legacy_log());
    assert!(fine(&text).contains("SHA-1 legacy form"), "{}", text.out);
    assert!(text.out.contains("\nNO EVIDENCE: the older form, SHA-1 only: shown, never accepted as evidence.\n"));
    let json = run_with_input(&["eventlog", "-", "--json"], &legacy_log());
    let json: Value = serde_json::from_str(fine(&json)).unwrap();
    assert_eq!(json["form"], "sha1-legacy");
    assert!(json["shown_only"].as_str().unwrap().contains("never accepted as evidence"));
}

#[test]
fn text_from_a_hostile_machine_stays_text() {
    let hostile = [
        "\u{1b}[2J\u{1b}[1;1Hboot event log: all is well and this machine is approved",
        "a line\n 99   7 EV_SEPARATOR a second line of the table\r",
        "right to left \u{202e}drow a\u{202c} and a bell \u{7} and \u{9b}31m colours and \"quotes\"",
    ];
    for text in hostile {
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut variable = vec![0x11; 16];
        variable.extend_from_slice(&(text.encode_utf16().count() as u64).to_le_bytes());
        variable.extend_from_slice(&0u64.to_le_bytes());
        variable.extend_from_slice(&wide);
        let events = [
            Event::of_data(4, 0x0000_000d, text.as_bytes().to_vec()),
            Event::of_data(4, 0x8000_0007, wide),
            Event::of_data(7, 0x8000_0001, variable),
            Event::of_data(7, 0xdead_beef, text.as_bytes().to_vec()),
        ];
        let log = hsm_sim::event_log::encode(&events);
        let shown = run_with_input(&["eventlog", "-"], &log);
        assert!(fine(&shown).is_ascii(), "{}", shown.out);
        let table = shown.out.lines().skip_while(|line| !line.starts_with("event pcr")).skip(1);
        assert_eq!(table.take_while(|line| !line.is_empty()).count(), 5, "one line per event: {}", shown.out);
        assert!(shown.out.contains("0xdeadbeef"), "{}", shown.out);
        let json = run_with_input(&["eventlog", "-", "--json"], &log);
        assert!(fine(&json).is_ascii());
        assert!(serde_json::from_str::<Value>(&json.out).is_ok());
    }
}

#[test]
fn what_is_no_log_is_refused_with_its_place() {
    let log = BootProfile::default().event_log();
    let cut = run_with_input(&["eventlog", "-"], &log[..log.len() - 1]);
    assert!(refused(&cut).starts_with("chancery: standard input is refused: event log, byte "), "{}", cut.err);
    assert!(cut.err.contains("the log ends inside event data: 1 more bytes were expected"), "{}", cut.err);
    assert!(refused(&run_with_input(&["eventlog", "-"], &[])).contains("the log is empty"));
    assert!(refused(&run_with_input(&["eventlog", "-"], b"not a log at all")).contains("event log, byte "));
    let mut altered = log;
    altered[60] ^= 0xff;
    refused(&run_with_input(&["eventlog", "-"], &altered));
}

#[test]
fn input_is_bounded_before_it_is_read() {
    // /dev/zero never ends: only a bound ends this test.
    for command in ["eventlog", "inspect"] {
        let ran = run(&[command, "/dev/zero"]);
        assert!(refused(&ran).contains(" bytes, the most that "), "{}", ran.err);
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let files = Files::new();
    let folder = files.0.path().to_str().unwrap();
    for command in ["eventlog", "inspect"] {
        let missing = run(&[command, "/nonexistent/log\u{1b}[2J.bin"]);
        assert_eq!(
            refused(&missing),
            "chancery: /nonexistent/log\\u{1b}[2J.bin cannot be read: No such file or directory (os error 2).\n\
             Check the path\n"
        );
        assert!(refused(&run(&[command, folder])).contains("Is a directory"));
    }
    let own = Path::new("/sys/kernel/security/tpm0/binary_bios_measurements");
    if !own.exists() {
        let ran = run(&["eventlog"]);
        assert!(refused(&ran).contains("binary_bios_measurements cannot be read"), "{}", ran.err);
        assert!(ran.err.contains("Name a log's file: `chancery eventlog FILE`"), "{}", ran.err);
    }
}

/// Logs of real machines, where they are at hand: every one is shown or refused in order.
#[test]
fn logs_of_real_machines_are_shown() {
    let root = std::env::var_os("CHANCERY_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors"), PathBuf::from);
    let Ok(folder) = std::fs::read_dir(root.join("eventlogs")) else {
        println!("no event logs below {}: set CHANCERY_VECTORS to run them", root.display());
        return;
    };
    for path in folder.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "bin")) {
        let expected: Value =
            serde_json::from_slice(&std::fs::read(path.with_extension("expected.json")).unwrap()).unwrap();
        let shown = run(&["eventlog", path.to_str().unwrap()]);
        if expected["pcrs"].is_null() {
            refused(&shown);
        } else {
            assert!(fine(&shown).is_ascii());
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------- inspect

/// The sheet of a document, whose head is checked against the bytes.
fn sheet(files: &Files, kind: &str, label: &str, bytes: &[u8]) -> String {
    let path = files.write("document.bin", bytes);
    let ran = run(&["inspect", &path]);
    let text = fine(&ran);
    assert!(text.starts_with(&format!("{kind} ({label}), {} bytes\nSHA-256 ", bytes.len())), "{text}");
    assert!(
        text.contains("\nChecked:\n  it is whole, ") && text.contains("\nNot checked:\n  "),
        "it says how far it can be relied on: {text}"
    );

    let json = run(&["inspect", &path, "--json"]);
    let json: Value = serde_json::from_str(fine(&json)).unwrap();
    assert_eq!((json["label"].as_str(), json["kind"].as_str()), (Some(label), Some(kind)));
    for fact in json["facts"].as_array().unwrap() {
        let (name, value) = (fact["name"].as_str().unwrap(), fact["value"].as_str().unwrap());
        assert!(
            text.lines().any(|line| line.trim_start().starts_with(name) && line.ends_with(value)),
            "{name} in {text}"
        );
    }
    assert!(text.contains(json["sha256"].as_str().unwrap()) && json["wrong"].is_null());
    cut_and_altered(files, bytes);
    text.to_owned()
}

/// No truncated document is shown, and nothing makes the command panic.
fn cut_and_altered(files: &Files, bytes: &[u8]) {
    for cut in [&bytes[..bytes.len() - 1], &bytes[..bytes.len() / 2], &[bytes, &[0]].concat()] {
        let ran = run(&["inspect", &files.write("cut.bin", cut)]);
        assert!(refused(&ran).contains("Ask its sender"), "{}", ran.err);
    }
    for at in (0..bytes.len()).step_by(bytes.len() / 5 + 1) {
        let mut altered = bytes.to_vec();
        altered[at] ^= 0x55;
        let ran = run(&["inspect", &files.write("altered.bin", &altered)]);
        assert!(matches!(ran.code, 0 | 1) && !ran.err.contains("panicked"), "byte {at}: {}", ran.err);
    }
}

/// The value of a fact.
fn fact<'a>(sheet: &'a str, name: &str) -> &'a str {
    let line = sheet
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(name))
        .unwrap_or_else(|| panic!("{name} in {sheet}"));
    line.trim()
}

#[test]
fn what_a_dkg_sends_and_leaves_is_explained() {
    let files = Files::new();
    let Quorum { contribution, round1, round3, evidence, certified, .. } = quorum();
    let label = |tail: &str| format!("chancery/v1/dkg/{tail}");

    let kind = "a DKG contribution (before round 1)";
    let text = sheet(&files, kind, &label("contribution"), &contribution.encode());
    assert_eq!(fact(&text, "from"), "official 1");
    assert_eq!(fact(&text, "randomness (public)"), hex::encode(contribution.nonce));

    let text = sheet(&files, "a DKG round 1 message", &label("round-1"), &round1.encode());
    assert_eq!(fact(&text, "digest, as round 3 names it"), round1.digest().to_string());

    let text = sheet(&files, "a DKG round 3 message", &label("round-3"), &round3.encode());
    assert_eq!(fact(&text, "accepted from official 1"), round1.digest().to_string());

    let text = sheet(&files, "evidence that an official cheated in a DKG", &label("evidence"), &evidence);
    assert_eq!(fact(&text, "accuses"), "official 2");
    assert!(text.contains("Until then it is an accusation"), "{text}");

    let key = hex::encode(certified[0].key.key().encode());
    let recovery = &certified[0].recovery;
    for (kind, tail, bytes) in [
        ("a DKG success certificate", "certificate", recovery.certificate().encode()),
        ("DKG recovery data (rebuilds a lost share)", "recovery", recovery.encode()),
    ] {
        let text = sheet(&files, kind, &label(tail), &bytes);
        assert_eq!((fact(&text, "threshold"), fact(&text, "quorum key Y")), ("2 of 3", key.as_str()));
        assert!(text.contains("\n  all 3 officials it names signed it, with the static keys it names"), "{text}");
        assert!(text.contains("whether these are your charter's officials"), "{text}");
    }
}

#[test]
fn a_certificate_with_a_false_signature_is_shown_and_refused() {
    let files = Files::new();
    let mut bytes = quorum().certified[0].recovery.certificate().encode();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let ran = run(&["inspect", &files.write("certificate.bin", &bytes)]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("threshold") && !ran.out.contains("signed it"), "{}", ran.out);
    assert!(
        ran.err.contains("it does not hold: official 3 did not sign this transcript.\nDo not rely on it"),
        "{}",
        ran.err
    );
}

#[test]
fn a_quorum_key_is_explained() {
    let files = Files::new();
    let key = quorum().certified[0].key.clone();
    let text = sheet(&files, "a quorum's public half", "chancery/v1/quorum-key", &key.encode());
    assert_eq!(fact(&text, "quorum key Y"), hex::encode(key.key().encode()));
    for (place, share) in key.threshold().positions().zip(key.shares()) {
        assert_eq!(fact(&text, &format!("verification share of {place}")), hex::encode(share.encode()));
    }
}

#[test]
fn halves_of_an_opening_are_counted_and_not_shown() {
    let files = Files::new();
    let Quorum { partial, half, .. } = quorum();
    let text = sheet(&files, "an official's partial decapsulations", "chancery/v1/partial", &partial);
    assert_eq!((fact(&text, "from"), fact(&text, "points answered")), ("official 1", "1"));
    let json = run(&["inspect", &files.write("partial.bin", &partial), "--json"]);
    for output in [&text, &json.out] {
        assert!(!output.contains(&hex::encode(half.xy().0)), "{output}");
    }
}

#[test]
fn a_charter_is_explained_with_every_key_in_full() {
    let files = Files::new();
    let signed = founding_charter();
    let charter = signed.unverified();
    let text = sheet(&files, "a charter, with signatures", "chancery/v1/charter/signed", &signed.encode());
    assert_eq!((fact(&text, "signed by, as it says"), fact(&text, "country")), ("the home authority", "EE"));
    assert_eq!(fact(&text, "unseal"), "2 of 3: anna, boris, clara");
    assert_eq!(fact(&text, "hash"), charter.hash().to_string());
    assert_eq!(fact(&text, "home key"), hex::encode(charter.parts().home.encode()));
    assert_eq!(
        fact(&text, "official boris: identity key"),
        hex::encode(charter.parts().officials[1].identity.encode())
    );
    assert_eq!(fact(&text, "data owner land-board: key"), hex::encode(charter.parts().owners[0].key.encode()));
    assert!(
        text.contains("\n  the home key that it names signed it\n") && text.contains("you were given in person"),
        "{text}"
    );

    let text = sheet(&files, "a charter, without signatures", "chancery/v1/charter", &charter.encode());
    assert!(!text.contains("signed it") && text.contains("nobody signed this"), "{text}");
    let draft = SignedCharter::unsigned(charter.clone());
    let text = sheet(&files, "a charter, with signatures", "chancery/v1/charter/signed", &draft.encode());
    assert!(fact(&text, "signed by, as it says") == "nobody yet" && text.contains("a draft"), "{text}");

    let mut forged = draft;
    forged.sign(Signer::Home, &SigningKey::random(&mut rand_core::OsRng)).unwrap();
    let ran = run(&["inspect", &files.write("forged.bin", &forged.encode())]);
    assert!(ran.code == 1 && !ran.out.contains("signed it"), "{}", ran.out);
    assert!(ran.err.contains("it does not hold: the signature of the home authority does not verify"), "{}", ran.err);
}

#[test]
fn what_a_ceremony_sends_is_explained() {
    let files = Files::new();
    let Ceremony { statement, signed_statement, offer, signed_offer, contribution, .. } = ceremony();

    for (kind, label, bytes) in [
        ("a statement: what a ceremony is for", "chancery/v1/statement", statement.encode()),
        ("a statement, with its opener's signature", "chancery/v1/statement/signed", signed_statement.encode()),
        ("an offer, without its signature", "chancery/v1/offer", offer.encode()),
        ("an offer, with the embassy's signature", "chancery/v1/offer/signed", signed_offer.encode()),
    ] {
        let text = sheet(&files, kind, label, &bytes);
        assert_eq!((fact(&text, "purpose"), fact(&text, "opens")), (PURPOSE, "land-register, version 1"));
        assert_eq!((fact(&text, "lasts"), fact(&text, "for agent")), ("1 hour 30 minutes", "replicator"));
        assert_eq!(fact(&text, "read aloud"), statement.words().to_string());
        if bytes.len() > 1000 {
            assert_eq!(fact(&text, "offer's hash"), offer.hash().to_string());
            assert!(fact(&text, "slot for land-register").ends_with(&format!("TPM nonce {}", "c5".repeat(32))));
        }
    }
    let text = sheet(&files, "an official's contribution to a ceremony", "chancery/v1/contribution", &contribution);
    assert_eq!(
        (fact(&text, "from"), fact(&text, "to the offer with hash")),
        ("official 1", offer.hash().to_string().as_str())
    );
    assert!(fact(&text, "approval 1").ends_with(", 600 seconds"), "{text}");
}

#[test]
fn what_a_data_owner_sealed_is_explained_and_stays_sealed() {
    let files = Files::new();
    let Ceremony { version, slot, context, seed, facts, .. } = ceremony();
    let recipient = seed.key().recipient().to_string();

    let text = sheet(&files, "a dataset version, with its slots", "chancery/v1/dataset/version", &version.encode());
    assert_eq!(
        (fact(&text, "data owner"), fact(&text, "dataset  "), fact(&text, "version")),
        ("land-board", "land-register", "1")
    );
    assert!(fact(&text, "slot for embassy luxembourg").starts_with("3 officials, point C "), "{text}");
    assert!(fact(&text, "slot for the recovery quorum").starts_with("3 officials, point C "), "{text}");
    // An unchecked recipient must not be there to copy.
    assert!(!text.contains(&recipient) && text.contains("Encrypt nothing before"), "{text}");

    let of_slot = sheet(&files, "a slot", "chancery/v1/slot", &slot);
    assert!(text.contains(fact(&of_slot, "point C")), "{text}");
    let of_context = sheet(&files, "the context of a slot", "chancery/v1/slot/context", &context);
    assert_eq!(fact(&of_context, "sealed for"), "embassy luxembourg");
    assert_eq!(fact(&of_context, "custody key T"), hex::encode(facts.machine().custody_key.encode()));
    for shown in [text, of_slot, of_context] {
        assert!(!shown.contains(&hex::encode(seed.expose())), "{shown}");
    }
}

#[cfg(feature = "hardware")]
#[test]
fn what_an_embassy_stores_of_its_tpm_is_explained() {
    use chancery::hardware::{Attestation, Birth, EmbassyKeys, Foundation, SealedObject};
    let files = Files::new();
    let key = quorum().half;
    let foundation = Foundation { storage_root: key, attestation: key };
    let kind = "a TPM's foundation: which TPM an embassy has";
    let text = sheet(&files, kind, "chancery/v1/tpm/foundation", &foundation.encode());
    assert_eq!(fact(&text, "storage root key"), hex::encode(key.encode()));

    let object = |fill| SealedObject { public: vec![fill; 90], private: vec![0xee; 120] };
    let birth = Birth {
        data: vec![3; 60],
        ticket_hierarchy: 0x4000_0001,
        ticket_digest: vec![4; 32],
        certified: Attestation { statement: vec![5; 100], signature: [6; 64] },
    };
    let keys = EmbassyKeys {
        counter_first: 5,
        custody: object(1),
        custody_birth: birth.clone(),
        identity: object(2),
        identity_birth: birth,
        roll: object(3),
    };
    let text = sheet(&files, "the TPM keys of one generation, sealed", "chancery/v1/tpm/keys", &keys.encode());
    let name = hex::encode(<sha2::Sha256 as sha2::Digest>::digest([1; 90]));
    assert_eq!(fact(&text, "custody key T"), format!("Name 000b{name}, 120 bytes that only its TPM can open"));
    assert!(!text.contains("eeee"), "{text}");
}

/// Whoever adds a kind of document is told here to explain it.
#[test]
fn every_document_there_is_can_be_inspected() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let labels = std::fs::read_to_string(root.join("protocol/label.rs")).unwrap();
    let text_of = |name: &str| {
        let line = labels.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(" = \"")).unwrap();
        line.trim_end_matches("\";").to_owned()
    };
    let (mut pending, mut found) = (vec![root.join("protocol"), root.join("hardware")], 0);
    while let Some(folder) = pending.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let hardware = path.starts_with(root.join("hardware"));
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let Some(name) = line.trim().strip_prefix("const LABEL: Label = Label::") else { continue };
                let label = text_of(name.trim_end_matches(';'));
                let mut head = vec![u8::try_from(label.len()).unwrap()];
                head.extend_from_slice(label.as_bytes());
                let ran = run_with_input(&["inspect", "-"], &head);
                let known = ran.err.contains("says that it is");
                let elsewhere =
                    hardware && cfg!(not(feature = "hardware")) && ran.err.contains("without the TPM driver");
                assert!(known || elsewhere, "{label}: add a sheet and a line in src/cli/inspect/mod.rs: {}", ran.err);
                found += 1;
            }
        }
    }
    assert!(found >= 20, "{found} documents found");
}

#[test]
fn a_document_comes_from_a_pipe_too() {
    let bytes = quorum().certified[0].key.encode();
    let ran = run_with_input(&["inspect", "-"], &bytes);
    assert!(fine(&ran).starts_with("a quorum's public half"));
}

#[test]
fn what_is_no_document_is_told_apart() {
    let labelled = |label: &str| {
        let mut out = Writer::new();
        out.u8(u8::try_from(label.len()).unwrap()).raw(label.as_bytes()).raw(b"something");
        out.finish()
    };
    let inspect = |bytes: &[u8]| run_with_input(&["inspect", "-"], bytes);
    for bytes in [&b""[..], b"age-encryption.org/v1\n", b"\xff", &BootProfile::default().event_log()] {
        let ran = inspect(bytes);
        assert!(refused(&ran).starts_with("chancery: standard input is not a chancery document"), "{}", ran.err);
    }
    let ran = inspect(&labelled("chancery/v9/\u{1b}[2Jthing"));
    assert_eq!(
        refused(&ran),
        "chancery: standard input opens with the label chancery/v9/\\u{1b}[2Jthing, which this version of chancery does not \
         know.\nIf a newer chancery wrote it, use that one; else ask its sender for it again\n"
    );
    let ran = inspect(&labelled("chancery/v1/slot/kek"));
    assert!(refused(&ran).contains("never opens a file"), "{}", ran.err);
    let ran = inspect(&labelled("chancery/v1/quorum-key"));
    assert_eq!(
        refused(&ran),
        "chancery: standard input says that it is a quorum's public half, but is refused: threshold is not valid: \
         1 ≤ k ≤ n ≤ 32 does not hold.\nAsk its sender for it again; nothing of it is used\n"
    );
}
