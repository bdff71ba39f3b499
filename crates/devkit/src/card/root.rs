//! The self-signed root that issues card certificates.

use std::path::Path;
use std::{fmt, fs};

use rcgen::string::PrintableString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use time::OffsetDateTime;
use time::macros::datetime;
use x509_parser::pem::parse_x509_pem;

use super::extensions::{certificate_policies, crl_distribution_point};
use super::revocation_list::{self, ListProfile};
use super::{CardError, CardKeyType, CardProfile, VirtualCard};
use crate::{files, pki};

/// Organisation of the test hierarchy; the real one says `JPKI`.
pub(super) const ORGANIZATION: &str = "JPKI-TEST";
/// First organisational unit.
pub(super) const UNIT: &str = "JPKI for user authentication";
/// Second organisational unit.
const AGENCY: &str = "Japan Agency for Local Authority Information Systems";

/// Names of the root's files.
const CERTIFICATE_FILE: &str = "card-root.pem";
const KEY_FILE: &str = "card-root-key.pem";

/// The root is valid at any time that a test's clock may show.
const NOT_BEFORE: OffsetDateTime = datetime!(2015-09-27 15:00 UTC);
const NOT_AFTER: OffsetDateTime = datetime!(2049-12-31 14:59:59 UTC);

/// A root of the test hierarchy: one tier, self-signed. Every root has the same name and another key, as the generations of
/// the real one.
pub struct CardRoot {
    key_type: CardKeyType,
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    certificate_der: Vec<u8>,
}

impl CardRoot {
    /// A new root with a new key: RSA 2048, as today's.
    ///
    /// # Errors
    /// When the key or the certificate cannot be made.
    pub fn new() -> Result<Self, CardError> {
        Self::with_key(CardKeyType::Rsa2048)
    }

    /// A new root with a new key of this kind.
    ///
    /// # Errors
    /// When the key or the certificate cannot be made.
    pub fn with_key(key_type: CardKeyType) -> Result<Self, CardError> {
        let key = key_type.new_key()?;
        let mut params = root_params()?;
        params.serial_number = Some(SerialNumber::from_slice(&pki::random_serial()?));
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            key_type,
            certificate_pem: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Reads what [`CardRoot::write_to`] wrote.
    ///
    /// # Errors
    /// When a file cannot be read, or is not what it should be.
    pub fn read_from(directory: &Path) -> Result<Self, CardError> {
        let certificate_pem = fs::read_to_string(directory.join(CERTIFICATE_FILE))?;
        let (_, pem) = parse_x509_pem(certificate_pem.as_bytes()).map_err(|_| CardError::NotACertificate)?;
        let key = KeyPair::from_pem(&fs::read_to_string(directory.join(KEY_FILE))?)?;
        Ok(Self {
            key_type: CardKeyType::of(&key),
            certificate_pem,
            certificate_der: pem.contents,
            issuer: Issuer::new(root_params()?, key),
        })
    }

    /// The root's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The root's certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate_der
    }

    /// A card with a new key.
    ///
    /// # Errors
    /// When the subject's number is not printable ASCII, or the key or certificate cannot be made.
    pub fn issue(&self, profile: &CardProfile) -> Result<VirtualCard, CardError> {
        self.issue_for(profile, profile.key_type.new_key()?)
    }

    /// A card with this key, whatever kind of key the profile names.
    pub(crate) fn issue_for(&self, profile: &CardProfile, key: KeyPair) -> Result<VirtualCard, CardError> {
        let serial = pki::random_serial()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = card_name(&profile.subject_number)?;
        params.not_before = profile.not_before;
        params.not_after = profile.not_after;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = if profile.is_ca {
            IsCa::Ca(BasicConstraints::Unconstrained)
        } else {
            IsCa::NoCa
        };
        params.use_authority_key_identifier_extension = true;
        params.key_usages.clone_from(&profile.key_usages);
        params
            .custom_extensions
            .extend(profile.policy_oid.as_deref().map(certificate_policies));
        params.custom_extensions.push(crl_distribution_point());
        params.custom_extensions.extend(profile.more.iter().cloned());
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(VirtualCard::new(
            certificate.der().to_vec(),
            certificate.pem(),
            serial,
            key,
        ))
    }

