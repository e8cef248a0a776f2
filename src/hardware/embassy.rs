//! The embassy's TPM as the rest of chancery sees it: two small traits, and the steps that make a TPM an embassy's.

use std::sync::Arc;

use crate::{
    hardware::{
        ceremony::{self, MAX_COMMANDS, Order, Outcome, ParkedCommand, Plan, Target},
        device::{Parking, Settings, Tpm2},
        error::TpmError,
        machine::Clock,
        owner::{Limits, Owner},
        provision::{HierarchyAuth, HierarchyAuths, is_birth_of},
        state::{EmbassyKeys, Foundation, SealedObject},
    },
    protocol::{
        facts::CustodyFacts,
        group::Point,
        hash::Hash,
        secret::Secret,
        tpm::{
            approval::CommandHash,
            custody::{Custody, CustodyPlan, Guarded},
            name::Name,
            nv::{COUNTER_BYTES, NvPublic, NvReference},
            object::KeyTemplate,
            pcr::{PcrSelection, PcrValues},
        },
    },
};

/// What only the quorum can make the TPM do.
///
/// The promise: a command runs only if k different officials approved exactly that command, for the very session begun
/// here, and the policy of its object holds in the TPM at the end. No approval serves twice. A refused approval or a failed
/// attempt takes nothing from those that are good, as far as the TPM lives. A dropped [`ParkedCommand`] leaves nothing
/// behind in the TPM.
pub trait CustodyTpm {
    /// Starts one authenticated session for each order, and parks it. At most [`MAX_COMMANDS`] at once.
    ///
    /// # Errors
    /// [`TpmError`]; then no session is left parked.
    fn begin(&self, orders: &[Order]) -> Result<Vec<ParkedCommand>, TpmError>;

    /// Runs the policy and the command.
    ///
    /// # Errors
    /// [`TpmError::TooFewApprovals`] names approvals that the TPM refused; they are removed from `command`, and others may
    /// take their place. After [`TpmError::SessionLost`], and after an error at the command itself, begin anew. With all
    /// others `command` may be finished again.
    fn finish(&self, command: &mut ParkedCommand) -> Result<Outcome, TpmError>;
}

/// What the TPM does for an approved boot state, unattended, and what can be observed of it.
///
/// The promise: keys are used only while the PCRs are those that the platform register holds; each answer is covered by an
/// HMAC or verified.
pub trait MachineTpm {
    /// Signs a SHA-256 digest with the identity key (ECDSA P-256): r ‖ s.
    ///
    /// # Errors
    /// [`TpmError::PlatformRefused`] in any other boot state.
    fn sign_as_embassy(&self, digest: &[u8; 32]) -> Result<[u8; 64], TpmError>;

    /// The seed of the roll key.
    ///
    /// # Errors
    /// [`TpmError::PlatformRefused`] in any other boot state.
    fn roll_seed(&self) -> Result<Secret<32>, TpmError>;

    /// PCR values of the SHA-256 bank, all of one moment.
    ///
    /// # Errors
    /// [`TpmError`].
    fn read_pcrs(&self, selection: PcrSelection) -> Result<PcrValues, TpmError>;

    /// Clock, resets and restarts.
    ///
    /// # Errors
    /// [`TpmError`].
    fn clock(&self) -> Result<Clock, TpmError>;

    /// The hash that the charter pin holds: the founding charter's until a later one is adopted. It ties the charters on the
    /// disk to this TPM, and shows when they are older than what the quorum told it.
    ///
    /// # Errors
    /// [`TpmError::ObjectChanged`] where the pin was not written.
    fn charter_pin(&self) -> Result<Hash, TpmError>;
}

/// How to reach a TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmAddress {
    /// The transport as the TPM software stack names it: `device:/dev/tpm0`, `swtpm:path=/run/tpm.sock`.
    pub tcti: String,
    /// The bounds on its work.
    pub limits: Limits,
}

