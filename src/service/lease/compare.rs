//! Comparing the clock that leases live by with the TPM's, while a lease stands: off the threads that serve, and beside what ends
//! leases, so that a TPM that does not answer holds up nothing. protocol.md §17.4, decision 18.

use std::{sync::Arc, time::Duration};

use crate::{
    hardware::TpmError,
    service::lease::{
        clock::Compared,
        keeper::{Leases, TICK},
    },
};

impl Leases {
    /// Compares so often while a lease stands.
    pub(super) async fn keep_comparing(self: &Arc<Self>, every: Duration) {
        let mut compared: Option<tokio::time::Instant> = None;
        let mut silent = false;
        loop {
            tokio::time::sleep(TICK).await;
            if self.standing() == 0 {
                // Nothing lives by it, and the TPM is left alone.
                self.parts.clock.forget();
                compared = None;
            } else if compared.is_none_or(|compared| compared.elapsed() >= every) {
                compared = Some(tokio::time::Instant::now());
                let trouble = self.compare_clocks().await.err();
                if let Some(error) = trouble.as_ref().filter(|_| !silent) {
                    tracing::error!(
                        %error,
                        "the TPM's clock cannot be read: leases end by the machine's own clock alone until it can, and \
                         whoever runs the machine could slow that. An official can stop a lease"
                    );
                }
                silent = trouble.is_some();
            }
        }
    }

    /// Asks the TPM for its clock, off the threads that serve. Where it is further ahead than the two may differ, leases go
    /// by it from now on.
    ///
    /// # Errors
    /// The TPM's; leases go on as before then.
    pub async fn compare_clocks(self: &Arc<Self>) -> Result<Compared, TpmError> {
        let leases = Arc::clone(self);
        let compared = tokio::task::spawn_blocking(move || leases.parts.clock.compare()).await;
        let compared = compared.map_err(|_| TpmError::Fault { during: "ReadClock" })??;
        match compared {
            Compared::Begun | Compared::Agree => {}
            Compared::Ahead(by) => tracing::error!(
                seconds = by.as_secs(),
                "the TPM's clock has gone on further than the machine's: somebody slowed or held the machine, or one of them is \
                 broken. Leases end by the TPM's"
            ),
            Compared::Reset => tracing::error!(
                "the TPM was reset while leases stand, which no machine does by itself. They are compared from here on; \
                 an official can stop them"
            ),
        }
        Ok(compared)
    }
}
