//! Consent receipts: what the requester keeps as proof of a consent (docs/consent-receipt.md). A JSON document with the
//! fields of ISO/IEC TS 27560:2023 in a DSSE envelope that the gateway signs; anybody who has the public key verifies it.
//! Nothing in it says who the requester is.

use std::{collections::BTreeMap, path::Path};

use common::{
    clock::Timestamp,
    config::ConfigError,
    dsse::{PublicKey, SigningKey},
    files::{self, FileError},
    keyring::PseudonymKey,
    policy::RetentionPolicy,
    terms::RequestKind,
};
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

use crate::{
    config::{ConsentReceiptConfig, PartyConfig},
    consent::Consent,
};

/// Payload type of the envelope.
const PAYLOAD_TYPE: &str = "application/vnd.koseki.consent-receipt.v1+json";
/// Which fields there are.
const SCHEMA_VERSION: &str = "koseki-consent-receipt-1, after ISO/IEC TS 27560:2023";
/// Length of a receipt at most, in bytes.
pub const MAX_RECEIPT_BYTES: usize = 16 * 1024;
/// Length of what a receipt says of a party at most, in bytes: a receipt with all of it stays within its own bound.
const MAX_CONFIGURED_BYTES: usize = 512;

/// A receipt. The names are those of the specification, in its order of sections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Which fields there are.
    pub schema_version: String,
    /// Names this state of the record.
    pub receipt_id: String,
    /// UUID of the consent.
    pub record_id: String,
    /// Pseudonym of the requester: the same in all their receipts, and in nothing else.
    pub pii_principal_id: String,
    /// What is consented to.
    pub pii_processing: Processing,
    /// Whoever is named by its `party_id`.
    pub party_identification: Vec<Party>,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// What is consented to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processing {
    /// SHA-256 of the text that was shown.
    pub privacy_notice: String,
    /// Language of the text.
    pub language: String,
    /// For what; one.
    pub purposes: Vec<Purpose>,
}

/// One purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purpose {
    /// The kind of request.
    pub purpose: String,
    /// What `purpose` is a name of.
    pub purpose_type: String,
    /// By what right.
    pub lawful_basis: String,
    /// Kinds of information.
    pub pii_information: Vec<PiiInformation>,
    /// Who is responsible.
    pub pii_controllers: Vec<String>,
    /// Through what the consent came.
    pub collection_method: String,
    /// Where the record of it is kept.
    pub storage_locations: Vec<String>,
    /// For how long the record is kept, as in ISO 8601.
    pub retention_period: String,
    /// To whom it goes.
    pub recipient_third_parties: Vec<String>,
    /// How to withdraw it.
    pub withdrawal_method: String,
}

/// A kind of information.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PiiInformation {
    /// Its name.
    pub pii_type: String,
}

/// A party.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// By which it is named in this receipt.
    pub party_id: String,
    /// What it does.
    pub party_role: String,
    /// Its name.
    pub party_name: String,
    /// Its postal address.
    pub party_address: String,
    /// How to reach it.
    pub party_contact: String,
}

/// Something that happened to the consent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When.
    pub event_time: String,
    /// How the will was expressed.
    pub event_type: String,
    /// What the consent is since then.
    pub event_state: String,
    /// Whose will it was.
    pub entity_id: String,
    /// How long it holds; only what gives a consent has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub validity_duration: Option<Validity>,
}

/// How long a consent holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validity {
    /// Until then at the latest.
    pub until: String,
    /// Whether one answer ends it.
    pub one_time: bool,
}

/// DSSE's envelope, as files have it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: [Signature; 1],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: String,
    sig: String,
}

/// A receipt could not be written.
#[derive(Debug, thiserror::Error)]
#[error("a consent receipt could not be written")]
pub struct NotWritten;

/// Issues receipts.
pub struct Receipts {
    key: SigningKey,
    config: ConsentReceiptConfig,
    pseudonym: PseudonymKey,
}

impl Receipts {
    /// Reads the private key.
    pub fn load(config: &ConsentReceiptConfig, pseudonym: PseudonymKey) -> Result<Self, FileError> {
        Ok(Self {
            key: SigningKey::load(&config.private_key, &config.key_id)?,
            config: config.clone(),
            pseudonym,
        })
    }

