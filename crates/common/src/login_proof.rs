//! A login as it can be shown to the registry side: the card's certificate, the text and the signature (DESIGN §5).

use koseki_proto::koseki::linkage::v1::LoginProof;

use crate::{card::MAX_CERTIFICATE_BYTES, digest, login_text::MAX_LOGIN_TEXT_BYTES};

/// Length of a signature at most, in bytes: that of a card's RSA key has 256.
const MAX_SIGNATURE_BYTES: usize = 512;
/// Length of a proof's three parts at most, in bytes.
pub const MAX_PROOF_BYTES: usize = MAX_CERTIFICATE_BYTES + MAX_LOGIN_TEXT_BYTES + MAX_SIGNATURE_BYTES;

const LABEL: &[u8] = b"koseki-login-proof-v1";

/// What names a proof in an eligibility. Lengths stand before contents, so that no two proofs are read alike.
pub fn sha256(proof: &LoginProof) -> [u8; 32] {
    let length = |part: &[u8]| u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes();
    let [certificate, text, signature] = parts(proof);
    digest::sha256(&[
        LABEL,
        &length(certificate),
        certificate,
        &length(text),
        text,
        &length(signature),
        signature,
    ])
}

/// Whether each part is as long as it may be.
pub fn fits(proof: &LoginProof) -> bool {
    let most = [MAX_CERTIFICATE_BYTES, MAX_LOGIN_TEXT_BYTES, MAX_SIGNATURE_BYTES];
    parts(proof)
        .iter()
        .zip(most)
        .all(|(part, most)| part.len() <= most)
}

fn parts(proof: &LoginProof) -> [&[u8]; 3] {
    [&proof.certificate, &proof.text, &proof.signature]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_moves_to_the_next_part_makes_another_proof() {
        let proof = |certificate: &[u8], text: &[u8], signature: &[u8]| LoginProof {
            certificate: certificate.to_vec(),
            text: text.to_vec(),
            signature: signature.to_vec(),
        };
        let whole = sha256(&proof(b"ab", b"cd", b"ef"));
        for other in [
            proof(b"a", b"bcd", b"ef"),
            proof(b"abc", b"d", b"ef"),
            proof(b"ab", b"c", b"def"),
            proof(b"ab", b"cde", b"f"),
            proof(b"ab", b"cd", b"eg"),
        ] {
            assert_ne!(sha256(&other), whole);
        }
        assert_eq!(sha256(&proof(b"ab", b"cd", b"ef")), whole);
    }
}
