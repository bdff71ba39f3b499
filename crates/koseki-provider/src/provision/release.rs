//! The release transaction (DESIGN §4): everything that could forbid a release is read in the transaction that appends
//! the audit bundle, and its commit is the release.

use std::{collections::HashSet, ops::Range, sync::Arc};

use common::{
    cards::Cards,
    clock::Clock,
    evidence::{ProvisionEntry, Released, Salt, new_salt},
    identity::PeerIdentity,
    keyring::{HandleKey, Lookup, PseudonymKey},
    policy::{Policy, Provision},
    refusal::{Reason, Refusal},
    store::{self, StoreError, one_by_one_if_it_fails},
    terms::{LinkageHandle, Procedure, RegisterKind, RequestId, RequestKind},
    witness::Witnessing,
};
use koseki_proto::koseki::evidence::v1::ProvisionDetail;

use super::{
    decision::{Context, Decision, decide},
    login::{Login, Logins},
};
use crate::store::{ItemFacts, LookUp, ProviderStore, ReleaseTx, Sequence};

/// An admitted batch of one gateway.
pub struct Call {
    /// The gateway.
    pub peer: PeerIdentity,
    /// Its number of the batch.
    pub sequence: Sequence,
    /// SHA-256 of the eligibility.
    pub eligibility_sha256: [u8; 32],
    /// The policy that it names, under which it is decided.
    pub policy: Arc<Policy>,
    /// The requests.
    pub items: Vec<Item>,
}

/// One request.
pub struct Item {
    /// Its id.
    pub request_id: RequestId,
    /// Its kind.
    pub kind: RequestKind,
    /// Its procedure.
    pub procedure: Procedure,
    /// Handle of the linkage code.
    pub handle: LinkageHandle,
    /// What the policy gives for kind and procedure.
    pub provision: Provision,
    /// The consent that the gateway vouches for.
    pub consent_id: String,
    /// The login; none for what the gateway has refused already.
    pub(super) login: Login,
}

/// What is answered to one request.
pub struct Answer {
    pub(super) request_id: RequestId,
    pub(super) decision: Decision,
    /// Salt of the answer's digest.
    pub(super) salt: Salt,
    /// The digest; empty when nothing is provided.
    pub(super) answer_sha256: Vec<u8>,
    /// Number of the bundle that it is recorded in.
    pub(super) bundle: u64,
}

/// Answers of a call, released; or why it has none.
pub type CallOutcome = Result<Released<Vec<Answer>>, Refusal>;

