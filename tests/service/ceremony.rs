//! Ceremonies over the network: from the statement to the lease, and what interrupts them.

use std::sync::Arc;

use chancery::{
    client::release::ReleaseBody,
    protocol::{
        certificate::Role, contribution::Review, hybrid::HybridSecretKey, ids::SubjectName, partial::PreparedQuorum,
        recipient::RecipientCard, release::Receiving, slot::SeenPoints,
    },
    store::{MemoryStore, Store},
};
use http_body_util::BodyExt;
use rand_core::OsRng;

use crate::support::{
    Wish, World,
    net::{Line, Running, Way, boot_clock, client},
    now,
    people::Caller,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_of_five_officials_open_a_lease_and_the_roll_says_all_of_it() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    world.publish(&running).await;
    let mut anna = Caller::official(&world, &running, 0).await;
    let id = world.open(&mut anna, 0, world.lease(), 2).await;
    let offer = anna.offer(&id, 1).await;
    let view = anna.ceremony(&id).await;
    assert_eq!((&view["phase"], &view["need"]), (&"collecting".into(), &3.into()));
    let path = format!("/v1/ceremonies/{id}/contributions");
    for (index, official) in world.officials.iter().enumerate().take(3) {
        let mut caller = Caller::official(&world, &running, index).await;
        let contribution = official.approve(&world, &offer);
        let answer = caller.taken(&path, &contribution).await;
        assert_eq!(answer["reply"], "accepted");
        if index < 2 {
            assert_eq!(answer["ceremony"]["contributed"].as_array().unwrap().len(), index + 1);
            // A repeat is answered, and counts once.
            assert_eq!(caller.taken(&path, &contribution).await["reply"], "already-accepted");
        }
    }
    let view = anna.until(&id, "ended").await;
    assert_eq!(view["outcome"], "a lease began");
    assert_eq!(view["lease"], id.to_string());
    // Who agreed stays to be seen, also when only the record is left.
    assert_eq!(view["contributed"], serde_json::json!(["anna", "boris", "clara"]));
    let mut auditor = Caller::connect(&world, &running, Role::Auditor, "olga").await;
    // No witness beats here, so the lease sleeps soon; when, is its own affair.
    let said: Vec<String> = auditor.roll().await.into_iter().filter(|act| act != "lease suspended").collect();
    assert_eq!(
        said,
        [
            "charter taken",
            "charter taken",
            "revocations taken",
            "boot",
            "dataset version taken",
            "dataset version taken",
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
    // Late ones are told so, by the ceremony's own rules.
    let late = world.officials[3].approve(&world, &offer);
    let mut david = Caller::official(&world, &running, 3).await;
    assert_eq!(david.post(&path, &late).await.code(), "late");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_and_a_tpm_reset_ask_for_fresh_approvals_and_lose_nothing_else() {
    let mut world = World::new();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let running = Running::start_with(world.site(), Arc::clone(&store), boot_clock()).await.unwrap();
    world.publish(&running).await;
    let mut anna = Caller::official(&world, &running, 0).await;
    let id = world.open(&mut anna, 0, world.lease(), 1).await;
    let path = format!("/v1/ceremonies/{id}/contributions");
    let first = anna.offer(&id, 1).await;
    let early = world.officials[0].approve(&world, &first);
    anna.taken(&path, &early).await;
    let mut eva = Caller::official(&world, &running, 4).await;
    let denial = world.officials[4].deny(id);
    assert_eq!(eva.taken(&format!("/v1/ceremonies/{id}/denials"), &denial).await["reply"], "taken");
    running.stop().await;

    let running = Running::start_with(world.site(), Arc::clone(&store), boot_clock()).await.unwrap();
    let mut anna = Caller::official(&world, &running, 0).await;
    let second = anna.offer(&id, 2).await;
    let view = anna.ceremony(&id).await;
    assert_eq!((&view["attempt"], &view["denied"]), (&2.into(), &serde_json::json!(["eva"])));
    // What answered the first offer is over.
    assert_eq!(anna.post(&path, &early).await.code(), "late");
    for index in [0, 1] {
        let contribution = world.officials[index].approve(&world, &second);
        anna.taken(&path, &contribution).await;
    }
    // A reset in the middle, noticed at the opening if not before.
    let profile = world.sites[0].profile.clone();
    world.sites[0].machine.tpm_reset(&profile).unwrap();
    let answer = anna.post(&path, &world.officials[2].approve(&world, &second)).await;
    assert!(answer.status == 200 || answer.code() == "late" || answer.code() == "conflict", "{}", answer.json());
    let third = anna.offer(&id, 3).await;
    for index in [0, 1, 2] {
        let contribution = world.officials[index].approve(&world, &third);
        anna.taken(&path, &contribution).await;
    }
    assert_eq!(anna.until(&id, "ended").await["outcome"], "a lease began");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_ceremonies_at_once_and_one_for_each_official() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    world.publish(&running).await;
    let mut anna = Caller::official(&world, &running, 0).await;
    let mut boris = Caller::official(&world, &running, 1).await;
    let mut clara = Caller::official(&world, &running, 2).await;
    let ids = [
        world.open(&mut anna, 0, world.lease(), 1).await,
        world.open(&mut boris, 1, world.lease(), 2).await,
        world.open(&mut clara, 2, world.lease(), 1).await,
    ];
    let resets = anna.resets().await;
    let second = world.signed(world.parts(0, world.lease(), 1, resets));
    assert_eq!(anna.post("/v1/ceremonies", &second).await.code(), "one-ceremony-each");
    // Denied by three, stopped by one, opened by three, all at the same time.
    let offer = clara.offer(&ids[2], 1).await;
    for index in 0..3 {
        let mut caller = Caller::official(&world, &running, index).await;
        caller.taken(&format!("/v1/ceremonies/{}/denials", ids[0]), &world.officials[index].deny(ids[0])).await;
        let contribution = world.officials[index].approve(&world, &offer);
        caller.taken(&format!("/v1/ceremonies/{}/contributions", ids[2]), &contribution).await;
    }
    let stop = world.officials[4].stop(ids[1]);
    let path = format!("/v1/ceremonies/{}/stops", ids[1]);
    assert_eq!(boris.taken(&path, &stop).await["reply"], "taken");
    assert_eq!(boris.taken(&path, &stop).await["reply"], "already-accepted");
    assert_eq!(anna.until(&ids[0], "ended").await["outcome"], "denied by anna, boris, clara");
    assert!(anna.until(&ids[1], "ended").await["outcome"].as_str().unwrap().starts_with("stopped by eva"));
    assert_eq!(anna.until(&ids[2], "ended").await["outcome"], "a lease began");
    // Now anna may open another.
    assert_eq!(anna.post("/v1/ceremonies", &second).await.status, 200);
    let listed = anna.get("/v1/ceremonies").await.json();
    assert_eq!(listed["ceremonies"].as_array().unwrap().len(), 4);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_goes_to_its_recipient_alone_and_opens_there() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    world.publish(&running).await;
    let (courier, key) = (world.home.visitor(Role::Agent, "courier"), HybridSecretKey::random(&mut OsRng));
    let name = SubjectName::new("courier").unwrap();
    let card = RecipientCard::sign(name, courier.path[0].clone(), key.public().clone(), &courier.key.signing).unwrap();
    let mut anna = Caller::official(&world, &running, 0).await;
    let id = world.open(&mut anna, 0, world.release(card.clone()), 2).await;
    let path = format!("/v1/ceremonies/{id}/release");
    let hybrid = client(&world, Some(&courier), &Way::default());
    let mut recipient = Line::open(running.address, &hybrid).await.unwrap();
    assert_eq!(recipient.get(&path).await.unwrap().code(), "not-found");
    let offer = anna.offer(&id, 1).await;
    for official in &world.officials[..3] {
        let contribution = official.approve(&world, &offer);
        anna.taken(&format!("/v1/ceremonies/{id}/contributions"), &contribution).await;
    }
    anna.until(&id, "released").await;
    // Nobody else gets it, nor the recipient over a line that a later quantum computer could read.
    assert_eq!(anna.get(&path).await.code(), "policy");
    let mut namesake = Caller::connect(&world, &running, Role::DataOwner, "land-board").await;
    assert_eq!(namesake.get(&path).await.code(), "policy");
    let way = Way { groups: vec![rustls::crypto::aws_lc_rs::kx_group::X25519], ..Way::default() };
    let mut classical = Line::open(running.address, &client(&world, Some(&courier), &way)).await.unwrap();
    assert_eq!(classical.get(&path).await.unwrap().code(), "hybrid-required");

    let answer = recipient.get(&path).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.json());
    let body: ReleaseBody = serde_json::from_value(answer.json()).unwrap();
    let facts = world.facts();
    let judged = card.verify(&world.home.authority(), &world.revocations(), now()).unwrap();
    let signed: chancery::protocol::offer::SignedOffer = body.offer.read().unwrap();
    let versions = world.versions(signed.unverified().statement());
    let review = Review { facts: &facts, versions: &versions, now: now(), recipient: Some(&judged) };
    let quorum = PreparedQuorum::new(&facts.unseal().key);
    let mut receiving = Receiving::begin(&signed, &card, &key, &review, &mut SeenPoints::new(), &quorum).unwrap();
    for contribution in &body.contributions {
        receiving.receive(&contribution.read().unwrap()).unwrap();
    }
    let opened = receiving.open(&body.parts.read().unwrap()).unwrap();
    for (opened, dataset) in opened.into_iter().zip(&world.datasets) {
        assert_eq!(opened.into_seed().expose(), dataset.seed.expose());
    }
    let roll = anna.roll().await;
    assert!(roll.contains(&"released".to_owned()) && roll.contains(&"release fetched".to_owned()), "{roll:?}");
    // One official's stop takes it back.
    let stop = world.officials[4].stop(id);
    anna.taken(&format!("/v1/ceremonies/{id}/stops"), &stop).await;
    anna.until(&id, "ended").await;
    assert_eq!(recipient.get(&path).await.unwrap().code(), "not-found");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_embassies_of_one_network_open_for_themselves_only() {
    let world = World::of(&Wish { embassies: vec!["luxembourg", "iceland"], ..Wish::default() });
    let (here, there) = (Running::start(&world.sites[0]).await, Running::start(&world.sites[1]).await);
    world.publish(&here).await;
    world.publish(&there).await;
    let mut anna = Caller::official(&world, &here, 0).await;
    let mut abroad = Caller::official(&world, &there, 0).await;
    // One statement is for one embassy.
    let resets = anna.resets().await;
    let signed = world.signed(world.parts(0, world.lease(), 1, resets));
    let refused = abroad.post("/v1/ceremonies", &signed).await;
    assert_eq!(refused.code(), "refused");
    assert!(refused.detail().contains("another embassy"), "{}", refused.detail());
    anna.taken("/v1/ceremonies", &signed).await;
    // The same official may have one open in each.
    let mut parts = world.parts(0, world.lease(), 2, abroad.resets().await);
    parts.embassy = world.sites[1].name.clone();
    let other = world.signed(parts);
    abroad.taken("/v1/ceremonies", &other).await;
    for (caller, id) in [(&mut anna, signed.unverified().id()), (&mut abroad, other.unverified().id())] {
        let offer = caller.offer(&id, 1).await;
        for official in &world.officials[2..] {
            let contribution = official.approve(&world, &offer);
            caller.taken(&format!("/v1/ceremonies/{id}/contributions"), &contribution).await;
        }
        assert_eq!(caller.until(&id, "ended").await["outcome"], "a lease began");
    }
    here.stop().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_watches_hears_of_every_change_until_the_end() {
    let world = World::new();
    let running = Running::start(world.site()).await;
    world.publish(&running).await;
    let mut anna = Caller::official(&world, &running, 0).await;
    let id = world.open(&mut anna, 0, world.lease(), 1).await;
    let visitor = world.home.visitor(Role::Auditor, "olga");
    let mut line = Line::open(running.address, &client(&world, Some(&visitor), &Way::default())).await.unwrap();
    let asked = crate::support::net::request("GET", &format!("/v1/ceremonies/{id}/events"), &[], b"");
    let mut events = line.sender.send_request(asked).await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let watched = tokio::spawn(async move {
        let mut said = String::new();
        while let Some(frame) = events.body_mut().frame().await {
            if let Ok(data) = frame.unwrap().into_data() {
                said.push_str(std::str::from_utf8(&data).unwrap());
            }
        }
        (said, line)
    });
    let offer = anna.offer(&id, 1).await;
    for official in &world.officials[..3] {
        let contribution = official.approve(&world, &offer);
        anna.taken(&format!("/v1/ceremonies/{id}/contributions"), &contribution).await;
    }
    // The stream ends by itself, once it has said how it ended.
    let (said, _line) = tokio::time::timeout(std::time::Duration::from_secs(20), watched).await.unwrap().unwrap();
    let views: Vec<serde_json::Value> = said
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert!(views.iter().any(|view| view["phase"] == "collecting"), "{said}");
    let last = views.last().unwrap();
    assert_eq!((&last["phase"], &last["outcome"]), (&"ended".into(), &"a lease began".into()));
    assert_eq!(last["lease"], id.to_string());
    running.stop().await;
}
