//! Passphrases and PINs: from the terminal without echo, or from a file descriptor. Never from the command line or the
//! environment, which other processes can read.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Error, ErrorKind, Read, Write},
};

use chancery::protocol::secret::SecretVec;
use zeroize::Zeroize;

use crate::cli::failure::Failure;

/// No passphrase and no PIN is longer.
const MAX_BYTES: usize = 1024;

/// Asks once.
pub(super) fn once(what: &str, fd: Option<u32>, option: &'static str) -> Result<SecretVec, Failure> {
    let failed = |source| Failure::Ask { what: what.to_owned(), source, option };
    match fd {
        Some(fd) => from_fd(fd).map_err(failed),
        None => rpassword::prompt_password(format!("{what}: "))
            .map(|text| SecretVec::new(text.into_bytes()))
            .map_err(failed),
    }
}

/// Asks twice at a terminal, where a slip of the hand would lock the key away; once elsewhere.
pub(super) fn new(what: &str, fd: Option<u32>, option: &'static str) -> Result<SecretVec, Failure> {
    let first = once(&format!("new {what}"), fd, option)?;
    if fd.is_none() && once(&format!("the same {what} again"), fd, option)?.expose() != first.expose() {
        return Err(Failure::Differ { what: what.to_owned() });
    }
    Ok(first)
}

/// Asks at the terminal for a line that is no secret. What is asked stands on the terminal, wherever output goes.
pub(super) fn line(question: &str) -> Result<String, Error> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    write!(terminal, "{question}")?;
    let mut answer = String::new();
    BufReader::new(terminal.take(MAX_BYTES as u64)).read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

/// The first line that a descriptor gives; the line's end is not part of it.
fn from_fd(fd: u32) -> Result<SecretVec, Error> {
    let mut file = File::open(format!("/dev/fd/{fd}"))?;
    // Its final capacity from the start: growing would leave copies behind.
    let mut line = vec![0; MAX_BYTES];
    let mut length = 0;
    let outcome = loop {
        let Some(rest) = line.get_mut(length..).filter(|rest| !rest.is_empty()) else {
            break Err(Error::new(ErrorKind::InvalidData, "it is longer than 1024 bytes"));
        };
        match file.read(rest) {
            Ok(0) => break Ok(length),
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => break Err(error),
        }
        if let Some(end) = line.iter().take(length).position(|byte| *byte == b'\n') {
            break Ok(end);
        }
    };
    match outcome {
        Ok(0) => {
            line.zeroize();
            Err(Error::new(ErrorKind::UnexpectedEof, "it is empty"))
        }
        Ok(end) => {
            line.iter_mut().skip(end).for_each(|byte| *byte = 0);
            line.truncate(end);
            Ok(SecretVec::new(line))
        }
        Err(error) => {
            line.zeroize();
            Err(error)
        }
    }
}
