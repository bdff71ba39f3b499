//! Certificates, keys, signatures and revocation lists that OpenSSL makes, with the profile of the real ones: they log in
//! over the portal interface, and each departure from the profile is refused for its own reason. It needs `openssl`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

mod authority;

use std::collections::BTreeSet;

use authority::{Authority, CardSpec, KEYS, Made};
use common::{
    card::{CardFault, CardRoots},
    clock::{Clock as _, SystemClock},
    identity::Role,
};
use devkit::{client::Ids, deployment::Deployment};
use integration_tests::{Pair, hooks::Places};
use koseki_proto::portal::v1::{BeginLoginRequest, CompleteLoginRequest, portal_client::PortalClient};
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

/// Logs in with what OpenSSL made.
struct Door {
    client: PortalClient<Channel>,
    ids: Ids,
}

impl Door {
    /// Waits until the gateway is ready.
    async fn of(pair: &Pair) -> Self {
        pair.cast().await;
        let access = pair.access();
        let channel = access.to_gateway(Role::PortalFrontend, "demo", &pair.reach().portal);
        Self {
            client: PortalClient::new(channel.unwrap()),
            ids: Ids::new(pair.clock.clone()),
        }
    }

    /// The reason of the refusal, if it is one.
    async fn logs_in(&mut self, card: &Made) -> Option<String> {
        let begin = BeginLoginRequest {
            request_id: self.ids.next(),
            web_origin: "https://portal.example".to_owned(),
        };
        let challenge = self.client.begin_login(begin).await.unwrap().into_inner();
        let complete = CompleteLoginRequest {
            request_id: self.ids.next(),
            challenge_id: challenge.challenge_id.clone(),
            certificate: card.certificate_der(),
            signature: card.sign(&challenge.text),
        };
        let refused = self.client.complete_login(complete).await.err()?;
        Some(refused.get_details_error_info().expect("a reason").reason)
    }
}

/// Lets both sides trust an authority, beside the deployment's own.
fn trust(deployment: &Deployment, authority: &Authority, name: &str, list: &[u8]) {
    for side in [deployment.provider(), deployment.gateway()] {
        std::fs::copy(authority.root(), side.join(format!("card-roots/{name}.pem"))).unwrap();
        std::fs::write(side.join(format!("card-crls/{name}.crl")), list).unwrap();
    }
}

/// Every kind of key of the closed set, in the root and in the card.
#[tokio::test]
async fn the_real_profile_made_by_openssl_logs_in() {
    let authorities = KEYS.map(Authority::new);
    let pair = Pair::start_prepared([&Places::default(), &Places::default()], |deployment| {
        for (at, authority) in authorities.iter().enumerate() {
            trust(deployment, authority, &format!("openssl-{at}"), &authority.list());
        }
    })
    .await;
    let mut door = Door::of(&pair).await;
    for authority in &authorities {
        for key in KEYS {
            let card = authority.issue(&CardSpec {
                key,
                ..CardSpec::real()
            });
            assert_eq!(door.logs_in(&card).await, None, "{key:?}");
        }
    }
}

