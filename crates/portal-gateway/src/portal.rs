//! The portal interface: parsing at the edge, and the moment at which a refusal leaves (I6).

use std::{sync::Arc, time::Duration};

use common::{
    authorisation::{Permit, permit},
    batch::{BatchError, Batcher},
    clock::{Clock, Timestamp},
    paging::PageSize,
    policy::{Policies, Policy},
    refusal::{Reason, Refusal},
    store::StoreError,
    terms::{Procedure, RequestId, RequestKind, RuleBroken},
    witness::Witnessing,
};
use koseki_proto::{
    koseki::common::v1::RequesterCopyInfo,
    portal::v1::{
        BeginLoginRequest, BeginLoginResponse, Capacity, CompleteLoginRequest, CompleteLoginResponse,
        ConsentText, GetConsentReceiptRequest, GetConsentReceiptResponse, GetStatusRequest,
        GetStatusResponse, GrantConsentRequest, GrantConsentResponse, KindStatus, ListConsentTextsRequest,
        ListConsentTextsResponse, ListConsentsRequest, ListConsentsResponse, ListProvisionRecordsRequest,
        ListProvisionRecordsResponse, LogoutRequest, LogoutResponse, ProvisionState, RequestCopyInfoRequest,
        RequestCopyInfoResponse, WithdrawConsentRequest, WithdrawConsentResponse, grant_consent_request,
        portal_server::Portal,
    },
};
use tonic::{Request, Response, Status};

use crate::{
    call::PortalCall,
    closings::Closings,
    consent::{Consents, Term},
    hold_back::HoldBack,
    login::{Login, token_sha256},
    own_records::{OwnRecords, RecordPage},
    providers::Providers,
    provision::{Asked, Outcome, Verdict},
    requester::Requesters,
    store::GatewayStore,
    suppression::Replica,
};

