//! The binary TCG2 event log in its crypto-agile form, with a SHA-256 and a SHA-384 digest per event.
//!
//! Layout: TCG PC Client Platform Firmware Profile, section 10 (all integers little-endian). The log opens with one
//! old-style event that names the digest algorithms; no other event of type EV_NO_ACTION is written.

use crate::boot::Digests;

/// TPM_ALG_SHA256.
pub const SHA256: u16 = 0x000b;
/// TPM_ALG_SHA384.
pub const SHA384: u16 = 0x000c;

/// Extended into nothing; the log's first event.
pub const EV_NO_ACTION: u32 = 0x0000_0003;
/// Closes the firmware's own measurements in a register.
pub const EV_SEPARATOR: u32 = 0x0000_0004;
/// The version of the root of trust for measurement.
pub const EV_S_CRTM_VERSION: u32 = 0x0000_0008;
/// What a boot loader, or what comes after it, measured.
pub const EV_IPL: u32 = 0x0000_000d;
/// A UEFI variable that configures boot, secure boot's among them.
pub const EV_EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
/// An image started from disk.
pub const EV_EFI_BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
/// Something the firmware did, in words.
pub const EV_EFI_ACTION: u32 = 0x8000_0007;
/// A part of the firmware.
pub const EV_EFI_PLATFORM_FIRMWARE_BLOB: u32 = 0x8000_0008;
/// The entry of a signature database that let an image start.
pub const EV_EFI_VARIABLE_AUTHORITY: u32 = 0x8000_00e0;

const GLOBAL_VARIABLE: [u8; 16] = guid(0x8be4_df61, 0x93ca, 0x11d2, 0xaa0d_00e0_9803_2b8c);
const IMAGE_SECURITY_DATABASE: [u8; 16] = guid(0xd719_b2cb, 0x3d3a, 0x4596, 0xa3bc_dad0_0e67_656f);
const CERTIFICATE_SHA256: [u8; 16] = guid(0xc1c4_1626, 0x504c, 0x4092, 0xaca9_41f9_3693_4328);
/// Who put the signatures there: the makers of this simulation.
const SIGNATURE_OWNER: [u8; 16] = guid(0x6873_6d73, 0x696d, 0x4000, 0x8000_0000_0000_0001);

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The register it is extended into.
    pub pcr: u32,
    /// Its EV_* type.
    pub kind: u32,
    /// What is extended.
    pub digests: Digests,
    /// What the log says about it.
    pub data: Vec<u8>,
}

impl Event {
    /// An event whose digests are those of its own data.
    pub fn of_data(pcr: u32, kind: u32, data: Vec<u8>) -> Self {
        Self { pcr, kind, digests: Digests::of(&data), data }
    }
}

/// The log's bytes.
pub fn encode(events: &[Event]) -> Vec<u8> {
    let mut specification = b"Spec ID Event03\0".to_vec();
    put32(&mut specification, 0); // platform class: client
    specification.extend_from_slice(&[0, 2, 0]); // version 2.0, no errata
    specification.push(2); // UINTN is 64 bits
    put32(&mut specification, 2);
    for (algorithm, size) in [(SHA256, 32u16), (SHA384, 48)] {
        specification.extend_from_slice(&algorithm.to_le_bytes());
        specification.extend_from_slice(&size.to_le_bytes());
    }
    specification.push(0); // no vendor information

    let mut log = Vec::new();
    put32(&mut log, 0);
    put32(&mut log, EV_NO_ACTION);
    log.extend_from_slice(&[0; 20]); // the place of a SHA-1 digest
    put_sized32(&mut log, &specification);
    for event in events {
        put32(&mut log, event.pcr);
        put32(&mut log, event.kind);
        put32(&mut log, 2);
        log.extend_from_slice(&SHA256.to_le_bytes());
        log.extend_from_slice(&event.digests.sha256);
        log.extend_from_slice(&SHA384.to_le_bytes());
        log.extend_from_slice(&event.digests.sha384);
        put_sized32(&mut log, &event.data);
    }
    log
}

/// UEFI_IMAGE_LOAD_EVENT: where an image was loaded, and the device path of its file.
pub(crate) fn image_load(path: &str, length: u64) -> Vec<u8> {
    let mut name: Vec<u8> = utf16(path);
    name.extend_from_slice(&[0, 0]);
    let mut device_path = vec![0x04, 0x04]; // media device path, file path
    // A path of more than 32,000 characters does not exist on a UEFI file system.
    device_path.extend_from_slice(&u16::try_from(name.len() + 4).unwrap_or(u16::MAX).to_le_bytes());
    device_path.extend_from_slice(&name);
    device_path.extend_from_slice(&[0x7f, 0xff, 0x04, 0x00]); // end of the path

    let mut data = Vec::new();
    put64(&mut data, 0x7d00_0000); // location in memory
    put64(&mut data, length);
    put64(&mut data, 0); // link-time address
    put64(&mut data, device_path.len() as u64);
    data.extend_from_slice(&device_path);
    data
}

/// UEFI_PLATFORM_FIRMWARE_BLOB: where a part of the firmware stands.
pub(crate) fn firmware_blob(length: u64) -> Vec<u8> {
    let mut data = Vec::new();
    put64(&mut data, 0xff00_0000);
    put64(&mut data, length);
    data
}

/// UEFI_VARIABLE_DATA of secure boot's switch.
pub(crate) fn secure_boot_variable(on: bool) -> Vec<u8> {
    variable(&GLOBAL_VARIABLE, "SecureBoot", &[u8::from(on)])
}

/// UEFI_VARIABLE_DATA of a key or signature database (`PK`, `KEK`, `db`, `dbx`) with one SHA-256 entry.
pub(crate) fn signature_database(name: &str, entry: &[u8; 32]) -> Vec<u8> {
    let mut list = CERTIFICATE_SHA256.to_vec();
    put32(&mut list, 28 + 48); // this list
    put32(&mut list, 0); // no header
    put32(&mut list, 48); // each signature: owner and digest
    list.extend_from_slice(&SIGNATURE_OWNER);
    list.extend_from_slice(entry);
    let vendor = if name.starts_with("db") { &IMAGE_SECURITY_DATABASE } else { &GLOBAL_VARIABLE };
    variable(vendor, name, &list)
}

/// UEFI_VARIABLE_DATA of the `db` entry that let an image start.
pub(crate) fn authority(entry: &[u8; 32]) -> Vec<u8> {
    let mut signature = SIGNATURE_OWNER.to_vec();
    signature.extend_from_slice(entry);
    variable(&IMAGE_SECURITY_DATABASE, "db", &signature)
}

/// Text as UEFI writes it.
pub(crate) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn variable(vendor: &[u8; 16], name: &str, value: &[u8]) -> Vec<u8> {
    let mut data = vendor.to_vec();
    put64(&mut data, name.encode_utf16().count() as u64);
    put64(&mut data, value.len() as u64);
    data.extend_from_slice(&utf16(name));
    data.extend_from_slice(value);
    data
}

/// EFI_GUID: the first three fields little-endian, the rest as written.
const fn guid(a: u32, b: u16, c: u16, d: u64) -> [u8; 16] {
    let ([a0, a1, a2, a3], [b0, b1], [c0, c1]) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    let [d0, d1, d2, d3, d4, d5, d6, d7] = d.to_be_bytes();
    [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7]
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_sized32(out: &mut Vec<u8>, bytes: &[u8]) {
    put32(out, u32::try_from(bytes.len()).unwrap_or(u32::MAX)); // 4 GiB of event data do not fit a machine's log area
    out.extend_from_slice(bytes);
}
