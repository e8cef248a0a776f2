//! How long officials' clients wait for the quorum ladder: 9 of 15, from points to digest, and one path up.
#![allow(clippy::unwrap_used, missing_docs)]

use chancery::protocol::{
    group::Point,
    hash::Hash,
    ids::{CharterId, EmbassyName, Generation},
    quorum::{Position, Threshold},
    tpm::{
        ladder::Ladder,
        policy::{PolicyDigest, PolicyRef, Purpose},
    },
};
use criterion::{Criterion, criterion_group, criterion_main};
use p256::{NonZeroScalar, Scalar};

fn ladder(c: &mut Criterion) {
    let points: Vec<Point> =
        (1..=15u64).map(|i| Point::mul_generator(&NonZeroScalar::new(Scalar::from(i)).unwrap())).collect();
    let threshold = Threshold::new(9, 15).unwrap();
    let place = EmbassyName::new("luxembourg").unwrap();
    let policy_ref = PolicyRef::new(Purpose::Unseal, CharterId(Hash([7; 32])), &place, Generation::FIRST);
    let build = || Ladder::new(PolicyDigest::ZERO, threshold, &points, policy_ref).unwrap();
    c.bench_function("ladder 9 of 15: digest", |b| b.iter(build));
    let ladder = build();
    let quorum: Vec<Position> = threshold.positions().skip(3).take(9).collect();
    c.bench_function("ladder 9 of 15: path", |b| b.iter(|| ladder.path(&quorum).unwrap()));
}

criterion_group!(benches, ladder);
criterion_main!(benches);
