//! The text of an access policy, and the digest by which a charter names it (protocol.md §12.9).
//!
//! Only text here: what it means is for `service/policy.rs`, which asks Cedar. The digest is over the text itself, byte for
//! byte, so that what people read is what they agree to, and no library's idea of a normal form can change it.

use std::collections::BTreeMap;

use crate::protocol::{hash::Hash, label::Label};

/// The name of the schema's file in a policy directory.
pub const SCHEMA_FILE: &str = "chancery.cedarschema";
/// How the names of policies' files end.
pub const POLICY_SUFFIX: &str = ".cedar";
/// The longest file, in bytes: people have to read it.
pub const MAX_FILE_BYTES: usize = 64 * 1024;
/// The most files of policies.
pub const MAX_FILES: usize = 64;

/// Why texts are no policy's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessTextError {
    /// A file that nobody would read.
    #[error("{name} has {bytes} bytes; a file of a policy has at most {MAX_FILE_BYTES}. Split it")]
    TooLong {
        /// Which file.
        name: String,
        /// Its length.
        bytes: usize,
    },
    /// Too many files, or none.
    #[error("a policy has 1 to {MAX_FILES} files *{POLICY_SUFFIX}, and this one has {files}")]
    Files {
        /// How many there are.
        files: usize,
    },
    /// A name that could be mistaken.
    #[error("{} is no name of a policy's file: a-z, 0-9 and '-', then {POLICY_SUFFIX}", .name.escape_debug())]
    Name {
        /// The name.
        name: String,
    },
    /// Two files with one name.
    #[error("{name} is there twice")]
    Twice {
        /// The name.
        name: String,
    },
}

/// A schema and the policies beside it, by the names of their files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessText {
    schema: String,
    policies: BTreeMap<String, String>,
}

impl AccessText {
    /// Takes the texts of the schema and of the policies' files, in any order.
    ///
    /// # Errors
    /// [`AccessTextError`], with the file.
    pub fn new(schema: String, policies: impl IntoIterator<Item = (String, String)>) -> Result<Self, AccessTextError> {
        let bounded = |name: &str, text: &str| match text.len() {
            bytes if bytes > MAX_FILE_BYTES => Err(AccessTextError::TooLong { name: name.to_owned(), bytes }),
            _ => Ok(()),
        };
        bounded(SCHEMA_FILE, &schema)?;
        let mut named = BTreeMap::new();
        for (name, text) in policies {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            let stem = name.strip_suffix(POLICY_SUFFIX).unwrap_or_default();
            if stem.is_empty() || name.len() > 100 || !stem.bytes().all(plain) {
                return Err(AccessTextError::Name { name });
            }
            bounded(&name, &text)?;
            if let Some(_before) = named.insert(name.clone(), text) {
                return Err(AccessTextError::Twice { name });
            }
        }
        match named.len() {
            1..=MAX_FILES => Ok(Self { schema, policies: named }),
            files => Err(AccessTextError::Files { files }),
        }
    }

    /// The policy that comes with this program: the files of `policy/` as they were when it was built.
    pub fn embedded() -> Self {
        let policies = EMBEDDED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Self { schema: EMBEDDED_SCHEMA.to_owned(), policies: policies.collect() }
    }

    /// The schema.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The policies' files, by name, in the order of names.
    pub const fn policies(&self) -> &BTreeMap<String, String> {
        &self.policies
    }

    /// What a charter's `policy` says (protocol.md §12.9).
    pub fn digest(&self) -> Hash {
        Hash::of(Label::ACCESS_POLICY, |out| {
            out.bytes(self.schema.as_bytes());
            // At most `MAX_FILES`.
            out.u16(u16::try_from(self.policies.len()).unwrap_or(u16::MAX));
            for (name, text) in &self.policies {
                out.bytes(name.as_bytes()).bytes(text.as_bytes());
            }
        })
    }
}

const EMBEDDED_SCHEMA: &str = include_str!("../../policy/chancery.cedarschema");

const EMBEDDED: [(&str, &str); 5] = [
    ("ceremonies.cedar", include_str!("../../policy/ceremonies.cedar")),
    ("datasets.cedar", include_str!("../../policy/datasets.cedar")),
    ("genesis.cedar", include_str!("../../policy/genesis.cedar")),
    ("leases.cedar", include_str!("../../policy/leases.cedar")),
    ("look.cedar", include_str!("../../policy/look.cedar")),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(schema: &str, policies: &[(&str, &str)]) -> Result<AccessText, AccessTextError> {
        let policies = policies.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        AccessText::new(schema.to_owned(), policies)
    }

    #[test]
    fn the_digest_covers_every_byte_and_name_and_no_order() {
        let of = |schema, policies: &[_]| text(schema, policies).unwrap().digest();
        let one = of("s", &[("a.cedar", "x"), ("b.cedar", "y")]);
        assert_eq!(one, of("s", &[("b.cedar", "y"), ("a.cedar", "x")]));
        for other in [
            of("S", &[("a.cedar", "x"), ("b.cedar", "y")]),
            of("s", &[("a.cedar", "x "), ("b.cedar", "y")]),
            of("s", &[("a.cedar", "y"), ("b.cedar", "x")]),
            of("s", &[("a.cedar", "x"), ("c.cedar", "y")]),
            of("s", &[("a.cedar", "x")]),
            of("s", &[("a.cedar", "xy"), ("b.cedar", "")]),
        ] {
            assert_ne!(one, other);
        }
        // Fixed for ever: charters name it. Computed elsewhere from §12.9.
        assert_eq!(one.to_string(), "282d63b1ee80af4fb14115a2bdddaed6371e774567acc10262d3687fdf1e9232");
    }

    #[test]
    fn what_nobody_would_read_is_refused() {
        assert_eq!(text("s", &[]), Err(AccessTextError::Files { files: 0 }));
        let long = "x".repeat(MAX_FILE_BYTES + 1);
        assert!(matches!(text(&long, &[("a.cedar", "")]), Err(AccessTextError::TooLong { .. })));
        assert!(matches!(text("s", &[("a.cedar", &long)]), Err(AccessTextError::TooLong { .. })));
        assert!(matches!(text("s", &[("a.cedar", ""), ("a.cedar", "")]), Err(AccessTextError::Twice { .. })));
        for name in ["", ".cedar", "A.cedar", "a.txt", "../a.cedar", "a/b.cedar", "ä.cedar", "a"] {
            assert!(matches!(text("s", &[(name, "")]), Err(AccessTextError::Name { .. })), "{name}");
        }
        let many: Vec<(String, String)> = (0..=MAX_FILES).map(|i| (format!("{i}.cedar"), String::new())).collect();
        assert_eq!(AccessText::new(String::new(), many), Err(AccessTextError::Files { files: MAX_FILES + 1 }));
    }

    #[test]
    fn every_file_of_the_policy_is_embedded() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policy");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.ends_with(POLICY_SUFFIX) {
                found.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
        let embedded = AccessText::embedded();
        let rebuilt = AccessText::new(embedded.schema().to_owned(), found).unwrap();
        assert_eq!(rebuilt, embedded, "src/protocol/access.rs embeds every policy/*.cedar and nothing else");
    }
}
