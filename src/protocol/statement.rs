//! The statement: what officials agree to, in words, as one of them opened it (protocol.md §10.2).
//!
//! It is the only thing that people judge; everything technical follows in the offer and is checked by machines. Its hash
//! names the ceremony, and is read aloud as ten words: whoever hears the same ten looks at the same statement.

use p256::ecdsa::Signature;

use crate::protocol::{
    certificate::UnixTime,
    facts::CustodyFacts,
    hash::Hash,
    ids::{
        AgentName, CeremonyId, CharterAt, CharterId, DatasetName, DatasetVersion, EmbassyName, Generation, OfficialName,
    },
    label::Label,
    partial::MAX_POINTS,
    quorum::Threshold,
    recipient::RecipientCard,
    signer::{DigestSigner, SignError, low, read_signature, signed_by},
    wire::{Document, Reader, Wire, WireError, Writer},
    words::Words,
};

pub use crate::protocol::paragraph::Purpose;

/// The most agents of one lease.
pub const MAX_AGENTS: usize = 16;
/// The longest lease, in seconds: 31 days. Who needs more opens another one.
pub const LEASE_SECONDS_MAX: u32 = 31 * 24 * 60 * 60;
/// The longest time from opening to expiry, in seconds: 31 days.
pub const CEREMONY_SECONDS_MAX: i64 = 31 * 24 * 60 * 60;
/// How far an opener's clock may be ahead of a reader's, in seconds.
pub const CLOCK_SKEW_SECONDS: i64 = 300;

/// Why a statement cannot be made, or is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// No dataset, or too many.
    #[error("{found} datasets; a ceremony opens 1 to {MAX_POINTS}")]
    Datasets {
        /// How many.
        found: usize,
    },
    /// Datasets where a charter is adopted.
    #[error("{found} datasets; a ceremony that adopts a charter opens none. Open another one for them")]
    DatasetsAdopted {
        /// How many.
        found: usize,
    },
    /// What would be adopted is pinned.
    #[error("it adopts charter {charter}, and says that this is the one that is pinned: there is nothing to adopt")]
    PinnedAlready {
        /// Which.
        charter: CharterAt,
    },
    /// One dataset stands twice.
    #[error("dataset {dataset} is named twice")]
    DatasetTwice {
        /// Which.
        dataset: DatasetName,
    },
    /// No agent, or too many.
    #[error("{found} agents; a lease serves 1 to {MAX_AGENTS}")]
    Agents {
        /// How many.
        found: usize,
    },
    /// One agent stands twice.
    #[error("agent {agent} is named twice")]
    AgentTwice {
        /// Which.
        agent: AgentName,
    },
    /// A lease of no or too long a time.
    #[error("a lease lasts 1 s to {LEASE_SECONDS_MAX} s, not {found}")]
    Duration {
        /// Seconds.
        found: u32,
    },
    /// A lease of nothing.
    #[error("a lease that unwraps nothing serves nobody")]
    Unwraps,
    /// It expires before it opens, or too late.
    #[error("a ceremony lasts 1 s to {CEREMONY_SECONDS_MAX} s; from {opened_at} to {expires_at} it would not")]
    Times {
        /// From.
        opened_at: UnixTime,
        /// Until.
        expires_at: UnixTime,
    },
    /// The opener is not of this charter.
    #[error("{official}, who is said to have opened it, is no official of this charter")]
    Stranger {
        /// The name.
        official: OfficialName,
    },
    /// The opener's identity key did not sign it.
    #[error("it is not signed by {official}, who is said to have opened it")]
    Signature {
        /// The name.
        official: OfficialName,
    },
    /// It is over.
    #[error("it expired at {at}; open a new ceremony")]
    Expired {
        /// When.
        at: UnixTime,
    },
    /// It is of the future.
    #[error("it was opened at {at}, which has not come yet; compare the clocks")]
    NotYet {
        /// When.
        at: UnixTime,
    },
}

