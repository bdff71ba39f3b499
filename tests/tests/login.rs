//! Login and sessions (clause 4.3.2) over the portal interface: what is bound to what, and when it ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

use std::time::Duration;

use common::{clock::Clock as _, identity::Role, terms::RequestKind};
use devkit::{
    card::VirtualCard,
    client::{Ids, Term},
    registers::Scenario,
};
use integration_tests::Pair;
use koseki_proto::portal::v1::{
    BeginLoginRequest, BeginLoginResponse, CompleteLoginRequest, CompleteLoginResponse,
    portal_client::PortalClient,
};
use portal_gateway::store::{Challenge, ChallengeStep};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

const KIND: RequestKind = RequestKind::CertificateRequest;

struct Door {
    pair: Pair,
    client: PortalClient<Channel>,
    ids: Ids,
}

impl Door {
    async fn new() -> Self {
        let pair = Pair::start_loaded().await;
        pair.cast().await;
        let channel = pair
            .access()
            .to_gateway(Role::PortalFrontend, "demo", &pair.reach().portal)
            .unwrap();
        Self {
            client: PortalClient::new(channel),
            ids: Ids::new(pair.clock.clone()),
            pair,
        }
    }

    async fn card(&self, scenario: Scenario) -> VirtualCard {
        self.pair.cast().await.person(scenario).unwrap().1
    }

    async fn begin(&mut self) -> BeginLoginResponse {
        let request = BeginLoginRequest {
            request_id: self.ids.next(),
            web_origin: "https://portal.example".to_owned(),
        };
        self.client.begin_login(request).await.unwrap().into_inner()
    }

    async fn complete(
        &mut self,
        challenge: &BeginLoginResponse,
        certificate: &[u8],
        signature: Vec<u8>,
    ) -> Result<CompleteLoginResponse, String> {
        let request = CompleteLoginRequest {
            request_id: self.ids.next(),
            challenge_id: challenge.challenge_id.clone(),
            certificate: certificate.to_vec(),
            signature,
        };
        self.client
            .complete_login(request)
            .await
            .map(tonic::Response::into_inner)
            .map_err(reason)
    }
}

fn reason(status: Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_else(|| format!("{:?}", status.code()))
}

/// The text says what the login is for, and the card signs all of it.
#[tokio::test]
async fn the_text_holds_everything_and_any_change_breaks_the_signature() {
    let mut door = Door::new().await;
    let card = door.card(Scenario::Ordinary).await;
    let challenge = door.begin().await;
    let text = String::from_utf8(challenge.text.clone()).unwrap();
    let names: Vec<&str> = text
        .lines()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "koseki-login-v1",
            "trust-domain",
            "frontend",
            "web-origin",
            "nonce",
            "beacon",
            "issued-at",
            "expires-at"
        ]
    );
    assert!(text.contains("frontend: demo\n") && text.contains("web-origin: https://portal.example\n"));

    for at in [0, text.len() / 2, text.len() - 1] {
        let challenge = door.begin().await;
        let mut other = challenge.text.clone();
        other[at] ^= 1;
        let signature = card.sign(&other).unwrap();
        let refused = door.complete(&challenge, &card.certificate_der, signature).await;
        assert_eq!(refused.unwrap_err(), "SIGNATURE_INVALID");
    }
    let challenge = door.begin().await;
    let other = door.begin().await;
    let signature = card.sign(&other.text).unwrap();
    let refused = door.complete(&challenge, &card.certificate_der, signature).await;
    assert_eq!(
        refused.unwrap_err(),
        "SIGNATURE_INVALID",
        "another challenge's text"
    );
    let challenge = door.begin().await;
    let another = door.card(Scenario::Plane2).await;
    let signature = another.sign(&challenge.text).unwrap();
    let refused = door.complete(&challenge, &card.certificate_der, signature).await;
    assert_eq!(
        refused.unwrap_err(),
        "SIGNATURE_INVALID",
        "another card's signature"
    );
}

