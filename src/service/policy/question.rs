//! What can be asked of the policy: who asks, what for, and what is known about it.
//!
//! Facts come from the charter in force, from what home certified and from statements whose signatures were checked; nothing
//! that a peer only says about itself stands here.

use crate::protocol::{
    certificate::Role,
    charter::{Charter, HardwareClass},
    ids::{AgentName, DatasetName, EmbassyName, OwnerName, QuorumKind, SubjectName},
};

/// Who asks: certified by home, in one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    role: Role,
    name: SubjectName,
    quorums: Vec<QuorumKind>,
}

impl Asker {
    /// Whoever home certified in this role under this name, with the quorums that the charter gives an official.
    pub fn new(role: Role, name: &SubjectName, charter: &Charter) -> Self {
        let parts = charter.parts();
        let rules = [(QuorumKind::Unseal, &parts.unseal), (QuorumKind::Recovery, &parts.recovery)];
        let member = |(_, rule): &(QuorumKind, &crate::protocol::charter::QuorumRule)| {
            role == Role::Official && rule.members.iter().any(|member| member.as_str() == name.as_str())
        };
        let quorums = rules.into_iter().filter(member).map(|(kind, _)| kind).collect();
        Self { role, name: name.clone(), quorums }
    }

    pub(super) const fn spoken(role: Role, name: SubjectName, quorums: Vec<QuorumKind>) -> Self {
        Self { role, name, quorums }
    }

    /// The role.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The name.
    pub const fn name(&self) -> &SubjectName {
        &self.name
    }

    /// The quorums.
    pub fn quorums(&self) -> &[QuorumKind] {
        &self.quorums
    }
}

impl std::fmt::Display for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.role, self.name)
    }
}

/// The embassy that is asked, as the charter describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub embassy: EmbassyName,
    /// Its class of hardware.
    pub class: HardwareClass,
    /// Whether the charter allows leases there.
    pub leases: bool,
}

impl Place {
    /// What the charter says of this embassy; `None` where it does not name it.
    pub fn of(embassy: &EmbassyName, charter: &Charter) -> Option<Self> {
        let known = charter.parts().embassies.iter().find(|known| known.name == *embassy)?;
        Some(Self { embassy: known.name.clone(), class: known.class, leases: known.leases })
    }
}

/// What a ceremony comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The key in the embassy's memory.
    Lease,
    /// The key to one recipient.
    Release,
    /// No key: what the embassy is changes.
    Amendment,
}

impl Mode {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Release => "release",
            Self::Amendment => "amendment",
        }
    }
}

/// The data owners of these datasets, by the charter; each once.
pub(super) fn owners_of(datasets: &[DatasetName], charter: &Charter) -> Vec<OwnerName> {
    let known = charter.parts().datasets.iter().filter(|known| datasets.contains(&known.name));
    let mut owners: Vec<OwnerName> = known.map(|known| known.owner.clone()).collect();
    owners.sort();
    owners.dedup();
    owners
}

/// What the policy looks at in a ceremony.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CeremonyFacts {
    /// Its id.
    pub id: String,
    /// Lease, release or amendment.
    pub mode: Mode,
    /// The data owners of its datasets; an amendment has none.
    pub owners: Vec<OwnerName>,
    /// Whom a release goes to: role and name of the certificate in the statement.
    pub recipient: Option<(Role, SubjectName)>,
}

impl CeremonyFacts {
    /// Of a ceremony with these datasets; `recipient` makes it a release.
    pub fn new(
        id: impl std::fmt::Display,
        datasets: &[DatasetName],
        recipient: Option<(Role, SubjectName)>,
        charter: &Charter,
    ) -> Self {
        let mode = if recipient.is_some() { Mode::Release } else { Mode::Lease };
        Self { id: id.to_string(), mode, owners: owners_of(datasets, charter), recipient }
    }
}

/// How a lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// It serves.
    Live,
    /// It waits for a beat.
    Suspended,
    /// It is over.
    Ended,
}

impl LeaseState {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Suspended => "suspended",
            Self::Ended => "ended",
        }
    }
}

/// What the policy looks at in a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseFacts {
    /// Its id, the ceremony's.
    pub id: String,
    /// How it is.
    pub state: LeaseState,
    /// The agents that the statement names.
    pub agents: Vec<AgentName>,
    /// Its datasets.
    pub datasets: Vec<DatasetName>,
    /// Their data owners.
    pub owners: Vec<OwnerName>,
}

