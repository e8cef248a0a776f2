//! The bus between a machine's software and its TPM, as the owner of the building sees it: it records every byte, and
//! does to commands and responses what a plan says.
//!
//! Software connects with tpm2-tss' swtpm TCTI over a unix socket (`swtpm:path=P`; its control socket is `P.ctrl`). Each
//! connection is served by a thread; commands reach the TPM one at a time. The sockets stand as long as the machine
//! exists; while it has no power, connections are closed at once.

mod recording;
mod rule;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use recording::{Frame, Leg, Origin, Recording};
pub use rule::{Answer, Exchange, Loss, Planned, Rule, Side};

use crate::chip::{self, Chip};
use crate::{Error, Latency, Result, command};

/// Longest the rest of a message may take once its first byte is there, and longest software may take to read.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(30);

/// A handle on one machine's bus. Clones are the same bus.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    machine: String,
    path: PathBuf,
    chip: Mutex<Option<Chip>>,
    on: AtomicBool,
    locality: AtomicU8,
    latency: Mutex<Option<Latency>>,
    rules: Mutex<Vec<Arc<rule::Active>>>,
    recording: Mutex<Vec<Frame>>,
    exchanges: AtomicU64,
    connections: Mutex<Connections>,
    /// Counts losses of power; who sleeps on the bus wakes when it moves.
    power_losses: Mutex<u64>,
    power_lost: Condvar,
}

#[derive(Default)]
struct Connections {
    next: u64,
    open: BTreeMap<u64, UnixStream>,
    closed_for_good: bool,
}

/// The listening ends; they belong to the machine, and close with it.
pub(crate) struct Sockets {
    bus: Bus,
    listeners: Vec<(UnixListener, PathBuf, Option<JoinHandle<()>>)>,
}

impl Bus {
    /// Makes a bus that listens at `path` and `path.ctrl`.
    pub(crate) fn listen(machine: &str, path: &Path) -> Result<(Self, Sockets)> {
        let inner = Arc::new(Inner {
            machine: machine.to_owned(),
            path: path.to_owned(),
            chip: Mutex::default(),
            on: AtomicBool::new(false),
            locality: AtomicU8::new(0),
            latency: Mutex::default(),
            rules: Mutex::default(),
            recording: Mutex::default(),
            exchanges: AtomicU64::new(0),
            connections: Mutex::default(),
            power_losses: Mutex::new(0),
            power_lost: Condvar::new(),
        });
        let bus = Self { inner };
        let mut sockets = Sockets { bus: bus.clone(), listeners: Vec::new() };
        sockets.listen(path.to_owned(), Inner::serve_commands)?;
        sockets.listen(control_path(path), Inner::serve_control)?;
        Ok((bus, sockets))
    }

    /// Where software connects; pass it to tpm2-tss as it is.
    pub fn tcti(&self) -> String {
        format!("swtpm:path={}", self.inner.path.display())
    }

    /// Runs one command of the host's own on the TPM, at locality 0, past all rules, and returns the response.
    ///
    /// # Errors
    /// [`Error::NotACommand`], [`Error::PoweredOff`], [`Error::TpmGone`], [`Error::Deadline`]. A refusal by the TPM is a
    /// response, not an error.
    pub fn transact(&self, command: &[u8]) -> Result<Vec<u8>> {
        self.transact_at(0, command)
    }

    /// As [`Bus::transact`], at another locality: nothing on a bus keeps its owner from claiming any, 4 included.
    ///
    /// # Errors
    /// As [`Bus::transact`]; [`Error::Refused`] for a locality above 4.
    pub fn transact_at(&self, locality: u8, command: &[u8]) -> Result<Vec<u8>> {
        self.inner.transact(Origin::Host, self.inner.next_exchange(), locality, command)
    }

    /// Adds a rule to the plan. For each command of the software, the first rule that is due acts, alone.
    pub fn plan(&self, rule: Rule) -> Planned {
        let active = Arc::new(rule.activate());
        lock(&self.inner.rules).push(Arc::clone(&active));
        Planned(active)
    }

