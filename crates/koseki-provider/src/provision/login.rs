//! The login behind a request (clause 4.3.2; DESIGN §5), verified on this side with its own roots, revocation lists and
//! clock: the gateway's word is not enough.
//!
//! A proof is verified the first time that it comes, in admission: two RSA signatures, 20 µs each, and the reading of a
//! certificate. What it proved is remembered. Whether the card still holds and the login is not too old is looked at for
//! every item, behind the gate.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{
    card::{CardFault, RevocationLists},
    cards::Cards,
    clock::Timestamp,
    identity::TrustDomain,
    keyring::{BeaconKeys, Lookup, LookupKey},
    login_proof,
    login_text::{LoginText, MAX_CHALLENGE},
    policy::Policy,
    recent::Recent,
};
use koseki_proto::koseki::linkage::v1::LoginProof;

use crate::store;

/// Logins of a generation; two are remembered at most. One takes about 300 bytes, so all of them about 40 MB: as many
/// sessions as begin in half an hour at 70 logins a second.
const REMEMBERED: usize = 65_536;
/// Length of a serial number at most, in bytes: 20 (RFC 5280 §4.1.2.2), and one for the sign.
const MAX_SERIAL_BYTES: usize = 21;

/// Why a login does not count. The names are for the restricted audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginFault {
    /// A part of the proof is longer than it may be.
    ProofTooLong,
    /// The proof is another one than the eligibility names.
    ProofAltered,
    /// The certificate is not one that the policy accepts, or no pinned root has issued it.
    CardNotAccepted,
    /// The card's certificate has expired.
    CardExpired,
    /// The card's certificate is revoked.
    CardRevoked,
    /// The signature is not the card's.
    Signature,
    /// What was signed is not a login text.
    Text,
    /// The text is of another deployment.
    TrustDomain,
    /// This side has not published the beacon.
    Beacon,
    /// The text was made with a beacon that was out of use by then.
    OldBeacon,
    /// The times in the text and the one that the gateway tells contradict each other.
    Times,
    /// The login was longer ago than a session lasts.
    TooOld,
    /// The proof came for another session before.
    AnotherSession,
    /// There is no fresh revocation list.
    RevocationUnknown,
}

impl LoginFault {
    /// Stable name of the cause.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ProofTooLong => "LOGIN_PROOF_TOO_LONG",
            Self::ProofAltered => "LOGIN_PROOF_ALTERED",
            Self::CardNotAccepted => "LOGIN_CARD_NOT_ACCEPTED",
            Self::CardExpired => "LOGIN_CARD_EXPIRED",
            Self::CardRevoked => "LOGIN_CARD_REVOKED",
            Self::Signature => "LOGIN_SIGNATURE",
            Self::Text => "LOGIN_TEXT",
            Self::TrustDomain => "LOGIN_TRUST_DOMAIN",
            Self::Beacon => "LOGIN_BEACON",
            Self::OldBeacon => "LOGIN_OLD_BEACON",
            Self::Times => "LOGIN_TIMES",
            Self::TooOld => "LOGIN_TOO_OLD",
            Self::AnotherSession => "LOGIN_ANOTHER_SESSION",
            Self::RevocationUnknown => "REVOCATION_UNKNOWN",
        }
    }
}

impl From<CardFault> for LoginFault {
    fn from(fault: CardFault) -> Self {
        match fault {
            CardFault::NotAccepted(_) => Self::CardNotAccepted,
            CardFault::Expired => Self::CardExpired,
            CardFault::Revoked => Self::CardRevoked,
            CardFault::RevocationUnknown => Self::RevocationUnknown,
        }
    }
}

/// What a proof has proved.
pub(super) struct Proven {
    session_sha256: [u8; 32],
    card_key: Lookup,
    card_issuer: [u8; 32],
    card_serial: Box<[u8]>,
    card_expires: Timestamp,
    beacon_published_at: Timestamp,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

impl Proven {
    /// The session.
    pub(super) fn session(&self) -> &[u8; 32] {
        &self.session_sha256
    }

    /// What linkages of the card are bound to.
    pub(super) fn card_key(&self) -> &Lookup {
        &self.card_key
    }

    /// That a session that began at this moment can have come of it. Both times are of gateways' clocks.
    fn agrees(&self, logged_in_at: Timestamp, policy: &Policy) -> bool {
        let earliest = self.issued_at.before(policy.exchange.max_clock_skew());
        let latest = self.expires_at.after(policy.exchange.eligibility_age());
        (earliest..=latest).contains(&logged_in_at)
    }
}

/// The login of an item.
pub(super) enum Login {
    /// A cover item has none.
    Cover,
    /// One that was verified.
    Proven(Arc<Proven>),
    /// One that does not count.
    Refused(LoginFault),
}

impl Login {
    /// What was proven.
    pub(super) fn proven(&self) -> Option<&Proven> {
        match self {
            Self::Proven(proven) => Some(proven),
            Self::Cover | Self::Refused(_) => None,
        }
    }
}

/// What a gateway says about the login of an item.
pub(super) struct Claim {
    pub(super) proof_sha256: [u8; 32],
    pub(super) session_sha256: [u8; 32],
    pub(super) logged_in_at: Timestamp,
}

/// The provider does not have a proof: the batch has to come again, with all of them.
pub(super) struct NeedProof;

/// Verifies logins and remembers them.
pub struct Logins {
    cards: Arc<Cards>,
    beacons: BeaconKeys,
    lookup: LookupKey,
    trust_domain: TrustDomain,
    remembered: Mutex<Recent<Arc<Proven>>>,
}

impl Logins {
    /// Nothing is remembered yet.
    pub fn new(cards: Arc<Cards>, beacons: BeaconKeys, lookup: LookupKey, trust_domain: TrustDomain) -> Self {
        Self {
            cards,
            beacons,
            lookup,
            trust_domain,
            remembered: Mutex::new(Recent::new(REMEMBERED)),
        }
    }

