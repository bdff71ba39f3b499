//! The provider instances of the registry side: which of them a batch goes to, and which is left alone for a while because it
//! failed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common::clock::Clock;
use koseki_proto::portal::admin::v1::ProviderSeen;
use tokio::sync::Notify;

use crate::provider_link::{ProviderLink, ProviderState};

/// For so long an instance that failed is left alone: it doubles from failure to failure, and an answer ends that.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// The lines to the provider instances. They stand on one database, so whatever one of them answers any of them would.
pub struct Providers {
    links: Vec<ProviderLink>,
    rota: Mutex<Rota>,
    clock: Arc<dyn Clock>,
    looked: Notify,
}

/// A batch's turn at an instance; over when this is dropped. Whoever had it says how it ended, if it was sent at all.
pub struct Turn<'a> {
    providers: &'a Providers,
    link: &'a ProviderLink,
    place: Place,
}

impl Providers {
    /// Over these lines.
    pub fn new(links: Vec<ProviderLink>, clock: Arc<dyn Clock>) -> Self {
        let standings = vec![Standing::default(); links.len()];
        Self {
            links,
            rota: Mutex::new(Rota {
                standings,
                batches: 0,
            }),
            clock,
            looked: Notify::new(),
        }
    }

    /// A batch begins: its instance, for the whole of its life. `None` when no instance provides.
    pub fn begin(&self) -> Option<Turn<'_>> {
        let good_at = |at: usize| Some(self.links.get(at)?.providing()?.seen_at());
        let place = self.rota().begin(self.clock.monotonic(), good_at)?;
        let link = self.links.get(place.at)?;
        Some(Turn {
            providers: self,
            link,
            place,
        })
    }

    /// The newest state of an instance that provides, if there is one.
    pub fn providing(&self) -> Option<ProviderState> {
        let states = self.links.iter().filter_map(ProviderLink::providing);
        states.max_by_key(ProviderState::seen_at)
    }

    /// The newest state of an instance that fits together with this side, if there is one.
    pub fn state(&self) -> Option<ProviderState> {
        let states = self.links.iter().filter_map(ProviderLink::state);
        states.max_by_key(ProviderState::seen_at)
    }

    /// The instances as they answered last; for operators.
    pub fn seen(&self) -> Vec<ProviderSeen> {
        let rota = self.rota();
        let instances = self.links.iter().zip(&rota.standings);
        let seen = |(link, standing): (&ProviderLink, &Standing)| ProviderSeen {
            left_alone: standing.failures > 0,
            ..link.seen()
        };
        instances.map(seen).collect()
    }

    /// The lines.
    pub fn links(&self) -> &[ProviderLink] {
        &self.links
    }

    /// Looks at the state of one instance again and again, for as long as the service runs.
    pub async fn keep_looking(self: Arc<Self>, at: usize) {
        let Some(link) = self.links.get(at) else {
            return;
        };
        loop {
            link.look().await;
            self.looked.notify_one();
            tokio::time::sleep(link.interval()).await;
        }
    }

    /// Waits until an instance was looked at.
    pub async fn looked(&self) {
        self.looked.notified().await;
    }

    fn rota(&self) -> MutexGuard<'_, Rota> {
        // Each change leaves it whole: a panic elsewhere does, too.
        self.rota.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Turn<'a> {
    /// The line to the instance.
    pub fn link(&self) -> &'a ProviderLink {
        self.link
    }

    /// The batch was answered: the instance is not left alone any more.
    pub fn answered(&self) {
        if self.providers.rota().answered(&self.place) {
            let instance = self.link.instance();
            tracing::info!(instance, "a provider instance that had failed answers again");
        }
    }

    /// The batch got no answer that could be used.
    pub fn failed(&self) {
        let now = self.providers.clock.monotonic();
        if let Some(pause) = self.providers.rota().failed(&self.place, now) {
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            let instance = self.link.instance();
            tracing::warn!(
                instance,
                pause_ms,
                "a provider instance has failed: it is left alone for a while"
            );
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.providers.rota().over(&self.place);
    }
}

/// How an instance has fared.
#[derive(Clone, Default)]
struct Standing {
    /// Batches that it has now.
    in_flight: u32,
    /// Number of its last batch, among those of all instances.
    last: u64,
    /// How often it has failed since it answered last.
    failures: u32,
    /// When it failed.
    failed_at: Duration,
    /// When its pause ends.
    until: Duration,
}

impl Standing {
    /// Until its pause is over and its state was good again afterwards, so that no batch tries one that does not answer at all;
    /// and then while one batch tries it.
    fn is_left_alone(&self, now: Duration, good_at: Duration) -> bool {
        self.failures > 0 && (now < self.until || good_at <= self.failed_at || self.in_flight > 0)
    }
}

/// An instance that was chosen, and how often it had failed by then.
struct Place {
    at: usize,
    failures: u32,
}

/// Whose turn it is.
struct Rota {
    standings: Vec<Standing>,
    batches: u64,
}

