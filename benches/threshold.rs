//! Partial decapsulation, verification and combination against the crate `tecdh`, on the same shares and the same point.
//!
//! `tecdh` proves and checks with the same kind of proof over the same p256; both sides are asked for the same shared point
//! before anything is measured. The bounds stand in docs/performance.md.

#![allow(clippy::expect_used, missing_docs)]

use std::hint::black_box;

use chancery::protocol::{
    group::Point,
    hash::Hash,
    partial::{Combiner, MAX_POINTS, PartialDecapsulation, PreparedQuorum, decapsulate},
    quorum::{Position, Threshold},
    quorum_key::QuorumKey,
    secret::SecretScalar,
};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use generic_ec::{NonZero, curves::Secp256r1};
use p256::{NonZeroScalar, Scalar};
use rand_core::OsRng;
use sha2::Sha256;

const SEED: &str = "the first k officials of a quorum answer";

/// A quorum made by a dealer, as only a bench or a test may, and a ceremony's points.
struct Ceremony {
    threshold: Threshold,
    key: QuorumKey,
    prepared: PreparedQuorum,
    shares: Vec<SecretScalar>,
    offer: Hash,
    points: Vec<Point>,
}

impl Ceremony {
    fn new(k: u8, n: u8, points: usize) -> Self {
        let threshold = Threshold::new(k, n).expect("k of n");
        let coefficients: Vec<Scalar> = (0..k).map(|_| *NonZeroScalar::random(&mut OsRng)).collect();
        let at = |x: Scalar| coefficients.iter().rev().fold(Scalar::ZERO, |sum, c| sum * x + c);
        let non_zero = |scalar| NonZeroScalar::new(scalar).expect("not zero");
        let shares: Vec<NonZeroScalar> = threshold.positions().map(|place| non_zero(at(place.scalar()))).collect();
        let public = shares.iter().map(Point::mul_generator).collect();
        let key = Point::mul_generator(&non_zero(at(Scalar::ZERO)));
        let key = QuorumKey::new(threshold, key, public).expect("shares of one polynomial");
        Self {
            threshold,
            prepared: PreparedQuorum::new(&key),
            key,
            shares: shares.into_iter().map(SecretScalar::new).collect(),
            offer: Hash::of_bytes(SEED.as_bytes()),
            points: (0..points).map(|_| Point::mul_generator(&NonZeroScalar::random(&mut OsRng))).collect(),
        }
    }

    fn answer(&self, position: Position) -> PartialDecapsulation {
        let share = &self.shares[position.index()];
        decapsulate(share, &self.key, position, &self.offer, &self.points, &mut OsRng).expect("an answer")
    }

    /// What the first k officials send.
    fn answers(&self) -> Vec<PartialDecapsulation> {
        self.threshold.positions().take(self.threshold.k().into()).map(|position| self.answer(position)).collect()
    }

    fn combiner(&self) -> Combiner {
        Combiner::new(&self.prepared, self.offer, &self.points).expect("a ceremony")
    }

    /// A combiner that has all it needs.
    fn full(&self, answers: Vec<PartialDecapsulation>) -> Combiner {
        let mut combiner = self.combiner();
        for answer in answers {
            combiner.receive(answer).expect("a good answer");
        }
        combiner
    }
}

/// The same quorum and its first point, in tecdh's types.
struct Theirs {
    point: NonZero<generic_ec::Point<Secp256r1>>,
    shares: Vec<NonZero<generic_ec::SecretScalar<Secp256r1>>>,
    public: Vec<NonZero<generic_ec::Point<Secp256r1>>>,
    places: Vec<NonZero<generic_ec::Scalar<Secp256r1>>>,
}

impl Theirs {
    fn of(ceremony: &Ceremony) -> Self {
        let k = usize::from(ceremony.threshold.k());
        let point = |p: &Point| {
            let point = generic_ec::Point::from_bytes(p.encode()).expect("a point");
            NonZero::from_point(point).expect("not the identity")
        };
        let scalar = |s: &Scalar| generic_ec::Scalar::from_be_bytes(s.to_bytes()).expect("a scalar");
        let secret = |share: &SecretScalar| {
            let share = generic_ec::SecretScalar::new(&mut scalar(share.expose()));
            NonZero::from_secret_scalar(share).expect("not zero")
        };
        let place = |p: Position| NonZero::from_scalar(scalar(&p.scalar())).expect("not zero");
        Self {
            point: point(&ceremony.points[0]),
            shares: ceremony.shares.iter().take(k).map(secret).collect(),
            public: ceremony.key.shares().iter().take(k).map(point).collect(),
            places: ceremony.threshold.positions().take(k).map(place).collect(),
        }
    }

