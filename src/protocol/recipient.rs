//! The recipient of a release: who it is by home's certificate, and the key that everything is sealed to.
//!
//! A [`RecipientCard`] travels inside the statement. It is shown by name and believed only as a [`Recipient`], which exists
//! where the certificate hangs on the home authority and its key signed the rest (protocol.md §10.2).

use p256::ecdsa::Signature;

use crate::protocol::{
    certificate::{CertificateError, HomeAuthority, Identity, MAX_CERTIFICATE_BYTES, Revocations, Role, UnixTime},
    hash::Hash,
    hybrid::HybridPublicKey,
    ids::SubjectName,
    label::Label,
    signer::{DigestSigner, SignError, low, read_signature, signed_by},
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// Who may receive a released seed: people who act for the state. Auditors and witnesses look, and an embassy never has it.
pub const RECIPIENT_ROLES: [Role; 3] = [Role::Official, Role::Agent, Role::DataOwner];

/// Why a recipient is not accepted. Ask the recipient for a new card, or home whom it certified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipientError {
    /// The certificate is not home's for a person in date, or of another role.
    #[error("the recipient's certificate will not do: {0}")]
    Certificate(#[from] CertificateError),
    /// The certificate is another's.
    #[error("the recipient is called {card} on the card, and {certificate} in the certificate")]
    Name {
        /// The card's.
        card: SubjectName,
        /// The certificate's.
        certificate: SubjectName,
    },
    /// The certificate's key did not sign the card.
    #[error("the recipient's card is not signed by the key in its certificate")]
    Signature,
}

/// Name, certificate and hybrid key of a recipient, signed by the certificate's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientCard {
    name: SubjectName,
    certificate: Vec<u8>,
    hybrid: HybridPublicKey,
    signature: Signature,
}

impl RecipientCard {
    /// What the certificate's key signs.
    pub fn digest(name: &SubjectName, certificate: &[u8], hybrid: &HybridPublicKey) -> Hash {
        Hash::of(Label::RECIPIENT_SIGNATURE, |out| {
            out.value(name).bytes(certificate).value(hybrid);
        })
    }

    /// Makes a card: `certificate` in DER, home → leaf; `key` is the one in it.
    ///
    /// # Errors
    /// [`SignError`] where the key does not sign.
    pub fn sign(
        name: SubjectName,
        certificate: Vec<u8>,
        hybrid: HybridPublicKey,
        key: &dyn DigestSigner,
    ) -> Result<Self, SignError> {
        let signature = low(key.sign_digest(&Self::digest(&name, &certificate, &hybrid))?);
        Ok(Self { name, certificate, hybrid, signature })
    }

    /// The name it says it is of: for showing, until [`RecipientCard::verify`].
    pub const fn unverified_name(&self) -> &SubjectName {
        &self.name
    }

    /// The key that everything is sealed to.
    pub const fn hybrid(&self) -> &HybridPublicKey {
        &self.hybrid
    }

    /// The certificate, in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// SHA-256 of the card: what tells it from every other.
    pub fn hash(&self) -> Hash {
        Hash::of_bytes(&self.encode())
    }

    /// Judges the card: by home's certificate, in date and not revoked, and by the signature of its key.
    ///
    /// # Errors
    /// [`RecipientError`].
    pub fn verify(
        &self,
        home: &HomeAuthority,
        revocations: &Revocations,
        now: UnixTime,
    ) -> Result<Recipient, RecipientError> {
        let certified = home.certify(&[&self.certificate], revocations, now)?.in_role(&RECIPIENT_ROLES)?;
        let identity = certified.identity().clone();
        if identity.name != self.name {
            return Err(RecipientError::Name { card: self.name.clone(), certificate: identity.name });
        }
        let digest = Self::digest(&self.name, &self.certificate, &self.hybrid);
        if !signed_by(certified.key(), &digest, &self.signature) {
            return Err(RecipientError::Signature);
        }
        Ok(Recipient { card: self.hash(), identity })
    }
}

impl Wire for RecipientCard {
    fn write(&self, out: &mut Writer) {
        out.value(&self.name).bytes(&self.certificate).value(&self.hybrid).raw(&self.signature.to_bytes());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            name: input.value()?,
            certificate: input.bytes(MAX_CERTIFICATE_BYTES, "recipient's certificate")?.to_vec(),
            hybrid: input.value()?,
            signature: read_signature(input)?,
        })
    }
}

impl Document for RecipientCard {
    const LABEL: Label = Label::RECIPIENT_CARD;
    const MAX_BYTES: usize = MAX_CERTIFICATE_BYTES + 2048;
}

/// The token that a recipient's card was judged and held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    card: Hash,
    identity: Identity,
}

impl Recipient {
    /// Who it is.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether this is the judgement of that very card.
    pub fn is_of(&self, card: &RecipientCard) -> bool {
        self.card == card.hash()
    }

    #[cfg(test)]
    pub(super) fn of_test(card: &RecipientCard, identity: Identity) -> Self {
        Self { card: card.hash(), identity }
    }
}
