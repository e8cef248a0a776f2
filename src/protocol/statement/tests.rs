//! What a statement may say, and that whatever it says has a line and one form.

use p256::ecdsa::SigningKey;
use rand_core::OsRng;

use super::*;
use crate::protocol::{
    certificate::{Identity, Role, TrustDomain},
    hybrid::HybridSecretKey,
    ids::SubjectName,
    recipient::Recipient,
};

fn official(name: &str) -> OfficialName {
    OfficialName::new(name).unwrap()
}

fn card(key: &SigningKey) -> RecipientCard {
    let hybrid = HybridSecretKey::random(&mut OsRng).public().clone();
    RecipientCard::sign(SubjectName::new("ministry").unwrap(), vec![0x30; 600], hybrid, key).unwrap()
}

fn parts() -> StatementParts {
    let at = |name: &str| DatasetAt { dataset: DatasetName::new(name).unwrap(), version: DatasetVersion::FIRST };
    StatementParts {
        charter: CharterId(Hash([1; 32])),
        embassy: EmbassyName::new("luxembourg").unwrap(),
        generation: Generation::FIRST,
        purpose: Purpose::new("courts in exile need the land register").unwrap(),
        datasets: vec![at("land"), at("police")],
        mode: Mode::Lease(LeaseTerms {
            agents: vec![AgentName::new("replicator").unwrap(), AgentName::new("court").unwrap()],
            duration_seconds: 93_784,
            unwraps: 1000,
        }),
        opener: official("anna"),
        opened_at: UnixTime(1_800_000_000),
        expires_at: UnixTime(1_800_086_400),
        acknowledged: Resets { reset_count: 3, restart_count: 1 },
        nonce: [7; 16],
    }
}

#[test]
fn a_statement_travels_and_every_change_is_another_statement() {
    let key = SigningKey::random(&mut OsRng);
    let release = StatementParts { mode: Mode::Release { recipient: Box::new(card(&key)) }, ..parts() };
    for parts in [parts(), release] {
        let statement = Statement::new(parts).unwrap();
        let bytes = statement.encode();
        assert_eq!(Statement::decode(&bytes).unwrap(), statement);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            if let Ok(other) = Statement::decode(&changed) {
                assert!(other.id() != statement.id() && other.words() != statement.words(), "byte {at}");
            }
        }
        let signed = SignedStatement::sign(statement, &key).unwrap();
        assert_eq!(SignedStatement::decode(&signed.encode()).unwrap(), signed);
    }
}

#[test]
fn everything_that_a_statement_says_has_its_line() {
    let key = SigningKey::random(&mut OsRng);
    let card = card(&key);
    let release = Mode::Release { recipient: Box::new(card.clone()) };
    let lease = Statement::new(parts()).unwrap();
    let text = |statement: &Statement| {
        let lines = statement.lines();
        lines.iter().map(|(label, text)| format!("{label}: {text}\n")).collect::<String>()
    };
    let shown = text(&lease);
    for said in [
        "purpose: courts in exile need the land register",
        "embassy: luxembourg",
        "opens: land, version 1",
        "opens: police, version 1",
        "for agent: replicator",
        "for agent: court",
        "lasts: 1 day 2 hours 3 minutes 4 seconds",
        "unwraps: at most 1000",
        "opened by: anna",
        "TPM counts acknowledged: 3 resets, 1 restarts",
        &format!("read aloud: {}", lease.words()),
    ] {
        assert!(shown.contains(&format!("{said}\n")), "{said} is missing in\n{shown}");
    }
    assert_eq!(lease.words().iter().count(), 10);
    let release = Statement::new(StatementParts { mode: release, ..parts() }).unwrap();
    let shown = text(&release);
    assert!(shown.contains("recipient: ministry\n") && shown.contains(&card.hash().to_string()), "{shown}");
    assert!(!shown.contains("agent") && shown.contains("the embassy never has them"), "{shown}");
    // Whatever differs, the words do, and so does a line.
    let longer = StatementParts { expires_at: UnixTime(1_800_086_401), ..parts() };
    assert_ne!(text(&Statement::new(longer).unwrap()), text(&lease));
}

#[test]
fn a_statement_that_says_nothing_or_too_much_is_none() {
    let terms = || match parts().mode {
        Mode::Lease(terms) => terms,
        Mode::Release { .. } | Mode::Adoption(_) => panic!("a lease"),
    };
    let lease = |terms| StatementParts { mode: Mode::Lease(terms), ..parts() };
    let agent = |name: &str| AgentName::new(name).unwrap();
    let many = |n: usize| (0..n).map(|i| agent(&format!("a{i}"))).collect::<Vec<_>>();
    let dataset = parts().datasets[0].clone();
    let (opened_at, nobody) = (parts().opened_at, vec![]);
    for (story, bad) in [
        ("no dataset", StatementParts { datasets: vec![], ..parts() }),
        ("nine datasets", StatementParts { datasets: vec![dataset.clone(); 9], ..parts() }),
        ("one dataset twice", StatementParts { datasets: vec![dataset.clone(), dataset], ..parts() }),
        ("no agent", lease(LeaseTerms { agents: nobody, ..terms() })),
        ("17 agents", lease(LeaseTerms { agents: many(17), ..terms() })),
        ("one agent twice", lease(LeaseTerms { agents: vec![agent("a"), agent("a")], ..terms() })),
        ("no time", lease(LeaseTerms { duration_seconds: 0, ..terms() })),
        ("too much time", lease(LeaseTerms { duration_seconds: LEASE_SECONDS_MAX + 1, ..terms() })),
        ("no unwrap", lease(LeaseTerms { unwraps: 0, ..terms() })),
        ("over before it begins", StatementParts { expires_at: opened_at, ..parts() }),
        ("open for ever", StatementParts { expires_at: UnixTime(opened_at.0 + CEREMONY_SECONDS_MAX + 1), ..parts() }),
        ("time that wraps", StatementParts { opened_at: UnixTime(i64::MIN), ..parts() }),
    ] {
        assert!(Statement::new(bad).is_err(), "{story}");
    }
    let widest = StatementParts { expires_at: UnixTime(opened_at.0 + CEREMONY_SECONDS_MAX), ..parts() };
    let widest = Statement::new(StatementParts {
        mode: Mode::Lease(LeaseTerms { agents: many(16), duration_seconds: LEASE_SECONDS_MAX, unwraps: u64::MAX }),
        ..widest
    });
    assert!(widest.is_ok(), "{widest:?}");
}

#[test]
fn a_card_is_judged_as_it_stands() {
    let key = SigningKey::random(&mut OsRng);
    let (first, second) = (card(&key), card(&key));
    let identity = Identity {
        trust_domain: TrustDomain::new("xx.example").unwrap(),
        role: Role::DataOwner,
        name: SubjectName::new("ministry").unwrap(),
    };
    let judged = Recipient::of_test(&first, identity);
    assert!(judged.is_of(&first) && !judged.is_of(&second));
    assert_eq!(RecipientCard::decode(&first.encode()).unwrap(), first);
}
