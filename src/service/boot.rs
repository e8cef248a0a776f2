//! From a directory and a TPM to a service that is ready, and the tasks that keep it so.
//!
//! The order is the argument: the charter's chain is checked and is not older than what was seen; the TPM that it names is
//! opened, with the keys that it names, and its pin names a charter of that chain; only then is anything signed, written or
//! served. What was read anew is durable before it is in force.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rand_core::OsRng;
use tokio::{net::TcpListener, sync::watch};

use crate::{
    hardware::{EmbassyTpm, MachineTpm, TpmAddress, TpmError},
    protocol::{
        charter::{Authority, ChainError, CharterError, SignedCharter, VerifiedCharter},
        hash::Hash,
        ids::{CharterAt, EmbassyName, NameError, SubjectName},
        paragraph::Reason,
        roll::{Act, Who},
        statement::Resets,
        wire::{Document, WireError},
    },
    service::{
        App, Custody, Parts, accept,
        arena::{Arena, ArenaError, CELLS, Protection},
        directory::{self, Directory, DirectoryError, Settings},
        lease::{
            clock::{Later, boot_clock},
            error::LeaseError,
            keeper::{self, Leases},
            rules::rules_in_force,
        },
        policy::PolicyError,
        tls::{Leaf, Leafing, Tls, TlsError},
        trust::{Clock, InForce, Trust, TrustError},
    },
    store::{Key, Kind, Put, Store, StoreError},
};

/// Between two looks at the embassy's certificate.
const LOOK: Duration = Duration::from_secs(30);

/// Why the service does not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// A file in the directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record in the store.
    #[error("the store holds {what} that does not read: {source}. Put back the newest backup of it")]
    Stored {
        /// Which.
        what: String,
        /// Why.
        source: WireError,
    },
    /// There is no charter.
    #[error("there is no charter in {path}. Put the network's charters there", path = path.display())]
    NoCharter {
        /// The folder.
        path: PathBuf,
    },
    /// A charter that is not in force.
    #[error("charter version {version}: {source}")]
    Chain {
        /// Which.
        version: u32,
        /// Why.
        source: ChainError,
    },
    /// The charter does not know this embassy, or has no keys for it.
    #[error("{0}. Check `embassy` in chancery.toml, and that the newest charter is there")]
    Charter(#[from] CharterError),
    /// The embassy's name.
    #[error("embassy: {0}")]
    Name(#[from] NameError),
    /// Home's certificate or list.
    #[error("{0}. Get home's certificate and newest revocation list from home")]
    Trust(#[from] TrustError),
    /// The keys are not made yet.
    #[error(
        "{path} is not there: the embassy has no keys yet. They are made when it is founded (docs/service.md)",
        path = path.display()
    )]
    NoKeys {
        /// Where they would be.
        path: PathBuf,
    },
    /// The TPM.
    #[error("{0}")]
    Tpm(#[from] TpmError),
    /// The disk shows less than the TPM was told of.
    #[error(
        "the quorum told this TPM of the charter {pin}, and no charter here is that one; the newest here is version {newest}. \
         The disk was put back to an older state: a backup, or somebody at this machine. Put the charters in force into the \
         folder charters (home and every official have them) and start again; if nobody here put back a backup, tell the officials \
         first",
        newest = newest.version
    )]
    RolledBack {
        /// What the TPM's charter pin holds.
        pin: Hash,
        /// The newest charter on the disk and in the store.
        newest: CharterAt,
    },
    /// The access policy.
    #[error("{0}. The policy that the charter names belongs into the folder policy of the directory")]
    Policy(#[from] PolicyError),
    /// The leases of an earlier process, or the memory for new ones.
    #[error("{0}")]
    Leases(#[from] LeaseError),
    /// The memory that keys lie in.
    #[error("{0}")]
    Arena(#[from] ArenaError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address.
    #[error("cannot listen on {address}: {source}. Choose another address with --listen, or end what has it")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A task of ours ended in a fault.
    #[error("a fault in chancery itself ended the start; report this")]
    Fault,
}

/// A service that can begin to serve.
pub struct Ready {
    /// What routes see.
    pub app: App,
    tls: Arc<Tls>,
    tpm: Arc<EmbassyTpm>,
    leafing: Leafing,
    clock: Clock,
    directory: Directory,
    bounds: accept::Bounds,
}

/// How long the start took, and what of it the TPM.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    tpm: Duration,
}

impl Taken {
    fn tpm<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let value = call();
        self.tpm += began.elapsed();
        value
    }
}

