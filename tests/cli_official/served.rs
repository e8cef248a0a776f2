//! Officials at the command line, an embassy on simulated hardware, and the network between: from the inbox to the end of a lease.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::Child,
    time::{Duration, Instant},
};

use chancery::{
    client::{
        Client, OwnIdentity, Repeat, Settings as ClientSettings, Trust,
        api::{DocumentBody, Taken},
    },
    keys::{MemorySigner, file::ShareOf},
};

use super::*;
use crate::support::{OWNER, Site, Wish, World};

/// `chancery serve`, ended when it is dropped.
pub(super) struct Serve {
    child: Child,
    pub(super) address: SocketAddr,
    log: PathBuf,
}

impl Serve {
    pub(super) fn start(site: &Site) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        Self::at(site, address)
    }

    pub(super) fn at(site: &Site, address: SocketAddr) -> Self {
        let log = site.directory.join("serve.log");
        let child = Command::new(env!("CARGO_BIN_EXE_chancery"))
            .args(["serve", "--listen", &address.to_string(), "--dir"])
            .arg(&site.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut serve = Self { child, address, log };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = serve.child.try_wait().unwrap();
            assert!(ended.is_none() && start.elapsed() < Duration::from_secs(60), "{}", serve.said());
            std::thread::sleep(Duration::from_millis(50));
        }
        serve
    }

    /// Where it must not start: what it says as it ends.
    pub(super) fn refused(site: &Site) -> String {
        let log = site.directory.join("serve.log");
        let child = Command::new(env!("CARGO_BIN_EXE_chancery"))
            .args(["serve", "--listen", "127.0.0.1:0", "--dir"])
            .arg(&site.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut serve = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), log };
        let start = Instant::now();
        loop {
            if let Some(ended) = serve.child.try_wait().unwrap() {
                assert_eq!(ended.code(), Some(1), "{}", serve.said());
                return serve.said();
            }
            assert!(start.elapsed() < Duration::from_secs(60), "it started:\n{}", serve.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The data owner hands in its records.
pub(super) fn hand_in(world: &World, serve: &Serve) {
    let visitor = world.home.visitor(Role::DataOwner, OWNER);
    let own = OwnIdentity::new(visitor.path[0].clone(), MemorySigner::new(visitor.key.secret()));
    let name = world.site().name.clone();
    let trust = Trust::new(world.home.authority(), world.revocations(), name, None);
    let url = format!("https://localhost:{}", serve.address.port());
    let client = Client::new(ClientSettings::new(&url, trust, Some(own))).unwrap();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        for dataset in &world.datasets {
            let body = DocumentBody::of_bytes(&dataset.record);
            let taken: Taken = client.post("/v1/datasets", &body, &Repeat::Safe).await.unwrap();
            assert!(taken.new);
        }
    });
}

/// The officials of a world, each with a directory.
pub(super) struct Officials<'a> {
    pub(super) world: &'a World,
    pub(super) token: Option<&'a hsm_sim::Token>,
}

