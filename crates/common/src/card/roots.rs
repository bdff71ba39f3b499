//! The pinned roots. Generations share one name and differ in their keys: the signature decides.

use std::path::Path;

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{
    certificate::X509Certificate, extensions::ParsedExtension, prelude::FromDer as _, x509::X509Version,
};

use super::{keys::PublicKey, signed::Signed};
use crate::{
    clock::Timestamp,
    files::{self, FileError},
};

/// Roots at most.
const MAX_ROOTS: usize = 16;

pub(super) struct Root {
    pub(super) key: PublicKey,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    name: Vec<u8>,
}

impl Root {
    pub(super) fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// The pinned roots.
pub struct CardRoots(Vec<Root>);

impl CardRoots {
    /// Reads every `*.pem` of a directory; each holds one self-signed root.
    pub fn load(directory: &Path) -> Result<Self, FileError> {
        let mut roots: Vec<Root> = Vec::new();
        for path in files::list(directory, "pem")? {
            let der = CertificateDer::from_pem_slice(&files::read(&path)?)
                .map_err(|_| FileError::content(&path, "must be one PEM certificate"))?;
            let root = read(&der).map_err(|rule| FileError::content(&path, rule))?;
            if roots.iter().any(|known| known.key.sha256 == root.key.sha256) {
                return Err(FileError::content(
                    &path,
                    "must not hold the key of another file's root",
                ));
            }
            roots.push(root);
        }
        match roots.len() {
            1..=MAX_ROOTS => Ok(Self(roots)),
            _ => Err(FileError::content(
                directory,
                format!("must hold one to {MAX_ROOTS} roots as *.pem"),
            )),
        }
    }

    /// The root of this name that has signed it.
    pub(super) fn signer(&self, name: &[u8], signed: &Signed<'_>) -> Option<&Root> {
        self.0
            .iter()
            .filter(|root| root.name == name)
            .find(|root| signed.is_by(&root.key))
    }

    /// The roots, by the SHA-256 of their keys, and whether each is valid at a moment.
    pub fn each(&self, now: Timestamp) -> impl Iterator<Item = ([u8; 32], bool)> + '_ {
        self.0
            .iter()
            .map(move |root| (root.key.sha256, root.is_valid(now)))
    }

    /// The roots that are valid at a moment.
    pub fn valid(&self, now: Timestamp) -> impl Iterator<Item = [u8; 32]> + '_ {
        self.each(now).filter(|(_, valid)| *valid).map(|(root, _)| root)
    }
}

/// Reads a root. It may have expired, or not be valid yet: that is looked at when it is needed, so that it does not keep
/// a service from starting.
fn read(der: &[u8]) -> Result<Root, &'static str> {
    let ([], certificate) = X509Certificate::from_der(der).map_err(|_| "must be one X.509 certificate")?
    else {
        return Err("must be one X.509 certificate");
    };
    if certificate.version() != X509Version::V3 {
        return Err("must be of version 3");
    }
    check_extensions(&certificate)?;
    if certificate.subject().as_raw() != certificate.issuer().as_raw() {
        return Err("must name itself as its issuer");
    }
    let key = PublicKey::parse(certificate.public_key().raw)
        .ok_or("must have an RSA key of 2,048 bits with e = 65537, or one on P-256 or P-384")?;
    let signed = Signed::read(der).ok_or("must be DER")?;
    if super::certificate::inner_algorithm(&signed) != Some(signed.algorithm) || !signed.is_by(&key) {
        return Err("must be self-signed, with SHA-256 (RSA PKCS#1 v1.5, P-256) or SHA-384 (P-384)");
    }
    let validity = certificate.validity();
    Ok(Root {
        key,
        not_before: super::timestamp(validity.not_before),
        not_after: super::timestamp(validity.not_after),
        name: certificate.subject().as_raw().to_vec(),
    })
}

fn check_extensions(certificate: &X509Certificate<'_>) -> Result<(), &'static str> {
    let mut seen = Vec::new();
    let mut is_ca = false;
    for extension in certificate.extensions() {
        if seen.contains(&&extension.oid) {
            return Err("must not have an extension twice");
        }
        seen.push(&extension.oid);
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(basic) => is_ca = basic.ca,
            ParsedExtension::KeyUsage(usage) if !(usage.key_cert_sign() && usage.crl_sign()) => {
                return Err("must be for signing certificates and revocation lists");
            }
            ParsedExtension::KeyUsage(_)
            | ParsedExtension::CertificatePolicies(_)
            | ParsedExtension::AuthorityKeyIdentifier(_)
            | ParsedExtension::SubjectKeyIdentifier(_) => {}
            _ if extension.critical => {
                return Err("must have no critical extension that is not processed");
            }
            _ => {}
        }
    }
    match is_ca {
        true => Ok(()),
        false => Err("must be a CA certificate"),
    }
}
