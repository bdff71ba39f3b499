//! A warning at COMMIT. When the wait for a synchronous standby is cancelled, PostgreSQL lets COMMIT succeed and says only
//! in a WARNING that the standby may not have it: the outcome is then not known. sqlx hands notices to `tracing` and to
//! nobody else, so that is where they are listened for, around the one statement that matters.

use std::{cell::Cell, future::Future, sync::LazyLock};

use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    instrument::WithSubscriber as _,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};

tokio::task_local! {
    static WARNED: Cell<bool>;
}

/// Two. `tracing` settles once, where an event first comes, whether anybody wants it; in a process with one dispatcher it asks only the
/// one of the current thread. A notice of a connection that is not watched would then silence all later ones.
static LISTENERS: LazyLock<[Dispatch; 2]> =
    LazyLock::new(|| [Dispatch::new(Listener), Dispatch::new(Listener)]);

/// Makes the listeners; before the first connection, so that no notice comes while they are made.
pub(super) fn listen() {
    LazyLock::force(&LISTENERS);
}

/// Runs a commit; what it gave, and whether the server warned.
pub(super) async fn watch<T>(commit: impl Future<Output = T>) -> (T, bool) {
    let [listener, _] = &*LISTENERS;
    WARNED
        .scope(Cell::new(false), async {
            let result = commit.with_subscriber(listener.clone()).await;
            (result, WARNED.with(Cell::get))
        })
        .await
}

struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::postgres::notice" && *metadata.level() <= Level::WARN
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if self.enabled(event.metadata()) {
            // Outside of a watched commit nobody asks.
            let _ = WARNED.try_with(|warned| warned.set(true));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As sqlx hands it on.
    fn notice() {
        tracing::warn!(target: "sqlx::postgres::notice", "canceling wait for synchronous replication");
    }

    #[tokio::test]
    async fn a_warning_is_heard_after_one_that_nobody_asked_about() {
        listen();
        notice();
        let ((), warned) = watch(async { notice() }).await;
        assert!(warned);
        let ((), warned) = watch(async {}).await;
        assert!(!warned);
    }
}
