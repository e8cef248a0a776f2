//! The one driver of ceremonies: receive, step, save, send; one event after the other.
//!
//! It knows no kind. A [`Kind`] is a machine that judges and the hands that do what it orders; what stands here is the order
//! in which they come to act, and that is the same for all. A step's records and entries become durable in one commit before
//! anything of its outbox is done, before anybody sees it, and before whoever sent the event is answered. Where the store has
//! trouble, the step waits and is saved later; nothing goes on without it. What the outbox orders runs beside, and its result
//! comes back as an event. Trusts the store as far as its promises go, and the kind to name a version of every record it
//! changes. protocol.md §20.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinError, JoinSet},
};

use crate::{
    service::problem::{Code, Problem},
    store::{Batch, MAX_ROWS, Put, Remedy, Store, StoreError},
};

/// Events of one ceremony that wait. Officials are few; more is somebody's flood.
const WAITING: usize = 64;
/// Between two ticks of a ceremony.
const TICK: Duration = Duration::from_secs(1);
/// The first pause before the store is tried again, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

/// A kind of ceremony: its machine and its hands.
pub(crate) trait Kind: Sized + Send + 'static {
    /// How a ceremony of this kind stands.
    type State: Send + Sync + 'static;
    /// What happens to it.
    type Event: Send + 'static;
    /// What it orders.
    type Out: Send + 'static;
    /// What the sender of an event is told.
    type Reply: Send + 'static;
    /// What comes back from an order: the event, and what the hands must keep for later orders.
    type Done: Send + 'static;
    /// What is shown of it.
    type View: Clone + PartialEq + Send + Sync + 'static;

    /// Its name, for the log.
    fn name(&self) -> String;

    /// The machine's judgement of an event, and how what follows is stored. It does nothing that is seen outside.
    ///
    /// # Errors
    /// A fault of chancery's own ended it. What was saved last stands.
    fn step(
        &mut self,
        state: Self::State,
        event: Self::Event,
    ) -> impl Future<Output = Result<(Step<Self>, Self::Reply), JoinError>> + Send;

    /// Carries out an order of a step that is durable. What takes time is given back, and runs beside.
    fn perform(
        &mut self,
        state: &Self::State,
        out: Self::Out,
    ) -> impl Future<Output = Option<BoxFuture<'static, Self::Done>>> + Send;

    /// The event that an order's result is, if it is one.
    fn came(&mut self, done: Self::Done) -> Option<Self::Event>;

    /// What passing time is to it, if anything.
    fn tick(&self, state: &Self::State) -> Option<Self::Event>;

    /// Whether nothing can happen to it any more.
    fn is_over(state: &Self::State) -> bool;

    /// What is shown of it.
    fn view(&self, state: &Self::State) -> Self::View;
}

/// What follows from an event: what becomes durable together, and what is ordered once it is.
pub(crate) struct Step<K: Kind> {
    /// The state from now on.
    pub(crate) next: K::State,
    /// The records that change.
    pub(crate) puts: Vec<Put>,
    /// The roll's new entries, encoded.
    pub(crate) entries: Vec<Vec<u8>>,
    /// What to do.
    pub(crate) outbox: Vec<K::Out>,
}

impl<K: Kind> std::fmt::Debug for Step<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (puts, entries, orders) = (self.puts.len(), self.entries.len(), self.outbox.len());
        write!(f, "Step({puts} records, {entries} entries, {orders} orders)")
    }
}

/// Why a ceremony's task has ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The ceremony is over.
    Over,
    /// The service stops.
    Stopped,
    /// It is no longer this task's: another process changed its records, or chancery itself has a fault.
    Lost,
    /// The store will never take what follows: chancery's own mistake. Who asked is told.
    Unsaved(StoreError),
}

/// Who is told what came of an event.
type Answer<K> = oneshot::Sender<Result<(<K as Kind>::Reply, <K as Kind>::View), Problem>>;

enum Message<K: Kind> {
    /// From somebody who waits for the answer.
    Asked(K::Event, Answer<K>),
    /// From nobody who waits.
    Told(K::Event),
}

