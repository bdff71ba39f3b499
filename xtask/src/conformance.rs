//! The standard, clause by clause, against the product: docs/conformance.toml says by which means a clause is met and
//! which tests show it, and cannot say what is not so.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{
    conformance_page, shell,
    source_tests::Declared,
    test_results::{Ending, Results},
};

const TABLE: &str = "docs/conformance.toml";
const PAGE: &str = "docs/conformance.md";

/// docs/conformance.toml.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// The ids of all clauses of the standard, in its order.
    clauses: Vec<String>,
    #[serde(rename = "clause")]
    pub(crate) rows: Vec<Row>,
}

/// What the product does for one clause.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) heading: String,
    pub(crate) sense: Sense,
    /// Files and folders of this repository.
    #[serde(default)]
    pub(crate) means: Vec<String>,
    /// Names of tests, as `cargo xtask test` knows them.
    #[serde(default)]
    pub(crate) tests: Vec<String>,
    /// What is still to come.
    pub(crate) planned: Option<String>,
}

/// The sense of a clause, in our own words.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sense {
    pub(crate) en: String,
    pub(crate) ja: String,
}

/// How the names of tests are checked.
pub(crate) enum Evidence<'a> {
    /// Against a run of all tests: each named test must have passed, but for those of targets that cannot run here.
    Run {
        results: &'a Results,
        not_run_here: &'a [&'a str],
    },
    /// Against the sources: each named test must be declared.
    Sources,
}

/// `cargo xtask conformance [--write]`.
pub(crate) fn run(write: bool) -> Result<()> {
    if write {
        let root = shell::root();
        let page = conformance_page::render(&read(&root)?);
        fs::write(root.join(PAGE), page).with_context(|| format!("cannot write {PAGE}"))?;
        println!("wrote {PAGE}");
    }
    check(&Evidence::Sources)
}

/// Checks the table and the page; every fault is printed.
pub(crate) fn check(evidence: &Evidence<'_>) -> Result<()> {
    let root = shell::root();
    let table = read(&root)?;
    let mut faults = table.faults(&root);
    faults.extend(table.faults_of_tests(evidence, &Declared::scan(&root)?));
    if fs::read_to_string(root.join(PAGE)).unwrap_or_default() != conformance_page::render(&table) {
        faults.push(format!(
            "{PAGE} is not what {TABLE} says: run `cargo xtask conformance --write`"
        ));
    }
    for fault in &faults {
        println!("{fault}");
    }
    if !faults.is_empty() {
        bail!("{} faults in the conformance table (listed above)", faults.len());
    }
    let tested = table.rows.iter().filter(|row| !row.tests.is_empty()).count();
    println!(
        "{} clauses, {tested} with tests, the others planned",
        table.rows.len()
    );
    Ok(())
}

fn read(root: &Path) -> Result<Table> {
    let text = fs::read_to_string(root.join(TABLE)).with_context(|| format!("cannot read {TABLE}"))?;
    toml::from_str(&text).with_context(|| format!("{TABLE} cannot be read"))
}

impl Table {
    fn faults(&self, root: &Path) -> Vec<String> {
        let mut faults = Vec::new();
        let listed: BTreeSet<&str> = self.clauses.iter().map(String::as_str).collect();
        if listed.len() != self.clauses.len() {
            faults.push("the list of clauses names one twice".to_owned());
        }
        let rows: Vec<&str> = self.rows.iter().map(|row| row.id.as_str()).collect();
        if rows != self.clauses {
            faults.push(format!(
                "the rows are {rows:?}, the list of clauses is {:?}",
                self.clauses
            ));
        }
        for row in &self.rows {
            let id = &row.id;
            if row.tests.is_empty() && row.planned.as_ref().is_none_or(|text| text.trim().is_empty()) {
                faults.push(format!("{id}: neither tests nor `planned`"));
            }
            for (field, text) in [
                ("heading", &row.heading),
                ("en", &row.sense.en),
                ("ja", &row.sense.ja),
            ] {
                if text.trim().is_empty() {
                    faults.push(format!("{id}: `{field}` is empty"));
                }
            }
            for path in row.means.iter().filter(|path| !root.join(path).exists()) {
                faults.push(format!("{id}: there is no {path}"));
            }
        }
        faults
    }

