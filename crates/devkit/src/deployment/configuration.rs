//! Both services' configuration: the commented samples of `deploy/config`, with paths and addresses of this deployment.

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::store::DatabaseConfig;
use toml::{Table, Value};

use super::{
    Addresses, CONSENT_RECEIPT_KEY_ID, Deployment, DeploymentError, ELIGIBILITY_KEY_ID, TRUST_DOMAIN,
    postgres, write_public,
};
use crate::postgres::Side;

/// A sample, being filled in.
struct Sample {
    file: &'static str,
    table: Table,
}

impl Sample {
    fn parse(file: &'static str, text: &str) -> Result<Self, DeploymentError> {
        let table = text
            .parse()
            .map_err(|error: toml::de::Error| DeploymentError::Sample {
                file,
                fault: error.to_string(),
            })?;
        Ok(Self { file, table })
    }

    /// One that was filled in before.
    fn read(file: &'static str, path: &Path) -> Result<Self, DeploymentError> {
        let text = fs::read_to_string(path).map_err(|source| DeploymentError::File {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(file, &text)
    }

    /// Sets a dotted key. The sample has it: a key that it does not have would be refused by the service.
    fn set(&mut self, key: &str, value: &str) -> Result<(), DeploymentError> {
        self.set_value(key, Value::String(value.to_owned()))
    }

    fn set_value(&mut self, key: &str, value: Value) -> Result<(), DeploymentError> {
        let fault = || DeploymentError::Sample {
            file: self.file,
            fault: format!("has no key {key}"),
        };
        let mut names = key.split('.');
        let mut at = names.next().and_then(|name| self.table.get_mut(name));
        for name in names {
            at = at.and_then(|value| value.get_mut(name));
        }
        *at.ok_or_else(fault)? = value;
        Ok(())
    }

    fn set_path(&mut self, key: &str, path: &Path) -> Result<(), DeploymentError> {
        self.set(key, &path.to_string_lossy())
    }

    /// The provider instances that a gateway dials: name, and `host:port`.
    fn set_providers(&mut self, providers: &[(String, String)]) -> Result<(), DeploymentError> {
        let provider = |(instance, address): &(String, String)| {
            let keys = [("address", address), ("instance", instance)];
            let keys = keys.map(|(key, value)| (key.to_owned(), Value::String(value.clone())));
            Value::Table(keys.into_iter().collect())
        };
        let list = providers.iter().map(provider).collect();
        self.set_value("provider", Value::Array(list))
    }

    /// Which database: the section has other keys for each kind.
    fn set_database(&mut self, database: &DatabaseConfig) -> Result<(), DeploymentError> {
        let section = Value::try_from(database).map_err(|error| DeploymentError::Sample {
            file: self.file,
            fault: error.to_string(),
        })?;
        self.table.insert("database".to_owned(), section);
        Ok(())
    }

    fn write_to(&self, path: &Path) -> Result<(), DeploymentError> {
        let text = toml::to_string(&self.table).map_err(|error| DeploymentError::Sample {
            file: self.file,
            fault: error.to_string(),
        })?;
        write_public(path, text.as_bytes())
    }

    /// What both services have alike.
    fn set_common(&mut self, folder: &Path) -> Result<(), DeploymentError> {
        self.set_path("card.roots_dir", &folder.join("card-roots"))?;
        self.set_path("card.crl_dir", &folder.join("card-crls"))?;
        // A list that somebody puts there while trying things out is seen at once.
        self.set_value("card.crl_reload_seconds", Value::Integer(1))?;
        self.set("trust_domain", TRUST_DOMAIN)?;
        self.set_path("policy_file", &folder.join("policy/provision-policy.toml"))?;
        let next = folder.join("next-policy/provision-policy.toml");
        self.set_path("next_policy_file", &next)?;
        self.set_path("keyring_file", &folder.join("keyring.toml"))?;
        self.set_path("evidence.witness_key", &folder.join("witness-key.pem"))?;
        self.set_path("evidence.log_keys", &folder.join(super::evidence_keys::LOG_KEYS))?;
        self.set_path("tls.peer_ca", &folder.join("tls/ca.pem"))?;
        // The harness learns addresses from log lines.
        self.set("log.format", "json")
    }

    /// What an instance has for itself: its name and its certificate.
    fn set_instance(&mut self, instance: &str, folder: &Path, name: &str) -> Result<(), DeploymentError> {
        self.set("instance", instance)?;
        self.set_path("tls.certificate", &folder.join(format!("tls/{name}.pem")))?;
        self.set_path("tls.private_key", &folder.join(format!("tls/{name}-key.pem")))
    }

    fn set_provider_instance(
        &mut self,
        deployment: &Deployment,
        addresses: &Addresses,
    ) -> Result<(), DeploymentError> {
        let name = deployment.file_name("provider");
        self.set_instance(&deployment.provider_instance(), &deployment.provider(), &name)?;
        self.set_path("evidence.checkpoint_key", &deployment.provider_checkpoint_key())?;
        self.set_path("receipt_key", &deployment.receipt_key())?;
        self.set("listen.linkage", &addresses.linkage.to_string())?;
        self.set("listen.ingest", &addresses.ingest.to_string())?;
        self.set("listen.admin", &addresses.provider_admin.to_string())?;
        self.set("listen.ops", &addresses.provider_ops.to_string())
    }

    fn set_gateway_instance(
        &mut self,
        deployment: &Deployment,
        addresses: &Addresses,
    ) -> Result<(), DeploymentError> {
        let name = deployment.file_name("gateway");
        self.set_instance(&deployment.gateway_instance(), &deployment.gateway(), &name)?;
        self.set_path("evidence.checkpoint_key", &deployment.gateway_checkpoint_key())?;
        self.set("listen.portal", &addresses.portal.to_string())?;
        self.set("listen.admin", &addresses.gateway_admin.to_string())?;
        self.set("listen.ops", &addresses.gateway_ops.to_string())?;
        self.set_providers(&[(deployment.provider_instance(), addresses.provider.clone())])?;
        self.set_path("eligibility.private_key", &deployment.eligibility_key())
    }
}

/// A side's database: on its PostgreSQL server where there is one, in this file otherwise.
fn database(deployment: &Deployment, addresses: &Addresses, side: Side, file: PathBuf) -> DatabaseConfig {
    match addresses.postgres {
        Some(_) => DatabaseConfig::Postgres {
            url_file: postgres::service_url_file(deployment, side),
        },
        None => DatabaseConfig::Sqlite { file },
    }
}

pub(super) fn write_provider(deployment: &Deployment, addresses: &Addresses) -> Result<(), DeploymentError> {
    let folder = deployment.provider();
    let mut sample = Sample::parse(
        "provider.toml",
        include_str!("../../../../deploy/config/provider.toml"),
    )?;
    sample.set_common(&folder)?;
    let file = deployment.provider_database();
    sample.set_database(&database(deployment, addresses, Side::Provider, file))?;
    sample.set_path("eligibility_keys_dir", &folder.join("eligibility-keys"))?;
    sample.set_provider_instance(deployment, addresses)?;
    sample.write_to(&deployment.provider_config())
}

pub(super) fn write_gateway(deployment: &Deployment, addresses: &Addresses) -> Result<(), DeploymentError> {
    let folder = deployment.gateway();
    let mut sample = Sample::parse(
        "gateway.toml",
        include_str!("../../../../deploy/config/gateway.toml"),
    )?;
    sample.set_common(&folder)?;
    let file = deployment.gateway_database();
    sample.set_database(&database(deployment, addresses, Side::Gateway, file))?;
    sample.set("eligibility.key_id", ELIGIBILITY_KEY_ID)?;
    sample.set_path("consent_receipt.private_key", &deployment.consent_receipt_key())?;
    sample.set("consent_receipt.key_id", CONSENT_RECEIPT_KEY_ID)?;
    sample.set_gateway_instance(deployment, addresses)?;
    sample.write_to(&deployment.gateway_config())
}

/// Another instance of both services: the first one's configuration, but for what an instance has for itself.
pub(super) fn write_instance(
    first: &Deployment,
    other: &Deployment,
    addresses: &Addresses,
) -> Result<(), DeploymentError> {
    let mut sample = Sample::read("provider.toml", &first.provider_config())?;
    sample.set_provider_instance(other, addresses)?;
    sample.write_to(&other.provider_config())?;
    let mut sample = Sample::read("gateway.toml", &first.gateway_config())?;
    sample.set_gateway_instance(other, addresses)?;
    sample.write_to(&other.gateway_config())
}

pub(super) fn point_gateway_at(path: &Path, providers: &[(String, String)]) -> Result<(), DeploymentError> {
    let mut sample = Sample::read("gateway.toml", path)?;
    sample.set_providers(providers)?;
    sample.write_to(path)
}
