//! `chancery official open`: opens a ceremony, with a statement that this official signs. It approves nothing yet.
//!
//! What is opened are datasets, for a lease or a release; or, with --adopt, nothing: the TPM is told which charter is in force.

use std::{io::Write, path::PathBuf};

use chancery::{
    client::{
        api::{DatasetLine, Status},
        official::{Directory, DirectoryError, Rise, Visit},
        system_clock,
    },
    protocol::{
        certificate::UnixTime,
        hash::Hash,
        ids::{AgentName, DatasetName, DatasetVersion, EmbassyName},
        paragraph::Purpose,
        recipient::RecipientCard,
        statement::{Adoption, DatasetAt, LeaseTerms, Mode, Resets, SignedStatement, Statement, StatementParts},
        wire::Document,
    },
};
use clap::Args;
use rand_core::{OsRng, RngCore};

use super::{
    confirm,
    place::{Place, wait},
    show, span,
};
use crate::cli::{
    failure::Failure,
    input::{self, Expected},
};

const AFTER_HELP: &str = "\
A lease keeps the keys in the embassy's memory, for the named agents, this long and this often. A release sends them to one \
recipient, and the embassy never has them; the recipient hands you a card.

With --adopt nothing is opened: the embassy's TPM is told which charter is in force, and the embassy starts with no older one \
afterwards, whatever is put on its disk. Do it after every new charter, at every embassy; `chancery official status` says where it \
is due. It takes as many officials as the charter says amend an embassy. If the embassy does not have the charter yet, it gets it \
from you.

Every reset or restart of the machine since the statement you last agreed to is shown. If there was one, you acknowledge it by \
giving the present counts: --acknowledge RESETS/RESTARTS. Ask what happened before you do.

Opening is not approving: you approve like the others, with `approve`.

Examples:
  chancery official open --embassy luxembourg --purpose \"restore the land register after the flood\" \\
      --dataset land-register --agent restorer --for 8h --unwraps 100000
  chancery official open --embassy luxembourg --purpose \"hand the police files to the court\" \\
      --dataset police-files@3 --release court.card --expires 2d
  chancery official open --embassy luxembourg --adopt --purpose \"clara has a new connection certificate\"";

/// Open a ceremony: to unseal datasets, or to adopt the charter in force
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The embassy that is to open
    #[arg(long, value_name = "NAME")]
    embassy: EmbassyName,
    /// What for, in a sentence that can be read aloud
    #[arg(long, value_name = "TEXT", value_parser = purpose)]
    purpose: Purpose,
    /// A dataset, at its highest version or at the one behind @; may be given up to eight times
    #[arg(long, value_name = "NAME[@VERSION]", required_unless_present = "adopt", value_parser = dataset)]
    dataset: Vec<(DatasetName, Option<DatasetVersion>)>,
    /// An agent that may unwrap under the lease; may be given several times
    #[arg(long, value_name = "NAME", required_unless_present_any = ["release", "adopt"])]
    agent: Vec<AgentName>,
    /// How long the lease lasts: 8h, 30m, 1d12h
    #[arg(long = "for", value_name = "SPAN", value_parser = span::seconds, required_unless_present_any = ["release", "adopt"])]
    lasts: Option<u32>,
    /// How many unwraps the lease allows
    #[arg(long, value_name = "NUMBER", required_unless_present_any = ["release", "adopt"])]
    unwraps: Option<u64>,
    /// Release to the recipient of this card, instead of a lease
    #[arg(long, value_name = "CARD", conflicts_with_all = ["agent", "lasts", "unwraps"])]
    release: Option<PathBuf>,
    /// Open nothing: have the TPM hold the hash of the charter in force
    #[arg(long, conflicts_with_all = ["dataset", "agent", "lasts", "unwraps", "release"])]
    adopt: bool,
    /// When the ceremony ends if nothing came of it
    #[arg(long, value_name = "SPAN", value_parser = span::seconds, default_value = "1d")]
    expires: u32,
    /// The machine's resets and restarts, as shown, where they have risen
    #[arg(long, value_name = "RESETS/RESTARTS", value_parser = resets)]
    acknowledge: Option<Resets>,
    /// Do not ask again
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

