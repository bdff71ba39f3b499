//! A gateway that lies: what someone with a valid `portal-gateway` certificate and its keys can say. Each lie is refused for
//! its own reason, nothing is provided for it, and a neighbour in the same batch that tells the truth is answered wherever
//! the lie is about one item. What cannot be found out is pinned on the gateway (docs/threat-model.md).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

use std::{path::Path, time::Duration};

use common::{
    authorisation::Listener,
    clock::{Clock as _, Timestamp},
    identity::TrustDomain,
    terms::{LinkageCode, RequestKind},
};
use devkit::{
    card::{CardProfile, CardRoot, SIGNING_POLICY_OID, VirtualCard},
    client::Term,
    deployment::Deployment,
    registers::Scenario,
};
use integration_tests::{
    Pair, address,
    forger::{Forger, KIND, Line, Login, proof},
    hooks::Places,
    log::{self, released},
};
use koseki_proto::koseki::{
    evidence::v1::Outcome,
    linkage::v1::{Eligibility, LoginProof, ProvideCopyInfoRequest},
};
use time::OffsetDateTime;

/// Someone whose requests are in order.
const NEIGHBOUR: Scenario = Scenario::Plane2;

/// What has to be there for a lie.
struct Scene {
    pair: Pair,
    forger: Forger,
    /// A root that both sides have pinned, and whose key the test has.
    root: CardRoot,
    card: VirtualCard,
    code: LinkageCode,
    login: Login,
    /// Someone whose requests are in order.
    neighbour: (LinkageCode, Login),
}

impl Scene {
    async fn new() -> Self {
        let root = CardRoot::new().unwrap();
        let prepare = |deployment: &Deployment| pin(deployment, &root);
        let pair = Pair::start_prepared([&Places::default(), &Places::default()], prepare)
            .await
            .load()
            .await;
        let provider = address(&pair.provider, Listener::Linkage);
        let forger = Forger::new(&pair.deployment, &provider, pair.clock.clone());
        let cast = pair.cast().await;
        let (_, card) = cast.person(Scenario::Ordinary).unwrap();
        let (_, other) = cast.person(NEIGHBOUR).unwrap();
        let code = forger.code(&card);
        let login = forger.login(&card).await;
        let neighbour = (forger.code(&other), forger.login(&other).await);
        Self {
            pair,
            forger,
            root,
            card,
            code,
            login,
            neighbour,
        }
    }

    /// A request in which all is true.
    fn honest(&self) -> Line {
        self.forger.honest(&self.code, &self.login)
    }

    fn database(&self) -> std::path::PathBuf {
        self.pair.deployment.provider_database()
    }

    /// Sends a lie with a true request before and behind it: both are answered, and the lie comes to this, for this cause.
    async fn expect(&mut self, what: &str, lie: Line, told: &str, cause: &str) {
        let [before, behind] = [(); 2].map(|()| self.forger.honest(&self.neighbour.0, &self.neighbour.1));
        let id = lie.item.request_id.clone();
        let results = self.forger.ask(&[before, lie, behind]).await;
        assert_eq!(results.unwrap(), ["PROVIDED", told, "PROVIDED"], "{what}");
        let (_, entry) = log::provision(&self.database(), &id).await.unwrap();
        assert_ne!(entry.outcome(), Outcome::Released, "{what}");
        assert_eq!(entry.restricted.unwrap().cause, cause, "{what}");
    }

    /// Time goes on, and the neighbour logs in again.
    async fn wait(&mut self, time: Duration) {
        self.pair.clock.advance(time);
        self.pair.cast().await;
        let card = card_of(self, NEIGHBOUR).await;
        self.neighbour.1 = self.forger.login(&card).await;
    }

    /// A login of this card with this text.
    async fn login_with(
        &self,
        card: &VirtualCard,
        change: impl FnOnce(&mut common::login_text::LoginText),
    ) -> LoginProof {
        let mut text = self.forger.login_text().await;
        change(&mut text);
        proof(card, &text.to_bytes())
    }
}

