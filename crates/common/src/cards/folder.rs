//! The folder that revocation lists are put into: each file is read once, and again when it has changed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    card::{CardRoots, ListNumber, MAX_LIST_BYTES, RevocationList, RevocationLists},
    files::{self, FileError},
};

/// Files at most: one for each root, and some that are being replaced.
const MAX_FILES: usize = 64;

/// The folder, and what came of each file.
pub(super) struct Folder {
    directory: PathBuf,
    files: BTreeMap<PathBuf, Seen>,
}

struct Seen {
    stamp: Option<Stamp>,
    outcome: Result<Found, String>,
}

/// A list that a file holds.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) issuer: [u8; 32],
    pub(super) number: ListNumber,
    pub(super) sha256: [u8; 32],
}

/// What changes with a file: which one it is, its length, and when it was changed last by its own word and the system's.
#[derive(PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Folder {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            files: BTreeMap::new(),
        }
    }

    /// Reads what has changed since the last time: of each root the newest list among it.
    pub(super) fn read_changed(&mut self, roots: &CardRoots) -> Result<RevocationLists, FileError> {
        let paths = files::list(&self.directory, "crl")?;
        if paths.len() > MAX_FILES {
            let rule = format!("must hold at most {MAX_FILES} lists as *.crl");
            return Err(FileError::content(&self.directory, rule));
        }
        self.files.retain(|path, _| paths.contains(path));
        let mut changed = RevocationLists::default();
        for path in paths {
            let stamp = fs::metadata(&path).ok().map(|metadata| Stamp::of(&metadata));
            if stamp.is_some() && self.files.get(&path).is_some_and(|seen| seen.stamp == stamp) {
                continue;
            }
            let list = read(&path, roots);
            let outcome = list.as_ref().map(found).map_err(Clone::clone);
            if let Ok(list) = list
                && changed
                    .of(&list.issuer)
                    .is_none_or(|known| known.number < list.number)
            {
                changed.put(Arc::new(list));
            }
            self.files.insert(path, Seen { stamp, outcome });
        }
        Ok(changed)
    }

    /// The files that hold no list that could be taken, and why.
    pub(super) fn faults(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.files.iter().filter_map(|(path, seen)| {
            let rule = seen.outcome.as_ref().err()?;
            Some((path.as_path(), rule.as_str()))
        })
    }

    /// Of each root the newest list that lies there, and in which file.
    pub(super) fn newest(&self) -> Vec<(&Path, Found)> {
        let mut newest: Vec<(&Path, Found)> = Vec::new();
        for (path, seen) in &self.files {
            let Ok(found) = seen.outcome else { continue };
            match newest.iter_mut().find(|(_, known)| known.issuer == found.issuer) {
                Some(known) if known.1.number < found.number => *known = (path, found),
                Some(_) => {}
                None => newest.push((path, found)),
            }
        }
        newest
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn found(list: &RevocationList) -> Found {
    Found {
        issuer: list.issuer,
        number: list.number,
        sha256: list.sha256,
    }
}

fn read(path: &Path, roots: &CardRoots) -> Result<RevocationList, String> {
    let mut der = Vec::new();
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    // Room for all of it at once: memory that grows would be twice as much for a while.
    der.reserve_exact(usize::try_from(length.min(MAX_LIST_BYTES)).unwrap_or_default());
    file.take(MAX_LIST_BYTES + 1)
        .read_to_end(&mut der)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(der.len()).is_ok_and(|length| length > MAX_LIST_BYTES) {
        return Err(format!("must not be longer than {MAX_LIST_BYTES} bytes"));
    }
    roots.revocation_list(&der).map_err(str::to_owned)
}
