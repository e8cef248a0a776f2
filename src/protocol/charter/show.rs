//! The charter in plain words: what an official, asked to sign it, has to read. And what changed since its predecessor.

use std::fmt;

use crate::protocol::{
    charter::{Charter, CharterParts, QuorumRule},
    group::Point,
    hash::Hash,
    ids::OfficialName,
};

/// The first bytes of a key's hash: enough to compare by telephone, as one of many checks.
fn short(key: &Point) -> String {
    Hash::of_bytes(&key.encode()).to_string().chars().take(16).collect()
}

fn members(rule: &QuorumRule) -> String {
    let names: Vec<&str> = rule.members.iter().map(OfficialName::as_str).collect();
    format!("{}: {}", rule.threshold, names.join(", "))
}

impl fmt::Display for Charter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CharterParts { version, country, home, officials, unseal, amend_k, recovery, expiry_max_seconds, .. } =
            self.parts();
        let CharterParts { embassies, owners, datasets, policy, custody, previous, .. } = self.parts();
        writeln!(f, "charter of {country}, version {version}")?;
        writeln!(f, "  network   {}", self.id())?;
        writeln!(f, "  this one  {}", self.hash())?;
        if let Some(previous) = previous {
            writeln!(f, "  follows   {previous}")?;
        }
        writeln!(f, "  home key  {}", short(home))?;
        writeln!(f, "  to unseal a dataset at an embassy: {}", members(unseal))?;
        writeln!(f, "  to amend what an embassy is:       {amend_k} of the same")?;
        writeln!(f, "  to recover without an embassy:     {}", members(recovery))?;
        writeln!(f, "  an approval is good for at most {expiry_max_seconds} s; policy {policy}")?;
        writeln!(f, "officials (identity key, DKG key)")?;
        for official in officials {
            writeln!(f, "  {}  {}  {}", official.name, short(&official.identity), short(&official.dkg))?;
        }
        writeln!(f, "embassies")?;
        for embassy in embassies {
            let leases = if embassy.leases { "leases allowed" } else { "release only" };
            let pcrs: Vec<String> = embassy.platform.pcrs().map(|pcr| pcr.to_string()).collect();
            writeln!(f, "  {}  class {}, {leases}, platform PCRs {}", embassy.name, embassy.class, pcrs.join(" "))?;
            let machine = custody.iter().flat_map(|custody| &custody.machines).find(|m| m.embassy == embassy.name);
            match machine {
                Some(machine) => writeln!(
                    f,
                    "    custody key {}, identity key {}, generation counter {}",
                    short(&machine.custody_key),
                    short(&machine.identity_key),
                    machine.counter_first
                )?,
                None => writeln!(f, "    has no custody key yet")?,
            }
        }
        if let Some(custody) = custody {
            writeln!(f, "custody, generation {}", custody.generation)?;
            writeln!(f, "  unseal key    {}  certificate {}", short(custody.unseal.key()), custody.unseal_certificate)?;
            writeln!(
                f,
                "  recovery key  {}  certificate {}",
                short(custody.recovery.key()),
                custody.recovery_certificate
            )?;
        }
        writeln!(f, "datasets")?;
        for dataset in datasets {
            writeln!(f, "  {}  of {}", dataset.name, dataset.owner)?;
        }
        writeln!(f, "data owners")?;
        owners.iter().try_for_each(|owner| writeln!(f, "  {}  {}", owner.name, short(&owner.key)))
    }
}

impl Charter {
    /// What a successor changes, a line each, in words.
    pub fn changes(&self, successor: &Self) -> Vec<String> {
        // Both are shown whole by the same code, so a line that stands in one only is a change.
        let (before, after) = (self.to_string(), successor.to_string());
        let only_in = |one: &str, other: &str, sign: char| -> Vec<String> {
            one.lines()
                .filter(|line| !other.lines().any(|known| known == *line))
                .map(|line| format!("{sign} {}", line.trim()))
                .collect()
        };
        let mut changes = only_in(&before, &after, '-');
        changes.extend(only_in(&after, &before, '+'));
        changes
    }
}
