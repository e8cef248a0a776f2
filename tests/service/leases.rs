//! Leases over the network: who unwraps, who stops, who keeps them alive, and who is told no.

use std::{path::Path, process::Command, time::Duration};

use age::Recipient as _;
use chancery::{
    client::{
        leases::{BeatQuestion, LeaseView},
        unwrap::{StanzaText, UnwrapRequest, Unwrapped},
    },
    keys::{
        disk::{self, Replace},
        file::{Cost, KeyFile, KeyKind, PrivateKey},
    },
    protocol::{
        beat::{Beat, BeatNonce, BeatRequest},
        certificate::Role,
        dataset::TaggedStanza,
        hash::Hash,
        ids::{CeremonyId, SubjectName, WitnessName},
        roll::{Act, Entry},
        secret::{SecretScalar, SecretVec},
        statement::{LeaseTerms, Mode},
        wire::Document,
    },
};
use rand_core::OsRng;
use serde_json::Value;

use crate::support::{
    WITNESS, Wish, World,
    net::{Line, Running, Way, client, request as post},
    now,
    people::Caller,
};

/// A stanza that wraps a file key of sevens to a dataset.
fn stanza(world: &World, dataset: usize) -> TaggedStanza {
    let recipient: age::tagpq::Recipient = world.datasets[dataset].seed.key().recipient().to_string().parse().unwrap();
    let (mut stanzas, _) = recipient.wrap_file_key(&age_core::format::FileKey::new(Box::new([7; 16]))).unwrap();
    let stanza = stanzas.remove(0);
    let arguments: Vec<&str> =
        std::iter::once(stanza.tag.as_str()).chain(stanza.args.iter().map(String::as_str)).collect();
    TaggedStanza::parse(&arguments, &stanza.body).unwrap().unwrap()
}

fn request(world: &World, dataset: usize, stanzas: &[TaggedStanza]) -> Value {
    let dataset = world.datasets[dataset].name.to_string();
    let stanzas = stanzas.iter().map(StanzaText::of).collect();
    serde_json::to_value(UnwrapRequest { dataset, stanzas }).unwrap()
}

async fn question(witness: &mut Caller) -> BeatRequest {
    let answer = witness.get("/v1/beat").await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let asked: BeatQuestion = serde_json::from_value(answer.json()).unwrap();
    let bytes = |text: &str| <[u8; 32]>::try_from(hex::decode(text).unwrap()).unwrap();
    BeatRequest {
        charter: chancery::protocol::ids::CharterId(Hash(bytes(&asked.charter))),
        embassy: asked.embassy.parse().unwrap(),
        nonce: BeatNonce(bytes(&asked.nonce)),
    }
}

async fn beat(world: &World, witness: &mut Caller) -> Beat {
    let request = question(witness).await;
    let name = WitnessName::new(WITNESS).unwrap();
    let beat = Beat::sign(request, name, now(), &world.witness.signing).unwrap();
    let taken = witness.taken("/v1/beat", &beat).await;
    assert!(taken["good_for_seconds"].as_u64().unwrap() > 0, "{taken}");
    beat
}

/// Three officials open a lease on both datasets for the agent replica-1.
async fn leased(world: &World, running: &Running) -> CeremonyId {
    world.publish(running).await;
    leased_for(world, running, world.lease()).await
}

/// The same, on other terms.
async fn leased_for(world: &World, running: &Running, lease: Mode) -> CeremonyId {
    let mut anna = Caller::official(world, running, 0).await;
    let id = world.open(&mut anna, 0, lease, 2).await;
    let offer = anna.offer(&id, 1).await;
    for (index, official) in world.officials.iter().enumerate().take(3) {
        let mut caller = Caller::official(world, running, index).await;
        caller.taken(&format!("/v1/ceremonies/{id}/contributions"), &official.approve(world, &offer)).await;
    }
    assert_eq!(anna.until(&id, "ended").await["outcome"], "a lease began");
    id
}

