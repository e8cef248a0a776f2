//! What the driver does with the TPM, off the threads that serve: making an offer, and at k opening its slots or moving the
//! charter pin.
//!
//! Nothing here decides. An offer is judged by the ceremony like a stranger's, and what opens is whatever the quorum's token
//! and the TPM's policy let open. Secrets live in these calls and in what they return, and the stack that they used is
//! overwritten.

use std::time::{Duration, Instant};

use p256::ecdsa::Signature;
use rand_core::OsRng;

use crate::{
    hardware::{Order, Outcome, ParkedCommand, Remedy, TpmError},
    protocol::{
        ceremony::{Event, Material, Trouble},
        dataset_version::VerifiedVersion,
        facts::CustodyFacts,
        gathering::Opened,
        hash::Hash,
        hybrid::HybridSecretKey,
        offer::{Offer, Opening, SignedOffer},
        quorum::Position,
        recipient::RecipientCard,
        release::ReleaseParts,
        secret::SharedPoint,
        slot::SealedFor,
        statement::{Adoption, Mode, SignedStatement},
        tpm::approval::TpmApproval,
    },
    service::{Tpm, arena::without_trace},
};

/// Why there is no offer.
pub(super) struct NoOffer {
    why: String,
    again: bool,
}

impl NoOffer {
    pub(super) fn event(self, attempt: u32) -> Event {
        Event::NotOffered { attempt, why: self.why, again: self.again }
    }

    pub(super) fn fault() -> Self {
        Self { why: "a fault of chancery's own".to_owned(), again: true }
    }
}

impl From<TpmError> for NoOffer {
    fn from(error: TpmError) -> Self {
        Self { why: error.to_string(), again: error.remedy() == Remedy::Retry }
    }
}

fn never(why: impl std::fmt::Display) -> NoOffer {
    NoOffer { why: why.to_string(), again: false }
}

/// protocol.md §9.2: a session for each TPM command, its nonce authenticated; a ceremony key for a lease; the TPM signs.
pub(super) fn make_offer(
    tpm: &dyn Tpm,
    facts: &CustodyFacts,
    versions: &[VerifiedVersion],
    statement: SignedStatement,
    attempt: u32,
) -> Result<(Vec<ParkedCommand>, Event), NoOffer> {
    let mode = statement.unverified().mode();
    let orders: Vec<(Hash, Order)> = match mode {
        Mode::Adoption(Adoption { charter, .. }) => {
            // An earlier attempt came through, and its answer was lost; or another ceremony was faster.
            if tpm.charter_pin()? == charter.hash {
                return Ok((Vec::new(), Event::Opened { attempt }));
            }
            vec![(charter.hash, Order::WriteCharterPin(charter.hash))]
        }
        Mode::Lease(_) | Mode::Release { .. } => {
            let here = SealedFor::Embassy(facts.embassy().clone());
            let slots = versions.iter().map(|version| version.slot(&here)).collect::<Option<Vec<_>>>();
            let slots = slots.ok_or_else(|| never("a dataset version has no slot for this embassy"))?;
            slots.iter().map(|slot| (slot.id(), Order::Decapsulate(*slot.point()))).collect()
        }
    };
    let parked = tpm.begin(&orders.iter().map(|(_, order)| *order).collect::<Vec<_>>())?;
    let openings = orders.iter().zip(&parked);
    let openings =
        openings.map(|((subject, _), command)| Opening { subject: *subject, nonce: command.request().nonce }).collect();
    let (key, public) = match mode {
        Mode::Lease(_) => {
            let key = HybridSecretKey::random(&mut OsRng);
            let public = key.public().clone();
            (Some(key), Some(public))
        }
        Mode::Release { recipient } => (None, Some(recipient.hybrid().clone())),
        Mode::Adoption(_) => (None, None),
    };
    let offer = Offer::new(statement, attempt, public, openings).map_err(never)?;
    let signature = tpm.sign_as_embassy(offer.hash().as_bytes())?;
    let signature = Signature::from_slice(&signature).map_err(never)?;
    let offer = Box::new(SignedOffer::new(offer, signature));
    Ok((parked, Event::Offered { offer, key }))
}

/// What an opening is of, and for whom.
pub(super) struct ToOpen<'a> {
    pub(super) facts: &'a CustodyFacts,
    pub(super) versions: &'a [VerifiedVersion],
    /// The offer's hash.
    pub(super) offer: Hash,
    /// The recipient of a release.
    pub(super) to: Option<&'a RecipientCard>,
}

/// What came of an opening that succeeded.
pub(super) enum Came {
    /// The seeds of a lease.
    Seeds(Vec<Opened>),
    /// The TPM's halves of a release, sealed to its recipient.
    Parts(ReleaseParts),
    /// The charter pin holds the charter.
    Pinned,
}

