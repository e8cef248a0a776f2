//! A network's further embassies: one that is founded beside the first under the founding charter, and one that joins a network
//! whose charter has its keys already.

use chancery::{
    keys::{
        disk,
        file::{KeyKind, Unlock},
    },
    protocol::{
        charter::{Charter, CharterParts, SignedCharter, Signer, VerifiedCharter},
        ids::{EmbassyName, OfficialName},
        secret::SecretVec,
        wire::Document,
    },
};
use p256::ecdsa::SigningKey;

use crate::stage::{NAMES, PASSPHRASE, Running, Stage, command, described, run, until, words_after};

fn name(embassy: &str) -> EmbassyName {
    EmbassyName::new(embassy).unwrap()
}

/// The shares that an official has, as they lie on the disk.
fn shares(stage: &Stage) -> Vec<Vec<u8>> {
    let of = |name: &str, kind: &str| std::fs::read(stage.path(&format!("{name}/share-{kind}-1.key"))).unwrap();
    NAMES.iter().flat_map(|name| [of(name, "unseal"), of(name, "recovery")]).collect()
}

/// Waits until an embassy serves under a charter's version.
fn serves(stage: &Stage, embassy: &str, version: u32, serve: &Running) {
    until("the embassy", &[serve], || serve.said().contains("ready"));
    let key = stage.path(&format!("{embassy}/founding.key"));
    assert!(!key.exists(), "the founding key is gone");
    let ask = format!("official status --dir boris --embassy {embassy} --passphrase-fd 0");
    let status = run(stage.folder.path(), PASSPHRASE, &ask);
    let there = status.split("\n\n").find(|part| part.starts_with(embassy)).unwrap_or_else(|| panic!("{status}"));
    assert!(there.contains("serving") && there.contains(&format!("version {version}\n")), "{status}");
}

#[test]
fn two_embassies_are_founded_under_one_charter_with_one_pair_of_keys() {
    let stage = Stage::new(&["luxembourg", "geneva"]);
    let machine = words_after(&stage.found("luxembourg"), "the machine, in words");
    let other = words_after(&stage.found("geneva"), "the machine, in words");
    assert_ne!(machine, other);
    let (luxembourg, geneva) = (stage.serve("luxembourg"), stage.serve("geneva"));

    // At the second embassy nothing can be begun before the keys are made at the first.
    until("both services", &[&luxembourg, &geneva], || {
        [&luxembourg, &geneva].iter().all(|serve| serve.said().contains("officials run `chancery official genesis`"))
    });
    let early = stage.official("anna", &["--embassy", "geneva", "--once"]);
    until("Anna's look", &[&early], || early.ended().is_some());
    assert!(early.said().contains("the quorums' keys, which are made at embassy luxembourg"), "{}", early.said());
    drop(early);

    let first = stage.approve_all("luxembourg", &machine, &stage.founding, &luxembourg);
    let kept = shares(&stage);
    let second = stage.approve_all("geneva", &other, &stage.founding, &geneva);
    assert_eq!(shares(&stage), kept, "nobody's share was made anew");
    let (one, two) = (first.result(), second.result());
    assert!(one.certificates.is_some() && one.certificates == two.certificates, "the same two quorums' keys");
    assert_ne!(first.machine().custody_key, second.machine().custody_key);
    // Each official saw both machines, so nobody is asked about one they have not seen.
    let words = stage.complete(&["luxembourg", "geneva"], "completed.charter");
    let charter = stage.enforce("luxembourg", "completed.charter", &words, &luxembourg);
    let log = std::fs::read_to_string(stage.path("anna.log")).unwrap();
    assert!(log.contains("Signed.") && !log.contains("NOT SEEN"), "{log}");
    let facts =
        [charter.charter().facts(&name("luxembourg")).unwrap(), charter.charter().facts(&name("geneva")).unwrap()];
    assert_eq!(facts[0].unseal().key, facts[1].unseal().key);

    stage.enrol("luxembourg", first.machine().identity_key);
    serves(&stage, "luxembourg", 2, &luxembourg);
    // The charter is in force for the officials; what is left at the second machine is its operator's.
    let mut late = command(
        stage.folder.path(),
        "official genesis --dir anna --embassy geneva --charter completed.charter --passphrase-fd 0",
    );
    let late = late.output().unwrap();
    let said = String::from_utf8(late.stderr).unwrap();
    assert!(!late.status.success() && said.contains("nothing is left to put up"), "{said}");
    assert!(said.contains("puts your copy of that charter (in your charters/) into its"), "{said}");
    drop(geneva);
    std::fs::copy(stage.path("charters/000002.charter"), stage.path("geneva/charters/000002.charter")).unwrap();
    stage.enrol("geneva", second.machine().identity_key);
    let geneva = stage.serve("geneva");
    serves(&stage, "geneva", 2, &geneva);
}

