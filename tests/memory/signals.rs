//! The real process is told to stop while a lease lives: its keys are gone before it is.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use chancery::protocol::certificate::Role;
use rustix::{process::Signal, thread::CapabilitySet};

use super::{
    PLANTED, Service, begin,
    debugged::{Debugged, quoted},
    look_for, needles, purpose, support, unwrap_some,
};
use support::{
    WITNESS, World,
    kernel::{ENOSYS, MEMFD_SECRET, refusing, without},
    memory::{Mappings, Needles, Searched},
    people::Caller,
};

/// What memory must hold, or must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    /// The seeds of the lease and the keys that follow from them, and nothing else.
    OfTheLease,
    Nowhere,
}

/// Every dataset's seed and keys, by the names of the search.
fn of_the_lease(world: &World) -> Vec<String> {
    let forms = ["the seed of", "the P-256 key of", "the ML-KEM key of", "z of the ML-KEM key of"];
    let names = world.datasets.iter().map(|dataset| dataset.name.as_str());
    names.flat_map(|name| forms.map(|form| format!("{form} {name}"))).collect()
}

fn holds(searched: &Searched, keys: Keys, world: &World, place: &str) {
    let found = searched.secrets(PLANTED);
    match keys {
        Keys::Nowhere => assert!(found.is_empty(), "{place}: {found:#?}"),
        Keys::OfTheLease => {
            for what in of_the_lease(world) {
                assert!(searched.has(&what), "{place}: the search does not find {what}, which is there: {found:#?}");
            }
        }
    }
}

fn in_core(debugged: &mut Debugged, needles: &Needles, excluded: bool) -> Searched {
    let path: PathBuf = debugged.core(excluded);
    let searched = needles.in_core_at(&path);
    std::fs::remove_file(path).unwrap();
    assert!(searched.has(PLANTED), "a core holds what is there: {} bytes", searched.bytes);
    searched
}

/// A lease begins, is used, and is still alive when the signal comes.
async fn killed_by(signal: Signal, secret_memory: bool) {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let (mut debugged, service) = debugged(&world, folder.path(), secret_memory).await;
    let purpose = purpose();
    let needles = needles(&world, &purpose);
    let mut witness = Caller::connect(&world, &service.running, Role::Witness, WITNESS).await;
    let id = begin(&world, &service.running, &mut witness, &purpose).await;
    unwrap_some(&world, &service.running, &id).await;
    let status = witness.get("/v1/status").await.json();
    assert_eq!(status["leases"], 1, "{status}");
    let said = status["key_memory"].as_str().unwrap();

    debugged.stop();
    let everywhere = look_for(&needles, debugged.process, &Mappings::All, "while the lease lives");
    if said.starts_with("secret memory") {
        holds(&everywhere, Keys::Nowhere, &world, "outside secret memory");
        assert!(everywhere.unreadable.iter().any(|name| name.contains("secretmem")), "{:?}", everywhere.unreadable);
    } else {
        assert_eq!(said, "locked pages only: this kernel has no memfd_secret");
        // Here the keys can be read from outside, so here it shows that the search finds them, and that they go.
        holds(&everywhere, Keys::OfTheLease, &world, "locked pages");
        let others = look_for(&needles, debugged.process, &Mappings::NotLocked, "while the lease lives");
        holds(&others, Keys::Nowhere, &world, "outside locked pages");
        let core = in_core(&mut debugged, &needles, true);
        holds(&core, Keys::OfTheLease, &world, "a core with what asked to be left out");
    }
    let core = in_core(&mut debugged, &needles, false);
    holds(&core, Keys::Nowhere, &world, "a core as the system makes it");
    debugged.go_on();
    // It goes on as if nothing had been.
    let mut witness = Caller::connect(&world, &service.running, Role::Witness, WITNESS).await;
    assert_eq!(witness.get("/v1/status").await.json()["leases"], 1);

    debugged.signal(signal).unwrap();
    debugged.stopped_at_exit();
    let everywhere = look_for(&needles, debugged.process, &Mappings::All, "before the exit");
    holds(&everywhere, Keys::Nowhere, &world, "memory before the exit");
    let core = in_core(&mut debugged, &needles, true);
    holds(&core, Keys::Nowhere, &world, "a core before the exit");
    let said = debugged.exited();
    assert!(said.contains("exited normally"), "{said}");
}

async fn debugged(world: &World, folder: &Path, secret_memory: bool) -> (Debugged, Service) {
    let address = super::free_address();
    let arguments = format!("serve --listen {address} --dir {}", quoted(&world.site().directory));
    let start = || Debugged::start(&arguments, folder);
    let debugged = if secret_memory { start() } else { refusing(MEMFD_SECRET, ENOSYS, start) };
    let service = Service::reached(address, None).await;
    (debugged, service)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_wipes_every_key_of_a_living_lease_before_the_process_ends() {
    killed_by(Signal::TERM, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_wipes_every_key_of_a_living_lease_before_the_process_ends() {
    killed_by(Signal::INT, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_secret_memory_keys_lie_in_locked_pages_alone_and_sigterm_wipes_them() {
    killed_by(Signal::TERM, false).await;
}

#[test]
fn where_no_memory_may_be_locked_there_is_no_service_and_it_says_who_can_act() {
    let world = World::new();
    // Whoever may lock memory without a limit is not asked for one.
    let ran = without(CapabilitySet::IPC_LOCK, || {
        Command::new("prlimit")
            .args(["--memlock=0", env!("CARGO_BIN_EXE_chancery"), "serve", "--listen", "127.0.0.1:0", "--dir"])
            .arg(&world.site().directory)
            .output()
            .unwrap()
    });
    let said = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.contains("bytes of memory cannot be locked, and keys are kept in no other"), "{said}");
    assert!(last.contains("Raise the limit (LimitMEMLOCK= of the unit, or ulimit -l)"), "{said}");
}
