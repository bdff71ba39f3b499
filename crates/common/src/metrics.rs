//! What a service counts, as Prometheus reads it on the operations port. Names stand in each side's `metrics.rs` and in
//! docs/metrics.md; a label has a closed set of values, which is a type, so that nothing personal can become one (I5).

use std::{
    fmt::Write as _,
    marker::PhantomData,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// A label's values.
pub trait Label: Copy + 'static {
    /// Name of the label.
    const NAME: &'static str;
    /// Every value.
    const ALL: &'static [Self];
    /// The value as it is written.
    fn value(self) -> &'static str;
}

type Counts = Arc<[(&'static str, AtomicU64)]>;

/// A counter for each value of a label. Clones are the same counters.
pub struct Counter<L> {
    counts: Counts,
    label: PhantomData<fn(L)>,
}

impl<L> Clone for Counter<L> {
    fn clone(&self) -> Self {
        Self {
            counts: self.counts.clone(),
            label: PhantomData,
        }
    }
}

impl<L: Label> Counter<L> {
    /// Counts.
    pub fn add(&self, of: L, by: u64) {
        let counted = self.counts.iter().find(|(value, _)| *value == of.value());
        if let Some((_, count)) = counted {
            count.fetch_add(by, Ordering::Relaxed);
        }
    }
}

/// A distribution for each value of a label. Clones are the same.
pub struct Histogram<L> {
    observed: Arc<[(&'static str, Observed)]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> Histogram<L> {
    /// That of one value of the label.
    pub fn of(&self, of: L) -> Observed {
        let found = self.observed.iter().find(|(value, _)| *value == of.value());
        found.map(|(_, observed)| observed.clone()).unwrap_or_default()
    }
}

/// What was observed of one value of a label. Clones are the same.
#[derive(Clone, Default)]
pub struct Observed(Arc<Buckets>);

#[derive(Default)]
struct Buckets {
    /// How many were observed up to each bound, each once.
    counts: Vec<(u64, AtomicU64)>,
    above: AtomicU64,
    sum: AtomicU64,
}

impl Observed {
    fn new(bounds: &[u64]) -> Self {
        Self(Arc::new(Buckets {
            counts: bounds.iter().map(|bound| (*bound, AtomicU64::new(0))).collect(),
            ..Buckets::default()
        }))
    }

    /// Observes a value, in the histogram's unit.
    pub fn observe(&self, value: u64) {
        let bucket = self.0.counts.iter().find(|(bound, _)| value <= *bound);
        bucket
            .map_or(&self.0.above, |(_, count)| count)
            .fetch_add(1, Ordering::Relaxed);
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }

    fn render(&self, name: &str, label: &str, text: &mut String) {
        let mut total = 0;
        for (bound, count) in &self.0.counts {
            total += count.load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}_bucket{{{label},le=\"{bound}\"}} {total}");
        }
        total += self.0.above.load(Ordering::Relaxed);
        let sum = self.0.sum.load(Ordering::Relaxed);
        let _ = writeln!(text, "{name}_bucket{{{label},le=\"+Inf\"}} {total}");
        let _ = writeln!(
            text,
            "{name}_sum{{{label}}} {sum}\n{name}_count{{{label}}} {total}"
        );
    }
}

struct Family {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    kind: Kind,
}

enum Kind {
    Counter(Counts),
    Histogram(Arc<[(&'static str, Observed)]>),
}

/// The metrics of a service. Clones are the same metrics.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Vec<Family>>>);

impl Metrics {
    /// Adds counters, all at zero: a value that was never counted is there from the start.
    pub fn counter<L: Label>(&self, name: &'static str, help: &'static str) -> Counter<L> {
        let counts: Counts = L::ALL
            .iter()
            .map(|label| (label.value(), AtomicU64::new(0)))
            .collect();
        let family = Family {
            name,
            help,
            label: L::NAME,
            kind: Kind::Counter(counts.clone()),
        };
        self.add(family);
        Counter {
            counts,
            label: PhantomData,
        }
    }

    /// Adds distributions over buckets with these upper bounds, in the unit that the name ends with.
    pub fn histogram<L: Label>(
        &self,
        name: &'static str,
        help: &'static str,
        bounds: &'static [u64],
    ) -> Histogram<L> {
        let observed: Arc<[_]> = L::ALL
            .iter()
            .map(|label| (label.value(), Observed::new(bounds)))
            .collect();
        self.add(Family {
            name,
            help,
            label: L::NAME,
            kind: Kind::Histogram(observed.clone()),
        });
        Histogram {
            observed,
            label: PhantomData,
        }
    }

    fn add(&self, family: Family) {
        // Each change is one push: a panic elsewhere leaves the list whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(family);
    }

    /// All of them in the text format of Prometheus, version 0.0.4.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for family in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let Family {
                name,
                help,
                label,
                kind,
            } = family;
            // Writing to a String does not fail.
            match kind {
                Kind::Counter(counts) => {
                    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
                    for (value, count) in counts.iter() {
                        let count = count.load(Ordering::Relaxed);
                        let _ = writeln!(text, "{name}{{{label}=\"{value}\"}} {count}");
                    }
                }
                Kind::Histogram(observed) => {
                    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
                    for (value, observed) in observed.iter() {
                        observed.render(name, &format!("{label}=\"{value}\""), &mut text);
                    }
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Side {
        Left,
        Right,
    }

    impl Label for Side {
        const NAME: &'static str = "side";
        const ALL: &'static [Self] = &[Self::Left, Self::Right];

        fn value(self) -> &'static str {
            match self {
                Self::Left => "left",
                Self::Right => "right",
            }
        }
    }

    #[test]
    fn counters_are_there_from_the_start_and_count() {
        let metrics = Metrics::default();
        let counter = metrics.counter::<Side>("koseki_test_total", "What a test counts.");
        counter.clone().add(Side::Right, 2);
        counter.add(Side::Right, 1);
        assert_eq!(
            metrics.render(),
            "# HELP koseki_test_total What a test counts.\n# TYPE koseki_test_total counter\n\
             koseki_test_total{side=\"left\"} 0\nkoseki_test_total{side=\"right\"} 3\n"
        );
    }

    #[test]
    fn a_histogram_has_everything_up_to_each_bound() {
        let metrics = Metrics::default();
        let histogram = metrics.histogram::<Side>("koseki_test_size", "Sizes.", &[1, 10]);
        for value in [1, 2, 10, 11] {
            histogram.of(Side::Left).observe(value);
        }
        let text = metrics.render();
        for line in [
            "# TYPE koseki_test_size histogram",
            "koseki_test_size_bucket{side=\"left\",le=\"1\"} 1",
            "koseki_test_size_bucket{side=\"left\",le=\"10\"} 3",
            "koseki_test_size_bucket{side=\"left\",le=\"+Inf\"} 4",
            "koseki_test_size_sum{side=\"left\"} 24",
            "koseki_test_size_count{side=\"left\"} 4",
            "koseki_test_size_count{side=\"right\"} 0",
        ] {
            assert!(text.lines().any(|has| has == line), "{line}\n{text}");
        }
    }
}
