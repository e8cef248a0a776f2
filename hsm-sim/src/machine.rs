//! A machine: a TPM in its socket, a disk, and a power supply. It starts off; what it boots is measured before its
//! software gets to the TPM. Dropped while on, it loses power at that moment.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::bus::{self, Bus, Sockets};
use crate::chip::{Chip, Process};
use crate::command::{self, PLATFORM};
use crate::rack::{self, Lock, Rack};
use crate::{BootProfile, Error, Result, event_log};

/// The TPM's directory: its memory, and the papers that came with it.
pub(crate) const TPM: &str = "tpm";
pub(crate) const OWNER_FILE: &str = "owner.authorization";
pub(crate) const LOCKOUT_FILE: &str = "lockout.authorization";
/// Socket paths have at most 107 bytes.
const LONGEST_SOCKET_PATH: usize = 107;

/// A machine of a rack.
pub struct Machine {
    name: String,
    directory: PathBuf,
    owner: Vec<u8>,
    lockout: Vec<u8>,
    bus: Bus,
    power: Power,
    event_log: Vec<u8>,
    // The order of what follows is the order in which it is given up.
    _sockets: Sockets,
    _socket_directory: Option<tempfile::TempDir>,
    _lock: Lock,
    _rack: Rack,
}

enum Power {
    Off,
    Suspended,
    On(Process),
}

impl Machine {
    pub(crate) fn new(rack: Rack, name: &str, directory: PathBuf, lock: Lock) -> Result<Self> {
        rack::make_directory(&directory.join("disk"))?;
        let mut path = directory.join("bus");
        let mut socket_directory = None;
        if bus::control_path(&path).as_os_str().len() > LONGEST_SOCKET_PATH {
            let elsewhere =
                tempfile::Builder::new().prefix("hsm-").tempdir().map_err(Error::system("a temporary directory"))?;
            path = elsewhere.path().join("bus");
            socket_directory = Some(elsewhere);
        }
        let (bus, sockets) = Bus::listen(name, &path)?;
        let mut machine = Self {
            name: name.to_owned(),
            directory,
            owner: Vec::new(),
            lockout: Vec::new(),
            bus,
            power: Power::Off,
            event_log: Vec::new(),
            _sockets: sockets,
            _socket_directory: socket_directory,
            _lock: lock,
            _rack: rack,
        };
        machine.read_papers()?;
        machine.forget_boot()?;
        Ok(machine)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its software finds the TPM: a configuration string for tpm2-tss. The same through all of its life.
    pub fn tcti(&self) -> String {
        self.bus.tcti()
    }

    /// The bus between its software and its TPM.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The owner authorization the TPM in this machine was delivered with (32 bytes). Who buys the machine gets it.
    pub fn owner_authorization(&self) -> &[u8] {
        &self.owner
    }

    /// The lockout authorization the TPM in this machine was delivered with (32 bytes).
    pub fn lockout_authorization(&self) -> &[u8] {
        &self.lockout
    }

    /// The certificate (DER) of the TPM's RSA-2048 endorsement key; it is also in the TPM.
    pub fn ek_certificate_rsa(&self) -> PathBuf {
        self.directory.join(TPM).join("ek-rsa2048.crt")
    }

    /// The certificate (DER) of the TPM's P-384 endorsement key; it is also in the TPM.
    pub fn ek_certificate_ecc(&self) -> PathBuf {
        self.directory.join(TPM).join("ek-secp384r1.crt")
    }

    /// A directory that stands for the machine's disk. The simulation never looks into it.
    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk")
    }

    /// Whether it has power and is not suspended.
    pub fn is_on(&self) -> bool {
        matches!(self.power, Power::On(_))
    }

    /// The process that plays its TPM, while it is on.
    pub fn tpm_process(&self) -> Option<u32> {
        match &self.power {
            Power::On(process) => Some(process.id()),
            Power::Off | Power::Suspended => None,
        }
    }

