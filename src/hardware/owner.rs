//! One owner for one device: a thread that alone speaks to it, a bounded queue in front, a deadline around it.
//!
//! Knows nothing of TPMs. A job that overruns its time is abandoned together with the thread and the device it was
//! holding; its caller, and all who were queued behind, get an error that says to retry, and the next call starts a new
//! thread, after a pause that doubles with each failure in a row.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use crate::{
    hardware::{
        error::TpmError,
        watch::{Watch, lock},
    },
    protocol::secret::without_trace,
};

/// The bounds under which an owner works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest that one TPM command may take.
    pub command: Duration,
    /// The longest that one call may take once it is its turn.
    pub call: Duration,
    /// How many calls may wait; one more is refused.
    pub queue: usize,
    /// The pause after the first failure; doubles with each further one.
    pub pause_min: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

impl Default for Limits {
    /// For a discrete TPM, which needs up to half a second per signature and some seconds to make a key.
    fn default() -> Self {
        Self {
            command: Duration::from_secs(20),
            call: Duration::from_secs(120),
            queue: 64,
            pause_min: Duration::from_millis(250),
            pause_max: Duration::from_secs(30),
        }
    }
}

/// What an owner holds: opened in its thread, used by one job at a time, and never moved out of it.
pub(crate) trait Device: Sized + 'static {
    /// What is needed to open it.
    type Settings: Send + Sync + 'static;
    /// Opens the device. Every command it sends must be stamped on `watch`.
    fn open(settings: &Self::Settings, watch: &Arc<Watch>) -> Result<Self, TpmError>;
    /// Before each job: puts in order what earlier ones left. After an error the device is opened anew.
    fn settle(&mut self) -> Result<(), TpmError>;
    /// Whether it can serve another job; if not, its line is lost, and a new one is opened after a pause.
    fn is_sound(&self) -> bool;
    /// Lets go of the device without a word to it: its line is stuck.
    fn abandon(self);
}

/// Hands an answer to its caller, once it is known what becomes of the device.
type Delivery = Box<dyn FnOnce() + Send>;
type Job<D> = Box<dyn FnOnce(Result<&mut D, TpmError>) -> Delivery + Send>;

struct Inbox<D> {
    jobs: VecDeque<Job<D>>,
    closed: bool,
}

struct Worker<D> {
    inbox: Mutex<Inbox<D>>,
    wake: Condvar,
    watch: Arc<Watch>,
}

struct Line<D> {
    worker: Option<Arc<Worker<D>>>,
    failures: u32,
    not_before: Option<Instant>,
}

struct Shared<D: Device> {
    settings: D::Settings,
    limits: Limits,
    line: Mutex<Line<D>>,
}

/// The owner. Cheap to share behind an [`Arc`]; dropping it ends the thread once its job is done.
pub(crate) struct Owner<D: Device>(Arc<Shared<D>>);

impl<D: Device> Owner<D> {
    pub(crate) fn new(settings: D::Settings, limits: Limits) -> Self {
        let line = Mutex::new(Line { worker: None, failures: 0, not_before: None });
        Self(Arc::new(Shared { settings, limits, line }))
    }

    pub(crate) fn settings(&self) -> &D::Settings {
        &self.0.settings
    }

    /// Runs `job` on the device, and waits for it.
    ///
    /// # Errors
    /// [`TpmError::Busy`] at once where the queue is full; [`TpmError::Gone`] where the device did not answer in time, or
    /// is in its pause after that; [`TpmError::Fault`] where `job` panicked; whatever `job` returns.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut D) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, TpmError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let started = Arc::new(AtomicBool::new(false));
        let mark = Arc::clone(&started);
        let worker = self.0.submit(Box::new(move |device| {
            let result = device.and_then(|device| {
                mark.store(true, Ordering::SeqCst);
                job(device)
            });
            Box::new(move || {
                // Where the caller is gone, so is the use of the answer.
                let _ = answer.send(result);
            })
        }))?;
        loop {
            let left = worker.watch.left(self.0.limits.command, self.0.limits.call);
            // Nothing runs: between two jobs, or before the thread's first. Look again soon.
            // And where a job runs, never sleep longer than one command may take: the next begins while this caller sleeps.
            let patience = left.unwrap_or(Duration::from_millis(20)).min(self.0.limits.command);
            if left == Some(Duration::ZERO) {
                self.0.give_up(&worker);
            }
            match answered.recv_timeout(patience.max(Duration::from_millis(1))) {
                Ok(Err(TpmError::Gone { during, .. })) => return Err(self.0.gone(during, &started)),
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) if !worker.watch.is_given_up() => {}
                // Given up threads are marked before their callers' answers are dropped, so this was the job itself.
                Err(RecvTimeoutError::Disconnected) if !worker.watch.is_given_up() => {
                    return Err(TpmError::Fault { during: worker.watch.what() });
                }
                Err(_) => {
                    let during = if started.load(Ordering::SeqCst) { worker.watch.what() } else { "waiting" };
                    return Err(self.0.gone(during, &started));
                }
            }
        }
    }
}

impl<D: Device> Drop for Owner<D> {
    fn drop(&mut self) {
        if let Some(worker) = lock(&self.0.line).worker.take() {
            lock(&worker.inbox).closed = true;
            worker.wake.notify_one();
        }
    }
}

