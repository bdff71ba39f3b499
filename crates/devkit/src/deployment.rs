//! A whole deployment in one directory: certificates, keys, policy, data and both services' configuration.
//!
//! Each folder belongs to one party and holds all that this party needs, so that a container can be given its own folder
//! and no other:
//!
//! ```text
//! <dir>/
//!   authority/                the development CA and the card root, with their private keys; nobody's service reads it
//!   provider/                 koseki-provider: provider.toml, keyring.toml, receipt-key.pem, checkpoint-key.pem,
//!                             witness-key.pem, log-keys.txt, tls/, policy/, eligibility-keys/, card-roots/, card-crls/
//!   provider-state/           its database, a file
//!   gateway/                  portal-gateway: gateway.toml, keyring.toml, eligibility-key.pem, consent-receipt-key.pem,
//!                             checkpoint-key.pem, witness-key.pem, log-keys.txt, tls/, policy/, card-roots/, card-crls/
//!   gateway-state/            its database, a file
//!   clients/<role>/           <name>.pem and <name>-key.pem of each caller of the role, and ca.pem; portal-frontend/ has
//!                             consent-receipt-keys/, the public keys that anybody verifies consent receipts with; it and
//!                             auditor/ have log-keys.txt
//!   data/                     the data set and the scenario persons' cards (docs/sandbox.md)
//!   logs/                     what the process harness captures
//! ```
//!
//! On PostgreSQL there are, in place of `<side>-state/`:
//!
//! ```text
//!   <side>-postgres/          the side's database server: its certificate, who may connect, the superuser's password
//!   <side>-dba/               who sets it up: superuser-url, passwords.sql, ca.pem
//!   <side>-owner/             who migrates: database-url, ca.pem
//!   <side>/database-url       the service's own
//! ```
//!
//! A municipality's name is `<code>/<officer>`, so that its files are `clients/municipality/<code>/<officer>.pem`.

mod certificates;
mod configuration;
mod evidence_keys;
mod keyring;
mod policy;
mod postgres;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use common::{identity::Role, tls::TlsFiles};

use crate::{
    card::{CardError, CardProfile, CardRoot, VirtualCard},
    files,
    pki::PkiError,
    postgres::Side,
    registers::{DataError, DataSet, ScenarioCards, ScenarioPerson},
    wall_clock,
};

/// Trust domain of every deployment that is made here.
pub const TRUST_DOMAIN: &str = "koseki.example";
/// Instance name of the provider.
pub const PROVIDER_INSTANCE: &str = "provider-1";
/// Instance name of the gateway.
pub const GATEWAY_INSTANCE: &str = "gateway-1";
/// The portal frontend.
pub const FRONTEND: &str = "demo";
/// Two operators, because opening takes two; each may act on both sides.
pub const OPERATORS: [&str; 2] = ["alice", "bob"];
/// An auditor.
pub const AUDITOR: &str = "carol";
/// Name of the one officer that each municipality has.
pub const OFFICER: &str = "desk-1";
/// Id of the gateway's eligibility key.
const ELIGIBILITY_KEY_ID: &str = "1";
/// Id of the portal side's key for consent receipts.
const CONSENT_RECEIPT_KEY_ID: &str = "1";

/// Why a deployment could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum DeploymentError {
    /// A certificate or key.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A card or the card root.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file.
    #[error("{path}: cannot be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The sample configuration that this program was built with.
    #[error("the sample configuration {file}: {fault}")]
    Sample {
        /// Its name.
        file: &'static str,
        /// What is wrong with it.
        fault: String,
    },
    /// `scenarios.json` is not the list of scenario persons.
    #[error("{path}: is not the list of scenario persons")]
    Scenarios {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Keys cannot be made without randomness.
    #[error("the system gives no randomness")]
    Randomness,
}

/// What to make.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seed of the data set.
    pub seed: u64,
    /// Registers in it.
    pub registers: usize,
    /// Where the services listen and find each other.
    pub addresses: Addresses,
}

