//! One at a time for each peer: what a peer can ask for again and again, and costs more than to ask.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Who is being served.
#[derive(Debug, Default)]
pub struct Turns(Mutex<BTreeSet<String>>);

/// Somebody is being served until this is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    turns: &'a Turns,
    who: String,
}

impl Turns {
    /// The turn of `who`; `None` while the one before lasts.
    pub fn take(&self, who: &str) -> Option<Turn<'_>> {
        self.held().insert(who.to_owned()).then(|| Turn {
            turns: self,
            who: who.to_owned(),
        })
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // Each change is one operation on the set: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.held().remove(&self.who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_one_turn_at_a_time() {
        let turns = Turns::default();
        let first = turns.take("a");
        assert!(first.is_some());
        assert!(turns.take("a").is_none());
        assert!(turns.take("b").is_some());
        drop(first);
        assert!(turns.take("a").is_some());
    }
}
