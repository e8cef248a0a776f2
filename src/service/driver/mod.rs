//! The ceremonies that a statement opens: one task for each, from its opening to its end and across restarts.
//!
//! The kinds themselves are `protocol::ceremony`'s, and nothing here knows their rules; how a task goes is `drive.rs`'s. A
//! message goes to its ceremony's task and is answered once the step that it caused is durable; so events of one ceremony come
//! one after the other, and those of several at once do not wait for each other.

mod hands;
mod perform;
mod view;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};

use crate::{
    client::ceremonies::CeremonyView,
    protocol::{
        ceremony::{
            Admission, Ceremony, Context, Event, NotAdmitted, Phase, Refused, Reply, Step, Trouble, UnsealRecord,
        },
        dataset_version::VerifiedVersion,
        gathering::Refusal,
        ids::{CeremonyId, OfficialName},
        offer::SignedOffer,
        statement::{Resets, SignedStatement, Statement, StatementError},
        wire::Document,
    },
    service::{
        App,
        drive::{Line, Task, gone},
        driver::{
            hands::{Hands, key},
            perform::Came,
            view::view,
        },
        problem::{Code, Problem},
    },
    store::{Batch, Kind, Put, StoreError},
};

/// Ceremonies at once. As many officials as a charter may name, each with one.
const OPEN: usize = 64;
/// Between two looks at the TPM's count of resets, while a ceremony is open.
const LOOK: Duration = Duration::from_secs(5);

/// A ceremony that goes on, as seen from outside its task.
#[derive(Clone)]
struct Live {
    opener: OfficialName,
    line: Line<Hands>,
}

impl Live {
    /// A release that was made waits for its recipient, and keeps its opener from nothing.
    fn holds_its_opener(&self) -> bool {
        self.line.seen().phase != Phase::Released.name()
    }

    fn named((id, live): (&CeremonyId, &Self)) -> (CeremonyId, OfficialName) {
        (*id, live.opener.clone())
    }
}

/// Every ceremony that goes on.
pub(crate) struct Driver {
    live: Mutex<BTreeMap<CeremonyId, Live>>,
    tasks: Mutex<JoinSet<()>>,
    /// Openings are judged one after the other: each must know of those before.
    admitting: tokio::sync::Mutex<()>,
    /// What the TPM counted when the oldest sessions that may be parked were begun.
    resets: Mutex<Option<u32>>,
    stop: watch::Sender<bool>,
}

impl Default for Driver {
    fn default() -> Self {
        Self {
            live: Mutex::default(),
            tasks: Mutex::default(),
            admitting: tokio::sync::Mutex::default(),
            resets: Mutex::default(),
            stop: watch::Sender::new(false),
        }
    }
}

impl Driver {
    fn live(&self) -> MutexGuard<'_, BTreeMap<CeremonyId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resets(&self) -> MutexGuard<'_, Option<u32>> {
        self.resets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn one(&self, id: &CeremonyId) -> Option<Live> {
        self.live().get(id).cloned()
    }
}

impl App {
    /// Opens a ceremony. The same statement again opens nothing, and is answered the same (`false`).
    ///
    /// # Errors
    /// A [`Problem`] that says which rule the statement breaks.
    pub(crate) async fn open_ceremony(&self, signed: SignedStatement) -> Result<(CeremonyId, bool), Problem> {
        let id = signed.unverified().id();
        if self.store().get(&key(&id)).await?.is_some() {
            self.adopt(id).await?;
            return Ok((id, false));
        }
        let versions = self.owned_versions(signed.unverified()).await?;
        let (clock, pinned) = self.machine(|tpm| Ok((tpm.clock()?, tpm.charter_pin()?))).await?;
        let _one_after_the_other = self.driver().admitting.lock().await;
        let open: Vec<(CeremonyId, OfficialName)> =
            self.driver().live().iter().filter(|(_, live)| live.holds_its_opener()).map(Live::named).collect();
        if open.len() >= OPEN {
            return Err(Code::Busy.because(format!("{OPEN} ceremonies are open, as many as there may be")));
        }
        let (custody, trust) = (self.custody(), self.trust().get());
        let here = trust.charter().charter().parts().embassies.iter().find(|known| known.name == *self.embassy());
        let admission = Admission {
            resets: Resets { reset_count: clock.reset_count, restart_count: clock.restart_count },
            leases: here.is_some_and(|here| here.leases),
            pinned,
            open: &open,
        };
        let recipient = self.recipient_of(signed.unverified());
        let context = Context {
            facts: &custody.facts,
            quorum: &custody.quorum,
            versions: &versions,
            recipient: recipient.as_ref(),
            now: self.now(),
        };
        let mut step = Ceremony::open(signed, &context, &admission)?;
        let record = step.next.record();
        let entries = step.entries.drain(..).map(|entry| entry.encode()).collect();
        let put = Put { key: key(&id), expected: None, bytes: record.clone() };
        match self.store().commit(Batch { puts: vec![put], entries }).await {
            Ok(_) => {}
            // The same statement came twice at the same moment.
            Err(StoreError::Conflict { .. }) => return Ok((id, false)),
            Err(error) => {
                // It may be written all the same; then it is open, whatever the disk says.
                let known = if error.may_have_taken_effect() { self.store().get(&key(&id)).await? } else { None };
                if known.is_none_or(|known| known.bytes != record) {
                    return Err(error.into());
                }
            }
        }
        tracing::info!(ceremony = %id, opener = %step.next.opener(), "a ceremony was opened");
        self.drive(step, (1, record), versions);
        self.driver().resets().get_or_insert(clock.reset_count);
        Ok((id, true))
    }

