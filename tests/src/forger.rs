//! A gateway's certificate and keys in other hands: what it says to the registry side is what a test wants it to say.

use std::{sync::Arc, time::Duration};

use common::{
    clock::{Clock, Timestamp},
    eligibility::Signer,
    identity::{Role, TrustDomain},
    login_proof,
    login_text::{LoginText, WebOrigin},
    policy::Policy,
    terms::{ActId, LinkageCode, RequestKind},
    tls::{Connector, TlsMaterial},
};
use data_encoding::HEXLOWER;
use devkit::{
    card::VirtualCard,
    client::Ids,
    deployment::{Deployment, FRONTEND, TRUST_DOMAIN},
};
use koseki_proto::koseki::linkage::v1::{
    ConsentRef, Eligibility, EligibilityItem, GetLinkageStatusRequest, ItemResult, LoginProof,
    ProvideCopyInfoRequest, ProvideItem, item_result::Outcome, linkage_client::LinkageClient,
};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

/// The kind that is asked for.
pub const KIND: RequestKind = RequestKind::CertificateRequest;

/// Someone with a gateway's files.
pub struct Forger {
    /// The connection to the registry side.
    pub client: LinkageClient<Channel>,
    /// Signs eligibilities.
    pub signer: Signer,
    /// The policy in force.
    pub policy: Policy,
    clock: Arc<dyn Clock>,
    ids: Ids,
    deployment: Deployment,
    sequence: u64,
}

/// A login as a gateway has it.
#[derive(Clone)]
pub struct Login {
    /// What shows it.
    pub proof: LoginProof,
    /// SHA-256 of the session's token.
    pub session_sha256: [u8; 32],
    /// When the session began.
    pub at: Timestamp,
}

/// A request as it goes over the line: what is vouched for, and what is sent beside it.
#[derive(Clone)]
pub struct Line {
    /// What is signed.
    pub eligible: EligibilityItem,
    /// What is not.
    pub item: ProvideItem,
}

impl Line {
    /// Takes another proof, and vouches for it.
    pub fn prove(&mut self, proof: LoginProof) {
        self.eligible.login_proof_sha256 = login_proof::sha256(&proof).to_vec();
        self.item.login_proof = Some(proof);
    }
}

impl Forger {
    /// With the files of the deployment's gateway, at the registry side's linkage listener.
    pub fn new(deployment: &Deployment, provider: &str, clock: Arc<dyn Clock>) -> Self {
        Self::at_instance(deployment, provider, &deployment.provider_instance(), clock)
    }

    /// The same, at another provider instance than the deployment's.
    pub fn at_instance(
        deployment: &Deployment,
        provider: &str,
        instance: &str,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let config: portal_gateway::config::Config =
            common::config::load(&deployment.gateway_config()).unwrap();
        let connector = Connector::new(
            &TlsMaterial::load(&config.tls).unwrap(),
            &TrustDomain::parse(TRUST_DOMAIN).unwrap(),
            provider,
            Role::KosekiProvider,
            instance,
            clock.clone(),
        );
        Self {
            client: LinkageClient::new(connector.unwrap().channel()),
            signer: Signer::load(&config.eligibility.private_key, &config.eligibility.key_id).unwrap(),
            policy: Policy::load(&config.policy_file).unwrap(),
            ids: Ids::new(clock.clone()),
            clock,
            deployment: deployment.clone(),
            // Above whatever the real gateway has used.
            sequence: 1_000_000,
        }
    }

    /// The code that a card's linkage has in the data set.
    pub fn code(&self, card: &VirtualCard) -> LinkageCode {
        let key = HEXLOWER.encode(&card.public_key_sha256);
        let linkages = std::fs::read_to_string(self.deployment.linkages()).unwrap();
        let line = linkages.lines().find(|line| line.contains(&key)).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        LinkageCode::parse_text(line["linkage_code"].as_str().unwrap()).unwrap()
    }

    /// The text that a login of this moment has.
    pub async fn login_text(&self) -> LoginText {
        let request = GetLinkageStatusRequest::default();
        let status = self.client.clone().get_linkage_status(request).await.unwrap();
        let now = self.clock.now();
        LoginText {
            trust_domain: TrustDomain::parse(TRUST_DOMAIN).unwrap(),
            frontend: FRONTEND.to_owned(),
            web_origin: WebOrigin::parse("https://portal.example").unwrap(),
            nonce: common::digest::random().unwrap(),
            beacon: status.into_inner().beacon.try_into().unwrap(),
            issued_at: now,
            expires_at: now.after(Duration::from_secs(120)),
        }
    }

