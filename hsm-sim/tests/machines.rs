//! Machines, their TPMs, and tokens: what comes from the factory, what boots, what power does, who may do what, and that
//! nothing is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::*;
use hsm_sim::command::{self, LOCKOUT, OWNER, PLATFORM};
use hsm_sim::{BootProfile, Bus, Component, Error, Machine, PcrValues, Rack};
use rustix::process::{Pid, Signal, kill_process};

/// Sends a signal by itself: a small system has no program for it.
fn signal(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(process.try_into().unwrap()).unwrap(), signal).unwrap();
}

fn assert_registers(bus: &Bus, expected: &PcrValues) {
    for pcr in 0..24u8 {
        assert_eq!(register(bus, 0x0b, pcr), expected.sha256[usize::from(pcr)], "SHA-256 register {pcr}");
        assert_eq!(register(bus, 0x0c, pcr), expected.sha384[usize::from(pcr)], "SHA-384 register {pcr}");
    }
}

/// An EK certificate as the TPM itself holds it.
fn certificate_in_tpm(bus: &Bus, index: u32) -> Vec<u8> {
    let public = bus.transact(&command::nv_read_public(index)).unwrap();
    let policy = usize::from(u16::from_be_bytes(public[22..24].try_into().unwrap()));
    let size = u16::from_be_bytes(public[24 + policy..26 + policy].try_into().unwrap());
    let mut certificate = Vec::new();
    for offset in (0..size).step_by(512) {
        let answer = bus.transact(&command::nv_read(index, &[], 512.min(size - offset), offset)).unwrap();
        let length = usize::from(u16::from_be_bytes(answer[14..16].try_into().unwrap()));
        certificate.extend_from_slice(&answer[16..16 + length]);
    }
    certificate
}

#[test]
fn the_ek_certificates_in_a_tpm_come_from_the_racks_own_vendor() {
    let (rack, other) = (Rack::temporary().unwrap(), Rack::temporary().unwrap());
    let machine = booted(&rack, "lux-1");
    other.machine("lux-1").unwrap();
    for (index, file, key) in [
        (command::EK_CERTIFICATE_RSA_2048, machine.ek_certificate_rsa(), "2048 bit"),
        (command::EK_CERTIFICATE_P384, machine.ek_certificate_ecc(), "384 bit"),
    ] {
        let certificate = certificate_in_tpm(machine.bus(), index);
        assert_eq!(certificate, std::fs::read(&file).unwrap());
        let text = run(Command::new("openssl").args(["x509", "-inform", "DER", "-noout", "-text", "-in"]).arg(&file));
        // OpenSSL 3.4 prints names without the spaces that earlier ones put around `=`.
        assert!(text.replace(" = ", "=").contains("CN=lux-1") && text.contains(key), "{text}");
        assert!(verifies(&rack, &file), "the vendor's own root verifies the certificate");
        assert!(!verifies(&other, &file), "another vendor's root of the same name does not");
    }
}

/// Whether a certificate chains to a rack's own vendor.
fn verifies(rack: &Rack, certificate: &Path) -> bool {
    let pem = tempfile::NamedTempFile::new().unwrap();
    run(Command::new("openssl").args(["x509", "-inform", "DER", "-in"]).arg(certificate).arg("-out").arg(pem.path()));
    let mut verify = Command::new("openssl");
    verify.args(["verify", "-no-CApath", "-no-CAstore", "-CAfile"]).arg(&rack.vendor_roots()[0]);
    verify.arg("-untrusted").arg(&rack.vendor_intermediates()[0]).arg(pem.path());
    verify.output().unwrap().status.success()
}

