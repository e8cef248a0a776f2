//! Boot event logs: strict parsing, and replay to the PCR values they claim (protocol.md §11).
//!
//! A log is the firmware's own account of what it measured (TCG PC Client Platform Firmware Profile, 10): crypto-agile, or
//! the older form with SHA-1 only. Nothing in it is authenticated but the digests, and those only once the replayed values
//! equal quoted PCRs; event types and data stay claims. The parser is total: any bytes give a log or an error with an offset.

use std::collections::BTreeMap;

use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::protocol::tpm::pcr::{PCR_COUNT, PcrValues};

/// The largest log read, in bytes. Firmware reserves 64 KiB to 1 MiB.
pub const MAX_LOG_BYTES: usize = 8 << 20;
/// The most events read. Real machines log 25 to 400; a full boot loader menu some thousands.
pub const MAX_EVENTS: usize = 1 << 16;
/// The largest event data read, in bytes. Revocation lists, the largest known, have some 20 KiB.
pub const MAX_EVENT_BYTES: usize = 1 << 20;
/// The most digest algorithms in one log: TPMs have up to five banks.
pub const MAX_ALGORITHMS: usize = 8;

/// Where a log is wrong, and how. Nothing of such a log is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event log, byte {offset}: {fault}")]
pub struct EventLogError {
    /// Where the fault was seen, from the log's start.
    pub offset: usize,
    /// What is wrong.
    pub fault: EventLogFault,
}

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventLogFault {
    /// No bytes.
    #[error("the log is empty")]
    Empty,
    /// More than [`MAX_LOG_BYTES`].
    #[error("a log of {length} bytes is over the bound of {MAX_LOG_BYTES}")]
    TooLong {
        /// The log's length.
        length: usize,
    },
    /// More than [`MAX_EVENTS`].
    #[error("more than {MAX_EVENTS} events")]
    TooManyEvents,
    /// The log ends inside a field.
    #[error("the log ends inside {field}: {missing} more bytes were expected")]
    Truncated {
        /// The field.
        field: &'static str,
        /// How many bytes are missing.
        missing: usize,
    },
    /// Event data over [`MAX_EVENT_BYTES`].
    #[error("event data of {length} bytes is over the bound of {MAX_EVENT_BYTES}")]
    EventTooLong {
        /// The length claimed.
        length: usize,
    },
    /// A measurement into a PCR that does not exist.
    #[error("a measurement into PCR {pcr}: they are numbered 0 to 23")]
    NoSuchPcr {
        /// The number.
        pcr: u32,
    },
    /// The log opens with an EV_NO_ACTION that is no Spec ID event.
    #[error("the log opens with an event that measures nothing and does not say which form the log has")]
    NoSpecId,
    /// The Spec ID event is malformed.
    #[error("the Spec ID event is malformed: {reason}")]
    SpecId {
        /// How.
        reason: &'static str,
    },
    /// An event's digests are not one for each algorithm of the Spec ID event.
    #[error("an event has not exactly one digest for each of the log's algorithms")]
    Digests,
    /// A StartupLocality event that is malformed, repeated, or comes after the first measurement into PCR 0.
    #[error("the StartupLocality event is {reason}")]
    StartupLocality {
        /// How.
        reason: &'static str,
    },
    /// An H-CRTM event that is not the first measurement into PCR 0.
    #[error("the H-CRTM event is not the first measurement into PCR 0")]
    HCrtm,
}

/// A digest algorithm, as a TPM_ALG_ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlgorithmId(pub u16);

/// A bank of PCRs that can be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bank {
    /// SHA-1: read for old machines, decides nothing.
    Sha1,
    /// SHA-256: the bank that registers and quotes use.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Bank {
    /// Every bank, in order.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The TPM_ALG_ID (TPM 2.0 Part 2, 6.3).
    pub const fn algorithm(self) -> AlgorithmId {
        AlgorithmId(match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000B,
            Self::Sha384 => 0x000C,
            Self::Sha512 => 0x000D,
        })
    }

    /// Length of a digest in bytes.
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    fn extend(self, value: &[u8], digest: &[u8]) -> Vec<u8> {
        fn hash<H: Digest>(value: &[u8], digest: &[u8]) -> Vec<u8> {
            H::new().chain_update(value).chain_update(digest).finalize().to_vec()
        }
        match self {
            Self::Sha1 => hash::<Sha1>(value, digest),
            Self::Sha256 => hash::<Sha256>(value, digest),
            Self::Sha384 => hash::<Sha384>(value, digest),
            Self::Sha512 => hash::<Sha512>(value, digest),
        }
    }
}

