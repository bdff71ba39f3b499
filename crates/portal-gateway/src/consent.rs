//! Consent (clause 4.3.1): explicit, to one kind of request and one text, for one answer or until a date, withdrawable.

use std::{sync::Arc, time::Duration};

use common::{
    clock::{Clock, Timestamp},
    paging::{PageSize, PageTokens, TokenFor},
    policy::Policies,
    refusal::{Reason, Refusal},
    terms::{ActId, RequestKind, RuleBroken},
};
use koseki_proto::portal::v1 as proto;

use crate::{
    call::PortalCall,
    conditions::ConsentFacts,
    login::token_sha256,
    openings::Openings,
    receipt::Receipts,
    requester::{Requester, Unblocked},
    sessions::Sessions,
    store::{GatewayStore, NewConsent, Opens, RequesterOpening},
};

/// How long a consent holds.
pub enum Term {
    /// For one answer.
    OneTime,
    /// Until then.
    Until(Timestamp),
}

/// What has become of a consent, but for its time being over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsentState {
    /// It holds.
    Given,
    /// One answer has spent it.
    Spent,
    /// It was withdrawn.
    Withdrawn,
}

/// A consent, as it is stored.
pub struct Consent {
    /// What a request needs of it.
    pub facts: ConsentFacts,
    /// The kind that is consented to.
    pub kind: RequestKind,
    /// Language of the text that was shown.
    pub language: String,
    /// What has become of it.
    pub state: ConsentState,
    /// When it was withdrawn.
    pub withdrawn_at: Option<Timestamp>,
}

impl Consent {
    fn to_proto(&self, now: Timestamp) -> proto::Consent {
        let state = match self.state {
            ConsentState::Given if now > self.facts.expires_at => proto::ConsentState::Expired,
            ConsentState::Given => proto::ConsentState::Given,
            ConsentState::Spent => proto::ConsentState::Spent,
            ConsentState::Withdrawn => proto::ConsentState::Withdrawn,
        };
        proto::Consent {
            consent_id: self.facts.id.to_string(),
            kind: self.kind.to_proto().into(),
            text_sha256: self.facts.text_sha256.to_vec(),
            language: self.language.clone(),
            given_at: Some(self.facts.given_at.to_proto()),
            expires_at: Some(self.facts.expires_at.to_proto()),
            one_time: self.facts.one_time,
            state: state.into(),
            withdrawn_at: self.withdrawn_at.map(Timestamp::to_proto),
        }
    }

    fn place(&self) -> ConsentPlace {
        ConsentPlace {
            given_at: self.facts.given_at,
            id: self.facts.id,
        }
    }
}

/// Where a consent stands in the list: the newest first, and by id within a moment.
pub struct ConsentPlace {
    /// When it was given.
    pub given_at: Timestamp,
    /// Its id.
    pub id: ActId,
}

impl ConsentPlace {
    fn to_bytes(&self) -> Vec<u8> {
        [
            self.given_at.unix_ms().to_be_bytes().as_slice(),
            self.id.as_bytes(),
        ]
        .concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (given_at, id) = bytes.split_first_chunk()?;
        Some(Self {
            given_at: Timestamp::from_unix_ms(i64::from_be_bytes(*given_at)),
            id: ActId::from_bytes(id.try_into().ok()?),
        })
    }
}

/// A consent that was given just now.
pub struct Granted {
    /// Its id.
    pub id: ActId,
    /// Until when it holds.
    pub expires_at: Timestamp,
    /// Its receipt.
    pub receipt: Vec<u8>,
}