#[test]
fn a_boot_leaves_the_registers_and_the_event_log_its_profile_says() {
    let rack = Rack::temporary().unwrap();
    let mut machine = booted(&rack, "lux-1");
    let usual = BootProfile::default();
    assert_registers(machine.bus(), &usual.expected_pcrs());
    for other in [
        usual.clone().with_firmware("firmware 2.0", b"firmware image 2.0"),
        usual.clone().with_boot_loader(b"another boot loader"),
        usual.clone().with_kernel(b"another kernel"),
        usual.clone().with_command_line("init=/bin/sh"),
        usual.clone().with_service(b"another service"),
        usual.clone().with_secure_boot(false),
    ] {
        assert_ne!(other.expected_pcrs(), usual.expected_pcrs());
        machine.reboot(&other).unwrap();
        assert_registers(machine.bus(), &other.expected_pcrs());
        assert_eq!(machine.event_log(), other.event_log());
        assert_eq!(std::fs::read(machine.event_log_path()).unwrap(), other.event_log());
        assert_eq!(replayed_by_tpm2_tools(&machine), in_tpm2_tools_words(&other.expected_pcrs()));
    }
    machine.power_off().unwrap();
    assert!(machine.event_log().is_empty() && !machine.event_log_path().exists());
}

/// The registers tpm2_eventlog computes from the log, one `bank pcr value` per line.
fn replayed_by_tpm2_tools(machine: &Machine) -> Vec<String> {
    let said = run(Command::new("tpm2_eventlog").arg(machine.event_log_path()));
    for (kind, count) in [("EV_NO_ACTION", 1), ("EV_SEPARATOR", 8), ("EV_EFI_BOOT_SERVICES_APPLICATION", 2)] {
        assert_eq!(said.matches(&format!("EventType: {kind}\n")).count(), count, "{kind}");
    }
    let mut bank = "";
    let mut registers = Vec::new();
    for line in said.split("\npcrs:\n").nth(1).expect("tpm2_eventlog read the log to its end").lines() {
        match line.trim().split_once(':') {
            Some((name, "")) => bank = name,
            Some((pcr, value)) => registers.push(format!("{bank} {} {}", pcr.trim(), value.trim())),
            None => panic!("{line}"),
        }
    }
    registers
}

/// The same from a profile, for the registers a boot extends.
fn in_tpm2_tools_words(values: &PcrValues) -> Vec<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let extended = [0, 1, 2, 3, 4, 5, 6, 7, 11, 12];
    let short = extended.map(|pcr| format!("sha256 {pcr} 0x{}", hex(&values.sha256[pcr])));
    let long = extended.map(|pcr| format!("sha384 {pcr} 0x{}", hex(&values.sha384[pcr])));
    short.into_iter().chain(long).collect()
}

