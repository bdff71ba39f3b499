//! The provision policy of `deploy/policy`, carried in the program so that it needs no source tree beside it.

use std::path::Path;

use super::{DeploymentError, write_public};

macro_rules! carried {
    ($($file:literal),* $(,)?) => {
        [$(($file, include_str!(concat!("../../../../deploy/policy/", $file)))),*]
    };
}

const FILES: [(&str, &str); 7] = carried![
    "provision-policy.toml",
    "consent/certificate-request.ja.txt",
    "consent/certificate-request.en.txt",
    "consent/notification.ja.txt",
    "consent/notification.en.txt",
    "consent/provision-code-request.ja.txt",
    "consent/provision-code-request.en.txt",
];

/// Writes the policy and its consent texts.
pub(super) fn write(folder: &Path) -> Result<(), DeploymentError> {
    FILES
        .iter()
        .try_for_each(|(file, text)| write_public(&folder.join(file), text.as_bytes()))
}
