//! Reading an access policy from its directory, in the one way that home, officials and the embassy share: they must come to
//! the same digest.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::protocol::access::{AccessText, AccessTextError, MAX_FILE_BYTES, POLICY_SUFFIX, SCHEMA_FILE};

/// Why a directory holds no policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessReadError {
    /// A file or the directory.
    #[error("{}: {source}. A policy is a directory with {SCHEMA_FILE} and files *{POLICY_SUFFIX}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The texts are no policy's.
    #[error("{}: {source}", .path.display())]
    Text {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        source: AccessTextError,
    },
}

/// Reads the schema and all `*.cedar` files. Other files there are of no interest.
///
/// # Errors
/// [`AccessReadError`] with the path.
pub fn read(directory: &Path) -> Result<AccessText, AccessReadError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| AccessReadError::Read { path, source }
    };
    let mut policies = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        let Some(name) = path.file_name() else { continue };
        // A name that is no text is refused by its looks, like every other odd one.
        let name = name.to_string_lossy().into_owned();
        if name.ends_with(POLICY_SUFFIX) {
            policies.push((name, bounded(&path).map_err(failed(&path))?));
        }
    }
    let schema = directory.join(SCHEMA_FILE);
    let schema = bounded(&schema).map_err(failed(&schema))?;
    let path = || directory.to_path_buf();
    AccessText::new(schema, policies).map_err(|source| AccessReadError::Text { path: path(), source })
}

/// One byte above the bound, so that what is too long is seen to be.
fn bounded(path: &Path) -> Result<String, io::Error> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}
