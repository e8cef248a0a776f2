//! What travels between an embassy and its visitors: the JSON around chancery's own documents.
//!
//! A document (`protocol/wire.rs`) stands in a field `document`, in base64; only its bytes are signed, hashed or acted
//! upon. Everything beside it is for people and is worth no more than the machine that said it.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::protocol::wire::{Document, WireError};

/// The media type of a refusal (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What every `type` of a refusal begins with; the code follows.
pub const PROBLEM_TYPE: &str = "urn:chancery:problem:";

/// A refusal: what happened, who can act, what to do next (RFC 9457 with members of chancery's own).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[error("{detail} ({code}). Who can act: {who_can_act}. Next: {what_next}")]
pub struct Problem {
    /// `urn:chancery:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// Stable; programs decide by it.
    pub code: String,
    /// What happened, the same for each code.
    pub title: String,
    /// What happened this time.
    pub detail: String,
    /// Who can do something about it.
    pub who_can_act: String,
    /// What to do.
    pub what_next: String,
    /// The HTTP status.
    pub status: u16,
}

/// Why a `document` field was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedTextError {
    /// Not base64 with padding (RFC 4648 §4).
    #[error("the document is not base64 (RFC 4648 §4, with padding)")]
    Base64,
    /// Not the document that is expected.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// One of chancery's documents on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DocumentBody {
    /// The document's bytes, in base64.
    pub document: String,
}

impl DocumentBody {
    /// Packs a document.
    pub fn of(document: &impl Document) -> Self {
        Self::of_bytes(&document.encode())
    }

    /// Packs bytes that are a document already, or DER.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self { document: STANDARD.encode(bytes) }
    }

    /// The bytes.
    ///
    /// # Errors
    /// [`SealedTextError::Base64`].
    pub fn bytes(&self) -> Result<Vec<u8>, SealedTextError> {
        STANDARD.decode(&self.document).map_err(|_| SealedTextError::Base64)
    }

    /// Unpacks a document of one kind.
    ///
    /// # Errors
    /// [`SealedTextError`].
    pub fn read<D: Document>(&self) -> Result<D, SealedTextError> {
        Ok(D::decode(&self.bytes()?)?)
    }
}

/// `GET /v1/status`: who this embassy says it is, and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct Status {
    /// The embassy's name.
    pub embassy: String,
    /// The country of its charter.
    pub country: String,
    /// `serving`, or `founding` before its keys are made.
    pub mode: String,
    /// The network: the founding charter's hash.
    pub charter: String,
    /// The version of the charter in force.
    pub charter_version: u32,
    /// Its hash.
    pub charter_hash: String,
    /// The version that the TPM was told of by the quorum: an older charter is refused at the next start. None where the TPM
    /// does not answer, and during a founding.
    pub pinned_version: Option<u32>,
    /// Its hash, as the TPM's charter pin holds it.
    pub pinned_hash: Option<String>,
    /// The number of home's revocation list in force.
    pub revocation_list: u64,
    /// When the next revocation list is due, in seconds since 1970. Past it, nobody is let in.
    pub revocation_list_until: i64,
    /// TPM resets, as the TPM counts them; what a statement must acknowledge.
    pub reset_count: Option<u32>,
    /// TPM restarts since the last reset.
    pub restart_count: Option<u32>,
    /// How many entries the roll has.
    pub roll_size: u64,
    /// How many leases stand, live or suspended.
    pub leases: u64,
    /// How the memory of their keys is protected: secret memory, or less where the kernel has none.
    pub key_memory: String,
    /// How many seconds ago the last witness's beat counts from; none where none was heard since the start.
    pub last_beat_seconds: Option<u64>,
    /// The machine's clock, in seconds since 1970.
    pub now: i64,
    /// Who you are here.
    pub you: You,
}

/// Whom the embassy takes its visitor for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct You {
    /// The role in the certificate.
    pub role: String,
    /// The name in the certificate.
    pub name: String,
    /// Whether the connection's keys were exchanged with X25519MLKEM768.
    pub hybrid: bool,
}

/// A document was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct Taken {
    /// What it is known by from now on: a ceremony's id, a charter's hash, a list's number.
    pub id: String,
    /// `false` where the very same document had been taken before: nothing was done again.
    pub new: bool,
}

/// `GET /v1/charters`: the chain, as far as one answer goes. Ask again from one more than the last version until none comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct CharterPage {
    /// Signed charters by version, the founding one first.
    pub documents: Vec<DocumentBody>,
    /// The version in force.
    pub in_force: u32,
}

/// `GET /v1/revocations`: home's list in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct RevocationList {
    /// The list (DER), in base64.
    pub document: String,
    /// Its number.
    pub number: u64,
    /// When the next one is due, in seconds since 1970.
    pub until: i64,
}

/// One version of a dataset, in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct DatasetLine {
    /// The dataset.
    pub dataset: String,
    /// The version.
    pub version: u32,
    /// Its data owner.
    pub owner: String,
    /// The generation of custody it is sealed for.
    pub generation: u32,
    /// The age recipient that agents encrypt to.
    pub recipient: String,
    /// SHA-256 of the signed record.
    pub record: String,
}

/// `GET /v1/datasets`: versions by dataset, as far as one answer goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct DatasetPage {
    /// Each version of each dataset.
    pub versions: Vec<DatasetLine>,
    /// Where to go on (`?after=`); none at the end.
    pub next: Option<String>,
}

/// One entry of the roll.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct RollEntry {
    /// Its place, from 0.
    pub sequence: u64,
    /// Its leaf hash (RFC 6962 §2.1).
    pub leaf: String,
    /// The entry's own bytes, in base64.
    pub document: String,
    /// What it says, for people.
    pub lines: Vec<Line>,
}

/// One line of a text for people: what, and what about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct Line {
    /// What is said.
    pub label: String,
    /// About it.
    pub text: String,
}

impl Line {
    /// Takes lines as `protocol` makes them.
    pub fn of(lines: impl IntoIterator<Item = (String, String)>) -> Vec<Self> {
        lines.into_iter().map(|(label, text)| Self { label, text }).collect()
    }
}

/// `GET /v1/roll`: entries in order, as far as one answer goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct RollPage {
    /// How many entries there are.
    pub size: u64,
    /// From the one that was asked for.
    pub entries: Vec<RollEntry>,
}
