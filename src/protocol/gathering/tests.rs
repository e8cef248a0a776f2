//! An opening from offer to seed without a TPM: every kind of bad contribution, and the ceremony that goes on after it.

use super::*;
use crate::protocol::{
    certificate::UnixTime,
    contribution::{ContributeError, OfferRefusal, Official, Review},
    dataset::Recipient,
    dataset_version::{CharteredDataset, UnsignedVersion},
    facts::{CustodyFactsParts, FactsError, MachineFacts, OfficialFacts, QuorumFacts},
    hybrid::HybridSecretKey,
    ids::{AgentName, CeremonyId, CharterAt, CharterId, DatasetVersion, EmbassyName, Generation, OwnerName},
    notice::Stop,
    offer::{Offer, OfferError, Opening, SignedOffer},
    paragraph::Reason,
    quorum::Threshold,
    quorum_key::tests::dealt,
    recipient::RecipientCard,
    secret::SecretScalar,
    slot::{SealedFor, SeenPoints},
    statement::{
        DatasetAt, LeaseTerms, Mode, Purpose, Resets, SignedStatement, Statement, StatementError, StatementParts,
    },
    tpm::{
        approval::{Expiry, TpmNonce},
        custody::CustodyHandles,
        nv::NvHandle,
        pcr::PcrSelection,
    },
};
use p256::ecdsa::SigningKey;
use rand_core::{OsRng, RngCore};

/// When everything here happens.
pub(crate) const NOON: UnixTime = UnixTime(1_800_014_400);

pub(crate) struct Person {
    pub(crate) position: Position,
    pub(crate) identity: SigningKey,
    hybrid: HybridSecretKey,
    share: SecretScalar,
}

pub(crate) struct World {
    pub(crate) people: Vec<Person>,
    facts: CustodyFacts,
    pub(crate) parts: CustodyFactsParts,
    pub(crate) embassy: SigningKey,
    custody_key: SecretScalar,
    owner: SigningKey,
    versions: Vec<VerifiedVersion>,
    seeds: Vec<DatasetSeed>,
    pub(crate) quorum: PreparedQuorum,
    key: HybridSecretKey,
}

fn public(key: &SigningKey) -> Point {
    Point::decode(key.verifying_key().to_encoded_point(true).as_bytes()).unwrap()
}

pub(crate) fn world(datasets: &[&str]) -> World {
    let threshold = Threshold::new(3, 5).unwrap();
    let (key, shares) = dealt(threshold);
    let (recovery, _) = dealt(Threshold::new(4, 5).unwrap());
    let people: Vec<Person> = threshold
        .positions()
        .zip(shares)
        .map(|(position, share)| Person {
            position,
            identity: SigningKey::random(&mut OsRng),
            hybrid: HybridSecretKey::random(&mut OsRng),
            share,
        })
        .collect();
    let members: Vec<OfficialFacts> = people
        .iter()
        .zip(["anna", "boris", "clara", "david", "eva"])
        .map(|(person, name)| OfficialFacts {
            name: OfficialName::new(name).unwrap(),
            identity: public(&person.identity),
            hybrid: person.hybrid.public().clone(),
        })
        .collect();
    let embassy = SigningKey::random(&mut OsRng);
    let custody_key = SecretScalar::random(&mut OsRng);
    let handle = |at| NvHandle::new(at).unwrap();
    let parts = CustodyFactsParts {
        charter: CharterId(Hash([1; 32])),
        in_force: CharterAt { version: 2, hash: Hash([2; 32]) },
        embassy: EmbassyName::new("luxembourg").unwrap(),
        generation: Generation::FIRST,
        unseal: QuorumFacts { key: key.clone(), members: members.clone() },
        recovery: QuorumFacts { key: recovery, members },
        amend: threshold,
        expiry_max_seconds: 600,
        machine: MachineFacts {
            platform: PcrSelection::new(&[0, 4, 7]).unwrap(),
            handles: CustodyHandles {
                counter: handle(0x0180_0010),
                register: handle(0x0180_0011),
                charter_pin: handle(0x0180_0012),
            },
            counter_first: 1,
            storage_root: public(&SigningKey::random(&mut OsRng)),
            attestation_key: public(&SigningKey::random(&mut OsRng)),
            custody_key: Point::mul_generator(custody_key.expose()),
            identity_key: public(&embassy),
        },
        others: vec![],
    };
    let facts = CustodyFacts::new(parts.clone()).unwrap();
    let owner = SigningKey::random(&mut OsRng);
    let owner_name = OwnerName::new("land-board").unwrap();
    let sealing_keys = facts.sealing_keys();
    let (mut versions, mut seeds) = (Vec::new(), Vec::new());
    for name in datasets {
        let dataset = DatasetName::new(name).unwrap();
        let seed = DatasetSeed::random(&mut OsRng);
        let unsigned =
            UnsignedVersion::create(&seed, owner_name.clone(), dataset.clone(), DatasetVersion::FIRST, sealing_keys)
                .unwrap();
        let chartered = CharteredDataset {
            charter: facts.charter(),
            owner: owner_name.clone(),
            owner_key: *owner.verifying_key(),
            dataset,
        };
        let signed = unsigned.sign(&owner).unwrap().verify_signature(&chartered).unwrap();
        versions.push(signed.verify_slots(sealing_keys).unwrap());
        seeds.push(seed);
    }
    let quorum = PreparedQuorum::new(&key);
    let ceremony = HybridSecretKey::random(&mut OsRng);
    World { people, facts, parts, embassy, custody_key, owner, versions, seeds, quorum, key: ceremony }
}

