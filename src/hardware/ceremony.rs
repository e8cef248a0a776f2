//! Commands that the quorum orders: begun with a parked session each, approved over hours or days, finished at the end.
//!
//! protocol.md §9. A command's session is started, salted with the pinned storage root key; its nonce is authenticated by
//! one use as the encrypting session of TPM2_GetRandom; then it is saved out of the TPM's few slots. The officials sign for
//! that nonce. Each approval is checked when it arrives, so a bad one is refused by name and the others still count. At the
//! end the session is loaded, the policy runs, and the command with it.

use std::sync::Arc;

use tss_esapi::{
    constants::SessionType,
    handles::{KeyHandle, PcrHandle},
    interface_types::{algorithm::HashingAlgorithm, session_handles::AuthSession},
    structures::{Digest, DigestValues, MaxNvBuffer},
};

use crate::{
    hardware::{
        convert,
        device::{Parking, Tpm2},
        error::{ApprovalRefusal, RefusedApproval, TpmError},
        line::{BARE, Session},
        policy::{Approvals, StepError},
        state::SealedObject,
    },
    protocol::{
        group::Point,
        hash::Hash,
        quorum::{Position, Threshold},
        secret::SharedPoint,
        tpm::{
            approval::{ApprovalError, ApprovalRequest, CommandHash, TpmApproval, TpmNonce},
            name::Name,
            nv::NvReference,
            pcr::RegisterContent,
            policy::Policy,
        },
    },
};

/// The most commands of one ceremony: one per dataset.
pub const MAX_COMMANDS: usize = 8;

/// The most sessions parked at once. TPMs hold 64 active sessions; some are needed to work.
pub const MAX_PARKED: usize = 48;

/// The PCR that is extended after a register write: outside every register's selection, and it moves pcrUpdateCounter, so
/// that a session which had passed the old register must pass the new one (D§4.2).
const WITNESS_PCR: PcrHandle = PcrHandle::Pcr15;

/// What a quorum can order of the TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// T times this point.
    Decapsulate(Point),
    /// Write the platform register.
    WriteRegister(RegisterContent),
    /// Write the charter pin: the hash of the charter that the TPM is told of.
    WriteCharterPin(Hash),
    /// Increment the generation counter: the first time it starts a generation, the second time it ends it.
    MoveGeneration,
}

/// What came of an order.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Z_T.
    Shared(SharedPoint),
    /// Written or moved.
    Done,
}

/// How a command's approvals stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Good approvals by different officials.
    pub good: u8,
    /// How many are needed.
    pub needed: u8,
}

impl Standing {
    /// Whether the command can be finished.
    pub const fn is_quorate(self) -> bool {
        self.good >= self.needed
    }
}

/// The command behind an order, with everything the owner thread needs.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) command: CommandHash,
    pub(crate) policy: Policy,
    pub(crate) target: Target,
}

#[derive(Clone)]
pub(crate) enum Target {
    Decapsulate { key: SealedObject, name: Name, point: Point },
    Write { index: NvReference, content: Vec<u8>, witness: bool },
    Increment { index: NvReference },
}

/// A command whose session is parked in the TPM and waits for approvals. Dropping it gives the session back.
pub struct ParkedCommand {
    place: u64,
    parking: Arc<Parking>,
    order: Order,
    plan: Plan,
    request: ApprovalRequest,
    keys: Vec<Point>,
    threshold: Threshold,
    approvals: Vec<TpmApproval>,
}

impl std::fmt::Debug for ParkedCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Standing { good, needed } = self.standing();
        write!(f, "ParkedCommand({:?}, {good} of {needed} approvals)", self.order)
    }
}

impl Drop for ParkedCommand {
    fn drop(&mut self) {
        self.parking.discard(self.place);
    }
}

impl ParkedCommand {
    /// What was ordered.
    pub const fn order(&self) -> &Order {
        &self.order
    }

    /// What each official is to sign: the authenticated nonce, the command, the policyRef.
    pub const fn request(&self) -> &ApprovalRequest {
        &self.request
    }

    /// Takes an official's approval, once it is checked.
    ///
    /// # Errors
    /// [`RefusedApproval`], with the official and the reason; nothing that was taken before is lost.
    pub fn approve(&mut self, approval: TpmApproval, expiry_seconds_max: u32) -> Result<Standing, RefusedApproval> {
        let official = approval.position();
        let refused = |refusal| RefusedApproval { official, refusal };
        let key = usize::from(official.get()).checked_sub(1).and_then(|index| self.keys.get(index));
        let key = key.ok_or(refused(ApprovalRefusal::NoSuchOfficial))?;
        if self.approvals.iter().any(|earlier| earlier.position() == official) {
            return Err(refused(ApprovalRefusal::Repeated));
        }
        approval.verify(&self.request, key, expiry_seconds_max).map_err(|error| match error {
            ApprovalError::Expiry { .. } => refused(ApprovalRefusal::Expiry),
            ApprovalError::OtherCommand { .. } => refused(ApprovalRefusal::OtherCommand),
            _ => refused(ApprovalRefusal::Signature),
        })?;
        self.approvals.push(approval);
        Ok(self.standing())
    }

