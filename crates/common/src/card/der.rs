//! Reading DER (X.690) strictly: what has a second spelling is refused.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
/// `[0]`, constructed.
pub(super) const CONTEXT_0: u8 = 0xa0;

/// One element.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// Tag, length and content.
    pub(super) whole: &'a [u8],
}

/// Elements, one after the other.
#[derive(Clone)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, whatever it is.
    pub(super) fn any(&mut self) -> Option<Element<'a>> {
        let all = self.0;
        let (tag, rest) = all.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            // Lengths of up to four bytes, as short as can be.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                let length = bytes.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
                if length < 0x80 || bytes.first() == Some(&0) {
                    return None;
                }
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let whole = all.get(..all.len() - rest.len())?;
        self.0 = rest;
        Some(Element {
            tag: *tag,
            content,
            whole,
        })
    }

    /// The next element, when it is of this kind; otherwise nothing is read.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = self.clone();
        let element = ahead.any().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element)
    }

    /// Content of the next element, which must be of this kind.
    pub(super) fn content(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.optional(tag).map(|element| element.content)
    }

    /// Content of the next element, which must be of this kind, and the last.
    pub(super) fn only(mut self, tag: u8) -> Option<&'a [u8]> {
        let content = self.content(tag)?;
        self.is_empty().then_some(content)
    }
}

/// A number that is not negative, big-endian without leading zeros.
pub(super) fn unsigned(integer: &[u8]) -> Option<&[u8]> {
    match integer {
        [0] => Some(&[]),
        // One leading zero, where the number would otherwise be negative.
        [0, rest @ ..] if rest.first().is_some_and(|byte| byte & 0x80 != 0) => Some(rest),
        [first, ..] if *first != 0 && first & 0x80 == 0 => Some(integer),
        _ => None,
    }
}

/// Right-aligned in as many bytes; `None` when it does not fit.
pub(super) fn padded<const N: usize>(number: &[u8]) -> Option<[u8; N]> {
    let mut padded = [0; N];
    let start = N.checked_sub(number.len())?;
    padded.get_mut(start..)?.copy_from_slice(number);
    Some(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_second_spelling_is_refused() {
        let read = |bytes: &'static [u8]| Reader::new(bytes).only(OCTET_STRING);
        assert_eq!(read(&[4, 2, 7, 7]), Some([7, 7].as_slice()));
        for bytes in [
            [4, 0x81, 2, 7, 7].as_slice(),   // a long length for a short one
            &[4, 0x82, 0, 2, 7, 7],          // with leading zero
            &[4, 0x80, 7, 7, 0, 0],          // indefinite
            &[4, 3, 7, 7],                   // longer than what is there
            &[4, 2, 7, 7, 0],                // something after it
            &[4, 0x85, 0, 0, 0, 0, 2, 7, 7], // too long a length
            &[5, 2, 7, 7],
            &[4],
            &[],
        ] {
            assert_eq!(Reader::new(bytes).only(OCTET_STRING), None, "{bytes:?}");
        }
        let mut long = vec![4, 0x81, 0x80];
        long.resize(3 + 0x80, 7);
        assert_eq!(Reader::new(&long).only(OCTET_STRING).map(<[u8]>::len), Some(0x80));
    }

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!(unsigned(&[0]), Some([].as_slice()));
        assert_eq!(unsigned(&[0x7f]), Some([0x7f].as_slice()));
        assert_eq!(unsigned(&[0, 0x80]), Some([0x80].as_slice()));
        for refused in [[].as_slice(), &[0, 0x7f], &[0, 0], &[0x80], &[0xff, 1]] {
            assert_eq!(unsigned(refused), None, "{refused:?}");
        }
        assert_eq!(padded::<3>(&[1, 2]), Some([0, 1, 2]));
        assert_eq!(padded::<1>(&[1, 2]), None);
    }
}
