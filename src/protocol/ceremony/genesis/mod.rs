//! Genesis: the officials make the quorums' keys, and a new TPM becomes an embassy's by their order (protocol.md §19).
//!
//! The embassy relays and keeps a **board**: everything that was said and done, in order. Nobody trusts it; each official
//! reads the board through this same code, with the charter they know, and what does not hold is passed over. So the state is
//! what the board says, and going on after a restart is reading it again. [`Genesis`] is the relay's state machine,
//! [`participant`] the official's. A message ends nothing: it is taken, known already, or refused, and the board goes on.

pub mod message;
pub mod participant;
pub mod provisioning;
pub mod result;
pub mod run;

mod board;
mod phase;
mod status;

pub use board::{Board, BoardError, Post};
pub use message::{Message, Said, Signed};
pub use phase::{AwaitingKeys, AwaitingOffer, Collecting, Completing, Founded, Genesis, MakingKeys, Ordering};
pub use provisioning::{CheckedOffer, Ground, ProvisioningOffer, Stage};
pub use result::{GenesisResult, ResultError, VerifiedResult, complete};
pub use run::Run;
pub use status::{STEPS, Status};

use crate::protocol::{
    ceremony::genesis::run::RunRefusal,
    charter::ChainError,
    ids::{EmbassyName, OfficialName},
    quorum::Position,
    roll::{Act, Who},
    tpm::approval::{ApprovalError, TpmApproval},
};

/// What happens to a genesis.
#[derive(Debug)]
pub enum Event {
    /// An official's machine handed something in. Who says it stands in the message; this is who brought it.
    Said {
        /// Who brought it.
        from: OfficialName,
        /// What.
        message: Message,
    },
    /// The TPM's sessions are parked.
    Offered(Box<ProvisioningOffer>),
    /// The TPM gave no sessions; the next [`Event::Poked`] asks again.
    NotOffered {
        /// Why.
        why: String,
    },
    /// The approvals of the open offer are, or soon will be, too old to count: other sessions are needed.
    Expired,
    /// The TPM did what the offer says, or was found to have done it before.
    Ordered,
    /// It did not.
    NotOrdered(Trouble),
    /// The keys are made and stored.
    Born(Box<GenesisResult>),
    /// They are not; the next [`Event::Poked`] asks again.
    NotBorn {
        /// Why.
        why: String,
    },
    /// Somebody looked: what failed for reasons that pass is tried again.
    Poked,
}

/// Why a TPM did not do what it was ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The same can be tried again.
    Retry {
        /// What happened.
        why: String,
    },
    /// The sessions are gone: fresh approvals are needed.
    FreshApprovals {
        /// What happened.
        why: String,
    },
    /// The TPM refused these officials' approvals; others, or they again, can take their place.
    Refused(Vec<(Position, String)>),
}

/// What the driver does after it has saved.
#[derive(Debug)]
pub enum Out {
    /// Define what is to be defined, park sessions, and say what they are; or find that the TPM is past this step.
    Offer {
        /// The offer's number.
        number: u32,
        /// Which step; its content, where there is some, is the driver's to fill in.
        registers: bool,
    },
    /// Have the TPM do it.
    Order {
        /// Per command, the approvals.
        approvals: Vec<Vec<TpmApproval>>,
    },
    /// Make T, the identity key and the roll key, store them, and say what they are.
    MakeKeys,
    /// The completed charter is in force: store it.
    Founded,
}

/// One step: save `posts` and `entries`, then do what is in `outbox`.
#[derive(Debug)]
pub struct Step {
    /// The state after it.
    pub next: Genesis,
    /// What is new on the board, in order.
    pub posts: Vec<Post>,
    /// What is new in the roll, in order, and whose act each is.
    pub entries: Vec<(Who, Act)>,
    /// What to do next, in order.
    pub outbox: Vec<Out>,
}

/// What the sender of a message is told.
#[derive(Debug)]
pub enum Reply {
    /// It counts.
    Accepted,
    /// It counted before; nothing changed.
    AlreadyAccepted,
    /// It does not count.
    Refused(Refusal),
}

/// Why something said does not count. Nothing else is changed by it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The key generation does not take it.
    #[error(transparent)]
    Run(#[from] RunRefusal),
    /// Not signed by the official it names.
    #[error("{by} did not sign this, or signed it for another network. Nothing was recorded against {by}")]
    NotAuthentic {
        /// Whom it names.
        by: OfficialName,
    },
    /// Nobody's place.
    #[error("{0} has no part in this")]
    Stranger(OfficialName),
    /// Keys are made at another embassy.
    #[error(
        "the quorums' keys are made at embassy {0}, the first in the charter. Run the genesis there first; this embassy learns \
         the keys from your copy"
    )]
    Elsewhere(EmbassyName),
    /// The charter names the keys.
    #[error("the charter names the quorums' keys already; only this embassy's machine is set up now")]
    KeysChartered,
    /// Nothing of this kind is waited for.
    #[error("{what} is not what this genesis waits for now: {waiting}")]
    NotNow {
        /// What came.
        what: &'static str,
        /// What is waited for.
        waiting: &'static str,
    },
    /// For an offer that is not open.
    #[error("this is about an offer that is not open any more; read the board and answer the present one")]
    OtherOffer,
    /// The approvals do not verify.
    #[error("{0}. Ask your own machine again")]
    Approval(#[from] ApprovalError),
    /// A second, different answer.
    #[error("{0} has answered this offer already")]
    Answered(OfficialName),
    /// The charter cannot follow.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The charter is not signed by home.
    #[error("home has not signed this charter; officials sign what home has put together")]
    WithoutHome,
    /// The charter does not say what was made.
    #[error("this charter is not the one that this genesis completes: {0}")]
    OtherCharter(&'static str),
    /// The board is full.
    #[error("the board is full: {0} posts. Home has to find out who fills it, and found the network anew")]
    Full(u32),
    /// The result does not hold: the embassy's own doing.
    #[error("the embassy's own result does not hold: {0}")]
    Result(#[from] ResultError),
    /// The offer does not hold: the embassy's own doing.
    #[error("the embassy's own offer does not hold: {0}")]
    Offer(#[from] provisioning::OfferRefusal),
}
