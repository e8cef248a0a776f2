//! Runs every published vector found under `CHANCERY_VECTORS` (default `../shared/vectors`).
//!
//! Where the directory is absent, as in a user's clone, each test says so and passes; each prints how many vectors it ran.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs, unreachable_pub)]

mod conformance {
    pub mod dkg;
    pub mod eventlogs;

    use std::path::PathBuf;

    /// The files directly in `folder` of the vectors whose names start and end so, sorted; `None` where there are no vectors.
    pub fn files(folder: &str, start: &str, end: &str) -> Option<Vec<PathBuf>> {
        let root = std::env::var_os("CHANCERY_VECTORS")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors"), PathBuf::from);
        if !root.is_dir() {
            println!("no vectors at {}: set CHANCERY_VECTORS to run them", root.display());
            return None;
        }
        let mut found: Vec<PathBuf> = std::fs::read_dir(root.join(folder))
            .into_iter()
            .flatten()
            .map(|entry| entry.expect("a directory entry").path())
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                name.starts_with(start) && name.ends_with(end)
            })
            .collect();
        found.sort();
        Some(found)
    }
}
