//! The whole story on simulated hardware: a network is founded, data is sealed, a quorum opens it, and the host country tries
//! what it can. Run it with `make demo [DATA=path]`; the last line and the exit code say whether everything held.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod embassy;
mod genesis;
mod goods;
mod host;
mod narrator;
mod people;
#[path = "../../tests/policy/raw.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod raw;

use std::{
    fs::File,
    io::{BufReader, BufWriter},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use chancery::{
    hardware::{EmbassyTpm, MachineTpm, Order, TpmError},
    protocol::{
        charter::{
            Charter, CharterCustody, CharterDataset, CharterEmbassy, CharterMachine, CharterOwner, CharterParts,
            Country, HardwareClass, QuorumRule, SignedCharter, Signer,
        },
        contribution::Contribution,
        dataset::DatasetSeed,
        dataset_version::{DatasetVersionRecord, UnsignedVersion, VerifiedVersion},
        evidence::eventlog::{Bank, EventLog},
        group::lagrange_at_zero,
        hash::Hash,
        ids::{DatasetName, DatasetVersion, EmbassyName, Generation, QuorumKind},
        partial::{Combiner, PreparedQuorum, decapsulate},
        quorum::{Position, Threshold},
        secret::Secret,
        slot::SealedFor,
        tpm::{
            approval::{CommandHash, TpmApproval},
            custody::{CustodyHandles, CustodyPlan},
            nv::NvHandle,
            pcr::PcrSelection,
        },
        wire::Document,
    },
};
use hsm_sim::{BootProfile, Rack};
use p256::ecdsa::SigningKey;
use rand_core::OsRng;

use crate::{
    embassy::Embassy,
    narrator::Narrator,
    people::{EXPIRY_MAX_SECONDS, Owner, Person, Room},
};

const STEPS: u32 = 16;
const ATTEMPTS: u32 = 12;
const OFFICIALS: [&str; 5] = ["anna", "boris", "clara", "david", "eva"];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let data = arguments.next().filter(|path| !path.is_empty()).map(PathBuf::from);
    if arguments.next().is_some() || data.as_ref().is_some_and(|path| path == "--help") {
        println!(
            "usage: demo [DATA]\n\nDATA is a file or directory to send on the journey; by default this repository."
        );
        return ExitCode::from(2);
    }
    if let Some(missing) = data.as_ref().filter(|path| !path.exists()) {
        println!("{} does not exist: give DATA=path, a file or a directory", missing.display());
        return ExitCode::from(2);
    }
    let mut narrator = Narrator::new();
    if let Err(error) = story(&mut narrator, data.as_deref()) {
        println!("\nThe story ends here: {error:#}");
    }
    if narrator.finish(STEPS, ATTEMPTS) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[allow(clippy::too_many_lines, reason = "a story is told from beginning to end")]
fn story(tell: &mut Narrator, data: Option<&Path>) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("chancery-demo-").tempdir().context("a temporary directory")?;
    let home = Room::new(folder.path(), "home")?;
    let agent = Room::new(folder.path(), "agent")?;
    let auditor = Room::new(folder.path(), "auditor")?;
    let disk = Room::new(folder.path(), "embassy")?;
    let owner = Owner::new(folder.path(), "land-board")?;
    let home_key = SigningKey::random(&mut OsRng);
    println!(
        "A data embassy, in {}: home, five officials, an embassy machine, an agent, an auditor.",
        folder.path().display()
    );

    // ------------------------------------------------------------------------------------------------------------------
    tell.chapter("At home");
    let mut people = OFFICIALS
        .iter()
        .zip(1..)
        .map(|(name, place)| Person::new(folder.path(), name, Position::new(place).context("a place")?))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let unseal_of = Threshold::new(3, 5)?;
    let recovery_of = Threshold::new(4, 5)?;
    let embassy_name = EmbassyName::new("luxembourg")?;
    let (land, police) = (DatasetName::new("land-register")?, DatasetName::new("police-files")?);
    let draft = founding_draft(&people, &owner, &home_key, &embassy_name, [&land, &police])?;
    let founding = tell.step("Home founds the network: officials, quorums, embassy, data owner, datasets", || {
        let mut signed = SignedCharter::unsigned(Charter::new(draft)?);
        signed.sign(Signer::Home, &home_key)?;
        home.write("charter-1.bin", &signed.encode())?;
        // What every reader does; home's key is known from elsewhere.
        let read = SignedCharter::decode(&home.read("charter-1.bin")?)?;
        let founding = read.found(Country::new("ZZ")?, &people::point_of(&home_key)?)?;
        let detail = format!("network {}, {}", founding.id(), founding.authority());
        Ok((founding, detail))
    })?;
    let charter = founding.id();
    let unseal = tell.step("Five officials make the unseal quorum's key, 3 of 5, without a dealer", || {
        let genesis = genesis::generate(&mut people, charter, QuorumKind::Unseal, unseal_of)?;
        auditor.write("unseal-certificate.bin", &genesis.certificate.encode())?;
        let refused = genesis.refused;
        let detail = format!(
            "Y = {}\nthe relay reordered, repeated and altered: {refused} messages refused, nothing lost",
            hex(&genesis.key.key().encode())
        );
        Ok((genesis, detail))
    })?;
    let recovery = tell.step("And the recovery quorum's, 4 of 5", || {
        let genesis = genesis::generate(&mut people, charter, QuorumKind::Recovery, recovery_of)?;
        auditor.write("recovery-certificate.bin", &genesis.certificate.encode())?;
        let detail = format!("Y = {}", hex(&genesis.key.key().encode()));
        Ok((genesis, detail))
    })?;
    tell.step("Eva's machine burns; she rebuilds her share from what everyone recorded", || {
        genesis::rebuild(&mut people[4], &unseal)?;
        Ok(((), "the same share, without anyone else's help".to_owned()))
    })?;

    // ------------------------------------------------------------------------------------------------------------------
    tell.chapter("The embassy machine");
    let profile = BootProfile::default();
    let chartered = &founding.charter().parts().embassies[0];
    let plan = CustodyPlan {
        charter,
        embassy: embassy_name.clone(),
        generation: Generation::FIRST,
        officials: people.iter().map(|person| people::point_of(&person.identity)).collect::<anyhow::Result<_>>()?,
        unseal: unseal_of,
        amend: founding.charter().amend()?,
        platform: chartered.platform,
        handles: chartered.handles,
    };
    let rack = Rack::open(&folder.path().join("rack"))?;
    let machine = tell.step("A machine is bought, boots, and measures what it boots", || {
        let mut machine = rack.machine("luxembourg")?;
        machine.power_on(&profile)?;
        let log = EventLog::parse(machine.event_log())?;
        let replayed = log.replay();
        let expected = profile.expected_pcrs();
        for pcr in plan.platform.pcrs() {
            let value = replayed.get(&Bank::Sha256).and_then(|bank| bank.get(&pcr));
            if value.map(Vec::as_slice) != Some(&expected.sha256[usize::from(pcr)][..]) {
                bail!("the event log does not replay to PCR {pcr}");
            }
        }
        let detail = format!("{} events replay to the TPM's PCRs", log.events().len());
        Ok((machine, detail))
    })?;
    let (foundation, auths) = tell.step("Home provisions its TPM, on a bus that home trusts", || {
        let (foundation, auths) = embassy::found(&machine, &home)?;
        disk.write("foundation.bin", &foundation.encode())?;
        Ok(((foundation, auths), "storage root and attestation keys; hierarchy authorizations stay at home".to_owned()))
    })?;
    let keys = tell.step("The quorum sets generation, approved boot state and charter; the TPM makes T", || {
        let quorum: Vec<&Person> = people.iter().take(3).collect();
        let mut tpm = EmbassyTpm::open(&embassy::address(&machine), foundation, plan.clone(), None)?;
        let counter = plan.counter()?.public;
        tpm.define_counter(&auths.owner)?;
        let describe = [CommandHash::nv_increment(&counter.name_before_first_write())];
        embassy::amend(&tpm, &quorum, &[Order::MoveGeneration], &describe)?;
        tpm.define_registers(&auths.owner)?;
        let custody = plan.custody(tpm.generation_counter()?.context("the counter's first value")?)?;
        let content = embassy::approved(&plan, &profile)?;
        let describe = [
            CommandHash::nv_write(&custody.register.public.name_before_first_write(), content.as_bytes())?,
            CommandHash::nv_write(&custody.charter_pin.public.name_before_first_write(), charter.0.as_bytes())?,
        ];
        embassy::amend(&tpm, &quorum, &[Order::WriteRegister(content), Order::WriteCharterPin(charter)], &describe)?;
        let keys = tpm.make_keys(&Secret::random(&mut OsRng))?;
        disk.write("keys.bin", &keys.encode())?;
        let points = (tpm.custody_point()?, tpm.identity_point()?);
        Ok(((keys, points), format!("T = {}\nsigned for by {}", hex(&points.0.encode()), list(&quorum))))
    })?;
    let (keys, (custody_key, identity_key)) = keys;
    let facts =
        tell.step("The completed charter names the quorums' keys and T; home and three officials sign it", || {
            let custody = CharterCustody {
                generation: Generation::FIRST,
                unseal: unseal.key.clone(),
                unseal_certificate: Hash::of_bytes(&unseal.certificate.encode()),
                recovery: recovery.key.clone(),
                recovery_certificate: Hash::of_bytes(&recovery.certificate.encode()),
                machines: vec![CharterMachine {
                    embassy: embassy_name.clone(),
                    counter_first: keys.counter_first,
                    storage_root: foundation.storage_root,
                    attestation_key: foundation.attestation,
                    custody_key,
                    identity_key,
                }],
            };
            let parts = CharterParts {
                version: 2,
                founding: Some(charter),
                previous: Some(founding.hash()),
                custody: Some(custody),
                ..founding.charter().parts().clone()
            };
            let mut signed = SignedCharter::unsigned(Charter::new(parts)?);
            signed.sign(Signer::Home, &home_key)?;
            for person in people.iter().take(3) {
                // Each official's own machine compares the keys with the certificate that all officials signed.
                let claimed = signed.unverified().parts().custody.as_ref().context("custody")?;
                if unseal.certificate.verify(&unseal.terms)? != claimed.unseal
                    || recovery.certificate.verify(&recovery.terms)? != claimed.recovery
                {
                    bail!("the charter names other keys than the officials made");
                }
                signed.sign(Signer::Official(person.name.clone()), &person.identity)?;
            }
            let bytes = signed.encode();
            for room in people.iter().map(|person| &person.room).chain([&agent, &auditor, &owner.room, &disk]) {
                room.write("charter-2.bin", &bytes)?;
            }
            let completed = SignedCharter::decode(&agent.read("charter-2.bin")?)?.succeed(&founding)?;
            let facts = completed.charter().facts(&embassy_name)?;
            Ok((
                facts,
                format!("{}\nunseal {unseal_of}, recovery {recovery_of}; {} bytes", completed.authority(), bytes.len()),
            ))
        })?;

    // ------------------------------------------------------------------------------------------------------------------
    let mut embassy = Embassy::open(machine, disk, &facts)?;
    tell.chapter("A register to replicate");
    let versions = tell.step("The data owner creates two datasets at home and forgets their seeds", || {
        let mut records = Vec::new();
        for dataset in [&land, &police] {
            let seed = DatasetSeed::random(&mut OsRng);
            let unsigned = UnsignedVersion::create(
                &seed,
                owner.name.clone(),
                dataset.clone(),
                DatasetVersion::FIRST,
                facts.sealing_keys(),
            )?;
            let record = unsigned.sign(&owner.key)?.encode();
            for room in people.iter().map(|person| &person.room).chain([&agent, &auditor, &owner.room, &embassy.room]) {
                room.write(&format!("{dataset}.version"), &record)?;
            }
            records.push((dataset, record));
        }
        let versions = records
            .iter()
            .map(|(dataset, bytes)| owner.verify(&facts, DatasetVersionRecord::decode(bytes)?, dataset))
            .collect::<anyhow::Result<Vec<VerifiedVersion>>>()?;
        let size = records.first().map_or(0, |(_, bytes)| bytes.len());
        Ok((
            versions,
            format!("one slot for embassy {embassy_name}, one for the recovery quorum; {size} bytes, signed"),
        ))
    })?;
    let goods = tell.step("The agent seals the data with the stock age format", || {
        let goods = goods::pack(data, &agent.path(""))?;
        let signed = DatasetVersionRecord::decode(&agent.read("land-register.version")?)?
            .verify_signature(&owner.chartered(&facts, &land))?;
        // All the agent needs is this string: any tool that speaks age takes it.
        let recipient = signed.description().recipient.to_string();
        let stock: age::tagpq::Recipient = recipient.parse().map_err(|error: &str| anyhow::anyhow!(error))?;
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&stock as &dyn age::Recipient))?;
        let mut sealed = encryptor.wrap_output(BufWriter::new(File::create(embassy.room.path("data.age"))?))?;
        std::io::copy(&mut BufReader::new(File::open(&goods.path)?), &mut sealed)?;
        std::io::Write::flush(&mut sealed.finish()?)?;
        let detail =
            format!("{}: {} bytes, SHA-256 {}\nto {}…", goods.name, goods.bytes, hex(&goods.sha256), &recipient[..32]);
        Ok((goods, detail))
    })?;

    // ------------------------------------------------------------------------------------------------------------------
    tell.chapter("The worst week: three officials open the land register");
    let quorum = PreparedQuorum::new(&facts.unseal().key);
    let wanted = [versions[0].clone()];
    let purpose = "Courts in exile need the land register after the ministry was cut off; agreed by telephone.";
    let mut first =
        tell.step("The embassy makes an offer, three answer it, and the TPM is reset before it opens", || {
            let statement = embassy.statement(&facts, &wanted, purpose, &people[0])?;
            let mut lost = embassy.offer(&facts, &quorum, &wanted, &statement, 1)?;
            println!("      statement: {}", lost.signed.unverified().statement());
            for person in people.iter_mut().take(3) {
                let contribution = person.review_and_consent(&lost.signed, &facts, &wanted)?;
                lost.receive(&contribution)?;
            }
            embassy.machine.tpm_reset(&profile)?;
            let Err(error) = lost.open(&embassy, &wanted) else { bail!("an opening survived a TPM reset") };
            if !matches!(error.downcast_ref(), Some(TpmError::SessionLost)) {
                return Err(error.context("the opening failed, but not because of the reset"));
            }
            let again = embassy.offer(&facts, &quorum, &wanted, &statement, 2)?;
            let clock = embassy.clock()?;
            Ok((
                again,
                format!(
                    "{error:#}\na second offer is made; nothing else is lost (TPM reset count {})",
                    clock.reset_count
                ),
            ))
        })?;
    let mut recorded: Vec<TpmApproval> = Vec::new();
    let mut shares_of_w = Vec::new();
    let offered = first.signed.clone();
    tell.step("Boris is coerced: his client sends a spoiled half. He is named, and it goes on", || {
        let checked = people[1].review(&offered, &facts, &wanted)?;
        let honest = people[1].consent(&checked, &facts)?;
        let spoiled = people[1].spoil(&honest, &offered)?;
        let Err(refusal) = first.receive(&spoiled) else { bail!("a spoiled half was counted") };
        let named: Vec<&str> = first.gathering.culprits().map(|name| name.as_str()).collect();
        if named != ["boris"] {
            bail!("the culprits are {named:?}");
        }
        let mut altered = honest.encode();
        let at = altered.len() - 100;
        altered[at] ^= 1;
        let Err(on_the_way) = first.receive(&Contribution::decode(&altered)?) else {
            bail!("an altered contribution was counted")
        };
        Ok(((), format!("{refusal}\nand an honest one, altered on its way: {on_the_way}")))
    })?;
    let opened = tell.step("Anna, Clara and Eva review, consent, and the slot opens", || {
        let here = SealedFor::Embassy(embassy_name.clone());
        let slot = wanted[0].slot(&here).context("a slot")?;
        for place in [0, 2, 4] {
            let contribution = people[place].review_and_consent(&offered, &facts, &wanted)?;
            first.receive(&contribution)?;
            recorded.extend(contribution.approvals().iter().cloned());
            shares_of_w.push((
                people[place].position,
                slot.open_share(people[place].position, &people[place].hybrid)?.to_bytes(),
            ));
        }
        let opened = first.open(&embassy, &wanted)?;
        Ok((opened, "the TPM ran its policy; every slot of the version was derived again and compared".to_owned()))
    })?;
    tell.step("The restored data is the data", || {
        let key = opened.seeds[0].key();
        let sealed = BufReader::new(File::open(embassy.room.path("data.age"))?);
        let mut reader = age::Decryptor::new(sealed)?.decrypt(std::iter::once(&key as &dyn age::Identity))?;
        let restored = embassy.room.path("restored");
        std::io::copy(&mut reader, &mut File::create(&restored)?)?;
        let (sha256, bytes) = goods::hash_file(&restored)?;
        if sha256 != goods.sha256 || bytes != goods.bytes {
            bail!("the restored data is another");
        }
        Ok(((), format!("{bytes} bytes, SHA-256 {}", hex(&sha256))))
    })?;
    tell.step("If the embassy is lost: four of five recover the same key, with no TPM", || {
        let slot = wanted[0].slot(&SealedFor::Recovery).context("a recovery slot")?;
        let prepared = PreparedQuorum::new(&facts.recovery().key);
        let statement = Hash::of_bytes(b"recovery of the demonstration network");
        let mut combiner = Combiner::new(&prepared, statement, &[*slot.point()])?;
        let mut shares = Vec::new();
        for person in people.iter().skip(1) {
            let share = person.recovery.as_ref().context("a recovery share")?.secret();
            combiner.receive(decapsulate(
                share,
                &facts.recovery().key,
                person.position,
                &statement,
                &[*slot.point()],
                &mut OsRng,
            )?)?;
            shares.push(slot.open_share(person.position, &person.hybrid)?);
        }
        let z_y = combiner.combine()?;
        let seed = wanted[0].compare(slot.open(&z_y[0], None, &slot.combine_shares(&shares)?)?)?;
        if seed.expose() != opened.seeds[0].expose() {
            bail!("the recovery quorum opened another seed");
        }
        Ok(((), "the recovery slot gives the seed that the embassy's slot gave".to_owned()))
    })?;

    // ------------------------------------------------------------------------------------------------------------------
    tell.chapter("The host country tries");
    let here = SealedFor::Embassy(embassy_name.clone());
    let point = *versions[0].slot(&here).context("a slot")?.point();
    let other_point = *versions[1].slot(&here).context("a slot")?.point();
    let driver = host::Driver::new(&embassy, &keys, &facts);
    tell.step("(control) its own driver does work, if it ever had a whole quorum on the approved machine", || {
        let half = host::control(&driver, &people, &facts, &embassy::nobodys_point())?;
        Ok(((), format!("a half of {} bytes, of a point that is nobody's slot", half.len())))
    })?;
    let statement = embassy.statement(&facts, &wanted, purpose, &people[0])?;
    let mut gathering = embassy.offer(&facts, &quorum, &wanted, &statement, 1)?;
    let two: Vec<_> = people
        .iter_mut()
        .take(2)
        .map(|person| person.review_and_consent(&gathering.signed, &facts, &wanted))
        .collect::<anyhow::Result<_>>()?;
    for contribution in &two {
        gathering.receive(contribution)?;
    }
    let again = people[0].review_and_consent(&gathering.signed, &facts, &wanted)?;
    tell.attempt("Two officials only", || host::two_officials(&driver, &people, &facts, &point, &gathering));
    tell.attempt("The same official twice", || {
        host::one_twice(&driver, &people, &facts, &point, &mut gathering, &again)
    });
    tell.attempt("Approvals replayed from the last ceremony", || host::replayed(&driver, &embassy, &recorded, &point));
    tell.attempt("Approvals moved to another point", || {
        host::moved_to_another_point(&driver, &people, &facts, &point, &other_point)
    });
    tell.attempt("One official's key on two rungs", || host::key_on_two_rungs(&facts, &founding, &plan));
    tell.attempt("The bus puts its own session's nonce into the offer", || host::own_nonce(&embassy, &point));
    tell.attempt("One dataset's point shown under another dataset's name", || {
        host::relabelled(&embassy, &mut people[3], &facts, &versions[1], &versions[0], &gathering)
    });
    let other_kernel = profile.clone().with_kernel(b"a kernel of the host's");
    let hosts_content = embassy::approved(&plan, &other_kernel)?;
    tell.attempt("The register written without the quorum", || {
        host::register_without_quorum(&embassy, &people, &facts, hosts_content.as_bytes())
    });
    tell.attempt("Another kernel booted", || {
        host::another_kernel(&mut embassy, &people, &facts, &keys, &point, &other_kernel)
    });
    embassy.machine.reboot(&profile)?;
    let mut other = rack.machine("another")?;
    other.power_on(&profile)?;
    embassy::found(&other, &Room::new(folder.path(), "host")?)?;
    tell.attempt("The disk's state on another TPM", || host::another_tpm(&other, &facts, &keys));

    let roll_seed = embassy.tpm.roll_seed()?;
    let backup = embassy.room.read("keys.bin")?;
    tell.attempt("Approvals of an earlier generation, with T's old blob restored from a backup", || {
        let quorum: Vec<&Person> = people.iter().take(3).collect();
        let counter = facts.custody().counter.public.name();
        embassy::amend(&embassy.tpm, &quorum, &[Order::MoveGeneration], &[CommandHash::nv_increment(&counter)])?;
        host::earlier_generation(&embassy, &people, &facts, &backup, &point)
    });

    let places: Vec<Position> = shares_of_w.iter().map(|(position, _)| *position).collect();
    let mut w = p256::Scalar::ZERO;
    for (position, share) in &shares_of_w {
        let share = chancery::protocol::secret::SecretScalar::from_bytes(share).context("a share of w")?;
        w += lagrange_at_zero(*position, &places).context("places")? * **share.expose();
    }
    let secrets = [
        ("Z_T", opened.z_t[0].expose().to_vec()),
        ("w", w.to_bytes().to_vec()),
        ("the roll seed", roll_seed.expose().to_vec()),
        ("the dataset seed", opened.seeds[0].expose().to_vec()),
        ("the owner authorization", auths.owner.expose().to_vec()),
        ("the lockout authorization", auths.lockout.expose().to_vec()),
    ];
    let known = ("the slot's point, which is public", point.xy().0.to_vec());
    tell.attempt("Everything recorded on the bus, searched for the secrets", || {
        host::search_the_bus(embassy.machine.bus(), &secrets, &known)
    });
    Ok(())
}