    /// The signed receipt of a consent of an account: the same bytes each time, for as long as the consent, the
    /// configuration and the policy's retention are the same.
    pub fn issue(
        &self,
        account: i64,
        consent: &Consent,
        retention: RetentionPolicy,
    ) -> Result<Vec<u8>, NotWritten> {
        let receipt = self.receipt(account, consent, retention);
        let payload = serde_json::to_vec(&receipt).map_err(|_| NotWritten)?;
        let envelope = Envelope {
            signatures: [Signature {
                keyid: self.key.id().to_owned(),
                sig: BASE64.encode(&self.key.sign(PAYLOAD_TYPE, &payload)),
            }],
            payload: BASE64.encode(&payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
        };
        let bytes = serde_json::to_vec(&envelope).map_err(|_| NotWritten)?;
        if bytes.len() > MAX_RECEIPT_BYTES {
            return Err(NotWritten);
        }
        Ok(bytes)
    }

    fn receipt(&self, account: i64, consent: &Consent, retention: RetentionPolicy) -> Receipt {
        let facts = &consent.facts;
        // Another label than the audit log's: a receipt is no key to the log.
        let principal = self
            .pseudonym
            .pseudonym("consent-receipt", &account.to_be_bytes());
        let event = |at: Timestamp, state: &str, validity| Event {
            event_time: at.to_rfc3339(),
            event_type: "explicit".to_owned(),
            event_state: state.to_owned(),
            entity_id: "pii_principal".to_owned(),
            validity_duration: validity,
        };
        let validity = Validity {
            until: facts.expires_at.to_rfc3339(),
            one_time: facts.one_time,
        };
        let given = event(facts.given_at, "given", Some(validity));
        let withdrawn = consent.withdrawn_at.map(|at| event(at, "withdrawn", None));
        let state = match withdrawn {
            Some(_) => "withdrawn",
            None => "given",
        };
        Receipt {
            schema_version: SCHEMA_VERSION.to_owned(),
            receipt_id: format!("{}/{state}", facts.id),
            record_id: facts.id.to_string(),
            pii_principal_id: HEXLOWER.encode(&principal),
            pii_processing: Processing {
                privacy_notice: format!("sha256:{}", HEXLOWER.encode(&facts.text_sha256)),
                language: consent.language.clone(),
                purposes: vec![self.purpose(consent.kind, retention)],
            },
            party_identification: vec![
                party("portal", "pii_controller", &self.config.controller),
                party("registry", "recipient", &self.config.recipient),
            ],
            events: std::iter::once(given).chain(withdrawn).collect(),
        }
    }

    fn purpose(&self, kind: RequestKind, retention: RetentionPolicy) -> Purpose {
        let purpose = match kind {
            RequestKind::CertificateRequest => "certificate_request",
            RequestKind::Notification => "notification",
            RequestKind::ProvisionCodeRequest => "provision_code_request",
        };
        Purpose {
            purpose: purpose.to_owned(),
            purpose_type: "request_kind".to_owned(),
            lawful_basis: "consent".to_owned(),
            pii_information: vec![PiiInformation {
                pii_type: "requester_copy_information".to_owned(),
            }],
            pii_controllers: vec!["portal".to_owned()],
            collection_method: "portal".to_owned(),
            storage_locations: vec![self.config.storage_location.clone()],
            retention_period: format!("P{}Y", retention.consent_years),
            recipient_third_parties: vec!["registry".to_owned()],
            withdrawal_method: self.config.withdrawal_method.clone(),
        }
    }
}

fn party(id: &str, role: &str, config: &PartyConfig) -> Party {
    Party {
        party_id: id.to_owned(),
        party_role: role.to_owned(),
        party_name: config.name.clone(),
        party_address: config.address.clone(),
        party_contact: config.contact.clone(),
    }
}

impl ConsentReceiptConfig {
    /// Checks what receipts say.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (key, value) in [
            ("consent_receipt.key_id", &self.key_id),
            ("consent_receipt.withdrawal_method", &self.withdrawal_method),
            ("consent_receipt.storage_location", &self.storage_location),
            ("consent_receipt.controller.name", &self.controller.name),
            ("consent_receipt.controller.address", &self.controller.address),
            ("consent_receipt.controller.contact", &self.controller.contact),
            ("consent_receipt.recipient.name", &self.recipient.name),
            ("consent_receipt.recipient.address", &self.recipient.address),
            ("consent_receipt.recipient.contact", &self.recipient.contact),
        ] {
            if value.is_empty() || value.len() > MAX_CONFIGURED_BYTES || value.chars().any(char::is_control) {
                return Err(ConfigError::value(
                    key,
                    "must have 1 to 512 bytes and no control characters",
                ));
            }
        }
        Ok(())
    }
}

/// Why a file is not a receipt that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotGood {
    /// The file is not the envelope of a receipt.
    #[error("it is not a consent receipt")]
    Form,
    /// No key of this id is given.
    #[error("it names a key that is not among the given ones")]
    Key,
    /// The signature is not the key's over this content.
    #[error("the signature does not verify: it was altered, or signed by somebody else")]
    Signature,
    /// The signature is good and the content is not what this program knows.
    #[error("it is signed, but not of a form that this program knows")]
    Content,
}

/// Verifies receipts: key id → public key.
pub struct ReceiptKeys(BTreeMap<String, PublicKey>);

impl ReceiptKeys {
    /// Reads the public keys (PEM, SPKI) of a directory; a file is named `<key id>.pem`.
    pub fn load(directory: &Path) -> Result<Self, FileError> {
        let mut keys = BTreeMap::new();
        for path in files::list(directory, "pem")? {
            let id = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .ok_or_else(|| FileError::content(&path, "must be named <key id>.pem"))?;
            keys.insert(id.to_owned(), PublicKey::load(&path)?);
        }
        if keys.is_empty() {
            return Err(FileError::content(
                directory,
                "must hold at least one public key as <key id>.pem",
            ));
        }
        Ok(Self(keys))
    }

    /// What a file says, when one of the keys has signed it.
    pub fn verify(&self, file: &[u8]) -> Result<Receipt, NotGood> {
        let envelope: Envelope = serde_json::from_slice(file).map_err(|_| NotGood::Form)?;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(NotGood::Form);
        }
        let [signature] = &envelope.signatures;
        let decode = |text: &str| BASE64.decode(text.as_bytes()).map_err(|_| NotGood::Form);
        let (payload, sig) = (decode(&envelope.payload)?, decode(&signature.sig)?);
        let key = self.0.get(&signature.keyid).ok_or(NotGood::Key)?;
        if !key.has_signed(PAYLOAD_TYPE, &payload, &sig) {
            return Err(NotGood::Signature);
        }
        let receipt: Receipt = serde_json::from_slice(&payload).map_err(|_| NotGood::Content)?;
        match receipt.schema_version.as_str() {
            SCHEMA_VERSION => Ok(receipt),
            _ => Err(NotGood::Content),
        }
    }
}
