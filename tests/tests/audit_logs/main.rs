//! `kosekictl audit` on logs that real services wrote, exported over their RPC by an auditor.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

#[path = "../kosekictl/desk.rs"]
#[allow(dead_code, reason = "another target uses the rest of it")]
mod desk;

use std::{fs, path::PathBuf, time::Duration};

use common::{
    clock::{Clock as _, SystemClock},
    identity::Role,
    store::{ArchiveError, Database},
    terms::{ActId, RequestKind},
};
use devkit::{
    client::{CallError, Term},
    deployment::{Deployment, FRONTEND, GATEWAY_INSTANCE, PROVIDER_INSTANCE, TRUST_DOMAIN},
    pki::{Ca, Subject},
    registers::Scenario,
};
use integration_tests::{Setting, log, stores::Behind};
use koseki_proto::koseki::evidence::v1::{Bundle, ExportPart, export_part::Part};
use koseki_provider::store::SCHEMA;
use prost::Message as _;
use prost_types::Timestamp;
use serde_json::Value;

use desk::{Desk, Ended};

/// The auditor's files.
#[derive(Clone)]
struct Files {
    provider: String,
    gateway: String,
    keys: String,
}

impl Desk {
    async fn run_auditor(&self, arguments: &[&str]) -> Ended {
        let profile = self.profile_with(Role::Auditor, "carol", |_| {});
        self.run_with(&profile, arguments).await
    }

    fn log_keys(&self) -> String {
        let folder = self.pair.deployment.clients(Role::Auditor);
        folder.join("log-keys.txt").to_str().unwrap().to_owned()
    }

    /// Exports a log, once its other side has countersigned something of it.
    async fn export(&self, side: &str, log: &str, name: &str) -> String {
        let out = self.path(name).to_str().unwrap().to_owned();
        let arguments = ["audit", "export", "--side", side, "--log", log, "--out", &out];
        self.run_auditor(&arguments).await.exits(0);
        out
    }

    async fn export_both(&self) -> Files {
        self.until_countersigned().await;
        Files {
            provider: self.export("registry", PROVIDER_INSTANCE, "provider.log").await,
            gateway: self.export("portal", GATEWAY_INSTANCE, "gateway.log").await,
            keys: self.log_keys(),
        }
    }

    /// Waits until everything that is in both logs now is countersigned.
    async fn until_countersigned(&self) {
        let sizes = self.sizes().await;
        let covered = async {
            let mut looks = tokio::time::interval(Duration::from_millis(50));
            loop {
                looks.tick().await;
                let now = self.sizes().await;
                if now.iter().zip(&sizes).all(|(now, then)| now.1 >= then.0) {
                    break;
                }
            }
        };
        tokio::time::timeout(integration_tests::raw::PATIENCE * 4, covered)
            .await
            .expect("the logs are not countersigned");
    }

    /// How many entries each side's log has, and how many of them are countersigned.
    async fn sizes(&self) -> Vec<(i64, i64)> {
        let mut sizes = Vec::new();
        let deployment = &self.pair.deployment;
        for database in [deployment.provider_database(), deployment.gateway_database()] {
            let mut behind = Behind::open(&database).await;
            let row = behind
                .connection()
                .one(
                    "SELECT log_head.size, COALESCE(log_checkpoint.witnessed_size, 0) \
                     FROM log_head LEFT JOIN log_checkpoint ON log_checkpoint.log = log_head.log",
                    &[],
                )
                .await
                .unwrap();
            sizes.push((row.int(0).unwrap(), row.int(1).unwrap()));
        }
        sizes
    }
}

impl Files {
    async fn run(&self, desk: &Desk, command: &[&str]) -> Ended {
        let files = [self.provider.as_str(), &self.gateway, "--keys", &self.keys];
        desk.run_bare(&[&["audit"], command, &files].concat()).await
    }
}

#[tokio::test]
async fn exported_logs_of_both_sides_verify_and_reading_them_is_an_entry() {
    let desk = Desk::open().await;
    let files = desk.export_both().await;
    let verified = files.run(&desk, &["verify", "--output", "json"]).await;
    let json = verified.exits(0).json();
    assert_eq!(json["verdict"], "CLEAN", "{json:#}");
    assert_eq!(json["logs"].as_array().unwrap().len(), 2);
    // The same input gives the same bytes.
    let again = files.run(&desk, &["verify", "--output", "json"]).await;
    assert_eq!(verified.out, again.out);
    for database in [
        desk.pair.deployment.provider_database(),
        desk.pair.deployment.gateway_database(),
    ] {
        let bundles = log::bundles(&database).await;
        let read = bundles
            .iter()
            .flat_map(|bundle| &bundle.entries)
            .find_map(|entry| match &entry.event {
                Some(log::Event::OrdinaryAct(act)) if act.act == "READ_AUDIT_LOG" => Some(act.detail.clone()),
                _ => None,
            });
        let read = read.expect("the reading is an entry");
        assert_eq!(read.actor, "auditor/carol");
        assert!(read.reference.contains(" 0.."), "{}", read.reference);
    }
}

