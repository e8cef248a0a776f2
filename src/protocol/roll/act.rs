//! What can stand in the roll: one table, from which encoding and lines follow. protocol.md §16.3.
//!
//! A number once given keeps its meaning and its fields for ever; what is new gets a new number. 1 to 19 are the embassy's
//! own life, 20 to 49 genesis, 50 to 79 ceremonies, 80 to 109 leases and releases.

use crate::protocol::{
    ceremony::Outcome,
    certificate::UnixTime,
    hash::Hash,
    ids::{AgentName, Attempt, CeremonyId, DatasetName, DatasetVersion, OfficialName, QuorumKind},
    notice::{Denial, Stop},
    offer::SignedOffer,
    paragraph::Reason,
    roll::fact::Fact,
    statement::{Resets, SignedStatement},
    wire::{Reader, Wire, WireError, Writer},
};

macro_rules! acts {
    ($(
        $(#[$doc:meta])*
        $code:literal $name:ident $text:literal { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* }
    )*) => {
        /// What was done, and why.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Act {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $kind,)* },)*
        }

        impl Act {
            /// What it is called.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => $text,)*
                }
            }

            pub(super) fn show(&self, lines: &mut Vec<(String, String)>) {
                match self {
                    $(Self::$name { $($field,)* } => { $(Fact::show($field, stringify!($field), lines);)* })*
                }
            }

            #[cfg(test)]
            pub(super) const CODES: &'static [(u8, &'static str)] = &[$(($code, $text),)*];
        }

        impl Wire for Act {
            fn write(&self, out: &mut Writer) {
                match self {
                    $(Self::$name { $($field,)* } => {
                        out.u8($code);
                        $(Fact::put($field, out);)*
                    })*
                }
            }
            fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
                match input.u8("act")? {
                    $($code => Ok(Self::$name { $($field: Fact::take(input)?,)* }),)*
                    _ => Err(WireError::Invalid { field: "act", reason: "not known here; a newer version may know it" }),
                }
            }
        }
    };
}

