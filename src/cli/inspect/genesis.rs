//! Sheets of what a genesis sends and keeps (protocol.md §19).

use chancery::protocol::{
    ceremony::genesis::{
        GenesisResult, Message, Post, ProvisioningOffer, Said, Stage,
        participant::{Journal, KINDS},
    },
    hash::Hash,
    wire::Document,
};

use super::{
    Inspect,
    sheet::{Sheet, point},
};
use crate::cli::text::hex;

impl Inspect for Message {
    const KIND: &'static str = "what an official says in a genesis";

    fn sheet(&self) -> Sheet {
        message(Sheet::new(), self)
    }
}

impl Inspect for Post {
    const KIND: &'static str = "an entry of a genesis' board";

    fn sheet(&self) -> Sheet {
        match self {
            Self::Message { from, message: said } => message(Sheet::new().fact("brought by", from), said),
            Self::Offer(offer) => offer.sheet(),
            Self::Ordered => Sheet::new().fact("the TPM", "did as ordered").unchecked("whether that is so"),
            Self::Refused { places, why } => Sheet::new()
                .each(places, |place| ("refused".to_owned(), place.to_string()))
                .fact("because", why)
                .unchecked("whether that is so"),
            Self::Result(result) => result.sheet(),
        }
    }
}

impl Inspect for ProvisioningOffer {
    const KIND: &'static str = "an offer of a genesis: what an embassy's TPM is to do";

    fn sheet(&self) -> Sheet {
        let sheet = Sheet::new()
            .fact("network", self.charter)
            .fact("embassy", &self.embassy)
            .fact("generation", self.generation)
            .fact("number", self.number)
            .fact("storage root key", point(&self.storage_root))
            .fact("attestation key", point(&self.attestation_key));
        let sheet = match &self.stage {
            Stage::Counter => sheet.fact("the TPM is to", "move the generation counter once"),
            Stage::Registers { counter_first, pcrs, .. } => sheet
                .fact("the TPM is to", "write the platform register and the charter pin")
                .fact("generation counter", counter_first)
                .each(pcrs, |(pcr, value)| (format!("PCR {pcr}"), hex(value))),
        };
        sheet
            .each(&self.nonces, |nonce| ("TPM nonce".to_owned(), hex(nonce.as_bytes())))
            .unchecked("whose machine this is, and what it has booted: compare with home, and with each other")
    }
}

impl Inspect for GenesisResult {
    const KIND: &'static str = "what came of an embassy's genesis, for the completed charter";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("network", self.charter)
            .fact("under the charter", self.under)
            .fact("embassy", &self.embassy)
            .fact("generation", self.generation)
            .each(&self.certificates, |(unseal, recovery)| {
                let [unseal, recovery] = [unseal, recovery].map(|certificate| Hash::of_bytes(&certificate.encode()));
                ("certificates".to_owned(), format!("unseal {unseal}, recovery {recovery}"))
            })
            .fact("storage root key", point(&self.storage_root))
            .fact("attestation key", point(&self.attestation_key))
            .fact("generation counter", self.counter_first)
            .each(&self.pcrs, |(pcr, value)| (format!("approved PCR {pcr}"), hex(value)))
            .fact("custody key", point(&self.custody_key.point))
            .fact("identity key", point(&self.identity_key.point))
            .unchecked("the certificates and the attestation key's word on both keys: they need your charter")
            .unchecked("whose attestation key that is: home knows it from the day it set up the machine")
    }
}

impl Inspect for Journal {
    const KIND: &'static str = "an official's journal of a genesis: what this machine has said";

    fn sheet(&self) -> Sheet {
        KINDS
            .iter()
            .fold(Sheet::new().fact("official", self.official()), |sheet, kind| {
                let own = self.own(*kind);
                let attempt = own.attempt().map_or_else(|| "none".to_owned(), |attempt| attempt.to_string());
                let kept = own.kept().map_or_else(
                    || "none".to_owned(),
                    |(attempt, certificate)| format!("of attempt {attempt}, certificate {certificate}"),
                );
                sheet.fact(format!("{kind} quorum, last attempt"), attempt).fact(format!("{kind} quorum, share"), kept)
            })
            .unchecked("anything: it is this machine's own memory, and is signed by nobody")
    }
}

fn message(sheet: Sheet, message: &Message) -> Sheet {
    let sheet = sheet.fact("what", message.what());
    match message {
        Message::Contribution(kind, said) => {
            sheet.fact("quorum", kind).fact("from", said.from).fact("attempt", said.attempt)
        }
        Message::Round1(kind, attempt, said) => {
            sheet.fact("quorum", kind).fact("from", said.from).fact("attempt", attempt)
        }
        Message::Round3(kind, attempt, said) => {
            sheet.fact("quorum", kind).fact("from", said.from).fact("attempt", attempt)
        }
        Message::Evidence(kind, evidence) => {
            sheet.fact("quorum", kind).fact("accuses", evidence.accused()).fact("of", evidence.accusation())
        }
        Message::Recovery(kind, data) => {
            sheet.fact("quorum", kind).fact("certificate", Hash::of_bytes(&data.certificate().encode()))
        }
        Message::Signed(signed) => {
            let sheet = sheet.fact("says", &signed.by);
            match &signed.said {
                Said::Again { kind, attempt, reason } => {
                    sheet.fact("quorum", kind).fact("give up attempt", attempt).fact("because", reason)
                }
                Said::Confirmed { kind, certificate, recovery } => {
                    sheet.fact("quorum", kind).fact("certificate", certificate).fact("recovery data", recovery)
                }
                Said::Approved { offer, approvals } => sheet
                    .fact("offer", offer)
                    .each(approvals, |approval| ("approves the command".to_owned(), hex(approval.command()))),
                Said::Objected { offer, reason } => sheet.fact("offer", offer).fact("because", reason),
            }
        }
        Message::Charter(charter) => sheet
            .fact("charter", charter.unverified().hash())
            .each(charter.signers(), |signer| ("with a signature of".to_owned(), signer.to_string())),
    }
    .unchecked("who said it: it needs the officials' keys from your charter")
}
