//! Callers: so many at a time, each calling again as soon as it is answered (closed loop), or so many calls a second whatever
//! becomes of them (open loop). Product and floor are called by the same code, with the same messages over as many connections.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use common::{
    clock::{Clock as _, SystemClock},
    identity::Role,
};
use devkit::{
    client::{Access, CallError, Ids},
    deployment::FRONTEND,
};
use koseki_proto::{
    koseki::common::v1::RequestKind,
    portal::v1::{Capacity, RequestCopyInfoRequest, RequestCopyInfoResponse, portal_client::PortalClient},
};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{population::Expected, sessions::Crowd};

/// Connections of a frontend process, and of the floor's forwarder to its echo.
pub(crate) const CONNECTIONS: usize = 4;
/// Longer than any deadline that the interfaces name.
const DEADLINE: Duration = Duration::from_secs(15);

/// What is called.
pub(crate) struct Target {
    clients: Vec<PortalClient<Channel>>,
    /// The one answer of the floor; of the product, each person's own.
    always: Option<Expected>,
}

impl Target {
    /// The gateway, or with `always` the floor, which gives everybody this answer.
    pub(crate) fn new(
        access: &Access,
        address: &str,
        connections: usize,
        always: Option<Expected>,
    ) -> Result<Arc<Self>> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            let channel = access.to_gateway(Role::PortalFrontend, FRONTEND, address)?;
            clients.push(PortalClient::new(channel));
        }
        Ok(Arc::new(Self { clients, always }))
    }

    /// A client on one of the connections.
    pub(crate) fn client(&self, caller: usize) -> Result<PortalClient<Channel>> {
        let client = self.clients.get(caller % self.clients.len().max(1));
        Ok(client.ok_or_else(|| anyhow::anyhow!("no connections"))?.clone())
    }
}

/// What became of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    Answer,
    /// Refused because there is too much to do.
    Overloaded,
    /// Given up, undecided.
    Unavailable,
}

/// Calls in a stretch of time.
#[derive(Default)]
pub(crate) struct Calls {
    /// Of the stretch.
    pub(crate) seconds: f64,
    /// Microseconds that each answered call took, in no order.
    pub(crate) answered_us: Vec<u32>,
    /// Microseconds that each call took that was refused for overload.
    pub(crate) overloaded_us: Vec<u32>,
    /// Calls that were given up undecided.
    pub(crate) unavailable: u64,
    /// Calls that were not made because too many were under way.
    pub(crate) not_made: u64,
}

impl Calls {
    fn add(&mut self, came: Came, took: Duration) {
        let us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        match came {
            Came::Answer => self.answered_us.push(us),
            Came::Overloaded => self.overloaded_us.push(us),
            Came::Unavailable => self.unavailable += 1,
        }
    }

    /// Takes those of another caller, or of another stretch whose seconds are added by whoever knows.
    pub(crate) fn merge(&mut self, other: Self) {
        self.answered_us.extend(other.answered_us);
        self.overloaded_us.extend(other.overloaded_us);
        self.unavailable += other.unavailable;
        self.not_made += other.not_made;
    }

    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.answered_us.len() as f64 / self.seconds
    }

    /// Everything must have been answered.
    pub(crate) fn must_be_whole(&self, what: &str) -> Result<()> {
        let refused = self.overloaded_us.len() as u64 + self.unavailable;
        ensure!(refused == 0, "{what}: {refused} calls were refused");
        Ok(())
    }
}

/// One caller.
#[derive(Clone)]
pub(crate) struct Caller {
    target: Arc<Target>,
    client: PortalClient<Channel>,
    crowd: Arc<Crowd>,
    clock: Arc<SystemClock>,
    ids: Ids,
}

impl Caller {
    pub(crate) fn new(target: &Arc<Target>, crowd: &Arc<Crowd>, number: usize) -> Result<Self> {
        Ok(Self {
            target: target.clone(),
            client: target.client(number)?,
            crowd: crowd.clone(),
            clock: crowd.clock.clone(),
            ids: Ids::new(crowd.clock.clone()),
        })
    }

    /// Asks for one person's copy information and compares it.
    async fn call(&mut self, at: usize) -> Result<Came> {
        let crowd = self.crowd.clone();
        let person = crowd.person(at)?;
        let answer = self.ask(&person.token).await;
        let expected = self.target.always.as_ref().unwrap_or(&person.expected);
        match answer {
            Ok((id, answer)) => {
                ensure!(answer.request_id == id, "an answer has another request's id");
                ensure!(is(&answer, expected), "an answer is not what was loaded");
                Ok(Came::Answer)
            }
            Err(status) => match CallError::from(status) {
                error if error.reason() == Some("OVERLOADED") => Ok(Came::Overloaded),
                error if error.reason() == Some("UNAVAILABLE") => Ok(Came::Unavailable),
                error => Err(error.into()),
            },
        }
    }

