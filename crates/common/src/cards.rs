//! The pinned roots of the cards' certificates and their newest revocation lists, kept up to date.

use std::{
    path::PathBuf,
    sync::{Arc, RwLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    card::{Card, CardFault, CardRoots, RevocationLists},
    clock::{Clock, Timestamp},
    config::ConfigError,
    files::FileError,
    policy::Policies,
    telemetry,
};

/// What card certificates are checked with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardConfig {
    /// Roots of the user-authentication certificates.
    pub roots_dir: PathBuf,
    /// Their revocation lists.
    pub crl_dir: PathBuf,
    /// Seconds after which the lists are read again.
    pub crl_reload_seconds: u64,
}

impl CardConfig {
    /// See [`Self::crl_reload_seconds`].
    pub fn crl_reload(&self) -> Duration {
        Duration::from_secs(self.crl_reload_seconds)
    }

    /// Checks the values that can be checked by themselves.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self.crl_reload_seconds {
            0 => Err(ConfigError::value(
                "card.crl_reload_seconds",
                "must be at least 1",
            )),
            _ => Ok(()),
        }
    }
}

/// What card certificates are checked with.
pub struct Cards {
    roots: CardRoots,
    lists: RwLock<Arc<RevocationLists>>,
    crl_dir: PathBuf,
    policies: Arc<Policies>,
    clock: Arc<dyn Clock>,
}

impl Cards {
    /// Reads roots and lists.
    pub fn load(
        config: &CardConfig,
        policies: Arc<Policies>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, FileError> {
        let roots = CardRoots::load(&config.roots_dir)?;
        let lists = RevocationLists::load(&config.crl_dir, &roots)?;
        Ok(Self {
            roots,
            lists: RwLock::new(Arc::new(lists)),
            crl_dir: config.crl_dir.clone(),
            policies,
            clock,
        })
    }

    /// Verifies a certificate in all but its revocation.
    pub fn read(&self, der: &[u8]) -> Result<Card, CardFault> {
        let accepted = &self.policies.current().login.certificate_policies;
        self.roots.verify(der, accepted, self.clock.now())
    }

    /// Checks a certificate that was verified before: that it is still valid and not revoked.
    pub fn check(&self, issuer: &[u8; 32], serial: &[u8], not_after: Timestamp) -> Result<(), CardFault> {
        // A poisoned lock means that a reload panicked: then nothing is known (I4).
        let lists = self
            .lists
            .read()
            .map_err(|_| CardFault::RevocationUnknown)?
            .clone();
        let hours = self.policies.current().login.crl_max_age_hours;
        let max_age = Duration::from_secs(hours.saturating_mul(3_600));
        lists.check(issuer, serial, not_after, self.clock.now(), max_age)
    }

    /// When each revocation list was issued, and when the next one is due.
    pub fn updates(&self) -> Vec<(Timestamp, Option<Timestamp>)> {
        self.lists
            .read()
            .map(|lists| lists.updates().collect())
            .unwrap_or_default()
    }

    /// Reads the lists again and again. What cannot be read leaves the old ones, which grow stale.
    pub async fn keep_up(self: Arc<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            match RevocationLists::load(&self.crl_dir, &self.roots) {
                Ok(lists) => match self.lists.write() {
                    Ok(mut current) => *current = Arc::new(lists),
                    Err(_) => return,
                },
                Err(error) => {
                    tracing::error!(
                        error = telemetry::chain(&error),
                        "the revocation lists cannot be read"
                    );
                }
            }
        }
    }
}
