//! What must hold before a batch is looked at: that it is the gateway's own word, for this provider, under the same
//! policy, and fresh (DESIGN §5).

use common::{
    clock::Timestamp,
    eligibility::{Verified, Verifier},
    identity::PeerIdentity,
    policy::{Policies, Policy, Provision},
    refusal::{Reason, Refusal},
    terms::{LinkageCode, LinkageHandle, Procedure, RequestId, RequestKind, RuleBroken},
};
use koseki_proto::koseki::linkage::v1::{EligibilityItem, ProvideCopyInfoRequest, ProvideItem};

use super::{
    login::{Claim, Login, Logins, NeedProof},
    release::{Call, Item},
};
use crate::store::Sequence;

/// Items of a batch at most.
const MAX_ITEMS: usize = 256;

/// What batches are checked against.
pub(super) struct Admission<'a> {
    pub verifier: &'a Verifier,
    pub policies: &'a Policies,
    pub logins: &'a Logins,
    pub log: &'a str,
    pub now: Timestamp,
}

/// What becomes of a batch that is not refused.
pub(super) enum Admitted {
    /// It goes on to the release transaction.
    Call(Call),
    /// It has to come again with the login proofs. Nothing of it was used up.
    NeedProof,
}

impl Admission<'_> {
    /// Admits a batch, or refuses it as a whole.
    pub(super) async fn admit(
        &self,
        peer: &PeerIdentity,
        request: &ProvideCopyInfoRequest,
    ) -> Result<Admitted, Refusal> {
        let envelope = request
            .eligibility
            .as_ref()
            .ok_or(Refusal::malformed("eligibility", RuleBroken("required")))?;
        let Verified { eligibility, sha256 } = self
            .verifier
            .verify(envelope, peer.name())
            .ok_or(Reason::EligibilityRefused)?;
        if eligibility.provider_log != self.log {
            return Err(Reason::EligibilityRefused.into());
        }
        // The batch is decided under the policy that it was signed under: both sides hold the same one to it.
        let skew = self.policies.current().exchange.max_clock_skew();
        let policy = self
            .policies
            .named(&eligibility.policy_sha256, self.now, skew)
            .ok_or(Reason::PolicyMismatch)?;
        let admission = Under {
            policy: &policy,
            now: self.now,
        };
        admission.check_time(eligibility.signed_at.as_ref().and_then(Timestamp::from_proto))?;
        let sequence = eligibility.sequence;
        if sequence == 0 || i64::try_from(sequence).is_err() {
            return Err(Refusal::malformed(
                "eligibility.sequence",
                RuleBroken("1 to 2^63 - 1"),
            ));
        }
        if !(1..=MAX_ITEMS).contains(&request.items.len()) || request.items.len() != eligibility.items.len() {
            return Err(Refusal::malformed(
                "items",
                RuleBroken("1 to 256, as many as in the eligibility"),
            ));
        }
        let mut items = Vec::with_capacity(request.items.len());
        let mut claims = Vec::with_capacity(request.items.len());
        for (item, eligible) in request.items.iter().zip(eligibility.items) {
            let (parsed, claim) = admission.item(item, eligible)?;
            items.push(parsed);
            claims.push((claim, item.login_proof.as_ref()));
        }
        let logins = match self.logins.prove(claims, &policy, self.now).await {
            Ok(logins) => logins,
            Err(NeedProof) => return Ok(Admitted::NeedProof),
        };
        Ok(Admitted::Call(Call {
            peer: peer.clone(),
            sequence: Sequence {
                gateway: peer.name().to_owned(),
                number: sequence,
            },
            eligibility_sha256: sha256,
            items: items
                .into_iter()
                .zip(logins)
                .map(|(item, login)| item.logged_in(login))
                .collect(),
            policy,
        }))
    }
}

/// An item whose login is still to be looked at.
struct Parsed {
    request_id: RequestId,
    kind: RequestKind,
    procedure: Procedure,
    handle: LinkageHandle,
    provision: Provision,
    consent_id: String,
}

impl Parsed {
    fn logged_in(self, login: Login) -> Item {
        Item {
            request_id: self.request_id,
            kind: self.kind,
            procedure: self.procedure,
            handle: self.handle,
            provision: self.provision,
            consent_id: self.consent_id,
            login,
        }
    }
}

