//! A rack: a directory with a TPM vendor's certificate authority of its own, machines whose TPMs that vendor made, and
//! tokens. Nothing outside the directory is read or written, the system's own swtpm authority least of all.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::chip::Chip;
use crate::command::{self, LOCKOUT, OWNER};
use crate::{Error, Machine, Result, Token, machine, tool};

/// Longest wait for another process that makes this rack's authority, or a token.
const MAKING_DEADLINE: Duration = Duration::from_secs(120);
/// Longest wait for a machine that its owner gives up at this moment.
const GIVING_UP_DEADLINE: Duration = Duration::from_millis(100);
/// Where a TPM is manufactured, until it is whole.
const UNFINISHED: &str = "tpm.unfinished-";
/// Failed authorizations before the TPM locks itself: a common choice of vendors lies between 5 and 32.
const LOCKOUT_TRIES: u32 = 5;
/// Seconds until one failure is forgotten: two hours.
const LOCKOUT_RECOVERY_SECONDS: u32 = 7200;
/// Seconds for which a wrong lockout authorization bars the right one: a day.
const LOCKOUT_AUTHORIZATION_RECOVERY_SECONDS: u32 = 86400;

/// A rack. Clones are the same rack; a temporary one is deleted with the last clone and the last machine.
#[derive(Clone, Debug)]
pub struct Rack {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    /// Deletes the directory of a temporary rack.
    _temporary: Option<tempfile::TempDir>,
}

impl Rack {
    /// A rack in a temporary directory.
    ///
    /// # Errors
    /// [`Error::System`], [`Error::Io`], [`Error::BadDirectory`].
    pub fn temporary() -> Result<Self> {
        let temporary =
            tempfile::Builder::new().prefix("hsm-sim-").tempdir().map_err(Error::system("a temporary directory"))?;
        let directory = temporary.path().to_owned();
        Self::with(directory, Some(temporary))
    }

    /// The rack in this directory, made if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::BadDirectory`].
    pub fn open(directory: &Path) -> Result<Self> {
        make_directory(directory)?;
        // Sockets and the authority's configuration need a path that holds wherever a program stands.
        let directory = directory.canonicalize().map_err(Error::io("resolve", directory))?;
        Self::with(directory, None)
    }

