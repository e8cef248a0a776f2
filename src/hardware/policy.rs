//! Runs an object's policy on a session: the same [`PolicyStep`]s whose digest the protocol computed.

use std::time::Duration;

use tss_esapi::{
    interface_types::{ArithmeticComparison, reserved_handles::Hierarchy, session_handles::AuthSession},
    structures::{Digest, DigestList, Nonce},
};

use crate::{
    hardware::{
        convert,
        device::Tpm2,
        error::{ApprovalRefusal, RefusedApproval, TpmError},
        line::{BARE, Session, Sessions},
    },
    protocol::{
        quorum::Position,
        tpm::{
            approval::{ApprovalRequest, TpmApproval},
            nv::NvReference,
            object::OfficialKey,
            policy::{PolicyDigest, PolicyStep},
        },
    },
};

/// The empty authorization of an NV index that everyone may read. Its answer is a claim, and needs no session: the TPM
/// itself judges the policy at the end.
const OPEN: Sessions = (Some(AuthSession::Password), None, None);

/// Why a policy did not run to its end.
pub(crate) enum StepError {
    /// The TPM refused one official's approval; others may still serve.
    Approval(RefusedApproval),
    /// Anything else.
    Tpm(TpmError),
}

impl From<TpmError> for StepError {
    fn from(error: TpmError) -> Self {
        Self::Tpm(error)
    }
}

/// The approvals that a session runs with.
pub(crate) struct Approvals<'a> {
    pub(crate) request: &'a ApprovalRequest,
    pub(crate) given: &'a [TpmApproval],
}

impl Tpm2 {
    /// Runs every step, in order.
    pub(crate) fn run_policy(
        &self,
        session: &Session,
        steps: &[PolicyStep],
        approvals: Option<&Approvals<'_>>,
    ) -> Result<(), StepError> {
        for step in steps {
            match step {
                PolicyStep::ApprovedPlatform { selection, register } => {
                    self.approved_platform(session, convert::platform(*selection)?, register)?;
                }
                PolicyStep::CounterEquals { counter, value } => self.counter_equals(session, counter, *value)?,
                PolicyStep::Signed { position, key, .. } => self.signed(session, *position, key, approvals)?,
                PolicyStep::Or { branches } => self.either(session, branches)?,
            }
        }
        Ok(())
    }

    fn approved_platform(
        &self,
        session: &Session,
        selection: tss_esapi::structures::PcrSelectionList,
        register: &NvReference,
    ) -> Result<(), TpmError> {
        let policy = session.policy()?;
        self.line.run("PolicyPCR", BARE, |context| context.policy_pcr(policy, Digest::default(), selection))?;
        let register = self.nv(register, "the platform register")?;
        let allowed = self.line.run("PolicyAuthorizeNV", OPEN, |context| {
            context.policy_authorize_nv(policy, register.auth(), register.handle())
        });
        match allowed {
            // TPM_RC_VALUE: the session's digest is not the register's content (Part 3, 23.22).
            Err(TpmError::Refused { .. } | TpmError::PolicyRefused { .. }) => Err(TpmError::PlatformRefused),
            other => other,
        }
    }

    fn counter_equals(&self, session: &Session, counter: &NvReference, value: u64) -> Result<(), TpmError> {
        let policy = session.policy()?;
        let operand = Digest::from_bytes(&value.to_be_bytes()).map_err(|_| TpmError::Request("no counter value"))?;
        let counter = self.nv(counter, "the generation counter")?;
        let equal = self.line.run("PolicyNV", OPEN, |context| {
            context.policy_nv(policy, counter.auth(), counter.handle(), operand, 0, ArithmeticComparison::Eq)
        });
        match equal {
            Err(TpmError::PolicyRefused { .. }) => Err(TpmError::GenerationEnded),
            other => other,
        }
    }

    fn signed(
        &self,
        session: &Session,
        official: Position,
        key: &OfficialKey,
        approvals: Option<&Approvals<'_>>,
    ) -> Result<(), StepError> {
        let policy = session.policy()?;
        let approvals = approvals.ok_or(TpmError::Request("this policy asks officials, and none were asked"))?;
        let approval = approvals.given.iter().find(|approval| approval.position() == official);
        let approval = approval.ok_or(TpmError::Request("an approval that was counted is missing"))?;
        let request = approvals.request;

        let area = convert::public(&key.marshal())?;
        let key = self.line.load("LoadExternal", BARE, |context| context.load_external(None, area, Hierarchy::Null))?;
        let (r, s) = approval.r_s();
        let signature = convert::ecdsa(&r, &s)?;
        let bytes = |bytes: &[u8; 32]| Nonce::from_bytes(bytes).map_err(|_| TpmError::Request("no nonce"));
        let (nonce, policy_ref) = (bytes(request.nonce.as_bytes())?, bytes(request.policy_ref.as_bytes())?);
        let command = Digest::from_bytes(request.command.as_bytes()).map_err(|_| TpmError::Request("no cpHash"))?;
        let expiry = Duration::from_secs(u64::from(approval.expiry_seconds()));
        let taken = self.line.run("PolicySigned", BARE, |context| {
            context.policy_signed(policy, key.handle().into(), nonce, command, policy_ref, Some(expiry), signature)
        });
        match taken {
            Ok(_) => Ok(()),
            // It verified in software, so what is left is its age, by the TPM's clock; or the TPM is not telling the truth.
            Err(TpmError::Expired { .. }) => {
                Err(StepError::Approval(RefusedApproval { official, refusal: ApprovalRefusal::Expired }))
            }
            Err(TpmError::Refused { .. } | TpmError::PolicyRefused { .. }) => {
                Err(StepError::Approval(RefusedApproval { official, refusal: ApprovalRefusal::ByTpm }))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn either(&self, session: &Session, branches: &[PolicyDigest; 2]) -> Result<(), TpmError> {
        let policy = session.policy()?;
        let mut list = DigestList::new();
        for branch in branches {
            let digest = Digest::from_bytes(branch.as_bytes()).map_err(|_| TpmError::Request("no digest"))?;
            list.add(digest).map_err(|_| TpmError::Request("too many digests"))?;
        }
        self.line.run("PolicyOR", BARE, |context| context.policy_or(policy, list))
    }

    /// Starts the session's policy over; nonce and salt stay, so approvals stay good.
    pub(crate) fn restart_policy(&self, session: &Session) -> Result<(), TpmError> {
        let policy = session.policy()?;
        self.line.run("PolicyRestart", BARE, |context| context.policy_restart(policy))
    }
}
