//! How much of everything there is.

use std::time::Duration;

/// At the stated size, or for a quick look.
pub(crate) struct Sizes {
    /// Persons; one in ten of them is suppressed.
    pub(crate) persons: usize,
    /// Persons in the small database that growth is measured from.
    pub(crate) few_persons: usize,
    /// Live sessions.
    pub(crate) sessions: usize,
    /// Persons who come and go, with cards of RSA.
    pub(crate) visitors: usize,
    /// Entries in the revocation list.
    pub(crate) revoked: usize,
    /// Memory of the database server.
    pub(crate) shared_buffers_mib: u32,
    /// Of product and of floor, in turns.
    pub(crate) slice: Duration,
    /// Before each slice.
    pub(crate) warm_up: Duration,
    /// Turns.
    pub(crate) rounds: usize,
    /// Each stretch of overload.
    pub(crate) overload: Duration,
    /// Whether the database server counts what statements take, which costs it something.
    pub(crate) count_statements: bool,
}

impl Sizes {
    pub(crate) fn stated() -> Self {
        Self {
            persons: 1_000_000,
            few_persons: 10_000,
            sessions: 10_000,
            visitors: 256,
            revoked: 1_000_000,
            shared_buffers_mib: 3_072,
            slice: Duration::from_secs(5),
            warm_up: Duration::from_secs(1),
            rounds: 5,
            overload: Duration::from_secs(10),
            count_statements: false,
        }
    }

    /// So small that every run of the tests can see that the bench still works. It measures nothing.
    pub(crate) fn smoke() -> Self {
        Self {
            persons: 400,
            few_persons: 200,
            sessions: 20,
            visitors: 8,
            revoked: 1_000,
            shared_buffers_mib: 128,
            slice: Duration::from_secs(2),
            warm_up: Duration::from_millis(500),
            rounds: 1,
            overload: Duration::from_millis(200),
            count_statements: false,
        }
    }

    pub(crate) fn quick() -> Self {
        Self {
            persons: 50_000,
            sessions: 2_000,
            visitors: 160,
            shared_buffers_mib: 512,
            slice: Duration::from_millis(1_500),
            warm_up: Duration::from_millis(300),
            rounds: 3,
            overload: Duration::from_secs(3),
            ..Self::stated()
        }
    }
}
