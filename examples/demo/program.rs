//! chancery's own program, run as its users run it: each command a process of its own, in somebody's own directory.
//!
//! Passphrases go in by standard input, as scripts give them; nothing secret stands on a command line.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// A file that a command reads as file descriptor 3, where there is one.
pub const SECOND: &str = ".descriptor-3";

/// Where the program is, and how to speak to it.
pub struct Program {
    binary: PathBuf,
    environment: Vec<(&'static str, PathBuf)>,
}

/// What a command said.
pub struct Said {
    pub out: String,
    pub err: String,
    pub worked: bool,
}

impl Program {
    /// The program that was built beside this demonstration.
    pub fn beside_this() -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("where this program is")?;
        let binary = own
            .parent()
            .and_then(Path::parent)
            .map(|folder| folder.join("chancery"))
            .filter(|path| path.is_file())
            .context("chancery is not built: run `make demo`, which builds it")?;
        Ok(Self { binary, environment: Vec::new() })
    }

    /// Gives every command something in its environment.
    pub fn give(&mut self, name: &'static str, value: &Path) {
        self.environment.push((name, value.to_owned()));
    }

    /// Where it is, for people who want to run it.
    pub fn path(&self) -> &Path {
        &self.binary
    }

    fn command(&self, room: &Path, words: &[impl AsRef<OsStr>]) -> Command {
        // Should this process be killed, so are the ones that it started. A second secret lies in a file of that room.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec setpriv --pdeathsig KILL -- \"$0\" \"$@\" 3<\"$SECOND\""])
            .arg(&self.binary)
            .args(words);
        let second = room.join(SECOND);
        command.env("SECOND", if second.is_file() { second.as_path() } else { Path::new("/dev/null") });
        command.current_dir(room).env("NO_COLOR", "1").env("HOME", room).env_remove("XDG_STATE_HOME");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end. `secret` goes to its standard input.
    pub fn run(&self, room: &Path, words: &[impl AsRef<OsStr>], secret: &str) -> anyhow::Result<Said> {
        let mut child = self
            .command(room, words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start chancery")?;
        if let Some(mut input) = child.stdin.take() {
            // A command that needs no secret may have closed it already.
            let _ = input.write_all(secret.as_bytes());
        }
        let output = child.wait_with_output().context("chancery")?;
        Ok(Said {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            worked: output.status.success(),
        })
    }

    /// Runs a command that has to work; gives what it wrote to standard output.
    pub fn works(&self, room: &Path, words: &[impl AsRef<OsStr>], secret: &str) -> anyhow::Result<String> {
        let said = self.run(room, words, secret)?;
        if !said.worked {
            bail!("`chancery {}` failed:\n{}{}", line(words), said.out, said.err);
        }
        Ok(said.out)
    }

    /// Runs a command that has to refuse, and say `why`; gives what it wrote to standard error.
    pub fn refuses(&self, room: &Path, words: &[impl AsRef<OsStr>], secret: &str, why: &str) -> anyhow::Result<String> {
        let said = self.run(room, words, secret)?;
        if said.worked {
            bail!("`chancery {}` was not refused:\n{}", line(words), said.out);
        }
        if !said.err.contains(why) {
            bail!("`chancery {}` was refused for another reason than `{why}`:\n{}", line(words), said.err);
        }
        Ok(said.err)
    }

    /// Starts a command that goes on.
    pub fn start(&self, room: &Path, words: &[impl AsRef<OsStr>], secret: &str) -> anyhow::Result<Running> {
        let mut child = self
            .command(room, words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start chancery")?;
        if let Some(mut input) = child.stdin.take() {
            let _ = input.write_all(secret.as_bytes());
        }
        let heard = Arc::new(Mutex::new(String::new()));
        for stream in [
            child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
            child.stderr.take().map(|err| Box::new(err) as Box<dyn Read + Send>),
        ]
        .into_iter()
        .flatten()
        {
            let heard = Arc::clone(&heard);
            std::thread::spawn(move || {
                for text in BufReader::new(stream).lines().map_while(Result::ok) {
                    if let Ok(mut heard) = heard.lock() {
                        heard.push_str(&text);
                        heard.push('\n');
                    }
                }
            });
        }
        Ok(Running { child, heard, what: line(words) })
    }
}

fn line(words: &[impl AsRef<OsStr>]) -> String {
    words.iter().map(|word| word.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A command that goes on until it is stopped, or this value is dropped.
pub struct Running {
    child: Child,
    heard: Arc<Mutex<String>>,
    what: String,
}

impl Running {
    /// Everything it has said so far.
    pub fn heard(&self) -> String {
        self.heard.lock().map(|heard| heard.clone()).unwrap_or_default()
    }

    /// Waits until it says something.
    pub fn says(&mut self, text: &str, within: Duration) -> anyhow::Result<String> {
        let until = Instant::now() + within;
        loop {
            let heard = self.heard();
            if heard.contains(text) {
                return Ok(heard);
            }
            if let Some(status) = self.child.try_wait().context("chancery")? {
                // What it said last may still be on its way.
                std::thread::sleep(Duration::from_millis(50));
                if self.heard().contains(text) {
                    return Ok(self.heard());
                }
                bail!("`chancery {}` ended ({status}) before it said `{text}`:\n{}", self.what, self.heard());
            }
            if Instant::now() > until {
                bail!("`chancery {}` did not say `{text}` in {} s:\n{heard}", self.what, within.as_secs());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it has ended well; gives what it said.
    pub fn ends(mut self, within: Duration) -> anyhow::Result<String> {
        let until = Instant::now() + within;
        loop {
            match self.child.try_wait().context("chancery")? {
                Some(status) if status.success() => {
                    std::thread::sleep(Duration::from_millis(20));
                    return Ok(self.heard());
                }
                Some(status) => bail!("`chancery {}` failed ({status}):\n{}", self.what, self.heard()),
                None if Instant::now() > until => {
                    bail!("`chancery {}` did not end in {} s:\n{}", self.what, within.as_secs(), self.heard())
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Asks it to stop, as an administrator does, and waits until it has.
    pub fn stop(self) -> anyhow::Result<String> {
        self.signal(rustix::process::Signal::TERM)?;
        self.ends(Duration::from_secs(20))
    }

    /// Ends it where it stands. SIGTERM, since a shell's background jobs ignore what Ctrl-C sends, and so do their children.
    pub fn interrupt(mut self) -> anyhow::Result<()> {
        self.signal(rustix::process::Signal::TERM)?;
        let until = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().context("chancery")?.is_none() {
            if Instant::now() > until {
                bail!("`chancery {}` was told to end and did not, in 20 s:\n{}", self.what, self.heard());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn signal(&self, signal: rustix::process::Signal) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).context("a process")?;
        rustix::process::kill_process(id, signal).context("cannot stop chancery")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_ended_also_where_ctrl_c_is_ignored() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' INT; echo ready; exec sleep 60"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Running { child, heard: Arc::default(), what: "sleep".to_owned() }.interrupt().unwrap();
    }
}
