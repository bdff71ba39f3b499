//! The line to one provider instance: its state, looked at again and again, and the one call that forwards.

use std::{
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use common::{
    clock::{Clock, Timestamp},
    digest,
    policy::{Policies, Told},
    recent::Recent,
    suspension::Suspensions,
    terms::RequestKind,
};
use koseki_proto::{
    koseki::linkage::v1::{
        GetLinkageStatusRequest, GetLinkageStatusResponse, ProvideCopyInfoRequest, ProvideCopyInfoResponse,
        linkage_client::LinkageClient,
    },
    portal::admin::v1::ProviderSeen,
};
use tonic::{Request, Status, transport::Channel};

/// Message limits of the linkage listener, in bytes.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Deadline of a look at the state.
const STATUS_DEADLINE: Duration = Duration::from_secs(1);

/// What a gateway knows of a provider instance.
#[derive(Clone)]
pub struct ProviderState {
    /// Name of the log that eligibilities have to name.
    pub log: String,
    /// The beacon for login texts.
    pub beacon: [u8; 32],
    /// Kinds that are suspended there.
    pub suspensions: Suspensions,
    /// Whether its log is countersigned as the policy asks.
    countersigned: bool,
    seen_at: Duration,
}

impl ProviderState {
    /// When the instance was asked for it, by the monotonic clock.
    pub fn seen_at(&self) -> Duration {
        self.seen_at
    }
}

/// The line to one provider instance.
pub struct ProviderLink {
    client: LinkageClient<Channel>,
    policies: Arc<Policies>,
    instance: String,
    clock: Arc<dyn Clock>,
    interval: Duration,
    state: RwLock<Option<ProviderState>>,
    seen: RwLock<ProviderSeen>,
    last_sequence: AtomicU64,
    proven: Mutex<Recent<()>>,
}

/// Sessions of a generation; two are remembered at most. One takes about 66 bytes, so all of them about 9 MB.
const REMEMBERED: usize = 65_536;

impl ProviderLink {
    /// A state that was seen longer ago than this many intervals is not believed (I4).
    const STALE_INTERVALS: u32 = 5;

    /// The line over this channel.
    pub fn new(
        channel: Channel,
        instance: String,
        policies: Arc<Policies>,
        interval: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            client: LinkageClient::new(channel).max_decoding_message_size(MAX_BATCH_BYTES),
            policies,
            instance,
            clock,
            interval,
            state: RwLock::default(),
            seen: RwLock::default(),
            last_sequence: AtomicU64::new(0),
            proven: Mutex::new(Recent::new(REMEMBERED)),
        }
    }

    /// The provider's state, if it was seen lately and the two sides fit together.
    pub fn state(&self) -> Option<ProviderState> {
        let state = self.state.read().ok()?.clone()?;
        let age = self.clock.monotonic().saturating_sub(state.seen_at);
        (age <= self.interval * Self::STALE_INTERVALS).then_some(state)
    }

    /// The provider's state, if it provides. While its log is not countersigned it does not, but people log in, so that they can
    /// withdraw.
    pub fn providing(&self) -> Option<ProviderState> {
        self.state().filter(|state| state.countersigned)
    }

    /// The instance as it answered last, whether the two sides fit together or not; for operators.
    pub fn seen(&self) -> ProviderSeen {
        ProviderSeen {
            instance: self.instance.clone(),
            providing: self.providing().is_some(),
            ..self.seen.read().map(|seen| seen.clone()).unwrap_or_default()
        }
    }

    /// Between two looks at its state.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Name of the provider instance.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The next sequence number: used once, also after a restart, since it goes on above what the provider has seen.
    pub fn next_sequence(&self) -> u64 {
        self.last_sequence
            .fetch_add(1, Ordering::SeqCst)
            .saturating_add(1)
    }

    /// Those of the sessions whose login proof the provider is not known to have.
    pub fn unproven(&self, log: &str, sessions: impl Iterator<Item = [u8; 32]>) -> Vec<[u8; 32]> {
        // A poisoned lock means that a thread panicked with it: then nothing is remembered, and proofs go again.
        let Ok(mut proven) = self.proven.lock() else {
            return sessions.collect();
        };
        sessions
            .filter(|session| proven.get(&at_log(log, session)).is_none())
            .collect()
    }

    /// The provider has verified these sessions' login proofs.
    pub fn remember_proven(&self, log: &str, sessions: impl Iterator<Item = [u8; 32]>) {
        if let Ok(mut proven) = self.proven.lock() {
            for session in sessions {
                proven.insert(at_log(log, &session), ());
            }
        }
    }

    /// The provider has forgotten some, and probably all: it was started again.
    pub fn forget_proven(&self) {
        if let Ok(mut proven) = self.proven.lock() {
            proven.clear();
        }
    }

    /// Forwards a batch. It is never sent again: its outcome may have been recorded. The caller stops waiting by itself;
    /// the registry side is told after which time at the latest.
    pub async fn provide(
        &self,
        request: ProvideCopyInfoRequest,
        deadline: Duration,
    ) -> Result<ProvideCopyInfoResponse, Status> {
        let mut request = Request::new(request);
        request.set_timeout(deadline);
        let mut client = self.client.clone();
        Ok(client.provide_copy_info(request).await?.into_inner())
    }

    /// Looks at the provider's state once.
    pub async fn look(&self) {
        let (policy, next_policy) = self.policies.told();
        let mut request = Request::new(GetLinkageStatusRequest {
            policy: Some(policy),
            next_policy,
        });
        request.set_timeout(STATUS_DEADLINE);
        let mut client = self.client.clone();
        let seen_at = self.clock.monotonic();
        let state = match tokio::time::timeout(STATUS_DEADLINE, client.get_linkage_status(request)).await {
            Ok(Ok(answer)) => self.accept(answer.into_inner(), seen_at),
            Ok(Err(status)) => {
                let (instance, code) = (&self.instance, status.code());
                tracing::warn!(
                    instance,
                    ?code,
                    "a provider instance could not be asked for its state"
                );
                // The last state stays until it is stale: one lost call is not a stop.
                return;
            }
            Err(_) => {
                let instance = &self.instance;
                tracing::warn!(instance, "a provider instance did not tell its state in time");
                return;
            }
        };
        if let Ok(mut current) = self.state.write() {
            *current = state;
        }
    }

    /// Takes a state whose policy is ours and whose clock is near ours.
    fn accept(&self, answer: GetLinkageStatusResponse, seen_at: Duration) -> Option<ProviderState> {
        let (ours, theirs) = (
            self.clock.now(),
            answer.now.as_ref().and_then(Timestamp::from_proto)?,
        );
        if let Ok(mut seen) = self.seen.write() {
            *seen = ProviderSeen {
                provider_log: answer.provider_log.clone(),
                seen_at: Some(ours.to_proto()),
                policy_sha256: answer.policy_sha256.clone(),
                clock_offset_ms: theirs.unix_ms().saturating_sub(ours.unix_ms()),
                ..ProviderSeen::default()
            };
        }
        let instance = &self.instance;
        let told = Told {
            in_force: &answer.policy_sha256,
            next: answer.next_policy.as_ref(),
        };
        if !self.policies.compare(&self.instance, &told) {
            tracing::error!(
                instance,
                "a provider instance has another provision policy: it is not used"
            );
            return None;
        }
        let skew = ours.since(theirs).max(theirs.since(ours));
        if skew > self.policies.current().exchange.max_clock_skew() {
            let skew_ms = u64::try_from(skew.as_millis()).unwrap_or(u64::MAX);
            tracing::error!(
                instance,
                skew_ms,
                "this clock and a provider instance's differ by more than the policy allows: it is not used"
            );
            return None;
        }
        if !answer.card_lists_fresh {
            tracing::error!(
                instance,
                "a provider instance has no fresh revocation list of cards: it is not used"
            );
            return None;
        }
        if !answer.log_countersigned {
            tracing::warn!(
                instance,
                "a provider instance waits for its log to be countersigned: nothing is asked of it"
            );
        }
        let mut suspensions = Suspensions::default();
        for kind in answer.suspended_kinds {
            // A kind that this program does not know stops everything (I4).
            suspensions.add(RequestKind::parse(kind).ok());
        }
        self.last_sequence
            .fetch_max(answer.highest_sequence, Ordering::SeqCst);
        Some(ProviderState {
            log: answer.provider_log,
            beacon: answer.beacon.try_into().ok()?,
            suspensions,
            countersigned: answer.log_countersigned,
            seen_at,
        })
    }

    /// As if it had just answered, and provided.
    #[cfg(test)]
    pub(crate) fn pretend_to_have_seen(&self) {
        *self.state.write().unwrap() = Some(ProviderState {
            log: self.instance.clone(),
            beacon: [0; 32],
            suspensions: Suspensions::default(),
            countersigned: true,
            seen_at: self.clock.monotonic(),
        });
    }
}

fn at_log(log: &str, session: &[u8; 32]) -> [u8; 32] {
    digest::sha256(&[session, log.as_bytes()])
}
