//! A release from offer to seed without a TPM: who is refused, whom it costs a name, and what no wrong part gets past.

use p256::ecdsa::SigningKey;
use rand_core::OsRng;

use super::*;
use crate::protocol::{
    certificate::{Identity, Role, TrustDomain},
    gathering::tests::{World, world},
    ids::SubjectName,
    recipient::Recipient,
    signer::DigestSigner,
};

struct Person {
    key: HybridSecretKey,
    card: RecipientCard,
    token: Recipient,
}

fn person(name: &str) -> Person {
    let (connection, key) = (SigningKey::random(&mut OsRng), HybridSecretKey::random(&mut OsRng));
    let name = SubjectName::new(name).unwrap();
    let signer: &dyn DigestSigner = &connection;
    let card = RecipientCard::sign(name.clone(), vec![0x30; 400], key.public().clone(), signer).unwrap();
    let trust_domain = TrustDomain::new("home.example").unwrap();
    let token = Recipient::of_test(&card, Identity { trust_domain, role: Role::Official, name });
    Person { key, card, token }
}

fn begin<'a>(world: &'a World, offer: &SignedOffer, who: &'a Person) -> Result<Receiving<'a>, ReleaseError> {
    let review = world.review_for(&who.token);
    Receiving::begin(offer, &who.card, &who.key, &review, &mut SeenPoints::new(), world.prepared())
}

fn contribution(world: &World, place: usize, offer: &SignedOffer, who: &Person) -> Contribution {
    world.contribution_for(place, offer, &world.review_for(&who.token))
}

fn parts(offer: &Hash, to: &HybridPublicKey, halves: &[(VerifiedSlot, SharedPoint)]) -> ReleaseParts {
    let halves = halves.iter().map(|(slot, half)| (slot, half));
    ReleaseParts::seal(offer, to, halves, &mut OsRng).unwrap()
}

/// Two datasets, released to eva by anna, boris and clara.
struct Story {
    world: World,
    eva: Person,
    offer: SignedOffer,
}

fn story() -> Story {
    let (world, eva) = (world(&["land", "police"]), person("eva"));
    let offer = world.release_offer(&eva.card);
    Story { world, eva, offer }
}

impl Story {
    fn hash(&self) -> Hash {
        self.offer.unverified().hash()
    }

    fn gathered(&self) -> Receiving<'_> {
        let mut receiving = begin(&self.world, &self.offer, &self.eva).unwrap();
        for place in [0, 1, 2] {
            receiving.receive(&contribution(&self.world, place, &self.offer, &self.eva)).unwrap();
        }
        receiving
    }
}

#[test]
fn the_recipient_opens_what_was_released_and_the_embassy_only_passes_it_on() {
    let story = story();
    let receiving = story.gathered();
    let parts = parts(&story.hash(), story.eva.key.public(), &story.world.halves_of_tpm(false));
    let travelled = ReleaseParts::decode(&parts.encode()).unwrap();
    assert_eq!(travelled, parts);
    let opened = receiving.open(&travelled).unwrap();
    for (at, opened) in opened.into_iter().enumerate() {
        assert_eq!(opened.dataset().recipient, story.world.recipient(at));
        assert_eq!(opened.into_seed().key().recipient(), story.world.recipient(at));
    }
}

#[test]
fn a_wrong_half_costs_its_sender_a_name_and_another_takes_the_place() {
    let story = story();
    let mut receiving = begin(&story.world, &story.offer, &story.eva).unwrap();
    let good = contribution(&story.world, 1, &story.offer, &story.eva);
    let refusal = receiving.receive(&story.world.spoilt(1, &good, &story.eva.key)).unwrap_err();
    assert_eq!(refusal.culprit().map(OfficialName::as_str), Some("boris"), "{refusal}");
    let parts = parts(&story.hash(), story.eva.key.public(), &story.world.halves_of_tpm(false));
    for place in [0, 3] {
        receiving.receive(&contribution(&story.world, place, &story.offer, &story.eva)).unwrap();
    }
    assert!(matches!(receiving.open(&parts), Err(ReleaseError::NotQuorate(NotQuorate::NotEnough { have: 2, .. }))));
    receiving.receive(&contribution(&story.world, 4, &story.offer, &story.eva)).unwrap();
    assert_eq!(receiving.contributors().map(OfficialName::as_str).collect::<Vec<_>>(), ["anna", "david", "eva"]);
    assert_eq!(receiving.culprits().map(OfficialName::as_str).collect::<Vec<_>>(), ["boris"]);
    assert_eq!(receiving.open(&parts).unwrap().len(), 2);
}

