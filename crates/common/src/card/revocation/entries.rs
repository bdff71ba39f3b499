//! The revoked serial numbers of a list: 20 bytes each, sorted, in one run of memory.

use super::{list::MAX_REVOKED, time};
use crate::card::der::{self, BOOLEAN, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE};

/// Bytes of a serial number at most (RFC 5280 §4.1.2.2), and as which each is kept.
pub const SERIAL_BYTES: usize = 20;

/// Revoked serial numbers.
pub(super) struct Serials(Vec<[u8; SERIAL_BYTES]>);

impl Serials {
    /// Reads `revokedCertificates`. Every entry counts, whatever its reason is.
    pub(super) fn read(entries: &[u8]) -> Result<Self, &'static str> {
        // Counted first: memory that grows would be twice as much for a while.
        let mut serials = Vec::with_capacity(count(entries)?);
        let mut entries = Reader::new(entries);
        while !entries.is_empty() {
            let entry = entries.content(SEQUENCE).ok_or(NOT_DER)?;
            serials.push(serial(entry)?);
        }
        serials.sort_unstable();
        if serials.array_windows().any(|[one, next]| one == next) {
            return Err("must not name a serial number twice");
        }
        Ok(Self(serials))
    }

    /// No certificate is revoked.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    pub(super) fn contains(&self, serial: &[u8; SERIAL_BYTES]) -> bool {
        self.0.binary_search(serial).is_ok()
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

pub(super) const NOT_DER: &str = "must be a DER revocation list";

fn count(entries: &[u8]) -> Result<usize, &'static str> {
    let mut entries = Reader::new(entries);
    let mut count = 0;
    while !entries.is_empty() {
        entries.any().ok_or(NOT_DER)?;
        count += 1;
        if count > MAX_REVOKED {
            return Err("must not name more than 2,000,000 certificates");
        }
    }
    Ok(count)
}

/// The serial number of one entry (RFC 5280 §5.3).
fn serial(entry: &[u8]) -> Result<[u8; SERIAL_BYTES], &'static str> {
    let mut fields = Reader::new(entry);
    let serial = fields
        .content(INTEGER)
        .and_then(der::unsigned)
        .and_then(der::padded)
        .ok_or("must name serial numbers that are not negative and of at most 20 bytes")?;
    fields.any().and_then(time::read).ok_or(NOT_DER)?;
    if !fields.is_empty() {
        let extensions = fields.only(SEQUENCE).ok_or(NOT_DER)?;
        check_extensions(extensions)?;
    }
    Ok(serial)
}

/// Reason and date change nothing here. The issuer of the certificate (2.5.29.29) would: it makes the entry, and those
/// after it, another authority's.
fn check_extensions(extensions: &[u8]) -> Result<(), &'static str> {
    for extension in Extensions::of(extensions) {
        let extension = extension.ok_or(NOT_DER)?;
        if extension.critical || extension.oid == CERTIFICATE_ISSUER {
            return Err("must have no critical extension of an entry, and none of another issuer");
        }
    }
    Ok(())
}

const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 0x1d];

/// One extension (RFC 5280 §4.1).
pub(super) struct Extension<'a> {
    pub(super) oid: &'a [u8],
    pub(super) critical: bool,
    pub(super) value: &'a [u8],
}

/// Extensions, one after the other; `None` for what cannot be read, and then no more.
pub(super) struct Extensions<'a>(Option<Reader<'a>>);

impl<'a> Extensions<'a> {
    pub(super) fn of(content: &'a [u8]) -> Self {
        Self(Some(Reader::new(content)))
    }

    fn read(reader: &mut Reader<'a>) -> Option<Extension<'a>> {
        let mut fields = Reader::new(reader.content(SEQUENCE)?);
        let oid = fields.content(OBJECT_IDENTIFIER)?;
        let critical = match fields.content(BOOLEAN) {
            None => false,
            Some([0xff]) => true,
            // DER leaves the default out.
            Some(_) => return None,
        };
        Some(Extension {
            oid,
            critical,
            value: fields.only(OCTET_STRING)?,
        })
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Option<Extension<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.0.as_mut().filter(|reader| !reader.is_empty())?;
        let extension = Self::read(reader);
        if extension.is_none() {
            self.0 = None;
        }
        Some(extension)
    }
}
