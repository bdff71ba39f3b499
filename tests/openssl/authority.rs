//! An authority in a folder, kept with the `openssl` command: what it makes is another tool's word on what is right.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::clock::{Clock as _, SystemClock};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// Keys of the closed set: algorithm and options of `openssl genpkey`.
pub(crate) const KEYS: [&[&str]; 3] = [
    &["RSA", "rsa_keygen_bits:2048"],
    &["EC", "ec_paramgen_curve:P-256"],
    &["EC", "ec_paramgen_curve:P-384"],
];

/// What a card's certificate says.
#[derive(Clone, Debug)]
pub(crate) struct CardSpec {
    /// Algorithm and options of `openssl genpkey`.
    pub(crate) key: &'static [&'static str],
    /// `keyUsage`.
    pub(crate) key_usage: &'static str,
    /// `certificatePolicies`.
    pub(crate) policies: &'static str,
    /// A further line.
    pub(crate) more: &'static str,
    /// Days from now at which it begins and ends.
    pub(crate) days: (i64, i64),
    /// Digest of the root's signature; empty for the one that counts of its key.
    pub(crate) digest: &'static str,
    /// Options of the root's signature.
    pub(crate) options: &'static [&'static str],
}

impl CardSpec {
    /// As the real ones are.
    pub(crate) fn real() -> Self {
        Self {
            key: KEYS[0],
            key_usage: "critical,digitalSignature",
            policies: "critical,1.2.392.200149.8.5.1.3.30",
            more: "",
            days: (-1, 1_800),
            digest: "",
            options: &[],
        }
    }
}

/// A certificate and its key.
pub(crate) struct Made {
    certificate: PathBuf,
    key: PathBuf,
    digest: &'static str,
    options: Vec<&'static str>,
}

impl Made {
    /// The certificate, DER.
    pub(crate) fn certificate_der(&self) -> Vec<u8> {
        let path = self.certificate.to_str().unwrap();
        openssl(&["x509", "-outform", "DER", "-in", path])
    }

    /// The key's signature over the text.
    pub(crate) fn sign(&self, text: &[u8]) -> Vec<u8> {
        let file = self.key.with_extension("text");
        fs::write(&file, text).unwrap();
        let (key, file) = (self.key.to_str().unwrap(), file.to_str().unwrap());
        openssl(&[&["dgst", self.digest, "-sign", key], &self.options[..], &[file]].concat())
    }

    /// The same card, which signs in another way.
    pub(crate) fn signing_with(&self, digest: &'static str, options: &[&'static str]) -> Self {
        Self {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            digest,
            options: options.to_vec(),
        }
    }
}

/// The digest that counts of a key.
fn digest(key: &[&str]) -> &'static str {
    match key.contains(&"ec_paramgen_curve:P-384") {
        true => "-sha384",
        false => "-sha256",
    }
}

/// A root with the name of the real ones, in the test hierarchy.
pub(crate) struct Authority {
    directory: TempDir,
    key: &'static [&'static str],
    made: Cell<u32>,
}

const CONFIG: &str = "\
[req]
distinguished_name = root_name
x509_extensions = root
prompt = no
[root_name]
C = JP
O = JPKI-TEST
0.OU = JPKI for user authentication
1.OU = Japan Agency for Local Authority Information Systems
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[ca]
default_ca = authority
[authority]
database = FOLDER/index
new_certs_dir = FOLDER
certificate = FOLDER/root.pem
private_key = FOLDER/root-key.pem
crlnumber = FOLDER/number
default_crl_days = 1
rand_serial = yes
unique_subject = no
policy = any_name
preserve = yes
[any_name]
countryName = supplied
commonName = supplied
";

