//! Every object of one embassy in one generation: the one description that digests, hardware and auditors share.
//!
//! protocol.md §8.3. The counter comes first, because every other policy names it and its first value, which the TPM
//! chooses (an NV counter starts above every value that an undefined counter of that TPM had). A [`CustodyPlan`] describes the
//! counter; with its first value it becomes [`Custody`], which describes the rest.

use crate::protocol::{
    group::Point,
    ids::{CharterId, EmbassyName, Generation},
    quorum::Threshold,
    tpm::{
        ladder::{Ladder, LadderError},
        nv::{NvHandle, NvPublic},
        object::{KeyTemplate, SealTemplate},
        pcr::PcrSelection,
        policy::{Policy, PolicyDigest, PolicyRef, PolicyStep, Purpose},
    },
};

/// An object's public area and the policy that its authPolicy is the digest of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded<P> {
    /// The public area or template.
    pub public: P,
    /// The steps that open it.
    pub policy: Policy,
}

/// Where the NV indices of one generation are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustodyHandles {
    /// The generation counter.
    pub counter: NvHandle,
    /// The platform register.
    pub register: NvHandle,
    /// The charter pin.
    pub charter_pin: NvHandle,
}

/// What the charter says of one embassy's custody in one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodyPlan {
    /// The charter.
    pub charter: CharterId,
    /// The embassy.
    pub embassy: EmbassyName,
    /// The generation.
    pub generation: Generation,
    /// The officials' identity keys, in order of position.
    pub officials: Vec<Point>,
    /// How many must approve the use of T.
    pub unseal: Threshold,
    /// How many must approve a write to register, charter pin or counter.
    pub amend: Threshold,
    /// The PCRs that the platform register covers.
    pub platform: PcrSelection,
    /// Where the NV indices are.
    pub handles: CustodyHandles,
}

impl CustodyPlan {
    /// The policyRef of this embassy, generation and purpose.
    pub fn policy_ref(&self, purpose: Purpose) -> PolicyRef {
        PolicyRef::new(purpose, self.charter, &self.embassy, self.generation)
    }

    /// The generation counter: the ladder alone, because a policy on its own value would be circular.
    ///
    /// # Errors
    /// [`LadderError`] where the officials' keys make no ladder.
    pub fn counter(&self) -> Result<Guarded<NvPublic>, LadderError> {
        let policy = Policy::with_quorum(vec![], self.ladder(Purpose::Amend))?;
        Ok(Guarded { public: NvPublic::counter(self.handles.counter, *policy.digest()), policy })
    }

    /// Everything else, once the counter has its first value.
    ///
    /// # Errors
    /// [`LadderError`] where the officials' keys make no ladder.
    pub fn custody(&self, counter_first: u64) -> Result<Custody, LadderError> {
        let counter = self.counter()?;
        let alive = PolicyStep::CounterEquals { counter: counter.public.reference(), value: counter_first };
        let amend = Policy::with_quorum(vec![alive.clone()], self.ladder(Purpose::Amend))?;
        let register = NvPublic::register(self.handles.register, *amend.digest());
        let charter_pin = NvPublic::charter_pin(self.handles.charter_pin, *amend.digest());

        // Before the ladder, always: AuthorizeNV replaces the digest, and with it every signature that came earlier.
        let platform = PolicyStep::ApprovedPlatform { selection: self.platform, register: register.reference() };
        let unseal = Policy::with_quorum(vec![platform.clone(), alive], self.ladder(Purpose::Unseal))?;
        let machine = Policy::machine_only(vec![platform]);
        Ok(Custody {
            counter_first,
            counter,
            register: Guarded { public: register, policy: amend.clone() },
            charter_pin: Guarded { public: charter_pin, policy: amend },
            custody_key: Guarded { public: KeyTemplate::custody(*unseal.digest()), policy: unseal },
            identity_key: Guarded { public: KeyTemplate::identity(*machine.digest()), policy: machine.clone() },
            roll_key: Guarded { public: SealTemplate::roll(*machine.digest()), policy: machine },
        })
    }

    fn ladder(&self, purpose: Purpose) -> impl FnOnce(PolicyDigest) -> Result<Ladder, LadderError> {
        let threshold = match purpose {
            Purpose::Unseal => self.unseal,
            Purpose::Amend => self.amend,
        };
        move |base| Ladder::new(base, threshold, &self.officials, self.policy_ref(purpose))
    }
}

/// Every object of one embassy in one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custody {
    /// The counter's first value; at any other, T and the amend ladder are dead for ever.
    pub counter_first: u64,
    /// The generation counter.
    pub counter: Guarded<NvPublic>,
    /// The platform register.
    pub register: Guarded<NvPublic>,
    /// The charter pin.
    pub charter_pin: Guarded<NvPublic>,
    /// T.
    pub custody_key: Guarded<KeyTemplate>,
    /// The identity key.
    pub identity_key: Guarded<KeyTemplate>,
    /// The roll key's seed.
    pub roll_key: Guarded<SealTemplate>,
}