impl World {
    pub(crate) fn parts(&self, at: &[usize]) -> StatementParts {
        let datasets = at
            .iter()
            .map(|index| self.versions[*index].description())
            .map(|description| DatasetAt { dataset: description.dataset.clone(), version: description.version });
        StatementParts {
            charter: self.facts.charter(),
            embassy: self.facts.embassy().clone(),
            generation: self.facts.generation(),
            purpose: Purpose::new("a test of the opening").unwrap(),
            datasets: datasets.collect(),
            mode: Mode::Lease(LeaseTerms {
                agents: vec![AgentName::new("replicator").unwrap()],
                duration_seconds: 60,
                unwraps: 10,
            }),
            opener: OfficialName::new("anna").unwrap(),
            opened_at: NOON,
            expires_at: UnixTime(NOON.0 + 3600),
            acknowledged: Resets { reset_count: 1, restart_count: 0 },
            nonce: [4; 16],
        }
    }

    /// Signed by anna, whoever is said to have opened it.
    pub(crate) fn signed(&self, parts: StatementParts) -> SignedStatement {
        SignedStatement::sign(Statement::new(parts).unwrap(), &self.people[0].identity).unwrap()
    }

    fn statement(&self, at: &[usize]) -> SignedStatement {
        self.signed(self.parts(at))
    }

