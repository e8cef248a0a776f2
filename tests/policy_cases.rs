//! The access policy against `policy/cases/`: who asks what, and which policy must answer; and policies with one mistake each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use chancery::{
    protocol::{
        access::{AccessText, SCHEMA_FILE},
        certificate::Role,
        charter::{
            Charter, CharterDataset, CharterEmbassy, CharterOfficial, CharterOwner, CharterParts, CharterWitness,
            Country, HardwareClass, QuorumRule,
        },
        group::Point,
        hash::Hash,
        hybrid::HybridSecretKey,
        ids::{AgentName, DatasetName, EmbassyName, OfficialName, OwnerName, QuorumKind, SubjectName, WitnessName},
        quorum::Threshold,
        secret::SecretScalar,
        tpm::{custody::CustodyHandles, nv::NvHandle, pcr::PcrSelection},
    },
    service::{
        policy::{
            Act, Answer, Asker, Case, CaseError, CeremonyFacts, LeaseFacts, LeaseState, Mode, Place, Policy,
            PolicyError, Question,
        },
        problem::Problem,
    },
};
use rand_core::OsRng;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policy")
}

fn cases() -> Vec<(String, Case)> {
    let entries = std::fs::read_dir(folder().join("cases")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let case = Case::read(&std::fs::read(path).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, case)
    };
    let cases: Vec<_> = paths.iter().map(read).collect();
    assert!(cases.len() > 50, "the cases are missing");
    cases
}

#[test]
fn every_case_is_answered_as_expected_and_every_policy_answers_one() {
    let policy = Policy::embedded().unwrap();
    let mut permitted = BTreeSet::new();
    let mut denied = BTreeSet::new();
    for (name, case) in cases() {
        let answer = case.ask(&policy).unwrap_or_else(|error| panic!("{name}: {error}"));
        match (case.expect.as_ref().expect("every case says what it expects"), &answer) {
            (Answer::Permitted(id), Ok(yes)) => {
                assert_eq!(yes.policy(), id, "{name}: {}", case.title);
                assert_eq!(yes.under(), policy.digest());
                assert!(!yes.why().is_empty());
                permitted.insert(id.clone());
            }
            (Answer::Denied(id), Err(no)) => {
                assert!(no.policies().any(|policy| policy == id), "{name}: {} ({no})", case.title);
                assert!(
                    no.to_string().contains(id) && no.detail().contains(id),
                    "{name}: the policy is not named: {no}"
                );
                assert!(!no.who().is_empty() && no.next().ends_with('.'), "{name}: {no}");
                denied.insert(id.clone());
            }
            (Answer::DeniedByDefault, Err(no)) => {
                assert_eq!(no.policies().count(), 0, "{name}: {} ({no})", case.title);
                assert!(!no.who().is_empty() && no.next().ends_with('.'), "{name}: {no}");
            }
            (expected, answer) => panic!("{name}: {}: expected {expected:?}, found {answer:?}", case.title),
        }
    }
    for (id, permits, why) in policy.policies() {
        let answered = if permits { &permitted } else { &denied };
        assert!(answered.contains(id), "no case is answered by {id}: add one to policy/cases");
        assert!(why.len() > 20 && !why.ends_with('.'), "{id}: @why is a reason in half a sentence: {why}");
    }
    let known: BTreeSet<&str> = policy.policies().map(|(id, _, _)| id).collect();
    for id in permitted.iter().chain(&denied) {
        assert!(known.contains(id.as_str()), "a case expects {id}, which does not exist");
    }
}

