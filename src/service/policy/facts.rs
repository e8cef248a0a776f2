//! A question in Cedar's words: entities, attributes and context, as the schema describes them.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Value, Schema,
};

use crate::{
    protocol::{certificate::Role, ids::QuorumKind},
    service::policy::question::{Act, Asker, CeremonyFacts, LeaseFacts, Place, Question},
};

/// The roles that ask, with their types of entity. Home and embassies ask nothing.
pub(super) const ASKERS: [(Role, &str); 5] = [
    (Role::Official, "Chancery::Official"),
    (Role::Agent, "Chancery::Agent"),
    (Role::DataOwner, "Chancery::DataOwner"),
    (Role::Auditor, "Chancery::Auditor"),
    (Role::Witness, "Chancery::Witness"),
];

/// The types of entities, parsed once.
pub(super) struct Names {
    askers: [(Role, EntityTypeName); 5],
    action: EntityTypeName,
    quorum: EntityTypeName,
    embassy: EntityTypeName,
    dataset: EntityTypeName,
    ceremony: EntityTypeName,
    lease: EntityTypeName,
}

/// What stands in the way of a question. None of it happens with questions that this program can put.
type Wrong = String;

impl Names {
    pub(super) fn new() -> Result<Self, Wrong> {
        let kind = |name: &str| name.parse::<EntityTypeName>().map_err(text);
        let [official, agent, owner, auditor, witness] = ASKERS;
        let asker = |(role, name): (Role, &str)| Ok::<_, Wrong>((role, kind(name)?));
        Ok(Self {
            askers: [asker(official)?, asker(agent)?, asker(owner)?, asker(auditor)?, asker(witness)?],
            action: kind("Chancery::Action")?,
            quorum: kind("Chancery::Quorum")?,
            embassy: kind("Chancery::Embassy")?,
            dataset: kind("Chancery::Dataset")?,
            ceremony: kind("Chancery::Ceremony")?,
            lease: kind("Chancery::Lease")?,
        })
    }

    /// The request, and the entities that its policies look at; both checked against the schema.
    pub(super) fn translate(&self, question: &Question<'_>, schema: &Schema) -> Result<(Request, Entities), Wrong> {
        let principal = self.asker(question.who)?;
        let place = self.place(question.place)?;
        let (resource, context) = self.act(question, &place)?;
        let request = Request::new(
            principal.uid(),
            uid(&self.action, question.act.name()),
            resource.uid(),
            Context::from_pairs(context).map_err(text)?,
            Some(schema),
        );
        // Where the embassy itself is the resource it is the same entity twice, which Cedar takes as one.
        let entities = Entities::from_entities([principal, resource, place], Some(schema)).map_err(text)?;
        Ok((request.map_err(text)?, entities))
    }

    fn asker(&self, who: &Asker) -> Result<Entity, Wrong> {
        let quorum = |kind: &QuorumKind| uid(&self.quorum, &kind.to_string());
        let parents = who.quorums().iter().map(quorum).collect();
        let attributes = [("who", person(who.role(), who.name().as_str())?)];
        entity(self.of_role(who.role(), who.name().as_str())?, attributes, parents)
    }

    fn of_role(&self, role: Role, name: &str) -> Result<EntityUid, Wrong> {
        let found = self.askers.iter().find(|(known, _)| *known == role);
        found.map(|(_, kind)| uid(kind, name)).ok_or_else(|| format!("the role {role} asks nothing of an embassy"))
    }

    fn place(&self, place: &Place) -> Result<Entity, Wrong> {
        let class = Value::new_string(place.class.to_string());
        let attributes = [("class", class), ("leases", Value::new_bool(place.leases))];
        entity(uid(&self.embassy, place.embassy.as_str()), attributes, HashSet::new())
    }

