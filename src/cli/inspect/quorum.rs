//! Sheets of a quorum's public half, and of one official's half of an opening.

use chancery::protocol::{partial::PartialDecapsulation, quorum_key::QuorumKey};

use super::{
    Inspect,
    sheet::{Sheet, point},
};

impl Inspect for QuorumKey {
    const KIND: &'static str = "a quorum's public half";

    fn sheet(&self) -> Sheet {
        facts(Sheet::new(), self)
            .checked("all verification shares lie on one polynomial through Y")
            .unchecked("whose quorum this is: compare Y with your charter")
    }
}

/// The quorum's key as facts of another document.
pub(super) fn facts(sheet: Sheet, key: &QuorumKey) -> Sheet {
    sheet
        .fact("threshold", key.threshold())
        .fact("quorum key Y", point(key.key()))
        .each(key.threshold().positions().zip(key.shares()), |(place, share)| {
            (format!("verification share of {place}"), point(share))
        })
}

impl Inspect for PartialDecapsulation {
    const KIND: &'static str = "an official's partial decapsulations";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("from", self.position())
            .fact("points answered", self.partials().len())
            .fact(
                "partial decapsulations",
                "not shown: k officials' together open the slots. Keep this file to yourself",
            )
            .unchecked("the proof: it needs the offer, its points and the quorum's key")
    }
}
