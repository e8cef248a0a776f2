//! What an entry's fields may be: each kind with one encoding, a bound, and a line to read. No secret type is among them.

use crate::protocol::{
    ceremony::Outcome,
    certificate::UnixTime,
    hash::Hash,
    ids::{
        AgentName, Attempt, CeremonyId, DatasetName, DatasetVersion, EmbassyName, Generation, OfficialName, QuorumKind,
        SubjectName, WitnessName,
    },
    notice::{Denial, Stop},
    offer::SignedOffer,
    paragraph::Reason,
    quorum::Position,
    statement::{Resets, SignedStatement},
    wire::{Reader, WireError, Writer},
};

/// The most names, datasets or signatures in one field.
const MAX_LIST: usize = 64;

/// A field of an act.
pub(super) trait Fact: Sized {
    fn put(&self, out: &mut Writer);
    fn take(input: &mut Reader<'_>) -> Result<Self, WireError>;
    fn show(&self, label: &str, lines: &mut Vec<(String, String)>);
}

fn line(label: &str, text: impl ToString, lines: &mut Vec<(String, String)>) {
    lines.push((label.replace('_', " "), text.to_string()));
}

/// Kinds whose text is their line.
macro_rules! plain {
    ($($kind:ty),* $(,)?) => {$(
        impl Fact for $kind {
            fn put(&self, out: &mut Writer) {
                out.value(self);
            }
            fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
                input.value()
            }
            fn show(&self, label: &str, lines: &mut Vec<(String, String)>) {
                line(label, self, lines);
            }
        }
    )*};
}

plain!(
    AgentName,
    Attempt,
    CeremonyId,
    DatasetName,
    DatasetVersion,
    EmbassyName,
    Generation,
    Hash,
    OfficialName,
    Outcome,
    Position,
    QuorumKind,
    Reason,
    Resets,
    SubjectName,
    UnixTime,
    WitnessName,
);

impl Fact for u32 {
    fn put(&self, out: &mut Writer) {
        out.u32(*self);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.u32("number")
    }
    fn show(&self, label: &str, lines: &mut Vec<(String, String)>) {
        line(label, self, lines);
    }
}

impl Fact for u64 {
    fn put(&self, out: &mut Writer) {
        out.u64(*self);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.u64("number")
    }
    fn show(&self, label: &str, lines: &mut Vec<(String, String)>) {
        line(label, self, lines);
    }
}

impl Fact for bool {
    fn put(&self, out: &mut Writer) {
        out.u8(u8::from(*self));
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        match input.u8("yes or no")? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Invalid { field: "yes or no", reason: "neither no (0) nor yes (1)" }),
        }
    }
    fn show(&self, label: &str, lines: &mut Vec<(String, String)>) {
        line(label, if *self { "yes" } else { "no" }, lines);
    }
}

impl<T: Fact> Fact for Option<T> {
    fn put(&self, out: &mut Writer) {
        out.u8(u8::from(self.is_some()));
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        if bool::take(input)? { T::take(input).map(Some) } else { Ok(None) }
    }
    fn show(&self, label: &str, lines: &mut Vec<(String, String)>) {
        if let Some(value) = self {
            value.show(label, lines);
        }
    }
}

impl<T: Fact> Fact for Vec<T> {
    fn put(&self, out: &mut Writer) {
        out.u16(u16::try_from(self.len()).unwrap_or(u16::MAX));
        self.iter().for_each(|item| item.put(out));
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let length = usize::from(input.u16("list")?);
        if length > MAX_LIST {
            return Err(WireError::TooLong { field: "list", length, bound: MAX_LIST });
        }
        (0..length).map(|_| T::take(input)).collect()
    }
    fn show(&self, label: &str, lines: &mut Vec<(String, String)>) {
        self.iter().for_each(|item| item.show(label, lines));
    }
}

/// The whole signed statement, so that whoever reads the roll can check it.
impl Fact for Box<SignedStatement> {
    fn put(&self, out: &mut Writer) {
        out.value(self.as_ref());
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.value().map(Self::new)
    }
    fn show(&self, _: &str, lines: &mut Vec<(String, String)>) {
        line("ceremony", self.unverified().id(), lines);
        self.unverified().lines().into_iter().for_each(|(label, text)| line(label, text, lines));
    }
}

/// The whole signed offer.
impl Fact for Box<SignedOffer> {
    fn put(&self, out: &mut Writer) {
        out.value(self.as_ref());
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.value().map(Self::new)
    }
    fn show(&self, _: &str, lines: &mut Vec<(String, String)>) {
        let offer = self.unverified();
        line("ceremony", offer.statement().id(), lines);
        line("attempt", offer.attempt(), lines);
        line("offer", offer.hash(), lines);
        let subject = if offer.statement().mode().adoption().is_some() { "charter" } else { "slot" };
        offer.openings().iter().for_each(|opening| line(subject, opening.subject, lines));
    }
}

/// Notices that stand in the roll as they were signed.
macro_rules! notices {
    ($($kind:ty),*) => {$(
        impl Fact for $kind {
            fn put(&self, out: &mut Writer) {
                out.value(self);
            }
            fn take(input: &mut Reader<'_>) -> Result<Self, WireError> {
                input.value()
            }
            fn show(&self, _: &str, lines: &mut Vec<(String, String)>) {
                line("ceremony", self.ceremony(), lines);
                line("official", self.unverified_official(), lines);
                line("why", self.reason(), lines);
            }
        }
    )*};
}

notices!(Denial, Stop);
