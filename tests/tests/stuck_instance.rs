//! An instance that is stopped (SIGSTOP) where it stands in everybody's way: inside its release transaction, or where it
//! gets the gate although it is stopped. The others, and acts that forbid, are held up for a bounded time (DESIGN §4), and
//! what it was stopped in is not released.
//!
//! The order of the moments is drawn from a seed that is printed, and `KOSEKI_SEED` repeats. Which of its transactions it is
//! stopped in is not deterministic; that it is inside one is looked up in the server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{
    authorisation::Listener,
    clock::{Clock as _, SystemClock},
    refusal::Reason,
    terms::RequestKind,
};
use devkit::{
    card::VirtualCard,
    client::{Access, CallError, Frontend, RegistryOperator, Session, Term},
    deployment::OPERATORS,
    process::{Binaries, Pair, start_provider},
    registers::Scenario,
    story::{self, Cast, Offices, Teller},
};
use integration_tests::{
    forger::Forger,
    gate::{self, GATE},
    instances::TwoDeployments,
    log::{logs, provision, released_ids},
    soak,
    stopped::Stopped,
    stores::Behind,
};
use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{interval, timeout},
};

const KIND: RequestKind = RequestKind::CertificateRequest;
/// What the others and acts are held up for at most.
const HELD_UP_AT_MOST: Duration = Duration::from_secs(3);
/// Nothing else here takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Requesters at each gateway.
const REQUESTERS: usize = 4;
/// Stops inside a release, in every run and at the stated size.
const FEW_STOPS: usize = 2;
const MANY_STOPS: usize = 25;

/// Locks on the gate of one instance, as the server tells them; and whether nothing has come from the process for so long
/// that nothing was on its way when it was stopped.
const LOCKS: &str = "SELECT pg_locks.pid, pg_locks.granted, pg_stat_activity.state = 'idle in transaction' \
       AND state_change < clock_timestamp() - interval '250 milliseconds' \
     FROM pg_locks JOIN pg_stat_activity ON pg_stat_activity.pid = pg_locks.pid \
     WHERE locktype = 'advisory' AND (classid::bigint << 32 | objid::bigint) = $1 \
       AND datname = current_database() AND application_name = $2 AND mode = $3";
const SHARED: &str = "ShareLock";
const EXCLUSIVE: &str = "ExclusiveLock";

/// A backend's lock on the gate.
struct Lock {
    backend: i32,
    granted: bool,
    idle: bool,
}

/// Looks into the server, and gets in the way there.
struct Server(PgConnection);

impl Server {
    async fn of(database: &std::path::Path) -> Self {
        match Behind::open(database).await {
            Behind::Postgres(connection) => Self(connection),
            Behind::Sqlite(_) => panic!("the deployment stands on PostgreSQL"),
        }
    }

    async fn locks(&mut self, instance: &str, mode: &str) -> Vec<Lock> {
        let rows: Vec<(i32, bool, bool)> = sqlx::query_as(LOCKS)
            .bind(GATE)
            .bind(instance)
            .bind(mode)
            .fetch_all(&mut self.0)
            .await
            .unwrap();
        let lock = |(backend, granted, idle)| Lock {
            backend,
            granted,
            idle,
        };
        rows.into_iter().map(lock).collect()
    }

    async fn number(&mut self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.0).await.unwrap()
    }

    /// Lets nothing be recorded at once: everything goes step by step.
    async fn release_step_by_step(&mut self) {
        let definition: String =
            sqlx::query_scalar("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'append_at'")
                .fetch_one(&mut self.0)
                .await
                .unwrap();
        let (head, _) = definition.split_once("AS $function$").unwrap();
        let never = AssertSqlSafe(format!("{head} AS $$ BEGIN RETURN FALSE; END $$"));
        self.0.execute(never).await.unwrap();
    }

    async fn epoch(&mut self) -> i64 {
        self.number("SELECT epoch FROM gate").await
    }

    async fn bundles_of_the_first(&mut self) -> i64 {
        self.number("SELECT bundles FROM log_head WHERE log = 'provider-1'")
            .await
    }
}

/// Looks again and again until something is there.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looks = async {
        let mut looks = interval(LOOK_EVERY);
        loop {
            if let Some(found) = look().await {
                return found;
            }
            looks.tick().await;
        }
    };
    timeout(PATIENCE, looks)
        .await
        .unwrap_or_else(|_| panic!("{what}"))
}

