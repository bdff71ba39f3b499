//! The card's certificate (clause 4.3.2): what passes is the real profile, and each departure from it is refused for its
//! own reason.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up has failed"
)]

use std::{collections::BTreeSet, time::Duration};

use common::{
    card::{Card, CardFault, CardRoots, KeyKind},
    clock::{Clock as _, SystemClock, Timestamp},
};
use devkit::card::{
    CardKeyType, CardProfile, CardRoot, CustomExtension, KeyUsagePurpose, SIGNING_POLICY_OID,
    USER_AUTHENTICATION_POLICY_OID, VirtualCard,
};
use tempfile::TempDir;
use time::OffsetDateTime;

const KEY_TYPES: [(CardKeyType, KeyKind, usize); 3] = [
    (CardKeyType::Rsa2048, KeyKind::Rsa2048Sha256, 256),
    (CardKeyType::EcdsaP256, KeyKind::EcdsaP256Sha256, 72),
    (CardKeyType::EcdsaP384, KeyKind::EcdsaP384Sha384, 104),
];

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

/// Roots as the services pin them: files of a directory.
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
    verify_der(root, &card.certificate_der)
}

fn verify_der(root: &CardRoot, der: &[u8]) -> Result<Card, CardFault> {
    pinned(&[root]).1.verify(der, &accepted(), now())
}

/// Cards and roots of every kind of the closed set, also mixed.
#[test]
fn the_real_profile_passes_and_signs() {
    for (root_type, _, _) in KEY_TYPES {
        let root = CardRoot::with_key(root_type).unwrap();
        for (key_type, kind, longest) in KEY_TYPES {
            let card = root
                .issue(&CardProfile {
                    key_type,
                    ..profile()
                })
                .unwrap();
            let verified = verify(&root, &card).unwrap();
            assert_eq!(verified.public_key_sha256, card.public_key_sha256);
            assert_eq!(verified.key_kind, kind);
            let signature = card.sign(b"text").unwrap();
            assert!(signature.len() <= longest);
            assert!(verified.has_signed(b"text", &signature));
            assert!(!verified.has_signed(b"texu", &signature));
            assert!(!verified.has_signed(b"text", &[]));
            let other = root
                .issue(&CardProfile {
                    key_type,
                    ..profile()
                })
                .unwrap();
            assert!(!verified.has_signed(b"text", &other.sign(b"text").unwrap()));
        }
    }
}

/// keyUsage of just digitalSignature, not critical.
fn key_usage_not_critical() -> CustomExtension {
    CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![0x03, 0x02, 0x07, 0x80])
}

fn unknown(critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[1, 2, 392, 200_149, 99, 1], vec![0x05, 0x00]);
    extension.set_criticality(critical);
    extension
}

#[test]
fn each_departure_from_the_profile_is_refused() {
    let root = CardRoot::with_key(CardKeyType::EcdsaP256).unwrap();
    let base = || CardProfile {
        key_type: CardKeyType::EcdsaP256,
        ..profile()
    };
    let with = |more: Vec<CustomExtension>| CardProfile { more, ..base() };
    let departures: [(CardProfile, &str); 11] = [
        (
            CardProfile {
                policy_oid: Some(SIGNING_POLICY_OID.to_vec()),
                ..base()
            },
            "its certificate policy is not an accepted one",
        ),
        (
            CardProfile {
                policy_oid: None,
                ..base()
            },
            "no certificate policy",
        ),
        (
            CardProfile {
                key_usages: vec![
                    KeyUsagePurpose::DigitalSignature,
                    KeyUsagePurpose::ContentCommitment,
                ],
                ..base()
            },
            "its key usage is not exactly digitalSignature",
        ),
        (
            CardProfile {
                key_usages: vec![],
                ..base()
            },
            "no key usage",
        ),
        (
            CardProfile {
                key_usages: vec![],
                more: vec![key_usage_not_critical()],
                ..base()
            },
            "its key usage is not critical",
        ),
        (
            CardProfile {
                is_ca: true,
                ..base()
            },
            "a CA certificate",
        ),
        (
            with(vec![unknown(true)]),
            "a critical extension that is not processed",
        ),
        (
            with(vec![unknown(false), unknown(false)]),
            "an extension stands twice",
        ),
        (with(vec![key_usage_not_critical()]), "an extension stands twice"),
        (
            // policyConstraints: what restricts a path must not be passed over.
            with(vec![{
                let mut extension =
                    CustomExtension::from_oid_content(&[2, 5, 29, 36], vec![0x30, 0x03, 0x80, 0x01, 0x00]);
                extension.set_criticality(true);
                extension
            }]),
            "a critical extension that is not processed",
        ),
        (
            CardProfile {
                policy_oid: None,
                // The right policy, and not critical.
                more: vec![CustomExtension::from_oid_content(
                    &[2, 5, 29, 32],
                    [
                        &[0x30, 0x0f, 0x30, 0x0d, 0x06, 0x0b][..],
                        &[0x2a, 0x83, 0x08, 0x8c, 0x9b, 0x55, 0x08, 0x05, 0x01, 0x03, 0x1e],
                    ]
                    .concat(),
                )],
                ..base()
            },
            "its certificate policies are not critical",
        ),
    ];
    for (profile, expected) in departures {
        assert_eq!(fault(&root, &profile), CardFault::NotAccepted(expected));
    }
    verify(&root, &root.issue(&with(vec![unknown(false)])).unwrap()).unwrap();
    assert_eq!(fault(&root, &base().expired()), CardFault::Expired);
    let tomorrow =
        OffsetDateTime::from_unix_timestamp(now().after(Duration::from_secs(86_400)).unix_ms() / 1_000);
    let not_yet = CardProfile {
        not_before: tomorrow.unwrap(),
        ..base()
    };
    assert_eq!(fault(&root, &not_yet), CardFault::NotAccepted("not valid yet"));
}

