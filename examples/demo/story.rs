//! The story, chapter by chapter. What people do, they do with chancery's commands; what a machine does, `chancery serve` does.

use std::{
    fs::File,
    io::{BufReader, BufWriter},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use chancery::{
    client::official::{Carried, Directory, Load},
    hardware::HierarchyAuths,
    keys::{
        disk,
        file::{KeyKind, Unlock},
    },
    protocol::{
        evidence::eventlog::{Bank, EventLog},
        hash::Hash,
        ids::EmbassyName,
        offer::SignedOffer,
        partial::{Combiner, PreparedQuorum, decapsulate},
        secret::SecretVec,
        slot::SealedFor,
        tpm::{
            approval::TpmApproval,
            pcr::{PcrSelection, RegisterContent},
        },
        wire::Document,
        words::Words,
    },
};
use hsm_sim::{BootProfile, Machine, Rack};
use rand_core::OsRng;

use crate::{
    goods::{self, Goods},
    narrator::Narrator,
    network::{self, AGENT, AUDITOR, DATASETS, EMBASSIES, Network, OFFICIALS, OWNER, WITH_TOKEN, WITNESS, value},
    people::{self, Person},
    program::{Running, SECOND},
    siege,
};

/// How many steps the whole story has.
pub const STEPS: u32 = 26 + siege::STEPS;

/// A network that runs: founded, with two datasets, data sealed to one of them, and a witness who beats.
struct Up {
    sites: Vec<Site>,
    services: Vec<Running>,
    witness: Vec<Running>,
    goods: Goods,
}

fn begin(tell: &mut Narrator, network: &Network, rack: &Rack, data: Option<&Path>) -> anyhow::Result<Up> {
    let home_key = found(tell, network)?;
    let sites = machines(tell, network, rack)?;
    let services = genesis(tell, network, &sites, &home_key)?;
    let goods = register(tell, network, &sites, data)?;
    network.write(WITNESS, SECOND, network::PASSPHRASE)?;
    let witness = sites
        .iter()
        .map(|site| network.start(WITNESS, &format!("witness beat --every 5 --passphrase-fd 3 {}", visit(site)), &[]))
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Up { sites, services, witness, goods })
}

/// The whole story.
pub fn whole(tell: &mut Narrator, data: Option<&Path>) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("chancery-demo-").tempdir().context("a temporary directory")?;
    let network = Network::new(folder.path())?;
    let rack = Rack::open(&folder.path().join("rack"))?;
    println!("A data embassy, in {}: one directory for each of those who take part.", folder.path().display());
    let mut running = begin(tell, &network, &rack, data)?;
    let lease = leases(tell, &network, &mut running.sites, &running.goods)?;
    let recorded = others(tell, &network, &running.sites, &lease)?;
    amended(tell, &network, &running.sites[0])?;
    tell.step("The services are told to stop, and end their leases", || {
        running.witness.clear();
        let mut said = Vec::new();
        for service in running.services.drain(..) {
            let heard = service.stop()?;
            said.extend(
                heard
                    .lines()
                    .filter_map(|line| line.split_once("an opening came through "))
                    .map(|(_, took)| format!("an opening, from the last approval on: {}", took.trim())),
            );
        }
        said.push("what they held was wiped".to_owned());
        Ok(((), said.join("\n")))
    })?;
    let site = running.sites.swap_remove(0);
    let authorizations = authorizations(&network, site.name)?;
    siege::tries(
        tell,
        siege::Spoils {
            network: &network,
            rack: &rack,
            machine: site.machine,
            embassy: site.name,
            recorded,
            authorizations,
        },
    )
}

/// What home set on a TPM, out of the file that home keeps.
fn authorizations(network: &Network, embassy: &str) -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
    let file = disk::load(&network.room("home").join(format!("{embassy}.auths")))?;
    let passphrase = SecretVec::new(network::PASSPHRASE.as_bytes().to_vec());
    let secret = file.unlock_scalar(KeyKind::Authorizations, Unlock::Passphrase(&passphrase))?;
    let auths = HierarchyAuths::derived(&secret, &EmbassyName::new(embassy)?);
    Ok(vec![
        ("the owner authorization", auths.owner.expose().to_vec()),
        ("the lockout authorization", auths.lockout.expose().to_vec()),
    ])
}