    fn review(&self) -> Review<'_> {
        Review { facts: &self.facts, versions: &self.versions, now: NOON, recipient: None }
    }

    /// An offer for `named` datasets, showing the slots of `shown`.
    fn offer_showing(&self, named: &[usize], shown: &[usize]) -> SignedOffer {
        let here = SealedFor::Embassy(self.facts.embassy().clone());
        let openings = shown.iter().map(|index| {
            let mut nonce = [0; 32];
            OsRng.fill_bytes(&mut nonce);
            Opening {
                subject: self.versions[*index].slot(&here).unwrap().id(),
                nonce: TpmNonce::from_bytes(&nonce).unwrap(),
            }
        });
        let openings = openings.collect();
        let offer = Offer::new(self.statement(named), 1, Some(self.key.public().clone()), openings).unwrap();
        SignedOffer::sign(offer, &self.embassy).unwrap()
    }

    fn offer(&self) -> SignedOffer {
        let all: Vec<usize> = (0..self.versions.len()).collect();
        self.offer_showing(&all, &all)
    }

    fn check(&self, offer: &SignedOffer) -> Result<CheckedOffer, OfferRefusal> {
        CheckedOffer::check(offer, &self.review(), &mut SeenPoints::new())
    }

    fn gathering(&self, offer: &SignedOffer) -> Gathering {
        Gathering::new(self.check(offer).unwrap(), &self.facts, &self.quorum).unwrap()
    }

    fn official<'a>(&self, person: &'a Person) -> Official<'a> {
        let Person { position, identity, hybrid, share } = person;
        Official { position: *position, identity, hybrid, share }
    }

    fn contribution(&self, place: usize, offer: &SignedOffer) -> Contribution {
        let official = self.official(&self.people[place]);
        self.check(offer).unwrap().contribute(&self.facts, &official, 600, &mut OsRng).unwrap()
    }

    fn halves(&self, place: usize, offer: &SignedOffer) -> Halves {
        let contribution = self.contribution(place, offer);
        Halves::open(&contribution, self.versions.len(), &self.key).unwrap()
    }

    /// Seals other halves into an official's contribution and has the official sign it.
    fn resealed(&self, place: usize, offer: &SignedOffer, halves: &Halves) -> Contribution {
        let person = &self.people[place];
        let hash = *self.check(offer).unwrap().hash();
        let sealed = halves.seal(self.key.public(), &hash, person.position, &mut OsRng).unwrap();
        let approvals = self.contribution(place, offer).approvals().to_vec();
        Contribution::sign(person.position, hash, approvals, sealed, &person.identity).unwrap()
    }

    fn resigned(&self, place: usize, offer: &SignedOffer, approvals: Vec<TpmApproval>) -> Contribution {
        let person = &self.people[place];
        let halves = self.halves(place, offer);
        let hash = *self.check(offer).unwrap().hash();
        let sealed = halves.seal(self.key.public(), &hash, person.position, &mut OsRng).unwrap();
        Contribution::sign(person.position, hash, approvals, sealed, &person.identity).unwrap()
    }

    /// What the TPM and the combiner do at k.
    fn open(&self, gathering: &Gathering) -> Vec<DatasetSeed> {
        let openings = gathering.quorate().unwrap().into_openings();
        assert_eq!(openings.len(), self.versions.len());
        openings
            .into_iter()
            .zip(&self.versions)
            .map(|(opening, version)| {
                assert_eq!(opening.approvals().len(), 3);
                let mut z_t = opening.slot().point().mul(self.custody_key.expose());
                let opened = opening.open(&SharedPoint::take(&mut z_t), version).unwrap();
                // The token says what it was opened for.
                let expected = (gathering.checked().offer().statement(), gathering.checked().hash());
                assert_eq!((opened.statement(), opened.offer()), expected);
                assert_eq!(opened.dataset(), version.description());
                assert!(opened.officials().iter().eq(gathering.contributors()));
                opened.into_seed()
            })
            .collect()
    }

    /// Opens every dataset for a lease with these terms, in a ceremony of its own for each `nonce`.
    pub(crate) fn opened(&self, terms: LeaseTerms, nonce: u8) -> Vec<Opened> {
        let all: Vec<usize> = (0..self.versions.len()).collect();
        let parts = StatementParts { mode: Mode::Lease(terms), nonce: [nonce; 16], ..self.parts(&all) };
        let here = SealedFor::Embassy(self.facts.embassy().clone());
        let openings = self.versions.iter().zip(1..).map(|(version, at)| Opening {
            subject: version.slot(&here).unwrap().id(),
            nonce: TpmNonce::from_bytes(&[at; 32]).unwrap(),
        });
        let offer = Offer::new(self.signed(parts), 1, Some(self.key.public().clone()), openings.collect()).unwrap();
        let offer = SignedOffer::sign(offer, &self.embassy).unwrap();
        let mut gathering = self.gathering(&offer);
        for place in [0, 1, 2] {
            gathering.receive(&self.contribution(place, &offer), &self.key).unwrap();
        }
        let openings = gathering.quorate().unwrap().into_openings();
        let open = |(opening, version): (QuorateOpening, &VerifiedVersion)| {
            let mut z_t = opening.slot().point().mul(self.custody_key.expose());
            opening.open(&SharedPoint::take(&mut z_t), version).unwrap()
        };
        openings.into_iter().zip(&self.versions).map(open).collect()
    }

    pub(crate) fn facts(&self) -> &CustodyFacts {
        &self.facts
    }

    pub(crate) fn recipient(&self, dataset: usize) -> Recipient {
        self.seeds[dataset].key().recipient()
    }

    /// An offer to release every dataset to somebody.
    pub(crate) fn release_offer(&self, card: &RecipientCard) -> SignedOffer {
        let all: Vec<usize> = (0..self.versions.len()).collect();
        let parts = StatementParts { mode: Mode::Release { recipient: Box::new(card.clone()) }, ..self.parts(&all) };
        let here = SealedFor::Embassy(self.facts.embassy().clone());
        let openings = self.versions.iter().zip(1..).map(|(version, at)| Opening {
            subject: version.slot(&here).unwrap().id(),
            nonce: TpmNonce::from_bytes(&[at; 32]).unwrap(),
        });
        let offer = Offer::new(self.signed(parts), 1, Some(card.hybrid().clone()), openings.collect()).unwrap();
        SignedOffer::sign(offer, &self.embassy).unwrap()
    }

    pub(crate) fn lease_offer(&self) -> SignedOffer {
        self.offer()
    }

    pub(crate) fn review_for<'a>(&'a self, recipient: &'a crate::protocol::recipient::Recipient) -> Review<'a> {
        Review { recipient: Some(recipient), ..self.review() }
    }

    pub(crate) fn contribution_for(&self, place: usize, offer: &SignedOffer, review: &Review<'_>) -> Contribution {
        let checked = CheckedOffer::check(offer, review, &mut SeenPoints::new()).unwrap();
        checked.contribute(&self.facts, &self.official(&self.people[place]), 600, &mut OsRng).unwrap()
    }

    /// The same with a wrong share of w inside, signed by its official; only the recipient can tell.
    pub(crate) fn spoilt(&self, place: usize, good: &Contribution, key: &HybridSecretKey) -> Contribution {
        let person = &self.people[place];
        let mut halves = Halves::open(good, self.versions.len(), key).unwrap();
        halves.shares[0].expose_mut()[31] ^= 1;
        let sealed = halves.seal(key.public(), good.offer(), person.position, &mut OsRng).unwrap();
        let approvals = good.approvals().to_vec();
        Contribution::sign(person.position, *good.offer(), approvals, sealed, &person.identity).unwrap()
    }

    /// Each slot with what a TPM that holds this exponent gives for it; the right one is the world's own.
    pub(crate) fn halves_of_tpm(&self, wrong: bool) -> Vec<(VerifiedSlot, SharedPoint)> {
        let here = SealedFor::Embassy(self.facts.embassy().clone());
        let wrong = wrong.then(|| SecretScalar::random(&mut OsRng));
        let key = wrong.as_ref().unwrap_or(&self.custody_key);
        let slots = self.versions.iter().map(|version| version.slot(&here).unwrap().clone());
        slots.map(|slot| (slot.clone(), SharedPoint::take(&mut slot.point().mul(key.expose())))).collect()
    }

    pub(crate) const fn prepared(&self) -> &PreparedQuorum {
        &self.quorum
    }

    /// What an official orders, under a name that may be another's.
    pub(crate) fn stop(&self, place: usize, name: &str, ceremony: CeremonyId) -> Stop {
        let (official, reason) = (OfficialName::new(name).unwrap(), Reason::new("a test of stopping").unwrap());
        Stop::sign(ceremony, official, reason, &self.people[place].identity).unwrap()
    }

    /// Refuses `bad`, then ends well with three others.
    fn refused_and_goes_on(&self, offer: &SignedOffer, bad: &Contribution, others: [usize; 3]) -> Refusal {
        let mut gathering = self.gathering(offer);
        let refusal = gathering.receive(bad, &self.key).unwrap_err();
        let blamed: Vec<OfficialName> = gathering.culprits().cloned().collect();
        assert_eq!(blamed, refusal.culprit().cloned().into_iter().collect::<Vec<_>>());
        for place in others {
            gathering.receive(&self.contribution(place, offer), &self.key).unwrap();
        }
        assert_eq!(self.open(&gathering)[0].expose(), self.seeds[0].expose());
        refusal
    }
}

