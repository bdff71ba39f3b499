//! What the line between the two sides refuses.

use std::time::Duration;

use common::{
    clock::{Clock as _, Timestamp},
    eligibility::Signer,
    terms::{LinkageCode, RequestKind},
};
use devkit::deployment::{GATEWAY_INSTANCE, PROVIDER_INSTANCE};
use koseki_proto::koseki::linkage::v1::{Eligibility, EligibilityItem, ProvideCopyInfoRequest, ProvideItem};
use tonic::Status;

use crate::{Provoked, scene::Scene};

/// Above whatever the real gateway has used.
const SEQUENCE: u64 = 1_000_000;

struct Batch {
    eligibility: Eligibility,
    code: LinkageCode,
}

/// One cover item, signed by the gateway's own key after a change.
fn batch(scene: &Scene, sequence: u64) -> Batch {
    let code = LinkageCode::random().unwrap();
    let item = EligibilityItem {
        request_id: scene.id(),
        kind: RequestKind::CertificateRequest.to_proto().into(),
        linkage_handle: code.handle().expose().to_vec(),
        cover: true,
        ..Default::default()
    };
    let eligibility = Eligibility {
        gateway_instance: GATEWAY_INSTANCE.to_owned(),
        provider_log: PROVIDER_INSTANCE.to_owned(),
        sequence,
        policy_sha256: scene.pair.policy().sha256.to_vec(),
        signed_at: Some(scene.pair.clock.now().to_proto()),
        items: vec![item],
    };
    Batch { eligibility, code }
}

async fn send(scene: &Scene, batch: &Batch) -> Result<(), Status> {
    let config: portal_gateway::config::Config =
        common::config::load(&scene.pair.deployment.gateway_config()).unwrap();
    let signer = Signer::load(&config.eligibility.private_key, &config.eligibility.key_id).unwrap();
    let items = batch.eligibility.items.iter().map(|item| ProvideItem {
        request_id: item.request_id.clone(),
        linkage_code: batch.code.expose().to_vec(),
        login_proof: None,
    });
    let request = ProvideCopyInfoRequest {
        eligibility: Some(signer.sign(&batch.eligibility).0),
        items: items.collect(),
    };
    scene.linkage().provide_copy_info(request).await.map(|_| ())
}

pub(crate) async fn provoke(scene: &Scene) -> Provoked {
    let mut provoked = Provoked::new();
    let good = batch(scene, SEQUENCE);
    send(scene, &good).await.unwrap();
    provoked.insert(
        "SEQUENCE_USED",
        send(scene, &batch(scene, SEQUENCE)).await.unwrap_err(),
    );

    let mut elsewhere = batch(scene, SEQUENCE + 1);
    elsewhere.eligibility.provider_log = "provider-9".to_owned();
    provoked.insert("ELIGIBILITY_REFUSED", send(scene, &elsewhere).await.unwrap_err());

    let mut other_policy = batch(scene, SEQUENCE + 2);
    other_policy.eligibility.policy_sha256 = vec![1; 32];
    provoked.insert("POLICY_MISMATCH", send(scene, &other_policy).await.unwrap_err());

    let mut early = batch(scene, SEQUENCE + 3);
    let ahead: Timestamp = scene.pair.clock.now().after(Duration::from_secs(60));
    early.eligibility.signed_at = Some(ahead.to_proto());
    provoked.insert("CLOCK_SKEW", send(scene, &early).await.unwrap_err());
    provoked
}
