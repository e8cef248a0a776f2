//! Over real TLS: who gets through the handshake, and what becomes of a connection whose certificate falls.

use std::{sync::Arc, time::Duration};

use chancery::{
    client::{Client, OwnIdentity, Settings, api::DocumentBody},
    keys::issue,
    protocol::certificate::{Role, UnixTime},
    service::{
        tls::{Leaf, Leafing, Tls},
        trust::{InForce, Trust},
    },
};
use rand_core::OsRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    HOUR, Home, Key, Visitor, World, identity,
    net::{Line, Running, Way, client, handshake, status},
    now, request,
};

fn auditor(world: &World) -> Visitor {
    world.home.visitor(Role::Auditor, "olga")
}

/// A certificate by home that was changed before it was signed.
fn changed(home: &Home, change: impl FnOnce(&mut issue::Request)) -> Visitor {
    let key = Key::new();
    let mut asked = request(identity(Role::Auditor, "olga"), key.point());
    change(&mut asked);
    Visitor { path: vec![home.issue(&asked)], key }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_home_certified_is_let_in_over_hybrid_tls_1_3() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    for (role, name) in [
        (Role::Official, "anna"),
        (Role::Agent, "replica-1"),
        (Role::DataOwner, "land-board"),
        (Role::Auditor, "olga"),
        (Role::Witness, "geneva"),
    ] {
        let config = client(&world, Some(&world.home.visitor(role, name)), &Way::default());
        let mut line = Line::open(running.address, &config).await.unwrap();
        assert_eq!(line.group, Some(rustls::NamedGroup::X25519MLKEM768));
        let answer = line.get("/v1/status").await.unwrap();
        assert_eq!(answer.status, 200);
        let status = answer.json();
        assert_eq!((&status["you"]["name"], &status["you"]["hybrid"]), (&name.into(), &true.into()));
        assert_eq!((&status["embassy"], &status["charter_version"]), (&"luxembourg".into(), &2.into()));
        assert!(status["reset_count"].is_u64());
    }
    // An elliptic curve alone is enough for what is no key.
    let way = Way { groups: vec![rustls::crypto::aws_lc_rs::kx_group::X25519], ..Way::default() };
    let config = client(&world, Some(&auditor(&world)), &way);
    assert_eq!(status(&running, &config).await.unwrap().json()["you"]["hybrid"], false);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_serves_the_same() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    let way = Way { alpn: vec![b"h2".to_vec()], ..Way::default() };
    let stream = handshake(running.address, &client(&world, Some(&auditor(&world)), &way)).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    let driver = tokio::spawn(connection);
    let asked = hyper::Request::get("https://localhost/v1/status")
        .body(http_body_util::Full::<hyper::body::Bytes>::default())
        .unwrap();
    assert_eq!(sender.send_request(asked).await.unwrap().status(), 200);
    driver.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handshake_refuses_what_is_not_homes_or_not_in_date() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    let foreign = Home::new("EE");
    let own = {
        let key = Key::new();
        let name = issue::IssuerName { country: foreign.name.country, identity: identity(Role::Auditor, "olga") };
        let asked = request(name.identity.clone(), key.point());
        let certificate = issue::certificate(&name, &key.signer, &asked, &mut OsRng).unwrap();
        Visitor { key, path: vec![certificate] }
    };
    let stolen = Visitor { key: Key::new(), ..auditor(&world) };
    for (what, visitor, alert) in [
        // It bears home's very name, so it is the signature that tells.
        ("another authority's", Some(foreign.visitor(Role::Auditor, "olga")), "DecryptError"),
        ("a self-signed one", Some(own), "UnknownCA"),
        (
            "an expired one",
            Some(changed(&world.home, |asked| asked.not_after = UnixTime(now().0 - 60))),
            "CertificateExpired",
        ),
        (
            "one of tomorrow",
            Some(changed(&world.home, |asked| asked.not_before = UnixTime(now().0 + HOUR))),
            "CertificateExpired",
        ),
        ("none", None, "CertificateRequired"),
        ("a right one without its key", Some(stolen), "DecryptError"),
    ] {
        let config = client(&world, visitor.as_ref(), &Way::default());
        let refused = status(&running, &config).await.expect_err(what);
        assert!(refused.contains(alert), "{what}: {refused}");
    }
}

