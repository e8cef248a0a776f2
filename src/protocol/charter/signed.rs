//! Who may issue a charter, and the chain from the founding one to the one in use.
//!
//! The founding charter is signed by home. Each later one is signed by its predecessor's home authority **and** k of its
//! predecessor's officials, or by the predecessor's recovery quorum alone, which is loud wherever it is shown. So nobody at
//! home alone can hand custody to others, and the loss of home does not end it. protocol.md §12.

use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};

use crate::protocol::{
    charter::{Charter, CharterError, CharterMachine, Country, QuorumRule},
    group::Point,
    hash::Hash,
    ids::{CharterAt, CharterId, OfficialName},
    label::Label,
    quorum::MAX_OFFICIALS,
    signer::{DigestSigner, SignError},
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// In which capacity a charter is signed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signer {
    /// The home authority.
    Home,
    /// An official of the predecessor's unseal quorum.
    Official(OfficialName),
    /// An official of the predecessor's recovery quorum.
    Recovery(OfficialName),
}

impl std::fmt::Display for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Home => f.write_str("the home authority"),
            Self::Official(name) => write!(f, "{name}"),
            Self::Recovery(name) => write!(f, "{name} (for the recovery quorum)"),
        }
    }
}

impl Wire for Signer {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Home => out.u8(1),
            Self::Official(name) => out.u8(2).value(name),
            Self::Recovery(name) => out.u8(3).value(name),
        };
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        match input.u8("signer")? {
            1 => Ok(Self::Home),
            2 => input.value().map(Self::Official),
            3 => input.value().map(Self::Recovery),
            _ => Err(WireError::Invalid { field: "signer", reason: "neither home (1), official (2) nor recovery (3)" }),
        }
    }
}

/// By what authority a charter is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// Founded by home.
    Founded,
    /// By home and these officials of the predecessor.
    HomeAndOfficials(Vec<OfficialName>),
    /// By these officials of the predecessor's recovery quorum, **without home**. Show this loudly.
    RecoveryAlone(Vec<OfficialName>),
}

impl std::fmt::Display for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |names: &[OfficialName]| names.iter().map(OfficialName::as_str).collect::<Vec<_>>().join(", ");
        match self {
            Self::Founded => f.write_str("founded by the home authority"),
            Self::HomeAndOfficials(names) => write!(f, "signed by the home authority and {}", list(names)),
            Self::RecoveryAlone(names) => {
                write!(f, "SIGNED BY THE RECOVERY QUORUM ALONE, WITHOUT HOME: {}", list(names))
            }
        }
    }
}

/// Why a charter is not in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// It is of another country.
    #[error("this is a charter of {found}; {expected} was expected")]
    Country {
        /// The charter's country.
        found: Country,
        /// The reader's.
        expected: Country,
    },
    /// It names another home authority than the reader trusts.
    #[error("the founding charter names another home authority than the one you trust")]
    Home,
    /// It is not the next version.
    #[error("version {found} does not follow version {last}; get the charters between")]
    Gap {
        /// The version offered.
        found: u32,
        /// The version in force.
        last: u32,
    },
    /// It names another predecessor or network.
    #[error("this charter does not follow the one in force: its {what} is another")]
    Fork {
        /// Predecessor, network, country, generation, or custody in this generation.
        what: &'static str,
    },
    /// A signature does not verify.
    #[error("the signature of {signer} does not verify; ask for it again")]
    Signature {
        /// Whose.
        signer: Signer,
    },
    /// Somebody signed who has no part in it.
    #[error("{signer} has no part in issuing this charter")]
    Stranger {
        /// Who.
        signer: Signer,
    },
    /// Not enough signatures.
    #[error("not in force: {home}, {officials} of {officials_needed} officials, and {recovery} of {recovery_needed} of the recovery quorum have signed. It takes home and the officials, or the recovery quorum alone", home = if *home { "home has signed" } else { "home has not signed" })]
    TooFew {
        /// Whether home signed.
        home: bool,
        /// Officials who signed.
        officials: usize,
        /// k.
        officials_needed: u8,
        /// Members of the recovery quorum who signed.
        recovery: usize,
        /// k of the recovery quorum.
        recovery_needed: u8,
    },
    /// Older than one that was seen, or another of the same version.
    #[error("version {offered} was offered, and version {seen} was seen before{}: somebody shows an old or another charter", if offered == seen { " with other content" } else { "" })]
    Older {
        /// The version seen.
        seen: u32,
        /// The version offered.
        offered: u32,
    },
    /// The signing key gave no signature.
    #[error("the key gave no signature; check the token and try again")]
    Signer,
    /// The charter contradicts itself.
    #[error(transparent)]
    Charter(#[from] CharterError),
}

