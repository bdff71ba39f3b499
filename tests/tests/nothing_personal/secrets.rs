//! What must not be found, in every form in which logs and dumps write it.

use std::{collections::BTreeSet, fs};

use common::terms::LinkageCode;
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, Encoding, HEXLOWER, HEXUPPER};
use devkit::{card::VirtualCard, deployment::Deployment};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Length of the shortest secret: shorter ones stand in anything by chance.
pub(crate) const START: usize = 6;

#[derive(Default)]
pub(crate) struct Secrets(BTreeSet<Vec<u8>>);

impl Secrets {
    /// What is in the registers, the persons' ids, the linkage codes, and the cards.
    pub(crate) fn of(deployment: &Deployment) -> Self {
        let mut secrets = Self::default();
        let lines = |file| {
            let text = fs::read_to_string(file).unwrap();
            let read = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
            text.lines().map(read).collect::<Vec<_>>()
        };
        for (_, file) in deployment.copies().unwrap() {
            for record in lines(file) {
                for field in [
                    "registered_domicile",
                    "first_entered_person",
                    "local_number",
                    "digest",
                ] {
                    secrets.text(record[field].as_str().unwrap());
                }
                for member in record["members"].as_array().unwrap() {
                    for field in ["name", "name_kana", "reference", "father", "mother"] {
                        secrets.text(member[field].as_str().unwrap_or_default());
                    }
                    secrets.text(member["birth_date"]["written"].as_str().unwrap());
                }
            }
        }
        for file in [deployment.persons(), deployment.linkages()] {
            for record in lines(file) {
                for field in ["person_id", "linkage_code", "card_key_sha256"] {
                    secrets.text(record[field].as_str().unwrap_or_default());
                }
            }
        }
        for record in lines(deployment.linkages()) {
            let code = LinkageCode::parse_text(record["linkage_code"].as_str().unwrap()).unwrap();
            secrets.bytes(code.expose());
            secrets.bytes(code.handle().expose());
        }
        for person in deployment.scenarios().unwrap() {
            secrets.card(&deployment.card(&person).unwrap());
        }
        secrets
    }

    /// What a card's certificate says, but for its subject: scenario persons are numbered from zero, which stands anywhere.
    pub(crate) fn card(&mut self, card: &VirtualCard) {
        let (_, certificate) = X509Certificate::from_der(&card.certificate_der).unwrap();
        self.bytes(&card.certificate_der);
        self.bytes(&certificate.public_key().subject_public_key.data);
        self.bytes(&card.public_key_sha256);
        self.bytes(&card.serial);
        self.text(&certificate.raw_serial_as_string());
    }

    pub(crate) fn text(&mut self, text: &str) {
        if text.len() >= START {
            self.0.insert(text.as_bytes().to_vec());
            // A dump has bytes as hexadecimal text.
            self.0.insert(HEXLOWER.encode(text.as_bytes()).into_bytes());
        }
    }

    /// As they are, in hexadecimal and base64 also within something longer, as Rust shows them, and as JSON has them.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        assert!(
            bytes.len() >= 16,
            "{} bytes stand in anything by chance",
            bytes.len()
        );
        self.0.insert(bytes.to_vec());
        let numbers = |between| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(between);
        let escaped = bytes.escape_ascii().to_string();
        let mut texts = vec![
            HEXLOWER.encode(bytes),
            HEXUPPER.encode(bytes),
            numbers(", "),
            numbers(","),
            escaped.replace('\\', r"\\"),
            escaped,
        ];
        for encoding in [BASE64_NOPAD, BASE64URL_NOPAD] {
            texts.extend((0..3).map(|before| within_base64(&encoding, before, bytes)));
        }
        self.0.extend(texts.into_iter().map(String::into_bytes));
    }

    pub(crate) fn all(&self) -> &BTreeSet<Vec<u8>> {
        &self.0
    }
}

/// The letters that are the same whatever stands before and behind the bytes: `before` bytes, but for whole groups of three.
fn within_base64(encoding: &Encoding, before: usize, bytes: &[u8]) -> String {
    let text = encoding.encode(&[&vec![0; before], bytes].concat());
    text[(before * 8).div_ceil(6)..(before + bytes.len()) * 8 / 6].to_owned()
}
