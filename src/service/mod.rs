//! The embassy: what `chancery serve` runs.
//!
//! Trusts its TPM and its store as far as each proves itself; nobody who connects, beyond the role that home certified.
//! [`App`] is what every route sees; [`app`] makes the router, which tests call without a network. `accept.rs` puts it
//! behind TLS, `boot.rs` reads the embassy's directory and starts everything.

pub mod accept;
pub mod arena;
pub mod boot;
pub mod directory;
pub mod lease;
pub mod peer;
pub mod policy;
pub mod problem;
pub mod routes;
pub mod tls;
pub mod trust;
mod versions;

use std::sync::{Arc, PoisonError, RwLock};

use axum::{Router, middleware};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    hardware::{MachineTpm, TpmError},
    protocol::{
        certificate::{Role, UnixTime},
        charter::{CharterError, VerifiedCharter},
        facts::CustodyFacts,
        ids::EmbassyName,
        partial::PreparedQuorum,
        roll::{Act, Entry, Who},
        wire::Document,
    },
    service::{
        peer::Peer,
        problem::{Code, Problem},
        trust::{Clock, InForce, Trust},
        versions::Versions,
    },
    store::{Batch, Committed, Put, Store, StoreError},
};

/// What the charter in force says of this embassy's custody.
#[derive(Debug)]
pub struct Custody {
    /// The facts that everybody checks against.
    pub facts: CustodyFacts,
    /// The unseal quorum, prepared for combining.
    pub quorum: PreparedQuorum,
}

impl Custody {
    /// Reads it from a charter.
    ///
    /// # Errors
    /// [`CharterError::NotCompleted`] where the charter has no keys for this embassy.
    pub fn of(charter: &VerifiedCharter, embassy: &EmbassyName) -> Result<Self, CharterError> {
        let facts = charter.charter().facts(embassy)?;
        let quorum = PreparedQuorum::new(&facts.unseal().key);
        Ok(Self { facts, quorum })
    }
}

/// What every route sees.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    embassy: EmbassyName,
    trust: Arc<InForce>,
    clock: Clock,
    store: Arc<dyn Store>,
    machine: Arc<dyn MachineTpm + Send + Sync>,
    custody: RwLock<Arc<Custody>>,
    versions: Versions,
    turn: Mutex<()>,
}

/// What an [`App`] is made of. Each is opened, read and checked before.
pub struct Parts {
    /// Which embassy this is.
    pub embassy: EmbassyName,
    /// Charter, home's certificate and list.
    pub trust: Arc<InForce>,
    /// What the charter says of this embassy.
    pub custody: Custody,
    /// Where the wall clock is read.
    pub clock: Clock,
    /// What outlives the process.
    pub store: Arc<dyn Store>,
    /// The machine's side of the TPM.
    pub machine: Arc<dyn MachineTpm + Send + Sync>,
}

impl App {
    /// Takes what was opened.
    pub fn new(parts: Parts) -> Self {
        let Parts { embassy, trust, custody, clock, store, machine } = parts;
        let custody = RwLock::new(Arc::new(custody));
        let (versions, turn) = (Versions::default(), Mutex::new(()));
        Self(Arc::new(Inner { embassy, trust, clock, store, machine, custody, versions, turn }))
    }

    /// Which embassy this is.
    pub fn embassy(&self) -> &EmbassyName {
        &self.0.embassy
    }

    /// What judgements go by.
    pub fn trust(&self) -> &Arc<InForce> {
        &self.0.trust
    }

    /// What the charter in force says of this embassy.
    pub fn custody(&self) -> Arc<Custody> {
        Arc::clone(&self.0.custody.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The wall clock.
    pub fn now(&self) -> UnixTime {
        (self.0.clock)()
    }

    /// What outlives the process.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    pub(crate) fn versions(&self) -> &Versions {
        &self.0.versions
    }

    /// Waits for one's turn to change what is in force.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.0.turn.lock().await
    }

    /// What a next charter would say of this embassy. A charter that moves custody is for a service that starts anew, with
    /// the keys of that custody.
    pub(crate) fn custody_of(&self, next: &VerifiedCharter) -> Result<Custody, Problem> {
        let custody = Custody::of(next, self.embassy()).map_err(|error| Code::Refused.because(error))?;
        let now = self.custody();
        let (old, new) = (&now.facts, &custody.facts);
        if (old.generation(), old.machine()) == (new.generation(), new.machine()) {
            return Ok(custody);
        }
        Err(Code::WrongMode
            .because(
                "this charter moves the embassy's custody to other keys, and a running service has those of the last",
            )
            .who("the embassy's operator")
            .next("Stop the service, put the charter and the keys made for it into its directory, start it."))
    }

    /// Puts a charter in force that is saved.
    pub(crate) fn enforce(&self, trust: Trust, custody: Custody) {
        *self.0.custody.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(custody);
        self.versions().forget();
        self.trust().set(trust);
    }

    /// Makes records and acts durable together. What they are of takes effect afterwards, never before.
    ///
    /// # Errors
    /// The store's; after one for which [`StoreError::may_have_taken_effect`] holds, read again.
    pub async fn save(&self, puts: Vec<Put>, acts: Vec<(Who, Act)>) -> Result<Committed, StoreError> {
        let at = self.now();
        let entries = acts.into_iter().map(|(by, act)| Entry { at, by, act }.encode()).collect();
        self.store().commit(Batch { puts, entries }).await
    }

    /// The embassy itself, as the roll names it.
    pub fn itself(&self) -> Who {
        Who::Embassy(self.embassy().clone())
    }

    /// Whether a peer may do something.
    pub(crate) fn ask(&self, peer: &Peer, roles: &[Role]) -> Result<(), Problem> {
        peer.in_role(roles).map(drop)
    }

    /// Whether a peer may bring a version of a dataset.
    pub(crate) fn ask_take_dataset(
        &self,
        peer: &Peer,
        dataset: &crate::protocol::ids::DatasetName,
    ) -> Result<(), Problem> {
        let _ = dataset;
        peer.in_role(&[Role::DataOwner]).map(drop)
    }

    /// Asks the TPM, off the threads that serve: a TPM takes its time.
    ///
    /// # Errors
    /// [`Code::Tpm`].
    pub async fn machine<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&(dyn MachineTpm + Send + Sync)) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, Problem> {
        let machine = Arc::clone(&self.0.machine);
        match tokio::task::spawn_blocking(move || ask(machine.as_ref())).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Code::Internal.because("a call to the TPM ended in a fault of chancery's own")),
        }
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "App({})", self.embassy())
    }
}

/// The whole API. Every path of it, also one that is not there, is behind the gate (`peer.rs`): whoever is not certified
/// learns nothing but that.
pub fn app(state: App) -> Router {
    let (router, _) = routes::all().split_for_parts();
    router
        .fallback(routes::no_such_path)
        .method_not_allowed_fallback(routes::no_such_method)
        .layer(middleware::from_fn(routes::bounded))
        .layer(middleware::from_fn_with_state(state.clone(), peer::gate))
        .with_state(state)
}
