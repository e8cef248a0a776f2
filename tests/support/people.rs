//! What people do on their own machines: open, review, approve, deny, stop; and send it to an embassy.

use std::sync::Arc;

use chancery::{
    client::api::DocumentBody,
    protocol::{
        certificate::{Role, UnixTime},
        contribution::{CheckedOffer, Contribution, Official as Contributor, Review},
        dataset_version::VerifiedVersion,
        facts::CustodyFacts,
        ids::{AgentName, CeremonyId, DatasetVersion},
        notice::{Denial, Stop},
        offer::SignedOffer,
        paragraph::{Purpose, Reason},
        recipient::RecipientCard,
        slot::SeenPoints,
        statement::{DatasetAt, LeaseTerms, Mode, Resets, SignedStatement, Statement, StatementParts},
        wire::Document,
    },
};
use rand_core::{OsRng, RngCore};
use rustls::ClientConfig;
use serde_json::Value;

use super::{
    EXPIRY_MAX, HOUR, Official, World,
    net::{Line, Running, Way, bytes_of::Response, client},
    now,
};

impl World {
    /// A lease of an hour and a thousand unwraps for the agent replica-1.
    pub fn lease(&self) -> Mode {
        Mode::Lease(LeaseTerms {
            agents: vec![AgentName::new("replica-1").unwrap()],
            duration_seconds: 3600,
            unwraps: 1000,
        })
    }

    /// A release to whoever has this card.
    pub fn release(&self, card: RecipientCard) -> Mode {
        Mode::Release { recipient: Box::new(card) }
    }

    /// What an official wants, in the first embassy, of the first datasets.
    pub fn parts(&self, opener: usize, mode: Mode, datasets: usize, acknowledged: Resets) -> StatementParts {
        let facts = self.facts();
        let mut nonce = [0; 16];
        OsRng.fill_bytes(&mut nonce);
        StatementParts {
            charter: facts.charter(),
            embassy: facts.embassy().clone(),
            generation: facts.generation(),
            purpose: Purpose::new("The courts in exile need the land register.").unwrap(),
            datasets: self.datasets[..datasets]
                .iter()
                .map(|dataset| DatasetAt { dataset: dataset.name.clone(), version: DatasetVersion::FIRST })
                .collect(),
            mode,
            opener: self.officials[opener].name.clone(),
            opened_at: now(),
            expires_at: UnixTime(now().0 + HOUR),
            acknowledged,
            nonce,
        }
    }

    pub fn signed(&self, parts: StatementParts) -> SignedStatement {
        let opener = self.officials.iter().find(|official| official.name == parts.opener).unwrap();
        SignedStatement::sign(Statement::new(parts).unwrap(), &opener.identity.signing).unwrap()
    }

    /// The versions that a statement names, verified.
    pub fn versions(&self, statement: &Statement) -> Vec<VerifiedVersion> {
        let at = |dataset: &DatasetAt| self.datasets.iter().position(|known| known.name == dataset.dataset).unwrap();
        statement.datasets().iter().map(|dataset| self.version(at(dataset))).collect()
    }
}

impl Official {
    /// Reviews an offer as an official's own machine does, and consents.
    pub fn approve(&self, world: &World, offer: &SignedOffer) -> Contribution {
        let facts: CustodyFacts = world.facts_of(offer.unverified().statement().embassy());
        let versions = world.versions(offer.unverified().statement());
        let home = world.home.authority();
        let recipient = offer.unverified().statement().mode().recipient();
        let recipient = recipient.map(|card| card.verify(&home, &world.revocations(), now()).unwrap());
        let review = Review { facts: &facts, versions: &versions, now: now(), recipient: recipient.as_ref() };
        let checked = CheckedOffer::check(offer, &review, &mut SeenPoints::new()).unwrap();
        let contributor = Contributor {
            position: self.position,
            identity: &self.identity.signing,
            hybrid: &self.hybrid,
            share: &self.share,
        };
        checked.contribute(&facts, &contributor, EXPIRY_MAX, &mut OsRng).unwrap()
    }

    pub fn deny(&self, id: CeremonyId) -> Denial {
        let why = Reason::new("I was not asked.").unwrap();
        Denial::sign(id, self.name.clone(), why, &self.identity.signing).unwrap()
    }

