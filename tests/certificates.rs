//! The rules of certificates: each role's right one passes, and each rule refuses the one certificate that breaks it alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use chancery::{
    keys::{
        IdentitySigner, MemorySigner,
        issue::{self, IssuerName, Request},
    },
    protocol::{
        certificate::{
            CertificateError, Certified, HomeAuthority, Identity, MAX_CERTIFICATE_BYTES, Revocations, Role, Rule,
            Serial, TrustDomain, UnixTime, Which, request_key,
        },
        charter::Country,
        hash::Hash,
        hybrid::HybridSecretKey,
        ids::SubjectName,
        recipient::{RecipientCard, RecipientError},
        secret::SecretScalar,
    },
};
use rand_core::OsRng;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    PublicKeyData, SanType, SignatureAlgorithm, SigningKey,
};

const NOON: UnixTime = UnixTime(1_900_000_000);
const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;
const LEAVES: [Role; 5] = [Role::Official, Role::Agent, Role::DataOwner, Role::Auditor, Role::Witness];

fn key() -> MemorySigner {
    MemorySigner::new(&SecretScalar::random(&mut OsRng))
}

fn identity(role: Role, name: &str) -> Identity {
    Identity {
        trust_domain: TrustDomain::new("registers.example").unwrap(),
        role,
        name: SubjectName::new(name).unwrap(),
    }
}

struct World {
    country: Country,
    home: MemorySigner,
    home_name: IssuerName,
    embassy: MemorySigner,
    embassy_name: IssuerName,
    authority: HomeAuthority,
    none_revoked: Revocations,
}

impl World {
    fn new() -> Self {
        let country = Country::new("EE").unwrap();
        let (home, embassy) = (key(), key());
        let home_name = IssuerName { country, identity: identity(Role::Home, "registrar") };
        let embassy_name = IssuerName { country, identity: identity(Role::EmbassyAuthority, "luxembourg") };
        let root = issue::certificate(&home_name, &home, &request(home_name.identity.clone(), &home), &mut OsRng);
        let authority = HomeAuthority::read(&root.unwrap(), country, home.public()).unwrap();
        let list = issue::revocation_list(&home_name, &home, 1, &[], UnixTime(NOON.0 - HOUR), UnixTime(NOON.0 + HOUR));
        let none_revoked = authority.revocations(&list.unwrap()).unwrap();
        Self { country, home, home_name, embassy, embassy_name, authority, none_revoked }
    }

    /// Issued by home, after a change.
    fn home_issues(&self, request: &Request, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        issued(&self.home_name, &self.home, request, change)
    }

    fn embassy_authority(&self) -> Vec<u8> {
        self.home_issues(&request(self.embassy_name.identity.clone(), &self.embassy), |_| {})
    }

    /// Issued by the embassy, after a change.
    fn embassy_issues(&self, request: &Request, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        issued(&self.embassy_name, &self.embassy, request, change)
    }

    fn judge(&self, path: &[&[u8]]) -> Result<Certified, CertificateError> {
        self.authority.certify(path, &self.none_revoked, NOON)
    }

    /// What is said of a person's certificate that home issued after a change.
    fn person(&self, role: Role, change: impl FnOnce(&mut CertificateParams)) -> Rule {
        let certificate = self.home_issues(&request(identity(role, "anna"), &key()), change);
        refused(self.judge(&[&certificate]), Which::Leaf)
    }

    /// What is said of the embassy's TLS certificate after a change.
    fn tls(&self, change: impl FnOnce(&mut CertificateParams)) -> Rule {
        let leaf = self.embassy_issues(&request(identity(Role::Embassy, "luxembourg"), &key()), change);
        refused(self.judge(&[&leaf, &self.embassy_authority()]), Which::Leaf)
    }

    /// What is said of the embassy's authority after a change.
    fn ca(&self, change: impl FnOnce(&mut CertificateParams)) -> Rule {
        let authority = self.home_issues(&request(self.embassy_name.identity.clone(), &self.embassy), change);
        let leaf = self.embassy_issues(&request(identity(Role::Embassy, "luxembourg"), &key()), |_| {});
        refused(self.judge(&[&leaf, &authority]), Which::EmbassyAuthority)
    }
}

