//! What an official's machine asks of an embassy: what is new of the network, its ceremonies, an offer; and what it sends there.
//!
//! All that comes back is checked where it is used. A ceremony is known by the hash of its statement, computed here.

use crate::{
    client::{
        Client, ClientError, Repeat,
        api::{CharterPage, DatasetPage, DocumentBody, RevocationList, Status, Taken},
        ceremonies::{CeremonyAnswer, CeremonyPage, CeremonyView},
        leases::{LeaseList, LeaseView},
        official::{
            Directory, DirectoryError, Keys,
            carried::{Carried, Load},
        },
    },
    protocol::{
        charter::SignedCharter,
        dataset_version::DatasetVersionRecord,
        ids::{CeremonyId, EmbassyName},
        offer::SignedOffer,
        statement::{SignedStatement, Statement},
    },
};

/// The code by which an embassy refuses what comes after the end.
const OVER: &str = "late";
/// No list is followed for more pages than this.
const MAX_PAGES: usize = 256;

/// A ceremony as an embassy tells of it, with its statement read.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its id, computed here.
    pub id: CeremonyId,
    /// Its statement; the opener's signature held against the charter in force.
    pub statement: Statement,
    /// What the embassy says of it.
    pub view: CeremonyView,
}

/// A visit to one embassy.
#[derive(Debug)]
pub struct Visit {
    client: Client,
}

