//! What an official's machine finds out about an offer before anybody is asked to agree to it, and the contribution that follows.
//!
//! The embassy is not trusted, and neither is whoever carried the offer here. Every hash that gets signed is computed on this
//! machine (protocol.md §10.3); the points of the slots are on this machine's disk before anything leaves it.

use rand_core::OsRng;

use crate::{
    client::official::{Adopting, Directory, DirectoryError, Keys},
    keys::file::ShareOf,
    protocol::{
        certificate::UnixTime,
        contribution::{CheckedOffer, ContributeError, Contribution, OfferRefusal, Official, Review},
        facts::CustodyFacts,
        ids::{EmbassyName, QuorumKind},
        offer::SignedOffer,
        quorum::Position,
        recipient::{Recipient, RecipientError},
        statement::{Mode, Resets, Statement, StatementError},
    },
};

/// Why an offer is not put before the official, or no contribution was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// What is kept here.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The offer.
    #[error("{0}. Nothing was signed")]
    Offer(#[from] OfferRefusal),
    /// The statement.
    #[error("{0}. Nothing was signed")]
    Statement(#[from] StatementError),
    /// The recipient of a release.
    #[error("the recipient of this release is refused: {0}. Nothing was signed; ask who opened the ceremony")]
    Recipient(#[from] RecipientError),
    /// The charter allows no lease there.
    #[error(
        "the charter allows no lease on the hardware of {embassy}, and this is one. Nothing was signed; tell the others, since \
         the embassy should not have offered it"
    )]
    NoLease {
        /// Where.
        embassy: EmbassyName,
    },
    /// The official has no place in the quorum.
    #[error("{name} has no place in the unseal quorum of this charter, and cannot approve. Stopping is open to you")]
    NoPlace {
        /// Who.
        name: String,
    },
    /// No contribution could be made.
    #[error("{0}. Nothing was sent")]
    Contribute(#[from] ContributeError),
}

/// How the counts of resets and restarts in a statement compare with what this official agreed to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rise {
    /// Nothing was agreed to before, on this machine.
    First,
    /// The same as last time.
    None,
    /// The machine was reset or restarted since.
    Up {
        /// Resets.
        resets: u32,
        /// Restarts; since the last reset, where there was one.
        restarts: u32,
    },
    /// A count went back, which a TPM never does: it was cleared, or is another one.
    Back {
        /// What was agreed to last.
        was: Resets,
    },
}

impl Rise {
    /// Compares.
    pub const fn between(was: Option<Resets>, now: Resets) -> Self {
        let Some(was) = was else { return Self::First };
        if now.reset_count < was.reset_count
            || (now.reset_count == was.reset_count && now.restart_count < was.restart_count)
        {
            return Self::Back { was };
        }
        // A reset starts the count of restarts anew.
        let before = if now.reset_count == was.reset_count { was.restart_count } else { 0 };
        let (resets, restarts) = (now.reset_count - was.reset_count, now.restart_count.saturating_sub(before));
        if resets == 0 && restarts == 0 { Self::None } else { Self::Up { resets, restarts } }
    }
}

impl std::fmt::Display for Rise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let times = |count: u32| if count == 1 { "once".to_owned() } else { format!("{count} times") };
        match self {
            Self::First => f.write_str("this is the first statement that this machine sees of this embassy"),
            Self::None => f.write_str("none since the last statement you agreed to"),
            Self::Up { resets: 0, restarts } => {
                write!(f, "RESTARTED {} since the last statement you agreed to. Do you know why?", times(*restarts))
            }
            Self::Up { resets, restarts } => write!(
                f,
                "RESET {}, and restarted {} after that, since the last statement you agreed to. Do you know why?",
                times(*resets),
                times(*restarts)
            ),
            Self::Back { was } => write!(
                f,
                "THE COUNTS WENT BACK from {was}, which no TPM does by itself: it was cleared, or is another one. Do not agree; \
                 ask home"
            ),
        }
    }
}

/// An offer that this machine has checked, to be shown and agreed to.
#[derive(Debug)]
pub struct Reviewed {
    checked: CheckedOffer,
    facts: CustodyFacts,
    position: Position,
    rise: Rise,
    recipient: Option<Recipient>,
    newer: Vec<String>,
    adopting: Option<Adopting>,
}

