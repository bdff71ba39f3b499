//! `verify` on logs that the test writes itself: what is whole is clean, and each way to tamper with a log is found.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

mod writer;

use koseki_proto::koseki::evidence::v1::{
    GuardActDetail, OrdinaryAct, OrdinaryActDetail, export_part::Part, public::Event, restricted::Detail,
};
use writer::{
    BEGIN, Desk, GATEWAY, Happened, Log, PROVIDER, assert_clean, assert_finds, assert_not_checked, encoded,
    guard, ordinary, provision, release,
};

/// A log of some length, with acts and releases in it.
fn some_log(role: &'static str, instance: &'static str) -> Log {
    let mut log = Log::new(role, instance);
    log.commit(0, vec![ordinary("OPEN_LOG")]);
    log.commit(1, vec![guard("TAKE_POLICY", 0, GuardActDetail::default())]);
    for number in 0..5 {
        let pair = [release(2 * number), release(2 * number + 1)];
        log.commit(1, pair.map(provision).to_vec());
    }
    log.commit(2, vec![guard("SUSPEND_PROVISION", 2, GuardActDetail::default())]);
    log.commit(
        2,
        vec![provision(release(20)), ordinary("LOGIN"), provision(release(21))],
    );
    log
}

/// The file of a log after something was done to its parts, under the checkpoint of the log as it was.
fn tampered(change: impl FnOnce(&mut Vec<Part>)) -> Desk {
    let log = some_log(PROVIDER, "provider-1");
    let mut parts = log.parts(0, &log.signed());
    change(&mut parts);
    let mut desk = Desk::empty();
    desk.add(&log, &encoded(&parts));
    desk
}

/// The log, after something was done to it, under the checkpoint of the log as it was.
fn changed(change: impl FnOnce(&mut Log)) -> Desk {
    let mut log = some_log(PROVIDER, "provider-1");
    let signed = log.signed();
    change(&mut log);
    let mut desk = Desk::empty();
    desk.add(&log, &encoded(&log.parts(0, &signed)));
    desk
}

#[test]
fn whole_logs_of_both_sides_are_clean_and_the_same_bytes_come_out_twice() {
    let (mut provider, mut gateway) = (some_log(PROVIDER, "provider-1"), some_log(GATEWAY, "gateway-1"));
    provider.witnessed = vec![gateway.checkpoint(7, Some(BEGIN + 1_000)), gateway.signed()];
    gateway.witnessed = vec![provider.checkpoint(3, Some(BEGIN + 1_000))];
    let desk = Desk::of(&[&provider, &gateway]);
    let json = assert_clean(&desk.verify());
    assert_eq!(json["counts"]["entries"]["checked"], 2 * provider.size());
    assert_eq!(json["counts"]["releases"]["checked"], 2 * 12);
    assert_eq!(json["counts"]["witnessed_checkpoints"]["checked"], 3);
    let text = |language| desk.verify().to_text(language);
    for language in [audit::Language::Ja, audit::Language::En] {
        assert_eq!(text(language), text(language));
    }
    assert_eq!(json, desk.verify().to_json());
}

#[test]
fn an_entry_that_was_edited_is_found() {
    let desk = changed(|log| log.bundles[3].entries[0].restricted[20] ^= 1);
    assert_finds(&desk.verify(), "ROOT_DIFFERS");
    let desk = changed(|log| log.bundles[3].entries[1].salt[0] ^= 1);
    assert_finds(&desk.verify(), "ROOT_DIFFERS");
}

#[test]
fn entries_that_were_deleted_or_reordered_are_found() {
    let desk = changed(|log| drop(log.bundles[3].entries.remove(0)));
    assert_finds(&desk.verify(), "FEWER_THAN_SIGNED");
    let desk = changed(|log| {
        // Everything behind it moved up, and as many entries as were signed.
        log.bundles[3].entries.remove(0);
        for bundle in &mut log.bundles[4..] {
            bundle.first_index -= 1;
        }
        log.commit(2, vec![ordinary("LOGIN")]);
    });
    assert_finds(&desk.verify(), "ROOT_DIFFERS");
    assert_finds(
        &changed(|log| log.bundles[3].entries.swap(0, 1)).verify(),
        "ROOT_DIFFERS",
    );
    let desk = changed(|log| log.bundles.swap(3, 4));
    assert_finds(&desk.verify(), "ROOT_DIFFERS");
    assert_finds(&desk.verify(), "INDEXING");
    let desk = changed(|log| drop(log.bundles.remove(3)));
    assert_finds(&desk.verify(), "INDEXING");
}

