//! The API without a network: every path is behind the gate, each role does what is its own, and requests that are not as
//! they should be are refused in words.

use std::sync::Arc;

use axum::{Router, body::Body, http::Request};
use chancery::{
    client::api::DocumentBody,
    protocol::{
        certificate::Role,
        dataset::DatasetSeed,
        dataset_version::{DatasetVersionRecord, UnsignedVersion},
        ids::{CeremonyId, DatasetName, DatasetVersion, OwnerName},
        offer::SignedOffer,
        statement::Resets,
        wire::Document,
    },
    service::{
        self, App, boot,
        directory::Directory,
        peer::{Connection, Exchange, Peer, Refusal},
        routes::description,
    },
    store::{MemoryStore, Store},
};
use http_body_util::BodyExt;
use rand_core::OsRng;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{
    OWNER, Visitor, WITNESS, World,
    net::{boot_clock, bytes_of::Response},
    now,
};

/// An embassy that is asked directly, and a network around it.
struct Desk {
    world: World,
    app: App,
    router: Router,
}

impl Desk {
    async fn new() -> Self {
        Self::of(World::new()).await
    }

    async fn of(world: World) -> Self {
        let directory = Directory::new(&world.site().directory);
        let settings = directory.settings().unwrap();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let app = boot::open(&directory, &settings, store, boot_clock()).await.unwrap().app;
        let router = service::app(app.clone());
        Self { world, app, router }
    }

    fn admit(&self, visitor: &Visitor, exchange: Exchange) -> Result<Peer, Refusal> {
        let path: Vec<&[u8]> = visitor.path.iter().map(Vec::as_slice).collect();
        Peer::admit(&path, exchange, &self.app.trust().get(), now())
    }

    fn peer(&self, role: Role, name: &str) -> Connection {
        Connection::of(self.admit(&self.world.home.visitor(role, name), Exchange::Hybrid).unwrap())
    }

