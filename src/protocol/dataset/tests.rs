//! What stock age encrypts to a dataset's recipient opens with its key; every malformed stanza is refused.

use std::io::{Read, Write};

use age::{Decryptor, Encryptor};
use bech32::{Fe32, Fe32IterExt, primitives::iter::ByteIterExt};
use rand_core::OsRng;

use super::*;

/// The example recipient and stanza of c2sp.org/age.
const SPEC: &str = include_str!("../../../tests/fixtures/age-spec-tagpq.txt");

fn encrypt(recipients: &[&dyn age::Recipient], plaintext: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let encryptor = Encryptor::with_recipients(recipients.iter().copied()).unwrap();
    let mut writer = encryptor.wrap_output(&mut file).unwrap();
    writer.write_all(plaintext).unwrap();
    writer.finish().unwrap();
    file
}

fn decrypt(file: &[u8], identity: &dyn age::Identity) -> Result<Vec<u8>, age::DecryptError> {
    let mut plaintext = Vec::new();
    Decryptor::new(file)?.decrypt(std::iter::once(identity))?.read_to_end(&mut plaintext).unwrap();
    Ok(plaintext)
}

fn stock(key: &DatasetKey) -> age::tagpq::Recipient {
    key.recipient().to_string().parse().unwrap()
}

/// The header's stanza lines as arguments and body, taken apart by hand.
fn stanza_of(file: &[u8]) -> (Vec<String>, Vec<u8>) {
    let header: Vec<&str> =
        file.split(|byte| *byte == b'\n').map_while(|line| std::str::from_utf8(line).ok()).take(3).collect();
    let arguments = header[1].strip_prefix("-> ").unwrap().split(' ').map(str::to_owned).collect();
    (arguments, BASE64_STANDARD_NO_PAD.decode(header[2]).unwrap())
}

fn parse(arguments: &[String], body: &[u8]) -> Result<Option<TaggedStanza>, StanzaError> {
    TaggedStanza::parse(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), body)
}

#[test]
fn what_stock_age_encrypts_the_dataset_key_decrypts() {
    let key = DatasetSeed::random(&mut OsRng).key();
    for length in [0, 1, 65_535, 65_536, 200_000] {
        let plaintext: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        assert_eq!(decrypt(&encrypt(&[&stock(&key)], &plaintext), &key).unwrap(), plaintext);
    }
}

#[test]
fn a_file_for_several_datasets_opens_with_each_and_with_no_other() {
    let keys = [(); 3].map(|()| DatasetSeed::random(&mut OsRng).key());
    let file = encrypt(&[&stock(&keys[0]), &stock(&keys[1])], b"land register");
    assert_eq!(decrypt(&file, &keys[0]).unwrap(), b"land register");
    assert_eq!(decrypt(&file, &keys[1]).unwrap(), b"land register");
    assert!(matches!(decrypt(&file, &keys[2]), Err(age::DecryptError::NoMatchingKeys)));
}

#[test]
fn a_file_key_unwrapped_elsewhere_reads_its_own_file_only() {
    let key = DatasetSeed::random(&mut OsRng).key();
    let (file, other) = (encrypt(&[&stock(&key)], b"this year"), encrypt(&[&stock(&key)], b"last year"));
    let (arguments, body) = stanza_of(&file);
    let stanza = parse(&arguments, &body).unwrap().unwrap();
    let unwrapped = UnwrappedStanza::new(stanza.clone(), key.unwrap(&stanza).unwrap().unwrap());
    assert_eq!(decrypt(&file, &unwrapped).unwrap(), b"this year");
    assert!(matches!(decrypt(&other, &unwrapped), Err(age::DecryptError::NoMatchingKeys)));
}

#[test]
fn the_specs_recipient_and_stanza_are_read() {
    let lines: Vec<&str> = SPEC.lines().collect();
    let recipient: Recipient = lines[0].parse().unwrap();
    assert_eq!(recipient.to_string(), lines[0]);
    let arguments: Vec<&str> = lines[1].strip_prefix("-> ").unwrap().split(' ').collect();
    let body = BASE64_STANDARD_NO_PAD.decode(lines[2]).unwrap();
    let stanza = TaggedStanza::parse(&arguments, &body).unwrap().unwrap();
    // The two examples are not of one key.
    assert!(!stanza.is_addressed_to(&recipient));
}