    fn faults_of_tests(&self, evidence: &Evidence<'_>, declared: &Declared) -> Vec<String> {
        let mut faults = Vec::new();
        for (id, test) in self
            .rows
            .iter()
            .flat_map(|row| row.tests.iter().map(move |test| (&row.id, test)))
        {
            let fault = match evidence {
                Evidence::Sources => (!declared.has(test)).then_some("is not in the sources"),
                Evidence::Run {
                    results,
                    not_run_here,
                } => match results.ending(test) {
                    Some(Ending::Passed) => None,
                    Some(Ending::Failed) => Some("failed"),
                    Some(Ending::Ignored) => Some("did not run: it is ignored"),
                    None if !declared.has(test) => Some("does not exist"),
                    None if not_run_here
                        .iter()
                        .any(|target| test.split("::").next() == Some(target)) =>
                    {
                        None
                    }
                    None => Some("did not run"),
                },
            };
            if let Some(fault) = fault {
                faults.push(format!("{id}: the test {test} {fault}"));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    fn good() -> String {
        r#"
            clauses = ["1", "2.1"]
            [[clause]]
            id = "1"
            heading = "目的"
            sense.en = "Why."
            sense.ja = "なぜか。"
            means = ["proto"]
            planned = "later"
            [[clause]]
            id = "2.1"
            heading = "システム"
            sense.en = "What."
            sense.ja = "何か。"
            tests = ["xtask::conformance::tests::each_fault_of_a_row_is_found"]
        "#
        .to_owned()
    }

    fn faults(text: &str) -> Vec<String> {
        table(text).faults(&shell::root())
    }

    #[test]
    fn the_committed_table_has_all_clauses_of_the_standard() {
        let clauses = read(&shell::root()).unwrap().clauses;
        let standard = "1 2.1 2.2 2.3 2.4 2.5 2.6 3.1 3.2 3.3 3.4 3.5 3.6 3.7 4.1 4.2 4.3.1 4.3.2 4.3.3 4.3.4 4.4.1 \
                        4.4.2 4.4.3 4.4.4 4.4.5 4.4.6 4.4.7 5";
        assert_eq!(clauses, standard.split_whitespace().collect::<Vec<_>>());
        assert_eq!(clauses.len(), 28);
    }

    #[test]
    fn each_fault_of_a_row_is_found() {
        let good = good();
        assert_eq!(faults(&good), [""; 0]);
        for (find, replace, said) in [
            (r#"planned = "later""#, "", "1: neither tests nor `planned`"),
            (
                r#"planned = "later""#,
                r#"planned = " ""#,
                "1: neither tests nor `planned`",
            ),
            (
                r#"["proto"]"#,
                r#"["proto/nothing"]"#,
                "1: there is no proto/nothing",
            ),
            (r#"sense.ja = "何か。""#, r#"sense.ja = """#, "2.1: `ja` is empty"),
            (
                r#"clauses = ["1", "2.1"]"#,
                r#"clauses = ["1", "2.1", "2.2"]"#,
                r#"the rows are ["1", "2.1"], the list of clauses is ["1", "2.1", "2.2"]"#,
            ),
        ] {
            assert_eq!(faults(&good.replacen(find, replace, 1)), [said]);
        }
        let twice = good.replacen(r#"["1", "2.1"]"#, r#"["1", "1", "2.1"]"#, 1);
        assert!(faults(&twice).contains(&"the list of clauses names one twice".to_owned()));
    }

    #[test]
    fn a_named_test_must_exist_and_have_passed() {
        let table = table(&good());
        let declared = Declared::scan(&shell::root()).unwrap();
        assert_eq!(table.faults_of_tests(&Evidence::Sources, &declared), [""; 0]);
        assert_eq!(
            table.faults_of_tests(&Evidence::Sources, &Declared::default()),
            ["2.1: the test xtask::conformance::tests::each_fault_of_a_row_is_found is not in the sources"]
        );

        let results = Results::default();
        let run = |not_run_here| Evidence::Run {
            results: &results,
            not_run_here,
        };
        assert_eq!(
            table.faults_of_tests(&run(&["compose"]), &declared),
            ["2.1: the test xtask::conformance::tests::each_fault_of_a_row_is_found did not run"]
        );
        assert_eq!(table.faults_of_tests(&run(&["xtask"]), &declared), [""; 0]);
        assert_eq!(
            table.faults_of_tests(&run(&["xtask"]), &Declared::default()),
            ["2.1: the test xtask::conformance::tests::each_fault_of_a_row_is_found does not exist"]
        );
    }
}