#[test]
fn a_profile_is_read_from_a_file_and_a_wrong_line_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (path, kernel) = (directory.path().join("profile"), directory.path().join("kernel"));
    std::fs::write(&kernel, b"kernel from a file").unwrap();
    let text = format!("# a comment\n\nkernel = @{}\ncommand-line = a=b c\nsecure-boot = off\n", kernel.display());
    std::fs::write(&path, text).unwrap();
    let expected = BootProfile::default().with_kernel(b"kernel from a file").with_command_line("a=b c");
    assert_eq!(BootProfile::from_file(&path).unwrap(), expected.with_secure_boot(false));
    assert_eq!(Component::file(&kernel).unwrap().digests, Component::of("", b"kernel from a file").digests);

    for (text, line) in [("kernel = a\nkernal = b\n", 2), ("secure-boot = perhaps", 1), ("\n\nkernel", 3)] {
        std::fs::write(&path, text).unwrap();
        match BootProfile::from_file(&path) {
            Err(Error::BadProfile { line: found, .. }) => assert_eq!(found, line, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn the_tpm_remembers_how_its_power_went() {
    let rack = Rack::temporary().unwrap();
    let mut machine = booted(&rack, "lux-1");
    let usual = BootProfile::default();
    let first = clock(machine.bus());
    assert!(first.safe);

    machine.power_off().unwrap();
    machine.power_on(&usual).unwrap();
    let second = clock(machine.bus());
    assert_eq!((second.reset_count, second.restart_count, second.safe), (first.reset_count + 1, 0, true));

    machine.reboot(&usual).unwrap();
    let third = clock(machine.bus());
    assert_eq!((third.reset_count, third.restart_count, third.safe), (second.reset_count + 1, 0, true));

    machine.suspend().unwrap();
    assert!(matches!(machine.bus().transact(&command::read_clock()), Err(Error::PoweredOff { .. })));
    machine.resume().unwrap();
    let fourth = clock(machine.bus());
    assert_eq!((fourth.reset_count, fourth.restart_count, fourth.safe), (third.reset_count, 1, true));
    assert_registers(machine.bus(), &usual.expected_pcrs());
    assert_eq!(machine.event_log(), usual.event_log());

    // Pulling the reset line under the running system lets the host measure whatever it likes, but not unseen.
    let other = usual.clone().with_kernel(b"what really runs");
    machine.tpm_reset(&other).unwrap();
    let fifth = clock(machine.bus());
    assert_eq!((fifth.reset_count, fifth.restart_count, fifth.safe), (third.reset_count + 1, 0, false));
    assert_registers(machine.bus(), &other.expected_pcrs());

    machine.power_cut();
    machine.power_on(&usual).unwrap();
    let sixth = clock(machine.bus());
    assert_eq!((sixth.reset_count, sixth.safe), (fifth.reset_count + 1, false));

    // Suspended, then started afresh: what the specification calls a restart, which the reset counter does not show.
    machine.suspend().unwrap();
    machine.power_on(&other).unwrap();
    let seventh = clock(machine.bus());
    assert_eq!((seventh.reset_count, seventh.restart_count), (sixth.reset_count, 1));
    assert_registers(machine.bus(), &other.expected_pcrs());
}

#[test]
fn what_a_tpm_wrote_outlives_a_power_cut_and_what_it_only_held_does_not() {
    let rack = Rack::temporary().unwrap();
    let mut machine = booted(&rack, "lux-1");
    let owner = machine.owner_authorization().to_vec();
    let index = 0x0180_0001;
    assert_eq!(code(machine.bus(), &nv_define(&owner, index, NV_PROTECTED, b"pass")), 0);
    assert_eq!(code(machine.bus(), &nv_write(index, b"pass", *b"remember")), 0);
    assert_eq!(code(machine.bus(), &command::pcr_extend(16, &[1; 32], &[1; 48])), 0);
    assert!(clock(machine.bus()).safe);
    machine.power_cut();
    machine.power_on(&BootProfile::default()).unwrap();
    assert!(!clock(machine.bus()).safe);
    let read = command::nv_read(index, b"pass", 8, 0);
    assert_eq!(code(machine.bus(), &read), 0);
    let answer = machine.bus().transact(&read).unwrap();
    assert_eq!(answer[16..24], *b"remember");
    assert_eq!(register(machine.bus(), 0x0b, 16), [0; 32]);
}

#[test]
fn without_its_authorization_no_hierarchy_obeys() {
    let rack = Rack::temporary().unwrap();
    let mut machine = booted(&rack, "lux-1");
    let other = rack.machine("lux-2").unwrap();
    let (owner, lockout) = (machine.owner_authorization().to_vec(), machine.lockout_authorization().to_vec());
    assert_eq!((owner.len(), lockout.len()), (32, 32));
    assert!(owner != lockout && owner != other.owner_authorization());

    let define = |password: &[u8]| nv_define(password, 0x0180_0001, NV_PROTECTED, b"");
    assert_eq!(code(machine.bus(), &define(b"")), BAD_AUTH);
    assert_eq!(code(machine.bus(), &define(other.owner_authorization())), BAD_AUTH);
    assert_eq!(code(machine.bus(), &define(&owner)), 0);

    // Platform authorization is nobody's, after every kind of start.
    let take = command::hierarchy_change_auth(PLATFORM, b"", b"mine");
    assert_eq!(code(machine.bus(), &take), BAD_AUTH);
    machine.reboot(&BootProfile::default()).unwrap();
    assert_eq!(code(machine.bus(), &take), BAD_AUTH);
    machine.tpm_reset(&BootProfile::default()).unwrap();
    assert_eq!(code(machine.bus(), &take), BAD_AUTH);
    machine.suspend().unwrap();
    machine.resume().unwrap();
    assert_eq!(code(machine.bus(), &take), BAD_AUTH);

    // Clearing the TPM needs the lockout authorization, and one wrong guess bars the right one for a day.
    let clear = |password: &[u8]| command::command(command::CLEAR, &[LOCKOUT], Some(password), &[]);
    assert_eq!(code(machine.bus(), &clear(b"")), AUTH_FAIL);
    assert_eq!(code(machine.bus(), &clear(&lockout)), LOCKED_OUT);
    // The owner's is not counted: it is long and random, and would be a way to lock the owner out.
    assert_eq!(code(machine.bus(), &command::hierarchy_change_auth(OWNER, &owner, &owner)), 0);
}

#[test]
fn guessing_locks_the_tpm_and_a_reboot_does_not_unlock_it() {
    const COUNTER: u32 = 0x20e;
    let rack = Rack::temporary().unwrap();
    let mut machine = booted(&rack, "lux-1");
    let (owner, lockout) = (machine.owner_authorization().to_vec(), machine.lockout_authorization().to_vec());
    let index = 0x0180_0001;
    assert_eq!((property(machine.bus(), 0x20f), property(machine.bus(), 0x210)), (5, 7200), "tries, recovery time");
    assert_eq!(code(machine.bus(), &nv_define(&owner, index, NV_PROTECTED, b"right")), 0);
    assert_eq!(code(machine.bus(), &nv_write(index, b"right", [7; 8])), 0);
    for guess in 0..5u8 {
        assert_eq!(code(machine.bus(), &command::nv_read(index, &[guess + 1], 8, 0)), AUTH_FAIL);
    }
    let right = command::nv_read(index, b"right", 8, 0);
    assert_eq!(code(machine.bus(), &right), LOCKED_OUT);
    machine.reboot(&BootProfile::default()).unwrap();
    assert_eq!(code(machine.bus(), &right), LOCKED_OUT);
    let reset = command::command(0x139, &[LOCKOUT], Some(&lockout), &[]); // TPM2_DictionaryAttackLockReset
    assert_eq!(code(machine.bus(), &reset), 0);
    assert_eq!(code(machine.bus(), &right), 0);

    // The trap: a power cut after such an authorization counts as a guess; an orderly end does not.
    machine.power_off().unwrap();
    machine.power_on(&BootProfile::default()).unwrap();
    assert_eq!(property(machine.bus(), COUNTER), 0);
    assert_eq!(code(machine.bus(), &right), 0);
    machine.power_cut();
    machine.power_on(&BootProfile::default()).unwrap();
    assert_eq!(property(machine.bus(), COUNTER), 1);
}

#[test]
fn swapped_tpms_keep_their_memory_and_disks_stay() {
    let rack = Rack::temporary().unwrap();
    let (mut a, mut b) = (booted(&rack, "lux-1"), rack.machine("lux-2").unwrap());
    let (owner_a, owner_b) = (a.owner_authorization().to_vec(), b.owner_authorization().to_vec());
    let certificate_a = std::fs::read(a.ek_certificate_ecc()).unwrap();
    std::fs::write(a.disk().join("state"), b"of lux-1").unwrap();
    assert!(matches!(rack.swap_tpms(&mut a, &mut b), Err(Error::PoweredOn { machine }) if machine == "lux-1"));
    a.power_off().unwrap();
    rack.swap_tpms(&mut a, &mut b).unwrap();
    assert_eq!((a.owner_authorization(), b.owner_authorization()), (&owner_b[..], &owner_a[..]));
    assert_eq!(std::fs::read(a.disk().join("state")).unwrap(), b"of lux-1");
    b.power_on(&BootProfile::default()).unwrap();
    assert_eq!(certificate_in_tpm(b.bus(), command::EK_CERTIFICATE_P384), certificate_a);
    assert_eq!(code(b.bus(), &nv_define(&owner_a, 0x0180_0001, NV_PROTECTED, b"")), 0);
    b.power_off().unwrap();

    drop((a, b));
    assert_eq!(rack.machine("lux-1").unwrap().owner_authorization(), owner_b);
}

#[test]
fn a_rack_is_reopened_as_it_was_left_and_a_machine_has_one_owner() {
    let directory = tempfile::tempdir().unwrap();
    let rack = Rack::open(directory.path()).unwrap();
    let mut machine = booted(&rack, "lux-1");
    let (owner, before) = (machine.owner_authorization().to_vec(), clock(machine.bus()));
    let again = Rack::open(directory.path()).unwrap();
    assert!(matches!(again.machine("lux-1"), Err(Error::InUse { .. })));
    machine.power_off().unwrap();
    drop((machine, rack));

    let machine = booted(&again, "lux-1");
    assert_eq!(machine.owner_authorization(), owner);
    assert_eq!(clock(machine.bus()).reset_count, before.reset_count + 1);
    for bad in ["", ".", "..", "a/b", "-a", "a b", "a,b", &"a".repeat(33)] {
        assert!(matches!(again.machine(bad), Err(Error::BadName { .. })), "{bad:?}");
        assert!(matches!(again.token(bad), Err(Error::BadName { .. })), "{bad:?}");
    }
    let comma = Rack::open(&directory.path().join("a,b")).unwrap_err().to_string();
    assert!(comma.contains("without commas"), "{comma}");
}

#[test]
fn a_long_path_still_gets_a_socket_and_a_stale_one_is_no_hindrance() {
    let directory = tempfile::tempdir().unwrap();
    let long = directory.path().join("a".repeat(60)).join("b".repeat(60));
    let rack = Rack::open(&long).unwrap();
    let mut machine = booted(&rack, "lux-1");
    assert!(socket(&machine).as_os_str().len() + ".ctrl".len() <= 107);
    assert_eq!(command::response_code_of(&software(&machine, &command::get_random(8))), Some(0));
    machine.power_off().unwrap();
    let socket_directory = socket(&machine).parent().unwrap().to_owned();
    drop(machine);
    assert!(!socket_directory.exists());

    let rack = Rack::open(directory.path()).unwrap();
    let path = rack.directory().join("machines/lux-2");
    std::fs::create_dir_all(&path).unwrap();
    drop(std::os::unix::net::UnixListener::bind(path.join("bus")).unwrap());
    let machine = booted(&rack, "lux-2");
    assert_eq!(socket(&machine), path.join("bus"));
    assert_eq!(command::response_code_of(&software(&machine, &command::get_random(8))), Some(0));
}

#[test]
fn racks_stand_side_by_side_and_machines_within_one() {
    let shared = Rack::temporary().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let shared = shared.clone();
            scope.spawn(move || {
                // Two threads with racks of their own, two that race to be the first machine of one rack.
                let rack = if thread < 2 { Rack::temporary().unwrap() } else { shared };
                let machine = booted(&rack, &format!("lux-{thread}"));
                for _ in 0..20 {
                    assert_eq!(command::response_code_of(&software(&machine, &command::get_random(8))), Some(0));
                }
                assert_registers(machine.bus(), &BootProfile::default().expected_pcrs());
            });
        }
    });
    let pins = std::thread::scope(|scope| {
        let token = || shared.token("official-1").unwrap().pin().to_owned();
        [(); 4].map(|()| scope.spawn(token)).map(|thread| thread.join().unwrap())
    });
    assert!(pins.iter().all(|pin| *pin == pins[0]), "four that ask at once get the same token: {pins:?}");
    for name in ["lux-2", "lux-3"] {
        let machine = shared.machine(name).unwrap();
        assert!(verifies(&shared, &machine.ek_certificate_ecc()), "{name} comes from the one vendor");
    }
}