#[test]
fn a_stanza_of_another_kind_or_for_another_key_is_ignored() {
    let key = DatasetSeed::random(&mut OsRng).key();
    let (mut arguments, body) = stanza_of(&encrypt(&[&stock(&key)], b""));
    let other = DatasetSeed::random(&mut OsRng).key();
    assert_eq!(other.unwrap(&parse(&arguments, &body).unwrap().unwrap()), Ok(None));
    let mut wrong_tag = arguments.clone();
    wrong_tag[1] = if wrong_tag[1] == "AAAAAA" { "AAAABA".into() } else { "AAAAAA".into() };
    assert_eq!(key.unwrap(&parse(&wrong_tag, &body).unwrap().unwrap()), Ok(None));
    for kind in ["p256tag", "mlkem768p256tag2", "MLKEM768P256TAG", ""] {
        arguments[0] = kind.to_owned();
        assert_eq!(parse(&arguments, &body), Ok(None), "{kind:?}");
        arguments.truncate(1);
        assert_eq!(parse(&arguments, b""), Ok(None), "{kind:?}");
        arguments.resize(3, "AAAAAA".to_owned());
    }
    assert_eq!(TaggedStanza::parse(&[], b""), Ok(None));
}

#[test]
fn a_malformed_stanza_is_refused_for_what_is_wrong_with_it() {
    let key = DatasetSeed::random(&mut OsRng).key();
    let (good, body) = stanza_of(&encrypt(&[&stock(&key)], b""));
    assert_eq!(parse(&good[..2], &body), Err(StanzaError::Arguments { found: 2 }));
    assert_eq!(parse(&good[..1], &body), Err(StanzaError::Arguments { found: 1 }));
    let mut four = good.clone();
    four.push("AAAA".into());
    assert_eq!(parse(&four, &body), Err(StanzaError::Arguments { found: 4 }));
    for tag in ["", "AAAAA", "AAAAAB", "AAAAAA==", "AAAAAAA", "AAAA AA", "AAAA_A", "AAAAé"] {
        let mut bad = good.clone();
        bad[1] = tag.into();
        assert_eq!(parse(&bad, &body), Err(StanzaError::Tag), "{tag:?}");
    }
    let enc = &good[2];
    // 1,153 bytes leave four bits over in the last character: any other value there is a second way to write them.
    let mut leftover = enc.clone();
    leftover.pop();
    leftover.push(if enc.ends_with('B') { 'C' } else { 'B' });
    let long = format!("{enc}AA");
    for bad_enc in ["", &enc[..enc.len() - 1], &enc[..enc.len() - 2], &long, &format!("{enc}=="), &leftover] {
        let bad = [good[0].clone(), good[1].clone(), bad_enc.to_owned()];
        assert_eq!(parse(&bad, &body), Err(StanzaError::Enc), "{} characters", bad_enc.len());
    }
    for length in [0, 16, 31, 33, 64] {
        assert_eq!(parse(&good, &vec![0; length]), Err(StanzaError::Body { found: length }));
    }
}

#[test]
fn every_changed_byte_of_a_stanza_is_refused_or_ignored() {
    let key = DatasetSeed::random(&mut OsRng).key();
    let (arguments, body) = stanza_of(&encrypt(&[&stock(&key)], b""));
    let good = parse(&arguments, &body).unwrap().unwrap();
    let opened = key.unwrap(&good).unwrap().unwrap();
    assert_eq!(key.unwrap(&good).unwrap().unwrap(), opened);
    for at in 0..BODY_BYTES {
        let mut bad = good.clone();
        bad.body[at] ^= 1;
        assert_eq!(key.unwrap(&bad), Err(StanzaError::DoesNotOpen), "body byte {at}");
    }
    for at in 0..ENCAPSULATED_BYTES {
        let mut bad = good.clone();
        bad.enc[at] ^= 1 << (at % 8);
        // The tag covers enc: a change there makes it somebody else's, and with a tag to match it does not open.
        assert_eq!(key.unwrap(&bad), Ok(None), "enc byte {at}");
        if at % 16 == 0 || at >= 1088 {
            let mut input = bad.enc.to_vec();
            input.extend(Sha256::digest(key.recipient().key().point().encode_uncompressed()).iter().take(4));
            bad.tag.copy_from_slice(&Hkdf::<Sha256>::extract(Some(AGE_INFO), &input).0[..4]);
            assert_eq!(key.unwrap(&bad), Err(StanzaError::DoesNotOpen), "enc byte {at}, tag made to match");
        }
    }
}

