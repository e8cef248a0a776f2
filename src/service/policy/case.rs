//! Cases: who asks what, and what the answer must be. Written in JSON by people; for tests, and for trying a policy out.

use serde::{Deserialize, Deserializer, de::Error};

use crate::{
    protocol::{
        certificate::Role,
        charter::HardwareClass,
        ids::{AgentName, DatasetName, EmbassyName, OwnerName, QuorumKind, SubjectName},
    },
    service::policy::{
        Denied, Permitted, Policy,
        question::{Act, Asker, CeremonyFacts, LeaseFacts, LeaseState, Mode, Place, Question},
    },
};

/// Why a case is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaseError {
    /// Longer than any case.
    #[error("a case has at most {} bytes, and this has {found}", Case::MAX_BYTES)]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Not the JSON of a case.
    #[error("this is no case: {0}. The files in policy/cases show how one looks")]
    Json(#[from] serde_json::Error),
    /// A question that lacks what it is about.
    #[error("the act \"{act}\" needs \"{missing}\" beside it")]
    Missing {
        /// The act.
        act: String,
        /// What is missing.
        missing: &'static str,
    },
    /// An act that there is not.
    #[error("there is no act \"{}\"; the schema's actions are the acts", .act.escape_debug())]
    Act {
        /// The text.
        act: String,
    },
}

/// Who asks what, and what is expected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The story in one sentence.
    pub title: String,
    who: Who,
    act: String,
    embassy: Embassy,
    ceremony: Option<Ceremony>,
    lease: Option<Lease>,
    dataset: Option<Dataset>,
    opening: Option<Opening>,
    hybrid: Option<bool>,
    /// What the answer must be; without it, any is right.
    pub expect: Option<Answer>,
}