#[test]
fn no_tpm_outlives_a_dropped_machine_or_a_panic() {
    let rack = Rack::temporary().unwrap();
    let directory = rack.directory().to_owned();
    let machine = booted(&rack, "lux-1");
    let process = machine.tpm_process().unwrap();
    drop(rack);
    assert!(directory.exists(), "the machine keeps its rack");
    drop(machine);
    assert!(vanishes(process) && !directory.exists());

    let rack = Rack::temporary().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let owner = std::thread::spawn(move || {
        let machine = booted(&rack, "lux-1");
        sender.send(machine.tpm_process().unwrap()).unwrap();
        panic!("on purpose, with a machine on");
    });
    assert!(owner.join().is_err());
    assert!(vanishes(receiver.recv().unwrap()));
}

/// The program with one machine on, and what it printed about it.
fn held(directory: &std::path::Path) -> (std::process::Child, Vec<(String, String)>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hsm-sim"))
        .args(["run", "--machine", "lux-1", "--kernel", "6.13", "--dir"])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().take(6);
    let told = lines.map(|line| line.unwrap().split_once('=').map(|(a, b)| (a.into(), b.into())).unwrap()).collect();
    (child, told)
}

fn value<'a>(told: &'a [(String, String)], key: &str) -> &'a str {
    &told.iter().find(|(found, _)| found == key).unwrap_or_else(|| panic!("{key} in {told:?}")).1
}

