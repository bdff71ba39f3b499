//! I3 over all logs of a side: a release under an epoch at or above that of an act in force that forbids it is found, and one
//! that nothing forbids is not; so are a request id that is released twice and an epoch that no act made.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

mod writer;

use koseki_proto::koseki::evidence::v1::{
    GuardActDetail, OrdinaryAct, OrdinaryActDetail, export_part::Part, public::Event, restricted::Detail,
};
use prost_types::Timestamp;
use writer::{
    BEGIN, Desk, GATEWAY, Happened, Log, PROVIDER, assert_clean, assert_finds, assert_not_checked, encoded,
    guard, named, ordinary, provision, release, request_id,
};

const RECORD: &str = "22222222-2222-4222-8222-222222222222";

/// A log of a side: what happened under epoch 1, 2 and so on, an act each, and after each act a release.
fn story(role: &'static str, acts: Vec<Happened>) -> Log {
    let mut log = Log::new(role, "one-1");
    log.commit(0, vec![provision(release(0))]);
    for (number, act) in (1..).zip(acts) {
        log.commit(number, vec![act]);
        log.commit(number, vec![provision(release(u8::try_from(number).unwrap()))]);
    }
    log
}

/// Indexes of the releases that are found to be forbidden, and by what.
fn forbidden(log: &Log) -> Vec<(u64, String)> {
    let json = Desk::of(&[log]).verify().to_json();
    let findings = json["findings"].as_array().unwrap().iter();
    let found = findings.map(|one| {
        (
            one["index"].as_u64().unwrap(),
            one["finding"].as_str().unwrap().to_owned(),
        )
    });
    found.collect()
}

/// After the first act releases are forbidden, and after the second one no more.
#[track_caller]
fn forbids_until_lifted(role: &'static str, finding: &str, acts: [Happened; 2]) {
    let found = forbidden(&story(role, acts.to_vec()));
    // Entries: release, act, release, act, release.
    assert_eq!(found, [(2, finding.to_owned())]);
}

#[track_caller]
fn forbids_for_ever(role: &'static str, finding: &str, act: Happened) {
    let found = forbidden(&story(
        role,
        vec![act, guard("TAKE_POLICY", 0, GuardActDetail::default())],
    ));
    assert_eq!(found, [(2, finding.to_owned()), (4, finding.to_owned())]);
}

#[track_caller]
fn forbids_nothing(role: &'static str, act: Happened) {
    assert_clean(&Desk::of(&[&story(role, vec![act])]).verify());
}

fn about(subject: u8) -> GuardActDetail {
    GuardActDetail {
        subject_pseudonym: named(subject),
        ..GuardActDetail::default()
    }
}

#[test]
fn a_release_while_its_kind_or_all_kinds_are_suspended_is_found() {
    let suspend = |kind| guard("SUSPEND_PROVISION", kind, GuardActDetail::default());
    let resume = |kind| guard("RESUME_PROVISION", kind, GuardActDetail::default());
    for role in [PROVIDER, GATEWAY] {
        for kind in [0, 1] {
            forbids_until_lifted(role, "RELEASED_WHILE_SUSPENDED", [suspend(kind), resume(kind)]);
        }
        // Lifting the one does not lift the other.
        let found = forbidden(&story(role, vec![suspend(0), suspend(1), resume(1)]));
        assert_eq!(
            found.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
            [2, 4, 6]
        );
        forbids_nothing(role, suspend(2));
        let moved = guard("DATABASE_MOVED", 0, GuardActDetail::default());
        forbids_until_lifted(role, "RELEASED_WHILE_SUSPENDED", [moved, resume(0)]);
    }
}

#[test]
fn a_release_to_a_blocked_card_is_found() {
    let set = guard("SET_BLOCK", 0, about(3));
    let lift = guard("LIFT_BLOCK", 0, about(3));
    forbids_until_lifted(GATEWAY, "RELEASED_WHILE_BLOCKED", [set, lift]);
    forbids_nothing(GATEWAY, guard("SET_BLOCK", 0, about(9)));
    let found = forbidden(&story(
        GATEWAY,
        vec![guard("SET_BLOCK", 0, about(3)), guard("LIFT_BLOCK", 0, about(9))],
    ));
    assert_eq!(found.len(), 2);
}

