//! Who may call what (clauses 4.4.3, 4.4.4): one table, decided in one Tower layer around a listener's whole server, on
//! the path exactly as sent. What is not in the table is denied.

mod layer;
mod table;

pub use layer::{Authorise, Permit, permit};
pub use table::{Listener, TableError, check_table, methods};
