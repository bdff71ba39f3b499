//! Login with the user-authentication certificate of the My Number Card (clause 4.3.2): the requester's card signs a text
//! that holds everything that the login is for.

use std::{sync::Arc, time::Duration};

use common::{
    card::CardFault,
    cards::Cards,
    clock::{Clock, Timestamp},
    digest,
    identity::{PeerIdentity, TrustDomain},
    login_text::{LoginText, WebOrigin},
    policy::Policies,
    refusal::{Reason, Refusal},
    terms::RuleBroken,
};
use koseki_proto::koseki::linkage::v1::LoginProof;

use crate::{
    call::PortalCall,
    challenges::Challenges,
    login_limits::LoginLimits,
    metrics::{GatewayMetrics, LoginFailure},
    openings::Openings,
    providers::Providers,
    store::{Challenge, NewSession, NotOpened, Opens, RequesterOpening},
};

/// Logins and sessions.
pub struct Login {
    /// Keeps challenges.
    pub challenges: Challenges,
    /// Records logins.
    pub openings: Arc<Openings>,
    /// Roots and revocation lists.
    pub cards: Arc<Cards>,
    /// Where beacons come from: any instance of the registry side makes those of the whole side.
    pub providers: Arc<Providers>,
    /// Bounds.
    pub policies: Arc<Policies>,
    /// What one frontend may begin and get wrong.
    pub limits: LoginLimits,
    /// What is counted.
    pub metrics: GatewayMetrics,
    /// The trust domain that stands in the text.
    pub trust_domain: TrustDomain,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// What to sign.
pub struct Begun {
    /// Names the challenge.
    pub id: [u8; 16],
    /// The text.
    pub text: Vec<u8>,
    /// Until when it can be used.
    pub expires_at: Timestamp,
}

/// An opened session. The token leaves once and is stored as its hash.
pub struct Session {
    /// The secret token.
    pub token: [u8; 32],
    /// When it ends at the latest.
    pub expires_at: Timestamp,
}

impl Login {
    /// Makes a challenge.
    pub async fn begin(&self, frontend: &PeerIdentity, web_origin: &str) -> Result<Begun, Refusal> {
        let web_origin =
            WebOrigin::parse(web_origin).map_err(|rule| Refusal::malformed("web_origin", rule))?;
        let window = Duration::from_secs(self.policies.current().login.challenge_seconds);
        let now = self.clock.monotonic();
        if !self.limits.begin_challenge(frontend.name(), now, window) {
            return Err(Reason::Overloaded.into());
        }
        // Nobody shows a card that could not be told from a revoked one (I4).
        if !self.cards.can_tell() {
            return Err(Reason::Unavailable.into());
        }
        // Without the provider's beacon the age of a login could not be bounded by the provider's clock.
        let beacon = self.providers.state().ok_or(Reason::Unavailable)?.beacon;
        let id: [u8; 16] = digest::random().map_err(|_| Reason::Unavailable)?;
        let nonce: [u8; 32] = digest::random().map_err(|_| Reason::Unavailable)?;
        let now = self.clock.now();
        let expires_at = now.after(window);
        let text = LoginText {
            trust_domain: self.trust_domain.clone(),
            frontend: frontend.name().to_owned(),
            web_origin,
            nonce,
            beacon,
            issued_at: now,
            expires_at,
        }
        .to_bytes();
        let challenge = Challenge {
            id,
            frontend: frontend.name().to_owned(),
            text: text.clone(),
            expires_at,
        };
        self.challenges.keep(frontend, challenge).await?;
        Ok(Begun { id, text, expires_at })
    }

    /// Completes a login, unless too many of the frontend's have failed lately: then nothing is looked at, and the challenge
    /// can still be used. Failures are counted.
    pub async fn complete(
        &self,
        call: PortalCall,
        challenge_id: &[u8],
        certificate: &[u8],
        signature: &[u8],
    ) -> Result<Session, Refusal> {
        let frontend = call.frontend.clone();
        let name = frontend.name();
        let Some(one) = self.limits.begin_try(name, self.clock.monotonic()) else {
            return Err(self.failed(Reason::Overloaded.into()).0);
        };
        let session = self
            .check_and_open(call, challenge_id, certificate, signature)
            .await
            .map_err(|refusal| self.failed(refusal));
        match session {
            Err((refusal, true)) => Err(refusal),
            Ok(_) | Err((_, false)) => {
                self.limits.give_back(name, self.clock.monotonic(), one);
                session.map_err(|(refusal, _)| refusal)
            }
        }
    }

    /// Counts a failure; whether it counts against the frontend.
    fn failed(&self, refusal: Refusal) -> (Refusal, bool) {
        let failure = LoginFailure::of(refusal.reason());
        if let Some(failure) = failure {
            self.metrics.login_failures.add(failure, 1);
        }
        let counts = failure.is_some_and(LoginFailure::counts_against_frontend);
        (refusal, counts)
    }

    /// Checks the card's signature over the challenge's text and opens a session. The challenge is used up first,
    /// whatever comes of it.
    async fn check_and_open(
        &self,
        call: PortalCall,
        challenge_id: &[u8],
        certificate: &[u8],
        signature: &[u8],
    ) -> Result<Session, Refusal> {
        let text = self
            .challenges
            .take(&call.frontend, challenge_id)
            .await?
            .ok_or(Reason::ChallengeInvalid)?;
        let (frontend, request_id) = (call.frontend.clone(), call.request_id);
        let not_accepted = |fault: CardFault| {
            tracing::info!(%frontend, %request_id, %fault, "a card was not accepted");
            Reason::from(fault)
        };
        let card = self.cards.read(certificate).map_err(not_accepted)?;
        // Whether a certificate is revoked is told only to who has its key.
        if !card.has_signed(&text, signature) {
            return Err(Reason::SignatureInvalid.into());
        }
        let proof = LoginProof {
            certificate: certificate.to_vec(),
            text,
            signature: signature.to_vec(),
        };
        let token: [u8; 32] = digest::random().map_err(|_| Reason::Unavailable)?;
        let now = self.clock.now();
        let opening = RequesterOpening {
            opens: Opens::Session(Box::new(NewSession { card, proof })),
            token_sha256: digest::sha256(&[&token]),
            call,
        };
        self.openings
            .open(opening)
            .await
            .map_err(|not_opened| match not_opened {
                NotOpened::Card(fault) => not_accepted(fault),
                other => other.into(),
            })?;
        Ok(Session {
            token,
            expires_at: now.after(Duration::from_secs(self.policies.current().login.session_seconds)),
        })
    }
}

/// The hash under which a session is stored.
pub fn token_sha256(token: &[u8]) -> Result<[u8; 32], Refusal> {
    if token.len() == 32 {
        Ok(digest::sha256(&[token]))
    } else {
        Err(Refusal::malformed("session_token", RuleBroken("32 bytes")))
    }
}
