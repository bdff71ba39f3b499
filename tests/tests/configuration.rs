//! Configuration: the samples are whole and commented, the programs take nothing else, say what is wrong with which key or
//! file, and open no port before everything is checked. On the real programs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
};

use common::config::keys;
use devkit::{
    deployment::{Addresses, Deployment, Plan},
    process::{Binaries, Program},
};
use integration_tests::{SEED, raw::PATIENCE};
use serde::{Serialize, de::DeserializeOwned};
use tempfile::TempDir;
use tokio::process::Command;
use toml::{Table, Value};

const PROVIDER: &str = include_str!("../../deploy/config/provider.toml");
const GATEWAY: &str = include_str!("../../deploy/config/gateway.toml");
const KOSEKICTL: &str = include_str!("../../deploy/config/kosekictl.toml");

/// Tables with their dotted names, the whole file's first; those of a list with their number.
fn tables(prefix: &str, table: &Table) -> Vec<String> {
    let mut found = vec![prefix.to_owned()];
    for (key, value) in table {
        let key = dotted(prefix, key);
        match value {
            Value::Table(inner) => found.extend(tables(&key, inner)),
            Value::Array(values) => {
                let inner = values.iter().enumerate();
                let inner = inner.filter_map(|(number, value)| Some((number, value.as_table()?)));
                found.extend(inner.flat_map(|(number, inner)| tables(&format!("{key}.{number}"), inner)));
            }
            _ => {}
        }
    }
    found
}

fn dotted(prefix: &str, key: &str) -> String {
    match prefix {
        "" => key.to_owned(),
        prefix => format!("{prefix}.{key}"),
    }
}

/// The table that a dotted key stands in, and the key's last part.
fn place<'a, 'k>(file: &'a mut Table, key: &'k str) -> (&'a mut Table, &'k str) {
    match key.rsplit_once('.') {
        None => (file, key),
        Some((table, key)) => {
            let mut names = table.split('.').peekable();
            let mut at = file;
            while let Some(name) = names.next() {
                let value = match names.next_if(|next| next.parse::<usize>().is_ok()) {
                    Some(number) => &mut at[name][number.parse::<usize>().unwrap()],
                    None => &mut at[name],
                };
                at = value.as_table_mut().unwrap();
            }
            (at, key)
        }
    }
}

/// The sample is the type's keys, no more and no fewer, and none has a default of its own.
fn has_exactly_the_keys_of<C: Serialize + DeserializeOwned>(sample: &str, at_least: usize) {
    let file: Table = sample.parse().unwrap();
    let config: C = toml::from_str(sample).expect("the sample is what the type takes");
    let known = keys(&config);
    assert_eq!(known, keys(&file));
    assert!(known.len() >= at_least, "{known:?}");
    for key in &known {
        let mut fewer = file.clone();
        let (table, name) = place(&mut fewer, key);
        table.remove(name).unwrap();
        let error = fewer
            .try_into::<C>()
            .err()
            .expect("no key has a default")
            .to_string();
        assert!(
            error.contains(&format!("missing field `{name}`")),
            "{key}: {error}"
        );
    }
    for table in tables("", &file) {
        let mut more = file.clone();
        let key = dotted(&table, "planted");
        let (table, name) = place(&mut more, &key);
        table.insert(name.to_owned(), 1.into());
        let error = more.try_into::<C>().err().expect("no key is unknown").to_string();
        assert!(error.contains("unknown field `planted`"), "{key}: {error}");
    }
}

#[test]
fn the_samples_have_exactly_the_keys_of_the_types() {
    has_exactly_the_keys_of::<koseki_provider::config::Config>(PROVIDER, 21);
    has_exactly_the_keys_of::<portal_gateway::config::Config>(GATEWAY, 21);
    // Three listeners of two keys each, and none of their tables has to be there.
    has_exactly_the_keys_of::<kosekictl::profile::Profile>(KOSEKICTL, 10);
}

#[test]
fn every_key_and_table_of_the_samples_is_explained() {
    for sample in [PROVIDER, GATEWAY, KOSEKICTL] {
        let lines: Vec<&str> = sample.lines().collect();
        for pair in lines.windows(2) {
            let explains = pair[0].strip_prefix("# ").is_some_and(|text| text.len() > 8);
            let needs = !pair[1].starts_with('#') && !pair[1].is_empty();
            assert!(explains || !needs, "`{}` has no comment above it", pair[1]);
        }
    }
}

/// Looked for, and built, once.
static BINARIES: OnceLock<Binaries> = OnceLock::new();

/// A deployment, and the programs.
struct Bench {
    deployment: Deployment,
    binaries: Binaries,
    _directory: TempDir,
}

/// How a program ended.
struct Ended {
    code: Option<i32>,
    out: String,
    error: String,
}

