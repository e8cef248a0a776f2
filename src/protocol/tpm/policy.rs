//! Policy digests, and the steps that lead a session to one (TPM 2.0 Part 1, 19.7 and Part 3, 23).
//!
//! An object's policy is a list of [`PolicyStep`]s and, where people must agree, a [`Ladder`]. The digest is computed from
//! that list here; the hardware runs the same list on a session, and arrives at the same digest only if every step held.

use crate::protocol::{
    hash::Hash,
    ids::{CharterId, EmbassyName, Generation},
    label::Label,
    quorum::Position,
    tpm::{
        cc,
        ladder::{Ladder, LadderError},
        name::Name,
        nv::NvReference,
        object::OfficialKey,
        pcr::PcrSelection,
        sha256,
    },
    wire::{Reader, Wire, WireError, Writer},
};

/// TPM_EO_EQ: operands are equal (TPM 2.0 Part 2, 6.8).
const EO_EQ: u16 = 0x0000;

/// What a quorum's signatures on a TPM command are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Using the custody key.
    Unseal,
    /// Writing the platform register or the charter pin, or moving the generation counter.
    Amend,
}

impl Wire for Purpose {
    fn write(&self, out: &mut Writer) {
        out.u8(match self {
            Self::Unseal => 1,
            Self::Amend => 2,
        });
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        match input.u8("purpose")? {
            1 => Ok(Self::Unseal),
            2 => Ok(Self::Amend),
            _ => Err(WireError::Invalid { field: "purpose", reason: "neither unseal (1) nor amend (2)" }),
        }
    }
}

/// The policyRef of every PolicySigned of one ladder: 32 bytes, always.
///
/// Without it the registers of two embassies would have the same Name, and an approval for one would do for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PolicyRef(Hash);

