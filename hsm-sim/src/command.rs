//! TPM commands as bytes: what firmware, factory and an interposer send. Layouts are those of the TPM 2.0 Library
//! specification, part 3; only password authorizations, because neither firmware nor factory uses sessions here.

use crate::{Error, Result};

/// No sessions.
pub const TAG_NO_SESSIONS: u16 = 0x8001;
/// Authorizations follow the handles.
pub const TAG_SESSIONS: u16 = 0x8002;
/// The owner hierarchy.
pub const OWNER: u32 = 0x4000_0001;
/// The endorsement hierarchy.
pub const ENDORSEMENT: u32 = 0x4000_000b;
/// The platform hierarchy.
pub const PLATFORM: u32 = 0x4000_000c;
/// The lockout authorization.
pub const LOCKOUT: u32 = 0x4000_000a;
/// NV index of the RSA-2048 EK certificate.
pub const EK_CERTIFICATE_RSA_2048: u32 = 0x01c0_0002;
/// NV index of the ECC P-384 EK certificate.
pub const EK_CERTIFICATE_P384: u32 = 0x01c0_0016;
/// Response code of success.
pub const SUCCESS: u32 = 0;

const PASSWORD_SESSION: u32 = 0x4000_0009;

macro_rules! command_codes {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => { $($(#[$doc])* pub const $name: u32 = $value;)* };
}

command_codes! {
    /// TPM2_EvictControl.
    EVICT_CONTROL = 0x120;
    /// TPM2_NV_UndefineSpace.
    NV_UNDEFINE_SPACE = 0x122;
    /// TPM2_Clear.
    CLEAR = 0x126;
    /// TPM2_HierarchyChangeAuth.
    HIERARCHY_CHANGE_AUTH = 0x129;
    /// TPM2_NV_DefineSpace.
    NV_DEFINE_SPACE = 0x12a;
    /// TPM2_CreatePrimary.
    CREATE_PRIMARY = 0x131;
    /// TPM2_NV_Increment.
    NV_INCREMENT = 0x134;
    /// TPM2_NV_Extend.
    NV_EXTEND = 0x136;
    /// TPM2_NV_Write.
    NV_WRITE = 0x137;
    /// TPM2_DictionaryAttackParameters.
    DICTIONARY_ATTACK_PARAMETERS = 0x13a;
    /// TPM2_Startup.
    STARTUP = 0x144;
    /// TPM2_Shutdown.
    SHUTDOWN = 0x145;
    /// TPM2_ActivateCredential.
    ACTIVATE_CREDENTIAL = 0x147;
    /// TPM2_Certify.
    CERTIFY = 0x148;
    /// TPM2_CertifyCreation.
    CERTIFY_CREATION = 0x14a;
    /// TPM2_NV_Read.
    NV_READ = 0x14e;
    /// TPM2_Create.
    CREATE = 0x153;
    /// TPM2_ECDH_ZGen.
    ECDH_ZGEN = 0x154;
    /// TPM2_Load.
    LOAD = 0x157;
    /// TPM2_Quote.
    QUOTE = 0x158;
    /// TPM2_RSA_Decrypt.
    RSA_DECRYPT = 0x159;
    /// TPM2_Sign.
    SIGN = 0x15d;
    /// TPM2_Unseal.
    UNSEAL = 0x15e;
    /// TPM2_PolicySigned.
    POLICY_SIGNED = 0x160;
    /// TPM2_ContextLoad.
    CONTEXT_LOAD = 0x161;
    /// TPM2_ContextSave.
    CONTEXT_SAVE = 0x162;
    /// TPM2_ECDH_KeyGen.
    ECDH_KEYGEN = 0x163;
    /// TPM2_FlushContext.
    FLUSH_CONTEXT = 0x165;
    /// TPM2_LoadExternal.
    LOAD_EXTERNAL = 0x167;
    /// TPM2_MakeCredential.
    MAKE_CREDENTIAL = 0x168;
    /// TPM2_NV_ReadPublic.
    NV_READ_PUBLIC = 0x169;
    /// TPM2_StartAuthSession.
    START_AUTH_SESSION = 0x176;
    /// TPM2_VerifySignature.
    VERIFY_SIGNATURE = 0x177;
    /// TPM2_GetCapability.
    GET_CAPABILITY = 0x17a;
    /// TPM2_GetRandom.
    GET_RANDOM = 0x17b;
    /// TPM2_PCR_Read.
    PCR_READ = 0x17e;
    /// TPM2_ReadClock.
    READ_CLOCK = 0x181;
    /// TPM2_PCR_Extend.
    PCR_EXTEND = 0x182;
    /// TPM2_NV_Certify.
    NV_CERTIFY = 0x184;
    /// TPM2_CreateLoaded.
    CREATE_LOADED = 0x191;
}

/// One command: code, handles, at most one password authorization, parameters.
pub fn command(code: u32, handles: &[u32], password: Option<&[u8]>, parameters: &[u8]) -> Vec<u8> {
    let mut body: Vec<u8> = handles.iter().flat_map(|handle| handle.to_be_bytes()).collect();
    if let Some(password) = password {
        let mut area = PASSWORD_SESSION.to_be_bytes().to_vec();
        area.extend_from_slice(&[0, 0, 0]); // empty nonce, no attributes
        push_sized(&mut area, password);
        body.extend_from_slice(&u32::try_from(area.len()).unwrap_or(u32::MAX).to_be_bytes());
        body.extend_from_slice(&area);
    }
    body.extend_from_slice(parameters);
    let tag = if password.is_some() { TAG_SESSIONS } else { TAG_NO_SESSIONS };
    let mut bytes = tag.to_be_bytes().to_vec();
    bytes.extend_from_slice(&u32::try_from(body.len() + 10).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&code.to_be_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// TPM2_Startup: `state` after an orderly suspend, else a clear one.
pub fn startup(state: bool) -> Vec<u8> {
    command(STARTUP, &[], None, &[0, u8::from(state)])
}

/// TPM2_Shutdown: `state` before a suspend, else a clear one.
pub fn shutdown(state: bool) -> Vec<u8> {
    command(SHUTDOWN, &[], None, &[0, u8::from(state)])
}

/// TPM2_HierarchyChangeAuth.
pub fn hierarchy_change_auth(hierarchy: u32, old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut parameters = Vec::new();
    push_sized(&mut parameters, new);
    command(HIERARCHY_CHANGE_AUTH, &[hierarchy], Some(old), &parameters)
}

/// TPM2_DictionaryAttackParameters; times in seconds.
pub fn dictionary_attack_parameters(lockout: &[u8], tries: u32, recovery: u32, lockout_recovery: u32) -> Vec<u8> {
    let parameters: Vec<u8> =
        [tries, recovery, lockout_recovery].iter().flat_map(|value| value.to_be_bytes()).collect();
    command(DICTIONARY_ATTACK_PARAMETERS, &[LOCKOUT], Some(lockout), &parameters)
}

/// TPM2_PCR_Extend of both banks.
pub fn pcr_extend(pcr: u32, sha256: &[u8; 32], sha384: &[u8; 48]) -> Vec<u8> {
    let mut parameters = 2u32.to_be_bytes().to_vec();
    parameters.extend_from_slice(&crate::event_log::SHA256.to_be_bytes());
    parameters.extend_from_slice(sha256);
    parameters.extend_from_slice(&crate::event_log::SHA384.to_be_bytes());
    parameters.extend_from_slice(sha384);
    command(PCR_EXTEND, &[pcr], Some(&[]), &parameters)
}

/// TPM2_PCR_Read of one register in one bank (TPM_ALG_ID).
pub fn pcr_read(bank: u16, pcr: u8) -> Vec<u8> {
    let mut parameters = 1u32.to_be_bytes().to_vec();
    parameters.extend_from_slice(&bank.to_be_bytes());
    let mut select = [0u8; 3];
    if let Some(byte) = select.get_mut(usize::from(pcr / 8)) {
        *byte = 1 << (pcr % 8);
    }
    parameters.push(3);
    parameters.extend_from_slice(&select);
    command(PCR_READ, &[], None, &parameters)
}

/// TPM2_ReadClock.
pub fn read_clock() -> Vec<u8> {
    command(READ_CLOCK, &[], None, &[])
}

/// TPM2_GetRandom.
pub fn get_random(bytes: u16) -> Vec<u8> {
    command(GET_RANDOM, &[], None, &bytes.to_be_bytes())
}

/// TPM2_NV_ReadPublic.
pub fn nv_read_public(index: u32) -> Vec<u8> {
    command(NV_READ_PUBLIC, &[index], None, &[])
}

/// TPM2_NV_Read with the index's own (password) authorization.
pub fn nv_read(index: u32, password: &[u8], size: u16, offset: u16) -> Vec<u8> {
    let mut parameters = size.to_be_bytes().to_vec();
    parameters.extend_from_slice(&offset.to_be_bytes());
    command(NV_READ, &[index, index], Some(password), &parameters)
}

/// What TPM2_ReadClock tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds since the TPM started.
    pub time_ms: u64,
    /// Milliseconds the TPM has been on in its life, never turned back unless cleared.
    pub clock_ms: u64,
    /// Resets since the last clear.
    pub reset_count: u32,
    /// Resumes from suspend since the last reset.
    pub restart_count: u32,
    /// Whether no higher clock value can have been reported before: false for a while after power was cut.
    pub safe: bool,
}

impl Clock {
    /// Reads it out of the answer to [`read_clock`].
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Malformed`].
    pub fn parse(response: &[u8]) -> Result<Self> {
        let malformed = || Error::Malformed { command: "TPM2_ReadClock" };
        let body = parameters("TPM2_ReadClock", response, false)?;
        let u64_at = |at: usize| Some(u64::from_be_bytes(body.get(at..at + 8)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_be_bytes(body.get(at..at + 4)?.try_into().ok()?));
        let read = || {
            Some(Self {
                time_ms: u64_at(0)?,
                clock_ms: u64_at(8)?,
                reset_count: u32_at(16)?,
                restart_count: u32_at(20)?,
                safe: *body.get(24)? == 1,
            })
        };
        read().ok_or_else(malformed)
    }
}

/// The command code in a command's header, if it has one.
pub fn code_of(command: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(command.get(6..10)?.try_into().ok()?))
}

/// The response code in a response's header, if it has one.
pub fn response_code_of(response: &[u8]) -> Option<u32> {
    code_of(response)
}

/// The parameters of a successful response; `name` is for the error.
///
/// # Errors
/// [`Error::Refused`] with the response code, [`Error::Malformed`].
pub fn parameters<'a>(name: &'static str, response: &'a [u8], with_sessions: bool) -> Result<&'a [u8]> {
    match response_code_of(response) {
        None => Err(Error::Malformed { command: name }),
        Some(SUCCESS) => response.get(if with_sessions { 14 } else { 10 }..).ok_or(Error::Malformed { command: name }),
        Some(code) => Err(Error::Refused { command: name, code }),
    }
}

fn push_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    // Callers pass authorizations of at most 64 bytes; a longer one is refused by the TPM, not wrapped around.
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}
