//! One revocation list: verified whole before anything of it counts.

use std::time::Duration;

use super::{
    ListNumber, SERIAL_BYTES,
    entries::{Extensions, NOT_DER, Serials},
    time,
};
use crate::{
    card::{
        CardFault,
        der::{self, CONTEXT_0, INTEGER, Reader, SEQUENCE},
        roots::CardRoots,
        signed::Signed,
    },
    clock::Timestamp,
    digest,
};

/// Length of a list at most, in bytes.
pub const MAX_LIST_BYTES: u64 = 128 * 1024 * 1024;
/// Certificates that a list names at most. In memory each is [`SERIAL_BYTES`].
pub const MAX_REVOKED: usize = 2_000_000;

/// A list that says to have been issued later than this from now does not count: one of the two clocks is wrong.
const MAX_AHEAD: Duration = Duration::from_secs(600);

const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1d, 0x1b];
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 0x1c];

/// A root's revocation list.
pub struct RevocationList {
    /// SHA-256 of the root's public key.
    pub issuer: [u8; 32],
    /// Its number.
    pub number: ListNumber,
    /// When it was issued.
    pub this_update: Timestamp,
    /// When the next one is due.
    pub next_update: Timestamp,
    /// SHA-256 of what is signed.
    pub sha256: [u8; 32],
    serials: Serials,
}

impl RevocationList {
    /// How many certificates it names.
    pub fn count(&self) -> usize {
        self.serials.count()
    }

    /// Whether it tells what is revoked now: it is no older than `max_age`, and the next one is not overdue.
    pub fn is_fresh(&self, now: Timestamp, max_age: Duration) -> bool {
        self.this_update <= now.after(MAX_AHEAD)
            && now <= self.this_update.after(max_age)
            && now <= self.next_update
    }

    /// Checks that a certificate is not revoked.
    pub(super) fn check(&self, serial: &[u8]) -> Result<(), CardFault> {
        let serial: [u8; SERIAL_BYTES] = der::padded(serial).ok_or(CardFault::RevocationUnknown)?;
        match self.serials.contains(&serial) {
            true => Err(CardFault::Revoked),
            false => Ok(()),
        }
    }
}

impl CardRoots {
    /// Reads a revocation list: a full one, signed by one of the roots. Nothing is built for an entry but its serial number.
    pub fn revocation_list(&self, der: &[u8]) -> Result<RevocationList, &'static str> {
        let signed = Signed::read(der).ok_or(NOT_DER)?;
        if signed.kind().is_none() {
            return Err("must be signed with SHA-256 (RSA PKCS#1 v1.5, P-256) or SHA-384 (P-384)");
        }
        let fields = Fields::read(signed.content).ok_or(NOT_DER)?;
        if fields.algorithm != signed.algorithm {
            return Err("must name one signature algorithm");
        }
        let issuer = self
            .signer(fields.issuer, &signed)
            .ok_or("must be signed by a pinned root")?;
        if fields.next_update <= fields.this_update {
            return Err("must name a next update after its own");
        }
        Ok(RevocationList {
            issuer: issuer.key.sha256,
            number: number(fields.extensions)?,
            this_update: fields.this_update,
            next_update: fields.next_update,
            sha256: digest::sha256(&[signed.content]),
            serials: fields.revoked.map_or(Ok(Serials::none()), Serials::read)?,
        })
    }
}

/// `TBSCertList` (RFC 5280 §5.1.2), version 2, with a next update.
struct Fields<'a> {
    algorithm: &'a [u8],
    issuer: &'a [u8],
    this_update: Timestamp,
    next_update: Timestamp,
    revoked: Option<&'a [u8]>,
    extensions: &'a [u8],
}

impl<'a> Fields<'a> {
    fn read(content: &'a [u8]) -> Option<Self> {
        let mut fields = Reader::new(content);
        // Version 2 is written as 1.
        if fields.content(INTEGER)? != [1] {
            return None;
        }
        Some(Self {
            algorithm: fields.optional(SEQUENCE)?.whole,
            issuer: fields.optional(SEQUENCE)?.whole,
            this_update: time::read(fields.any()?)?,
            next_update: time::read(fields.any()?)?,
            revoked: fields.content(SEQUENCE),
            extensions: Reader::new(fields.only(CONTEXT_0)?).only(SEQUENCE)?,
        })
    }
}

/// The list's number; it must be one that names all that its root has revoked.
fn number(extensions: &[u8]) -> Result<ListNumber, &'static str> {
    let mut number = None;
    let mut seen = Vec::new();
    for extension in Extensions::of(extensions) {
        let extension = extension.ok_or(NOT_DER)?;
        if seen.contains(&extension.oid) {
            return Err("must not have an extension twice");
        }
        seen.push(extension.oid);
        match extension.oid {
            CRL_NUMBER => {
                let integer = Reader::new(extension.value).only(INTEGER);
                number = integer.and_then(ListNumber::from_integer);
            }
            AUTHORITY_KEY_IDENTIFIER => {}
            DELTA_CRL_INDICATOR | ISSUING_DISTRIBUTION_POINT => {
                return Err("must be a full list: not a delta, and not of one distribution point");
            }
            _ if extension.critical => return Err("must have no critical extension that is not processed"),
            _ => {}
        }
    }
    number.ok_or("must have a CRL number of at most 20 bytes")
}
