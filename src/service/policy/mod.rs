//! The access policy: who may ask what of the embassy. Default deny; every answer names the policy that gave it.
//!
//! The policies are Cedar's (`policy/*.cedar`), checked against their schema before anybody is served, and the ones that the
//! charter in force names by their digest. A yes is a [`Permitted`], which nothing else can make; a no is a [`Denied`] that
//! says which policy, why, who can act and what to do next. No policy loosens anything else: a quorum, a signature or a
//! budget is still asked for behind it.

mod case;
mod facts;
mod load;
mod question;

use std::{collections::BTreeMap, sync::Arc};

pub use case::{Answer, Case, CaseError};
use cedar_policy::{AuthorizationError, Authorizer, Decision, Effect, Entities, PolicySet, Request, Schema};
pub use load::PolicyError;
pub use question::{Act, Asker, CeremonyFacts, LeaseFacts, LeaseState, Mode, Place, Question};

use crate::{
    protocol::{access::AccessText, certificate::Role, hash::Hash},
    service::problem::{Code, Problem},
};

/// A policy that was checked, and can be asked.
pub struct Policy {
    text: AccessText,
    digest: Hash,
    schema: Schema,
    /// The policies that an act can concern, by the act: the others are out of the question by their types, and evaluating
    /// them would cost most of the time of an answer.
    sets: BTreeMap<&'static str, PolicySet>,
    authorizer: Authorizer,
    names: facts::Names,
    notes: BTreeMap<Arc<str>, Note>,
    who: BTreeMap<&'static str, Arc<str>>,
}

/// What one policy says beside its rule.
struct Note {
    effect: Effect,
    why: Arc<str>,
    next: Arc<str>,
    /// For whom and what it is not out of the question: role and act.
    concerns: Vec<(Role, &'static str)>,
}

/// A yes: by which policy, and why. Only [`Policy::ask`] makes one.
///
/// It may be kept for as long as the question would be the same one: a service that asks per request needs no copy, and one
/// that keeps it compares [`Permitted::under`] with the policy in force.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "what is permitted is done with this in hand"]
pub struct Permitted {
    act: &'static str,
    policy: Arc<str>,
    why: Arc<str>,
    under: Hash,
}

impl Permitted {
    /// What was asked for.
    pub const fn act(&self) -> &'static str {
        self.act
    }

    /// The policy that allowed it.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Its reason.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The digest of the whole policy under which it was allowed.
    pub const fn under(&self) -> Hash {
        self.under
    }
}

/// A no: which policies, why, who can act, what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}. Allowed to {act}: {who}. {next}")]
pub struct Denied {
    act: &'static str,
    policies: Vec<Arc<str>>,
    detail: String,
    who: Arc<str>,
    next: String,
}

impl Denied {
    /// The policy that forbade it; where none did, those that permit it to somebody in this role, but not here; where there
    /// is none of them either, nothing.
    pub fn policies(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().map(|policy| &**policy)
    }

    /// What happened.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Who may do what was asked.
    pub fn who(&self) -> &str {
        &self.who
    }

    /// What to do.
    pub fn next(&self) -> &str {
        &self.next
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let code = match denied.policies().next() {
            Some("no-unwrap-unless-hybrid") => Code::HybridRequired,
            Some("no-lease-where-the-charter-refuses-it" | "no-unwrap-where-the-charter-refuses-leases") => {
                Code::LeasesRefused
            }
            _ => Code::Policy,
        };
        code.because(&denied.detail).who(&denied.who).next(&denied.next)
    }
}

impl Policy {
    /// The schema and policies as text.
    pub const fn text(&self) -> &AccessText {
        &self.text
    }

    /// What a charter's `policy` says (protocol.md §12.9).
    pub const fn digest(&self) -> Hash {
        self.digest
    }

    /// Every policy: its id, whether it permits, and why.
    pub fn policies(&self) -> impl Iterator<Item = (&str, bool, &str)> {
        self.notes.iter().map(|(id, note)| (&**id, note.effect == Effect::Permit, &*note.why))
    }