/// Whoever is not certified in one of the roles, or asks for what no policy mentions, gets nothing: each act, each role.
#[test]
fn nothing_is_permitted_to_a_role_that_the_cases_do_not_permit_it_to() {
    let policy = Policy::embedded().unwrap();
    let mut permitted: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for path in std::fs::read_dir(folder().join("cases")).unwrap() {
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path.unwrap().path()).unwrap()).unwrap();
        let act = json["act"].as_str().unwrap().to_owned();
        for role in ["official", "agent", "data-owner", "auditor", "witness", "home", "embassy"] {
            let mut other = json.clone();
            other["who"] = serde_json::json!({ "role": role, "name": "somebody-else" });
            other.as_object_mut().unwrap().remove("expect");
            let answer = Case::read(other.to_string().as_bytes()).unwrap().ask(&policy).unwrap();
            if answer.is_ok() {
                permitted.entry(role).or_default().insert(act.clone());
            }
        }
    }
    // What somebody gets who is in no quorum, in no statement and nobody's owner.
    let expected = [
        (
            "official",
            vec![
                "list",
                "look",
                "read datasets",
                "read genesis",
                "read roll",
                "stop ceremony",
                "stop lease",
                "take charter",
                "take revocations",
                "watch ceremony",
                "watch lease",
            ],
        ),
        ("agent", vec!["list", "look", "read datasets"]),
        ("data-owner", vec!["list", "look", "read datasets", "take revocations"]),
        (
            "auditor",
            vec![
                "list",
                "look",
                "read datasets",
                "read genesis",
                "read roll",
                "take revocations",
                "watch ceremony",
                "watch lease",
            ],
        ),
        ("witness", vec!["beat", "look", "read roll", "take revocations"]),
    ];
    let expected: BTreeMap<&str, BTreeSet<String>> =
        expected.into_iter().map(|(role, acts)| (role, acts.into_iter().map(str::to_owned).collect())).collect();
    assert_eq!(permitted, expected);
}

#[test]
fn a_denial_says_what_happened_who_can_act_and_what_to_do_next() {
    let policy = Policy::embedded().unwrap();
    let said = |case: &str| {
        let case = cases().into_iter().find(|(name, _)| name == case).unwrap().1;
        case.ask(&policy).unwrap().unwrap_err().to_string()
    };
    assert_eq!(
        said("unwrap-another-agent"),
        "policy unwrap-as-its-agent could permit it, and not to agent replica-2 here: the officials saw this agent and this \
         dataset in the statement when they approved. Allowed to unwrap: the agents that the lease names. Ask an official to \
         open a lease whose statement names this agent and this dataset."
    );
    assert_eq!(
        said("unwrap-suspended"),
        "policy no-unwrap-unless-live forbids it to agent replica-1: this lease is suspended or has ended. Allowed to unwrap: \
         the agents that the lease names. If it is suspended, its witnesses' beats are missing: tell an official. If it has \
         ended, an official opens another."
    );
    assert_eq!(
        said("deny-auditor"),
        "no policy permits it to auditor olga. Allowed to deny: officials of the unseal quorum. Ask one of them."
    );
}

#[test]
fn the_policy_in_a_directory_is_the_embedded_one_until_somebody_changes_it() {
    let embedded = Policy::embedded().unwrap();
    let loaded = Policy::load(&folder()).unwrap();
    assert_eq!(loaded.digest(), embedded.digest());
    assert_eq!(loaded.text().digest(), embedded.digest());

    let changed = with("leases.cedar", |text| text.replace("the witnesses", "witnesses") + "\n// One line more.\n");
    assert_ne!(Policy::new(changed).unwrap().digest(), embedded.digest());
    let nowhere = Policy::load(Path::new("/nowhere/policy")).unwrap_err().to_string();
    assert!(nowhere.contains("/nowhere/policy") && nowhere.contains(SCHEMA_FILE), "{nowhere}");
}

/// The embedded policy with one file changed.
fn with(file: &str, change: impl FnOnce(&str) -> String) -> AccessText {
    let embedded = AccessText::embedded();
    let mut policies = embedded.policies().clone();
    let text = policies.get(file).cloned().unwrap_or_default();
    policies.insert(file.to_owned(), change(&text));
    AccessText::new(embedded.schema().to_owned(), policies).unwrap()
}

const GOOD: &str = r#"
@id("extra")
@why("because somebody wrote it down")
@next("Ask.")
permit (principal is Chancery::Auditor, action == Chancery::Action::"look", resource);
"#;

