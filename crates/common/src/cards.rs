//! The pinned roots of the cards' certificates and their newest revocation lists, kept up to date.
//!
//! A newer list counts from the commit that records its number (a guard act): a release that took the gate before it goes
//! by the list before, one that takes it afterwards by the new one. What is recorded never goes back, and whoever holds an
//! older list than what is recorded has none (I4).

mod folder;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use koseki_proto::koseki::common::v1::RevocationListStatus;
use serde::{Deserialize, Serialize};

use self::folder::Folder;
use crate::{
    alarm::{Alarm, Alarms},
    card::{Card, CardFault, CardRoots, ListNumbers, RevocationLists},
    clock::{Clock, Timestamp},
    config::ConfigError,
    files::FileError,
    identity::PeerIdentity,
    policy::Policies,
    store::{Database, StoreError, worked},
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
    /// Seconds after which the lists are looked at again.
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
    held: RwLock<Held>,
    folder: Mutex<Folder>,
    /// Which alarms were raised about files, and why.
    told: Mutex<BTreeMap<String, String>>,
    policies: Arc<Policies>,
    clock: Arc<dyn Clock>,
    alarms: Alarms,
}

#[derive(Default)]
struct Held {
    /// Those whose numbers are recorded.
    taken: RevocationLists,
    /// Verified ones that are newer; they count as soon as their numbers are recorded.
    coming: RevocationLists,
    /// The numbers that are recorded, as they were read last.
    numbers: ListNumbers,
}

impl Held {
    /// The lists that count where these numbers are recorded.
    fn by(&self, numbers: &ListNumbers) -> RevocationLists {
        let recorded = |issuer| numbers.of(issuer);
        let taken = self
            .taken
            .iter()
            .filter(|list| recorded(&list.issuer).is_some_and(|number| list.number >= number));
        let coming = self
            .coming
            .iter()
            .filter(|list| recorded(&list.issuer) == Some(list.number));
        taken.chain(coming).cloned().collect()
    }
}

impl Cards {
    /// Reads roots and lists. No list counts before its number is recorded ([`Self::look`]).
    pub fn load(
        config: &CardConfig,
        policies: Arc<Policies>,
        clock: Arc<dyn Clock>,
        alarms: Alarms,
    ) -> Result<Self, FileError> {
        let roots = CardRoots::load(&config.roots_dir)?;
        let mut folder = Folder::new(config.crl_dir.clone());
        let coming = folder.read_changed(&roots)?;
        Ok(Self {
            roots,
            held: RwLock::new(Held {
                coming,
                ..Held::default()
            }),
            folder: Mutex::new(folder),
            told: Mutex::default(),
            policies,
            clock,
            alarms,
        })
    }

    /// Whether every file of the folder holds a list that can be taken. A service starts without: it then provides nothing,
    /// and blocks and withdrawals still work.
    pub fn check_files(&self) -> Result<(), FileError> {
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        match folder.faults().next() {
            Some((path, rule)) => Err(FileError::content(path, rule)),
            None => Ok(()),
        }
    }

    /// Verifies a certificate in all but its revocation.
    pub fn read(&self, der: &[u8]) -> Result<Card, CardFault> {
        let accepted = &self.policies.current().login.certificate_policies;
        self.roots.verify(der, accepted, self.clock.now())
    }

    /// The lists that count, by the numbers that were recorded when it was last looked.
    pub fn lists(&self) -> RevocationLists {
        self.held(|held| held.by(&held.numbers))
    }

    /// The lists that count where these numbers are recorded: those that a transaction has read behind the gate.
    pub fn behind_gate(&self, numbers: &ListNumbers) -> RevocationLists {
        self.held(|held| held.by(numbers))
    }

    /// A poisoned lock means that a reload panicked: then nothing is known (I4).
    fn held(&self, lists: impl FnOnce(&Held) -> RevocationLists) -> RevocationLists {
        self.held.read().map(|held| lists(&held)).unwrap_or_default()
    }

