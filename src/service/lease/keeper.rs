//! The leases of an embassy: the state machines of `table.rs` with a clock, a store and the arena around them.
//!
//! One commit at a time changes what is durable of leases; it goes on where the request that caused it is dropped. The
//! common case, an unwrap out of a block that is reserved already, waits for nobody. Whatever takes access away takes effect
//! first and is written then, as often as it takes. protocol.md §17.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand_core::{OsRng, RngCore};

use crate::{
    protocol::{
        beat::{Beat, BeatNonce, BeatRequest},
        certificate::UnixTime,
        dataset::{FileKey, StanzaError, TaggedStanza},
        facts::CustodyFacts,
        gathering::Opened,
        ids::{AgentName, CeremonyId, DatasetName, EmbassyName, WitnessName},
        lease::{LeaseEnd, LeaseRecord, LeaseState},
        notice::Stop,
        wire::Document,
    },
    service::{
        arena::{Arena, Kept},
        lease::{
            beats::{Beats, LastBeat},
            clock::{BootTime, Later},
            entries,
            error::{LeaseError, MAX_STANZAS},
            once::Once,
            rules::{LeaseRules, Rules},
            table::{Admission, Beginning, Change, InstallError, Lease, UnwrapRefusal, Writing},
            unwrap,
        },
        trust::Clock,
    },
    store::{Batch, Key, Kind, Put, Store, StoreError},
};

/// Up to so many are unwrapped where the request is served; more, on a thread of their own.
const AT_ONCE: usize = 8;
/// How often the clock is looked at where nobody asks.
pub(super) const TICK: Duration = Duration::from_millis(500);
/// How often the TPM's clock is looked at while a lease stands.
pub const COMPARE: Duration = Duration::from_secs(60);
/// How long the roll may not know exactly what was used.
const SETTLE: Duration = Duration::from_secs(60);
/// How many leases that are over are kept for showing.
const SHOWN: usize = 256;

/// What became of one stanza.
#[derive(Debug)]
pub enum Answer {
    /// Its file key.
    Key(FileKey),
    /// It is for another recipient. Not counted.
    NotForThisDataset,
    /// It does not open. Counted: the key was used on it.
    Refused(StanzaError),
}

/// What leases are made of.
pub struct Parts {
    /// This embassy.
    pub embassy: EmbassyName,
    /// Where the keys lie.
    pub arena: Arc<Arena>,
    /// What outlives the process.
    pub store: Arc<dyn Store>,
    /// What they live by.
    pub clock: Later,
    /// What people read.
    pub wall_clock: Clock,
    /// The charter's rules.
    pub rules: Rules,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parts({}, {:?})", self.embassy, self.arena)
    }
}

#[derive(Default)]
struct Inside {
    leases: BTreeMap<CeremonyId, Lease>,
    beats: Beats,
    settled: BootTime,
    /// Writings of which it is not known whether they are durable.
    unknown: BTreeMap<CeremonyId, Writing>,
}

/// Every lease of this embassy, and the beats they live on.
pub struct Leases {
    pub(super) parts: Parts,
    inside: Mutex<Inside>,
    writing: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Leases({:?})", self.parts)
    }
}

