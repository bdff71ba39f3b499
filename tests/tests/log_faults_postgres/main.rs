//! The log on PostgreSQL cannot be written, a write hangs, or its outcome is not known (I2, I3, I9): requesters are refused,
//! the services say that they cannot serve, nothing is answered without an entry, the log is not forked, and all that ends by
//! itself. The services run in this process, the servers are real, with fsync on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

mod commits;

use std::{
    fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use commits::{Commits, Line};
use common::{alarm::Alarm, authorisation::Listener};
use devkit::{postgres::Cluster, story::Cast};
use integration_tests::{
    Pair, Setting, address,
    asking::Asking,
    broken::{Side, UnderLoad, ops_of, until_alarm, until_ready},
    start_gateway, start_provider, stores,
};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::time::interval;

/// Both services on one server of their own: what breaks it breaks both.
struct Bench {
    server: Arc<Cluster>,
    pair: Pair,
}

impl Bench {
    async fn start() -> Self {
        let server = Arc::new(Cluster::start().unwrap());
        let setting = Setting {
            servers: Some([server.clone(), server.clone()]),
            ..Setting::default()
        };
        Self {
            server,
            pair: Pair::start_set(&setting).await.load().await,
        }
    }

    async fn load(&self) -> UnderLoad {
        let ops = [ops_of(&self.pair.provider), ops_of(&self.pair.gateway)];
        UnderLoad::start(&self.pair.deployment, ops, &self.pair.cast().await).await
    }

    async fn superuser(&self, side: Side) -> PgConnection {
        let url = side
            .database(&self.pair.deployment)
            .with_extension("superuser-url");
        PgConnection::connect(&fs::read_to_string(url).unwrap())
            .await
            .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_refuses_and_is_found_again() {
    let bench = Bench::start().await;
    let mut load = bench.load().await;
    // All connections of both services, again and again, whatever they are in.
    let mut superuser = bench.superuser(Side::Registry).await;
    let mut often = interval(Duration::from_millis(50));
    for _ in 0..40 {
        often.tick().await;
        superuser
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
            )
            .await
            .unwrap();
    }
    load.recovers("connections were killed").await;

    bench.server.stop();
    load.refuses(&Side::BOTH, "the server has crashed").await;
    bench.server.start_again().unwrap();
    load.recovers("the server had crashed").await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_hangs_refuses_and_recovers() {
    let bench = Bench::start().await;
    let mut load = bench.load().await;
    let stopped = Stopped::new(&bench.server);
    load.refuses(&Side::BOTH, "the server is stopped").await;
    drop(stopped);
    load.recovers("the server was stopped").await;

    // A commit that waits for a standby that never comes is in doubt: it has the head's row, and nobody sees it.
    let mut superuser = bench.superuser(Side::Registry).await;
    let mut wait_for = async |standby: &str| {
        let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{standby}'");
        superuser.execute(AssertSqlSafe(set)).await.unwrap();
        superuser.execute("SELECT pg_reload_conf()").await.unwrap();
    };
    wait_for("nobody").await;
    load.refuses(&Side::BOTH, "commits hang").await;
    wait_for("").await;
    load.recovers("commits hung").await;
    load.end().await;
}

/// Nothing is appended, signed or believed on top of what may be rolled back.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_outcome_is_not_known_is_no_answer_and_forks_nothing() {
    let server = Cluster::shared().unwrap();
    let lines = [Line::to(server.port()).await, Line::to(server.port()).await];
    let setting = Setting {
        servers: Some([server.clone(), server.clone()]),
        ..Setting::default()
    };
    let pair = Pair::start_with(&setting, |deployment| {
        for side in Side::BOTH {
            lead_through(
                &stores::service_url(&side.database(deployment)),
                &server,
                &lines[side as usize],
            );
        }
    })
    .await
    .load()
    .await;
    let ops = [ops_of(&pair.provider), ops_of(&pair.gateway)];
    let mut load = UnderLoad::start(&pair.deployment, ops, &pair.cast().await).await;
    for side in Side::BOTH {
        let line = &lines[side as usize];
        for commits in [
            Commits::ReplySwallowed,
            Commits::NotDelivered,
            Commits::NothingMore,
        ] {
            let cut = line.cut();
            line.set(commits);
            load.refuses(&[side], &format!("{commits:?}")).await;
            assert!(line.cut() > cut, "no commit was cut");
            line.set(Commits::Answered);
            load.recovers(&format!("{commits:?}")).await;
        }
    }
    load.end().await;
}

/// What the service's own settings leave of a full disk: the table of the bundles cannot grow, and rows that are there can be
/// changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_recovers() {
    /// A segment of the server's WAL, which it has made before it needs it: files may become so long, and no longer.
    const FULL: u64 = 16 * 1024 * 1024;
    let bench = Bench::start().await;
    for side in Side::BOTH {
        // Rows of no log, until the table is longer than that. Four of them leave no room on their page.
        let fill = "INSERT INTO bundle (log, number, first_index, epoch, body, hashes) \
             SELECT 'filler', number, number, 0, NULL, decode(repeat('00', 1964), 'hex') \
             FROM generate_series(1, 12000) AS number";
        bench.superuser(side).await.execute(fill).await.unwrap();
    }
    let mut load = bench.load().await;
    limit(&bench.server, Some(FULL));
    load.refuses(&Side::BOTH, "a full disk").await;
    for side in Side::BOTH {
        // What room there still is on a page, small rows take: not even the entry of a log that goes on has any.
        let mut superuser = bench.superuser(side).await;
        let small = "INSERT INTO bundle (log, number, first_index, epoch, body, hashes) \
             SELECT 'filler', max(number) + 1, max(number) + 1, 0, NULL, '' FROM bundle WHERE log = 'filler'";
        while superuser.execute(small).await.is_ok() {}
    }
    load.goes_on_refusing(&Side::BOTH, "a full disk").await;
    limit(&bench.server, None);
    load.recovers("a full disk").await;
    load.end().await;
}

/// Two processes of one instance: the first is fenced, for good, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_log_another_has_taken_serves_no_more() {
    let server = Cluster::shared().unwrap();
    let setting = Setting {
        servers: Some([server.clone(), server]),
        ..Setting::default()
    };
    let pair = Pair::start_set(&setting).await.load().await;
    let ops = [ops_of(&pair.provider), ops_of(&pair.gateway)];
    let mut load = UnderLoad::start(&pair.deployment, ops, &pair.cast().await).await;

    let second = start_gateway(&pair.deployment, pair.clock.clone()).await;
    load.refuses(&[Side::Portal], "another gateway has taken the log")
        .await;
    let portal = address(&second, Listener::Portal);
    let cast = Cast::new(&pair.deployment, &pair.access(), &portal).unwrap();
    cast.frontend.wait_until_providing().await.unwrap();
    let asking = Asking::start(&cast).await;
    asking.until_answered("another start").await;
    until_alarm(&pair.gateway, Alarm::LogTaken, "gateway-1", true).await;

    let _second_provider = start_provider(&pair.deployment, pair.clock.clone()).await;
    asking.until_refused("another provider has taken the log").await;
    load.refuses(&Side::BOTH, "another provider has taken the log")
        .await;
    until_alarm(&pair.provider, Alarm::LogTaken, "provider-1", true).await;
    until_ready(ops_of(&pair.gateway), false, "the first gateway").await;
    let also = asking.end().await;
    load.end_with(also).await;
}

