//! What both test programs need: software on the bus, and questions to a TPM.
#![allow(dead_code, unreachable_pub)] // each program uses a part

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use hsm_sim::command::{self, Clock};
use hsm_sim::{BootProfile, Bus, Machine, Rack};

/// TPM_RC_BAD_AUTH, session 1.
pub const BAD_AUTH: u32 = 0x9a2;
/// TPM_RC_AUTH_FAIL, session 1.
pub const AUTH_FAIL: u32 = 0x98e;
/// TPM_RC_LOCKOUT.
pub const LOCKED_OUT: u32 = 0x921;

/// A machine that runs what machines usually run.
pub fn booted(rack: &Rack, name: &str) -> Machine {
    let mut machine = rack.machine(name).unwrap();
    machine.power_on(&BootProfile::default()).unwrap();
    machine
}

/// A connection as tpm2-tss makes one.
pub struct Software(pub UnixStream);

/// How an answer came, or did not.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    Bytes(Vec<u8>),
    Closed,
    Nothing,
}

impl Software {
    pub fn connect(machine: &Machine) -> Self {
        Self(UnixStream::connect(socket(machine)).unwrap())
    }

    pub fn connect_control(machine: &Machine) -> Self {
        let mut path = socket(machine).into_os_string();
        path.push(".ctrl");
        Self(UnixStream::connect(path).unwrap())
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub fn receive(&mut self, patience: Duration) -> Got {
        self.0.set_read_timeout(Some(patience)).unwrap();
        let mut answer = [0; 4096];
        match self.0.read(&mut answer) {
            Ok(0) => Got::Closed,
            Ok(count) => Got::Bytes(answer[..count].to_vec()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Got::Nothing,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Got::Closed,
            Err(error) => panic!("{error}"),
        }
    }
}

pub fn socket(machine: &Machine) -> PathBuf {
    machine.tcti().strip_prefix("swtpm:path=").unwrap().into()
}

/// One command of the software, over a connection of its own.
pub fn ask(machine: &Machine, command: &[u8], patience: Duration) -> Got {
    let mut software = Software::connect(machine);
    software.send(command);
    software.receive(patience)
}

/// One command that is answered.
pub fn software(machine: &Machine, command: &[u8]) -> Vec<u8> {
    match ask(machine, command, Duration::from_secs(20)) {
        Got::Bytes(bytes) => bytes,
        other => panic!("no answer: {other:?}"),
    }
}

/// A command's response code. A TPM asks once per boot to repeat the first command that authorizes something under
/// dictionary-attack protection (TPM_RC_RETRY): it has to note in its memory that this happened.
pub fn code(bus: &Bus, command: &[u8]) -> u32 {
    let once = || command::response_code_of(&bus.transact(command).unwrap()).unwrap();
    match once() {
        0x922 => once(),
        code => code,
    }
}

pub fn clock(bus: &Bus) -> Clock {
    Clock::parse(&bus.transact(&command::read_clock()).unwrap()).unwrap()
}

/// A register as the TPM reports it.
pub fn register(bus: &Bus, bank: u16, pcr: u8) -> Vec<u8> {
    let answer = bus.transact(&command::pcr_read(bank, pcr)).unwrap();
    // Header, update counter, selection of one bank, digest count, digest size.
    answer[10 + 4 + 4 + 2 + 1 + 3 + 4 + 2..].to_vec()
}

/// TPM2_GetCapability of one TPM_PT property.
pub fn property(bus: &Bus, property: u32) -> u32 {
    let parameters: Vec<u8> = [6, property, 1].into_iter().flat_map(u32::to_be_bytes).collect();
    let answer = bus.transact(&command::command(command::GET_CAPABILITY, &[], None, &parameters)).unwrap();
    assert_eq!(answer[19..23], property.to_be_bytes(), "asked for property {property:#x}");
    u32::from_be_bytes(answer[23..27].try_into().unwrap())
}

/// TPM2_NV_DefineSpace of 8 bytes, with an authorization of its own.
pub fn nv_define(owner: &[u8], index: u32, attributes: u32, password: &[u8]) -> Vec<u8> {
    let mut parameters = u16::try_from(password.len()).unwrap().to_be_bytes().to_vec();
    parameters.extend_from_slice(password);
    parameters.extend_from_slice(&14u16.to_be_bytes());
    parameters.extend_from_slice(&index.to_be_bytes());
    parameters.extend_from_slice(&0x000bu16.to_be_bytes()); // SHA-256
    parameters.extend_from_slice(&attributes.to_be_bytes());
    parameters.extend_from_slice(&[0, 0]); // no policy
    parameters.extend_from_slice(&8u16.to_be_bytes());
    command::command(command::NV_DEFINE_SPACE, &[command::OWNER], Some(owner), &parameters)
}

/// TPM2_NV_Write of 8 bytes with the index's own authorization.
pub fn nv_write(index: u32, password: &[u8], bytes: [u8; 8]) -> Vec<u8> {
    let mut parameters = 8u16.to_be_bytes().to_vec();
    parameters.extend_from_slice(&bytes);
    parameters.extend_from_slice(&[0, 0]); // offset
    command::command(command::NV_WRITE, &[index, index], Some(password), &parameters)
}

/// AUTHREAD | AUTHWRITE: an index that the dictionary-attack lockout protects.
pub const NV_PROTECTED: u32 = 0x0004_0004;

/// Runs a program to its end and returns what it printed; it must succeed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Whether a process is gone within two seconds. One that ended and whose new parent has not looked yet counts as gone.
pub fn vanishes(process: u32) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        match std::fs::read_to_string(format!("/proc/{process}/stat")) {
            Err(_) => return true,
            Ok(stat) if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')) => return true,
            Ok(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    false
}