/// What came back for a request.
struct Came {
    request_id: String,
    asked: Duration,
    at: Duration,
    items: bool,
}

/// Requesters at one gateway.
#[derive(Default)]
struct Asking {
    came: Mutex<Vec<Came>>,
}

impl Asking {
    async fn go_on(&self, frontend: &Frontend, session: &Session, clock: &SystemClock, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            let request_id = frontend.ids().next();
            let asked = clock.monotonic();
            let came = frontend.copy_info_as(&request_id, session, KIND, "").await;
            let at = clock.monotonic();
            if let Err(error) = &came {
                let known = [Reason::Unavailable.name(), Reason::Overloaded.name()];
                assert!(
                    error.reason().is_some_and(|reason| known.contains(&reason)),
                    "{error}"
                );
            }
            let items = came.is_ok();
            let came = Came {
                request_id,
                asked,
                at,
                items,
            };
            self.came.lock().unwrap().push(came);
        }
    }

    /// When the first items came for a request that was made after a moment.
    fn first_after(&self, moment: Duration) -> Option<Duration> {
        let came = self.came.lock().unwrap();
        let items = came.iter().filter(|came| came.items && came.asked >= moment);
        items.map(|came| came.at).min()
    }

    /// The longest time without an answer with items, from a moment on.
    fn longest_gap(&self, from: Duration) -> Duration {
        let came = self.came.lock().unwrap();
        let items = came.iter().filter(|came| came.items && came.at >= from);
        let mut times: Vec<Duration> = items.map(|came| came.at).collect();
        times.sort();
        let mut last = from;
        let mut longest = Duration::ZERO;
        for at in times {
            longest = longest.max(at - last);
            last = at;
        }
        longest
    }
}

/// Both instances of both services as processes, under load.
struct Bench {
    clock: Arc<SystemClock>,
    deployments: TwoDeployments,
    pairs: [Pair; 2],
    offices: [Offices; 2],
    asking: [Arc<Asking>; 2],
    person: String,
    stop: Arc<AtomicBool>,
    work: JoinSet<()>,
    server: Server,
}

impl Bench {
    async fn start() -> Self {
        let deployments = TwoDeployments::create().await;
        let binaries = Binaries::locate().unwrap();
        let pairs = [
            Pair::start(&binaries, &deployments.first).await.unwrap(),
            Pair::start(&binaries, &deployments.second).await.unwrap(),
        ];
        let clock = Arc::new(SystemClock::new());
        let mut casts = Vec::new();
        let mut offices = Vec::new();
        for (pair, deployment) in pairs.iter().zip([&deployments.first, &deployments.second]) {
            let access = Access::new(deployment, clock.clone());
            let reach = pair.reach().unwrap();
            casts.push(Cast::new(deployment, &access, &reach.portal).unwrap());
            offices.push(Offices::new(deployment, &access, &reach).unwrap());
        }
        let mut teller = Teller::new(|_| {});
        story::load(&deployments.first, &offices[0], &mut teller)
            .await
            .unwrap();
        assert_eq!(teller.failed().count(), 0, "{:#?}", teller.steps());

        let stop = Arc::new(AtomicBool::new(false));
        let mut work = JoinSet::new();
        let asking: [Arc<Asking>; 2] = Default::default();
        for (cast, asking) in casts.iter().zip(&asking) {
            cast.frontend.wait_until_providing().await.unwrap();
            let (_, card) = cast.person(Scenario::Ordinary).unwrap();
            let session = cast.frontend.login(&card).await.unwrap();
            let text = cast.frontend.consent_text(KIND).await.unwrap();
            let hour = Term::For(Duration::from_secs(3_600));
            cast.frontend.consent(&session, &text, hour).await.unwrap();
            for _ in 0..REQUESTERS {
                let (frontend, session, asking) = (cast.frontend.clone(), session.clone(), asking.clone());
                let (clock, stop) = (clock.clone(), stop.clone());
                work.spawn(async move { asking.go_on(&frontend, &session, &clock, &stop).await });
            }
        }
        let mut server = Server::of(&deployments.first.provider_database()).await;
        server.release_step_by_step().await;
        // Whom acts are about: nobody who asks.
        let (person, _) = casts[0].person(Scenario::Suppressed).unwrap();
        let person = person.person_id.clone();
        Self {
            clock,
            server,
            deployments,
            pairs,
            offices: offices.try_into().unwrap_or_else(|_| panic!("two")),
            asking,
            person,
            stop,
            work,
        }
    }

