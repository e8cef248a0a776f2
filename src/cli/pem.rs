//! PEM (RFC 7468): text around the DER of certificates, lists, requests and keys. Bare DER is read too.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::cli::{
    failure::Failure,
    input::{self, Expected},
};

/// Reads a file and takes its DER.
pub(super) fn read(path: &Path, what: &'static str, bound: usize, missing: &'static str) -> Result<Vec<u8>, Failure> {
    // PEM is a third longer, and may have words around it.
    let bytes = input::read(path, &Expected { what, bound: bound.saturating_mul(2), missing })?;
    let unreadable = || Failure::Refused(format!("{} is not {what}", input::name(path)), "Ask its sender for it again");
    decode(&bytes).map(|(_, der)| der).ok_or_else(unreadable)
}

/// Takes the first block of a PEM file, with its label; bare DER has none. `None` where a block does not read.
pub(super) fn decode(bytes: &[u8]) -> Option<(Option<String>, Vec<u8>)> {
    let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| text.contains("-----BEGIN ")) else {
        return Some((None, bytes.to_vec()));
    };
    let (label, rest) = text.split_once("-----BEGIN ")?.1.split_once("-----")?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    Some((Some(label.to_owned()), STANDARD.decode(body).ok()?))
}

/// One block.
pub(super) fn encode(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for (at, c) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    out.push_str(&format!("\n-----END {label}-----\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_bare_der_is_taken_as_it_is() {
        for length in [0_u8, 1, 47, 48, 49, 200] {
            let der: Vec<u8> = (0..length).collect();
            let text = encode("CERTIFICATE", &der);
            assert!(text.lines().all(|line| line.len() <= 64));
            assert_eq!(decode(text.as_bytes()), Some((Some("CERTIFICATE".to_owned()), der)));
        }
        assert_eq!(decode(&[0x30, 0x80]), Some((None, vec![0x30, 0x80])));
        for bad in ["-----BEGIN X-----\nAA==\n", "-----BEGIN X-----\n!\n-----END X-----", "-----BEGIN X"] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
    }
}
