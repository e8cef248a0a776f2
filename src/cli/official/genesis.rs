//! `chancery official genesis`: an official's part in founding a network, from the first message to the charter in force.
//!
//! One command, left running. It reads the embassy's board for itself, saves each own message before it sends it, and asks
//! the person for what only a person can decide: the machine, its boot state, the charter. Ended at any moment, it goes on
//! from there when it is started again.

use std::{
    io::{IsTerminal, Write, stdin},
    path::{Path, PathBuf},
    time::Duration,
};

use chancery::{
    client::{
        Client, ClientError, Repeat,
        api::{CharterPage, DocumentBody},
        genesis::{BoardPage, Heard},
        official::{Directory, Keys},
    },
    keys::disk::{self, Replace},
    protocol::{
        ceremony::genesis::{
            BoardError, CheckedOffer, Genesis, GenesisResult, Message, Post, STEPS, Stage, Status,
            participant::{Advice, Do, Journal, Participant, ParticipantError, Signature},
        },
        charter::{CharterMachine, SignedCharter, VerifiedCharter},
        hash::Hash,
        ids::EmbassyName,
        paragraph::Reason,
        secret::SecretScalar,
        wire::Document,
        words::Words,
    },
};
use clap::Args;
use rand_core::OsRng;

use super::{
    confirm,
    place::{Place, wait},
    share::{Quorum, keep, read_recovery, recovery_path},
};
use crate::cli::{
    failure::Failure,
    input::{self, Expected},
    network,
    text::words,
};

const PAUSE: Duration = Duration::from_millis(700);

const AFTER_HELP: &str = "\
Run it when home has given you the founding charter and the founding embassy's address, and leave it running. It goes through \
five steps and says at each what it waits for, who is missing, and what comes next:

  1. the officials' machines make the quorums' keys together; yours keeps your share
  2. you approve what the embassy's TPM is to do: compare the machine's words with home, the boot state's words with the others
  3. the TPM makes its keys
  4. home puts them into the charter; you compare what changes, and sign it
  5. the charter is in force

Ctrl-C stops it; nothing is lost, and the same command goes on. What you have is in the directory `genesis`: your journal, and \
recovery data from which a lost share is rebuilt (`chancery official rebuild`): copy it to another place.

Where nobody sits at a terminal, the words are given beforehand: what differs from them is not approved.

Examples:
  chancery official genesis
  chancery official genesis --embassy geneva
  chancery official genesis --charter completed.charter       put up what home has completed
  chancery official genesis --again unseal --because 'Boris starts anew on another machine'
  chancery official genesis --object 'This is not the machine that we saw'";

/// Found the network with the others: keys, machine, charter
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Which embassy [default: the charter's first, where the quorums' keys are made]
    #[arg(long, value_name = "EMBASSY")]
    embassy: Option<EmbassyName>,
    /// Look once, do what can be done, and end
    #[arg(long)]
    once: bool,
    /// Put up the completed charter that home has signed
    #[arg(long, value_name = "FILE")]
    charter: Option<PathBuf>,
    /// Give up a quorum's open attempt at its key, and start another; say --because
    #[arg(long, value_name = "QUORUM", requires = "because")]
    again: Option<Quorum>,
    /// Why
    #[arg(long, value_name = "TEXT", requires = "again")]
    because: Option<String>,
    /// Object to what is put to you now, for all to see, instead of approving it
    #[arg(long, value_name = "TEXT", conflicts_with = "again")]
    object: Option<String>,
    /// The machine's ten words, as home read them to you
    #[arg(long, value_name = "WORDS")]
    machine: Option<String>,
    /// The boot state's ten words, as you agreed on them
    #[arg(long, value_name = "WORDS")]
    boot_state: Option<String>,
    /// The completed charter's ten words, as home read them to you
    #[arg(long, value_name = "WORDS")]
    charter_words: Option<String>,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let mut directory = arguments.place.open()?;
    let last = directory.charter()?;
    let charter = last.charter();
    if charter.official(directory.name()).is_none() {
        return Err(chancery::client::official::DirectoryError::NotInCharter { name: directory.name().clone() }.into());
    }
    let first = charter.parts().embassies.first().map(|embassy| embassy.name.clone());
    let embassy = arguments.embassy.clone().or(first);
    let embassy = embassy.ok_or_else(|| Failure::Refused("the charter has no embassy".to_owned(), "Ask home"))?;
    let genesis = match Genesis::new(last.clone(), &embassy) {
        Ok(genesis) => genesis,
        Err(BoardError::Founded(_)) => return already(arguments, &last, &embassy, out),
        Err(error) => return Err(Failure::Refused(error.to_string(), "Ask home for the charter again")),
    };
    let keys = arguments.place.unlock(&directory)?;
    let dkg = keys.dkg()?;
    let client = directory.client(&embassy, &keys)?;
    let folder = directory.path().join("genesis");
    std::fs::create_dir_all(&folder).map_err(|source| Failure::Save {
        name: input::name(&folder),
        source,
        advice: "Choose a directory that you may write to",
    })?;
    let journal = read_journal(&folder, &last, &directory)?;
    writeln!(out, "Founding embassy {embassy} under charter version {}.", charter.parts().version)?;
    writeln!(out, "You are {}. Leave this running; Ctrl-C stops it, and the same command goes on.", directory.name())?;
    out.flush()?;
    wait(async {
        let mut desk = Desk {
            arguments,
            keys: &keys,
            dkg: &dkg,
            client,
            folder,
            genesis,
            read: 0,
            journal,
            said: None,
            agreed: Vec::new(),
            asked_again: false,
            put_up: false,
        };
        desk.work(&mut directory, out).await
    })
}