/// The beginning; then the network is the reader's, until Ctrl-C.
pub fn up(tell: &mut Narrator, data: Option<&Path>) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("chancery-up-").tempdir().context("a temporary directory")?;
    let network = Network::new(folder.path())?;
    let rack = Rack::open(&folder.path().join("rack"))?;
    println!("A data embassy, in {}: one directory for each of those who take part.", folder.path().display());
    let running = begin(tell, &network, &rack, data)?;
    let site = &running.sites[0];
    let programs = network.program.path().parent().context("the programs' directory")?.display();
    println!(
        "
It runs. In another terminal, be Anna, Boris and Clara, one after the other. Every passphrase is: {passphrase}

  PATH=\"{programs}:$PATH\"
  cd \"{folder}/anna\" && chancery official status
  chancery official open --embassy {embassy} --dataset {dataset} --agent {agent} --for 8h --unwraps 1000 \\
      --purpose 'My first ceremony'
  chancery official approve                                  (it shows the statement, and asks for its ten words)
  cd ../boris && chancery official inbox && chancery official approve
  cd ../clara && chancery official approve                   (the third: now the lease is live)
  chancery official status                                   (the lease is live; its id, for agents, is the ID of the next line)
  cd ../{agent} && chancery open data.age --lease ID --dataset {dataset} --out restored {visit}
  cd ../{auditor} && chancery roll show {visit}
  cd ../david && chancery official stop --reason 'Enough'    (one official ends it, alone; type yes)

Eva's keys lie behind a token: SOFTHSM2_CONF={token} and PIN {pin}.
docs/officials.md says more. Ctrl-C here ends the machines and removes the directory.",
        passphrase = network::PASSPHRASE,
        folder = folder.path().display(),
        embassy = site.name,
        dataset = DATASETS[0],
        agent = AGENT,
        auditor = AUDITOR,
        visit = visit(site).replace(" --connection-fd 0", ""),
        token = network.token().configuration().display(),
        pin = network.token().pin(),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::signal::ctrl_c()).context("cannot wait for Ctrl-C")?;
    println!("\nEnding.");
    Ok(())
}

/// An embassy's machine, and where it is reached.
struct Site {
    name: &'static str,
    machine: Machine,
    url: String,
    port: u16,
    /// What tells its TPM from every other, as it was read out at home.
    words: String,
}

impl Site {
    /// Resets and restarts of its TPM, as the machine room's log has them.
    fn resets(&self) -> anyhow::Result<String> {
        let answer = self.machine.bus().transact(&hsm_sim::command::read_clock())?;
        let count = |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        // Part 3 §29.1, Part 2 §10.11: header, time, clock, then the two counts.
        count(26).zip(count(30)).map(|(resets, restarts)| format!("{resets}/{restarts}")).context("a clock")
    }

    fn serve(&self, network: &Network) -> anyhow::Result<Running> {
        self.serve_with(network, "")
    }

    /// Serves, with what home brings for as long as the founding takes.
    fn founding(&self, network: &Network) -> anyhow::Result<Running> {
        self.serve_with(network, &format!("--auths ../home/{}.auths LOCK", self.name))
    }

    fn serve_with(&self, network: &Network, more: &str) -> anyhow::Result<Running> {
        let command = format!("serve --dir . --listen 127.0.0.1:{} --tcti {} {more}", self.port, self.machine.tcti());
        network.start(self.name, &command, &[])
    }
}

fn machines(tell: &mut Narrator, network: &Network, rack: &Rack) -> anyhow::Result<Vec<Site>> {
    tell.chapter("Two machines");
    let profile = BootProfile::default();
    let mut sites = tell.step("Two machines are bought, boot, and measure what they boot", || {
        let mut sites = Vec::new();
        for name in EMBASSIES {
            let mut machine = rack.machine(name)?;
            machine.power_on(&profile)?;
            let replayed = EventLog::parse(machine.event_log())?.replay();
            for pcr in network::PLATFORM {
                let value = replayed.get(&Bank::Sha256).and_then(|bank| bank.get(&pcr));
                if value.map(Vec::as_slice) != Some(&profile.expected_pcrs().sha256[usize::from(pcr)][..]) {
                    bail!("the event log of {name} does not replay to PCR {pcr}");
                }
            }
            let port = network::free_port()?;
            sites.push(Site { name, machine, url: format!("https://127.0.0.1:{port}"), port, words: String::new() });
        }
        Ok((sites, "their event logs replay to the PCRs".to_owned()))
    })?;
    tell.step("At home, on a bus that home trusts, each TPM gets its own keys; home certifies a founding key", || {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        for site in &mut sites {
            let Site { name, machine, .. } = site;
            let delivered = format!("{} - {}\n", hex(machine.owner_authorization()), hex(machine.lockout_authorization()));
            network.write("home", SECOND, &delivered)?;
            let found = format!(
                "embassy found {name} --dir ../{name} --tcti {} --home home.crt --revocations home.crl --charters charters \
                 --auths {name}.auths --delivered-fd 3 --place 127.0.0.1 LOCK",
                machine.tcti()
            );
            let said = network.run("home", &found, &[])?;
            std::fs::remove_file(network.room("home").join(SECOND))?;
            let enrol = format!(
                "home enrol {name} --founding --from ../{name}/founding.pub --charters charters --key home.key --dir . \
                 --out ../{name}/embassy.crt LOCK"
            );
            network.run("home", &enrol, &[])?;
            site.words = value(&said, "the machine, in words")?.to_owned();
        }
        let words: Vec<String> = sites.iter().map(|site| format!("{}, in words: {}", site.name, site.words)).collect();
        Ok(((), words.join("\n")))
    })?;
    Ok(sites)
}