/// The founding charter as home drafts it. ZZ is nobody's country code.
fn founding_draft(
    people: &[Person],
    owner: &Owner,
    home: &SigningKey,
    embassy: &EmbassyName,
    datasets: [&DatasetName; 2],
) -> anyhow::Result<CharterParts> {
    let members: Vec<_> = people.iter().map(|person| person.name.clone()).collect();
    let rule = |k, n| Ok::<_, anyhow::Error>(QuorumRule { threshold: Threshold::new(k, n)?, members: members.clone() });
    Ok(CharterParts {
        version: 1,
        founding: None,
        previous: None,
        country: Country::new("ZZ")?,
        home: people::point_of(home)?,
        officials: people.iter().map(Person::chartered).collect::<anyhow::Result<_>>()?,
        unseal: rule(3, 5)?,
        amend_k: 3,
        recovery: rule(4, 5)?,
        expiry_max_seconds: EXPIRY_MAX_SECONDS,
        heartbeat_seconds: 300,
        embassies: vec![CharterEmbassy {
            name: embassy.clone(),
            class: HardwareClass::Discrete,
            leases: false,
            platform: PcrSelection::new(&[0, 2, 4, 7, 11, 12])?,
            handles: CustodyHandles {
                counter: NvHandle::new(0x0180_0010)?,
                register: NvHandle::new(0x0180_0011)?,
                charter_pin: NvHandle::new(0x0180_0012)?,
            },
        }],
        owners: vec![CharterOwner { name: owner.name.clone(), key: people::point_of(&owner.key)? }],
        datasets: datasets.map(|name| CharterDataset { name: name.clone(), owner: owner.name.clone() }).to_vec(),
        witnesses: Vec::new(),
        policy: Hash::of_bytes(b"no access policy yet"),
        custody: None,
    })
}

fn list(people: &[&Person]) -> String {
    people.iter().map(|person| person.name.as_str()).collect::<Vec<_>>().join(", ")
}
