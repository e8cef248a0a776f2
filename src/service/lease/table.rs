//! One lease as a state machine: it begins with the token of an opening, serves while a witness can be heard, and ends once.
//!
//! Pure but for the arena: time, freshness and what became durable are arguments. Whatever takes access away takes effect at
//! once and is written down after ([`Lease::notes`]); whatever gives access (beginning, a block of unwraps, reviving) is made
//! durable by the caller before it takes effect here. protocol.md §17.

use std::{sync::Arc, time::Duration};

use crate::{
    protocol::{
        certificate::UnixTime,
        gathering::Opened,
        hash::Hash,
        ids::{AgentName, CeremonyId, DatasetName, OfficialName},
        lease::{LeaseEnd, LeaseRecord, LeaseState},
        notice::Stop,
        statement::{DatasetAt, LeaseTerms, Mode, Statement},
    },
    service::{
        arena::{Arena, ArenaError, Kept},
        lease::{
            account::{Account, Plan, Spent, User},
            beats::Pulse,
            clock::BootTime,
            once::{Once, Requests, Seen},
        },
    },
};

/// Why no lease begins. The seeds that were handed in are wiped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The charter allows no leases at this embassy.
    #[error(
        "the charter allows no leases at this embassy, whose hardware is of class {class}. Open a release, or amend the charter"
    )]
    NotAllowed {
        /// The class.
        class: String,
    },
    /// What was opened was not opened for a lease.
    #[error("this was opened for a release to {recipient}, not for a lease")]
    NotALease {
        /// For whom.
        recipient: String,
    },
    /// The openings are not those of one statement, all of them.
    #[error("a lease takes every dataset that its statement names, and no other")]
    Datasets,
    /// There is or was a lease of this ceremony, and a second would be more than was agreed to.
    #[error("ceremony {ceremony} has had its lease, which {state}. Open a new ceremony")]
    Had {
        /// Which ceremony.
        ceremony: CeremonyId,
        /// What became of it.
        state: LeaseState,
    },
    /// No room, or no memory.
    #[error(transparent)]
    Arena(#[from] ArenaError),
}

/// Why nothing is unwrapped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnwrapRefusal {
    /// No such lease since this embassy was started.
    #[error("there is no lease {ceremony}")]
    NoSuchLease {
        /// The id.
        ceremony: CeremonyId,
    },
    /// Not for this agent.
    #[error("lease {ceremony} is for {agents}, not for {agent}")]
    NotForYou {
        /// Which lease.
        ceremony: CeremonyId,
        /// For whom it is.
        agents: String,
        /// Who asked.
        agent: AgentName,
    },
    /// Not this dataset.
    #[error("lease {ceremony} is for {datasets}, not for {dataset}")]
    OtherDataset {
        /// Which lease.
        ceremony: CeremonyId,
        /// What it is for.
        datasets: String,
        /// What was asked for.
        dataset: DatasetName,
    },
    /// No witness was heard for an interval.
    #[error("the lease is suspended until a witness is heard again; the witnesses, or whoever runs the line, can act")]
    Suspended,
    /// It is over.
    #[error("the lease has ended: {why}. The officials can open another")]
    Ended {
        /// Why.
        why: LeaseEnd,
    },
    /// The agent's key for this request was another request's.
    #[error("another request came under this Idempotency-Key before; nothing was unwrapped, and nothing drawn")]
    KeyReused,
    /// More than is left.
    #[error("{0}. Ask for fewer, or have the officials open another lease")]
    Spent(#[from] Spent),
}

/// Something that happened to a lease and belongs into the roll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It serves from now on.
    Begun {
        /// The offer that was opened.
        offer: Hash,
        /// Who agreed.
        officials: Vec<OfficialName>,
    },
    /// An official ordered that it stop.
    Stopped {
        /// As signed.
        stop: Stop,
    },
    /// It does not serve until a witness is heard.
    Suspended,
    /// It serves again.
    Revived,
    /// It is over, with so many unwraps made.
    Ended {
        /// Why.
        why: LeaseEnd,
        /// How many.
        unwraps: u64,
    },
    /// So many unwraps may be made.
    Reserved {
        /// By whom, of what.
        user: User,
        /// How many.
        count: u64,
    },
    /// So many were made of those reserved before, and no more will be.
    Used {
        /// By whom, of what.
        user: User,
        /// How many.
        count: u64,
    },
}

