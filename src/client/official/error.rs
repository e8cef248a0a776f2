//! Why an official's own directory does not give what is needed; each says what happened, who can act, and what next.

use std::{io, path::PathBuf};

use crate::{
    client::ClientError,
    keys::KeyError,
    protocol::{
        certificate::CertificateError,
        charter::ChainError,
        dataset_version::VersionError,
        facts::FactsError,
        hash::Hash,
        ids::{EmbassyName, OfficialName},
        slot::PointSeen,
    },
};

/// Why an official's directory, or something that should go into it, is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// A file that must be there is not.
    #[error("{path} is not there. {advice}", path = path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// What to do.
        advice: &'static str,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}. Check the disk and who may read it", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} is damaged, or is something else: {reason}. {advice}", path = path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// Another command is at work in the directory.
    #[error("another chancery is at work in {path}. Wait for it, or end it, and try again", path = path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// A certificate or list is refused.
    #[error("{path}: {error}. Ask home for a new one, then `chancery official connect`", path = path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// By which rule.
        error: CertificateError,
    },
    /// An older revocation list than one that was seen.
    #[error(
        "the revocation list has number {offered}, and {seen} was seen before: somebody shows an old one. Ask home for the last"
    )]
    OldList {
        /// Seen.
        seen: u64,
        /// Offered.
        offered: u64,
    },
    /// A charter is not taken.
    #[error("{0}. Do not go on; ask home which charter is in force")]
    Chain(#[from] ChainError),
    /// There is no charter yet.
    #[error(
        "no charter is known here yet. `chancery official inbox` asks the embassies for it; home can give it to you as well"
    )]
    NoCharter,
    /// The embassy is not in the settings.
    #[error(
        "the embassy {name} is not known here ({known}). `chancery official connect --embassy {name}=https://...` says where it is"
    )]
    NoEmbassy {
        /// Which.
        name: EmbassyName,
        /// The known ones.
        known: String,
    },
    /// The charter has no such official, or other keys for this name.
    #[error("the charter in force does not name {name} with the identity key that is used here. Ask home")]
    NotInCharter {
        /// The name.
        name: OfficialName,
    },
    /// The embassy's TPM was told of a charter that was never seen here.
    #[error(
        "the TPM of {embassy} is said to hold the charter {pinned}, and no charter of this network that is known here is that \
         one. Nothing was signed; ask home which charters there are, and tell the others"
    )]
    PinnedUnknown {
        /// Where.
        embassy: EmbassyName,
        /// The hash.
        pinned: Box<Hash>,
    },
    /// The facts of the charter.
    #[error("{0}. Ask home")]
    Charter(#[from] crate::protocol::charter::CharterError),
    /// The facts contradict themselves.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// A dataset version is refused.
    #[error("the record of dataset {dataset} is refused: {error}. Ask its data owner")]
    Dataset {
        /// Which.
        dataset: String,
        /// Why.
        error: VersionError,
    },
    /// A point stands under two slots.
    #[error("{0}. Do not contribute; tell the data owner and the other officials")]
    Point(#[from] PointSeen),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The network, or the embassy.
    #[error(transparent)]
    Client(#[from] ClientError),
}
