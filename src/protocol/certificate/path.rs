//! From the charter's home key to a certified identity: the paths there are, and no others.

use crate::protocol::{
    certificate::{
        CertificateError, Identity, Revocations, Role, Rule, Serial, TrustDomain, UnixTime, Which,
        read::{As, Issuer, Sheet, certificate_key, country_of, issued_by},
        revocation::check_time,
    },
    charter::Country,
    group::Point,
};

/// The home authority: its own certificate, checked against the charter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeAuthority {
    country: Country,
    key: Point,
    identity: Identity,
    subject: Vec<u8>,
    key_id: Option<Vec<u8>>,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl HomeAuthority {
    /// Takes home's self-signed certificate. Country and key come from the charter; only the trust domain is learnt here.
    ///
    /// # Errors
    /// [`CertificateError`] with the rule.
    pub fn read(root: &[u8], country: Country, home: &Point) -> Result<Self, CertificateError> {
        let sheet = Sheet::read(root, Which::Home, &As::Role(Role::Home), country)?;
        if sheet.key != *home {
            return Err(Rule::HomeKey.of(Which::Home));
        }
        sheet.check_issued_by(&sheet.as_issuer())?;
        Ok(Self {
            country,
            key: sheet.key,
            identity: sheet.identity.clone(),
            subject: sheet.subject.to_vec(),
            key_id: sheet.key_id().map(<[u8]>::to_vec),
            not_before: sheet.not_before,
            not_after: sheet.not_after,
        })
    }

    /// Takes the certificate that the reader was given by home itself: country and key are learnt from it, and everything
    /// else is judged by them.
    ///
    /// # Errors
    /// [`CertificateError`] with the rule.
    pub fn known(root: &[u8]) -> Result<Self, CertificateError> {
        let country = country_of(root).map_err(|rule| rule.of(Which::Home))?;
        Self::read(root, country, &certificate_key(root)?)
    }

    /// Takes the certificate of one's own home authority, whose private key one has: its country is one's own.
    ///
    /// # Errors
    /// [`CertificateError`] with the rule.
    pub fn own(root: &[u8], key: &Point) -> Result<Self, CertificateError> {
        let country = country_of(root).map_err(|rule| rule.of(Which::Home))?;
        Self::read(root, country, key)
    }

    /// Who it is.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The trust domain of all its identities.
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.identity.trust_domain
    }

    /// Its country.
    pub const fn country(&self) -> Country {
        self.country
    }

    /// Its key.
    pub const fn key(&self) -> &Point {
        &self.key
    }

    /// Until when its certificate is valid.
    pub const fn until(&self) -> UnixTime {
        self.not_after
    }

    pub(super) fn as_issuer(&self) -> Issuer<'_> {
        Issuer { subject: &self.subject, key: &self.key, key_id: self.key_id.as_deref() }
    }

    /// Reads its revocation list.
    ///
    /// # Errors
    /// [`CertificateError`] with the rule. Whether the list is in date is asked each time it is used.
    pub fn revocations(&self, list: &[u8]) -> Result<Revocations, CertificateError> {
        Revocations::read(list, self)
    }

    /// The serial number of a certificate that this authority issued, whatever it says and however old it is: what is revoked.
    ///
    /// # Errors
    /// [`Rule::Issuer`] and [`Rule::Signature`] for any other.
    pub fn issued(&self, certificate: &[u8]) -> Result<Serial, CertificateError> {
        issued_by(certificate, &self.as_issuer())
    }

    /// Judges what a peer presents, its own certificate first: one of a person, or an embassy's TLS certificate and then the
    /// embassy's authority. This also is the whole check: a TLS library's own is not relied upon.
    ///
    /// # Errors
    /// [`CertificateError`] with the rule.
    pub fn certify(
        &self,
        path: &[&[u8]],
        revocations: &Revocations,
        now: UnixTime,
    ) -> Result<Certified, CertificateError> {
        match path {
            [leaf] => self.person(leaf, revocations, now),
            [leaf, authority] => self.embassy_authority(authority, revocations, now)?.leaf(leaf, revocations, now),
            _ => Err(Rule::Length { found: path.len() }.of(Which::Path)),
        }
    }

    fn person(&self, leaf: &[u8], revocations: &Revocations, now: UnixTime) -> Result<Certified, CertificateError> {
        let sheet = Sheet::read(leaf, Which::Leaf, &As::Named, self.country)?;
        let role = sheet.identity.role;
        if matches!(role, Role::Home | Role::Embassy | Role::EmbassyAuthority) {
            return Err(Rule::IssuedBy { role, issuer: Role::Home }.of(Which::Leaf));
        }
        let certified = self.direct(&sheet)?;
        certified.still_stands(revocations, now)?;
        Ok(certified)
    }

    /// Judges the certificate of an embassy's own authority.
    ///
    /// # Errors
    /// [`CertificateError`] with the rule.
    pub fn embassy_authority(
        &self,
        authority: &[u8],
        revocations: &Revocations,
        now: UnixTime,
    ) -> Result<EmbassyAuthority, CertificateError> {
        let sheet = Sheet::read(authority, Which::EmbassyAuthority, &As::Role(Role::EmbassyAuthority), self.country)?;
        let certified = self.direct(&sheet)?;
        certified.still_stands(revocations, now)?;
        Ok(EmbassyAuthority {
            certified,
            country: self.country,
            subject: sheet.subject.to_vec(),
            key_id: sheet.key_id().map(<[u8]>::to_vec),
        })
    }

    /// What home itself issued.
    fn direct(&self, sheet: &Sheet<'_>) -> Result<Certified, CertificateError> {
        self.check_trust_domain(&sheet.identity).map_err(|rule| rule.of(sheet.which))?;
        sheet.check_issued_by(&self.as_issuer())?;
        Ok(Certified {
            identity: sheet.identity.clone(),
            key: sheet.key,
            links: vec![Link::of(sheet, true)],
            home: (self.not_before, self.not_after),
        })
    }

    fn check_trust_domain(&self, identity: &Identity) -> Result<(), Rule> {
        if identity.trust_domain == *self.trust_domain() {
            return Ok(());
        }
        Err(Rule::TrustDomain { found: identity.trust_domain.clone(), expected: self.trust_domain().clone() })
    }
}

