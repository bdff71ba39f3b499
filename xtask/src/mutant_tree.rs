//! A copy of the working tree to break, in target/mutants/tree.
//!
//! It is built in a target directory of its own. Cargo names what it builds from a workspace's own packages by their
//! place *within* the workspace, so two trees that shared a target directory would take each other's artefacts for
//! their own, broken ones included.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::shell;

pub(crate) struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// Brings the copy up to date with the working tree: what git has, and what it does not ignore. Only what differs
    /// is written, so that only that is built again.
    pub(crate) fn update() -> Result<Self> {
        let origin = shell::root();
        let folder = origin.join("target/mutants");
        let tree = Self {
            root: folder.join("tree"),
            target: folder.join("target"),
        };
        let mut git = shell::command("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let files = shell::output(&mut git)?;
        let files: BTreeSet<PathBuf> = files
            .split('\0')
            .filter(|file| !file.is_empty())
            .map(PathBuf::from)
            .filter(|file| origin.join(file).is_file())
            .collect();
        for file in &files {
            copy_if_different(&origin.join(file), &tree.root.join(file))?;
        }
        remove_others(&tree.root, Path::new(""), &files)?;
        if !tree.target.exists() {
            seed(&tree.target, &origin.join("target"))?;
        }
        Ok(tree)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Replaces the one place where the text stands, until the guard is dropped.
    pub(crate) fn break_file(&self, file: &str, find: &str, replace: &str) -> Result<Broken> {
        let path = self.root.join(file);
        let intact = fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
        let broken = replace_once(&intact, find, replace).with_context(|| format!("in {file}"))?;
        fs::write(&path, broken).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Broken { path, intact })
    }
}

/// A file that is broken for now.
pub(crate) struct Broken {
    path: PathBuf,
    intact: String,
}

impl Drop for Broken {
    fn drop(&mut self) {
        // Should this fail, the next update of the tree finds the difference and puts it right.
        if let Err(error) = fs::write(&self.path, &self.intact) {
            eprintln!("cannot restore {}: {error}", self.path.display());
        }
    }
}

/// Takes over the libraries that the working tree has built, with their times, by which cargo knows that nothing of a registry's
/// crates has changed. The sources of the copy are newer than that: they are built from what stands in the copy.
fn seed(target: &Path, built: &Path) -> Result<()> {
    let script = "mkdir -p \"$1/debug/deps\" && cd \"$0/debug\" && cp -a .fingerprint build \"$1/debug\" && \
                  find deps -name '*.*' -exec cp -a -t \"$1/debug/deps\" {} +";
    if !built.join("debug/deps").is_dir() {
        return Ok(());
    }
    shell::run(shell::command("sh").args(["-c", script]).arg(built).arg(target))
        .context("cannot take over what the working tree has built")
}

fn replace_once(text: &str, find: &str, replace: &str) -> Result<String> {
    match text.matches(find).count() {
        1 => Ok(text.replacen(find, replace, 1)),
        0 => bail!("the text to replace is not there: it has changed, so adapt the mutant"),
        count => bail!("the text to replace is there {count} times: take more of what is around it"),
    }
}

fn copy_if_different(from: &Path, to: &Path) -> Result<()> {
    let wanted = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    // The copy gets the time of now: cargo has to see that it is new. It keeps the permissions.
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

fn remove_others(root: &Path, folder: &Path, wanted: &BTreeSet<PathBuf>) -> Result<()> {
    let path = root.join(folder);
    let entries = fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", path.display()))?;
        let inner = folder.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_others(root, &inner, wanted)?;
        } else if !wanted.contains(&inner) {
            fs::remove_file(entry.path()).with_context(|| format!("cannot remove {}", inner.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_must_stand_exactly_once() {
        assert_eq!(replace_once("a b c", "b", "x").unwrap(), "a x c");
        assert!(replace_once("a b c", "d", "x").is_err());
        assert!(replace_once("a b b", "b", "x").is_err());
    }

    #[test]
    fn only_what_differs_is_copied_and_what_is_gone_goes() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(to.path().join("old")).unwrap();
        fs::write(to.path().join("old/file"), "x").unwrap();
        fs::write(from.path().join("same"), "1").unwrap();
        fs::write(to.path().join("same"), "1").unwrap();
        let before = fs::metadata(to.path().join("same")).unwrap().modified().unwrap();

        let wanted = BTreeSet::from([PathBuf::from("same"), PathBuf::from("new/file")]);
        fs::create_dir(from.path().join("new")).unwrap();
        fs::write(from.path().join("new/file"), "2").unwrap();
        for file in &wanted {
            copy_if_different(&from.path().join(file), &to.path().join(file)).unwrap();
        }
        remove_others(to.path(), Path::new(""), &wanted).unwrap();

        assert_eq!(
            fs::metadata(to.path().join("same")).unwrap().modified().unwrap(),
            before
        );
        assert_eq!(fs::read_to_string(to.path().join("new/file")).unwrap(), "2");
        assert!(!to.path().join("old/file").exists());
    }

    #[test]
    fn a_broken_file_is_restored() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lib.rs");
        fs::write(&file, "check()?;").unwrap();
        let tree = Tree {
            root: folder.path().to_path_buf(),
            target: folder.path().join("target"),
        };
        let broken = tree.break_file("lib.rs", "check()?;", "").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "");
        drop(broken);
        assert_eq!(fs::read_to_string(&file).unwrap(), "check()?;");
    }
}
