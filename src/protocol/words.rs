//! A hash as words that people read to each other over any line: ten of 2,048, from the list of BIP 39.
//!
//! Officials who hear the same ten words look at the same statement: 110 bits of its hash (protocol.md §10.2).

use crate::protocol::hash::Hash;

/// How many words: 10 of 11 bits each.
pub const WORDS: usize = 10;

/// The first 110 bits of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words([u16; WORDS]);

impl Words {
    /// The words that stand for a hash.
    pub fn of(hash: &Hash) -> Self {
        let mut bits = hash.as_bytes().iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
        // 256 bits are more than 110.
        Self([(); WORDS].map(|()| (0..11).fold(0, |word, _| word << 1 | bits.next().unwrap_or_default())))
    }

    /// Each word, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'static str> {
        let list = bip39::Language::English.word_list();
        // 11 bits are always below 2,048.
        self.0.into_iter().map(|word| list.get(usize::from(word)).copied().unwrap_or_default())
    }
}

impl std::fmt::Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.iter().enumerate().try_for_each(|(index, word)| write!(f, "{}{word}", if index == 0 { "" } else { " " }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_the_first_110_changes_a_word() {
        let plain = Words::of(&Hash([0; 32])).to_string();
        assert_eq!(plain, ["abandon"; 10].join(" "));
        assert_eq!(Words::of(&Hash([255; 32])).to_string(), ["zoo"; 10].join(" "));
        for bit in 0..256 {
            let mut hash = [0; 32];
            hash[bit / 8] = 0x80 >> (bit % 8);
            let words = Words::of(&Hash(hash));
            let changed = words.iter().filter(|word| *word != "abandon").count();
            assert_eq!(changed, usize::from(bit < 110), "bit {bit}");
        }
    }
}
