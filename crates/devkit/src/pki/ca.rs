//! The certificate authority and what it issues.

use std::path::Path;
use std::{fmt, fs};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use time::OffsetDateTime;
use time::macros::datetime;
use x509_parser::pem::parse_x509_pem;

use super::{PkiError, Subject};
use crate::{crl, files};

/// The authority itself is valid at any time that a test's clock may show.
const CA_NOT_BEFORE: OffsetDateTime = datetime!(2020-01-01 00:00 UTC);
/// The last second that UTCTime can hold (RFC 5280, 4.1.2.5).
const CA_NOT_AFTER: OffsetDateTime = datetime!(2049-12-31 23:59:59 UTC);
/// The same for every certificate: nobody may read anything from it.
const LEAF_COMMON_NAME: &str = "devkit";
/// Bytes of a serial number (at most 20; RFC 5280, 4.1.2.2).
const SERIAL_BYTES: usize = 16;

/// A certificate authority with one self-signed certificate.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    certificate_der: Vec<u8>,
}

/// A certificate and its private key.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The certificate, DER.
    pub certificate_der: Vec<u8>,
    /// The private key, PKCS #8 in PEM.
    pub key_pem: String,
    /// Serial number, big-endian without leading zero, as revocation lists take it.
    pub serial: Vec<u8>,
}

impl Ca {
    /// A new authority with a new key. The name is for people: two authorities may share it.
    ///
    /// # Errors
    /// When a key or the certificate cannot be made.
    pub fn new(common_name: &str) -> Result<Self, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = authority(common_name);
        params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        })
    }

    /// One that [`Ca::write_to`] has written.
    ///
    /// # Errors
    /// When its files cannot be read or are not those of an authority.
    pub fn read_from(directory: &Path, name: &str) -> Result<Self, PkiError> {
        let certificate_pem = fs::read_to_string(directory.join(format!("{name}.pem")))?;
        let key = fs::read_to_string(directory.join(format!("{name}-key.pem")))?;
        let (_, pem) =
            parse_x509_pem(certificate_pem.as_bytes()).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let certificate = pem
            .parse_x509()
            .map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let common_name = certificate.subject().iter_common_name().next();
        let common_name = common_name.and_then(|name| name.as_str().ok());
        let params = authority(common_name.ok_or(rcgen::Error::CouldNotParseCertificate)?);
        Ok(Self {
            certificate_der: pem.contents.clone(),
            certificate_pem,
            issuer: Issuer::new(params, KeyPair::from_pem(&key)?),
        })
    }

    /// The authority's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate_der
    }

    /// A certificate with a new key, for TLS servers and clients alike.
    ///
    /// # Errors
    /// When a name is not ASCII, or the key or certificate cannot be made.
    pub fn issue(&self, subject: &Subject) -> Result<Issued, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let serial = random_serial()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(LEAF_COMMON_NAME);
        params.not_before = subject.not_before;
        params.not_after = subject.not_after;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.subject_alt_names = alternative_names(subject)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            key_pem: key.serialize_pem(),
            serial,
        })
    }

    /// A revocation list in DER, numbered `number`, naming the serials of [`Issued`].
    ///
    /// # Errors
    /// When `next_update` is not after `this_update`, or the list cannot be signed.
    pub fn crl(
        &self,
        revoked: &[Vec<u8>],
        number: u64,
        this_update: OffsetDateTime,
        next_update: OffsetDateTime,
    ) -> Result<Vec<u8>, PkiError> {
        Ok(crl::sign(
            &self.issuer,
            revoked,
            number,
            this_update,
            next_update,
        )?)
    }

    /// Writes `<name>.pem` and, mode 0600, `<name>-key.pem`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_to(&self, directory: &Path, name: &str) -> Result<(), PkiError> {
        write_pair(
            directory,
            name,
            &self.certificate_pem,
            &self.issuer.key().serialize_pem(),
        )
    }
}

