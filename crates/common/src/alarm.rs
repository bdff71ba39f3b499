//! Alarms: a closed list of what an operator has to look at. One stands from when it is raised until what raised it is
//! over, and is told once, at error level, when it begins to stand.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What an operator has to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alarm {
    /// A next policy is to be in force within the hour, and one of the two sides lacks it.
    NextPolicyMissingAtPeer,
    /// The two sides have other policies in force: nothing is provided.
    PolicyMismatch,
    /// The file of the next policy cannot be taken; what was held before is held on.
    NextPolicyUnreadable,
    /// Closings wait for a second person for longer than the policy allows; they stay in force.
    ClosingUnconfirmed,
    /// Persons are entered in more than one current register: nothing is provided to them until their municipalities have
    /// settled it.
    SecondCurrentRegister,
    /// The registry side sent more than the policy lists. It stands until the service is started anew: somebody has to
    /// find out why.
    AnswerOutsideMask,
    /// The registry side refuses logins that this side accepts: roots, revocation lists, policy or clocks differ. The
    /// requesters are told of the register refusal. It stands until the service is started anew.
    LoginRefusedByRegistrySide,
    /// The registry side sent an answer without a receipt that fits it: it is withheld. It stands until the service is started
    /// anew.
    ReceiptRefused,
    /// This instance's audit log cannot be written: nothing is recorded, so nothing is provided and nothing is acknowledged.
    LogUnwritable,
    /// Another process writes this instance's audit log: this one does nothing any more. Stop it, or give it a log of its own.
    LogTaken,
    /// This instance's audit log was closed: it does nothing any more. Once its last entry is countersigned, stop it, and start
    /// another under a new name.
    LogClosed,
    /// This instance's audit log is not countersigned by the other side for longer than the policy allows: nothing is provided.
    LogUnwitnessed,
    /// The other side has countersigned what this instance's audit log is not, or is behind: a restored copy, or one of two.
    /// Nothing is provided until the instance is replaced by one with a log of its own.
    LogDiffers,
    /// A log of the other side does not go on from what this side has countersigned, or goes on after this side has closed it: it
    /// is not countersigned any more.
    PeerLogInconsistent,
    /// A file among the revocation lists cannot be taken: unreadable, not signed by a pinned root, or going back. What was
    /// taken before is held on.
    RevocationListUnusable,
    /// A root has no fresh revocation list: its cards can neither log in nor be provided to.
    RevocationListStale,
    /// The suppression feed is older than the policy's bound: nothing is provided.
    SuppressionFeedStale,
    /// An instance of the registry side has not provided for a while: it is away, or does not fit together with this side. The
    /// others provide, if there are any.
    ProviderInstanceAway,
}

impl Alarm {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NextPolicyMissingAtPeer => "NEXT_POLICY_MISSING_AT_PEER",
            Self::PolicyMismatch => "POLICY_MISMATCH",
            Self::NextPolicyUnreadable => "NEXT_POLICY_UNREADABLE",
            Self::ClosingUnconfirmed => "CLOSING_UNCONFIRMED",
            Self::SecondCurrentRegister => "SECOND_CURRENT_REGISTER",
            Self::AnswerOutsideMask => "ANSWER_OUTSIDE_MASK",
            Self::LoginRefusedByRegistrySide => "LOGIN_REFUSED_BY_REGISTRY_SIDE",
            Self::ReceiptRefused => "RECEIPT_REFUSED",
            Self::LogUnwritable => "LOG_UNWRITABLE",
            Self::LogTaken => "LOG_TAKEN",
            Self::LogClosed => "LOG_CLOSED",
            Self::LogUnwitnessed => "LOG_UNWITNESSED",
            Self::LogDiffers => "LOG_DIFFERS",
            Self::PeerLogInconsistent => "PEER_LOG_INCONSISTENT",
            Self::RevocationListUnusable => "REVOCATION_LIST_UNUSABLE",
            Self::RevocationListStale => "REVOCATION_LIST_STALE",
            Self::SuppressionFeedStale => "SUPPRESSION_FEED_STALE",
            Self::ProviderInstanceAway => "PROVIDER_INSTANCE_AWAY",
        }
    }
}

/// The alarms of a service. Clones are the same alarms.
#[derive(Clone, Default)]
pub struct Alarms(Arc<Mutex<BTreeSet<(Alarm, String)>>>);

impl Alarms {
    /// Lets an alarm stand. `about` is the instance or thing that it is about, never anything personal.
    pub fn raise(&self, alarm: Alarm, about: &str) {
        if self.held().insert((alarm, about.to_owned())) {
            tracing::error!(alarm = alarm.name(), about, "an alarm stands");
        }
    }

    /// What raised an alarm is over.
    pub fn clear(&self, alarm: Alarm, about: &str) {
        if self.held().remove(&(alarm, about.to_owned())) {
            tracing::info!(alarm = alarm.name(), about, "an alarm is over");
        }
    }

    /// Raises or clears.
    pub fn set(&self, alarm: Alarm, about: &str, stands: bool) {
        if stands {
            self.raise(alarm, about);
        } else {
            self.clear(alarm, about);
        }
    }

    /// Whether it stands.
    pub fn stands(&self, alarm: Alarm, about: &str) -> bool {
        self.held().contains(&(alarm, about.to_owned()))
    }

    /// What stands, and what it is about.
    pub fn standing(&self) -> Vec<(Alarm, String)> {
        self.held().iter().cloned().collect()
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<(Alarm, String)>> {
        // Each change is one operation on the set: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_stands_for_each_thing_that_it_is_about_until_it_is_cleared() {
        let alarms = Alarms::default();
        let same = alarms.clone();
        alarms.raise(Alarm::PolicyMismatch, "gateway-1");
        alarms.raise(Alarm::PolicyMismatch, "gateway-1");
        alarms.raise(Alarm::PolicyMismatch, "gateway-2");
        same.clear(Alarm::PolicyMismatch, "gateway-1");
        assert_eq!(
            alarms.standing(),
            [(Alarm::PolicyMismatch, "gateway-2".to_owned())]
        );
        alarms.set(Alarm::PolicyMismatch, "gateway-2", false);
        assert!(same.standing().is_empty());
    }
}
