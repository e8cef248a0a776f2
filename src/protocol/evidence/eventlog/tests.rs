//! Logs made by hand: what is refused, and what PCR 0 starts from.

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;

/// Writes crypto-agile logs with SHA-1 and SHA-256.
struct Maker(Vec<u8>);

impl Maker {
    fn new() -> Self {
        let mut spec = b"Spec ID Event03\0".to_vec();
        spec.extend([0, 0, 0, 0, 0, 2, 0, 2]);
        spec.extend([2, 0, 0, 0, 4, 0, 20, 0, 11, 0, 32, 0]);
        spec.push(0);
        Self::with_first(&spec)
    }

    fn with_first(data: &[u8]) -> Self {
        Self(legacy(0, 3, [0; 20], data))
    }

    fn event(mut self, pcr: u32, kind: u32, fill: u8, data: &[u8]) -> Self {
        self.0.extend(pcr.to_le_bytes());
        self.0.extend(kind.to_le_bytes());
        self.0.extend([2, 0, 0, 0, 4, 0]);
        self.0.extend([fill; 20]);
        self.0.extend([11, 0]);
        self.0.extend([fill; 32]);
        self.0.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        self.0.extend(data);
        self
    }

    fn locality(self, locality: u8) -> Self {
        let mut data = b"StartupLocality\0".to_vec();
        data.push(locality);
        self.event(0, 3, 0, &data)
    }

    fn fault(&self) -> EventLogFault {
        EventLog::parse(&self.0).expect_err("accepted").fault
    }
}

fn legacy(pcr: u32, kind: u32, digest: [u8; 20], data: &[u8]) -> Vec<u8> {
    let mut out = pcr.to_le_bytes().to_vec();
    out.extend(kind.to_le_bytes());
    out.extend(digest);
    out.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    out.extend(data);
    out
}

/// The value of a PCR that starts at `start` and is extended by these.
fn chain(start: u8, fills: &[u8]) -> [u8; 32] {
    let mut value = [0; 32];
    value[31] = start;
    for fill in fills {
        value = Sha256::new().chain_update(value).chain_update([*fill; 32]).finalize().into();
    }
    value
}

#[test]
fn pcr_0_starts_at_the_locality_of_startup_and_no_other_pcr_does() {
    for locality in [0, 3, 4] {
        let log = Maker::new().locality(locality).event(0, 1, 5, b"").event(7, 4, 6, b"").event(0, 4, 7, b"");
        let log = EventLog::parse(&log.0).unwrap();
        assert_eq!(log.start_of_pcr_0(), locality);
        assert_eq!(log.sha256_pcrs(), [(0, chain(locality, &[5, 7])), (7, chain(0, &[6]))].into());
    }
}

#[test]
fn what_measures_nothing_is_never_extended() {
    let log = Maker::new().event(7, 3, 9, b"a remark").event(7, 4, 1, b"").event(7, 3, 9, b"").event(9, 3, 9, b"");
    let log = EventLog::parse(&log.0).unwrap();
    assert_eq!(log.sha256_pcrs(), [(7, chain(0, &[1]))].into());
    assert_eq!(log.events().len(), 5);
    let nowhere = Maker::new().event(u32::MAX, 3, 0, b"");
    assert!(EventLog::parse(&nowhere.0).is_ok(), "EV_NO_ACTION may name no PCR");
}

#[test]
fn a_hardware_measurement_starts_pcr_0_at_four_whatever_locality_followed() {
    for log in [
        Maker::new().event(0, 0x8000_0010, 2, b"HCRTM").event(0, 4, 3, b""),
        Maker::new().locality(3).event(0, 0x8000_0010, 2, b"HCRTM").event(0, 4, 3, b""),
        Maker::new().event(0, 0x8000_0010, 2, b"HCRTM").locality(4).event(0, 4, 3, b""),
    ] {
        assert_eq!(EventLog::parse(&log.0).unwrap().sha256_pcrs(), [(0, chain(4, &[2, 3]))].into());
    }
    assert_eq!(Maker::new().event(0, 4, 1, b"").event(0, 0x8000_0010, 2, b"").fault(), EventLogFault::HCrtm);
}

#[test]
fn a_locality_event_is_well_formed_first_and_alone() {
    let is = |fault| assert!(matches!(fault, EventLogFault::StartupLocality { .. }), "{fault}");
    is(Maker::new().locality(1).fault());
    is(Maker::new().locality(255).fault());
    is(Maker::new().locality(3).locality(3).fault());
    is(Maker::new().locality(0).locality(3).fault());
    is(Maker::new().event(0, 4, 1, b"").locality(3).fault());
    is(Maker::new().event(0, 3, 0, b"StartupLocality\0").fault());
    is(Maker::new().event(0, 3, 0, b"StartupLocality\0\x03\x00").fault());
    is(Maker::new().event(1, 3, 0, b"StartupLocality\0\x03").fault());
    assert!(EventLog::parse(&Maker::new().event(7, 4, 1, b"").locality(3).0).is_ok(), "another PCR came first");
}

