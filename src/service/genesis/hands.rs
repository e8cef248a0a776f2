//! A genesis as the driver sees it: a board to which posts are added, and the embassy's hands for what it orders.
//!
//! The rules are `protocol::ceremony::genesis`'s, the order of receiving, saving and doing is `drive.rs`'s. One order is with
//! the TPM at a time; meanwhile messages are heard and everybody can look.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use futures_util::future::BoxFuture;
use tokio::{sync::watch, task::JoinError};

use crate::{
    protocol::{
        ceremony::genesis::{self, Genesis, Out, Post, Reply, Status},
        charter::VerifiedCharter,
        ids::EmbassyName,
        roll::Entry,
        wire::Document,
    },
    service::{
        boot::charter_key,
        directory::{CHARTERS, Directory},
        drive,
        genesis::{FoundingError, Provisioning},
        trust::Clock,
    },
    store::{Batch, Key, Kind, MAX_ROWS, Put, Store, StoreError},
};

/// The board's posts, encoded, in order.
pub(super) type Posts = Arc<Vec<Arc<Vec<u8>>>>;

/// What a genesis's orders need, and what came of the last.
pub(super) struct Hands {
    pub(super) embassy: EmbassyName,
    pub(super) clock: Clock,
    pub(super) store: Arc<dyn Store>,
    pub(super) machine: Arc<Mutex<Box<dyn Provisioning>>>,
    pub(super) directory: Directory,
    /// All charters, the completed one too once it is in force.
    pub(super) chain: Arc<RwLock<Vec<VerifiedCharter>>>,
    pub(super) founded: Arc<watch::Sender<bool>>,
    /// The board, once the step that is being made is saved.
    pub(super) posts: Posts,
    /// Whether an order is under way.
    pub(super) busy: bool,
}

/// What happens.
#[derive(Debug)]
pub(super) enum Event {
    /// To the genesis itself.
    Came(genesis::Event),
    /// Somebody looks: what failed for reasons that pass is tried again; sessions that grew too old are made anew.
    Look,
}

/// What is done with the TPM.
type Work = Box<dyn FnOnce(&mut dyn Provisioning) -> genesis::Event + Send>;

/// What everybody may see.
#[derive(Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) status: Status,
    pub(super) posts: Posts,
    /// Whether an order is under way, whose result is the next news.
    pub(super) busy: bool,
}

fn post_key(number: u64) -> Key {
    Key::new(Kind::Genesis, format!("post/{number:010}"))
}

/// Reads the board that was kept.
pub(super) async fn read(
    store: &dyn Store,
    charter: &VerifiedCharter,
    embassy: &EmbassyName,
) -> Result<(Genesis, Posts), FoundingError> {
    let (mut posts, mut after): (Vec<Arc<Vec<u8>>>, Option<String>) = (Vec::new(), None);
    loop {
        let rows = store.list(Kind::Genesis, after.as_deref(), MAX_ROWS).await?;
        let Some((last, _)) = rows.last() else { break };
        after = Some(last.clone());
        posts.extend(rows.into_iter().map(|(_, record)| Arc::new(record.bytes)));
    }
    let read: Vec<Post> = posts.iter().filter_map(|bytes| Post::decode(bytes).ok()).collect();
    let (genesis, passed_over) = Genesis::read(charter.clone(), embassy, &read)?;
    if passed_over > 0 || read.len() != posts.len() {
        tracing::warn!(passed_over, "some posts of the board do not hold under the charter in force");
    }
    Ok((genesis, Arc::new(posts)))
}

impl Hands {
    /// How a step is stored: what is new on the board behind what stands there.
    pub(super) fn stored(&mut self, step: genesis::Step) -> drive::Step<Self> {
        let genesis::Step { next, posts, entries, outbox } = step;
        let first = u64::try_from(self.posts.len()).unwrap_or(u64::MAX);
        let posts: Vec<Arc<Vec<u8>>> = posts.iter().map(|post| Arc::new(post.encode())).collect();
        let puts = posts.iter().zip(first..).map(|(post, number)| Put {
            key: post_key(number),
            expected: None,
            bytes: post.as_ref().clone(),
        });
        let (puts, at) = (puts.collect(), (self.clock)());
        let entries = entries.into_iter().map(|(by, act)| Entry { at, by, act }.encode()).collect();
        Arc::make_mut(&mut self.posts).extend(posts);
        drive::Step { next, puts, entries, outbox }
    }

    /// What somebody's look is to a genesis.
    fn look(&self, state: &Genesis) -> Option<genesis::Event> {
        match state {
            // Its result is on the way.
            _ if self.busy => None,
            Genesis::Collecting(_) if self.is_stale() => Some(genesis::Event::Expired),
            Genesis::AwaitingOffer(_) | Genesis::Ordering(_) | Genesis::AwaitingKeys(_) => Some(genesis::Event::Poked),
            _ => None,
        }
    }