    /// The event log of the boot that is running, in the binary form firmware hands to the kernel; empty while off.
    pub fn event_log(&self) -> &[u8] {
        &self.event_log
    }

    /// The same as a file, which exists while the machine is on.
    pub fn event_log_path(&self) -> PathBuf {
        self.directory.join("binary_bios_measurements")
    }

    /// Turns it on: power, TPM2_Startup(CLEAR), a new random platform authorization, measured boot. A suspended machine
    /// does not resume by this: it loses what it had suspended, and its TPM counts a restart, not a reset (TPM 2.0 Library,
    /// part 1, "TPM Restart").
    ///
    /// # Errors
    /// [`Error::PoweredOn`], [`Error::ToolMissing`], [`Error::TpmGone`], [`Error::Refused`], [`Error::Io`].
    pub fn power_on(&mut self, profile: &BootProfile) -> Result<()> {
        self.require_off()?;
        let mut chip = self.power_chip()?;
        chip.init()?;
        self.boot(&mut chip, profile)?;
        self.switch_on(chip);
        Ok(())
    }

    /// Turns it off in an orderly way: TPM2_Shutdown(CLEAR), then the power goes.
    ///
    /// # Errors
    /// [`Error::PoweredOff`], [`Error::TpmGone`], [`Error::Deadline`]. The machine is off in each case.
    pub fn power_off(&mut self) -> Result<()> {
        self.require_on()?;
        let told = self.shut_down(false);
        told.and(self.forget_boot())
    }

    /// The power goes without warning, also in the middle of a command. No effect on a machine that is off.
    pub fn power_cut(&mut self) {
        if let Power::On(process) = std::mem::replace(&mut self.power, Power::Off) {
            process.kill(); // first, so that a command that runs ends and frees the chip
            drop(self.bus.detach());
        }
        self.event_log.clear();
        // What a stale file could mislead is the next boot's reader, and that boot writes its own.
        let _ = std::fs::remove_file(self.event_log_path());
    }

    /// Restarts it in an orderly way: TPM2_Shutdown(CLEAR), reset, measured boot. Its software's connections end.
    ///
    /// # Errors
    /// [`Error::PoweredOff`], [`Error::TpmGone`], [`Error::Refused`], [`Error::Io`].
    pub fn reboot(&mut self, profile: &BootProfile) -> Result<()> {
        self.reset(profile, true)?;
        self.bus.restart_software();
        Ok(())
    }

    /// Pulls the TPM's reset line under a running system, without TPM2_Shutdown, and measures what the profile says (what
    /// really runs, or what should). Software keeps its connections and waits meanwhile.
    ///
    /// # Errors
    /// [`Error::PoweredOff`], [`Error::TpmGone`], [`Error::Refused`], [`Error::Io`].
    pub fn tpm_reset(&mut self, profile: &BootProfile) -> Result<()> {
        self.reset(profile, false)
    }

    /// Suspends it to RAM: TPM2_Shutdown(STATE), then the TPM's power goes.
    ///
    /// # Errors
    /// [`Error::PoweredOff`], [`Error::TpmGone`], [`Error::Deadline`]. The machine is off when it fails.
    pub fn suspend(&mut self) -> Result<()> {
        self.require_on()?;
        if let Err(error) = self.shut_down(true) {
            self.forget_boot()?;
            return Err(error);
        }
        self.power = Power::Suspended;
        Ok(())
    }

