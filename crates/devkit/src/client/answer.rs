//! What a call that was not answered with its result came back with.

use std::fmt;

use tonic::{Code, Status, metadata::KeyAndValueRef};
use tonic_types::StatusExt as _;

/// A call did not give its result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The service refused it, for a reason of its closed list.
    #[error("{0}")]
    Refused(Refused),
    /// Nothing of the service's own came back: the connection could not be made or broke, or the deadline passed. What
    /// became of the call is not known.
    #[error("no answer: {code:?}: {message}")]
    NoAnswer {
        /// What gRPC makes of it.
        code: Code,
        /// Its message.
        message: String,
    },
}

/// A refusal, as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// gRPC's code.
    pub code: Code,
    /// The stable reason (`google.rpc.ErrorInfo.reason`).
    pub reason: String,
    /// What a Japanese reader is told.
    pub japanese: String,
    /// The id of the call, when it is echoed.
    pub request_id: Option<String>,
    /// Everything that came back, but for the request id and the date, in bytes: two refusals that must not be told
    /// apart have the same.
    pub wire: Vec<u8>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.reason, self.code)
    }
}

impl CallError {
    /// The stable reason, if the service gave one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused(refused) => Some(&refused.reason),
            Self::NoAnswer { .. } => None,
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let Some(info) = details.error_info() else {
            return Self::NoAnswer {
                code: status.code(),
                message: status.message().to_owned(),
            };
        };
        let request_id = info.metadata.get("request_id").cloned();
        Self::Refused(Refused {
            code: status.code(),
            reason: info.reason.clone(),
            japanese: details
                .localized_message()
                .map(|text| text.message.clone())
                .unwrap_or_default(),
            wire: wire(&status, request_id.as_deref()),
            request_id,
        })
    }
}

fn wire(status: &Status, request_id: Option<&str>) -> Vec<u8> {
    let mut parts = vec![
        i32::from(status.code()).to_be_bytes().to_vec(),
        status.message().as_bytes().to_vec(),
        status.details().to_vec(),
    ];
    let mut metadata: Vec<Vec<u8>> = status
        .metadata()
        .iter()
        .map(|pair| match pair {
            KeyAndValueRef::Ascii(key, value) => {
                [key.as_str().as_bytes(), b": ", value.as_encoded_bytes()].concat()
            }
            KeyAndValueRef::Binary(key, value) => {
                [key.as_str().as_bytes(), b": ", value.as_encoded_bytes()].concat()
            }
        })
        .filter(|header| !header.starts_with(b"date:"))
        .collect();
    metadata.sort();
    parts.extend(metadata);
    let wire = parts.join(&b'\n');
    match request_id {
        Some(id) => blank(wire, id.as_bytes()),
        None => wire,
    }
}

/// Overwrites each occurrence, so that lengths stay what they are.
fn blank(mut text: Vec<u8>, id: &[u8]) -> Vec<u8> {
    let mut at = 0;
    while let Some(found) = text.get_mut(at..at + id.len()) {
        if found == id {
            found.fill(b'0');
        }
        at += 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_blanked_in_place() {
        assert_eq!(blank(b"a-id-b-id".to_vec(), b"id"), b"a-00-b-00");
        assert_eq!(blank(b"i".to_vec(), b"id"), b"i");
    }
}
