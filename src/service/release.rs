//! What a ceremony leaves behind at its end: a lease in memory, or the parts of a release in the store.
//!
//! A release is of no use to the embassy: the TPM's halves are sealed to the recipient, and so are the officials'. It can be
//! fetched by that recipient alone, as often as needed, and each time that it is fetched stands in the roll.

use crate::{
    client::{api::DocumentBody, release::ReleaseBody},
    protocol::{
        ceremony::UnsealRecord,
        ids::CeremonyId,
        lease::LeaseState,
        release::ReleaseParts,
        roll::{Act, Who},
        wire::Document,
    },
    service::{
        App,
        problem::{Code, Problem},
    },
    store::{Batch, Key, Kind, Put, StoreError},
};

fn key(id: &CeremonyId) -> Key {
    Key::new(Kind::Meta, format!("release/{id}"))
}

impl App {
    /// Whether a ceremony's lease lives.
    pub(crate) fn has_lease(&self, id: CeremonyId) -> bool {
        self.leases().show(Some(id), |lease, _| !matches!(lease.state(), LeaseState::Ended(_))).contains(&true)
    }

    /// Keeps the TPM's halves. Nobody gets them before the ceremony says that it released them.
    pub(crate) async fn keep_release(&self, id: CeremonyId, parts: &ReleaseParts) -> Result<(), StoreError> {
        self.write_release(id, parts.encode()).await
    }

    async fn write_release(&self, id: CeremonyId, bytes: Vec<u8>) -> Result<(), StoreError> {
        // An earlier attempt may have left some.
        let expected = self.store().get(&key(&id)).await?.map(|record| record.version);
        let put = Put { key: key(&id), expected, bytes };
        self.store().commit(Batch { puts: vec![put], entries: Vec::new() }).await.map(drop)
    }

    /// Takes back what came through after its ceremony had ended.
    pub(crate) async fn revoke(&self, id: CeremonyId) {
        if let Err(error) = self.leases().revoke(id).await {
            tracing::error!(ceremony = %id, %error, "a lease is wiped, and its end is not written down yet");
        }
        match self.store().get(&key(&id)).await {
            Ok(None) => {}
            // Nobody could fetch it: the ceremony never said that it was released, or says that it was stopped.
            Ok(Some(_)) => {
                if let Err(error) = self.write_release(id, Vec::new()).await {
                    tracing::error!(ceremony = %id, %error, "the parts of a release that was taken back are still stored");
                }
            }
            Err(error) => tracing::error!(ceremony = %id, %error, "the store refused"),
        }
    }

    /// What the recipient of a release fetches. Written down before it leaves.
    ///
    /// # Errors
    /// [`Code::NotFound`] before the TPM has opened.
    pub(crate) async fn release(&self, id: CeremonyId, to: Who) -> Result<ReleaseBody, Problem> {
        let none = || {
            Code::NotFound
                .because("nothing is released in this ceremony, or not yet")
                .who("the officials")
                .next("Look at the ceremony: it says what it waits for.")
        };
        let damaged = |error| Code::Store.because(format!("the record of this release does not read: {error}"));
        let record = self.ceremony_record(id).await?;
        let record = UnsealRecord::decode(&record).map_err(damaged)?;
        let handed = record.handed().ok_or_else(none)?;
        let stored = self.store().get(&key(&id)).await?.filter(|stored| !stored.bytes.is_empty()).ok_or_else(none)?;
        let parts = ReleaseParts::decode(&stored.bytes).map_err(damaged)?;
        let until = record.statement().unverified().expires_at();
        self.save(Vec::new(), vec![(to, Act::ReleaseFetched { ceremony: id, until })]).await?;
        Ok(ReleaseBody {
            offer: DocumentBody::of(&handed.offer),
            contributions: handed.contributions.iter().map(DocumentBody::of).collect(),
            parts: DocumentBody::of(&parts),
        })
    }
}
