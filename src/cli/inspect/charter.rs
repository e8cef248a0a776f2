//! Sheets of charters, with every key in full: what all other documents are compared with (protocol.md §12).

use chancery::protocol::{
    charter::{Charter, CharterCustody, CharterMachine, CharterSeen, QuorumRule, SignedCharter, Signer},
    ids::OfficialName,
    quorum_key::QuorumKey,
};

use super::{
    Inspect,
    sheet::{Sheet, hybrid, point},
};

const CONSISTENT: &str =
    "it contradicts itself nowhere: every name is introduced, no key has two uses, quorums can be reached";

impl Inspect for Charter {
    const KIND: &'static str = "a charter, without signatures";

    fn sheet(&self) -> Sheet {
        charter(Sheet::new(), self)
            .unchecked("whether it is in force: nobody signed this. Take the signed one from home")
    }
}

impl Inspect for SignedCharter {
    const KIND: &'static str = "a charter, with signatures";

    fn sheet(&self) -> Sheet {
        let signers: Vec<String> = self.signers().map(ToString::to_string).collect();
        let signed = if signers.is_empty() { "nobody yet".to_owned() } else { signers.join(", ") };
        let sheet = Sheet::new().fact("signed by, as it says", signed);
        let sheet = if !self.signers().any(|signer| *signer == Signer::Home) && !signers.is_empty() {
            sheet.fact(
                "ATTENTION",
                "the home authority did not sign this: only a recovery quorum can put it in force alone",
            )
        } else {
            sheet
        };
        let parts = self.unverified().parts();
        let sheet = charter(sheet, self.unverified());
        if signers.is_empty() {
            return sheet.unchecked("whether it will be in force: it is a draft that nobody has signed");
        }
        if parts.version != 1 {
            return sheet
                .unchecked("whether it is in force: the signatures need its predecessor, whose officials sign");
        }
        // A founding charter names the key that signed it, so the signature can be checked; whose key it is cannot.
        match self.clone().found(parts.country, &parts.home) {
            Ok(_) => sheet.checked("the home key that it names signed it").unchecked(
                "whether that home key is your home authority's: compare it with the one you were given in person",
            ),
            Err(error) => sheet.unchecked("everything else").wrong(error.to_string()),
        }
    }
}

impl Inspect for CharterMachine {
    const KIND: &'static str = "one embassy's TPM keys, for the completed charter";

    fn sheet(&self) -> Sheet {
        machine(Sheet::new(), self).unchecked(
            "whether a TPM holds them: the officials who provisioned it know, and sign the charter that names them",
        )
    }
}

impl Inspect for CharterSeen {
    const KIND: &'static str = "what a reader remembers of the last charter it saw";

    fn sheet(&self) -> Sheet {
        Sheet::new()
            .fact("version", self.version)
            .fact("hash", self.hash)
            .unchecked("anything: it is this machine's own memory. Keep it, or an older charter would not be noticed")
    }
}

fn charter(sheet: Sheet, charter: &Charter) -> Sheet {
    let parts = charter.parts();
    let sheet = sheet
        .fact("country", parts.country)
        .fact("version", parts.version)
        .fact("charter id", charter.id())
        .fact("hash", charter.hash());
    let sheet = match &parts.previous {
        Some(previous) => sheet.fact("predecessor's hash", previous),
        None => sheet.fact("predecessor's hash", "none: the founding charter"),
    };
    let sheet = sheet
        .fact("home key", point(&parts.home))
        .fact("unseal", rule(&parts.unseal))
        .fact("amend", format!("{} of the unseal quorum's", parts.amend_k))
        .fact("recovery", rule(&parts.recovery))
        .fact("longest approval", format!("{} seconds", parts.expiry_max_seconds))
        .fact(
            "heartbeat",
            format!("{} seconds without one suspend a lease, twice as many end it", parts.heartbeat_seconds),
        )
        .fact("access policy's hash", parts.policy);
    let sheet = parts.officials.iter().fold(sheet, |sheet, official| {
        let name = &official.name;
        sheet
            .fact(format!("official {name}: identity key"), point(&official.identity))
            .fact(format!("official {name}: hybrid key"), hybrid(&official.hybrid))
            .fact(format!("official {name}: DKG static key"), point(&official.dkg))
    });
    let sheet = parts.embassies.iter().fold(sheet, |sheet, embassy| {
        let pcrs: Vec<String> = embassy.platform.pcrs().map(|pcr| pcr.to_string()).collect();
        let leases = if embassy.leases { "leases allowed" } else { "release only" };
        let text = format!("class {}, {leases}, platform PCRs {}", embassy.class, pcrs.join(" "));
        sheet.fact(format!("embassy {}", embassy.name), text)
    });
    let sheet = match &parts.custody {
        Some(agreed) => custody(sheet, agreed),
        None => sheet.fact("custody", "none yet: the quorums' and embassies' keys come with a later version"),
    };
    sheet
        .each(&parts.owners, |owner| (format!("data owner {}: key", owner.name), point(&owner.key)))
        .each(&parts.witnesses, |witness| (format!("witness {}: key", witness.name), point(&witness.key)))
        .each(&parts.datasets, |dataset| (format!("dataset {}", dataset.name), format!("of {}", dataset.owner)))
        .checked(CONSISTENT)
}

fn custody(sheet: Sheet, custody: &CharterCustody) -> Sheet {
    let quorum = |sheet: Sheet, name: &str, key: &QuorumKey, certificate: &dyn std::fmt::Display| {
        sheet
            .fact(format!("{name}: quorum key Y"), point(key.key()))
            .fact(format!("{name}: DKG certificate's hash"), certificate)
    };
    let sheet = sheet.fact("generation", custody.generation);
    let sheet = quorum(sheet, "unseal", &custody.unseal, &custody.unseal_certificate);
    let sheet = quorum(sheet, "recovery", &custody.recovery, &custody.recovery_certificate);
    custody.machines.iter().fold(sheet, machine)
}

fn machine(sheet: Sheet, machine: &CharterMachine) -> Sheet {
    let name = &machine.embassy;
    sheet
        .fact(format!("embassy {name}: storage root key"), point(&machine.storage_root))
        .fact(format!("embassy {name}: attestation key"), point(&machine.attestation_key))
        .fact(format!("embassy {name}: custody key T"), point(&machine.custody_key))
        .fact(format!("embassy {name}: identity key"), point(&machine.identity_key))
        .fact(format!("embassy {name}: generation counter"), machine.counter_first)
}

fn rule(rule: &QuorumRule) -> String {
    let names: Vec<&str> = rule.members.iter().map(OfficialName::as_str).collect();
    format!("{}: {}", rule.threshold, names.join(", "))
}
