//! The same cluster, told as stories: one thing happens in each, and what must follow has a name.

use chancery::protocol::{
    ceremony::{Ceremony, Event, NotAdmitted, Outcome, Phase, Refused, Reply, Trouble},
    gathering::Refusal,
    ids::{CeremonyId, OfficialName},
    notice::{NoticeError, Reason, Stop},
    roll::Act,
    statement::{Resets, SignedStatement, Statement, StatementParts},
    wire::Document,
};

use crate::{
    Cluster,
    people::{Message, Spoil},
    world::EXPIRY_MAX,
};

const ANNA: usize = 0;
const BORIS: usize = 1;
const CLARA: usize = 2;
const DAVID: usize = 3;
const EVA: usize = 4;

impl Cluster {
    /// Anna opens a ceremony that all agree to, and the embassy makes its offer.
    fn opened(&mut self, both: bool, release: bool) -> CeremonyId {
        let signed = self.statement(ANNA, both, release, 100_000);
        let id = self.embassy.open(signed, true).unwrap();
        self.agreed.insert(id, true);
        self.settle();
        self.check();
        id
    }

    fn approves(&mut self, who: usize, id: CeremonyId) -> Reply {
        let message = self.review(who, id).expect("an offer to review");
        self.overheard.push((id, message.clone()));
        let reply = self.arrive(id, &message).unwrap();
        self.check();
        reply
    }

    fn phase(&self, id: &CeremonyId) -> Phase {
        self.embassy.unseal(id).unwrap().standing(&self.world.facts).phase
    }

    fn acts(&self) -> Vec<&'static str> {
        self.embassy.store.roll.iter().map(|entry| entry.act.name()).collect()
    }
}

#[test]
fn three_of_five_lease_two_datasets_and_the_roll_tells_it_in_order() {
    let mut cluster = Cluster::default();
    let id = cluster.opened(true, false);
    for who in [EVA, BORIS, CLARA] {
        assert!(matches!(cluster.approves(who, id), Reply::Accepted { need: 3, .. }));
    }
    assert_eq!(cluster.phase(&id), Phase::Opening);
    cluster.settle();
    cluster.check();
    assert_eq!(cluster.embassy.outcome(&id), Some(&Outcome::Leased));
    let lease = &cluster.embassy.leases[&id];
    assert_eq!(lease.officials.len(), 3);
    for (dataset, seed) in &lease.seeds {
        assert_eq!(seed.expose(), cluster.world.seed_of(dataset).expose());
    }
    let told = ["ceremony opened", "offer made", "contributed", "contributed", "contributed", "opening", "leased"];
    assert_eq!(cluster.acts(), [&told[..], &["ceremony ended"]].concat());
    cluster.no_seed_but_in_a_live_lease();
}

#[test]
fn a_release_goes_to_its_recipient_also_where_some_sent_wrong_halves() {
    let mut cluster = Cluster::default();
    let id = cluster.opened(true, true);
    let offer = cluster.embassy.offer(&id).unwrap();
    // Two of the three that the embassy counts sent halves that open nothing. It cannot know.
    for (who, how) in [(DAVID, Spoil::Rubbish), (EVA, Spoil::Share)] {
        let checked = cluster.people.check(who, &offer, cluster.embassy.now).unwrap();
        let message = cluster.people.spoil(who, &checked, how);
        assert!(matches!(cluster.arrive(id, &message), Some(Reply::Accepted { .. })));
    }
    cluster.approves(ANNA, id);
    cluster.settle();
    cluster.check();
    assert_eq!(cluster.phase(&id), Phase::Released);
    // A restart loses nothing of it, and the others still can.
    cluster.embassy.restart();
    cluster.check();
    for who in [BORIS, CLARA] {
        assert!(matches!(cluster.approves(who, id), Reply::Accepted { .. }));
    }
    cluster.the_recipient_opens(&id);
    cluster.no_seed_but_in_a_live_lease();
    // A release that waits for its recipient keeps its opener from nothing.
    let another = cluster.statement(ANNA, false, false, 300_000);
    assert!(cluster.embassy.open(another, true).is_ok());
    cluster.embassy.now.0 += 200_000;
    cluster.tick();
    cluster.check();
    assert_eq!(cluster.embassy.outcome(&id), Some(&Outcome::Released));
    assert_eq!(cluster.embassy.unseal(&id).unwrap().handed().unwrap().contributions.len(), 5);
}

