//! Storing linkages: what a batch touches is read at once, its lines are judged one after the other on what was read and
//! what the lines above changed, and what came of it is written at once.

use std::collections::{HashMap, HashSet};

use common::{
    approval::Opening,
    clock::Timestamp,
    identity::PeerIdentity,
    keyring::{Keyring, Lookup, Pseudonym},
    lines::{LineFault, LoadStart, Outcome},
    store::{
        ActError, Change, Column, Database, Forbids, Load, LoadEnd, ReplacedCards, StoreError, Value,
        WriteTx, check_changes, check_rotates, table,
    },
    terms::{LinkageCode, LinkageState},
};
use koseki_proto::koseki::common::v1::LineReason;

use super::{
    cards::{self, CardMove},
    lookups,
};
use crate::linkage::LinkageLine;

pub(super) async fn store(
    database: &Database,
    start: LoadStart,
    lines: &[LinkageLine],
    operator: &PeerIdentity,
    now: Timestamp,
) -> Result<Vec<Outcome>, StoreError> {
    for access in Load::ACCESSES {
        let (mut load, mut tx) = Load::begin(database, access, start, operator).await?;
        let mut batch = Batch::read(&mut tx, &database.keys, lines, now).await?;
        let mut outcomes = Vec::with_capacity(lines.len());
        for line in lines {
            outcomes.push(batch.judge(line).map(|change| load.count(change)));
        }
        if !start.dry_run {
            batch.write(&mut tx).await?;
        }
        if let LoadEnd::Stored { .. } = load.commit(tx, now).await? {
            return Ok(outcomes);
        }
    }
    Err(StoreError::Unreadable("a load that never has the gate"))
}

#[derive(Clone)]
struct Linkage {
    sealed_code: Vec<u8>,
    card_key: Lookup,
    state: LinkageState,
    confirmed_at: Timestamp,
}

/// What a batch touches: as it is stored, and as the lines so far leave it.
struct Batch<'a> {
    keys: &'a Keyring,
    now: Timestamp,
    linkages: HashMap<Lookup, Linkage>,
    /// The linkage of a card that is not revoked.
    of_card: HashMap<Lookup, Lookup>,
    /// Cards that were replaced by others.
    replaced: ReplacedCards,
    /// Cards from which a linkage went over to another, in order.
    moved: Vec<CardMove>,
    /// What was changed, in order.
    changed: Vec<Lookup>,
    /// What a change closes: proposals to open it are void.
    closed: Vec<Lookup>,
}

impl<'a> Batch<'a> {
    async fn read(
        tx: &mut WriteTx,
        keys: &'a Keyring,
        lines: &[LinkageLine],
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let (mut codes, mut cards) = (HashSet::new(), HashSet::new());
        for line in lines {
            codes.extend(line.codes().map(|code| lookups::code(keys, code)));
            cards.extend(line.cards().map(|card| lookups::card_key(keys, card)));
        }
        let mut batch = Self {
            keys,
            now,
            linkages: HashMap::new(),
            of_card: HashMap::new(),
            replaced: ReplacedCards::read(tx, &cards).await?,
            moved: Vec::new(),
            changed: Vec::new(),
            closed: Vec::new(),
        };
        let params = [
            ("codes", Value::keys(codes.iter().map(Lookup::as_slice))),
            ("cards", Value::keys(cards.iter().map(Lookup::as_slice))),
        ];
        let rows = tx
            .all(
                "SELECT code, sealed_code, card_key, state, confirmed_at FROM linkage WHERE code IN ( \
                    SELECT value FROM {codes} UNION \
                    SELECT code FROM linkage WHERE state <> 'REVOKED' AND card_key IN (SELECT value FROM {cards}))",
                &params,
            )
            .await?;
        for row in rows {
            let state = LinkageState::parse(row.text(3)?);
            let linkage = Linkage {
                sealed_code: row.bytes(1)?.to_vec(),
                card_key: row.array(2)?,
                state: state.map_err(|_| StoreError::Unreadable("a linkage's state"))?,
                confirmed_at: Timestamp::from_unix_ms(row.int(4)?),
            };
            if linkage.state != LinkageState::Revoked {
                batch.of_card.insert(linkage.card_key, row.array(0)?);
            }
            batch.linkages.insert(row.array(0)?, linkage);
        }
        Ok(batch)
    }

    fn judge(&mut self, line: &LinkageLine) -> Result<Change, LineFault> {
        match line {
            LinkageLine::Linkage {
                code,
                card_key_sha256,
                state,
            } => self.linkage(code, card_key_sha256, *state),
            LinkageLine::Confirm { code, confirmed_at } => self.confirm(code, *confirmed_at),
            LinkageLine::Rotate {
                code,
                new_code,
                card_key_sha256,
            } => self.rotate(code, new_code, card_key_sha256),
            LinkageLine::ReplaceCard {
                code,
                card_key_sha256,
                new_card_key_sha256,
            } => self.replace_card(code, card_key_sha256, new_card_key_sha256),
        }
    }

