//! Looking for secrets in another process's memory: every readable mapping, and a core that gdb's `gcore` writes.
//!
//! A secret is searched for in every form in which it could lie there: as it travels, byte-swapped as arithmetic keeps it, and
//! for points as the curve's own library keeps them (Montgomery form). Whoever searches also plants something, and finds it.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
};

use chancery::protocol::{
    dataset::DatasetSeed,
    dataset_version::VerifiedVersion,
    group::Point,
    hash::{DerivedRng, derive},
    hybrid::EXPANDED_BYTES,
    label::Label,
    secret::SecretScalar,
    slot::SealedFor,
};

/// The length of what is searched for.
const NEEDLE: usize = 32;
/// How much is read at once, and how much of it is read again so that nothing is cut in two.
const CHUNK: usize = 4 << 20;
const PAGE: u64 = 4096;

/// What is searched for.
#[derive(Default)]
pub struct Needles {
    known: Vec<(String, [u8; NEEDLE])>,
    /// Each word of eight bytes with which an aligned part of a needle can begin, as a filter and exactly.
    filter: Vec<bool>,
    words: std::collections::HashMap<u64, Vec<(usize, usize)>>,
}

/// Something that was found, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub what: String,
    pub place: String,
}

fn filtered(word: u64) -> usize {
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize
}

impl Needles {
    pub fn new() -> Self {
        Self { filter: vec![false; 1 << 16], ..Self::default() }
    }

    /// Exactly these bytes.
    pub fn exactly(&mut self, what: &str, bytes: &[u8]) {
        let needle: [u8; NEEDLE] = bytes.try_into().unwrap();
        let index = self.known.len();
        self.known.push((what.to_owned(), needle));
        // Wherever it lies, one of its first eight places is a multiple of eight.
        for offset in 0..8 {
            let word = u64::from_le_bytes(needle[offset..offset + 8].try_into().unwrap());
            self.filter[filtered(word)] = true;
            self.words.entry(word).or_default().push((index, offset));
        }
    }

    /// 32 secret bytes, in both orders.
    pub fn number(&mut self, what: &str, bytes: &[u8]) {
        self.exactly(what, bytes);
        let swapped: Vec<u8> = bytes.iter().rev().copied().collect();
        self.exactly(&format!("{what}, byte-swapped"), &swapped);
    }

    /// Both coordinates of a secret point, in both orders and in Montgomery form.
    pub fn point(&mut self, what: &str, point: &Point) {
        let (x, y) = point.xy();
        for (name, coordinate) in [("x", x), ("y", y)] {
            self.number(&format!("{name} of {what}"), &coordinate);
            self.exactly(&format!("{name} of {what}, in Montgomery form"), &montgomery(&coordinate));
        }
    }

    /// Everything that an opened dataset's seed gives away: itself, its keys, and all that its embassy slot is made of.
    pub fn dataset(&mut self, name: &str, seed: &DatasetSeed, version: &VerifiedVersion, here: &SealedFor) {
        self.number(&format!("the seed of {name}"), seed.expose());
        let mut keys = [0; EXPANDED_BYTES];
        seed.key().write_expanded(&mut keys);
        let (ml_kem, p256) = keys.split_at(EXPANDED_BYTES - 32);
        self.number(&format!("the P-256 key of {name}"), p256);
        self.exactly(&format!("the ML-KEM key of {name}"), &ml_kem[..32]);
        self.exactly(&format!("the ML-KEM key of {name}, from the middle"), &ml_kem[600..632]);
        self.exactly(&format!("z of the ML-KEM key of {name}"), &ml_kem[ml_kem.len() - 32..]);
        self.exactly(&format!("the ML-KEM key of {name}, unpacked"), &unpacked(&ml_kem[..24]));

        // protocol.md §6.2, for whoever has the seed.
        let slot = version.slot(here).unwrap();
        let context = slot.context();
        let coins = |purpose: u8| {
            DerivedRng::new(seed.expose(), Label::SLOT_DERIVE, |out| {
                out.value(&context.id()).u8(purpose);
            })
        };
        let r = SecretScalar::random(&mut coins(1));
        assert_eq!(&Point::mul_generator(r.expose()), slot.point(), "protocol.md §6.2 is followed");
        let w = SecretScalar::random(&mut coins(2));
        self.number(&format!("r of {name}"), r.to_bytes().expose());
        self.number(&format!("w of {name}"), w.to_bytes().expose());
        let z_y = context.quorum().key().mul(r.expose());
        let z_t = context.kind().custody_key().unwrap().mul(r.expose());
        self.point(&format!("Z_Y of {name}"), &z_y);
        self.point(&format!("Z_T of {name}"), &z_t);
        let joined = [z_y.xy().0, z_t.xy().0, *w.to_bytes().expose()].concat();
        let kek = derive::<32>(&joined, Label::SLOT_KEK, |out| {
            out.value(&context.id()).value(slot.point());
        });
        self.exactly(&format!("the key-encryption key of {name}"), kek.expose());
    }

