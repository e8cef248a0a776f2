//! `chancery completions`: what a shell needs to complete chancery's commands.

use std::io::Write;

use clap::{Args, ValueEnum};
use clap_complete::{generate, shells};

use crate::cli::failure::Failure;

const AFTER_HELP: &str = "\
Examples:
  chancery completions bash > /etc/bash_completion.d/chancery
  chancery completions zsh > ~/.zfunc/_chancery           (a directory in zsh's fpath)
  chancery completions fish > ~/.config/fish/completions/chancery.fish";

/// Print a completion script for a shell
///
/// The script goes to standard output; the shell reads it from wherever it keeps such scripts.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(arguments: &Arguments, cli: &mut clap::Command, out: &mut dyn Write) -> Result<(), Failure> {
    // Into memory first: the generator panics where its output cannot be written.
    let mut script = Vec::new();
    match arguments.shell {
        Shell::Bash => generate(shells::Bash, cli, "chancery", &mut script),
        Shell::Zsh => generate(shells::Zsh, cli, "chancery", &mut script),
        Shell::Fish => generate(shells::Fish, cli, "chancery", &mut script),
    }
    Ok(out.write_all(&script)?)
}
