//! The keys of evidence: each instance's for its checkpoints, the provider's for receipts, each side's as a witness, and the one
//! list of public keys.

use std::{fs, path::PathBuf};

use common::{
    evidence::{NoteAlgorithm, origin, receipt_key_name, verifier_key, witness_name},
    identity::{Role, TrustDomain},
};
use data_encoding::BASE64_MIME_PERMISSIVE;

use super::{Deployment, DeploymentError, TRUST_DOMAIN, write_public, write_secret};
use crate::pki::ed25519_key;

/// What both sides, auditors and frontends have a copy of.
pub(super) const LOG_KEYS: &str = "log-keys.txt";

/// The keys of the sides, which all their instances share.
pub(super) fn write_sides(deployment: &Deployment) -> Result<(), DeploymentError> {
    for (role, folder) in [
        (Role::KosekiProvider, deployment.provider()),
        (Role::PortalGateway, deployment.gateway()),
    ] {
        let name = witness_name(&trust_domain()?, role);
        make(
            deployment,
            &folder.join("witness-key.pem"),
            &name,
            NoteAlgorithm::CosignatureV1,
        )?;
    }
    write_instance(deployment)
}

/// The keys of one instance of each service.
pub(super) fn write_instance(deployment: &Deployment) -> Result<(), DeploymentError> {
    let trust_domain = trust_domain()?;
    let provider = origin(
        &trust_domain,
        Role::KosekiProvider,
        &deployment.provider_instance(),
    );
    let gateway = origin(&trust_domain, Role::PortalGateway, &deployment.gateway_instance());
    let ed25519 = NoteAlgorithm::Ed25519;
    make(
        deployment,
        &deployment.receipt_key(),
        &receipt_key_name(&provider),
        ed25519,
    )?;
    make(
        deployment,
        &deployment.provider_checkpoint_key(),
        &provider,
        ed25519,
    )?;
    make(
        deployment,
        &deployment.gateway_checkpoint_key(),
        &gateway,
        ed25519,
    )
}

/// Makes a key and adds its public half to the lists.
fn make(
    deployment: &Deployment,
    file: &std::path::Path,
    name: &str,
    algorithm: NoteAlgorithm,
) -> Result<(), DeploymentError> {
    let key = ed25519_key()?;
    write_secret(file, key.private_pem.as_bytes())?;
    let line = verifier_key(name, algorithm, &raw_public_key(&key.public_pem)?);
    for list in lists(deployment) {
        let before = fs::read_to_string(&list).unwrap_or_default();
        write_public(&list, format!("{before}{line}\n").as_bytes())?;
    }
    Ok(())
}

fn lists(deployment: &Deployment) -> [PathBuf; 4] {
    [
        deployment.provider(),
        deployment.gateway(),
        deployment.clients(Role::Auditor),
        deployment.clients(Role::PortalFrontend),
    ]
    .map(|folder| folder.join(LOG_KEYS))
}

/// The last 32 bytes of an Ed25519 SubjectPublicKeyInfo are the key (RFC 8410).
fn raw_public_key(pem: &str) -> Result<Vec<u8>, DeploymentError> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = BASE64_MIME_PERMISSIVE.decode(body.as_bytes()).ok();
    let key = der.as_deref().and_then(|der| der.last_chunk::<32>());
    key.map(|key| key.to_vec())
        .ok_or(DeploymentError::Pki(crate::pki::PkiError::Key))
}

fn trust_domain() -> Result<TrustDomain, DeploymentError> {
    TrustDomain::parse(TRUST_DOMAIN).map_err(|_| DeploymentError::Pki(crate::pki::PkiError::Key))
}
