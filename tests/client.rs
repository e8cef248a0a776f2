//! The one HTTP client against servers that are right, and servers that are wrong in one way each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/server.rs"]
mod server;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chancery::{
    client::{Client, ClientError, Distrust, Event, Exchange, OwnIdentity, Repeat, Settings, Trust},
    keys::{
        IdentitySigner, MemorySigner,
        issue::{self, IssuerName, Request as Wanted},
    },
    protocol::{
        certificate::{HomeAuthority, Identity, Revocations, Role, Rule, Serial, TrustDomain, UnixTime},
        charter::Country,
        group::Point,
        ids::{EmbassyName, SubjectName},
        secret::SecretScalar,
    },
};
use rand_core::OsRng;
use serde_json::{Value, json};
use server::{Answered, Server, Setup};
use tokio::net::TcpListener;

const NOON: UnixTime = UnixTime(1_900_000_000);
const HOUR: i64 = 3600;

fn noon() -> UnixTime {
    NOON
}

fn key() -> MemorySigner {
    MemorySigner::new(&SecretScalar::random(&mut OsRng))
}

fn identity(role: Role, name: &str) -> Identity {
    let trust_domain = TrustDomain::new("registers.example").unwrap();
    Identity { trust_domain, role, name: SubjectName::new(name).unwrap() }
}

fn request(identity: Identity, key: &MemorySigner, hours: i64) -> Wanted {
    let (not_before, not_after) = (UnixTime(NOON.0 - HOUR), UnixTime(NOON.0 + hours * HOUR));
    Wanted { identity, key: *key.public(), not_before, not_after, places: Vec::new() }
}

/// A home authority with its list.
struct Home {
    name: IssuerName,
    key: MemorySigner,
    authority: HomeAuthority,
}

impl Home {
    fn new() -> Self {
        let (key, country) = (key(), Country::new("EE").unwrap());
        let name = IssuerName { country, identity: identity(Role::Home, "registrar") };
        let root = issue::certificate(&name, &key, &request(name.identity.clone(), &key, 9999), &mut OsRng).unwrap();
        let authority = HomeAuthority::read(&root, country, key.public()).unwrap();
        Self { name, key, authority }
    }

    fn issue(&self, role: Role, name: &str, key: &MemorySigner) -> Vec<u8> {
        issue::certificate(&self.name, &self.key, &request(identity(role, name), key, 9999), &mut OsRng).unwrap()
    }

    fn list(&self, revoked: &[Serial], until: i64) -> Revocations {
        let revoked: Vec<_> = revoked.iter().map(|serial| (serial.clone(), NOON)).collect();
        let from = UnixTime(NOON.0 - HOUR);
        let list = issue::revocation_list(&self.name, &self.key, 1, &revoked, from, UnixTime(NOON.0 + until));
        self.authority.revocations(&list.unwrap()).unwrap()
    }

    fn trust(&self) -> Trust {
        Trust::new(self.authority.clone(), self.list(&[], HOUR), luxembourg(), None)
    }
}

fn luxembourg() -> EmbassyName {
    EmbassyName::new("luxembourg").unwrap()
}

/// An embassy's authority with the TLS certificate of the day.
struct Embassy {
    authority_key: Point,
    authority: Vec<u8>,
    leaf: Vec<u8>,
    key: Arc<MemorySigner>,
}

impl Embassy {
    fn new(home: &Home, name: &str, hours: i64) -> Self {
        let (authority_key, leaf_key) = (key(), key());
        let authority = home.issue(Role::EmbassyAuthority, name, &authority_key);
        let issuer = IssuerName { country: home.name.country, identity: identity(Role::EmbassyAuthority, name) };
        let wanted = request(identity(Role::Embassy, name), &leaf_key, hours);
        let leaf = issue::certificate(&issuer, &authority_key, &wanted, &mut OsRng).unwrap();
        Self { authority_key: *authority_key.public(), authority, leaf, key: Arc::new(leaf_key) }
    }

    fn setup(&self) -> Setup {
        Setup::of(vec![self.leaf.clone(), self.authority.clone()], Arc::clone(&self.key))
    }
}

fn hello(_: usize, path: &str, body: &str) -> Answered {
    Answered::With(200, "application/json", json!({ "path": path, "body": body }).to_string())
}

fn settings(server: &Server, trust: Trust, own: Option<OwnIdentity>) -> Settings {
    Settings { clock: noon, connect_seconds: 2, answer_seconds: 5, ..Settings::new(&server.url, trust, own) }
}