    /// A full revocation list in DER, numbered `number`, naming the serials of [`VirtualCard`].
    ///
    /// # Errors
    /// When the list cannot be signed.
    pub fn crl(
        &self,
        revoked: &[Vec<u8>],
        number: u64,
        this_update: OffsetDateTime,
        next_update: OffsetDateTime,
    ) -> Result<Vec<u8>, CardError> {
        self.list(&ListProfile::new(
            revoked.to_vec(),
            number,
            this_update,
            next_update,
        ))
    }

    /// A revocation list in DER, as it is described: right or wrong.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn list(&self, profile: &ListProfile) -> Result<Vec<u8>, CardError> {
        revocation_list::sign(profile, &self.certificate_der, self.issuer.key(), self.key_type)
    }

    /// Writes `card-root.pem` and, mode 0600, `card-root-key.pem`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_to(&self, directory: &Path) -> Result<(), CardError> {
        files::write_public(&directory.join(CERTIFICATE_FILE), self.certificate_pem.as_bytes())?;
        let key_pem = self.issuer.key().serialize_pem();
        files::write_secret(&directory.join(KEY_FILE), key_pem.as_bytes())?;
        Ok(())
    }
}

impl fmt::Debug for CardRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardRoot")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

fn root_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = root_name()?;
    params.not_before = NOT_BEFORE;
    params.not_after = NOT_AFTER;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn root_name() -> Result<DistinguishedName, rcgen::Error> {
    let mut name = in_japan()?;
    name.push(DnType::OrganizationName, ORGANIZATION);
    name.push(DnType::OrganizationalUnitName, UNIT);
    // rcgen keeps one value per type: the second unit goes in as the same type by its number.
    name.push(DnType::CustomDnType(vec![2, 5, 4, 11]), AGENCY);
    Ok(name)
}

fn card_name(number: &str) -> Result<DistinguishedName, rcgen::Error> {
    let mut name = in_japan()?;
    name.push(
        DnType::CommonName,
        DnValue::PrintableString(PrintableString::try_from(number)?),
    );
    Ok(name)
}

fn in_japan() -> Result<DistinguishedName, rcgen::Error> {
    let mut name = DistinguishedName::new();
    name.push(
        DnType::CountryName,
        DnValue::PrintableString(PrintableString::try_from("JP")?),
    );
    Ok(name)
}

#[cfg(test)]
mod tests {
    use time::Duration;
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;
    use crate::card::SIGNING_POLICY_OID;
    use crate::{tool, wall_clock};

