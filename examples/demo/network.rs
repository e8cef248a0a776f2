//! The network of the story, founded by its people with their own commands: home, officials, a data owner, an agent, an
//! auditor, a witness, and two embassies. Each has a directory; nothing but files and connections passes between them.

use std::{
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use chancery::protocol::{charter::SignedCharter, wire::Document, words::Words};
use hsm_sim::Token;

use crate::program::{Program, Running};

/// What everybody's key files are locked with in this story. Yours are not.
pub const PASSPHRASE: &str = "correct horse battery staple";

pub const OFFICIALS: [&str; 5] = ["anna", "boris", "clara", "david", "eva"];
pub const EMBASSIES: [&str; 2] = ["luxembourg", "vilnius"];
pub const OWNER: &str = "land-board";
pub const AGENT: &str = "replicator";
pub const AUDITOR: &str = "court-of-audit";
pub const WITNESS: &str = "tallinn";
pub const DATASETS: [&str; 2] = ["land-register", "police-files"];

/// What the platform registers approve.
pub const PLATFORM: [u8; 5] = [0, 2, 4, 7, 11];

/// The official whose keys lie behind a token.
pub const WITH_TOKEN: &str = "eva";

/// The directories of a network.
pub struct Network {
    pub program: Program,
    folder: PathBuf,
    token: Token,
}

impl Network {
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let rooms = ["home", OWNER, AGENT, AUDITOR, WITNESS];
        for room in OFFICIALS.iter().chain(&rooms).chain(&EMBASSIES) {
            std::fs::create_dir_all(folder.join(room))
                .with_context(|| format!("cannot make a directory for {room}"))?;
        }
        let token = Token::open(&folder.join("token"), "eva-card")?;
        let mut program = Program::beside_this()?;
        program.give("SOFTHSM2_CONF", token.configuration());
        Ok(Self { program, folder: folder.to_owned(), token })
    }

    /// The token of the official who has one.
    pub const fn token(&self) -> &Token {
        &self.token
    }

    /// How somebody unlocks keys on the command line, and with what.
    fn lock(&self, who: &str) -> (&'static str, &str) {
        if who == WITH_TOKEN { ("--pin-fd 0", self.token.pin()) } else { ("--passphrase-fd 0", PASSPHRASE) }
    }

    /// Somebody's directory.
    pub fn room(&self, of: &str) -> PathBuf {
        self.folder.join(of)
    }

    /// The words of a command, `LOCK` being how this person unlocks keys.
    fn words<'a>(&self, who: &str, command: &'a str, more: &[&'a str]) -> (Vec<&'a str>, &str) {
        let (option, secret) = self.lock(who);
        let words = command.split_whitespace().flat_map(|word| match word {
            "LOCK" => option.split_whitespace().collect::<Vec<_>>(),
            word => vec![word],
        });
        (words.chain(more.iter().copied()).collect(), secret)
    }

    /// Runs a command in somebody's directory; it has to work. `more` are words that may have spaces.
    pub fn run(&self, who: &str, command: &str, more: &[&str]) -> anyhow::Result<String> {
        let (words, secret) = self.words(who, command, more);
        self.program.works(&self.room(who), &words, secret)
    }

    /// Runs a command that has to refuse, and say why.
    pub fn refused(&self, who: &str, command: &str, more: &[&str], why: &str) -> anyhow::Result<String> {
        let (words, secret) = self.words(who, command, more);
        self.program.refuses(&self.room(who), &words, secret, why)
    }

    /// Starts a command that goes on.
    pub fn start(&self, who: &str, command: &str, more: &[&str]) -> anyhow::Result<Running> {
        let (words, secret) = self.words(who, command, more);
        self.program.start(&self.room(who), &words, secret)
    }

    /// The hash of a charter, as people read it to each other.
    pub fn charter_hash(&self, who: &str, file: &str) -> anyhow::Result<String> {
        Ok(SignedCharter::decode(&std::fs::read(self.room(who).join(file))?)?.unverified().hash().to_string())
    }

    /// The same in words.
    pub fn charter_words(&self, who: &str, file: &str) -> anyhow::Result<String> {
        let charter = SignedCharter::decode(&std::fs::read(self.room(who).join(file))?)?;
        Ok(Words::of(&charter.unverified().hash()).to_string())
    }

    /// Hands a file from one person's directory to another's.
    pub fn hand(&self, from: (&str, &str), to: (&str, &str)) -> anyhow::Result<()> {
        let (source, target) = (self.room(from.0).join(from.1), self.room(to.0).join(to.1));
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::copy(&source, &target).with_context(|| format!("cannot hand over {}", source.display()))?;
        Ok(())
    }

    /// Everyone but home.
    pub fn everyone() -> impl Iterator<Item = &'static str> {
        OFFICIALS.into_iter().chain([OWNER, AGENT, AUDITOR, WITNESS]).chain(EMBASSIES)
    }

    pub fn write(&self, room: &str, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.room(room).join(name);
        let mut file = std::fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(file.write_all(text.as_bytes())?)
    }
}

