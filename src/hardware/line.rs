//! The line to the TPM: one command at a time, each under the watch, and guards that give back what was opened.
//!
//! A [`Line`] wraps the ESYS context. Transient objects and sessions exist only inside guards: they are flushed when the
//! guard goes, on every path, unwinding included. What a guard could not flush is swept before the next job.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    str::FromStr,
    sync::Arc,
};

use tss_esapi::{
    Context, TctiNameConf,
    attributes::SessionAttributesBuilder,
    constants::{CapabilityType, SessionType},
    handles::{KeyHandle, ObjectHandle, SessionHandle, TpmHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        session_handles::{AuthSession, PolicySession},
    },
    structures::{CapabilityData, SavedTpmContext, SymmetricDefinition},
    tss2_esys::TPM2B_ECC_POINT,
};

use crate::hardware::{error::TpmError, quiet, watch::Watch};

/// The sessions of a command: the first authorizes it.
pub(crate) type Sessions = (Option<AuthSession>, Option<AuthSession>, Option<AuthSession>);

/// A command without sessions.
pub(crate) const BARE: Sessions = (None, None, None);

/// First handles of the kinds that TPM2_GetCapability lists (TPM 2.0 Library, Part 2, TPM_HC).
pub(crate) const LOADED_SESSIONS: u32 = 0x0200_0000;
pub(crate) const SAVED_SESSIONS: u32 = 0x0300_0000;
pub(crate) const TRANSIENT_OBJECTS: u32 = 0x8000_0000;

/// The first of a TPM's fixed properties (TPM 2.0 Library, Part 2, TPM_PT).
const PT_FIXED: u32 = 0x100;

/// What tells two sessions apart in a handle; the upper byte is the kind, and differs between listings.
const SESSION_INDEX: u32 = 0x00FF_FFFF;

struct Inner {
    context: RefCell<Option<Context>>,
    watch: Arc<Watch>,
    tcti: String,
    /// Something may be open in the TPM that no guard knows of.
    littered: Cell<bool>,
    broken: Cell<bool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    /// Ends the connection. A context flushes, when dropped, what it believes to be open; after the thread was given up the
    /// guards have seen to it that this is nothing ([`Line::release`]), because those handles may be its successor's.
    fn close(&self) {
        let context = self.context.try_borrow_mut().ok().and_then(|mut slot| slot.take());
        let watched = self.watch.command_begins("closing");
        drop(context);
        if watched.is_ok() {
            let _ = self.watch.command_ends();
        }
    }

    fn connect(&self) -> Result<(), TpmError> {
        let transport = TctiNameConf::from_str(&self.tcti)
            .map_err(|_| TpmError::Request("the transport is none that the TPM software stack knows"))?;
        self.watch.command_begins("connecting").map_err(|_| TpmError::gone("connecting"))?;
        let context = Context::new(transport);
        self.watch.command_ends().map_err(|_| TpmError::gone("connecting"))?;
        let context = context.map_err(|_| TpmError::gone("connecting"));
        self.broken.set(context.is_err());
        self.littered.set(true);
        *self.context.try_borrow_mut().map_err(|_| TpmError::gone("connecting"))? = Some(context?);
        Ok(())
    }
}

/// The line. Clones share it; it never leaves its thread.
#[derive(Clone)]
pub(crate) struct Line(Rc<Inner>);

impl Line {
    /// Connects through the transport `tcti`, such as `device:/dev/tpm0` or `swtpm:path=/run/tpm.sock`.
    pub(crate) fn open(tcti: &str, watch: &Arc<Watch>) -> Result<Self, TpmError> {
        quiet::keep();
        let line = Self(Rc::new(Inner {
            context: RefCell::new(None),
            watch: Arc::clone(watch),
            tcti: tcti.to_owned(),
            littered: Cell::new(true),
            broken: Cell::new(false),
        }));
        line.0.connect()?;
        Ok(line)
    }

    /// Connects anew. After an answer that makes no sense the stack refuses all further work with the old connection.
    pub(crate) fn reconnect(&self) -> Result<(), TpmError> {
        self.0.close();
        self.0.connect()
    }

