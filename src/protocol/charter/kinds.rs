//! The entries of a charter: country, officials, quorums, embassies, data owners, datasets, witnesses, and custody once it exists.

use crate::protocol::{
    charter::CharterError,
    group::Point,
    hash::Hash,
    hybrid::HybridPublicKey,
    ids::{DatasetName, EmbassyName, Generation, OfficialName, OwnerName, WitnessName},
    label::Label,
    quorum::{MAX_OFFICIALS, Threshold},
    quorum_key::QuorumKey,
    slot::MAX_EMBASSIES,
    tpm::{custody::CustodyHandles, pcr::PcrSelection},
    wire::{Document, Reader, Wire, WireError, Writer},
};

/// A country, by its ISO 3166-1 alpha-2 code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Country([u8; 2]);

impl Country {
    /// # Errors
    /// [`CharterError::Country`] unless the text is two capital letters.
    pub fn new(text: &str) -> Result<Self, CharterError> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([*a, *b])),
            _ => Err(CharterError::Country { found: text.chars().take(8).collect() }),
        }
    }

    /// Whether ISO 3166-1 leaves this code to its users (AA, QM to QZ, XA to XZ, ZZ): no real country has it.
    pub const fn is_user_assigned(self) -> bool {
        matches!(self.0, [b'A', b'A'] | [b'Q', b'M'..=b'Z'] | [b'X', _] | [b'Z', b'Z'])
    }
}

impl std::fmt::Display for Country {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl Wire for Country {
    fn write(&self, out: &mut Writer) {
        out.raw(&self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let code = input.array::<2>("country")?;
        std::str::from_utf8(&code)
            .ok()
            .and_then(|code| Self::new(code).ok())
            .ok_or(WireError::Invalid { field: "country", reason: "not two capital letters" })
    }
}

/// What an embassy's custody hardware can promise (the threat model says what each means).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HardwareClass {
    /// A TPM chip on a bus that the host owns.
    Discrete,
    /// A TPM in the firmware of the CPU's package.
    Firmware,
    /// A TPM of a confidential virtual machine.
    ConfidentialVm,
    /// A hardware security module: no policy engine, no TPM claim.
    Hsm,
}

impl HardwareClass {
    const ALL: [(u8, Self, &'static str); 4] = [
        (1, Self::Discrete, "discrete"),
        (2, Self::Firmware, "firmware"),
        (3, Self::ConfidentialVm, "confidential-vm"),
        (4, Self::Hsm, "hsm"),
    ];
}

impl std::fmt::Display for HardwareClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Self::ALL.iter().filter(|(_, class, _)| class == self).try_for_each(|(_, _, name)| f.write_str(name))
    }
}

impl std::str::FromStr for HardwareClass {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|(_, _, name)| *name == text);
        found.map(|(_, class, _)| *class).ok_or("a class of hardware is discrete, firmware, confidential-vm or hsm")
    }
}

impl Wire for HardwareClass {
    fn write(&self, out: &mut Writer) {
        for (code, _, _) in Self::ALL.iter().filter(|(_, class, _)| class == self) {
            out.u8(*code);
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let found = input.u8("hardware class")?;
        let known = Self::ALL.iter().find(|(code, _, _)| *code == found);
        known
            .map(|(_, class, _)| *class)
            .ok_or(WireError::Invalid { field: "hardware class", reason: "none of the four" })
    }
}

/// An official with all public keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharterOfficial {
    /// The name.
    pub name: OfficialName,
    /// Signs approvals and contributions.
    pub identity: Point,
    /// Receives shares of w.
    pub hybrid: HybridPublicKey,
    /// The static key of this generation's key generation; never the identity key.
    pub dkg: Point,
}

impl Wire for CharterOfficial {
    fn write(&self, out: &mut Writer) {
        out.value(&self.name).value(&self.identity).value(&self.hybrid).value(&self.dkg);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { name: input.value()?, identity: input.value()?, hybrid: input.value()?, dkg: input.value()? })
    }
}

/// k of n, and who, in order of position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumRule {
    /// k of n.
    pub threshold: Threshold,
    /// The officials.
    pub members: Vec<OfficialName>,
}

impl Wire for QuorumRule {
    fn write(&self, out: &mut Writer) {
        out.value(&self.threshold).list(&self.members);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { threshold: input.value()?, members: input.list(usize::from(MAX_OFFICIALS), "members")? })
    }
}

