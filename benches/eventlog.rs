//! Reading and replaying a boot event log of 100 KiB with three banks.
#![allow(clippy::unwrap_used, missing_docs)]

use chancery::protocol::evidence::eventlog::EventLog;
use criterion::{Criterion, criterion_group, criterion_main};

/// A crypto-agile log of at least this many bytes: SHA-1, SHA-256 and SHA-384, 140 bytes of data per event.
fn log(bytes: usize) -> Vec<u8> {
    let algorithms = [(4u16, 20u16), (11, 32), (12, 48)];
    let mut spec = b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02\x03\0\0\0".to_vec();
    for (id, size) in algorithms {
        spec.extend(id.to_le_bytes());
        spec.extend(size.to_le_bytes());
    }
    spec.push(0);
    let mut log = vec![0, 0, 0, 0, 3, 0, 0, 0];
    log.extend([0; 20]);
    log.extend(u32::try_from(spec.len()).unwrap().to_le_bytes());
    log.extend(spec);
    let mut pcr = 0u32;
    while log.len() < bytes {
        log.extend(pcr.to_le_bytes());
        log.extend([13, 0, 0, 0, 3, 0, 0, 0]);
        for (id, size) in algorithms {
            log.extend(id.to_le_bytes());
            log.extend(vec![9; usize::from(size)]);
        }
        log.extend(140u32.to_le_bytes());
        log.extend([1; 140]);
        pcr = (pcr + 1) % 15;
    }
    log
}

fn replay(c: &mut Criterion) {
    let log = log(100 << 10);
    c.bench_function("event log 100 KiB: parse and replay", |b| b.iter(|| EventLog::parse(&log).unwrap().replay()));
    c.bench_function("event log 100 KiB: parse", |b| b.iter(|| EventLog::parse(&log).map(|log| log.events().len())));
}

criterion_group!(benches, replay);
criterion_main!(benches);