    /// Resumes it: TPM2_Startup(STATE). Registers, sessions' counters and event log are as before; nothing is measured.
    ///
    /// # Errors
    /// [`Error::PoweredOn`]; [`Error::PoweredOff`] when it was not suspended; [`Error::TpmGone`], [`Error::Refused`].
    pub fn resume(&mut self) -> Result<()> {
        match self.power {
            Power::Suspended => {}
            Power::Off => return Err(Error::PoweredOff { machine: self.name.clone() }),
            Power::On(_) => return Err(Error::PoweredOn { machine: self.name.clone() }),
        }
        let mut chip = self.power_chip()?;
        chip.init()?;
        let response = self.bus.firmware(&mut chip, &command::startup(true))?;
        command::parameters("TPM2_Startup(STATE)", &response, false)?; // this keeps the platform authorization, too
        self.switch_on(chip);
        Ok(())
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn require_off(&self) -> Result<()> {
        if self.is_on() { Err(Error::PoweredOn { machine: self.name.clone() }) } else { Ok(()) }
    }

    /// Reads what came with the TPM that is in the machine now.
    pub(crate) fn read_papers(&mut self) -> Result<()> {
        let read = |name: &str| {
            let path = self.directory.join(TPM).join(name);
            std::fs::read(&path).map_err(Error::io("read", &path))
        };
        let (owner, lockout) = (read(OWNER_FILE)?, read(LOCKOUT_FILE)?);
        (self.owner, self.lockout) = (owner, lockout);
        self.power = Power::Off; // what a suspended machine slept on went with its TPM
        Ok(())
    }

    fn power_chip(&self) -> Result<Chip> {
        Chip::power(&self.name, &self.directory.join(TPM), &self.directory.join("tpm.log"))
    }

    fn switch_on(&mut self, chip: Chip) {
        self.power = Power::On(chip.process());
        self.bus.attach(chip);
    }

    fn shut_down(&mut self, state: bool) -> Result<()> {
        let told = self.bus.with_chip(|chip| self.bus.firmware(chip, &command::shutdown(state)));
        self.power = Power::Off;
        let ended = self.bus.detach().map_or(Ok(()), Chip::end);
        command::parameters("TPM2_Shutdown", &told?, false)?;
        ended
    }

    fn reset(&mut self, profile: &BootProfile, orderly: bool) -> Result<()> {
        self.require_on()?;
        let bus = self.bus.clone();
        bus.with_chip(|chip| {
            if orderly {
                let response = bus.firmware(chip, &command::shutdown(false))?;
                command::parameters("TPM2_Shutdown", &response, false)?;
            }
            chip.init()?;
            self.boot(chip, profile)
        })
    }

    /// What firmware does after a reset, up to the moment the service starts.
    fn boot(&mut self, chip: &mut Chip, profile: &BootProfile) -> Result<()> {
        command::parameters("TPM2_Startup", &self.bus.firmware(chip, &command::startup(false))?, false)?;
        self.randomize_platform(chip)?;
        let events = profile.events();
        for event in &events {
            let extend = command::pcr_extend(event.pcr, &event.digests.sha256, &event.digests.sha384);
            command::parameters("TPM2_PCR_Extend", &self.bus.firmware(chip, &extend)?, true)?;
        }
        self.event_log = event_log::encode(&events);
        let path = self.event_log_path();
        std::fs::write(&path, &self.event_log).map_err(Error::io("write", &path))
    }

    /// Firmware throws its own authorization away, so that nothing it starts can use the platform hierarchy.
    fn randomize_platform(&self, chip: &mut Chip) -> Result<()> {
        let change = command::hierarchy_change_auth(PLATFORM, &[], &rack::authorization()?);
        command::parameters("TPM2_HierarchyChangeAuth(platform)", &self.bus.firmware(chip, &change)?, true).map(drop)
    }

    fn require_on(&self) -> Result<()> {
        if self.is_on() { Ok(()) } else { Err(Error::PoweredOff { machine: self.name.clone() }) }
    }

    fn forget_boot(&mut self) -> Result<()> {
        self.event_log.clear();
        let path = self.event_log_path();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.power_cut();
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the authorizations.
        let Self { name, directory, .. } = self;
        f.debug_struct("Machine").field("name", name).field("directory", directory).finish_non_exhaustive()
    }
}

/// Writes a file only its owner can read.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("write", path))?;
    file.write_all(bytes).map_err(Error::io("write", path))
}