impl Issued {
    /// Writes `<name>.pem` and, mode 0600, `<name>-key.pem`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_to(&self, directory: &Path, name: &str) -> Result<(), PkiError> {
        write_pair(directory, name, &self.certificate_pem, &self.key_pem)
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

fn authority(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(common_name);
    params.not_before = CA_NOT_BEFORE;
    params.not_after = CA_NOT_AFTER;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn alternative_names(subject: &Subject) -> Result<Vec<SanType>, rcgen::Error> {
    let mut names = Vec::new();
    for uri in &subject.uris {
        names.push(SanType::URI(uri.as_str().try_into()?));
    }
    for dns in &subject.dns {
        names.push(SanType::DnsName(dns.as_str().try_into()?));
    }
    names.extend(subject.ips.iter().map(|ip| SanType::IpAddress(*ip)));
    Ok(names)
}

/// Random, positive, and without a leading zero, so that its bytes are the same in a certificate and in a list.
pub(crate) fn random_serial() -> Result<Vec<u8>, rcgen::Error> {
    let mut serial = [0u8; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
    let [first, ..] = &mut serial;
    *first = (*first & 0x7f) | 0x40;
    Ok(serial.to_vec())
}

fn write_pair(directory: &Path, name: &str, certificate_pem: &str, key_pem: &str) -> Result<(), PkiError> {
    files::write_public(&directory.join(format!("{name}.pem")), certificate_pem.as_bytes())?;
    files::write_secret(&directory.join(format!("{name}-key.pem")), key_pem.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use time::Duration;
    use x509_parser::extensions::GeneralName;
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;
    use crate::{tool, wall_clock};

    fn uris(certificate_der: &[u8]) -> Vec<String> {
        let (_, certificate) = X509Certificate::from_der(certificate_der).unwrap();
        let Some(names) = certificate.subject_alternative_name().unwrap() else {
            return Vec::new();
        };
        let uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
        uris.collect()
    }

    #[test]
    fn an_identity_is_one_uri_for_servers_and_clients() {
        let ca = Ca::new("test").unwrap();
        let subject = Subject::identity("koseki.test", "operator/alice")
            .and_dns("localhost")
            .and_ip(Ipv4Addr::LOCALHOST.into());
        let issued = ca.issue(&subject).unwrap();
        assert_eq!(
            uris(&issued.certificate_der),
            ["spiffe://koseki.test/operator/alice"]
        );
        let (_, certificate) = X509Certificate::from_der(&issued.certificate_der).unwrap();
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && usage.client_auth);
        assert_eq!(certificate.raw_serial(), issued.serial);
        assert!(certificate.validity().is_valid());
        let (_, authority) = X509Certificate::from_der(ca.certificate_der()).unwrap();
        assert!(authority.is_ca());
        assert_eq!(certificate.issuer(), authority.subject());
    }

    #[test]
    fn certificates_that_must_be_refused_can_be_made() {
        let ca = Ca::new("test").unwrap();
        let two =
            Subject::identity("koseki.test", "operator/alice").and_uri("spiffe://koseki.test/operator/bob");
        assert_eq!(uris(&ca.issue(&two).unwrap().certificate_der).len(), 2);
        assert!(uris(&ca.issue(&Subject::nameless()).unwrap().certificate_der).is_empty());

        let now = wall_clock::now();
        let past = Subject::identity("koseki.test", "operator/alice")
            .valid(now - Duration::days(2), now - Duration::days(1));
        let expired = ca.issue(&past).unwrap();
        let (_, certificate) = X509Certificate::from_der(&expired.certificate_der).unwrap();
        assert!(!certificate.validity().is_valid());
    }

    #[test]
    fn openssl_verifies_and_sees_a_revocation() {
        let ca = Ca::new("test").unwrap();
        let other = Ca::new("test").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        ca.write_to(dir.path(), "ca").unwrap();
        other.write_to(dir.path(), "other").unwrap();
        let issued = ca
            .issue(&Subject::identity("koseki.test", "operator/alice"))
            .unwrap();
        issued.write_to(dir.path(), "alice").unwrap();
        let now = wall_clock::now();
        let list = ca
            .crl(
                std::slice::from_ref(&issued.serial),
                7,
                now,
                now + Duration::hours(1),
            )
            .unwrap();
        std::fs::write(path("crl.der"), list).unwrap();

        let verify = |ca: &str, more: &[&str]| {
            let (ca, leaf) = (path(ca), path("alice.pem"));
            let arguments = [&["verify", "-x509_strict", "-CAfile", &ca], more, &[&leaf]].concat();
            tool::run("openssl", &arguments, b"")
        };
        let good = verify("ca.pem", &[]);
        assert!(good.success, "{}", good.text);
        assert!(!verify("other.pem", &[]).success);
        let list = path("crl.der");
        let revoked = verify("ca.pem", &["-crl_check", "-CRLfile", &list]);
        assert!(
            !revoked.success && revoked.text.contains("certificate revoked"),
            "{}",
            revoked.text
        );
        let key = tool::run("openssl", &["pkey", "-noout", "-in", &path("alice-key.pem")], b"");
        assert!(key.success, "{}", key.text);
    }

    #[test]
    fn an_authority_that_was_written_goes_on_issuing() {
        let dir = tempfile::tempdir().unwrap();
        let made = Ca::new("test").unwrap();
        made.write_to(dir.path(), "ca").unwrap();
        let read = Ca::read_from(dir.path(), "ca").unwrap();
        assert_eq!(read.certificate_der(), made.certificate_der());
        let issued = read
            .issue(&Subject::identity("koseki.test", "operator/alice"))
            .unwrap();
        issued.write_to(dir.path(), "alice").unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let arguments = [
            "verify",
            "-x509_strict",
            "-CAfile",
            &path("ca.pem"),
            &path("alice.pem"),
        ];
        let verified = tool::run("openssl", &arguments, b"");
        assert!(verified.success, "{}", verified.text);
    }

    #[test]
    fn debug_shows_no_key() {
        let ca = Ca::new("test").unwrap();
        let issued = ca.issue(&Subject::nameless()).unwrap();
        assert!(!format!("{ca:?}{issued:?}").contains("PRIVATE KEY"));
    }
}
