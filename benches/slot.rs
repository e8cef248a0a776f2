//! Slots and dataset keys of a 3-of-5 quorum: sealing, checking, opening, and unwrapping an age stanza (docs/performance.md).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::Write;

use chancery::protocol::{
    dataset::{DatasetSeed, TaggedStanza},
    group::Point,
    hash::Hash,
    hybrid::HybridSecretKey,
    ids::{CharterId, DatasetName, DatasetVersion, EmbassyName, Generation, OwnerName},
    quorum::{Position, Threshold},
    secret::{SecretScalar, SharedPoint},
    slot::{DatasetDescription, SealingKeys, SlotQuorum, WShare, seal},
};
use criterion::{Criterion, criterion_group, criterion_main};
use rand_core::OsRng;

struct Quorum {
    secret: SecretScalar,
    hybrid: Vec<HybridSecretKey>,
    public: SlotQuorum,
}

fn quorum() -> Quorum {
    let secret = SecretScalar::random(&mut OsRng);
    let hybrid: Vec<HybridSecretKey> = (0..5).map(|_| HybridSecretKey::random(&mut OsRng)).collect();
    let keys = hybrid.iter().map(|key| key.public().clone()).collect();
    let public = SlotQuorum::new(Threshold::new(3, 5).unwrap(), Point::mul_generator(secret.expose()), keys).unwrap();
    Quorum { secret, hybrid, public }
}

fn slots(c: &mut Criterion) {
    let (unseal, recovery) = (quorum(), quorum());
    let t = SecretScalar::random(&mut OsRng);
    let embassies = vec![(EmbassyName::new("luxembourg").unwrap(), Point::mul_generator(t.expose()))];
    let charter = CharterId(Hash::of_bytes(b"charter"));
    let keys = SealingKeys::new(charter, Generation::FIRST, unseal.public.clone(), recovery.public.clone(), embassies)
        .unwrap();
    let seed = DatasetSeed::random(&mut OsRng);
    let description = DatasetDescription {
        charter,
        owner: OwnerName::new("land-board").unwrap(),
        dataset: DatasetName::new("land-register").unwrap(),
        version: DatasetVersion::FIRST,
        recipient: seed.key().recipient(),
    };
    let contexts = keys.contexts(&description).unwrap();
    let context = &contexts[0];
    let slot = seal(&seed, context).unwrap();
    let verified = slot.verify(context).unwrap();

    let mut group = c.benchmark_group("slot 3 of 5");
    group.bench_function("seal", |b| b.iter(|| seal(&seed, context).unwrap()));
    group.bench_function("verify", |b| b.iter(|| slot.verify(context).unwrap()));
    let first = Position::new(1).unwrap();
    group.bench_function("open one share", |b| {
        b.iter(|| verified.open_share(first, &unseal.hybrid[0]).unwrap());
    });
    let shares: Vec<WShare> = (1..=3u8)
        .map(|place| {
            verified.open_share(Position::new(place).unwrap(), &unseal.hybrid[usize::from(place) - 1]).unwrap()
        })
        .collect();
    let z_y = SharedPoint::take(&mut verified.point().mul(unseal.secret.expose()));
    let z_t = SharedPoint::take(&mut verified.point().mul(t.expose()));
    group.bench_function("combine shares and open", |b| {
        b.iter(|| verified.open(&z_y, Some(&z_t), &verified.combine_shares(&shares).unwrap()).unwrap());
    });
    group.finish();

    let key = seed.key();
    let recipient: age::tagpq::Recipient = key.recipient().to_string().parse().unwrap();
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).unwrap();
    let mut file = Vec::new();
    let mut writer = encryptor.wrap_output(&mut file).unwrap();
    writer.write_all(b"register").unwrap();
    writer.finish().unwrap();
    let header = String::from_utf8_lossy(&file).into_owned();
    let mut lines = header.lines().skip_while(|line| !line.starts_with("-> mlkem768p256tag"));
    let arguments: Vec<&str> = lines.next().unwrap().trim_start_matches("-> ").split(' ').collect();
    let body = base64::Engine::decode(&base64::prelude::BASE64_STANDARD_NO_PAD, lines.next().unwrap()).unwrap();
    let stanza = TaggedStanza::parse(&arguments, &body).unwrap().unwrap();
    assert!(key.unwrap(&stanza).unwrap().is_some());
    c.bench_function("unwrap one age stanza", |b| b.iter(|| key.unwrap(&stanza).unwrap().unwrap()));
}

criterion_group!(benches, slots);
criterion_main!(benches);
