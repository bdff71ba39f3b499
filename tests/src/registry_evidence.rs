//! The evidence of a registry side that a test plays: receipts that fit, and countersignatures.

use common::{
    clock::{Clock as _, SystemClock},
    digest,
    evidence::{Checkpoint, EvidenceKeys, Outcome as Recorded, ReceiptSigner, answer_sha256, countersign},
    identity::Role,
};
use koseki_proto::koseki::{
    evidence::v1::{Receipt, ReceiptItem},
    linkage::v1::{
        Eligibility, Envelope, ExchangeCheckpointsRequest, ExchangeCheckpointsResponse, ItemResult,
        ProvideCopyInfoRequest, SubmittedCheckpoint, exchange_checkpoints_response, item_result::Outcome,
    },
};
use koseki_provider::config::Config;
use prost::Message as _;

/// Signs as the provider of a deployment does.
pub struct RegistryEvidence {
    log: String,
    keys: EvidenceKeys,
    receipts: ReceiptSigner,
}

impl RegistryEvidence {
    /// With the provider's keys.
    pub fn load(config: &Config) -> Self {
        let domain = config.trust_domain().unwrap();
        let keys =
            EvidenceKeys::load(&config.evidence, &domain, Role::KosekiProvider, &config.instance).unwrap();
        Self {
            log: config.instance.clone(),
            receipts: ReceiptSigner::load(&config.receipt_key, keys.origin()).unwrap(),
            keys,
        }
    }

    /// What the receipt for these results of a batch says.
    pub fn receipt(&self, request: &ProvideCopyInfoRequest, results: &[ItemResult]) -> Receipt {
        let payload = &request.eligibility.as_ref().unwrap().payload;
        let eligibility = Eligibility::decode(payload.as_slice()).unwrap();
        let item = |result: &ItemResult| {
            let (outcome, answer_sha256) = match result.outcome.as_ref().unwrap() {
                Outcome::Provided(provided) => {
                    let salt = provided.salt.as_slice().try_into().unwrap();
                    let info = provided.info.as_ref().unwrap();
                    (Recorded::Released, answer_sha256(&salt, info).to_vec())
                }
                _ => (Recorded::NotProvided, Vec::new()),
            };
            ReceiptItem {
                request_id: result.request_id.clone(),
                outcome: outcome.into(),
                answer_sha256,
            }
        };
        Receipt {
            log: self.log.clone(),
            gateway_instance: eligibility.gateway_instance,
            sequence: eligibility.sequence,
            eligibility_sha256: digest::sha256(&[payload]).to_vec(),
            bundle: 1,
            items: results.iter().map(item).collect(),
        }
    }

    /// Signs a receipt.
    pub fn sign(&self, receipt: &Receipt) -> Envelope {
        self.receipts.sign(receipt)
    }

    /// Countersigns whatever is shown, and shows an empty log.
    pub fn exchange(&self, request: &ExchangeCheckpointsRequest) -> ExchangeCheckpointsResponse {
        let shown = &request.submitted.as_ref().unwrap().checkpoint;
        let line = countersign(shown, &self.keys.witness, SystemClock::new().now()).unwrap();
        let empty = Checkpoint {
            origin: self.keys.origin().to_owned(),
            size: 0,
            root: digest::sha256(&[]),
        };
        ExchangeCheckpointsResponse {
            outcome: Some(exchange_checkpoints_response::Outcome::Countersignature(line)),
            submitted: Some(SubmittedCheckpoint {
                checkpoint: empty.sign(&self.keys.checkpoint).unwrap(),
                old_size: 0,
                consistency_proof: Vec::new(),
            }),
        }
    }
}
