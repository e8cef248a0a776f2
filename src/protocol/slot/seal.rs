//! Sealing: everything random in a slot is derived from the seed and the context, so whoever has opened one slot of a
//! dataset version can make all the others again and compare. protocol.md §6.2.

use crate::protocol::{
    dataset::DatasetSeed,
    group::Point,
    hash::{DerivedRng, Hash},
    label::Label,
    quorum::Position,
    secret::{SecretScalar, SharedPoint},
    slot::{
        Slot, SlotContext,
        kek::{encrypt, key_encryption_key},
        proof::{Proof, SECOND_GENERATOR, Statement},
        share::{SealedShare, deal},
    },
};

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The context names another recipient than the seed gives.
    #[error("the seed does not give the recipient that the context names; describe the dataset version anew")]
    Recipient,
    /// A primitive refused input of fixed length; never seen.
    #[error("the slot could not be encrypted")]
    Encryption,
}

/// Seals a seed for one context. Deterministic: the same seed and context give the same bytes.
///
/// # Errors
/// [`SealError::Recipient`] where the seed is not that of the dataset version described.
pub fn seal(seed: &DatasetSeed, context: &SlotContext) -> Result<Slot, SealError> {
    if seed.key().recipient() != context.dataset().recipient {
        return Err(SealError::Recipient);
    }
    seal_any(seed, context)
}

/// What the coins are for. Each purpose has its own stream.
enum Coins {
    Point,
    Shares,
    Encapsulation(Position),
    ProofNonce(Hash),
}

fn coins(seed: &DatasetSeed, context: &SlotContext, purpose: &Coins) -> DerivedRng {
    DerivedRng::new(seed.expose(), Label::SLOT_DERIVE, |out| {
        out.value(&context.id());
        match purpose {
            Coins::Point => out.u8(1),
            Coins::Shares => out.u8(2),
            Coins::Encapsulation(position) => out.u8(3).value(position),
            // All that the challenge covers is determined by seed and context already. With its hash in the nonce, even
            // a fault in between cannot make two challenges for one nonce, which would give r away.
            Coins::ProofNonce(statement) => out.u8(4).value(statement),
        };
    })
}

/// [`seal`] without the check of the recipient: a valid slot can be made for any seed, which is why whoever opens one
/// compares.
pub(super) fn seal_any(seed: &DatasetSeed, context: &SlotContext) -> Result<Slot, SealError> {
    let quorum = context.quorum();
    let r = SecretScalar::random(&mut coins(seed, context, &Coins::Point));
    let (c, c_prime) = (Point::mul_generator(r.expose()), SECOND_GENERATOR.mul(r.expose()));

    let (w, dealt) = deal(quorum.threshold(), &mut coins(seed, context, &Coins::Shares));
    let shares: Vec<SealedShare> = dealt
        .iter()
        .zip(quorum.officials())
        .map(|(share, official)| {
            let mut coins = coins(seed, context, &Coins::Encapsulation(share.position()));
            SealedShare::new(official, context.id(), &c, share, &mut coins)
        })
        .collect::<Result<_, _>>()
        .map_err(|_| SealError::Encryption)?;

    let z_y = SharedPoint::take(&mut quorum.key().mul(r.expose()));
    let z_t = context.kind().custody_key().map(|custody_key| SharedPoint::take(&mut custody_key.mul(r.expose())));
    let kek = key_encryption_key(context, &c, &z_y, z_t.as_ref(), &w);
    let ciphertext = encrypt(&kek, context, seed.expose()).ok_or(SealError::Encryption)?;

    let statement =
        Statement { context: context.id(), c: &c, c_prime: &c_prime, shares: &shares, ciphertext: &ciphertext };
    let nonce = SecretScalar::random(&mut coins(seed, context, &Coins::ProofNonce(statement.hash())));
    let proof = Proof::new(&r, &nonce, &statement).ok_or(SealError::Encryption)?;
    Ok(Slot { c, c_prime, proof, shares, ciphertext })
}
