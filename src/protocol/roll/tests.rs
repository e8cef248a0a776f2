//! Every act has one form, one leaf and lines to read; what the table does not know is refused.

use p256::ecdsa::SigningKey;
use rand_core::OsRng;

use super::*;
use crate::protocol::{
    ceremony::Outcome,
    ids::{CeremonyId, DatasetName},
    notice::{Denial, Reason},
};

fn entry(act: Act) -> Entry {
    Entry { at: UnixTime(1_800_000_000), by: Who::Embassy(EmbassyName::new("luxembourg").unwrap()), act }
}

fn official(name: &str) -> OfficialName {
    OfficialName::new(name).unwrap()
}

fn samples() -> Vec<Entry> {
    let ceremony = CeremonyId(Hash([7; 32]));
    let reason = || Reason::new("the register is not needed any more").unwrap();
    let (agent, dataset) = (AgentName::new("replicator").unwrap(), DatasetName::new("land").unwrap());
    let officials = vec![official("anna"), official("boris")];
    let key = SigningKey::random(&mut OsRng);
    [
        Act::LeaseRevived { ceremony },
        Act::LeaseEnded { ceremony, why: reason(), unwraps: 9 },
        Act::UnwrapsReserved { ceremony, dataset, agent, count: 1000 },
        Act::SetAside { ceremony, officials: officials.clone(), why: reason() },
        Act::CeremonyEnded { ceremony, outcome: Outcome::Denied { officials } },
        Act::CeremonyEnded { ceremony, outcome: Outcome::Stopped { by: official("eva"), reason: reason() } },
        Act::Denied { denial: Denial::sign(ceremony, official("clara"), reason(), &key).unwrap() },
        Act::CharterTaken { version: 2, charter: Hash([3; 32]), recovery_alone: true },
    ]
    .map(entry)
    .to_vec()
}

#[test]
fn an_entry_travels_and_every_change_is_another_leaf() {
    for entry in samples() {
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes).unwrap(), entry);
        assert_eq!(leaf_hash(&bytes), entry.leaf_hash());
        for at in 0..bytes.len() {
            assert!(Entry::decode(&bytes[..at]).is_err(), "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            if let Ok(other) = Entry::decode(&changed) {
                assert_ne!(other.leaf_hash(), entry.leaf_hash(), "byte {at}");
            }
        }
    }
}

#[test]
fn a_leaf_is_that_of_rfc_6962() {
    // SHA-256 of one zero byte: the leaf of an empty entry, as in certificate-transparency-go's tests.
    let empty = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
    assert_eq!(leaf_hash(b"").to_string(), empty);
}

#[test]
fn numbers_of_acts_are_given_once() {
    for (index, (code, name)) in Act::CODES.iter().enumerate() {
        for (earlier, other) in Act::CODES.iter().take(index) {
            assert!(code != earlier && name != other, "{name} ({code}) and {other} ({earlier})");
        }
    }
    let mut unknown = entry(Act::LeaseRevived { ceremony: CeremonyId(Hash([7; 32])) }).encode();
    let at = unknown.len() - 33;
    assert_eq!(unknown[at], 82);
    unknown[at] = 255;
    assert!(matches!(Entry::decode(&unknown), Err(WireError::Invalid { field: "act", .. })));
}

#[test]
fn an_entry_says_who_what_and_why() {
    let shown: Vec<String> = samples()
        .iter()
        .map(|entry| entry.lines().iter().map(|(label, text)| format!("{label}: {text}\n")).collect())
        .collect();
    let all = shown.join("\n");
    for said in [
        "by: embassy luxembourg",
        "act: lease ended",
        "why: the register is not needed any more",
        "unwraps: 9",
        "agent: replicator",
        "count: 1000",
        "officials: boris",
        "outcome: denied by anna, boris",
        "outcome: stopped by eva: the register is not needed any more",
        "official: clara",
        "recovery alone: yes",
    ] {
        assert!(all.contains(&format!("{said}\n")), "{said} is missing in\n{all}");
    }
}

#[test]
fn a_list_in_an_entry_is_bounded() {
    let many = |n| {
        entry(Act::SetAside {
            ceremony: CeremonyId(Hash([7; 32])),
            officials: vec![official("anna"); n],
            why: Reason::of("expired"),
        })
    };
    assert!(Entry::decode(&many(64).encode()).is_ok());
    assert!(matches!(Entry::decode(&many(65).encode()), Err(WireError::TooLong { bound: 64, .. })));
}
