//! What went over a bus: every byte, in order, with who sent it and on which side of the interposer it was seen.

use std::sync::Arc;

use crate::command;

/// Where a frame was seen. Software's commands pass all four in this order when no rule interferes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// From the software to the interposer.
    FromSoftware,
    /// From the interposer to the TPM.
    ToTpm,
    /// From the TPM to the interposer.
    FromTpm,
    /// From the interposer to the software.
    ToSoftware,
}

/// Who started the exchange a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The machine's operating system and what runs on it.
    Software,
    /// The host's own commands.
    Host,
    /// The machine's firmware and the rest of its measured boot.
    Firmware,
    /// Software, on the control socket: not TPM commands, but localities and the like.
    Control,
}

/// One message, or as much of it as came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its position in the recording.
    pub index: usize,
    /// The same for a command and its response.
    pub exchange: u64,
    /// Who started the exchange.
    pub origin: Origin,
    /// Where it was seen.
    pub leg: Leg,
    /// The bytes.
    pub bytes: Arc<[u8]>,
}

/// A recording as it stood when it was asked for.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    frames: Vec<Frame>,
}

impl Recording {
    pub(crate) fn new(frames: Vec<Frame>) -> Self {
        Self { frames }
    }

    /// All frames, oldest first.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// How many bytes all frames have together.
    pub fn total_bytes(&self) -> usize {
        self.frames.iter().map(|frame| frame.bytes.len()).sum()
    }

    /// Whether these bytes appear anywhere. Nothing is never found.
    pub fn contains(&self, needle: &[u8]) -> bool {
        self.find(needle).is_some()
    }

    /// The first frame these bytes appear in.
    pub fn find(&self, needle: &[u8]) -> Option<&Frame> {
        let hit = |frame: &&Frame| !needle.is_empty() && frame.bytes.windows(needle.len()).any(|part| part == needle);
        self.frames.iter().find(hit)
    }

    /// The commands with this code that the TPM received, oldest first.
    pub fn commands(&self, code: u32) -> impl Iterator<Item = &Frame> {
        let matches = move |frame: &&Frame| frame.leg == Leg::ToTpm && command::code_of(&frame.bytes) == Some(code);
        self.frames.iter().filter(matches)
    }

    /// The TPM's responses to commands with this code, oldest first.
    pub fn responses(&self, code: u32) -> impl Iterator<Item = &Frame> {
        self.commands(code).filter_map(|sent| {
            let mut later = self.frames.get(sent.index + 1..).unwrap_or_default().iter();
            // The TPM does one command at a time: what it says next is the answer.
            later.find(|frame| matches!(frame.leg, Leg::FromTpm | Leg::ToTpm)).filter(|frame| frame.leg == Leg::FromTpm)
        })
    }
}
