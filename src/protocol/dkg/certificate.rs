//! What remains of a finished DKG: the success certificate, from which anyone who holds the charter learns the quorum's
//! key, and the recovery data, from which an official rebuilds a lost share with its static key (protocol.md §4.5, §4.6).
//!
//! Both are public in content and the same for everyone; the recovery data's ciphertexts open to whoever gets a static key.

use crate::protocol::{
    dkg::{
        session::{NONCE_BYTES, Session, Terms, TermsError, ciphertexts_hash, read_contributions, write_contributions},
        sharing::{self, Degenerate, FRAME_BYTES, MIN_CIPHERTEXT_BYTES},
        suite::Signature,
        transcript::{self, RecoverError, Transcript, TranscriptError},
    },
    hash::Hash,
    ids::Attempt,
    label::Label,
    quorum::{MAX_OFFICIALS, Position},
    quorum_key::QuorumKey,
    secret::SecretScalar,
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// The longest transcript of 32 officials with threshold 32 has about 38,100 bytes.
const MAX_TRANSCRIPT_BYTES: usize = 40 * 1024;

/// Why a certificate does not certify. Do not use the key it claims; ask another official for its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// It does not name a session of these terms.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// The transcript does not read.
    #[error(transparent)]
    Transcript(#[from] TranscriptError),
    /// The transcript is another session's.
    #[error("the certificate is for another charter, quorum, generation or attempt, or for other officials")]
    OtherSession,
    /// The transcript binds other ciphertexts.
    #[error("the officials agreed on other ciphertexts than this certificate names")]
    OtherCiphertexts,
    /// Not one signature per official.
    #[error("{found} signatures of {expected} officials")]
    SignatureCount {
        /// The signatures found.
        found: usize,
        /// The number of officials.
        expected: u8,
    },
    /// A signature does not hold.
    #[error("{0} did not sign this transcript")]
    Unsigned(Position),
    /// Never in practice.
    #[error(transparent)]
    Degenerate(#[from] Degenerate),
}

/// The transcript, and every official's signature on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    attempt: Attempt,
    contributions: Vec<[u8; NONCE_BYTES]>,
    ciphertexts: Hash,
    transcript: Vec<u8>,
    signatures: Vec<Signature>,
}

impl Certificate {
    pub(super) fn new(session: &Session, ciphertexts: Hash, transcript: Vec<u8>, signatures: Vec<Signature>) -> Self {
        let contributions = session.contributions().to_vec();
        Self { attempt: session.attempt(), contributions, ciphertexts, transcript, signatures }
    }

    /// The attempt that succeeded.
    pub const fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// T, as the specification lays it out.
    pub fn transcript(&self) -> &[u8] {
        &self.transcript
    }

    /// Every official's signature on T, in order of position.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The quorum's key, where every official of the charter certified it. Variable time: everything here is public.
    ///
    /// # Errors
    /// [`CertificateError`] where anything is not as these terms and the protocol have it.
    pub fn verify(&self, terms: &Terms) -> Result<QuorumKey, CertificateError> {
        // protocol.md §4.5: the context is computed anew from the charter, so a certificate fits one quorum only. The
        // proofs of possession are not checked again: each who signed has checked them, and one honest one is enough.
        let session = Session::new(terms.clone(), self.attempt, self.contributions.clone())?;
        let agreed = Transcript::parse(&self.transcript)?;
        if agreed.context != session.context().as_bytes()
            || agreed.threshold != terms.threshold()
            || agreed.static_keys != terms.static_keys()
        {
            return Err(CertificateError::OtherSession);
        }
        if agreed.extension != session.extension(&self.ciphertexts).as_bytes() {
            return Err(CertificateError::OtherCiphertexts);
        }
        let expected = terms.threshold().n();
        if self.signatures.len() != usize::from(expected) {
            return Err(CertificateError::SignatureCount { found: self.signatures.len(), expected });
        }
        match agreed.first_unsigned(&self.transcript, &self.signatures) {
            Some(position) => Err(CertificateError::Unsigned(position)),
            None => Ok(agreed.quorum_key()?),
        }
    }
}

impl Wire for Certificate {
    fn write(&self, out: &mut Writer) {
        write_contributions(out, self.attempt, &self.contributions);
        out.value(&self.ciphertexts).bytes(&self.transcript).list(&self.signatures);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (attempt, contributions) = read_contributions(input)?;
        Ok(Self {
            attempt,
            contributions,
            ciphertexts: input.value()?,
            transcript: input.bytes(MAX_TRANSCRIPT_BYTES, "transcript")?.to_vec(),
            signatures: input.list(usize::from(MAX_OFFICIALS), "signatures")?,
        })
    }
}

impl Document for Certificate {
    const LABEL: Label = Label::DKG_CERTIFICATE;
    const MAX_BYTES: usize = 48 * 1024;
}

/// Why a share could not be rebuilt. Nothing is lost: any other official's copy serves as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The certificate does not hold.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The recorded ciphertexts are not those that were agreed on.
    #[error("the recorded ciphertexts were altered: the officials agreed on others. Try another official's copy")]
    Altered,
    /// The share does not come out.
    #[error(transparent)]
    Recover(#[from] RecoverError),
}

/// Everything from which each official can rebuild its share; every official keeps a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryData {
    certificate: Certificate,
    /// Per sender, in order of position, its framed ciphertexts to everyone.
    bundles: Vec<Vec<u8>>,
}

