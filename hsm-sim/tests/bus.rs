//! The bus: that it records every byte both ways, and that each thing an interposer can do has the effect it is named for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::*;
use hsm_sim::command::{self, GET_RANDOM, PCR_EXTEND, PCR_READ};
use hsm_sim::{
    Answer, BootProfile, Bus, Digests, Error, Latency, Leg, Loss, Machine, Origin, PcrValues, Rack, Rule, Side,
};

/// Long enough for any answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough to say that none comes.
const SILENCE: Duration = Duration::from_millis(150);
/// A register that software may extend and that no boot does.
const REGISTER: u8 = 16;

fn machine() -> Machine {
    booted(&Rack::temporary().unwrap(), "lux-1")
}

fn extend(with: u8) -> Vec<u8> {
    command::pcr_extend(u32::from(REGISTER), &[with; 32], &[with; 48])
}

/// The register after these extensions.
fn extended(with: &[u8]) -> Vec<u8> {
    let mut values = PcrValues::default();
    for value in with {
        values.extend(usize::from(REGISTER), &Digests { sha256: [*value; 32], sha384: [*value; 48] });
    }
    values.sha256[usize::from(REGISTER)].to_vec()
}

fn value(bus: &Bus) -> Vec<u8> {
    register(bus, 0x0b, REGISTER)
}

fn legs(bus: &Bus) -> Vec<(Origin, Leg)> {
    bus.recording().frames().iter().map(|frame| (frame.origin, frame.leg)).collect()
}

fn response_code(response: &[u8]) -> u32 {
    command::response_code_of(response).unwrap()
}

#[test]
fn every_byte_is_recorded_in_order_and_on_both_sides() {
    let machine = machine();
    let bus = machine.bus();
    let boot = bus.recording();
    assert!(boot.frames().iter().all(|frame| frame.origin == Origin::Firmware));
    assert_eq!(boot.commands(command::STARTUP).count(), 1);
    assert_eq!(boot.commands(PCR_EXTEND).count(), BootProfile::default().events().len());
    assert!(boot.contains(&BootProfile::default().kernel.digests.sha384), "the bus saw what was measured");

    bus.forget_recording();
    let (asked, answered) = (command::get_random(20), software(&machine, &command::get_random(20)));
    let recording = bus.recording();
    let frames = recording.frames();
    let order = [Leg::FromSoftware, Leg::ToTpm, Leg::FromTpm, Leg::ToSoftware];
    assert_eq!(legs(bus), order.map(|leg| (Origin::Software, leg)));
    let expected = [&asked, &asked, &answered, &answered];
    for (position, (frame, bytes)) in frames.iter().zip(expected).enumerate() {
        assert_eq!((frame.index, &frame.bytes[..], frame.exchange), (position, &bytes[..], frames[0].exchange));
    }
    assert_eq!(recording.total_bytes(), 2 * (asked.len() + answered.len()));
    assert_eq!(recording.find(&answered[12..]).unwrap().leg, Leg::FromTpm);
    assert!(!recording.contains(b"") && !recording.contains(&[0x5a; 16]));

    // The host's own commands do not pass the software's side.
    bus.forget_recording();
    let stir = bus.transact(&command::get_random(8)).unwrap();
    assert_eq!(legs(bus), [(Origin::Host, Leg::ToTpm), (Origin::Host, Leg::FromTpm)]);
    let responses: Vec<_> = bus.recording().responses(GET_RANDOM).map(|frame| frame.bytes.to_vec()).collect();
    assert_eq!(responses, [stir]);
    assert!(matches!(bus.transact(b"short"), Err(Error::NotACommand { length: 5 })));

    // What breaks off is recorded as far as it came; so is what goes over the control socket.
    bus.forget_recording();
    let mut software = Software::connect(&machine);
    software.send(&asked[..7]);
    software.0.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(software.receive(PATIENCE), Got::Closed);
    let mut control = Software::connect_control(&machine);
    control.send(&1u32.to_be_bytes());
    let Got::Bytes(capability) = control.receive(PATIENCE) else { panic!("no answer") };
    let told: Vec<_> = bus.recording().frames().iter().map(|frame| (frame.origin, frame.bytes.to_vec())).collect();
    let control = [(Origin::Control, 1u32.to_be_bytes().to_vec()), (Origin::Control, capability)];
    assert_eq!(told[0], (Origin::Software, asked[..7].to_vec()));
    assert_eq!(told[1..], control);
}

