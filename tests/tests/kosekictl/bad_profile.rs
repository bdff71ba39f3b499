//! Bad connection profiles: exit code 2, the key or file and its rule are named, and nothing is changed.

use std::{fs, os::unix::fs::PermissionsExt as _};

use common::identity::Role;

use crate::desk::Desk;

/// Stands in bad files and must be in no error.
const PLANTED: &str = "PLANTED";

#[tokio::test]
async fn a_bad_profile_is_named_with_key_and_file() {
    let desk = Desk::open().await;
    let before = desk.stored().await;
    let folder = desk.path("");
    let open_key = desk.write("open-key.pem", "PLANTED");
    fs::set_permissions(&open_key, fs::Permissions::from_mode(0o644)).unwrap();
    let no_pem = desk.write("no.pem", "PLANTED");
    let bob = desk.pair.deployment.client(Role::Operator, "bob").private_key;
    let missing = folder.join("missing.pem");
    let missing = missing.to_str().unwrap();
    type Change<'a> = Box<dyn FnOnce(&mut toml::Table) + 'a>;
    let cases: Vec<(Change<'_>, Vec<&str>)> = vec![
        (
            Box::new(|table| {
                table.insert("planted".into(), 1.into());
            }),
            vec!["unknown field `planted`", "deploy/config/kosekictl.toml"],
        ),
        (
            Box::new(|table| {
                table["tls"]
                    .as_table_mut()
                    .unwrap()
                    .insert("planted".into(), 1.into());
            }),
            vec!["unknown field `planted`"],
        ),
        (
            Box::new(|table| {
                table["portal_admin"].as_table_mut().unwrap().remove("instance");
            }),
            vec!["missing field `instance`"],
        ),
        (
            Box::new(|table| {
                table["portal_admin"]["address"] = 7453.into();
            }),
            vec!["invalid type", "string"],
        ),
        (
            Box::new(|table| {
                table["trust_domain"] = "Upper Case".into();
            }),
            vec!["trust_domain", "a-z"],
        ),
        (
            Box::new(|table| {
                table["tls"]["certificate"] = missing.into();
            }),
            vec![missing, "cannot be read", "No such file"],
        ),
        (
            Box::new(|table| {
                table["tls"]["certificate"] = no_pem.as_str().into();
            }),
            vec![&no_pem, "PEM certificate"],
        ),
        (
            Box::new(|table| {
                table["tls"]["private_key"] = open_key.as_str().into();
            }),
            vec![&open_key, "chmod 600"],
        ),
        (
            Box::new(|table| {
                table["tls"]["private_key"] = bob.to_str().unwrap().into();
            }),
            vec!["private_key", "belong together"],
        ),
        (
            Box::new(|table| {
                table.remove("portal_admin");
            }),
            vec!["has no [portal_admin]", "address and instance"],
        ),
        (
            Box::new(|table| {
                table["portal_admin"]["instance"] = "gateway-2".into();
            }),
            vec!["no answer", "portal-gateway/gateway-2", "nothing was sent"],
        ),
        (
            Box::new(|table| {
                table["portal_admin"]["address"] = "127.0.0.1:1".into();
            }),
            vec!["no answer", "127.0.0.1:1", "refused"],
        ),
        (
            Box::new(|table| {
                table["trust_domain"] = "other.example".into();
            }),
            vec!["no answer", "nothing was sent"],
        ),
    ];
    for (change, words) in cases {
        let profile = desk.profile_with(Role::Operator, "alice", change);
        let act = ["suspend", "--side", "portal", "--reason", "r", "--yes"];
        let told = desk.run_with(&profile, &act).await;
        told.exits(2).says(&words).says(&["next: "]);
        assert!(told.out.is_empty() && !told.error.contains(PLANTED), "{told:?}");
    }
    let no_file = desk.run_with("/no/such/profile.toml", &["status"]).await;
    no_file.exits(2).says(&["/no/such/profile.toml", "No such file"]);
    let none = desk.run_bare(&["status"]).await;
    none.exits(2)
        .says(&["--config", "KOSEKICTL_CONFIG", "deploy/config/kosekictl.toml"]);
    assert_eq!(desk.stored().await, before);
}