fn request(identity: Identity, key: &MemorySigner) -> Request {
    let seconds = if identity.role == Role::Embassy { 20 * HOUR } else { YEAR };
    Request {
        identity,
        key: *key.public(),
        not_before: UnixTime(NOON.0 - HOUR),
        not_after: UnixTime(NOON.0 - HOUR + seconds),
        places: Vec::new(),
    }
}

fn issued(
    issuer: &IssuerName,
    signer: &MemorySigner,
    request: &Request,
    change: impl FnOnce(&mut CertificateParams),
) -> Vec<u8> {
    let mut params = issue::params(issuer.country, request, &issue::fresh_serial(&mut OsRng)).unwrap();
    change(&mut params);
    issue::sign_params(issuer, signer, &request.key, &params).unwrap()
}

fn refused(judged: Result<Certified, CertificateError>, which: Which) -> Rule {
    let error = judged.expect_err("it passed");
    assert_eq!(error.which, which, "{error}");
    error.rule
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[test]
fn the_right_certificate_of_every_role_passes() {
    let world = World::new();
    for role in LEAVES {
        let anna = key();
        let certificate = world.home_issues(&request(identity(role, "anna"), &anna), |_| {});
        let certified = world.judge(&[&certificate]).unwrap();
        assert_eq!((certified.identity(), certified.key()), (&identity(role, "anna"), anna.public()));
        assert_eq!(certified.until(), UnixTime(NOON.0 - HOUR + YEAR));
        for other in LEAVES.into_iter().filter(|other| *other != role) {
            let refused = certified.clone().in_role(&[other, Role::Embassy]).unwrap_err();
            assert!(matches!(refused.rule, Rule::Role { found, .. } if found == role), "{refused}");
        }
        assert!(certified.in_role(&[role]).is_ok());
    }
    let tls = key();
    let mut places = request(identity(Role::Embassy, "luxembourg"), &tls);
    places.places = vec!["embassy.example".to_owned(), "192.0.2.7".to_owned()];
    let leaf = world.embassy_issues(&places, |_| {});
    let certified = world.judge(&[&leaf, &world.embassy_authority()]).unwrap();
    assert_eq!((certified.identity(), certified.key()), (&identity(Role::Embassy, "luxembourg"), tls.public()));
    assert_eq!(certified.until(), UnixTime(NOON.0 + 19 * HOUR));
}

#[test]
fn what_every_role_has_to_say_is_asked_of_every_role() {
    let world = World::new();
    let oid = |rule: &Rule| matches!(rule, Rule::UnknownCritical { oid } if oid == "1.3.6.1.4.1.32473.1");
    let unknown = |params: &mut CertificateParams| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 32473, 1], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions = vec![extension];
    };
    let expired = |params: &mut CertificateParams| {
        params.not_before = time::OffsetDateTime::from_unix_timestamp(NOON.0 - 2 * HOUR).unwrap();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(NOON.0 - HOUR).unwrap();
    };
    let early = |params: &mut CertificateParams| {
        params.not_before = time::OffsetDateTime::from_unix_timestamp(NOON.0 + 1).unwrap();
    };
    let country = |params: &mut CertificateParams| params.distinguished_name.push(DnType::CountryName, "LV");
    let surname = |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, "boris");
    let more = |params: &mut CertificateParams| params.distinguished_name.push(DnType::OrganizationName, "registry");
    let no_uri = |params: &mut CertificateParams| params.subject_alt_names.clear();
    let two_uris = |params: &mut CertificateParams| {
        let first = params.subject_alt_names[0].clone();
        params.subject_alt_names.push(first);
    };
    let mail = |params: &mut CertificateParams| {
        params.subject_alt_names.push(SanType::Rfc822Name("anna@registers.example".try_into().unwrap()));
    };
    let not_spiffe = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![uri("https://registers.example/official/anna")]
    };
    let long_uri = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![uri("spiffe://registers.example/official/anna/more")];
    };
    let no_role =
        |params: &mut CertificateParams| params.subject_alt_names = vec![uri("spiffe://registers.example/king/anna")];
    let no_usage = |params: &mut CertificateParams| params.key_usages.clear();
    let more_usage = |params: &mut CertificateParams| params.key_usages.push(KeyUsagePurpose::ContentCommitment);
    let more_purposes =
        |params: &mut CertificateParams| params.extended_key_usages.push(ExtendedKeyUsagePurpose::CodeSigning);
    let any_purpose = |params: &mut CertificateParams| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
    let no_purpose = |params: &mut CertificateParams| params.extended_key_usages.clear();

    // (the fault, what must be said of it)
    type Fault<'a> = (&'a dyn Fn(&mut CertificateParams), &'a dyn Fn(&Rule) -> bool);
    let faults: &[Fault<'_>] = &[
        (&unknown, &oid),
        (&expired, &|rule| matches!(rule, Rule::Expired { now: NOON, .. })),
        (&early, &|rule| matches!(rule, Rule::NotYet { now: NOON, .. })),
        (&country, &|rule| matches!(rule, Rule::Country { .. })),
        (&surname, &|rule| matches!(rule, Rule::Subject)),
        (&more, &|rule| matches!(rule, Rule::Subject)),
        (&no_uri, &|rule| matches!(rule, Rule::Uris { found: 0 })),
        (&two_uris, &|rule| matches!(rule, Rule::Uris { found: 2 })),
        (&mail, &|rule| matches!(rule, Rule::OtherNames)),
        (&not_spiffe, &|rule| matches!(rule, Rule::UriForm)),
        (&long_uri, &|rule| matches!(rule, Rule::UriForm)),
        (&no_role, &|rule| matches!(rule, Rule::UnknownRole)),
        (&no_usage, &|rule| matches!(rule, Rule::KeyUsage { .. })),
        (&more_usage, &|rule| matches!(rule, Rule::KeyUsage { .. })),
        (&more_purposes, &|rule| matches!(rule, Rule::ExtendedKeyUsage { .. })),
        (&any_purpose, &|rule| matches!(rule, Rule::ExtendedKeyUsage { .. })),
        (&no_purpose, &|rule| matches!(rule, Rule::ExtendedKeyUsage { .. })),
    ];
    for (at, (fault, expected)) in faults.iter().enumerate() {
        for role in LEAVES {
            let rule = world.person(role, fault);
            assert!(expected(&rule), "fault {at} of {role}: {rule}");
        }
        let (tls, ca) = (world.tls(fault), world.ca(fault));
        assert!(expected(&tls), "fault {at} of an embassy's TLS certificate: {tls}");
        assert!(expected(&ca), "fault {at} of an embassy's authority: {ca}");
    }
}

