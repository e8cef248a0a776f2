//! Ceremonies: what a quorum does together, as state machines without IO. A struct per phase, which consumes itself.
//!
//! The driver takes what comes in this order: receive, step, save, send. A [`Step`] holds the next state, the entries for
//! the roll and what to do; state and entries become durable in one commit, and only then is anything of the outbox done.
//! Its result is the next event. No message of anybody puts a ceremony into a state that it cannot leave, but the ends that
//! the statement foresees: opened, denied, stopped, expired. protocol.md §20.

pub mod genesis;

mod outcome;
mod unseal;

use crate::protocol::{
    certificate::UnixTime,
    contribution::{Contribution, OfferRefusal, Review},
    dataset_version::VerifiedVersion,
    facts::CustodyFacts,
    gathering::{AdoptionQuorate, Quorate, Refusal, SealedQuorate},
    hash::Hash,
    hybrid::HybridSecretKey,
    ids::{CeremonyId, OfficialName},
    label::Label,
    notice::{Denial, NoticeError, Stop},
    offer::SignedOffer,
    partial::PreparedQuorum,
    quorum::Position,
    recipient::Recipient,
    roll::Entry,
    statement::{SignedStatement, StatementError},
    wire::{Document, WireError},
};

pub use outcome::Outcome;
pub use unseal::{Admission, Handed, NotAdmitted, Phase, Standing, Unseal, UnsealRecord};

/// What everybody at the embassy knows, apart from what came in.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The facts of the charter in force.
    pub facts: &'a CustodyFacts,
    /// The unseal quorum's verification shares, prepared.
    pub quorum: &'a PreparedQuorum,
    /// The dataset versions that data owners signed.
    pub versions: &'a [VerifiedVersion],
    /// The judgement of this ceremony's recipient, made now. Without one there is no release.
    pub recipient: Option<&'a Recipient>,
    /// The time.
    pub now: UnixTime,
}

impl<'a> Context<'a> {
    const fn review(&self) -> Review<'a> {
        Review { facts: self.facts, versions: self.versions, now: self.now, recipient: self.recipient }
    }
}

/// What follows from an event. A step whose state and entries cannot be saved is kept and saved before anything else: nothing
/// of its outbox is done until then.
#[derive(Debug)]
pub struct Step<P> {
    /// The state from now on.
    pub next: P,
    /// What the roll says of it, in order.
    pub entries: Vec<Entry>,
    /// What to do once both are durable.
    pub outbox: Vec<Out>,
}

/// What happens to a ceremony. Whatever answers an order of the outbox names the attempt it was given for.
#[derive(Debug)]
pub enum Event {
    /// Sessions are parked, and the TPM signed an offer.
    Offered {
        /// The offer.
        offer: Box<SignedOffer>,
        /// The ceremony key; none in a release, where everything is sealed to the recipient, and none in an adoption.
        key: Option<HybridSecretKey>,
    },
    /// There is no offer.
    NotOffered {
        /// For which attempt.
        attempt: u32,
        /// Why.
        why: String,
        /// Whether it may work later by itself. If not, somebody must look first.
        again: bool,
    },
    /// An official sent a contribution.
    Contribution(Box<Contribution>),
    /// An official sent a vote against it.
    Denial(Denial),
    /// An official sent a stop.
    Stop(Stop),
    /// Time has passed.
    Tick,
    /// The TPM gave its half of every slot. In a lease the seeds were compared and the lease holds them; in a release the
    /// TPM's halves are stored, sealed to the recipient. Where a charter is adopted, the charter pin holds its hash.
    Opened {
        /// For which attempt.
        attempt: u32,
    },
    /// It did not, or the slots did not open.
    NotOpened {
        /// For which attempt.
        attempt: u32,
        /// What happened.
        trouble: Trouble,
    },
    /// The TPM was reset: parked sessions are gone. (A restart of the service is [`Ceremony::resume`].)
    Restarted,
}

/// Why an opening did not succeed, by what can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The same again, later.
    Retry {
        /// What happened.
        why: String,
    },
    /// The sessions are gone: officials approve again.
    FreshApprovals {
        /// What happened.
        why: String,
    },
    /// The TPM would not have these approvals; others, or the same officials anew.
    Refused {
        /// Whose, and why.
        officials: Vec<(Position, String)>,
    },
    /// Somebody must look at the machine or at the dataset.
    Examine {
        /// What happened.
        why: String,
    },
}

/// What the quorum agreed to, for the opening.
#[derive(Debug)]
pub enum Material {
    /// The quorum's half of each slot with the approvals.
    Lease(Quorate),
    /// The approvals; the quorum's halves are sealed to the recipient.
    Release(SealedQuorate),
    /// The approvals for the charter pin.
    Adoption(AdoptionQuorate),
}

