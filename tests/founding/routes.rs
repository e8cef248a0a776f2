//! The API of a founding over real mutual TLS: who is let in, what each role may, and what is not as it should be. Nothing that
//! is refused here changes the board or the roll.

use std::{net::SocketAddr, sync::Arc};

use chancery::{
    client::{api::DocumentBody, genesis::BoardPage},
    keys::{
        disk,
        file::{KeyKind, Unlock},
        issue,
    },
    protocol::{
        ceremony::genesis::{Message, Post},
        certificate::{Role, UnixTime},
        secret::SecretVec,
        wire::Document,
    },
    service::routes::MAX_REQUEST_BYTES,
};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::{
    stage::{PASSPHRASE, Running, Stage, until},
    support::{
        Home, Key, Visitor, WITNESS, identity,
        net::{Line, Way, bytes_of::Response, client_of, handshake, request as http, status_at},
        now, request,
    },
};

const BOARD: &str = "/v1/genesis/messages";

/// A founding that is under way, with something on its board.
struct Founding {
    stage: Stage,
    /// A certificate that home has revoked.
    revoked: Visitor,
    list: Vec<u8>,
    address: SocketAddr,
    serve: Running,
}

impl Founding {
    fn new() -> Self {
        let stage = Stage::new(&["luxembourg"]);
        let revoked = stage.home.visitor(Role::Official, "boris");
        let list = stage.home.list(2, &[&revoked.path[0]]);
        std::fs::write(stage.path("home.crl"), &list).unwrap();
        stage.found("luxembourg");
        let serve = stage.serve("luxembourg");
        until("the founding's service", &[&serve], || serve.said().contains("officials run"));
        // Anna's contributions to both keys stand on the board; she waits for the others.
        let anna = stage.official("anna", &["--once"]);
        until("Anna's look", &[&anna, &serve], || anna.ended().is_some());
        assert!(anna.said().contains("missing: boris, clara"), "{}", anna.said());
        let address = SocketAddr::from(([127, 0, 0, 1], stage.site("luxembourg").port));
        Self { stage, revoked, list, address, serve }
    }

    fn config(&self, visitor: Option<&Visitor>) -> Arc<ClientConfig> {
        client_of(&self.stage.home, &self.list, visitor, &Way::default())
    }

    async fn line(&self, role: Role, name: &str) -> Line {
        let visitor = self.stage.home.visitor(role, name);
        Line::open(self.address, &self.config(Some(&visitor))).await.unwrap()
    }

