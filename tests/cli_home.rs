//! Home and officials at the command line: the built binary, with passphrases and PINs through file descriptors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use chancery::protocol::{
    card::OfficialCard,
    certificate::{CertificateError, Certified, HomeAuthority, Role, UnixTime},
    charter::Country,
    hash::Hash,
    wire::Document,
};

const HOME: &str = "the lamp in the second window";
const ANNA: &str = "four geese over the harbour";

struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// Runs the command with a secret as the first line of standard input.
fn run(folder: &Path, secret: &str, arguments: &str, environment: &[(&str, &Path)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    command.args(arguments.split_whitespace()).current_dir(folder).envs(environment.iter().copied());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("chancery starts");
    // A command that needs no secret may end before it is read.
    let _ = child.stdin.take().unwrap().write_all(format!("{secret}\n").as_bytes());
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let shown = secret.len() >= 8 && (out.contains(secret) || err.contains(secret));
    assert!(!shown, "a secret was shown:\n{out}{err}");
    assert!(!err.contains("panicked"), "{err}");
    Ran { code: output.status.code().unwrap(), out, err }
}

fn fine(ran: Ran) -> String {
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    ran.out
}

fn refused(ran: Ran) -> String {
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
    assert!(ran.err.starts_with("chancery: ") && ran.err.lines().count() <= 2, "{}", ran.err);
    ran.err
}

const INIT: &str = "home init --name registrar --country EE --trust-domain registers.example \
                    --key home.key --dir home --passphrase-fd 0";

fn founded() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fine(run(folder.path(), HOME, INIT, &[]));
    folder
}

fn der(path: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(path).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(text.as_bytes()).unwrap();
    pem.contents
}

/// What anybody with the charter makes of a certificate.
fn judge(folder: &Path, certificate: &str, home: &Path) -> Result<Certified, CertificateError> {
    let now = UnixTime(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap());
    let root = der(&home.join("home.crt"));
    let key = x509_key(&root);
    let home_authority = HomeAuthority::read(&root, Country::new("EE").unwrap(), &key)?;
    let list = home_authority.revocations(&der(&home.join("home.crl")))?;
    home_authority.certify(&[&der(&folder.join(certificate))], &list, now)
}

fn x509_key(root: &[u8]) -> chancery::protocol::group::Point {
    let (_, certificate) = x509_parser::parse_x509_certificate(root).unwrap();
    chancery::protocol::certificate::bare_key(certificate.public_key().raw).unwrap()
}