fn signed_hash(charter: &Hash, signer: &Signer) -> Hash {
    Hash::of(Label::CHARTER_SIGNATURE, |out| {
        out.value(charter).value(signer);
    })
}

/// protocol.md §12.5: one generation has one arrangement of members and machines, and none comes back. Embassies may join.
/// `before` is the last charter of the chain that named custody at all.
fn check_generation(before: &Charter, next: &Charter) -> Result<(), ChainError> {
    let (one, other) = (before.parts(), next.parts());
    let (Some(old), Some(new)) = (&one.custody, &other.custody) else { return Ok(()) };
    if new.generation != old.generation {
        let forward = new.generation > old.generation;
        return if forward { Ok(()) } else { Err(ChainError::Fork { what: "generation" }) };
    }
    let moved =
        |machine: &&CharterMachine| new.machines.iter().any(|now| now.embassy == machine.embassy && now != *machine);
    let same = (&old.unseal, &old.recovery, one.amend_k) == (&new.unseal, &new.recovery, other.amend_k)
        && before.members(&one.unseal)? == next.members(&other.unseal)?
        && before.members(&one.recovery)? == next.members(&other.recovery)?
        && !old.machines.iter().any(|machine| moved(&machine));
    if same { Ok(()) } else { Err(ChainError::Fork { what: "custody in this generation" }) }
}

/// Who has signed a charter that waits for more signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether home has.
    pub home: bool,
    /// The officials of the predecessor's unseal quorum who have.
    pub officials: Vec<OfficialName>,
    /// Those of its recovery quorum who have, as such.
    pub recovery: Vec<OfficialName>,
}

/// A charter with signatures, checked by nobody yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCharter {
    charter: Charter,
    signatures: Vec<(Signer, Signature)>,
}

impl SignedCharter {
    /// A charter that nobody has signed.
    pub const fn unsigned(charter: Charter) -> Self {
        Self { charter, signatures: Vec::new() }
    }

    /// Whether nobody has signed yet.
    pub const fn is_unsigned(&self) -> bool {
        self.signatures.is_empty()
    }

    /// What a signer signs: SHA-256 over label, charter's hash and capacity.
    pub fn digest(&self, signer: &Signer) -> Hash {
        signed_hash(&self.charter.hash(), signer)
    }

    /// Signs with a key, wherever it lies.
    ///
    /// # Errors
    /// [`SignError`] where the key does not sign.
    pub fn sign(&mut self, signer: Signer, key: &dyn DigestSigner) -> Result<(), SignError> {
        let signature = key.sign_digest(&self.digest(&signer))?;
        self.add(signer, signature);
        Ok(())
    }

    /// Adds a signature made elsewhere; an earlier one of the same signer is replaced.
    pub fn add(&mut self, signer: Signer, signature: Signature) {
        let signature = signature.normalize_s().unwrap_or(signature);
        self.signatures.retain(|(earlier, _)| *earlier != signer);
        self.signatures.push((signer, signature));
        self.signatures.sort_by(|(one, _), (other, _)| one.cmp(other));
    }

    /// The charter, unchecked: for showing and signing, never for acting.
    pub const fn unverified(&self) -> &Charter {
        &self.charter
    }

    /// The signatures, unchecked: for joining copies that were signed apart.
    pub fn signatures(&self) -> impl Iterator<Item = (&Signer, &Signature)> {
        self.signatures.iter().map(|(signer, signature)| (signer, signature))
    }

    /// Who has signed, unchecked.
    pub fn signers(&self) -> impl Iterator<Item = &Signer> {
        self.signatures.iter().map(|(signer, _)| signer)
    }