#[test]
fn the_roll_names_whose_approvals_the_tpm_was_given_and_nobody_else() {
    let mut cluster = Cluster::default();
    let id = cluster.opened(true, true);
    for who in [CLARA, DAVID, EVA] {
        cluster.approves(who, id);
    }
    // The TPM is being asked. One more contributes, which the recipient may use, and one of the three turns against it.
    assert_eq!(cluster.phase(&id), Phase::Opening);
    assert!(matches!(cluster.approves(ANNA, id), Reply::Accepted { .. }));
    let vote = cluster.people.deny(DAVID, id);
    assert_eq!(cluster.arrive(id, &vote), Some(Reply::Taken));
    cluster.settle();
    cluster.check();
    assert_eq!(cluster.phase(&id), Phase::Released);
    let given: Vec<Vec<&str>> = cluster
        .embassy
        .store
        .roll
        .iter()
        .filter_map(|entry| match &entry.act {
            Act::Opening { officials, .. } | Act::Released { officials, .. } => {
                Some(officials.iter().map(OfficialName::as_str).collect())
            }
            _ => None,
        })
        .collect();
    assert_eq!(given, [["clara", "david", "eva"], ["clara", "david", "eva"]]);
}

#[test]
fn a_restart_asks_for_fresh_approvals_and_loses_nothing_else() {
    let mut cluster = Cluster::default();
    let id = cluster.opened(false, false);
    cluster.approves(ANNA, id);
    let vote = cluster.people.deny(EVA, id);
    assert_eq!(cluster.arrive(id, &vote), Some(Reply::Taken));
    let before = cluster.embassy.offer(&id).unwrap();
    cluster.embassy.restart();
    assert!(cluster.embassy.offer(&id).is_none());
    let late = cluster.people.contribution_for(BORIS, &before, cluster.embassy.now);
    assert_eq!(cluster.arrive(id, &late), Some(Reply::Refused(Refused::NoOffer)));
    cluster.settle();
    cluster.check();
    let standing = cluster.embassy.unseal(&id).unwrap().standing(&cluster.world.facts);
    assert_eq!((standing.attempt, standing.contributed.len(), standing.denied.len()), (2, 0, 1));
    assert!(standing.trouble.is_none() && standing.next.starts_with("3 more of these"), "{standing:?}");
    // What was said to the first offer is not said to the second.
    let refused = cluster.arrive(id, &late);
    assert_eq!(refused, Some(Reply::Refused(Refused::Contribution(Refusal::OtherOffer))));
    for who in [ANNA, BORIS, CLARA] {
        assert!(matches!(cluster.approves(who, id), Reply::Accepted { .. }));
    }
    cluster.settle();
    assert_eq!(cluster.embassy.outcome(&id), Some(&Outcome::Leased));
}

#[test]
fn a_tpm_reset_that_nobody_noticed_costs_the_approvals_alone() {
    let mut cluster = Cluster::default();
    let id = cluster.opened(true, false);
    cluster.embassy.tpm.reset();
    for who in [ANNA, BORIS, CLARA] {
        cluster.approves(who, id);
    }
    cluster.settle();
    cluster.check();
    assert_eq!(cluster.phase(&id), Phase::Collecting);
    assert!(cluster.acts().ends_with(&["opening", "not opened", "fresh approvals asked for", "offer made"]));
    for who in [BORIS, CLARA, EVA] {
        cluster.approves(who, id);
    }
    cluster.settle();
    assert_eq!(cluster.embassy.outcome(&id), Some(&Outcome::Leased));
}

