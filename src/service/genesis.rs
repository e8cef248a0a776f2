//! The founding of an embassy: what `chancery serve` does before the charter names this embassy's machine (protocol.md §19).
//!
//! It relays what officials say, has the TPM do what they approve, and trusts nobody. One thing happens at a time, in the
//! order receive, step, save, do. Its own certificate hangs on a software key that home certified for days; the TPM's identity
//! key takes over when the completed charter is in force and home has enrolled it.

mod machine;
mod routes;
pub mod start;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex as BlockingMutex, PoisonError},
};

use axum::{Router, middleware};
use tokio::sync::{Mutex, watch};

pub use machine::Machine;

use crate::{
    client::genesis::{GenesisView, Heard},
    protocol::{
        ceremony::genesis::{BoardError, Event, Genesis, Message, Out, Post, Refusal, Reply, STEPS, Step},
        certificate::UnixTime,
        charter::VerifiedCharter,
        ids::{EmbassyName, OfficialName},
        roll::Entry,
        wire::Document,
    },
    service::{
        boot::charter_key,
        directory::{CHARTERS, Directory},
        peer::{Door, Peer, gate},
        policy::{Act, Asker, Place, Policy, Question},
        problem::{Code, Problem},
        routes::{bounded, no_such_method, no_such_path},
        trust::{Clock, InForce},
    },
    store::{Batch, Key, Kind, MAX_ROWS, Put, Store, StoreError},
};

/// Why a founding cannot begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FoundingError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The charter.
    #[error(transparent)]
    Board(#[from] BoardError),
}

/// What a founding is made of.
pub struct FoundingParts {
    /// Every charter of the network up to the one in force.
    pub chain: Vec<VerifiedCharter>,
    /// The embassy.
    pub embassy: EmbassyName,
    /// Charter, home's certificate and list, for who may connect.
    pub trust: Arc<InForce>,
    /// The wall clock.
    pub clock: Clock,
    /// What outlives the process.
    pub store: Arc<dyn Store>,
    /// Who may ask what: the policy that the charter names.
    pub policy: Policy,
    /// The TPM.
    pub machine: Machine,
    /// Where the completed charter is put.
    pub directory: Directory,
}

/// A founding that goes on.
#[derive(Clone)]
pub struct Founding(Arc<Inner>);

struct Inner {
    embassy: EmbassyName,
    trust: Arc<InForce>,
    clock: Clock,
    store: Arc<dyn Store>,
    policy: Policy,
    machine: Arc<BlockingMutex<Machine>>,
    directory: Directory,
    relay: Mutex<Relay>,
    founded: watch::Sender<bool>,
}

struct Relay {
    chain: Vec<VerifiedCharter>,
    genesis: Genesis,
    posts: Vec<Arc<Vec<u8>>>,
}

impl std::fmt::Debug for Founding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Founding({})", self.0.embassy)
    }
}

impl Door for Founding {
    fn trust(&self) -> &Arc<InForce> {
        &self.0.trust
    }

    fn now(&self) -> UnixTime {
        (self.0.clock)()
    }
}

fn post_key(number: u64) -> Key {
    Key::new(Kind::Genesis, format!("post/{number:010}"))
}

impl Founding {
    /// Reads the board and takes up where it ends.
    ///
    /// # Errors
    /// [`FoundingError`].
    pub async fn open(parts: FoundingParts) -> Result<Self, FoundingError> {
        let FoundingParts { chain, embassy, trust, clock, store, policy, machine, directory } = parts;
        let (genesis, posts) = read(store.as_ref(), &trust.get().charter().clone(), &embassy).await?;
        let founding = Self(Arc::new(Inner {
            embassy,
            trust,
            clock,
            store,
            policy,
            machine: Arc::new(BlockingMutex::new(machine)),
            directory,
            relay: Mutex::new(Relay { chain, genesis: genesis.clone(), posts }),
            founded: watch::Sender::new(false),
        }));
        let mut relay = founding.0.relay.lock().await;
        // What could not be saved or done now is tried again when somebody looks.
        if let Err(problem) = founding.go(&mut relay, genesis.wake()).await {
            tracing::warn!(%problem, "the founding waits");
        }
        drop(relay);
        Ok(founding)
    }

