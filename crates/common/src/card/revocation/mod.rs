//! Revocation lists (RFC 5280 §5) of the roots: full ones only, read strictly, kept as one run of serial numbers.

mod entries;
mod list;
mod lists;
mod number;
mod time;

pub use entries::SERIAL_BYTES;
pub use list::{MAX_LIST_BYTES, MAX_REVOKED, RevocationList};
pub use lists::RevocationLists;
pub use number::{ListNumber, ListNumbers};
