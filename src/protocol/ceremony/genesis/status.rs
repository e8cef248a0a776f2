//! Where a genesis stands, in words: what is waited for, who is missing, what comes next.

use crate::protocol::{
    ceremony::genesis::{Genesis, Run},
    ids::{OfficialName, QuorumKind},
};

/// Where a genesis stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The step it is at, from 1 to 5.
    pub step: u8,
    /// What is waited for.
    pub waiting: String,
    /// Whose turn it is; empty where it is not the officials'.
    pub missing: Vec<OfficialName>,
    /// What else is to be known: troubles, objections, convictions.
    pub notes: Vec<String>,
    /// What comes after.
    pub next: &'static str,
}

/// The steps of a genesis.
pub const STEPS: u8 = 5;

fn list<'a>(names: impl IntoIterator<Item = &'a OfficialName>) -> String {
    names.into_iter().map(OfficialName::as_str).collect::<Vec<_>>().join(", ")
}

impl Genesis {
    /// Where it stands.
    pub fn status(&self) -> Status {
        let board = self.board();
        let mut notes: Vec<String> = Vec::new();
        for kind in [QuorumKind::Unseal, QuorumKind::Recovery] {
            notes.extend(board.run(kind).convictions().iter().map(|conviction| {
                let crate::protocol::ceremony::genesis::run::Conviction { official, attempt, fault } = conviction;
                format!("{official} is convicted in attempt {attempt} of the {kind} quorum: {fault}")
            }));
        }
        let told = |notes: &mut Vec<String>, trouble: Option<&str>| {
            notes.extend(trouble.map(|why| format!("last trouble: {why}")));
        };
        match self {
            Self::MakingKeys(_) => {
                let runs = [board.run(QuorumKind::Unseal), board.run(QuorumKind::Recovery)];
                if !board.makes_keys() {
                    return Status {
                        step: 1,
                        waiting: format!(
                            "the quorums' keys, which are made at embassy {}; any official with a copy brings them here",
                            board.first()
                        ),
                        missing: Vec::new(),
                        notes,
                        next: "the officials have the TPM start its generation counter",
                    };
                }
                let waiting: Vec<String> = runs.iter().filter_map(|run| waiting(run)).collect();
                let mut missing: Vec<OfficialName> = runs.iter().flat_map(|run| absent(run)).cloned().collect();
                missing.sort();
                missing.dedup();
                let next = "when all have confirmed, officials have the TPM start its generation counter";
                Status { step: 1, waiting: waiting.join("; "), missing, notes, next }
            }
            Self::AwaitingOffer(phase) => {
                told(&mut notes, phase.trouble());
                let waiting = "the embassy's TPM to open sessions".to_owned();
                Status { step: 2, waiting, missing: Vec::new(), notes, next: "officials approve what the TPM is to do" }
            }
            Self::Collecting(phase) => {
                told(&mut notes, phase.trouble());
                notes.extend(phase.objections().map(|(name, why)| format!("{name} objects: {why}")));
                let approved: Vec<&OfficialName> = phase.approved().collect();
                let ground = board.ground();
                let missing = ground.members.iter().filter(|name| !approved.contains(name)).cloned().collect();
                let (have, need) = (approved.len(), ground.amend().k());
                let by = if have == 0 { String::new() } else { format!(" ({})", list(approved)) };
                let what = match phase.offer().content() {
                    None => "the generation counter's first move",
                    Some(_) => "the approved boot state and the charter's hash",
                };
                let waiting = format!("{have} of {need} approvals of {what}{by}");
                Status { step: 2, waiting, missing, notes, next: "the TPM does it" }
            }
            Self::Ordering(phase) => {
                told(&mut notes, phase.collected().trouble());
                let waiting = format!("the TPM to do what {} approved", list(phase.collected().approved()));
                Status { step: 2, waiting, missing: Vec::new(), notes, next: "the TPM makes its keys" }
            }
            Self::AwaitingKeys(phase) => {
                told(&mut notes, phase.trouble());
                let waiting = "the TPM to make its keys".to_owned();
                Status { step: 3, waiting, missing: Vec::new(), notes, next: "home completes the charter" }
            }
            Self::Completing(phase) => {
                let (signed, needed) = phase.signed().unwrap_or_default();
                if phase.candidates().is_empty() {
                    let waiting = "home's completed charter: take the result file to home".to_owned();
                    let next = "officials compare the completed charter, and sign it";
                    return Status { step: 4, waiting, missing: Vec::new(), notes, next };
                }
                let members = &board.ground().members;
                let missing = members.iter().filter(|name| !signed.contains(name)).cloned().collect();
                let waiting = format!("{} of {needed} officials' signatures on the completed charter", signed.len());
                Status { step: 4, waiting, missing, notes, next: "the charter is in force" }
            }
            Self::Founded(phase) => {
                let version = phase.charter().charter().parts().version;
                let waiting = format!("nothing: charter version {version} is in force");
                let next = "home enrols the TPM's identity key, and the service starts again";
                Status { step: 5, waiting, missing: Vec::new(), notes, next }
            }
        }
    }
}

fn waiting(run: &Run) -> Option<String> {
    let (kind, attempt) = (run.kind(), run.attempt());
    match run.unconfirmed() {
        Some(missing) if missing.is_empty() => None,
        Some(missing) => Some(format!("{kind} quorum: confirmations of {}", list(missing))),
        None => {
            let (what, missing) = run.missing();
            Some(format!("{kind} quorum, attempt {attempt}: {what} of {}", list(missing)))
        }
    }
}

fn absent(run: &Run) -> Vec<&OfficialName> {
    run.unconfirmed().unwrap_or_else(|| run.missing().1)
}