/// Where the services listen and find each other.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The provider's linkage listener.
    pub linkage: SocketAddr,
    /// The provider's ingest listener.
    pub ingest: SocketAddr,
    /// The provider's admin listener.
    pub provider_admin: SocketAddr,
    /// The provider's operations port.
    pub provider_ops: SocketAddr,
    /// The gateway's portal listener.
    pub portal: SocketAddr,
    /// The gateway's admin listener.
    pub gateway_admin: SocketAddr,
    /// The gateway's operations port.
    pub gateway_ops: SocketAddr,
    /// `host:port` where the gateway finds the provider's linkage listener.
    pub provider: String,
    /// The sides' PostgreSQL servers; without them each side has a SQLite file.
    pub postgres: Option<PostgresHosts>,
}

/// Names of the sides' PostgreSQL servers. Each side has its own: they are two organisations.
#[derive(Clone, Debug)]
pub struct PostgresHosts {
    /// The provider's.
    pub provider: String,
    /// The gateway's.
    pub gateway: String,
}

impl PostgresHosts {
    fn of(&self, side: Side) -> &str {
        match side {
            Side::Provider => &self.provider,
            Side::Gateway => &self.gateway,
        }
    }
}

impl Addresses {
    /// Any free port on loopback. The gateway's configuration is to be pointed at the provider when its port is known
    /// ([`Deployment::point_gateway_at`]).
    pub fn loopback() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            linkage: any,
            ingest: any,
            provider_admin: any,
            provider_ops: any,
            portal: any,
            gateway_admin: any,
            gateway_ops: any,
            provider: any.to_string(),
            postgres: None,
        }
    }

    /// For containers, each of which has its own address on each of its networks; health is asked from inside. The names
    /// are those of `deploy/compose.yaml`.
    pub fn containers() -> Self {
        let everywhere = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let inside = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            linkage: everywhere(7441),
            ingest: everywhere(7442),
            provider_admin: everywhere(7443),
            provider_ops: inside(7449),
            portal: everywhere(7451),
            gateway_admin: everywhere(7453),
            gateway_ops: inside(7459),
            provider: "provider:7441".to_owned(),
            postgres: Some(PostgresHosts {
                provider: "provider-postgres".to_owned(),
                gateway: "gateway-postgres".to_owned(),
            }),
        }
    }
}

/// A deployment in its directory, and one instance of each service in it: the first, unless [`Self::add_instance`] made
/// it.
#[derive(Clone, Debug)]
pub struct Deployment {
    dir: PathBuf,
    instance: u32,
}

