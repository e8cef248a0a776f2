//! The invariants, each under its name: by the store, the line, the ledger, and what the service answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use chancery::{
    client::ceremonies::CeremonyView,
    protocol::{
        ceremony::Outcome,
        ids::CeremonyId,
        roll::{Act, Entry},
        slot::SealedFor,
        wire::Document,
    },
};

use crate::{
    Cluster, PATIENCE, gives,
    roll::{Told, nobody_counts_twice},
    support::memory::{Found, Needles},
    world::{K, N},
};

impl Cluster<'_> {
    pub async fn check(&mut self) {
        let began = Instant::now();
        loop {
            let roll = self.embassy.roll().await;
            self.no_lease_without_k(&roll);
            let told = nobody_counts_twice(&roll);
            self.every_opening_in_the_roll(&roll);
            self.no_end_but_a_real_one(&told);
            // A step is saved before it is shown: what is told may lag behind the roll for a moment, and no longer.
            let Err(difference) = self.tells_what_the_roll_says(&roll, &told).await else { return };
            assert!(began.elapsed() < PATIENCE, "{difference}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn tells_what_the_roll_says(
        &mut self,
        roll: &[Entry],
        told: &BTreeMap<CeremonyId, Told>,
    ) -> Result<(), String> {
        for (id, view) in self.views().await {
            let said = told.get(&id).ok_or_else(|| format!("every outcome in the roll: {id} is not in it"))?;
            let ended = said.ended.as_ref().map(ToString::to_string);
            if ended != view.outcome {
                return Err(format!("every outcome in the roll: {id} ended {ended:?}, by the roll, and {view:?}"));
            }
            if ended.is_none() {
                Self::honest_work_is_never_lost(&view, said)?;
            }
        }
        for lease in self.embassy.leases().await.leases.iter().filter(|lease| lease.state != "ended") {
            let leased =
                |entry: &Entry| matches!(&entry.act, Act::Leased { ceremony, .. } if ceremony.to_string() == lease.id);
            if !roll.iter().any(leased) {
                return Err(format!("every outcome in the roll: lease {} has no entry", lease.id));
            }
        }
        Ok(())
    }

    /// By the ledger, which the code under test does not see.
    fn no_lease_without_k(&self, roll: &[Entry]) {
        let ledger = &self.people.ledger;
        for (ceremony, offer) in roll.iter().filter_map(|entry| gives(&entry.act)) {
            let consents: BTreeSet<_> = ledger.consents.iter().filter(|(about, _)| about == offer).collect();
            assert!(consents.len() >= usize::from(K), "no lease without k: {ceremony} was opened by {consents:?}");
            assert_eq!(ledger.offers.get(offer), Some(ceremony), "no lease without k: the consents are to another");
        }
    }

    fn every_opening_in_the_roll(&self, roll: &[Entry]) {
        for (ceremony, offer) in roll.iter().filter_map(|entry| gives(&entry.act)) {
            let opening = roll.iter().any(|entry| match &entry.act {
                Act::Opening { ceremony: of, offer: by, .. } => (of, by) == (ceremony, offer),
                _ => false,
            });
            assert!(opening, "every outcome in the roll: {ceremony} was opened without an entry before it");
            assert!(self.opened.iter().any(|(id, _)| id == ceremony), "nobody opened {ceremony}");
        }
    }

    /// No end but those that somebody real brought about.
    fn no_end_but_a_real_one(&self, told: &BTreeMap<CeremonyId, Told>) {
        let ledger = &self.people.ledger;
        for (id, signed) in &self.opened {
            match told.get(id).and_then(|told| told.ended.as_ref()) {
                Some(Outcome::Denied { officials }) => {
                    let real = ledger.denials.iter().filter(|(about, _)| about == id).count();
                    let need = usize::from(N - K + 1);
                    assert!(real >= need && officials.len() >= need, "honest work is lost: denied by {officials:?}");
                }
                Some(Outcome::Stopped { by, .. }) => {
                    let person = self.world.people.iter().find(|person| person.name == *by).unwrap();
                    let real = ledger.stops.contains(&(*id, person.position));
                    assert!(real, "honest work is lost: {by} never stopped it");
                }
                Some(Outcome::Expired | Outcome::Released) => {
                    let over = self.embassy.now() >= signed.unverified().expires_at();
                    assert!(over, "honest work is lost: {id} ended before its time");
                }
                Some(Outcome::Adopted) => panic!("nobody adopts a charter in these histories: {id}"),
                Some(Outcome::Leased) | None => {}
            }
        }
    }

    /// Whoever the roll says counts, counts.
    fn honest_work_is_never_lost(view: &CeremonyView, told: &Told) -> Result<(), String> {
        let names = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
        let (counted, denied) = (names(&view.contributed), names(&view.denied));
        assert_eq!(counted.len(), view.contributed.len(), "nobody counts twice: {view:?}");
        let against: BTreeSet<_> = told.against.iter().map(ToString::to_string).collect();
        if denied != against {
            return Err(format!("honest work is lost: votes of {against:?}, by the roll, and {view:?}"));
        }
        let agree: BTreeSet<_> = told.contributed.difference(&told.against).map(ToString::to_string).collect();
        if view.phase == "collecting" && (&counted, view.attempt) != (&agree, told.attempt) {
            let attempt = told.attempt;
            return Err(format!("honest work is lost: {agree:?} at {attempt}, by the roll, and {view:?}"));
        }
        Ok(())
    }

    /// Searches everything that was saved, sent or answered.
    pub async fn no_seed_but_in_a_live_lease(&self) {
        const PLANTED: &str = "something public";
        let network = &self.embassy.network;
        let here = SealedFor::Embassy(self.world.facts.embassy().clone());
        let mut needles = Needles::new();
        let mut plain: Vec<(String, Vec<u8>)> = Vec::new();
        // The charter's id stands in every statement: a search that does not find it is worth nothing.
        needles.exactly(PLANTED, self.world.facts.charter().0.as_bytes());
        for (dataset, version) in network.datasets.iter().zip(&self.world.versions) {
            needles.dataset(dataset.name.as_str(), &dataset.seed, version, &here);
            plain.push((format!("the seed of {}", dataset.name), dataset.seed.expose().to_vec()));
            for person in &self.world.people {
                let slot = version.slot(&here).unwrap();
                let share = slot.open_share(person.position, &person.hybrid).unwrap().to_bytes();
                needles.number(&format!("{}'s share of w of {}", person.name, dataset.name), share.expose());
                let half = slot.point().mul(person.share.expose());
                needles.point(&format!("{}'s half for {}", person.name, dataset.name), &half);
            }
        }
        for person in &self.world.people {
            let share = person.share.to_bytes();
            needles.number(&format!("{}'s share of the quorum's key", person.name), share.expose());
            plain.push((format!("{}'s share", person.name), share.expose().to_vec()));
        }
        let mut found: Vec<Found> = Vec::new();
        for (number, bytes) in self.embassy.saved().await.iter().enumerate() {
            needles.in_memory(bytes, &format!("record {number}"), &mut found);
        }
        for (_, message) in &self.overheard {
            needles.in_memory(message.bytes(), "a message", &mut found);
        }
        assert!(self.opened.is_empty() || found.iter().any(|found| found.what == PLANTED), "the search finds nothing");
        found.retain(|found| found.what != PLANTED);
        assert!(found.is_empty(), "no seed but in a live lease: {found:#?}");
        for (what, secret) in plain {
            let secret = hex::encode(secret);
            let there = self.embassy.answers.iter().any(|answer| answer.contains(&secret));
            assert!(!there, "no seed but in a live lease: {what} was answered");
        }
        // What was searched is what there is: the roll can be read back.
        for entry in self.embassy.roll().await {
            assert_eq!(Entry::decode(&entry.encode()).unwrap(), entry);
        }
    }
}
