//! One-time consents that requests on their way are to spend: each carries one request, so the next one needs another, whichever
//! batch it is in.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Those of all batches on their way.
#[derive(Default)]
pub struct Spending(Mutex<HashSet<[u8; 16]>>);

/// Those of one batch; dropped, they are free again, if they were not spent.
pub(super) struct BatchSpending<'a> {
    all: &'a Spending,
    /// What was on its way when the batch began: spent meanwhile, it may still look unspent in what the batch has read.
    before: HashSet<[u8; 16]>,
    own: Vec<[u8; 16]>,
}

impl Spending {
    /// Of a batch that begins now, and has read nothing yet.
    pub(super) fn begin(&self) -> BatchSpending<'_> {
        BatchSpending {
            all: self,
            before: self.held().clone(),
            own: Vec::new(),
        }
    }

    fn held(&self) -> MutexGuard<'_, HashSet<[u8; 16]>> {
        // Each change is one insertion or removal: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BatchSpending<'_> {
    /// Whether a request on its way is to spend it.
    pub(super) fn has(&self, consent: &[u8; 16]) -> bool {
        self.before.contains(consent) || self.all.held().contains(consent)
    }

    /// A request of this batch is to spend it.
    pub(super) fn take(&mut self, consent: [u8; 16]) {
        if self.all.held().insert(consent) {
            self.own.push(consent);
        }
    }
}

impl Drop for BatchSpending<'_> {
    fn drop(&mut self) {
        let mut all = self.all.held();
        for consent in &self.own {
            all.remove(consent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consent_is_taken_until_the_batch_that_takes_it_ends() {
        let spending = Spending::default();
        let mut first = spending.begin();
        first.take([1; 16]);
        let mut second = spending.begin();
        assert!(first.has(&[1; 16]) && second.has(&[1; 16]));
        // Who takes what is taken does not free it for the other.
        second.take([1; 16]);
        second.take([2; 16]);
        drop(second);
        assert!(first.has(&[1; 16]) && !first.has(&[2; 16]));
        // A batch that began before does not take for unspent what it may have read before it was spent.
        let third = spending.begin();
        drop(first);
        assert!(third.has(&[1; 16]));
        assert!(!spending.begin().has(&[1; 16]));
    }
}