acts! {
    /// The service started.
    1 Boot "boot" {
        /// Hash of the charter in force.
        charter: Hash,
        /// What the TPM counts.
        resets: Resets,
        /// SHA-256 of the TLS key that was made for this start.
        tls_key: Hash,
    }
    /// The service stops in an orderly way.
    2 Halt "halt" {
        /// Why.
        why: Reason,
    }
    /// A charter came into force here.
    3 CharterTaken "charter taken" {
        /// Its version.
        version: u32,
        /// Its hash.
        charter: Hash,
        /// Whether the recovery quorum issued it without home: loud.
        recovery_alone: bool,
    }
    /// Home's list of revocations was taken.
    4 RevocationsTaken "revocations taken" {
        /// Its number.
        number: u64,
        /// SHA-256 of the list.
        list: Hash,
    }
    /// A data owner's dataset version was taken.
    5 DatasetTaken "dataset version taken" {
        /// Which dataset.
        dataset: DatasetName,
        /// Which version.
        version: DatasetVersion,
        /// SHA-256 of the signed record.
        record: Hash,
    }
    /// Home's certificate for this embassy's own authority was taken.
    6 AuthorityTaken "embassy's authority taken" {
        /// SHA-256 of the certificate.
        certificate: Hash,
    }
    /// An official's machine handed something in for a genesis, and it counts.
    20 GenesisSaid "said in genesis" {
        /// What, in a few words.
        what: Reason,
        /// SHA-256 of the message.
        message: Hash,
    }
    /// An attempt at a quorum's key was given up, and this one begins.
    21 GenesisAttempt "attempt begins" {
        /// Which quorum.
        quorum: QuorumKind,
        /// The new attempt.
        attempt: Attempt,
        /// Why.
        why: Reason,
    }
    /// Evidence convicted an official of cheating in a quorum's key generation.
    22 GenesisConvicted "convicted" {
        /// Who.
        culprit: OfficialName,
        /// Which quorum.
        quorum: QuorumKind,
        /// In which attempt.
        attempt: Attempt,
        /// Of what.
        why: Reason,
    }
    /// A quorum's key is made: all its officials have certified it.
    23 GenesisCertified "quorum's key made" {
        /// Which quorum.
        quorum: QuorumKind,
        /// SHA-256 of the certificate.
        certificate: Hash,
    }
    /// Sessions of the TPM are offered to the officials.
    24 GenesisOffered "offer made in genesis" {
        /// The offer's number.
        number: u32,
        /// SHA-256 of the offer.
        offer: Hash,
    }
    /// The TPM is about to do what was approved.
    25 GenesisOrdering "TPM ordered" {
        /// SHA-256 of the offer.
        offer: Hash,
        /// Whose approvals.
        officials: Vec<OfficialName>,
    }
    /// The TPM did it.
    26 GenesisOrdered "TPM did as ordered" {
        /// SHA-256 of the offer; none where the TPM was found past this step.
        offer: Option<Hash>,
    }
    /// The TPM did not do it.
    27 GenesisNotOrdered "TPM did not do as ordered" {
        /// Why.
        why: Reason,
    }
    /// The TPM made its keys.
    28 GenesisBorn "TPM's keys made" {
        /// SHA-256 of the result.
        result: Hash,
    }
    /// The completed charter is in force here.
    29 GenesisFounded "founded" {
        /// Its version.
        version: u32,
        /// Its hash.
        charter: Hash,
    }
    /// An official opened a ceremony.
    50 CeremonyOpened "ceremony opened" {
        /// As signed by its opener.
        statement: Box<SignedStatement>,
    }
    /// The embassy made an offer.
    51 Offered "offer made" {
        /// As signed by the embassy.
        offer: Box<SignedOffer>,
    }
    /// The embassy could not make an offer.
    52 NotOffered "no offer could be made" {
        /// Which ceremony.
        ceremony: CeremonyId,
        /// For which attempt.
        attempt: u32,
        /// Why.
        why: Reason,
    }
    /// An official's contribution counts.
    53 Contributed "contributed" {
        /// Which ceremony.
        ceremony: CeremonyId,
        /// Hash of the offer it answers.
        offer: Hash,
        /// SHA-256 of the contribution, whose halves are sealed.
        contribution: Hash,
    }
    /// An official voted against a ceremony.
    54 Denied "denied" {
        /// As signed.
        denial: Denial,
    }
    /// An official stopped a ceremony or its lease.
    55 Stopped "stopped" {
        /// As signed.
        stop: Stop,
    }
    /// An official sent something wrong, and signed it.
    56 Refused "refused" {
        /// Which ceremony.
        ceremony: CeremonyId,
        /// Whose it provably was.
        culprit: OfficialName,
        /// SHA-256 of what was sent.
        message: Hash,
        /// What was wrong.
        why: Reason,
    }
    /// The TPM would not have approvals that had verified here; their officials may send again.
    57 SetAside "contributions set aside" {
        /// Which ceremony.
        ceremony: CeremonyId,
        /// Whose.
        officials: Vec<OfficialName>,
        /// Why.
        why: Reason,
    }
    /// The quorum is there, and the TPM is about to be asked.
    58 Opening "opening" {
        /// Which ceremony.
        ceremony: CeremonyId,
        /// Hash of the offer.
        offer: Hash,
        /// Whose contributions.
        officials: Vec<OfficialName>,
    }
    /// The TPM or the slots did not open.
    59 NotOpened "not opened" {
        /// Which ceremony.
        ceremony: CeremonyId,
        /// Hash of the offer.
        offer: Hash,
        /// Why.
        why: Reason,
    }
    /// Parked sessions or the ceremony key are gone: fresh approvals are asked for, and nothing else is lost.
    60 AskedAgain "fresh approvals asked for" {
        /// Which ceremony.
        ceremony: CeremonyId,
        /// The new attempt.
        attempt: u32,
        /// Why.
        why: Reason,
    }
    /// A ceremony ended.
    61 CeremonyEnded "ceremony ended" {
        /// Which ceremony.
        ceremony: CeremonyId,
        /// How.
        outcome: Outcome,
    }
    /// The TPM's charter pin holds this charter: it takes no older one any more.
    62 CharterAdopted "charter adopted" {
        /// By which ceremony.
        ceremony: CeremonyId,
        /// Its version.
        version: u32,
        /// Its hash.
        charter: Hash,
    }
    /// A lease begins.
    80 Leased "leased" {
        /// Of which ceremony.
        ceremony: CeremonyId,
        /// Hash of the offer that was opened.
        offer: Hash,
        /// Whose approvals.
        officials: Vec<OfficialName>,
    }
    /// A lease sleeps: no witness's beat is fresh.
    81 LeaseSuspended "lease suspended" {
        /// Of which ceremony.
        ceremony: CeremonyId,
        /// Why.
        why: Reason,
    }
    /// A suspended lease serves again.
    82 LeaseRevived "lease revived" {
        /// Of which ceremony.
        ceremony: CeremonyId,
    }
    /// A lease ended, and its seeds were wiped.
    83 LeaseEnded "lease ended" {
        /// Of which ceremony.
        ceremony: CeremonyId,
        /// Why.
        why: Reason,
        /// How many unwraps it served, as far as is known after a crash: those that were reserved.
        unwraps: u64,
    }
    /// Unwraps that may be served from here on without another entry.
    84 UnwrapsReserved "unwraps reserved" {
        /// Of which ceremony.
        ceremony: CeremonyId,
        /// Which dataset.
        dataset: DatasetName,
        /// For whom.
        agent: AgentName,
        /// How many.
        count: u64,
    }
    /// Unwraps that were served.
    85 UnwrapsUsed "unwraps used" {
        /// Of which ceremony.
        ceremony: CeremonyId,
        /// Which dataset.
        dataset: DatasetName,
        /// By whom.
        agent: AgentName,
        /// How many.
        count: u64,
    }
    /// The parts of a release stand ready for the recipient.
    100 Released "released" {
        /// Of which ceremony.
        ceremony: CeremonyId,
        /// Hash of the offer that was opened.
        offer: Hash,
        /// Whose approvals.
        officials: Vec<OfficialName>,
        /// Hash of the recipient's card.
        recipient: Hash,
    }
    /// The recipient fetched the parts of a release.
    101 ReleaseFetched "release fetched" {
        /// Of which ceremony.
        ceremony: CeremonyId,
        /// Until when they can be fetched again.
        until: UnixTime,
    }
}
