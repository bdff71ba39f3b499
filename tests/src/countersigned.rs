//! What a side has countersigned of the other side's logs, held against these logs as they are in the end: a log that was
//! forked, or lost its end, is not what was countersigned.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use common::evidence::Frontier;

use crate::{
    log::{Bundle, leaf},
    stores::Behind,
};

/// Checkpoints: the origin of a log, its size and its root.
#[derive(Default)]
pub struct Countersigned(BTreeSet<(String, u64, [u8; 32])>);

impl Countersigned {
    /// Takes note of what the side of this database has countersigned by now.
    pub async fn note(&mut self, database: &Path) {
        let mut behind = Behind::open(database).await;
        let rows = behind
            .connection()
            .all("SELECT origin, size, root FROM witnessed_log", &[])
            .await
            .unwrap();
        for row in rows {
            let (origin, size) = (row.text(0).unwrap().to_owned(), row.int(1).unwrap());
            self.0
                .insert((origin, size.unsigned_abs(), row.array(2).unwrap()));
        }
    }

    /// Every checkpoint of a log of this role is one of the logs given. How many there are.
    pub fn assert_are_of(&self, role: &str, logs: &BTreeMap<String, Vec<Bundle>>) -> usize {
        let mut held = 0;
        for (origin, size, root) in &self.0 {
            let mut parts = origin.rsplit('/');
            let (name, of) = (parts.next().unwrap(), parts.next().unwrap());
            if of == role {
                let mut tree = Frontier::default();
                let entries = logs[name].iter().flat_map(|bundle| &bundle.entries);
                for entry in entries.take(usize::try_from(*size).unwrap()) {
                    tree.append(&leaf(&entry.stored), &mut Vec::new());
                }
                assert_eq!(
                    tree.size(),
                    *size,
                    "{origin} is shorter than what was countersigned"
                );
                assert_eq!(
                    tree.root(),
                    *root,
                    "{origin} is not what was countersigned at {size}"
                );
                held += 1;
            }
        }
        held
    }
}
