//! An operator's desk: the program, a connection profile, and both services to call.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
    time::Duration,
};

use common::{identity::Role, tls::TlsFiles};
use devkit::{
    deployment::{GATEWAY_INSTANCE, OFFICER, PROVIDER_INSTANCE, TRUST_DOMAIN},
    process::Binaries,
};
use integration_tests::{Pair, Setting, raw::PATIENCE, stored};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use toml::Table;

/// Looked for, and built, once.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Where the program is.
pub(crate) fn program() -> &'static Path {
    PROGRAM.get_or_init(|| Binaries::kosekictl().unwrap())
}

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Ended {
    /// The one document on standard output.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Both outputs hold all of the words.
    #[track_caller]
    pub(crate) fn says(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(
                self.out.contains(word) || self.error.contains(word),
                "`{word}` in {self:#?}"
            );
        }
        self
    }

    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// Both services, loaded, and a folder for files.
pub(crate) struct Desk {
    pub(crate) pair: Pair,
    folder: TempDir,
    /// What no output may hold: linkage codes, names, domiciles.
    secrets: Vec<String>,
}

/// What both sides have stored.
pub(crate) type Stored = [BTreeMap<String, Vec<String>>; 2];

/// The gateway looks at the registry side every so often, and `status` tells of one that is not ready.
async fn until_ready(pair: &Pair) {
    let ready = async {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        while !pair.gateway.readiness().get() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready)
        .await
        .expect("the gateway is not ready");
}

impl Desk {
    pub(crate) async fn open() -> Self {
        Self::open_set(&Setting::default()).await
    }

    pub(crate) async fn open_set(setting: &Setting<'_>) -> Self {
        let pair = Pair::start_set(setting).await.load().await;
        until_ready(&pair).await;
        let secrets = secrets(&pair);
        Self {
            pair,
            folder: TempDir::new().unwrap(),
            secrets,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The connection profile of a caller; `change` may spoil it.
    pub(crate) fn profile_with(&self, role: Role, name: &str, change: impl FnOnce(&mut Table)) -> String {
        let TlsFiles {
            certificate,
            private_key,
            peer_ca,
        } = self.pair.deployment.client(role, name);
        let reach = self.pair.reach();
        let text = include_str!("../../../deploy/config/kosekictl.toml");
        let mut table: Table = text.parse().unwrap();
        table["trust_domain"] = TRUST_DOMAIN.into();
        for (key, file) in [
            ("certificate", certificate),
            ("private_key", private_key),
            ("peer_ca", peer_ca),
        ] {
            table["tls"][key] = file.to_str().unwrap().into();
        }
        for (section, address, instance) in [
            ("registry_admin", &reach.registry_admin, PROVIDER_INSTANCE),
            ("portal_admin", &reach.portal_admin, GATEWAY_INSTANCE),
            ("ingest", &reach.ingest, PROVIDER_INSTANCE),
        ] {
            table[section]["address"] = address.as_str().into();
            table[section]["instance"] = instance.into();
        }
        change(&mut table);
        // A profile for each call: calls of one test may overlap.
        let name = format!(
            "{}-{}.toml",
            name.replace('/', "-"),
            fs::read_dir(self.folder.path()).unwrap().count()
        );
        self.write(&name, table.to_string())
    }

    /// Runs the program as an operator.
    pub(crate) async fn run(&self, operator: &str, arguments: &[&str]) -> Ended {
        let profile = self.profile_with(Role::Operator, operator, |_| {});
        self.run_with(&profile, arguments).await
    }

    /// Runs the program as the officer of a municipality.
    pub(crate) async fn run_officer(&self, code: &str, arguments: &[&str]) -> Ended {
        let name = format!("{code}/{OFFICER}");
        let profile = self.profile_with(Role::Municipality, &name, |_| {});
        self.run_with(&profile, arguments).await
    }

    /// Runs the program with a profile.
    pub(crate) async fn run_with(&self, profile: &str, arguments: &[&str]) -> Ended {
        let mut words = vec!["--config", profile];
        words.extend(arguments);
        self.run_bare(&words).await
    }

    /// Runs the program with these words only.
    pub(crate) async fn run_bare<S: AsRef<OsStr>>(&self, words: &[S]) -> Ended {
        let ended = run(words).await;
        self.keeps_quiet(&ended.out);
        self.keeps_quiet(&ended.error);
        ended
    }

    /// Nothing personal and no code is in a text.
    #[track_caller]
    pub(crate) fn keeps_quiet(&self, text: &str) {
        for secret in &self.secrets {
            assert!(!text.contains(secret.as_str()), "`{secret}` was printed:\n{text}");
        }
    }

    /// What both sides have stored.
    pub(crate) async fn stored(&self) -> Stored {
        let deployment = &self.pair.deployment;
        [
            stored(&deployment.provider_database()).await,
            stored(&deployment.gateway_database()).await,
        ]
    }

    /// A municipality that has sent more than a few copies, its file, and the file's lines.
    pub(crate) fn municipality(&self) -> (String, PathBuf, Vec<String>) {
        let copies = self.pair.deployment.copies().unwrap();
        let of = |(code, path): (String, PathBuf)| {
            let lines = fs::read_to_string(&path).unwrap();
            (code, path, lines.lines().map(str::to_owned).collect::<Vec<_>>())
        };
        let mut files: Vec<_> = copies.into_iter().map(of).collect();
        files.sort_by_key(|(_, _, lines)| lines.len());
        files.pop().unwrap()
    }
}

/// Runs the program without a terminal.
pub(crate) async fn run<S: AsRef<OsStr>>(words: &[S]) -> Ended {
    let ended = Command::new(program())
        .args(words)
        .env_remove("KOSEKICTL_CONFIG")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(PATIENCE * 4, ended)
        .await
        .expect("it ends by itself")
        .unwrap();
    Ended {
        code: ended.status.code(),
        out: String::from_utf8(ended.stdout).unwrap(),
        error: String::from_utf8(ended.stderr).unwrap(),
    }
}

/// Every linkage code of the data set, and names and domiciles of its registers.
fn secrets(pair: &Pair) -> Vec<String> {
    let mut secrets = Vec::new();
    for path in [pair.deployment.persons(), pair.deployment.linkages()] {
        for line in fs::read_to_string(path).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            secrets.extend(line["linkage_code"].as_str().map(str::to_owned));
        }
    }
    for (_, path) in pair.deployment.copies().unwrap() {
        for line in fs::read_to_string(path).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            for field in ["registered_domicile", "first_entered_person"] {
                secrets.push(line[field].as_str().unwrap().to_owned());
            }
            secrets.push(line["members"][0]["name"].as_str().unwrap().to_owned());
        }
    }
    secrets.sort();
    secrets.dedup();
    assert!(secrets.len() > 100);
    secrets
}
