//! What a side needs when its database is on a PostgreSQL server: four folders for four parties, none of which can read
//! another's password.

use std::{num::NonZeroU32, path::PathBuf};

use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use data_encoding::{BASE64, HEXLOWER};

use super::{Deployment, DeploymentError, PostgresHosts, write_public, write_secret};
use crate::{
    pki::{Ca, Subject},
    postgres::Side,
};

/// Rounds of SCRAM-SHA-256, as many as PostgreSQL takes by itself: passwords that are guessed are not used here.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);
/// Length of every key and digest in SCRAM-SHA-256.
const BYTES: usize = 32;

/// What its folders' names begin with.
pub(super) fn name(side: Side) -> &'static str {
    match side {
        Side::Provider => "provider",
        Side::Gateway => "gateway",
    }
}

/// Where the running service finds the URL of its role.
pub(super) fn service_url_file(deployment: &Deployment, side: Side) -> PathBuf {
    deployment.dir().join(name(side)).join("database-url")
}

/// Makes the folders of both sides.
pub(super) fn write(deployment: &Deployment, hosts: &PostgresHosts, ca: &Ca) -> Result<(), DeploymentError> {
    [Side::Provider, Side::Gateway]
        .into_iter()
        .try_for_each(|side| write_side(deployment, side, hosts.of(side), ca))
}

fn write_side(deployment: &Deployment, side: Side, host: &str, ca: &Ca) -> Result<(), DeploymentError> {
    let folder = |party: &str| deployment.dir().join(format!("{}-{party}", name(side)));
    let (server, dba, owner) = (folder("postgres"), deployment.dba(side), folder("owner"));
    let url = |role: &str, password: &str, database: &str, ca: PathBuf| {
        let ca = ca.display();
        format!("postgres://{role}:{password}@{host}/{database}?sslmode=verify-full&sslrootcert={ca}\n")
    };

    // A DNS name and no identity: no listener takes this certificate for anybody's.
    let certificate = ca.issue(&Subject::nameless().and_dns(host))?;
    certificate.write_to(&server, "server")?;
    let who_may_connect = include_str!("../../../../deploy/postgres/pg_hba.conf");
    write_public(&server.join("pg_hba.conf"), who_may_connect.as_bytes())?;
    for folder in [&dba, &owner] {
        write_public(&folder.join("ca.pem"), ca.certificate_pem().as_bytes())?;
    }

    let superuser = password()?;
    write_secret(&server.join("superuser-password"), superuser.as_bytes())?;
    let superuser_url = url("postgres", &superuser, "postgres", dba.join("ca.pem"));
    write_secret(&dba.join("superuser-url"), superuser_url.as_bytes())?;

    let (owner_password, service_password) = (password()?, password()?);
    let database = side.roles();
    let roles = ["owner", "service"].map(|task| format!("{database}_{task}"));
    let [owner_role, service_role] = &roles;
    let owner_url = url(owner_role, &owner_password, database, owner.join("ca.pem"));
    write_secret(&owner.join("database-url"), owner_url.as_bytes())?;
    let service_ca = deployment.dir().join(name(side)).join("tls/ca.pem");
    let service_url = url(service_role, &service_password, database, service_ca);
    write_secret(&service_url_file(deployment, side), service_url.as_bytes())?;

    let mut sql = String::new();
    for (role, password) in roles.iter().zip([&owner_password, &service_password]) {
        let verifier = verifier(password)?;
        sql += &format!("ALTER ROLE {role} PASSWORD '{verifier}';\n");
    }
    write_secret(&dba.join("passwords.sql"), sql.as_bytes())
}

fn password() -> Result<String, DeploymentError> {
    Ok(HEXLOWER.encode(&random::<BYTES>()?))
}

/// What the server keeps of a password (RFC 5803). It is made here, as psql's `\password` does, so that neither who sets the
/// password nor the server's log sees it.
fn verifier(password: &str) -> Result<String, DeploymentError> {
    let salt = random::<16>()?;
    let mut salted = [0; BYTES];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        ROUNDS,
        &salt,
        password.as_bytes(),
        &mut salted,
    );
    let salted = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client_key = hmac::sign(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let server_key = hmac::sign(&salted, b"Server Key");
    let [salt, stored_key, server_key] =
        [&salt[..], stored_key.as_ref(), server_key.as_ref()].map(|bytes| BASE64.encode(bytes));
    Ok(format!("SCRAM-SHA-256${ROUNDS}:{salt}${stored_key}:{server_key}"))
}

fn random<const N: usize>() -> Result<[u8; N], DeploymentError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| DeploymentError::Randomness)?;
    Ok(bytes)
}
