//! A TPM spoken to in raw commands, so that nothing between the test and the TPM computes anything on its own.
//!
//! Layouts: TPM 2.0 Library Specification, Part 3.

use chancery::protocol::{
    group::Point,
    tpm::{
        approval::TpmApproval,
        nv::NvPublic,
        object::OfficialKey,
        pcr::PcrSelection,
        policy::{PolicyDigest, PolicyRef},
    },
};
use hsm_sim::Bus;

pub const OWNER: u32 = 0x4000_0001;
pub const ENDORSEMENT: u32 = 0x4000_000B;
const NULL: u32 = 0x4000_0007;
const PASSWORD: u32 = 0x4000_0009;

/// A response code.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub u32);

pub type Answer<T> = Result<T, Refused>;

/// How a command is authorized.
#[derive(Clone, Copy)]
pub enum Auth<'a> {
    None,
    Password(&'a [u8]),
    Policy(u32),
}

/// A policy or trial session.
pub struct Session {
    pub handle: u32,
    pub nonce: Vec<u8>,
}

pub struct Tpm<'a>(pub &'a Bus);

/// Big-endian bytes of a response.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn raw(&mut self, count: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        head
    }
    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.raw(4).try_into().unwrap())
    }
    fn sized(&mut self) -> &'a [u8] {
        let count = u16::from_be_bytes(self.raw(2).try_into().unwrap());
        self.raw(usize::from(count))
    }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