/// The boot state that everybody agreed on, as the words that officials read to each other.
fn boot_state() -> anyhow::Result<String> {
    let selection = PcrSelection::new(&network::PLATFORM)?;
    let expected = BootProfile::default().expected_pcrs();
    let values = selection.pcrs().map(|pcr| (pcr, expected.sha256[usize::from(pcr)])).collect();
    Ok(Words::of(&Hash::of_bytes(RegisterContent::of(selection, &values)?.as_bytes())).to_string())
}

fn genesis(tell: &mut Narrator, network: &Network, sites: &[Site], home_key: &str) -> anyhow::Result<Vec<Running>> {
    tell.chapter("Genesis");
    let services = tell.step("The officials connect to both machines, which serve their founding", || {
        let services = sites.iter().map(|site| site.founding(network)).collect::<anyhow::Result<Vec<_>>>()?;
        network::at_once(&OFFICIALS, |name| {
            let places: String = sites.iter().map(|site| format!(" --embassy {}={}", site.name, site.url)).collect();
            let connect = format!(
                "official connect --home home.crt --key-hash {home_key} --revocations home.crl --certificate connection.crt \
                 --charter founding.charter{places} LOCK"
            );
            network.run(name, &connect, &[])
        })?;
        Ok((services, format!("home's key {home_key}, as home read it to each of them")))
    })?;
    let boot = boot_state()?;
    for site in sites {
        let title = if site.name == EMBASSIES[0] {
            format!("Five officials make both quorums' keys, and approve what {}'s TPM is to do", site.name)
        } else {
            format!("And what {}'s TPM is to do: the same quorums, another T", site.name)
        };
        tell.step(&title, || {
            let command = format!("official genesis --embassy {} LOCK", site.name);
            let words = ["--machine", &site.words, "--boot-state", &boot];
            let officials = OFFICIALS
                .iter()
                .map(|name| network.start(name, &command, &words))
                .collect::<anyhow::Result<Vec<_>>>()?;
            // All have confirmed their copies by then. Anna's is the result that home takes; everybody goes on later.
            let mut officials = officials;
            officials[0].says("The TPM has its keys", Duration::from_secs(180))?;
            for official in officials {
                official.interrupt()?;
            }
            Ok(((), format!("the boot state, in words: {boot}")))
        })?;
    }
    tell.step("Home completes the charter with what was made; the officials compare, and sign", || {
        for site in sites {
            let result = format!("result-{}.bin", site.name);
            network.hand(("anna", &format!("genesis/{result}")), ("home", &result))?;
        }
        let results: String = sites.iter().map(|site| format!(" --result result-{}.bin", site.name)).collect();
        let complete =
            format!("home charter complete --home home.crt --charters charters{results} --out completed.charter");
        network.run("home", &complete, &[])?;
        let hash = network.charter_hash("home", "completed.charter")?;
        let sign = format!(
            "home charter sign completed.charter --home home.crt --charters charters --key home.key --confirm {hash} \
             --out by-home.charter LOCK"
        );
        network.run("home", &sign, &[])?;
        network.hand(("home", "by-home.charter"), ("anna", "by-home.charter"))?;
        let words = network.charter_words("home", "completed.charter")?;
        let officials = OFFICIALS
            .iter()
            .map(|name| {
                let put_up = if *name == "anna" { "--charter by-home.charter" } else { "" };
                network.start(name, &format!("official genesis {put_up} LOCK"), &["--charter-words", &words])
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        for official in officials {
            official.ends(Duration::from_secs(120))?;
        }
        Ok(((), format!("in words: {words}")))
    })?;
    drop(services);
    tell.step(
        "Home enrols each TPM's identity key, which works only in the approved boot state: they are embassies",
        || {
            let first = network.room(EMBASSIES[0]).join("charters");
            let completed = std::fs::read_dir(&first)?
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .find(|path| !path.ends_with("0001.charter"))
                .context("the completed charter")?;
            std::fs::copy(&completed, network.room("home").join("0002.charter"))?;
            network.run("home", "home charter verify 0002.charter --add --home home.crt --charters charters", &[])?;
            // Officials and the first embassy have it from the genesis.
            for name in Network::everyone().filter(|name| !OFFICIALS.contains(name) && *name != EMBASSIES[0]) {
                network.hand(("home", "0002.charter"), (name, "charters/0002.charter"))?;
            }
            for name in EMBASSIES {
                std::fs::remove_file(network.room(name).join("embassy.crt"))?;
                let enrol = format!(
                    "home enrol {name} --charters charters --key home.key --dir . --out ../{name}/embassy.crt LOCK"
                );
                network.run("home", &enrol, &[])?;
            }
            let (mut services, mut ready) = (Vec::new(), Vec::new());
            for site in sites {
                let mut service = site.serve(network)?;
                ready.push(service.says("ready ", Duration::from_secs(120))?);
                services.push(service);
            }
            let ready = ready.iter().map(|heard| line_with(heard, "ready ")).collect::<Vec<_>>().join("\n");
            Ok((services, ready))
        },
    )
}

/// How somebody other than an official reaches an embassy.
fn visit(site: &Site) -> String {
    format!("--dir . --embassy {} --server {} --connection-fd 0", site.name, site.url)
}

/// Two datasets, made at home and handed to both embassies; goods sealed to one of them.
fn register(tell: &mut Narrator, network: &Network, sites: &[Site], data: Option<&Path>) -> anyhow::Result<Goods> {
    tell.chapter("A register to replicate");
    tell.step(
        "The data owner creates two datasets at home, forgets their seeds, and hands the records to the embassies",
        || {
            for dataset in DATASETS {
                let create = format!("dataset create {dataset} --out {dataset}.record --dir . --key owner.key LOCK");
                network.run(OWNER, &create, &[])?;
                for site in sites {
                    network.run(OWNER, &format!("dataset publish {dataset}.record {}", visit(site)), &[])?;
                }
            }
            let fetch =
                format!("dataset fetch {} --version 1 --out {}.record {}", DATASETS[0], DATASETS[0], visit(&sites[0]));
            network.run(AGENT, &fetch, &[])?;
            Ok(((), "one slot for each embassy, one for the recovery quorum; signed by the data owner".to_owned()))
        },
    )?;
    tell.step("The agent seals the data with the stock age format", || {
        let goods = goods::pack(data, &network.room(AGENT))?;
        let listed = network.run(AGENT, &format!("dataset recipients {}.record --dir .", DATASETS[0]), &[])?;
        // All the agent needs is this string: any tool that speaks age takes it.
        let recipient = listed.lines().find(|line| line.starts_with("age1tagpq1")).context("a recipient")?;
        let stock: age::tagpq::Recipient = recipient.parse().map_err(|error: &str| anyhow!(error))?;
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&stock as &dyn age::Recipient))?;
        let file = File::create(network.room(AGENT).join("data.age"))?;
        let mut sealed = encryptor.wrap_output(BufWriter::new(file))?;
        std::io::copy(&mut BufReader::new(File::open(&goods.path)?), &mut sealed)?;
        std::io::Write::flush(&mut sealed.finish()?)?;
        let detail = format!(
            "{}: {} bytes, SHA-256 {}\nto {}…",
            goods.name,
            goods.bytes,
            goods::hex(&goods.sha256),
            &recipient[..32]
        );
        Ok((goods, detail))
    })
}

