//! Measured boot: what a machine starts, and the events and register values that follow from it.
//!
//! | PCR | what is measured into it |
//! |---|---|
//! | 0 | the firmware: its version, its image |
//! | 4 | what the firmware starts: the boot loader, then the kernel image |
//! | 5 | that the firmware handed over |
//! | 7 | secure boot: its switch, its databases, the entry that let the boot loader start |
//! | 11 | the service program |
//! | 12 | the kernel command line |
//!
//! Registers 0 to 7 each get exactly one separator. Every event goes into the SHA-256 and the SHA-384 bank, which are the
//! only ones these TPMs have switched on (a bank nobody extends could be filled by anyone later).
//! Sources: TCG PC Client Platform Firmware Profile, sections 3.3.4 and 10; systemd's use of registers 11 and 12.

use std::path::Path;

use sha2::{Digest, Sha256, Sha384};

use crate::event_log::{self, Event};
use crate::{Error, Result};

/// How many registers a bank has.
pub const PCR_COUNT: usize = 24;

/// A digest per bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    /// For the SHA-256 bank.
    pub sha256: [u8; 32],
    /// For the SHA-384 bank.
    pub sha384: [u8; 48],
}

impl Digests {
    /// The digests of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: Sha256::digest(bytes).into(), sha384: Sha384::digest(bytes).into() }
    }
}

/// Something that is measured before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// What the log calls it: a file's path, or a version.
    pub name: String,
    /// What is extended.
    pub digests: Digests,
    /// Its length in bytes.
    pub length: u64,
}

impl Component {
    /// A component with this content.
    pub fn of(name: impl Into<String>, content: &[u8]) -> Self {
        Self { name: name.into(), digests: Digests::of(content), length: content.len() as u64 }
    }

    /// A component that is a file.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read.
    pub fn file(path: &Path) -> Result<Self> {
        let content = std::fs::read(path).map_err(Error::io("read", path))?;
        Ok(Self::of(path.display().to_string(), &content))
    }
}

/// What a machine boots. Equal profiles give equal registers on every machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootProfile {
    /// The firmware; its name is its version.
    pub firmware: Component,
    /// The boot loader the firmware starts.
    pub boot_loader: Component,
    /// The kernel image the boot loader starts.
    pub kernel: Component,
    /// The kernel's command line.
    pub command_line: String,
    /// The service program, measured before it starts.
    pub service: Component,
    /// Whether the firmware checks signatures.
    pub secure_boot: bool,
}

impl Default for BootProfile {
    fn default() -> Self {
        Self {
            firmware: Component::of("hsm-sim firmware 1.0", b"firmware image 1.0"),
            boot_loader: Component::of("\\EFI\\BOOT\\BOOTX64.EFI", b"boot loader 1.0"),
            kernel: Component::of("\\EFI\\Linux\\linux-6.12.efi", b"kernel 6.12"),
            command_line: "root=/dev/mapper/root ro lockdown=confidentiality panic=-1".to_owned(),
            service: Component::of("/usr/bin/service", b"service 1.0"),
            secure_boot: true,
        }
    }
}

impl BootProfile {
    /// This profile with another firmware.
    #[must_use]
    pub fn with_firmware(mut self, version: &str, image: &[u8]) -> Self {
        self.firmware = Component::of(version, image);
        self
    }

    /// This profile with another boot loader.
    #[must_use]
    pub fn with_boot_loader(mut self, image: &[u8]) -> Self {
        self.boot_loader = Component::of(self.boot_loader.name, image);
        self
    }

    /// This profile with another kernel image.
    #[must_use]
    pub fn with_kernel(mut self, image: &[u8]) -> Self {
        self.kernel = Component::of(self.kernel.name, image);
        self
    }

    /// This profile with another kernel command line.
    #[must_use]
    pub fn with_command_line(mut self, line: &str) -> Self {
        line.clone_into(&mut self.command_line);
        self
    }

    /// This profile with another service program.
    #[must_use]
    pub fn with_service(mut self, program: &[u8]) -> Self {
        self.service = Component::of(self.service.name, program);
        self
    }

    /// This profile with secure boot on or off.
    #[must_use]
    pub fn with_secure_boot(mut self, on: bool) -> Self {
        self.secure_boot = on;
        self
    }