/// An embassy as it is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharterEmbassy {
    /// The name.
    pub name: EmbassyName,
    /// Its class of hardware.
    pub class: HardwareClass,
    /// Whether leases are allowed there. On class `discrete` the sensible answer is no.
    pub leases: bool,
    /// The PCRs that its platform register approves.
    pub platform: PcrSelection,
    /// Where its NV indices stand.
    pub handles: CustodyHandles,
}

impl Wire for CharterEmbassy {
    fn write(&self, out: &mut Writer) {
        out.value(&self.name).value(&self.class).u8(u8::from(self.leases)).value(&self.platform);
        out.value(&self.handles.counter).value(&self.handles.register).value(&self.handles.charter_pin);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let (name, class) = (input.value()?, input.value()?);
        let leases = match input.u8("leases")? {
            0 => false,
            1 => true,
            _ => return Err(WireError::Invalid { field: "leases", reason: "neither refused (0) nor allowed (1)" }),
        };
        let platform = input.value()?;
        let handles = CustodyHandles { counter: input.value()?, register: input.value()?, charter_pin: input.value()? };
        Ok(Self { name, class, leases, platform, handles })
    }
}

/// A data owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharterOwner {
    /// The name.
    pub name: OwnerName,
    /// Signs dataset versions.
    pub key: Point,
}

impl Wire for CharterOwner {
    fn write(&self, out: &mut Writer) {
        out.value(&self.name).value(&self.key);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { name: input.value()?, key: input.value()? })
    }
}

/// A dataset, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharterDataset {
    /// The name.
    pub name: DatasetName,
    /// Its owner.
    pub owner: OwnerName,
}

impl Wire for CharterDataset {
    fn write(&self, out: &mut Writer) {
        out.value(&self.name).value(&self.owner);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { name: input.value()?, owner: input.value()? })
    }
}

/// A witness: it answers an embassy's nonce again and again, and leases live on that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharterWitness {
    /// The name.
    pub name: WitnessName,
    /// Signs beats.
    pub key: Point,
}

impl Wire for CharterWitness {
    fn write(&self, out: &mut Writer) {
        out.value(&self.name).value(&self.key);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { name: input.value()?, key: input.value()? })
    }
}

/// One embassy's TPM, once it has its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharterMachine {
    /// Whose.
    pub embassy: EmbassyName,
    /// The generation counter's value in this generation.
    pub counter_first: u64,
    /// The TPM's storage root key: which TPM this is.
    pub storage_root: Point,
    /// The TPM's attestation key.
    pub attestation_key: Point,
    /// T.
    pub custody_key: Point,
    /// Signs offers.
    pub identity_key: Point,
}

impl Wire for CharterMachine {
    fn write(&self, out: &mut Writer) {
        out.value(&self.embassy).u64(self.counter_first).value(&self.storage_root).value(&self.attestation_key);
        out.value(&self.custody_key).value(&self.identity_key);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            embassy: input.value()?,
            counter_first: input.u64("generation counter")?,
            storage_root: input.value()?,
            attestation_key: input.value()?,
            custody_key: input.value()?,
            identity_key: input.value()?,
        })
    }
}

impl Document for CharterMachine {
    const LABEL: Label = Label::CHARTER_MACHINE;
    const MAX_BYTES: usize = 512;
}

/// What key generation and provisioning made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharterCustody {
    /// Which generation.
    pub generation: Generation,
    /// The unseal quorum's key.
    pub unseal: QuorumKey,
    /// Hash of the certificate that all its officials signed.
    pub unseal_certificate: Hash,
    /// The recovery quorum's key.
    pub recovery: QuorumKey,
    /// Hash of the certificate that all its officials signed.
    pub recovery_certificate: Hash,
    /// The embassies that are ready.
    pub machines: Vec<CharterMachine>,
}

impl Wire for CharterCustody {
    fn write(&self, out: &mut Writer) {
        out.value(&self.generation).value(&self.unseal).value(&self.unseal_certificate);
        out.value(&self.recovery).value(&self.recovery_certificate).list(&self.machines);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            generation: input.value()?,
            unseal: input.value()?,
            unseal_certificate: input.value()?,
            recovery: input.value()?,
            recovery_certificate: input.value()?,
            machines: input.list(MAX_EMBASSIES, "machines")?,
        })
    }
}