impl Bench {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let plan = Plan {
            seed: SEED,
            registers: 0,
            addresses: Addresses::loopback(),
        };
        Self {
            deployment: Deployment::create(directory.path(), &plan).unwrap(),
            binaries: BINARIES.get_or_init(|| Binaries::locate().unwrap()).clone(),
            _directory: directory,
        }
    }

    fn config(&self, program: Program) -> PathBuf {
        match program {
            Program::Provider => self.deployment.provider_config(),
            Program::Gateway => self.deployment.gateway_config(),
        }
    }

    fn folder(&self, program: Program) -> PathBuf {
        match program {
            Program::Provider => self.deployment.provider(),
            Program::Gateway => self.deployment.gateway(),
        }
    }

    /// A configuration that differs from the deployment's.
    fn changed(&self, program: Program, change: impl FnOnce(&mut Table)) -> PathBuf {
        let mut table: Table = fs::read_to_string(self.config(program)).unwrap().parse().unwrap();
        change(&mut table);
        let path = self.folder(program).join("changed.toml");
        fs::write(&path, table.to_string()).unwrap();
        path
    }

    async fn run(&self, program: Program, arguments: &[&str]) -> Ended {
        let ended = Command::new(self.binaries.path(program))
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(PATIENCE, ended)
            .await
            .expect("it ends by itself")
            .unwrap();
        Ended {
            code: ended.status.code(),
            out: String::from_utf8(ended.stdout).unwrap(),
            error: String::from_utf8(ended.stderr).unwrap(),
        }
    }

    /// Neither the check nor the service accepts a configuration, both say why, and no port is opened: the operations
    /// port, which is the first to be opened, is taken, and that is not what is said.
    async fn refused(&self, program: Program, why: &[&str], change: impl FnOnce(&mut Table)) {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let ops = taken.local_addr().unwrap().to_string();
        let path = self.changed(program, |table| {
            table["listen"]["ops"] = ops.clone().into();
            change(table);
        });
        let path = path.to_str().unwrap();
        for arguments in [&["--config", path, "--check-config"][..], &["--config", path]] {
            let ended = self.run(program, arguments).await;
            assert_eq!(ended.code, Some(1), "{arguments:?} {}", ended.error);
            assert_eq!(ended.out, "");
            for word in why {
                assert!(ended.error.contains(word), "{word} is not in: {}", ended.error);
            }
            assert!(
                !ended.error.contains("listening") && !ended.error.contains(&ops),
                "{}",
                ended.error
            );
        }
    }
}

fn set(key: &'static str, value: impl Into<Value>) -> impl FnOnce(&mut Table) {
    let value = value.into();
    move |file| {
        let (table, name) = place(file, key);
        assert!(table.insert(name.to_owned(), value).is_some(), "{key}");
    }
}

#[tokio::test]
async fn check_config_prints_the_effective_values_and_secrets_as_paths() {
    let bench = Bench::new();
    for program in Program::ALL {
        let path = bench.config(program);
        let ended = bench
            .run(program, &["--config", path.to_str().unwrap(), "--check-config"])
            .await;
        assert_eq!((ended.code, ended.error.as_str()), (Some(0), ""));
        let printed: Table = ended.out.parse().expect("TOML");
        let file: Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        assert_eq!(printed, file);

        // A value that is not as in the samples comes out as it is.
        let path = bench.changed(program, set("drain_deadline_ms", 4_321));
        let ended = bench
            .run(program, &["--check-config", "--config", path.to_str().unwrap()])
            .await;
        assert!(ended.out.contains("drain_deadline_ms = 4321"), "{}", ended.out);

        let mut secrets = vec!["keyring.toml".to_owned()];
        secrets.push(match program {
            Program::Provider => "tls/provider-key.pem".to_owned(),
            Program::Gateway => "tls/gateway-key.pem".to_owned(),
        });
        if program == Program::Gateway {
            secrets.push("eligibility-key.pem".to_owned());
            secrets.push("consent-receipt-key.pem".to_owned());
        }
        for secret in secrets {
            assert!(ended.out.contains(&secret), "{secret} is named");
            let content = fs::read_to_string(bench.folder(program).join(&secret)).unwrap();
            let lines = content.split(['\n', '"']).filter(|part| part.len() > 20);
            let secret_lines: Vec<_> = lines.filter(|part| !part.starts_with("-----")).collect();
            assert!(!secret_lines.is_empty());
            for line in secret_lines {
                assert!(!ended.out.contains(line), "{secret}");
            }
        }
    }
}

