//! What an interposer does to a command or its response, and when. One mechanism (a closure that gets the exchange and
//! returns an answer), and a name for each classical use of it.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Inner, Origin, Recording, lock};
use crate::chip::HEADER;
use crate::{Result, command};

/// Which half of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What the software sent.
    Command,
    /// What the TPM answered.
    Response,
}

/// How an answer fails to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The connection stays open and nothing more comes.
    Silent,
    /// The connection is closed.
    Closed,
}

/// What the software gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub(super) bytes: Vec<u8>,
    pub(super) delay: Duration,
    pub(super) then: Option<Loss>,
}

impl Answer {
    /// These bytes, whatever they are; the connection stays open.
    pub fn bytes(bytes: Vec<u8>) -> Self {
        Self { bytes, delay: Duration::ZERO, then: None }
    }

    /// Nothing.
    pub fn lost(loss: Loss) -> Self {
        Self { bytes: Vec::new(), delay: Duration::ZERO, then: Some(loss) }
    }

    /// The same, this much later. The TPM is free meanwhile.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// The same, and then nothing more comes.
    #[must_use]
    pub fn then(self, loss: Loss) -> Self {
        Self { then: Some(loss), ..self }
    }
}

/// A command of the software in the hands of the interposer.
pub struct Exchange<'a> {
    inner: &'a Inner,
    number: u64,
    command: &'a [u8],
}

impl<'a> Exchange<'a> {
    pub(super) fn new(inner: &'a Inner, number: u64, command: &'a [u8]) -> Self {
        Self { inner, number, command }
    }

    /// The command as it came.
    pub fn command(&self) -> &[u8] {
        self.command
    }

    /// Passes the command on as it came, and returns the TPM's response.
    ///
    /// # Errors
    /// As [`super::Bus::transact`].
    pub fn forward(&self) -> Result<Vec<u8>> {
        self.forward_as(self.command)
    }

    /// Passes something else on in the command's place.
    ///
    /// # Errors
    /// As [`super::Bus::transact`].
    pub fn forward_as(&self, command: &[u8]) -> Result<Vec<u8>> {
        self.inner.forward(self.number, command)
    }

    /// Runs a command of the host's own.
    ///
    /// # Errors
    /// As [`super::Bus::transact`].
    pub fn inject(&self, command: &[u8]) -> Result<Vec<u8>> {
        self.inner.transact(Origin::Host, self.number, 0, command)
    }

    /// Everything recorded so far.
    pub fn recording(&self) -> Recording {
        Recording::new(lock(&self.inner.recording).clone())
    }
}

