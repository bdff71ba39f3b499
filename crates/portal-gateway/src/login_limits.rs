//! What one frontend may begin and get wrong at this instance. Each frontend has limits of its own: one that is attacked,
//! or attacks, does not lock others out.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// Bounds of a frontend's logins: the section `[login]` of the configuration.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginLimitsConfig {
    /// Challenges that are begun within the time in which one can be used.
    pub challenges: u32,
    /// Logins that may fail at once, or be under way.
    pub failures: u32,
    /// How many of them are given back a second.
    pub failures_per_second: u32,
}

impl LoginLimitsConfig {
    /// Checks the values.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        for (key, value) in [
            ("login.challenges", self.challenges),
            ("login.failures", self.failures),
            ("login.failures_per_second", self.failures_per_second),
        ] {
            if !(1..=1_000_000).contains(&value) {
                return Err((key, "must be 1 to 1,000,000"));
            }
        }
        Ok(())
    }
}

/// What a frontend has left, by the monotonic clock.
struct Left {
    /// Tries in a thousandth each.
    tries: u64,
    filled_at: Duration,
    challenges: u32,
    window_began: Duration,
}

/// The limits of all frontends.
pub struct LoginLimits {
    config: LoginLimitsConfig,
    // Frontends have certificates of the deployment's own authority: there are few.
    frontends: Mutex<HashMap<String, Left>>,
}

/// A try of a login that is under way. It has taken a place, which only a login that worked gives back.
#[must_use = "a login that worked gives its place back"]
pub struct Try(());

impl LoginLimits {
    /// These limits, with everything left.
    pub fn new(config: LoginLimitsConfig) -> Self {
        Self {
            config,
            frontends: Mutex::default(),
        }
    }

    /// Begins a challenge, when the frontend has not begun too many within `window`.
    pub fn begin_challenge(&self, frontend: &str, now: Duration, window: Duration) -> bool {
        self.with(frontend, now, |left| {
            if now.saturating_sub(left.window_began) > window {
                (left.challenges, left.window_began) = (self.config.challenges, now);
            }
            let allowed = left.challenges > 0;
            left.challenges = left.challenges.saturating_sub(1);
            allowed
        })
    }

    /// Begins a try, when not too many have failed lately.
    pub fn begin_try(&self, frontend: &str, now: Duration) -> Option<Try> {
        self.with(frontend, now, |left| {
            left.tries = left.tries.checked_sub(1_000)?;
            Some(Try(()))
        })
    }

    /// Gives the place of a try back, which has not failed by the frontend's fault.
    pub fn give_back(&self, frontend: &str, now: Duration, Try(()): Try) {
        self.with(frontend, now, |left| {
            left.tries = (left.tries + 1_000).min(self.most());
        });
    }

    fn most(&self) -> u64 {
        u64::from(self.config.failures) * 1_000
    }

    fn with<T>(&self, frontend: &str, now: Duration, then: impl FnOnce(&mut Left) -> T) -> T {
        // What is kept is changed whole: a panic elsewhere leaves it so.
        let mut frontends = self.frontends.lock().unwrap_or_else(PoisonError::into_inner);
        let left = frontends.entry(frontend.to_owned()).or_insert_with(|| Left {
            tries: self.most(),
            filled_at: now,
            challenges: self.config.challenges,
            window_began: now,
        });
        let elapsed_ms = u64::try_from(now.saturating_sub(left.filled_at).as_millis()).unwrap_or(u64::MAX);
        let filled = elapsed_ms.saturating_mul(self.config.failures_per_second.into());
        if filled > 0 {
            left.tries = left.tries.saturating_add(filled).min(self.most());
            left.filled_at = now;
        }
        then(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(120);

    fn limits() -> LoginLimits {
        LoginLimits::new(LoginLimitsConfig {
            challenges: 2,
            failures: 2,
            failures_per_second: 1,
        })
    }

    #[test]
    fn failures_use_up_what_is_left_and_time_gives_it_back() {
        let (limits, at) = (limits(), Duration::from_secs);
        for _ in 0..10 {
            let one = limits.begin_try("a", at(1)).unwrap();
            limits.give_back("a", at(1), one);
        }
        assert!(limits.begin_try("a", at(1)).is_some() && limits.begin_try("a", at(1)).is_some());
        assert!(limits.begin_try("a", at(1)).is_none());
        assert!(limits.begin_try("b", at(1)).is_some(), "another frontend");
        assert!(limits.begin_try("a", at(2)).is_some());
        assert!(limits.begin_try("a", Duration::from_millis(2_500)).is_none());
        assert!(limits.begin_try("a", at(3)).is_some());
        // Never more than the most.
        assert!(limits.begin_try("a", at(900)).is_some() && limits.begin_try("a", at(900)).is_some());
        assert!(limits.begin_try("a", at(900)).is_none());
    }

    #[test]
    fn challenges_are_bounded_within_the_time_in_which_they_can_be_used() {
        let (limits, at) = (limits(), Duration::from_secs);
        assert!(limits.begin_challenge("a", at(1), WINDOW) && limits.begin_challenge("a", at(2), WINDOW));
        assert!(!limits.begin_challenge("a", at(3), WINDOW));
        assert!(limits.begin_challenge("b", at(3), WINDOW), "another frontend");
        assert!(limits.begin_challenge("a", at(122), WINDOW));
    }
}
