//! The portal interface: parsing at the edge, and the moment at which a refusal leaves (I6).

use std::{sync::Arc, time::Duration};

use common::{
    authorisation::{Permit, permit},
    batch::{BatchError, Batcher},
    clock::{Clock, Timestamp},
    policy::{Policies, Policy},
    refusal::{Reason, Refusal},
    store::StoreError,
    terms::{Procedure, RequestId, RequestKind, RuleBroken},
};
use koseki_proto::{
    koseki::common::v1::RequesterCopyInfo,
    portal::v1::{
        BeginLoginRequest, BeginLoginResponse, CompleteLoginRequest, CompleteLoginResponse, ConsentText,
        GetStatusRequest, GetStatusResponse, GrantConsentRequest, GrantConsentResponse, KindStatus,
        ListConsentTextsRequest, ListConsentTextsResponse, LogoutRequest, LogoutResponse, ProvisionState,
        RequestCopyInfoRequest, RequestCopyInfoResponse, WithdrawConsentRequest, WithdrawConsentResponse,
        grant_consent_request, portal_server::Portal,
    },
};
use tonic::{Request, Response, Status};

use crate::{
    consent::{Consents, Term},
    hold_back::HoldBack,
    login::{Login, token_sha256},
    provider_link::ProviderLink,
    provision::{Asked, Outcome, Verdict},
    store::GatewayStore,
    suppression::Replica,
};

/// Serves `portal.v1.Portal`.
pub struct PortalService {
    /// Logins and sessions.
    pub login: Login,
    /// Consents.
    pub consents: Consents,
    /// The queue into the life of a request.
    pub requests: Batcher<Asked, Outcome>,
    /// When a register refusal leaves.
    pub hold_back: HoldBack,
    /// The policies that this side holds.
    pub policies: Arc<Policies>,
    /// The store, for the status.
    pub store: Arc<dyn GatewayStore>,
    /// The line to the registry side, for the status.
    pub provider: Arc<ProviderLink>,
    /// What the registry side has stopped, for the status.
    pub suppressions: Arc<Replica>,
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
        let outcome = tokio::time::timeout(exchange.refusal_after(), self.requests.submit(asked)).await;
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
                self.hold_back
                    .wait(&*self.clock, arrived, exchange.refusal_after())
                    .await;
                Err(Reason::NotProvided.into())
            }
            Ok(Verdict::Refused(reason)) | Err(reason) => Err(reason.into()),
        }
    }

    async fn states(&self) -> Result<Vec<KindStatus>, StoreError> {
        let here = self.store.side().database().suspensions().await?;
        let provider = self
            .provider
            .state()
            .filter(|_| self.suppressions.current().is_some());
        let state = |kind| match &provider {
            _ if here.covers(kind) => ProvisionState::Suspended,
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
    move |refusal| refusal.of_request(request_id).into()
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
            .complete(permit.peer(), challenge_id, certificate, signature)
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
        self.login
            .logout(permit.peer(), &request.get_ref().session_token)
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
            self.consents
                .grant(
                    permit.peer(),
                    &request.session_token,
                    kind,
                    &request.text_sha256,
                    term,
                )
                .await
        };
        let (consent, expires_at) = granted.await.map_err(refused(id))?;
        Ok(Response::new(GrantConsentResponse {
            request_id: id.to_string(),
            consent_id: consent.to_string(),
            expires_at: Some(expires_at.to_proto()),
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
        self.consents
            .withdraw(permit.peer(), session_token, consent_id)
            .await
            .map_err(refused(id))?;
        Ok(Response::new(WithdrawConsentResponse {
            request_id: id.to_string(),
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
    Ok(Asked {
        request_id,
        peer: permit.peer().clone(),
        session,
        kind,
        procedure,
        arrived,
    })
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
