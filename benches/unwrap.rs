//! Unwrapping under a lease against what it cannot do without: ML-KEM-768 decapsulation, P-256 agreement and AEAD of aws-lc,
//! with keys that are imported already (docs/performance.md). And the portable path, which answers the same.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use age::Recipient as _;
use aws_lc_rs::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree},
    kem::{Ciphertext, DecapsulationKey, ML_KEM_768},
};
use chancery::{
    protocol::{
        dataset::{DatasetSeed, Recipient, TaggedStanza},
        hybrid::{EXPANDED_BYTES, ExpandedKey, encapsulation_halves},
        secret::Secret,
    },
    service::{arena::Arena, lease::unwrap::unwrap},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand_core::OsRng;

/// As an agent's stock age makes it.
fn stanza(recipient: &Recipient) -> TaggedStanza {
    let stock: age::tagpq::Recipient = recipient.to_string().parse().unwrap();
    let (stanzas, _) = stock.wrap_file_key(&age_core::format::FileKey::new(Box::new([7; 16]))).unwrap();
    let words: Vec<&str> =
        std::iter::once(stanzas[0].tag.as_str()).chain(stanzas[0].args.iter().map(String::as_str)).collect();
    TaggedStanza::parse(&words, &stanzas[0].body).unwrap().unwrap()
}

fn unwrapping(c: &mut Criterion) {
    let seed = DatasetSeed::random(&mut OsRng);
    let portable = seed.key();
    let stanza = stanza(&portable.recipient());
    let mut expanded = Box::new([0; EXPANDED_BYTES]);
    portable.write_expanded(&mut expanded);
    let keys = ExpandedKey::new(&expanded);
    let ml_kem = DecapsulationKey::new(&ML_KEM_768, keys.expose_ml_kem()).unwrap();
    let p256 = PrivateKey::from_private_key(&ECDH_P256, keys.expose_p256()).unwrap();
    let aead = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[1; 32]).unwrap());
    let (ciphertext, point) = encapsulation_halves(stanza.enc()).unwrap();
    let sealed = {
        let mut sealed = vec![7; 16];
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        aead.seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed).unwrap();
        <[u8; 32]>::try_from(sealed).unwrap()
    };

    let decapsulate = || ml_kem.decapsulate(Ciphertext::from(ciphertext.as_slice())).unwrap();
    let exchange = || {
        let peer = UnparsedPublicKey::new(&ECDH_P256, point);
        agree(&p256, peer, (), |x| Secret::<32>::from_slice(x).ok_or(())).unwrap()
    };
    let open = || {
        let mut sealed = sealed;
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        aead.open_in_place(nonce, Aad::empty(), &mut sealed).unwrap().len()
    };
    let mut limit = c.benchmark_group("unwrap, the limit");
    limit.bench_function("ML-KEM-768 decapsulation", |b| b.iter(decapsulate));
    limit.bench_function("P-256 agreement", |b| b.iter(exchange));
    limit.bench_function("AEAD of 16 bytes", |b| b.iter(open));
    limit.bench_function("all three", |b| b.iter(|| (decapsulate(), exchange(), open())));
    limit.finish();

    let kept = Arena::new(1).unwrap().keep(seed).unwrap();
    let mut group = c.benchmark_group("unwrap");
    group.bench_function("portable", |b| b.iter(|| portable.unwrap(&stanza).unwrap().unwrap()));
    for count in [1_usize, 16, 256] {
        let batch = vec![stanza.clone(); count];
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("under a lease, {count} at once"), |b| b.iter(|| unwrap(&kept, &batch).unwrap()));
    }
    group.finish();
}

criterion_group!(benches, unwrapping);
criterion_main!(benches);
