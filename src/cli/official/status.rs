//! `chancery official status`: how this official and the embassies stand; with a ceremony, how that stands.

use std::io::Write;

use chancery::{
    client::{
        api::Status,
        official::{Directory, DirectoryError, Keys, Rise, Visit},
        system_clock,
    },
    protocol::{
        ids::{EmbassyName, QuorumKind},
        statement::Resets,
    },
};
use clap::Args;

use super::{
    find::{self, Wanted},
    place::{Place, wait},
    show,
};
use crate::cli::{failure::Failure, text::words};

const AFTER_HELP: &str = "\
Says what this machine has and lacks, until when home's list holds, how each embassy is, and what goes on there: ceremonies, who is \
missing, what comes next, leases, and how to stop each. With a ceremony it shows that one, also when it is over. Nothing is signed.

Examples:
  chancery official status
  chancery official status 7f3a
  chancery official status --here           (no network, no passphrase)";

/// How you and the embassies stand, or one ceremony
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    wanted: Wanted,
    /// Show only what is on this machine
    #[arg(long, conflicts_with_all = ["ceremony", "embassy"])]
    here: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let mut directory = arguments.place.open()?;
    if arguments.wanted.is_given() {
        let keys = arguments.place.unlock(&directory)?;
        return wait(async {
            let found = arguments.wanted.find(&mut directory, &keys, true).await?;
            writeln!(out, "ceremony {}", found.told.id)?;
            show::standing(out, &found.told, directory.name())?;
            show::line(out, "what", &words(&found.told.statement.to_string()))?;
            show::line(out, "words", &found.told.statement.words().to_string())?;
            if found.told.view.lease.is_some() {
                let lease = found.visit.lease(&found.told.id).await?;
                show::lease(out, &lease)?;
            }
            Ok(())
        });
    }
    here(&directory, out)?;
    if arguments.here {
        return Ok(());
    }
    if directory.settings().embassies.is_empty() && arguments.wanted.embassy().is_none() {
        return show::line(out, "embassies", "none is known: `chancery official connect --embassy NAME=https://...`");
    }
    let embassies = find::embassies(&directory, arguments.wanted.embassy())?;
    let keys = arguments.place.unlock(&directory)?;
    let mut unreached = None;
    for embassy in embassies {
        writeln!(out)?;
        if let Err(error) = wait(there(&mut directory, &keys, &embassy, out)) {
            writeln!(out, "{embassy}: not reached")?;
            unreached = Some(error);
        }
    }
    unreached.map_or(Ok(()), Err)
}

fn here(directory: &Directory, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "{}, on this machine", directory.name())?;
    let identity = if directory.settings().token.is_some() { "on the token" } else { "in a file" };
    show::line(out, "identity key", identity)?;
    match directory.home() {
        Ok(home) => show::line(out, "home authority", &format!("{}, {}", home.identity(), home.country()))?,
        Err(DirectoryError::Missing { .. }) => {
            return show::line(out, "home authority", "not known: `chancery official connect`");
        }
        Err(error) => return Err(error.into()),
    }
    match directory.revocations() {
        Ok(list) if list.until() < system_clock() => {
            let until = list.until();
            show::line(
                out,
                "revocation list",
                &format!("{}, OUT OF DATE since {until}: ask home for a new one", list.number()),
            )?;
        }
        Ok(list) => show::line(out, "revocation list", &format!("{}, until {}", list.number(), list.until()))?,
        Err(DirectoryError::Missing { .. }) => {
            show::line(out, "revocation list", "missing: `chancery official connect`")?
        }
        Err(error) => return Err(error.into()),
    }
    let charter = match directory.charter() {
        Ok(charter) => charter,
        Err(DirectoryError::NoCharter) => return show::line(out, "charter", "none seen yet"),
        Err(error) => return Err(error.into()),
    };
    let parts = charter.charter().parts();
    show::line(out, "charter", &format!("version {}, {}", parts.version, charter.authority()))?;
    show::line(out, "network", &charter.id().to_string())?;
    for (quorum, rule) in [(QuorumKind::Unseal, &parts.unseal), (QuorumKind::Recovery, &parts.recovery)] {
        let place = rule.members.iter().position(|member| member == directory.name());
        let said = match (place, &parts.custody) {
            (None, _) => "not yours".to_owned(),
            (Some(place), None) => format!("place {}; there is no share before the genesis", place + 1),
            (Some(place), Some(custody)) => {
                let file = directory.path().join(format!("share-{quorum}-{}.key", custody.generation));
                let share =
                    if file.symlink_metadata().is_ok() { "your share is here" } else { "YOUR SHARE IS NOT HERE" };
                format!("place {}; any {} open, generation {}: {share}", place + 1, rule.threshold, custody.generation)
            }
        };
        show::line(out, &format!("{quorum} quorum"), &said)?;
    }
    Ok(())
}

