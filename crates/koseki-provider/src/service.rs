//! Putting the provider together.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use common::{
    alarm::Alarms,
    audit_log::AuditLogService,
    authorisation::{Listener, check_table},
    batch::{Batcher, Flow},
    cards::Cards,
    clock::Clock,
    config::{ConfigError, LogConfig},
    eligibility::Verifier,
    evidence::{EvidenceKeys, ReceiptSigner, witness_name},
    identity::{PeerIdentity, Role, TrustDomain},
    keyring::Keyring,
    lines::{self, Intake},
    metrics::Metrics,
    ops::Readiness,
    policy::{Policies, Policy},
    process::{Service, StartError},
    server::{Server, ServerBase},
    status::StatusBoard,
    store::{DatabaseConfig, Housekeeping, SchemaStep, SideStore as _},
    tls::TlsMaterial,
    turns::Turns,
    witness::Witnessing,
};
use koseki_proto::koseki::{
    admin::v1::koseki_admin_server::KosekiAdminServer, ingest::v1::ingest_server::IngestServer,
    linkage::v1::linkage_server::LinkageServer,
};

use crate::{
    admin::AdminService,
    config::Config,
    gateways::GatewaysSeen,
    guard_wait::GuardWait,
    ingest::IngestService,
    metrics::{OldRows, Queue, batches, removed_rows},
    persons,
    provision::{LinkageService, Logins, Releaser},
    store::{ProviderStore, SCHEMA, Store},
    suppression::{self, Suppressions},
};

/// Message limits of the linkage listener, in bytes. In: an eligibility of 512 KiB, and 256 items with login proofs of
/// 5.5 KiB at most and 128 bytes of their own, which are 1.41 MiB.
const MAX_BATCH_IN: usize = 2 * 1024 * 1024;
const MAX_BATCH_OUT: usize = 4 * 1024 * 1024;
/// How often it is looked whether the service can serve.
const READINESS_INTERVAL: Duration = Duration::from_secs(1);

/// The registry side's service.
pub struct Provider;

/// What configuration names, read and checked.
struct Parts {
    trust_domain: TrustDomain,
    policies: Arc<Policies>,
    keys: Keyring,
    verifier: Verifier,
    receipts: ReceiptSigner,
    evidence: EvidenceKeys,
    cards: Cards,
    tls: TlsMaterial,
}

impl Parts {
    fn load(config: &Config, clock: Arc<dyn Clock>, alarms: Alarms) -> Result<Self, StartError> {
        config.check()?;
        check_table(koseki_proto::DESCRIPTOR_SET)?;
        let keys = Keyring::load(&config.keyring_file)?;
        if keys.beacon.is_none() {
            return Err(format!("{}: beacon: at least one key", config.keyring_file.display()).into());
        }
        if keys.handle.is_none() {
            return Err(format!("{}: handle: exactly one key", config.keyring_file.display()).into());
        }
        if keys.feed.is_none() {
            return Err(format!("{}: feed: at least one key", config.keyring_file.display()).into());
        }
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
        let trust_domain = config.trust_domain()?;
        let evidence = EvidenceKeys::load(
            &config.evidence,
            &trust_domain,
            Role::KosekiProvider,
            &config.instance,
        )?;
        Ok(Self {
            receipts: ReceiptSigner::load(&config.receipt_key, evidence.origin())?,
            evidence,
            trust_domain,
            cards: Cards::load(&config.card, policies.clone(), clock, alarms)?,
            policies,
            keys,
            verifier: Verifier::load(&config.eligibility_keys_dir)?,
            tls,
        })
    }
}

const LIMIT_RULE: &str = "must be 3,000 above the policy's max_answer_age_ms and max_hand_off_ms together";

/// A forbidding act waits before it returns: a call that is cut before then would always look as if it had failed.
fn fits_the_limits(policy: &Policy, max_call: Duration) -> bool {
    max_call >= policy.exchange.guard_wait() + Duration::from_secs(3)
}

impl Service for Provider {
    const NAME: &'static str = "koseki-provider";
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
        Self::start_on(config, clock, |store| store).await
    }
}

