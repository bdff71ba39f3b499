//! Why a call is refused, and the one place where that becomes a gRPC status.
//!
//! A refusal carries nothing personal and nothing internal: a stable reason, the call's id, and for malformed input the
//! field and its rule, never the value.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    language::Language,
    terms::{RequestId, RuleBroken},
};

/// Domain of `google.rpc.ErrorInfo` in every refusal.
pub const ERROR_DOMAIN: &str = "koseki-provision";

/// Why a call is refused. The names in `google.rpc.ErrorInfo.reason` are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A field breaks its rule.
    Malformed,
    /// The certificate names nobody, or is no longer valid.
    IdentityInvalid,
    /// The caller's role may not call this method.
    PermissionDenied,
    /// Too much is asked at the moment.
    Overloaded,
    /// Not decided in time, or something that is needed is missing or out of date.
    Unavailable,
    /// Provision of the kind is suspended.
    ProvisionSuspended,
    /// The request id was used before.
    RequestIdUsed,
    /// No such session, or it has ended.
    SessionInvalid,
    /// No such login challenge, or it was used or has expired.
    ChallengeInvalid,
    /// The card's certificate has expired.
    CardExpired,
    /// The card's certificate is revoked.
    CardRevoked,
    /// The certificate is not a user-authentication certificate that the policy accepts.
    CardNotAccepted,
    /// The signature is not that of the certificate's key over the challenge's text.
    SignatureInvalid,
    /// The text is not one in force for the kind.
    ConsentTextUnknown,
    /// The requester has no such consent.
    ConsentUnknown,
    /// The requester has as many consents to the kind as can hold at the same time.
    TooManyConsents,
    /// The requester has not consented to this kind and the text in force.
    ConsentRequired,
    /// Somebody acts for the requester, or the requester cannot consent alone: out of scope (clause 2.4).
    RepresentedNotSupported,
    /// The register refusal: one for every cause in linkage, register and suppression (I6).
    NotProvided,
    /// The eligibility is not signed by this peer, not for this provider, or not fresh.
    EligibilityRefused,
    /// The two sides hold different provision policies.
    PolicyMismatch,
    /// The two sides' clocks differ by more than the policy allows.
    ClockSkew,
    /// The eligibility's sequence number was used before.
    SequenceUsed,
    /// What the request refers to is not stored.
    UnknownReference,
    /// The act's id was used for another act.
    ActIdUsed,
    /// Another person than the first has to do it.
    AnotherPersonNeeded,
    /// What is stored is not in the state that the act is for.
    NotApplicable,
    /// The municipality may not write for this register.
    NotOwnRegister,
}

/// Who can do something about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhoActs {
    /// Who wrote or runs the calling program.
    Caller,
    /// The requester, at the portal.
    Requester,
    /// The operators of the two sides.
    Operators,
}

/// Whether the same can be asked for again, as a new request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It would be refused again.
    Never,
    /// After this long, which `google.rpc.RetryInfo` says as well.
    After(Duration),
    /// When the requester has logged in again.
    AfterLogin,
    /// When the requester has consented to the text in force.
    AfterConsent,
}

