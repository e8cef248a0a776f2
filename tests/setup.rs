//! The set-up script on machines that lack something: it says what to install and changes nothing it may not change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A directory of programs: all the machine's but those left out, and some replaced by scripts.
fn programs(into: &Path, without: &[&str], scripts: &[(&str, &str)]) -> PathBuf {
    let bin = into.join("bin");
    std::fs::create_dir(&bin).unwrap();
    for folder in ["/usr/bin", "/bin", "/usr/local/bin"] {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if !without.contains(&name.as_str()) && scripts.iter().all(|(script, _)| *script != name) {
                let _ = symlink(&path, bin.join(&name)); // the first of a name wins
            }
        }
    }
    for (name, text) in scripts {
        let path = bin.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    bin
}

/// Runs a copy of the script, which takes the copy's place for the project.
fn setup(folder: &Path, path: &Path) -> Output {
    run(&mut prepared(folder, path))
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn prepared(folder: &Path, path: &Path) -> Command {
    let scripts = folder.join("a project/scripts");
    std::fs::create_dir_all(&scripts).unwrap();
    let copy = scripts.join("setup.sh");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/setup.sh"), &copy).unwrap();
    let mut command = Command::new("/bin/bash");
    command.arg(copy).env("PATH", path);
    command
}

fn cargo_configuration(folder: &Path) -> Option<String> {
    std::fs::read_to_string(folder.join("a project/.cargo/config.toml")).ok()
}

#[test]
fn without_root_it_names_the_packages_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let called = folder.path().join("apt-get-was-called");
    let apt_get = format!("#!/bin/sh\ntouch '{}'\nexit 1\n", called.display());
    let scripts = [("id", "#!/bin/sh\necho 1000\n"), ("apt-get", &apt_get), ("cargo", "#!/bin/sh\nexit 0\n")];
    let bin = programs(folder.path(), &["swtpm", "softhsm2-util", "sudo"], &scripts);
    let output = setup(folder.path(), &bin);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("apt-get install --no-install-recommends swtpm softhsm2"), "{said}");
    assert!(said.contains("administrator"), "{said}");
    assert!(!called.exists() && cargo_configuration(folder.path()).is_none(), "it did something without the right to");
}

#[test]
fn on_a_machine_that_has_everything_it_does_nothing_and_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let called = folder.path().join("apt-get-was-called");
    let apt_get = format!("#!/bin/sh\ntouch '{}'\nexit 1\n", called.display());
    let bin = programs(folder.path(), &[], &[("apt-get", &apt_get), ("cargo", "#!/bin/sh\nexit 0\n")]);
    let output = setup(folder.path(), &bin);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty() && output.stdout.is_empty(), "{said}");
    assert!(!called.exists(), "it installed something on a machine that has everything");
    // The same as the project's own, though cargo has set PKG_CONFIG_PATH for this test from it.
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cargo/config.toml");
    let own = std::fs::read_to_string(own).ok();
    assert_eq!(cargo_configuration(folder.path()), own, "run `make setup` again if the script has changed since");
}

#[test]
fn a_configuration_of_cargo_that_is_not_its_own_stays() {
    let folder = tempfile::tempdir().unwrap();
    let bin = programs(folder.path(), &[], &[("cargo", "#!/bin/sh\nexit 0\n")]);
    let mut command = prepared(folder.path(), &bin);
    let configuration = folder.path().join("a project/.cargo/config.toml");
    std::fs::create_dir_all(configuration.parent().unwrap()).unwrap();
    let own = "[build]\njobs = 1\n";
    std::fs::write(&configuration, own).unwrap();
    let output = run(&mut command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(std::fs::read_to_string(&configuration).unwrap(), own, "{said}");
    // Where cargo has to be told of a library, it says which lines are wanted.
    let needed = !said.is_empty();
    assert_eq!(output.status.success(), !needed);
    assert!(!needed || said.contains("PKG_CONFIG_PATH"), "{said}");
}

#[test]
fn it_never_stops_without_a_word() {
    // Each leaves the script something that it cannot go on without.
    let cargo = [("cargo", "#!/bin/sh\nexit 0\n")];
    for (story, without, variables, expected) in [
        (
            "another distribution",
            &["apt-get", "apt-cache", "pkg-config", "swtpm"][..],
            &[("CHANCERY_CACHE", "cache")][..],
            "no apt",
        ),
        ("no home", &[], &[("HOME", ""), ("XDG_CACHE_HOME", ""), ("CHANCERY_CACHE", "")], "HOME"),
        ("a space in the cache's path", &[], &[("CHANCERY_CACHE", "a cache")], "space"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = prepared(folder.path(), &programs(folder.path(), without, &cargo));
        for (name, value) in variables {
            match *value {
                "" => command.env_remove(name),
                path => command.env(name, folder.path().join(path)),
            };
        }
        let output = run(&mut command);
        let said = String::from_utf8_lossy(&output.stderr);
        // A machine whose own library is new enough needs no cache.
        let nothing_to_build = output.status.success() && story.contains("cache");
        assert!(nothing_to_build || said.contains("setup: ") && said.contains(expected), "{story}: {said}");
    }
}

#[test]
fn without_a_toolchain_it_says_so_first() {
    let folder = tempfile::tempdir().unwrap();
    let output = setup(folder.path(), &programs(folder.path(), &["cargo"], &[]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("Rust toolchain"), "{said}");
}

#[test]
fn a_missing_test_runner_is_installed() {
    let folder = tempfile::tempdir().unwrap();
    let asked = folder.path().join("asked");
    let cargo = format!("#!/bin/sh\n[ \"$1\" = nextest ] && exit 1\necho \"$@\" > '{}'\n", asked.display());
    let bin = programs(folder.path(), &[], &[("cargo", &cargo)]);
    let output = setup(folder.path(), &bin);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("installing cargo-nextest"), "{said}");
    assert_eq!(std::fs::read_to_string(asked).unwrap().trim(), "install --locked --quiet cargo-nextest");
}