#[test]
fn only_home_and_embassies_issue_and_an_embassy_only_for_itself() {
    let world = World::new();
    let authority = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    for role in LEAVES {
        assert_eq!(world.person(role, authority), Rule::Authority { expected: false }, "{role}");
    }
    assert_eq!(world.tls(authority), Rule::Authority { expected: false });
    for wrong in [IsCa::NoCa, IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        assert_eq!(world.ca(|params| params.is_ca = wrong), Rule::Authority { expected: true });
    }
    assert_eq!(
        world.ca(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1))),
        Rule::Authority { expected: true }
    );

    // An embassy certifies a person, and another embassy.
    for role in LEAVES {
        let leaf = world.embassy_issues(&request(identity(role, "anna"), &key()), |_| {});
        let rule = refused(world.judge(&[&leaf, &world.embassy_authority()]), Which::Leaf);
        assert_eq!(rule, Rule::IssuedBy { role, issuer: Role::EmbassyAuthority });
    }
    let leaf = world.embassy_issues(&request(identity(Role::Embassy, "singapore"), &key()), |_| {});
    let rule = refused(world.judge(&[&leaf, &world.embassy_authority()]), Which::Leaf);
    assert!(
        matches!(&rule, Rule::ForeignName { issuer, found } if issuer.as_str() == "luxembourg" && found.as_str() == "singapore")
    );

    // Home certifies an embassy's TLS key past its authority; a person's certificate as an authority; home's own as a leaf.
    let leaf = world.home_issues(&request(identity(Role::Embassy, "luxembourg"), &key()), |_| {});
    let rule = refused(world.judge(&[&leaf]), Which::Leaf);
    assert_eq!(rule, Rule::IssuedBy { role: Role::Embassy, issuer: Role::Home });
    let anna = key();
    let official = world.home_issues(&request(identity(Role::Official, "anna"), &anna), |_| {});
    let by_anna = IssuerName { country: world.country, identity: identity(Role::Official, "anna") };
    let leaf = issued(&by_anna, &anna, &request(identity(Role::Embassy, "luxembourg"), &key()), |_| {});
    let rule = refused(world.judge(&[&leaf, &official]), Which::EmbassyAuthority);
    assert!(matches!(rule, Rule::Role { found: Role::Official, .. }), "{rule}");
    let root = world.home_issues(&request(world.home_name.identity.clone(), &world.home), |_| {});
    let rule = refused(world.judge(&[&root]), Which::Leaf);
    assert_eq!(rule, Rule::IssuedBy { role: Role::Home, issuer: Role::Home });
    let authority = world.embassy_authority();
    for path in [&[][..], &[&leaf[..], &authority, &root]] {
        assert_eq!(refused(world.judge(path), Which::Path), Rule::Length { found: path.len() });
    }
}

