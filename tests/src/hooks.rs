//! Stores with something in front of them: what a test wants to happen at one exact place of a release transaction.

use std::{
    collections::HashSet,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
};

use common::{
    cards::Cards,
    clock::Timestamp,
    evidence::{Committed, Epoch, NewEntry, Salt},
    identity::PeerIdentity,
    lines::{LoadStart, Outcome},
    store::{ActError, GateFacts, SideStore, StoreError},
    terms::{ActId, RequestId},
};
use koseki_proto::koseki::admin::v1::{MunicipalityCopies, NonProvisionRecord as RecordMessage};
use koseki_provider::{
    non_provision::{Named, NonProvisionRecord},
    persons::PersonLine,
    register::RegisterCopy,
    store::{self as registry, ProviderStore},
};
use portal_gateway::{
    conditions::SessionFacts,
    consent::{Consent, ConsentPlace},
    linkage::LinkageLine,
    own_records::{Record, RecordPlace},
    provision::Asked,
    store::{
        self as portal, Block, ChallengeStep, GatewayStore, GuardsRead, NotOpened, OldData, OpenSession,
        RequesterClosing, RequesterError, RequesterOpening, SessionBounds, UsedSession,
    },
};
use tonic::async_trait;

/// Something that is done once, at a place.
pub type Deed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The places of a release transaction at which something can be done. Each deed is done once.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<Deeds>>);

#[derive(Default)]
struct Deeds {
    before_gate: Option<Deed>,
    behind_gate: Option<Deed>,
    commit_fails: bool,
    indexing_fails: bool,
    step_by_step: bool,
    slow_finds: std::time::Duration,
}

impl Places {
    /// Does something right before the next release takes the gate: before it reads, or after that where it takes the gate only for
    /// its commit.
    pub fn before_gate(&self, deed: impl Future<Output = ()> + Send + 'static) {
        self.0.lock().unwrap().before_gate = Some(Box::pin(deed));
    }

    /// Does something in the next release, after it has read and before it commits.
    pub fn behind_gate(&self, deed: impl Future<Output = ()> + Send + 'static) {
        self.0.lock().unwrap().behind_gate = Some(Box::pin(deed));
    }

    /// Lets commits of releases fail, or work again.
    pub fn let_commits_fail(&self, fail: bool) {
        self.0.lock().unwrap().commit_fails = fail;
    }

    /// Lets releases take the gate first, also where they could be recorded at once.
    pub fn release_step_by_step(&self) {
        self.0.lock().unwrap().step_by_step = true;
    }

    /// Lets the indexing of own records fail, or work again.
    pub fn let_indexing_fail(&self, fail: bool) {
        self.0.lock().unwrap().indexing_fails = fail;
    }

    /// Lets the registry side take so much longer whenever a linkage is found.
    pub fn slow_finds_down(&self, by: std::time::Duration) {
        self.0.lock().unwrap().slow_finds = by;
    }

    /// Whether every deed was done.
    pub fn all_done(&self) -> bool {
        let deeds = self.0.lock().unwrap();
        deeds.before_gate.is_none() && deeds.behind_gate.is_none()
    }

    /// Whether the next release has to go step by step: one that takes the gate only for its commit has no place behind the gate.
    fn must_go_step_by_step(&self) -> bool {
        let deeds = self.0.lock().unwrap();
        deeds.step_by_step || deeds.behind_gate.is_some()
    }

    async fn arrive(&self, place: impl FnOnce(&mut Deeds) -> Option<Deed>) {
        let deed = place(&mut self.0.lock().unwrap());
        if let Some(deed) = deed {
            deed.await;
        }
    }

    fn check_commit(&self) -> Result<(), StoreError> {
        if self.0.lock().unwrap().commit_fails {
            return Err(StoreError::OutcomeUnknown(sqlx::Error::PoolClosed));
        }
        Ok(())
    }
}

/// A gateway's store with places.
pub struct HookedGateway {
    /// The real one.
    pub store: Arc<dyn GatewayStore>,
    /// The places.
    pub places: Places,
}

struct HookedPortalRelease<'a> {
    tx: Box<dyn portal::ReleaseTx + 'a>,
    places: Places,
    at_once: bool,
}