/// Serves `portal.v1.Portal`.
pub struct PortalService {
    /// Logins and sessions.
    pub login: Login,
    /// What requesters close.
    pub closings: Closings,
    /// Consents.
    pub consents: Consents,
    /// Who is logged in.
    pub requesters: Requesters,
    /// What became of requests.
    pub own_records: OwnRecords,
    /// The queue into the life of a request.
    pub requests: Batcher<Asked, Outcome>,
    /// When a register refusal leaves.
    pub hold_back: HoldBack,
    /// The policies that this side holds.
    pub policies: Arc<Policies>,
    /// The store, for the status.
    pub store: Arc<dyn GatewayStore>,
    /// The lines to the registry side, for the status.
    pub providers: Arc<Providers>,
    /// What the registry side has stopped, for the status.
    pub suppressions: Arc<Replica>,
    /// Whether this log is countersigned, for the status.
    pub witnessing: Arc<Witnessing>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl PortalService {
    /// Takes the call's permit and id; every refusal after that echoes the id.
    fn enter<T>(&self, request: &Request<T>, request_id: &str) -> Result<(Arc<Permit>, RequestId), Status> {
        let permit = permit(request)?;
        let id = RequestId::parse(request_id, self.clock.now())
            .map_err(|rule| Refusal::malformed("request_id", rule))?;
        Ok((permit, id))
    }

    /// The life of a request, from the call to its answer: parse, queue (see `Provision::provide`), hand off.
    async fn request_copy_info(
        &self,
        permit: &Permit,
        request_id: RequestId,
        request: &RequestCopyInfoRequest,
    ) -> Result<RequesterCopyInfo, Refusal> {
        let arrived = self.clock.monotonic();
        let policy = self.policies.current();
        let asked = parse(&policy, permit, request_id, request, arrived)?;
        let exchange = &policy.exchange;
        let outcome = tokio::time::timeout(
            exchange.refusal_after(),
            self.requests.submit(permit.peer().name(), asked),
        )
        .await;
        let verdict = match outcome {
            // Not decided in time: the same for everybody.
            Err(_) | Ok(Err(BatchError::Lost)) => Err(Reason::Unavailable),
            Ok(Err(BatchError::Full)) => Err(Reason::Overloaded),
            Ok(Ok(Err(reason))) => Err(reason),
            Ok(Ok(Ok(released))) => released
                .hand_off(&*self.clock, exchange.max_hand_off())
                .map_err(|_| Reason::Unavailable),
        };
        match verdict {
            Ok(Verdict::Provided(info)) => Ok(info.into_message()),
            // One refusal for the register: it leaves at a fixed time after the request came in, whatever its cause.
            Ok(Verdict::Refused(Reason::NotProvided)) => {
                self.wait_for_the_refusal(arrived, exchange.refusal_after()).await;
                Err(Reason::NotProvided.into())
            }
            Ok(Verdict::Refused(reason)) | Err(reason) => Err(reason.into()),
        }
    }

    /// A register refusal leaves at a fixed time after the request came in.
    async fn wait_for_the_refusal(&self, arrived: Duration, after: Duration) {
        self.hold_back.wait(&*self.clock, arrived, after).await;
    }

    /// What a block closes: with the register refusal, which leaves when all of them do (I6).
    async fn closed_by_a_block<T>(
        &self,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let arrived = self.clock.monotonic();
        let after = self.policies.current().exchange.refusal_after();
        match tokio::time::timeout(after, work).await {
            Err(_) => Err(Reason::Unavailable.into()),
            Ok(Err(refusal)) if refusal.reason() == Reason::NotProvided => {
                self.wait_for_the_refusal(arrived, after).await;
                Err(refusal)
            }
            Ok(outcome) => outcome,
        }
    }

    async fn own_records(
        &self,
        permit: &Permit,
        request: &ListProvisionRecordsRequest,
    ) -> Result<RecordPage, Refusal> {
        let size = page_size(request.page_size)?;
        let requester = self.requesters.of(permit.peer(), &request.session_token).await?;
        self.own_records
            .list(requester.unblocked()?, size, &request.page_token)
            .await
    }

    async fn states(&self) -> Result<Vec<KindStatus>, StoreError> {
        let database = self.store.side().database();
        let here = database.gate_facts().await?;
        // Whoever cannot tell which cards are revoked, or who is suppressed, has no witness or a closed log, provides to nobody.
        let provider = self.providers.providing().filter(|_| {
            self.login.cards.can_tell()
                && self.suppressions.current().is_some()
                && self.witnessing.holds()
                && !database.is_closed()
        });
        let state = |kind| match &provider {
            _ if here.suspensions().covers(kind) => ProvisionState::Suspended,
            Some(there) if there.suspensions.covers(kind) => ProvisionState::Suspended,
            Some(_) => ProvisionState::Providing,
            None => ProvisionState::Unavailable,
        };
        let status = |kind: RequestKind| KindStatus {
            kind: kind.to_proto().into(),
            state: state(kind).into(),
        };
        Ok(RequestKind::ALL.into_iter().map(status).collect())
    }
}

/// A refusal as the caller gets it, with the call's id.
fn refused(request_id: RequestId) -> impl Fn(Refusal) -> Status {
    move |refusal| {
        let reason = refusal.reason().name();
        tracing::info!(%request_id, reason, "a call was refused");
        refusal.of_request(request_id).into()
    }
}

#[tonic::async_trait]
impl Portal for PortalService {
    async fn begin_login(
        &self,
        request: Request<BeginLoginRequest>,
    ) -> Result<Response<BeginLoginResponse>, Status> {
        let (permit, id) = self.enter(&request, &request.get_ref().request_id)?;
        let begun = self
            .login
            .begin(permit.peer(), &request.get_ref().web_origin)
            .await
            .map_err(refused(id))?;
        Ok(Response::new(BeginLoginResponse {
            request_id: id.to_string(),
            challenge_id: begun.id.to_vec(),
            text: begun.text,
            expires_at: Some(begun.expires_at.to_proto()),
        }))
    }