#[test]
fn a_path_that_hangs_on_anything_but_the_charters_home_is_refused() {
    let world = World::new();
    let anna = || request(identity(Role::Official, "anna"), &key());
    // Another authority of the same name; then one that names the right key identifier too.
    let stranger = key();
    let forged = issued(&world.home_name, &stranger, &anna(), |_| {});
    assert_eq!(refused(world.judge(&[&forged]), Which::Leaf), Rule::Issuer);
    let mut tampered = world.home_issues(&anna(), |_| {});
    let end = tampered.len() - 1;
    tampered[end] ^= 1;
    assert_eq!(refused(world.judge(&[&tampered]), Which::Leaf), Rule::Signature);
    // Another name.
    let other = IssuerName { country: world.country, identity: identity(Role::Home, "treasury") };
    let renamed = issued(&other, &world.home, &anna(), |_| {});
    assert_eq!(refused(world.judge(&[&renamed]), Which::Leaf), Rule::Issuer);
    // Signed by itself.
    let own = key();
    let by_itself = IssuerName { country: world.country, identity: identity(Role::Official, "anna") };
    let selfmade = issued(&by_itself, &own, &request(identity(Role::Official, "anna"), &own), |_| {});
    assert_eq!(refused(world.judge(&[&selfmade]), Which::Leaf), Rule::Issuer);
    // Another trust domain, though home itself signed it.
    let elsewhere =
        Identity { trust_domain: TrustDomain::new("elsewhere.example").unwrap(), ..identity(Role::Official, "anna") };
    let moved = world.home_issues(&request(elsewhere, &key()), |_| {});
    assert!(matches!(refused(world.judge(&[&moved]), Which::Leaf), Rule::TrustDomain { .. }));
    // An embassy's leaf under another embassy's key.
    let leaf = issued(&world.embassy_name, &stranger, &request(identity(Role::Embassy, "luxembourg"), &key()), |_| {});
    assert_eq!(refused(world.judge(&[&leaf, &world.embassy_authority()]), Which::Leaf), Rule::Issuer);

    // Home's own certificate: another key than the charter's, another country, another signer.
    let root = |name: &IssuerName, signer: &MemorySigner| {
        issued(name, signer, &request(world.home_name.identity.clone(), &world.home), |_| {})
    };
    let right = root(&world.home_name, &world.home);
    let read = |bytes: &[u8], country: &str, key: &MemorySigner| {
        HomeAuthority::read(bytes, Country::new(country).unwrap(), key.public()).unwrap_err().rule
    };
    assert_eq!(read(&right, "EE", &stranger), Rule::HomeKey);
    assert!(matches!(read(&right, "LV", &world.home), Rule::Country { .. }));
    assert_eq!(read(&root(&world.home_name, &stranger), "EE", &world.home), Rule::Signature);
    let official = world.home_issues(&request(identity(Role::Official, "registrar"), &world.home), |_| {});
    assert!(matches!(read(&official, "EE", &world.home), Rule::Role { found: Role::Official, .. }));
}

