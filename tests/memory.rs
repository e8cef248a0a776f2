//! The memory of a real `chancery serve`: while a lease lives its keys are in secret memory alone, and after it ended no
//! seed, share or Z is left in any readable mapping, nor in a core that root takes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

#[path = "memory/debugged.rs"]
mod debugged;
#[path = "memory/killed.rs"]
mod killed;
#[path = "memory/made.rs"]
mod made;
#[path = "memory/signals.rs"]
mod signals;
mod support;

use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use age::Recipient as _;
use chancery::{
    client::{
        leases::BeatQuestion,
        unwrap::{StanzaText, UnwrapRequest},
    },
    protocol::{
        beat::{Beat, BeatNonce, BeatRequest},
        certificate::Role,
        dataset::TaggedStanza,
        hash::Hash,
        hybrid::HybridSecretKey,
        ids::{CeremonyId, CharterId, SubjectName, WitnessName},
        paragraph::Purpose,
        recipient::RecipientCard,
        slot::SealedFor,
        statement::StatementParts,
    },
    store::MemoryStore,
};
use support::{
    WITNESS, World,
    memory::{Mappings, Needles, Searched},
    net::Running,
    now,
    people::Caller,
};

const PLANTED: &str = "the planted purpose";

/// The program itself, ended with the test unless somebody else started it.
struct Service {
    child: Option<Child>,
    running: Running,
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Service {
    async fn start(world: &World) -> Self {
        let address = free_address();
        let child = Command::new(env!("CARGO_BIN_EXE_chancery"))
            .args(["serve", "--listen", &address.to_string(), "--dir"])
            .arg(&world.site().directory)
            .env("CHANCERY_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self::reached(address, Some(child)).await
    }

    /// Waits until it can be reached.
    async fn reached(address: SocketAddr, child: Option<Child>) -> Self {
        let (stop, _) = tokio::sync::watch::channel(false);
        let running = Running { address, store: Arc::new(MemoryStore::new()), stop, served: tokio::spawn(async {}) };
        let mut this = Self { child, running };
        for _ in 0..600 {
            if let Some(status) = this.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("chancery serve ended: {status}");
            }
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return this;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("chancery serve does not listen");
    }

    fn process(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }
}

async fn beat(world: &World, witness: &mut Caller) {
    let asked: BeatQuestion = serde_json::from_value(witness.get("/v1/beat").await.json()).unwrap();
    let bytes = |text: &str| <[u8; 32]>::try_from(hex::decode(text).unwrap()).unwrap();
    let request = BeatRequest {
        charter: CharterId(Hash(bytes(&asked.charter))),
        embassy: asked.embassy.parse().unwrap(),
        nonce: BeatNonce(bytes(&asked.nonce)),
    };
    let name = WitnessName::new(WITNESS).unwrap();
    witness.taken("/v1/beat", &Beat::sign(request, name, now(), &world.witness.signing).unwrap()).await;
}

fn stanza(world: &World, dataset: usize) -> TaggedStanza {
    let recipient: age::tagpq::Recipient = world.datasets[dataset].seed.key().recipient().to_string().parse().unwrap();
    let (mut stanzas, _) = recipient.wrap_file_key(&age_core::format::FileKey::new(Box::new([7; 16]))).unwrap();
    let stanza = stanzas.remove(0);
    let arguments: Vec<&str> =
        std::iter::once(stanza.tag.as_str()).chain(stanza.args.iter().map(String::as_str)).collect();
    TaggedStanza::parse(&arguments, &stanza.body).unwrap().unwrap()
}

/// Everything that must not be found, and something that must.
fn needles(world: &World, purpose: &str) -> Needles {
    let here = SealedFor::Embassy(world.site().name.clone());
    let mut needles = Needles::new();
    needles.exactly(PLANTED, purpose.as_bytes());
    for (index, dataset) in world.datasets.iter().enumerate() {
        let version = world.version(index);
        needles.dataset(dataset.name.as_str(), &dataset.seed, &version, &here);
        for official in &world.officials {
            let share = version.slot(&here).unwrap().open_share(official.position, &official.hybrid).unwrap();
            needles.number(&format!("{}'s share of w of {}", official.name, dataset.name), share.to_bytes().expose());
        }
    }
    for official in &world.officials {
        needles.number(&format!("{}'s share of the quorum's key", official.name), official.share.to_bytes().expose());
    }
    needles
}

/// The purpose is public and stays in memory: whatever search does not find it is worth nothing.
fn purpose() -> String {
    let purpose = format!("purpose {}", hex::encode(rand_core::RngCore::next_u64(&mut rand_core::OsRng).to_be_bytes()));
    format!("{purpose:-<32}")
}

/// Three officials begin a lease of both datasets.
async fn begin(world: &World, running: &Running, witness: &mut Caller, purpose: &str) -> CeremonyId {
    beat(world, witness).await;
    world.publish(running).await;
    let mut anna = Caller::official(world, running, 0).await;
    let resets = anna.resets().await;
    let parts = world.parts(0, world.lease(), 2, resets);
    let signed = world.signed(StatementParts { purpose: Purpose::new(purpose).unwrap(), ..parts });
    anna.taken("/v1/ceremonies", &signed).await;
    let id: CeremonyId = signed.unverified().id();
    let offer = anna.offer(&id, 1).await;
    for (index, official) in world.officials.iter().enumerate().take(3) {
        let mut caller = Caller::official(world, running, index).await;
        caller.taken(&format!("/v1/ceremonies/{id}/contributions"), &official.approve(world, &offer)).await;
    }
    assert_eq!(anna.until(&id, "ended").await["outcome"], "a lease began");
    id
}

/// The agent has data keys unwrapped, one by one and many at once.
async fn unwrap_some(world: &World, running: &Running, id: &CeremonyId) {
    let mut agent = Caller::connect(world, running, Role::Agent, "replica-1").await;
    let path = format!("/v1/leases/{id}/unwrap");
    for (dataset, count) in [(0, 1), (1, 1), (0, 256), (1, 3), (0, 1)] {
        let stanzas = vec![StanzaText::of(&stanza(world, dataset)); count];
        let request = UnwrapRequest { dataset: world.datasets[dataset].name.to_string(), stanzas };
        let answer = agent.line.post(&path, &serde_json::to_value(request).unwrap()).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.json());
    }
}

#[test]
fn the_search_finds_what_is_there_in_every_form() {
    let world = World::new();
    let needles = needles(&world, "x--a-purpose-of-exactly-32-bytes");
    // This process holds the seeds and the officials' shares on its heap, and made the slots on its stack.
    let own = needles.in_process(std::process::id(), &Mappings::All);
    assert!(own.bytes > 1 << 20);
    for what in [
        "the seed of land-register".to_owned(),
        format!("{}'s share of the quorum's key, byte-swapped", world.officials[0].name),
    ] {
        assert!(own.has(&what), "{what}: {:?}", own.found);
    }
    let z = world.datasets[0].seed.key();
    let point = *z.recipient().key().point();
    let mut forms = Needles::new();
    forms.point("a point", &point);
    let kept = Box::new(point);
    let own = forms.in_process(std::process::id(), &Mappings::All);
    assert!(own.has("x of a point, in Montgomery form") && own.has("y of a point, in Montgomery form"));
    drop(kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leases_keys_are_in_secret_memory_alone_and_after_its_end_nowhere() {
    let world = World::new();
    let service = Service::start(&world).await;
    let (running, process) = (&service.running, service.process());
    let purpose = purpose();
    let needles = needles(&world, &purpose);
    let mut witness = Caller::connect(&world, running, Role::Witness, WITNESS).await;
    let id = begin(&world, running, &mut witness, &purpose).await;
    unwrap_some(&world, running, &id).await;

    let status = witness.get("/v1/status").await.json();
    let secret = status["key_memory"].as_str().unwrap().starts_with("secret memory");
    let outside = if secret { Mappings::All } else { Mappings::NotLocked };
    look(&needles, process, &world, &outside, "while the lease lives", secret);

    let mut eva = Caller::official(&world, running, 4).await;
    let stopped = eva.taken(&format!("/v1/leases/{id}/stops"), &world.officials[4].stop(id)).await;
    assert_eq!(stopped["state"], "ended");
    look(&needles, process, &world, &Mappings::All, "after the lease ended", secret);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_leaves_neither_its_seed_nor_the_tpms_half_at_the_embassy() {
    let world = World::new();
    let service = Service::start(&world).await;
    let running = &service.running;
    world.publish(running).await;
    let recipient = world.home.visitor(Role::Agent, "court");
    let hybrid = HybridSecretKey::random(&mut rand_core::OsRng);
    let name = SubjectName::new("court").unwrap();
    let (certificate, public) = (recipient.path[0].clone(), hybrid.public().clone());
    let card = RecipientCard::sign(name, certificate, public, &recipient.key.signing).unwrap();

    let purpose = "released, and 32 bytes in length";
    let needles = needles(&world, purpose);
    let mut anna = Caller::official(&world, running, 0).await;
    let resets = anna.resets().await;
    let parts = world.parts(0, world.release(card), 2, resets);
    let signed = world.signed(StatementParts { purpose: Purpose::new(purpose).unwrap(), ..parts });
    anna.taken("/v1/ceremonies", &signed).await;
    let id: CeremonyId = signed.unverified().id();
    let offer = anna.offer(&id, 1).await;
    for (index, official) in world.officials.iter().enumerate().take(3) {
        let mut caller = Caller::official(&world, running, index).await;
        caller.taken(&format!("/v1/ceremonies/{id}/contributions"), &official.approve(&world, &offer)).await;
    }
    let view = anna.until(&id, "released").await;
    assert_eq!(view["lease"], serde_json::Value::Null, "{view}");
    look(&needles, service.process(), &world, &Mappings::All, "after a release", false);
}

/// What a search of a process finds, which must find what is there.
fn look_for(needles: &Needles, process: u32, mappings: &Mappings, when: &str) -> Searched {
    let searched = needles.in_process(process, mappings);
    println!("{when}: {} MiB of mappings; not readable: {:?}", searched.bytes >> 20, searched.unreadable);
    assert!(searched.has(PLANTED), "{when}: the search does not find what is there");
    searched
}

fn look(needles: &Needles, process: u32, world: &World, mappings: &Mappings, when: &str, secret: bool) {
    let searched = look_for(needles, process, mappings, when);
    assert!(searched.secrets(PLANTED).is_empty(), "{when}: {:#?}", searched.secrets(PLANTED));
    if secret {
        let there = searched.unreadable.iter().any(|name| name.contains("secretmem"));
        assert!(there, "{when}: secret memory is there and cannot be read: {:?}", searched.unreadable);
    }
    match needles.in_core(process, world.folder.path()) {
        Ok(core) => {
            println!("{when}: a core of {} MiB", core.bytes >> 20);
            assert!(core.has(PLANTED), "{when}: the core does not hold what is there");
            assert!(core.secrets(PLANTED).is_empty(), "{when}, in a core: {:#?}", core.secrets(PLANTED));
        }
        // Whoever is not root may be kept from looking into a process of their own.
        Err(why) => {
            assert!(!rustix::process::geteuid().is_root(), "{when}: no core was searched: {why}");
            println!("{when}: no core was searched: {why}");
        }
    }
}
