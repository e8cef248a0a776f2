//! `chancery eventlog`: a boot event log in readable form, and the PCR values that it replays to.
//!
//! The log comes from a machine that nobody has appraised: all its text is escaped, and the output says what it is worth. It
//! says whether an event's data is what was measured, since only then do the PCRs speak for the text shown.

mod describe;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use chancery::protocol::evidence::eventlog::{Bank, Event, EventLog, EventType, MAX_LOG_BYTES};
use clap::Args;
use serde_json::{Map, Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::cli::{
    failure::Failure,
    input::{self, Expected},
    text::{cut, hex},
};
use describe::{describe, type_name};

/// Where Linux shows the log of the first TPM, as the firmware left it.
const RUNNING_MACHINE: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
/// The longest description in the table, so that a line fits a wide screen.
const TABLE_CHARACTERS: usize = 100;
/// The longest description in JSON, which has the data itself besides.
const JSON_CHARACTERS: usize = 1000;

const AFTER_HELP: &str = "\
The table has one line per event: its number (from 0), the PCR it was extended into (- for an event that measures nothing), its \
type, what was extended, and a description. `=` before the description says that what was extended is the hash of the \
event's own data, so the PCR vouches for that data (never for the type, which is not measured); `?` says that it is not, \
as for images and firmware, where all of it is only the machine's claim.

Nothing in a log is authenticated: the replayed values prove something only once they equal PCRs from a verified quote. \
A log of the older form with SHA-1 digests only is shown, never accepted as evidence.

Examples:
  sudo chancery eventlog                         the running machine's own log
  chancery eventlog embassy.bin                  a log that was copied from elsewhere
  ssh machine sudo cat /sys/kernel/security/tpm0/binary_bios_measurements | chancery eventlog -
  chancery eventlog embassy.bin --json | jq -r '.pcrs.sha256[\"7\"]'";

/// Show a boot event log and the PCR values it replays to
///
/// Reads the binary log that a machine's firmware and boot loader wrote while it booted (TCG PC Client Platform Firmware
/// Profile), in the crypto-agile form or the older one with SHA-1 only. A log that is malformed anywhere is refused whole.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The log; `-` for standard input
    #[arg(value_name = "FILE", default_value = RUNNING_MACHINE)]
    file: PathBuf,
    /// Print one JSON document instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let missing = if arguments.file == Path::new(RUNNING_MACHINE) {
        "This machine has no TPM 2.0 or its kernel shows no log. Name a log's file: `chancery eventlog FILE`"
    } else {
        "Check the path"
    };
    let expected = Expected { what: "a boot event log", bound: MAX_LOG_BYTES, missing };
    let bytes = input::read(&arguments.file, &expected)?;
    let log =
        EventLog::parse(&bytes).map_err(|error| Failure::EventLog { name: input::name(&arguments.file), error })?;
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, &document(&log, bytes.len())).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        table(&log, bytes.len(), out)?;
    }
    Ok(())
}

/// The bank whose digests the table shows: the one that quotes use, where the log has it.
fn shown_bank(log: &EventLog<'_>) -> Option<Bank> {
    log.banks().find(|bank| *bank == Bank::Sha256).or_else(|| log.banks().last())
}