#[test]
fn any_three_of_five_open_two_datasets_in_any_order() {
    let world = world(&["land", "police"]);
    let offer = world.offer();
    for trio in [[0, 1, 2], [4, 2, 0], [3, 4, 1]] {
        let mut gathering = world.gathering(&offer);
        for (have, place) in trio.into_iter().enumerate() {
            let NotQuorate::NotEnough { have: counted, need: 3, missing } = gathering.quorate().unwrap_err() else {
                panic!("quorate too early");
            };
            assert_eq!((usize::from(counted), missing.len()), (have, 5 - have));
            gathering.receive(&world.contribution(place, &offer), &world.key).unwrap();
        }
        assert_eq!(gathering.contributors().count(), 3);
        // Twice: a TPM that fails at the first attempt loses nothing.
        for _ in 0..2 {
            let seeds = world.open(&gathering);
            for (seed, expected) in seeds.iter().zip(&world.seeds) {
                assert_eq!(seed.expose(), expected.expose());
            }
        }
    }
}

#[test]
fn a_contribution_travels_and_every_change_on_the_way_is_refused_without_blame() {
    let world = world(&["land"]);
    let offer = world.offer();
    let good = world.contribution(0, &offer);
    let bytes = good.encode();
    assert_eq!(Contribution::decode(&bytes).unwrap(), good);
    let mut gathering = world.gathering(&offer);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let Ok(changed) = Contribution::decode(&changed) else { continue };
        let refusal = gathering.receive(&changed, &world.key).unwrap_err();
        assert_eq!(refusal.culprit(), None, "byte {at}: {refusal}");
    }
    assert_eq!(gathering.culprits().count(), 0);
    gathering.receive(&good, &world.key).unwrap();
}

