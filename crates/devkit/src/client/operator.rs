//! Operators of both sides.

use std::path::Path;

use common::{identity::Role, terms::RequestKind};
use koseki_proto::{
    koseki::{
        admin::v1::{RecordNonProvisionRequest, RegisterRef, koseki_admin_client::KosekiAdminClient},
        common::v1::{
            RequestKind as ProtoKind, ResumeProvisionRequest, ResumeState, SuspendProvisionRequest,
        },
    },
    portal::admin::v1::{SetBlockRequest, portal_admin_client::PortalAdminClient},
};
use tokio::{
    fs::File,
    io::{AsyncBufRead, BufReader},
};
use tonic::transport::Channel;

use super::{
    Access, AccessError, CallError, Ids,
    lines::{self, LineReport, Loaded},
    request,
};

/// The authority that is said to have decided on a non-provision record.
const AUTHORITY: &str = "development authority";
/// The number of its document.
const DOCUMENT_NUMBER: &str = "D-1";
/// What an operator gives as the reason of an act.
const REASON: &str = "sandbox";

/// An operator of the registry side. Cloning shares the connection.
#[derive(Clone)]
pub struct RegistryOperator {
    client: KosekiAdminClient<Channel>,
    ids: Ids,
}

/// An operator of the portal side. Cloning shares the connection.
#[derive(Clone)]
pub struct PortalOperator {
    client: PortalAdminClient<Channel>,
    ids: Ids,
}

impl RegistryOperator {
    /// The operator of this name, at the provider's admin listener.
    ///
    /// # Errors
    /// When their files cannot be used.
    pub fn new(access: &Access, name: &str, address: &str) -> Result<Self, AccessError> {
        let channel = access.to_provider(Role::Operator, name, address)?;
        Ok(Self {
            client: KosekiAdminClient::new(channel),
            ids: Ids::new(access.clock()),
        })
    }

    /// Loads a file of persons and linkages.
    ///
    /// # Errors
    /// When the file cannot be opened; everything else is in the result.
    pub async fn load_file(&self, path: &Path) -> std::io::Result<Loaded> {
        Ok(self.load(BufReader::new(File::open(path).await?)).await)
    }

    /// Loads persons and linkages.
    pub async fn load<R: AsyncBufRead + Unpin + Send + 'static>(&self, file: R) -> Loaded {
        self.load_watched(file, |_| {}).await
    }

    /// Loads persons and linkages, and shows each result as soon as it is there.
    pub async fn load_watched<R: AsyncBufRead + Unpin + Send + 'static>(
        &self,
        file: R,
        seen: impl FnMut(&LineReport),
    ) -> Loaded {
        let (stream, reader) = lines::send(file);
        let answered = self.client.clone().load_persons(stream).await;
        lines::take_results(answered, reader, seen).await
    }

    /// Records non-provision of a person, a register, or one requester against a register. The act's id is the caller's,
    /// so that an act of unknown outcome can be done again.
    ///
    /// # Errors
    /// A refusal, or no answer: then the outcome is not known.
    pub async fn record_non_provision(
        &self,
        act_id: &str,
        person_id: Option<&str>,
        register: Option<(&str, &str)>,
    ) -> Result<u64, CallError> {
        let message = RecordNonProvisionRequest {
            act_id: act_id.to_owned(),
            person_id: person_id.unwrap_or_default().to_owned(),
            register: register.map(|(code, number)| RegisterRef {
                municipality_code: code.to_owned(),
                local_number: number.to_owned(),
            }),
            valid_from: None,
            valid_until: None,
            authority: AUTHORITY.to_owned(),
            document_number: DOCUMENT_NUMBER.to_owned(),
        };
        Ok(self
            .client
            .clone()
            .record_non_provision(request(message))
            .await?
            .into_inner()
            .epoch)
    }

    /// Stops provision of a kind, or of all.
    ///
    /// # Errors
    /// A refusal, or no answer: then the outcome is not known.
    pub async fn suspend(&self, act_id: &str, kind: Option<RequestKind>) -> Result<u64, CallError> {
        let message = suspension(act_id, kind);
        Ok(self
            .client
            .clone()
            .suspend_provision(request(message))
            .await?
            .into_inner()
            .epoch)
    }

    /// Asks to provide again.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn resume(&self, kind: Option<RequestKind>) -> Result<ResumeState, CallError> {
        let message = resumption(&self.ids, kind);
        Ok(self
            .client
            .clone()
            .resume_provision(request(message))
            .await?
            .into_inner()
            .state())
    }

    /// Makes the ids of acts.
    pub fn ids(&self) -> &Ids {
        &self.ids
    }
}

