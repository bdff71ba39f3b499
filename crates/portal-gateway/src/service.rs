//! Putting the gateway together.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use common::{
    alarm::{Alarm, Alarms},
    authorisation::{Listener, check_table},
    batch::Batcher,
    cards::Cards,
    clock::Clock,
    config::{ConfigError, LogConfig},
    eligibility::Signer,
    identity::{PeerIdentity, Role, TrustDomain},
    keyring::Keyring,
    lines::{self, Intake},
    ops::Readiness,
    policy::{Policies, Policy},
    process::{Service, StartError},
    server::{Server, ServerBase},
    status::StatusBoard,
    store::{DatabaseConfig, Housekeeping, SchemaStep, SideStore as _},
    tls::{Connector, TlsMaterial},
};
use koseki_proto::portal::{
    admin::v1::portal_admin_server::PortalAdminServer, v1::portal_server::PortalServer,
};

use crate::{
    admin::AdminService,
    config::Config,
    consent::Consents,
    hold_back::HoldBack,
    login::Login,
    portal::PortalService,
    provider_link::ProviderLink,
    provision::Provision,
    store::{GatewayStore, SCHEMA, Store},
    suppression::{Follower, Replica},
};

/// Message limit of the portal listener, in bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// How often expired challenges are removed.
const FORGET_CHALLENGES: Duration = Duration::from_secs(30);

/// The portal side's service.
pub struct Gateway;

/// What configuration names, read and checked.
struct Parts {
    trust_domain: TrustDomain,
    policies: Arc<Policies>,
    keys: Keyring,
    signer: Signer,
    cards: Cards,
    tls: TlsMaterial,
}

impl Parts {
    fn load(config: &Config, clock: Arc<dyn Clock>, alarms: Alarms) -> Result<Self, StartError> {
        config.check()?;
        check_table(koseki_proto::DESCRIPTOR_SET)?;
        let tls = TlsMaterial::load(&config.tls)?;
        tls.server_config()?;
        let policy = Policy::load(&config.policy_file)?;
        let max_call = config.limits.max_call();
        if !fits_the_limits(&policy, max_call) {
            return Err(ConfigError::value("limits.max_call_ms", LIMIT_RULE).into());
        }
        let policies = Arc::new(Policies::load(
            &config.policy_file,
            Some(config.next_policy_file.clone()),
            Box::new(move |policy| match fits_the_limits(policy, max_call) {
                true => Ok(()),
                false => Err(format!("limits.max_call_ms {LIMIT_RULE}")),
            }),
            clock.clone(),
            alarms,
        )?);
        Ok(Self {
            trust_domain: config.trust_domain()?,
            keys: Keyring::load(&config.keyring_file)?,
            signer: Signer::load(&config.eligibility.private_key, &config.eligibility.key_id)?,
            cards: Cards::load(&config.card, policies.clone(), clock)?,
            policies,
            tls,
        })
    }
}

const LIMIT_RULE: &str = "must be 3,000 above the policy's refusal_after_ms";

/// A refusal that the call's own limit cut off would not look like the others (I6).
fn fits_the_limits(policy: &Policy, max_call: Duration) -> bool {
    max_call >= policy.exchange.refusal_after() + Duration::from_secs(3)
}

impl Service for Gateway {
    const NAME: &'static str = "portal-gateway";
    type Config = Config;

    fn check(config: &Config) -> Result<(), StartError> {
        let clock = Arc::new(common::clock::SystemClock::new());
        Parts::load(config, clock, Alarms::default()).map(|_| ())
    }

    fn log(config: &Config) -> &LogConfig {
        &config.log
    }

    fn ops(config: &Config) -> SocketAddr {
        config.listen.ops
    }

    fn drain_deadline(config: &Config) -> Duration {
        Duration::from_millis(config.drain_deadline_ms)
    }

    fn database(config: &Config) -> (&DatabaseConfig, &'static [SchemaStep]) {
        (&config.database, SCHEMA)
    }

    async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Server, StartError> {
        Self::start_on(config, clock, HoldBack::UntilDue, |store| store).await
    }
}