#[async_trait]
impl portal::ReleaseTx for HookedPortalRelease<'_> {
    fn facts(&self) -> Result<&GateFacts, StoreError> {
        self.tx.facts()
    }

    async fn use_request_ids(&mut self, asked: &[Asked]) -> Result<HashSet<[u8; 16]>, StoreError> {
        self.tx.use_request_ids(asked).await
    }

    async fn read_again(
        &mut self,
        asked: &[Asked],
        admitted: &GuardsRead,
    ) -> Result<Option<GuardsRead>, StoreError> {
        self.tx.read_again(asked, admitted).await
    }

    async fn spend(&mut self, consents: Vec<[u8; 16]>) -> Result<HashSet<[u8; 16]>, StoreError> {
        // The first step after everything was read and decided.
        self.places.arrive(|deeds| deeds.behind_gate.take()).await;
        self.tx.spend(consents).await
    }

    async fn mark_and_end(
        &mut self,
        marked: Vec<[u8; 32]>,
        ended: Vec<[u8; 32]>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.tx.mark_and_end(marked, ended, now).await
    }

    async fn commit(
        self: Box<Self>,
        entries: Vec<NewEntry>,
        salts: Vec<Salt>,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        if self.at_once {
            self.places.arrive(|deeds| deeds.before_gate.take()).await;
        }
        self.places.check_commit()?;
        self.tx.commit(entries, salts, now).await
    }
}

#[async_trait]
impl GatewayStore for HookedGateway {
    fn side(&self) -> &dyn SideStore {
        self.store.side()
    }

    async fn read(&self, asked: &[Asked], unproven: &[[u8; 32]]) -> Result<GuardsRead, StoreError> {
        self.store.read(asked, unproven).await
    }

    async fn enter(&self) -> Result<Box<dyn portal::ReleaseTx + '_>, StoreError> {
        self.places.arrive(|deeds| deeds.before_gate.take()).await;
        let tx = self.store.enter().await?;
        Ok(Box::new(HookedPortalRelease {
            tx,
            places: self.places.clone(),
            at_once: false,
        }))
    }

    fn enter_at_once(&self, asked: &[Asked], read: &GuardsRead) -> Option<Box<dyn portal::ReleaseTx + '_>> {
        if self.places.must_go_step_by_step() {
            return None;
        }
        let tx = self.store.enter_at_once(asked, read)?;
        Some(Box::new(HookedPortalRelease {
            tx,
            places: self.places.clone(),
            at_once: true,
        }))
    }

    async fn challenges(
        &self,
        steps: &[ChallengeStep],
        now: Timestamp,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.store.challenges(steps, now).await
    }

    async fn open(
        &self,
        asked: &[RequesterOpening],
        cards: &Cards,
        bounds: SessionBounds,
        now: Timestamp,
    ) -> Result<Vec<Result<i64, NotOpened>>, StoreError> {
        self.store.open(asked, cards, bounds, now).await
    }

    async fn close(
        &self,
        asked: &[RequesterClosing],
        bounds: SessionBounds,
        now: Timestamp,
    ) -> Result<Vec<Result<(), RequesterError>>, StoreError> {
        self.store.close(asked, bounds, now).await
    }

    async fn use_session(
        &self,
        token_sha256: [u8; 32],
        bounds: SessionBounds,
        frontend: &PeerIdentity,
        now: Timestamp,
    ) -> Result<UsedSession, RequesterError> {
        self.store.use_session(token_sha256, bounds, frontend, now).await
    }

    async fn list_consents(
        &self,
        account: i64,
        behind: Option<&ConsentPlace>,
        limit: i64,
    ) -> Result<Vec<Consent>, StoreError> {
        self.store.list_consents(account, behind, limit).await
    }

    async fn consent(&self, account: i64, id: ActId) -> Result<Option<Consent>, StoreError> {
        self.store.consent(account, id).await
    }

    async fn list_records(
        &self,
        account: i64,
        behind: Option<&RecordPlace>,
        limit: i64,
    ) -> Result<Vec<Record>, StoreError> {
        self.store.list_records(account, behind, limit).await
    }

    async fn index_records(&self) -> Result<bool, StoreError> {
        if self.places.0.lock().unwrap().indexing_fails {
            return Err(StoreError::Failed(sqlx::Error::PoolClosed));
        }
        self.store.index_records().await
    }

    async fn store_linkages(
        &self,
        start: LoadStart,
        lines: Vec<LinkageLine>,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.store.store_linkages(start, lines, operator, now).await
    }

    async fn set_block(
        &self,
        block: Block,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Epoch, ActError> {
        self.store.set_block(block, operator, now).await
    }

    async fn session(&self, token_sha256: [u8; 32]) -> Result<Option<SessionFacts>, StoreError> {
        self.store.session(token_sha256).await
    }

    async fn open_sessions(&self, since: Timestamp, after: [u8; 32]) -> Result<Vec<OpenSession>, StoreError> {
        self.store.open_sessions(since, after).await
    }

    async fn end_sessions(
        &self,
        tokens_sha256: Vec<[u8; 32]>,
        own: &PeerIdentity,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.store.end_sessions(tokens_sha256, own, now).await
    }

    async fn remove(&self, old: OldData, before: Timestamp) -> Result<u64, StoreError> {
        self.store.remove(old, before).await
    }
}

