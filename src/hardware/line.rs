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

/// What tells two sessions apart in a handle; the upper byte is the kind, and differs between listings.
const SESSION_INDEX: u32 = 0x00FF_FFFF;

struct Inner {
    context: RefCell<Option<Context>>,
    watch: Arc<Watch>,
    /// Something may be open in the TPM that no guard knows of.
    littered: Cell<bool>,
    broken: Cell<bool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let context = self.context.get_mut().take();
        // A context flushes, when dropped, what it believes to be open. After the thread was given up those handles may
        // be its successor's, so then it is left alone; its descriptors are the price.
        if self.watch.command_begins("closing").is_err() {
            std::mem::forget(context);
        } else {
            drop(context);
            let _ = self.watch.command_ends();
        }
    }
}

/// The line. Clones share it; it never leaves its thread.
#[derive(Clone)]
pub(crate) struct Line(Rc<Inner>);

impl Line {
    /// Connects through the transport `tcti`, such as `device:/dev/tpm0` or `swtpm:path=/run/tpm.sock`.
    pub(crate) fn open(tcti: &str, watch: &Arc<Watch>) -> Result<Self, TpmError> {
        quiet::keep();
        let transport = TctiNameConf::from_str(tcti)
            .map_err(|_| TpmError::Request("the transport is none that the TPM software stack knows"))?;
        watch.command_begins("connecting").map_err(|_| TpmError::gone("connecting"))?;
        let context = Context::new(transport);
        watch.command_ends().map_err(|_| TpmError::gone("connecting"))?;
        let context = RefCell::new(Some(context.map_err(|_| TpmError::gone("connecting"))?));
        let watch = Arc::clone(watch);
        Ok(Self(Rc::new(Inner { context, watch, littered: Cell::new(true), broken: Cell::new(false) })))
    }

    /// Sends one command. `command` must call the context exactly once; the watch's deadline is for that one call.
    pub(crate) fn run<T>(
        &self,
        what: &'static str,
        sessions: Sessions,
        command: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, TpmError> {
        let inner = &self.0;
        let mut slot = inner.context.try_borrow_mut().map_err(|_| TpmError::gone(what))?;
        let context = slot.as_mut().ok_or(TpmError::gone(what))?;
        inner.watch.command_begins(what).map_err(|_| TpmError::gone(what))?;
        context.set_sessions(sessions);
        let result = command(context);
        context.clear_sessions();
        inner.watch.command_ends().map_err(|_| TpmError::gone(what))?;
        result.map_err(|error| {
            let error = TpmError::from_tss(what, error);
            inner.littered.set(inner.littered.get() || matches!(error, TpmError::Altered { .. }));
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

    /// Takes charge of a transient object that was just made.
    pub(crate) fn guard(&self, handle: KeyHandle) -> Loaded {
        Loaded { line: self.clone(), handle }
    }

    /// Starts a session, salted with `salt` where there is one.
    pub(crate) fn start_session(&self, salt: Option<KeyHandle>, kind: SessionType) -> Result<Session, TpmError> {
        let session = self.run("StartAuthSession", BARE, |context| {
            context.start_auth_session(
                salt,
                None,
                None,
                kind,
                SymmetricDefinition::AES_128_CFB,
                HashingAlgorithm::Sha256,
            )
        })?;
        let auth = session.ok_or(TpmError::Altered { during: "StartAuthSession" })?;
        Ok(Session { line: self.clone(), auth: Some(auth) })
    }

    /// Loads a parked session.
    pub(crate) fn load_session(&self, saved: SavedTpmContext) -> Result<Session, TpmError> {
        let handle = self.run("ContextLoad", BARE, |context| context.context_load(saved))?;
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

    /// Flushes when a guard goes; what fails here is swept later.
    fn release(&self, handle: ObjectHandle) {
        if self.run("FlushContext", BARE, |context| context.flush_context(handle)).is_err() {
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
