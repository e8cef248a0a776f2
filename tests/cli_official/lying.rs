//! An embassy with its own true key and certificates, whose API lies: what officials see then, and what they do not sign.

use std::sync::{Arc, Mutex};

use chancery::{
    client::{
        api::{CharterPage, DocumentBody, PROBLEM_JSON, Problem, RevocationList},
        ceremonies::{CeremonyPage, CeremonyView},
    },
    keys::issue::{self, IssuerName},
};
use serde::Serialize;

use super::*;
use crate::server::{Answered, Server, Setup};

/// What the lying embassy shows.
#[derive(Clone)]
struct Shown {
    list: Vec<u8>,
    views: Vec<CeremonyView>,
    offer: Option<SignedOffer>,
    refusal: Option<Problem>,
}

fn json(value: &impl Serialize) -> Answered {
    Answered::With(200, "application/json", serde_json::to_string(value).unwrap())
}

fn answer(shown: &Shown, path: &str) -> Answered {
    if let Some(problem) = &shown.refusal {
        return Answered::With(403, PROBLEM_JSON, serde_json::to_string(problem).unwrap());
    }
    match path {
        "/v1/revocations" => {
            let document = DocumentBody::of_bytes(&shown.list).document;
            json(&RevocationList { document, number: 7, until: 0 })
        }
        "/v1/charters" => json(&CharterPage { documents: Vec::new(), in_force: 2 }),
        "/v1/ceremonies" => json(&CeremonyPage { ceremonies: shown.views.clone(), next: None }),
        _ if path.ends_with("/offer") && shown.offer.is_some() => {
            json(&DocumentBody::of(shown.offer.as_ref().unwrap()))
        }
        _ => Answered::With(404, "text/plain", String::new()),
    }
}

/// Serves what is shown, with the network's own certificates; anna's settings name its address.
async fn serve(network: &Network, shown: &Arc<Mutex<Shown>>) -> Server {
    let name = |role| identity(role, "luxembourg");
    let authority = network.home.issue(&request(name(Role::EmbassyAuthority), network.embassy.point()));
    let issuer = IssuerName { country: network.home.name.country, identity: name(Role::EmbassyAuthority) };
    let key = Key::new();
    let leaf = request(name(Role::Embassy), key.point());
    let leaf = issue::certificate(&issuer, &network.embassy.signer, &leaf, &mut OsRng).unwrap();
    let shown = Arc::clone(shown);
    let server = Setup::of(vec![leaf, authority], Arc::new(key.signer))
        .start(move |_, path, _| answer(&shown.lock().unwrap(), path))
        .await;
    let place = format!("luxembourg={}", server.url);
    fine(network.run(&["connect", "--dir", "anna", "--embassy", &place]));
    server
}

