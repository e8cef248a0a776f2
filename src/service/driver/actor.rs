//! One ceremony's driver: receive, step, save, send; one event after the other.
//!
//! A step's state and entries become durable in one commit before anything of its outbox is done and before whoever sent the
//! event is answered. Where the store has trouble, the step waits and is saved later; nothing goes on without it. What the
//! outbox orders runs beside, and its result comes back as an event. protocol.md §18.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    client::ceremonies::CeremonyView,
    hardware::ParkedCommand,
    protocol::{
        ceremony::{Ceremony, Context, Event, Material, Out, Reply, Step, Trouble},
        dataset_version::VerifiedVersion,
        hash::Hash,
        ids::CeremonyId,
        recipient::Recipient,
        roll::Entry,
        statement::{SignedStatement, Statement},
        wire::Document,
    },
    service::{
        App, arena,
        driver::{perform, view::view},
        problem::{Code, Problem},
    },
    store::{Batch, Key, Kind, Put, StoreError},
};

/// Between two ticks of a ceremony.
const TICK: Duration = Duration::from_secs(1);
/// The first pause before a commit is tried again, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

/// What comes to a ceremony.
pub(super) enum Message {
    /// From somebody who waits for the answer.
    Asked(Event, oneshot::Sender<Result<(Reply, CeremonyView), Problem>>),
    /// Sessions are parked, and this is the offer; or there is none.
    Offered(u32, Vec<ParkedCommand>, Event),
    /// An opening came back with its sessions.
    Opened(u32, Vec<ParkedCommand>, Event),
    /// The TPM was reset.
    Reset,
}

/// Where a ceremony is kept.
pub(super) fn key(id: &CeremonyId) -> Key {
    Key::new(Kind::Ceremony, id.to_string())
}

/// A ceremony with all that is in its driver's hands.
pub(super) struct Actor {
    pub(super) app: App,
    pub(super) id: CeremonyId,
    /// `None` only while an event is with the machine.
    pub(super) state: Option<Ceremony>,
    /// The record's version in the store, and its bytes.
    pub(super) saved: (u64, Vec<u8>),
    pub(super) versions: Arc<Vec<VerifiedVersion>>,
    pub(super) inbox: mpsc::Receiver<Message>,
    pub(super) own: mpsc::WeakSender<Message>,
    pub(super) shown: watch::Sender<CeremonyView>,
    pub(super) stop: watch::Receiver<bool>,
    /// Sessions that are parked, by attempt.
    pub(super) parked: BTreeMap<u32, Vec<ParkedCommand>>,
    /// Attempts whose sessions are dropped, also those that come back later.
    pub(super) forgotten: BTreeSet<u32>,
    /// How many orders are under way.
    pub(super) under_way: usize,
    /// When somebody last sent something.
    pub(super) asked: Instant,
    /// Entries of steps that are not saved yet.
    pub(super) unsaved: Vec<Entry>,
}

/// The ceremony is no longer this driver's: another process has it, or the service stops.
#[derive(Debug)]
pub(super) struct Lost;

