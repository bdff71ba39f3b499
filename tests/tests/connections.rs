//! What happens before any call (clauses 4.4.4, 4.4.5): TLS 1.3 only, a certificate always, nothing resumed, handshakes
//! and connections bounded, and a server that is known by its identity.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use common::{
    authorisation::Listener,
    clock::ShiftedClock,
    identity::{Role, TrustDomain},
    process::Service as _,
    server::Server,
    tls::{Acceptor, Connector, TlsFiles, TlsMaterial},
};
use devkit::{
    deployment::{Addresses, Deployment, GATEWAY_INSTANCE, PROVIDER_INSTANCE, Plan, TRUST_DOMAIN},
    pki::{Ca, Subject},
};
use integration_tests::{SEED, raw};
use koseki_provider::Provider;
use rustls::{AlertDescription, ClientConfig, HandshakeKind};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tower::Service as _;

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// A provider with bounds of its own.
struct Bounded {
    deployment: Deployment,
    ca: Ca,
    provider: Server,
    _directory: TempDir,
}

impl Bounded {
    async fn start(handshake_timeout_ms: u64, max_connections: usize) -> Self {
        let directory = TempDir::new().unwrap();
        let plan = Plan {
            seed: SEED,
            registers: 0,
            addresses: Addresses::loopback(),
        };
        let deployment = Deployment::create(directory.path(), &plan).unwrap();
        let mut config: koseki_provider::config::Config =
            common::config::load(&deployment.provider_config()).unwrap();
        config.limits.handshake_timeout_ms = handshake_timeout_ms;
        config.limits.max_connections = max_connections;
        let provider = Provider::start(config, Arc::new(ShiftedClock::default()))
            .await
            .unwrap();
        Self {
            ca: Ca::read_from(&deployment.dir().join("authority"), "ca").unwrap(),
            deployment,
            provider,
            _directory: directory,
        }
    }

    fn address(&self) -> SocketAddr {
        self.provider.address(Listener::Linkage.name()).unwrap()
    }

    /// Of a caller whom the listener knows.
    fn tls(&self) -> Arc<ClientConfig> {
        let subject = Subject::identity(TRUST_DOMAIN, "portal-gateway/gateway-1");
        raw::tls(&self.ca, Some(&self.ca.issue(&subject).unwrap()))
    }

    async fn answers(&self) {
        raw::Caller::new(self.tls(), self.address())
            .call(CHECK)
            .await
            .unwrap();
    }
}

/// A TLS 1.2 ClientHello (RFC 5246) as a browser of its time sent it: without the extension that names versions.
fn client_hello_1_2() -> Vec<u8> {
    let extensions = [
        // supported_groups: secp256r1
        &[0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x17][..],
        // ec_point_formats: uncompressed
        &[0x00, 0x0b, 0x00, 0x02, 0x01, 0x00],
        // signature_algorithms: ecdsa_secp256r1_sha256, rsa_pkcs1_sha256
        &[0x00, 0x0d, 0x00, 0x06, 0x00, 0x04, 0x04, 0x03, 0x04, 0x01],
    ]
    .concat();
    let mut hello = vec![0x03, 0x03];
    hello.extend([0x5a; 32]);
    // No session; ECDHE with ECDSA or RSA and AES-128-GCM; no compression.
    hello.extend([0x00, 0x00, 0x04, 0xc0, 0x2b, 0xc0, 0x2f, 0x01, 0x00]);
    hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    hello.extend(extensions);
    let mut handshake = vec![0x01, 0x00];
    handshake.extend(u16::try_from(hello.len()).unwrap().to_be_bytes());
    handshake.extend(hello);
    let mut record = vec![0x16, 0x03, 0x01];
    record.extend(u16::try_from(handshake.len()).unwrap().to_be_bytes());
    record.extend(handshake);
    record
}