#[test]
fn the_program_holds_a_machine_for_stock_tools_and_leaves_nothing_however_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let reset_count = |told: &[(String, String)]| {
        let said = run(Command::new("tpm2_readclock").args(["-T", value(told, "tcti")]));
        let field = |name: &str| {
            let line = said.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{said}"));
            line.split_once(':').unwrap().1.trim().to_owned()
        };
        (field("reset_count").parse::<u32>().unwrap(), field("safe") == "yes")
    };

    let (mut child, told) = held(directory.path());
    let (first, safe) = reset_count(&told);
    assert!(safe);
    let expected = BootProfile::default().with_kernel(b"6.13").expected_pcrs();
    let hex: String = expected.sha256[4].iter().map(|byte| format!("{byte:02X}")).collect();
    let registers = run(Command::new("tpm2_pcrread").args(["-T", value(&told, "tcti"), "sha256:4"]));
    assert!(registers.contains(&hex), "{registers} should have {hex}");
    assert!(std::fs::exists(value(&told, "ek-certificate-rsa")).unwrap());
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    assert!(vanishes(value(&told, "tpm-process").parse().unwrap()), "the TPM ends with its killed owner");

    let (mut child, told) = held(directory.path());
    assert_eq!(reset_count(&told), (first + 1, false), "a kill is a power cut");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(vanishes(value(&told, "tpm-process").parse().unwrap()));

    let (mut child, told) = held(directory.path());
    assert_eq!(reset_count(&told).0, first + 2);
    signal(child.id(), Signal::TERM);
    assert!(child.wait().unwrap().success(), "SIGTERM ends in an orderly shutdown");
    assert!(vanishes(value(&told, "tpm-process").parse().unwrap()));

    let refused = Command::new(env!("CARGO_BIN_EXE_hsm-sim"))
        .args(["run", "--machine", "lux/1", "--dir"])
        .arg(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.starts_with("hsm-sim: \"lux/1\" cannot be a name here"), "{said}");
}