impl Provider {
    /// Starts the service on its store as `on` gives it back: tests put something in front of it.
    pub async fn start_on(
        config: Config,
        clock: Arc<dyn Clock>,
        on: impl FnOnce(Arc<dyn ProviderStore>) -> Arc<dyn ProviderStore> + Send,
    ) -> Result<Server, StartError> {
        let alarms = Alarms::default();
        let Parts {
            trust_domain,
            policies,
            keys,
            verifier,
            receipts,
            evidence,
            cards,
            tls,
        } = Parts::load(&config, clock.clone(), alarms.clone())?;
        let expiries = tls.expiries();
        let side = witness_name(&trust_domain, Role::KosekiProvider);
        let own = PeerIdentity::service(&trust_domain, Role::KosekiProvider, &config.instance)?;
        let metrics = Metrics::default();
        let removed = removed_rows(&metrics);
        let batches = batches(&metrics);
        let base = ServerBase {
            tls,
            trust_domain: trust_domain.clone(),
            limits: config.limits,
            clock: clock.clone(),
            alarms: alarms.clone(),
            metrics,
        };
        let mut server = Server::start(base, config.listen.ops).await?;

        let beacon = keys.beacon.clone().ok_or("beacon: at least one key")?;
        let handles = keys.handle.clone().ok_or("handle: exactly one key")?;
        let feed = keys.feed.clone().ok_or("feed: at least one key")?;
        let pseudonym = keys.pseudonym.clone();
        let cards = Arc::new(cards);
        let logins = Arc::new(Logins::new(
            cards.clone(),
            beacon,
            keys.lookup.clone(),
            trust_domain,
        ));
        let keys = Arc::new(keys);
        server.background(policies.clone().watch());
        let store = Store::open(&config.database, &config.instance, keys).await?;
        store.database().suspend_if_moved(&own, clock.now()).await?;
        let housekeeping = Housekeeping {
            policies: policies.clone(),
            alarms: alarms.clone(),
            own: own.clone(),
            clock: clock.clone(),
            forgot: Arc::new(move |rows| removed.add(OldRows::UsedRequestId, rows)),
        };
        housekeeping.begin(store.database()).await?;
        cards.look(store.database(), &own).await?;
        let store: Arc<dyn ProviderStore> = on(Arc::new(store));
        let witnessing = Arc::new(Witnessing::new(
            Arc::new(evidence),
            own.clone(),
            Role::PortalGateway,
            policies.clone(),
            alarms.clone(),
            clock.clone(),
        ));
        {
            let (store, witnessing) = (store.clone(), witnessing.clone());
            server.background(async move { witnessing.keep_up(store.side().database()).await });
        }
        let releaser = Arc::new(Releaser {
            store: store.clone(),
            pseudonym,
            handles,
            cards: cards.clone(),
            witnessing: witnessing.clone(),
            logins: logins.clone(),
            clock: clock.clone(),
        });
        let one_at_a_time = Flow {
            in_flight: 1,
            apart: Duration::ZERO,
        };
        let releases = Batcher::start(
            config.provision,
            one_at_a_time,
            batches.of(Queue::Releases, clock.clone()),
            move |calls| {
                let releaser = releaser.clone();
                async move { releaser.release(calls).await }
            },
        );
        {
            let store = store.clone();
            server.background(async move { housekeeping.keep(store.side().database()).await });
        }
        {
            let (store, cards, every) = (store.clone(), cards.clone(), config.card.crl_reload());
            server.background(async move { cards.keep_up(store.side().database(), &own, every).await });
        }
        server.background(keep_ready(
            cards.clone(),
            witnessing.clone(),
            store.clone(),
            server.readiness(),
        ));
        {
            let (store, alarms) = (store.clone(), alarms.clone());
            server.background(async move { persons::watch_current_registers(&*store, &alarms).await });
        }

        let (follower, newest) = suppression::follower(store.clone(), feed, clock.clone());
        server.background(follower.keep_up());

        let gateways = GatewaysSeen::default();
        let guard_wait = GuardWait::new(clock.clone(), policies.clone());
        let linkage = LinkageService {
            store: store.clone(),
            releases,
            witnessing: witnessing.clone(),
            receipts,
            receipt_turns: Turns::default(),
            verifier: Arc::new(verifier),
            policies: policies.clone(),
            logins,
            cards: cards.clone(),
            clock: clock.clone(),
            gateways: gateways.clone(),
            suppressions: Suppressions::new(newest, policies.clone(), clock.clone()),
        };
        let linkage = LinkageServer::new(linkage)
            .max_decoding_message_size(MAX_BATCH_IN)
            .max_encoding_message_size(MAX_BATCH_OUT);
        let ingest = IngestService {
            store: store.clone(),
            policies: policies.clone(),
            clock: clock.clone(),
            intake: Intake::default(),
            guard_wait: guard_wait.clone(),
        };
        let ingest = IngestServer::new(ingest).max_decoding_message_size(lines::MAX_MESSAGE_BYTES);
        let board = StatusBoard::new(
            clock.clone(),
            server.readiness(),
            policies.clone(),
            alarms,
            expiries,
            cards,
        );
        let audit_log = AuditLogService::server(store.clone(), side, clock.clone());
        let admin = AdminService {
            store,
            clock,
            intake: Intake::default(),
            guard_wait,
            policies,
            board: Arc::new(board),
            gateways,
            witnessing,
        };
        let admin = KosekiAdminServer::new(admin).max_decoding_message_size(lines::MAX_MESSAGE_BYTES);
        server
            .listen(Listener::Linkage, config.listen.linkage, |routes| {
                routes.add_service(linkage)
            })
            .await?;
        server
            .listen(Listener::Ingest, config.listen.ingest, |routes| {
                routes.add_service(ingest)
            })
            .await?;
        server
            .listen(Listener::KosekiAdmin, config.listen.admin, |routes| {
                routes.add_service(admin).add_service(audit_log)
            })
            .await?;
        Ok(server)
    }
}

/// The service is ready while there is a fresh list of what cards are revoked, and its log can be written and is countersigned
/// or waits for the first gateway to do so.
async fn keep_ready(
    cards: Arc<Cards>,
    witnessing: Arc<Witnessing>,
    store: Arc<dyn ProviderStore>,
    readiness: Readiness,
) {
    loop {
        let good = cards.all_fresh(&cards.lists())
            && !witnessing.is_overdue()
            && store.side().database().is_writable();
        if good != readiness.get() {
            readiness.set(good).await;
            tracing::info!(ready = good, "readiness changed");
        }
        tokio::time::sleep(READINESS_INTERVAL).await;
    }
}
