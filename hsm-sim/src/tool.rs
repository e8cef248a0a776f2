//! Runs the programs the simulation is made of, with a deadline, and finds them first so that a missing one is named.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Longest a helper program may run. Manufacture takes about a second; a loaded machine takes many.
const TOOL_DEADLINE: Duration = Duration::from_secs(120);

/// Finds a program on PATH, or where Debian keeps system programs when PATH does not name that place.
pub(crate) fn find(tool: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(PathBuf::from))
        .map(|directory| directory.join(tool))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| Error::ToolMissing { tool: tool.to_owned() })
}

/// Runs a prepared command to its end; what it prints goes to a file in `scratch` (a pipe nobody reads would block it).
pub(crate) fn run(tool: &str, command: &mut Command, scratch: &Path) -> Result<()> {
    let mut output = tempfile::tempfile_in(scratch).map_err(Error::io("make a temporary file in", scratch))?;
    let copy = |file: &File| file.try_clone().map(Stdio::from).map_err(Error::system("a file descriptor"));
    command.stdin(Stdio::null()).stdout(copy(&output)?).stderr(copy(&output)?);
    let mut child = command.spawn().map_err(Error::io("start", Path::new(tool)))?;
    let Some(status) = wait(&mut child, TOOL_DEADLINE)? else {
        // Both may fail only if it ended just now, which is as good.
        let _ = child.kill();
        let _ = child.wait();
        return Err(Error::Deadline { what: format!("the end of {tool}"), after: TOOL_DEADLINE });
    };
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    // What it said is a courtesy of the error message: unreadable output leaves it empty.
    let _ = output.seek(SeekFrom::Start(0)).and_then(|_| output.read_to_end(&mut said));
    let tail = said.get(said.len().saturating_sub(4096)..).unwrap_or_default();
    let output = String::from_utf8_lossy(tail).into_owned();
    Err(Error::ToolFailed { tool: tool.to_owned(), status: status.to_string(), output })
}

/// Waits for a child for at most `deadline`; `None` when it still runs then.
pub(crate) fn wait(child: &mut Child, deadline: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait().map_err(Error::system("the state of a child process"))? {
            return Ok(Some(status));
        }
        if start.elapsed() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10)); // most children here end within 5 ms
    }
}