#[test]
fn an_approval_that_expired_costs_its_place_and_the_sessions_stay() {
    let mut cluster = Cluster::default();
    let id = cluster.opened(false, false);
    let offer = cluster.embassy.offer(&id).unwrap();
    let checked = cluster.people.check(DAVID, &offer, cluster.embassy.now).unwrap();
    let short = cluster.people.spoil(DAVID, &checked, Spoil::Short);
    cluster.arrive(id, &short).unwrap();
    cluster.embassy.now.0 += 30;
    for who in [ANNA, BORIS] {
        cluster.approves(who, id);
    }
    cluster.settle();
    cluster.check();
    let standing = cluster.embassy.unseal(&id).unwrap().standing(&cluster.world.facts);
    assert_eq!((standing.phase, standing.attempt, standing.contributed.len()), (Phase::Collecting, 1, 2));
    assert!(standing.trouble.unwrap().as_str().contains("david: it has expired") && standing.culprits.is_empty());
    cluster.approves(CLARA, id);
    cluster.settle();
    assert_eq!(cluster.embassy.outcome(&id), Some(&Outcome::Leased));
}

#[test]
fn an_offer_that_outlives_every_approval_is_made_anew() {
    let mut cluster = Cluster::default();
    let id = cluster.opened(false, false);
    for who in [ANNA, BORIS] {
        cluster.approves(who, id);
    }
    let late = cluster.review(CLARA, id).unwrap();
    let by = cluster.embassy.unseal(&id).unwrap().standing(&cluster.world.facts).approve_by.unwrap();
    assert_eq!(by.0, cluster.embassy.now.0 + i64::from(EXPIRY_MAX));
    cluster.embassy.now = by;
    // In that session the TPM would take nobody's approval any more, however fresh.
    assert_eq!(cluster.arrive(id, &late), Some(Reply::Refused(Refused::NoOffer)));
    cluster.settle();
    for who in [ANNA, BORIS, CLARA] {
        assert!(matches!(cluster.approves(who, id), Reply::Accepted { .. }));
    }
    cluster.settle();
    assert_eq!(cluster.embassy.outcome(&id), Some(&Outcome::Leased));
}

#[test]
fn one_official_s_stop_in_the_middle_of_the_opening_takes_back_what_comes_of_it() {
    let mut cluster = Cluster::default();
    let id = cluster.opened(false, false);
    for who in [ANNA, BORIS, CLARA] {
        cluster.approves(who, id);
    }
    let stop = cluster.people.stop(DAVID, id);
    assert_eq!(cluster.arrive(id, &stop), Some(Reply::Taken));
    assert_eq!(cluster.arrive(id, &stop), Some(Reply::AlreadyAccepted));
    // The TPM was being asked already.
    cluster.settle();
    cluster.check();
    assert!(matches!(cluster.embassy.outcome(&id), Some(Outcome::Stopped { .. })));
    assert!(cluster.embassy.leases.is_empty());
    assert!(cluster.acts().ends_with(&["leased", "lease ended"]), "{:?}", cluster.acts());
}

#[test]
fn denials_are_votes_and_three_of_them_end_a_ceremony_of_three_of_five() {
    let mut cluster = Cluster::default();
    let id = cluster.opened(false, false);
    cluster.approves(ANNA, id);
    for (who, ended) in [(ANNA, false), (BORIS, false), (CLARA, true)] {
        let vote = cluster.people.deny(who, id);
        assert_eq!(cluster.arrive(id, &vote), Some(Reply::Taken));
        if !ended {
            assert_eq!(cluster.arrive(id, &vote), Some(Reply::AlreadyAccepted));
        }
        cluster.check();
        assert_eq!(cluster.embassy.outcome(&id).is_some(), ended);
        if who == ANNA {
            // Who denied took the approval back, and cannot give it again.
            assert!(cluster.embassy.unseal(&id).unwrap().standing(&cluster.world.facts).contributed.is_empty());
            assert!(matches!(cluster.approves(ANNA, id), Reply::Refused(Refused::DeniedBefore { .. })));
        }
    }
    assert!(matches!(cluster.embassy.outcome(&id), Some(Outcome::Denied { officials }) if officials.len() == 3));
}

