//! The officials: honest ones check with the library what their machine is shown, and approve only what they agreed to; those
//! in the host's pay send what they like. A ledger that no code under test sees says who really approved what.
#![allow(dead_code, reason = "each test uses its own part")]

use std::collections::{BTreeMap, BTreeSet};

use chancery::protocol::{
    certificate::UnixTime,
    contribution::{CheckedOffer, Contribution, OfferRefusal, Official, Review},
    hash::Hash,
    hybrid,
    ids::CeremonyId,
    label::Label,
    notice::{Denial, Reason, Stop},
    offer::SignedOffer,
    partial,
    quorum::Position,
    secret::Secret,
    slot::SeenPoints,
    tpm::approval::{Expiry, TpmApproval, TpmNonce},
    wire::{Document, Writer},
};
use p256::ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

use crate::world::{EXPIRY_MAX, Person, World};

/// What an official sends, as bytes on a line that the host owns.
#[derive(Clone)]
pub enum Message {
    Contribution(Vec<u8>),
    Denial(Vec<u8>),
    Stop(Vec<u8>),
}

impl Message {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Contribution(bytes) | Self::Denial(bytes) | Self::Stop(bytes) => bytes,
        }
    }

    pub const fn bytes_mut(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Contribution(bytes) | Self::Denial(bytes) | Self::Stop(bytes) => bytes,
        }
    }
}

/// Who really did what.
#[derive(Default)]
pub struct Ledger {
    /// Who consented to an offer, with approvals that hold.
    pub consents: BTreeSet<(Hash, Position)>,
    /// Which statement each offer is for.
    pub offers: BTreeMap<Hash, CeremonyId>,
    /// Who signed for a TPM command: nonce and point.
    pub approvals: BTreeSet<([u8; 32], [u8; 33], Position)>,
    /// Who signed a denial, and who a stop.
    pub denials: BTreeSet<(CeremonyId, Position)>,
    pub stops: BTreeSet<(CeremonyId, Position)>,
}

/// What somebody in the host's pay sends in place of a contribution.
#[derive(Clone, Copy, Debug)]
pub enum Spoil {
    /// A right one: for once.
    Honest,
    /// Rubbish where the halves should be.
    Rubbish,
    /// A share of w that is none.
    Share,
    /// Halves for another offer.
    Halves,
    /// Approvals for another session.
    Nonce,
    /// One approval too few.
    Few,
    /// In the name of the next official.
    Name,
    /// Good for one second.
    Short,
}

pub struct People<'w> {
    world: &'w World,
    seen: Vec<SeenPoints>,
    /// What each sent to an offer: sent again, not made again.
    sent: BTreeMap<(Position, Hash), Message>,
    pub ledger: Ledger,
    pub rng: ChaCha20Rng,
}

impl<'w> People<'w> {
    pub fn new(world: &'w World) -> Self {
        Self {
            world,
            seen: world.people.iter().map(|_| SeenPoints::new()).collect(),
            sent: BTreeMap::new(),
            ledger: Ledger::default(),
            rng: ChaCha20Rng::seed_from_u64(11),
        }
    }

    /// What an official's machine says of an offer.
    pub fn check(&mut self, who: usize, offer: &SignedOffer, now: UnixTime) -> Result<CheckedOffer, OfferRefusal> {
        let World { facts, versions, recipient, .. } = self.world;
        let review = Review { facts, versions, now, recipient: Some(recipient) };
        CheckedOffer::check(offer, &review, &mut self.seen[who])
    }

    /// Consent to what was checked. The same offer gets the same bytes.
    pub fn consent(&mut self, who: usize, checked: &CheckedOffer) -> Message {
        let person = &self.world.people[who];
        let known = self.sent.get(&(person.position, *checked.hash()));
        if let Some(known) = known {
            return known.clone();
        }
        let contribution = self.contribution(person, checked, EXPIRY_MAX);
        let message = Message::Contribution(contribution.encode());
        self.sent.insert((person.position, *checked.hash()), message.clone());
        message
    }

    /// Checks and consents in one go.
    pub fn contribution_for(&mut self, who: usize, offer: &SignedOffer, now: UnixTime) -> Message {
        let checked = self.check(who, offer, now).unwrap();
        self.consent(who, &checked)
    }

    fn contribution(&mut self, person: &Person, checked: &CheckedOffer, seconds: u32) -> Contribution {
        let Person { position, identity, hybrid, share, .. } = person;
        let official = Official { position: *position, identity, hybrid, share };
        let contribution = checked.contribute(&self.world.facts, &official, seconds, &mut self.rng).unwrap();
        self.note(checked, *position);
        contribution
    }

    fn note(&mut self, checked: &CheckedOffer, position: Position) {
        self.ledger.consents.insert((*checked.hash(), position));
        self.ledger.offers.insert(*checked.hash(), checked.offer().statement().id());
        for (request, point) in checked.requests().iter().zip(checked.points()) {
            self.ledger.approvals.insert((*request.nonce.as_bytes(), point.encode(), position));
        }
    }