impl TpmAddress {
    /// The transport with the default limits.
    pub fn new(tcti: &str) -> Self {
        Self { tcti: tcti.to_owned(), limits: Limits::default() }
    }
}

/// One embassy's TPM in one generation.
pub struct EmbassyTpm {
    owner: Owner<Tpm2>,
    foundation: Foundation,
    plan: CustodyPlan,
    custody: Option<Custody>,
    keys: Option<Keys>,
}

/// Stored keys, checked against their templates.
#[derive(Clone)]
struct Keys {
    custody: (SealedObject, Point, Name),
    identity: (SealedObject, Point, Name),
    roll: (SealedObject, Name),
}

impl EmbassyTpm {
    /// Provisioning, step 1, at home on a trusted bus: makes the storage root and attestation keys, and sets the hierarchy
    /// authorizations `new`. Record those first: they are nowhere else. `current` are those of delivery.
    ///
    /// # Errors
    /// [`TpmError::Unauthorized`] where `current` is wrong. A second attempt after a failure half-way may find some of the
    /// authorizations already new.
    pub fn found(address: &TpmAddress, current: &HierarchyAuths, new: &HierarchyAuths) -> Result<Foundation, TpmError> {
        let owner = connect(address, None);
        let copy = |auths: &HierarchyAuths| HierarchyAuths {
            owner: auths.owner.copy(),
            endorsement: auths.endorsement.copy(),
            lockout: auths.lockout.copy(),
        };
        let (current, new) = (copy(current), copy(new));
        owner.call(move |tpm| tpm.found(&current, &new))
    }

    /// Opens the TPM that the charter names, with the keys that the charter names: what a service does. Nothing that tells
    /// this TPM from another is taken from the disk, which is the host's.
    ///
    /// # Errors
    /// [`TpmError::AnotherTpm`] where the storage root key is not the charter's; [`TpmError::Unchartered`] where the stored
    /// keys are not; those of [`EmbassyTpm::open`].
    pub fn open_chartered(address: &TpmAddress, facts: &CustodyFacts, keys: &EmbassyKeys) -> Result<Self, TpmError> {
        let machine = facts.machine();
        let foundation = Foundation { storage_root: machine.storage_root, attestation: machine.attestation_key };
        if keys.counter_first != machine.counter_first {
            return Err(TpmError::Unchartered { object: "the generation counter's value" });
        }
        let tpm = Self::open(address, foundation, facts.plan().clone(), Some(keys))?;
        for (found, named, object) in [
            (tpm.custody_point()?, machine.custody_key, "the custody key"),
            (tpm.identity_point()?, machine.identity_key, "the identity key"),
        ] {
            if found != named {
                return Err(TpmError::Unchartered { object });
            }
        }
        Ok(tpm)
    }

    /// For provisioning, before a charter names the keys: opens the TPM that `foundation` names, for custody by `plan`, with `keys` where they were made. One service per TPM:
    /// opening sweeps out sessions and objects that are not its own, also those of another service that still runs.
    ///
    /// What tells this TPM from one of the host's making is `foundation`: sessions are salted with its storage root key. The
    /// caller compares it, and [`EmbassyTpm::custody_point`] and [`EmbassyTpm::identity_point`] afterwards, with what the
    /// charter pins; the disk alone proves nothing.
    ///
    /// # Errors
    /// [`TpmError::AnotherTpm`] where the storage root key is another; [`TpmError::ObjectChanged`] where stored keys are not
    /// those that the plan describes, or this TPM does not load them.
    pub fn open(
        address: &TpmAddress,
        foundation: Foundation,
        plan: CustodyPlan,
        keys: Option<&EmbassyKeys>,
    ) -> Result<Self, TpmError> {
        let owner = connect(address, Some(foundation.storage_root));
        let mut tpm = Self { owner, foundation, plan, custody: None, keys: None };
        match keys {
            Some(keys) => tpm.adopt(keys)?,
            // Touch the TPM, so that a wrong one is found out now.
            None => tpm.call(|_| Ok(()))?,
        }
        Ok(tpm)
    }

