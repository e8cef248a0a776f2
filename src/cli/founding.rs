//! `chancery serve` while the embassy is founded: the secrets that home brings, the serving, and what comes after.

use std::{path::Path, sync::Arc};

use chancery::{
    hardware::HierarchyAuths,
    keys::{
        KeyError, disk,
        file::{KeyKind, Unlock},
    },
    protocol::ids::EmbassyName,
    service::{
        boot,
        directory::{Directory, FOUNDING_KEY, Settings},
        genesis::start::{self, Ended, Secrets},
        trust::wall_clock,
    },
    store::SqliteStore,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::cli::{ask, failure::Failure};

fn refused(error: &dyn std::fmt::Display) -> Failure {
    Failure::Serve(error.to_string())
}

/// Founds the embassy where the charter has no machine for it yet. True where the service goes on as an embassy.
pub(super) async fn serve(
    directory: &Directory,
    settings: &Settings,
    store: &Arc<SqliteStore>,
    auths: Option<&Path>,
    passphrase_fd: Option<u32>,
) -> Result<bool, Failure> {
    if !start::is_needed(directory, settings, store.as_ref()).await.map_err(|error| refused(&error))? {
        if start::forget(directory).map_err(|error| refused(&error))? {
            tracing::info!("the founding key is gone: the TPM's identity key has taken over");
        }
        return Ok(true);
    }
    let Some(auths) = auths else {
        return Err(Failure::Refused(
            "this embassy is not founded yet: the charter names no machine for it".to_owned(),
            "To found it, home brings the TPM's authorizations: give their file with --auths. Where it is founded, put the \
             completed charter into charters/",
        ));
    };
    let secrets = secrets(directory, settings, auths, passphrase_fd)?;
    let (mut hangup, mut terminate, mut interrupt) = (
        signal(SignalKind::hangup()).map_err(|error| refused(&error))?,
        signal(SignalKind::terminate()).map_err(|error| refused(&error))?,
        signal(SignalKind::interrupt()).map_err(|error| refused(&error))?,
    );
    let listener = boot::listen(settings.listen).await.map_err(|error| refused(&error))?;
    let ready = start::open(directory, settings, Arc::<SqliteStore>::clone(store), wall_clock(), secrets).await;
    let ready = ready.map_err(|error| refused(&error))?;
    let (stop, stopped) = watch::channel(false);
    let (founding, files) = (ready.founding().clone(), directory.clone());
    let signals = tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => founding.reread(&files).await,
            }
        }
        tracing::info!("stopping; the founding goes on from here when it is started again");
        let _ = stop.send(true);
    });
    tracing::info!(embassy = %settings.embassy, "founding: officials run `chancery official genesis` now");
    let ended = ready.serve(listener, stopped).await;
    signals.abort();
    if ended == Ended::Stopped {
        return Ok(false);
    }
    tracing::info!("home has enrolled the TPM's identity key: from here on this is an embassy");
    start::forget(directory).map_err(|error| refused(&error))?;
    Ok(true)
}

fn secrets(
    directory: &Directory,
    settings: &Settings,
    auths: &Path,
    passphrase_fd: Option<u32>,
) -> Result<Secrets, Failure> {
    let embassy = EmbassyName::new(&settings.embassy).map_err(|error| refused(&error))?;
    let file = disk::load(auths)?;
    if file.kind() != KeyKind::Authorizations || file.name().as_str() != embassy.as_str() {
        return Err(Failure::Refused(
            format!("this is {} of {}; the TPM's authorizations of {embassy} are needed", file.kind(), file.name()),
            "`chancery embassy found` wrote them into the file that --auths named there",
        ));
    }
    let founding = disk::load(&directory.path(FOUNDING_KEY))?;
    let passphrase = ask::once(&format!("passphrase of {embassy}'s founding"), passphrase_fd, "--passphrase-fd")?;
    let unlock = || Unlock::Passphrase(&passphrase);
    let secret = file.unlock_scalar(KeyKind::Authorizations, unlock())?;
    let founding = founding.unlock_signer(KeyKind::Founding, unlock()).map_err(|error| match error {
        KeyError::Passphrase => Failure::Refused(
            "the founding key does not open with the passphrase that opens the authorizations".to_owned(),
            "Both were made by one `chancery embassy found`: take the two files that belong together",
        ),
        other => other.into(),
    })?;
    Ok(Secrets { authorizations: HierarchyAuths::derived(&secret, &embassy), founding })
}
