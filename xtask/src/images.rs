//! Builds the container images: a static binary each, in an image with nothing else in it; and where no other PostgreSQL
//! image is named, the stand-in for one.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::{shell, workspace::Workspace};

/// One image.
struct Image {
    package: &'static str,
    binary: &'static str,
    tag: &'static str,
}

const IMAGES: [Image; 3] = [
    Image {
        package: "koseki-provider",
        binary: "koseki-provider",
        tag: "koseki-provider:dev",
    },
    Image {
        package: "portal-gateway",
        binary: "portal-gateway",
        tag: "portal-gateway:dev",
    },
    Image {
        package: "devkit",
        binary: "demo",
        tag: "koseki-devkit:dev",
    },
];

/// What is not there yet, so that the images cannot be built.
pub(crate) fn missing_binaries() -> Result<Vec<String>> {
    let workspace = Workspace::load()?;
    let missing = IMAGES
        .iter()
        .filter(|image| !workspace.has_target(image.package, "bin", image.binary));
    Ok(missing
        .map(|image| format!("package {} has no binary {}", image.package, image.binary))
        .collect())
}

/// `cargo xtask images`.
pub(crate) fn build() -> Result<()> {
    let missing = missing_binaries()?;
    if !missing.is_empty() {
        bail!("the images cannot be built: {}", missing.join(", "));
    }
    let host = host()?;
    if !host.ends_with("-linux-gnu") {
        bail!("the images hold Linux binaries and are built on Linux with glibc; this host is {host}");
    }

    // A target directory of its own: the flags would rebuild everything in the usual one, each time and back. The
    // target is named so that the flags do not reach build scripts and procedural macros.
    let target = shell::root().join("target/images");
    let mut cargo = shell::cargo(&["build", "--release", "--bins", "--target", &host]);
    for image in &IMAGES {
        cargo.args(["--package", image.package]);
    }
    cargo
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_TARGET_DIR", &target);
    cargo
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    shell::run(&mut cargo)?;

    for image in &IMAGES {
        let context = target.join("context").join(image.binary);
        stage(
            &target.join(&host).join("release").join(image.binary),
            &context,
            image.binary,
        )?;
        let mut docker = shell::command("docker");
        docker.args([
            "build",
            "--tag",
            image.tag,
            "--build-arg",
            &format!("BINARY={}", image.binary),
            ".",
        ]);
        // The legacy builder is what every engine has, and it needs no network.
        shell::run(docker.current_dir(&context).env("DOCKER_BUILDKIT", "0"))?;
    }
    if needs_stand_in() {
        shell::run(&mut shell::command("deploy/postgres/stand-in-image.sh"))?;
    }
    Ok(())
}

/// Whether deploy/compose.yaml takes the stand-in: then Debian's PostgreSQL must be there.
pub(crate) fn needs_stand_in() -> bool {
    env::var_os("KOSEKI_POSTGRES_IMAGE").is_none_or(|image| image.is_empty())
}

/// Where deploy/compose.yaml mounts volumes, under /deployment: the layout of `devkit::deployment`.
const MOUNT_POINTS: [&str; 16] = [
    "authority",
    "clients/auditor",
    "clients/municipality",
    "clients/operator",
    "clients/portal-frontend",
    "data",
    "gateway",
    "gateway-dba",
    "gateway-owner",
    "gateway-postgres",
    "gateway-postgres-state",
    "provider",
    "provider-dba",
    "provider-owner",
    "provider-postgres",
    "provider-postgres-state",
];

/// Lays out what the engine gets to see: the binary, the Dockerfile, and the empty folders for volumes.
fn stage(built: &Path, context: &Path, binary: &str) -> Result<()> {
    for folder in MOUNT_POINTS {
        let folder = context.join("deployment").join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::copy(built, context.join(binary)).with_context(|| format!("cannot copy {}", built.display()))?;
    let dockerfile = shell::root().join("deploy/Dockerfile");
    fs::copy(&dockerfile, context.join("Dockerfile")).context("cannot copy deploy/Dockerfile")?;
    Ok(())
}

/// The triple of this machine.
fn host() -> Result<String> {
    let said = shell::output(shell::command("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}
