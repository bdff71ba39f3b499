//! What rows are found by: HMACs, each with a label of its own.

use common::{
    keyring::{Keyring, Lookup, LookupKey},
    sealing::Place,
    terms::LinkageHandle,
};

use crate::register::RegisterKey;

/// What a linkage is found by.
pub(super) fn handle(keys: &Keyring, handle: &LinkageHandle) -> Lookup {
    keys.lookup.lookup("linkage", &[handle.expose()])
}

/// What the linkages of a card are found by, and compared with a login.
pub fn card_key(lookup: &LookupKey, card_key_sha256: &[u8; 32]) -> Lookup {
    lookup.lookup("card-key", &[card_key_sha256])
}

/// What a person is found by.
pub(super) fn person(keys: &Keyring, person_id: &str) -> Lookup {
    keys.lookup.lookup("person", &[person_id.as_bytes()])
}

/// What a register is found by.
pub(super) fn register(keys: &Keyring, key: &RegisterKey) -> Lookup {
    let parts = [
        key.municipality_code.as_str().as_bytes(),
        key.local_number.as_bytes(),
    ];
    keys.lookup.lookup("register", &parts)
}

/// What a member is found by: a reference means something within its municipality only.
pub(super) fn member(keys: &Keyring, municipality_code: &str, reference: &str) -> Lookup {
    keys.lookup
        .lookup("member", &[municipality_code.as_bytes(), reference.as_bytes()])
}

/// Where a copy's body is sealed.
pub(super) fn body_place(key: &Lookup, revision: u64) -> Place<'_> {
    Place {
        column: "register_copy.body",
        row: key,
        revision,
    }
}
