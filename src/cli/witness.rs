//! `chancery witness`: the beats on which an embassy's leases live.
//!
//! A beat says that this witness can be reached and wants the leases to go on. Whoever no longer wants that stops beating, and
//! the leases are suspended, then wiped. The embassy draws what is to be answered; the answer is signed with the key that the
//! charter names for this witness, over a connection with another key.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use chancery::{
    client::{
        Exchange, Repeat,
        api::DocumentBody,
        leases::{BeatQuestion, BeatTaken},
        system_clock,
    },
    keys::{
        IdentitySigner, KeyError, disk,
        file::{KeyFile, KeyKind},
    },
    protocol::{
        beat::{Beat, BeatNonce, BeatRequest},
        ids::{CharterId, WitnessName},
    },
};
use clap::{Args, Subcommand};

use crate::cli::{
    ask,
    connection::{Line, Visit, revocations},
    failure::Failure,
    network::{InForce, Network},
    signer::TokenPlace,
    text::hash,
};

const AFTER_HELP: &str = "\
Examples:
  chancery witness beat --dir geneva --embassy luxembourg --server https://embassy.example:8443
  chancery witness beat --dir geneva --embassy luxembourg --server https://embassy.example:8443 --every 60

The directory holds what `chancery keys witness` made and what home sent back. --every should be a third of the charter's heartbeat \
or less: a beat counts from the moment at which the embassy asked for it. Ending this command is how a witness says no.";

/// Keep an embassy's leases alive, or stop doing so
#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Beat(BeatArguments),
}

/// Answer an embassy's question, once or again and again
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
struct BeatArguments {
    /// Beat again after so many seconds, until this command is ended; once without it
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    every: Option<u32>,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    visit: Visit,
    /// Read the passphrase of witness.key from this open file descriptor instead of the terminal
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
    #[command(flatten)]
    token: TokenPlace,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let Command::Beat(arguments) = &arguments.command;
    let mut witness = Witness::open(arguments)?;
    let Some(every) = arguments.every else {
        return witness.beat(out);
    };
    loop {
        // Whatever went wrong, the next beat may do better: a witness that gives up ends leases.
        if let Err(failure) = witness.look_again(arguments) {
            writeln!(out, "what lies in the directory now is not taken, and what was there before holds: {failure}")?;
        }
        if let Err(failure) = witness.beat(out) {
            writeln!(out, "no beat: {failure}")?;
        }
        out.flush()?;
        std::thread::sleep(Duration::from_secs(every.into()));
    }
}

struct Witness {
    name: WitnessName,
    key: Box<dyn IdentitySigner>,
    charter: CharterId,
    line: Line,
    /// What the line goes by: the charter in force, home's list, the certificate.
    by: Vec<Vec<u8>>,
    /// The number of home's list.
    list: u64,
}

/// What lies in the directory now.
fn lying(in_force: &InForce, dir: &Path) -> Vec<Vec<u8>> {
    let files = ["home.crl", "connection.crt"].map(|name| std::fs::read(dir.join(name)).unwrap_or_default());
    std::iter::once(in_force.charter.hash().as_bytes().to_vec()).chain(files).collect()
}

/// Whether the charter in force names this witness with this key.
fn check(in_force: &InForce, name: &WitnessName, key: &dyn IdentitySigner) -> Result<(), Failure> {
    let parts = in_force.charter.charter().parts();
    match parts.witnesses.iter().find(|known| known.name == *name) {
        Some(known) if known.key == *key.public() => Ok(()),
        Some(_) => {
            let what = format!("the charter in force names another key for witness {name}");
            Err(Failure::Refused(what, "Take the key that the charter names, or have the charter amended"))
        }
        None => {
            let what = format!("the charter in force, version {}, names no witness {name}", parts.version);
            Err(Failure::Refused(what, "Get the newest charters from home, or have the charter amended"))
        }
    }
}