/// Reads the directory, opens the TPM, and makes the embassy's certificate.
///
/// # Errors
/// [`BootError`]; nothing was changed then but that charters and lists which hold are remembered.
pub async fn open(
    directory: &Directory,
    settings: &Settings,
    store: Arc<dyn Store>,
    clock: Clock,
) -> Result<Ready, BootError> {
    let began = Instant::now();
    let embassy = EmbassyName::new(&settings.embassy)?;
    let (charter, mut puts, mut acts) = charters(directory, store.as_ref()).await?;
    let (trust, newer) = trust(directory, store.as_ref(), charter.clone()).await?;
    if let Some(put) = newer {
        acts.push(Act::RevocationsTaken { number: trust.revocations().number(), list: Hash::of_bytes(trust.list()) });
        puts.push(put);
    }

    let policy = directory.policy()?;
    policy.check_charter(charter.charter())?;
    let custody = Custody::of(&charter, &embassy)?;
    let facts = custody.facts.clone();
    let keys = directory.keys()?.ok_or_else(|| BootError::NoKeys { path: directory.path(directory::KEYS) })?;
    let leafing = Leafing {
        embassy: SubjectName::new(embassy.as_str())?,
        authority: directory.authority()?,
        identity: facts.machine().identity_key,
        places: settings.places.clone(),
    };
    let address = TpmAddress::new(&settings.tcti);
    let (pinned, now) = (charter.clone(), clock());
    let opened = {
        let (leafing, trust) = (leafing.clone(), trust.clone());
        tokio::task::spawn_blocking(move || {
            let mut taken = Taken::default();
            let tpm = taken.tpm(|| EmbassyTpm::open_chartered(&address, &facts, &keys))?;
            let pin = taken.tpm(|| tpm.charter_pin())?;
            // protocol.md §12.10: not older than what the quorum told the TPM of. The TPM's objects are this network's: what the
            // charter says of them has just held.
            let told = pinned.find(&pin).ok_or_else(|| BootError::RolledBack { pin, newest: pinned.charter().at() })?;
            let leaf = taken.tpm(|| Leaf::issue_by_tpm(&leafing, &tpm, &trust, now, &mut OsRng))?;
            let clock = taken.tpm(|| tpm.clock())?;
            Ok::<_, BootError>((tpm, leaf, clock, taken, told.version))
        })
    };
    let (tpm, leaf, counts, taken, told) = opened.await.map_err(|_| BootError::Fault)??;
    let version = charter.charter().parts().version;
    if told != version {
        tracing::warn!(
            "charter version {version} is in force, and the TPM was told of version {told}: until the officials have it adopted \
             (chancery official open --adopt), this disk could be put back to that one"
        );
    }
    let boot = Act::Boot {
        charter: charter.hash(),
        resets: Resets { reset_count: counts.reset_count, restart_count: counts.restart_count },
        tls_key: leaf.key_hash(),
    };
    let tpm = Arc::new(tpm);
    let trust = Arc::new(InForce::new(trust));
    let tls = Arc::new(Tls::new(Arc::clone(&trust), leaf)?);
    let arena = Arena::new(CELLS)?;
    match arena.protection() {
        Protection::SecretMemory => tracing::info!("keys of leases lie in {}", arena.protection()),
        Protection::LockedPages => tracing::warn!(
            "keys of leases lie in {}: whoever may read this process's memory can read them; use a kernel that has \
             CONFIG_SECRETMEM and was not started with secretmem.enable=0",
            arena.protection()
        ),
    }
    let asked = Arc::clone(&tpm);
    let leases = Leases::open(keeper::Parts {
        embassy: embassy.clone(),
        arena,
        store: Arc::clone(&store),
        clock: Later::new(boot_clock(), Arc::new(move || asked.clock())),
        wall_clock: Arc::clone(&clock),
        rules: rules_in_force(Arc::clone(&trust), embassy.clone()),
    });
    let app = App::new(Parts {
        embassy,
        trust,
        custody,
        clock: Arc::clone(&clock),
        store,
        tpm: Arc::<EmbassyTpm>::clone(&tpm),
        policy,
        leases: leases.await?,
    });
    // From here on the charters and the list are those of this TPM's network: remember them, and this start.
    acts.push(boot);
    while puts.len() >= crate::store::MAX_PUTS {
        let first =
            |acts: &mut Vec<Act>| acts.drain(..crate::store::MAX_PUTS / 2).map(|act| (app.itself(), act)).collect();
        app.save(puts.drain(..crate::store::MAX_PUTS / 2).collect(), first(&mut acts)).await?;
    }
    app.save(puts, acts.into_iter().map(|act| (app.itself(), act)).collect()).await?;
    let ceremonies = app.resume_ceremonies(counts.reset_count).await?;
    let bounds = accept::Bounds { connections: settings.connections, ..accept::Bounds::default() };
    tracing::info!(
        embassy = %app.embassy(),
        charter = version,
        total_ms = began.elapsed().as_millis(),
        tpm_ms = taken.tpm.as_millis(),
        ceremonies,
        "ready"
    );
    Ok(Ready { app, tls, tpm, leafing, clock, directory: directory.clone(), bounds })
}

