//! What travels in a founding: where it stands, the board's posts, and answers to what is said (protocol.md §19).

use serde::{Deserialize, Serialize};

use crate::client::api::DocumentBody;

/// `GET /v1/genesis`: where the founding stands, in the embassy's words. Who acts on it reads the board instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct GenesisView {
    /// The embassy.
    pub embassy: String,
    /// The step, from 1.
    pub step: u8,
    /// How many steps there are.
    pub steps: u8,
    /// What is waited for.
    pub waiting: String,
    /// Whose turn it is.
    pub missing: Vec<String>,
    /// What else is to be known.
    pub notes: Vec<String>,
    /// What comes after.
    pub next: String,
    /// How many posts the board has.
    pub posts: u64,
}

/// `GET /v1/genesis/messages?from=`: posts of the board (chancery/v1/genesis/post), in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct BoardPage {
    /// The first one's number, from 0.
    pub from: u64,
    /// The posts.
    pub posts: Vec<DocumentBody>,
    /// How many posts the board has.
    pub size: u64,
}

/// The answer to something said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct Heard {
    /// Whether it changed something; false where it was known.
    pub new: bool,
    /// How many posts the board has.
    pub size: u64,
}