/// Consents.
pub struct Consents {
    /// The store.
    pub store: Arc<dyn GatewayStore>,
    /// Records consents.
    pub openings: Arc<Openings>,
    /// Sessions, and whether their cards still count.
    pub sessions: Arc<Sessions>,
    /// Texts in force, and bounds.
    pub policies: Arc<Policies>,
    /// Issues receipts.
    pub receipts: Receipts,
    /// Makes page tokens.
    pub tokens: Arc<PageTokens>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Consents {
    /// A one-time consent that is not used within this is void.
    const ONE_TIME_HOLDS: Duration = Duration::from_secs(24 * 3_600);
    const LIST: &str = "consents";

    /// Records a consent, and gives its receipt.
    pub async fn grant(
        &self,
        call: PortalCall,
        token: &[u8],
        kind: RequestKind,
        text_sha256: &[u8],
        term: Term,
    ) -> Result<Granted, Refusal> {
        let token = token_sha256(token)?;
        let sha256: [u8; 32] = text_sha256
            .try_into()
            .map_err(|_| Refusal::malformed("text_sha256", RuleBroken("32 bytes")))?;
        let policy = self.policies.current();
        let mut texts = policy.consent_texts.iter();
        let text = texts
            .find(|text| text.kind == kind && text.sha256 == sha256)
            .ok_or(Reason::ConsentTextUnknown)?;
        let now = self.clock.now();
        let latest = now.after(Duration::from_secs(
            policy.consent_max_days.saturating_mul(24 * 3_600),
        ));
        let (expires_at, one_time) = match term {
            Term::OneTime => (now.after(Self::ONE_TIME_HOLDS), true),
            Term::Until(until) if until > now && until <= latest => (until, false),
            Term::Until(_) => {
                return Err(Refusal::malformed(
                    "until",
                    RuleBroken("later than now, within the policy's maximum"),
                ));
            }
        };
        self.sessions.check(&call.frontend, token).await?;
        let id = ActId::random().map_err(|_| Reason::Unavailable)?;
        let consent = ConsentFacts {
            id,
            text_sha256: sha256,
            given_at: now,
            expires_at,
            one_time,
        };
        let opening = RequesterOpening {
            opens: Opens::Consent(NewConsent {
                consent: consent.clone(),
                kind,
                language: text.language.clone(),
            }),
            token_sha256: token,
            call,
        };
        let account = self.openings.open(opening).await.map_err(Reason::from)?;
        let consent = Consent {
            facts: consent,
            kind,
            language: text.language.clone(),
            state: ConsentState::Given,
            withdrawn_at: None,
        };
        Ok(Granted {
            id,
            expires_at,
            // The consent holds, whatever becomes of its receipt: it can be asked for again.
            receipt: self.issue(account, &consent).unwrap_or_default(),
        })
    }

    /// A page of a requester's consents, and the token for the next one; empty on the last.
    pub async fn list(
        &self,
        requester: Requester,
        size: PageSize,
        token: &[u8],
    ) -> Result<(Vec<proto::Consent>, Vec<u8>), Refusal> {
        let account = requester.account();
        let owner = account.to_be_bytes();
        let token_for = TokenFor {
            list: Self::LIST,
            owner: &owner,
        };
        let behind = self
            .tokens
            .read(token_for, token)
            .map_err(|rule| Refusal::malformed("page_token", rule))?;
        let behind = match behind {
            None => None,
            // It was sealed by us for this list: what it holds is a place.
            Some(place) => Some(ConsentPlace::from_bytes(&place).ok_or(Reason::Unavailable)?),
        };
        let listed = self
            .store
            .list_consents(account, behind.as_ref(), size.limit())
            .await;
        let mut consents = listed.map_err(Reason::from)?;
        let more = consents.len() > size.entries();
        consents.truncate(size.entries());
        let next = match consents.last() {
            Some(last) if more => self
                .tokens
                .make(token_for, &last.place().to_bytes())
                .map_err(|_| Reason::Unavailable)?,
            _ => Vec::new(),
        };
        let now = self.clock.now();
        let consents = consents.iter().map(|consent| consent.to_proto(now));
        Ok((consents.collect(), next))
    }

    /// The receipt of a consent, given again.
    pub async fn receipt(&self, requester: Unblocked, consent_id: &str) -> Result<Vec<u8>, Refusal> {
        let id = ActId::parse(consent_id).map_err(|rule| Refusal::malformed("consent_id", rule))?;
        let account = requester.account();
        let consent = self.store.consent(account, id).await.map_err(Reason::from)?;
        self.issue(account, &consent.ok_or(Reason::ConsentUnknown)?)
    }

    fn issue(&self, account: i64, consent: &Consent) -> Result<Vec<u8>, Refusal> {
        let retention = self.policies.current().retention;
        let receipt = self.receipts.issue(account, consent, retention);
        receipt.map_err(|error| {
            tracing::error!(%error, "a consent has no receipt");
            Reason::Unavailable.into()
        })
    }
}
