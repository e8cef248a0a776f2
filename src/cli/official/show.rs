//! Statements and ceremonies, as officials see them: what is going on, who is missing, what comes next, how to stop.

use std::io::Write;

use chancery::{
    client::{
        leases::LeaseView,
        official::{Adopting, Reviewed, Told},
    },
    protocol::{ids::OfficialName, statement::Statement},
};

use crate::cli::{failure::Failure, text};

/// How many digits of an id people are shown and asked to type.
pub(super) const SHORT: usize = 8;

/// The beginning of a ceremony's id.
pub(super) fn short(told: &Told) -> String {
    told.id.to_string().chars().take(SHORT).collect()
}

/// One line of a sheet: a label, and what stands under it.
pub(super) fn line(out: &mut dyn Write, label: &str, text: &str) -> Result<(), Failure> {
    Ok(writeln!(out, "  {label:<24} {text}")?)
}

/// The whole statement, in plain words.
pub(super) fn statement(out: &mut dyn Write, statement: &Statement) -> Result<(), Failure> {
    for (label, said) in statement.lines() {
        line(out, label, &text::words(&said))?;
    }
    Ok(())
}

/// What adopting a charter changes, and what for.
pub(super) fn adopting(out: &mut dyn Write, adopting: &Adopting) -> Result<(), Failure> {
    let Adopting { from, to, changes } = adopting;
    writeln!(out, "WHAT IS ADOPTED")?;
    line(out, "the TPM was told of", &format!("charter version {}", from.version))?;
    line(out, "it is to be told of", &format!("charter version {}, in force here", to.version))?;
    line(out, "then", &format!("this embassy starts with no charter before version {} any more", to.version))?;
    writeln!(out, "  what version {} changes of version {}:", to.version, from.version)?;
    for change in changes {
        writeln!(out, "    {}", text::words(change))?;
    }
    Ok(())
}

/// What this machine has checked of an offer, and what only the person can judge.
pub(super) fn reviewed(out: &mut dyn Write, reviewed: &Reviewed) -> Result<(), Failure> {
    writeln!(out, "THE STATEMENT")?;
    statement(out, reviewed.statement())?;
    if let Some(recipient) = reviewed.recipient() {
        line(out, "the recipient is", &format!("{}, certified by home", recipient.identity()))?;
    }
    writeln!(out)?;
    if let Some(changed) = reviewed.adopting() {
        adopting(out, changed)?;
        writeln!(out)?;
    }
    writeln!(out, "THE MACHINE")?;
    line(out, "resets and restarts", &reviewed.rise().to_string())?;
    for newer in reviewed.newer() {
        line(out, "newer data", newer)?;
    }
    writeln!(out)?;
    writeln!(out, "CHECKED BY THIS MACHINE")?;
    let slots = reviewed.checked().slots().len();
    let facts = reviewed.facts();
    let subject = match reviewed.adopting() {
        Some(Adopting { from, to, .. }) => format!(
            "charter version {} is the one in force here, and follows version {} in an unbroken chain",
            to.version, from.version
        ),
        None => format!(
            "{slots} of {slots} slots: the data owner's signature, the proof, and a point never seen in another slot"
        ),
    };
    for checked in [
        format!("the charter in force names {} and its keys, and no later charter is known here", facts.embassy()),
        format!("{} signed this statement, and it is in time", reviewed.statement().opener()),
        format!("{} signed this offer (attempt {})", facts.embassy(), reviewed.checked().offer().attempt()),
        subject,
        format!("each command that you allow the TPM was computed here, for {} only", facts.embassy()),
    ] {
        writeln!(out, "  {checked}")?;
    }
    writeln!(out)?;
    writeln!(out, "NOT CHECKED")?;
    writeln!(
        out,
        "  what the machine has booted: its report does not exist yet; its TPM refuses in a state that was not approved"
    )?;
    writeln!(out, "  whether the purpose is true, and the moment right: that is yours to judge")?;
    Ok(())
}

/// How a ceremony stands, by the embassy's account.
pub(super) fn standing(out: &mut dyn Write, told: &Told, own: &OfficialName) -> Result<(), Failure> {
    let view = &told.view;
    let names = |names: &[String]| {
        let said: Vec<String> = names
            .iter()
            .map(|name| if name == own.as_str() { format!("{name} (YOU)") } else { text::words(name) })
            .collect();
        if said.is_empty() { "nobody".to_owned() } else { said.join(", ") }
    };
    line(out, "it is", &state(told, own))?;
    line(out, "approved", &format!("{} ({} of {})", names(&view.contributed), view.contributed.len(), view.need))?;
    if view.outcome.is_none() {
        line(out, "missing", &names(&view.missing))?;
    }
    line(out, "denied", &format!("{} ({} denials end it)", names(&view.denied), view.denials_that_end))?;
    if !view.culprits.is_empty() {
        line(out, "sent something wrong", &names(&view.culprits))?;
    }
    for (label, said) in [("held up by", &view.trouble), ("outcome", &view.outcome), ("lease", &view.lease)] {
        if let Some(said) = said {
            line(out, label, &text::words(said))?;
        }
    }
    line(out, "next", &text::words(&view.next))?;
    Ok(())
}

/// How a lease stands, by the embassy's account.
pub(super) fn lease(out: &mut dyn Write, lease: &LeaseView) -> Result<(), Failure> {
    writeln!(out)?;
    writeln!(out, "THE LEASE")?;
    lease_lines(out, lease)
}

/// The same, under somebody else's heading.
pub(super) fn lease_lines(out: &mut dyn Write, lease: &LeaseView) -> Result<(), Failure> {
    line(out, "it is", &text::words(&lease.why))?;
    line(out, "agents", &text::words(&lease.agents.join(", ")))?;
    line(out, "time left", &format!("{} minutes of {}", lease.seconds_left / 60, lease.duration_seconds / 60))?;
    line(out, "unwraps", &format!("{} of {} made", lease.used, lease.unwraps))?;
    Ok(())
}

/// One phrase: what is going on, and whether it waits for this official.
pub(super) fn state(told: &Told, own: &OfficialName) -> String {
    let view = &told.view;
    let said = match view.phase.as_str() {
        "awaiting-offer" => "waiting for the embassy's offer".to_owned(),
        "collecting" => format!("collecting approvals: {} of {}", view.contributed.len(), view.need),
        "opening" => "opening: the quorum has agreed, the TPM is at work".to_owned(),
        "released" => "released: the recipient can fetch it".to_owned(),
        "ended" => "ended".to_owned(),
        other => text::words(other),
    };
    if waits_for(told, own) { format!("{said}. WAITS FOR YOU") } else { said }
}

/// Whether this official has still to decide.
pub(super) fn waits_for(told: &Told, own: &OfficialName) -> bool {
    told.view.phase == "collecting" && told.view.missing.iter().any(|name| name == own.as_str())
}

/// How to object, at every point.
pub(super) fn ways_out(out: &mut dyn Write, id: &str) -> Result<(), Failure> {
    writeln!(out, "To object: `chancery official deny {id} --reason ...` is your vote against it;")?;
    writeln!(out, "           `chancery official stop {id} --reason ...` ends it at once, also later, as a lease.")?;
    Ok(())
}