/// Has several people do something at the same time.
pub fn at_once<T: Sync, R: Send>(people: &[T], act: impl Fn(&T) -> anyhow::Result<R> + Sync) -> anyhow::Result<Vec<R>> {
    std::thread::scope(|scope| {
        let acting: Vec<_> = people.iter().map(|person| scope.spawn(|| act(person))).collect();
        acting.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("somebody's thread panicked"))?).collect()
    })
}

/// A port of this machine that is free now.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").context("a free port")?.local_addr()?.port())
}

/// The beginning of a line of a command's output, after a label.
pub fn value<'a>(said: &'a str, label: &str) -> anyhow::Result<&'a str> {
    said.lines()
        .find_map(|line| line.trim_start().strip_prefix(label))
        .map(str::trim)
        .with_context(|| format!("`{label}` is not in:\n{said}"))
}

/// The founding charter as home drafts it. ZZ is nobody's country code.
pub fn draft(policy: &str) -> anyhow::Result<String> {
    if policy.is_empty() {
        bail!("no policy digest");
    }
    let names = OFFICIALS.map(|name| format!("{name:?}")).join(", ");
    let mut draft = format!(
        "country = \"ZZ\"\nhome = \"home.crt\"\npolicy = \"{policy}\"\nexpiry_max_seconds = 600\nheartbeat_seconds = 60\n\
         [unseal]\nk = 3\nmembers = [{names}]\n[amend]\nk = 3\n[recovery]\nk = 4\nmembers = [{names}]\n"
    );
    for name in OFFICIALS {
        draft += &format!("[[official]]\nname = \"{name}\"\ncard = \"{name}/card.bin\"\n");
    }
    for name in EMBASSIES {
        draft += &format!(
            "[[embassy]]\nname = \"{name}\"\nclass = \"firmware\"\nleases = true\nplatform_pcrs = {PLATFORM:?}\n\
             nv_counter = 0x0180_0010\nnv_register = 0x0180_0011\nnv_charter_pin = 0x0180_0012\n"
        );
    }
    draft += &format!("[[owner]]\nname = \"{OWNER}\"\nkey = \"{OWNER}/owner.pub\"\n");
    for name in DATASETS {
        draft += &format!("[[dataset]]\nname = \"{name}\"\nowner = \"{OWNER}\"\n");
    }
    draft += &format!("[[witness]]\nname = \"{WITNESS}\"\nkey = \"{WITNESS}/witness.pub\"\n");
    Ok(draft)
}

/// A successor: everything and everybody as before, but no lease at the first embassy.
pub fn successor(policy: &str) -> anyhow::Result<String> {
    let kept = |line: &&str| !line.starts_with("card = ") && !line.starts_with("key = ");
    let draft: Vec<String> = draft(policy)?.lines().filter(kept).map(str::to_owned).collect();
    Ok(draft.join("\n").replacen("leases = true", "leases = false", 1))
}