#[test]
fn an_embassys_tls_certificate_lives_a_day_at_most_and_names_few_places() {
    let world = World::new();
    let week = |params: &mut CertificateParams| {
        params.not_after = time::OffsetDateTime::from_unix_timestamp(NOON.0 + 7 * 24 * HOUR).unwrap();
    };
    assert!(matches!(world.tls(week), Rule::Lifetime { bound: 86_400, .. }));
    let places = |params: &mut CertificateParams| {
        for place in 0..9 {
            params.subject_alt_names.push(SanType::DnsName(format!("e{place}.example").try_into().unwrap()));
        }
    };
    assert_eq!(world.tls(places), Rule::OtherNames);
    for role in LEAVES {
        let place = |params: &mut CertificateParams| {
            params.subject_alt_names.push(SanType::DnsName("anna.example".try_into().unwrap()));
        };
        assert_eq!(world.person(role, place), Rule::OtherNames, "{role}");
    }
}

#[test]
fn revocation_holds_for_each_role_and_a_list_out_of_date_vouches_for_nobody() {
    let world = World::new();
    let list = |revoked: &[(Serial, UnixTime)], from, until| {
        issue::revocation_list(&world.home_name, &world.home, 2, revoked, UnixTime(from), UnixTime(until)).unwrap()
    };
    let (from, until) = (NOON.0 - HOUR, NOON.0 + HOUR);
    for role in LEAVES {
        let certificate = world.home_issues(&request(identity(role, "anna"), &key()), |_| {});
        let certified = world.judge(&[&certificate]).unwrap();
        let serial = certified.serial().unwrap().clone();
        let revoked = world.authority.revocations(&list(&[(serial.clone(), NOON)], from, until)).unwrap();
        assert_eq!(revoked.number(), 2);
        let rule = refused(world.authority.certify(&[&certificate], &revoked, NOON), Which::Leaf);
        assert_eq!(rule, Rule::Revoked { serial });
        // The same is asked of an open connection.
        assert!(matches!(certified.still_stands(&revoked, NOON).unwrap_err().rule, Rule::Revoked { .. }));
        let late = UnixTime(NOON.0 + 2 * YEAR);
        assert!(matches!(certified.still_stands(&world.none_revoked, late).unwrap_err().rule, Rule::Expired { .. }));
    }
    // Revoking an embassy's authority ends its TLS certificates.
    let (leaf, authority) = (
        world.embassy_issues(&request(identity(Role::Embassy, "luxembourg"), &key()), |_| {}),
        world.embassy_authority(),
    );
    let serial = world.authority.embassy_authority(&authority, &world.none_revoked, NOON).unwrap();
    let serial = serial.certified().serial().unwrap().clone();
    let revoked = world.authority.revocations(&list(&[(serial, NOON)], from, until)).unwrap();
    let rule = refused(world.authority.certify(&[&leaf, &authority], &revoked, NOON), Which::EmbassyAuthority);
    assert!(matches!(rule, Rule::Revoked { .. }));

    let anna = world.home_issues(&request(identity(Role::Official, "anna"), &key()), |_| {});
    let stale = world.authority.revocations(&list(&[], from - HOUR, NOON.0 - 1)).unwrap();
    let rule = refused(world.authority.certify(&[&anna], &stale, NOON), Which::RevocationList);
    assert!(matches!(rule, Rule::Expired { .. }));
    let future = world.authority.revocations(&list(&[], NOON.0 + 1, until)).unwrap();
    assert!(matches!(
        refused(world.authority.certify(&[&anna], &future, NOON), Which::RevocationList),
        Rule::NotYet { .. }
    ));
    let forged = issue::revocation_list(&world.home_name, &key(), 3, &[], UnixTime(from), UnixTime(until)).unwrap();
    assert_eq!(world.authority.revocations(&forged).unwrap_err().rule, Rule::Issuer);
    let mut tampered = list(&[], from, until);
    let end = tampered.len() - 1;
    tampered[end] ^= 1;
    assert_eq!(world.authority.revocations(&tampered).unwrap_err().rule, Rule::Signature);
}

