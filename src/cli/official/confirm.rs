//! The consent of a person: the words of the statement, typed. Whoever types them has the statement before their eyes, and a
//! script has to know which statement it agrees to.

use std::io::{BufRead, IsTerminal, Write, stdin};

use chancery::protocol::words::Words;

use crate::cli::failure::Failure;

/// How often the words may be typed wrongly.
const TRIES: u32 = 3;
const LEFT: &str =
    "Nothing was signed. `deny` votes against the ceremony, `stop` ends it; doing nothing lets it expire";

/// Takes the words from the command line or from the terminal. The first four letters of each are enough.
pub(super) fn words(expected: Words, given: Option<&str>, out: &mut dyn Write) -> Result<(), Failure> {
    if let Some(given) = given {
        if are(expected, given) {
            return Ok(());
        }
        let what = "the words given are not those of this statement".to_owned();
        return Err(Failure::Refused(
            what,
            "Read the statement, and the words that stand under it. Nothing was signed",
        ));
    }
    if !stdin().is_terminal() {
        let what = "nobody is at a terminal to type the statement's words".to_owned();
        return Err(Failure::Refused(what, "Give them with --yes-i-read, in quotes. Nothing was signed"));
    }
    for _ in 0..TRIES {
        write!(out, "To agree, type the ten words (the first four letters of each will do); Enter alone leaves: ")?;
        out.flush()?;
        let mut line = String::new();
        let read = stdin().lock().read_line(&mut line);
        let ask = |source| Failure::Ask { what: "answer".to_owned(), source, option: "--yes-i-read" };
        if read.map_err(ask)? == 0 || line.trim().is_empty() {
            return Err(Failure::Refused("you did not agree".to_owned(), LEFT));
        }
        if are(expected, &line) {
            return Ok(());
        }
        writeln!(out, "These are not the words.")?;
    }
    Err(Failure::Refused(format!("the words were typed wrongly {TRIES} times"), LEFT))
}

/// Takes a plain yes, from the command line or from the terminal.
pub(super) fn yes(question: &str, given: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if given {
        return Ok(());
    }
    if !stdin().is_terminal() {
        let what = "nobody is at a terminal to say yes".to_owned();
        return Err(Failure::Refused(what, "Give --yes. Nothing was signed"));
    }
    write!(out, "{question} Type yes: ")?;
    out.flush()?;
    let mut line = String::new();
    let read = stdin().lock().read_line(&mut line);
    read.map_err(|source| Failure::Ask { what: "answer".to_owned(), source, option: "--yes" })?;
    if line.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    Err(Failure::Refused("you did not say yes".to_owned(), "Nothing was signed, and nothing was sent"))
}

/// In the list, the first four letters tell a word from all others.
fn are(expected: Words, given: &str) -> bool {
    let given: Vec<String> = given.split_whitespace().map(str::to_lowercase).collect();
    let expected: Vec<&str> = expected.iter().collect();
    let same = |expected: &str, given: &str| expected == given || (given.len() >= 4 && expected.starts_with(given));
    given.len() == expected.len() && expected.iter().zip(&given).all(|(expected, given)| same(expected, given))
}

#[cfg(test)]
mod tests {
    use chancery::protocol::hash::Hash;

    use super::*;

    #[test]
    fn four_letters_of_each_word_will_do_and_nothing_less() {
        let words = Words::of(&Hash::of_bytes(b"a statement"));
        let said = words.to_string();
        let cut: Vec<&str> = said.split(' ').map(|word| word.get(..4).unwrap_or(word)).collect();
        assert!(are(words, &said) && are(words, &cut.join("  ")) && are(words, &said.to_uppercase()));
        let short: Vec<&str> = said.split(' ').map(|word| word.get(..2).unwrap_or(word)).collect();
        let nine: Vec<&str> = said.split(' ').take(9).collect();
        let other = Words::of(&Hash::of_bytes(b"another")).to_string();
        for wrong in [short.join(" "), nine.join(" "), other, String::new(), format!("{said} {said}")] {
            assert!(!are(words, &wrong), "{wrong}");
        }
    }
}
