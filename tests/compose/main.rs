//! The story and the refusals in containers on PostgreSQL, each scene from the network where its players are; the wall
//! between the portal's network and the provider, and those around the databases. Needs an engine, `KOSEKI_COMPOSE=1`, and the images of `cargo xtask images`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

mod databases;
mod project;

use project::Project;

/// What `demo probe` exits with.
const DOES_NOT_RESOLVE: i32 = 3;
const DOES_NOT_ANSWER: i32 = 4;

#[test]
fn the_story_and_the_refusals_are_played_from_the_portal_network() {
    let project = Project::up(&["frontend"]);
    for one_shot in ["prepare", "offices", "frontend"] {
        assert_eq!(
            project.wait(one_shot),
            0,
            "{one_shot}:\n{}",
            project.logs(one_shot)
        );
    }
    let story = project.logs("frontend");
    for said in [
        // The items, and one refusal for each condition.
        "筆頭に記載した者の氏名: 甲野義太郎",
        "refused with SESSION_INVALID",
        "refused with CONSENT_REQUIRED",
        "refused with NOT_PROVIDED",
        "refused with CARD_REVOKED",
        "all register refusals are the same to the byte",
        "steps, all as they must be",
    ] {
        assert!(story.contains(said), "{said:?} is not in\n{story}");
    }
    for (service, scene) in [
        ("offices", "suspend"),
        ("frontend", "suspended"),
        ("offices", "resume"),
        ("frontend", "resumed"),
    ] {
        let played = project.run(service, &["play", "--dir", "/deployment", "--scene", scene]);
        assert_eq!(played.code, 0, "{scene}:\n{}", played.text);
    }
}

#[test]
fn the_portal_network_does_not_lead_to_the_provider() {
    let project = Project::standing();
    let from_portal = |address: &str| project.run("frontend", &["probe", "--address", address]);

    // The probe itself works: the gateway answers there, and the provider on the networks that it is on.
    let gateway = from_portal("gateway:7451");
    assert_eq!(gateway.code, 0, "{}", gateway.text);
    let on_the_line = project.run_on("line", &["probe", "--address", "provider:7441"]);
    assert_eq!(on_the_line.code, 0, "{}", on_the_line.text);

    let by_name = from_portal("provider:7441");
    assert_eq!(by_name.code, DOES_NOT_RESOLVE, "{}", by_name.text);
    let addresses = project.addresses("provider");
    assert_eq!(
        addresses.len(),
        4,
        "line, operations, municipalities, its database: {addresses:?}"
    );
    let ports = [7441, 7442, 7443, 7449];
    let everywhere: Vec<_> = addresses
        .iter()
        .flat_map(|address| ports.map(|port| format!("--address={address}:{port}")))
        .collect();
    let mut probe = vec!["probe"];
    probe.extend(everywhere.iter().map(String::as_str));
    let by_address = project.run("frontend", &probe);
    assert_eq!(by_address.code, DOES_NOT_ANSWER, "{}", by_address.text);
    assert_eq!(
        by_address.text.matches("does not answer").count(),
        everywhere.len(),
        "{}",
        by_address.text
    );
}

#[test]
fn containers_can_do_nothing_but_their_work() {
    let project = Project::standing();
    for service in ["provider", "gateway", "provider-postgres", "gateway-postgres"] {
        let made = project.inspect(service);
        let made = &made[0];
        assert_eq!(made["Config"]["User"], "65532:65532");
        let host = &made["HostConfig"];
        assert_eq!(host["ReadonlyRootfs"], true);
        assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]));
        assert_eq!(host["SecurityOpt"], serde_json::json!(["no-new-privileges:true"]));
        assert_eq!(host["Privileged"], false);
        assert_eq!(host["PortBindings"], serde_json::json!({}));
        for limit in ["Memory", "PidsLimit"] {
            assert!(
                host[limit].as_i64().is_some_and(|limit| limit > 0),
                "{service} has no {limit}"
            );
        }
    }
}