/// The signer as rcgen takes it, for what the project itself never issues.
struct Raw<'a>(&'a MemorySigner, [u8; 65]);

impl<'a> Raw<'a> {
    fn new(signer: &'a MemorySigner) -> Self {
        Self(signer, signer.public().encode_uncompressed())
    }
}

impl PublicKeyData for Raw<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.1
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Raw<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(&Hash::of_bytes(message)).unwrap().to_der().as_bytes().to_vec())
    }
}

/// A key of another curve.
struct OtherCurve;

impl PublicKeyData for OtherCurve {
    fn der_bytes(&self) -> &[u8] {
        &[4; 97]
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P384_SHA384
    }
}

#[test]
fn other_curves_doubled_extensions_and_partial_lists_are_refused() {
    let world = World::new();
    let root = issue::params(
        world.country,
        &request(world.home_name.identity.clone(), &world.home),
        &issue::fresh_serial(&mut OsRng),
    );
    let home = rcgen::Issuer::new(root.unwrap(), Raw::new(&world.home));
    for role in LEAVES {
        let twice = |params: &mut CertificateParams| {
            params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![3, 2, 7, 0x80])];
        };
        assert_eq!(world.person(role, twice), Rule::Repeated { oid: "2.5.29.15".to_owned() }, "{role}");
        let garbage = |params: &mut CertificateParams| {
            params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 32], vec![5, 0])];
        };
        assert!(matches!(world.person(role, garbage), Rule::Extension { .. }), "{role}");
        let params = issue::params(world.country, &request(identity(role, "anna"), &key()), &[0x41; 16]).unwrap();
        let other = params.signed_by(&OtherCurve, &home).unwrap();
        assert_eq!(refused(world.judge(&[other.der()]), Which::Leaf), Rule::Algorithm, "{role}");
    }
    let date = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let partial = CertificateRevocationListParams {
        this_update: date(NOON.0 - HOUR),
        next_update: date(NOON.0 + HOUR),
        crl_number: 7_u64.into(),
        issuing_distribution_point: Some(CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris: vec!["https://home.example/people.crl".to_owned()] },
            scope: Some(CrlScope::UserCertsOnly),
        }),
        revoked_certs: Vec::new(),
        key_identifier_method: home_key_id(&world),
    };
    let partial = partial.signed_by(&home).unwrap();
    assert_eq!(world.authority.revocations(partial.der()).unwrap_err().rule, Rule::ListScope);
}

fn home_key_id(world: &World) -> rcgen::KeyIdMethod {
    let request = request(world.home_name.identity.clone(), &world.home);
    issue::params(world.country, &request, &[0x41; 16]).unwrap().key_identifier_method
}

#[test]
fn a_request_gives_its_key_once_its_own_signature_holds() {
    let anna = key();
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let request = params.serialize_request(&Raw::new(&anna)).unwrap();
    assert_eq!(request_key(request.der()).unwrap(), *anna.public());
    // Somebody asks for a certificate over a key that is not theirs.
    let (boris, point) = (key(), anna.public().encode_uncompressed());
    let stolen = CertificateParams::default().serialize_request(&Raw(&boris, point)).unwrap();
    assert_eq!(request_key(stolen.der()).unwrap_err().rule, Rule::Signature);
    let mut bytes = request.der().to_vec();
    for at in 0..bytes.len() {
        bytes[at] ^= 4;
        assert!(request_key(&bytes).is_err(), "byte {at}");
        bytes[at] ^= 4;
    }
}

#[test]
fn nothing_outlives_home() {
    let world = World::new();
    let anna = world.home_issues(&request(identity(Role::Official, "anna"), &key()), |_| {});
    let short = |params: &mut CertificateParams| {
        params.not_after = time::OffsetDateTime::from_unix_timestamp(NOON.0 - 1).unwrap();
    };
    let root = world.home_issues(&request(world.home_name.identity.clone(), &world.home), short);
    let ended = HomeAuthority::read(&root, world.country, world.home.public()).unwrap();
    let rule = refused(ended.certify(&[&anna], &world.none_revoked, NOON), Which::Home);
    assert!(matches!(rule, Rule::Expired { .. }));
}