    fn database(&self) -> PathBuf {
        self.deployments.first.provider_database()
    }

    /// Stops the first provider at a moment at which it is inside its release transaction, and stays there.
    async fn stop_inside_a_release(&mut self) -> (Stopped, Duration, i32) {
        for _ in 0..500 {
            let (server, first) = (&mut self.server, &self.pairs[0].provider);
            let held = async || {
                server
                    .locks("provider-1", SHARED)
                    .await
                    .into_iter()
                    .find(|lock| lock.granted)
            };
            let lock = until("the first provider releases nothing", held).await;
            let at = self.clock.monotonic();
            let stopped = Stopped::new(first);
            // What the server was doing for it ends: then it waits for a process that says nothing, or there is no
            // transaction any more.
            let stays = async || {
                let locks = self.server.locks("provider-1", SHARED).await;
                match locks.into_iter().find(|found| found.backend == lock.backend) {
                    Some(found) if found.granted && found.idle => Some(true),
                    Some(_) => None,
                    None => Some(false),
                }
            };
            if until("the server goes on for ever", stays).await {
                return (stopped, at, lock.backend);
            }
        }
        panic!("the first provider could not be stopped inside a release");
    }

    /// Stops the first provider while it waits for the gate: it gets it although it is stopped.
    async fn stop_at_the_gate(&mut self, waits_for: &str) -> (Stopped, Duration, i32) {
        let (take, give_back) = match waits_for {
            SHARED => ("pg_advisory_lock", "pg_advisory_unlock"),
            _ => ("pg_advisory_lock_shared", "pg_advisory_unlock_shared"),
        };
        gate::call(&mut self.server.0, take).await;
        let act = (waits_for == EXCLUSIVE).then(|| self.act(0));
        let server = &mut self.server;
        let waits = async || {
            server
                .locks("provider-1", waits_for)
                .await
                .into_iter()
                .find(|lock| !lock.granted)
        };
        let lock = until("the first provider does not come to the gate", waits).await;
        let stopped = Stopped::new(&self.pairs[0].provider);
        let at = self.clock.monotonic();
        gate::call(&mut self.server.0, give_back).await;
        let has_it = async || {
            let locks = self.server.locks("provider-1", waits_for).await;
            let found = locks.into_iter().find(|found| found.backend == lock.backend)?;
            (found.granted && found.idle).then_some(())
        };
        until("the stopped provider does not get the gate", has_it).await;
        if let Some(act) = act {
            // Its caller is told that it is not recorded, or nothing, once the process goes on.
            tokio::spawn(async move {
                let told = act.await.unwrap();
                assert!(
                    told.is_err(),
                    "an act was acknowledged whose transaction was ended"
                );
            });
        }
        (stopped, at, lock.backend)
    }

    /// An operator forbids through an instance.
    fn act(&self, instance: usize) -> JoinHandle<Result<u64, CallError>> {
        let operator = self.offices[instance].registry[0].clone();
        let person = self.person.clone();
        let act_id = operator.ids().next();
        tokio::spawn(async move { operator.record_non_provision(&act_id, Some(&person), None).await })
    }

    /// The first provider is stopped and has the gate: measures how long it is in the way, lets it go on, and sees that it
    /// has released nothing of what it was stopped in. How long an act and look-ups were held up.
    async fn is_in_the_way(
        &mut self,
        (stopped, at, backend): (Stopped, Duration, i32),
    ) -> (Duration, Duration) {
        let epoch = self.server.epoch().await;
        let bundles = self.server.bundles_of_the_first().await;
        let committed = released_ids(&self.database(), "provider-1").await;
        let act = self.act(1);
        let (server, clock) = (&mut self.server, &self.clock);
        let recorded = async || (server.epoch().await > epoch).then(|| clock.monotonic());
        let recorded = until("the act was not recorded", recorded).await - at;

        // Look-ups through the second instance are answered again, at the latest when the act is out of the way.
        let asking = self.asking[1].clone();
        until("look-ups are not answered again", async || {
            asking.first_after(at + recorded)
        })
        .await;
        let gap = asking.longest_gap(at);

        // The server has ended the transaction, and nothing of it is there. The backend gives its locks back before it ends.
        let server = &mut self.server;
        let ended = async || {
            let there: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE pid = $1")
                .bind(backend)
                .fetch_one(&mut server.0)
                .await
                .unwrap();
            (there == 0).then_some(())
        };
        until("the connection of the stopped transaction is still there", ended).await;
        assert_eq!(self.server.bundles_of_the_first().await, bundles);
        drop(stopped);
        let went_on = self.clock.monotonic();
        let asking = self.asking[0].clone();
        let serves = until("it does not serve again", async || asking.first_after(went_on)).await;
        println!(
            "it serves again {} ms after it went on",
            (serves - went_on).as_millis()
        );
        // What was under way by then had waited for too long when the process went on.
        for came in asking.came.lock().unwrap().iter() {
            assert!(
                !came.items || came.asked >= at || committed.contains(&came.request_id),
                "{} was under way when the process was stopped, and was answered",
                came.request_id
            );
        }
        act.await.unwrap().expect("the act was recorded");
        (recorded, gap)
    }
}

