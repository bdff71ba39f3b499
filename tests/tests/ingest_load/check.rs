//! What is stored: every line that was sent, byte for byte, and the same rows where they were loaded raw.

use std::{collections::BTreeSet, fs};

use common::{keyring::Keyring, sealing::Place, store::Connection};
use devkit::deployment::Deployment;
use integration_tests::stores::Behind;

use crate::{copies::Copies, raw::Raw};

/// Every line is there once, sealed, and nothing else.
pub(crate) async fn the_lines_are_stored(deployment: &Deployment, copies: &Copies) {
    let keys = Keyring::load(&deployment.provider().join("keyring.toml")).unwrap();
    let mut behind = Behind::open(&deployment.provider_database()).await;
    let rows = behind
        .connection()
        .all("SELECT key, revision, body FROM register_copy", &[])
        .await
        .unwrap();
    let stored: BTreeSet<Vec<u8>> = rows
        .iter()
        .map(|row| {
            let place = Place {
                column: "register_copy.body",
                row: row.bytes(0).unwrap(),
                revision: row.int(1).unwrap().unsigned_abs(),
            };
            keys.sealer.open(place, row.bytes(2).unwrap()).unwrap().to_vec()
        })
        .collect();
    let files = copies.parts.iter().flat_map(|part| part.values());
    let sent: BTreeSet<Vec<u8>> = files
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            text.lines()
                .map(|line| line.as_bytes().to_vec())
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!((rows.len(), sent.len()), (copies.count, copies.count));
    assert!(stored == sent, "what is stored is not what was sent");
}

/// The rates are of the same rows.
pub(crate) async fn raw_rows_are_the_same(deployment: &Deployment, raw: &mut Raw) {
    for sql in [
        "SELECT * FROM register_copy ORDER BY id",
        "SELECT * FROM member ORDER BY register_id, position",
    ] {
        let mut behind = Behind::open(&deployment.provider_database()).await;
        let stored = shown(behind.connection(), sql).await;
        assert!(stored == shown(raw.loaded(), sql).await, "{sql}");
    }
}

async fn shown(mut connection: Connection<'_>, sql: &'static str) -> Vec<Vec<String>> {
    let rows = connection.all(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.shown()).collect()
}
