//! Who is at the other end: exactly one URI SAN, `spiffe://<trust domain>/<role>/<name>`, in a certificate of the
//! deployment's own CA (DESIGN §3). None or several is a refusal; the CN is never read.

use std::fmt;

use crate::terms::MunicipalityCode;

/// The deployment's trust domain, such as `koseki.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Takes a name: 1–255 of `a`–`z`, `0`–`9`, `-`, `_` and `.` (SPIFFE-ID §2.1).
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if (1..=255).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdentityError::TrustDomain)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a peer is. The first segment of its SPIFFE path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A portal frontend.
    PortalFrontend,
    /// A portal-gateway instance.
    PortalGateway,
    /// A koseki-provider instance.
    KosekiProvider,
    /// An officer of a municipality.
    Municipality,
    /// An operator of either side.
    Operator,
    /// An auditor of either side.
    Auditor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] = [
        Self::PortalFrontend,
        Self::PortalGateway,
        Self::KosekiProvider,
        Self::Municipality,
        Self::Operator,
        Self::Auditor,
    ];

    /// The path segment.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PortalFrontend => "portal-frontend",
            Self::PortalGateway => "portal-gateway",
            Self::KosekiProvider => "koseki-provider",
            Self::Municipality => "municipality",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
        }
    }
}

/// A peer's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    role: Role,
    name: String,
    municipality: Option<MunicipalityCode>,
}

/// Why a certificate names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It has no URI SAN.
    #[error("the certificate has no URI SAN; it must have exactly one")]
    NoUri,
    /// It has more than one.
    #[error("the certificate has more than one URI SAN; it must have exactly one")]
    SeveralUris,
    /// The URI is not of this deployment's form.
    #[error("the URI SAN is not spiffe://<trust domain>/<role>/<name>")]
    Form,
    /// It is of another trust domain.
    #[error("the URI SAN is of another trust domain")]
    TrustDomain,
}

impl PeerIdentity {
    /// Takes the one URI of a certificate.
    pub fn parse(uri: &str, trust_domain: &TrustDomain) -> Result<Self, IdentityError> {
        let rest = uri.strip_prefix("spiffe://").ok_or(IdentityError::Form)?;
        let (domain, path) = rest.split_once('/').ok_or(IdentityError::Form)?;
        if domain != trust_domain.as_str() {
            return Err(IdentityError::TrustDomain);
        }
        let (role, name) = path.split_once('/').ok_or(IdentityError::Form)?;
        let role = Role::ALL
            .into_iter()
            .find(|known| known.as_str() == role)
            .ok_or(IdentityError::Form)?;
        let segments: Vec<&str> = name.split('/').collect();
        if name.len() > 128 || !segments.iter().all(|segment| is_segment(segment)) {
            return Err(IdentityError::Form);
        }
        let municipality = match (role, segments.as_slice()) {
            (Role::Municipality, [code, _officer]) => {
                Some(MunicipalityCode::parse(code).map_err(|_| IdentityError::Form)?)
            }
            (Role::Municipality, _) => return Err(IdentityError::Form),
            (_, [_]) => None,
            (_, _) => return Err(IdentityError::Form),
        };
        Ok(Self {
            role,
            name: name.to_owned(),
            municipality,
        })
    }

    /// A service's own identity.
    pub fn service(trust_domain: &TrustDomain, role: Role, instance: &str) -> Result<Self, IdentityError> {
        let uri = format!("spiffe://{}/{}/{instance}", trust_domain.as_str(), role.as_str());
        Self::parse(&uri, trust_domain)
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The name within the role; `<code>/<officer>` for a municipality.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The municipality's code, for a municipality's officer.
    pub fn municipality(&self) -> Option<MunicipalityCode> {
        self.municipality
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role.as_str(), self.name)
    }
}

/// SPIFFE-ID §2.2: letters, digits, `.`, `-`, `_`; never `.` or `..` alone.
pub(crate) fn is_segment(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_passes() {
        let domain = TrustDomain::parse("koseki.example").unwrap();
        let peer = PeerIdentity::parse("spiffe://koseki.example/operator/hanako", &domain).unwrap();
        assert_eq!((peer.role(), peer.name()), (Role::Operator, "hanako"));
        let officer =
            PeerIdentity::parse("spiffe://koseki.example/municipality/131016/desk-1", &domain).unwrap();
        assert_eq!(officer.municipality(), MunicipalityCode::parse("131016").ok());
        for (uri, error) in [
            ("https://koseki.example/operator/hanako", IdentityError::Form),
            (
                "spiffe://other.example/operator/hanako",
                IdentityError::TrustDomain,
            ),
            ("spiffe://koseki.example/operator", IdentityError::Form),
            ("spiffe://koseki.example/operator/", IdentityError::Form),
            ("spiffe://koseki.example/operator/a/b", IdentityError::Form),
            ("spiffe://koseki.example/Operator/a", IdentityError::Form),
            ("spiffe://koseki.example/operator/a%2fb", IdentityError::Form),
            ("spiffe://koseki.example/operator/..", IdentityError::Form),
            ("spiffe://koseki.example/municipality/131016", IdentityError::Form),
            (
                "spiffe://koseki.example/municipality/131017/desk-1",
                IdentityError::Form,
            ),
            ("SPIFFE://koseki.example/operator/a", IdentityError::Form),
        ] {
            assert_eq!(PeerIdentity::parse(uri, &domain), Err(error), "{uri}");
        }
    }
}
