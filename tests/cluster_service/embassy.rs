//! The embassy of these runs: the service itself on a simulated TPM, over a store that fails when it is told to, asked without a
//! network. A restart is a new service over the same store.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
};

use axum::{Router, body::Body, http::Request};
use chancery::{
    client::{api::DocumentBody, ceremonies::CeremonyView, leases::LeaseList},
    protocol::{
        certificate::{Role, UnixTime},
        ids::CeremonyId,
        offer::SignedOffer,
        roll::Entry,
        statement::{Resets, SignedStatement},
        wire::Document,
    },
    service::{
        self, App, boot,
        directory::Directory,
        peer::{Connection, Exchange, Peer},
    },
    store::{Call, Fault, Faulty, Kind, MAX_ROWS, MemoryStore, Store},
};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tower::ServiceExt;

use crate::support::{OWNER, WITNESS, World, net::shifted};

/// A running service.
struct Service {
    app: App,
    router: Router,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
}

/// What came back.
pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The code of a refusal; `None` where it was none.
    pub fn code(&self) -> Option<String> {
        (self.status >= 400).then(|| self.json()["code"].as_str().unwrap().to_owned())
    }
}

pub struct Embassy {
    pub network: World,
    service: Option<Service>,
    pub store: Arc<dyn Store>,
    /// How many of the next commits fail before, and how many after they took effect.
    before: Arc<AtomicU32>,
    after: Arc<AtomicU32>,
    clock: Arc<AtomicI64>,
    peers: BTreeMap<(String, String), Connection>,
    /// Everything that it ever answered.
    pub answers: Vec<String>,
}

