//! A release at the command line: the card, the embassy's answer, everything checked, and a key that opens what was sealed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "the network's helpers serve other tests too"
)]

mod cli {
    pub mod embassy;
    pub mod network;
}

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use chancery::{
    client::{
        api::{DocumentBody, Taken},
        release::ReleaseBody,
        system_clock,
    },
    protocol::{
        certificate::HomeAuthority,
        charter::SignedCharter,
        contribution::{CheckedOffer, Contribution, Official, Review},
        dataset_version::{CharteredDataset, DatasetVersionRecord, VerifiedVersion},
        facts::CustodyFacts,
        group::Point,
        hybrid::HybridSecretKey,
        ids::{DatasetName, DatasetVersion, EmbassyName, OfficialName, OwnerName, QuorumKind},
        offer::{Offer, Opening, SignedOffer},
        paragraph::Purpose,
        recipient::{Recipient, RecipientCard},
        release::ReleaseParts,
        secret::SharedPoint,
        slot::{SealedFor, SeenPoints},
        statement::{DatasetAt, Mode, Resets, SignedStatement, Statement, StatementParts},
        tpm::approval::TpmNonce,
        wire::Document,
    },
};
use cli::{
    embassy::{self, Embassy},
    network::{
        CHAIN, NAMES, PASSPHRASE, Ran, completed, enrol, fine, generate, hybrid, known_record, point, refused, run,
        run_bytes, secret,
    },
};
use p256::ecdsa::SigningKey;
use rand_core::OsRng;
use tempfile::TempDir;

fn der(path: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(path).unwrap();
    x509_parser::pem::parse_x509_pem(text.as_bytes()).unwrap().1.contents
}

fn key(name: &str) -> SigningKey {
    SigningKey::from(*secret(name).expose())
}

/// Everything that officials and embassy have, on the test's side.
struct Story {
    folder: TempDir,
    facts: CustodyFacts,
    versions: [VerifiedVersion; 1],
    card: RecipientCard,
    recipient: Recipient,
    offer: SignedOffer,
}

fn offered(facts: &CustodyFacts, version: &VerifiedVersion, card: &RecipientCard) -> SignedOffer {
    let now = system_clock();
    let statement = Statement::new(StatementParts {
        charter: facts.charter(),
        embassy: facts.embassy().clone(),
        generation: facts.generation(),
        purpose: Purpose::new("the court needs the register of 2024").unwrap(),
        datasets: vec![DatasetAt {
            dataset: DatasetName::new("land-register").unwrap(),
            version: DatasetVersion::FIRST,
        }],
        mode: Mode::Release { recipient: Box::new(card.clone()) },
        opener: OfficialName::new("anna").unwrap(),
        opened_at: now,
        expires_at: chancery::protocol::certificate::UnixTime(now.0 + 3600),
        acknowledged: Resets { reset_count: 0, restart_count: 0 },
        nonce: [7; 16],
    })
    .unwrap();
    let signed = SignedStatement::sign(statement, &key("anna identity")).unwrap();
    let slot = version.slot(&SealedFor::Embassy(facts.embassy().clone())).unwrap();
    let opening = Opening { subject: slot.id(), nonce: TpmNonce::from_bytes(&[0xc5; 32]).unwrap() };
    let offer = Offer::new(signed, 1, Some(card.hybrid().clone()), vec![opening]).unwrap();
    SignedOffer::sign(offer, &key("embassy identity")).unwrap()
}

fn story() -> Story {
    let folder = completed();
    let at = folder.path();
    enrol(at, "agent", "replicator");
    known_record(at, 1, 1, "land-board", "one.bin");
    let said = fine(run(at, "release card --dir replicator --out replicator.card --passphrase-fd 0"));
    assert!(said.contains("card of spiffe://registers.example/agent/replicator"), "{said}");
    let card = RecipientCard::decode(&std::fs::read(at.join("replicator.card")).unwrap()).unwrap();
    assert!(said.contains(&format!("card hash: {}", card.hash())), "{said}");
    let home = HomeAuthority::known(&der(&at.join("home/home.crt"))).unwrap();
    let list = home.revocations(&der(&at.join("home/home.crl"))).unwrap();
    let recipient = card.verify(&home, &list, system_clock()).unwrap();

    let signed = SignedCharter::decode(&std::fs::read(at.join("charters/0002.charter")).unwrap()).unwrap();
    let facts = signed.unverified().facts(&EmbassyName::new("luxembourg").unwrap()).unwrap();
    let record = DatasetVersionRecord::decode(&std::fs::read(at.join("one.bin")).unwrap()).unwrap();
    let chartered = CharteredDataset {
        charter: facts.charter(),
        owner: OwnerName::new("land-board").unwrap(),
        owner_key: *key("land-board").verifying_key(),
        dataset: DatasetName::new("land-register").unwrap(),
    };
    let version = record.verify_signature(&chartered).unwrap().verify_slots(facts.sealing_keys()).unwrap();
    let offer = offered(&facts, &version, &card);
    Story { folder, facts, versions: [version], card, recipient, offer }
}

