//! `chancery inspect`: what a chancery document is, and what it holds, in plain words.
//!
//! A document is recognized by its label and read with the type that the protocol itself uses, so what is shown is what the
//! protocol would see. Being readable is not being genuine: every sheet ends with what was checked and what was not.

mod ceremony;
mod charter;
mod dataset;
mod dkg;
mod genesis;
mod key;
mod quorum;
mod sheet;
#[cfg(feature = "hardware")]
mod tpm;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use chancery::protocol::{
    self,
    hash::Hash,
    label::Label,
    wire::{Document, WireError},
};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::{
    failure::Failure,
    input::{self, Expected},
    text::{ascii, words},
};
use sheet::Sheet;

const AFTER_HELP: &str = "\
A document opens with its label; that alone decides what it is read as, whatever the file is called. Documents have one encoding \
only: one that is cut, longer, or changed into another form is refused.

inspect holds no keys of yours. It checks what a document shows by itself and says so under \"Checked\"; what needs your \
charter, your facts or somebody's key stands under \"Not checked\", and has to be checked by the command that relies on it. \
Secrets are never shown; where a document holds a half of one, inspect says so and leaves it out.

Examples:
  chancery inspect quorum-key.bin
  chancery inspect offer.bin --json | jq -r .label
  chancery inspect - < slot.bin";

