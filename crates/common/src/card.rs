//! The user-authentication certificate of the My Number Card (利用者証明用電子証明書; clause 4.3.2), its issuer's roots and
//! its revocation list.
//!
//! JPKI is one tier: a root signs the cards' certificates and the list. It marks certificatePolicies critical and names
//! its list by a directory name, which verifiers of the web's PKI refuse, so the checks stand here one by one. What is
//! not processed and critical is refused.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    time::Duration,
};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{
    certificate::X509Certificate,
    extensions::ParsedExtension,
    oid_registry::{self, Oid},
    prelude::FromDer as _,
    public_key::PublicKey,
    revocation_list::CertificateRevocationList,
    x509::{SubjectPublicKeyInfo, X509Version},
};

use crate::{
    clock::Timestamp,
    digest,
    files::{self, FileError},
    refusal::Reason,
};

/// Length of a certificate at most, in bytes.
pub const MAX_CERTIFICATE_BYTES: usize = 4_096;

/// `AlgorithmIdentifier` of sha256WithRSAEncryption (RFC 4055 §5), and the header of a BIT STRING of 256 bytes.
const SHA256_WITH_RSA_2048: [u8; 20] = [
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00, 0x03, 0x82,
    0x01, 0x01, 0x00,
];

/// Why a card's certificate does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CardFault {
    /// It is not an accepted user-authentication certificate; the text says which check failed.
    #[error("not accepted: {0}")]
    NotAccepted(&'static str),
    /// It has expired.
    #[error("expired")]
    Expired,
    /// It is revoked.
    #[error("revoked")]
    Revoked,
    /// Whether it is revoked cannot be told: there is no fresh list of its issuer (I4).
    #[error("no fresh revocation list")]
    RevocationUnknown,
}

impl From<CardFault> for Reason {
    fn from(fault: CardFault) -> Self {
        match fault {
            CardFault::NotAccepted(_) => Self::CardNotAccepted,
            CardFault::Expired => Self::CardExpired,
            CardFault::Revoked => Self::CardRevoked,
            CardFault::RevocationUnknown => Self::Unavailable,
        }
    }
}

/// A verified certificate.
#[derive(Clone)]
pub struct Card {
    /// Names the certificate: SHA-256 of its issuer's key and its serial number. It changes with every reissue.
    pub id: [u8; 32],
    /// SHA-256 of its public key (DER SubjectPublicKeyInfo), by which linkages are bound to it.
    pub public_key_sha256: [u8; 32],
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// SHA-256 of the issuer's public key.
    pub issuer: [u8; 32],
    /// Its serial number, as encoded.
    pub serial: Vec<u8>,
    public_key: Vec<u8>,
}

impl Card {
    /// Whether `signature` is the card's, RSASSA-PKCS1-v1_5 with SHA-256, over `text`.
    pub fn has_signed(&self, text: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key)
            .verify(text, signature)
            .is_ok()
    }
}

struct Root {
    key_sha256: [u8; 32],
    public_key: Vec<u8>,
    not_after: Timestamp,
    subject: Vec<u8>,
}

impl Root {
    fn has_signed(&self, signed: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key)
            .verify(signed, signature)
            .is_ok()
    }
}

/// The pinned roots. Generations share one name and differ in their keys: the signature decides.
pub struct CardRoots(Vec<Root>);

impl CardRoots {
    /// Reads every `*.pem` of a directory; each holds one self-signed root.
    pub fn load(directory: &Path) -> Result<Self, FileError> {
        let mut roots = Vec::new();
        for path in files::list(directory, "pem")? {
            let der = CertificateDer::from_pem_slice(&files::read(&path)?)
                .map_err(|_| FileError::content(&path, "must be one PEM certificate"))?;
            roots.push(Self::root(&der).map_err(|rule| FileError::content(&path, rule))?);
        }
        if roots.is_empty() {
            return Err(FileError::content(
                directory,
                "must hold at least one root as *.pem",
            ));
        }
        Ok(Self(roots))
    }

