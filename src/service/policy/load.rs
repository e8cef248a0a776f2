//! From text to a policy that can be asked: parsed, named, checked against the schema; refused with the place at fault.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use cedar_policy::{Authorizer, EntityId, PolicyId, PolicySet, Schema, SchemaFragment, ValidationMode, Validator};
use miette::Diagnostic;

use crate::{
    access::{self, AccessReadError},
    protocol::{
        access::{AccessText, SCHEMA_FILE},
        certificate::Role,
        charter::Charter,
        hash::Hash,
    },
    service::policy::{
        Note, Policy,
        facts::{ASKERS, Names},
        question::Act,
    },
};

/// The longest id of a policy.
const MAX_ID_BYTES: usize = 63;

/// Why a policy is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A directory that holds no policy.
    #[error(transparent)]
    Read(#[from] AccessReadError),
    /// Another schema than this program's.
    #[error(
        "{SCHEMA_FILE}: this is not the schema of this version of chancery, which says what policies can be about. Take the \
         policies of this version, and make your changes there"
    )]
    OtherSchema,
    /// A mistake in a file.
    #[error("{file}{}: {what}. Correct it; nothing of this policy is used", at(*.line))]
    Mistake {
        /// Which file.
        file: String,
        /// Which line, from 1, where that is known.
        line: Option<usize>,
        /// What is wrong.
        what: String,
    },
    /// The charter names another policy.
    #[error(
        "the charter in force names the policy {charter}, and this one is {found}. Put the charter's policy in its place, or \
         ask home and the officials for a charter that names this one (`chancery policy digest` computes it)"
    )]
    NotTheCharters {
        /// The charter's.
        charter: Hash,
        /// This one's.
        found: Hash,
    },
}

fn at(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line}"))
}

impl Policy {
    /// The policy that comes with this program.
    ///
    /// # Errors
    /// [`PolicyError`], which the tests exclude.
    pub fn embedded() -> Result<Self, PolicyError> {
        Self::new(AccessText::embedded())
    }

    /// The policy in a directory.
    ///
    /// # Errors
    /// [`PolicyError`] with file and line.
    pub fn load(directory: &Path) -> Result<Self, PolicyError> {
        Self::new(access::read(directory)?)
    }

    /// Checks everything that can be checked before somebody asks.
    ///
    /// # Errors
    /// [`PolicyError`] with file and line.
    pub fn new(text: AccessText) -> Result<Self, PolicyError> {
        if text.schema() != AccessText::embedded().schema() {
            return Err(PolicyError::OtherSchema);
        }
        let (schema, who) = schema(text.schema())?;
        let mut set = PolicySet::new();
        let mut notes = BTreeMap::new();
        let mut files: BTreeMap<String, &str> = BTreeMap::new();
        for (file, source) in text.policies() {
            for policy in parse(file, source)? {
                let (id, note) = note(file, source, &policy, &schema)?;
                let named = policy.new_id(PolicyId::new(&id));
                if set.add(named).is_err() {
                    let first = files.get(&id).copied().unwrap_or_default();
                    let what = format!("@id(\"{id}\") stands in {first} already; give each policy an id of its own");
                    return Err(mistake(file, source, &what, line_of_id(source, &id)));
                }
                files.insert(id.clone(), file.as_str());
                notes.insert(Arc::from(id), note);
            }
        }
        let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        // A warning is a policy that does nothing, or looks like another: nobody wrote that on purpose.
        let errors = result.validation_errors().map(|error| (error.policy_id(), error.to_string()));
        let warnings = result.validation_warnings().map(|warning| (warning.policy_id(), warning.to_string()));
        if let Some((id, what)) = errors.chain(warnings).next() {
            let id: &str = id.as_ref();
            let file = files.get(id).copied().unwrap_or_default();
            let source = text.policies().get(file).map(String::as_str).unwrap_or_default();
            return Err(mistake(file, source, &what, line_of_id(source, id)));
        }
        let names = Names::new().map_err(|error| mistake(SCHEMA_FILE, text.schema(), &error, None))?;
        let digest = text.digest();
        let sets = by_act(&set, &notes);
        Ok(Self { text, digest, schema, sets, authorizer: Authorizer::new(), names, notes, who })
    }

    /// Checks that this is the policy that the charter names (protocol.md §12.9).
    ///
    /// # Errors
    /// [`PolicyError::NotTheCharters`].
    pub fn check_charter(&self, charter: &Charter) -> Result<(), PolicyError> {
        let named = charter.parts().policy;
        if named == self.digest {
            Ok(())
        } else {
            Err(PolicyError::NotTheCharters { charter: named, found: self.digest })
        }
    }
}

