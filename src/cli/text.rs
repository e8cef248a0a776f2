//! Making text from elsewhere safe to show: nothing that is read can move the cursor, change colours, or look like other text.

use chancery::protocol::hash::Hash;

/// Bytes in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// A hash out of 64 hexadecimal digits.
pub(super) fn hash(text: &str) -> Option<Hash> {
    let digits = text.as_bytes();
    let mut hash = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(Hash(hash))
}

/// Text from an untrusted machine: printable ASCII stays, everything else is escaped, the backslash too.
///
/// Stricter than [`words`], because letters that are written from right to left could swap what stands beside them in a
/// table.
pub(super) fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(c),
            _ => out.extend(c.escape_default()),
        }
    }
    out
}

/// Text in some human language, which may be the country's own: letters of every script stay; controls, direction marks,
/// invisible and unassigned characters are escaped, the backslash too.
pub(super) fn words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
}

/// At most `limit` characters, with a mark where something was cut off.
pub(super) fn cut(text: String, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_read_reaches_the_terminal_as_more_than_text() {
        assert_eq!(hex(&[0x00, 0x9f, 0xf0]), "009ff0");
        let some = Hash::of_bytes(b"text");
        assert_eq!(hash(&some.to_string()), Some(some));
        for wrong in ["", "00", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(hash(wrong), None, "{wrong}");
        }
        assert_eq!(ascii("a\x1b[2Jb\\n\r\n\u{7f}õ\u{202e}"), "a\\u{1b}[2Jb\\\\n\\r\\n\\u{7f}\\u{f5}\\u{202e}");
        assert_eq!(words("Õiguskantsler \"näeb\""), "Õiguskantsler \"näeb\"");
        assert_eq!(
            words("a\x1b]0;t\x07\u{202e}\u{200b}\u{61c}\u{ad}\u{e0041}"),
            "a\\u{1b}]0;t\\u{7}\\u{202e}\\u{200b}\\u{61c}\\u{ad}\\u{e0041}"
        );
        assert_eq!((cut("abc".to_owned(), 3), cut("aõcd".to_owned(), 3)), ("abc".to_owned(), "aõc...".to_owned()));
    }
}