#[test]
fn a_block_goes_over_with_the_linkage_to_another_card() {
    let moved = GuardActDetail {
        former_card_pseudonym: named(9),
        card_pseudonym: named(3),
        ..about(9)
    };
    let acts = vec![guard("SET_BLOCK", 0, about(9)), guard("CHANGE_LINKAGE", 0, moved)];
    assert_eq!(
        forbidden(&story(GATEWAY, acts)),
        [(4, "RELEASED_WHILE_BLOCKED".to_owned())]
    );
}

#[test]
fn a_release_to_a_card_whose_linkage_is_not_active_is_found() {
    let left = |now: Option<u8>| {
        let detail = GuardActDetail {
            former_card_pseudonym: named(3),
            card_pseudonym: now.map(named).unwrap_or_default(),
            ..about(3)
        };
        guard("CHANGE_LINKAGE", 0, detail)
    };
    let reactivated = guard("REACTIVATE_LINKAGE", 0, about(3));
    forbids_until_lifted(GATEWAY, "RELEASED_WITHOUT_LINKAGE", [left(None), reactivated]);
    forbids_for_ever(GATEWAY, "RELEASED_WITHOUT_LINKAGE", left(Some(9)));
    forbids_until_lifted(GATEWAY, "RELEASED_WITHOUT_LINKAGE", [left(None), left(Some(3))]);
    forbids_nothing(GATEWAY, left(Some(3)));
    // A new linkage, loaded by another instance under the same epoch: which came first is not known.
    let mut log = story(GATEWAY, vec![left(None)]);
    let mut other = Log::new(GATEWAY, "two-2");
    let loaded = OrdinaryActDetail {
        card_pseudonyms: vec![named(9), named(3)],
        ..OrdinaryActDetail::default()
    };
    let act = OrdinaryAct {
        act: "LOAD_LINKAGES".to_owned(),
    };
    other.commit(1, vec![(Event::OrdinaryAct(act), Detail::OrdinaryAct(loaded))]);
    assert_clean(&Desk::of(&[&log, &other]).verify());
    // It is of that epoch and counts on.
    log.commit(2, vec![guard("TAKE_POLICY", 0, GuardActDetail::default())]);
    log.commit(2, vec![provision(release(7))]);
    assert_clean(&Desk::of(&[&log, &other]).verify());
}

#[test]
fn a_release_to_a_session_that_ended_is_found() {
    let logout = |session| {
        let detail = GuardActDetail {
            session_pseudonym: named(session),
            ..about(1)
        };
        guard("LOGOUT", 0, detail)
    };
    forbids_for_ever(GATEWAY, "RELEASED_AFTER_LOGOUT", logout(2));
    // Another session of the same account.
    forbids_nothing(GATEWAY, logout(9));
}

#[test]
fn a_release_under_a_withdrawn_consent_is_found() {
    let withdraw = |consent: &str| {
        let detail = GuardActDetail {
            consent_id: consent.to_owned(),
            ..about(1)
        };
        guard("WITHDRAW_CONSENT", 0, detail)
    };
    let (_, released) = release(0);
    forbids_for_ever(
        GATEWAY,
        "RELEASED_AFTER_WITHDRAWAL",
        withdraw(&released.consent_id),
    );
    forbids_nothing(GATEWAY, withdraw(RECORD));
}

fn record(person: Option<u8>, register: Option<u8>) -> GuardActDetail {
    GuardActDetail {
        act_id: RECORD.to_owned(),
        subject_pseudonym: person.map(named).unwrap_or_default(),
        register_pseudonym: register.map(named).unwrap_or_default(),
        ..GuardActDetail::default()
    }
}