    /// Step 2: defines the generation counter. Then let the quorum finish [`Order::MoveGeneration`].
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn define_counter(&self, owner: &HierarchyAuth) -> Result<(), TpmError> {
        let counter = self.counter()?.public;
        let owner = owner.copy();
        self.call(move |tpm| tpm.define(&counter, &owner))
    }

    /// Step 3: reads the counter's first value, and defines register and charter pin, whose policies name it. Then let the
    /// quorum finish [`Order::WriteRegister`] and [`Order::WriteCharterPin`].
    ///
    /// # Errors
    /// [`TpmError::Order`] where the counter was not moved yet.
    pub fn define_registers(&mut self, owner: &HierarchyAuth) -> Result<(), TpmError> {
        let first = self.generation_counter()?.ok_or(TpmError::Order("the quorum has not moved the counter yet"))?;
        let custody = self.plan.custody(first).map_err(|_| NO_LADDER)?;
        let (register, pin, owner) = (custody.register.public, custody.charter_pin.public, owner.copy());
        self.call(move |tpm| {
            tpm.define(&register, &owner)?;
            tpm.define(&pin, &owner)
        })?;
        self.custody = Some(custody);
        Ok(())
    }

    /// Step 4: makes T, the identity key and the roll key. Store what comes back.
    ///
    /// # Errors
    /// [`TpmError::Order`] where register or charter pin were not written yet: keys would name what is not there.
    pub fn make_keys(&mut self, roll_seed: &Secret<32>) -> Result<EmbassyKeys, TpmError> {
        let custody = self.custody.clone().ok_or(NOT_DEFINED)?;
        let attestation = self.foundation.attestation;
        let seed = Secret::take(&mut roll_seed.expose().clone());
        let keys = self.call(move |tpm| {
            for index in [&custody.register.public, &custody.charter_pin.public] {
                tpm.nv(&index.reference(), "register or charter pin").map_err(|error| match error {
                    TpmError::ObjectChanged { .. } => {
                        TpmError::Order("the quorum has not written register and charter pin yet")
                    }
                    other => other,
                })?;
            }
            tpm.make_keys(&custody, &attestation, &seed)
        })?;
        self.adopt(&keys)?;
        Ok(keys)
    }

    /// The generation counter's value; `None` before its first move.
    ///
    /// # Errors
    /// [`TpmError::ObjectChanged`] where it is not there.
    pub fn generation_counter(&self) -> Result<Option<u64>, TpmError> {
        let counter = self.counter()?.public;
        self.call(move |tpm| {
            let unwritten = NvReference { handle: counter.handle(), name: counter.name_before_first_write() };
            match tpm.nv(&unwritten, "the generation counter") {
                Ok(_) => return Ok(None),
                Err(TpmError::ObjectChanged { .. }) => {}
                Err(error) => return Err(error),
            }
            let bytes = tpm.nv_read(&counter.reference(), "the generation counter", COUNTER_BYTES)?;
            let bytes: [u8; 8] = bytes.as_slice().try_into().map_err(|_| TpmError::Altered { during: "NV_Read" })?;
            Ok(Some(u64::from_be_bytes(bytes)))
        })
    }