    fn linkage(
        &mut self,
        code: &LinkageCode,
        card_key_sha256: &[u8; 32],
        state: LinkageState,
    ) -> Result<Change, LineFault> {
        let lookup = lookups::code(self.keys, code);
        let card_key = lookups::card_key(self.keys, card_key_sha256);
        let known = self.linkages.get(&lookup);
        // A line of before a replacement is stored already.
        let current = self.replaced.current(card_key);
        match known.map(|known| (known.state, known.card_key == current)) {
            Some((known, true)) if known == state => return Ok(Change::Nothing),
            Some((known, _)) => check_changes(known, state)?,
            None => {}
        }
        self.replaced.check_binds(&card_key, "card_key_sha256")?;
        let taken = self.of_card.get(&card_key).is_some_and(|other| *other != lookup);
        if taken && state != LinkageState::Revoked {
            let rule = "a card has one linkage that is not revoked at most";
            return Err(LineFault::new(LineReason::Duplicate, "card_key_sha256", rule));
        }
        let from = known.map(|known| known.card_key);
        let now = (state == LinkageState::Active).then_some(&card_key);
        let change = match &from {
            Some(from) => self.forbids(from, now),
            None => Change::Added(now.map(|card| self.card(card))),
        };
        self.put(code, lookup, card_key, state)?;
        if let Some(from) = from {
            self.goes_over(from, card_key_sha256, false);
        }
        if state != LinkageState::Active {
            self.closed
                .push(Opening::ReactivateLinkage(*card_key_sha256).target(&self.keys.lookup));
        }
        Ok(change)
    }

    fn put(
        &mut self,
        code: &LinkageCode,
        lookup: Lookup,
        card_key: Lookup,
        state: LinkageState,
    ) -> Result<(), LineFault> {
        let sealed = self.keys.sealer.seal(lookups::code_place(&lookup), code.expose());
        let failed = |_| LineFault::new(LineReason::NotStored, "", "send the line again");
        let linkage = Linkage {
            sealed_code: sealed.map_err(failed)?,
            card_key,
            state,
            confirmed_at: self.now,
        };
        self.of_card.retain(|_, of| *of != lookup);
        if state != LinkageState::Revoked {
            self.of_card.insert(card_key, lookup);
        }
        self.linkages.insert(lookup, linkage);
        self.changed.push(lookup);
        Ok(())
    }

    fn confirm(&mut self, code: &LinkageCode, confirmed_at: Timestamp) -> Result<Change, LineFault> {
        let lookup = lookups::code(self.keys, code);
        if confirmed_at > self.now {
            let rule = "a day that has begun";
            return Err(LineFault::new(LineReason::InvalidField, "confirmed_on", rule));
        }
        let known = self.linkages.get_mut(&lookup).ok_or_else(unknown_code)?;
        if known.state == LinkageState::Revoked {
            let rule = "a revoked linkage stays revoked";
            return Err(LineFault::new(LineReason::InvalidField, "linkage_code", rule));
        }
        if confirmed_at <= known.confirmed_at {
            return Ok(Change::Nothing);
        }
        known.confirmed_at = confirmed_at;
        self.changed.push(lookup);
        Ok(Change::Added(None))
    }

    fn rotate(
        &mut self,
        code: &LinkageCode,
        new_code: &LinkageCode,
        card_key_sha256: &[u8; 32],
    ) -> Result<Change, LineFault> {
        let (lookup, new_lookup) = (lookups::code(self.keys, code), lookups::code(self.keys, new_code));
        let card_key = lookups::card_key(self.keys, card_key_sha256);
        let old = self.linkages.get(&lookup).cloned().ok_or_else(unknown_code)?;
        if let Some(new) = self.linkages.get(&new_lookup) {
            let done = new.card_key == self.replaced.current(card_key) && old.state == LinkageState::Revoked;
            let rule = "a code that was never used";
            return match done {
                true => Ok(Change::Nothing),
                false => Err(LineFault::new(LineReason::Duplicate, "new_linkage_code", rule)),
            };
        }
        check_rotates(old.state)?;
        self.replaced.check_binds(&card_key, "card_key_sha256")?;
        if self.of_card.get(&card_key).is_some_and(|other| *other != lookup) {
            let rule = "a card has one linkage that is not revoked at most";
            return Err(LineFault::new(LineReason::Duplicate, "card_key_sha256", rule));
        }
        self.of_card.retain(|_, of| *of != lookup);
        let revoked = Linkage {
            state: LinkageState::Revoked,
            ..old
        };
        let from = revoked.card_key;
        self.linkages.insert(lookup, revoked);
        self.changed.push(lookup);
        self.put(new_code, new_lookup, card_key, LinkageState::Active)?;
        self.goes_over(from, card_key_sha256, false);
        Ok(self.forbids(&from, Some(&card_key)))
    }

