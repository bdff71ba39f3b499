//! Operators of both sides.

use std::path::Path;

use common::{
    identity::Role,
    lines::send::{LineReport, as_load, read_behind},
    terms::RequestKind,
};
use koseki_proto::{
    koseki::{
        admin::v1::{
            self as registry, ListNonProvisionRequest, NonProvisionRecord, RecordNonProvisionRequest,
            RegisterRef, koseki_admin_client::KosekiAdminClient,
        },
        common::v1::{
            ApproveRequest, CloseLogRequest, ClosePeerLogRequest, ConfirmRequest, ListPendingRequest,
            ListPendingResponse, OpeningAct, ProposeRequest, RequestKind as ProtoKind, ResumeProvision,
            SuspendProvisionRequest, opening_act::Act,
        },
    },
    portal::admin::v1::{self as portal, SetBlockRequest, portal_admin_client::PortalAdminClient},
};
use tokio::{
    fs::File,
    io::{AsyncBufRead, BufReader},
};
use tonic::transport::Channel;

use super::{Access, AccessError, CallError, Ids, lines::Loaded, request};

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
        self.load_as(&self.ids.next(), false, file, seen).await
    }

    /// Loads under an id, or (`dry_run`) asks what a load would do.
    pub async fn load_as<R: AsyncBufRead + Unpin + Send + 'static>(
        &self,
        load_id: &str,
        dry_run: bool,
        file: R,
        seen: impl FnMut(&LineReport),
    ) -> Loaded {
        let (stream, reader) = read_behind(file, 0);
        let stream = as_load(load_id, dry_run, stream);
        let answered = self.client.clone().load_persons(stream).await;
        Loaded::take(answered, reader, seen).await
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
}

impl RegistryOperator {
    /// The records about a person or a register.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn list_non_provision(
        &self,
        person_id: Option<&str>,
        register: Option<(&str, &str)>,
    ) -> Result<Vec<NonProvisionRecord>, CallError> {
        let message = ListNonProvisionRequest {
            person_id: person_id.unwrap_or_default().to_owned(),
            register: register.map(|(code, number)| RegisterRef {
                municipality_code: code.to_owned(),
                local_number: number.to_owned(),
            }),
        };
        let listed = self.client.clone().list_non_provision(request(message)).await?;
        Ok(listed.into_inner().records)
    }

    /// How the registry side is doing.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn status(&self) -> Result<registry::GetStatusResponse, CallError> {
        let message = request(registry::GetStatusRequest {});
        Ok(self.client.clone().get_status(message).await?.into_inner())
    }

    /// The copies of each municipality.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn municipalities(&self) -> Result<Vec<registry::MunicipalityCopies>, CallError> {
        let message = request(registry::ListMunicipalitiesRequest {});
        let listed = self.client.clone().list_municipalities(message).await?;
        Ok(listed.into_inner().municipalities)
    }
}

impl PortalOperator {
    /// How the portal side is doing.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn status(&self) -> Result<portal::GetStatusResponse, CallError> {
        let message = request(portal::GetStatusRequest {});
        Ok(self.client.clone().get_status(message).await?.into_inner())
    }

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
        self.load_as(&self.ids.next(), false, file, seen).await
    }

    /// Loads under an id, or (`dry_run`) asks what a load would do.
    pub async fn load_as<R: AsyncBufRead + Unpin + Send + 'static>(
        &self,
        load_id: &str,
        dry_run: bool,
        file: R,
        seen: impl FnMut(&LineReport),
    ) -> Loaded {
        let (stream, reader) = read_behind(file, 0);
        let stream = as_load(load_id, dry_run, stream);
        let answered = self.client.clone().load_linkages(stream).await;
        Loaded::take(answered, reader, seen).await
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
}

fn suspension(act_id: &str, kind: Option<RequestKind>) -> SuspendProvisionRequest {
    SuspendProvisionRequest {
        act_id: act_id.to_owned(),
        kind: number(kind),
        reason: REASON.to_owned(),
    }
}

/// A proposal that was made.
#[derive(Clone, Debug)]
pub struct Proposed {
    /// Its id.
    pub id: String,
    /// SHA-256 of its act.
    pub act_sha256: Vec<u8>,
}