    /// Lets go of every approval that was taken: who finishes it brings all that are to count, and the TPM sees no other. Somebody
    /// may have voted against it since.
    pub fn withdraw(&mut self) {
        self.approvals.clear();
    }

    /// How many good approvals there are.
    pub fn standing(&self) -> Standing {
        let good = u8::try_from(self.approvals.len()).unwrap_or(u8::MAX);
        Standing { good, needed: self.threshold.k() }
    }

    pub(crate) fn is_parked_in(&self, parking: &Arc<Parking>) -> bool {
        Arc::ptr_eq(&self.parking, parking)
    }

    pub(crate) fn too_few(&self) -> Option<TpmError> {
        let Standing { good, needed } = self.standing();
        (good < needed).then(|| TpmError::TooFewApprovals { needed, valid: good, refused: Vec::new() })
    }

    pub(crate) fn forget(&mut self, refused: &[RefusedApproval]) {
        self.approvals.retain(|approval| refused.iter().all(|refused| refused.official != approval.position()));
    }

    pub(crate) fn job(&self) -> Finish {
        Finish {
            place: self.place,
            plan: self.plan.clone(),
            request: self.request,
            approvals: self.approvals.clone(),
            threshold: self.threshold,
        }
    }
}

/// What the owner thread needs to finish a command.
pub(crate) struct Finish {
    place: u64,
    plan: Plan,
    request: ApprovalRequest,
    approvals: Vec<TpmApproval>,
    threshold: Threshold,
}

/// Starts, authenticates and parks one session.
pub(crate) fn park(device: &Tpm2) -> Result<(u64, TpmNonce), TpmError> {
    if device.parking().len() >= MAX_PARKED {
        return Err(TpmError::TooManyParked { parked: device.parking().len() });
    }
    let session = device.session(SessionType::Policy, false, true)?;
    // protocol.md §9.2: the answer to StartAuthSession carries no HMAC. This one does, under a key that only the TPM with
    // the pinned storage root key can derive, and it covers the rolled nonce.
    device.line.run("GetRandom", (session.auth(), None, None), |context| context.get_random(32))?;
    let nonce = TpmNonce::from_bytes(&session.nonce()?).map_err(|_| TpmError::Altered { during: "GetRandom" })?;
    let saved = session.park()?;
    Ok((device.parking().put(saved), nonce))
}

/// Binds parked sessions to their commands.
pub(crate) fn parked(
    parking: &Arc<Parking>,
    orders: Vec<(Order, Plan)>,
    sessions: Vec<(u64, TpmNonce)>,
) -> Result<Vec<ParkedCommand>, TpmError> {
    orders
        .into_iter()
        .zip(sessions)
        .map(|((order, plan), (place, nonce))| {
            let ladder = plan.policy.ladder().ok_or(TpmError::Request("this object's policy asks nobody"))?;
            let request = ApprovalRequest { nonce, command: plan.command, policy_ref: *ladder.policy_ref() };
            let keys = ladder.keys().iter().map(|key| *key.point()).collect();
            let threshold = ladder.threshold();
            let parking = Arc::clone(parking);
            Ok(ParkedCommand { place, parking, order, plan, request, keys, threshold, approvals: Vec::new() })
        })
        .collect()
}

/// Loads the session, runs the policy and the command. The second value names approvals that the TPM refused on the way.
pub(crate) fn finish(device: &Tpm2, finish: &Finish) -> (Result<Outcome, TpmError>, Vec<RefusedApproval>) {
    let mut refused = Vec::new();
    let Some(saved) = device.parking().look(finish.place) else { return (Err(TpmError::SessionLost), refused) };
    let session = match device.line.load_session(saved) {
        Ok(session) => session,
        // A reset, or a gap in the TPM's counting of contexts: it knows the session no more. Should it know it after all, it
        // must not stay.
        Err(TpmError::Refused { .. }) => {
            device.parking().remove(finish.place);
            device.line.mark_littered();
            return (Err(TpmError::SessionLost), refused);
        }
        // Not now, or nobody knows: where it is parked still, the next try finds it.
        Err(error) => return (Err(error), refused),
    };
    device.parking().remove(finish.place);
    let outcome = climb(device, &session, finish, &mut refused);
    let spent = match &outcome {
        Ok(_) | Err(TpmError::Gone { .. } | TpmError::Altered { .. } | TpmError::Unwitnessed) => true,
        // The TPM never ran the command, so the session's nonce is what the officials signed: keep it for another try.
        Err(_) => device.restart_policy(&session).is_err(),
    };
    if !spent && let Ok(saved) = session.park() {
        device.parking().put_back(finish.place, saved);
    }
    (outcome, refused)
}

