use std::sync::Arc;

use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    prelude::{FromDer as _, X509Certificate},
};

use crate::{
    clock::Timestamp,
    identity::{IdentityError, PeerIdentity, TrustDomain},
};

/// The certificate at the other end of a connection, read once, asked again on each call.
#[derive(Debug, Clone)]
pub struct PeerCertificate(Arc<Content>);

#[derive(Debug)]
struct Content {
    identity: Result<PeerIdentity, IdentityError>,
    not_after: Timestamp,
}

/// The peer's certificate may not be used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It names nobody.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It expired after the connection was made.
    #[error("the certificate has expired")]
    Expired,
}

impl PeerCertificate {
    /// Reads a certificate that TLS has verified.
    pub(super) fn read(der: &[u8], trust_domain: &TrustDomain) -> Self {
        let content = match X509Certificate::from_der(der) {
            Ok((_, certificate)) => Content {
                identity: one_uri(&certificate).and_then(|uri| PeerIdentity::parse(uri, trust_domain)),
                not_after: Timestamp::from_unix_ms(
                    certificate.validity().not_after.timestamp().saturating_mul(1_000),
                ),
            },
            Err(_) => Content {
                identity: Err(IdentityError::Unreadable),
                not_after: Timestamp::from_unix_ms(0),
            },
        };
        Self(Arc::new(content))
    }

    /// Whom the certificate names, if it is still valid.
    pub fn identity(&self, now: Timestamp) -> Result<PeerIdentity, PeerError> {
        let identity = self.0.identity.clone()?;
        if now > self.0.not_after {
            Err(PeerError::Expired)
        } else {
            Ok(identity)
        }
    }
}

/// The one URI SAN of a certificate.
fn one_uri<'a>(certificate: &'a X509Certificate<'a>) -> Result<&'a str, IdentityError> {
    let mut uris = certificate
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        })
        .flatten()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    match (uris.next(), uris.next()) {
        (None, _) => Err(IdentityError::NoUri),
        (Some(uri), None) => Ok(uri),
        (Some(_), Some(_)) => Err(IdentityError::SeveralUris),
    }
}
