//! The embassy's driver, as the service has one: receive, step, save, send. Orders of an outbox are carried out later, one at a
//! time and in their order, so that anything can happen in between; a commit can fail, and its step is then saved first.

use std::collections::{BTreeMap, VecDeque};

use chancery::protocol::{
    ceremony::{
        Admission, Ceremony, Context, Event, Material, NotAdmitted, Out, Outcome, Reply, Step, Trouble, Unseal,
    },
    certificate::UnixTime,
    dataset::DatasetSeed,
    gathering::QuorateOpening,
    hash::Hash,
    hybrid::{self, HybridSecretKey},
    ids::{CeremonyId, DatasetName, OfficialName},
    label::Label,
    offer::{Offer, Opening, SignedOffer},
    paragraph::Reason,
    roll::{Act, Entry, Who},
    secret::SharedPoint,
    slot::VerifiedSlot,
    statement::{Resets, SignedStatement},
    tpm::approval::{TpmApproval, TpmNonce},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

use crate::{
    tpm::{Fault, Store, Tpm},
    world::{NOON, World},
};

/// A lease in the embassy's memory: the only place where seeds are.
pub struct Lease {
    pub offer: Hash,
    pub officials: Vec<OfficialName>,
    pub seeds: Vec<(DatasetName, DatasetSeed)>,
}

/// One ceremony in the driver.
#[derive(Default)]
struct Slot {
    ceremony: Option<Ceremony>,
    /// A step that the store did not take yet.
    unsaved: Option<Step<Ceremony>>,
    orders: VecDeque<Out>,
    /// By attempt.
    sessions: BTreeMap<u32, Sessions>,
}

/// What is parked for one attempt, and the TPM's halves of it so far.
struct Sessions {
    nonces: Vec<TpmNonce>,
    halves: Vec<Option<SharedPoint>>,
}

pub struct Embassy<'w> {
    pub world: &'w World,
    pub now: UnixTime,
    pub tpm: Tpm<'w>,
    pub store: Store,
    pub leases: BTreeMap<CeremonyId, Lease>,
    /// Every lease there ever was: its ceremony and offer.
    pub leased: Vec<(CeremonyId, Hash)>,
    slots: BTreeMap<CeremonyId, Slot>,
    pub rng: ChaCha20Rng,
}

impl<'w> Embassy<'w> {
    pub fn new(world: &'w World) -> Self {
        Self {
            world,
            now: NOON,
            tpm: Tpm::new(world),
            store: Store::default(),
            leases: BTreeMap::new(),
            leased: Vec::new(),
            slots: BTreeMap::new(),
            rng: ChaCha20Rng::seed_from_u64(7),
        }
    }