/// Releases batches.
pub struct Releaser {
    /// The store.
    pub store: Arc<dyn ProviderStore>,
    /// Pseudonyms for the audit.
    pub pseudonym: PseudonymKey,
    /// Handles of registers.
    pub handles: HandleKey,
    /// Roots and revocation lists of cards.
    pub cards: Arc<Cards>,
    /// Whether this log is countersigned as it has to be.
    pub witnessing: Arc<Witnessing>,
    /// The logins behind the requests.
    pub logins: Arc<Logins>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Releaser {
    /// Releases what has queued up: one transaction for all calls. A call that is refused leaves the others alone.
    pub async fn release(&self, calls: Vec<Call>) -> Vec<CallOutcome> {
        let outcomes = one_by_one_if_it_fails(calls.len(), |part| self.transaction(&calls, part)).await;
        let flat = |outcome: Result<CallOutcome, Reason>| outcome.unwrap_or_else(|reason| Err(reason.into()));
        outcomes.into_iter().map(flat).collect()
    }

    async fn transaction(&self, calls: &[Call], part: Range<usize>) -> Result<Vec<CallOutcome>, StoreError> {
        let is_whole = part.len() == calls.len();
        let calls = store::part(calls, part)?;
        if is_whole && let Some(at_once) = self.store.enter_at_once() {
            match self.decided(calls, at_once).await {
                Err(StoreError::Moved) => {}
                outcome => return outcome,
            }
        }
        self.decided(calls, self.store.enter().await?).await
    }

    async fn decided(
        &self,
        calls: &[Call],
        mut tx: Box<dyn ReleaseTx + '_>,
    ) -> Result<Vec<CallOutcome>, StoreError> {
        // Not before the gate is taken, where it is taken first: a record that came into force while this waited must be in force
        // for it.
        let now = self.clock.now();
        let look_up = |item: &Item| LookUp {
            handle: item.handle,
            closed_registers: item
                .provision
                .registers
                .iter()
                .any(|kind| *kind != RegisterKind::Current),
        };
        let look_ups: Vec<LookUp> = calls.iter().flat_map(|call| &call.items).map(look_up).collect();
        let read = tx.read(&look_ups, now).await?;
        let sequences: Vec<Sequence> = calls.iter().map(|call| call.sequence.clone()).collect();
        let used_once = tx.use_sequences(&sequences).await?;
        // By the lists that are recorded here, not by those that this instance happens to hold. When one is not fresh nobody is
        // answered, so that cover items, whose cards this side does not know, are as all others (I4, I6); and nobody is while
        // the other side does not countersign this log (I9).
        let lists = self.cards.behind_gate(tx.facts()?.list_numbers());
        let can_tell = self.cards.all_fresh(&lists) && self.witnessing.holds();
        let mut refused = Vec::with_capacity(calls.len());
        for (call, fresh) in calls.iter().zip(used_once) {
            refused.push(if !fresh {
                Some(Reason::SequenceUsed)
            } else if !tx.facts()?.policy_holds(&call.policy, now) {
                Some(Reason::PolicyMismatch)
            } else if !can_tell {
                Some(Reason::Unavailable)
            } else {
                None
            });
        }
        let mut read = read.iter();
        let admitted: Vec<(&Call, Vec<&ItemFacts>)> = calls
            .iter()
            .map(|call| (call, read.by_ref().take(call.items.len()).collect()))
            .zip(&refused)
            .filter(|(_, refused)| refused.is_none())
            .map(|(admitted, _)| admitted)
            .collect();
        if admitted.is_empty() {
            // Nothing is released, so nothing is recorded; numbers that are not used up here are not fresh later, either: their
            // batches are refused for the same cause.
            let reasons = refused
                .into_iter()
                .map(|reason| reason.unwrap_or(Reason::Unavailable));
            return Ok(reasons.map(|reason| Err(reason.into())).collect());
        }
        let items: Vec<(&Call, &Item)> = admitted
            .iter()
            .flat_map(|(call, _)| call.items.iter().map(|item| (*call, item)))
            .collect();
        let facts = admitted.iter().flat_map(|(_, facts)| facts);

        let ids: Vec<RequestId> = items.iter().map(|(_, item)| item.request_id).collect();
        let mut fresh = tx.use_request_ids(&ids).await?;
        let suspensions = tx.facts()?.suspensions().clone();

        let decided_at = self.clock.monotonic();
        let mut entries = Vec::with_capacity(items.len());
        let mut answers = Vec::with_capacity(items.len());
        let contexts = admitted.iter().flat_map(|(call, _)| {
            let context = Context {
                policy: &call.policy,
                suspensions: &suspensions,
                handles: &self.handles,
                logins: &self.logins,
                lists: &lists,
                now,
            };
            std::iter::repeat_n(context, call.items.len())
        });
        for (((call, item), facts), context) in items.iter().zip(facts).zip(contexts) {
            let fresh = take(&mut fresh, item.request_id);
            let (decision, person) = decide(item, fresh, facts, &context);
            let salt = new_salt().map_err(|_| StoreError::Unreadable("the system's random source"))?;
            let answer_sha256 = decision
                .provided()
                .map(|provided| provided.info.sha256(&salt).to_vec());
            let answer_sha256 = answer_sha256.unwrap_or_default();
            let registers = decision.provided().map(|provided| provided.registers.as_slice());
            let registers = registers.unwrap_or_default();
            let named = |lookup: &Lookup| self.pseudonym.pseudonym("subject", lookup).to_vec();
            let detail = ProvisionDetail {
                cause: decision.cause().to_owned(),
                subject_pseudonym: person.as_ref().map(named).unwrap_or_default(),
                peer: call.peer.to_string(),
                consent_id: item.consent_id.clone(),
                eligibility_sha256: call.eligibility_sha256.to_vec(),
                session_pseudonym: item.login.proven().map_or_else(Vec::new, |login| {
                    self.pseudonym.pseudonym("session", login.session()).to_vec()
                }),
                card_pseudonym: item.login.proven().map_or_else(Vec::new, |login| {
                    self.pseudonym.pseudonym("card-key", login.card_key()).to_vec()
                }),
                register_pseudonyms: registers.iter().map(|(register, _)| named(register)).collect(),
                municipality_codes: registers.iter().map(|(_, code)| code.clone()).collect(),
                answer_sha256: answer_sha256.clone(),
                provider_log: String::new(),
                provider_bundle: 0,
            };
            entries.push(
                ProvisionEntry {
                    request_id: item.request_id,
                    kind: item.kind,
                    procedure: &item.procedure,
                    outcome: decision.outcome(),
                    reason: decision.reason(),
                    items: decision.provided().map(|_| &item.provision.items),
                    detail,
                }
                .into_entry(),
            );
            answers.push(Answer {
                request_id: item.request_id,
                decision,
                salt,
                answer_sha256,
                bundle: 0,
            });
        }

        let salts = answers.iter().map(|answer| answer.salt).collect();
        let committed = tx.commit(entries, salts, now).await?;
        for answer in &mut answers {
            answer.bundle = committed.bundle();
        }
        let mut released = Released::new(answers, committed, decided_at).each();
        Ok(calls
            .iter()
            .zip(refused)
            .map(|(call, refused)| match refused {
                None => Ok(Released::gather(released.by_ref().take(call.items.len()))),
                Some(reason) => Err(reason.into()),
            })
            .collect())
    }
}

/// Whether an id is fresh: of two items with one id in a batch, the first has it.
fn take(fresh: &mut HashSet<[u8; 16]>, id: RequestId) -> bool {
    fresh.remove(id.as_bytes())
}
