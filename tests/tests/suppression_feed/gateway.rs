//! What the gateway makes of it.

use std::time::Duration;

use common::{clock::Clock as _, terms::RequestKind};
use devkit::{
    client::{Session, Term},
    registers::{OperatorRecord, Scenario},
    story::Cast,
};
use integration_tests::{
    Pair,
    log::{Provision, provision},
};
use koseki_proto::koseki::{
    admin::v1::{RecordNonProvisionRequest, RegisterRef},
    common::v1::{ReleaseNonProvision, opening_act::Act},
    evidence::v1::Outcome,
};
use koseki_provider::non_provision::NonProvisionRecord;
use prost::Message as _;

const KIND: RequestKind = RequestKind::CertificateRequest;
const HOUR: Duration = Duration::from_secs(3_600);

/// Logs in and consents.
pub(crate) async fn session(cast: &Cast, scenario: Scenario) -> Session {
    let (_, card) = cast.person(scenario).unwrap();
    let session = cast.frontend.login(&card).await.unwrap();
    let text = cast.frontend.consent_text(KIND).await.unwrap();
    cast.frontend
        .consent(&session, &text, Term::For(12 * HOUR))
        .await
        .unwrap();
    session
}

/// What came back, and the entries of both sides.
struct Asked {
    reason: Option<String>,
    there: Provision,
    here: Provision,
}

async fn ask(pair: &Pair, cast: &Cast, session: &Session, procedure: &str) -> Asked {
    let id = cast.frontend.ids().next();
    let answer = cast.frontend.copy_info_as(&id, session, KIND, procedure).await;
    let entry = async |database: std::path::PathBuf| provision(&database, &id).await.unwrap().1;
    Asked {
        reason: answer.err().map(|error| error.reason().unwrap().to_owned()),
        there: entry(pair.deployment.provider_database()).await,
        here: entry(pair.deployment.gateway_database()).await,
    }
}

impl Asked {
    fn cause_there(&self) -> String {
        self.there.restricted.clone().unwrap().cause
    }
}

/// Asks until an answer comes: what is lifted is in the feed a moment later.
async fn until_provided(pair: &Pair, cast: &Cast, session: &Session) {
    for _ in 0..10 {
        if ask(pair, cast, session, "").await.reason.is_none() {
            return;
        }
    }
    panic!("nothing is provided");
}

/// What a person's own entry and the request's id make different is left out.
fn alike(mut entry: Provision) -> Vec<u8> {
    entry.public.request_id.clear();
    if let Some(restricted) = &mut entry.restricted {
        restricted.subject_pseudonym.clear();
        restricted.eligibility_sha256.clear();
        restricted.session_pseudonym.clear();
        restricted.card_pseudonym.clear();
        restricted.provider_bundle = 0;
    }
    let detail = entry.restricted.map(|detail| detail.encode_to_vec());
    [entry.public.encode_to_vec(), detail.unwrap_or_default()].concat()
}

#[tokio::test]
async fn whoever_is_stopped_is_not_looked_up_until_it_is_lifted() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let [alice, bob] = pair.offices().registry;
    let stopped = session(&cast, Scenario::Ordinary).await;
    let image = session(&cast, Scenario::ImageOnly).await;
    assert_eq!(ask(&pair, &cast, &stopped, "").await.cause_there(), "PROVIDED");

    let record = alice.ids().next();
    let person = &cast.person(Scenario::Ordinary).unwrap().0.person_id;
    alice
        .record_non_provision(&record, Some(person), None)
        .await
        .unwrap();
    // The act outlasts the feed's way to the gateway: no code goes over the line any more.
    let refused = ask(&pair, &cast, &stopped, "").await;
    assert_eq!(refused.reason.as_deref(), Some("NOT_PROVIDED"));
    assert_eq!(refused.cause_there(), "COVER");
    assert!(
        refused
            .there
            .restricted
            .clone()
            .unwrap()
            .subject_pseudonym
            .is_empty()
    );

    // What the gateway writes is what it writes of somebody whom the registry side has refused.
    let other = ask(&pair, &cast, &image, "").await;
    assert_eq!(
        (other.cause_there().as_str(), other.here.outcome()),
        ("NOT_TEXT", Outcome::NotProvided)
    );
    assert_eq!(alike(refused.here), alike(other.here));

    let act = Act::ReleaseNonProvision(ReleaseNonProvision { record_id: record });
    let proposed = alice.propose(act).await.unwrap();
    bob.approve(&proposed).await.unwrap();
    until_provided(&pair, &cast, &stopped).await;
}

