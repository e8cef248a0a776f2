//! Home's list of revoked certificates (RFC 5280 §5). It must be there, whole and in date: what is unknown is refused.

use std::collections::BTreeMap;

use x509_parser::{
    extensions::ParsedExtension, prelude::FromDer, revocation_list::CertificateRevocationList, x509::X509Version,
};

use crate::protocol::certificate::{
    CertificateError, HomeAuthority, Rule, Serial, UnixTime, Which,
    read::{Signed, bounded, check_extensions, check_issuer},
};

/// The longest revocation list accepted: some 25,000 entries.
pub const MAX_LIST_BYTES: usize = 1024 * 1024;

/// What home has revoked, from its own signed list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocations {
    number: u64,
    from: UnixTime,
    until: UnixTime,
    serials: BTreeMap<Serial, UnixTime>,
}

impl Revocations {
    pub(super) fn read(bytes: &[u8], home: &HomeAuthority) -> Result<Self, CertificateError> {
        Self::try_read(bytes, home).map_err(|rule| rule.of(Which::RevocationList))
    }

    fn try_read(bytes: &[u8], home: &HomeAuthority) -> Result<Self, Rule> {
        bounded(bytes, MAX_LIST_BYTES)?;
        let (rest, list) = CertificateRevocationList::from_der(bytes).map_err(|_| Rule::Malformed)?;
        if !rest.is_empty() {
            return Err(Rule::Malformed);
        }
        let tbs = &list.tbs_cert_list;
        if tbs.version != Some(X509Version::V2) {
            return Err(Rule::Version);
        }
        // An issuing distribution point narrows a list, a delta indicator makes it a part: both are critical, neither known.
        check_extensions(tbs.extensions(), |_| false).map_err(|rule| match rule {
            Rule::UnknownCritical { .. } => Rule::ListScope,
            other => other,
        })?;
        let key_id = tbs.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
            _ => None,
        });
        check_issuer(tbs.issuer.as_raw(), key_id, &home.as_issuer())?;
        Signed::new(bytes, tbs.as_ref(), [&tbs.signature, &list.signature_algorithm], &list.signature_value.data)?
            .verify(home.key())?;
        let number = list.crl_number().and_then(|number| number.iter_u64_digits().next()).ok_or(Rule::ListScope)?;
        let until = tbs.next_update.ok_or(Rule::ListScope)?;
        let mut serials = BTreeMap::new();
        for entry in &tbs.revoked_certificates {
            // An entry for a certificate of another issuer would be critical.
            check_extensions(entry.extensions(), |_| false)?;
            let at = UnixTime(entry.revocation_date.timestamp());
            serials.insert(Serial::new(entry.raw_serial()).ok_or(Rule::Serial)?, at);
        }
        Ok(Self { number, from: UnixTime(tbs.this_update.timestamp()), until: UnixTime(until.timestamp()), serials })
    }

    /// The list's number: one more for each list. Keep the highest seen, and refuse lower ones.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// When the next list is due; from then on this one vouches for nobody.
    pub const fn until(&self) -> UnixTime {
        self.until
    }

    /// The serial numbers on it, and when each was revoked.
    pub fn entries(&self) -> impl Iterator<Item = (&Serial, UnixTime)> {
        self.serials.iter().map(|(serial, at)| (serial, *at))
    }

    /// Whether a certificate stands, at this moment.
    pub(super) fn check(&self, serial: &Serial, which: Which, now: UnixTime) -> Result<(), CertificateError> {
        check_time(self.from, self.until, now).map_err(|rule| rule.of(Which::RevocationList))?;
        if self.serials.contains_key(serial) {
            return Err(Rule::Revoked { serial: serial.clone() }.of(which));
        }
        Ok(())
    }
}

pub(super) fn check_time(from: UnixTime, until: UnixTime, now: UnixTime) -> Result<(), Rule> {
    if now < from {
        return Err(Rule::NotYet { from, now });
    }
    if now > until { Err(Rule::Expired { until, now }) } else { Ok(()) }
}