    /// Checks a certificate that was verified before: that it is valid and not revoked now, by these lists.
    pub fn check(
        &self,
        lists: &RevocationLists,
        issuer: &[u8; 32],
        serial: &[u8],
        not_after: Timestamp,
    ) -> Result<(), CardFault> {
        lists.check(issuer, serial, not_after, self.clock.now(), self.max_age())
    }

    /// Whether there is a fresh list among these of a root that is valid. Where there is none, nobody can log in and nothing
    /// is provided; where one root of several lacks its list, its cards are refused one by one.
    pub fn any_fresh(&self, lists: &RevocationLists) -> bool {
        let (now, max_age) = (self.clock.now(), self.max_age());
        self.roots
            .valid(now)
            .any(|root| lists.of(&root).is_some_and(|list| list.is_fresh(now, max_age)))
    }

    /// Whether there is a fresh list among these of every root that is valid.
    pub fn all_fresh(&self, lists: &RevocationLists) -> bool {
        let (now, max_age) = (self.clock.now(), self.max_age());
        let mut roots = self.roots.valid(now).peekable();
        roots.peek().is_some()
            && roots.all(|root| lists.of(&root).is_some_and(|list| list.is_fresh(now, max_age)))
    }

    /// [`Self::any_fresh`], of the lists that count now.
    pub fn can_tell(&self) -> bool {
        self.any_fresh(&self.lists())
    }

    fn max_age(&self) -> Duration {
        self.policies.current().login.crl_max_age()
    }

    /// The lists that count, for operators.
    pub fn status(&self) -> Vec<RevocationListStatus> {
        let lists = self.lists();
        let status = lists.iter().map(|list| RevocationListStatus {
            issuer_key_sha256: list.issuer.to_vec(),
            number: list.number.to_string(),
            this_update: Some(list.this_update.to_proto()),
            next_update: Some(list.next_update.to_proto()),
            revoked: u64::try_from(list.count()).unwrap_or(u64::MAX),
            fresh: list.is_fresh(self.clock.now(), self.max_age()),
        });
        status.collect()
    }

    /// Looks at the folder and at what is recorded, takes what is newer, and alarms. Done once before the service serves, and
    /// again and again.
    pub async fn look(self: &Arc<Self>, database: &Database, own: &PeerIdentity) -> Result<(), StoreError> {
        let this = self.clone();
        // A list of a million entries takes a while to verify.
        let read = tokio::task::spawn_blocking(move || this.read_files()).await;
        let unreadable = match read {
            Ok(unreadable) => unreadable,
            Err(panicked) => Some(panicked.to_string()),
        };
        let coming = match self.held.read() {
            Ok(held) => held.coming.clone(),
            Err(_) => return Ok(()),
        };
        let mut facts = database.gate_facts().await?;
        for list in coming.iter() {
            let recorded = facts.list_numbers().of(&list.issuer);
            if recorded.is_none_or(|number| number < list.number) {
                database.take_list(list, own, self.clock.now()).await?;
                facts = database.gate_facts().await?;
            }
        }
        self.settle(facts.list_numbers());
        self.tell(facts.list_numbers(), unreadable);
        Ok(())
    }