/// Runs the parked commands with the approvals that the quorum gave, and opens. The commands stay with the caller: those that
/// never ran are good for another try. `in_tpm` grows by the time that the TPM took.
pub(super) fn open(
    tpm: &dyn Tpm,
    order: &ToOpen<'_>,
    material: Material,
    parked: &mut [ParkedCommand],
    in_tpm: &mut Duration,
) -> Result<Came, Trouble> {
    let examine = |error: &dyn std::fmt::Display| Trouble::Examine { why: error.to_string() };
    without_trace(|| match material {
        Material::Lease(quorate) => {
            let openings = quorate.into_openings();
            let approvals: Vec<&[TpmApproval]> = openings.iter().map(|opening| opening.approvals()).collect();
            let halves = halves(tpm, order.facts, &approvals, parked, in_tpm)?;
            let opened = openings.into_iter().zip(&halves).zip(order.versions);
            let opened = opened.map(|((opening, half), version)| opening.open(half, version));
            opened.collect::<Result<_, _>>().map(Came::Seeds).map_err(|error| examine(&error))
        }
        Material::Release(quorate) => {
            let to = order.to.ok_or_else(|| examine(&"a release without a recipient"))?;
            let openings = quorate.into_openings();
            let approvals: Vec<&[TpmApproval]> = openings.iter().map(|opening| opening.approvals()).collect();
            let halves = halves(tpm, order.facts, &approvals, parked, in_tpm)?;
            let halves = openings.iter().map(|opening| opening.slot()).zip(&halves);
            let parts = ReleaseParts::seal(&order.offer, to.hybrid(), halves, &mut OsRng);
            parts.map(Came::Parts).map_err(|error| examine(&error))
        }
        Material::Adoption(quorate) => {
            let [command] = parked else {
                return Err(Trouble::FreshApprovals { why: "the session of this offer is gone".to_owned() });
            };
            match run(tpm, order.facts, quorate.approvals(), command, in_tpm) {
                Ok(Outcome::Done) => Ok(Came::Pinned),
                Ok(Outcome::Shared(_)) => Err(other_command()),
                // The answer may have been lost, and the pin be written all the same. It says so itself.
                Err(_) if tpm.charter_pin() == Ok(quorate.charter().hash) => Ok(Came::Pinned),
                Err(trouble) => Err(trouble),
            }
        }
    })
}

fn other_command() -> Trouble {
    Trouble::Examine { why: "the TPM ran another command than was ordered".to_owned() }
}

/// The TPM's half of each slot.
fn halves(
    tpm: &dyn Tpm,
    facts: &CustodyFacts,
    approvals: &[&[TpmApproval]],
    parked: &mut [ParkedCommand],
    in_tpm: &mut Duration,
) -> Result<Vec<SharedPoint>, Trouble> {
    if parked.len() != approvals.len() {
        return Err(Trouble::FreshApprovals { why: "the sessions of this offer are gone".to_owned() });
    }
    let mut halves = Vec::with_capacity(parked.len());
    for (command, approvals) in parked.iter_mut().zip(approvals) {
        let half = match run(tpm, facts, approvals, command, in_tpm) {
            Ok(Outcome::Shared(half)) => Ok(half),
            Ok(Outcome::Done) => Err(other_command()),
            Err(trouble) => Err(trouble),
        };
        halves.push(half.map_err(|trouble| after(halves.len(), trouble))?);
    }
    Ok(halves)
}

/// Runs one parked command with its approvals.
fn run(
    tpm: &dyn Tpm,
    facts: &CustodyFacts,
    approvals: &[TpmApproval],
    command: &mut ParkedCommand,
    in_tpm: &mut Duration,
) -> Result<Outcome, Trouble> {
    // Exactly these: an earlier try's may be withdrawn.
    command.withdraw();
    let mut refused: Vec<(Position, String)> = Vec::new();
    for approval in approvals {
        if let Err(error) = command.approve(approval.clone(), facts.expiry_max_seconds()) {
            refused.push((error.official, error.refusal.to_string()));
        }
    }
    if !refused.is_empty() {
        return Err(Trouble::Refused { officials: refused });
    }
    let began = Instant::now();
    let finished = tpm.finish(command);
    *in_tpm += began.elapsed();
    finished.map_err(|error| trouble(&error))
}

fn trouble(error: &TpmError) -> Trouble {
    let why = error.to_string();
    match error {
        TpmError::TooFewApprovals { refused, .. } if !refused.is_empty() => Trouble::Refused {
            officials: refused.iter().map(|refused| (refused.official, refused.refusal.to_string())).collect(),
        },
        // Over its time when the command came, and the TPM does not say whose.
        TpmError::TooFewApprovals { .. } | TpmError::SessionLost | TpmError::Expired { .. } => {
            Trouble::FreshApprovals { why }
        }
        error if error.remedy() == Remedy::Retry => Trouble::Retry { why },
        _ => Trouble::Examine { why },
    }
}

/// A session that has run its command is spent, and each approval was for one session: where only some of the commands came
/// through, all are begun anew.
fn after(ran: usize, trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Retry { why } if ran > 0 => Trouble::FreshApprovals { why },
        Trouble::Refused { officials } if ran > 0 => {
            let why = officials.into_iter().map(|(official, why)| format!("{official}: {why}")).collect::<Vec<_>>();
            Trouble::FreshApprovals { why: why.join("; ") }
        }
        other => other,
    }
}