fn anna(home: &Home) -> OwnIdentity {
    let key = key();
    OwnIdentity::new(home.issue(Role::Official, "anna", &key), key)
}

fn client(server: &Server, home: &Home, trust: Trust) -> Client {
    Client::new(settings(server, trust, Some(anna(home)))).unwrap()
}

#[tokio::test]
async fn the_right_embassy_answers_over_one_connection_with_the_hybrid_exchange() {
    let home = Home::new();
    let embassy = Embassy::new(&home, "luxembourg", 20);
    let server = embassy.setup().start(hello).await;
    let pinned = Trust::new(home.authority.clone(), home.list(&[], HOUR), luxembourg(), Some(embassy.authority_key));
    let client = client(&server, &home, pinned);
    for _ in 0..5 {
        let answer: Value = client.get("/v1/status").await.unwrap();
        assert_eq!(answer["path"], "/v1/status");
    }
    let answer: Value = client.post("/v1/x", &json!({ "a": 1 }), &Repeat::Keyed("k7".to_owned())).await.unwrap();
    assert_eq!(answer["body"], "{\"a\":1} key=k7");
    assert_eq!((server.requests.load(Ordering::SeqCst), server.connections.load(Ordering::SeqCst)), (6, 1));
    assert_eq!(*server.groups.lock().unwrap(), ["X25519MLKEM768"]);
}

