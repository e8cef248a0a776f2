//! A charter's successor over the network: taken, adopted by the quorum, held by the TPM, and what a disk that was put back
//! comes to afterwards.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use chancery::{
    hardware::{HierarchyAuth, MachineTpm},
    protocol::{
        ceremony::genesis::{Event as Founding, Ground},
        certificate::Role,
        charter::{CharterParts, SignedCharter},
        hash::Hash,
        ids::{CeremonyId, EmbassyName},
        roll::{Act, Entry},
        secret::SecretVec,
        statement::{Adoption, Mode},
        tpm::nv::NvHandle,
        wire::Document,
    },
    service::{
        boot::{self, BootError},
        directory::Directory,
        genesis::{Machine, Provisioning},
    },
    store::{Batch, Call, Fault, Faulty, MemoryStore, Store},
};

use crate::support::{
    Wish, World,
    net::{Running, boot_clock},
    people::Caller,
};

/// A fifth of the officials more than unseal.
fn world() -> World {
    World::of(&Wish { amend: Some(4), ..Wish::default() })
}

/// Another embassy is to join.
fn oslo_joins(parts: &mut CharterParts) {
    let mut oslo = parts.embassies[0].clone();
    oslo.name = EmbassyName::new("oslo").unwrap();
    let handle = |at: u32| NvHandle::new(0x0180_0020 + at).unwrap();
    (oslo.handles.counter, oslo.handles.register, oslo.handles.charter_pin) = (handle(0), handle(1), handle(2));
    parts.embassies.push(oslo);
}

impl World {
    fn adoption(&self, pinned: Hash) -> Mode {
        Mode::Adoption(Adoption { charter: self.charter.charter().at(), pinned })
    }

    async fn hand_in(&mut self, caller: &mut Caller, next: &SignedCharter) {
        assert_eq!(caller.taken("/v1/charters", next).await["new"], true);
        self.succeed(next);
    }
}

async fn pinned(caller: &mut Caller) -> (u64, String) {
    let status = caller.get("/v1/status").await.json();
    (status["pinned_version"].as_u64().unwrap(), status["pinned_hash"].as_str().unwrap().to_owned())
}

/// So many officials approve the first offer of an attempt.
async fn approve(world: &World, running: &Running, id: CeremonyId, attempt: u32, who: std::ops::Range<usize>) {
    for index in who {
        let mut caller = Caller::official(world, running, index).await;
        let offer = caller.offer(&id, attempt).await;
        let contribution = world.officials[index].approve(world, &offer);
        let answer = caller.taken(&format!("/v1/ceremonies/{id}/contributions"), &contribution).await;
        assert_eq!(answer["reply"], "accepted");
    }
}

