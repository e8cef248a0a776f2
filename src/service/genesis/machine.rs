//! The TPM in a founding: sessions for what the officials approve, the doing of it, and the keys at the end.
//!
//! It is asked what it has done before anything is offered, so a crash between its doing and our saving repeats nothing.
//! The owner authorization lives in this process for as long as the founding, and on no disk here but encrypted.

use std::{
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rand_core::OsRng;

use crate::{
    hardware::{
        ApprovalRefusal, Attestation, CustodyTpm, EmbassyKeys, EmbassyTpm, Foundation, HierarchyAuth, MachineTpm,
        Order, ParkedCommand, Remedy, SealedObject, TpmAddress, TpmError,
    },
    protocol::{
        ceremony::genesis::{Board, Event, GenesisResult, Ground, ProvisioningOffer, Stage, Trouble, result::BornKey},
        group::Point,
        ids::QuorumKind,
        quorum::Position,
        secret::Secret,
        tpm::{approval::TpmApproval, pcr::RegisterContent},
        wire::Document,
    },
};

/// What a founding orders of its TPM. Each call takes as long as the TPM does.
pub trait Provisioning: Send {
    /// Whether approvals of the open offer would come too late: the TPM counts from the session's start.
    fn is_stale(&self) -> bool;

    /// Parks sessions for the next step, or finds that it is done.
    fn offer(&mut self, number: u32, registers: bool) -> Event;

    /// Does what was approved.
    fn order(&mut self, approvals: &[Vec<TpmApproval>]) -> Event;

    /// Makes the keys, or takes those that stand on the disk, and says what they are.
    fn make_keys(&mut self, board: &Board) -> Event;
}

/// The machine's side of a founding.
pub struct Machine {
    address: TpmAddress,
    ground: Ground,
    foundation: Foundation,
    owner: HierarchyAuth,
    keys: PathBuf,
    tpm: EmbassyTpm,
    parked: Vec<ParkedCommand>,
    offered: Option<Instant>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Machine({}, {} parked)", self.ground.plan.embassy, self.parked.len())
    }
}

impl Machine {
    /// Opens the TPM that home prepared. `keys` is where its keys will be stored, or stand already.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn open(
        address: TpmAddress,
        ground: Ground,
        foundation: Foundation,
        owner: HierarchyAuth,
        keys: &Path,
    ) -> Result<Self, TpmError> {
        let tpm = EmbassyTpm::open(&address, foundation, ground.plan.clone(), None)?;
        let keys = keys.to_owned();
        Ok(Self { address, ground, foundation, owner, keys, tpm, parked: Vec::new(), offered: None })
    }

    fn try_offer(&mut self, number: u32, registers: bool) -> Result<Event, TpmError> {
        let (stage, orders) = if registers {
            self.tpm.define_registers(&self.owner)?;
            let counter_first = self.tpm.custody()?.counter_first;
            let pcrs = self.tpm.read_pcrs(self.ground.plan.platform)?;
            let content = RegisterContent::of(self.ground.plan.platform, &pcrs)
                .map_err(|_| TpmError::Request("the platform's PCRs make no register content"))?;
            let register = written(self.tpm.register_content())?;
            let pin = written(self.tpm.charter_pin())?;
            let charter = self.ground.plan.charter;
            // The quorum of a running embassy moves the pin (protocol.md §10.6), and no founding moves it back.
            if pin.is_some_and(|pin| pin != charter.0) {
                return Err(TpmError::Order(
                    "the charter pin was moved to a later charter: this disk shows less than the TPM was told of. Tell the \
                     officials, and get the charters in force",
                ));
            }
            if register.as_deref() == Some(content.as_bytes()) && pin.is_some() {
                return Ok(Event::Ordered);
            }
            let (register_written, pin_written) = (register.is_some(), pin.is_some());
            let stage = Stage::Registers { counter_first, pcrs, register_written, pin_written };
            (stage, vec![Order::WriteRegister(content), Order::WriteCharterPin(charter.0)])
        } else {
            self.tpm.define_counter(&self.owner)?;
            if self.tpm.generation_counter()?.is_some() {
                return Ok(Event::Ordered);
            }
            (Stage::Counter, vec![Order::MoveGeneration])
        };
        self.parked = self.tpm.begin(&orders)?;
        self.offered = Some(Instant::now());
        let plan = &self.ground.plan;
        Ok(Event::Offered(Box::new(ProvisioningOffer {
            charter: plan.charter,
            embassy: plan.embassy.clone(),
            generation: plan.generation,
            number,
            storage_root: self.foundation.storage_root,
            attestation_key: self.foundation.attestation,
            stage,
            nonces: self.parked.iter().map(|command| command.request().nonce).collect(),
        })))
    }

    fn try_order(&mut self, approvals: &[Vec<TpmApproval>]) -> Result<(), TpmError> {
        if self.parked.len() != approvals.len() {
            return Err(TpmError::SessionLost);
        }
        for (command, approvals) in self.parked.iter_mut().zip(approvals) {
            for approval in approvals {
                // One that is there already is there; a wrong one the relay has refused.
                let _ = command.approve(approval.clone(), self.ground.expiry_max_seconds);
            }
            self.tpm.finish(command)?;
        }
        Ok(())
    }

    fn try_make_keys(&mut self, board: &Board) -> Result<GenesisResult, String> {
        let say = |error: &dyn std::fmt::Display| error.to_string();
        let keys = match std::fs::read(&self.keys) {
            Ok(bytes) => {
                let keys = EmbassyKeys::decode(&bytes).map_err(|error| say(&error))?;
                self.parked.clear();
                let plan = self.ground.plan.clone();
                // One connection to a TPM at a time.
                self.tpm =
                    EmbassyTpm::open(&self.address, self.foundation, plan, Some(&keys)).map_err(|error| say(&error))?;
                keys
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.tpm.define_registers(&self.owner).map_err(|error| say(&error))?;
                let keys = self.tpm.make_keys(&Secret::random(&mut OsRng)).map_err(|error| say(&error))?;
                store(&self.keys, &keys.encode()).map_err(|error| say(&error))?;
                keys
            }
            Err(error) => return Err(say(&error)),
        };
        let points = (self.tpm.custody_point(), self.tpm.identity_point());
        let (custody_key, identity_key) = match points {
            (Ok(custody), Ok(identity)) => (custody, identity),
            (Err(error), _) | (_, Err(error)) => return Err(say(&error)),
        };
        let pcrs = self.tpm.read_pcrs(self.ground.plan.platform).map_err(|error| say(&error))?;
        let certificate = |kind: QuorumKind| board.run(kind).made().map(|made| made.recovery.certificate().clone());
        let certificates = match (certificate(QuorumKind::Unseal), certificate(QuorumKind::Recovery)) {
            (Some(unseal), Some(recovery)) if !board.keys_chartered() => Some((unseal, recovery)),
            _ => None,
        };
        Ok(GenesisResult {
            charter: self.ground.plan.charter,
            under: board.charter().hash(),
            embassy: self.ground.plan.embassy.clone(),
            generation: self.ground.plan.generation,
            certificates,
            storage_root: self.foundation.storage_root,
            attestation_key: self.foundation.attestation,
            counter_first: keys.counter_first,
            pcrs,
            custody_key: born(custody_key, &keys.custody, &keys.custody_birth.certified),
            identity_key: born(identity_key, &keys.identity, &keys.identity_birth.certified),
        })
    }
}

