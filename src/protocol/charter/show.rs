//! The charter in plain words: what an official, asked to sign it, has to read. And what changed since its predecessor.
//!
//! Everything that a charter says is shown, and every line names whose it is: who signs sees each change.

use std::{collections::BTreeSet, fmt};

use crate::protocol::{
    charter::{Charter, CharterParts, QuorumRule},
    group::Point,
    hash::Hash,
    ids::OfficialName,
    quorum_key::QuorumKey,
    wire::Document,
};

/// The first 128 bits of a key's hash: nobody can make another key that is shown so.
fn short(key: &[u8]) -> String {
    Hash::of_bytes(key).to_string().chars().take(32).collect()
}

fn point(key: &Point) -> String {
    short(&key.encode())
}

fn quorum_key(key: &QuorumKey) -> String {
    format!("{}, with its verification shares {}", point(key.key()), short(&key.encode()))
}

fn members(rule: &QuorumRule) -> String {
    let names: Vec<&str> = rule.members.iter().map(OfficialName::as_str).collect();
    format!("{}: {}", rule.threshold, names.join(", "))
}

impl fmt::Display for Charter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CharterParts { version, country, home, officials, unseal, amend_k, recovery, .. } = self.parts();
        let CharterParts { expiry_max_seconds, heartbeat_seconds, policy, previous, .. } = self.parts();
        let CharterParts { embassies, owners, datasets, witnesses, custody, .. } = self.parts();
        writeln!(f, "charter of {country}, version {version}")?;
        writeln!(f, "  network   {}", self.id())?;
        writeln!(f, "  this one  {}", self.hash())?;
        if let Some(previous) = previous {
            writeln!(f, "  follows   {previous}")?;
        }
        writeln!(f, "  home key  {}", point(home))?;
        writeln!(f, "  to unseal a dataset at an embassy: {}", members(unseal))?;
        writeln!(f, "  to amend what an embassy is:       {amend_k} of the same")?;
        writeln!(f, "  to recover without an embassy:     {}", members(recovery))?;
        writeln!(f, "  an approval is good for at most {expiry_max_seconds} s; policy {policy}")?;
        let wiped = u64::from(*heartbeat_seconds).saturating_mul(2);
        writeln!(
            f,
            "  a lease without a witness's beat is suspended after {heartbeat_seconds} s, wiped after {wiped} s"
        )?;
        writeln!(f, "officials")?;
        for official in officials {
            let name = &official.name;
            writeln!(f, "  {name}  identity key {}", point(&official.identity))?;
            writeln!(f, "  {name}  hybrid key   {}", short(&official.hybrid.encode()))?;
            writeln!(f, "  {name}  DKG key      {}", point(&official.dkg))?;
        }
        writeln!(f, "embassies")?;
        for embassy in embassies {
            let name = &embassy.name;
            let leases = if embassy.leases { "leases allowed" } else { "release only" };
            let pcrs: Vec<String> = embassy.platform.pcrs().map(|pcr| pcr.to_string()).collect();
            let handles = &embassy.handles;
            writeln!(f, "  {name}  class {}, {leases}, platform PCRs {}", embassy.class, pcrs.join(" "))?;
            writeln!(
                f,
                "  {name}  NV indices: counter {:#010x}, register {:#010x}, charter pin {:#010x}",
                handles.counter.get(),
                handles.register.get(),
                handles.charter_pin.get()
            )?;
            let machine = custody.iter().flat_map(|custody| &custody.machines).find(|m| m.embassy == *name);
            match machine {
                Some(machine) => {
                    writeln!(f, "  {name}  storage root of its machine {}", point(&machine.storage_root))?;
                    writeln!(f, "  {name}  attestation key of its machine {}", point(&machine.attestation_key))?;
                    writeln!(f, "  {name}  custody key of its machine  {}", point(&machine.custody_key))?;
                    writeln!(f, "  {name}  identity key of its machine {}", point(&machine.identity_key))?;
                    writeln!(f, "  {name}  generation counter of its machine {}", machine.counter_first)?;
                }
                None => writeln!(f, "  {name}  has no custody key yet")?,
            }
        }
        if let Some(custody) = custody {
            writeln!(f, "custody, generation {}", custody.generation)?;
            writeln!(f, "  unseal key    {}", quorum_key(&custody.unseal))?;
            writeln!(f, "  unseal key    by certificate {}", custody.unseal_certificate)?;
            writeln!(f, "  recovery key  {}", quorum_key(&custody.recovery))?;
            writeln!(f, "  recovery key  by certificate {}", custody.recovery_certificate)?;
        }
        writeln!(f, "datasets")?;
        for dataset in datasets {
            writeln!(f, "  {}  of {}", dataset.name, dataset.owner)?;
        }
        writeln!(f, "data owners")?;
        owners.iter().try_for_each(|owner| writeln!(f, "  {}  owner's key {}", owner.name, point(&owner.key)))?;
        writeln!(f, "witnesses")?;
        witnesses
            .iter()
            .try_for_each(|witness| writeln!(f, "  {}  witness's key {}", witness.name, point(&witness.key)))
    }
}

impl Charter {
    /// What a successor changes, a line each, in words.
    pub fn changes(&self, successor: &Self) -> Vec<String> {
        // Both are shown whole by the same code, and every line names its place, so a line that stands in one only is a change.
        let (before, after) = (self.to_string(), successor.to_string());
        let (old, new): (BTreeSet<&str>, BTreeSet<&str>) = (before.lines().collect(), after.lines().collect());
        let gone = before.lines().filter(|line| !new.contains(line)).map(|line| format!("- {}", line.trim()));
        let come = after.lines().filter(|line| !old.contains(line)).map(|line| format!("+ {}", line.trim()));
        gone.chain(come).collect()
    }
}
