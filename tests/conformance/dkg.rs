//! COCKTAIL-DKG, all intermediates of every record.
//!
//! Each file is read with every field named and unknown ones refused, so nothing in it can be passed over in silence. The
//! secrets are derived again from the seed, the protocol is run with them, and every published value is compared.

use chancery::protocol::{
    dkg::{
        sharing::{self, MAX_CIPHERTEXT_BYTES, Setting},
        suite::{self, Signature},
        transcript::{self, Transcript},
    },
    group::Point,
    quorum::{Position, Threshold},
    secret::{Secret, SecretScalar, ShareSummand},
};
use p256::{NonZeroScalar, Scalar, U256, elliptic_curve::ops::Reduce};
use rand_core::{CryptoRng, RngCore};
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    ciphersuite: String,
    seed: String,
    derivation: Derivation,
    vectors: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Derivation {
    method: String,
    labels: Labels,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    static_secret_key: String,
    ephemeral_secret_key: String,
    polynomial_coefficient: String,
    payload: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    n: u8,
    t: u8,
    session_tag: String,
    context: String,
    extension: String,
    payloads: Option<Vec<String>>,
    config: Config,
    round1: Vec<Round1>,
    round2: Vec<Round2>,
    round3: Round3,
    group_public_key: String,
    recovery: Option<Recovery>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    static_secret_keys: Vec<String>,
    static_public_keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Round1 {
    participant_id: u8,
    ephemeral_public_key: String,
    vss_commitment: Vec<String>,
    pop: String,
    pop_intermediate: PopIntermediate,
    encrypted_shares: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PopIntermediate {
    message: String,
    nonce_input: String,
    nonce: String,
    nonce_commitment: String,
    challenge_input: String,
    challenge: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Round2 {
    participant_id: u8,
    secret_share: String,
    verification_share: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Round3 {
    transcript_hash: String,
    signatures: Vec<Signed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    signer_id: u8,
    signature: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recovery {
    participant_id: u8,
    ciphertexts: Vec<String>,
    recovered_secret_share: String,
    recovered_verification_share: String,
}

/// The published derivation: SHA-256 over seed, suite, t, n and a label; a stream counts its blocks behind the label.
struct Seed<'a> {
    seed: &'a [u8],
    suite: &'a str,
    t: u8,
    n: u8,
}

impl Seed<'_> {
    fn hash(&self, label: &str, counter: Option<u64>) -> [u8; 32] {
        let mut input = [self.seed, self.suite.as_bytes()].concat();
        input.extend_from_slice(&u32::from(self.t).to_le_bytes());
        input.extend_from_slice(&u32::from(self.n).to_le_bytes());
        input.extend_from_slice(label.as_bytes());
        input.extend(counter.iter().flat_map(|counter| counter.to_le_bytes()));
        Sha256::digest(input).into()
    }

    fn scalar(&self, label: &str) -> SecretScalar {
        let reduced = <Scalar as Reduce<U256>>::reduce_bytes(&self.hash(label, None).into());
        SecretScalar::new(NonZeroScalar::new(reduced).unwrap())
    }

    fn stream(&self, participant: usize) -> Stream {
        // A participant draws t + 1 scalars of one block each; a few more for the one in 2^32 that is not below the order.
        let blocks =
            (0..u64::from(self.t) + 8).map(|c| self.hash(&format!("round1_participant_{participant}"), Some(c)));
        Stream(blocks.flatten().collect::<Vec<u8>>().into_iter())
    }
}

struct Stream(std::vec::IntoIter<u8>);

impl RngCore for Stream {
    fn next_u32(&mut self) -> u32 {
        unreachable!("scalars are drawn as bytes")
    }
    fn next_u64(&mut self) -> u64 {
        unreachable!("scalars are drawn as bytes")
    }
    fn fill_bytes(&mut self, out: &mut [u8]) {
        out.iter_mut().for_each(|byte| *byte = self.0.next().expect("the stream is long enough"));
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for Stream {}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn hex_of(secret: &SecretScalar) -> String {
    hex::encode(secret.to_bytes().expose())
}

fn position(number: usize) -> Position {
    Position::new(u8::try_from(number).unwrap()).unwrap()
}

impl Record {
    fn run(&self, file: &File) {
        let (n, t) = (self.n, self.t);
        let seed = Seed { seed: &unhex(&file.seed), suite: &file.ciphersuite, t, n };
        let threshold = Threshold::new(t, n).unwrap();
        let count = usize::from(n);

        // Set-up.
        assert_eq!(self.config.static_secret_keys.len(), count);
        let secrets: Vec<SecretScalar> = (1..=n).map(|i| seed.scalar(&format!("static_secret_key_{i}"))).collect();
        assert_eq!(secrets.iter().map(hex_of).collect::<Vec<_>>(), self.config.static_secret_keys);
        let keys: Vec<Point> = secrets.iter().map(|secret| Point::mul_generator(secret.expose())).collect();
        assert_eq!(
            keys.iter().map(|key| hex::encode(key.encode())).collect::<Vec<_>>(),
            self.config.static_public_keys
        );

        let tag = unhex(&self.session_tag);
        assert_eq!(tag, format!("COCKTAIL-DKG-TEST-VECTOR-{t}-OF-{n}").into_bytes());
        let context: [u8; 32] = Sha256::new_with_prefix(b"COCKTAIL-DKG-CONTEXT")
            .chain_update(u64::try_from(tag.len()).unwrap().to_be_bytes())
            .chain_update(&tag)
            .chain_update(u64::try_from(file.ciphersuite.len()).unwrap().to_be_bytes())
            .chain_update(&file.ciphersuite)
            .chain_update(u32::from(n).to_le_bytes())
            .chain_update(keys.iter().flat_map(Point::encode).collect::<Vec<u8>>())
            .finalize()
            .into();
        assert_eq!(hex::encode(context), self.context);

        let payloads: Vec<Vec<u8>> = match &self.payloads {
            None => vec![vec![]; count],
            Some(published) => {
                let derived: Vec<_> = (1..=n).map(|i| seed.hash(&format!("payload_{i}"), None).to_vec()).collect();
                assert_eq!(derived.iter().map(hex::encode).collect::<Vec<_>>(), *published);
                derived
            }
        };
        let extension = if self.payloads.is_some() {
            let mut input = u64::from(n).to_le_bytes().to_vec();
            for payload in &payloads {
                input.extend_from_slice(&u64::try_from(payload.len()).unwrap().to_le_bytes());
                input.extend_from_slice(payload);
            }
            Sha256::digest(input).to_vec()
        } else {
            Vec::new()
        };
        assert_eq!(hex::encode(&extension), self.extension);

        // Round 1.
        let setting = |index: usize| Setting {
            threshold,
            static_keys: &keys,
            context: &context,
            own: position(index + 1),
            secret: &secrets[index],
        };
        assert_eq!(self.round1.len(), count);
        let mut dealt = Vec::new();
        for (index, published) in self.round1.iter().enumerate() {
            assert_eq!(usize::from(published.participant_id), index + 1);
            let (message, ephemeral) =
                sharing::deal(&setting(index), &mut seed.stream(index + 1), |_| &payloads[index]).unwrap();
            assert_eq!(message.ephemeral, Point::mul_generator(ephemeral.expose()));
            assert_eq!(hex::encode(message.ephemeral.encode()), published.ephemeral_public_key);
            let commitment: Vec<String> = message.commitment.iter().map(|point| hex::encode(point.encode())).collect();
            assert_eq!(commitment, published.vss_commitment);
            assert_eq!(hex::encode(message.proof.0), published.pop);
            let ciphertexts: Vec<String> = message.ciphertexts.iter().map(hex::encode).collect();
            assert_eq!(ciphertexts, published.encrypted_shares);

            // The first scalar of the stream is the constant term, under which the proof of possession is signed.
            let constant = SecretScalar::random(&mut seed.stream(index + 1));
            let inside = &published.pop_intermediate;
            let text = message.proof_message(&context);
            assert_eq!(hex::encode(&text), inside.message);
            let nonce_input = suite::nonce_input(&constant, &text);
            assert_eq!(hex::encode(nonce_input.expose()), inside.nonce_input);
            let nonce = NonZeroScalar::new(suite::hash_to_scalar(nonce_input.expose())).unwrap();
            assert_eq!(hex::encode(nonce.to_bytes()), inside.nonce);
            let nonce_commitment = Point::mul_generator(&nonce);
            assert_eq!(hex::encode(nonce_commitment.encode()), inside.nonce_commitment);
            let challenge_input = suite::challenge_input(&nonce_commitment, &message.commitment[0], &text);
            assert_eq!(hex::encode(&challenge_input), inside.challenge_input);
            assert_eq!(hex::encode(suite::hash_to_scalar(&challenge_input).to_bytes()), inside.challenge);

            let longest = MAX_CIPHERTEXT_BYTES;
            assert_eq!(sharing::Dealt::parse(&message.encode(), threshold, longest).unwrap(), message);
            assert!(message.proves_possession(&context));
            dealt.push(message);
        }

        // Round 2.
        let public = sharing::quorum_key(threshold, dealt.iter().map(|message| message.commitment.as_slice())).unwrap();
        assert_eq!(hex::encode(public.key().encode()), self.group_public_key);
        assert_eq!(self.round2.len(), count);
        for (index, published) in self.round2.iter().enumerate() {
            assert_eq!(usize::from(published.participant_id), index + 1);
            let mut summands = Vec::new();
            for (sender, message) in dealt.iter().enumerate() {
                let (summand, payload) = sharing::open(&setting(index), &keys[sender], message).unwrap();
                assert_eq!(payload.expose(), payloads[sender]);
                summands.push(summand);
            }
            let share = ShareSummand::sum(summands.iter()).unwrap();
            assert_eq!(hex_of(&share), published.secret_share);
            let verification = public.share(position(index + 1)).unwrap();
            assert_eq!(hex::encode(verification.encode()), published.verification_share);
            assert_eq!(*verification, Point::mul_generator(share.expose()));
        }

        // Round 3.
        let messages: Vec<_> = dealt.iter().collect();
        let agreed = Transcript::new(&context, threshold, &keys, &messages, &extension);
        let bytes = agreed.encode();
        assert_eq!(Transcript::parse(&bytes).unwrap(), agreed);
        assert_eq!(hex::encode(Sha256::digest(&bytes)), self.round3.transcript_hash);
        assert_eq!(self.round3.signatures.len(), count);
        let mut signatures = Vec::new();
        for (index, published) in self.round3.signatures.iter().enumerate() {
            assert_eq!(usize::from(published.signer_id), index + 1);
            let signature = Signature::sign(&secrets[index], &bytes).unwrap();
            assert_eq!(hex::encode(signature.0), published.signature);
            signatures.push(signature);
        }
        assert_eq!(agreed.first_unsigned(&bytes, &signatures), None);

        // Recovery.
        if let Some(published) = &self.recovery {
            let recovering = usize::from(published.participant_id) - 1;
            let ciphertexts: Vec<Vec<u8>> = published.ciphertexts.iter().map(|text| unhex(text)).collect();
            let sent: Vec<Vec<u8>> = dealt.iter().map(|message| message.ciphertexts[recovering].clone()).collect();
            assert_eq!(ciphertexts, sent);
            let bundle = sharing::bundle(ciphertexts.iter().map(Vec::as_slice));
            let secret = Secret::from_slice(&unhex(&self.config.static_secret_keys[recovering])).unwrap();
            let secret = SecretScalar::from_bytes(&secret).unwrap();
            let (own, share, recovered) = transcript::recover(&secret, &bytes, &signatures, &bundle).unwrap();
            assert_eq!(own, position(recovering + 1));
            assert_eq!(hex_of(&share), published.recovered_secret_share);
            let verification = recovered.share(own).unwrap();
            assert_eq!(hex::encode(verification.encode()), published.recovered_verification_share);
            assert_eq!(recovered, public);
        }
    }
}

#[test]
fn every_published_dkg_comes_out_the_same() {
    let Some(files) = super::files(".", "cocktail-dkg-", ".json") else {
        return;
    };
    if files.is_empty() {
        println!("the vectors' directory holds no cocktail-dkg-*.json");
    }
    let (mut records, mut recoveries, mut payloads, mut other) = (0, 0, 0, 0);
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let file: File = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if file.ciphersuite.as_bytes() != suite::ID {
            println!("{}: not our ciphersuite, {} records not run", path.display(), file.vectors.len());
            other += 1;
            continue;
        }
        assert_eq!(
            file.derivation.method,
            format!(
                "H(seed || ciphersuite_id || uint32_le(t) || uint32_le(n) || label) where H is the ciphersuite hash ({})",
                file.ciphersuite
            )
        );
        let labels = &file.derivation.labels;
        assert_eq!(labels.static_secret_key, "static_secret_key_{{i}}");
        assert_eq!(labels.ephemeral_secret_key, "round1_participant_{{i}} (RNG stream)");
        assert_eq!(labels.polynomial_coefficient, "round1_participant_{{i}} (RNG stream)");
        assert!(labels.payload.as_deref().is_none_or(|label| label == "payload_{{i}}"));
        for record in &file.vectors {
            println!("{}-of-{}, payloads: {}", record.t, record.n, record.payloads.is_some());
            record.run(&file);
            records += 1;
            recoveries += usize::from(record.recovery.is_some());
            payloads += usize::from(record.payloads.is_some());
        }
    }
    println!(
        "ran {records} DKG records, {recoveries} with recovery, {payloads} with payloads; {other} files of other suites"
    );
}