/// Which charter the embassy's TPM was told of, by the chain that is kept here; and what to do where it is not the one in force.
fn pinned(directory: &Directory, embassy: &EmbassyName, status: &Status) -> String {
    let Some(said) = &status.pinned_hash else { return "not known: its TPM does not answer, or is new".to_owned() };
    let Ok(charter) = directory.charter() else { return words(said) };
    let in_force = charter.charter().parts().version;
    match said.parse().ok().and_then(|hash| charter.find(&hash)) {
        Some(known) if known.version == in_force => format!("version {in_force}: adopted"),
        Some(known) => format!(
            "version {}, AND VERSION {in_force} IS IN FORCE: it is not adopted yet, and the disk could be put back. \
             `chancery official open --embassy {embassy} --adopt --purpose ...`",
            known.version
        ),
        None => format!("{}, WHICH IS NO CHARTER KNOWN HERE: ask home, and tell the others", words(said)),
    }
}

async fn there(
    directory: &mut Directory,
    keys: &Keys,
    embassy: &EmbassyName,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (visit, news) = Visit::begin(directory, keys, embassy).await?;
    let status = visit.status().await.map_err(DirectoryError::from)?;
    writeln!(out, "{embassy}, by its own account: {}", words(&status.mode))?;
    for news in news {
        show::line(out, "NEW", &words(&news))?;
    }
    show::line(out, "charter", &format!("version {}", status.charter_version))?;
    show::line(out, "charter pin", &pinned(directory, embassy, &status))?;
    if let (Some(reset_count), Some(restart_count)) = (status.reset_count, status.restart_count) {
        let now = Resets { reset_count, restart_count };
        show::line(out, "TPM counts", &now.to_string())?;
        show::line(out, "resets and restarts", &Rise::between(directory.memory().resets(embassy), now).to_string())?;
    }
    show::line(out, "roll", &format!("{} entries", status.roll_size))?;
    show::line(out, "you are there", &words(&format!("{} {}", status.you.role, status.you.name)))?;
    let (ours, theirs) = (system_clock().0, status.now);
    if ours.abs_diff(theirs) > 60 {
        show::line(out, "CLOCKS", &format!("yours and the embassy's are {} s apart", ours.abs_diff(theirs)))?;
    }
    let known = directory.charter().is_ok_and(|charter| charter.charter().facts(embassy).is_ok());
    if !known || status.mode == "founding" {
        return show::line(out, "next", "it is being founded: `chancery official genesis`, then home enrols its TPM");
    }
    going_on(directory, &visit, out).await
}

/// The ceremonies that have not ended, and the leases that have not.
async fn going_on(directory: &Directory, visit: &Visit, out: &mut dyn Write) -> Result<(), Failure> {
    let ceremonies = visit.ceremonies(directory, false).await?;
    let leases = visit.leases().await.map_err(DirectoryError::from)?;
    let leases: Vec<_> = leases.into_iter().filter(|lease| lease.state != "ended").collect();
    if ceremonies.is_empty() && leases.is_empty() {
        show::line(out, "ceremonies and leases", "none. `chancery official open` opens a ceremony")?;
    }
    let own = directory.name();
    for told in &ceremonies {
        let id = show::short(told);
        writeln!(out, "\n  ceremony {id}")?;
        show::line(out, "what", &words(&told.statement.to_string()))?;
        show::standing(out, told, own)?;
        if show::waits_for(told, own) {
            show::line(out, "for you", &format!("`chancery official review {id}`, then approve or deny"))?;
        }
        show::line(out, "to stop it", &format!("`chancery official stop {id} --reason ...`"))?;
    }
    for lease in &leases {
        let id: String = lease.id.chars().take(show::SHORT).collect();
        writeln!(out, "\n  lease {}", words(&id))?;
        show::line(out, "its id, for agents", &words(&lease.id))?;
        if let Some(purpose) = &lease.purpose {
            show::line(out, "purpose", &words(purpose))?;
        }
        show::lease_lines(out, lease)?;
        show::line(out, "to end it", &format!("`chancery official stop {} --reason ...`", words(&id)))?;
    }
    Ok(())
}