    fn with(directory: PathBuf, temporary: Option<tempfile::TempDir>) -> Result<Self> {
        // swtpm and tpm2-tss separate options by commas, the authority's configuration by lines.
        if directory.as_os_str().as_bytes().iter().any(|byte| b",\n\r".contains(byte)) {
            return Err(Error::BadDirectory { path: directory });
        }
        for part in ["ca", "machines", "tokens"] {
            make_directory(&directory.join(part))?;
        }
        Ok(Self { inner: Arc::new(Inner { directory, _temporary: temporary }) })
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// The machine with this name, off. The first time its TPM is manufactured (about 0.3 s, the rack's first 1.4 s).
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::InUse`] while another [`Machine`] has that name; [`Error::ToolMissing`],
    /// [`Error::ToolFailed`], [`Error::Deadline`] from manufacture; [`Error::PathTooLong`]; [`Error::Io`].
    pub fn machine(&self, name: &str) -> Result<Machine> {
        check_name(name)?;
        let directory = self.inner.directory.join("machines").join(name);
        make_directory(&directory)?;
        let lock = Lock::take(&directory.join("lock"), GIVING_UP_DEADLINE)?
            .ok_or_else(|| Error::InUse { machine: name.to_owned() })?;
        if !directory.join(machine::TPM).exists() {
            self.manufacture(name, &directory)?;
        }
        Machine::new(self.clone(), name, directory, lock)
    }

    /// The token with this label, made the first time.
    ///
    /// # Errors
    /// As [`Token::open`].
    pub fn token(&self, label: &str) -> Result<Token> {
        check_name(label)?;
        Token::open(&self.inner.directory.join("tokens").join(label), label)
    }

    /// The vendor's root certificates (PEM files), to which all EK certificates chain. They exist once the first machine does.
    pub fn vendor_roots(&self) -> Vec<PathBuf> {
        vec![self.inner.directory.join("ca/swtpm-localca-rootca-cert.pem")]
    }

    /// The vendor's issuing certificates (PEM files) between the roots and the EK certificates.
    pub fn vendor_intermediates(&self) -> Vec<PathBuf> {
        vec![self.inner.directory.join("ca/issuercert.pem")]
    }

    /// Moves each machine's TPM into the other machine. Both must be off. A TPM keeps its memory and its authorizations;
    /// the disks stay where they are.
    ///
    /// # Errors
    /// [`Error::PoweredOn`], [`Error::Io`].
    pub fn swap_tpms(&self, a: &mut Machine, b: &mut Machine) -> Result<()> {
        a.require_off()?;
        b.require_off()?;
        let (tpm_a, tpm_b) = (a.directory().join(machine::TPM), b.directory().join(machine::TPM));
        // In one step: a swap that broke off in the middle would leave a machine for which a new TPM is manufactured.
        let exchange = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(rustix::fs::CWD, &tpm_a, rustix::fs::CWD, &tpm_b, exchange)
            .map_err(|error| Error::io("exchange with another machine's", &tpm_a)(error.into()))?;
        a.read_papers()?;
        b.read_papers()
    }

    /// What the factory does: EK certificates, PCR banks, authorizations, lockout parameters.
    fn manufacture(&self, name: &str, machine: &Path) -> Result<()> {
        // A name of its own: where an owner was killed in the middle, its swtpm_setup may still be writing for a moment.
        let unfinished = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(machine)
            .map_err(Error::io("make a directory in", machine))?;
        let scratch = unfinished.path();
        self.swtpm_setup(name, scratch)?;

        let (owner, lockout) = (authorization()?, authorization()?);
        let mut chip = Chip::power(name, scratch, &machine.join("factory.log"))?;
        chip.init()?;
        let lockout_parameters = command::dictionary_attack_parameters(
            &lockout,
            LOCKOUT_TRIES,
            LOCKOUT_RECOVERY_SECONDS,
            LOCKOUT_AUTHORIZATION_RECOVERY_SECONDS,
        );
        for (what, command) in [
            ("TPM2_Startup", command::startup(false)),
            ("TPM2_HierarchyChangeAuth(owner)", command::hierarchy_change_auth(OWNER, &[], &owner)),
            ("TPM2_HierarchyChangeAuth(lockout)", command::hierarchy_change_auth(LOCKOUT, &[], &lockout)),
            ("TPM2_DictionaryAttackParameters", lockout_parameters),
            ("TPM2_Shutdown", command::shutdown(false)),
        ] {
            command::parameters(what, &chip.transact(&command)?, false)?;
        }
        chip.end()?;
        machine::write_secret(&scratch.join(machine::OWNER_FILE), &owner)?;
        machine::write_secret(&scratch.join(machine::LOCKOUT_FILE), &lockout)?;
        let tpm = machine.join(machine::TPM);
        // One rename: a half-made TPM never looks like a finished one.
        std::fs::rename(unfinished.keep(), &tpm).map_err(Error::io("move into place", &tpm))?;
        remove_unfinished(machine);
        Ok(())
    }

    fn swtpm_setup(&self, name: &str, tpm: &Path) -> Result<()> {
        let ca = self.inner.directory.join("ca");
        // The first machine makes the authority, and nobody may read a configuration it is writing. After that
        // swtpm_localca locks for itself.
        let lock = Lock::wait(&ca.join("lock"), "the making of the vendor's authority")?;
        if !ca.join("issuercert.pem").exists() {
            self.write_configuration(&ca)?;
            return self.run_swtpm_setup(name, tpm, &ca);
        }
        drop(lock);
        self.run_swtpm_setup(name, tpm, &ca)
    }

    fn run_swtpm_setup(&self, name: &str, tpm: &Path, ca: &Path) -> Result<()> {
        let program = tool::find("swtpm_setup")?;
        tool::find("swtpm")?;
        tool::find("certtool")?; // swtpm_localca calls it, and says nothing useful when it is missing
        let mut command = Command::new(program);
        command.args(["--tpm2", "--create-ek-cert", "--lock-nvram", "--pcr-banks", "sha256,sha384", "--vmid", name]);
        command.arg("--tpmstate").arg(tpm).arg("--write-ek-cert-files").arg(tpm);
        command.arg("--config").arg(ca.join("swtpm_setup.conf"));
        tool::run("swtpm_setup", &mut command, ca)
    }

    fn write_configuration(&self, ca: &Path) -> Result<()> {
        let localca = tool::find("swtpm_localca")?;
        let path = |name: &str| ca.join(name).display().to_string();
        let write =
            |name: &str, text: String| std::fs::write(ca.join(name), text).map_err(Error::io("write", &ca.join(name)));
        write(
            "localca.conf",
            format!(
                "statedir = {}\nsigningkey = {}\nissuercert = {}\ncertserial = {}\n",
                ca.display(),
                path("signkey.pem"),
                path("issuercert.pem"),
                path("certserial")
            ),
        )?;
        write(
            "localca.options",
            "--tpm-manufacturer id:00001014\n--tpm-model swtpm\n--tpm-version 2.0\n--platform-manufacturer hsm-sim\n\
             --platform-version 1.0\n--platform-model rack\n"
                .to_owned(),
        )?;
        write(
            "swtpm_setup.conf",
            format!(
                "create_certs_tool = {}\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n\
                 active_pcr_banks = sha256,sha384\n",
                localca.display(),
                path("localca.conf"),
                path("localca.options")
            ),
        )
    }
}

/// A random authorization value. A TPM drops trailing zero bytes of one, so it has none.
pub(crate) fn authorization() -> Result<[u8; 32]> {
    let mut value = [0; 32];
    loop {
        getrandom::fill(&mut value)
            .map_err(|error| Error::System { what: "random bytes", source: std::io::Error::other(error) })?;
        if value.last() != Some(&0) {
            return Ok(value);
        }
    }
}

pub(crate) fn make_directory(path: &Path) -> Result<()> {
    // Only for its owner: it holds keys and a socket that obeys whoever connects.
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io("make directory", path))
}

pub(crate) fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && name.len() <= 32 && name.chars().all(good) {
        Ok(())
    } else {
        Err(Error::BadName { name: name.to_owned() })
    }
}

/// A lock between processes: a locked file. A process that ends in any way gives it up.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Takes it within a time, or says that somebody else has it.
    fn take(path: &Path, patience: Duration) -> Result<Option<Self>> {
        let open = File::options().create(true).truncate(false).write(true).open(path);
        let file = open.map_err(Error::io("open", path))?;
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self(file))),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
            }
        }
    }

    /// Takes it, while somebody else makes what it guards.
    pub(crate) fn wait(path: &Path, what: &str) -> Result<Self> {
        let late = || Error::Deadline { what: what.to_owned(), after: MAKING_DEADLINE };
        Self::take(path, MAKING_DEADLINE)?.ok_or_else(late)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone is not enough: a child another thread starts at this moment has a copy until it becomes its program.
        let _ = self.0.unlock();
    }
}

/// What owners that were killed left of TPMs they were manufacturing.
fn remove_unfinished(machine: &Path) {
    for entry in std::fs::read_dir(machine).into_iter().flatten().flatten() {
        if entry.file_name().as_bytes().starts_with(UNFINISHED.as_bytes()) {
            let _ = std::fs::remove_dir_all(entry.path()); // litter; where it cannot be removed it does no harm
        }
    }
}