/// A ceremony that goes on, as seen from outside its task.
pub(crate) struct Line<K: Kind> {
    inbox: mpsc::Sender<Message<K>>,
    shown: watch::Receiver<K::View>,
}

impl<K: Kind> Clone for Line<K> {
    fn clone(&self) -> Self {
        Self { inbox: self.inbox.clone(), shown: self.shown.clone() }
    }
}

impl<K: Kind> Line<K> {
    /// Hands over an event, and waits until what follows is durable.
    ///
    /// # Errors
    /// [`Code::Busy`]: too much waits, or the ceremony has just gone. The kind's refusals are in its reply.
    pub(crate) async fn ask(&self, event: K::Event) -> Result<(K::Reply, K::View), Problem> {
        let (answer, answered) = oneshot::channel();
        self.inbox.try_send(Message::Asked(event, answer)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Code::Busy.because("too many messages wait for this ceremony").retry_after(Duration::from_secs(1))
            }
            mpsc::error::TrySendError::Closed(_) => gone(),
        })?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Hands over an event of which nobody waits for the answer.
    pub(crate) async fn tell(&self, event: K::Event) {
        // Where it is gone, so is whom it concerns.
        let _ = self.inbox.send(Message::Told(event)).await;
    }

    /// How it stands.
    pub(crate) fn seen(&self) -> K::View {
        self.shown.borrow().clone()
    }

    /// How it stands, from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<K::View> {
        self.shown.clone()
    }
}

/// Whoever asked a ceremony that has just gone.
pub(crate) fn gone() -> Problem {
    Code::Busy.because("the ceremony has just ended, or the service is stopping")
}

/// A ceremony in its task.
pub(crate) struct Task<K: Kind> {
    /// Its hands.
    pub(crate) kind: K,
    store: Arc<dyn Store>,
    inbox: mpsc::Receiver<Message<K>>,
    shown: watch::Sender<K::View>,
    stop: watch::Receiver<bool>,
    /// Orders that are under way.
    orders: JoinSet<K::Done>,
}

impl<K: Kind> Task<K> {
    /// A task for one ceremony, which shows how it stands before its first step, and the line to it.
    pub(crate) fn new(
        kind: K,
        state: &K::State,
        store: Arc<dyn Store>,
        stop: watch::Receiver<bool>,
    ) -> (Self, Line<K>) {
        let (sender, inbox) = mpsc::channel(WAITING);
        let (shown, watched) = watch::channel(kind.view(state));
        let orders = JoinSet::new();
        (Self { kind, store, inbox, shown, stop, orders }, Line { inbox: sender, shown: watched })
    }

    /// Drives it to its end, beginning with the step that its opening or its resumption is. What is under way then goes on
    /// by itself, and nobody waits for what comes of it.
    pub(crate) async fn run(&mut self, first: Step<K>) -> End {
        let end = self.drive(first).await;
        self.orders.detach_all();
        if let End::Lost | End::Unsaved(_) = end {
            tracing::error!(
                ceremony = self.kind.name(),
                ?end,
                "a ceremony's task has ended; what was saved last stands"
            );
        }
        end
    }

