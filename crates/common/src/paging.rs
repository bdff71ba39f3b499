//! Lists that are given page by page: how much a caller may ask for, and tokens that say where to go on. A token is sealed:
//! nobody makes one, and it is good for one list of one requester only.

use crate::{
    sealing::{Place, SealError, Sealer},
    terms::RuleBroken,
};

/// Entries of a page, when the caller does not say how many.
const DEFAULT_SIZE: u32 = 50;
/// Entries of a page at most.
const MAX_SIZE: u32 = 200;
/// Length of a token at most, in bytes.
const MAX_TOKEN_BYTES: usize = 512;

/// How many entries a page has at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(u32);

impl PageSize {
    /// Takes what the caller asks for; 0 leaves it to us.
    pub fn parse(asked: u32) -> Result<Self, RuleBroken> {
        match asked {
            0 => Ok(Self(DEFAULT_SIZE)),
            1..=MAX_SIZE => Ok(Self(asked)),
            _ => Err(RuleBroken("0 to 200")),
        }
    }

    /// The number of entries.
    pub fn entries(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// One entry more than the page has: whether it is there tells whether there is another page.
    pub fn limit(self) -> i64 {
        i64::from(self.0) + 1
    }
}

/// Makes and reads tokens.
#[derive(Debug)]
pub struct PageTokens(Sealer);

/// The list and the requester that a token is for.
#[derive(Debug, Clone, Copy)]
pub struct TokenFor<'a> {
    /// The list, by a name that no other list has.
    pub list: &'static str,
    /// Whose it is.
    pub owner: &'a [u8],
}

impl TokenFor<'_> {
    fn place(&self) -> Place<'_> {
        Place {
            column: self.list,
            row: self.owner,
            revision: 0,
        }
    }
}

impl PageTokens {
    pub(crate) fn new(sealer: Sealer) -> Self {
        Self(sealer)
    }

    /// The token for going on behind this place.
    pub fn make(&self, token_for: TokenFor<'_>, place: &[u8]) -> Result<Vec<u8>, SealError> {
        self.0.seal(token_for.place(), place)
    }

    /// The place at which a token goes on; `None` for an empty token, which is the beginning.
    pub fn read(&self, token_for: TokenFor<'_>, token: &[u8]) -> Result<Option<Vec<u8>>, RuleBroken> {
        const RULE: RuleBroken = RuleBroken("empty, or next_page_token of this list's last answer");
        if token.is_empty() {
            return Ok(None);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(RULE);
        }
        let place = self.0.open(token_for.place(), token).map_err(|_| RULE)?;
        Ok(Some(place.to_vec()))
    }
}