#[tokio::test]
async fn each_departure_made_by_openssl_is_refused_for_its_own_reason() {
    use CardFault::NotAccepted;

    let authority = Authority::new(KEYS[0]);
    let same_name = Authority::new(KEYS[0]);
    let revoked = authority.issue(&CardSpec::real());
    authority.revoke(&revoked);
    let list = authority.list();
    let pair = Pair::start_prepared([&Places::default(), &Places::default()], |deployment| {
        trust(deployment, &authority, "openssl", &list);
    })
    .await;
    let roots = CardRoots::load(&pair.deployment.gateway().join("card-roots")).unwrap();
    let accepted = BTreeSet::from(["1.2.392.200149.8.5.1.3.30".to_owned()]);
    let mut door = Door::of(&pair).await;

    assert_eq!(door.logs_in(&authority.issue(&CardSpec::real())).await, None);
    assert_eq!(door.logs_in(&revoked).await.as_deref(), Some("CARD_REVOKED"));

    let real = CardSpec::real;
    let key = |key: &'static [&'static str]| CardSpec { key, ..real() };
    let signed = |digest, options| CardSpec {
        digest,
        options,
        ..real()
    };
    let extended = |key_usage, policies, more| CardSpec {
        key_usage,
        policies,
        more,
        ..real()
    };
    let (usage, policies) = (real().key_usage, real().policies);
    let key_refused = NotAccepted("not an accepted key");
    let usage_refused = NotAccepted("its key usage is not exactly digitalSignature");
    let policy_refused = NotAccepted("its certificate policy is not an accepted one");
    let algorithm_refused = NotAccepted("not signed with an accepted algorithm");
    for (spec, expected) in [
        // The signing certificate of the same card.
        (
            extended(
                "critical,nonRepudiation",
                "critical,1.2.392.200149.8.5.1.1.20",
                "",
            ),
            usage_refused,
        ),
        (
            extended(usage, "critical,1.2.392.200149.8.5.1.1.20", ""),
            policy_refused,
        ),
        (
            extended(
                usage,
                "critical,1.2.392.200149.8.5.1.3.30,1.2.392.200149.8.5.1.1.20",
                "",
            ),
            policy_refused,
        ),
        (extended(usage, "critical,2.5.29.32.0", ""), policy_refused),
        (
            extended(usage, "1.2.392.200149.8.5.1.3.30", ""),
            NotAccepted("its certificate policies are not critical"),
        ),
        (
            extended("digitalSignature", policies, ""),
            NotAccepted("its key usage is not critical"),
        ),
        (
            extended("critical,digitalSignature,keyEncipherment", policies, ""),
            usage_refused,
        ),
        (
            extended(usage, policies, "basicConstraints=critical,CA:TRUE"),
            NotAccepted("a CA certificate"),
        ),
        (
            extended(usage, policies, "1.2.392.200149.99.1=critical,DER:0500"),
            NotAccepted("a critical extension that is not processed"),
        ),
        (
            extended(usage, policies, "nameConstraints=critical,permitted;DNS:example"),
            NotAccepted("a critical extension that is not processed"),
        ),
        (key(&["RSA", "rsa_keygen_bits:1024"]), key_refused),
        (key(&["RSA", "rsa_keygen_bits:3072"]), key_refused),
        (
            key(&["RSA", "rsa_keygen_bits:2048", "rsa_keygen_pubexp:3"]),
            key_refused,
        ),
        (key(&["EC", "ec_paramgen_curve:secp256k1"]), key_refused),
        (key(&["EC", "ec_paramgen_curve:P-521"]), key_refused),
        (signed("sha1", &[]), algorithm_refused),
        (signed("sha384", &[]), algorithm_refused),
        (
            signed("sha256", &["-sigopt", "rsa_padding_mode:pss"]),
            algorithm_refused,
        ),
        (
            CardSpec {
                days: (-400, -1),
                ..real()
            },
            CardFault::Expired,
        ),
        (
            CardSpec {
                days: (1, 400),
                ..real()
            },
            NotAccepted("not valid yet"),
        ),
    ] {
        let card = authority.issue(&spec);
        let verified = roots.verify(&card.certificate_der(), &accepted, SystemClock::new().now());
        assert_eq!(verified.map(|_| ()), Err(expected), "{spec:?}");
        let reason = match expected {
            CardFault::Expired => "CARD_EXPIRED",
            _ => "CARD_NOT_ACCEPTED",
        };
        assert_eq!(door.logs_in(&card).await.as_deref(), Some(reason), "{spec:?}");
    }
    let card = same_name.issue(&CardSpec::real());
    let verified = roots.verify(&card.certificate_der(), &accepted, SystemClock::new().now());
    let expected = Err(NotAccepted("not issued by a pinned root"));
    assert_eq!(verified.map(|_| ()), expected);
    assert_eq!(door.logs_in(&card).await.as_deref(), Some("CARD_NOT_ACCEPTED"));
}

/// Signatures of a card that are not the one that counts of its key.
#[tokio::test]
async fn only_the_one_signature_of_a_key_counts() {
    let authority = Authority::new(KEYS[0]);
    let list = authority.list();
    let pair = Pair::start_prepared([&Places::default(), &Places::default()], |deployment| {
        trust(deployment, &authority, "openssl", &list);
    })
    .await;
    let mut door = Door::of(&pair).await;
    let [rsa, p256, p384] = KEYS.map(|key| {
        authority.issue(&CardSpec {
            key,
            ..CardSpec::real()
        })
    });
    for (card, digest, options) in [
        (&rsa, "-sha1", &[][..]),
        (&rsa, "-sha512", &[]),
        (&rsa, "-sha256", &["-sigopt", "rsa_padding_mode:pss"]),
        (&p256, "-sha384", &[]),
        (&p384, "-sha256", &[]),
    ] {
        let card = card.signing_with(digest, options);
        let reason = door.logs_in(&card).await;
        assert_eq!(
            reason.as_deref(),
            Some("SIGNATURE_INVALID"),
            "{digest} {options:?}"
        );
    }
}
