//! From a directory to a founding that serves, and the end of it: when home has enrolled the TPM's identity key.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rand_core::OsRng;
use tokio::{net::TcpListener, sync::watch};

use crate::{
    hardware::{Foundation, HierarchyAuths, TpmAddress},
    keys::{IdentitySigner, MemorySigner},
    protocol::{
        ceremony::genesis::Ground,
        certificate::UnixTime,
        charter::VerifiedCharter,
        hash::Hash,
        ids::{EmbassyName, SubjectName},
        roll::{Act, Entry, Who},
        wire::Document,
    },
    service::{
        accept,
        boot::{self, BootError},
        directory::{Directory, DirectoryError, FOUNDATION, Settings},
        genesis::{Founding, FoundingError, FoundingParts, Machine, app},
        peer::Door,
        tls::{Leaf, Leafing, Tls},
        trust::{Clock, InForce},
    },
    store::{Batch, Kind, MAX_ROWS, Store},
};

/// Between two looks at the certificate of the embassy's authority.
const LOOK: Duration = Duration::from_secs(2);

/// Why a founding does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Directory, store, charter, certificates, TPM or TLS.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The board.
    #[error(transparent)]
    Founding(#[from] FoundingError),
    /// The TPM was not prepared.
    #[error(
        "{path} is not there: home has not prepared this machine's TPM. At home, on a bus that home trusts: \
         `chancery embassy found`",
        path = path.display()
    )]
    NotPrepared {
        /// Where it would be.
        path: PathBuf,
    },
}

impl From<DirectoryError> for StartError {
    fn from(error: DirectoryError) -> Self {
        Self::Boot(error.into())
    }
}

macro_rules! by_boot {
    ($($error:ty),*) => {$(
        impl From<$error> for StartError {
            fn from(error: $error) -> Self {
                Self::Boot(error.into())
            }
        }
    )*};
}

by_boot!(
    crate::store::StoreError,
    crate::hardware::TpmError,
    crate::service::tls::TlsError,
    crate::protocol::charter::CharterError,
    crate::protocol::ids::NameError
);

/// What only the people at the machine have: from encrypted files, for as long as the founding lasts.
pub struct Secrets {
    /// The TPM's authorizations.
    pub authorizations: HierarchyAuths,
    /// The founding key, which stands in for the TPM's identity key.
    pub founding: MemorySigner,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(redacted)")
    }
}

/// Whether this embassy is still to be founded: the newest charter has no machine for it.
///
/// # Errors
/// [`StartError`].
pub async fn is_needed(directory: &Directory, settings: &Settings, store: &dyn Store) -> Result<bool, StartError> {
    let embassy = EmbassyName::new(&settings.embassy)?;
    let (newest, _, _) = boot::charters(directory, store).await?;
    let machines = newest.charter().parts().custody.iter().flat_map(|custody| custody.machines.clone());
    Ok(machines.into_iter().all(|machine| machine.embassy != embassy))
}

/// A founding that can begin to serve.
pub struct Ready {
    founding: Founding,
    tls: Arc<Tls>,
    leafing: Leafing,
    signer: MemorySigner,
    directory: Directory,
    bounds: accept::Bounds,
}

/// Why a founding stopped serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// The charter is in force and home has enrolled the TPM's identity key: start as an embassy.
    Enrolled,
}

/// Reads the directory, opens the TPM and the board, and makes the certificate of the founding.
///
/// # Errors
/// [`StartError`].
pub async fn open(
    directory: &Directory,
    settings: &Settings,
    store: Arc<dyn Store>,
    clock: Clock,
    secrets: Secrets,
) -> Result<Ready, StartError> {
    let embassy = EmbassyName::new(&settings.embassy)?;
    let (newest, mut puts, mut acts) = boot::charters(directory, store.as_ref()).await?;
    let (trust, newer) = boot::trust(directory, store.as_ref(), newest.clone()).await?;
    if let Some(put) = newer {
        acts.push(Act::RevocationsTaken { number: trust.revocations().number(), list: Hash::of_bytes(trust.list()) });
        puts.push(put);
    }
    let policy = directory.policy().map_err(BootError::from)?;
    policy.check_charter(newest.charter()).map_err(BootError::from)?;
    let leafing = Leafing {
        embassy: SubjectName::new(embassy.as_str())?,
        authority: directory.authority()?,
        identity: *secrets.founding.public(),
        places: settings.places.clone(),
    };
    let leaf = Leaf::issue(&leafing, &secrets.founding, &trust, clock(), &mut OsRng)?;
    let foundation = foundation(directory)?;
    let ground = Ground::new(newest.charter(), &embassy)?;
    let (address, keys) = (TpmAddress::new(&settings.tcti), directory.path(crate::service::directory::KEYS));
    let owner = secrets.authorizations.owner;
    let machine = tokio::task::spawn_blocking(move || Machine::open(address, ground, foundation, owner, &keys));
    let machine = machine.await.map_err(|_| BootError::Fault)??;
    // The charters are remembered before anything rests on them.
    let at = clock();
    let by = Who::Embassy(embassy.clone());
    let entries = acts.into_iter().map(|act| Entry { at, by: by.clone(), act }.encode()).collect();
    if !puts.is_empty() {
        store.commit(Batch { puts, entries }).await?;
    }
    let chain = chain(store.as_ref()).await?;
    let trust = Arc::new(InForce::new(trust));
    let tls = Arc::new(Tls::new(Arc::clone(&trust), leaf)?);
    let directory = directory.clone();
    let parts = FoundingParts {
        chain,
        embassy,
        trust,
        clock,
        store,
        policy,
        machine: Box::new(machine),
        directory: directory.clone(),
    };
    let founding = Founding::open(parts).await?;
    let bounds = accept::Bounds { connections: settings.connections, ..accept::Bounds::default() };
    Ok(Ready { founding, tls, leafing, signer: secrets.founding, directory, bounds })
}

