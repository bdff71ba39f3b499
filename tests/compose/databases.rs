//! Each side's PostgreSQL: who can reach it, who the service is on it, and what happens when it is away.

use std::thread;

use crate::{
    DOES_NOT_ANSWER,
    project::{Project, Ran},
};

/// How often a requester tries after a database has come back. Each time a container is started for it, which takes a second
/// or two.
const TRIES: usize = 30;

/// A side.
struct Side {
    service: &'static str,
    postgres: &'static str,
    network: &'static str,
    /// Its database, and what its roles' names begin with.
    database: &'static str,
    /// What its connections call themselves.
    instance: &'static str,
}

const SIDES: [Side; 2] = [
    Side {
        service: "provider",
        postgres: "provider-postgres",
        network: "provider-database",
        database: "koseki_provider",
        instance: "provider-1",
    },
    Side {
        service: "gateway",
        postgres: "gateway-postgres",
        network: "gateway-database",
        database: "portal_gateway",
        instance: "gateway-1",
    },
];

/// What the superuser is told, from inside the server's container: one row a line.
fn ask(project: &Project, side: &Side, sql: &str) -> String {
    let password = format!(
        "read -r PGPASSWORD </deployment/{}/superuser-password; export PGPASSWORD; exec psql \"$@\"",
        side.postgres
    );
    let host = [
        "--host=127.0.0.1",
        "--username=postgres",
        "--dbname",
        side.database,
    ];
    let shell = ["sh", "-c", &password, "psql"];
    let told = project.exec(
        side.postgres,
        &[&shell[..], &host, &["-qAt", "--command", sql]].concat(),
    );
    assert_eq!(told.code, 0, "{sql}: {}", told.text);
    told.text.trim().to_owned()
}

#[test]
fn only_its_own_service_has_a_way_to_a_database() {
    let project = Project::standing();
    let places = SIDES.each_ref().map(|side| {
        let addresses = project.addresses(side.postgres);
        assert_eq!(addresses.len(), 1, "its own network only: {addresses:?}");
        [side.postgres, &addresses[0]].map(|host| format!("--address={host}:5432"))
    });
    let probe = &|network: &str, places: &[&[String; 2]]| {
        let addresses = places.iter().copied().flatten().map(String::as_str);
        project.run_on(
            network,
            &["probe"].into_iter().chain(addresses).collect::<Vec<_>>(),
        )
    };
    let [provider, gateway] = &places;
    // At the same time: on an internal network it takes the resolver ten seconds to give up.
    thread::scope(|scope| {
        for (side, own, other) in [(&SIDES[0], provider, gateway), (&SIDES[1], gateway, provider)] {
            scope.spawn(move || {
                let reached = probe(side.network, &[own]);
                assert_eq!(reached.text.matches(" answers").count(), 2, "{}", reached.text);
                assert_unreachable(side.network, 1, &probe(side.network, &[other]));
            });
        }
        for network in ["portal", "line", "operations", "municipalities"] {
            scope.spawn(move || assert_unreachable(network, 2, &probe(network, &[provider, gateway])));
        }
    });
}

/// No name resolves and no address answers.
fn assert_unreachable(network: &str, servers: usize, probe: &Ran) {
    let count = |what| probe.text.matches(what).count();
    assert_eq!(
        (probe.code, count("does not resolve"), count("does not answer")),
        (DOES_NOT_ANSWER, servers, servers),
        "{network}: {}",
        probe.text
    );
}