    /// Takes a founding charter: of this country, signed by this home authority, which the reader knows from elsewhere.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn found(self, country: Country, home: &Point) -> Result<VerifiedCharter, ChainError> {
        let parts = self.charter.parts();
        if parts.country != country {
            return Err(ChainError::Country { found: parts.country, expected: country });
        }
        if parts.home != *home {
            return Err(ChainError::Home);
        }
        if parts.version != 1 {
            return Err(ChainError::Gap { found: parts.version, last: 0 });
        }
        if !self.home_signed(home)? {
            return Err(ChainError::Signature { signer: Signer::Home });
        }
        if let Some(signer) = self.signers().find(|signer| **signer != Signer::Home) {
            return Err(ChainError::Stranger { signer: signer.clone() });
        }
        Ok(VerifiedCharter::new(self, Authority::Founded, None))
    }

    /// Takes the successor of a charter in force.
    ///
    /// # Errors
    /// [`ChainError`]; the predecessor stays in force.
    pub fn succeed(self, last: &VerifiedCharter) -> Result<VerifiedCharter, ChainError> {
        let Standing { home, officials, recovery } = self.standing(last)?;
        let before = last.charter.parts();
        let (needed, recovery_needed) = (before.amend_k, before.recovery.threshold.k());
        if home && officials.len() >= usize::from(needed) {
            return Ok(VerifiedCharter::new(self, Authority::HomeAndOfficials(officials), Some(last)));
        }
        if recovery.len() >= usize::from(recovery_needed) {
            return Ok(VerifiedCharter::new(self, Authority::RecoveryAlone(recovery), Some(last)));
        }
        let (officials, recovery) = (officials.len(), recovery.len());
        Err(ChainError::TooFew { home, officials, officials_needed: needed, recovery, recovery_needed })
    }

    /// Who has signed, every signature checked, of a charter that may follow `last`: while signatures are collected.
    ///
    /// # Errors
    /// [`ChainError`] where it cannot follow, or a signature is not right; never for their number.
    pub fn standing(&self, last: &VerifiedCharter) -> Result<Standing, ChainError> {
        let (parts, before) = (self.charter.parts(), last.charter.parts());
        if before.version.checked_add(1) != Some(parts.version) {
            return Err(ChainError::Gap { found: parts.version, last: before.version });
        }
        for (same, what) in [
            (parts.previous == Some(last.hash), "predecessor"),
            (self.charter.id() == last.id(), "network"),
            (parts.country == before.country, "country"),
        ] {
            if !same {
                return Err(ChainError::Fork { what });
            }
        }
        if let Some(custodian) = &last.custodian {
            check_generation(custodian, &self.charter)?;
        }
        // Every signature there is must be right: a wrong one is somebody's mistake or attempt, and is said.
        let home = self.home_signed(&before.home)?;
        let officials = self.signed_by(last, &before.unseal, Signer::Official)?;
        let recovery = self.signed_by(last, &before.recovery, Signer::Recovery)?;
        let known = usize::from(home) + officials.len() + recovery.len();
        if known != self.signatures.len() {
            let stranger = self.signers().find(|signer| match signer {
                Signer::Home => false,
                Signer::Official(name) => !officials.contains(name),
                Signer::Recovery(name) => !recovery.contains(name),
            });
            return Err(ChainError::Stranger { signer: stranger.cloned().unwrap_or(Signer::Home) });
        }
        Ok(Standing { home, officials, recovery })
    }

    fn home_signed(&self, home: &Point) -> Result<bool, ChainError> {
        self.signature(&Signer::Home)
            .map_or(Ok(false), |signature| self.verify(Signer::Home, signature, home).map(|()| true))
    }

    /// The members of a quorum of the predecessor who signed in a capacity.
    fn signed_by(
        &self,
        last: &VerifiedCharter,
        rule: &QuorumRule,
        capacity: fn(OfficialName) -> Signer,
    ) -> Result<Vec<OfficialName>, ChainError> {
        let mut signed = Vec::new();
        for name in &rule.members {
            let signer = capacity(name.clone());
            let (Some(signature), Some(official)) = (self.signature(&signer), last.charter.official(name)) else {
                continue;
            };
            self.verify(signer, signature, &official.identity)?;
            signed.push(name.clone());
        }
        Ok(signed)
    }

    fn signature(&self, signer: &Signer) -> Option<&Signature> {
        self.signatures.iter().find(|(found, _)| found == signer).map(|(_, signature)| signature)
    }

    fn verify(&self, signer: Signer, signature: &Signature, key: &Point) -> Result<(), ChainError> {
        VerifyingKey::from_affine(*key.affine())
            .and_then(|key| key.verify_prehash(self.digest(&signer).as_bytes(), signature))
            .map_err(|_| ChainError::Signature { signer })
    }
}