    fn replace_card(
        &mut self,
        code: &LinkageCode,
        card_key_sha256: &[u8; 32],
        new_card_key_sha256: &[u8; 32],
    ) -> Result<Change, LineFault> {
        let lookup = lookups::code(self.keys, code);
        let old = lookups::card_key(self.keys, card_key_sha256);
        let new = lookups::card_key(self.keys, new_card_key_sha256);
        let known = self.linkages.get(&lookup).ok_or_else(unknown_code)?;
        if !self.replaced.is_to_be_done(known.card_key, old, new)? {
            return Ok(Change::Nothing);
        }
        check_rotates(known.state)?;
        if self.of_card.contains_key(&new) {
            let rule = "a card has one linkage that is not revoked at most";
            return Err(LineFault::new(LineReason::Duplicate, "new_card_key_sha256", rule));
        }
        let state = known.state;
        self.put(code, lookup, new, state)?;
        self.replaced.replace(old, new);
        self.goes_over(old, new_card_key_sha256, true);
        Ok(self.forbids(&old, (state == LinkageState::Active).then_some(&new)))
    }

    fn card(&self, card: &Lookup) -> Pseudonym {
        self.keys.pseudonym.pseudonym("card-key", card)
    }

    /// What is forbidden from now on is what the card so far led to.
    fn forbids(&self, from: &Lookup, now: Option<&Lookup>) -> Change {
        let from = self.card(from);
        Change::Forbids(Forbids {
            subject: from,
            cards: (Some(from), now.map(|card| self.card(card))),
        })
    }

    /// A linkage goes over to another card, and a block with it: it takes two persons to lift, and no line leads around it.
    fn goes_over(&mut self, from: Lookup, to_sha256: &[u8; 32], replaced: bool) {
        let to = lookups::card_key(self.keys, to_sha256);
        if from != to {
            self.moved.push(CardMove { from, to, replaced });
            self.closed
                .push(Opening::LiftBlock(*to_sha256).target(&self.keys.lookup));
        }
    }

    /// Those that are revoked first: their cards are free then.
    async fn write(&self, tx: &mut WriteTx) -> Result<(), StoreError> {
        for target in &self.closed {
            tx.void_proposals(target).await?;
        }
        let mut seen = HashSet::new();
        let changed: Vec<(&Lookup, &Linkage)> = self
            .changed
            .iter()
            .filter(|lookup| seen.insert(**lookup))
            .filter_map(|lookup| Some((lookup, self.linkages.get(lookup)?)))
            .collect();
        let (revoked, standing): (Vec<_>, Vec<_>) = changed
            .into_iter()
            .partition(|(_, linkage)| linkage.state == LinkageState::Revoked);
        for part in [revoked, standing] {
            if !part.is_empty() {
                write(tx, &part).await?;
            }
        }
        self.replaced.write(tx).await?;
        cards::go_over(tx, &self.moved).await
    }
}

async fn write(tx: &mut WriteTx, linkages: &[(&Lookup, &Linkage)]) -> Result<(), StoreError> {
    let bytes = |of: fn(&(&Lookup, &Linkage)) -> Vec<u8>| Column::Bytes(linkages.iter().map(of).collect());
    let states = linkages
        .iter()
        .map(|(_, linkage)| linkage.state.as_str().to_owned());
    let confirmed = linkages
        .iter()
        .map(|(_, linkage)| Some(linkage.confirmed_at.unix_ms()));
    let batch = table([
        ("code", bytes(|(code, _)| code.to_vec())),
        ("sealed_code", bytes(|(_, linkage)| linkage.sealed_code.clone())),
        ("card_key", bytes(|(_, linkage)| linkage.card_key.to_vec())),
        ("state", Column::Text(states.collect())),
        ("confirmed_at", Column::Int(confirmed.collect())),
    ]);
    tx.execute(
        "INSERT INTO linkage (code, sealed_code, card_key, state, confirmed_at) \
         SELECT code, sealed_code, card_key, state, confirmed_at FROM {batch} WHERE true ORDER BY at \
         ON CONFLICT (code) DO UPDATE SET card_key = excluded.card_key, state = excluded.state, \
            confirmed_at = excluded.confirmed_at",
        &[("batch", batch)],
    )
    .await?;
    Ok(())
}

fn unknown_code() -> LineFault {
    LineFault::new(
        LineReason::UnknownReference,
        "linkage_code",
        "a code that is loaded",
    )
}

/// Makes the suspended linkage of a card active again.
pub(super) async fn reactivate(
    tx: &mut WriteTx,
    keys: &Keyring,
    card_key_sha256: &[u8; 32],
) -> Result<Option<Pseudonym>, ActError> {
    let card_key = lookups::card_key(keys, card_key_sha256);
    let changed = tx
        .execute(
            "UPDATE linkage SET state = 'ACTIVE' WHERE card_key = {card_key} AND state = 'SUSPENDED'",
            &[("card_key", (&card_key).into())],
        )
        .await?;
    match changed {
        1 => Ok(Some(keys.pseudonym.pseudonym("card-key", &card_key))),
        _ => Err(ActError::NotApplicable),
    }
}
