//! Private keys at rest, in files and on tokens: what they promise, and how each fault is told from the others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{os::unix::fs::PermissionsExt, path::Path, process::Command};

use chancery::{
    keys::{
        IdentitySigner, KeyAgreement, KeyError, MemorySigner,
        disk::{self, Replace},
        file::{Cost, KeyFile, KeyKind, Lock, PrivateKey, PublicKey, ShareOf, Unlock},
        token::{Token, TokenChoice, TokenError, TokenKeys, TokenSigner},
    },
    protocol::{
        group::Point,
        hash::Hash,
        ids::{CharterId, Generation, QuorumKind, SubjectName},
        quorum::Position,
        secret::{SecretScalar, SecretVec},
        wire::Document,
    },
};
use p256::ecdsa::{VerifyingKey, signature::hazmat::PrehashVerifier};
use rand_core::OsRng;

const PASSPHRASE: &str = "seven herons at noon";

fn secret(text: &str) -> SecretVec {
    SecretVec::new(text.as_bytes().to_vec())
}

fn cheap() -> Cost {
    Cost::new(19 * 1024, 2, 1).unwrap()
}

fn sealed(kind: KeyKind) -> (PrivateKey, KeyFile) {
    let key = PrivateKey::random(kind, &mut OsRng);
    let name = SubjectName::new("anna").unwrap();
    let file = KeyFile::seal(kind, name, &key, &secret(PASSPHRASE), cheap(), &mut OsRng).unwrap();
    (key, file)
}

/// The contract of [`IdentitySigner`].
fn keeps_its_promise(signer: &dyn IdentitySigner) {
    let verifier = VerifyingKey::from_affine(*signer.public().affine()).unwrap();
    for round in 0..8_u8 {
        let digest = Hash::of_bytes(&[round]);
        let signature = signer.sign(&digest).unwrap();
        verifier.verify_prehash(digest.as_bytes(), &signature).unwrap();
        assert!(signature.normalize_s().is_none(), "the high s");
        assert!(verifier.verify_prehash(Hash::of_bytes(b"another").as_bytes(), &signature).is_err());
    }
}

#[test]
fn a_key_file_gives_back_its_key_for_its_passphrase_only() {
    use KeyKind::{Connection, DataOwner, Dkg, Home, Hybrid, Identity};
    for kind in [Identity, Hybrid, Dkg, Home, DataOwner, Connection] {
        let (key, file) = sealed(kind);
        let file = KeyFile::read_from(&file.encode()).unwrap();
        assert_eq!((file.kind(), file.name().as_str(), file.public()), (kind, "anna", &key.public()));
        assert_eq!(file.open(&secret(PASSPHRASE)).unwrap().public(), key.public());
        for wrong in ["seven herons at noo", "Seven herons at noon", "seven herons at noon ", ""] {
            assert!(matches!(file.open(&secret(wrong)), Err(KeyError::Passphrase)), "{wrong:?}");
        }
    }
    keeps_its_promise(&MemorySigner::new(&SecretScalar::random(&mut OsRng)));
    let (key, file) = sealed(KeyKind::Identity);
    let signer = file.signer(KeyKind::Identity, &secret(PASSPHRASE)).unwrap();
    assert_eq!(PublicKey::Point(*signer.public()), key.public());
    keeps_its_promise(&signer);
    let refused = file.signer(KeyKind::Home, &secret(PASSPHRASE)).unwrap_err().to_string();
    assert!(refused.contains("an identity key") && refused.contains("a home authority's key is needed"), "{refused}");
}

#[test]
fn damage_is_told_from_a_wrong_passphrase_and_a_forged_header_does_not_open() {
    let (_, file) = sealed(KeyKind::Dkg);
    let bytes = file.encode();
    let label = 1 + "chancery/v1/key-file".len();
    for at in (label..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(matches!(KeyFile::read_from(&damaged), Err(KeyError::Damaged)), "byte {at}");
    }
    assert!(matches!(KeyFile::read_from(&bytes[..bytes.len() - 1]), Err(KeyError::Damaged)));
    assert!(matches!(KeyFile::read_from(b"-----BEGIN EC PRIVATE KEY-----"), Err(KeyError::Format(_))));

    // Somebody who mends the checksum after a change gains nothing: kind, name, salt and sealed key are all bound.
    let forge = |at: usize, value: u8| {
        let mut forged = bytes[..bytes.len() - 32].to_vec();
        forged[at] = value;
        let sum = Hash::of_bytes(&forged);
        forged.extend_from_slice(sum.as_bytes());
        KeyFile::read_from(&forged)
    };
    let body = bytes.len() - 32;
    for (at, value) in
        [(label, 1), (label + 5, b'b'), (body - 1, bytes[body - 1] ^ 1), (body - 50, bytes[body - 50] ^ 1)]
    {
        let forged = forge(at, value).unwrap();
        assert!(matches!(forged.open(&secret(PASSPHRASE)), Err(KeyError::Passphrase)), "byte {at}");
    }
    // The cost stands after kind, name, point and the kind of lock; too cheap and too dear are both refused before any work.
    let cost = label + 1 + 4 + 4 + 33 + 1;
    assert!(matches!(forge(cost + 2, 0), Err(KeyError::Format(_))), "memory of 0 KiB");
    assert!(matches!(forge(cost, 0xff), Err(KeyError::Format(_))), "memory of 4 TiB");
    assert!(matches!(forge(cost + 7, 1), Err(KeyError::Format(_))), "one pass");
    assert!(Cost::new(1024, 2, 1).is_err() && Cost::new(1 << 30, 2, 1).is_err() && Cost::new(1 << 16, 17, 1).is_err());
}

