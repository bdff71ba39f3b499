//! Revocation lists (RFC 5280 §5): what is taken from them, and which are refused, each for its own reason.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed"
)]

use std::{collections::BTreeSet, path::Path, process::Command, sync::Arc, time::Duration};

use common::{
    card::{CardFault, CardRoots, RevocationLists},
    clock::{Clock as _, SystemClock, Timestamp},
};
use devkit::card::{
    CardKeyType, CardProfile, CardRoot, ListExtension, ListProfile, USER_AUTHENTICATION_POLICY_OID,
};
use tempfile::TempDir;
use time::OffsetDateTime;

const MAX_AGE: Duration = Duration::from_secs(48 * 3_600);

fn now() -> Timestamp {
    SystemClock::new().now()
}

fn hours(hours: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(now().unix_ms() / 1_000).unwrap() + time::Duration::hours(hours)
}

fn pinned(roots: &[&CardRoot]) -> CardRoots {
    let directory = TempDir::new().unwrap();
    for (at, root) in roots.iter().enumerate() {
        std::fs::write(directory.path().join(format!("{at}.pem")), root.certificate_pem()).unwrap();
    }
    CardRoots::load(directory.path()).unwrap()
}

fn profile() -> ListProfile {
    ListProfile::new(vec![vec![1, 2, 3], vec![0x80]], 7, hours(-1), hours(24))
}

#[test]
fn revocation_is_told_by_a_fresh_list_of_the_issuer_only() {
    let (root, other) = (CardRoot::new().unwrap(), CardRoot::new().unwrap());
    let roots = pinned(&[&root, &other]);
    let card = root
        .issue(&CardProfile::user_authentication("123456789012345"))
        .unwrap();
    let policy: Vec<String> = USER_AUTHENTICATION_POLICY_OID
        .iter()
        .map(u64::to_string)
        .collect();
    let accepted = BTreeSet::from([policy.join(".")]);
    let verified = roots.verify(&card.certificate_der, &accepted, now()).unwrap();
    let check = |crls: &[Vec<u8>]| {
        let read = |crl: &Vec<u8>| Arc::new(roots.revocation_list(crl).unwrap());
        let lists: RevocationLists = crls.iter().map(read).collect();
        lists.check(
            &verified.issuer,
            &verified.serial,
            verified.not_after,
            now(),
            MAX_AGE,
        )
    };
    let list = |from: i64, to: i64| root.crl(&[vec![1]], 1, hours(from), hours(to)).unwrap();
    assert_eq!(check(&[list(-1, 24)]), Ok(()));
    let revoked = root
        .crl(
            &[vec![1], card.serial.clone(), vec![9; 20]],
            2,
            hours(0),
            hours(24),
        )
        .unwrap();
    assert_eq!(check(&[revoked]), Err(CardFault::Revoked));
    for (lists, why) in [
        (vec![], "no list"),
        (vec![list(-30, -1)], "its next update has passed"),
        (vec![list(-49, 24)], "older than the policy's bound"),
        (vec![list(1, 24)], "issued later than now"),
        (
            vec![other.crl(&[], 1, hours(-1), hours(24)).unwrap()],
            "another issuer's",
        ),
    ] {
        assert_eq!(check(&lists), Err(CardFault::RevocationUnknown), "{why}");
    }
}

#[test]
fn a_list_is_read_whatever_key_of_the_closed_set_signed_it() {
    for key_type in [
        CardKeyType::Rsa2048,
        CardKeyType::EcdsaP256,
        CardKeyType::EcdsaP384,
    ] {
        let root = CardRoot::with_key(key_type).unwrap();
        let roots = pinned(&[&root]);
        let list = roots.revocation_list(&root.list(&profile()).unwrap()).unwrap();
        assert_eq!((list.number.to_string().as_str(), list.count()), ("0x07", 2));
        assert_eq!(list.next_update.since(list.this_update).as_secs(), 25 * 3_600);
        let none = ListProfile {
            revoked: vec![],
            ..profile()
        };
        let none = roots.revocation_list(&root.list(&none).unwrap()).unwrap();
        assert_eq!(none.count(), 0);
        let der = root.list(&profile()).unwrap();
        for at in 0..der.len() {
            let mut altered = der.clone();
            altered[at] ^= 1;
            assert!(
                roots.revocation_list(&altered).is_err(),
                "byte {at} ({key_type:?})"
            );
        }
        assert!(roots.revocation_list(&[der.as_slice(), &[0]].concat()).is_err());
    }
}

fn extension(oid: &[u64], critical: bool, value: &[u8]) -> ListExtension {
    ListExtension {
        oid: oid.to_vec(),
        critical,
        value: value.to_vec(),
    }
}

