//! The log on SQLite cannot be written, or a write hangs (I2, I3, I9): requesters are refused, the services say that they
//! cannot serve, nothing is answered without an entry, the log is not forked, and all that ends by itself. That a second
//! process does not get at the file at all is in `processes`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use common::{alarm::Alarm, clock::SystemClock};
use devkit::{
    client::Access,
    deployment::{Addresses, Deployment, Plan},
    process::{Binaries, Pair as Processes, Program, Service},
    story::{self, Cast, Offices, Teller},
};
use integration_tests::{
    Pair, REGISTERS, SEED, Setting,
    broken::{Side, UnderLoad, ops_of, until_alarm},
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use sqlx::{Connection as _, Executor as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_hangs_refuses_and_recovers() {
    let pair = Pair::start_set(&Setting::default()).await.load().await;
    let ops = [ops_of(&pair.provider), ops_of(&pair.gateway)];
    let mut load = UnderLoad::start(&pair.deployment, ops, &pair.cast().await).await;
    for side in Side::BOTH {
        let options = SqliteConnectOptions::new().filename(side.database(&pair.deployment));
        let mut holder = SqliteConnection::connect_with(&options).await.unwrap();
        holder.execute("BEGIN IMMEDIATE").await.unwrap();
        load.refuses(&[side], "somebody else holds the file").await;
        let (server, log) = match side {
            Side::Registry => (&pair.provider, "provider-1"),
            Side::Portal => (&pair.gateway, "gateway-1"),
        };
        until_alarm(server, Alarm::LogUnwritable, log, true).await;
        holder.execute("ROLLBACK").await.unwrap();
        load.recovers("somebody else has held the file").await;
        until_alarm(server, Alarm::LogUnwritable, log, false).await;
    }
    load.end().await;
}

/// The disk is full: a process whose files must not grow any more. It can only be read: one whose files must not be written at
/// all. The system refuses these writes as it refuses those, whoever runs the test.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_writes_refuses_and_recovers() {
    let directory = TempDir::new().unwrap();
    let plan = Plan {
        seed: SEED,
        registers: REGISTERS,
        addresses: Addresses::loopback(),
    };
    let deployment = Deployment::create(directory.path().join("deployment"), &plan).unwrap();
    let binaries = unkilled(&directory.path().join("programs"));
    let processes = Processes::start(&binaries, &deployment).await.unwrap();
    let access = Access::new(&deployment, Arc::new(SystemClock::new()));
    let reach = processes.reach().unwrap();
    let offices = Offices::new(&deployment, &access, &reach).unwrap();
    let mut teller = Teller::new(|_| {});
    story::load(&deployment, &offices, &mut teller).await.unwrap();
    assert_eq!(teller.failed().count(), 0, "{:#?}", teller.steps());
    let cast = Cast::new(&deployment, &access, &reach.portal).unwrap();
    let services = [&processes.provider, &processes.gateway];
    let ops = services.map(|service| service.address("ops").unwrap());
    let mut load = UnderLoad::start(&deployment, ops, &cast).await;

    for side in Side::BOTH {
        let service = services[side as usize];
        let mut wal = side.database(&deployment).into_os_string();
        wal.push("-wal");
        let full = fs::metadata(&wal).unwrap().len();
        for (most, fault) in [(full, "a full disk"), (0, "a disk that can only be read")] {
            limit(service, Some(most));
            load.refuses(&[side], fault).await;
            limit(service, None);
            load.recovers(fault).await;
        }
    }
    load.end().await;
    processes.stop().await.unwrap();
}

/// The programs, as they run where a file that must not grow is no reason to be killed.
fn unkilled(folder: &Path) -> Binaries {
    let binaries = Binaries::locate().unwrap();
    fs::create_dir(folder).unwrap();
    for program in Program::ALL {
        let script = folder.join(program.name());
        let text = format!(
            "#!/bin/sh\ntrap '' XFSZ\nexec '{}' \"$@\"\n",
            binaries.path(program).display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    }
    Binaries::in_folder(folder.to_owned()).unwrap()
}

/// How long the files may be that a process writes, in bytes.
fn limit(service: &Service, most: Option<u64>) {
    let pid = i32::try_from(service.id().unwrap()).unwrap();
    let limit = Rlimit {
        current: most,
        maximum: None,
    };
    prlimit(Pid::from_raw(pid), Resource::Fsize, limit).unwrap();
}