#[tokio::test]
async fn a_log_is_read_by_auditors_only_and_no_file_is_written_for_anybody_else() {
    let desk = Desk::open().await;
    let out = desk.path("operator.log");
    let arguments = [
        "audit",
        "export",
        "--side",
        "registry",
        "--log",
        PROVIDER_INSTANCE,
    ];
    let arguments = [&arguments[..], &["--out", out.to_str().unwrap()]].concat();
    desk.run("alice", &arguments)
        .await
        .exits(1)
        .says(&["PERMISSION_DENIED"]);
    let partial = PathBuf::from(format!("{}.partial", out.display()));
    assert!(!out.exists() && !partial.exists());
    let unknown = [
        "audit",
        "export",
        "--side",
        "registry",
        "--log",
        "provider-9",
        "--out",
    ];
    let ended = desk
        .run_auditor(&[&unknown[..], &[out.to_str().unwrap()]].concat())
        .await;
    ended.exits(1).says(&["UNKNOWN_REFERENCE"]);
    // A file that is there is left alone.
    desk.write("there.log", "something");
    let there = desk.path("there.log");
    let arguments = [
        "audit",
        "export",
        "--side",
        "registry",
        "--log",
        PROVIDER_INSTANCE,
    ];
    let arguments = [&arguments[..], &["--out", there.to_str().unwrap()]].concat();
    desk.run_auditor(&arguments).await.exits(2);
    assert_eq!(std::fs::read_to_string(there).unwrap(), "something");
}

/// What one requester asked for.
struct Asked {
    /// Released.
    released: String,
    /// The register refusal, of somebody who must not be provided.
    suppressed: String,
    /// Refused for the withdrawn consent.
    withdrawn: String,
}

const KIND: RequestKind = RequestKind::CertificateRequest;

/// One release, one register refusal, one refusal after a withdrawal, a logout, and a suspension that is lifted.
async fn story(desk: &Desk) -> Asked {
    let cast = desk.pair.cast().await;
    let frontend = &cast.frontend;
    let offices = desk.pair.offices();
    let (person, _) = cast.person(Scenario::Suppressed).unwrap();
    let record = ActId::random().unwrap().to_string();
    let [officer, _] = &offices.registry;
    officer
        .record_non_provision(&record, Some(&person.person_id), None)
        .await
        .unwrap();
    let mut released = String::new();
    let mut suppressed = String::new();
    let mut withdrawn = String::new();
    for (scenario, id) in [
        (Scenario::Ordinary, &mut released),
        (Scenario::Suppressed, &mut suppressed),
    ] {
        let (_, card) = cast.person(scenario).unwrap();
        let session = frontend.login(&card).await.unwrap();
        let text = frontend.consent_text(KIND).await.unwrap();
        let term = Term::For(Duration::from_secs(3_600));
        let consent = frontend.consent(&session, &text, term).await.unwrap();
        *id = frontend.ids().next();
        let outcome = frontend.copy_info_as(id, &session, KIND, "").await;
        let reason = outcome.as_ref().err().and_then(CallError::reason);
        let expected = (scenario == Scenario::Suppressed).then_some("NOT_PROVIDED");
        assert_eq!(reason, expected, "{outcome:?}");
        frontend.withdraw(&session, &consent).await.unwrap();
        withdrawn = frontend.ids().next();
        let outcome = frontend.copy_info_as(&withdrawn, &session, KIND, "").await;
        let reason = outcome.as_ref().err().and_then(CallError::reason);
        assert_eq!(reason, Some("CONSENT_REQUIRED"));
        frontend.logout(&session).await.unwrap();
    }
    let [alice, bob] = &offices.portal;
    alice
        .suspend(&ActId::random().unwrap().to_string(), Some(KIND))
        .await
        .unwrap();
    let proposed = alice.propose_resume(Some(KIND)).await.unwrap();
    bob.approve(&proposed).await.unwrap();
    Asked {
        released,
        suppressed,
        withdrawn,
    }
}

