//! Who may call what (clauses 4.4.3, 4.4.4), over real mutual TLS: every method, and odd spellings of paths, on every
//! listener by every kind of caller. The answers are one table for people, `golden/access.txt`; `UPDATE_GOLDEN=1` writes
//! it anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use std::{collections::BTreeSet, fmt::Write as _, net::SocketAddr, path::Path, sync::Arc};

use common::{
    authorisation::{Listener, methods},
    identity::Role,
};
use devkit::{
    deployment::TRUST_DOMAIN,
    pki::{Ca, Issued, Subject},
};
use integration_tests::{Pair, raw};
use rustls::ClientConfig;
use time::Duration;
use tonic::{Code, Status};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/access.txt");

const LEGEND: &str = "\
# Every method of the table of methods and roles, and odd spellings of paths, on every listener, by every kind of caller.
# tests/tests/access.rs makes this file.
#
#   tls  refused by TLS, before any call
#   who  UNAUTHENTICATED, reason IDENTITY_INVALID: the certificate names nobody of this deployment
#   -    PERMISSION_DENIED, reason PERMISSION_DENIED: not this caller, not this method, not here
#   YES  the call reached its method
#
# Callers: none: no certificate; ca: of another CA; expired; no-uri: no URI SAN; 2-uri: two, each of them good; domain: of
# another trust domain; role: of an unknown role; then one of each role.
";

/// A column of the table.
struct Caller {
    name: &'static str,
    tls: Arc<ClientConfig>,
}

fn ca(pair: &Pair) -> Ca {
    Ca::read_from(&pair.deployment.dir().join("authority"), "ca").unwrap()
}

fn subject(role_and_name: &str) -> Subject {
    Subject::identity(TRUST_DOMAIN, role_and_name)
}

/// A name within the role that would be right in every other respect.
fn named(role: Role) -> String {
    let name = match role {
        Role::Municipality => "131016/desk-9",
        _ => "somebody",
    };
    format!("{}/{name}", role.as_str())
}

