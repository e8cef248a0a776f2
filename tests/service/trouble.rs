//! What goes wrong around a ceremony: a store whose every write fails, and a directory that is not as it should be.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use chancery::{
    hardware::MachineTpm,
    protocol::{
        hash::Hash,
        ids::CharterId,
        roll::{Act, Entry},
        tpm::nv::NvHandle,
        wire::Document,
    },
    service::{
        boot::{self, BootError},
        directory::{Directory, DirectoryError},
        trust::TrustError,
    },
    store::{Batch, Call, Fault, Faulty, Kind, MemoryStore, Store},
};
use hsm_sim::command as cc;

use crate::support::{
    HOUR, Home, World,
    net::{Running, boot_clock},
    now,
    people::Caller,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_write_of_a_ceremony_may_fail_in_both_ways_and_nothing_is_lost_or_said_twice() {
    let world = World::new();
    let (armed, tries) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::<Vec<u8>, u32>::new())));
    let (on, counted) = (Arc::clone(&armed), Arc::clone(&tries));
    let hook = move |call: Call<'_>| match call {
        Call::Commit(Batch { puts, entries })
            if on.load(Ordering::SeqCst) && puts.iter().any(|put| put.key.kind == Kind::Ceremony) =>
        {
            let what = [puts[0].bytes.clone(), entries.concat()].concat();
            let mut counted = counted.lock().unwrap();
            let tries = counted.entry(what).or_default();
            *tries += 1;
            // First it was not written, then it was written and not said so.
            match tries {
                1 => Some(Fault::Before),
                2 => Some(Fault::After),
                _ => None,
            }
        }
        _ => None,
    };
    let store: Arc<dyn Store> = Arc::new(Faulty::new(MemoryStore::new(), hook));
    let running = Running::start_with(world.site(), Arc::clone(&store), boot_clock()).await.unwrap();
    world.publish(&running).await;
    armed.store(true, Ordering::SeqCst);
    let mut anna = Caller::official(&world, &running, 0).await;
    let resets = anna.resets().await;
    let signed = world.signed(world.parts(0, world.lease(), 1, resets));
    let id = signed.unverified().id();
    // Not written, and said so; then written, and said so all the same.
    assert_eq!(anna.post("/v1/ceremonies", &signed).await.code(), "store");
    assert_eq!(anna.taken("/v1/ceremonies", &signed).await["new"], true);
    assert_eq!(anna.taken("/v1/ceremonies", &signed).await["new"], false);
    let offer = anna.offer(&id, 1).await;
    for official in &world.officials[..3] {
        let contribution = official.approve(&world, &offer);
        let answer = anna.taken(&format!("/v1/ceremonies/{id}/contributions"), &contribution).await;
        assert_eq!(answer["reply"], "accepted");
    }
    assert_eq!(anna.until(&id, "ended").await["outcome"], "a lease began");
    let said: Vec<String> = anna.roll().await.into_iter().skip(6).filter(|act| act != "lease suspended").collect();
    assert_eq!(
        said,
        [
            "ceremony opened",
            "offer made",
            "contributed",
            "contributed",
            "contributed",
            "opening",
            "leased",
            "ceremony ended"
        ]
    );
    assert!(tries.lock().unwrap().values().all(|tries| *tries >= 2));
    running.stop().await;
}

/// Starts from the directory of a world's embassy, with what an earlier start left in the store.
async fn start(world: &World, store: &Arc<dyn Store>) -> Result<boot::Ready, BootError> {
    let directory = Directory::new(&world.site().directory);
    let settings = directory.settings()?;
    boot::open(&directory, &settings, Arc::clone(store), boot_clock()).await
}