/// Tries the first k approvals in order of position; where the TPM refuses one, goes on with the next official's.
fn climb(
    device: &Tpm2,
    session: &Session,
    finish: &Finish,
    refused: &mut Vec<RefusedApproval>,
) -> Result<Outcome, TpmError> {
    let needed = finish.threshold.k();
    let mut may_expire = true;
    loop {
        let mut approvers: Vec<Position> = finish
            .approvals
            .iter()
            .map(TpmApproval::position)
            .filter(|position| refused.iter().all(|refused| refused.official != *position))
            .collect();
        approvers.sort_unstable();
        let valid = u8::try_from(approvers.len()).unwrap_or(u8::MAX);
        approvers.truncate(usize::from(needed));
        let steps = finish.plan.policy.steps(&approvers).map_err(|_| TpmError::TooFewApprovals {
            needed,
            valid,
            refused: refused.clone(),
        })?;
        let approvals = Approvals { request: &finish.request, given: &finish.approvals };
        match device.run_policy(session, &steps, Some(&approvals)) {
            Ok(()) => match execute(device, session, &finish.plan.target) {
                // Taken at its rung, and over its time when the command came. Once more, and the TPM says whose it was.
                Err(TpmError::Expired { .. }) if may_expire => may_expire = false,
                outcome => return outcome,
            },
            Err(StepError::Approval(approval)) => refused.push(approval),
            Err(StepError::Tpm(error)) => return Err(error),
        }
        device.restart_policy(session)?;
    }
}

fn execute(device: &Tpm2, session: &Session, target: &Target) -> Result<Outcome, TpmError> {
    let sessions = (session.auth(), None, None);
    match target {
        Target::Decapsulate { key, name, point } => {
            let key = device.load(key, name, "the custody key")?;
            let point = convert::ecc_point(point)?;
            let shared = device.line.run("ECDH_ZGen", sessions, |context| context.ecdh_z_gen(key.handle(), point))?;
            let shared = convert::shared_point(&shared).map(Outcome::Shared);
            device.line.overwrite_answer();
            shared
        }
        Target::Write { index, content, witness } => {
            // NV_Write's answer has nothing to encrypt, and a TPM refuses the attribute then.
            session.set(false, false, false)?;
            let data = MaxNvBuffer::from_bytes(content).map_err(|_| TpmError::Request("too much for one NV write"))?;
            let known = device.nv(index, "the NV index to write")?;
            device.line.run("NV_Write", sessions, |context| context.nv_write(known.auth(), known.handle(), data, 0))?;
            if *witness {
                extend_witness(device, content).map_err(|_| TpmError::Unwitnessed)?;
            }
            Ok(Outcome::Done)
        }
        Target::Increment { index } => {
            session.set(false, false, false)?;
            let known = device.nv(index, "the generation counter")?;
            device.line.run("NV_Increment", sessions, |context| context.nv_increment(known.auth(), known.handle()))?;
            Ok(Outcome::Done)
        }
    }
}

fn extend_witness(device: &Tpm2, content: &[u8]) -> Result<(), TpmError> {
    let digest = Hash::of_bytes(content);
    let digest = Digest::from_bytes(digest.as_bytes()).map_err(|_| TpmError::Request("no digest"))?;
    let mut digests = DigestValues::new();
    digests.set(HashingAlgorithm::Sha256, digest);
    device.line.run("PCR_Extend", (Some(AuthSession::Password), None, None), |context| {
        context.pcr_extend(WITNESS_PCR, digests)
    })
}

impl Tpm2 {
    /// Loads a sealed object and checks that it is the one meant.
    pub(crate) fn load(
        &self,
        object: &SealedObject,
        name: &Name,
        what: &'static str,
    ) -> Result<crate::hardware::line::Loaded, TpmError> {
        use tss_esapi::{structures::Private, traits::UnMarshall};
        let public = convert::public(&object.public)?;
        let private = Private::unmarshall(&object.private).map_err(|_| TpmError::ObjectChanged { object: what })?;
        let parent: KeyHandle = self.storage_root()?;
        let session = self.session(SessionType::Hmac, false, false)?;
        let loaded =
            self.line.load("Load", (session.auth(), None, None), |context| context.load(parent, private, public));
        let loaded = loaded.map_err(|error| match error {
            // TPM_RC_INTEGRITY: sealed to another TPM, or altered.
            TpmError::Refused { .. } => TpmError::ObjectChanged { object: what },
            other => other,
        })?;
        let found = self.line.run("object's Name", BARE, |context| context.tr_get_name(loaded.handle().into()))?;
        if found.value() == name.as_bytes() { Ok(loaded) } else { Err(TpmError::ObjectChanged { object: what }) }
    }
}
