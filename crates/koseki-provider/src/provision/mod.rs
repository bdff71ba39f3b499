//! Provision (提供; clause 4): the life of a request on the registry side (DESIGN §4).

mod admission;
mod decision;
mod login;
mod receipts;
mod release;
mod service;

pub use login::Logins;
pub use release::{Answer, Call, CallOutcome, Item, Releaser};
pub use service::LinkageService;
