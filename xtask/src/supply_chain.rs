//! What the build takes in from outside: one TLS crypto provider, known licences, one source.

use anyhow::{Result, bail};

use crate::shell;

/// A second implementation of cryptography would be in the binaries, unseen by whoever watches over the first.
const FOREIGN_CRYPTO: [&str; 4] = ["ring", "openssl", "openssl-sys", "native-tls"];

/// The quick check, which needs nothing installed.
pub(crate) fn check_tree() -> Result<()> {
    let tree = shell::output(&mut shell::cargo(&[
        "tree",
        "--workspace",
        "--target",
        "all",
        "--edges",
        "normal,build,dev",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    let found = foreign_crypto(&tree);
    if !found.is_empty() {
        bail!(
            "{} in the dependency tree beside aws-lc-rs: turn off the feature that brings it (`cargo tree -i {} \
             --target all` shows who asks)",
            found.join(", "),
            found.first().copied().unwrap_or_default(),
        );
    }
    println!("one TLS crypto provider in the tree");
    Ok(())
}

/// `cargo deny` by deny.toml. Advisories are left out: their database is fetched, and may be out of reach.
pub(crate) fn check_deny() -> Result<()> {
    shell::run(&mut shell::cargo(&[
        "deny",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))?;
    println!(
        "advisories are not checked: their database is fetched over the network; `cargo deny check advisories` does it"
    );
    Ok(())
}

fn foreign_crypto(tree: &str) -> Vec<&str> {
    FOREIGN_CRYPTO
        .into_iter()
        .filter(|name| tree.lines().any(|line| line.split(' ').next() == Some(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_provider_is_found() {
        let tree = "rustls v0.23.46\naws-lc-rs v1.19.0\nring-buffer v0.1.0\n";
        assert_eq!(foreign_crypto(tree), [""; 0]);
        assert_eq!(
            foreign_crypto(&format!("{tree}ring v0.17.14\nopenssl-sys v0.9.1 (*)\n")),
            ["ring", "openssl-sys"]
        );
    }
}
