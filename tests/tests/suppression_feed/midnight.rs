//! Many records begin or end at one moment, and acts go on meanwhile.

use std::{collections::BTreeSet, time::Duration};

use common::{
    approval::Opening,
    clock::{Clock as _, Timestamp},
    lines::LoadStart,
    store::Access,
    terms::{ActId, LinkageCode, LinkageState, MunicipalityCode},
};
use integration_tests::{Pair, feed::Watcher, identity};
use koseki_proto::koseki::admin::v1::RecordNonProvisionRequest;
use koseki_provider::{non_provision::NonProvisionRecord, persons::PersonLine};

use crate::world::MUNICIPALITY;

/// Persons about whom there is a record: three steps' work, and one of the steps ends within the moment.
const PERSONS: usize = 600;
const STEPS: u64 = 3;
const HOUR: Duration = Duration::from_secs(3_600);
const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);

struct Many {
    pair: Pair,
    watcher: Watcher,
    /// Linkages, and which person each belongs to.
    linkages: Vec<(LinkageCode, usize)>,
}

fn person_id(number: usize) -> String {
    format!("person-{number}")
}

impl Many {
    async fn begin(persons: usize) -> Self {
        let pair = Pair::start().await;
        let watcher = Watcher::start(&pair, "watcher").await;
        let mut many = Self {
            pair,
            watcher,
            linkages: Vec::new(),
        };
        let code = MunicipalityCode::parse(MUNICIPALITY).unwrap();
        let now = many.pair.clock.now();
        for first in (0..persons).step_by(200) {
            let some = first..persons.min(first + 200);
            let person = |number: usize| PersonLine::Person {
                person_id: person_id(number),
                members: vec![(code, format!("member-{number}"))],
            };
            many.load(some.clone().map(person).collect(), now).await;
            many.link(some, now).await;
        }
        many
    }

    async fn load(&self, lines: Vec<PersonLine>, now: Timestamp) {
        let start = LoadStart {
            load_id: ActId::random().unwrap(),
            dry_run: false,
        };
        let store = &self.pair.registry_store;
        let loaded = store
            .store_persons(start, lines, &identity("operator/alice"), now)
            .await
            .unwrap();
        assert!(loaded.outcomes.iter().all(Result::is_ok));
    }

    /// Each of these persons gets one more linkage.
    async fn link(&mut self, persons: impl Iterator<Item = usize>, now: Timestamp) {
        let mut lines = Vec::new();
        for person in persons {
            let code = LinkageCode::random().unwrap();
            let card = *LinkageCode::random().unwrap().handle().expose();
            lines.push(PersonLine::Linkage {
                code: code.clone(),
                person_id: person_id(person),
                card_key_sha256: card,
                state: LinkageState::Active,
            });
            self.linkages.push((code, person));
        }
        self.load(lines, now).await;
    }

    async fn record(&self, person: usize, time: Option<(Timestamp, Timestamp)>, now: Timestamp) -> ActId {
        let act = ActId::random().unwrap();
        let request = RecordNonProvisionRequest {
            act_id: act.to_string(),
            person_id: person_id(person),
            register: None,
            valid_from: time.map(|(from, _)| from.to_proto()),
            valid_until: time.map(|(_, until)| until.to_proto()),
            authority: "development authority".to_owned(),
            document_number: "D-1".to_owned(),
        };
        let record = NonProvisionRecord::parse(&request, now).unwrap();
        let store = &self.pair.registry_store;
        store
            .record_non_provision(record, &identity("operator/alice"), now)
            .await
            .unwrap();
        act
    }

    async fn release(&self, record: ActId, now: Timestamp) {
        let side = self.pair.registry_store.side();
        let mut tx = side.database().begin(Access::Guard).await.unwrap();
        let opening = Opening::ReleaseNonProvision(record);
        side.open(&mut tx, &opening, now).await.unwrap();
        tx.commit_unrecorded().await.unwrap();
    }

    /// Persons of whom a linkage is in the feed and should not be, or is not and should.
    fn differences(&self, stopped: impl Fn(usize) -> bool) -> BTreeSet<usize> {
        let differs = |(code, person): &(LinkageCode, usize)| {
            (self.watcher.holds(&code.handle()) != stopped(*person)).then_some(*person)
        };
        self.linkages.iter().filter_map(differs).collect()
    }

    async fn until(&mut self, what: &str, stopped: impl Fn(usize) -> bool) {
        let agree = async {
            while !self.differences(&stopped).is_empty() {
                assert!(self.watcher.take().await, "the stream ended");
            }
        };
        let agreed = tokio::time::timeout(PATIENCE, agree).await;
        assert!(agreed.is_ok(), "{what}: {:?}", self.differences(&stopped));
    }

    /// Whatever was still on its way.
    async fn settle(&mut self) {
        let mut beats = 0;
        while beats < 2 {
            let before = self.watcher.sequence;
            assert!(self.watcher.take().await, "the stream ended");
            beats += usize::from(self.watcher.sequence == before);
        }
    }
}

#[tokio::test]
async fn records_of_one_moment_are_all_taken_in_in_steps_while_acts_go_on() {
    let mut many = Many::begin(PERSONS).await;
    let now = many.pair.clock.now();
    let (begin, end) = (now.after(HOUR), now.after(2 * HOUR));
    let mut records = Vec::new();
    for person in 0..PERSONS {
        records.push(many.record(person, Some((begin, end)), now).await);
    }
    many.until("before their time", |_| false).await;
    let before = many.watcher.sequence;
    many.pair.clock.advance(HOUR);
    many.until("they have begun", |_| true).await;
    many.settle().await;
    assert_eq!(many.watcher.sequence - before, STEPS, "a number for each step");

    // Acts of an instance whose clock has not come to the end, while another takes the ends in: it takes none of them back, and
    // none of its own acts are lost.
    let behind = end.before(SECOND);
    let (again, released) = (
        |person: usize| person % 60 == 7,
        |person: usize| person % 60 == 11,
    );
    many.pair.clock.advance(HOUR);
    for person in 0..PERSONS {
        if person % 30 == 3 {
            many.link([person].into_iter(), behind).await;
        } else if again(person) {
            many.record(person, None, behind).await;
        } else if released(person) {
            let record = many.record(person, None, behind).await;
            many.release(record, behind).await;
        }
    }
    many.until("they have ended", again).await;
    many.settle().await;
    assert_eq!(many.differences(again), BTreeSet::new(), "it stays so");
}

/// An instance whose clock is ahead has taken some records of a moment in and not yet the others.
#[tokio::test]
async fn what_is_taken_in_half_is_not_taken_back() {
    let mut many = Many::begin(1).await;
    let now = many.pair.clock.now();
    let (begin, end) = (now.after(HOUR), now.after(2 * HOUR));
    many.record(0, Some((begin, end)), now).await;
    many.until("before its time", |_| false).await;
    let side = many.pair.registry_store.side();
    let mut tx = side.database().begin(Access::Ungated).await.unwrap();
    tx.execute(
        "UPDATE suppression_head SET looked_until = {whole}",
        &[("whole", (begin.unix_ms() - 1).into())],
    )
    .await
    .unwrap();
    tx.commit_unrecorded().await.unwrap();
    many.link([0].into_iter(), now).await;
    many.until("as if it had begun", |_| true).await;
    // It is not due here, and it is taken in when it is.
    many.pair.clock.advance(2 * HOUR);
    many.until("it has ended", |_| false).await;
}
