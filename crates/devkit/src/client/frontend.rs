//! A portal frontend: what a requester does through it.

use common::{identity::Role, terms::RequestKind};
use koseki_proto::{
    koseki::common::v1::RequesterCopyInfo,
    portal::v1::{
        BeginLoginRequest, Capacity, CompleteLoginRequest, ConsentText, GetConsentReceiptRequest,
        GetStatusRequest, GrantConsentRequest, GrantConsentResponse, KindStatus, ListConsentTextsRequest,
        ListConsentsRequest, ListConsentsResponse, ListProvisionRecordsRequest, ListProvisionRecordsResponse,
        LogoutRequest, ProvisionState, RequestCopyInfoRequest, WithdrawConsentRequest, grant_consent_request,
        portal_client::PortalClient,
    },
};
use tokio::time::{interval, timeout};
use tonic::transport::Channel;

use super::{Access, AccessError, CallError, DEADLINE, Ids, request};
use crate::{card::VirtualCard, deployment::FRONTEND};

/// Origin of the page that the requester is said to see.
const WEB_ORIGIN: &str = "https://portal.example";
/// Between two looks at the state of provision.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// A portal frontend, connected to the gateway's portal listener. Cloning shares the connection.
#[derive(Clone)]
pub struct Frontend {
    client: PortalClient<Channel>,
    ids: Ids,
}

/// A requester's session.
#[derive(Clone)]
pub struct Session {
    token: Vec<u8>,
}

/// How long a consent holds.
#[derive(Clone, Copy, Debug)]
pub enum Term {
    /// For one answer.
    OneTime,
    /// For so long from now.
    For(std::time::Duration),
}

impl Session {
    /// A session that nobody opened: what a requester who has not logged in could at best present.
    pub fn invented() -> Self {
        Self {
            token: vec![0x5a; 32],
        }
    }
}

impl Frontend {
    /// The deployment's frontend, at the portal listener's `host:port`.
    ///
    /// # Errors
    /// When its files cannot be used.
    pub fn new(access: &Access, address: &str) -> Result<Self, AccessError> {
        let channel = access.to_gateway(Role::PortalFrontend, FRONTEND, address)?;
        Ok(Self {
            client: PortalClient::new(channel),
            ids: Ids::new(access.clock()),
        })
    }

    /// Makes the ids of calls.
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Logs in: takes the text, lets the card sign all of it, and brings certificate and signature.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn login(&self, card: &VirtualCard) -> Result<Session, CallError> {
        let begin = BeginLoginRequest {
            request_id: self.ids.next(),
            web_origin: WEB_ORIGIN.to_owned(),
        };
        let challenge = self
            .client
            .clone()
            .begin_login(request(begin))
            .await?
            .into_inner();
        let signature = card.sign(&challenge.text).map_err(|error| CallError::NoAnswer {
            code: tonic::Code::Internal,
            message: format!("the card does not sign: {error}"),
        })?;
        let complete = CompleteLoginRequest {
            request_id: self.ids.next(),
            challenge_id: challenge.challenge_id,
            certificate: card.certificate_der.clone(),
            signature,
        };
        let session = self
            .client
            .clone()
            .complete_login(request(complete))
            .await?
            .into_inner();
        Ok(Session {
            token: session.session_token,
        })
    }

