//! What is said about one document: facts in order, and how far they can be relied on.

use chancery::protocol::{group::Point, hash::Hash, hybrid::HybridPublicKey};

use crate::cli::text::hex;

/// What a document holds. Values are escaped where they are printed.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    /// Name and value.
    pub(super) facts: Vec<(String, String)>,
    /// What was checked beyond the encoding.
    pub(super) checked: Vec<String>,
    /// What was not, and who can.
    pub(super) unchecked: Vec<String>,
    /// What does not hold: the document is not to be relied on.
    pub(super) wrong: Option<String>,
}

impl Sheet {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn fact(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.facts.push((name.into(), value.to_string()));
        self
    }

    /// One fact for each item.
    pub(super) fn each<T>(self, items: impl IntoIterator<Item = T>, fact: impl Fn(T) -> (String, String)) -> Self {
        items.into_iter().map(fact).fold(self, |sheet, (name, value)| sheet.fact(name, value))
    }

    pub(super) fn checked(mut self, what: impl Into<String>) -> Self {
        self.checked.push(what.into());
        self
    }

    pub(super) fn unchecked(mut self, what: impl Into<String>) -> Self {
        self.unchecked.push(what.into());
        self
    }

    pub(super) fn wrong(mut self, what: impl Into<String>) -> Self {
        self.wrong = Some(what.into());
        self
    }
}

/// A point in SEC 1 compressed form.
pub(super) fn point(point: &Point) -> String {
    hex(&point.encode())
}

/// A hybrid key has 1,249 bytes: its SHA-256 stands for it.
pub(super) fn hybrid(key: &HybridPublicKey) -> String {
    format!("SHA-256 {}", Hash::of_bytes(&key.encode()))
}

/// A long text by its SHA-256, so that two can be compared.
pub(super) fn of_text(text: &str) -> String {
    let (start, hash) = (text.get(..12).unwrap_or(text), Hash::of_bytes(text.as_bytes()));
    format!("{start}..., {} characters with SHA-256 {hash}", text.len())
}