fn seconds(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

#[test]
fn a_release_against_a_record_is_found_whatever_it_names() {
    let released = || {
        let detail = GuardActDetail {
            lifts_act_id: RECORD.to_owned(),
            ..about(1)
        };
        guard("RELEASE_NON_PROVISION", 0, detail)
    };
    for (person, register) in [(Some(1), None), (None, Some(4)), (Some(1), Some(4))] {
        let recorded = guard("RECORD_NON_PROVISION", 0, record(person, register));
        forbids_until_lifted(PROVIDER, "RELEASED_AGAINST_RECORD", [recorded, released()]);
    }
    for (person, register) in [
        (Some(9), None),
        (None, Some(9)),
        (Some(9), Some(4)),
        (Some(1), Some(9)),
    ] {
        forbids_nothing(
            PROVIDER,
            guard("RECORD_NON_PROVISION", 0, record(person, register)),
        );
    }
    // The release of another record lifts nothing.
    let other = GuardActDetail {
        lifts_act_id: "33333333-3333-4333-8333-333333333333".to_owned(),
        ..about(1)
    };
    let acts = vec![
        guard("RECORD_NON_PROVISION", 0, record(Some(1), None)),
        guard("RELEASE_NON_PROVISION", 0, other),
    ];
    assert_eq!(forbidden(&story(PROVIDER, acts)).len(), 2);
}

#[test]
fn a_record_holds_from_its_beginning_to_its_end() {
    // Bundles of a story are 10 s apart: release at 0, act at 10, release at 20, act at 30, release at 40.
    let of = |from: Option<i64>, until: Option<i64>| GuardActDetail {
        valid_from: from.and_then(|from| seconds(BEGIN + from)),
        valid_until: until.and_then(|until| seconds(BEGIN + until)),
        ..record(Some(1), None)
    };
    let nothing = || guard("TAKE_POLICY", 0, GuardActDetail::default());
    for (from, until, found) in [
        (Some(0), None, vec![2, 4]),
        (Some(30), None, vec![4]),
        (Some(50), None, vec![]),
        (None, Some(30), vec![2]),
        (Some(30), Some(40), vec![]),
        (Some(30), Some(50), vec![4]),
    ] {
        let acts = vec![guard("RECORD_NON_PROVISION", 0, of(from, until)), nothing()];
        let indexes: Vec<u64> = forbidden(&story(PROVIDER, acts))
            .iter()
            .map(|(index, _)| *index)
            .collect();
        assert_eq!(indexes, found, "{from:?} {until:?}");
    }
    let shortened = GuardActDetail {
        lifts_act_id: RECORD.to_owned(),
        valid_until: seconds(BEGIN + 35),
        ..about(1)
    };
    let shortened = guard("SHORTEN_NON_PROVISION", 0, shortened);
    let recorded = guard("RECORD_NON_PROVISION", 0, of(None, Some(100)));
    forbids_until_lifted(PROVIDER, "RELEASED_AGAINST_RECORD", [recorded, shortened]);
}

/// The act stands in one instance's log and the release in another's: what orders them is the epoch, not the clock.
#[test]
fn an_act_in_another_log_of_the_side_counts() {
    let mut one = Log::new(GATEWAY, "one-1");
    one.commit(0, vec![ordinary("OPEN_LOG")]);
    for _ in 0..9 {
        one.commit(0, vec![ordinary("LOGIN")]);
    }
    one.commit(1, vec![guard("SUSPEND_PROVISION", 0, GuardActDetail::default())]);
    let mut two = Log::new(GATEWAY, "two-2");
    two.commit(0, vec![provision(release(1))]);
    // Earlier by the clock, and under the act's epoch.
    two.commit(1, vec![provision(release(2))]);
    let json = assert_finds(&Desk::of(&[&one, &two]).verify(), "RELEASED_WHILE_SUSPENDED");
    assert_eq!(json["findings_total"], 1);
    assert_eq!(json["findings"][0]["index"], 1);
    // Without the log that has the act, nobody can tell.
    let mut desk = Desk::empty();
    desk.add(&two, &encoded(&two.parts(0, &two.signed())));
    desk.trust(&one);
    assert_not_checked(&desk.verify(), "LOG_NOT_GIVEN");
}

#[test]
fn an_epoch_that_no_act_made_is_found_and_one_that_another_file_may_yet_have_is_not_checked() {
    let act = || guard("TAKE_POLICY", 0, GuardActDetail::default());
    let mut log = Log::new(GATEWAY, "one-1");
    log.commit(1, vec![act()]);
    log.commit(3, vec![provision(release(1))]);
    log.commit(3, vec![ordinary("LOGIN")]);
    assert_finds(&Desk::of(&[&log]).verify(), "EPOCH_WITHOUT_ACT");
    let mut first = Log::new(GATEWAY, "one-1");
    first.commit(2, vec![act()]);
    first.commit(2, vec![ordinary("LOGIN")]);
    assert_finds(&Desk::of(&[&first]).verify(), "EPOCH_WITHOUT_ACT");
    let mut twice = Log::new(GATEWAY, "one-1");
    twice.commit(1, vec![act()]);
    twice.commit(1, vec![act()]);
    assert_finds(&Desk::of(&[&twice]).verify(), "EPOCH_TWICE");
    // The release comes before the act in the log, under the epoch that the act made.
    let mut before = Log::new(GATEWAY, "one-1");
    before.commit(1, vec![provision(release(1))]);
    before.commit(1, vec![guard("SUSPEND_PROVISION", 0, GuardActDetail::default())]);
    assert_finds(&Desk::of(&[&before]).verify(), "EPOCH_TWICE");
    // The other log ends before: the act may be behind its end.
    let mut other = Log::new(GATEWAY, "two-2");
    other.commit(1, vec![ordinary("LOGIN")]);
    let json = assert_not_checked(&Desk::of(&[&log, &other]).verify(), "ACTS_MISSING");
    assert_eq!(json["counts"]["releases"]["not_checked"], 1);
}

#[test]
fn a_request_id_that_is_released_twice_is_found_in_one_log_and_over_two() {
    let mut one = Log::new(GATEWAY, "one-1");
    one.commit(0, vec![provision(release(1)), provision(release(2))]);
    let mut two = Log::new(GATEWAY, "two-2");
    two.commit(0, vec![provision(release(2))]);
    let json = assert_finds(&Desk::of(&[&one, &two]).verify(), "RELEASED_TWICE");
    assert_eq!(json["findings"][0]["about"], request_id(2));
    let mut refused = release(1);
    refused.0.outcome = 3;
    one.commit(0, vec![provision(refused)]);
    assert_clean(&Desk::of(&[&one]).verify());
    one.commit(0, vec![provision(release(1))]);
    assert_finds(&Desk::of(&[&one]).verify(), "RELEASED_TWICE");
}

#[test]
fn bodies_that_were_archived_are_checked_by_their_hashes_below_a_mark_that_is_an_entry() {
    let mut log = story(GATEWAY, vec![guard("TAKE_POLICY", 0, GuardActDetail::default())]);
    let mark = |before: u64| GuardActDetail {
        reference: format!("one-1 {before}"),
        ..GuardActDetail::default()
    };
    log.commit(2, vec![guard("ARCHIVE_LOG", 0, mark(2))]);
    log.archived = 2;
    let json = assert_clean(&Desk::of(&[&log]).verify());
    assert_eq!(json["logs"][0]["hashes_only"], 2);
    log.archived = 3;
    assert_finds(&Desk::of(&[&log]).verify(), "ARCHIVED_ABOVE_MARK");
    // A hash that was changed.
    log.archived = 2;
    let mut parts = log.parts(0, &log.signed());
    if let Part::Bundle(bundle) = &mut parts[1] {
        bundle.leaf_hashes[0] ^= 1;
    }
    let mut desk = Desk::empty();
    desk.add(&log, &encoded(&parts));
    assert_finds(&desk.verify(), "ROOT_DIFFERS");
}