fn purpose(text: &str) -> Result<Purpose, String> {
    Purpose::new(text).map_err(|error| error.to_string())
}

fn dataset(text: &str) -> Result<(DatasetName, Option<DatasetVersion>), String> {
    let (name, version) = text.split_once('@').map_or((text, None), |(name, version)| (name, Some(version)));
    let name = DatasetName::new(name).map_err(|error| error.to_string())?;
    let Some(version) = version else { return Ok((name, None)) };
    let version = version.parse().ok().and_then(DatasetVersion::new).ok_or("a version is a number from 1")?;
    Ok((name, Some(version)))
}

fn resets(text: &str) -> Result<Resets, String> {
    let wrong = || "write it as it is shown: 4/0".to_owned();
    let (resets, restarts) = text.split_once('/').ok_or_else(wrong)?;
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_| wrong());
    Ok(Resets { reset_count: number(resets)?, restart_count: number(restarts)? })
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let mut directory = arguments.place.open()?;
    let keys = arguments.place.unlock(&directory)?;
    wait(async {
        let (visit, _) = Visit::begin(&mut directory, &keys, &arguments.embassy).await?;
        let facts = directory.facts(&arguments.embassy)?;
        let status = visit.status().await.map_err(DirectoryError::from)?;
        let mode = mode(arguments, &directory, &status)?;
        let (Some(reset_count), Some(restart_count)) = (status.reset_count, status.restart_count) else {
            let what = format!("{} does not say how often its TPM was reset", arguments.embassy);
            return Err(Failure::Refused(what, "Whoever runs the machine can say what is wrong with its TPM"));
        };
        let acknowledged = Resets { reset_count, restart_count };
        acknowledge(arguments, &directory, acknowledged, out)?;
        if let Mode::Adoption(adoption) = &mode {
            for version in visit.bring_charters(&directory, status.charter_version).await? {
                writeln!(out, "{} took charter version {version} from you", arguments.embassy)?;
            }
            show::adopting(out, &directory.adoption(&arguments.embassy, &adoption.pinned)?)?;
            writeln!(out)?;
        }
        let versions = visit.datasets().await.map_err(DirectoryError::from)?.versions;
        let datasets = arguments.dataset.iter().map(|wanted| at(wanted, &versions)).collect::<Result<Vec<_>, _>>()?;
        let now = system_clock();
        let mut nonce = [0; 16];
        OsRng.fill_bytes(&mut nonce);
        let statement = Statement::new(StatementParts {
            charter: facts.charter(),
            embassy: arguments.embassy.clone(),
            generation: facts.generation(),
            purpose: arguments.purpose.clone(),
            datasets,
            mode,
            opener: directory.name().clone(),
            opened_at: now,
            expires_at: UnixTime(now.0.saturating_add(i64::from(arguments.expires))),
            acknowledged,
            nonce,
        })
        .map_err(|error| Failure::Refused(error.to_string(), "Nothing was opened"))?;
        // What could never be approved is not opened.
        visit.take_datasets(&mut directory, &statement).await?;

        writeln!(out, "THE STATEMENT")?;
        show::statement(out, &statement)?;
        writeln!(out)?;
        confirm::yes("Open this ceremony, in your name?", arguments.yes, out)?;
        let identity = keys.identity()?;
        let signed = SignedStatement::sign(statement, &identity)
            .map_err(|error| Failure::Refused(error.to_string(), "Nothing was opened; check the token or file"))?;
        drop(identity);
        visit.open(&signed).await.map_err(DirectoryError::from)?;
        let statement = signed.unverified();
        let id = statement.id();
        let short: String = id.to_string().chars().take(8).collect();
        writeln!(out, "ceremony {id}")?;
        writeln!(out, "words    {}", statement.words())?;
        writeln!(out)?;
        writeln!(
            out,
            "Next: read the words to the others, and tell them why. Each of you: `chancery official approve {short}`"
        )?;
        show::ways_out(out, &short)
    })
}