    /// Looks every so often for as long as the service runs.
    pub async fn keep_up(self: Arc<Self>, database: &Database, own: &PeerIdentity, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let looked = self.look(database, own).await;
            let _ = worked(
                looked,
                "the numbers of revocation lists could not be read or recorded",
            );
        }
    }

    /// Reads the files that have changed; why the folder could not be read.
    fn read_files(&self) -> Option<String> {
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = match folder.read_changed(&self.roots) {
            Ok(changed) => changed,
            Err(error) => return Some(telemetry::chain(&error)),
        };
        if let Ok(mut held) = self.held.write() {
            for list in changed.iter() {
                let known = [&held.taken, &held.coming];
                let newer = |lists: &&RevocationLists| {
                    lists
                        .of(&list.issuer)
                        .is_none_or(|known| known.number < list.number)
                };
                if known.iter().all(newer) {
                    held.coming.put(list.clone());
                }
            }
        }
        None
    }

    /// Lets what is recorded stand in its place; what is older than that is dropped.
    fn settle(&self, numbers: &ListNumbers) {
        let Ok(mut held) = self.held.write() else { return };
        let coming = held.coming.clone();
        for list in coming.iter() {
            let Some(number) = numbers.of(&list.issuer) else {
                continue;
            };
            if number == list.number {
                tracing::info!(number = %number, revoked = list.count(), "a revocation list was taken");
                held.taken.put(list.clone());
            }
            if number >= list.number {
                held.coming.remove(&list.issuer);
            }
        }
        held.numbers = numbers.clone();
    }

    /// Raises and clears the alarms.
    fn tell(&self, numbers: &ListNumbers, unreadable: Option<String>) {
        let (lists, now, max_age) = (self.lists(), self.clock.now(), self.max_age());
        for (root, valid) in self.roots.each(now) {
            let fresh = lists.of(&root).is_some_and(|list| list.is_fresh(now, max_age));
            let about: String = data_encoding::HEXLOWER.encode(&root).chars().take(16).collect();
            self.alarms
                .set(Alarm::RevocationListStale, &about, valid && !fresh);
        }
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        let mut faults: BTreeMap<String, String> = folder
            .faults()
            .map(|(path, rule)| (name(path), rule.to_owned()))
            .collect();
        if let Some(error) = unreadable {
            faults.insert(name(folder.directory()), error);
        }
        for (path, found) in folder.newest() {
            let recorded = numbers.of(&found.issuer);
            if let Some(recorded) = recorded.filter(|number| found.number < *number) {
                let rule = format!(
                    "its number {} is before {recorded}, which was taken",
                    found.number
                );
                faults.insert(name(path), rule);
            }
            let taken = lists.of(&found.issuer);
            if taken.is_some_and(|taken| taken.number == found.number && taken.sha256 != found.sha256) {
                let rule = format!("another list with its number {} was taken", found.number);
                faults.insert(name(path), rule);
            }
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for about in told.keys().filter(|about| !faults.contains_key(*about)) {
            self.alarms.clear(Alarm::RevocationListUnusable, about);
        }
        for (about, rule) in &faults {
            if told.get(about) != Some(rule) {
                tracing::error!(file = about, rule, "a revocation list was not taken");
            }
            self.alarms.raise(Alarm::RevocationListUnusable, about);
        }
        *told = faults;
    }
}

/// A file's name, as an alarm has room for it.
fn name(path: &std::path::Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.get(..name.floor_char_boundary(128))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use devkit::card::{CardKeyType, CardRoot};
    use time::OffsetDateTime;

    use super::*;
    use crate::card::RevocationList;

    /// What counts is decided by what is recorded, not by what lies in the folder.
    #[test]
    fn a_list_counts_from_the_commit_that_records_its_number() {
        let root = CardRoot::with_key(CardKeyType::EcdsaP256).unwrap();
        let directory = tempfile::TempDir::new().unwrap();
        std::fs::write(directory.path().join("root.pem"), root.certificate_pem()).unwrap();
        let roots = CardRoots::load(directory.path()).unwrap();
        let list = |number: u64| -> Arc<RevocationList> {
            let moment = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            let der = root.crl(&[], number, moment(0), moment(60)).unwrap();
            Arc::new(roots.revocation_list(&der).unwrap())
        };
        let numbers = |list: &RevocationList| {
            let text = [list.issuer.as_slice(), list.number.as_bytes()].concat();
            ListNumbers::gathered(&data_encoding::HEXUPPER.encode(&text)).unwrap()
        };
        let held = Held {
            taken: [list(5)].into_iter().collect(),
            coming: [list(7)].into_iter().collect(),
            numbers: ListNumbers::default(),
        };
        let counts = |recorded: &ListNumbers| {
            let lists = held.by(recorded);
            lists
                .iter()
                .map(|list| list.number.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            counts(&numbers(&list(5))),
            ["0x05"],
            "the newer one is not recorded"
        );
        assert!(
            counts(&numbers(&list(6))).is_empty(),
            "another instance has a newer one"
        );
        assert_eq!(counts(&numbers(&list(7))), ["0x07"]);
        assert!(counts(&numbers(&list(8))).is_empty());
        assert!(counts(&ListNumbers::default()).is_empty(), "nothing is recorded");
    }
}