#[tokio::test]
async fn what_does_not_stop_everything_is_left_to_the_registry_side() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let [alice, _] = pair.offices().registry;
    // A register towards everybody, and one towards this requester: the current one.
    for scenario in [Scenario::RegisterSuppressed, Scenario::RequesterAgainstRegister] {
        let session = session(&cast, scenario).await;
        let Some(OperatorRecord::NonProvision { person_id, register }) =
            &cast.person(scenario).unwrap().0.record
        else {
            panic!("no record of {scenario:?}")
        };
        let register = register.as_ref().unwrap();
        let register = (
            register.municipality_code.as_str(),
            register.local_number.as_str(),
        );
        alice
            .record_non_provision(&alice.ids().next(), person_id.as_deref(), Some(register))
            .await
            .unwrap();
        let refused = ask(&pair, &cast, &session, "").await;
        assert_eq!(refused.reason.as_deref(), Some("NOT_PROVIDED"), "{scenario:?}");
        assert_eq!(refused.cause_there(), "COVER", "{scenario:?}");
    }

    // A closed register refuses only what asks for it.
    let session = session(&cast, Scenario::Lineage).await;
    let (code, number) = pair.closed_register(cast.person(Scenario::Lineage).unwrap().0);
    alice
        .record_non_provision(&alice.ids().next(), None, Some((&code, &number)))
        .await
        .unwrap();
    let refused = ask(&pair, &cast, &session, "lineage").await;
    assert_eq!(refused.reason.as_deref(), Some("NOT_PROVIDED"));
    assert_eq!(refused.cause_there(), "NON_PROVISION_REGISTER");
    assert_eq!(ask(&pair, &cast, &session, "").await.reason, None);
}

/// Nobody acts when a record begins or ends by its time.
#[tokio::test]
async fn a_record_begins_and_ends_by_its_time() {
    let pair = Pair::start_loaded().await;
    let cast = pair.cast().await;
    let now = pair.clock.now();
    let request = RecordNonProvisionRequest {
        act_id: cast.frontend.ids().next(),
        person_id: cast.person(Scenario::Ordinary).unwrap().0.person_id.clone(),
        register: None::<RegisterRef>,
        valid_from: Some(now.after(HOUR).to_proto()),
        valid_until: Some(now.after(2 * HOUR).to_proto()),
        authority: "development authority".to_owned(),
        document_number: "D-1".to_owned(),
    };
    let record = NonProvisionRecord::parse(&request, now).unwrap();
    pair.registry_store
        .record_non_provision(record, &integration_tests::identity("operator/alice"), now)
        .await
        .unwrap();
    let provided = |asked: &Asked| asked.reason.is_none();
    let before = session(&cast, Scenario::Ordinary).await;
    assert!(provided(&ask(&pair, &cast, &before, "").await));

    pair.clock.advance(HOUR + Duration::from_secs(1));
    cast.frontend.wait_until_providing().await.unwrap();
    let during = session(&cast, Scenario::Ordinary).await;
    // A feed that is fresh has taken it in.
    assert_eq!(ask(&pair, &cast, &during, "").await.cause_there(), "COVER");

    pair.clock.advance(HOUR);
    cast.frontend.wait_until_providing().await.unwrap();
    let after = session(&cast, Scenario::Ordinary).await;
    assert!(provided(&ask(&pair, &cast, &after, "").await));
}
