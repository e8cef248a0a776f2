//! A rack of simulated hardware: machines with a TPM each, the bus between a machine's software and its TPM, measured
//! boot, and PKCS#11 tokens.
//!
//! It is meant to be as strict as hardware. TPMs come with owner and lockout authorization set and with dictionary-attack
//! lockout on; platform authorization is random from every boot on; power that goes without warning leaves its traces in
//! the TPM's clock; nothing here can turn back a TPM's own memory, because the owner of a building cannot do so either.
//! What the owner of a building *can* do is offered: record and drive the bus, pull the reset line, cut the power, boot
//! something else, move a TPM to another machine.
//!
//! ```no_run
//! use hsm_sim::{BootProfile, Rack};
//!
//! let rack = Rack::temporary()?;
//! let mut machine = rack.machine("lux-1")?;
//! machine.power_on(&BootProfile::default())?;
//! println!("TPM2TOOLS_TCTI={}", machine.tcti());
//! machine.power_off()?;
//! # Ok::<(), hsm_sim::Error>(())
//! ```
//!
//! Processes: a TPM is one `swtpm` that holds the other ends of two socket pairs of ours. It ends when they close, so it
//! cannot outlive the process that made it, however that ends. Every wait has a deadline.

mod boot;
mod bus;
mod chip;
pub mod command;
mod error;
pub mod event_log;
mod latency;
mod machine;
mod rack;
mod token;
mod tool;

pub use boot::{BootProfile, Component, Digests, PCR_COUNT, PcrValues};
pub use bus::{Answer, Bus, Exchange, Frame, Leg, Loss, Origin, Planned, Recording, Rule, Side};
pub use error::Error;
pub use latency::Latency;
pub use machine::Machine;
pub use rack::Rack;
pub use token::{FaultyModule, Token};

/// What everything here returns.
pub type Result<T> = std::result::Result<T, Error>;
