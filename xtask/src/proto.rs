//! The interfaces against the committed descriptor set: what one side was built with must go on working with the other
//! (clause 5).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::{changelog, proto_comments, proto_diff, shell};

const COMMITTED: &str = "proto/descriptor.binpb";

/// `cargo xtask proto [--accept]`.
pub(crate) fn run(accept: bool) -> Result<()> {
    let root = shell::root();
    let current = compile(&root.join("proto"))?;
    let committed = read_committed(&root)?;
    let differences = proto_diff::differences(&committed, &current);
    for difference in &differences {
        println!("{difference}");
    }
    let uncommented = proto_comments::missing(&current);
    for line in &uncommented {
        println!("{line}");
    }

    if accept && !differences.is_empty() {
        let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
        let changelog = root.join("CHANGELOG.md");
        let text = fs::read_to_string(&changelog).context("cannot read CHANGELOG.md")?;
        fs::write(&changelog, changelog::with_interface_lines(&text, &lines)?)
            .context("cannot write CHANGELOG.md")?;
        fs::write(root.join(COMMITTED), without_source_info(current).encode_to_vec())
            .with_context(|| format!("cannot write {COMMITTED}"))?;
        println!(
            "accepted: {COMMITTED} is rewritten, CHANGELOG.md has {} more lines at most",
            lines.len()
        );
    } else if differences.iter().any(|difference| !difference.is_compatible()) {
        bail!(
            "the protos break the committed interface: undo that, or agree on it with the other side and run \
             `cargo xtask proto --accept`"
        );
    } else if !differences.is_empty() {
        println!("not yet in the committed descriptor set: run `cargo xtask proto --accept`");
    }
    if !uncommented.is_empty() {
        bail!(
            "{} places in the protos lack a comment (listed above)",
            uncommented.len()
        );
    }
    Ok(())
}

fn read_committed(root: &Path) -> Result<FileDescriptorSet> {
    let path = root.join(COMMITTED);
    if !path.exists() {
        return Ok(FileDescriptorSet::default());
    }
    let bytes = fs::read(path).with_context(|| format!("cannot read {COMMITTED}"))?;
    FileDescriptorSet::decode(bytes.as_slice())
        .with_context(|| format!("{COMMITTED} is not a descriptor set: restore it from git"))
}

/// All protos under the folder, with what they import and with their comments.
fn compile(folder: &Path) -> Result<FileDescriptorSet> {
    let mut files = Vec::new();
    find_protos(folder, &mut files)?;
    files.sort();
    let mut compiler = protox::Compiler::new([folder]).context("cannot start the proto compiler")?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(files).context("the protos do not compile")?;
    Ok(compiler.file_descriptor_set())
}

fn find_protos(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {}", folder.display()))?
            .path();
        if path.is_dir() {
            find_protos(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

fn without_source_info(mut set: FileDescriptorSet) -> FileDescriptorSet {
    for file in &mut set.file {
        file.source_code_info = None;
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_are_built_from_every_proto() {
        let built = FileDescriptorSet::decode(koseki_proto::DESCRIPTOR_SET).unwrap();
        let found = without_source_info(compile(&shell::root().join("proto")).unwrap());
        assert_eq!(
            proto_diff::differences(&built, &found),
            [],
            "does proto/build.rs list every file?"
        );
    }

    #[test]
    fn the_committed_set_holds_no_source_text() {
        let committed = read_committed(&shell::root()).unwrap();
        assert!(!committed.file.is_empty());
        assert!(committed.file.iter().all(|file| file.source_code_info.is_none()));
    }
}
