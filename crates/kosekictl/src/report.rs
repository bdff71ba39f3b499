//! What a command found or did.

use serde_json::Value;

/// The result of a command, for programs and for people.
pub(crate) struct Report {
    /// One stable document.
    pub(crate) json: Value,
    /// The same for people.
    pub(crate) text: String,
    /// Something was refused, or needs somebody to look at it: exit code 1.
    pub(crate) finding: bool,
    /// Not everything could be checked, and nothing was found: exit code 2.
    pub(crate) unchecked: bool,
}

impl Report {
    /// Nothing to look at.
    pub(crate) fn done(json: Value, text: impl Into<String>) -> Self {
        Self {
            json,
            text: text.into(),
            finding: false,
            unchecked: false,
        }
    }
}
