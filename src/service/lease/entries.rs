//! What happened to a lease, as entries of the roll.

use crate::{
    protocol::{
        certificate::UnixTime,
        ids::{CeremonyId, EmbassyName},
        paragraph::Reason,
        roll::{Act, Entry, Who},
        wire::Document,
    },
    service::lease::table::Note,
};

/// The entry of one note, encoded.
pub(super) fn entry(note: &Note, ceremony: CeremonyId, embassy: &EmbassyName, at: UnixTime) -> Vec<u8> {
    let by_embassy = || Who::Embassy(embassy.clone());
    let (by, act) = match note.clone() {
        Note::Begun { offer, officials } => (by_embassy(), Act::Leased { ceremony, offer, officials }),
        Note::Suspended => {
            let why = Reason::of("no witness was heard for one heartbeat interval");
            (by_embassy(), Act::LeaseSuspended { ceremony, why })
        }
        Note::Revived => (by_embassy(), Act::LeaseRevived { ceremony }),
        Note::Stopped { stop } => (Who::Official(stop.unverified_official().clone()), Act::Stopped { stop }),
        Note::Ended { why, unwraps } => {
            (by_embassy(), Act::LeaseEnded { ceremony, why: Reason::of(&why.to_string()), unwraps })
        }
        Note::Reserved { user, count } => {
            let (dataset, agent) = (user.dataset, user.agent);
            (by_embassy(), Act::UnwrapsReserved { ceremony, dataset, agent, count })
        }
        Note::Used { user, count } => {
            let (dataset, agent) = (user.dataset, user.agent);
            (Who::Agent(agent.clone()), Act::UnwrapsUsed { ceremony, dataset, agent, count })
        }
    };
    Entry { at, by, act }.encode()
}
