use std::time::Duration;

use common::{
    card::{Card, RevocationLists},
    clock::Timestamp,
    identity::PeerIdentity,
    policy::LoginPolicy,
    refusal::Reason,
};
use koseki_proto::koseki::linkage::v1::LoginProof;

use super::Conditions;
use crate::provision::Asked;

/// A session, as the store has it.
#[derive(Clone)]
pub struct SessionFacts {
    /// The account.
    pub account: i64,
    /// The frontend that it is bound to.
    pub frontend: String,
    /// Issuer of the card's certificate.
    pub card_issuer: [u8; 32],
    /// What its card's certificate is checked by; `None` when it does not open.
    pub card: Option<HeldCard>,
    /// When the requester logged in.
    pub logged_in_at: Timestamp,
    /// When the session was last used.
    pub last_used_at: Timestamp,
    /// Whether it was ended.
    pub ended: bool,
    /// Names the login proof.
    pub proof_sha256: [u8; 32],
    /// The login proof.
    pub proof: KeptProof,
}

/// What a session keeps of its card's certificate, sealed: a certificate ends on a birthday of its holder.
#[derive(Clone)]
pub struct HeldCard {
    /// Serial number.
    pub serial: Vec<u8>,
    /// Until when it is valid.
    pub expires: Timestamp,
}

impl HeldCard {
    /// Of a verified certificate.
    pub fn of(card: &Card) -> Self {
        Self {
            serial: card.serial.clone(),
            expires: card.not_after,
        }
    }

    /// As it is sealed: the end, and the serial number behind it.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.expires.unix_ms().to_be_bytes(), self.serial.as_slice()].concat()
    }

    /// Reads what [`Self::to_bytes`] made.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (expires, serial) = bytes.split_first_chunk()?;
        Some(Self {
            serial: serial.to_vec(),
            expires: Timestamp::from_unix_ms(i64::from_be_bytes(*expires)),
        })
    }
}

/// A session's login proof, as it was read.
#[derive(Clone)]
pub enum KeptProof {
    /// It was not asked for.
    NotRead,
    /// It does not open.
    Unreadable,
    /// It is here.
    Read(LoginProof),
}

/// Whether a session is to be marked as used now. A use shortly after the last one that was marked is not: each mark is a row that is
/// written. So a session idles out earlier than its limit by as much at most.
pub(crate) fn is_to_be_marked(last_used_at: Timestamp, idle: Duration, now: Timestamp) -> bool {
    now >= last_used_at.after(idle / 32)
}

impl SessionFacts {
    /// Whether the session is open, for the frontend that asks, at this moment.
    pub fn is_open(&self, asked: &Asked, conditions: &Conditions<'_>) -> bool {
        self.is_open_for(&asked.peer, &conditions.policy.login, conditions.now)
    }

    /// Whether it is to be marked as used now.
    pub fn is_to_be_marked(&self, conditions: &Conditions<'_>) -> bool {
        let idle = Duration::from_secs(conditions.policy.login.session_idle_seconds);
        is_to_be_marked(self.last_used_at, idle, conditions.now)
    }

    /// Whether the session is open for a frontend.
    pub fn is_open_for(&self, frontend: &PeerIdentity, login: &LoginPolicy, now: Timestamp) -> bool {
        let (absolute, idle) = (
            Duration::from_secs(login.session_seconds),
            Duration::from_secs(login.session_idle_seconds),
        );
        !self.ended
            && self.frontend == frontend.name()
            && now <= self.logged_in_at.after(absolute)
            && now <= self.last_used_at.after(idle)
    }

    /// Whether the certificate of the session's card is valid and not revoked by these lists.
    pub fn check_card(
        &self,
        lists: &RevocationLists,
        login: &LoginPolicy,
        now: Timestamp,
    ) -> Result<(), Reason> {
        let card = self.card.as_ref().ok_or(Reason::Unavailable)?;
        let max_age = login.crl_max_age();
        Ok(lists.check(&self.card_issuer, &card.serial, card.expires, now, max_age)?)
    }
}

/// That the requester is logged in with the user-authentication certificate of their card, which is still valid
/// (clause 4.3.2).
pub struct LoggedIn {
    /// When they logged in.
    pub(super) at: Timestamp,
    /// Names the proof of it.
    pub(super) proof_sha256: [u8; 32],
}

impl LoggedIn {
    pub(super) fn check(
        session: Option<&SessionFacts>,
        asked: &Asked,
        conditions: &Conditions<'_>,
    ) -> Result<Self, Reason> {
        let session = session
            .filter(|session| session.is_open(asked, conditions))
            .ok_or(Reason::SessionInvalid)?;
        session.check_card(&conditions.lists, &conditions.policy.login, conditions.now)?;
        if matches!(session.proof, KeptProof::Unreadable) {
            return Err(Reason::Unavailable);
        }
        Ok(Self {
            at: session.logged_in_at,
            proof_sha256: session.proof_sha256,
        })
    }
}