/// The chain of charters, from the store and the directory together; what only the directory has is to be remembered.
pub(crate) async fn charters(
    directory: &Directory,
    store: &dyn Store,
) -> Result<(VerifiedCharter, Vec<Put>, Vec<Act>), BootError> {
    let mut known = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let rows = store.list(Kind::Charter, after.as_deref(), crate::store::MAX_ROWS).await?;
        let Some((last, _)) = rows.last() else { break };
        after = Some(last.clone());
        for (id, record) in rows {
            let stored = |source| BootError::Stored { what: format!("charter {id}"), source };
            known.push(SignedCharter::decode(&record.bytes).map_err(stored)?);
        }
    }
    let mut seen: Option<VerifiedCharter> = None;
    for charter in known {
        seen = Some(next(seen, charter)?);
    }
    let remembered = seen.clone();
    let mut newest = seen;
    let (mut puts, mut acts, mut lying) = (Vec::new(), Vec::new(), 0);
    for charter in directory.charters()? {
        let version = charter.unverified().parts().version;
        lying = lying.max(version);
        let last = newest.as_ref().map_or(0, |newest| newest.charter().parts().version);
        if version > last {
            let bytes = charter.encode();
            let taken = next(newest, charter)?;
            let recovery_alone = matches!(taken.authority(), Authority::RecoveryAlone(_));
            acts.push(Act::CharterTaken { version, charter: taken.hash(), recovery_alone });
            newest = Some(taken);
            puts.push(Put { key: charter_key(version), expected: None, bytes });
        } else if remembered.as_ref().is_some_and(|seen| {
            version <= seen.charter().parts().version && seen.find(&charter.unverified().hash()).is_none()
        }) {
            // Of the version that was seen there is one charter; this is another.
            let source = ChainError::Older { seen: version, offered: version };
            return Err(BootError::Chain { version, source });
        }
    }
    let seen = remembered.map_or(0, |seen| seen.charter().parts().version);
    if lying < seen {
        tracing::warn!(
            seen,
            directory = lying,
            "the directory's charters end before the one that was seen, which stays in force: it came over the network, or \
             somebody has put an old disk back. Put the newest charter into charters/"
        );
    }
    let newest = newest.ok_or_else(|| BootError::NoCharter { path: directory.path(directory::CHARTERS) })?;
    Ok((newest, puts, acts))
}

/// The next charter of the chain. The founding one vouches for itself here; the TPM's pin says whether it is the one.
pub(crate) fn next(last: Option<VerifiedCharter>, charter: SignedCharter) -> Result<VerifiedCharter, BootError> {
    let parts = charter.unverified().parts();
    let (version, country, home) = (parts.version, parts.country, parts.home);
    let verified = match last {
        None => charter.found(country, &home),
        Some(last) => charter.succeed(&last),
    };
    verified.map_err(|source| BootError::Chain { version, source })
}

/// Where a charter is kept.
pub(crate) fn charter_key(version: u32) -> Key {
    Key::new(Kind::Charter, format!("{version:010}"))
}

/// Where home's list is kept.
pub(crate) fn list_key() -> Key {
    Key::new(Kind::Revocations, "home")
}

/// Home's certificate, and the newer one of the list that was seen and the list in the directory.
pub(crate) async fn trust(
    directory: &Directory,
    store: &dyn Store,
    charter: VerifiedCharter,
) -> Result<(Trust, Option<Put>), BootError> {
    let (home, file) = (directory.home()?, directory.list()?);
    let Some(seen) = store.get(&list_key()).await? else {
        let trust = Trust::new(charter, &home, &file)?;
        return Ok((trust, Some(Put { key: list_key(), expected: None, bytes: file })));
    };
    let trust = Trust::new(charter, &home, &seen.bytes)?;
    match trust.with_list(&file) {
        Ok(None) => Ok((trust, None)),
        Ok(Some(newer)) => Ok((newer, Some(Put { key: list_key(), expected: Some(seen.version), bytes: file }))),
        // Refused, and no reason to stand still: the newer one is at hand.
        Err(TrustError::OlderList { seen, offered }) => {
            tracing::warn!(seen, offered, "home.crl is older than the list that was seen, and is not used");
            Ok((trust, None))
        }
        Err(error) => Err(error.into()),
    }
}