#[test]
fn an_official_gets_keys_a_card_a_certificate_and_is_revoked() {
    let folder = founded();
    let at = folder.path();
    let said = fine(run(at, ANNA, "official init anna --dir anna --passphrase-fd 0", &[]));
    let card = OfficialCard::decode(&std::fs::read(at.join("anna/card.bin")).unwrap()).unwrap();
    assert!(
        said.contains(&format!("card hash:               {}", card.hash())) && said.contains("Next: hand card and"),
        "{said}"
    );
    let pem = der(&at.join("anna/connection.pub"));
    let connection = chancery::protocol::certificate::bare_key(&pem).unwrap();
    assert!(said.contains(&format!("connection key hash:     {}", Hash::of_bytes(&connection.encode()))), "{said}");
    for file in ["identity.key", "hybrid.key", "dkg.key", "connection.key"] {
        let mode = std::fs::metadata(at.join("anna").join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
        let shown = fine(run(at, "-", &format!("inspect anna/{file}"), &[]));
        assert!(shown.contains("a private key at rest") && shown.contains("anna"), "{shown}");
    }
    let shown = fine(run(at, "-", "inspect anna/card.bin", &[]));
    assert!(shown.contains(&card.hash().to_string()), "{shown}");
    let again = refused(run(at, ANNA, "official init anna --dir anna --passphrase-fd 0", &[]));
    assert!(again.contains("only copy of a key"), "{again}");

    let issue =
        "home issue official anna --from anna/card.bin --key home.key --dir home --out anna.crt --passphrase-fd 0";
    let said = fine(run(at, HOME, issue, &[]));
    assert!(said.starts_with("issued spiffe://registers.example/official/anna (official)"), "{said}");
    assert!(said.contains(&card.hash().to_string()), "{said}");
    let certified = judge(at, "anna.crt", &at.join("home")).unwrap();
    assert_eq!((certified.identity().role, *certified.key()), (Role::Official, card.official().identity));

    let said = fine(run(at, HOME, "home revoke anna.crt --key home.key --dir home --passphrase-fd 0", &[]));
    assert!(said.starts_with("revocation list 2") && said.contains(&certified.serial().unwrap().to_string()), "{said}");
    let refused_by = judge(at, "anna.crt", &at.join("home")).unwrap_err().to_string();
    assert!(refused_by.contains("was revoked"), "{refused_by}");
    // Renewing forgets nobody.
    let said = fine(run(at, HOME, "home revoke --key home.key --dir home --passphrase-fd 0", &[]));
    assert!(said.starts_with("revocation list 3") && said.contains("1 revoked"), "{said}");
    assert!(judge(at, "anna.crt", &at.join("home")).is_err());
}

#[test]
fn every_role_is_issued_from_a_public_key_and_says_that_nothing_proves_it() {
    let folder = founded();
    let at = folder.path();
    // A bare public key, as other tools write it.
    fine(run(at, ANNA, "official init any --dir any --passphrase-fd 0", &[]));
    let card = OfficialCard::decode(&std::fs::read(at.join("any/card.bin")).unwrap()).unwrap();
    let head = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
    let info = [head, card.official().identity.encode_uncompressed().to_vec()].concat();
    std::fs::write(at.join("key.der"), info).unwrap();
    for role in ["official", "agent", "data-owner", "auditor", "witness", "embassy"] {
        let said = fine(run(
            at,
            HOME,
            &format!(
                "home issue {role} somebody --from key.der --key home.key --dir home --out {role}.crt --passphrase-fd 0"
            ),
            &[],
        ));
        assert!(
            said.contains(&format!("spiffe://registers.example/{role}/somebody")) && said.contains("NOTHING PROVES"),
            "{said}"
        );
        match judge(at, &format!("{role}.crt"), &at.join("home")) {
            Ok(certified) => assert_eq!(certified.identity().role.segment(), role),
            // An embassy's authority speaks for nobody by itself.
            Err(error) => assert!(role == "embassy" && error.to_string().contains("issues nothing"), "{role}: {error}"),
        }
    }
}

#[test]
fn what_cannot_be_done_says_why_and_what_next_and_changes_nothing() {
    let folder = founded();
    let at = folder.path();
    let key = std::fs::read(at.join("home.key")).unwrap();
    let says = |secret: &str, arguments: &str, words: &[&str]| {
        let err = refused(run(at, secret, arguments, &[]));
        assert!(words.iter().all(|word| err.contains(word)), "{err} does not say {words:?}");
    };
    says(HOME, INIT, &["home/home.crt", "Choose another name"]);
    says(HOME, &INIT.replace("--dir home", "--dir other"), &["home.key exists", "--replace"]);
    assert_eq!(std::fs::read(at.join("home.key")).unwrap(), key, "the key stands untouched");
    says(HOME, &INIT.replace("EE", "Estonia").replace("--dir home", "--dir other"), &["ISO 3166-1"]);
    says("short", &INIT.replace("home.key", "new.key").replace("--dir home", "--dir other"), &["at least 8"]);
    says(
        "",
        &INIT.replace("home.key", "new.key").replace("--dir home", "--dir other"),
        &["it is empty", "--passphrase-fd"],
    );
    assert!(!at.join("new.key").exists());

    fine(run(at, ANNA, "official init anna --dir anna --passphrase-fd 0", &[]));
    let issue =
        "home issue official anna --from anna/card.bin --key home.key --dir home --out anna.crt --passphrase-fd 0";
    says("a wrong passphrase", issue, &["the passphrase is wrong"]);
    says(
        ANNA,
        &issue.replace("--key home.key", "--key anna/identity.key"),
        &["an identity key", "home authority's key is needed"],
    );
    says(HOME, &issue.replace("official anna --from", "official boris --from"), &["the card of the official anna"]);
    says(HOME, &issue.replace("official anna --from", "agent anna --from"), &["the card of the official anna"]);
    says(HOME, &issue.replace("anna/card.bin", "home.key"), &["home.key"]);
    says(HOME, &issue.replace("anna/card.bin", "nothing"), &["nothing cannot be read"]);
    says(HOME, &format!("{issue} --days 9000"), &["outlive home's own"]);
    assert!(!at.join("anna.crt").exists());

    // A certificate of another home is not this one's to revoke.
    fine(run(at, HOME, &INIT.replace("home.key", "other.key").replace("--dir home", "--dir other"), &[]));
    says(
        HOME,
        "home revoke other/home.crt --key home.key --dir home --passphrase-fd 0",
        &["other/home.crt", "Nothing was revoked"],
    );
    says(
        HOME,
        "home revoke --key other.key --dir home --passphrase-fd 0",
        &["not the home authority's key", "belong together"],
    );

    std::fs::set_permissions(at.join("home.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    says(HOME, issue, &["can be read by others", "chmod 600"]);
    std::fs::set_permissions(at.join("home.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut damaged = key;
    damaged[60] ^= 1;
    std::fs::write(at.join("home.key"), damaged).unwrap();
    says(HOME, issue, &["damaged", "other copy"]);
}

#[test]
fn home_on_a_token_signs_there() {
    let token = hsm_sim::Token::temporary("home-card").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let environment = [("SOFTHSM2_CONF", token.configuration())];
    let place = format!("--module {} --token home-card --token-key root --pin-fd 0", token.module().display());
    let init = format!("home init --name registrar --country EE --trust-domain registers.example --dir home {place}");
    let said = fine(run(at, token.pin(), &init, &environment));
    assert!(said.contains("Keep the token offline"), "{said}");
    fine(run(at, ANNA, "official init anna --dir anna --passphrase-fd 0", &[]));
    let issue = format!("home issue official anna --from anna/card.bin --dir home --out anna.crt {place}");
    let wrong = refused(run(at, "0000", &issue, &environment));
    assert!(wrong.contains("the PIN is wrong"), "{wrong}");
    let absent = refused(run(at, token.pin(), &issue.replace("--token home-card", "--token lost-card"), &environment));
    assert!(absent.contains("no token has the label") && absent.contains("home-card"), "{absent}");
    fine(run(at, token.pin(), &issue, &environment));
    assert!(judge(at, "anna.crt", &at.join("home")).is_ok());
    // An official on the same token: nothing but its PIN is asked.
    let place = place.replace("root", "boris");
    let said = fine(run(at, token.pin(), &format!("official init boris --dir boris {place}"), &environment));
    assert!(said.contains("the identity key, on the token"), "{said}");
    assert!(!at.join("boris/identity.key").exists() && at.join("boris/dkg.key").exists());
    let shown = fine(run(at, "-", "inspect boris/dkg.key", &[]));
    assert!(shown.contains("a key on a token"), "{shown}");
    let issue_connection = issue.replace("anna/card.bin", "boris/connection.pub").replace("anna", "boris");
    fine(run(at, token.pin(), &issue_connection.replace("boris.crt", "line.crt"), &environment));
    assert_eq!(
        *judge(at, "line.crt", &at.join("home")).unwrap().key(),
        chancery::protocol::certificate::bare_key(&der(&at.join("boris/connection.pub"))).unwrap()
    );
    let issue = issue.replace("anna", "boris");
    fine(run(at, token.pin(), &issue, &environment));
    let card = OfficialCard::decode(&std::fs::read(at.join("boris/card.bin")).unwrap()).unwrap();
    assert_eq!(*judge(at, "boris.crt", &at.join("home")).unwrap().key(), card.official().identity);
    let again = refused(run(at, token.pin(), &init.replace("--dir home", "--dir other"), &environment));
    assert!(again.contains("already"), "{again}");
}