    pub fn context(&self) -> Context<'w> {
        let World { facts, quorum, versions, recipient, .. } = self.world;
        Context { facts, quorum, versions, recipient: Some(recipient), now: self.now }
    }

    pub const fn resets(&self) -> Resets {
        Resets { reset_count: self.tpm.resets, restart_count: 0 }
    }

    pub fn ids(&self) -> Vec<CeremonyId> {
        self.slots.keys().copied().collect()
    }

    pub fn unseal(&self, id: &CeremonyId) -> Option<&Unseal> {
        let Ceremony::Unseal(unseal) = self.slots.get(id)?.ceremony.as_ref()?;
        Some(unseal)
    }

    /// What anybody can fetch of an offer. Only what was saved is shown.
    pub fn offer(&self, id: &CeremonyId) -> Option<SignedOffer> {
        self.unseal(id)?.offer().cloned()
    }

    pub fn is_idle(&self) -> bool {
        self.slots.values().all(|slot| slot.orders.is_empty() && slot.unsaved.is_none())
    }

    /// A statement comes in.
    pub fn open(&mut self, signed: SignedStatement, leases: bool) -> Result<CeremonyId, NotAdmitted> {
        let going_on =
            self.slots.values().filter_map(|slot| slot.ceremony.as_ref()).filter(|known| known.holds_its_opener());
        let open: Vec<_> = going_on.map(|known| (known.id(), known.opener().clone())).collect();
        let admission = Admission { resets: self.resets(), leases, pinned: self.world.facts.charter().0, open: &open };
        let id = signed.unverified().id();
        // The service finds a known statement in its store, whatever became of it.
        if self.slots.contains_key(&id) {
            return Err(NotAdmitted::Known { id });
        }
        let step = Ceremony::open(signed, &self.context(), &admission)?;
        // A statement that cannot be saved has opened nothing; its opener sends it again.
        self.store.fails = 0;
        self.slots.insert(id, Slot::default());
        self.save(id, step);
        Ok(id)
    }

    /// Save, then send; never the other way.
    fn save(&mut self, id: CeremonyId, step: Step<Ceremony>) -> bool {
        let slot = self.slots.get_mut(&id).unwrap();
        let record = (format!("ceremony/{id}"), step.next.record());
        if self.store.commit(Some(record), &step.entries).is_err() {
            slot.unsaved = Some(step);
            return false;
        }
        slot.ceremony = Some(step.next);
        slot.orders.extend(step.outbox);
        true
    }

    /// An event comes in. `None` where the store would not take what followed before; the sender has to repeat it.
    pub fn feed(&mut self, id: CeremonyId, event: Event) -> Option<Reply> {
        let slot = self.slots.get_mut(&id)?;
        if let Some(step) = slot.unsaved.take()
            && !self.save(id, step)
        {
            return None;
        }
        let context = self.context();
        let ceremony = self.slots.get_mut(&id)?.ceremony.take()?;
        let (step, reply) = ceremony.on(event, &context);
        self.save(id, step).then_some(reply)
    }

    /// Carries out the next order of one ceremony; `false` where there is none.
    pub fn work(&mut self, id: CeremonyId) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        if let Some(step) = slot.unsaved.take() {
            self.save(id, step);
            return true;
        }
        let Some(out) = slot.orders.pop_front() else { return false };
        match out {
            Out::MakeOffer { statement, attempt } => {
                let event = self.make_offer(id, *statement, attempt);
                self.deliver(id, event);
            }
            Out::Open { attempt, offer, material } => {
                let event = match self.finish(id, attempt, &offer, *material) {
                    Ok(()) => Event::Opened { attempt },
                    Err(trouble) => Event::NotOpened { attempt, trouble },
                };
                self.deliver(id, event);
            }
            Out::Forget { attempt } => {
                if let Some(sessions) = self.slots.get_mut(&id).unwrap().sessions.remove(&attempt) {
                    self.tpm.forget(&sessions.nonces);
                }
            }
            Out::Revoke => {
                if self.leases.remove(&id).is_some() {
                    let why = Reason::of("its ceremony had ended");
                    self.entry(Act::LeaseEnded { ceremony: id, why, unwraps: 0 });
                }
                self.store.records.remove(&format!("release/{id}"));
            }
            Out::Notify => {}
        }
        true
    }

    /// The driver's own events are not lost: where the store fails, the step that follows is kept.
    fn deliver(&mut self, id: CeremonyId, event: Event) {
        let slot = self.slots.get_mut(&id).unwrap();
        if let Some(step) = slot.unsaved.take() {
            self.store.fails = 0;
            assert!(self.save(id, step));
        }
        self.feed(id, event);
    }

    fn entry(&mut self, act: Act) {
        self.store.fails = 0;
        let entry = Entry { at: self.now, by: Who::Embassy(self.world.facts.embassy().clone()), act };
        self.store.commit(None, &[entry]).unwrap();
    }

    fn make_offer(&mut self, id: CeremonyId, statement: SignedStatement, attempt: u32) -> Event {
        let mut openings = Vec::new();
        for at in statement.unverified().datasets() {
            let version =
                self.world.versions.iter().position(|version| version.description().dataset == at.dataset).unwrap();
            match self.tpm.park(self.now.0, &mut self.rng) {
                Ok(nonce) => openings.push(Opening { subject: self.world.slot(version).id(), nonce }),
                Err(fault) => return Event::NotOffered { attempt, why: format!("{fault:?}"), again: true },
            }
        }
        let key = statement.unverified().mode().recipient().is_none().then(|| HybridSecretKey::random(&mut self.rng));
        let public = key.as_ref().map_or_else(|| self.world.card.hybrid().clone(), |key| key.public().clone());
        let slot = self.slots.get_mut(&id).unwrap();
        let nonces = openings.iter().map(|opening| opening.nonce).collect();
        let halves = openings.iter().map(|_| None).collect();
        slot.sessions.insert(attempt, Sessions { nonces, halves });
        let offer = Offer::new(statement, attempt, Some(public), openings).unwrap();
        Event::Offered { offer: Box::new(SignedOffer::sign(offer, &self.world.embassy).unwrap()), key }
    }

    fn finish(&mut self, id: CeremonyId, attempt: u32, offer: &Hash, material: Material) -> Result<(), Trouble> {
        // Durable before the TPM is asked: the driver saved it, or nobody would be here.
        let said = |entry: &Entry| matches!(&entry.act, Act::Opening { offer: named, .. } if named == offer);
        assert!(self.store.roll.iter().any(said), "the TPM is asked before the roll says so");
        match material {
            Material::Lease(quorate) => {
                let openings = quorate.into_openings();
                let asked: Vec<_> =
                    openings.iter().map(|opening| (opening.slot().clone(), opening.approvals().to_vec())).collect();
                let halves = self.ask(id, attempt, &asked)?;
                self.install(id, openings, &halves)
            }
            Material::Adoption(_) => panic!("nobody adopts a charter in these stories"),
            Material::Release(quorate) => {
                let asked: Vec<_> = quorate
                    .into_openings()
                    .iter()
                    .map(|opening| (opening.slot().clone(), opening.approvals().to_vec()))
                    .collect();
                let halves = self.ask(id, attempt, &asked)?;
                let plain: Vec<u8> = halves.iter().flat_map(|half| half.expose().encode()).collect();
                let to = self.world.card.hybrid();
                let sealed =
                    hybrid::seal(to, Label::RELEASE_SEAL, offer.as_bytes(), b"", &plain, &mut self.rng).unwrap();
                self.store
                    .commit(Some((format!("release/{id}"), sealed)), &[])
                    .map_err(|_| Trouble::Retry { why: "the store failed".to_owned() })
            }
        }
    }

    /// The TPM's half of each slot. What it gave for one is kept while another is retried.
    fn ask(
        &mut self,
        id: CeremonyId,
        attempt: u32,
        openings: &[(VerifiedSlot, Vec<TpmApproval>)],
    ) -> Result<Vec<SharedPoint>, Trouble> {
        let slot = self.slots.get_mut(&id).unwrap();
        let lost = || Trouble::FreshApprovals { why: "the session is lost".to_owned() };
        let Some(slot) = slot.sessions.get_mut(&attempt) else { return Err(lost()) };
        for (index, (opening, approvals)) in openings.iter().enumerate() {
            if slot.halves[index].is_some() {
                continue;
            }
            let half = self.tpm.decapsulate(&slot.nonces[index], opening.point(), approvals, self.now.0);
            slot.halves[index] = Some(half.map_err(|fault| match fault {
                Fault::Busy => Trouble::Retry { why: "the TPM is busy".to_owned() },
                Fault::SessionLost => lost(),
                Fault::TooFew(officials) => Trouble::Refused { officials },
            })?);
        }
        Ok(slot.halves.iter().flatten().map(|half| SharedPoint::take(&mut half.expose().clone())).collect())
    }

    /// Opens, compares, and begins the lease; the roll says so first.
    fn install(
        &mut self,
        id: CeremonyId,
        openings: Vec<QuorateOpening>,
        halves: &[SharedPoint],
    ) -> Result<(), Trouble> {
        let (mut seeds, mut leased) = (Vec::new(), None);
        for (opening, half) in openings.into_iter().zip(halves) {
            let version = self.world.version_of(opening.slot());
            let opened = opening.open(half, version).map_err(|error| Trouble::Examine { why: error.to_string() })?;
            leased = Some((*opened.offer(), opened.officials().to_vec()));
            seeds.push((opened.dataset().dataset.clone(), opened.into_seed()));
        }
        let (offer, officials) = leased.unwrap();
        let act = Act::Leased { ceremony: id, offer, officials: officials.clone() };
        let entry = Entry { at: self.now, by: Who::Embassy(self.world.facts.embassy().clone()), act };
        self.store.commit(None, &[entry]).map_err(|_| Trouble::Retry { why: "the store failed".to_owned() })?;
        self.leased.push((id, offer));
        self.leases.insert(id, Lease { offer, officials, seeds });
        Ok(())
    }

    /// The service is stopped and started: memory is gone, the disk stays.
    pub fn restart(&mut self) {
        self.store.fails = 0;
        self.tpm.forget_all();
        for (id, lease) in std::mem::take(&mut self.leases) {
            drop(lease);
            self.entry(Act::LeaseEnded { ceremony: id, why: Reason::of("restart"), unwraps: 0 });
        }
        let ids = self.ids();
        self.slots.clear();
        for id in ids {
            let record = self.store.records[&format!("ceremony/{id}")].clone();
            let step = Ceremony::resume(&record, &self.context()).unwrap();
            assert_eq!(step.next.id(), id);
            self.slots.insert(id, Slot::default());
            self.save(id, step);
        }
    }

    /// What a ceremony came to, of those that ended.
    pub fn outcome(&self, id: &CeremonyId) -> Option<&Outcome> {
        self.unseal(id)?.outcome()
    }
}