impl Ready {
    /// Serves until `stop` says so.
    ///
    /// # Errors
    /// [`BootError::Store`] where the orderly end could not be written down.
    pub async fn serve(self, listener: TcpListener, stop: watch::Receiver<bool>) -> Result<(), BootError> {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "serving");
        }
        let router = crate::service::app(self.app.clone());
        let keeper = tokio::spawn(keep(Keeper {
            app: self.app.clone(),
            tls: Arc::clone(&self.tls),
            tpm: self.tpm,
            leafing: self.leafing,
            clock: self.clock,
        }));
        let leases = tokio::spawn(Arc::clone(self.app.leases()).run(keeper::COMPARE));
        let resets = tokio::spawn(self.app.clone().watch_resets());
        let mut stopped = stop.clone();
        let wipe = async {
            let _ = stopped.wait_for(|stop| *stop).await;
            // At once, whoever is connected still; that it is written down as well is worth an error of its own.
            self.app.leases().shut_down().await
        };
        let serve = accept::serve(listener, self.app.clone(), router, self.tls, self.bounds, stop);
        let ((), wiped) = tokio::join!(serve, wipe);
        for task in [keeper, leases, resets] {
            task.abort();
        }
        self.app.stop_ceremonies().await;
        // An opening may have come through in between.
        wiped.and(self.app.leases().shut_down().await)?;
        self.app.save(Vec::new(), vec![(self.app.itself(), halted())]).await?;
        Ok(())
    }

    /// Where the files stand.
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }
}

/// What renews the embassy's certificate.
struct Keeper {
    app: App,
    tls: Arc<Tls>,
    tpm: Arc<EmbassyTpm>,
    leafing: Leafing,
    clock: Clock,
}

/// Renews the embassy's certificate before it ends.
async fn keep(keeper: Keeper) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        if !keeper.tls.leaf().is_due((keeper.clock)()) {
            continue;
        }
        let Some(leaf) = keeper.renew(&keeper.app.trust().get()).await else { continue };
        if let Err(error) = keeper.tls.renew(leaf) {
            tracing::error!(%error, "TLS goes on with its earlier certificate");
        }
    }
}

impl Keeper {
    async fn renew(&self, trust: &Arc<Trust>) -> Option<Leaf> {
        let (leafing, tpm, trust, now) =
            (self.leafing.clone(), Arc::clone(&self.tpm), Arc::clone(trust), (self.clock)());
        let issued =
            tokio::task::spawn_blocking(move || Leaf::issue_by_tpm(&leafing, tpm.as_ref(), &trust, now, &mut OsRng));
        match issued.await {
            Ok(Ok(leaf)) => {
                tracing::info!(until = %leaf.until(), "the embassy's certificate was renewed");
                Some(leaf)
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the embassy's certificate was not renewed; it will be tried again");
                None
            }
            Err(_) => None,
        }
    }
}

/// Reads the revocation list in the directory again: the way in where the one in force has expired and nobody is let in.
pub async fn reread(directory: &Directory, app: &App) {
    reread_by(directory, |list| async move { app.take_list(&list, Who::Home).await }).await;
}

pub(crate) async fn reread_by<
    F: Future<Output = Result<crate::client::api::Taken, crate::service::problem::Problem>>,
>(
    directory: &Directory,
    take: impl FnOnce(Vec<u8>) -> F,
) {
    match directory.list() {
        Ok(list) => match take(list).await {
            Ok(taken) if taken.new => {}
            Ok(_) => tracing::info!("home.crl is the list in force already"),
            Err(problem) => tracing::error!(%problem, "home.crl is refused"),
        },
        Err(error) => tracing::error!(%error, "home.crl is not read"),
    }
}

fn halted() -> Act {
    Act::Halt { why: Reason::of("the service was told to stop") }
}

/// Listens at an address.
///
/// # Errors
/// [`BootError::Listen`].
pub async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, BootError> {
    TcpListener::bind(address).await.map_err(|source| BootError::Listen { address, source })
}
