//! Whether a witness can still be reached: nonces given out, beats that answer them, and how long ago the last one counts.
//!
//! A beat counts from the moment at which the embassy gave out the nonce that it answers. Whoever owns the line can hold an
//! answer back, and gains nothing: however late it comes, it keeps leases alive no longer than if it had come at once.
//! Pure: nonces and time are handed in.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    protocol::{
        beat::{Beat, BeatError, BeatNonce, BeatRequest},
        charter::CharterWitness,
        ids::{CharterId, EmbassyName, WitnessName},
    },
    service::lease::clock::BootTime,
};

/// What the charter in force says about beats at this embassy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeatRules {
    /// The network.
    pub charter: CharterId,
    /// This embassy.
    pub embassy: EmbassyName,
    /// Who may beat.
    pub witnesses: Vec<CharterWitness>,
    /// H, in seconds.
    pub heartbeat_seconds: u32,
}

impl BeatRules {
    /// H: without a beat for longer, leases are suspended; for longer than twice that, wiped.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_seconds.into())
    }
}

/// How fresh the last beat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// Not older than H.
    Fresh,
    /// Older than H: suspended.
    Late,
    /// Older than 2H: wiped.
    Gone,
}

/// The last beat that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastBeat {
    /// Whose.
    pub witness: WitnessName,
    /// From when it counts: when its nonce was given out.
    pub from: BootTime,
}

/// The nonces that are out and the last beat.
#[derive(Clone, Debug, Default)]
pub struct Beats {
    // One per witness of the charter: nobody else is given one.
    out: BTreeMap<WitnessName, (BeatNonce, BootTime)>,
    last: Option<LastBeat>,
}

impl Beats {
    /// Gives a witness a nonce in place of the one it had. `nonce` is fresh.
    ///
    /// # Errors
    /// [`BeatError::Stranger`] for whom the charter does not name.
    pub fn ask(
        &mut self,
        witness: &WitnessName,
        rules: &BeatRules,
        nonce: BeatNonce,
        now: BootTime,
    ) -> Result<BeatRequest, BeatError> {
        self.out.retain(|name, _| rules.witnesses.iter().any(|known| known.name == *name));
        if !rules.witnesses.iter().any(|known| known.name == *witness) {
            return Err(BeatError::Stranger { witness: witness.clone() });
        }
        self.out.insert(witness.clone(), (nonce, now));
        Ok(BeatRequest { charter: rules.charter, embassy: rules.embassy.clone(), nonce })
    }

    /// Takes a beat; its nonce is spent.
    ///
    /// # Errors
    /// [`BeatError`]; nothing has changed, and the nonce is as good as it was.
    pub fn take(&mut self, beat: &Beat, rules: &BeatRules, now: BootTime) -> Result<&LastBeat, BeatError> {
        let answered = beat.verify(rules.charter, &rules.embassy, &rules.witnesses)?;
        let Some(&(nonce, from)) = self.out.get(beat.witness()) else { return Err(BeatError::Nonce) };
        if nonce != answered {
            return Err(BeatError::Nonce);
        }
        let age = now.since(from);
        if age > rules.heartbeat() {
            let heartbeat_seconds = rules.heartbeat_seconds;
            return Err(BeatError::Late { age_seconds: age.as_secs(), heartbeat_seconds });
        }
        self.out.remove(beat.witness());
        let later = self.last.take().filter(|last| last.from > from);
        Ok(self.last.insert(later.unwrap_or_else(|| LastBeat { witness: beat.witness().clone(), from })))
    }

    /// The last beat.
    pub const fn last(&self) -> Option<&LastBeat> {
        self.last.as_ref()
    }

