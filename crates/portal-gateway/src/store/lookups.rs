//! What rows are found by, and where values are sealed.

use common::{
    keyring::{Keyring, Lookup},
    sealing::Place,
    terms::LinkageCode,
};

/// What a card's key is found by.
pub(super) fn card_key(keys: &Keyring, card_key_sha256: &[u8; 32]) -> Lookup {
    keys.lookup.lookup("card-key", &[card_key_sha256])
}

/// What a linkage is found by.
pub(super) fn code(keys: &Keyring, code: &LinkageCode) -> Lookup {
    keys.lookup.lookup("linkage-code", &[code.expose()])
}

/// Where the serial number and the end of a session's card are sealed.
pub(super) fn card_place(token: &[u8]) -> Place<'_> {
    Place {
        column: "session.sealed_card",
        row: token,
        revision: 0,
    }
}

/// Where a session's login proof is sealed.
pub(super) fn proof_place(token: &[u8]) -> Place<'_> {
    Place {
        column: "session.sealed_proof",
        row: token,
        revision: 0,
    }
}

/// Where a linkage's code is sealed.
pub(super) fn code_place(code: &[u8]) -> Place<'_> {
    Place {
        column: "linkage.sealed_code",
        row: code,
        revision: 0,
    }
}
