//! Boot event logs of real machines.
//!
//! The expected values are those of `tpm2_eventlog` 5.4, which extends every EV_NO_ACTION after the first as if its zero
//! digest had been measured, and starts PCR 0 at 0 whatever StartupLocality says (both mended in tpm2-tools 5.6). A TPM does
//! neither, so for a log with such events our PCR values must differ from the expected ones exactly where those events
//! stand, and the tool's way of counting, done here over the same parsed events, must give the expected values everywhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use chancery::protocol::evidence::eventlog::{Bank, EventLog, EventType, Replay};
use proptest::prelude::*;
use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

#[derive(Deserialize)]
struct Expected {
    pcrs: Option<Values>,
}

/// Bank → PCR → value in hexadecimal.
type Values = BTreeMap<String, BTreeMap<u8, String>>;

/// PCR 0 of logs with StartupLocality, computed by a program of its own from the specification.
const PCR_0_BY_LOCALITY: [(&str, &str, &str); 2] = [
    ("binary_bios_measurements.bin", "sha1", "78f3e576d5da8873860e557535d181f4a37e2963"),
    ("binary_bios_measurements.bin", "sha256", "0ee9a7feba8f4172f1a7451594aa5731665a4d353ac61814042ce107a00742f2"),
];

fn in_hex(replay: &Replay) -> Values {
    let bank = |values: &BTreeMap<u8, Vec<u8>>| values.iter().map(|(pcr, value)| (*pcr, hex::encode(value))).collect();
    replay.iter().map(|(name, values)| (name.to_string(), bank(values))).collect()
}

/// What `tpm2_eventlog` 5.4 computes from these events.
fn as_the_tool_counts(log: &EventLog<'_>) -> Values {
    let mut values: Replay = BTreeMap::new();
    for (index, event) in log.events().iter().enumerate() {
        for bank in log.banks() {
            let pcr = u8::try_from(event.pcr).expect("vectors name real PCRs");
            if index == 0 && event.kind == EventType::NO_ACTION {
                continue;
            }
            let before = values.entry(bank).or_default().entry(pcr).or_insert_with(|| vec![0; bank.digest_bytes()]);
            let digest = event.digest(bank).expect("one digest per bank");
            *before = match bank {
                Bank::Sha1 => Sha1::new().chain_update(&before).chain_update(digest).finalize().to_vec(),
                Bank::Sha256 => Sha256::new().chain_update(&before).chain_update(digest).finalize().to_vec(),
                Bank::Sha384 => Sha384::new().chain_update(&before).chain_update(digest).finalize().to_vec(),
                Bank::Sha512 => Sha512::new().chain_update(&before).chain_update(digest).finalize().to_vec(),
            };
        }
    }
    in_hex(&values)
}

/// PCRs that the tool gets wrong: those of EV_NO_ACTION after the first event, and PCR 0 where it does not start at 0.
fn beyond_the_tool(log: &EventLog<'_>) -> BTreeSet<u8> {
    let later = log.events().iter().skip(1).filter(|event| event.kind == EventType::NO_ACTION);
    let mut pcrs: BTreeSet<u8> = later.filter_map(|event| u8::try_from(event.pcr).ok()).collect();
    if log.start_of_pcr_0() != 0 {
        pcrs.insert(0);
    }
    pcrs
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a name")
}

#[test]
fn every_log_replays_to_its_pcrs_and_what_is_no_log_is_refused() {
    let Some(files) = super::files("eventlogs", "", ".bin") else { return };
    let (mut replayed, mut refused, mut beyond) = (0, 0, vec![]);
    for path in &files {
        let bytes = std::fs::read(path).expect("a vector");
        let expected = std::fs::read(path.with_extension("expected.json")).expect("every log has its expected.json");
        let expected: Expected = serde_json::from_slice(&expected).expect("expected.json");
        let parsed = EventLog::parse(&bytes);
        let Some(expected) = expected.pcrs else {
            println!("{}: refused: {}", name(path), parsed.expect_err(name(path)));
            refused += 1;
            continue;
        };
        let log = parsed.unwrap_or_else(|error| panic!("{}: {error}", name(path)));
        let own = in_hex(&log.replay());
        replayed += 1;
        let wrong_in_the_tool = beyond_the_tool(&log);
        if wrong_in_the_tool.is_empty() || own == expected {
            assert_eq!(own, expected, "{}", name(path));
            continue;
        }
        assert_eq!(as_the_tool_counts(&log), expected, "{}: not explained by the tool's defect", name(path));
        for (bank, values) in &expected {
            for (pcr, value) in values {
                let same = own.get(bank).and_then(|own| own.get(pcr)) == Some(value);
                assert_eq!(same, !wrong_in_the_tool.contains(pcr), "{}: {bank} PCR {pcr}", name(path));
            }
        }
        beyond.push(format!("{} PCR {wrong_in_the_tool:?}", name(path)));
        for (_, bank, value) in PCR_0_BY_LOCALITY.iter().filter(|(file, ..)| *file == name(path)) {
            assert_eq!(own[*bank][&0], *value, "{} {bank}", name(path));
        }
    }
    println!("event logs: {} run, {replayed} replayed, {refused} refused as expected", files.len());
    println!("event logs where tpm2_eventlog 5.4 extends what measures nothing: {beyond:?}");
    assert!(!files.is_empty(), "there are vectors, but no event logs among them");
}

#[test]
fn no_change_of_a_real_log_makes_the_parser_panic() {
    let Some(files) = super::files("eventlogs", "", ".bin") else { return };
    let logs: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).expect("a vector")).collect();
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    let strategy = (prop::sample::select(logs), changes, any::<prop::sample::Index>());
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((mut log, changes, cut) in strategy)| {
        for (at, to) in changes {
            // Half of the changes near the start, where the structure is.
            let near = if to % 2 == 0 { log.len() } else { log.len().min(200) };
            let at = at.index(near);
            log[at] = to;
        }
        for bytes in [&log[..], &log[..cut.index(log.len())]] {
            if let Ok(log) = EventLog::parse(bytes) {
                log.replay();
            }
        }
    });
}