impl Story {
    fn at(&self) -> &Path {
        self.folder.path()
    }

    fn contributions(&self, officials: &[usize]) -> Vec<Contribution> {
        let certified = generate(self.at(), QuorumKind::Unseal);
        let review = Review {
            facts: &self.facts,
            versions: &self.versions,
            now: system_clock(),
            recipient: Some(&self.recipient),
        };
        officials
            .iter()
            .map(|at| {
                let checked = CheckedOffer::check(&self.offer, &review, &mut SeenPoints::new()).unwrap();
                let (identity, hybrid) = (key(&format!("{} identity", NAMES[*at])), hybrid(NAMES[*at]));
                let position = certified[*at].member.position();
                let official =
                    Official { position, identity: &identity, hybrid: &hybrid, share: &certified[*at].share };
                checked.contribute(&self.facts, &official, 600, &mut OsRng).unwrap()
            })
            .collect()
    }

    fn parts(&self, custody: &str) -> ReleaseParts {
        let slot = self.versions[0].slot(&SealedFor::Embassy(self.facts.embassy().clone())).unwrap();
        let mut half = Point::new(slot.point().projective() * **secret(custody).expose()).unwrap();
        let half = SharedPoint::take(&mut half);
        ReleaseParts::seal(&self.offer.unverified().hash(), self.card.hybrid(), [(slot, &half)], &mut OsRng).unwrap()
    }

    fn body(&self, contributions: &[Contribution], parts: &ReleaseParts) -> ReleaseBody {
        ReleaseBody {
            offer: DocumentBody::of(&self.offer),
            contributions: contributions.iter().map(DocumentBody::of).collect(),
            parts: DocumentBody::of(parts),
        }
    }

    fn collect(&self, embassy: &Embassy, ceremony: &str, to: &str) -> Ran {
        run(
            self.at(),
            &format!(
                "release collect {ceremony} --dir replicator --card replicator.card --record one.bin --embassy luxembourg \
                 --server {} --connection-fd 0 --out {to}",
                embassy.url
            ),
        )
    }
}

#[test]
fn a_recipient_collects_what_was_released_to_it_and_opens_with_it() {
    let story = story();
    let at = story.at();
    let ceremony = story.offer.unverified().statement().id().to_string();
    let answer: Arc<Mutex<ReleaseBody>> =
        Arc::new(Mutex::new(story.body(&story.contributions(&[0, 2]), &story.parts("custody"))));
    let served = Arc::clone(&answer);
    let embassy = embassy::start(
        &at.join("luxembourg.crt"),
        Box::new(move |_, _| (200, serde_json::to_string(&*served.lock().unwrap()).unwrap())),
    );
    let said = fine(story.collect(&embassy, &ceremony, "keys"));
    assert!(
        said.contains("dataset land-register, version 1: keys/land-register.1.key")
            && said.contains("released by anna, clara, for: the court needs the register of 2024"),
        "{said}"
    );
    assert_eq!(embassy.asked.lock().unwrap()[0].0, format!("/v1/ceremonies/{ceremony}/release"));
    // The key opens what agents sealed, without any embassy; not what is sealed to others.
    std::fs::write(at.join("plain"), "register").unwrap();
    fine(run(at, &format!("seal plain --dataset land-register --record one.bin {CHAIN} --out sealed.age")));
    let open = |file: &str, key: &str| {
        let arguments = format!("open {file} --key {key} --passphrase-fd 0");
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        run_bytes(at, &arguments, format!("{PASSPHRASE}\n").as_bytes())
    };
    assert_eq!(open("sealed.age", "keys/land-register.1.key"), (0, b"register".to_vec(), String::new()));
    let (code, out, err) = open("sealed.age", "replicator/hybrid.key");
    assert_eq!(out, b"");
    refused(Ran { code, out: String::new(), err }, &["this is a hybrid key", "a dataset's key is needed"]);
    known_record(at, 2, 2, "land-board", "two.bin");
    fine(run(at, &format!("seal plain --dataset land-register --record two.bin {CHAIN} --out other.age")));
    let (code, _, err) = open("other.age", "keys/land-register.1.key");
    refused(Ran { code, out: String::new(), err }, &["not encrypted to this dataset version"]);
    refused(story.collect(&embassy, &ceremony, "keys"), &["keys/land-register.1.key", "Choose another name"]);

    // Every way in which it is not what was released. No key is kept.
    let fails = |body: ReleaseBody, words: &[&str]| {
        *answer.lock().unwrap() = body;
        refused(story.collect(&embassy, &ceremony, "x"), words);
        assert!(!at.join("x").exists());
    };
    let (good, parts) = (story.contributions(&[0, 2]), story.parts("custody"));
    fails(story.body(&good[..1], &parts), &["2"]);
    fails(story.body(&[good[0].clone(), good[0].clone()], &parts), &["2"]);
    fails(story.body(&good, &story.parts("another TPM")), &["land-register"]);
    let mut garbled = story.body(&good, &parts);
    garbled.parts = DocumentBody::of_bytes(b"nothing");
    fails(garbled, &["sent halves that does not read"]);
    let fine_body = story.body(&good, &parts);
    *answer.lock().unwrap() = fine_body;
    refused(story.collect(&embassy, &"0".repeat(64), "x"), &["the release of another ceremony"]);
    // A release to somebody else: the same person with another card.
    let stranger = HybridSecretKey::random(&mut OsRng);
    let card = RecipientCard::sign(
        "replicator".parse().unwrap(),
        der(&at.join("replicator/connection.crt")),
        stranger.public().clone(),
        &key("anybody"),
    )
    .unwrap();
    let other = offered(&story.facts, &story.versions[0], &card);
    let id = other.unverified().statement().id().to_string();
    answer.lock().unwrap().offer = DocumentBody::of(&other);
    let said = refused(story.collect(&embassy, &id, "x"), &["No key was kept"]);
    assert!(!at.join("x").exists(), "{said}");
}