fn callers(ca: &Ca) -> Vec<Caller> {
    let other_ca = Ca::new("development CA").unwrap();
    let operator = subject("operator/alice");
    let expired = {
        // The deployment's certificates are dated back by a day.
        let end = operator.not_before;
        operator.clone().valid(end - Duration::days(2), end)
    };
    let refused: [(&'static str, Option<Issued>); 7] = [
        ("none", None),
        ("ca", Some(other_ca.issue(&operator).unwrap())),
        ("expired", Some(ca.issue(&expired).unwrap())),
        (
            "no-uri",
            Some(ca.issue(&Subject::nameless().and_dns("localhost")).unwrap()),
        ),
        (
            "2-uri",
            Some(
                ca.issue(&operator.and_uri(&format!("spiffe://{TRUST_DOMAIN}/portal-frontend/demo")))
                    .unwrap(),
            ),
        ),
        (
            "domain",
            Some(
                ca.issue(&Subject::identity("other.example", "operator/alice"))
                    .unwrap(),
            ),
        ),
        ("role", Some(ca.issue(&subject("administrator/alice")).unwrap())),
    ];
    let short = |role| match role {
        Role::PortalFrontend => "frontend",
        Role::PortalGateway => "gateway",
        Role::KosekiProvider => "provider",
        Role::Municipality => "municip.",
        Role::Operator => "operator",
        Role::Auditor => "auditor",
    };
    let roles = Role::ALL.map(|role| (short(role), Some(ca.issue(&subject(&named(role))).unwrap())));
    refused
        .into_iter()
        .chain(roles)
        .map(|(name, issued)| Caller {
            name,
            tls: raw::tls(ca, issued.as_ref()),
        })
        .collect()
}

/// What came of a call, as the table shows it.
fn shown(outcome: Result<(), Status>) -> String {
    let Err(status) = outcome else {
        return "YES".to_owned();
    };
    match (status.code(), raw::reason(&status).as_deref()) {
        // What a caller sees of a refused handshake is a broken connection.
        (_, None) if std::error::Error::source(&status).is_some() => "tls".to_owned(),
        (Code::Unavailable, None) if status.message().starts_with("not connected") => "tls".to_owned(),
        (Code::Unauthenticated, Some("IDENTITY_INVALID")) => "who".to_owned(),
        (Code::PermissionDenied, Some("PERMISSION_DENIED")) => "-".to_owned(),
        // The method looked at the empty message, or had nothing to say.
        (Code::InvalidArgument, Some("MALFORMED")) => "YES".to_owned(),
        (code, reason) => format!("{code:?}:{}:{}", reason.unwrap_or("?"), status.message()),
    }
}

/// Spellings of a method that a lenient server could take for it, and names that nobody serves.
fn odd_spellings(listener: Listener) -> Vec<String> {
    let (service, method) = match listener {
        Listener::Portal => ("portal.v1.Portal", "GetStatus"),
        Listener::PortalAdmin => ("portal.admin.v1.PortalAdmin", "SetBlock"),
        Listener::Linkage => ("koseki.linkage.v1.Linkage", "GetLinkageStatus"),
        Listener::Ingest => ("koseki.ingest.v1.Ingest", "SendCopies"),
        Listener::KosekiAdmin => ("koseki.admin.v1.KosekiAdmin", "LoadPersons"),
    };
    let encoded = |text: &str| format!("%{:02X}{}", text.as_bytes()[0], &text[1..]);
    vec![
        format!("/{service}/{method}/"),
        format!("//{service}/{method}"),
        format!("/{service}//{method}"),
        format!("/{service}/./{method}"),
        format!("/{service}/x/../{method}"),
        format!("/{service}/{}", encoded(method)),
        format!("/{}/{method}", encoded(service)),
        format!("/{service}%2F{method}"),
        format!("/{service}/{method}%20"),
        format!("/{service}/{}", method.to_lowercase()),
        format!("/{}/{method}", service.to_uppercase()),
        format!("/{service}/{method};v=1"),
        format!("/{service}/Nothing"),
        format!("/{service}"),
        format!("/{service}/"),
        "/koseki.v9.Nothing/Call".to_owned(),
        "/grpc.health.v1.Health/List".to_owned(),
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned(),
        "/".to_owned(),
    ]
}

fn address(pair: &Pair, listener: Listener) -> SocketAddr {
    let server = match listener {
        Listener::Portal | Listener::PortalAdmin => &pair.gateway,
        Listener::Linkage | Listener::Ingest | Listener::KosekiAdmin => &pair.provider,
    };
    server.address(listener.name()).unwrap()
}

async fn table(pair: &Pair) -> String {
    let callers = callers(&ca(pair));
    let mut text = LEGEND.to_owned();
    for listener in Listener::ALL {
        let open: Vec<raw::Caller> = callers
            .iter()
            .map(|caller| raw::Caller::new(caller.tls.clone(), address(pair, listener)))
            .collect();
        let heads: String = callers
            .iter()
            .map(|caller| format!("{:>9}", caller.name))
            .collect();
        write!(text, "\n{:<62}{heads}\n", format!("[{}]", listener.name())).unwrap();
        let odd = odd_spellings(listener);
        let paths = methods().map(str::to_owned).collect::<BTreeSet<_>>();
        for path in paths.into_iter().chain(odd) {
            write!(text, "{path:<62}").unwrap();
            for caller in &open {
                write!(text, "{:>9}", shown(caller.call(&path).await)).unwrap();
            }
            text.push('\n');
        }
    }
    text
}

#[tokio::test]
async fn every_method_by_every_kind_of_caller_is_as_the_golden_file_says() {
    let pair = Pair::start().await;
    let table = table(&pair).await;
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(Path::new(GOLDEN), &table).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    let differ: Vec<_> = golden
        .lines()
        .zip(table.lines())
        .filter(|(expected, found)| expected != found)
        .collect();
    assert!(
        golden == table,
        "UPDATE_GOLDEN=1 accepts what differs from {GOLDEN}: {differ:#?}\n{table}"
    );
}

/// What auditors may read beside operators.
const READS: [&str; 8] = [
    "/koseki.admin.v1.KosekiAdmin/GetStatus",
    "/koseki.admin.v1.KosekiAdmin/ListMunicipalities",
    "/koseki.admin.v1.KosekiAdmin/ListNonProvision",
    "/koseki.admin.v1.KosekiAdmin/ListPending",
    "/koseki.evidence.v1.AuditLog/ListLogs",
    "/koseki.evidence.v1.AuditLog/ReadBundles",
    "/portal.admin.v1.PortalAdmin/GetStatus",
    "/portal.admin.v1.PortalAdmin/ListPending",
];

/// The table grants what DESIGN §3 grants and no more: read off the golden file, so that a change of it cannot slip in
/// with the file.
#[test]
fn the_golden_file_grants_nothing_beyond_the_roles_of_the_design() {
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    let mut listener = "";
    let mut granted = 0;
    let mut heads: Vec<&str> = Vec::new();
    for line in golden
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let mut cells = line.split_whitespace();
        let first = cells.next().unwrap();
        if first.starts_with('[') {
            (listener, heads) = (first, cells.collect());
            continue;
        }
        let own = match listener {
            "[portal]" => ("/portal.v1.Portal/", "frontend"),
            "[portal-admin]" => ("/portal.admin.v1.PortalAdmin/", "operator"),
            "[linkage]" => ("/koseki.linkage.v1.Linkage/", "gateway"),
            "[ingest]" => ("/koseki.ingest.v1.Ingest/", "municip."),
            "[koseki-admin]" => ("/koseki.admin.v1.KosekiAdmin/", "operator"),
            other => panic!("unknown listener {other}"),
        };
        for (caller, cell) in heads.iter().zip(cells) {
            if cell == "YES" {
                granted += 1;
                let health =
                    ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"].contains(&first);
                let reads = *caller == "auditor" && READS.contains(&first);
                assert!(
                    health || reads || (first.starts_with(own.0) && *caller == own.1),
                    "{caller} may call {first} on {listener}"
                );
            }
            let by_tls = ["none", "ca", "expired"].contains(caller);
            assert_eq!(cell == "tls", by_tls, "{caller} {first} {listener}");
            let nobody = ["no-uri", "2-uri", "domain", "role"].contains(caller);
            assert_eq!(cell == "who", nobody, "{caller} {first} {listener}");
        }
    }
    // 40 methods for one role each, what auditors read, two of it on both admin listeners, and two of health for each of six
    // roles on each of five listeners.
    assert_eq!(granted, 40 + READS.len() + 2 + 2 * 6 * 5);
}

