//! The demonstration itself: what decides its last line, and the newcomer's first ceremony, by the commands in the README.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs, unreachable_pub)]

// Their tests run here: an example's own are not run by anybody.
#[path = "../examples/demo/goods.rs"]
#[allow(dead_code, reason = "the demonstration uses the rest")]
mod goods;
#[path = "../examples/demo/narrator.rs"]
#[allow(dead_code, reason = "the demonstration uses the rest")]
mod narrator;
#[path = "../examples/demo/program.rs"]
#[allow(dead_code, reason = "the demonstration uses the rest")]
mod program;

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const PASSPHRASE: &str = "correct horse battery staple";
/// What the shell says when it waits for the next command.
const READY: &str = "newcomer$ ";

/// Somebody at a terminal: what they type, and everything they see.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: Arc<Mutex<String>>,
    /// How far they have read.
    read: usize,
}

impl Terminal {
    fn open(folder: &Path) -> Self {
        // script(1) makes the terminal; a shell that reads nobody's settings runs in it.
        let mut child = Command::new("script")
            .args(["-qefc", "exec bash --norc --noprofile -i", "/dev/null"])
            .current_dir(folder)
            .env("TERM", "dumb")
            .env("HOME", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script(1) of bsdutils is part of every Debian");
        let (keyboard, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]).replace('\r', ""));
            }
        });
        let mut terminal = Self { child, keyboard, screen, read: 0 };
        terminal.until(&["# ", "$ "]);
        // Quoted otherwise than it is shown, so that what is typed is not taken for it.
        terminal.type_in("PS1=newcomer'$ '");
        terminal.until(&[READY]);
        terminal
    }

    fn type_in(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits until one of these stands on the screen after what was read; gives which, and what came up to it.
    fn until(&mut self, texts: &[&str]) -> (usize, String) {
        let began = Instant::now();
        loop {
            let screen = self.screen.lock().unwrap().clone();
            let new = &screen[self.read..];
            let found = texts.iter().enumerate().filter_map(|(which, text)| new.find(text).map(|at| (at, which)));
            if let Some((at, which)) = found.min() {
                let end = at + texts[which].len();
                self.read += end;
                return (which, new[..end].to_owned());
            }
            assert!(began.elapsed() < Duration::from_secs(120), "none of {texts:?} came:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a line as it stands in the README, and answers whatever it asks.
    fn run(&mut self, line: &str) -> String {
        self.type_in(line);
        let mut said = String::new();
        loop {
            let (which, more) = self.until(&["passphrase of ", "Type yes: ", "Enter alone leaves: ", READY]);
            said.push_str(&more);
            match which {
                0 => {
                    said.push_str(&self.until(&[": "]).1);
                    self.type_in(PASSPHRASE);
                }
                1 => self.type_in("yes"),
                2 => {
                    let words = value(&said, "read aloud").to_owned();
                    self.type_in(&words);
                }
                _ => return said,
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What stands behind a label, the last time.
fn value<'a>(said: &'a str, label: &str) -> &'a str {
    let found = said.lines().rev().find_map(|line| line.trim_start().strip_prefix(label));
    found.unwrap_or_else(|| panic!("`{label}` is not in:\n{said}")).trim()
}

/// `make up`, without make.
struct Up {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Up {
    fn start(data: &Path) -> Self {
        let demo = PathBuf::from(env!("CARGO_BIN_EXE_chancery")).with_file_name("examples").join("demo");
        assert!(
            demo.is_file(),
            "{} is built with the tests; run them all, or `cargo build --examples`",
            demo.display()
        );
        let mut child =
            Command::new(demo).arg("--up").arg(data).stdout(Stdio::piped()).spawn().expect("the demonstration starts");
        let (said, mut output) = (Arc::new(Mutex::new(String::new())), child.stdout.take().unwrap());
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                heard.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Self { child, said }
    }

    fn says(&mut self, text: &str) -> String {
        let began = Instant::now();
        loop {
            let said = self.said.lock().unwrap().clone();
            if said.contains(text) {
                return said;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "it ended:\n{said}");
            assert!(began.elapsed() < Duration::from_secs(240), "it never said `{text}`:\n{said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The commands of a block, with continued lines joined and without what explains them.
fn commands(block: &str, prompt: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    let lines = joined.lines().filter_map(|line| line.trim_start().strip_prefix(prompt));
    let words = lines.map(|line| line.split("  # ").next().unwrap_or(line));
    words.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_newcomer_does_a_ceremony_by_the_readme_alone() {
    let room = tempfile::Builder::new().prefix("a newcomer ").tempdir().unwrap();
    let data = room.path().join("register.dump");
    std::fs::write(&data, b"plot 17 belongs to Mari").unwrap();
    let mut up = Up::start(&data);
    let told = up.says("Ctrl-C here ends the machines");

    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let section = readme.split("## Your first ceremony").nth(1).unwrap();
    let block = section.split("```console").nth(2).and_then(|rest| rest.split("```").next()).unwrap();
    let lines = commands(block, "$ ");
    assert!(lines.len() > 8, "{lines:?}");

    // What `make up` prints is the same, with its own paths.
    let folder = told.split("A data embassy, in ").nth(1).and_then(|rest| rest.split(':').next()).unwrap();
    let url = told.split("--server ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let printed = told.split("correct horse battery staple\n").nth(1).and_then(|rest| rest.split("\n\nEva").next());
    let printed = printed.unwrap().replace("\\\n", " ");
    let printed: Vec<String> = printed
        .lines()
        .map(|line| line.split("  (").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let here = env!("CARGO_BIN_EXE_chancery").rsplit_once('/').unwrap().0;
    for (index, line) in lines.iter().enumerate() {
        let line = line.replace("FOLDER", folder).replace("URL", url).replace("$PWD/target/debug", here);
        let whole: Vec<&str> = printed.iter().flat_map(|line| line.split(" && ")).collect();
        for part in line.split(" && ") {
            assert!(whole.contains(&part), "README's line {index}, `{part}`, is not what is printed: {printed:#?}");
        }
    }

    let mut terminal = Terminal::open(room.path());
    let (mut id, mut said) = (String::new(), String::new());
    for line in &lines {
        let line = line.replace("FOLDER", folder).replace("URL", url).replace("$PWD/target/debug", here);
        let line = line.replace("--lease ID", &format!("--lease {id}"));
        said = terminal.run(&line);
        assert!(!said.contains("chancery: ") && !said.contains("bash: "), "{line}\n{said}");
        if said.contains("its id, for agents") {
            id = value(&said, "its id, for agents").to_owned();
        }
    }
    assert!(said.contains("the lease is ended"), "{said}");
    let restored = std::fs::read(Path::new(folder).join("replicator/restored")).unwrap();
    assert_eq!(restored, b"plot 17 belongs to Mari");

    // Ctrl-C ends the machines and removes the directory.
    let id = rustix::process::Pid::from_raw(i32::try_from(up.child.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert!(up.child.wait().unwrap().success());
    assert!(!Path::new(folder).exists());
}