    /// The content of the platform register as the TPM has it.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn register_content(&self) -> Result<Vec<u8>, TpmError> {
        let register = self.custody()?.register.public;
        self.call(move |tpm| tpm.nv_read(&register.reference(), "the platform register", register.size()))
    }

    /// T's public point, for sealing.
    ///
    /// # Errors
    /// [`TpmError::Order`] before the keys are made.
    pub fn custody_point(&self) -> Result<Point, TpmError> {
        Ok(self.keys()?.custody.1)
    }

    /// The identity key's public point.
    ///
    /// # Errors
    /// [`TpmError::Order`] before the keys are made.
    pub fn identity_point(&self) -> Result<Point, TpmError> {
        Ok(self.keys()?.identity.1)
    }

    /// Every object's description.
    ///
    /// # Errors
    /// [`TpmError::Order`] before the counter has its first value.
    pub fn custody(&self) -> Result<&Custody, TpmError> {
        self.custody.as_ref().ok_or(NOT_DEFINED)
    }

    fn counter(&self) -> Result<Guarded<NvPublic>, TpmError> {
        self.plan.counter().map_err(|_| NO_LADDER)
    }

    fn keys(&self) -> Result<&Keys, TpmError> {
        self.keys.as_ref().ok_or(TpmError::Order("the keys are not made yet"))
    }

    /// Checks stored keys: each must be its template to the byte, born as the attestation key certified, and load.
    fn adopt(&mut self, stored: &EmbassyKeys) -> Result<(), TpmError> {
        let custody = self.plan.custody(stored.counter_first).map_err(|_| NO_LADDER)?;
        let check = |template: &KeyTemplate, object: &SealedObject, what| {
            let (point, name) =
                template.accept(&object.public).map_err(|_| TpmError::ObjectChanged { object: what })?;
            Ok::<_, TpmError>((object.clone(), point, name))
        };
        let roll = custody.roll_key.public.accept(&stored.roll.public);
        let roll = roll.map_err(|_| TpmError::ObjectChanged { object: "the roll key" })?;
        let keys = Keys {
            custody: check(&custody.custody_key.public, &stored.custody, "the custody key")?,
            identity: check(&custody.identity_key.public, &stored.identity, "the identity key")?,
            roll: (stored.roll.clone(), roll),
        };
        for (birth, name, object) in [
            (&stored.custody_birth, &keys.custody.2, "the custody key's birth"),
            (&stored.identity_birth, &keys.identity.2, "the identity key's birth"),
        ] {
            if !is_birth_of(birth, name, &self.foundation.attestation) {
                return Err(TpmError::ObjectChanged { object });
            }
        }
        let own = keys.clone();
        self.call(move |tpm| {
            tpm.load(&own.custody.0, &own.custody.2, "the custody key")?;
            tpm.load(&own.identity.0, &own.identity.2, "the identity key")?;
            tpm.load(&own.roll.0, &own.roll.1, "the roll key").map(|_| ())
        })?;
        self.custody = Some(custody);
        self.keys = Some(keys);
        Ok(())
    }

    fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Tpm2) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, TpmError> {
        self.owner.call(move |tpm| {
            // A TPM that was swapped under a running process causes odd errors; say so if that is it.
            job(tpm).map_err(|error| tpm.examine(error))
        })
    }

    fn plan(&self, order: &Order) -> Result<Plan, TpmError> {
        match order {
            Order::Decapsulate(point) => {
                let (object, _, name) = &self.keys()?.custody;
                Ok(Plan {
                    command: CommandHash::ecdh_zgen(name, point),
                    policy: self.custody()?.custody_key.policy.clone(),
                    target: Target::Decapsulate { key: object.clone(), name: *name, point: *point },
                })
            }
            Order::WriteRegister(content) => self.write(&self.custody()?.register, content.as_bytes(), true),
            Order::WriteCharterPin(charter) => self.write(&self.custody()?.charter_pin, charter.as_bytes(), false),
            Order::MoveGeneration => {
                let counter = self.counter()?;
                let index = self.current(&counter.public)?;
                let command = CommandHash::nv_increment(&index.name);
                Ok(Plan { command, policy: counter.policy, target: Target::Increment { index } })
            }
        }
    }

    fn write(&self, index: &Guarded<NvPublic>, content: &[u8], witness: bool) -> Result<Plan, TpmError> {
        let reference = self.current(&index.public)?;
        let command = CommandHash::nv_write(&reference.name, content)
            .map_err(|_| TpmError::Request("too much for one NV write"))?;
        let target = Target::Write { index: reference, content: content.to_vec(), witness };
        Ok(Plan { command, policy: index.policy.clone(), target })
    }

    /// The index under the Name it has now: another one before its first write.
    fn current(&self, public: &NvPublic) -> Result<NvReference, TpmError> {
        let public = *public;
        self.call(move |tpm| {
            let unwritten = NvReference { handle: public.handle(), name: public.name_before_first_write() };
            match tpm.nv(&unwritten, "an NV index") {
                Ok(_) => Ok(unwritten),
                Err(TpmError::ObjectChanged { .. }) => {
                    tpm.nv(&public.reference(), "an NV index").map(|_| public.reference())
                }
                Err(error) => Err(error),
            }
        })
    }
}