/// An answer, and the policy that gives it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Answer {
    /// Yes, by this policy.
    Permitted(String),
    /// No, by this policy: one that forbids it, or one that permits it to others in this role.
    Denied(String),
    /// No, and no policy permits it to anybody in this role.
    DeniedByDefault,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Who {
    #[serde(deserialize_with = "role")]
    role: Role,
    #[serde(deserialize_with = "name")]
    name: SubjectName,
    #[serde(default)]
    quorums: Vec<Quorum>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Quorum {
    Unseal,
    Recovery,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Embassy {
    #[serde(deserialize_with = "name")]
    name: EmbassyName,
    #[serde(deserialize_with = "name")]
    class: HardwareClass,
    leases: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ceremony {
    id: String,
    #[serde(deserialize_with = "names")]
    owners: Vec<OwnerName>,
    recipient: Option<Recipient>,
    #[serde(default)]
    amendment: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipient {
    #[serde(deserialize_with = "role")]
    role: Role,
    #[serde(deserialize_with = "name")]
    name: SubjectName,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    id: String,
    state: State,
    #[serde(deserialize_with = "names")]
    agents: Vec<AgentName>,
    #[serde(deserialize_with = "names")]
    datasets: Vec<DatasetName>,
    #[serde(deserialize_with = "names")]
    owners: Vec<OwnerName>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Live,
    Suspended,
    Ended,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dataset {
    #[serde(deserialize_with = "name")]
    name: DatasetName,
    #[serde(deserialize_with = "name")]
    owner: OwnerName,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum Opening {
    Lease { seconds: u32, unwraps: u64 },
    Release,
    Amendment,
}

fn name<'de, D: Deserializer<'de>, T>(from: D) -> Result<T, D::Error>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

fn names<'de, D: Deserializer<'de>, T>(from: D) -> Result<Vec<T>, D::Error>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let texts = Vec::<String>::deserialize(from)?;
    texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

fn role<'de, D: Deserializer<'de>>(from: D) -> Result<Role, D::Error> {
    let text = String::deserialize(from)?;
    let found = Role::ALL.into_iter().find(|role| role.segment() == text);
    found.ok_or_else(|| D::Error::custom("a role is official, agent, data-owner, auditor or witness"))
}

impl Case {
    /// The longest case, in bytes.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// Reads a case.
    ///
    /// # Errors
    /// [`CaseError`].
    pub fn read(json: &[u8]) -> Result<Self, CaseError> {
        if json.len() > Self::MAX_BYTES {
            return Err(CaseError::TooLong { found: json.len() });
        }
        Ok(serde_json::from_slice(json)?)
    }

    /// Asks the policy.
    ///
    /// # Errors
    /// [`CaseError`] where the case does not say what its act is about.
    pub fn ask(&self, policy: &Policy) -> Result<Result<Permitted, Denied>, CaseError> {
        self.with_question(|question| policy.ask(question))
    }

    pub(super) fn with_question<T>(&self, put: impl FnOnce(&Question<'_>) -> T) -> Result<T, CaseError> {
        let quorums = self.who.quorums.iter().map(|quorum| match quorum {
            Quorum::Unseal => QuorumKind::Unseal,
            Quorum::Recovery => QuorumKind::Recovery,
        });
        let who = Asker::spoken(self.who.role, self.who.name.clone(), quorums.collect());
        let Embassy { name, class, leases } = &self.embassy;
        let place = Place { embassy: name.clone(), class: *class, leases: *leases };
        let (ceremony, lease) = (self.ceremony.as_ref().map(Ceremony::facts), self.lease.as_ref().map(Lease::facts));
        let act = self.act(ceremony.as_ref(), lease.as_ref())?;
        Ok(put(&Question { who: &who, act, place: &place }))
    }

    fn act<'a>(
        &'a self,
        ceremony: Option<&'a CeremonyFacts>,
        lease: Option<&'a LeaseFacts>,
    ) -> Result<Act<'a>, CaseError> {
        let missing = |missing| CaseError::Missing { act: self.act.clone(), missing };
        let ceremony = || ceremony.ok_or_else(|| missing("ceremony"));
        let lease = || lease.ok_or_else(|| missing("lease"));
        let dataset = || self.dataset.as_ref().ok_or_else(|| missing("dataset"));
        Ok(match self.act.as_str() {
            "look" => Act::Look,
            "take charter" => Act::TakeCharter,
            "take revocations" => Act::TakeRevocations,
            "read datasets" => Act::ReadDatasets,
            "take dataset" => Act::TakeDataset { dataset: &dataset()?.name, owner: &dataset()?.owner },
            "list" => Act::List,
            "open ceremony" => match self.opening.as_ref().ok_or_else(|| missing("opening"))? {
                Opening::Lease { seconds, unwraps } => {
                    Act::OpenCeremony { mode: Mode::Lease, lease_seconds: *seconds, unwraps: *unwraps }
                }
                Opening::Release => Act::OpenCeremony { mode: Mode::Release, lease_seconds: 0, unwraps: 0 },
                Opening::Amendment => Act::OpenCeremony { mode: Mode::Amendment, lease_seconds: 0, unwraps: 0 },
            },
            "watch ceremony" => Act::WatchCeremony(ceremony()?),
            "contribute" => Act::Contribute(ceremony()?),
            "deny" => Act::Deny(ceremony()?),
            "stop ceremony" => Act::StopCeremony(ceremony()?),
            "fetch release" => Act::FetchRelease(ceremony()?),
            "watch lease" => Act::WatchLease(lease()?),
            "stop lease" => Act::StopLease(lease()?),
            "unwrap" => {
                let hybrid = self.hybrid.ok_or_else(|| missing("hybrid"))?;
                Act::Unwrap { lease: lease()?, dataset: &dataset()?.name, hybrid }
            }
            "beat" => Act::Beat,
            "read roll" => Act::ReadRoll,
            "read genesis" => Act::ReadGenesis,
            "post genesis" => Act::PostGenesis,
            "sign charter" => Act::SignCharter,
            act => return Err(CaseError::Act { act: act.to_owned() }),
        })
    }
}

impl Ceremony {
    fn facts(&self) -> CeremonyFacts {
        CeremonyFacts {
            id: self.id.clone(),
            mode: match &self.recipient {
                _ if self.amendment => Mode::Amendment,
                Some(_) => Mode::Release,
                None => Mode::Lease,
            },
            owners: self.owners.clone(),
            recipient: self.recipient.as_ref().map(|recipient| (recipient.role, recipient.name.clone())),
        }
    }
}

impl Lease {
    fn facts(&self) -> LeaseFacts {
        LeaseFacts {
            id: self.id.clone(),
            state: match self.state {
                State::Live => LeaseState::Live,
                State::Suspended => LeaseState::Suspended,
                State::Ended => LeaseState::Ended,
            },
            agents: self.agents.clone(),
            datasets: self.datasets.clone(),
            owners: self.owners.clone(),
        }
    }
}