#[test]
fn every_wrong_part_of_the_embassy_is_refused_and_named() {
    let story = story();
    let receiving = story.gathered();
    let (hash, to) = (story.hash(), story.eva.key.public());
    let right = story.world.halves_of_tpm(false);
    let refused = |parts: &ReleaseParts, what: &str| {
        let error = receiving.open(parts).unwrap_err();
        assert!(error.to_string().contains(what), "{error}, not {what}");
        error
    };
    // Another offer's hash inside; sealed under another offer and relabelled; for somebody else.
    refused(&parts(&Hash([9; 32]), to, &right), "another offer");
    let relabelled = ReleaseParts { offer: hash, ..parts(&Hash([9; 32]), to, &right) };
    assert!(matches!(refused(&relabelled, "land"), ReleaseError::Part { .. }));
    assert!(matches!(refused(&parts(&hash, person("other").key.public(), &right), "land"), ReleaseError::Part { .. }));
    // One too few, one too many, two in the wrong order.
    assert!(matches!(
        refused(&parts(&hash, to, &right[..1]), "1 halves"),
        ReleaseError::Parts { found: 1, expected: 2 }
    ));
    let mut three = parts(&hash, to, &right);
    three.sealed.push(three.sealed[0]);
    refused(&three, "3 halves");
    let mut turned = parts(&hash, to, &right);
    turned.sealed.reverse();
    assert!(matches!(refused(&turned, "land"), ReleaseError::Part { .. }));
    // Altered on the way: every byte counts.
    let good = parts(&hash, to, &right);
    for at in (0..SEALED_BYTES).step_by(97).chain([SEALED_BYTES - 1]) {
        let mut altered = good.clone();
        altered.sealed[1][at] ^= 1;
        assert!(matches!(refused(&altered, "police"), ReleaseError::Part { .. }), "byte {at}");
    }
    // Another TPM's halves open, and are wrong.
    let wrong = parts(&hash, to, &story.world.halves_of_tpm(true));
    assert!(matches!(refused(&wrong, "so it is the embassy's"), ReleaseError::Opening { .. }));
    // What was received is kept through all that.
    assert_eq!(receiving.open(&good).unwrap().len(), 2);
}

#[test]
fn a_release_to_somebody_else_or_a_lease_is_none_to_me() {
    let story = story();
    let mallory = person("mallory");
    // Nobody judged the card in the statement, as far as mallory's machine knows.
    assert!(matches!(begin(&story.world, &story.offer, &mallory), Err(ReleaseError::Offer(OfferRefusal::Recipient))));
    // Or it did, and it is not mallory's.
    let review = story.world.review_for(&story.eva.token);
    let begin_as = |card: &RecipientCard, key| {
        Receiving::begin(&story.offer, card, key, &review, &mut SeenPoints::new(), story.world.prepared()).map(|_| ())
    };
    assert!(matches!(begin_as(&mallory.card, &mallory.key), Err(ReleaseError::NotForYou { .. })));
    assert!(matches!(begin_as(&story.eva.card, &mallory.key), Err(ReleaseError::Key)));
    assert!(begin_as(&story.eva.card, &story.eva.key).is_ok());
    // A lease is a release to nobody.
    let lease = story.world.lease_offer();
    assert!(matches!(begin(&story.world, &lease, &story.eva), Err(ReleaseError::NotForYou { .. })));
}

#[test]
fn parts_read_back_and_no_cut_or_longer_list_does() {
    let story = story();
    let bytes = parts(&story.hash(), story.eva.key.public(), &story.world.halves_of_tpm(false)).encode();
    assert!((0..bytes.len()).step_by(7).all(|end| ReleaseParts::decode(&bytes[..end]).is_err()));
    let count = bytes.len() - 2 * SEALED_BYTES - 2;
    let mut nine = bytes.clone();
    nine[count + 1] = 9;
    assert!(ReleaseParts::decode(&nine).is_err());
}
