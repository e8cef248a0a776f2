//! `chancery serve` under gdb: stopped while it runs, and once more when it has done everything and is about to exit, so that
//! its memory can be looked at from outside and in a core.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// What gdb is asked to say when it has done what it was told.
const DONE: &str = "-- done --";

/// The program and its debugger, ended with the test.
pub(super) struct Debugged {
    gdb: Child,
    orders: ChildStdin,
    says: BufReader<ChildStdout>,
    pub(super) process: u32,
    folder: PathBuf,
}

impl Drop for Debugged {
    fn drop(&mut self) {
        // The process first: without its debugger it would go on.
        let _ = self.signal(Signal::KILL);
        let _ = self.gdb.kill();
        let _ = self.gdb.wait();
    }
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_str().unwrap().replace('\'', r"'\''"))
}

impl Debugged {
    /// Starts `chancery` with arguments that a shell understands, and lets it run.
    pub(super) fn start(arguments: &str, folder: &Path) -> Self {
        let said = std::fs::File::create(folder.join("gdb.log")).unwrap();
        let mut gdb = Command::new("gdb")
            .args(["-nx", "-q", env!("CARGO_BIN_EXE_chancery")])
            .env("SHELL", "/bin/sh")
            .env_remove("DEBUGINFOD_URLS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said)
            .process_group(0)
            .spawn()
            .expect("gdb does not run: `make setup` installs it");
        let (orders, says) = (gdb.stdin.take().unwrap(), BufReader::new(gdb.stdout.take().unwrap()));
        let mut this = Self { gdb, orders, says, process: 0, folder: folder.to_owned() };
        for setting in [
            "set pagination off",
            "set confirm off",
            "set width 0",
            "set breakpoint pending on",
            "handle SIGTERM SIGINT SIGPIPE SIGHUP SIGCHLD nostop noprint pass",
            "handle SIGUSR2 stop print nopass",
        ] {
            this.tell(setting);
        }
        let log = quoted(&folder.join("serve.log"));
        this.tell(&format!("set args {arguments} </dev/null >{log} 2>&1"));
        this.tell("starti");
        let inferiors = this.tell("info inferiors");
        let process = inferiors.split("process ").nth(1).and_then(|rest| rest.split_whitespace().next());
        this.process = process.unwrap_or_else(|| panic!("{inferiors}")).parse().unwrap();
        this.tell("break _exit");
        this.go_on();
        this
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}\necho \\n{DONE}\\n").unwrap();
    }

    fn answer(&mut self) -> String {
        let mut said = String::new();
        loop {
            let before = said.len();
            let read = self.says.read_line(&mut said).unwrap();
            assert!(read > 0, "gdb ended: {said}");
            if said[before..].trim_end().ends_with(DONE) {
                // What it complains of stands beside.
                return said + &std::fs::read_to_string(self.folder.join("gdb.log")).unwrap();
            }
        }
    }

    fn tell(&mut self, order: &str) -> String {
        self.order(order);
        self.answer()
    }

    pub(super) fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        kill_process(Pid::from_raw(i32::try_from(self.process).unwrap()).unwrap(), signal)
    }

    /// Lets it run until something stops it.
    pub(super) fn go_on(&mut self) {
        self.order("continue");
    }

    /// Stops it where it is.
    pub(super) fn stop(&mut self) {
        self.signal(Signal::USR2).unwrap();
        let said = self.answer();
        assert!(said.contains("SIGUSR2"), "{said}");
    }

    /// Waits until it has nothing left to do but to exit.
    pub(super) fn stopped_at_exit(&mut self) {
        let said = self.answer();
        // With its argument where the C library's symbols say that it has one.
        assert!(said.contains("Breakpoint 1") && said.contains("_exit ("), "{said}");
    }

    /// Lets it exit; gives what gdb says of that.
    pub(super) fn exited(&mut self) -> String {
        self.tell("continue")
    }

    /// A core of it; with `excluded` also of what asked to be left out.
    pub(super) fn core(&mut self, excluded: bool) -> PathBuf {
        let path = self.folder.join("core");
        self.tell(&format!("set dump-excluded-mappings {}", if excluded { "on" } else { "off" }));
        let said = self.tell(&format!("generate-core-file {}", path.display()));
        assert!(said.contains("Saved corefile"), "{said}");
        path
    }
}
