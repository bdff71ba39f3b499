//! What the portal listener refuses.

use common::terms::RequestKind;
use devkit::{
    card::{CardProfile, CardRoot, VirtualCard},
    pki::{Ca, Subject},
    registers::Scenario,
};
use integration_tests::{address, raw};
use koseki_proto::{
    koseki::common::v1::{RequestKind as ProtoKind, SuspendProvisionRequest},
    portal::v1::{
        BeginLoginRequest, Capacity, CompleteLoginRequest, GetStatusRequest, GrantConsentRequest, KindStatus,
        LogoutRequest, RequestCopyInfoRequest, WithdrawConsentRequest, grant_consent_request::Term,
        portal_client::PortalClient,
    },
};
use tonic::{Request, Response, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

use crate::{
    Provoked,
    scene::{Line, Scene},
};

const KIND: RequestKind = RequestKind::CertificateRequest;
/// Suspended, and nothing else is asked for of it.
const SUSPENDED: ProtoKind = ProtoKind::ProvisionCodeRequest;
/// Consents to one kind that a requester may hold.
const MAX_CONSENTS: usize = 256;

async fn log_in(
    scene: &Scene,
    portal: &mut PortalClient<Line>,
    card: &VirtualCard,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<Vec<u8>, Status> {
    let begin = BeginLoginRequest {
        request_id: scene.id(),
        web_origin: "https://portal.example".to_owned(),
    };
    let begun = portal.begin_login(begin).await.unwrap().into_inner();
    let complete = CompleteLoginRequest {
        request_id: scene.id(),
        challenge_id: begun.challenge_id,
        certificate: card.certificate_der.clone(),
        signature: sign(&begun.text),
    };
    Ok(portal.complete_login(complete).await?.into_inner().session_token)
}

async fn session(
    scene: &Scene,
    portal: &mut PortalClient<Line>,
    scenario: Scenario,
) -> Result<Vec<u8>, Status> {
    let (_, card) = scene.cast.person(scenario).unwrap();
    log_in(scene, portal, &card, |text| card.sign(text).unwrap()).await
}

async fn grant(
    scene: &Scene,
    portal: &mut PortalClient<Line>,
    session: &[u8],
    text: Vec<u8>,
) -> Result<(), Status> {
    let grant = GrantConsentRequest {
        request_id: scene.id(),
        session_token: session.to_vec(),
        kind: KIND.to_proto().into(),
        text_sha256: text,
        term: Some(Term::OneTime(true)),
        capacity: Capacity::Self_.into(),
    };
    portal.grant_consent(grant).await.map(|_| ())
}

fn ask(id: String, session: &[u8], kind: ProtoKind) -> RequestCopyInfoRequest {
    RequestCopyInfoRequest {
        request_id: id,
        session_token: session.to_vec(),
        kind: kind.into(),
        procedure: String::new(),
        capacity: Capacity::Self_.into(),
    }
}

fn status_of(request_id: String) -> GetStatusRequest {
    GetStatusRequest { request_id }
}

pub(crate) async fn provoke(scene: &Scene) -> Provoked {
    let mut portal = scene.portal();
    let mut provoked = Provoked::new();
    provoked.insert(
        "MALFORMED",
        portal.get_status(status_of("x".to_owned())).await.unwrap_err(),
    );
    let denied = scene
        .operator_at_the_portal()
        .get_status(status_of(scene.id()))
        .await;
    provoked.insert("PERMISSION_DENIED", denied.unwrap_err());
    let nobody = Ca::read_from(&scene.pair.deployment.dir().join("authority"), "ca").unwrap();
    let issued = nobody.issue(&Subject::nameless().and_dns("localhost")).unwrap();
    let at = address(&scene.pair.gateway, common::authorisation::Listener::Portal);
    let caller = raw::Caller::new(raw::tls(&nobody, Some(&issued)), at.parse().unwrap());
    let unknown = PortalClient::new(scene.speaking(caller.channel()))
        .get_status(status_of(scene.id()))
        .await;
    provoked.insert("IDENTITY_INVALID", unknown.unwrap_err());

    logins(scene, &mut portal, &mut provoked).await;
    let ordinary = session(scene, &mut portal, Scenario::Ordinary).await.unwrap();
    consents(scene, &mut portal, &ordinary, &mut provoked).await;
    requests(scene, &mut portal, &ordinary, &mut provoked).await;
    provoked
}

async fn logins(scene: &Scene, portal: &mut PortalClient<Line>, provoked: &mut Provoked) {
    let logout = LogoutRequest {
        request_id: scene.id(),
        session_token: vec![1; 32],
    };
    provoked.insert("SESSION_INVALID", portal.logout(logout).await.unwrap_err());
    let (_, card) = scene.cast.person(Scenario::Ordinary).unwrap();
    let complete = CompleteLoginRequest {
        request_id: scene.id(),
        challenge_id: vec![1; 16],
        certificate: card.certificate_der.clone(),
        signature: vec![1; 256],
    };
    provoked.insert(
        "CHALLENGE_INVALID",
        portal.complete_login(complete).await.unwrap_err(),
    );
    for (reason, scenario) in [
        ("CARD_EXPIRED", Scenario::ExpiredCard),
        ("CARD_REVOKED", Scenario::RevokedCard),
    ] {
        provoked.insert(reason, session(scene, portal, scenario).await.unwrap_err());
    }
    // A card of another issuer.
    let foreign = CardRoot::new().unwrap();
    let foreign = foreign
        .issue(&CardProfile::user_authentication("99990001"))
        .unwrap();
    let login = log_in(scene, portal, &foreign, |text| foreign.sign(text).unwrap()).await;
    provoked.insert("CARD_NOT_ACCEPTED", login.unwrap_err());
    let login = log_in(scene, portal, &card, |_| vec![1; 256]).await;
    provoked.insert("SIGNATURE_INVALID", login.unwrap_err());
}

async fn consents(scene: &Scene, portal: &mut PortalClient<Line>, session: &[u8], provoked: &mut Provoked) {
    let unknown_text = grant(scene, portal, session, vec![1; 32]).await;
    provoked.insert("CONSENT_TEXT_UNKNOWN", unknown_text.unwrap_err());
    let withdraw = WithdrawConsentRequest {
        request_id: scene.id(),
        session_token: session.to_vec(),
        consent_id: scene.id(),
    };
    provoked.insert(
        "CONSENT_UNKNOWN",
        portal.withdraw_consent(withdraw).await.unwrap_err(),
    );
    let asked = portal
        .request_copy_info(ask(scene.id(), session, KIND.to_proto()))
        .await;
    provoked.insert("CONSENT_REQUIRED", asked.unwrap_err());
    let text = scene.cast.frontend.consent_text(KIND).await.unwrap().text_sha256;
    for _ in 0..MAX_CONSENTS {
        grant(scene, portal, session, text.clone()).await.unwrap();
    }
    provoked.insert(
        "TOO_MANY_CONSENTS",
        grant(scene, portal, session, text).await.unwrap_err(),
    );
}

/// The requester has logged in and consented.
async fn requests(scene: &Scene, portal: &mut PortalClient<Line>, ordinary: &[u8], provoked: &mut Provoked) {
    let kind = KIND.to_proto();
    let id = scene.id();
    portal
        .request_copy_info(ask(id.clone(), ordinary, kind))
        .await
        .unwrap();
    let again = portal.request_copy_info(ask(id, ordinary, kind)).await;
    provoked.insert("REQUEST_ID_USED", again.unwrap_err());

    let image = session(scene, portal, Scenario::ImageOnly).await.unwrap();
    let text = scene.cast.frontend.consent_text(KIND).await.unwrap().text_sha256;
    grant(scene, portal, &image, text).await.unwrap();
    let refused = portal.request_copy_info(ask(scene.id(), &image, kind)).await;
    provoked.insert("NOT_PROVIDED", refused.unwrap_err());

    let represented = RequestCopyInfoRequest {
        capacity: Capacity::Representative.into(),
        ..ask(scene.id(), ordinary, kind)
    };
    let represented = portal.request_copy_info(represented).await;
    provoked.insert("REPRESENTED_NOT_SUPPORTED", represented.unwrap_err());

    scene.portal_places.let_commits_fail(true);
    let unrecorded = portal.request_copy_info(ask(scene.id(), ordinary, kind)).await;
    provoked.insert("UNAVAILABLE", unrecorded.unwrap_err());
    scene.portal_places.let_commits_fail(false);

    let suspend = SuspendProvisionRequest {
        act_id: scene.id(),
        kind: SUSPENDED.into(),
        reason: "sandbox".to_owned(),
    };
    scene.portal_admin().suspend_provision(suspend).await.unwrap();
    let suspended = portal
        .request_copy_info(ask(scene.id(), ordinary, SUSPENDED))
        .await;
    provoked.insert("PROVISION_SUSPENDED", suspended.unwrap_err());
}

/// Refusals of every portal call that a parsed call can get, with the id of the call.
pub(crate) async fn with_ids(scene: &Scene) -> Vec<(String, Status)> {
    let mut portal = scene.portal();
    let token = vec![1; 32];
    let mut refused = Vec::new();
    let id = scene.id();
    let begin = BeginLoginRequest {
        request_id: id.clone(),
        web_origin: String::new(),
    };
    refused.push((id, portal.begin_login(begin).await.unwrap_err()));
    let id = scene.id();
    let complete = CompleteLoginRequest {
        request_id: id.clone(),
        challenge_id: vec![1; 16],
        ..Default::default()
    };
    refused.push((id, portal.complete_login(complete).await.unwrap_err()));
    let id = scene.id();
    let logout = LogoutRequest {
        request_id: id.clone(),
        session_token: token.clone(),
    };
    refused.push((id, portal.logout(logout).await.unwrap_err()));
    let id = scene.id();
    let grant = GrantConsentRequest {
        request_id: id.clone(),
        ..Default::default()
    };
    refused.push((id, portal.grant_consent(grant).await.unwrap_err()));
    let id = scene.id();
    let withdraw = WithdrawConsentRequest {
        request_id: id.clone(),
        session_token: token.clone(),
        consent_id: scene.id(),
    };
    refused.push((id, portal.withdraw_consent(withdraw).await.unwrap_err()));
    let id = scene.id();
    refused.push((
        id.clone(),
        portal
            .request_copy_info(ask(id, &token, KIND.to_proto()))
            .await
            .unwrap_err(),
    ));
    refused
}

/// A message longer than the listener takes, and one of another type.
pub(crate) async fn unreadable(scene: &Scene) -> Vec<Status> {
    let long = BeginLoginRequest {
        request_id: scene.id(),
        web_origin: "x".repeat(80_000),
    };
    let too_long = scene.portal().begin_login(long).await.unwrap_err();
    // Its first field is a number where an id is due.
    let other = KindStatus { kind: 1, state: 0 };
    let mut grpc = Grpc::new(scene.portal_line());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/portal.v1.Portal/GetStatus");
    let codec: ProstCodec<KindStatus, ()> = ProstCodec::default();
    let other: Result<Response<()>, Status> = grpc.unary(Request::new(other), path, codec).await;
    vec![too_long, other.unwrap_err()]
}