/// A dataset at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetAt {
    /// Which dataset.
    pub dataset: DatasetName,
    /// Which version of its key.
    pub version: DatasetVersion,
}

impl Wire for DatasetAt {
    fn write(&self, out: &mut Writer) {
        out.value(&self.dataset).value(&self.version);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { dataset: input.value()?, version: input.value()? })
    }
}

/// For whom, for how long and how often a lease unwraps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// Who may unwrap: 1 to 16, each once.
    pub agents: Vec<AgentName>,
    /// From the moment that the lease begins, in seconds.
    pub duration_seconds: u32,
    /// How many unwraps, over all agents and datasets.
    pub unwraps: u64,
}

impl LeaseTerms {
    fn check(&self) -> Result<(), StatementError> {
        if self.agents.is_empty() || self.agents.len() > MAX_AGENTS {
            return Err(StatementError::Agents { found: self.agents.len() });
        }
        for (index, agent) in self.agents.iter().enumerate() {
            if self.agents.iter().take(index).any(|earlier| earlier == agent) {
                return Err(StatementError::AgentTwice { agent: agent.clone() });
            }
        }
        if self.duration_seconds == 0 || self.duration_seconds > LEASE_SECONDS_MAX {
            return Err(StatementError::Duration { found: self.duration_seconds });
        }
        if self.unwraps == 0 { Err(StatementError::Unwraps) } else { Ok(()) }
    }
}

/// The charter that the embassy's TPM is to be told of, and the one that it was told of last: what changes between the two is
/// what officials agree to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// The charter in force, whose hash goes into the charter pin.
    pub charter: CharterAt,
    /// What the pin holds when the ceremony is opened: the hash of an earlier charter.
    pub pinned: Hash,
}

/// What a ceremony does: what becomes of the datasets' seeds, or which charter is adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They stay in the embassy's memory, for these agents, this long, this many unwraps.
    Lease(LeaseTerms),
    /// They go to one recipient; the embassy never has them.
    Release {
        /// Who, with the key that everything is sealed to.
        recipient: Box<RecipientCard>,
    },
    /// Nothing is opened; the TPM's charter pin is moved to the charter in force.
    Adoption(Adoption),
}

impl Mode {
    /// The recipient's card of a release.
    pub fn recipient(&self) -> Option<&RecipientCard> {
        match self {
            Self::Lease(_) | Self::Adoption(_) => None,
            Self::Release { recipient } => Some(recipient),
        }
    }

    /// What is adopted; nothing where datasets are opened.
    pub const fn adoption(&self) -> Option<&Adoption> {
        match self {
            Self::Lease(_) | Self::Release { .. } => None,
            Self::Adoption(adoption) => Some(adoption),
        }
    }

    /// How many of the unseal quorum's officials it takes.
    pub fn threshold(&self, facts: &CustodyFacts) -> Threshold {
        match self {
            Self::Lease(_) | Self::Release { .. } => facts.unseal().key.threshold(),
            Self::Adoption(_) => facts.amend(),
        }
    }
}

impl Wire for Mode {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Lease(LeaseTerms { agents, duration_seconds, unwraps }) => {
                out.u8(1).list(agents).u32(*duration_seconds).u64(*unwraps)
            }
            Self::Release { recipient } => out.u8(2).value(recipient.as_ref()),
            Self::Adoption(Adoption { charter, pinned }) => out.u8(3).value(charter).value(pinned),
        };
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        match input.u8("mode")? {
            1 => Ok(Self::Lease(LeaseTerms {
                agents: input.list(MAX_AGENTS, "agents")?,
                duration_seconds: input.u32("duration")?,
                unwraps: input.u64("unwraps")?,
            })),
            2 => Ok(Self::Release { recipient: Box::new(input.value()?) }),
            3 => Ok(Self::Adoption(Adoption { charter: input.value()?, pinned: input.value()? })),
            _ => Err(WireError::Invalid { field: "mode", reason: "neither lease (1), release (2) nor adoption (3)" }),
        }
    }
}

