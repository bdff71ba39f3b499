use std::{fs, sync::Arc};

use super::*;
use crate::{
    alarm::{Alarm, Alarms},
    clock::{Clock as _, ShiftedClock},
};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/policy");

/// The sample with the first `from` as `to`, and what becomes of it.
fn changed(from: &str, to: &str) -> Result<Policy, String> {
    let directory = tempfile::tempdir().unwrap();
    let sample = Path::new(SAMPLE);
    let path = directory.path().join("provision-policy.toml");
    let text = fs::read_to_string(sample.join("provision-policy.toml")).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
    fs::create_dir(directory.path().join("consent")).unwrap();
    for entry in fs::read_dir(sample.join("consent")).unwrap() {
        let entry = entry.unwrap();
        let copy = directory.path().join("consent").join(entry.file_name());
        fs::copy(entry.path(), copy).unwrap();
    }
    Policy::load(&path).map_err(|error| error.to_string())
}

fn code(text: &str) -> MunicipalityCode {
    MunicipalityCode::parse(text).unwrap()
}

#[test]
fn the_sample_is_the_default_of_the_standard() {
    use Item::{
        FirstEnteredPerson, MunicipalityCode, RegisterHandle, RegisteredDomicile, RequesterBirthDate,
        RequesterName, RequesterNameKana, RequesterNameKanaStatus,
    };
    use RegisterKind::{Current, PreRevision, Removed};
    use RequestKind::{CertificateRequest, Notification, ProvisionCodeRequest};
    let policy = Policy::load(&Path::new(SAMPLE).join("provision-policy.toml")).unwrap();
    let plain = [RegisteredDomicile, FirstEnteredPerson, MunicipalityCode];
    let with_entry = [
        RegisteredDomicile,
        FirstEnteredPerson,
        MunicipalityCode,
        RequesterName,
        RequesterNameKana,
        RequesterNameKanaStatus,
        RequesterBirthDate,
    ];
    let code = [RegisteredDomicile, FirstEnteredPerson, RegisterHandle];
    let all = &[Current, Removed, PreRevision][..];
    for (kind, procedure, registers, items) in [
        (CertificateRequest, "", &[Current][..], &plain[..]),
        (CertificateRequest, "lineage", all, &plain),
        (Notification, "general", &[Current], &plain),
        (Notification, "name_kana", &[Current], &with_entry),
        (ProvisionCodeRequest, "", &[Current], &code),
    ] {
        let expected = Provision {
            registers: registers.iter().copied().collect(),
            items: items.iter().copied().collect(),
        };
        let procedure = Procedure::parse(procedure).unwrap();
        assert_eq!(
            policy.provision(kind, &procedure),
            Some(&expected),
            "{kind:?} {procedure:?}"
        );
    }
    assert_eq!(policy.provisions.len(), 5);
    assert_eq!(policy.effective_at.to_rfc3339(), "2024-02-29T15:00:00Z");
    assert_eq!(policy.retention.audit_years, 7);
    assert_eq!(
        (policy.retention.session_days, policy.retention.consent_years),
        (30, 7)
    );
    assert_eq!(
        policy.freshness.linkage_confirmed(),
        Duration::from_secs(31 * 86_400)
    );
    assert_eq!(policy.approvals.proposal(), Duration::from_secs(86_400));
    assert_eq!(policy.approvals.confirmation(), Duration::from_secs(86_400));
}

#[test]
fn a_municipality_writes_what_is_listed_for_it_and_one_that_is_not_listed_nothing() {
    let listed = "[municipalities]\n221309 = [\"221309\", \"222143\"]\n131016 = [\"131016\"]\n";
    let policy = changed("[municipalities]\n", listed).unwrap();
    for (sender, to, may) in [
        ("221309", "221309", true),
        ("221309", "222143", true),
        ("221309", "131016", false),
        ("131016", "131016", true),
        ("131016", "221309", false),
        ("222143", "222143", false),
        ("011002", "011002", false),
    ] {
        assert_eq!(policy.may_write(code(sender), code(to)), may, "{sender} {to}");
    }
}