    /// Asks.
    ///
    /// # Errors
    /// [`Denied`], also where a policy cannot be evaluated: a rule that fails is no rule that agrees.
    pub fn ask(&self, question: &Question<'_>) -> Result<Permitted, Denied> {
        let act = question.act.name();
        let (request, entities) = match self.names.translate(question, &self.schema) {
            Ok(translated) => translated,
            Err(wrong) => {
                return Err(self.denied(question, Vec::new(), wrong, "Ask the embassy's operator.".to_owned()));
            }
        };
        let Some(set) = self.sets.get(act) else {
            return Err(self.unevaluated(question, Vec::new(), "the act has no policies"));
        };
        let (decided, policies) = self.decide(set, &request, &entities);
        match decided {
            Ok(Decision::Allow) => match policies.first().and_then(|id| self.notes.get_key_value(id)) {
                Some((policy, note)) => {
                    let (policy, why) = (Arc::clone(policy), Arc::clone(&note.why));
                    Ok(Permitted { act, policy, why, under: self.digest })
                }
                None => Err(self.unevaluated(question, policies, "no policy stands behind the answer")),
            },
            Ok(Decision::Deny) if policies.is_empty() => Err(self.unpermitted(question)),
            Ok(Decision::Deny) => Err(self.forbidden(question, policies)),
            Err(wrong) => Err(self.unevaluated(question, policies, &wrong)),
        }
    }

    /// The decision, and the policies behind it in the order of their ids; or what went wrong, and where.
    fn decide(
        &self,
        set: &PolicySet,
        request: &Request,
        entities: &Entities,
    ) -> (Result<Decision, String>, Vec<Arc<str>>) {
        let response = self.authorizer.is_authorized(request, set, entities);
        let named = |id: &cedar_policy::PolicyId| {
            let text: &str = id.as_ref();
            self.notes.get_key_value(text).map(|(id, _)| Arc::clone(id))
        };
        // Cedar leaves out a policy that cannot be evaluated, also one that forbids: so any such one is a no.
        let failed: Vec<_> = response.diagnostics().errors().collect();
        if let Some(error) = failed.first() {
            let place = |error: &&AuthorizationError| match error {
                AuthorizationError::PolicyEvaluationError(error) => named(error.policy_id()),
            };
            let policies = failed.iter().filter_map(place).collect();
            return (Err(error.to_string()), policies);
        }
        let mut policies: Vec<_> = response.diagnostics().reason().filter_map(named).collect();
        policies.sort();
        (Ok(response.decision()), policies)
    }

    fn forbidden(&self, question: &Question<'_>, policies: Vec<Arc<str>>) -> Denied {
        let (why, next) = self.said(&policies);
        let detail = format!("policy {} forbids it to {}: {why}", policies.join(", "), question.who);
        self.denied(question, policies, detail, next)
    }

    fn unpermitted(&self, question: &Question<'_>) -> Denied {
        let concerned = (question.who.role(), question.act.name());
        let near = |(_, note): &(&Arc<str>, &Note)| note.effect == Effect::Permit && note.concerns.contains(&concerned);
        let policies: Vec<_> = self.notes.iter().filter(near).map(|(id, _)| Arc::clone(id)).collect();
        if policies.is_empty() {
            let detail = format!("no policy permits it to {}", question.who);
            return self.denied(question, policies, detail, "Ask one of them.".to_owned());
        }
        let (why, next) = self.said(&policies);
        let one = if policies.len() == 1 { "policy" } else { "policies" };
        let detail = format!("{one} {} could permit it, and not to {} here: {why}", policies.join(", "), question.who);
        self.denied(question, policies, detail, next)
    }

    fn unevaluated(&self, question: &Question<'_>, policies: Vec<Arc<str>>, wrong: &str) -> Denied {
        let detail = format!("the policy cannot be evaluated, so the answer is no: {wrong}");
        let next = "Tell the home authority: the policy has to be amended.".to_owned();
        self.denied(question, policies, detail, next)
    }

    /// The reasons and remedies of these policies, each said once.
    fn said(&self, policies: &[Arc<str>]) -> (String, String) {
        let all = |of: fn(&Note) -> &str, between: &str| {
            let mut said: Vec<&str> = policies.iter().filter_map(|id| self.notes.get(id)).map(of).collect();
            said.dedup();
            said.join(between)
        };
        (all(|note| &note.why, "; "), all(|note| &note.next, " "))
    }

    fn denied(&self, question: &Question<'_>, policies: Vec<Arc<str>>, detail: String, next: String) -> Denied {
        let act = question.act.name();
        let who = self.who.get(act).map_or_else(|| Arc::from("nobody"), Arc::clone);
        Denied { act, policies, detail, who, next }
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Policy({})", self.digest)
    }
}

#[cfg(test)]
mod tests;