    /// Removes all rules; what they are doing at this moment they finish.
    pub fn clear_plan(&self) {
        lock(&self.inner.rules).clear();
    }

    /// Gives operations the times of a profile; `None`, the default, leaves swtpm's own.
    pub fn set_latency(&self, latency: Option<Latency>) {
        *lock(&self.inner.latency) = latency;
    }

    /// Everything that went over the bus since the machine was taken from its rack, or since [`Bus::forget_recording`].
    pub fn recording(&self) -> Recording {
        Recording::new(lock(&self.inner.recording).clone())
    }

    /// Starts the recording anew.
    pub fn forget_recording(&self) {
        lock(&self.inner.recording).clear();
    }

    /// Puts a booted chip on the bus.
    pub(crate) fn attach(&self, chip: Chip) {
        self.inner.locality.store(0, Ordering::SeqCst);
        *lock(&self.inner.chip) = Some(chip);
        self.inner.on.store(true, Ordering::SeqCst);
    }

    /// Takes the chip off the bus; connections and sleeps end.
    pub(crate) fn detach(&self) -> Option<Chip> {
        self.inner.on.store(false, Ordering::SeqCst);
        *lock(&self.inner.power_losses) += 1;
        self.inner.power_lost.notify_all();
        let chip = lock(&self.inner.chip).take();
        self.close_connections();
        chip
    }

    /// What the restart of a machine does to its software: connections end, and its locality is the usual one again.
    pub(crate) fn restart_software(&self) {
        self.inner.locality.store(0, Ordering::SeqCst);
        self.close_connections();
    }

