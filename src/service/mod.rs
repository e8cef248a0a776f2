//! The embassy: what `chancery serve` runs.
//!
//! Trusts its TPM and its store as far as each proves itself; nobody who connects, beyond the role that home certified.
//! [`App`] is what every route sees; [`app`] makes the router, which tests call without a network. `accept.rs` puts it
//! behind TLS, `boot.rs` reads the embassy's directory and starts everything.

pub mod accept;
pub mod arena;
pub mod boot;
pub mod directory;
mod drive;
mod driver;
pub mod genesis;
pub mod lease;
pub mod peer;
pub mod policy;
pub mod problem;
mod release;
pub mod routes;
pub mod tls;
pub mod trust;
mod versions;

use std::sync::{Arc, PoisonError, RwLock};

use axum::{Router, middleware};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    hardware::{CustodyTpm, MachineTpm, TpmError},
    protocol::{
        certificate::UnixTime,
        charter::{CharterError, VerifiedCharter},
        facts::CustodyFacts,
        ids::EmbassyName,
        partial::PreparedQuorum,
        roll::{Act, Entry, Who},
        wire::Document,
    },
    service::{
        driver::Driver,
        lease::keeper::Leases,
        peer::Peer,
        policy::{Act as Asked, Asker, Place, Policy, Question},
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

/// The embassy's TPM, for the quorum and for itself.
pub trait Tpm: CustodyTpm + MachineTpm + Send + Sync {}

impl<T: CustodyTpm + MachineTpm + Send + Sync> Tpm for T {}

/// What every route sees.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    embassy: EmbassyName,
    trust: Arc<InForce>,
    clock: Clock,
    store: Arc<dyn Store>,
    tpm: Arc<dyn Tpm>,
    policy: Policy,
    leases: Arc<Leases>,
    custody: RwLock<Arc<Custody>>,
    versions: Versions,
    driver: Driver,
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
    /// The TPM.
    pub tpm: Arc<dyn Tpm>,
    /// Who may ask what: the policy that the charter names.
    pub policy: Policy,
    /// The leases of this embassy.
    pub leases: Arc<Leases>,
}

impl App {
    /// Takes what was opened.
    pub fn new(parts: Parts) -> Self {
        let Parts { embassy, trust, custody, clock, store, tpm, policy, leases } = parts;
        let custody = RwLock::new(Arc::new(custody));
        let (versions, driver, turn) = (Versions::default(), Driver::default(), Mutex::new(()));
        Self(Arc::new(Inner { embassy, trust, clock, store, tpm, policy, leases, custody, versions, driver, turn }))
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

    /// The leases of this embassy.
    pub fn leases(&self) -> &Arc<Leases> {
        &self.0.leases
    }

    /// Who may ask what.
    pub fn policy(&self) -> &Policy {
        &self.0.policy
    }

    pub(crate) fn tpm(&self) -> Arc<dyn Tpm> {
        Arc::clone(&self.0.tpm)
    }

    pub(crate) fn driver(&self) -> &Driver {
        &self.0.driver
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
        self.policy().check_charter(next.charter()).map_err(|error| {
            Code::WrongMode
                .because(error)
                .who("the embassy's operator")
                .next("Stop the service, put that policy into the folder policy of its directory, start it.")
        })?;
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

    /// Asks the access policy whether a peer may do something.
    ///
    /// # Errors
    /// A [`Problem`] that names the policy, who may, and what to do.
    pub fn ask(&self, peer: &Peer, act: Asked<'_>) -> Result<(), Problem> {
        let trust = self.trust().get();
        let charter = trust.charter().charter();
        let who = Asker::new(peer.role(), peer.name(), charter);
        let unknown = || Code::WrongMode.because("the charter in force does not name this embassy");
        let place = Place::of(self.embassy(), charter).ok_or_else(unknown)?;
        let permitted = self.policy().ask(&Question { who: &who, act, place: &place })?;
        tracing::debug!(act = permitted.act(), policy = permitted.policy(), who = %who, "permitted");
        Ok(())
    }

    /// Asks the TPM, off the threads that serve: a TPM takes its time.
    ///
    /// # Errors
    /// [`Code::Tpm`].
    pub async fn machine<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Tpm) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, Problem> {
        let tpm = self.tpm();
        match tokio::task::spawn_blocking(move || ask(tpm.as_ref())).await {
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
        .layer(middleware::from_fn_with_state(state.clone(), peer::gate::<App>))
        .with_state(state)
}
