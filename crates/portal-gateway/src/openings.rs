//! What requesters open: sessions and consents that have queued up are recorded together, so that however many there are,
//! releases wait for few of them.

use std::sync::Arc;

use common::{
    batch::{BatchLimits, BatchMeter},
    cards::Cards,
    clock::Clock,
    policy::Policies,
    refusal::Reason,
    store::part as part_of,
};

use crate::{
    in_batches::InBatches,
    requester::session_bounds,
    store::{GatewayStore, NotOpened, RequesterOpening},
};

/// Opens for requesters.
pub struct Openings(InBatches<RequesterOpening, Result<i64, NotOpened>>);

impl Openings {
    /// Starts the queue.
    pub fn start(
        store: Arc<dyn GatewayStore>,
        cards: Arc<Cards>,
        policies: Arc<Policies>,
        clock: Arc<dyn Clock>,
        limits: BatchLimits,
        meter: BatchMeter,
    ) -> Self {
        Self(InBatches::start(limits, meter, move |asked, part| {
            let (store, cards) = (store.clone(), cards.clone());
            let (bounds, now) = (session_bounds(&policies), clock.now());
            async move { store.open(part_of(&asked, part)?, &cards, bounds, now).await }
        }))
    }

    /// Opens a session or gives a consent; the requester's account.
    pub async fn open(&self, asked: RequesterOpening) -> Result<i64, NotOpened> {
        let frontend = asked.call.frontend.clone();
        self.0
            .submit(&frontend, asked)
            .await
            .map_err(NotOpened::Refused)?
    }
}

/// Why something was not opened, as the caller is told.
impl From<NotOpened> for Reason {
    fn from(not_opened: NotOpened) -> Self {
        match not_opened {
            NotOpened::RequestIdUsed => Self::RequestIdUsed,
            NotOpened::Session => Self::SessionInvalid,
            NotOpened::TooManyConsents => Self::TooManyConsents,
            NotOpened::Card(fault) => fault.into(),
            NotOpened::Refused(reason) => reason,
        }
    }
}