#[tokio::test]
async fn a_peer_that_speaks_only_tls_1_2_is_refused() {
    let service = Bounded::start(5_000, 16).await;
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    stream.write_all(&client_hello_1_2()).await.unwrap();
    let mut answer = Vec::new();
    timeout(raw::PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    // A fatal alert: protocol_version.
    assert_eq!(answer, [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 70]);
}

/// Connects and reads: a TLS 1.3 client learns only then what the server makes of its certificate.
async fn alert(tls: Arc<ClientConfig>, address: SocketAddr) -> Option<AlertDescription> {
    let read = async {
        let mut stream = raw::connect(tls, address).await?;
        stream.read_u8().await
    };
    let error = timeout(raw::PATIENCE, read).await.unwrap().err()?;
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn tls_itself_refuses_no_certificate_another_ca_and_an_expired_certificate() {
    let service = Bounded::start(5_000, 16).await;
    let subject = Subject::identity(TRUST_DOMAIN, "portal-gateway/gateway-1");
    let end = subject.not_before;
    let expired = subject.clone().valid(end - time::Duration::days(1), end);
    let other = Ca::new("development CA").unwrap().issue(&subject).unwrap();
    let expired = service.ca.issue(&expired).unwrap();
    for (certificate, expected) in [
        (None, AlertDescription::CertificateRequired),
        (Some(&other), AlertDescription::UnknownCA),
        (Some(&expired), AlertDescription::CertificateExpired),
    ] {
        let found = alert(raw::tls(&service.ca, certificate), service.address()).await;
        // Two authorities of one name are told apart by the signature.
        let found = match found {
            Some(AlertDescription::DecryptError | AlertDescription::BadCertificate) => {
                AlertDescription::UnknownCA
            }
            found => found.unwrap(),
        };
        assert_eq!(found, expected);
    }
    assert_eq!(alert(service.tls(), service.address()).await, None);
}

#[tokio::test]
async fn no_ticket_is_ever_given_and_no_session_resumed() {
    let service = Bounded::start(5_000, 16).await;
    // One configuration, so that a ticket of the first connection would be used by the second.
    let tls = service.tls();
    for _ in 0..3 {
        let mut stream = raw::connect(tls.clone(), service.address()).await.unwrap();
        // The server's HTTP/2 settings come after any ticket.
        timeout(raw::PATIENCE, stream.read_u8()).await.unwrap().unwrap();
        let connection = stream.get_ref().1;
        assert_eq!(connection.tls13_tickets_received(), 0);
        assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn silent_peers_are_cut_and_stop_nobody() {
    let service = Bounded::start(400, 64).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(service.address()).await.unwrap());
    }
    // One has said half of a hello.
    silent[0].write_all(&client_hello_1_2()[..20]).await.unwrap();
    service.answers().await;
    for mut stream in silent {
        // Far less than the default of 5 s after the bound that was configured.
        let read = timeout(Duration::from_secs(4), stream.read(&mut [0; 16])).await;
        match read.expect("cut within the time-out") {
            // The end, or a reset where something had been said.
            Ok(length) => assert_eq!(length, 0),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    service.answers().await;
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once() {
    const MOST: usize = 3;
    // A handshake may take long here: it is not its time-out that closes.
    let service = Bounded::start(60_000, MOST).await;
    let tls = service.tls();
    let mut open = Vec::new();
    for _ in 0..MOST {
        let mut stream = raw::connect(tls.clone(), service.address()).await.unwrap();
        stream.read_u8().await.unwrap();
        open.push(stream);
    }
    for _ in 0..2 {
        let refused = timeout(raw::PATIENCE, raw::connect(tls.clone(), service.address())).await;
        assert!(refused.expect("at once").is_err());
    }
    // A place that becomes free is given again.
    drop(open.pop());
    let taken = async {
        loop {
            if let Ok(mut stream) = raw::connect(tls.clone(), service.address()).await
                && stream.read_u8().await.is_ok()
            {
                return stream;
            }
            tokio::task::yield_now().await;
        }
    };
    open.push(timeout(raw::PATIENCE, taken).await.unwrap());
}

/// Connects as the gateway does, to whom it expects at this address.
async fn dial(gateway: &TlsMaterial, address: SocketAddr, role: Role, name: &str) -> Result<(), String> {
    let domain = TrustDomain::parse(TRUST_DOMAIN).unwrap();
    let clock = Arc::new(ShiftedClock::default());
    let mut connector = Connector::new(gateway, &domain, &address.to_string(), role, name, clock).unwrap();
    let dialled = connector.call(http::Uri::from_static("http://peer")).await;
    dialled.map(|_| ()).map_err(|error| error.to_string())
}

fn gateway_files(deployment: &Deployment) -> TlsFiles {
    let tls = deployment.gateway().join("tls");
    TlsFiles {
        certificate: tls.join("gateway.pem"),
        private_key: tls.join("gateway-key.pem"),
        peer_ca: tls.join("ca.pem"),
    }
}

/// Somebody who listens with a certificate of this CA for this subject.
async fn impostor(folder: &Path, name: &str, ca: &Ca, subject: &Subject, peer_ca: &Path) -> SocketAddr {
    ca.issue(subject).unwrap().write_to(folder, name).unwrap();
    let files = TlsFiles {
        certificate: folder.join(format!("{name}.pem")),
        private_key: folder.join(format!("{name}-key.pem")),
        peer_ca: peer_ca.to_owned(),
    };
    let acceptor = Acceptor {
        config: TlsMaterial::load(&files).unwrap().server_config().unwrap(),
        trust_domain: TrustDomain::parse(TRUST_DOMAIN).unwrap(),
        handshake_timeout: Duration::from_secs(5),
        max_connections: 16,
    };
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let mut accepted = acceptor.accept_on(socket);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(connection) = accepted.recv().await {
            kept.push(connection);
        }
    });
    address
}

#[tokio::test]
async fn the_gateway_talks_to_nobody_but_the_provider_that_it_is_to_talk_to() {
    let service = Bounded::start(5_000, 16).await;
    let files = gateway_files(&service.deployment);
    let gateway = TlsMaterial::load(&files).unwrap();
    let expected = (Role::KosekiProvider, PROVIDER_INSTANCE);
    dial(&gateway, service.address(), expected.0, expected.1)
        .await
        .unwrap();
    for (role, name) in [
        (Role::KosekiProvider, "provider-2"),
        (Role::KosekiProvider, "provider"),
        (Role::PortalGateway, GATEWAY_INSTANCE),
        (Role::Operator, PROVIDER_INSTANCE),
    ] {
        let refused = dial(&gateway, service.address(), role, name).await.unwrap_err();
        assert!(
            refused.contains("NotValidForName") || refused.contains("not valid for name"),
            "{refused}"
        );
    }

    let right = Subject::identity(TRUST_DOMAIN, &format!("koseki-provider/{PROVIDER_INSTANCE}"));
    let end = right.not_before;
    let dns = Subject::nameless().and_dns("localhost").and_dns("peer");
    let folder = service.deployment.dir().join("impostors");
    let other_ca = Ca::new("development CA").unwrap();
    for (name, ca, subject, good) in [
        ("right", &service.ca, right.clone(), true),
        ("other-ca", &other_ca, right.clone(), false),
        (
            "expired",
            &service.ca,
            right.clone().valid(end - time::Duration::days(1), end),
            false,
        ),
        (
            "two-uris",
            &service.ca,
            right
                .clone()
                .and_uri(&format!("spiffe://{TRUST_DOMAIN}/operator/alice")),
            false,
        ),
        ("dns-only", &service.ca, dns, false),
        (
            "other-domain",
            &service.ca,
            Subject::identity("other.example", &format!("koseki-provider/{PROVIDER_INSTANCE}")),
            false,
        ),
    ] {
        let address = impostor(&folder, name, ca, &subject, &files.peer_ca).await;
        let dialled = dial(&gateway, address, expected.0, expected.1).await;
        assert_eq!(dialled.is_ok(), good, "{name}: {dialled:?}");
    }
}