    async fn drive(&mut self, first: Step<K>) -> End {
        let mut state = match self.settle(first).await {
            Ok(state) => state,
            Err(end) => return end,
        };
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stop = self.stop.clone();
        while !K::is_over(&state) || !self.orders.is_empty() {
            let (event, answer) = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return End::Stopped,
                Some(done) = self.orders.join_next() => match done {
                    Ok(done) => (self.kind.came(done), None),
                    Err(fault) => return self.faulty(&fault),
                },
                Some(message) = self.inbox.recv() => match message {
                    Message::Asked(event, answer) => (Some(event), Some(answer)),
                    Message::Told(event) => (Some(event), None),
                },
                _ = ticks.tick() => (self.kind.tick(&state), None),
            };
            let Some(event) = event else {
                self.show(&state);
                continue;
            };
            let (step, reply) = match self.kind.step(state, event).await {
                Ok(judged) => judged,
                Err(fault) => return self.faulty(&fault),
            };
            state = match self.settle(step).await {
                Ok(state) => state,
                Err(End::Unsaved(error)) => {
                    let Some(answer) = answer else { return End::Unsaved(error) };
                    let _ = answer.send(Err(error.into()));
                    return End::Lost;
                }
                Err(end) => return end,
            };
            // Whoever asked may have gone; what was done is done.
            let _ = answer.map(|answer| answer.send(Ok((reply, self.shown.borrow().clone()))));
        }
        End::Over
    }

    fn faulty(&self, fault: &JoinError) -> End {
        tracing::error!(ceremony = self.kind.name(), %fault, "a fault in chancery itself stopped a ceremony");
        End::Lost
    }

    /// Save, send, show.
    async fn settle(&mut self, step: Step<K>) -> Result<K::State, End> {
        let Step { next, puts, entries, outbox } = step;
        self.save(Batch { puts, entries }).await?;
        for out in outbox {
            if let Some(order) = self.kind.perform(&next, out).await {
                self.orders.spawn(order);
            }
        }
        self.show(&next);
        Ok(next)
    }

    fn show(&self, state: &K::State) {
        let seen = self.kind.view(state);
        self.shown.send_if_modified(|shown| {
            let news = *shown != seen;
            *shown = seen;
            news
        });
    }

    /// Makes a step durable, however long it takes.
    async fn save(&mut self, batch: Batch) -> Result<(), End> {
        if batch.puts.is_empty() && batch.entries.is_empty() {
            return Ok(());
        }
        let mut try_next = if batch.puts.is_empty() { Try::Size } else { Try::Commit };
        let (mut conflict, mut size, mut pause) = (false, 0, PAUSE.0);
        loop {
            let trouble = match try_next {
                Try::Size => match self.store.roll_size().await {
                    Ok(found) => {
                        (size, try_next) = (found, Try::Commit);
                        continue;
                    }
                    Err(error) => error,
                },
                Try::Commit => match self.store.commit(batch.clone()).await {
                    Ok(_) => return Ok(()),
                    Err(error) if error.remedy() == Remedy::Correct => return Err(End::Unsaved(error)),
                    Err(StoreError::Conflict { .. }) => {
                        (conflict, try_next) = (true, Try::Look);
                        continue;
                    }
                    Err(error) => {
                        if error.may_have_taken_effect() {
                            try_next = Try::Look;
                        }
                        error
                    }
                },
                // Ours, if an earlier try took effect after all.
                Try::Look => match self.is_there(&batch, size).await {
                    Ok(true) => return Ok(()),
                    Ok(false) if conflict => {
                        tracing::error!(ceremony = self.kind.name(), "another process drives this ceremony");
                        return Err(End::Lost);
                    }
                    Ok(false) => {
                        try_next = Try::Commit;
                        continue;
                    }
                    Err(error) => error,
                },
            };
            tracing::error!(ceremony = self.kind.name(), error = %trouble, "a ceremony waits until it can be written down");
            tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => return Err(End::Stopped),
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE.1),
            }
        }
    }

    /// Whether a batch is in the store: its records as it left them, or, where it changes none, its entries in the roll behind
    /// what stood there before.
    async fn is_there(&self, batch: &Batch, size: u64) -> Result<bool, StoreError> {
        for Put { key, expected, bytes } in &batch.puts {
            let found = self.store.get(key).await?;
            let version = expected.unwrap_or(0).saturating_add(1);
            if found.is_none_or(|found| found.version != version || found.bytes != *bytes) {
                return Ok(false);
            }
        }
        if !batch.puts.is_empty() {
            return Ok(true);
        }
        let (mut from, mut later) = (size, Vec::new());
        loop {
            let rows = self.store.roll(from, MAX_ROWS).await?;
            let Some(last) = rows.last() else { break };
            from = last.sequence.saturating_add(1);
            later.extend(rows.into_iter().map(|row| row.bytes));
        }
        Ok(later.windows(batch.entries.len()).any(|entries| entries == batch.entries))
    }
}

/// What a step that is being saved does next.
#[derive(Clone, Copy)]
enum Try {
    /// Sees how long the roll is, for a batch that is found again by its entries only.
    Size,
    /// Commits.
    Commit,
    /// Looks whether a commit took effect.
    Look,
}

#[cfg(test)]
mod tests;
