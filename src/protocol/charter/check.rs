//! What a charter must not contradict, place by place (protocol.md §12.1). Custody, which needs the facts, is checked by
//! the charter itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::{
    charter::{CharterError, CharterOfficial, CharterParts, HEARTBEAT_SECONDS_MAX, MAX_DATASETS, MAX_WITNESSES},
    facts::check_platform,
    group::Point,
    ids::OwnerName,
    quorum::{MAX_OFFICIALS, Threshold},
    slot::MAX_EMBASSIES,
    tpm::approval::Expiry,
};

/// All of a draft but its custody.
pub(super) fn draft(parts: &CharterParts) -> Result<(), CharterError> {
    check_people(parts)?;
    check_quorums(parts)?;
    check_embassies(parts)?;
    check_datasets(parts)?;
    check_witnesses(parts)?;
    check_keys(parts)
}

/// Finds two entries of a list that share a key.
pub(super) fn unique<K: Ord>(
    place: &'static str,
    what: &'static str,
    entries: impl Iterator<Item = (String, K)>,
) -> Result<(), CharterError> {
    let mut seen = BTreeMap::new();
    for (name, key) in entries {
        if let Some(first) = seen.insert(key, name.clone()) {
            return Err(CharterError::Shared { place, first, second: name, what });
        }
    }
    Ok(())
}

fn bounded(place: &'static str, found: usize, bound: usize) -> Result<(), CharterError> {
    match found {
        0 => Err(CharterError::Nobody { place }),
        _ if found > bound => Err(CharterError::TooMany { place, found, bound }),
        _ => Ok(()),
    }
}

fn check_people(parts: &CharterParts) -> Result<(), CharterError> {
    const PLACE: &str = "officials";
    // Both quorums may be of different people.
    bounded(PLACE, parts.officials.len(), 2 * usize::from(MAX_OFFICIALS))?;
    let each = |key: fn(&CharterOfficial) -> Vec<u8>| {
        parts.officials.iter().map(move |official| (official.name.to_string(), key(official)))
    };
    unique(PLACE, "name", each(|official| official.name.as_str().as_bytes().to_vec()))?;
    // A key and its negative have one x, and whoever knows the one knows the other.
    unique(PLACE, "identity key", each(|official| official.identity.xy().0.to_vec()))?;
    unique(PLACE, "DKG static key", each(|official| official.dkg.xy().0.to_vec()))?;
    // With one half of a hybrid key, its holder would open half of what is sealed for another.
    for (index, second) in parts.officials.iter().enumerate() {
        let twin = parts.officials.iter().take(index).find(|first| first.hybrid.shares_a_half_with(&second.hybrid));
        if let Some(first) = twin {
            let (first, second) = (first.name.to_string(), second.name.to_string());
            return Err(CharterError::Shared { place: PLACE, first, second, what: "hybrid key, or half of it" });
        }
    }
    Ok(())
}

fn check_quorums(parts: &CharterParts) -> Result<(), CharterError> {
    for (place, rule) in [("unseal quorum", &parts.unseal), ("recovery quorum", &parts.recovery)] {
        let (found, threshold) = (rule.members.len(), rule.threshold);
        if found != usize::from(threshold.n()) {
            return Err(CharterError::Members { place, found, threshold });
        }
        unique(place, "name", rule.members.iter().map(|name| (name.to_string(), name)))?;
        let stranger = rule.members.iter().find(|name| parts.officials.iter().all(|official| official.name != **name));
        if let Some(name) = stranger {
            return Err(CharterError::Unknown { place: place.to_owned(), name: name.to_string() });
        }
    }
    Threshold::new(parts.amend_k, parts.unseal.threshold.n())
        .map(drop)
        .map_err(|error| CharterError::Quorum { place: "amend", error })?;
    // Whoever amends approves what may boot; whoever recovers needs no embassy. Neither may be easier than to unseal.
    let unseal = parts.unseal.threshold.k();
    for (place, found) in [("amend", parts.amend_k), ("recovery quorum", parts.recovery.threshold.k())] {
        if found < unseal {
            return Err(CharterError::BelowUnseal { place, found, unseal });
        }
    }
    Expiry::new(parts.expiry_max_seconds, i32::MAX.unsigned_abs())
        .map(drop)
        .map_err(|_| CharterError::Expiry { found: parts.expiry_max_seconds })
}

