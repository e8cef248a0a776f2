//! How much an opening takes beside the TPM: from an official's last approval to the lease that lives, over mutual TLS, with
//! SQLite, on a simulated TPM whose bus says how long each command was with the TPM itself.
//!
//! What counts as the TPM's is the time from a command's arrival at the TPM to its answer, and nothing of the software stack
//! above it. With `--test` each is run once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chancery::{service::trust::wall_clock, store::SqliteStore};
use hsm_sim::{Answer, Latency, Rule};
use support::{World, net::Running, people::Caller};

/// One opening: all of it, and the TPM's part, in milliseconds.
struct Took {
    all: f64,
    tpm: f64,
    commands: u64,
}

async fn opening(world: &World, running: &Running, datasets: usize) -> Took {
    let mut callers = Vec::new();
    for index in 0..3 {
        callers.push(Caller::official(world, running, index).await);
    }
    let id = world.open(&mut callers[0], 0, world.lease(), datasets).await;
    let offer = callers[0].offer(&id, 1).await;
    let given: Vec<_> = world.officials.iter().take(3).map(|official| official.approve(world, &offer)).collect();
    let path = format!("/v1/ceremonies/{id}/contributions");
    for (caller, contribution) in callers.iter_mut().zip(&given).take(2) {
        caller.taken(&path, contribution).await;
    }
    let (busy, commands) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (adding, counting) = (Arc::clone(&busy), Arc::clone(&commands));
    let planned = world.site().machine.bus().plan(Rule::any().act(move |exchange| {
        let began = Instant::now();
        let answer = exchange.forward()?;
        adding.fetch_add(u64::try_from(began.elapsed().as_micros()).unwrap(), Ordering::SeqCst);
        counting.fetch_add(1, Ordering::SeqCst);
        Ok(Answer::bytes(answer))
    }));
    let began = Instant::now();
    callers[2].taken(&path, &given[2]).await;
    while callers[2].ceremony(&id).await["lease"].is_null() {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let all = began.elapsed().as_secs_f64() * 1000.0;
    drop(planned);
    world.site().machine.bus().clear_plan();
    // The next ones need its places in the arena.
    let stop = callers[0].post(&format!("/v1/leases/{id}/stops"), &world.officials[0].stop(id)).await;
    assert_eq!(stop.status, 200, "{}", stop.json());
    let tpm = Duration::from_micros(busy.load(Ordering::SeqCst)).as_secs_f64() * 1000.0;
    Took { all, tpm, commands: commands.load(Ordering::SeqCst) }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let rounds = if std::env::args().any(|word| word == "--test") { 1 } else { 11 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = World::new();
    runtime.block_on(async {
        let store = SqliteStore::open(world.folder.path().join("bench.sqlite")).await.unwrap();
        let running = Running::start_with(world.site(), Arc::new(store), wall_clock()).await.unwrap();
        world.publish(&running).await;
        for (name, latency) in [
            ("swtpm as it is", None),
            ("10 ms for each command", Some(Latency::constant(Duration::from_millis(10)))),
            ("a discrete TPM", Some(Latency::discrete_tpm())),
        ] {
            world.site().machine.bus().set_latency(latency);
            for datasets in [1, 2] {
                let mut took = Vec::new();
                for _ in 0..rounds {
                    took.push(opening(&world, &running, datasets).await);
                }
                println!(
                    "{name}, {datasets} slots: all {:.1} ms, TPM {:.1} ms in {} commands, ratio {:.2}",
                    median(took.iter().map(|took| took.all).collect()),
                    median(took.iter().map(|took| took.tpm).collect()),
                    took[0].commands,
                    median(took.iter().map(|took| took.all / took.tpm).collect()),
                );
            }
        }
        running.stop().await;
    });
}