impl std::fmt::Display for Bank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        })
    }
}

/// The type of an event (PFP, 10.4.1): a claim of whoever wrote the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(pub u32);

impl EventType {
    /// EV_NO_ACTION: says something, measures nothing.
    pub const NO_ACTION: Self = Self(0x0000_0003);
    /// EV_SEPARATOR: ends the firmware's part of a PCR.
    pub const SEPARATOR: Self = Self(0x0000_0004);
    /// EV_EFI_HCRTM_EVENT: measured by hardware before the TPM was started.
    pub const H_CRTM: Self = Self(0x8000_0010);
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Where it begins in the log.
    pub offset: usize,
    /// The PCR. 0 to 23 for everything that was measured; EV_NO_ACTION may name others.
    pub pcr: u32,
    /// What it claims to be.
    pub kind: EventType,
    /// What was extended, per algorithm.
    pub digests: Vec<(AlgorithmId, &'a [u8])>,
    /// What it claims was hashed, or a description of it.
    pub data: &'a [u8],
}

impl<'a> Event<'a> {
    /// What was extended into a bank.
    pub fn digest(&self, bank: Bank) -> Option<&'a [u8]> {
        self.digests.iter().find(|(algorithm, _)| *algorithm == bank.algorithm()).map(|(_, digest)| *digest)
    }

    /// The PCR that this event was extended into; `None` for EV_NO_ACTION.
    pub fn measured_into(&self) -> Option<u8> {
        u8::try_from(self.pcr).ok().filter(|_| self.kind != EventType::NO_ACTION)
    }
}

/// Replayed PCR values: bank → PCR → value. PCRs that the log never extends are absent.
pub type Replay = BTreeMap<Bank, BTreeMap<u8, Vec<u8>>>;

/// A log that was read to its last byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog<'a> {
    events: Vec<Event<'a>>,
    algorithms: Vec<(AlgorithmId, usize)>,
    agile: bool,
    start: u8,
}

impl<'a> EventLog<'a> {
    /// Reads a whole log of either form.
    ///
    /// # Errors
    /// [`EventLogError`] where any byte is not as the specification has it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EventLogError> {
        let fault = |fault| EventLogError { offset: 0, fault };
        if bytes.is_empty() {
            return Err(fault(EventLogFault::Empty));
        }
        if bytes.len() > MAX_LOG_BYTES {
            return Err(fault(EventLogFault::TooLong { length: bytes.len() }));
        }
        let mut input = Input { rest: bytes, offset: 0 };
        let sha1_only = vec![(Bank::Sha1.algorithm(), Bank::Sha1.digest_bytes())];

        // The first event has the old form in both kinds of log.
        let first = input.legacy_event()?;
        let agile = if first.kind == EventType::NO_ACTION { spec_id(&first)? } else { None };
        let algorithms = agile.clone().unwrap_or(sha1_only);
        let mut events = vec![first];
        while !input.rest.is_empty() {
            if events.len() >= MAX_EVENTS {
                return Err(input.fault(EventLogFault::TooManyEvents));
            }
            events.push(match &agile {
                Some(algorithms) => input.agile_event(algorithms)?,
                None => input.legacy_event()?,
            });
        }
        let start = start_of_pcr_0(&events)?;
        Ok(Self { events, algorithms, agile: agile.is_some(), start })
    }

    /// Whether this is the crypto-agile form; the older one has SHA-1 digests only and is never accepted as evidence.
    pub const fn is_crypto_agile(&self) -> bool {
        self.agile
    }

    /// Every event in order, those that measure nothing included.
    pub fn events(&self) -> &[Event<'a>] {
        &self.events
    }

    /// The banks that this log covers and [`EventLog::replay`] computes.
    pub fn banks(&self) -> impl Iterator<Item = Bank> + '_ {
        Bank::ALL.into_iter().filter(|bank| self.algorithms.iter().any(|(id, _)| *id == bank.algorithm()))
    }

    /// Where PCR 0 starts: 0, or the locality at which the TPM was started (3), or 4 after a hardware measurement.
    pub const fn start_of_pcr_0(&self) -> u8 {
        self.start
    }

    /// The values that the PCRs have if exactly these events were extended.
    pub fn replay(&self) -> Replay {
        self.banks().map(|bank| (bank, self.replay_bank(bank))).collect()
    }

    /// The values of the SHA-256 bank; empty where the log has none.
    pub fn sha256_pcrs(&self) -> PcrValues {
        let values = self.replay_bank(Bank::Sha256).into_iter();
        values.filter_map(|(pcr, value)| Some((pcr, value.try_into().ok()?))).collect()
    }

    fn replay_bank(&self, bank: Bank) -> BTreeMap<u8, Vec<u8>> {
        let mut values = BTreeMap::new();
        for event in &self.events {
            // protocol.md §11: EV_NO_ACTION is never extended.
            if let (Some(pcr), Some(digest)) = (event.measured_into(), event.digest(bank)) {
                let value = values.entry(pcr).or_insert_with(|| {
                    let mut start = vec![0; bank.digest_bytes()];
                    if let Some(last) = start.last_mut().filter(|_| pcr == 0) {
                        *last = self.start;
                    }
                    start
                });
                *value = bank.extend(value, digest);
            }
        }
        values
    }
}

