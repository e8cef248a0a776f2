//! What an event says, in a few words: its type's name, and the part of its data that a reader looks for.
//!
//! Sources: TCG PC Client Platform Firmware Profile, 10.2 to 10.4; UEFI 2.10, 10.3 (device paths). Everything comes from an
//! untrusted machine: data that is not as its type has it is shown as plain bytes, and all text is escaped.

use chancery::protocol::evidence::eventlog::{Event, EventType};

use crate::cli::text::{ascii, hex};

/// How much of data that is no text is shown, in bytes.
const SHOWN_BYTES: usize = 8;
/// The most text decoded, in bytes: what is shown is far shorter.
const TEXT_BYTES: usize = 4096;

const NAMES: [(u32, &str); 39] = [
    (0x0000_0000, "EV_PREBOOT_CERT"),
    (0x0000_0001, "EV_POST_CODE"),
    (0x0000_0002, "EV_UNUSED"),
    (0x0000_0003, "EV_NO_ACTION"),
    (0x0000_0004, "EV_SEPARATOR"),
    (0x0000_0005, "EV_ACTION"),
    (0x0000_0006, "EV_EVENT_TAG"),
    (0x0000_0007, "EV_S_CRTM_CONTENTS"),
    (0x0000_0008, "EV_S_CRTM_VERSION"),
    (0x0000_0009, "EV_CPU_MICROCODE"),
    (0x0000_000a, "EV_PLATFORM_CONFIG_FLAGS"),
    (0x0000_000b, "EV_TABLE_OF_DEVICES"),
    (0x0000_000c, "EV_COMPACT_HASH"),
    (0x0000_000d, "EV_IPL"),
    (0x0000_000e, "EV_IPL_PARTITION_DATA"),
    (0x0000_000f, "EV_NONHOST_CODE"),
    (0x0000_0010, "EV_NONHOST_CONFIG"),
    (0x0000_0011, "EV_NONHOST_INFO"),
    (0x0000_0012, "EV_OMIT_BOOT_DEVICE_EVENTS"),
    (0x0000_0013, "EV_POST_CODE2"),
    (0x8000_0001, "EV_EFI_VARIABLE_DRIVER_CONFIG"),
    (0x8000_0002, "EV_EFI_VARIABLE_BOOT"),
    (0x8000_0003, "EV_EFI_BOOT_SERVICES_APPLICATION"),
    (0x8000_0004, "EV_EFI_BOOT_SERVICES_DRIVER"),
    (0x8000_0005, "EV_EFI_RUNTIME_SERVICES_DRIVER"),
    (0x8000_0006, "EV_EFI_GPT_EVENT"),
    (0x8000_0007, "EV_EFI_ACTION"),
    (0x8000_0008, "EV_EFI_PLATFORM_FIRMWARE_BLOB"),
    (0x8000_0009, "EV_EFI_HANDOFF_TABLES"),
    (0x8000_000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"),
    (0x8000_000b, "EV_EFI_HANDOFF_TABLES2"),
    (0x8000_000c, "EV_EFI_VARIABLE_BOOT2"),
    (0x8000_000d, "EV_EFI_GPT_EVENT2"),
    (0x8000_0010, "EV_EFI_HCRTM_EVENT"),
    (0x8000_00e0, "EV_EFI_VARIABLE_AUTHORITY"),
    (0x8000_00e1, "EV_EFI_SPDM_FIRMWARE_BLOB"),
    (0x8000_00e2, "EV_EFI_SPDM_FIRMWARE_CONFIG"),
    (0x8000_00e3, "EV_EFI_SPDM_DEVICE_POLICY"),
    (0x8000_00e4, "EV_EFI_SPDM_DEVICE_AUTHORITY"),
];

/// The type's name in the specification; `None` for types it does not have.
pub(super) fn type_name(kind: EventType) -> Option<&'static str> {
    NAMES.iter().find(|(code, _)| *code == kind.0).map(|(_, name)| *name)
}

/// One line about an event's data; ASCII without control characters, whatever the data.
pub(super) fn describe(event: &Event<'_>) -> String {
    let data = event.data;
    let found = match event.kind.0 {
        0x0000_0003 => no_action(data),
        0x0000_0004 => separator(data),
        0x8000_0001 | 0x8000_0002 | 0x8000_000c | 0x8000_00e0 => variable(data),
        0x8000_0003..=0x8000_0005 => image(data),
        0x8000_0008 => firmware_blob(data),
        _ => None,
    };
    found.unwrap_or_else(|| plain(data))
}

/// Little-endian fields from the front of some data.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn slice(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.slice(N)?.try_into().ok()
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A 64-bit length that must be there.
    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }
}

