//! Families and the registers that they leave behind, one family at a time.
//!
//! A family follows from the seed and its number alone, so that any number of them can be made one after the other
//! without keeping the earlier ones.

use super::DataError;
use super::chronicle::Chronicle;

/// One line of a municipality's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyLine {
    /// Whose file.
    pub municipality_code: String,
    /// The line, without its end.
    pub line: String,
}

/// The lines that one family adds to the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// Register copies.
    pub copies: Vec<CopyLine>,
    /// `person` lines of the registry side.
    pub persons: Vec<String>,
    /// `linkage` lines of the registry side, to be loaded after the persons.
    pub provider_linkages: Vec<String>,
    /// `linkage` lines of the portal side.
    pub portal_linkages: Vec<String>,
}

/// Families one after the other, until so many registers have been made.
#[derive(Clone, Debug)]
pub struct Families {
    seed: u64,
    next_number: u64,
    registers_left: usize,
}

impl Families {
    /// Families of this seed with `registers` registers together.
    pub fn new(seed: u64, registers: usize) -> Self {
        Self {
            seed,
            next_number: 1,
            registers_left: registers,
        }
    }
}

impl Iterator for Families {
    type Item = Result<Family, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.registers_left == 0 {
            return None;
        }
        let mut chronicle = Chronicle::begin(self.seed, self.next_number, self.registers_left);
        chronicle.found_family();
        self.next_number += 1;
        self.registers_left = self.registers_left.saturating_sub(chronicle.register_count());
        Some(chronicle.into_family())
    }
}
