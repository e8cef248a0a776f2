//! The house rules that a machine can check. Each failure names the better choice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::path::{Path, PathBuf};

use chancery::protocol::label::Label;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file below `folders`, with its text.
fn sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut pending: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut found = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = read(&path);
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources below {folders:?}");
    found.sort();
    found
}

/// The lines of a file before its unit tests. A `mod tests;` that stands in a file of its own ends nothing.
fn library_lines(text: &str) -> impl Iterator<Item = &str> {
    let next = text.lines().skip(1).chain(std::iter::once(""));
    text.lines()
        .zip(next)
        .take_while(|(line, next)| !(line.starts_with("#[cfg(test)]") && next.ends_with("mod tests {")))
        .map(|(line, _)| line)
        .filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn what_stands_behind_a_module_of_tests_is_looked_at_too() {
    let lines = |text: &'static str| library_lines(text).collect::<Vec<_>>();
    assert_eq!(lines("a\n#[cfg(test)]\nmod tests;\nb"), ["a", "#[cfg(test)]", "mod tests;", "b"]);
    assert_eq!(lines("a\n// b\n#[cfg(test)]\npub(crate) mod tests {\nc"), ["a"]);
}

#[test]
fn every_file_opens_by_saying_what_it_holds() {
    for (path, text) in sources(&["src", "tests", "benches", "examples", "hsm-sim/src", "hsm-sim/tests"]) {
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("//! ") && first.len() > 20,
            "{}: open the file with a `//!` paragraph that says what it holds and trusts",
            path.display()
        );
    }
}

#[test]
fn the_protocol_is_pure() {
    let forbidden = [
        ("std::fs", "hand the bytes in"),
        ("std::net", "hand the bytes in"),
        ("std::time::SystemTime", "take the time as an argument"),
        ("std::time::Instant", "take the time as an argument"),
        ("std::env", "take the setting as an argument"),
        ("std::thread", "leave threads to the driver"),
        ("OsRng", "take `rng` as an argument"),
        ("thread_rng", "take `rng` as an argument"),
        ("tss_esapi", "the arrow points from hardware to protocol"),
        ("HashMap", "use BTreeMap: iteration order must not depend on the process"),
    ];
    for (path, text) in sources(&["src/protocol"]) {
        if path.ends_with("tests.rs") {
            continue;
        }
        let paths = named_paths(&text);
        for line in paths.iter().map(String::as_str).chain(library_lines(&text)) {
            for (word, better) in forbidden {
                assert!(!line.contains(word), "{}: `{word}` in the pure protocol; {better}:\n{line}", path.display());
            }
        }
    }
}

/// The paths that a file names, `use` trees flattened: `use crate::{a::B, c};` names `crate::a::B` and `crate::c`.
fn named_paths(text: &str) -> Vec<String> {
    let code = library_lines(text).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for tree in code.split("use ").skip(1).filter_map(|rest| rest.split(';').next()) {
        flatten("", tree.trim(), &mut found);
    }
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    found
        .extend(code.split(|c| !word(c)).filter(|path| path.contains("::") && !path.ends_with(':')).map(str::to_owned));
    found
}