#[test]
fn a_card_is_made_with_the_key_that_home_certified() {
    let story = story();
    let at = story.at();
    enrol(at, "agent", "second");
    std::fs::copy(at.join("second/connection.crt"), at.join("replicator/connection.crt")).unwrap();
    refused(
        run(at, "release card --dir replicator --out x.card --passphrase-fd 0"),
        &["not a certificate of the key in connection.key"],
    );
    // A witness is nobody to release to.
    enrol(at, "witness", "riga");
    refused(run(at, "release card --dir riga --out x.card --passphrase-fd 0"), &["hybrid.key"]);
    assert!(!at.join("x.card").exists());
    let _ = point("nobody");
}

#[test]
fn a_record_travels_to_an_embassy_and_back_and_is_verified_both_ways() {
    let story = story();
    let at = story.at();
    enrol(at, "data-owner", "land-board");
    let bytes = std::fs::read(at.join("one.bin")).unwrap();
    known_record(at, 1, 9, "mallory", "forged.bin");
    let forged = std::fs::read(at.join("forged.bin")).unwrap();
    let served = bytes.clone();
    let embassy = embassy::start(
        &at.join("luxembourg.crt"),
        Box::new(move |path, _| {
            let body = match path {
                "/v1/datasets" => serde_json::to_string(&Taken { id: "abcd".to_owned(), new: true }),
                "/v1/datasets/land-register/1" => serde_json::to_string(&DocumentBody::of_bytes(&served)),
                // A lying embassy: another version than was asked for, and another owner.
                "/v1/datasets/land-register/2" => serde_json::to_string(&DocumentBody::of_bytes(&served)),
                _ => serde_json::to_string(&DocumentBody::of_bytes(&forged)),
            };
            (200, body.unwrap())
        }),
    );
    let visit = |who: &str| format!("--dir {who} --embassy luxembourg --server {} --connection-fd 0", embassy.url);
    let said = fine(run(at, &format!("dataset publish one.bin {}", visit("land-board"))));
    assert_eq!(said, "luxembourg took land-register, version 1: record abcd\n");
    assert_eq!(
        embassy.asked.lock().unwrap()[0].1,
        serde_json::to_string(&DocumentBody::of_bytes(&bytes)).unwrap(),
        "the record's own bytes"
    );
    refused(run(at, &format!("dataset publish forged.bin {}", visit("land-board"))), &["forged.bin is refused"]);
    assert_eq!(embassy.asked.lock().unwrap().len(), 1, "what is not the owner's is not sent");
    let fetch = |version: u32, to: &str| {
        run(at, &format!("dataset fetch land-register --version {version} --out {to} {}", visit("replicator")))
    };
    fine(fetch(1, "fetched.bin"));
    assert_eq!(std::fs::read(at.join("fetched.bin")).unwrap(), bytes);
    refused(fetch(2, "x.bin"), &["is land-register, version 1", "Distrust this embassy"]);
    refused(fetch(3, "x.bin"), &["Distrust this embassy"]);
    assert!(!at.join("x.bin").exists());
}