/// What the operators of both sides can do alike.
macro_rules! acts_of_both_sides {
    ($operator:ident) => {
        impl $operator {
            /// Stops provision of a kind, or of all.
            ///
            /// # Errors
            /// A refusal, or no answer: then the outcome is not known.
            pub async fn suspend(&self, act_id: &str, kind: Option<RequestKind>) -> Result<u64, CallError> {
                let message = suspension(act_id, kind);
                let suspended = self
                    .client
                    .clone()
                    .suspend_provision(request(message))
                    .await?;
                Ok(suspended.into_inner().epoch)
            }

            /// Closes the log of the instance that is called.
            ///
            /// # Errors
            /// A refusal, or no answer: then the outcome is not known.
            pub async fn close_log(&self, act_id: &str) -> Result<u64, CallError> {
                let message = CloseLogRequest {
                    act_id: act_id.to_owned(),
                    reason: REASON.to_owned(),
                };
                let closed = self.client.clone().close_log(request(message)).await?;
                Ok(closed.into_inner().epoch)
            }

            /// Closes a log of the other side there.
            ///
            /// # Errors
            /// A refusal, or no answer: then the outcome is not known.
            pub async fn close_peer_log(&self, act_id: &str, instance: &str) -> Result<u64, CallError> {
                let message = ClosePeerLogRequest {
                    act_id: act_id.to_owned(),
                    instance: instance.to_owned(),
                    reason: REASON.to_owned(),
                };
                let closed = self.client.clone().close_peer_log(request(message)).await?;
                Ok(closed.into_inner().epoch)
            }

            /// Proposes to open something.
            ///
            /// # Errors
            /// A refusal, or no answer.
            pub async fn propose(&self, act: Act) -> Result<Proposed, CallError> {
                let id = self.ids.next();
                let message = ProposeRequest {
                    proposal_id: id.clone(),
                    act: Some(OpeningAct { act: Some(act) }),
                    reason: REASON.to_owned(),
                };
                let proposed = self.client.clone().propose(request(message)).await?;
                Ok(Proposed {
                    id,
                    act_sha256: proposed.into_inner().act_sha256,
                })
            }

            /// Proposes to provide again.
            ///
            /// # Errors
            /// A refusal, or no answer.
            pub async fn propose_resume(&self, kind: Option<RequestKind>) -> Result<Proposed, CallError> {
                let kind = number(kind);
                self.propose(Act::ResumeProvision(ResumeProvision { kind }))
                    .await
            }

            /// Approves what another operator has proposed.
            ///
            /// # Errors
            /// A refusal, or no answer.
            pub async fn approve(&self, proposed: &Proposed) -> Result<u64, CallError> {
                let message = ApproveRequest {
                    proposal_id: proposed.id.clone(),
                    act_sha256: proposed.act_sha256.clone(),
                };
                let approved = self.client.clone().approve(request(message)).await?;
                Ok(approved.into_inner().epoch)
            }

            /// Confirms what another operator has closed.
            ///
            /// # Errors
            /// A refusal, or no answer.
            pub async fn confirm(&self, act_id: &str) -> Result<(), CallError> {
                let message = ConfirmRequest {
                    act_id: act_id.to_owned(),
                };
                self.client.clone().confirm(request(message)).await?;
                Ok(())
            }

            /// What waits for a second person.
            ///
            /// # Errors
            /// A refusal, or no answer.
            pub async fn pending(&self) -> Result<ListPendingResponse, CallError> {
                let message = request(ListPendingRequest {});
                Ok(self
                    .client
                    .clone()
                    .list_pending(message)
                    .await?
                    .into_inner())
            }

            /// Makes the ids of acts.
            pub fn ids(&self) -> &Ids {
                &self.ids
            }
        }
    };
}

acts_of_both_sides!(RegistryOperator);
acts_of_both_sides!(PortalOperator);

fn number(kind: Option<RequestKind>) -> i32 {
    kind.map_or(ProtoKind::Unspecified, RequestKind::to_proto).into()
}
