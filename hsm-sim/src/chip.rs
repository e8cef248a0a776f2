//! One TPM chip: a `swtpm` process that serves two inherited sockets, one for commands, one for the lines of its package
//! (power-up, reset, locality).
//!
//! The process holds the other ends of two socket pairs and nothing else: no port, no path. When ours close, because the
//! chip is dropped or because this process died in any way, it reads end-of-file and ends.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{Error, Result, tool};

/// Longest a TPM may work on one command: an RSA key takes swtpm seconds when the machine is busy.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);
/// Longest a process may take to end once its sockets are closed.
const END_DEADLINE: Duration = Duration::from_secs(15);
/// Header of commands and responses: tag, size, code (TPM 2.0 Library, part 1, section 18).
pub(crate) const HEADER: usize = 10;
/// Largest command or response these TPMs speak.
pub(crate) const LARGEST: usize = 4096;

// The control channel of swtpm: a big-endian command number, a body of fixed size, an answer that starts with a result.
const CONTROL_INIT: u32 = 2;
const CONTROL_SET_LOCALITY: u32 = 5;

/// A chip under power.
pub(crate) struct Chip {
    machine: String,
    log: PathBuf,
    commands: UnixStream,
    control: UnixStream,
    /// What it was last told, if that still holds.
    locality: Option<u8>,
    process: Process,
}

impl Chip {
    /// Gives power to the chip whose memory is in `directory`. Nothing has been sent to it yet.
    pub(crate) fn power(machine: &str, directory: &Path, log: &Path) -> Result<Self> {
        let (commands, their_commands) = UnixStream::pair().map_err(Error::system("a socket pair"))?;
        let (control, their_control) = UnixStream::pair().map_err(Error::system("a socket pair"))?;
        let program = tool::find("swtpm")?;
        // swtpm refuses the numbers 0 to 2, and only these three are inherited without a race between threads that start
        // processes: a shell moves them up and becomes swtpm.
        let child = Command::new("/bin/sh")
            .arg("-c")
            .arg("exec \"$0\" \"$@\" 3<&0 4<&1 </dev/null >/dev/null 2>&1")
            .arg(program)
            .args(["socket", "--tpm2", "--fd", "3", "--ctrl", "type=unixio,clientfd=4", "--tpmstate"])
            .arg(parameter("dir=", directory, ",mode=0600"))
            .arg("--log")
            .arg(parameter("file=", log, ",truncate"))
            .stdin(Stdio::from(OwnedFd::from(their_commands)))
            .stdout(Stdio::from(OwnedFd::from(their_control)))
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("start", Path::new("/bin/sh")))?;
        let process = Process(Arc::new(Mutex::new(child)));
        Ok(Self { machine: machine.to_owned(), log: log.to_owned(), commands, control, locality: None, process })
    }

    /// The process, for cutting its power while a command runs.
    pub(crate) fn process(&self) -> Process {
        self.process.clone()
    }

    /// Sends one command, already checked by [`check_command`], and returns its response.
    pub(crate) fn transact(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        let deadline = Instant::now() + COMMAND_DEADLINE;
        write_all(&mut self.commands, command, deadline).map_err(|error| self.gone(&error))?;
        read_frame(&mut self.commands, deadline).map_err(|error| self.gone(&error))
    }

    /// Pulls the reset line: what a TPM calls _TPM_Init.
    pub(crate) fn init(&mut self) -> Result<()> {
        self.control(CONTROL_INIT, &[0; 4])?;
        self.locality = None; // swtpm's is not ours to guess after this
        Ok(())
    }

    /// Sets the locality of the commands that follow.
    pub(crate) fn set_locality(&mut self, locality: u8) -> Result<()> {
        if self.locality != Some(locality) {
            self.control(CONTROL_SET_LOCALITY, &[locality])?;
            self.locality = Some(locality);
        }
        Ok(())
    }

    /// Takes the power away from a chip that was told to shut down, and waits for its end.
    pub(crate) fn end(self) -> Result<()> {
        // Either fails only when the process has ended already.
        let _ = self.commands.shutdown(Shutdown::Both);
        let _ = self.control.shutdown(Shutdown::Both);
        self.process.end()
    }

    fn control(&mut self, code: u32, body: &[u8]) -> Result<()> {
        let deadline = Instant::now() + COMMAND_DEADLINE;
        let mut message = code.to_be_bytes().to_vec();
        message.extend_from_slice(body);
        write_all(&mut self.control, &message, deadline).map_err(|error| self.gone(&error))?;
        let mut result = [0; 4];
        read_exact(&mut self.control, &mut result, deadline).map_err(|error| self.gone(&error))?;
        match u32::from_be_bytes(result) {
            0 => Ok(()),
            code => Err(Error::Refused { command: "a signal on its control lines", code }),
        }
    }

    fn gone(&self, error: &std::io::Error) -> Error {
        if error.kind() == ErrorKind::TimedOut {
            return Error::Deadline { what: "the TPM's answer".to_owned(), after: COMMAND_DEADLINE };
        }
        Error::TpmGone { machine: self.machine.clone(), why: error.to_string(), log: self.log.clone() }
    }
}