    /// Asks the access policy whether a peer may do something.
    ///
    /// # Errors
    /// A [`Problem`] that names the policy, who may, and what to do.
    pub fn ask(&self, peer: &Peer, act: Act<'_>) -> Result<(), Problem> {
        let trust = self.0.trust.get();
        let charter = trust.charter().charter();
        let who = Asker::new(peer.role(), peer.name(), charter);
        let unknown = || Code::WrongMode.because("the charter in force does not name this embassy");
        let place = Place::of(&self.0.embassy, charter).ok_or_else(unknown)?;
        let permitted = self.0.policy.ask(&Question { who: &who, act, place: &place })?;
        tracing::debug!(act = permitted.act(), policy = permitted.policy(), who = %who, "permitted");
        Ok(())
    }

    /// The embassy.
    pub fn embassy(&self) -> &EmbassyName {
        &self.0.embassy
    }

    /// What outlives the process.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// The charter in force: the completed one once it is.
    pub async fn charter(&self) -> VerifiedCharter {
        let relay = self.0.relay.lock().await;
        relay.chain.last().cloned().unwrap_or_else(|| self.0.trust.get().charter().clone())
    }

    /// All charters.
    pub async fn chain(&self) -> Vec<VerifiedCharter> {
        self.0.relay.lock().await.chain.clone()
    }

    /// Tells when the completed charter is in force.
    pub fn founded(&self) -> watch::Receiver<bool> {
        self.0.founded.subscribe()
    }

    /// Where it stands, for people.
    ///
    /// # Errors
    /// [`Problem`] where something that had to be saved could not be.
    pub async fn view(&self) -> Result<GenesisView, Problem> {
        let mut relay = self.0.relay.lock().await;
        self.refresh(&mut relay).await?;
        let status = relay.genesis.status();
        Ok(GenesisView {
            embassy: self.0.embassy.to_string(),
            step: status.step,
            steps: STEPS,
            waiting: status.waiting,
            missing: status.missing.iter().map(ToString::to_string).collect(),
            notes: status.notes,
            next: status.next.to_owned(),
            posts: u64::try_from(relay.posts.len()).unwrap_or(u64::MAX),
        })
    }

    /// Posts from a number on, and how many there are.
    ///
    /// # Errors
    /// [`Problem`] where something that had to be saved could not be.
    pub async fn posts(&self, from: u64, bytes_max: usize) -> Result<(Vec<Arc<Vec<u8>>>, u64), Problem> {
        let mut relay = self.0.relay.lock().await;
        self.refresh(&mut relay).await?;
        let mut room = bytes_max;
        let later = relay.posts.iter().skip(usize::try_from(from).unwrap_or(usize::MAX));
        let page = later.take_while(|post| {
            let fits = room > 0;
            room = room.saturating_sub(post.len());
            fits
        });
        Ok((page.cloned().collect(), u64::try_from(relay.posts.len()).unwrap_or(u64::MAX)))
    }

    /// Hears what an official's machine brings.
    ///
    /// # Errors
    /// [`Problem`] with the reason.
    pub async fn hear(&self, from: OfficialName, message: Message) -> Result<Heard, Problem> {
        let mut relay = self.0.relay.lock().await;
        let (step, reply) = relay.genesis.clone().on(Event::Said { from, message });
        self.go(&mut relay, step).await?;
        let size = u64::try_from(relay.posts.len()).unwrap_or(u64::MAX);
        match reply {
            Reply::Accepted => Ok(Heard { new: true, size }),
            Reply::AlreadyAccepted => Ok(Heard { new: false, size }),
            Reply::Refused(refusal) => Err(problem(&refusal)),
        }
    }

    /// What failed for reasons that pass is tried again; sessions that grew too old are made anew.
    async fn refresh(&self, relay: &mut Relay) -> Result<(), Problem> {
        let event = match &relay.genesis {
            Genesis::Collecting(_) if self.machine().is_stale() => Event::Expired,
            Genesis::AwaitingOffer(_) | Genesis::Ordering(_) | Genesis::AwaitingKeys(_) => Event::Poked,
            _ => return Ok(()),
        };
        let (step, _) = relay.genesis.clone().on(event);
        self.go(relay, step).await
    }

    fn machine(&self) -> std::sync::MutexGuard<'_, Machine> {
        self.0.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves, then does; what comes of it is the next event.
    async fn go(&self, relay: &mut Relay, step: Step) -> Result<(), Problem> {
        let mut steps = std::collections::VecDeque::from([step]);
        while let Some(step) = steps.pop_front() {
            self.save(relay, &step).await?;
            relay.genesis = step.next;
            for out in step.outbox {
                if matches!(out, Out::Founded) {
                    self.found(relay).await?;
                    continue;
                }
                let event = self.act(out, &relay.genesis).await?;
                let (next, reply) = relay.genesis.clone().on(event);
                if let Reply::Refused(refusal) = reply {
                    tracing::error!(%refusal, "what the TPM gave was refused");
                }
                steps.push_back(next);
            }
        }
        Ok(())
    }

