//! Which account a card leads to, and what goes over from a card to the one that comes in its place.

use std::collections::{HashMap, HashSet};

use common::{
    clock::Timestamp,
    keyring::Lookup,
    store::{Column, StoreError, Value, WriteTx, table},
};

/// Gives each of these cards, which had none, an account.
pub(super) async fn give_accounts(
    tx: &mut WriteTx,
    cards: HashSet<Lookup>,
    now: Timestamp,
) -> Result<HashMap<Lookup, i64>, StoreError> {
    if cards.is_empty() {
        return Ok(HashMap::new());
    }
    let wanted = || Value::keys(cards.iter().map(|card| card.as_slice()));
    let made = tx
        .all(
            "INSERT INTO account (made_at) SELECT {now} FROM {cards} RETURNING id",
            &[("now", now.unix_ms().into()), ("cards", wanted())],
        )
        .await?;
    let accounts = made
        .iter()
        .map(|row| row.int(0).map(Some))
        .collect::<Result<_, _>>()?;
    let given = table([
        (
            "card",
            Column::Bytes(cards.iter().map(|card| card.to_vec()).collect()),
        ),
        ("account", Column::Int(accounts)),
    ]);
    // Another instance may be giving one an account at the same time: the first one holds, and the other stays unused. In one order,
    // so that the two do not wait for each other.
    tx.execute(
        "INSERT INTO card (card_key, account_id) SELECT card, account FROM {given} WHERE true ORDER BY card \
         ON CONFLICT DO NOTHING",
        &[("given", given)],
    )
    .await?;
    let rows = tx
        .all(
            "SELECT cards.value, card.account_id FROM {cards} LEFT JOIN card ON card.card_key = cards.value",
            &[("cards", wanted())],
        )
        .await?;
    rows.iter().map(|row| Ok((row.array(0)?, row.int(1)?))).collect()
}

/// Ends the sessions of cards.
pub(super) async fn end_sessions(tx: &mut WriteTx, cards: &[&Lookup]) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE session SET ended = {yes}, closed = {yes} \
         WHERE NOT closed AND card_key IN (SELECT value FROM {cards})",
        &[
            ("yes", true.into()),
            ("cards", Value::keys(cards.iter().map(|card| card.as_slice()))),
        ],
    )
    .await?;
    Ok(())
}

/// A linkage goes over from a card to another.
#[derive(Clone, Copy)]
pub(super) struct CardMove {
    /// The card that it was bound to.
    pub(super) from: Lookup,
    /// The card that it is bound to.
    pub(super) to: Lookup,
    /// Whether the new card replaces the old one of the same person: then their account goes over, too.
    pub(super) replaced: bool,
}

/// Lets blocks go over, and the accounts of cards that are replaced. All sessions of those end, of the old card and of the
/// new one, which may have had an account of its own.
pub(super) async fn go_over(tx: &mut WriteTx, moves: &[CardMove]) -> Result<(), StoreError> {
    let mut rest = moves;
    while !rest.is_empty() {
        // In one statement no card comes twice: what one move brings to a card the next one takes from there.
        let mut seen = HashSet::new();
        let together = rest
            .iter()
            .take_while(|one| seen.insert(one.from) & seen.insert(one.to))
            .count();
        let (round, later) = rest.split_at(together.max(1));
        let replaced: Vec<CardMove> = round.iter().filter(|one| one.replaced).copied().collect();
        blocks_go_over(tx, round).await?;
        if !replaced.is_empty() {
            accounts_go_over(tx, &replaced).await?;
        }
        rest = later;
    }
    Ok(())
}

fn moves_table(moves: &[CardMove]) -> Value {
    table([
        (
            "old_card",
            Column::Bytes(moves.iter().map(|one| one.from.to_vec()).collect()),
        ),
        (
            "new_card",
            Column::Bytes(moves.iter().map(|one| one.to.to_vec()).collect()),
        ),
    ])
}

async fn blocks_go_over(tx: &mut WriteTx, moves: &[CardMove]) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO block (card_key, since) SELECT moves.new_card, block.since \
         FROM {moves} JOIN block ON block.card_key = moves.old_card WHERE true ON CONFLICT DO NOTHING",
        &[("moves", moves_table(moves))],
    )
    .await?;
    Ok(())
}

async fn accounts_go_over(tx: &mut WriteTx, moves: &[CardMove]) -> Result<(), StoreError> {
    let cards: Vec<&Lookup> = moves.iter().flat_map(|one| [&one.from, &one.to]).collect();
    end_sessions(tx, &cards).await?;
    tx.execute(
        "INSERT INTO card (card_key, account_id) SELECT moves.new_card, card.account_id \
         FROM {moves} JOIN card ON card.card_key = moves.old_card WHERE true \
         ON CONFLICT (card_key) DO UPDATE SET account_id = excluded.account_id",
        &[("moves", moves_table(moves))],
    )
    .await?;
    tx.execute(
        "DELETE FROM card WHERE card_key IN (SELECT value FROM {cards})",
        &[("cards", Value::keys(moves.iter().map(|one| one.from.as_slice())))],
    )
    .await?;
    Ok(())
}
