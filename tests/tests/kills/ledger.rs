//! What services have acknowledged, and what has been seen that must not be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use common::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use crate::audit::Log;

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Provider,
    Gateway,
}

/// What kind of thing was acknowledged: a kill comes after so many of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    /// A line of a file.
    Line,
    /// An answer with items, a consent, a withdrawal, a login.
    Request,
    /// A forbidding act of an operator.
    Act,
}

/// Where a line was sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Destination {
    /// A municipality's copies.
    Copies(String),
    /// Persons and linkages of the registry side.
    Persons,
    /// Linkages of the portal side.
    Linkages,
}

impl Destination {
    pub(crate) fn side(&self) -> Side {
        match self {
            Self::Copies(_) | Self::Persons => Side::Provider,
            Self::Linkages => Side::Gateway,
        }
    }
}

/// What was acknowledged.
#[derive(Default)]
pub(crate) struct Acknowledged {
    pub(crate) lines: BTreeMap<Destination, Vec<String>>,
    /// Request ids of answers with items.
    pub(crate) answers: BTreeSet<String>,
    pub(crate) consents: BTreeSet<String>,
    pub(crate) withdrawals: BTreeSet<String>,
    /// Ids of forbidding acts, by side.
    pub(crate) acts: [BTreeSet<String>; 2],
    /// Calls that broke: their outcome was not known then.
    pub(crate) broken: u64,
    violations: Vec<String>,
}

/// The ledger, and what the workers tell each other.
pub(crate) struct Ledger {
    acknowledged: Mutex<Acknowledged>,
    counts: [[watch::Sender<u64>; 3]; 2],
    up: [watch::Sender<bool>; 2],
    stopped: watch::Sender<bool>,
    kills: watch::Sender<usize>,
    /// Forbidding acts that are still to be done.
    pub(crate) acts_left: watch::Sender<usize>,
    clock: Arc<SystemClock>,
}

impl Ledger {
    pub(crate) fn new(clock: Arc<SystemClock>) -> Self {
        Self {
            acknowledged: Mutex::default(),
            counts: Default::default(),
            up: [watch::Sender::new(true), watch::Sender::new(true)],
            stopped: watch::Sender::new(false),
            kills: watch::Sender::new(0),
            acts_left: watch::Sender::new(0),
            clock,
        }
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Writes down something that this side has acknowledged.
    pub(crate) fn acknowledge(&self, side: Side, thing: Thing, write: impl FnOnce(&mut Acknowledged)) {
        write(&mut self.acknowledged.lock().unwrap());
        self.counts[side as usize][thing as usize].send_modify(|count| *count += 1);
    }

    /// Reads what is written.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Acknowledged) -> T) -> T {
        read(&self.acknowledged.lock().unwrap())
    }

    /// A call broke.
    pub(crate) fn broke(&self) {
        self.acknowledged.lock().unwrap().broken += 1;
    }

    /// Something was seen that must not be.
    pub(crate) fn violated(&self, what: String) {
        println!("VIOLATION: {what}");
        self.acknowledged.lock().unwrap().violations.push(what);
    }

    /// Waits for so many more acknowledgements of a side.
    pub(crate) async fn wait_for_more(&self, side: Side, thing: Thing, more: u64, limit: Duration) {
        let mut count = self.counts[side as usize][thing as usize].subscribe();
        let wanted = *count.borrow() + more;
        let waited = timeout(limit, count.wait_for(|count| *count >= wanted)).await;
        assert!(
            waited.is_ok(),
            "{side:?} has not acknowledged {more} more of {thing:?}"
        );
    }

    pub(crate) fn goes_down(&self, side: Side) {
        self.up[side as usize].send_replace(false);
    }

    pub(crate) fn is_up(&self, side: Side) {
        self.up[side as usize].send_replace(true);
    }

    /// Waits until a side is up.
    pub(crate) async fn until_up(&self, side: Side) {
        self.up[side as usize]
            .subscribe()
            .wait_for(|up| *up)
            .await
            .unwrap();
    }

    pub(crate) fn has_killed(&self, number: usize) {
        self.kills.send_replace(number);
    }

    /// Waits until so many kills are done, or the work is to stop.
    pub(crate) async fn until_killed(&self, number: usize) {
        let (mut kills, mut stopped) = (self.kills.subscribe(), self.stopped.subscribe());
        tokio::select! {
            reached = kills.wait_for(|done| *done >= number) => drop(reached),
            stopped = stopped.wait_for(|stopped| *stopped) => drop(stopped),
        }
    }

    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Whether the work is to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// What was acknowledged stands in the logs; how much it was.
    pub(crate) fn compare_with_logs(&self, provider: &Log, gateway: &Log) -> Value {
        let written = self.acknowledged.lock().unwrap();
        let mut missing = Vec::new();
        let mut look = |what: &str, side: &str, wanted: &BTreeSet<String>, found: &BTreeSet<String>| {
            missing.extend(
                wanted
                    .difference(found)
                    .map(|id| format!("{what} {id} is not in the log of the {side}")),
            );
        };
        look("answer", "provider", &written.answers, &provider.released);
        look("answer", "gateway", &written.answers, &gateway.released);
        look("consent", "gateway", &written.consents, &gateway.named);
        look(
            "withdrawal of consent",
            "gateway",
            &written.withdrawals,
            &gateway.named,
        );
        look(
            "act",
            "provider",
            &written.acts[Side::Provider as usize],
            &provider.named,
        );
        look(
            "act",
            "gateway",
            &written.acts[Side::Gateway as usize],
            &gateway.named,
        );
        assert!(missing.is_empty(), "{missing:#?}");
        json!({
            "lines": written.lines.values().map(Vec::len).sum::<usize>(),
            "answers": written.answers.len(),
            "consents": written.consents.len(),
            "withdrawals": written.withdrawals.len(),
            "acts_at_the_provider": written.acts[Side::Provider as usize].len(),
            "acts_at_the_gateway": written.acts[Side::Gateway as usize].len(),
            "calls_without_an_answer": written.broken,
        })
    }

    pub(crate) fn assert_nothing_was_broken(&self) {
        let written = self.acknowledged.lock().unwrap();
        assert!(written.violations.is_empty(), "{:#?}", written.violations);
        for (what, count) in [
            ("lines", written.lines.values().map(Vec::len).sum()),
            ("answers", written.answers.len()),
            ("consents", written.consents.len()),
            ("acts at the provider", written.acts[0].len()),
            ("acts at the gateway", written.acts[1].len()),
        ] {
            assert!(count > 0, "no {what} were acknowledged: the test tests nothing");
        }
    }
}