#[test]
fn a_flood_of_wrong_contributions_names_its_sender_once() {
    let mut cluster = Cluster::default();
    let id = cluster.opened(false, false);
    let offer = cluster.embassy.offer(&id).unwrap();
    let checked = cluster.people.check(DAVID, &offer, cluster.embassy.now).unwrap();
    for how in [Spoil::Rubbish, Spoil::Share, Spoil::Halves, Spoil::Few, Spoil::Nonce, Spoil::Rubbish, Spoil::Name] {
        let message = cluster.people.spoil(DAVID, &checked, how);
        let reply = cluster.arrive(id, &message).unwrap();
        assert!(matches!(reply, Reply::Refused(Refused::Contribution(_))), "{how:?}: {reply:?}");
        cluster.check();
    }
    assert_eq!(cluster.acts().iter().filter(|act| **act == "refused").count(), 1);
    let standing = cluster.embassy.unseal(&id).unwrap().standing(&cluster.world.facts);
    let names: Vec<&str> = standing.culprits.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["david"]);
    // And david, having come to reason, counts.
    let right = cluster.people.spoil(DAVID, &checked, Spoil::Honest);
    assert!(matches!(cluster.arrive(id, &right), Some(Reply::Accepted { have: 1, .. })));
}

#[test]
fn the_time_of_a_ceremony_ends_it_whatever_comes() {
    for early in [0, 3] {
        let mut cluster = Cluster::default();
        let id = cluster.opened(false, false);
        for who in 0..early {
            cluster.approves(who, id);
        }
        cluster.embassy.now.0 += 100_000;
        let vote = cluster.people.deny(EVA, id);
        let reply = cluster.arrive(id, &vote);
        assert_eq!(reply, Some(Reply::Refused(Refused::Over { outcome: Outcome::Expired })));
        cluster.settle();
        cluster.check();
        assert_eq!(cluster.embassy.outcome(&id), Some(&Outcome::Expired));
        assert!(cluster.embassy.leases.is_empty());
    }
}

#[test]
fn what_cannot_go_on_by_itself_waits_for_somebody_to_look() {
    let mut cluster = Cluster::default();
    let id = cluster.opened(false, false);
    let trouble = Trouble::Examine { why: "the platform is not the approved one".to_owned() };
    for who in [ANNA, BORIS, CLARA] {
        cluster.approves(who, id);
    }
    cluster.embassy.feed(id, Event::NotOpened { attempt: 1, trouble });
    cluster.embassy.now.0 += 5000;
    cluster.tick();
    cluster.settle();
    let standing = cluster.embassy.unseal(&id).unwrap().standing(&cluster.world.facts);
    assert_eq!((standing.phase, standing.attempt), (Phase::AwaitingOffer, 2));
    assert!(standing.next.contains("somebody must look"), "{standing:?}");
    // What the opening of the first attempt gave meanwhile is not kept: nobody waits for it.
    assert!(cluster.embassy.leases.is_empty());
    cluster.embassy.restart();
    cluster.settle();
    cluster.check();
    assert_eq!(cluster.phase(&id), Phase::Collecting);
}