#[tokio::test]
async fn the_command_line_says_what_it_is_and_what_is_missing() {
    let bench = Bench::new();
    for program in Program::ALL {
        let name = program.name();
        let ended = bench.run(program, &["--version"]).await;
        assert_eq!(
            (ended.code, ended.out),
            (Some(0), format!("{name} {}\n", env!("CARGO_PKG_VERSION")))
        );
        let ended = bench.run(program, &["--help"]).await;
        assert_eq!(ended.code, Some(0));
        for word in [name, "--config", "--check-config", "--version", "healthcheck"] {
            assert!(ended.out.contains(word), "{word}: {}", ended.out);
        }
        let ended = bench.run(program, &[]).await;
        assert_eq!(ended.code, Some(1));
        assert!(
            ended.error.contains("--config FILE is missing"),
            "{}",
            ended.error
        );
        assert_eq!(bench.run(program, &["--nonsense"]).await.code, Some(2));
        let ended = bench.run(program, &["--config", "/nowhere/at-all.toml"]).await;
        assert_eq!(ended.code, Some(1));
        assert!(
            ended.error.contains("/nowhere/at-all.toml: cannot be read"),
            "{}",
            ended.error
        );
    }
}

#[tokio::test]
async fn a_value_that_breaks_a_rule_is_named_by_its_key() {
    let bench = Bench::new();
    for program in Program::ALL {
        for (why, change) in [
            (&["changed.toml", "unknown field `planted`"][..], {
                Box::new(|file: &mut Table| {
                    file.insert("planted".to_owned(), 1.into());
                }) as Box<dyn FnOnce(&mut Table)>
            }),
            (&["changed.toml", "missing field `instance`"], {
                Box::new(|file: &mut Table| {
                    file.remove("instance");
                })
            }),
            (
                &["changed.toml", "drain_deadline_ms"],
                Box::new(set("drain_deadline_ms", "soon")),
            ),
            (
                &["changed.toml", "admin ="],
                Box::new(set("listen.admin", "localhost")),
            ),
            (&["changed.toml", "format ="], Box::new(set("log.format", "xml"))),
            (
                &["instance: must have 1 to 64 bytes"],
                Box::new(set("instance", "")),
            ),
            (
                &["trust_domain: "],
                Box::new(set("trust_domain", "Koseki Example")),
            ),
            (
                &["limits.max_connections: must be at least 1"],
                Box::new(set("limits.max_connections", 0)),
            ),
            (
                &["limits.handshake_timeout_ms: "],
                Box::new(set("limits.handshake_timeout_ms", 0)),
            ),
            (
                &["limits.max_streams_per_connection: "],
                Box::new(set("limits.max_streams_per_connection", 0)),
            ),
            (&["limits.max_call_ms: "], Box::new(set("limits.max_call_ms", 0))),
            (
                &["provision: batch must be 1 to 256"],
                Box::new(set("provision.batch", 257)),
            ),
            (&["provision: queue must be"], Box::new(set("provision.queue", 0))),
            (
                &["log.filter: "],
                Box::new(set("log.filter", "info,koseki_provider=loudly")),
            ),
        ] {
            bench.refused(program, why, change).await;
        }
    }
    let status = "provider_status_interval_ms: must be 100 to 12,000";
    bench
        .refused(Program::Gateway, &[status], set("provider_status_interval_ms", 1))
        .await;
    let providers = |names: &[&str]| {
        let table = |name: &&str| {
            let keys = [("instance", *name), ("address", "127.0.0.1:1")];
            Table::from_iter(keys.map(|(key, value)| (key.to_owned(), value.into())))
        };
        set("provider", names.iter().map(table).collect::<Vec<_>>())
    };
    let nine = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
    for (names, why) in [
        (&[][..], "provider: must be 1 to 8 instances"),
        (&nine, "provider: must be 1 to 8 instances"),
        (&[""], "provider: each instance must have a name of 1 to 64 bytes"),
        (&["a", "b", "a"], "provider: a is there twice"),
    ] {
        bench.refused(Program::Gateway, &[why], providers(names)).await;
    }
    for key in ["login.challenges", "login.failures", "login.failures_per_second"] {
        let rule = format!("{key}: must be 1 to 1,000,000");
        bench.refused(Program::Gateway, &[&rule], set(key, 0)).await;
    }
    let reload = "card.crl_reload_seconds: must be at least 1";
    for program in Program::ALL {
        bench
            .refused(program, &[reload], set("card.crl_reload_seconds", 0))
            .await;
    }
    // A receipt without one of these would not say who is responsible, or how to withdraw.
    let rule = "must have 1 to 512 bytes and no control characters";
    for (key, value) in [
        ("consent_receipt.withdrawal_method", String::new()),
        ("consent_receipt.controller.name", "x".repeat(513)),
        ("consent_receipt.recipient.contact", "a\nb".to_owned()),
    ] {
        let why = format!("{key}: {rule}");
        bench.refused(Program::Gateway, &[&why], set(key, value)).await;
    }
    let keyring = bench.folder(Program::Gateway).join("keyring.toml");
    let whole = fs::read_to_string(&keyring).unwrap();
    let (others, _) = whole.split_once("[[page_token]]").unwrap();
    fs::write(&keyring, others).unwrap();
    let missing = "keyring.toml: page_token: at least one key";
    bench.refused(Program::Gateway, &[missing], |_| {}).await;
}

