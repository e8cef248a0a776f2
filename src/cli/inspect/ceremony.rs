//! Sheets of what a ceremony sends: statement, offer, contribution (protocol.md §10).

use chancery::protocol::{
    contribution::Contribution,
    offer::{Offer, SignedOffer, Statement},
};

use super::{
    Inspect,
    sheet::{Sheet, hybrid},
};
use crate::cli::text::hex;

impl Inspect for Statement {
    const KIND: &'static str = "a statement: what a ceremony is for";

    fn sheet(&self) -> Sheet {
        statement(Sheet::new(), self).unchecked("who made it: a statement carries no signature; the offer does")
    }
}

impl Inspect for Offer {
    const KIND: &'static str = "an offer, without its signature";

    fn sheet(&self) -> Sheet {
        offer(Sheet::new(), self).unchecked("who made it: officials contribute to signed offers only")
    }
}

impl Inspect for SignedOffer {
    const KIND: &'static str = "an offer, with the embassy's signature";

    fn sheet(&self) -> Sheet {
        offer(Sheet::new(), self.unverified())
            .unchecked("the embassy's signature: it needs the identity key from your custody facts")
            .unchecked("whether the slots are those that the data owners signed: it needs their dataset versions")
    }
}

impl Inspect for Contribution {
    const KIND: &'static str = "an official's contribution to a ceremony";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("from", self.position())
            .fact("to the offer with hash", self.offer())
            .each(self.approvals().iter().enumerate(), |(number, approval)| {
                let (command, seconds) = (hex(approval.command()), approval.expiry_seconds());
                let text = format!("by {}, for the command {command}, {seconds} seconds", approval.position());
                (format!("approval {}", number.saturating_add(1)), text)
            })
            .fact("partial decapsulations", "sealed to the ceremony key, as are the shares of w")
            .unchecked("the official's signature and approvals: they need the custody facts and the offer")
    }
}

fn statement(sheet: Sheet, statement: &Statement) -> Sheet {
    sheet
        .fact("charter", statement.charter())
        .fact("embassy", statement.embassy())
        .fact("generation", statement.generation())
        .fact("purpose", statement.purpose().as_str())
        .each(statement.datasets(), |at| ("opens".to_owned(), format!("{}, version {}", at.dataset, at.version)))
}

fn offer(sheet: Sheet, offer: &Offer) -> Sheet {
    statement(sheet, offer.statement())
        .fact("offer's hash", offer.hash())
        .fact("attempt", offer.attempt())
        .fact("ceremony key", hybrid(offer.ceremony_key()))
        .each(offer.statement().datasets().iter().zip(offer.openings()), |(at, opening)| {
            let nonce = hex(opening.nonce.as_bytes());
            (format!("slot for {}", at.dataset), format!("{}, TPM nonce {nonce}", opening.slot))
        })
}