const SPEC_ID_AGILE: &[u8; 16] = b"Spec ID Event03\0";
/// Of the older forms, 00 is the conventional BIOS's and 02 the first EFI one's.
const SPEC_ID_LEGACY: [&[u8; 16]; 2] = [b"Spec ID Event00\0", b"Spec ID Event02\0"];
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";

/// Reads a Spec ID event (PFP, 10.4.5.1): `Some` with the algorithms for a crypto-agile log, `None` for the older form.
fn spec_id(event: &Event<'_>) -> Result<Option<Vec<(AlgorithmId, usize)>>, EventLogError> {
    let at = |fault| EventLogError { offset: event.offset, fault };
    let malformed = |reason| at(EventLogFault::SpecId { reason });
    let mut input = Input { rest: event.data, offset: event.offset };
    let signature = input.take::<16>("Spec ID").map_err(|_| at(EventLogFault::NoSpecId))?;
    if SPEC_ID_LEGACY.contains(&&signature) {
        return Ok(None);
    }
    if &signature != SPEC_ID_AGILE {
        return Err(at(EventLogFault::NoSpecId));
    }
    let short = |_| malformed("it is too short");
    if event.pcr != 0 || event.digests.iter().any(|(_, digest)| digest.iter().any(|byte| *byte != 0)) {
        return Err(malformed("its PCR or digest is not zero"));
    }
    // Platform class, then version 2.0, errata and the size of UINTN, none of which changes how a log is read.
    input.take::<8>("Spec ID version").map_err(short)?;
    let count = input.u32("Spec ID algorithms").map_err(short)? as usize;
    if count == 0 || count > MAX_ALGORITHMS {
        return Err(malformed("it names no algorithm, or too many"));
    }
    let mut algorithms: Vec<(AlgorithmId, usize)> = Vec::new();
    for _ in 0..count {
        let id = AlgorithmId(input.u16("Spec ID algorithm").map_err(short)?);
        let size = usize::from(input.u16("Spec ID digest size").map_err(short)?);
        if algorithms.iter().any(|(other, _)| *other == id) {
            return Err(malformed("it names an algorithm twice"));
        }
        if Bank::ALL.iter().any(|bank| bank.algorithm() == id && bank.digest_bytes() != size) {
            return Err(malformed("it gives an algorithm another digest size than it has"));
        }
        if size == 0 || size > 64 {
            return Err(malformed("a digest has 1 to 64 bytes"));
        }
        algorithms.push((id, size));
    }
    let [vendor] = input.take::<1>("vendor information").map_err(short)?;
    if input.rest.len() != usize::from(vendor) {
        return Err(malformed("its vendor information has another length than it says"));
    }
    Ok(Some(algorithms))
}