    #[test]
    fn openssl_reads_the_card_as_the_real_profile_has_it() {
        let root = CardRoot::new().unwrap();
        let card = root
            .issue(&CardProfile::user_authentication("0000000000000001"))
            .unwrap();
        let shown = tool::run(
            "openssl",
            &["x509", "-noout", "-text"],
            card.certificate_pem.as_bytes(),
        );
        assert!(shown.success, "{}", shown.text);
        let text = shown.text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "Issuer: C = JP, O = JPKI-TEST, OU = JPKI for user authentication, \
             OU = Japan Agency for Local Authority Information Systems",
            "Subject: C = JP, CN = 0000000000000001",
            "14:59:59",
            "Public-Key: (2048 bit)",
            "Signature Algorithm: sha256WithRSAEncryption",
            "X509v3 Key Usage: critical Digital Signature X509v3",
            "X509v3 Certificate Policies: critical Policy: 1.2.392.200149.8.5.1.3.30",
            "X509v3 CRL Distribution Points: Full Name: DirName:C = JP, O = JPKI-TEST, \
             OU = JPKI for user authentication, OU = CRL Distribution Points, CN = Sandbox CRLDP",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("CA:TRUE"));
    }

    #[test]
    fn openssl_verifies_the_chain_the_signature_and_the_revocation() {
        let (root, other) = (CardRoot::new().unwrap(), CardRoot::new().unwrap());
        let card = root
            .issue(&CardProfile::user_authentication("0000000000000001"))
            .unwrap();
        let kept = root
            .issue(&CardProfile::user_authentication("0000000000000002"))
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        root.write_to(dir.path()).unwrap();
        card.write_to(dir.path(), "card").unwrap();
        kept.write_to(dir.path(), "kept").unwrap();
        std::fs::write(path("other.pem"), other.certificate_pem()).unwrap();
        let now = wall_clock::now();
        let list = root
            .crl(
                std::slice::from_ref(&card.serial),
                42,
                now,
                now + Duration::days(1),
            )
            .unwrap();
        std::fs::write(path("crl.der"), list).unwrap();

        let verify = |root: &str, leaf: &str, more: &[&str]| {
            let (root, leaf) = (path(root), path(leaf));
            tool::run(
                "openssl",
                &[&["verify", "-CAfile", &root], more, &[&leaf]].concat(),
                b"",
            )
        };
        let good = verify("card-root.pem", "card.pem", &[]);
        assert!(good.success, "{}", good.text);
        // Same name, other key: only the signature tells the generations apart.
        assert!(!verify("other.pem", "card.pem", &[]).success);
        let list = path("crl.der");
        let with_list = ["-crl_check", "-CRLfile", list.as_str()];
        let revoked = verify("card-root.pem", "card.pem", &with_list);
        assert!(
            !revoked.success && revoked.text.contains("certificate revoked"),
            "{}",
            revoked.text
        );
        let not_revoked = verify("card-root.pem", "kept.pem", &with_list);
        assert!(not_revoked.success, "{}", not_revoked.text);
        let shown = tool::run(
            "openssl",
            &["crl", "-inform", "DER", "-noout", "-crlnumber", "-in", &list],
            b"",
        );
        assert!(shown.text.contains("0x2A"), "{}", shown.text);

        let text = "koseki-login-v1\n署名する文\n".as_bytes();
        std::fs::write(path("signature"), card.sign(text).unwrap()).unwrap();
        let public = tool::run(
            "openssl",
            &["x509", "-noout", "-pubkey"],
            card.certificate_pem.as_bytes(),
        );
        std::fs::write(path("public.pem"), public.text).unwrap();
        let checked = tool::run(
            "openssl",
            &[
                "dgst",
                "-sha256",
                "-verify",
                &path("public.pem"),
                "-signature",
                &path("signature"),
            ],
            text,
        );
        assert!(checked.success, "{}", checked.text);
    }

    #[test]
    fn certificates_that_must_be_refused_can_be_made() {
        let root = CardRoot::new().unwrap();
        let mut profile = CardProfile::user_authentication("0000000000000003").expired();
        profile.key_type = CardKeyType::EcdsaP384;
        profile.policy_oid = Some(SIGNING_POLICY_OID.to_vec());
        profile.key_usages.push(KeyUsagePurpose::ContentCommitment);
        profile.is_ca = true;
        let card = root.issue(&profile).unwrap();
        let (_, certificate) = X509Certificate::from_der(&card.certificate_der).unwrap();
        assert!(certificate.is_ca());
        assert!(!certificate.validity().is_valid());
        assert!(certificate.key_usage().unwrap().unwrap().value.non_repudiation());
        let shown = tool::run(
            "openssl",
            &["x509", "-noout", "-text"],
            card.certificate_pem.as_bytes(),
        );
        assert!(shown.text.contains("1.2.392.200149.8.5.1.1.20") && shown.text.contains("(384 bit)"));
    }

    #[test]
    fn debug_shows_no_key() {
        let root = CardRoot::new().unwrap();
        assert!(!format!("{root:?}").contains("PRIVATE KEY"));
    }
}