/// A ceremony as its people know it.
struct Opened {
    id: String,
    words: String,
}

fn open(network: &Network, opener: &str, embassy: &str, what: &str, purpose: &str) -> anyhow::Result<Opened> {
    let command = format!("official open --embassy {embassy} {what} --yes LOCK");
    let said = network.run(opener, &command, &["--purpose", purpose])?;
    Ok(Opened { id: value(&said, "ceremony ")?.to_owned(), words: value(&said, "words ")?.to_owned() })
}

fn approve(network: &Network, official: &str, ceremony: &Opened) -> anyhow::Result<String> {
    network.run(official, &format!("official approve {} LOCK", ceremony.id), &["--yes-i-read", &ceremony.words])
}

/// Approves without a network: the offer comes as a file, the approval goes as a file.
fn approve_on_paper(network: &Network, official: &str, carrier: &str, ceremony: &Opened) -> anyhow::Result<String> {
    let ceremony_file = |kind: &str| format!("{official}-{}.{kind}", &ceremony.id[..8]);
    let (offer, approval) = (ceremony_file("offer"), ceremony_file("approval"));
    if carrier != official {
        network.run(carrier, &format!("official review {} --offer {offer} LOCK", ceremony.id), &[])?;
        network.hand((carrier, &offer), (official, &offer))?;
    } else {
        network.run(official, &format!("official review {} --offer {offer} LOCK", ceremony.id), &[])?;
    }
    let command = format!("official approve --offline {offer} --out {approval} LOCK");
    network.run(official, &command, &["--yes-i-read", &ceremony.words])?;
    if carrier != official {
        network.hand((official, &approval), (carrier, &approval))?;
    }
    network.run(carrier, &format!("official carry {approval} LOCK"), &[])
}

