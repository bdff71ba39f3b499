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

struct Family {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    counts: Counts,
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
            counts: counts.clone(),
        };
        // Each change is one push: a panic elsewhere leaves the list whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(family);
        Counter {
            counts,
            label: PhantomData,
        }
    }

    /// All of them in the text format of Prometheus, version 0.0.4.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for family in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let Family {
                name,
                help,
                label,
                counts,
            } = family;
            // Writing to a String does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
            for (value, count) in counts.iter() {
                let count = count.load(Ordering::Relaxed);
                let _ = writeln!(text, "{name}{{{label}=\"{value}\"}} {count}");
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
}
