//! Sheets of what a ceremony rests on and sends: custody facts, statement, offer, contribution (protocol.md §10).

use chancery::protocol::{
    contribution::Contribution,
    facts::{CustodyFacts, QuorumFacts},
    offer::{Offer, SignedOffer, Statement},
};

use super::{
    Inspect,
    sheet::{Sheet, hybrid, point},
};
use crate::cli::text::hex;

impl Inspect for CustodyFacts {
    const KIND: &'static str = "the custody facts of one generation at one embassy";

    fn sheet(&self) -> Sheet {
        let machine = self.machine();
        let pcrs: Vec<String> = machine.platform.pcrs().map(|pcr| pcr.to_string()).collect();
        let handle = |handle: u32| format!("NV index 0x{handle:08x}");
        let sheet = Sheet::new()
            .fact("charter", self.charter())
            .fact("embassy", self.embassy())
            .fact("generation", self.generation());
        let sheet = quorum(sheet, "unseal", self.unseal());
        quorum(sheet, "recovery", self.recovery())
            .fact("amend: threshold", self.amend())
            .fact("longest approval", format!("{} seconds", self.expiry_max_seconds()))
            .fact("platform register", format!("{}, over PCRs {}", handle(machine.handles.register.get()), pcrs.join(" ")))
            .fact("generation counter", format!("{}, at {}", handle(machine.handles.counter.get()), machine.counter_first))
            .fact("charter pin", handle(machine.handles.charter_pin.get()))
            .fact("custody key T", point(&machine.custody_key))
            .fact("T's Name in the TPM", hex(self.custody_key_name().as_bytes()))
            .fact("identity key", point(&machine.identity_key))
            .checked("the facts fit together: no official counts twice, every threshold can be reached, every TPM policy follows")
            .unchecked("whether they are home's: facts carry no signature. Take them only from your charter")
    }
}

fn quorum(sheet: Sheet, name: &str, quorum: &QuorumFacts) -> Sheet {
    let key = &quorum.key;
    let sheet = sheet
        .fact(format!("{name}: threshold"), key.threshold())
        .fact(format!("{name}: quorum key Y"), point(key.key()));
    let members = key.threshold().positions().zip(quorum.members.iter().zip(key.shares()));
    members.fold(sheet, |sheet, (place, (member, share))| {
        sheet
            .fact(format!("{name}: {place}"), &member.name)
            .fact(format!("{name}: {place}'s identity key"), point(&member.identity))
            .fact(format!("{name}: {place}'s hybrid key"), hybrid(&member.hybrid))
            .fact(format!("{name}: {place}'s verification share"), point(share))
    })
}

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