fn view(statement: &SignedStatement) -> CeremonyView {
    CeremonyView {
        id: statement.unverified().id().to_string(),
        phase: "collecting".to_owned(),
        statement: DocumentBody::of(statement),
        attempt: 1,
        contributed: vec!["boris".to_owned()],
        need: 3,
        missing: vec!["anna".to_owned(), "clara".to_owned()],
        denied: Vec::new(),
        denials_that_end: 3,
        culprits: Vec::new(),
        trouble: None,
        outcome: None,
        lease: None,
        next: "two more officials approve".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_embassy_says_is_checked_and_escaped_and_its_lies_get_no_signature() {
    let mut network = Network::new();
    network.ready(0);
    let statement = network.signed(network.statement());
    let (other, key) = (network.signed(network.statement()), HybridSecretKey::random(&mut OsRng));
    let honest = Shown {
        list: network.home.list(7, &[]),
        views: vec![view(&statement)],
        offer: Some(network.offer(statement.clone(), &key)),
        refusal: None,
    };
    let shown = Arc::new(Mutex::new(honest.clone()));
    let _server = serve(&network, &shown).await;
    let show = |change: &dyn Fn(&mut Shown)| {
        let mut now = honest.clone();
        change(&mut now);
        *shown.lock().unwrap() = now;
    };
    let run = |arguments: &[&str]| {
        let ran = network.run(&[arguments, &["--dir", "anna", "--passphrase-fd", "0"]].concat());
        let plain = |text: &str| text.chars().all(|c| c == '\n' || !c.is_control()) && !text.contains('\u{202e}');
        assert!(plain(&ran.out) && plain(&ran.err), "what was read reached the terminal:\n{}{}", ran.out, ran.err);
        ran
    };
    let words = statement.unverified().words().to_string();
    let says = |arguments: &[&str], expected: &[&str]| {
        let ran = run(arguments);
        let err = refused(&ran);
        assert!(expected.iter().all(|word| err.contains(word)), "{err} does not say {expected:?}");
    };
    let id = statement.unverified().id().to_string();
    let approve = ["approve", &id[..8], "--yes-i-read", &words];

    let said = fine(run(&["review"]));
    assert!(said.contains("missing                  anna (YOU), clara") && said.contains("2 of 2 slots"), "{said}");

    // Another statement's offer under this ceremony's name: even with the words of the one that is read.
    show(&|shown| shown.offer = Some(network.offer(other.clone(), &key)));
    says(&approve, &["offers another statement", "tell the others", "Nothing was signed"]);
    // A statement under another's name, and one that its opener never signed.
    show(&|shown| shown.views[0].id = other.unverified().id().to_string());
    says(&["inbox"], &["another ceremony's name"]);
    let forged = SignedStatement::sign(statement.unverified().clone(), &Key::new().signing).unwrap();
    show(&|shown| shown.views[0].statement = DocumentBody::of(&forged));
    says(&approve, &["not signed by boris"]);
    // An offer that another key signed.
    let unsigned = network.offer(statement.clone(), &key).unverified().clone();
    let unsigned = SignedOffer::sign(unsigned, &Key::new().signing).unwrap();
    show(&|shown| shown.offer = Some(unsigned.clone()));
    says(&approve, &["not signed by the identity key of embassy luxembourg"]);
    // "You have approved already" is the embassy's word; it costs anna's approval and nothing else.
    show(&|shown| shown.views[0].contributed.push("anna".to_owned()));
    assert!(fine(run(&approve)).contains("Nothing to do"));
    // Text that would clear the screen, turn the line around, or write lines of its own.
    let evil = "all is well\u{1b}[2J\u{202e}\nchancery: approved";
    show(&|shown| {
        let view = &mut shown.views[0];
        (view.trouble, view.next) = (Some(evil.to_owned()), evil.to_owned());
        (view.lease, view.missing) = (Some(evil.to_owned()), vec![evil.to_owned()]);
    });
    for arguments in [&["inbox"][..], &["review"], &["status", &id[..8]]] {
        let ran = run(arguments);
        assert!(!ran.out.contains("\nchancery: approved"), "{}", ran.out);
    }
    show(&|shown| {
        shown.refusal = Some(Problem {
            kind: "urn:chancery:problem:policy".to_owned(),
            code: "policy".to_owned(),
            title: evil.to_owned(),
            detail: evil.to_owned(),
            who_can_act: evil.to_owned(),
            what_next: evil.to_owned(),
            status: 403,
        });
    });
    says(&approve, &["luxembourg refused: all is well\\u{1b}[2J"]);
    // An older list than anna has is told, and not taken.
    show(&|shown| shown.list = network.home.list(6, &[]));
    let said = fine(run(&["inbox"]));
    assert!(said.contains("luxembourg still has revocation list 6; you have 7"), "{said}");
    assert!(fine(run(&["status", "--here"])).contains("revocation list          7, until"));
}

/// Types at a terminal that script(1) makes; the passphrase comes through another descriptor.
fn type_in(network: &Network, typed: &str, to: &str) -> (bool, String) {
    network.write("passphrase", format!("{PASSPHRASE}\n").as_bytes());
    let chancery = env!("CARGO_BIN_EXE_chancery");
    let line = format!(
        "'{chancery}' official approve --dir anna --offline offer.bin --out {to} --passphrase-fd 7 7<passphrase"
    );
    let mut child = Command::new("script")
        .args(["-qefc", &line, "/dev/null"])
        .current_dir(network.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script(1) of bsdutils is part of every Debian");
    // Each line is typed once it is asked for; script would drop what comes before the terminal is made.
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (mut said, mut lines) = (Vec::new(), typed.lines());
    let mut buffer = [0; 4096];
    let mut asked = 0;
    while let Ok(count @ 1..) = std::io::Read::read(&mut stdout, &mut buffer) {
        said.extend_from_slice(&buffer[..count]);
        let now = String::from_utf8_lossy(&said).matches("Enter alone leaves: ").count();
        while asked < now {
            asked += 1;
            let line = lines.next().unwrap_or_default();
            stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
    }
    drop(stdin);
    (child.wait().unwrap().success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn at_a_terminal_the_words_are_asked_for_and_enter_alone_leaves() {
    let mut network = Network::new();
    network.ready(0);
    let (_, _, words) = network.offered();
    let (done, said) = type_in(&network, "", "left.approval");
    assert!(!done && said.contains("you did not agree"), "{said}");
    let (done, said) = type_in(&network, "yes\nof course\nabandon\n", "wrong.approval");
    assert!(!done && said.contains("the words were typed wrongly 3 times"), "{said}");
    assert!(said.contains("`stop` ends it; doing nothing lets it expire"), "{said}");
    let (done, said) = type_in(&network, &format!("{}\n{words}\n", words.to_uppercase() + " zoo"), "anna.approval");
    assert!(done && said.contains("These are not the words.") && said.contains("approval written to"), "{said}");
    assert!(network.path("anna.approval").exists());
    assert!(!network.path("left.approval").exists() && !network.path("wrong.approval").exists());
}
