//! Cards that were replaced: a reissued card takes the place of the one before it, which is never bound again. Whoever has
//! the old card gains nothing by a file that is loaded once more.

use std::collections::{HashMap, HashSet};

use koseki_proto::koseki::common::v1::LineReason;

use super::{Column, StoreError, Value, WriteTx, write_tx::table};
use crate::{keyring::Lookup, lines::LineFault};

/// The replacements that concern the cards of a batch: as they are stored, and as the lines so far leave them.
pub struct ReplacedCards {
    by: HashMap<Lookup, Lookup>,
    new: Vec<(Lookup, Lookup)>,
}

impl ReplacedCards {
    /// Reads what these cards were replaced by, and what those were replaced by in their turn.
    pub async fn read(tx: &mut WriteTx, cards: &HashSet<Lookup>) -> Result<Self, StoreError> {
        let mut this = Self {
            by: HashMap::new(),
            new: Vec::new(),
        };
        if cards.is_empty() {
            return Ok(this);
        }
        let rows = tx
            .all(
                "WITH RECURSIVE chain (card_key, replaced_by) AS ( \
                    SELECT card_key, replaced_by FROM replaced_card WHERE card_key IN (SELECT value FROM {cards}) \
                    UNION SELECT replaced_card.card_key, replaced_card.replaced_by \
                          FROM chain JOIN replaced_card ON replaced_card.card_key = chain.replaced_by) \
                 SELECT card_key, replaced_by FROM chain",
                &[("cards", Value::keys(cards.iter().map(Lookup::as_slice)))],
            )
            .await?;
        for row in rows {
            this.by.insert(row.array(0)?, row.array(1)?);
        }
        Ok(this)
    }

    /// The card that stands in the place of this one.
    pub fn current(&self, card: Lookup) -> Lookup {
        // One that was replaced is never bound again, so no chain comes back to where it was.
        let mut current = card;
        for _ in 0..self.by.len() {
            match self.by.get(&current) {
                Some(next) => current = *next,
                None => break,
            }
        }
        current
    }

    /// Refuses to bind a card that was replaced.
    pub fn check_binds(&self, card: &Lookup, field: &str) -> Result<(), LineFault> {
        if self.by.contains_key(card) {
            let rule = "a card that was replaced is not bound again";
            return Err(LineFault::new(LineReason::InvalidField, field, rule));
        }
        Ok(())
    }

    /// Whether a line that replaces `old` by `new`, on a linkage that is bound to `bound`, is still to be done; false when it
    /// was done before.
    pub fn is_to_be_done(&self, bound: Lookup, old: Lookup, new: Lookup) -> Result<bool, LineFault> {
        if self.by.get(&old) == Some(&new) && self.current(new) == bound {
            return Ok(false);
        }
        self.check_binds(&new, "new_card_key_sha256")?;
        if bound != old {
            let rule = "the card that the linkage is bound to";
            return Err(LineFault::new(
                LineReason::UnknownReference,
                "card_key_sha256",
                rule,
            ));
        }
        Ok(true)
    }

    /// A line replaces a card.
    pub fn replace(&mut self, old: Lookup, new: Lookup) {
        self.by.insert(old, new);
        self.new.push((old, new));
    }

    /// Writes what the lines have replaced.
    pub async fn write(&self, tx: &mut WriteTx) -> Result<(), StoreError> {
        if self.new.is_empty() {
            return Ok(());
        }
        let (old, new) = self
            .new
            .iter()
            .map(|(old, new)| (old.to_vec(), new.to_vec()))
            .unzip();
        let batch = table([
            ("card_key", Column::Bytes(old)),
            ("replaced_by", Column::Bytes(new)),
        ]);
        tx.execute(
            "INSERT INTO replaced_card (card_key, replaced_by) SELECT card_key, replaced_by FROM {batch} WHERE true",
            &[("batch", batch)],
        )
        .await?;
        Ok(())
    }
}
