//! What the recipient of a release fetches. All of it is sealed to the recipient or signed, and is checked there.

use serde::{Deserialize, Serialize};

use crate::client::api::DocumentBody;

/// `GET /v1/ceremonies/{id}/release`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct ReleaseBody {
    /// The offer that the officials answered, as the embassy signed it; the statement is inside.
    pub offer: DocumentBody,
    /// The officials' contributions, k or more, sealed to the recipient.
    pub contributions: Vec<DocumentBody>,
    /// The TPM's halves, sealed to the recipient.
    pub parts: DocumentBody,
}
