//! Ceremonies that a statement opens, as the driver sees them: one record each, replaced by compare-and-swap, and the embassy's
//! hands for what they order.
//!
//! The rules are `protocol::ceremony`'s, the order of receiving, saving and doing is `drive.rs`'s. What stands here keeps the
//! parked sessions between an offer and its opening, and forgets them when the ceremony or the TPM says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use tokio::task::JoinError;

use crate::{
    client::ceremonies::CeremonyView,
    hardware::ParkedCommand,
    protocol::{
        ceremony::{self, Ceremony, Context, Event, Material, Out, Reply, Trouble},
        dataset_version::VerifiedVersion,
        hash::Hash,
        ids::CeremonyId,
        recipient::Recipient,
        statement::{SignedStatement, Statement},
        wire::Document,
    },
    service::{
        App, arena, drive,
        driver::{perform, view::view},
    },
    store::{Key, Kind, Put},
};

/// Where a ceremony is kept.
pub(super) fn key(id: &CeremonyId) -> Key {
    Key::new(Kind::Ceremony, id.to_string())
}

/// What a ceremony's orders need.
pub(super) struct Hands {
    app: App,
    id: CeremonyId,
    versions: Arc<Vec<VerifiedVersion>>,
    /// The record's version in the store, and its bytes, once the step that is being made is saved.
    saved: (u64, Vec<u8>),
    /// Sessions that are parked, by attempt.
    parked: BTreeMap<u32, Vec<ParkedCommand>>,
    /// Attempts whose sessions are dropped, also those that come back later.
    forgotten: BTreeSet<u32>,
    /// When somebody last sent something.
    asked: Instant,
}

/// What comes back from an order.
pub(super) struct Done {
    attempt: u32,
    /// The sessions that are still good.
    parked: Vec<ParkedCommand>,
    event: Event,
}

impl Hands {
    /// For a ceremony whose record has this version and these bytes.
    pub(super) fn new(app: App, id: CeremonyId, versions: Arc<Vec<VerifiedVersion>>, saved: (u64, Vec<u8>)) -> Self {
        let (parked, forgotten, asked) = (BTreeMap::new(), BTreeSet::new(), Instant::now());
        Self { app, id, versions, saved, parked, forgotten, asked }
    }

    /// How a step is stored. Entries go with the record, changed or not: so a commit in doubt is found by its version.
    pub(super) fn stored(&mut self, step: ceremony::Step<Ceremony>) -> drive::Step<Self> {
        let ceremony::Step { next, entries, outbox } = step;
        let record = next.record();
        let entries: Vec<Vec<u8>> = entries.iter().map(Document::encode).collect();
        let mut puts = Vec::new();
        if !entries.is_empty() || record != self.saved.1 {
            puts.push(Put { key: key(&self.id), expected: Some(self.saved.0), bytes: record.clone() });
            self.saved = (self.saved.0.saturating_add(1), record);
        }
        drive::Step { next, puts, entries, outbox }
    }
}

impl drive::Kind for Hands {
    type State = Ceremony;
    type Event = Event;
    type Out = Out;
    type Reply = Reply;
    type Done = Done;
    type View = CeremonyView;

    fn name(&self) -> String {
        self.id.to_string()
    }

    /// The ceremony's own judgement, off the threads that serve: some milliseconds for a contribution.
    async fn step(&mut self, state: Ceremony, event: Event) -> Result<(drive::Step<Self>, Reply), JoinError> {
        match event {
            // Whatever was parked is gone; what comes back of it will find nothing.
            Event::Restarted => self.parked.clear(),
            Event::Contribution(_) | Event::Denial(_) | Event::Stop(_) => self.asked = Instant::now(),
            _ => {}
        }
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
        let (step, reply) = judged.await?;
        Ok((self.stored(step), reply))
    }

    async fn perform(&mut self, state: &Ceremony, out: Out) -> Option<BoxFuture<'static, Done>> {
        match out {
            Out::MakeOffer { statement, attempt } => Some(self.make_offer(*statement, attempt)),
            Out::Open { attempt, offer, material } => Some(self.open(state, attempt, offer, *material)),
            Out::Forget { attempt } => {
                self.parked.remove(&attempt);
                self.forgotten.insert(attempt);
                None
            }
            Out::Revoke => {
                self.app.revoke(self.id).await;
                None
            }
            // What is shown is news by itself.
            Out::Notify => None,
        }
    }

    fn came(&mut self, done: Done) -> Option<Event> {
        if !done.parked.is_empty() && !self.forgotten.contains(&done.attempt) {
            self.parked.insert(done.attempt, done.parked);
        }
        Some(done.event)
    }

    fn tick(&self, _: &Ceremony) -> Option<Event> {
        Some(Event::Tick)
    }

    fn is_over(state: &Ceremony) -> bool {
        !state.is_open()
    }

    fn view(&self, state: &Ceremony) -> CeremonyView {
        view(state, &self.app.custody().facts, self.app.has_lease(self.id))
    }
}

impl Hands {
    fn make_offer(&mut self, statement: SignedStatement, attempt: u32) -> BoxFuture<'static, Done> {
        self.forgotten.remove(&attempt);
        let (tpm, custody, versions) = (self.app.tpm(), self.app.custody(), Arc::clone(&self.versions));
        Box::pin(async move {
            let made = tokio::task::spawn_blocking(move || {
                perform::make_offer(tpm.as_ref(), &custody.facts, &versions, statement, attempt)
            });
            let made = made.await.unwrap_or_else(|_| Err(perform::NoOffer::fault()));
            // Where the ceremony is gone, the sessions are given back by dropping them.
            let (parked, event) = made.unwrap_or_else(|no| (Vec::new(), no.event(attempt)));
            Done { attempt, parked, event }
        })
    }

    fn open(&mut self, state: &Ceremony, attempt: u32, offer: Hash, material: Material) -> BoxFuture<'static, Done> {
        let parked = self.parked.remove(&attempt).unwrap_or_default();
        let (app, versions, id, asked) = (self.app.clone(), Arc::clone(&self.versions), self.id, self.asked);
        // The statement's card was judged again for this very step.
        let to = statement_of(state).mode().recipient().cloned();
        Box::pin(async move {
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
            Done { attempt, parked, event }
        })
    }
}

/// What a ceremony is about.
fn statement_of(ceremony: &Ceremony) -> &Statement {
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
