//! A network is founded with the tools that people use: home's, an embassy's service on simulated hardware, and three officials'
//! machines, each a process of its own, which are stopped in the middle and go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::{
    cell::RefCell,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use chancery::{
    hardware::EmbassyKeys,
    keys::disk,
    protocol::{
        card::OfficialCard,
        ceremony::genesis::{GenesisResult, Ground},
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
    },
};
use hsm_sim::{BootProfile, Machine, Rack};
use support::{Home, Key, approved, identity, request};

const PASSPHRASE: &str = "four geese over the harbour";
const FOUNDING: &str = "the lamp in the second window";
const NAMES: [&str; 3] = ["anna", "boris", "clara"];
/// Far more than it takes; a machine that does two other things at once is slow.
const PATIENCE: Duration = Duration::from_secs(150);

struct Stage {
    folder: tempfile::TempDir,
    home: Home,
    founding: VerifiedCharter,
    machine: Machine,
    profile: BootProfile,
    _rack: Rack,
    port: u16,
}

fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    command.args(arguments.split_whitespace()).current_dir(folder).env("XDG_STATE_HOME", folder.join("state"));
    command
}

/// Runs a command with a secret on standard input, and gives what it said.
fn run(folder: &Path, secret: &str, arguments: &str) -> String {
    let mut child =
        command(folder, arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(format!("{secret}\n").as_bytes());
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{arguments}:\n{out}{err}");
    out
}

/// A process that ends with the test, whatever becomes of it.
struct Running(RefCell<Child>, PathBuf);

impl Running {
    fn start(mut command: Command, secret: &str, log: &Path) -> Self {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut child = command.stdin(Stdio::piped()).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(format!("{secret}\n").as_bytes());
        Self(RefCell::new(child), log.to_owned())
    }

    fn said(&self) -> String {
        let mut text = String::new();
        std::fs::File::open(&self.1).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn ended(&self) -> Option<i32> {
        self.0.borrow_mut().try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.get_mut().kill();
        let _ = self.0.get_mut().wait();
    }
}

fn until(what: &str, logs: &[&Running], mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        if began.elapsed() > PATIENCE {
            let said: Vec<String> = logs.iter().map(|log| log.said()).collect();
            panic!("{what} did not come to pass:\n{}", said.join("\n----\n"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn pem_key(path: &Path) -> Point {
    let text = std::fs::read(path).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&text).unwrap();
    chancery::protocol::certificate::bare_key(&pem.contents).unwrap()
}

impl Stage {
    /// Officials with keys of their own, a founding charter that names them, and a machine as it was delivered.
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("chancery-founding-").tempdir().unwrap();
        let at = folder.path();
        let home = Home::new("EE");
        std::fs::write(at.join("home.crt"), &home.root).unwrap();
        std::fs::write(at.join("home.crl"), home.list(1, &[])).unwrap();
        let cards: Vec<OfficialCard> = NAMES
            .iter()
            .map(|name| {
                run(at, PASSPHRASE, &format!("official init {name} --dir {name} --passphrase-fd 0"));
                OfficialCard::decode(&std::fs::read(at.join(name).join("card.bin")).unwrap()).unwrap()
            })
            .collect();
        let members: Vec<OfficialName> = cards.iter().map(|card| card.name().clone()).collect();
        let handle = |at| NvHandle::new(at).unwrap();
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
            embassies: vec![CharterEmbassy {
                name: EmbassyName::new("luxembourg").unwrap(),
                class: HardwareClass::Firmware,
                leases: true,
                platform: PcrSelection::new(&[0, 2, 4, 7, 11, 12]).unwrap(),
                handles: CustodyHandles {
                    counter: handle(0x0180_0010),
                    register: handle(0x0180_0011),
                    charter_pin: handle(0x0180_0012),
                },
            }],
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
        let mut machine = rack.machine("luxembourg").unwrap();
        let profile = BootProfile::default();
        machine.power_on(&profile).unwrap();
        let port = free_port();
        let stage = Self { folder, home, founding, machine, profile, _rack: rack, port };
        for name in NAMES {
            stage.connect(name);
        }
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn connect(&self, name: &str) {
        let key = pem_key(&self.path(name).join("connection.pub"));
        let certificate = self.home.issue(&request(identity(Role::Official, name), key));
        std::fs::write(self.path(&format!("{name}.crt")), certificate).unwrap();
        let hash = Hash::of_bytes(&self.home.key.point().encode());
        let port = self.port;
        run(
            self.folder.path(),
            "-",
            &format!(
                "official connect --dir {name} --home home.crt --key-hash {hash} --revocations home.crl --certificate \
                 {name}.crt --charter charters/000001.charter --embassy luxembourg=https://127.0.0.1:{port}"
            ),
        );
    }

    /// At home: the TPM is prepared, and the founding key certified.
    fn found(&self) -> String {
        let delivered = |bytes: &[u8]| if bytes.is_empty() { "-".to_owned() } else { hex::encode(bytes) };
        let line = format!(
            "{} - {}\n",
            delivered(self.machine.owner_authorization()),
            delivered(self.machine.lockout_authorization())
        );
        std::fs::write(self.path("delivered"), line).unwrap();
        // The second secret through a descriptor of its own.
        let mut shell = Command::new("sh");
        shell.current_dir(self.folder.path()).env("XDG_STATE_HOME", self.path("state")).arg("-c").arg(format!(
            "exec '{}' embassy found luxembourg --dir embassy --tcti {} --home home.crt --revocations home.crl --charters \
             charters --auths luxembourg.auths --passphrase-fd 0 --delivered-fd 3 --place localhost 3<delivered",
            env!("CARGO_BIN_EXE_chancery"),
            self.machine.tcti()
        ));
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{FOUNDING}\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{out}{err}");
        let key = pem_key(&self.path("embassy/founding.pub"));
        self.enrol(key);
        out
    }

    fn enrol(&self, key: Point) {
        let certificate = self.home.issue(&request(identity(Role::EmbassyAuthority, "luxembourg"), key));
        std::fs::write(self.path("embassy/embassy.crt"), certificate).unwrap();
    }

    fn serve(&self) -> Running {
        let arguments =
            format!("serve --dir embassy --auths luxembourg.auths --passphrase-fd 0 --listen 127.0.0.1:{}", self.port);
        Running::start(command(self.folder.path(), &arguments), FOUNDING, &self.path("serve.log"))
    }

    fn official(&self, name: &str, more: &[&str]) -> Running {
        let mut command = command(self.folder.path(), &format!("official genesis --dir {name} --passphrase-fd 0"));
        command.args(more);
        Running::start(command, PASSPHRASE, &self.path(&format!("{name}.log")))
    }
}

fn words_after(text: &str, label: &str) -> String {
    let line = text.lines().find(|line| line.contains(label)).unwrap_or_else(|| panic!("no {label} in:\n{text}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    words[words.len() - 10..].join(" ")
}

#[test]
fn a_network_is_founded_by_people_who_stop_and_go_on() {
    let stage = Stage::new();
    let said = stage.found();
    let machine = words_after(&said, "the machine, in words");
    let status = run(stage.folder.path(), "-", "embassy status --dir embassy");
    assert!(status.contains(&machine) && status.contains("Next: `chancery serve --auths FILE`"), "{status}");
    let ground = Ground::new(stage.founding.charter(), &EmbassyName::new("luxembourg").unwrap()).unwrap();
    let boot_state = Words::of(&Hash::of_bytes(approved(&ground.plan, &stage.profile).as_bytes())).to_string();

    // The keys: all three are needed. Boris comes late, and Anna's machine stops in the middle.
    let serve = stage.serve();
    until("the founding's service", &[&serve], || serve.said().contains("officials run `chancery official genesis`"));
    let anna = stage.official("anna", &["--machine", &machine, "--boot-state", &boot_state]);
    let clara = stage.official("clara", &[]);
    until("a look of Anna's", &[&anna, &serve], || anna.said().contains("missing: boris"));
    drop(anna);
    let boris = stage.official("boris", &["--machine", &machine]);
    let anna = stage.official("anna", &["--machine", &machine, "--boot-state", &boot_state]);
    until("shares for all", &[&anna, &boris, &clara, &serve], || {
        NAMES.iter().all(|name| {
            ["unseal", "recovery"].iter().all(|kind| stage.path(&format!("{name}/share-{kind}-1.key")).exists())
        })
    });

    // The TPM: two approve its first move. The boot state Boris is not told; the service is started again meanwhile.
    until("the second offer", &[&anna, &boris, &clara, &serve], || {
        boris.said().contains("approve this boot state") && anna.said().matches("Approved.").count() >= 2
    });
    assert!(boris.said().contains(&boot_state), "what Boris is asked has the words that all compare: {}", boris.said());
    assert!(boris.said().contains("no words were given: not approved"), "{}", boris.said());
    drop(serve);
    let serve = stage.serve();
    drop(boris);
    // Not these words: nothing is approved.
    let boris = stage.official("boris", &["--boot-state", &machine, "--once"]);
    until("Boris's refusal", &[&boris, &serve], || boris.ended().is_some());
    assert!(boris.said().contains("are not those of this statement"), "{}", boris.said());
    drop(boris);
    let boris = stage.official("boris", &["--boot-state", &boot_state]);
    let result = stage.path("anna/genesis/result-luxembourg.bin");
    until("the result", &[&anna, &boris, &clara, &serve], || result.exists());
    let verified = GenesisResult::decode(&std::fs::read(&result).unwrap()).unwrap().verify(&stage.founding).unwrap();
    assert_eq!(verified.words()[0].1.to_string(), machine);
    assert_eq!(verified.words()[1].1.to_string(), boot_state);
    drop(anna);
    drop(boris);

    // Home completes and signs; an official puts it up; two sign.
    let complete = "home charter complete --home home.crt --charters charters --result \
                    anna/genesis/result-luxembourg.bin --out completed.charter";
    let said = run(stage.folder.path(), "-", complete);
    assert!(said.contains(&machine) && said.contains("BEFORE YOU SIGN"), "{said}");
    let mut completed = SignedCharter::decode(&std::fs::read(stage.path("completed.charter")).unwrap()).unwrap();
    completed.sign(Signer::Home, &stage.home.key.signing).unwrap();
    std::fs::write(stage.path("completed.charter"), completed.encode()).unwrap();
    let words = Words::of(&completed.unverified().hash()).to_string();
    let anna = stage.official("anna", &["--charter", "completed.charter", "--charter-words", &words]);
    let boris = stage.official("boris", &["--charter-words", &words]);
    until("the charter in force for all", &[&anna, &boris, &clara, &serve], || {
        [&anna, &boris, &clara].iter().all(|official| official.ended().is_some())
    });
    for official in [&anna, &boris, &clara] {
        assert_eq!(official.ended(), Some(0), "{}", official.said());
        assert!(official.said().contains("Charter version 2 is in force"), "{}", official.said());
    }
    assert!(anna.said().contains("unseal key") && anna.said().contains("Signed."), "{}", anna.said());

    // Home enrols the TPM's identity key, and the same process serves as an embassy.
    let keys = EmbassyKeys::decode(&std::fs::read(stage.path("embassy/keys.bin")).unwrap()).unwrap();
    assert_eq!(keys.counter_first, verified.machine().counter_first);
    stage.enrol(verified.machine().identity_key);
    until("the embassy", &[&serve], || serve.said().contains("ready"));
    assert!(!stage.path("embassy/founding.key").exists(), "the founding key is gone");
    let again = run(stage.folder.path(), "-", "official genesis --dir anna");
    assert!(again.contains("is founded: charter version 2"), "{again}");

    // A share that is lost comes back, from another official's copy too.
    let share = stage.path("clara/share-recovery-1.key");
    let before = disk::load(&share).unwrap().public().clone();
    std::fs::remove_file(&share).unwrap();
    let from = "official rebuild recovery --dir clara --from boris/genesis/recovery-recovery-1.bin --passphrase-fd 0";
    assert!(run(stage.folder.path(), PASSPHRASE, from).contains("the same as it was"));
    assert_eq!(*disk::load(&share).unwrap().public(), before);
}
