//! Putting the gateway together.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use common::{
    alarm::{Alarm, Alarms},
    audit_log::AuditLogService,
    authorisation::{Listener, check_table},
    batch::{Batcher, Flow},
    cards::Cards,
    clock::Clock,
    config::{ConfigError, LogConfig},
    eligibility::Signer,
    evidence::{EvidenceKeys, witness_name},
    identity::{PeerIdentity, Role, TrustDomain},
    keyring::Keyring,
    lines::{self, Intake},
    metrics::Metrics,
    ops::Readiness,
    paging::PageTokens,
    policy::{Policies, Policy},
    process::{Service, StartError},
    server::{Server, ServerBase},
    status::StatusBoard,
    store::{DatabaseConfig, Housekeeping, SchemaStep, SideStore as _},
    tls::{Connector, TlsError, TlsMaterial},
    witness::Witnessing,
};
use koseki_proto::portal::{
    admin::v1::portal_admin_server::PortalAdminServer, v1::portal_server::PortalServer,
};
use tokio::sync::RwLock;

use crate::{
    admin::AdminService,
    challenges::Challenges,
    checkpoints::CheckpointExchange,
    closings::Closings,
    config::{Config, ProviderConfig},
    consent::Consents,
    hold_back::HoldBack,
    login::Login,
    login_limits::LoginLimits,
    lost_answers::LostAnswers,
    metrics::{GatewayMetrics, OldRows, Queue, batches},
    old_data::OldDataRemoval,
    openings::Openings,
    own_records::OwnRecords,
    portal::PortalService,
    provider_link::ProviderLink,
    providers::Providers,
    provision::{Provision, Spending},
    receipt::Receipts,
    record_index::RecordIndex,
    recorded_answers::RecordedAnswers,
    requester::Requesters,
    sessions::Sessions,
    store::{GatewayStore, SCHEMA, Store},
    suppression::{Follower, Replica},
};

/// Message limit of the portal listener, in bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// While one batch of requests is recorded here, the next one is at the registry side. With one, both sides and their databases wait
/// for each other; with three, batches are so small that what each costs by itself outweighs it.
const REQUESTS: Flow = Flow {
    in_flight: 2,
    apart: Duration::ZERO,
};

/// The portal side's service.
pub struct Gateway;

