//! Writing files with the mode that their content asks for.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Owner may read and write, nobody else anything.
const SECRET_MODE: u32 = 0o600;

/// Writes a file that anybody may read, and its directory when it is missing.
pub(crate) fn write_public(path: &Path, content: &[u8]) -> io::Result<()> {
    make_parent(path)?;
    fs::write(path, content)
}

/// Writes a private key: mode 0600 before the first byte is in it, also when the file was there with another mode.
pub(crate) fn write_secret(path: &Path, content: &[u8]) -> io::Result<()> {
    make_parent(path)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(SECRET_MODE)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(SECRET_MODE))?;
    file.write_all(content)
}

fn make_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_readable_by_its_owner_only_even_over_an_open_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep").join("key.pem");
        write_public(&path, b"old and longer").unwrap();
        write_secret(&path, b"new").unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            SECRET_MODE
        );
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
