//! The invariants, each under its name. They look at the disk, the line and the ledger, and at no internals.

use std::collections::{BTreeMap, BTreeSet};

use chancery::protocol::{
    ceremony::{Outcome, Phase},
    hash::Hash,
    ids::CeremonyId,
    roll::{Act, Entry},
    slot::SealedFor,
    wire::Document,
};

use crate::{
    Cluster,
    roll::{Told, nobody_counts_twice},
    world::{K, N},
};

impl Cluster {
    pub fn check(&self) {
        self.no_lease_without_k();
        let told = nobody_counts_twice(&self.embassy.store.roll);
        self.every_outcome_in_the_roll(&told);
        self.honest_work_is_never_lost(&told);
    }

    fn consents(&self, offer: &Hash) -> usize {
        self.people.ledger.consents.iter().filter(|(about, _)| about == offer).count()
    }

    /// By the ledger, which the code under test does not see.
    fn no_lease_without_k(&self) {
        let ledger = &self.people.ledger;
        for (id, offer) in &self.embassy.leased {
            assert!(self.consents(offer) >= usize::from(K), "no lease without k: {id} has fewer consents");
            assert_eq!(ledger.offers.get(offer), Some(id), "no lease without k: the consents are to another statement");
        }
        for entry in &self.embassy.store.roll {
            if let Act::Released { ceremony, offer, .. } = &entry.act {
                assert!(self.consents(offer) >= usize::from(K), "no lease without k: {ceremony} was released");
                assert_eq!(ledger.offers.get(offer), Some(ceremony), "no lease without k: another statement");
            }
        }
        for grant in &self.embassy.tpm.grants {
            let signed = ledger
                .approvals
                .iter()
                .filter(|(nonce, point, _)| *nonce == grant.nonce && *point == grant.point.encode());
            assert!(signed.count() >= usize::from(K), "no lease without k: T answered to fewer");
        }
    }

    /// The roll says how each ceremony ended, and of none that goes on that it ended.
    fn every_outcome_in_the_roll(&self, told: &BTreeMap<CeremonyId, Told>) {
        for id in self.embassy.ids() {
            let Some(unseal) = self.embassy.unseal(&id) else { continue };
            let said = told.get(&id).and_then(|told| told.ended.as_ref());
            assert_eq!(said, unseal.outcome(), "every outcome in the roll: {id}");
            let opened = self.embassy.store.roll.iter().filter(|entry| match &entry.act {
                Act::Opening { ceremony, .. } => *ceremony == id,
                _ => false,
            });
            let was_opened = matches!(unseal.outcome(), Some(Outcome::Leased | Outcome::Released));
            assert!(!was_opened || opened.count() > 0, "every outcome in the roll: {id} was opened without an entry");
        }
        for id in self.embassy.leases.keys() {
            let leased = self.embassy.store.roll.iter().any(|entry| match &entry.act {
                Act::Leased { ceremony, .. } => ceremony == id,
                _ => false,
            });
            assert!(leased, "every outcome in the roll: {id} has a lease and no entry");
        }
    }

