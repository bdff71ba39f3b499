//! Bundles and entries, decoded and checked by themselves.

use koseki_proto::koseki::evidence::v1::{
    Bundle as Encoded, Entry as EncodedEntry, ExportedBundle, GuardAct, GuardActDetail, LostAnswer,
    LostAnswerDetail, OrdinaryAct, OrdinaryActDetail, Provision, ProvisionDetail, Public, Restricted, public,
    restricted,
};
use prost::Message as _;

use crate::{
    moment,
    tree::{self, Hash},
    words::Trouble,
};

/// Entries of a bundle at most.
const MAX_ENTRIES: usize = 4_096;
/// Length of a public part at most, in bytes.
const MAX_PUBLIC: usize = 512;
/// Length of a restricted part at most, in bytes.
const MAX_RESTRICTED: usize = 2_048;

/// A bundle as it was exported.
pub(crate) struct Bundle {
    /// Its number.
    pub(crate) number: u64,
    /// Its epoch; `None` when its body was archived.
    pub(crate) epoch: Option<u64>,
    /// When it was made, in milliseconds since 1970.
    pub(crate) at_ms: Option<i64>,
    /// The index of its first entry, as it says itself.
    pub(crate) first_index: Option<u64>,
    /// The log that it says it is of.
    pub(crate) log: Option<String>,
    /// Hashes of its leaves.
    pub(crate) leaves: Vec<Hash>,
    /// Its entries; none when its body was archived.
    pub(crate) entries: Vec<Entry>,
}

/// An entry that could be read.
pub(crate) struct Entry {
    /// Its place in the bundle.
    pub(crate) at: usize,
    /// What happened.
    pub(crate) event: Event,
    /// What of it differs from its bundle.
    pub(crate) differs: Vec<Trouble>,
}

/// What happened.
pub(crate) enum Event {
    /// A request was answered or refused.
    Provision(Box<(Provision, ProvisionDetail)>),
    /// An act that forbids releases, or lifts one.
    Guard(Box<(GuardAct, GuardActDetail)>),
    /// An act that forbids nothing.
    Ordinary(OrdinaryAct, OrdinaryActDetail),
    /// An answer was lost.
    Lost(Box<(LostAnswer, LostAnswerDetail)>),
    /// It cannot be read.
    Unreadable,
}

impl Bundle {
    /// Reads an exported bundle; `None` when it is none.
    pub(crate) fn read(exported: &ExportedBundle) -> Option<Self> {
        if exported.body.is_empty() {
            return Self::archived(exported);
        }
        let bundle = Encoded::decode(exported.body.as_slice()).ok()?;
        if !exported.leaf_hashes.is_empty() || !(1..=MAX_ENTRIES).contains(&bundle.entries.len()) {
            return None;
        }
        let at_ms = bundle.at.as_ref().and_then(moment::ms);
        let leaves = bundle.entries.iter().map(|entry| leaf(entry).1).collect();
        let entries = bundle.entries.iter().enumerate();
        Some(Self {
            number: exported.number,
            entries: entries.map(|(at, entry)| read(at, entry, &bundle)).collect(),
            epoch: Some(bundle.epoch),
            at_ms,
            first_index: Some(bundle.first_index),
            log: Some(bundle.log),
            leaves,
        })
    }

    fn archived(exported: &ExportedBundle) -> Option<Self> {
        let (leaves, rest) = exported.leaf_hashes.as_chunks::<32>();
        (rest.is_empty() && (1..=MAX_ENTRIES).contains(&leaves.len())).then(|| Self {
            number: exported.number,
            epoch: None,
            at_ms: None,
            first_index: None,
            log: None,
            leaves: leaves.to_vec(),
            entries: Vec::new(),
        })
    }

    /// Whether it has an act that forbids or lifts.
    pub(crate) fn has_guard_act(&self) -> bool {
        let guard = |entry: &Entry| matches!(entry.event, Event::Guard(_));
        self.entries.iter().any(guard)
    }

    /// The public part and the commitment of an entry of an exported bundle.
    pub(crate) fn parts(exported: &ExportedBundle, at: usize) -> Option<(Vec<u8>, Hash)> {
        let bundle = Encoded::decode(exported.body.as_slice()).ok()?;
        let entry = bundle.entries.get(at)?;
        Some((entry.public.clone(), leaf(entry).0))
    }
}

/// The commitment and the leaf's hash.
fn leaf(entry: &EncodedEntry) -> (Hash, Hash) {
    let commitment = tree::sha256(&[&entry.salt, &entry.restricted]);
    let leaf = [entry.public.as_slice(), &commitment].concat();
    (commitment, tree::leaf_hash(&leaf))
}

fn read(at: usize, entry: &EncodedEntry, bundle: &Encoded) -> Entry {
    let parts = parts(entry);
    let Some((public, restricted, event)) = parts else {
        return Entry {
            at,
            event: Event::Unreadable,
            differs: Vec::new(),
        };
    };
    let mut differs = Vec::new();
    if public.epoch != bundle.epoch {
        differs.push(Trouble::EntryEpoch);
    }
    let second = bundle.at.as_ref().and_then(|at| u64::try_from(at.seconds).ok());
    if second != Some(public.at_unix_s) || restricted.at != bundle.at {
        differs.push(Trouble::EntryTime);
    }
    Entry { at, event, differs }
}

fn parts(entry: &EncodedEntry) -> Option<(Public, Restricted, Event)> {
    let sized = entry.salt.len() == 32
        && entry.public.len() <= MAX_PUBLIC
        && entry.restricted.len() <= MAX_RESTRICTED;
    if !sized {
        return None;
    }
    let mut public = Public::decode(entry.public.as_slice()).ok()?;
    let mut restricted = Restricted::decode(entry.restricted.as_slice()).ok()?;
    let event = match (public.event.take()?, restricted.detail.take()?) {
        (public::Event::Provision(event), restricted::Detail::Provision(detail)) => {
            Event::Provision(Box::new((event, detail)))
        }
        (public::Event::GuardAct(event), restricted::Detail::GuardAct(detail)) => {
            Event::Guard(Box::new((event, detail)))
        }
        (public::Event::OrdinaryAct(event), restricted::Detail::OrdinaryAct(detail)) => {
            Event::Ordinary(event, detail)
        }
        (public::Event::LostAnswer(event), restricted::Detail::LostAnswer(detail)) => {
            Event::Lost(Box::new((event, detail)))
        }
        _ => return None,
    };
    Some((public, restricted, event))
}
