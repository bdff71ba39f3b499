use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, SignatureScheme,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use serde::{Deserialize, Serialize};

use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    clock::Timestamp,
    files::{self, FileError},
};

/// The certificate files of a service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificate chain of this service, PEM, its own certificate first.
    pub certificate: PathBuf,
    /// Private key of the certificate, PEM (PKCS#8); readable by its owner only.
    pub private_key: PathBuf,
    /// Certificates of the deployment's CA, PEM: the only one that peers' certificates may come from.
    pub peer_ca: PathBuf,
}

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// rustls refuses the certificate or key.
    #[error("the certificate and private key do not make a TLS configuration")]
    Rustls(#[from] rustls::Error),
    /// rustls refuses the CA.
    #[error("the peer CA does not make a verifier")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// What the files hold, checked.
pub struct TlsMaterial {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    authorities: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl TlsMaterial {
    /// Reads and checks the files.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let chain = certificates(&files.certificate)?;
        let key_pem = files::read_secret(&files.private_key)?;
        let key = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|_| FileError::content(&files.private_key, "must be a PEM private key"))?;
        let mut roots = RootCertStore::empty();
        let authorities = certificates(&files.peer_ca)?;
        for certificate in &authorities {
            roots
                .add(certificate.clone())
                .map_err(|_| FileError::content(&files.peer_ca, "must hold CA certificates"))?;
        }
        Ok(Self {
            chain,
            key,
            authorities,
            roots: Arc::new(roots),
            provider: Arc::new(aws_lc_rs::default_provider()),
        })
    }

    /// The server's configuration: TLS 1.3, client certificate required, no tickets, HTTP/2.
    pub fn server_config(&self) -> Result<Arc<rustls::ServerConfig>, TlsError> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots.clone(), self.provider.clone()).build()?;
        let mut config = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    /// A client's configuration with the verifier given, which decides whom it talks to.
    pub(super) fn client_config(
        &self,
        verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>,
    ) -> Result<Arc<rustls::ClientConfig>, TlsError> {
        let mut config = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    /// When the certificates end that this side shows and trusts, each with what it is for.
    pub fn expiries(&self) -> Vec<(&'static str, Timestamp)> {
        let certificates = self.chain.iter().map(|certificate| ("server", certificate));
        let authorities = self
            .authorities
            .iter()
            .map(|certificate| ("peer-ca", certificate));
        certificates
            .chain(authorities)
            .filter_map(|(name, der)| {
                let (_, certificate) = X509Certificate::from_der(der).ok()?;
                let ms = certificate.validity().not_after.timestamp().saturating_mul(1_000);
                Some((name, Timestamp::from_unix_ms(ms)))
            })
            .collect()
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        self.roots.clone()
    }

    pub(super) fn provider(&self) -> Arc<CryptoProvider> {
        self.provider.clone()
    }

    pub(super) fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let pem = files::read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| FileError::content(path, "must be PEM certificates"))?;
    if found.is_empty() {
        Err(FileError::content(path, "must hold at least one PEM certificate"))
    } else {
        Ok(found)
    }
}