    fn act(&self, question: &Question<'_>, place: &Entity) -> Result<(Entity, Vec<(String, Value)>), Wrong> {
        let none = Vec::new();
        Ok(match question.act {
            Act::TakeDataset { dataset, owner } => {
                let owner = Value::new_entity_uid(self.of_role(Role::DataOwner, owner.as_str())?);
                (entity(uid(&self.dataset, dataset.as_str()), [("owner", owner)], HashSet::new())?, none)
            }
            Act::OpenCeremony { mode, lease_seconds, unwraps } => {
                let context = [
                    ("mode", Value::new_string(mode.as_str().to_owned())),
                    ("lease_seconds", Value::new_long(lease_seconds.into())),
                    // A policy that limits unwraps does so far below.
                    ("unwraps", Value::new_long(i64::try_from(unwraps).unwrap_or(i64::MAX))),
                ];
                (place.clone(), named(context))
            }
            Act::WatchCeremony(ceremony)
            | Act::Contribute(ceremony)
            | Act::Deny(ceremony)
            | Act::StopCeremony(ceremony)
            | Act::FetchRelease(ceremony) => (self.ceremony(ceremony)?, none),
            Act::WatchLease(lease) | Act::StopLease(lease) => (self.lease(lease, place)?, none),
            Act::Unwrap { lease, dataset, hybrid } => {
                let dataset = Value::new_entity_uid(uid(&self.dataset, dataset.as_str()));
                let context = [("dataset", dataset), ("hybrid", Value::new_bool(hybrid))];
                (self.lease(lease, place)?, named(context))
            }
            Act::Look
            | Act::TakeCharter
            | Act::TakeRevocations
            | Act::ReadDatasets
            | Act::List
            | Act::Beat
            | Act::ReadRoll
            | Act::ReadGenesis
            | Act::PostGenesis
            | Act::SignCharter => (place.clone(), none),
        })
    }

    fn ceremony(&self, ceremony: &CeremonyFacts) -> Result<Entity, Wrong> {
        let owners = self.all(Role::DataOwner, ceremony.owners.iter().map(|owner| owner.as_str()))?;
        let mut attributes = vec![("mode", Value::new_string(ceremony.mode.as_str().to_owned())), ("owners", owners)];
        if let Some((role, name)) = &ceremony.recipient {
            attributes.push(("recipient", person(*role, name.as_str())?));
        }
        entity(uid(&self.ceremony, &ceremony.id), attributes, HashSet::new())
    }

    fn lease(&self, lease: &LeaseFacts, place: &Entity) -> Result<Entity, Wrong> {
        let datasets = lease.datasets.iter().map(|dataset| uid(&self.dataset, dataset.as_str()));
        let attributes = [
            ("embassy", Value::new_entity_uid(place.uid())),
            ("state", Value::new_string(lease.state.as_str().to_owned())),
            ("agents", self.all(Role::Agent, lease.agents.iter().map(|agent| agent.as_str()))?),
            ("datasets", Value::new_set(datasets.map(Value::new_entity_uid))),
            ("owners", self.all(Role::DataOwner, lease.owners.iter().map(|owner| owner.as_str()))?),
        ];
        entity(uid(&self.lease, &lease.id), attributes, HashSet::new())
    }

    fn all<'a>(&self, role: Role, names: impl Iterator<Item = &'a str>) -> Result<Value, Wrong> {
        let uids: Result<Vec<_>, _> = names.map(|name| self.of_role(role, name)).collect();
        Ok(Value::new_set(uids?.into_iter().map(Value::new_entity_uid)))
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn entity(
    uid: EntityUid,
    attributes: impl IntoIterator<Item = (&'static str, Value)>,
    parents: HashSet<EntityUid>,
) -> Result<Entity, Wrong> {
    let attributes: HashMap<String, Value> = named(attributes).into_iter().collect();
    Entity::new(uid, attributes, parents).map_err(text)
}

fn named(values: impl IntoIterator<Item = (&'static str, Value)>) -> Vec<(String, Value)> {
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn person(role: Role, name: &str) -> Result<Value, Wrong> {
    let role = Value::new_string(role.segment().to_owned());
    let name = Value::new_string(name.to_owned());
    Value::new_record([("role".to_owned(), role), ("name".to_owned(), name)]).map_err(text)
}

fn text(error: impl std::fmt::Display) -> Wrong {
    error.to_string()
}