impl<D: Device> Shared<D> {
    fn pause(&self) -> Duration {
        let until = lock(&self.line).not_before;
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    fn gone(&self, during: &'static str, started: &AtomicBool) -> TpmError {
        TpmError::Gone { during, started: started.load(Ordering::SeqCst), retry_after: self.pause() }
    }

    fn submit(self: &Arc<Self>, job: Job<D>) -> Result<Arc<Worker<D>>, TpmError> {
        let mut line = lock(&self.line);
        let worker = match &line.worker {
            Some(worker) => Arc::clone(worker),
            None => {
                let pause = line.not_before.map(|until| until.saturating_duration_since(Instant::now()));
                if let Some(retry_after) = pause.filter(|pause| !pause.is_zero()) {
                    return Err(TpmError::Gone { during: "the pause after a failure", started: false, retry_after });
                }
                let worker = self.start()?;
                line.worker = Some(Arc::clone(&worker));
                worker
            }
        };
        let mut inbox = lock(&worker.inbox);
        if inbox.jobs.len() >= self.limits.queue {
            return Err(TpmError::Busy { waiting: inbox.jobs.len() });
        }
        inbox.jobs.push_back(job);
        drop(inbox);
        worker.wake.notify_one();
        Ok(worker)
    }

    fn start(self: &Arc<Self>) -> Result<Arc<Worker<D>>, TpmError> {
        let worker = Arc::new(Worker {
            inbox: Mutex::new(Inbox { jobs: VecDeque::new(), closed: false }),
            wake: Condvar::new(),
            watch: Arc::new(Watch::default()),
        });
        let (shared, own) = (Arc::clone(self), Arc::clone(&worker));
        std::thread::Builder::new()
            .name("tpm-owner".to_owned())
            .spawn(move || shared.serve(&own))
            .map_err(|error| TpmError::Thread { reason: error.to_string() })?;
        Ok(worker)
    }

    /// The thread's whole life.
    fn serve(&self, worker: &Arc<Worker<D>>) {
        let mut device: Option<D> = None;
        while let Some(job) = next_job(worker) {
            if worker.watch.job_begins().is_err() {
                break;
            }
            // A panic costs its caller an error and the device a fresh start, nothing else.
            // The TPM software stack leaves what the TPM answered, Z_T among it, on this thread's stack: overwritten at once.
            let outcome = without_trace(|| {
                catch_unwind(AssertUnwindSafe(|| {
                    let ready = ready(&mut device, &self.settings, &worker.watch);
                    let lost = ready.as_ref().is_err_and(TpmError::breaks_line);
                    (job(ready), lost)
                }))
            });
            if worker.watch.is_given_up() {
                break;
            }
            match outcome {
                Ok((delivery, lost)) if lost || device.as_ref().is_some_and(|device| !device.is_sound()) => {
                    // Before the answer: who calls again at once finds the pause, not a thread that is about to end.
                    self.give_up(worker);
                    delivery();
                    break;
                }
                Ok((delivery, _)) => {
                    lock(&self.line).failures = 0;
                    worker.watch.job_ends();
                    delivery();
                }
                Err(_) => {
                    // Letting go of the device speaks to it, so it stays under the watch.
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(device.take())));
                    worker.watch.job_ends();
                }
            }
        }
        match device {
            Some(device) if worker.watch.is_given_up() => device.abandon(),
            device => drop(device),
        }
    }

    /// Takes the worker off the line; its queued callers learn of it by their answers' senders being dropped.
    fn give_up(&self, worker: &Arc<Worker<D>>) {
        worker.watch.give_up();
        let mut line = lock(&self.line);
        if line.worker.as_ref().is_some_and(|current| Arc::ptr_eq(current, worker)) {
            line.worker = None;
            let pause = self.limits.pause_min.saturating_mul(1u32.checked_shl(line.failures).unwrap_or(u32::MAX));
            line.failures = line.failures.saturating_add(1);
            line.not_before = Some(Instant::now() + pause.min(self.limits.pause_max));
        }
        drop(line);
        let mut inbox = lock(&worker.inbox);
        inbox.closed = true;
        let orphans = std::mem::take(&mut inbox.jobs);
        drop(inbox);
        worker.wake.notify_one();
        // Outside the lock: what a job holds may post again when it is dropped.
        drop(orphans);
    }
}

fn next_job<D>(worker: &Worker<D>) -> Option<Job<D>> {
    let mut inbox = lock(&worker.inbox);
    loop {
        if let Some(job) = inbox.jobs.pop_front() {
            return Some(job);
        }
        if inbox.closed {
            return None;
        }
        inbox = worker.wake.wait(inbox).unwrap_or_else(std::sync::PoisonError::into_inner);
    }
}

fn ready<'a, D: Device>(
    device: &'a mut Option<D>,
    settings: &D::Settings,
    watch: &Arc<Watch>,
) -> Result<&'a mut D, TpmError> {
    if device.as_mut().is_some_and(|current| current.settle().is_err()) {
        // What it said is not of interest: a fresh start will tell.
        *device = None;
    }
    match device {
        Some(current) => Ok(current),
        None => Ok(device.insert(D::open(settings, watch)?)),
    }
}

#[cfg(test)]
mod tests;