/// The policies that are not out of the question for an act, whoever asks.
fn by_act(set: &PolicySet, notes: &BTreeMap<Arc<str>, Note>) -> BTreeMap<&'static str, PolicySet> {
    let concerns = |policy: &cedar_policy::Policy, act| {
        let id: &str = policy.id().as_ref();
        notes.get(id).is_some_and(|note| note.concerns.iter().any(|(_, concerned)| *concerned == act))
    };
    let of = |act| {
        let policies = set.policies().filter(|policy| concerns(policy, act)).cloned();
        // Ids that were unique in the whole are unique here.
        (act, PolicySet::from_policies(policies).unwrap_or_else(|_| set.clone()))
    };
    Act::NAMES.into_iter().map(of).collect()
}

type Who = BTreeMap<&'static str, Arc<str>>;

/// The schema, and who may do each act in words. Its actions are exactly those that this program asks about.
fn schema(text: &str) -> Result<(Schema, Who), PolicyError> {
    let wrong = |what: &str, line| mistake(SCHEMA_FILE, text, what, line);
    let (fragment, _) =
        SchemaFragment::from_cedarschema_str(text).map_err(|error| wrong(&error.to_string(), line_of(text, &error)))?;
    let namespace =
        "Chancery".parse::<cedar_policy::EntityNamespace>().map_err(|error| wrong(&error.to_string(), None))?;
    let mut who = Who::new();
    for name in Act::NAMES {
        let said = fragment.action_annotation(Some(namespace.clone()), &EntityId::new(name), "who");
        let Some(said) = said.filter(|said| !said.is_empty()) else {
            return Err(wrong(&format!("the action \"{name}\" is missing, or has no @who"), None));
        };
        who.insert(name, Arc::from(said));
    }
    let schema =
        Schema::from_schema_fragments([fragment]).map_err(|error| wrong(&error.to_string(), line_of(text, &error)))?;
    if schema.actions().count() != Act::NAMES.len() {
        return Err(wrong("there is an action that this program never asks about", None));
    }
    Ok((schema, who))
}

fn parse(file: &str, source: &str) -> Result<Vec<cedar_policy::Policy>, PolicyError> {
    let set: PolicySet = source.parse().map_err(|error: cedar_policy::ParseErrors| {
        mistake(file, source, &error.to_string(), line_of(source, &error))
    })?;
    if set.num_of_templates() > 0 {
        return Err(mistake(file, source, "a template (?principal, ?resource); write a policy", None));
    }
    Ok(set.policies().cloned().collect())
}

/// The policy's id and what it says; each has all three annotations.
fn note(
    file: &str,
    source: &str,
    policy: &cedar_policy::Policy,
    schema: &Schema,
) -> Result<(String, Note), PolicyError> {
    let annotation = |key: &str| policy.annotation(key).map(str::trim).filter(|text| !text.is_empty());
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let id = annotation("id").filter(|id| id.len() <= MAX_ID_BYTES && id.bytes().all(plain)).ok_or_else(|| {
        let what = format!("a policy without @id(\"…\") of 1 to {MAX_ID_BYTES} characters a-z, 0-9 and '-'");
        let start = policy.to_cedar().and_then(|text| source.find(text.lines().next()?).map(|at| line_at(source, at)));
        mistake(file, source, &what, start)
    })?;
    let said = |key: &str| {
        let missing = || {
            let what = format!("the policy {id} has no @{key}(\"…\"); whoever is answered by it must be told");
            mistake(file, source, &what, line_of_id(source, id))
        };
        annotation(key).map(Arc::from).ok_or_else(missing)
    };
    let role = |env: &cedar_policy::RequestEnv| {
        let principal = env.principal().to_string();
        ASKERS.iter().find(|(_, name)| *name == principal).map(|(role, _)| *role)
    };
    let act = |env: &cedar_policy::RequestEnv| {
        let id: &str = env.action().id().unescaped();
        Act::NAMES.into_iter().find(|name| *name == id)
    };
    let envs = policy.get_valid_request_envs(schema);
    let mut concerns: Vec<(Role, &'static str)> = envs.filter_map(|env| Some((role(&env)?, act(&env)?))).collect();
    concerns.sort_unstable();
    concerns.dedup();
    Ok((id.to_owned(), Note { effect: policy.effect(), why: said("why")?, next: said("next")?, concerns }))
}

fn mistake(file: &str, source: &str, what: &str, line: Option<usize>) -> PolicyError {
    let line = line.filter(|line| *line <= source.lines().count().max(1));
    PolicyError::Mistake { file: file.to_owned(), line, what: what.trim_end_matches('.').to_owned() }
}

fn line_of(source: &str, error: &dyn Diagnostic) -> Option<usize> {
    let label = error.labels().and_then(|mut labels| labels.next());
    label.map(|label| line_at(source, label.offset()))
}

fn line_at(source: &str, offset: usize) -> usize {
    source.bytes().take(offset).filter(|byte| *byte == b'\n').count().saturating_add(1)
}

fn line_of_id(source: &str, id: &str) -> Option<usize> {
    source.find(&format!("@id(\"{id}\")")).map(|offset| line_at(source, offset))
}
