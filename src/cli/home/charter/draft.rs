//! The draft of a charter: TOML that people write and read, and what is wrong in it, with its line.
//!
//! Keys come from the files that their holders sent: officials' cards, certificates, requests or public keys of data owners
//! and witnesses. A field that is unknown is refused, since whoever wrote it meant something by it.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use chancery::protocol::{
    access::AccessText,
    card::OfficialCard,
    charter::{
        Charter, CharterDataset, CharterEmbassy, CharterError, CharterOfficial, CharterOwner, CharterParts,
        CharterWitness, Country, HardwareClass, QuorumRule, VerifiedCharter,
    },
    group::Point,
    hash::Hash,
    ids::{DatasetName, EmbassyName, OfficialName, OwnerName, WitnessName},
    quorum::Threshold,
    tpm::{custody::CustodyHandles, nv::NvHandle, pcr::PcrSelection},
    wire::Document,
};
use serde::Deserialize;
use toml::Spanned;

use crate::cli::{
    failure::Failure,
    input::{self, Expected},
    network,
    public_key::{self, Form},
    text::{hash, words},
};

/// The access policy that comes with this program.
const EMBEDDED_POLICY: &str = "embedded";
/// Fewest hexadecimal digits of a card's hash that say which card is meant: 128 bits.
const CARD_HASH_DIGITS_MIN: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    country: Spanned<String>,
    home: Option<Spanned<PathBuf>>,
    policy: Spanned<String>,
    expiry_max_seconds: Spanned<u32>,
    heartbeat_seconds: Spanned<u32>,
    unseal: Quorum,
    amend: Amend,
    recovery: Quorum,
    #[serde(default, rename = "official")]
    officials: Vec<Official>,
    #[serde(default, rename = "embassy")]
    embassies: Vec<Embassy>,
    #[serde(default, rename = "owner")]
    owners: Vec<Keyed>,
    #[serde(default, rename = "dataset")]
    datasets: Vec<Dataset>,
    #[serde(default, rename = "witness")]
    witnesses: Vec<Keyed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Quorum {
    k: Spanned<u8>,
    members: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Amend {
    k: Spanned<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Official {
    name: Spanned<String>,
    card: Option<Spanned<PathBuf>>,
    card_hash: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Embassy {
    name: Spanned<String>,
    class: Spanned<String>,
    leases: bool,
    platform_pcrs: Spanned<Vec<u8>>,
    nv_counter: Spanned<u32>,
    nv_register: Spanned<u32>,
    nv_charter_pin: Spanned<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keyed {
    name: Spanned<String>,
    key: Option<Spanned<PathBuf>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dataset {
    name: Spanned<String>,
    owner: Spanned<String>,
}

/// A draft that reads; what it says may still be wrong.
pub(super) struct Draft<'a> {
    name: &'a str,
    text: &'a str,
    fields: Fields,
}

impl<'a> Draft<'a> {
    /// Reads the text of a draft.
    pub(super) fn read(name: &'a str, bytes: &'a [u8]) -> Result<Self, Failure> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = line_of(bytes, error.valid_up_to());
            refused(name, Some(line), "this is not text in UTF-8")
        })?;
        let fields = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| line_of(bytes, span.start));
            // The first line says it; the rest would draw the place.
            refused(name, line, error.message().lines().next().unwrap_or_default())
        })?;
        Ok(Self { name, text, fields })
    }

    /// The charter that the draft describes; `last` is the one in force that it is to follow, if any.
    pub(super) fn charter(&self, folder: &Path, last: Option<&VerifiedCharter>) -> Result<Charter, Failure> {
        let fields = &self.fields;
        let before = last.map(|last| last.charter().parts());
        let country = Country::new(fields.country.get_ref()).map_err(|error| self.wrong(&fields.country, &error))?;
        let home = match (&fields.home, before) {
            (Some(path), _) => {
                let home =
                    network::home(&folder.join(path.get_ref())).map_err(|error| self.wrong(path, &first(&error)))?;
                if home.country() != country {
                    let what = format!("this home authority is of {}, the charter of {country}", home.country());
                    return Err(self.wrong(path, &what));
                }
                *home.key()
            }
            (None, Some(before)) => before.home,
            (None, None) => return Err(self.missing("home", "the home authority's certificate, home.crt")),
        };
        let unseal = self.quorum(&fields.unseal)?;
        let recovery = self.quorum(&fields.recovery)?;
        let version = match before {
            None => 1,
            Some(before) => before.version.checked_add(1).ok_or_else(|| {
                Failure::Refused("there is no version after the last".to_owned(), "Nothing was written")
            })?,
        };
        let parts = CharterParts {
            version,
            founding: last.map(VerifiedCharter::id),
            previous: last.map(VerifiedCharter::hash),
            country,
            home,
            officials: fields
                .officials
                .iter()
                .map(|entry| self.official(folder, entry, last))
                .collect::<Result<_, _>>()?,
            unseal,
            amend_k: *fields.amend.k.get_ref(),
            recovery,
            expiry_max_seconds: *fields.expiry_max_seconds.get_ref(),
            heartbeat_seconds: *fields.heartbeat_seconds.get_ref(),
            embassies: fields.embassies.iter().map(|entry| self.embassy(entry)).collect::<Result<_, _>>()?,
            owners: fields.owners.iter().map(|entry| self.owner(folder, entry, before)).collect::<Result<_, _>>()?,
            datasets: fields.datasets.iter().map(|entry| self.dataset(entry)).collect::<Result<_, _>>()?,
            witnesses: fields
                .witnesses
                .iter()
                .map(|entry| self.witness(folder, entry, before))
                .collect::<Result<_, _>>()?,
            policy: self.policy()?,
            custody: before.and_then(|before| before.custody.clone()),
        };
        Charter::new(parts).map_err(|error| refused(self.name, self.place(&error), &error.to_string()))
    }

    fn quorum(&self, quorum: &Quorum) -> Result<QuorumRule, Failure> {
        let members: Vec<OfficialName> =
            quorum.members.iter().map(|name| self.parse(name, OfficialName::new)).collect::<Result<_, _>>()?;
        let n = u8::try_from(members.len()).unwrap_or(u8::MAX);
        let threshold = Threshold::new(*quorum.k.get_ref(), n).map_err(|error| self.wrong(&quorum.k, &error))?;
        Ok(QuorumRule { threshold, members })
    }

    fn official(
        &self,
        folder: &Path,
        entry: &Official,
        last: Option<&VerifiedCharter>,
    ) -> Result<CharterOfficial, Failure> {
        let name = self.parse(&entry.name, OfficialName::new)?;
        let Some(path) = &entry.card else {
            if let Some(hash) = &entry.card_hash {
                return Err(self.wrong(hash, "a card's hash without the card"));
            }
            let kept = last.and_then(|last| last.charter().official(&name));
            return kept.cloned().ok_or_else(|| self.keyless(&entry.name, "card"));
        };
        let card = self.card(folder, path)?;
        if *card.name() != name {
            return Err(self.wrong(path, &format!("this is the card of {}, not of {name}", card.name())));
        }
        if let Some(expected) = &entry.card_hash {
            let (found, text) = (card.hash().to_string(), expected.get_ref().to_ascii_lowercase());
            if text.len() < CARD_HASH_DIGITS_MIN {
                let what = format!("a card's hash is given with at least {CARD_HASH_DIGITS_MIN} digits");
                return Err(self.wrong(expected, &what));
            }
            if !found.starts_with(&text) {
                return Err(self.wrong(expected, &format!("the card of {name} has another hash: {found}")));
            }
        }
        Ok(card.official().clone())
    }

    fn card(&self, folder: &Path, path: &Spanned<PathBuf>) -> Result<OfficialCard, Failure> {
        let expected = Expected {
            what: "an official's card",
            bound: OfficialCard::MAX_BYTES,
            missing: "Ask the official for the card",
        };
        let file = folder.join(path.get_ref());
        let bytes = input::read(&file, &expected).map_err(|error| self.wrong(path, &first(&error)))?;
        OfficialCard::decode(&bytes)
            .map_err(|error| self.wrong(path, &format!("{} is no official's card: {error}", input::name(&file))))
    }

    fn embassy(&self, entry: &Embassy) -> Result<CharterEmbassy, Failure> {
        let handle = |at: &Spanned<u32>| NvHandle::new(*at.get_ref()).map_err(|error| self.wrong(at, &error));
        Ok(CharterEmbassy {
            name: self.parse(&entry.name, EmbassyName::new)?,
            class: self.parse(&entry.class, str::parse::<HardwareClass>)?,
            leases: entry.leases,
            platform: PcrSelection::new(entry.platform_pcrs.get_ref())
                .map_err(|error| self.wrong(&entry.platform_pcrs, &error))?,
            handles: CustodyHandles {
                counter: handle(&entry.nv_counter)?,
                register: handle(&entry.nv_register)?,
                charter_pin: handle(&entry.nv_charter_pin)?,
            },
        })
    }

    fn owner(&self, folder: &Path, entry: &Keyed, before: Option<&CharterParts>) -> Result<CharterOwner, Failure> {
        let name = self.parse(&entry.name, OwnerName::new)?;
        let kept = before.and_then(|before| before.owners.iter().find(|owner| owner.name == name));
        let key = self.key(folder, entry, kept.map(|owner| owner.key))?;
        Ok(CharterOwner { name, key })
    }

    fn witness(&self, folder: &Path, entry: &Keyed, before: Option<&CharterParts>) -> Result<CharterWitness, Failure> {
        let name = self.parse(&entry.name, WitnessName::new)?;
        let kept = before.and_then(|before| before.witnesses.iter().find(|witness| witness.name == name));
        let key = self.key(folder, entry, kept.map(|witness| witness.key))?;
        Ok(CharterWitness { name, key })
    }

    fn key(&self, folder: &Path, entry: &Keyed, kept: Option<Point>) -> Result<Point, Failure> {
        let Some(path) = &entry.key else { return kept.ok_or_else(|| self.keyless(&entry.name, "key")) };
        let sent = public_key::read(&folder.join(path.get_ref())).map_err(|error| self.wrong(path, &first(&error)))?;
        match sent.form {
            Form::Card(card) => {
                let what =
                    format!("this is the card of the official {}; an official's keys have their own use", card.name());
                Err(self.wrong(path, &what))
            }
            _ => Ok(sent.key),
        }
    }

    fn dataset(&self, entry: &Dataset) -> Result<CharterDataset, Failure> {
        let (name, owner) = (self.parse(&entry.name, DatasetName::new)?, self.parse(&entry.owner, OwnerName::new)?);
        Ok(CharterDataset { name, owner })
    }

    fn policy(&self) -> Result<Hash, Failure> {
        let policy = &self.fields.policy;
        if policy.get_ref() == EMBEDDED_POLICY {
            return Ok(AccessText::embedded().digest());
        }
        let wrong = || self.wrong(policy, "a policy is \"embedded\", or its digest of 64 hexadecimal digits");
        hash(policy.get_ref()).ok_or_else(wrong)
    }

    fn parse<T, E: std::fmt::Display>(
        &self,
        text: &Spanned<String>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Failure> {
        parse(text.get_ref()).map_err(|error| self.wrong(text, &format!("{:?}: {error}", words(text.get_ref()))))
    }

    fn keyless(&self, name: &Spanned<String>, field: &str) -> Failure {
        let what = format!("{} has no `{field}`, and no charter before this one has its key", words(name.get_ref()));
        self.wrong(name, &what)
    }

    fn missing(&self, field: &str, what: &str) -> Failure {
        refused(self.name, None, &format!("missing field `{field}`: {what}"))
    }

    fn wrong<T>(&self, at: &Spanned<T>, what: &(impl std::fmt::Display + ?Sized)) -> Failure {
        refused(self.name, Some(self.line(&at.span())), &what.to_string())
    }

    fn line(&self, span: &Range<usize>) -> usize {
        line_of(self.text.as_bytes(), span.start)
    }

    /// The line of the entry that a contradiction is about, where there is one.
    fn place(&self, error: &CharterError) -> Option<usize> {
        let fields = &self.fields;
        let quorum = |place: &str| match place {
            "amend" => fields.amend.k.span(),
            "recovery quorum" => fields.recovery.k.span(),
            _ => fields.unseal.k.span(),
        };
        let span = match error {
            CharterError::Expiry { .. } => Some(fields.expiry_max_seconds.span()),
            CharterError::Heartbeat { .. } => Some(fields.heartbeat_seconds.span()),
            CharterError::Quorum { place, .. }
            | CharterError::Members { place, .. }
            | CharterError::OtherThreshold { place, .. }
            | CharterError::BelowUnseal { place, .. } => Some(quorum(place)),
            CharterError::Unknown { name, .. } => self.last_use(name),
            CharterError::Facts { embassy, .. } | CharterError::NoWitness { embassy } => {
                self.last_use(embassy.as_str())
            }
            // "the identity key of anna", "anna": the name stands last, and the later entry is the one to correct.
            CharterError::Shared { second, .. } | CharterError::KeyReused { second, .. } => second
                .split(&[' ', '\''][..])
                .rfind(|word| !matches!(*word, "s" | "index"))
                .and_then(|name| self.last_use(name)),
            _ => None,
        };
        span.map(|span| self.line(&span))
    }

    /// The last place where a name stands: where it is introduced for the second time, or used without being introduced.
    fn last_use(&self, name: &str) -> Option<Range<usize>> {
        let fields = &self.fields;
        let members = fields.unseal.members.iter().chain(&fields.recovery.members);
        let datasets = fields.datasets.iter().flat_map(|dataset| [&dataset.name, &dataset.owner]);
        members
            .chain(fields.officials.iter().map(|entry| &entry.name))
            .chain(fields.embassies.iter().map(|entry| &entry.name))
            .chain(fields.owners.iter().chain(&fields.witnesses).map(|entry| &entry.name))
            .chain(datasets)
            .filter(|found| found.get_ref() == name)
            .map(Spanned::span)
            .max_by_key(|span| span.start)
    }
}

fn line_of(text: &[u8], at: usize) -> usize {
    text.iter().take(at).filter(|byte| **byte == b'\n').count().saturating_add(1)
}

fn refused(name: &str, line: Option<usize>, what: &str) -> Failure {
    let place = line.map(|line| format!(", line {line}")).unwrap_or_default();
    Failure::Refused(format!("{name}{place}: {}", words(what)), "Correct the draft; nothing was written")
}

/// What a failure says first; what to do is to correct the draft.
fn first(failure: &Failure) -> String {
    failure.to_string().lines().next().unwrap_or_default().trim_end_matches('.').to_owned()
}
