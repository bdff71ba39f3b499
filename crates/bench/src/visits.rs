//! Visits: a person logs in, consents, is provided twice, and logs out. What that costs those who are only provided, and how
//! long an act that forbids something takes meanwhile.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result};
use common::clock::{Clock as _, SystemClock};
use devkit::{
    client::{CallError, Ids, RegistryOperator},
    deployment::OPERATORS,
};
use koseki_proto::portal::v1::ConsentText;
use rand::Rng as _;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    ladder::{median, round},
    load::{Caller, closed, is, percentile_ms},
    machine,
    population::{Expected, Population},
    sessions::{Holder, Requester},
    sizes::Sizes,
    world::World,
};

/// Callers who are only provided.
const CALLERS: usize = 256;
/// Visits a second. The second is what a deadline brings: ten times the 70 requests a second of a peak hour, two in a visit.
const RATES: [u32; 2] = [100, 350];
/// Requesters who withdraw meanwhile, each this often.
const WITHDRAWERS: usize = 4;
const WITHDRAW_EVERY: Duration = Duration::from_millis(100);
/// Records of non-provision that operators make meanwhile, one after the other.
const RECORDS: usize = 3;
/// What a forbidding act at the provider waits after its commit: max_answer_age and max_hand_off of the policy.
const WAIT_AT_PROVIDER_MS: f64 = 2_500.0;

/// What visits have come to.
#[derive(Default)]
struct Told {
    /// Microseconds of each step.
    steps: BTreeMap<&'static str, Vec<u32>>,
    visits: u64,
    /// Given up: overloaded, or undecided.
    broken: u64,
    /// Not begun because every visitor was on a visit.
    not_begun: u64,
}

type Shared = Arc<Mutex<Told>>;

