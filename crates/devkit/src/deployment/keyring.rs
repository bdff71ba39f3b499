//! A side's secret keys (`common::keyring` reads them).

use std::{fmt::Write as _, path::Path};

use data_encoding::HEXLOWER;

use super::{DeploymentError, write_secret};

/// One new key for each purpose.
pub(super) fn write(path: &Path, purposes: &[&str]) -> Result<(), DeploymentError> {
    let mut text = String::new();
    for purpose in purposes {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| DeploymentError::Randomness)?;
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "[[{purpose}]]\nid = \"1\"\nkey = \"{}\"\n",
            HEXLOWER.encode(&key)
        );
    }
    write_secret(path, text.as_bytes())
}