    pub fn deny(&mut self, who: usize, ceremony: CeremonyId) -> Message {
        let Person { name, position, identity, .. } = &self.world.people[who];
        self.ledger.denials.insert((ceremony, *position));
        let reason = Reason::new("nobody told me what for").unwrap();
        Message::Denial(Denial::sign(ceremony, name.clone(), reason, identity).unwrap().encode())
    }

    pub fn stop(&mut self, who: usize, ceremony: CeremonyId) -> Message {
        let Person { name, position, identity, .. } = &self.world.people[who];
        self.ledger.stops.insert((ceremony, *position));
        let reason = Reason::new("the town has fallen").unwrap();
        Message::Stop(Stop::sign(ceremony, name.clone(), reason, identity).unwrap().encode())
    }

    /// In another's name, signed with one's own key.
    pub fn forge(&self, who: usize, victim: usize, ceremony: CeremonyId, stop: bool) -> Message {
        let (name, identity) = (self.world.people[victim].name.clone(), &self.world.people[who].identity);
        let reason = Reason::new("in another's name").unwrap();
        if stop {
            Message::Stop(Stop::sign(ceremony, name, reason, identity).unwrap().encode())
        } else {
            Message::Denial(Denial::sign(ceremony, name, reason, identity).unwrap().encode())
        }
    }

    /// What somebody in the host's pay sends.
    pub fn spoil(&mut self, who: usize, checked: &CheckedOffer, how: Spoil) -> Message {
        let world = self.world;
        let person = &world.people[who];
        let Person { position, identity, hybrid, share, .. } = person;
        let seconds = if matches!(how, Spoil::Short) { 1 } else { EXPIRY_MAX };
        if matches!(how, Spoil::Honest | Spoil::Short) {
            return Message::Contribution(self.contribution(person, checked, seconds).encode());
        }
        let (hash, expiry) = (*checked.hash(), Expiry::new(EXPIRY_MAX, EXPIRY_MAX).unwrap());
        let other = Hash::of_bytes(hash.as_bytes());
        let about = if matches!(how, Spoil::Halves) { &other } else { &hash };
        let key = &world.facts.unseal().key;
        let partial = partial::decapsulate(share, key, *position, about, &checked.points(), &mut self.rng).unwrap();
        let mut plain = Writer::new();
        plain.label(Label::CONTRIBUTION_HALVES).value(&partial);
        for slot in checked.slots() {
            let honest = slot.open_share(*position, hybrid).unwrap().to_bytes();
            let wrong = Secret::<32>::random(&mut self.rng);
            plain.raw(if matches!(how, Spoil::Share) { wrong.expose() } else { honest.expose() });
        }
        let plain = if matches!(how, Spoil::Rubbish) { b"nothing of use".to_vec() } else { plain.finish() };

        let claimed = if matches!(how, Spoil::Name) { world.people[(who + 1) % 5].position } else { *position };
        let mut aad = Writer::new();
        aad.value(&hash).value(&claimed);
        let to = checked.offer().ceremony_key().unwrap();
        let label = Label::CONTRIBUTION_SEAL;
        let sealed = hybrid::seal(to, label, hash.as_bytes(), &aad.finish(), &plain, &mut self.rng).unwrap();

        let mut approvals: Vec<TpmApproval> = Vec::new();
        for request in checked.requests() {
            let mut request = *request;
            if matches!(how, Spoil::Nonce) {
                request.nonce = TpmNonce::from_bytes(other.as_bytes()).unwrap();
            }
            approvals.push(request.sign(claimed, expiry, identity).unwrap());
        }
        match how {
            Spoil::Few => {
                for (request, point) in checked.requests().iter().zip(checked.points()) {
                    self.ledger.approvals.insert((*request.nonce.as_bytes(), point.encode(), *position));
                }
                approvals.pop();
            }
            // The approvals hold for this offer: that is consent, whatever the halves are.
            Spoil::Rubbish | Spoil::Share | Spoil::Halves => self.note(checked, *position),
            _ => {}
        }
        Message::Contribution(raw(claimed, &hash, &approvals, &sealed, identity))
    }
}

/// A contribution as whoever can sign can write it.
fn raw(position: Position, offer: &Hash, approvals: &[TpmApproval], sealed: &[u8], key: &SigningKey) -> Vec<u8> {
    let digest = Hash::of(Label::CONTRIBUTION_SIGNATURE, |out| {
        out.value(offer).value(&position).list(approvals).bytes(sealed);
    });
    let signature: Signature = key.sign_prehash(digest.as_bytes()).unwrap();
    let signature = signature.normalize_s().unwrap_or(signature);
    let mut bytes = Writer::new();
    bytes.label(Label::CONTRIBUTION).value(&position).value(offer).list(approvals).bytes(sealed);
    bytes.raw(&signature.to_bytes());
    bytes.finish()
}