/// The notes that a plan of the account makes.
pub(super) fn notes_of(plan: &Plan) -> Vec<Note> {
    let closed = plan.closed.iter().map(|(user, count)| Note::Used { user: user.clone(), count: *count });
    let opened = plan.opened.iter().map(|(user, count)| Note::Reserved { user: user.clone(), count: *count });
    closed.chain(opened).collect()
}

struct Leased {
    at: DatasetAt,
    key: Arc<Kept>,
}

/// What a lease lets its agent do at this moment.
pub enum Admission {
    /// Unwrap with this key, so many as were asked for.
    Drawn(Arc<Kept>),
    /// First have more of the budget made durable.
    Reserve(User, u64),
    /// A plan is being made durable; ask again after.
    Wait,
}

/// One lease.
pub struct Lease {
    ceremony: CeremonyId,
    statement: Option<Statement>,
    keys: Vec<Leased>,
    datasets: Vec<DatasetAt>,
    terms: LeaseTerms,
    began_at: UnixTime,
    began: BootTime,
    ends: BootTime,
    account: Account,
    state: LeaseState,
    notes: Vec<Note>,
    writing: u64,
    /// A plan is being made durable: until that is known, nothing is drawn and nothing settled.
    in_flight: bool,
    /// Settled for the last time.
    closed: bool,
    /// What was admitted, so that a repeat draws nothing.
    requests: Requests,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({}, {})", self.ceremony, self.state)
    }
}

/// What an opening has to show before it becomes a lease.
pub struct Beginning {
    /// By the boot's clock.
    pub now: BootTime,
    /// By the wall clock.
    pub at: UnixTime,
    /// Unwraps that a lease of the same ceremony may have made before the embassy was started anew.
    pub lost: u64,
    /// Of its record, when there was one.
    pub writing: u64,
    /// Whether a witness is heard.
    pub pulse: Pulse,
}

impl Lease {
    /// Takes the openings of one statement, all of them, and the terms from that statement. The first note is that it began:
    /// make it durable before anyone is served.
    ///
    /// # Errors
    /// [`InstallError`]; every seed is wiped then.
    pub fn begin(opened: Vec<Opened>, arena: &Arc<Arena>, beginning: &Beginning) -> Result<Self, InstallError> {
        let first = opened.first().ok_or(InstallError::Datasets)?;
        let (statement, offer, officials) = (first.statement().clone(), *first.offer(), first.officials().to_vec());
        let terms = match statement.mode() {
            Mode::Lease(terms) => terms.clone(),
            Mode::Release { recipient } => {
                return Err(InstallError::NotALease { recipient: recipient.unverified_name().to_string() });
            }
            // Nothing is opened by one.
            Mode::Adoption(_) => return Err(InstallError::Datasets),
        };
        let named = statement.datasets().iter().map(|at| (&at.dataset, at.version));
        let these = opened.iter().map(|opened| (&opened.dataset().dataset, opened.dataset().version));
        let one = opened.iter().all(|opened| *opened.statement() == statement && *opened.offer() == offer);
        if !one || !named.eq(these) {
            return Err(InstallError::Datasets);
        }
        let mut keys = Vec::with_capacity(opened.len());
        for (opened, at) in opened.into_iter().zip(statement.datasets()) {
            keys.push(Leased { at: at.clone(), key: Arc::new(arena.keep(opened.into_seed())?) });
        }
        let lasts = Duration::from_secs(terms.duration_seconds.into());
        let (state, suspended) = match beginning.pulse {
            Pulse::Fresh => (LeaseState::Live, None),
            Pulse::Late | Pulse::Gone => (LeaseState::Suspended, Some(Note::Suspended)),
        };
        Ok(Self {
            ceremony: statement.id(),
            datasets: statement.datasets().to_vec(),
            keys,
            account: Account::new(terms.unwraps, beginning.lost),
            terms,
            began_at: beginning.at,
            began: beginning.now,
            ends: beginning.now.plus(lasts),
            state,
            notes: std::iter::once(Note::Begun { offer, officials }).chain(suspended).collect(),
            writing: beginning.writing,
            statement: Some(statement),
            in_flight: false,
            closed: false,
            requests: Requests::default(),
        })
    }