async fn view(caller: &mut Caller, id: &CeremonyId) -> LeaseView {
    let answer = caller.get(&format!("/v1/leases/{id}")).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    serde_json::from_value(answer.json()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_named_agent_unwraps_until_one_official_stops_the_lease() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    let mut witness = Caller::connect(&world, &running, Role::Witness, WITNESS).await;
    beat(&world, &mut witness).await;
    let id = leased(&world, &running).await;
    let path = format!("/v1/leases/{id}/unwrap");

    let mut agent = Caller::connect(&world, &running, Role::Agent, "replica-1").await;
    let (land, other) = (stanza(&world, 0), stanza(&world, 1));
    let stanzas = [land.clone(), other, land.clone()];
    let answer = agent.line.post(&path, &request(&world, 0, &stanzas)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert_eq!(answer.headers["cache-control"], "no-store");
    let keys = serde_json::from_value::<Unwrapped>(answer.json()).unwrap().keys;
    let found: Vec<Option<[u8; 16]>> =
        keys.iter().map(|key| key.file_key.as_ref().map(|key| *key.0.expose())).collect();
    assert_eq!(found, [Some([7; 16]), None, Some([7; 16])]);
    assert!(keys.iter().all(|key| key.refused.is_none()));

    // A whole batch; one too many; none.
    let batch = vec![land.clone(); 256];
    assert_eq!(agent.line.post(&path, &request(&world, 0, &batch)).await.unwrap().status, 200);
    let batch = vec![land.clone(); 257];
    assert_eq!(agent.line.post(&path, &request(&world, 0, &batch)).await.unwrap().code(), "malformed");
    assert_eq!(agent.line.post(&path, &request(&world, 0, &[])).await.unwrap().code(), "malformed");
    let seen = view(&mut agent, &id).await;
    assert_eq!(
        (seen.state.as_str(), seen.used, seen.unwraps, seen.agents),
        ("live", 258, 1000, vec!["replica-1".into()])
    );

    // A repeat under the same key is answered again and costs nothing; the key for another request is refused.
    let body = serde_json::to_vec(&request(&world, 0, std::slice::from_ref(&land))).unwrap();
    let other = serde_json::to_vec(&request(&world, 1, std::slice::from_ref(&land))).unwrap();
    let sent = |key: &str, body: &[u8]| {
        post("POST", &path, &[("content-type", "application/json"), ("idempotency-key", key)], body)
    };
    for _ in 0..3 {
        let answer = agent.line.send(sent("5f1c", &body)).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.json());
        let keys = serde_json::from_value::<Unwrapped>(answer.json()).unwrap().keys;
        assert_eq!(keys[0].file_key.as_ref().map(|key| *key.0.expose()), Some([7; 16]));
        assert_eq!(view(&mut agent, &id).await.used, 259);
    }
    let reused = agent.line.send(sent("5f1c", &other)).await.unwrap();
    assert_eq!((reused.status.as_u16(), reused.code().as_str()), (422, "idempotency-key-reused"));
    assert_eq!(agent.line.send(sent(&"k".repeat(65), &body)).await.unwrap().code(), "malformed");
    assert_eq!(view(&mut agent, &id).await.used, 259);

    // Another agent, an official, and the right agent over a connection that a quantum computer will open.
    let one = request(&world, 0, std::slice::from_ref(&land));
    let mut stranger = Caller::connect(&world, &running, Role::Agent, "replica-2").await;
    assert_eq!(stranger.line.post(&path, &one).await.unwrap().code(), "policy");
    assert_eq!(stranger.get(&format!("/v1/leases/{id}")).await.code(), "policy");
    assert_eq!(stranger.get("/v1/leases").await.json()["leases"], serde_json::json!([]));
    let mut anna = Caller::official(&world, &running, 0).await;
    assert_eq!(anna.line.post(&path, &one).await.unwrap().code(), "policy");
    let classical = Way { groups: vec![rustls::crypto::aws_lc_rs::kx_group::X25519], ..Way::default() };
    let config = client(&world, Some(&world.home.visitor(Role::Agent, "replica-1")), &classical);
    let mut line = Line::open(running.address, &config).await.unwrap();
    assert_eq!(line.post(&path, &one).await.unwrap().code(), "hybrid-required");
    // Every other role: unwraps nothing, stops nothing, and sees what is its own.
    for (role, name, sees) in
        [(Role::DataOwner, "land-board", true), (Role::Auditor, "olga", true), (Role::Witness, WITNESS, false)]
    {
        let mut other = Caller::connect(&world, &running, role, name).await;
        assert_eq!(other.line.post(&path, &one).await.unwrap().code(), "policy", "{role}");
        let stop = world.officials[0].stop(id);
        assert_eq!(other.post(&format!("/v1/leases/{id}/stops"), &stop).await.code(), "policy", "{role}");
        let seen = other.get(&format!("/v1/leases/{id}")).await;
        assert_eq!(seen.status == 200, sees, "{role}: {}", seen.json());
    }
    let listed = anna.get("/v1/leases").await.json();
    assert_eq!(listed["leases"].as_array().unwrap().len(), 1);

    // An agent cannot stop it; an official's stop in another's name does not; eva's own does, and at once.
    let path_of_stops = format!("/v1/leases/{id}/stops");
    let stop = world.officials[4].stop(id);
    assert_eq!(agent.post(&path_of_stops, &stop).await.code(), "policy");
    let forged = chancery::protocol::notice::Stop::sign(
        id,
        world.officials[4].name.clone(),
        chancery::protocol::paragraph::Reason::new("in her name").unwrap(),
        &world.officials[0].identity.signing,
    );
    assert_eq!(anna.post(&path_of_stops, &forged.unwrap()).await.code(), "refused");
    assert_eq!(agent.line.post(&path, &one).await.unwrap().status, 200);
    let mut eva = Caller::official(&world, &running, 4).await;
    let stopped = eva.taken(&path_of_stops, &stop).await;
    assert_eq!((&stopped["state"], &stopped["used"]), (&"ended".into(), &260.into()));
    assert!(stopped["why"].as_str().unwrap().contains("eva stopped it"), "{stopped}");
    assert_eq!(agent.line.post(&path, &one).await.unwrap().code(), "lease-ended");
    assert_eq!(eva.taken(&path_of_stops, &stop).await["state"], "ended");

    let said = anna.roll().await;
    let said: Vec<&str> = said.iter().map(String::as_str).skip_while(|act| *act != "leased").collect();
    assert_eq!(said, ["leased", "ceremony ended", "unwraps reserved", "stopped", "unwraps used", "lease ended"],);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_serves_while_the_charters_witness_beats_and_nobody_else_can() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    let id = leased(&world, &running).await;
    let path = format!("/v1/leases/{id}/unwrap");
    let one = request(&world, 0, &[stanza(&world, 0)]);
    let mut agent = Caller::connect(&world, &running, Role::Agent, "replica-1").await;
    // Nobody has beaten yet.
    assert_eq!(agent.line.post(&path, &one).await.unwrap().code(), "lease-suspended");
    for (role, name) in [(Role::Official, world.officials[0].name.as_str()), (Role::Agent, "replica-1")] {
        let mut other = Caller::connect(&world, &running, role, name).await;
        assert_eq!(other.get("/v1/beat").await.code(), "policy", "{name}");
    }
    let mut stranger = Caller::connect(&world, &running, Role::Witness, "oslo").await;
    assert_eq!(stranger.get("/v1/beat").await.code(), "not-in-charter");

    let mut witness = Caller::connect(&world, &running, Role::Witness, WITNESS).await;
    let asked = question(&mut witness).await;
    let (name, forger) = (WitnessName::new(WITNESS).unwrap(), &world.owner.signing);
    let forged = Beat::sign(asked.clone(), name.clone(), now(), forger).unwrap();
    assert_eq!(witness.post("/v1/beat", &forged).await.code(), "beat-refused");
    let right = Beat::sign(asked, name, now(), &world.witness.signing).unwrap();
    witness.taken("/v1/beat", &right).await;
    assert_eq!(witness.post("/v1/beat", &right).await.code(), "beat-refused", "a replay");
    assert_eq!(agent.line.post(&path, &one).await.unwrap().status, 200);
    let again = beat(&world, &mut witness).await;
    let cut = &again.encode()[1..];
    let body = serde_json::json!({ "document": base64::Engine::encode(&base64::prelude::BASE64_STANDARD, cut) });
    assert_eq!(witness.line.post("/v1/beat", &body).await.unwrap().code(), "malformed");
    let status = witness.get("/v1/status").await.json();
    assert_eq!(status["leases"], 1);
    assert!(
        ["secret memory (", "locked pages "].iter().any(|how| status["key_memory"].as_str().unwrap().starts_with(how))
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_does_not_outlive_its_process() {
    let world = World::new();
    let store: std::sync::Arc<dyn chancery::store::Store> = std::sync::Arc::new(chancery::store::MemoryStore::new());
    let clock = crate::support::net::boot_clock;
    let running = Running::start_with(world.site(), std::sync::Arc::clone(&store), clock()).await.unwrap();
    let mut witness = Caller::connect(&world, &running, Role::Witness, WITNESS).await;
    beat(&world, &mut witness).await;
    let id = leased(&world, &running).await;
    running.stop().await;
    let running = Running::start_with(world.site(), store, clock()).await.unwrap();
    let mut anna = Caller::official(&world, &running, 0).await;
    let seen = view(&mut anna, &id).await;
    assert_eq!(seen.state, "ended");
    let mut agent = Caller::connect(&world, &running, Role::Agent, "replica-1").await;
    let one = request(&world, 0, &[stanza(&world, 0)]);
    assert_eq!(agent.line.post(&format!("/v1/leases/{id}/unwrap"), &one).await.unwrap().code(), "lease-ended");
    running.stop().await;
}

fn terms(duration_seconds: u32, unwraps: u64) -> Mode {
    Mode::Lease(LeaseTerms { agents: vec!["replica-1".parse().unwrap()], duration_seconds, unwraps })
}

/// What became of a lease, by the roll: read from the store, because whoever asks the service about a lease has it look.
async fn fate(running: &Running, id: CeremonyId) -> Vec<String> {
    let (mut from, mut fate) = (0, Vec::new());
    loop {
        let rows = running.store.roll(from, 256).await.unwrap();
        for row in &rows {
            match Entry::decode(&row.bytes).unwrap().act {
                Act::LeaseSuspended { ceremony, .. } if ceremony == id => fate.push("suspended".to_owned()),
                Act::LeaseRevived { ceremony, .. } if ceremony == id => fate.push("revived".to_owned()),
                Act::LeaseEnded { ceremony, why, unwraps } if ceremony == id => {
                    fate.push(format!("ended after {unwraps}: {why}"));
                }
                _ => {}
            }
        }
        if rows.is_empty() {
            return fate;
        }
        from += rows.len() as u64;
    }
}

/// Waits until the last that became of a lease begins so, asking the service for nothing.
async fn until(running: &Running, id: CeremonyId, last: &str) -> Vec<String> {
    for _ in 0..400 {
        let fate = fate(running, id).await;
        if fate.last().is_some_and(|act| act.starts_with(last)) {
            return fate;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never {last}: {:?}", fate(running, id).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_whose_time_or_budget_is_over_ends_by_itself() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    let mut witness = Caller::connect(&world, &running, Role::Witness, WITNESS).await;
    beat(&world, &mut witness).await;
    let mut agent = Caller::connect(&world, &running, Role::Agent, "replica-1").await;
    let mut anna = Caller::official(&world, &running, 0).await;
    let (land, three) = (stanza(&world, 0), vec![stanza(&world, 0); 3]);
    world.publish(&running).await;

    let id = leased_for(&world, &running, terms(1, 1000)).await;
    assert_eq!(until(&running, id, "ended").await, ["ended after 0: its time was over"]);
    let path = format!("/v1/leases/{id}/unwrap");
    assert_eq!(
        agent.line.post(&path, &request(&world, 0, std::slice::from_ref(&land))).await.unwrap().code(),
        "lease-ended"
    );
    let seen = view(&mut anna, &id).await;
    assert_eq!((seen.state.as_str(), seen.why.as_str()), ("ended", "ended: its time was over"));

    let id = leased_for(&world, &running, terms(3600, 3)).await;
    let path = format!("/v1/leases/{id}/unwrap");
    let batch = request(&world, 0, &[&three[..], &three[..1]].concat());
    assert_eq!(agent.line.post(&path, &batch).await.unwrap().code(), "lease-spent", "more than there is, and it lives");
    assert_eq!(agent.line.post(&path, &request(&world, 0, &three)).await.unwrap().status, 200);
    assert_eq!(until(&running, id, "ended").await, ["ended after 3: its unwraps were used up"]);
    assert_eq!(agent.line.post(&path, &request(&world, 0, &[land])).await.unwrap().code(), "lease-spent");
    let seen = view(&mut anna, &id).await;
    assert_eq!((seen.state.as_str(), seen.used), ("ended", 3));
    assert_eq!(anna.get("/v1/status").await.json()["leases"], 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_without_beats_is_suspended_and_then_ends_by_itself() {
    // Suspended after two seconds, wiped after four.
    let world = World::of(&Wish { heartbeat_seconds: 2, ..Wish::default() });
    let running = Running::start(world.site()).await;
    let mut agent = Caller::connect(&world, &running, Role::Agent, "replica-1").await;
    let mut witness = Caller::connect(&world, &running, Role::Witness, WITNESS).await;
    let one = request(&world, 0, &[stanza(&world, 0)]);
    let id = leased(&world, &running).await;
    let path = format!("/v1/leases/{id}/unwrap");
    beat(&world, &mut witness).await;
    assert_eq!(agent.line.post(&path, &one).await.unwrap().status, 200);

    let before = fate(&running, id).await;
    assert_ne!(before.last().map(String::as_str), Some("suspended"));
    until(&running, id, "suspended").await;
    assert_eq!(agent.line.post(&path, &one).await.unwrap().code(), "lease-suspended");
    let became = until(&running, id, "ended").await;
    let silent = "ended after 1: no witness was heard for two heartbeat intervals";
    assert_eq!(became[before.len()..], ["suspended", silent]);
    assert_eq!(agent.line.post(&path, &one).await.unwrap().code(), "lease-ended");
    // What ended does not come back.
    beat(&world, &mut witness).await;
    assert_eq!(agent.line.post(&path, &one).await.unwrap().code(), "lease-ended");
    let mut anna = Caller::official(&world, &running, 0).await;
    assert_eq!(view(&mut anna, &id).await.state, "ended");
    running.stop().await;
}

const PASSPHRASE: &str = "seven bells over the lake";

/// The directory of a witness, as `chancery keys witness` and home leave it.
fn witness_directory(world: &World, dir: &Path, signs: &SecretScalar) {
    let visitor = world.home.visitor(Role::Witness, WITNESS);
    let name = SubjectName::new(WITNESS).unwrap();
    let store = |file: &str, kind: KeyKind, secret: SecretScalar| {
        let (passphrase, cost) = (SecretVec::new(PASSPHRASE.into()), Cost::new(19 * 1024, 2, 1).unwrap());
        let key =
            KeyFile::seal(kind, name.clone(), &PrivateKey::Scalar(secret), &passphrase, cost, &mut OsRng).unwrap();
        disk::store(&dir.join(file), &key, Replace::No).unwrap();
    };
    let copy = |secret: &SecretScalar| SecretScalar::from_bytes(&secret.to_bytes()).unwrap();
    store("witness.key", KeyKind::Identity, copy(signs));
    store("connection.key", KeyKind::Connection, SecretScalar::new(*visitor.key.signing.as_nonzero_scalar()));
    std::fs::write(dir.join("connection.crt"), &visitor.path[0]).unwrap();
    for file in ["home.crt", "home.crl"] {
        std::fs::copy(world.site().directory.join(file), dir.join(file)).unwrap();
    }
    std::fs::create_dir(dir.join("charters")).unwrap();
    for entry in std::fs::read_dir(world.site().directory.join("charters")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.join("charters").join(path.file_name().unwrap())).unwrap();
    }
    std::fs::write(dir.join("passphrase"), PASSPHRASE).unwrap();
}

fn witness_command(world: &World, running: &Running, dir: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"exec "$0" "$@" 3<passphrase 4<passphrase"#, env!("CARGO_BIN_EXE_chancery")])
        .args(["witness", "beat", "--dir", ".", "--state", "state", "--passphrase-fd", "3", "--connection-fd", "4"])
        .args(["--embassy", world.site().name.as_str(), "--server", &format!("https://{}", running.address)])
        .current_dir(dir);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_witnesss_command_keeps_leases_alive_and_refuses_a_key_that_is_not_the_charters() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    witness_directory(&world, dir.path(), &SecretScalar::new(*world.witness.signing.as_nonzero_scalar()));
    witness_directory(&world, other.path(), &SecretScalar::random(&mut OsRng));

    let mut once = witness_command(&world, &running, dir.path());
    let ran = tokio::task::spawn_blocking(move || once.output().unwrap()).await.unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(said.starts_with("geneva beat luxembourg: no lease stands; good for "), "{said}");

    let mut wrong = witness_command(&world, &running, other.path());
    let ran = tokio::task::spawn_blocking(move || wrong.output().unwrap()).await.unwrap();
    let refused = String::from_utf8(ran.stderr).unwrap();
    assert!(refused.contains("another key for witness geneva"), "{refused}");

    // Again and again, until it is ended; a lease that begins meanwhile is alive at once.
    let mut again = witness_command(&world, &running, dir.path());
    let mut child = again
        .args(["--every", "1"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let id = leased(&world, &running).await;
    let mut anna = Caller::official(&world, &running, 0).await;
    for _ in 0..100 {
        if view(&mut anna, &id).await.state == "live" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(view(&mut anna, &id).await.state, "live");
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    // A newer list that lies there is gone by from the next beat on; what is none changes nothing.
    std::fs::write(dir.path().join("home.crl"), world.home.list(2, &[&world.home.visitor(Role::Agent, "x").path[0]]))
        .unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    std::fs::write(dir.path().join("home.crl"), world.home.list(1, &[])).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    std::fs::write(dir.path().join("home.crl"), b"no list").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    // Home's list says that the embassy's own authority is revoked: from the next beat on nothing is sent there.
    std::fs::write(dir.path().join("home.crl"), world.home.list(3, &[&world.site().authority])).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    child.kill().unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(said.contains("what was there before holds") && said.contains("home.crl"), "{said}");
    assert!(said.contains("home.crl is revocation list 1, and list 2 was there before"), "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("no beat: ") && last.contains("is not taken for the embassy") && last.contains("revoked"),
        "{said}"
    );
    assert!(said.lines().count() > 1, "{said}");
    running.stop().await;
}
