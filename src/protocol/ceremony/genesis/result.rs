//! What came of an embassy's genesis, and the charter that it completes (protocol.md §19.5).
//!
//! A [`GenesisResult`] proves what it says to whoever has the charter: the quorums' keys by the officials' certificates, the
//! machine's keys by its attestation key's word that it made objects with exactly the policies that the charter gives. What it
//! cannot prove is which TPM has that attestation key: home saw it, and compares.

use crate::protocol::{
    ceremony::genesis::{
        provisioning::{Ground, machine_words, read_pcrs, write_pcrs},
        run::{NoTerms, terms},
    },
    charter::{Charter, CharterCustody, CharterError, CharterMachine, CharterParts, VerifiedCharter},
    dkg::{Certificate, CertificateError},
    group::Point,
    hash::Hash,
    ids::{CharterId, EmbassyName, Generation, QuorumKind},
    label::Label,
    quorum_key::QuorumKey,
    tpm::{
        creation::{self, CreationError},
        ladder::LadderError,
        pcr::{PcrError, PcrValues, RegisterContent},
    },
    wire::{Document, Reader, Wire, WireError, Writer},
    words::Words,
};

/// The longest TPMS_ATTEST of a creation, in bytes.
const MAX_STATEMENT: usize = 512;

/// Why a result, or a charter that is to be completed with it, is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResultError {
    /// Of another network or generation, or under another version of the charter.
    #[error("this result is of another {0} than the charter")]
    Other(&'static str),
    /// Certificates are missing, or stand where the charter has the keys already.
    #[error("the result {} the quorums' certificates, and the charter {}", if *has { "brings" } else { "lacks" }, if *has { "names their keys already" } else { "does not name their keys yet" })]
    Certificates {
        /// Whether there are some.
        has: bool,
    },
    /// A certificate does not hold.
    #[error("{0} quorum: {1}")]
    Certificate(QuorumKind, CertificateError),
    /// The charter has no such quorum.
    #[error(transparent)]
    Terms(#[from] NoTerms),
    /// The charter contradicts itself, or would.
    #[error(transparent)]
    Charter(#[from] CharterError),
    /// The TPM's policies cannot be computed.
    #[error(transparent)]
    Ladder(#[from] LadderError),
    /// The boot state is none.
    #[error("the platform state cannot be one: {0}")]
    Pcrs(#[from] PcrError),
    /// The attestation key does not vouch for a key.
    #[error("{0}: {1}")]
    Birth(&'static str, CreationError),
    /// Two results do not go together.
    #[error("the results of {first} and {second} name different keys of the quorums: they are of two key generations")]
    Differ {
        /// One embassy.
        first: EmbassyName,
        /// The other.
        second: EmbassyName,
    },
    /// No result.
    #[error("there is no result to complete the charter with")]
    Nothing,
}

/// A key of the TPM, and its attestation key's word on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BornKey {
    /// The public point.
    pub point: Point,
    /// TPMS_ATTEST of its creation.
    pub statement: Vec<u8>,
    /// ECDSA P-256 of the attestation key: r ‖ s.
    pub signature: [u8; 64],
}

impl Wire for BornKey {
    fn write(&self, out: &mut Writer) {
        out.value(&self.point).bytes(&self.statement).raw(&self.signature);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let point = input.value()?;
        let statement = input.bytes(MAX_STATEMENT, "statement")?.to_vec();
        Ok(Self { point, statement, signature: input.array("statement's signature")? })
    }
}

/// What came of an embassy's genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisResult {
    /// The network.
    pub charter: CharterId,
    /// The charter under which it was made.
    pub under: Hash,
    /// The embassy.
    pub embassy: EmbassyName,
    /// The generation.
    pub generation: Generation,
    /// Unseal and recovery quorum, where the charter did not name their keys yet.
    pub certificates: Option<(Certificate, Certificate)>,
    /// The TPM's storage root key.
    pub storage_root: Point,
    /// Its attestation key.
    pub attestation_key: Point,
    /// The generation counter's value.
    pub counter_first: u64,
    /// The boot state that the register approves.
    pub pcrs: PcrValues,
    /// T.
    pub custody_key: BornKey,
    /// The identity key.
    pub identity_key: BornKey,
}

impl GenesisResult {
    /// Checks everything against the charter under which it was made.
    ///
    /// # Errors
    /// [`ResultError`].
    pub fn verify(self, last: &VerifiedCharter) -> Result<VerifiedResult, ResultError> {
        let charter = last.charter();
        let ground = Ground::new(charter, &self.embassy)?;
        for (same, what) in [
            (self.charter == ground.plan.charter, "network"),
            (self.under == last.hash(), "version of it"),
            (self.generation == ground.plan.generation, "generation"),
        ] {
            if !same {
                return Err(ResultError::Other(what));
            }
        }
        let made = match (&self.certificates, &charter.parts().custody) {
            (Some((unseal, recovery)), None) => {
                let quorum = |kind, certificate: &Certificate| {
                    let key = certificate.verify(&terms(charter, kind, self.generation)?);
                    let key = key.map_err(|error| ResultError::Certificate(kind, error))?;
                    Ok::<_, ResultError>((key, Hash::of_bytes(&certificate.encode())))
                };
                Some((quorum(QuorumKind::Unseal, unseal)?, quorum(QuorumKind::Recovery, recovery)?))
            }
            (None, Some(_)) => None,
            (certificates, _) => return Err(ResultError::Certificates { has: certificates.is_some() }),
        };
        let custody = ground.plan.custody(self.counter_first)?;
        let content = RegisterContent::of(ground.plan.platform, &self.pcrs)?;
        for (born, template, what) in [
            (&self.custody_key, &custody.custody_key.public, "the custody key"),
            (&self.identity_key, &custody.identity_key.public, "the identity key"),
        ] {
            // The Name covers point, attributes and policy: one made by another rule has another.
            creation::check(&born.statement, &born.signature, &self.attestation_key, &template.name(&born.point))
                .map_err(|error| ResultError::Birth(what, error))?;
        }
        let machine = CharterMachine {
            embassy: self.embassy.clone(),
            counter_first: self.counter_first,
            storage_root: self.storage_root,
            attestation_key: self.attestation_key,
            custody_key: self.custody_key.point,
            identity_key: self.identity_key.point,
        };
        Ok(VerifiedResult { result: self, machine, made, content })
    }
}

impl Wire for GenesisResult {
    fn write(&self, out: &mut Writer) {
        out.value(&self.charter).value(&self.under).value(&self.embassy).value(&self.generation);
        out.u8(u8::from(self.certificates.is_some()));
        if let Some((unseal, recovery)) = &self.certificates {
            out.value(unseal).value(recovery);
        }
        out.value(&self.storage_root).value(&self.attestation_key).u64(self.counter_first);
        write_pcrs(out, &self.pcrs);
        out.value(&self.custody_key).value(&self.identity_key);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (charter, under, embassy, generation) = (input.value()?, input.value()?, input.value()?, input.value()?);
        let certificates = match input.u8("certificates")? {
            0 => None,
            1 => Some((input.value()?, input.value()?)),
            _ => {
                return Err(WireError::Invalid { field: "certificates", reason: "neither absent (0) nor present (1)" });
            }
        };
        Ok(Self {
            charter,
            under,
            embassy,
            generation,
            certificates,
            storage_root: input.value()?,
            attestation_key: input.value()?,
            counter_first: input.u64("counter")?,
            pcrs: read_pcrs(input)?,
            custody_key: input.value()?,
            identity_key: input.value()?,
        })
    }
}

impl Document for GenesisResult {
    const LABEL: Label = Label::GENESIS_RESULT;
    const MAX_BYTES: usize = 128 * 1024;
}

/// Both quorums' keys with the hashes of their certificates.
type MadeKeys = ((QuorumKey, Hash), (QuorumKey, Hash));

/// A result that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedResult {
    result: GenesisResult,
    machine: CharterMachine,
    made: Option<MadeKeys>,
    content: RegisterContent,
}

impl VerifiedResult {
    /// As it was sent.
    pub const fn result(&self) -> &GenesisResult {
        &self.result
    }

    /// What the charter will say of the machine.
    pub const fn machine(&self) -> &CharterMachine {
        &self.machine
    }

    /// What officials and home read to each other: the machine's two own keys, and the approved boot state.
    pub fn words(&self) -> [(&'static str, Words); 2] {
        [
            ("the machine", machine_words(&self.machine.storage_root, &self.machine.attestation_key)),
            ("its approved boot state", Words::of(&Hash::of_bytes(self.content.as_bytes()))),
        ]
    }

    /// Whether a charter says of quorums and machine what this result proves.
    ///
    /// # Errors
    /// What differs, in words.
    pub fn agrees_with(&self, completed: &Charter) -> Result<(), &'static str> {
        let custody = completed.parts().custody.as_ref().ok_or("it names no custody")?;
        if let Some(((unseal, unseal_hash), (recovery, recovery_hash))) = &self.made {
            if (unseal, unseal_hash) != (&custody.unseal, &custody.unseal_certificate) {
                return Err("its unseal key is not the one that the officials made");
            }
            if (recovery, recovery_hash) != (&custody.recovery, &custody.recovery_certificate) {
                return Err("its recovery key is not the one that the officials made");
            }
        }
        match custody.machines.iter().find(|machine| machine.embassy == self.machine.embassy) {
            Some(machine) if *machine == self.machine && custody.generation == self.result.generation => Ok(()),
            Some(_) => Err("it says something else of this embassy's machine"),
            None => Err("it does not name this embassy's machine"),
        }
    }
}

/// The charter that these results complete: the next version, with the quorums' keys and the machines in it, nothing else
/// changed. For home to sign, and for officials to compare.
///
/// # Errors
/// [`ResultError`].
pub fn complete(last: &VerifiedCharter, results: &[VerifiedResult]) -> Result<Charter, ResultError> {
    let before = last.charter().parts();
    let first = results.first().ok_or(ResultError::Nothing)?;
    if let Some(other) = results.iter().find(|other| other.made != first.made) {
        let (first, second) = (first.machine.embassy.clone(), other.machine.embassy.clone());
        return Err(ResultError::Differ { first, second });
    }
    let mut custody = match (&before.custody, &first.made) {
        (Some(custody), _) => custody.clone(),
        (None, Some(((unseal, unseal_certificate), (recovery, recovery_certificate)))) => CharterCustody {
            generation: first.result.generation,
            unseal: unseal.clone(),
            unseal_certificate: *unseal_certificate,
            recovery: recovery.clone(),
            recovery_certificate: *recovery_certificate,
            machines: Vec::new(),
        },
        (None, None) => return Err(ResultError::Certificates { has: false }),
    };
    custody.machines.extend(results.iter().map(|result| result.machine.clone()));
    custody.machines.sort_by(|one, other| one.embassy.cmp(&other.embassy));
    let parts = CharterParts {
        version: before.version.checked_add(1).ok_or(CharterError::Version { version: before.version })?,
        founding: Some(last.id()),
        previous: Some(last.hash()),
        custody: Some(custody),
        ..before.clone()
    };
    Ok(Charter::new(parts)?)
}
