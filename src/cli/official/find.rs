//! Which ceremony is meant: by the beginning of its id or its first words, at one embassy or at any.

use chancery::{
    client::official::{Directory, DirectoryError, Keys, Told, Visit},
    protocol::ids::EmbassyName,
};
use clap::Args;

use super::show;
use crate::cli::{failure::Failure, text::words};

/// The fewest characters that name a ceremony.
const MIN: usize = 3;

/// A ceremony, as it is named on the command line.
#[derive(Args)]
pub(super) struct Wanted {
    /// The beginning of the ceremony's id, or its first words; none where only one goes on
    #[arg(value_name = "CEREMONY")]
    ceremony: Option<String>,
    /// Ask only this embassy
    #[arg(long, value_name = "NAME")]
    embassy: Option<EmbassyName>,
}

/// A ceremony that was found, and the visit it was found on.
pub(super) struct Found {
    pub(super) visit: Visit,
    pub(super) told: Told,
}

/// The embassies that are meant: one, or all that are known.
pub(super) fn embassies(directory: &Directory, only: Option<&EmbassyName>) -> Result<Vec<EmbassyName>, Failure> {
    if let Some(only) = only {
        directory.embassy(only)?;
        return Ok(vec![only.clone()]);
    }
    let all: Vec<EmbassyName> = directory.settings().embassies.iter().map(|embassy| embassy.name.clone()).collect();
    if all.is_empty() {
        let what = "no embassy is known here".to_owned();
        return Err(Failure::Refused(what, "`chancery official connect --embassy NAME=https://...` says where one is"));
    }
    Ok(all)
}

impl Wanted {
    /// Whether a ceremony is named.
    pub(super) const fn is_given(&self) -> bool {
        self.ceremony.is_some()
    }

    /// The embassy, if one is named.
    pub(super) const fn embassy(&self) -> Option<&EmbassyName> {
        self.embassy.as_ref()
    }

    /// Finds it. Named, it may have ended; else it is the one that goes on, `leases` counting those whose lease does.
    pub(super) async fn find(&self, directory: &mut Directory, keys: &Keys, leases: bool) -> Result<Found, Failure> {
        let named = self.ceremony.as_deref().map(str::trim).filter(|named| !named.is_empty());
        if named.is_some_and(|named| named.chars().count() < MIN) {
            let what = format!("{:?} is too short to name a ceremony", named.unwrap_or_default());
            return Err(Failure::Refused(what, "Give three characters of its id or more, or its first word"));
        }
        let (mut found, mut unreached): (Vec<Found>, Vec<DirectoryError>) = (Vec::new(), Vec::new());
        for embassy in embassies(directory, self.embassy.as_ref())? {
            let told = async {
                let (visit, _) = Visit::begin(directory, keys, &embassy).await?;
                let told = visit.ceremonies(directory, named.is_some() || leases).await?;
                Ok::<_, DirectoryError>((visit, told))
            };
            match told.await {
                Ok((visit, told)) => {
                    let goes_on = |told: &Told| told.view.phase != "ended" || (leases && told.view.lease.is_some());
                    let mut matching = told
                        .into_iter()
                        .filter(|told| named.map_or_else(|| goes_on(told), |named| matches(told, named)));
                    let (first, second) = (matching.next(), matching.next());
                    if let (Some(one), Some(other)) = (&first, &second) {
                        return Err(several(named, one, other));
                    }
                    found.extend(first.map(|told| Found { visit, told }));
                }
                // The one that is meant may be at another; if it is at none, this is why.
                Err(error) => unreached.push(error),
            }
        }
        let last = found.pop();
        if let (Some(one), Some(other)) = (&last, found.pop()) {
            return Err(several(named, &one.told, &other.told));
        }
        last.ok_or_else(|| match (unreached.pop(), named) {
            (Some(error), _) => error.into(),
            (None, None) => Failure::Refused("no ceremony goes on".to_owned(), "`chancery official open` opens one"),
            (None, Some(named)) => Failure::Refused(
                format!("no ceremony is named {}", words(named)),
                "`chancery official inbox --all` shows them all, with their ids and words",
            ),
        })
    }
}

fn several(named: Option<&str>, one: &Told, other: &Told) -> Failure {
    let (one, other) = (show::short(one), show::short(other));
    let what = match named {
        Some(named) => format!("{} names more than one ceremony: {one} and {other}", words(named)),
        None => format!("more than one ceremony goes on: {one} and {other}"),
    };
    Failure::Refused(what, "Say which, with more of its id")
}

fn matches(told: &Told, named: &str) -> bool {
    let named = named.to_lowercase();
    let by_words = format!("{} ", told.statement.words()).starts_with(&format!("{named} "));
    told.id.to_string().starts_with(&named) || by_words
}