#[test]
fn an_old_log_has_one_bank_and_may_say_so_first() {
    let mut log = legacy(0, 3, [0; 20], b"Spec ID Event02\0\0\0\0\0\x02\x01\0\x02\0");
    log.extend(legacy(4, 5, [1; 20], b"Calling EFI Application from Boot Option"));
    let parsed = EventLog::parse(&log).unwrap();
    assert_eq!(parsed.banks().collect::<Vec<_>>(), [Bank::Sha1]);
    assert_eq!(parsed.replay()[&Bank::Sha1].keys().collect::<Vec<_>>(), [&4]);
    assert!(parsed.sha256_pcrs().is_empty());
    assert!(EventLog::parse(&legacy(4, 5, [1; 20], b"x")).is_ok());
}

#[test]
fn the_first_event_says_which_form_the_log_has_or_is_a_measurement() {
    for data in [&b""[..], b"Spec ID", b"Spec ID Event04\0", b"StartupLocality\0\x03"] {
        assert_eq!(Maker::with_first(data).fault(), EventLogFault::NoSpecId);
    }
    let good = Maker::new().0[32..].to_vec();
    let change = |at: usize, to: u8| {
        let mut data = good.clone();
        data[at] = to;
        Maker::with_first(&data).fault()
    };
    let malformed = |fault| assert!(matches!(fault, EventLogFault::SpecId { .. }), "{fault}");
    malformed(change(24, 0));
    malformed(change(24, 1));
    malformed(change(24, 3));
    malformed(change(27, 0xFF));
    malformed(change(30, 21));
    malformed(change(32, 4));
    malformed(change(36, 1));
    for end in 16..good.len() {
        malformed(Maker::with_first(&good[..end]).fault());
    }
}

#[test]
fn every_event_has_one_digest_for_each_algorithm() {
    let good = Maker::new().event(4, 4, 1, b"");
    let event = Maker::new().0.len();
    for (at, to) in [(event + 8, 1), (event + 8, 3), (event + 8, 0), (event + 12, 11), (event + 12, 12)] {
        let mut log = good.0.clone();
        log[at] = to;
        assert_eq!(EventLog::parse(&log).unwrap_err().fault, EventLogFault::Digests);
    }
    let mut swapped = Maker::new().0;
    swapped.extend([4, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 11, 0]);
    swapped.extend([1; 32]);
    swapped.extend([4, 0]);
    swapped.extend([1; 20]);
    swapped.extend([0; 4]);
    let swapped = EventLog::parse(&swapped).unwrap().replay();
    assert_eq!(swapped, EventLog::parse(&good.0).unwrap().replay(), "the order of digests means nothing");
}

#[test]
fn bounds_hold_and_faults_say_where() {
    assert_eq!(EventLog::parse(&[]).unwrap_err().fault, EventLogFault::Empty);
    let long = vec![0; MAX_LOG_BYTES + 1];
    assert!(matches!(EventLog::parse(&long).unwrap_err().fault, EventLogFault::TooLong { .. }));
    assert_eq!(Maker::new().event(24, 4, 1, b"").fault(), EventLogFault::NoSuchPcr { pcr: 24 });

    let mut log = Maker::new().event(4, 4, 1, b"").0;
    let size = log.len() - 4;
    log[size..].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = EventLog::parse(&log).unwrap_err();
    assert_eq!((error.offset, error.fault), (size, EventLogFault::EventTooLong { length: 0xFFFF_FFFF }));

    let many = legacy(4, 5, [1; 20], b"").repeat(MAX_EVENTS + 1);
    assert_eq!(EventLog::parse(&many).unwrap_err().fault, EventLogFault::TooManyEvents);
    assert!(EventLog::parse(&many[32..]).is_ok());
}

#[test]
fn a_log_cut_anywhere_but_between_events_is_refused() {
    let log = Maker::new().event(4, 4, 1, b"data").event(7, 4, 1, b"data").0;
    let whole = EventLog::parse(&log).unwrap();
    for end in 0..log.len() {
        let between = whole.events().iter().any(|event| event.offset == end) && end > 0;
        assert_eq!(EventLog::parse(&log[..end]).is_ok(), between, "cut at {end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(log) = EventLog::parse(&bytes) {
            log.replay();
        }
    }

    #[test]
    fn no_change_of_a_real_log_makes_the_parser_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut log = Maker::new().locality(3).event(0, 8, 1, b"version").event(4, 4, 2, b"").event(7, 1, 3, b"x").0;
        for (at, to) in changes {
            let at = at.index(log.len());
            log[at] = to;
        }
        for bytes in [&log[..], &log[..cut.index(log.len())]] {
            if let Ok(log) = EventLog::parse(bytes) {
                prop_assert!(log.replay().values().flat_map(|bank| bank.keys()).all(|pcr| *pcr < 24));
            }
        }
    }
}