#[test]
fn every_bound_is_checked_and_named_by_key_and_rule() {
    for (from, to, why) in [
        (
            "challenge_seconds = 120",
            "challenge_seconds = 121",
            "login.challenge_seconds: must be 1 to 120",
        ),
        (
            "session_seconds = 1800",
            "session_seconds = 0",
            "login.session_seconds: must be 1 to 86,400",
        ),
        (
            "session_seconds = 1800",
            "session_seconds = 86401",
            "login.session_seconds: must be 1 to 86,400",
        ),
        (
            "session_idle_seconds = 600",
            "session_idle_seconds = 1801",
            "login.session_idle_seconds: must be 1 to session_seconds",
        ),
        (
            "crl_max_age_hours = 48",
            "crl_max_age_hours = 169",
            "login.crl_max_age_hours: must be 1 to 168",
        ),
        (
            "[\"1.2.392.200149.8.5.1.3.30\"]",
            "[]",
            "login.certificate_policies: must list at least one object identifier",
        ),
        (
            "[\"1.2.392.200149.8.5.1.3.30\"]",
            "[\"1.2..3\"]",
            "login.certificate_policies: must list at least one object identifier",
        ),
        (
            "max_answer_age_ms = 2000",
            "max_answer_age_ms = 899",
            "exchange.max_answer_age_ms: must be at least",
        ),
        (
            "max_hand_off_ms = 500",
            "max_hand_off_ms = 0",
            "exchange.max_hand_off_ms: must be 1 to 60,000",
        ),
        (
            "refusal_after_ms = 1000",
            "refusal_after_ms = 899",
            "exchange.refusal_after_ms: must be at least",
        ),
        (
            "max_clock_skew_ms = 5000",
            "max_clock_skew_ms = 60001",
            "exchange.max_clock_skew_ms: must be 1 to",
        ),
        (
            "max_days = 90",
            "max_days = 3651",
            "consent.max_days: must be 1 to 3,650",
        ),
        (
            "audit_years = 7",
            "audit_years = 0",
            "retention.audit_years: must be 1 to 50",
        ),
        (
            "audit_years = 7",
            "audit_years = 51",
            "retention.audit_years: must be 1 to 50",
        ),
        (
            "session_days = 30",
            "session_days = 0",
            "retention.session_days: must be 1 to 400",
        ),
        (
            "session_days = 30",
            "session_days = 401",
            "retention.session_days: must be 1 to 400",
        ),
        (
            "consent_years = 7",
            "consent_years = 0",
            "retention.consent_years: must be 1 to 50",
        ),
        (
            "consent_years = 7",
            "consent_years = 51",
            "retention.consent_years: must be 1 to 50",
        ),
        (
            "linkage_confirmed_days = 31",
            "linkage_confirmed_days = 401",
            "freshness.linkage_confirmed_days: must be 1 to 400",
        ),
        (
            "proposal_hours = 24",
            "proposal_hours = 169",
            "approvals.proposal_hours: must be 1 to 168",
        ),
        (
            "confirmation_hours = 24",
            "confirmation_hours = 0",
            "approvals.confirmation_hours: must be 1 to 168",
        ),
    ] {
        let refused = changed(from, to).unwrap_err();
        assert!(refused.contains("provision-policy.toml: "), "{refused}");
        assert!(refused.contains(why), "{why} is not in: {refused}");
    }
}

#[test]
fn what_is_not_a_policy_is_refused_with_key_and_rule() {
    for (from, to, why) in [
        (
            "effective_at = \"2024-03-01T00:00:00+09:00\"\n",
            "",
            "missing field `effective_at`",
        ),
        (
            "2024-03-01T00:00:00+09:00",
            "2024-03-01",
            "effective_at: must be a moment as in RFC 3339",
        ),
        (
            "[retention]",
            "planted = 1\n[retention]",
            "unknown field `planted`",
        ),
        (
            "[retention]\n",
            "[retention]\nplanted = 1\n",
            "unknown field `planted`",
        ),
        (
            "[municipalities]\n",
            "[predecessors]\n",
            "unknown field `predecessors`",
        ),
        ("[municipalities]\n", "", "missing field `municipalities`"),
        (
            "[municipalities]\n",
            "[municipalities]\n131017 = [\"131016\"]\n",
            "municipalities.131017: the sixth digit is the check digit",
        ),
        (
            "[municipalities]\n",
            "[municipalities]\n131016 = [\"13101\"]\n",
            "municipalities.131016: six digits",
        ),
        (
            "[municipalities]\n",
            "[municipalities]\n131016 = []\n",
            "municipalities.131016: must list at least one code, each once",
        ),
        (
            "[municipalities]\n",
            "[municipalities]\n131016 = [\"131016\", \"131016\"]\n",
            "municipalities.131016: must list at least one code, each once",
        ),
        (
            "procedure = \"lineage\"",
            "procedure = \"\"",
            "provision[1].procedure: must be another one",
        ),
        (
            "registers = [\"current\"]",
            "registers = [\"removed\"]",
            "provision[0].registers: must list current",
        ),
        (
            "registers = [\"current\"]",
            "registers = [\"current\", \"current\"]",
            "provision[0].registers: must list current, and each kind once",
        ),
        (
            "\"first_entered_person\"",
            "\"father\"",
            "unknown variant `father`",
        ),
        (
            "\"first_entered_person\"",
            "\"registered_domicile\"",
            "provision[0].items: must list at least one item, each once",
        ),
        (
            "language = \"en\"",
            "language = \"fr\"",
            "consent.text[1].language: must be ja or en",
        ),
        (
            "sha256 = \"b72a",
            "sha256 = \"b72b",
            "consent.text[0].sha256: must be the SHA-256 of consent/",
        ),
    ] {
        let refused = changed(from, to).unwrap_err();
        assert!(refused.contains(why), "{why} is not in: {refused}");
    }
}