/// Whoever answers wrongly gets no request, and the refusal says which rule.
async fn distrusted(setup: Setup, home: &Home, trust: Trust) -> Distrust {
    let server = setup.start(hello).await;
    let error = client(&server, home, trust).get::<Value>("/v1/status").await.unwrap_err();
    assert_eq!(server.requests.load(Ordering::SeqCst), 0, "a request was sent");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1, "it was tried again");
    let text = error.to_string();
    assert!(text.contains("Nothing was sent") && text.contains("tell home"), "{text}");
    match error {
        ClientError::Distrusted { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

fn rule(distrust: Distrust) -> Rule {
    match distrust {
        Distrust::Certificate(error) => error.rule,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn whoever_is_not_the_embassy_is_refused_by_its_rule_before_anything_is_sent() {
    let home = Home::new();
    let right = Embassy::new(&home, "luxembourg", 20);

    let foreign = Embassy::new(&Home::new(), "luxembourg", 20);
    assert_eq!(rule(distrusted(foreign.setup(), &home, home.trust()).await), Rule::Issuer);

    let other = Embassy::new(&home, "singapore", 20);
    let refusal = distrusted(other.setup(), &home, home.trust()).await;
    assert_eq!(refusal, Distrust::OtherEmbassy { found: "singapore".to_owned(), expected: luxembourg() });

    // Home certified a second machine under the name; the charter knows the first.
    let second = Embassy::new(&home, "luxembourg", 20);
    let pinned = Trust::new(home.authority.clone(), home.list(&[], HOUR), luxembourg(), Some(right.authority_key));
    let refusal = distrusted(second.setup(), &home, pinned).await;
    assert_eq!(refusal, Distrust::OtherKey { embassy: luxembourg() });

    let official = key();
    let certificate = home.issue(Role::Official, "luxembourg", &official);
    let setup = Setup { path: vec![certificate], key: Arc::new(official), ..right.setup() };
    let refusal = rule(distrusted(setup, &home, home.trust()).await);
    assert!(matches!(refusal, Rule::Role { found: Role::Official, .. }), "{refusal}");

    let bare = Setup { path: vec![right.leaf.clone()], ..right.setup() };
    let refusal = rule(distrusted(bare, &home, home.trust()).await);
    assert_eq!(refusal, Rule::IssuedBy { role: Role::Embassy, issuer: Role::Home });

    let own = issue::certificate(
        &IssuerName { country: home.name.country, identity: identity(Role::Embassy, "luxembourg") },
        &*right.key,
        &request(identity(Role::Embassy, "luxembourg"), &right.key, 20),
        &mut OsRng,
    );
    let self_signed = Setup { path: vec![own.unwrap()], ..right.setup() };
    let refusal = rule(distrusted(self_signed, &home, home.trust()).await);
    assert_eq!(refusal, Rule::IssuedBy { role: Role::Embassy, issuer: Role::Home });

    let expired = Embassy::new(&home, "luxembourg", 0);
    let late = Trust::new(home.authority.clone(), home.list(&[], HOUR), luxembourg(), None);
    let server = expired.setup().start(hello).await;
    let mut after = settings(&server, late, None);
    after.clock = || UnixTime(NOON.0 + 60);
    let error = Client::new(after).unwrap().get::<Value>("/v1/status").await.unwrap_err();
    let is_late = matches!(
        &error,
        ClientError::Distrusted { reason: Distrust::Certificate(error), .. } if matches!(error.rule, Rule::Expired { .. })
    );
    assert!(is_late, "{error}");

    let serial = home.authority.issued(&right.authority).unwrap();
    let revoked =
        Trust::new(home.authority.clone(), home.list(std::slice::from_ref(&serial), HOUR), luxembourg(), None);
    assert_eq!(rule(distrusted(right.setup(), &home, revoked).await), Rule::Revoked { serial });

    let stale = Trust::new(home.authority.clone(), home.list(&[], -60), luxembourg(), None);
    let refusal = rule(distrusted(right.setup(), &home, stale).await);
    assert!(matches!(refusal, Rule::Expired { .. }), "{refusal}");

    // Somebody presents the embassy's certificates without having its key.
    let thief = Setup { key: Arc::new(key()), ..right.setup() };
    let server = thief.start(hello).await;
    let error = client(&server, &home, home.trust()).get::<Value>("/v1/status").await.unwrap_err();
    assert!(matches!(error, ClientError::Tls { .. }), "{error}");
    assert_eq!(server.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_hybrid_exchange_is_required_where_that_was_asked() {
    let home = Home::new();
    let embassy = Embassy::new(&home, "luxembourg", 20);
    let classical = Setup { classical: true, ..embassy.setup() }.start(hello).await;
    let mut required = settings(&classical, home.trust(), None);
    required.exchange = Exchange::HybridRequired;
    let error = Client::new(required).unwrap().get::<Value>("/v1/status").await.unwrap_err().to_string();
    assert!(error.contains("X25519MLKEM768 is required"), "{error}");
    let _: Value = client(&classical, &home, home.trust()).get("/v1/status").await.unwrap();
    assert_eq!(*classical.groups.lock().unwrap(), ["X25519"]);

    let server = embassy.setup().start(hello).await;
    let mut required = settings(&server, home.trust(), None);
    required.exchange = Exchange::HybridRequired;
    let _: Value = Client::new(required).unwrap().get("/v1/status").await.unwrap();
    assert_eq!(*server.groups.lock().unwrap(), ["X25519MLKEM768"]);

    let old = Setup { old_tls: true, ..embassy.setup() }.start(hello).await;
    let error = client(&old, &home, home.trust()).get::<Value>("/v1/status").await.unwrap_err();
    assert!(matches!(error, ClientError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn an_open_connection_is_judged_again_for_each_request() {
    static NOW: AtomicI64 = AtomicI64::new(NOON.0);
    let home = Home::new();
    let embassy = Embassy::new(&home, "luxembourg", 20);
    let server = embassy.setup().start(hello).await;
    let mut moving = settings(&server, home.trust(), None);
    moving.clock = || UnixTime(NOW.load(Ordering::SeqCst));
    let client = Client::new(moving).unwrap();
    let _: Value = client.get("/v1/status").await.unwrap();
    // The revocation list is good for an hour; the certificates stay good for longer.
    NOW.store(NOON.0 + HOUR + 1, Ordering::SeqCst);
    let error = client.get::<Value>("/v1/status").await.unwrap_err();
    assert!(matches!(error, ClientError::Distrusted { .. }), "{error}");
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn each_kind_of_answer_that_is_none_has_an_error_of_its_own() {
    let home = Home::new();
    let embassy = Embassy::new(&home, "luxembourg", 20);
    let server = embassy.setup()
        .start(|_, path, _| match path {
            "/problem" => Answered::With(
                409,
                "application/problem+json",
                json!({
                    "type": "urn:chancery:problem:open-already", "code": "open-already", "title": "One at a time",
                    "detail": "anna has a ceremony open", "who_can_act": "anna", "what_next": "stop it first", "status": 409,
                })
                .to_string(),
            ),
            "/bare" => Answered::With(418, "text/plain", "no".to_owned()),
            "/long" => Answered::With(200, "application/json", format!("\"{}\"", "a".repeat(17 << 20))),
            "/torn" => Answered::With(200, "application/json", "{\"a\":".to_owned()),
            _ => Answered::Silence,
        })
        .await;
    let mut quick = settings(&server, home.trust(), Some(anna(&home)));
    quick.answer_seconds = 2;
    let client = Client::new(quick).unwrap();
    let get = async |path: &str| client.get::<Value>(path).await.unwrap_err();

    let problem = get("/problem").await;
    assert_eq!(problem.code(), Some("open-already"));
    let text = problem.to_string();
    assert!(text.contains("anna has a ceremony open") && text.contains("Next: stop it first"), "{text}");
    assert!(matches!(get("/bare").await, ClientError::Status { status: 418, .. }));
    assert!(matches!(get("/long").await, ClientError::TooLong { .. }));
    assert!(matches!(get("/torn").await, ClientError::Unreadable { .. }));
    assert!(matches!(get("/silence").await, ClientError::Timeout { seconds: 2, .. }));

    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", gone.local_addr().unwrap());
    drop(gone);
    let nobody = Settings { url, ..settings(&server, home.trust(), None) };
    let error = Client::new(nobody).unwrap().get::<Value>("/").await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }) && error.to_string().contains("Check the network"), "{error}");

    for wrong in
        ["http://a.example", "https://", "a.example", "https://a.example/x", "https://u@a.example", "https://a?b"]
    {
        let bad = Settings { url: wrong.to_owned(), ..settings(&server, home.trust(), None) };
        assert!(matches!(Client::new(bad), Err(ClientError::Address { .. })), "{wrong}");
    }

    let closed = Setup { lets_in: false, ..embassy.setup() }.start(hello).await;
    let error = self::client(&closed, &home, home.trust()).get::<Value>("/").await.unwrap_err();
    assert!(matches!(error, ClientError::Unwelcome { .. }), "{error}");
    assert!(error.to_string().contains("home has revoked it"), "{error}");
}

#[tokio::test]
async fn only_what_may_be_repeated_is_repeated_and_only_where_the_network_failed() {
    let home = Home::new();
    let embassy = Embassy::new(&home, "luxembourg", 20);
    let hang_up_once =
        |number: usize, path: &str, body: &str| if number == 0 { Answered::HangUp } else { hello(number, path, body) };
    let asked = |server: &Server| server.requests.load(Ordering::SeqCst);

    let server = embassy.setup().start(hang_up_once).await;
    let _: Value = client(&server, &home, home.trust()).get("/v1/x").await.unwrap();
    assert_eq!(asked(&server), 2);

    let server = embassy.setup().start(hang_up_once).await;
    let repeat = Repeat::Keyed("k".to_owned());
    let answer: Value = client(&server, &home, home.trust()).post("/v1/x", &json!({}), &repeat).await.unwrap();
    assert_eq!((asked(&server), answer["body"].as_str()), (2, Some("{} key=k")));

    let server = embassy.setup().start(hang_up_once).await;
    let error = client(&server, &home, home.trust()).post::<Value>("/v1/x", &json!({}), &Repeat::Never).await;
    let error = error.unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }) && error.to_string().contains("may have arrived"), "{error}");
    assert_eq!(asked(&server), 1);

    let refusing = |_: usize, _: &str, _: &str| Answered::With(500, "text/plain", String::new());
    let server = embassy.setup().start(refusing).await;
    let error = client(&server, &home, home.trust()).get::<Value>("/v1/x").await.unwrap_err();
    assert!(matches!(error, ClientError::Status { status: 500, .. }), "{error}");
    assert_eq!(asked(&server), 1);
}

#[tokio::test]
async fn events_are_read_until_the_embassy_ends_them() {
    let home = Home::new();
    let embassy = Embassy::new(&home, "luxembourg", 20);
    let server = embassy
        .setup()
        .start(|_, path, _| match path {
            "/events" => Answered::With(
                200,
                "text/event-stream",
                ": hello\n\nid: 1\nevent: contributed\ndata: anna\n\nid: 2\ndata: 2 of 3\n\n".to_owned(),
            ),
            "/json" => hello(0, path, ""),
            _ => Answered::With(404, "text/plain", String::new()),
        })
        .await;
    let client = client(&server, &home, home.trust());
    let mut events = client.events("/events", None).await.unwrap();
    let event = |id: &str, kind: &str, data: &str| {
        Some(Event { id: Some(id.to_owned()), kind: kind.to_owned(), data: data.to_owned() })
    };
    assert_eq!(events.next().await.unwrap(), event("1", "contributed", "anna"));
    assert_eq!(events.next().await.unwrap(), event("2", "message", "2 of 3"));
    assert_eq!(tokio::time::timeout(Duration::from_secs(2), events.next()).await.unwrap().unwrap(), None);
    assert!(matches!(client.events("/json", None).await, Err(ClientError::Unreadable { .. })));
    assert!(matches!(client.events("/none", Some("7")).await, Err(ClientError::Status { status: 404, .. })));
}