#[test]
fn a_lost_command_is_not_done_and_a_lost_response_is() {
    let machine = machine();
    let bus = machine.bus();
    for (loss, seen) in [(Loss::Silent, Got::Nothing), (Loss::Closed, Got::Closed)] {
        bus.clear_plan();
        bus.transact(&command::command(0x13d, &[u32::from(REGISTER)], Some(b""), &[])).unwrap(); // TPM2_PCR_Reset
        let (before, after) = (extended(&[]), extended(&[1]));
        assert_eq!(value(bus), before);

        let command = bus.plan(Rule::on(PCR_EXTEND).nth(1).drop_command(loss));
        let mut software = Software::connect(&machine);
        software.send(&extend(1));
        assert_eq!(software.receive(SILENCE), seen, "command lost, {loss:?}");
        assert_eq!((value(bus), command.acted()), (before, 1));
        if loss == Loss::Silent {
            software.send(&command::get_random(8));
            assert!(matches!(software.receive(PATIENCE), Got::Bytes(_)), "the line was open");
        }

        let response = bus.plan(Rule::on(PCR_EXTEND).nth(1).drop_response(loss));
        let mut software = Software::connect(&machine);
        software.send(&extend(1));
        assert_eq!(software.receive(SILENCE), seen, "response lost, {loss:?}");
        assert_eq!((value(bus), response.acted()), (after, 1));
        let last = bus.recording().commands(PCR_EXTEND).last().unwrap().exchange;
        let recording = bus.recording();
        let of_it: Vec<_> = recording.frames().iter().filter(|frame| frame.exchange == last).collect();
        assert_eq!(
            of_it.iter().map(|frame| frame.leg).collect::<Vec<_>>(),
            [Leg::FromSoftware, Leg::ToTpm, Leg::FromTpm]
        );
    }
}

#[test]
fn an_answer_comes_late_and_the_tpm_is_free_meanwhile() {
    let mut machine = machine();
    let bus = machine.bus().clone();
    let late = Duration::from_millis(400);
    bus.plan(Rule::on(GET_RANDOM).nth(1).delay(late));
    let start = Instant::now();
    let mut waiting = Software::connect(&machine);
    waiting.send(&command::get_random(8));
    assert_eq!(waiting.receive(Duration::from_millis(50)), Got::Nothing);
    assert_eq!(response_code(&software(&machine, &command::read_clock())), 0);
    assert!(start.elapsed() < late, "others are served while one waits");
    assert!(matches!(waiting.receive(PATIENCE), Got::Bytes(_)));
    assert!(start.elapsed() >= late);

    // A rule that would delay for an hour does not hold up the loss of power.
    bus.plan(Rule::on(GET_RANDOM).delay(Duration::from_secs(3600)));
    waiting.send(&command::get_random(8));
    assert_eq!(waiting.receive(SILENCE), Got::Nothing);
    machine.power_cut();
    assert_eq!(waiting.receive(Duration::from_secs(5)), Got::Closed);
}

#[test]
fn a_latency_profile_makes_every_operation_take_its_time() {
    let mut machine = machine();
    let bus = machine.bus().clone();
    let time = |command: &[u8]| {
        let start = Instant::now();
        assert_eq!(response_code(&software(&machine, command)), 0);
        start.elapsed()
    };
    let quickest = (0..10).map(|_| time(&command::get_random(8))).min().unwrap();
    assert!(quickest < Duration::from_millis(30), "without a profile a command takes {quickest:?}");
    let (usual, slow) = (Duration::from_millis(40), Duration::from_millis(200));
    bus.set_latency(Some(Latency::constant(usual).with(PCR_EXTEND, slow)));
    assert!((usual..slow).contains(&(0..3).map(|_| time(&command::get_random(8))).min().unwrap()));
    assert!(time(&extend(1)) >= slow);
    bus.set_latency(Some(Latency::discrete_tpm()));
    assert!(time(&command::get_random(8)) >= Latency::discrete_tpm().of(GET_RANDOM));
    bus.set_latency(None);
    assert!((0..10).map(|_| time(&command::get_random(8))).min().unwrap() < Duration::from_millis(30));

    // The TPM is busy meanwhile, and a power cut still does not wait for it.
    bus.set_latency(Some(Latency::constant(Duration::from_secs(3600)).with(command::READ_CLOCK, Duration::ZERO)));
    let mut busy = Software::connect(&machine);
    busy.send(&command::get_random(8));
    assert_eq!(busy.receive(SILENCE), Got::Nothing);
    let mut second = Software::connect(&machine);
    second.send(&command::read_clock());
    assert_eq!(second.receive(SILENCE), Got::Nothing);
    machine.power_cut();
    assert_eq!(busy.receive(Duration::from_secs(5)), Got::Closed);
    assert_eq!(second.receive(Duration::from_secs(5)), Got::Closed);
}

