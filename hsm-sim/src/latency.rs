//! How long operations take. swtpm answers in microseconds; a discrete TPM on a slow serial bus needs up to seconds for a key.
//! The figures are round ones of the order that public measurements of discrete TPMs show; no single product is meant.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::command as cc;

/// A time per command code. Given to a bus, each command takes at least that long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    every_other: Duration,
    by_command: BTreeMap<u32, Duration>,
}

impl Latency {
    /// The same time for every command.
    pub fn constant(time: Duration) -> Self {
        Self { every_other: time, by_command: BTreeMap::new() }
    }

    /// This profile with another time for one command code (TPM 2.0 Library, part 2, section 6.5.2).
    #[must_use]
    pub fn with(mut self, command_code: u32, time: Duration) -> Self {
        self.by_command.insert(command_code, time);
        self
    }

    /// What a discrete TPM on a serial bus needs.
    pub fn discrete_tpm() -> Self {
        let milliseconds = [
            (cc::CREATE_PRIMARY, 400),
            (cc::CREATE, 350),
            (cc::CREATE_LOADED, 350),
            (cc::LOAD, 90),
            (cc::LOAD_EXTERNAL, 20),
            (cc::START_AUTH_SESSION, 120), // salted; an unsalted one is faster on hardware too
            (cc::SIGN, 150),
            (cc::QUOTE, 200),
            (cc::CERTIFY, 200),
            (cc::CERTIFY_CREATION, 200),
            (cc::NV_CERTIFY, 210),
            (cc::ECDH_ZGEN, 160),
            (cc::ECDH_KEYGEN, 220),
            (cc::RSA_DECRYPT, 350),
            (cc::ACTIVATE_CREDENTIAL, 300),
            (cc::MAKE_CREDENTIAL, 120),
            (cc::VERIFY_SIGNATURE, 130),
            (cc::POLICY_SIGNED, 140),
            (cc::UNSEAL, 25),
            (cc::CONTEXT_SAVE, 25),
            (cc::CONTEXT_LOAD, 25),
            (cc::EVICT_CONTROL, 60),
            (cc::NV_DEFINE_SPACE, 45),
            (cc::NV_UNDEFINE_SPACE, 40),
            (cc::NV_WRITE, 35),
            (cc::NV_INCREMENT, 35),
            (cc::NV_EXTEND, 35),
            (cc::NV_READ, 12),
            (cc::HIERARCHY_CHANGE_AUTH, 40),
            (cc::CLEAR, 120),
            (cc::SHUTDOWN, 40),
            (cc::STARTUP, 30),
        ];
        let by_command = milliseconds.into_iter().map(|(code, ms)| (code, Duration::from_millis(ms))).collect();
        Self { every_other: Duration::from_millis(8), by_command }
    }

    /// How long a command with this code takes.
    pub fn of(&self, command_code: u32) -> Duration {
        self.by_command.get(&command_code).copied().unwrap_or(self.every_other)
    }
}