/// The sample from `moment` on, in a folder of its own.
fn sample_from(folder: &Path, moment: Timestamp) -> std::path::PathBuf {
    fs::create_dir_all(folder.join("consent")).unwrap();
    let sample = Path::new(SAMPLE);
    for entry in fs::read_dir(sample.join("consent")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join("consent").join(entry.file_name())).unwrap();
    }
    let text = fs::read_to_string(sample.join("provision-policy.toml")).unwrap();
    let file = folder.join("provision-policy.toml");
    fs::write(
        &file,
        text.replacen("2024-03-01T00:00:00+09:00", &moment.to_rfc3339(), 1),
    )
    .unwrap();
    file
}

#[test]
fn around_the_change_and_only_there_the_other_side_may_name_either_policy() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ShiftedClock::default());
    // Moments in the file are whole seconds.
    let moment =
        Timestamp::from_unix_ms(clock.now().after(Duration::from_secs(600)).unix_ms() / 1_000 * 1_000);
    let next_file = sample_from(directory.path(), moment);
    let in_force = Path::new(SAMPLE).join("provision-policy.toml");
    let policies = Policies::load(
        &in_force,
        Some(next_file.clone()),
        Box::new(|_| Ok(())),
        clock.clone(),
        Alarms::default(),
    )
    .unwrap();
    let (old, new) = (
        Policy::load(&in_force).unwrap().sha256,
        Policy::load(&next_file).unwrap().sha256,
    );
    let skew = Duration::from_secs(5);
    let before = |by: u64| Timestamp::from_unix_ms(moment.unix_ms() - i64::try_from(by).unwrap());
    let may = |now: Timestamp| {
        (
            policies.may_name(&old, now, skew),
            policies.may_name(&new, now, skew),
        )
    };

    assert_eq!(policies.current().sha256, old);
    assert_eq!(
        policies.number(),
        Policy::load(&in_force).unwrap().effective_at.unix_ms()
    );
    assert_eq!(may(before(5_001)), (true, false));
    assert_eq!(may(before(5_000)), (true, true));
    assert_eq!(may(before(1)), (true, true));
    assert!(!policies.may_name(&[0; 32], before(1), skew));

    clock.advance(Duration::from_secs(601));
    assert_eq!(policies.current().sha256, new);
    assert_eq!(policies.number(), moment.unix_ms());
    assert_eq!(may(moment), (true, true));
    assert_eq!(may(moment.after(skew)), (true, true));
    assert_eq!(may(moment.after(skew + Duration::from_millis(1))), (false, true));
}

#[test]
fn a_policy_that_does_not_suit_is_not_taken() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ShiftedClock::default());
    let ahead = clock.now().after(Duration::from_secs(600));
    let alarms = Alarms::default();
    let load = |in_force: &Path, next: Option<std::path::PathBuf>, suits: super::Suits| {
        Policies::load(in_force, next, suits, clock.clone(), alarms.clone())
    };
    let in_force = Path::new(SAMPLE).join("provision-policy.toml");
    let next = sample_from(directory.path(), ahead);
    // One in force cannot lie ahead.
    let refused = load(&next, None, Box::new(|_| Ok(()))).map(|_| ()).unwrap_err();
    assert!(
        refused.to_string().contains("effective_at: must not lie ahead"),
        "{refused}"
    );
    // One that this service cannot work under.
    let refused = load(&in_force, None, Box::new(|_| Err("does not fit".to_owned())));
    assert!(
        refused
            .map(|_| ())
            .unwrap_err()
            .to_string()
            .contains("does not fit")
    );
    let suits = Box::new(
        move |policy: &Policy| match policy.effective_at.unix_ms() / 1_000 {
            moment if moment == ahead.unix_ms() / 1_000 => Err("does not fit".to_owned()),
            _ => Ok(()),
        },
    );
    let policies = load(&in_force, Some(next), suits).unwrap();
    assert_eq!(policies.told().1, None);
    assert_eq!(
        alarms.standing(),
        [(Alarm::NextPolicyUnreadable, "next_policy_file".to_owned())]
    );
    // One that would be in force before the one that is.
    let earlier = sample_from(&directory.path().join("earlier"), Timestamp::from_unix_ms(0));
    let policies = load(&in_force, Some(earlier), Box::new(|_| Ok(()))).unwrap();
    assert_eq!(policies.told().1, None);
}
