//! The founding of an embassy: what `chancery serve` does before the charter names this embassy's machine (protocol.md §19).
//!
//! It relays what officials say, has the TPM do what they approve, and trusts nobody. The driver of all ceremonies drives it
//! (`drive.rs`). While the TPM works, and while the store has trouble, whoever looks is shown what stands. Its own certificate hangs on a software key that home certified for days; the TPM's identity
//! key takes over when the completed charter is in force and home has enrolled it.

mod hands;
mod machine;
mod routes;
pub mod start;

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use axum::{Router, middleware};
use tokio::{sync::watch, task::JoinHandle};

pub use machine::{Machine, Provisioning};

use crate::{
    client::genesis::{GenesisView, Heard},
    protocol::{
        ceremony::genesis::{self as ceremony, BoardError, Message, Refusal, Reply, STEPS},
        certificate::UnixTime,
        charter::VerifiedCharter,
        ids::{EmbassyName, OfficialName},
        roll::Who,
    },
    service::{
        boot::reread_by,
        directory::Directory,
        drive::{End, Line, Task},
        genesis::hands::{Event, Hands, Seen},
        peer::{Door, Peer, gate},
        policy::{Act, Asker, Place, Policy, Question},
        problem::{Code, Problem},
        routes::{bounded, network::take_list, no_such_method, no_such_path},
        trust::{Clock, InForce},
    },
    store::{Store, StoreError},
};

/// How long a look waits for what it set going. Whatever the TPM and the store do, it is answered then.
const LOOK: Duration = Duration::from_secs(5);
/// How long the first offer may take before the founding serves without it.
const FIRST: Duration = Duration::from_secs(15);
/// Before the board is read again, where another process has changed it.
const PAUSE: Duration = Duration::from_secs(1);

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
    pub machine: Box<dyn Provisioning>,
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
    chain: Arc<RwLock<Vec<VerifiedCharter>>>,
    founded: Arc<watch::Sender<bool>>,
    line: Line<Hands>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
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

impl Founding {
    /// Reads the board and takes up where it ends.
    ///
    /// # Errors
    /// [`FoundingError`].
    pub async fn open(parts: FoundingParts) -> Result<Self, FoundingError> {
        let FoundingParts { chain, embassy, trust, clock, store, policy, machine, directory } = parts;
        let charter = trust.get().charter().clone();
        let (genesis, posts) = hands::read(store.as_ref(), &charter, &embassy).await?;
        let (chain, founded) = (Arc::new(RwLock::new(chain)), Arc::new(watch::Sender::new(false)));
        let mut hands = Hands {
            embassy: embassy.clone(),
            clock: Arc::clone(&clock),
            store: Arc::clone(&store),
            machine: Arc::new(Mutex::new(machine)),
            directory,
            chain: Arc::clone(&chain),
            founded: Arc::clone(&founded),
            posts,
            busy: false,
        };
        let first = hands.stored(genesis.wake());
        let (stop, stopped) = watch::channel(false);
        let (task, line) = Task::new(hands, &first.next, Arc::clone(&store), stopped.clone());
        let task = Mutex::new(Some(tokio::spawn(drive(task, first, charter, stopped))));
        let founding = Self(Arc::new(Inner { embassy, trust, clock, store, policy, chain, founded, line, stop, task }));
        // What is set going now is there when the first official looks, unless the TPM or the store takes its time.
        let _ = tokio::time::timeout(FIRST, founding.look()).await;
        Ok(founding)
    }

    /// Ends its task, and with it the hold on the TPM. What was said is saved, or was never answered.
    pub async fn close(&self) {
        self.0.stop.send_replace(true);
        let task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(fault) = task.await
        {
            tracing::error!(%fault, "the founding's task ended in a fault of chancery's own");
        }
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

    /// Reads the revocation list in the directory again: an official whose certificate home has revoked is let in no longer.
    pub async fn reread(&self, directory: &Directory) {
        let Inner { store, trust, .. } = self.0.as_ref();
        let take = |list: Vec<u8>| async move { take_list(store.as_ref(), trust, &list, Who::Home, self.now()).await };
        reread_by(directory, take).await;
    }

    /// What outlives the process.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// The charter in force: the completed one once it is.
    pub fn charter(&self) -> VerifiedCharter {
        self.chain().pop().unwrap_or_else(|| self.0.trust.get().charter().clone())
    }

    /// All charters.
    pub fn chain(&self) -> Vec<VerifiedCharter> {
        self.0.chain.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells when the completed charter is in force.
    pub fn founded(&self) -> watch::Receiver<bool> {
        self.0.founded.subscribe()
    }

    /// Where it stands, for people.
    pub async fn view(&self) -> GenesisView {
        let Seen { status, posts, .. } = self.look().await;
        GenesisView {
            embassy: self.0.embassy.to_string(),
            step: status.step,
            steps: STEPS,
            waiting: status.waiting,
            missing: status.missing.iter().map(ToString::to_string).collect(),
            notes: status.notes,
            next: status.next.to_owned(),
            posts: size(&posts),
        }
    }

    /// Posts from a number on, and how many there are.
    pub async fn posts(&self, from: u64, bytes_max: usize) -> (Vec<Arc<Vec<u8>>>, u64) {
        let posts = self.look().await.posts;
        let mut room = bytes_max;
        let later = posts.iter().skip(usize::try_from(from).unwrap_or(usize::MAX));
        let page = later.take_while(|post| {
            let fits = room > 0;
            room = room.saturating_sub(post.len());
            fits
        });
        (page.cloned().collect(), size(&posts))
    }

    /// Hears what an official's machine brings.
    ///
    /// # Errors
    /// [`Problem`] with the reason.
    pub async fn hear(&self, from: OfficialName, message: Message) -> Result<Heard, Problem> {
        let (reply, seen) = self.0.line.ask(Event::Came(ceremony::Event::Said { from, message })).await?;
        let size = size(&seen.posts);
        match reply {
            Reply::Accepted => Ok(Heard { new: true, size }),
            Reply::AlreadyAccepted => Ok(Heard { new: false, size }),
            Reply::Refused(refusal) => Err(problem(&refusal)),
        }
    }

    /// Shows what stands, and, where that is soon enough, what came of looking.
    async fn look(&self) -> Seen {
        let set_going = async {
            let mut shown = self.0.line.watch();
            if self.0.line.ask(Event::Look).await.is_ok() {
                let _ = shown.wait_for(|seen| !seen.busy).await;
            }
        };
        let _ = tokio::time::timeout(LOOK, set_going).await;
        self.0.line.seen()
    }
}

/// Drives the genesis until the founding is closed. Where it was lost, the board is read again: nobody knows what the store
/// holds but the store.
async fn drive(
    mut task: Task<Hands>,
    mut first: crate::service::drive::Step<Hands>,
    charter: VerifiedCharter,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        if let End::Over | End::Stopped = task.run(first).await {
            return;
        }
        first = loop {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
            let hands = &mut task.kind;
            match hands::read(hands.store.as_ref(), &charter, &hands.embassy).await {
                Ok((genesis, posts)) => {
                    (hands.posts, hands.busy) = (posts, false);
                    break hands.stored(genesis.wake());
                }
                Err(error) => tracing::error!(%error, "the board cannot be read; it will be tried again"),
            }
        };
    }
}

fn size(posts: &hands::Posts) -> u64 {
    u64::try_from(posts.len()).unwrap_or(u64::MAX)
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