/// In one batch as well: who is not the frontend that a challenge was made for does not get it, does not use it up, and is given nothing
/// in its place, whoever comes first.
#[tokio::test]
async fn a_challenge_is_its_frontends() {
    let pair = Pair::start_loaded().await;
    let now = pair.clock.now();
    for others_first in [true, false] {
        let challenge = |frontend: &str| Challenge {
            id: rand::random(),
            frontend: frontend.to_owned(),
            text: format!("of {frontend}").into_bytes(),
            expires_at: now.after(Duration::from_secs(60)),
        };
        let (ours, theirs) = (challenge("ours"), challenge("theirs"));
        let take = |id: [u8; 16], frontend: &str| ChallengeStep::Take {
            id: id.to_vec(),
            frontend: frontend.to_owned(),
        };
        let mut steps = vec![
            take(ours.id, "theirs"),
            take(ours.id, "ours"),
            take(theirs.id, "theirs"),
        ];
        let mut expected = vec![None, Some(ours.text.clone()), Some(theirs.text.clone())];
        if !others_first {
            steps.swap(0, 1);
            expected.swap(0, 1);
        }
        // Again in the same batch, and of an id that nobody has.
        steps.extend([take(ours.id, "ours"), take([9; 16], "ours")]);
        expected.extend([None, None]);
        let ours_id = ours.id;
        let kept = [ChallengeStep::Keep(ours), ChallengeStep::Keep(theirs)];
        pair.portal_store.challenges(&kept, now).await.unwrap();
        // By itself first: it does not use it up.
        let alone = [take(ours_id, "theirs")];
        assert_eq!(pair.portal_store.challenges(&alone, now).await.unwrap(), [None]);
        assert_eq!(pair.portal_store.challenges(&steps, now).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_challenge_is_used_once_and_expires() {
    let mut door = Door::new().await;
    let card = door.card(Scenario::Ordinary).await;
    let challenge = door.begin().await;
    let signature = card.sign(&challenge.text).unwrap();
    // Used up by a try that fails, too.
    let refused = door
        .complete(&challenge, &card.certificate_der, vec![0; 256])
        .await;
    assert_eq!(refused.unwrap_err(), "SIGNATURE_INVALID");
    let refused = door.complete(&challenge, &card.certificate_der, signature).await;
    assert_eq!(refused.unwrap_err(), "CHALLENGE_INVALID");

    let challenge = door.begin().await;
    let signature = card.sign(&challenge.text).unwrap();
    door.complete(&challenge, &card.certificate_der, signature.clone())
        .await
        .unwrap();
    let refused = door.complete(&challenge, &card.certificate_der, signature).await;
    assert_eq!(refused.unwrap_err(), "CHALLENGE_INVALID");

    let challenge = door.begin().await;
    let signature = card.sign(&challenge.text).unwrap();
    door.pair.clock.advance(Duration::from_secs(121));
    let refused = door.complete(&challenge, &card.certificate_der, signature).await;
    assert_eq!(refused.unwrap_err(), "CHALLENGE_INVALID");
}

#[tokio::test]
async fn cards_that_are_revoked_expired_or_not_cards_are_refused() {
    let mut door = Door::new().await;
    for (scenario, expected) in [
        (Scenario::RevokedCard, "CARD_REVOKED"),
        (Scenario::ExpiredCard, "CARD_EXPIRED"),
    ] {
        let card = door.card(scenario).await;
        let challenge = door.begin().await;
        let signature = card.sign(&challenge.text).unwrap();
        assert_eq!(
            door.complete(&challenge, &card.certificate_der, signature)
                .await
                .unwrap_err(),
            expected
        );
    }
    let card = door.card(Scenario::Ordinary).await;
    let challenge = door.begin().await;
    let signature = card.sign(&challenge.text).unwrap();
    let mut other = card.certificate_der.clone();
    let at = other.len() / 2;
    other[at] ^= 1;
    assert_eq!(
        door.complete(&challenge, &other, signature).await.unwrap_err(),
        "CARD_NOT_ACCEPTED"
    );
    let challenge = door.begin().await;
    assert_eq!(
        door.complete(&challenge, b"", vec![0; 256]).await.unwrap_err(),
        "CARD_NOT_ACCEPTED"
    );
}

#[tokio::test]
async fn a_session_ends_by_idling_by_age_and_at_logout() {
    let door = Door::new().await;
    let cast = door.pair.cast().await;
    let card = door.card(Scenario::Ordinary).await;
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let open = async || {
        let session = cast.frontend.login(&card).await.unwrap();
        let text = cast.frontend.consent_text(KIND).await.unwrap();
        cast.frontend
            .consent(&session, &text, Term::For(minutes(600)))
            .await
            .unwrap();
        cast.frontend.copy_info(&session, KIND, "").await.unwrap();
        session
    };
    let ended = async |session| {
        let refused = cast.frontend.copy_info(session, KIND, "").await.unwrap_err();
        assert_eq!(refused.reason(), Some("SESSION_INVALID"));
        let text = cast.frontend.consent_text(KIND).await.unwrap();
        let refused = cast
            .frontend
            .consent(session, &text, Term::OneTime)
            .await
            .unwrap_err();
        assert_eq!(refused.reason(), Some("SESSION_INVALID"));
    };
    let session = open().await;
    door.pair.clock.advance(minutes(11));
    cast.frontend.wait_until_providing().await.unwrap();
    ended(&session).await;

    let session = open().await;
    for _ in 0..3 {
        door.pair.clock.advance(minutes(9));
        cast.frontend.wait_until_providing().await.unwrap();
        cast.frontend.copy_info(&session, KIND, "").await.unwrap();
    }
    door.pair.clock.advance(minutes(4));
    cast.frontend.wait_until_providing().await.unwrap();
    ended(&session).await;

    let session = open().await;
    cast.frontend.logout(&session).await.unwrap();
    ended(&session).await;
    // Again, as after a lost reply.
    cast.frontend.logout(&session).await.unwrap();
}