/// How often the embassy's TPM has been reset and restarted, by its own count. Each rise since the quorum's last statement
/// is shown, and acknowledged in the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resets {
    /// resetCount.
    pub reset_count: u32,
    /// restartCount.
    pub restart_count: u32,
}

impl std::fmt::Display for Resets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} resets, {} restarts", self.reset_count, self.restart_count)
    }
}

impl Wire for Resets {
    fn write(&self, out: &mut Writer) {
        out.u32(self.reset_count).u32(self.restart_count);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { reset_count: input.u32("reset count")?, restart_count: input.u32("restart count")? })
    }
}

/// What [`Statement::new`] checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementParts {
    /// The network.
    pub charter: CharterId,
    /// The embassy that is to open.
    pub embassy: EmbassyName,
    /// The generation of custody.
    pub generation: Generation,
    /// What for.
    pub purpose: Purpose,
    /// Which datasets, in the order of the offer's openings: 1 to 8, each once; none where a charter is adopted.
    pub datasets: Vec<DatasetAt>,
    /// What becomes of them, or what is adopted.
    pub mode: Mode,
    /// Who opened it.
    pub opener: OfficialName,
    /// When, by the opener's clock.
    pub opened_at: UnixTime,
    /// When it ends, whatever was reached.
    pub expires_at: UnixTime,
    /// What the TPM counted when it was opened.
    pub acknowledged: Resets,
    /// Drawn by the opener: two ceremonies for one purpose have two names.
    pub nonce: [u8; 16],
}

/// What officials agree to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement(StatementParts);

impl Statement {
    /// # Errors
    /// [`StatementError`] where it names nothing, too much, something twice, or a time that is none.
    pub fn new(parts: StatementParts) -> Result<Self, StatementError> {
        let found = parts.datasets.len();
        match &parts.mode {
            Mode::Adoption(_) if found != 0 => return Err(StatementError::DatasetsAdopted { found }),
            Mode::Adoption(Adoption { charter, pinned }) if charter.hash == *pinned => {
                return Err(StatementError::PinnedAlready { charter: *charter });
            }
            Mode::Lease(_) | Mode::Release { .. } if found == 0 || found > MAX_POINTS => {
                return Err(StatementError::Datasets { found });
            }
            _ => {}
        }
        for (index, at) in parts.datasets.iter().enumerate() {
            if parts.datasets.iter().take(index).any(|earlier| earlier.dataset == at.dataset) {
                return Err(StatementError::DatasetTwice { dataset: at.dataset.clone() });
            }
        }
        if let Mode::Lease(terms) = &parts.mode {
            terms.check()?;
        }
        let StatementParts { opened_at, expires_at, .. } = parts;
        match expires_at.0.checked_sub(opened_at.0) {
            Some(1..=CEREMONY_SECONDS_MAX) => Ok(Self(parts)),
            _ => Err(StatementError::Times { opened_at, expires_at }),
        }
    }

    /// Everything it says.
    pub const fn parts(&self) -> &StatementParts {
        &self.0
    }

    /// The network.
    pub const fn charter(&self) -> CharterId {
        self.0.charter
    }

    /// The embassy that is to open.
    pub const fn embassy(&self) -> &EmbassyName {
        &self.0.embassy
    }

    /// The generation of custody.
    pub const fn generation(&self) -> Generation {
        self.0.generation
    }

    /// What for.
    pub const fn purpose(&self) -> &Purpose {
        &self.0.purpose
    }

    /// Which datasets, in the order of the offer's openings.
    pub fn datasets(&self) -> &[DatasetAt] {
        &self.0.datasets
    }

    /// What becomes of them, or what is adopted.
    pub const fn mode(&self) -> &Mode {
        &self.0.mode
    }

    /// Who opened it.
    pub const fn opener(&self) -> &OfficialName {
        &self.0.opener
    }

    /// When it ends, whatever was reached.
    pub const fn expires_at(&self) -> UnixTime {
        self.0.expires_at
    }

