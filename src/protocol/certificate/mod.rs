//! Certificates: who stands behind a key, and the rules that a certificate keeps or is refused by.
//!
//! Every identity hangs on the home authority's key, which the charter names. People (officials, agents, data owners,
//! auditors, witnesses) are exactly home → leaf; an embassy has its own CA, which may issue for its own name only. All
//! keys and signatures are ECDSA P-256 with SHA-256, checked here with the crate p256; x509-parser only takes the bytes
//! apart. A TLS library's own check comes before this one and replaces none of it: it knows no roles. Cites RFC 5280 and
//! the SPIFFE ID and X.509-SVID specifications.

mod path;
mod read;
mod revocation;

use std::fmt;

use x509_parser::time::ASN1Time;

use crate::protocol::{
    charter::Country,
    ids::SubjectName,
    wire::{Reader, Wire, WireError, Writer},
};

pub use path::{Certified, EmbassyAuthority, HomeAuthority};
pub use read::{MAX_CERTIFICATE_BYTES, bare_key, certificate_key, request_key};
pub use revocation::{MAX_LIST_BYTES, Revocations};

/// The longest that an embassy's TLS certificate may be valid: it is made anew at each start, and not revoked.
pub const EMBASSY_LEAF_SECONDS_MAX: i64 = 24 * 60 * 60;

/// A moment, in seconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(pub i64);

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ASN1Time::from_timestamp(self.0) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => write!(f, "{} s since 1970", self.0),
        }
    }
}

// Bits of the number, of which only moments from 1970 to the year 9999 are read.
impl Wire for UnixTime {
    fn write(&self, out: &mut Writer) {
        out.raw(&self.0.to_be_bytes());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let seconds = i64::from_be_bytes(input.array("time")?);
        if (0..=253_402_300_799).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(WireError::Invalid { field: "time", reason: "not from 1970 to the year 9999" })
        }
    }
}

/// What a certificate is for. Each has one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The home authority's root.
    Home,
    /// An official.
    Official,
    /// A replication agent.
    Agent,
    /// A data owner.
    DataOwner,
    /// An auditor.
    Auditor,
    /// A witness of the roll.
    Witness,
    /// An embassy's own authority, which issues its TLS certificates.
    EmbassyAuthority,
    /// An embassy's TLS certificate.
    Embassy,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 8] = [
        Self::Home,
        Self::Official,
        Self::Agent,
        Self::DataOwner,
        Self::Auditor,
        Self::Witness,
        Self::EmbassyAuthority,
        Self::Embassy,
    ];

    /// The role's part of a SPIFFE ID. An embassy's authority and its TLS certificate share it: they are one embassy.
    pub const fn segment(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Official => "official",
            Self::Agent => "agent",
            Self::DataOwner => "data-owner",
            Self::Auditor => "auditor",
            Self::Witness => "witness",
            Self::EmbassyAuthority | Self::Embassy => "embassy",
        }
    }

    /// What a certificate of this role must say. Whoever issues takes it from here too.
    pub const fn profile(self) -> Profile {
        const LEAF: Profile =
            Profile { authority: None, key_usage: KeyUsage::Signs, server: false, client: true, seconds_max: None };
        match self {
            Self::Home => Profile {
                authority: Some(1),
                key_usage: KeyUsage::IssuesAndRevokes,
                server: false,
                client: false,
                seconds_max: None,
            },
            Self::Official | Self::Agent | Self::DataOwner | Self::Auditor => LEAF,
            // A witness is asked by embassies, and asks them.
            Self::Witness => Profile { server: true, ..LEAF },
            Self::EmbassyAuthority => Profile {
                authority: Some(0),
                key_usage: KeyUsage::Issues,
                server: true,
                client: false,
                seconds_max: None,
            },
            Self::Embassy => {
                Profile { server: true, client: false, seconds_max: Some(EMBASSY_LEAF_SECONDS_MAX), ..LEAF }
            }
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Home => "home authority",
            Self::Official => "official",
            Self::Agent => "agent",
            Self::DataOwner => "data owner",
            Self::Auditor => "auditor",
            Self::Witness => "witness",
            Self::EmbassyAuthority => "embassy authority",
            Self::Embassy => "embassy",
        })
    }
}

/// Key usages, exactly one of which each role has (RFC 5280 §4.2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUsage {
    /// digitalSignature.
    Signs,
    /// keyCertSign.
    Issues,
    /// keyCertSign and cRLSign.
    IssuesAndRevokes,
}