    /// Where the needles lie in `bytes`.
    fn in_bytes(&self, bytes: &[u8], mut found: impl FnMut(&str, usize)) {
        for (at, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            if !self.filter[filtered(word)] {
                continue;
            }
            for (index, offset) in self.words.get(&word).into_iter().flatten() {
                let (what, needle) = &self.known[*index];
                let begin = (at * 8).wrapping_sub(*offset);
                if bytes.get(begin..begin.wrapping_add(NEEDLE)) == Some(needle.as_slice()) {
                    found(what, begin);
                }
            }
        }
    }

    /// Searches a stretch of a file; gives how much of it could be read.
    fn in_stretch(&self, file: &File, from: u64, to: u64, place: &str, found: &mut Vec<Found>) -> u64 {
        let (mut at, mut read) = (from, 0);
        let mut buffer = vec![0; CHUNK];
        while at < to {
            let length = usize::try_from((to - at).min(CHUNK as u64)).unwrap();
            let count = match file.read_at(&mut buffer[..length], at) {
                Ok(count) if count > 0 => count,
                // One page that cannot be read hides nothing behind it.
                _ => {
                    at = (at | (PAGE - 1)) + 1;
                    continue;
                }
            };
            self.in_bytes(&buffer[..count], |what, offset| {
                found.push(Found { what: what.to_owned(), place: format!("{place}, at {:x}", at + offset as u64) });
            });
            read += count as u64;
            // The end is read again, so that nothing is cut in two; reads stay aligned to eight.
            let again = if at + (count as u64) < to && count > 4 * NEEDLE { 2 * NEEDLE } else { 0 };
            at += (count - again) as u64;
        }
        found.sort();
        found.dedup();
        read
    }

    /// Searches every readable mapping of a process.
    pub fn in_process(&self, process: u32, mappings: &Mappings) -> Searched {
        let memory = File::open(format!("/proc/{process}/mem")).unwrap();
        let mut searched = Searched::default();
        for mapping in mappings.of(process) {
            if !mapping.readable {
                continue;
            }
            let place = format!("{} ({:x}-{:x})", mapping.name, mapping.from, mapping.to);
            let read = self.in_stretch(&memory, mapping.from, mapping.to, &place, &mut searched.found);
            searched.bytes += read;
            if read == 0 {
                searched.unreadable.push(mapping.name);
            }
        }
        searched
    }

    /// Searches a core of a process; `Err` says why there is none.
    pub fn in_core(&self, process: u32, folder: &Path) -> Result<Searched, String> {
        let prefix = folder.join("core");
        let ran = Command::new("gcore").arg("-o").arg(&prefix).arg(process.to_string()).output();
        let ran = ran.map_err(|error| format!("gcore does not run ({error}); it comes with gdb"))?;
        let path = folder.join(format!("core.{process}"));
        if !ran.status.success() || !path.exists() {
            return Err(format!("gcore wrote no core: {}", String::from_utf8_lossy(&ran.stderr).trim()));
        }
        let searched = self.in_core_at(&path);
        std::fs::remove_file(path).unwrap();
        Ok(searched)
    }

    /// Searches a core that was written.
    pub fn in_core_at(&self, path: &Path) -> Searched {
        let mut core = File::open(path).unwrap();
        let mut searched = Searched::default();
        let length = core.seek(SeekFrom::End(0)).unwrap();
        searched.bytes = self.in_stretch(&core, 0, length, "the core", &mut searched.found);
        let mut magic = [0; 4];
        core.seek(SeekFrom::Start(0)).unwrap();
        core.read_exact(&mut magic).unwrap();
        assert_eq!(&magic, b"\x7fELF");
        searched
    }