#[test]
fn the_program_explains_itself_and_names_what_is_missing() {
    let program = |arguments: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_hsm-sim"));
        program.args(arguments);
        program
    };
    let help = run(&mut program(&["--help"]));
    assert!(help.contains("run") && help.contains("eventlog"), "{help}");
    assert!(run(&mut program(&["run", "--help"])).contains("orderly shutdown; SIGKILL is a power cut"));

    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    run(program(&["eventlog", "--kernel", "6.13", "--out"]).arg(&log));
    assert_eq!(std::fs::read(&log).unwrap(), BootProfile::default().with_kernel(b"6.13").event_log());

    let refused = |program: &mut Command| {
        let output = program.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.starts_with("hsm-sim: "), "{said}");
        said
    };
    let said = refused(&mut program(&["eventlog", "--profile", "/nonexistent/profile", "--out", "/nonexistent/log"]));
    assert!(said.contains("/nonexistent/profile"), "{said}");
    let said = refused(program(&["eventlog", "--kernel", "@/nonexistent/kernel", "--out"]).arg(&log));
    assert!(said.contains("/nonexistent/kernel"), "{said}");

    let token = |module: &str| {
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", "--ignored", "makes_a_token"]).env("SOFTHSM2_MODULE", module).output().unwrap()
    };
    let missing = token("/nonexistent/module.so");
    let said = String::from_utf8_lossy(&missing.stdout).into_owned() + &String::from_utf8_lossy(&missing.stderr);
    assert!(!missing.status.success(), "{said}");
    assert!(said.contains("/nonexistent/module.so was not found: run `make setup`, which installs it"), "{said}");
}

