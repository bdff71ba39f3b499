//! The closed set of keys of cards and roots, and of the signatures that they make. A key says which signature counts:
//! nothing is negotiated.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};

use crate::digest;

/// A kind of key, with the one signature that counts of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA of 2,048 bits with e = 65537; RSASSA-PKCS1-v1_5 with SHA-256; 256 bytes.
    Rsa2048Sha256,
    /// ECDSA on P-256 with SHA-256; DER (RFC 3279 §2.2.3), at most 72 bytes.
    EcdsaP256Sha256,
    /// ECDSA on P-384 with SHA-384; DER, at most 104 bytes.
    EcdsaP384Sha384,
}

/// SubjectPublicKeyInfo of RSA (RFC 3279 §2.3.1) up to the modulus of 256 bytes, and e = 65537 after it.
const RSA_2048: &[u8] = &[
    0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
    0x05, 0x00, 0x03, 0x82, 0x01, 0x0f, 0x00, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00,
];
const E_65537: &[u8] = &[0x02, 0x03, 0x01, 0x00, 0x01];
/// Length of the AlgorithmIdentifier and the header of the BIT STRING in [`RSA_2048`]: what follows is PKCS#1.
const BEFORE_PKCS1: usize = 24;
/// SubjectPublicKeyInfo of an uncompressed point (RFC 5480 §2), up to its coordinates.
const P_256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
const P_384: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
    0x04, 0x00, 0x22, 0x03, 0x62, 0x00, 0x04,
];

impl KeyKind {
    const ALL: [Self; 3] = [Self::Rsa2048Sha256, Self::EcdsaP256Sha256, Self::EcdsaP384Sha384];

    /// `AlgorithmIdentifier` of the signature, as certificates and lists must have it to the byte (RFC 4055 §5, RFC 5758
    /// §3.2).
    fn algorithm_identifier(self) -> &'static [u8] {
        match self {
            Self::Rsa2048Sha256 => &[
                0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00,
            ],
            Self::EcdsaP256Sha256 => &[
                0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
            ],
            Self::EcdsaP384Sha384 => &[
                0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03,
            ],
        }
    }

    /// The kind whose signatures have this `AlgorithmIdentifier`.
    pub(super) fn of_signature(algorithm_identifier: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.algorithm_identifier() == algorithm_identifier)
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Rsa2048Sha256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::EcdsaP256Sha256 => &ECDSA_P256_SHA256_ASN1,
            Self::EcdsaP384Sha384 => &ECDSA_P384_SHA384_ASN1,
        }
    }
}

/// A public key of the closed set.
#[derive(Clone)]
pub(super) struct PublicKey {
    pub(super) kind: KeyKind,
    /// SHA-256 of the DER SubjectPublicKeyInfo.
    pub(super) sha256: [u8; 32],
    bytes: Vec<u8>,
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo, which has one spelling for each kind.
    pub(super) fn parse(spki: &[u8]) -> Option<Self> {
        let (kind, bytes) = if let Some(rest) = spki.strip_prefix(RSA_2048) {
            let modulus = rest.strip_suffix(E_65537)?;
            let all_bits = modulus.len() == 256 && modulus.first().is_some_and(|byte| byte & 0x80 != 0);
            (
                KeyKind::Rsa2048Sha256,
                spki.get(BEFORE_PKCS1..).filter(|_| all_bits)?,
            )
        } else {
            let (kind, header, coordinates) = [
                (KeyKind::EcdsaP256Sha256, P_256, 64),
                (KeyKind::EcdsaP384Sha384, P_384, 96),
            ]
            .into_iter()
            .find(|(_, header, _)| spki.starts_with(header))?;
            // The point has its form byte, which ends the header.
            let point = spki.get(header.len() - 1..)?;
            (kind, Some(point).filter(|point| point.len() == 1 + coordinates)?)
        };
        Some(Self {
            kind,
            sha256: digest::sha256(&[spki]),
            bytes: bytes.to_vec(),
        })
    }

    /// Whether the signature is this key's.
    pub(super) fn has_signed(&self, text: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.kind.verification(), &self.bytes)
            .verify(text, signature)
            .is_ok()
    }
}