#[test]
fn an_offer_travels_and_every_change_on_the_way_is_refused() {
    let world = world(&["land"]);
    let offer = world.offer();
    let bytes = offer.encode();
    assert_eq!(SignedOffer::decode(&bytes).unwrap(), offer);
    // The hybrid key in the middle is hashed like the rest: a sample of it is enough.
    for at in (0..bytes.len()).filter(|at| *at < 200 || *at > bytes.len() - 150 || at % 97 == 0) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let Ok(changed) = SignedOffer::decode(&changed) else { continue };
        assert!(matches!(world.check(&changed), Err(OfferRefusal::Offer(OfferError::Signature { .. }))), "byte {at}");
    }
}

#[test]
fn repeats_are_idempotent_and_nobody_counts_twice_or_late() {
    let world = world(&["land"]);
    let offer = world.offer();
    let mut gathering = world.gathering(&offer);
    let first = world.contribution(0, &offer);
    assert_eq!(gathering.receive(&first, &world.key), Ok(Receipt::Accepted { have: 1, need: 3 }));
    assert_eq!(gathering.receive(&first, &world.key), Ok(Receipt::AlreadyAccepted));
    // The same official anew: fresh randomness, other bytes.
    let again = gathering.receive(&world.contribution(0, &offer), &world.key).unwrap_err();
    assert!(matches!(again, Refusal::Repeated { .. }), "{again}");
    for place in [1, 2] {
        gathering.receive(&world.contribution(place, &offer), &world.key).unwrap();
    }
    let late = gathering.receive(&world.contribution(3, &offer), &world.key).unwrap_err();
    assert!(matches!(late, Refusal::Late { need: 3, .. }), "{late}");
    assert_eq!(gathering.culprits().count(), 0);
    assert_eq!(world.open(&gathering)[0].expose(), world.seeds[0].expose());
}

#[test]
fn an_approval_that_expired_costs_one_place_and_not_the_ceremony() {
    let world = world(&["land", "police"]);
    let offer = world.offer();
    let mut gathering = world.gathering(&offer);
    for place in [0, 1, 2] {
        gathering.receive(&world.contribution(place, &offer), &world.key).unwrap();
    }
    // The TPM names boris: his approval was good for a second.
    let (boris, david) = (world.people[1].position, world.people[3].position);
    assert!(gathering.set_aside(boris) && !gathering.set_aside(boris) && !gathering.set_aside(david));
    assert!(matches!(gathering.quorate(), Err(NotQuorate::NotEnough { have: 2, need: 3, .. })));
    assert_eq!(gathering.culprits().count(), 0);
    gathering.receive(&world.contribution(3, &offer), &world.key).unwrap();
    assert_eq!(world.open(&gathering)[1].expose(), world.seeds[1].expose());
    // Or the same official anew, before anybody else.
    assert!(gathering.set_aside(david));
    gathering.receive(&world.contribution(1, &offer), &world.key).unwrap();
    assert_eq!(world.open(&gathering)[0].expose(), world.seeds[0].expose());
}

#[test]
fn an_answer_to_another_offer_is_not_counted() {
    let world = world(&["land"]);
    let (offer, later) = (world.offer(), world.offer());
    let refusal = world.refused_and_goes_on(&later, &world.contribution(0, &offer), [0, 1, 2]);
    assert_eq!(refusal, Refusal::OtherOffer);
}

#[test]
fn one_official_cannot_speak_for_another() {
    let world = world(&["land"]);
    let offer = world.offer();
    let own = world.contribution(0, &offer);
    let hash = *own.offer();
    let halves = world.halves(0, &offer);
    let (victim, forger) = (&world.people[1], &world.people[0]);
    let sealed = halves.seal(world.key.public(), &hash, victim.position, &mut OsRng).unwrap();
    let forged = Contribution::sign(victim.position, hash, own.approvals().to_vec(), sealed, &forger.identity).unwrap();
    let refusal = world.refused_and_goes_on(&offer, &forged, [0, 1, 2]);
    assert!(matches!(refusal, Refusal::NotSigned { .. }), "{refusal}");
    // A place outside the quorum.
    let nobody = Position::new(6).unwrap();
    let stranger = Contribution::sign(nobody, hash, vec![], vec![], &forger.identity).unwrap();
    let refusal = world.refused_and_goes_on(&offer, &stranger, [0, 1, 2]);
    assert!(matches!(refusal, Refusal::NoSuchOfficial(_)), "{refusal}");
}

