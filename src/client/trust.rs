//! Which embassy answers, judged by our own code: home → the embassy's authority → its TLS certificate of the day.
//!
//! Trusts the home authority's key, the revocation list that is handed in, and the charter where it names the embassy's
//! identity key. Names in the DNS prove nothing and are not asked: an address says where to look, never who is there.
//! protocol.md §14.

use crate::protocol::{
    certificate::{CertificateError, Certified, HomeAuthority, Revocations, Role, UnixTime},
    group::Point,
    ids::EmbassyName,
};

/// Why whoever answered is not taken for the embassy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// A certificate of the path breaks a rule.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Another embassy of the same home.
    #[error("it is the embassy {found}; {expected} was meant")]
    OtherEmbassy {
        /// The name in the certificate.
        found: String,
        /// The name that was asked for.
        expected: EmbassyName,
    },
    /// Home certified another key for this name than the charter pins.
    #[error(
        "home certified another key for {embassy} than the identity key in the charter: this is not the machine that the charter names"
    )]
    OtherKey {
        /// The embassy.
        embassy: EmbassyName,
    },
}

/// Whom to believe to be one embassy.
#[derive(Clone, Debug)]
pub struct Trust {
    home: HomeAuthority,
    revocations: Revocations,
    embassy: EmbassyName,
    identity_key: Option<Point>,
}

impl Trust {
    /// `identity_key` is what the charter names for this embassy; a charter that names no custody yet names none.
    pub const fn new(
        home: HomeAuthority,
        revocations: Revocations,
        embassy: EmbassyName,
        identity_key: Option<Point>,
    ) -> Self {
        Self { home, revocations, embassy, identity_key }
    }

    /// The embassy.
    pub const fn embassy(&self) -> &EmbassyName {
        &self.embassy
    }

    /// Judges the path that was presented, the TLS certificate first.
    ///
    /// # Errors
    /// [`Distrust`] with the rule.
    pub fn judge(&self, path: &[&[u8]], now: UnixTime) -> Result<Certified, Distrust> {
        let certified = self.home.certify(path, &self.revocations, now)?.in_role(&[Role::Embassy])?;
        let found = &certified.identity().name;
        if found.as_str() != self.embassy.as_str() {
            return Err(Distrust::OtherEmbassy { found: found.to_string(), expected: self.embassy.clone() });
        }
        if let Some(pinned) = &self.identity_key {
            // In the role of an embassy only a path of two is certified: its second is the authority.
            let authority = path.get(1).copied().unwrap_or_default();
            let authority = self.home.embassy_authority(authority, &self.revocations, now)?;
            if authority.certified().key() != pinned {
                return Err(Distrust::OtherKey { embassy: self.embassy.clone() });
            }
        }
        Ok(certified)
    }

    /// Repeats time and revocation for a path that was judged before: for each request, since TLS does not ask again.
    ///
    /// # Errors
    /// [`Distrust`] with the rule.
    pub fn still_stands(&self, certified: &Certified, now: UnixTime) -> Result<(), Distrust> {
        Ok(certified.still_stands(&self.revocations, now)?)
    }
}
