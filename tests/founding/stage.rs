//! The stage of a founding with the tools that people use: home, officials with keys and directories of their own, embassies on
//! simulated hardware. Every command is a process of its own.
#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]

use std::{
    cell::RefCell,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use chancery::protocol::{
    card::OfficialCard,
    ceremony::genesis::{GenesisResult, Ground, VerifiedResult},
    certificate::Role,
    charter::{
        Charter, CharterEmbassy, CharterParts, CharterWitness, HardwareClass, QuorumRule, SignedCharter, Signer,
        VerifiedCharter,
    },
    group::Point,
    hash::Hash,
    ids::{EmbassyName, OfficialName, WitnessName},
    quorum::Threshold,
    tpm::{custody::CustodyHandles, nv::NvHandle, pcr::PcrSelection},
    wire::Document,
    words::Words,
};
use hsm_sim::{BootProfile, Machine, Rack, Token};

use crate::support::{self, Home, Key, approved, identity, request};

pub const PASSPHRASE: &str = "four geese over the harbour";
const FOUNDING: &str = "the lamp in the second window";
pub const NAMES: [&str; 3] = ["anna", "boris", "clara"];
/// Far more than it takes; a machine that does two other things at once is slow.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// An embassy to be: its machine, and where its service listens.
pub struct Site {
    pub name: &'static str,
    pub machine: Machine,
    pub port: u16,
}

pub struct Stage {
    pub folder: tempfile::TempDir,
    pub home: Home,
    pub founding: VerifiedCharter,
    pub sites: Vec<Site>,
    pub profile: BootProfile,
    /// Whose keys are on a token, and that token.
    pub token: Option<(&'static str, Token)>,
    rack: Rack,
}

pub fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    command.args(arguments.split_whitespace()).current_dir(folder).env("XDG_STATE_HOME", folder.join("state"));
    command
}

/// Runs a command with a secret on standard input, and gives what it said.
pub fn run(folder: &Path, secret: &str, arguments: &str) -> String {
    let mut child =
        command(folder, arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(format!("{secret}\n").as_bytes());
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{arguments}:\n{out}{err}");
    out
}

/// A process that ends with the test, whatever becomes of it.
pub struct Running(RefCell<Child>, PathBuf);

impl Running {
    pub fn start(mut command: Command, secret: &str, log: &Path) -> Self {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut child = command.stdin(Stdio::piped()).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(format!("{secret}\n").as_bytes());
        Self(RefCell::new(child), log.to_owned())
    }

    pub fn said(&self) -> String {
        let mut text = String::new();
        std::fs::File::open(&self.1).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    pub fn hang_up(&self) {
        let id = i32::try_from(self.0.borrow().id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::HUP).unwrap();
    }

    pub fn ended(&self) -> Option<i32> {
        self.0.borrow_mut().try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.get_mut().kill();
        let _ = self.0.get_mut().wait();
    }
}

pub fn until(what: &str, logs: &[&Running], mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        if began.elapsed() > PATIENCE {
            let said: Vec<String> = logs.iter().map(|log| log.said()).collect();
            panic!("{what} did not come to pass:\n{}", said.join("\n----\n"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn pem_key(path: &Path) -> Point {
    let text = std::fs::read(path).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&text).unwrap();
    chancery::protocol::certificate::bare_key(&pem.contents).unwrap()
}

/// What a charter says of an embassy before it is founded.
pub fn described(name: &str) -> CharterEmbassy {
    let handle = |at| NvHandle::new(at).unwrap();
    CharterEmbassy {
        name: EmbassyName::new(name).unwrap(),
        class: HardwareClass::Firmware,
        leases: true,
        platform: PcrSelection::new(&[0, 2, 4, 7, 11, 12]).unwrap(),
        handles: CustodyHandles {
            counter: handle(0x0180_0010),
            register: handle(0x0180_0011),
            charter_pin: handle(0x0180_0012),
        },
    }
}

/// An official's keys in files.
pub fn init(at: &Path, name: &str) {
    run(at, PASSPHRASE, &format!("official init {name} --dir {name} --passphrase-fd 0"));
}

impl Stage {
    /// Officials with keys of their own, a founding charter that names them, and machines as they were delivered.
    pub fn new(embassies: &[&'static str]) -> Self {
        Self::with(embassies, init)
    }

    /// The same where an official's keys are made in a way of its own.
    pub fn with(embassies: &[&'static str], init: impl Fn(&Path, &str)) -> Self {
        let folder = tempfile::Builder::new().prefix("chancery-founding-").tempdir().unwrap();
        let at = folder.path();
        let home = Home::new("EE");
        std::fs::write(at.join("home.crt"), &home.root).unwrap();
        std::fs::write(at.join("home.crl"), home.list(1, &[])).unwrap();
        let cards: Vec<OfficialCard> = NAMES
            .iter()
            .map(|name| {
                init(at, name);
                OfficialCard::decode(&std::fs::read(at.join(name).join("card.bin")).unwrap()).unwrap()
            })
            .collect();
        let members: Vec<OfficialName> = cards.iter().map(|card| card.name().clone()).collect();
        let parts = CharterParts {
            version: 1,
            founding: None,
            previous: None,
            country: home.name.country,
            home: home.key.point(),
            officials: cards.iter().map(|card| card.official().clone()).collect(),
            unseal: QuorumRule { threshold: Threshold::new(2, 3).unwrap(), members: members.clone() },
            amend_k: 2,
            recovery: QuorumRule { threshold: Threshold::new(3, 3).unwrap(), members },
            expiry_max_seconds: 600,
            heartbeat_seconds: 300,
            embassies: embassies.iter().map(|name| described(name)).collect(),
            owners: vec![],
            datasets: vec![],
            witnesses: vec![CharterWitness { name: WitnessName::new("geneva").unwrap(), key: Key::new().point() }],
            policy: support::policy_digest(),
            custody: None,
        };
        let mut signed = SignedCharter::unsigned(Charter::new(parts).unwrap());
        signed.sign(Signer::Home, &home.key.signing).unwrap();
        std::fs::create_dir(at.join("charters")).unwrap();
        std::fs::write(at.join("charters/000001.charter"), signed.encode()).unwrap();
        let founding = signed.found(home.name.country, &home.key.point()).unwrap();
        let rack = Rack::open(&at.join("rack")).unwrap();
        let mut stage =
            Self { folder, home, founding, sites: Vec::new(), profile: BootProfile::default(), token: None, rack };
        for name in embassies {
            stage.deliver(name);
        }
        for name in NAMES {
            stage.connect(name);
        }
        stage
    }

    /// A machine as it comes out of its box.
    pub fn deliver(&mut self, name: &'static str) {
        let mut machine = self.rack.machine(name).unwrap();
        machine.power_on(&self.profile).unwrap();
        self.sites.push(Site { name, machine, port: free_port() });
    }

    pub fn site(&self, embassy: &str) -> &Site {
        self.sites.iter().find(|site| site.name == embassy).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn connect(&self, name: &str) {
        let key = pem_key(&self.path(name).join("connection.pub"));
        let certificate = self.home.issue(&request(identity(Role::Official, name), key));
        std::fs::write(self.path(&format!("{name}.crt")), certificate).unwrap();
        let hash = Hash::of_bytes(&self.home.key.point().encode());
        let places: String =
            self.sites.iter().map(|site| format!(" --embassy {}=https://127.0.0.1:{}", site.name, site.port)).collect();
        run(
            self.folder.path(),
            "-",
            &format!(
                "official connect --dir {name} --home home.crt --key-hash {hash} --revocations home.crl --certificate \
                 {name}.crt --charter charters/000001.charter{places}"
            ),
        );
    }

    /// At home: the TPM is prepared, and the founding key certified.
    pub fn found(&self, embassy: &str) -> String {
        let machine = &self.site(embassy).machine;
        let delivered = |bytes: &[u8]| if bytes.is_empty() { "-".to_owned() } else { hex::encode(bytes) };
        let line =
            format!("{} - {}\n", delivered(machine.owner_authorization()), delivered(machine.lockout_authorization()));
        std::fs::write(self.path("delivered"), line).unwrap();
        // The second secret through a descriptor of its own.
        let mut shell = Command::new("sh");
        shell.current_dir(self.folder.path()).env("XDG_STATE_HOME", self.path("state")).arg("-c").arg(format!(
            "exec '{}' embassy found {embassy} --dir {embassy} --tcti {} --home home.crt --revocations home.crl --charters \
             charters --auths {embassy}.auths --passphrase-fd 0 --delivered-fd 3 --place localhost 3<delivered",
            env!("CARGO_BIN_EXE_chancery"),
            machine.tcti()
        ));
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{FOUNDING}\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{out}{err}");
        let key = pem_key(&self.path(&format!("{embassy}/founding.pub")));
        self.enrol(embassy, key);
        out
    }

    pub fn enrol(&self, embassy: &str, key: Point) {
        let certificate = self.home.issue(&request(identity(Role::EmbassyAuthority, embassy), key));
        std::fs::write(self.path(&format!("{embassy}/embassy.crt")), certificate).unwrap();
    }

    pub fn serve(&self, embassy: &str) -> Running {
        let port = self.site(embassy).port;
        let arguments =
            format!("serve --dir {embassy} --auths {embassy}.auths --passphrase-fd 0 --listen 127.0.0.1:{port}");
        Running::start(command(self.folder.path(), &arguments), FOUNDING, &self.path(&format!("{embassy}.log")))
    }

    pub fn official(&self, name: &str, more: &[&str]) -> Running {
        match self.token.as_ref().filter(|(owner, _)| *owner == name) {
            Some((_, token)) => self.official_with(name, &["--pin-fd", "0"], token.pin(), more),
            None => self.official_with(name, &["--passphrase-fd", "0"], PASSPHRASE, more),
        }
    }

    /// The same with a secret of the test's choice.
    pub fn official_with(&self, name: &str, unlock: &[&str], secret: &str, more: &[&str]) -> Running {
        let mut command = command(self.folder.path(), &format!("official genesis --dir {name}"));
        command.args(unlock).args(more);
        if let Some((_, token)) = &self.token {
            command.env("SOFTHSM2_CONF", token.configuration());
        }
        Running::start(command, secret, &self.path(&format!("{name}.log")))
    }
}

/// The ten words behind a label.
pub fn words_after(text: &str, label: &str) -> String {
    let line = text.lines().find(|line| line.contains(label)).unwrap_or_else(|| panic!("no {label} in:\n{text}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    words[words.len() - 10..].join(" ")
}

impl Stage {
    /// The ten words of the boot state in which every machine here stands.
    pub fn boot_state(&self) -> String {
        let ground = Ground::new(self.founding.charter(), &EmbassyName::new(self.sites[0].name).unwrap()).unwrap();
        Words::of(&Hash::of_bytes(approved(&ground.plan, &self.profile).as_bytes())).to_string()
    }

    /// All officials take part in an embassy's founding until its keys are made; gives what came of it, under a charter.
    pub fn approve_all(&self, embassy: &str, machine: &str, last: &VerifiedCharter, serve: &Running) -> VerifiedResult {
        let boot_state = self.boot_state();
        let words = ["--embassy", embassy, "--machine", machine, "--boot-state", &boot_state];
        let officials = NAMES.map(|name| self.official(name, &words));
        let result = |name: &str| self.path(&format!("{name}/genesis/result-{embassy}.bin"));
        until("the result", &[&officials[0], &officials[1], &officials[2], serve], || {
            NAMES.iter().all(|name| result(name).exists())
        });
        let result = GenesisResult::decode(&std::fs::read(result("anna")).unwrap()).unwrap();
        result.verify(last).unwrap()
    }

    /// Home completes the charter with what came of foundings, and signs it; gives its ten words.
    pub fn complete(&self, embassies: &[&str], to: &str) -> String {
        let results: String =
            embassies.iter().map(|name| format!(" --result anna/genesis/result-{name}.bin")).collect();
        let complete = format!("home charter complete --home home.crt --charters charters{results} --out {to}");
        let said = run(self.folder.path(), "-", &complete);
        assert!(said.contains("BEFORE YOU SIGN"), "{said}");
        self.sign_at_home(to)
    }

    /// Home signs a charter; gives its ten words.
    pub fn sign_at_home(&self, file: &str) -> String {
        let mut charter = SignedCharter::decode(&std::fs::read(self.path(file)).unwrap()).unwrap();
        charter.sign(Signer::Home, &self.home.key.signing).unwrap();
        std::fs::write(self.path(file), charter.encode()).unwrap();
        Words::of(&charter.unverified().hash()).to_string()
    }

    /// Anna puts a completed charter up at an embassy, Boris signs too, and all take it; home keeps it.
    pub fn enforce(&self, embassy: &str, file: &str, words: &str, serve: &Running) -> VerifiedCharter {
        let there = ["--embassy", embassy, "--charter-words", words];
        let officials = [
            self.official("anna", &[&there[..], &["--charter", file]].concat()),
            self.official("boris", &there),
            self.official("clara", &["--embassy", embassy]),
        ];
        until("the charter in force for all", &[&officials[0], &officials[1], &officials[2], serve], || {
            officials.iter().all(|official| official.ended().is_some())
        });
        for official in &officials {
            assert_eq!(official.ended(), Some(0), "{}", official.said());
        }
        let version = SignedCharter::decode(&std::fs::read(self.path(file)).unwrap()).unwrap();
        let name = format!("charters/{:06}.charter", version.unverified().parts().version);
        std::fs::copy(self.path("clara").join(&name), self.path(&name)).unwrap();
        self.in_force()
    }

    /// An official takes a charter, and where the embassies are.
    pub fn take(&self, name: &str, charter: &str) {
        let places: String =
            self.sites.iter().map(|site| format!(" --embassy {}=https://127.0.0.1:{}", site.name, site.port)).collect();
        run(self.folder.path(), "-", &format!("official connect --dir {name} --charter {charter}{places}"));
    }

    /// What home's directory says is in force.
    pub fn in_force(&self) -> VerifiedCharter {
        let mut paths: Vec<_> =
            std::fs::read_dir(self.path("charters")).unwrap().map(|file| file.unwrap().path()).collect();
        paths.sort();
        paths
            .iter()
            .fold(None, |last: Option<VerifiedCharter>, path| {
                let charter = SignedCharter::decode(&std::fs::read(path).unwrap()).unwrap();
                Some(match last {
                    None => charter.found(self.home.name.country, &self.home.key.point()).unwrap(),
                    Some(last) => charter.succeed(&last).unwrap(),
                })
            })
            .unwrap()
    }
}
