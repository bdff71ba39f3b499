//! SHA-256 and randomness, in the two shapes that the rest needs.

use aws_lc_rs::{digest, rand};

/// The system's random source failed.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system's random source failed")]
pub struct RandomFailed;

/// SHA-256 of the parts, one after the other.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    // A SHA-256 digest has 32 bytes.
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// `N` bytes from the system's random source.
pub fn random<const N: usize>() -> Result<[u8; N], RandomFailed> {
    let mut out = [0; N];
    rand::fill(&mut out).map_err(|_| RandomFailed)?;
    Ok(out)
}