#[test]
fn bytes_are_changed_exactly_as_planned() {
    let machine = machine();
    let bus = machine.bus();
    let asked = command::get_random(8); // the number of bytes is its last byte
    let planned = |rule: Rule| {
        bus.clear_plan();
        bus.forget_recording();
        let planned = bus.plan(rule);
        let got = ask(&machine, &asked, SILENCE.max(Duration::from_secs(1)));
        assert_eq!(planned.acted(), 1);
        let recording = bus.recording();
        let at = |leg| recording.frames().iter().find(|frame| frame.leg == leg).map(|frame| frame.bytes.to_vec());
        (got, at(Leg::ToTpm), at(Leg::FromTpm))
    };

    let (got, to_tpm, from_tpm) = planned(Rule::on(GET_RANDOM).flip_bit(Side::Command, 11, 4));
    assert_eq!(to_tpm, Some(command::get_random(24)));
    assert_eq!(got, Got::Bytes(from_tpm.unwrap()));

    let (got, to_tpm, from_tpm) = planned(Rule::on(GET_RANDOM).flip_bit(Side::Response, 999, 0));
    let mut expected = from_tpm.unwrap();
    *expected.last_mut().unwrap() ^= 1;
    assert_eq!((got, to_tpm.as_ref()), (Got::Bytes(expected), Some(&asked)));

    // A command whose size is wrong is none.
    let (got, to_tpm, _) = planned(Rule::on(GET_RANDOM).flip_bit(Side::Command, 5, 0));
    assert_eq!((got, to_tpm), (Got::Closed, None));

    let (got, to_tpm, from_tpm) = planned(Rule::on(GET_RANDOM).truncate_command(0));
    assert_eq!(to_tpm.unwrap(), [&asked[..2], &10u32.to_be_bytes(), &asked[6..10]].concat());
    assert_eq!(response_code(&from_tpm.clone().unwrap()), 0x9a + 0x40 + 0x100, "TPM_RC_INSUFFICIENT, parameter 1");
    assert_eq!(got, Got::Bytes(from_tpm.unwrap()));

    for (loss, then) in [(Loss::Closed, Got::Closed), (Loss::Silent, Got::Nothing)] {
        bus.clear_plan();
        bus.plan(Rule::on(GET_RANDOM).truncate_response(13, loss));
        let mut software = Software::connect(&machine);
        software.send(&asked);
        let Got::Bytes(got) = software.receive(PATIENCE) else { panic!("no answer") };
        assert_eq!(got, bus.recording().responses(GET_RANDOM).last().unwrap().bytes[..13]);
        assert_eq!(software.receive(SILENCE), then);
    }
}

