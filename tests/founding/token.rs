//! A founding with an official whose keys are on a token: a wrong PIN gives nothing away, and a token that is pulled, at whichever
//! signature, costs nothing but a new start.

use std::process::Stdio;

use chancery::keys::disk;
use hsm_sim::Token;

use crate::stage::{Stage, command, init, run, until, words_after};

/// More starts than a founding has signatures of one official.
const STARTS_MAX: u32 = 24;

#[test]
fn an_official_whose_token_is_pulled_at_each_signature_goes_on_and_loses_nothing() {
    let token = Token::temporary("anna-card").unwrap();
    let faulty = token.faulty(9).unwrap();
    let mut stage = Stage::with(&["luxembourg"], |at, name| {
        if name != "anna" {
            return init(at, name);
        }
        let module = faulty.module().to_str().unwrap();
        let mut made = command(at, "official init anna --dir anna --token anna-card --token-key identity --pin-fd 0");
        let mut child = made
            .args(["--module", module])
            .env("SOFTHSM2_CONF", token.configuration())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), format!("{}\n", token.pin()).as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    });
    stage.token = Some(("anna", token));
    let machine = words_after(&stage.found("luxembourg"), "the machine, in words");
    let boot_state = stage.boot_state();
    let serve = stage.serve("luxembourg");
    until("the founding's service", &[&serve], || serve.said().contains("officials run"));

    // A wrong PIN: nothing is signed, sent or kept.
    let wrong = stage.official_with("anna", &["--pin-fd", "0"], "000000", &["--once"]);
    until("the refusal", &[&wrong], || wrong.ended().is_some());
    assert_ne!(wrong.ended(), Some(0));
    assert!(wrong.said().contains("the PIN is wrong"), "{}", wrong.said());
    assert!(!stage.path("anna/genesis/journal.bin").exists());
    drop(wrong);

    let words = ["--machine", &machine, "--boot-state", &boot_state];
    let others = ["boris", "clara"].map(|name| stage.official(name, &words));
    let result = stage.path("anna/genesis/result-luxembourg.bin");
    // Each start gets one signature further than the one before it.
    let mut pulled = 0;
    for signature in 1..=STARTS_MAX {
        faulty.pull_at_signature(signature).unwrap();
        let anna = stage.official("anna", &words);
        until("a pulled token, or the result", &[&anna, &others[0], &others[1], &serve], || {
            anna.ended().is_some() || result.exists()
        });
        if result.exists() {
            break;
        }
        pulled += 1;
        assert_ne!(anna.ended(), Some(0));
        let said = anna.said();
        assert_eq!(said.matches("the token was pulled").count(), pulled, "{said}");
        let end: Vec<&str> = said.lines().rev().take(2).collect();
        assert!(end[1].contains("Plug it in and start the command again; nothing was signed"), "{said}");
        assert_eq!(end[0], "What was said before stands; the same command goes on from there");
    }
    assert!(result.exists(), "it never came to an end");
    assert!(pulled >= 4, "it was pulled only {pulled} times");
    let status = serve.said();
    assert!(!status.contains("convicted"), "{status}");
    drop(others);

    // The last signature, which puts the charter in force.
    let file = "completed.charter";
    let charter_words = stage.complete(&["luxembourg"], file);
    faulty.pull_at_signature(1).unwrap();
    let anna = stage.official("anna", &["--charter", file, "--charter-words", &charter_words]);
    until("a pulled token", &[&anna, &serve], || anna.ended().is_some());
    assert_eq!(anna.said().matches("the token was pulled").count(), pulled + 1, "{}", anna.said());
    drop(anna);
    faulty.pull_at_signature(0).unwrap();
    let charter = stage.enforce("luxembourg", file, &charter_words, &serve);
    assert!(charter.authority().to_string().contains("anna"), "{}", charter.authority());

    // What she keeps is whole, and of no use without her token.
    for kind in ["unseal", "recovery"] {
        let share = |name: &str| disk::load(&stage.path(&format!("{name}/share-{kind}-1.key"))).unwrap();
        assert!(share("anna").needs_token() && !share("boris").needs_token());
    }
    let status = run(stage.folder.path(), "-", "official status --here --dir anna");
    assert_eq!(status.matches("your share is here").count(), 2, "{status}");
}
