//! Which tpm2-tss a process really runs on: the one it was built against, the transports that the stack opens by itself
//! included. An older libtss2 under the same names would be taken in silence otherwise.
#![cfg(feature = "hardware")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use hsm_sim::{BootProfile, Rack};
use tss_esapi::{Context, TctiNameConf};

/// Where pkg-config found tpm2-tss when this was built.
const BUILT_AGAINST: &str = env!("CHANCERY_TPM2_TSS");

/// Marks the child of the first test.
const CHILD: &str = "CHANCERY_LINKAGE_CHILD";

fn expected() -> PathBuf {
    Path::new(BUILT_AGAINST).canonicalize().unwrap()
}

/// The names of the libtss2 libraries among `paths`; each must be in the directory that this was built against.
fn libraries<'a>(of: &str, paths: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in paths.filter(|path| path.contains("libtss2-")) {
        let path = Path::new(path).canonicalize().unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(path.parent(), Some(expected().as_path()), "{of} loads {name} from elsewhere; see build.rs");
        names.insert(name.split(".so").next().unwrap().to_owned());
    }
    names
}

/// Runs again without the search path that cargo gives to tests: a service has none either.
#[test]
fn a_process_runs_on_the_tpm2_tss_it_was_built_against() {
    if std::env::var_os(CHILD).is_some() {
        return look_at_own_maps();
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_runs_on_the_tpm2_tss_it_was_built_against", "--nocapture"])
        .env_remove("LD_LIBRARY_PATH")
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = [child.stdout, child.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(child.status.success() && said.contains("looked at"), "{said}");
}

fn look_at_own_maps() {
    let rack = Rack::temporary().unwrap();
    let mut machine = rack.machine("luxembourg").unwrap();
    machine.power_on(&BootProfile::default()).unwrap();
    // The stack opens the transport by name at this moment, by its own search.
    let mut context = Context::new(TctiNameConf::from_str(&machine.tcti()).unwrap()).unwrap();
    context.get_random(8).unwrap();

    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let names = libraries("this process", maps.lines().filter_map(|line| line.split_whitespace().nth(5)));
    for name in ["libtss2-esys", "libtss2-sys", "libtss2-mu", "libtss2-tctildr", "libtss2-tcti-swtpm"] {
        assert!(names.contains(name), "{name} is not loaded: {names:?}");
    }
    println!("looked at {names:?}");
}

#[test]
fn the_command_and_the_demonstration_load_the_same() {
    let command = PathBuf::from(env!("CARGO_BIN_EXE_chancery"));
    let demonstration = command.with_file_name("examples").join("demo");
    let mut programs = vec![command];
    // It is built with everything else, and missing only where this test alone was asked for.
    programs.extend(demonstration.exists().then_some(demonstration));
    for program in programs {
        let name = program.file_name().unwrap().to_string_lossy().into_owned();
        // ld.so(8): lists what it would load, and starts nothing.
        let listed =
            Command::new(&program).env_remove("LD_LIBRARY_PATH").env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(!listed.contains("libtss2-esys.so.0 => not found"), "{name} does not find tpm2-tss");
        let found = libraries(&name, listed.lines().filter_map(|line| line.split("=> ").nth(1)?.split(' ').next()));

        let dynamic = Command::new("readelf").args(["--dynamic", "--wide"]).arg(&program).output().unwrap();
        let dynamic = String::from_utf8(dynamic.stdout).unwrap();
        assert!(!dynamic.contains("(RUNPATH)"), "{name} has a RUNPATH, which does not reach the stack's transports");
        let rpath = dynamic.lines().find(|line| line.contains("(RPATH)"));
        let is_systems = Command::new("ldconfig").arg("-p").output().is_ok_and(|cache| {
            String::from_utf8_lossy(&cache.stdout).contains(&format!("{BUILT_AGAINST}/libtss2-esys.so"))
        });
        match rpath {
            Some(rpath) => assert!(rpath.contains(BUILT_AGAINST), "{name}: {rpath}"),
            None => assert!(is_systems, "{name} has no RPATH, and {BUILT_AGAINST} is not where the system looks"),
        }
        assert!(found.contains("libtss2-esys"), "{name} drives a TPM: {found:?}");
        println!("{name}: {found:?}");
    }
}
