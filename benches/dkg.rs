//! The DKG of a 3-of-5 quorum, all five parties' work in one process (docs/performance.md).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use chancery::protocol::{
    dkg::{Certified, Gathering, Member, Terms},
    group::Point,
    hash::Hash,
    ids::{Attempt, CharterId, Generation, QuorumKind},
    quorum::Threshold,
    secret::SecretScalar,
};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rand_core::OsRng;

fn members(k: u8, n: u8) -> Vec<Member> {
    let secrets: Vec<SecretScalar> = (0..n).map(|_| SecretScalar::random(&mut OsRng)).collect();
    let keys = secrets.iter().map(|secret| Point::mul_generator(secret.expose())).collect();
    let charter = CharterId(Hash::of_bytes(b"charter"));
    let threshold = Threshold::new(k, n).unwrap();
    let terms = Terms::new(charter, QuorumKind::Unseal, Generation::FIRST, threshold, keys).unwrap();
    secrets.into_iter().map(|secret| Member::new(terms.clone(), secret).unwrap()).collect()
}

fn run(members: Vec<Member>) -> Vec<Certified> {
    let start = |member| Gathering::start(member, Attempt::FIRST, &mut OsRng).unwrap();
    let (mut phases, messages): (Vec<_>, Vec<_>) = members.into_iter().map(start).unzip();
    for phase in &mut phases {
        phase.missing().iter().for_each(|from| phase.accept(&messages[from.index()]).unwrap());
    }
    let (mut phases, messages): (Vec<_>, Vec<_>) =
        phases.into_iter().map(|phase| phase.complete(&mut OsRng).unwrap()).unzip();
    for phase in &mut phases {
        phase.missing().iter().for_each(|from| phase.accept(&messages[from.index()]).unwrap());
    }
    let (mut phases, messages): (Vec<_>, Vec<_>) = phases.into_iter().map(|phase| phase.complete().unwrap()).unzip();
    for phase in &mut phases {
        phase.missing().iter().for_each(|from| phase.accept(&messages[from.index()]).unwrap());
    }
    phases.into_iter().map(|phase| phase.complete().unwrap()).collect()
}

fn dkg(c: &mut Criterion) {
    let mut group = c.benchmark_group("dkg");
    group.sample_size(20);
    group.bench_function("3-of-5, all parties", |b| b.iter_batched(|| members(3, 5), run, BatchSize::PerIteration));
    let certified = run(members(3, 5)).remove(0);
    let terms = certified.member.terms().clone();
    group.bench_function("3-of-5, verify the certificate", |b| {
        b.iter(|| certified.recovery.certificate().verify(&terms).unwrap());
    });
    group.bench_function("3-of-5, rebuild a share", |b| {
        b.iter(|| certified.recovery.recover(&terms, certified.member.secret()).unwrap());
    });
    group.finish();
}

criterion_group!(benches, dkg);
criterion_main!(benches);
