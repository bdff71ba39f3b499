//! A log that is not what the other side has countersigned: an older backup, another continuation, a change behind the service's
//! back. Nothing is provided on it, whatever the service's own database says.

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
};

use common::{
    alarm::Alarm,
    evidence::{Frontier, Outcome},
    server::Server,
};
use devkit::{client::Session, deployment::Deployment, registers::Scenario};
use integration_tests::{
    Pair,
    hooks::Places,
    log,
    stores::{self, Behind},
};
use koseki_proto::{koseki::evidence::v1::Bundle, portal::v1::ProvisionState};
use prost::Message as _;

use super::{ask, session, stands, until, until_countersigned};

/// Whose log it is.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    Registry,
    Portal,
}

impl Side {
    pub(super) fn database(self, deployment: &Deployment) -> PathBuf {
        match self {
            Self::Registry => deployment.provider_database(),
            Self::Portal => deployment.gateway_database(),
        }
    }

    pub(super) fn log(self, deployment: &Deployment) -> String {
        match self {
            Self::Registry => deployment.provider_instance(),
            Self::Portal => deployment.gateway_instance(),
        }
    }

    /// Its service, and the other side's.
    pub(super) fn of(self, pair: &Pair) -> [&Server; 2] {
        match self {
            Self::Registry => [&pair.provider, &pair.gateway],
            Self::Portal => [&pair.gateway, &pair.provider],
        }
    }
}

/// Does something while both are stopped.
async fn while_stopped<F: Future<Output = ()>>(pair: Pair, between: impl FnOnce(Deployment) -> F) -> Pair {
    let none = Places::default();
    let wait = |deployment: &Deployment| {
        let done = between(deployment.clone());
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(done));
    };
    pair.again([&none, &none], wait).await
}

/// The log's head as it was: what a superuser puts back, where the database is no file.
struct Head {
    size: i64,
    bundles: i64,
    frontier: Vec<u8>,
}

fn backup_of(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}.backup", file.display()))
}

/// A service that has stopped lets go of the file a moment later.
pub(super) async fn until_closed(database: &Path) {
    until("the file is closed", async || {
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let mut files = open.filter_map(|file| fs::read_link(file.path()).ok());
        !files.any(|file| file == database)
    })
    .await;
}

/// With what stands beside it: not everything need be in the file itself.
fn with_its_log(database: &Path) -> [PathBuf; 2] {
    let beside = format!("{}-wal", database.display());
    [database.to_owned(), PathBuf::from(beside)]
}

async fn back_up(database: &Path, log: &str) -> Head {
    if !stores::on_postgres() {
        until_closed(database).await;
        for file in with_its_log(database).into_iter().filter(|file| file.exists()) {
            fs::copy(&file, backup_of(&file)).unwrap();
        }
    }
    let row = Behind::open(database)
        .await
        .connection()
        .one(
            "SELECT size, bundles, frontier FROM log_head WHERE log = {log}",
            &[("log", log.into())],
        )
        .await
        .unwrap();
    Head {
        size: row.int(0).unwrap(),
        bundles: row.int(1).unwrap(),
        frontier: row.bytes(2).unwrap().to_vec(),
    }
}

async fn restore(database: &Path, log: &str, head: &Head) {
    if !stores::on_postgres() {
        until_closed(database).await;
        let _ = fs::remove_file(format!("{}-shm", database.display()));
        for file in with_its_log(database) {
            let _ = fs::remove_file(&file);
            if backup_of(&file).exists() {
                fs::copy(backup_of(&file), &file).unwrap();
            }
        }
        return;
    }
    let mut behind = Behind::open_to_write(database).await;
    set_head(&mut behind, log, head).await;
    behind
        .connection()
        .execute(
            "DELETE FROM bundle WHERE log = {log} AND number >= {bundles}",
            &[("log", log.into()), ("bundles", head.bundles.into())],
        )
        .await
        .unwrap();
}

async fn set_head(behind: &mut Behind, log: &str, head: &Head) {
    let changed = behind
        .connection()
        .execute(
            "UPDATE log_head SET size = {size}, bundles = {bundles}, frontier = {frontier} WHERE log = {log}",
            &[
                ("log", log.into()),
                ("size", head.size.into()),
                ("bundles", head.bundles.into()),
                ("frontier", head.frontier.as_slice().into()),
            ],
        )
        .await
        .unwrap();
    assert_eq!(changed, 1);
}

/// Gives the last entry another salt, and everything that is computed from it its right value.
async fn fork(database: &Path, log: &str) {
    let mut behind = Behind::open_to_write(database).await;
    let rows = behind
        .connection()
        .all(
            "SELECT number, body FROM bundle WHERE log = {log} ORDER BY number",
            &[("log", log.into())],
        )
        .await
        .unwrap();
    let (mut tree, mut last) = (Frontier::default(), None);
    for (at, row) in rows.iter().enumerate() {
        let mut bundle = Bundle::decode(row.bytes(1).unwrap()).unwrap();
        if at + 1 == rows.len() {
            bundle.entries.last_mut().unwrap().salt[0] ^= 1;
        }
        let mut hashes = Vec::new();
        for entry in &bundle.entries {
            tree.append(&log::leaf(entry), &mut hashes);
        }
        last = Some((row.int(0).unwrap(), bundle.encode_to_vec(), hashes));
    }
    let (number, body, hashes) = last.unwrap();
    let params = [
        ("log", log.into()),
        ("number", number.into()),
        ("body", body.as_slice().into()),
        ("hashes", hashes.as_slice().into()),
    ];
    let changed = behind
        .connection()
        .execute(
            "UPDATE bundle SET body = {body}, hashes = {hashes} WHERE log = {log} AND number = {number}",
            &params,
        )
        .await
        .unwrap();
    assert_eq!(changed, 1);
    let head = Head {
        size: i64::try_from(tree.size()).unwrap(),
        bundles: number + 1,
        frontier: tree.to_bytes(),
    };
    set_head(&mut behind, log, &head).await;
}