/// A chip's process.
#[derive(Clone)]
pub(crate) struct Process(Arc<Mutex<Child>>);

impl Process {
    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    /// Ends it now, wherever it stands. What it had written to its memory stays.
    pub(crate) fn kill(&self) {
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Both fail only for a child that was waited for already.
        let _ = child.kill();
        let _ = child.wait();
    }

    fn end(&self) -> Result<()> {
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tool::wait(&mut child, END_DEADLINE)?.is_some() {
            return Ok(());
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(Error::Deadline { what: "the end of swtpm".to_owned(), after: END_DEADLINE })
    }
}

impl Drop for Chip {
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// Whether these bytes are one whole command.
pub(crate) fn check_command(bytes: &[u8]) -> Result<()> {
    match frame_length(bytes) {
        Some(length) if length == bytes.len() => Ok(()),
        _ => Err(Error::NotACommand { length: bytes.len() }),
    }
}

/// The length a header states, if it is a possible one.
pub(crate) fn frame_length(header: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(header.get(2..6)?.try_into().ok()?) as usize;
    (HEADER..=LARGEST).contains(&length).then_some(length)
}

/// Reads one framed message before the deadline.
pub(crate) fn read_frame(stream: &mut UnixStream, deadline: Instant) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER];
    read_exact(stream, &mut frame, deadline)?;
    let length = frame_length(&frame).ok_or(ErrorKind::InvalidData)?;
    frame.resize(length, 0);
    read_exact(stream, frame.get_mut(HEADER..).unwrap_or_default(), deadline)?;
    Ok(frame)
}

/// Fills a buffer before the deadline; the time is checked per read, so slow drops of bytes do not stretch it.
pub(crate) fn read_exact(stream: &mut UnixStream, mut buffer: &mut [u8], deadline: Instant) -> std::io::Result<()> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => buffer = buffer.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(crate) fn write_all(stream: &mut UnixStream, bytes: &[u8], deadline: Instant) -> std::io::Result<()> {
    stream.set_write_timeout(Some(left(deadline)?))?;
    // One write: a command is smaller than a socket's buffer.
    stream.write_all(bytes).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    })
}

fn left(deadline: Instant) -> std::io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// `dir=PATH,mode=0600` and the like, without assuming that a path is UTF-8.
fn parameter(before: &str, path: &Path, after: &str) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(before);
    text.push(path);
    text.push(after);
    text
}

#[cfg(test)]
#[allow(clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// A message with a header that states this length.
    fn message(stated: u32) -> Vec<u8> {
        let mut bytes = vec![0x80, 1];
        bytes.extend_from_slice(&stated.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes
    }

    fn read_within(stream: &mut UnixStream, time: Duration) -> Option<ErrorKind> {
        let start = Instant::now();
        let outcome = read_frame(stream, start + time);
        assert!(start.elapsed() < time + Duration::from_secs(2), "a deadline that was not kept");
        outcome.err().map(|error| error.kind())
    }

    #[test]
    fn no_peer_holds_a_reader_past_its_deadline() {
        let (time, pair) =
            (Duration::from_millis(100), || UnixStream::pair().unwrap_or_else(|error| panic!("{error}")));
        let (mut ours, silent) = pair();
        assert_eq!(read_within(&mut ours, time), Some(ErrorKind::TimedOut));
        drop(silent);
        assert_eq!(read_within(&mut ours, time), Some(ErrorKind::UnexpectedEof));

        for (bytes, expected) in [
            (message(10), None),
            (message(11), Some(ErrorKind::TimedOut)),
            (message(9), Some(ErrorKind::InvalidData)),
            (message(4097), Some(ErrorKind::InvalidData)),
        ] {
            let (mut ours, mut theirs) = pair();
            write_all(&mut theirs, &bytes, Instant::now() + time).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(read_within(&mut ours, time), expected, "{bytes:?}");
        }

        // Drop by drop: each read succeeds in time, and all together would not.
        let (mut ours, mut theirs) = pair();
        let dripping = std::thread::spawn(move || {
            while theirs.write_all(&message(4096)[..1]).is_ok() {
                std::thread::sleep(Duration::from_millis(30));
            }
        });
        assert_eq!(read_within(&mut ours, time * 2), Some(ErrorKind::TimedOut));
        drop(ours);
        assert!(dripping.join().is_ok());

        // A peer that does not read.
        let (mut ours, _theirs) = pair();
        let start = Instant::now();
        let error = write_all(&mut ours, &vec![0; 16 << 20], start + time).err().map(|error| error.kind());
        assert_eq!(error, Some(ErrorKind::TimedOut));
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}
