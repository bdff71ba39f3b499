//! Retention: bodies of old bundles are dropped below a mark.

use std::{fs, process::Output, time::Duration};

use common::{
    clock::{Clock as _, SystemClock},
    identity::Role,
};
use devkit::{
    deployment::{Deployment, GATEWAY_INSTANCE, PROVIDER_INSTANCE, TRUST_DOMAIN},
    pki::{Ca, Subject},
    process::{Binaries, Program},
};
use integration_tests::Setting;
use tokio::process::Command;

use crate::{
    auditor::{Files, bodies, exported_later, story},
    desk::Desk,
};

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

/// Runs the owner's command of the real program.
async fn archive(deployment: &Deployment, before: u64) -> Output {
    let program = Binaries::locate().unwrap().path(Program::Provider);
    let owner = deployment.provider_database().with_extension("owner-url");
    let mut command = Command::new(program);
    command.arg("--config").arg(deployment.provider_config());
    command.args(["archive", "--log", PROVIDER_INSTANCE, "--before-bundle"]);
    command.arg(before.to_string());
    if owner.exists() {
        command.arg("--owner-url-file").arg(owner);
    }
    command.kill_on_drop(true).output().await.unwrap()
}

/// What it says when it has dropped so many.
fn dropped(count: u64) -> String {
    format!("{count} bodies of {PROVIDER_INSTANCE} were dropped; what they hash to stays\n")
}

/// Exported files of both sides, as they are and as if they had been asked for ten days later.
async fn files_of_then(desk: &Desk) -> (Files, Files) {
    let days = |file: &str, name: &str| desk.write(name, exported_later(file, 10 * 24 * 3_600));
    for _ in 0..10 {
        let exported = desk.export_both().await;
        let then = Files {
            provider: days(&exported.provider, "provider-of-then.log"),
            gateway: days(&exported.gateway, "gateway-of-then.log"),
            ..exported.clone()
        };
        // Between the two exports the gateway may have countersigned what the provider's file does not have yet. Ten days later
        // that is a log that was rolled back.
        let verified = then.run(desk, &["verify"]).await;
        if !verified.out.contains("ROLLED_BACK") {
            return (exported, then);
        }
        // An export writes over nothing.
        for file in [&exported.provider, &exported.gateway] {
            fs::remove_file(file).unwrap();
        }
    }
    panic!("the gateway countersigned between the two exports each time");
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
    let (exported, files) = files_of_then(&desk).await;
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
            let refused = String::from_utf8(above.stderr).unwrap();
            assert_eq!(above.status.code(), Some(1), "{refused}");
            assert!(refused.contains(&format!("the retention mark of {PROVIDER_INSTANCE} is {before}")));
            // The same again changes nothing.
            for count in [before, 0] {
                let archived = archive(deployment, before).await;
                assert_eq!(String::from_utf8(archived.stdout).unwrap(), dropped(count));
            }
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
        provider: exported.provider.clone(),
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