fn check_embassies(parts: &CharterParts) -> Result<(), CharterError> {
    const PLACE: &str = "embassies";
    bounded(PLACE, parts.embassies.len(), MAX_EMBASSIES)?;
    unique(PLACE, "name", parts.embassies.iter().map(|embassy| (embassy.name.to_string(), &embassy.name)))?;
    for embassy in &parts.embassies {
        let handles = [embassy.handles.counter, embassy.handles.register, embassy.handles.charter_pin];
        unique(
            "NV indices",
            "handle",
            handles.into_iter().map(|handle| (format!("{}'s index", embassy.name), handle)),
        )?;
        check_platform(embassy.platform)
            .map_err(|error| CharterError::Facts { embassy: embassy.name.clone(), error })?;
    }
    Ok(())
}

fn check_datasets(parts: &CharterParts) -> Result<(), CharterError> {
    for (place, found) in [("data owners", parts.owners.len()), ("datasets", parts.datasets.len())] {
        if found > MAX_DATASETS {
            return Err(CharterError::TooMany { place, found, bound: MAX_DATASETS });
        }
    }
    unique("data owners", "name", parts.owners.iter().map(|owner| (owner.name.to_string(), &owner.name)))?;
    unique("datasets", "name", parts.datasets.iter().map(|dataset| (dataset.name.to_string(), &dataset.name)))?;
    let known: BTreeSet<&OwnerName> = parts.owners.iter().map(|owner| &owner.name).collect();
    parts.datasets.iter().find(|dataset| !known.contains(&dataset.owner)).map_or(Ok(()), |dataset| {
        let place = format!("dataset {}", dataset.name);
        Err(CharterError::Unknown { place, name: dataset.owner.to_string() })
    })
}

/// protocol.md §12.8: a lease lives on beats, so whoever allows one says whose.
fn check_witnesses(parts: &CharterParts) -> Result<(), CharterError> {
    const PLACE: &str = "witnesses";
    let found = parts.witnesses.len();
    if found > MAX_WITNESSES {
        return Err(CharterError::TooMany { place: PLACE, found, bound: MAX_WITNESSES });
    }
    unique(PLACE, "name", parts.witnesses.iter().map(|witness| (witness.name.to_string(), &witness.name)))?;
    if !(1..=HEARTBEAT_SECONDS_MAX).contains(&parts.heartbeat_seconds) {
        return Err(CharterError::Heartbeat { found: parts.heartbeat_seconds });
    }
    match parts.embassies.iter().find(|embassy| embassy.leases) {
        Some(embassy) if found == 0 => Err(CharterError::NoWitness { embassy: embassy.name.clone() }),
        _ => Ok(()),
    }
}

/// Every key has one use: home's, identities, hybrid and DKG keys, owners', witnesses', quorums', embassies'.
fn check_keys(parts: &CharterParts) -> Result<(), CharterError> {
    let mut uses: Vec<(String, Point)> = vec![("the home authority's key".to_owned(), parts.home)];
    for official in &parts.officials {
        uses.push((format!("the identity key of {}", official.name), official.identity));
        uses.push((format!("the hybrid key of {}", official.name), *official.hybrid.point()));
        uses.push((format!("the DKG static key of {}", official.name), official.dkg));
    }
    uses.extend(parts.owners.iter().map(|owner| (format!("the key of data owner {}", owner.name), owner.key)));
    uses.extend(parts.witnesses.iter().map(|witness| (format!("the key of witness {}", witness.name), witness.key)));
    if let Some(custody) = &parts.custody {
        uses.push(("the unseal quorum's key".to_owned(), *custody.unseal.key()));
        uses.push(("the recovery quorum's key".to_owned(), *custody.recovery.key()));
        for machine in &custody.machines {
            uses.push((format!("the storage root key of {}", machine.embassy), machine.storage_root));
            uses.push((format!("the attestation key of {}", machine.embassy), machine.attestation_key));
            uses.push((format!("the custody key of {}", machine.embassy), machine.custody_key));
            uses.push((format!("the identity key of {}", machine.embassy), machine.identity_key));
        }
    }
    let mut seen: BTreeMap<[u8; 32], String> = BTreeMap::new();
    for (second, key) in uses {
        if let Some(first) = seen.insert(key.xy().0, second.clone()) {
            return Err(CharterError::KeyReused { first, second });
        }
    }
    Ok(())
}
