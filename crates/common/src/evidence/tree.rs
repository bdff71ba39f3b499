//! The log's Merkle tree (RFC 6962): what a commit needs of it, which is its frontier.

use tlog_tiles::tlog::{EMPTY_HASH, Hash, node_hash, record_hash};

/// Length of a hash, in bytes.
pub const HASH_BYTES: usize = 32;

/// The roots of the complete subtrees that a tree of some size is made of, the largest first: all that is needed to append to
/// it and to know its root.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// Reads a frontier as it is stored; `None` when it is not that of a tree of this size.
    pub fn read(size: u64, stored: &[u8]) -> Option<Self> {
        let (hashes, rest) = stored.as_chunks::<HASH_BYTES>();
        let fits = rest.is_empty() && u32::try_from(hashes.len()).ok()? == size.count_ones();
        fits.then(|| Self {
            size,
            roots: hashes.iter().map(|hash| Hash(*hash)).collect(),
        })
    }

    /// As it is stored: its hashes, one after the other.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.roots.iter().flat_map(|root| root.0).collect()
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf. What is complete with it is added to `hashes`: the leaf's own hash, then the roots of the subtrees that
    /// it is the last leaf of, from small to large, which is the order of `tlog_tiles`.
    pub fn append(&mut self, leaf: &[u8], hashes: &mut Vec<u8>) {
        let mut hash = record_hash(leaf);
        hashes.extend_from_slice(&hash.0);
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                hash = node_hash(left, hash);
                hashes.extend_from_slice(&hash.0);
            }
        }
        self.roots.push(hash);
        self.size += 1;
    }

    /// The tree's root.
    pub fn root(&self) -> [u8; HASH_BYTES] {
        let root = self
            .roots
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| node_hash(left, right));
        root.unwrap_or(EMPTY_HASH).0
    }
}

#[cfg(test)]
mod tests {
    use tlog_tiles::tlog::{stored_hash_count, stored_hash_index, stored_hashes, tree_hash};

    use super::*;

    #[test]
    fn it_grows_as_the_library_says() {
        let mut frontier = Frontier::default();
        let mut ours = Vec::new();
        let mut theirs: Vec<Hash> = Vec::new();
        for number in 0..300_u64 {
            let leaf = number.to_be_bytes();
            let read = |theirs: &[Hash], indexes: &[u64]| {
                Ok(indexes
                    .iter()
                    .map(|index| theirs[usize::try_from(*index).unwrap()])
                    .collect())
            };
            let reader = Reader(&theirs, read);
            let new = stored_hashes(number, &leaf, &reader).unwrap();
            assert_eq!(stored_hash_index(0, number), u64::try_from(theirs.len()).unwrap());
            theirs.extend(new);
            frontier.append(&leaf, &mut ours);
            assert_eq!(ours.len(), theirs.len() * HASH_BYTES);
            assert_eq!(
                stored_hash_count(number + 1),
                u64::try_from(theirs.len()).unwrap()
            );
            let root = tree_hash(number + 1, &Reader(&theirs, read)).unwrap();
            assert_eq!(frontier.root(), root.0);
            assert_eq!(
                Frontier::read(number + 1, &frontier.to_bytes()),
                Some(frontier.clone())
            );
            assert_eq!(Frontier::read(number + 2, &frontier.to_bytes()).is_some(), {
                (number + 2).count_ones() == (number + 1).count_ones()
            });
        }
        let flat: Vec<u8> = theirs.iter().flat_map(|hash| hash.0).collect();
        assert_eq!(ours, flat);
        assert_eq!(Frontier::default().root(), EMPTY_HASH.0);
    }

    struct Reader<'a, F>(&'a [Hash], F);

    impl<F> tlog_tiles::tlog::HashReader for Reader<'_, F>
    where
        F: Fn(&[Hash], &[u64]) -> Result<Vec<Hash>, tlog_tiles::tlog::Error>,
    {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::tlog::Error> {
            (self.1)(self.0, indexes)
        }
    }
}