#[test]
fn approvals_that_the_tpm_would_refuse_are_refused_by_name() {
    let world = world(&["land", "police"]);
    let offer = world.offer();
    let checked = world.check(&offer).unwrap();
    let own = world.contribution(0, &offer).approvals().to_vec();
    let person = &world.people[0];
    let another = world.contribution(1, &offer).approvals().to_vec();
    let too_long = Expiry::new(601, 1000).unwrap();
    let long: Vec<TpmApproval> = checked
        .requests()
        .iter()
        .map(|request| request.sign(person.position, too_long, &person.identity).unwrap())
        .collect();
    let swapped: Vec<TpmApproval> = own.iter().rev().cloned().collect();
    let other_offer = world.contribution(0, &world.offer()).approvals().to_vec();
    for (story, approvals) in [
        ("none", vec![]),
        ("one missing", own[..1].to_vec()),
        ("one too many", [&own[..], &own[..1]].concat()),
        ("of another official", another),
        ("valid for too long", long),
        ("for each other's points", swapped),
        ("for another offer's sessions", other_offer),
    ] {
        let bad = world.resigned(0, &offer, approvals);
        let refusal = world.refused_and_goes_on(&offer, &bad, [0, 2, 3]);
        assert!(matches!(refusal, Refusal::Approval { .. }), "{story}: {refusal}");
        assert_eq!(refusal.culprit().unwrap().as_str(), "anna", "{story}");
    }
}

#[test]
fn halves_that_would_spoil_the_opening_are_refused_by_name() {
    let world = world(&["land", "police"]);
    let offer = world.offer();
    let hash = *world.check(&offer).unwrap().hash();
    let person = &world.people[0];
    let approvals = world.contribution(0, &offer).approvals().to_vec();

    // Sealed to another key, and no ciphertext at all.
    let elsewhere = HybridSecretKey::random(&mut OsRng);
    for sealed in [
        world.halves(0, &offer).seal(elsewhere.public(), &hash, person.position, &mut OsRng).unwrap(),
        vec![],
        vec![0; 64],
    ] {
        let bad = Contribution::sign(person.position, hash, approvals.clone(), sealed, &person.identity).unwrap();
        let refusal = world.refused_and_goes_on(&offer, &bad, [1, 2, 3]);
        assert!(matches!(refusal, Refusal::Sealed { .. }), "{refusal}");
    }

    // Shares of w for each other's dataset, one too few, and none that is right.
    let mut swapped = world.halves(0, &offer);
    swapped.shares.reverse();
    let mut random = world.halves(0, &offer);
    random.shares[1] = crate::protocol::secret::Secret::random(&mut OsRng);
    for halves in [swapped, random] {
        let refusal = world.refused_and_goes_on(&offer, &world.resealed(0, &offer, &halves), [1, 2, 3]);
        assert!(matches!(refusal, Refusal::Share { .. }), "{refusal}");
    }
    let mut few = world.halves(0, &offer);
    few.shares.pop();
    let refusal = world.refused_and_goes_on(&offer, &world.resealed(0, &offer, &few), [1, 2, 3]);
    assert!(matches!(refusal, Refusal::Sealed { .. }), "{refusal}");

    // Another official's partial, with the right shares.
    let mut stolen = world.halves(0, &offer);
    stolen.partial = world.halves(1, &offer).partial;
    let refusal = world.refused_and_goes_on(&offer, &world.resealed(0, &offer, &stolen), [1, 2, 3]);
    assert!(matches!(refusal, Refusal::Sealed { .. }), "{refusal}");

    // A partial for another offer.
    let mut old = world.halves(0, &offer);
    old.partial = world.halves(0, &world.offer()).partial;
    let refusal = world.refused_and_goes_on(&offer, &world.resealed(0, &offer, &old), [1, 2, 3]);
    assert!(matches!(refusal, Refusal::Partial { reason: PartialError::BadProof { .. }, .. }), "{refusal}");
    assert_eq!(refusal.culprit().unwrap().as_str(), "anna");
}