#[tokio::test]
async fn the_logs_reconcile_prove_a_request_and_tell_who_received_what() {
    let desk = Desk::open().await;
    let asked = story(&desk).await;
    let files = desk.export_both().await;
    let json = async |command: &[&str]| {
        let ended = files.run(&desk, &[command, &["--output", "json"]].concat()).await;
        ended.exits(0).json()
    };
    let verified = json(&["verify"]).await;
    // The registry side released it, and the portal side.
    assert_eq!(verified["counts"]["releases"]["checked"], 2, "{verified:#}");

    let reconciled = json(&["reconcile"]).await;
    assert_eq!(reconciled["result"]["differences_total"], 0, "{reconciled:#}");
    assert!(reconciled["result"]["twins"].as_u64().unwrap() >= 2);

    let proved = json(&["prove", "--request-id", &asked.released]).await;
    let entries = proved["result"]["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(
        entries[0]["entry"]["answer_sha256"],
        entries[1]["entry"]["answer_sha256"]
    );
    assert!(entries.iter().all(|entry| entry["proof"].is_object()));
    let of_portal = &entries[1]["entry"];
    assert_eq!(of_portal["peer"], format!("portal-frontend/{FRONTEND}"));

    // Whatever is known leads to the one release.
    let code = entries[0]["entry"]["municipality_codes"][0].as_str().unwrap();
    let [card, session, account] =
        ["card", "session", "subject"].map(|name| of_portal[name].as_str().unwrap());
    for known in [
        ["--card", card],
        ["--session", session],
        ["--subject", account],
        ["--frontend", FRONTEND],
        ["--municipality", code],
        ["--request-id", &asked.released],
        ["--from", "2020-01-01T00:00:00Z"],
    ] {
        let found = json(&[&["who-received"], &known[..]].concat()).await;
        let releases = found["result"]["releases"].as_array().unwrap();
        assert_eq!(releases.len(), 1, "{known:?}: {found:#}");
        assert_eq!(releases[0]["request_id"], asked.released.as_str());
        assert_eq!(
            releases[0]["portal"][0]["entry"]["consent_id"],
            of_portal["consent_id"]
        );
    }
    for known in [
        ["--request-id", &asked.suppressed],
        ["--request-id", &asked.withdrawn],
        ["--frontend", "other"],
        ["--until", "2020-01-01T00:00:00Z"],
    ] {
        let found = json(&[&["who-received"], &known[..]].concat()).await;
        assert_eq!(found["result"]["releases_total"], 0, "{known:?}: {found:#}");
    }
    let japanese = files.run(&desk, &["who-received", "--language", "ja"]).await;
    japanese
        .exits(0)
        .says(&["判定: 問題なし", "提供 1 件", &asked.released]);
}

/// Each way to tamper with a log in its own database, by whoever owns that: found by whoever exports it afterwards.
#[tokio::test]
async fn a_log_that_was_tampered_with_in_its_database_is_found() {
    let desk = Desk::open().await;
    story(&desk).await;
    let whole = desk.export_both().await;
    let database = desk.pair.deployment.provider_database();
    let bodies = bodies(&database).await;
    let numbered = |number: usize| (i64::try_from(number).unwrap(), bodies[number].clone());
    let victim = bodies.len() / 2;
    let edited = |change: fn(&mut Bundle)| {
        let mut bundle = Bundle::decode(bodies[victim].as_slice()).unwrap();
        change(&mut bundle);
        vec![(i64::try_from(victim).unwrap(), bundle.encode_to_vec())]
    };
    let swapped = {
        let (one, other) = (numbered(victim), numbered(victim + 1));
        vec![(one.0, other.1), (other.0, one.1)]
    };
    let ways = [
        (
            "edited",
            edited(|bundle| bundle.entries[0].restricted[9] ^= 1),
            "ROOT_DIFFERS",
        ),
        (
            "emptied",
            edited(|bundle| drop(bundle.entries.pop())),
            "MALFORMED_BUNDLE",
        ),
        ("reordered", swapped, "INDEXING"),
    ];
    for (name, bundles, finding) in ways {
        for (number, body) in &bundles {
            write(&database, *number, body).await;
        }
        let out = desk
            .export("registry", PROVIDER_INSTANCE, &format!("{name}.log"))
            .await;
        let files = Files {
            provider: out,
            ..whole.clone()
        };
        files.run(&desk, &["verify"]).await.exits(1).says(&[finding]);
        for (number, _) in &bundles {
            write(&database, *number, &numbered(usize::try_from(*number).unwrap()).1).await;
        }
    }
    // Mended, it is whole again.
    let out = desk.export("registry", PROVIDER_INSTANCE, "mended.log").await;
    let files = Files {
        provider: out,
        ..whole.clone()
    };
    files.run(&desk, &["verify"]).await.exits(0);

    // A bundle is gone.
    let mut behind = Behind::tamper(&database).await;
    let params = [("number", i64::try_from(victim).unwrap().into())];
    behind
        .connection()
        .execute("DELETE FROM bundle WHERE number = {number}", &params)
        .await
        .unwrap();
    let out = desk.export("registry", PROVIDER_INSTANCE, "deleted.log").await;
    let files = Files {
        provider: out,
        ..whole.clone()
    };
    files.run(&desk, &["verify"]).await.exits(1).says(&["NUMBERING"]);
}

