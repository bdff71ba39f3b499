//! Requesters with their cards: logging in, consenting, logging out, all through the portal listener.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use common::clock::{Clock as _, SystemClock};
use devkit::{
    card::{CardKeyType, CardProfile, CardRoot, VirtualCard},
    client::Ids,
};
use koseki_proto::{
    koseki::common::v1::RequestKind,
    portal::v1::{
        BeginLoginRequest, Capacity, CompleteLoginRequest, ConsentText, GrantConsentRequest,
        ListConsentTextsRequest, LogoutRequest, WithdrawConsentRequest, grant_consent_request,
        portal_client::PortalClient,
    },
};
use rand::Rng;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{
    load::Target,
    population::{Expected, Population},
};

/// How long consents hold.
const CONSENTED: Duration = Duration::from_secs(24 * 3600);
/// Logins at the same time while sessions are opened.
const LOGINS: usize = 64;

/// A person with a card.
pub(crate) struct Holder {
    pub(crate) person: usize,
    pub(crate) card: VirtualCard,
}

/// Draws persons who are not suppressed, all different, and issues a card to each.
pub(crate) fn issue_cards(
    root: &CardRoot,
    rng: &mut impl Rng,
    provided: usize,
    taken: &mut BTreeSet<usize>,
    count: usize,
    key_type: CardKeyType,
) -> Result<Vec<Arc<Holder>>> {
    let mut persons = Vec::with_capacity(count);
    while persons.len() < count {
        let person = rng.random_range(0..provided);
        if taken.insert(person) {
            persons.push(person);
        }
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let issue = |persons: &[usize]| -> Result<Vec<Arc<Holder>>> {
        let holder = |person: &usize| {
            let mut profile = CardProfile::user_authentication(&format!("{person:010}"));
            profile.key_type = key_type;
            Ok(Arc::new(Holder {
                person: *person,
                card: root.issue(&profile)?,
            }))
        };
        persons.iter().map(holder).collect()
    };
    std::thread::scope(|scope| {
        let share = count.div_ceil(threads).max(1);
        let made: Vec<_> = persons
            .chunks(share)
            .map(|persons| scope.spawn(move || issue(persons)))
            .collect();
        let mut holders = Vec::with_capacity(count);
        for made in made {
            holders.extend(
                made.join()
                    .map_err(|_| anyhow::anyhow!("a thread that issued cards ended early"))??,
            );
        }
        Ok(holders)
    })
}

/// The keys of their cards, by person.
pub(crate) fn card_keys<'a>(holders: impl Iterator<Item = &'a Arc<Holder>>) -> HashMap<usize, [u8; 32]> {
    holders
        .map(|holder| (holder.person, holder.card.public_key_sha256))
        .collect()
}

/// A person with a live session and a consent that holds.
pub(crate) struct Person {
    pub(crate) token: Vec<u8>,
    pub(crate) expected: Expected,
}

/// All who have a live session.
pub(crate) struct Crowd {
    persons: Vec<Person>,
    pub(crate) clock: Arc<SystemClock>,
}

impl Crowd {
    /// Logs all of them in, and lets them consent.
    pub(crate) async fn log_in(
        target: &Arc<Target>,
        population: &Population,
        holders: &[Arc<Holder>],
        clock: &Arc<SystemClock>,
    ) -> Result<Arc<Self>> {
        let text = Arc::new(Requester::new(target.client(0)?, clock).consent_text().await?);
        let mut persons = Vec::with_capacity(holders.len());
        let mut tasks = JoinSet::new();
        for (number, holder) in holders.iter().enumerate() {
            if tasks.len() >= LOGINS
                && let Some(person) = tasks.join_next().await
            {
                persons.push(person??);
            }
            let mut requester = Requester::new(target.client(number)?, clock);
            let (holder, text) = (holder.clone(), text.clone());
            let expected = population.expected(holder.person)?;
            tasks.spawn(async move {
                let token = requester.log_in(&holder.card).await?;
                requester.consent(&token, &text).await?;
                anyhow::Ok(Person { token, expected })
            });
        }
        while let Some(person) = tasks.join_next().await {
            persons.push(person??);
        }
        Ok(Arc::new(Self {
            persons,
            clock: clock.clone(),
        }))
    }

    pub(crate) fn len(&self) -> usize {
        self.persons.len()
    }

    pub(crate) fn person(&self, at: usize) -> Result<&Person> {
        self.persons.get(at).context("no such person")
    }
}

/// What a requester does through a frontend beside asking.
pub(crate) struct Requester {
    client: PortalClient<Channel>,
    clock: Arc<SystemClock>,
    ids: Ids,
}

impl Requester {
    pub(crate) fn new(client: PortalClient<Channel>, clock: &Arc<SystemClock>) -> Self {
        Self {
            client,
            clock: clock.clone(),
            ids: Ids::new(clock.clone()),
        }
    }

    /// The text that is consented to.
    pub(crate) async fn consent_text(&mut self) -> Result<ConsentText> {
        let request = ListConsentTextsRequest {
            request_id: self.ids.next(),
        };
        let texts = self.client.list_consent_texts(request).await?.into_inner().texts;
        texts
            .into_iter()
            .find(|text| text.kind() == RequestKind::CertificateRequest && text.language == "ja")
            .context("there is no consent text")
    }

    /// Logs in; the session's token.
    pub(crate) async fn log_in(&mut self, card: &VirtualCard) -> Result<Vec<u8>> {
        let begin = BeginLoginRequest {
            request_id: self.ids.next(),
            web_origin: "https://portal.example".to_owned(),
        };
        let challenge = self.client.begin_login(begin).await?.into_inner();
        let complete = CompleteLoginRequest {
            request_id: self.ids.next(),
            challenge_id: challenge.challenge_id,
            certificate: card.certificate_der.clone(),
            signature: card.sign(&challenge.text)?,
        };
        Ok(self
            .client
            .complete_login(complete)
            .await?
            .into_inner()
            .session_token)
    }

    /// Consents until a date; the consent's id.
    pub(crate) async fn consent(&mut self, token: &[u8], text: &ConsentText) -> Result<String> {
        let until = self.clock.now().after(CONSENTED).to_proto();
        let request = GrantConsentRequest {
            request_id: self.ids.next(),
            session_token: token.to_vec(),
            kind: text.kind,
            text_sha256: text.text_sha256.clone(),
            term: Some(grant_consent_request::Term::Until(until)),
            capacity: Capacity::Self_.into(),
        };
        Ok(self.client.grant_consent(request).await?.into_inner().consent_id)
    }

    /// Withdraws a consent.
    pub(crate) async fn withdraw(&mut self, token: &[u8], consent_id: &str) -> Result<()> {
        let request = WithdrawConsentRequest {
            request_id: self.ids.next(),
            session_token: token.to_vec(),
            consent_id: consent_id.to_owned(),
        };
        self.client.withdraw_consent(request).await?;
        Ok(())
    }

    /// Logs out.
    pub(crate) async fn log_out(&mut self, token: &[u8]) -> Result<()> {
        let request = LogoutRequest {
            request_id: self.ids.next(),
            session_token: token.to_vec(),
        };
        self.client.logout(request).await?;
        Ok(())
    }
}
