//! Entries of the roll: every act that changes or reveals anything, as who did what, when and why. Never a secret.
//!
//! An entry has one encoding and one leaf hash, that of RFC 6962 §2.1, so that a transparency log can stand on the same
//! bytes. It is durable before the act takes effect; the driver of each ceremony sees to that. protocol.md §16.

mod act;
mod fact;
#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256};

use crate::protocol::{
    certificate::UnixTime,
    hash::Hash,
    ids::{AgentName, EmbassyName, OfficialName, OwnerName, SubjectName, WitnessName},
    label::Label,
    wire::{Document, Reader, Wire, WireError, Writer},
};

pub use act::Act;

/// Whose act it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// The embassy itself.
    Embassy(EmbassyName),
    /// An official.
    Official(OfficialName),
    /// A replication agent.
    Agent(AgentName),
    /// A data owner.
    Owner(OwnerName),
    /// The home authority.
    Home,
    /// A witness.
    Witness(WitnessName),
    /// An auditor.
    Auditor(SubjectName),
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embassy(name) => write!(f, "embassy {name}"),
            Self::Official(name) => write!(f, "official {name}"),
            Self::Agent(name) => write!(f, "agent {name}"),
            Self::Owner(name) => write!(f, "data owner {name}"),
            Self::Home => f.write_str("the home authority"),
            Self::Witness(name) => write!(f, "witness {name}"),
            Self::Auditor(name) => write!(f, "auditor {name}"),
        }
    }
}

impl Wire for Who {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Embassy(name) => out.u8(1).value(name),
            Self::Official(name) => out.u8(2).value(name),
            Self::Agent(name) => out.u8(3).value(name),
            Self::Owner(name) => out.u8(4).value(name),
            Self::Home => out.u8(5),
            Self::Witness(name) => out.u8(6).value(name),
            Self::Auditor(name) => out.u8(7).value(name),
        };
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        match input.u8("who")? {
            1 => input.value().map(Self::Embassy),
            2 => input.value().map(Self::Official),
            3 => input.value().map(Self::Agent),
            4 => input.value().map(Self::Owner),
            5 => Ok(Self::Home),
            6 => input.value().map(Self::Witness),
            7 => input.value().map(Self::Auditor),
            _ => Err(WireError::Invalid { field: "who", reason: "none of the seven" }),
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, by the embassy's clock.
    pub at: UnixTime,
    /// Whose act.
    pub by: Who,
    /// What, and why.
    pub act: Act,
}

impl Entry {
    /// The leaf that stands for it in a tree: SHA-256(0x00 ‖ bytes) (RFC 6962 §2.1).
    pub fn leaf_hash(&self) -> Hash {
        leaf_hash(&self.encode())
    }

    /// Everything it says, one line each: label and text.
    pub fn lines(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            ("at".to_owned(), self.at.to_string()),
            ("by".to_owned(), self.by.to_string()),
            ("act".to_owned(), self.act.name().to_owned()),
        ];
        self.act.show(&mut lines);
        lines
    }
}

/// The leaf of an encoded entry.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(entry);
    Hash(hash.finalize().into())
}

impl Wire for Entry {
    fn write(&self, out: &mut Writer) {
        out.value(&self.at).value(&self.by).value(&self.act);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { at: input.value()?, by: input.value()?, act: input.value()? })
    }
}

impl Document for Entry {
    const LABEL: Label = Label::ROLL_ENTRY;
    // 65,535: the most that a leaf of a tiled log may have (c2sp.org/tlog-tiles, entry bundles).
    const MAX_BYTES: usize = 65_535;
}