#[tokio::test]
async fn a_certificate_that_expires_on_an_open_connection_is_refused_on_the_next_call() {
    let pair = Pair::start().await;
    let ca = ca(&pair);
    let begin = subject("operator/alice").not_before;
    // The deployment's clock and TLS go by the machine's time; the layer goes by the clock that moves here.
    let end = begin + Duration::days(1) + Duration::hours(1);
    let short = ca.issue(&subject("operator/alice").valid(begin, end)).unwrap();
    let long = ca.issue(&subject("operator/bob")).unwrap();
    let address = address(&pair, Listener::KosekiAdmin);
    let (alice, bob) = (
        raw::Caller::new(raw::tls(&ca, Some(&short)), address),
        raw::Caller::new(raw::tls(&ca, Some(&long)), address),
    );
    let check = "/grpc.health.v1.Health/Check";
    alice.call(check).await.unwrap();
    bob.call(check).await.unwrap();

    pair.clock.advance(std::time::Duration::from_secs(2 * 3_600));
    let refused = alice.call(check).await.unwrap_err();
    assert_eq!(raw::reason(&refused).as_deref(), Some("IDENTITY_INVALID"));
    assert_eq!(
        alice.connections(),
        1,
        "it was the open connection that was refused"
    );
    bob.call(check).await.unwrap();
}