    /// No end but those that somebody real brought about; and whoever the roll says counts, counts.
    fn honest_work_is_never_lost(&self, told: &BTreeMap<CeremonyId, Told>) {
        let ledger = &self.people.ledger;
        for id in self.embassy.ids() {
            let Some(unseal) = self.embassy.unseal(&id) else { continue };
            match unseal.outcome() {
                Some(Outcome::Denied { officials }) => {
                    let real = ledger.denials.iter().filter(|(about, _)| *about == id).count();
                    let need = usize::from(N - K + 1);
                    assert!(real >= need && officials.len() >= need, "honest work is lost: denied by {officials:?}");
                }
                Some(Outcome::Stopped { by, .. }) => {
                    let person = self.world.people.iter().find(|person| person.name == *by).unwrap();
                    let real = ledger.stops.contains(&(id, person.position));
                    assert!(real, "honest work is lost: {by} never stopped it");
                }
                Some(Outcome::Expired | Outcome::Released) => {
                    let over = self.embassy.now >= unseal.statement().expires_at();
                    assert!(over, "honest work is lost: {id} ended before its time");
                }
                Some(Outcome::Adopted) => panic!("nobody adopts a charter in these stories: {id}"),
                Some(Outcome::Leased) | None => {}
            }
            let Some(told) = told.get(&id).filter(|told| told.ended.is_none()) else { continue };
            let standing = unseal.standing(&self.world.facts);
            let against: BTreeSet<_> = standing.denied.iter().map(|(name, _)| name.clone()).collect();
            assert_eq!(against, told.against, "honest work is lost: a vote of {id}");
            let counted: BTreeSet<_> = standing.contributed.iter().cloned().collect();
            assert_eq!(counted.len(), standing.contributed.len(), "nobody counts twice: {standing:?}");
            let agree: BTreeSet<_> = told.contributed.difference(&told.against).cloned().collect();
            match standing.phase {
                Phase::Collecting => assert_eq!(counted, agree, "honest work is lost: a contribution to {id}"),
                // Who denies while the TPM is asked is not taken back in the middle of it.
                Phase::Opening | Phase::Released => {
                    let all = counted.is_superset(&agree) && counted.is_subset(&told.contributed);
                    assert!(all, "honest work is lost: a contribution to {id}: {counted:?} of {agree:?}");
                }
                Phase::AwaitingOffer | Phase::Ended => {}
            }
        }
    }

    /// Searches everything that was saved, sent or can be shown.
    pub fn no_seed_but_in_a_live_lease(&self) {
        for id in self.embassy.leases.keys() {
            let alive = self.embassy.outcome(id) == Some(&Outcome::Leased);
            assert!(alive || !self.embassy.is_idle(), "no seed but in a live lease: {id} did not end so");
        }
        let mut secrets: Vec<(&str, Vec<u8>)> = Vec::new();
        for seed in &self.world.seeds {
            secrets.push(("a seed", seed.expose().to_vec()));
        }
        let here = SealedFor::Embassy(self.world.facts.embassy().clone());
        for person in &self.world.people {
            secrets.push(("a DKG share", person.share.to_bytes().expose().to_vec()));
            for version in &self.world.versions {
                let slot = version.slot(&here).unwrap();
                let share = slot.open_share(person.position, &person.hybrid).unwrap();
                secrets.push(("a share of w", share.to_bytes().expose().to_vec()));
                let half = slot.point().mul(person.share.expose());
                secrets.push(("an official's half", half.xy().0.to_vec()));
            }
        }
        for dataset in 0..self.world.versions.len() {
            let half = self.world.slot(dataset).point().mul(self.world.custody_key.expose());
            secrets.push(("the TPM's half", half.xy().0.to_vec()));
        }
        let shown = self.embassy.ids().into_iter().filter_map(|id| self.embassy.unseal(&id));
        let shown: Vec<Vec<u8>> = shown.map(|unseal| format!("{unseal:?}").into_bytes()).collect();
        let sent = self.overheard.iter().map(|(_, message)| message.bytes());
        let saved = self.embassy.store.written.iter().map(Vec::as_slice);
        for place in saved.chain(sent).chain(shown.iter().map(Vec::as_slice)) {
            for (what, secret) in &secrets {
                let there = lies_in(place, secret) || lies_in(place, hex::encode(secret).as_bytes());
                assert!(!there, "no seed but in a live lease: {what} lies in {} bytes", place.len());
            }
        }
        // What was searched is what there is: the roll can be read back.
        for entry in &self.embassy.store.roll {
            assert_eq!(Entry::decode(&entry.encode()).unwrap(), *entry);
        }
    }
}

fn lies_in(place: &[u8], secret: &[u8]) -> bool {
    let first = secret[0];
    let starts = place.iter().enumerate().filter(|(_, byte)| **byte == first);
    starts.into_iter().any(|(at, _)| place[at..].starts_with(secret))
}