#[test]
fn commands_are_sent_twice_replayed_substituted_and_injected() {
    let machine = machine();
    let bus = machine.bus();
    let random = |bytes: u16| software(&machine, &command::get_random(bytes));

    bus.plan(Rule::on(PCR_EXTEND).nth(1).duplicate());
    assert_eq!(response_code(&software(&machine, &extend(1))), 0);
    assert_eq!(value(bus), extended(&[1, 1]));

    bus.forget_recording();
    bus.plan(Rule::on(GET_RANDOM).nth(1).replay(b"not even a response".to_vec()));
    assert_eq!(random(8), b"not even a response");
    assert_eq!(bus.recording().commands(GET_RANDOM).count(), 0);

    bus.clear_plan();
    let replayed = bus.plan(Rule::on(GET_RANDOM).replay_last());
    let first = random(8);
    assert_eq!(response_code(&first), 0, "nothing to replay yet: passed on");
    assert_eq!(random(8), first);
    assert_eq!((replayed.acted(), bus.recording().commands(GET_RANDOM).count()), (2, 1));
    bus.clear_plan();
    assert_ne!(random(8), first);

    bus.plan(Rule::on(GET_RANDOM).nth(1).substitute(Side::Command, |_| command::read_clock()));
    assert_eq!(random(8).len(), command_length_of_clock(bus));
    bus.clear_plan();
    bus.plan(Rule::on(GET_RANDOM).nth(1).substitute(Side::Response, |bytes| bytes.iter().rev().copied().collect()));
    let turned: Vec<u8> = random(8).into_iter().rev().collect();
    assert_eq!(turned, bus.recording().responses(GET_RANDOM).last().unwrap().bytes[..]);

    // Injected commands run before the software's, on the same TPM, and are recorded as the host's.
    bus.clear_plan();
    bus.forget_recording();
    bus.plan(Rule::on(PCR_READ).nth(1).inject(vec![extend(2), extend(3)]));
    let answer = software(&machine, &command::pcr_read(0x0b, REGISTER));
    assert_eq!(answer[answer.len() - 32..], extended(&[1, 1, 2, 3]));
    let to_tpm: Vec<_> =
        legs(bus).into_iter().filter(|(_, leg)| *leg == Leg::ToTpm).map(|(origin, _)| origin).collect();
    assert_eq!(to_tpm, [Origin::Host, Origin::Host, Origin::Software]);

    // A host's own idea: ask something else, look at what was recorded, answer late and partly, close.
    bus.clear_plan();
    bus.plan(Rule::any().act(|exchange| {
        let clock = exchange.inject(&command::read_clock())?;
        assert!(exchange.recording().contains(&clock));
        Ok(Answer::bytes(clock[..4].to_vec()).after(Duration::from_millis(20)).then(Loss::Closed))
    }));
    let mut software = Software::connect(&machine);
    software.send(&command::get_random(8));
    assert_eq!(software.receive(PATIENCE), Got::Bytes(bus.transact(&command::read_clock()).unwrap()[..4].to_vec()));
    assert_eq!(software.receive(PATIENCE), Got::Closed);
}

fn command_length_of_clock(bus: &Bus) -> usize {
    bus.transact(&command::read_clock()).unwrap().len()
}

#[test]
fn a_rule_acts_when_it_is_due_and_a_broken_one_breaks_its_own_connection_only() {
    let machine = machine();
    let bus = machine.bus();
    let mark = |mark: &'static [u8]| Rule::on(GET_RANDOM).replay(mark.to_vec());
    let asked = |count: usize| -> Vec<String> {
        let once = |_| String::from_utf8(software(&machine, &command::get_random(8))).unwrap_or_else(|_| "tpm".into());
        let answers = (0..count).map(once);
        answers.map(|answer| if answer.starts_with('#') { answer } else { "tpm".into() }).collect()
    };

    let second = bus.plan(mark(b"#2").nth(2));
    assert_eq!(asked(4), ["tpm", "#2", "tpm", "tpm"]);
    assert_eq!((second.matched(), second.acted()), (4, 1));
    for rule in [mark(b"#2-3").nth(2).times(2), mark(b"#2-3").times(2).nth(2)] {
        bus.clear_plan();
        bus.plan(rule);
        assert_eq!(asked(4), ["tpm", "#2-3", "#2-3", "tpm"]);
    }
    bus.clear_plan();
    let never = bus.plan(mark(b"#0").times(0));
    bus.plan(mark(b"#a").times(1));
    let third = bus.plan(mark(b"#b").nth(3));
    let all = bus.plan(mark(b"#c"));
    assert_eq!(asked(4), ["#a", "#c", "#b", "#c"]);
    assert_eq!((never.acted(), third.acted(), all.acted()), (0, 1, 2), "the first rule that is due acts, alone");
    assert_eq!((third.matched(), all.matched()), (4, 4), "and all count");
    bus.clear_plan();
    let long = bus.plan(mark(b"#long").and(|bytes| bytes.last() == Some(&9)));
    assert_eq!(asked(1), ["tpm"]);
    assert_eq!(software(&machine, &command::get_random(9)), b"#long");
    assert_eq!((long.matched(), long.acted()), (1, 1));

    bus.clear_plan();
    bus.plan(Rule::on(GET_RANDOM).nth(1).act(|exchange| exchange.forward_as(b"nonsense").map(Answer::bytes)));
    bus.plan(Rule::on(GET_RANDOM).nth(2).act(|_| panic!("on purpose, in a rule")));
    assert_eq!(ask(&machine, &command::get_random(8), PATIENCE), Got::Closed);
    assert_eq!(ask(&machine, &command::get_random(8), PATIENCE), Got::Closed);
    assert_eq!(asked(2), ["tpm", "tpm"]);
}

