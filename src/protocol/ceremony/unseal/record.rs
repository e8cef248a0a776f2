//! What is stored of an unseal, and how it goes on after a restart. No secret is in it: the ceremony key and every opened
//! half live in memory alone, and with them gone the officials approve again (protocol.md §20.5).

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::{
    ceremony::{
        Context, Outcome, ResumeError, Step,
        unseal::{
            Case, Handed, Making, Unseal,
            phase::{AwaitingOffer, Ended, Gathered, Released, asked_again},
        },
    },
    contribution::Contribution,
    ids::OfficialName,
    label::Label,
    notice::Denial,
    offer::SignedOffer,
    paragraph::Reason,
    quorum::MAX_OFFICIALS,
    roll::Act,
    statement::SignedStatement,
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// A stored unseal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsealRecord {
    signed: SignedStatement,
    attempt: u32,
    denials: Vec<Denial>,
    culprits: Vec<OfficialName>,
    trouble: Option<Reason>,
    phase: Stored,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stored {
    AwaitingOffer,
    /// Collecting or opening: an offer was out, and its sessions and key were in memory.
    Offered(Box<SignedOffer>),
    Released(Box<Handed>),
    /// How it ended, whose contributions counted then, and what the recipient of a release can fetch.
    Ended(Outcome, Vec<OfficialName>, Option<Box<Handed>>),
}

impl UnsealRecord {
    /// The statement, unchecked.
    pub const fn statement(&self) -> &SignedStatement {
        &self.signed
    }

    /// How many attempts there were.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The offer that officials can contribute to, or that was opened, unchecked; none while there is none.
    pub fn offer(&self) -> Option<&SignedOffer> {
        match &self.phase {
            Stored::AwaitingOffer | Stored::Ended(_, _, None) => None,
            Stored::Offered(offer) => Some(offer),
            Stored::Released(handed) | Stored::Ended(_, _, Some(handed)) => Some(&handed.offer),
        }
    }

    /// What the recipient of a release can fetch, unchecked; nothing before the TPM has opened.
    pub fn handed(&self) -> Option<&Handed> {
        match &self.phase {
            Stored::Released(handed) | Stored::Ended(_, _, Some(handed)) => Some(handed),
            Stored::AwaitingOffer | Stored::Offered(_) | Stored::Ended(_, _, None) => None,
        }
    }

    /// How it ended; `None` while it goes on.
    pub const fn outcome(&self) -> Option<&Outcome> {
        match &self.phase {
            Stored::Ended(outcome, _, _) => Some(outcome),
            _ => None,
        }
    }

    /// Who voted against it, unchecked.
    pub fn denials(&self) -> &[Denial] {
        &self.denials
    }
}

impl Unseal {
    /// The state as it is stored.
    pub fn record(&self) -> UnsealRecord {
        let case = self.case();
        let phase = match self {
            Self::AwaitingOffer(_) => Stored::AwaitingOffer,
            Self::Collecting(phase) => Stored::Offered(Box::new(phase.offer.clone())),
            Self::Opening(phase) => Stored::Offered(Box::new(phase.offer.clone())),
            Self::Released(phase) => Stored::Released(Box::new(phase.handed())),
            Self::Ended(phase) => {
                Stored::Ended(phase.outcome.clone(), phase.approved.clone(), phase.handed.clone().map(Box::new))
            }
        };
        UnsealRecord {
            signed: case.signed.clone(),
            attempt: case.attempt,
            denials: case.denials.values().cloned().collect(),
            culprits: case.culprits.iter().cloned().collect(),
            trouble: case.trouble.clone(),
            phase,
        }
    }

    /// Goes on from a record. The disk is the host's: what is signed is verified again.
    ///
    /// # Errors
    /// [`ResumeError`].
    pub fn resume(record: UnsealRecord, context: &Context<'_>) -> Result<Step<Self>, ResumeError> {
        let UnsealRecord { signed, attempt, denials, culprits, trouble, phase } = record;
        let id = signed.verify(context.facts)?.id();
        let mut votes = BTreeMap::new();
        for denial in denials {
            votes.insert(denial.verify(&id, context.facts)?, denial);
        }
        let culprits = culprits.into_iter().collect::<BTreeSet<_>>();
        let case = Case { id, signed, attempt, denials: votes, culprits, trouble };
        let mut making = Making::new(context);
        let next = match phase {
            Stored::Ended(outcome, approved, handed) => {
                Self::Ended(Ended { case, outcome, approved, handed: handed.map(|handed| *handed) })
            }
            Stored::Released(handed) => released(case, *handed, &mut making),
            _ if context.now >= case.statement().expires_at() => {
                Self::AwaitingOffer(AwaitingOffer::asked(case)).end(Outcome::Expired, &mut making)
            }
            Stored::AwaitingOffer => {
                making.send(case.make_offer());
                Self::AwaitingOffer(AwaitingOffer::asked(case))
            }
            Stored::Offered(_) => asked_again(case, "the service was restarted", &mut making),
        };
        Ok(making.step(next))
    }
}

/// What the recipient can fetch outlives everything. Whether more may be contributed is judged anew.
fn released(case: Case, handed: Handed, making: &mut Making<'_>) -> Unseal {
    match Gathered::again(&handed, making.context) {
        Ok(gathered) => Unseal::Released(Released { case, offer: handed.offer, gathered }),
        Err(_) => {
            making.act(Act::CeremonyEnded { ceremony: case.id, outcome: Outcome::Released });
            // Who they are was judged under another charter; the recipient sees by its own.
            Unseal::Ended(Ended { case, outcome: Outcome::Released, approved: Vec::new(), handed: Some(handed) })
        }
    }
}

impl Wire for Handed {
    fn write(&self, out: &mut Writer) {
        out.value(&self.offer).list(&self.contributions);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let offer: SignedOffer = input.value()?;
        Ok(Self { offer, contributions: input.list::<Contribution>(usize::from(MAX_OFFICIALS), "contributions")? })
    }
}

/// 0 for none, or 1 and the value.
fn write_option<T: Wire>(out: &mut Writer, value: Option<&T>) {
    out.u8(u8::from(value.is_some()));
    if let Some(value) = value {
        out.value(value);
    }
}

fn read_option<T: Wire>(input: &mut Reader<'_>) -> Result<Option<T>, WireError> {
    match input.u8("option")? {
        0 => Ok(None),
        1 => input.value().map(Some),
        _ => Err(WireError::Invalid { field: "option", reason: "neither absent (0) nor present (1)" }),
    }
}

impl Wire for UnsealRecord {
    fn write(&self, out: &mut Writer) {
        out.value(&self.signed).u32(self.attempt).list(&self.denials).list(&self.culprits);
        write_option(out, self.trouble.as_ref());
        match &self.phase {
            Stored::AwaitingOffer => {
                out.u8(1);
            }
            Stored::Offered(offer) => {
                out.u8(2).value(offer.as_ref());
            }
            Stored::Released(handed) => {
                out.u8(3).value(handed.as_ref());
            }
            Stored::Ended(outcome, approved, handed) => {
                out.u8(4).value(outcome).list(approved);
                write_option(out, handed.as_deref());
            }
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let officials = usize::from(MAX_OFFICIALS);
        Ok(Self {
            signed: input.value()?,
            attempt: input.u32("attempt")?,
            denials: input.list(officials, "denials")?,
            culprits: input.list(officials, "culprits")?,
            trouble: read_option(input)?,
            phase: match input.u8("phase")? {
                1 => Stored::AwaitingOffer,
                2 => Stored::Offered(Box::new(input.value()?)),
                3 => Stored::Released(Box::new(input.value()?)),
                4 => Stored::Ended(
                    input.value()?,
                    input.list(officials, "approvals")?,
                    read_option(input)?.map(Box::new),
                ),
                _ => return Err(WireError::Invalid { field: "phase", reason: "none of the four that are stored" }),
            },
        })
    }
}

impl Document for UnsealRecord {
    const LABEL: Label = Label::UNSEAL_RECORD;
    // 32 contributions of 4 KiB, 32 denials of 1 KiB, offer and statement of 18 KiB each.
    const MAX_BYTES: usize = 256 * 1024;
}
