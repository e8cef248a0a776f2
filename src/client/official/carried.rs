//! A file that anyone may carry to an embassy for an official who has no network: an approval, a denial or a stop.
//!
//! It is signed (and what is secret in it encrypted) before it is written, so it does not matter who carries it, or whether it
//! is copied. Embassy and ceremony stand beside it only to show where it goes.

use crate::protocol::{
    contribution::Contribution,
    ids::{CeremonyId, EmbassyName},
    label::Label,
    notice::{Denial, Stop},
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// What is carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// Consent to one offer.
    Approval(Contribution),
    /// A vote against.
    Denial(Denial),
    /// The end of a ceremony, or of the lease it gave.
    Stop(Stop),
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Approval(contribution) => write!(f, "an approval of {}", contribution.position()),
            Self::Denial(denial) => write!(f, "a denial by {}", denial.unverified_official()),
            Self::Stop(stop) => write!(f, "a stop by {}", stop.unverified_official()),
        }
    }
}

/// What is carried, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The embassy.
    pub embassy: EmbassyName,
    /// The ceremony.
    pub ceremony: CeremonyId,
    /// What.
    pub load: Load,
}

impl Wire for Carried {
    fn write(&self, out: &mut Writer) {
        out.value(&self.embassy).value(&self.ceremony);
        match &self.load {
            Load::Approval(contribution) => out.u8(1).value(contribution),
            Load::Denial(denial) => out.u8(2).value(denial),
            Load::Stop(stop) => out.u8(3).value(stop),
        };
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (embassy, ceremony) = (input.value()?, input.value()?);
        let load = match input.u8("load")? {
            1 => Load::Approval(input.value()?),
            2 => Load::Denial(input.value()?),
            3 => Load::Stop(input.value()?),
            _ => {
                let reason = "neither approval (1), denial (2) nor stop (3)";
                return Err(WireError::Invalid { field: "load", reason });
            }
        };
        Ok(Self { embassy, ceremony, load })
    }
}

impl Document for Carried {
    const LABEL: Label = Label::CARRIED;
    const MAX_BYTES: usize = Contribution::MAX_BYTES + 256;
}
