//! What can happen, and how often: the same for the models and for the real pieces.
#![allow(dead_code, reason = "each test uses its own part")]

use proptest::prelude::*;

/// One thing that happens. Indices are taken modulo what there is.
#[derive(Clone, Debug)]
pub enum Action {
    /// An official opens a ceremony; whether the honest agree to it when asked.
    Open { who: u8, both: bool, release: bool, agreed: bool, short: bool },
    /// The embassy carries out some orders of a ceremony.
    Work { ceremony: u8, orders: u8 },
    /// An honest official looks at the offer, and approves or denies.
    Review { who: u8, ceremony: u8 },
    /// All honest officials look and answer at once, and their messages arrive.
    Together { ceremony: u8 },
    /// An honest official changes its mind.
    Deny { who: u8, ceremony: u8 },
    /// Somebody stops it.
    Stop { who: u8, ceremony: u8 },
    /// Somebody in the host's pay contributes.
    Spoil { who: u8, ceremony: u8, how: u8 },
    /// Somebody in the host's pay speaks for another.
    Forge { who: u8, victim: u8, ceremony: u8, stop: bool },
    /// A message arrives, perhaps twice; it may stay on the line and come again later.
    Deliver { message: u8, twice: bool, keep: bool },
    /// A message arrives changed by a bit.
    Flip { message: u8, at: u16 },
    /// A message is withheld for ever.
    Drop { message: u8 },
    /// The host shows an official an altered offer.
    Alter { who: u8, ceremony: u8, at: u16 },
    /// The host shows an official the same statement with its own sessions.
    OwnSessions { who: u8, ceremony: u8 },
    /// The host asks the TPM itself, with whatever approvals it saw.
    AskTpm { nonce: u8, dataset: bool, thrice: bool },
    /// Time passes.
    Wait { seconds: u16 },
    /// The TPM is reset, and the service notices at once or later.
    Reset { noticed: bool },
    /// The service is restarted.
    Restart,
    /// The next commits fail.
    StoreFails { times: u8 },
    /// The TPM is busy for some calls.
    TpmBusy { calls: u8 },
}

pub fn action() -> impl Strategy<Value = Action> {
    let b = any::<u8>;
    prop_oneof![
        2 => (b(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.8), prop::bool::weighted(0.1))
            .prop_map(|(who, both, release, agreed, short)| Action::Open { who, both, release, agreed, short }),
        8 => (b(), 1..4u8).prop_map(|(ceremony, orders)| Action::Work { ceremony, orders }),
        6 => (b(), b()).prop_map(|(who, ceremony)| Action::Review { who, ceremony }),
        3 => b().prop_map(|ceremony| Action::Together { ceremony }),
        1 => (b(), b()).prop_map(|(who, ceremony)| Action::Deny { who, ceremony }),
        1 => (b(), b()).prop_map(|(who, ceremony)| Action::Stop { who, ceremony }),
        4 => (b(), b(), b()).prop_map(|(who, ceremony, how)| Action::Spoil { who, ceremony, how }),
        1 => (b(), b(), b(), any::<bool>())
            .prop_map(|(who, victim, ceremony, stop)| Action::Forge { who, victim, ceremony, stop }),
        12 => (b(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(message, twice, keep)| Action::Deliver { message, twice, keep }),
        1 => (b(), any::<u16>()).prop_map(|(message, at)| Action::Flip { message, at }),
        1 => b().prop_map(|message| Action::Drop { message }),
        1 => (b(), b(), any::<u16>()).prop_map(|(who, ceremony, at)| Action::Alter { who, ceremony, at }),
        1 => (b(), b()).prop_map(|(who, ceremony)| Action::OwnSessions { who, ceremony }),
        3 => (b(), prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(nonce, dataset, thrice)| Action::AskTpm { nonce, dataset, thrice }),
        2 => prop_oneof![1..10u16, 500..5000u16].prop_map(|seconds| Action::Wait { seconds }),
        1 => any::<bool>().prop_map(|noticed| Action::Reset { noticed }),
        1 => Just(Action::Restart),
        1 => (1..3u8).prop_map(|times| Action::StoreFails { times }),
        1 => (1..4u8).prop_map(|calls| Action::TpmBusy { calls }),
    ]
}
