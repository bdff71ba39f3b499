//! What an operator does next, for each of the server's reasons.

use common::refusal::Reason;

/// What to do next. Exhaustive: a new reason has to say it, too.
pub(crate) fn next_step(reason: Reason) -> &'static str {
    match reason {
        Reason::Malformed => "correct the value that is named and repeat the command",
        Reason::IdentityInvalid => {
            "see that the certificate in the profile's [tls] is of the deployment's CA, valid today, and has exactly one \
             URI SAN"
        }
        Reason::PermissionDenied => {
            "use the certificate of a role that may do this: operators on admin listeners, a municipality's officer on the \
             ingest listener; auditors may only read"
        }
        Reason::Overloaded => "wait a few seconds and repeat the command",
        Reason::Unavailable => {
            "wait a few seconds and repeat the command; if it goes on, `kosekictl status` and the server's log say why"
        }
        Reason::UnknownReference => {
            "nothing is stored under what was given: compare it with `kosekictl pending`, `kosekictl non-provision list`, \
             the other side's instances in `kosekictl status`, or the file that was loaded"
        }
        Reason::ActIdUsed => {
            "the id belongs to another act: repeat the command without the id for a new act, or with exactly the values of \
             the act that has it"
        }
        Reason::AnotherPersonNeeded => "another operator must do this, with a certificate of their own",
        Reason::NotApplicable => {
            "look at the present state with `kosekictl status` and `kosekictl pending`: it is open or closed already, \
             has changed since, or the proposal has expired or is void; if it is still wanted, propose it again"
        }
        Reason::NotOwnRegister => {
            "the policy's [municipalities] must list the register's code for the sender's; both sides change the policy \
             together"
        }
        Reason::PolicyMismatch => "bring both sides to the same policy: `kosekictl policy compare`",
        Reason::ClockSkew => "set the clocks of both sides: `kosekictl status`",
        Reason::ProvisionSuspended => "provision is suspended: `kosekictl status`",
        // No administration gives these: they belong to requesters and gateways.
        Reason::RequestIdUsed
        | Reason::SessionInvalid
        | Reason::ChallengeInvalid
        | Reason::CardExpired
        | Reason::CardRevoked
        | Reason::CardNotAccepted
        | Reason::SignatureInvalid
        | Reason::ConsentTextUnknown
        | Reason::ConsentUnknown
        | Reason::TooManyConsents
        | Reason::ConsentRequired
        | Reason::RepresentedNotSupported
        | Reason::NotProvided
        | Reason::EligibilityRefused
        | Reason::SequenceUsed => {
            "the server at this address answers as no admin or ingest listener does: see that the profile names the right \
             addresses"
        }
    }
}