    /// The beacon of this moment.
    pub fn beacon(&self, now: Timestamp) -> [u8; 32] {
        self.beacons.beacon(now)
    }

    /// Takes what a batch claims, each with the proof that came with it; a cover item claims nothing. Nothing is verified
    /// when a proof is missing.
    pub(super) async fn prove(
        &self,
        claims: Vec<(Option<Claim>, Option<&LoginProof>)>,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Vec<Login>, NeedProof> {
        let mut known = Vec::with_capacity(claims.len());
        for (claim, proof) in claims {
            let remembered = claim
                .as_ref()
                .and_then(|claim| self.remembered(&claim.proof_sha256));
            if claim.is_some() && remembered.is_none() && proof.is_none() {
                return Err(NeedProof);
            }
            known.push((claim, proof, remembered));
        }
        let mut logins = Vec::with_capacity(known.len());
        for (claim, proof, remembered) in known {
            let Some(claim) = claim else {
                logins.push(Login::Cover);
                continue;
            };
            let verify = remembered.is_none();
            logins.push(match self.one(&claim, proof, remembered, policy, now) {
                Ok(proven) => Login::Proven(proven),
                Err(fault) => Login::Refused(fault),
            });
            if verify {
                // 256 of them would hold a thread of the runtime for milliseconds.
                tokio::task::yield_now().await;
            }
        }
        Ok(logins)
    }

    fn one(
        &self,
        claim: &Claim,
        proof: Option<&LoginProof>,
        remembered: Option<Arc<Proven>>,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Arc<Proven>, LoginFault> {
        if let Some(proof) = proof {
            if !login_proof::fits(proof) {
                return Err(LoginFault::ProofTooLong);
            }
            if login_proof::sha256(proof) != claim.proof_sha256 {
                return Err(LoginFault::ProofAltered);
            }
        }
        let proven = match (remembered, proof) {
            (Some(proven), _) => proven,
            (None, Some(proof)) => {
                let proven = self.verify(proof, claim.session_sha256, policy, now)?;
                self.remember(claim.proof_sha256, Arc::new(proven))
            }
            // Not reached: the proof would have been asked for.
            (None, None) => return Err(LoginFault::ProofAltered),
        };
        if proven.session_sha256 != claim.session_sha256 {
            return Err(LoginFault::AnotherSession);
        }
        if !proven.agrees(claim.logged_in_at, policy) {
            return Err(LoginFault::Times);
        }
        Ok(proven)
    }

    /// All that does not change any more: certificate, signature, text and beacon.
    fn verify(
        &self,
        proof: &LoginProof,
        session_sha256: [u8; 32],
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Proven, LoginFault> {
        let card = self.cards.read(&proof.certificate)?;
        if card.serial.len() > MAX_SERIAL_BYTES {
            return Err(LoginFault::CardNotAccepted);
        }
        if !card.has_signed(&proof.text, &proof.signature) {
            return Err(LoginFault::Signature);
        }
        let text = LoginText::parse(&proof.text).ok_or(LoginFault::Text)?;
        if text.trust_domain != self.trust_domain {
            return Err(LoginFault::TrustDomain);
        }
        let published_at = self
            .beacons
            .published_at(&text.beacon)
            .ok_or(LoginFault::Beacon)?;
        let skew = policy.exchange.max_clock_skew();
        let in_use = published_at.before(skew)..=published_at.after(BeaconKeys::IN_USE + skew);
        if !in_use.contains(&text.issued_at) {
            return Err(LoginFault::OldBeacon);
        }
        if text.issued_at > now.after(skew)
            || text.expires_at < text.issued_at
            || text.expires_at.since(text.issued_at) > MAX_CHALLENGE
        {
            return Err(LoginFault::Times);
        }
        Ok(Proven {
            session_sha256,
            card_key: store::card_key(&self.lookup, &card.public_key_sha256),
            card_issuer: card.issuer,
            card_serial: card.serial.into_boxed_slice(),
            card_expires: card.not_after,
            beacon_published_at: published_at,
            issued_at: text.issued_at,
            expires_at: text.expires_at,
        })
    }

    /// That a login which was verified once still counts: by the newest list, and by the provider's own clock.
    pub(super) fn stands(
        &self,
        proven: &Proven,
        lists: &RevocationLists,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<(), LoginFault> {
        lists.check(
            &proven.card_issuer,
            &proven.card_serial,
            proven.card_expires,
            now,
            policy.login.crl_max_age(),
        )?;
        // The text was signed after its beacon was published, and the session began while the text could be signed.
        let ends = proven.beacon_published_at.after(
            BeaconKeys::IN_USE
                + proven.expires_at.since(proven.issued_at)
                + Duration::from_secs(policy.login.session_seconds)
                + policy.exchange.eligibility_age(),
        );
        if now > ends {
            return Err(LoginFault::TooOld);
        }
        Ok(())
    }

    // A poisoned lock means that a thread panicked with it: then nothing is remembered, and proofs come again.
    fn remembered(&self, proof_sha256: &[u8; 32]) -> Option<Arc<Proven>> {
        self.remembered.lock().ok()?.get(proof_sha256).cloned()
    }

    /// Another batch may have brought the proof at the same time: what was remembered first stays.
    fn remember(&self, proof_sha256: [u8; 32], proven: Arc<Proven>) -> Arc<Proven> {
        let Ok(mut remembered) = self.remembered.lock() else {
            return proven;
        };
        if let Some(first) = remembered.get(&proof_sha256) {
            return first.clone();
        }
        remembered.insert(proof_sha256, proven.clone());
        proven
    }
}