#[test]
fn a_weak_passphrase_and_a_key_of_another_kind_are_not_sealed() {
    let name = || SubjectName::new("anna").unwrap();
    let key = PrivateKey::random(KeyKind::Identity, &mut OsRng);
    let short = KeyFile::seal(KeyKind::Identity, name(), &key, &secret("1234567"), cheap(), &mut OsRng);
    assert!(matches!(short, Err(KeyError::Short)));
    let other = KeyFile::seal(KeyKind::Hybrid, name(), &key, &secret(PASSPHRASE), cheap(), &mut OsRng);
    assert!(matches!(other, Err(KeyError::Kind { .. })));
    // A share says whose and which it is; no file of that kind is without.
    let bare = KeyFile::seal(KeyKind::Share, name(), &key, &secret(PASSPHRASE), cheap(), &mut OsRng);
    assert!(matches!(bare, Err(KeyError::Kind { .. })));
}

fn share_of() -> ShareOf {
    ShareOf {
        charter: CharterId(Hash::of_bytes(b"charter")),
        quorum: QuorumKind::Unseal,
        generation: Generation::FIRST,
        position: Position::new(5).unwrap(),
    }
}

#[test]
fn a_share_is_bound_to_its_network_quorum_generation_and_place() {
    let share = SecretScalar::random(&mut OsRng);
    let bytes = share.to_bytes();
    let lock = Lock::Passphrase(&secret(PASSPHRASE), cheap());
    let name = SubjectName::new("anna").unwrap();
    let file = KeyFile::lock_share(share_of(), name, share, lock, &mut OsRng).unwrap();
    let file = KeyFile::read_from(&file.encode()).unwrap();
    assert_eq!((file.kind(), file.share_of(), file.needs_token()), (KeyKind::Share, Some(&share_of()), false));
    let phrase = secret(PASSPHRASE);
    assert_eq!(file.unlock_scalar(KeyKind::Share, Unlock::Passphrase(&phrase)).unwrap().to_bytes(), bytes);
    let refused = file.unlock_scalar(KeyKind::Dkg, Unlock::Passphrase(&phrase)).unwrap_err().to_string();
    assert!(refused.contains("a share") && refused.contains("a DKG static key is needed"), "{refused}");

    // Kind, name (4 + 4), charter (32), quorum (1), generation (4), place (1): each is bound.
    let bytes = file.encode();
    let start = 1 + "chancery/v1/key-file".len() + 1 + 8;
    for (at, what) in [(0, "charter"), (32, "quorum"), (36, "generation"), (37, "place")] {
        let mut forged = bytes[..bytes.len() - 32].to_vec();
        forged[start + at] ^= 3;
        let sum = Hash::of_bytes(&forged);
        forged.extend_from_slice(sum.as_bytes());
        let forged = KeyFile::read_from(&forged).unwrap();
        assert_ne!(forged.share_of(), Some(&share_of()), "{what}");
        assert!(matches!(forged.open(&phrase), Err(KeyError::Passphrase)), "{what}");
    }
}

#[test]
fn a_file_is_for_its_owner_alone_and_replaces_no_other_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anna.key");
    let ((_, first), (_, second)) = (sealed(KeyKind::Identity), sealed(KeyKind::Identity));
    disk::store(&path, &first, Replace::No).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(disk::load(&path).unwrap(), first);

    assert!(matches!(disk::store(&path, &second, Replace::No), Err(KeyError::Exists { .. })));
    assert_eq!(disk::load(&path).unwrap(), first, "the first key stands untouched");
    disk::store(&path, &second, Replace::Yes).unwrap();
    assert_eq!(disk::load(&path).unwrap(), second);

    for mode in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let refused = disk::load(&path).unwrap_err();
        assert!(matches!(refused, KeyError::Exposed { mode: found, .. } if found == mode), "{refused}");
    }
    let nowhere = folder.path().join("no such folder/anna.key");
    assert!(matches!(disk::store(&nowhere, &first, Replace::No), Err(KeyError::Write { .. })));
    assert!(matches!(disk::load(folder.path()), Err(KeyError::NotAFile { .. })));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["anna.key"], "nothing is left behind");
}