/// A provider's store with places.
pub struct HookedProvider {
    /// The real one.
    pub store: Arc<dyn ProviderStore>,
    /// The places.
    pub places: Places,
}

struct HookedRegistryRelease<'a> {
    tx: Box<dyn registry::ReleaseTx + 'a>,
    places: Places,
    at_once: bool,
}

#[async_trait]
impl registry::ReleaseTx for HookedRegistryRelease<'_> {
    fn facts(&self) -> Result<&GateFacts, StoreError> {
        self.tx.facts()
    }

    async fn use_sequences(&mut self, sequences: &[registry::Sequence]) -> Result<Vec<bool>, StoreError> {
        self.tx.use_sequences(sequences).await
    }

    async fn use_request_ids(&mut self, ids: &[RequestId]) -> Result<HashSet<[u8; 16]>, StoreError> {
        self.tx.use_request_ids(ids).await
    }

    async fn read(
        &mut self,
        asked: &[registry::LookUp],
        now: Timestamp,
    ) -> Result<Vec<registry::ItemFacts>, StoreError> {
        let facts = self.tx.read(asked, now).await?;
        let slow = self.places.0.lock().unwrap().slow_finds;
        if !slow.is_zero() && facts.iter().any(|item| item.linkage.is_some()) {
            tokio::time::sleep(slow).await;
        }
        self.places.arrive(|deeds| deeds.behind_gate.take()).await;
        Ok(facts)
    }

    async fn commit(
        self: Box<Self>,
        entries: Vec<NewEntry>,
        salts: Vec<Salt>,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        if self.at_once {
            self.places.arrive(|deeds| deeds.before_gate.take()).await;
        }
        self.places.check_commit()?;
        self.tx.commit(entries, salts, now).await
    }
}

#[async_trait]
impl ProviderStore for HookedProvider {
    fn side(&self) -> &dyn SideStore {
        self.store.side()
    }

    async fn enter(&self) -> Result<Box<dyn registry::ReleaseTx + '_>, StoreError> {
        self.places.arrive(|deeds| deeds.before_gate.take()).await;
        let tx = self.store.enter().await?;
        Ok(Box::new(HookedRegistryRelease {
            tx,
            places: self.places.clone(),
            at_once: false,
        }))
    }

    fn enter_at_once(&self) -> Option<Box<dyn registry::ReleaseTx + '_>> {
        if self.places.must_go_step_by_step() {
            return None;
        }
        let tx = self.store.enter_at_once()?;
        Some(Box::new(HookedRegistryRelease {
            tx,
            places: self.places.clone(),
            at_once: true,
        }))
    }

    async fn highest_sequence(&self, gateway: &str) -> Result<u64, StoreError> {
        self.store.highest_sequence(gateway).await
    }

    async fn store_copies(
        &self,
        copies: Vec<RegisterCopy>,
        sender: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.store.store_copies(copies, sender, now).await
    }

    async fn store_persons(
        &self,
        start: LoadStart,
        lines: Vec<PersonLine>,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<registry::Loaded, StoreError> {
        self.store.store_persons(start, lines, operator, now).await
    }

    async fn record_non_provision(
        &self,
        record: NonProvisionRecord,
        operator: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Epoch, ActError> {
        self.store.record_non_provision(record, operator, now).await
    }

    async fn list_non_provision(
        &self,
        named: Named,
        reader: &PeerIdentity,
        now: Timestamp,
    ) -> Result<Vec<RecordMessage>, StoreError> {
        self.store.list_non_provision(named, reader, now).await
    }

    async fn municipalities(&self) -> Result<Vec<MunicipalityCopies>, StoreError> {
        self.store.municipalities().await
    }

    async fn oldest_copy(&self) -> Result<Option<Timestamp>, StoreError> {
        self.store.oldest_copy().await
    }

    async fn several_current_registers(&self) -> Result<u64, StoreError> {
        self.store.several_current_registers().await
    }
}
