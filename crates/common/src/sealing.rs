//! Sealing what is stored (I5; DESIGN §7): AES-256-GCM under a per-row subkey, bound to its place, padded so that the
//! length of a name does not show.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk},
};
use zeroize::Zeroizing;

use crate::digest;

/// Where a sealed value stands. A value that was moved elsewhere does not open.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Table and column, such as `register_copy.body`.
    pub column: &'static str,
    /// What names the row for ever.
    pub row: &'a [u8],
    /// Revision of the row; 0 where rows have none.
    pub revision: u64,
}

/// A value could not be sealed, or what is stored does not open here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The system's random source, or the cipher, failed.
    #[error("a value could not be sealed")]
    Seal,
    /// The key is not in the keyring, or the value was changed or moved.
    #[error("a sealed value does not open")]
    Open,
}

struct SealingKey {
    id: String,
    prk: Prk,
}

/// Seals with the newest key, opens with any.
pub struct Sealer {
    keys: Vec<SealingKey>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

const SALT_BYTES: usize = 32;
const LENGTH_BYTES: usize = 4;

impl Sealer {
    /// A sealer with these keys, the newest first; `None` without one. Ids are at most 32 bytes.
    pub(crate) fn new(keys: Vec<(String, Zeroizing<[u8; 32]>)>) -> Option<Self> {
        let keys: Vec<_> = keys
            .into_iter()
            .map(|(id, key)| SealingKey {
                id,
                prk: Prk::new_less_safe(HKDF_SHA256, key.as_slice()),
            })
            .collect();
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// Seals a value: `id length ‖ key id ‖ salt ‖ ciphertext and tag`.
    pub fn seal(&self, place: Place<'_>, value: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.keys.first().ok_or(SealError::Seal)?;
        let salt: [u8; SALT_BYTES] = digest::random().map_err(|_| SealError::Seal)?;
        let mut padded = Zeroizing::new(Vec::with_capacity(padded_length(value.len())));
        padded.extend_from_slice(
            &u32::try_from(value.len())
                .map_err(|_| SealError::Seal)?
                .to_be_bytes(),
        );
        padded.extend_from_slice(value);
        padded.resize(padded_length(value.len()), 0);
        subkey(key, &salt)?
            .seal_in_place_append_tag(zero_nonce(), associated_data(place, &key.id), &mut *padded)
            .map_err(|_| SealError::Seal)?;
        let mut out = Vec::with_capacity(1 + key.id.len() + SALT_BYTES + padded.len());
        out.push(u8::try_from(key.id.len()).map_err(|_| SealError::Seal)?);
        out.extend_from_slice(key.id.as_bytes());
        out.extend_from_slice(&salt);
        out.extend_from_slice(&padded);
        Ok(out)
    }

    /// Opens a value that was sealed for this place.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (length, rest) = sealed.split_first().ok_or(SealError::Open)?;
        let (id, rest) = rest
            .split_at_checked(usize::from(*length))
            .ok_or(SealError::Open)?;
        let (salt, ciphertext) = rest.split_at_checked(SALT_BYTES).ok_or(SealError::Open)?;
        let key = self
            .keys
            .iter()
            .find(|key| key.id.as_bytes() == id)
            .ok_or(SealError::Open)?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        let padded = subkey(key, salt)?
            .open_in_place(zero_nonce(), associated_data(place, &key.id), &mut buffer)
            .map_err(|_| SealError::Open)?;
        let (length, value) = padded
            .split_first_chunk::<LENGTH_BYTES>()
            .ok_or(SealError::Open)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| SealError::Open)?;
        value
            .get(..length)
            .map(|value| Zeroizing::new(value.to_vec()))
            .ok_or(SealError::Open)
    }
}

/// Size classes: powers of two from 64 bytes to 4 KiB, then multiples of 4 KiB.
fn padded_length(length: usize) -> usize {
    let needed = length + LENGTH_BYTES;
    if needed <= 4_096 {
        needed.next_power_of_two().max(64)
    } else {
        needed.next_multiple_of(4_096)
    }
}

/// A key of its own for each sealed value, so that a fixed nonce is never used twice under one key.
fn subkey(key: &SealingKey, salt: &[u8]) -> Result<LessSafeKey, SealError> {
    // HKDF-Expand (RFC 5869) with the salt as part of its info: the keys are uniform, so there is nothing to extract.
    let info = [b"koseki-sealing-v1".as_slice(), salt];
    let expanded = key.prk.expand(&info, &AES_256_GCM).map_err(|_| SealError::Seal)?;
    Ok(LessSafeKey::new(UnboundKey::from(expanded)))
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn associated_data(place: Place<'_>, key_id: &str) -> Aad<Vec<u8>> {
    let mut out = Vec::new();
    for part in [
        place.column.as_bytes(),
        place.row,
        key_id.as_bytes(),
        &place.revision.to_be_bytes(),
    ] {
        out.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        out.extend_from_slice(part);
    }
    Aad::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(ids: &[&str]) -> Sealer {
        Sealer::new(
            ids.iter()
                .map(|id| ((*id).to_owned(), Zeroizing::new(digest::sha256(&[id.as_bytes()]))))
                .collect(),
        )
        .unwrap()
    }

    #[test]
    fn a_value_opens_at_its_place_only() {
        let place = Place {
            column: "a.b",
            row: b"row",
            revision: 3,
        };
        let sealed = sealer(&["k1"]).seal(place, "髙𠮷".as_bytes()).unwrap();
        assert_eq!(
            &**sealer(&["k2", "k1"]).open(place, &sealed).unwrap(),
            "髙𠮷".as_bytes()
        );
        for other in [
            Place {
                column: "a.c",
                ..place
            },
            Place {
                row: b"other",
                ..place
            },
            Place { revision: 4, ..place },
        ] {
            assert_eq!(sealer(&["k1"]).open(other, &sealed).unwrap_err(), SealError::Open);
        }
        assert_eq!(sealer(&["k2"]).open(place, &sealed).unwrap_err(), SealError::Open);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer(&["k1"]).open(place, &changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn lengths_fall_into_classes_and_values_never_repeat() {
        let place = Place {
            column: "a.b",
            row: b"row",
            revision: 0,
        };
        let sealer = sealer(&["k1"]);
        let lengths: std::collections::BTreeSet<_> = (0..=60)
            .map(|length| sealer.seal(place, &vec![7; length]).unwrap().len())
            .collect();
        assert_eq!(lengths.len(), 1);
        assert_ne!(
            sealer.seal(place, b"x").unwrap(),
            sealer.seal(place, b"x").unwrap()
        );
    }
}
