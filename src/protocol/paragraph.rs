//! Text that people read before they sign: one paragraph, shown by every screen as it was signed.
//!
//! Characters that a screen does not show, or that turn the direction of others, are not accepted: what is read aloud must be
//! what was signed (protocol.md §10.2).

use crate::protocol::wire::{Reader, Wire, WireError, Writer};

/// The longest paragraph, in bytes: one that can be read aloud.
pub const MAX_PARAGRAPH_BYTES: usize = 600;

/// Why text is no paragraph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it takes 1 to {MAX_PARAGRAPH_BYTES} bytes of printable text without control or direction characters")]
pub struct ParagraphError;

fn is_paragraph(text: &str) -> bool {
    // Direction marks could make a screen show other words than were signed, and what no screen shows is not read.
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}')
            || matches!(c, '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}')
            || matches!(c, '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    !text.trim().is_empty() && text.len() <= MAX_PARAGRAPH_BYTES && !text.chars().any(hidden)
}

macro_rules! paragraphs {
    ($($(#[$doc:meta])* $name:ident, $field:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// # Errors
            /// [`ParagraphError`] for empty or overlong text, and for control and direction characters.
            pub fn new(text: &str) -> Result<Self, ParagraphError> {
                if is_paragraph(text) { Ok(Self(text.to_owned())) } else { Err(ParagraphError) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Wire for $name {
            fn write(&self, out: &mut Writer) {
                out.bytes(self.0.as_bytes());
            }
            fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
                std::str::from_utf8(input.bytes(MAX_PARAGRAPH_BYTES, $field)?)
                    .ok()
                    .and_then(|text| Self::new(text).ok())
                    .ok_or(WireError::Invalid { field: $field, reason: "not one paragraph of printable text" })
            }
        }
    )*};
}

paragraphs! {
    /// What a ceremony is for, in words that officials read aloud.
    Purpose, "purpose";
    /// Why somebody decided as they did, or why something went as it did.
    Reason, "reason";
}

impl Reason {
    /// The reason in any text, such as an error's: what a paragraph may not have becomes a question mark, what is too long is
    /// cut off.
    pub fn of(text: &str) -> Self {
        let mut plain = String::new();
        for c in text.chars() {
            let mut one = [0; 4];
            let shown = if is_paragraph(c.encode_utf8(&mut one)) || c == ' ' { c } else { '?' };
            if plain.len().saturating_add(shown.len_utf8()) > MAX_PARAGRAPH_BYTES {
                break;
            }
            plain.push(shown);
        }
        Self::new(&plain).unwrap_or_else(|_| Self("no reason was given".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_shows_what_was_signed() {
        let hidden = ["\u{61c}", "\u{ad}", "\u{180e}", "\u{e0041}", "\u{fff9}", "\u{3164}", "\u{fe0f}"]
            .map(|c| format!("open{c} it"));
        let plain = ["", "  ", "a\nb", "to \u{202e}nepo", "\u{200b}", &"x".repeat(601)];
        for bad in plain.into_iter().chain(hidden.iter().map(String::as_str)) {
            assert_eq!(Purpose::new(bad), Err(ParagraphError), "{bad:?}");
        }
        assert!(Purpose::new("Õiguskord jätkub: kinnistusraamat.").is_ok());
    }

    #[test]
    fn any_text_gives_a_reason_that_can_be_recorded() {
        for text in ["", "  \n ", "TPM: 0x922\u{202e}\n(retry)", &"õ".repeat(700), "plain"] {
            let reason = Reason::of(text);
            assert_eq!(Reason::new(reason.as_str()), Ok(reason.clone()), "{text:?}");
        }
        assert_eq!(Reason::of("a\nb").as_str(), "a?b");
    }
}
