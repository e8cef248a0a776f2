//! What a ceremony leaves behind at its end: a lease in memory, or the parts of a release in the store.

use crate::{
    protocol::{
        ceremony::Trouble, hash::Hash, ids::CeremonyId, lease::LeaseState, recipient::Recipient, secret::SharedPoint,
    },
    service::App,
};

impl App {
    /// Whether a ceremony's lease lives.
    pub(crate) fn has_lease(&self, id: CeremonyId) -> bool {
        self.leases().show(Some(id), |lease, _| !matches!(lease.state(), LeaseState::Ended(_))).contains(&true)
    }

    /// Takes back what came through after its ceremony had ended.
    pub(crate) async fn revoke(&self, id: CeremonyId) {
        if let Err(error) = self.leases().revoke(id).await {
            tracing::error!(ceremony = %id, %error, "a lease is wiped, and its end is not written down yet");
        }
    }

    /// Keeps the TPM's halves, sealed to the recipient.
    pub(crate) async fn keep_release(
        &self,
        id: CeremonyId,
        offer: Hash,
        halves: Vec<SharedPoint>,
        recipient: Option<&Recipient>,
    ) -> Result<(), Trouble> {
        let _ = (id, offer, halves, recipient);
        Err(Trouble::Examine { why: "no release yet".to_owned() })
    }
}
