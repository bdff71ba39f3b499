//! The revocation lists that count at one moment, at most one for each root.

use std::{sync::Arc, time::Duration};

use super::{ListNumbers, RevocationList};
use crate::{card::CardFault, clock::Timestamp};

/// Lists of several roots. A clone is the same lists.
#[derive(Clone, Default)]
pub struct RevocationLists(Vec<Arc<RevocationList>>);

impl RevocationLists {
    /// The lists.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<RevocationList>> {
        self.0.iter()
    }

    /// Their numbers.
    pub fn numbers(&self) -> ListNumbers {
        self.0.iter().map(|list| (list.issuer, list.number)).collect()
    }

    /// A root's list.
    pub fn of(&self, issuer: &[u8; 32]) -> Option<&Arc<RevocationList>> {
        self.0.iter().find(|list| list.issuer == *issuer)
    }

    /// Puts a list in the place of its root's.
    pub(crate) fn put(&mut self, list: Arc<RevocationList>) {
        self.remove(&list.issuer);
        self.0.push(list);
    }

    /// Leaves a root without a list.
    pub(crate) fn remove(&mut self, issuer: &[u8; 32]) {
        self.0.retain(|known| known.issuer != *issuer);
    }

    /// Checks that a certificate is valid and not revoked now, by a list no older than `max_age`.
    pub fn check(
        &self,
        issuer: &[u8; 32],
        serial: &[u8],
        not_after: Timestamp,
        now: Timestamp,
        max_age: Duration,
    ) -> Result<(), CardFault> {
        if now > not_after {
            return Err(CardFault::Expired);
        }
        self.of(issuer)
            .filter(|list| list.is_fresh(now, max_age))
            .ok_or(CardFault::RevocationUnknown)?
            .check(serial)
    }
}

impl FromIterator<Arc<RevocationList>> for RevocationLists {
    fn from_iter<T: IntoIterator<Item = Arc<RevocationList>>>(lists: T) -> Self {
        let mut this = Self::default();
        for list in lists {
            this.put(list);
        }
        this
    }
}
