//! The whole story on simulated hardware, with chancery's own programs: a network with two embassies is founded, data is
//! sealed, quorums open it over the network, and the host country tries what it can. Run it with `make demo [DATA=path]`; the
//! last line and the exit code say whether everything held. `make up` stops before the end and leaves the network running.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod embassy;
mod goods;
mod host;
mod narrator;
mod network;
mod people;
mod program;
#[path = "../../tests/policy/raw.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod raw;
mod siege;
mod story;

use std::{path::PathBuf, process::ExitCode};

use crate::narrator::Narrator;

const USAGE: &str = "\
usage: demo [DATA]        tell the whole story
       demo --up [DATA]   tell its beginning, and leave the network running until you press Ctrl-C

DATA is a file or directory to send on the journey; by default this repository.";

fn main() -> ExitCode {
    let mut arguments: Vec<PathBuf> =
        std::env::args_os().skip(1).filter(|word| !word.is_empty()).map(PathBuf::from).collect();
    let up = arguments.first().is_some_and(|word| word == "--up");
    if up {
        arguments.remove(0);
    }
    if arguments.len() > 1 || arguments.first().is_some_and(|word| word.to_string_lossy().starts_with("--")) {
        println!("{USAGE}");
        return ExitCode::from(2);
    }
    let data = arguments.first();
    if let Some(missing) = data.filter(|path| !path.exists()) {
        println!("{} does not exist: give DATA=path, a file or a directory", missing.display());
        return ExitCode::from(2);
    }
    let mut narrator = Narrator::new();
    let told = if up {
        story::up(&mut narrator, data.map(PathBuf::as_path))
    } else {
        story::whole(&mut narrator, data.map(PathBuf::as_path))
    };
    if let Err(error) = &told {
        println!("\nThe story ends here: {error:#}");
    }
    let held = match up {
        true => told.is_ok(),
        false => narrator.finish(story::STEPS, siege::ATTEMPTS),
    };
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