impl LeaseFacts {
    /// Of a lease with these agents and datasets.
    pub fn new(
        id: impl std::fmt::Display,
        state: LeaseState,
        agents: &[AgentName],
        datasets: &[DatasetName],
        charter: &Charter,
    ) -> Self {
        let (agents, owners) = (agents.to_vec(), owners_of(datasets, charter));
        Self { id: id.to_string(), state, agents, datasets: datasets.to_vec(), owners }
    }
}

/// What is asked for. The names are those of the schema's actions.
#[derive(Clone, Copy, Debug)]
pub enum Act<'a> {
    /// Status, charters, revocation lists.
    Look,
    /// Bringing a charter.
    TakeCharter,
    /// Bringing a revocation list.
    TakeRevocations,
    /// Reading datasets' versions.
    ReadDatasets,
    /// Bringing a dataset's version.
    TakeDataset {
        /// Which.
        dataset: &'a DatasetName,
        /// Whose, by the charter.
        owner: &'a OwnerName,
    },
    /// The lists of ceremonies and leases; each entry is asked for by itself.
    List,
    /// Opening a ceremony.
    OpenCeremony {
        /// Lease, release or amendment.
        mode: Mode,
        /// How long a lease is to last; 0 for the others.
        lease_seconds: u32,
        /// How many unwraps it is to have; 0 for the others.
        unwraps: u64,
    },
    /// Reading a ceremony, its offer and its events.
    WatchCeremony(&'a CeremonyFacts),
    /// Contributing to one.
    Contribute(&'a CeremonyFacts),
    /// Denying one.
    Deny(&'a CeremonyFacts),
    /// Stopping one.
    StopCeremony(&'a CeremonyFacts),
    /// Fetching what was released.
    FetchRelease(&'a CeremonyFacts),
    /// Reading a lease.
    WatchLease(&'a LeaseFacts),
    /// Stopping one.
    StopLease(&'a LeaseFacts),
    /// Having keys unwrapped.
    Unwrap {
        /// Under which lease.
        lease: &'a LeaseFacts,
        /// Of which dataset.
        dataset: &'a DatasetName,
        /// Whether the connection's keys were exchanged with X25519MLKEM768.
        hybrid: bool,
    },
    /// Reading the embassy's nonce and answering it.
    Beat,
    /// Reading the roll.
    ReadRoll,
    /// Reading a genesis.
    ReadGenesis,
    /// Taking part in one.
    PostGenesis,
    /// Bringing one's signature on the charter that completes it.
    SignCharter,
}

impl Act<'_> {
    /// Every action's name.
    pub(super) const NAMES: [&'static str; 20] = [
        "look",
        "take charter",
        "take revocations",
        "read datasets",
        "take dataset",
        "list",
        "open ceremony",
        "watch ceremony",
        "contribute",
        "deny",
        "stop ceremony",
        "fetch release",
        "watch lease",
        "stop lease",
        "unwrap",
        "beat",
        "read roll",
        "read genesis",
        "post genesis",
        "sign charter",
    ];

    /// The action's name in the schema.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::TakeCharter => "take charter",
            Self::TakeRevocations => "take revocations",
            Self::ReadDatasets => "read datasets",
            Self::TakeDataset { .. } => "take dataset",
            Self::List => "list",
            Self::OpenCeremony { .. } => "open ceremony",
            Self::WatchCeremony(_) => "watch ceremony",
            Self::Contribute(_) => "contribute",
            Self::Deny(_) => "deny",
            Self::StopCeremony(_) => "stop ceremony",
            Self::FetchRelease(_) => "fetch release",
            Self::WatchLease(_) => "watch lease",
            Self::StopLease(_) => "stop lease",
            Self::Unwrap { .. } => "unwrap",
            Self::Beat => "beat",
            Self::ReadRoll => "read roll",
            Self::ReadGenesis => "read genesis",
            Self::PostGenesis => "post genesis",
            Self::SignCharter => "sign charter",
        }
    }
}

/// Who asks what of which embassy.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who.
    pub who: &'a Asker,
    /// What.
    pub act: Act<'a>,
    /// Where.
    pub place: &'a Place,
}
