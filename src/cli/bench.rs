//! `chancery bench`: how fast an embassy answers, measured from where an agent stands.
//!
//! Real requests under a real lease, over mutual TLS, each counted against the lease's budget. What comes back are file keys of
//! stanzas that were made here a moment before; they are compared and wiped.

use std::{
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use age::Recipient as _;
use age_core::format as age_format;
use chancery::{
    client::{Client, ClientError, Exchange, unwrap::unwrap},
    protocol::{
        dataset::{Recipient, TaggedStanza},
        ids::{CeremonyId, DatasetName},
    },
};
use clap::{Args, Subcommand};
use futures_util::future::try_join_all;

use crate::cli::{
    connection::Visit,
    failure::Failure,
    input,
    network::{Network, record},
    text::hash,
};

/// The most connections at once: an embassy takes a thousand, and others want some.
const CONNECTIONS_MAX: u16 = 512;

const AFTER_HELP: &str = "\
Examples:
  chancery bench unwrap --dir replicator --embassy luxembourg --server https://embassy.example:8443 \\
    --lease 5b0c... --record land-register.1.bin

Each request spends one unwrap of the lease. The machine that asks needs cores of its own: where both run on one machine, they \
share it.";

/// Measure how fast an embassy answers
#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Unwrap(Unwrap),
}

/// Single unwraps under a lease, over connections that are kept
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
struct Unwrap {
    /// The lease: the id of the ceremony that it came from
    #[arg(long, value_name = "ID", value_parser = lease)]
    lease: CeremonyId,
    /// The data owner's record of the dataset's version that the lease opens
    #[arg(long, value_name = "FILE")]
    record: PathBuf,
    /// How many connections at once, one measurement for each number
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_value = "1,16,64",
        value_parser = clap::value_parser!(u16).range(1..=i64::from(CONNECTIONS_MAX)))]
    connections: Vec<u16>,
    /// How long each measurement takes
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    visit: Visit,
}

fn lease(text: &str) -> Result<CeremonyId, &'static str> {
    hash(text).map(CeremonyId).ok_or("a lease's id has 64 hexadecimal digits; `chancery official status` shows it")
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let Command::Unwrap(arguments) = &arguments.command;
    let found = record(&arguments.record)?;
    let (name, dataset) = (input::name(&arguments.record), found.unverified().dataset.clone());
    let (line, recipient) = {
        let network = arguments.network.open()?;
        let line = arguments.visit.open(&network, arguments.network.dir.as_ref(), Exchange::HybridRequired)?;
        let signed = network.take_record(&name, found)?;
        (line, signed.description().recipient.clone())
    };
    let made = stanza(&recipient)?;
    writeln!(out, "connections   unwraps/s   median ms   99% ms")?;
    for connections in &arguments.connections {
        let clients = (0..*connections).map(|_| line.client.apart()).collect::<Result<Vec<_>, ClientError>>()?;
        let work = Work { lease: arguments.lease, dataset: dataset.clone(), made: &made };
        // Handshakes are not what is measured.
        line.wait(try_join_all(clients.iter().map(|client| work.once(client))))?;
        let until = Instant::now() + Duration::from_secs(arguments.seconds.into());
        let started = Instant::now();
        let times = line.wait(try_join_all(clients.iter().map(|client| work.until(client, until))))?;
        let took = started.elapsed();
        let mut times: Vec<Duration> = times.into_iter().flatten().collect();
        times.sort_unstable();
        let rate = times.len() as f64 / took.as_secs_f64();
        let at = |part: usize| times.get(times.len() * part / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        writeln!(out, "{connections:>11} {rate:>11.0} {:>11.2} {:>8.2}", at(50), at(99))?;
    }
    Ok(())
}

/// A stanza with the file key that it wraps.
struct Made {
    stanza: TaggedStanza,
    file_key: [u8; 16],
}

/// As stock age makes it.
fn stanza(recipient: &Recipient) -> Result<Made, Failure> {
    let none = |what: &str| Failure::Refused(format!("no stanza could be made: {what}"), "Check the record");
    let stock: age::tagpq::Recipient = recipient.to_string().parse().map_err(none)?;
    let file_key = [0x5a; 16]; // of no file
    let wrapped = stock.wrap_file_key(&age_format::FileKey::new(Box::new(file_key)));
    let (stanzas, _) = wrapped.map_err(|error| none(&error.to_string()))?;
    let stanza = stanzas.first().ok_or_else(|| none("age gave none"))?;
    let words: Vec<&str> = std::iter::once(stanza.tag.as_str()).chain(stanza.args.iter().map(String::as_str)).collect();
    let read = TaggedStanza::parse(&words, &stanza.body).map_err(|error| none(&error.to_string()))?;
    Ok(Made { stanza: read.ok_or_else(|| none("it is of another kind"))?, file_key })
}

struct Work<'a> {
    lease: CeremonyId,
    dataset: DatasetName,
    made: &'a Made,
}

impl Work<'_> {
    async fn once(&self, client: &Client) -> Result<(), ClientError> {
        let key = unwrap(client, &self.lease, &self.dataset, &self.made.stanza).await?;
        let same = matches!(&key, Ok(Some(key)) if *key.expose() == self.made.file_key);
        let reason = match key {
            Err(why) => why,
            Ok(_) if same => return Ok(()),
            Ok(_) => "its file key is not the one that was wrapped".to_owned(),
        };
        Err(ClientError::Unreadable { embassy: client.embassy().clone(), reason })
    }

    async fn until(&self, client: &Client, until: Instant) -> Result<Vec<Duration>, ClientError> {
        let mut times = Vec::new();
        while Instant::now() < until {
            let before = Instant::now();
            self.once(client).await?;
            times.push(before.elapsed());
        }
        Ok(times)
    }
}