    /// Takes up a ceremony that is written down and goes on, and that nobody drives: its opening was in doubt.
    async fn adopt(&self, id: CeremonyId) -> Result<(), Problem> {
        let _one_after_the_other = self.driver().admitting.lock().await;
        if self.driver().one(&id).is_some() {
            return Ok(());
        }
        let Some(record) = self.store().get(&key(&id)).await? else { return Ok(()) };
        let read = UnsealRecord::decode(&record.bytes).map_err(|error| Code::Store.because(error))?;
        if read.outcome().is_none() {
            let (step, versions) = self.resume(read.statement().unverified(), &record.bytes).await?;
            self.drive(step, (record.version, record.bytes), versions);
        }
        Ok(())
    }

    /// Goes on with every ceremony that had not ended when the service did.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn resume_ceremonies(&self, resets: u32) -> Result<usize, StoreError> {
        *self.driver().resets() = Some(resets);
        let (mut after, mut resumed): (Option<String>, usize) = (None, 0);
        loop {
            let rows = self.store().list(Kind::Ceremony, after.as_deref(), crate::store::MAX_ROWS).await?;
            let Some((last, _)) = rows.last() else { return Ok(resumed) };
            after = Some(last.clone());
            for (id, record) in rows {
                match UnsealRecord::decode(&record.bytes) {
                    Ok(read) if read.outcome().is_some() => continue,
                    Ok(read) => match self.resume(read.statement().unverified(), &record.bytes).await {
                        Ok((step, versions)) => {
                            self.drive(step, (record.version, record.bytes), versions);
                            resumed += 1;
                        }
                        Err(problem) => tracing::error!(ceremony = id, %problem, "a ceremony cannot go on"),
                    },
                    Err(error) => tracing::error!(ceremony = id, %error, "a ceremony's record does not read"),
                }
            }
        }
    }

    async fn resume(
        &self,
        statement: &Statement,
        record: &[u8],
    ) -> Result<(Step<Ceremony>, Arc<Vec<VerifiedVersion>>), Problem> {
        let versions = self.owned_versions(statement).await?;
        let (custody, recipient) = (self.custody(), self.recipient_of(statement));
        let context = Context {
            facts: &custody.facts,
            quorum: &custody.quorum,
            versions: &versions,
            recipient: recipient.as_ref(),
            now: self.now(),
        };
        let step = Ceremony::resume(record, &context).map_err(|error| Code::Store.because(error))?;
        Ok((step, versions))
    }