/// Every key that names a file or folder that is read at start.
fn files(program: Program) -> Vec<&'static str> {
    let mut files = vec![
        "policy_file",
        "keyring_file",
        "tls.certificate",
        "tls.private_key",
        "tls.peer_ca",
    ];
    files.extend(match program {
        Program::Provider => &["eligibility_keys_dir", "card.roots_dir", "card.crl_dir"][..],
        Program::Gateway => &[
            "eligibility.private_key",
            "consent_receipt.private_key",
            "card.roots_dir",
            "card.crl_dir",
        ],
    });
    files
}

#[tokio::test]
async fn a_file_that_is_missing_or_not_what_it_should_be_is_named() {
    let bench = Bench::new();
    let empty = bench.deployment.dir().join("empty");
    fs::write(&empty, "").unwrap();
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o600)).unwrap();
    let empty_folder = bench.deployment.dir().join("empty-folder");
    fs::create_dir(&empty_folder).unwrap();
    for program in Program::ALL {
        for key in files(program) {
            bench
                .refused(
                    program,
                    &["/nowhere/at-all: cannot be read"],
                    set(key, "/nowhere/at-all"),
                )
                .await;
            // Revocation lists may come later, and a bad one keeps no service from starting: until then no card is believed,
            // and blocks and withdrawals still work. Whoever asks is told.
            if key == "card.crl_dir" {
                let list = empty_folder.join("broken.crl");
                fs::write(&list, "").unwrap();
                let path = bench.changed(program, set(key, empty_folder.to_str().unwrap()));
                let ended = bench
                    .run(program, &["--config", path.to_str().unwrap(), "--check-config"])
                    .await;
                assert_eq!(ended.code, Some(1), "{}", ended.error);
                assert!(ended.error.contains(list.to_str().unwrap()), "{}", ended.error);
                fs::remove_file(list).unwrap();
                continue;
            }
            let path = match key.ends_with("_dir") {
                true => &empty_folder,
                false => &empty,
            };
            let path = path.to_str().unwrap();
            bench.refused(program, &[path], set(key, path)).await;
        }
    }
}

fn with_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_secret_that_others_can_read_is_refused_with_the_command_that_helps() {
    let bench = Bench::new();
    for program in Program::ALL {
        let file: Table = fs::read_to_string(bench.config(program))
            .unwrap()
            .parse()
            .unwrap();
        let mut secrets = vec![&file["keyring_file"], &file["tls"]["private_key"]];
        if program == Program::Gateway {
            secrets.push(&file["eligibility"]["private_key"]);
            secrets.push(&file["consent_receipt"]["private_key"]);
        }
        for secret in secrets {
            let path = secret.as_str().unwrap();
            for mode in [0o644, 0o640, 0o604, 0o620] {
                with_mode(Path::new(path), mode);
                let why = [
                    format!("{path}: holds a secret"),
                    format!("run `chmod 600 {path}`"),
                ];
                bench.refused(program, &[&why[0], &why[1]], |_| {}).await;
            }
            with_mode(Path::new(path), 0o600);
        }
        let path = bench.config(program);
        let ended = bench
            .run(program, &["--config", path.to_str().unwrap(), "--check-config"])
            .await;
        assert_eq!(ended.code, Some(0), "{}", ended.error);
    }
}

#[tokio::test]
async fn a_consent_text_that_is_not_the_one_of_the_policy_is_named() {
    let bench = Bench::new();
    for program in Program::ALL {
        let text = bench.folder(program).join("policy/consent/notification.ja.txt");
        let mut changed = fs::read_to_string(&text).unwrap();
        changed.push('。');
        fs::write(&text, changed).unwrap();
        bench
            .refused(
                program,
                &[
                    "provision-policy.toml",
                    "must be the SHA-256 of consent/notification.ja.txt",
                ],
                |_| {},
            )
            .await;
    }
}

#[tokio::test]
async fn a_certificate_and_a_key_that_do_not_belong_together_are_refused() {
    let bench = Bench::new();
    let other = bench.deployment.gateway().join("tls/gateway-key.pem");
    let why = ["the certificate and private key do not make a TLS configuration"];
    let other = other.to_str().unwrap().to_owned();
    bench
        .refused(Program::Provider, &why, set("tls.private_key", other))
        .await;
}
