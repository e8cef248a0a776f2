//! Whether a statement opens a ceremony: everything that can be known at once is judged at once (protocol.md §20.1).

use crate::protocol::{
    ceremony::{
        Context, Out, Step,
        unseal::{AwaitingOffer, Case, Unseal},
    },
    hash::Hash,
    ids::{CeremonyId, CharterAt, DatasetName, DatasetVersion, OfficialName},
    roll::{Act, Entry, Who},
    slot::SealedFor,
    statement::{Adoption, Mode, Resets, SignedStatement, Statement, StatementError},
};

/// What the embassy knows of itself at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Admission<'a> {
    /// What the TPM counts now: the statement must acknowledge exactly this.
    pub resets: Resets,
    /// Whether the charter allows leases on this embassy's hardware.
    pub leases: bool,
    /// What the TPM's charter pin holds now.
    pub pinned: Hash,
    /// The ceremonies that hold their openers now: [`Ceremony::holds_its_opener`](crate::protocol::ceremony::Ceremony).
    pub open: &'a [(CeremonyId, OfficialName)],
}

/// Why a statement opens no ceremony. Nothing was recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAdmitted {
    /// Its opener did not sign it, or its time is not now.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// It is for another charter, embassy or generation.
    #[error("the statement is for another {what} than this one's")]
    Another {
        /// Which of the three.
        what: &'static str,
    },
    /// No signed record of a dataset is here.
    #[error(
        "dataset {dataset} version {version} has no signed record here, sealed for this generation. Its data owner can \
         hand one in"
    )]
    NoRecord {
        /// Which dataset.
        dataset: DatasetName,
        /// Which version.
        version: DatasetVersion,
    },
    /// The charter allows no lease on this hardware.
    #[error("the charter allows no lease on this embassy's hardware. Open a release to a named recipient instead")]
    NoLease,
    /// Nobody at home certified the recipient, as far as is known here.
    #[error("the recipient of this release is not certified by home, as far as is known here")]
    Recipient,
    /// It adopts another charter than the one in force.
    #[error("the statement adopts charter {adopts}; in force here is {in_force}. Open a ceremony for the one in force")]
    NotInForce {
        /// The one in the statement.
        adopts: CharterAt,
        /// The one in force.
        in_force: CharterAt,
    },
    /// The charter is adopted already.
    #[error("charter {charter} is adopted: the TPM's charter pin holds it. Nothing to do")]
    Adopted {
        /// Which.
        charter: CharterAt,
    },
    /// The charter pin holds something else than the statement says.
    #[error(
        "the TPM's charter pin holds {found}; the statement says {stated}. Open a ceremony that says what it holds now"
    )]
    Pinned {
        /// Now.
        found: Hash,
        /// In the statement.
        stated: Hash,
    },
    /// The TPM counts otherwise than the statement acknowledges.
    #[error(
        "the TPM counts {found}; the statement acknowledges {acknowledged}. Ask what happened to the machine, then open \
         a ceremony that acknowledges the present count"
    )]
    Resets {
        /// Now.
        found: Resets,
        /// In the statement.
        acknowledged: Resets,
    },
    /// The opener has another one open.
    #[error("{opener} has a ceremony open already: {id}. It must end first; its opener can stop it")]
    OneAtATime {
        /// Who.
        opener: OfficialName,
        /// Which.
        id: CeremonyId,
    },
    /// This very statement has opened a ceremony before.
    #[error("this statement has opened its ceremony already: {id}")]
    Known {
        /// Which.
        id: CeremonyId,
    },
}

impl Unseal {
    /// Opens a ceremony.
    ///
    /// # Errors
    /// [`NotAdmitted`]: there is no ceremony then.
    pub fn open(
        signed: SignedStatement,
        context: &Context<'_>,
        admission: &Admission<'_>,
    ) -> Result<Step<Self>, NotAdmitted> {
        let id = signed.unverified().id();
        if admission.open.iter().any(|(known, _)| *known == id) {
            return Err(NotAdmitted::Known { id });
        }
        let statement = signed.verify(context.facts)?;
        statement.check_time(context.now)?;
        admit(statement, context, admission)?;
        let by = Who::Official(statement.opener().clone());
        let entry = Entry { at: context.now, by, act: Act::CeremonyOpened { statement: Box::new(signed.clone()) } };
        let make = Out::MakeOffer { statement: Box::new(signed.clone()), attempt: 1 };
        let next = Self::AwaitingOffer(AwaitingOffer::asked(Case::new(id, signed)));
        Ok(Step { next, entries: vec![entry], outbox: vec![make, Out::Notify] })
    }
}

fn admit(statement: &Statement, context: &Context<'_>, admission: &Admission<'_>) -> Result<(), NotAdmitted> {
    let facts = context.facts;
    for (same, what) in [
        (statement.charter() == facts.charter(), "charter"),
        (statement.embassy() == facts.embassy(), "embassy"),
        (statement.generation() == facts.generation(), "generation"),
    ] {
        if !same {
            return Err(NotAdmitted::Another { what });
        }
    }
    let opener = statement.opener();
    if let Some((id, _)) = admission.open.iter().find(|(_, other)| other == opener) {
        return Err(NotAdmitted::OneAtATime { opener: opener.clone(), id: *id });
    }
    let acknowledged = statement.parts().acknowledged;
    if acknowledged != admission.resets {
        return Err(NotAdmitted::Resets { found: admission.resets, acknowledged });
    }
    match statement.mode() {
        Mode::Lease(_) if !admission.leases => return Err(NotAdmitted::NoLease),
        Mode::Release { recipient } if !context.recipient.is_some_and(|judged| judged.is_of(recipient)) => {
            return Err(NotAdmitted::Recipient);
        }
        Mode::Lease(_) | Mode::Release { .. } => {}
        Mode::Adoption(adoption) => admit_adoption(adoption, *facts.in_force(), admission.pinned)?,
    }
    let here = SealedFor::Embassy(facts.embassy().clone());
    for at in statement.datasets() {
        let at_hand = context.versions.iter().any(|version| {
            let signed = version.description();
            (signed.charter, &signed.dataset, signed.version) == (facts.charter(), &at.dataset, at.version)
                && version.slot(&here).is_some_and(|slot| slot.context().generation() == facts.generation())
        });
        if !at_hand {
            return Err(NotAdmitted::NoRecord { dataset: at.dataset.clone(), version: at.version });
        }
    }
    Ok(())
}

fn admit_adoption(adoption: &Adoption, in_force: CharterAt, pinned: Hash) -> Result<(), NotAdmitted> {
    let Adoption { charter, pinned: stated } = *adoption;
    if charter != in_force {
        return Err(NotAdmitted::NotInForce { adopts: charter, in_force });
    }
    if pinned == charter.hash {
        return Err(NotAdmitted::Adopted { charter });
    }
    if pinned == stated { Ok(()) } else { Err(NotAdmitted::Pinned { found: pinned, stated }) }
}
