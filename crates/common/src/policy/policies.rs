//! The policies that a side holds: the one in force and at most one next, which takes its place at its moment on both
//! sides without anybody's doing (clause 5).

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use koseki_proto::koseki::linkage::v1::PolicyRef;

use super::Policy;
use crate::{
    alarm::{Alarm, Alarms},
    clock::{Clock, Timestamp},
    files::FileError,
};

/// How often the file of the next policy is looked at.
const NEXT_POLICY_INTERVAL: Duration = Duration::from_secs(2);
/// How long before its moment a next policy has to be there on both sides.
const NEXT_POLICY_NOTICE: Duration = Duration::from_secs(3_600);

/// What a service asks of a policy beyond what every policy has to be.
pub type Suits = Box<dyn Fn(&Policy) -> Result<(), String> + Send + Sync>;

/// The policy in force and at most one next. Whoever decides takes one snapshot ([`Policies::current`]) and keeps to it.
pub struct Policies {
    held: RwLock<Held>,
    next_file: Option<PathBuf>,
    suits: Suits,
    clock: Arc<dyn Clock>,
    alarms: Alarms,
}

#[derive(Clone)]
struct Held {
    /// The one in force before: the other side may still name it for as long as clocks may differ.
    before: Option<Arc<Policy>>,
    in_force: Arc<Policy>,
    next: Option<Arc<Policy>>,
}

/// What the other side says that it holds.
pub struct Told<'a> {
    /// SHA-256 of the one in force.
    pub in_force: &'a [u8],
    /// The next one.
    pub next: Option<&'a PolicyRef>,
}

impl Policies {
    /// Reads the policy in force, and the next one if there is one. A next one that cannot be taken does not keep the
    /// service from starting: it alarms.
    pub fn load(
        file: &Path,
        next_file: Option<PathBuf>,
        suits: Suits,
        clock: Arc<dyn Clock>,
        alarms: Alarms,
    ) -> Result<Self, FileError> {
        let policy = read(file, &suits)?;
        if policy.effective_at > clock.now() {
            return Err(FileError::content(file, "effective_at: must not lie ahead"));
        }
        let this = Self {
            held: RwLock::new(Held {
                before: None,
                in_force: Arc::new(policy),
                next: None,
            }),
            next_file,
            suits,
            clock,
            alarms,
        };
        this.read_next();
        Ok(this)
    }

    /// The policy in force now.
    pub fn current(&self) -> Arc<Policy> {
        self.held().in_force
    }

    /// Number of the policy in force: its moment, in milliseconds since the Unix epoch. It only rises.
    pub fn number(&self) -> i64 {
        self.current().effective_at.unix_ms()
    }

    /// The policy that the other side names by its hash, if it may: the one in force, and around the moment of a change
    /// the one on its other side, for as long as the clocks may differ.
    pub fn named(&self, sha256: &[u8], now: Timestamp, skew: Duration) -> Option<Arc<Policy>> {
        let Held {
            before,
            in_force,
            next,
        } = self.held();
        let changed_at = in_force.effective_at;
        let before = before.filter(|_| now <= changed_at.after(skew));
        let next = next.filter(|next| next.effective_at <= now.after(skew));
        [Some(in_force), before, next]
            .into_iter()
            .flatten()
            .find(|policy| policy.sha256 == sha256)
    }

    /// Whether the other side may name this policy now.
    pub fn may_name(&self, sha256: &[u8], now: Timestamp, skew: Duration) -> bool {
        self.named(sha256, now, skew).is_some()
    }

    /// How long a forbidding act at the provider waits: an answer may still be on its way under any policy that the other
    /// side may name.
    pub fn guard_wait(&self) -> Duration {
        let held = self.held();
        let others = [held.before, held.next].into_iter().flatten();
        others.fold(held.in_force.exchange.guard_wait(), |longest, policy| {
            longest.max(policy.exchange.guard_wait())
        })
    }

    /// What this side tells the other: the policy in force and the next one.
    pub fn told(&self) -> (PolicyRef, Option<PolicyRef>) {
        let reference = |policy: &Policy| PolicyRef {
            sha256: policy.sha256.to_vec(),
            effective_at: Some(policy.effective_at.to_proto()),
        };
        let held = self.held();
        (reference(&held.in_force), held.next.as_deref().map(reference))
    }