    async fn complete_login(
        &self,
        request: Request<CompleteLoginRequest>,
    ) -> Result<Response<CompleteLoginResponse>, Status> {
        let (permit, id) = self.enter(&request, &request.get_ref().request_id)?;
        let CompleteLoginRequest {
            challenge_id,
            certificate,
            signature,
            ..
        } = request.get_ref();
        let completed = self
            .login
            .complete(PortalCall::new(&permit, id), challenge_id, certificate, signature)
            .await;
        let session = completed.map_err(refused(id))?;
        Ok(Response::new(CompleteLoginResponse {
            request_id: id.to_string(),
            session_token: session.token.to_vec(),
            expires_at: Some(session.expires_at.to_proto()),
            idle_limit_seconds: u32::try_from(self.policies.current().login.session_idle_seconds)
                .unwrap_or(u32::MAX),
        }))
    }

    async fn logout(&self, request: Request<LogoutRequest>) -> Result<Response<LogoutResponse>, Status> {
        let (permit, id) = self.enter(&request, &request.get_ref().request_id)?;
        self.closings
            .logout(PortalCall::new(&permit, id), &request.get_ref().session_token)
            .await
            .map_err(refused(id))?;
        Ok(Response::new(LogoutResponse {
            request_id: id.to_string(),
        }))
    }

    async fn list_consent_texts(
        &self,
        request: Request<ListConsentTextsRequest>,
    ) -> Result<Response<ListConsentTextsResponse>, Status> {
        let (_, id) = self.enter(&request, &request.get_ref().request_id)?;
        let policy = self.policies.current();
        let texts = policy.consent_texts.iter().map(|text| ConsentText {
            kind: text.kind.to_proto().into(),
            language: text.language.clone(),
            text: text.text.clone(),
            text_sha256: text.sha256.to_vec(),
        });
        Ok(Response::new(ListConsentTextsResponse {
            request_id: id.to_string(),
            texts: texts.collect(),
        }))
    }

    async fn grant_consent(
        &self,
        request: Request<GrantConsentRequest>,
    ) -> Result<Response<GrantConsentResponse>, Status> {
        let (permit, id) = self.enter(&request, &request.get_ref().request_id)?;
        let granted = async {
            let request = request.get_ref();
            let kind = RequestKind::parse(request.kind).map_err(|rule| Refusal::malformed("kind", rule))?;
            let term = parse_term(request.term.as_ref())?;
            acts_for_themself(request.capacity)?;
            self.consents
                .grant(
                    PortalCall::new(&permit, id),
                    &request.session_token,
                    kind,
                    &request.text_sha256,
                    term,
                )
                .await
        };
        let granted = granted.await.map_err(refused(id))?;
        Ok(Response::new(GrantConsentResponse {
            request_id: id.to_string(),
            consent_id: granted.id.to_string(),
            expires_at: Some(granted.expires_at.to_proto()),
            receipt: granted.receipt,
        }))
    }

    async fn withdraw_consent(
        &self,
        request: Request<WithdrawConsentRequest>,
    ) -> Result<Response<WithdrawConsentResponse>, Status> {
        let (permit, id) = self.enter(&request, &request.get_ref().request_id)?;
        let WithdrawConsentRequest {
            session_token,
            consent_id,
            ..
        } = request.get_ref();
        self.closings
            .withdraw(PortalCall::new(&permit, id), session_token, consent_id)
            .await
            .map_err(refused(id))?;
        Ok(Response::new(WithdrawConsentResponse {
            request_id: id.to_string(),
        }))
    }

    async fn list_consents(
        &self,
        request: Request<ListConsentsRequest>,
    ) -> Result<Response<ListConsentsResponse>, Status> {
        let (permit, id) = self.enter(&request, &request.get_ref().request_id)?;
        let listed = async {
            let request = request.get_ref();
            let size = page_size(request.page_size)?;
            let requester = self.requesters.of(permit.peer(), &request.session_token).await?;
            self.consents.list(requester, size, &request.page_token).await
        };
        let (consents, next_page_token) = listed.await.map_err(refused(id))?;
        Ok(Response::new(ListConsentsResponse {
            request_id: id.to_string(),
            consents,
            next_page_token,
        }))
    }

