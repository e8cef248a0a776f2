#!/usr/bin/env bash
# Installs what building, testing and the demo need, and nothing that is already there.
#
# Safe to run again: a machine that has everything is recognized in well under a second. Without root (or password-less
# sudo) it changes nothing, says what to install, and stops. It trusts the machine's own apt configuration and Debian's
# archive keys: tpm2-tss comes as Debian's signed source package, built once per user into a cache directory.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # not on every user's path, and configure scripts look for programs there

project=$(cd "$(dirname "$0")/.." && pwd)
tss_version=4.1.3

say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

cache=${CHANCERY_CACHE:-${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}}
[ -n "$cache" ] || die "HOME is not set. Set it, or CHANCERY_CACHE to a directory for what is built once."
[ -n "${CHANCERY_CACHE:-}" ] || cache=$cache/chancery
prefix=$cache/tpm2-tss-$tss_version

command -v cargo >/dev/null || die "no Rust toolchain found. Install one (rustup or your distribution's), then run this again."

# The system's own, whatever search path the caller (cargo among them) has set.
system_tss_is_new() { env -u PKG_CONFIG_PATH pkg-config --atleast-version="$tss_version" tss2-esys 2>/dev/null; }
cached_tss_is_there() { [ -f "$prefix/lib/pkgconfig/tss2-esys.pc" ] && [ -f "$prefix/.complete" ]; }

# ---- Debian packages -------------------------------------------------------------------------------------------------
# command (or file) that proves the package is there : package
wanted='
cc:build-essential
pkg-config:pkg-config
git:git
tar:tar
openssl:openssl
swtpm:swtpm
swtpm_setup:swtpm-tools
swtpm_localca:swtpm-tools
certtool:gnutls-bin
softhsm2-util:softhsm2
pkcs11-tool:opensc
tpm2_eventlog:tpm2-tools
gcore:gdb
'
missing=
need() { case " $missing " in *" $1 "*) ;; *) missing="$missing $1" ;; esac; }
for row in $wanted; do
    command -v "${row%%:*}" >/dev/null || need "${row#*:}"
done

tss_source=ready
if ! cached_tss_is_there && ! system_tss_is_new; then
    # Debian 13 and later carry a new enough library; the candidate is asked before anything is built.
    candidate=$(apt-cache policy libtss2-dev 2>/dev/null | awk '/Candidate:/ {print $2}') || candidate=
    if [ -n "$candidate" ] && [ "$candidate" != "(none)" ] && dpkg --compare-versions "$candidate" ge "$tss_version"; then
        tss_source=package
        need libtss2-dev
    else
        tss_source=build
        # Its autotools take no other path.
        case $cache in
        *[!A-Za-z0-9/._+-]*) die "tpm2-tss cannot be built in '$cache': the path has a space or another special character. Set CHANCERY_CACHE to a plain one." ;;
        esac
        for row in autoconf:autoconf automake:automake libtoolize:libtool make:make dpkg-source:dpkg-dev; do
            command -v "${row%%:*}" >/dev/null || need "${row#*:}"
        done
        [ -f /usr/share/aclocal/ax_pthread.m4 ] || need autoconf-archive
        [ -f /usr/share/aclocal/ltdl.m4 ] || need libltdl-dev
        [ -f /usr/include/openssl/evp.h ] || need libssl-dev
    fi
fi

root=
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then root='sudo -n'; else root=no; fi
fi

if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || die "this machine has no apt. Please install the equivalent of:$missing"
    if [ "$root" = no ]; then
        die "packages are missing and this user may not install them. Ask an administrator to run:
    apt-get install --no-install-recommends$missing"
    fi
    say "installing$missing"
    log=$(mktemp)
    # An update may fail for a source that is not needed here, and apt be busy with something else for a while. sudo keeps no
    # environment, so the front end is set behind it.
    $root apt-get update >"$log" 2>&1 || say "apt-get update had errors; going on with the lists there are"
    if ! $root env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing >>"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "apt-get could not install$missing (its last lines are above)."
    fi
    rm -f "$log"