/// Say what a chancery document is and what it holds
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The document; `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print one JSON document instead of text
    #[arg(long)]
    json: bool,
}

/// A document that can be explained.
trait Inspect: Document {
    /// What it is, with its article.
    const KIND: &'static str;

    /// What it holds.
    fn sheet(&self) -> Sheet;
}

/// How one kind of document is recognized and read.
struct Entry {
    label: Label,
    kind: &'static str,
    bound: usize,
    read: fn(&[u8]) -> Result<Sheet, WireError>,
}

impl Entry {
    const fn of<T: Inspect>() -> Self {
        Self {
            label: T::LABEL,
            kind: T::KIND,
            bound: T::MAX_BYTES,
            read: |bytes| T::decode(bytes).map(|document| document.sheet()),
        }
    }
}

/// Every kind of document that stands alone. A new one gets its line here, and its sheet in the file of its subject.
const ENTRIES: &[Entry] = &[
    Entry::of::<chancery::keys::file::KeyFile>(),
    Entry::of::<chancery::client::official::Memory>(),
    Entry::of::<chancery::client::official::Carried>(),
    Entry::of::<protocol::card::OfficialCard>(),
    Entry::of::<protocol::charter::Charter>(),
    Entry::of::<protocol::charter::SignedCharter>(),
    Entry::of::<protocol::statement::Statement>(),
    Entry::of::<protocol::statement::SignedStatement>(),
    Entry::of::<protocol::recipient::RecipientCard>(),
    Entry::of::<protocol::notice::Denial>(),
    Entry::of::<protocol::notice::Stop>(),
    Entry::of::<protocol::charter::CharterMachine>(),
    Entry::of::<protocol::charter::CharterSeen>(),
    Entry::of::<protocol::roll::Entry>(),
    Entry::of::<protocol::beat::Beat>(),
    Entry::of::<protocol::lease::LeaseRecord>(),
    Entry::of::<protocol::release::ReleaseParts>(),
    Entry::of::<protocol::ceremony::UnsealRecord>(),
    Entry::of::<protocol::offer::Offer>(),
    Entry::of::<protocol::offer::SignedOffer>(),
    Entry::of::<protocol::contribution::Contribution>(),
    Entry::of::<protocol::ceremony::genesis::Message>(),
    Entry::of::<protocol::ceremony::genesis::Post>(),
    Entry::of::<protocol::ceremony::genesis::ProvisioningOffer>(),
    Entry::of::<protocol::ceremony::genesis::GenesisResult>(),
    Entry::of::<protocol::ceremony::genesis::participant::Journal>(),
    Entry::of::<protocol::partial::PartialDecapsulation>(),
    Entry::of::<protocol::dataset_version::DatasetVersionRecord>(),
    Entry::of::<protocol::dataset_version::SeenVersion>(),
    Entry::of::<protocol::slot::Slot>(),
    Entry::of::<protocol::slot::SlotContext>(),
    Entry::of::<protocol::quorum_key::QuorumKey>(),
    Entry::of::<protocol::dkg::Contribution>(),
    Entry::of::<protocol::dkg::Message1>(),
    Entry::of::<protocol::dkg::Message3>(),
    Entry::of::<protocol::dkg::Evidence>(),
    Entry::of::<protocol::dkg::Certificate>(),
    Entry::of::<protocol::dkg::RecoveryData>(),
    #[cfg(feature = "hardware")]
    Entry::of::<chancery::hardware::Foundation>(),
    #[cfg(feature = "hardware")]
    Entry::of::<chancery::hardware::EmbassyKeys>(),
];

/// Documents whose types belong to the TPM driver, which a build for officials, agents and auditors does not have.
const OF_THE_DRIVER: [Label; 2] = [Label::TPM_FOUNDATION, Label::TPM_KEYS];

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let bound = ENTRIES.iter().map(|entry| entry.bound).max().unwrap_or_default();
    let bytes =
        input::read(&arguments.file, &Expected { what: "a chancery document", bound, missing: "Check the path" })?;
    let name = || input::name(&arguments.file);
    let entry = entry(&bytes, &arguments.file)?;
    let sheet = (entry.read)(&bytes).map_err(|error| Failure::Document { name: name(), kind: entry.kind, error })?;
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, &document(entry, &sheet, &bytes)).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        page(entry, &sheet, &bytes, out)?;
    }
    match sheet.wrong {
        Some(wrong) => Err(Failure::Wrong { name: name(), kind: entry.kind, wrong }),
        None => Ok(()),
    }
}

/// The document's kind, by the label that it opens with (protocol.md §2).
fn entry(bytes: &[u8], file: &Path) -> Result<&'static Entry, Failure> {
    let name = || input::name(file);
    let opening = bytes.split_first().and_then(|(length, rest)| rest.get(..usize::from(*length)));
    let text = opening
        .and_then(|label| std::str::from_utf8(label).ok())
        .filter(|label| label.starts_with("chancery/"))
        .ok_or_else(|| Failure::NoLabel { name: name() })?;
    if let Some(entry) = ENTRIES.iter().find(|entry| entry.label.as_str() == text) {
        return Ok(entry);
    }
    Err(match Label::ALL.iter().find(|label| label.as_str() == text) {
        Some(label) if OF_THE_DRIVER.contains(label) => Failure::NeedsHardware { name: name(), label: label.as_str() },
        Some(label) => Failure::NoDocument { name: name(), label: label.as_str() },
        None => Failure::UnknownLabel { name: name(), label: ascii(text) },
    })
}

fn page(entry: &Entry, sheet: &Sheet, bytes: &[u8], out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "{} ({}), {} bytes", entry.kind, entry.label.as_str(), bytes.len())?;
    writeln!(out, "SHA-256 {}\n", Hash::of_bytes(bytes))?;
    let width = sheet.facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    for (name, value) in &sheet.facts {
        writeln!(out, "  {name:width$}  {}", words(value))?;
    }
    writeln!(out, "\nChecked:\n  it is whole, and in the one form that its kind has")?;
    for checked in &sheet.checked {
        writeln!(out, "  {}", words(checked))?;
    }
    writeln!(out, "Not checked:")?;
    for unchecked in &sheet.unchecked {
        writeln!(out, "  {}", words(unchecked))?;
    }
    Ok(())
}

/// The document of `--json`; `docs/cli.md` lists its members.
fn document(entry: &Entry, sheet: &Sheet, bytes: &[u8]) -> Value {
    let facts = sheet.facts.iter().map(|(name, value)| json!({ "name": name, "value": words(value) }));
    json!({
        "schema": "chancery-inspect-1",
        "label": entry.label.as_str(),
        "kind": entry.kind,
        "bytes": bytes.len(),
        "sha256": Hash::of_bytes(bytes).to_string(),
        "facts": facts.collect::<Vec<_>>(),
        "checked": sheet.checked,
        "unchecked": sheet.unchecked,
        "wrong": sheet.wrong,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_stands_once() {
        let labels: std::collections::BTreeSet<_> = ENTRIES.iter().map(|entry| entry.label.as_str()).collect();
        assert_eq!(labels.len(), ENTRIES.len());
    }
}
