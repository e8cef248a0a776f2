//! Key generation without a dealer, through a relay that nobody trusts: the embassy, which reorders, repeats and alters.

use anyhow::{Context, bail};
use chancery::protocol::{
    dkg::{Certificate, Gathering, Member, Refusal, Terms},
    ids::{Attempt, CharterId, Generation, QuorumKind},
    quorum::Threshold,
    quorum_key::QuorumKey,
    secret::SecretScalar,
    wire::Document,
};
use rand_core::{OsRng, RngCore};

use crate::people::Person;

/// What an official has of one quorum.
pub struct Shares {
    share: SecretScalar,
}

impl Shares {
    pub fn secret(&self) -> &SecretScalar {
        &self.share
    }
}

/// What came of a generation.
pub struct Genesis {
    pub terms: Terms,
    pub key: QuorumKey,
    pub certificate: Certificate,
    pub refused: u32,
}

/// The untrusted relay: hands every message to everybody, as bytes, in an order of its own, some of them twice, one altered.
struct Relay {
    refused: u32,
}

impl Relay {
    fn shuffled(messages: &[Vec<u8>]) -> Vec<&Vec<u8>> {
        let mut order: Vec<&Vec<u8>> = messages.iter().collect();
        for last in (1..order.len()).rev() {
            order.swap(last, (OsRng.next_u32() as usize) % (last + 1));
        }
        order
    }

    /// Delivers a round to one receiver; what is refused, is refused, and the round goes on.
    fn deliver<M: Document>(
        &mut self,
        messages: &[Vec<u8>],
        own: usize,
        mut accept: impl FnMut(&M) -> Result<(), Refusal>,
    ) -> anyhow::Result<()> {
        let first = Self::shuffled(messages).first().map(|bytes| (*bytes).clone()).unwrap_or_default();
        let mut altered = first;
        if let Some(byte) = altered.last_mut() {
            *byte ^= 1;
        }
        for bytes in std::iter::once(&altered).chain(Self::shuffled(messages)).chain(Self::shuffled(messages)) {
            if bytes == &messages[own] {
                continue;
            }
            match M::decode(bytes) {
                Ok(message) => match accept(&message) {
                    Ok(()) => {}
                    Err(Refusal::Repeated { .. } | Refusal::NotAuthentic { .. }) => self.refused += 1,
                    Err(refusal) => bail!("a message of an honest official was refused: {refusal}"),
                },
                Err(_) => self.refused += 1,
            }
        }
        Ok(())
    }
}

/// Runs one quorum's key generation. Each official ends with a share, nobody with the key.
pub fn generate(
    people: &mut [Person],
    charter: CharterId,
    kind: QuorumKind,
    threshold: Threshold,
) -> anyhow::Result<Genesis> {
    let static_keys = people.iter().map(Person::static_public).collect();
    let terms = Terms::new(charter, kind, Generation::FIRST, threshold, static_keys)?;
    let mut relay = Relay { refused: 0 };

    let (mut gatherings, mut sent) = (Vec::new(), Vec::new());
    for person in people.iter() {
        let secret = SecretScalar::from_bytes(&person.static_key.to_bytes()).context("a static key")?;
        let member = Member::new(terms.clone(), secret)?;
        let (gathering, contribution) = Gathering::start(member, Attempt::FIRST, &mut OsRng)?;
        gatherings.push(gathering);
        sent.push(contribution.encode());
    }
    let (mut round1, mut dealt) = (Vec::new(), Vec::new());
    for (own, mut gathering) in gatherings.into_iter().enumerate() {
        relay.deliver(&sent, own, |message| gathering.accept(message))?;
        let (phase, message) = gathering.complete(&mut OsRng)?;
        round1.push(phase);
        dealt.push(message.encode());
    }
    let (mut round2, mut certified) = (Vec::new(), Vec::new());
    for (own, mut phase) in round1.into_iter().enumerate() {
        relay.deliver(&dealt, own, |message| phase.accept(message))?;
        let (phase, message) = phase.complete()?;
        round2.push(phase);
        certified.push(message.encode());
    }
    let mut outcome: Option<(QuorumKey, Certificate)> = None;
    for ((own, mut phase), person) in round2.into_iter().enumerate().zip(people.iter_mut()) {
        relay.deliver(&certified, own, |message| phase.accept(message))?;
        let done = phase.complete()?;
        // Everybody checks the key against the certificate that all signed.
        let certificate = done.recovery.certificate().clone();
        let key = certificate.verify(&terms)?;
        if outcome.as_ref().is_some_and(|(earlier, _)| *earlier != key) {
            bail!("{} finished with another key", person.name);
        }
        person.room.write(&format!("{kind}-recovery-data.bin"), &done.recovery.encode())?;
        let shares = Some(Shares { share: done.share });
        match kind {
            QuorumKind::Unseal => person.unseal = shares,
            QuorumKind::Recovery => person.recovery = shares,
        }
        outcome = Some((key, certificate));
    }
    let (key, certificate) = outcome.context("a quorum without officials")?;
    Ok(Genesis { terms, key, certificate, refused: relay.refused })
}

/// An official whose machine burnt rebuilds its share from its static key and its own copy of the recorded messages.
pub fn rebuild(person: &mut Person, genesis: &Genesis) -> anyhow::Result<()> {
    use chancery::protocol::dkg::RecoveryData;
    let before = person.unseal.take().context("a share to lose")?;
    let recorded = RecoveryData::decode(&person.room.read("unseal-recovery-data.bin")?)?;
    let (position, share, _) = recorded.recover(&genesis.terms, &person.static_key)?;
    if position != person.position || share != before.share {
        bail!("the rebuilt share is another one");
    }
    person.unseal = Some(Shares { share });
    Ok(())
}
