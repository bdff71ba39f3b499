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

static LISTENER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Listener));

/// Runs a commit; what it gave, and whether the server warned.
pub(super) async fn watch<T>(commit: impl Future<Output = T>) -> (T, bool) {
    WARNED
        .scope(Cell::new(false), async {
            let result = commit.with_subscriber(LISTENER.clone()).await;
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