    /// Starts the task of a ceremony whose record is saved with this version and these bytes.
    fn drive(&self, step: Step<Ceremony>, saved: (u64, Vec<u8>), versions: Arc<Vec<VerifiedVersion>>) {
        let (id, opener) = (step.next.id(), step.next.opener().clone());
        let mut hands = Hands::new(self.clone(), id, versions, saved);
        let step = hands.stored(step);
        let (mut task, line) = Task::new(hands, &step.next, Arc::clone(self.store()), self.driver().stop.subscribe());
        self.driver().live().insert(id, Live { opener, line });
        let app = self.clone();
        let mut tasks = self.driver().tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            task.run(step).await;
            app.driver().live().remove(&id);
            tracing::info!(ceremony = %id, "a ceremony's task has ended");
        });
    }

    /// Hands an event to its ceremony, and waits until what follows is durable.
    ///
    /// # Errors
    /// A [`Problem`] for a refusal: the ceremony stands as it stood.
    pub(crate) async fn tell(&self, id: CeremonyId, event: Event) -> Result<(Reply, CeremonyView), Problem> {
        let Some(live) = self.driver().one(&id) else { return self.tell_ended(id, event).await };
        match live.line.ask(event).await? {
            (Reply::Refused(refused), _) => Err(refused.into()),
            answer => Ok(answer),
        }
    }

    /// What a ceremony that is over says to a message: its own rules, and nothing is changed by them.
    async fn tell_ended(&self, id: CeremonyId, event: Event) -> Result<(Reply, CeremonyView), Problem> {
        let ceremony = self.ended(id).await?;
        let custody = self.custody();
        let context =
            Context { facts: &custody.facts, quorum: &custody.quorum, versions: &[], recipient: None, now: self.now() };
        let (step, reply) = ceremony.on(event, &context);
        match reply {
            Reply::Refused(refused) => Err(refused.into()),
            reply => Ok((reply, view(&step.next, &custody.facts, self.has_lease(id)))),
        }
    }

    /// A ceremony that is over, from its record.
    async fn ended(&self, id: CeremonyId) -> Result<Ceremony, Problem> {
        self.ended_from(&self.ceremony_record(id).await?)
    }

    fn ended_from(&self, record: &[u8]) -> Result<Ceremony, Problem> {
        let custody = self.custody();
        let context =
            Context { facts: &custody.facts, quorum: &custody.quorum, versions: &[], recipient: None, now: self.now() };
        let read = UnsealRecord::decode(record).map_err(|error| Code::Store.because(error))?;
        if read.outcome().is_none() {
            return Err(gone());
        }
        Ceremony::resume(record, &context).map(|step| step.next).map_err(|error| Code::Store.because(error))
    }

    /// How a ceremony stands.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub(crate) async fn see(&self, id: CeremonyId) -> Result<CeremonyView, Problem> {
        match self.driver().one(&id) {
            Some(live) => Ok(live.line.seen()),
            None => Ok(view(&self.ended(id).await?, &self.custody().facts, self.has_lease(id))),
        }
    }

    /// Watches a ceremony; `None` where it is over.
    pub(crate) fn watch(&self, id: CeremonyId) -> Option<watch::Receiver<CeremonyView>> {
        self.driver().one(&id).map(|live| live.line.watch())
    }

    /// Ceremonies as they stand: first all that go on, then, by their records, those that are over.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn list_ceremonies(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<CeremonyView>, Option<String>), Problem> {
        let mut seen = Vec::new();
        if after.is_none() {
            let live: Vec<Live> = self.driver().live().values().cloned().collect();
            seen.extend(live.into_iter().map(|live| live.line.seen()));
        }
        let rows = self.store().list(Kind::Ceremony, after, limit).await?;
        let next = rows.last().map(|(id, _)| id.clone());
        for (_, record) in rows {
            // Those that go on were named already; one that does not read is not made up.
            if let Ok(ceremony) = self.ended_from(&record.bytes)
                && self.driver().one(&ceremony.id()).is_none()
            {
                seen.push(view(&ceremony, &self.custody().facts, self.has_lease(ceremony.id())));
            }
        }
        Ok((seen, next))
    }

    /// A ceremony's record, as it was saved last.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub(crate) async fn ceremony_record(&self, id: CeremonyId) -> Result<Vec<u8>, Problem> {
        let missing = || Code::NotFound.because(format!("there is no ceremony {id} here"));
        Ok(self.store().get(&key(&id)).await?.ok_or_else(missing)?.bytes)
    }

    /// A ceremony's statement, for the policy.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub(crate) async fn statement(&self, id: CeremonyId) -> Result<Statement, Problem> {
        let read =
            UnsealRecord::decode(&self.ceremony_record(id).await?).map_err(|error| Code::Store.because(error))?;
        Ok(read.statement().unverified().clone())
    }

    /// The offer that officials can contribute to, or that was opened.
    ///
    /// # Errors
    /// [`Code::NotFound`] while there is none.
    pub(crate) async fn offer(&self, id: CeremonyId) -> Result<SignedOffer, Problem> {
        let none = || {
            Code::NotFound
                .because("the embassy has made no offer yet, or must make a new one")
                .who("the embassy")
                .next("Wait a moment; GET /v1/ceremonies/{id}/events tells when there is one.")
        };
        let read =
            UnsealRecord::decode(&self.ceremony_record(id).await?).map_err(|error| Code::Store.because(error))?;
        read.offer().cloned().ok_or_else(none)
    }

    /// Installs what was opened: a lease, or the parts of a release. An adopted charter is where it belongs already.
    async fn install(&self, id: CeremonyId, came: Came) -> Result<(), Trouble> {
        match came {
            // Where it is not begun, the seeds are wiped; approvals are good once, so they are asked for again.
            Came::Seeds(opened) => match self.leases().install(opened).await {
                Ok(_) => Ok(()),
                Err(error) => Err(Trouble::FreshApprovals { why: error.to_string() }),
            },
            Came::Pinned => {
                tracing::info!(ceremony = %id, "the TPM's charter pin was moved");
                Ok(())
            }
            Came::Parts(parts) => match self.keep_release(id, &parts).await {
                Ok(()) => Ok(()),
                Err(error) => Err(Trouble::FreshApprovals { why: error.to_string() }),
            },
        }
    }

    async fn owned_versions(&self, statement: &Statement) -> Result<Arc<Vec<VerifiedVersion>>, Problem> {
        let versions = self.versions_of(statement.datasets()).await?;
        Ok(Arc::new(versions.iter().map(|version| VerifiedVersion::clone(version)).collect()))
    }

    /// Notices resets of the TPM early, so that nobody approves for sessions that are gone.
    pub(crate) async fn watch_resets(self) {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            let live: Vec<Live> = self.driver().live().values().cloned().collect();
            if live.is_empty() {
                // Nothing is parked, and the TPM is left alone.
                *self.driver().resets() = None;
                continue;
            }
            let Ok(clock) = self.machine(|tpm| tpm.clock()).await else { continue };
            let known = self.driver().resets().replace(clock.reset_count);
            if known.is_some_and(|known| known != clock.reset_count) {
                tracing::warn!(reset_count = clock.reset_count, "the TPM was reset; fresh approvals are asked for");
                for one in live {
                    one.line.tell(Event::Restarted).await;
                }
            }
        }
    }

    /// Ends every task. What they had is saved, or was never promised.
    pub(crate) async fn stop_ceremonies(&self) {
        self.driver().stop.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.driver().tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }
}

