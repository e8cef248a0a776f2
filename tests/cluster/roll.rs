//! What the roll alone tells, and that by it nobody counts twice: the same for the models and for the real pieces.

use std::collections::{BTreeMap, BTreeSet};

use chancery::protocol::{
    ceremony::Outcome,
    ids::{CeremonyId, OfficialName},
    roll::{Act, Entry, Who},
};

use crate::world::K;

/// What the roll alone says of one ceremony.
#[derive(Default)]
pub struct Told {
    pub attempt: u32,
    pub contributed: BTreeSet<OfficialName>,
    pub against: BTreeSet<OfficialName>,
    pub ended: Option<Outcome>,
}

/// Reads the roll from its beginning, as an auditor does.
pub fn nobody_counts_twice(roll: &[Entry]) -> BTreeMap<CeremonyId, Told> {
    let mut told: BTreeMap<CeremonyId, Told> = BTreeMap::new();
    let distinct = |officials: &[OfficialName]| officials.iter().collect::<BTreeSet<_>>().len() == officials.len();
    for Entry { by, act, .. } in roll {
        let author = match by {
            Who::Official(name) => Some(name.clone()),
            _ => None,
        };
        match act {
            Act::CeremonyOpened { statement } => {
                let known = told.insert(statement.unverified().id(), Told::default());
                assert!(known.is_none(), "one statement opened two ceremonies");
            }
            Act::Offered { offer } => {
                let offer = offer.unverified();
                let of = told.get_mut(&offer.statement().id()).unwrap();
                assert!(offer.attempt() > of.attempt, "attempts go on");
                of.attempt = offer.attempt();
                of.contributed.clear();
            }
            Act::Contributed { ceremony, .. } => {
                let of = told.get_mut(ceremony).unwrap();
                let name = author.unwrap();
                assert!(!of.against.contains(&name), "nobody counts twice: {name} is for and against");
                assert!(of.contributed.insert(name.clone()), "nobody counts twice: {name}");
            }
            Act::Denied { denial } => {
                let of = told.get_mut(&denial.ceremony()).unwrap();
                let name = author.unwrap();
                assert!(of.against.insert(name.clone()), "nobody counts twice: {name} denied twice");
            }
            Act::SetAside { ceremony, officials, .. } => {
                let of = told.get_mut(ceremony).unwrap();
                for name in officials {
                    assert!(of.contributed.remove(name), "{name} had not contributed");
                }
            }
            Act::Opening { ceremony, officials, .. } => {
                let of = told.get_mut(ceremony).unwrap();
                assert!(distinct(officials), "nobody counts twice: {officials:?}");
                assert!(officials.len() >= usize::from(K), "the TPM is asked for fewer than k");
                for name in officials {
                    let counts = of.contributed.contains(name) && !of.against.contains(name);
                    assert!(counts, "nobody counts twice: {name} is said to agree");
                }
            }
            Act::Leased { officials, .. } | Act::Released { officials, .. } => {
                assert!(distinct(officials), "nobody counts twice: {officials:?}");
            }
            Act::AskedAgain { ceremony, .. } => told.get_mut(ceremony).unwrap().contributed.clear(),
            Act::CeremonyEnded { ceremony, outcome } => {
                let of = told.get_mut(ceremony).unwrap();
                assert!(of.ended.is_none(), "a ceremony ended twice in the roll");
                of.ended = Some(outcome.clone());
            }
            _ => {}
        }
    }
    told
}