    async fn get_consent_receipt(
        &self,
        request: Request<GetConsentReceiptRequest>,
    ) -> Result<Response<GetConsentReceiptResponse>, Status> {
        let (permit, id) = self.enter(&request, &request.get_ref().request_id)?;
        let GetConsentReceiptRequest {
            session_token,
            consent_id,
            ..
        } = request.get_ref();
        let given = async {
            let requester = self.requesters.of(permit.peer(), session_token).await?;
            self.consents.receipt(requester.unblocked()?, consent_id).await
        };
        let receipt = self.closed_by_a_block(given).await.map_err(refused(id))?;
        Ok(Response::new(GetConsentReceiptResponse {
            request_id: id.to_string(),
            receipt,
        }))
    }

    async fn list_provision_records(
        &self,
        request: Request<ListProvisionRecordsRequest>,
    ) -> Result<Response<ListProvisionRecordsResponse>, Status> {
        let (permit, id) = self.enter(&request, &request.get_ref().request_id)?;
        let page = self
            .closed_by_a_block(self.own_records(&permit, request.get_ref()))
            .await
            .map_err(refused(id))?;
        Ok(Response::new(ListProvisionRecordsResponse {
            request_id: id.to_string(),
            records: page.records,
            next_page_token: page.next,
            complete_until: Some(page.complete_until.to_proto()),
            checkpoints: page.checkpoints,
        }))
    }

    async fn request_copy_info(
        &self,
        request: Request<RequestCopyInfoRequest>,
    ) -> Result<Response<RequestCopyInfoResponse>, Status> {
        let (permit, id) = self.enter(&request, &request.get_ref().request_id)?;
        let info = self
            .request_copy_info(&permit, id, request.get_ref())
            .await
            .map_err(refused(id))?;
        Ok(Response::new(RequestCopyInfoResponse {
            request_id: id.to_string(),
            info: Some(info),
        }))
    }

    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let (_, id) = self.enter(&request, &request.get_ref().request_id)?;
        let kinds = self
            .states()
            .await
            .map_err(|error| refused(id)(Reason::from(error).into()))?;
        Ok(Response::new(GetStatusResponse {
            request_id: id.to_string(),
            kinds,
            now: Some(self.clock.now().to_proto()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }
}

fn parse(
    policy: &Policy,
    permit: &Permit,
    request_id: RequestId,
    request: &RequestCopyInfoRequest,
    arrived: Duration,
) -> Result<Asked, Refusal> {
    let kind = RequestKind::parse(request.kind).map_err(|rule| Refusal::malformed("kind", rule))?;
    let procedure =
        Procedure::parse(&request.procedure).map_err(|rule| Refusal::malformed("procedure", rule))?;
    if policy.provision(kind, &procedure).is_none() {
        return Err(Refusal::malformed(
            "procedure",
            RuleBroken("one that the policy has for the kind"),
        ));
    }
    let session = token_sha256(&request.session_token)?;
    acts_for_themself(request.capacity)?;
    Ok(Asked {
        request_id,
        peer: permit.peer().clone(),
        session,
        kind,
        procedure,
        arrived,
    })
}

/// The requester is who uses the portal for themself (clause 2.4): representation is out of scope.
fn acts_for_themself(capacity: i32) -> Result<(), Refusal> {
    match Capacity::try_from(capacity) {
        Ok(Capacity::Self_) => Ok(()),
        Ok(Capacity::Representative | Capacity::Incapable) => Err(Reason::RepresentedNotSupported.into()),
        Ok(Capacity::Unspecified) | Err(_) => Err(Refusal::malformed(
            "capacity",
            RuleBroken("for whom the person acts, as that person has stated it"),
        )),
    }
}

fn page_size(asked: u32) -> Result<PageSize, Refusal> {
    PageSize::parse(asked).map_err(|rule| Refusal::malformed("page_size", rule))
}

fn parse_term(term: Option<&grant_consent_request::Term>) -> Result<Term, Refusal> {
    match term {
        Some(grant_consent_request::Term::OneTime(true)) => Ok(Term::OneTime),
        Some(grant_consent_request::Term::Until(until)) => Timestamp::from_proto(until)
            .map(Term::Until)
            .ok_or_else(|| Refusal::malformed("until", RuleBroken("a valid timestamp"))),
        Some(grant_consent_request::Term::OneTime(false)) | None => Err(Refusal::malformed(
            "term",
            RuleBroken("one_time as true, or until"),
        )),
    }
}