#[test]
fn a_busy_tpm_is_asked_again_by_itself() {
    let mut cluster = Cluster::default();
    let id = cluster.opened(false, false);
    for who in [ANNA, BORIS, CLARA] {
        cluster.approves(who, id);
    }
    cluster.embassy.tpm.busy = 2;
    for pause in [0, 2, 2, 4] {
        cluster.embassy.now.0 += pause;
        cluster.tick();
        cluster.settle();
        cluster.check();
    }
    assert_eq!(cluster.embassy.outcome(&id), Some(&Outcome::Leased));
    assert_eq!(cluster.acts().iter().filter(|act| **act == "opening").count(), 3);
}

#[test]
fn a_step_that_could_not_be_saved_is_saved_before_anything_else() {
    let mut cluster = Cluster::default();
    let id = cluster.opened(false, false);
    for who in [ANNA, BORIS] {
        cluster.approves(who, id);
    }
    let third = cluster.review(CLARA, id).unwrap();
    cluster.embassy.store.fails = 1;
    let before = cluster.acts().len();
    assert_eq!(cluster.arrive(id, &third), None, "who sent it is told to try again");
    assert_eq!(cluster.acts().len(), before, "nothing was sent");
    assert_eq!(cluster.arrive(id, &third), Some(Reply::AlreadyAccepted));
    assert!(cluster.acts().ends_with(&["contributed", "opening"]));
    cluster.settle();
    assert_eq!(cluster.embassy.outcome(&id), Some(&Outcome::Leased));
}

#[test]
fn a_statement_that_must_not_open_opens_nothing() {
    let mut cluster = Cluster::default();
    let first = cluster.opened(false, false);
    let again = cluster.statement(ANNA, true, false, 100_000);
    let refused = cluster.embassy.open(again, true).unwrap_err();
    assert!(matches!(refused, NotAdmitted::OneAtATime { id, .. } if id == first), "{refused}");
    let before = cluster.embassy.store.roll.len();

    let good = cluster.statement(BORIS, false, false, 100_000);
    let key = &cluster.world.people[BORIS].identity;
    let change = |change: &dyn Fn(&mut StatementParts)| {
        let mut parts = good.unverified().parts().clone();
        change(&mut parts);
        SignedStatement::sign(Statement::new(parts).unwrap(), key).unwrap()
    };
    let resets = Resets { reset_count: 4, restart_count: 0 };
    let missing = |parts: &mut StatementParts| parts.datasets[0].version = parts.datasets[0].version.next().unwrap();
    for (story, bad) in [
        ("resets not acknowledged", change(&|parts| parts.acknowledged = resets)),
        ("another generation", change(&|parts| parts.generation = parts.generation.next().unwrap())),
        ("no record of the version", change(&missing)),
        ("another's name", change(&|parts| parts.opener = cluster.world.people[CLARA].name.clone())),
        (
            "over",
            change(&|parts| (parts.opened_at.0, parts.expires_at) = (cluster.embassy.now.0 - 9, cluster.embassy.now)),
        ),
    ] {
        assert!(cluster.embassy.open(bad, true).is_err(), "{story}");
    }
    let refused = cluster.embassy.open(good.clone(), false).unwrap_err();
    assert!(matches!(refused, NotAdmitted::NoLease), "{refused}");
    assert_eq!(cluster.embassy.store.roll.len(), before, "what opened nothing left a trace");
    let second = cluster.embassy.open(good.clone(), true).unwrap();
    let refused = cluster.embassy.open(good, true).unwrap_err();
    assert!(matches!(refused, NotAdmitted::Known { id } if id == second), "{refused}");
    // Once the first has ended, its opener can open another one.
    let stop = cluster.people.stop(ANNA, first);
    cluster.arrive(first, &stop);
    let third = cluster.statement(ANNA, true, false, 100_000);
    assert!(cluster.embassy.open(third, true).is_ok());
    assert!(matches!(cluster.embassy.store.roll.last().unwrap().act, Act::CeremonyOpened { .. }));
}