impl Reviewed {
    /// Checks an offer against everything that is known here: the charter in force, the embassy's signature, the opener's
    /// signature and time, each slot with its proof and its owner's signature, the recipient, and that no point was seen in
    /// another slot. The points are noted, durably, before this returns.
    ///
    /// # Errors
    /// [`ReviewError`]: do not contribute.
    pub fn of(directory: &mut Directory, signed: &SignedOffer, now: UnixTime) -> Result<Self, ReviewError> {
        let embassy = signed.unverified().statement().embassy().clone();
        let facts = directory.facts(&embassy)?;
        let charter = directory.charter()?;
        let described = charter.charter().parts().embassies.iter().find(|described| described.name == embassy);
        let is_lease = matches!(signed.unverified().statement().mode(), Mode::Lease(_));
        // The embassy refuses this itself; an embassy that does not is not the one that was approved.
        if is_lease && !described.is_some_and(|described| described.leases) {
            return Err(ReviewError::NoLease { embassy });
        }
        let versions = directory.datasets()?;
        let recipient = match signed.unverified().statement().mode().recipient() {
            None => None,
            Some(card) => Some(card.verify(&directory.home()?, &directory.revocations()?, now)?),
        };
        let mut points = directory.memory().points().map_err(DirectoryError::from)?;
        let review = Review { facts: &facts, versions: &versions, now, recipient: recipient.as_ref() };
        let checked = CheckedOffer::check(signed, &review, &mut points)?;
        directory.remember(|memory| {
            memory.keep_points(points);
            Ok(())
        })?;
        let name = directory.name();
        let position =
            facts.unseal().position_of(name).ok_or_else(|| ReviewError::NoPlace { name: name.to_string() })?;
        let statement = checked.offer().statement();
        let rise = Rise::between(directory.memory().resets(&embassy), statement.parts().acknowledged);
        let newer = statement.datasets().iter().filter_map(|at| {
            let seen = directory.memory().versions().iter().find(|seen| seen.dataset == at.dataset)?;
            (seen.version > at.version).then(|| {
                format!("{}: version {} is opened, and there is version {}", at.dataset, at.version, seen.version)
            })
        });
        let newer = newer.collect();
        // That it is the charter in force here was checked with the offer; from which one it goes on is checked here.
        let adoption = statement.mode().adoption();
        let adopting = adoption.map(|adoption| directory.adoption(&embassy, &adoption.pinned)).transpose()?;
        Ok(Self { checked, facts, position, rise, recipient, newer, adopting })
    }

    /// The offer.
    pub const fn checked(&self) -> &CheckedOffer {
        &self.checked
    }

    /// The statement.
    pub const fn statement(&self) -> &Statement {
        self.checked.offer().statement()
    }

    /// The embassy.
    pub const fn embassy(&self) -> &EmbassyName {
        self.statement().embassy()
    }

    /// The facts it was checked against.
    pub const fn facts(&self) -> &CustodyFacts {
        &self.facts
    }

    /// The official's place in the quorum.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// How the machine's counts have moved.
    pub const fn rise(&self) -> Rise {
        self.rise
    }

    /// Who receives a release.
    pub const fn recipient(&self) -> Option<&Recipient> {
        self.recipient.as_ref()
    }

    /// What the adoption of a charter changes.
    pub const fn adopting(&self) -> Option<&Adopting> {
        self.adopting.as_ref()
    }

    /// Datasets of which there is a newer version than the one that is to be opened.
    pub fn newer(&self) -> &[String] {
        &self.newer
    }

    /// Consents. Nothing has left this machine when this returns; what the statement acknowledges is remembered.
    ///
    /// # Errors
    /// [`ReviewError::Directory`], [`ReviewError::Contribute`].
    pub fn contribute(&self, directory: &mut Directory, keys: &Keys) -> Result<Contribution, ReviewError> {
        // The TPM counts from the moment it made the nonce, which was before any official was asked: the longest it is.
        let expiry = self.checked.expiry_max_seconds();
        let contribution = if self.adopting.is_some() {
            // Nothing is opened: the share stays where it is.
            let identity = keys.identity().map_err(DirectoryError::from)?;
            self.checked.approve(&self.facts, self.position, &identity, expiry)?
        } else {
            let share = keys.share(&ShareOf {
                charter: self.facts.charter(),
                quorum: QuorumKind::Unseal,
                generation: self.facts.generation(),
                position: self.position,
            })?;
            let hybrid = keys.hybrid().map_err(DirectoryError::from)?;
            let identity = keys.identity().map_err(DirectoryError::from)?;
            let official = Official { position: self.position, identity: &identity, hybrid: &hybrid, share: &share };
            self.checked.contribute(&self.facts, &official, expiry, &mut OsRng)?
        };
        let (embassy, acknowledged) = (self.embassy().clone(), self.statement().parts().acknowledged);
        directory.remember(|memory| {
            memory.keep_resets(&embassy, acknowledged);
            Ok(())
        })?;
        Ok(contribution)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_movement_of_the_counts_is_told_from_the_others() {
        let counts = |reset_count, restart_count| Resets { reset_count, restart_count };
        let rise = |was, now| Rise::between(Some(was), now);
        assert_eq!(Rise::between(None, counts(7, 1)), Rise::First);
        assert_eq!(rise(counts(3, 1), counts(3, 1)), Rise::None);
        assert_eq!(rise(counts(3, 1), counts(3, 3)), Rise::Up { resets: 0, restarts: 2 });
        assert_eq!(rise(counts(3, 5), counts(4, 0)), Rise::Up { resets: 1, restarts: 0 });
        assert_eq!(rise(counts(3, 5), counts(6, 2)), Rise::Up { resets: 3, restarts: 2 });
        assert_eq!(rise(counts(3, 1), counts(3, 0)), Rise::Back { was: counts(3, 1) });
        assert_eq!(rise(counts(3, 1), counts(0, 9)), Rise::Back { was: counts(3, 1) });
        let said = rise(counts(3, 5), counts(4, 0)).to_string();
        assert!(said.starts_with("RESET once") && said.contains("Do you know why?"), "{said}");
        assert!(rise(counts(3, 1), counts(0, 0)).to_string().contains("ask home"));
    }
}