fn take_one(from: &AtomicU32) -> bool {
    from.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Embassy {
    /// On this network's machine, with an empty store and both datasets' records.
    pub async fn new(network: World) -> Self {
        let (before, after, clock) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default(), Arc::default());
        let (fails, hides) = (Arc::clone(&before), Arc::clone(&after));
        let hook = move |call: Call<'_>| match call {
            Call::Commit(_) if take_one(&fails) => Some(Fault::Before),
            Call::Commit(_) if take_one(&hides) => Some(Fault::After),
            _ => None,
        };
        let store: Arc<dyn Store> = Arc::new(Faulty::new(MemoryStore::new(), hook));
        let (service, peers, answers) = (None, BTreeMap::new(), Vec::new());
        let mut this = Self { network, service, store, before, after, clock, peers, answers };
        this.start().await;
        let records: Vec<_> = this.network.datasets.iter().map(|dataset| dataset.record.clone()).collect();
        for record in records {
            let answer = this.post(Role::DataOwner, OWNER, "/v1/datasets", &DocumentBody::of_bytes(&record)).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
        this
    }

    async fn start(&mut self) {
        let directory = Directory::new(&self.network.site().directory);
        let settings = directory.settings().unwrap();
        let ready = boot::open(&directory, &settings, Arc::clone(&self.store), shifted(&self.clock)).await.unwrap();
        let (app, listener) = (ready.app.clone(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(async move {
            // Where the store fails, the orderly end cannot be written down.
            let _ = ready.serve(listener, stopped).await;
        });
        let router = service::app(app.clone());
        self.service = Some(Service { app, router, stop, served });
    }

    async fn end(&mut self) {
        if let Some(Service { app, router, stop, served }) = self.service.take() {
            stop.send_replace(true);
            served.await.unwrap();
            drop((app, router));
        }
    }

    /// Ends the service and starts it anew over the same store. After a crash, nothing of the end is in the store.
    pub async fn restart(&mut self, crash: bool) {
        self.faults(if crash { u32::MAX } else { 0 }, 0);
        self.end().await;
        self.faults(0, 0);
        self.start().await;
    }

    /// The machine's TPM loses everything that a reset loses.
    pub fn reset(&mut self) {
        let profile = self.network.sites[0].profile.clone();
        self.network.sites[0].machine.tpm_reset(&profile).unwrap();
    }

    pub fn faults(&self, before: u32, after: u32) {
        self.before.store(before, Ordering::SeqCst);
        self.after.store(after, Ordering::SeqCst);
    }

    pub fn has_faults(&self) -> bool {
        self.before.load(Ordering::SeqCst) + self.after.load(Ordering::SeqCst) > 0
    }

    pub fn wait(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn now(&self) -> UnixTime {
        UnixTime(crate::support::now().0 + self.clock.load(Ordering::SeqCst))
    }

    fn peer(&mut self, role: Role, name: &str) -> Connection {
        let trust = self.service.as_ref().unwrap().app.trust().get();
        let (home, now) = (&self.network.home, crate::support::now());
        let peer = self.peers.entry((role.to_string(), name.to_owned())).or_insert_with(|| {
            let visitor = home.visitor(role, name);
            let path: Vec<&[u8]> = visitor.path.iter().map(Vec::as_slice).collect();
            Connection::of(Peer::admit(&path, Exchange::Hybrid, &trust, now).unwrap())
        });
        peer.clone()
    }

    async fn send(&mut self, role: Role, name: &str, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(self.peer(role, name));
        let router = self.service.as_ref().unwrap().router.clone();
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        self.answers.push(text.clone());
        Answer { status: parts.status.as_u16(), text }
    }

    pub async fn get(&mut self, role: Role, name: &str, path: &str) -> Answer {
        self.send(role, name, Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&mut self, role: Role, name: &str, path: &str, body: &impl serde::Serialize) -> Answer {
        let body = Body::from(serde_json::to_vec(body).unwrap());
        let request = Request::post(path).header("content-type", "application/json").body(body).unwrap();
        self.send(role, name, request).await
    }

    /// What the TPM counts, as the embassy says.
    pub async fn resets(&mut self) -> Option<Resets> {
        let answer = self.get(Role::Auditor, "olga", "/v1/status").await;
        let (status, count) =
            (answer.json(), |value: &Value| value.as_u64().and_then(|count| u32::try_from(count).ok()));
        Some(Resets { reset_count: count(&status["reset_count"])?, restart_count: count(&status["restart_count"])? })
    }

    pub async fn open(&mut self, by: &str, signed: &SignedStatement) -> Answer {
        self.post(Role::Official, by, "/v1/ceremonies", &DocumentBody::of(signed)).await
    }

    pub async fn view(&mut self, id: &CeremonyId) -> CeremonyView {
        let answer = self.get(Role::Auditor, "olga", &format!("/v1/ceremonies/{id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        serde_json::from_str(&answer.text).unwrap()
    }

    /// The offer that is open, if there is one.
    pub async fn offer(&mut self, id: &CeremonyId) -> Option<SignedOffer> {
        let answer = self.get(Role::Official, "anna", &format!("/v1/ceremonies/{id}/offer")).await;
        let body: DocumentBody = (answer.status == 200).then(|| serde_json::from_str(&answer.text).unwrap())?;
        Some(body.read().unwrap())
    }

    pub async fn leases(&mut self) -> LeaseList {
        let answer = self.get(Role::Auditor, "olga", "/v1/leases").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        serde_json::from_str(&answer.text).unwrap()
    }

    /// The witness says that it is there, so that leases live.
    pub async fn beat(&mut self) {
        use chancery::protocol::{
            beat::{Beat, BeatNonce, BeatRequest},
            hash::Hash,
            ids::{CharterId, WitnessName},
        };
        let asked = self.get(Role::Witness, WITNESS, "/v1/beat").await.json();
        let bytes = |value: &Value| <[u8; 32]>::try_from(hex::decode(value.as_str().unwrap()).unwrap()).unwrap();
        let request = BeatRequest {
            charter: CharterId(Hash(bytes(&asked["charter"]))),
            embassy: asked["embassy"].as_str().unwrap().parse().unwrap(),
            nonce: BeatNonce(bytes(&asked["nonce"])),
        };
        let signer = &self.network.witness.signing;
        let beat = Beat::sign(request, WitnessName::new(WITNESS).unwrap(), self.now(), signer).unwrap();
        let answer = self.post(Role::Witness, WITNESS, "/v1/beat", &DocumentBody::of(&beat)).await;
        assert!(answer.status == 200 || self.has_faults() || answer.status >= 500, "{}", answer.text);
    }

    /// The whole roll, as the store has it.
    pub async fn roll(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            let from = u64::try_from(entries.len()).unwrap();
            let rows = self.store.roll(from, MAX_ROWS).await.unwrap();
            if rows.is_empty() {
                return entries;
            }
            entries.extend(rows.iter().map(|row| Entry::decode(&row.bytes).unwrap()));
        }
    }

    /// Everything that is saved.
    pub async fn saved(&self) -> Vec<Vec<u8>> {
        let mut saved: Vec<Vec<u8>> = self.roll().await.iter().map(Document::encode).collect();
        for kind in Kind::ALL {
            let mut after: Option<String> = None;
            loop {
                let rows = self.store.list(kind, after.as_deref(), MAX_ROWS).await.unwrap();
                let Some((last, _)) = rows.last() else { break };
                after = Some(last.clone());
                saved.extend(rows.into_iter().map(|(_, record)| record.bytes));
            }
        }
        saved
    }

    /// Ends it, and gives the network back.
    pub async fn into_network(mut self) -> World {
        self.faults(0, 0);
        self.end().await;
        self.network
    }
}
