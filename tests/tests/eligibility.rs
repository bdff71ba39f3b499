//! The eligibility is signed and verified: what a gateway with a valid certificate and its keys, and one without the
//! keys, is refused by the registry side. Nothing of it is answered with a register.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

use std::time::Duration;

use common::{
    authorisation::Listener,
    clock::{Clock as _, Timestamp},
    eligibility::Signer,
    identity::{Role, TrustDomain},
    policy::Policy,
    terms::{LinkageCode, RequestKind},
    tls::{Connector, TlsMaterial},
};
use devkit::deployment::{GATEWAY_INSTANCE, PROVIDER_INSTANCE, TRUST_DOMAIN};
use integration_tests::{Pair, address, log::released};
use koseki_proto::koseki::linkage::v1::{
    ConsentRef, Eligibility, EligibilityItem, ItemResult, ProvideCopyInfoRequest, ProvideItem,
    item_result::Outcome, linkage_client::LinkageClient,
};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

/// The gateway's own files, in other hands.
struct Forger {
    pair: Pair,
    client: LinkageClient<Channel>,
    signer: Signer,
    policy: Policy,
    code: LinkageCode,
    sequence: u64,
}

impl Forger {
    async fn new() -> Self {
        let pair = Pair::start_loaded().await;
        let config: portal_gateway::config::Config =
            common::config::load(&pair.deployment.gateway_config()).unwrap();
        let material = TlsMaterial::load(&config.tls).unwrap();
        let domain = TrustDomain::parse(TRUST_DOMAIN).unwrap();
        let address = address(&pair.provider, Listener::Linkage);
        let clock = pair.clock.clone();
        let connector = Connector::new(
            &material,
            &domain,
            &address,
            Role::KosekiProvider,
            PROVIDER_INSTANCE,
            clock,
        )
        .unwrap();
        let linkages = std::fs::read_to_string(pair.deployment.linkages()).unwrap();
        // Of the first person of the data set, `ordinary`.
        let line: serde_json::Value = serde_json::from_str(linkages.lines().next().unwrap()).unwrap();
        Self {
            client: LinkageClient::new(connector.channel()),
            signer: Signer::load(&config.eligibility.private_key, &config.eligibility.key_id).unwrap(),
            policy: Policy::load(&config.policy_file).unwrap(),
            code: LinkageCode::parse_text(line["linkage_code"].as_str().unwrap()).unwrap(),
            // Above whatever the real gateway has used.
            sequence: 1_000_000,
            pair,
        }
    }

    /// An eligibility with everything in order.
    fn honest(&mut self) -> Eligibility {
        self.sequence += 1;
        let now = self.pair.clock.now();
        let text = self
            .policy
            .text_hashes(RequestKind::CertificateRequest)
            .next()
            .unwrap();
        let item = EligibilityItem {
            request_id: devkit::client::Ids::new(self.pair.clock.clone()).next(),
            kind: RequestKind::CertificateRequest.to_proto().into(),
            procedure: String::new(),
            linkage_handle: self.code.handle().expose().to_vec(),
            session_sha256: vec![1; 32],
            logged_in_at: Some(now.to_proto()),
            consent: Some(ConsentRef {
                consent_id: common::terms::ActId::random().unwrap().to_string(),
                text_sha256: text.to_vec(),
                given_at: Some(now.to_proto()),
                expires_at: Some(now.after(Duration::from_secs(600)).to_proto()),
            }),
            cover: false,
        };
        Eligibility {
            gateway_instance: GATEWAY_INSTANCE.to_owned(),
            provider_log: PROVIDER_INSTANCE.to_owned(),
            sequence: self.sequence,
            policy_sha256: self.policy.sha256.to_vec(),
            signed_at: Some(now.to_proto()),
            items: vec![item],
        }
    }

    fn request(&self, eligibility: &Eligibility) -> ProvideCopyInfoRequest {
        let items = eligibility.items.iter().map(|item| ProvideItem {
            request_id: item.request_id.clone(),
            linkage_code: self.code.expose().to_vec(),
        });
        let (envelope, _) = self.signer.sign(eligibility);
        ProvideCopyInfoRequest {
            eligibility: Some(envelope),
            items: items.collect(),
        }
    }

    async fn send(&mut self, request: ProvideCopyInfoRequest) -> Result<Vec<ItemResult>, Status> {
        Ok(self.client.provide_copy_info(request).await?.into_inner().results)
    }

    async fn refused(&mut self, request: ProvideCopyInfoRequest) -> String {
        let status = self.send(request).await.unwrap_err();
        status
            .get_details_error_info()
            .map(|info| info.reason)
            .unwrap_or_else(|| format!("{:?}", status.code()))
    }
}