/// Why this log can be shown but is no evidence.
fn shown_only(log: &EventLog<'_>) -> Option<&'static str> {
    if !log.is_crypto_agile() {
        Some("the older form, SHA-1 only: shown, never accepted as evidence")
    } else if log.banks().all(|bank| bank != Bank::Sha256) {
        Some("it has no SHA-256 bank: shown, never accepted as evidence")
    } else {
        None
    }
}

/// Whether what was extended is the hash of the event's data; `None` where nothing was extended.
fn data_is_measured(event: &Event<'_>, bank: Bank) -> Option<bool> {
    event.measured_into()?;
    let hash = match bank {
        Bank::Sha1 => Sha1::digest(event.data).to_vec(),
        Bank::Sha256 => Sha256::digest(event.data).to_vec(),
        Bank::Sha384 => Sha384::digest(event.data).to_vec(),
        Bank::Sha512 => Sha512::digest(event.data).to_vec(),
    };
    event.digest(bank).map(|digest| digest == hash)
}

fn kind(kind: EventType) -> String {
    type_name(kind).map_or_else(|| format!("0x{:08x}", kind.0), str::to_owned)
}

fn table(log: &EventLog<'_>, length: usize, out: &mut dyn Write) -> Result<(), Failure> {
    let form = if log.is_crypto_agile() { "crypto-agile" } else { "SHA-1 legacy" };
    let banks: Vec<String> = log.banks().map(|bank| bank.to_string()).collect();
    let (events, names) = (log.events().len(), banks.join(", "));
    writeln!(out, "boot event log, {form} form: {events} events in {length} bytes, replayed for {names}")?;
    if let Some(reason) = shown_only(log) {
        writeln!(out, "NO EVIDENCE: {reason}.")?;
    }
    writeln!(
        out,
        "Not authenticated: all of this is the machine's own account, until the values below equal verified quoted PCRs.\n"
    )?;

    if let Some(bank) = shown_bank(log) {
        let width = 2 * bank.digest_bytes();
        let digests = format!("{bank} digest");
        writeln!(out, "{:>5} {:>3} {:32} {digests:width$}   description", "event", "pcr", "type")?;
        for (number, event) in log.events().iter().enumerate() {
            let pcr = event.measured_into().map_or_else(|| "-".to_owned(), |pcr| pcr.to_string());
            let digest = event.measured_into().and(event.digest(bank)).map_or_else(|| "-".to_owned(), hex);
            let mark = match data_is_measured(event, bank) {
                Some(true) => '=',
                Some(false) => '?',
                None => ' ',
            };
            let text = cut(describe(event), TABLE_CHARACTERS);
            let kind = kind(event.kind);
            writeln!(out, "{number:>5} {pcr:>3} {kind:32} {digest:width$} {mark} {text}")?;
        }
    }

    for (bank, values) in log.replay() {
        writeln!(out, "\n{bank} PCRs, replayed")?;
        for (pcr, value) in values {
            writeln!(out, "{pcr:>5} {}", hex(&value))?;
        }
    }
    if log.start_of_pcr_0() != 0 {
        writeln!(out, "\nPCR 0 starts at {}, as the log's locality has it.", log.start_of_pcr_0())?;
    }
    Ok(())
}

/// The document of `--json`; `docs/cli.md` lists its members, and none changes its meaning within one `schema`.
fn document(log: &EventLog<'_>, length: usize) -> Value {
    let by_bank = |entries: Vec<(Bank, Value)>| -> Value {
        Value::Object(entries.into_iter().map(|(bank, value)| (bank.to_string(), value)).collect::<Map<_, _>>())
    };
    let events: Vec<Value> = log
        .events()
        .iter()
        .enumerate()
        .map(|(number, event)| {
            let digests = log.banks().filter_map(|bank| Some((bank, Value::from(hex(event.digest(bank)?))))).collect();
            json!({
                "number": number,
                "offset": event.offset,
                "pcr": event.pcr,
                "measured": event.measured_into().is_some(),
                "type": event.kind.0,
                "type_name": type_name(event.kind),
                "digests": by_bank(digests),
                "data": hex(event.data),
                "data_is_measured": shown_bank(log).and_then(|bank| data_is_measured(event, bank)),
                "description": cut(describe(event), JSON_CHARACTERS),
            })
        })
        .collect();
    let pcrs = log.replay().into_iter().map(|(bank, values)| {
        let values = values.into_iter().map(|(pcr, value)| (pcr.to_string(), Value::from(hex(&value))));
        (bank, Value::Object(values.collect()))
    });
    json!({
        "schema": "chancery-eventlog-1",
        "bytes": length,
        "form": if log.is_crypto_agile() { "crypto-agile" } else { "sha1-legacy" },
        "shown_only": shown_only(log),
        "banks": log.banks().map(|bank| bank.to_string()).collect::<Vec<_>>(),
        "pcr_0_starts_at": log.start_of_pcr_0(),
        "events": events,
        "pcrs": by_bank(pcrs.collect()),
    })
}
