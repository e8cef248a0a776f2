//! Everything that can go wrong between the embassy and its TPM, by who can do something about it.
//!
//! A TPM's error answer carries no authentication: whoever drives the bus can refuse anything. So an error here is a
//! reason to retry, to ask people again, or to look at the machine; it is never evidence.

use std::time::Duration;

use tss_esapi::{
    Error as TssError, ReturnCode,
    constants::return_code::{TpmFormatOneError, TpmFormatZeroError, TpmFormatZeroWarning},
    error::{TpmFormatZeroResponseCode, TpmResponseCode},
};

use crate::protocol::{quorum::Position, wire::WireError};

/// What a caller can do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The same call may succeed later; parked sessions are still good.
    Retry,
    /// The officials must approve again: begin the command anew and send them the new nonce. Nothing else was lost.
    FreshApprovals,
    /// More or other officials must approve; the parked session is spent.
    OtherApprovals,
    /// Someone must look: the machine, the configuration or the request is not what it should be.
    Examine,
}

/// Why one official's approval was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ApprovalRefusal {
    /// The signature does not verify over this command, this session and the expiry it names.
    #[error("the signature does not belong to this command and this session")]
    Signature,
    /// It names another command than the one that waits: another point, content or object.
    #[error("it is for another TPM command than the one that waits")]
    OtherCommand,
    /// A second approval by the same official.
    #[error("this official had approved already; nobody counts twice")]
    Repeated,
    /// The quorum has no such place.
    #[error("the quorum has no official at this place")]
    NoSuchOfficial,
    /// The expiry is outside the accepted range.
    #[error("the expiry must be at least one second and at most what the charter allows")]
    Expiry,
    /// The approval has expired by the TPM's own clock.
    #[error("the approval has expired")]
    Expired,
    /// The TPM refused it, for a reason that the software check did not see.
    #[error("the TPM refused it")]
    ByTpm,
}

/// A refused approval and whose it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{official}: {refusal}")]
pub struct RefusedApproval {
    /// Whose.
    pub official: Position,
    /// Why.
    pub refusal: ApprovalRefusal,
}

