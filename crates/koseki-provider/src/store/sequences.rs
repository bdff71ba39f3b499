//! The sequence numbers that gateways have used at this log.

use common::store::{Database, StoreError, WriteTx};

use super::Sequence;

pub(super) async fn highest(database: &Database, gateway: &str) -> Result<u64, StoreError> {
    let mut reader = database.reader().await?;
    let row = reader
        .connection()
        .optional(
            "SELECT highest FROM eligibility_window WHERE log = {log} AND gateway = {gateway}",
            &[("log", database.log().into()), ("gateway", gateway.into())],
        )
        .await?;
    row.map_or(Ok(0), |row| Ok(row.int(0)?.unsigned_abs()))
}

/// Uses them up; whoever writes this log has its head, so nobody else is between reading and writing.
pub(super) async fn use_up(
    tx: &mut WriteTx,
    log: &str,
    sequences: &[Sequence],
) -> Result<Vec<bool>, StoreError> {
    let mut fresh = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        let number =
            i64::try_from(sequence.number).map_err(|_| StoreError::Unreadable("a sequence number"))?;
        let gateway = sequence.gateway.as_str();
        let row = tx
            .optional(
                "SELECT highest, below FROM eligibility_window WHERE log = {log} AND gateway = {gateway}",
                &[("log", log.into()), ("gateway", gateway.into())],
            )
            .await?;
        let row = row
            .map(|row| Ok::<_, StoreError>((row.int(0)?, row.int(1)?)))
            .transpose()?;
        let Some(window) = Window::of(row).used(number) else {
            fresh.push(false);
            continue;
        };
        let params = [
            ("log", log.into()),
            ("gateway", gateway.into()),
            ("highest", window.highest.into()),
            ("below", window.below.into()),
        ];
        tx.execute(
            "INSERT INTO eligibility_window (log, gateway, highest, below) VALUES ({log}, {gateway}, {highest}, {below}) \
             ON CONFLICT (log, gateway) DO UPDATE SET highest = excluded.highest, below = excluded.below",
            &params,
        )
        .await?;
        fresh.push(true);
    }
    Ok(fresh)
}

/// The sequence numbers that a gateway has used: the highest, and a bit for each of the 62 below it. What lies lower
/// counts as used.
struct Window {
    highest: i64,
    below: i64,
}

impl Window {
    const BITS: i64 = 62;

    fn of(row: Option<(i64, i64)>) -> Self {
        row.map_or(Self { highest: 0, below: 0 }, |(highest, below)| Self {
            highest,
            below,
        })
    }

    /// The window after `number` is used; `None` when it was used before.
    fn used(self, number: i64) -> Option<Self> {
        let ahead = number - self.highest;
        if ahead > 0 {
            // The old highest becomes the bit `ahead - 1`; what falls off the end counts as used from now on.
            let shifted = if ahead > Self::BITS {
                0
            } else {
                (self.below << ahead) | (1 << (ahead - 1))
            };
            return Some(Self {
                highest: number,
                below: shifted & ((1 << Self::BITS) - 1),
            });
        }
        let bit = -ahead - 1;
        if !(0..Self::BITS).contains(&bit) || self.below & (1 << bit) != 0 {
            return None;
        }
        Some(Self {
            below: self.below | (1 << bit),
            ..self
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_sequence_number_is_used_once() {
        let mut window = Window::of(None);
        let mut used = HashSet::new();
        // A fixed walk with steps ahead, back and far ahead.
        let mut state = 7_u64;
        for _ in 0..20_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let step = i64::try_from((state >> 33) % 90).unwrap() - 70;
            let number = (window.highest + step).max(1);
            let fresh = Window { ..window }.used(number);
            if let Some(next) = fresh {
                assert!(used.insert(number), "{number} twice");
                window = next;
            } else {
                assert!(
                    used.contains(&number) || number < window.highest - Window::BITS,
                    "{number} refused"
                );
            }
        }
        assert!(used.len() > 1_000);
        assert!(Window { ..window }.used(window.highest).is_none());
    }
}
