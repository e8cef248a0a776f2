//! The TPM as its owner thread holds it: the line, the pinned storage root key, and what is parked.
//!
//! Every session is salted with the storage root key, whose public area is compared with the pinned Name by hashing it
//! here. An interposer that shows another key, or another TPM behind the same line, is found out before a session starts;
//! one that swaps the TPM later cannot decrypt the salt, and every answer's HMAC fails.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tss_esapi::{
    constants::SessionType,
    handles::{KeyHandle, NvIndexHandle, NvIndexTpmHandle, ObjectHandle, PersistentTpmHandle, TpmHandle},
    interface_types::{data_handles::Saved, reserved_handles::NvAuth},
    structures::SavedTpmContext,
};

use crate::{
    hardware::{
        error::TpmError,
        line::{BARE, Line, Session},
        owner::Device,
        watch::{Watch, lock},
    },
    protocol::{
        group::Point,
        tpm::{name::Name, nv::NvReference, object::KeyTemplate},
    },
};

/// Where the storage root key is kept (TCG registry of reserved handles).
pub(crate) const STORAGE_ROOT: u32 = 0x8100_0001;
/// Where the attestation key is kept.
pub(crate) const ATTESTATION: u32 = 0x8100_0002;

/// How to reach the TPM, and which one it must be.
pub(crate) struct Settings {
    pub(crate) tcti: String,
    /// The storage root key's point; `None` only while provisioning makes it.
    pub(crate) storage_root: Option<Point>,
    pub(crate) parking: Arc<Parking>,
}

/// The saved sessions of open ceremonies. Secret: a saved session carries its session key.
#[derive(Default)]
pub(crate) struct Parking {
    next: AtomicU64,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    parked: HashMap<u64, SavedTpmContext>,
    discarded: Vec<SavedTpmContext>,
}

impl Parking {
    pub(crate) fn put(&self, saved: SavedTpmContext) -> u64 {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        self.put_back(place, saved);
        place
    }

    pub(crate) fn put_back(&self, place: u64, saved: SavedTpmContext) {
        lock(&self.slots).parked.insert(place, saved);
    }

    /// A copy to load the session from. It stays parked until that is known to have worked: the thread that tries may hang.
    pub(crate) fn look(&self, place: u64) -> Option<SavedTpmContext> {
        lock(&self.slots).parked.get(&place).cloned()
    }

    /// The session is loaded, or lost.
    pub(crate) fn remove(&self, place: u64) {
        lock(&self.slots).parked.remove(&place);
    }

    /// Marks a session that nobody will use for flushing before the next job.
    pub(crate) fn discard(&self, place: u64) {
        let mut slots = lock(&self.slots);
        let saved = slots.parked.remove(&place);
        slots.discarded.extend(saved);
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.slots).parked.len()
    }

    fn take_discarded(&self) -> Vec<SavedTpmContext> {
        std::mem::take(&mut lock(&self.slots).discarded)
    }

    fn handles(&self) -> Vec<u32> {
        lock(&self.slots).parked.values().map(|saved| number(saved.saved_handle())).collect()
    }
}

fn number(saved: Saved) -> u32 {
    saved.into()
}

/// The opened TPM.
pub(crate) struct Tpm2 {
    pub(crate) line: Line,
    storage_root: Option<(KeyHandle, Point)>,
    parking: Arc<Parking>,
    /// It could not be looked into after an error: to be opened anew.
    is_stale: bool,
}

impl Device for Tpm2 {
    type Settings = Settings;

    fn open(settings: &Settings, watch: &Arc<Watch>) -> Result<Self, TpmError> {
        let line = Line::open(&settings.tcti, watch)?;
        let mut device = Self { line, storage_root: None, parking: Arc::clone(&settings.parking), is_stale: false };
        device.settle_in(settings.storage_root)?;
        Ok(device)
    }

    fn settle(&mut self) -> Result<(), TpmError> {
        if self.is_stale {
            return Err(TpmError::Order("the TPM must be opened anew"));
        }
        for saved in self.parking.take_discarded() {
            // After a reset the TPM does not know it any more, which is as good; in any other case the sweep finds it.
            if self.line.load_session(saved).is_err() {
                self.line.mark_littered();
            }
        }
        if self.line.is_littered() {
            self.line.sweep(&self.parking.handles())?;
        }
        Ok(())
    }

    fn is_sound(&self) -> bool {
        // Only a line that is lost asks for a pause; an answer that made no sense was followed by a new connection.
        self.line.is_sound()
    }

    fn abandon(self) {
        // The line's own drop sees that its thread was given up, and stays silent.
        drop(self);
    }
}

impl Tpm2 {
    pub(crate) fn parking(&self) -> &Parking {
        &self.parking
    }

    pub(crate) fn storage_root(&self) -> Result<KeyHandle, TpmError> {
        self.storage_root.map(|(handle, _)| handle).ok_or(TpmError::Order("there is no storage root key yet"))
    }

    pub(crate) fn adopt_storage_root(&mut self, handle: KeyHandle, point: Point) {
        self.storage_root = Some((handle, point));
    }