// --------------------------------------------------------------------------------------------------------------- tokens

/// Runs a test again in a process whose SoftHSM is configured for a token of its own: the module reads its environment once.
fn on_a_token(test: &str, story: impl FnOnce(&Path, &str)) {
    if let Some(module) = std::env::var_os("CHANCERY_TEST_TOKEN_MODULE") {
        let pin = std::fs::read_to_string(std::env::var_os("CHANCERY_TEST_TOKEN_PIN_FILE").unwrap()).unwrap();
        return story(Path::new(&module), &pin);
    }
    let token = hsm_sim::Token::temporary("anna-card").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pin_file = folder.path().join("pin");
    std::fs::write(&pin_file, token.pin()).unwrap();
    let run = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("SOFTHSM2_CONF", token.configuration())
        .env("CHANCERY_TEST_TOKEN_MODULE", token.module())
        .env("CHANCERY_TEST_TOKEN_PIN_FILE", &pin_file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

fn card(module: &Path) -> Result<Token, TokenError> {
    Token::find(module, &TokenChoice::Label("anna-card".to_owned()))
}

fn signer(module: &Path, pin: &str, key: &str) -> Result<TokenSigner, TokenError> {
    card(module)?.login(&secret(pin))?.key(key)
}

#[test]
fn a_key_on_a_token_signs_and_is_found_again_by_its_label() {
    on_a_token("a_key_on_a_token_signs_and_is_found_again_by_its_label", |module, pin| {
        let missing = signer(module, pin, "identity").unwrap_err().to_string();
        assert!(missing.contains("no P-256 signing key") && missing.ends_with("It has: none"), "{missing}");

        let made = card(module).unwrap().login(&secret(pin)).unwrap().generate("identity").unwrap();
        keeps_its_promise(&made);
        let public = *made.public();
        drop(made);
        let found = signer(module, pin, "identity").unwrap();
        assert_eq!(*found.public(), public);
        keeps_its_promise(&found);

        let again = card(module).unwrap().login(&secret(pin)).unwrap().generate("identity").unwrap_err();
        assert!(matches!(again, TokenError::KeyExists { .. }));
        let other = signer(module, pin, "signing").unwrap_err().to_string();
        assert!(other.contains(r#"It has: "identity""#), "{other}");
    });
}

#[test]
fn a_wrong_pin_a_missing_token_and_a_wrong_module_say_what_to_do() {
    on_a_token("a_wrong_pin_a_missing_token_and_a_wrong_module_say_what_to_do", |module, pin| {
        for wrong in ["000000", "", "a PIN that is longer than any that a token takes, by far"] {
            let refused = card(module).unwrap().login(&secret(wrong)).unwrap_err();
            assert!(matches!(refused, TokenError::WrongPin { .. }), "{wrong:?}: {refused}");
        }
        assert!(card(module).unwrap().login(&secret(pin)).is_ok());
        let absent = Token::find(module, &TokenChoice::Label("boris-card".to_owned())).unwrap_err().to_string();
        assert!(absent.contains("Plug it in") && absent.contains("anna-card"), "{absent}");
        let serial = Token::find(module, &TokenChoice::Serial("none".to_owned())).unwrap_err();
        assert!(matches!(serial, TokenError::NoToken { .. }));
        let refused = Token::find(Path::new("/etc/hostname"), &TokenChoice::Serial("x".to_owned())).unwrap_err();
        assert!(matches!(refused, TokenError::Module { .. }), "{refused}");
    });
}

#[test]
fn a_token_pulled_in_the_middle_is_said_and_plugging_it_in_helps() {
    on_a_token("a_token_pulled_in_the_middle_is_said_and_plugging_it_in_helps", |module, pin| {
        let made = card(module).unwrap().login(&secret(pin)).unwrap().generate("identity").unwrap();
        keeps_its_promise(&made);
        // SoftHSM keeps a token as a directory of files: taking them away is pulling it.
        let configuration = std::fs::read_to_string(std::env::var_os("SOFTHSM2_CONF").unwrap()).unwrap();
        let folder = configuration.lines().find_map(|line| line.strip_prefix("directories.tokendir = ")).unwrap();
        let inside = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
        let pocket = tempfile::tempdir_in(Path::new(folder).parent().unwrap()).unwrap();
        std::fs::rename(&inside, pocket.path().join("token")).unwrap();
        let refused = made.sign(&Hash::of_bytes(b"in the middle")).unwrap_err();
        assert!(matches!(refused, KeyError::Token(TokenError::Pulled)), "{refused}");
        drop(made);
        std::fs::rename(pocket.path().join("token"), &inside).unwrap();
        keeps_its_promise(&signer(module, pin, "identity").unwrap());
    });
}

fn official(module: &Path, pin: &str, key: &str) -> Result<TokenKeys, TokenError> {
    card(module)?.login(&secret(pin))?.official(key)
}

/// Pulls the token, does something, plugs it in again.
fn without_the_token<T>(act: impl FnOnce() -> T) -> T {
    // SoftHSM keeps a token as a directory of files: taking them away is pulling it.
    let configuration = std::fs::read_to_string(std::env::var_os("SOFTHSM2_CONF").unwrap()).unwrap();
    let folder = configuration.lines().find_map(|line| line.strip_prefix("directories.tokendir = ")).unwrap();
    let inside = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let pocket = tempfile::tempdir_in(Path::new(folder).parent().unwrap()).unwrap();
    std::fs::rename(&inside, pocket.path().join("token")).unwrap();
    let done = act();
    std::fs::rename(pocket.path().join("token"), &inside).unwrap();
    done
}

#[test]
fn a_share_is_unlocked_by_the_token_it_was_locked_for_and_by_no_other() {
    on_a_token("a_share_is_unlocked_by_the_token_it_was_locked_for_and_by_no_other", |module, pin| {
        let made = card(module).unwrap().login(&secret(pin)).unwrap().generate_official("anna").unwrap();
        let other = card(module).unwrap().login(&secret(pin)).unwrap().generate_official("boris").unwrap();
        keeps_its_promise(&made);
        // The promise of an agreement: x of the product, whichever side computes it.
        let ephemeral = SecretScalar::random(&mut OsRng);
        let theirs = made.agree(&Point::mul_generator(ephemeral.expose())).unwrap();
        assert_eq!(theirs, KeyAgreement::public(&made).mul(ephemeral.expose()).secret_x());

        let share = SecretScalar::random(&mut OsRng);
        let bytes = share.to_bytes();
        let (name, lock) = (SubjectName::new("anna").unwrap(), Lock::Token(KeyAgreement::public(&made)));
        let file = KeyFile::lock_share(share_of(), name.clone(), share, lock, &mut OsRng).unwrap();
        let file = KeyFile::read_from(&file.encode()).unwrap();
        assert!(file.needs_token());
        drop(made);
        let found = official(module, pin, "anna").unwrap();
        let open = |token: &TokenKeys| file.unlock_scalar(KeyKind::Share, Unlock::Token(token));
        assert_eq!(open(&found).unwrap().to_bytes(), bytes);
        assert!(matches!(open(&other), Err(KeyError::OtherToken)));
        assert!(matches!(file.open(&secret(PASSPHRASE)), Err(KeyError::Locked { by: "a key on a token" })));
        let (_, by_passphrase) = sealed(KeyKind::Dkg);
        assert!(matches!(by_passphrase.unlock(Unlock::Token(&found)), Err(KeyError::Locked { by: "a passphrase" })));
        // Hybrid and DKG keys are locked the same way.
        for kind in [KeyKind::Hybrid, KeyKind::Dkg, KeyKind::Connection] {
            let key = PrivateKey::random(kind, &mut OsRng);
            let lock = Lock::Token(KeyAgreement::public(&found));
            let file = KeyFile::lock(kind, name.clone(), &key, lock, &mut OsRng).unwrap();
            assert_eq!(file.unlock(Unlock::Token(&found)).unwrap().public(), key.public());
        }
        // Somebody with the checksum and another point in the file gets nothing out of it, and nothing is taken for it.
        let mut forged = file.encode();
        let end = forged.len() - 32;
        forged[end - 1] ^= 1;
        let sum = Hash::of_bytes(&forged[..end]);
        forged[end..].copy_from_slice(sum.as_bytes());
        assert!(matches!(KeyFile::read_from(&forged).unwrap().unlock(Unlock::Token(&found)), Err(KeyError::Damaged)));

        let wrong = official(module, "000000", "anna").err();
        // A session is open: modules may let anybody with the module in then. What must not be is another error.
        assert!(matches!(wrong, None | Some(TokenError::WrongPin { .. })), "{wrong:?}");
        let pulled = without_the_token(|| open(&found)).unwrap_err();
        assert!(matches!(pulled, KeyError::Token(TokenError::Pulled)), "{pulled}");
        drop((found, other));
        let wrong = official(module, "000000", "anna").unwrap_err();
        assert!(matches!(wrong, TokenError::WrongPin { .. }), "{wrong}");
        assert_eq!(open(&official(module, pin, "anna").unwrap()).unwrap().to_bytes(), bytes);
        // The key that unlocks does not sign: it is found under its label, and the token refuses.
        let signs = signer(module, pin, "anna-unlock").unwrap().sign(&Hash::of_bytes(b"x"));
        assert!(signs.is_err());
    });
}