#[test]
fn a_bad_stanza_inside_a_file_is_an_error_of_the_file() {
    let key = DatasetSeed::random(&mut OsRng).key();
    let file = encrypt(&[&stock(&key)], b"x");
    // The first character of the body, which is the third line: still 32 bytes, no longer the right ones.
    let body_at = file.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
    let mut bad = file.clone();
    bad[body_at] = if bad[body_at] == b'A' { b'B' } else { b'A' };
    assert!(matches!(decrypt(&bad, &key), Err(age::DecryptError::DecryptionFailed)));
    let marker = b"-> mlkem768p256tag ";
    let at = file.windows(marker.len()).position(|window| window == marker).unwrap() + marker.len();
    let mut extra = file.clone();
    extra.splice(at..at, *b"AAAA ");
    assert!(matches!(decrypt(&extra, &key), Err(age::DecryptError::InvalidHeader)));
}

#[test]
fn a_recipient_is_written_in_one_way_and_read_in_no_other() {
    let recipient = DatasetSeed::random(&mut OsRng).key().recipient();
    let text = recipient.to_string();
    assert_eq!(text.len(), RECIPIENT_CHARACTERS);
    assert_eq!(text.parse::<Recipient>().unwrap(), recipient);
    assert_eq!(text.to_uppercase().parse::<Recipient>(), Err(RecipientError::NotCanonical));
    assert_eq!(text[..2014].parse::<Recipient>(), Err(RecipientError::Length { found: 2014 }));
    assert_eq!(format!("{text} ").parse::<Recipient>(), Err(RecipientError::Length { found: 2016 }));
    for other in ["", "age1", "age1tag1qt8lw0", "x"] {
        assert_eq!(other.parse::<Recipient>(), Err(RecipientError::Prefix), "{other:?}");
    }
    for at in (10..text.len()).step_by(97) {
        let mut bad = text.clone().into_bytes();
        bad[at] = if bad[at] == b'q' { b'p' } else { b'q' };
        let bad = String::from_utf8(bad).unwrap();
        assert_eq!(bad.parse::<Recipient>(), Err(RecipientError::Checksum), "character {at}");
    }
}

#[test]
fn a_recipient_with_leftover_bits_or_an_impossible_key_is_refused_though_its_checksum_is_right() {
    let bytes = DatasetSeed::random(&mut OsRng).key().recipient().key().encode();
    let encode = |symbols: Vec<Fe32>| -> String {
        symbols.iter().copied().with_checksum::<LongBech32>(&PREFIX).chars().collect()
    };
    let mut symbols: Vec<Fe32> = bytes.iter().copied().bytes_to_fes().collect();
    assert!(encode(symbols.clone()).parse::<Recipient>().is_ok());
    // 1,249 bytes are 9,992 bits; the 1,999th symbol has three bits too many.
    let last = symbols.pop().unwrap();
    symbols.push(Fe32::try_from(last.to_u8() ^ 1).unwrap());
    assert_eq!(encode(symbols).parse::<Recipient>(), Err(RecipientError::NotCanonical));
    let mut bad = bytes;
    bad[1248] ^= 1;
    assert_eq!(
        encode(bad.iter().copied().bytes_to_fes().collect()).parse::<Recipient>(),
        Err(RecipientError::Key(HybridError::PointHalf))
    );
}

#[test]
fn one_seed_gives_one_recipient_and_never_prints_itself() {
    let seed = DatasetSeed::random(&mut OsRng);
    assert_eq!(seed.key().recipient(), seed.key().recipient());
    assert_ne!(seed.key().recipient(), DatasetSeed::random(&mut OsRng).key().recipient());
    assert!(format!("{seed:?} {:?}", seed.key()).matches("redacted").count() == 2);
}