fn already(
    arguments: &Arguments,
    last: &VerifiedCharter,
    embassy: &EmbassyName,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let version = last.charter().parts().version;
    if arguments.charter.is_some() {
        // From here on only the TPM's identity key passes for this embassy, and a founding has another.
        return Err(Failure::Refused(
            format!(
                "charter version {version} is in force here and names {embassy}'s machine: nothing is left to put up"
            ),
            "Where the machine does not serve yet, its operator puts your copy of that charter (in your charters/) into its \
             charters/ and home's enrolment in place of embassy.crt, and starts it without --auths",
        ));
    }
    writeln!(out, "Embassy {embassy} is founded: charter version {version} names its machine.")?;
    writeln!(out, "Next: `chancery official inbox`")?;
    Ok(())
}

fn read_journal(folder: &Path, last: &VerifiedCharter, directory: &Directory) -> Result<Journal, Failure> {
    let path = folder.join("journal.bin");
    if path.symlink_metadata().is_err() {
        return Ok(Journal::new(last.id(), directory.name().clone()));
    }
    let missing = "It is your memory of this founding: take your other copy";
    let bytes = input::read(&path, &Expected { what: "a journal", bound: Journal::MAX_BYTES, missing })?;
    Journal::decode(&bytes).map_err(|error| Failure::Document {
        name: input::name(&path),
        kind: "an official's journal of a genesis",
        error,
    })
}

/// What the command works with.
struct Desk<'a> {
    arguments: &'a Arguments,
    keys: &'a Keys,
    dkg: &'a SecretScalar,
    client: Client,
    folder: PathBuf,
    genesis: Genesis,
    read: u64,
    journal: Journal,
    said: Option<Status>,
    agreed: Vec<Hash>,
    asked_again: bool,
    put_up: bool,
}

/// Whether to look again.
enum Next {
    Now,
    Later,
    End,
}

