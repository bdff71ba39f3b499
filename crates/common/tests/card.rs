//! The card's certificate (clause 4.3.2): what passes is the real profile, and each departure from it is refused for its
//! own reason.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed"
)]

use std::{collections::BTreeSet, path::Path, time::Duration};

use common::{
    card::{Card, CardFault, CardRoots, RevocationLists},
    clock::{Clock as _, SystemClock, Timestamp},
};
use devkit::card::{
    CardKeyType, CardProfile, CardRoot, KeyUsagePurpose, SIGNING_POLICY_OID, USER_AUTHENTICATION_POLICY_OID,
    VirtualCard,
};
use tempfile::TempDir;
use time::OffsetDateTime;

fn accepted() -> BTreeSet<String> {
    let text: Vec<String> = USER_AUTHENTICATION_POLICY_OID
        .iter()
        .map(u64::to_string)
        .collect();
    BTreeSet::from([text.join(".")])
}

fn now() -> Timestamp {
    SystemClock::new().now()
}

/// Roots as the gateway pins them: files of a directory.
fn pinned(roots: &[&CardRoot]) -> (TempDir, CardRoots) {
    let directory = TempDir::new().unwrap();
    for (at, root) in roots.iter().enumerate() {
        std::fs::write(directory.path().join(format!("{at}.pem")), root.certificate_pem()).unwrap();
    }
    let loaded = CardRoots::load(directory.path()).unwrap();
    (directory, loaded)
}

fn profile() -> CardProfile {
    CardProfile::user_authentication("123456789012345")
}

fn fault(root: &CardRoot, profile: &CardProfile) -> CardFault {
    let card = root.issue(profile).unwrap();
    verify(root, &card).map(|_| ()).unwrap_err()
}

fn verify(root: &CardRoot, card: &VirtualCard) -> Result<Card, CardFault> {
    pinned(&[root])
        .1
        .verify(&card.certificate_der, &accepted(), now())
}

#[test]
fn the_real_profile_passes_and_signs() {
    let root = CardRoot::new().unwrap();
    let card = root.issue(&profile()).unwrap();
    let verified = verify(&root, &card).unwrap();
    assert_eq!(verified.public_key_sha256, card.public_key_sha256);
    let signature = card.sign(b"text").unwrap();
    assert!(verified.has_signed(b"text", &signature));
    assert!(!verified.has_signed(b"texu", &signature));
    assert!(!verified.has_signed(b"text", &[]));
}

#[test]
fn each_departure_from_the_profile_is_refused() {
    use CardFault::NotAccepted;
    let root = CardRoot::new().unwrap();
    let departures: [(CardProfile, CardFault); 6] = [
        (
            CardProfile {
                policy_oid: Some(SIGNING_POLICY_OID.to_vec()),
                ..profile()
            },
            NotAccepted("its certificate policy is not an accepted one"),
        ),
        (
            CardProfile {
                policy_oid: None,
                ..profile()
            },
            NotAccepted("no certificate policy"),
        ),
        (
            CardProfile {
                key_usages: vec![
                    KeyUsagePurpose::DigitalSignature,
                    KeyUsagePurpose::ContentCommitment,
                ],
                ..profile()
            },
            NotAccepted("its key usage is not exactly digitalSignature"),
        ),
        (
            CardProfile {
                key_usages: vec![],
                ..profile()
            },
            NotAccepted("no key usage"),
        ),
        (
            CardProfile {
                is_ca: true,
                ..profile()
            },
            NotAccepted("a CA certificate"),
        ),
        (
            CardProfile {
                key_type: CardKeyType::EcdsaP384,
                ..profile()
            },
            NotAccepted("not an RSA key of 2,048 bits, e = 65537"),
        ),
    ];
    for (profile, expected) in departures {
        assert_eq!(fault(&root, &profile), expected);
    }
    assert_eq!(fault(&root, &profile().expired()), CardFault::Expired);
    let tomorrow =
        OffsetDateTime::from_unix_timestamp(now().after(Duration::from_secs(86_400)).unix_ms() / 1_000);
    let not_yet = CardProfile {
        not_before: tomorrow.unwrap(),
        ..profile()
    };
    assert_eq!(fault(&root, &not_yet), NotAccepted("not valid yet"));
}

