//! Dataset versions as the embassy keeps them: records in the store, and those whose slots were verified, in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use p256::ecdsa::VerifyingKey;

use crate::{
    protocol::{
        dataset_version::{CharteredDataset, DatasetVersionRecord, VerifiedVersion},
        hash::Hash,
        ids::{DatasetName, DatasetVersion, OwnerName},
        statement::DatasetAt,
        wire::Document,
    },
    service::{
        App,
        problem::{Code, Problem},
    },
    store::{Key, Kind},
};

/// Versions kept verified. 256: some 20 MiB at most; what falls out is verified again.
const KEPT: usize = 256;

/// Where a version is kept.
pub(crate) fn key(dataset: &DatasetName, version: DatasetVersion) -> Key {
    Key::new(Kind::DatasetVersion, format!("{dataset}/{:010}", version.get()))
}

/// Verified versions, by the hash of their record and of the sealing keys they were verified against.
#[derive(Debug, Default)]
pub(crate) struct Versions(Mutex<BTreeMap<Hash, Arc<VerifiedVersion>>>);

impl Versions {
    pub(crate) fn keep(&self, version: Arc<VerifiedVersion>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_first();
        }
        kept.insert(Hash::of_bytes(&version.record().encode()), version);
    }

    /// Of another charter's sealing keys nothing may be left.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn get(&self, record: &Hash) -> Option<Arc<VerifiedVersion>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(record).cloned()
    }
}

impl App {
    /// Whose dataset it is, by the charter in force.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub(crate) fn owner_of(&self, dataset: &DatasetName) -> Result<OwnerName, Problem> {
        let trust = self.trust().get();
        let known = trust.charter().charter().parts().datasets.iter().find(|known| known.name == *dataset);
        let unknown = || Code::NotFound.because(format!("the charter in force names no dataset {dataset}"));
        known.map(|known| known.owner.clone()).ok_or_else(unknown)
    }

    /// Checks owner, signature and every slot against the charter in force.
    ///
    /// # Errors
    /// A [`Problem`] that names the rule.
    pub(crate) async fn verify_version(&self, record: DatasetVersionRecord) -> Result<Arc<VerifiedVersion>, Problem> {
        let custody = self.custody();
        let trust = self.trust().get();
        let parts = trust.charter().charter().parts();
        let name = record.unverified().dataset.clone();
        let unknown = || Code::NotFound.because(format!("the charter in force names no dataset {name}"));
        let chartered = parts.datasets.iter().find(|dataset| dataset.name == name).ok_or_else(unknown)?;
        let owner = parts.owners.iter().find(|owner| owner.name == chartered.owner).ok_or_else(unknown)?;
        let owner_key = VerifyingKey::from_affine(*owner.key.affine()).map_err(|_| unknown())?;
        let chartered =
            CharteredDataset { charter: trust.charter().id(), owner: owner.name.clone(), owner_key, dataset: name };
        // Some milliseconds for each slot.
        let verified = tokio::task::spawn_blocking(move || {
            record.verify_signature(&chartered)?.verify_slots(custody.facts.sealing_keys())
        });
        match verified.await {
            Ok(verified) => Ok(Arc::new(verified?)),
            Err(_) => Err(Code::Internal.because("checking the slots ended in a fault of chancery's own")),
        }
    }

    /// The highest version of a dataset that was taken.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn newest_version(&self, dataset: &DatasetName) -> Result<Option<DatasetVersionRecord>, Problem> {
        let mut after = format!("{dataset}/");
        let mut newest = None;
        loop {
            let rows = self.store().list(Kind::DatasetVersion, Some(&after), 16).await?;
            let of_it = rows.into_iter().take_while(|(id, _)| id.starts_with(&format!("{dataset}/")));
            let Some((id, record)) = of_it.last() else { break };
            after = id;
            newest = Some(record);
        }
        let record = newest.map(|record| DatasetVersionRecord::decode(&record.bytes)).transpose();
        record.map_err(|_| Code::Store.because("a stored dataset version does not read"))
    }

    /// The verified versions that a statement names.
    ///
    /// # Errors
    /// [`Code::NotFound`] for one that was not taken here.
    pub(crate) async fn versions_of(&self, datasets: &[DatasetAt]) -> Result<Vec<Arc<VerifiedVersion>>, Problem> {
        let mut found = Vec::with_capacity(datasets.len());
        for DatasetAt { dataset, version } in datasets {
            let missing = || {
                Code::NotFound
                    .because(format!("there is no version {} of {dataset} here", version.get()))
                    .who("the data owner")
                    .next("Have the data owner send it: `chancery dataset create`.")
            };
            let record = self.store().get(&key(dataset, *version)).await?.ok_or_else(missing)?;
            let verified = match self.versions().get(&Hash::of_bytes(&record.bytes)) {
                Some(verified) => verified,
                None => {
                    let record = DatasetVersionRecord::decode(&record.bytes)
                        .map_err(|_| Code::Store.because("a stored dataset version does not read"))?;
                    let verified = self.verify_version(record).await?;
                    self.versions().keep(Arc::clone(&verified));
                    verified
                }
            };
            found.push(verified);
        }
        Ok(found)
    }
}
