//! The one table of domain-separation labels.
//!
//! Every hash, KDF, signature and wire document of chancery starts with one of these, so no bytes made for one purpose can
//! be taken for another's. Labels of foreign standards (COCKTAIL-DKG, RFC 9497, age) stay with the code that implements
//! them. `docs/protocol.md` §2 repeats this table; a test compares the two.

/// A domain-separation label: ASCII, unique, at most 255 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(&'static str);

impl Label {
    /// The label's bytes, without a length prefix.
    pub const fn as_bytes(self) -> &'static [u8] {
        self.0.as_bytes()
    }

    /// The label as text.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        impl Label {
            $($(#[$doc])* pub const $name: Self = Self($text);)*
            /// Every label there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

labels! {
    /// Context of a quorum's DKG (protocol.md §4).
    DKG_CONTEXT = "chancery/v1/dkg/context";
    /// One participant's random contribution to the context, before round 1.
    DKG_CONTRIBUTION = "chancery/v1/dkg/contribution";
    /// Hash of every framed ciphertext of a DKG.
    DKG_CIPHERTEXTS = "chancery/v1/dkg/ciphertexts";
    /// Extension of the DKG transcript: founding charter and all framed ciphertexts.
    DKG_EXTENSION = "chancery/v1/dkg/extension";
    /// One participant's round 1 message.
    DKG_ROUND1 = "chancery/v1/dkg/round-1";
    /// One participant's round 3 signature.
    DKG_ROUND3 = "chancery/v1/dkg/round-3";
    /// Proof that one participant of a DKG cheated.
    DKG_EVIDENCE = "chancery/v1/dkg/evidence";
    /// The outcome of a DKG that every participant signed.
    DKG_CERTIFICATE = "chancery/v1/dkg/certificate";
    /// What an official keeps to rebuild a lost share.
    DKG_RECOVERY = "chancery/v1/dkg/recovery";
    /// Context string of the RFC 9497 proof in a partial decapsulation.
    PARTIAL_PROOF = "chancery/v1/partial/proof";
    /// Derivation of a proof's nonce from the share, the context and fresh randomness.
    PARTIAL_NONCE = "chancery/v1/partial/nonce";
    /// A partial decapsulation as sent.
    PARTIAL = "chancery/v1/partial";
    /// The full context of a slot.
    SLOT_CONTEXT = "chancery/v1/slot/context";
    /// Derivation of everything random in a slot from the dataset seed.
    SLOT_DERIVE = "chancery/v1/slot/derive";
    /// Hash-to-curve of the second generator G'.
    SLOT_SECOND_GENERATOR = "chancery/v1/slot/second-generator";
    /// Hash of all that a slot's proof covers.
    SLOT_STATEMENT = "chancery/v1/slot/statement";
    /// Challenge of the proof that C and C' have one r.
    SLOT_CHALLENGE = "chancery/v1/slot/challenge";
    /// Hash commitment to one share of w.
    SLOT_SHARE_COMMITMENT = "chancery/v1/slot/share-commitment";
    /// HPKE info under which a share of w is sealed to an official.
    SLOT_SHARE = "chancery/v1/slot/share";
    /// Key-encryption key of a slot.
    SLOT_KEK = "chancery/v1/slot/kek";
    /// A slot as stored.
    SLOT = "chancery/v1/slot";
    /// What names a slot: the hash of its context and bytes.
    SLOT_ID = "chancery/v1/slot/id";
    /// All slots of a dataset version with its recipient, as signed by the data owner.
    DATASET_VERSION = "chancery/v1/dataset/version";
    /// The data owner's signature over a dataset version.
    DATASET_SIGNATURE = "chancery/v1/dataset/signature";
    /// The highest version of a dataset that somebody has seen.
    DATASET_SEEN = "chancery/v1/dataset/seen";
    /// policyRef of the quorum ladder.
    POLICY_REF = "chancery/v1/tpm/policy-ref";
    /// The constitution of one embassy network.
    CHARTER = "chancery/v1/charter";
    /// A charter with signatures.
    SIGNED_CHARTER = "chancery/v1/charter/signed";
    /// A signature on a charter, in one capacity.
    CHARTER_SIGNATURE = "chancery/v1/charter/signature";
    /// One embassy's TPM keys, handed to home for the completed charter.
    CHARTER_MACHINE = "chancery/v1/charter/machine";
    /// The last charter that a reader has seen.
    CHARTER_SEEN = "chancery/v1/charter/seen";
    /// The digest of an access policy's text, which a charter names.
    ACCESS_POLICY = "chancery/v1/access-policy";
    /// A ceremony's offer.
    OFFER = "chancery/v1/offer";
    /// An offer with the embassy's signature.
    SIGNED_OFFER = "chancery/v1/offer/signed";
    /// An official's contribution to a ceremony.
    CONTRIBUTION = "chancery/v1/contribution";
    /// HPKE info under which a contribution is encrypted to the ceremony key.
    CONTRIBUTION_SEAL = "chancery/v1/contribution/seal";
    /// What a contribution holds for the ceremony key alone: partial decapsulations and opened shares.
    CONTRIBUTION_HALVES = "chancery/v1/contribution/halves";
    /// An official's identity signature over a contribution.
    CONTRIBUTION_SIGNATURE = "chancery/v1/contribution/signature";
    /// What a ceremony is agreed to be for.
    STATEMENT = "chancery/v1/statement";
    /// A statement with its opener's signature.
    SIGNED_STATEMENT = "chancery/v1/statement/signed";
    /// The opener's signature over a statement.
    STATEMENT_SIGNATURE = "chancery/v1/statement/signature";
    /// The recipient of a release, with certificate and key.
    RECIPIENT_CARD = "chancery/v1/recipient-card";
    /// A recipient's signature over name, certificate and key.
    RECIPIENT_SIGNATURE = "chancery/v1/recipient-card/signature";
    /// An official's vote against a ceremony.
    DENIAL = "chancery/v1/denial";
    /// An official's signature over a denial.
    DENIAL_SIGNATURE = "chancery/v1/denial/signature";
    /// An official's order to end a ceremony or its lease.
    STOP = "chancery/v1/stop";
    /// An official's signature over a stop.
    STOP_SIGNATURE = "chancery/v1/stop/signature";
    /// A ceremony to unseal, as it is stored.
    UNSEAL_RECORD = "chancery/v1/ceremony/unseal";
    /// One entry of the roll.
    ROLL_ENTRY = "chancery/v1/roll/entry";
    /// What an official says in a genesis.
    GENESIS_MESSAGE = "chancery/v1/genesis/message";
    /// An official's signature over what it says in a genesis.
    GENESIS_SIGNATURE = "chancery/v1/genesis/signature";
    /// What an embassy's TPM is to do first, and for which sessions.
    GENESIS_OFFER = "chancery/v1/genesis/offer";
    /// What came of an embassy's genesis, for the completed charter.
    GENESIS_RESULT = "chancery/v1/genesis/result";
    /// One entry of a genesis' board, as stored and shown.
    GENESIS_POST = "chancery/v1/genesis/post";
    /// An official's own part in a genesis, kept to go on with after an interruption.
    GENESIS_JOURNAL = "chancery/v1/genesis/journal";
    /// Derivation of a TPM's hierarchy authorizations from what home keeps.
    TPM_AUTHORIZATIONS = "chancery/v1/tpm/authorizations";
    /// A TPM's own two keys.
    TPM_FOUNDATION = "chancery/v1/tpm/foundation";
    /// The TPM keys of one generation, sealed.
    TPM_KEYS = "chancery/v1/tpm/keys";
    /// A private key or share at rest, locked by a passphrase or by a key on a token.
    KEY_FILE = "chancery/v1/key-file";
    /// Derivation of a key file's encryption key from the stretched passphrase.
    KEY_FILE_SEAL = "chancery/v1/key-file/seal";
    /// Derivation of a key file's encryption key from what a token's key agreed on.
    KEY_FILE_WRAP = "chancery/v1/key-file/wrap";
    /// An official's public keys, handed to home for the charter.
    OFFICIAL_CARD = "chancery/v1/official-card";
    /// An official's signature over the card's name and keys.
    OFFICIAL_CARD_SIGNATURE = "chancery/v1/official-card/signature";
    /// An approval, denial or stop that somebody carries to an embassy.
    CARRIED = "chancery/v1/official/carried";
    /// What an official's machine remembers of embassies, points and datasets.
    OFFICIAL_MEMORY = "chancery/v1/official/memory";
    /// The public half of a quorum, as the charter states it.
    QUORUM_KEY = "chancery/v1/quorum-key";
    /// A witness's answer to an embassy's nonce, on which leases live (protocol.md §17.3).
    BEAT = "chancery/v1/beat";
    /// A witness's signature over a beat.
    BEAT_SIGNATURE = "chancery/v1/beat/signature";
    /// What the embassy keeps of a lease: public facts and how much of its budget is gone.
    LEASE_RECORD = "chancery/v1/lease/record";
    /// The embassy's halves of a release.
    RELEASE = "chancery/v1/release";
    /// HPKE info under which one of the embassy's halves is sealed to a release's recipient.
    RELEASE_SEAL = "chancery/v1/release/seal";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_short_ascii() {
        let mut seen = std::collections::BTreeSet::new();
        for label in Label::ALL {
            assert!(seen.insert(label.as_str()), "{} stands twice; a label has one use", label.as_str());
            assert!(label.as_str().is_ascii() && label.as_bytes().len() <= 64);
        }
    }
}
