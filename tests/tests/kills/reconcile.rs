//! The two logs beside each other: every difference has its cause.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use integration_tests::{stores::Behind, until};
use koseki_proto::koseki::evidence::v1::Outcome;

use crate::audit::Log;

/// Waits until the portal side has looked through all that the registry side's log has by now: with nothing killed any more, it
/// learns of every answer that never came.
pub(crate) async fn until_lost_answers_are_recorded([registry, portal]: &[PathBuf; 2]) {
    let there = number(registry, "SELECT bundles FROM log_head").await;
    until("the portal side has looked for lost answers", async || {
        number(
            portal,
            "SELECT COALESCE(max(provider_bundle), 0) FROM lost_answer_place",
        )
        .await
            >= there
    })
    .await;
}

async fn number(database: &Path, sql: &'static str) -> i64 {
    let mut behind = Behind::open(database).await;
    let row = behind.connection().one(sql, &[]).await;
    row.unwrap().int(0).unwrap()
}

/// Checks that whatever the portal side released it had from the registry side, as both have recorded it. What the registry side
/// released and the portal side did not: how many, by cause; there is none without.
pub(crate) fn reconcile(provider: &Log, gateway: &Log) -> BTreeMap<String, usize> {
    for id in &gateway.released {
        let (_, there) = &gateway.provisions[id];
        let there = there.restricted.as_ref().unwrap();
        let (bundle, here) = provider
            .provisions
            .get(id)
            .unwrap_or_else(|| panic!("{id} was released by the gateway, and not by the provider"));
        assert_eq!(here.outcome(), Outcome::Released, "{id}");
        assert_eq!(
            there.provider_bundle, *bundle,
            "{id}: the receipt names another bundle"
        );
        let digest = &here.restricted.as_ref().unwrap().answer_sha256;
        assert_eq!((digest.len(), digest), (32, &there.answer_sha256), "{id}");
    }
    let mut causes = BTreeMap::new();
    for id in provider.released.difference(&gateway.released) {
        *causes.entry(cause(id, gateway)).or_default() += 1;
    }
    causes
}

/// Why the portal side did not release what the registry side had released, as its log tells.
fn cause(id: &str, gateway: &Log) -> String {
    match gateway.provisions.get(id) {
        Some((_, withheld)) => {
            let detail = withheld.restricted.as_ref().unwrap();
            let came = match detail.provider_log.is_empty() {
                true => "no answer came",
                false => "withheld",
            };
            format!("{came}: {}", detail.cause)
        }
        None if gateway.lost.contains(id) => "lost".to_owned(),
        None => panic!("{id} was released by the provider, and the gateway has recorded nothing of it"),
    }
}