impl Desk<'_> {
    async fn work(&mut self, directory: &mut Directory, out: &mut dyn Write) -> Result<(), Failure> {
        loop {
            let next = match self.look(directory, out).await {
                Err(Failure::Client(error)) if error.is_passing() && !self.arguments.once => {
                    writeln!(out, "{error}. Trying again.")?;
                    Next::Later
                }
                looked => looked?,
            };
            out.flush()?;
            match next {
                Next::Now => {}
                Next::End => return Ok(()),
                Next::Later if self.arguments.once => return Ok(()),
                Next::Later => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// One look at the board, and what follows from it.
    async fn look(&mut self, directory: &mut Directory, out: &mut dyn Write) -> Result<Next, Failure> {
        if !self.read_board(directory, out).await? {
            return Ok(Next::End);
        }
        self.say(out)?;
        let identity = self.keys.identity()?;
        let board = self.genesis.board();
        let mut participant = Participant::new(board, directory.name().clone(), self.dkg, self.journal.clone())
            .map_err(|error| refused(&error))?;
        if let (Some(quorum), Some(because), false) = (self.arguments.again, &self.arguments.because, self.asked_again)
        {
            let reason =
                Reason::new(because).map_err(|error| Failure::Refused(error.to_string(), "Say it in a sentence"))?;
            let message =
                participant.again(board, quorum.into(), reason, &identity).map_err(|error| refused(&error))?;
            self.send(message, out).await?;
            self.asked_again = true;
            return Ok(Next::Now);
        }
        let seen = seen(&self.folder, board.charter())?;
        let (acts, advice) =
            participant.advance(&self.genesis, &identity, &seen, &mut OsRng).map_err(|error| refused(&error))?;
        let journal = participant.journal().clone();
        let mut sent = false;
        for act in acts {
            sent |= self.act(act, out).await?;
        }
        self.journal = journal;
        if sent {
            return Ok(Next::Now);
        }
        self.write_result(out)?;
        match advice {
            Advice::Wait => self.put_up(out).await,
            Advice::Stuck { kind, attempt, why } => {
                writeln!(out, "{kind} quorum, attempt {attempt}: {why}.")?;
                let what = "  If it does not go on by itself: chancery official genesis --again";
                writeln!(out, "{what} {kind} --because TEXT")?;
                Ok(Next::Later)
            }
            Advice::Approve(offer) => self.approve(directory, &offer, out).await,
            Advice::Sign(signature) => self.sign(directory, &signature, out).await,
            Advice::Founded => {
                let page: CharterPage = self.client.get("/v1/charters?from=0").await?;
                take(directory, &page, out)?;
                Ok(Next::End)
            }
        }
    }

    /// Reads on. False where the embassy is founded already.
    async fn read_board(&mut self, directory: &mut Directory, out: &mut dyn Write) -> Result<bool, Failure> {
        loop {
            let page = self.client.get::<BoardPage>(&format!("/v1/genesis/messages?from={}", self.read)).await;
            let page = match page {
                Ok(page) => page,
                // It serves as an embassy: the founding is over, and the charter tells the rest.
                Err(ClientError::Problem { problem, .. }) if problem.code == "no-such-path" => {
                    let page: CharterPage = self.client.get("/v1/charters?from=0").await?;
                    take(directory, &page, out)?;
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            };
            if page.size < self.read {
                writeln!(out, "The embassy shows less than before: it has lost part of its board. Reading it anew.")?;
                let (last, embassy) = (self.genesis.board().charter().clone(), self.genesis.board().embassy().clone());
                self.genesis = Genesis::new(last, &embassy)
                    .map_err(|error| Failure::Refused(error.to_string(), "Ask home for the charter again"))?;
                self.read = 0;
                continue;
            }
            let count = page.posts.len();
            let posts: Vec<Post> = page.posts.iter().filter_map(|body| body.read::<Post>().ok()).collect();
            let (genesis, passed_over) = self.genesis.clone().follow(&posts);
            if passed_over > 0 || posts.len() != count {
                writeln!(out, "Some of what the embassy shows does not hold, and is passed over.")?;
            }
            self.genesis = genesis;
            self.read = self.read.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            if count == 0 || self.read >= page.size {
                return Ok(true);
            }
        }
    }

    /// Says where it stands, when that has changed.
    fn say(&mut self, out: &mut dyn Write) -> Result<(), Failure> {
        let status = self.genesis.status();
        if self.said.as_ref() == Some(&status) {
            return Ok(());
        }
        writeln!(out)?;
        writeln!(out, "step {} of {STEPS}: waiting for {}", status.step, words(&status.waiting))?;
        if !status.missing.is_empty() {
            let names: Vec<&str> = status.missing.iter().map(|name| name.as_str()).collect();
            writeln!(out, "  missing: {}", names.join(", "))?;
        }
        for note in &status.notes {
            writeln!(out, "  note:    {}", words(note))?;
        }
        writeln!(out, "  then:    {}", status.next)?;
        self.said = Some(status);
        Ok(())
    }

    /// True where something was sent.
    async fn act(&mut self, act: Do, out: &mut dyn Write) -> Result<bool, Failure> {
        match act {
            Do::Save(journal) => {
                disk::write(&self.folder.join("journal.bin"), &journal.encode(), Replace::Yes)?;
                self.journal = *journal;
                Ok(false)
            }
            Do::Keep(kept) => {
                keep(self.keys, &self.folder, &self.genesis, *kept, out)?;
                Ok(false)
            }
            Do::Send(message) => self.send(message, out).await,
            Do::SendCopy(kind) => {
                let generation = self.genesis.board().ground().plan.generation;
                let recovery = read_recovery(&recovery_path(&self.folder, kind, generation))?;
                self.send(Message::Recovery(kind, Box::new(recovery)), out).await
            }
        }
    }

    /// Sends a message. Where it does not count, says why; the board tells how it goes on.
    async fn send(&self, message: Message, out: &mut dyn Write) -> Result<bool, Failure> {
        let what = message.what();
        let answer =
            self.client.post::<Heard>("/v1/genesis/messages", &DocumentBody::of(&message), &Repeat::Safe).await;
        match answer {
            Ok(heard) => Ok(heard.new),
            Err(ClientError::Problem { problem, .. }) if matches!(problem.code.as_str(), "late" | "refused") => {
                writeln!(out, "The embassy did not take {what}: {}", words(&problem.detail))?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn approve(
        &mut self,
        directory: &Directory,
        offer: &CheckedOffer,
        out: &mut dyn Write,
    ) -> Result<Next, Failure> {
        let identity = self.keys.identity()?;
        if let Some(why) = &self.arguments.object {
            let reason =
                Reason::new(why).map_err(|error| Failure::Refused(error.to_string(), "Say it in a sentence"))?;
            let message =
                self.participant(directory)?.object(offer, reason, &identity).map_err(|error| refused(&error))?;
            self.send(message, out).await?;
            writeln!(out, "You object, for all to see. Nothing was approved.")?;
            return Ok(Next::End);
        }
        // Lost sessions are no reason to ask twice: it is the same matter.
        if !self.agreed.contains(&offer.matter()) {
            writeln!(out)?;
            writeln!(out, "TO APPROVE, computed by this machine from the charter and what the embassy shows:")?;
            for (label, text) in offer.lines() {
                writeln!(out, "  {label}: {}", words(&text))?;
            }
            let (given, whom) = match &offer.offer().stage {
                Stage::Counter => (
                    &self.arguments.machine,
                    "Compare the machine's words with home, which read them when it prepared the TPM.",
                ),
                Stage::Registers { .. } => (
                    &self.arguments.boot_state,
                    "Compare the boot state's words with the other officials and with home.",
                ),
            };
            writeln!(out, "{whom}")?;
            if given.is_none() && !stdin().is_terminal() {
                writeln!(out, "Nobody is at a terminal, and no words were given: not approved.")?;
                return Ok(Next::Later);
            }
            confirm::words(offer.words(), given.as_deref(), out)?;
            self.agreed.push(offer.matter());
        }
        let approved = self.participant(directory)?.approve(self.genesis.board(), offer, &identity);
        let message = approved.map_err(|error| refused(&error))?;
        if !self.send(message, out).await? {
            return Ok(Next::Later);
        }
        writeln!(out, "Approved.")?;
        Ok(Next::Now)
    }

    async fn sign(
        &mut self,
        directory: &Directory,
        signature: &Signature,
        out: &mut dyn Write,
    ) -> Result<Next, Failure> {
        let charter = signature.candidate.unverified();
        let expected = Words::of(&charter.hash());
        writeln!(out)?;
        writeln!(out, "TO SIGN: the completed charter, version {}. What changes:", charter.parts().version)?;
        for change in &signature.changes {
            writeln!(out, "  {}", words(change))?;
        }
        for embassy in &signature.unseen {
            writeln!(out, "  NOT SEEN BY THIS MACHINE: the founding of {embassy}. Ask an official who has seen it")?;
        }
        writeln!(
            out,
            "The quorums' keys are those of which you hold shares; the machine here is the one of this founding."
        )?;
        writeln!(out, "In words: {expected}. Compare them with home.")?;
        if self.arguments.charter_words.is_none() && !stdin().is_terminal() {
            writeln!(out, "Nobody is at a terminal, and no words were given: not signed.")?;
            return Ok(Next::Later);
        }
        confirm::words(expected, self.arguments.charter_words.as_deref(), out)?;
        let identity = self.keys.identity()?;
        let message = self.participant(directory)?.sign(&signature.candidate, &identity);
        let message = message.map_err(|error| refused(&error))?;
        if !self.send(message, out).await? {
            return Ok(Next::Later);
        }
        writeln!(out, "Signed.")?;
        Ok(Next::Now)
    }

    fn participant(&self, directory: &Directory) -> Result<Participant<'_>, Failure> {
        Participant::new(self.genesis.board(), directory.name().clone(), self.dkg, self.journal.clone())
            .map_err(|error| refused(&error))
    }

    /// Puts up the charter that home has completed, once.
    async fn put_up(&mut self, out: &mut dyn Write) -> Result<Next, Failure> {
        let (Genesis::Completing(_), Some(path), false) = (&self.genesis, &self.arguments.charter, self.put_up) else {
            return Ok(Next::Later);
        };
        let charter: SignedCharter = network::read(path)?;
        let message = Message::Charter(Box::new(charter));
        self.client.post::<Heard>("/v1/genesis/messages", &DocumentBody::of(&message), &Repeat::Safe).await?;
        self.put_up = true;
        writeln!(out, "{} is put up for the officials to sign.", input::name(path))?;
        Ok(Next::Now)
    }

    /// Writes what home needs, once it is there.
    fn write_result(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let Genesis::Completing(phase) = &self.genesis else { return Ok(()) };
        let path = result_path(&self.folder, self.genesis.board().embassy());
        let bytes = phase.result().result().encode();
        if std::fs::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        disk::write(&path, &bytes, Replace::Yes)?;
        writeln!(out, "The TPM has its keys. For home, to complete the charter: {}", input::name(&path))?;
        for (what, words) in phase.result().words() {
            writeln!(out, "  {what}, in words: {words}")?;
        }
        writeln!(out, "  Next, at home: `chancery home charter complete --result {}`", input::name(&path))?;
        Ok(())
    }
}

/// A key that gave no signature is its owner's affair; everything else is everybody's.
fn refused(error: &ParticipantError) -> Failure {
    let advice = match error {
        ParticipantError::Sign(_) => "What was said before stands; the same command goes on from there",
        _ => "Nothing was sent. Tell home and the others",
    };
    Failure::Refused(error.to_string(), advice)
}

fn result_path(folder: &Path, embassy: &EmbassyName) -> PathBuf {
    folder.join(format!("result-{embassy}.bin"))
}

/// Machines whose founding this machine has followed.
fn seen(folder: &Path, last: &VerifiedCharter) -> Result<Vec<CharterMachine>, Failure> {
    let mut seen = Vec::new();
    for embassy in &last.charter().parts().embassies {
        let path = result_path(folder, &embassy.name);
        let Ok(bytes) = std::fs::read(&path) else { continue };
        if let Ok(result) = GenesisResult::decode(&bytes)
            && let Ok(verified) = result.verify(last)
        {
            seen.push(verified.machine().clone());
        }
    }
    Ok(seen)
}

fn take(directory: &mut Directory, page: &CharterPage, out: &mut dyn Write) -> Result<(), Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::Refused(error.to_string(), "Ask home for the charter");
    let charters = page.documents.iter().map(|body| body.read::<SignedCharter>().map_err(|error| wrong(&error)));
    let (charter, _) = directory.take_charters(charters.collect::<Result<Vec<_>, _>>()?)?;
    let version = charter.charter().parts().version;
    writeln!(out)?;
    writeln!(out, "Charter version {version} is in force, {}.", charter.authority())?;
    writeln!(out, "The founding is done, as far as it is yours. Next: home enrols the TPM's identity key; then")?;
    writeln!(out, "  `chancery official inbox`")?;
    Ok(())
}