#[test]
fn a_tpm_hears_from_which_locality_it_is_spoken_to() {
    const LOCALITY: u32 = 0x907;
    let mut machine = machine();
    let dynamic = command::pcr_extend(17, &[1; 32], &[1; 48]); // localities 2, 3 and 4 only
    let set = |machine: &Machine, locality: u8| {
        let mut control = Software::connect_control(machine);
        control.send(&[0, 0, 0, 5, locality]);
        control.receive(PATIENCE)
    };
    let accepted = Got::Bytes(vec![0; 4]);
    assert_eq!(response_code(&software(&machine, &dynamic)), LOCALITY);
    assert_eq!(set(&machine, 3), accepted);
    assert_eq!(response_code(&software(&machine, &dynamic)), 0);
    assert_ne!(set(&machine, 4), accepted, "the processor's own");
    assert_eq!(response_code(&machine.bus().transact(&dynamic).unwrap()), LOCALITY, "the host speaks at locality 0");
    assert_eq!(response_code(&machine.bus().transact_at(4, &dynamic).unwrap()), 0, "or at any it likes");
    assert!(matches!(machine.bus().transact_at(5, &dynamic), Err(Error::Refused { .. })));
    assert_eq!(response_code(&software(&machine, &dynamic)), 0, "which changes nothing for the software");
    machine.reboot(&BootProfile::default()).unwrap();
    assert_eq!(response_code(&software(&machine, &dynamic)), LOCALITY);

    // Power and reset are the host's: software cannot have them over the control socket.
    let before = clock(machine.bus());
    let mut control = Software::connect_control(&machine);
    control.send(&[0, 0, 0, 2, 0, 0, 0, 0]);
    assert_eq!(control.receive(PATIENCE), Got::Bytes(vec![0, 0, 0, 9]));
    assert_eq!(clock(machine.bus()).reset_count, before.reset_count);
}

#[test]
fn many_connections_share_a_tpm_and_none_holds_up_another() {
    let machine = machine();
    // One that stops in the middle of a command, and one that states an impossible length.
    let mut stuck = Software::connect(&machine);
    stuck.send(&command::get_random(8)[..6]);
    let mut wrong = Software::connect(&machine);
    wrong.send(&[0x80, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0x7b]);
    assert_eq!(wrong.receive(PATIENCE), Got::Closed);
    std::thread::scope(|scope| {
        for bytes in 1..9u16 {
            let machine = &machine;
            scope.spawn(move || {
                let mut software = Software::connect(machine);
                for _ in 0..50 {
                    software.send(&command::get_random(bytes));
                    let Got::Bytes(answer) = software.receive(PATIENCE) else { panic!("no answer") };
                    assert_eq!(answer.len(), 12 + usize::from(bytes), "each gets the answer to its own question");
                }
            });
        }
    });
    stuck.send(&command::get_random(8)[6..]);
    assert!(matches!(stuck.receive(PATIENCE), Got::Bytes(_)), "it was only slow");
}

#[test]
fn stock_tools_feel_what_the_bus_does() {
    let machine = machine();
    let tool = |seconds: &str| {
        let mut tool = Command::new("timeout");
        tool.args([seconds, "tpm2_getrandom", "-T", &machine.tcti(), "--hex", "8"]);
        tool.output().unwrap().status
    };
    assert!(tool("20").success());
    for (rule, hangs) in [
        (Rule::on(GET_RANDOM).drop_command(Loss::Closed), false),
        (Rule::on(GET_RANDOM).flip_bit(Side::Response, 9, 0), false),
        (Rule::on(GET_RANDOM).drop_response(Loss::Silent), true),
    ] {
        machine.bus().clear_plan();
        machine.bus().plan(rule);
        let status = tool(if hangs { "0.7" } else { "20" });
        assert!(!status.success());
        assert_eq!(status.code() == Some(124), hangs, "{status}");
    }
    machine.bus().clear_plan();
    assert!(tool("20").success());
}
