//! Writes docs/conformance.md, in Japanese and English, from the table.

use crate::conformance::{Row, Table};

const HEAD: &str = "\
<!-- Generated from conformance.toml by `cargo xtask conformance --write`: change that file, not this one. -->

# 技術的基準への適合 / Conformance with the technical standard

「請求等に必要な情報の提供の方法に関する技術的基準」（法務省民事局、2024年3月1日）の各項について、
本ソフトウェアの手段と、それを示す試験を掲げる。要旨は私たちの言葉による。

For each clause of the technical standard (Ministry of Justice, Civil Affairs Bureau, 2024-03-01): the means in this
software, and the tests that show it. The sense is given in our own words. A test is named `binary::path::of::test`, and
`cargo xtask test` fails when one that is named here does not exist or did not pass.

";

/// The whole page.
pub(crate) fn render(table: &Table) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("| 項 / Clause | 見出し / Heading | 試験 / Tests | 予定 / Planned |\n|---|---|---|---|\n");
    for row in &table.rows {
        let planned = if row.planned.is_some() {
            "予定 / planned"
        } else {
            ""
        };
        page.push_str(&format!(
            "| [{}](#{}) | {} | {} | {planned} |\n",
            row.id,
            anchor(&row.id),
            row.heading,
            row.tests.len()
        ));
    }
    for row in &table.rows {
        render_row(row, &mut page);
    }
    page
}

fn render_row(row: &Row, page: &mut String) {
    let Row {
        id,
        heading,
        sense,
        means,
        tests,
        planned,
    } = row;
    page.push_str(&format!(
        "\n<a id=\"{}\"></a>\n\n## {id} {heading}\n\n",
        anchor(id)
    ));
    page.push_str(&format!("**要旨** {}\n\n**Sense** {}\n\n", sense.ja, sense.en));
    page.push_str("**手段 / Means**\n\n");
    // The page stands in docs/.
    list(page, means.iter().map(|path| format!("[`{path}`](../{path})")));
    page.push_str("\n**試験 / Tests**\n\n");
    list(page, tests.iter().map(|test| format!("`{test}`")));
    if let Some(planned) = planned {
        page.push_str(&format!("\n**予定 / Planned** {planned}\n"));
    }
}

fn list(page: &mut String, items: impl Iterator<Item = String>) {
    let before = page.len();
    for item in items {
        page.push_str(&format!("- {item}\n"));
    }
    if page.len() == before {
        page.push_str("- なし / none yet\n");
    }
}

fn anchor(id: &str) -> String {
    format!("clause-{}", id.replace('.', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_both_languages_means_tests_and_plan() {
        let table: Table = toml::from_str(
            r#"
                clauses = ["4.3.1"]
                [[clause]]
                id = "4.3.1"
                heading = "同意"
                sense.en = "Consent."
                sense.ja = "同意のこと。"
                means = ["proto/portal/v1/portal.proto"]
                tests = ["four_conditions::no_consent"]
                planned = "withdrawal"
            "#,
        )
        .unwrap();
        let page = render(&table);
        assert!(page.contains("| [4.3.1](#clause-4-3-1) | 同意 | 1 | 予定 / planned |\n"));
        assert!(page.ends_with(
            "## 4.3.1 同意\n\n**要旨** 同意のこと。\n\n**Sense** Consent.\n\n**手段 / Means**\n\n\
             - [`proto/portal/v1/portal.proto`](../proto/portal/v1/portal.proto)\n\n**試験 / Tests**\n\n\
             - `four_conditions::no_consent`\n\n**予定 / Planned** withdrawal\n"
        ));
    }
}