/// When the first provider is stopped.
#[derive(Clone, Copy, Debug)]
enum Moment {
    InsideARelease,
    ReleaseAtTheGate,
    ActAtTheGate,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_instance_holds_the_others_up_for_a_bounded_time() {
    let seed = soak::seed();
    let stops = if soak::is_soak() { MANY_STOPS } else { FEW_STOPS };
    println!("seed {seed} (KOSEKI_SEED repeats it)");
    let mut moments = vec![Moment::InsideARelease; stops];
    moments.extend([Moment::ReleaseAtTheGate, Moment::ActAtTheGate]);
    moments.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut bench = Bench::start().await;
    let mut rounds = Vec::new();
    for moment in moments {
        let stopped = match moment {
            Moment::InsideARelease => bench.stop_inside_a_release().await,
            Moment::ReleaseAtTheGate => bench.stop_at_the_gate(SHARED).await,
            Moment::ActAtTheGate => bench.stop_at_the_gate(EXCLUSIVE).await,
        };
        rounds.push((moment, bench.is_in_the_way(stopped).await));
    }
    bench.stop.store(true, Ordering::SeqCst);
    while let Some(ended) = bench.work.join_next().await {
        ended.unwrap();
    }
    for database in [bench.database(), bench.deployments.first.gateway_database()] {
        assert_eq!(logs(&database).await.len(), 2);
    }
    for pair in bench.pairs {
        pair.stop().await.unwrap();
    }
    let rounds: Vec<_> = rounds
        .into_iter()
        .map(|(moment, (act, gap))| {
            assert!(
                act <= HELD_UP_AT_MOST && gap <= HELD_UP_AT_MOST,
                "{moment:?}: {act:?} {gap:?}"
            );
            json!({
                "stopped": format!("{moment:?}"),
                "act_recorded_after_ms": act.as_millis(),
                "look_ups_without_an_answer_for_ms": gap.as_millis(),
            })
        })
        .collect();
    let figures = json!({ "seed": seed, "stops": rounds });
    println!("{figures:#}");
    soak::write_figures(&figures);
}

/// Rows of a look-up that no buffer between server and process holds: 200 items, a copy of 60 KB each. It is a real copy's
/// place, and nothing that anybody could read.
const ITEMS: usize = 200;
/// What a service keeps for releases.
const RELEASE_CONNECTIONS: usize = 3;
const LARGE_COPIES: &str = "UPDATE register_copy SET body = \
     (SELECT string_agg(sha256(convert_to(register_copy.id || ' ' || part, 'UTF8')), '') FROM generate_series(1, 1900) AS part)";

/// Asks for one person so many times in one batch, as a gateway would: the id of the first, and what comes back.
async fn ask(
    forger: &mut Forger,
    card: &VirtualCard,
    items: usize,
) -> (String, JoinHandle<Result<usize, String>>) {
    let (code, login) = (forger.code(card), forger.login(card).await);
    let lines: Vec<_> = (0..items).map(|_| forger.honest(&code, &login)).collect();
    let id = lines[0].item.request_id.clone();
    let eligibility = forger.eligibility(&lines);
    let request = forger.request(&eligibility, &lines);
    let mut client = forger.client.clone();
    let asked = async move {
        let answer = client.provide_copy_info(request).await;
        answer
            .map(|answer| answer.into_inner().results.len())
            .map_err(|status| status.code().to_string())
    };
    (id, tokio::spawn(asked))
}

/// The server cannot get rid of the rows that a stopped process does not take. Its own time-outs do not look at that.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_reader_of_many_rows_does_not_keep_the_gate() {
    let deployments = TwoDeployments::create().await;
    let binaries = Binaries::locate().unwrap();
    let first = Pair::start(&binaries, &deployments.first).await.unwrap();
    let second = start_provider(&binaries, &deployments.second).await.unwrap();
    let clock = Arc::new(SystemClock::new());
    let access = Access::new(&deployments.first, clock.clone());
    let reach = first.reach().unwrap();
    let offices = Offices::new(&deployments.first, &access, &reach).unwrap();
    let mut teller = Teller::new(|_| {});
    story::load(&deployments.first, &offices, &mut teller)
        .await
        .unwrap();
    assert_eq!(teller.failed().count(), 0, "{:#?}", teller.steps());
    let [here, _] = offices.registry;
    let there = second.address(Listener::KosekiAdmin.name()).unwrap().to_string();
    let other = Access::new(&deployments.second, clock.clone());
    let there = RegistryOperator::new(&other, OPERATORS[0], &there).unwrap();