impl Witness {
    fn open(arguments: &BeatArguments) -> Result<Self, Failure> {
        let BeatArguments { network, visit, passphrase_fd, token, .. } = arguments;
        let dir = network.dir.as_ref().ok_or_else(|| {
            Failure::Refused("no directory is named".to_owned(), "Give --dir, with the keys of this witness in it")
        })?;
        let named = load(dir.join("connection.key"), KeyKind::Connection)?;
        let name = WitnessName::new(named.name().as_str()).map_err(|error| {
            Failure::Refused(error.to_string(), "Make the keys again with `chancery keys witness NAME`")
        })?;
        let key: Box<dyn IdentitySigner> = match token.open()? {
            Some((token, key)) => Box::new(token.key(key)?),
            None => {
                let file = load(dir.join("witness.key"), KeyKind::Identity)?;
                let asked = format!("passphrase of {}, to beat", file.name());
                let passphrase = ask::once(&asked, *passphrase_fd, "--passphrase-fd")?;
                Box::new(file.signer(KeyKind::Identity, &passphrase)?)
            }
        };
        // The memory's lock is not held while the embassy is waited for.
        let in_force = network.open()?;
        check(&in_force, &name, key.as_ref())?;
        let by = lying(&in_force, dir);
        let list = revocations(&in_force.home, dir)?.number();
        let line = visit.open(&in_force, Some(dir), Exchange::HybridPreferred)?;
        Ok(Self { name, key, charter: in_force.charter.id(), line, by, list })
    }

    /// Goes by a newer list, charter or certificate that was put into the directory meanwhile.
    fn look_again(&mut self, arguments: &BeatArguments) -> Result<(), Failure> {
        let BeatArguments { network, visit, .. } = arguments;
        let Some(dir) = &network.dir else { return Ok(()) };
        let in_force = network.open()?;
        let now = lying(&in_force, dir);
        if now == self.by {
            return Ok(());
        }
        check(&in_force, &self.name, self.key.as_ref())?;
        let list = revocations(&in_force.home, dir)?.number();
        if list < self.list {
            let what = format!("home.crl is revocation list {list}, and list {} was there before", self.list);
            return Err(Failure::Refused(what, "Somebody has put an old one back: get the newest from home"));
        }
        visit.renew(&mut self.line, &in_force, dir, Exchange::HybridPreferred)?;
        (self.by, self.list) = (now, list);
        Ok(())
    }

    fn beat(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let client = &self.line.client;
        let question: BeatQuestion = self.line.wait(client.get("/v1/beat"))?;
        let beat = Beat::sign(self.request(&question)?, self.name.clone(), system_clock(), &self.key)
            .map_err(|error| Failure::Refused(error.to_string(), "Check the token, and try again"))?;
        let body = DocumentBody::of(&beat);
        // A nonce is answered once: what got lost on the way is asked for again.
        let taken: BeatTaken = self.line.wait(client.post("/v1/beat", &body, &Repeat::Never))?;
        let BeatTaken { leases, good_for_seconds } = taken;
        let what = match leases {
            0 => "no lease stands".to_owned(),
            1 => "one lease stands".to_owned(),
            many => format!("{many} leases stand"),
        };
        writeln!(out, "{} beat {}: {what}; good for {good_for_seconds} s", self.name, client.embassy())?;
        Ok(())
    }

    /// What the embassy asked, as far as it is this witness's to answer.
    fn request(&self, question: &BeatQuestion) -> Result<BeatRequest, Failure> {
        let embassy = self.line.client.embassy();
        let refused = |what: &str| {
            Failure::Refused(
                format!("embassy {embassy} asks for a beat for another {what}"),
                "Do not beat it; tell the officials",
            )
        };
        if hash(&question.charter).map(CharterId) != Some(self.charter) {
            return Err(refused("network"));
        }
        if question.embassy != embassy.as_str() {
            return Err(refused("embassy"));
        }
        let nonce = hash(&question.nonce).ok_or_else(|| refused("purpose: its nonce is none"))?;
        Ok(BeatRequest { charter: self.charter, embassy: embassy.clone(), nonce: BeatNonce(nonce.0) })
    }
}

fn load(path: PathBuf, kind: KeyKind) -> Result<KeyFile, Failure> {
    let file = disk::load(&path)?;
    if file.kind() == kind { Ok(file) } else { Err(KeyError::Kind { found: file.kind(), expected: kind }.into()) }
}
