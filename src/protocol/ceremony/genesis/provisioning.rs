//! What a new TPM is to do by the quorum's order, offer and approval (protocol.md §19.4).
//!
//! The embassy contributes nonces, and says what its PCRs and its counter are. Everything that is signed for is computed from
//! the charter and those: by [`ProvisioningOffer::check`], in the embassy and on each official's own machine alike. No hash
//! of a command is ever sent.

use p256::ecdsa::Signature;

use crate::protocol::{
    charter::{Charter, CharterError},
    group::Point,
    hash::Hash,
    ids::{CharterId, EmbassyName, Generation, OfficialName},
    label::Label,
    quorum::{Position, Threshold},
    signer::{DigestSigner, SignError},
    tpm::{
        approval::{ApprovalError, ApprovalRequest, CommandHash, Expiry, TpmApproval, TpmNonce},
        custody::CustodyPlan,
        ladder::LadderError,
        pcr::{PCR_COUNT, PcrError, PcrValues, RegisterContent},
        policy::Purpose,
    },
    wire::{Document, Reader, Wire, WireError, Writer},
    words::Words,
};

/// Why an offer is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferRefusal {
    /// Of another network, embassy or generation.
    #[error("the offer is of another {0}")]
    Other(&'static str),
    /// Not one nonce per order.
    #[error("{found} nonces for {expected} TPM commands")]
    Nonces {
        /// Nonces found.
        found: usize,
        /// Commands.
        expected: usize,
    },
    /// One session for two commands.
    #[error("two TPM commands share one nonce")]
    Repeated,
    /// The boot state shown is not one.
    #[error("the platform state cannot be approved: {0}")]
    Pcrs(#[from] PcrError),
    /// The officials make no ladder.
    #[error(transparent)]
    Ladder(#[from] LadderError),
    /// A command cannot be approved.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
}

/// What the charter says of an embassy whose TPM is provisioned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    /// The TPM's objects.
    pub plan: CustodyPlan,
    /// The longest expiry of an approval, in seconds.
    pub expiry_max_seconds: u32,
    /// The unseal quorum's officials, in order of position.
    pub members: Vec<OfficialName>,
}

impl Ground {
    /// Reads it from a charter.
    ///
    /// # Errors
    /// [`CharterError::Unknown`] where the charter does not introduce the embassy.
    pub fn new(charter: &Charter, embassy: &EmbassyName) -> Result<Self, CharterError> {
        let parts = charter.parts();
        let described = parts.embassies.iter().find(|known| known.name == *embassy);
        let described = described
            .ok_or_else(|| CharterError::Unknown { place: "embassies".to_owned(), name: embassy.to_string() })?;
        let members = parts.unseal.members.clone();
        let identities = members.iter().map(|name| {
            let unknown = || CharterError::Unknown { place: "unseal quorum".to_owned(), name: name.to_string() };
            charter.official(name).map(|official| official.identity).ok_or_else(unknown)
        });
        let plan = CustodyPlan {
            charter: charter.id(),
            embassy: embassy.clone(),
            generation: parts.custody.as_ref().map_or(Generation::FIRST, |custody| custody.generation),
            officials: identities.collect::<Result<_, _>>()?,
            unseal: parts.unseal.threshold,
            amend: charter.amend()?,
            platform: described.platform,
            handles: described.handles,
        };
        Ok(Self { plan, expiry_max_seconds: parts.expiry_max_seconds, members })
    }

    /// The place and identity key of an official who may approve.
    pub fn approver(&self, name: &OfficialName) -> Option<(Position, &Point)> {
        let places = self.plan.unseal.positions().zip(&self.members).zip(&self.plan.officials);
        places.into_iter().find(|((_, member), _)| *member == name).map(|((place, _), key)| (place, key))
    }

    /// How many must approve.
    pub const fn amend(&self) -> Threshold {
        self.plan.amend
    }
}

/// How far the TPM is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The generation counter is defined and waits for its first move.
    Counter,
    /// Register and charter pin are defined and wait to be written.
    Registers {
        /// The counter's first value.
        counter_first: u64,
        /// What the machine has booted, as its TPM says: the state to approve.
        pcrs: PcrValues,
        /// Whether the register was written before, by an earlier attempt.
        register_written: bool,
        /// Whether the charter pin was.
        pin_written: bool,
    },
}

impl Stage {
    const fn orders(&self) -> usize {
        match self {
            Self::Counter => 1,
            Self::Registers { .. } => 2,
        }
    }

    /// Whether two are the same step, whatever they show.
    pub const fn is_same_step(&self, other: &Self) -> bool {
        self.orders() == other.orders()
    }
}

impl Wire for Stage {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Counter => {
                out.u8(1);
            }
            Self::Registers { counter_first, pcrs, register_written, pin_written } => {
                out.u8(2).u64(*counter_first);
                write_pcrs(out, pcrs);
                out.u8(u8::from(*register_written)).u8(u8::from(*pin_written));
            }
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let flag = |input: &mut Reader<'_>| match input.u8("written")? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Invalid { field: "written", reason: "neither no (0) nor yes (1)" }),
        };
        match input.u8("stage")? {
            1 => Ok(Self::Counter),
            2 => Ok(Self::Registers {
                counter_first: input.u64("counter")?,
                pcrs: read_pcrs(input)?,
                register_written: flag(input)?,
                pin_written: flag(input)?,
            }),
            _ => Err(WireError::Invalid { field: "stage", reason: "neither counter (1) nor registers (2)" }),
        }
    }
}