type Condition = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;
type Action = Box<dyn FnMut(&Exchange<'_>) -> Result<Answer> + Send>;

/// When to act, and how. Without an action it only counts.
#[must_use = "a rule does nothing until it is given to `Bus::plan`"]
pub struct Rule {
    condition: Condition,
    nth: Option<u64>,
    times: Option<u64>,
    action: Action,
}

impl Rule {
    /// Matches commands with this code (TPM 2.0 Library, part 2, section 6.5.2; see [`crate::command`]).
    pub fn on(code: u32) -> Self {
        Self::when(move |bytes| command::code_of(bytes) == Some(code))
    }

    /// Matches every command.
    pub fn any() -> Self {
        Self::when(|_| true)
    }

    /// Matches commands whose bytes satisfy a condition.
    pub fn when(condition: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        let pass = |exchange: &Exchange<'_>| exchange.forward().map(Answer::bytes);
        Self { condition: Box::new(condition), nth: None, times: None, action: Box::new(pass) }
    }

    /// Also asks for this condition.
    pub fn and(mut self, condition: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        let before = self.condition;
        self.condition = Box::new(move |bytes| before(bytes) && condition(bytes));
        self
    }

    /// Acts on the nth match only, counted from 1 (0 means 1).
    pub fn nth(self, n: u64) -> Self {
        Self { nth: Some(n.max(1)), ..self }
    }

    /// Acts on this many matches only, beginning with the first (or with the one of [`Rule::nth`]).
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Acts as a closure says. An error it returns closes the connection.
    pub fn act(self, action: impl FnMut(&Exchange<'_>) -> Result<Answer> + Send + 'static) -> Self {
        Self { action: Box::new(action), ..self }
    }

    /// Drops the command: the TPM never sees it.
    pub fn drop_command(self, loss: Loss) -> Self {
        self.act(move |_| Ok(Answer::lost(loss)))
    }

    /// Drops the response: the TPM did what was asked, and nobody hears of it.
    pub fn drop_response(self, loss: Loss) -> Self {
        self.act(move |exchange| exchange.forward().map(|_| Answer::lost(loss)))
    }

    /// Delivers the response this much later.
    pub fn delay(self, delay: Duration) -> Self {
        self.act(move |exchange| Ok(Answer::bytes(exchange.forward()?).after(delay)))
    }

    /// Flips one bit (0 the lowest) of one byte; an offset past the end means the last byte. A response whose size field
    /// (offsets 2 to 5) then promises more than comes lets the software wait, as [`Loss::Silent`] does; a command whose
    /// size field is wrong cannot be sent, and the connection closes.
    pub fn flip_bit(self, side: Side, offset: usize, bit: u8) -> Self {
        self.substitute(side, move |bytes| {
            let mut bytes = bytes.to_vec();
            let last = bytes.len().saturating_sub(1);
            if let Some(byte) = bytes.get_mut(offset.min(last)) {
                *byte ^= 1 << (bit % 8);
            }
            bytes
        })
    }

    /// Cuts a command to `keep` bytes (at least its header), with the size in its header made to fit: the TPM sees a
    /// command that ends too early.
    pub fn truncate_command(self, keep: usize) -> Self {
        self.substitute(Side::Command, move |bytes| {
            let mut bytes = bytes.get(..keep.max(HEADER)).unwrap_or(bytes).to_vec();
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
            if let Some(size) = bytes.get_mut(2..6) {
                size.copy_from_slice(&length);
            }
            bytes
        })
    }

    /// Delivers the first `keep` bytes of the response, unchanged, and nothing more.
    pub fn truncate_response(self, keep: usize, loss: Loss) -> Self {
        self.act(move |exchange| {
            let mut response = exchange.forward()?;
            response.truncate(keep);
            Ok(Answer::bytes(response).then(loss))
        })
    }

    /// Sends the command twice; the software gets the first response.
    pub fn duplicate(self) -> Self {
        self.act(|exchange| {
            let response = exchange.forward()?;
            exchange.forward()?;
            Ok(Answer::bytes(response))
        })
    }

    /// Answers with these bytes; the TPM never sees the command.
    pub fn replay(self, response: Vec<u8>) -> Self {
        self.act(move |_| Ok(Answer::bytes(response.clone())))
    }

    /// Answers with the TPM's last recorded response to a command with the same code; passes the command on when there
    /// is none.
    pub fn replay_last(self) -> Self {
        self.act(|exchange| {
            let recording = exchange.recording();
            let last = command::code_of(exchange.command()).and_then(|code| recording.responses(code).last());
            last.map_or_else(|| exchange.forward().map(Answer::bytes), |frame| Ok(Answer::bytes(frame.bytes.to_vec())))
        })
    }

    /// Puts other bytes in the place of the command or of the response. A command must be one whole command, or the
    /// connection closes; a response may be anything.
    pub fn substitute(self, side: Side, mut change: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static) -> Self {
        self.act(move |exchange| {
            let answer = match side {
                Side::Command => exchange.forward_as(&change(exchange.command()))?,
                Side::Response => change(&exchange.forward()?),
            };
            Ok(Answer::bytes(answer))
        })
    }

    /// Runs commands of the host's own just before the software's.
    pub fn inject(self, commands: Vec<Vec<u8>>) -> Self {
        self.act(move |exchange| {
            for command in &commands {
                exchange.inject(command)?;
            }
            exchange.forward().map(Answer::bytes)
        })
    }

    pub(super) fn activate(self) -> Active {
        let first = self.nth.unwrap_or(1);
        let times = self.times.unwrap_or(if self.nth.is_some() { 1 } else { u64::MAX });
        Active {
            condition: self.condition,
            due: first..first.saturating_add(times),
            matched: AtomicU64::new(0),
            acted: AtomicU64::new(0),
            action: Mutex::new(self.action),
        }
    }
}

pub(super) struct Active {
    condition: Condition,
    due: Range<u64>,
    matched: AtomicU64,
    acted: AtomicU64,
    action: Mutex<Action>,
}

impl Active {
    /// Counts a match, and says whether this one is meant.
    pub(super) fn is_due(&self, command: &[u8]) -> bool {
        if !(self.condition)(command) {
            return false;
        }
        let number = self.matched.fetch_add(1, Ordering::SeqCst) + 1;
        self.due.contains(&number)
    }

    pub(super) fn count_action(&self) {
        self.acted.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn act(&self, exchange: &Exchange<'_>) -> Result<Answer> {
        (lock(&self.action))(exchange)
    }
}

/// A rule in a plan: tells how often it matched and acted, so that a test can say that its attack took place.
#[derive(Clone)]
pub struct Planned(pub(super) Arc<Active>);

impl Planned {
    /// How many commands it matched.
    pub fn matched(&self) -> u64 {
        self.0.matched.load(Ordering::SeqCst)
    }

    /// How many it acted on.
    pub fn acted(&self) -> u64 {
        self.0.acted.load(Ordering::SeqCst)
    }
}