    /// Asks, whatever comes.
    pub(crate) async fn ask(
        &mut self,
        token: &[u8],
    ) -> Result<(String, RequestCopyInfoResponse), tonic::Status> {
        let request_id = self.ids.next();
        let mut request = tonic::Request::new(RequestCopyInfoRequest {
            request_id: request_id.clone(),
            session_token: token.to_vec(),
            kind: RequestKind::CertificateRequest.into(),
            procedure: String::new(),
            capacity: Capacity::Self_.into(),
        });
        request.set_timeout(DEADLINE);
        let answer = self.client.request_copy_info(request).await?;
        Ok((request_id, answer.into_inner()))
    }
}

/// Whether an answer is what was loaded.
pub(crate) fn is(answer: &RequestCopyInfoResponse, expected: &Expected) -> bool {
    let registers = answer.info.as_ref().map_or(&[][..], |info| &info.registers);
    let [register] = registers else {
        return false;
    };
    register.registered_domicile == expected.registered_domicile
        && register.first_entered_person == expected.first_entered_person
        && register.municipality_code == expected.municipality_code
}

/// Closed loop: what came back in `time`, after `warm_up`.
pub(crate) async fn closed(
    target: &Arc<Target>,
    crowd: &Arc<Crowd>,
    callers: usize,
    warm_up: Duration,
    time: Duration,
) -> Result<Calls> {
    let clock = crowd.clock.clone();
    let begin = clock.monotonic() + warm_up;
    let end = begin + time;
    let mut tasks = JoinSet::new();
    for number in 0..callers {
        let mut caller = Caller::new(target, crowd, number)?;
        let mut rng = ChaCha8Rng::seed_from_u64(rand::random());
        tasks.spawn(async move {
            let mut calls = Calls::default();
            loop {
                let started = caller.clock.monotonic();
                if started >= end {
                    return anyhow::Ok(calls);
                }
                let came = caller.call(rng.random_range(0..caller.crowd.len())).await?;
                let now = caller.clock.monotonic();
                if now >= begin && now < end {
                    calls.add(came, now.saturating_sub(started));
                }
            }
        });
    }
    let mut all = Calls {
        seconds: time.as_secs_f64(),
        ..Calls::default()
    };
    while let Some(calls) = tasks.join_next().await {
        all.merge(calls??);
    }
    Ok(all)
}

/// Calls of the open loop under way at most: beyond it the generator itself would be what is measured.
const UNDER_WAY: usize = 16_384;

/// Open loop: calls begin at this rate for `time`; what became of them by its end. A call's time counts from when it was due.
pub(crate) async fn open(
    target: &Arc<Target>,
    crowd: &Arc<Crowd>,
    rate: f64,
    time: Duration,
) -> Result<Calls> {
    let clock = crowd.clock.clone();
    let begin = clock.monotonic();
    let total = (rate * time.as_secs_f64()) as usize;
    let mut rng = ChaCha8Rng::seed_from_u64(rand::random());
    let mut all = Calls {
        seconds: time.as_secs_f64(),
        ..Calls::default()
    };
    let mut tasks = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let mut made = 0;
    while made < total {
        ticks.tick().await;
        let due = ((clock.monotonic().saturating_sub(begin).as_secs_f64() * rate) as usize).min(total);
        for number in made..due {
            if tasks.len() >= UNDER_WAY {
                all.not_made += 1;
                continue;
            }
            let due_at = begin + Duration::from_secs_f64(number as f64 / rate);
            let mut caller = Caller::new(target, crowd, number)?;
            let at = rng.random_range(0..crowd.len());
            tasks.spawn(async move {
                let came = caller.call(at).await?;
                anyhow::Ok((came, due_at, caller.clock.monotonic()))
            });
        }
        made = due;
        while let Some(ended) = tasks.try_join_next() {
            let (came, due_at, now) = ended??;
            all.add(came, now.saturating_sub(due_at));
        }
    }
    // What comes after the end does not count as done in the time.
    while let Some(ended) = tasks.join_next().await {
        let (came, due_at, now) = ended??;
        if now < begin + time || came != Came::Answer {
            all.add(came, now.saturating_sub(due_at));
        }
    }
    Ok(all)
}

/// The value below which this share of all lies, in milliseconds.
pub(crate) fn percentile_ms(us: &mut [u32], share: f64) -> Option<f64> {
    us.sort_unstable();
    let at = (us.len() as f64 * share) as usize;
    let value = us.get(at.min(us.len().checked_sub(1)?))?;
    Some(f64::from(*value) / 1_000.0)
}
