//! The tree of RFC 6962 over leaves that come one after the other: what is kept of it is as small as its height.

use aws_lc_rs::digest::{Context, SHA256};

/// A SHA-256.
pub(crate) type Hash = [u8; 32];

/// SHA-256 of the parts, one after the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Hash of a leaf.
pub(crate) fn leaf_hash(leaf: &[u8]) -> Hash {
    sha256(&[&[0], leaf])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// A tree of so many leaves, as the roots of its complete subtrees, the largest first.
#[derive(Clone, Default)]
pub(crate) struct Tree {
    size: u64,
    roots: Vec<Hash>,
}

impl Tree {
    /// One that is known by its complete subtrees; `None` when they are not those of a tree of this size.
    pub(crate) fn known(size: u64, roots: &[Vec<u8>]) -> Option<Self> {
        let roots: Vec<Hash> = roots
            .iter()
            .map(|root| root.as_slice().try_into().ok())
            .collect::<Option<_>>()?;
        (u32::try_from(roots.len()).ok()? == size.count_ones()).then_some(Self { size, roots })
    }

    /// How many leaves it has.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its hash.
    pub(crate) fn append(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                hash = node(&left, &hash);
            }
        }
        self.roots.push(hash);
        self.size += 1;
    }

    /// Its root.
    pub(crate) fn root(&self) -> Hash {
        let joined = self
            .roots
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| node(&left, &right));
        joined.unwrap_or_else(|| sha256(&[]))
    }

    /// The complete subtrees and where each begins and ends.
    fn parts(&self) -> impl Iterator<Item = (u64, u64, &Hash)> {
        let mut from = 0;
        let levels = (0..u64::BITS).rev().filter(|level| self.size >> level & 1 == 1);
        levels.zip(&self.roots).map(move |(level, root)| {
            let begin = from;
            from += 1_u64 << level;
            (begin, from, root)
        })
    }
}

/// The root of some leaves of a log, from one to before another, taken from leaves as they pass.
pub(crate) struct Range {
    from: u64,
    to: u64,
    tree: Tree,
}

impl Range {
    /// What is known of the log before its leaves pass counts as well.
    fn new((from, to): (u64, u64), before: &Tree) -> Self {
        let inside = before
            .parts()
            .filter(|(begin, end, _)| *begin >= from && *end <= to);
        let mut tree = Tree::default();
        for (begin, end, root) in inside {
            tree.roots.push(*root);
            tree.size += end - begin;
        }
        Self { from, to, tree }
    }

    fn take(&mut self, index: u64, leaf: Hash) {
        if (self.from..self.to).contains(&index) {
            self.tree.append(leaf);
        }
    }

    fn root(&self) -> Option<Hash> {
        (self.tree.size == self.to - self.from).then(|| self.tree.root())
    }
}

/// The inclusion proof of one leaf in a tree of a size, taken from leaves as they pass (RFC 6962 §2.1.1).
pub(crate) struct Proof {
    /// Index of the leaf.
    pub(crate) index: u64,
    ranges: Vec<Range>,
}

impl Proof {
    /// Of a leaf in a tree of which this much is known before its leaves pass.
    pub(crate) fn new(index: u64, size: u64, before: &Tree) -> Self {
        let mut ranges = Vec::new();
        let (mut lo, mut hi) = (0, size);
        while hi - lo > 1 {
            let half = (hi - lo).next_power_of_two() / 2;
            let middle = lo + half;
            if index < middle {
                ranges.push(Range::new((middle, hi), before));
                hi = middle;
            } else {
                ranges.push(Range::new((lo, middle), before));
                lo = middle;
            }
        }
        // From the leaf up.
        ranges.reverse();
        Self { index, ranges }
    }

    /// A leaf passes.
    pub(crate) fn take(&mut self, index: u64, leaf: Hash) {
        for range in &mut self.ranges {
            range.take(index, leaf);
        }
    }

    /// The hashes, from the leaf up, when all leaves have passed.
    pub(crate) fn hashes(&self) -> Option<Vec<Hash>> {
        self.ranges.iter().map(Range::root).collect()
    }
}

#[cfg(test)]
mod tests {
    use tlog_tiles::tlog;

    use super::*;

    /// The other implementation accepts what this one makes, from whatever place on the leaves are read.
    #[test]
    fn roots_and_proofs_are_those_of_the_library() {
        for size in 1..40_u64 {
            for begin in 0..size {
                let leaves: Vec<Hash> = (0..size).map(|index| leaf_hash(&index.to_be_bytes())).collect();
                let mut before = Tree::default();
                let mut whole = Tree::default();
                for (index, leaf) in (0..).zip(&leaves) {
                    whole.append(*leaf);
                    if index < begin {
                        before.append(*leaf);
                    }
                }
                for index in begin..size {
                    let mut proof = Proof::new(index, size, &before);
                    for (passing, leaf) in (0..).zip(&leaves) {
                        if passing >= begin {
                            proof.take(passing, *leaf);
                        }
                    }
                    let hashes = proof.hashes().unwrap();
                    let hashes = hashes.into_iter().map(tlog::Hash).collect();
                    let leaf = tlog::record_hash(&index.to_be_bytes());
                    tlog::check_record(&hashes, size, tlog::Hash(whole.root()), index, leaf).unwrap();
                }
            }
        }
    }

    #[test]
    fn the_library_knows_no_other_empty_tree() {
        assert_eq!(Tree::default().root(), tlog::EMPTY_HASH.0);
    }
}