impl Authority {
    /// With a new key.
    pub(crate) fn new(key: &'static [&'static str]) -> Self {
        let this = Self {
            directory: TempDir::new().unwrap(),
            key,
            made: Cell::new(0),
        };
        let folder = this.directory.path().to_str().unwrap();
        fs::write(this.path("config"), CONFIG.replace("FOLDER", folder)).unwrap();
        fs::write(this.path("index"), "").unwrap();
        fs::write(this.path("number"), "1000\n").unwrap();
        let (config, root, root_key) = (
            this.text("config"),
            this.text("root.pem"),
            this.text("root-key.pem"),
        );
        new_key(key, &root_key);
        openssl(&[
            "req",
            "-new",
            "-x509",
            digest(key),
            "-days",
            "3650",
            "-config",
            &config,
            "-key",
            &root_key,
            "-out",
            &root,
        ]);
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// The root's certificate, PEM.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("root.pem")
    }

    /// Makes a key, and a certificate for it.
    pub(crate) fn issue(&self, spec: &CardSpec) -> Made {
        let number = self.made.get() + 1;
        self.made.set(number);
        let extensions = format!(
            "[card]\nkeyUsage = {}\ncertificatePolicies = {}\nauthorityKeyIdentifier = keyid\n\
             crlDistributionPoints = point\n{}\n[point]\nfullname = dirName:point_name\n[point_name]\nC = JP\n\
             O = JPKI-TEST\n0.OU = JPKI for user authentication\n1.OU = CRL Distribution Points\nCN = Sandbox CRLDP\n",
            spec.key_usage, spec.policies, spec.more
        );
        fs::write(self.path("extensions"), extensions).unwrap();
        let (key, request, certificate) = (
            self.text(&format!("{number}-key.pem")),
            self.text(&format!("{number}.csr")),
            self.text(&format!("{number}.pem")),
        );
        new_key(spec.key, &key);
        let subject = format!("/C=JP/CN={number:016}");
        let config = self.text("config");
        openssl(&[
            "req", "-new", "-config", &config, "-key", &key, "-subj", &subject, "-out", &request,
        ]);
        let (begin, end) = spec.days;
        let digest_of_root = match spec.digest {
            "" => digest(self.key).trim_start_matches('-'),
            other => other,
        };
        openssl(
            &[
                &[
                    "ca",
                    "-batch",
                    "-notext",
                    "-config",
                    &config,
                    "-in",
                    &request,
                    "-out",
                    &certificate,
                    "-md",
                    digest_of_root,
                    "-startdate",
                    &end_of_day(begin),
                    "-enddate",
                    &end_of_day(end),
                    "-extfile",
                    &self.text("extensions"),
                    "-extensions",
                    "card",
                ],
                spec.options,
            ]
            .concat(),
        );
        Made {
            certificate: certificate.into(),
            key: key.into(),
            digest: digest(spec.key),
            options: Vec::new(),
        }
    }

    /// Revokes a certificate: the next list names it.
    pub(crate) fn revoke(&self, card: &Made) {
        let certificate = card.certificate.to_str().unwrap();
        openssl(&[
            "ca",
            "-config",
            &self.text("config"),
            "-md",
            "sha256",
            "-revoke",
            certificate,
        ]);
    }

    /// A revocation list, DER.
    pub(crate) fn list(&self) -> Vec<u8> {
        let (config, list) = (self.text("config"), self.text("list.pem"));
        let digest = digest(self.key).trim_start_matches('-');
        openssl(&["ca", "-config", &config, "-md", digest, "-gencrl", "-out", &list]);
        openssl(&["crl", "-outform", "DER", "-in", &list])
    }
}

/// 14:59:59 UTC, the end of the day in Japan, of the day before so many days from now.
fn end_of_day(days: i64) -> String {
    let now = OffsetDateTime::from_unix_timestamp(SystemClock::new().now().unix_ms() / 1_000).unwrap();
    let day = (now + Duration::days(days)).date();
    let day = if days < 1 {
        day.previous_day().unwrap()
    } else {
        day
    };
    format!(
        "{}{:02}{:02}145959Z",
        day.year(),
        u8::from(day.month()),
        day.day()
    )
}

fn new_key(key: &[&str], path: &str) {
    let mut arguments = vec!["genpkey", "-algorithm", key[0]];
    for option in &key[1..] {
        arguments.extend(["-pkeyopt", option]);
    }
    openssl(&[&arguments[..], &["-out", path]].concat());
    assert!(Path::new(path).exists());
}

/// Runs it; what it writes.
fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {error}");
    output.stdout
}
