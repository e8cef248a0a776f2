//! What an embassy keeps of a lease beyond its own life: whose, what for, and how much of the budget is gone (protocol.md §17).
//!
//! The keys are in memory alone and end with the process; this record is how a later one knows that there was a lease, that
//! it ended, and how many unwraps there can have been. Public facts only.

use crate::protocol::{
    certificate::UnixTime,
    ids::{AgentName, CeremonyId, OfficialName},
    label::Label,
    partial::MAX_POINTS,
    statement::{DatasetAt, LeaseTerms, MAX_AGENTS},
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// Why a lease ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    /// Its time was over.
    Expired,
    /// An official stopped it.
    Stopped {
        /// Who.
        official: OfficialName,
    },
    /// Its unwraps were used up.
    Spent,
    /// No witness could be heard for two intervals.
    Silent,
    /// The embassy was started anew.
    Restarted,
    /// The embassy was stopped.
    ShutDown,
    /// The charter in force allows no leases here any more.
    NotAllowed,
    /// A fault while its key was in use.
    Fault,
    /// Its ceremony had ended before it was opened.
    Late,
}

impl std::fmt::Display for LeaseEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Expired => f.write_str("its time was over"),
            Self::Stopped { official } => write!(f, "{official} stopped it"),
            Self::Spent => f.write_str("its unwraps were used up"),
            Self::Silent => f.write_str("no witness was heard for two heartbeat intervals"),
            Self::Restarted => f.write_str("the embassy was started anew"),
            Self::ShutDown => f.write_str("the embassy was stopped"),
            Self::NotAllowed => f.write_str("the charter in force allows no leases here"),
            Self::Fault => f.write_str("a fault of chancery's own while the key was in use"),
            Self::Late => f.write_str("its ceremony had ended before it was opened"),
        }
    }
}

impl Wire for LeaseEnd {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Expired => out.u8(1),
            Self::Stopped { official } => out.u8(2).value(official),
            Self::Spent => out.u8(3),
            Self::Silent => out.u8(4),
            Self::Restarted => out.u8(5),
            Self::ShutDown => out.u8(6),
            Self::NotAllowed => out.u8(7),
            Self::Fault => out.u8(8),
            Self::Late => out.u8(9),
        };
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match input.u8("end of a lease")? {
            1 => Self::Expired,
            2 => Self::Stopped { official: input.value()? },
            3 => Self::Spent,
            4 => Self::Silent,
            5 => Self::Restarted,
            6 => Self::ShutDown,
            7 => Self::NotAllowed,
            8 => Self::Fault,
            9 => Self::Late,
            _ => return Err(WireError::Invalid { field: "end of a lease", reason: "none of the nine" }),
        })
    }
}

/// Whether a lease serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// It does.
    Live,
    /// Not until a witness beats.
    Suspended,
    /// Never again; its keys are wiped.
    Ended(LeaseEnd),
}

impl std::fmt::Display for LeaseState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
            Self::Suspended => f.write_str("suspended: no witness was heard for one heartbeat interval"),
            Self::Ended(why) => write!(f, "ended: {why}"),
        }
    }
}

impl Wire for LeaseState {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Live => out.u8(1),
            Self::Suspended => out.u8(2),
            Self::Ended(why) => out.u8(3).value(why),
        };
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match input.u8("state of a lease")? {
            1 => Self::Live,
            2 => Self::Suspended,
            3 => Self::Ended(input.value()?),
            _ => return Err(WireError::Invalid { field: "state of a lease", reason: "none of the three" }),
        })
    }
}

/// One lease, as the embassy keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The ceremony that opened it; its name as well.
    pub ceremony: CeremonyId,
    /// Which keys.
    pub datasets: Vec<DatasetAt>,
    /// For whom, how long, how often.
    pub terms: LeaseTerms,
    /// When it began, by the embassy's wall clock, which is the host's: for people.
    pub began_at: UnixTime,
    /// Whether it serves.
    pub state: LeaseState,
    /// Unwraps that were made, as far as they are settled.
    pub used: u64,
    /// The most that can have been made: what is used and what is reserved.
    pub at_most: u64,
    /// Counts the writings of this record, so that no two are the same bytes.
    pub writing: u64,
}

impl Wire for LeaseRecord {
    fn write(&self, out: &mut Writer) {
        let LeaseTerms { agents, duration_seconds, unwraps } = &self.terms;
        out.value(&self.ceremony).list(&self.datasets).list(agents).u32(*duration_seconds).u64(*unwraps);
        out.value(&self.began_at).value(&self.state).u64(self.used).u64(self.at_most).u64(self.writing);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (ceremony, datasets) = (input.value()?, input.list(MAX_POINTS, "datasets")?);
        let agents: Vec<AgentName> = input.list(MAX_AGENTS, "agents")?;
        let (duration_seconds, unwraps) = (input.u32("duration")?, input.u64("unwraps")?);
        Ok(Self {
            ceremony,
            datasets,
            terms: LeaseTerms { agents, duration_seconds, unwraps },
            began_at: input.value()?,
            state: input.value()?,
            used: input.u64("used")?,
            at_most: input.u64("at most")?,
            writing: input.u64("writing")?,
        })
    }
}

impl Document for LeaseRecord {
    const LABEL: Label = Label::LEASE_RECORD;
    const MAX_BYTES: usize = 4 * 1024;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{
        hash::Hash,
        ids::{DatasetName, DatasetVersion},
    };

    #[test]
    fn a_record_reads_back_in_every_state_and_no_cut_of_it_does() {
        let name = |text: String| AgentName::new(&text).unwrap();
        let ends = [
            LeaseEnd::Expired,
            LeaseEnd::Stopped { official: OfficialName::new("anna").unwrap() },
            LeaseEnd::Spent,
            LeaseEnd::Silent,
            LeaseEnd::Restarted,
            LeaseEnd::ShutDown,
            LeaseEnd::NotAllowed,
            LeaseEnd::Fault,
            LeaseEnd::Late,
        ];
        let states = ends.into_iter().map(LeaseState::Ended).chain([LeaseState::Live, LeaseState::Suspended]);
        for state in states {
            let record = LeaseRecord {
                ceremony: CeremonyId(Hash([3; 32])),
                datasets: (0..MAX_POINTS)
                    .map(|at| DatasetAt {
                        dataset: DatasetName::new(&format!("{}{at}", "x".repeat(62))).unwrap(),
                        version: DatasetVersion::FIRST,
                    })
                    .collect(),
                terms: LeaseTerms {
                    agents: (0..MAX_AGENTS).map(|at| name(format!("{}{at:02}", "a".repeat(61)))).collect(),
                    duration_seconds: 3600,
                    unwraps: u64::MAX,
                },
                began_at: UnixTime(1),
                state,
                used: 4,
                at_most: 5,
                writing: 6,
            };
            let bytes = record.encode();
            assert_eq!(LeaseRecord::decode(&bytes).unwrap(), record, "the longest fits");
            assert!((0..bytes.len()).all(|end| LeaseRecord::decode(&bytes[..end]).is_err()));
        }
    }
}