fn mode(arguments: &Arguments, directory: &Directory, status: &Status) -> Result<Mode, Failure> {
    if arguments.adopt {
        return adoption(arguments, directory, status).map(Mode::Adoption);
    }
    if let Some(path) = &arguments.release {
        let expected = Expected {
            what: "a recipient's card",
            bound: RecipientCard::MAX_BYTES,
            missing: "Ask the recipient for their card",
        };
        let bytes = input::read(path, &expected)?;
        let card = RecipientCard::decode(&bytes).map_err(|error| Failure::Document {
            name: input::name(path),
            kind: "a recipient's card",
            error,
        })?;
        card.verify(&directory.home()?, &directory.revocations()?, system_clock()).map_err(|error| {
            Failure::Refused(error.to_string(), "Ask the recipient for a card that home certified; nothing was opened")
        })?;
        return Ok(Mode::Release { recipient: Box::new(card) });
    }
    let charter = directory.charter()?;
    let embassy = charter.charter().parts().embassies.iter().find(|embassy| embassy.name == arguments.embassy);
    if embassy.is_some_and(|embassy| !embassy.leases) {
        let what = format!("the charter allows no lease on the hardware of {}", arguments.embassy);
        return Err(Failure::Refused(what, "Give --release with a recipient's card instead; nothing was opened"));
    }
    Ok(Mode::Lease(LeaseTerms {
        agents: arguments.agent.clone(),
        duration_seconds: arguments.lasts.unwrap_or_default(),
        unwraps: arguments.unwraps.unwrap_or_default(),
    }))
}

/// The charter in force here, after the one that the TPM was told of last.
fn adoption(arguments: &Arguments, directory: &Directory, status: &Status) -> Result<Adoption, Failure> {
    let embassy = &arguments.embassy;
    let charter = directory.charter()?.charter().at();
    let Some(pinned) = &status.pinned_hash else {
        let what = format!("{embassy} does not say which charter its TPM holds");
        return Err(Failure::Refused(what, "Whoever runs the machine can say what is wrong with its TPM"));
    };
    let pinned: Hash = pinned.parse().map_err(|_| {
        let what = format!("what {embassy} says of its TPM's charter pin does not read");
        Failure::Refused(what, "Tell the others; nothing was opened")
    })?;
    if pinned == charter.hash {
        let what = format!("charter version {} is adopted at {embassy} already: its TPM holds it", charter.version);
        return Err(Failure::Refused(what, "There is nothing to do; nothing was opened"));
    }
    Ok(Adoption { charter, pinned })
}

/// Every rise since the statement this official agreed to last is shown, and has to be acknowledged with the numbers.
fn acknowledge(arguments: &Arguments, directory: &Directory, now: Resets, out: &mut dyn Write) -> Result<(), Failure> {
    let rise = Rise::between(directory.memory().resets(&arguments.embassy), now);
    writeln!(out, "THE MACHINE")?;
    show::line(out, "TPM counts", &now.to_string())?;
    show::line(out, "resets and restarts", &rise.to_string())?;
    writeln!(out)?;
    if matches!(rise, Rise::None | Rise::First) && arguments.acknowledge.is_none_or(|given| given == now) {
        return Ok(());
    }
    if arguments.acknowledge == Some(now) {
        return Ok(());
    }
    let Resets { reset_count, restart_count } = now;
    Err(Failure::Refused(
        format!("the machine's counts are {reset_count}/{restart_count}, and that has to be acknowledged: {rise}"),
        "Ask what happened to the machine. Then give --acknowledge RESETS/RESTARTS with these numbers; nothing was opened",
    ))
}

/// The version that is meant, as far as the embassy has a record of it; the record itself is checked afterwards.
fn at((dataset, version): &(DatasetName, Option<DatasetVersion>), known: &[DatasetLine]) -> Result<DatasetAt, Failure> {
    let highest = known.iter().filter(|line| line.dataset == dataset.as_str()).map(|line| line.version).max();
    let version = version.or_else(|| highest.and_then(DatasetVersion::new)).ok_or_else(|| {
        Failure::Refused(
            format!("the embassy has no record of a dataset {dataset}"),
            "Its data owner hands one in: `chancery dataset create`",
        )
    })?;
    Ok(DatasetAt { dataset: dataset.clone(), version })
}