    pub fn stop(&self, id: CeremonyId) -> Stop {
        let why = Reason::new("The telephone was answered by a stranger.").unwrap();
        Stop::sign(id, self.name.clone(), why, &self.identity.signing).unwrap()
    }
}

/// Somebody who talks to one embassy over one connection.
pub struct Caller {
    pub line: Line,
    pub config: Arc<ClientConfig>,
}

impl Caller {
    pub async fn connect(world: &World, running: &Running, role: Role, name: &str) -> Self {
        let config = client(world, Some(&world.home.visitor(role, name)), &Way::default());
        Self { line: Line::open(running.address, &config).await.unwrap(), config }
    }

    pub async fn official(world: &World, running: &Running, index: usize) -> Self {
        Self::connect(world, running, Role::Official, world.officials[index].name.as_str()).await
    }

    pub async fn get(&mut self, path: &str) -> Response {
        self.line.get(path).await.unwrap()
    }

    pub async fn post(&mut self, path: &str, document: &impl Document) -> Response {
        self.line.post(path, &serde_json::to_value(DocumentBody::of(document)).unwrap()).await.unwrap()
    }

    /// The same where it must be taken.
    pub async fn taken(&mut self, path: &str, document: &impl Document) -> Value {
        let answer = self.post(path, document).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.json());
        answer.json()
    }

    /// What the TPM counts, as the embassy says.
    pub async fn resets(&mut self) -> Resets {
        let status = self.get("/v1/status").await.json();
        let count = |name: &str| u32::try_from(status[name].as_u64().unwrap()).unwrap();
        Resets { reset_count: count("reset_count"), restart_count: count("restart_count") }
    }

    /// A ceremony as it stands.
    pub async fn ceremony(&mut self, id: &CeremonyId) -> Value {
        let answer = self.get(&format!("/v1/ceremonies/{id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()
    }

    /// Waits until a ceremony is in a phase.
    pub async fn until(&mut self, id: &CeremonyId, phase: &str) -> Value {
        for _ in 0..200 {
            let view = self.ceremony(id).await;
            if view["phase"] == phase {
                return view;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("never {phase}: {}", self.ceremony(id).await)
    }

    /// Waits for the offer of an attempt.
    pub async fn offer(&mut self, id: &CeremonyId, attempt: u32) -> SignedOffer {
        for _ in 0..200 {
            let answer = self.get(&format!("/v1/ceremonies/{id}/offer")).await;
            if answer.status == 200 {
                let body: DocumentBody = serde_json::from_value(answer.json()).unwrap();
                let offer: SignedOffer = body.read().unwrap();
                if offer.unverified().attempt() == attempt {
                    return offer;
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("no offer: {}", self.ceremony(id).await)
    }

    /// Every entry of the roll, as lines.
    pub async fn roll(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            let page = self.get(&format!("/v1/roll?from={}&limit=256", said.len())).await.json();
            let entries = page["entries"].as_array().unwrap().clone();
            if entries.is_empty() {
                return said;
            }
            for entry in entries {
                let lines = entry["lines"].as_array().unwrap().iter();
                let act = lines.clone().find(|line| line["label"] == "act").unwrap();
                said.push(act["text"].as_str().unwrap().to_owned());
            }
        }
    }
}

impl World {
    /// Hands the data owner's records to an embassy.
    pub async fn publish(&self, running: &Running) {
        let mut owner = Caller::connect(self, running, Role::DataOwner, super::OWNER).await;
        for dataset in &self.datasets {
            let body = serde_json::to_value(DocumentBody::of_bytes(&dataset.record)).unwrap();
            let answer = owner.line.post("/v1/datasets", &body).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.json());
        }
    }

    /// Opens a ceremony as an official over the network.
    pub async fn open(&self, caller: &mut Caller, opener: usize, mode: Mode, datasets: usize) -> CeremonyId {
        let resets = caller.resets().await;
        let signed = self.signed(self.parts(opener, mode, datasets, resets));
        let answer = caller.taken("/v1/ceremonies", &signed).await;
        assert_eq!(answer["new"], true);
        signed.unverified().id()
    }
}