/// A root that has expired, or is not valid yet, vouches for nothing, whatever the certificate says of itself.
#[test]
fn a_root_must_be_valid_itself() {
    let root = CardRoot::with_key(CardKeyType::EcdsaP256).unwrap();
    let years = |years: u64| Duration::from_secs(years * 365 * 86_400);
    let card = root
        .issue(&CardProfile {
            not_before: OffsetDateTime::from_unix_timestamp(0).unwrap(),
            not_after: OffsetDateTime::from_unix_timestamp(4_000_000_000).unwrap(),
            ..profile()
        })
        .unwrap();
    let (_files, roots) = pinned(&[&root]);
    let at = |moment: Timestamp| {
        let verified = roots.verify(&card.certificate_der, &accepted(), moment);
        verified.map(|card| card.not_after)
    };
    // Sessions end with the root, too.
    let end = at(now()).unwrap();
    assert!(end < now().after(years(30)));
    assert_eq!(at(end).unwrap(), end);
    assert_eq!(at(end.after(Duration::from_secs(1))), Err(CardFault::Expired));
    let too_early = CardFault::NotAccepted("its root is not valid yet");
    assert_eq!(at(now().before(years(20))), Err(too_early));
    assert_eq!(roots.valid(now()).count(), 1);
    assert_eq!(roots.valid(end.after(Duration::from_secs(1))).count(), 0);
}

/// JPKI's root generations share one name: the key decides.
#[test]
fn a_root_of_the_same_name_with_another_key_does_not_count() {
    for (key_type, _, _) in KEY_TYPES {
        let (root, other) = (CardRoot::new().unwrap(), CardRoot::with_key(key_type).unwrap());
        let card = root.issue(&profile()).unwrap();
        let refused = verify(&other, &card).map(|_| ());
        assert_eq!(
            refused,
            Err(CardFault::NotAccepted("not issued by a pinned root"))
        );
        let (_files, both) = pinned(&[&other, &root]);
        both.verify(&card.certificate_der, &accepted(), now()).unwrap();
    }
}

#[test]
fn an_altered_certificate_does_not_count() {
    for (key_type, _, _) in KEY_TYPES {
        let root = CardRoot::with_key(key_type).unwrap();
        let card = root
            .issue(&CardProfile {
                key_type,
                ..profile()
            })
            .unwrap();
        let (_files, roots) = pinned(&[&root]);
        for at in 0..card.certificate_der.len() {
            let mut altered = card.certificate_der.clone();
            altered[at] ^= 1;
            let refused = roots.verify(&altered, &accepted(), now()).is_err();
            assert!(refused, "byte {at} of {} ({key_type:?})", altered.len());
        }
        for longer in [
            [card.certificate_der.as_slice(), &[0]].concat(),
            vec![0; 4_097],
            vec![],
        ] {
            assert!(roots.verify(&longer, &accepted(), now()).is_err());
        }
    }
}

#[test]
fn what_is_not_a_root_is_not_pinned() {
    let root = CardRoot::new().unwrap();
    let load = |certificates: &[&str]| {
        let directory = TempDir::new().unwrap();
        for (at, pem) in certificates.iter().enumerate() {
            std::fs::write(directory.path().join(format!("{at}.pem")), pem).unwrap();
        }
        let loaded = CardRoots::load(directory.path()).map(|_| ());
        loaded.map_err(|error| error.to_string())
    };
    load(&[root.certificate_pem()]).unwrap();
    let issued = |profile: CardProfile| root.issue(&profile).unwrap().certificate_pem;
    let critical = CardProfile {
        is_ca: true,
        more: vec![unknown(true)],
        ..profile()
    };
    for (certificates, rule) in [
        (vec![], "must hold one to 16 roots"),
        (vec!["no certificate".to_owned()], "must be one PEM certificate"),
        (vec![issued(profile())], "must be for signing certificates"),
        (
            vec![issued(CardProfile {
                key_usages: vec![],
                ..profile()
            })],
            "must be a CA certificate",
        ),
        (
            vec![issued(CardProfile {
                key_usages: vec![],
                ..critical
            })],
            "must have no critical extension that is not processed",
        ),
        (
            vec![issued(CardProfile {
                key_usages: vec![],
                is_ca: true,
                ..profile()
            })],
            "must name itself as its issuer",
        ),
        (
            vec![
                root.certificate_pem().to_owned(),
                root.certificate_pem().to_owned(),
            ],
            "must not hold the key of another file's root",
        ),
    ] {
        let pems: Vec<&str> = certificates.iter().map(String::as_str).collect();
        let refused = load(&pems).unwrap_err();
        assert!(refused.contains(rule), "{rule} is not in {refused}");
    }
}
