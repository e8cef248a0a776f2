//! `chancery home charter complete`: what key generation and provisioning made becomes the next charter.
//!
//! Each quorum's key comes out of the certificate that all its officials signed, checked against the charter's own static
//! keys. An embassy's keys come as its officials provisioned them; whoever signs the charter vouches for them.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use chancery::protocol::{
    ceremony::genesis::{GenesisResult, complete},
    charter::{Charter, CharterCustody, CharterMachine, CharterParts, QuorumRule, SignedCharter, VerifiedCharter},
    dkg::{Certificate, RecoveryData, Terms},
    hash::Hash,
    ids::{Generation, QuorumKind},
    quorum_key::QuorumKey,
    wire::Document,
};
use clap::Args;

use super::{lacks_signatures_only, new::next, write_changes, write_charter};
use crate::cli::{
    failure::Failure,
    input::{self, Expected},
    network, output,
};

/// Make the next charter out of what key generation and provisioning made
///
/// The first time it takes both quorums' certificates and at least one embassy's keys; later ones, in the same generation, take
/// the keys of embassies that join.
#[derive(Args)]
pub(super) struct Complete {
    /// The home authority's certificate (home.crt)
    #[arg(long, value_name = "FILE")]
    home: PathBuf,
    /// The directory with the charters before it (*.charter)
    #[arg(long, value_name = "DIRECTORY")]
    charters: PathBuf,
    /// The unseal quorum's certificate of its key generation, or recovery data
    #[arg(long, value_name = "FILE", requires = "recovery")]
    unseal: Option<PathBuf>,
    /// The recovery quorum's
    #[arg(long, value_name = "FILE", requires = "unseal")]
    recovery: Option<PathBuf>,
    /// An embassy's TPM keys
    #[arg(long = "machine", value_name = "FILE", required_unless_present = "results")]
    machines: Vec<PathBuf>,
    /// What came of an embassy's genesis (result-EMBASSY.bin, from any official): keys and certificates with their proofs, in
    /// place of all three above; may be given several times
    #[arg(long = "result", id = "results", value_name = "FILE", conflicts_with_all = ["machines", "unseal", "recovery"])]
    results: Vec<PathBuf>,
    /// The charter, a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(arguments: &Complete, out: &mut dyn Write) -> Result<(), Failure> {
    output::is_free(&arguments.out)?;
    let home = network::home(&arguments.home)?;
    let chain = network::chain(&home, &arguments.charters)?;
    let last = chain.last().ok_or_else(|| network::nothing(&arguments.charters))?;
    if !arguments.results.is_empty() {
        return proven(arguments, last, out);
    }
    let mut custody = custody(arguments, last)?;
    for path in &arguments.machines {
        let machine = machine(path)?;
        if custody.machines.iter().any(|known| known.embassy == machine.embassy) {
            return Err(Failure::Refused(
                format!("{}: {} has its keys already", input::name(path), machine.embassy),
                "A change of machine makes a new generation: it takes an amend ceremony. Nothing was written",
            ));
        }
        custody.machines.push(machine);
    }
    let parts = last.charter().parts();
    let version = parts
        .version
        .checked_add(1)
        .ok_or_else(|| Failure::Refused("there is no version after the last".to_owned(), "Nothing was written"))?;
    let parts = CharterParts {
        version,
        founding: Some(last.id()),
        previous: Some(last.hash()),
        custody: Some(custody),
        ..parts.clone()
    };
    let charter = Charter::new(parts).map_err(|error| {
        Failure::Refused(format!("this makes no charter: {error}"), "Check which files belong together")
    })?;
    let signed = SignedCharter::unsigned(charter);
    if let Err(error) = signed.clone().succeed(last)
        && !lacks_signatures_only(&error, &signed)
    {
        return Err(Failure::Refused(
            format!("this makes a charter that cannot follow: {error}"),
            "Check which files belong together; nothing was written",
        ));
    }
    output::create(&arguments.out, &signed.encode())?;
    write_charter(signed.unverified(), out)?;
    write_changes(Some(last), signed.unverified(), out)?;
    writeln!(out)?;
    writeln!(out, "written, signed by nobody: {}", input::name(&arguments.out))?;
    writeln!(out, "Next: {}", next(signed.unverified(), true))?;
    Ok(())
}

