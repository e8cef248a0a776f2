//! Sheets of what a ceremony sends: statement, offer, contribution, denial, stop (protocol.md §10).

use chancery::protocol::{
    beat::Beat,
    ceremony::UnsealRecord,
    contribution::Contribution,
    hash::Hash,
    lease::LeaseRecord,
    notice::{Denial, Stop},
    offer::{Offer, SignedOffer},
    recipient::RecipientCard,
    release::ReleaseParts,
    roll::Entry,
    statement::{SignedStatement, Statement},
};

use super::{
    Inspect,
    sheet::{Sheet, hybrid},
};
use crate::cli::text::hex;

impl Inspect for Statement {
    const KIND: &'static str = "a statement: what a ceremony is for";

    fn sheet(&self) -> Sheet {
        statement(Sheet::new(), self).unchecked("who made it: a bare statement carries no signature")
    }
}

impl Inspect for SignedStatement {
    const KIND: &'static str = "a statement, with its opener's signature";

    fn sheet(&self) -> Sheet {
        statement(Sheet::new(), self.unverified())
            .unchecked("the opener's signature: it needs the opener's identity key from your charter")
    }
}

impl Inspect for RecipientCard {
    const KIND: &'static str = "the card of a release's recipient";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("recipient", self.unverified_name())
            .fact("card", self.hash())
            .fact("certificate", format!("SHA-256 {}", Hash::of_bytes(self.certificate())))
            .fact("hybrid key", hybrid(self.hybrid()))
            .unchecked("who that is: it needs the home authority's certificate and its list of revocations")
    }
}

impl Inspect for Denial {
    const KIND: &'static str = "an official's vote against a ceremony";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("ceremony", self.ceremony())
            .fact("from", self.unverified_official())
            .fact("because", self.reason())
            .unchecked("the official's signature: it needs the identity key from your charter")
    }
}

impl Inspect for Stop {
    const KIND: &'static str = "an official's order to stop";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("ceremony", self.ceremony())
            .fact("from", self.unverified_official())
            .fact("because", self.reason())
            .unchecked("the official's signature: it needs the identity key from your charter")
    }
}

impl Inspect for Beat {
    const KIND: &'static str = "a witness's beat, on which leases live";

    fn sheet(&self) -> Sheet {
        let request = self.request();
        Sheet::new()
            .fact("witness", self.witness())
            .fact("at", self.at())
            .fact("embassy", &request.embassy)
            .fact("charter", request.charter)
            .fact("nonce", hex(&request.nonce.0))
            .unchecked("the witness's signature: it needs the witness's key from your charter")
            .unchecked("whether it is fresh: only the embassy that drew the nonce can tell")
    }
}

impl Inspect for ReleaseParts {
    const KIND: &'static str = "an embassy's halves of a release, sealed to its recipient";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("for the offer", self.offer())
            .fact("halves", format!("{}, one for each dataset, sealed", self.count()))
            .unchecked("what is sealed: only the recipient's key opens it")
    }
}

impl Inspect for LeaseRecord {
    const KIND: &'static str = "what an embassy keeps of a lease";

    fn sheet(&self) -> Sheet {
        let datasets = self.datasets.iter().map(|at| format!("{} (version {})", at.dataset, at.version));
        let agents = self.terms.agents.iter().map(ToString::to_string);
        Sheet::new()
            .fact("ceremony", self.ceremony)
            .fact("datasets", datasets.collect::<Vec<_>>().join(", "))
            .fact("agents", agents.collect::<Vec<_>>().join(", "))
            .fact("lasts", format!("{} s from {}", self.terms.duration_seconds, self.began_at))
            .fact("state", &self.state)
            .fact("unwraps", format!("{} used, at most {}, of {}", self.used, self.at_most, self.terms.unwraps))
            .unchecked("all of it: it is the embassy's own note; the roll is what others go by")
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
            .unchecked("the embassy's and the opener's signature: they need the identity keys from your custody facts")
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
            .fact(
                "partial decapsulations",
                if self.is_sealed() {
                    "sealed to the ceremony key, as are the shares of w"
                } else {
                    "none: nothing is opened with it"
                },
            )
            .unchecked("the official's signature and approvals: they need the custody facts and the offer")
    }
}

impl Inspect for UnsealRecord {
    const KIND: &'static str = "a ceremony to unseal, as an embassy stores it";

    fn sheet(&self) -> Sheet {
        let goes_on = || "it goes on".to_owned();
        statement(Sheet::new(), self.statement().unverified())
            .fact("attempt", self.attempt())
            .each(self.denials(), |denial| {
                ("denied by".to_owned(), format!("{}: {}", denial.unverified_official(), denial.reason()))
            })
            .fact("outcome", self.outcome().map_or_else(goes_on, ToString::to_string))
            .unchecked("every signature in it: they need the custody facts")
    }
}

impl Inspect for Entry {
    const KIND: &'static str = "an entry of the roll";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .each(self.lines(), |line| line)
            .fact("leaf hash", self.leaf_hash())
            .unchecked("whether it stands in the roll: it needs the roll itself")
    }
}

fn statement(sheet: Sheet, statement: &Statement) -> Sheet {
    sheet.each(statement.lines(), |(label, text)| (label.to_owned(), text)).fact("ceremony", statement.id())
}

fn offer(sheet: Sheet, offer: &Offer) -> Sheet {
    let key = offer.ceremony_key().map_or_else(|| "none: nothing is sealed".to_owned(), hybrid);
    let adopted = offer.statement().mode().adoption().into_iter();
    statement(sheet, offer.statement())
        .fact("offer's hash", offer.hash())
        .fact("attempt", offer.attempt())
        .fact("ceremony key", key)
        .each(adopted.zip(offer.openings()), |(adoption, opening)| {
            let nonce = hex(opening.nonce.as_bytes());
            (format!("pin for charter version {}", adoption.charter.version), format!("TPM nonce {nonce}"))
        })
        .each(offer.statement().datasets().iter().zip(offer.openings()), |(at, opening)| {
            let nonce = hex(opening.nonce.as_bytes());
            (format!("slot for {}", at.dataset), format!("{}, TPM nonce {nonce}", opening.subject))
        })
}
