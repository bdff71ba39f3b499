//! Random acts on records, linkages, persons and copies: after each the feed is what is computed from the beginning. The seed is
//! printed, and `KOSEKI_SEED` repeats the acts; when a record ends by its time between two of them is the clock's.

use std::time::Duration;

use common::{
    approval::Opening,
    clock::Clock as _,
    lines::LoadStart,
    store::Access,
    terms::{ActId, LinkageCode, LinkageState, MunicipalityCode, RegisterKind},
};
use integration_tests::{Pair, feed::Watcher, identity, soak};
use koseki_proto::koseki::admin::v1::{RecordNonProvisionRequest, RegisterRef};
use koseki_provider::{non_provision::NonProvisionRecord, persons::PersonLine};
use rand::{Rng as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

use crate::world::{Linkage, MUNICIPALITY, Person, Record, Register, World};

const ACTS: usize = 120;
const PERSONS: usize = 6;
const REGISTERS: usize = 4;
const MINUTE: Duration = Duration::from_secs(60);
/// A heartbeat, a look and the way are far below.
const PATIENCE: Duration = Duration::from_secs(10);

struct Play {
    pair: Pair,
    world: World,
    rng: ChaCha8Rng,
    watcher: Watcher,
}

impl Play {
    async fn begin(seed: u64) -> Self {
        let pair = Pair::start().await;
        let watcher = Watcher::start(&pair, "watcher").await;
        let mut play = Self {
            pair,
            world: World::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            watcher,
        };
        for number in 0..REGISTERS {
            play.world.registers.push(Register {
                number: format!("R-{number}"),
                revision: 0,
                kind: RegisterKind::Current,
                members: Vec::new(),
            });
            play.copy(number).await;
        }
        for number in 0..PERSONS {
            play.world.persons.push(Person {
                id: format!("person-{number}"),
                references: Vec::new(),
            });
            play.person(number).await;
            play.link(number).await;
        }
        play
    }

    async fn load(&self, line: PersonLine) -> bool {
        let start = LoadStart {
            load_id: ActId::random().unwrap(),
            dry_run: false,
        };
        let loaded = self
            .pair
            .registry_store
            .store_persons(
                start,
                vec![line],
                &identity("operator/alice"),
                self.pair.clock.now(),
            )
            .await
            .unwrap();
        loaded.outcomes[0].is_ok()
    }

    /// A register gets a new copy, with other members and perhaps of another kind.
    async fn copy(&mut self, number: usize) {
        let register = &mut self.world.registers[number];
        register.revision += 1;
        register.kind = match self.rng.random_range(0..4) {
            0 => RegisterKind::Removed,
            _ => RegisterKind::Current,
        };
        register.members.clear();
        for person in 0..PERSONS {
            for half in ["a", "b"] {
                if self.rng.random_bool(0.3) {
                    let removed = self.rng.random_bool(0.2);
                    register.members.push((format!("{half}-{person}"), removed));
                }
            }
        }
        let copy = register.copy(&mut self.rng);
        let office = identity("municipality/131016/desk-1");
        let store = &self.pair.registry_store;
        let outcomes = store
            .store_copies(vec![copy], &office, self.pair.clock.now())
            .await
            .unwrap();
        assert!(outcomes[0].is_ok());
    }

    /// A person gets other references; what stands about them may forbid it.
    async fn person(&mut self, number: usize) {
        let mut references = Vec::new();
        for half in ["a", "b"] {
            if self.rng.random_bool(0.7) {
                references.push(format!("{half}-{number}"));
            }
        }
        let code = MunicipalityCode::parse(MUNICIPALITY).unwrap();
        let line = PersonLine::Person {
            person_id: self.world.persons[number].id.clone(),
            members: references
                .iter()
                .map(|reference| (code, reference.clone()))
                .collect(),
        };
        if self.load(line).await {
            self.world.persons[number].references = references;
        }
    }

    /// A person gets one more linkage.
    async fn link(&mut self, person: usize) {
        let (code, card) = (LinkageCode::random().unwrap(), self.rng.random());
        let line = PersonLine::Linkage {
            code: code.clone(),
            person_id: self.world.persons[person].id.clone(),
            card_key_sha256: card,
            state: LinkageState::Active,
        };
        assert!(self.load(line).await);
        self.world.linkages.push(Linkage {
            code,
            person,
            card,
            revoked: false,
        });
    }

    /// A linkage gets another code.
    async fn rotate(&mut self) {
        let at = self.rng.random_range(0..self.world.linkages.len());
        if self.world.linkages[at].revoked {
            return;
        }
        let (new_code, card) = (LinkageCode::random().unwrap(), self.world.linkages[at].card);
        let line = PersonLine::Rotate {
            code: self.world.linkages[at].code.clone(),
            new_code: new_code.clone(),
            card_key_sha256: card,
        };
        assert!(self.load(line).await);
        self.world.linkages[at].revoked = true;
        let person = self.world.linkages[at].person;
        self.world.linkages.push(Linkage {
            code: new_code,
            person,
            card,
            revoked: false,
        });
    }

    async fn record(&mut self) {
        let (person, register) = match self.rng.random_range(0..3) {
            0 => (Some(self.rng.random_range(0..PERSONS)), None),
            1 => (None, Some(self.rng.random_range(0..REGISTERS))),
            _ => (
                Some(self.rng.random_range(0..PERSONS)),
                Some(self.rng.random_range(0..REGISTERS)),
            ),
        };
        let now = self.pair.clock.now();
        let from = self
            .rng
            .random_bool(0.4)
            .then(|| now.after(MINUTE * self.rng.random_range(1..120)));
        let length = MINUTE * self.rng.random_range(1..120);
        let until = self
            .rng
            .random_bool(0.5)
            .then(|| from.unwrap_or(now).after(length));
        let act = ActId::random().unwrap();
        let request = RecordNonProvisionRequest {
            act_id: act.to_string(),
            person_id: person
                .map(|person| self.world.persons[person].id.clone())
                .unwrap_or_default(),
            register: register.map(|register| RegisterRef {
                municipality_code: MUNICIPALITY.to_owned(),
                local_number: self.world.registers[register].number.clone(),
            }),
            valid_from: from.map(|at| at.to_proto()),
            valid_until: until.map(|at| at.to_proto()),
            authority: "development authority".to_owned(),
            document_number: "D-1".to_owned(),
        };
        let record = NonProvisionRecord::parse(&request, now).unwrap();
        self.pair
            .registry_store
            .record_non_provision(record, &identity("operator/alice"), now)
            .await
            .unwrap();
        self.world.records.push(Record {
            act,
            person,
            register,
            from,
            until,
            released: false,
        });
    }

    /// A record is released or shortened.
    async fn end(&mut self) {
        let now = self.pair.clock.now();
        let open = (0..self.world.records.len()).filter(|at| !self.world.records[*at].has_ended(now));
        let open: Vec<usize> = open.collect();
        let Some(at) = open.choose(&mut self.rng).copied() else {
            return;
        };
        let record = &mut self.world.records[at];
        let opening = if record.until.is_none() && self.rng.random_bool(0.5) {
            let until = now.after(MINUTE * self.rng.random_range(1..60));
            record.until = Some(until);
            Opening::ShortenNonProvision(record.act, until)
        } else {
            record.released = true;
            Opening::ReleaseNonProvision(record.act)
        };
        let side = self.pair.registry_store.side();
        let mut tx = side.database().begin(Access::Guard).await.unwrap();
        side.open(&mut tx, &opening, now).await.unwrap();
        tx.commit_unrecorded().await.unwrap();
    }

    async fn act(&mut self) -> &'static str {
        match self.rng.random_range(0..14) {
            0..4 => {
                self.record().await;
                "a record"
            }
            4..7 => {
                self.end().await;
                "the end of a record"
            }
            7..9 => {
                let number = self.rng.random_range(0..REGISTERS);
                self.copy(number).await;
                "a copy"
            }
            9 => {
                let number = self.rng.random_range(0..PERSONS);
                self.person(number).await;
                "a person"
            }
            10 => {
                let number = self.rng.random_range(0..PERSONS);
                self.link(number).await;
                "a linkage"
            }
            11 => {
                self.rotate().await;
                "a new code"
            }
            _ => {
                let minutes = self.rng.random_range(1..90);
                self.pair.clock.advance(MINUTE * minutes);
                "time"
            }
        }
    }

    /// Those for whom the feed says something else than the rule.
    fn differences(&self) -> Vec<(usize, bool)> {
        let now = self.pair.clock.now();
        let differs = |(at, linkage): (usize, &Linkage)| {
            let stops = self.world.stops(linkage, now);
            (self.watcher.holds(&linkage.code.handle()) != stops).then_some((at, stops))
        };
        self.world
            .linkages
            .iter()
            .enumerate()
            .filter_map(differs)
            .collect()
    }

    async fn agrees(&mut self, what: &str) {
        let agree = async {
            while !self.differences().is_empty() {
                assert!(self.watcher.take().await, "the stream ended");
            }
        };
        let agreed = tokio::time::timeout(PATIENCE, agree).await;
        assert!(agreed.is_ok(), "after {what}: {:?}", self.differences());
        assert_eq!(self.watcher.size(), 1_024);
    }
}

#[tokio::test]
async fn after_each_act_it_is_what_is_computed_from_the_beginning() {
    let seed = soak::seed();
    println!("seed {seed}");
    let mut play = Play::begin(seed).await;
    let mut stopped = 0;
    for number in 0..ACTS {
        let what = play.act().await;
        play.agrees(&format!("act {number}, {what}")).await;
        let now = play.pair.clock.now();
        stopped += play
            .world
            .linkages
            .iter()
            .filter(|linkage| play.world.stops(linkage, now))
            .count();
    }
    // Whatever was still on its way.
    let mut beats = 0;
    while beats < 2 {
        let before = play.watcher.sequence;
        assert!(play.watcher.take().await);
        beats += usize::from(play.watcher.sequence == before);
    }
    play.agrees("all acts").await;
    assert!(stopped > ACTS / 2, "hardly anybody was stopped: {stopped}");
    assert_eq!(play.watcher.snapshots, 1, "it was never begun anew");

    // The gateway has come as far.
    let [operator, _] = play.pair.offices().portal;
    let told = operator.status().await.unwrap().suppression_feed.unwrap();
    assert_eq!(told.sequence, play.watcher.sequence);
}