    /// A login of this moment.
    pub async fn login(&self, card: &VirtualCard) -> Login {
        Login {
            proof: proof(card, &self.login_text().await.to_bytes()),
            session_sha256: common::digest::random().unwrap(),
            at: self.clock.now(),
        }
    }

    /// A request with everything in order, and with the proof.
    pub fn honest(&self, code: &LinkageCode, login: &Login) -> Line {
        let now = self.clock.now();
        let request_id = self.ids.next();
        let eligible = EligibilityItem {
            request_id: request_id.clone(),
            kind: KIND.to_proto().into(),
            procedure: String::new(),
            linkage_handle: code.handle().expose().to_vec(),
            session_sha256: login.session_sha256.to_vec(),
            logged_in_at: Some(login.at.to_proto()),
            consent: Some(ConsentRef {
                consent_id: ActId::random().unwrap().to_string(),
                text_sha256: self.policy.text_hashes(KIND).next().unwrap().to_vec(),
                given_at: Some(now.to_proto()),
                expires_at: Some(now.after(Duration::from_secs(600)).to_proto()),
            }),
            cover: false,
            login_proof_sha256: Vec::new(),
        };
        let item = ProvideItem {
            request_id,
            linkage_code: code.expose().to_vec(),
            login_proof: None,
        };
        let mut line = Line { eligible, item };
        line.prove(login.proof.clone());
        line
    }

    /// A cover item.
    pub fn cover(&self) -> Line {
        let code = LinkageCode::random().unwrap();
        let request_id = self.ids.next();
        Line {
            eligible: EligibilityItem {
                request_id: request_id.clone(),
                kind: KIND.to_proto().into(),
                linkage_handle: code.handle().expose().to_vec(),
                cover: true,
                ..EligibilityItem::default()
            },
            item: ProvideItem {
                request_id,
                linkage_code: code.expose().to_vec(),
                login_proof: None,
            },
        }
    }

    /// The word for these, with a sequence number of its own.
    pub fn eligibility(&mut self, lines: &[Line]) -> Eligibility {
        self.sequence += 1;
        Eligibility {
            gateway_instance: self.deployment.gateway_instance(),
            provider_log: self.deployment.provider_instance(),
            sequence: self.sequence,
            policy_sha256: self.policy.sha256.to_vec(),
            signed_at: Some(self.clock.now().to_proto()),
            items: lines.iter().map(|line| line.eligible.clone()).collect(),
        }
    }

    /// The call's message.
    pub fn request(&self, eligibility: &Eligibility, lines: &[Line]) -> ProvideCopyInfoRequest {
        ProvideCopyInfoRequest {
            eligibility: Some(self.signer.sign(eligibility).0),
            items: lines.iter().map(|line| line.item.clone()).collect(),
        }
    }

    /// Sends a batch: what came back for each, as a name.
    pub async fn ask(&mut self, lines: &[Line]) -> Result<Vec<String>, String> {
        let eligibility = self.eligibility(lines);
        self.send(self.request(&eligibility, lines)).await
    }

    /// Sends a message: what came back for each, as a name.
    pub async fn send(&self, request: ProvideCopyInfoRequest) -> Result<Vec<String>, String> {
        let response = self
            .client
            .clone()
            .provide_copy_info(request)
            .await
            .map_err(reason)?;
        Ok(response.into_inner().results.iter().map(outcome).collect())
    }
}

/// A proof of a login with this text.
pub fn proof(card: &VirtualCard, text: &[u8]) -> LoginProof {
    LoginProof {
        certificate: card.certificate_der.clone(),
        text: text.to_vec(),
        signature: card.sign(text).unwrap(),
    }
}

/// `PROVIDED`, `NOT_PROVIDED`, or why it was not looked up.
fn outcome(result: &ItemResult) -> String {
    match result.outcome.as_ref().unwrap() {
        Outcome::Provided(_) => "PROVIDED".to_owned(),
        Outcome::NotProvided(_) => "NOT_PROVIDED".to_owned(),
        Outcome::NotLookedUp(refused) => {
            let name = refused.reason().as_str_name();
            name.strip_prefix("NOT_LOOKED_UP_REASON_").unwrap().to_owned()
        }
    }
}

/// The stable reason of a refused call, or its code.
fn reason(status: Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_else(|| format!("{:?}", status.code()))
}