#[test]
#[ignore = "run by the test before, in a process with another environment"]
fn makes_a_token() {
    if let Err(error) = hsm_sim::Token::temporary("official-1") {
        panic!("{error}");
    }
}

#[test]
fn an_owner_killed_in_the_factory_leaves_nothing_and_the_next_one_starts_afresh() {
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().display().to_string();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hsm-sim"))
        .args(["run", "--machine", "lux-1", "--dir", &name])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let working = || processes_about(&name).into_iter().filter(|process| *process != child.id()).collect::<Vec<_>>();
    let start = Instant::now();
    while working().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "the factory never started");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!directory.path().join("machines/lux-1/tpm").exists(), "killed too late to show anything");

    // Its helpers finish what they are at, and no more.
    let rack = Rack::open(directory.path()).unwrap();
    let machine = booted(&rack, "lux-1");
    let start = Instant::now();
    while processes_about(&name).into_iter().any(|process| Some(process) != machine.tpm_process()) {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?} outlive their owner", processes_about(&name));
        std::thread::sleep(Duration::from_millis(20));
    }
    let certificate = certificate_in_tpm(machine.bus(), command::EK_CERTIFICATE_P384);
    assert_eq!(certificate, std::fs::read(machine.ek_certificate_ecc()).unwrap());
    let left = std::fs::read_dir(directory.path().join("machines/lux-1")).unwrap();
    let unfinished = |name: &std::ffi::OsStr| name.to_string_lossy().contains("unfinished");
    assert!(!left.into_iter().any(|entry| unfinished(&entry.unwrap().file_name())));
}

/// The processes whose command line names a directory.
fn processes_about(directory: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let named = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    named
        .filter(|process: &u32| {
            let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(directory)
        })
        .collect()
}

