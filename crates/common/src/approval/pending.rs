//! Proposals and closings in the database.

use koseki_proto::koseki::common::v1::{
    ListPendingResponse, OpeningAct, PendingProposal, UnconfirmedClosing,
};
use prost::Message as _;

use super::Opening;
use crate::{
    clock::Timestamp,
    evidence::{Epoch, GuardActEntry, ordinary_act},
    identity::PeerIdentity,
    keyring::Keyring,
    policy::ApprovalPolicy,
    sealing::Place,
    store::{Access, ActError, Database, Row, SideStore, StoreError, WriteTx, kind_number, suspension_epoch},
    terms::ActId,
};

/// A proposal to be made.
pub(super) struct Proposal {
    pub(super) id: ActId,
    pub(super) opening: Opening,
    pub(super) reason: String,
}

fn place(id: &[u8]) -> Place<'_> {
    Place {
        column: "proposal.sealed_act",
        row: id,
        revision: 0,
    }
}

fn opening_of(keys: &Keyring, id: &[u8], sealed: &[u8]) -> Result<Opening, StoreError> {
    let unreadable = || StoreError::Unreadable("a proposal");
    let act = keys.sealer.open(place(id), sealed)?;
    let act = OpeningAct::decode(act.as_slice()).map_err(|_| unreadable())?;
    Opening::parse(&act).map_err(|_| unreadable())
}

/// Does the act, in a transaction that has the gate alone.
async fn open(
    store: &dyn SideStore,
    tx: &mut WriteTx,
    opening: &Opening,
    now: Timestamp,
) -> Result<Option<crate::keyring::Pseudonym>, ActError> {
    let kind = match opening {
        Opening::ResumeProvision(kind) => kind,
        Opening::ArchiveLog(log, before) => {
            tx.mark_for_archiving(log, *before).await?;
            return Ok(None);
        }
        _ => return store.open(tx, opening, now).await,
    };
    if suspension_epoch(tx, *kind).await?.is_none() {
        return Err(ActError::NotApplicable);
    }
    tx.execute(
        "DELETE FROM suspension WHERE kind = {kind}",
        &[("kind", kind_number(*kind).into())],
    )
    .await?;
    Ok(None)
}

/// Stores a proposal; until when it holds.
pub(super) async fn propose(
    store: &dyn SideStore,
    proposal: Proposal,
    actor: &PeerIdentity,
    bounds: ApprovalPolicy,
    now: Timestamp,
) -> Result<Timestamp, ActError> {
    let database = store.database();
    let Proposal { id, opening, reason } = proposal;
    let mut tx = database.begin(Access::Guard).await?;
    let known = tx
        .optional(
            "SELECT act_sha256, proposer, reason, expires_at FROM proposal WHERE id = {id}",
            &[("id", id.as_bytes().into())],
        )
        .await?;
    if let Some(row) = known {
        let same = row.array::<32>(0)? == opening.sha256()
            && row.text(1)? == actor.to_string()
            && row.text(2)? == reason;
        return match same {
            true => Ok(Timestamp::from_unix_ms(row.int(3)?)),
            false => Err(ActError::IdUsed),
        };
    }
    // Done and given up: what could not be done now is not proposed.
    open(store, &mut tx, &opening, now).await?;
    drop(tx);

    let mut tx = database.begin(Access::Ordinary).await?;
    let expires_at = now.after(bounds.proposal());
    let sealed = database
        .keys
        .sealer
        .seal(place(id.as_bytes()), &opening.to_proto().encode_to_vec())
        .map_err(StoreError::from)?;
    let params = [
        ("id", id.as_bytes().into()),
        ("target", (&opening.target(&database.keys.lookup)).into()),
        ("sha256", (&opening.sha256()).into()),
        ("act", sealed.into()),
        ("proposer", actor.to_string().into()),
        ("reason", reason.as_str().into()),
        ("now", now.unix_ms().into()),
        ("expires", expires_at.unix_ms().into()),
        ("no", false.into()),
    ];
    tx.execute(
        "INSERT INTO proposal (id, target, act_sha256, sealed_act, proposer, reason, proposed_at, expires_at, voided) \
         VALUES ({id}, {target}, {sha256}, {act}, {proposer}, {reason}, {now}, {expires}, {no})",
        &params,
    )
    .await?;
    let entry = ordinary_act("PROPOSE", actor, 0, None, &id.to_string());
    let _ = tx.commit(vec![entry], now).await?;
    Ok(expires_at)
}

