//! The chancery command. Everything is in `cli`, one file per command group; this file only starts it.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
