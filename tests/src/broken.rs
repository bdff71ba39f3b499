//! Both services under load while something of the store is broken: what must hold meanwhile, and at the end (I2, I3, I9).

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use common::{alarm::Alarm, ops, server::Server};
use devkit::{deployment::Deployment, story::Cast};
use tokio::time::{interval, timeout};

use crate::{
    asking::Asking,
    countersigned::Countersigned,
    log::{self, released_of},
};

/// Until a service says that it cannot serve, or that it can again: two intervals of a second, and what the longest wait for a
/// database takes.
const SAYS_SO_WITHIN: Duration = Duration::from_secs(12);
/// Time in which a service looks several times whether it can serve again.
const SEVERAL_LOOKS: Duration = Duration::from_secs(4);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A side, as this looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The registry side.
    Registry,
    /// The portal side.
    Portal,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Registry, Self::Portal];

    /// Its database.
    pub fn database(self, deployment: &Deployment) -> PathBuf {
        match self {
            Self::Registry => deployment.provider_database(),
            Self::Portal => deployment.gateway_database(),
        }
    }

    /// The name of its role.
    pub fn role(self) -> &'static str {
        match self {
            Self::Registry => "koseki-provider",
            Self::Portal => "portal-gateway",
        }
    }

    fn log(self) -> &'static str {
        match self {
            Self::Registry => "provider-1",
            Self::Portal => "gateway-1",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Registry => Self::Portal,
            Self::Portal => Self::Registry,
        }
    }
}

/// Where a service tells whether it is ready.
pub fn ops_of(server: &Server) -> SocketAddr {
    server.address("ops").unwrap()
}

/// Waits until a service says whether it is ready.
pub async fn until_ready(ops: SocketAddr, wanted: bool, what: &str) {
    let said = async {
        let mut looks = interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            if matches!(ops::is_ready(ops).await, Ok(ready) if ready == wanted) {
                return;
            }
        }
    };
    let said = timeout(SAYS_SO_WITHIN, said).await;
    assert!(said.is_ok(), "{what}: it does not say that ready is {wanted}");
}

/// Waits until an alarm about a log stands, or is over.
pub async fn until_alarm(server: &Server, alarm: Alarm, log: &str, stands: bool) {
    let wanted = (alarm, log.to_owned());
    let said = async {
        let mut looks = interval(LOOK_EVERY);
        while server.alarms().standing().contains(&wanted) != stands {
            looks.tick().await;
        }
    };
    let said = timeout(SAYS_SO_WITHIN, said).await;
    assert!(
        said.is_ok(),
        "{alarm:?} about {log}: it is not so that it stands: {stands}"
    );
}

/// Both services under load.
pub struct UnderLoad {
    deployment: Deployment,
    ops: [SocketAddr; 2],
    asking: Asking,
    countersigned: Countersigned,
}

impl UnderLoad {
    /// Requesters begin to ask both services, which provide.
    pub async fn start(deployment: &Deployment, ops: [SocketAddr; 2], cast: &Cast) -> Self {
        cast.frontend.wait_until_providing().await.unwrap();
        let mut this = Self {
            deployment: deployment.clone(),
            ops,
            asking: Asking::start(cast).await,
            countersigned: Countersigned::default(),
        };
        this.works("the start").await;
        this
    }

    /// Something is broken: requesters are refused, and the services of these sides say that they cannot serve.
    pub async fn refuses(&mut self, sides: &[Side], fault: &str) {
        self.asking.until_refused(fault).await;
        for side in sides {
            let what = format!("{fault}, {side:?}");
            until_ready(self.ops[*side as usize], false, &what).await;
        }
        self.asking.until_refused(fault).await;
    }

    /// For as long as it lasts the services of these sides do not say that they can serve, although nobody asks and is refused.
    pub async fn goes_on_refusing(&mut self, sides: &[Side], fault: &str) {
        let looks = async {
            let mut looks = interval(LOOK_EVERY);
            loop {
                looks.tick().await;
                for side in sides {
                    let ready = ops::is_ready(self.ops[*side as usize]).await;
                    assert!(
                        !matches!(ready, Ok(true)),
                        "{fault}, {side:?}: it says that it is ready"
                    );
                }
            }
        };
        self.asking.pause(true);
        let _: Result<(), _> = timeout(SEVERAL_LOOKS, looks).await;
        self.asking.pause(false);
        self.asking.until_refused(fault).await;
    }

    /// It is mended: without anybody's help both serve again, and requesters are answered.
    pub async fn recovers(&mut self, fault: &str) {
        for side in Side::BOTH {
            let what = format!("after {fault}, {side:?}");
            until_ready(self.ops[side as usize], true, &what).await;
        }
        self.works(fault).await;
    }

    async fn works(&mut self, after: &str) {
        self.asking.until_answered(after).await;
        for side in Side::BOTH {
            self.countersigned.note(&side.database(&self.deployment)).await;
        }
    }

    /// At the end, while both databases can be read: both logs are whole, go on from everything that was countersigned, and
    /// have an entry for every answer.
    pub async fn end(self) {
        self.end_with(BTreeSet::new()).await;
    }

    /// The same, where others were answered, too.
    pub async fn end_with(mut self, others: BTreeSet<String>) {
        let mut answered = self.asking.end().await;
        answered.extend(others);
        assert!(!answered.is_empty());
        for side in Side::BOTH {
            self.countersigned.note(&side.database(&self.deployment)).await;
        }
        for side in Side::BOTH {
            let logs = log::logs(&side.database(&self.deployment)).await;
            let released = released_of(&logs[side.log()]);
            let without: Vec<_> = answered.difference(&released).collect();
            assert!(
                without.is_empty(),
                "{side:?}: answers without an entry: {without:?}"
            );
            let held = self.countersigned.assert_are_of(side.role(), &logs);
            assert!(held > 0, "{:?} has countersigned nothing", side.other());
        }
    }
}