/// Pins a root on both sides, with a list that revokes nothing.
fn pin(deployment: &Deployment, root: &CardRoot) {
    for side in [deployment.provider(), deployment.gateway()] {
        std::fs::write(side.join("card-roots/other-root.pem"), root.certificate_pem()).unwrap();
        write_list(&side, root, &[], 1, Timestamp::from_unix_ms(now_ms()));
    }
}

fn write_list(side: &Path, root: &CardRoot, revoked: &[Vec<u8>], number: u64, now: Timestamp) {
    let now = OffsetDateTime::from_unix_timestamp(now.unix_ms() / 1_000).unwrap();
    let from = now - time::Duration::minutes(5) + time::Duration::seconds(i64::try_from(number).unwrap());
    let list = root
        .crl(revoked, number, from, now + time::Duration::days(7))
        .unwrap();
    let (new, place) = (side.join("card-crls/new"), side.join("card-crls/other-root.crl"));
    std::fs::write(&new, list).unwrap();
    std::fs::rename(new, place).unwrap();
}

fn now_ms() -> i64 {
    common::clock::SystemClock::new().now().unix_ms()
}

/// What is lied about, the reason that must come back, and the lie.
type Lie = (&'static str, &'static str, fn(&mut Eligibility, Timestamp));
/// What is altered after signing, and how.
type Alteration = (&'static str, fn(&mut ProvideCopyInfoRequest));

fn earlier(now: Timestamp, by: Duration) -> Option<prost_types::Timestamp> {
    Some(now.before(by).to_proto())
}

const MINUTE: Duration = Duration::from_secs(60);

/// What is wrong with the word as a whole, or would be said by no gateway about any request, refuses the batch.
#[tokio::test]
async fn what_is_not_the_gateways_fresh_word_is_refused() {
    let mut scene = Scene::new().await;
    let honest = scene.honest();
    assert_eq!(
        scene.forger.ask(&[honest]).await.unwrap(),
        ["PROVIDED"],
        "the baseline"
    );
    let before = released(&scene.database()).await;

    let lies: [Lie; 16] = [
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
            lie.signed_at = Some(now.after(MINUTE).to_proto());
        }),
        ("a word that is stale", "ELIGIBILITY_REFUSED", |lie, now| {
            lie.signed_at = earlier(now, MINUTE);
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
        ("a consent that has expired", "ELIGIBILITY_REFUSED", |lie, now| {
            lie.items[0].consent.as_mut().unwrap().expires_at = earlier(now, MINUTE);
        }),
        ("no login", "ELIGIBILITY_REFUSED", |lie, _| {
            lie.items[0].logged_in_at = None
        }),
        ("a login of yesterday", "ELIGIBILITY_REFUSED", |lie, now| {
            lie.items[0].logged_in_at = earlier(now, 24 * 60 * MINUTE);
        }),
        ("no proof's hash", "ELIGIBILITY_REFUSED", |lie, _| {
            lie.items[0].login_proof_sha256.clear()
        }),
        (
            "a procedure that the policy does not have",
            "MALFORMED",
            |lie, _| {
                lie.items[0].procedure = "everything".to_owned();
            },
        ),
    ];
    let now = scene.pair.clock.now();
    for (what, reason, lie) in lies {
        let lines = [scene.honest()];
        let mut eligibility = scene.forger.eligibility(&lines);
        lie(&mut eligibility, now);
        let request = scene.forger.request(&eligibility, &lines);
        assert_eq!(scene.forger.send(request).await.unwrap_err(), reason, "{what}");
    }

    let altered: [Alteration; 6] = [
        ("no signature", |request| {
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
        ("an item that was not signed for", |request| {
            let item = request.items[0].clone();
            request.items.push(item);
        }),
    ];
    let lines = [scene.honest()];
    let eligibility = scene.forger.eligibility(&lines);
    for (what, alter) in altered {
        let mut request = scene.forger.request(&eligibility, &lines);
        alter(&mut request);
        let reason = scene.forger.send(request).await.unwrap_err();
        let expected = if what.starts_with("an item") {
            "MALFORMED"
        } else {
            "ELIGIBILITY_REFUSED"
        };
        assert_eq!(reason, expected, "{what}");
    }
    let mut other_id = scene.forger.request(&eligibility, &lines);
    other_id.items[0].request_id = scene.honest().item.request_id;
    assert_eq!(scene.forger.send(other_id).await.unwrap_err(), "MALFORMED");
    let mut nothing = scene.forger.request(&eligibility, &lines);
    nothing.eligibility = None;
    assert_eq!(scene.forger.send(nothing).await.unwrap_err(), "MALFORMED");
    assert_eq!(
        released(&scene.database()).await,
        before,
        "something was released"
    );
}

#[tokio::test]
async fn a_batch_and_a_request_id_are_used_once() {
    let mut scene = Scene::new().await;
    let lines = [scene.honest()];
    let eligibility = scene.forger.eligibility(&lines);
    let request = scene.forger.request(&eligibility, &lines);
    assert_eq!(scene.forger.send(request.clone()).await.unwrap(), ["PROVIDED"]);
    assert_eq!(scene.forger.send(request).await.unwrap_err(), "SEQUENCE_USED");
    let results = scene.forger.ask(&lines).await.unwrap();
    assert_eq!(results, ["REQUEST_ID_USED"]);
    // Two items with one id in one batch: the first has it.
    let twice = scene.honest();
    let results = scene.forger.ask(&[twice.clone(), twice]).await.unwrap();
    assert_eq!(results, ["PROVIDED", "REQUEST_ID_USED"]);
}

/// A cover item is never provided, whatever its code leads to.
#[tokio::test]
async fn a_cover_item_is_never_provided() {
    let mut scene = Scene::new().await;
    let mut cover = scene.honest();
    cover.eligible.cover = true;
    scene
        .expect("a code that leads somewhere", cover, "NOT_PROVIDED", "COVER")
        .await;
    let cover = scene.forger.cover();
    scene
        .expect("as a gateway sends it", cover, "NOT_PROVIDED", "COVER")
        .await;
}

/// A login is proved by the card, to the registry side itself.
#[tokio::test]
async fn a_login_that_was_not_is_refused() {
    let mut scene = Scene::new().await;
    let foreign = CardRoot::new().unwrap();
    let profile = CardProfile::user_authentication("0000000000000001");
    let mut signing = profile.clone();
    signing.policy_oid = Some(SIGNING_POLICY_OID.to_vec());
    let mut authority = profile.clone();
    authority.is_ca = true;
    let cast = scene.pair.cast().await;
    let cards = [
        (
            "the signing certificate",
            scene.root.issue(&signing).unwrap(),
            "LOGIN_REFUSED",
            "LOGIN_CARD_NOT_ACCEPTED",
        ),
        (
            "an authority's certificate",
            scene.root.issue(&authority).unwrap(),
            "LOGIN_REFUSED",
            "LOGIN_CARD_NOT_ACCEPTED",
        ),
        (
            "a root of the same name",
            foreign.issue(&profile).unwrap(),
            "LOGIN_REFUSED",
            "LOGIN_CARD_NOT_ACCEPTED",
        ),
        (
            "an expired card",
            cast.person(Scenario::ExpiredCard).unwrap().1,
            "CARD_EXPIRED",
            "LOGIN_CARD_EXPIRED",
        ),
        (
            "a revoked card",
            cast.person(Scenario::RevokedCard).unwrap().1,
            "CARD_REVOKED",
            "LOGIN_CARD_REVOKED",
        ),
    ];
    for (what, card, told, cause) in cards {
        let mut lie = scene.honest();
        lie.prove(scene.login_with(&card, |_| {}).await);
        scene.expect(what, lie, told, cause).await;
    }

    let mut lie = scene.honest();
    let mut forged = scene.login.proof.clone();
    forged.signature[0] ^= 1;
    lie.prove(forged);
    scene
        .expect(
            "a signature that is not the card's",
            lie,
            "LOGIN_REFUSED",
            "LOGIN_SIGNATURE",
        )
        .await;
    let mut lie = scene.honest();
    let mut forged = scene.login.proof.clone();
    forged.text = scene.forger.login_text().await.to_bytes();
    lie.prove(forged);
    scene
        .expect(
            "a text that was not signed",
            lie,
            "LOGIN_REFUSED",
            "LOGIN_SIGNATURE",
        )
        .await;

    // Bytes and hash of two different logins, both true.
    let another = scene.forger.login(&scene.card).await;
    let mut lie = scene.honest();
    lie.item.login_proof = Some(another.proof.clone());
    scene
        .expect(
            "another login's proof",
            lie,
            "LOGIN_REFUSED",
            "LOGIN_PROOF_ALTERED",
        )
        .await;
    let mut lie = scene.honest();
    lie.item.login_proof.as_mut().unwrap().certificate.push(0);
    scene
        .expect("a byte more", lie, "LOGIN_REFUSED", "LOGIN_PROOF_ALTERED")
        .await;

    // A login belongs to one session, and not to another one later.
    let honest = scene.honest();
    assert_eq!(scene.forger.ask(&[honest]).await.unwrap(), ["PROVIDED"]);
    let mut lie = scene.honest();
    lie.eligible.session_sha256 = another.session_sha256.to_vec();
    scene
        .expect("another session", lie, "LOGIN_REFUSED", "LOGIN_ANOTHER_SESSION")
        .await;
}

/// What the card signed says what the login is for.
#[tokio::test]
async fn a_text_that_says_something_else_is_refused() {
    let mut scene = Scene::new().await;
    let card = VirtualCard::from_pem(&scene.card.certificate_pem, &scene.card.key_pem).unwrap();
    type Change = fn(&mut common::login_text::LoginText);
    let changes: [(&str, &str, Change); 6] = [
        ("another deployment", "LOGIN_TRUST_DOMAIN", |text| {
            text.trust_domain = TrustDomain::parse("other.example").unwrap()
        }),
        ("an invented beacon", "LOGIN_BEACON", |text| text.beacon = [7; 32]),
        ("a beacon of another key", "LOGIN_BEACON", |text| {
            text.beacon[31] ^= 1
        }),
        ("a text that could be signed for longer", "LOGIN_TIMES", |text| {
            text.expires_at = text.issued_at.after(Duration::from_secs(121))
        }),
        ("a text that ended before it began", "LOGIN_TIMES", |text| {
            text.expires_at = text.issued_at.before(Duration::from_secs(1))
        }),
        ("a frontend that cannot be", "LOGIN_TEXT", |text| {
            text.frontend = "a/b".to_owned()
        }),
    ];
    for (what, cause, change) in changes {
        let mut lie = scene.honest();
        lie.prove(scene.login_with(&card, change).await);
        scene.expect(what, lie, "LOGIN_REFUSED", cause).await;
    }
    let plain = String::from_utf8(scene.forger.login_text().await.to_bytes()).unwrap();
    for (what, text) in [
        ("a line more", format!("{plain}note: x\n")),
        ("a line less", plain.replace("frontend: demo\n", "")),
        ("nothing", String::new()),
        ("another version", plain.replace("login-v1", "login-v2")),
    ] {
        let mut lie = scene.honest();
        lie.prove(proof(&card, text.as_bytes()));
        scene.expect(what, lie, "LOGIN_REFUSED", "LOGIN_TEXT").await;
    }

    // The session is said to be from before the login; and, five minutes later, of now.
    let mut lie = scene.honest();
    lie.eligible.logged_in_at = earlier(scene.login.at, MINUTE);
    scene
        .expect("a session from before", lie, "LOGIN_REFUSED", "LOGIN_TIMES")
        .await;
    scene.wait(5 * MINUTE).await;
    let mut lie = scene.honest();
    lie.eligible.logged_in_at = Some(scene.pair.clock.now().to_proto());
    scene
        .expect("a session from long after", lie, "LOGIN_REFUSED", "LOGIN_TIMES")
        .await;
}

async fn card_of(scene: &Scene, scenario: Scenario) -> VirtualCard {
    scene.pair.cast().await.person(scenario).unwrap().1
}

/// However the gateway dates it, a login is no older than the beacon in it allows.
#[tokio::test]
async fn an_old_beacon_is_refused() {
    let mut scene = Scene::new().await;
    let old = scene.forger.login_text().await.beacon;
    let kept = scene.honest();
    assert_eq!(
        scene.forger.ask(std::slice::from_ref(&kept)).await.unwrap(),
        ["PROVIDED"]
    );

    scene.wait(3 * MINUTE).await;
    let mut lie = scene.honest();
    let text = scene.login_with(&scene.card, |text| text.beacon = old).await;
    lie.prove(text);
    lie.eligible.logged_in_at = Some(scene.pair.clock.now().to_proto());
    scene
        .expect(
            "a beacon of three minutes ago",
            lie,
            "LOGIN_REFUSED",
            "LOGIN_OLD_BEACON",
        )
        .await;

    // All that a gateway can stretch is stretched: the text is as late as its beacon can be in use and lasts as long as it
    // may, and the session began after its end. The beacon counts all the same.
    let text = scene.forger.login_text().await;
    let began = text.issued_at.unix_ms() / 30_000 * 30_000;
    let issued_at = Timestamp::from_unix_ms(began).after(Duration::from_secs(90));
    scene
        .pair
        .clock
        .advance(issued_at.since(scene.pair.clock.now()) + Duration::from_secs(1));
    let expires_at = issued_at.after(Duration::from_secs(120));
    let text = common::login_text::LoginText {
        issued_at,
        expires_at,
        ..text
    };
    let stretched = Login {
        proof: proof(&scene.card, &text.to_bytes()),
        session_sha256: [7; 32],
        at: expires_at.after(Duration::from_secs(9)),
    };
    let lasts = Duration::from_secs(scene.forger.policy.login.session_seconds)
        + scene.forger.policy.exchange.eligibility_age();
    let almost = stretched.at.after(lasts).before(Duration::from_secs(5));
    scene.wait(almost.since(scene.pair.clock.now())).await;
    let lie = scene.forger.honest(&scene.code, &stretched);
    scene
        .expect("a login that is stretched", lie, "LOGIN_REFUSED", "LOGIN_TOO_OLD")
        .await;
}

/// A code works with the card that the registry side has bound it to, and with no other (clause 4.3.3).
#[tokio::test]
async fn another_persons_code_is_the_register_refusal() {
    let mut scene = Scene::new().await;
    let other = card_of(&scene, Scenario::PrivateUse).await;
    let theirs = scene.forger.code(&other);
    let lie = scene.forger.honest(&theirs, &scene.login);
    scene
        .expect("the code of another person", lie, "NOT_PROVIDED", "ANOTHER_CARD")
        .await;
    let unbound = scene
        .root
        .issue(&CardProfile::user_authentication("0000000000000001"))
        .unwrap();
    let login = scene.forger.login(&unbound).await;
    let lie = scene.forger.honest(&scene.code, &login);
    scene
        .expect(
            "a card that nobody is bound to",
            lie,
            "NOT_PROVIDED",
            "ANOTHER_CARD",
        )
        .await;
    let lie = scene.forger.honest(&LinkageCode::random().unwrap(), &scene.login);
    scene
        .expect("a code that nobody has", lie, "NOT_PROVIDED", "NO_LINKAGE")
        .await;
}

#[tokio::test]
async fn oversized_proofs_are_refused() {
    let mut scene = Scene::new().await;
    let plain = scene.login.proof.clone();
    let long = [
        (
            "certificate",
            LoginProof {
                certificate: vec![0x30; 4_097],
                ..plain.clone()
            },
        ),
        (
            "text",
            LoginProof {
                text: vec![b'x'; 1_025],
                ..plain.clone()
            },
        ),
        (
            "signature",
            LoginProof {
                signature: vec![0; 513],
                ..plain.clone()
            },
        ),
    ];
    for (what, proof) in long {
        let mut lie = scene.honest();
        lie.prove(proof);
        scene
            .expect(what, lie, "LOGIN_REFUSED", "LOGIN_PROOF_TOO_LONG")
            .await;
    }
    // As many as a batch has, each as long as it may be, fit into one message; none is anybody's.
    let longest = LoginProof {
        certificate: vec![0x30; 4_096],
        text: vec![b'x'; 1_024],
        signature: vec![0; 512],
    };
    let mut lines: Vec<Line> = (0..256).map(|_| scene.honest()).collect();
    for line in &mut lines {
        line.prove(longest.clone());
    }
    let results = scene.forger.ask(&lines).await.unwrap();
    assert!(results.iter().all(|told| told == "LOGIN_REFUSED"));
    // More than the message limit does not come in at all.
    let mut line = scene.honest();
    line.prove(LoginProof {
        certificate: vec![0x30; 3 << 20],
        ..plain
    });
    scene.forger.ask(&[line]).await.unwrap_err();
    let honest = scene.honest();
    assert_eq!(
        scene.forger.ask(&[honest]).await.unwrap(),
        ["PROVIDED"],
        "it goes on"
    );
}

/// A proof that the registry side does not have is asked for, before anything is used up.
#[tokio::test]
async fn without_a_proof_nothing_is_looked_up_and_nothing_used_up() {
    let mut scene = Scene::new().await;
    let (whole, cover) = (scene.honest(), scene.forger.cover());
    let mut hash_only = whole.clone();
    hash_only.item.login_proof = None;
    let neighbour = scene.forger.honest(&scene.neighbour.0, &scene.neighbour.1);
    let lines = [cover.clone(), hash_only, neighbour.clone()];
    let eligibility = scene.forger.eligibility(&lines);
    let request = scene.forger.request(&eligibility, &lines);
    let results = scene.forger.send(request).await.unwrap();
    assert_eq!(results, ["NEED_PROOF"; 3], "one fate for all");
    for line in &lines {
        assert_eq!(
            log::provision(&scene.database(), &line.item.request_id).await,
            None
        );
    }
    let lines = [cover, whole, neighbour];
    let request = scene.forger.request(&eligibility, &lines);
    let results = scene.forger.send(request).await.unwrap();
    assert_eq!(
        results,
        ["NOT_PROVIDED", "PROVIDED", "PROVIDED"],
        "the same word, and the same ids"
    );
    let mut hash_only = scene.honest();
    hash_only.item.login_proof = None;
    assert_eq!(
        scene.forger.ask(&[hash_only]).await.unwrap(),
        ["PROVIDED"],
        "now it is known"
    );
}

/// A login that was verified once is looked at again each time, by the registry side's own newest list.
#[tokio::test]
async fn a_card_that_is_revoked_later_is_refused_at_once() {
    let mut scene = Scene::new().await;
    let card = scene
        .root
        .issue(&CardProfile::user_authentication("0000000000000001"))
        .unwrap();
    let login = scene.forger.login(&card).await;
    let asking = |scene: &Scene| {
        let mut line = scene.forger.honest(&scene.code, &login);
        line.item.login_proof = None;
        line
    };
    let first = scene.forger.honest(&scene.code, &login);
    scene
        .expect("not revoked yet", first, "NOT_PROVIDED", "ANOTHER_CARD")
        .await;

    let side = scene.pair.deployment.provider();
    let now = scene.pair.clock.now();
    write_list(&side, &scene.root, std::slice::from_ref(&card.serial), 2, now);
    let mut told = String::new();
    for _ in 0..100 {
        let line = asking(&scene);
        told = scene.forger.ask(&[line]).await.unwrap().swap_remove(0);
        if told == "CARD_REVOKED" {
            break;
        }
        assert_eq!(told, "NOT_PROVIDED");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(told, "CARD_REVOKED");
    let line = asking(&scene);
    scene
        .expect("revoked", line, "CARD_REVOKED", "LOGIN_CARD_REVOKED")
        .await;
}

/// Without a fresh list of the registry side's own nothing is answered, and a cover item is like any other (I4, I6).
#[tokio::test]
async fn without_a_fresh_list_nothing_is_answered() {
    let mut scene = Scene::new().await;
    let known = scene.honest();
    assert_eq!(scene.forger.ask(&[known]).await.unwrap(), ["PROVIDED"]);
    scene.pair.clock.advance(Duration::from_secs(8 * 86_400));
    let login = scene.forger.login(&scene.card).await;
    let lines = [scene.forger.honest(&scene.code, &login), scene.forger.cover()];
    assert_eq!(scene.forger.ask(&lines).await.unwrap_err(), "UNAVAILABLE");
    for line in &lines {
        let id = &line.item.request_id;
        assert_eq!(log::provision(&scene.database(), id).await, None);
    }
}

/// A consent that was never given, and one that was withdrawn: the registry side cannot know. But what it answered on is in
/// its log, with the gateway's name, the consent and the word that the gateway signed; and the gateway's own log has
/// something else.
#[tokio::test]
async fn what_cannot_be_found_out_is_pinned_on_the_gateway() {
    let mut scene = Scene::new().await;
    let cast = scene.pair.cast().await;
    let session = cast.frontend.login(&scene.card).await.unwrap();
    let text = cast.frontend.consent_text(KIND).await.unwrap();
    let given = cast
        .frontend
        .consent(&session, &text, Term::For(10 * MINUTE))
        .await
        .unwrap();
    cast.frontend.withdraw(&session, &given).await.unwrap();
    cast.frontend.logout(&session).await.unwrap();

    let invented = scene.honest();
    let mut withdrawn = scene.honest();
    withdrawn.eligible.consent.as_mut().unwrap().consent_id = given.clone();
    let lines = [invented, withdrawn];
    let eligibility = scene.forger.eligibility(&lines);
    let (envelope, sha256) = scene.forger.signer.sign(&eligibility);
    let request = ProvideCopyInfoRequest {
        eligibility: Some(envelope),
        items: lines.iter().map(|line| line.item.clone()).collect(),
    };
    assert_eq!(scene.forger.send(request).await.unwrap(), ["PROVIDED"; 2]);

    let gateway = scene.pair.deployment.gateway_database();
    for line in &lines {
        let id = &line.item.request_id;
        let (_, entry) = log::provision(&scene.database(), id).await.unwrap();
        assert_eq!(entry.outcome(), Outcome::Released);
        let entry = entry.restricted.unwrap();
        assert_eq!(entry.peer, "portal-gateway/gateway-1");
        assert_eq!(
            entry.consent_id,
            line.eligible.consent.as_ref().unwrap().consent_id
        );
        assert_eq!(entry.eligibility_sha256, sha256);
        assert_eq!(
            log::provision(&gateway, id).await,
            None,
            "the gateway has no such request"
        );
    }
    let (_, act) = log::guard_act(&gateway, "WITHDRAW_CONSENT").await.unwrap();
    assert_eq!(act.consent_id, given, "it was withdrawn before");
    assert!(log::guard_act(&gateway, "LOGOUT").await.is_some());
}
