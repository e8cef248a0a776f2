//! Which requests under a lease were answered: a repeat is recognized, and draws nothing from the budget again.
//!
//! No key of a file is kept for a repeat; its stanzas are unwrapped anew. What is kept is a digest of who asked under which
//! key, and a digest of what was asked. It is bounded: the oldest is forgotten first, and all of it with the lease.

use std::collections::{HashMap, VecDeque};

use crate::protocol::{hash::Hash, ids::AgentName};

/// How many requests of a lease are remembered: 1.6 s of the highest rate that was measured, which is longer than a client
/// goes on repeating one. At most 1 MiB.
pub const REMEMBERED: usize = 8192;
/// The longest key of a request, in bytes.
pub const MAX_KEY_BYTES: usize = 64;

/// By what a repeat is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Once {
    who: Hash,
    what: Hash,
}

impl Once {
    /// An agent's own key for a request, and the request. `None` for a key that is none: 1 to 64 visible ASCII characters.
    pub fn new(agent: &AgentName, key: &[u8], request: &[u8]) -> Option<Self> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        // Neither part can hold the byte between them.
        let who = Hash::of_bytes(&[agent.as_str().as_bytes(), b"\0", key].concat());
        Some(Self { who, what: Hash::of_bytes(request) })
    }
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    New,
    /// It was admitted before.
    Repeated,
    /// Another one was admitted under the same key.
    Reused,
}

/// The requests of one lease.
#[derive(Debug, Default)]
pub struct Requests {
    known: HashMap<Hash, Hash>,
    order: VecDeque<Hash>,
}

impl Requests {
    /// Whether it was admitted before.
    pub fn look(&self, once: &Once) -> Seen {
        match self.known.get(&once.who) {
            None => Seen::New,
            Some(what) if *what == once.what => Seen::Repeated,
            Some(_) => Seen::Reused,
        }
    }

    /// It was admitted, and what it costs is drawn.
    pub fn note(&mut self, once: Once) {
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        if self.known.insert(once.who, once.what).is_none() {
            self.order.push_back(once.who);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn once(agent: &str, key: &str, request: &str) -> Once {
        Once::new(&AgentName::new(agent).unwrap(), key.as_bytes(), request.as_bytes()).unwrap()
    }

    #[test]
    fn a_key_is_one_agents_for_one_request() {
        let mut requests = Requests::default();
        let first = once("court", "k1", "stanza");
        assert_eq!(requests.look(&first), Seen::New);
        requests.note(first);
        assert_eq!(requests.look(&first), Seen::Repeated);
        assert_eq!(requests.look(&once("court", "k1", "other")), Seen::Reused);
        assert_eq!(requests.look(&once("court", "k2", "stanza")), Seen::New);
        assert_eq!(requests.look(&once("replicator", "k1", "stanza")), Seen::New);
        let agent = AgentName::new("court").unwrap();
        for wrong in ["", " ", "a b", "ä", "\u{7f}", &"k".repeat(MAX_KEY_BYTES + 1)] {
            assert_eq!(Once::new(&agent, wrong.as_bytes(), b""), None, "{wrong:?}");
        }
        assert!(Once::new(&agent, "k".repeat(MAX_KEY_BYTES).as_bytes(), b"").is_some());
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut requests = Requests::default();
        for index in 0..=REMEMBERED {
            requests.note(once("court", &index.to_string(), "stanza"));
        }
        assert_eq!((requests.known.len(), requests.order.len()), (REMEMBERED, REMEMBERED));
        assert_eq!(requests.look(&once("court", "0", "stanza")), Seen::New);
        assert_eq!(requests.look(&once("court", "1", "stanza")), Seen::Repeated);
    }
}