/// Approves a proposal and does its act.
pub(super) async fn approve(
    store: &dyn SideStore,
    id: ActId,
    act_sha256: [u8; 32],
    actor: &PeerIdentity,
    now: Timestamp,
) -> Result<Epoch, ActError> {
    let database = store.database();
    let mut tx = database.begin(Access::Guard).await?;
    let row = tx
        .optional(
            "SELECT act_sha256, sealed_act, proposer, reason, expires_at, voided, approved_by, epoch \
             FROM proposal WHERE id = {id}",
            &[("id", id.as_bytes().into())],
        )
        .await?;
    let row = row.ok_or(ActError::UnknownReference)?;
    let opening = opening_of(&database.keys, id.as_bytes(), row.bytes(1)?)?;
    if row.array::<32>(0)? != act_sha256 || opening.sha256() != act_sha256 {
        let rule = crate::terms::RuleBroken("the hash of the act that is proposed");
        return Err(ActError::Malformed("act_sha256", rule));
    }
    if let Some(epoch) = row.optional_int(7)? {
        tx.commit_again().await?;
        return Ok(Epoch(epoch.unsigned_abs()));
    }
    let name = actor.to_string();
    if row.text(2)? == name {
        return Err(ActError::AnotherPersonNeeded);
    }
    if row.bool(5)? || row.int(4)? < now.unix_ms() {
        return Err(ActError::NotApplicable);
    }
    let reason = row.text(3)?.to_owned();
    let subject = open(store, &mut tx, &opening, now).await?;
    let epoch = tx.advance_epoch().await?;
    let params = [
        ("id", id.as_bytes().into()),
        ("approver", name.into()),
        ("epoch", i64::try_from(epoch.0).unwrap_or(i64::MAX).into()),
    ];
    tx.execute(
        "UPDATE proposal SET approved_by = {approver}, epoch = {epoch} WHERE id = {id}",
        &params,
    )
    .await?;
    let kind = match &opening {
        Opening::ResumeProvision(kind) => *kind,
        _ => None,
    };
    let (lifts, until) = match &opening {
        Opening::ReleaseNonProvision(record) => (Some(*record), None),
        Opening::ShortenNonProvision(record, until) => (Some(*record), Some(*until)),
        _ => (None, None),
    };
    let entry = GuardActEntry {
        act_id: Some(id),
        kind,
        subject,
        reason: &reason,
        validity: (None, until),
        lifts,
        reference: match &opening {
            Opening::ArchiveLog(log, before) => format!("{log} {before}"),
            _ => String::new(),
        },
        ..GuardActEntry::new(opening.name(), actor)
    };
    Ok(tx.commit(vec![entry.to_entry()], now).await?.epoch())
}

/// Confirms a closing.
pub(super) async fn confirm(
    database: &Database,
    id: ActId,
    actor: &PeerIdentity,
    now: Timestamp,
) -> Result<(), ActError> {
    let mut tx = database.begin(Access::Ordinary).await?;
    let row = tx
        .optional(
            "SELECT actor, confirmed_by FROM closing WHERE act_id = {id}",
            &[("id", id.as_bytes().into())],
        )
        .await?;
    let row = row.ok_or(ActError::UnknownReference)?;
    let name = actor.to_string();
    if row.text(0)? == name {
        return Err(ActError::AnotherPersonNeeded);
    }
    if row.optional_text(1)?.is_some() {
        return Ok(tx.commit_again().await?);
    }
    let params = [
        ("id", id.as_bytes().into()),
        ("name", name.into()),
        ("now", now.unix_ms().into()),
    ];
    tx.execute(
        "UPDATE closing SET confirmed_by = {name}, confirmed_at = {now} WHERE act_id = {id} AND confirmed_by IS NULL",
        &params,
    )
    .await?;
    let entry = ordinary_act("CONFIRM_CLOSING", actor, 0, None, &id.to_string());
    let _ = tx.commit(vec![entry], now).await?;
    Ok(())
}

/// What waits for a second person.
pub(super) async fn pending(
    database: &Database,
    bounds: ApprovalPolicy,
    now: Timestamp,
) -> Result<ListPendingResponse, StoreError> {
    let mut reader = database.reader().await?;
    let mut connection = reader.connection();
    let proposals = connection
        .all(
            "SELECT id, sealed_act, act_sha256, proposer, reason, proposed_at, expires_at FROM proposal \
             WHERE approved_by IS NULL AND NOT voided AND expires_at >= {now} ORDER BY proposed_at, id LIMIT 256",
            &[("now", now.unix_ms().into())],
        )
        .await?;
    let closings = connection
        .all(
            "SELECT act_id, act, actor, at FROM closing WHERE confirmed_by IS NULL ORDER BY at, act_id LIMIT 256",
            &[],
        )
        .await?;
    let moment = |row: &Row, at| Ok::<_, StoreError>(Some(Timestamp::from_unix_ms(row.int(at)?).to_proto()));
    let proposal = |row: &Row| {
        let id: [u8; 16] = row.array(0)?;
        Ok::<_, StoreError>(PendingProposal {
            proposal_id: ActId::from_bytes(id).to_string(),
            act: Some(opening_of(&database.keys, &id, row.bytes(1)?)?.to_proto()),
            act_sha256: row.bytes(2)?.to_vec(),
            proposer: row.text(3)?.to_owned(),
            reason: row.text(4)?.to_owned(),
            proposed_at: moment(row, 5)?,
            expires_at: moment(row, 6)?,
        })
    };
    let closing = |row: &Row| {
        let at = Timestamp::from_unix_ms(row.int(3)?);
        Ok::<_, StoreError>(UnconfirmedClosing {
            act_id: ActId::from_bytes(row.array(0)?).to_string(),
            act: row.text(1)?.to_owned(),
            actor: row.text(2)?.to_owned(),
            at: Some(at.to_proto()),
            due_at: Some(at.after(bounds.confirmation()).to_proto()),
        })
    };
    Ok(ListPendingResponse {
        proposals: proposals.iter().map(proposal).collect::<Result<_, _>>()?,
        closings: closings.iter().map(closing).collect::<Result<_, _>>()?,
    })
}