impl Rota {
    /// Of the good instances, the one with the fewest batches in flight, and of those the one that has waited longest: a batch is
    /// whole before its instance is chosen, so spreading makes none smaller, and nothing queues up behind a slow instance. While
    /// all of them are left alone, the one whose pause ends first: refusing would help nobody. `good_at` tells when the state of
    /// an instance that is good was asked for.
    fn begin(&mut self, now: Duration, good_at: impl Fn(usize) -> Option<Duration>) -> Option<Place> {
        let instances = self.standings.iter_mut().enumerate();
        let good = instances.filter_map(|(at, standing)| Some((at, good_at(at)?, standing)));
        let (at, _, standing) = good.min_by_key(|(_, good_at, standing)| {
            let pause = standing.is_left_alone(now, *good_at).then_some(standing.until);
            (pause, standing.in_flight, standing.last)
        })?;
        self.batches += 1;
        standing.last = self.batches;
        standing.in_flight += 1;
        let failures = standing.failures;
        Some(Place { at, failures })
    }

    /// An instance has answered; whether it had failed before.
    fn answered(&mut self, place: &Place) -> bool {
        let standing = self.standings.get_mut(place.at);
        standing.is_some_and(|standing| std::mem::take(&mut standing.failures) > 0)
    }

    /// An instance has failed: for how long it is left alone. Batches that were with it together have failed once.
    fn failed(&mut self, place: &Place, now: Duration) -> Option<Duration> {
        let standing = self.standings.get_mut(place.at)?;
        if standing.failures != place.failures {
            return None;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << standing.failures.min(10));
        let pause = pause.min(LONGEST_PAUSE);
        standing.failures = standing.failures.saturating_add(1);
        standing.failed_at = now;
        standing.until = now + pause;
        Some(pause)
    }

    /// A batch is with its instance no more.
    fn over(&mut self, place: &Place) {
        if let Some(standing) = self.standings.get_mut(place.at) {
            standing.in_flight = standing.in_flight.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::atomic::{AtomicU64, Ordering},
    };

    use common::{alarm::Alarms, clock::Timestamp, policy::Policies};
    use proptest::prelude::*;
    use tonic::transport::Endpoint;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Milliseconds that pass only when a test says so: however slow the machine is, a pause is not over before.
    #[derive(Default)]
    struct Still(AtomicU64);

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            // After the sample policy's beginning.
            Timestamp::from_unix_ms(1_800_000_000_000)
        }