/// Both sides, loaded, with an answer behind them and all of their logs countersigned.
async fn in_use() -> (Pair, Used) {
    let pair = Pair::start_loaded().await;
    let used = use_it(&pair).await;
    (pair, used)
}

/// A session with a consent, and the consent's id.
type Used = (Session, String);

async fn use_it(pair: &Pair) -> Used {
    let cast = pair.cast().await;
    let (session, consent) = session(&cast).await;
    assert_eq!(ask(&cast.frontend, &session).await, "PROVIDED");
    for side in [Side::Registry, Side::Portal] {
        until_countersigned(&side.database(&pair.deployment), &side.log(&pair.deployment)).await;
    }
    (session, consent)
}

/// What becomes of a side whose log differs.
async fn nothing_is_provided(side: Side, pair: &Pair, (session, consent): Used) {
    let [own, other] = side.of(pair);
    until("the log differs", async || stands(own, Alarm::LogDiffers)).await;
    until("it is not ready", async || !own.readiness().get()).await;
    until("the other side is told, too", async || {
        stands(other, Alarm::PeerLogInconsistent)
    })
    .await;
    assert!(!stands(other, Alarm::LogDiffers));

    let cast = devkit::story::Cast::new(&pair.deployment, &pair.access(), &pair.reach().portal).unwrap();
    let frontend = &cast.frontend;
    if side == Side::Portal {
        // Nothing else is in the way: the registry side is seen to be good, or nobody could log in.
        let (_, card) = cast.person(Scenario::Ordinary).unwrap();
        until("the registry side is seen", async || {
            frontend.login(&card).await.is_ok()
        })
        .await;
    }
    let status = frontend.status().await.unwrap();
    assert!(
        status
            .iter()
            .all(|kind| kind.state() == ProvisionState::Unavailable)
    );
    for _ in 0..3 {
        assert_eq!(ask(frontend, &session).await, "UNAVAILABLE");
    }
    // What forbids goes on, and is recorded.
    frontend.withdraw(&session, &consent).await.unwrap();
    let [alice, _] = &pair.offices().portal;
    alice.suspend(&frontend.ids().next(), None).await.unwrap();
    let [alice, _] = &pair.offices().registry;
    alice.suspend(&frontend.ids().next(), None).await.unwrap();
    let database = pair.deployment.gateway_database();
    assert!(log::guard_act(&database, "WITHDRAW_CONSENT").await.is_some());
    for side in [Side::Registry, Side::Portal] {
        let database = side.database(&pair.deployment);
        assert!(log::guard_act(&database, "SUSPEND_PROVISION").await.is_some());
        let released = log::bundles(&database)
            .await
            .into_iter()
            .flat_map(|bundle| bundle.entries);
        let released = released.filter(|entry| {
            matches!(&entry.event, Some(log::Event::Provision(provision)) if provision.outcome() == Outcome::Released)
        });
        assert!(released.count() <= 2, "only those of before");
    }
    // It does not come back by itself.
    assert!(stands(own, Alarm::LogDiffers) && !own.readiness().get());
}

async fn a_restored_backup(side: Side) {
    let (pair, used) = in_use().await;
    let backup = std::sync::Arc::new(tokio::sync::OnceCell::new());
    let kept = backup.clone();
    let pair = while_stopped(pair, async move |deployment: Deployment| {
        let head = back_up(&side.database(&deployment), &side.log(&deployment)).await;
        assert!(kept.set(head).is_ok());
    })
    .await;
    let _ = use_it(&pair).await;
    let pair = while_stopped(pair, async move |deployment: Deployment| {
        restore(
            &side.database(&deployment),
            &side.log(&deployment),
            backup.get().unwrap(),
        )
        .await;
    })
    .await;
    nothing_is_provided(side, &pair, used).await;
}

async fn a_forked_log(side: Side) {
    let (pair, used) = in_use().await;
    let pair = while_stopped(pair, async move |deployment: Deployment| {
        fork(&side.database(&deployment), &side.log(&deployment)).await;
    })
    .await;
    nothing_is_provided(side, &pair, used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_of_the_registry_side_provides_nothing() {
    a_restored_backup(Side::Registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_of_the_portal_side_provides_nothing() {
    a_restored_backup(Side::Portal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forked_log_of_the_registry_side_provides_nothing() {
    a_forked_log(Side::Registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forked_log_of_the_portal_side_provides_nothing() {
    a_forked_log(Side::Portal).await;
}

/// While the service runs: what it has seen a moment ago is not what stands there now.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_changed_behind_the_services_back_provides_nothing() {
    let (pair, used) = in_use().await;
    let (database, name) = (
        pair.deployment.provider_database(),
        pair.deployment.provider_instance(),
    );
    fork(&database, &name).await;
    until("the log differs", async || {
        stands(&pair.provider, Alarm::LogDiffers)
    })
    .await;
    let cast = devkit::story::Cast::new(&pair.deployment, &pair.access(), &pair.reach().portal).unwrap();
    assert_eq!(ask(&cast.frontend, &used.0).await, "UNAVAILABLE");
}
