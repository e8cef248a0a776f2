//! The canonical encoding of everything chancery stores, hashes or sends.
//!
//! Integers are big-endian and of fixed width, byte strings carry a 32-bit length, lists a 16-bit count, and every document
//! opens with its label. There is one encoding of each value: a decoder accepts only what the encoder writes, which
//! [`Document::decode`] proves each time by encoding again. Bounds are checked before anything is allocated.

use crate::protocol::label::Label;

/// Why bytes were not accepted. Nothing was changed by the attempt; ask the sender for the document again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The input ends inside a field.
    #[error("the input ends inside {field}: {missing} more bytes were expected")]
    Truncated {
        /// The field that was being read.
        field: &'static str,
        /// How many bytes are missing.
        missing: usize,
    },
    /// Bytes follow the document's end.
    #[error("{count} bytes follow the end of the document")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// A length or count is over its bound.
    #[error("{field} has length {length}; at most {bound} is accepted")]
    TooLong {
        /// The field.
        field: &'static str,
        /// The length found.
        length: usize,
        /// The bound.
        bound: usize,
    },
    /// A field's value is not one the encoder writes.
    #[error("{field} is not valid: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The document is of another kind.
    #[error("this is not a {expected} document")]
    WrongKind {
        /// The label that was expected.
        expected: &'static str,
    },
    /// The bytes decode, but are not what the encoder writes for that value.
    #[error("the document is not in canonical form")]
    NotCanonical,
}

/// Something with one encoding.
pub trait Wire: Sized {
    /// Appends the encoding.
    fn write(&self, out: &mut Writer);

    /// Reads one value and leaves the reader behind it.
    ///
    /// # Errors
    /// [`WireError`] where the bytes are not what [`Wire::write`] writes.
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError>;
}

/// A value that stands alone: a file, a message, a signed or hashed object.
pub trait Document: Wire {
    /// The label that opens the document.
    const LABEL: Label;
    /// The largest encoding accepted, in bytes.
    const MAX_BYTES: usize;

    /// The canonical bytes.
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.label(Self::LABEL);
        self.write(&mut out);
        out.finish()
    }

    /// Reads a whole document.
    ///
    /// # Errors
    /// [`WireError`] where the bytes are too many, of another kind, or not exactly what [`Document::encode`] writes.
    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(WireError::TooLong { field: "document", length: bytes.len(), bound: Self::MAX_BYTES });
        }
        let mut input = Reader::new(bytes);
        input.label(Self::LABEL)?;
        let value = Self::read(&mut input)?;
        input.finish()?;
        if value.encode() != bytes {
            return Err(WireError::NotCanonical);
        }
        Ok(value)
    }
}

/// Builds an encoding.
#[derive(Default)]
pub struct Writer(Vec<u8>);

// Secrets are written and read as well: neither end shows what it holds.
impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({} bytes)", self.0.len())
    }
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer that holds `bytes` bytes without moving: for secrets, of which growing would leave copies behind.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// The bytes written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// A label, with its length in one byte.
    pub fn label(&mut self, label: Label) -> &mut Self {
        // Label::ALL is tested to be at most 64 bytes each.
        self.0.push(u8::try_from(label.as_bytes().len()).unwrap_or(u8::MAX));
        self.raw(label.as_bytes())
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// A 16-bit integer.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// A 32-bit integer.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// A 64-bit integer.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Bytes of a length that both sides know.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A byte string with its 32-bit length. Longer than 4 GiB cannot be decoded again, and is bounded long before.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).raw(bytes)
    }

    /// A list with its 16-bit count.
    pub fn list<T: Wire>(&mut self, items: &[T]) -> &mut Self {
        self.u16(u16::try_from(items.len()).unwrap_or(u16::MAX));
        for item in items {
            item.write(self);
        }
        self
    }

    /// One value.
    pub fn value<T: Wire>(&mut self, value: &T) -> &mut Self {
        value.write(self);
        self
    }
}

