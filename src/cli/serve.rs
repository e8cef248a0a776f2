//! `chancery serve`: the embassy's service.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use chancery::{
    service::{boot, directory::Directory, trust::wall_clock},
    store::SqliteStore,
};
use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::cli::{failure::Failure, founding};

const AFTER_HELP: &str = "\
The directory holds what home, the officials and the TPM left there:

  chancery.toml    settings: embassy, listen, tcti, places, connections
  charters/        every charter of the network, *.charter
  home.crt         home's certificate
  home.crl         home's newest revocation list
  embassy.crt      the certificate of the embassy's own authority, from `chancery home enrol`
  keys.bin         the embassy's TPM keys, made when it was founded
  store.sqlite     the store; made at the first start

SIGHUP reads home.crl again, also while the embassy is founded; SIGTERM and SIGINT end leases, wipe their keys and stop. CHANCERY_LOG chooses what is logged \
(`info`, `debug`, `chancery::service=debug`); a log never holds a secret. docs/service.md says more.";

/// Serve an embassy: ceremonies, datasets and leases, over mutual TLS
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The embassy's directory
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where to listen, in place of what chancery.toml says
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// How to reach the TPM, in place of what chancery.toml says, such as `device:/dev/tpmrm0`
    #[arg(long, value_name = "TCTI")]
    tcti: Option<String>,
    /// To found the embassy: the TPM's authorizations, which home brings for as long as that takes
    #[arg(long, value_name = "FILE")]
    auths: Option<PathBuf>,
    /// Read their passphrase from this open file descriptor (0 is standard input) instead of the terminal
    #[arg(long, value_name = "N", requires = "auths")]
    passphrase_fd: Option<u32>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CHANCERY_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // Whoever set a log up before us (a test) keeps it.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Serve(format!("no threads can be started: {error}")))?;
    runtime.block_on(serve(arguments))
}

async fn serve(arguments: &Arguments) -> Result<(), Failure> {
    let refused = |error: &dyn std::fmt::Display| Failure::Serve(error.to_string());
    let directory = Directory::new(Path::new(&arguments.dir));
    let mut settings = directory.settings().map_err(|error| refused(&error))?;
    settings.listen = arguments.listen.unwrap_or(settings.listen);
    if let Some(tcti) = &arguments.tcti {
        settings.tcti.clone_from(tcti);
    }
    let store = SqliteStore::open(directory.path(chancery::service::directory::STORE));
    let store = Arc::new(store.await.map_err(|error| refused(&error))?);
    let (auths, passphrase_fd) = (arguments.auths.as_deref(), arguments.passphrase_fd);
    if !founding::serve(&directory, &settings, &store, auths, passphrase_fd).await? {
        return Ok(());
    }
    // Before anything is served, so that no signal is lost.
    let (stop, stopped) = watch::channel(false);
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| refused(&error))?;
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate()).map_err(|error| refused(&error))?,
        signal(SignalKind::interrupt()).map_err(|error| refused(&error))?,
    );
    // A port that another program has is found out before the TPM is troubled.
    let listener = boot::listen(settings.listen).await.map_err(|error| refused(&error))?;
    let ready = tokio::select! {
        opened = boot::open(&directory, &settings, store, wall_clock()) => opened.map_err(|error| refused(&error))?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let app = ready.app.clone();
    let signals = tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => boot::reread(&directory, &app).await,
            }
        }
        tracing::info!("stopping");
        // Where nobody listens any more, it has stopped already.
        let _ = stop.send(true);
    });
    let served = ready.serve(listener, stopped).await.map_err(|error| refused(&error));
    signals.abort();
    served
}