impl PortalOperator {
    /// The operator of this name, at the gateway's admin listener.
    ///
    /// # Errors
    /// When their files cannot be used.
    pub fn new(access: &Access, name: &str, address: &str) -> Result<Self, AccessError> {
        let channel = access.to_gateway(Role::Operator, name, address)?;
        Ok(Self {
            client: PortalAdminClient::new(channel),
            ids: Ids::new(access.clock()),
        })
    }

    /// Loads a file of linkages.
    ///
    /// # Errors
    /// When the file cannot be opened; everything else is in the result.
    pub async fn load_file(&self, path: &Path) -> std::io::Result<Loaded> {
        Ok(self.load(BufReader::new(File::open(path).await?)).await)
    }

    /// Loads linkages.
    pub async fn load<R: AsyncBufRead + Unpin + Send + 'static>(&self, file: R) -> Loaded {
        self.load_watched(file, |_| {}).await
    }

    /// Loads linkages, and shows each result as soon as it is there.
    pub async fn load_watched<R: AsyncBufRead + Unpin + Send + 'static>(
        &self,
        file: R,
        seen: impl FnMut(&LineReport),
    ) -> Loaded {
        let (stream, reader) = lines::send(file);
        let answered = self.client.clone().load_linkages(stream).await;
        lines::take_results(answered, reader, seen).await
    }

    /// Blocks a card.
    ///
    /// # Errors
    /// A refusal, or no answer: then the outcome is not known.
    pub async fn block(&self, act_id: &str, card_key_sha256: &[u8]) -> Result<u64, CallError> {
        let message = SetBlockRequest {
            act_id: act_id.to_owned(),
            card_key_sha256: card_key_sha256.to_owned(),
            reason: REASON.to_owned(),
        };
        Ok(self
            .client
            .clone()
            .set_block(request(message))
            .await?
            .into_inner()
            .epoch)
    }

    /// Stops provision of a kind, or of all.
    ///
    /// # Errors
    /// A refusal, or no answer: then the outcome is not known.
    pub async fn suspend(&self, act_id: &str, kind: Option<RequestKind>) -> Result<u64, CallError> {
        let message = suspension(act_id, kind);
        Ok(self
            .client
            .clone()
            .suspend_provision(request(message))
            .await?
            .into_inner()
            .epoch)
    }

    /// Asks to provide again.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn resume(&self, kind: Option<RequestKind>) -> Result<ResumeState, CallError> {
        let message = resumption(&self.ids, kind);
        Ok(self
            .client
            .clone()
            .resume_provision(request(message))
            .await?
            .into_inner()
            .state())
    }

    /// Makes the ids of acts.
    pub fn ids(&self) -> &Ids {
        &self.ids
    }
}

fn suspension(act_id: &str, kind: Option<RequestKind>) -> SuspendProvisionRequest {
    SuspendProvisionRequest {
        act_id: act_id.to_owned(),
        kind: number(kind),
        reason: REASON.to_owned(),
    }
}

fn resumption(ids: &Ids, kind: Option<RequestKind>) -> ResumeProvisionRequest {
    ResumeProvisionRequest {
        act_id: ids.next(),
        kind: number(kind),
    }
}

fn number(kind: Option<RequestKind>) -> i32 {
    kind.map_or(ProtoKind::Unspecified, RequestKind::to_proto).into()
}