/// What a reason says to the outside.
struct Public {
    code: Code,
    name: &'static str,
    who_acts: WhoActs,
    retry: Retry,
    english: &'static str,
    japanese: &'static str,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 28] = [
        Self::Malformed,
        Self::IdentityInvalid,
        Self::PermissionDenied,
        Self::Overloaded,
        Self::Unavailable,
        Self::ProvisionSuspended,
        Self::RequestIdUsed,
        Self::SessionInvalid,
        Self::ChallengeInvalid,
        Self::CardExpired,
        Self::CardRevoked,
        Self::CardNotAccepted,
        Self::SignatureInvalid,
        Self::ConsentTextUnknown,
        Self::ConsentUnknown,
        Self::TooManyConsents,
        Self::ConsentRequired,
        Self::RepresentedNotSupported,
        Self::NotProvided,
        Self::EligibilityRefused,
        Self::PolicyMismatch,
        Self::ClockSkew,
        Self::SequenceUsed,
        Self::UnknownReference,
        Self::ActIdUsed,
        Self::AnotherPersonNeeded,
        Self::NotApplicable,
        Self::NotOwnRegister,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        self.public().name
    }

    /// gRPC's code.
    pub fn code(self) -> Code {
        self.public().code
    }

    /// Who can do something about it.
    pub fn who_acts(self) -> WhoActs {
        self.public().who_acts
    }

    /// Whether the same can be asked for again.
    pub fn retry(self) -> Retry {
        self.public().retry
    }

    /// What the requester or operator is told.
    pub fn text(self, language: Language) -> &'static str {
        match language {
            Language::Japanese => self.public().japanese,
            Language::English => self.public().english,
        }
    }

    fn public(self) -> Public {
        use Retry::{AfterConsent, AfterLogin, Never};
        use WhoActs::{Caller, Operators, Requester};

        /// What passes by itself.
        const SOON: Retry = Retry::After(Duration::from_secs(1));
        /// What two persons have to open again.
        const LATER: Retry = Retry::After(Duration::from_secs(60));

        let public = |code, name, (who_acts, retry), english, japanese| Public {
            code,
            name,
            who_acts,
            retry,
            english,
            japanese,
        };
        match self {
            Self::Malformed => public(
                Code::InvalidArgument,
                "MALFORMED",
                (Caller, Never),
                "a field breaks its rule",
                "項目の値が規則に合いません。",
            ),
            Self::IdentityInvalid => public(
                Code::Unauthenticated,
                "IDENTITY_INVALID",
                (Operators, Never),
                "the client certificate names nobody of this deployment or is not valid now",
                "クライアント証明書では接続元を確認できません。",
            ),
            Self::PermissionDenied => public(
                Code::PermissionDenied,
                "PERMISSION_DENIED",
                (Caller, Never),
                "this identity may not call this method",
                "この呼出しは許可されていません。",
            ),
            Self::Overloaded => public(
                Code::ResourceExhausted,
                "OVERLOADED",
                (Caller, SOON),
                "too much is asked at the moment; try again after the given time",
                "ただいま混み合っています。しばらくしてからやり直してください。",
            ),
            Self::Unavailable => public(
                Code::Unavailable,
                "UNAVAILABLE",
                (Operators, SOON),
                "the request could not be decided; try again after the given time",
                "ただいま処理できません。しばらくしてからやり直してください。",
            ),
            Self::ProvisionSuspended => public(
                Code::Unavailable,
                "PROVISION_SUSPENDED",
                (Operators, LATER),
                "provision is suspended",
                "ただいま情報の提供を停止しています。",
            ),
            Self::RequestIdUsed => public(
                Code::AlreadyExists,
                "REQUEST_ID_USED",
                (Caller, Never),
                "the request id was used before; a retry is a new request",
                "この要求番号は既に使われています。",
            ),
            Self::SessionInvalid => public(
                Code::Unauthenticated,
                "SESSION_INVALID",
                (Requester, AfterLogin),
                "there is no such session; log in again",
                "ログインしていないか、ログインの有効期間が過ぎました。",
            ),
            Self::ChallengeInvalid => public(
                Code::Unauthenticated,
                "CHALLENGE_INVALID",
                (Requester, AfterLogin),
                "the login challenge is unknown, used or expired; begin again",
                "ログインの手続が期限切れです。初めからやり直してください。",
            ),
            Self::CardExpired => public(
                Code::Unauthenticated,
                "CARD_EXPIRED",
                (Requester, Never),
                "the card's certificate has expired",
                "利用者証明用電子証明書の有効期間が過ぎています。",
            ),
            Self::CardRevoked => public(
                Code::Unauthenticated,
                "CARD_REVOKED",
                (Requester, Never),
                "the card's certificate is revoked",
                "利用者証明用電子証明書は失効しています。",
            ),
            Self::CardNotAccepted => public(
                Code::Unauthenticated,
                "CARD_NOT_ACCEPTED",
                (Requester, Never),
                "the certificate is not an accepted user-authentication certificate",
                "マイナンバーカードの利用者証明用電子証明書ではありません。",
            ),
            Self::SignatureInvalid => public(
                Code::Unauthenticated,
                "SIGNATURE_INVALID",
                (Caller, AfterLogin),
                "the signature does not verify over the challenge's text",
                "カードの署名を確認できません。",
            ),
            Self::ConsentTextUnknown => public(
                Code::FailedPrecondition,
                "CONSENT_TEXT_UNKNOWN",
                (Caller, AfterConsent),
                "the text is not in force for this kind of request; list the texts again",
                "同意の文面が改められています。現在の文面を示してください。",
            ),
            Self::ConsentUnknown => public(
                Code::NotFound,
                "CONSENT_UNKNOWN",
                (Caller, Never),
                "the requester has no such consent",
                "該当する同意がありません。",
            ),
            Self::TooManyConsents => public(
                Code::FailedPrecondition,
                "TOO_MANY_CONSENTS",
                (Requester, Never),
                "the requester has as many consents to this kind as can hold at a time; withdraw one",
                "この請求等への同意が上限に達しています。不要な同意を撤回してください。",
            ),
            Self::ConsentRequired => public(
                Code::FailedPrecondition,
                "CONSENT_REQUIRED",
                (Requester, AfterConsent),
                "the requester has not consented to this kind of request",
                "この請求等について情報の提供を受けることへの同意が必要です。",
            ),
            Self::RepresentedNotSupported => public(
                Code::FailedPrecondition,
                "REPRESENTED_NOT_SUPPORTED",
                (Requester, Never),
                "only a requester who acts for themself, and can consent alone, is served online",
                "オンラインでの提供は、ご本人がご自身で同意して請求する場合に限られます。代理の方や代理が必要な方は、市区町村の窓口にお問い合わせください。",
            ),
            Self::NotProvided => public(
                Code::FailedPrecondition,
                "NOT_PROVIDED",
                (Requester, Never),
                "copy information cannot be provided online for this request",
                "オンラインでは戸籍の情報を提供できません。市区町村の窓口にお問い合わせください。",
            ),
            Self::EligibilityRefused => public(
                Code::PermissionDenied,
                "ELIGIBILITY_REFUSED",
                (Operators, Never),
                "the eligibility is not this peer's, not for this provider, or not fresh",
                "提供要件の証明を確認できません。",
            ),
            Self::PolicyMismatch => public(
                Code::FailedPrecondition,
                "POLICY_MISMATCH",
                (Operators, Never),
                "the two sides hold different provision policies",
                "双方の提供方針が一致しません。",
            ),
            Self::ClockSkew => public(
                Code::FailedPrecondition,
                "CLOCK_SKEW",
                (Operators, Never),
                "the two sides' clocks differ by more than the policy allows",
                "双方の時刻の差が許容範囲を超えています。",
            ),
            Self::SequenceUsed => public(
                Code::AlreadyExists,
                "SEQUENCE_USED",
                (Caller, Never),
                "the sequence number was used before",
                "この通し番号は既に使われています。",
            ),
            Self::UnknownReference => public(
                Code::NotFound,
                "UNKNOWN_REFERENCE",
                (Caller, Never),
                "what the request refers to is not stored",
                "指定されたものは登録されていません。",
            ),
            Self::ActIdUsed => public(
                Code::AlreadyExists,
                "ACT_ID_USED",
                (Caller, Never),
                "the act's id was used for another act",
                "この番号は別の操作に使われています。",
            ),
            Self::AnotherPersonNeeded => public(
                Code::FailedPrecondition,
                "ANOTHER_PERSON_NEEDED",
                (Operators, Never),
                "another person than the first has to do this",
                "最初の操作者とは別の者が行う必要があります。",
            ),
            Self::NotApplicable => public(
                Code::FailedPrecondition,
                "NOT_APPLICABLE",
                (Operators, Never),
                "what is stored is not in the state that the act is for, or the proposal is void",
                "対象がこの操作を行える状態にありません。",
            ),
            Self::NotOwnRegister => public(
                Code::PermissionDenied,
                "NOT_OWN_REGISTER",
                (Caller, Never),
                "the policy does not list this municipality code for the sender",
                "この市区町村コードの戸籍は送信元のものではありません。",
            ),
        }
    }
}

