//! Connections to the listeners that the profile names: mutual TLS, the server known by its identity.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::ValueEnum;
use common::{
    clock::Clock,
    identity::{Role, TrustDomain},
    tls::{Connector, TlsMaterial},
};
use koseki_proto::{
    koseki::{
        admin::v1::{GetStatusRequest as RegistryStatusRequest, koseki_admin_client::KosekiAdminClient},
        common::v1::{
            ApproveRequest, CloseLogRequest, ClosePeerLogRequest, ConfirmRequest, LineResult,
            ListPendingRequest, ListPendingResponse, LoadMessage, ProposeRequest, ProposeResponse,
            SuspendProvisionRequest,
        },
        evidence::v1::audit_log_client::AuditLogClient,
        ingest::v1::ingest_client::IngestClient,
    },
    portal::admin::v1::{GetStatusRequest as PortalStatusRequest, portal_admin_client::PortalAdminClient},
};
use tonic::{Response, Status, Streaming, transport::Channel};

use crate::{
    answer,
    failure::{Failure, Kind, Result},
    profile::{Listener, Profile},
};

/// Deadline of a call that is not a stream: longer than any deadline that the interfaces name.
const DEADLINE: Duration = Duration::from_secs(15);

/// Length of a part of an exported log at most, in bytes, as the interface says.
const MAX_PART_BYTES: usize = 16 * 1024 * 1024;

/// Deadline of the look at the server before an act.
const ASKING: Duration = Duration::from_secs(3);

/// A side of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// The registry side (koseki-provider)
    Registry,
    /// The portal side (portal-gateway)
    Portal,
}

impl Side {
    pub(crate) const ALL: [Self; 2] = [Self::Registry, Self::Portal];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Portal => "portal",
        }
    }

    /// The profile's table of its admin listener.
    fn table(self) -> &'static str {
        match self {
            Self::Registry => "registry_admin",
            Self::Portal => "portal_admin",
        }
    }
}

/// A message with the deadline.
pub(crate) fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// A message of a call that only sees whether somebody is there: an act must not wait long for it.
fn asking<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ASKING);
    request
}

/// The profile, with the files that it names read and checked.
pub(crate) struct Profiled {
    profile: Profile,
    path: PathBuf,
    material: TlsMaterial,
    domain: TrustDomain,
    clock: Arc<dyn Clock>,
}

impl Profiled {
    pub(crate) fn load(profile: Profile, path: PathBuf, clock: Arc<dyn Clock>) -> Result<Self> {
        let fault = |error: &(dyn std::error::Error + 'static), next: &str| {
            Failure::file(&path, common::telemetry::chain(error), next)
        };
        let domain = profile
            .trust_domain()
            .map_err(|error| fault(&error, "correct trust_domain in the profile"))?;
        let material = TlsMaterial::load(&profile.tls).map_err(|error| {
            let next = "correct [tls] in the profile, or put the file there, readable by you and, if it is a key, by \
                        nobody else";
            fault(&error, next)
        })?;
        Ok(Self {
            material,
            domain,
            path,
            profile,
            clock,
        })
    }

    fn listener(&self, side: Side) -> Option<&Listener> {
        match side {
            Side::Registry => self.profile.registry_admin.as_ref(),
            Side::Portal => self.profile.portal_admin.as_ref(),
        }
    }

    /// The sides whose admin listener the profile names.
    pub(crate) fn sides(&self) -> Vec<Side> {
        let named = Side::ALL.into_iter();
        named.filter(|side| self.listener(*side).is_some()).collect()
    }

    /// The side that is meant: the one that was given, or the only one that the profile names.
    pub(crate) fn side(&self, given: Option<Side>) -> Result<Side> {
        match (given, self.sides().as_slice()) {
            (Some(side), _) => Ok(side),
            (None, [only]) => Ok(*only),
            (None, _) => Err(Failure::flag(
                "--side",
                "registry or portal, unless the profile names the admin listener of one side only",
            )),
        }
    }

    fn missing(&self, table: &str) -> Box<Failure> {
        let rule = format!("the table [{table}] with address and instance");
        let mut failure = Failure::file(&self.path, rule, format!("add [{table}]; this command needs it"));
        failure.what = format!("{} has no [{table}]", self.path.display());
        failure
    }

    fn channel(&self, listener: &Listener, server: Role) -> Result<(Channel, String)> {
        let (address, instance) = (&listener.address, &listener.instance);
        let connector = Connector::new(
            &self.material,
            &self.domain,
            address,
            server,
            instance,
            self.clock.clone(),
        );
        let connector = connector.map_err(|error| {
            let next = "certificate and private_key in [tls] have to belong together";
            Failure::file(&self.path, common::telemetry::chain(&error), next)
        })?;
        let server = format!("{}/{instance} at {address}", server.as_str());
        Ok((connector.channel(), server))
    }

    /// The admin listener of a side. It connects when it is first used.
    pub(crate) fn admin(&self, side: Side) -> Result<Admin> {
        let listener = self.listener(side).ok_or_else(|| self.missing(side.table()))?;
        let (client, server) = match side {
            Side::Registry => {
                let (channel, server) = self.channel(listener, Role::KosekiProvider)?;
                (Client::Registry(KosekiAdminClient::new(channel)), server)
            }
            Side::Portal => {
                let (channel, server) = self.channel(listener, Role::PortalGateway)?;
                (Client::Portal(PortalAdminClient::new(channel)), server)
            }
        };
        Ok(Admin { client, server })
    }

