//! How an unseal stands, for people: what is going on, who is missing, what comes next.

use crate::protocol::{
    ceremony::unseal::{Unseal, phase::Asked},
    certificate::UnixTime,
    facts::CustodyFacts,
    ids::OfficialName,
    paragraph::Reason,
};

/// Where a ceremony is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The embassy has to make an offer.
    AwaitingOffer,
    /// Officials contribute.
    Collecting,
    /// The TPM is asked.
    Opening,
    /// The recipient can fetch, and officials can still contribute.
    Released,
    /// It is over.
    Ended,
}

impl Phase {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AwaitingOffer => "awaiting-offer",
            Self::Collecting => "collecting",
            Self::Opening => "opening",
            Self::Released => "released",
            Self::Ended => "ended",
        }
    }
}

/// How an unseal stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where it is.
    pub phase: Phase,
    /// Counts the offers.
    pub attempt: u32,
    /// How many contributions it takes.
    pub need: u8,
    /// Whose count, for the present offer, or counted when it ended.
    pub contributed: Vec<OfficialName>,
    /// Who has neither contributed nor denied.
    pub missing: Vec<OfficialName>,
    /// Who voted against it, and why.
    pub denied: Vec<(OfficialName, Reason)>,
    /// How many votes against it end it.
    pub denials_that_end: u8,
    /// Who provably sent something wrong.
    pub culprits: Vec<OfficialName>,
    /// What last went wrong, if it still matters.
    pub trouble: Option<Reason>,
    /// Until when the present offer takes approvals; then the embassy makes another.
    pub approve_by: Option<UnixTime>,
    /// What comes next, and who can bring it about.
    pub next: String,
}

impl Unseal {
    /// How it stands, by the facts of the charter in force.
    pub fn standing(&self, facts: &CustodyFacts) -> Standing {
        let case = self.case();
        let threshold = case.statement().mode().threshold(facts);
        let contributed = self.approved();
        let phase = match self {
            Self::AwaitingOffer(_) => Phase::AwaitingOffer,
            Self::Collecting(_) => Phase::Collecting,
            Self::Opening(_) => Phase::Opening,
            Self::Released(_) => Phase::Released,
            Self::Ended(_) => Phase::Ended,
        };
        let denied: Vec<(OfficialName, Reason)> = case
            .denials
            .values()
            .map(|denial| (denial.unverified_official().clone(), denial.reason().clone()))
            .collect();
        let spoke = |name: &OfficialName| contributed.contains(name) || denied.iter().any(|(by, _)| by == name);
        let names = facts.unseal().members.iter().map(|member| &member.name);
        let missing: Vec<OfficialName> = names.filter(|name| !spoke(name)).cloned().collect();
        let need = threshold.k();
        let next = self.next(need, contributed.len(), &missing);
        Standing {
            phase,
            attempt: case.attempt,
            need,
            contributed,
            missing,
            denied,
            denials_that_end: threshold.denials_that_end(),
            culprits: case.culprits.iter().cloned().collect(),
            trouble: case.trouble.clone(),
            approve_by: match self {
                Self::Collecting(phase) => Some(phase.good_until),
                _ => None,
            },
            next,
        }
    }

    fn next(&self, need: u8, have: usize, missing: &[OfficialName]) -> String {
        let left = usize::from(need).saturating_sub(have);
        let missing: Vec<&str> = missing.iter().map(OfficialName::as_str).collect();
        match self {
            Self::AwaitingOffer(phase) => match phase.asked {
                Asked::Waiting => "the embassy is making an offer; then officials can approve".to_owned(),
                Asked::Again(at) => format!("the embassy could not make an offer, and tries again at {at}"),
                Asked::Held => {
                    "the embassy cannot go on by itself: somebody must look at it, and start it again".to_owned()
                }
            },
            Self::Collecting(phase) => {
                format!("{left} more of these can approve, until {}: {}", phase.good_until, missing.join(", "))
            }
            Self::Opening(phase) => match phase.asked {
                Asked::Again(at) => format!("enough have approved; the TPM was not ready, and is asked again at {at}"),
                Asked::Waiting | Asked::Held => "enough have approved; the TPM is being asked".to_owned(),
            },
            Self::Released(_) => {
                format!(
                    "the recipient can fetch. Should a part be wrong, these can still approve: {}",
                    missing.join(", ")
                )
            }
            Self::Ended(phase) => format!("nothing: {}", phase.outcome),
        }
    }
}