impl Actor {
    /// Drives it to its end, beginning with what its opening or its resumption ordered.
    pub(super) async fn run(mut self, outbox: Vec<Out>) {
        // A resumption is a step like any other.
        if self.save().await.is_err() {
            return;
        }
        self.send(outbox).await;
        let mut stop = self.stop.clone();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.state.as_ref().is_some_and(Ceremony::is_open) || self.under_way > 0 {
            let came = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some(message) = self.inbox.recv() => Some(message),
                _ = ticks.tick() => None,
            };
            let done = match came {
                Some(message) => self.receive(message).await,
                None => self.step(Event::Tick).await.map(drop),
            };
            if done.is_err() {
                break;
            }
        }
    }

    async fn receive(&mut self, message: Message) -> Result<(), Lost> {
        match message {
            Message::Asked(event, answer) => {
                self.asked = Instant::now();
                let reply = self.step(event).await?;
                // Whoever asked may have gone; what was done is done.
                let _ = answer.send(Ok((reply, self.shown.borrow().clone())));
                Ok(())
            }
            Message::Offered(attempt, parked, event) => {
                self.under_way = self.under_way.saturating_sub(1);
                self.keep(attempt, parked);
                self.step(event).await.map(drop)
            }
            Message::Opened(attempt, parked, event) => {
                self.under_way = self.under_way.saturating_sub(1);
                self.keep(attempt, parked);
                self.step(event).await.map(drop)
            }
            Message::Reset => {
                // Whatever was parked is gone; what comes back of it will find nothing.
                self.parked.clear();
                self.step(Event::Restarted).await.map(drop)
            }
        }
    }

    fn keep(&mut self, attempt: u32, parked: Vec<ParkedCommand>) {
        if !parked.is_empty() && !self.forgotten.contains(&attempt) {
            self.parked.insert(attempt, parked);
        }
    }

    /// Receive, step, save, send.
    async fn step(&mut self, event: Event) -> Result<Reply, Lost> {
        let (step, reply) = self.machine(event).await?;
        let Step { next, entries, outbox } = step;
        self.state = Some(next);
        self.unsaved.extend(entries);
        self.save().await?;
        self.send(outbox).await;
        Ok(reply)
    }

    /// The ceremony's own judgement, off the threads that serve: some milliseconds for a contribution.
    async fn machine(&mut self, event: Event) -> Result<(Step<Ceremony>, Reply), Lost> {
        let state = self.state.take().ok_or(Lost)?;
        let statement = statement_of(&state).clone();
        let (custody, versions) = (self.app.custody(), Arc::clone(&self.versions));
        let (recipient, now) = (self.app.recipient_of(&statement), self.app.now());
        let judged = tokio::task::spawn_blocking(move || {
            arena::without_trace(|| {
                let context = Context {
                    facts: &custody.facts,
                    quorum: &custody.quorum,
                    versions: &versions,
                    recipient: recipient.as_ref(),
                    now,
                };
                state.on(event, &context)
            })
        });
        judged.await.map_err(|error| {
            // The record stands as it was saved last; the next start goes on from it.
            tracing::error!(ceremony = %self.id, %error, "a fault in chancery itself stopped a ceremony; restart the service");
            Lost
        })
    }

    /// Makes state and entries durable, however long it takes.
    async fn save(&mut self) -> Result<(), Lost> {
        let Some(record) = self.state.as_ref().map(Ceremony::record) else { return Err(Lost) };
        if self.unsaved.is_empty() && record == self.saved.1 {
            return Ok(());
        }
        let (version, mut pause) = (self.saved.0, PAUSE.0);
        let entries: Vec<Vec<u8>> = self.unsaved.iter().map(Document::encode).collect();
        loop {
            let put = Put { key: key(&self.id), expected: Some(version), bytes: record.clone() };
            match self.app.store().commit(Batch { puts: vec![put], entries: entries.clone() }).await {
                Ok(_) => break,
                Err(error @ StoreError::Conflict { .. }) => {
                    // Ours, if an earlier try took effect after all.
                    let found = self.app.store().get(&key(&self.id)).await;
                    if matches!(found, Ok(Some(found)) if found.version == version + 1 && found.bytes == record) {
                        break;
                    }
                    tracing::error!(ceremony = %self.id, %error, "another process drives this ceremony");
                    return Err(Lost);
                }
                Err(error) => {
                    tracing::error!(ceremony = %self.id, %error, "a ceremony waits until it can be written down");
                    tokio::select! {
                        _ = self.stop.wait_for(|stop| *stop) => return Err(Lost),
                        () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE.1),
                    }
                }
            }
        }
        self.unsaved.clear();
        self.saved = (version + 1, record);
        Ok(())
    }

    async fn send(&mut self, outbox: Vec<Out>) {
        for out in outbox {
            match out {
                Out::MakeOffer { statement, attempt } => self.make_offer(*statement, attempt),
                Out::Open { attempt, offer, material } => self.open(attempt, offer, *material),
                Out::Forget { attempt } => {
                    self.parked.remove(&attempt);
                    self.forgotten.insert(attempt);
                }
                Out::Revoke => self.app.revoke(self.id).await,
                Out::Notify => {}
            }
        }
        self.show();
    }

    fn show(&self) {
        let Some(state) = &self.state else { return };
        let seen = view(state, &self.app.custody().facts, self.app.has_lease(self.id));
        self.shown.send_if_modified(|shown| {
            let news = *shown != seen;
            *shown = seen;
            news
        });
    }

    fn make_offer(&mut self, statement: SignedStatement, attempt: u32) {
        let Some(own) = self.own.upgrade() else { return };
        self.forgotten.remove(&attempt);
        let (tpm, custody, versions) = (self.app.tpm(), self.app.custody(), Arc::clone(&self.versions));
        self.under_way = self.under_way.saturating_add(1);
        tokio::spawn(async move {
            let made = tokio::task::spawn_blocking(move || {
                perform::make_offer(tpm.as_ref(), &custody.facts, &versions, statement, attempt)
            });
            let made = made.await.unwrap_or_else(|_| Err(perform::NoOffer::fault()));
            let (parked, event) = made.unwrap_or_else(|no| (Vec::new(), no.event(attempt)));
            // Where the ceremony is gone, the sessions are given back by dropping them.
            let _ = own.send(Message::Offered(attempt, parked, event)).await;
        });
    }

    fn open(&mut self, attempt: u32, offer: Hash, material: Material) {
        let Some(own) = self.own.upgrade() else { return };
        let parked = self.parked.remove(&attempt).unwrap_or_default();
        let (app, versions, id, asked) = (self.app.clone(), Arc::clone(&self.versions), self.id, self.asked);
        // The statement's card was judged again for this very step.
        let to = self.state.as_ref().and_then(|state| statement_of(state).mode().recipient().cloned());
        self.under_way = self.under_way.saturating_add(1);
        tokio::spawn(async move {
            let (tpm, custody, mut parked) = (app.tpm(), app.custody(), parked);
            let ran = tokio::task::spawn_blocking(move || {
                let order = perform::ToOpen { facts: &custody.facts, versions: &versions, offer, to: to.as_ref() };
                let mut in_tpm = Duration::ZERO;
                let came = perform::open(tpm.as_ref(), &order, material, &mut parked, &mut in_tpm);
                (came, parked, in_tpm)
            });
            let (came, parked, in_tpm) = match ran.await {
                Ok(ran) => ran,
                Err(_) => {
                    let why = "a fault of chancery's own".to_owned();
                    (Err(Trouble::FreshApprovals { why }), Vec::new(), Duration::ZERO)
                }
            };
            let done = match came {
                Ok(came) => app.install(id, came).await,
                Err(trouble) => Err(trouble),
            };
            let event = match done {
                Ok(()) => {
                    let (total_us, tpm_us) = (asked.elapsed().as_micros(), in_tpm.as_micros());
                    tracing::info!(ceremony = %id, total_us, tpm_us, "an opening came through");
                    Event::Opened { attempt }
                }
                Err(trouble) => {
                    tracing::warn!(ceremony = %id, ?trouble, "an opening did not come through");
                    Event::NotOpened { attempt, trouble }
                }
            };
            let _ = own.send(Message::Opened(attempt, parked, event)).await;
        });
    }
}

/// What a ceremony is about.
pub(super) fn statement_of(ceremony: &Ceremony) -> &Statement {
    match ceremony {
        Ceremony::Unseal(unseal) => unseal.statement(),
    }
}

impl App {
    /// The recipient of a statement, judged now.
    pub(crate) fn recipient_of(&self, statement: &Statement) -> Option<Recipient> {
        let trust = self.trust().get();
        let card = statement.mode().recipient()?;
        card.verify(trust.home(), trust.revocations(), self.now()).ok()
    }
}

/// Whoever asked a ceremony that has just gone.
pub(super) fn gone() -> Problem {
    Code::Busy.because("the ceremony has just ended, or the service is stopping")
}
