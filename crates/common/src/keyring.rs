//! The secret keys of a side: each purpose its own, each with an id, the newest first (DESIGN §7).

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc, time::Duration};

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    clock::Timestamp,
    files::{self, FileError},
    paging::PageTokens,
    sealing::Sealer,
};

/// The keys of a side, read from one TOML file that only its owner may read. Every purpose is a list of tables with `id`
/// and `key` (64 hexadecimal digits). Of `sealing`, `page_token`, `beacon` and `feed` the first is used, and what was made with
/// the other keys of the first three is still opened and known; of `lookup`, `pseudonym` and `handle` there is exactly one.
pub struct Keyring {
    /// Seals what is stored.
    pub sealer: Sealer,
    /// Finds what is stored sealed.
    pub lookup: LookupKey,
    /// Names persons and accounts in the audit log.
    pub pseudonym: PseudonymKey,
    /// Makes login beacons; on the registry side only.
    pub beacon: Option<BeaconKeys>,
    /// Makes register handles; on the registry side only.
    pub handle: Option<HandleKey>,
    /// Makes the keys of the suppression feed; on the registry side only.
    pub feed: Option<FeedKey>,
    /// Seals the places at which lists go on; on the portal side only.
    pub page_tokens: Option<Arc<PageTokens>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sealing: Vec<Entry>,
    lookup: Vec<Entry>,
    pseudonym: Vec<Entry>,
    #[serde(default)]
    beacon: Vec<Entry>,
    #[serde(default)]
    handle: Vec<Entry>,
    #[serde(default)]
    feed: Vec<Entry>,
    #[serde(default)]
    page_token: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    #[serde(deserialize_with = "secret")]
    key: Zeroizing<String>,
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

type Key = Zeroizing<[u8; 32]>;

impl Keyring {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let text = files::read_secret(path)?;
        let text = std::str::from_utf8(&text).map_err(|_| FileError::content(path, "must be UTF-8"))?;
        // The parser's own message could quote a key.
        let file: File = toml::from_str(text).map_err(|_| {
            FileError::content(
                path,
                "must be TOML with the lists sealing, lookup, pseudonym, beacon, handle, feed and page_token of {id, key}",
            )
        })?;
        let keys = |purpose: &'static str, entries: Vec<Entry>| {
            let bad = |rule: &str| FileError::content(path, format!("{purpose}: {rule}"));
            let mut seen = BTreeMap::new();
            let mut keys = Vec::new();
            for entry in entries {
                if entry.id.is_empty() || entry.id.len() > 32 || seen.insert(entry.id.clone(), ()).is_some() {
                    return Err(bad("ids are 1 to 32 bytes and differ"));
                }
                let decoded = data_encoding::HEXLOWER_PERMISSIVE
                    .decode(entry.key.as_bytes())
                    .map(Zeroizing::new);
                let key = decoded
                    .ok()
                    .and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
                keys.push((
                    entry.id,
                    Zeroizing::new(key.ok_or_else(|| bad("a key is 64 hexadecimal digits"))?),
                ));
            }
            Ok(keys)
        };
        // Rows are found by what these keys make of a value: with another key they would not be found, a non-provision
        // record among them. So there is exactly one until keys can be rotated.
        let only = |purpose: &'static str, keys: Vec<(String, Key)>| {
            let rule = || FileError::content(path, format!("{purpose}: exactly one key"));
            let mut keys = keys.into_iter();
            match (keys.next(), keys.next()) {
                (Some((_, key)), None) => Ok(key),
                _ => Err(rule()),
            }
        };
        // A portal keeps a handle to come back with: with another key it would name nothing.
        let handle = match file.handle {
            entries if entries.is_empty() => None,
            entries => Some(HandleKey(hmac_key(&only("handle", keys("handle", entries)?)?))),
        };
        let sealing = Sealer::new(keys("sealing", file.sealing)?)
            .ok_or_else(|| FileError::content(path, "sealing: at least one key"))?;
        Ok(Self {
            sealer: sealing,
            lookup: LookupKey(hmac_key(&only("lookup", keys("lookup", file.lookup)?)?)),
            pseudonym: PseudonymKey(hmac_key(&only("pseudonym", keys("pseudonym", file.pseudonym)?)?)),
            beacon: match keys("beacon", file.beacon)? {
                entries if entries.is_empty() => None,
                entries => Some(BeaconKeys(entries.iter().map(|(_, key)| hmac_key(key)).collect())),
            },
            handle,
            feed: keys("feed", file.feed)?
                .first()
                .map(|(_, key)| FeedKey(hmac_key(key))),
            page_tokens: Sealer::new(keys("page_token", file.page_token)?)
                .map(|sealer| Arc::new(PageTokens::new(sealer))),
        })
    }
}

fn hmac_key(key: &Key) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.as_slice())
}

