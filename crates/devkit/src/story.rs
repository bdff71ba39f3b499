//! The story of the product, played against running services: what municipalities, operators and a portal frontend do,
//! and what comes back. Every step has an expectation.
//!
//! A scene is one function. `cargo demo` plays all of them, the containers play each from the network where it belongs,
//! and tests take those that they need.

mod cast;
mod loading;
mod one_requester;
mod outcome;
mod persons;
mod records;
mod suspension;
mod teller;

pub use cast::{Cast, Offices};
pub use loading::load;
pub use one_requester::one_requester;
pub use outcome::{Came, Expected, Items};
pub use persons::{When, ask_once, every_person};
pub use records::record;
pub use suspension::{ask_to_resume, provided_again, suspend, while_suspended};
pub use teller::{Step, Teller};

use crate::{client::AccessError, deployment::DeploymentError};

/// A scene could not be played at all: what it needs is not there. What services answer is never an error here.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// The deployment's files.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// A caller's files.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A file to load.
    #[error("a file to be loaded cannot be read")]
    File(#[from] std::io::Error),
    /// The data set is not the one that the story tells of.
    #[error("the data set has no {0}")]
    Missing(&'static str),
}

/// Plays everything, in order.
///
/// # Errors
/// When a scene cannot be played at all.
pub async fn play(cast: &Cast, offices: &Offices, teller: &mut Teller) -> Result<(), StoryError> {
    load(&cast.deployment, offices, teller).await?;
    one_requester(cast, teller).await?;
    every_person(cast, When::BeforeRecords, teller).await?;
    record(&cast.persons, offices, teller).await?;
    every_person(cast, When::AfterRecords, teller).await?;
    for side in Side::ALL {
        suspend(offices, side, teller).await;
        while_suspended(cast, side, teller).await?;
        ask_to_resume(offices, side, teller).await;
        provided_again(cast, teller).await?;
    }
    Ok(())
}

/// A side of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The portal side.
    Portal,
    /// The registry side.
    Registry,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Portal, Self::Registry];

    fn name(self) -> &'static str {
        match self {
            Self::Portal => "the portal side",
            Self::Registry => "the registry side",
        }
    }
}