    fn root(der: &[u8]) -> Result<Root, &'static str> {
        let certificate = parse(der).map_err(|_| "must be one X.509 certificate")?;
        let is_ca = extension(&certificate, &oid_registry::OID_X509_EXT_BASIC_CONSTRAINTS)
            .is_some_and(|parsed| matches!(parsed, ParsedExtension::BasicConstraints(basic) if basic.ca));
        if !is_ca {
            return Err("must be a CA certificate");
        }
        let public_key =
            rsa_2048(certificate.public_key()).ok_or("must have an RSA key of 2,048 bits, e = 65537")?;
        let root = Root {
            key_sha256: digest::sha256(&[certificate.public_key().raw]),
            public_key,
            not_after: timestamp(certificate.validity().not_after.timestamp()),
            subject: certificate.subject().as_raw().to_vec(),
        };
        if root.has_signed(
            certificate.tbs_certificate.as_ref(),
            &certificate.signature_value.data,
        ) {
            Ok(root)
        } else {
            Err("must be self-signed with SHA-256")
        }
    }

    /// Verifies a card's certificate in all but its revocation.
    pub fn verify(
        &self,
        der: &[u8],
        accepted_policies: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Card, CardFault> {
        use CardFault::NotAccepted;

        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(NotAccepted("longer than 4,096 bytes"));
        }
        let certificate = parse(der).map_err(|()| NotAccepted("not an X.509 certificate"))?;
        if certificate.version() != X509Version::V3 {
            return Err(NotAccepted("not version 3"));
        }
        // What stands around the signed part must be just this: the parser reads some other spellings as well.
        let signed = certificate.tbs_certificate.as_ref();
        if !der.ends_with(&[signed, &SHA256_WITH_RSA_2048, &certificate.signature_value.data].concat()) {
            return Err(NotAccepted("not signed with SHA-256 and RSA"));
        }
        let issuer = self
            .0
            .iter()
            .filter(|root| root.subject == certificate.issuer().as_raw())
            .find(|root| {
                root.has_signed(
                    certificate.tbs_certificate.as_ref(),
                    &certificate.signature_value.data,
                )
            })
            .ok_or(NotAccepted("not issued by a pinned root"))?;
        check_extensions(&certificate, accepted_policies).map_err(NotAccepted)?;
        let public_key = rsa_2048(certificate.public_key())
            .ok_or(NotAccepted("not an RSA key of 2,048 bits, e = 65537"))?;
        let validity = certificate.validity();
        let not_after = timestamp(validity.not_after.timestamp());
        if now < timestamp(validity.not_before.timestamp()) {
            return Err(NotAccepted("not valid yet"));
        }
        if now > not_after || now > issuer.not_after {
            return Err(CardFault::Expired);
        }
        Ok(Card {
            id: digest::sha256(&[&issuer.key_sha256, certificate.raw_serial()]),
            public_key_sha256: digest::sha256(&[certificate.public_key().raw]),
            not_after,
            issuer: issuer.key_sha256,
            serial: certificate.raw_serial().to_vec(),
            public_key,
        })
    }

    /// Reads a revocation list: it must be signed by one of the roots.
    pub fn revocation_list(&self, der: &[u8]) -> Result<RevocationList, &'static str> {
        let (rest, list) =
            CertificateRevocationList::from_der(der).map_err(|_| "must be a DER revocation list")?;
        if !rest.is_empty() {
            return Err("must be one DER revocation list");
        }
        if list.signature_algorithm.algorithm != oid_registry::OID_PKCS1_SHA256WITHRSA {
            return Err("must be signed with SHA-256 and RSA");
        }
        let issuer = self
            .0
            .iter()
            .filter(|root| root.subject == list.issuer().as_raw())
            .find(|root| root.has_signed(list.tbs_cert_list.as_ref(), &list.signature_value.data))
            .ok_or("must be signed by a pinned root")?;
        // A list of another scope (by reason, by point, or a delta) would not name all that is revoked.
        let known = [
            oid_registry::OID_X509_EXT_CRL_NUMBER,
            oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
        ];
        if list
            .extensions()
            .iter()
            .any(|extension| extension.critical && !known.contains(&extension.oid))
        {
            return Err("must have no critical extension");
        }
        Ok(RevocationList {
            issuer: issuer.key_sha256,
            this_update: timestamp(list.last_update().timestamp()),
            next_update: list.next_update().map(|moment| timestamp(moment.timestamp())),
            serials: list
                .iter_revoked_certificates()
                .map(|revoked| revoked.raw_serial().to_vec())
                .collect(),
        })
    }
}

/// A root's revocation list.
pub struct RevocationList {
    issuer: [u8; 32],
    this_update: Timestamp,
    next_update: Option<Timestamp>,
    serials: HashSet<Vec<u8>>,
}

/// The newest revocation list of each root.
#[derive(Default)]
pub struct RevocationLists(Vec<RevocationList>);