/// HMAC-SHA256 over a label and length-prefixed parts, so that no two meanings share a value.
fn mac<const N: usize>(key: &hmac::Key, label: &str, parts: &[&[u8]]) -> [u8; N] {
    let mut context = hmac::Context::with_key(key);
    for part in std::iter::once(label.as_bytes()).chain(parts.iter().copied()) {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    let tag = context.sign();
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    out
}

macro_rules! redacted {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}
redacted!(LookupKey, PseudonymKey, BeaconKeys, HandleKey, FeedKey);

/// Makes the values by which sealed rows are found.
#[derive(Clone)]
pub struct LookupKey(hmac::Key);

/// The HMAC by which a row is found. It tells nothing without the key.
pub type Lookup = [u8; 32];

impl LookupKey {
    /// What a store keeps to know the key again: with another one nothing would be found in it.
    pub fn fingerprint(&self) -> Lookup {
        self.lookup("fingerprint", &[])
    }

    /// The value for `parts`, apart from that of any other label.
    pub fn lookup(&self, label: &str, parts: &[&[u8]]) -> Lookup {
        mac(&self.0, label, parts)
    }
}

/// Makes the pseudonyms that stand for persons and accounts in the audit log.
#[derive(Clone)]
pub struct PseudonymKey(hmac::Key);

/// What stands for a person, a register, an account or a linkage in the audit log.
pub type Pseudonym = [u8; 16];

impl PseudonymKey {
    /// The pseudonym of `value`, apart from that of any other label.
    pub fn pseudonym(&self, label: &str, value: &[u8]) -> Pseudonym {
        mac(&self.0, label, &[value])
    }
}

/// Makes the provider's beacons: bytes that nobody can foretell, renewed every 30 s, so that a text that holds one was
/// signed after it was published. `slot (8 bytes) ‖ HMAC(key, slot) (24 bytes)`: every instance with the key makes and
/// knows the same, and none is stored.
#[derive(Clone)]
pub struct BeaconKeys(Vec<hmac::Key>);

impl BeaconKeys {
    /// How long a beacon is published, in milliseconds.
    const SLOT_MS: i64 = 30_000;
    /// How long after its first moment texts are made with a beacon: while it is published, and for as long as a gateway
    /// goes on with what it saw last.
    pub const IN_USE: Duration = Duration::from_secs(30 + 60);

    /// The beacon of this moment.
    pub fn beacon(&self, now: Timestamp) -> [u8; 32] {
        let slot = now.unix_ms().div_euclid(Self::SLOT_MS);
        self.0.first().map_or([0; 32], |key| Self::of_slot(key, slot))
    }

    /// The first moment at which a beacon was published; `None` when it is not one of this side's.
    pub fn published_at(&self, beacon: &[u8; 32]) -> Option<Timestamp> {
        let slot = i64::from_be_bytes(*beacon.first_chunk()?);
        let made = |key| verify_slices_are_equal(&Self::of_slot(key, slot), beacon).is_ok();
        let at = slot.checked_mul(Self::SLOT_MS)?;
        self.0.iter().any(made).then_some(Timestamp::from_unix_ms(at))
    }

    fn of_slot(key: &hmac::Key, slot: i64) -> [u8; 32] {
        let slot = slot.to_be_bytes();
        let tag: [u8; 24] = mac(key, "koseki-beacon-v1", &[&slot]);
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(slot.iter().chain(&tag)) {
            *to = *from;
        }
        out
    }
}

/// Makes the handles under which registers are named to the portal side: without the key one tells nothing of the
/// register, and no two registers are known to be of one municipality.
#[derive(Clone)]
pub struct HandleKey(hmac::Key);

/// What names a register to the portal side.
pub type RegisterHandle = [u8; 32];

impl HandleKey {
    /// The handle of the register that has this number in this municipality: the same each time, whatever becomes of the
    /// register's copies and of the other keys.
    pub fn register(&self, municipality_code: &str, local_number: &str) -> RegisterHandle {
        let parts = [municipality_code.as_bytes(), local_number.as_bytes()];
        mac(&self.0, "koseki-register-handle-v1", &parts)
    }
}

/// Makes the keys of the suppression feed. It never leaves the registry side: what a gateway gets is the key of one series,
/// and what pads a series is made with this one, so that a gateway cannot tell padding from entries.
#[derive(Clone)]
pub struct FeedKey(hmac::Key);

impl FeedKey {
    /// The secret of the series of this id.
    pub(crate) fn series(&self, id: &[u8; 16]) -> [u8; 32] {
        mac(&self.0, "koseki-feed-series-v1", &[id])
    }

    /// The padding of this number in the series of this id: always the same, and never made again for another number.
    pub(crate) fn padding(&self, id: &[u8; 16], number: u64) -> [u8; 16] {
        mac(&self.0, "koseki-feed-padding-v1", &[id, &number.to_be_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beacons(ids: &[u8]) -> BeaconKeys {
        BeaconKeys(
            ids.iter()
                .map(|id| hmac::Key::new(hmac::HMAC_SHA256, &[*id; 32]))
                .collect(),
        )
    }

    #[test]
    fn a_beacon_tells_when_it_was_published_to_who_has_its_key_only() {
        let at = |ms: i64| Timestamp::from_unix_ms(1_772_323_200_000 + ms);
        let ours = beacons(&[1]);
        let beacon = ours.beacon(at(29_999));
        assert_eq!(beacon, ours.beacon(at(0)));
        assert_ne!(beacon, ours.beacon(at(30_000)));
        assert_eq!(ours.published_at(&beacon), Some(at(0)));
        // Made with a key that has been replaced meanwhile.
        assert_eq!(beacons(&[2, 1]).published_at(&beacon), Some(at(0)));
        assert_eq!(beacons(&[2]).published_at(&beacon), None);
        for byte in 0..32 {
            let mut other = beacon;
            other[byte] ^= 1;
            assert_eq!(ours.published_at(&other), None, "byte {byte}");
        }
    }
}