    /// How it stands for a lease that began at `began`. One that begins in silence is suspended at once, and has H until it is
    /// wiped.
    pub fn pulse(&self, began: BootTime, heartbeat: Duration, now: BootTime) -> Pulse {
        let granted = began.minus(heartbeat);
        let from = self.last.as_ref().map_or(granted, |last| last.from.max(granted));
        let silent = now.since(from);
        match () {
            () if silent <= heartbeat && self.last.as_ref().is_some_and(|last| now.since(last.from) <= heartbeat) => {
                Pulse::Fresh
            }
            () if silent <= heartbeat.saturating_mul(2) => Pulse::Late,
            () => Pulse::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use p256::ecdsa::SigningKey;
    use rand_core::OsRng;

    use super::*;
    use crate::protocol::{certificate::UnixTime, hash::Hash, signer::DigestSigner};

    const H: u32 = 60;

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    struct World {
        keys: [SigningKey; 2],
        rules: BeatRules,
        beats: Beats,
        drawn: u8,
    }

    fn world() -> World {
        let keys = [(); 2].map(|()| SigningKey::random(&mut OsRng));
        let witnesses = keys
            .iter()
            .zip(["tallinn", "riga"])
            .map(|(key, name)| CharterWitness { name: WitnessName::new(name).unwrap(), key: key.public_key() });
        let rules = BeatRules {
            charter: CharterId(Hash([1; 32])),
            embassy: EmbassyName::new("luxembourg").unwrap(),
            witnesses: witnesses.collect(),
            heartbeat_seconds: H,
        };
        World { keys, rules, beats: Beats::default(), drawn: 0 }
    }

    impl World {
        fn ask(&mut self, witness: usize, now: u64) -> BeatRequest {
            self.drawn += 1;
            let name = self.rules.witnesses[witness].name.clone();
            self.beats.ask(&name, &self.rules, BeatNonce([self.drawn; 32]), at(now)).unwrap()
        }

        fn answer(&self, witness: usize, request: &BeatRequest) -> Beat {
            let name = self.rules.witnesses[witness].name.clone();
            Beat::sign(request.clone(), name, UnixTime(0), &self.keys[witness]).unwrap()
        }

        fn take(&mut self, beat: &Beat, now: u64) -> Result<BootTime, BeatError> {
            self.beats.take(beat, &self.rules, at(now)).map(|last| last.from)
        }

        fn pulse(&self, began: u64, now: u64) -> Pulse {
            self.beats.pulse(at(began), self.rules.heartbeat(), at(now))
        }
    }

    #[test]
    fn a_lease_lives_on_beats_is_suspended_after_one_interval_and_wiped_after_two() {
        let mut world = world();
        let request = world.ask(0, 1000);
        let beat = world.answer(0, &request);
        assert_eq!(world.take(&beat, 1002), Ok(at(1000)));
        assert_eq!(world.pulse(1003, 1060), Pulse::Fresh);
        assert_eq!(world.pulse(1003, 1061), Pulse::Late);
        assert_eq!(world.pulse(1003, 1120), Pulse::Late);
        assert_eq!(world.pulse(1003, 1121), Pulse::Gone);
    }

    #[test]
    fn a_beat_that_was_held_back_keeps_nothing_alive_longer() {
        let mut world = world();
        let request = world.ask(0, 1000);
        let beat = world.answer(0, &request);
        // It comes 50 s late, and counts from when it was asked for.
        assert_eq!(world.take(&beat, 1050), Ok(at(1000)));
        assert_eq!(world.pulse(900, 1061), Pulse::Late);
        let request = world.ask(0, 2000);
        let beat = world.answer(0, &request);
        let late = Err(BeatError::Late { age_seconds: 61, heartbeat_seconds: H });
        assert_eq!(world.take(&beat, 2061), late);
    }

    #[test]
    fn a_nonce_is_answered_once_by_whom_it_was_given_to_and_the_newest_counts() {
        let mut world = world();
        let first = world.ask(0, 10);
        let replay = world.answer(0, &first);
        assert!(world.take(&replay, 11).is_ok());
        assert_eq!(world.take(&replay, 12), Err(BeatError::Nonce));
        let (old, new) = (world.ask(0, 20), world.ask(0, 30));
        assert_ne!(old.nonce, new.nonce);
        let (old, new) = (world.answer(0, &old), world.answer(0, &new));
        assert_eq!(world.take(&old, 31), Err(BeatError::Nonce));
        // Somebody else's answer to it does not count either, and costs nothing.
        let request = world.ask(1, 5);
        let crossed = Beat::sign(request.clone(), world.rules.witnesses[0].name.clone(), UnixTime(0), &world.keys[0]);
        assert_eq!(world.take(&crossed.unwrap(), 31), Err(BeatError::Nonce));
        assert_eq!(world.take(&new, 31), Ok(at(30)));
        // The other witness's answer to an older nonce does not set the clock back.
        let older = world.answer(1, &request);
        assert_eq!(world.take(&older, 31), Ok(at(30)));
    }

    #[test]
    fn a_lease_that_begins_in_silence_is_suspended_until_somebody_beats() {
        let mut world = world();
        assert_eq!(world.pulse(1000, 1000), Pulse::Late);
        assert_eq!(world.pulse(1000, 1060), Pulse::Late);
        assert_eq!(world.pulse(1000, 1061), Pulse::Gone);
        let request = world.ask(1, 1030);
        let beat = world.answer(1, &request);
        world.take(&beat, 1031).unwrap();
        assert_eq!(world.pulse(1000, 1061), Pulse::Fresh);
        // Right after the machine was booted as well.
        assert_eq!(Beats::default().pulse(at(1), Duration::from_secs(60), at(1)), Pulse::Late);
    }

    #[test]
    fn whom_the_charter_does_not_name_gets_no_nonce_and_one_it_drops_is_forgotten() {
        let mut world = world();
        let stranger = WitnessName::new("oslo").unwrap();
        let refused = world.beats.ask(&stranger, &world.rules, BeatNonce([1; 32]), at(1)).unwrap_err();
        assert_eq!(refused, BeatError::Stranger { witness: stranger });
        let request = world.ask(0, 1);
        let beat = world.answer(0, &request);
        let dropped = world.rules.witnesses.remove(0);
        assert_eq!(world.take(&beat, 2), Err(BeatError::Stranger { witness: dropped.name }));
    }
}