pub(super) fn write_pcrs(out: &mut Writer, pcrs: &PcrValues) {
    out.u8(u8::try_from(pcrs.len()).unwrap_or(u8::MAX));
    for (pcr, value) in pcrs {
        out.u8(*pcr).raw(value);
    }
}

pub(super) fn read_pcrs(input: &mut Reader<'_>) -> Result<PcrValues, WireError> {
    let length = input.u8("PCR values")?;
    if length > PCR_COUNT {
        let (length, bound) = (usize::from(length), usize::from(PCR_COUNT));
        return Err(WireError::TooLong { field: "PCR values", length, bound });
    }
    (0..length).map(|_| Ok((input.u8("PCR")?, input.array("PCR value")?))).collect()
}

/// What a TPM is to do, for one session per command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisioningOffer {
    /// The network.
    pub charter: CharterId,
    /// The embassy.
    pub embassy: EmbassyName,
    /// The generation.
    pub generation: Generation,
    /// Counted from 1: a new one for each set of sessions.
    pub number: u32,
    /// The TPM's storage root key, which tells it from every other.
    pub storage_root: Point,
    /// The TPM's attestation key.
    pub attestation_key: Point,
    /// What is to be done.
    pub stage: Stage,
    /// An authenticated nonce per command, in order.
    pub nonces: Vec<TpmNonce>,
}

impl ProvisioningOffer {
    /// What approvals name it by.
    pub fn hash(&self) -> Hash {
        Hash::of_bytes(&self.encode())
    }

    /// Computes what is to be signed, from the charter.
    ///
    /// # Errors
    /// [`OfferRefusal`].
    pub fn check(self, ground: &Ground) -> Result<CheckedOffer, OfferRefusal> {
        let plan = &ground.plan;
        for (same, what) in [
            (self.charter == plan.charter, "network"),
            (self.embassy == plan.embassy, "embassy"),
            (self.generation == plan.generation, "generation"),
        ] {
            if !same {
                return Err(OfferRefusal::Other(what));
            }
        }
        let (found, expected) = (self.nonces.len(), self.stage.orders());
        if found != expected {
            return Err(OfferRefusal::Nonces { found, expected });
        }
        if self.nonces.iter().enumerate().any(|(index, nonce)| self.nonces.iter().take(index).any(|n| n == nonce)) {
            return Err(OfferRefusal::Repeated);
        }
        // protocol.md §8.5: each side computes the command's hash itself.
        let (commands, content) = match &self.stage {
            // Only the first move is ever approved here: the second one would end the generation.
            Stage::Counter => {
                (vec![CommandHash::nv_increment(&plan.counter()?.public.name_before_first_write())], None)
            }
            Stage::Registers { counter_first, pcrs, register_written, pin_written } => {
                let custody = plan.custody(*counter_first)?;
                let content = RegisterContent::of(plan.platform, pcrs)?;
                let name = |index: &crate::protocol::tpm::nv::NvPublic, written: bool| {
                    if written { index.name() } else { index.name_before_first_write() }
                };
                let register = name(&custody.register.public, *register_written);
                let pin = name(&custody.charter_pin.public, *pin_written);
                let commands = vec![
                    CommandHash::nv_write(&register, content.as_bytes())?,
                    CommandHash::nv_write(&pin, plan.charter.0.as_bytes())?,
                ];
                (commands, Some(content))
            }
        };
        let policy_ref = plan.policy_ref(Purpose::Amend);
        let requests = self
            .nonces
            .iter()
            .zip(commands)
            .map(|(nonce, command)| ApprovalRequest { nonce: *nonce, command, policy_ref })
            .collect();
        Ok(CheckedOffer { hash: self.hash(), offer: self, requests, content })
    }
}

impl Wire for ProvisioningOffer {
    fn write(&self, out: &mut Writer) {
        out.value(&self.charter).value(&self.embassy).value(&self.generation).u32(self.number);
        out.value(&self.storage_root).value(&self.attestation_key).value(&self.stage).list(&self.nonces);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            charter: input.value()?,
            embassy: input.value()?,
            generation: input.value()?,
            number: input.u32("offer number")?,
            storage_root: input.value()?,
            attestation_key: input.value()?,
            stage: input.value()?,
            nonces: input.list(super::message::MAX_ORDERS, "nonces")?,
        })
    }
}

impl Document for ProvisioningOffer {
    const LABEL: Label = Label::GENESIS_OFFER;
    const MAX_BYTES: usize = 2048;
}

/// An offer, with everything that is signed for it computed from the charter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedOffer {
    offer: ProvisioningOffer,
    hash: Hash,
    requests: Vec<ApprovalRequest>,
    content: Option<RegisterContent>,
}

