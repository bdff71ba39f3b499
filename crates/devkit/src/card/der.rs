//! The little of DER (X.690) that rcgen has no words for.

/// INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// BIT STRING.
pub(super) const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub(super) const OCTET_STRING: u8 = 0x04;
/// GeneralizedTime.
pub(super) const GENERALIZED_TIME: u8 = 0x18;
/// UTCTime.
pub(super) const UTC_TIME: u8 = 0x17;
/// TRUE.
pub(super) const TRUE: [u8; 3] = [0x01, 0x01, 0xff];
/// NULL.
pub(super) const NULL: [u8; 2] = [0x05, 0x00];
/// SEQUENCE, constructed.
pub(super) const SEQUENCE: u8 = 0x30;
/// SET, constructed.
pub(super) const SET: u8 = 0x31;
/// `[0]`, constructed.
pub(super) const CONTEXT_0: u8 = 0xa0;
/// `[4]`, constructed.
pub(super) const CONTEXT_4: u8 = 0xa4;
/// UTF8String.
pub(super) const UTF8_STRING: u8 = 0x0c;
/// PrintableString.
pub(super) const PRINTABLE_STRING: u8 = 0x13;

const OBJECT_IDENTIFIER: u8 = 0x06;

/// One element: tag, definite length, content.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut encoded = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => encoded.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
            // At most eight bytes of length, so the count fits beside the flag.
            encoded.push(0x80 | u8::try_from(significant.len()).unwrap_or(0x7f));
            encoded.extend(significant);
        }
    }
    encoded.extend_from_slice(content);
    encoded
}

/// OBJECT IDENTIFIER of at least two arcs.
pub(super) fn object_identifier(arcs: &[u64]) -> Vec<u8> {
    let mut content = Vec::new();
    if let [first, second, rest @ ..] = arcs {
        push_base128(&mut content, first * 40 + second);
        for arc in rest {
            push_base128(&mut content, *arc);
        }
    }
    element(OBJECT_IDENTIFIER, &content)
}

fn push_base128(content: &mut Vec<u8>, arc: u64) {
    let mut groups = vec![(arc & 0x7f) as u8];
    let mut rest = arc >> 7;
    while rest > 0 {
        groups.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    content.extend(groups.into_iter().rev());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arcs_above_127_take_several_bytes() {
        // 1.2.392.200149, as `openssl asn1parse -genstr OID:1.2.392.200149` encodes it.
        assert_eq!(
            object_identifier(&[1, 2, 392, 200_149]),
            [0x06, 0x06, 0x2a, 0x83, 0x08, 0x8c, 0x9b, 0x55]
        );
    }

    #[test]
    fn long_content_has_a_long_length() {
        assert_eq!(element(UTF8_STRING, &[b'x'; 127])[..2], [0x0c, 127]);
        assert_eq!(element(UTF8_STRING, &[b'x'; 128])[..3], [0x0c, 0x81, 128]);
        assert_eq!(element(UTF8_STRING, &[b'x'; 300])[..4], [0x0c, 0x82, 1, 44]);
    }
}