/// Starts from the directory of a world's embassy and a store.
async fn start(world: &World, store: &Arc<dyn Store>) -> Result<boot::Ready, BootError> {
    let directory = Directory::new(&world.site().directory);
    let settings = directory.settings()?;
    boot::open(&directory, &settings, Arc::clone(store), boot_clock()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_is_adopted_by_four_of_five_and_a_disk_without_it_is_refused() {
    let mut world = world();
    let before: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let founding = world.charter.id().0;
    // What the host has from an earlier day: the directory, and a store that knows two charters.
    drop(start(&world, &before).await.unwrap());

    let running = Running::start_with(world.site(), Arc::clone(&store), boot_clock()).await.unwrap();
    let mut anna = Caller::official(&world, &running, 0).await;
    assert_eq!(pinned(&mut anna).await, (1, founding.to_string()));
    let third = world.amended(oslo_joins);
    world.hand_in(&mut anna, &third).await;
    let id = world.open(&mut anna, 0, world.adoption(founding), 0).await;
    approve(&world, &running, id, 1, 0..3).await;
    let view = anna.ceremony(&id).await;
    assert_eq!((&view["phase"], &view["need"]), (&"collecting".into(), &4.into()));
    assert_eq!(pinned(&mut anna).await.0, 1);
    approve(&world, &running, id, 1, 3..4).await;
    let view = anna.until(&id, "ended").await;
    assert_eq!(view["outcome"], "the charter is adopted: the TPM holds its hash");
    assert_eq!(pinned(&mut anna).await, (3, world.charter.hash().to_string()));
    let mut auditor = Caller::connect(&world, &running, Role::Auditor, "olga").await;
    let said = auditor.roll().await;
    let expected = [
        "charter taken",
        "ceremony opened",
        "offer made",
        "contributed",
        "contributed",
        "contributed",
        "contributed",
        "opening",
        "charter adopted",
        "ceremony ended",
    ];
    assert_eq!(said[said.len() - expected.len()..], expected);
    running.stop().await;
    let tpm = world.site().tpm(&world.facts());
    assert_eq!(tpm.charter_pin(), Ok(world.charter.hash()));
    drop(tpm);
    // Nor does a founding move it back, for which the host shows the TPM the founding charter alone.
    let ground = Ground::new(world.founding.unverified(), &world.site().name).unwrap();
    let (site, keys) = (world.site(), world.site().directory.join("keys.bin"));
    let owner = HierarchyAuth::new(SecretVec::new(site.auths.owner.expose().to_vec())).unwrap();
    let mut machine = Machine::open(site.address(), ground, site.foundation, owner, &keys).unwrap();
    let offered = machine.offer(1, true);
    let Founding::NotOffered { why } = offered else { panic!("offered: {offered:?}") };
    assert!(why.contains("the charter pin was moved to a later charter"), "{why}");
    drop(machine);

    // The store of that day has it: the next start passes.
    drop(start(&world, &store).await.unwrap());
    // The disk is put back to the predecessor: the charters' signatures hold, and the TPM knows better.
    let refused = start(&world, &before).await.err().expect("a disk that was put back is refused");
    let (pin, newest) = (world.charter.hash(), world.completed.unverified().at());
    assert!(
        matches!(&refused, BootError::RolledBack { pin: found, newest: shown } if (*found, *shown) == (pin, newest))
    );
    let said = refused.to_string();
    assert!(said.contains("the newest here is version 2") && said.contains("tell the officials"), "{said}");
    // With the successor beside it again, it starts.
    std::fs::write(world.site().directory.join("charters/000003.charter"), third.encode()).unwrap();
    drop(start(&world, &before).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_adopted_is_refused_with_its_reason() {
    let mut world = world();
    let running = Running::start(world.site()).await;
    let mut anna = Caller::official(&world, &running, 0).await;
    let founding = world.charter.id().0;
    let resets = anna.resets().await;
    let opening = |world: &World, mode| world.signed(world.parts(0, mode, 0, resets));
    let second = world.adoption(founding);
    let mut olga = Caller::connect(&world, &running, Role::Auditor, "olga").await;
    assert_eq!(olga.post("/v1/ceremonies", &opening(&world, second.clone())).await.code(), "policy");
    // Not after another charter than the TPM holds.
    let stated = anna.post("/v1/ceremonies", &opening(&world, world.adoption(Hash([9; 32])))).await;
    assert_eq!(stated.code(), "conflict");
    assert!(stated.detail().contains("charter pin holds"), "{}", stated.detail());
    let third = world.amended(oslo_joins);
    world.hand_in(&mut anna, &third).await;
    // The one before is not in force any more.
    let old = anna.post("/v1/ceremonies", &opening(&world, second)).await;
    assert_eq!(old.code(), "conflict");
    assert!(old.detail().contains("in force here is version 3"), "{}", old.detail());
    // Two votes against it, where four of five would have to be for it.
    let id = world.open(&mut anna, 0, world.adoption(founding), 0).await;
    for index in [1, 2] {
        let mut caller = Caller::official(&world, &running, index).await;
        caller.taken(&format!("/v1/ceremonies/{id}/denials"), &world.officials[index].deny(id)).await;
    }
    assert_eq!(anna.until(&id, "ended").await["outcome"], "denied by boris, clara");
    assert_eq!(pinned(&mut anna).await.0, 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_that_was_moved_before_a_crash_is_found_and_not_asked_for_again() {
    let mut world = world();
    let armed = Arc::new(AtomicBool::new(false));
    let on = Arc::clone(&armed);
    let adopted =
        |entry: &Vec<u8>| Entry::decode(entry).is_ok_and(|entry| matches!(entry.act, Act::CharterAdopted { .. }));
    let hook = move |call: Call<'_>| match call {
        Call::Commit(Batch { entries, .. }) if on.load(Ordering::SeqCst) && entries.iter().any(adopted) => {
            Some(Fault::Before)
        }
        _ => None,
    };
    let store: Arc<dyn Store> = Arc::new(Faulty::new(MemoryStore::new(), hook));
    let running = Running::start_with(world.site(), Arc::clone(&store), boot_clock()).await.unwrap();
    let mut anna = Caller::official(&world, &running, 0).await;
    let founding = world.charter.id().0;
    let third = world.amended(oslo_joins);
    world.hand_in(&mut anna, &third).await;
    let id = world.open(&mut anna, 0, world.adoption(founding), 0).await;
    armed.store(true, Ordering::SeqCst);
    approve(&world, &running, id, 1, 0..4).await;
    // The TPM has answered, and that cannot be written down.
    for _ in 0..200 {
        if pinned(&mut anna).await.0 == 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(pinned(&mut anna).await.0, 3);
    assert_eq!(anna.ceremony(&id).await["phase"], "opening");
    running.stop().await;

    armed.store(false, Ordering::SeqCst);
    let running = Running::start_with(world.site(), Arc::clone(&store), boot_clock()).await.unwrap();
    let mut anna = Caller::official(&world, &running, 0).await;
    let view = anna.until(&id, "ended").await;
    assert_eq!(view["outcome"], "the charter is adopted: the TPM holds its hash");
    let said = anna.roll().await;
    let tail = ["boot", "fresh approvals asked for", "charter adopted", "ceremony ended"];
    assert_eq!(said[said.len() - tail.len()..], tail);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tpm_reset_in_the_middle_of_an_adoption_asks_for_fresh_approvals() {
    let mut world = world();
    let running = Running::start(world.site()).await;
    let mut anna = Caller::official(&world, &running, 0).await;
    let founding = world.charter.id().0;
    let third = world.amended(|parts| parts.expiry_max_seconds = 900);
    world.hand_in(&mut anna, &third).await;
    let id = world.open(&mut anna, 0, world.adoption(founding), 0).await;
    approve(&world, &running, id, 1, 0..3).await;
    let profile = world.sites[0].profile.clone();
    world.sites[0].machine.tpm_reset(&profile).unwrap();
    approve(&world, &running, id, 2, 0..4).await;
    assert_eq!(anna.until(&id, "ended").await["outcome"], "the charter is adopted: the TPM holds its hash");
    assert_eq!(pinned(&mut anna).await.0, 3);
    running.stop().await;
}