    let database = deployments.first.provider_database();
    let mut server = Server::of(&database).await;
    server.release_step_by_step().await;
    sqlx::query(LARGE_COPIES).execute(&mut server.0).await.unwrap();
    // Its statements are known to the server: then a look-up asks and takes the rows in one go. Each of the connections of
    // releases learns them; they take turns.
    let linkage = first
        .provider
        .address(Listener::Linkage.name())
        .unwrap()
        .to_string();
    let mut forger = Forger::new(&deployments.first, &linkage, clock.clone());
    let (_, card) = Cast::new(&deployments.first, &access, &reach.portal)
        .unwrap()
        .person(Scenario::Ordinary)
        .unwrap();
    for _ in 0..RELEASE_CONNECTIONS {
        assert_eq!(ask(&mut forger, &card, 1).await.1.await.unwrap().unwrap(), 1);
    }
    // The look-up waits for this table with the gate in its hand, until the process is stopped. On a connection of its own:
    // within a transaction the server shows others' activity as it was at the first look.
    let mut holder = Server::of(&database).await;
    let lock = "BEGIN; LOCK TABLE non_provision IN ACCESS EXCLUSIVE MODE";
    holder.0.execute(lock).await.unwrap();
    let (id, asked) = ask(&mut forger, &card, ITEMS).await;
    let waits = "SELECT pid FROM pg_stat_activity WHERE application_name = 'provider-1' \
                 AND datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'SELECT asked.at, linkage.person%' \
                 AND EXISTS (SELECT 1 FROM pg_locks WHERE pg_locks.pid = pg_stat_activity.pid AND locktype = 'advisory' AND granted)";
    let backend: i32 = until("the look-up does not come to the table", async || {
        sqlx::query_scalar(waits)
            .fetch_optional(&mut server.0)
            .await
            .unwrap()
    })
    .await;
    let stopped = Stopped::new(&first.provider);
    let at = clock.monotonic();
    holder.0.execute("COMMIT").await.unwrap();
    let writes = "SELECT wait_event = 'ClientWrite' FROM pg_stat_activity WHERE pid = $1";
    until("the server does not wait for the reader", async || {
        let writes: Option<Option<bool>> = sqlx::query_scalar(writes)
            .bind(backend)
            .fetch_optional(&mut server.0)
            .await
            .unwrap();
        (writes.flatten() == Some(true)).then_some(())
    })
    .await;

    let epoch = server.epoch().await;
    let act_id = there.ids().next();
    let suspended = there.suspend(&act_id, None);
    let recorded = async {
        let recorded = async || (server.epoch().await > epoch).then(|| clock.monotonic());
        until("the act was not recorded", recorded).await - at
    };
    let (suspended, recorded) = tokio::join!(suspended, recorded);
    println!(
        "an act through the other instance was recorded after {} ms",
        recorded.as_millis()
    );
    suspended.expect("the act was recorded");
    assert!(recorded <= HELD_UP_AT_MOST, "{recorded:?}");
    drop(stopped);
    asked.await.unwrap().expect_err("its transaction was ended");
    here.suspend(&here.ids().next(), None)
        .await
        .expect("it serves again");
    assert_eq!(provision(&database, &id).await, None);
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}
