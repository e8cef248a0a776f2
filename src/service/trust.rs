//! What the embassy goes by when it judges anyone: the charter in force, home's certificate, home's revocation list.
//!
//! All three are checked before they stand here; what stands here changes only as a whole, so that one judgement never mixes
//! two states. A lower revocation list and an older charter are refused.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::watch;

use crate::protocol::{
    certificate::{CertificateError, HomeAuthority, Revocations, Role, UnixTime},
    charter::{ChainError, CharterSeen, VerifiedCharter},
    group::Point,
    ids::SubjectName,
};

/// Why what was offered does not come into force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Home's certificate, or its list.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The charter.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A list that was followed by another already.
    #[error("revocation list {offered} was offered, and list {seen} was seen before: somebody shows an old list")]
    OlderList {
        /// The number of the one in force.
        seen: u64,
        /// The number of the one that was offered.
        offered: u64,
    },
    /// Two lists with one number.
    #[error("another revocation list {number} was seen before: home has signed two. Ask home which one holds")]
    TwoLists {
        /// Their number.
        number: u64,
    },
}

/// Charter, home's certificate and revocation list, consistent with each other.
#[derive(Clone, Debug)]
pub struct Trust {
    charter: VerifiedCharter,
    home_certificate: Vec<u8>,
    home: HomeAuthority,
    list: Vec<u8>,
    revocations: Revocations,
    reserved: BTreeMap<[u8; 32], String>,
}

impl Trust {
    /// Takes home's certificate and list (DER) as the charter's home authority issued them.
    ///
    /// # Errors
    /// [`TrustError::Certificate`].
    pub fn new(charter: VerifiedCharter, home_certificate: &[u8], list: &[u8]) -> Result<Self, TrustError> {
        let parts = charter.charter().parts();
        let home = HomeAuthority::read(home_certificate, parts.country, &parts.home)?;
        let revocations = home.revocations(list)?;
        let reserved = reserved(&charter);
        let (home_certificate, list) = (home_certificate.to_vec(), list.to_vec());
        Ok(Self { charter, home_certificate, home, list, revocations, reserved })
    }

    /// The same with home's next list. `None` where it is the one in force.
    ///
    /// # Errors
    /// [`TrustError`] for a list that is not home's, or that was followed by another already.
    pub fn with_list(&self, list: &[u8]) -> Result<Option<Self>, TrustError> {
        if self.list == list {
            return Ok(None);
        }
        let revocations = self.home.revocations(list)?;
        let (seen, offered) = (self.revocations.number(), revocations.number());
        match offered.cmp(&seen) {
            std::cmp::Ordering::Less => Err(TrustError::OlderList { seen, offered }),
            std::cmp::Ordering::Equal => Err(TrustError::TwoLists { number: seen }),
            std::cmp::Ordering::Greater => Ok(Some(Self { list: list.to_vec(), revocations, ..self.clone() })),
        }
    }

    /// The same with the next charter. `None` where it is the one in force.
    ///
    /// # Errors
    /// [`TrustError`] for a charter that does not follow the one in force, or names another home authority than the
    /// certificate and list at hand are of.
    pub fn with_charter(&self, next: VerifiedCharter) -> Result<Option<Self>, TrustError> {
        if next.hash() == self.charter.hash() {
            return Ok(None);
        }
        CharterSeen::check(Some(&self.seen()), &next)?;
        Self::new(next, &self.home_certificate, &self.list).map(Some)
    }

    /// The charter in force.
    pub const fn charter(&self) -> &VerifiedCharter {
        &self.charter
    }

    /// What to remember of the charter.
    pub fn seen(&self) -> CharterSeen {
        CharterSeen { version: self.charter.charter().parts().version, hash: self.charter.hash() }
    }

    /// The home authority.
    pub const fn home(&self) -> &HomeAuthority {
        &self.home
    }

    /// Home's certificate, DER.
    pub fn home_certificate(&self) -> &[u8] {
        &self.home_certificate
    }

    /// Home's revocation list in force.
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// The list, DER.
    pub fn list(&self) -> &[u8] {
        &self.list
    }

    /// For what the charter uses a key, where it names it.
    pub fn use_of(&self, key: &Point) -> Option<&str> {
        self.reserved.get(&x(key)).map(String::as_str)
    }

    /// Whether the charter knows whoever has this role and name. Agents and auditors are home's to name.
    pub fn names(&self, role: Role, name: &SubjectName) -> bool {
        let parts = self.charter.charter().parts();
        match role {
            Role::Official => parts.officials.iter().any(|official| official.name.as_str() == name.as_str()),
            Role::DataOwner => parts.owners.iter().any(|owner| owner.name.as_str() == name.as_str()),
            Role::Embassy | Role::EmbassyAuthority => {
                parts.embassies.iter().any(|embassy| embassy.name.as_str() == name.as_str())
            }
            Role::Witness => parts.witnesses.iter().any(|witness| witness.name.as_str() == name.as_str()),
            Role::Home | Role::Agent | Role::Auditor => true,
        }
    }
}

/// A key and its negative have one x, and whoever knows the one knows the other.
fn x(key: &Point) -> [u8; 32] {
    key.xy().0
}

/// Every key that the charter names, with its use.
fn reserved(charter: &VerifiedCharter) -> BTreeMap<[u8; 32], String> {
    let parts = charter.charter().parts();
    let mut uses = BTreeMap::new();
    uses.insert(x(&parts.home), "the home authority's key".to_owned());
    for official in &parts.officials {
        uses.insert(x(&official.identity), format!("the identity key of {}, which signs approvals", official.name));
        uses.insert(x(&official.dkg), format!("the DKG static key of {}", official.name));
    }
    for owner in &parts.owners {
        uses.insert(x(&owner.key), format!("the key of the data owner {}, which signs datasets", owner.name));
    }
    for witness in &parts.witnesses {
        uses.insert(x(&witness.key), format!("the key of the witness {}, which signs beats", witness.name));
    }
    for machine in parts.custody.iter().flat_map(|custody| &custody.machines) {
        let embassy = &machine.embassy;
        uses.insert(x(&machine.custody_key), format!("the custody key of {embassy}"));
        uses.insert(x(&machine.identity_key), format!("the identity key of {embassy}"));
        uses.insert(x(&machine.attestation_key), format!("the attestation key of {embassy}"));
        uses.insert(x(&machine.storage_root), format!("the storage root key of {embassy}"));
    }
    uses
}

/// What is in force now, for everyone who judges. Changes are announced.
#[derive(Debug)]
pub struct InForce {
    now: RwLock<Arc<Trust>>,
    changes: watch::Sender<u64>,
}

impl InForce {
    /// Begins with what was read at start.
    pub fn new(trust: Trust) -> Self {
        Self { now: RwLock::new(Arc::new(trust)), changes: watch::Sender::new(0) }
    }

    /// What is in force at this moment.
    pub fn get(&self) -> Arc<Trust> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a successor in force, and tells everyone who listens. Save it first.
    pub fn set(&self, next: Trust) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Hears of every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// Where the wall clock is read. The host can change it; what must not follow it goes by the TPM's or the boot's clock.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// The machine's own clock.
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        UnixTime(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    })
}
