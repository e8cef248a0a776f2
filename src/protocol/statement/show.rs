//! A statement in plain words: everything it says, one line each, for people who decide by it.

use std::fmt;

use crate::protocol::statement::{Adoption, LeaseTerms, Mode, Statement, StatementParts};

/// A time span as people say it.
pub(crate) fn duration(seconds: u64) -> String {
    let parts = [(86_400, "days"), (3_600, "hours"), (60, "minutes"), (1, "seconds")];
    let mut left = seconds;
    let mut said = Vec::new();
    for (unit, name) in parts {
        let count = left / unit;
        left %= unit;
        if count > 0 {
            let name = if count == 1 { name.trim_end_matches('s') } else { name };
            said.push(format!("{count} {name}"));
        }
    }
    if said.is_empty() { "no time".to_owned() } else { said.join(" ") }
}

impl Statement {
    /// Everything it says in plain words: a label and a text for each line. Names are safe to show as they are; the purpose
    /// is one printable paragraph.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let StatementParts { charter, embassy, generation, purpose, datasets, mode, .. } = self.parts();
        let StatementParts { opener, opened_at, expires_at, acknowledged, .. } = self.parts();
        let mut lines = vec![("purpose", purpose.to_string()), ("embassy", embassy.to_string())];
        for at in datasets {
            lines.push(("opens", format!("{}, version {}", at.dataset, at.version)));
        }
        match mode {
            Mode::Lease(LeaseTerms { agents, duration_seconds, unwraps }) => {
                lines.push(("mode", "lease: the keys stay in the embassy's memory".to_owned()));
                for agent in agents {
                    lines.push(("for agent", agent.to_string()));
                }
                lines.push(("lasts", duration(u64::from(*duration_seconds))));
                lines.push(("unwraps", format!("at most {unwraps}")));
            }
            Mode::Release { recipient } => {
                lines.push(("mode", "release: the keys go to the recipient; the embassy never has them".to_owned()));
                lines.push(("recipient", recipient.unverified_name().to_string()));
                lines.push(("recipient's card", recipient.hash().to_string()));
            }
            Mode::Adoption(Adoption { charter, pinned }) => {
                let mode = "amendment: the TPM is told which charter is in force, and takes no older one afterwards";
                lines.push(("mode", mode.to_owned()));
                lines.push(("adopts", format!("charter version {}", charter.version)));
                lines.push(("its hash", charter.hash.to_string()));
                lines.push(("instead of", pinned.to_string()));
            }
        }
        lines.push(("opened by", opener.to_string()));
        lines.push(("opened at", opened_at.to_string()));
        lines.push(("ends at", expires_at.to_string()));
        lines.push(("TPM counts acknowledged", acknowledged.to_string()));
        lines.push(("network", charter.to_string()));
        lines.push(("generation", generation.to_string()));
        lines.push(("read aloud", self.words().to_string()));
        lines
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Mode::Adoption(Adoption { charter, .. }) = self.mode() {
            return write!(
                f,
                "embassy {} is to adopt charter version {}: {}",
                self.embassy(),
                charter.version,
                self.purpose()
            );
        }
        write!(f, "embassy {} is to open ", self.embassy())?;
        for (index, at) in self.datasets().iter().enumerate() {
            write!(f, "{}{} (version {})", if index == 0 { "" } else { ", " }, at.dataset, at.version)?;
        }
        match self.mode() {
            Mode::Lease(terms) => {
                let agents: Vec<&str> = terms.agents.iter().map(crate::protocol::ids::AgentName::as_str).collect();
                let lasts = duration(u64::from(terms.duration_seconds));
                write!(f, " for {}, {lasts}, at most {} unwraps", agents.join(", "), terms.unwraps)?;
            }
            Mode::Release { recipient } => write!(f, " for {} alone", recipient.unverified_name())?,
            Mode::Adoption(_) => {}
        }
        write!(f, ": {}", self.purpose())
    }
}