#[test]
fn a_policy_with_a_mistake_is_refused_with_its_place() {
    Policy::new(with("extra.cedar", |_| GOOD.to_owned())).unwrap();
    let cases: &[(&str, &str, &str, &str)] = &[
        ("a missing bracket", "resource);", "resource;", "extra.cedar, line 5"),
        ("no id", "@id(\"extra\")\n", "", "extra.cedar, line 2: a policy without @id"),
        ("an id with a space", "\"extra\"", "\"ex tra\"", "a policy without @id"),
        ("an id of another policy", "\"extra\"", "\"read-roll\"", "@id(\"read-roll\") stands in extra.cedar already"),
        ("no why", "@why(\"because somebody wrote it down\")\n", "", "line 2: the policy extra has no @why"),
        ("an empty why", "because somebody wrote it down", " ", "the policy extra has no @why"),
        ("no next", "@next(\"Ask.\")\n", "", "the policy extra has no @next"),
        ("an action that there is not", "\"look\"", "\"peek\"", "extra.cedar, line 2"),
        ("a role that there is not", "Chancery::Auditor", "Chancery::King", "extra.cedar, line 2"),
        ("an attribute that there is not", "resource);", "resource) when { resource.colour == 1 };", "colour"),
        ("a comparison that never holds", "resource);", "resource) when { principal == resource };", "extra"),
        ("a policy that never applies", "resource);", "resource) when { principal is Chancery::Agent };", "extra"),
        ("a template", "principal is Chancery::Auditor", "principal == ?principal", "a template"),
    ];
    for (what, from, to, named) in cases {
        let text = with("extra.cedar", |_| GOOD.replace(from, to));
        match Policy::new(text) {
            Err(error @ PolicyError::Mistake { .. }) => {
                let said = error.to_string();
                assert!(said.contains("extra.cedar") && said.contains(named), "{what}: {said}");
                assert!(said.contains("nothing of this policy is used"), "{what}: {said}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    let embedded = AccessText::embedded();
    let another = embedded.schema().replace("leases: Bool };", "leases: Bool, flag: Bool };");
    let text = AccessText::new(another, embedded.policies().clone()).unwrap();
    assert!(matches!(Policy::new(text), Err(PolicyError::OtherSchema)));
}

#[test]
fn a_country_can_tighten_its_policy() {
    let limit = r#"
@id("no-lease-longer-than-a-day")
@why("this country lends its keys for a day at most")
@next("Open a lease of at most 86,400 seconds.")
forbid (principal, action == Chancery::Action::"open ceremony", resource)
when { context.mode == "lease" && context.lease_seconds > 86400 };
"#;
    let policy = Policy::new(with("limits.cedar", |_| limit.to_owned())).unwrap();
    let json = std::fs::read_to_string(folder().join("cases/open-lease.json")).unwrap();
    let ask = |seconds: &str| {
        let case = Case::read(json.replace("3600", seconds).as_bytes()).unwrap();
        case.ask(&policy).unwrap()
    };
    assert_eq!(ask("86400").unwrap().policy(), "open-by-quorum");
    let no = ask("86401").unwrap_err();
    assert_eq!(no.policies().collect::<Vec<_>>(), ["no-lease-longer-than-a-day"]);
    assert!(no.next().contains("86,400 seconds"), "{no}");
}

/// Cedar leaves out a policy that fails while it is evaluated. A prohibition that fails must not vanish.
#[test]
fn a_policy_that_cannot_be_evaluated_permits_nothing() {
    let failing = r#"
@id("overflows")
@why("arithmetic on what an official wrote can overflow")
@next("Ask for fewer unwraps.")
forbid (principal, action == Chancery::Action::"open ceremony", resource)
when { context.unwraps * 2 > 1000000 };
"#;
    let policy = Policy::new(with("limits.cedar", |_| failing.to_owned())).unwrap();
    let json = std::fs::read_to_string(folder().join("cases/open-lease.json")).unwrap();
    let ask = |unwraps: &str| Case::read(json.replace("100000", unwraps).as_bytes()).unwrap().ask(&policy).unwrap();
    assert_eq!(ask("10").unwrap().policy(), "open-by-quorum");
    let no = ask("18446744073709551615").unwrap_err();
    assert_eq!(no.policies().collect::<Vec<_>>(), ["overflows"]);
    assert!(no.detail().contains("cannot be evaluated, so the answer is no"), "{no}");
}

#[test]
fn a_case_that_says_too_little_or_too_much_is_refused() {
    let policy = Policy::embedded().unwrap();
    let good = std::fs::read_to_string(folder().join("cases/unwrap-its-agent.json")).unwrap();
    let without = |field: &str| {
        let mut json: serde_json::Value = serde_json::from_str(&good).unwrap();
        json.as_object_mut().unwrap().remove(field).unwrap();
        Case::read(json.to_string().as_bytes()).map(|case| case.ask(&policy).map(|_| ()))
    };
    for field in ["lease", "dataset", "hybrid"] {
        match without(field) {
            Ok(Err(CaseError::Missing { missing, .. })) => assert_eq!(missing, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    assert!(matches!(without("who"), Err(CaseError::Json(_))));
    let unknown = good.replace("\"hybrid\"", "\"hybird\"");
    assert!(matches!(Case::read(unknown.as_bytes()), Err(CaseError::Json(_))));
    let act = Case::read(good.replace("\"unwrap\"", "\"unravel\"").as_bytes()).unwrap();
    assert!(matches!(act.ask(&policy), Err(CaseError::Act { .. })));
    assert!(matches!(Case::read(&[b' '; 20_000]), Err(CaseError::TooLong { .. })));
}

#[test]
fn the_command_tells_the_digest_checks_and_asks() {
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_chancery")).arg("policy").args(arguments).output();
        let output = output.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let policy = folder();
    let policy = policy.to_str().unwrap();
    let digest = Policy::embedded().unwrap().digest().to_string();
    assert_eq!(run(&["digest"]), (0, format!("{digest}\n"), String::new()));
    assert_eq!(run(&["digest", policy]), (0, format!("{digest}\n"), String::new()));

    let (code, out, _) = run(&["check", policy]);
    assert!(
        code == 0 && out.contains("permit unwrap-as-its-agent: ") && out.ends_with(&format!("{digest}\n")),
        "{out}"
    );
    let (code, _, err) = run(&["check", "/nowhere"]);
    assert!(code == 1 && err.contains("/nowhere") && err.contains("Name the directory"), "{err}");

    let case = |name: &str| format!("{policy}/cases/{name}.json");
    let (code, out, _) = run(&["ask", &case("unwrap-its-agent")]);
    assert_eq!(code, 0);
    assert!(out.contains("Yes, by the policy unwrap-as-its-agent: the officials saw this agent"), "{out}");
    let (code, _, err) = run(&["ask", &case("unwrap-classical"), "--policy", policy]);
    assert_eq!(code, 1);
    assert!(err.contains("no: policy no-unwrap-unless-hybrid forbids it to agent replica-1"), "{err}");
}

fn key() -> Point {
    Point::mul_generator(SecretScalar::random(&mut OsRng).expose())
}

fn embassy(name: &str, class: HardwareClass, leases: bool) -> CharterEmbassy {
    let handle = |at| NvHandle::new(at).unwrap();
    let handles = CustodyHandles {
        counter: handle(0x0180_0010),
        register: handle(0x0180_0011),
        charter_pin: handle(0x0180_0012),
    };
    let platform = PcrSelection::new(&[0, 4, 7]).unwrap();
    CharterEmbassy { name: EmbassyName::new(name).unwrap(), class, leases, platform, handles }
}

/// Anna and Boris are in both quorums, Greta in the recovery quorum only, Ivo in none; leases are allowed in Luxembourg, and not
/// in Singapore.
fn charter(policy: Hash) -> Charter {
    let name = |name: &str| OfficialName::new(name).unwrap();
    let official = |of: &str| CharterOfficial {
        name: name(of),
        identity: key(),
        hybrid: HybridSecretKey::random(&mut OsRng).public().clone(),
        dkg: key(),
    };
    let rule = |k, members: &[&str]| QuorumRule {
        threshold: Threshold::new(k, u8::try_from(members.len()).unwrap()).unwrap(),
        members: members.iter().map(|member| name(member)).collect(),
    };
    let owner = |of: &str| CharterOwner { name: OwnerName::new(of).unwrap(), key: key() };
    let dataset = |of: &str, owner: &str| CharterDataset {
        name: DatasetName::new(of).unwrap(),
        owner: OwnerName::new(owner).unwrap(),
    };
    Charter::new(CharterParts {
        version: 1,
        founding: None,
        previous: None,
        country: Country::new("EE").unwrap(),
        home: key(),
        officials: ["anna", "boris", "greta", "ivo"].map(official).into(),
        unseal: rule(2, &["anna", "boris"]),
        amend_k: 2,
        recovery: rule(2, &["anna", "boris", "greta"]),
        expiry_max_seconds: 600,
        heartbeat_seconds: 300,
        embassies: vec![
            embassy("luxembourg", HardwareClass::Firmware, true),
            embassy("singapore", HardwareClass::Discrete, false),
        ],
        owners: ["business-board", "land-board"].map(owner).into(),
        datasets: vec![dataset("business-register", "business-board"), dataset("land-register", "land-board")],
        witnesses: vec![CharterWitness { name: WitnessName::new("tallinn").unwrap(), key: key() }],
        policy,
        custody: None,
    })
    .unwrap()
}

#[test]
fn what_the_charter_says_of_somebody_is_what_the_policy_goes_by() {
    let policy = Policy::embedded().unwrap();
    let charter = charter(policy.digest());
    policy.check_charter(&charter).unwrap();
    let asker = |role, name: &str| Asker::new(role, &SubjectName::new(name).unwrap(), &charter);
    let both = [QuorumKind::Unseal, QuorumKind::Recovery];
    assert_eq!(asker(Role::Official, "anna").quorums(), both);
    assert_eq!(asker(Role::Official, "greta").quorums(), [QuorumKind::Recovery]);
    assert_eq!(asker(Role::Official, "ivo").quorums(), []);
    // A name is an official's only in an official's certificate.
    assert_eq!(asker(Role::Agent, "anna").quorums(), []);

    let place = |name: &str| Place::of(&EmbassyName::new(name).unwrap(), &charter);
    let (luxembourg, singapore) = (place("luxembourg").unwrap(), place("singapore").unwrap());
    assert_eq!(place("atlantis"), None);
    let ask = |role, name: &str, act, place| policy.ask(&Question { who: &asker(role, name), act, place });
    let opening = Act::OpenCeremony { mode: Mode::Lease, lease_seconds: 60, unwraps: 1 };
    assert_eq!(ask(Role::Official, "boris", opening, &luxembourg).unwrap().act(), "open ceremony");
    let problem = Problem::from(ask(Role::Official, "boris", opening, &singapore).unwrap_err()).body();
    assert_eq!((problem.code.as_str(), problem.status), ("leases-refused", 403));
    assert!(problem.what_next.contains("Open a release"), "{problem}");
    let problem = Problem::from(ask(Role::Official, "greta", opening, &luxembourg).unwrap_err()).body();
    assert_eq!(problem.code, "policy");
    assert_eq!(problem.who_can_act, "officials of the unseal quorum");

    let land = [DatasetName::new("land-register").unwrap()];
    let ceremony = CeremonyFacts::new("7f3a", &land, None, &charter);
    assert_eq!(ceremony.owners, [OwnerName::new("land-board").unwrap()]);
    assert!(ask(Role::DataOwner, "land-board", Act::WatchCeremony(&ceremony), &luxembourg).is_ok());
    assert!(ask(Role::DataOwner, "business-board", Act::WatchCeremony(&ceremony), &luxembourg).is_err());
    let greta = Some((Role::Official, SubjectName::new("greta").unwrap()));
    let release = CeremonyFacts::new("81c2", &land, greta, &charter);
    assert_eq!(release.mode, Mode::Release);
    assert!(ask(Role::Official, "greta", Act::FetchRelease(&release), &singapore).is_ok());

    let agents = [AgentName::new("replica-1").unwrap()];
    let lease = LeaseFacts::new("7f3a", LeaseState::Live, &agents, &land, &charter);
    let unwrap = |hybrid| Act::Unwrap { lease: &lease, dataset: &land[0], hybrid };
    assert!(ask(Role::Agent, "replica-1", unwrap(true), &luxembourg).is_ok());
    let problem = Problem::from(ask(Role::Agent, "replica-1", unwrap(false), &luxembourg).unwrap_err()).body();
    assert_eq!(problem.code, "hybrid-required");
}

#[test]
fn a_charter_that_names_another_policy_is_not_served_under() {
    let policy = Policy::embedded().unwrap();
    let error = policy.check_charter(&charter(Hash([7; 32]))).unwrap_err();
    assert!(matches!(error, PolicyError::NotTheCharters { found, .. } if found == policy.digest()), "{error:?}");
    let said = error.to_string();
    assert!(said.contains(&"07".repeat(32)) && said.contains("chancery policy digest"), "{said}");
}
