//! The embassy: what `chancery serve` runs.
//!
//! Trusts its TPM and its store as far as each proves itself; nobody who connects, beyond the role that home certified.
//! [`App`] is what every route sees; [`app`] makes the router, which tests call without a network. `accept.rs` puts it
//! behind TLS, `boot.rs` reads the embassy's directory and starts everything.

pub mod accept;
pub mod arena;
pub mod lease;
pub mod peer;
pub mod problem;
pub mod routes;
pub mod tls;
pub mod trust;

use std::sync::Arc;

use axum::{Router, middleware};

use crate::{
    hardware::MachineTpm,
    protocol::{certificate::UnixTime, ids::EmbassyName},
    service::trust::{Clock, InForce},
    store::Store,
};

/// What every route sees.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    parts: Parts,
}

/// What an [`App`] is made of. Each is opened, read and checked before.
pub struct Parts {
    /// Which embassy this is.
    pub embassy: EmbassyName,
    /// Charter, home's certificate and list.
    pub trust: Arc<InForce>,
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
        Self(Arc::new(Inner { parts }))
    }

    /// Which embassy this is.
    pub fn embassy(&self) -> &EmbassyName {
        &self.0.parts.embassy
    }

    /// What judgements go by.
    pub fn trust(&self) -> &Arc<InForce> {
        &self.0.parts.trust
    }

    /// The wall clock.
    pub fn now(&self) -> UnixTime {
        (self.0.parts.clock)()
    }

    /// What outlives the process.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.parts.store
    }

    /// Asks the TPM, off the threads that serve: a TPM takes its time.
    ///
    /// # Errors
    /// [`problem::Code::Tpm`].
    pub async fn machine<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&(dyn MachineTpm + Send + Sync)) -> Result<T, crate::hardware::TpmError> + Send + 'static,
    ) -> Result<T, problem::Problem> {
        let machine = Arc::clone(&self.0.parts.machine);
        match tokio::task::spawn_blocking(move || ask(machine.as_ref())).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(problem::Code::Internal.because("a call to the TPM ended in a fault of chancery's own")),
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
