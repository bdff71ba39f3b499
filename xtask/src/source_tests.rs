//! The names of tests as the sources have them, for checking a name without running anything.
//!
//! A name is `binary::…::function`, as `test_results` has it; of the path only the binary and the function are compared.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::shell;

/// The tests that the sources declare.
#[derive(Debug, Default)]
pub(crate) struct Declared(BTreeSet<(String, String)>);

impl Declared {
    pub(crate) fn scan(root: &Path) -> Result<Self> {
        let mut command = Command::new("git");
        command
            .args([
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                "--",
                "*.rs",
            ])
            .current_dir(root);
        let mut declared = Self::default();
        for file in shell::output(&mut command)?.lines() {
            let path = root.join(file);
            // A file that is deleted, but not yet in git.
            if !path.exists() {
                continue;
            }
            let Some(binary) = binary_of(file) else { continue };
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
            declared.add(&binary, &text);
        }
        Ok(declared)
    }

    pub(crate) fn has(&self, test: &str) -> bool {
        let (Some((binary, _)), Some((_, function))) = (test.split_once("::"), test.rsplit_once("::")) else {
            return false;
        };
        self.0.contains(&(binary.to_owned(), function.to_owned()))
    }

    fn add(&mut self, binary: &str, text: &str) {
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                marked = true;
            }
            if marked && let Some(function) = function_of(line) {
                self.0.insert((binary.to_owned(), function.to_owned()));
                marked = false;
            }
        }
    }
}

/// `crates/koseki-provider/src/…` is in `koseki_provider`; `…/tests/x.rs` and `…/tests/x/…` are in `x`, and so is the
/// file of a test target that stands in a folder of its own, `tests/x/…`.
fn binary_of(file: &str) -> Option<String> {
    let parts: Vec<&str> = file.split('/').collect();
    let stem = |name: &str| name.strip_suffix(".rs").unwrap_or(name).to_owned();
    match parts.as_slice() {
        ["crates", package, "src", ..] => Some(package.replace('-', "_")),
        ["crates", _, "tests", target, ..] | ["tests", "tests", target, ..] => Some(stem(target)),
        ["tests", "src", ..] => Some("integration_tests".to_owned()),
        ["tests", target, ..] => Some(stem(target)),
        ["proto", "src", ..] => Some("koseki_proto".to_owned()),
        ["xtask", "src", ..] => Some("xtask".to_owned()),
        _ => None,
    }
}

fn function_of(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    line.strip_prefix("fn ")?.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_with_the_attribute_are_tests() {
        let mut declared = Declared::default();
        declared.add(
            "common",
            "fn helper() {}\n    #[test]\n    fn one() {}\n#[tokio::test(flavor = \"multi_thread\")]\n\
             #[ignore = \"x\"]\nasync fn two() {}\nfn other() {}\n",
        );
        assert!(declared.has("common::identity::tests::one"));
        assert!(declared.has("common::two"));
        for absent in ["common::helper", "common::other", "devkit::one", "one"] {
            assert!(!declared.has(absent), "{absent}");
        }
    }

    #[test]
    fn a_file_belongs_to_a_binary() {
        for (file, binary) in [
            ("crates/koseki-provider/src/store/mod.rs", Some("koseki_provider")),
            ("crates/common/tests/tls.rs", Some("tls")),
            ("tests/tests/four_conditions.rs", Some("four_conditions")),
            ("tests/tests/kills/main.rs", Some("kills")),
            ("tests/compose/story.rs", Some("compose")),
            ("tests/src/lib.rs", Some("integration_tests")),
            ("xtask/src/main.rs", Some("xtask")),
            ("examples/x.rs", None),
        ] {
            assert_eq!(binary_of(file).as_deref(), binary, "{file}");
        }
    }

    #[test]
    fn this_very_test_is_found() {
        let declared = Declared::scan(&shell::root()).unwrap();
        assert!(declared.has("xtask::source_tests::tests::this_very_test_is_found"));
    }
}
