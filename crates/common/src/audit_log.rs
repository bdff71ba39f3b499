//! Reading the audit logs over their RPC (clauses 3.4 to 3.6): the same on both sides' admin listeners, to auditors. Reading is
//! itself an entry, committed before the first byte leaves.

use std::{sync::Arc, time::Duration};

use koseki_proto::koseki::evidence::v1::{
    ExportEnd, ExportHeader, ExportPart, ListLogsRequest, ListLogsResponse, LogState, ReadBundlesRequest,
    audit_log_server::{AuditLog, AuditLogServer},
    export_part::Part,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    authorisation::{Permit, permit},
    clock::Clock,
    evidence::ordinary_act,
    refusal::{Reason, Refusal},
    store::{Access, Database, LogFacts, StoreError},
    terms::RuleBroken,
};

/// Length of a part at most, in bytes: a bundle of as many entries as it may have.
pub const MAX_PART_BYTES: usize = 16 * 1024 * 1024;
/// Format of exports.
const FORMAT: u32 = 1;
/// Logs that are read at the same time.
const MAX_STREAMS: usize = 4;
/// Bundles that are read at once.
const PAGE: u32 = 16;
/// Parts that wait for the reader.
const AHEAD: usize = 4;
/// A reader that takes no part for so long is left.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the logs are.
pub trait HasLogs: Send + Sync + 'static {
    /// The database.
    fn database(&self) -> &Database;
}

/// Serves `koseki.evidence.v1.AuditLog`.
pub struct AuditLogService<S: ?Sized> {
    store: Arc<S>,
    side: String,
    clock: Arc<dyn Clock>,
    streams: Arc<Semaphore>,
}

impl<S: HasLogs + ?Sized> AuditLogService<S> {
    /// Of a side, by its name as a witness: its logs are called `<side>/<instance>`.
    pub fn server(store: Arc<S>, side: String, clock: Arc<dyn Clock>) -> AuditLogServer<Self> {
        AuditLogServer::new(Self {
            store,
            side,
            clock,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        })
        .max_encoding_message_size(MAX_PART_BYTES)
    }

    async fn list(&self) -> Result<ListLogsResponse, StoreError> {
        let database = self.store.database();
        let state = |facts: LogFacts| LogState {
            origin: self.origin(&facts.log),
            log: facts.log,
            size: facts.size,
            bundles: facts.bundles,
            checkpoint: facts.checkpoint,
            countersigned: facts.countersigned,
        };
        Ok(ListLogsResponse {
            logs: database.logs().await?.into_iter().map(state).collect(),
            witnessed: database.witnessed_notes().await?,
        })
    }

    fn origin(&self, log: &str) -> String {
        format!("{}/{log}", self.side)
    }

    /// What is to be read, once it is recorded that it is.
    async fn begin(&self, permit: &Permit, request: ReadBundlesRequest) -> Result<Export<S>, Refusal> {
        if request.log.is_empty() || request.log.len() > 64 {
            return Err(Refusal::malformed("log", RuleBroken("1 to 64 bytes")));
        }
        let streaming = self.streams.clone().try_acquire_owned();
        let streaming = streaming.map_err(|_| Refusal::from(Reason::Overloaded))?;
        let database = self.store.database();
        let logs = database.logs().await.map_err(Reason::from)?;
        let facts = logs.into_iter().find(|facts| facts.log == request.log);
        let facts = facts.ok_or(Reason::UnknownReference)?;
        let to = match request.beyond_countersigned {
            true => facts.bundles,
            false => database
                .bundles_of(&facts.log, facts.countersigned_size)
                .await
                .map_err(Reason::from)?,
        };
        let from = request.first_bundle;
        if from > to {
            let rule = RuleBroken("not beyond the bundles that there are");
            return Err(Refusal::malformed("first_bundle", rule));
        }
        // One that nobody has countersigned may be newer than what is sent.
        let checkpoint = match facts.countersigned.is_empty() && request.beyond_countersigned {
            true => facts.checkpoint,
            false => facts.countersigned,
        };
        let export = Export {
            origin: self.origin(&facts.log),
            store: self.store.clone(),
            log: facts.log,
            size: facts.size,
            checkpoint,
            from,
            to,
            _streaming: streaming,
        };
        self.record(permit, &export).await.map_err(Reason::from)?;
        Ok(export)
    }

    async fn record(&self, permit: &Permit, export: &Export<S>) -> Result<(), StoreError> {
        let Export { log, from, to, .. } = export;
        let reference = format!("{log} {from}..{to}");
        let entry = ordinary_act("READ_AUDIT_LOG", permit.peer(), to - from, None, &reference);
        let tx = self.store.database().begin(Access::Ordinary).await?;
        let _ = tx.commit(vec![entry], self.clock.now()).await?;
        tracing::info!(auditor = %permit.peer(), log, from, to, "an audit log is read");
        Ok(())
    }
}

#[tonic::async_trait]
impl<S: HasLogs + ?Sized> AuditLog for AuditLogService<S> {
    async fn list_logs(
        &self,
        request: Request<ListLogsRequest>,
    ) -> Result<Response<ListLogsResponse>, Status> {
        permit(&request)?;
        let listed = self
            .list()
            .await
            .map_err(|error| Refusal::from(Reason::from(error)))?;
        Ok(Response::new(listed))
    }

    type ReadBundlesStream = ReceiverStream<Result<ExportPart, Status>>;

    async fn read_bundles(
        &self,
        request: Request<ReadBundlesRequest>,
    ) -> Result<Response<Self::ReadBundlesStream>, Status> {
        let permit = permit(&request)?;
        let export = self.begin(&permit, request.into_inner()).await?;
        let (sender, parts) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            if let Err(Ended::Store(error)) = export.send(&sender).await {
                let refusal = Refusal::from(Reason::from(error));
                let _ = sender.send_timeout(Err(refusal.into()), PATIENCE).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(parts)))
    }
}

/// A range of a log on its way out.
struct Export<S: ?Sized> {
    store: Arc<S>,
    log: String,
    origin: String,
    size: u64,
    checkpoint: String,
    from: u64,
    to: u64,
    _streaming: OwnedSemaphorePermit,
}

/// Why an export ended early.
enum Ended {
    /// Nobody takes it any more.
    Left,
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<S: HasLogs + ?Sized> Export<S> {
    async fn send(&self, sender: &mpsc::Sender<Result<ExportPart, Status>>) -> Result<(), Ended> {
        let give = async |part| {
            let part = ExportPart { part: Some(part) };
            let given = sender.send_timeout(Ok(part), PATIENCE).await;
            given.map_err(|_| Ended::Left)
        };
        let database = self.store.database();
        let start = database.range_start(&self.log, self.from, self.size).await?;
        let header = ExportHeader {
            format: FORMAT,
            origin: self.origin.clone(),
            first_bundle: self.from,
            first_index: start.first_index,
            frontier: start.frontier,
            exported_at: None,
        };
        give(Part::Header(header)).await?;
        let mut next = self.from;
        while next < self.to {
            let bundles = database.exported_bundles(&self.log, next, self.to, PAGE).await?;
            if bundles.is_empty() {
                break;
            }
            for bundle in bundles {
                next = bundle.number + 1;
                give(Part::Bundle(bundle)).await?;
            }
        }
        let size = database
            .range_start(&self.log, self.to, self.size)
            .await?
            .first_index;
        let end = ExportEnd {
            bundles: self.to - self.from,
            size,
            checkpoint: self.checkpoint.clone(),
            witnessed: database.witnessed_notes().await?,
        };
        give(Part::End(end)).await
    }
}
