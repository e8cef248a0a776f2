//! Machines and their TPMs: what comes from the factory, what boots, what power does, who may do what.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use hsm_sim::command::{self, Clock};
use hsm_sim::{BootProfile, Bus, Machine, Rack};

fn software(machine: &Machine, command: &[u8]) -> Vec<u8> {
    let path = machine.tcti().strip_prefix("swtpm:path=").unwrap().to_owned();
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    stream.write_all(command).unwrap();
    let mut answer = [0; 4096];
    let count = stream.read(&mut answer).unwrap();
    answer[..count].to_vec()
}

fn clock(bus: &Bus) -> Clock {
    Clock::parse(&bus.transact(&command::read_clock()).unwrap()).unwrap()
}

/// A register as the TPM reports it.
fn register(bus: &Bus, bank: u16, pcr: u8) -> Vec<u8> {
    let answer = bus.transact(&command::pcr_read(bank, pcr)).unwrap();
    // Header, update counter, selection of one bank, digest count, digest size.
    answer[10 + 4 + 4 + 2 + 1 + 3 + 4 + 2..].to_vec()
}

fn assert_registers(bus: &Bus, profile: &BootProfile) {
    let expected = profile.expected_pcrs();
    for pcr in 0..24u8 {
        assert_eq!(register(bus, 0x0b, pcr), expected.sha256[usize::from(pcr)], "SHA-256 register {pcr}");
        assert_eq!(register(bus, 0x0c, pcr), expected.sha384[usize::from(pcr)], "SHA-384 register {pcr}");
    }
}

#[test]
fn a_boot_leaves_the_registers_its_profile_says() {
    let rack = Rack::temporary().unwrap();
    let mut machine = rack.machine("lux-1").unwrap();
    machine.power_on(&BootProfile::default()).unwrap();
    assert_registers(machine.bus(), &BootProfile::default());
    let answer = software(&machine, &command::get_random(16));
    assert_eq!(command::response_code_of(&answer), Some(0));
    assert_eq!(answer.len(), 28);
    let other = BootProfile::default().with_kernel(b"another kernel");
    machine.reboot(&other).unwrap();
    assert_registers(machine.bus(), &other);
    let before = clock(machine.bus());
    machine.power_off().unwrap();
    machine.power_on(&other).unwrap();
    let after = clock(machine.bus());
    assert_eq!((after.reset_count, after.safe), (before.reset_count + 1, true));
}