/// What a batch is checked against, under the policy that it names.
struct Under<'a> {
    policy: &'a Policy,
    now: Timestamp,
}

impl Under<'_> {
    fn check_time(&self, signed_at: Option<Timestamp>) -> Result<(), Refusal> {
        let signed_at = signed_at.ok_or(Refusal::malformed(
            "eligibility.signed_at",
            RuleBroken("a valid timestamp"),
        ))?;
        if signed_at > self.now.after(self.policy.exchange.max_clock_skew()) {
            return Err(Reason::ClockSkew.into());
        }
        if self.now > signed_at.after(self.policy.exchange.eligibility_age()) {
            return Err(Reason::EligibilityRefused.into());
        }
        Ok(())
    }

    /// The item, and what is claimed about its login.
    fn item(
        &self,
        item: &ProvideItem,
        eligible: EligibilityItem,
    ) -> Result<(Parsed, Option<Claim>), Refusal> {
        let at = |field: &'static str| move |rule| Refusal::malformed(field, rule);
        if item.request_id != eligible.request_id {
            return Err(at("items.request_id")(RuleBroken(
                "that of the eligibility's item at the same place",
            )));
        }
        let code = LinkageCode::parse(&item.linkage_code).map_err(at("items.linkage_code"))?;
        let handle = code.handle();
        if eligible.linkage_handle != handle.expose() {
            return Err(Reason::EligibilityRefused.into());
        }
        let kind = RequestKind::parse(eligible.kind).map_err(at("eligibility.items.kind"))?;
        let procedure = Procedure::parse(&eligible.procedure).map_err(at("eligibility.items.procedure"))?;
        let provision = self.policy.provision(kind, &procedure).ok_or_else(|| {
            at("eligibility.items.procedure")(RuleBroken("one that the policy has for the kind"))
        })?;
        let (consent_id, claim) = match self.vouched(&eligible, kind)? {
            Some((consent_id, claim)) => (consent_id, Some(claim)),
            None => (String::new(), None),
        };
        let parsed = Parsed {
            request_id: RequestId::parse_forwarded(
                &eligible.request_id,
                self.now,
                self.policy.exchange.eligibility_age(),
            )
            .map_err(at("items.request_id"))?,
            kind,
            procedure,
            handle,
            provision: provision.clone(),
            consent_id,
        };
        Ok((parsed, claim))
    }

    /// What the gateway vouches for (clauses 4.3.1, 4.3.2): a login that is not too old, and a consent to a text in force
    /// for this kind that has not expired. A cover item vouches for nothing, and nothing is provided for it.
    fn vouched(
        &self,
        eligible: &EligibilityItem,
        kind: RequestKind,
    ) -> Result<Option<(String, Claim)>, Refusal> {
        if eligible.cover {
            return Ok(None);
        }
        let refused = || Refusal::from(Reason::EligibilityRefused);
        let moment = |value: &Option<_>| value.as_ref().and_then(Timestamp::from_proto);
        let latest = self.now.after(self.policy.exchange.max_clock_skew());
        let login_ends = std::time::Duration::from_secs(self.policy.login.session_seconds)
            + self.policy.exchange.eligibility_age();
        let logged_in_at = moment(&eligible.logged_in_at).ok_or_else(refused)?;
        if logged_in_at > latest || self.now > logged_in_at.after(login_ends) {
            return Err(refused());
        }
        let hash = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map_err(|_| refused());
        let claim = Claim {
            proof_sha256: hash(&eligible.login_proof_sha256)?,
            session_sha256: hash(&eligible.session_sha256)?,
            logged_in_at,
        };
        let consent = eligible.consent.as_ref().ok_or_else(refused)?;
        let given_at = moment(&consent.given_at).ok_or_else(refused)?;
        let expires_at = moment(&consent.expires_at).ok_or_else(refused)?;
        let text_in_force = self
            .policy
            .text_hashes(kind)
            .any(|hash| hash.as_slice() == consent.text_sha256);
        if !text_in_force
            || given_at > latest
            || self.now > expires_at.after(self.policy.exchange.eligibility_age())
        {
            return Err(refused());
        }
        let consent_id = common::terms::ActId::parse(&consent.consent_id).map_err(|_| refused())?;
        Ok(Some((consent_id.to_string(), claim)))
    }
}