    /// Searches memory that was written out.
    pub fn in_memory(&self, bytes: &[u8], place: &str, found: &mut Vec<Found>) {
        self.in_bytes(bytes, |what, offset| {
            found.push(Found { what: what.to_owned(), place: format!("{place}, at {offset:x}") });
        });
    }
}

/// What a search found, and how much it looked at.
#[derive(Debug, Default)]
pub struct Searched {
    pub found: Vec<Found>,
    pub bytes: u64,
    /// Mappings that are said to be readable and are not, from outside the process.
    pub unreadable: Vec<String>,
}

impl Searched {
    /// What was found of everything but `planted`.
    pub fn secrets<'a>(&'a self, planted: &'a str) -> Vec<&'a Found> {
        self.found.iter().filter(|found| found.what != planted).collect()
    }

    pub fn has(&self, planted: &str) -> bool {
        self.found.iter().any(|found| found.what == planted)
    }
}

/// Which mappings are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mappings {
    /// All.
    All,
    /// All that are not locked: where a kernel has no secret memory, keys of a live lease lie in locked pages.
    NotLocked,
}

struct Mapping {
    from: u64,
    to: u64,
    readable: bool,
    name: String,
}

impl Mappings {
    fn of(self, process: u32) -> Vec<Mapping> {
        let text = std::fs::read_to_string(format!("/proc/{process}/smaps")).unwrap();
        let mut mappings: Vec<Mapping> = Vec::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words[0] == "VmFlags:" {
                let locked = words.contains(&"lo");
                if let Some(last) = mappings.last_mut() {
                    last.readable &= !(locked && self == Self::NotLocked);
                }
            } else if let Some((from, to)) = words[0].split_once('-') {
                let number = |text| u64::from_str_radix(text, 16).unwrap();
                let name = words.get(5..).map_or_else(String::new, |name| name.join(" "));
                let name = if name.is_empty() { "anonymous memory".to_owned() } else { name };
                mappings.push(Mapping {
                    from: number(from),
                    to: number(to),
                    readable: words[1].starts_with('r'),
                    name,
                });
            }
        }
        assert!(mappings.len() > 10, "the mappings of process {process} were read");
        mappings
    }
}

/// a·2^256 mod p of P-256, least significant byte first: how its arithmetic keeps a coordinate.
fn montgomery(big_endian: &[u8; 32]) -> [u8; 32] {
    const P: [u64; 4] = [u64::MAX, 0x0000_0000_ffff_ffff, 0, 0xffff_ffff_0000_0001];
    let mut number = [0_u64; 4];
    for (limb, bytes) in number.iter_mut().zip(big_endian.rchunks_exact(8)) {
        *limb = u64::from_be_bytes(bytes.try_into().unwrap());
    }
    for _ in 0..256 {
        let carry = number[3] >> 63;
        for index in (1..4).rev() {
            number[index] = (number[index] << 1) | (number[index - 1] >> 63);
        }
        number[0] <<= 1;
        let (mut less, mut borrow) = ([0_u64; 4], false);
        for (index, limb) in less.iter_mut().enumerate() {
            let (first, one) = number[index].overflowing_sub(P[index]);
            let (second, two) = first.overflowing_sub(u64::from(borrow));
            (*limb, borrow) = (second, one || two);
        }
        if carry == 1 || !borrow {
            number = less;
        }
    }
    let mut out = [0; 32];
    out.chunks_exact_mut(8).zip(number).for_each(|(bytes, limb)| bytes.copy_from_slice(&limb.to_le_bytes()));
    out
}

/// 24 packed bytes as 16 coefficients of 12 bits, each in 16 bits: how portable ML-KEM keeps them.
fn unpacked(packed: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (pair, three) in out.chunks_exact_mut(4).zip(packed.chunks_exact(3)) {
        let (one, two) = (
            u16::from(three[0]) | (u16::from(three[1] & 0x0f) << 8),
            u16::from(three[1] >> 4) | (u16::from(three[2]) << 4),
        );
        pair[..2].copy_from_slice(&one.to_le_bytes());
        pair[2..].copy_from_slice(&two.to_le_bytes());
    }
    out
}