#[test]
fn bundles_that_are_missing_or_come_twice_in_a_file_are_found() {
    let desk = tampered(|parts| drop(parts.remove(4)));
    let json = assert_finds(&desk.verify(), "NUMBERING");
    assert_eq!(
        json["findings"][0]["log"],
        "koseki.example/koseki-provider/provider-1"
    );
    assert_finds(&desk.verify(), "END_DIFFERS");
    assert_finds(&tampered(|parts| parts.swap(4, 5)).verify(), "NUMBERING");
    assert_finds(
        &tampered(|parts| {
            let again = parts[4].clone();
            parts.insert(5, again);
        })
        .verify(),
        "NUMBERING",
    );
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_never_clean() {
    let log = some_log(PROVIDER, "provider-1");
    let whole = encoded(&log.parts(0, &log.signed()));
    for length in 0..whole.len() {
        let mut desk = Desk::empty();
        desk.add(&log, &whole[..length]);
        let code = desk.verify().verdict().exit_code();
        assert_eq!(code, 2, "cut off at {length} of {}", whole.len());
    }
    let mut desk = Desk::empty();
    desk.add(&log, &[whole.as_slice(), &[0]].concat());
    assert_not_checked(&desk.verify(), "GOES_ON");
}

/// Any byte of a file that is changed is found or keeps the file from being read.
#[test]
fn a_byte_that_was_changed_anywhere_is_never_clean() {
    let log = some_log(PROVIDER, "provider-1");
    let whole = encoded(&log.parts(0, &log.signed()));
    // The time of the export is the auditor's own word, under no signature.
    let time = (BEGIN + 100_000).to_string();
    assert_eq!(time.len(), 10);
    let header = encoded(&log.parts(0, "")[..1]).len();
    for at in (header..whole.len()).step_by(3) {
        let mut spoilt = whole.clone();
        spoilt[at] ^= 1;
        let mut desk = Desk::empty();
        desk.add(&log, &spoilt);
        assert_ne!(
            desk.verify().verdict().exit_code(),
            0,
            "byte {at} of {}",
            whole.len()
        );
    }
}

#[test]
fn without_a_countersigned_checkpoint_nothing_is_clean() {
    let log = some_log(PROVIDER, "provider-1");
    for checkpoint in [String::new(), log.checkpoint(log.size(), None)] {
        let mut desk = Desk::empty();
        desk.add(&log, &encoded(&log.parts(0, &checkpoint)));
        let json = assert_not_checked(&desk.verify(), "NOT_COUNTERSIGNED");
        assert_eq!(json["counts"]["entries"]["checked"], 0);
    }
    // Countersigned by a stranger, by its own side, or signed by nobody.
    let note = log.checkpoint(log.size(), None);
    let stranger = writer::Key::new("elsewhere.example/portal-gateway", 4);
    let own = writer::Key::new("koseki.example/koseki-provider", 4);
    for key in [stranger, own] {
        let mut desk = Desk::empty();
        desk.add(&log, &encoded(&log.parts(0, &key.countersign(&note, BEGIN))));
        assert_not_checked(&desk.verify(), "NOT_COUNTERSIGNED");
    }
    let unsigned = log
        .signed()
        .replace("koseki-provider/provider-1 ", "koseki-provider/provider-2 ");
    let mut desk = Desk::empty();
    desk.add(&log, &encoded(&log.parts(0, &unsigned)));
    assert_finds(&desk.verify(), "CHECKPOINT_UNSIGNED");
}

#[test]
fn entries_beyond_the_checkpoint_are_not_checked() {
    let log = some_log(PROVIDER, "provider-1");
    let mut desk = Desk::empty();
    desk.add(&log, &encoded(&log.parts(0, &log.checkpoint(6, Some(BEGIN)))));
    let json = assert_not_checked(&desk.verify(), "BEYOND_CHECKPOINT");
    assert_eq!(json["not_checked"][0]["from"], 6);
    assert_eq!(json["not_checked"][0]["to"], log.size());
    assert_eq!(json["counts"]["entries"]["checked"], 6);
}

#[test]
fn a_log_that_was_forked_is_found_by_what_the_other_side_countersigned() {
    let mut seen = some_log(PROVIDER, "provider-1");
    seen.commit(2, vec![ordinary("LOGIN")]);
    let mut shown = some_log(PROVIDER, "provider-1");
    shown.commit(2, vec![ordinary("GRANT_CONSENT")]);
    let mut gateway = some_log(GATEWAY, "gateway-1");
    gateway.witnessed = vec![seen.signed()];
    // Whoever forks the log has its key, and not the witness's.
    let mut desk = Desk::empty();
    desk.add(
        &shown,
        &encoded(&shown.parts(0, &shown.checkpoint(shown.size(), None))),
    );
    assert_not_checked(&desk.verify(), "NOT_COUNTERSIGNED");
    desk.add(&gateway, &encoded(&gateway.parts(0, &gateway.signed())));
    assert_finds(&desk.verify(), "FORKED");
    // A witness that has countersigned both is found as well.
    assert_finds(&Desk::of(&[&shown, &gateway]).verify(), "FORKED");
}

#[test]
fn a_log_that_was_rolled_back_is_found_by_what_the_other_side_countersigned() {
    let mut seen = some_log(PROVIDER, "provider-1");
    seen.commit(2, vec![ordinary("LOGIN")]);
    let restored = some_log(PROVIDER, "provider-1");
    let mut gateway = some_log(GATEWAY, "gateway-1");
    gateway.witnessed = vec![seen.checkpoint(seen.size(), Some(restored.exported_at - 3_600))];
    assert_finds(&Desk::of(&[&restored, &gateway]).verify(), "ROLLED_BACK");
    // Countersigned since the log was exported: it grew.
    gateway.witnessed = vec![seen.checkpoint(seen.size(), Some(restored.exported_at + 5))];
    assert_clean(&Desk::of(&[&restored, &gateway]).verify());
    // So close to the export that clocks decide.
    gateway.witnessed = vec![seen.checkpoint(seen.size(), Some(restored.exported_at - 5))];
    assert_not_checked(
        &Desk::of(&[&restored, &gateway]).verify(),
        "WITNESSED_BEYOND_FILE",
    );
    // And grown again since: other entries stand where the countersigned ones were.
    let mut regrown = some_log(PROVIDER, "provider-1");
    regrown.commit(2, vec![ordinary("GRANT_CONSENT")]);
    regrown.commit(2, vec![ordinary("GRANT_CONSENT")]);
    assert_finds(&Desk::of(&[&regrown, &gateway]).verify(), "FORKED");
}

#[test]
fn files_that_follow_each_other_are_one_log_and_a_part_alone_is_not_clean() {
    let mut log = some_log(PROVIDER, "provider-1");
    let first = encoded(&log.parts(0, &log.signed()));
    let from = log.bundles.len();
    log.commit(2, vec![provision(release(30)), provision(release(31))]);
    log.commit(3, vec![guard("RESUME_PROVISION", 2, GuardActDetail::default())]);
    let second = encoded(&log.parts(from, &log.signed()));
    let overlapping = encoded(&log.parts(from - 2, &log.signed()));
    for (files, exit) in [
        (vec![&first, &second], 0),
        (vec![&second, &first], 0),
        (vec![&first, &overlapping], 0),
        (vec![&second], 2),
        (vec![&first, &first], 0),
    ] {
        let mut desk = Desk::empty();
        for file in &files {
            desk.add(&log, file);
        }
        let report = desk.verify();
        assert_eq!(report.verdict().exit_code(), exit, "{:#}", report.to_json());
    }
    // Something between is missing.
    let mut desk = Desk::empty();
    desk.add(&log, &first);
    let later = encoded(&log.parts(from + 1, &log.signed()));
    desk.add(&log, &later);
    assert_not_checked(&desk.verify(), "BETWEEN_FILES");
}

#[test]
fn a_log_that_has_a_key_and_was_not_given_is_missed() {
    let log = some_log(PROVIDER, "provider-1");
    let mut desk = Desk::of(&[&log]);
    desk.trust(&Log::new(PROVIDER, "provider-2"));
    assert_not_checked(&desk.verify(), "LOG_NOT_GIVEN");
}

#[test]
fn what_is_no_log_of_the_list_is_not_taken_for_one() {
    let stranger = some_log(PROVIDER, "provider-9");
    let log = some_log(PROVIDER, "provider-1");
    let mut desk = Desk::of(&[&log]);
    let path = desk.folder.path().join("stranger");
    writer::write(&path, &encoded(&stranger.parts(0, &stranger.signed())));
    let report = audit::verify(
        &[desk.files(), std::slice::from_ref(&path)].concat(),
        &desk.keys(),
        None,
    );
    assert_not_checked(&report, "NO_KEY");
    writer::write(&path, b"something else");
    let report = audit::verify(&[desk.files(), &[path]].concat(), &desk.keys(), None);
    assert_not_checked(&report, "NOT_AN_EXPORT");
    desk.add(&log, &[]);
    assert_not_checked(&desk.verify(), "NOT_AN_EXPORT");
}

#[test]
fn what_an_entry_says_of_itself_must_fit_its_bundle() {
    let signed_as_changed = |change: fn(&mut Log)| {
        let mut log = some_log(PROVIDER, "provider-1");
        change(&mut log);
        Desk::of(&[&log])
    };
    assert_finds(
        &signed_as_changed(|log| log.bundles[4].epoch = 0).verify(),
        "EPOCH_FELL",
    );
    assert_finds(
        &signed_as_changed(|log| log.bundles[4].epoch = 0).verify(),
        "ENTRY_EPOCH",
    );
    let later = |log: &mut Log| log.bundles[4].at.as_mut().unwrap().seconds += 1;
    assert_finds(&signed_as_changed(later).verify(), "ENTRY_TIME");
    let other = |log: &mut Log| log.bundles[4].log = "provider-2".to_owned();
    assert_finds(&signed_as_changed(other).verify(), "FOREIGN_BUNDLE");
    let mixed = |log: &mut Log| {
        let restricted = log.bundles[4].entries[0].restricted.clone();
        log.bundles[0].entries[0].restricted = restricted;
    };
    assert_finds(&signed_as_changed(mixed).verify(), "MALFORMED_ENTRY");
    let salt = |log: &mut Log| log.bundles[4].entries[0].salt.truncate(31);
    assert_finds(&signed_as_changed(salt).verify(), "MALFORMED_ENTRY");
}

/// A log of some length whose last entry closes it.
fn closed_log(role: &'static str, instance: &'static str) -> Log {
    let mut log = some_log(role, instance);
    log.commit(3, vec![guard("CLOSE_LOG", 0, GuardActDetail::default())]);
    log
}

/// What closes a log of the other side at this size.
fn close_peer(log: &Log, size: u64) -> Happened {
    let detail = OrdinaryActDetail {
        reference: format!("{} {size}", log.origin()),
        ..OrdinaryActDetail::default()
    };
    let act = OrdinaryAct {
        act: "CLOSE_PEER_LOG".to_owned(),
    };
    (Event::OrdinaryAct(act), Detail::OrdinaryAct(detail))
}

#[test]
fn a_closed_log_is_clean_and_what_follows_its_end_is_found() {
    let log = closed_log(PROVIDER, "provider-1");
    let json = assert_clean(&Desk::of(&[&log]).verify());
    assert_eq!(json["logs"][0]["closed"], true);
    let mut forged = log.clone();
    forged.commit(3, vec![ordinary("LOGIN"), ordinary("LOGIN")]);
    forged.commit(3, vec![ordinary("LOGIN")]);
    let json = assert_finds(&Desk::of(&[&forged]).verify(), "AFTER_ITS_END");
    // Said once, about the first of them.
    assert_eq!(json["findings_total"], 1);
    assert_eq!(json["findings"][0]["index"], log.size());
    // In the same bundle.
    let mut forged = some_log(PROVIDER, "provider-1");
    let close = || guard("CLOSE_LOG", 0, GuardActDetail::default());
    forged.commit(3, vec![close(), ordinary("LOGIN")]);
    assert_finds(&Desk::of(&[&forged]).verify(), "AFTER_ITS_END");
}

/// Another instance of the side goes on, and an epoch that no act made is found there as if both did.
#[test]
fn what_a_closed_log_does_not_hold_no_log_holds() {
    let closed = closed_log(PROVIDER, "provider-1");
    let mut other = Log::new(PROVIDER, "provider-2");
    other.commit(3, vec![ordinary("OPEN_LOG")]);
    other.commit(4, vec![guard("SUSPEND_PROVISION", 2, GuardActDetail::default())]);
    other.commit(4, vec![provision(release(40))]);
    assert_clean(&Desk::of(&[&closed, &other]).verify());
    other.commit(6, vec![ordinary("LOGIN")]);
    other.commit(6, vec![ordinary("LOGIN")]);
    assert_finds(&Desk::of(&[&closed, &other]).verify(), "EPOCH_WITHOUT_ACT");
}

#[test]
fn a_log_that_goes_on_beyond_where_the_other_side_has_closed_it_is_found() {
    let provider = closed_log(PROVIDER, "provider-1");
    let mut gateway = some_log(GATEWAY, "gateway-1");
    gateway.commit(2, vec![close_peer(&provider, provider.size())]);
    assert_clean(&Desk::of(&[&provider, &gateway]).verify());
    // Without its file there is nothing to be said of it.
    assert_clean(&Desk::of(&[&gateway]).verify());

    let mut gateway = some_log(GATEWAY, "gateway-1");
    gateway.commit(2, vec![close_peer(&provider, provider.size() - 3)]);
    let json = assert_finds(&Desk::of(&[&provider, &gateway]).verify(), "BEYOND_CLOSING");
    assert_eq!(json["findings"][0]["log"], provider.origin());
    assert_eq!(json["findings"][0]["index"], provider.size() - 3);
    // The log's own side says nothing of how far it is countersigned.
    let mut own = Log::new(PROVIDER, "provider-2");
    own.commit(3, vec![close_peer(&provider, 1)]);
    assert_clean(&Desk::of(&[&provider, &own]).verify());
}