#[test]
fn an_official_refuses_an_offer_that_is_not_what_home_and_owner_signed() {
    let world = world(&["land", "police"]);
    let around = |parts: StatementParts| {
        let openings = world.offer_showing(&[0], &[0]).unverified().openings().to_vec();
        let offer = Offer::new(world.signed(parts), 1, Some(world.key.public().clone()), openings).unwrap();
        SignedOffer::sign(offer, &world.embassy).unwrap()
    };
    let here = |generation, embassy: &str, charter| {
        around(StatementParts { charter, embassy: EmbassyName::new(embassy).unwrap(), generation, ..world.parts(&[0]) })
    };
    let (charter, first) = (world.facts.charter(), Generation::FIRST);
    for (what, offer) in [
        ("charter", here(first, "luxembourg", CharterId(Hash([9; 32])))),
        ("embassy", here(first, "elsewhere", charter)),
        ("generation", here(first.next().unwrap(), "luxembourg", charter)),
    ] {
        assert_eq!(world.check(&offer).unwrap_err(), OfferRefusal::Another { what });
    }

    // Opened in the name of somebody else, of nobody known, long ago, or tomorrow.
    let named = |name: &str| OfficialName::new(name).unwrap();
    for (opener, opened_at, seconds) in [
        ("boris", NOON, 60),
        ("mallory", NOON, 60),
        ("anna", UnixTime(NOON.0 - 60), 60),
        ("anna", UnixTime(NOON.0 + 301), 60),
    ] {
        let expires_at = UnixTime(opened_at.0 + seconds);
        let parts = StatementParts { opener: named(opener), opened_at, expires_at, ..world.parts(&[0]) };
        let Err(OfferRefusal::Statement(error)) = world.check(&around(parts)) else { panic!("{opener} {opened_at}") };
        match opener {
            "boris" => assert_eq!(error, StatementError::Signature { official: named("boris") }),
            "mallory" => assert_eq!(error, StatementError::Stranger { official: named("mallory") }),
            _ if opened_at < NOON => assert_eq!(error, StatementError::Expired { at: NOON }),
            _ => assert_eq!(error, StatementError::NotYet { at: opened_at }),
        }
    }

    // One dataset's slot under another's name.
    let hidden = world.offer_showing(&[0], &[1]);
    assert!(matches!(world.check(&hidden), Err(OfferRefusal::OtherSlot { .. })));
    // Signed by somebody else.
    let forged = SignedOffer::sign(world.offer().unverified().clone(), &world.owner).unwrap();
    assert!(matches!(world.check(&forged), Err(OfferRefusal::Offer(OfferError::Signature { .. }))));
    // No record at hand.
    let none = {
        let review = Review { versions: &world.versions[..1], ..world.review() };
        CheckedOffer::check(&world.offer(), &review, &mut SeenPoints::new())
    };
    assert!(matches!(none, Err(OfferRefusal::NoRecord { .. })));
}

#[test]
fn a_signature_has_one_form_and_nobody_makes_another_of_it() {
    let world = world(&["land"]);
    for _ in 0..4 {
        let offer = world.offer();
        for bytes in [world.contribution(0, &offer).encode(), offer.encode()] {
            // s and n - s both verify; who relays can turn one into the other.
            let at = bytes.len() - 64;
            let signature = p256::ecdsa::Signature::from_slice(&bytes[at..]).unwrap();
            let (r, s) = signature.split_scalars();
            let other = p256::ecdsa::Signature::from_scalars(*r, -*s).unwrap();
            let turned = [&bytes[..at], &other.to_bytes()].concat();
            assert!(Contribution::decode(&turned).is_err() && SignedOffer::decode(&turned).is_err());
        }
    }
}

#[test]
fn an_embassy_that_lost_the_ceremony_key_blames_nobody() {
    let world = world(&["land"]);
    let offer = world.offer();
    let mut gathering = world.gathering(&offer);
    let another = HybridSecretKey::random(&mut OsRng);
    let refusal = gathering.receive(&world.contribution(0, &offer), &another).unwrap_err();
    assert_eq!((refusal.culprit(), gathering.culprits().count()), (None, 0), "{refusal}");
    // Nor one that checks against the quorum of another generation.
    let (stale, _) = dealt(Threshold::new(3, 5).unwrap());
    assert!(Gathering::new(world.check(&offer).unwrap(), &world.facts, &PreparedQuorum::new(&stale)).is_err());
}