    /// Compares with what the other side tells, and alarms: whether the policies in force fit together, and whether each
    /// side has the next one in time. Returns whether those in force fit.
    pub fn compare(&self, peer: &str, theirs: &Told<'_>) -> bool {
        let now = self.clock.now();
        let held = self.held();
        let fit = self.may_name(theirs.in_force, now, held.in_force.exchange.max_clock_skew());
        self.alarms.set(Alarm::PolicyMismatch, peer, !fit);

        let is_near = |moment: Timestamp| moment <= now.after(NEXT_POLICY_NOTICE);
        let they_lack = held.next.as_deref().is_some_and(|next| {
            is_near(next.effective_at)
                && theirs.next.is_none_or(|theirs| theirs.sha256 != next.sha256)
                && theirs.in_force != next.sha256
        });
        let we_lack = theirs.next.is_some_and(|next| {
            let moment = next.effective_at.as_ref().and_then(Timestamp::from_proto);
            moment.is_none_or(is_near)
                && held
                    .next
                    .as_deref()
                    .is_none_or(|ours| ours.sha256 != *next.sha256)
                && held.in_force.sha256 != *next.sha256
        });
        let missing = they_lack || we_lack;
        self.alarms.set(Alarm::NextPolicyMissingAtPeer, peer, missing);
        fit
    }

    /// Looks at the file of the next policy for as long as the service runs.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(NEXT_POLICY_INTERVAL).await;
            self.read_next();
        }
    }

    /// Takes what the file of the next policy says, or leaves everything as it is.
    fn read_next(&self) {
        let Some(file) = &self.next_file else {
            return;
        };
        let about = "next_policy_file";
        match self.find_next(file) {
            Ok(next) => {
                self.alarms.clear(Alarm::NextPolicyUnreadable, about);
                self.take_next(next.map(Arc::new));
            }
            Err(error) => {
                let is_new = !self
                    .alarms
                    .standing()
                    .iter()
                    .any(|(alarm, _)| *alarm == Alarm::NextPolicyUnreadable);
                if is_new {
                    tracing::error!(
                        error = crate::telemetry::chain(&error),
                        "the next policy cannot be taken"
                    );
                }
                self.alarms.raise(Alarm::NextPolicyUnreadable, about);
            }
        }
    }

    /// The policy that the file holds, checked as a whole; `None` when there is no file or it is the one in force.
    fn find_next(&self, file: &Path) -> Result<Option<Policy>, FileError> {
        let unreadable = |source| FileError::Unreadable {
            path: file.to_owned(),
            source,
        };
        if !file.try_exists().map_err(unreadable)? {
            return Ok(None);
        }
        let next = read(file, &self.suits)?;
        let in_force = self.current();
        if next.sha256 == in_force.sha256 {
            return Ok(None);
        }
        if next.effective_at <= in_force.effective_at {
            let rule = "effective_at: must be later than that of the policy in force";
            return Err(FileError::content(file, rule));
        }
        Ok(Some(next))
    }

    fn take_next(&self, next: Option<Arc<Policy>>) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let hash = |policy: &Option<Arc<Policy>>| policy.as_ref().map(|policy| policy.sha256);
        if hash(&held.next) == hash(&next) {
            return;
        }
        match &next {
            Some(next) => tracing::info!(
                sha256 = data_encoding::HEXLOWER.encode(&next.sha256),
                effective_at = next.effective_at.to_rfc3339(),
                "a next policy is held"
            ),
            None => tracing::warn!("the next policy is withdrawn"),
        }
        held.next = next;
    }

    /// What is held now. The next policy takes its place here, when its moment has come.
    fn held(&self) -> Held {
        let now = self.clock.now();
        let is_due = |held: &Held| held.next.as_deref().is_some_and(|next| next.effective_at <= now);
        {
            // Each change is one assignment: a panic elsewhere leaves it whole.
            let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
            if !is_due(&held) {
                return held.clone();
            }
        }
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = held.next.take_if(|next| next.effective_at <= now) {
            tracing::info!(
                sha256 = data_encoding::HEXLOWER.encode(&next.sha256),
                "the next policy is in force"
            );
            held.before = Some(std::mem::replace(&mut held.in_force, next));
        }
        held.clone()
    }
}

/// Reads a policy that has to suit this service.
fn read(file: &Path, suits: &Suits) -> Result<Policy, FileError> {
    let policy = Policy::load(file)?;
    suits(&policy).map_err(|rule| FileError::content(file, rule))?;
    Ok(policy)
}