/// A refused call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    reason: Reason,
    request_id: Option<RequestId>,
    violation: Option<(&'static str, RuleBroken)>,
}

impl Refusal {
    /// A refusal for this reason.
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            request_id: None,
            violation: None,
        }
    }

    /// A field breaks its rule.
    pub fn malformed(field: &'static str, rule: RuleBroken) -> Self {
        Self {
            reason: Reason::Malformed,
            request_id: None,
            violation: Some((field, rule)),
        }
    }

    /// Adds the id of the call, to be echoed.
    pub fn of_request(self, request_id: RequestId) -> Self {
        Self {
            request_id: Some(request_id),
            ..self
        }
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let public = refusal.reason.public();
        let mut details = ErrorDetails::new();
        let metadata: Vec<(String, String)> = refusal
            .request_id
            .map(|id| ("request_id".to_owned(), id.to_string()))
            .into_iter()
            .collect();
        details.set_error_info(
            public.name,
            ERROR_DOMAIN,
            metadata.into_iter().collect::<std::collections::HashMap<_, _>>(),
        );
        let language = Language::of_call();
        details.set_localized_message(language.tag(), refusal.reason.text(language));
        if let Some((field, rule)) = refusal.violation {
            details.add_bad_request_violation(field, rule.0);
        }
        if let Retry::After(wait) = public.retry {
            details.set_retry_info(Some(wait));
        }
        Status::with_error_details(public.code, public.english, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::HashSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