/// What configuration names, read and checked.
struct Parts {
    trust_domain: TrustDomain,
    policies: Arc<Policies>,
    keys: Keyring,
    tokens: Arc<PageTokens>,
    signer: Signer,
    evidence: EvidenceKeys,
    receipts: Receipts,
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
            alarms.clone(),
        )?);
        let keys = Keyring::load(&config.keyring_file)?;
        let tokens = keys.page_tokens.clone();
        let missing = || format!("{}: page_token: at least one key", config.keyring_file.display());
        let trust_domain = config.trust_domain()?;
        Ok(Self {
            evidence: EvidenceKeys::load(
                &config.evidence,
                &trust_domain,
                Role::PortalGateway,
                &config.instance,
            )?,
            trust_domain,
            tokens: tokens.ok_or_else(missing)?,
            receipts: Receipts::load(&config.consent_receipt, keys.pseudonym.clone())?,
            keys,
            signer: Signer::load(&config.eligibility.private_key, &config.eligibility.key_id)?,
            cards: Cards::load(&config.card, policies.clone(), clock, alarms)?,
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
        Ok(Parts::load(config, clock, Alarms::default())?
            .cards
            .check_files()?)
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
            tokens,
            signer,
            evidence,
            receipts,
            cards,
            tls,
        } = Parts::load(&config, clock.clone(), alarms.clone())?;
        let (keys, cards) = (Arc::new(keys), Arc::new(cards));
        let connectors = connectors(&config, &tls, &trust_domain, &clock)?;
        let interval = config.provider_status_interval();
        let expiries = tls.expiries();
        let side = witness_name(&trust_domain, Role::PortalGateway);
        let own = PeerIdentity::service(&trust_domain, Role::PortalGateway, &config.instance)?;
        let metrics = Metrics::default();
        let counted = GatewayMetrics::new(&metrics);
        let batches = batches(&metrics);
        let base = ServerBase {
            tls,
            trust_domain: trust_domain.clone(),
            limits: config.limits,
            clock: clock.clone(),
            alarms: alarms.clone(),
            metrics: metrics.clone(),
        };
        let mut server = Server::start(base, config.listen.ops).await?;

        let store = Store::open(&config.database, &config.instance, keys.clone()).await?;
        store.database().suspend_if_moved(&own, clock.now()).await?;
        let housekeeping = Housekeeping {
            policies: policies.clone(),
            alarms: alarms.clone(),
            own: own.clone(),
            clock: clock.clone(),
            forgot: {
                let removed = counted.removed_rows.clone();
                Arc::new(move |rows| removed.add(OldRows::UsedRequestId, rows))
            },
        };
        housekeeping.begin(store.database()).await?;
        cards.look(store.database(), &own).await?;
        let store: Arc<dyn GatewayStore> = on(Arc::new(store));
        let link = |(instance, connector): &(String, Connector)| {
            let (channel, instance) = (connector.clone().channel(), instance.clone());
            ProviderLink::new(channel, instance, policies.clone(), interval, clock.clone())
        };
        let links = connectors.iter().map(link).collect();
        let recorded = Arc::new(RecordedAnswers::default());
        let providers = Arc::new(Providers::new(links, clock.clone()));
        let suppressions = Arc::new(Replica::new(policies.clone(), clock.clone()));
        let lines = connectors.iter();
        let feed = Follower::new(
            lines.map(|(instance, connector)| (instance.clone(), connector.clone().channel())),
            suppressions.clone(),
            policies.clone(),
            clock.clone(),
        );
        let evidence = Arc::new(evidence);
        let witnessing = Arc::new(Witnessing::new(
            evidence.clone(),
            own.clone(),
            Role::KosekiProvider,
            policies.clone(),
            alarms.clone(),
            clock.clone(),
        ));
        // Each instance of the registry side has a log of its own: to be countersigned, and to be asked what was lost.
        let countersigned = Arc::default();
        for (instance, connector) in connectors {
            let checkpoints = CheckpointExchange {
                client: CheckpointExchange::client(connector.clone().channel()),
                provider: instance.clone(),
                countersigned: Arc::clone(&countersigned),
                witnessing: witnessing.clone(),
                keys: evidence.clone(),
                store: store.clone(),
            };
            server.background(checkpoints.keep_up());
            let lost_answers = LostAnswers {
                recorded: recorded.clone(),
                client: LostAnswers::client(connector.channel()),
                provider: instance,
                instance: config.instance.clone(),
                keys: evidence.clone(),
                store: store.clone(),
                alarms: alarms.clone(),
                clock: clock.clone(),
            };
            server.background(lost_answers.keep_up());
        }
        let in_flight = Arc::new(RwLock::new(()));
        let provision = Arc::new(Provision {
            instance: config.instance,
            store: store.clone(),
            policies: policies.clone(),
            alarms: alarms.clone(),
            cards: cards.clone(),
            providers: providers.clone(),
            suppressions: suppressions.clone(),
            signer,
            witnessing: witnessing.clone(),
            evidence: evidence.clone(),
            pseudonym: keys.pseudonym.clone(),
            clock: clock.clone(),
            spending: Spending::default(),
            recorded,
            in_flight: in_flight.clone(),
        });
        let meter = batches.of(Queue::Requests, clock.clone());
        let requests = Batcher::start(config.provision, REQUESTS, meter, move |asked| {
            let provision = provision.clone();
            async move { provision.provide(asked).await }
        });

        server.background(policies.clone().watch());
        {
            let (store, cards, every) = (store.clone(), cards.clone(), config.card.crl_reload());
            let own = own.clone();
            server.background(async move { cards.keep_up(store.side().database(), &own, every).await });
        }
        server.background(feed.keep_up());
        {
            let (store, witnessing) = (store.clone(), witnessing.clone());
            server.background(async move { witnessing.keep_up(store.side().database()).await });
        }
        for at in 0..providers.links().len() {
            server.background(providers.clone().keep_looking(at));
        }
        let watched = Watched {
            providers: providers.clone(),
            suppressions: suppressions.clone(),
            cards: cards.clone(),
            witnessing: witnessing.clone(),
            store: store.clone(),
            alarms: alarms.clone(),
            clock: clock.clone(),
        };
        server.background(watched.keep_looking(interval, server.readiness()));
        let removal = OldDataRemoval {
            store: store.clone(),
            policies: policies.clone(),
            removed: counted.removed_rows.clone(),
            clock: clock.clone(),
        };
        server.background(removal.keep_on());
        let sessions = Arc::new(Sessions {
            store: store.clone(),
            cards: cards.clone(),
            policies: policies.clone(),
            own,
            clock: clock.clone(),
        });
        server.background(sessions.clone().keep_up());
        let index = Arc::new(RecordIndex::new(store.clone(), clock.clone()));
        server.background(index.clone().follow());
        {
            let store = store.clone();
            server.background(async move { housekeeping.keep(store.side().database()).await });
        }

        let openings = Arc::new(Openings::start(
            store.clone(),
            cards.clone(),
            policies.clone(),
            clock.clone(),
            config.provision,
            batches.of(Queue::Openings, clock.clone()),
        ));
        let challenges = Challenges::start(
            store.clone(),
            clock.clone(),
            config.provision,
            batches.of(Queue::Challenges, clock.clone()),
        );
        let login = Login {
            challenges,
            openings: openings.clone(),
            cards: cards.clone(),
            providers: providers.clone(),
            policies: policies.clone(),
            limits: LoginLimits::new(config.login),
            metrics: counted,
            trust_domain,
            clock: clock.clone(),
        };
        let consents = Consents {
            store: store.clone(),
            openings,
            sessions: sessions.clone(),
            policies: policies.clone(),
            receipts,
            tokens: tokens.clone(),
            clock: clock.clone(),
        };
        let requesters = Requesters {
            store: store.clone(),
            sessions: sessions.clone(),
            policies: policies.clone(),
            clock: clock.clone(),
        };
        let own_records = OwnRecords {
            store: store.clone(),
            index,
            tokens,
            keys: evidence,
        };
        let closings = Closings::start(
            store.clone(),
            policies.clone(),
            clock.clone(),
            config.provision,
            batches.of(Queue::Closings, clock.clone()),
        );
        let portal = PortalService {
            login,
            closings,
            consents,
            requesters,
            own_records,
            requests,
            hold_back,
            policies: policies.clone(),
            store: store.clone(),
            providers: providers.clone(),
            suppressions: suppressions.clone(),
            witnessing: witnessing.clone(),
            clock: clock.clone(),
        };
        let portal = PortalServer::new(portal).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let board = StatusBoard::new(
            clock.clone(),
            server.readiness(),
            policies.clone(),
            server.alarms().clone(),
            expiries,
            cards,
        );
        let audit_log = AuditLogService::server(store.clone(), side, clock.clone());
        let admin = AdminService {
            store,
            clock,
            intake: Intake::default(),
            policies,
            board: Arc::new(board),
            providers,
            suppressions,
            witnessing,
            in_flight,
        };
        let admin = PortalAdminServer::new(admin).max_decoding_message_size(lines::MAX_MESSAGE_BYTES);
        server
            .listen(Listener::Portal, config.listen.portal, |routes| {
                routes.add_service(portal)
            })
            .await?;
        server
            .listen(Listener::PortalAdmin, config.listen.admin, |routes| {
                routes.add_service(admin).add_service(audit_log)
            })
            .await?;
        Ok(server)
    }
}

