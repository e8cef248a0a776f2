//! Links the binaries so that they load exactly the tpm2-tss they were built against.
//!
//! Debian 12 has an older libtss2 under the same sonames: without this a binary would silently run on it. `DT_RPATH`
//! (not `DT_RUNPATH`) is needed because libtss2-tctildr opens its transport modules by name itself.
#![allow(clippy::expect_used, clippy::print_stdout)]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG_PATH");
    if std::env::var_os("CARGO_FEATURE_HARDWARE").is_none() {
        return;
    }
    let library = pkg_config::Config::new()
        .atleast_version("4.1.3")
        .cargo_metadata(false)
        .probe("tss2-esys")
        .expect("tpm2-tss 4.1.3 or newer was not found: run `make setup`, or build with `--no-default-features --features tools`");
    // Known to the test that looks at what a process has really loaded. Asked for by name, because pkg-config leaves the
    // system's own directories out of the link paths.
    let directory = pkg_config::get_variable("tss2-esys", "libdir").expect("tss2-esys names the directory it is in");
    println!("cargo::rustc-env=CHANCERY_TPM2_TSS={directory}");
    for path in &library.link_paths {
        println!("cargo::rustc-link-arg=-Wl,--disable-new-dtags,-rpath,{}", path.display());
    }
}
