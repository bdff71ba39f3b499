//! A memory of what was used lately, which never grows beyond its bound.

use std::collections::HashMap;

/// Values under digests, in two generations: when the younger one is full, the older one is forgotten as a whole and the
/// younger one takes its place. What is looked up moves to the younger one, so what is in use stays.
pub struct Recent<V> {
    generation: usize,
    younger: HashMap<[u8; 32], V>,
    older: HashMap<[u8; 32], V>,
}

impl<V> Recent<V> {
    /// A memory of at most twice `generation` values; the last `generation` that were put in or looked up are there.
    pub fn new(generation: usize) -> Self {
        Self {
            generation,
            younger: HashMap::new(),
            older: HashMap::new(),
        }
    }

    /// The value of a key, if it is remembered.
    pub fn get(&mut self, key: &[u8; 32]) -> Option<&V> {
        if let Some(value) = self.older.remove(key) {
            self.insert(*key, value);
        }
        self.younger.get(key)
    }

    /// Remembers a value in place of the one that the key had.
    pub fn insert(&mut self, key: [u8; 32], value: V) {
        if self.younger.len() >= self.generation && !self.younger.contains_key(&key) {
            self.older = std::mem::take(&mut self.younger);
        }
        self.older.remove(&key);
        self.younger.insert(key, value);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.younger.clear();
        self.older.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> [u8; 32] {
        [number; 32]
    }

    #[test]
    fn what_is_in_use_stays_and_the_bound_holds() {
        let mut recent = Recent::new(3);
        recent.insert(key(0), 0);
        for number in 1..=100 {
            recent.insert(key(number), number);
            assert_eq!(recent.get(&key(0)), Some(&0), "{number}");
            assert_eq!(recent.get(&key(number)), Some(&number));
            assert!(recent.younger.len() <= 3 && recent.older.len() <= 3);
        }
        assert_eq!(recent.get(&key(50)), None);
        recent.insert(key(100), 7);
        assert_eq!(recent.get(&key(100)), Some(&7));
        recent.clear();
        assert_eq!(recent.get(&key(0)), None);
    }
}