    /// Sends one command. `command` must call the context exactly once; the watch's deadline is for that one call.
    pub(crate) fn run<T>(
        &self,
        what: &'static str,
        sessions: Sessions,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, TpmError> {
        self.run_opening(what, sessions, command, |_| None)
    }

    /// The same for a command that opens something in the TPM: `opened` says what, so that an answer that comes too late
    /// leaves nothing behind in the stack.
    pub(crate) fn run_opening<T>(
        &self,
        what: &'static str,
        sessions: Sessions,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
        opened: impl FnOnce(&T) -> Option<ObjectHandle>,
    ) -> Result<T, TpmError> {
        let inner = &self.0;
        if inner.broken.get() {
            // Nothing that comes over a line that broke off can be told to belong to what was asked.
            return Err(TpmError::gone(what));
        }
        let mut slot = inner.context.try_borrow_mut().map_err(|_| TpmError::gone(what))?;
        let context = slot.as_mut().ok_or(TpmError::gone(what))?;
        inner.watch.command_begins(what).map_err(|_| TpmError::gone(what))?;
        context.set_sessions(sessions);
        let result = command(context);
        context.clear_sessions();
        if inner.watch.command_ends().is_err() {
            if let Some(mut handle) = result.as_ref().ok().and_then(opened) {
                let _ = context.tr_close(&mut handle);
            }
            return Err(TpmError::gone(what));
        }
        result.map_err(|error| {
            let error = TpmError::from_tss(what, error);
            // A TPM without a free slot holds what nobody here knows of: a flush that the bus answered in its place, perhaps.
            let littered = matches!(error, TpmError::Altered { .. } | TpmError::NotNow { .. });
            inner.littered.set(inner.littered.get() || littered);
            inner.broken.set(inner.broken.get() || error.breaks_line());
            error
        })
    }

    pub(crate) fn is_sound(&self) -> bool {
        !self.0.broken.get()
    }

    pub(crate) fn is_littered(&self) -> bool {
        self.0.littered.get()
    }

    /// Runs a command that makes a transient object, and takes charge of it.
    pub(crate) fn load(
        &self,
        what: &'static str,
        sessions: Sessions,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<KeyHandle>,
    ) -> Result<Loaded, TpmError> {
        let handle = self.run_opening(what, sessions, command, |handle| Some(ObjectHandle::from(*handle)))?;
        Ok(Loaded { line: self.clone(), handle })
    }

    /// Something may be left in the TPM: sweep before the next job.
    pub(crate) fn mark_littered(&self) {
        self.0.littered.set(true);
    }

    /// Starts a session, salted with `salt` where there is one.
    pub(crate) fn start_session(&self, salt: Option<KeyHandle>, kind: SessionType) -> Result<Session, TpmError> {
        let start = |context: &mut Context| {
            let cipher = SymmetricDefinition::AES_128_CFB;
            context.start_auth_session(salt, None, None, kind, cipher, HashingAlgorithm::Sha256)
        };
        let opened = |session: &Option<AuthSession>| session.map(|auth| SessionHandle::from(auth).into());
        let session = self.run_opening("StartAuthSession", BARE, start, opened)?;
        let auth = session.ok_or(TpmError::Altered { during: "StartAuthSession" })?;
        Ok(Session { line: self.clone(), auth: Some(auth) })
    }

    /// Loads a parked session.
    pub(crate) fn load_session(&self, saved: SavedTpmContext) -> Result<Session, TpmError> {
        let handle =
            self.run_opening("ContextLoad", BARE, |context| context.context_load(saved), |handle| Some(*handle))?;
        let auth = AuthSession::create(SessionType::Policy, SessionHandle::from(handle), HashingAlgorithm::Sha256);
        let auth = auth.ok_or(TpmError::Altered { during: "ContextLoad" })?;
        Ok(Session { line: self.clone(), auth: Some(auth) })
    }

    /// The handles of one kind that exist in the TPM.
    pub(crate) fn handles(&self, first: u32) -> Result<Vec<TpmHandle>, TpmError> {
        // 254: the most handles that one answer holds; a TPM has far fewer of the kinds asked for here.
        let (data, _) =
            self.run("GetCapability", BARE, |context| context.get_capability(CapabilityType::Handles, first, 254))?;
        match data {
            CapabilityData::Handles(handles) => Ok(handles.into_inner()),
            _ => Err(TpmError::Altered { during: "GetCapability" }),
        }
    }

    /// Overwrites what the TPM software stack keeps of the last answer, once that was a secret: its buffer with the longest
    /// answer there is, and the block in which it handed the point out and which it freed as it was (docs/decisions/0010).
    pub(crate) fn overwrite_answer(&self) {
        // First, before anybody else gets that block whole. It may have been cut up already: an allocator gives out what fits
        // best, so smaller and smaller blocks, more than it has at hand of each size, are given every part of it.
        let sizes = [(size_of::<TPM2B_ECC_POINT>(), 64), (200, 64), (150, 64), (100, 128), (64, 256), (24, 1024)];
        let blocks: Vec<Vec<u8>> =
            sizes.iter().flat_map(|(size, count)| (0..*count).map(|_| vec![0xa5; *size])).collect();
        std::hint::black_box(&blocks);
        // Whatever comes of it: a TPM that does not answer costs the whole line, with its buffers.
        let longest = |context: &mut Context| context.get_capability(CapabilityType::TpmProperties, PT_FIXED, 127);
        let _ = self.run("GetCapability", BARE, longest);
    }

    /// Flushes every loaded session, every transient object, and every saved session but those in `keep`.
    pub(crate) fn sweep(&self, keep: &[u32]) -> Result<(), TpmError> {
        for first in [LOADED_SESSIONS, SAVED_SESSIONS, TRANSIENT_OBJECTS] {
            for handle in self.handles(first)? {
                let number = u32::from(handle);
                if first == SAVED_SESSIONS && keep.iter().any(|kept| same_session(*kept, number)) {
                    continue;
                }
                self.flush_raw(handle)?;
            }
        }
        self.0.littered.set(false);
        Ok(())
    }

    /// Flushes a handle that this context did not open itself.
    fn flush_raw(&self, handle: TpmHandle) -> Result<(), TpmError> {
        let known = self.run("ReadPublic", BARE, |context| context.tr_from_tpm_public(handle))?;
        let flushed = self.run("FlushContext", BARE, |context| {
            match context.flush_context(known) {
                // tss-esapi books a policy session's handle as one to close, not to flush, and says so after it has
                // flushed it in the TPM.
                Err(tss_esapi::Error::WrapperError(tss_esapi::WrapperErrorKind::InvalidHandleState)) => Ok(()),
                other => other,
            }
        });
        match flushed {
            // Gone by itself in the meantime.
            Err(TpmError::Refused { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Flushes when a guard goes; what fails here is swept later. A thread that was given up only forgets the handle.
    fn release(&self, mut handle: ObjectHandle) {
        if self.0.watch.is_given_up() {
            if let Ok(mut slot) = self.0.context.try_borrow_mut()
                && let Some(context) = slot.as_mut()
            {
                let _ = context.tr_close(&mut handle);
            }
        } else if self.run("FlushContext", BARE, |context| context.flush_context(handle)).is_err() {
            self.0.littered.set(true);
        }
    }
}

pub(crate) const fn same_session(one: u32, other: u32) -> bool {
    one & SESSION_INDEX == other & SESSION_INDEX
}

/// A transient object in the TPM; flushed with this guard.
pub(crate) struct Loaded {
    line: Line,
    handle: KeyHandle,
}

impl Loaded {
    pub(crate) const fn handle(&self) -> KeyHandle {
        self.handle
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.line.release(self.handle.into());
    }
}

/// A session in the TPM; flushed with this guard.
pub(crate) struct Session {
    line: Line,
    auth: Option<AuthSession>,
}

impl Session {
    pub(crate) const fn auth(&self) -> Option<AuthSession> {
        self.auth
    }

    /// As the session of a policy command.
    pub(crate) fn policy(&self) -> Result<PolicySession, TpmError> {
        let auth = self.auth.ok_or(TpmError::SessionLost)?;
        PolicySession::try_from(auth).map_err(|_| TpmError::Request("not a policy session"))
    }

    /// Which directions this session encrypts; `audit` authenticates an answer that has nothing to encrypt.
    pub(crate) fn set(&self, decrypt: bool, encrypt: bool, audit: bool) -> Result<(), TpmError> {
        let auth = self.auth.ok_or(TpmError::SessionLost)?;
        let (attributes, mask) =
            SessionAttributesBuilder::new().with_decrypt(decrypt).with_encrypt(encrypt).with_audit(audit).build();
        self.line.run("session attributes", BARE, |context| context.tr_sess_set_attributes(auth, attributes, mask))
    }

    /// The session's current nonceTPM.
    pub(crate) fn nonce(&self) -> Result<[u8; 32], TpmError> {
        let auth = self.auth.ok_or(TpmError::SessionLost)?;
        let nonce = self.line.run("session nonce", BARE, |context| context.tr_sess_get_nonce_tpm(auth))?;
        nonce.as_bytes().try_into().map_err(|_| TpmError::Altered { during: "session nonce" })
    }

    /// Saves the session out of the TPM's few slots.
    pub(crate) fn park(mut self) -> Result<SavedTpmContext, TpmError> {
        let auth = self.auth.ok_or(TpmError::SessionLost)?;
        let handle = SessionHandle::from(auth);
        let saved = self.line.run("ContextSave", BARE, |context| context.context_save(handle.into()))?;
        // The context's own handle ended with the save.
        self.auth = None;
        Ok(saved)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(auth) = self.auth.take() {
            self.line.release(SessionHandle::from(auth).into());
        }
    }
}