/// Lets a service reach its database through the line.
fn lead_through(url_file: &Path, server: &Cluster, line: &Line) {
    let url = fs::read_to_string(url_file).unwrap();
    let led = url.replace(&format!(":{}/", server.port()), &format!(":{}/", line.port));
    assert_ne!(led, url);
    fs::write(url_file, led).unwrap();
}

/// A server and its backends.
fn processes(server: &Cluster) -> Vec<Pid> {
    let postmaster = server.pid().unwrap();
    let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap();
    let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
    let all = std::iter::once(i32::try_from(postmaster).unwrap()).chain(children);
    all.map(|pid| Pid::from_raw(pid).unwrap()).collect()
}

/// How long the files may be that a server writes, in bytes.
fn limit(server: &Cluster, most: Option<u64>) {
    let owner = fs::metadata(server.data()).unwrap();
    let most = most.map_or_else(|| "unlimited".to_owned(), |most| most.to_string());
    let all = processes(server).into_iter().enumerate();
    for (at, pid) in all {
        // Only their own user may, whatever this one may otherwise.
        let set = Command::new("prlimit")
            .uid(owner.uid())
            .gid(owner.gid())
            .args(["--pid", &pid.as_raw_nonzero().to_string()])
            .arg(format!("--fsize={most}:unlimited"))
            .stderr(Stdio::null())
            .status()
            .unwrap();
        // A backend may have ended meanwhile; the server, which comes first, gives its limit to new ones.
        assert!(at > 0 || set.success(), "{set}");
    }
}

/// A server that is stopped; it goes on when this is dropped.
struct Stopped(Vec<Pid>);

impl Stopped {
    fn new(server: &Cluster) -> Self {
        let all = processes(server);
        for pid in &all {
            // A backend may have ended meanwhile.
            let _ = kill_process(*pid, Signal::STOP);
        }
        Self(all)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}
