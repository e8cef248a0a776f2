//! How a ceremony ended. There is no other end: whatever else happens, it goes on until its time is up.

use crate::protocol::{
    ids::OfficialName,
    paragraph::Reason,
    quorum::MAX_OFFICIALS,
    wire::{Reader, Wire, WireError, Writer},
};

/// How a ceremony ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A lease began.
    Leased,
    /// The quorum's and the TPM's halves are ready for the recipient.
    Released,
    /// So many officials voted against it that k approvals cannot be reached.
    Denied {
        /// Who.
        officials: Vec<OfficialName>,
    },
    /// One official stopped it.
    Stopped {
        /// Who.
        by: OfficialName,
        /// Why.
        reason: Reason,
    },
    /// Its time was up.
    Expired,
    /// The TPM's charter pin holds the charter.
    Adopted,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Leased => f.write_str("a lease began"),
            Self::Released => f.write_str("released to the recipient"),
            Self::Denied { officials } => {
                let names: Vec<&str> = officials.iter().map(OfficialName::as_str).collect();
                write!(f, "denied by {}", names.join(", "))
            }
            Self::Stopped { by, reason } => write!(f, "stopped by {by}: {reason}"),
            Self::Expired => f.write_str("expired"),
            Self::Adopted => f.write_str("the charter is adopted: the TPM holds its hash"),
        }
    }
}

impl Wire for Outcome {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Leased => out.u8(1),
            Self::Released => out.u8(2),
            Self::Denied { officials } => out.u8(3).list(officials),
            Self::Stopped { by, reason } => out.u8(4).value(by).value(reason),
            Self::Expired => out.u8(5),
            Self::Adopted => out.u8(6),
        };
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        match input.u8("outcome")? {
            1 => Ok(Self::Leased),
            2 => Ok(Self::Released),
            3 => Ok(Self::Denied { officials: input.list(usize::from(MAX_OFFICIALS), "officials")? }),
            4 => Ok(Self::Stopped { by: input.value()?, reason: input.value()? }),
            5 => Ok(Self::Expired),
            6 => Ok(Self::Adopted),
            _ => Err(WireError::Invalid { field: "outcome", reason: "none of the six" }),
        }
    }
}
