//! Aligned columns.

/// A table with a line of headings.
pub(crate) fn with_headings(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&headings).chain(rows).collect();
    columns(&all, "")
}

/// Names and what belongs to them, indented; each line of a value is one.
pub(crate) fn of_pairs(pairs: &[(&str, String)]) -> String {
    let rows_of = |(name, value): &(&str, String)| {
        let names = std::iter::once(*name).chain(std::iter::repeat(""));
        let rows = names.zip(value.lines());
        rows.map(|(name, line)| vec![name.to_owned(), line.to_owned()])
            .collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = pairs.iter().flat_map(rows_of).collect();
    columns(&rows.iter().collect::<Vec<_>>(), "  ")
}

fn columns(rows: &[&Vec<String>], indent: &str) -> String {
    let count = rows.iter().map(|row| row.len()).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &&Vec<String>| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{indent}{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["131016".to_owned(), "9".to_owned()],
            vec!["1".to_owned(), "10".to_owned()],
        ];
        let pairs = [("a", "1".to_owned()), ("longer", "2\n3".to_owned())];
        assert_eq!(of_pairs(&pairs), "  a       1\n  longer  2\n          3\n");
        assert_eq!(
            with_headings(&["code", "n"], &rows),
            "code    n\n131016  9\n1       10\n"
        );
    }
}