/// What to do, once state and entries are durable.
#[derive(Debug)]
pub enum Out {
    /// Park a session per dataset, or the one for the charter pin; make a ceremony key (in a lease); have the offer signed:
    /// [`Event::Offered`] or [`Event::NotOffered`]. Where the pin holds the charter already: [`Event::Opened`].
    MakeOffer {
        /// What to offer.
        statement: Box<SignedStatement>,
        /// Its attempt.
        attempt: u32,
    },
    /// Finish the parked commands with these approvals, open and compare, or read the charter pin: [`Event::Opened`] or
    /// [`Event::NotOpened`].
    Open {
        /// Which attempt's sessions.
        attempt: u32,
        /// The offer's hash, for the release's seal.
        offer: Hash,
        /// What the quorum gave.
        material: Box<Material>,
    },
    /// Drop the sessions that are parked for an attempt at this ceremony.
    Forget {
        /// Which.
        attempt: u32,
    },
    /// An opening came through after the ceremony had ended or moved on: end its lease, or drop its release.
    Revoke,
    /// Tell who watches.
    Notify,
}

/// What whoever sent an event is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A contribution counts.
    Accepted {
        /// How many count now.
        have: u8,
        /// How many it takes.
        need: u8,
    },
    /// A denial or stop is taken.
    Taken,
    /// The very same was taken before; nothing changed.
    AlreadyAccepted,
    /// It is refused, and nothing changed.
    Refused(Refused),
    /// Nobody waits for an answer.
    Done,
}

/// Why a message is refused. The ceremony stands as it stood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The contribution is not counted.
    #[error(transparent)]
    Contribution(#[from] Refusal),
    /// The denial or stop is not taken.
    #[error(transparent)]
    Notice(#[from] NoticeError),
    /// There is no offer to contribute to.
    #[error("the embassy has made no offer yet, or must make a new one. Wait for it, review it, then contribute")]
    NoOffer,
    /// Who voted against it has no part in it.
    #[error("{official} has denied this ceremony. To approve after all, open a new one")]
    DeniedBefore {
        /// Who.
        official: OfficialName,
    },
    /// It is over.
    #[error("this ceremony has ended: {outcome}. Nothing more is taken")]
    Over {
        /// How.
        outcome: Outcome,
    },
}

/// Why a stored ceremony cannot go on. The store was altered, or belongs to another charter: examine it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The record does not read.
    #[error("the record of this ceremony does not read: {0}")]
    Record(#[from] WireError),
    /// The statement in it is not its opener's.
    #[error("the statement in the record: {0}")]
    Statement(#[from] StatementError),
    /// A denial in it is not its official's.
    #[error("a denial in the record: {0}")]
    Denial(#[from] NoticeError),
    /// The offer in it is not the embassy's.
    #[error("the offer in the record: {0}")]
    Offer(#[from] OfferRefusal),
}

/// A ceremony of any kind. The driver knows no other type, so that kinds can be added beside it.
#[derive(Debug)]
pub enum Ceremony {
    /// Opens datasets, for a lease or a release; or adopts a charter.
    Unseal(Box<Unseal>),
}

impl Ceremony {
    /// Opens a ceremony to unseal, from a statement that an official signed.
    ///
    /// # Errors
    /// [`NotAdmitted`]: there is no ceremony then.
    pub fn open(
        signed: SignedStatement,
        context: &Context<'_>,
        admission: &Admission<'_>,
    ) -> Result<Step<Self>, NotAdmitted> {
        Unseal::open(signed, context, admission).map(Step::any)
    }

    /// Takes an event: the step that follows, and what to tell its sender.
    pub fn on(self, event: Event, context: &Context<'_>) -> (Step<Self>, Reply) {
        match self {
            Self::Unseal(unseal) => {
                let (step, reply) = unseal.on(event, context);
                (step.any(), reply)
            }
        }
    }

    /// The state as it is stored: no secret is in it.
    pub fn record(&self) -> Vec<u8> {
        match self {
            Self::Unseal(unseal) => unseal.record().encode(),
        }
    }

    /// Goes on from a record after a restart, in which parked sessions and ceremony key were lost: fresh approvals are asked
    /// for, and nothing else is lost.
    ///
    /// # Errors
    /// [`ResumeError`].
    pub fn resume(record: &[u8], context: &Context<'_>) -> Result<Step<Self>, ResumeError> {
        let mut input = crate::protocol::wire::Reader::new(record);
        input.label(Label::UNSEAL_RECORD)?;
        Unseal::resume(UnsealRecord::decode(record)?, context).map(Step::any)
    }

    /// Its name.
    pub fn id(&self) -> CeremonyId {
        match self {
            Self::Unseal(unseal) => unseal.id(),
        }
    }

    /// Who opened it.
    pub fn opener(&self) -> &OfficialName {
        match self {
            Self::Unseal(unseal) => unseal.statement().opener(),
        }
    }

    /// Whether its opener must wait with another one: while it collects or opens. A release that was made waits for its
    /// recipient only.
    pub fn holds_its_opener(&self) -> bool {
        match self {
            Self::Unseal(unseal) => unseal.is_open() && !matches!(**unseal, Unseal::Released(_)),
        }
    }

    /// Whether it still goes on.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Unseal(unseal) => unseal.is_open(),
        }
    }
}

impl Step<Unseal> {
    fn any(self) -> Step<Ceremony> {
        Step { next: Ceremony::Unseal(Box::new(self.next)), entries: self.entries, outbox: self.outbox }
    }
}
