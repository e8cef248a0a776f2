//! The real process, with its store on disk, is killed in the middle: leases are gone, everything else goes on; and neither the
//! disk nor the bus ever had a secret on it.

use std::path::{Path, PathBuf};

use chancery::{
    client::unwrap::{StanzaText, UnwrapRequest},
    protocol::certificate::Role,
};

use super::{
    PLANTED, Service, begin, needles, purpose, stanza,
    support::{WITNESS, World, memory::Needles, people::Caller},
    unwrap_some,
};

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// What a search finds at any offset.
fn in_bytes(needles: &Needles, bytes: &[u8], place: &str) -> Vec<String> {
    let mut found = Vec::new();
    // The search looks at places that are aligned to eight, as memory is.
    for shift in 0..8.min(bytes.len()) {
        needles.in_memory(&bytes[shift..], place, &mut found);
    }
    found.into_iter().map(|found| found.what).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_service_loses_its_leases_and_nothing_else() {
    let world = World::new();
    let mut service = Service::start(&world).await;
    let purpose = purpose();
    let needles = needles(&world, &purpose);
    let mut witness = Caller::connect(&world, &service.running, Role::Witness, WITNESS).await;
    world.site().machine.bus().forget_recording();
    let leased = begin(&world, &service.running, &mut witness, &purpose).await;
    unwrap_some(&world, &service.running, &leased).await;
    // A second ceremony, with one approval and one vote against it.
    let mut boris = Caller::official(&world, &service.running, 1).await;
    let id = world.open(&mut boris, 1, world.lease(), 1).await;
    let offer = boris.offer(&id, 1).await;
    boris.taken(&format!("/v1/ceremonies/{id}/contributions"), &world.officials[1].approve(&world, &offer)).await;
    boris.taken(&format!("/v1/ceremonies/{id}/denials"), &world.officials[2].deny(id)).await;
    let before = boris.roll().await;

    let child = service.child.as_mut().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut planted = false;
    for path in files(&world.site().directory) {
        let found = in_bytes(&needles, &std::fs::read(&path).unwrap(), "a file");
        planted |= found.iter().any(|what| what == PLANTED);
        let secrets: Vec<_> = found.iter().filter(|what| *what != PLANTED).collect();
        assert!(secrets.is_empty(), "{}: {secrets:?}", path.display());
    }
    assert!(planted, "the search does not find what is in the store");
    // The whole opening went over the bus, the slots' points with it.
    let recording = world.site().machine.bus().recording();
    let here = chancery::protocol::slot::SealedFor::Embassy(world.site().name.clone());
    let point = world.version(0).slot(&here).unwrap().point().encode_uncompressed();
    assert!(recording.contains(&point[1..33]), "the search does not find what is on the bus");
    for frame in recording.frames() {
        let found = in_bytes(&needles, &frame.bytes, "the bus");
        assert!(found.is_empty(), "{found:?}");
    }

    let service = Service::start(&world).await;
    let mut boris = Caller::official(&world, &service.running, 1).await;
    let lease = boris.get(&format!("/v1/leases/{leased}")).await.json();
    assert_eq!(lease["state"], "ended", "{lease}");
    let mut agent = Caller::connect(&world, &service.running, Role::Agent, "replica-1").await;
    let asked = UnwrapRequest {
        dataset: world.datasets[0].name.to_string(),
        stanzas: vec![StanzaText::of(&stanza(&world, 0))],
    };
    let asked = serde_json::to_value(asked).unwrap();
    let refused = agent.line.post(&format!("/v1/leases/{leased}/unwrap"), &asked).await.unwrap();
    assert_eq!(refused.code(), "lease-ended", "{}", refused.json());
    // Fresh approvals are asked for; the vote against it stands.
    let offer = boris.offer(&id, 2).await;
    let view = boris.ceremony(&id).await;
    assert_eq!(
        (&view["contributed"], &view["denied"]),
        (&serde_json::json!([]), &serde_json::json!(["clara"])),
        "{view}"
    );
    for index in [0, 1, 3] {
        let contribution = world.officials[index].approve(&world, &offer);
        boris.taken(&format!("/v1/ceremonies/{id}/contributions"), &contribution).await;
    }
    assert_eq!(boris.until(&id, "ended").await["outcome"], "a lease began");
    // The roll goes on where it was, and says nothing twice.
    let after = boris.roll().await;
    assert_eq!(after[..before.len()], before[..]);
    let count = |act: &str| after.iter().filter(|said| *said == act).count();
    let counted = ["boot", "ceremony opened", "denied", "opening", "leased"].map(count);
    assert_eq!(counted, [2, 2, 1, 2, 2], "{after:?}");
    assert!(after[before.len()..].iter().any(|act| act == "lease ended"), "{after:?}");
}
