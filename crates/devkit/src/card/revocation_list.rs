//! Revocation lists of card roots (RFC 5280, 5), right ones and wrong ones. rcgen has no words for most of the wrong ones,
//! and builds too much for a list of a million entries.

use rcgen::{KeyPair, SigningKey as _};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::der::{
    BIT_STRING, CONTEXT_0, GENERALIZED_TIME, INTEGER, NULL, OCTET_STRING, SEQUENCE, TRUE, UTC_TIME, element,
    object_identifier,
};
use super::{CardError, CardKeyType};

const CRL_NUMBER: &[u64] = &[2, 5, 29, 20];

/// What a list says. Nothing is checked: tests need lists that must be refused.
#[derive(Clone, Debug)]
pub struct ListProfile {
    /// Serial numbers of the revoked certificates, big-endian.
    pub revoked: Vec<Vec<u8>>,
    /// Extensions of every entry.
    pub of_entries: Vec<ListExtension>,
    /// The number, big-endian; none leaves the extension out.
    pub number: Option<Vec<u8>>,
    /// Further extensions of the list.
    pub more: Vec<ListExtension>,
    /// When it was issued.
    pub this_update: OffsetDateTime,
    /// When the next one is due; none leaves it out.
    pub next_update: Option<OffsetDateTime>,
    /// Whether the signed part names another signature algorithm than the one outside.
    pub other_algorithm_inside: bool,
}

impl ListProfile {
    /// A full list.
    pub fn new(
        revoked: Vec<Vec<u8>>,
        number: u64,
        this_update: OffsetDateTime,
        next_update: OffsetDateTime,
    ) -> Self {
        Self {
            revoked,
            of_entries: Vec::new(),
            number: Some(number.to_be_bytes().to_vec()),
            more: Vec::new(),
            this_update,
            next_update: Some(next_update),
            other_algorithm_inside: false,
        }
    }
}

/// An extension of a list or of an entry.
#[derive(Clone, Debug)]
pub struct ListExtension {
    /// Its object identifier.
    pub oid: Vec<u64>,
    /// Whether it is critical.
    pub critical: bool,
    /// What it says, in DER.
    pub value: Vec<u8>,
}

impl ListExtension {
    fn encoded(&self) -> Vec<u8> {
        let critical: &[u8] = if self.critical { &TRUE } else { &[] };
        let value = element(OCTET_STRING, &self.value);
        element(
            SEQUENCE,
            &[object_identifier(&self.oid).as_slice(), critical, &value].concat(),
        )
    }
}

fn extensions(extensions: &[ListExtension]) -> Vec<u8> {
    let encoded: Vec<Vec<u8>> = extensions.iter().map(ListExtension::encoded).collect();
    element(SEQUENCE, &encoded.concat())
}

pub(super) fn sign(
    profile: &ListProfile,
    root_der: &[u8],
    key: &KeyPair,
    key_type: CardKeyType,
) -> Result<Vec<u8>, CardError> {
    let (_, root) = X509Certificate::from_der(root_der).map_err(|_| CardError::NotACertificate)?;
    let algorithm = algorithm(key_type);
    let inside = match (profile.other_algorithm_inside, key_type) {
        (false, _) => algorithm.clone(),
        (true, CardKeyType::Rsa2048) => self::algorithm(CardKeyType::EcdsaP256),
        (true, _) => self::algorithm(CardKeyType::Rsa2048),
    };
    let mut fields = [
        element(INTEGER, &[1]),
        inside,
        root.subject().as_raw().to_vec(),
        moment(profile.this_update),
        profile.next_update.map(moment).unwrap_or_default(),
    ]
    .concat();
    if !profile.revoked.is_empty() {
        let since = moment(profile.this_update);
        let of_entries = match profile.of_entries.as_slice() {
            [] => Vec::new(),
            some => extensions(some),
        };
        let mut entries = Vec::new();
        for serial in &profile.revoked {
            let serial = unsigned(serial);
            entries.extend(element(
                SEQUENCE,
                &[serial.as_slice(), &since, &of_entries].concat(),
            ));
        }
        fields.extend(element(SEQUENCE, &entries));
    }
    let number = profile.number.as_ref().map(|number| ListExtension {
        oid: CRL_NUMBER.to_vec(),
        critical: false,
        value: unsigned(number),
    });
    let all: Vec<ListExtension> = number.into_iter().chain(profile.more.iter().cloned()).collect();
    fields.extend(element(CONTEXT_0, &extensions(&all)));
    let signed = element(SEQUENCE, &fields);
    let signature = [&[0], key.sign(&signed)?.as_slice()].concat();
    let signature = element(BIT_STRING, &signature);
    Ok(element(
        SEQUENCE,
        &[signed.as_slice(), &algorithm, &signature].concat(),
    ))
}

/// `AlgorithmIdentifier` of the signature.
fn algorithm(key_type: CardKeyType) -> Vec<u8> {
    let content = match key_type {
        CardKeyType::Rsa2048 => [
            object_identifier(&[1, 2, 840, 113_549, 1, 1, 11]).as_slice(),
            &NULL,
        ]
        .concat(),
        CardKeyType::EcdsaP256 => object_identifier(&[1, 2, 840, 10_045, 4, 3, 2]),
        CardKeyType::EcdsaP384 => object_identifier(&[1, 2, 840, 10_045, 4, 3, 3]),
    };
    element(SEQUENCE, &content)
}

/// INTEGER of a number that is not negative.
fn unsigned(number: &[u8]) -> Vec<u8> {
    let significant: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
    let content = match significant.first() {
        None => vec![0],
        Some(first) if first & 0x80 != 0 => [&[0], significant.as_slice()].concat(),
        Some(_) => significant,
    };
    element(INTEGER, &content)
}

/// UTCTime until 2049, then GeneralizedTime (RFC 5280, 5.1.2.4).
fn moment(at: OffsetDateTime) -> Vec<u8> {
    let at = at.to_offset(time::UtcOffset::UTC);
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    match at.year() {
        year @ 1950..=2049 => element(UTC_TIME, format!("{:02}{rest}", year % 100).as_bytes()),
        year => element(GENERALIZED_TIME, format!("{year:04}{rest}").as_bytes()),
    }
}