/// An embassy's own authority, as home certified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbassyAuthority {
    certified: Certified,
    country: Country,
    subject: Vec<u8>,
    key_id: Option<Vec<u8>>,
}

impl EmbassyAuthority {
    /// The embassy, its key and the rest. Compare the key with the charter's identity key.
    pub const fn certified(&self) -> &Certified {
        &self.certified
    }

    fn leaf(&self, leaf: &[u8], revocations: &Revocations, now: UnixTime) -> Result<Certified, CertificateError> {
        let sheet = Sheet::read(leaf, Which::Leaf, &As::Named, self.country)?;
        let (own, found) = (&self.certified.identity, &sheet.identity);
        let refused = |rule: Rule| Err(rule.of(Which::Leaf));
        if found.role != Role::Embassy {
            return refused(Rule::IssuedBy { role: found.role, issuer: Role::EmbassyAuthority });
        }
        if found.trust_domain != own.trust_domain {
            let (found, expected) = (found.trust_domain.clone(), own.trust_domain.clone());
            return refused(Rule::TrustDomain { found, expected });
        }
        if found.name != own.name {
            return refused(Rule::ForeignName { issuer: own.name.clone(), found: found.name.clone() });
        }
        let issuer = Issuer { subject: &self.subject, key: &self.certified.key, key_id: self.key_id.as_deref() };
        sheet.check_issued_by(&issuer)?;
        let mut links = self.certified.links.clone();
        // Valid for a day at most, and made anew at each start: home's list holds its authority only.
        links.push(Link::of(&sheet, false));
        let certified = Certified { identity: sheet.identity, key: sheet.key, links, home: self.certified.home };
        certified.still_stands(revocations, now)?;
        Ok(certified)
    }
}

/// One certificate of a path, as far as time and revocation go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    which: Which,
    serial: Serial,
    not_before: UnixTime,
    not_after: UnixTime,
    revocable: bool,
}

impl Link {
    fn of(sheet: &Sheet<'_>, revocable: bool) -> Self {
        let Sheet { which, not_before, not_after, .. } = *sheet;
        Self { which, serial: sheet.serial.clone(), not_before, not_after, revocable }
    }
}

/// An identity that hangs on the charter's home key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    identity: Identity,
    key: Point,
    links: Vec<Link>,
    home: (UnixTime, UnixTime),
}

impl Certified {
    /// Who it is.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The key in the certificate.
    pub const fn key(&self) -> &Point {
        &self.key
    }

    /// The serial number of its own certificate.
    pub fn serial(&self) -> Option<&Serial> {
        self.links.last().map(|link| &link.serial)
    }

    /// When the first certificate of the path ends.
    pub fn until(&self) -> UnixTime {
        self.links.iter().map(|link| link.not_after).fold(self.home.1, UnixTime::min)
    }

    /// Asks again whether all of it is in date and nothing revoked: for each connection and each request, since TLS does
    /// not ask again when a session is resumed.
    ///
    /// # Errors
    /// [`CertificateError`] with the rule.
    pub fn still_stands(&self, revocations: &Revocations, now: UnixTime) -> Result<(), CertificateError> {
        check_time(self.home.0, self.home.1, now).map_err(|rule| rule.of(Which::Home))?;
        for link in &self.links {
            check_time(link.not_before, link.not_after, now).map_err(|rule| rule.of(link.which))?;
            if link.revocable {
                revocations.check(&link.serial, link.which, now)?;
            }
        }
        Ok(())
    }

    /// Takes only some roles.
    ///
    /// # Errors
    /// [`Rule::Role`].
    pub fn in_role(self, roles: &[Role]) -> Result<Self, CertificateError> {
        if roles.contains(&self.identity.role) {
            return Ok(self);
        }
        let expected = roles.iter().map(Role::to_string).collect::<Vec<_>>().join(" or ");
        Err(Rule::Role { found: self.identity.role, expected }.of(Which::Leaf))
    }
}