/// A backup is restored: the auditor exports what there was then, and the other side has countersigned more since.
#[tokio::test]
async fn a_log_that_was_rolled_back_to_a_backup_is_found() {
    let desk = Desk::open().await;
    let old = desk.export_both().await;
    story(&desk).await;
    desk.until_countersigned().await;
    let gateway = desk.export("portal", GATEWAY_INSTANCE, "later.log").await;
    let mut parts = Vec::new();
    let content = fs::read(&old.provider).unwrap();
    let mut rest = content.as_slice();
    while !rest.is_empty() {
        parts.push(ExportPart::decode_length_delimited(&mut rest).unwrap());
    }
    // What an export of the restored log says, made an hour from now.
    if let Some(Part::Header(header)) = &mut parts[0].part {
        let at = header.exported_at.unwrap();
        header.exported_at = Some(Timestamp {
            seconds: at.seconds + 3_600,
            nanos: 0,
        });
    }
    let restored: Vec<u8> = parts
        .iter()
        .flat_map(ExportPart::encode_length_delimited_to_vec)
        .collect();
    let files = Files {
        provider: desk.write("restored.log", restored),
        gateway: gateway.clone(),
        keys: old.keys.clone(),
    };
    files
        .run(&desk, &["verify"])
        .await
        .exits(1)
        .says(&["ROLLED_BACK"]);
    // The file as it was made then: the log grew since, and nothing is wrong.
    let files = Files {
        gateway,
        ..old.clone()
    };
    files.run(&desk, &["verify"]).await.exits(0);
    // Cut off.
    let content = fs::read(&old.provider).unwrap();
    let files = Files {
        provider: desk.write("cut-off.log", &content[..content.len() - 100]),
        ..old
    };
    files.run(&desk, &["verify"]).await.exits(2).says(&["CUT_OFF"]);
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The shortest time for which the policy can have records kept: a year, with its leap day.
fn kept_for_a_year(deployment: &Deployment) {
    for side in [deployment.provider(), deployment.gateway()] {
        let file = side.join("policy/provision-policy.toml");
        let policy = fs::read_to_string(&file).unwrap();
        fs::write(&file, policy.replace("audit_years = 7", "audit_years = 1")).unwrap();
    }
}

impl Desk {
    /// The profile of an operator whose certificate is good for years.
    fn lasting_profile(&self, name: &str) -> String {
        let ca = Ca::read_from(&self.pair.deployment.dir().join("authority"), "ca").unwrap();
        let subject = Subject::identity(TRUST_DOMAIN, &format!("operator/{name}"));
        let begin = subject.not_before;
        let issued = ca
            .issue(&subject.valid(begin, begin + time::Duration::days(1_000)))
            .unwrap();
        let folder = self.path(&format!("lasting-{name}"));
        fs::create_dir(&folder).unwrap();
        issued.write_to(&folder, name).unwrap();
        self.profile_with(Role::Operator, name, |table| {
            for (key, end) in [("certificate", ".pem"), ("private_key", "-key.pem")] {
                let file = folder.join(format!("{name}{end}"));
                table["tls"][key] = file.to_str().unwrap().into();
            }
        })
    }
}

async fn archive(deployment: &Deployment, before: u64) -> Result<u64, ArchiveError> {
    let config: koseki_provider::config::Config =
        common::config::load(&deployment.provider_config()).unwrap();
    let owner = deployment.provider_database().with_extension("owner-url");
    let owner = owner.exists().then_some(owner);
    Database::archive(
        &config.database,
        owner.as_deref(),
        SCHEMA,
        PROVIDER_INSTANCE,
        before,
    )
    .await
}

/// Two persons make a mark, the owner drops what is below it, and what remains still verifies.
#[tokio::test]
async fn bodies_are_dropped_below_the_mark_of_two_persons_and_the_rest_verifies() {
    let mut desk = Desk::open_set(&Setting {
        change: kept_for_a_year,
        ..Setting::default()
    })
    .await;
    let asked = story(&desk).await;
    let files = desk.export_both().await;
    let tomorrow = SystemClock::new().now().after(DAY).to_rfc3339();
    let propose = |profile: String| {
        let command = [
            "audit",
            "archive",
            "--side",
            "registry",
            "--log",
            PROVIDER_INSTANCE,
            "--before",
        ];
        let rest = ["--reason", "a year", "--keys", &files.keys, "--output", "json"];
        let files = [files.provider.as_str(), &files.gateway];
        let words = [&["--config", &profile], &command[..], &[&tomorrow], &rest, &files].concat();
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    // Younger than the policy keeps it.
    let (alice, bob) = (desk.lasting_profile("alice"), desk.lasting_profile("bob"));
    desk.run_bare(&propose(alice.clone()))
        .await
        .exits(1)
        .says(&["audit_years"]);

    desk.pair.clock.advance(DAY * 400);
    let proposed = desk.run_bare(&propose(alice.clone())).await.exits(0).json();
    let before = proposed["act"]["before_bundle"].as_u64().unwrap();
    assert!(before > 5, "{proposed:#}");
    let approve = |profile: &str| {
        let id = proposed["proposal_id"].as_str().unwrap();
        let hash = proposed["act_sha256"].as_str().unwrap();
        let words = [
            "--config",
            profile,
            "approve",
            id,
            "--act-sha256",
            hash,
            "--side",
            "registry",
            "--yes",
        ];
        words.map(str::to_owned)
    };
    desk.run_bare(&approve(&alice))
        .await
        .exits(1)
        .says(&["ANOTHER_PERSON_NEEDED"]);
    desk.run_bare(&approve(&bob)).await.exits(0);

    let database = desk.pair.deployment.provider_database();
    let whole = bodies(&database).await.len();
    desk.pair = desk
        .pair
        .again_now(async |deployment| {
            let above = archive(deployment, before + 1).await;
            assert!(matches!(above, Err(ArchiveError::AboveMark { mark, .. }) if mark == before));
            assert_eq!(archive(deployment, before).await.unwrap(), before);
            // The same again changes nothing.
            assert_eq!(archive(deployment, before).await.unwrap(), 0);
        })
        .await;
    desk.pair.cast().await;
    desk.until_countersigned().await;
    assert!(whole > usize::try_from(before).unwrap());
    let archived = Files {
        provider: desk.export("registry", PROVIDER_INSTANCE, "archived.log").await,
        gateway: desk.export("portal", GATEWAY_INSTANCE, "later.log").await,
        keys: files.keys.clone(),
    };
    let verified = archived.run(&desk, &["verify", "--output", "json"]).await;
    let json = verified.exits(0).json();
    assert!(
        json["logs"][0]["hashes_only"].as_u64().unwrap() >= before,
        "{json:#}"
    );
    // The file of before has the bodies still: together they are the whole log.
    let both = Files {
        provider: files.provider.clone(),
        ..archived.clone()
    };
    let words = [
        &archived.provider,
        "--request-id",
        &asked.released,
        "--output",
        "json",
    ];
    let proved = both.run(&desk, &[&["prove"], &words[..]].concat()).await;
    let proved = proved.exits(0).json();
    assert_eq!(
        proved["result"]["entries"].as_array().unwrap().len(),
        2,
        "{proved:#}"
    );
    assert_eq!(proved["logs"][0]["hashes_only"], 0);
}

async fn bodies(database: &std::path::Path) -> Vec<Vec<u8>> {
    let mut behind = Behind::open(database).await;
    let rows = behind
        .connection()
        .all("SELECT body FROM bundle ORDER BY number", &[])
        .await
        .unwrap();
    rows.iter().map(|row| row.bytes(0).unwrap().to_vec()).collect()
}

async fn write(database: &std::path::Path, number: i64, body: &[u8]) {
    let mut behind = Behind::tamper(database).await;
    let params = [("number", number.into()), ("body", body.into())];
    let changed = behind
        .connection()
        .execute("UPDATE bundle SET body = {body} WHERE number = {number}", &params)
        .await
        .unwrap();
    assert_eq!(changed, 1);
}