fi

# ---- tpm2-tss --------------------------------------------------------------------------------------------------------
# Built from Debian's own source package of trixie, because Debian 12 has 3.2.1, which the bindings cannot use.
build_tss() {
    local uri arch_opts
    rm -rf "$cache"/build.* # of an earlier run that was killed; the lock is ours
    work=$(mktemp -d "$cache/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    uri=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk '$1 == "Debian" && $2 == "Debian" && !found++ {print $3}') || uri= # read to the end: a broken pipe is an error here
    [ -n "$uri" ] || die "no Debian archive in this machine's apt configuration. On Debian: run apt-get update, then this again. Elsewhere: install tpm2-tss $tss_version or newer with its headers (pkg-config tss2-esys must find it), then this again."
    mkdir -p "$work/lists/partial" "$work/archives/partial"
    printf 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s trixie main\n' "$uri" >"$work/sources.list"
    arch_opts=(-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work" -o "Dir::Cache::Archives=$work/archives"
        -o APT::Sandbox::User= -o Acquire::Languages=none)
    say "tpm2-tss: fetching Debian's source package of trixie"
    apt-get "${arch_opts[@]}" update >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; die "apt-get update for the source package failed."; }
    (cd "$work" && apt-get "${arch_opts[@]}" source --download-only tpm2-tss) >>"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2; die "the source package of tpm2-tss could not be fetched."; }
    mkdir "$work/src"
    tar -xf "$work"/tpm2-tss_"$tss_version".orig.tar.* -C "$work/src" --strip-components=1 ||
        die "trixie no longer carries tpm2-tss $tss_version; update tss_version in scripts/setup.sh."
    say "tpm2-tss: building $tss_version (about a minute, once per user)"
    # Its bootstrap asks git for the version. One && chain: in a group before ||, set -e does not stop at a failure.
    {
        cd "$work/src" && git init -q . && git add -A &&
            git -c user.name=setup -c user.email=setup@localhost -c commit.gpgsign=false commit -qm "$tss_version" &&
            git tag "$tss_version" && ./bootstrap &&
            ./configure --prefix="$prefix" --disable-static --disable-fapi --disable-policy --disable-doxygen-doc &&
            make -j"$(nproc)" && make install DESTDIR="$work/out" && cd "$project"
    } >>"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; die "tpm2-tss did not build (its last lines are above)."; }
    touch "$work/out$prefix/.complete"
    rm -rf "$prefix"
    mv "$work/out$prefix" "$prefix" # one rename: a broken-off build never looks like a finished one
}

if [ "$tss_source" = build ]; then
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9 # two clones set up at once build it once
    cached_tss_is_there || build_tss
    exec 9>&-
fi

# ---- cargo's own configuration ---------------------------------------------------------------------------------------
config=$project/.cargo/config.toml
if cached_tss_is_there && ! system_tss_is_new; then
    lines="# Written by make setup; not part of the repository.
[env]
PKG_CONFIG_PATH = { value = \"$prefix/lib/pkgconfig\", force = true }" # force: over one that the user's shell may set
else
    lines="# Written by make setup; not part of the repository."
fi
if [ -f "$config" ] && ! grep -q '^# Written by make setup' "$config"; then
    # Somebody's own. It stays; what cargo must know has to stand in it.
    if cached_tss_is_there && ! system_tss_is_new && ! grep -qF "$prefix/lib/pkgconfig" "$config"; then
        die "$config is your own, and stays as it is. Please add to it:
$(printf '%s\n' "$lines" | tail -n +2)"
    fi
elif [ ! -f "$config" ] || [ "$(cat "$config")" != "$lines" ]; then
    mkdir -p "$project/.cargo"
    printf '%s\n' "$lines" >"$config"
fi

# ---- the test runner -------------------------------------------------------------------------------------------------
if ! cargo nextest --version >/dev/null 2>&1; then
    say "installing cargo-nextest (some minutes, once)"
    cargo install --locked --quiet cargo-nextest || die "cargo-nextest could not be installed."
fi
