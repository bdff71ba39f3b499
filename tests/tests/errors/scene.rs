//! Both services with the data set, and callers that speak one language.

use common::{
    authorisation::Listener,
    identity::{Role, TrustDomain},
    language::Language,
    tls::{Connector, TlsMaterial},
};
use devkit::deployment::{FRONTEND, OPERATORS, PROVIDER_INSTANCE, TRUST_DOMAIN};
use integration_tests::{Pair, address, hooks::Places};
use koseki_proto::{
    koseki::{
        admin::v1::koseki_admin_client::KosekiAdminClient, ingest::v1::ingest_client::IngestClient,
        linkage::v1::linkage_client::LinkageClient,
    },
    portal::{admin::v1::portal_admin_client::PortalAdminClient, v1::portal_client::PortalClient},
};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// Says in which language a call wants to be told.
#[derive(Clone, Copy)]
pub(crate) struct Speaks(Language);

impl Interceptor for Speaks {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if self.0 == Language::English {
            request
                .metadata_mut()
                .insert("accept-language", "en-GB, ja;q=0.5".parse().unwrap());
        }
        Ok(request)
    }
}

/// A connection in one language.
pub(crate) type Line = InterceptedService<Channel, Speaks>;

pub(crate) struct Scene {
    pub(crate) pair: Pair,
    pub(crate) portal_places: Places,
    pub(crate) cast: devkit::story::Cast,
    language: Language,
}

impl Scene {
    pub(crate) async fn new(language: Language) -> Self {
        let portal_places = Places::default();
        let pair = Pair::start_hooked(&Places::default(), &portal_places)
            .await
            .load()
            .await;
        let cast = pair.cast().await;
        Self {
            pair,
            portal_places,
            cast,
            language,
        }
    }

    /// A new id of a call or an act.
    pub(crate) fn id(&self) -> String {
        self.cast.frontend.ids().next()
    }

    pub(crate) fn speaking(&self, channel: Channel) -> Line {
        InterceptedService::new(channel, Speaks(self.language))
    }

    fn to_gateway(&self, role: Role, name: &str, listener: Listener) -> Line {
        let address = address(&self.pair.gateway, listener);
        self.speaking(self.pair.access().to_gateway(role, name, &address).unwrap())
    }

    fn to_provider(&self, role: Role, name: &str, listener: Listener) -> Line {
        let address = address(&self.pair.provider, listener);
        self.speaking(self.pair.access().to_provider(role, name, &address).unwrap())
    }

    pub(crate) fn portal_line(&self) -> Line {
        self.to_gateway(Role::PortalFrontend, FRONTEND, Listener::Portal)
    }

    pub(crate) fn portal(&self) -> PortalClient<Line> {
        PortalClient::new(self.portal_line())
    }

    /// An operator's call where only frontends may call.
    pub(crate) fn operator_at_the_portal(&self) -> PortalClient<Line> {
        PortalClient::new(self.to_gateway(Role::Operator, OPERATORS[0], Listener::Portal))
    }

    pub(crate) fn portal_admin(&self) -> PortalAdminClient<Line> {
        PortalAdminClient::new(self.to_gateway(Role::Operator, OPERATORS[0], Listener::PortalAdmin))
    }

    pub(crate) fn registry_admin(&self) -> KosekiAdminClient<Line> {
        KosekiAdminClient::new(self.to_provider(Role::Operator, OPERATORS[0], Listener::KosekiAdmin))
    }

    /// With the gateway's own certificate.
    pub(crate) fn linkage(&self) -> LinkageClient<Line> {
        let config: portal_gateway::config::Config =
            common::config::load(&self.pair.deployment.gateway_config()).unwrap();
        let connector = Connector::new(
            &TlsMaterial::load(&config.tls).unwrap(),
            &TrustDomain::parse(TRUST_DOMAIN).unwrap(),
            &address(&self.pair.provider, Listener::Linkage),
            Role::KosekiProvider,
            PROVIDER_INSTANCE,
            self.pair.clock.clone(),
        )
        .unwrap();
        LinkageClient::new(self.speaking(connector.channel()))
    }

    pub(crate) fn officer(&self, name: &str) -> IngestClient<Line> {
        IngestClient::new(self.to_provider(Role::Municipality, name, Listener::Ingest))
    }
}