#[test]
fn records_of_an_earlier_generation_do_not_stand_in_the_way() {
    let mut world = world(&["land"]);
    let mut parts = world.parts.clone();
    parts.generation = parts.generation.next().unwrap();
    let next = CustodyFacts::new(parts).unwrap();
    let name = OwnerName::new("land-board").unwrap();
    let dataset = world.versions[0].description().dataset.clone();
    let resealed = UnsignedVersion::create(
        &world.seeds[0],
        name.clone(),
        dataset.clone(),
        DatasetVersion::FIRST,
        next.sealing_keys(),
    );
    let owner_key = *world.owner.verifying_key();
    let chartered = CharteredDataset { charter: next.charter(), owner: name, owner_key, dataset };
    let signed = resealed.unwrap().sign(&world.owner).unwrap().verify_signature(&chartered).unwrap();
    let current = signed.verify_slots(next.sealing_keys()).unwrap();
    let earlier = std::mem::replace(&mut world.versions[0], current.clone());
    world.facts = next;
    let offer = world.offer();
    for versions in [vec![current.clone(), earlier.clone()], vec![earlier.clone(), current]] {
        let checked = {
            let review = Review { versions: &versions, ..world.review() };
            CheckedOffer::check(&offer, &review, &mut SeenPoints::new())
        };
        assert!(checked.is_ok(), "{}", checked.unwrap_err());
    }
    let only_earlier = {
        let review = Review { versions: &[earlier], ..world.review() };
        CheckedOffer::check(&offer, &review, &mut SeenPoints::new())
    };
    assert!(matches!(only_earlier, Err(OfferRefusal::NoRecord { .. })), "{only_earlier:?}");
}

#[test]
fn an_official_with_the_wrong_keys_sends_nothing() {
    let world = world(&["land"]);
    let checked = world.check(&world.offer()).unwrap();
    let mut official = world.official(&world.people[0]);
    official.share = &world.people[1].share;
    assert!(matches!(
        checked.contribute(&world.facts, &official, 600, &mut OsRng),
        Err(ContributeError::Decapsulate(_))
    ));
    let mut official = world.official(&world.people[0]);
    official.hybrid = &world.people[1].hybrid;
    assert!(matches!(checked.contribute(&world.facts, &official, 600, &mut OsRng), Err(ContributeError::Share { .. })));
    let mut official = world.official(&world.people[0]);
    official.identity = &world.people[1].identity;
    assert!(checked.contribute(&world.facts, &official, 600, &mut OsRng).is_err(), "the identity key of another");
    let official = world.official(&world.people[0]);
    for expiry in [0, 601] {
        assert!(matches!(
            checked.contribute(&world.facts, &official, expiry, &mut OsRng),
            Err(ContributeError::Approval(_))
        ));
    }
}

#[test]
fn facts_that_contradict_themselves_are_refused() {
    let world = world(&["land"]);
    let refused = |change: &dyn Fn(&mut CustodyFactsParts)| {
        let mut parts = world.parts.clone();
        change(&mut parts);
        CustodyFacts::new(parts).unwrap_err()
    };
    let shared = |what: &'static str, error: FactsError| {
        assert!(matches!(&error, FactsError::Shared { what: found, .. } if *found == what), "{error}");
    };
    shared("name", refused(&|parts| parts.unseal.members[1].name = parts.unseal.members[0].name.clone()));
    shared("identity key", refused(&|parts| parts.unseal.members[4].identity = parts.unseal.members[0].identity));
    shared("hybrid key", refused(&|parts| parts.recovery.members[1].hybrid = parts.recovery.members[0].hybrid.clone()));
    let error = refused(&|parts| drop(parts.unseal.members.pop()));
    assert!(matches!(error, FactsError::Members { found: 4, n: 5, .. }), "{error}");
    let error = refused(&|parts| parts.unseal.members[2].identity = parts.unseal.key.shares()[3]);
    assert!(matches!(error, FactsError::KeyReused { .. }), "{error}");
    let error = refused(&|parts| parts.expiry_max_seconds = 0);
    assert!(matches!(error, FactsError::Expiry), "{error}");
    let error = refused(&|parts| std::mem::swap(&mut parts.unseal, &mut parts.recovery));
    assert!(matches!(error, FactsError::RecoveryBelowUnseal { recovery: 3, unseal: 4 }), "{error}");
    let error = refused(&|parts| parts.machine.platform = PcrSelection::new(&[0, 7, 23]).unwrap());
    assert!(matches!(error, FactsError::Platform { pcr: 23 }), "{error}");
    let error = refused(&|parts| parts.amend = Threshold::new(3, 4).unwrap());
    assert!(matches!(error, FactsError::Ladder(_)), "{error}");
    let error = refused(&|parts| parts.amend = Threshold::new(2, 5).unwrap());
    assert!(error.to_string().contains("amend"), "{error}");
    let error = refused(&|parts| parts.recovery.key = parts.unseal.key.clone());
    assert!(matches!(error, FactsError::Slots { .. }), "{error}");
    let error = refused(&|parts| parts.machine.custody_key = *parts.unseal.key.key());
    assert!(matches!(error, FactsError::Slots { .. }), "{error}");
}
