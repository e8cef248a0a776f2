//! How long the embassy's TPM takes for a quorum, on a simulated TPM (swtpm): beginning, approving and finishing one
//! decapsulation, and what it does unattended. Hardware needs 50 to 500 ms per signature; what counts here is our own part.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../tests/hardware/rig.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests use more of it")]
mod rig;

use std::time::{Duration, Instant};

use chancery::hardware::{CustodyTpm, MachineTpm, Order};
use criterion::{Criterion, criterion_group, criterion_main};
use rig::{Rig, known_point};

fn decapsulation(c: &mut Criterion) {
    for (k, n) in [(3u8, 5u8), (4, 7)] {
        let rig = Rig::of(k, n);
        let tpm = rig.open();
        let quorum: Vec<u8> = (n - k + 1..=n).collect();
        let order = Order::Decapsulate(known_point().1);
        c.bench_function(&format!("{k} of {n}: begin"), |b| b.iter(|| tpm.begin(&[order]).unwrap()));
        // The officials' signatures are made beforehand: they are their own machines' work.
        c.bench_function(&format!("{k} of {n}: check approvals and finish"), |b| {
            b.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    let mut command = tpm.begin(&[order]).unwrap().pop().unwrap();
                    let sign = |place: &u8| rig.people.sign(*place, command.request(), rig::EXPIRY_MAX);
                    let approvals: Vec<_> = quorum.iter().map(sign).collect();
                    let start = Instant::now();
                    for approval in approvals {
                        command.approve(approval, rig::EXPIRY_MAX).unwrap();
                    }
                    tpm.finish(&mut command).unwrap();
                    total += start.elapsed();
                }
                total
            });
        });
        if k == 3 {
            c.bench_function("sign as embassy", |b| b.iter(|| tpm.sign_as_embassy(&[1; 32]).unwrap()));
            c.bench_function("read the clock", |b| b.iter(|| tpm.clock().unwrap()));
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2));
    targets = decapsulation
}
criterion_main!(benches);