/// EV_NO_ACTION (PFP, 10.4.5): by its signature.
fn no_action(data: &[u8]) -> Option<String> {
    let (signature, rest) = data.split_first_chunk::<16>()?;
    let name = std::str::from_utf8(signature).ok()?.trim_end_matches('\0');
    match (name, rest) {
        ("StartupLocality", [locality]) => Some(format!("StartupLocality: {locality}")),
        _ if name.starts_with("Spec ID Event") => Some(format!("{}: the form of the log", ascii(name))),
        _ => None,
    }
}

/// EV_SEPARATOR (PFP, 10.4.1): zeros or ones end a phase in order, anything else tells of an error.
fn separator(data: &[u8]) -> Option<String> {
    match data {
        [0, 0, 0, 0] | [0xff, 0xff, 0xff, 0xff] => Some("separator".to_owned()),
        [_, _, _, _] => Some(format!("separator, the firmware reports an error: {}", hex(data))),
        _ => None,
    }
}

/// UEFI_VARIABLE_DATA (PFP, 10.2.6).
fn variable(data: &[u8]) -> Option<String> {
    let mut input = Fields(data);
    let vendor = guid(input.array()?);
    let (characters, length) = (input.length()?, input.length()?);
    let name = input.slice(characters.checked_mul(2)?)?;
    // Some firmware measures a shorter value than it says; what is there is shown.
    let value = input.0.get(..length).unwrap_or(input.0);
    Some(format!("variable {} of {vendor}: {}", quoted(&from_utf16(name)?), bytes(value)))
}

/// UEFI_IMAGE_LOAD_EVENT (PFP, 10.2.3): the names in the image's device path.
fn image(data: &[u8]) -> Option<String> {
    let mut input = Fields(data);
    let (_location, length, _link_time) = (input.number()?, input.number()?, input.number()?);
    let path_bytes = input.length()?;
    let mut path = Fields(input.slice(path_bytes)?);
    let mut names = String::new();
    // UEFI 10.3.1: a type, a subtype and the node's length with its own header. Media device (4), file path (4).
    while let Some([kind, subtype, low, high]) = path.array::<4>() {
        let node = path.slice(usize::from(u16::from_le_bytes([low, high])).checked_sub(4)?)?;
        if (kind, subtype) == (4, 4) {
            names.push_str(from_utf16(node)?.trim_end_matches('\0'));
        }
    }
    let what = if names.is_empty() { "not a file".to_owned() } else { quoted(&names) };
    Some(format!("image {what}, {length} bytes in memory"))
}

/// UEFI_PLATFORM_FIRMWARE_BLOB (PFP, 10.2.4).
fn firmware_blob(data: &[u8]) -> Option<String> {
    let mut input = Fields(data);
    let (base, length) = (input.number()?, input.number()?);
    input.0.is_empty().then(|| format!("firmware, {length} bytes at 0x{base:x}"))
}

/// Data of any other type: text where it is text, else its first bytes.
fn plain(data: &[u8]) -> String {
    let end = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    let trimmed = data.get(..end.min(TEXT_BYTES)).unwrap_or_default();
    let mostly_printable = |text: &str| {
        let printable = text.chars().filter(|c| matches!(c, ' '..='~')).count();
        printable > 0 && printable.saturating_mul(4) >= text.chars().count().saturating_mul(3)
    };
    // UTF-16 first: its zero bytes would make poor UTF-8.
    let wide = from_utf16(data.get(..data.len().min(TEXT_BYTES)).unwrap_or_default());
    let texts = [wide.filter(|_| data.len() >= 4), std::str::from_utf8(trimmed).ok().map(str::to_owned)];
    match texts.into_iter().flatten().find(|text| mostly_printable(text.trim_end_matches('\0'))) {
        Some(text) => quoted(&text),
        None => bytes(data),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", ascii(text.trim_end_matches('\0')).replace('"', "\\\""))
}

fn from_utf16(bytes: &[u8]) -> Option<String> {
    let (units, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    char::decode_utf16(units.iter().map(|unit| u16::from_le_bytes(*unit))).collect::<Result<String, _>>().ok()
}

fn bytes(data: &[u8]) -> String {
    match (data.len(), data.get(..SHOWN_BYTES)) {
        (0, _) => "no data".to_owned(),
        (1, _) => format!("1 byte, {}", hex(data)),
        (count, Some(head)) if count > SHOWN_BYTES => format!("{count} bytes, {}...", hex(head)),
        (count, _) => format!("{count} bytes, {}", hex(data)),
    }
}

/// EFI_GUID: the first three fields little-endian, the rest as written.
fn guid([a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, tail @ ..]: [u8; 16]) -> String {
    format!("{}-{}-{}-{}-{}", hex(&[a3, a2, a1, a0]), hex(&[b1, b0]), hex(&[c1, c0]), hex(&[d0, d1]), hex(&tail))
}