    fn answer(&self, index: u16) -> tecdh::lowlevel::PartialEvaluation<Secp256r1> {
        let share = &self.shares[usize::from(index)];
        tecdh::lowlevel::partial_ecdh::<_, Sha256>(SEED.as_bytes(), index, self.point, share, &mut OsRng)
    }

    fn answers(&self) -> Vec<tecdh::lowlevel::PartialEvaluation<Secp256r1>> {
        (0..).zip(&self.shares).map(|(index, _)| self.answer(index)).collect()
    }

    fn aggregate(&self, answers: &[tecdh::lowlevel::PartialEvaluation<Secp256r1>]) -> generic_ec::Point<Secp256r1> {
        tecdh::lowlevel::aggregate::<_, Sha256>(SEED.as_bytes(), self.point, answers, &self.public, Some(&self.places))
            .expect("an aggregate")
    }
}

fn against_tecdh(criterion: &mut Criterion) {
    for (k, n) in [(3, 5), (5, 9)] {
        let ceremony = Ceremony::new(k, n, 1);
        let theirs = Theirs::of(&ceremony);
        let (answers, their_answers) = (ceremony.answers(), theirs.answers());
        let full = ceremony.full(answers.clone());
        let shared = full.combine().expect("shared points");
        let their_shared = theirs.aggregate(&their_answers).to_bytes(true);
        assert_eq!(shared[0].expose().encode().as_slice(), their_shared.as_bytes(), "both open the same point");

        let name = format!("{k}-of-{n}");
        let mut group = criterion.benchmark_group("partial with proof");
        let first = Position::new(1).expect("official 1");
        group.bench_function(BenchmarkId::new("chancery", &name), |b| b.iter(|| ceremony.answer(black_box(first))));
        group.bench_function(BenchmarkId::new("tecdh", &name), |b| b.iter(|| theirs.answer(black_box(0))));
        group.finish();

        let mut group = criterion.benchmark_group("verify and combine");
        group.bench_function(BenchmarkId::new("chancery", &name), |b| {
            let open = |answers| ceremony.full(answers).combine().expect("shared points");
            b.iter_batched(|| answers.clone(), open, BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("tecdh", &name), |b| {
            b.iter(|| theirs.aggregate(black_box(&their_answers)));
        });
        group.finish();

        // Once per generation, and so not counted above; with it, the ratio to tecdh must hold too.
        let mut group = criterion.benchmark_group("prepare a quorum");
        group.bench_function(&name, |b| b.iter(|| PreparedQuorum::new(black_box(&ceremony.key))));
        group.finish();

        let mut group = criterion.benchmark_group("combine alone");
        group.bench_function(BenchmarkId::new("chancery", &name), |b| b.iter(|| black_box(&full).combine()));
        group.finish();
    }
}

/// Each official and each point more costs what the one before cost.
fn growth(criterion: &mut Criterion) {
    let mut bench = |name: &str, by: u64, ceremony: &Ceremony| {
        let answers = ceremony.answers();
        let mut group = criterion.benchmark_group(format!("growth in {name}"));
        group.throughput(Throughput::Elements(by));
        group.bench_function(BenchmarkId::new("verify and combine", by), |b| {
            let open = |answers| ceremony.full(answers).combine().expect("shared points");
            b.iter_batched(|| answers.clone(), open, BatchSize::SmallInput);
        });
        let full = ceremony.full(answers);
        group.bench_function(BenchmarkId::new("combine alone", by), |b| b.iter(|| black_box(&full).combine()));
        group.finish();
    };
    for k in [2, 4, 8, 16] {
        bench("officials", k.into(), &Ceremony::new(k, k, 1));
    }
    for points in [1, 2, 4, MAX_POINTS] {
        bench("points", points as u64, &Ceremony::new(3, 5, points));
    }
}

fn few_samples() -> Criterion {
    use std::time::Duration;
    let criterion = Criterion::default().without_plots().sample_size(30);
    criterion.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = few_samples(); targets = against_tecdh, growth }
criterion_main!(benches);
