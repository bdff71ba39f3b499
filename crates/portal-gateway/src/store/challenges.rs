//! Login challenges: each is kept once and used up once, several at a time. They are not recorded in the log.

use std::collections::HashMap;

use common::{
    clock::Timestamp,
    store::{Access, Column, Database, StoreError, table},
};

use super::ChallengeStep;

macro_rules! keep {
    () => {
        "INSERT INTO challenge (id, frontend, text, expires_at) SELECT id, frontend, text, expires_at FROM {kept}"
    };
}
macro_rules! take {
    () => {
        "DELETE FROM challenge WHERE (id, frontend) IN (SELECT id, frontend FROM {wanted}) \
         RETURNING id, frontend, text, expires_at"
    };
}

/// Does the steps; the text of each challenge that was used up and has not expired.
pub(super) async fn step(
    database: &Database,
    steps: &[ChallengeStep],
    now: Timestamp,
) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
    let (mut ids, mut frontends, mut texts, mut expire) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut taken_ids, mut takers) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            ChallengeStep::Keep(challenge) => {
                ids.push(challenge.id.to_vec());
                frontends.push(challenge.frontend.clone());
                texts.push(challenge.text.clone());
                expire.push(Some(challenge.expires_at.unix_ms()));
            }
            ChallengeStep::Take { id, frontend } => {
                taken_ids.push(id.clone());
                takers.push(frontend.clone());
            }
        }
    }
    let kept = table([
        ("id", Column::Bytes(ids)),
        ("frontend", Column::Text(frontends)),
        ("text", Column::Bytes(texts)),
        ("expires_at", Column::Int(expire)),
    ]);
    let wanted = table([
        ("id", Column::Bytes(taken_ids)),
        ("frontend", Column::Text(takers)),
    ]);
    let params = [("kept", kept), ("wanted", wanted)];
    let rows = if database.is_postgres() {
        let both = concat!("WITH kept AS (", keep!(), ") ", take!());
        database.once(Access::Openings, both, &params).await?
    } else {
        let mut tx = database.begin(Access::Ungated).await?;
        tx.execute(keep!(), &params).await?;
        let rows = tx.all(take!(), &params).await?;
        tx.commit_unrecorded().await?;
        rows
    };
    let mut taken = HashMap::new();
    for row in &rows {
        let of = (row.bytes(0)?.to_vec(), row.text(1)?.to_owned());
        let text = match now.unix_ms() <= row.int(3)? {
            true => Some(row.bytes(2)?.to_vec()),
            false => None,
        };
        taken.insert(of, text);
    }
    // Of two that ask for the same one, the first has it; somebody else's is nobody's.
    let text = |step: &ChallengeStep| match step {
        ChallengeStep::Keep(_) => None,
        ChallengeStep::Take { id, frontend } => taken.remove(&(id.clone(), frontend.clone())).flatten(),
    };
    Ok(steps.iter().map(text).collect())
}