impl PolicyRef {
    /// protocol.md §8.2: H(label ‖ purpose ‖ charter ‖ embassy ‖ generation).
    pub fn new(purpose: Purpose, charter: CharterId, embassy: &EmbassyName, generation: Generation) -> Self {
        Self(Hash::of(Label::POLICY_REF, |out| {
            out.value(&purpose).value(&charter).value(embassy).value(&generation);
        }))
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

/// The policyDigest of a session or object.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyDigest([u8; 32]);

impl PolicyDigest {
    /// Where every session starts.
    pub const ZERO: Self = Self([0; 32]);

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// TPM2_PolicyPCR.
    #[must_use]
    pub fn pcr(&self, selection: PcrSelection, pcr_digest: &[u8; 32]) -> Self {
        self.extend(cc::POLICY_PCR, &[&selection.marshal(), pcr_digest])
    }

    /// TPM2_PolicyAuthorizeNV: whatever came before must equal the index's content, and is replaced.
    pub fn authorize_nv(register: &Name) -> Self {
        Self::ZERO.extend(cc::POLICY_AUTHORIZE_NV, &[register.as_bytes()])
    }

    /// TPM2_PolicyNV: the counter equals `value`.
    #[must_use]
    pub fn nv_equals(&self, counter: &Name, value: u64) -> Self {
        let offset = 0u16.to_be_bytes();
        let arguments = sha256(&[&value.to_be_bytes(), &offset, &EO_EQ.to_be_bytes()]);
        self.extend(cc::POLICY_NV, &[&arguments, counter.as_bytes()])
    }

    /// TPM2_PolicySigned: S(d) = H(H(d ‖ CC ‖ Name) ‖ policyRef).
    #[must_use]
    pub fn signed(&self, official: &Name, policy_ref: &PolicyRef) -> Self {
        let inner = self.extend(cc::POLICY_SIGNED, &[official.as_bytes()]);
        Self(sha256(&[&inner.0, policy_ref.as_bytes()]))
    }

    /// TPM2_PolicyOR over two branches: starts again from zero.
    #[must_use]
    pub fn or(branches: &[Self; 2]) -> Self {
        let [first, second] = branches;
        Self::ZERO.extend(cc::POLICY_OR, &[&first.0, &second.0])
    }

    fn extend(&self, command: u32, arguments: &[&[u8]]) -> Self {
        let command = command.to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![&self.0, &command];
        parts.extend_from_slice(arguments);
        Self(sha256(&parts))
    }
}

impl std::fmt::Debug for PolicyDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PolicyDigest(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

impl Wire for PolicyDigest {
    fn write(&self, out: &mut Writer) {
        out.raw(&self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.array("policy digest").map(Self)
    }
}

/// One thing a session must show, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyStep {
    /// TPM2_PolicyPCR over these PCRs as they are now, then TPM2_PolicyAuthorizeNV: the state is the one in the register.
    ///
    /// One step, because the second command replaces what the first made of the digest: neither stands alone.
    ApprovedPlatform {
        /// The PCRs the register covers.
        selection: PcrSelection,
        /// The register.
        register: NvReference,
    },
    /// TPM2_PolicyNV, offset 0, TPM_EO_EQ: the generation has not ended.
    CounterEquals {
        /// The generation counter.
        counter: NvReference,
        /// The value it must have, as 8 bytes big-endian.
        value: u64,
    },
    /// TPM2_PolicySigned by this official, for this session and command.
    Signed {
        /// The official's place.
        position: Position,
        /// The key to load.
        key: OfficialKey,
        /// The policyRef.
        policy_ref: PolicyRef,
    },
    /// TPM2_PolicyOR: the session has come by one of two ways.
    Or {
        /// The digests of both ways, in order: the official was skipped; the official signed.
        branches: [PolicyDigest; 2],
    },
}

impl PolicyStep {
    /// The session's digest after this step; `None` where the TPM would refuse it, which only an `Or` does.
    pub fn apply(&self, before: PolicyDigest) -> Option<PolicyDigest> {
        match self {
            Self::ApprovedPlatform { register, .. } => Some(PolicyDigest::authorize_nv(&register.name)),
            Self::CounterEquals { counter, value } => Some(before.nv_equals(&counter.name, *value)),
            Self::Signed { key, policy_ref, .. } => Some(before.signed(key.name(), policy_ref)),
            Self::Or { branches } => branches.contains(&before).then(|| PolicyDigest::or(branches)),
        }
    }
}

/// An object's whole policy: what the machine must show, then who must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    machine: Vec<PolicyStep>,
    ladder: Option<Ladder>,
    digest: PolicyDigest,
}

impl Policy {
    /// A policy that asks nobody: the machine's state alone.
    pub(super) fn machine_only(machine: Vec<PolicyStep>) -> Self {
        let digest = Self::after(&machine);
        Self { machine, ladder: None, digest }
    }

    /// A policy that ends in a quorum. `ladder` is given the digest that the machine's steps reach as its base.
    ///
    /// # Errors
    /// Where `ladder` fails.
    pub(super) fn with_quorum(
        machine: Vec<PolicyStep>,
        ladder: impl FnOnce(PolicyDigest) -> Result<Ladder, LadderError>,
    ) -> Result<Self, LadderError> {
        let ladder = ladder(Self::after(&machine))?;
        Ok(Self { machine, digest: *ladder.digest(), ladder: Some(ladder) })
    }

    fn after(machine: &[PolicyStep]) -> PolicyDigest {
        // No machine step refuses: only an Or does, and those belong to ladders.
        machine.iter().fold(PolicyDigest::ZERO, |digest, step| step.apply(digest).unwrap_or(digest))
    }

    /// The authPolicy of the object.
    pub const fn digest(&self) -> &PolicyDigest {
        &self.digest
    }

    /// The quorum that must agree, if any.
    pub const fn ladder(&self) -> Option<&Ladder> {
        self.ladder.as_ref()
    }

    /// Every step a session runs when these officials approve, in order. For a policy without a quorum, give none.
    ///
    /// # Errors
    /// [`LadderError`] unless exactly k distinct officials of the quorum are given, in any order.
    pub fn steps(&self, approvers: &[Position]) -> Result<Vec<PolicyStep>, LadderError> {
        let mut steps = self.machine.clone();
        match &self.ladder {
            Some(ladder) => steps.extend(ladder.path(approvers)?),
            None if approvers.is_empty() => {}
            None => return Err(LadderError::NobodyAsked { found: approvers.len() }),
        }
        Ok(steps)
    }
}
