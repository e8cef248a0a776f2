//! The real process: its signals, its log, its exit status.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use chancery::{
    protocol::{certificate::Role, roll::Entry, wire::Document},
    store::{SqliteStore, Store},
};

use crate::support::{
    World,
    net::{Line, Way, chain, client},
};

/// `chancery serve`, killed when it is dropped.
struct Serve {
    child: Child,
    log: PathBuf,
}

impl Serve {
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        let log = directory.join("serve.log");
        let child = Command::new(env!("CARGO_BIN_EXE_chancery"))
            .args(["serve", "--listen", "127.0.0.1:0", "--dir"])
            .arg(directory)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for a line of the log.
    fn line(&mut self, holds: &str) -> String {
        let start = Instant::now();
        loop {
            // Colours stand between names and values.
            let said: String = strip(&self.said());
            if let Some(line) = said.lines().find(|line| line.contains(holds)) {
                return line.to_owned();
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{holds} was never said:\n{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn address(&mut self) -> SocketAddr {
        let line = self.line("serving");
        line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let signal = match name {
            "HUP" => rustix::process::Signal::HUP,
            _ => rustix::process::Signal::TERM,
        };
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < Duration::from_secs(15), "it goes on:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn strip(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    out + rest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_bring_a_new_list_and_an_orderly_end() {
    let world = World::new();
    let directory = &world.site().directory;
    let mut serve = Serve::start(directory, &[]);
    let address = serve.address();
    let ready = serve.line("ready");
    assert!(ready.contains("total_ms=") && ready.contains("tpm_ms="), "{ready}");
    let olga = world.home.visitor(Role::Auditor, "olga");
    let config = client(&world, Some(&olga), &Way::default());
    let mut line = Line::open(address, &config).await.unwrap();
    assert_eq!(line.get("/v1/status").await.unwrap().status, 200);

    std::fs::write(directory.join("home.crl"), world.home.list(2, &[&olga.path[0]])).unwrap();
    serve.signal("HUP");
    serve.line("home's revocation list is in force");
    tokio::time::sleep(Duration::from_millis(300)).await;
    match Line::open(address, &config).await {
        Ok(mut line) => {
            line.get("/v1/status").await.unwrap_err();
        }
        Err(error) => assert!(chain(&error).contains("Revoked"), "{}", chain(&error)),
    }
    // A lower list is refused, and said so.
    std::fs::write(directory.join("home.crl"), &world.list).unwrap();
    serve.signal("HUP");
    serve.line("home.crl is refused");

    // Somebody is connected still; that holds up nothing.
    let boris = client(&world, Some(&world.home.visitor(Role::Official, "boris")), &Way::default());
    let mut open = Line::open(address, &boris).await.unwrap();
    assert_eq!(open.get("/v1/status").await.unwrap().status, 200);
    serve.signal("TERM");
    assert!(serve.ended().success(), "{}", serve.said());
    let store = SqliteStore::open(directory.join("store.sqlite")).await.unwrap();
    let last = store.roll_size().await.unwrap() - 1;
    let last = Entry::decode(&store.roll(last, 1).await.unwrap()[0].bytes).unwrap();
    assert_eq!(last.act.name(), "halt");
    drop(store);

    // The next start goes on from the store, which knows the newer list.
    let mut serve = Serve::start(directory, &[]);
    serve.line("home.crl is older than the list that was seen");
    serve.address();
    assert!(!strip(&serve.said()).contains("ERROR"), "{}", serve.said());
}

#[test]
fn a_start_that_cannot_be_ends_with_status_1_and_one_line_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut serve = Serve::start(folder.path(), &[]);
    assert_eq!(serve.ended().code(), Some(1));
    let said = serve.said();
    assert!(said.contains("chancery.toml is not there") && said.contains("docs/service.md"), "{said}");

    let world = World::new();
    // Nobody answers there.
    let mut serve = Serve::start(&world.site().directory, &["--tcti", "swtpm:path=/nowhere/tpm.sock"]);
    assert_eq!(serve.ended().code(), Some(1));
    assert!(strip(&serve.said()).contains("chancery: the TPM"), "{}", serve.said());
}
