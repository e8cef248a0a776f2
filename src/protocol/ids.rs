//! Identifiers: names, charter ids, generations, versions, and which quorum is meant.

use std::num::NonZeroU32;

use crate::protocol::{
    hash::Hash,
    wire::{Reader, Wire, WireError, Writer},
};

/// The longest name, in bytes (a DNS label's length, so that every name fits a certificate and a URI).
pub const MAX_NAME_BYTES: usize = 63;

/// Why a name is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 63 characters of a-z, 0-9 and '-', and begins and ends with a letter or digit")]
pub struct NameError;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $field:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// # Errors
            /// [`NameError`] unless the text has 1 to 63 characters of a-z, 0-9 and inner '-'.
            pub fn new(text: &str) -> Result<Self, NameError> {
                if is_name(text) { Ok(Self(text.to_owned())) } else { Err(NameError) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl Wire for $name {
            fn write(&self, out: &mut Writer) {
                out.bytes(self.0.as_bytes());
            }
            fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
                let text = std::str::from_utf8(input.bytes(MAX_NAME_BYTES, $field)?).ok();
                text.and_then(|text| Self::new(text).ok())
                    .ok_or(WireError::Invalid { field: $field, reason: "not a name" })
            }
        }
    )*};
}

names! {
    /// An embassy: one machine with one TPM or HSM.
    EmbassyName, "embassy name";
    /// An official.
    OfficialName, "official name";
    /// A dataset: one register that is replicated.
    DatasetName, "dataset name";
    /// A data owner: the agency whose register a dataset is.
    OwnerName, "data owner name";
    /// A replication agent: a program that a lease names.
    AgentName, "agent name";
    /// A witness: whose beats keep leases alive, and who cosigns the roll's head.
    WitnessName, "witness name";
    /// Whoever has a key or a certificate, in whatever role.
    SubjectName, "subject name";
}

fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !text.is_empty()
        && text.len() <= MAX_NAME_BYTES
        && text.bytes().all(|byte| inner(byte) || byte == b'-')
        && text.bytes().next().is_some_and(inner)
        && text.bytes().next_back().is_some_and(inner)
}

/// Names one embassy network for ever: the hash of its founding charter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CharterId(pub Hash);

impl std::fmt::Display for CharterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Wire for CharterId {
    fn write(&self, out: &mut Writer) {
        self.0.write(out);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Hash::read(input).map(Self)
    }
}

/// One charter of a network: its place in the chain, and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CharterAt {
    /// Its version.
    pub version: u32,
    /// Its hash: what the TPM's charter pin holds once the charter is adopted.
    pub hash: Hash,
}

impl std::fmt::Display for CharterAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "version {}, {}", self.version, self.hash)
    }
}

impl Wire for CharterAt {
    fn write(&self, out: &mut Writer) {
        out.u32(self.version).value(&self.hash);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { version: input.u32("charter version")?, hash: input.value()? })
    }
}

/// Names one ceremony: the hash of its statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CeremonyId(pub Hash);

impl std::fmt::Display for CeremonyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Wire for CeremonyId {
    fn write(&self, out: &mut Writer) {
        self.0.write(out);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Hash::read(input).map(Self)
    }
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident, $field:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(NonZeroU32);

        impl $name {
            /// The first one.
            pub const FIRST: Self = Self(NonZeroU32::MIN);

            /// `None` for 0.
            pub const fn new(number: u32) -> Option<Self> {
                match NonZeroU32::new(number) {
                    Some(number) => Some(Self(number)),
                    None => None,
                }
            }

            /// The number, from 1.
            pub const fn get(self) -> u32 {
                self.0.get()
            }

            /// The next one; `None` after the last.
            pub const fn next(self) -> Option<Self> {
                match self.0.checked_add(1) {
                    Some(number) => Some(Self(number)),
                    None => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Wire for $name {
            fn write(&self, out: &mut Writer) {
                out.u32(self.0.get());
            }
            fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
                Self::new(input.u32($field)?).ok_or(WireError::Invalid { field: $field, reason: "counted from 1" })
            }
        }
    )*};
}

numbers! {
    /// A generation of custody: a new one for every change of members or machine.
    Generation, "generation";
    /// A try at making one generation's quorum key: each new one has a new number.
    Attempt, "attempt";
    /// A version of a dataset's key.
    DatasetVersion, "dataset version";
}

/// Which of a charter's two quorums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuorumKind {
    /// Opens datasets, together with the embassy's TPM.
    Unseal,
    /// Higher; alone opens without an embassy.
    Recovery,
}

impl QuorumKind {
    const fn code(self) -> u8 {
        match self {
            Self::Unseal => 1,
            Self::Recovery => 2,
        }
    }
}

impl std::fmt::Display for QuorumKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unseal => "unseal",
            Self::Recovery => "recovery",
        })
    }
}

impl Wire for QuorumKind {
    fn write(&self, out: &mut Writer) {
        out.u8(self.code());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        match input.u8("quorum kind")? {
            1 => Ok(Self::Unseal),
            2 => Ok(Self::Recovery),
            _ => Err(WireError::Invalid { field: "quorum kind", reason: "neither unseal (1) nor recovery (2)" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["a", "land-register", "2", "x2-y", &"a".repeat(63)] {
            assert!(DatasetName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a b", "ä", "a/b", "a.b", &"a".repeat(64), "a\n"] {
            assert!(DatasetName::new(bad).is_err(), "{bad:?}");
        }
    }
}
