//! Who gets a certificate of the development CA: both services, and everybody who calls them.

use std::{net::Ipv4Addr, path::Path};

use common::identity::Role;

use super::{
    AUDITOR, CONSENT_RECEIPT_KEY_ID, Deployment, DeploymentError, ELIGIBILITY_KEY_ID, FRONTEND, OFFICER,
    OPERATORS, TRUST_DOMAIN, write_public, write_secret,
};
use crate::pki::{Ca, Subject, ed25519_key};

/// Makes the authority, what it issues to services and callers, the gateway's eligibility key, and the portal side's key for
/// consent receipts.
pub(super) fn write<'a>(
    deployment: &Deployment,
    municipalities: impl Iterator<Item = &'a String>,
) -> Result<Ca, DeploymentError> {
    let ca = Ca::new("development CA")?;
    ca.write_to(&deployment.dir().join("authority"), "ca")?;
    write_services(deployment, &ca)?;
    write_consent_receipt_key(deployment)?;
    let mut clients = vec![
        (Role::PortalFrontend, FRONTEND.to_owned()),
        (Role::Auditor, AUDITOR.to_owned()),
    ];
    clients.extend(OPERATORS.map(|name| (Role::Operator, name.to_owned())));
    clients.extend(municipalities.map(|code| (Role::Municipality, format!("{code}/{OFFICER}"))));
    for (role, name) in clients {
        ca.issue(&identity(role, &name))?
            .write_to(&deployment.clients(role), &name)?;
        write_ca(&ca, &deployment.clients(role))?;
    }
    Ok(ca)
}

/// What another instance of both services has for itself.
pub(super) fn write_instance(deployment: &Deployment) -> Result<(), DeploymentError> {
    let ca = Ca::read_from(&deployment.dir().join("authority"), "ca")?;
    write_services(deployment, &ca)
}

fn write_services(deployment: &Deployment, ca: &Ca) -> Result<(), DeploymentError> {
    for (folder, name, role, instance) in [
        (
            deployment.provider(),
            "provider",
            Role::KosekiProvider,
            deployment.provider_instance(),
        ),
        (
            deployment.gateway(),
            "gateway",
            Role::PortalGateway,
            deployment.gateway_instance(),
        ),
    ] {
        // The DNS names and the address are for foreign clients: ours look at the URI only.
        let subject = identity(role, &instance)
            .and_dns("localhost")
            .and_dns(name)
            .and_ip(Ipv4Addr::LOCALHOST.into());
        let folder = folder.join("tls");
        ca.issue(&subject)?
            .write_to(&folder, &deployment.file_name(name))?;
        write_ca(ca, &folder)?;
    }
    let key = ed25519_key()?;
    write_secret(&deployment.eligibility_key(), key.private_pem.as_bytes())?;
    let instance = deployment.gateway_instance();
    let public = format!("eligibility-keys/{instance}.{ELIGIBILITY_KEY_ID}.pem");
    write_public(&deployment.provider().join(public), key.public_pem.as_bytes())
}

fn write_consent_receipt_key(deployment: &Deployment) -> Result<(), DeploymentError> {
    let key = ed25519_key()?;
    write_secret(&deployment.consent_receipt_key(), key.private_pem.as_bytes())?;
    let public = deployment
        .consent_receipt_keys()
        .join(format!("{CONSENT_RECEIPT_KEY_ID}.pem"));
    write_public(&public, key.public_pem.as_bytes())
}

fn identity(role: Role, name: &str) -> Subject {
    Subject::identity(TRUST_DOMAIN, &format!("{}/{name}", role.as_str()))
}

fn write_ca(ca: &Ca, folder: &Path) -> Result<(), DeploymentError> {
    write_public(&folder.join("ca.pem"), ca.certificate_pem().as_bytes())
}