#[test]
fn a_service_is_neither_superuser_nor_owner_and_no_password_is_where_it_is_not_used() {
    let project = Project::standing();
    for side in &SIDES {
        let Side {
            service,
            postgres,
            database,
            instance,
            ..
        } = side;
        // The superuser's and the owner's parts are done again at each start, and change nothing.
        let dba = format!("{service}-dba");
        let again = project.run(&dba, &["database", "--dir", "/deployment", "--side", service]);
        assert_eq!(again.code, 0, "{}", again.text);
        let config = format!("/deployment/{service}/{service}.toml");
        let owner_url = format!("/deployment/{service}-owner/database-url");
        let migrate = ["migrate", "--config", &config, "--owner-url-file", &owner_url];
        let again = project.run(&format!("{service}-migrate"), &migrate);
        assert_eq!(again.code, 0, "{}", again.text);

        let roles = ask(
            &project,
            side,
            &format!(
                "SELECT DISTINCT usename, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls, \
                        has_table_privilege(usesysid, 'bundle', 'UPDATE, DELETE, TRUNCATE'), \
                        has_schema_privilege(usesysid, 'public', 'CREATE'), ssl, version \
                 FROM pg_stat_activity JOIN pg_roles ON rolname = usename JOIN pg_stat_ssl USING (pid) \
                 WHERE application_name = '{instance}'"
            ),
        );
        assert_eq!(roles, format!("{database}_service|f|f|f|t|TLSv1.3"));
        let owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'";
        assert_eq!(ask(&project, side, owners), format!("{database}_owner"));
        // Nobody else can log in, the roles of the other side included.
        let passwords = "SELECT rolname, rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid \
             WHERE rolcanlogin AND rolpassword IS NOT NULL ORDER BY rolname";
        assert_eq!(
            ask(&project, side, passwords),
            format!("{database}_owner|t\n{database}_service|t\npostgres|t")
        );

        let role = format!("{database}_service");
        let plain = format!("host=127.0.0.1 user={role} dbname={database} sslmode=disable");
        let plain = project.exec(
            postgres,
            &["psql", "--no-password", &plain, "--command", "SELECT 1"],
        );
        assert_ne!(plain.code, 0);
        assert!(plain.text.contains("no pg_hba.conf entry"), "{}", plain.text);

        // The service can read its own folder only, where the owner's and the superuser's passwords are not.
        let mounted = |service: &str| {
            let made = project.inspect(service);
            let mounts = made[0]["Mounts"].as_array().unwrap().iter();
            let mut folders: Vec<_> = mounts
                .map(|mount| mount["Destination"].as_str().unwrap().to_owned())
                // An image may have volumes of its own.
                .filter(|folder| folder.starts_with("/deployment"))
                .collect();
            folders.sort();
            folders
        };
        assert_eq!(mounted(service), [format!("/deployment/{service}")]);
        let [certificate, state] = &mounted(postgres)[..] else {
            panic!("{:?}", mounted(postgres));
        };
        assert_eq!(
            [certificate, state],
            [
                &format!("/deployment/{postgres}"),
                &format!("/deployment/{postgres}-state")
            ]
        );
        for container in [*service, postgres] {
            let made = project.inspect(container);
            for variable in made[0]["Config"]["Env"].as_array().unwrap() {
                let (name, _) = variable.as_str().unwrap().split_once('=').unwrap();
                assert!(
                    !name.to_uppercase().contains("PASSWORD") || name.ends_with("_FILE"),
                    "{container} has {name}"
                );
            }
        }
    }
}

#[test]
fn provision_goes_on_by_itself_after_a_database_was_away() {
    let project = Project::up(&["frontend"]);
    assert_eq!(project.wait("frontend"), 0, "{}", project.logs("frontend"));
    // A requester logs in, consents, asks and gets the items.
    let play = || {
        project.run(
            "frontend",
            &["play", "--dir", "/deployment", "--scene", "resumed"],
        )
    };
    for side in &SIDES {
        let running = |service: &str| project.inspect(service)[0]["State"]["Pid"].as_i64();
        let before = running(side.service);
        project.stop(side.postgres);
        let away = play();
        assert_ne!(away.code, 0, "without {}:\n{}", side.postgres, away.text);

        project.start(side.postgres);
        let mut last_words = String::new();
        let provided = (0..TRIES).any(|_| {
            let back = play();
            last_words = back.text;
            back.code == 0
        });
        assert!(
            provided,
            "{} is back:\n{last_words}\n{}",
            side.postgres,
            project.logs(side.service)
        );
        assert!(before.is_some_and(|pid| pid > 0));
        assert_eq!(running(side.service), before, "{} was started anew", side.service);
    }
}