impl Visit {
    /// Connects, and takes what is new: home's revocation list, charters, dataset records. Where something came, the connection
    /// is made anew, under what is known now.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn begin(
        directory: &mut Directory,
        keys: &Keys,
        embassy: &EmbassyName,
    ) -> Result<(Self, Vec<String>), DirectoryError> {
        let mut visit = Self { client: directory.client(embassy, keys)? };
        let mut news = Vec::new();
        let list: RevocationList = visit.client.get("/v1/revocations").await?;
        let bytes = visit.document(DocumentBody { document: list.document }.bytes())?;
        // An embassy that still has an older list tells nothing new; it may have been cut off.
        match directory.take_list(&bytes) {
            Ok(true) => news.push(format!("home's revocation list {} came", list.number)),
            Ok(false) => {}
            Err(DirectoryError::OldList { seen, offered }) => {
                news.push(format!("{embassy} still has revocation list {offered}; you have {seen}"));
            }
            Err(error) => return Err(error),
        }
        if visit.take_charters(directory).await? {
            let version = directory.charter()?.charter().parts().version;
            news.push(format!("charter version {version} came, and is in force: `chancery inspect` shows it"));
        }
        if !news.is_empty() {
            visit.client = directory.client(embassy, keys)?;
        }
        Ok((visit, news))
    }

    /// The client.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    async fn take_charters(&self, directory: &mut Directory) -> Result<bool, DirectoryError> {
        let mut from = directory.charters()?.last().map_or(1, |last| last.charter().parts().version.saturating_add(1));
        let mut news = false;
        for _ in 0..MAX_PAGES {
            let page: CharterPage = self.client.get(&format!("/v1/charters?from={from}")).await?;
            let charters = page
                .documents
                .iter()
                .map(|body| self.document(body.read::<SignedCharter>()))
                .collect::<Result<Vec<_>, _>>()?;
            // An embassy that gives the same again has nothing new, or lies; either way this is the end.
            let Some(last) = charters.last().filter(|last| last.unverified().parts().version >= from) else { break };
            from = last.unverified().parts().version.saturating_add(1);
            news |= directory.take_charters(charters)?.1;
        }
        Ok(news)
    }

    /// Brings the charters that the embassy does not have yet, in their order. Gives the versions that it took.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn bring_charters(&self, directory: &Directory, has: u32) -> Result<Vec<u32>, DirectoryError> {
        let mut brought = Vec::new();
        for charter in directory.charters()? {
            let version = charter.charter().parts().version;
            if version > has {
                let body = DocumentBody::of(charter.signed());
                let _: Taken = self.client.post("/v1/charters", &body, &Repeat::Safe).await?;
                brought.push(version);
            }
        }
        Ok(brought)
    }

    /// How the embassy is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.client.get("/v1/status").await
    }

    /// The datasets that the embassy has records of.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn datasets(&self) -> Result<DatasetPage, ClientError> {
        let mut all = DatasetPage { versions: Vec::new(), next: None };
        for _ in 0..MAX_PAGES {
            let path = all.next.as_ref().map_or("/v1/datasets".to_owned(), |next| format!("/v1/datasets?after={next}"));
            let page: DatasetPage = self.client.get(&path).await?;
            all.versions.extend(page.versions);
            all.next = page.next;
            if all.next.is_none() {
                break;
            }
        }
        Ok(all)
    }

    /// Takes the records of a statement's datasets that are not here yet, as far as the embassy has them.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn take_datasets(&self, directory: &mut Directory, statement: &Statement) -> Result<(), DirectoryError> {
        let here = directory.datasets()?;
        for at in statement.datasets() {
            let is_it = |version: &crate::protocol::dataset_version::VerifiedVersion| {
                (&version.description().dataset, version.description().version) == (&at.dataset, at.version)
            };
            if here.iter().any(is_it) {
                continue;
            }
            let body: DocumentBody = self.client.get(&format!("/v1/datasets/{}/{}", at.dataset, at.version)).await?;
            let record = self.document(body.read::<DatasetVersionRecord>())?;
            directory.take_dataset(&record)?;
        }
        Ok(())
    }

    /// Opens a ceremony.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open(&self, statement: &SignedStatement) -> Result<Taken, ClientError> {
        self.client.post("/v1/ceremonies", &DocumentBody::of(statement), &Repeat::Safe).await
    }

    /// The ceremonies there are, the newest first; `all` also shows those that ended.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn ceremonies(&self, directory: &Directory, all: bool) -> Result<Vec<Told>, DirectoryError> {
        let (mut found, mut after) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let path =
                after.map_or("/v1/ceremonies".to_owned(), |after: String| format!("/v1/ceremonies?after={after}"));
            let page: CeremonyPage = self.client.get(&path).await?;
            for view in page.ceremonies {
                if all || view.phase != "ended" {
                    found.push(self.told(directory, view)?);
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// One ceremony.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn ceremony(&self, directory: &Directory, id: &CeremonyId) -> Result<Told, DirectoryError> {
        let view = self.client.get(&format!("/v1/ceremonies/{}", id)).await?;
        self.told(directory, view)
    }

    /// Reads what an embassy tells of a ceremony.
    ///
    /// # Errors
    /// [`ClientError::Unreadable`] where the statement is not one that an official of this charter signed, for this embassy.
    pub fn told(&self, directory: &Directory, view: CeremonyView) -> Result<Told, DirectoryError> {
        let signed = self.document(view.statement.read::<SignedStatement>())?;
        let facts = directory.facts(self.client.embassy())?;
        let statement = signed.verify(&facts).map_err(|error| self.unreadable(&error))?.clone();
        let id = statement.id();
        if statement.embassy() != self.client.embassy() || view.id != id.to_string() {
            return Err(self.unreadable(&"it shows a statement under another ceremony's name").into());
        }
        Ok(Told { id, statement, view })
    }

    /// The offer of a ceremony, unchecked.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn offer(&self, id: &CeremonyId) -> Result<SignedOffer, ClientError> {
        let body: DocumentBody = self.client.get(&format!("/v1/ceremonies/{}/offer", id)).await?;
        self.document(body.read::<SignedOffer>())
    }

    /// Delivers what was signed. The very same again changes nothing. A stop that comes after the ceremony ends the lease that
    /// it gave.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn deliver(&self, carried: &Carried) -> Result<CeremonyAnswer, ClientError> {
        let (what, body) = match &carried.load {
            Load::Approval(contribution) => ("contributions", DocumentBody::of(contribution)),
            Load::Denial(denial) => ("denials", DocumentBody::of(denial)),
            Load::Stop(stop) => ("stops", DocumentBody::of(stop)),
        };
        let ceremony = format!("/v1/ceremonies/{}", carried.ceremony);
        let answer = self.client.post(&format!("{ceremony}/{what}"), &body, &Repeat::Safe).await;
        match answer {
            Err(late) if late.code() == Some(OVER) && matches!(carried.load, Load::Stop(_)) => {
                let lease = format!("/v1/leases/{}/stops", carried.ceremony);
                let stopped: Result<LeaseView, ClientError> = self.client.post(&lease, &body, &Repeat::Safe).await;
                match stopped {
                    Ok(lease) => {
                        let reply = format!("the lease is {}: {}", lease.state, lease.why);
                        Ok(CeremonyAnswer { reply, ceremony: self.client.get(&ceremony).await? })
                    }
                    // There is no lease: then that the ceremony is over is the answer.
                    Err(ClientError::Problem { problem, .. }) if problem.status == 404 => Err(late),
                    Err(error) => Err(error),
                }
            }
            answer => answer,
        }
    }

    /// The lease that a ceremony gave, as the embassy tells of it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn lease(&self, id: &CeremonyId) -> Result<LeaseView, ClientError> {
        self.client.get(&format!("/v1/leases/{id}")).await
    }

    /// The leases that this official may watch: those that live, and the last that ended.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn leases(&self) -> Result<Vec<LeaseView>, ClientError> {
        let list: LeaseList = self.client.get("/v1/leases").await?;
        Ok(list.leases)
    }

    fn document<T, E: std::fmt::Display>(&self, read: Result<T, E>) -> Result<T, ClientError> {
        read.map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, reason: &dyn std::fmt::Display) -> ClientError {
        ClientError::Unreadable { embassy: self.client.embassy().clone(), reason: reason.to_string() }
    }
}