impl Tpm<'_> {
    fn run(
        &self,
        code: u32,
        handles: &[u32],
        auth: Auth<'_>,
        parameters: &[u8],
        returns_handle: bool,
    ) -> Answer<(u32, Vec<u8>)> {
        let area = match auth {
            Auth::None => None,
            Auth::Password(password) => Some(joined(&[&PASSWORD.to_be_bytes(), &[0, 0, 0], &sized(password)])),
            Auth::Policy(session) => Some(joined(&[&session.to_be_bytes(), &[0, 0, 1, 0, 0]])),
        };
        let mut body: Vec<u8> = handles.iter().flat_map(|handle| handle.to_be_bytes()).collect();
        if let Some(area) = &area {
            body.extend(u32::try_from(area.len()).unwrap().to_be_bytes());
            body.extend(area);
        }
        body.extend(parameters);
        let tag: u16 = if area.is_some() { 0x8002 } else { 0x8001 };
        let size = u32::try_from(body.len() + 10).unwrap();
        let command = joined(&[&tag.to_be_bytes(), &size.to_be_bytes(), &code.to_be_bytes(), &body]);
        let response = self.0.transact(&command).unwrap();
        let mut fields = Fields(&response[6..]);
        let status = fields.u32();
        if status != 0 {
            return Err(Refused(status));
        }
        let handle = if returns_handle { fields.u32() } else { 0 };
        if area.is_some() {
            let count = fields.u32() as usize;
            return Ok((handle, fields.raw(count).to_vec()));
        }
        Ok((handle, fields.0.to_vec()))
    }

    pub fn flush(&self, handle: u32) {
        self.run(0x165, &[], Auth::None, &handle.to_be_bytes(), false).unwrap();
    }

    pub fn start(&self, trial: bool) -> Session {
        let kind = if trial { 3 } else { 1 };
        let parameters = joined(&[&sized(&[7; 32]), &sized(&[]), &[kind], &[0, 0x10], &[0, 0x0B]]);
        let (handle, rest) = self.run(0x176, &[NULL, NULL], Auth::None, &parameters, true).unwrap();
        Session { handle, nonce: Fields(&rest).sized().to_vec() }
    }

    pub fn digest(&self, session: &Session) -> Vec<u8> {
        let (_, rest) = self.run(0x189, &[session.handle], Auth::None, &[], false).unwrap();
        Fields(&rest).sized().to_vec()
    }

    /// Loads an official's key; gives the handle and the Name the TPM computed.
    pub fn load_external(&self, key: &OfficialKey) -> (u32, Vec<u8>) {
        let parameters = joined(&[&sized(&[]), &sized(&key.marshal()), &NULL.to_be_bytes()]);
        let (handle, rest) = self.run(0x167, &[], Auth::None, &parameters, true).unwrap();
        (handle, Fields(&rest).sized().to_vec())
    }

    pub fn policy_signed(
        &self,
        session: &Session,
        key: &OfficialKey,
        approval: &TpmApproval,
        policy_ref: &PolicyRef,
    ) -> Answer<()> {
        let (handle, _) = self.load_external(key);
        let (r, s) = approval.r_s();
        let parameters = joined(&[
            &sized(&session.nonce),
            &sized(approval.command()),
            &sized(policy_ref.as_bytes()),
            &approval.expiration().to_be_bytes(),
            &[0, 0x18, 0, 0x0B],
            &sized(&r),
            &sized(&s),
        ]);
        let answer = self.run(0x160, &[handle, session.handle], Auth::None, &parameters, false);
        self.flush(handle);
        answer.map(|_| ())
    }

    pub fn policy_or(&self, session: &Session, branches: &[PolicyDigest; 2]) -> Answer<()> {
        let [first, second] = branches;
        let parameters = joined(&[&[0, 0, 0, 2], &sized(first.as_bytes()), &sized(second.as_bytes())]);
        self.run(0x171, &[session.handle], Auth::None, &parameters, false).map(|_| ())
    }

    /// With a digest of values only in a trial; empty stands for the values as they are.
    pub fn policy_pcr(&self, session: &Session, digest: &[u8], selection: PcrSelection) -> Answer<()> {
        let parameters = joined(&[&sized(digest), &selection.marshal()]);
        self.run(0x17F, &[session.handle], Auth::None, &parameters, false).map(|_| ())
    }

    pub fn policy_authorize_nv(&self, session: &Session, index: u32) -> Answer<()> {
        self.run(0x192, &[index, index, session.handle], Auth::Password(&[]), &[], false).map(|_| ())
    }

    pub fn policy_nv_equals(&self, session: &Session, index: u32, value: u64) -> Answer<()> {
        let parameters = joined(&[&sized(&value.to_be_bytes()), &[0, 0], &[0, 0]]);
        self.run(0x149, &[index, index, session.handle], Auth::Password(&[]), &parameters, false).map(|_| ())
    }

    pub fn nv_define(&self, owner: &[u8], public: &NvPublic) -> Answer<()> {
        let parameters = joined(&[&sized(&[]), &sized(&public.marshal())]);
        self.run(0x12A, &[OWNER], Auth::Password(owner), &parameters, false).map(|_| ())
    }

    /// The Name the TPM computed of an index.
    pub fn nv_name(&self, index: u32) -> Vec<u8> {
        let (_, rest) = self.run(0x169, &[index], Auth::None, &[], false).unwrap();
        let mut fields = Fields(&rest);
        fields.sized();
        fields.sized().to_vec()
    }

    pub fn nv_read(&self, index: u32, size: u16) -> Vec<u8> {
        let parameters = joined(&[&size.to_be_bytes(), &[0, 0]]);
        let (_, rest) = self.run(0x14E, &[index, index], Auth::Password(&[]), &parameters, false).unwrap();
        Fields(&rest).sized().to_vec()
    }

    pub fn nv_increment(&self, index: u32, auth: Auth<'_>) -> Answer<()> {
        self.run(0x134, &[index, index], auth, &[], false).map(|_| ())
    }

    pub fn nv_write(&self, index: u32, auth: Auth<'_>, data: &[u8]) -> Answer<()> {
        let parameters = joined(&[&sized(data), &[0, 0]]);
        self.run(0x137, &[index, index], auth, &parameters, false).map(|_| ())
    }

    /// A primary key: its handle, public area and Name.
    pub fn create_primary(&self, hierarchy: u32, auth: &[u8], template: &[u8]) -> (u32, Vec<u8>, Vec<u8>) {
        let parameters = joined(&[&sized(&[0; 4]), &sized(template), &sized(&[]), &[0; 4]]);
        let (handle, rest) = self.run(0x131, &[hierarchy], Auth::Password(auth), &parameters, true).unwrap();
        let mut fields = Fields(&rest);
        let public = fields.sized().to_vec();
        let (_data, _hash) = (fields.sized(), fields.sized());
        fields.raw(6);
        fields.sized();
        (handle, public, fields.sized().to_vec())
    }

    /// Creates and loads a child: its handle, public area and Name.
    pub fn create_and_load(&self, parent: u32, secret: &[u8], template: &[u8]) -> (u32, Vec<u8>, Vec<u8>) {
        let sensitive = joined(&[&sized(&[]), &sized(secret)]);
        let parameters = joined(&[&sized(&sensitive), &sized(template), &sized(&[]), &[0; 4]]);
        let (_, rest) = self.run(0x153, &[parent], Auth::Password(&[]), &parameters, false).unwrap();
        let mut fields = Fields(&rest);
        let (private, public) = (fields.sized(), fields.sized());
        let (handle, name) = self.load(parent, &sized(private), public).unwrap();
        (handle, public.to_vec(), name)
    }

    /// Loads a child from its TPM2B_PRIVATE and its public area: its handle and Name.
    pub fn load(&self, parent: u32, private: &[u8], public: &[u8]) -> Answer<(u32, Vec<u8>)> {
        let parameters = joined(&[private, &sized(public)]);
        let (handle, rest) = self.run(0x157, &[parent], Auth::Password(&[]), &parameters, true)?;
        Ok((handle, Fields(&rest).sized().to_vec()))
    }

    /// The x coordinate of the key's private half times `point`.
    pub fn ecdh_zgen(&self, key: u32, auth: Auth<'_>, point: &Point) -> Answer<Vec<u8>> {
        let (x, y) = point.xy();
        let parameters = sized(&joined(&[&sized(&x), &sized(&y)]));
        let (_, rest) = self.run(0x154, &[key], auth, &parameters, false)?;
        let mut fields = Fields(&rest);
        fields.raw(2);
        Ok(fields.sized().to_vec())
    }

    pub fn unseal(&self, object: u32, auth: Auth<'_>) -> Answer<Vec<u8>> {
        let (_, rest) = self.run(0x15E, &[object], auth, &[], false)?;
        Ok(Fields(&rest).sized().to_vec())
    }
}