impl KeyUsage {
    /// The bits, the first named in the lowest.
    const fn flags(self) -> u16 {
        match self {
            Self::Signs => 1,
            Self::Issues => 1 << 5,
            Self::IssuesAndRevokes => (1 << 5) | (1 << 6),
        }
    }
}

impl fmt::Display for KeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signs => "digitalSignature",
            Self::Issues => "keyCertSign",
            Self::IssuesAndRevokes => "keyCertSign and cRLSign",
        })
    }
}

/// What a certificate of one role must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Whether it may issue, and how many authorities may stand below it.
    pub authority: Option<u32>,
    /// Exactly this key usage, critical.
    pub key_usage: KeyUsage,
    /// Whether its extended key usage has serverAuth.
    pub server: bool,
    /// Whether its extended key usage has clientAuth.
    pub client: bool,
    /// The longest validity, in seconds.
    pub seconds_max: Option<i64>,
}

impl Profile {
    const fn purposes(&self) -> &'static str {
        match (self.server, self.client) {
            (true, true) => "serverAuth and clientAuth",
            (true, false) => "serverAuth",
            (false, true) => "clientAuth",
            (false, false) => "no extended key usage",
        }
    }
}

/// A SPIFFE trust domain: what all identities of one home authority begin with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// `None` unless the text has 1 to 255 characters of a-z, 0-9, '.', '-' and '_' (SPIFFE ID §2.1).
    pub fn new(text: &str) -> Option<Self> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
        ((1..=255).contains(&text.len()) && text.bytes().all(allowed)).then(|| Self(text.to_owned()))
    }

    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who a certificate says that it is of: `spiffe://<trust domain>/<role>/<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The network of identities.
    pub trust_domain: TrustDomain,
    /// The role; [`Role::Embassy`] for both kinds of an embassy's certificates.
    pub role: Role,
    /// The name.
    pub name: SubjectName,
}

impl Identity {
    /// Reads a SPIFFE ID; only the one form that [`fmt::Display`] writes.
    ///
    /// # Errors
    /// [`Rule::UriForm`], [`Rule::UnknownRole`].
    pub fn parse(uri: &str) -> Result<Self, Rule> {
        let path = uri.strip_prefix("spiffe://").ok_or(Rule::UriForm)?;
        let mut parts = path.split('/');
        let (Some(domain), Some(role), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Rule::UriForm);
        };
        let trust_domain = TrustDomain::new(domain).ok_or(Rule::UriForm)?;
        let name = SubjectName::new(name).map_err(|_| Rule::UriForm)?;
        // The last of the two with the segment `embassy` is the TLS certificate's.
        let role = Role::ALL.into_iter().rfind(|known| known.segment() == role).ok_or(Rule::UnknownRole)?;
        Ok(Self { trust_domain, role, name })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}/{}", self.trust_domain, self.role.segment(), self.name)
    }
}

/// The serial number of a certificate, as it is encoded: at most 20 bytes (RFC 5280 §4.1.2.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serial(Vec<u8>);

impl Serial {
    /// `None` for no byte and for more than 20.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (1..=20).contains(&bytes.len()).then(|| Self(bytes.to_vec()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Which document of a path is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The home authority's root certificate.
    Home,
    /// An embassy authority's certificate.
    EmbassyAuthority,
    /// The certificate at the end of the path.
    Leaf,
    /// Home's revocation list.
    RevocationList,
    /// A request for a certificate.
    Request,
    /// The path as a whole.
    Path,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Home => "the home authority's certificate",
            Self::EmbassyAuthority => "the embassy authority's certificate",
            Self::Leaf => "the certificate",
            Self::RevocationList => "the revocation list",
            Self::Request => "the certificate request",
            Self::Path => "the certificate path",
        })
    }
}

/// Why a certificate, path or revocation list was refused. Home can issue a right one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{which} is refused: {rule}")]
pub struct CertificateError {
    /// Which document.
    pub which: Which,
    /// By which rule.
    pub rule: Rule,
}

/// The rules that certificates, paths and revocation lists keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// A bound on its length.
    #[error("it has {found} bytes; at most {bound} are accepted")]
    TooLong {
        /// Bytes found.
        found: usize,
        /// Bytes accepted.
        bound: usize,
    },
    /// It is well-formed DER, with nothing after its end.
    #[error("it is not well-formed DER of its kind")]
    Malformed,
    /// X.509 version 3, and version 2 of lists.
    #[error("it is not of the X.509 version that has extensions")]
    Version,
    /// One suite.
    #[error("its key or signature is not ECDSA P-256 with SHA-256")]
    Algorithm,
    /// Nothing critical that is not understood.
    #[error("it has the critical extension {oid}, which is not one that this role has")]
    UnknownCritical {
        /// Which.
        oid: String,
    },
    /// Each extension at most once.
    #[error("it has the extension {oid} twice")]
    Repeated {
        /// Which.
        oid: String,
    },
    /// Extensions that are known must read.
    #[error("its extension {oid} does not read")]
    Extension {
        /// Which.
        oid: String,
    },
    /// The issuer's name and key identifier.
    #[error("it names another issuer than the one above it in the path")]
    Issuer,
    /// The issuer's signature.
    #[error("its signature is not of the issuer above it in the path")]
    Signature,
    /// Not before its time.
    #[error("it is valid only from {from}; it is {now}. Check this machine's clock")]
    NotYet {
        /// Its beginning.
        from: UnixTime,
        /// The moment of the check.
        now: UnixTime,
    },
    /// Not after its time.
    #[error("it expired at {until}; it is {now}. Ask home for a new one")]
    Expired {
        /// Its end.
        until: UnixTime,
        /// The moment of the check.
        now: UnixTime,
    },
    /// A bound on validity.
    #[error("it is valid for {seconds} s; its role allows at most {bound} s")]
    Lifetime {
        /// Its validity.
        seconds: i64,
        /// The bound.
        bound: i64,
    },
    /// The subject's country.
    #[error("its subject's country is not {expected}, once")]
    Country {
        /// The charter's country.
        expected: Country,
    },
    /// The subject's name.
    #[error("its subject is not exactly a country and, as common name, the name in its URI")]
    Subject,
    /// Exactly one URI.
    #[error("it has {found} URIs as subject alternative names; exactly one is needed")]
    Uris {
        /// How many.
        found: usize,
    },
    /// No names of other kinds.
    #[error("it has alternative names beside its URI, which its role does not have")]
    OtherNames,
    /// The form of the URI.
    #[error("its URI is not of the form spiffe://<trust domain>/<role>/<name>")]
    UriForm,
    /// The URI's role.
    #[error("the role in its URI is unknown")]
    UnknownRole,
    /// The URI's trust domain.
    #[error("its URI is of the trust domain {found}; {expected} is home's")]
    TrustDomain {
        /// The certificate's.
        found: TrustDomain,
        /// Home's.
        expected: TrustDomain,
    },
    /// The role that is needed.
    #[error("its role is {found}; {expected} is needed here")]
    Role {
        /// The certificate's.
        found: Role,
        /// What is needed.
        expected: String,
    },
    /// Which roles home issues itself, and which an embassy.
    #[error("a certificate of the role {role} is not issued by {issuer}")]
    IssuedBy {
        /// The certificate's role.
        role: Role,
        /// The issuer's role.
        issuer: Role,
    },
    /// An embassy issues for itself only.
    #[error("the embassy {issuer} issued it for {found}; an embassy issues for its own name only")]
    ForeignName {
        /// The embassy that issued.
        issuer: SubjectName,
        /// The name in the certificate.
        found: SubjectName,
    },
    /// Who may issue.
    #[error("{}", if *.expected { "it must be a certificate authority's, with the path length of its role, and critically so" } else { "it is a certificate authority's; this role issues nothing" })]
    Authority {
        /// Whether an authority is needed.
        expected: bool,
    },
    /// The key usage of its role.
    #[error("its key usage is not exactly {expected}, and critical")]
    KeyUsage {
        /// The role's.
        expected: KeyUsage,
    },
    /// The extended key usage of its role.
    #[error("its extended key usage is not exactly {expected}")]
    ExtendedKeyUsage {
        /// The role's.
        expected: &'static str,
    },
    /// The charter's home key.
    #[error("its key is not the home authority's key in the charter")]
    HomeKey,
    /// Home's revocations.
    #[error("it was revoked (serial number {serial})")]
    Revoked {
        /// Its serial number.
        serial: Serial,
    },
    /// The serial number.
    #[error("its serial number has no byte or more than 20")]
    Serial,
    /// The list is home's whole list.
    #[error("it is not a complete list for all of home's certificates, with a number and a date for the next one")]
    ListScope,
    /// How many certificates a path has.
    #[error("it has {found} certificates; a person's has one, an embassy's two, and home's own is not sent")]
    Length {
        /// How many.
        found: usize,
    },
}

impl Rule {
    const fn of(self, which: Which) -> CertificateError {
        CertificateError { which, rule: self }
    }
}
