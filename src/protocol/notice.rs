//! What an official says against a ceremony: a denial, which is a vote, or a stop, which ends it (protocol.md §10.5).
//!
//! Both name the ceremony by its statement's hash, say why in one paragraph, and are signed by the official's identity key.
//! They bind nothing of an offer, so they hold for every attempt, and a repeat changes nothing.

use p256::ecdsa::Signature;

use crate::protocol::{
    facts::CustodyFacts,
    hash::Hash,
    ids::{CeremonyId, OfficialName},
    label::Label,
    quorum::Position,
    signer::{DigestSigner, SignError, low, read_signature, signed_by},
    wire::{Document, Reader, Wire, WireError, Writer},
};

pub use crate::protocol::paragraph::Reason;

/// Why a denial or a stop is not taken. Nobody is counted or blamed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoticeError {
    /// It is about another ceremony.
    #[error("it is about another ceremony: {about}")]
    OtherCeremony {
        /// Which.
        about: CeremonyId,
    },
    /// The name is not of those who may say so.
    #[error("{official} is no official of this charter whose word counts here")]
    Stranger {
        /// The name.
        official: OfficialName,
    },
    /// The named official did not sign it.
    #[error("it was not signed by {official}, in whose name it came")]
    Signature {
        /// The name.
        official: OfficialName,
    },
}

/// What denial and stop have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Notice {
    ceremony: CeremonyId,
    official: OfficialName,
    reason: Reason,
    signature: Signature,
}

impl Notice {
    fn digest(label: Label, ceremony: &CeremonyId, official: &OfficialName, reason: &Reason) -> Hash {
        Hash::of(label, |out| {
            out.value(ceremony).value(official).value(reason);
        })
    }

    fn sign(
        label: Label,
        ceremony: CeremonyId,
        official: OfficialName,
        reason: Reason,
        key: &dyn DigestSigner,
    ) -> Result<Self, SignError> {
        let signature = low(key.sign_digest(&Self::digest(label, &ceremony, &official, &reason))?);
        Ok(Self { ceremony, official, reason, signature })
    }

    fn verify(&self, label: Label, ceremony: &CeremonyId, facts: &CustodyFacts) -> Result<(), NoticeError> {
        if self.ceremony != *ceremony {
            return Err(NoticeError::OtherCeremony { about: self.ceremony });
        }
        let official = || self.official.clone();
        let known = facts.official(&self.official).ok_or_else(|| NoticeError::Stranger { official: official() })?;
        let digest = Self::digest(label, &self.ceremony, &self.official, &self.reason);
        if signed_by(&known.identity, &digest, &self.signature) {
            Ok(())
        } else {
            Err(NoticeError::Signature { official: official() })
        }
    }
}

impl Wire for Notice {
    fn write(&self, out: &mut Writer) {
        out.value(&self.ceremony).value(&self.official).value(&self.reason).raw(&self.signature.to_bytes());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            ceremony: input.value()?,
            official: input.value()?,
            reason: input.value()?,
            signature: read_signature(input)?,
        })
    }
}

macro_rules! notices {
    ($($(#[$doc:meta])* $name:ident, $signature:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(Notice);

        impl $name {
            /// Signs with the official's identity key.
            ///
            /// # Errors
            /// [`SignError`] where the key does not sign.
            pub fn sign(
                ceremony: CeremonyId,
                official: OfficialName,
                reason: Reason,
                key: &dyn DigestSigner,
            ) -> Result<Self, SignError> {
                Notice::sign(Label::$signature, ceremony, official, reason, key).map(Self)
            }

            /// Which ceremony it is about, unchecked: for finding it.
            pub const fn ceremony(&self) -> CeremonyId {
                self.0.ceremony
            }

            /// Who says so, unchecked.
            pub const fn unverified_official(&self) -> &OfficialName {
                &self.0.official
            }

            /// Why.
            pub const fn reason(&self) -> &Reason {
                &self.0.reason
            }
        }

        impl Wire for $name {
            fn write(&self, out: &mut Writer) {
                self.0.write(out);
            }
            fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
                Notice::read(input).map(Self)
            }
        }
    )*};
}

notices! {
    /// A vote against a ceremony, of an official of the unseal quorum. n - k + 1 of them end it.
    Denial, DENIAL_SIGNATURE;
    /// An order of any one official to end a ceremony, and the lease that came of it.
    Stop, STOP_SIGNATURE;
}

impl Document for Denial {
    const LABEL: Label = Label::DENIAL;
    const MAX_BYTES: usize = 1024;
}

impl Document for Stop {
    const LABEL: Label = Label::STOP;
    const MAX_BYTES: usize = 1024;
}

impl Denial {
    /// Whose vote it is.
    ///
    /// # Errors
    /// [`NoticeError`] unless a member of the unseal quorum signed it about this ceremony.
    pub fn verify(&self, ceremony: &CeremonyId, facts: &CustodyFacts) -> Result<Position, NoticeError> {
        let Notice { official, .. } = &self.0;
        let stranger = || NoticeError::Stranger { official: official.clone() };
        // The name of a member of the recovery quorum alone is one who cannot approve, and so has no vote against.
        let position = facts.unseal().position_of(official).ok_or_else(stranger)?;
        self.0.verify(Label::DENIAL_SIGNATURE, ceremony, facts)?;
        Ok(position)
    }
}

impl Stop {
    /// Whose order it is.
    ///
    /// # Errors
    /// [`NoticeError`] unless an official of either quorum signed it about this ceremony.
    pub fn verify(&self, ceremony: &CeremonyId, facts: &CustodyFacts) -> Result<&OfficialName, NoticeError> {
        self.0.verify(Label::STOP_SIGNATURE, ceremony, facts)?;
        Ok(&self.0.official)
    }
}