/// protocol.md §11: PCR 0 starts at the locality of TPM2_Startup, or at 4 after an H-CRTM event (PFP, 10.4.5.3).
/// Both must come before anything else is extended into it.
fn start_of_pcr_0(events: &[Event<'_>]) -> Result<u8, EventLogError> {
    let mut locality = None;
    let mut h_crtm = false;
    let mut measured = false;
    for event in events {
        let at = |fault| EventLogError { offset: event.offset, fault };
        if event.kind == EventType::NO_ACTION {
            let Some(tail) = event.data.strip_prefix(STARTUP_LOCALITY) else { continue };
            let wrong = |reason| at(EventLogFault::StartupLocality { reason });
            let value = match tail {
                [value @ (0 | 3 | 4)] => *value,
                _ => return Err(wrong("malformed: one byte of 0, 3 or 4 follows its name")),
            };
            if event.pcr != 0 {
                return Err(wrong("malformed: it is not about PCR 0"));
            }
            if locality.replace(value).is_some() {
                return Err(wrong("there twice"));
            }
            if measured && !h_crtm {
                return Err(wrong("after the first measurement into PCR 0"));
            }
        } else if event.pcr == 0 {
            if event.kind == EventType::H_CRTM {
                if measured {
                    return Err(at(EventLogFault::HCrtm));
                }
                h_crtm = true;
            }
            measured = true;
        }
    }
    // A hardware measurement happens before TPM2_Startup, which then leaves PCR 0 as it is.
    Ok(if h_crtm { 4 } else { locality.unwrap_or(0) })
}

/// Little-endian input that knows where it is.
struct Input<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Input<'a> {
    const fn fault(&self, fault: EventLogFault) -> EventLogError {
        EventLogError { offset: self.offset, fault }
    }

    fn slice(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], EventLogError> {
        let missing = count.saturating_sub(self.rest.len());
        let (head, tail) =
            self.rest.split_at_checked(count).ok_or_else(|| self.fault(EventLogFault::Truncated { field, missing }))?;
        self.rest = tail;
        self.offset = self.offset.saturating_add(count);
        Ok(head)
    }

    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], EventLogError> {
        let mut out = [0; N];
        out.copy_from_slice(self.slice(N, field)?);
        Ok(out)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, EventLogError> {
        self.take(field).map(u16::from_le_bytes)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, EventLogError> {
        self.take(field).map(u32::from_le_bytes)
    }

    fn pcr_and_type(&mut self) -> Result<(u32, EventType), EventLogError> {
        let at = self.offset;
        let (pcr, kind) = (self.u32("PCR index")?, EventType(self.u32("event type")?));
        if kind != EventType::NO_ACTION && pcr >= u32::from(PCR_COUNT) {
            return Err(EventLogError { offset: at, fault: EventLogFault::NoSuchPcr { pcr } });
        }
        Ok((pcr, kind))
    }

    fn data(&mut self) -> Result<&'a [u8], EventLogError> {
        let at = self.offset;
        let length = usize::try_from(self.u32("event size")?).unwrap_or(usize::MAX);
        if length > MAX_EVENT_BYTES {
            return Err(EventLogError { offset: at, fault: EventLogFault::EventTooLong { length } });
        }
        self.slice(length, "event data")
    }

    /// TCG_PCR_EVENT (PFP, 10.2.1): PCR, type, SHA-1 digest, data.
    fn legacy_event(&mut self) -> Result<Event<'a>, EventLogError> {
        let offset = self.offset;
        let (pcr, kind) = self.pcr_and_type()?;
        let digests = vec![(Bank::Sha1.algorithm(), self.slice(Bank::Sha1.digest_bytes(), "digest")?)];
        Ok(Event { offset, pcr, kind, digests, data: self.data()? })
    }

    /// TCG_PCR_EVENT2 (PFP, 10.2.2): PCR, type, one digest for each of the log's algorithms in any order, data.
    fn agile_event(&mut self, algorithms: &[(AlgorithmId, usize)]) -> Result<Event<'a>, EventLogError> {
        let offset = self.offset;
        let (pcr, kind) = self.pcr_and_type()?;
        let at = self.offset;
        let wrong = EventLogError { offset: at, fault: EventLogFault::Digests };
        let count = usize::try_from(self.u32("digest count")?).unwrap_or(usize::MAX);
        if count != algorithms.len() {
            return Err(wrong);
        }
        let mut digests: Vec<(AlgorithmId, &'a [u8])> = Vec::with_capacity(count);
        for _ in 0..count {
            let id = AlgorithmId(self.u16("digest algorithm")?);
            let size = algorithms.iter().find(|(known, _)| *known == id).map(|(_, size)| *size).ok_or(wrong)?;
            if digests.iter().any(|(earlier, _)| *earlier == id) {
                return Err(wrong);
            }
            digests.push((id, self.slice(size, "digest")?));
        }
        Ok(Event { offset, pcr, kind, digests, data: self.data()? })
    }
}

#[cfg(test)]
mod tests;