fn flatten(before: &str, tree: &str, found: &mut Vec<String>) {
    let Some((head, rest)) = tree.split_once('{') else {
        return found.push(format!("{before}{}", tree.split(" as ").next().unwrap_or(tree).trim()));
    };
    let before = format!("{before}{}", head.trim());
    let (mut depth, mut from) = (0, 0);
    let inner = &rest[..rest.rfind('}').unwrap_or(rest.len())];
    for (at, c) in inner.char_indices().chain(std::iter::once((inner.len(), ','))) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let branch = inner[from..at].trim();
                if !branch.is_empty() {
                    flatten(&before, branch, found);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

#[test]
fn trees_of_use_are_read_as_the_paths_they_name() {
    let text = "use std::{fs, time::{Duration, SystemTime}};\nuse crate::{\n    hardware::Tpm as T,\n    protocol::{ids, wire::{Reader}},\n};\nfn f() { crate::store::open() }";
    let paths = named_paths(text);
    for expected in [
        "std::fs",
        "std::time::SystemTime",
        "crate::hardware::Tpm",
        "crate::protocol::wire::Reader",
        "crate::store::open",
    ] {
        assert!(paths.iter().any(|path| path == expected), "{expected} is not in {paths:?}");
    }
}

/// Which rooms a room's code may name; docs/ARCHITECTURE.md draws it. Of `client` the service may name the shapes that both
/// speak, and nothing that connects.
const ARROW: [(&str, &[&str]); 7] = [
    ("protocol", &["protocol"]),
    ("access.rs", &["access", "protocol"]),
    ("keys", &["keys", "protocol"]),
    ("hardware", &["hardware", "protocol"]),
    ("store", &["store", "protocol"]),
    ("client", &["client", "keys", "protocol"]),
    (
        "service",
        &[
            "service",
            "protocol",
            "hardware",
            "store",
            "keys",
            "access",
            "client::api",
            "client::ceremonies",
            "client::genesis",
            "client::leases",
            "client::release",
            "client::unwrap",
        ],
    ),
];

/// Paths of a room's file that lead to a room it may not name.
fn against_the_arrow(allowed: &[&str], text: &str) -> Vec<String> {
    let leads = |path: &str| {
        let inside = path.strip_prefix("crate::").or_else(|| path.strip_prefix("chancery::"))?;
        let is_room =
            ARROW.iter().any(|(room, _)| inside.starts_with(room.trim_end_matches(".rs"))) || inside.starts_with("cli");
        let fits = |room: &str| room == inside || inside.starts_with(&format!("{room}::"));
        (is_room && !allowed.iter().any(|room| fits(room))).then(|| path.to_owned())
    };
    named_paths(text).iter().filter_map(|path| leads(path)).collect()
}

#[test]
fn rooms_know_only_the_rooms_before_them() {
    assert_eq!(
        against_the_arrow(&["store", "protocol"], "use crate::{protocol::ids, hardware::Tpm};"),
        ["crate::hardware::Tpm"]
    );
    assert_eq!(
        against_the_arrow(&["service", "client::api"], "use crate::client::{api::Status, Client};"),
        ["crate::client::Client"]
    );
    for (room, allowed) in ARROW {
        let files = if room.ends_with(".rs") {
            vec![(PathBuf::from(room), read(&root().join("src").join(room)))]
        } else {
            sources(&[&format!("src/{room}")])
        };
        for (path, text) in files {
            // Tests of a room may bring what it is tested with.
            if path.ends_with("tests.rs") {
                continue;
            }
            let wrong = against_the_arrow(allowed, &text);
            assert!(wrong.is_empty(), "{}: the arrow does not lead from {room} to {wrong:?}", path.display());
        }
    }
}

#[test]
fn unsafe_code_stands_in_two_files_of_hardware() {
    let allowing: Vec<String> = sources(&["src", "hsm-sim/src"])
        .into_iter()
        .filter(|(_, text)| text.contains("allow(unsafe_code") || text.contains("expect(unsafe_code"))
        .map(|(path, _)| path.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    assert_eq!(allowing, ["src/hardware/memory.rs", "src/hardware/quiet.rs"], "unsafe code is hardware's alone");
    let manifest = read(&root().join("Cargo.toml"));
    assert!(manifest.contains("unsafe_code = \"deny\""), "without the lint nothing is denied");
}

#[test]
fn the_driver_of_ceremonies_knows_no_kind() {
    let driver = read(&root().join("src/service/drive.rs")).to_lowercase();
    assert!(driver.contains("pub(crate) trait kind"), "the driver stands in another file: name it here");
    let kinds = ["unseal", "genesis", "amend", "recover", "drill", "lease", "release", "enrol", "rotat"];
    let theirs = ["offer", "statement", "contribut", "approv", "charter", "quorum", "tpm", "board", "protocol::"];
    for word in kinds.into_iter().chain(theirs) {
        assert!(
            !driver.contains(word),
            "src/service/drive.rs: `{word}` belongs to a kind of ceremony, not to their driver"
        );
    }
    // One loop for all: whoever keeps another one is not driven by it.
    let driven: Vec<PathBuf> = sources(&["src/service"])
        .into_iter()
        .filter(|(_, text)| library_lines(text).any(|line| line.contains("drive::Kind for ")))
        .map(|(path, _)| path)
        .collect();
    for kind in ["src/service/driver/hands.rs", "src/service/genesis/hands.rs"] {
        assert!(driven.contains(&root().join(kind)), "{kind} is not driven by src/service/drive.rs");
    }
}

#[test]
fn the_simulated_rack_knows_nothing_of_chancery() {
    for (path, text) in sources(&["hsm-sim/src", "hsm-sim/tests"]) {
        assert!(
            !text.to_lowercase().contains("chancery"),
            "{}: hsm-sim is hardware; hardware does not know who uses it",
            path.display()
        );
    }
    assert!(!read(&root().join("hsm-sim/Cargo.toml")).contains("chancery"));
}

#[test]
fn the_production_tree_has_no_simulator_in_it() {
    let manifest = read(&root().join("Cargo.toml"));
    let dependencies = manifest.split("[dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
    assert!(!dependencies.contains("hsm-sim"), "hsm-sim is for tests and the demonstration: a dev-dependency");
}

#[test]
fn every_crypto_crate_stands_once() {
    let lock = read(&root().join("Cargo.lock"));
    let count = |name: &str| lock.matches(&format!("\nname = \"{name}\"\n")).count();
    // sha2 stands twice: age's localization hashes its text files with a newer one at build time.
    for name in [
        "p256",
        "hpke",
        "ml-kem",
        "elliptic-curve",
        "sha3",
        "hkdf",
        "aes-gcm",
        "age",
        "tss-esapi",
        "argon2",
        "blake2",
        "cryptoki",
        "rcgen",
        "x509-parser",
    ] {
        assert_eq!(
            count(name),
            1,
            "{name} must stand exactly once in Cargo.lock: pin what would bring a second version"
        );
    }
    for name in ["hyper", "rustls", "rustls-webpki", "aws-lc-rs"] {
        assert_eq!(count(name), 1, "{name} must stand exactly once in Cargo.lock");
    }
}

#[test]
fn no_crate_is_built_that_we_have_ruled_out() {
    // The tree and not the lock file, which also names what a feature that nobody turns on would bring.
    let tree = std::process::Command::new(env!("CARGO"))
        .args([
            "tree",
            "--workspace",
            "--all-features",
            "--locked",
            "--offline",
            "--prefix",
            "none",
            "--format",
            "{lib}",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let built = |name: &str| tree.lines().any(|line| line.trim() == name);
    assert!(built("p256") && built("aws_lc_rs"), "the tree is read wrongly");
    for name in ["ring", "openssl_sys", "openssl"] {
        assert!(!built(name), "{name} must not be in the tree; see docs/decisions/0002-dependencies.md");
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = read(&root().join("Cargo.toml"));
    let reasons = read(&root().join("docs/decisions/0002-dependencies.md"));
    for section in ["[dependencies]", "[dev-dependencies]", "[build-dependencies]"] {
        let lines = manifest.split(section).nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
        for line in lines.lines().filter(|line| line.contains('=')) {
            let name = line.split(['=', ' ', '.']).next().unwrap();
            assert!(
                name == "hsm-sim" || reasons.contains(&format!("`{name}`")),
                "{name} is not in docs/decisions/0002-dependencies.md: list it with its reason"
            );
        }
    }
}

#[test]
fn every_decision_has_a_number_of_its_own() {
    let folder = root().join("docs/decisions");
    let mut numbers = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let number: u32 = name.split('-').next().unwrap().parse().unwrap_or_else(|_| panic!("{name} has no number"));
        assert!(numbers.insert(number), "{name}: its number is another decision's; take the next free one");
        assert!(read(&path).starts_with(&format!("# {number}. ")), "{name}: its heading has another number");
    }
    assert!(numbers.len() > 12, "the decisions are read wrongly");
}

#[test]
fn the_label_table_is_the_one_in_the_protocol_document() {
    let document = read(&root().join("docs/protocol.md"));
    for label in Label::ALL {
        assert!(
            document.contains(&format!("`{}`", label.as_str())),
            "{} is not in docs/protocol.md §2: the table there and the one in code are the same",
            label.as_str()
        );
    }
    let written = document.matches("`chancery/v1/").count();
    assert_eq!(written, Label::ALL.len(), "docs/protocol.md names a label that the code does not have, or one twice");
}

/// Whether docs/protocol.md has a step: a section `## 5`, or in it a heading `5.4`, bold or not, or the item `4.`
fn has_step(document: &str, number: &str) -> bool {
    let (section, item) = number.split_once('.').unwrap_or((number, ""));
    let Some(text) = document.split(&format!("\n## {section}. ")).nth(1).and_then(|rest| rest.split("\n## ").next())
    else {
        return false;
    };
    item.is_empty()
        || text.lines().any(|line| {
            let line = line.trim_start_matches(['#', '*', ' ']);
            line.strip_prefix(number).is_some_and(|rest| rest.starts_with([' ', '.']))
                || line.starts_with(&format!("{item}. "))
        })
}

#[test]
fn the_code_cites_steps_that_exist() {
    let document = read(&root().join("docs/protocol.md"));
    assert!(has_step(&document, "6.3") && !has_step(&document, "6.9") && !has_step(&document, "99"));
    for (path, text) in sources(&["src"]) {
        for citation in text.split("rotocol.md §").skip(1) {
            let number: String = citation.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            let number = number.trim_end_matches('.');
            assert!(
                has_step(&document, number),
                "{}: cites protocol.md §{number}, which does not exist",
                path.display()
            );
        }
    }
}

#[test]
fn files_have_one_subject() {
    for (path, text) in sources(&["src", "hsm-sim/src"]) {
        if path.ends_with("tests.rs") {
            continue;
        }
        let lines = text.lines().count();
        assert!(lines <= 600, "{}: {lines} lines; split it by subject", path.display());
    }
}

#[test]
fn secrets_are_not_copied_out_of_their_file() {
    for (path, text) in sources(&["src"]) {
        let copied = copied_secrets(&text);
        assert!(copied.is_empty(), "{}: a secret type is neither Clone nor Copy: {copied:?}", path.display());
    }
}

/// The types with "Secret" in their name, and those of secret.rs, that can be copied.
fn copied_secrets(text: &str) -> Vec<&str> {
    let mut derived = false;
    let mut found = Vec::new();
    let all = text.starts_with("//! The secret types");
    for line in library_lines(text).map(str::trim) {
        let named = |rest: &&str| all || rest.contains("Secret");
        let declared = line.split_once("struct ").or_else(|| line.split_once("enum ")).map(|(_, rest)| rest);
        let implemented = ["Clone for ", "Copy for "].iter().find_map(|of| line.split_once(of)).map(|(_, rest)| rest);
        match (declared.filter(named), implemented.filter(named)) {
            (Some(rest), _) if derived => found.push(rest),
            (_, Some(rest)) => found.push(rest),
            _ => {}
        }
        // Attributes stand right before what they are of.
        let derives = line.starts_with("#[derive(") && (line.contains("Clone") || line.contains("Copy"));
        derived = derives || (derived && line.starts_with("#["));
    }
    // Shares one expanded key behind an Arc; the crate hpke asks for Clone.
    found.retain(|declared| !declared.starts_with("KemSecret(Arc<"));
    found
}

#[test]
fn a_copied_secret_would_be_seen() {
    assert_eq!(copied_secrets("#[derive(Clone)]\n#[must_use]\npub struct SecretSeed(u8);").len(), 1);
    assert_eq!(copied_secrets("impl<const N: usize> Clone for Secret<N> {").len(), 1);
    assert_eq!(copied_secrets("//! The secret types, all\n#[derive(Debug, Clone)]\npub struct W(u8);").len(), 1);
    assert!(copied_secrets("#[derive(Clone)]\npub struct Point;\n/// x\npub struct Secret(u8);").is_empty());
}
