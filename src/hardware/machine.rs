//! What the embassy does day and night, without asking anyone, as long as its boot state is the approved one; and what it
//! can observe of its own TPM.

use std::collections::BTreeMap;

use tss_esapi::{
    constants::SessionType,
    structures::{Digest, PcrSlot, SignatureScheme},
};

use crate::{
    hardware::{convert, device::Tpm2, error::TpmError, line::Session, policy::StepError, state::SealedObject},
    protocol::{
        group::Point,
        secret::Secret,
        tpm::{
            name::Name,
            pcr::{PcrSelection, PcrValues},
            policy::Policy,
        },
    },
};

/// The TPM's clock and counters (TPM2_ReadClock).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds that the TPM has been powered, ever.
    pub milliseconds: u64,
    /// TPM resets since the last TPM2_Clear.
    pub reset_count: u32,
    /// Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// Whether no higher value of the clock may have been seen before.
    pub safe: bool,
}

impl Tpm2 {
    /// A policy session that has passed a policy which asks only the machine.
    fn passed(&self, policy: &Policy, encrypt: bool) -> Result<Session, TpmError> {
        let session = self.session(SessionType::Policy, false, encrypt)?;
        let steps = policy.steps(&[]).map_err(|_| TpmError::Request("this object's policy asks officials"))?;
        self.run_policy(&session, &steps, None).map_err(|error| match error {
            StepError::Tpm(error) => error,
            StepError::Approval(_) => TpmError::Request("this object's policy asks officials"),
        })?;
        Ok(session)
    }

    pub(crate) fn sign(
        &self,
        key: &SealedObject,
        name: &Name,
        point: &Point,
        policy: &Policy,
        digest: &[u8; 32],
    ) -> Result<[u8; 64], TpmError> {
        // Loaded first: the policy is then as fresh as can be when it is used.
        let key = self.load(key, name, "the identity key")?;
        let session = self.passed(policy, false)?;
        let hash = Digest::from_bytes(digest).map_err(|_| TpmError::Request("no digest"))?;
        let signature = self.line.run("Sign", (session.auth(), None, None), |context| {
            context.sign(key.handle(), hash, SignatureScheme::Null, None)
        })?;
        let signature = convert::r_s(&signature, "Sign")?;
        verify(point, digest, &signature, "Sign")?;
        Ok(signature)
    }

    pub(crate) fn unseal(&self, object: &SealedObject, name: &Name, policy: &Policy) -> Result<Secret<32>, TpmError> {
        let object = self.load(object, name, "the roll key")?;
        let session = self.passed(policy, true)?;
        let data =
            self.line.run("Unseal", (session.auth(), None, None), |context| context.unseal(object.handle().into()))?;
        Secret::from_slice(data.as_bytes()).ok_or(TpmError::Altered { during: "Unseal" })
    }

    pub(crate) fn read_pcrs(&self, selection: PcrSelection) -> Result<PcrValues, TpmError> {
        let session = self.audit_session()?;
        // A second round only where a PCR moved in between; a third would be a machine that does nothing else.
        for _ in 0..3 {
            if let Some(values) = self.read_pcrs_once(&session, selection)? {
                return Ok(values);
            }
        }
        Err(TpmError::NotNow { during: "PCR_Read" })
    }

    /// `None` where a PCR was extended between two commands, so that the values belong to no one moment.
    fn read_pcrs_once(&self, session: &Session, selection: PcrSelection) -> Result<Option<PcrValues>, TpmError> {
        let altered = || TpmError::Altered { during: "PCR_Read" };
        let mut values = BTreeMap::new();
        let mut moment = None;
        loop {
            let missing: Vec<u8> = selection.pcrs().filter(|pcr| !values.contains_key(pcr)).collect();
            if missing.is_empty() {
                return Ok(Some(values));
            }
            let ask = convert::selection(missing.into_iter())?;
            let (counter, got, digests) =
                self.line.run("PCR_Read", (session.auth(), None, None), |context| context.pcr_read(ask))?;
            if *moment.get_or_insert(counter) != counter {
                return Ok(None);
            }
            let slots = got.get_selections().iter().flat_map(|bank| bank.selected());
            let pcrs: Vec<u8> = slots.filter_map(pcr_number).collect();
            if pcrs.is_empty() || pcrs.len() != digests.value().len() {
                return Err(altered());
            }
            for (pcr, digest) in pcrs.into_iter().zip(digests.value()) {
                let value: [u8; 32] = digest.as_bytes().try_into().map_err(|_| altered())?;
                if !selection.contains(pcr) || values.insert(pcr, value).is_some() {
                    return Err(altered());
                }
            }
        }
    }

    pub(crate) fn clock(&self) -> Result<Clock, TpmError> {
        let session = self.audit_session()?;
        let time = self.line.run("ReadClock", (session.auth(), None, None), |context| context.read_clock())?;
        let clock = time.clock_info();
        Ok(Clock {
            milliseconds: clock.clock(),
            reset_count: clock.reset_count(),
            restart_count: clock.restart_count(),
            safe: clock.safe(),
        })
    }
}

fn pcr_number(slot: PcrSlot) -> Option<u8> {
    u8::try_from(u32::from(slot).trailing_zeros()).ok().filter(|pcr| *pcr < crate::protocol::tpm::pcr::PCR_COUNT)
}

/// Checks what the TPM signed: a signature that the bus spoiled must not travel on.
pub(crate) fn verify(
    point: &Point,
    digest: &[u8; 32],
    signature: &[u8; 64],
    during: &'static str,
) -> Result<(), TpmError> {
    use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
    let altered = |_| TpmError::Altered { during };
    let signature = Signature::from_slice(signature).map_err(altered)?;
    VerifyingKey::from_affine(*point.affine()).and_then(|key| key.verify_prehash(digest, &signature)).map_err(altered)
}
