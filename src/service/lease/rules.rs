//! What the charter in force says about leases at this embassy.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    protocol::{
        charter::{Charter, HardwareClass},
        ids::EmbassyName,
    },
    service::{lease::beats::BeatRules, trust::InForce},
};

/// What the charter in force says about leases at this embassy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRules {
    /// The class of its hardware.
    pub class: HardwareClass,
    /// Whether there may be leases.
    pub allowed: bool,
    /// On what they live.
    pub beats: BeatRules,
}

impl LeaseRules {
    /// The rules of a charter; `None` where it does not name the embassy.
    pub fn of(charter: &Charter, embassy: &EmbassyName) -> Option<Self> {
        let parts = charter.parts();
        let here = parts.embassies.iter().find(|known| known.name == *embassy)?;
        let beats = BeatRules {
            charter: charter.id(),
            embassy: embassy.clone(),
            witnesses: parts.witnesses.clone(),
            heartbeat_seconds: parts.heartbeat_seconds,
        };
        Some(Self { class: here.class, allowed: here.leases, beats })
    }
}

/// Where the rules in force are read; `None` where there are none, and so no leases.
pub type Rules = Arc<dyn Fn() -> Option<Arc<LeaseRules>> + Send + Sync>;

/// The rules of the charter in force, worked out once per charter.
pub fn rules_in_force(trust: Arc<InForce>, embassy: EmbassyName) -> Rules {
    let known = Mutex::new(None);
    Arc::new(move || {
        let now = trust.get();
        let hash = now.charter().hash();
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((of, rules)) if *of == hash => Option::clone(rules),
            _ => {
                let rules = LeaseRules::of(now.charter().charter(), &embassy).map(Arc::new);
                *known = Some((hash, rules.clone()));
                rules
            }
        }
    })
}
