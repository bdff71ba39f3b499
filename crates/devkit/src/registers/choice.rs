//! Choosing one of a fixed, never empty list.

use rand::Rng;

/// A list with at least one entry, so that choosing from it cannot fail.
pub(super) struct Choice<T: 'static> {
    first: T,
    rest: &'static [T],
}

impl<T> Choice<T> {
    /// The entries.
    pub(super) const fn of(first: T, rest: &'static [T]) -> Self {
        Self { first, rest }
    }

    /// One of them, each as likely as the others.
    pub(super) fn pick(&self, rng: &mut impl Rng) -> &T {
        let position = rng.random_range(0..=self.rest.len());
        position
            .checked_sub(1)
            .and_then(|index| self.rest.get(index))
            .unwrap_or(&self.first)
    }
}
