//! A network is founded with the tools that people use: home's, an embassy's service on simulated hardware, and three officials'
//! machines, each a process of its own, which are stopped in the middle and go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "founding/others.rs"]
mod others;
#[path = "founding/routes.rs"]
mod routes;
#[path = "founding/stage.rs"]
mod stage;
mod support;
#[path = "founding/token.rs"]
mod token;

use chancery::{
    hardware::EmbassyKeys,
    keys::disk,
    protocol::{
        ceremony::genesis::{GenesisResult, Ground},
        charter::{SignedCharter, Signer},
        hash::Hash,
        ids::EmbassyName,
        wire::Document,
        words::Words,
    },
};
use stage::{NAMES, PASSPHRASE, Stage, run, until, words_after};
use support::approved;

#[test]
fn a_network_is_founded_by_people_who_stop_and_go_on() {
    let stage = Stage::new(&["luxembourg"]);
    let said = stage.found("luxembourg");
    let machine = words_after(&said, "the machine, in words");
    let status = run(stage.folder.path(), "-", "embassy status --dir luxembourg");
    assert!(status.contains(&machine) && status.contains("Next: `chancery serve --auths FILE`"), "{status}");
    let ground = Ground::new(stage.founding.charter(), &EmbassyName::new("luxembourg").unwrap()).unwrap();
    let boot_state = Words::of(&Hash::of_bytes(approved(&ground.plan, &stage.profile).as_bytes())).to_string();

    // The keys: all three are needed. Boris comes late, and Anna's machine stops in the middle.
    let serve = stage.serve("luxembourg");
    until("the founding's service", &[&serve], || serve.said().contains("officials run `chancery official genesis`"));
    let anna = stage.official("anna", &["--machine", &machine, "--boot-state", &boot_state]);
    let clara = stage.official("clara", &[]);
    until("a look of Anna's", &[&anna, &serve], || anna.said().contains("missing: boris"));
    drop(anna);
    let boris = stage.official("boris", &["--machine", &machine]);
    let anna = stage.official("anna", &["--machine", &machine, "--boot-state", &boot_state]);
    until("shares for all", &[&anna, &boris, &clara, &serve], || {
        NAMES.iter().all(|name| {
            ["unseal", "recovery"].iter().all(|kind| stage.path(&format!("{name}/share-{kind}-1.key")).exists())
        })
    });

    // The TPM: two approve its first move. The boot state Boris is not told; the service is started again meanwhile.
    until("the second offer", &[&anna, &boris, &clara, &serve], || {
        boris.said().contains("approve this boot state") && anna.said().matches("Approved.").count() >= 2
    });
    assert!(boris.said().contains(&boot_state), "what Boris is asked has the words that all compare: {}", boris.said());
    assert!(boris.said().contains("no words were given: not approved"), "{}", boris.said());
    drop(serve);
    let serve = stage.serve("luxembourg");
    drop(boris);
    // Not these words: nothing is approved.
    let boris = stage.official("boris", &["--boot-state", &machine, "--once"]);
    until("Boris's refusal", &[&boris, &serve], || boris.ended().is_some());
    assert!(boris.said().contains("are not those of this statement"), "{}", boris.said());
    drop(boris);
    let boris = stage.official("boris", &["--boot-state", &boot_state]);
    let result = stage.path("anna/genesis/result-luxembourg.bin");
    until("the result", &[&anna, &boris, &clara, &serve], || result.exists());
    let verified = GenesisResult::decode(&std::fs::read(&result).unwrap()).unwrap().verify(&stage.founding).unwrap();
    assert_eq!(verified.words()[0].1.to_string(), machine);
    assert_eq!(verified.words()[1].1.to_string(), boot_state);
    drop(anna);
    drop(boris);

    // Home completes and signs; an official puts it up; two sign.
    let complete = "home charter complete --home home.crt --charters charters --result \
                    anna/genesis/result-luxembourg.bin --out completed.charter";
    let said = run(stage.folder.path(), "-", complete);
    assert!(said.contains(&machine) && said.contains("BEFORE YOU SIGN"), "{said}");
    let mut completed = SignedCharter::decode(&std::fs::read(stage.path("completed.charter")).unwrap()).unwrap();
    completed.sign(Signer::Home, &stage.home.key.signing).unwrap();
    std::fs::write(stage.path("completed.charter"), completed.encode()).unwrap();
    let words = Words::of(&completed.unverified().hash()).to_string();
    let anna = stage.official("anna", &["--charter", "completed.charter", "--charter-words", &words]);
    let boris = stage.official("boris", &["--charter-words", &words]);
    until("the charter in force for all", &[&anna, &boris, &clara, &serve], || {
        [&anna, &boris, &clara].iter().all(|official| official.ended().is_some())
    });
    for official in [&anna, &boris, &clara] {
        assert_eq!(official.ended(), Some(0), "{}", official.said());
        assert!(official.said().contains("Charter version 2 is in force"), "{}", official.said());
    }
    assert!(anna.said().contains("unseal key") && anna.said().contains("Signed."), "{}", anna.said());

    // Home enrols the TPM's identity key, and the same process serves as an embassy.
    let keys = EmbassyKeys::decode(&std::fs::read(stage.path("luxembourg/keys.bin")).unwrap()).unwrap();
    assert_eq!(keys.counter_first, verified.machine().counter_first);
    stage.enrol("luxembourg", verified.machine().identity_key);
    until("the embassy", &[&serve], || serve.said().contains("ready"));
    assert!(!stage.path("luxembourg/founding.key").exists(), "the founding key is gone");
    let again = run(stage.folder.path(), "-", "official genesis --dir anna");
    assert!(again.contains("is founded: charter version 2"), "{again}");

    // A share that is lost comes back, from another official's copy too.
    let share = stage.path("clara/share-recovery-1.key");
    let before = disk::load(&share).unwrap().public().clone();
    std::fs::remove_file(&share).unwrap();
    let from = "official rebuild recovery --dir clara --from boris/genesis/recovery-recovery-1.bin --passphrase-fd 0";
    assert!(run(stage.folder.path(), PASSPHRASE, from).contains("the same as it was"));
    assert_eq!(*disk::load(&share).unwrap().public(), before);
}