impl From<NotAdmitted> for Problem {
    fn from(refused: NotAdmitted) -> Self {
        match refused {
            NotAdmitted::OneAtATime { .. } => Code::OneCeremonyEach.because(refused),
            NotAdmitted::NoLease => Code::LeasesRefused.because(refused),
            NotAdmitted::NoRecord { .. } => Code::NotFound.because(refused).who("the data owner"),
            NotAdmitted::Resets { .. }
            | NotAdmitted::Known { .. }
            | NotAdmitted::NotInForce { .. }
            | NotAdmitted::Pinned { .. }
            | NotAdmitted::Adopted { .. } => Code::Conflict.because(refused),
            NotAdmitted::Statement(StatementError::Expired { .. }) => Code::Late.because(refused),
            other => Code::Refused.because(other),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match &refused {
            Refused::Contribution(Refusal::OtherOffer | Refusal::Late { .. }) | Refused::Over { .. } => {
                Code::Late.because(refused)
            }
            Refused::Contribution(Refusal::Repeated { .. }) | Refused::NoOffer | Refused::DeniedBefore { .. } => {
                Code::Conflict.because(refused)
            }
            Refused::Contribution(Refusal::CeremonyKey) => Code::Internal.because(refused),
            Refused::Contribution(_) | Refused::Notice(_) => Code::Refused.because(refused),
        }
    }
}