#[test]
fn anything_but_one_well_formed_certificate_is_refused_without_a_panic() {
    let world = World::new();
    let right = world.home_issues(&request(identity(Role::Official, "anna"), &key()), |_| {});
    assert!(world.judge(&[&right]).is_ok());
    for end in 0..right.len() {
        assert!(world.judge(&[&right[..end]]).is_err(), "{end} bytes");
    }
    for at in 0..right.len() {
        for bit in [1, 0x80] {
            let mut changed = right.clone();
            changed[at] ^= bit;
            assert!(world.judge(&[&changed]).is_err(), "byte {at}");
        }
    }
    let trailing = [&right[..], &[0]].concat();
    assert_eq!(refused(world.judge(&[&trailing]), Which::Leaf), Rule::Malformed);
    let long = vec![0x30; MAX_CERTIFICATE_BYTES + 1];
    assert!(matches!(refused(world.judge(&[&long]), Which::Leaf), Rule::TooLong { .. }));
    assert!(request_key(&right).is_err(), "a certificate is no request");
}

#[test]
fn a_release_goes_to_whom_home_certified_by_that_name_and_to_no_other_role() {
    let world = World::new();
    let hybrid = HybridSecretKey::random(&mut OsRng).public().clone();
    let named = |name: &str| SubjectName::new(name).unwrap();
    let own = key();
    let certificate = |role, name: &str| world.home_issues(&request(identity(role, name), &own), |_| {});
    let card = |name: &str, certificate: Vec<u8>, signer: &MemorySigner| {
        RecipientCard::sign(named(name), certificate, hybrid.clone(), signer).unwrap()
    };
    let judged = |card: &RecipientCard| card.verify(&world.authority, &world.none_revoked, NOON);

    for role in [Role::Official, Role::Agent, Role::DataOwner] {
        let card = card("ministry", certificate(role, "ministry"), &own);
        let recipient = judged(&card).unwrap();
        assert!(recipient.is_of(&card) && recipient.identity().role == role);
    }
    for role in [Role::Auditor, Role::Witness] {
        let refused = judged(&card("ministry", certificate(role, "ministry"), &own)).unwrap_err();
        let RecipientError::Certificate(CertificateError { rule, .. }) = refused else { panic!("{refused}") };
        assert!(matches!(rule, Rule::Role { found, .. } if found == role), "{rule}");
    }
    let refused = judged(&card("court", certificate(Role::DataOwner, "ministry"), &own)).unwrap_err();
    assert!(matches!(refused, RecipientError::Name { .. }), "{refused}");
    let refused = judged(&card("ministry", certificate(Role::DataOwner, "ministry"), &key())).unwrap_err();
    assert_eq!(refused, RecipientError::Signature);
    // Another home's, the embassy's own, revoked, and out of date.
    let foreign = World::new().home_issues(&request(identity(Role::DataOwner, "ministry"), &own), |_| {});
    let embassy = world.embassy_issues(&request(identity(Role::Embassy, "luxembourg"), &own), |_| {});
    for (name, certificate) in [("ministry", foreign), ("luxembourg", embassy)] {
        let refused = judged(&card(name, certificate, &own)).unwrap_err();
        assert!(matches!(refused, RecipientError::Certificate(_)), "{refused}");
    }
    let good = card("ministry", certificate(Role::DataOwner, "ministry"), &own);
    let late = good.verify(&world.authority, &world.none_revoked, UnixTime(NOON.0 + YEAR)).unwrap_err();
    assert!(matches!(late, RecipientError::Certificate(_)), "{late}");
    let serial = world.authority.issued(good.certificate()).unwrap();
    let (from, until) = (UnixTime(NOON.0 - HOUR), UnixTime(NOON.0 + HOUR));
    let list = issue::revocation_list(&world.home_name, &world.home, 2, &[(serial, from)], from, until).unwrap();
    let list = world.authority.revocations(&list).unwrap();
    let refused = good.verify(&world.authority, &list, NOON).unwrap_err();
    let RecipientError::Certificate(CertificateError { rule, .. }) = refused else { panic!("{refused}") };
    assert!(matches!(rule, Rule::Revoked { .. }), "{rule}");
}