/// What dials each provider instance, by its name.
fn connectors(
    config: &Config,
    tls: &TlsMaterial,
    trust_domain: &TrustDomain,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<(String, Connector)>, TlsError> {
    let connector = |there: &ProviderConfig| {
        let (address, instance, clock) = (&there.address, &there.instance, clock.clone());
        let role = Role::KosekiProvider;
        let connector = Connector::new(tls, trust_domain, address, role, instance, clock)?;
        Ok((instance.clone(), connector))
    };
    config.providers.iter().map(connector).collect()
}

/// What the gateway needs to be ready.
struct Watched {
    providers: Arc<Providers>,
    suppressions: Arc<Replica>,
    cards: Arc<Cards>,
    witnessing: Arc<Witnessing>,
    store: Arc<dyn GatewayStore>,
    alarms: Alarms,
    clock: Arc<dyn Clock>,
}

/// An instance of the registry side that has not provided for so long is told of: longer than one takes to be started anew.
const AWAY: Duration = Duration::from_secs(15);

impl Watched {
    /// Goes on for as long as the service runs. The service is ready while an instance of the registry side provides, the
    /// suppression feed is fresh, there is a fresh list of what cards are revoked, and its log can be written and is countersigned.
    async fn keep_looking(self, interval: Duration, readiness: Readiness) {
        let links = self.providers.links();
        let mut provided: Vec<Duration> = links.iter().map(|_| self.clock.monotonic()).collect();
        loop {
            // As soon as there may be something new, and when nobody answers, too.
            let _ = tokio::time::timeout(interval, self.providers.looked()).await;
            let good = self.providers.providing().is_some()
                && self.suppressions.current().is_some()
                && self.cards.can_tell()
                && self.witnessing.holds()
                && self.store.side().database().is_writable();
            if good != readiness.get() {
                readiness.set(good).await;
                tracing::info!(ready = good, "readiness changed");
            }
            let overdue = self.suppressions.is_overdue();
            // Any instance of the registry side feeds it.
            self.alarms
                .set(Alarm::SuppressionFeedStale, "suppression feed", overdue);
            let now = self.clock.monotonic();
            for (link, provided) in links.iter().zip(&mut provided) {
                if link.providing().is_some() {
                    *provided = now;
                }
                let away = now.saturating_sub(*provided) > AWAY;
                self.alarms
                    .set(Alarm::ProviderInstanceAway, link.instance(), away);
            }
        }
    }
}