impl CheckedOffer {
    /// The offer.
    pub const fn offer(&self) -> &ProvisioningOffer {
        &self.offer
    }

    /// What approvals name it by.
    pub const fn hash(&self) -> &Hash {
        &self.hash
    }

    /// What each official signs, in order of the commands.
    pub fn requests(&self) -> &[ApprovalRequest] {
        &self.requests
    }

    /// What the register will hold, where it is written.
    pub const fn content(&self) -> Option<&RegisterContent> {
        self.content.as_ref()
    }

    /// What is agreed to, whatever sessions it is done in: who consented to it need not be asked again when a session was
    /// lost.
    pub fn matter(&self) -> Hash {
        let ProvisioningOffer { charter, embassy, generation, storage_root, attestation_key, .. } = &self.offer;
        Hash::of(Label::GENESIS_OFFER, |out| {
            out.value(charter).value(embassy).value(generation).value(storage_root).value(attestation_key);
            match &self.offer.stage {
                Stage::Counter => out.u8(1),
                Stage::Registers { counter_first, .. } => out.u8(2).u64(*counter_first),
            };
            self.content.iter().for_each(|content| {
                out.value(content);
            });
        })
    }

    /// What an official compares before consenting: the machine, and then the boot state.
    pub fn words(&self) -> Words {
        match &self.content {
            None => machine_words(&self.offer.storage_root, &self.offer.attestation_key),
            Some(content) => Words::of(&Hash::of_bytes(content.as_bytes())),
        }
    }

    /// What an official is asked, in words.
    pub fn lines(&self) -> Vec<(String, String)> {
        let machine = Hash::of_bytes(&[self.offer.storage_root.encode(), self.offer.attestation_key.encode()].concat());
        let mut lines = vec![
            ("embassy".to_owned(), self.offer.embassy.to_string()),
            ("its machine, in words".to_owned(), machine.to_string()),
        ];
        match &self.offer.stage {
            Stage::Counter => {
                let begins = format!("move the generation counter once: generation {} begins", self.offer.generation);
                lines.push(("its TPM is to".to_owned(), begins));
            }
            Stage::Registers { pcrs, counter_first, .. } => {
                lines.push(("its TPM is to".to_owned(), "approve this boot state, and hold this charter".to_owned()));
                lines.push(("generation counter".to_owned(), counter_first.to_string()));
                for (pcr, value) in pcrs {
                    let value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
                    lines.push((format!("PCR {pcr}, {}", measured(*pcr)), value));
                }
                if let Some(content) = &self.content {
                    let words = Words::of(&Hash::of_bytes(content.as_bytes()));
                    lines.push(("this boot state, in words".to_owned(), words.to_string()));
                }
                lines.push(("charter".to_owned(), self.offer.charter.to_string()));
            }
        }
        lines
    }

    /// Signs for every command.
    ///
    /// # Errors
    /// [`SignError`]; nothing was approved then.
    pub fn approve(
        &self,
        ground: &Ground,
        position: Position,
        signer: &dyn DigestSigner,
    ) -> Result<Vec<TpmApproval>, SignError> {
        let expiry = Expiry::new(ground.expiry_max_seconds, ground.expiry_max_seconds);
        let expiry = expiry.map_err(|error| SignError { reason: error.to_string() })?;
        self.requests
            .iter()
            .map(|request| {
                let digest = Hash(*request.digest(expiry).as_bytes());
                let signature: Signature = signer.sign_digest(&digest)?;
                Ok(request.signed(position, expiry, signature))
            })
            .collect()
    }

    /// Checks an official's approvals, all of them.
    ///
    /// # Errors
    /// [`ApprovalError`] of the first that is wrong.
    pub fn verify(
        &self,
        ground: &Ground,
        position: Position,
        key: &Point,
        approvals: &[TpmApproval],
    ) -> Result<(), ApprovalError> {
        if approvals.len() != self.requests.len() || approvals.iter().any(|one| one.position() != position) {
            return Err(ApprovalError::OtherCommand { position });
        }
        let pairs = approvals.iter().zip(&self.requests);
        pairs.into_iter().try_for_each(|(approval, request)| approval.verify(request, key, ground.expiry_max_seconds))
    }
}

/// A machine, in words: its TPM's own two keys, as home read them when it prepared the TPM.
pub fn machine_words(storage_root: &Point, attestation_key: &Point) -> Words {
    Words::of(&Hash::of_bytes(&[storage_root.encode(), attestation_key.encode()].concat()))
}

/// What firmware and system measure there (TCG PC Client Platform Firmware Profile, 3.3.4; UAPI group for 11 to 15).
const fn measured(pcr: u8) -> &'static str {
    match pcr {
        0 => "firmware",
        1 => "firmware's settings",
        2 => "drivers of added hardware",
        3 => "their settings",
        4 => "boot loader",
        5 => "its settings and the partition table",
        6 => "events of the machine's maker",
        7 => "secure boot",
        8 | 9 => "what the boot loader read",
        10 => "files that the kernel measured",
        11 => "kernel and system image",
        12 => "kernel command line",
        13 => "extensions of the system image",
        14 => "keys that the machine's owner added",
        _ => "by the system's own rules",
    }
}
