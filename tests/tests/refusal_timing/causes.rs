//! Requesters who are refused, each for a reason of their own.

use std::io::Cursor;

use common::terms::{LinkageCode, RequestKind};
use data_encoding::BASE64URL_NOPAD;
use devkit::{
    client::{Frontend, Session, Term},
    registers::{OperatorRecord, Scenario},
    story::Cast,
};
use integration_tests::{Pair, log::provision};
use serde_json::{Value, json};

pub(crate) const KIND: RequestKind = RequestKind::CertificateRequest;
/// Everybody asks for the same: closed registers as well.
pub(crate) const PROCEDURE: &str = "lineage";

/// The cause that the gateway does not send over the line.
pub(crate) const KEPT: &str = "without consent";

/// Who it is, what they are refused for, and the cause in the provider's log.
const CAUSES: [(Scenario, &str, &str); 7] = [
    (Scenario::Suppressed, "suppressed at the gateway", "COVER"),
    (Scenario::Blocked, "blocked", "COVER"),
    (Scenario::NoLinkage, "not linked", "COVER"),
    (
        Scenario::Lineage,
        "suppressed at the provider",
        "NON_PROVISION_REGISTER",
    ),
    (Scenario::VariationSequence, "not found", "NO_LINKAGE"),
    (
        Scenario::TwoCurrentRegisters,
        "ambiguous",
        "SEVERAL_CURRENT_REGISTERS",
    ),
    (Scenario::ImageOnly, "image only", "NOT_TEXT"),
];

/// A cause, and the sessions of its requester.
pub(crate) struct Refused {
    pub(crate) name: &'static str,
    there: &'static str,
    pub(crate) sessions: Vec<Session>,
}

/// All of them, logged in.
pub(crate) struct Stage {
    pub(crate) frontend: Frontend,
    pub(crate) causes: Vec<Refused>,
}

impl Stage {
    /// Records what refuses, and logs everybody in so many times.
    pub(crate) async fn set(pair: &Pair, sessions: usize) -> Self {
        let cast = pair.cast().await;
        let offices = pair.offices();
        let (suppressed, blocked) = (
            record_of(&cast, Scenario::Suppressed),
            record_of(&cast, Scenario::Blocked),
        );
        let OperatorRecord::NonProvision { person_id, .. } = suppressed else {
            panic!("another record")
        };
        let OperatorRecord::Block { card_key_sha256 } = blocked else {
            panic!("another record")
        };
        let [alice, bob] = &offices.registry;
        let (code, number) = pair.closed_register(cast.person(Scenario::Lineage).unwrap().0);
        let acts = [alice.ids().next(), bob.ids().next()];
        let (first, second) = tokio::join!(
            alice.record_non_provision(&acts[0], person_id.as_deref(), None),
            bob.record_non_provision(&acts[1], None, Some((&code, &number))),
        );
        first.unwrap();
        second.unwrap();
        let [portal, _] = &offices.portal;
        let card_key = data_encoding::HEXLOWER
            .decode(card_key_sha256.as_bytes())
            .unwrap();
        portal.block(&portal.ids().next(), &card_key).await.unwrap();
        let rotated = portal.load(Cursor::new(unknown_code(pair, &cast))).await;
        assert!(rotated.is_whole(), "{rotated:?}");

        let text = cast.frontend.consent_text(KIND).await.unwrap();
        let mut causes = Vec::new();
        for (scenario, name, there) in CAUSES {
            let (_, card) = cast.person(scenario).unwrap();
            let mut opened = Vec::new();
            for _ in 0..sessions {
                opened.push(cast.frontend.login(&card).await.unwrap());
            }
            let term = Term::For(std::time::Duration::from_secs(7_200));
            cast.frontend.consent(&opened[0], &text, term).await.unwrap();
            causes.push(Refused {
                name,
                there,
                sessions: opened,
            });
        }
        Self {
            frontend: cast.frontend,
            causes,
        }
    }

    /// Somebody whom the gateway refuses by itself, for a reason that the caller may know.
    pub(crate) async fn without_consent(&self, pair: &Pair) -> Refused {
        let cast = pair.cast().await;
        let (_, card) = cast.person(Scenario::Plane2).unwrap();
        Refused {
            name: KEPT,
            there: "",
            sessions: vec![self.frontend.login(&card).await.unwrap()],
        }
    }

    /// Sees that each was refused for its own reason.
    pub(crate) async fn causes_were(&self, pair: &Pair) {
        for cause in &self.causes {
            let id = self.frontend.ids().next();
            let asked = self
                .frontend
                .copy_info_as(&id, &cause.sessions[0], KIND, PROCEDURE);
            assert!(asked.await.is_err(), "{}", cause.name);
            let (_, entry) = provision(&pair.deployment.provider_database(), &id)
                .await
                .unwrap();
            assert_eq!(entry.restricted.unwrap().cause, cause.there, "{}", cause.name);
        }
    }
}

fn record_of(cast: &Cast, scenario: Scenario) -> OperatorRecord {
    cast.person(scenario).unwrap().0.record.clone().unwrap()
}

/// A line that gives a requester's linkage on the portal side a code that the registry side does not know.
fn unknown_code(pair: &Pair, cast: &Cast) -> Vec<u8> {
    let (person, _) = cast.person(Scenario::VariationSequence).unwrap();
    let linkages = std::fs::read_to_string(pair.deployment.linkages()).unwrap();
    let lines = linkages
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let line = lines
        .into_iter()
        .find(|line| line["card_key_sha256"] == person.card_key_sha256.as_str())
        .unwrap();
    let new = BASE64URL_NOPAD.encode(LinkageCode::random().unwrap().expose());
    json!({
        "type": "rotate",
        "linkage_code": line["linkage_code"],
        "new_linkage_code": new,
        "card_key_sha256": person.card_key_sha256,
    })
    .to_string()
    .into_bytes()
}
