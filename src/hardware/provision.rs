//! Making a TPM an embassy's, in the order that the policies force (protocol.md §9.4).
//!
//! 1. At home, on a bus that home trusts: the storage root key, the attestation key, new hierarchy authorizations.
//! 2. The generation counter is defined; the quorum moves it once, and with that it has its first value and final Name.
//! 3. Register and charter pin, whose policies name that value, are defined; the quorum writes them.
//! 4. T, identity key and roll key, whose policies name the written register, are made, and their creation is attested.

use tss_esapi::{
    attributes::NvIndexAttributes,
    constants::SessionType,
    handles::{AuthHandle, KeyHandle, NvIndexTpmHandle, ObjectHandle, PersistentTpmHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        data_handles::Persistent,
        reserved_handles::{Hierarchy, Provision},
    },
    structures::{Auth, CreateKeyResult, CreationTicket, Data, Digest, SensitiveData},
    traits::Marshall,
    tss2_esys::TPMT_TK_CREATION,
};
use zeroize::Zeroize;

use crate::{
    hardware::{
        convert,
        device::{ATTESTATION, STORAGE_ROOT, Tpm2},
        error::TpmError,
        line::{BARE, Session},
        machine::verify,
        state::{Attestation, Birth, EmbassyKeys, Foundation, SealedObject},
    },
    protocol::{
        group::Point,
        hash::{self, Hash},
        ids::EmbassyName,
        label::Label,
        secret::{Secret, SecretScalar, SecretVec},
        tpm::{custody::Custody, name::Name, nv::NvPublic, object::KeyTemplate},
    },
};

/// An authorization value of a hierarchy, at most 32 bytes; empty where none is set.
#[derive(Debug)]
pub struct HierarchyAuth(SecretVec);

impl HierarchyAuth {
    /// Takes a value that home recorded, or that the TPM was delivered with.
    ///
    /// # Errors
    /// [`TpmError::Request`] for more than 32 bytes, and for a last byte of zero, which TPMs cut off.
    pub fn new(bytes: SecretVec) -> Result<Self, TpmError> {
        if bytes.expose().len() > 32 || bytes.expose().last() == Some(&0) {
            return Err(TpmError::Request("a hierarchy authorization has at most 32 bytes, the last of them not zero"));
        }
        Ok(Self(bytes))
    }

    /// None set.
    pub const fn empty() -> Self {
        Self(SecretVec::new(Vec::new()))
    }

    /// 32 fresh random bytes.
    pub fn random(rng: &mut (impl rand_core::RngCore + rand_core::CryptoRng)) -> Self {
        loop {
            let mut bytes = vec![0; 32];
            rng.fill_bytes(&mut bytes);
            // A TPM cuts trailing zeros off, and the stack would compute another HMAC than it.
            if bytes.last() != Some(&0) {
                return Self(SecretVec::new(bytes));
            }
            bytes.zeroize();
        }
    }

    /// The bytes, for home's records.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    pub(crate) fn copy(&self) -> Self {
        Self(SecretVec::new(self.0.expose().to_vec()))
    }

    fn auth(&self) -> Result<Auth, TpmError> {
        Auth::from_bytes(self.0.expose()).map_err(|_| TpmError::Request("an authorization is too long"))
    }
}

/// The authorizations of a TPM's hierarchies. Home keeps them; they are on no disk of the embassy.
#[derive(Debug)]
pub struct HierarchyAuths {
    /// Defines and undefines NV indices, keeps keys persistent.
    pub owner: HierarchyAuth,
    /// Makes endorsement keys.
    pub endorsement: HierarchyAuth,
    /// Resets the lockout, clears the TPM.
    pub lockout: HierarchyAuth,
}

impl HierarchyAuths {
    /// A TPM as delivered: none set.
    pub const fn empty() -> Self {
        Self { owner: HierarchyAuth::empty(), endorsement: HierarchyAuth::empty(), lockout: HierarchyAuth::empty() }
    }

