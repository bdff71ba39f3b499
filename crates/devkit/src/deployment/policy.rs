//! The provision policy of `deploy/policy`, carried in the program so that it needs no source tree beside it.

use std::path::Path;

use super::{DeploymentError, write_public};
use crate::registers::MUNICIPALITIES;

macro_rules! carried {
    ($($file:literal),* $(,)?) => {
        [$(($file, include_str!(concat!("../../../../deploy/policy/", $file)))),*]
    };
}

const POLICY: [(&str, &str); 1] = carried!["provision-policy.toml"];
const TEXTS: [(&str, &str); 6] = carried![
    "consent/certificate-request.ja.txt",
    "consent/certificate-request.en.txt",
    "consent/notification.ja.txt",
    "consent/notification.en.txt",
    "consent/provision-code-request.ja.txt",
    "consent/provision-code-request.en.txt",
];

/// Writes the policy and its consent texts. The municipalities of the data set may send, each for its own code.
pub(super) fn write(folder: &Path) -> Result<(), DeploymentError> {
    for (file, text) in POLICY {
        // The table of municipalities is the last one of the sample, and empty.
        let codes = MUNICIPALITIES.iter().map(|municipality| municipality.code);
        let listed: String = codes.map(|code| format!("{code} = [\"{code}\"]\n")).collect();
        write_public(&folder.join(file), format!("{text}{listed}").as_bytes())?;
    }
    TEXTS
        .iter()
        .try_for_each(|(file, text)| write_public(&folder.join(file), text.as_bytes()))
}
