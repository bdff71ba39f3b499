//! The verifier of cards' certificates. JPKI is one tier, marks certificatePolicies critical and names its list by a
//! directory name, so the checks stand here one by one (docs/decisions/card-certificates.md). What is critical and not
//! processed is refused.

use std::collections::{BTreeSet, HashSet};

use x509_parser::{
    certificate::X509Certificate, extensions::ParsedExtension, prelude::FromDer as _, x509::X509Version,
};

use super::{
    Card, CardFault,
    der::{self, CONTEXT_0, INTEGER, Reader, SEQUENCE},
    keys::PublicKey,
    revocation::SERIAL_BYTES,
    roots::CardRoots,
    signed::Signed,
    timestamp,
};
use crate::clock::Timestamp;

/// Length of a certificate at most, in bytes.
pub const MAX_CERTIFICATE_BYTES: usize = 4_096;

impl CardRoots {
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
        let not_one = NotAccepted("not an X.509 certificate");
        let Ok(([], certificate)) = X509Certificate::from_der(der) else {
            return Err(not_one);
        };
        // What stands around the signed part must be just this: the parser reads some other spellings as well.
        let signed = Signed::read(der).ok_or(not_one)?;
        if certificate.version() != X509Version::V3 {
            return Err(NotAccepted("not version 3"));
        }
        if signed.kind().is_none() {
            return Err(NotAccepted("not signed with an accepted algorithm"));
        }
        if inner_algorithm(&signed) != Some(signed.algorithm) {
            return Err(NotAccepted("its two signature algorithms differ"));
        }
        let issuer = self
            .signer(certificate.issuer().as_raw(), &signed)
            .ok_or(NotAccepted("not issued by a pinned root"))?;
        check_extensions(&certificate, accepted_policies).map_err(NotAccepted)?;
        let serial = der::unsigned(certificate.raw_serial())
            .and_then(der::padded::<SERIAL_BYTES>)
            .filter(|serial| serial.iter().any(|byte| *byte != 0))
            .ok_or(NotAccepted(
                "its serial number is not positive and of at most 20 bytes",
            ))?;
        let key = PublicKey::parse(certificate.public_key().raw).ok_or(NotAccepted("not an accepted key"))?;
        let validity = certificate.validity();
        if now < timestamp(validity.not_before) {
            return Err(NotAccepted("not valid yet"));
        }
        if now < issuer.not_before {
            return Err(NotAccepted("its root is not valid yet"));
        }
        let not_after = timestamp(validity.not_after).min(issuer.not_after);
        if now > not_after {
            return Err(CardFault::Expired);
        }
        Ok(Card {
            public_key_sha256: key.sha256,
            key_kind: key.kind,
            not_after,
            issuer: issuer.key.sha256,
            serial: serial.to_vec(),
            key,
        })
    }
}

/// `AlgorithmIdentifier` in the signed part of a certificate, which must be the one outside of it (RFC 5280 §4.1.1.2).
pub(super) fn inner_algorithm<'a>(signed: &Signed<'a>) -> Option<&'a [u8]> {
    let mut fields = Reader::new(signed.content);
    fields.content(CONTEXT_0)?;
    fields.content(INTEGER)?;
    Some(fields.optional(SEQUENCE)?.whole)
}

/// The profile of the user-authentication certificate. The error says which check failed.
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
            ParsedExtension::KeyUsage(usage) if usage.flags == 1 => {
                if !extension.critical {
                    return Err("its key usage is not critical");
                }
                key_usage = true;
            }
            ParsedExtension::KeyUsage(_) => return Err("its key usage is not exactly digitalSignature"),
            ParsedExtension::CertificatePolicies(policies) => {
                // Every one: a certificate that is for something else as well is not this one.
                policy = !policies.is_empty()
                    && policies
                        .iter()
                        .all(|one| accepted.contains(&one.policy_id.to_id_string()));
                if !policy {
                    return Err("its certificate policy is not an accepted one");
                }
                if !extension.critical {
                    return Err("its certificate policies are not critical");
                }
            }
            ParsedExtension::ExtendedKeyUsage(usage) if !(usage.client_auth || usage.any) => {
                return Err("its extended key usage is not client authentication");
            }
            // The root's own list names all that it has revoked, wherever the certificate says that it is found; one that
            // another authority signs would not be that list.
            ParsedExtension::CRLDistributionPoints(points)
                if points.iter().any(|point| point.crl_issuer.is_some()) =>
            {
                return Err("its revocation list is another authority's");
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