/// Waits until an official's status of a ceremony has these words.
fn until(network: &Network, official: &str, ceremony: &Opened, words: &str) -> anyhow::Result<String> {
    until_it(network, official, "status", ceremony, words)
}

fn until_it(
    network: &Network,
    official: &str,
    command: &str,
    ceremony: &Opened,
    words: &str,
) -> anyhow::Result<String> {
    let start = Instant::now();
    loop {
        let said = network.run(official, &format!("official {command} {} LOCK", ceremony.id), &[])?;
        if said.contains(words) {
            return Ok(said);
        }
        if start.elapsed() > Duration::from_secs(60) {
            bail!("the status of {} does not come to say `{words}`:\n{said}", ceremony.id);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn leases(tell: &mut Narrator, network: &Network, sites: &mut [Site], goods: &Goods) -> anyhow::Result<Opened> {
    tell.chapter("The worst week: three officials open the land register at Luxembourg");
    let embassy = sites[0].name;
    let lease = format!("--dataset {} --agent {AGENT} --for 8h --unwraps 100000", DATASETS[0]);
    let purpose = "Courts in exile need the land register after the ministry was cut off; agreed by telephone.";
    let ceremony = tell.step("Anna opens a ceremony: a lease for one agent, for eight hours", || {
        let ceremony = open(network, "anna", embassy, &lease, purpose)?;
        let inbox = network.run("david", "official inbox LOCK", &[])?;
        if !inbox.contains(&ceremony.id[..8]) {
            bail!("David's inbox does not have it:\n{inbox}");
        }
        let detail = format!("{}\nin words: {}", ceremony.id, ceremony.words);
        Ok((ceremony, detail))
    })?;
    tell.step("Boris is coerced: his client sends a spoiled half. He is named, and it goes on", || {
        let offer = "boris.offer";
        network.run("boris", &format!("official review {} --offer {offer} LOCK", ceremony.id), &[])?;
        let offer = SignedOffer::decode(&std::fs::read(network.room("boris").join(offer))?)?;
        let facts = {
            let directory = Directory::open(&network.room("boris"))?;
            (directory.facts(&EmbassyName::new(embassy)?)?, directory.datasets()?)
        };
        let mut boris = Person::coerced(&network.room("boris"), &facts.0)?;
        let honest = boris.review_and_consent(&offer, &facts.0, &facts.1)?;
        let spoiled = boris.spoil(&honest, &offer)?;
        let spoiled = Carried {
            embassy: EmbassyName::new(embassy)?,
            ceremony: offer.unverified().statement().id(),
            load: Load::Approval(spoiled),
        };
        std::fs::write(network.room("boris").join("spoiled.approval"), spoiled.encode())?;
        let said = network.refused("boris", "official carry spoiled.approval LOCK", &[], "boris")?;
        Ok(((), said.trim().to_owned()))
    })?;
    tell.step("Anna approves; then the TPM is reset. Everybody is asked again, and nothing else is lost", || {
        approve(network, "anna", &ceremony)?;
        until(network, "clara", &ceremony, "anna")?;
        sites[0].machine.tpm_reset(&BootProfile::default())?;
        let said = until_it(network, "clara", "review", &ceremony, "(attempt 2)")?;
        Ok(((), line_with(&said, "(attempt 2)")))
    })?;
    tell.step(
        "Anna and Clara approve; Eva does on paper, with her token, and Boris carries it: the lease is live",
        || {
            network::at_once(&["anna", "clara"], |name| approve(network, name, &ceremony))?;
            let record = format!("{}.record", DATASETS[0]);
            network.hand((OWNER, &record), (WITH_TOKEN, &record))?;
            network.run(WITH_TOKEN, &format!("official connect --dataset {record} LOCK"), &[])?;
            approve_on_paper(network, "eva", "boris", &ceremony)?;
            let said = until(network, "clara", &ceremony, "live")?;
            Ok(((), line_with(&said, "time left")))
        },
    )?;
    tell.step("The agent restores the data under the lease", || {
        let command = format!(
            "open data.age --lease {} --dataset {} --out restored {}",
            ceremony.id,
            DATASETS[0],
            visit(&sites[0])
        );
        network.run(AGENT, &command, &[])?;
        let (sha256, bytes) = goods::hash_file(&network.room(AGENT).join("restored"))?;
        if sha256 != goods.sha256 || bytes != goods.bytes {
            bail!("the restored data is another");
        }
        Ok(((), format!("{bytes} bytes, SHA-256 {}", goods::hex(&sha256))))
    })?;
    Ok(ceremony)
}

/// Several ceremonies at once at both embassies, and how they end. Gives the approvals that stood on Luxembourg's disk.
fn others(tell: &mut Narrator, network: &Network, sites: &[Site], lease: &Opened) -> anyhow::Result<Vec<TpmApproval>> {
    tell.chapter("Several ceremonies at once");
    let (luxembourg, vilnius) = (&sites[0], &sites[1]);
    let three =
        tell.step("Boris, Clara and Anna open three more: a release, a month's lease, a night's lease", || {
            network.run(OWNER, "release card --dir . --out owner.card LOCK", &[])?;
            network.hand((OWNER, "owner.card"), ("boris", "owner.card"))?;
            let what = format!("--dataset {} --release owner.card", DATASETS[1]);
            let release =
                open(network, "boris", vilnius.name, &what, "The police move their files to another registry.")?;
            let what = format!("--dataset {} --agent {AGENT} --for 30d --unwraps 1000000", DATASETS[1]);
            let denied = open(network, "clara", vilnius.name, &what, "Somebody asked for everything, for a month.")?;
            let what = format!("--dataset {} --agent {AGENT} --for 30m --unwraps 2", DATASETS[0]);
            // Luxembourg's TPM was reset since: whoever opens has to say that it is known.
            let command = format!("official open --embassy {} {what} --yes LOCK", luxembourg.name);
            network.refused("anna", &command, &["--purpose", "The nightly copy."], "has to be acknowledged")?;
            let what = format!("{what} --acknowledge {}", luxembourg.resets()?);
            let night = open(network, "anna", luxembourg.name, &what, "The nightly copy, while the line is down.")?;
            let detail = format!("in words: {}\nin words: {}\nin words: {}", release.words, denied.words, night.words);
            Ok(((release, denied, night), detail))
        })?;
    let (release, denied, night) = three;
    tell.step("Anna, Boris and David release the police files to their owner, who puts the key together", || {
        network::at_once(&["anna", "boris", "david"], |name| approve(network, name, &release))?;
        until(network, "boris", &release, "released")?;
        let collect = format!(
            "release collect {} --card owner.card --record {}.record --out released {}",
            release.id,
            DATASETS[1],
            visit(vilnius)
        );
        let said = network.run(OWNER, &collect, &[])?;
        Ok(((), said.trim().to_owned()))
    })?;
    tell.step("Anna, Boris and Eva vote against the month; with three of five against it, it ends", || {
        network::at_once(&["anna", "boris", WITH_TOKEN], |name| {
            let deny = format!("official deny {} --yes LOCK", denied.id);
            network.run(name, &deny, &["--reason", "Nobody at the ministry knows of it."])
        })?;
        let said = until(network, "david", &denied, "denied")?;
        Ok(((), line_with(&said, "denied")))
    })?;
    let recorded =
        tell.step("The night's lease is approved on paper by all three; two unwraps, and it is spent", || {
            let officials = ["anna", "boris", "clara"];
            network::at_once(&officials, |name| approve_on_paper(network, name, name, &night))?;
            let mut recorded = Vec::new();
            for name in officials {
                let approval = format!("{name}-{}.approval", &night.id[..8]);
                let approval = std::fs::read(network.room(name).join(approval))?;
                let Load::Approval(contribution) = Carried::decode(&approval)?.load else { bail!("no approval") };
                recorded.extend(contribution.approvals().iter().cloned());
            }
            until(network, "anna", &night, "live")?;
            for copy in 1..=2 {
                network.run(AGENT, &restoring(luxembourg, &night.id, &format!("night-{copy}")), &[])?;
            }
            let said = network.refused(AGENT, &restoring(luxembourg, &night.id, "night-3"), &[], "lease")?;
            Ok((recorded, said.trim().to_owned()))
        })?;
    tell.step("David stops the first lease, alone; the agent gets nothing more", || {
        let stop = format!("official stop {} --yes LOCK", lease.id);
        network.run("david", &stop, &["--reason", "The machine room was entered."])?;
        let said = network.refused(AGENT, &restoring(luxembourg, &lease.id, "too-late"), &[], "lease")?;
        Ok(((), said.trim().to_owned()))
    })?;
    tell.step("The auditor reads both rolls: who did what, when and why", || {
        let roll = network.run(AUDITOR, &format!("roll show {}", visit(luxembourg)), &[])?;
        for fact in ["boris", "anna", "The machine room was entered.", &lease.id] {
            if !roll.contains(fact) {
                bail!("the roll does not say {fact}:\n{roll}");
            }
        }
        let other = network.run(AUDITOR, &format!("roll show {}", visit(vilnius)), &[])?;
        if !other.contains("Nobody at the ministry knows of it.") {
            bail!("the roll of Vilnius does not say why:\n{other}");
        }
        let entries = |roll: &str| roll.lines().filter(|line| line.starts_with("entry ")).count();
        Ok(((), format!("{} and {} entries", entries(&roll), entries(&other))))
    })?;
    tell.step("If both embassies are lost: four of five recover the same key, with no TPM", || {
        recover(network, luxembourg.name)
    })?;
    Ok(recorded)
}

/// The officials whose keys lie in files: those who sign the next charter, and have the TPM adopt it.
const AMENDING: [&str; 3] = ["anna", "clara", "david"];

/// The charter's successor, and the TPM that is told of it.
fn amended(tell: &mut Narrator, network: &Network, site: &Site) -> anyhow::Result<()> {
    tell.chapter("A new charter: somebody was in Luxembourg's machine room");
    tell.step("Home and three officials sign the third charter: no more leases at Luxembourg", || {
        network.write("home", "third.toml", &network::successor("embedded")?)?;
        let new = "home charter new --draft third.toml --home home.crt --charters charters --out third.charter";
        network.run("home", new, &[])?;
        let hash = network.charter_hash("home", "third.charter")?;
        let sign = |of: &str, capacity: &str, key: &str, to: &str| {
            format!(
                "home charter sign {of} --as {capacity} --home home.crt --charters charters --key {key} --confirm {hash} \
                 --out {to} LOCK"
            )
        };
        network.run("home", &sign("third.charter", "home", "home.key", "by-home-3.charter"), &[])?;
        let signed = network::at_once(&AMENDING, |name| {
            let by = format!("by-{name}-3.charter");
            network.hand(("home", "by-home-3.charter"), (name, "by-home-3.charter"))?;
            let capacity = format!("official:{name}");
            network.run(name, &sign("by-home-3.charter", &capacity, "identity.key", &by), &[])?;
            network.hand((name, &by), ("home", &by))?;
            Ok(by)
        })?;
        let join =
            format!("home charter join {} --home home.crt --charters charters --out 0003.charter", signed.join(" "));
        network.run("home", &join, &[])?;
        network.run("home", "home charter verify 0003.charter --add --home home.crt --charters charters", &[])?;
        network.hand(("home", "0003.charter"), ("anna", "0003.charter"))?;
        network.run("anna", "official connect --charter 0003.charter LOCK", &[])?;
        Ok(((), format!("hash {hash}")))
    })?;
    tell.step("Anna brings it to Luxembourg, and three officials have its TPM adopt it", || {
        let what = format!("--adopt --acknowledge {}", site.resets()?);
        let ceremony = open(network, "anna", site.name, &what, "No more leases where the machine room was entered.")?;
        until(network, "clara", &ceremony, "collecting")?;
        network::at_once(&AMENDING, |name| approve(network, name, &ceremony))?;
        until(network, "anna", &ceremony, "adopted")?;
        let status = network.run("anna", &format!("official status --embassy {} LOCK", site.name), &[])?;
        let pin = line_with(&status, "charter pin");
        if !pin.ends_with("version 3: adopted") {
            bail!("the TPM was not told of it:\n{status}");
        }
        Ok(((), pin))
    })
}

fn restoring(site: &Site, lease: &str, to: &str) -> String {
    format!("open data.age --lease {lease} --dataset {} --out {to} {}", DATASETS[0], visit(site))
}

fn line_with(said: &str, words: &str) -> String {
    said.lines().find(|line| line.contains(words)).unwrap_or_default().trim().to_owned()
}

/// The recovery quorum's own slot, opened with four officials' shares; its seed gives the recipient that was signed.
fn recover(network: &Network, embassy: &str) -> anyhow::Result<((), String)> {
    let (facts, versions) = {
        let directory = Directory::open(&network.room("anna"))?;
        (directory.facts(&EmbassyName::new(embassy)?)?, directory.datasets()?)
    };
    let version = versions.iter().find(|version| version.description().dataset.as_str() == DATASETS[0]);
    let version = version.context("the land register")?;
    let slot = version.slot(&SealedFor::Recovery).context("a recovery slot")?;
    let statement = Hash::of_bytes(b"recovery of the demonstration network");
    let prepared = PreparedQuorum::new(&facts.recovery().key);
    let mut combiner = Combiner::new(&prepared, statement, &[*slot.point()])?;
    let mut shares = Vec::new();
    for name in ["anna", "boris", "clara", "david"] {
        let (position, hybrid, share) = people::recovery(&network.room(name), &facts)?;
        let key = &facts.recovery().key;
        combiner.receive(decapsulate(&share, key, position, &statement, &[*slot.point()], &mut OsRng)?)?;
        shares.push(slot.open_share(position, &hybrid)?);
    }
    let z_y = combiner.combine()?;
    // Compares every slot of the version, and the recipient.
    version.compare(slot.open(&z_y[0], None, &slot.combine_shares(&shares)?)?)?;
    Ok(((), "the recovery slot gives the key whose recipient the data owner signed".to_owned()))
}

/// Gives the hash of home's key, which home reads to everyone in person.
fn found(tell: &mut Narrator, network: &Network) -> anyhow::Result<String> {
    tell.chapter("At home");
    let home_key = tell.step("The home authority is founded; everyone makes keys, and home certifies them", || {
        let init =
            "home init --name registrar --country ZZ --trust-domain registers.example --key home.key --dir . LOCK";
        let said = network.run("home", init, &[])?;
        let home_key = value(&said, "key hash")?.to_owned();
        let module = network.token().module().to_string_lossy().into_owned();
        let token = ["--module", &module, "--token", network.token().label(), "--token-key", "identity"];
        network::at_once(&OFFICIALS, |name| {
            let command = format!("official init {name} --dir . LOCK");
            network.run(name, &command, if *name == WITH_TOKEN { &token } else { &[] })?;
            network.hand((name, "card.bin"), ("home", &format!("{name}/card.bin")))
        })?;
        for (role, name) in [("data-owner", OWNER), ("agent", AGENT), ("auditor", AUDITOR), ("witness", WITNESS)] {
            network.run(name, &format!("keys {role} {name} --dir . LOCK"), &[])?;
        }
        network.hand((OWNER, "owner.pub"), ("home", &format!("{OWNER}/owner.pub")))?;
        network.hand((WITNESS, "witness.pub"), ("home", &format!("{WITNESS}/witness.pub")))?;
        let roles = OFFICIALS.iter().map(|name| ("official", *name));
        let others = [("data-owner", OWNER), ("agent", AGENT), ("auditor", AUDITOR), ("witness", WITNESS)];
        for (role, name) in roles.chain(others) {
            let request = format!("{name}/connection.pub");
            network.hand((name, "connection.pub"), ("home", &request))?;
            let issue = format!(
                "home issue {role} {name} --from {request} --key home.key --dir . --out {name}/connection.crt LOCK"
            );
            network.run("home", &issue, &[])?;
            network.hand(("home", &format!("{name}/connection.crt")), (name, "connection.crt"))?;
        }
        for name in Network::everyone() {
            network.hand(("home", "home.crt"), (name, "home.crt"))?;
            network.hand(("home", "home.crl"), (name, "home.crl"))?;
        }
        Ok((
            home_key,
            format!("{WITH_TOKEN}'s identity key was born on a PKCS#11 token; the others' lie in encrypted files"),
        ))
    })?;
    tell.step("Home writes the founding charter and signs it", || {
        network.write("home", "founding.toml", &network::draft("embedded")?)?;
        network.run("home", "home charter new --draft founding.toml --out founding.charter", &[])?;
        let hash = network.charter_hash("home", "founding.charter")?;
        let sign = format!(
            "home charter sign founding.charter --home home.crt --key home.key --confirm {hash} --out 0001.charter LOCK"
        );
        network.run("home", &sign, &[])?;
        network.run("home", "home charter verify 0001.charter --add --home home.crt --charters charters", &[])?;
        for name in Network::everyone() {
            let to = if OFFICIALS.contains(&name) { "founding.charter" } else { "charters/0001.charter" };
            network.hand(("home", "0001.charter"), (name, to))?;
        }
        Ok(((), format!("{} officials, {} embassies, hash {hash}", OFFICIALS.len(), EMBASSIES.len())))
    })?;
    Ok(home_key)
}
