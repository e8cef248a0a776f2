//! What an embassy says of its ceremonies. Hearsay, all of it but the documents inside: those are signed, and are checked by
//! whoever acts.

use serde::{Deserialize, Serialize};

use crate::client::api::DocumentBody;

/// `GET /v1/ceremonies/{id}`, and what each event of `GET /v1/ceremonies/{id}/events` carries as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct CeremonyView {
    /// The ceremony's id: SHA-256 of its statement, in hexadecimal.
    pub id: String,
    /// `awaiting-offer`, `collecting`, `opening`, `released` or `ended`.
    pub phase: String,
    /// The statement as its opener signed it.
    pub statement: DocumentBody,
    /// Counts the offers; 0 before the first.
    pub attempt: u32,
    /// Officials whose contributions count in this attempt.
    pub contributed: Vec<String>,
    /// How many it takes.
    pub need: u8,
    /// Officials of the quorum who have neither contributed nor denied.
    pub missing: Vec<String>,
    /// Officials who voted against it.
    pub denied: Vec<String>,
    /// How many denials end it.
    pub denials_that_end: u8,
    /// Officials who provably sent something wrong.
    pub culprits: Vec<String>,
    /// What holds it up, if anything does.
    pub trouble: Option<String>,
    /// How it ended; none while it goes on.
    pub outcome: Option<String>,
    /// The lease that it gave, while that lives.
    pub lease: Option<String>,
    /// What comes next, and who can act.
    pub next: String,
}

/// `GET /v1/ceremonies`: the newest first, as far as one answer goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct CeremonyPage {
    /// Each as it stands.
    pub ceremonies: Vec<CeremonyView>,
    /// Where to go on (`?after=`); none at the end.
    pub next: Option<String>,
}

/// What a contribution, denial or stop came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct CeremonyAnswer {
    /// `accepted`, `already-accepted` (the very same came before; nothing was done again) or `taken` (denials and stops).
    pub reply: String,
    /// The ceremony as it stands now.
    pub ceremony: CeremonyView,
}