/// The next charter out of results that prove what they say; what home has to compare is which machines they are of.
fn proven(arguments: &Complete, last: &VerifiedCharter, out: &mut dyn Write) -> Result<(), Failure> {
    let mut results = Vec::new();
    for path in &arguments.results {
        let expected = Expected {
            what: "the result of a genesis",
            bound: GenesisResult::MAX_BYTES,
            missing: "Each official who followed that genesis has it",
        };
        let bytes = input::read(path, &expected)?;
        let result = GenesisResult::decode(&bytes).map_err(|error| Failure::Document {
            name: input::name(path),
            kind: "what came of an embassy's genesis, for the completed charter",
            error,
        })?;
        let verified = result.verify(last).map_err(|error| {
            let what = format!("{} does not hold: {error}", input::name(path));
            Failure::Refused(what, "Ask another official for it; nothing was written")
        })?;
        writeln!(out, "{} holds: embassy {}", input::name(path), verified.machine().embassy)?;
        for (what, words) in verified.words() {
            writeln!(out, "  {what}, in words: {words}")?;
        }
        results.push(verified);
    }
    let charter = complete(last, &results)
        .map_err(|error| Failure::Refused(error.to_string(), "Check which files belong together"))?;
    let signed = SignedCharter::unsigned(charter);
    output::create(&arguments.out, &signed.encode())?;
    writeln!(out)?;
    write_charter(signed.unverified(), out)?;
    write_changes(Some(last), signed.unverified(), out)?;
    writeln!(out)?;
    writeln!(out, "written, signed by nobody: {}", input::name(&arguments.out))?;
    writeln!(
        out,
        "BEFORE YOU SIGN: each machine's words must be those that you wrote down when you prepared its TPM."
    )?;
    writeln!(
        out,
        "Next: `chancery home charter sign --as home`; then an official puts it up: `chancery official genesis --charter`"
    )?;
    Ok(())
}

/// Custody as it begins, or as it is in force.
fn custody(arguments: &Complete, last: &VerifiedCharter) -> Result<CharterCustody, Failure> {
    let charter = last.charter();
    let parts = charter.parts();
    match (&parts.custody, &arguments.unseal, &arguments.recovery) {
        (Some(custody), None, None) => Ok(custody.clone()),
        (Some(custody), _, _) => Err(Failure::Refused(
            format!("the charter in force names the quorums' keys of generation {}", custody.generation),
            "Leave --unseal and --recovery out: new keys make a new generation, which takes an amend ceremony",
        )),
        (None, Some(unseal), Some(recovery)) => {
            let generation = Generation::FIRST;
            let (unseal, unseal_certificate) = quorum_key(charter, QuorumKind::Unseal, &parts.unseal, unseal)?;
            let (recovery, recovery_certificate) =
                quorum_key(charter, QuorumKind::Recovery, &parts.recovery, recovery)?;
            let machines = Vec::new();
            Ok(CharterCustody { generation, unseal, unseal_certificate, recovery, recovery_certificate, machines })
        }
        (None, _, _) => Err(Failure::Refused(
            "the charter in force names no quorum's key yet".to_owned(),
            "Give both certificates of the key generation: --unseal FILE and --recovery FILE",
        )),
    }
}

/// The key that a certificate gives under the charter, and the certificate's hash.
fn quorum_key(
    charter: &Charter,
    kind: QuorumKind,
    rule: &QuorumRule,
    path: &Path,
) -> Result<(QuorumKey, Hash), Failure> {
    let certificate = certificate(path)?;
    let terms = terms(charter, kind, rule, Generation::FIRST)?;
    let key = certificate.verify(&terms).map_err(|error| {
        Failure::Refused(
            format!("{} is not the {kind} quorum's certificate under this charter: {error}", input::name(path)),
            "Take it from any of that quorum's officials: each keeps a copy",
        )
    })?;
    Ok((key, Hash::of_bytes(&certificate.encode())))
}

/// What a quorum's key generation runs under.
pub(super) fn terms(
    charter: &Charter,
    kind: QuorumKind,
    rule: &QuorumRule,
    generation: Generation,
) -> Result<Terms, Failure> {
    let wrong = |error: String| Failure::Refused(error, "Ask home for the charter again");
    let keys = charter.static_keys(rule).map_err(|error| wrong(error.to_string()))?;
    Terms::new(charter.id(), kind, generation, rule.threshold, keys).map_err(|error| wrong(error.to_string()))
}

/// Both quorums of a charter with their keys.
pub(super) fn quorums<'a>(
    parts: &'a CharterParts,
    custody: &'a CharterCustody,
) -> [(QuorumKind, &'a QuorumRule, &'a QuorumKey); 2] {
    [(QuorumKind::Unseal, &parts.unseal, &custody.unseal), (QuorumKind::Recovery, &parts.recovery, &custody.recovery)]
}

/// Reads a certificate of a key generation: by itself, or out of an official's recovery data.
pub(super) fn certificate(path: &Path) -> Result<Certificate, Failure> {
    let expected = Expected {
        what: "a certificate of a key generation",
        bound: RecoveryData::MAX_BYTES,
        missing: "Each official of the quorum keeps a copy",
    };
    let bytes = input::read(path, &expected)?;
    RecoveryData::decode(&bytes).map(|data| data.certificate().clone()).or_else(|_| {
        Certificate::decode(&bytes).map_err(|error| Failure::Document {
            name: input::name(path),
            kind: "a certificate of a key generation",
            error,
        })
    })
}

fn machine(path: &Path) -> Result<CharterMachine, Failure> {
    let expected = Expected {
        what: "an embassy's TPM keys",
        bound: CharterMachine::MAX_BYTES,
        missing: "The embassy writes it once its TPM is provisioned",
    };
    let bytes = input::read(path, &expected)?;
    CharterMachine::decode(&bytes).map_err(|error| Failure::Document {
        name: input::name(path),
        kind: "an embassy's TPM keys",
        error,
    })
}