/// Takes an encoding apart.
pub struct Reader<'a>(&'a [u8]);

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({} bytes left)", self.0.len())
    }
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many bytes are left.
    pub const fn remaining(&self) -> usize {
        self.0.len()
    }

    /// # Errors
    /// Where bytes are left over.
    pub const fn finish(&self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::Trailing { count: self.0.len() }) }
    }

    /// # Errors
    /// Where the input opens with anything but `label`.
    pub fn label(&mut self, label: Label) -> Result<(), WireError> {
        let wrong = WireError::WrongKind { expected: label.as_str() };
        let length = self.u8("label").map_err(|_| wrong.clone())?;
        let found = self.raw(usize::from(length), "label").map_err(|_| wrong.clone())?;
        if found == label.as_bytes() { Ok(()) } else { Err(wrong) }
    }

    /// `count` bytes.
    ///
    /// # Errors
    /// Where the input is shorter.
    pub fn raw(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        match self.0.split_at_checked(count) {
            Some((head, tail)) => {
                self.0 = tail;
                Ok(head)
            }
            None => Err(WireError::Truncated { field, missing: count.saturating_sub(self.0.len()) }),
        }
    }

    /// `N` bytes.
    ///
    /// # Errors
    /// Where the input is shorter.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        match self.0.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.0 = tail;
                Ok(*head)
            }
            None => Err(WireError::Truncated { field, missing: N.saturating_sub(self.0.len()) }),
        }
    }

    /// One byte.
    ///
    /// # Errors
    /// Where the input is shorter.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array(field).map(u8::from_be_bytes)
    }

    /// A 16-bit integer.
    ///
    /// # Errors
    /// Where the input is shorter.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// A 32-bit integer.
    ///
    /// # Errors
    /// Where the input is shorter.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// A 64-bit integer.
    ///
    /// # Errors
    /// Where the input is shorter.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// A byte string of at most `bound` bytes.
    ///
    /// # Errors
    /// Where its length is over the bound, or the input is shorter.
    pub fn bytes(&mut self, bound: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.u32(field)?).unwrap_or(usize::MAX);
        if length > bound {
            return Err(WireError::TooLong { field, length, bound });
        }
        self.raw(length, field)
    }

    /// A list of at most `bound` items.
    ///
    /// # Errors
    /// Where its count is over the bound, or an item does not read.
    pub fn list<T: Wire>(&mut self, bound: usize, field: &'static str) -> Result<Vec<T>, WireError> {
        let length = usize::from(self.u16(field)?);
        if length > bound {
            return Err(WireError::TooLong { field, length, bound });
        }
        (0..length).map(|_| T::read(self)).collect()
    }

    /// One value.
    ///
    /// # Errors
    /// Where it does not read.
    pub fn value<T: Wire>(&mut self) -> Result<T, WireError> {
        T::read(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Pair(u16, Vec<u8>);

    impl Wire for Pair {
        fn write(&self, out: &mut Writer) {
            out.u16(self.0).bytes(&self.1);
        }
        fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
            // A deliberately sloppy reader: 9 and 10 read as the same value.
            let number = input.u16("number")?;
            Ok(Self(if number == 10 { 9 } else { number }, input.bytes(8, "text")?.to_vec()))
        }
    }

    impl Document for Pair {
        const LABEL: Label = Label::SLOT;
        const MAX_BYTES: usize = 64;
    }

    #[test]
    fn a_document_reads_back_and_every_cut_is_refused() {
        let bytes = Pair(7, b"register".to_vec()).encode();
        assert_eq!(Pair::decode(&bytes).unwrap(), Pair(7, b"register".to_vec()));
        for end in 0..bytes.len() {
            assert!(Pair::decode(&bytes[..end]).is_err(), "accepted {end} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn a_second_encoding_of_a_value_is_refused() {
        let mut bytes = Pair(9, vec![]).encode();
        let at = bytes.len() - 5;
        bytes[at] = 10;
        assert_eq!(Pair::decode(&bytes), Err(WireError::NotCanonical));
    }

    #[test]
    fn neither_end_shows_what_it_holds() {
        let mut writer = Writer::new();
        writer.raw(&[222; 4]);
        for shown in [format!("{writer:?}"), format!("{:?}", Reader::new(&[222; 4]))] {
            assert!(shown.contains("4 bytes") && !shown.contains("222"), "{shown}");
        }
    }

    #[test]
    fn bounds_hold_before_anything_is_read() {
        let bytes = Pair(1, vec![0; 9]).encode();
        assert_eq!(Pair::decode(&bytes), Err(WireError::TooLong { field: "text", length: 9, bound: 8 }));
        assert!(matches!(Pair::decode(&[0; 65]), Err(WireError::TooLong { field: "document", .. })));
        let mut longer = Pair(1, vec![]).encode();
        longer.push(0);
        assert_eq!(Pair::decode(&longer), Err(WireError::Trailing { count: 1 }));
        assert!(matches!(Pair::decode(b"\x03abc"), Err(WireError::WrongKind { .. })));
        assert!(matches!(Pair::decode(b""), Err(WireError::WrongKind { .. })));
    }
}