/// JPKI's root generations share one name: the key decides.
#[test]
fn a_root_of_the_same_name_with_another_key_does_not_count() {
    let (root, other) = (CardRoot::new().unwrap(), CardRoot::new().unwrap());
    let card = root.issue(&profile()).unwrap();
    let refused = pinned(&[&other])
        .1
        .verify(&card.certificate_der, &accepted(), now())
        .map(|_| ());
    assert_eq!(
        refused,
        Err(CardFault::NotAccepted("not issued by a pinned root"))
    );
    let (_files, both) = pinned(&[&other, &root]);
    both.verify(&card.certificate_der, &accepted(), now()).unwrap();
}

#[test]
fn an_altered_certificate_does_not_count() {
    let root = CardRoot::new().unwrap();
    let card = root.issue(&profile()).unwrap();
    let (_files, roots) = pinned(&[&root]);
    for at in 0..card.certificate_der.len() {
        let mut altered = card.certificate_der.clone();
        altered[at] ^= 1;
        let refused = roots.verify(&altered, &accepted(), now()).is_err();
        assert!(refused, "byte {at} of {}", altered.len());
    }
    let mut longer = card.certificate_der.clone();
    longer.push(0);
    assert!(roots.verify(&longer, &accepted(), now()).is_err());
}

fn lists(roots: &CardRoots, crls: &[Vec<u8>]) -> Result<RevocationLists, String> {
    let directory = TempDir::new().unwrap();
    for (at, crl) in crls.iter().enumerate() {
        std::fs::write(directory.path().join(format!("{at}.crl")), crl).unwrap();
    }
    RevocationLists::load(Path::new(directory.path()), roots).map_err(|error| error.to_string())
}

#[test]
fn revocation_is_told_by_a_fresh_list_of_the_issuer_only() {
    let hours = |hours: i64| {
        OffsetDateTime::from_unix_timestamp(now().unix_ms() / 1_000).unwrap() + time::Duration::hours(hours)
    };
    let max_age = Duration::from_secs(48 * 3_600);
    let (root, other) = (CardRoot::new().unwrap(), CardRoot::new().unwrap());
    let (_files, roots) = pinned(&[&root, &other]);
    let card = root.issue(&profile()).unwrap();
    let verified = roots.verify(&card.certificate_der, &accepted(), now()).unwrap();
    let check = |crls: &[Vec<u8>]| {
        lists(&roots, crls).unwrap().check(
            &verified.issuer,
            &verified.serial,
            verified.not_after,
            now(),
            max_age,
        )
    };
    let good = root.crl(&[], 1, hours(-1), hours(24)).unwrap();
    let revoked = root
        .crl(std::slice::from_ref(&card.serial), 2, hours(0), hours(24))
        .unwrap();
    assert_eq!(check(std::slice::from_ref(&good)), Ok(()));
    assert_eq!(check(std::slice::from_ref(&revoked)), Err(CardFault::Revoked));
    // The newest list counts, in whatever order the files are read.
    assert_eq!(check(&[revoked.clone(), good.clone()]), Err(CardFault::Revoked));
    assert_eq!(check(&[good, revoked]), Err(CardFault::Revoked));
    assert_eq!(check(&[]), Err(CardFault::RevocationUnknown));
    let past = root.crl(&[], 1, hours(-30), hours(-1)).unwrap();
    assert_eq!(
        check(&[past]),
        Err(CardFault::RevocationUnknown),
        "its next update has passed"
    );
    let old = root.crl(&[], 1, hours(-49), hours(24)).unwrap();
    assert_eq!(
        check(&[old]),
        Err(CardFault::RevocationUnknown),
        "older than the policy's bound"
    );
    let of_the_other = other.crl(&[], 1, hours(-1), hours(24)).unwrap();
    assert_eq!(
        check(&[of_the_other]),
        Err(CardFault::RevocationUnknown),
        "another issuer's list"
    );

    let stranger = CardRoot::new()
        .unwrap()
        .crl(&[], 1, hours(-1), hours(24))
        .unwrap();
    assert!(
        lists(&roots, &[stranger]).is_err(),
        "a list that no pinned root signed"
    );
}