    /// The audit logs of a side, on its admin listener, and what that is called.
    pub(crate) fn audit_log(&self, side: Side) -> Result<(AuditLogClient<Channel>, String)> {
        let listener = self.listener(side).ok_or_else(|| self.missing(side.table()))?;
        let role = match side {
            Side::Registry => Role::KosekiProvider,
            Side::Portal => Role::PortalGateway,
        };
        let (channel, server) = self.channel(listener, role)?;
        let client = AuditLogClient::new(channel).max_decoding_message_size(MAX_PART_BYTES);
        Ok((client, server))
    }

    /// The registry side's admin listener.
    pub(crate) fn registry(&self) -> Result<(KosekiAdminClient<Channel>, Admin)> {
        let admin = self.admin(Side::Registry)?;
        match &admin.client {
            Client::Registry(client) => Ok((client.clone(), admin)),
            Client::Portal(_) => Err(self.missing(Side::Registry.table())),
        }
    }

    /// The portal side's admin listener.
    pub(crate) fn portal(&self) -> Result<(PortalAdminClient<Channel>, Admin)> {
        let admin = self.admin(Side::Portal)?;
        match &admin.client {
            Client::Portal(client) => Ok((client.clone(), admin)),
            Client::Registry(_) => Err(self.missing(Side::Portal.table())),
        }
    }

    /// The registry side's ingest listener, and what it is called.
    pub(crate) fn ingest(&self) -> Result<(IngestClient<Channel>, String)> {
        let listener = self
            .profile
            .ingest
            .as_ref()
            .ok_or_else(|| self.missing("ingest"))?;
        let (channel, server) = self.channel(listener, Role::KosekiProvider)?;
        Ok((IngestClient::new(channel), server))
    }
}

#[derive(Clone)]
enum Client {
    Registry(KosekiAdminClient<Channel>),
    Portal(PortalAdminClient<Channel>),
}

/// The admin listener of a side: what both sides serve alike.
#[derive(Clone)]
pub(crate) struct Admin {
    client: Client,
    /// Who must answer, and where.
    pub(crate) server: String,
}

/// The same call on the client of either side.
macro_rules! call {
    ($admin:expr, $method:ident, $message:expr) => {
        match $admin.client.clone() {
            Client::Registry(mut client) => client.$method($message).await,
            Client::Portal(mut client) => client.$method($message).await,
        }
    };
}

type Answer<T> = std::result::Result<T, Status>;

impl Admin {
    /// Sees that the server is there and lets this operator in, before something is sent whose outcome matters: what fails
    /// here has changed nothing.
    pub(crate) async fn reach(&self) -> Result<()> {
        let answer = match self.client.clone() {
            Client::Registry(mut client) => {
                let status = client.get_status(asking(RegistryStatusRequest {})).await;
                status.map(drop)
            }
            Client::Portal(mut client) => {
                let status = client.get_status(asking(PortalStatusRequest {})).await;
                status.map(drop)
            }
        };
        match answer {
            Err(status) if !answer::may_act(&status) => {
                let mut failure = answer::of_reading(&status, &self.server);
                failure.what = format!("{}; nothing was sent", failure.what);
                Err(failure)
            }
            _ => Ok(()),
        }
    }

    pub(crate) async fn suspend(&self, message: SuspendProvisionRequest) -> Answer<u64> {
        Ok(call!(self, suspend_provision, request(message))?
            .into_inner()
            .epoch)
    }

    pub(crate) async fn close_log(&self, message: CloseLogRequest) -> Answer<u64> {
        Ok(call!(self, close_log, request(message))?.into_inner().epoch)
    }

    pub(crate) async fn close_peer_log(&self, message: ClosePeerLogRequest) -> Answer<u64> {
        Ok(call!(self, close_peer_log, request(message))?.into_inner().epoch)
    }

    pub(crate) async fn propose(&self, message: ProposeRequest) -> Answer<ProposeResponse> {
        Ok(call!(self, propose, request(message))?.into_inner())
    }

    pub(crate) async fn approve(&self, message: ApproveRequest) -> Answer<u64> {
        Ok(call!(self, approve, request(message))?.into_inner().epoch)
    }

    pub(crate) async fn confirm(&self, act_id: String) -> Answer<()> {
        call!(self, confirm, request(ConfirmRequest { act_id })).map(drop)
    }

    pub(crate) async fn pending(&self) -> Result<ListPendingResponse> {
        let answer = call!(self, list_pending, request(ListPendingRequest {}));
        let answer = answer.map_err(|status| answer::of_reading(&status, &self.server))?;
        Ok(answer.into_inner())
    }

    /// Loads persons and linkages, or linkages, by the side.
    pub(crate) async fn load(
        &self,
        stream: impl tokio_stream::Stream<Item = LoadMessage> + Send + 'static,
    ) -> Answer<Response<Streaming<LineResult>>> {
        match self.client.clone() {
            Client::Registry(mut client) => client.load_persons(stream).await,
            Client::Portal(mut client) => client.load_linkages(stream).await,
        }
    }
}

/// A call whose connection could not be made, in the words of its causes.
pub(crate) fn no_connection(server: &str, cause: &str) -> Box<Failure> {
    Failure::new(
        Kind::Connection,
        format!("{server}: no answer: {cause}"),
        "see that the server runs, that address and instance in the profile are its own, and that its certificate and \
         yours are of the deployment's CA and valid today",
    )
}