    async fn send(&self, connection: Option<&Connection>, mut request: Request<Body>) -> Response {
        if let Some(connection) = connection {
            request.extensions_mut().insert(connection.clone());
        }
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Response { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, connection: &Connection, path: &str) -> Response {
        self.send(Some(connection), Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, connection: &Connection, path: &str, body: impl Into<Body>) -> Response {
        let request = Request::post(path).header("content-type", "application/json").body(body.into()).unwrap();
        self.send(Some(connection), request).await
    }

    async fn document(&self, connection: &Connection, path: &str, document: &impl Document) -> Response {
        self.post(connection, path, bytes(&document.encode())).await
    }

    async fn resets(&self, connection: &Connection) -> Resets {
        let status = self.get(connection, "/v1/status").await.json();
        let count = |name: &str| u32::try_from(status[name].as_u64().unwrap()).unwrap();
        Resets { reset_count: count("reset_count"), restart_count: count("restart_count") }
    }

    async fn publish(&self) {
        let owner = self.peer(Role::DataOwner, OWNER);
        for dataset in &self.world.datasets {
            assert_eq!(self.post(&owner, "/v1/datasets", bytes(&dataset.record)).await.status, 200);
        }
    }

    /// An open ceremony of anna's with its offer.
    async fn ceremony(&self) -> (CeremonyId, SignedOffer) {
        self.publish().await;
        let anna = self.peer(Role::Official, "anna");
        let resets = self.resets(&anna).await;
        let signed = self.world.signed(self.world.parts(0, self.world.lease(), 1, resets));
        let id = signed.unverified().id();
        assert_eq!(self.document(&anna, "/v1/ceremonies", &signed).await.status, 200);
        for _ in 0..200 {
            let answer = self.get(&anna, &format!("/v1/ceremonies/{id}/offer")).await;
            if answer.status == 200 {
                let body: DocumentBody = serde_json::from_value(answer.json()).unwrap();
                return (id, body.read().unwrap());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("no offer")
    }
}

fn bytes(document: &[u8]) -> Vec<u8> {
    serde_json::to_vec(&DocumentBody::of_bytes(document)).unwrap()
}

/// Method, path, what is sent, and the roles that may.
type Row = (&'static str, String, Option<Vec<u8>>, Vec<Role>);

const PEOPLE: [(Role, &str); 5] = [
    (Role::Official, "boris"),
    (Role::Agent, "replica-1"),
    (Role::DataOwner, OWNER),
    (Role::Auditor, "olga"),
    (Role::Witness, WITNESS),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_path_is_behind_the_gate() {
    let desk = Desk::new().await;
    let described: Value = serde_json::from_str(&description()).unwrap();
    let refused = Connection(Arc::new(Err(Refusal::NoCertificate)));
    let mut paths: Vec<(String, String)> = vec![("get".into(), "/".into()), ("get".into(), "/v1/nothing".into())];
    for (path, operations) in described["paths"].as_object().unwrap() {
        paths.extend(operations.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
    }
    assert!(paths.len() > 15);
    for (method, path) in paths {
        let request =
            || Request::builder().method(method.to_uppercase().as_str()).uri(&path).body(Body::empty()).unwrap();
        for connection in [None, Some(&refused)] {
            let answer = desk.send(connection, request()).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "no-certificate"), "{method} {path}");
        }
    }
    let anna = desk.peer(Role::Official, "anna");
    assert_eq!(desk.get(&anna, "/v1/nothing").await.code(), "no-such-path");
    let answer = desk.send(Some(&anna), Request::delete("/v1/status").body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (405, "no-such-method"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_revoked_or_a_charter_that_changes_is_seen_at_the_next_request() {
    let desk = Desk::new().await;
    let visitor = desk.world.home.visitor(Role::Auditor, "olga");
    let olga = Connection::of(desk.admit(&visitor, Exchange::Hybrid).unwrap());
    let eva = desk.peer(Role::Official, "eva");
    assert_eq!(desk.get(&olga, "/v1/status").await.status, 200);
    let list = desk.world.home.list(2, &[&visitor.path[0]]);
    let anna = desk.peer(Role::Official, "anna");
    assert_eq!(desk.post(&anna, "/v1/revocations", bytes(&list)).await.json(), json!({"id": "2", "new": true}));
    let answer = desk.get(&olga, "/v1/status").await;
    assert_eq!(answer.code(), "certificate-refused");
    assert!(answer.detail().contains("revoked"), "{}", answer.detail());
    assert!(desk.admit(&visitor, Exchange::Hybrid).is_err());

    // The next charter takes the witness's key for another and names one of eva's keys as it was never named: the
    // connection that stood falls.
    assert_eq!(desk.get(&eva, "/v1/status").await.status, 200);
    let Ok(peer) = eva.0.as_ref() else { panic!("eva is let in") };
    let key = *peer.certified().key();
    let next = desk.world.amended(|parts| parts.witnesses[0].key = key);
    assert_eq!(desk.document(&anna, "/v1/charters", &next).await.json()["new"], true);
    assert_eq!(desk.get(&eva, "/v1/status").await.code(), "approval-key-as-tls-key");
    assert_eq!(desk.get(&anna, "/v1/status").await.json()["charter_version"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_does_what_is_its_own_and_nothing_else() {
    let desk = Desk::new().await;
    let (id, offer) = desk.ceremony().await;
    let contribution = desk.world.officials[1].approve(&desk.world, &offer).encode();
    let denial = desk.world.officials[1].deny(id).encode();
    let stop = desk.world.officials[1].stop(id).encode();
    let one = format!("/v1/ceremonies/{id}");
    let version = desk.world.datasets[0].record.clone();
    let nonsense = vec![7; 10];
    use Role::{Agent, Auditor, DataOwner, Official, Witness};
    let everybody = vec![Official, Agent, DataOwner, Auditor, Witness];
    // In this order: the stop comes last.
    let rows: Vec<Row> = vec![
        ("GET", "/v1/status".into(), None, everybody.clone()),
        ("GET", "/v1/openapi.json".into(), None, everybody.clone()),
        ("GET", "/v1/charters".into(), None, everybody.clone()),
        ("GET", "/v1/revocations".into(), None, everybody),
        ("POST", "/v1/charters".into(), Some(nonsense.clone()), vec![Official]),
        ("POST", "/v1/revocations".into(), Some(nonsense.clone()), vec![Official, DataOwner, Auditor, Witness]),
        ("GET", "/v1/datasets".into(), None, vec![Official, Agent, DataOwner, Auditor]),
        ("GET", "/v1/datasets/land-register/1".into(), None, vec![Official, Agent, DataOwner, Auditor]),
        ("POST", "/v1/datasets".into(), Some(version), vec![DataOwner]),
        ("GET", "/v1/roll".into(), None, vec![Official, Auditor, Witness]),
        ("GET", "/v1/ceremonies".into(), None, vec![Official, Agent, DataOwner, Auditor]),
        ("GET", one.clone(), None, vec![Official, DataOwner, Auditor]),
        ("GET", format!("{one}/offer"), None, vec![Official, DataOwner, Auditor]),
        ("GET", format!("{one}/release"), None, vec![]),
        ("POST", format!("{one}/contributions"), Some(contribution), vec![Official]),
        ("POST", format!("{one}/denials"), Some(denial), vec![Official]),
        ("POST", format!("{one}/stops"), Some(stop), vec![Official]),
        ("GET", "/v1/leases".into(), None, vec![Official, Agent, DataOwner, Auditor]),
        ("GET", "/v1/beat".into(), None, vec![Witness]),
        ("POST", "/v1/beat".into(), Some(nonsense.clone()), vec![Witness]),
    ];
    // Whoever watches a ceremony gets a stream without an end; who may not, a refusal.
    for (role, name) in [(Agent, "replica-1"), (Witness, WITNESS)] {
        let answer = desk.get(&desk.peer(role, name), &format!("{one}/events")).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "policy"), "{role} at the events");
    }
    // Only officials open ceremonies, whoever brings their statement.
    let resets = offer.unverified().statement().parts().acknowledged;
    let opening = desk.world.signed(desk.world.parts(1, desk.world.lease(), 1, resets)).encode();
    for (role, name) in PEOPLE.into_iter().filter(|(role, _)| *role != Official) {
        let answer = desk.post(&desk.peer(role, name), "/v1/ceremonies", bytes(&opening)).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "policy"), "{role} opens a ceremony");
    }
    // Every path and method that is described is here, but those of a lease, which leases.rs crosses, and of a founding.
    let described: Value = serde_json::from_str(&description()).unwrap();
    for (path, operations) in described["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let elsewhere =
                path.starts_with("/v1/genesis") || path.starts_with("/v1/leases/") || path.ends_with("/events");
            let elsewhere = elsewhere || (path == "/v1/ceremonies" && method == "post");
            let here = path.replace("/{id}", &format!("/{id}")).replace("{name}/{version}", "land-register/1");
            let crossed = rows.iter().any(|row| row.0.eq_ignore_ascii_case(method) && row.1 == here);
            assert!(crossed || elsewhere, "{method} {path} is asked by nobody");
        }
    }
    for (method, path, body, allowed) in rows {
        // Those who may not come first: what they send changes nothing.
        let mut people = PEOPLE;
        people.sort_by_key(|(role, _)| allowed.contains(role));
        for (role, name) in people {
            let peer = desk.peer(role, name);
            let answer = match &body {
                None => desk.get(&peer, &path).await,
                Some(body) => desk.post(&peer, &path, bytes(body)).await,
            };
            let what = format!("{role}: {method} {path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
            if !allowed.contains(&role) {
                assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "policy"), "{what}");
                // It says who may.
                assert!(answer.json()["who_can_act"].as_str().unwrap().len() > 5, "{what}");
            } else if body.as_ref() == Some(&nonsense) {
                assert!(matches!(answer.code().as_str(), "malformed" | "refused"), "{what}");
            } else {
                assert_eq!(answer.status, 200, "{what}");
            }
        }
    }
    let anna = desk.peer(Official, "anna");
    assert!(desk.get(&anna, &one).await.json()["outcome"].as_str().unwrap().starts_with("stopped by boris"));
    // A data owner of no dataset in it watches nothing; there is none such in this charter, but an official's name in
    // another role is nobody's.
    assert!(matches!(
        desk.admit(&desk.world.home.visitor(DataOwner, "anna"), Exchange::Hybrid),
        Err(Refusal::NotInCharter { .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_refused_in_words_and_changes_nothing() {
    let desk = Desk::new().await;
    let anna = desk.peer(Role::Official, "anna");
    let owner = desk.peer(Role::DataOwner, OWNER);
    let before = desk.app.store().roll_size().await.unwrap();
    let record = desk.world.datasets[0].record.clone();
    let body = String::from_utf8(bytes(&record)).unwrap();
    let trailing = [&record[..], &[0]].concat();
    for (what, body) in [
        ("nothing", String::new()),
        ("no JSON", "document".into()),
        ("an array", "[]".into()),
        ("another field", body.replace("document", "documents")),
        ("a further field", body.replace('{', "{\"force\": true, ")),
        ("no base64", r#"{"document": "#.to_owned() + r#""!!"}"#),
        ("base64 without padding", r#"{"document": "AA"}"#.into()),
        ("an empty document", r#"{"document": ""}"#.into()),
        ("half a document", String::from_utf8(bytes(&record[..record.len() / 2])).unwrap()),
        ("a document and a byte", String::from_utf8(bytes(&trailing)).unwrap()),
        ("another kind", String::from_utf8(bytes(&desk.world.founding.encode())).unwrap()),
        ("deep nesting", "[".repeat(100_000)),
    ] {
        let answer = desk.post(&owner, "/v1/datasets", body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "malformed"), "{what}");
    }
    let untyped = Request::post("/v1/datasets").body(Body::from(body)).unwrap();
    assert_eq!(desk.send(Some(&owner), untyped).await.code(), "malformed");
    let large = format!(r#"{{"document": "{}"}}"#, "A".repeat(2 * 1024 * 1024));
    let answer = desk.post(&owner, "/v1/datasets", large).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (413, "too-large"));
    for (path, code) in [
        ("/v1/roll?from=-1", "malformed"),
        ("/v1/roll?limit=many", "malformed"),
        ("/v1/roll?since=1", "malformed"),
        ("/v1/datasets/Land/1", "not-found"),
        ("/v1/datasets/land-register/0", "not-found"),
        ("/v1/datasets/land-register/x", "malformed"),
        ("/v1/ceremonies/abc", "not-found"),
        ("/v1/ceremonies/%ff", "malformed"),
        (&format!("/v1/ceremonies/{}", "AB".repeat(32)), "not-found"),
        (&format!("/v1/ceremonies/{}", "00".repeat(32)), "not-found"),
        (&format!("/v1/ceremonies/{}/offer", "00".repeat(32)), "not-found"),
    ] {
        assert_eq!(desk.get(&anna, path).await.code(), code, "{path}");
    }
    assert_eq!(desk.app.store().roll_size().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_change_nothing_and_older_or_other_ones_are_told_so() {
    let desk = Desk::new().await;
    let anna = desk.peer(Role::Official, "anna");
    let owner = desk.peer(Role::DataOwner, OWNER);
    let before = desk.app.store().roll_size().await.unwrap();

    // Revocation lists.
    let next = desk.world.home.list(5, &[]);
    assert_eq!(desk.post(&anna, "/v1/revocations", bytes(&next)).await.json()["new"], true);
    assert_eq!(desk.post(&anna, "/v1/revocations", bytes(&next)).await.json()["new"], false);
    let answer = desk.post(&anna, "/v1/revocations", bytes(&desk.world.home.list(4, &[]))).await;
    assert_eq!(answer.code(), "older");
    let visitor = desk.world.home.visitor(Role::Auditor, "olga");
    let twin = desk.world.home.list(5, &[&visitor.path[0]]);
    assert_eq!(desk.post(&anna, "/v1/revocations", bytes(&twin)).await.code(), "conflict");
    let foreign = crate::support::Home::new("EE").list(9, &[]);
    assert_eq!(desk.post(&anna, "/v1/revocations", bytes(&foreign)).await.code(), "refused");

    // Charters: the chain, in order.
    assert_eq!(desk.document(&anna, "/v1/charters", &desk.world.completed).await.json()["new"], false);
    let other = desk.world.amended(|parts| parts.expiry_max_seconds = 300);
    let third = desk.world.amended(|parts| parts.expiry_max_seconds = 900);
    assert_eq!(desk.document(&anna, "/v1/charters", &third).await.json()["new"], true);
    assert_eq!(desk.document(&anna, "/v1/charters", &third).await.json()["new"], false);
    assert_eq!(desk.document(&anna, "/v1/charters", &other).await.code(), "older");
    let gap = desk.world.amended(|parts| parts.version = 9);
    assert_eq!(desk.document(&anna, "/v1/charters", &gap).await.code(), "conflict");
    let other_policy = desk.world.amended(|parts| {
        parts.version = 4;
        parts.previous = Some(third.unverified().hash());
        parts.policy = chancery::protocol::hash::Hash::of_bytes(b"another policy");
    });
    assert_eq!(desk.document(&anna, "/v1/charters", &other_policy).await.code(), "wrong-mode");
    let page = desk.get(&anna, "/v1/charters?from=2").await.json();
    assert_eq!((page["documents"].as_array().unwrap().len(), &page["in_force"]), (2, &json!(3)));

    // Dataset versions.
    desk.publish().await;
    let record = &desk.world.datasets[0].record;
    assert_eq!(desk.post(&owner, "/v1/datasets", bytes(record)).await.json()["new"], false);
    let version = |number: u32| {
        let (owner_name, name) = (OwnerName::new(OWNER).unwrap(), DatasetName::new("land-register").unwrap());
        let seed = DatasetSeed::random(&mut OsRng);
        let facts = desk.world.facts();
        let number = DatasetVersion::new(number).unwrap();
        let unsigned = UnsignedVersion::create(&seed, owner_name, name, number, facts.sealing_keys()).unwrap();
        unsigned.sign(&desk.world.owner.signing).unwrap()
    };
    assert_eq!(desk.document(&owner, "/v1/datasets", &version(1)).await.code(), "conflict");
    assert_eq!(desk.document(&owner, "/v1/datasets", &version(7)).await.json()["new"], true);
    assert_eq!(desk.document(&owner, "/v1/datasets", &version(3)).await.code(), "older");
    let mut altered = version(8).encode();
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(desk.post(&owner, "/v1/datasets", bytes(&altered)).await.code(), "refused");
    let listed = desk.get(&owner, "/v1/datasets").await.json();
    assert_eq!(listed["versions"].as_array().unwrap().len(), 3);
    let kept = desk.get(&owner, "/v1/datasets/land-register/7").await.json();
    let kept: DocumentBody = serde_json::from_value(kept).unwrap();
    assert_eq!(kept.read::<DatasetVersionRecord>().unwrap().unverified().version.get(), 7);

    // One list, one charter, three versions.
    assert_eq!(desk.app.store().roll_size().await.unwrap(), before + 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_and_messages_that_do_not_fit_are_refused_by_their_rule() {
    let desk = Desk::new().await;
    let (anna, boris) = (desk.peer(Role::Official, "anna"), desk.peer(Role::Official, "boris"));
    let resets = desk.resets(&anna).await;
    let world = &desk.world;
    let open = async |parts| desk.document(&anna, "/v1/ceremonies", &world.signed(parts)).await;
    // No record of the dataset is here yet.
    assert_eq!(open(world.parts(0, world.lease(), 1, resets)).await.code(), "not-found");
    desk.publish().await;
    let counted = Resets { reset_count: resets.reset_count + 1, ..resets };
    let answer = open(world.parts(0, world.lease(), 1, counted)).await;
    assert_eq!(answer.code(), "conflict");
    assert!(answer.detail().contains("TPM counts"), "{}", answer.detail());
    let mut late = world.parts(0, world.lease(), 1, resets);
    (late.opened_at.0, late.expires_at.0) = (now().0 - 100, now().0 - 10);
    assert_eq!(open(late).await.code(), "late");
    let mut elsewhere = world.parts(0, world.lease(), 1, resets);
    elsewhere.embassy = chancery::protocol::ids::EmbassyName::new("iceland").unwrap();
    assert_eq!(open(elsewhere).await.code(), "refused");
    // Signed by another than the one who is said to have opened it.
    let parts = world.parts(0, world.lease(), 1, resets);
    let forged = chancery::protocol::statement::SignedStatement::sign(
        chancery::protocol::statement::Statement::new(parts).unwrap(),
        &world.officials[1].identity.signing,
    );
    assert_eq!(desk.document(&anna, "/v1/ceremonies", &forged.unwrap()).await.code(), "refused");

    let (id, offer) = desk.ceremony().await;
    let again = desk.get(&anna, &format!("/v1/ceremonies/{id}")).await.json();
    let body: DocumentBody = serde_json::from_value(again["statement"].clone()).unwrap();
    // The very statement again: the same ceremony, nothing new.
    let repeated = desk.post(&anna, "/v1/ceremonies", serde_json::to_vec(&body).unwrap()).await;
    assert_eq!(repeated.json(), json!({"id": id.to_string(), "new": false}));
    let path = format!("/v1/ceremonies/{id}/contributions");
    // Boris carries what clara signed: whoever carries it, clara counts.
    let clara = world.officials[2].approve(world, &offer);
    let answer = desk.document(&boris, &path, &clara).await.json();
    assert_eq!(answer["ceremony"]["contributed"], json!(["clara"]));
    // Another one of clara's counts no more than the first.
    let second = world.officials[2].approve(world, &offer);
    assert_eq!(desk.document(&boris, &path, &second).await.code(), "conflict");
    let mut altered = world.officials[3].approve(world, &offer).encode();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    assert!(matches!(desk.post(&boris, &path, bytes(&altered)).await.code().as_str(), "refused" | "malformed"));
    // A denial of another ceremony, and one in another's name.
    let other = world.officials[1].deny(CeremonyId(chancery::protocol::hash::Hash::of_bytes(b"another")));
    let path = format!("/v1/ceremonies/{id}/denials");
    assert_eq!(desk.document(&boris, &path, &other).await.code(), "refused");
    let view = desk.get(&anna, &format!("/v1/ceremonies/{id}")).await.json();
    assert_eq!(
        (&view["phase"], &view["contributed"], &view["denied"]),
        (&json!("collecting"), &json!(["clara"]), &json!([]))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_before_its_time_changes_nothing_and_counts_when_it_comes_again() {
    let desk = Desk::new().await;
    desk.publish().await;
    let (anna, boris) = (desk.peer(Role::Official, "anna"), desk.peer(Role::Official, "boris"));
    let officials = &desk.world.officials;
    let resets = desk.resets(&anna).await;
    let signed = desk.world.signed(desk.world.parts(0, desk.world.lease(), 1, resets));
    let id = signed.unverified().id();
    let one = format!("/v1/ceremonies/{id}");
    let size = desk.app.store().roll_size().await.unwrap();
    // A vote and a stop before the statement that they are about; a lease's before there is one.
    for (path, body) in [
        (format!("{one}/denials"), officials[1].deny(id).encode()),
        (format!("{one}/stops"), officials[1].stop(id).encode()),
        (format!("/v1/leases/{id}/stops"), officials[1].stop(id).encode()),
    ] {
        assert_eq!(desk.post(&boris, &path, bytes(&body)).await.code(), "not-found", "{path}");
    }
    assert_eq!(desk.app.store().roll_size().await.unwrap(), size);

    assert_eq!(desk.document(&anna, "/v1/ceremonies", &signed).await.status, 200);
    let offer = loop {
        let answer = desk.get(&anna, &format!("{one}/offer")).await;
        if answer.status == 200 {
            let body: DocumentBody = serde_json::from_value(answer.json()).unwrap();
            break body.read().unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let contributed = async |index: usize| {
        let contribution = officials[index].approve(&desk.world, &offer).encode();
        desk.post(&anna, &format!("{one}/contributions"), bytes(&contribution)).await
    };
    let denied = async |index: usize| {
        desk.post(&anna, &format!("{one}/denials"), bytes(&officials[index].deny(id).encode())).await
    };
    // The vote first, then the approval; the approval first, then the vote: the vote stands, and twice is once.
    assert_eq!(denied(1).await.json()["reply"], "taken");
    assert_eq!(contributed(1).await.code(), "conflict");
    assert_eq!(contributed(2).await.json()["reply"], "accepted");
    assert_eq!(denied(2).await.json()["reply"], "taken");
    assert_eq!(denied(2).await.json()["reply"], "already-accepted");
    assert_eq!(contributed(2).await.code(), "conflict");
    let view = desk.get(&anna, &one).await.json();
    assert_eq!((&view["contributed"], &view["denied"]), (&json!([]), &json!(["boris", "clara"])), "{view}");
    // A stop of it twice; and then nothing more is taken, in whatever order.
    let stop = bytes(&officials[3].stop(id).encode());
    assert_eq!(desk.post(&anna, &format!("{one}/stops"), stop.clone()).await.json()["reply"], "taken");
    assert_eq!(desk.post(&anna, &format!("{one}/stops"), stop).await.json()["reply"], "already-accepted");
    assert_eq!((contributed(0).await.code(), denied(4).await.code()), ("late".to_owned(), "late".to_owned()));
}