    /// A connection on which Boris has sent the head of a post to the board.
    async fn post_head(&self, length: usize) -> TlsStream<TcpStream> {
        let visitor = self.stage.home.visitor(Role::Official, "boris");
        let mut stream = handshake(self.address, &self.config(Some(&visitor))).await.unwrap();
        let head = format!(
            "POST {BOARD} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// All that a founding has changed so far: the board, where it stands, and how long the roll is.
    async fn stands(&self) -> (Value, Value, Value) {
        let mut line = self.line(Role::Auditor, "olga").await;
        let board = line.get(BOARD).await.unwrap().json();
        let (view, status) = (line.get("/v1/genesis").await.unwrap(), line.get("/v1/status").await.unwrap());
        (board, view.json(), status.json()["roll_size"].clone())
    }

    /// What Anna said, as the board has it.
    async fn said(&self) -> Vec<Message> {
        let mut line = self.line(Role::Auditor, "olga").await;
        let board: BoardPage = serde_json::from_value(line.get(BOARD).await.unwrap().json()).unwrap();
        let posts = board.posts.iter().map(|body| body.read::<Post>().unwrap());
        let messages = posts.filter_map(|post| match post {
            Post::Message { message, .. } => Some(*message),
            _ => None,
        });
        messages.collect()
    }
}

fn body(document: &[u8]) -> Value {
    serde_json::to_value(DocumentBody::of_bytes(document)).unwrap()
}

#[track_caller]
fn refused(answer: &Response, status: u16, code: &str, what: &str) {
    // In the one shape of every refusal, with what happened, who can act, and what to do next.
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{what}: {}", answer.json());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_whom_home_certified_reaches_a_founding_and_each_does_what_is_their_own() {
    let founding = tokio::task::spawn_blocking(Founding::new).await.unwrap();
    let home = &founding.stage.home;
    let before = founding.stands().await;
    assert!(before.0["posts"].as_array().unwrap().len() >= 2, "there is something to lose: {}", before.0);
    let (foreign, stolen) = (Home::new("EE"), home.visitor(Role::Official, "boris"));
    let expired = {
        let key = Key::new();
        let mut asked = request(identity(Role::Official, "boris"), key.point());
        asked.not_after = UnixTime(now().0 - 60);
        Visitor { path: vec![home.issue(&asked)], key }
    };
    let own = {
        let key = Key::new();
        let name = issue::IssuerName { country: home.name.country, identity: identity(Role::Official, "boris") };
        let asked = request(name.identity.clone(), key.point());
        let certificate = issue::certificate(&name, &key.signer, &asked, &mut rand_core::OsRng).unwrap();
        Visitor { key, path: vec![certificate] }
    };
    for (what, visitor, alert) in [
        ("none", None, "CertificateRequired"),
        ("another authority's", Some(foreign.visitor(Role::Official, "boris")), "DecryptError"),
        ("a self-signed one", Some(own), "UnknownCA"),
        ("an expired one", Some(expired), "CertificateExpired"),
        ("a right one without its key", Some(Visitor { key: Key::new(), ..stolen }), "DecryptError"),
    ] {
        let told = status_at(founding.address, &founding.config(visitor.as_ref())).await.expect_err(what);
        assert!(told.contains(alert), "{what}: {told}");
    }
    let told = status_at(founding.address, &founding.config(Some(&founding.revoked))).await.unwrap_err();
    assert!(told.contains("CertificateRevoked"), "{told}");

    // Certified by home, and not for this: TLS lets them through, the role check does not.
    let approval_key = {
        let file = disk::load(&founding.stage.path("boris/identity.key")).unwrap();
        let passphrase = SecretVec::new(PASSPHRASE.into());
        let key = Key::from_secret(file.unlock_scalar(KeyKind::Identity, Unlock::Passphrase(&passphrase)).unwrap());
        Visitor { path: vec![home.issue(&request(identity(Role::Official, "boris"), key.point()))], key }
    };
    for (what, visitor, code) in [
        ("the key that approves", approval_key, "approval-key-as-tls-key"),
        ("an official of no charter", home.visitor(Role::Official, "zoe"), "not-in-charter"),
        ("a data owner of no charter", home.visitor(Role::DataOwner, "land-board"), "not-in-charter"),
        ("a witness of no charter", home.visitor(Role::Witness, "oslo"), "not-in-charter"),
    ] {
        let mut line = Line::open(founding.address, &founding.config(Some(&visitor))).await.unwrap();
        refused(&line.post(BOARD, &json!({})).await.unwrap(), 403, code, what);
    }

    // What Anna said, once more: whoever may say something here has said it already, and nobody else may.
    let known = body(&founding.said().await[0].encode());
    for (role, name) in [(Role::Agent, "replica-1"), (Role::Witness, WITNESS), (Role::Auditor, "olga")] {
        let mut line = founding.line(role, name).await;
        refused(&line.post(BOARD, &known).await.unwrap(), 403, "policy", &format!("{role} says something"));
        for path in ["/v1/genesis", BOARD] {
            let (answer, what) = (line.get(path).await.unwrap(), format!("{role} reads {path}"));
            if role == Role::Auditor {
                assert_eq!(answer.status, 200, "{what}");
            } else {
                refused(&answer, 403, "policy", &what);
            }
        }
        for path in ["/v1/status", "/v1/charters"] {
            assert_eq!(line.get(path).await.unwrap().status, 200, "{role}: {path}");
        }
    }
    let mut boris = founding.line(Role::Official, "boris").await;
    let answer = boris.post(BOARD, &known).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["new"]), (200, &json!(false)), "carried by another, known");
    assert_eq!(founding.stands().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_founding_cannot_read_is_refused_in_words_and_changes_nothing() {
    let founding = tokio::task::spawn_blocking(Founding::new).await.unwrap();
    let before = founding.stands().await;
    let mut boris = founding.line(Role::Official, "boris").await;
    let said = founding.said().await;
    let document = said[0].encode();
    let json_text = serde_json::to_string(&body(&document)).unwrap();
    let json_headers = [("content-type", "application/json")];
    for (what, text) in [
        ("nothing", String::new()),
        ("no JSON", "document".into()),
        ("an array", "[]".into()),
        ("another field", json_text.replace("document", "documents")),
        ("a further field", json_text.replacen('{', "{\"force\": true, ", 1)),
        ("no base64", r#"{"document": "!!"}"#.into()),
        ("an empty document", r#"{"document": ""}"#.into()),
        ("half a text", json_text[..json_text.len() / 2].to_owned()),
        ("half a document", serde_json::to_string(&body(&document[..document.len() / 2])).unwrap()),
        ("a document and a byte", serde_json::to_string(&body(&[&document[..], &[0]].concat())).unwrap()),
        (
            "a charter that is no message",
            serde_json::to_string(&body(&founding.stage.founding.signed().encode())).unwrap(),
        ),
        ("deep nesting", "[".repeat(100_000)),
    ] {
        let answer = boris.send(http("POST", BOARD, &json_headers, text.as_bytes())).await.unwrap();
        refused(&answer, 400, "malformed", what);
    }
    let untyped = boris.send(http("POST", BOARD, &[], json_text.as_bytes())).await.unwrap();
    refused(&untyped, 400, "malformed", "no content type");

    // In its form, and not what it says: whatever is changed, nobody said it.
    for at in [document.len() / 3, document.len() / 2, document.len() - 1] {
        let mut altered = document.clone();
        altered[at] ^= 1;
        let answer = boris.post(BOARD, &body(&altered)).await.unwrap();
        let code = answer.code();
        assert!(["malformed", "refused", "late"].contains(&code.as_str()), "byte {at}: {}", answer.json());
    }
    // Home's signature is not enough, nor is the time right.
    let charter = Message::Charter(Box::new(founding.stage.founding.signed().clone()));
    let answer = boris.post(BOARD, &body(&charter.encode())).await.unwrap();
    refused(&answer, 409, "late", "a charter before there are keys");

    for (path, code, status) in [
        ("/v1/genesis/messages?from=-1", "malformed", 400),
        ("/v1/genesis/messages?from=many", "malformed", 400),
        ("/v1/genesis/messages?form=1", "malformed", 400),
        ("/v1/genesis/messages?from=0&from=1", "malformed", 400),
        ("/v1/charters?since=1", "malformed", 400),
        ("/v1/charters?from=-1", "malformed", 400),
        ("/v1/genesis/", "no-such-path", 404),
        ("/v1/genesis/messages/0", "no-such-path", 404),
        ("/v1/ceremonies", "no-such-path", 404),
        ("/v1/leases", "no-such-path", 404),
        ("/v1/datasets", "no-such-path", 404),
        ("/", "no-such-path", 404),
    ] {
        refused(&boris.get(path).await.unwrap(), status, code, path);
    }
    for (method, path) in
        [("POST", "/v1/genesis"), ("PUT", BOARD), ("DELETE", BOARD), ("POST", "/v1/charters"), ("PATCH", "/v1/status")]
    {
        let answer = boris.send(http(method, path, &json_headers, json_text.as_bytes())).await.unwrap();
        refused(&answer, 405, "no-such-method", &format!("{method} {path}"));
    }
    // More than there is gives nothing, and says how much there is.
    let beyond = boris.get("/v1/genesis/messages?from=18446744073709551615").await.unwrap().json();
    assert_eq!((&beyond["posts"], &beyond["size"]), (&json!([]), &before.0["size"]));

    // Refused with the first byte too many: what follows is not waited for.
    let mut large = founding.post_head(2 * 1024 * 1024).await;
    large.write_all(&vec![b'['; MAX_REQUEST_BYTES + 1]).await.unwrap();
    let mut answer = [0; 12];
    large.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    // A body that breaks off in the middle.
    let mut cut = founding.post_head(json_text.len()).await;
    cut.write_all(&json_text.as_bytes()[..json_text.len() / 2]).await.unwrap();
    cut.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = cut.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));

    assert_eq!(founding.stands().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_revoked_during_the_founding_is_let_in_no_longer() {
    let founding = tokio::task::spawn_blocking(Founding::new).await.unwrap();
    let clara = founding.stage.home.visitor(Role::Official, "clara");
    let config = founding.config(Some(&clara));
    assert_eq!(status_at(founding.address, &config).await.unwrap().status, 200);
    let list = founding.stage.home.list(3, &[&founding.revoked.path[0], &clara.path[0]]);
    std::fs::write(founding.stage.path("luxembourg/home.crl"), &list).unwrap();
    // Nothing is read before somebody says so.
    assert_eq!(status_at(founding.address, &config).await.unwrap().status, 200);
    founding.serve.hang_up();
    let serve = &founding.serve;
    tokio::task::block_in_place(|| {
        until("the new list", &[serve], || serve.said().contains("home's revocation list is in force"));
    });
    let refused = status_at(founding.address, &config).await.unwrap_err();
    assert!(refused.contains("CertificateRevoked"), "{refused}");
    // The founding goes on for everybody else, also when an older list is put there.
    std::fs::write(founding.stage.path("luxembourg/home.crl"), &founding.list).unwrap();
    founding.serve.hang_up();
    tokio::task::block_in_place(|| {
        until("the refusal", &[serve], || serve.said().contains("home.crl is refused"));
    });
    assert!(status_at(founding.address, &config).await.is_err());
    let anna = founding.config(Some(&founding.stage.home.visitor(Role::Official, "anna")));
    assert_eq!(status_at(founding.address, &anna).await.unwrap().status, 200);
}