impl Deployment {
    /// One that is there already.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            instance: 1,
        }
    }

    /// Makes everything; existing databases are left alone.
    ///
    /// # Errors
    /// When a key or certificate cannot be made, or a file cannot be written.
    pub fn create(dir: impl Into<PathBuf>, plan: &Plan) -> Result<Self, DeploymentError> {
        let this = Self::at(dir);
        if plan.addresses.postgres.is_none() {
            for folder in [this.provider_state(), this.gateway_state()] {
                fs::create_dir_all(&folder)
                    .map_err(|source| DeploymentError::File { path: folder, source })?;
            }
        }
        let card_root = CardRoot::new()?;
        card_root.write_to(&this.dir.join("authority"))?;
        let cards = ScenarioCards::create(&card_root)?;
        let data = DataSet::generate(plan.seed, plan.registers, &cards)?;
        data.write_to(&this.data())?;
        cards.write_to(&this.data())?;
        this.write_card_authority(&card_root, &cards)?;
        let ca = certificates::write(&this, data.copies.keys())?;
        if let Some(hosts) = &plan.addresses.postgres {
            postgres::write(&this, hosts, &ca)?;
        }
        for side in [this.provider(), this.gateway()] {
            policy::write(&side.join("policy"))?;
        }
        keyring::write(
            &this.provider().join("keyring.toml"),
            &["sealing", "lookup", "pseudonym", "beacon", "handle", "feed"],
        )?;
        keyring::write(
            &this.gateway().join("keyring.toml"),
            &["sealing", "lookup", "pseudonym", "page_token"],
        )?;
        evidence_keys::write_sides(&this)?;
        configuration::write_provider(&this, &plan.addresses)?;
        configuration::write_gateway(&this, &plan.addresses)?;
        Ok(this)
    }

    /// Another instance of both services, on the same databases and with the same keys and policy as the first. It has
    /// certificates, an eligibility key, configuration and audit logs of its own. Services read the eligibility keys when
    /// they start: add instances before.
    ///
    /// # Errors
    /// When a certificate cannot be made, or a file cannot be read or written.
    pub fn add_instance(&self, number: u32, addresses: &Addresses) -> Result<Self, DeploymentError> {
        let other = Self {
            dir: self.dir.clone(),
            instance: number,
        };
        certificates::write_instance(&other)?;
        evidence_keys::write_instance(&other)?;
        configuration::write_instance(self, &other, addresses)?;
        Ok(other)
    }

    /// What both sides check cards with: the root, and a revocation list that is in force now.
    fn write_card_authority(&self, root: &CardRoot, cards: &ScenarioCards) -> Result<(), DeploymentError> {
        let now = wall_clock::now();
        let number = u64::try_from(now.unix_timestamp()).unwrap_or_default();
        let list = root.crl(
            &cards.revoked_serials(),
            number,
            now.saturating_sub(time::Duration::minutes(5)),
            now.saturating_add(time::Duration::days(7)),
        )?;
        for side in [self.provider(), self.gateway()] {
            write_public(
                &side.join("card-roots/card-root.pem"),
                root.certificate_pem().as_bytes(),
            )?;
            write_public(&side.join("card-crls/card-root.crl"), &list)?;
        }
        Ok(())
    }

    /// The root that issued the scenario persons' cards.
    ///
    /// # Errors
    /// When a file cannot be read, or is not what it should be.
    pub fn card_root(&self) -> Result<CardRoot, DeploymentError> {
        Ok(CardRoot::read_from(&self.dir.join("authority"))?)
    }

    /// Issues another card of the deployment's card root.
    ///
    /// # Errors
    /// When the root cannot be read, or the card cannot be made.
    pub fn issue_card(&self, profile: &CardProfile) -> Result<VirtualCard, DeploymentError> {
        Ok(self.card_root()?.issue(profile)?)
    }

    /// Publishes a newer revocation list for both sides, which names these serials and no others.
    ///
    /// # Errors
    /// When the root cannot be read, or the list cannot be made or written.
    pub fn publish_revocations(&self, revoked: &[Vec<u8>]) -> Result<(), DeploymentError> {
        let now = wall_clock::now();
        let number = u64::try_from(now.unix_timestamp())
            .unwrap_or_default()
            .saturating_add(1);
        let list =
            self.card_root()?
                .crl(revoked, number, now, now.saturating_add(time::Duration::days(7)))?;
        for side in [self.provider(), self.gateway()] {
            // Whoever reads the folder meanwhile reads the list before it, or this one as a whole.
            let (path, beside) = (side.join("card-crls/card-root.crl"), side.join("card-crls/next"));
            write_public(&beside, &list)?;
            fs::rename(&beside, &path).map_err(|source| DeploymentError::File { path, source })?;
        }
        Ok(())
    }

    /// Says to the gateway where it finds this provider (`host:port`) and no other, for the next time that it is started.
    ///
    /// # Errors
    /// When its configuration cannot be read or written.
    pub fn point_gateway_at(&self, provider: &str) -> Result<(), DeploymentError> {
        self.point_gateway_at_all(&[(self.provider_instance(), provider.to_owned())])
    }

    /// Says to the gateway where it finds each of these provider instances (name, and `host:port`), for the next time that it is
    /// started.
    ///
    /// # Errors
    /// When its configuration cannot be read or written.
    pub fn point_gateway_at_all(&self, providers: &[(String, String)]) -> Result<(), DeploymentError> {
        configuration::point_gateway_at(&self.gateway_config(), providers)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file name, without its ending, of what an instance has for itself.
    fn file_name(&self, service: &str) -> String {
        match self.instance {
            1 => service.to_owned(),
            number => format!("{service}-{number}"),
        }
    }

    /// Name of the provider's instance.
    pub fn provider_instance(&self) -> String {
        format!("provider-{}", self.instance)
    }

    /// Name of the gateway's instance.
    pub fn gateway_instance(&self) -> String {
        format!("gateway-{}", self.instance)
    }

    /// The provider's folder.
    pub fn provider(&self) -> PathBuf {
        self.dir.join("provider")
    }

    /// The folder of the provider's database.
    pub fn provider_state(&self) -> PathBuf {
        self.dir.join("provider-state")
    }

    /// The provider's configuration file.
    pub fn provider_config(&self) -> PathBuf {
        self.provider()
            .join(format!("{}.toml", self.file_name("provider")))
    }

    /// The provider's database.
    pub fn provider_database(&self) -> PathBuf {
        self.provider_state().join("provider.sqlite")
    }

    /// The gateway's folder.
    pub fn gateway(&self) -> PathBuf {
        self.dir.join("gateway")
    }

    /// The private key of the gateway's eligibilities.
    fn eligibility_key(&self) -> PathBuf {
        self.gateway()
            .join(format!("{}.pem", self.file_name("eligibility-key")))
    }

    /// The private key of the provider's receipts.
    pub fn receipt_key(&self) -> PathBuf {
        self.provider()
            .join(format!("{}.pem", self.file_name("receipt-key")))
    }

    /// The private key of the checkpoints of the provider's log.
    fn provider_checkpoint_key(&self) -> PathBuf {
        self.provider()
            .join(format!("{}.pem", self.file_name("checkpoint-key")))
    }

    /// The private key of the checkpoints of the gateway's log.
    fn gateway_checkpoint_key(&self) -> PathBuf {
        self.gateway()
            .join(format!("{}.pem", self.file_name("checkpoint-key")))
    }

    /// The public keys of both sides' logs, as auditors have them.
    pub fn log_keys(&self) -> PathBuf {
        self.clients(Role::Auditor).join(evidence_keys::LOG_KEYS)
    }

    /// The private key of the portal side's consent receipts, which all its instances share.
    fn consent_receipt_key(&self) -> PathBuf {
        self.gateway().join("consent-receipt-key.pem")
    }

    /// The public keys that consent receipts are verified with.
    pub fn consent_receipt_keys(&self) -> PathBuf {
        self.clients(Role::PortalFrontend).join("consent-receipt-keys")
    }

    /// The folder of the gateway's database.
    pub fn gateway_state(&self) -> PathBuf {
        self.dir.join("gateway-state")
    }

    /// The gateway's configuration file.
    pub fn gateway_config(&self) -> PathBuf {
        self.gateway().join(format!("{}.toml", self.file_name("gateway")))
    }

    /// The gateway's database.
    pub fn gateway_database(&self) -> PathBuf {
        self.gateway_state().join("gateway.sqlite")
    }

    /// The folder of who sets up a side's PostgreSQL database.
    pub fn dba(&self, side: Side) -> PathBuf {
        self.dir.join(format!("{}-dba", postgres::name(side)))
    }

    /// The data set.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What the process harness captures.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// What the process harness captures of the provider.
    pub fn provider_log(&self) -> PathBuf {
        self.logs().join(format!("{}.log", self.file_name("provider")))
    }

    /// What the process harness captures of the gateway.
    pub fn gateway_log(&self) -> PathBuf {
        self.logs().join(format!("{}.log", self.file_name("gateway")))
    }

    /// The folder of a role's callers.
    pub fn clients(&self, role: Role) -> PathBuf {
        self.dir.join("clients").join(role.as_str())
    }

    /// The certificate files of a caller.
    pub fn client(&self, role: Role, name: &str) -> TlsFiles {
        let folder = self.clients(role);
        TlsFiles {
            certificate: folder.join(format!("{name}.pem")),
            private_key: folder.join(format!("{name}-key.pem")),
            peer_ca: folder.join("ca.pem"),
        }
    }

    /// Each municipality's code and its file of register copies.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn copies(&self) -> Result<Vec<(String, PathBuf)>, DeploymentError> {
        let folder = self.data().join("copies");
        let failed = |source| DeploymentError::File {
            path: folder.clone(),
            source,
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if let Some(code) = path.file_stem() {
                found.push((code.to_string_lossy().into_owned(), path.clone()));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Persons and linkages for the registry side.
    pub fn persons(&self) -> PathBuf {
        self.data().join("persons-registry.jsonl")
    }

    /// Linkages for the portal side.
    pub fn linkages(&self) -> PathBuf {
        self.data().join("linkages-portal.jsonl")
    }

    /// The scenario persons.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn scenarios(&self) -> Result<Vec<ScenarioPerson>, DeploymentError> {
        let path = self.data().join("scenarios.json");
        let text = fs::read(&path).map_err(|source| DeploymentError::File {
            path: path.clone(),
            source,
        })?;
        serde_json::from_slice(&text).map_err(|source| DeploymentError::Scenarios { path, source })
    }

    /// The card of a scenario person.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn card(&self, person: &ScenarioPerson) -> Result<VirtualCard, DeploymentError> {
        Ok(VirtualCard::read_from(&self.data().join("cards"), &person.name)?)
    }
}