    /// What home derives from the one secret that it keeps for this machine.
    pub fn derived(secret: &SecretScalar, embassy: &EmbassyName) -> Self {
        let derive = |which: u8| {
            let mut counter = 0_u32;
            loop {
                let bytes: Secret<32> = hash::derive(secret.to_bytes().expose(), Label::TPM_AUTHORIZATIONS, |out| {
                    out.value(embassy).u8(which).u32(counter);
                });
                // A TPM cuts trailing zeros off, and the stack would compute another HMAC than it.
                if bytes.expose().last() != Some(&0) {
                    return HierarchyAuth(SecretVec::new(bytes.expose().to_vec()));
                }
                counter = counter.wrapping_add(1);
            }
        };
        Self { owner: derive(1), endorsement: derive(2), lockout: derive(3) }
    }

    /// Fresh random ones.
    pub fn random(rng: &mut (impl rand_core::RngCore + rand_core::CryptoRng)) -> Self {
        let mut random = || HierarchyAuth::random(rng);
        Self { owner: random(), endorsement: random(), lockout: random() }
    }
}

impl Tpm2 {
    /// Gives the stack a hierarchy's authorization for as long as the guard lives.
    fn authorize(&self, hierarchy: AuthHandle, auth: &HierarchyAuth) -> Result<Authorized<'_>, TpmError> {
        let auth = auth.auth()?;
        let handle = ObjectHandle::from(hierarchy);
        self.line.run("hierarchy authorization", BARE, |context| context.tr_set_auth(handle, auth))?;
        Ok(Authorized { device: self, handle })
    }

    /// Step 1. `current` is what the TPM was delivered with; `new` is recorded by home before this call.
    pub(crate) fn found(&mut self, current: &HierarchyAuths, new: &HierarchyAuths) -> Result<Foundation, TpmError> {
        let storage_root = self.make_storage_root(&current.owner)?;
        let attestation = self.make_primary(
            Hierarchy::Endorsement,
            &KeyTemplate::ATTESTATION,
            ATTESTATION,
            &current.endorsement,
            &current.owner,
        )?;
        for (hierarchy, from, to) in [
            (AuthHandle::Endorsement, &current.endorsement, &new.endorsement),
            (AuthHandle::Lockout, &current.lockout, &new.lockout),
            (AuthHandle::Owner, &current.owner, &new.owner),
        ] {
            let _guard = self.authorize(hierarchy, from)?;
            // A new authorization is a secret parameter, so here the command is encrypted; nobody signed its cpHash.
            let session = self.session(SessionType::Hmac, true, false)?;
            let to = to.auth()?;
            self.line.run("HierarchyChangeAuth", (session.auth(), None, None), |context| {
                context.hierarchy_change_auth(hierarchy, to)
            })?;
        }
        Ok(Foundation { storage_root, attestation })
    }

    fn make_storage_root(&mut self, owner: &HierarchyAuth) -> Result<Point, TpmError> {
        let template = &KeyTemplate::STORAGE_ROOT;
        let point = self.make_primary(Hierarchy::Owner, template, STORAGE_ROOT, owner, owner)?;
        let handle = self.persistent(STORAGE_ROOT, template, &point, "the storage root key")?;
        self.adopt_storage_root(handle, point);
        Ok(point)
    }

    /// Makes a primary key and keeps it persistent; takes the persistent one where it is the same already.
    fn make_primary(
        &self,
        hierarchy: Hierarchy,
        template: &KeyTemplate,
        persistent: u32,
        auth: &HierarchyAuth,
        owner: &HierarchyAuth,
    ) -> Result<Point, TpmError> {
        let hierarchy_handle = match hierarchy {
            Hierarchy::Owner => AuthHandle::Owner,
            _ => AuthHandle::Endorsement,
        };
        let area = convert::public(&template.marshal())?;
        let mut made = None;
        let key = {
            let _guard = self.authorize(hierarchy_handle, auth)?;
            let session = self.first_session()?;
            self.line.load("CreatePrimary", (session.auth(), None, None), |context| {
                let created = context.create_primary(hierarchy, area, None, None, None, None)?;
                made = Some(created.out_public);
                Ok(created.key_handle)
            })?
        };
        let made = made.ok_or(TpmError::Altered { during: "CreatePrimary" })?;
        let (point, _) = template
            .accept(&convert::public_bytes(&made)?)
            .map_err(|_| TpmError::Altered { during: "CreatePrimary" })?;
        let place = PersistentTpmHandle::new(persistent).map_err(|_| TpmError::Request("no persistent handle"))?;
        let _guard = self.authorize(AuthHandle::Owner, owner)?;
        let session = self.first_session()?;
        let kept = self.line.run("EvictControl", (session.auth(), None, None), |context| {
            context.evict_control(Provision::Owner, key.handle().into(), Persistent::Persistent(place))
        });
        match kept {
            Ok(kept) => self.close(kept),
            // TPM_RC_NV_DEFINED: one is there; it must be this very key.
            Err(TpmError::Refused { .. }) => {
                let there = self.persistent(persistent, template, &point, "a persistent key")?;
                self.close(there.into());
            }
            Err(error) => return Err(error),
        }
        Ok(point)
    }

    /// Salted as soon as there is something to salt with.
    fn first_session(&self) -> Result<Session, TpmError> {
        match self.storage_root() {
            Ok(_) => self.session(SessionType::Hmac, false, false),
            Err(_) => self.line.start_session(None, SessionType::Hmac),
        }
    }

    /// Defines an NV index. Where it is there already, it must be the same one, unwritten or written.
    pub(crate) fn define(&self, public: &NvPublic, owner: &HierarchyAuth) -> Result<(), TpmError> {
        let handle = NvIndexTpmHandle::new(public.handle().get()).map_err(|_| TpmError::Request("no NV handle"))?;
        let policy = Digest::from_bytes(public.policy().as_bytes()).map_err(|_| TpmError::Request("no digest"))?;
        let area = tss_esapi::structures::NvPublic::builder()
            .with_nv_index(handle)
            .with_index_name_algorithm(HashingAlgorithm::Sha256)
            .with_index_attributes(NvIndexAttributes(public.attributes()))
            .with_index_auth_policy(policy)
            .with_data_area_size(usize::from(public.size()))
            .build()
            .map_err(|_| TpmError::Request("no NV public area"))?;
        let _guard = self.authorize(AuthHandle::Owner, owner)?;
        let session = self.session(SessionType::Hmac, false, false)?;
        let index = |name| crate::protocol::tpm::nv::NvReference { handle: public.handle(), name };
        let defined = self.line.run("NV_DefineSpace", (session.auth(), None, None), |context| {
            context.nv_define_space(Provision::Owner, None, area)
        });
        match defined {
            Ok(handle) => {
                self.close(handle.into());
                self.nv(&index(public.name_before_first_write()), "an NV index").map(|_| ())
            }
            // TPM_RC_NV_DEFINED is well where it is this very index; where it is another, or none, the TPM's word stands.
            Err(refused @ TpmError::Refused { .. }) => {
                for name in [public.name_before_first_write(), public.name()] {
                    match self.nv(&index(name), "an NV index") {
                        Ok(_) => return Ok(()),
                        Err(TpmError::ObjectChanged { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(refused)
            }
            Err(error) => Err(error),
        }
    }

    /// Step 4.
    pub(crate) fn make_keys(
        &self,
        custody: &Custody,
        attestation: &Point,
        roll_seed: &Secret<32>,
    ) -> Result<EmbassyKeys, TpmError> {
        let (custody_key, custody_birth) =
            self.make_attested(&custody.custody_key.public, attestation, "the custody key")?;
        let (identity, identity_birth) =
            self.make_attested(&custody.identity_key.public, attestation, "the identity key")?;
        let seed = SensitiveData::from_bytes(roll_seed.expose()).map_err(|_| TpmError::Request("no seed"))?;
        let roll = self.create(&custody.roll_key.public.marshal(), Some(seed))?;
        let roll = sealed(&roll)?;
        custody.roll_key.public.accept(&roll.public).map_err(|_| TpmError::Altered { during: "Create" })?;
        Ok(EmbassyKeys {
            counter_first: custody.counter_first,
            custody: custody_key,
            custody_birth,
            identity,
            identity_birth,
            roll,
        })
    }

    fn create(&self, template: &[u8], sensitive: Option<SensitiveData>) -> Result<CreateKeyResult, TpmError> {
        let area = convert::public(template)?;
        let parent = self.storage_root()?;
        // A sealed secret goes in as a parameter: encrypted; nobody signed this command's cpHash.
        let session = self.session(SessionType::Hmac, true, true)?;
        self.line.run("Create", (session.auth(), None, None), |context| {
            context.create(parent, area, None, sensitive, None, None)
        })
    }

    /// Makes a key and has its creation attested at once; ticket and data are kept, so that later boots can attest it again.
    fn make_attested(
        &self,
        template: &KeyTemplate,
        attestation: &Point,
        what: &'static str,
    ) -> Result<(SealedObject, Birth), TpmError> {
        let made = self.create(&template.marshal(), None)?;
        let object = sealed(&made)?;
        let (_, name) = template.accept(&object.public).map_err(|_| TpmError::Altered { during: "Create" })?;
        let loaded = self.load(&object, &name, what)?;
        let signer = self.persistent(ATTESTATION, &KeyTemplate::ATTESTATION, attestation, "the attestation key")?;
        let data = made.creation_data.marshall().map_err(|_| TpmError::Altered { during: "Create" })?;
        let ticket = TPMT_TK_CREATION::try_from(made.creation_ticket);
        let ticket = ticket.map_err(|_| TpmError::Altered { during: "Create" })?;
        let ticket_digest = ticket.digest.buffer.iter().take(usize::from(ticket.digest.size)).copied().collect();
        // The hash of the creation data is computed here, not taken from the answer.
        if made.creation_hash.as_bytes() != Hash::of_bytes(&data).as_bytes() {
            return Err(TpmError::Altered { during: "Create" });
        }
        let attested = self.certify_creation(signer, loaded.handle().into(), made.creation_hash, ticket);
        self.close(signer.into());
        let birth = Birth { data, ticket_hierarchy: ticket.hierarchy, ticket_digest, certified: attested? };
        if !is_birth_of(&birth, &name, attestation) {
            return Err(TpmError::Altered { during: "CertifyCreation" });
        }
        Ok((object, birth))
    }

    fn certify_creation(
        &self,
        signer: KeyHandle,
        object: ObjectHandle,
        creation_hash: Digest,
        ticket: TPMT_TK_CREATION,
    ) -> Result<Attestation, TpmError> {
        let ticket = CreationTicket::try_from(ticket).map_err(|_| TpmError::Request("no creation ticket"))?;
        let session = self.session(SessionType::Hmac, false, false)?;
        let (attest, signature) = self.line.run("CertifyCreation", (session.auth(), None, None), |context| {
            context.certify_creation(signer, object, Data::default(), creation_hash, convert::ecdsa_scheme(), ticket)
        })?;
        let statement = attest.marshall().map_err(|_| TpmError::Altered { during: "CertifyCreation" })?;
        Ok(Attestation { statement, signature: convert::r_s(&signature, "CertifyCreation")? })
    }
}

fn sealed(made: &CreateKeyResult) -> Result<SealedObject, TpmError> {
    let private = made.out_private.marshall().map_err(|_| TpmError::Altered { during: "Create" })?;
    Ok(SealedObject { public: convert::public_bytes(&made.out_public)?, private })
}

/// Whether the attestation key certified this birth of the object with this Name. Reports are judged by the verifier; this
/// catches a mix-up and a spoiled disk. The ticket only the TPM can check, when it certifies again.
pub(crate) fn is_birth_of(birth: &Birth, name: &Name, attestation: &Point) -> bool {
    let Attestation { statement, signature } = &birth.certified;
    let holds = |part: &[u8]| statement.windows(part.len()).any(|window| window == part);
    let digest = Hash::of_bytes(statement);
    verify(attestation, digest.as_bytes(), signature, "CertifyCreation").is_ok()
        && holds(name.as_bytes())
        && holds(Hash::of_bytes(&birth.data).as_bytes())
}

/// Takes the authorization back from the stack when it goes.
struct Authorized<'a> {
    device: &'a Tpm2,
    handle: ObjectHandle,
}

impl Drop for Authorized<'_> {
    fn drop(&mut self) {
        let handle = self.handle;
        let _ = self
            .device
            .line
            .run("hierarchy authorization", BARE, |context| context.tr_set_auth(handle, Auth::default()));
    }
}
