//! Proofs that the requester's own records stand in the log (I9), against the newest checkpoints that the registry side has
//! countersigned.

use std::collections::{BTreeMap, HashMap};

use common::{
    evidence::EvidenceKeys,
    identity::Role,
    store::{Database, StoreError},
};
use koseki_proto::portal::v1::{ProvisionRecord, RecordProof};

use crate::own_records::Record;

/// The records with their proofs, and the checkpoints that these are for: three statements for each log.
pub(crate) async fn prove(
    database: &Database,
    keys: &EvidenceKeys,
    records: Vec<Record>,
) -> Result<(Vec<ProvisionRecord>, Vec<String>), StoreError> {
    let mut logs: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for record in &records {
        let indexes = logs.entry(record.place.log.clone()).or_default();
        indexes.push(record.place.entry_index.unsigned_abs());
    }
    let (mut proofs, mut checkpoints) = (HashMap::new(), Vec::new());
    for (log, mut indexes) in logs {
        let checkpoint = database.stored_checkpoint(&log).await?;
        let size = checkpoint.witnessed_size;
        // Newer ones have no proof yet.
        indexes.retain(|index| *index < size);
        for (index, path) in indexes
            .iter()
            .zip(database.prove_inclusion(&log, &indexes, size).await?)
        {
            proofs.insert((log.clone(), *index), (size, path));
        }
        if size > 0 {
            checkpoints.push(checkpoint.witnessed_note);
        }
    }
    let with_proof = |record: Record| {
        let (log, index) = (record.place.log.clone(), record.place.entry_index.unsigned_abs());
        let origin = keys.origin_of(Role::PortalGateway, &log);
        let (tree_size, path) = proofs.remove(&(log, index)).unwrap_or_default();
        let proof = RecordProof {
            origin,
            index,
            public_part: record.public_part.clone(),
            commitment: record.commitment.clone(),
            tree_size,
            inclusion_proof: path.iter().map(|hash| hash.0.to_vec()).collect(),
        };
        ProvisionRecord {
            proof: Some(proof),
            ..record.into()
        }
    };
    Ok((records.into_iter().map(with_proof).collect(), checkpoints))
}