/// What is lied about, the reason that must come back, and the lie.
type Lie = (&'static str, &'static str, fn(&mut Eligibility, Timestamp));
/// What is altered after signing, and how.
type Alteration = (&'static str, fn(&mut ProvideCopyInfoRequest));

fn is_provided(results: &[ItemResult]) -> bool {
    matches!(
        results,
        [ItemResult {
            outcome: Some(Outcome::Provided(_)),
            ..
        }]
    )
}

#[tokio::test]
async fn what_is_not_the_gateways_fresh_word_is_refused() {
    let mut forger = Forger::new().await;
    let honest = forger.honest();
    assert!(
        is_provided(&forger.send(forger.request(&honest)).await.unwrap()),
        "the baseline is provided"
    );
    let database = forger.pair.deployment.provider_database();
    let before = released(&database).await;

    let now = forger.pair.clock.now();
    let earlier = |by| Some(Timestamp::from_unix_ms(now.unix_ms() - by).to_proto());
    let lies: [Lie; 12] = [
        ("another gateway's name", "ELIGIBILITY_REFUSED", |lie, _| {
            lie.gateway_instance = "gateway-2".to_owned()
        }),
        ("another provider's log", "ELIGIBILITY_REFUSED", |lie, _| {
            lie.provider_log = "provider-2".to_owned()
        }),
        ("another policy", "POLICY_MISMATCH", |lie, _| {
            lie.policy_sha256[0] ^= 1
        }),
        ("a clock that is ahead", "CLOCK_SKEW", |lie, now| {
            lie.signed_at = Some(now.after(Duration::from_secs(60)).to_proto());
        }),
        ("no time", "MALFORMED", |lie, _| lie.signed_at = None),
        ("no sequence", "MALFORMED", |lie, _| lie.sequence = 0),
        ("another person's handle", "ELIGIBILITY_REFUSED", |lie, _| {
            lie.items[0].linkage_handle[0] ^= 1
        }),
        ("no consent", "ELIGIBILITY_REFUSED", |lie, _| {
            lie.items[0].consent = None
        }),
        ("a consent to another text", "ELIGIBILITY_REFUSED", |lie, _| {
            lie.items[0].consent.as_mut().unwrap().text_sha256[0] ^= 1;
        }),
        ("a consent to another kind", "ELIGIBILITY_REFUSED", |lie, _| {
            lie.items[0].kind = RequestKind::ProvisionCodeRequest.to_proto().into();
        }),
        ("no login", "ELIGIBILITY_REFUSED", |lie, _| {
            lie.items[0].logged_in_at = None
        }),
        (
            "a procedure that the policy does not have",
            "MALFORMED",
            |lie, _| {
                lie.items[0].procedure = "everything".to_owned();
            },
        ),
    ];
    for (what, reason, lie) in lies {
        let mut eligibility = forger.honest();
        lie(&mut eligibility, now);
        let request = forger.request(&eligibility);
        assert_eq!(forger.refused(request).await, reason, "{what}");
    }

    let mut stale = forger.honest();
    stale.signed_at = earlier(60_000);
    assert_eq!(
        forger.refused(forger.request(&stale)).await,
        "ELIGIBILITY_REFUSED",
        "stale"
    );
    let mut old_login = forger.honest();
    old_login.items[0].logged_in_at = earlier(24 * 3_600_000);
    assert_eq!(
        forger.refused(forger.request(&old_login)).await,
        "ELIGIBILITY_REFUSED",
        "an old login"
    );
    let mut expired = forger.honest();
    expired.items[0].consent.as_mut().unwrap().expires_at = earlier(60_000);
    assert_eq!(
        forger.refused(forger.request(&expired)).await,
        "ELIGIBILITY_REFUSED",
        "an expired consent"
    );

    let eligibility = forger.honest();
    let altered: [Alteration; 5] = [
        ("no eligibility's signature", |request| {
            request.eligibility.as_mut().unwrap().signature.clear()
        }),
        ("altered after signing", |request| {
            let payload = &mut request.eligibility.as_mut().unwrap().payload;
            *payload.last_mut().unwrap() ^= 1;
        }),
        ("another payload type", |request| {
            request.eligibility.as_mut().unwrap().payload_type.push('x')
        }),
        ("a key that is not in the list", |request| {
            request.eligibility.as_mut().unwrap().key_id.push('9')
        }),
        ("another code than was signed for", |request| {
            request.items[0].linkage_code[0] ^= 1
        }),
    ];
    for (what, alter) in altered {
        let mut request = forger.request(&eligibility);
        alter(&mut request);
        assert_eq!(forger.refused(request).await, "ELIGIBILITY_REFUSED", "{what}");
    }
    let mut other_id = forger.request(&eligibility);
    other_id.items[0].request_id = devkit::client::Ids::new(forger.pair.clock.clone()).next();
    assert_eq!(
        forger.refused(other_id).await,
        "MALFORMED",
        "another request id than was signed for"
    );
    let mut nothing = forger.request(&eligibility);
    nothing.eligibility = None;
    assert_eq!(forger.refused(nothing).await, "MALFORMED", "no eligibility");
    assert_eq!(released(&database).await, before, "something was released");
}

#[tokio::test]
async fn a_batch_and_a_request_id_are_used_once() {
    let mut forger = Forger::new().await;
    let eligibility = forger.honest();
    let request = forger.request(&eligibility);
    assert!(is_provided(&forger.send(request.clone()).await.unwrap()));
    assert_eq!(forger.refused(request).await, "SEQUENCE_USED");

    let mut again = forger.honest();
    again.items[0].request_id = eligibility.items[0].request_id.clone();
    let results = forger.send(forger.request(&again)).await.unwrap();
    assert!(matches!(
        results.as_slice(),
        [ItemResult {
            outcome: Some(Outcome::NotLookedUp(_)),
            ..
        }]
    ));

    // Two items with one id in one batch: the first has it.
    let mut twice = forger.honest();
    let item = twice.items[0].clone();
    twice.items.push(item);
    let results = forger.send(forger.request(&twice)).await.unwrap();
    let [first, second] = results.as_slice() else {
        panic!("{} results", results.len())
    };
    assert!(matches!(first.outcome, Some(Outcome::Provided(_))));
    assert!(matches!(second.outcome, Some(Outcome::NotLookedUp(_))));
}

/// A cover item is never provided, whatever its code leads to.
#[tokio::test]
async fn a_cover_item_is_never_provided() {
    let mut forger = Forger::new().await;
    let mut eligibility = forger.honest();
    eligibility.items[0].cover = true;
    let results = forger.send(forger.request(&eligibility)).await.unwrap();
    assert!(matches!(
        results.as_slice(),
        [ItemResult {
            outcome: Some(Outcome::NotProvided(_)),
            ..
        }]
    ));
}