impl CustodyTpm for EmbassyTpm {
    fn begin(&self, orders: &[Order]) -> Result<Vec<ParkedCommand>, TpmError> {
        if orders.is_empty() || orders.len() > MAX_COMMANDS {
            return Err(TpmError::Request("a ceremony has one to eight TPM commands"));
        }
        let plans = orders.iter().map(|order| Ok((*order, self.plan(order)?))).collect::<Result<Vec<_>, TpmError>>()?;
        let count = plans.len();
        let sessions = self.call(move |tpm| {
            let mut sessions = Vec::new();
            for _ in 0..count {
                match ceremony::park(tpm) {
                    Ok(session) => sessions.push(session),
                    Err(error) => {
                        sessions.iter().for_each(|(place, _)| tpm.parking().discard(*place));
                        return Err(error);
                    }
                }
            }
            Ok(sessions)
        })?;
        ceremony::parked(&self.owner.settings().parking, plans, sessions)
    }

    fn finish(&self, command: &mut ParkedCommand) -> Result<Outcome, TpmError> {
        // Places are numbered by each service for itself: another one's command must not take the session of one of ours.
        if !command.is_parked_in(&self.owner.settings().parking) {
            return Err(TpmError::SessionLost);
        }
        if let Some(error) = command.too_few() {
            return Err(error);
        }
        let job = command.job();
        let (outcome, refused) = self.call(move |tpm| {
            let (outcome, refused) = ceremony::finish(tpm, &job);
            match outcome {
                // The owner adds when to retry.
                Err(gone @ TpmError::Gone { .. }) => Err(gone),
                outcome => Ok((outcome.map_err(|error| tpm.examine(error)), refused)),
            }
        })?;
        command.forget(&refused);
        outcome
    }
}

impl MachineTpm for EmbassyTpm {
    fn sign_as_embassy(&self, digest: &[u8; 32]) -> Result<[u8; 64], TpmError> {
        let (object, point, name) = self.keys()?.identity.clone();
        let policy = self.custody()?.identity_key.policy.clone();
        let digest = *digest;
        self.call(move |tpm| tpm.sign(&object, &name, &point, &policy, &digest))
    }

    fn roll_seed(&self) -> Result<Secret<32>, TpmError> {
        let (object, name) = self.keys()?.roll.clone();
        let policy = self.custody()?.roll_key.policy.clone();
        self.call(move |tpm| tpm.unseal(&object, &name, &policy))
    }

    fn read_pcrs(&self, selection: PcrSelection) -> Result<PcrValues, TpmError> {
        self.call(move |tpm| tpm.read_pcrs(selection))
    }

    fn clock(&self) -> Result<Clock, TpmError> {
        self.call(|tpm| tpm.clock())
    }

    fn charter_pin(&self) -> Result<Hash, TpmError> {
        let pin = self.custody()?.charter_pin.public;
        let bytes = self.call(move |tpm| tpm.nv_read(&pin.reference(), "the charter pin", pin.size()))?;
        let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| TpmError::Altered { during: "NV_Read" })?;
        Ok(Hash(bytes))
    }
}

const NO_LADDER: TpmError = TpmError::Request("the plan's officials and thresholds make no ladder");
const NOT_DEFINED: TpmError = TpmError::Order("register and charter pin are not defined yet");

fn connect(address: &TpmAddress, storage_root: Option<Point>) -> Owner<Tpm2> {
    let parking = Arc::new(Parking::default());
    Owner::new(Settings { tcti: address.tcti.clone(), storage_root, parking }, address.limits)
}