#[test]
fn each_list_that_would_not_tell_all_is_refused() {
    let root = CardRoot::with_key(CardKeyType::EcdsaP256).unwrap();
    let roots = pinned(&[&root]);
    let more = |oid: &[u64], critical| ListProfile {
        more: vec![extension(oid, critical, &[0x02, 0x01, 0x01])],
        ..profile()
    };
    let of_entries = |oid: &[u64], critical| ListProfile {
        of_entries: vec![extension(oid, critical, &[0x0a, 0x01, 0x01])],
        ..profile()
    };
    const DELTA: [u64; 4] = [2, 5, 29, 27];
    const DISTRIBUTION_POINT: [u64; 4] = [2, 5, 29, 28];
    const REASON: [u64; 4] = [2, 5, 29, 21];
    const CERTIFICATE_ISSUER: [u64; 4] = [2, 5, 29, 29];
    let full = "must be a full list: not a delta, and not of one distribution point";
    let of_entry = "must have no critical extension of an entry, and none of another issuer";
    let number = "must have a CRL number of at most 20 bytes";
    for (profile, rule) in [
        (more(&DELTA, true), full),
        (more(&DELTA, false), full),
        (more(&DISTRIBUTION_POINT, true), full),
        (
            more(&[1, 2, 392, 200_149, 99, 1], true),
            "must have no critical extension that is not processed",
        ),
        (more(&[2, 5, 29, 20], false), "must not have an extension twice"),
        (of_entries(&CERTIFICATE_ISSUER, true), of_entry),
        (of_entries(&CERTIFICATE_ISSUER, false), of_entry),
        (of_entries(&REASON, true), of_entry),
        (
            ListProfile {
                number: None,
                ..profile()
            },
            number,
        ),
        (
            ListProfile {
                number: Some(vec![1; 21]),
                ..profile()
            },
            number,
        ),
        (
            ListProfile {
                revoked: vec![vec![5], vec![4], vec![0, 5]],
                ..profile()
            },
            "must not name a serial number twice",
        ),
        (
            ListProfile {
                revoked: vec![vec![1; 21]],
                ..profile()
            },
            "must name serial numbers that are not negative and of at most 20 bytes",
        ),
        (
            ListProfile {
                next_update: Some(hours(-1)),
                ..profile()
            },
            "must name a next update after its own",
        ),
        (
            ListProfile {
                next_update: None,
                ..profile()
            },
            "must be a DER revocation list",
        ),
        (
            ListProfile {
                other_algorithm_inside: true,
                ..profile()
            },
            "must name one signature algorithm",
        ),
    ] {
        let refused = roots.revocation_list(&root.list(&profile).unwrap());
        assert_eq!(refused.map(|_| ()), Err(rule), "{profile:?}");
    }
    for taken in [more(&[2, 5, 29, 35], false), of_entries(&REASON, false)] {
        assert!(roots.revocation_list(&root.list(&taken).unwrap()).is_ok());
    }
    let stranger = CardRoot::with_key(CardKeyType::EcdsaP256).unwrap();
    let refused = roots.revocation_list(&stranger.list(&profile()).unwrap());
    assert_eq!(refused.map(|_| ()), Err("must be signed by a pinned root"));
    assert!(roots.revocation_list(b"").is_err());
}

/// Names the folder of the list that the process is to read and to measure.
const MEASURE: &str = "KOSEKI_MEASURE_LIST_IN";
const COUNT: u32 = 1_000_000;

/// A serial number as long as they can be, in no order.
fn serial(number: u32) -> Vec<u8> {
    let mixed = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    [[0x40; 12].as_slice(), &mixed.to_be_bytes()].concat()
}

/// A list of 1,000,000 entries, each with a reason: what it takes in memory while it is read, and afterwards. A process of
/// its own reads it: this one has had all the memory in which it was made.
#[test]
fn a_million_entries_are_kept_in_20_bytes_each() {
    if let Ok(folder) = std::env::var(MEASURE) {
        return measure(Path::new(&folder));
    }
    let root = CardRoot::with_key(CardKeyType::EcdsaP256).unwrap();
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("root.pem"), root.certificate_pem()).unwrap();
    let list = ListProfile {
        of_entries: vec![extension(&[2, 5, 29, 21], false, &[0x0a, 0x01, 0x01])],
        ..ListProfile::new((0..COUNT).map(serial).collect(), 7, hours(-1), hours(24))
    };
    std::fs::write(folder.path().join("list.crl"), root.list(&list).unwrap()).unwrap();
    let measured = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_million_entries_are_kept_in_20_bytes_each",
            "--nocapture",
        ])
        .env(MEASURE, folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8(measured.stdout).unwrap();
    assert!(measured.status.success(), "{told}");
    println!(
        "{}",
        told.lines().find(|line| line.starts_with("a list of")).unwrap()
    );
}

fn measure(folder: &Path) {
    let roots = CardRoots::load(folder).unwrap();
    let (before, _) = memory_kib();
    let der = std::fs::read(folder.join("list.crl")).unwrap();
    let file = u64::try_from(der.len()).unwrap() / 1_024;
    let list = roots.revocation_list(&der).unwrap();
    drop(der);
    let (after, peak) = memory_kib();
    println!(
        "a list of {COUNT} entries, {file} KiB: {} KiB at the most while it is read, {} KiB afterwards",
        peak - before,
        after - before
    );
    let (serials, slack) = (u64::from(COUNT) * 20 / 1_024, 4 * 1_024);
    assert!(peak - before < file + serials + slack && after - before < serials + slack);

    assert_eq!(list.count(), 1_000_000);
    let lists: RevocationLists = [Arc::new(list)].into_iter().collect();
    let issuer = lists.iter().next().unwrap().issuer;
    let check = |serial: &[u8]| {
        let not_after = now().after(MAX_AGE);
        lists.check(&issuer, serial, not_after, now(), MAX_AGE)
    };
    for number in (0..COUNT).step_by(1_009) {
        assert_eq!(check(&serial(number)), Err(CardFault::Revoked));
        assert_eq!(check(&serial(COUNT + number)), Ok(()));
    }
}

/// Resident memory of this process now, and its peak.
fn memory_kib() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (kib("VmRSS:"), kib("VmHWM:"))
}
