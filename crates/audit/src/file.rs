//! Exported files: parts with their lengths before them. One part is in memory at a time.

use std::{
    fs::File,
    io::{self, BufReader, Read as _},
    path::{Path, PathBuf},
};

use koseki_proto::koseki::evidence::v1::{ExportEnd, ExportHeader, ExportPart, export_part::Part};
use prost::Message as _;

use crate::words::Gap;

/// Length of a part at most, in bytes.
const MAX_PART_BYTES: u64 = 16 * 1024 * 1024;
/// The format that this program reads.
const FORMAT: u32 = 1;
/// What a part that is a bundle begins with: field 2, with its length.
const BUNDLE: u8 = 2 << 3 | 2;

/// Why a file cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileFault {
    /// It is not there, or cannot be read.
    Unreadable,
    /// It is not an exported log, or of another format.
    NotAnExport,
    /// It ends before its end.
    CutOff,
    /// Something is behind its end.
    GoesOn,
}

impl FileFault {
    /// Why nothing behind it was checked.
    pub(crate) fn gap(self) -> Gap {
        match self {
            Self::Unreadable => Gap::FileUnreadable,
            Self::NotAnExport => Gap::NotAnExport,
            Self::CutOff => Gap::CutOff,
            Self::GoesOn => Gap::GoesOn,
        }
    }
}

/// What is at the ends of a file.
pub(crate) struct Outline {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its beginning.
    pub(crate) header: ExportHeader,
    /// Its end, or why it has none.
    pub(crate) end: Result<ExportEnd, FileFault>,
}

impl Outline {
    /// Goes through a file without looking into its bundles.
    pub(crate) fn read(path: &Path) -> Result<Self, FileFault> {
        let mut parts = Parts::open(path)?;
        let header = match parts.next() {
            Ok(Some(Part::Header(header))) => header,
            Err(FileFault::Unreadable) => return Err(FileFault::Unreadable),
            _ => return Err(FileFault::NotAnExport),
        };
        if header.format != FORMAT || header.origin.is_empty() || header.origin.len() > 255 {
            return Err(FileFault::NotAnExport);
        }
        let end = loop {
            match parts.next_but_bundles() {
                Ok(None) => break Err(FileFault::CutOff),
                Ok(Some(Part::End(end))) => {
                    break match parts.is_over() {
                        true => Ok(end),
                        false => Err(FileFault::GoesOn),
                    };
                }
                Ok(Some(Part::Bundle(_))) => {}
                Ok(Some(Part::Header(_))) => break Err(FileFault::NotAnExport),
                Err(fault) => break Err(fault),
            }
        };
        Ok(Self {
            path: path.to_owned(),
            header,
            end,
        })
    }
}

/// The parts of a file, in order.
pub(crate) struct Parts {
    file: BufReader<File>,
    length: u64,
    place: u64,
}

impl Parts {
    /// Opens a file.
    pub(crate) fn open(path: &Path) -> Result<Self, FileFault> {
        let file = File::open(path).map_err(|_| FileFault::Unreadable)?;
        let length = file.metadata().map_err(|_| FileFault::Unreadable)?.len();
        Ok(Self {
            file: BufReader::with_capacity(256 * 1024, file),
            length,
            place: 0,
        })
    }

    fn is_over(&self) -> bool {
        self.place >= self.length
    }

    /// The next part; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Part>, FileFault> {
        match self.length_of_part()? {
            Some(length) => self.part(length).map(Some),
            None => Ok(None),
        }
    }

    /// The next part that is no bundle.
    fn next_but_bundles(&mut self) -> Result<Option<Part>, FileFault> {
        while let Some(length) = self.length_of_part()? {
            let mut first = [0];
            self.file.read_exact(&mut first).map_err(read_fault)?;
            if first != [BUNDLE] {
                self.file.seek_relative(-1).map_err(|_| FileFault::Unreadable)?;
                return self.part(length).map(Some);
            }
            if self.place + length > self.length {
                return Err(FileFault::CutOff);
            }
            let rest = i64::try_from(length - 1).map_err(|_| FileFault::NotAnExport)?;
            self.file.seek_relative(rest).map_err(|_| FileFault::Unreadable)?;
            self.place += length;
        }
        Ok(None)
    }

    fn length_of_part(&mut self) -> Result<Option<u64>, FileFault> {
        if self.is_over() {
            return Ok(None);
        }
        let mut length = 0_u64;
        for shift in [0, 7, 14, 21] {
            let mut byte = [0];
            self.file.read_exact(&mut byte).map_err(read_fault)?;
            self.place += 1;
            let [byte] = byte;
            length |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return match length {
                    1..=MAX_PART_BYTES => Ok(Some(length)),
                    _ => Err(FileFault::NotAnExport),
                };
            }
        }
        Err(FileFault::NotAnExport)
    }

    fn part(&mut self, length: u64) -> Result<Part, FileFault> {
        if self.place + length > self.length {
            return Err(FileFault::CutOff);
        }
        let mut encoded = vec![0; usize::try_from(length).map_err(|_| FileFault::NotAnExport)?];
        self.file.read_exact(&mut encoded).map_err(read_fault)?;
        self.place += length;
        let part = ExportPart::decode(encoded.as_slice()).map_err(|_| FileFault::NotAnExport)?;
        part.part.ok_or(FileFault::NotAnExport)
    }
}

fn read_fault(error: io::Error) -> FileFault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => FileFault::CutOff,
        _ => FileFault::Unreadable,
    }
}