impl Gateway {
    /// Starts the service on its store as `on` gives it back: tests put something in front of it.
    pub async fn start_on(
        config: Config,
        clock: Arc<dyn Clock>,
        hold_back: HoldBack,
        on: impl FnOnce(Arc<dyn GatewayStore>) -> Arc<dyn GatewayStore> + Send,
    ) -> Result<Server, StartError> {
        let alarms = Alarms::default();
        let Parts {
            trust_domain,
            policies,
            keys,
            signer,
            cards,
            tls,
        } = Parts::load(&config, clock.clone(), alarms.clone())?;
        let (keys, cards) = (Arc::new(keys), Arc::new(cards));
        let there = &config.provider;
        let connector = Connector::new(
            &tls,
            &trust_domain,
            &there.address,
            Role::KosekiProvider,
            &there.instance,
            clock.clone(),
        )?;
        let expiries = tls.expiries();
        let own = PeerIdentity::service(&trust_domain, Role::PortalGateway, &config.instance)?;
        let base = ServerBase {
            tls,
            trust_domain: trust_domain.clone(),
            limits: config.limits,
            clock: clock.clone(),
            alarms: alarms.clone(),
        };
        let mut server = Server::start(base, config.listen.ops).await?;

        let store = Store::open(&config.database, &config.instance, keys.clone()).await?;
        store.database().suspend_if_moved(&own, clock.now()).await?;
        let housekeeping = Housekeeping {
            policies: policies.clone(),
            alarms: alarms.clone(),
            own,
            clock: clock.clone(),
        };
        housekeeping.begin(store.database()).await?;
        let store: Arc<dyn GatewayStore> = on(Arc::new(store));
        let interval = there.status_interval();
        let provider = Arc::new(ProviderLink::new(
            connector.clone().channel(),
            there.instance.clone(),
            policies.clone(),
            interval,
            clock.clone(),
        ));
        let suppressions = Arc::new(Replica::new(policies.clone(), clock.clone()));
        let feed = Follower::new(
            connector.channel(),
            suppressions.clone(),
            policies.clone(),
            clock.clone(),
        );
        let provision = Arc::new(Provision {
            instance: config.instance,
            store: store.clone(),
            policies: policies.clone(),
            alarms: alarms.clone(),
            cards: cards.clone(),
            provider: provider.clone(),
            suppressions: suppressions.clone(),
            signer,
            pseudonym: keys.pseudonym.clone(),
            clock: clock.clone(),
        });
        let requests = Batcher::start(config.provision, move |asked| {
            let provision = provision.clone();
            async move { provision.provide(asked).await }
        });

        server.background(policies.clone().watch());
        server.background(cards.clone().keep_up(config.card.crl_reload()));
        server.background(feed.keep_up());
        let watched = Watched {
            provider: provider.clone(),
            suppressions: suppressions.clone(),
            alarms: alarms.clone(),
        };
        server.background(watched.keep_looking(interval, server.readiness()));
        server.background(forget_challenges(store.clone(), clock.clone()));
        {
            let store = store.clone();
            server.background(async move { housekeeping.keep(store.side().database()).await });
        }

        let login = Login {
            store: store.clone(),
            cards: cards.clone(),
            provider: provider.clone(),
            policies: policies.clone(),
            trust_domain,
            clock: clock.clone(),
        };
        let consents = Consents {
            store: store.clone(),
            policies: policies.clone(),
            clock: clock.clone(),
        };
        let portal = PortalService {
            login,
            consents,
            requests,
            hold_back,
            policies: policies.clone(),
            store: store.clone(),
            provider: provider.clone(),
            suppressions: suppressions.clone(),
            clock: clock.clone(),
        };
        let portal = PortalServer::new(portal).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let board = StatusBoard::new(
            clock.clone(),
            server.readiness(),
            policies.clone(),
            server.alarms().clone(),
            expiries,
        );
        let admin = AdminService {
            store,
            clock,
            intake: Intake::default(),
            policies,
            board: Arc::new(board),
            provider,
            suppressions,
            cards,
        };
        let admin = PortalAdminServer::new(admin).max_decoding_message_size(lines::MAX_MESSAGE_BYTES);
        server
            .listen(Listener::Portal, config.listen.portal, |routes| {
                routes.add_service(portal)
            })
            .await?;
        server
            .listen(Listener::PortalAdmin, config.listen.admin, |routes| {
                routes.add_service(admin)
            })
            .await?;
        Ok(server)
    }
}

/// What the gateway has to know of the registry side to be ready.
struct Watched {
    provider: Arc<ProviderLink>,
    suppressions: Arc<Replica>,
    alarms: Alarms,
}

impl Watched {
    /// Looks at the provider's state for as long as the service runs. The service is ready while that state is good and the
    /// suppression feed is fresh.
    async fn keep_looking(self, interval: Duration, readiness: Readiness) {
        loop {
            self.provider.look().await;
            let good = self.provider.state().is_some() && self.suppressions.current().is_some();
            if good != readiness.get() {
                readiness.set(good).await;
                tracing::info!(ready = good, "readiness changed");
            }
            self.alarms.set(
                Alarm::SuppressionFeedStale,
                self.provider.instance(),
                self.suppressions.is_overdue(),
            );
            tokio::time::sleep(interval).await;
        }
    }
}

/// Removes expired challenges for as long as the service runs.
async fn forget_challenges(store: Arc<dyn GatewayStore>, clock: Arc<dyn Clock>) {
    loop {
        match store.forget_challenges(clock.now()).await {
            // There may be more: go on at once.
            Ok(forgotten) if forgotten > 0 => {}
            Ok(_) => tokio::time::sleep(FORGET_CHALLENGES).await,
            Err(error) => {
                tracing::warn!(
                    error = common::telemetry::chain(&error),
                    "expired challenges could not be removed"
                );
                tokio::time::sleep(FORGET_CHALLENGES).await;
            }
        }
    }
}