/// An official's signature of a charter.
fn signed_by(stage: &Stage, charter: &mut SignedCharter, official: &str) {
    let file = disk::load(&stage.path(&format!("{official}/identity.key"))).unwrap();
    let passphrase = SecretVec::new(PASSPHRASE.into());
    let secret = file.unlock_scalar(KeyKind::Identity, Unlock::Passphrase(&passphrase)).unwrap();
    let key = SigningKey::from(*secret.expose());
    charter.sign(Signer::Official(OfficialName::new(official).unwrap()), &key).unwrap();
}

/// The next charter, which describes one embassy more: by home and two officials.
fn with_another(stage: &Stage, last: &VerifiedCharter, embassy: &str) {
    let before = last.charter().parts();
    let (version, previous) = (before.version + 1, Some(last.hash()));
    let mut parts = CharterParts { version, founding: Some(last.id()), previous, ..before.clone() };
    parts.embassies.push(described(embassy));
    let mut charter = SignedCharter::unsigned(Charter::new(parts).unwrap());
    charter.sign(Signer::Home, &stage.home.key.signing).unwrap();
    signed_by(stage, &mut charter, "boris");
    signed_by(stage, &mut charter, "clara");
    std::fs::write(stage.path(&format!("charters/{version:06}.charter")), charter.encode()).unwrap();
}

#[test]
fn an_embassy_joins_a_network_whose_keys_were_made_long_ago() {
    let mut stage = Stage::new(&["luxembourg"]);
    let machine = words_after(&stage.found("luxembourg"), "the machine, in words");
    let luxembourg = stage.serve("luxembourg");
    let first = stage.approve_all("luxembourg", &machine, &stage.founding, &luxembourg);
    let kept = shares(&stage);
    let words = stage.complete(&["luxembourg"], "completed.charter");
    let second = stage.enforce("luxembourg", "completed.charter", &words, &luxembourg);
    stage.enrol("luxembourg", first.machine().identity_key);
    serves(&stage, "luxembourg", 2, &luxembourg);

    // The third charter describes another embassy; everybody takes it.
    with_another(&stage, &second, "geneva");
    let third = stage.in_force();
    stage.deliver("geneva");
    for name in NAMES {
        stage.take(name, "charters/000003.charter");
    }
    let machine = words_after(&stage.found("geneva"), "the machine, in words");
    let geneva = stage.serve("geneva");
    let joined = stage.approve_all("geneva", &machine, &third, &geneva);
    assert!(joined.result().certificates.is_none(), "the charter has the keys already");
    assert_eq!(shares(&stage), kept, "nobody's share was made anew");

    let words = stage.complete(&["geneva"], "joined.charter");
    let fourth = stage.enforce("geneva", "joined.charter", &words, &geneva);
    let facts = |charter: &VerifiedCharter, embassy| charter.charter().facts(&name(embassy)).unwrap();
    assert_eq!(facts(&fourth, "geneva").unseal().key, facts(&second, "luxembourg").unseal().key);
    assert_eq!(facts(&fourth, "luxembourg").machine(), facts(&second, "luxembourg").machine());
    stage.enrol("geneva", joined.machine().identity_key);
    serves(&stage, "geneva", 4, &geneva);

    // The first embassy goes on under it.
    drop(luxembourg);
    for version in ["000003", "000004"] {
        let file = format!("charters/{version}.charter");
        std::fs::copy(stage.path(&file), stage.path(&format!("luxembourg/{file}"))).unwrap();
    }
    let luxembourg = stage.serve("luxembourg");
    serves(&stage, "luxembourg", 4, &luxembourg);
}