impl RecoveryData {
    pub(super) const fn new(certificate: Certificate, bundles: Vec<Vec<u8>>) -> Self {
        Self { certificate, bundles }
    }

    /// The success certificate.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Checks that this copy is whole, as an official does before it relies on it.
    ///
    /// # Errors
    /// [`RecoveryError`] where the certificate does not hold or the ciphertexts are not those it binds.
    pub fn verify(&self, terms: &Terms) -> Result<QuorumKey, RecoveryError> {
        let key = self.certificate.verify(terms)?;
        if ciphertexts_hash(self.bundles.iter().map(Vec::as_slice)) == self.certificate.ciphertexts {
            Ok(key)
        } else {
            Err(RecoveryError::Altered)
        }
    }

    /// Rebuilds the share of the official whose static key this is.
    ///
    /// # Errors
    /// [`RecoveryError`] where the data is damaged, or the key belongs to nobody in the terms.
    pub fn recover(
        &self,
        terms: &Terms,
        secret: &SecretScalar,
    ) -> Result<(Position, SecretScalar, QuorumKey), RecoveryError> {
        self.verify(terms)?;
        let own = crate::protocol::group::Point::mul_generator(secret.expose());
        let mut places = terms.threshold().positions().zip(terms.static_keys());
        let (own, _) = places.find(|(_, key)| **key == own).ok_or(RecoverError::NotAParticipant)?;
        let mut addressed = Vec::with_capacity(self.bundles.len());
        for bundle in &self.bundles {
            let mut ciphertexts = sharing::read_bundle(bundle, terms.threshold()).map_err(RecoverError::Bundle)?;
            addressed.push(ciphertexts.swap_remove(own.index()));
        }
        let bundle = sharing::bundle(addressed.iter().map(Vec::as_slice));
        let certificate = &self.certificate;
        Ok(transcript::recover(secret, &certificate.transcript, &certificate.signatures, &bundle)?)
    }
}

impl Wire for RecoveryData {
    fn write(&self, out: &mut Writer) {
        out.value(&self.certificate).u16(u16::try_from(self.bundles.len()).unwrap_or(u16::MAX));
        self.bundles.iter().for_each(|bundle| {
            out.bytes(bundle);
        });
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let certificate = input.value()?;
        let (length, bound) = (usize::from(input.u16("bundles")?), usize::from(MAX_OFFICIALS));
        if length > bound {
            return Err(WireError::TooLong { field: "bundles", length, bound });
        }
        let longest = bound * (FRAME_BYTES + MIN_CIPHERTEXT_BYTES);
        let bundles =
            (0..length).map(|_| input.bytes(longest, "bundle").map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
        Ok(Self { certificate, bundles })
    }
}

impl Document for RecoveryData {
    const LABEL: Label = Label::DKG_RECOVERY;
    const MAX_BYTES: usize = 128 * 1024;
}