impl Officials<'_> {
    pub(super) fn folder(&self) -> &Path {
        self.world.folder.path()
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder().join(name), bytes).unwrap();
    }

    /// Keys, share, and what home gave: nothing of the network comes along but where the embassies are.
    pub(super) fn lay_out(&self, index: usize, serves: &[&Serve]) {
        let official = &self.world.officials[index];
        let (name, directory) = (official.name.as_str(), self.folder().join(official.name.as_str()));
        let on_token = self.token.is_some() && index + 1 == self.world.officials.len();
        let connection = if on_token {
            connection_key(&directory)
        } else {
            std::fs::create_dir_all(&directory).unwrap();
            let settings = Settings { name: official.name.clone(), token: None, embassies: Vec::new() };
            Directory::begin(&directory, &settings).unwrap();
            let connection = Key::new();
            keep_keys(&directory, name, [&official.identity, &official.dkg, &connection], &official.hybrid);
            connection.point()
        };
        let lock = on_token.then(|| *disk::load(&directory.join("dkg.key")).unwrap().token_key().unwrap());
        let of = ShareOf {
            charter: self.world.charter.id(),
            quorum: QuorumKind::Unseal,
            generation: Generation::FIRST,
            position: official.position,
        };
        let share = SecretScalar::from_bytes(&official.share.to_bytes()).unwrap();
        keep_share(&directory, name, of, share, lock.as_ref());
        self.write("home.crt", &self.world.home.root);
        self.write("home.crl", &self.world.list);
        let wanted = request(identity(Role::Official, name), connection);
        self.write(&format!("{name}.crt"), &self.world.home.issue(&wanted));
        let hash = Hash::of_bytes(&self.world.home.key.point().encode()).to_string();
        let certificate = format!("{name}.crt");
        let mut arguments = vec![
            "connect",
            "--dir",
            name,
            "--home",
            "home.crt",
            "--key-hash",
            &hash,
            "--revocations",
            "home.crl",
            "--certificate",
            &certificate,
        ];
        let places: Vec<String> = self
            .world
            .sites
            .iter()
            .zip(serves)
            .map(|(site, serve)| format!("{}=https://localhost:{}", site.name, serve.address.port()))
            .collect();
        for place in &places {
            arguments.extend(["--embassy", place]);
        }
        let said = fine(run_with(self.folder(), PASSPHRASE, &arguments, &[]));
        assert!(said.ends_with("Nothing is missing. Next: `chancery official inbox`\n"), "{said}");
    }

    /// Runs an official's command with that official's secret.
    pub(super) fn run(&self, name: &str, arguments: &[&str]) -> Ran {
        let last = self.world.officials.last().unwrap().name.as_str();
        let mut all = arguments.to_vec();
        all.extend(["--dir", name]);
        match self.token.filter(|_| name == last) {
            Some(token) => {
                all.extend(["--pin-fd", "0"]);
                run_with(self.folder(), token.pin(), &all, &[("SOFTHSM2_CONF", token.configuration())])
            }
            None => {
                all.extend(["--passphrase-fd", "0"]);
                run_with(self.folder(), PASSPHRASE, &all, &[])
            }
        }
    }

    /// Opens a ceremony for a lease; gives its id and its words.
    pub(super) fn open(&self, name: &str, purpose: &str) -> (String, String) {
        let said = fine(self.run(
            name,
            &[
                "open",
                "--embassy",
                "luxembourg",
                "--purpose",
                purpose,
                "--dataset",
                "land-register",
                "--dataset",
                "police-files@1",
                "--agent",
                "restorer",
                "--for",
                "8h",
                "--unwraps",
                "5000",
                "--yes",
            ],
        ));
        let after = |head: &str| {
            said.lines().find_map(|line| line.strip_prefix(head)).map(|rest| rest.trim().to_owned()).unwrap()
        };
        assert!(said.contains("Each of you: `chancery official approve"), "{said}");
        (after("ceremony "), after("words    "))
    }

    /// Waits until the ceremony takes approvals: the embassy's TPM has to make an offer first.
    pub(super) fn until(&self, name: &str, id: &str, state: &str) -> String {
        let start = Instant::now();
        loop {
            let said = fine(self.run(name, &["status", id]));
            if said.contains(state) {
                return said;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{state:?} never came:\n{said}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(super) fn approve(&self, name: &str, id: &str, words: &str) -> Ran {
        self.run(name, &["approve", id, "--yes-i-read", words])
    }
}

/// A card with eva's keys, and the card that home gets of them.
fn evas_card(folder: &Path) -> (hsm_sim::Token, CharterOfficial) {
    let token = hsm_sim::Token::temporary("evas-card").unwrap();
    let module = token.module().display().to_string();
    let init = [
        "init",
        "eva",
        "--dir",
        "eva",
        "--module",
        &module,
        "--token",
        "evas-card",
        "--token-key",
        "identity",
        "--pin-fd",
        "0",
    ];
    fine(run_with(folder, token.pin(), &init, &[("SOFTHSM2_CONF", token.configuration())]));
    let card = OfficialCard::decode(&std::fs::read(folder.join("eva/card.bin")).unwrap()).unwrap();
    (token, card.official().clone())
}

#[test]
fn a_ceremony_goes_from_the_inbox_to_a_lease_and_one_official_ends_it() {
    let made = tempfile::tempdir().unwrap();
    let (token, eva) = evas_card(made.path());
    let world = World::of(&Wish { last: Some(eva), ..Wish::default() });
    std::fs::rename(made.path().join("eva"), world.folder.path().join("eva")).unwrap();
    let serve = Serve::start(world.site());
    hand_in(&world, &serve);
    let officials = Officials { world: &world, token: Some(&token) };
    for index in 0..5 {
        officials.lay_out(index, &[&serve]);
    }

    // The first look brings the charters.
    let said = fine(officials.run("anna", &["inbox"]));
    assert!(said.contains("NEW: charter version 2 came, and is in force"), "{said}");
    assert!(said.contains("no ceremony goes on. `chancery official open` opens one"), "{said}");
    let said = fine(officials.run("anna", &["status"]));
    assert!(said.contains("luxembourg, by its own account: serving") && said.contains("you are there"), "{said}");
    assert!(said.contains("none. `chancery official open` opens a ceremony"), "{said}");

    let (id, words) = officials.open("boris", "restore the land register after the flood");
    let short = &id[..8];
    officials.until("anna", short, "collecting approvals: 0 of 3. WAITS FOR YOU");
    let said = fine(officials.run("anna", &["inbox"]));
    assert!(said.contains(&format!("{short}  collecting approvals: 0 of 3. WAITS FOR YOU")), "{said}");
    assert!(said.contains(&format!("`chancery official review {short}`")), "{said}");
    // So does status, whichever official asks, with who is missing, what comes next, and how to stop it.
    let said = fine(officials.run("clara", &["status"]));
    for expected in [
        format!("\n  ceremony {short}\n"),
        "  it is                    collecting approvals: 0 of 3. WAITS FOR YOU\n".to_owned(),
        "  missing                  anna, boris, clara (YOU), david, eva\n".to_owned(),
        "  next                     3 more of these can approve".to_owned(),
        format!("  to stop it               `chancery official stop {short} --reason ...`\n"),
    ] {
        assert!(said.contains(&expected), "{expected:?} is not in\n{said}");
    }

    // Reviewed under the first of its words, it is the same ceremony.
    let first = words.split(' ').next().unwrap();
    let said = fine(officials.run("anna", &["review", first, "--offer", "offer.bin"]));
    for expected in [
        format!("ceremony {id}"),
        format!("read aloud               {words}"),
        "missing                  anna (YOU), boris, clara, david, eva".to_owned(),
        "boris signed this statement, and it is in time".to_owned(),
        "2 of 2 slots".to_owned(),
        format!("`chancery official approve {short}`"),
        format!("`chancery official stop {short} --reason ...` ends it at once"),
    ] {
        assert!(said.contains(&expected), "{expected:?} is not in\n{said}");
    }

    // Wrong words sign nothing; the right ones once.
    let wrong = officials.approve("anna", short, "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo");
    assert!(refused(&wrong).contains("not those of this statement"), "{}", wrong.err);
    let said = fine(officials.approve("anna", short, &words));
    assert!(said.contains("Your approval is in (accepted)"), "{said}");
    assert!(said.contains("approved                 anna (YOU) (1 of 3)"), "{said}");
    let again = fine(officials.approve("anna", short, &words));
    assert!(again.contains("You have approved this one already. Nothing to do"), "{again}");

    // Clara has no network: the offer comes to her in a file, and anna carries her approval.
    let charters = ["founding", "completed"].map(|name| format!("{name}.charter"));
    for (file, charter) in charters.iter().zip([&world.founding, &world.completed]) {
        officials.write(file, &charter.encode());
    }
    for (index, dataset) in world.datasets.iter().enumerate() {
        officials.write(&format!("{index}.record"), &dataset.record);
    }
    fine(run_with(
        officials.folder(),
        PASSPHRASE,
        &[
            "connect",
            "--dir",
            "clara",
            "--charter",
            &charters[0],
            "--charter",
            &charters[1],
            "--dataset",
            "0.record",
            "--dataset",
            "1.record",
        ],
        &[],
    ));
    let offline = ["approve", "--offline", "offer.bin", "--out", "clara.approval", "--yes-i-read", &words];
    fine(officials.run("clara", &offline));
    let said = fine(officials.run("anna", &["carry", "clara.approval"]));
    assert!(said.contains("luxembourg took an approval of official 3 (accepted)"), "{said}");
    let said = fine(officials.run("anna", &["carry", "clara.approval"]));
    assert!(said.contains("(already-accepted)"), "{said}");

    // David watches while eva's token gives the third.
    let watching = std::thread::scope(|scope| {
        let watch = scope.spawn(|| officials.run("david", &["watch", short]));
        std::thread::sleep(Duration::from_millis(800));
        let said = fine(officials.approve("eva", short, &words));
        assert!(said.contains("Your approval is in (accepted)"), "{said}");
        watch.join().unwrap()
    });
    let said = fine(watching);
    assert!(said.contains("collecting approvals: 2 of 3") && said.contains("it is                    ended"), "{said}");
    let said = officials.until("anna", short, "lease   ");
    assert!(said.contains("outcome"), "{said}");
    assert!(said.contains("approved                 anna (YOU), clara, eva (3 of 3)"), "{said}");
    assert!(said.contains("THE LEASE") && said.contains("0 of 5000 made"), "{said}");
    // The ceremony is over, and what came of it goes on.
    let said = fine(officials.run("david", &["status"]));
    assert!(said.contains(&format!("\n  lease {short}\n")) && !said.contains("ceremony "), "{said}");
    assert!(said.contains(&format!("its id, for agents       {id}\n")), "{said}");
    // No witness beats in this network, so by now it may be suspended.
    let living = ["live", "suspended: no witness"]
        .iter()
        .any(|state| said.contains(&format!("it is                    {state}")));
    assert!(living && said.contains("0 of 5000 made"), "{said}");
    assert!(
        said.contains(&format!("to end it                `chancery official stop {short} --reason ...`")),
        "{said}"
    );
    let late = officials.approve("david", short, &words);
    assert!(refused(&late).contains("takes no approvals now"), "{}", late.err);
    let said = fine(officials.run("david", &["inbox"]));
    assert!(said.contains("no ceremony goes on"), "{said}");
    let said = fine(officials.run("david", &["inbox", "--all"]));
    assert!(said.contains(short), "{said}");

    // Another one is the one that goes on, whatever ended before; a stop could mean either.
    let (next, _) = officials.open("boris", "and what came after the flood");
    officials.until("anna", &next[..8], "collecting approvals: 0 of 3. WAITS FOR YOU");
    let said = fine(officials.run("anna", &["review"]));
    assert!(said.contains(&format!("ceremony {next}")) && said.contains("and what came after the flood"), "{said}");
    let either = officials.run("anna", &["stop", "--reason", "the machine room was entered", "--yes"]);
    assert!(refused(&either).contains("more than one ceremony goes on: "), "{}", either.err);
    fine(officials.run("anna", &["stop", &next[..8], "--reason", "one is enough", "--yes"]));

    // One official's stop ends the lease.
    let stop = ["stop", short, "--reason", "the machine room was entered", "--yes"];
    let said = fine(officials.run("david", &stop));
    assert!(said.contains("It is in (the lease is ended: "), "{said}");
    let said = fine(officials.run("anna", &["status", short]));
    assert!(!said.contains("lease   "), "{said}");
    let said = fine(officials.run("anna", &["status"]));
    assert!(said.contains("none. `chancery official open` opens a ceremony"), "{said}");
    // A second stop finds it as it is.
    let twice = fine(officials.run("boris", &stop));
    assert!(twice.contains("It is in (the lease is ended: "), "{twice}");
    assert!(!serve.said().contains("panicked"), "{}", serve.said());
}

#[test]
fn three_denials_end_a_ceremony_and_a_stranger_sees_none() {
    let world = World::new();
    let serve = Serve::start(world.site());
    hand_in(&world, &serve);
    let officials = Officials { world: &world, token: None };
    for index in 0..4 {
        officials.lay_out(index, &[&serve]);
    }
    let (id, words) = officials.open("anna", "hand the land register to a stranger");
    let short = &id[..8];
    officials.until("boris", short, "collecting approvals");
    let second = officials.run(
        "anna",
        &[
            "open",
            "--embassy",
            "luxembourg",
            "--purpose",
            "another",
            "--dataset",
            "land-register",
            "--agent",
            "restorer",
            "--for",
            "1h",
            "--unwraps",
            "5",
            "--yes",
        ],
    );
    let err = refused(&second);
    assert!(err.contains("luxembourg refused") && err.contains("Next:"), "{err}");
    for (name, denied) in [("boris", 1), ("clara", 2), ("david", 3)] {
        let said =
            fine(officials.run(name, &["deny", short, "--reason", "the registrar knows nothing of it", "--yes"]));
        assert!(said.contains("hand the land register to a stranger"), "{said}");
        assert_eq!(said.contains("outcome"), denied == 3, "{said}");
    }
    let late = officials.approve("anna", short, &words);
    assert!(refused(&late).contains("takes no approvals now: ended"), "{}", late.err);

    // Nobody answers any more: what cannot be reached is said, and by whom it can be mended.
    drop(serve);
    let gone = officials.run("anna", &["inbox"]);
    assert!(gone.out.contains("luxembourg: not reached"), "{}", gone.out);
    assert!(gone.err.contains("cannot be reached") && gone.err.contains("whoever runs the machine"), "{}", gone.err);
    // Another machine in its place, with a certificate of another home.
    let other = World::new();
    let impostor = Serve::start(other.site());
    let place = format!("luxembourg=https://localhost:{}", impostor.address.port());
    fine(run_with(officials.folder(), PASSPHRASE, &["connect", "--dir", "anna", "--embassy", &place], &[]));
    let refused_by = officials.run("anna", &["inbox"]);
    assert!(refused_by.err.contains("is not taken for the embassy luxembourg"), "{}", refused_by.err);
    assert!(refused_by.err.contains("Nothing was sent. Do not work around it; tell home"), "{}", refused_by.err);
}