    fn close_connections(&self) {
        for stream in lock(&self.inner.connections).open.values() {
            // Fails only when the other side closed first.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Does something to the chip while software has to wait.
    pub(crate) fn with_chip<T>(&self, act: impl FnOnce(&mut Chip) -> Result<T>) -> Result<T> {
        let mut slot = lock(&self.inner.chip);
        act(slot.as_mut().ok_or_else(|| Error::PoweredOff { machine: self.inner.machine.clone() })?)
    }

    /// Runs a command of the firmware, which is on the bus like all others.
    pub(crate) fn firmware(&self, chip: &mut Chip, command: &[u8]) -> Result<Vec<u8>> {
        self.inner.exchange_with(chip, Origin::Firmware, self.inner.next_exchange(), 0, command)
    }
}

impl Inner {
    fn next_exchange(&self) -> u64 {
        self.exchanges.fetch_add(1, Ordering::SeqCst)
    }

    fn record(&self, exchange: u64, origin: Origin, leg: Leg, bytes: &[u8]) {
        let mut frames = lock(&self.recording);
        let index = frames.len();
        frames.push(Frame { index, exchange, origin, leg, bytes: bytes.into() });
    }

    fn transact(&self, origin: Origin, exchange: u64, locality: u8, command: &[u8]) -> Result<Vec<u8>> {
        let mut slot = lock(&self.chip);
        let chip = slot.as_mut().ok_or_else(|| Error::PoweredOff { machine: self.machine.clone() })?;
        self.exchange_with(chip, origin, exchange, locality, command)
    }

    fn exchange_with(
        &self,
        chip: &mut Chip,
        origin: Origin,
        exchange: u64,
        locality: u8,
        command: &[u8],
    ) -> Result<Vec<u8>> {
        chip::check_command(command)?;
        let (start, power) = (Instant::now(), self.power_losses());
        self.record(exchange, origin, Leg::ToTpm, command);
        let response = chip.set_locality(locality).and_then(|()| chip.transact(command)).inspect_err(|error| {
            // A chip that broke off in the middle of an answer can no longer be understood.
            if !matches!(error, Error::Refused { .. }) {
                chip.process().kill();
            }
        })?;
        let latency =
            lock(&self.latency).as_ref().zip(command::code_of(command)).map(|(profile, code)| profile.of(code));
        if let Some(rest) = latency.and_then(|latency| latency.checked_sub(start.elapsed()))
            && !self.sleep(rest, power)
        // with the chip locked: it is busy
        {
            return Err(Error::PoweredOff { machine: self.machine.clone() });
        }
        self.record(exchange, origin, Leg::FromTpm, &response);
        Ok(response)
    }

    fn power_losses(&self) -> u64 {
        *lock(&self.power_losses)
    }

    /// Sleeps, and says whether the power stayed on since there had been so many losses of it.
    fn sleep(&self, time: Duration, before: u64) -> bool {
        let losses = lock(&self.power_losses);
        let wait = self.power_lost.wait_timeout_while(losses, time, |losses| *losses == before);
        wait.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    fn serve_commands(&self, stream: &mut UnixStream) {
        loop {
            let exchange = self.next_exchange();
            let received = read_message(stream, chip::HEADER, chip::frame_length);
            let (bytes, whole) = match &received {
                Ok(bytes) => (bytes, true),
                Err(partial) => (partial, false),
            };
            if !bytes.is_empty() {
                self.record(exchange, Origin::Software, Leg::FromSoftware, bytes);
            }
            let power = self.power_losses();
            if !whole || !self.is_on() {
                return;
            }
            let answer = match self.rule_for(bytes) {
                Some(rule) => rule.act(&Exchange::new(self, exchange, bytes)),
                None => self.forward(exchange, bytes).map(Answer::bytes),
            };
            // A host's own rule may fail as well: either way software sees a bus that went dead.
            let Ok(answer) = answer else { return };
            if !answer.delay.is_zero() && !self.sleep(answer.delay, power) {
                return;
            }
            if !answer.bytes.is_empty() {
                self.record(exchange, Origin::Software, Leg::ToSoftware, &answer.bytes);
                if chip::write_all(stream, &answer.bytes, Instant::now() + MESSAGE_DEADLINE).is_err() {
                    return;
                }
            }
            if answer.then == Some(Loss::Closed) {
                return;
            }
        }
    }

    fn forward(&self, exchange: u64, command: &[u8]) -> Result<Vec<u8>> {
        self.transact(Origin::Software, exchange, self.locality.load(Ordering::SeqCst), command)
    }

    fn rule_for(&self, command: &[u8]) -> Option<Arc<rule::Active>> {
        let rules = lock(&self.rules).clone();
        // Every rule counts every command it matches, also those another one acts on.
        let due: Vec<_> = rules.into_iter().filter(|rule| rule.is_due(command)).collect();
        due.into_iter().next().inspect(|rule| rule.count_action())
    }

    /// The control socket: what a TSS may ask for is a locality. Power and reset belong to the host.
    fn serve_control(&self, stream: &mut UnixStream) {
        const CAPABILITY: u32 = 1;
        const INIT: u32 = 2;
        const SET_LOCALITY: u32 = 5;
        const CANCEL: u32 = 9;
        const CAN_SET_LOCALITY_AND_CANCEL: u64 = 0x28;
        const FAIL: u32 = 9;
        let length = |header: &[u8]| {
            let code = u32::from_be_bytes(header.try_into().ok()?);
            Some(match code {
                INIT => 8,
                SET_LOCALITY => 5,
                _ => 4,
            })
        };
        loop {
            let exchange = self.next_exchange();
            let (message, whole) = match read_message(stream, 4, length) {
                Ok(bytes) => (bytes, true),
                Err(partial) => (partial, false),
            };
            if !message.is_empty() {
                self.record(exchange, Origin::Control, Leg::FromSoftware, &message);
            }
            if !whole || !self.is_on() {
                return;
            }
            let code = message.first_chunk().map_or(0, |code| u32::from_be_bytes(*code));
            let answer = match (code, message.get(4)) {
                (CAPABILITY, _) => CAN_SET_LOCALITY_AND_CANCEL.to_be_bytes().to_vec(),
                // 4 is the processor's own; software cannot claim it.
                (SET_LOCALITY, Some(&locality @ 0..=3)) => {
                    self.locality.store(locality, Ordering::SeqCst);
                    vec![0; 4]
                }
                (CANCEL, _) => vec![0; 4], // commands run one at a time: what could be cancelled is done
                _ => FAIL.to_be_bytes().to_vec(),
            };
            self.record(exchange, Origin::Control, Leg::ToSoftware, &answer);
            if chip::write_all(stream, &answer, Instant::now() + MESSAGE_DEADLINE).is_err() {
                return;
            }
        }
    }

    /// Registers a connection, so that it can be closed from outside; `None` when the bus is gone.
    fn register(self: &Arc<Self>, stream: &UnixStream) -> Option<Registered> {
        let copy = stream.try_clone().ok()?;
        let mut connections = lock(&self.connections);
        if connections.closed_for_good {
            return None;
        }
        let id = connections.next;
        connections.next += 1;
        connections.open.insert(id, copy);
        Some(Registered { inner: Arc::clone(self), id })
    }
}

/// A connection's place in the register, given up also when a rule's closure panics.
struct Registered {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.inner.connections).open.remove(&self.id);
    }
}

impl Sockets {
    fn listen(&mut self, path: PathBuf, serve: fn(&Inner, &mut UnixStream)) -> Result<()> {
        let length = path.as_os_str().as_bytes().len();
        if length > 107 {
            return Err(Error::PathTooLong { path, length });
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove the old socket", &path)(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(Error::io("listen at", &path))?;
        let accepting = listener.try_clone().map_err(Error::system("a file descriptor"))?;
        let inner = Arc::clone(&self.bus.inner);
        let thread = std::thread::Builder::new()
            .name(format!("bus of {}", inner.machine))
            .spawn(move || {
                loop {
                    match accepting.accept() {
                        Ok((stream, _)) => Self::start(&inner, stream, serve),
                        Err(_) if lock(&inner.connections).closed_for_good => return,
                        // Too many open files, say: a bus that gave up here would let software wait for ever.
                        Err(_) => std::thread::sleep(Duration::from_millis(10)),
                    }
                }
            })
            .map_err(Error::system("a thread"))?;
        self.listeners.push((listener, path, Some(thread)));
        Ok(())
    }

    fn start(inner: &Arc<Inner>, mut stream: UnixStream, serve: fn(&Inner, &mut UnixStream)) {
        if !inner.is_on() {
            return;
        }
        let Some(registered) = inner.register(&stream) else { return };
        // Without a thread the connection is dropped, and thereby closed.
        let _ = std::thread::Builder::new().name("bus connection".to_owned()).spawn(move || {
            serve(&registered.inner, &mut stream);
        });
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        lock(&self.bus.inner.connections).closed_for_good = true;
        for (listener, path, thread) in self.listeners.drain(..) {
            // Shutting a listening socket down makes its accept return. The standard library offers it on streams only.
            let _ = UnixStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
            let _ = std::fs::remove_file(path);
            if let Some(thread) = thread {
                let _ = thread.join();
            }
        }
        self.bus.close_connections();
    }
}

pub(crate) fn control_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".ctrl");
    PathBuf::from(name)
}

/// Reads one message: waits for its first byte as long as the connection stands, then for the rest with a deadline. What
/// had come is the error when it breaks off or states an impossible length.
fn read_message(
    stream: &mut UnixStream,
    header: usize,
    length: impl Fn(&[u8]) -> Option<usize>,
) -> std::result::Result<Vec<u8>, Vec<u8>> {
    let mut message = Vec::new();
    if stream.set_read_timeout(None).is_err() {
        return Err(message);
    }
    let mut needed = header;
    let mut deadline = None;
    loop {
        let mut chunk = [0; chip::LARGEST];
        let wanted = chunk.get_mut(..needed - message.len()).unwrap_or_default();
        match stream.read(wanted) {
            Ok(0) | Err(_) => return Err(message),
            Ok(count) => message.extend_from_slice(wanted.get(..count).unwrap_or_default()),
        }
        if message.len() == needed {
            match length(message.get(..header).unwrap_or_default()) {
                Some(total) if total == message.len() => return Ok(message),
                Some(total) if total > message.len() => needed = total,
                _ => return Err(message),
            }
        }
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + MESSAGE_DEADLINE);
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return Err(message);
        }
    }
}

/// A panic of another thread leaves these values whole: each is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
