//! Finds secrets in bytes.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
};

use crate::secrets::START;

pub(crate) struct Search<'a> {
    by_start: HashMap<&'a [u8], Vec<&'a [u8]>>,
    /// Whether a secret begins with these three bytes: nearly nothing else has to be looked at closely.
    begins: Vec<bool>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(secrets: &'a BTreeSet<Vec<u8>>) -> Self {
        let mut by_start: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
        let mut begins = vec![false; 1 << 24];
        for secret in secrets {
            by_start.entry(&secret[..START]).or_default().push(secret);
            begins[three(secret)] = true;
        }
        Self { by_start, begins }
    }

    /// Every secret that stands in a file of the folder or below it, and how many bytes were looked at.
    pub(crate) fn below(&self, path: &Path) -> (usize, Vec<String>) {
        if path.is_file() {
            let content = fs::read(path).unwrap();
            return (content.len(), self.within(&content, &path.display().to_string()));
        }
        let (mut bytes, mut hits) = (0, Vec::new());
        for entry in fs::read_dir(path).unwrap() {
            let (more, found) = self.below(&entry.unwrap().path());
            bytes += more;
            hits.extend(found);
        }
        (bytes, hits)
    }

    /// Every secret that stands in these bytes, which are from there.
    pub(crate) fn within(&self, content: &[u8], from: &str) -> Vec<String> {
        let mut hits = Vec::new();
        let mut at = 0;
        while at + START <= content.len() {
            if self.begins[three(&content[at..])] {
                let candidates = self.by_start.get(&content[at..at + START]).into_iter().flatten();
                for secret in candidates.filter(|secret| content[at..].starts_with(secret)) {
                    let secret = String::from_utf8_lossy(secret);
                    hits.push(format!("{from} at {at}: {secret}"));
                }
            }
            at += 1;
        }
        hits
    }
}

fn three(bytes: &[u8]) -> usize {
    (usize::from(bytes[0]) << 16) | (usize::from(bytes[1]) << 8) | usize::from(bytes[2])
}