impl RevocationLists {
    /// Reads every `*.crl` (DER) of a directory.
    pub fn load(directory: &Path, roots: &CardRoots) -> Result<Self, FileError> {
        let mut newest: Vec<RevocationList> = Vec::new();
        for path in files::list(directory, "crl")? {
            let list = roots
                .revocation_list(&files::read(&path)?)
                .map_err(|rule| FileError::content(&path, rule))?;
            match newest.iter_mut().find(|known| known.issuer == list.issuer) {
                Some(known) if known.this_update < list.this_update => *known = list,
                Some(_) => {}
                None => newest.push(list),
            }
        }
        Ok(Self(newest))
    }

    /// When each list was issued, and when the next one is due.
    pub fn updates(&self) -> impl Iterator<Item = (Timestamp, Option<Timestamp>)> + '_ {
        self.0.iter().map(|list| (list.this_update, list.next_update))
    }

    /// Checks that a certificate is valid and not revoked now, by a list no older than `max_age`.
    pub fn check(
        &self,
        issuer: &[u8; 32],
        serial: &[u8],
        not_after: Timestamp,
        now: Timestamp,
        max_age: Duration,
    ) -> Result<(), CardFault> {
        if now > not_after {
            return Err(CardFault::Expired);
        }
        let list = self
            .0
            .iter()
            .find(|list| list.issuer == *issuer)
            .ok_or(CardFault::RevocationUnknown)?;
        if now > list.this_update.after(max_age) || list.next_update.is_none_or(|next| now > next) {
            return Err(CardFault::RevocationUnknown);
        }
        if list.serials.contains(serial) {
            Err(CardFault::Revoked)
        } else {
            Ok(())
        }
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, ()> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(()),
    }
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_unix_ms(seconds.saturating_mul(1_000))
}

/// The one extension of this kind.
fn extension<'a>(certificate: &'a X509Certificate<'_>, oid: &Oid<'_>) -> Option<&'a ParsedExtension<'a>> {
    let mut found = certificate
        .extensions()
        .iter()
        .filter(|extension| extension.oid == *oid);
    match (found.next(), found.next()) {
        (Some(one), None) => Some(one.parsed_extension()),
        _ => None,
    }
}

/// The profile of the user-authentication certificate (FACTS: JPKI). The error says which check failed.
fn check_extensions(
    certificate: &X509Certificate<'_>,
    accepted: &BTreeSet<String>,
) -> Result<(), &'static str> {
    let mut seen = HashSet::new();
    let mut key_usage = false;
    let mut policy = false;
    for extension in certificate.extensions() {
        if !seen.insert(extension.oid.to_id_string()) {
            return Err("an extension stands twice");
        }
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(basic) if basic.ca => return Err("a CA certificate"),
            ParsedExtension::BasicConstraints(_) => {}
            // Bit 0 is digitalSignature: exactly that one.
            ParsedExtension::KeyUsage(usage) if usage.flags == 1 => key_usage = true,
            ParsedExtension::KeyUsage(_) => return Err("its key usage is not exactly digitalSignature"),
            ParsedExtension::CertificatePolicies(policies) => {
                policy = policies
                    .iter()
                    .any(|one| accepted.contains(&one.policy_id.to_id_string()));
                if !policy {
                    return Err("its certificate policy is not an accepted one");
                }
            }
            ParsedExtension::ExtendedKeyUsage(usage) if !(usage.client_auth || usage.any) => {
                return Err("its extended key usage is not client authentication");
            }
            ParsedExtension::ParseError { .. } => return Err("an extension cannot be read"),
            ParsedExtension::ExtendedKeyUsage(_)
            | ParsedExtension::AuthorityKeyIdentifier(_)
            | ParsedExtension::SubjectKeyIdentifier(_)
            | ParsedExtension::CRLDistributionPoints(_) => {}
            _ if extension.critical => return Err("a critical extension that is not processed"),
            _ => {}
        }
    }
    if !key_usage {
        return Err("no key usage");
    }
    if !policy {
        return Err("no certificate policy");
    }
    Ok(())
}

/// The PKCS#1 bytes of an RSA key of 2,048 bits with e = 65537; nothing else is in the closed set yet.
fn rsa_2048(key: &SubjectPublicKeyInfo<'_>) -> Option<Vec<u8>> {
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if rsa.key_size() == 2_048 && rsa.try_exponent() == Ok(65_537) => {
            Some(key.subject_public_key.data.to_vec())
        }
        _ => None,
    }
}
