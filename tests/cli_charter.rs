//! A charter's life at the command line: drafted, signed by those who may, joined, verified, completed; and every refusal.
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
    pub mod network;
}

use std::path::Path;

use chancery::{
    keys::file::{KeyKind, PrivateKey},
    protocol::{
        access::AccessText,
        certificate::HomeAuthority,
        charter::{CharterMachine, SignedCharter, Signer},
        ids::QuorumKind,
        wire::Document,
        words::Words,
    },
};
use cli::network::{
    CHAIN, PASSPHRASE, completed, draft, fine, founded, generate, hash_of, made, people, point, refused, run, run_with,
    secret, sign, store_key, store_official, store_public,
};

fn charter(at: &Path, file: &str) -> SignedCharter {
    SignedCharter::decode(&std::fs::read(at.join(file)).unwrap()).unwrap()
}

#[test]
fn the_example_draft_founds_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fine(run(
        at,
        "home init --name registrar --country EE --trust-domain registers.example --key init.key --dir home \
         --passphrase-fd 0",
    ));
    for name in ["anna", "boris", "clara", "david", "eva"] {
        store_official(at, name);
    }
    for (name, file) in [("land-board", "owner.pub"), ("tallinn", "witness.pub")] {
        std::fs::create_dir(at.join(name)).unwrap();
        store_public(&at.join(name).join(file), &point(name));
    }
    let example = fine(run(at, "home charter new --example"));
    std::fs::write(at.join("founding.toml"), &example).unwrap();
    let said = fine(run(at, "home charter new --draft founding.toml --out founding.charter"));
    assert!(said.contains(&AccessText::embedded().digest().to_string()), "{said}");
    for words in ["3 of 5: anna, boris, clara, david, eva", "class firmware, leases allowed", "It founds the network"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    let said = fine(sign(at, "founding.charter", "home", "signed.charter", ""));
    assert!(said.contains("in force: founded by the home authority"), "{said}");
    let said = fine(run(at, &format!("home charter verify signed.charter --add {CHAIN}")));
    assert!(said.contains("added to charters") && at.join("charters/0001.charter").exists(), "{said}");
    let said = fine(run(at, &format!("home charter show charters/0001.charter {CHAIN}")));
    assert!(said.contains("signed by the home authority\nin force"), "{said}");
    // The example that follows it: who is known needs no files, and every change is said.
    std::fs::create_dir(at.join("tartu")).unwrap();
    store_public(&at.join("tartu/witness.pub"), &point("tartu"));
    std::fs::write(at.join("next.toml"), include_str!("../policy/charters/two-embassies.toml")).unwrap();
    let said = fine(run(at, &format!("home charter new --draft next.toml {CHAIN} --out next.charter")));
    for words in ["+ geneva  class discrete, release only", "+ cadastral-map  of land-board", "+ tartu  witness's key"]
    {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    assert!(!said.contains("+ anna") && !said.contains("- luxembourg"), "{said}");
    // Every comment of the example is about a field that there is.
    for field in ["card_hash", "platform_pcrs", "heartbeat_seconds", "nv_charter_pin"] {
        assert!(example.contains(field), "{field}");
    }
}

#[test]
fn every_mistake_in_a_draft_is_said_with_its_line() {
    let folder = people();
    let at = folder.path();
    store_official(at, "mallory");
    let card_of = |name: &str| format!("card = \"{name}/card.bin\"");
    let cases: [(&str, &str, Option<&str>, &[&str]); 24] = [
        ("country = \"EE\"", "country = \"Estonia\"", Some("country"), &["Estonia", "ISO 3166-1"]),
        ("country = \"EE\"", "country = \"LV\"", Some("home = "), &["of EE", "of LV"]),
        ("home/home.crt", "nowhere.crt", Some("home = "), &["nowhere.crt"]),
        ("home = \"home/home.crt\"\n", "", None, &["missing field `home`"]),
        ("expiry_max_seconds = 600\n", "", None, &["missing field `expiry_max_seconds`"]),
        ("expiry_max_seconds = 600", "expiry_max_seconds = 0", Some("expiry_max"), &["expiry", "0"]),
        ("heartbeat_seconds = 300", "heartbeat_seconds = 0", Some("heartbeat"), &["heartbeat", "0"]),
        ("heartbeat_seconds = 300", "heartbeat = 300", Some("heartbeat ="), &["unknown field `heartbeat`"]),
        ("policy = \"11", "policy = \"zz", Some("policy"), &["64 hexadecimal digits"]),
        ("[unseal]\nk = 2", "[unseal]\nk = 4", Some("k = 4"), &["never be reached by 3 officials"]),
        ("[unseal]\nk = 2", "[unseal]\nk = 0", Some("k = 0"), &["threshold"]),
        ("[amend]\nk = 2", "[amend]\nk = 1", Some("k = 1"), &["amend", "below"]),
        ("[recovery]\nk = 3", "[recovery]\nk = 1", Some("k = 1"), &["recovery quorum", "below"]),
        (
            "k = 2\nmembers = [\"anna\"",
            "k = 2\nmembers = [\"mallory\"",
            Some("members = [\"mallory"),
            &["mallory", "unknown"],
        ),
        ("name = \"boris\"", "name = \"Boris\"", Some("name = \"Boris"), &["Boris", "1 to 63 characters"]),
        (&card_of("boris"), &card_of("anna"), Some("card = \"anna"), &["the card of anna"]),
        (&card_of("boris"), "card = \"tallinn.pub\"", Some("card = \"tallinn"), &["no official's card"]),
        (&card_of("boris"), "", Some("name = \"boris"), &["no `card`"]),
        ("class = \"firmware\"", "class = \"tpm\"", Some("class"), &["discrete, firmware"]),
        ("[0, 7]", "[0, 16]", Some("name = \"luxembourg"), &["PCR 16"]),
        ("0x01800011", "0x01800010", Some("name = \"luxembourg"), &["NV indices", "handle"]),
        ("0x01800010", "0x81000001", Some("nv_counter"), &["0x81000001"]),
        ("owner = \"land-board\"", "owner = \"nobody\"", Some("owner = \"nobody"), &["nobody", "unknown"]),
        ("key = \"tallinn.pub\"", "key = \"land-board.pub\"", Some("name = \"tallinn"), &["one key", "land-board"]),
    ];
    for (from, to, place, words) in cases {
        let text = draft().replacen(from, to, 1);
        assert_ne!(text, draft(), "{from} is not in the draft");
        std::fs::write(at.join("wrong.toml"), &text).unwrap();
        let err = refused(run(at, "home charter new --draft wrong.toml --out wrong.charter"), words);
        if let Some(place) = place {
            // The last line with these words: a repeated name is wrong where it stands again.
            let lines = text.lines().enumerate().filter(|(_, line)| line.contains(place));
            let numbers: Vec<String> = lines.map(|(at, _)| format!("wrong.toml, line {}: ", at + 1)).collect();
            assert!(numbers.iter().any(|number| err.contains(number)), "{err} names none of {numbers:?}");
        }
        assert!(!at.join("wrong.charter").exists());
    }
    let leaseless = draft().replace("[[witness]]\nname = \"tallinn\"\nkey = \"tallinn.pub\"\n", "");
    std::fs::write(at.join("wrong.toml"), leaseless).unwrap();
    refused(run(at, "home charter new --draft wrong.toml --out wrong.charter"), &["luxembourg", "no witness"]);
    let hashed =
        draft().replace(&card_of("boris"), &format!("{}\ncard_hash = \"{}\"", card_of("boris"), "0".repeat(32)));
    std::fs::write(at.join("wrong.toml"), hashed).unwrap();
    refused(run(at, "home charter new --draft wrong.toml --out wrong.charter"), &["card of boris has another hash"]);
    std::fs::write(at.join("wrong.toml"), [b"country = \"EE\"\n\xff".as_slice()].concat()).unwrap();
    refused(run(at, "home charter new --draft wrong.toml --out wrong.charter"), &["line 2", "UTF-8"]);
}

#[test]
fn a_founding_charter_is_homes_and_of_its_country() {
    let folder = people();
    let at = folder.path();
    fine(run(at, "home charter new --draft draft.toml --out founding.charter"));
    refused(
        run(at, &format!("home charter verify founding.charter --add {CHAIN}")),
        &["founding.charter is refused", "signature of the home authority"],
    );
    assert!(!at.join("charters").exists());
    // Only home signs it, and only with home's key.
    refused(sign(at, "founding.charter", "official:anna", "by-anna.charter", ""), &["signed by home alone"]);
    let confirm = hash_of(at, "founding.charter");
    let by = |key: &str, confirm: &str| {
        run(
            at,
            &format!(
                "home charter sign founding.charter --home home/home.crt --key {key} --confirm {confirm} --out x.charter \
                 --passphrase-fd 0"
            ),
        )
    };
    refused(by("anna/identity.key", &confirm), &["an identity key", "home authority's key is needed"]);
    store_key(&at.join("other.key"), KeyKind::Home, "other", &PrivateKey::Scalar(secret("another home")));
    refused(by("other.key", &confirm), &["not the key that signs as the home authority"]);
    // Nobody signs what they did not compare.
    for typed in [&confirm[..11], "000000000000", "yes"] {
        refused(by("init.key", typed), &["not the beginning of this charter's hash", "Nothing was signed"]);
    }
    assert!(!at.join("x.charter").exists());
    // Words are as good as digits, in whatever case.
    let words = Words::of(&charter(at, "founding.charter").unverified().hash()).to_string();
    let arguments =
        "home charter sign founding.charter --home home/home.crt --key init.key --out x.charter --passphrase-fd 0";
    let by_words = |words: &str| {
        let arguments: Vec<&str> = arguments.split_whitespace().chain(["--confirm", words]).collect();
        run_with(at, &arguments, format!("{PASSPHRASE}\n").as_bytes())
    };
    let four: Vec<&str> = words.split(' ').take(4).collect();
    refused(by_words(&four.join(" ")), &["not the beginning"]);
    refused(by_words(&words.replacen(' ', " zoo ", 1)), &["not the beginning"]);
    assert!(fine(by_words(&words.to_uppercase())).contains(&words));

    // Another home authority, and another country.
    fine(sign(at, "founding.charter", "home", "signed.charter", ""));
    for (country, words) in [("EE", "another home authority"), ("LV", "a charter of EE; LV was expected")] {
        fine(run(
            at,
            &format!(
                "home init --name registrar --country {country} --trust-domain registers.example --key {country}.key --dir \
                 {country} --passphrase-fd 0"
            ),
        ));
        refused(
            run(at, &format!("home charter verify signed.charter --home {country}/home.crt --charters charters")),
            &[words],
        );
    }
    let shown = fine(run(at, "home charter show signed.charter"));
    assert!(shown.contains("signed by the home authority, as it says. Nothing was checked"), "{shown}");
}

#[test]
fn a_successor_is_signed_apart_joined_and_never_forgotten() {
    let folder = founded();
    let at = folder.path();
    // Kept keys need no files; the only change is a threshold.
    let keyless: String = draft()
        .lines()
        .filter(|line| !line.starts_with("card") && !line.starts_with("key") && !line.starts_with("home"))
        .map(|line| format!("{line}\n"))
        .collect();
    let next = keyless.replace("expiry_max_seconds = 600", "expiry_max_seconds = 300");
    std::fs::write(at.join("next.toml"), next).unwrap();
    let said = fine(run(at, &format!("home charter new --draft next.toml {CHAIN} --out next.charter")));
    assert!(
        said.contains("What it changes of version 1") && said.contains("+ an approval is good for at most 300 s"),
        "{said}"
    );
    assert!(!said.contains("+ anna"), "{said}");

    let chained = "--charters charters";
    let said = fine(sign(at, "next.charter", "home", "by-home.charter", chained));
    assert!(said.contains("0 of 2 officials") && said.contains("chancery home charter join"), "{said}");
    fine(sign(at, "next.charter", "official:boris", "by-boris.charter", chained));
    fine(sign(at, "next.charter", "official:clara", "by-clara.charter", chained));
    // Anna's key does not sign as boris, and mallory is nobody.
    store_official(at, "mallory");
    refused(
        sign(at, "next.charter", "official:mallory", "x.charter", chained),
        &["mallory is not in the unseal quorum"],
    );
    std::fs::copy(at.join("boris/identity.key"), at.join("boris.key")).unwrap();
    std::fs::copy(at.join("anna/identity.key"), at.join("boris/identity.key")).unwrap();
    refused(sign(at, "next.charter", "official:boris", "x.charter", chained), &["not the key that signs as boris"]);
    std::fs::copy(at.join("boris.key"), at.join("boris/identity.key")).unwrap();

    let join = |copies: &str, to: &str| run(at, &format!("home charter join {copies} {CHAIN} --out {to}"));
    let said = fine(join("by-home.charter by-boris.charter", "few.charter"));
    assert!(said.contains("signed by the home authority, boris") && said.contains("1 of 2 officials"), "{said}");
    refused(run(at, &format!("home charter verify few.charter --add {CHAIN}")), &["not in force", "join"]);
    // A signature that somebody made up in clara's name.
    let mut forged = charter(at, "next.charter");
    let clara = Signer::Official("clara".parse().unwrap());
    forged.sign(clara, &p256::ecdsa::SigningKey::from(*secret("mallory identity").expose())).unwrap();
    std::fs::write(at.join("forged.charter"), forged.encode()).unwrap();
    refused(
        join("by-home.charter forged.charter", "x.charter"),
        &["forged.charter is refused", "clara does not verify"],
    );
    let other = keyless.replace("expiry_max_seconds = 600", "expiry_max_seconds = 301");
    std::fs::write(at.join("other.toml"), other).unwrap();
    fine(run(at, &format!("home charter new --draft other.toml {CHAIN} --out other.charter")));
    refused(join("by-home.charter other.charter", "x.charter"), &["other.charter is another charter"]);
    let said = fine(join("by-home.charter by-boris.charter by-clara.charter", "second.charter"));
    assert!(said.contains("in force: signed by the home authority and boris, clara"), "{said}");

    let said = fine(run(at, &format!("home charter verify second.charter --add {CHAIN}")));
    assert!(said.contains("in force: version 2 of EE"), "{said}");
    // Verifying it again is no mistake; a second version 2 is.
    fine(run(at, &format!("home charter verify second.charter {CHAIN}")));
    refused(sign(at, "other.charter", "home", "x.charter", chained), &["another version 2 is in force already"]);
    // An older chain is shown to a machine that has seen version 2.
    std::fs::rename(at.join("charters/0002.charter"), at.join("away")).unwrap();
    refused(
        run(at, &format!("home charter verify {CHAIN}")),
        &["version 1 was offered, and version 2 was seen before"],
    );
    // So it is where a machine was made to forget in part: what it remembers must read.
    let network = charter(at, "charters/0001.charter").unverified().id().to_string();
    let memory = at.join("state/chancery").join(network).join("charter.seen");
    std::fs::write(&memory, b"nothing").unwrap();
    refused(run(at, &format!("home charter verify {CHAIN}")), &["charter.seen is damaged"]);
    std::fs::remove_file(memory).unwrap();
    std::fs::rename(at.join("away"), at.join("charters/0002.charter")).unwrap();
    fine(run(at, &format!("home charter verify {CHAIN}")));
    // A gap.
    std::fs::remove_file(at.join("charters/0001.charter")).unwrap();
    refused(
        run(at, &format!("home charter verify {CHAIN}")),
        &["0002.charter is refused", "does not follow version 0"],
    );
}

#[test]
fn the_recovery_quorum_alone_is_loud() {
    let folder = founded();
    let at = folder.path();
    std::fs::write(at.join("next.toml"), draft().replace("= 600", "= 300")).unwrap();
    fine(run(at, &format!("home charter new --draft next.toml {CHAIN} --out next.charter")));
    for name in cli::network::NAMES {
        let to = format!("by-{name}.charter");
        fine(sign(at, "next.charter", &format!("recovery:{name}"), &to, "--charters charters"));
    }
    let said = fine(run(
        at,
        &format!("home charter join by-anna.charter by-boris.charter by-clara.charter {CHAIN} --out second.charter"),
    ));
    assert!(said.contains("SIGNED BY THE RECOVERY QUORUM ALONE, WITHOUT HOME"), "{said}");
    let said = fine(run(at, &format!("home charter verify second.charter --add {CHAIN}")));
    assert!(said.contains("version 2  ATTENTION: SIGNED BY THE RECOVERY QUORUM ALONE"), "{said}");
}

#[test]
fn a_charter_is_completed_with_what_its_officials_certified() {
    let folder = founded();
    let at = folder.path();
    made(at);
    let complete = |unseal: &str, recovery: &str, machine: &str| {
        run(
            at,
            &format!(
                "home charter complete {CHAIN} --unseal {unseal} --recovery {recovery} --machine {machine} --out \
                 completed.charter"
            ),
        )
    };
    refused(
        complete("recovery.dkg", "unseal.dkg", "luxembourg.machine"),
        &["recovery.dkg is not the unseal quorum's certificate"],
    );
    refused(complete("unseal.dkg", "recovery.dkg", "unseal.dkg"), &["an embassy's TPM keys"]);
    refused(
        run(at, &format!("home charter complete {CHAIN} --machine luxembourg.machine --out completed.charter")),
        &["no quorum's key yet", "--unseal FILE and --recovery FILE"],
    );
    let mut machine = CharterMachine::decode(&std::fs::read(at.join("luxembourg.machine")).unwrap()).unwrap();
    machine.custody_key = point("tallinn");
    std::fs::write(at.join("twice.machine"), machine.encode()).unwrap();
    refused(complete("unseal.dkg", "recovery.dkg", "twice.machine"), &["witness tallinn", "one key"]);

    let said = fine(complete("unseal.dkg", "recovery.dkg", "luxembourg.machine"));
    assert!(said.contains("+ custody, generation 1") && said.contains("+ luxembourg  custody key"), "{said}");
    // An official signs for a quorum's key only where their own certificate gives it.
    let signed = |more: &str, to: &str| {
        sign(at, "completed.charter", "official:anna", to, &format!("--charters charters {more}"))
    };
    refused(signed("", "x.charter"), &["a new unseal key", "Give the certificate"]);
    refused(signed("--certificate recovery.dkg", "x.charter"), &["a new unseal key"]);
    std::fs::write(at.join("anna.recovery"), generate(at, QuorumKind::Unseal)[0].recovery.encode()).unwrap();
    let said = fine(signed("--certificate anna.recovery --certificate recovery.dkg", "by-anna.charter"));
    assert!(said.contains("The new unseal key is the one that your certificate gives"), "{said}");

    // A second machine for the same embassy, or the same keys again, are no completion.
    let folder = completed();
    let at = folder.path();
    refused(
        run(at, &format!("home charter complete {CHAIN} --machine luxembourg.machine --out x.charter")),
        &["luxembourg has its keys already"],
    );
    refused(
        run(
            at,
            &format!(
                "home charter complete {CHAIN} --unseal unseal.dkg --recovery recovery.dkg --machine luxembourg.machine --out \
                 x.charter"
            ),
        ),
        &["generation 1", "Leave --unseal and --recovery out"],
    );
}

#[test]
fn an_embassy_is_enrolled_with_the_key_that_the_charter_names() {
    let folder = founded();
    let at = folder.path();
    store_public(&at.join("founding.pub"), &point("founding"));
    store_public(&at.join("identity.pub"), &point("embassy identity"));
    let enrol = |at: &Path, more: &str, to: &str| {
        run(
            at,
            &format!("home enrol {more} --charters charters --key init.key --dir home --out {to} --passphrase-fd 0"),
        )
    };
    refused(enrol(at, "luxembourg", "x.crt"), &["names no identity key of luxembourg", "--founding"]);
    refused(enrol(at, "luxembourg --from identity.pub", "x.crt"), &["names no identity key of luxembourg"]);
    refused(enrol(at, "atlantis --from founding.pub --founding", "x.crt"), &["has no embassy atlantis"]);
    refused(enrol(at, "luxembourg --from anna/card.bin --founding", "x.crt"), &["no request or public key"]);
    refused(enrol(at, "luxembourg --from founding.pub --founding --days 61", "x.crt"), &["at most 60 days"]);
    let said = fine(enrol(at, "luxembourg --from founding.pub --founding", "founding.crt"));
    assert!(
        said.contains("spiffe://registers.example/embassy/luxembourg") && said.contains("a founding key"),
        "{said}"
    );

    let folder = completed();
    let at = folder.path();
    store_public(&at.join("founding.pub"), &point("founding"));
    std::fs::write(at.join("identity.point"), point("embassy identity").encode()).unwrap();
    refused(enrol(at, "luxembourg --from founding.pub", "x.crt"), &["the charter in force names the one with hash"]);
    refused(enrol(at, "luxembourg --from founding.pub --founding", "x.crt"), &["Enrol that one, without --founding"]);
    assert!(!at.join("x.crt").exists());
    for (more, to) in [("luxembourg", "one.crt"), ("luxembourg --from identity.point", "two.crt")] {
        let said = fine(enrol(at, more, to));
        assert!(said.contains("the charter's key") && said.contains("read its key hash to you"), "{said}");
        let der = |path: &Path| {
            let text = std::fs::read_to_string(path).unwrap();
            x509_parser::pem::parse_x509_pem(text.as_bytes()).unwrap().1.contents
        };
        let home = HomeAuthority::known(&der(&at.join("home/home.crt"))).unwrap();
        let list = home.revocations(&der(&at.join("home/home.crl"))).unwrap();
        let now = chancery::protocol::certificate::UnixTime(
            i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
                .unwrap(),
        );
        let authority = home.embassy_authority(&der(&at.join(to)), &list, now).unwrap();
        assert_eq!(*authority.certified().key(), point("embassy identity"));
        assert_eq!(authority.certified().identity().name.as_str(), "luxembourg");
    }
}