    async fn act(&self, out: Out, genesis: &Genesis) -> Result<Event, Problem> {
        let (machine, board) = (Arc::clone(&self.0.machine), genesis.board().clone());
        let done = tokio::task::spawn_blocking(move || {
            let mut machine = machine.lock().unwrap_or_else(PoisonError::into_inner);
            match out {
                Out::Offer { number, registers } => machine.offer(number, registers),
                Out::Order { approvals } => machine.order(&approvals),
                Out::MakeKeys => machine.make_keys(&board),
                Out::Founded => Event::Poked,
            }
        });
        done.await.map_err(|_| Code::Internal.because("a call to the TPM ended in a fault of chancery's own"))
    }

    async fn save(&self, relay: &mut Relay, step: &Step) -> Result<(), Problem> {
        if step.posts.is_empty() && step.entries.is_empty() {
            return Ok(());
        }
        let first = u64::try_from(relay.posts.len()).unwrap_or(u64::MAX);
        let bytes: Vec<Arc<Vec<u8>>> = step.posts.iter().map(|post| Arc::new(post.encode())).collect();
        let puts = bytes.iter().zip(first..).map(|(bytes, number)| Put {
            key: post_key(number),
            expected: None,
            bytes: bytes.as_ref().clone(),
        });
        let at = self.now();
        let entries =
            step.entries.iter().map(|(by, act)| Entry { at, by: by.clone(), act: act.clone() }.encode()).collect();
        let saved = self.0.store.commit(Batch { puts: puts.collect(), entries }).await;
        match saved {
            Ok(_) => {
                relay.posts.extend(bytes);
                Ok(())
            }
            Err(error) => {
                // Nobody knows what the store holds now but the store.
                let charter = self.0.trust.get().charter().clone();
                if let Ok((genesis, posts)) = read(self.0.store.as_ref(), &charter, &self.0.embassy).await {
                    relay.genesis = genesis.wake().next;
                    relay.posts = posts;
                }
                Err(error.into())
            }
        }
    }

    /// Remembers the completed charter, in the store and beside the others.
    async fn found(&self, relay: &mut Relay) -> Result<(), Problem> {
        let Genesis::Founded(founded) = &relay.genesis else { return Ok(()) };
        let charter = founded.charter().clone();
        let version = charter.charter().parts().version;
        let bytes = charter.signed().encode();
        let put = Put { key: charter_key(version), expected: None, bytes: bytes.clone() };
        match self.0.store.commit(Batch { puts: vec![put], entries: Vec::new() }).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let path: PathBuf = self.0.directory.path(CHARTERS).join(format!("{version:06}.charter"));
        if !path.exists()
            && let Err(error) = std::fs::write(&path, &bytes)
        {
            tracing::warn!(%error, path = %path.display(), "the completed charter is in the store, and not in this file");
        }
        if relay.chain.iter().all(|known| known.charter().parts().version != version) {
            relay.chain.push(charter);
        }
        tracing::info!(version, "the completed charter is in force; home can enrol the TPM's identity key now");
        self.0.founded.send_replace(true);
        Ok(())
    }
}

async fn read(
    store: &dyn Store,
    charter: &VerifiedCharter,
    embassy: &EmbassyName,
) -> Result<(Genesis, Vec<Arc<Vec<u8>>>), FoundingError> {
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
    Ok((genesis, posts))
}

fn problem(refusal: &Refusal) -> Problem {
    let code = match refusal {
        Refusal::NotNow { .. } | Refusal::OtherOffer | Refusal::Answered(_) => Code::Late,
        Refusal::Full(_) => Code::Busy,
        _ => Code::Refused,
    };
    code.because(refusal)
}

/// Every path of a founding with its description.
pub(crate) fn routes() -> utoipa_axum::router::OpenApiRouter<Founding> {
    routes::routes()
}

/// The API of a founding.
pub fn app(founding: Founding) -> Router {
    let (router, _) = routes::routes().split_for_parts();
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn(bounded))
        .layer(middleware::from_fn_with_state(founding.clone(), gate::<Founding>))
        .with_state(founding)
}
