//! The provider's receipt for a batch (DESIGN §5): its signed word for what it has answered.

use std::path::Path;

use koseki_proto::koseki::{common::v1::RequesterCopyInfo, evidence::v1::Receipt, linkage::v1::Envelope};
use prost::Message as _;

use super::{LogKeys, NoteAlgorithm, NoteKey, receipt_key_name};
use crate::{
    digest::{self, RandomFailed},
    dsse::pre_authentication_encoding,
    files::FileError,
};

/// Payload type of the envelope.
const PAYLOAD_TYPE: &str = "application/vnd.koseki.receipt.v1+protobuf";
/// Length of a payload at most, in bytes.
const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// The salt of an answer's digest.
pub type Salt = [u8; 32];

/// A salt that was never used.
pub fn new_salt() -> Result<Salt, RandomFailed> {
    digest::random()
}

/// What a receipt has of an answer.
pub fn answer_sha256(salt: &Salt, info: &RequesterCopyInfo) -> [u8; 32] {
    digest::sha256(&[salt, &info.encode_to_vec()])
}

/// Signs receipts.
pub struct ReceiptSigner(NoteKey);

impl ReceiptSigner {
    /// Reads the private key of the receipts of the log of this origin.
    pub fn load(path: &Path, origin: &str) -> Result<Self, FileError> {
        NoteKey::load(path, receipt_key_name(origin), NoteAlgorithm::Ed25519).map(Self)
    }

    /// Signs a receipt.
    pub fn sign(&self, receipt: &Receipt) -> Envelope {
        let payload = receipt.encode_to_vec();
        let signature = self.0.sign(&pre_authentication_encoding(PAYLOAD_TYPE, &payload));
        Envelope {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload,
            key_id: format!("{:08x}", self.0.id()),
            signature,
        }
    }
}

/// The receipt in an envelope, when a key of the receipts of the log of this origin has signed it.
pub fn open_receipt(envelope: &Envelope, origin: &str, keys: &LogKeys) -> Option<Receipt> {
    if envelope.payload_type != PAYLOAD_TYPE || envelope.payload.len() > MAX_PAYLOAD_BYTES {
        return None;
    }
    let id = u32::from_str_radix(&envelope.key_id, 16).ok()?;
    let message = pre_authentication_encoding(PAYLOAD_TYPE, &envelope.payload);
    keys.has_signed(&receipt_key_name(origin), id, &message, &envelope.signature)
        .then(|| Receipt::decode(envelope.payload.as_slice()).ok())?
}