    /// Reads a profile from lines of `key = value`, over the default one; `#` starts a comment line. Keys: `firmware`,
    /// `boot-loader`, `kernel`, `service` (a text that stands for the content, or `@PATH` for a file's content),
    /// `command-line`, `secure-boot` (`on` or `off`).
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::BadProfile`] with the line.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let mut profile = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |problem: String| Error::BadProfile { path: path.to_owned(), line: number + 1, problem };
            let (key, value) = line.split_once('=').ok_or_else(|| bad("expected `key = value`".to_owned()))?;
            profile.set(key.trim(), value.trim()).map_err(|error| match error {
                Error::BadSetting { problem } => bad(problem),
                error => error,
            })?;
        }
        Ok(profile)
    }

    /// Sets one part by its key in the format of [`BootProfile::from_file`].
    ///
    /// # Errors
    /// [`Error::BadSetting`] for an unknown key or value, [`Error::Io`] for a file that cannot be read.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let component = |name: &str| match value.strip_prefix('@') {
            Some(path) => Component::file(Path::new(path)).map(|file| Component { name: name.to_owned(), ..file }),
            None => Ok(Component::of(name, value.as_bytes())),
        };
        match (key, value) {
            ("firmware", _) => self.firmware = component(value)?,
            ("boot-loader", _) => self.boot_loader = component(&self.boot_loader.name)?,
            ("kernel", _) => self.kernel = component(&self.kernel.name)?,
            ("service", _) => self.service = component(&self.service.name)?,
            ("command-line", _) => value.clone_into(&mut self.command_line),
            ("secure-boot", "on") => self.secure_boot = true,
            ("secure-boot", "off") => self.secure_boot = false,
            ("secure-boot", _) => {
                return Err(Error::BadSetting { problem: format!("secure-boot is `on` or `off`, not {value:?}") });
            }
            _ => {
                let keys = "firmware, boot-loader, kernel, service, command-line or secure-boot";
                return Err(Error::BadSetting { problem: format!("no key {key:?}: use {keys}") });
            }
        }
        Ok(())
    }

    /// The events of a boot, in the order they are measured.
    pub fn events(&self) -> Vec<Event> {
        let of = |pcr, kind, component: &Component, data| Event { pcr, kind, digests: component.digests, data };
        let separator = |pcr| Event::of_data(pcr, event_log::EV_SEPARATOR, vec![0; 4]);
        let action = |pcr, text: &str| Event::of_data(pcr, event_log::EV_EFI_ACTION, text.as_bytes().to_vec());
        let image = |component: &Component| {
            let data = event_log::image_load(&component.name, component.length);
            of(4, event_log::EV_EFI_BOOT_SERVICES_APPLICATION, component, data)
        };

        let mut version = event_log::utf16(&self.firmware.name);
        version.extend_from_slice(&[0, 0]);
        let mut events = vec![
            Event::of_data(0, event_log::EV_S_CRTM_VERSION, version),
            of(
                0,
                event_log::EV_EFI_PLATFORM_FIRMWARE_BLOB,
                &self.firmware,
                event_log::firmware_blob(self.firmware.length),
            ),
        ];
        let configuration = |data| Event::of_data(7, event_log::EV_EFI_VARIABLE_DRIVER_CONFIG, data);
        events.push(configuration(event_log::secure_boot_variable(self.secure_boot)));
        for name in ["PK", "KEK", "db", "dbx"] {
            events.push(configuration(event_log::signature_database(name, &database_entry(name))));
        }
        events.push(separator(7));
        events.push(action(4, "Calling EFI Application from Boot Option"));
        events.extend((0..7).map(separator));
        if self.secure_boot {
            let authority = event_log::authority(&database_entry("db"));
            events.push(Event::of_data(7, event_log::EV_EFI_VARIABLE_AUTHORITY, authority));
        }
        events.push(image(&self.boot_loader));
        events.push(image(&self.kernel));
        let mut line = event_log::utf16(&self.command_line);
        line.extend_from_slice(&[0, 0]);
        events.push(Event::of_data(12, event_log::EV_IPL, line));
        events.push(action(5, "Exit Boot Services Invocation"));
        events.push(action(5, "Exit Boot Services Returned with Success"));
        let mut name = self.service.name.clone().into_bytes();
        name.push(0);
        events.push(of(11, event_log::EV_IPL, &self.service, name));
        events
    }

    /// The event log such a boot leaves, as bytes.
    pub fn event_log(&self) -> Vec<u8> {
        event_log::encode(&self.events())
    }

    /// The registers after such a boot, computed without a TPM.
    pub fn expected_pcrs(&self) -> PcrValues {
        let mut values = PcrValues::default();
        for event in self.events() {
            values.extend(event.pcr as usize, &event.digests);
        }
        values
    }
}

/// Who may sign for these machines: fixed, so that profiles alone decide the registers.
fn database_entry(name: &str) -> [u8; 32] {
    Digests::of(format!("hsm-sim secure boot {name}").as_bytes()).sha256
}

/// The registers of both banks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrValues {
    /// The SHA-256 bank.
    pub sha256: [[u8; 32]; PCR_COUNT],
    /// The SHA-384 bank.
    pub sha384: [[u8; 48]; PCR_COUNT],
}

impl Default for PcrValues {
    /// After a reset: all zeros, and all ones in the registers of a dynamic launch (17 to 22).
    fn default() -> Self {
        let mut values = Self { sha256: [[0; 32]; PCR_COUNT], sha384: [[0; 48]; PCR_COUNT] };
        for register in values.sha256.iter_mut().take(23).skip(17) {
            *register = [0xff; 32];
        }
        for register in values.sha384.iter_mut().take(23).skip(17) {
            *register = [0xff; 48];
        }
        values
    }
}

impl PcrValues {
    /// Extends one register in both banks; a register that does not exist stays so.
    pub fn extend(&mut self, pcr: usize, digests: &Digests) {
        if let (Some(short), Some(long)) = (self.sha256.get_mut(pcr), self.sha384.get_mut(pcr)) {
            *short = Sha256::new().chain_update(*short).chain_update(digests.sha256).finalize().into();
            *long = Sha384::new().chain_update(*long).chain_update(digests.sha384).finalize().into();
        }
    }
}
