//! Synthetic register copies, persons and linkages, in the formats of `docs/register-copy-format.md` and
//! `docs/linkage-file-format.md`, and the scenario persons of `docs/sandbox.md`.
//!
//! Everything follows from a seed and the cards' public keys. Nobody in it exists: names are put together by chance from
//! common ones, or are the placeholders that forms use.

mod calendar;
mod choice;
mod chronicle;
mod data_set;
mod domicile;
mod family;
mod linkage;
mod municipality;
mod names;
mod register;
mod scenario;
mod scenario_cards;
mod scenario_registers;
#[cfg(test)]
mod tests;

pub use data_set::DataSet;
pub use family::{CopyLine, Families, Family};
pub use municipality::{MUNICIPALITIES, Municipality};
pub use register::{
    KanaStatus, Medium, Member, MotionState, Register, RegisterDate, RegisterKind, canonical_digest,
};
pub use scenario::{
    OperatorRecord, Outcome, ProvidedRegister, RegisterRef, RequesterItems, Scenario, ScenarioPerson,
};
pub use scenario_cards::ScenarioCards;

/// Why a data set could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A line could not be written as JSON.
    #[error("line could not be encoded")]
    Line(#[from] serde_json::Error),
    /// A card could not be made or written.
    #[error("card could not be made or written")]
    Card(#[from] crate::card::CardError),
    /// There is no card for a scenario person.
    #[error("no card for the scenario person {0}")]
    NoCard(&'static str),
    /// A scenario person is not entered in their first register.
    #[error("no entry for the scenario person {0}")]
    NoEntry(&'static str),
    /// A file could not be written.
    #[error("file could not be written")]
    File(#[from] std::io::Error),
    /// A thread that made cards ended early.
    #[error("a thread that made cards ended early")]
    Thread,
}