fn empty() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_what_was_seen_never_comes_back_into_force_at_a_start() {
    let world = World::new();
    let write = |name: &str, bytes: &[u8]| std::fs::write(world.site().directory.join(name), bytes).unwrap();
    let store = empty();
    let third = world.amended(|parts| parts.expiry_max_seconds = 900);
    write("charters/third.charter", &third.encode());
    write("home.crl", &world.home.list(7, &[]));
    let ready = start(&world, &store).await.unwrap();
    assert_eq!(ready.app.trust().get().charter().charter().parts().version, 3);
    drop(ready);

    // Somebody puts an old disk back: what was seen stays in force.
    std::fs::remove_file(world.site().directory.join("charters/third.charter")).unwrap();
    write("home.crl", &world.home.list(6, &[]));
    let ready = start(&world, &store).await.unwrap();
    let trust = ready.app.trust().get();
    assert_eq!((trust.charter().charter().parts().version, trust.revocations().number()), (3, 7));
    drop((ready, trust));

    // Another charter of a version that was seen, or of one before it, and another list of its number.
    let before = std::fs::read_dir(world.site().directory.join("charters")).unwrap();
    let second = before
        .map(|entry| entry.unwrap().path())
        .find(|path| std::fs::read(path).unwrap() == world.completed.encode())
        .unwrap();
    let mut forged = chancery::protocol::charter::SignedCharter::unsigned(world.completed.unverified().clone());
    forged = {
        let mut parts = forged.unverified().parts().clone();
        parts.expiry_max_seconds = 301;
        chancery::protocol::charter::SignedCharter::unsigned(chancery::protocol::charter::Charter::new(parts).unwrap())
    };
    std::fs::write(&second, forged.encode()).unwrap();
    assert!(matches!(start(&world, &store).await.err(), Some(BootError::Chain { version: 2, .. })));
    std::fs::write(&second, world.completed.encode()).unwrap();
    let other = world.amended(|parts| parts.expiry_max_seconds = 300);
    write("charters/third.charter", &other.encode());
    assert!(matches!(start(&world, &store).await.err(), Some(BootError::Chain { version: 3, .. })));
    write("charters/third.charter", &third.encode());
    let olga = world.home.visitor(chancery::protocol::certificate::Role::Auditor, "olga");
    write("home.crl", &world.home.list(7, &[&olga.path[0]]));
    assert!(matches!(start(&world, &store).await.err(), Some(BootError::Trust(TrustError::TwoLists { number: 7 }))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_from_a_wrong_directory_says_what_is_wrong_and_writes_nothing() {
    let world = World::new();
    let folder = world.site().directory.clone();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    let kept = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let store = empty();
    let refused = async |name: &str, bytes: Option<&[u8]>| {
        let before = kept(name);
        match bytes {
            Some(bytes) => write(name, bytes),
            None => std::fs::remove_file(folder.join(name)).unwrap(),
        }
        let error = start(&world, &store).await.err().unwrap_or_else(|| panic!("{name} was not needed"));
        write(name, &before);
        error
    };
    use DirectoryError::{Certificate, Document as Unread, Missing, Settings};
    assert!(matches!(refused("chancery.toml", None).await, BootError::Directory(Missing { .. })));
    let unknown = refused("chancery.toml", Some(b"embassy = \"luxembourg\"\nskip_checks = true\n")).await;
    assert!(matches!(&unknown, BootError::Directory(Settings { reason, .. }) if reason.contains("skip_checks")));
    let elsewhere = String::from_utf8(kept("chancery.toml")).unwrap().replace("luxembourg", "atlantis");
    let unknown = refused("chancery.toml", Some(elsewhere.as_bytes())).await;
    assert!(unknown.to_string().contains("atlantis"), "{unknown}");
    // The charter is of EE, and this home of LU.
    let abroad = refused("home.crt", Some(&Home::new("LU").root)).await;
    assert!(matches!(abroad, BootError::Trust(_)), "{abroad}");
    assert!(matches!(refused("home.crt", None).await, BootError::Directory(Missing { .. })));
    assert!(matches!(refused("home.crl", None).await, BootError::Directory(Missing { .. })));
    let bad = refused("home.crl", Some(b"-----BEGIN X509 CRL-----\nAA\n")).await;
    assert!(matches!(bad, BootError::Directory(Certificate { .. })));
    let foreign = Home::new("EE");
    assert!(matches!(refused("home.crt", Some(&foreign.root)).await, BootError::Trust(_)));
    assert!(matches!(refused("home.crl", Some(&foreign.list(1, &[]))).await, BootError::Trust(_)));
    assert!(matches!(refused("keys.bin", Some(b"keys")).await, BootError::Directory(Unread { .. })));
    let half = kept("charters/000002.charter");
    let half = refused("charters/000002.charter", Some(&half[..half.len() / 2])).await;
    assert!(matches!(half, BootError::Directory(Unread { .. })));
    // A charter that only home signed.
    let mut alone = chancery::protocol::charter::SignedCharter::unsigned(world.completed.unverified().clone());
    alone.sign(chancery::protocol::charter::Signer::Home, &world.home.key.signing).unwrap();
    let alone = refused("charters/000002.charter", Some(&alone.encode())).await;
    assert!(matches!(alone, BootError::Chain { version: 2, .. }), "{alone}");
    // Another embassy's authority: home certified a key that is not in this TPM.
    let other = crate::support::Key::new();
    let identity = crate::support::identity(chancery::protocol::certificate::Role::EmbassyAuthority, "luxembourg");
    let authority = world.home.issue(&crate::support::request(identity, other.point()));
    assert!(matches!(refused("embassy.crt", Some(&authority)).await, BootError::Tls(_)));
    // A list that has run out vouches for nobody, also not for the embassy itself.
    let stale = world.home.list_until(3, &[], chancery::protocol::certificate::UnixTime(now().0 - HOUR / 2));
    assert!(matches!(refused("home.crl", Some(&stale)).await, BootError::Tls(_)));
    assert_eq!(store.roll_size().await.unwrap(), 0);
    assert!(start(&world, &store).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_charter_pin_in_the_tpm_ties_charters_to_the_machine() {
    let world = World::new();
    let tpm = world.site().tpm(&world.facts());
    assert_eq!(tpm.charter_pin(), Ok(world.charter.id().0));
    drop(tpm);
    // The same machine under charters of another network, which home signs as willingly: the keys' policies are not those
    // of that network, long before the pin is asked.
    let mut parts = world.founding.unverified().parts().clone();
    parts.embassies[0].handles.counter = NvHandle::new(0x0180_0020).unwrap();
    let mut founding = chancery::protocol::charter::SignedCharter::unsigned(
        chancery::protocol::charter::Charter::new(parts.clone()).unwrap(),
    );
    founding.sign(chancery::protocol::charter::Signer::Home, &world.home.key.signing).unwrap();
    let founded = founding.clone().found(parts.country, &world.home.key.point()).unwrap();
    assert_ne!(founded.id(), CharterId(Hash([0; 32])));
    let parts = chancery::protocol::charter::CharterParts {
        embassies: parts.embassies.clone(),
        founding: Some(founded.id()),
        previous: Some(founded.hash()),
        ..world.completed.unverified().parts().clone()
    };
    let mut completed =
        chancery::protocol::charter::SignedCharter::unsigned(chancery::protocol::charter::Charter::new(parts).unwrap());
    completed.sign(chancery::protocol::charter::Signer::Home, &world.home.key.signing).unwrap();
    for official in &world.officials[..3] {
        let signer = chancery::protocol::charter::Signer::Official(official.name.clone());
        completed.sign(signer, &official.identity.signing).unwrap();
    }
    let write = |name: &str, bytes: &[u8]| std::fs::write(world.site().directory.join(name), bytes).unwrap();
    write("charters/000001.charter", &founding.encode());
    write("charters/000002.charter", &completed.encode());
    let store = empty();
    assert!(matches!(start(&world, &store).await.err(), Some(BootError::Tpm(_))));
    assert_eq!(store.roll_size().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_service_in_a_boot_state_that_was_not_approved() {
    let mut world = World::new();
    let store = empty();
    let profile = world.site().profile.clone();
    let other = profile.clone().with_kernel(b"a kernel of the host's");
    world.sites[0].machine.reboot(&other).unwrap();
    let refused = start(&world, &store).await.err().unwrap();
    assert!(refused.to_string().contains("the platform register refuses this boot state"), "{refused}");
    assert_eq!(store.roll_size().await.unwrap(), 0);
    // The approved state again: it serves, with a TLS key of this start alone.
    let mut keys = std::collections::BTreeSet::new();
    for starts in 1..=2 {
        world.sites[0].machine.reboot(&profile).unwrap();
        drop(start(&world, &store).await.unwrap());
        for row in store.roll(0, 256).await.unwrap() {
            if let Act::Boot { tls_key, .. } = Entry::decode(&row.bytes).unwrap().act {
                keys.insert(tls_key);
            }
        }
        assert_eq!(keys.len(), starts);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tpm_is_asked_nothing_before_the_roll_says_so() {
    let world = World::new();
    let armed = Arc::new(AtomicBool::new(true));
    let on = Arc::clone(&armed);
    let opens = |entry: &Vec<u8>| matches!(Entry::decode(entry).unwrap().act, Act::Opening { .. });
    let hook = move |call: Call<'_>| match call {
        Call::Commit(batch) if on.load(Ordering::SeqCst) && batch.entries.iter().any(opens) => Some(Fault::Before),
        _ => None,
    };
    let store: Arc<dyn Store> = Arc::new(Faulty::new(MemoryStore::new(), hook));
    let running = Running::start_with(world.site(), Arc::clone(&store), boot_clock()).await.unwrap();
    world.publish(&running).await;
    let mut anna = Caller::official(&world, &running, 0).await;
    let id = world.open(&mut anna, 0, world.lease(), 1).await;
    let (offer, path) = (anna.offer(&id, 1).await, format!("/v1/ceremonies/{id}/contributions"));
    for official in &world.officials[..2] {
        anna.taken(&path, &official.approve(&world, &offer)).await;
    }
    // The third makes the quorum; the entry that says so cannot be written, and nobody is answered.
    let bus = world.site().machine.bus();
    bus.forget_recording();
    let mut clara = Caller::official(&world, &running, 2).await;
    let third = world.officials[2].approve(&world, &offer);
    let waiting = tokio::spawn(async move { clara.taken(&path, &third).await });
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(!waiting.is_finished());
    let asked = || [cc::POLICY_SIGNED, cc::ECDH_ZGEN].map(|code| bus.recording().commands(code).count());
    assert_eq!(asked(), [0, 0]);
    armed.store(false, Ordering::SeqCst);
    assert_eq!(waiting.await.unwrap()["reply"], "accepted");
    assert_eq!(anna.until(&id, "ended").await["outcome"], "a lease began");
    assert_eq!(asked(), [3, 1]);
    running.stop().await;
}