        fn monotonic(&self) -> Duration {
            ms(self.0.load(Ordering::SeqCst))
        }
    }

    fn of(instances: usize) -> Rota {
        Rota {
            standings: vec![Standing::default(); instances],
            batches: 0,
        }
    }

    #[test]
    fn batches_are_spread_and_none_waits_behind_a_slow_instance() {
        let mut rota = of(3);
        let now = ms(0);
        let slow = rota.begin(now, |_| Some(ms(0))).unwrap();
        for expected in [1, 2, 1, 2] {
            let place = rota.begin(now, |_| Some(ms(0))).unwrap();
            assert_eq!(place.at, expected);
            rota.answered(&place);
            rota.over(&place);
        }
        rota.over(&slow);
        assert_eq!(rota.begin(now, |_| Some(ms(0))).unwrap().at, 0);
        assert_eq!(
            rota.begin(now, |at| (at == 0).then_some(ms(0))).unwrap().at,
            0,
            "another is not good"
        );
        assert!(rota.begin(now, |_| None).is_none());
    }

    #[test]
    fn what_fails_together_has_failed_once() {
        let mut rota = of(1);
        let together = [(); 3].map(|()| rota.begin(ms(0), |_| Some(ms(0))).unwrap());
        let pauses = together.each_ref().map(|place| rota.failed(place, ms(5)));
        assert_eq!(pauses, [Some(FIRST_PAUSE), None, None]);
    }

    #[test]
    fn the_pause_doubles_up_to_a_bound_and_an_answer_ends_that() {
        let mut rota = of(1);
        let fail = |rota: &mut Rota| {
            let place = rota.begin(ms(0), |_| Some(ms(0))).unwrap();
            let pause = rota.failed(&place, ms(0));
            rota.over(&place);
            pause.unwrap().as_millis()
        };
        let pauses = [(); 7].map(|()| fail(&mut rota));
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 8_000]);
        let place = rota.begin(ms(0), |_| Some(ms(0))).unwrap();
        assert!(rota.answered(&place));
        assert!(!rota.answered(&place), "it is told once");
        rota.over(&place);
        assert_eq!(fail(&mut rota), 250);
    }

    /// What happens to the instances.
    #[derive(Clone, Debug)]
    enum Step {
        Begin,
        /// Of the batches in flight, this one.
        Ends(prop::sample::Index, Option<bool>),
        Later(u64),
        /// Looks at the state of an instance.
        Look(usize, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Begin),
            4 => (any::<prop::sample::Index>(), prop::option::of(any::<bool>()))
                .prop_map(|(index, ended)| Step::Ends(index, ended)),
            2 => (1_u64..3_000).prop_map(Step::Later),
            2 => (0_usize..3, prop::bool::weighted(0.8)).prop_map(|(at, good)| Step::Look(at, good)),
        ]
    }

    /// What is known of an instance from what has happened, and nothing else.
    #[derive(Clone, Copy, Default)]
    struct Known {
        good_at: Option<u64>,
        with_it: usize,
        failed_since_answer: bool,
        failed_at: u64,
    }

    proptest! {
        #[test]
        fn a_batch_goes_to_a_good_instance_and_one_at_a_time_to_one_that_failed(
            steps in prop::collection::vec(step(), 1..120)
        ) {
            let mut rota = of(3);
            let mut known = [Known { good_at: Some(0), ..Known::default() }; 3];
            let mut in_flight: Vec<Place> = Vec::new();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Later(by) => now += by,
                    Step::Look(at, good) => known[at].good_at = good.then_some(now),
                    Step::Ends(index, ended) => {
                        if in_flight.is_empty() {
                            continue;
                        }
                        let place = in_flight.swap_remove(index.index(in_flight.len()));
                        let of = &mut known[place.at];
                        of.with_it -= 1;
                        if ended == Some(true) {
                            rota.answered(&place);
                            of.failed_since_answer = false;
                        } else if ended == Some(false) && rota.failed(&place, ms(now)).is_some() {
                            of.failed_since_answer = true;
                            of.failed_at = now;
                        }
                        rota.over(&place);
                    }
                    Step::Begin => {
                        let place = rota.begin(ms(now), |at| known[at].good_at.map(ms));
                        prop_assert_eq!(place.is_some(), known.iter().any(|known| known.good_at.is_some()));
                        let Some(place) = place else { continue };
                        let healthy = |known: &Known| known.good_at.is_some() && !known.failed_since_answer;
                        let chosen = known[place.at];
                        prop_assert!(chosen.good_at.is_some());
                        if known.iter().any(healthy) {
                            if chosen.failed_since_answer {
                                prop_assert_eq!(chosen.with_it, 0, "it is tried with one batch");
                                prop_assert!(now >= chosen.failed_at + 250, "it is left alone");
                                prop_assert!(chosen.good_at > Some(chosen.failed_at), "it answers nothing");
                            }
                            let fewest = known.iter().filter(|known| healthy(known)).map(|known| known.with_it).min();
                            prop_assert!(chosen.with_it <= fewest.unwrap());
                        }
                        // Nobody is left alone for ever.
                        for (at, other) in known.iter().enumerate() {
                            let free = other.good_at > Some(other.failed_at)
                                && other.with_it == 0
                                && now >= other.failed_at + 8_000;
                            prop_assert!(at == place.at || !free || chosen.with_it == 0);
                        }
                        known[place.at].with_it += 1;
                        in_flight.push(place);
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn an_instance_that_fails_is_tried_again_after_its_pause() {
        let clock = Arc::new(Still::default());
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/policy/provision-policy.toml");
        let suits = Box::new(|_: &common::policy::Policy| Ok(()));
        let policies = Policies::load(&file, None, suits, clock.clone(), Alarms::default()).unwrap();
        let policies = Arc::new(policies);
        let link = |name: &str| {
            let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
            let hour = Duration::from_secs(3_600);
            ProviderLink::new(channel, name.to_owned(), policies.clone(), hour, clock.clone())
        };
        let providers = Providers::new(vec![link("provider-1"), link("provider-2")], clock.clone());
        assert!(providers.begin().is_none(), "none was seen yet");
        for link in providers.links() {
            link.pretend_to_have_seen();
        }
        let one = |ended: fn(&Turn<'_>)| {
            let turn = providers.begin().unwrap();
            ended(&turn);
            turn.link().instance().to_owned()
        };
        let alone = || {
            providers
                .seen()
                .iter()
                .map(|seen| seen.left_alone)
                .collect::<Vec<_>>()
        };
        assert_eq!(one(|turn| turn.failed()), "provider-1");
        assert_eq!(alone(), [true, false]);
        for _ in 0..3 {
            assert_eq!(one(|turn| turn.answered()), "provider-2");
        }
        clock.0.store(250, Ordering::SeqCst);
        assert_eq!(
            one(|turn| turn.answered()),
            "provider-2",
            "it has not answered anything"
        );
        providers.links()[0].pretend_to_have_seen();
        let (trying, other) = (providers.begin().unwrap(), providers.begin().unwrap());
        assert_eq!(trying.link().instance(), "provider-1");
        assert_eq!(other.link().instance(), "provider-2");
        drop(other);
        assert_eq!(one(|turn| turn.answered()), "provider-2", "one batch tries it");
        trying.answered();
        drop(trying);
        assert_eq!(alone(), [false, false]);
        assert_eq!(one(|turn| turn.answered()), "provider-1");

        // With both left alone, the one whose pause ends first.
        assert_eq!(one(|turn| turn.failed()), "provider-2");
        assert_eq!(one(|turn| turn.failed()), "provider-1");
        assert_eq!(one(|turn| turn.failed()), "provider-2");
        assert_eq!(one(|turn| turn.answered()), "provider-1");
    }
}