fn foundation(directory: &Directory) -> Result<Foundation, StartError> {
    let path = directory.path(FOUNDATION);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(StartError::NotPrepared { path }),
        Err(source) => return Err(DirectoryError::Read { path, source }.into()),
    };
    Ok(Foundation::decode(&bytes).map_err(|source| DirectoryError::Document { path, source })?)
}

async fn chain(store: &dyn Store) -> Result<Vec<VerifiedCharter>, StartError> {
    let (mut chain, mut after): (Vec<VerifiedCharter>, Option<String>) = (Vec::new(), None);
    loop {
        let rows = store.list(Kind::Charter, after.as_deref(), MAX_ROWS).await?;
        let Some((last, _)) = rows.last() else { return Ok(chain) };
        after = Some(last.clone());
        for (id, record) in rows {
            let stored = |source| BootError::Stored { what: format!("charter {id}"), source };
            let charter = crate::protocol::charter::SignedCharter::decode(&record.bytes).map_err(stored)?;
            chain.push(boot::next(chain.last().cloned(), charter)?);
        }
    }
}

impl Ready {
    /// What routes see.
    pub const fn founding(&self) -> &Founding {
        &self.founding
    }

    /// Serves until `stop` says so, or until home has enrolled the TPM's identity key.
    pub async fn serve(self, listener: TcpListener, stop: watch::Receiver<bool>) -> Ended {
        let (end, ended) = watch::channel(false);
        let router = app(self.founding.clone());
        let watching = self.founding.clone();
        let tls = Arc::clone(&self.tls);
        let serving = accept::serve(listener, watching, router, tls, self.bounds, ended);
        tokio::pin!(serving);
        let mut stop = stop;
        let mut looks = tokio::time::interval(LOOK);
        let why = loop {
            tokio::select! {
                () = serving.as_mut() => {
                    self.founding.close().await;
                    return Ended::Stopped;
                }
                _ = stop.wait_for(|stop| *stop) => break Ended::Stopped,
                _ = looks.tick() => {
                    self.renew();
                    if self.is_enrolled() {
                        break Ended::Enrolled;
                    }
                }
            }
        };
        end.send_replace(true);
        serving.await;
        // What comes next needs the TPM.
        self.founding.close().await;
        why
    }

    fn renew(&self) {
        let now: UnixTime = self.founding.now();
        if !self.tls.leaf().is_due(now) {
            return;
        }
        let trust = self.founding.trust().get();
        let renewed =
            Leaf::issue(&self.leafing, &self.signer, &trust, now, &mut OsRng).and_then(|leaf| self.tls.renew(leaf));
        if let Err(error) = renewed {
            tracing::error!(%error, "the certificate of the founding was not renewed; it will be tried again");
        }
    }

    /// Whether home has certified the identity key that the completed charter names.
    fn is_enrolled(&self) -> bool {
        if !*self.founding.founded().borrow() {
            return false;
        }
        let charter = self.founding.charter();
        let machines = charter.charter().parts().custody.iter().flat_map(|custody| custody.machines.clone());
        let identity = machines
            .into_iter()
            .find(|machine| machine.embassy == *self.founding.embassy())
            .map(|machine| machine.identity_key);
        let trust = self.founding.trust().get();
        let Ok(authority) = self.directory.authority() else { return false };
        let certified = trust.home().embassy_authority(&authority, trust.revocations(), self.founding.now());
        certified.is_ok_and(|authority| Some(*authority.certified().key()) == identity)
    }
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ready({:?})", self.founding)
    }
}

/// What the completed charter makes superfluous: gone, so that nobody uses it again.
///
/// # Errors
/// The file stays then, and says nothing that is not revocable.
pub fn forget(directory: &Directory) -> std::io::Result<bool> {
    match std::fs::remove_file(directory.path(crate::service::directory::FOUNDING_KEY)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
