//! A PKCS#11 token: SoftHSM2 with a configuration, a directory, a label and PINs of its own. Made with OpenSC's
//! pkcs11-tool, which takes PINs from the environment; softhsm2-util takes them only on its command line, which every user
//! of the machine can read.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result, machine, rack, tool};

/// A token. Programs reach it by loading [`Token::module`] with `SOFTHSM2_CONF` set to [`Token::configuration`].
#[derive(Debug)]
pub struct Token {
    label: String,
    configuration: PathBuf,
    module: PathBuf,
    pin: String,
    so_pin: String,
    /// Deletes the directory of a temporary token.
    _temporary: Option<tempfile::TempDir>,
}

/// A module in front of a token, with the faults of cards.
#[derive(Debug)]
pub struct FaultyModule {
    module: PathBuf,
    pull: PathBuf,
}

impl FaultyModule {
    /// The PKCS#11 module to load.
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// From its Nth signature on in each process, the token is gone. 0 plugs it in again.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn pull_at_signature(&self, number: u32) -> Result<()> {
        std::fs::write(&self.pull, number.to_string()).map_err(Error::io("write", &self.pull))
    }
}

impl Token {
    /// The token in this directory, made with this label if there is none.
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::ToolMissing`] for SoftHSM2 or pkcs11-tool; [`Error::ToolFailed`], [`Error::Deadline`], [`Error::Io`].
    pub fn open(directory: &Path, label: &str) -> Result<Self> {
        rack::check_name(label)?;
        rack::make_directory(directory)?;
        let directory = directory.canonicalize().map_err(Error::io("resolve", directory))?;
        let (pin_file, so_pin_file) = (directory.join("user.pin"), directory.join("so.pin"));
        let configuration = directory.join("softhsm2.conf");
        let module = find_module()?;
        let _lock = rack::Lock::wait(&directory.join("lock"), "the making of the token")?;
        if !pin_file.exists() {
            let (pin, so_pin) = (digits()?, digits()?);
            Self::initialize(&directory, &configuration, &module, label, &pin, &so_pin)?;
            machine::write_secret(&so_pin_file, so_pin.as_bytes())?;
            machine::write_secret(&pin_file, pin.as_bytes())?; // last: its presence says that the token is whole
        }
        let read = |path: &Path| std::fs::read_to_string(path).map_err(Error::io("read", path));
        let (pin, so_pin) = (read(&pin_file)?, read(&so_pin_file)?);
        Ok(Self { label: label.to_owned(), configuration, module, pin, so_pin, _temporary: None })
    }

    /// A token in a temporary directory.
    ///
    /// # Errors
    /// As [`Token::open`].
    pub fn temporary(label: &str) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("hsm-sim-token-")
            .tempdir()
            .map_err(Error::system("a temporary directory"))?;
        let token = Self::open(directory.path(), label)?;
        Ok(Self { _temporary: Some(directory), ..token })
    }

    /// The PKCS#11 module to load.
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// The same token behind a module with faults, which SoftHSM does not have: it locks after so many wrong PINs, and counts
    /// them for as long as the directory lasts. [`FaultyModule::pull_at_signature`] pulls it in the middle.
    ///
    /// # Errors
    /// [`Error::ToolMissing`] for a C compiler; [`Error::ToolFailed`], [`Error::Deadline`], [`Error::Io`].
    pub fn faulty(&self, wrong_pins_until_locked: u32) -> Result<FaultyModule> {
        const SOURCE: &str = include_str!("../faulty-token.c");
        let directory = self.configuration.parent().unwrap_or(Path::new("."));
        let at = |name: &str| directory.join(name);
        let (source, module) = (at("faulty-token.c"), at("faulty-token.so"));
        std::fs::write(&source, SOURCE).map_err(Error::io("write", &source))?;
        let define = |name: &str, path: &Path| format!("-D{name}=\"{}\"", path.display());
        let mut command = Command::new(tool::find("cc")?);
        command.args(["-shared", "-fPIC", "-O1", "-w"]).arg(format!("-DLIMIT={wrong_pins_until_locked}"));
        command
            .arg(define("MODULE", &self.module))
            .arg(define("STATE", &at("wrong-pins")))
            .arg(define("PULL", &at("pull")));
        command.arg(&source).arg("-o").arg(&module).arg("-ldl");
        tool::run("cc", &mut command, directory)?;
        Ok(FaultyModule { module, pull: at("pull") })
    }

    /// What `SOFTHSM2_CONF` must be in the environment of the program that loads the module.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// The token's label; slot numbers change, labels do not.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The user's PIN: 12 digits.
    pub fn pin(&self) -> &str {
        &self.pin
    }

    /// The security officer's PIN: 12 digits.
    pub fn so_pin(&self) -> &str {
        &self.so_pin
    }

    fn initialize(
        directory: &Path,
        configuration: &Path,
        module: &Path,
        label: &str,
        pin: &str,
        so_pin: &str,
    ) -> Result<()> {
        let objects = directory.join("tokens");
        if objects.exists() {
            std::fs::remove_dir_all(&objects).map_err(Error::io("remove the unfinished token in", &objects))?;
        }
        rack::make_directory(&objects)?;
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
            objects.display()
        );
        std::fs::write(configuration, text).map_err(Error::io("write", configuration))?;
        let program = tool::find("pkcs11-tool")?;
        let call = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            command.env("SOFTHSM2_CONF", configuration).env("TOKEN_PIN", pin).env("TOKEN_SO_PIN", so_pin);
            command.arg("--module").arg(module).args(arguments).args(["--so-pin", "env:TOKEN_SO_PIN"]);
            tool::run("pkcs11-tool", &mut command, directory)
        };
        call(&["--init-token", "--slot-index", "0", "--label", label])?;
        call(&["--init-pin", "--token-label", label, "--login", "--login-type", "so", "--pin", "env:TOKEN_PIN"])
    }
}

/// Where distributions put the module; Debian has it under the architecture's library directory too.
fn find_module() -> Result<PathBuf> {
    const NAME: &str = "libsofthsm2.so";
    if let Some(path) = std::env::var_os("SOFTHSM2_MODULE").map(PathBuf::from) {
        return if path.is_file() { Ok(path) } else { Err(Error::ToolMissing { tool: path.display().to_string() }) };
    }
    let roots =
        ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/opt/homebrew/lib"].map(PathBuf::from);
    let architectures = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    roots
        .into_iter()
        .chain(architectures)
        .flat_map(|directory| {
            [directory.join("softhsm").join(NAME), directory.join("pkcs11").join(NAME), directory.join(NAME)]
        })
        .find(|path| path.is_file())
        .ok_or_else(|| Error::ToolMissing { tool: format!("SoftHSM2 ({NAME})") })
}

fn digits() -> Result<String> {
    let mut pin = String::new();
    while pin.len() < 12 {
        let mut byte = [0];
        getrandom::fill(&mut byte)
            .map_err(|error| Error::System { what: "random bytes", source: std::io::Error::other(error) })?;
        if let [value @ 0..250] = byte {
            pin.push(char::from(b'0' + value % 10)); // below 250, so that every digit is as likely
        }
    }
    Ok(pin)
}
