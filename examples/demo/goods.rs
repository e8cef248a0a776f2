//! The data that goes on the journey: a file, or a directory packed by the system's tar.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

/// What travels: its bytes in a file, and what to call it.
pub struct Goods {
    pub path: PathBuf,
    pub name: String,
    pub bytes: u64,
    pub sha256: [u8; 32],
}

/// Takes a file as it is, packs a directory, or packs this repository where nothing is given.
pub fn pack(data: Option<&Path>, into: &Path) -> anyhow::Result<Goods> {
    let (path, name) = match data {
        Some(path) if path.is_file() => (path.to_owned(), path.display().to_string()),
        Some(path) if path.is_dir() => {
            let archive = into.join("data.tar");
            tar(&archive, path, &["."])?;
            (archive, format!("a tar of {}", path.display()))
        }
        Some(path) => bail!("{} is neither a file nor a directory: give DATA=path", path.display()),
        None => {
            let archive = into.join("repository.tar");
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            tar(&archive, root, &["--exclude=./target", "--exclude=./.git", "."])?;
            (archive, "a tar of this repository".to_owned())
        }
    };
    let (sha256, bytes) = hash_file(&path)?;
    Ok(Goods { path, name, bytes, sha256 })
}

/// SHA-256 and length of a file.
pub fn hash_file(path: &Path) -> anyhow::Result<([u8; 32], u64)> {
    let mut file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hasher = Sha256::new();
    let bytes = std::io::copy(&mut file, &mut hasher).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((hasher.finalize().into(), bytes))
}

fn tar(archive: &Path, folder: &Path, what: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("tar")
        .arg("--create")
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(folder)
        .args(what)
        .output()
        .context("cannot run tar")?;
    if !output.status.success() {
        bail!("tar could not pack {}: {}", folder.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_travels_as_it_is_and_a_directory_as_a_tar() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("some data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("register.dump"), b"plot 17").unwrap();
        let file = pack(Some(&data.join("register.dump")), folder.path()).unwrap();
        assert_eq!((file.bytes, hex(&file.sha256)), (7, hex(&Sha256::digest(b"plot 17"))));
        let packed = pack(Some(&data), folder.path()).unwrap();
        let out = Command::new("tar").arg("--list").arg("--file").arg(&packed.path).output().unwrap();
        assert!(String::from_utf8_lossy(&out.stdout).contains("register.dump"), "{out:?}");
        let missing = pack(Some(&folder.path().join("nothing")), folder.path()).map(drop).unwrap_err();
        assert!(missing.to_string().contains("give DATA=path"), "{missing}");
    }
}