#[test]
fn a_token_signs_with_its_pin_only_and_is_found_again() {
    let rack = Rack::temporary().unwrap();
    let token = rack.token("official-1").unwrap();
    let other = rack.token("official-2").unwrap();
    assert!(token.pin() != other.pin() && token.pin() != token.so_pin());
    let work = rack.directory();
    let tool = |token: &hsm_sim::Token, pin: &str| {
        let mut tool = Command::new("pkcs11-tool");
        tool.env("SOFTHSM2_CONF", token.configuration()).env("PIN", pin).current_dir(work);
        tool.arg("--module").arg(token.module()).args(["--token-label", token.label(), "--login", "--pin", "env:PIN"]);
        tool
    };
    let generate = ["--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", "--label", "identity"];
    assert!(!tool(&token, "000000").args(generate).output().unwrap().status.success(), "a wrong PIN is refused");
    run(tool(&token, token.pin()).args(generate));
    run(tool(&token, token.pin()).args(["--read-object", "--type", "pubkey", "--id", "01", "-o", "public.der"]));
    std::fs::write(work.join("message"), b"said on purpose").unwrap();
    run(Command::new("openssl").args(["dgst", "-sha256", "-binary", "-out", "digest", "message"]).current_dir(work));

    let again = rack.token("official-1").unwrap();
    assert_eq!((again.pin(), again.configuration()), (token.pin(), token.configuration()));
    let sign = ["--sign", "--mechanism", "ECDSA", "--id", "01", "--signature-format", "openssl"];
    run(tool(&again, again.pin()).args(sign).args(["-i", "digest", "-o", "signature"]));
    let verify = ["dgst", "-sha256", "-keyform", "DER", "-verify", "public.der", "-signature", "signature", "message"];
    run(Command::new("openssl").args(verify).current_dir(work));
    assert!(!run(tool(&other, other.pin()).arg("--list-objects")).contains("identity"), "tokens share nothing");

    let temporary = hsm_sim::Token::temporary("official-3").unwrap();
    let directory = temporary.configuration().parent().unwrap().to_owned();
    drop(temporary);
    assert!(!directory.exists());
}

#[test]
fn a_machine_that_is_off_answers_nothing_and_says_so() {
    let rack = Rack::temporary().unwrap();
    let mut machine = rack.machine("lux-1").unwrap();
    assert!(matches!(machine.bus().transact(&command::read_clock()), Err(Error::PoweredOff { .. })));
    assert!(matches!(machine.power_off(), Err(Error::PoweredOff { .. })));
    assert!(matches!(machine.reboot(&BootProfile::default()), Err(Error::PoweredOff { .. })));
    assert!(matches!(machine.resume(), Err(Error::PoweredOff { .. })));
    let mut early = Software::connect(&machine);
    assert_eq!(early.receive(Duration::from_secs(5)), Got::Closed);
    machine.power_on(&BootProfile::default()).unwrap();
    assert!(matches!(machine.power_on(&BootProfile::default()), Err(Error::PoweredOn { .. })));
    let mut standing = Software::connect(&machine);
    standing.send(&command::get_random(8));
    assert!(matches!(standing.receive(Duration::from_secs(5)), Got::Bytes(_)));
    machine.power_off().unwrap();
    assert_eq!(standing.receive(Duration::from_secs(5)), Got::Closed);
    machine.power_cut(); // off already: no effect

    // A TPM process that dies is an error, not a hang, and the machine starts again.
    machine.power_on(&BootProfile::default()).unwrap();
    signal(machine.tpm_process().unwrap(), Signal::KILL);
    assert!(matches!(machine.bus().transact(&command::read_clock()), Err(Error::TpmGone { .. })));
    assert_eq!(ask(&machine, &command::read_clock(), Duration::from_secs(5)), Got::Closed);
    assert!(matches!(machine.power_off(), Err(Error::TpmGone { .. })));
    assert!(!machine.is_on() && machine.event_log().is_empty() && !machine.event_log_path().exists());
    machine.power_on(&BootProfile::default()).unwrap();
    assert!(!clock(machine.bus()).safe);

    // One that hangs keeps neither its host nor its software: cutting the power ends both waits.
    signal(machine.tpm_process().unwrap(), Signal::STOP);
    let mut standing = Software::connect(&machine);
    standing.send(&command::get_random(8));
    let bus = machine.bus().clone();
    let host = std::thread::spawn(move || bus.transact(&command::read_clock()));
    assert_eq!(standing.receive(Duration::from_millis(200)), Got::Nothing);
    let start = Instant::now();
    machine.power_cut();
    assert_eq!(standing.receive(Duration::from_secs(5)), Got::Closed);
    assert!(matches!(host.join().unwrap(), Err(Error::TpmGone { .. } | Error::PoweredOff { .. })));
    assert!(start.elapsed() < Duration::from_secs(5));
}