    /// Ends a session.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn logout(&self, session: &Session) -> Result<(), CallError> {
        let message = LogoutRequest {
            request_id: self.ids.next(),
            session_token: session.token.clone(),
        };
        self.client.clone().logout(request(message)).await?;
        Ok(())
    }

    /// The consent texts in force.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn consent_texts(&self) -> Result<Vec<ConsentText>, CallError> {
        let message = ListConsentTextsRequest {
            request_id: self.ids.next(),
        };
        Ok(self
            .client
            .clone()
            .list_consent_texts(request(message))
            .await?
            .into_inner()
            .texts)
    }

    /// The Japanese text of a kind: what the requester is shown.
    ///
    /// # Errors
    /// A refusal, no answer, or no such text.
    pub async fn consent_text(&self, kind: RequestKind) -> Result<ConsentText, CallError> {
        let wanted = kind.to_proto();
        let texts = self.consent_texts().await?;
        texts
            .into_iter()
            .find(|text| text.kind() == wanted && text.language == "ja")
            .ok_or_else(|| CallError::NoAnswer {
                code: tonic::Code::NotFound,
                message: "there is no Japanese consent text of this kind".to_owned(),
            })
    }

    /// Records the consent to a text that was shown; its id.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn consent(
        &self,
        session: &Session,
        text: &ConsentText,
        term: Term,
    ) -> Result<String, CallError> {
        let granted = self.grant(session, text, term, Capacity::Self_).await?;
        Ok(granted.consent_id)
    }

    /// Records the consent to a text that was shown; all that comes back.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn grant(
        &self,
        session: &Session,
        text: &ConsentText,
        term: Term,
        capacity: Capacity,
    ) -> Result<GrantConsentResponse, CallError> {
        let term = match term {
            Term::OneTime => grant_consent_request::Term::OneTime(true),
            Term::For(time) => {
                grant_consent_request::Term::Until(self.ids.clock().now().after(time).to_proto())
            }
        };
        let message = GrantConsentRequest {
            request_id: self.ids.next(),
            session_token: session.token.clone(),
            kind: text.kind,
            text_sha256: text.text_sha256.clone(),
            term: Some(term),
            capacity: capacity.into(),
        };
        let granted = self.client.clone().grant_consent(request(message)).await?;
        Ok(granted.into_inner())
    }

    /// A page of the requester's consents.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn consents(
        &self,
        session: &Session,
        page_size: u32,
        page_token: &[u8],
    ) -> Result<ListConsentsResponse, CallError> {
        let message = ListConsentsRequest {
            request_id: self.ids.next(),
            session_token: session.token.clone(),
            page_size,
            page_token: page_token.to_vec(),
        };
        let page = self.client.clone().list_consents(request(message)).await?;
        Ok(page.into_inner())
    }

    /// The receipt of a consent, given again.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn receipt(&self, session: &Session, consent_id: &str) -> Result<Vec<u8>, CallError> {
        let message = GetConsentReceiptRequest {
            request_id: self.ids.next(),
            session_token: session.token.clone(),
            consent_id: consent_id.to_owned(),
        };
        let given = self.client.clone().get_consent_receipt(request(message)).await?;
        Ok(given.into_inner().receipt)
    }

    /// A page of what became of the requester's requests.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn own_records(
        &self,
        session: &Session,
        page_size: u32,
        page_token: &[u8],
    ) -> Result<ListProvisionRecordsResponse, CallError> {
        let message = ListProvisionRecordsRequest {
            request_id: self.ids.next(),
            session_token: session.token.clone(),
            page_size,
            page_token: page_token.to_vec(),
        };
        let page = self
            .client
            .clone()
            .list_provision_records(request(message))
            .await?;
        Ok(page.into_inner())
    }

    /// Withdraws a consent.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn withdraw(&self, session: &Session, consent_id: &str) -> Result<(), CallError> {
        let message = WithdrawConsentRequest {
            request_id: self.ids.next(),
            session_token: session.token.clone(),
            consent_id: consent_id.to_owned(),
        };
        self.client.clone().withdraw_consent(request(message)).await?;
        Ok(())
    }

    /// Asks for the requester's own copy information.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn copy_info(
        &self,
        session: &Session,
        kind: RequestKind,
        procedure: &str,
    ) -> Result<RequesterCopyInfo, CallError> {
        self.copy_info_as(&self.ids.next(), session, kind, procedure)
            .await
    }

    /// Asks under an id of the caller's choice.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn copy_info_as(
        &self,
        request_id: &str,
        session: &Session,
        kind: RequestKind,
        procedure: &str,
    ) -> Result<RequesterCopyInfo, CallError> {
        self.copy_info_in(Capacity::Self_, request_id, session, kind, procedure)
            .await
    }

    /// Asks under an id of the caller's choice, for whomever the person says.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn copy_info_in(
        &self,
        capacity: Capacity,
        request_id: &str,
        session: &Session,
        kind: RequestKind,
        procedure: &str,
    ) -> Result<RequesterCopyInfo, CallError> {
        let message = RequestCopyInfoRequest {
            request_id: request_id.to_owned(),
            session_token: session.token.clone(),
            kind: kind.to_proto().into(),
            procedure: procedure.to_owned(),
            capacity: capacity.into(),
        };
        let answer = self
            .client
            .clone()
            .request_copy_info(request(message))
            .await?
            .into_inner();
        Ok(answer.info.unwrap_or_default())
    }

    /// The state of provision, by kind.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn status(&self) -> Result<Vec<KindStatus>, CallError> {
        let message = GetStatusRequest {
            request_id: self.ids.next(),
        };
        Ok(self
            .client
            .clone()
            .get_status(request(message))
            .await?
            .into_inner()
            .kinds)
    }

    /// Waits until every kind is provided: the gateway looks at the registry side's state at intervals.
    ///
    /// # Errors
    /// When it takes too long; the last state or error is in it.
    pub async fn wait_until_providing(&self) -> Result<(), CallError> {
        self.wait_until_all(|state| state == ProvisionState::Providing)
            .await
    }

    /// Waits until every kind is decided about again: provided, or suspended by an operator.
    ///
    /// # Errors
    /// When it takes too long; the last state or error is in it.
    pub async fn wait_until_decided(&self) -> Result<(), CallError> {
        self.wait_until_all(|state| matches!(state, ProvisionState::Providing | ProvisionState::Suspended))
            .await
    }

    async fn wait_until_all(&self, good: impl Fn(ProvisionState) -> bool) -> Result<(), CallError> {
        let mut last = String::new();
        let providing = async {
            let mut looks = interval(LOOK_EVERY);
            loop {
                looks.tick().await;
                match self.status().await {
                    Ok(kinds) if kinds.iter().all(|kind| good(kind.state())) => return,
                    Ok(kinds) => {
                        last = format!("{:?}", kinds.iter().map(KindStatus::state).collect::<Vec<_>>())
                    }
                    Err(error) => last = error.to_string(),
                }
            }
        };
        timeout(DEADLINE, providing)
            .await
            .map_err(|_| CallError::NoAnswer {
                code: tonic::Code::DeadlineExceeded,
                message: format!("provision did not open: {last}"),
            })
    }
}
