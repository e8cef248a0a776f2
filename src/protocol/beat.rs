//! A beat: a witness's signed answer to an embassy's own nonce, on which leases live (protocol.md §17.3).
//!
//! It says one thing: after this nonce was drawn, this witness could still be reached and wanted the leases to go on. The
//! time in it is the witness's own and is shown to people; the embassy counts from the moment at which it gave the nonce
//! out, because whoever owns the line can hold an answer back.

use p256::ecdsa::Signature;

use crate::protocol::{
    certificate::UnixTime,
    charter::CharterWitness,
    hash::Hash,
    ids::{CharterId, EmbassyName, WitnessName},
    label::Label,
    signer::{DigestSigner, SignError, low, read_signature, signed_by},
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// Why a beat is not taken. The leases stand as they stood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeatError {
    /// Of another network or embassy.
    #[error("the beat is for another {what}. Beat the embassy that gave the nonce")]
    Another {
        /// What differs.
        what: &'static str,
    },
    /// The charter has no such witness.
    #[error("the charter in force names no witness {witness}; ask home for the charter, and for your name in it")]
    Stranger {
        /// The name.
        witness: WitnessName,
    },
    /// The charter's key for that witness did not sign it.
    #[error("the beat is not signed by the key that the charter names for witness {witness}")]
    Signature {
        /// The name.
        witness: WitnessName,
    },
    /// Answers a nonce that is not this witness's current one: used before, or replaced.
    #[error("the beat does not answer the nonce that this embassy gave you last. Ask for a new one, and answer that")]
    Nonce,
    /// The nonce is too old for the answer to keep anything alive.
    #[error("the nonce was given out {age_seconds} s ago, and a beat is good for {heartbeat_seconds} s. Answer sooner")]
    Late {
        /// How long ago.
        age_seconds: u64,
        /// H.
        heartbeat_seconds: u32,
    },
}

/// What an embassy draws, and one beat answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BeatNonce(pub [u8; 32]);

impl Wire for BeatNonce {
    fn write(&self, out: &mut Writer) {
        out.raw(&self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.array("nonce").map(Self)
    }
}

/// What an embassy asks a witness to answer: everything of a beat but the witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeatRequest {
    /// The network.
    pub charter: CharterId,
    /// Who asks.
    pub embassy: EmbassyName,
    /// What is to be answered.
    pub nonce: BeatNonce,
}

/// A witness's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    request: BeatRequest,
    witness: WitnessName,
    at: UnixTime,
    signature: Signature,
}

impl Beat {
    /// Answers a request with the key that the charter names for this witness.
    ///
    /// # Errors
    /// [`SignError`] where the key does not sign.
    pub fn sign(
        request: BeatRequest,
        witness: WitnessName,
        at: UnixTime,
        key: &dyn DigestSigner,
    ) -> Result<Self, SignError> {
        let signature = low(key.sign_digest(&digest(&request, &witness, at))?);
        Ok(Self { request, witness, at, signature })
    }

    /// Checks it against the charter's witnesses; gives the nonce that it answers, which only the embassy can judge.
    ///
    /// # Errors
    /// [`BeatError`].
    pub fn verify(
        &self,
        charter: CharterId,
        embassy: &EmbassyName,
        witnesses: &[CharterWitness],
    ) -> Result<BeatNonce, BeatError> {
        for (same, what) in
            [(self.request.charter == charter, "network"), (self.request.embassy == *embassy, "embassy")]
        {
            if !same {
                return Err(BeatError::Another { what });
            }
        }
        let witness = || self.witness.clone();
        let known = witnesses
            .iter()
            .find(|known| known.name == self.witness)
            .ok_or_else(|| BeatError::Stranger { witness: witness() })?;
        if signed_by(&known.key, &digest(&self.request, &self.witness, self.at), &self.signature) {
            Ok(self.request.nonce)
        } else {
            Err(BeatError::Signature { witness: witness() })
        }
    }

    /// What it answers, unchecked: for showing.
    pub const fn request(&self) -> &BeatRequest {
        &self.request
    }

    /// Whose it claims to be.
    pub const fn witness(&self) -> &WitnessName {
        &self.witness
    }

    /// When, by the witness's clock.
    pub const fn at(&self) -> UnixTime {
        self.at
    }
}

fn digest(request: &BeatRequest, witness: &WitnessName, at: UnixTime) -> Hash {
    Hash::of(Label::BEAT_SIGNATURE, |out| {
        out.value(&request.charter).value(&request.embassy).value(&request.nonce).value(witness).value(&at);
    })
}

impl Wire for Beat {
    fn write(&self, out: &mut Writer) {
        let BeatRequest { charter, embassy, nonce } = &self.request;
        out.value(charter).value(embassy).value(nonce).value(&self.witness).value(&self.at);
        out.raw(&self.signature.to_bytes());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let request = BeatRequest { charter: input.value()?, embassy: input.value()?, nonce: input.value()? };
        Ok(Self { request, witness: input.value()?, at: input.value()?, signature: read_signature(input)? })
    }
}

impl Document for Beat {
    const LABEL: Label = Label::BEAT;
    const MAX_BYTES: usize = 512;
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::SigningKey;
    use rand_core::OsRng;

    use super::*;

    fn request() -> BeatRequest {
        BeatRequest {
            charter: CharterId(Hash([1; 32])),
            embassy: EmbassyName::new("luxembourg").unwrap(),
            nonce: BeatNonce([7; 32]),
        }
    }

    fn world() -> (SigningKey, Vec<CharterWitness>, Beat) {
        let key = SigningKey::random(&mut OsRng);
        let name = WitnessName::new("tallinn").unwrap();
        let beat = Beat::sign(request(), name.clone(), UnixTime(1_700_000_000), &key).unwrap();
        let witnesses = vec![CharterWitness { name, key: key.public_key() }];
        (key, witnesses, beat)
    }

    #[test]
    fn a_beat_travels_and_every_change_on_the_way_is_refused() {
        let (_, witnesses, beat) = world();
        let BeatRequest { charter, embassy, nonce } = request();
        let bytes = beat.encode();
        assert_eq!(Beat::decode(&bytes).unwrap(), beat);
        assert_eq!(beat.verify(charter, &embassy, &witnesses), Ok(nonce));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let Ok(changed) = Beat::decode(&changed) else { continue };
            assert!(changed.verify(charter, &embassy, &witnesses).is_err(), "byte {at}");
        }
    }

    #[test]
    fn only_the_charters_witnesses_beat_and_only_for_the_embassy_they_answer() {
        let (key, witnesses, beat) = world();
        let BeatRequest { charter, embassy, .. } = request();
        let other = EmbassyName::new("singapore").unwrap();
        assert_eq!(beat.verify(charter, &other, &witnesses), Err(BeatError::Another { what: "embassy" }));
        let network = CharterId(Hash([2; 32]));
        assert_eq!(beat.verify(network, &embassy, &witnesses), Err(BeatError::Another { what: "network" }));
        let witness = WitnessName::new("riga").unwrap();
        let stranger = Beat::sign(request(), witness.clone(), UnixTime(1), &key).unwrap();
        assert_eq!(stranger.verify(charter, &embassy, &witnesses), Err(BeatError::Stranger { witness }));
        let witness = WitnessName::new("tallinn").unwrap();
        let forged = Beat::sign(request(), witness.clone(), UnixTime(1), &SigningKey::random(&mut OsRng)).unwrap();
        assert_eq!(forged.verify(charter, &embassy, &witnesses), Err(BeatError::Signature { witness }));
    }
}