fn tell(told: &Shared, of: impl FnOnce(&mut Told)) {
    of(&mut told.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
}

/// One visitor at a frontend.
struct Visitor {
    requester: Requester,
    caller: Caller,
    holder: Arc<Holder>,
    expected: Expected,
    text: Arc<ConsentText>,
    clock: Arc<SystemClock>,
    told: Shared,
}

impl Visitor {
    fn new(world: &World, number: usize, text: &Arc<ConsentText>, told: &Shared) -> Result<Self> {
        let holder = world.visitors.get(number).context("no such visitor")?.clone();
        Ok(Self {
            requester: Requester::new(world.product.client(number)?, &world.crowd.clock),
            caller: Caller::new(&world.product, &world.crowd, number)?,
            expected: world.population.expected(holder.person)?,
            holder,
            text: text.clone(),
            clock: world.crowd.clock.clone(),
            told: told.clone(),
        })
    }

    /// A whole visit. Being turned away for too much load ends it; anything else that is not right is an error.
    async fn visit(&mut self) -> Result<()> {
        match self.steps().await {
            Ok(()) => tell(&self.told, |told| told.visits += 1),
            Err(error) => {
                turned_away(error)?;
                tell(&self.told, |told| told.broken += 1);
            }
        }
        Ok(())
    }

    async fn steps(&mut self) -> Result<()> {
        let began = self.clock.monotonic();
        let token = self.requester.log_in(&self.holder.card).await?;
        let began = self.step("login", began);
        self.requester.consent(&token, &self.text).await?;
        let mut began = self.step("consent", began);
        for _ in 0..2 {
            let (_, answer) = self.caller.ask(&token).await?;
            anyhow::ensure!(
                is(&answer, &self.expected),
                "a visitor's answer is not what was loaded"
            );
            began = self.step("provision", began);
        }
        self.requester.log_out(&token).await?;
        self.step("logout", began);
        Ok(())
    }

    fn step(&self, name: &'static str, began: Duration) -> Duration {
        let now = self.clock.monotonic();
        note(&self.told, name, now.saturating_sub(began));
        now
    }
}

fn note(told: &Shared, name: &'static str, took: Duration) {
    let us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
    tell(told, |told| told.steps.entry(name).or_default().push(us));
}

/// Whether an error only says that there was too much to do.
fn turned_away(error: anyhow::Error) -> Result<()> {
    let status = error.downcast::<tonic::Status>()?;
    match CallError::from(status) {
        error if matches!(error.reason(), Some("OVERLOADED" | "UNAVAILABLE")) => Ok(()),
        error => Err(error.into()),
    }
}

/// Measures all of it.
pub(crate) async fn measure(world: &World, sizes: &Sizes) -> Result<Value> {
    let text = text(world).await?;
    let mix = mix(world, &text, sizes.slice * 2).await?;
    let mut beside = Vec::new();
    for rate in RATES {
        beside.push(beside_provisions(world, sizes, &text, rate).await?);
    }
    Ok(json!({"mix": mix, "beside_provisions": beside}))
}

/// The text that visitors consent to.
pub(crate) async fn text(world: &World) -> Result<Arc<ConsentText>> {
    let mut requester = Requester::new(world.product.client(0)?, &world.crowd.clock);
    Ok(Arc::new(requester.consent_text().await?))
}

/// Nothing but visits for so long, each visitor's one after the other.
pub(crate) async fn mix(world: &World, text: &Arc<ConsentText>, time: Duration) -> Result<Value> {
    let told = Shared::default();
    let visitors = world.visitors.len().min(64);
    let end = world.crowd.clock.monotonic() + time;
    let client = machine::cpu_us(std::process::id());
    let mut tasks = JoinSet::new();
    for number in 0..visitors {
        let mut visitor = Visitor::new(world, number, text, &told)?;
        tasks.spawn(async move {
            while visitor.clock.monotonic() < end {
                visitor.visit().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let client = machine::cpu_us(std::process::id()).saturating_sub(client);
    let told = std::mem::take(&mut *told.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let mut found = json!({
        "visitors": visitors,
        "visits_per_s": round(told.visits as f64 / time.as_secs_f64(), 1),
        "broken": told.broken,
        "client_cpu_us_per_visit": round(client as f64 / told.visits.max(1) as f64, 0),
    });
    for (step, mut us) in told.steps {
        found[step] = latencies(&mut us);
    }
    Ok(found)
}

fn latencies(us: &mut [u32]) -> Value {
    json!({
        "p50_ms": percentile_ms(us, 0.5).map(|ms| round(ms, 1)),
        "p99_ms": percentile_ms(us, 0.99).map(|ms| round(ms, 1)),
        "count": us.len(),
    })
}

/// Callers who are only provided, alone and beside visits, in turns.
async fn beside_provisions(
    world: &World,
    sizes: &Sizes,
    text: &Arc<ConsentText>,
    rate: u32,
) -> Result<Value> {
    let told = Shared::default();
    let (mut alone, mut beside, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    let mut seconds = 0.0;
    for _ in 0..sizes.rounds {
        let calls = provisions(world, sizes).await?;
        let rate_alone = calls.0;
        let stop = watch::Sender::new(false);
        let before = count(&told, "provision");
        let visits = tokio::spawn(open_visits(
            Visitors::new(world, text, &told)?,
            rate,
            world.crowd.clock.clone(),
            stop.subscribe(),
        ));
        let withdrawals = tokio::spawn(withdraw(world.withdrawers(text)?, told.clone(), stop.subscribe()));
        let records = tokio::spawn(record(
            operator(world)?,
            strangers(world),
            world.crowd.clock.clone(),
            told.clone(),
            stop.subscribe(),
        ));
        let began = world.crowd.clock.monotonic();
        let calls = provisions(world, sizes).await;
        let took = world.crowd.clock.monotonic().saturating_sub(began).as_secs_f64();
        let of_visits = (count(&told, "provision") - before) as f64 / took;
        stop.send_replace(true);
        visits.await??;
        withdrawals.await??;
        records.await??;
        seconds += took;
        let rate_beside = calls?.0 + of_visits;
        alone.push(rate_alone);
        beside.push(rate_beside);
        losses.push(1.0 - rate_beside / rate_alone);
    }
    let told = std::mem::take(&mut *told.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let mut found = json!({
        "asked_visits_per_s": rate,
        "visits_per_s": round(told.visits as f64 / seconds, 1),
        "broken": told.broken,
        "not_begun": told.not_begun,
        "provisions_per_s_alone": round(median(alone), 0),
        "provisions_per_s": round(median(beside), 0),
        "loss": round(median(losses), 3),
    });
    for (step, mut us) in told.steps {
        found[step] = latencies(&mut us);
    }
    Ok(found)
}

fn count(told: &Shared, step: &str) -> usize {
    let told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    told.steps.get(step).map_or(0, Vec::len)
}

/// Answers a second to those who are only provided, and how many calls were turned away.
async fn provisions(world: &World, sizes: &Sizes) -> Result<(f64, u64)> {
    let calls = closed(&world.product, &world.crowd, CALLERS, sizes.warm_up, sizes.slice).await?;
    Ok((calls.rate(), calls.unavailable + calls.overloaded_us.len() as u64))
}

/// All visitors who are not on a visit.
struct Visitors {
    waiting: Vec<Visitor>,
    told: Shared,
}

impl Visitors {
    fn new(world: &World, text: &Arc<ConsentText>, told: &Shared) -> Result<Self> {
        let visitors = (0..world.visitors.len().saturating_sub(WITHDRAWERS))
            .map(|number| Visitor::new(world, number, text, told));
        Ok(Self {
            waiting: visitors.collect::<Result<_>>()?,
            told: told.clone(),
        })
    }
}

/// Visits begin at this rate until it is over.
async fn open_visits(
    mut visitors: Visitors,
    rate: u32,
    clock: Arc<SystemClock>,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let began = clock.monotonic();
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let mut tasks: JoinSet<Result<Visitor>> = JoinSet::new();
    let mut begun = 0;
    while !*stop.borrow() {
        ticks.tick().await;
        let due = (clock.monotonic().saturating_sub(began).as_secs_f64() * f64::from(rate)) as u64;
        while begun < due {
            begun += 1;
            match visitors.waiting.pop() {
                Some(mut visitor) => {
                    tasks.spawn(async move {
                        visitor.visit().await?;
                        Ok(visitor)
                    });
                }
                None => tell(&visitors.told, |told| told.not_begun += 1),
            }
        }
        while let Some(ended) = tasks.try_join_next() {
            visitors.waiting.push(ended??);
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Someone who consents and withdraws; nobody else asks for them.
struct Withdrawer {
    requester: Requester,
    holder: Arc<Holder>,
    text: Arc<ConsentText>,
    clock: Arc<SystemClock>,
}

impl World {
    /// The last of the visitors, who are not on visits.
    fn withdrawers(&self, text: &Arc<ConsentText>) -> Result<Vec<Withdrawer>> {
        let holders = self.visitors.iter().rev().take(WITHDRAWERS);
        let withdrawer = |(number, holder): (usize, &Arc<Holder>)| {
            Ok(Withdrawer {
                requester: Requester::new(self.product.client(number)?, &self.crowd.clock),
                holder: holder.clone(),
                text: text.clone(),
                clock: self.crowd.clock.clone(),
            })
        };
        holders.enumerate().map(withdrawer).collect()
    }
}

impl Withdrawer {
    /// Consents and withdraws, again and again.
    async fn go_on(mut self, told: Shared, stop: watch::Receiver<bool>) -> Result<()> {
        let token = self.requester.log_in(&self.holder.card).await?;
        let mut turns = tokio::time::interval(WITHDRAW_EVERY);
        while !*stop.borrow() {
            turns.tick().await;
            let id = match self.requester.consent(&token, &self.text).await {
                Ok(id) => id,
                Err(error) => {
                    turned_away(error)?;
                    continue;
                }
            };
            // An act of unknown outcome is repeated until it is done, and takes as long as all of it.
            let began = self.clock.monotonic();
            while let Err(error) = self.requester.withdraw(&token, &id).await {
                turned_away(error)?;
            }
            note(&told, "withdrawal", self.clock.monotonic().saturating_sub(began));
        }
        self.requester.log_out(&token).await
    }
}

async fn withdraw(withdrawers: Vec<Withdrawer>, told: Shared, stop: watch::Receiver<bool>) -> Result<()> {
    let mut tasks = JoinSet::new();
    for withdrawer in withdrawers {
        tasks.spawn(withdrawer.go_on(told.clone(), stop.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

fn operator(world: &World) -> Result<RegistryOperator> {
    let [name, _] = OPERATORS;
    Ok(RegistryOperator::new(
        &world.access,
        name,
        &world.reach.registry_admin,
    )?)
}

/// Persons whom nobody asks for.
fn strangers(world: &World) -> Vec<usize> {
    let mut rng = rand::rng();
    let mut strangers = Vec::with_capacity(RECORDS);
    while strangers.len() < RECORDS {
        let person = rng.random_range(0..world.population.provided);
        if !world.population.has_card(person) {
            strangers.push(person);
        }
    }
    strangers
}

/// An operator who records non-provision. The wait that the provider adds is taken off.
async fn record(
    operator: RegistryOperator,
    strangers: Vec<usize>,
    clock: Arc<SystemClock>,
    told: Shared,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let ids = Ids::new(clock.clone());
    for person in strangers {
        if *stop.borrow() {
            break;
        }
        let (id, person_id) = (ids.next(), Population::person_id(person));
        let began = clock.monotonic();
        operator.record_non_provision(&id, Some(&person_id), None).await?;
        let took = clock.monotonic().saturating_sub(began).as_secs_f64() * 1_000.0;
        let beside = Duration::from_secs_f64((took - WAIT_AT_PROVIDER_MS).max(0.0) / 1_000.0);
        note(&told, "non_provision_record", beside);
    }
    Ok(())
}