    /// A lease of an earlier process, from its record: it has no keys, and [ends](Self::end) where it had not ended.
    pub fn over(record: LeaseRecord) -> Self {
        let LeaseRecord { ceremony, datasets, terms, began_at, state, at_most, writing, .. } = record;
        let closed = matches!(state, LeaseState::Ended(_));
        Self {
            ceremony,
            statement: None,
            keys: Vec::new(),
            datasets,
            account: Account::new(terms.unwraps, at_most),
            terms,
            began_at,
            began: BootTime::default(),
            ends: BootTime::default(),
            state,
            notes: Vec::new(),
            writing,
            in_flight: false,
            closed,
            requests: Requests::default(),
        }
    }

    /// Its name: the ceremony's.
    pub const fn ceremony(&self) -> CeremonyId {
        self.ceremony
    }

    /// What was agreed to; `None` for a lease of an earlier process.
    pub const fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }

    /// Which keys.
    pub fn datasets(&self) -> &[DatasetAt] {
        &self.datasets
    }

    /// For whom, how long, how often.
    pub const fn terms(&self) -> &LeaseTerms {
        &self.terms
    }

    /// When it began, by the wall clock.
    pub const fn began_at(&self) -> UnixTime {
        self.began_at
    }

    /// Whether it serves.
    pub const fn state(&self) -> &LeaseState {
        &self.state
    }

    /// How long it lasts yet, unless something ends it before.
    pub const fn left(&self, now: BootTime) -> Duration {
        match self.state {
            LeaseState::Ended(_) => Duration::ZERO,
            LeaseState::Live | LeaseState::Suspended => self.ends.since(now),
        }
    }

    /// When it began, by the boot's clock.
    pub const fn began(&self) -> BootTime {
        self.began
    }

    /// Its budget.
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// Looks at the clock and the pulse; ends or suspends where it must. `true` where it may serve again once that is durable.
    pub fn look(&mut self, pulse: Pulse, now: BootTime) -> bool {
        match (&self.state, pulse) {
            (LeaseState::Ended(_), _) => return false,
            _ if now >= self.ends => self.end(LeaseEnd::Expired),
            (_, Pulse::Gone) => self.end(LeaseEnd::Silent),
            (LeaseState::Live, Pulse::Late) => {
                self.state = LeaseState::Suspended;
                self.notes.push(Note::Suspended);
            }
            (LeaseState::Suspended, Pulse::Fresh) => return true,
            (LeaseState::Live, Pulse::Fresh) | (LeaseState::Suspended, Pulse::Late) => {}
        }
        false
    }

    /// Ends it: the keys are wiped before this returns. Once.
    pub fn end(&mut self, why: LeaseEnd) {
        if matches!(self.state, LeaseState::Ended(_)) {
            return;
        }
        for leased in self.keys.drain(..) {
            // Others may hold it for the unwrap that they are in; it is gone for them too.
            leased.key.wipe();
        }
        self.state = LeaseState::Ended(why);
        self.close();
    }

    /// Ends it by an official's order, whose signature the caller has checked.
    pub fn stop(&mut self, stop: Stop) {
        if !matches!(self.state, LeaseState::Ended(_)) {
            let official = stop.unverified_official().clone();
            self.notes.push(Note::Stopped { stop });
            self.end(LeaseEnd::Stopped { official });
        }
    }

    /// Settles for the last time, once no plan is on its way.
    fn close(&mut self) {
        let LeaseState::Ended(why) = &self.state else { return };
        if self.in_flight || self.closed {
            return;
        }
        let (why, plan) = (why.clone(), self.account.settle());
        self.notes.extend(notes_of(&plan));
        self.account.apply(&plan);
        self.notes.push(Note::Ended { why, unwraps: self.account.used() });
        self.closed = true;
    }

    /// Lets an agent unwrap, where the lease serves at this moment: look first. A repeat of what was admitted draws nothing.
    ///
    /// # Errors
    /// [`UnwrapRefusal`].
    pub fn admit(
        &mut self,
        agent: &AgentName,
        dataset: &DatasetName,
        count: u64,
        once: Option<&Once>,
    ) -> Result<Admission, UnwrapRefusal> {
        let ceremony = self.ceremony;
        if !self.terms.agents.contains(agent) {
            let agents = self.terms.agents.iter().map(AgentName::as_str).collect::<Vec<_>>().join(", ");
            return Err(UnwrapRefusal::NotForYou { ceremony, agents, agent: agent.clone() });
        }
        if !self.datasets.iter().any(|at| at.dataset == *dataset) {
            let datasets = self.datasets.iter().map(|at| at.dataset.as_str()).collect::<Vec<_>>().join(", ");
            return Err(UnwrapRefusal::OtherDataset { ceremony, datasets, dataset: dataset.clone() });
        }
        match &self.state {
            LeaseState::Live => {}
            LeaseState::Suspended => return Err(UnwrapRefusal::Suspended),
            LeaseState::Ended(why) => return Err(UnwrapRefusal::Ended { why: why.clone() }),
        }
        let key = self.keys.iter().find(|leased| leased.at.dataset == *dataset).map(|leased| Arc::clone(&leased.key));
        let key = key.ok_or(UnwrapRefusal::Ended { why: LeaseEnd::Fault })?;
        match once.map_or(Seen::New, |once| self.requests.look(once)) {
            Seen::New => {}
            Seen::Repeated => return Ok(Admission::Drawn(key)),
            Seen::Reused => return Err(UnwrapRefusal::KeyReused),
        }
        if self.in_flight {
            return Ok(Admission::Wait);
        }
        let user = User { dataset: dataset.clone(), agent: agent.clone() };
        if self.account.draw(&user, count) {
            once.into_iter().for_each(|once| self.requests.note(*once));
            return Ok(Admission::Drawn(key));
        }
        self.account.plan(&user, count)?;
        Ok(Admission::Reserve(user, count))
    }

    /// The key of a dataset while the lease lives, to look at its public half.
    pub fn key(&self, dataset: &DatasetName) -> Option<&Arc<Kept>> {
        self.keys.iter().find(|leased| leased.at.dataset == *dataset).map(|leased| &leased.key)
    }

    /// Ends it where nothing of the budget is left.
    pub fn end_if_spent(&mut self) {
        if self.account.used() >= self.account.budget() {
            self.end(LeaseEnd::Spent);
        }
    }

    /// What to make durable now: what happened, and what is to change with it. Until [`Lease::written`] or
    /// [`Lease::not_written`], nothing is drawn.
    ///
    /// # Errors
    /// [`Spent`] where so many cannot be reserved; nothing is to be written then.
    pub fn write(&mut self, change: &Change) -> Result<Writing, Spent> {
        let plan = match change {
            Change::Nothing | Change::Revive => None,
            Change::Reserve(user, count) => Some(self.account.plan(user, *count)?),
            Change::Settle => Some(self.account.settle()),
        };
        self.in_flight = true;
        let revive = *change == Change::Revive && self.state == LeaseState::Suspended;
        let account = plan.as_ref().map_or_else(|| self.account.clone(), |plan| self.account.after(plan));
        let record = LeaseRecord {
            ceremony: self.ceremony,
            datasets: self.datasets.clone(),
            terms: self.terms.clone(),
            began_at: self.began_at,
            state: if revive { LeaseState::Live } else { self.state.clone() },
            used: account.used(),
            at_most: account.at_most(),
            writing: self.writing.saturating_add(1),
        };
        let planned = plan.iter().flat_map(notes_of);
        let notes = self.notes.iter().cloned().chain(planned).chain(revive.then_some(Note::Revived)).collect();
        Ok(Writing { record, notes, happened: self.notes.len(), plan, revive, expected: self.writing })
    }

    /// It is durable.
    pub fn written(&mut self, writing: &Writing) {
        self.notes.drain(..writing.happened.min(self.notes.len()));
        self.writing = writing.record.writing;
        if let Some(plan) = &writing.plan {
            self.account.apply(plan);
        }
        if writing.revive && self.state == LeaseState::Suspended {
            self.state = LeaseState::Live;
        }
        self.not_written();
    }

    /// It is not durable, and nothing of it has happened.
    pub fn not_written(&mut self) {
        self.in_flight = false;
        self.close();
    }

    /// Whether something happened that is not durable yet.
    pub fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }
}

/// What changes with the writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it says what happened.
    Nothing,
    /// A suspended lease serves again.
    Revive,
    /// More of the budget is reserved.
    Reserve(User, u64),
    /// Every block is closed.
    Settle,
}

/// What becomes durable in one commit.
#[derive(Clone, Debug)]
pub struct Writing {
    /// The lease's record.
    pub record: LeaseRecord,
    /// What goes into the roll, in order.
    pub notes: Vec<Note>,
    /// How often the record was written before: its version in the store, 0 for none.
    pub expected: u64,
    happened: usize,
    plan: Option<Plan>,
    revive: bool,
}