impl Leases {
    /// Begins where an earlier process ended: every lease that it had is over, with at most the unwraps that were reserved.
    ///
    /// # Errors
    /// [`LeaseError::Store`] and [`LeaseError::Record`].
    pub async fn open(parts: Parts) -> Result<Arc<Self>, LeaseError> {
        let mut inside = Inside { settled: parts.clock.now(), ..Inside::default() };
        let mut after: Option<String> = None;
        loop {
            let some = parts.store.list(Kind::Lease, after.as_deref(), crate::store::MAX_ROWS).await?;
            let Some((last, _)) = some.last() else { break };
            after = Some(last.clone());
            for (id, stored) in some {
                let record = LeaseRecord::decode(&stored.bytes).map_err(|error| LeaseError::Record { id, error })?;
                let mut lease = Lease::over(LeaseRecord { writing: stored.version, ..record });
                lease.end(LeaseEnd::Restarted);
                inside.leases.insert(lease.ceremony(), lease);
            }
        }
        let leases = Arc::new(Self { parts, inside: Mutex::new(inside), writing: tokio::sync::Mutex::default() });
        leases.flush().await?;
        leases.forget();
        Ok(leases)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> BootTime {
        self.parts.clock.now()
    }

    fn rules(&self) -> Result<Arc<LeaseRules>, LeaseError> {
        (self.parts.rules)().ok_or(LeaseError::NoRules)
    }

    /// How the keys' memory is protected.
    pub fn arena(&self) -> &Arc<Arena> {
        &self.parts.arena
    }

    /// Makes a lease of what was opened, all the datasets of one statement, under that statement's terms. Durable before it
    /// serves; where that fails, the seeds are wiped.
    ///
    /// # Errors
    /// [`LeaseError::Install`] and [`LeaseError::Store`].
    pub async fn install(self: &Arc<Self>, opened: Vec<Opened>) -> Result<CeremonyId, LeaseError> {
        self.apart(|leases| async move {
            let _guard = leases.writing.lock().await;
            let rules = leases.rules()?;
            if !rules.allowed {
                return Err(InstallError::NotAllowed { class: rules.class.to_string() }.into());
            }
            let id = opened.first().map(|opened| opened.statement().id()).ok_or(InstallError::Datasets)?;
            let (now, at) = (leases.now(), (leases.parts.wall_clock)());
            // Also of a lease that is shown no more: its budget is gone for ever.
            let earlier = leases.parts.store.get(&key(id)).await?;
            let (lost, writing) = match earlier {
                None => (0, 0),
                Some(stored) => {
                    let record = LeaseRecord::decode(&stored.bytes)
                        .map_err(|error| LeaseError::Record { id: id.to_string(), error })?;
                    if record.state != LeaseState::Ended(LeaseEnd::Restarted) {
                        return Err(InstallError::Had { ceremony: id, state: record.state }.into());
                    }
                    (record.at_most, stored.version)
                }
            };
            let pulse = leases.inside().beats.pulse(now, rules.beats.heartbeat(), now);
            let mut lease = Lease::begin(opened, &leases.parts.arena, &Beginning { now, at, lost, writing, pulse })?;
            let first = lease.write(&Change::Nothing).map_err(UnwrapRefusal::from)?;
            leases.commit(&first).await.map_err(|(error, _)| error)?;
            lease.written(&first);
            leases.inside().leases.insert(id, lease);
            Ok(id)
        })
        .await
    }

    /// Unwraps for an agent whom home has certified and the caller has recognized.
    ///
    /// # Errors
    /// [`LeaseError::Unwrap`], [`LeaseError::Stanzas`], [`LeaseError::Store`]; no key is given out then.
    pub async fn unwrap(
        self: &Arc<Self>,
        id: CeremonyId,
        agent: &AgentName,
        dataset: &DatasetName,
        stanzas: Vec<TaggedStanza>,
    ) -> Result<Vec<Answer>, LeaseError> {
        self.unwrap_once(id, agent, dataset, stanzas, None).await
    }

    /// The same for a request that can be told from others: a repeat of it is answered again, and draws nothing.
    ///
    /// # Errors
    /// As [`Leases::unwrap`], and [`UnwrapRefusal::KeyReused`].
    pub async fn unwrap_once(
        self: &Arc<Self>,
        id: CeremonyId,
        agent: &AgentName,
        dataset: &DatasetName,
        stanzas: Vec<TaggedStanza>,
        once: Option<Once>,
    ) -> Result<Vec<Answer>, LeaseError> {
        let found = stanzas.len();
        if found == 0 || found > MAX_STANZAS {
            return Err(LeaseError::Stanzas { found });
        }
        let (ours, addressed): (Vec<TaggedStanza>, Vec<bool>) = {
            let inside = self.inside();
            let known = inside.leases.get(&id).and_then(|lease| lease.key(dataset));
            let recipient = known.and_then(|key| key.recipient());
            let is_ours = |stanza: &TaggedStanza| recipient.is_none_or(|recipient| stanza.is_addressed_to(recipient));
            let addressed: Vec<bool> = stanzas.iter().map(is_ours).collect();
            drop(inside);
            (
                stanzas.into_iter().zip(&addressed).filter_map(|(stanza, ours)| ours.then_some(stanza)).collect(),
                addressed,
            )
        };
        let key = self.draw(id, agent, dataset, ours.len() as u64, once).await?;
        let unwrapped = if ours.len() <= AT_ONCE {
            unwrap::unwrap(&key, &ours)
        } else {
            let key = Arc::clone(&key);
            tokio::task::spawn_blocking(move || unwrap::unwrap(&key, &ours)).await.map_err(|_| LeaseError::Fault)?
        };
        drop(key);
        let Ok(unwrapped) = unwrapped else { return Err(self.why_wiped(id).into()) };
        self.after_use(id);
        let mut unwrapped = unwrapped.into_iter();
        Ok(addressed
            .into_iter()
            .map(|ours| match ours.then(|| unwrapped.next()).flatten() {
                Some(Ok(Some(key))) => Answer::Key(key),
                Some(Err(error)) => Answer::Refused(error),
                Some(Ok(None)) | None => Answer::NotForThisDataset,
            })
            .collect())
    }

    /// Takes unwraps out of the budget; has more of it made durable where that is needed.
    async fn draw(
        self: &Arc<Self>,
        id: CeremonyId,
        agent: &AgentName,
        dataset: &DatasetName,
        count: u64,
        once: Option<Once>,
    ) -> Result<Arc<Kept>, LeaseError> {
        if let Admission::Drawn(key) = self.admit(id, agent, dataset, count, once.as_ref())? {
            return Ok(key);
        }
        let (agent, dataset) = (agent.clone(), dataset.clone());
        self.apart(|leases| async move {
            let _guard = leases.writing.lock().await;
            loop {
                match leases.admit(id, &agent, &dataset, count, once.as_ref())? {
                    Admission::Drawn(key) => return Ok(key),
                    // Others draw from what was reserved, and sometimes all of it: then once more.
                    Admission::Reserve(user, count) => leases.write(id, Change::Reserve(user, count)).await?,
                    // Whether an earlier writing is durable is not known yet.
                    Admission::Wait => leases.write(id, Change::Nothing).await?,
                }
            }
        })
        .await
    }

    fn admit(
        &self,
        id: CeremonyId,
        agent: &AgentName,
        dataset: &DatasetName,
        count: u64,
        once: Option<&Once>,
    ) -> Result<Admission, LeaseError> {
        let (now, rules) = (self.now(), self.rules()?);
        let mut inside = self.inside();
        inside.look(id, &rules, now);
        let lease = inside.leases.get_mut(&id).ok_or(UnwrapRefusal::NoSuchLease { ceremony: id })?;
        Ok(lease.admit(agent, dataset, count, once)?)
    }

    /// Why an agent whom the lease names gets nothing under it at this moment; nothing for whom it does not name.
    pub fn why_not(&self, id: CeremonyId, agent: &AgentName) -> Option<UnwrapRefusal> {
        let inside = self.inside();
        let lease = inside.leases.get(&id).filter(|lease| lease.terms().agents.contains(agent))?;
        match lease.state() {
            LeaseState::Live => None,
            LeaseState::Suspended => Some(UnwrapRefusal::Suspended),
            LeaseState::Ended(why) => Some(UnwrapRefusal::Ended { why: why.clone() }),
        }
    }

    /// A key that is gone while somebody was using it: its lease ended, or its user panicked.
    fn why_wiped(&self, id: CeremonyId) -> UnwrapRefusal {
        let mut inside = self.inside();
        let Some(lease) = inside.leases.get_mut(&id) else { return UnwrapRefusal::NoSuchLease { ceremony: id } };
        lease.end(LeaseEnd::Fault);
        match lease.state() {
            LeaseState::Ended(why) => UnwrapRefusal::Ended { why: why.clone() },
            LeaseState::Live | LeaseState::Suspended => UnwrapRefusal::Suspended,
        }
    }

    fn after_use(&self, id: CeremonyId) {
        if let Some(lease) = self.inside().leases.get_mut(&id) {
            lease.end_if_spent();
        }
    }

    /// Ends a lease by one official's order. The keys are wiped before this returns, whether or not it could be written.
    ///
    /// # Errors
    /// [`LeaseError::Stop`] where no official of the charter in force signed it; [`LeaseError::Unwrap`] where there is no such
    /// lease. [`LeaseError::Store`] where it stopped and is not in the roll yet; it will be.
    pub async fn stop(self: &Arc<Self>, id: CeremonyId, stop: &Stop, facts: &CustodyFacts) -> Result<(), LeaseError> {
        stop.verify(&id, facts)?;
        self.inside().leases.get_mut(&id).ok_or(UnwrapRefusal::NoSuchLease { ceremony: id })?.stop(stop.clone());
        self.flush().await
    }

    /// Ends a lease whose ceremony turned out to have ended before the opening came through. Nothing where there is none.
    ///
    /// # Errors
    /// [`LeaseError::Store`] where it ended and is not in the roll yet; it will be.
    pub async fn revoke(self: &Arc<Self>, id: CeremonyId) -> Result<(), LeaseError> {
        if let Some(lease) = self.inside().leases.get_mut(&id) {
            lease.end(LeaseEnd::Late);
        }
        self.flush().await
    }

    /// Gives a witness a nonce to answer.
    ///
    /// # Errors
    /// [`LeaseError::Beat`] for whom the charter does not name.
    pub fn ask_for_beat(&self, witness: &WitnessName) -> Result<BeatRequest, LeaseError> {
        let mut nonce = BeatNonce([0; 32]);
        OsRng.fill_bytes(&mut nonce.0);
        let (now, rules) = (self.now(), self.rules()?);
        Ok(self.inside().beats.ask(witness, &rules.beats, nonce, now)?)
    }

    /// Takes a beat; leases that were suspended serve again once that is durable.
    ///
    /// # Errors
    /// [`LeaseError::Beat`].
    pub async fn take_beat(self: &Arc<Self>, beat: &Beat) -> Result<(), LeaseError> {
        let (now, rules) = (self.now(), self.rules()?);
        self.inside().beats.take(beat, &rules.beats, now)?;
        self.flush().await
    }

    /// The last beat, and how long ago it counts from.
    pub fn last_beat(&self) -> Option<(LastBeat, Duration)> {
        let now = self.now();
        self.inside().beats.last().map(|last| (last.clone(), now.since(last.from)))
    }

    /// H, by the charter in force.
    pub fn heartbeat(&self) -> Option<Duration> {
        self.rules().ok().map(|rules| rules.beats.heartbeat())
    }

    /// Shows leases: one, or all of them.
    pub fn show<R>(&self, id: Option<CeremonyId>, mut shown: impl FnMut(&Lease, BootTime) -> R) -> Vec<R> {
        let now = self.now();
        let mut inside = self.inside();
        if let Ok(rules) = self.rules() {
            inside.look_at_all(&rules, now);
        }
        let these = inside.leases.values().filter(|lease| id.is_none_or(|id| lease.ceremony() == id));
        these.map(|lease| shown(lease, now)).collect()
    }

    /// How many leases serve, or would if a witness were heard.
    pub fn standing(&self) -> usize {
        let inside = self.inside();
        inside.leases.values().filter(|lease| !matches!(lease.state(), LeaseState::Ended(_))).count()
    }

    /// Looks at the clock and the rules, writes what is not written, settles now and then.
    ///
    /// # Errors
    /// [`LeaseError::Store`]; what could not be written is tried again with the next one.
    pub async fn tick(self: &Arc<Self>) -> Result<(), LeaseError> {
        let now = self.now();
        match self.rules() {
            Ok(rules) => self.inside().look_at_all(&rules, now),
            // No rules, no leases.
            Err(_) => self.end_all(&LeaseEnd::NotAllowed),
        }
        self.flush().await?;
        self.settle(now).await?;
        self.forget();
        Ok(())
    }

    /// Ticks, and compares clocks so often while a lease stands, until it is dropped or aborted.
    pub async fn run(self: Arc<Self>, compare: Duration) {
        // Beside each other: a TPM that does not answer holds up no lease's end.
        tokio::join!(self.keep_ticking(), self.keep_comparing(compare));
    }

    async fn keep_ticking(self: &Arc<Self>) {
        let mut failing = false;
        loop {
            tokio::time::sleep(TICK).await;
            let trouble = self.tick().await.err();
            if let Some(error) = trouble.as_ref().filter(|_| !failing) {
                tracing::error!(%error, "what happened to leases cannot be written down; it took effect, and is tried again");
            }
            failing = trouble.is_some();
        }
    }

    /// Ends every lease because the embassy stops. The keys are wiped before this returns, whatever becomes of the writing.
    ///
    /// # Errors
    /// [`LeaseError::Store`].
    pub async fn shut_down(self: &Arc<Self>) -> Result<(), LeaseError> {
        self.end_all(&LeaseEnd::ShutDown);
        self.flush().await
    }

    fn end_all(&self, why: &LeaseEnd) {
        self.inside().leases.values_mut().for_each(|lease| lease.end(why.clone()));
    }

    /// Makes durable what happened, and lets those serve again that may.
    async fn flush(self: &Arc<Self>) -> Result<(), LeaseError> {
        self.apart(|leases| async move {
            let _guard = leases.writing.lock().await;
            let (now, rules) = (leases.now(), leases.rules().ok());
            let due: Vec<(CeremonyId, bool)> = {
                let mut inside = leases.inside();
                let ids: Vec<CeremonyId> = inside.leases.keys().copied().collect();
                ids.into_iter()
                    .filter_map(|id| {
                        let revives = rules.as_ref().is_some_and(|rules| inside.look(id, rules, now));
                        let has_notes =
                            inside.unknown.contains_key(&id) || inside.leases.get(&id).is_some_and(Lease::has_notes);
                        (revives || has_notes).then_some((id, revives))
                    })
                    .collect()
            };
            for (id, revives) in due {
                leases.write(id, if revives { Change::Revive } else { Change::Nothing }).await?;
            }
            Ok(())
        })
        .await
    }

    async fn settle(self: &Arc<Self>, now: BootTime) -> Result<(), LeaseError> {
        let due: Vec<CeremonyId> = {
            let mut inside = self.inside();
            if now.since(inside.settled) < SETTLE {
                return Ok(());
            }
            inside.settled = now;
            inside.leases.values().filter(|lease| lease.account().is_unsettled()).map(Lease::ceremony).collect()
        };
        self.apart(|leases| async move {
            let _guard = leases.writing.lock().await;
            for id in due {
                leases.write(id, Change::Settle).await?;
            }
            Ok(())
        })
        .await
    }

    /// Drops what is over and written, but for the last ones.
    fn forget(&self) {
        let mut inside = self.inside();
        let mut over: Vec<(UnixTime, CeremonyId)> = inside
            .leases
            .values()
            .filter(|lease| matches!(lease.state(), LeaseState::Ended(_)) && !lease.has_notes())
            .map(|lease| (lease.began_at(), lease.ceremony()))
            .collect();
        over.sort_unstable_by_key(|(began, id)| (std::cmp::Reverse(*began), id.0));
        for (_, id) in over.into_iter().skip(SHOWN) {
            inside.leases.remove(&id);
        }
    }

    /// Makes one lease's notes durable, with what changes. The caller holds the guard.
    async fn write(&self, id: CeremonyId, change: Change) -> Result<(), LeaseError> {
        let unknown = self.inside().unknown.get(&id).cloned();
        if let Some(earlier) = unknown {
            let stored = self.parts.store.get(&key(id)).await?;
            let durable = stored.is_some_and(|stored| stored.bytes == earlier.record.encode());
            self.inside().known(id, &earlier, durable);
        }
        let Some(writing) = self.inside().leases.get_mut(&id).map(|lease| lease.write(&change)) else {
            return Ok(());
        };
        let writing = writing.map_err(UnwrapRefusal::from)?;
        match self.commit(&writing).await {
            Ok(()) => {
                self.inside().known(id, &writing, true);
                Ok(())
            }
            Err((error, Outcome::Nothing)) => {
                self.inside().known(id, &writing, false);
                Err(error.into())
            }
            Err((error, Outcome::Unknown)) => {
                self.inside().unknown.insert(id, writing);
                Err(error.into())
            }
        }
    }

    async fn commit(&self, writing: &Writing) -> Result<(), (StoreError, Outcome)> {
        let (id, at) = (writing.record.ceremony, (self.parts.wall_clock)());
        let bytes = writing.record.encode();
        let expected = Some(writing.expected).filter(|version| *version > 0);
        let put = Put { key: key(id), expected, bytes: bytes.clone() };
        let entries = writing.notes.iter().map(|note| entries::entry(note, id, &self.parts.embassy, at)).collect();
        let Err(error) = self.parts.store.commit(Batch { puts: vec![put], entries }).await else { return Ok(()) };
        if !error.may_have_taken_effect() {
            return Err((error, Outcome::Nothing));
        }
        // No two writings are the same bytes, so the record tells.
        match self.parts.store.get(&key(id)).await {
            Ok(Some(found)) if found.bytes == bytes => Ok(()),
            Ok(_) => Err((error, Outcome::Nothing)),
            Err(_) => Err((error, Outcome::Unknown)),
        }
    }

    /// Runs work to its end even where whoever asked for it goes away: between commit and effect nothing may be lost.
    async fn apart<T, F>(self: &Arc<Self>, work: impl FnOnce(Arc<Self>) -> F) -> Result<T, LeaseError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, LeaseError>> + Send + 'static,
    {
        tokio::spawn(work(Arc::clone(self))).await.map_err(|_| LeaseError::Fault)?
    }
}

/// What is known of a commit that failed.
enum Outcome {
    Nothing,
    Unknown,
}

impl Inside {
    /// It is known now whether a writing is durable.
    fn known(&mut self, id: CeremonyId, writing: &Writing, durable: bool) {
        self.unknown.remove(&id);
        let Some(lease) = self.leases.get_mut(&id) else { return };
        if durable {
            lease.written(writing);
        } else {
            lease.not_written();
        }
    }

    /// Looks at one lease; `true` where it may serve again once that is durable.
    fn look(&mut self, id: CeremonyId, rules: &LeaseRules, now: BootTime) -> bool {
        let Some(lease) = self.leases.get_mut(&id) else { return false };
        if !rules.allowed {
            lease.end(LeaseEnd::NotAllowed);
        }
        let pulse = self.beats.pulse(lease.began(), rules.beats.heartbeat(), now);
        lease.look(pulse, now)
    }

    fn look_at_all(&mut self, rules: &LeaseRules, now: BootTime) {
        let ids: Vec<CeremonyId> = self.leases.keys().copied().collect();
        for id in ids {
            self.look(id, rules, now);
        }
    }
}

fn key(id: CeremonyId) -> Key {
    Key::new(Kind::Lease, id.to_string())
}
