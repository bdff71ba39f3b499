//! Whether two samples of latencies can be told apart: the area under the ROC curve, which is the probability that one of the
//! first is longer than one of the second (Mann–Whitney, ties counting half). 0.5: not at all; 0 or 1: always.

use std::time::Duration;

/// The bound for samples of the stated size: within 0.05 of 0.5. Chance alone leads out of it once in 9,000 pairs.
const EFFECT: f64 = 0.05;
/// What the size is.
pub const STATED: usize = 1_000;
/// For smaller samples, what chance leads out of once in 140,000 pairs; a run has about a hundred.
const DEVIATIONS: f64 = 4.5;

/// The area.
pub fn auc(first: &[Duration], second: &[Duration]) -> f64 {
    let marked = |sample: &[Duration], mark| sample.iter().map(move |took| (*took, mark)).collect::<Vec<_>>();
    let mut all = marked(first, true);
    all.extend(marked(second, false));
    all.sort_unstable();
    let mut ranks = 0.0;
    let mut before = 0;
    for tied in all.chunk_by(|one, next| one.0 == next.0) {
        // Ranks count from 1; tied ones share their mean.
        let rank = count(before) + (count(tied.len()) + 1.0) / 2.0;
        ranks += rank * count(tied.iter().filter(|(_, of_first)| *of_first).count());
        before += tied.len();
    }
    let (n, m) = (count(first.len()), count(second.len()));
    (ranks - n * (n + 1.0) / 2.0) / (n * m)
}

/// How far from 0.5 the area of two samples of one distribution may be: 0.05, and for small samples as much as chance makes,
/// which is 0.28 for 42 of each, 0.20 for 84, and 0.15 for 150.
pub fn band(first: usize, second: usize) -> f64 {
    if first.min(second) >= STATED {
        return EFFECT;
    }
    let (n, m) = (count(first), count(second));
    let deviation = ((n + m + 1.0) / (12.0 * n * m)).sqrt();
    EFFECT.max(DEVIATIONS * deviation)
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(numbers: &[u64]) -> Vec<Duration> {
        numbers
            .iter()
            .map(|number| Duration::from_millis(*number))
            .collect()
    }

    fn is(area: f64, expected: f64) -> bool {
        (area - expected).abs() < 1e-9
    }

    #[test]
    fn it_is_the_probability_of_being_longer() {
        assert!(is(auc(&ms(&[4, 5, 6]), &ms(&[1, 2, 3])), 1.0));
        assert!(is(auc(&ms(&[1, 2, 3]), &ms(&[4, 5, 6])), 0.0));
        assert!(is(auc(&ms(&[1, 2]), &ms(&[1, 2])), 0.5));
        assert!(is(auc(&ms(&[7, 7, 7]), &ms(&[7, 7])), 0.5), "ties count half");
        // Of six pairs three are longer, and one is as long.
        assert!(is(auc(&ms(&[2, 5]), &ms(&[1, 2, 9])), 3.5 / 6.0));
    }

    #[test]
    fn the_band_is_the_effect_where_chance_is_small() {
        assert!(is(band(STATED, STATED), EFFECT));
        assert!(is(band(60, 60), 4.5 * (121.0 / 43_200.0_f64).sqrt()));
        for (size, stated) in [(42, 0.28), (84, 0.20), (150, 0.15)] {
            assert!((band(size, size) - stated).abs() < 0.01, "{size}");
        }
    }
}
