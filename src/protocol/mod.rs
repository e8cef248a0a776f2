//! What everyone must agree on, byte for byte: pure functions and types.
//!
//! No IO, no clock, no randomness of its own: time, random generators and settings are arguments. Nothing here trusts its
//! input; every decoder is bounded and total, and accepts only what the encoder writes. The numbered steps are those of
//! `docs/protocol.md`.
#![deny(clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod access;
pub mod beat;
pub mod card;
pub mod ceremony;
pub mod certificate;
pub mod charter;
pub mod contribution;
pub mod dataset;
pub mod dataset_version;
pub mod dkg;
pub mod evidence;
pub mod facts;
pub mod gathering;
pub mod group;
pub mod hash;
pub mod hybrid;
pub mod ids;
pub mod label;
pub mod lease;
pub mod notice;
pub mod offer;
pub mod paragraph;
pub mod partial;
pub mod quorum;
pub mod quorum_key;
pub mod recipient;
pub mod release;
pub mod roll;
pub mod secret;
pub mod signer;
pub mod slot;
pub mod statement;
pub mod tpm;
pub mod wire;
pub mod words;