    /// After an error that tampering or a swapped TPM would cause: connects anew, looks whether the pinned storage root key
    /// is still there, and says so if it is not. Never by the old connection: the stack knows the key by its handle, and
    /// what it is shown now must not come near what sessions are salted with.
    pub(crate) fn examine(&mut self, error: TpmError) -> TpmError {
        if !matches!(error, TpmError::Altered { .. } | TpmError::Unauthorized { .. } | TpmError::Refused { .. }) {
            return error;
        }
        let pinned = self.storage_root.take().map(|(_, point)| point);
        let examined = self.line.reconnect().and_then(|()| self.settle_in(pinned));
        self.is_stale = examined.is_err();
        match examined {
            Err(swapped @ TpmError::AnotherTpm { .. }) => swapped,
            _ => error,
        }
    }

    fn settle_in(&mut self, pinned: Option<Point>) -> Result<(), TpmError> {
        // What a predecessor left open, whether a thread that was given up or a process that was killed.
        self.line.sweep(&self.parking.handles())?;
        if let Some(point) = pinned {
            let handle = self.persistent(STORAGE_ROOT, &KeyTemplate::STORAGE_ROOT, &point, "the storage root key")?;
            self.storage_root = Some((handle, point));
        }
        Ok(())
    }

    /// Finds a persistent key and checks that the public area the stack will use is that template with that point.
    pub(crate) fn persistent(
        &self,
        handle: u32,
        template: &KeyTemplate,
        point: &Point,
        object: &'static str,
    ) -> Result<KeyHandle, TpmError> {
        let expected = template.name(point);
        let wrong = |found: String| match handle {
            STORAGE_ROOT => TpmError::AnotherTpm { expected: expected.to_string(), found },
            _ => TpmError::ObjectChanged { object },
        };
        let tpm_handle = PersistentTpmHandle::new(handle).map_err(|_| TpmError::Request("no persistent handle"))?;
        let known =
            self.line.run("ReadPublic", BARE, |context| context.tr_from_tpm_public(TpmHandle::Persistent(tpm_handle)));
        let known = match known {
            Err(TpmError::Refused { .. }) => return Err(wrong("absent".to_owned())),
            other => other?,
        };
        let name = self.line.run("object's Name", BARE, |context| context.tr_get_name(known))?;
        let stack = self.line.run("object's public area", BARE, |context| context.tr_serialize(known))?;
        // The answer to ReadPublic carries both public area and Name, and nothing authenticates it. The salt is encrypted to
        // the public area, so it is that which must be ours: the stack's own copy of it must hold the expected bytes.
        let area = template.marshal_with(point);
        if name.value() != expected.as_bytes() || !stack.windows(area.len()).any(|window| window == area) {
            self.close(known);
            let found = Name::from_bytes(name.value()).map_or_else(|_| "of another kind".to_owned(), |n| n.to_string());
            return Err(wrong(found));
        }
        Ok(known.into())
    }

    /// Forgets a handle in the stack; the TPM is not told.
    pub(crate) fn close(&self, mut handle: ObjectHandle) {
        let _ = self.line.run("closing a handle", BARE, |context| context.tr_close(&mut handle));
    }

    /// A session salted with the storage root key; it encrypts answers where `encrypt`.
    pub(crate) fn session(&self, kind: SessionType, decrypt: bool, encrypt: bool) -> Result<Session, TpmError> {
        let session = self.line.start_session(Some(self.storage_root()?), kind)?;
        session.set(decrypt, encrypt, false)?;
        Ok(session)
    }

    /// A salted session that authenticates the answer of a command that has nothing to encrypt.
    pub(crate) fn audit_session(&self) -> Result<Session, TpmError> {
        let session = self.line.start_session(Some(self.storage_root()?), SessionType::Hmac)?;
        session.set(false, false, true)?;
        Ok(session)
    }

    /// An NV index, checked to have the expected Name.
    pub(crate) fn nv(&self, index: &NvReference, object: &'static str) -> Result<KnownNv<'_>, TpmError> {
        let handle = index.handle.get();
        let tpm_handle = NvIndexTpmHandle::new(handle).map_err(|_| TpmError::Request("no NV handle"))?;
        let known =
            self.line.run("NV_ReadPublic", BARE, |context| context.tr_from_tpm_public(TpmHandle::NvIndex(tpm_handle)));
        let handle = match known {
            Err(TpmError::Refused { .. }) => return Err(TpmError::ObjectChanged { object }),
            other => other?,
        };
        let known = KnownNv { device: self, handle };
        let name = self.line.run("NV Name", BARE, |context| context.tr_get_name(handle))?;
        if name.value() != index.name.as_bytes() {
            return Err(TpmError::ObjectChanged { object });
        }
        Ok(known)
    }

    /// Reads an NV index that everyone may read, under a session that authenticates the answer.
    pub(crate) fn nv_read(&self, index: &NvReference, object: &'static str, size: u16) -> Result<Vec<u8>, TpmError> {
        let index = self.nv(index, object)?;
        let session = self.session(SessionType::Hmac, false, true)?;
        let read = self.line.run("NV_Read", (session.auth(), None, None), |context| {
            context.nv_read(index.auth(), index.handle(), size, 0)
        })?;
        Ok(read.to_vec())
    }
}

/// An NV index known to the stack; forgotten with this guard.
pub(crate) struct KnownNv<'a> {
    device: &'a Tpm2,
    handle: ObjectHandle,
}

impl KnownNv<'_> {
    pub(crate) fn handle(&self) -> NvIndexHandle {
        self.handle.into()
    }

    /// The index as its own authorization.
    pub(crate) fn auth(&self) -> NvAuth {
        NvAuth::NvIndex(self.handle.into())
    }
}

impl Drop for KnownNv<'_> {
    fn drop(&mut self) {
        self.device.close(self.handle);
    }
}
