//! Logs that are tampered with by whoever owns their database.

use std::{fs, path::Path};

use devkit::deployment::{GATEWAY_INSTANCE, PROVIDER_INSTANCE};
use integration_tests::stores::Behind;
use koseki_proto::koseki::evidence::v1::{Bundle, ExportPart, export_part::Part};
use prost::Message as _;
use prost_types::Timestamp;

use crate::{
    auditor::{Files, bodies, story},
    desk::Desk,
};

/// Each way to tamper with a log in its own database, by whoever owns that: found by whoever exports it afterwards.
#[tokio::test]
async fn a_log_that_was_tampered_with_in_its_database_is_found() {
    let desk = Desk::open().await;
    story(&desk).await;
    let whole = desk.export_both().await;
    let database = desk.pair.deployment.provider_database();
    let bodies = bodies(&database).await;
    let numbered = |number: usize| (i64::try_from(number).unwrap(), bodies[number].clone());
    let victim = bodies.len() / 2;
    let edited = |change: fn(&mut Bundle)| {
        let mut bundle = Bundle::decode(bodies[victim].as_slice()).unwrap();
        change(&mut bundle);
        vec![(i64::try_from(victim).unwrap(), bundle.encode_to_vec())]
    };
    let swapped = {
        let (one, other) = (numbered(victim), numbered(victim + 1));
        vec![(one.0, other.1), (other.0, one.1)]
    };
    let ways = [
        (
            "edited",
            edited(|bundle| bundle.entries[0].restricted[9] ^= 1),
            "ROOT_DIFFERS",
        ),
        (
            "emptied",
            edited(|bundle| drop(bundle.entries.pop())),
            "MALFORMED_BUNDLE",
        ),
        ("reordered", swapped, "INDEXING"),
    ];
    for (name, bundles, finding) in ways {
        for (number, body) in &bundles {
            write(&database, *number, body).await;
        }
        let out = desk
            .export("registry", PROVIDER_INSTANCE, &format!("{name}.log"))
            .await;
        let files = Files {
            provider: out,
            ..whole.clone()
        };
        files.run(&desk, &["verify"]).await.exits(1).says(&[finding]);
        for (number, _) in &bundles {
            write(&database, *number, &numbered(usize::try_from(*number).unwrap()).1).await;
        }
    }
    // Mended, it is whole again.
    let out = desk.export("registry", PROVIDER_INSTANCE, "mended.log").await;
    let files = Files {
        provider: out,
        ..whole.clone()
    };
    files.run(&desk, &["verify"]).await.exits(0);

    // A bundle is gone.
    let mut behind = Behind::tamper(&database).await;
    let params = [("number", i64::try_from(victim).unwrap().into())];
    behind
        .connection()
        .execute("DELETE FROM bundle WHERE number = {number}", &params)
        .await
        .unwrap();
    let out = desk.export("registry", PROVIDER_INSTANCE, "deleted.log").await;
    let files = Files {
        provider: out,
        ..whole.clone()
    };
    files.run(&desk, &["verify"]).await.exits(1).says(&["NUMBERING"]);
}

/// A backup is restored: the auditor exports what there was then, and the other side has countersigned more since.
#[tokio::test]
async fn a_log_that_was_rolled_back_to_a_backup_is_found() {
    let desk = Desk::open().await;
    let old = desk.export_both().await;
    story(&desk).await;
    desk.until_countersigned().await;
    let gateway = desk.export("portal", GATEWAY_INSTANCE, "later.log").await;
    let mut parts = Vec::new();
    let content = fs::read(&old.provider).unwrap();
    let mut rest = content.as_slice();
    while !rest.is_empty() {
        parts.push(ExportPart::decode_length_delimited(&mut rest).unwrap());
    }
    // What an export of the restored log says, made an hour from now.
    if let Some(Part::Header(header)) = &mut parts[0].part {
        let at = header.exported_at.unwrap();
        header.exported_at = Some(Timestamp {
            seconds: at.seconds + 3_600,
            nanos: 0,
        });
    }
    let restored: Vec<u8> = parts
        .iter()
        .flat_map(ExportPart::encode_length_delimited_to_vec)
        .collect();
    let files = Files {
        provider: desk.write("restored.log", restored),
        gateway: gateway.clone(),
        keys: old.keys.clone(),
    };
    files
        .run(&desk, &["verify"])
        .await
        .exits(1)
        .says(&["ROLLED_BACK"]);
    // The file as it was made then: the log grew since, and nothing is wrong.
    let files = Files {
        gateway,
        ..old.clone()
    };
    files.run(&desk, &["verify"]).await.exits(0);
    // Cut off.
    let content = fs::read(&old.provider).unwrap();
    let files = Files {
        provider: desk.write("cut-off.log", &content[..content.len() - 100]),
        ..old
    };
    files.run(&desk, &["verify"]).await.exits(2).says(&["CUT_OFF"]);
}

async fn write(database: &Path, number: i64, body: &[u8]) {
    let mut behind = Behind::tamper(database).await;
    let params = [("number", number.into()), ("body", body.into())];
    let changed = behind
        .connection()
        .execute("UPDATE bundle SET body = {body} WHERE number = {number}", &params)
        .await
        .unwrap();
    assert_eq!(changed, 1);
}
