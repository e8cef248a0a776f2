//! Sheets of slots, their contexts, and a data owner's dataset version (protocol.md §6).

use chancery::protocol::{
    dataset_version::{DatasetVersionRecord, SeenVersion},
    slot::{DatasetDescription, Slot, SlotContext},
};

use super::{
    Inspect,
    sheet::{Sheet, hybrid, of_text, point},
};

impl Inspect for DatasetVersionRecord {
    const KIND: &'static str = "a dataset version, with its slots";

    fn sheet(&self) -> Sheet {
        description(Sheet::new(), self.unverified())
            .fact("generation", self.unverified_generation())
            .each(self.unverified_slots(), |(sealed_for, slot)| (format!("slot for {sealed_for}"), of_slot(slot)))
            .unchecked("the data owner's signature: it needs the owner's key from your charter. Encrypt nothing before")
            .unchecked("the slots' proofs: they need the embassies' and quorums' keys from your charter")
    }
}

impl Inspect for SeenVersion {
    const KIND: &'static str = "what a reader remembers of a dataset's highest version";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("charter", self.charter)
            .fact("dataset", &self.dataset)
            .fact("version", self.version)
            .fact("recipient", of_text(&self.recipient.to_string()))
            .unchecked("anything: it is this machine's own memory. Keep it, or a lower version would not be noticed")
    }
}

impl Inspect for Slot {
    const KIND: &'static str = "a slot";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("holds", "a dataset's seed, sealed; a slot does not say of which dataset or for whom")
            .fact("officials", self.officials())
            .fact("point C", point(self.unverified_point()))
            .unchecked("the proof: it needs the slot's context (dataset, version, embassy, generation, keys)")
    }
}

impl Inspect for SlotContext {
    const KIND: &'static str = "the context of a slot";

    fn sheet(&self) -> Sheet {
        let sheet = description(Sheet::new(), self.dataset())
            .fact("generation", self.generation())
            .fact("sealed for", self.kind().sealed_for())
            .fact("threshold", self.quorum().threshold())
            .fact("quorum key Y", point(self.quorum().key()));
        let sheet = match self.kind().custody_key() {
            Some(key) => sheet.fact("custody key T", point(key)),
            None => sheet.fact("custody key T", "none: recovery takes no TPM"),
        };
        sheet
            .each(self.quorum().threshold().positions().zip(self.quorum().officials()), |(place, key)| {
                (format!("hybrid key of {place}"), hybrid(key))
            })
            .checked("no two officials have a hybrid key, or half of one, in common")
            .unchecked("whether these are your charter's keys: compare them")
    }
}

fn description(sheet: Sheet, dataset: &DatasetDescription) -> Sheet {
    sheet
        .fact("charter", dataset.charter)
        .fact("data owner", &dataset.owner)
        .fact("dataset", &dataset.dataset)
        .fact("version", dataset.version)
        // Not in full: nobody should take a recipient from here to encrypt to, before its signature is checked.
        .fact("recipient", of_text(&dataset.recipient.to_string()))
}

fn of_slot(slot: &Slot) -> String {
    format!("{} officials, point C {}", slot.officials(), point(slot.unverified_point()))
}