    fn is_stale(&self) -> bool {
        // Who has the machine is about to say what came of it.
        self.machine.try_lock().is_ok_and(|machine| machine.is_stale())
    }
}

impl drive::Kind for Hands {
    type State = Genesis;
    type Event = Event;
    type Out = Out;
    type Reply = Reply;
    type Done = Option<genesis::Event>;
    type View = Seen;

    fn name(&self) -> String {
        format!("the genesis of {}", self.embassy)
    }

    /// The board's own judgement, off the threads that serve: a key generation's messages take their time.
    async fn step(&mut self, state: Genesis, event: Event) -> Result<(drive::Step<Self>, Reply), JoinError> {
        let event = match event {
            Event::Came(event) => Some(event),
            Event::Look => self.look(&state),
        };
        let Some(event) = event else {
            let step = drive::Step { next: state, puts: Vec::new(), entries: Vec::new(), outbox: Vec::new() };
            return Ok((step, Reply::AlreadyAccepted));
        };
        let own = !matches!(event, genesis::Event::Said { .. });
        let (step, reply) = tokio::task::spawn_blocking(move || state.on(event)).await?;
        if let Reply::Refused(refusal) = &reply
            && own
        {
            tracing::error!(%refusal, "what the TPM gave was refused");
        }
        Ok((self.stored(step), reply))
    }

    async fn perform(&mut self, state: &Genesis, out: Out) -> Option<BoxFuture<'static, Self::Done>> {
        self.busy = true;
        let (machine, board) = (Arc::clone(&self.machine), state.board().clone());
        let work: Work = match (out, state) {
            (Out::Offer { number, registers }, _) => Box::new(move |machine| machine.offer(number, registers)),
            (Out::Order { approvals }, _) => Box::new(move |machine| machine.order(&approvals)),
            (Out::MakeKeys, _) => Box::new(move |machine| machine.make_keys(&board)),
            (Out::Founded, Genesis::Founded(founded)) => return Some(self.found(founded.charter().clone())),
            (Out::Founded, _) => {
                self.busy = false;
                return None;
            }
        };
        Some(Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || {
                work(machine.lock().unwrap_or_else(PoisonError::into_inner).as_mut())
            });
            done.await
                // The next look asks again.
                .inspect_err(|fault| tracing::error!(%fault, "a call to the TPM ended in a fault of chancery's own"))
                .ok()
        }))
    }

    fn came(&mut self, done: Self::Done) -> Option<Event> {
        self.busy = false;
        done.map(Event::Came)
    }

    /// That the charter is in force is told until it is done; everything else waits until somebody looks.
    fn tick(&self, state: &Genesis) -> Option<Event> {
        let told = self.busy || *self.founded.borrow();
        (matches!(state, Genesis::Founded(_)) && !told).then_some(Event::Came(genesis::Event::Poked))
    }

    fn is_over(_: &Genesis) -> bool {
        // Also when the charter is in force: who comes late is told so, until the service goes on as an embassy.
        false
    }

    fn view(&self, state: &Genesis) -> Seen {
        Seen { status: state.status(), posts: Arc::clone(&self.posts), busy: self.busy }
    }
}

impl Hands {
    /// Remembers the completed charter, in the store and beside the others, and tells.
    fn found(&self, charter: VerifiedCharter) -> BoxFuture<'static, Option<genesis::Event>> {
        let (store, chain, founded) = (Arc::clone(&self.store), Arc::clone(&self.chain), Arc::clone(&self.founded));
        let version = charter.charter().parts().version;
        let path: PathBuf = self.directory.path(CHARTERS).join(format!("{version:06}.charter"));
        Box::pin(async move {
            let bytes = charter.signed().encode();
            let put = Put { key: charter_key(version), expected: None, bytes: bytes.clone() };
            match store.commit(Batch { puts: vec![put], entries: Vec::new() }).await {
                Ok(_) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => {
                    tracing::error!(%error, version, "the completed charter is not stored yet; it will be tried again");
                    return None;
                }
            }
            if !path.exists()
                && let Err(error) = std::fs::write(&path, &bytes)
            {
                tracing::warn!(%error, path = %path.display(), "the completed charter is in the store, and not in this file");
            }
            let mut chain = chain.write().unwrap_or_else(PoisonError::into_inner);
            if chain.iter().all(|known| known.charter().parts().version != version) {
                chain.push(charter);
            }
            drop(chain);
            tracing::info!(version, "the completed charter is in force; home can enrol the TPM's identity key now");
            founded.send_replace(true);
            None
        })
    }
}
