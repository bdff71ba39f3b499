//! Compiles the protos with protox (no `protoc` to install) and writes the descriptor set beside the code.
//!
//! Messages carry names, codes and tokens, so none gets a derived `Debug`: the one that is written here prints the
//! message's name and nothing of its content.

use std::{env, fmt::Write as _, fs, path::PathBuf};

use prost::Message as _;

const FILES: &[&str] = &[
    "koseki/admin/v1/admin.proto",
    "koseki/common/v1/approval.proto",
    "koseki/common/v1/common.proto",
    "koseki/common/v1/status.proto",
    "koseki/evidence/v1/audit.proto",
    "koseki/evidence/v1/evidence.proto",
    "koseki/ingest/v1/ingest.proto",
    "koseki/linkage/v1/linkage.proto",
    "portal/admin/v1/admin.proto",
    "portal/v1/portal.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    fs::write(out.join("descriptor.binpb"), descriptors.encode_to_vec())?;

    let mut redacted = String::new();
    for file in &descriptors.file {
        if file.package().starts_with("google.") {
            continue;
        }
        let module = file.package().replace('.', "::");
        for message in &file.message_type {
            let name = message.name();
            write_redacted(&mut redacted, &format!("crate::{module}::{name}"), name)?;
            for oneof in &message.oneof_decl {
                let path = format!("crate::{module}::{}::{}", snake(name), camel(oneof.name()));
                write_redacted(&mut redacted, &path, oneof.name())?;
            }
        }
    }
    for file in descriptors
        .file
        .iter()
        .filter(|file| !file.package().starts_with("google."))
    {
        let module = file.package().replace('.', "::");
        for enumeration in &file.enum_type {
            // Values of an enumeration are not personal: their name is told.
            write_debug(
                &mut redacted,
                &format!("crate::{module}::{}", enumeration.name()),
                "self.as_str_name()",
            )?;
        }
    }
    fs::write(out.join("redacted.rs"), redacted)?;

    tonic_prost_build::configure()
        .skip_debug(["."])
        .build_transport(true)
        .compile_fds(descriptors)?;
    Ok(())
}

fn write_redacted(out: &mut String, path: &str, name: &str) -> std::fmt::Result {
    write_debug(out, path, &format!("\"{name} {{ .. }}\""))
}

fn write_debug(out: &mut String, path: &str, text: &str) -> std::fmt::Result {
    writeln!(
        out,
        "impl ::core::fmt::Debug for {path} {{\n    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> \
         ::core::fmt::Result {{\n        f.write_str({text})\n    }}\n}}"
    )
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

fn camel(name: &str) -> String {
    name.split('_')
        .filter_map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
        })
        .collect()
}
