//! `hsm-sim`: holds one simulated machine powered on for as long as it runs.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hsm_sim::{BootProfile, Error, Latency, Rack, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

/// A rack of simulated hardware: machines with TPMs whose boot is measured.
#[derive(Parser)]
#[command(name = "hsm-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Powers a machine on, says where its TPM is, and holds it until standard input ends or SIGTERM comes. Both end in
    /// an orderly shutdown; SIGKILL is a power cut.
    Run(Run),
    /// Writes the event log a boot would leave, without any machine.
    Eventlog(EventLog),
}

#[derive(Args)]
struct Run {
    /// The rack's directory; made if it is not there.
    #[arg(long)]
    dir: PathBuf,
    /// The machine's name; its TPM is manufactured the first time.
    #[arg(long)]
    machine: String,
    #[command(flatten)]
    boot: Boot,
    /// Give operations the times of hardware.
    #[arg(long)]
    latency: Option<LatencyProfile>,
}

#[derive(Args)]
struct EventLog {
    /// The file to write.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    boot: Boot,
}

#[derive(Args)]
struct Boot {
    /// What to boot: a file of lines `key = value` with the names of the options below (secure-boot is `on` or `off`).
    #[arg(long)]
    profile: Option<PathBuf>,
    /// The firmware: a text that stands for it, or @FILE.
    #[arg(long)]
    firmware: Option<String>,
    /// The boot loader: a text that stands for it, or @FILE.
    #[arg(long)]
    boot_loader: Option<String>,
    /// The kernel image: a text that stands for it, or @FILE.
    #[arg(long)]
    kernel: Option<String>,
    /// The kernel's command line.
    #[arg(long)]
    command_line: Option<String>,
    /// The service program: a text that stands for it, or @FILE.
    #[arg(long)]
    service: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum LatencyProfile {
    /// A discrete TPM on a serial bus.
    Discrete,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Eventlog(arguments) => write_event_log(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hsm-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Run) -> Result<()> {
    let profile = arguments.boot.profile()?;
    // Before anything is started, so that an early signal is not a power cut.
    let end = end_requests()?;
    let rack = Rack::open(&arguments.dir)?;
    let mut machine = rack.machine(&arguments.machine)?;
    machine.bus().set_latency(arguments.latency.map(|LatencyProfile::Discrete| Latency::discrete_tpm()));
    machine.power_on(&profile)?;
    print_lines(&[
        ("tcti", machine.tcti()),
        ("ek-certificate-rsa", machine.ek_certificate_rsa().display().to_string()),
        ("ek-certificate-ecc", machine.ek_certificate_ecc().display().to_string()),
        ("vendor-root", rack.vendor_roots().iter().map(|path| path.display().to_string()).collect()),
        ("event-log", machine.event_log_path().display().to_string()),
        ("tpm-process", machine.tpm_process().unwrap_or_default().to_string()),
    ])?;
    // An error would mean that both senders are gone, and nobody could ask any more.
    let _ = end.recv();
    machine.power_off()
}

fn write_event_log(arguments: &EventLog) -> Result<()> {
    let profile = arguments.boot.profile()?;
    std::fs::write(&arguments.out, profile.event_log()).map_err(|source| Error::Io {
        what: "write",
        path: arguments.out.clone(),
        source,
    })
}

impl Boot {
    fn profile(&self) -> Result<BootProfile> {
        let mut profile = self.profile.as_deref().map_or_else(|| Ok(BootProfile::default()), BootProfile::from_file)?;
        for (key, value) in [
            ("firmware", &self.firmware),
            ("boot-loader", &self.boot_loader),
            ("kernel", &self.kernel),
            ("command-line", &self.command_line),
            ("service", &self.service),
        ] {
            if let Some(value) = value {
                profile.set(key, value)?;
            }
        }
        Ok(profile)
    }
}

/// A channel that gets a message when standard input ends or a signal asks to end.
fn end_requests() -> Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::channel();
    let on_signal = sender.clone();
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])
        .map_err(|source| Error::System { what: "signal handlers", source })?;
    std::thread::spawn(move || {
        // The receiver is gone only when the program is about to end anyway.
        let _ = signals.forever().next().map(|_| on_signal.send(()));
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while matches!(std::io::stdin().read(&mut buffer), Ok(1..)) {}
        let _ = sender.send(());
    });
    Ok(receiver)
}

fn print_lines(lines: &[(&str, String)]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let mut write = || {
        for (key, value) in lines {
            writeln!(out, "{key}={value}")?;
        }
        out.flush()
    };
    write().map_err(|source| Error::System { what: "standard output", source })
}
