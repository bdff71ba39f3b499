//! What could forbid every release at a side: it stands in the view `gate_facts`, in one text, so that any statement can bring it as
//! one column, of the same moment as what else it reads.

use super::StoreError;
use crate::{
    card::ListNumbers, clock::Timestamp, evidence::Epoch, policy::Policy, suspension::Suspensions,
    terms::RequestKind,
};

/// What could forbid every release, as it stood at one moment. As long as the epoch is the same nothing of it has changed.
#[derive(Clone)]
pub struct GateFacts {
    pub(super) epoch: i64,
    policy_effective_at: Timestamp,
    lists: ListNumbers,
    suspensions: Suspensions,
}

impl GateFacts {
    /// Reads the view's text: the epoch, the moment of the newest policy, the numbers of the revocation lists, the kinds that are
    /// suspended, with a space between.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let unreadable = StoreError::Unreadable("what the gate says");
        let mut parts = text.split(' ');
        let (Some(epoch), Some(policy), Some(lists), Some(suspended), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(unreadable);
        };
        let (Ok(epoch), Ok(policy), Some(lists)) =
            (epoch.parse(), policy.parse(), ListNumbers::gathered(lists))
        else {
            return Err(unreadable);
        };
        Ok(Self {
            epoch,
            policy_effective_at: Timestamp::from_unix_ms(policy),
            lists,
            suspensions: suspensions(suspended),
        })
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.unsigned_abs())
    }

    /// Whether a policy may still be released under. The gate has the moment of the newest one that any instance has gone over
    /// to: an instance that has not may release under the one before for as long as clocks may differ, and not longer.
    pub fn policy_holds(&self, policy: &Policy, now: Timestamp) -> bool {
        let newest = self.policy_effective_at;
        policy.effective_at >= newest || now <= newest.after(policy.exchange.max_clock_skew())
    }

    /// The numbers of the revocation lists that this side has taken.
    pub fn list_numbers(&self) -> &ListNumbers {
        &self.lists
    }

    /// The kinds that are suspended at this side.
    pub fn suspensions(&self) -> &Suspensions {
        &self.suspensions
    }
}

/// A kind that this program does not know stops everything (I4).
fn suspensions(kinds: &str) -> Suspensions {
    let mut suspensions = Suspensions::default();
    for kind in kinds.split(',').filter(|kind| !kind.is_empty()) {
        let kind = kind.parse().ok();
        suspensions.add(kind.and_then(|kind| RequestKind::parse(kind).ok()));
    }
    suspensions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_view_is_read_or_refused_as_a_whole() {
        let facts = GateFacts::parse("7 1000  ").unwrap();
        assert_eq!(facts.epoch(), Epoch(7));
        assert!(!facts.suspensions().covers(RequestKind::ALL[0]));
        let facts = GateFacts::parse(&format!("7 1000 {} 1,2", "0a".repeat(52))).unwrap();
        assert!(facts.suspensions().covers(RequestKind::ALL[0]));
        assert_ne!(*facts.list_numbers(), ListNumbers::default());
        // A kind that is not known.
        let facts = GateFacts::parse("7 1000  99").unwrap();
        assert!(
            RequestKind::ALL
                .into_iter()
                .all(|kind| facts.suspensions().covers(kind))
        );
        for other in ["", "7 1000 ", "7 1000   ", "x 1000  ", "7 1000 00 "] {
            assert!(GateFacts::parse(other).is_err(), "{other:?}");
        }
    }
}