impl Wire for SignedCharter {
    fn write(&self, out: &mut Writer) {
        out.value(&self.charter).u16(u16::try_from(self.signatures.len()).unwrap_or(u16::MAX));
        for (signer, signature) in &self.signatures {
            out.value(signer).raw(&signature.to_bytes());
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let charter = input.value()?;
        let (count, bound) = (usize::from(input.u16("signatures")?), 1 + 2 * usize::from(MAX_OFFICIALS));
        if count > bound {
            return Err(WireError::TooLong { field: "signatures", length: count, bound });
        }
        let mut signatures: Vec<(Signer, Signature)> = Vec::new();
        for _ in 0..count {
            let signer: Signer = input.value()?;
            let signature = Signature::from_slice(input.raw(64, "signature")?)
                .ok()
                .filter(|signature| signature.normalize_s().is_none())
                .ok_or(WireError::Invalid { field: "signature", reason: "not two exponents with the low s" })?;
            if signatures.last().is_some_and(|(last, _)| *last >= signer) {
                return Err(WireError::Invalid { field: "signatures", reason: "not in order, or one stands twice" });
            }
            signatures.push((signer, signature));
        }
        Ok(Self { charter, signatures })
    }
}

impl Document for SignedCharter {
    const LABEL: Label = Label::SIGNED_CHARTER;
    const MAX_BYTES: usize = Charter::MAX_BYTES + 16 * 1024;
}

/// A charter in force, with the authority it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCharter {
    charter: Charter,
    signed: SignedCharter,
    hash: Hash,
    authority: Authority,
    /// The last charter of the chain that names custody: this one, or one before.
    custodian: Option<Box<Charter>>,
    /// Every charter of the chain, the founding one first and this one last.
    line: Vec<CharterAt>,
}

impl VerifiedCharter {
    fn new(signed: SignedCharter, authority: Authority, last: Option<&Self>) -> Self {
        let charter = signed.charter.clone();
        let custodian = match &charter.parts().custody {
            Some(_) => Some(Box::new(charter.clone())),
            None => last.and_then(|last| last.custodian.clone()),
        };
        let mut line = last.map_or_else(Vec::new, |last| last.line.clone());
        line.push(charter.at());
        Self { hash: charter.hash(), charter, signed, authority, custodian, line }
    }

    /// Takes a whole chain: the founding charter first, then each successor.
    ///
    /// # Errors
    /// [`ChainError`] of the first that is not in force.
    pub fn chain(
        country: Country,
        home: &Point,
        founding: SignedCharter,
        successors: impl IntoIterator<Item = SignedCharter>,
    ) -> Result<Self, ChainError> {
        successors.into_iter().try_fold(founding.found(country, home)?, |last, next| next.succeed(&last))
    }

    /// The charter.
    pub const fn charter(&self) -> &Charter {
        &self.charter
    }

    /// With its signatures, for handing on.
    pub const fn signed(&self) -> &SignedCharter {
        &self.signed
    }

    /// Its hash: what the TPM's charter pin holds once it is adopted.
    pub const fn hash(&self) -> Hash {
        self.hash
    }

    /// Which charter of the chain has this hash: this one, one before it, or none.
    pub fn find(&self, hash: &Hash) -> Option<CharterAt> {
        self.line.iter().find(|known| known.hash == *hash).copied()
    }

    /// The network.
    pub fn id(&self) -> CharterId {
        self.charter.id()
    }

    /// By what authority it is in force.
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }
}

/// The last charter a reader has seen, kept so that an older one is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CharterSeen {
    /// Its version.
    pub version: u32,
    /// Its hash.
    pub hash: Hash,
}

impl CharterSeen {
    /// Takes a charter in force, and gives what to remember.
    ///
    /// # Errors
    /// [`ChainError::Older`] for an older version, and for another charter of the same version.
    pub fn check(seen: Option<&Self>, offered: &VerifiedCharter) -> Result<Self, ChainError> {
        let new = Self { version: offered.charter.parts().version, hash: offered.hash };
        match seen {
            Some(seen) if new.version < seen.version || (new.version == seen.version && new.hash != seen.hash) => {
                Err(ChainError::Older { seen: seen.version, offered: new.version })
            }
            _ => Ok(new),
        }
    }
}

impl Document for CharterSeen {
    const LABEL: Label = Label::CHARTER_SEEN;
    const MAX_BYTES: usize = 128;
}

impl Wire for CharterSeen {
    fn write(&self, out: &mut Writer) {
        out.u32(self.version).value(&self.hash);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { version: input.u32("charter version")?, hash: input.value()? })
    }
}
