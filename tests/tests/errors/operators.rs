//! What the listeners for operators and municipalities refuse.

use devkit::deployment::OFFICER;
use koseki_proto::{
    koseki::{
        common::v1::{
            ConfirmRequest, FileLine, LoadMessage, LoadStart, OpeningAct, ProposeRequest, RequestKind,
            ResumeProvision, SuspendProvisionRequest, load_message, opening_act::Act,
        },
        ingest::v1::RecordOwnNonProvisionRequest,
    },
    portal::admin::v1::SetBlockRequest,
};
use tokio_stream::StreamExt as _;
use tonic::Status;

use crate::{Provoked, scene::Scene};

/// Streams of lines that a listener takes at a time.
const MAX_STREAMS: usize = 64;

fn suspend(act_id: &str, kind: RequestKind) -> SuspendProvisionRequest {
    SuspendProvisionRequest {
        act_id: act_id.to_owned(),
        kind: kind.into(),
        reason: "sandbox".to_owned(),
    }
}

pub(crate) async fn provoke(scene: &Scene) -> Provoked {
    let mut portal = scene.portal_admin();
    let mut registry = scene.registry_admin();
    let mut provoked = Provoked::new();

    let block = SetBlockRequest {
        act_id: scene.id(),
        card_key_sha256: vec![1; 32],
        reason: "sandbox".to_owned(),
    };
    provoked.insert("UNKNOWN_REFERENCE", portal.set_block(block).await.unwrap_err());

    let act = scene.id();
    let kind = RequestKind::ProvisionCodeRequest;
    registry.suspend_provision(suspend(&act, kind)).await.unwrap();
    let other = registry
        .suspend_provision(suspend(&act, RequestKind::Notification))
        .await;
    provoked.insert("ACT_ID_USED", other.unwrap_err());
    let own = registry.confirm(ConfirmRequest { act_id: act }).await;
    provoked.insert("ANOTHER_PERSON_NEEDED", own.unwrap_err());

    let resume = ResumeProvision {
        kind: RequestKind::Notification.into(),
    };
    let propose = ProposeRequest {
        proposal_id: scene.id(),
        act: Some(OpeningAct {
            act: Some(Act::ResumeProvision(resume)),
        }),
        reason: "sandbox".to_owned(),
    };
    provoked.insert("NOT_APPLICABLE", registry.propose(propose).await.unwrap_err());

    provoked.insert("NOT_OWN_REGISTER", another_ones_register(scene).await);
    provoked.insert("OVERLOADED", one_stream_too_many(scene).await);
    provoked
}

async fn another_ones_register(scene: &Scene) -> Status {
    let copies = scene.pair.deployment.copies().unwrap();
    let (own, other) = (&copies[0].0, &copies[1].0);
    let record = RecordOwnNonProvisionRequest {
        act_id: scene.id(),
        municipality_code: other.clone(),
        local_number: "1".to_owned(),
        authority: "an authority".to_owned(),
        document_number: "1".to_owned(),
        ..Default::default()
    };
    let mut officer = scene.officer(&format!("{own}/{OFFICER}"));
    officer.record_own_non_provision(record).await.unwrap_err()
}

/// Each stream has been answered, so it is open, and none ends before the last one was refused.
async fn one_stream_too_many(scene: &Scene) -> Status {
    let mut open = Vec::new();
    for _ in 0..=MAX_STREAMS {
        let start = LoadMessage {
            part: Some(load_message::Part::Start(LoadStart {
                load_id: scene.id(),
                dry_run: true,
            })),
        };
        let line = LoadMessage {
            part: Some(load_message::Part::Line(FileLine {
                line_number: 1,
                line: b"{}".to_vec(),
            })),
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        sender.send(start).await.unwrap();
        sender.send(line).await.unwrap();
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        match scene.portal_admin().load_linkages(stream).await {
            Ok(answer) => {
                let mut results = answer.into_inner();
                results.next().await.unwrap().unwrap();
                open.push((sender, results));
            }
            Err(status) => return status,
        }
    }
    panic!("{} streams were taken", open.len());
}