fn write_public(path: &Path, content: &[u8]) -> Result<(), DeploymentError> {
    files::write_public(path, content).map_err(|source| DeploymentError::File {
        path: path.to_owned(),
        source,
    })
}

fn write_secret(path: &Path, content: &[u8]) -> Result<(), DeploymentError> {
    files::write_secret(path, content).map_err(|source| DeploymentError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use common::{keyring::Keyring, policy::Policy, tls::TlsMaterial};

    use super::*;

    #[test]
    fn what_is_made_is_what_the_services_take() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan {
            seed: 7,
            registers: 40,
            addresses: Addresses::loopback(),
        };
        let made = Deployment::create(dir.path(), &plan).unwrap();

        Policy::load(&made.provider().join("policy/provision-policy.toml")).unwrap();
        assert!(
            Keyring::load(&made.provider().join("keyring.toml"))
                .unwrap()
                .beacon
                .is_some()
        );
        assert!(
            Keyring::load(&made.gateway().join("keyring.toml"))
                .unwrap()
                .beacon
                .is_none()
        );
        for (code, _) in made.copies().unwrap() {
            TlsMaterial::load(&made.client(Role::Municipality, &format!("{code}/{OFFICER}"))).unwrap();
        }
        TlsMaterial::load(&made.client(Role::PortalFrontend, FRONTEND)).unwrap();
        assert_eq!(
            made.scenarios().unwrap().len(),
            crate::registers::Scenario::ALL.len()
        );

        made.point_gateway_at("127.0.0.1:9").unwrap();
        let gateway = fs::read_to_string(made.gateway_config()).unwrap();
        assert!(gateway.contains("\"127.0.0.1:9\""));
        let providers = ["provider-1", "provider-2"].map(|name| (name.to_owned(), "127.0.0.1:9".to_owned()));
        made.point_gateway_at_all(&providers).unwrap();
        let gateway = fs::read_to_string(made.gateway_config()).unwrap();
        assert_eq!(gateway.matches("[[provider]]").count(), 2);

        let second = made.add_instance(2, &Addresses::loopback()).unwrap();
        let provider = fs::read_to_string(second.provider_config()).unwrap();
        let gateway = fs::read_to_string(second.gateway_config()).unwrap();
        assert!(provider.contains("instance = \"provider-2\""));
        assert!(gateway.contains("instance = \"gateway-2\"") && !gateway.contains("\"127.0.0.1:9\""));
        let material = TlsMaterial::load(&TlsFiles {
            certificate: made.provider().join("tls/provider-2.pem"),
            private_key: made.provider().join("tls/provider-2-key.pem"),
            peer_ca: made.provider().join("tls/ca.pem"),
        });
        material.unwrap();
    }

    #[test]
    fn a_party_finds_its_own_password_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan {
            seed: 7,
            registers: 40,
            addresses: Addresses::containers(),
        };
        Deployment::create(dir.path(), &plan).unwrap();
        let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
        for side in ["provider", "gateway"] {
            assert!(!dir.path().join(format!("{side}-state")).exists());
            let service = read(&format!("{side}/database-url"));
            assert!(service.contains("_service:"), "{side}");
            let ca = dir.path().join(side).join("tls/ca.pem");
            let ending = format!("?sslmode=verify-full&sslrootcert={}\n", ca.display());
            assert!(service.contains(&format!("@{side}-postgres/")) && service.ends_with(&ending));
            let password = |url: &str| url.split([':', '@']).nth(2).unwrap().to_owned();
            let passwords = [
                password(&service),
                password(&read(&format!("{side}-owner/database-url"))),
                read(&format!("{side}-postgres/superuser-password")),
            ];
            let set = read(&format!("{side}-dba/passwords.sql"));
            for (number, password) in passwords.iter().enumerate() {
                assert_eq!(password.len(), 64);
                assert!(!set.contains(password.as_str()));
                assert!(!passwords[..number].contains(password));
            }
            let config = read(&format!("{side}/{side}.toml"));
            assert!(config.contains("kind = \"postgres\"") && !config.contains("sqlite"));
        }
    }
}
