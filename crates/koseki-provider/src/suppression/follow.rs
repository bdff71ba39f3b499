//! Following what acts have written down: every instance looks at the database for itself, so all serve the same linkages.

use std::{sync::Arc, time::Duration};

use common::{
    clock::Clock,
    keyring::FeedKey,
    store::{StoreError, worked},
};
use tokio::sync::watch;

use super::feed::{Feed, FeedError};
use crate::store::{ProviderStore, suppression};

/// Between two looks. An act's call returns later than the next one.
const LOOK_EVERY: Duration = Duration::from_millis(250);

const UNREADABLE: StoreError = StoreError::Unreadable("the feed's linkages");

/// The newest state; `None` before the first.
pub type Newest = watch::Receiver<Option<Arc<Feed>>>;

/// Keeps the feed up to date.
pub struct Follower {
    store: Arc<dyn ProviderStore>,
    key: FeedKey,
    clock: Arc<dyn Clock>,
    newest: watch::Sender<Option<Arc<Feed>>>,
}

/// What follows a store, and what it finds.
pub fn follower(store: Arc<dyn ProviderStore>, key: FeedKey, clock: Arc<dyn Clock>) -> (Follower, Newest) {
    let (newest, seen) = watch::channel(None);
    let follower = Follower {
        store,
        key,
        clock,
        newest,
    };
    (follower, seen)
}

impl Follower {
    /// Goes on for as long as the service runs. While it cannot look nothing is said, and gateways stop by themselves (I4).
    pub async fn keep_up(self) {
        loop {
            let looked = self.look().await;
            if let Some(Some(feed)) = worked(looked, "the suppression feed could not be brought up to date") {
                self.newest.send_replace(Some(Arc::new(feed)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self) -> Result<Option<Feed>, StoreError> {
        let database = self.store.side().database();
        let as_of = self.clock.now();
        let mut head = suppression::head(database, as_of).await?;
        if head.is_due {
            suppression::take_in_time(database, as_of).await?;
            head = suppression::head(database, as_of).await?;
        }
        let known = self.newest.borrow().clone();
        let mut feed = match known {
            // A number that has gone back is another database's.
            Some(feed) if feed.sequence <= head.sequence => Feed::clone(&feed),
            _ => match self.begin(head.sequence).await? {
                Some(feed) => feed,
                None => return Ok(None),
            },
        };
        while feed.sequence < head.sequence {
            let (sequence, linkages) = suppression::changes(database, feed.sequence, head.sequence).await?;
            // It goes through all entries: not on the threads that serve. The next one is read when it is done.
            let changed = tokio::task::spawn_blocking(move || feed.change(&linkages, sequence)).await;
            feed = match changed.map_err(|_| UNREADABLE)? {
                Ok(feed) => feed,
                Err(FeedError::SeriesFull) => match self.begin(head.sequence).await? {
                    Some(feed) => feed,
                    None => return Ok(None),
                },
                Err(error) => return Ok(failed(&error)),
            };
        }
        feed.as_of = as_of;
        Ok(Some(feed))
    }

    /// A new series, of what is stopped at the number given or later: changes after it are taken in again, and change nothing
    /// that is so already.
    async fn begin(&self, sequence: u64) -> Result<Option<Feed>, StoreError> {
        let database = self.store.side().database();
        let mut handles = Vec::new();
        let mut after = None;
        loop {
            let page = suppression::standing(database, after).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            handles.extend(page.into_iter().map(|(_, handle)| handle));
        }
        let (key, now) = (self.key.clone(), self.clock.now());
        // A second's work for a million: not on the threads that serve.
        let begun =
            tokio::task::spawn_blocking(move || Feed::begin(&key, handles.into_iter(), sequence, now));
        let begun = begun.await.map_err(|_| UNREADABLE)?;
        Ok(begun.map_or_else(|error| failed(&error), Some))
    }
}

fn failed(error: &FeedError) -> Option<Feed> {
    tracing::error!(%error, "there is no suppression feed");
    None
}
