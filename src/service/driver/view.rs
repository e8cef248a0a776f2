//! A ceremony as it is shown to people and programs.

use crate::{
    client::{api::DocumentBody, ceremonies::CeremonyView},
    protocol::{
        ceremony::{Ceremony, Unseal},
        facts::CustodyFacts,
        ids::OfficialName,
    },
};

/// How it stands, by the facts of the charter in force; `lease` where its lease lives.
pub(super) fn view(ceremony: &Ceremony, facts: &CustodyFacts, lease: bool) -> CeremonyView {
    match ceremony {
        Ceremony::Unseal(unseal) => of_unseal(unseal, facts, lease),
    }
}

fn of_unseal(unseal: &Unseal, facts: &CustodyFacts, lease: bool) -> CeremonyView {
    let standing = unseal.standing(facts);
    let names = |names: &[OfficialName]| names.iter().map(OfficialName::to_string).collect();
    let id = unseal.id().to_string();
    CeremonyView {
        phase: standing.phase.name().to_owned(),
        statement: DocumentBody::of(unseal.signed_statement()),
        attempt: standing.attempt,
        contributed: names(&standing.contributed),
        need: standing.need,
        missing: names(&standing.missing),
        denied: standing.denied.iter().map(|(name, _)| name.to_string()).collect(),
        denials_that_end: standing.denials_that_end,
        culprits: names(&standing.culprits),
        trouble: standing.trouble.map(|why| why.to_string()),
        outcome: unseal.outcome().map(ToString::to_string),
        lease: lease.then(|| id.clone()),
        next: standing.next,
        id,
    }
}
