//! Writes the differences of an accepted interface into CHANGELOG.md, where both sides' operators look for them.

use anyhow::{Context as _, Result};

const UNRELEASED: &str = "## [Unreleased]";
const SECTION: &str = "### Interfaces";

/// The changelog with the lines in the section on interfaces under *Unreleased*; lines that are there already stay once.
pub(crate) fn with_interface_lines(changelog: &str, lines: &[String]) -> Result<String> {
    let (before, rest) = changelog.split_once(UNRELEASED).with_context(|| {
        format!("CHANGELOG.md has no line `{UNRELEASED}`: add it above the newest version")
    })?;
    let end = rest.find("\n## ").unwrap_or(rest.len());
    let (unreleased, older) = rest
        .split_at_checked(end)
        .context("the changelog cannot be cut")?;

    let new: String = lines
        .iter()
        .map(|line| format!("- {line}\n"))
        .filter(|line| !unreleased.contains(line.as_str()))
        .collect();
    if new.is_empty() {
        return Ok(changelog.to_owned());
    }
    let unreleased = match unreleased.split_once(SECTION) {
        Some((above, below)) => {
            let next = below.find("\n### ").unwrap_or(below.len());
            let (own, below) = below
                .split_at_checked(next)
                .context("the changelog cannot be cut")?;
            format!("{above}{SECTION}\n\n{}\n{new}{below}", own.trim())
        }
        None => format!(
            "\n\n{SECTION}\n\n{new}{}",
            unreleased.trim_end_matches('\n').replacen('\n', "", 1)
        ),
    };
    let older = if older.is_empty() {
        String::new()
    } else {
        format!("\n{}", older.trim_start_matches('\n'))
    };
    Ok(format!("{before}{UNRELEASED}{}\n{older}", unreleased.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_join_the_section_once() {
        let changelog = "# Changelog\n\n## [Unreleased]\n\n### Interfaces\n\n- old\n\n### Added\n\n- x\n\n## [0.1.0]\n\n- y\n";
        let once = with_interface_lines(changelog, &["new".to_owned(), "old".to_owned()]).unwrap();
        assert_eq!(
            once,
            "# Changelog\n\n## [Unreleased]\n\n### Interfaces\n\n- old\n- new\n\n### Added\n\n- x\n\n## [0.1.0]\n\n- y\n"
        );
        assert_eq!(with_interface_lines(&once, &["new".to_owned()]).unwrap(), once);
    }

    #[test]
    fn the_section_is_made_when_it_is_missing() {
        let made = with_interface_lines(
            "# C\n\n## [Unreleased]\n\n### Added\n\n- x\n",
            &["new".to_owned()],
        )
        .unwrap();
        assert_eq!(
            made,
            "# C\n\n## [Unreleased]\n\n### Interfaces\n\n- new\n\n### Added\n\n- x\n"
        );
        let made = with_interface_lines("# C\n\n## [Unreleased]\n", &["new".to_owned()]).unwrap();
        assert_eq!(made, "# C\n\n## [Unreleased]\n\n### Interfaces\n\n- new\n");
    }

    #[test]
    fn a_changelog_without_the_heading_is_not_guessed_at() {
        assert!(with_interface_lines("# C\n", &["new".to_owned()]).is_err());
    }
}
