//! The two logs beside each other: every difference has its cause.

use std::collections::BTreeMap;

use koseki_proto::koseki::evidence::v1::Outcome;

use crate::audit::Log;

/// Checks that whatever the portal side released it had from the registry side, as both have recorded it. What the registry side
/// released and the portal side did not: how many, by cause.
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
        // Without an entry: what the gateway is to ask for, and to record as lost, when it has started again.
        None => "not recorded".to_owned(),
    }
}
