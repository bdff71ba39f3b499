//! The copies, in files: making them is not what is measured.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use devkit::registers::Families;

/// The files of one part: whose, and which.
pub(crate) type Part = BTreeMap<String, PathBuf>;

/// Generated copies, in parts of which each has a file for each municipality.
pub(crate) struct Copies {
    pub(crate) parts: Vec<Part>,
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

impl Copies {
    /// Writes them; the seed decides all of their bytes.
    pub(crate) fn write(directory: &Path, seed: u64, count: usize, parts: usize) -> Self {
        let mut this = Self {
            parts: Vec::new(),
            count: 0,
            bytes: 0,
        };
        let mut files: BTreeMap<String, BufWriter<File>> = BTreeMap::new();
        let mut part = Part::new();
        for family in Families::new(seed, count) {
            for copy in family.unwrap().copies {
                let file = files.entry(copy.municipality_code).or_insert_with_key(|code| {
                    let path = directory.join(format!("{}-{code}.jsonl", this.parts.len()));
                    part.insert(code.clone(), path.clone());
                    BufWriter::new(File::create(path).unwrap())
                });
                writeln!(file, "{}", copy.line).unwrap();
                this.count += 1;
                this.bytes += copy.line.len();
            }
            if this.count >= count * (this.parts.len() + 1) / parts {
                files.values_mut().for_each(|file| file.flush().unwrap());
                files.clear();
                this.parts.push(std::mem::take(&mut part));
            }
        }
        assert_eq!((this.parts.len(), this.count), (parts, count));
        this
    }
}
