//! Names of logs: `<trust domain>/<role>/<instance>`.

/// A side of the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// The registry side.
    Registry,
    /// The portal side.
    Portal,
}

impl Side {
    pub(crate) const ALL: [Self; 2] = [Self::Registry, Self::Portal];

    pub(crate) fn role(self) -> &'static str {
        match self {
            Self::Registry => "koseki-provider",
            Self::Portal => "portal-gateway",
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Registry => Self::Portal,
            Self::Portal => Self::Registry,
        }
    }

    /// The side that a log of this origin is of.
    pub(crate) fn of(origin: &str) -> Option<Self> {
        let role = origin.split('/').nth(1)?;
        Self::ALL.into_iter().find(|side| side.role() == role)
    }
}

/// The trust domain and the instance in an origin.
fn parts_of(origin: &str) -> (&str, &str) {
    let mut parts = origin.split('/');
    (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default())
}

/// The instance in an origin, which is the log's short name.
pub(crate) fn instance(origin: &str) -> &str {
    parts_of(origin).1
}

/// The name of a log's witness.
pub(crate) fn witness_of(origin: &str, side: Side) -> String {
    format!("{}/{}", parts_of(origin).0, side.other().role())
}