impl Provisioning for Machine {
    fn is_stale(&self) -> bool {
        // A little before, so that nobody is asked for an approval that dies on the way.
        let life = Duration::from_secs(u64::from(self.ground.expiry_max_seconds));
        self.offered.is_some_and(|offered| offered.elapsed() > life.saturating_sub(life / 10))
    }

    fn offer(&mut self, number: u32, registers: bool) -> Event {
        self.parked.clear();
        self.offered = None;
        match self.try_offer(number, registers) {
            Ok(event) => event,
            Err(error) => Event::NotOffered { why: error.to_string() },
        }
    }

    fn order(&mut self, approvals: &[Vec<TpmApproval>]) -> Event {
        let done = self.try_order(approvals);
        match done {
            Ok(()) => {
                self.parked.clear();
                self.offered = None;
                Event::Ordered
            }
            Err(error) => Event::NotOrdered(trouble(&error)),
        }
    }

    fn make_keys(&mut self, board: &Board) -> Event {
        match self.try_make_keys(board) {
            Ok(result) => Event::Born(Box::new(result)),
            Err(why) => Event::NotBorn { why },
        }
    }
}

fn born(point: Point, _: &SealedObject, certified: &Attestation) -> BornKey {
    BornKey { point, statement: certified.statement.clone(), signature: certified.signature }
}

/// What an NV index holds; `None` before its first write.
fn written<T>(read: Result<T, TpmError>) -> Result<Option<T>, TpmError> {
    match read {
        Ok(content) => Ok(Some(content)),
        Err(TpmError::ObjectChanged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn trouble(error: &TpmError) -> Trouble {
    let why = error.to_string();
    if let TpmError::TooFewApprovals { refused, .. } = error
        && !refused.is_empty()
        // All were given for the longest time there is: where one has run out, no new one in this session would live.
        && refused.iter().all(|refused| refused.refusal != ApprovalRefusal::Expired)
    {
        let refused: Vec<(Position, String)> =
            refused.iter().map(|refused| (refused.official, refused.refusal.to_string())).collect();
        return Trouble::Refused(refused);
    }
    match error.remedy() {
        Remedy::Retry => Trouble::Retry { why },
        Remedy::FreshApprovals | Remedy::OtherApprovals | Remedy::Examine => Trouble::FreshApprovals { why },
    }
}

/// Writes the keys whole or not at all.
fn store(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}
