//! What must hold before a batch is looked at: that it is the gateway's own word, for this provider, under the same
//! policy, and fresh (DESIGN §5).

use common::{
    clock::Timestamp,
    eligibility::{Verified, Verifier},
    identity::PeerIdentity,
    policy::{Policies, Policy},
    refusal::{Reason, Refusal},
    terms::{LinkageCode, Procedure, RequestId, RequestKind, RuleBroken},
};
use koseki_proto::koseki::linkage::v1::{EligibilityItem, ProvideCopyInfoRequest, ProvideItem};

use super::release::{Call, Item};
use crate::store::Sequence;

/// Items of a batch at most.
const MAX_ITEMS: usize = 256;

/// What batches are checked against.
pub(super) struct Admission<'a> {
    pub verifier: &'a Verifier,
    pub policies: &'a Policies,
    pub log: &'a str,
    pub now: Timestamp,
}

impl Admission<'_> {
    /// Admits a batch, or refuses it as a whole.
    pub(super) fn admit(
        &self,
        peer: &PeerIdentity,
        request: &ProvideCopyInfoRequest,
    ) -> Result<Call, Refusal> {
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
        let items = request.items.iter().zip(eligibility.items);
        Ok(Call {
            peer: peer.clone(),
            sequence: Sequence {
                gateway: peer.name().to_owned(),
                number: sequence,
            },
            eligibility_sha256: sha256,
            items: items
                .map(|(item, eligible)| admission.item(item, eligible))
                .collect::<Result<_, _>>()?,
            policy,
        })
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

    fn item(&self, item: &ProvideItem, eligible: EligibilityItem) -> Result<Item, Refusal> {
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
        let consent_id = self.vouched(&eligible, kind)?;
        Ok(Item {
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
            cover: eligible.cover,
            consent_id,
        })
    }

    /// What the gateway vouches for (clauses 4.3.1, 4.3.2): a login that is not too old, and a consent to a text in force
    /// for this kind that has not expired. A cover item vouches for nothing, and nothing is provided for it.
    fn vouched(&self, eligible: &EligibilityItem, kind: RequestKind) -> Result<String, Refusal> {
        if eligible.cover {
            return Ok(String::new());
        }
        let refused = || Refusal::from(Reason::EligibilityRefused);
        let moment = |value: &Option<_>| value.as_ref().and_then(Timestamp::from_proto);
        let latest = self.now.after(self.policy.exchange.max_clock_skew());
        let login_ends = std::time::Duration::from_secs(self.policy.login.session_seconds)
            + self.policy.exchange.eligibility_age();
        let logged_in_at = moment(&eligible.logged_in_at).ok_or_else(refused)?;
        if logged_in_at > latest
            || self.now > logged_in_at.after(login_ends)
            || eligible.session_sha256.len() != 32
        {
            return Err(refused());
        }
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
        common::terms::ActId::parse(&consent.consent_id)
            .map(|id| id.to_string())
            .map_err(|_| refused())
    }
}