/// What whoever uses chancery's own client is told.
async fn told(world: &World, running: &Running, visitor: Option<Visitor>) -> String {
    let trust =
        chancery::client::Trust::new(world.home.authority(), world.revocations(), world.site().name.clone(), None);
    let own = visitor.map(|mut visitor| {
        OwnIdentity::new(visitor.path.remove(0), chancery::keys::MemorySigner::new(visitor.key.secret()))
    });
    let url = format!("https://localhost:{}", running.address.port());
    let client = Client::new(Settings::new(&url, trust, own)).unwrap();
    client.get::<chancery::client::api::Status>("/v1/status").await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_in_the_handshake_says_which_rule_and_who_can_act() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    let country = Home::new("LU");
    let stranger = {
        let key = Key::new();
        let name = issue::IssuerName { country: world.home.name.country, identity: identity(Role::Auditor, "olga") };
        let asked = request(name.identity.clone(), key.point());
        Visitor { path: vec![issue::certificate(&name, &key.signer, &asked, &mut OsRng).unwrap()], key }
    };
    for (visitor, rule) in [
        (None, "none was shown"),
        (Some(Home::new("EE").visitor(Role::Auditor, "olga")), "its signature is not home's"),
        (Some(stranger), "issued by no home authority that the embassy knows"),
        (Some(country.visitor(Role::Auditor, "olga")), "issued by no home authority that the embassy knows"),
        (Some(Visitor { key: Key::new(), ..auditor(&world) }), "the key on this machine is not the certificate's"),
        (Some(changed(&world.home, |asked| asked.not_after = UnixTime(now().0 - 60))), "it is out of date"),
        (Some(changed(&world.home, |asked| asked.not_before = UnixTime(now().0 + HOUR))), "not in date yet"),
    ] {
        let said = told(&world, &running, visitor).await;
        assert!(
            said.starts_with("luxembourg refused this machine's certificate: ") && said.contains(rule),
            "{rule}: {said}"
        );
    }
    // What an embassy shows is for embassies; here it is an embassy's leaf without the authority above it.
    let leaf = world.home.visitor(Role::Embassy, "luxembourg");
    let said = told(&world, &running, Some(leaf)).await;
    assert!(said.contains("issued for another use"), "{said}");
    // Revoked; and then the list itself grows too old, which is nobody's certificate's fault.
    let olga = auditor(&world);
    take_list(&running, &world, &world.home.list(2, &[&olga.path[0]])).await;
    assert!(told(&world, &running, Some(olga)).await.contains("home has revoked it"));
    take_list(&running, &world, &world.home.list_until(3, &[], UnixTime(now().0 + 2))).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let said = told(&world, &running, Some(auditor(&world))).await;
    assert!(said.contains("revocation list at the embassy is out of date") && said.contains("SIGHUP"), "{said}");
}