    /// Names the ceremony: SHA-256 of the statement's bytes.
    pub fn id(&self) -> CeremonyId {
        CeremonyId(Hash::of_bytes(&self.encode()))
    }

    /// The id as words to read aloud.
    pub fn words(&self) -> Words {
        Words::of(&self.id().0)
    }

    /// Whether it may be acted on now.
    ///
    /// # Errors
    /// [`StatementError::Expired`], [`StatementError::NotYet`].
    pub fn check_time(&self, now: UnixTime) -> Result<(), StatementError> {
        let StatementParts { opened_at, expires_at, .. } = self.0;
        if now >= expires_at {
            return Err(StatementError::Expired { at: expires_at });
        }
        if opened_at.0 > now.0.saturating_add(CLOCK_SKEW_SECONDS) {
            return Err(StatementError::NotYet { at: opened_at });
        }
        Ok(())
    }
}

impl Wire for Statement {
    fn write(&self, out: &mut Writer) {
        let StatementParts { charter, embassy, generation, purpose, datasets, mode, .. } = &self.0;
        out.value(charter).value(embassy).value(generation).value(purpose).list(datasets).value(mode);
        let StatementParts { opener, opened_at, expires_at, acknowledged, nonce, .. } = &self.0;
        out.value(opener).value(opened_at).value(expires_at).value(acknowledged).raw(nonce);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let parts = StatementParts {
            charter: input.value()?,
            embassy: input.value()?,
            generation: input.value()?,
            purpose: input.value()?,
            datasets: input.list(MAX_POINTS, "datasets")?,
            mode: input.value()?,
            opener: input.value()?,
            opened_at: input.value()?,
            expires_at: input.value()?,
            acknowledged: input.value()?,
            nonce: input.array("nonce")?,
        };
        Self::new(parts).map_err(|_| WireError::Invalid { field: "statement", reason: "it contradicts itself" })
    }
}

impl Document for Statement {
    const LABEL: Label = Label::STATEMENT;
    // A recipient's card has up to 10 KiB; the rest, 3.
    const MAX_BYTES: usize = RecipientCard::MAX_BYTES + 3 * 1024;
}

/// A statement with its opener's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedStatement {
    statement: Statement,
    signature: Signature,
}

impl SignedStatement {
    /// Signs with the opener's identity key.
    ///
    /// # Errors
    /// [`SignError`] where the key does not sign.
    pub fn sign(statement: Statement, opener: &dyn DigestSigner) -> Result<Self, SignError> {
        let signature = low(opener.sign_digest(&signed_digest(&statement))?);
        Ok(Self { statement, signature })
    }

    /// The statement, once its opener is known to have signed it: an official of either quorum.
    ///
    /// # Errors
    /// [`StatementError::Stranger`], [`StatementError::Signature`].
    pub fn verify(&self, facts: &CustodyFacts) -> Result<&Statement, StatementError> {
        let official = self.statement.opener();
        let known = facts.official(official).ok_or_else(|| StatementError::Stranger { official: official.clone() })?;
        if signed_by(&known.identity, &signed_digest(&self.statement), &self.signature) {
            Ok(&self.statement)
        } else {
            Err(StatementError::Signature { official: official.clone() })
        }
    }

    /// The statement, unchecked: for showing, never for acting.
    pub const fn unverified(&self) -> &Statement {
        &self.statement
    }
}

fn signed_digest(statement: &Statement) -> Hash {
    Hash::of(Label::STATEMENT_SIGNATURE, |out| {
        out.value(&statement.id().0);
    })
}

impl Wire for SignedStatement {
    fn write(&self, out: &mut Writer) {
        out.value(&self.statement).raw(&self.signature.to_bytes());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { statement: input.value()?, signature: read_signature(input)? })
    }
}

impl Document for SignedStatement {
    const LABEL: Label = Label::SIGNED_STATEMENT;
    const MAX_BYTES: usize = Statement::MAX_BYTES + 128;
}

mod show;
#[cfg(test)]
mod tests;