/// Why the TPM did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    /// The queue is full. Retry later.
    #[error("the TPM is busy: {waiting} calls are waiting. Retry later")]
    Busy {
        /// How many calls wait.
        waiting: usize,
    },
    /// The TPM did not answer in time, or its line broke. Retry after the pause.
    #[error("the TPM is gone (during {during}). Retry in {} ms; {}", retry_after.as_millis(), if *started {
        "whether the command took effect is not known"
    } else {
        "the command was not sent"
    })]
    Gone {
        /// The TPM command at which it was lost.
        during: &'static str,
        /// Whether the call had begun, and so may have had an effect.
        started: bool,
        /// When a retry makes sense.
        retry_after: Duration,
    },
    /// The call ended in a panic of ours. The TPM is opened anew; whether the command took effect is not known.
    #[error("a fault in chancery itself ended the call (during {during}). The TPM is opened anew; report this")]
    Fault {
        /// The TPM command it was at.
        during: &'static str,
    },
    /// An answer was not authentic, or made no sense. Somebody tampers with the bus, or it is broken.
    #[error(
        "the TPM's answer to {during} was altered on its way, or makes no sense. Retry; if it stays, examine the bus"
    )]
    Altered {
        /// The TPM command.
        during: &'static str,
    },
    /// The storage root key is not the pinned one: this is another TPM, or it was cleared.
    #[error("this is another TPM, or it was cleared: its storage root key is {found}, and {expected} is pinned")]
    AnotherTpm {
        /// The pinned Name.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An object is not what the stored state says.
    #[error("{object} in the TPM is not the one in the embassy's state")]
    ObjectChanged {
        /// Which.
        object: &'static str,
    },
    /// The embassy's stored state is for other keys than the charter names.
    #[error(
        "{object} on the embassy's disk is not the one that the charter names. Trust the charter; examine the disk"
    )]
    Unchartered {
        /// Which.
        object: &'static str,
    },
    /// The boot state is not the approved one.
    #[error(
        "the platform register refuses this boot state. Boot the approved image, or let the quorum amend the register"
    )]
    PlatformRefused,
    /// The generation counter has moved on: this generation's custody has ended in this TPM.
    #[error(
        "this generation has ended: the quorum moved the generation counter. Open with the current generation's keys"
    )]
    GenerationEnded,
    /// Too few approvals stood up.
    #[error("{valid} of {needed} approvals are good{}", list(refused))]
    TooFewApprovals {
        /// The threshold.
        needed: u8,
        /// How many were good.
        valid: u8,
        /// Those that were not, by official.
        refused: Vec<RefusedApproval>,
    },
    /// The parked session is no more: the TPM was reset, or the embassy's process began anew.
    #[error("the TPM session that the officials approved is gone (TPM reset or restart). Ask for fresh approvals")]
    SessionLost,
    /// The policy was not satisfied although every step of it passed here.
    #[error("the TPM refuses {during}: its policy is not satisfied")]
    PolicyRefused {
        /// The TPM command.
        during: &'static str,
    },
    /// An approval has expired by the TPM's clock.
    #[error("the TPM refuses {during}: the approval has expired")]
    Expired {
        /// The TPM command.
        during: &'static str,
    },
    /// Too many commands wait for approvals.
    #[error("{parked} commands wait for approvals, as many as the TPM can hold. Finish or drop one, then retry")]
    TooManyParked {
        /// How many.
        parked: usize,
    },
    /// The register was written, but the PCR that ends older sessions' passes was not extended.
    #[error("the register is written, but sessions that had passed the old one may live on: reset the TPM by a reboot")]
    Unwitnessed,
    /// A wrong authorization value; a command that was altered on its way is answered in the same way.
    #[error(
        "the TPM refuses the authorization for {during}. Ask home for the right one; if it was right, examine the bus"
    )]
    Unauthorized {
        /// The TPM command.
        during: &'static str,
    },
    /// The TPM is in dictionary-attack lockout.
    #[error("the TPM is in lockout (during {during}). Wait for its recovery time, or let home reset the lockout")]
    Lockout {
        /// The TPM command.
        during: &'static str,
    },
    /// The TPM needs a pause (NV rate, a self test), or another program holds all of its slots.
    #[error("the TPM asks to wait (during {during}). Retry later")]
    NotNow {
        /// The TPM command.
        during: &'static str,
    },
    /// Another refusal of the TPM.
    #[error("the TPM refuses {during}: {reason}")]
    Refused {
        /// The TPM command.
        during: &'static str,
        /// The TPM's code, in words.
        reason: String,
    },
    /// A request that cannot be put to a TPM.
    #[error("the request cannot be put to the TPM: {0}")]
    Request(&'static str),
    /// Provisioning was called out of order.
    #[error("provisioning is not at this point: {0}")]
    Order(&'static str),
    /// Stored state that does not read.
    #[error("the embassy's stored TPM state does not read: {0}")]
    State(#[from] WireError),
    /// No thread could be started.
    #[error("no thread for the TPM: {reason}")]
    Thread {
        /// Why.
        reason: String,
    },
}

fn list(refused: &[RefusedApproval]) -> String {
    refused.iter().map(|refused| format!("; {refused}")).collect()
}

impl TpmError {
    /// What to do about it.
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::Busy { .. }
            | Self::Gone { .. }
            | Self::Altered { .. }
            | Self::NotNow { .. }
            | Self::Lockout { .. }
            | Self::TooManyParked { .. } => Remedy::Retry,
            Self::SessionLost => Remedy::FreshApprovals,
            Self::TooFewApprovals { .. } => Remedy::OtherApprovals,
            _ => Remedy::Examine,
        }
    }

    /// The officials whose approvals were refused.
    pub fn culprits(&self) -> Vec<Position> {
        match self {
            Self::TooFewApprovals { refused, .. } => refused.iter().map(|refused| refused.official).collect(),
            _ => Vec::new(),
        }
    }

    /// The line to the TPM is broken: the device must be opened anew.
    pub(crate) const fn breaks_line(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    pub(crate) const fn gone(during: &'static str) -> Self {
        Self::Gone { during, started: true, retry_after: Duration::ZERO }
    }

    pub(crate) fn from_tss(during: &'static str, error: TssError) -> Self {
        use TpmFormatOneError as One;
        use TpmFormatZeroError as Zero;
        use TpmFormatZeroWarning as Warning;
        let reason = || error.to_string();
        match error {
            TssError::TssError(ReturnCode::Tpm(TpmResponseCode::FormatOne(code))) => match code.error_number() {
                One::AuthFail | One::BadAuth if takes_authorization(during) => Self::Unauthorized { during },
                // No authorization value is asked here, so it is the session's own HMAC that failed: what the TPM got is not
                // what was sent, or the session is not the one that was started.
                One::AuthFail | One::BadAuth => Self::Altered { during },
                One::Expired => Self::Expired { during },
                One::PolicyFail | One::PolicyCc => Self::PolicyRefused { during },
                _ => Self::Refused { during, reason: reason() },
            },
            TssError::TssError(ReturnCode::Tpm(TpmResponseCode::FormatZero(code))) => match code {
                TpmFormatZeroResponseCode::Warning(warning) => match warning.error_number() {
                    Warning::Lockout => Self::Lockout { during },
                    Warning::NvRate | Warning::Retry | Warning::Testing | Warning::Yielded | Warning::NvUnavailable => {
                        Self::NotNow { during }
                    }
                    // Its slots are full: another program has objects or sessions open there.
                    Warning::ObjectMemory
                    | Warning::SessionMemory
                    | Warning::Memory
                    | Warning::SessionHandles
                    | Warning::ObjectHandles => Self::NotNow { during },
                    _ => Self::Refused { during, reason: reason() },
                },
                // A PCR changed while the policy ran: the platform is extending still, or a register was written.
                TpmFormatZeroResponseCode::Error(code) if code.error_number() == Zero::PcrChanged => {
                    Self::NotNow { during }
                }
                TpmFormatZeroResponseCode::Error(code) if code.error_number() == Zero::Policy => {
                    Self::PolicyRefused { during }
                }
                _ => Self::Refused { during, reason: reason() },
            },
            TssError::TssError(ReturnCode::Tcti(_)) => Self::gone(during),
            // The stack refuses the answer, or tss-esapi has no word for what it got (a failed response HMAC is such).
            _ => Self::Altered { during },
        }
    }
}

/// The commands under a hierarchy authorization that home holds; every other object here has a policy or an empty value.
fn takes_authorization(during: &str) -> bool {
    matches!(during, "HierarchyChangeAuth" | "CreatePrimary" | "EvictControl" | "NV_DefineSpace")
}
