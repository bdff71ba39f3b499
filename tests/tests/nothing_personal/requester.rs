//! A requester whose every secret the test knows: what the devkit's frontend keeps to itself as well.

use common::{identity::Role, login_text::LoginText, terms::RequestKind};
use data_encoding::{BASE64, HEXLOWER};
use devkit::{
    card::VirtualCard,
    client::{Access, CallError},
    deployment::{Deployment, FRONTEND},
    story::Cast,
};
use koseki_proto::portal::v1::{
    BeginLoginRequest, BeginLoginResponse, Capacity, CompleteLoginRequest, GetConsentReceiptRequest,
    GrantConsentRequest, LogoutRequest, RequestCopyInfoRequest, grant_consent_request,
    portal_client::PortalClient,
};
use portal_gateway::receipt::ReceiptKeys;
use tonic::{Response, Status, transport::Channel};

use crate::secrets::Secrets;

const KIND: RequestKind = RequestKind::CertificateRequest;

/// What was learned of secrets, and what came back with refusals.
pub(crate) struct Requester<'a> {
    cast: &'a Cast,
    client: PortalClient<Channel>,
    /// What nobody but the requester and their frontend has.
    pub(crate) secrets: Secrets,
    /// What the gateway keeps until a login has used it, and tells nobody else.
    pub(crate) kept_a_while: Secrets,
    /// Message, details and metadata of every refusal.
    pub(crate) refusals: Vec<Vec<u8>>,
}

impl<'a> Requester<'a> {
    pub(crate) fn new(cast: &'a Cast, access: &Access, portal: &str) -> Self {
        let channel = access.to_gateway(Role::PortalFrontend, FRONTEND, portal);
        Self {
            cast,
            client: PortalClient::new(channel.unwrap()),
            secrets: Secrets::default(),
            kept_a_while: Secrets::default(),
            refusals: Vec::new(),
        }
    }

    /// Does everything that a requester can, and is refused at every step first. The last word on the request.
    pub(crate) async fn play(&mut self, deployment: &Deployment, card: &VirtualCard) -> Option<String> {
        self.secrets.card(card);
        let token = self.login(card).await;
        self.secrets.bytes(&token);

        let asked = self.ask(&token).await;
        self.refused(asked, "CONSENT_REQUIRED");
        let asked = self.ask(&token[1..]).await;
        self.refused(asked, "MALFORMED");
        let consent_id = self.consent(deployment, &token).await;
        let asked = self.ask(&token).await;
        let outcome = asked.err().map(|status| self.keep(status));

        let mut other_token = token.clone();
        other_token[0] ^= 1;
        let receipt = GetConsentReceiptRequest {
            request_id: self.id(),
            session_token: other_token,
            consent_id,
        };
        let given = self.client.get_consent_receipt(receipt).await;
        self.refused(given, "SESSION_INVALID");
        let logout = LogoutRequest {
            request_id: self.id(),
            session_token: token.clone(),
        };
        self.client.logout(logout).await.unwrap();
        let asked = self.ask(&token).await;
        self.refused(asked, "SESSION_INVALID");
        outcome
    }

    /// Logs in, after a certificate that was tampered with and a signature of something else.
    async fn login(&mut self, card: &VirtualCard) -> Vec<u8> {
        let begun = self.begin().await;
        let mut tampered = card.certificate_der.clone();
        *tampered.last_mut().unwrap() ^= 1;
        let signature = card.sign(&begun.text).unwrap();
        let completed = self.complete(begun, tampered, signature).await;
        self.refused(completed, "CARD_NOT_ACCEPTED");
        let begun = self.begin().await;
        let signature = card.sign(b"something else").unwrap();
        let completed = self
            .complete(begun, card.certificate_der.clone(), signature)
            .await;
        self.refused(completed, "SIGNATURE_INVALID");

        let begun = self.begin().await;
        let signature = card.sign(&begun.text).unwrap();
        let completed = self
            .complete(begun, card.certificate_der.clone(), signature)
            .await;
        completed.unwrap().into_inner().session_token
    }

    async fn begin(&mut self) -> BeginLoginResponse {
        let begin = BeginLoginRequest {
            request_id: self.id(),
            web_origin: "https://portal.example".to_owned(),
        };
        let begun = self.client.begin_login(begin).await.unwrap().into_inner();
        self.kept_a_while.bytes(&begun.text);
        self.kept_a_while.bytes(&begun.challenge_id);
        let text = LoginText::parse(&begun.text).unwrap();
        self.kept_a_while.bytes(&text.nonce);
        begun
    }

    async fn complete(
        &mut self,
        begun: BeginLoginResponse,
        certificate: Vec<u8>,
        signature: Vec<u8>,
    ) -> Result<Response<koseki_proto::portal::v1::CompleteLoginResponse>, Status> {
        self.secrets.bytes(&signature);
        let complete = CompleteLoginRequest {
            request_id: self.id(),
            challenge_id: begun.challenge_id,
            certificate,
            signature,
        };
        self.client.complete_login(complete).await
    }

    async fn ask(
        &mut self,
        token: &[u8],
    ) -> Result<Response<koseki_proto::portal::v1::RequestCopyInfoResponse>, Status> {
        let ask = RequestCopyInfoRequest {
            request_id: self.id(),
            session_token: token.to_vec(),
            kind: KIND.to_proto().into(),
            procedure: String::new(),
            capacity: Capacity::Self_.into(),
        };
        self.client.request_copy_info(ask).await
    }

    /// Consents, after another text was named; the receipt is the requester's only.
    async fn consent(&mut self, deployment: &Deployment, token: &[u8]) -> String {
        let text = self.cast.frontend.consent_text(KIND).await.unwrap();
        let mut grant = GrantConsentRequest {
            request_id: self.id(),
            session_token: token.to_vec(),
            kind: text.kind,
            text_sha256: vec![0x5a; 32],
            term: Some(grant_consent_request::Term::OneTime(true)),
            capacity: Capacity::Self_.into(),
        };
        let granted = self.client.grant_consent(grant.clone()).await;
        self.refused(granted, "CONSENT_TEXT_UNKNOWN");
        grant.request_id = self.id();
        grant.text_sha256 = text.text_sha256;
        let granted = self.client.grant_consent(grant).await.unwrap().into_inner();
        let keys = ReceiptKeys::load(&deployment.consent_receipt_keys()).unwrap();
        let receipt = keys.verify(&granted.receipt).unwrap();
        let principal = HEXLOWER.decode(receipt.pii_principal_id.as_bytes()).unwrap();
        self.secrets.bytes(&principal);
        let envelope: serde_json::Value = serde_json::from_slice(&granted.receipt).unwrap();
        let signature = envelope["signatures"][0]["sig"].as_str().unwrap();
        self.secrets.bytes(&BASE64.decode(signature.as_bytes()).unwrap());
        granted.consent_id
    }

    fn id(&self) -> String {
        self.cast.frontend.ids().next()
    }

    fn refused<T>(&mut self, came: Result<Response<T>, Status>, reason: &str) {
        let Err(status) = came else {
            panic!("not refused with {reason}")
        };
        assert_eq!(self.keep(status), reason);
    }

    /// Keeps all of a refusal; its reason.
    fn keep(&mut self, status: Status) -> String {
        let CallError::Refused(refused) = CallError::from(status) else {
            panic!("no answer")
        };
        self.refusals.push(refused.wire);
        refused.reason
    }
}