/// A ClientHello of TLS 1.2 that any server of that version would answer: P-256, ECDSA with SHA-256, AES-128-GCM.
fn hello_of_1_2() -> Vec<u8> {
    let extensions = hex::decode("000a00040002001700 0b00020100 000d000400020403".replace(' ', "")).unwrap();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0]);
    body.push(u8::try_from(extensions.len()).unwrap());
    body.extend(extensions);
    let length = u8::try_from(body.len()).unwrap();
    [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_1_2_is_refused() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    let mut stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
    stream.write_all(&hello_of_1_2()).await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    // One record: a fatal alert, protocol_version (RFC 8446 §6.2).
    assert_eq!((said[0], &said[5..]), (21, &[2, 70][..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_tls_lets_through_and_the_role_check_refuses_is_told_its_rule() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    let abroad = {
        // The same authority's key, signing for a subject of another country.
        let key = Key::new();
        let asked = request(identity(Role::Auditor, "olga"), key.point());
        let country = chancery::protocol::charter::Country::new("LV").unwrap();
        let params = issue::params(country, &asked, &issue::fresh_serial(&mut OsRng)).unwrap();
        let certificate = issue::sign_params(&world.home.name, &world.home.key.signer, &asked.key, &params).unwrap();
        Visitor { key, path: vec![certificate] }
    };
    let identity_key = {
        let anna = &world.officials[0];
        let certificate = world.home.issue(&request(identity(Role::Official, "anna"), anna.identity.point()));
        let key = Key::of(&anna.identity);
        Visitor { key, path: vec![certificate] }
    };
    for (what, visitor, code, rule) in [
        ("another country's", abroad, "certificate-refused", "country"),
        ("an approval key", identity_key, "approval-key-as-tls-key", "identity key of anna"),
        ("an official of no charter", world.home.visitor(Role::Official, "zoe"), "not-in-charter", "zoe"),
        ("a data owner of no charter", world.home.visitor(Role::DataOwner, "tax-board"), "not-in-charter", "tax-board"),
        ("a witness of no charter", world.home.visitor(Role::Witness, "oslo"), "not-in-charter", "oslo"),
    ] {
        let config = client(&world, Some(&visitor), &Way::default());
        let mut line = Line::open(running.address, &config).await.unwrap();
        let answer = line.get("/v1/status").await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, code), "{what}");
        assert!(answer.detail().contains(rule), "{what}: {}", answer.detail());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_says_nothing_or_nonsense_holds_up_nobody() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    let mut silent = tokio::net::TcpStream::connect(running.address).await.unwrap();
    let mut nonsense = tokio::net::TcpStream::connect(running.address).await.unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let config = client(&world, Some(&auditor(&world)), &Way::default());
    assert_eq!(status(&running, &config).await.unwrap().status, 200);
    let mut said = Vec::new();
    nonsense.read_to_end(&mut said).await.unwrap();
    assert!(!said.starts_with(b"HTTP"), "nothing in clear");
    silent.write_all(&[0x16]).await.unwrap();
}

async fn take_list(running: &Running, world: &World, list: &[u8]) {
    let carrier = client(world, Some(&world.home.visitor(Role::Official, "boris")), &Way::default());
    let body = serde_json::to_value(DocumentBody::of_bytes(list)).unwrap();
    let mut line = Line::open(running.address, &carrier).await.unwrap();
    let answer = line.post("/v1/revocations", &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.json());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_falls_while_connected_and_its_session_is_not_resumed() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    let visitor = auditor(&world);
    let config = client(&world, Some(&visitor), &Way::default());
    let mut idle = Line::open(running.address, &config).await.unwrap();
    assert_eq!(idle.get("/v1/status").await.unwrap().status, 200);
    // While it stands, its session is resumed.
    let mut resumed = Line::open(running.address, &config).await.unwrap();
    assert!(resumed.resumed);
    assert_eq!(resumed.get("/v1/status").await.unwrap().status, 200);

    take_list(&running, &world, &world.home.list(2, &[&visitor.path[0]])).await;
    // Both open connections are ended; at best a last request is refused.
    for mut line in [idle, resumed] {
        match tokio::time::timeout(Duration::from_secs(5), line.get("/v1/status")).await.unwrap() {
            Ok(answer) => assert_eq!(answer.code(), "certificate-refused"),
            Err(error) => {
                // Whether it ends between two records or as a reset with our request unread is the kernel's affair; that there
                // is no answer is not.
                assert!(!error.is_parse() && !error.is_user(), "{error:?}");
            }
        }
        tokio::time::timeout(Duration::from_secs(5), async {
            while line.sender.ready().await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the connection is ended");
    }
    let refused = status(&running, &config).await.unwrap_err();
    assert!(refused.contains("CertificateRevoked"), "{refused}");
    // Nobody else fell.
    let other = client(&world, Some(&world.home.visitor(Role::Auditor, "pavel")), &Way::default());
    assert_eq!(status(&running, &other).await.unwrap().status, 200);
}

#[test]
fn a_handshake_goes_by_the_list_that_is_in_force_when_it_begins() {
    let world = World::new();
    let (key, now) = (Key::new(), now());
    let embassy = identity(Role::EmbassyAuthority, world.site().name.as_str());
    let leafing = Leafing {
        embassy: embassy.name.clone(),
        authority: world.home.issue(&request(embassy, key.point())),
        identity: key.point(),
        places: vec!["localhost".to_owned()],
    };
    let trust = Trust::new(world.charter.clone(), &world.home.root, &world.list).unwrap();
    let leaf = Leaf::issue(&leafing, &key.signer, &trust, now, &mut OsRng).unwrap();
    let in_force = Arc::new(InForce::new(trust));
    let tls = Tls::new(Arc::clone(&in_force), leaf).unwrap();
    let before = tls.config().unwrap();
    assert!(Arc::ptr_eq(&before, &tls.config().unwrap()));
    in_force.set(in_force.get().with_list(&world.home.list(2, &[])).unwrap().unwrap());
    let after = tls.config().unwrap();
    assert!(!Arc::ptr_eq(&before, &after));
    // Nor is a session of before known to it.
    assert!(!Arc::ptr_eq(&before.session_storage, &after.session_storage));
    assert!(Arc::ptr_eq(&after, &tls.config().unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_falls_while_connected_also_on_a_resumed_session() {
    let world = World::new();
    let shift = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let store = Arc::new(chancery::store::MemoryStore::new());
    let clock = crate::support::net::shifted(&shift);
    let running = Running::start_with(world.site(), store, clock).await.unwrap();
    let visitor = changed(&world.home, |asked| asked.not_after = UnixTime(now().0 + HOUR));
    let config = client(&world, Some(&visitor), &Way::default());
    assert_eq!(status(&running, &config).await.unwrap().status, 200);
    let mut open = Line::open(running.address, &config).await.unwrap();
    assert_eq!(open.get("/v1/status").await.unwrap().status, 200);
    // The embassy's own judgement goes by its clock; the TLS library, which asks nothing on resumption, is not relied upon.
    shift.store(2 * HOUR, std::sync::atomic::Ordering::SeqCst);
    let answer = open.get("/v1/status").await.unwrap();
    assert_eq!(answer.code(), "certificate-refused");
    assert!(answer.detail().contains("expired"), "{}", answer.detail());
    let mut resumed = Line::open(running.address, &config).await.unwrap();
    assert!(resumed.resumed);
    assert_eq!(resumed.get("/v1/status").await.unwrap().code(), "certificate-refused");
}