#[test]
fn two_ceremonies_at_once_do_not_mix() {
    let mut cluster = Cluster::default();
    let land = cluster.opened(false, false);
    let signed = cluster.statement(BORIS, true, false, 100_000);
    let both = cluster.embassy.open(signed, true).unwrap();
    cluster.agreed.insert(both, true);
    cluster.settle();
    for who in [ANNA, BORIS] {
        cluster.approves(who, land);
        cluster.approves(who, both);
    }
    // The third approval of one is none of the other.
    let Some(Message::Contribution(bytes)) = cluster.review(CLARA, land) else { panic!("a contribution") };
    let elsewhere = cluster.arrive(both, &Message::Contribution(bytes));
    assert_eq!(elsewhere, Some(Reply::Refused(Refused::Contribution(Refusal::OtherOffer))));
    cluster.approves(CLARA, both);
    cluster.settle();
    cluster.check();
    assert_eq!(cluster.embassy.outcome(&both), Some(&Outcome::Leased));
    assert_eq!(cluster.embassy.outcome(&land), None);
}

#[test]
fn a_word_against_a_ceremony_is_whose_it_says_and_about_this_one() {
    let mut cluster = Cluster::default();
    let id = cluster.opened(false, false);
    let signed = cluster.statement(BORIS, true, false, 100_000);
    let other = cluster.embassy.open(signed, true).unwrap();
    for stop in [false, true] {
        let forged = cluster.people.forge(EVA, ANNA, id, stop);
        let refused = cluster.arrive(id, &forged);
        assert!(matches!(refused, Some(Reply::Refused(Refused::Notice(NoticeError::Signature { .. })))), "{refused:?}");
        let elsewhere = if stop { cluster.people.stop(EVA, other) } else { cluster.people.deny(EVA, other) };
        let refused = cluster.arrive(id, &elsewhere);
        let about_other = |reply: &Option<Reply>| matches!(reply, Some(Reply::Refused(Refused::Notice(NoticeError::OtherCeremony { about }))) if *about == other);
        assert!(about_other(&refused), "{refused:?}");
    }
    let mallory = OfficialName::new("mallory").unwrap();
    let (key, reason) = (&cluster.world.people[EVA].identity, Reason::new("no reason").unwrap());
    let stranger = Stop::sign(id, mallory, reason, key).unwrap();
    let refused = cluster.arrive(id, &Message::Stop(stranger.encode()));
    assert!(matches!(refused, Some(Reply::Refused(Refused::Notice(NoticeError::Stranger { .. })))), "{refused:?}");
    cluster.check();
    assert_eq!(cluster.phase(&id), Phase::Collecting);
}

#[test]
fn a_record_that_the_host_altered_says_nothing_new_in_anybody_s_name() {
    let mut cluster = Cluster::default();
    let id = cluster.opened(true, false);
    let vote = cluster.people.deny(EVA, id);
    cluster.arrive(id, &vote);
    let record = cluster.embassy.store.records[&format!("ceremony/{id}")].clone();
    let context = cluster.embassy.context();
    assert!(Ceremony::resume(&record, &context).is_ok());
    let mut went_on = 0;
    for at in (0..record.len()).step_by(7) {
        let mut altered = record.clone();
        altered[at] ^= 1 << (at % 8);
        let Ok(step) = Ceremony::resume(&altered, &context) else { continue };
        went_on += 1;
        // What nobody signed may differ, such as the number of attempts; statement and votes may not.
        let Ceremony::Unseal(unseal) = &step.next;
        let standing = unseal.standing(&cluster.world.facts);
        let against: Vec<&str> = standing.denied.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((unseal.id(), against), (id, vec!["eva"]), "byte {at}");
        assert!(!matches!(standing.phase, Phase::Collecting | Phase::Opening), "byte {at}");
    }
    assert!(went_on > 0, "nothing but signed bytes in a record?");
    for end in (0..record.len()).step_by(11) {
        assert!(Ceremony::resume(&record[..end], &context).is_err(), "{end} bytes");
    }
}
