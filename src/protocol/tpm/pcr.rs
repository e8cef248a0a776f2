//! Platform states: which PCRs an embassy's register covers, their values, and the register's content for them.
//!
//! PCR values come from a quote or an event log that the caller has checked. The content is what the quorum writes into the
//! platform register: officials recompute it from the values they are shown (protocol.md §8.4).

use std::collections::BTreeMap;

use crate::protocol::{
    tpm::{alg, policy::PolicyDigest, sha256},
    wire::{Reader, Wire, WireError, Writer},
};

/// PCRs 0 to 23 exist (TCG PC Client Platform TPM Profile).
pub const PCR_COUNT: u8 = 24;

/// Why a platform state cannot be described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PcrError {
    /// Nothing selected: such a register would approve every state.
    #[error("no PCR is selected: a register over nothing would approve every platform state")]
    Empty,
    /// A PCR over 23.
    #[error("PCR {pcr} does not exist: they are numbered 0 to 23")]
    NoSuchPcr {
        /// The number.
        pcr: u8,
    },
    /// A PCR named twice.
    #[error("PCR {pcr} is selected twice")]
    Repeated {
        /// The number.
        pcr: u8,
    },
    /// A selected PCR without a value.
    #[error("PCR {pcr} is selected, but its value is not given")]
    Missing {
        /// The number.
        pcr: u8,
    },
    /// A value for a PCR that is not selected.
    #[error("a value is given for PCR {pcr}, which is not selected")]
    NotSelected {
        /// The number.
        pcr: u8,
    },
}

/// The values of some PCRs of the SHA-256 bank.
pub type PcrValues = BTreeMap<u8, [u8; 32]>;

/// A set of PCRs of the SHA-256 bank, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PcrSelection(u32);

impl PcrSelection {
    /// # Errors
    /// [`PcrError`] for an empty list, a PCR over 23, or one named twice.
    pub fn new(pcrs: &[u8]) -> Result<Self, PcrError> {
        let mut bits = 0u32;
        for &pcr in pcrs {
            if pcr >= PCR_COUNT {
                return Err(PcrError::NoSuchPcr { pcr });
            }
            if bits & (1 << pcr) != 0 {
                return Err(PcrError::Repeated { pcr });
            }
            bits |= 1 << pcr;
        }
        if bits == 0 { Err(PcrError::Empty) } else { Ok(Self(bits)) }
    }

    /// The selected PCRs, ascending.
    pub fn pcrs(self) -> impl Iterator<Item = u8> {
        (0..PCR_COUNT).filter(move |pcr| self.contains(*pcr))
    }

    /// Whether a PCR is selected.
    pub const fn contains(self, pcr: u8) -> bool {
        pcr < PCR_COUNT && self.0 & (1 << pcr) != 0
    }

    /// TPML_PCR_SELECTION with one bank and three octets (TPM 2.0 Part 2, 10.9.7).
    pub fn marshal(self) -> [u8; 10] {
        let [_, high, middle, low] = self.0.to_be_bytes();
        let [bank_high, bank_low] = alg::SHA256.to_be_bytes();
        [0, 0, 0, 1, bank_high, bank_low, 3, low, middle, high]
    }

    /// H over the selected values, ascending: the pcrDigest of quotes and of PolicyPCR.
    ///
    /// # Errors
    /// [`PcrError`] unless exactly the selected PCRs have values.
    pub fn digest(self, values: &PcrValues) -> Result<[u8; 32], PcrError> {
        if let Some(&pcr) = values.keys().find(|pcr| !self.contains(**pcr)) {
            return Err(PcrError::NotSelected { pcr });
        }
        let selected: Vec<&[u8]> = self
            .pcrs()
            .map(|pcr| values.get(&pcr).map(<[u8; 32]>::as_slice).ok_or(PcrError::Missing { pcr }))
            .collect::<Result<_, _>>()?;
        Ok(sha256(&selected))
    }
}

impl Wire for PcrSelection {
    fn write(&self, out: &mut Writer) {
        out.u32(self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        match input.u32("PCR selection")? {
            0 => Err(WireError::Invalid { field: "PCR selection", reason: "nothing is selected" }),
            bits if bits >> PCR_COUNT != 0 => {
                Err(WireError::Invalid { field: "PCR selection", reason: "PCRs are numbered 0 to 23" })
            }
            bits => Ok(Self(bits)),
        }
    }
}

/// What the platform register holds: one approved state, as TPM2_PolicyAuthorizeNV compares it with a session's digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RegisterContent([u8; 34]);

impl RegisterContent {
    /// TPMT_HA: SHA-256's id and the digest of PolicyPCR over exactly these values.
    ///
    /// # Errors
    /// [`PcrError`] unless exactly the selected PCRs have values.
    pub fn of(selection: PcrSelection, values: &PcrValues) -> Result<Self, PcrError> {
        let policy = PolicyDigest::ZERO.pcr(selection, &selection.digest(values)?);
        let mut content = [0; 34];
        let (algorithm, digest) = content.split_at_mut(2);
        algorithm.copy_from_slice(&alg::SHA256.to_be_bytes());
        digest.copy_from_slice(policy.as_bytes());
        Ok(Self(content))
    }

    /// The 34 bytes.
    pub const fn as_bytes(&self) -> &[u8; 34] {
        &self.0
    }
}

impl std::fmt::Debug for RegisterContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RegisterContent(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

impl Wire for RegisterContent {
    fn write(&self, out: &mut Writer) {
        out.raw(&self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let content: [u8; 34] = input.array("register content")?;
        if content.starts_with(&alg::SHA256.to_be_bytes()) {
            Ok(Self(content))
        } else {
            Err(WireError::Invalid { field: "register content", reason: "its algorithm is not SHA-256" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_described_only_by_exactly_the_selected_values() {
        let selection = PcrSelection::new(&[7, 0, 23]).unwrap();
        assert_eq!(selection.pcrs().collect::<Vec<_>>(), [0, 7, 23]);
        assert_eq!(selection.marshal(), [0, 0, 0, 1, 0, 0x0B, 3, 0x81, 0, 0x80]);
        let values: PcrValues = [(0, [1; 32]), (7, [2; 32]), (23, [3; 32])].into();
        let content = RegisterContent::of(selection, &values).unwrap();
        for pcr in [0, 7, 23] {
            let mut other = values.clone();
            other.insert(pcr, [9; 32]);
            assert_ne!(RegisterContent::of(selection, &other).unwrap(), content, "PCR {pcr} has no effect");
            other.remove(&pcr);
            assert_eq!(RegisterContent::of(selection, &other), Err(PcrError::Missing { pcr }));
        }
        let mut more = values;
        more.insert(4, [4; 32]);
        assert_eq!(RegisterContent::of(selection, &more), Err(PcrError::NotSelected { pcr: 4 }));
    }

    #[test]
    fn selections_are_of_real_pcrs_named_once() {
        assert_eq!(PcrSelection::new(&[]), Err(PcrError::Empty));
        assert_eq!(PcrSelection::new(&[24]), Err(PcrError::NoSuchPcr { pcr: 24 }));
        assert_eq!(PcrSelection::new(&[255]), Err(PcrError::NoSuchPcr { pcr: 255 }));
        assert_eq!(PcrSelection::new(&[4, 4]), Err(PcrError::Repeated { pcr: 4 }));
    }
}
